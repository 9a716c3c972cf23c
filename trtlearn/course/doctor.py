"""What this machine can do: GPU, driver, TensorRT; what runs live, what is shown from recordings, how to fix it."""

from __future__ import annotations

import os
import platform
import re
import subprocess
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

__all__ = ["DoctorReport", "Extra", "Finding", "RecordingFound", "examine"]

_PROC = Path("/proc/driver/nvidia")
EXTRAS = ("cli", "lab", "gpu", "test")


@dataclass(frozen=True)
class Finding(Record):
    """One thing looked for: what was found (None: nothing), and what to do where that is not enough."""

    what: str
    found: str | None
    fix: str = ""


@dataclass(frozen=True)
class Extra(Record):
    """An optional part of trtlearn and the packages of it that are not installed (None: not known)."""

    name: str
    missing: tuple[str, ...] | None


@dataclass(frozen=True)
class RecordingFound(Record):
    """A folder of recordings; ``problem`` is empty where the hashes of all it was made from still hold."""

    folder: str
    gpu: str | None
    tensorrt: str | None
    time_utc: str | None
    experiments: int
    problem: str = ""


@dataclass(frozen=True)
class DoctorReport(Record):
    """What ``trtlearn doctor`` says; ``mode`` is live or recorded and ``why`` gives the reason."""

    mode: str
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
    recordings: tuple[RecordingFound, ...]
    findings: tuple[Finding, ...]

    def summary(self) -> str:
        return f"trtlearn {self.trtlearn}, Python {self.python}, {self.system}"

    def rows(self) -> list[dict[str, Any]]:
        return [
            {"what": f.what, "found": f.found or "none", "what to do": f.fix} for f in self.findings
        ]


def _gpus() -> tuple[str, ...]:
    """The names of the NVIDIA GPUs, asked of nvidia-smi, else of the kernel."""
    try:
        ask = ["nvidia-smi", "--query-gpu=name", "--format=csv,noheader"]
        text = subprocess.run(ask, capture_output=True, text=True, timeout=20, check=True).stdout
    except (OSError, subprocess.SubprocessError):
        text = ""
        for file in sorted(_PROC.glob("gpus/*/information")):
            text += "".join(re.findall(r"^Model:\s*(.*\n)", file.read_text(errors="replace"), re.M))
    return tuple(name.strip() for name in text.splitlines() if name.strip())


def _installed(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def _extra(name: str, requirements: list[str]) -> tuple[str, ...]:
    """The packages of the extra ``name`` that are not installed, those of extras it builds on included."""
    missing: list[str] = []
    for line in requirements:
        requirement, _, marker = line.partition(";")
        if not re.search(rf"extra == ['\"]{name}['\"]", marker):
            continue
        if nested := re.match(r"trtlearn\[(\w+)\]", requirement):
            missing += _extra(nested[1], requirements)
        elif _installed(package := re.split(r"[^\w.-]", requirement.strip())[0]) is None:
            missing.append(package)
    return tuple(missing)


def _extras() -> tuple[Extra, ...]:
    try:
        requirements = metadata.requires("trtlearn") or []
    except metadata.PackageNotFoundError:  # run from a source tree that was not installed
        return tuple(Extra(name, None) for name in EXTRAS)
    return tuple(Extra(name, _extra(name, requirements)) for name in EXTRAS)


def _recording(folder: Path) -> RecordingFound:
    count = len([path for path in folder.rglob("*.json.gz") if path.is_file()])
    try:
        made = load_provenance(folder)
        changed = [
            name
            for name, digest in made.sha256.items()
            if sha256(folder.parent.parent / name) != digest
        ]
    except TrtlearnError as problem:
        return RecordingFound(folder.name, None, None, None, count, str(problem))
    stale = (
        f"{', '.join(changed)} changed since; make the recordings again with `make record`"
        if changed
        else ""
    )
    return RecordingFound(folder.name, made.gpu, made.tensorrt, made.time_utc, count, stale)


def _recordings() -> tuple[RecordingFound, ...]:
    try:
        folder = data_dir() / "recordings"
    except TrtlearnError:
        return ()
    return tuple(_recording(path) for path in sorted(folder.glob("*")) if path.is_dir())


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
    try:
        return {
            name: value
            for name, value in trt.capabilities().to_dict().items()
            if isinstance(value, bool)
        }
    except LiveUnavailable:
        return {}


def _extra_finding(extra: Extra, gpus: tuple[str, ...]) -> Finding:
    if extra.missing is None:
        return Finding(
            f"extra {extra.name}", "unknown: trtlearn runs from a source tree that is not installed"
        )
    if not extra.missing:
        return Finding(f"extra {extra.name}", "all there")
    useless = extra.name == "gpu" and not gpus
    fix = "" if useless else f"pip install 'trtlearn[{extra.name}]'"
    return Finding(f"extra {extra.name}", f"lacks {', '.join(extra.missing)}", fix)


def _recording_finding(found: RecordingFound) -> Finding:
    made = f"{show(found.gpu)}, TensorRT {show(found.tensorrt)}, {show(found.time_utc)[:10]}"
    return Finding(
        f"recording {found.folder}", f"{made}: {plural(found.experiments, 'file')}", found.problem
    )


def examine() -> DoctorReport:
    """Look at this machine; needs nothing but numpy, and never raises for what is missing.

    >>> examine().mode in ("live", "recorded")
    True
    """
    gpus, tensorrt, capabilities = _gpus(), trt.available(), _capabilities()
    driver, newest = cuda.driver_version(), cuda.cuda_version()
    cuda_python = _installed("cuda-python") or _installed("cuda-bindings")
    extras, recordings = _extras(), _recordings()
    mode, why, fix = _mode(gpus)
    can = [name.replace("_", " ") for name, there in capabilities.items() if there]
    install = "pip install 'trtlearn[gpu]'" if gpus else ""
    findings = [
        Finding("mode", f"{mode}, {why}", fix),
        Finding(
            "GPU",
            ", ".join(gpus) or None,
            "" if gpus else "none is needed: the course shows what was recorded",
        ),
        Finding("driver", driver, "install NVIDIA's driver" if gpus and not driver else ""),
        Finding("CUDA", newest and f"up to {newest}"),
        Finding(
            "TensorRT",
            tensorrt and f"{tensorrt}: {', '.join(can) or 'strongly typed only'}",
            "" if tensorrt else install,
        ),
        Finding("cuda-python", cuda_python, "" if cuda_python else install),
        *(_extra_finding(extra, gpus) for extra in extras),
        *(_recording_finding(found) for found in recordings),
    ]
    if not any(found.experiments and not found.problem for found in recordings):
        findings.append(
            Finding(
                "usable recordings", None, "install trtlearn again; on a GPU machine: make record"
            )
        )
    return DoctorReport(
        mode=mode,
        why=why,
        trtlearn=__version__,
        python=platform.python_version(),
        system=platform.platform(),
        gpus=gpus,
        driver=driver,
        cuda=newest,
        tensorrt=tensorrt,
        capabilities=capabilities,
        cuda_python=cuda_python,
        extras=extras,
        recordings=recordings,
        findings=tuple(findings),
    )
