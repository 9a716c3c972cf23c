"""trtlearn live: what was built here, listed, made and removed."""

from __future__ import annotations

import dataclasses
import re
from functools import cache
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from recording.live import LiveRun
from tools import notebooks
from trtlearn.builds import Build
from trtlearn.cli import lab
from trtlearn.cli.lab import notebook_09, pending
from trtlearn.course.notebook import NOTEBOOKS
from trtlearn.course.own_model import engines, walk
from trtlearn.course.own_model.engines import OwnEngines
from trtlearn.errors import BuildError, EngineError
from trtlearn.files import data_dir, notebooks_dir
from trtlearn.networks import Network, network
from trtlearn.recorded.store import build_once, own_builds

walked = cache(notebook_09)  # over the fake, which is the same machine in every test


@pytest.fixture
def builder(fake: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The builds played: the recorded ones as if they were measured here; what was built."""
    asked: list[str] = []

    def make(self: Network, wanted: Any, progress: Any, stage: Any) -> tuple[Build, bytes]:
        asked.append(f"{self.name} {wanted.variant}")
        stage("building")
        if wanted.variant == "int8-legacy":
            error = BuildError("the build failed at layer 'stem'", "another level")
            error.log = "[E] 2: Assertion engine failed"
            raise error
        recorded = network(self.name, mode="recorded").build(wanted.variant)
        return dataclasses.replace(recorded, provenance=wanted.origin), b"ftrt"

    def build(self: OwnEngines, way: str, stage: Any, again: bool) -> tuple[Build, Any]:
        def made() -> tuple[Build, bytes, Any]:
            asked.append(f"09 {way}")
            recorded = network("mobile", mode="recorded").build("fp32")
            one = dataclasses.replace(recorded, variant=way, provenance=self.wanted[way].origin)
            return one, b"ftrt", {"logits": np.zeros(3)}

        own = build_once(self.wanted[way], made, again=again, need_outputs=True)
        return own.build, {}

    monkeypatch.setattr(Network, "_make", make)
    monkeypatch.setattr(OwnEngines, "build", build)
    monkeypatch.setattr("trtlearn.cli.lab.notebook_09", walked)
    return asked


def test_all_is_built_once_listed_rebuilt_and_cleared(run: Any, builder: list[str]) -> None:
    status, out, err = run("live", "rebuild", "mobile")
    assert status == 2  # one engine failed, all others are there
    assert out.startswith("10 engines to build: about ")
    assert "mobile int8-legacy: the build failed at layer 'stem'" in err
    assert "1 of 10 engines failed" in err
    assert len(builder) == 10
    status, out, err = run("live", "--all")
    assert out.startswith("23 engines to build")  # resnet's and notebook 09's: mobile's are here
    assert "23/23 09 int8-qdq, about 0 s … 0 s" in out
    assert len(builder) == 33
    status, out, err = run("live", "--all")
    assert (status, err) == (0, "")
    assert (
        out == "all engines that the notebooks use are built or failed: trtlearn live lists them\n"
    )
    status, out, err = run("live")
    assert status == 0
    assert "33 builds measured here" in out
    assert re.search(r"^mobile +int8-minmax ", out, re.MULTILINE)
    assert re.search(r"^mobile.onnx +int8-qdq ", out, re.MULTILINE)  # of the reader's own file
    assert "NVIDIA Fake, TensorRT 8.6" in out
    assert run("live", "--json")[0] == 0
    assert network("mobile", mode="live").build("fp32").label.startswith("measured here on")
    with pytest.raises(BuildError, match=r"tried here on .*log: /.*mobile--int8-legacy.*\.log\)"):
        network("mobile", mode="live").build("int8-legacy")
    assert len(builder) == 33  # nothing was built again
    work = pending(again=True)  # what rebuild builds
    assert sorted(one.name for one in work) == sorted(builder)
    work[-1].build(stage=print, again=True)
    assert builder[33:] == ["09 int8-qdq"]
    status, out, err = run("live", "clear")
    assert "removed 33 builds" in out
    assert own_builds().builds == ()
    assert "To build all: trtlearn live --all" in run("live")[1]


def test_an_engine_that_does_not_start_holds_up_no_other(
    run: Any, builder: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    make = Network._make

    def without_memory(self: Network, wanted: Any, *how: Any) -> Any:
        if wanted.variant == "tf32":
            raise EngineError("the engine does not start: no GPU memory for it")
        return make(self, wanted, *how)

    monkeypatch.setattr(Network, "_make", without_memory)
    status, out, err = run("live", "rebuild", "mobile")
    assert (status, len(builder)) == (2, 9)
    assert "mobile tf32: the engine does not start" in err
    assert "2 of 10 engines failed" in err
    assert "mobile int8-minmax, about 31 s … 0 s, 16 layers in INT8" in out


def test_rebuild_knows_the_networks_of_the_course_only(run: Any, builder: list[str]) -> None:
    status, _, err = run("live", "rebuild", "mobile", "my.onnx")
    assert (status, builder) == (2, [])
    assert "no network 'my.onnx'. Try: one of resnet, mobile" in err


def test_all_builds_the_engines_that_notebook_09_builds(
    fake: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    saved: list[OwnEngines] = []

    def behind(own: OwnEngines, way: str) -> bool:
        saved.append(own)
        return True

    monkeypatch.setattr(engines, "stand_in", behind)
    book = notebooks.read(notebooks_dir() / NOTEBOOKS["09"][0])
    cells = {cell.id: cell.source for cell in book.cells}

    def ask(*given: Any, out: str, **named: Any) -> Any:
        return walk.try_int8(*given, **named, live=True)

    space = {"tl": SimpleNamespace(network=network, try_int8=ask)}
    exec(f"{cells['run-files']}\n{cells['run-walk']}", space)
    assert saved[0].key() == walked().key()
    assert list(saved[0].wanted) == ["fp32", "fp16", "int8-legacy", "int8-qdq"]


def test_the_time_that_is_expected_is_the_time_that_it_took_on_a_gpu(builder: list[str]) -> None:
    folder = data_dir() / "recordings" / "h200-8.6.0" / "live"
    files = (folder / f"2026-11-29{word}.json" for word in ("", "-again"))
    first, second = (LiveRun.from_json(file.read_text(encoding="utf-8")) for file in files)
    seconds = [
        one.seconds for run in (first, second) for one in run.notebooks if one.number == "09"
    ]
    took = first.build_seconds + seconds[0] - seconds[1]  # 09 built its own in its cell
    expected = [one.seconds for one in pending()]
    assert None not in expected
    assert sum(expected) == pytest.approx(took, rel=0.05)


@pytest.mark.parametrize(("answer", "built"), [("y", 33), ("", 0), (None, 0)])
def test_lab_offers_to_build_and_says_how_long(
    builder: list[str],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    answer: str | None,
    built: int,
) -> None:
    monkeypatch.setattr("sys.stdin", SimpleNamespace(isatty=lambda: answer is not None))
    monkeypatch.setattr("builtins.input", lambda question: print(question) or answer)
    lab.offer_builds()
    said = capsys.readouterr().out
    assert "33 engines that this GPU has not built yet: about " in said
    assert "about 16 minutes." in said
    assert ("before JupyterLab opens? [y/N]" in said) == (answer is not None)
    assert len(builder) == built
    lab.offer_builds()
    assert bool(capsys.readouterr().out) == (not built)


def test_lab_opens_after_ctrl_c(
    builder: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def stop(self: Network, *_: Any) -> Any:
        raise KeyboardInterrupt

    monkeypatch.setattr(Network, "_make", stop)
    monkeypatch.setattr("sys.stdin", SimpleNamespace(isatty=lambda: True))
    monkeypatch.setattr("builtins.input", lambda question: "y")
    lab.offer_builds()
    assert capsys.readouterr().out.endswith("\nstopped: what is built is kept\n")


def test_lab_offers_nothing_where_nothing_can_be_built(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("TRTLEARN_TENSORRT", "no_such_tensorrt")
    lab.offer_builds()
    assert capsys.readouterr().out == ""


def test_without_a_gpu(run: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRTLEARN_TENSORRT", "no_such_tensorrt")
    status, _, err = run("live", "--all")
    assert status == 2
    assert "no_such_tensorrt is not installed" in err
    assert err.count("\n") == 1
