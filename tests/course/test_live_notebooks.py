"""Every notebook live, over a made-up TensorRT: whatever the builder chose, no cell stops.

A notebook runs once as a reader meets it who has built nothing: recorded engines are shown. Then
its own engines arrive, of several kinds of made_up.KINDS in turn, and the cells that depend on them
run again, as they do in JupyterLab. All in this process: no kernel is started. Each notebook takes
two of the six kinds, in rotation; ``make live-kinds`` (LIVE_KINDS=all) runs each with all six.
"""

from __future__ import annotations

import os
import warnings
from pathlib import Path
from typing import Any

import pytest
from live_shell import LiveShell
from made_up import KINDS, MadeUp

from trtlearn import networks
from trtlearn.cli.lab import USED
from trtlearn.course import doctor
from trtlearn.course.notebook import NOTEBOOKS
from trtlearn.engine.records import VARIANTS

pytestmark = pytest.mark.xdist_group("live-notebooks")

FOLDER = Path(__file__).resolve().parents[2] / "notebooks"


def kinds_of(number: str) -> list[str]:
    """The kinds that a notebook is run with."""
    names = list(KINDS)
    if number == "10":  # of photo, detector and vit nothing is made up: each build fails
        return ["a failed build"]
    if os.environ.get("LIVE_KINDS") == "all":
        return names
    first = 2 * list(NOTEBOOKS).index(number) % len(names)
    return names[first : first + 2]


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One reader's folder for all notebooks: an engine is built once a kind."""
    return tmp_path_factory.mktemp("reader")


@pytest.mark.parametrize("number", NOTEBOOKS)
def test_runs_live_to_its_end_whatever_was_built(
    number: str,
    fake: dict[str, Any],
    home: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(networks, "stand_in", None)
    monkeypatch.setenv("TRTLEARN_HOME", str(home))
    monkeypatch.setenv("TRTLEARN_MODE", "live")
    monkeypatch.setattr(doctor, "_gpu_names", lambda: ("NVIDIA Fake",))  # try_int8 asks it
    monkeypatch.chdir(tmp_path)
    made_up = MadeUp(fake, monkeypatch)
    made_up.be(f"with nothing built for {number}")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # "hardly INT8": said once a build
        book = LiveShell(FOLDER / NOTEBOOKS[number][0])
        try:
            book.run()
            assert book.failures == []
            for job in book.builder.jobs:  # trtlearn live --all builds what notebooks use
                assert job.own or job.variant in USED.get(job.network, VARIANTS), job
            for kind in kinds_of(number):
                made_up.be(kind)
                if number == "09":  # try_int8 tells a reader's own engines by their GPU
                    book.run()
                    assert book.failures == [], kind
                    assert {job.own for job in book.builder.jobs} == {True}
                count = book.change_over()
                problems = book.lesson._problems.value
                assert "a cell stops" not in problems, f"{kind}: {problems}"
                assert count == len(book.again)
                assert bool(count) == (number not in ("01", "11")), "those build nothing"
                if number == "09":
                    walk = book.shell.user_ns["walk"]
                    assert (walk.building, len(walk.live)) == ((), 4)
                    told = [bool(one.problem) for one in walk.live]
                    assert told == [
                        kind == "a failed build" and "int8" in one.way for one in walk.live
                    ]
        finally:
            book.close()
