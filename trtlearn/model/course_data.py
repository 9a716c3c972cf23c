"""The course's two real networks and their images, found, checked and ready to use.

Made by ``recording/training/digits.py``; data/CARD.md says how, data/card.json says it to
programs and carries the SHA-256 of each file, which is checked on loading.
"""

from __future__ import annotations

import io
import json
import zipfile
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import DataError
from ..files import data_dir, read_bytes, sha256
from ..record import Record

__all__ = [
    "IMAGE_SHAPE",
    "LABELS",
    "MODELS",
    "SPLITS",
    "ModelCard",
    "accuracy",
    "batches",
    "data_hashes",
    "labels",
    "load_images",
    "model_card",
    "model_path",
    "normalise",
]

MODELS = ("resnet", "mobile")
"""The networks' names, in course order."""
SPLITS = ("calibration", "test")
"""The two splits that are shipped: 512 calibration images and 1,000 test images."""
LABELS = tuple("0123456789")
"""What each of the ten logits stands for."""
IMAGE_SHAPE = (1, 28, 28)

COPIED = (
    "sha256",
    "size_bytes",
    "description",
    "nodes",
    "parameters",
    "correct",
    "tested",
    "fp32_accuracy",
    "opset",
)
REMEDY = "restore it with `git checkout data`, or run `python -m recording.training.digits`"


@dataclass(frozen=True)
class ModelCard(Record):
    """One trained network: where it lies, what goes in and out, and how good it is in FP32.

    ``fp32_accuracy`` is ``correct / tested`` on the test split, measured with ONNX Runtime on a
    CPU. An image pixel p in 0..255 enters the network as (p / 255 - mean) / std.
    """

    name: str
    path: str
    sha256: str
    size_bytes: int
    description: str
    nodes: int
    parameters: int
    correct: int
    tested: int
    fp32_accuracy: float
    input_name: str
    output_name: str
    input_shape: tuple[int, ...]  # without the batch axis
    labels: tuple[str, ...]
    mean: float
    std: float
    opset: int

    def summary(self) -> str:
        accuracy = f"FP32 test accuracy {self.fp32_accuracy:.1%}"
        return f"{self.name}: {self.parameters:,} parameters, {accuracy}"


@cache
def _card() -> dict[str, Any]:
    path = data_dir() / "card.json"
    try:
        card: Any = json.loads(read_bytes(path, DataError))
    except ValueError as problem:
        raise DataError(f"{path} is not JSON: {problem}", REMEDY) from None
    if not isinstance(card, dict) or not {"models", "images", "normalisation"} <= set(card):
        raise DataError(f"{path} does not describe models, images and normalisation", REMEDY)
    return card


def _checked(path: Path, expected: str) -> bytes:
    """The file's bytes; DataError where it is missing or not the one that the card describes."""
    if not path.is_file():
        raise DataError(f"no such file: {path}", REMEDY)
    content = read_bytes(path, DataError)
    if (found := sha256(content)) != expected:
        raise DataError(
            f"{path} has SHA-256 {found[:12]}…, expected {expected[:12]}… (data/card.json); "
            "it was changed or cut",
            REMEDY,
        )
    return content


def model_card(name: str) -> ModelCard:
    """The card of the network ``name``, one of ``MODELS``; DataError for another name.

    >>> model_card("resnet").input_name
    'image'
    """
    if name not in MODELS:
        raise DataError(f"no network named {name!r} here", f"use one of {', '.join(MODELS)}")
    card = _card()
    if name not in card["models"]:
        raise DataError(f"data/card.json does not describe {name!r}", REMEDY)
    fields = dict(card["models"][name])
    return ModelCard(
        name=name,
        path=str(data_dir() / fields["file"]),
        input_name=fields["input"],
        output_name=fields["output"],
        input_shape=IMAGE_SHAPE,
        labels=LABELS,
        mean=card["normalisation"]["mean"],
        std=card["normalisation"]["std"],
        **{key: fields[key] for key in COPIED},
    )


def model_path(name: str) -> Path:
    """The ONNX file of the network ``name``; DataError where it is missing or its hash is
    another.
    """
    card = model_card(name)
    _checked(Path(card.path), card.sha256)
    return Path(card.path)


def normalise(images: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Network-ready images: (p / 255 - mean) / std.  Shape [N,28,28] uint8 -> [N,1,28,28] float32.

    >>> normalise(np.zeros((2, 28, 28), np.uint8)).shape
    (2, 1, 28, 28)
    """
    if images.dtype != np.uint8 or images.ndim != 3 or images.shape[1:] != IMAGE_SHAPE[1:]:
        raise DataError(
            f"pixels are {images.dtype} {list(images.shape)}, expected uint8 [N,28,28]",
            "pass images as 0..255 uint8",
        )
    constants = _card()["normalisation"]
    mean, std = np.float32(constants["mean"]), np.float32(constants["std"])
    scaled: NDArray[np.float32] = (images.astype(np.float32) / np.float32(255) - mean) / std
    return scaled[:, None]


@cache
def _arrays() -> dict[str, NDArray[Any]]:
    facts = _card()["images"]
    path = data_dir() / facts["file"]
    content = _checked(path, facts["sha256"])
    try:
        with np.load(io.BytesIO(content), allow_pickle=False) as file:
            return {name: file[name] for name in file.files}
    except (ValueError, OSError, zipfile.BadZipFile) as problem:
        raise DataError(f"{path} is no npz archive: {problem}", REMEDY) from None


def load_images(split: str) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """The images and labels of ``split``: "calibration" (N = 512) or "test" (N = 1,000), in order.

    Returns images float32 [N,1,28,28], network-ready (see :func:`normalise`), and labels int64
    [N]. The arrays are the caller's own to change. DataError for another split, or when the file
    is missing or altered.

    >>> x, y = load_images("calibration")
    >>> x.shape, x.dtype.name, y.shape, y.dtype.name
    ((512, 1, 28, 28), 'float32', (512,), 'int64')

    Source: data/CARD.md.
    """
    if split not in SPLITS:
        raise DataError(f"no split named {split!r} here", f"use one of {', '.join(SPLITS)}")
    arrays = _arrays()
    return normalise(arrays[f"{split}_images"]), arrays[f"{split}_labels"].astype(np.int64)


def labels(split: str = "test") -> NDArray[np.int64]:
    """The digits that the images of ``split`` show, int64 [N], without loading the images."""
    if split not in SPLITS:
        raise DataError(f"no split named {split!r} here", f"use one of {', '.join(SPLITS)}")
    return _arrays()[f"{split}_labels"].astype(np.int64)


def batches(x: NDArray[np.float32], size: int = 8) -> list[NDArray[np.float32]]:
    """``x`` cut along its first axis into batches of ``size``; what is left over is dropped.

    >>> [part.shape[0] for part in batches(np.zeros((20, 1, 28, 28), np.float32))]
    [8, 8]
    """
    if size < 1 or size > len(x):
        raise DataError(
            f"batch size is {size}, expected 1 to {len(x)} (all images)", "choose a smaller batch"
        )
    return [x[start : start + size] for start in range(0, len(x) - size + 1, size)]


def accuracy(logits: NDArray[np.float32], truth: NDArray[np.int64]) -> float:
    """Share of rows whose largest logit is the true digit; NaN counts as wrong.

    >>> accuracy(np.eye(10, dtype=np.float32), np.arange(10))
    1.0
    """
    if logits.ndim != 2 or len(logits) != len(truth) or not len(truth):
        raise DataError(
            f"logits {list(logits.shape)} and {len(truth)} labels do not fit",
            "pass [N,classes] and [N]",
        )
    sound = np.isfinite(logits).all(axis=1)
    return float(np.mean(sound & (np.argmax(logits, axis=1) == truth)))


def data_hashes(model: str) -> dict[str, str]:
    """SHA-256 of the files that an experiment on ``model`` rests on, by their path under data/."""
    root = data_dir()
    files = [model_path(model), root / "images" / "digits.npz"]
    return {path.relative_to(root).as_posix(): sha256(path) for path in files}
