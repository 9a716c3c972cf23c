"""How recordings are written: the same facts give the same bytes."""

from __future__ import annotations

import dataclasses
import gzip
import json
import re
from pathlib import Path

from trtlearn.builds import Build
from trtlearn.engine.records import Provenance
from trtlearn.errors import RecordingError
from trtlearn.files import write_atomic
from trtlearn.record import Record
from trtlearn.recorded.files import lean

__all__ = ["save_build", "save_packed", "save_provenance", "save_study"]


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


def save_study(folder: Path, build: Build) -> Path:
    """Write studies/<model>-<variant>.json: a build that answers its ``question``, without log."""
    short = dataclasses.replace(lean(build), build=dataclasses.replace(build.build, log=""))
    path = folder / "studies" / _component(f"{build.model}-{build.variant}.json")
    return write_atomic(path, short.to_json(indent=1))


def save_provenance(folder: Path, provenance: Provenance) -> Path:
    """Write PROVENANCE.json."""
    text = json.dumps(provenance.to_dict(), indent=2, sort_keys=True, allow_nan=False)
    return write_atomic(folder / "PROVENANCE.json", text + "\n")


def save_packed(path: Path, record: Record) -> Path:
    """Write the record as gzipped JSON; the same facts give the same bytes."""
    return write_atomic(path, gzip.compress(record.to_json().encode(), mtime=0))
