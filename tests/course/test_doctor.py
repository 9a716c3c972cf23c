"""``trtlearn doctor`` tells the truth about machines with and without a GPU, TensorRT and
recordings.
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from trtlearn.course import doctor
from trtlearn.engine.records import Provenance
from trtlearn.errors import LiveUnavailable
from trtlearn.files import sha256
from trtlearn.live import trt


def found(report: doctor.DoctorReport, what: str) -> doctor.Finding:
    return next(finding for finding in report.findings if finding.what == what)


def test_report_goes_to_json_and_back() -> None:
    report = doctor.examine()
    assert doctor.DoctorReport.from_json(report.to_json()) == report


def test_asking_for_recordings_is_obeyed_and_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRTLEARN_MODE", "recorded")
    report = doctor.examine()
    assert report.mode == "recorded"
    assert found(report, "mode").fix == "unset TRTLEARN_MODE"


def machine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, smi: str | None) -> None:
    """A machine whose nvidia-smi prints ``smi``, or that has none."""
    monkeypatch.delenv("TRTLEARN_MODE", raising=False)
    monkeypatch.setenv("PATH", str(tmp_path))
    if smi is not None:
        tool = tmp_path / "nvidia-smi"
        tool.write_text(f"#!/bin/sh\necho '{smi}'\n")
        tool.chmod(0o755)


def test_no_gpu_needs_no_fix(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    machine(monkeypatch, tmp_path, None)
    monkeypatch.setattr(doctor, "_PROC", tmp_path)
    report = doctor.examine()
    assert (report.mode, report.gpus) == ("recorded", ())
    assert "no NVIDIA GPU" in report.why
    assert found(report, "TensorRT").fix == ""


def test_gpu_without_tensorrt_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def live() -> None:
        raise LiveUnavailable(
            "the Python package tensorrt is not installed here", "pip install 'trtlearn[gpu]'"
        )

    machine(monkeypatch, tmp_path, "NVIDIA H200\nNVIDIA H200")
    monkeypatch.setattr(trt, "available", lambda: None)
    monkeypatch.setattr(trt, "live", live)
    report = doctor.examine()
    assert report.gpus == ("NVIDIA H200", "NVIDIA H200")
    assert report.mode == "recorded"
    assert "tensorrt is not installed" in report.why
    assert "trtlearn[gpu]" in found(report, "TensorRT").fix
    assert "trtlearn[gpu]" in found(report, "mode").fix


def test_gpu_with_tensorrt_is_live(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    able = trt.Capabilities("8.6.0", True, True, True, True, True, False, ("CUBLAS",))
    machine(monkeypatch, tmp_path, "NVIDIA H200")
    for name, value in {"available": "8.6.0", "live": None, "capabilities": able}.items():
        monkeypatch.setattr(trt, name, lambda value=value: value)
    report = doctor.examine()
    assert report.mode == "live"
    assert report.capabilities["implicit_int8"]
    assert not report.capabilities["progress_monitor"]
    assert "calibrators" in str(found(report, "TensorRT").found)


def test_recordings_are_listed_and_their_hashes_checked(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    model = tmp_path / "models" / "m.onnx"
    model.parent.mkdir()
    model.write_bytes(b"weights")
    good, broken = tmp_path / "recordings" / "h200-8.6.0", tmp_path / "recordings" / "x-1"
    made = Provenance(
        gpu="NVIDIA H200", tensorrt="8.6.0", time_utc="2026-11-23T16:20:00Z", sha256={}
    )
    for folder, text in (
        (
            good,
            Provenance.from_dict(
                {**made.to_dict(), "sha256": {"models/m.onnx": sha256(model)}}
            ).to_json(),
        ),
        (broken, "{"),
    ):
        (folder / "resnet").mkdir(parents=True)
        (folder / "PROVENANCE.json").write_text(text)
    (good / "resnet" / "fp32.json.gz").write_bytes(b"")
    monkeypatch.setattr(doctor, "data_dir", lambda: tmp_path)

    listed = {item.folder: item for item in doctor.examine().recordings}
    assert (
        listed["h200-8.6.0"].gpu,
        listed["h200-8.6.0"].experiments,
        listed["h200-8.6.0"].problem,
    ) == (
        "NVIDIA H200",
        1,
        "",
    )
    assert "not JSON" in listed["x-1"].problem

    model.write_bytes(b"other weights")
    changed = next(item for item in doctor.examine().recordings if item.folder == "h200-8.6.0")
    assert "models/m.onnx changed" in changed.problem
    model.unlink()
    gone = next(item for item in doctor.examine().recordings if item.folder == "h200-8.6.0")
    assert "no such file" in gone.problem


def test_course_s_own_recordings_belong_to_its_models() -> None:
    report = doctor.examine()
    assert report.recordings, "no recordings in data/recordings"
    assert [item.problem for item in report.recordings] == [""] * len(report.recordings)


def test_nested_extras_are_followed() -> None:
    requirements = [
        "numpy",
        "surely-missing>=2; extra == 'cli'",
        "trtlearn[cli]; extra == 'lab'",
        "gone; extra == 'lab'",
    ]
    assert doctor._extra("cli", requirements) == ("surely-missing",)
    assert doctor._extra("lab", requirements) == ("surely-missing", "gone")
    assert doctor._extra("gpu", requirements) == ()


def test_stable_keys() -> None:
    report = json.loads(doctor.examine().to_json())
    assert {
        "mode",
        "why",
        "gpus",
        "driver",
        "tensorrt",
        "capabilities",
        "extras",
        "recordings",
        "findings",
    } <= set(report)
