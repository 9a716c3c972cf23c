"""Recorded builds of every network, the detector's other heads included, and a detector's answers.

<recordings>/<model>/<variant>.json.gz holds a build; its batch is part of the name unless it is 8.
Beside a detector's build lies what it answered to the 300 test scenes, <variant>.detections.npz.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path

from ..builds import Build
from ..errors import RecordingError
from ..model.course_data import MODELS, boxes, labels
from ..model.detections import Detections, mean_ap, unpack
from .files import AGAIN, check_origin, folder_with, load_build, read_arrays

__all__ = ["build", "detections", "origin_folder"]


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
    return read_arrays(_beside(path), unpack)


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
