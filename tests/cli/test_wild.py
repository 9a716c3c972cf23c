"""Files as they come in the wild, through the command line: read, or refused with words that help."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from trtlearn.calibration.edit import read_cache
from trtlearn.cli import main

DATA = Path(__file__).parent.parent / "data"
Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Run:
    """Run one command in this process: exit status, standard output, standard error."""

    def run(*arguments: object) -> tuple[int, str, str]:
        status = main.run([str(part) for part in arguments])
        out, err = capsys.readouterr()
        return status, out, err

    return run


def test_a_cache_with_infinite_scales_is_shown_and_edited(run: Run, tmp_path: Path) -> None:
    file, to = DATA / "mask-inf.cache", tmp_path / "whole.cache"
    status, out, _ = run("cache", "show", file)
    assert status == 0
    assert "2 lines of no use" in out
    status, out, _ = run("cache", "show", file, "--json")
    assert json.loads(out)["unusable"] == {
        "/enc/Where_output_0": "infinite",
        "/enc/Add_output_0": "infinite",
    }
    drop = ("--drop", "/enc/Where_output_0", "--drop", "/enc/Add_output_0")
    assert run("cache", "edit", file, "-o", to, *drop)[0] == 0
    assert len(read_cache(to).scales) == 4


def test_names_of_tensorrt_10_are_not_stale(run: Run) -> None:
    file, model = DATA / "trt10.cache", DATA / "trt10-model.onnx"
    status, out, _ = run("cache", "check", file, "--model", model)
    assert status == 0
    assert "0 stale" in out


def test_migrate_leaves_lines_with_infinite_scales_out(run: Run, tmp_path: Path) -> None:
    cache = tmp_path / "a.cache"
    cache.write_text((DATA / "trt10.cache").read_text().replace("3e6c71c3", "7fc00000"))
    command = "trtexec --int8 --calib=a.cache"
    output = tmp_path / "q.onnx"
    status, out, _ = run(
        "migrate", command, DATA / "trt10-model.onnx", "--cache", cache, "-o", output, "--json"
    )
    facts = json.loads(out)
    assert status == 0
    assert facts["stale"] == []
    assert "/m/conv/Conv_output_0" not in facts["kept"]
    assert any("/m/conv/Conv_output_0 (NaN)" in note for note in facts["notes"])
