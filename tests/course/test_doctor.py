"""``trtlearn doctor`` tells the truth about machines with and without a GPU, TensorRT and
recordings.
"""

from __future__ import annotations

import json
import sys
import types
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


def root(monkeypatch: pytest.MonkeyPatch, folder: Path, release: str = "") -> Path:
    """A made-up machine's root; a Jetson's where a release is given."""
    (folder / "etc").mkdir(parents=True)
    (folder / "proc/device-tree").mkdir(parents=True)
    if release:
        (folder / "etc/nv_tegra_release").write_text(release + "\n")
        (folder / "proc/device-tree/model").write_text("NVIDIA Jetson AGX Orin Developer Kit\0")
    monkeypatch.setenv("TRTLEARN_ROOT", str(folder))
    return folder


JETSONS = [
    ("# R35 (release), REVISION: 4.1, GCID: 1", "L4T 35.4.1 has TensorRT 8.5.2", "3.8"),
    ("# R36 (release), REVISION: 4.3, GCID: 1", "L4T 36.4.3 has TensorRT 10.3.0", ""),
    ("# R38 (release), REVISION: 2.0, GCID: 1", "L4T 38.2.0 has TensorRT 10.13.0", ""),
    ("# R39 (release), REVISION: 2.0, GCID: 1", "L4T 39.2.0 has TensorRT 10.16.2", ""),
    ("# R40 (release), REVISION: 1.0, GCID: 1", "could not be checked", ""),
]


@pytest.mark.parametrize(("release", "words", "fix"), JETSONS)
def test_a_jetson_is_known_without_nvidia_smi(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, release: str, words: str, fix: str
) -> None:
    machine(monkeypatch, tmp_path, None)
    root(monkeypatch, tmp_path / "root", release)
    monkeypatch.setattr(trt, "available", lambda: None)
    report = doctor.examine()
    assert report.gpus == ("NVIDIA Jetson AGX Orin Developer Kit",)
    assert words in str(found(report, "Jetson").found)
    assert fix in found(report, "Jetson").fix
    expected = "use the recordings" if fix else "python3-libnvinfer"
    assert expected in found(report, "TensorRT").fix


HERE = f"{sys.version_info[0]}.{sys.version_info[1]}"
OTHERS = [  # (folder of the system's TensorRT, a file in it, why it is not used)
    ("usr/lib/python3.8", "", "it is for Python 3.8"),
    ("usr/lib/python3.10", "", "make PYTHON=python3.10"),
    ("usr/lib/python3", "tensorrt.cpython-312-aarch64-linux-gnu.so", "make PYTHON=python3.12"),
    ("usr/lib/python3", "tensorrt.cpython-312-x86_64-linux-gnu.so", "make PYTHON=python3.12"),
    (f"usr/lib/python{HERE}", "", "hides the system's packages"),
    (f"usr/local/lib/python{HERE}", "", "hides the system's packages"),
]


@pytest.mark.skipif(HERE in ("3.10", "3.12"), reason="the rows name these as other Pythons")
@pytest.mark.parametrize(("place", "file", "why"), OTHERS)
def test_why_another_tensorrt_is_not_used(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, place: str, file: str, why: str
) -> None:
    folder = root(monkeypatch, tmp_path / "root") / place / "dist-packages/tensorrt"
    folder.mkdir(parents=True)
    (folder / (file or "__init__.py")).write_text("")
    row = found(doctor.examine(), "TensorRT, not used")
    assert (row.found, why in row.fix) == (str(folder), True)


def test_which_tensorrt_is_used_and_what_comes_after_it(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    folder = root(monkeypatch, tmp_path / "root") / f"usr/lib/python{HERE}/dist-packages/tensorrt"
    folder.mkdir(parents=True)
    used = tmp_path / "site-packages/tensorrt/__init__.py"
    module = types.SimpleNamespace(__file__=str(used), Builder=object)
    monkeypatch.setattr(trt, "module", lambda: module)
    monkeypatch.setattr(trt, "available", lambda: "10.3.0")
    monkeypatch.setattr(trt, "capabilities", lambda: (_ for _ in ()).throw(LiveUnavailable("x")))
    monkeypatch.syspath_prepend(str(folder.parent))
    report = doctor.examine()
    assert found(report, "TensorRT lies in").found == str(used.parent)
    assert "comes before it" in found(report, "TensorRT, not used").fix
    monkeypatch.setenv("TRTLEARN_TENSORRT", "other")
    assert "unset it" in found(doctor.examine(), "TensorRT, not used").fix
