"""``trtlearn calibrate`` and ``trtlearn fit`` on a reader's own three files."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from trtlearn.calibration.cache import format_cache, read_cache
from trtlearn.calibration.network import calibrate
from trtlearn.cli import main
from trtlearn.course.own_model.walk import try_int8
from trtlearn.errors import DataError
from trtlearn.model.course_data import load_images, model_path

IMAGES = load_images("calibration")[0][:64]


@pytest.fixture
def files(tmp_path: Path) -> dict[str, Path]:
    np.save(tmp_path / "images.npy", IMAGES)
    return {
        "model": model_path("resnet"),
        "data": tmp_path / "images.npy",
        "cache": tmp_path / "new.cache",
    }


def run(*arguments: object) -> int:
    return main.run([str(part) for part in arguments])


def test_calibrate_then_fit(files, capsys):
    command = ("calibrate", files["model"], files["data"], "-o", files["cache"])
    assert run(*command, "--algorithm", "minmax", "--json") == 0
    facts = json.loads(capsys.readouterr().out)
    assert set(facts) == {"header", "algorithm", "tensorrt_version", "tensors"}
    ours = calibrate(files["model"], IMAGES, "minmax")
    assert files["cache"].read_text() == format_cache(ours)
    assert run("fit", files["cache"], files["model"], files["data"]) == 0
    assert "all fit" in capsys.readouterr().out
    np.save(files["data"].with_name("zeros.npy"), np.zeros_like(IMAGES[:8]))
    assert run("fit", files["cache"], files["model"], files["data"].with_name("zeros.npy")) == 1
    out = capsys.readouterr().out
    assert "only zeros" in out
    assert "set by hand" not in out
    assert run(*command, "--for-trtexec", "--calibrator", "min-max", "--batch", 16) == 0
    assert read_cache(files["cache"]).kind == "entropy2"
    out = capsys.readouterr().out
    assert out.startswith("calibration cache: EntropyCalibration2")
    assert out.endswith(f"wrote {files['cache']}\n")
    assert run(*command, "--calibrator", "legacy") == 0
    assert "note: trtexec does not take it" in capsys.readouterr().out
    assert run("cache", "edit", files["cache"], "-o", files["cache"], "--amax", "image=6.35") == 0
    assert read_cache(files["cache"])["image"] == pytest.approx(0.05)
    assert run(*command) == 0
    capsys.readouterr()
    assert run("fit", files["cache"], files["model"], files["data"], "--json") == 1
    report = json.loads(capsys.readouterr().out)
    keys = {"tensors", "batches", "batch", "stale", "internal", "missing", "mixed", "inputs"}
    assert set(report) == keys
    keys = {"name", "amax", "scale", "largest", "most", "clipped", "codes", "sqnr_db", "verdict"}
    assert all(keys <= set(tensor) for tensor in report["tensors"])
    assert report["tensors"][0]["verdict"] == "too small"
    assert run("fit", files["cache"], files["model"], files["data"]) == 1
    assert f"--amax {report['tensors'][0]['name']}=" in capsys.readouterr().out


def test_bad_input_is_one_line(files, capsys):
    files["cache"].write_text("TRT-8600-EntropyCalibration2\nimage: 3d2c1f3a\n")
    for arguments in (
        ("fit", "none", files["model"], files["data"]),
        ("fit", files["cache"], "none", files["data"]),
        ("fit", files["cache"], files["model"], "none"),
        ("fit", files["cache"], files["model"], files["data"], "--batch", 0),
        ("calibrate", files["model"], files["data"]),
        ("calibrate", files["model"], files["data"], "-o", "x", "--algorithm", "best"),
        ("calibrate", files["model"], "none", "-o", "x"),
        ("cache", "edit", files["model"], "-o", "x", "--header", "TRT-8600-EntropyCalibration2"),
        ("build", files["model"], "--amax", files["data"]),
    ):
        assert run(*arguments) == 2
        out, err = capsys.readouterr()
        assert out == ""
        assert err.count("\n") == 1


@pytest.mark.parametrize("empty", [("-o", ""), ("--output=",), ("-o=",), ("--labels", "")])
def test_an_empty_path_is_refused_and_nothing_is_written(
    files, empty, tmp_path, monkeypatch, capsys
):
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    assert run("walk", files["model"], files["data"], *empty, "--no-live") == 2
    assert capsys.readouterr().err.startswith(
        "trtlearn: an argument is empty. Try: give it a value"
    )
    with pytest.raises(DataError, match="empty path"):
        try_int8(files["model"], files["data"], out="", live=False)
    assert not list(Path().iterdir())
