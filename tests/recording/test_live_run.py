"""make live: every notebook live and from the recordings, a table, a JSON that goes on."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from recording import live
from recording.live import LiveRun, execute, main
from trtlearn.course.notebook import NOTEBOOKS
from trtlearn.files import data_dir

CELLS = {"setup": "measured here on NVIDIA Fake, 2026-11-28", "run-same": "5 layers\n98.0 %"}


@pytest.fixture
def ready(fake: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(live, "make_builds", lambda networks, again: None)


def played(asked: list[str]) -> Any:
    def run(path: Path, mode: str) -> tuple[dict[str, str], list[str]]:
        asked.append(f"{path.name[:2]} {mode}")
        if path.name.startswith("03") and asked.count("03 live") < 2 and mode == "live":
            raise KeyboardInterrupt
        if mode == "recorded":
            return {**CELLS, "setup": "recorded on NVIDIA H200, 2026-11-23"}, []
        if path.name.startswith("02"):
            return {**CELLS, "run-same": "4 layers\n98.0 %\n✘ does not hold: …"}, [
                "look: KeyError: 1"
            ]
        return CELLS, []

    return run


def test_a_table_and_a_json_that_goes_on_where_it_was_interrupted(
    ready: None, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    asked: list[str] = []
    out = tmp_path / "live.json"
    words = ["--only", "02,03", "--out", str(out)]
    with pytest.raises(KeyboardInterrupt):
        main(words, played(asked))
    assert [one.number for one in LiveRun.from_json(out.read_text(encoding="utf-8")).notebooks] == [
        "02"
    ]
    assert main(words, played(asked)) == 1
    assert [one for one in asked if one.startswith("02")] == ["02 recorded", "02 live"]
    assert [one for one in asked if one.startswith("03")] == 2 * ["03 recorded", "03 live"]
    said = capsys.readouterr().out
    assert "02: ran already, kept" in said
    assert "look: KeyError: 1" in said
    assert "✘ does not hold: …" in said
    run = LiveRun.from_json(out.read_text(encoding="utf-8"))
    second, third = run.notebooks
    assert [(one.cell, one.recorded, one.live) for one in second.differences] == [
        ("run-same", "5 layers", "4 layers")  # the label's machine and date do not count
    ]
    assert (third.failures, third.different_cells) == ((), 0)
    assert run.provenance.gpu == "NVIDIA Fake"
    assert json.loads(out.read_text(encoding="utf-8"))["notebooks"][0]["cells"] == 2
    assert main([*words, "--again"], played([*asked, "03 live"])) == 1


@pytest.mark.parametrize("day", ["2026-11-29", "2026-11-29-evening"])
def test_all_notebooks_ran_live_and_the_second_time_in_a_tenth_of_the_first(day: str) -> None:
    folder = data_dir() / "recordings" / "h200-8.6.0" / "live"
    runs = [
        LiveRun.from_json((folder / f"{day}{again}.json").read_text(encoding="utf-8"))
        for again in ("", "-again")
    ]
    for run in runs:
        assert [one.number for one in run.notebooks] == list(NOTEBOOKS)
        assert not run.failed_builds
        for one in run.notebooks:
            assert (one.failures, one.claims) == ((), ()), one.number
    seconds = [run.build_seconds + sum(one.seconds for one in run.notebooks) for run in runs]
    assert round(runs[0].build_seconds / 60) == 14  # docs/use.md
    assert seconds[1] < seconds[0] / 10


def test_the_builder_that_left_the_first_layer_in_fp32_escaped_the_images_range() -> None:
    """What 03 says of a live run: mobile's entropy 2 engine kept 97.9 %."""
    path = data_dir() / "recordings" / "h200-8.6.0" / "live" / "2026-11-29.json"
    run = LiveRun.from_json(path.read_text(encoding="utf-8"))
    lines = [
        (one.recorded.split(), one.live.split())
        for book in run.notebooks
        for one in book.differences
        if (book.number, one.cell) == ("03", "look-collapse")
    ]
    assert lines == [(["mobile", "int8-entropy2", "21.4%"], ["mobile", "int8-entropy2", "97.9%"])]


def test_without_a_gpu(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("TRTLEARN_TENSORRT", "no_such_tensorrt")
    assert main([]) == 2
    assert "no_such_tensorrt is not installed" in capsys.readouterr().err


def test_a_notebook_runs_to_its_end_in_a_kernel_whatever_stops(tmp_path: Path) -> None:
    import nbformat

    book = nbformat.v4.new_notebook()
    sources = {
        "a": "import os\nprint(os.environ['TRTLEARN_MODE'], '±')",
        "b": "1 / 0",
        "c": "2 + 3",
        "d": "import sys\nprint(1, end=' ')\nsys.stdout.flush()\nprint(2)",
    }
    book.cells = [nbformat.v4.new_code_cell(text, id=name) for name, text in sources.items()]
    nbformat.write(book, tmp_path / "x.ipynb")
    texts, failures = execute(tmp_path / "x.ipynb", "recorded")
    assert texts == {"a": "recorded ±\n", "b": "", "c": "5", "d": "1 2\n"}
    assert failures == ["b: ZeroDivisionError: division by zero"]
