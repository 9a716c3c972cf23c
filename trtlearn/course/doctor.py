"""What this machine can do: GPU, driver, TensorRT, and how to get what is missing."""

from __future__ import annotations

import os
import platform
import re
import subprocess
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

from .. import __version__
from ..errors import LiveUnavailable, TrtlearnError
from ..files import data_dir, sha256
from ..live import cuda, trt
from ..record import Record, plural, show
from ..recorded.files import load_provenance
from ..trtexec.sources import read_spelling

__all__ = ["DoctorReport", "Extra", "Finding", "RecordingFolder", "examine", "installed"]

_PROC = Path("/proc/driver/nvidia")
EXTRAS = ("cli", "lab", "gpu", "test")


@dataclass(frozen=True)
class Finding(Record):
    """One thing that was looked for: what is there (None: nothing), and what to do about it."""

    what: str
    found: str | None
    fix: str = ""


@dataclass(frozen=True)
class Extra(Record):
    """An optional part of trtlearn, and which of its packages are not installed (None: unknown)."""

    name: str
    missing: tuple[str, ...] | None


@dataclass(frozen=True)
class RecordingFolder(Record):
    """A folder of recordings; ``problem`` says whether what it was made from has changed."""

    folder: str
    gpu: str | None
    tensorrt: str | None
    time_utc: str | None
    experiments: int
    problem: str = ""


@dataclass(frozen=True)
class DoctorReport(Record):
    """What ``trtlearn doctor`` prints."""

    mode: str  # live or recorded
    why: str
    trtlearn: str
    python: str
    system: str
    gpus: tuple[str, ...]
    driver: str | None
    cuda: str | None  # the newest CUDA that the driver runs
    tensorrt: str | None
    capabilities: dict[str, bool]
    cuda_python: str | None
    extras: tuple[Extra, ...]
    recordings: tuple[RecordingFolder, ...]
    findings: tuple[Finding, ...]

    def summary(self) -> str:
        return f"trtlearn {self.trtlearn}, Python {self.python}, {self.system}"

    def rows(self) -> list[dict[str, Any]]:
        return [
            {"what": row.what, "found": row.found or "none", "what to do": row.fix}
            for row in self.findings
        ]


def installed(package: str) -> str | None:
    """The version of a package; None where it is not installed."""
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def examine() -> DoctorReport:
    """Look at this machine; needs numpy only, and never raises for what is missing.

    >>> examine().mode in ("live", "recorded")
    True
    """
    gpus = _gpu_names()
    mode, why, fix = _mode(gpus)
    driver, newest_cuda, tensorrt = cuda.driver_version(), cuda.cuda_version(), trt.available()
    capabilities = _capabilities()
    cuda_python = installed("cuda-python") or installed("cuda-bindings")
    extras, recordings = _extras(), _recordings()

    jetson = _jetson()
    install = "pip install 'trtlearn[gpu]'" if gpus else ""
    if jetson:
        install = jetson.fix or "sudo apt install python3-libnvinfer, then make lab"
    no_gpu = "none is needed: the course shows what was recorded"
    able = [name.replace("_", " ") for name, is_there in capabilities.items() if is_there]
    library = tensorrt and f"{tensorrt}: {', '.join(able) or 'strongly typed only'}"
    findings = [
        Finding("mode", f"{mode}, {why}", fix),
        Finding("GPU", ", ".join(gpus) or None, "" if gpus else no_gpu),
        Finding("driver", driver, "install NVIDIA's driver" if gpus and not driver else ""),
        Finding("CUDA", newest_cuda and f"up to {newest_cuda}"),
        Finding("TensorRT", library, "" if tensorrt else install),
        *_places(),
        Finding("cuda-python", cuda_python, "" if cuda_python else install),
    ]
    findings[1:1] = [jetson] if jetson else []
    findings += [_extra_finding(extra, gpus) for extra in extras]
    findings += [_recording_finding(folder) for folder in recordings]
    if not any(folder.experiments and not folder.problem for folder in recordings):
        again = "install trtlearn again; on a GPU machine: make record"
        findings.append(Finding("usable recordings", None, again))
    return DoctorReport(
        mode=mode,
        why=why,
        trtlearn=__version__,
        python=platform.python_version(),
        system=platform.platform(),
        gpus=gpus,
        driver=driver,
        cuda=newest_cuda,
        tensorrt=tensorrt,
        capabilities=capabilities,
        cuda_python=cuda_python,
        extras=extras,
        recordings=recordings,
        findings=tuple(findings),
    )


# --- The GPU and TensorRT


def _gpu_names() -> tuple[str, ...]:
    """The names of the NVIDIA GPUs, from nvidia-smi, else from the kernel's files."""
    command = ["nvidia-smi", "--query-gpu=name", "--format=csv,noheader"]
    try:
        ran = subprocess.run(command, capture_output=True, encoding="utf-8", timeout=20, check=True)
        names = ran.stdout.splitlines()
    except (OSError, subprocess.SubprocessError):
        names = []
        for file in sorted(_PROC.glob("gpus/*/information")):
            text = file.read_text(encoding="utf-8", errors="replace")
            names += re.findall(r"^Model:\s*(.*)", text, re.MULTILINE)
    model = _root() / "proc/device-tree/model"
    if not names and _jetson() and model.is_file():
        names = [model.read_text(encoding="utf-8", errors="replace").strip("\0")]
    return tuple(name.strip() for name in names if name.strip())


def _root() -> Path:
    """The root of the machine's files; TRTLEARN_ROOT names a made-up one, for tests."""
    return Path(os.environ.get("TRTLEARN_ROOT") or "/")


def _jetson() -> Finding | None:
    """Which Jetson Linux is here, by the file that every one has; no nvidia-smi is needed."""
    file = _root() / "etc/nv_tegra_release"
    if not file.is_file():
        return None
    line = file.read_text(encoding="utf-8", errors="replace").partition("\n")[0]
    spelling = read_spelling(line.partition(", GCID")[0])
    old = re.match(r"# R3[245] ", line)
    fix = "its TensorRT is for Python 3.6 or 3.8, trtlearn needs 3.10: use the recordings"
    return Finding("Jetson", (spelling and spelling.note) or line, fix if old else "")


def _places() -> list[Finding]:
    """Where the TensorRT that is used lies, and why each other one that is here is not."""
    try:
        used = Path(str(trt.module().__file__)).parent
    except (LiveUnavailable, AttributeError):
        used = None
    findings = [Finding("TensorRT lies in", str(used))] if used else []
    patterns = ("usr/lib/python3*", "usr/local/lib/python3*")
    folders = {path for part in patterns for path in _root().glob(f"{part}/dist-packages/tensorrt")}
    for folder in sorted(folders):
        if used is None or folder.resolve() != used.resolve():
            findings.append(Finding("TensorRT, not used", str(folder), _why_not(folder, used)))
    return findings


def _why_not(folder: Path, used: Path | None) -> str:
    """Why Python does not take the TensorRT in ``folder``, and what to do about it."""
    named = os.environ.get("TRTLEARN_TENSORRT")
    tags = [file.name for file in folder.glob("*.so")] + [str(folder)]
    match = re.search(r"cpython-3(\d+)|python3\.(\d+)", " ".join(tags))
    minor = match and (match[1] or match[2])
    if named:
        return f"TRTLEARN_TENSORRT={named} names another: unset it"
    if minor and int(minor) != sys.version_info[1]:
        here = platform.python_version()
        if int(minor) < 10:
            return f"it is for Python 3.{minor}, this is {here}; trtlearn needs 3.10 and later"
        return (
            f"it is for Python 3.{minor}, this is {here}: rm -rf .venv; make PYTHON=python3.{minor}"
        )
    if str(folder.parent) not in sys.path:
        return "this environment hides the system's packages: rm -rf .venv, then make lab"
    if used:
        return f"{used} comes before it in sys.path: pip uninstall tensorrt"
    return "it does not import: python3 -c 'import tensorrt' says why"


def _mode(gpus: tuple[str, ...]) -> tuple[str, str, str]:
    """Live or recorded, why, and what to do about it."""
    if os.environ.get("TRTLEARN_MODE") == "recorded":
        return "recorded", "because TRTLEARN_MODE=recorded", "unset TRTLEARN_MODE"
    if not gpus:
        return "recorded", "because there is no NVIDIA GPU here", ""
    try:
        trt.live()
    except LiveUnavailable as missing:
        return "recorded", f"because {missing.problem}", missing.fix
    return "live", "engines are built and measured on this machine's GPU", ""


def _capabilities() -> dict[str, bool]:
    """What the installed TensorRT can do, name by name; empty without TensorRT."""
    try:
        facts = trt.capabilities().to_dict()
    except LiveUnavailable:
        return {}
    return {name: value for name, value in facts.items() if isinstance(value, bool)}


# --- Python packages


def _extras() -> tuple[Extra, ...]:
    try:
        requirements = metadata.requires("trtlearn") or []
    except metadata.PackageNotFoundError:  # a source tree that was not installed
        return tuple(Extra(name, None) for name in EXTRAS)
    return tuple(Extra(name, _extra(name, requirements)) for name in EXTRAS)


def _extra(name: str, requirements: Iterable[str]) -> tuple[str, ...]:
    """The packages of the extra ``name`` and of the extras inside it that are not installed."""
    missing: list[str] = []
    for line in requirements:
        requirement, _, marker = line.partition(";")
        if not re.search(rf"extra == ['\"]{name}['\"]", marker):
            continue
        if nested := re.match(r"trtlearn\[(\w+)\]", requirement):
            missing += _extra(nested[1], requirements)
        elif installed(package := re.split(r"[^\w.-]", requirement.strip())[0]) is None:
            missing.append(package)
    return tuple(missing)


def _extra_finding(extra: Extra, gpus: tuple[str, ...]) -> Finding:
    what = f"extra {extra.name}"
    if extra.missing is None:
        return Finding(what, "unknown: trtlearn runs from a source tree that is not installed")
    if not extra.missing:
        return Finding(what, "all there")
    useless = extra.name == "gpu" and not gpus
    fix = "" if useless else f"pip install 'trtlearn[{extra.name}]'"
    return Finding(what, f"lacks {', '.join(extra.missing)}", fix)


# --- Recordings


def _recordings() -> tuple[RecordingFolder, ...]:
    try:
        folder = data_dir() / "recordings"
    except TrtlearnError:
        return ()
    return tuple(_recording(path) for path in sorted(folder.glob("*")) if path.is_dir())


def _recording(folder: Path) -> RecordingFolder:
    count = len([path for path in folder.rglob("*.json.gz") if path.is_file()])
    root = folder.parent.parent
    try:
        origin = load_provenance(folder)
        changed = [name for name, digest in origin.sha256.items() if sha256(root / name) != digest]
    except TrtlearnError as problem:
        return RecordingFolder(folder.name, None, None, None, count, str(problem))
    again = "changed since; make the recordings again with `make record`"
    stale = f"{', '.join(changed)} {again}" if changed else ""
    return RecordingFolder(folder.name, origin.gpu, origin.tensorrt, origin.time_utc, count, stale)


def _recording_finding(recording: RecordingFolder) -> Finding:
    date = show(recording.time_utc)[:10]
    origin = f"{show(recording.gpu)}, TensorRT {show(recording.tensorrt)}, {date}"
    files = plural(recording.experiments, "file")
    return Finding(f"recording {recording.folder}", f"{origin}: {files}", recording.problem)
