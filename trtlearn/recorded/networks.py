"""Recorded builds of every network, the detector's other heads included, and a detector's answers.

<recordings>/<model>/<variant>.json.gz holds a build; its batch is part of the name unless it is 8.
Beside a detector's build lies what it answered to the 300 test scenes, <variant>.detections.npz.
"""

from __future__ import annotations

import dataclasses
import io
import zipfile
from pathlib import Path

import numpy as np

from ..builds import Build
from ..errors import RecordingError
from ..files import read_bytes
from ..model.course_data import MODELS, boxes, labels
from ..model.detections import Detections, mean_ap, unpack
from .files import AGAIN, check_origin, folder_with, load_build

__all__ = ["build", "detections", "origin_folder", "with_map50"]

ANSWERS = ".detections.npz"


def build(model: str, variant: str) -> Build:
    """One recorded build: of a network, or of the detector with another head.

    ``variant``: the way of building, with "-b64" behind it for batch 64. The heads:
    detector-normalised, detector-two-outputs, detector-by-level, detector-by-level-normalised and
    detector-transposed. RecordingError for what is not recorded, or was recorded from other files.

    >>> build("detector-normalised", "int8-minmax").batch
    8
    """
    path = _path(model, variant)
    one = load_build(path)
    check_origin(one.provenance, path)
    return with_map50(one, path)


def detections(model: str = "detector", variant: str = "fp32") -> list[Detections]:
    """What a recorded engine of the detector detected in the 300 test scenes, one entry a scene.

    >>> len(detections("detector", "int8-minmax"))
    300
    """
    path = _path(model, variant)
    check_origin(load_build(path).provenance, path)
    return _answers(path)


def with_map50(one: Build, path: Path) -> Build:
    """The build with its mAP50, where ``path`` has a detector's answers beside it."""
    if one.map50 is not None or not _beside(path).is_file():
        return one
    quality = mean_ap(_answers(path), boxes("test"), labels("test", "detector"))
    return dataclasses.replace(one, map50=quality)


def origin_folder(folder: Path, model: str) -> Path:
    """The folder whose PROVENANCE.json says what the recordings of ``model`` rest on."""
    return folder if model in MODELS else folder / "networks"


def _path(model: str, variant: str) -> Path:
    folder = folder_with(model) / model
    path = folder / f"{variant}.json.gz"
    if not path.is_file():
        files = sorted(path.name.removesuffix(".json.gz") for path in folder.glob("*.json.gz"))
        raise RecordingError(
            f"no variant {variant!r} of {model} is recorded", f"one of {', '.join(files)}"
        )
    return path


def _beside(path: Path) -> Path:
    return path.with_name(path.name.removesuffix(".json.gz") + ANSWERS)


def _answers(path: Path) -> list[Detections]:
    file = _beside(path)
    try:
        with np.load(io.BytesIO(read_bytes(file, RecordingError)), allow_pickle=False) as arrays:
            return unpack(arrays)
    except (ValueError, KeyError, OSError, zipfile.BadZipFile) as problem:
        raise RecordingError(f"{file} holds no detections: {problem}", AGAIN) from None
