"""Recordings as files: one gzipped JSON a build, small JSON for studies, PROVENANCE.json beside
them.

A folder data/recordings/<gpu>-<tensorrt version>/ holds <model>/<variant>.json.gz, the calibration
cache as <model>/<variant>.cache, and studies/<name>.json. They are plain data: nothing in them is
executed or unpickled. The engine's layers are not stored but read from the inspector's own text
again on loading.
"""

from __future__ import annotations

import dataclasses
import gzip
import json
import os
import re
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..builds import Build
from ..engine.inspector import read_engine
from ..engine.records import EngineInfo, Provenance, Record
from ..errors import RecordingError
from ..files import data_dir, read_bytes, write_atomic
from ..model.course_data import NETWORKS, data_hashes
from ..record import parse_json

__all__ = [
    "AGAIN",
    "check_hashes",
    "check_origin",
    "folder_name",
    "folder_with",
    "load_build",
    "load_provenance",
    "load_study",
    "read_packed",
    "read_text",
    "recording_folders",
    "save_build",
    "save_packed",
    "save_provenance",
    "save_study",
]

AGAIN = "make it again with `make record` on a GPU machine, or restore it with `git checkout data`"
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


def _component(name: str) -> str:
    """``name`` where it is one part of a path; RecordingError where it would lead elsewhere."""
    if name in ("", ".", "..") or re.search(r"[/\\\0]", name):
        raise RecordingError(f"{name!r:.100} cannot name a recording", "give it a plain name")
    return name


def save_build(folder: Path, build: Build) -> Path:
    """Write <model>/<variant>.json.gz, and the calibration cache beside it where one was made."""
    base = folder / _component(build.model) / _component(build.variant)
    trace = build.calibration
    if trace is not None and trace.cache:
        write_atomic(base.with_name(base.name + ".cache"), trace.cache)
    return save_packed(base.with_name(base.name + ".json.gz"), lean(build))


def load_build(path: str | os.PathLike[str]) -> Build:
    """The build in a <variant>.json.gz.

    Raises RecordingError for a file that is missing, cut short, or no recording.
    """
    return whole(Build.from_json(read_packed(path)))


def save_study(folder: Path, build: Build) -> Path:
    """Write studies/<model>-<variant>.json without the log: a build that was made to answer its
    ``question``.
    """
    short = dataclasses.replace(lean(build), build=dataclasses.replace(build.build, log=""))
    path = folder / "studies" / _component(f"{build.model}-{build.variant}.json")
    return write_atomic(path, short.to_json(indent=1))


def load_study(path: str | os.PathLike[str]) -> Build:
    """The build in a studies/<model>-<variant>.json; RecordingError where that is none.

    Files recorded so far hold the question beside the build, and no build where it failed.
    """
    data = read_json(path)
    if "experiment" in data:
        build = data["experiment"] or {
            "model": data.get("model"),
            "provenance": data.get("provenance"),
            "build": {
                "options": data.get("options"),
                "build_seconds": None,
                "plan_bytes": None,
                "messages": data.get("messages", []),
            },
            "engine": {"layers": []},
        }
        if not isinstance(build, dict):
            raise RecordingError(f"{path} holds no build", AGAIN)
        name = str(data.get("name")).removeprefix(f"{data.get('model')}-")
        facts = {"question": data.get("question"), "error": data.get("error")}
        data = {**build, **facts, "variant": name}
    return whole(Build.from_dict(data, str(path)))


def read_json(path: str | os.PathLike[str]) -> dict[str, Any]:
    """The JSON object in a file; RecordingError where that is none."""
    try:
        data = parse_json(read_text(path))
    except ValueError as problem:
        raise RecordingError(f"{path} is not JSON: {problem}", AGAIN) from None
    if not isinstance(data, dict):
        raise RecordingError(f"{path} holds no JSON object", AGAIN)
    return data


def read_text(path: str | os.PathLike[str]) -> str:
    """The text of a recording; RecordingError where the file is missing or no text."""
    try:
        return read_bytes(path, RecordingError).decode()
    except UnicodeDecodeError:
        raise RecordingError(f"{path} is no text", AGAIN) from None


def save_provenance(folder: Path, provenance: Provenance) -> Path:
    """Write PROVENANCE.json."""
    text = json.dumps(provenance.to_dict(), indent=2, sort_keys=True, allow_nan=False)
    return write_atomic(folder / "PROVENANCE.json", text + "\n")


def save_packed(path: Path, record: Record) -> Path:
    """Write the record as gzipped JSON; the same facts give the same bytes."""
    return write_atomic(path, gzip.compress(record.to_json().encode(), mtime=0))


def read_packed(path: str | os.PathLike[str], again: str = AGAIN) -> str:
    """The text of a gzipped file; RecordingError, with ``again`` as what to do, where that is
    missing or damaged.
    """
    packed = read_bytes(path, RecordingError)
    unpacker = zlib.decompressobj(wbits=31)
    try:
        text = unpacker.decompress(packed, LARGEST)
        if not unpacker.eof:
            raise RecordingError(
                f"{path} is cut short, or unpacks to over {LARGEST:,} bytes", again
            )
        return text.decode()
    except (zlib.error, UnicodeDecodeError) as problem:
        raise RecordingError(f"{path} is damaged: {problem}", again) from None


def load_provenance(folder: str | os.PathLike[str]) -> Provenance:
    """The PROVENANCE.json of a folder of recordings; RecordingError where there is none."""
    return Provenance.from_json(read_text(Path(folder) / "PROVENANCE.json"))


def check_hashes(origin: Provenance, here: Mapping[str, str], what: str) -> None:
    """RecordingError unless ``origin`` was made from exactly the files ``here``."""
    for name, expected in here.items():
        found = origin.sha256.get(name)
        if found != expected:
            said = (
                "does not say from which"
                if found is None
                else f"was made from another ({found[:12]}…)"
            )
            raise RecordingError(f"{what} {said} {name}; here it is {expected[:12]}…", AGAIN)


def check_origin(origin: Provenance, what: object, network: str = "") -> None:
    """RecordingError unless the course's files that ``origin`` names are those here.

    It must name a model; ``network`` makes an exception of the names that are none of the course's.
    """
    named = [name for name in origin.sha256 if name.startswith("models/")]
    if not named and network in ("", *NETWORKS):
        raise RecordingError(f"{what} does not say from which model it was made", AGAIN)
    for name in named:
        model = name.removeprefix("models/").removesuffix(".onnx")
        check_hashes(origin, data_hashes(model), str(what))


def recording_folders() -> tuple[Path, ...]:
    """The folders of recordings that came with the course, the newest first."""
    root = data_dir() / "recordings"
    found = [path.parent for path in root.glob("*/PROVENANCE.json")]
    return tuple(
        sorted(found, key=lambda folder: load_provenance(folder).time_utc or "", reverse=True)
    )


def folder_with(part: str) -> Path:
    """The newest recordings that hold ``part``: arithmetic, calibration, studies, tradeoff,
    trtexec, or a model's name, or a file of these such as "calibration/ties.json".

    RecordingError where none does.

    >>> (folder_with("arithmetic") / "arithmetic").is_dir()
    True
    """
    found = next((folder for folder in recording_folders() if (folder / part).exists()), None)
    if found is None:
        raise RecordingError(f"no recordings of {part!r} came with this copy", AGAIN)
    return found
