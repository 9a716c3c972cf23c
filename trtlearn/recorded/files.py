"""Recordings as files: gzipped JSON for builds, JSON for studies, PROVENANCE.json beside them.

A folder data/recordings/<gpu>-<tensorrt version>/ holds a build as <model>/<variant>.json.gz, its
calibration cache as <variant>.cache, what a detector answered to the 300 test scenes as
<variant>.detections.npz, and studies/<name>.json. Its batch is part of a variant's name unless it
is 8. They are plain data: nothing in them is executed or unpickled. The engine's layers are not
stored but read from the inspector's own text again on loading.
"""

from __future__ import annotations

import dataclasses
import os
import re
import zlib
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import TypeVar

from ..builds import Build
from ..engine.inspector import read_engine
from ..engine.layers import EngineInfo
from ..engine.records import Provenance
from ..errors import RecordingError
from ..files import data_dir, read_bytes
from ..model.course_data import MODELS, NETWORKS, boxes, data_hashes, labels
from ..model.data import Array, read_npz
from ..model.detections import Detections, mean_ap, unpack
from ..record import Record

__all__ = [
    "AGAIN",
    "build",
    "check_hashes",
    "check_origin",
    "detections",
    "first",
    "folder_name",
    "folder_with",
    "load_build",
    "load_provenance",
    "load_record",
    "origin_folder",
    "others",
    "parts",
    "place",
    "read_arrays",
    "read_text",
    "recording_folders",
]

R = TypeVar("R", bound=Record)
T = TypeVar("T")
GZIP = b"\x1f\x8b"
"""How a gzipped file begins."""
AGAIN = "make it again with `make record` on a GPU machine, or restore it with `git checkout data`"
NOT_SAID = "does not say from which"
LARGEST = 128 << 20  # bytes of JSON that a recording may unpack to


def folder_name(gpu: str, tensorrt: str) -> str:
    """The folder of recordings made on ``gpu`` with ``tensorrt``.

    >>> folder_name("NVIDIA H200", "8.6.0")
    'h200-8.6.0'
    """
    short = re.sub(r"[^a-z0-9]+", "-", gpu.lower().replace("nvidia", "").strip()).strip("-")
    return f"{short}-{tensorrt}"


def lean(build: Build) -> Build:
    """The build with the inspector's text only: its layers are read from that again."""
    if not build.engine.raw:
        return build
    return dataclasses.replace(build, engine=EngineInfo((), raw=build.engine.raw))


def whole(build: Build) -> Build:
    """The build with its layers, read from the inspector's text."""
    if build.engine.layers or not build.engine.raw:
        return build
    return dataclasses.replace(build, engine=read_engine(build.engine.raw))


def load_record(kind: type[R], path: str | os.PathLike[str], again: str = AGAIN) -> R:
    """The record in a file, gzipped or not.

    RecordingError, with ``again`` as what to do, where it is missing or damaged, or was made from
    other files of the course than those here.
    """
    record = kind.from_json(read_text(path, again), os.fspath(path))
    origin = getattr(record, "provenance", None)
    if origin is not None:
        check_origin(origin, path)
    return record


def load_build(path: str | os.PathLike[str]) -> Build:
    """The build or study in a file; RecordingError where that is missing or damaged.

    What it was made from is checked by those who know the network.
    """
    return whole(Build.from_json(read_text(path), str(path)))


def read_text(path: str | os.PathLike[str], again: str = AGAIN) -> str:
    """The text of a file, gzipped or not; RecordingError where that is missing or damaged."""
    content = read_bytes(path, RecordingError)
    try:
        if content.startswith(GZIP) or os.fspath(path).endswith(".gz"):
            unpacker = zlib.decompressobj(wbits=31)
            content = unpacker.decompress(content, LARGEST)
            if not unpacker.eof:
                problem = f"{path} is cut short, or unpacks to over {LARGEST:,} bytes"
                raise RecordingError(problem, again)
        return content.decode()
    except (zlib.error, UnicodeDecodeError) as problem:
        raise RecordingError(f"{path} is damaged: {problem}", again) from None


def read_arrays(path: str | os.PathLike[str], convert: Callable[[dict[str, Array]], T]) -> T:
    """What ``convert`` makes of the arrays in a .npz file; RecordingError where that is damaged."""
    content = read_bytes(path, RecordingError)
    try:
        return convert(read_npz(content))
    except Exception as problem:  # numpy, zipfile, zlib, tokenize and convert each raise their own
        raise RecordingError(f"{path} is damaged: {problem!r}", AGAIN) from None


def load_provenance(folder: str | os.PathLike[str]) -> Provenance:
    """The PROVENANCE.json of a folder of recordings; RecordingError where there is none."""
    return Provenance.from_json(read_text(Path(folder) / "PROVENANCE.json"))


def check_hashes(origin: Provenance, here: Mapping[str, str], what: str) -> None:
    """RecordingError unless ``origin`` was made from exactly the files ``here``."""
    for name, expected in here.items():
        recorded = origin.sha256.get(name)
        if recorded != expected:
            other = f"was made from another ({recorded[:12]}…)" if recorded else NOT_SAID
            raise RecordingError(f"{what} {other} {name}; here it is {expected[:12]}…", AGAIN)


def check_origin(origin: Provenance, what: object, network: str = "") -> None:
    """RecordingError unless the course's files that ``origin`` names are those here.

    It must name the model of ``network``, or some model where no network is given.
    """
    paths = [name for name in origin.sha256 if name.startswith("models/")]
    models = {path.removeprefix("models/").removesuffix(".onnx") for path in paths}
    if not models and not network:
        raise RecordingError(f"{what} {NOT_SAID} model it was made", AGAIN)
    for model in sorted(models | ({network} & {*NETWORKS})):
        check_hashes(origin, data_hashes(model), str(what))


def recording_folders() -> tuple[Path, ...]:
    """The folders of recordings that came with the course, the newest first."""
    folders = [path.parent for path in (data_dir() / "recordings").glob("*/PROVENANCE.json")]
    times = {folder: load_provenance(folder).time_utc or "" for folder in folders}
    return tuple(sorted(folders, key=times.__getitem__, reverse=True))


def parts(part: str) -> list[Path]:
    """All recordings of ``part``, the newest set first; within a set, later additions come last.

    A set keeps in its folder rest/ what a later run added of a part that it does not hold whole.
    """
    folders = recording_folders()
    found = [folder / inner / part for folder in folders for inner in ("", "rest")]
    return [path for path in found if path.exists()]


def place(part: str) -> Path:
    """Where ``part`` lies in the newest recordings that hold it."""
    return folder_with(part) / part


def folder_with(part: str) -> Path:
    """The newest recordings that hold ``part``; RecordingError where none does.

    ``part``: arithmetic, calibration, studies, tradeoff, trtexec, or a model's name, or a file of
    these such as "calibration/ties.json".

    >>> (folder_with("arithmetic") / "arithmetic").is_dir()
    True
    """
    for folder in recording_folders():
        if (folder / part).exists():
            return folder
    problem = f"no recordings of {part!r} came with this copy"
    raise RecordingError(problem, others(folder / part for folder in recording_folders()))


def first(part: str) -> Path:
    """The newest ``part``, of a set or of what a later run added to one."""
    return next(iter(parts(part)), None) or place(part)


def others(missing: Iterable[Path], again: str = AGAIN) -> str:
    """What to try where ``missing`` are not there: the names of their kind beside them."""
    names: set[str] = set()
    for path in missing:
        ending = "".join(path.suffixes)
        beside = path.parent.iterdir() if path.parent.is_dir() else ()
        alike = [one.name for one in beside if one.is_file() == bool(ending)]
        names |= {name.removesuffix(ending) for name in alike if name.endswith(ending)}
    known = ", ".join(sorted(names - {"PROVENANCE", "rest"}))
    return f"choose among those recorded: {known}; or {again}" if known else again


def build(model: str, variant: str, folder: Path | None = None) -> Build:
    """One recorded build: of a network, or of the detector with another head.

    ``variant``: the way of building, with "-b64" behind it for batch 64. The heads:
    detector-normalised, detector-two-outputs, detector-by-level, detector-by-level-normalised and
    detector-transposed. ``folder``: recordings in place of the newest. RecordingError for what is
    not recorded, or was recorded from other files.

    >>> build("detector-normalised", "int8-minmax").batch
    8
    """
    path = _path(model, variant, folder)
    one = load_build(path)
    if (one.model, one.variant) != (model, variant):
        raise RecordingError(f"{path} holds {one.model} {one.variant}", AGAIN)
    check_origin(one.provenance, path, model)
    if one.map50 is not None or not _beside(path).is_file():
        return one
    quality = mean_ap(read_arrays(_beside(path), unpack), boxes("test"), labels("test", "detector"))
    return dataclasses.replace(one, map50=quality)


def detections(model: str = "detector", variant: str = "fp32") -> list[Detections]:
    """What a recorded engine of the detector detected in the 300 test scenes, one entry a scene.

    >>> len(detections("detector", "int8-minmax"))
    300
    """
    path = _path(model, variant)
    check_origin(load_build(path).provenance, path)
    beside = _beside(path)
    if not beside.is_file():
        problem = f"no detections of {model}, {variant}, are recorded"
        detector = place("detector") / beside.name
        raise RecordingError(problem, f"of the detector {others([detector])}")
    return read_arrays(beside, unpack)


def origin_folder(folder: Path, model: str) -> Path:
    """The folder whose PROVENANCE.json says what the recordings of ``model`` rest on."""
    return folder if model in MODELS else folder / "networks"


def _path(model: str, variant: str, folder: Path | None = None) -> Path:
    folder = (folder or folder_with(model)) / model
    path = folder / f"{variant}.json.gz"
    if not path.is_file():
        names = sorted(file.name.removesuffix(".json.gz") for file in folder.glob("*.json.gz"))
        problem = f"no variant {variant!r} of {model} is recorded"
        raise RecordingError(problem, f"one of {', '.join(names)}")
    return path


def _beside(path: Path) -> Path:
    return path.with_name(path.name.replace(".json.gz", ".detections.npz"))
