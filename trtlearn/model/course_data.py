"""The course's five networks and their images, read from data/ and checked.

resnet and mobile read digits; photo and vit classify photographs, detector finds digits in scenes.
data/CARD.md says how each was trained. data/card.json (resnet, mobile) and data/networks.json (the
others) say it to programs, with the SHA-256 of each file, which is checked on loading.
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
    "MODELS",
    "NETWORKS",
    "ModelCard",
    "accuracy",
    "boxes",
    "data_hashes",
    "labels",
    "load_images",
    "model_card",
    "model_path",
    "normalise",
    "pictures",
]

MODELS = ("resnet", "mobile")
"""The two small networks that the first lessons take apart, in course order."""
NETWORKS = (*MODELS, "photo", "detector", "vit")
"""All networks of the course."""
SPLITS = ("calibration", "test")
"""The two splits that are shipped: 512 and 1,000 images; of the scenes 128 and 300."""
SIDES = {"digits": 28, "photos": 32, "scenes": 128}
"""How many pixels high and wide the images are."""

COPIED = ("sha256", "size_bytes", "description", "nodes", "parameters", "tested", "opset")
FIRST, OTHERS = "card.json", "networks.json"
REMEDY = "restore it with `git checkout data`"


@dataclass(frozen=True)
class ModelCard(Record):
    """One trained network: where it lies, what goes in and out, and how good it is in FP32.

    ``fp32_accuracy`` is ``correct / tested`` on the test split, measured with ONNX Runtime on a
    CPU; a detector has ``map50`` instead. An image pixel p in 0..255 enters the network as
    (p / 255 - mean) / std, channel by channel.
    """

    name: str
    path: str
    sha256: str
    size_bytes: int
    description: str
    nodes: int
    parameters: int
    correct: int | None
    tested: int
    fp32_accuracy: float | None
    input_name: str
    output_name: str
    input_shape: tuple[int, ...]  # without the batch axis
    labels: tuple[str, ...]
    mean: tuple[float, ...]  # one a channel
    std: tuple[float, ...]
    opset: int
    images: str = "digits"  # digits, photos or scenes
    map50: float | None = None

    def summary(self) -> str:
        quality = f"FP32 test accuracy {self.fp32_accuracy or 0:.1%}"
        if self.map50 is not None:
            quality = f"FP32 mAP50 {self.map50:.1%}"
        return f"{self.name}: {self.parameters:,} parameters, {quality}"


@dataclass(frozen=True)
class ImageSet:
    """One file of images: its hash, its classes, and what a network takes."""

    file: str
    sha256: str
    mean: tuple[float, ...]
    std: tuple[float, ...]
    shape: tuple[int, ...]  # channels, height, width
    labels: tuple[str, ...]


@cache
def _card(file: str) -> dict[str, Any]:
    """What a card holds: networks by name; images, their constants and classes by their kind."""
    path = data_dir() / file
    try:
        card: Any = json.loads(read_bytes(path, DataError))
    except ValueError as problem:
        raise DataError(f"{path} is not JSON: {problem}", REMEDY) from None
    parts = {"networks", "images", "normalisation", "classes"}
    if not isinstance(card, dict) or not parts <= set(card):
        raise DataError(f"{path} does not describe networks, images and normalisation", REMEDY)
    return card


def _checked(path: Path, expected: str) -> bytes:
    """The file's bytes; DataError where it is missing or not the one that the card describes."""
    if not path.is_file():
        raise DataError(f"no such file: {path}", REMEDY)
    content = read_bytes(path, DataError)
    actual = sha256(content)
    if actual != expected:
        raise DataError(
            f"{path} has SHA-256 {actual[:12]}…, its card says {expected[:12]}…; "
            "it was changed or cut",
            REMEDY,
        )
    return content


def _image_set(name: str) -> ImageSet:
    """The facts of "digits", "photos" or "scenes"."""
    card = _card(FIRST if name == "digits" else OTHERS)
    facts, constants = card["images"][name], card["normalisation"][name]
    mean, std = (tuple(np.atleast_1d(constants[key]).tolist()) for key in ("mean", "std"))
    shape, labels = (len(mean), SIDES[name], SIDES[name]), tuple(card["classes"][name])
    return ImageSet(facts["file"], facts["sha256"], mean, std, shape, labels)


def model_card(name: str) -> ModelCard:
    """The card of the network ``name``, one of ``NETWORKS``; DataError for another name.

    >>> model_card("resnet").input_name, model_card("detector").input_shape
    ('image', (3, 128, 128))
    """
    if name not in NETWORKS:
        raise DataError(f"no network named {name!r} here", f"use one of {', '.join(NETWORKS)}")
    file = FIRST if name in MODELS else OTHERS
    entries = _card(file)["networks"]
    if name not in entries:
        raise DataError(f"data/{file} does not describe {name!r}", REMEDY)
    fields = entries[name]
    images = fields.get("images", "digits")
    facts = _image_set(images)
    share = fields.get("fp32_accuracy")
    return ModelCard(
        name=name,
        path=str(data_dir() / fields["file"]),
        correct=None if share is None else round(share * fields["tested"]),
        fp32_accuracy=share,
        input_name=fields["input"],
        output_name=fields["output"],
        input_shape=facts.shape,
        labels=facts.labels,
        mean=facts.mean,
        std=facts.std,
        images=images,
        map50=fields.get("map50"),
        **{key: fields[key] for key in COPIED},
    )


def model_path(name: str) -> Path:
    """The ONNX file of the network ``name``; DataError where it is missing or altered."""
    card = model_card(name)
    _checked(Path(card.path), card.sha256)
    return Path(card.path)


def normalise(images: NDArray[np.uint8], kind: str = "digits") -> NDArray[np.float32]:
    """Network-ready images: (p / 255 - mean) / std, with the constants of ``kind``.

    Digits: uint8 [N,28,28] -> float32 [N,1,28,28]. Photos, scenes: uint8 [N,H,W,3] -> [N,3,H,W].

    >>> normalise(np.zeros((2, 28, 28), np.uint8)).shape
    (2, 1, 28, 28)
    """
    facts = _image_set(kind)
    channels, height, width = facts.shape
    expected = (height, width) if channels == 1 else (height, width, channels)
    if images.dtype != np.uint8 or images.shape[1:] != expected:
        raise DataError(
            f"pixels are {images.dtype} {list(images.shape)}, "
            f"expected uint8 [N,{','.join(map(str, expected))}]",
            "pass images as 0..255 uint8",
        )
    mean, std = np.array(facts.mean, np.float32), np.array(facts.std, np.float32)
    pixels = images.reshape(-1, height, width, channels)
    scaled = (pixels.astype(np.float32) / np.float32(255) - mean) / std
    return np.ascontiguousarray(scaled.transpose(0, 3, 1, 2))


@cache
def _arrays(kind: str) -> dict[str, NDArray[Any]]:
    facts = _image_set(kind)
    path = data_dir() / facts.file
    content = _checked(path, facts.sha256)
    try:
        with np.load(io.BytesIO(content), allow_pickle=False) as file:
            return {name: file[name] for name in file.files}
    except (ValueError, OSError, zipfile.BadZipFile) as problem:
        raise DataError(f"{path} is no npz archive: {problem}", REMEDY) from None


def _split(split: str, kind: str) -> dict[str, NDArray[Any]]:
    """The arrays of one split by what they hold: images, labels, boxes, classes."""
    if split not in SPLITS:
        raise DataError(f"no split named {split!r} here", f"use one of {', '.join(SPLITS)}")
    start = f"{split}_"
    return {
        name.removeprefix(start): array
        for name, array in _arrays(kind).items()
        if name.startswith(start)
    }


def load_images(
    split: str, network: str = "resnet"
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """The images of ``split``, "calibration" or "test", for ``network``, and their labels.

    Returns images float32 [N,C,H,W], network-ready (see :func:`normalise`), and labels int64 as
    :func:`labels` has them. The arrays are the caller's own to change. DataError for another
    split, or when the file is missing or altered.

    >>> x, y = load_images("calibration")
    >>> x.shape, x.dtype.name, y.shape, y.dtype.name
    ((512, 1, 28, 28), 'float32', (512,), 'int64')
    >>> load_images("test", "photo")[0].shape
    (1000, 3, 32, 32)

    Source: data/CARD.md.
    """
    kind = model_card(network).images
    return normalise(_split(split, kind)["images"], kind), labels(split, network)


def pictures(split: str = "test", network: str = "photo") -> NDArray[np.uint8]:
    """The images of ``split`` as people see them: uint8 [N,H,W,3], or [N,28,28] for digits.

    >>> pictures("test", "detector").shape
    (300, 128, 128, 3)
    """
    return np.array(_split(split, model_card(network).images)["images"], np.uint8)


def labels(split: str = "test", network: str = "resnet") -> NDArray[np.int64]:
    """The class of each image of ``split``, int64 [N], without loading the images.

    For the detector: the class of each object in each scene, int64 [N,6]; -1 where there is none.
    """
    arrays = _split(split, model_card(network).images)
    return arrays["labels" if "labels" in arrays else "classes"].astype(np.int64)


def boxes(split: str = "test", network: str = "detector") -> NDArray[np.float32]:
    """The objects' boxes (cx, cy, w, h) in pixels, float32 [N,6,4].

    Those count whose class in :func:`labels` is not -1.

    >>> boxes().shape
    (300, 6, 4)
    """
    arrays = _split(split, model_card(network).images)
    if "boxes" not in arrays:
        raise DataError(f"the images of {network} have no boxes", "ask for those of detector")
    return arrays["boxes"].astype(np.float32)


def accuracy(logits: NDArray[np.float32], truth: NDArray[np.int64]) -> float:
    """Share of rows whose largest logit is the true digit; NaN counts as wrong.

    >>> accuracy(np.eye(10, dtype=np.float32), np.arange(10))
    1.0
    """
    if logits.ndim != 2 or len(logits) != len(truth) or not len(truth):
        problem = f"logits {list(logits.shape)} and {len(truth)} labels do not fit"
        raise DataError(problem, "pass [N,classes] and [N]")
    sound = np.isfinite(logits).all(axis=1)
    return float(np.mean(sound & (np.argmax(logits, axis=1) == truth)))


def data_hashes(model: str) -> dict[str, str]:
    """SHA-256 of the files that a recording of ``model`` rests on, by their path under data/."""
    root = data_dir()
    files = [model_path(model), root / _image_set(model_card(model).images).file]
    return {path.relative_to(root).as_posix(): sha256(path) for path in files}
