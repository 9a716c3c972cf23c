"""Recorded builds of every network, the detector's other heads included, and a detector's answers.

<recordings>/<model>/<variant>.json.gz holds a build; its batch is part of the name unless it is 8.
networks/one-scale.json holds what one scale for one tensor of the detector costs, found on a CPU.
Beside a detector's build lies what it answered to the 300 test scenes, <variant>.detections.npz.
"""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..builds import Build
from ..engine.records import Provenance
from ..errors import RecordingError
from ..files import data_dir, read_bytes, sha256
from ..model.arrays import read_npz
from ..model.course_data import MODELS, boxes, labels
from ..model.detections import Detections, mean_ap, unpack
from ..record import Record, Table
from .files import AGAIN, check_hashes, check_origin, folder_with, load_build, read_text

__all__ = [
    "OneScale",
    "OneScaleTrial",
    "build",
    "detections",
    "one_scale",
    "origin_folder",
    "with_map50",
]

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


@dataclass(frozen=True)
class OneScaleTrial(Record):
    """The detector with some tensors in eight bits, or with Q/DQ in some places (``qdq``)."""

    model: str  # detector, or the detector with another head
    map50: float
    distinct_scores: int  # different scores in the answers to all test scenes
    rounded: tuple[str, ...] = ()  # tensors, and nothing else, with a min-max scale each
    scales: dict[str, float] = dataclasses.field(default_factory=dict)
    qdq: str = ""

    @property
    def name(self) -> str:
        """What is in eight bits."""
        return f"Q/DQ {self.qdq}" if self.qdq else ", ".join(self.rounded) or "nothing"


@dataclass(frozen=True)
class OneScale(Table):
    """What one INT8 scale for one tensor of the detector costs: simulated, no engine was built."""

    ITEMS = "trials"

    trials: tuple[OneScaleTrial, ...]
    about: str
    provenance: Provenance

    def summary(self) -> str:
        return f"{len(self.trials)} ways to put tensors of the detector into eight bits"

    def rows(self) -> list[dict[str, Any]]:
        return [
            {
                "model": trial.model,
                "in eight bits": trial.name,
                "mAP50 %": 100 * trial.map50,
                "different scores": trial.distinct_scores,
            }
            for trial in self.trials
        ]


def one_scale(model: str = "detector") -> OneScale:
    """The detector, or the detector with another head, with single tensors in eight bits.

    >>> one_scale()["output0"].distinct_scores
    2

    Source: measured, data/recordings/*/networks/one-scale.json (ONNX Runtime on a CPU).
    """
    path = folder_with("networks") / "networks" / "one-scale.json"
    try:
        whole = json.loads(read_text(path))
        trials = [OneScaleTrial.from_dict(row) for row in whole["rows"]]
        origin = Provenance.from_dict(whole["provenance"])
    except (ValueError, KeyError, TypeError) as problem:
        raise RecordingError(f"{path} is damaged: {problem}", AGAIN) from None
    check_origin(origin, path)
    caches = [name for name in origin.sha256 if name.endswith(".cache")]
    check_hashes(origin, {name: sha256(data_dir() / name) for name in caches}, str(path))
    ours = tuple(trial for trial in trials if trial.model == model)
    if not ours:
        known = ", ".join(dict.fromkeys(trial.model for trial in trials))
        raise RecordingError(f"nothing of {model!r} in {path}", f"one of {known}")
    return OneScale(ours, whole["about"], origin)


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
        return unpack(read_npz(read_bytes(file, RecordingError)))
    except RecordingError:
        raise
    except Exception as problem:  # numpy, zipfile, zlib and tokenize each raise their own
        raise RecordingError(f"{file} holds no detections: {problem}", AGAIN) from None
