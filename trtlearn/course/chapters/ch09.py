"""Exercises of notebook 09, "Bring your own model"."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...int8.quant import sqnr_db
from ...model.course_data import load_images
from ...show.images import Column, digit_columns
from ..verdict import Case, compare, judge_function, random_cases
from . import recorded

Array = NDArray[np.float64]


def agreement(fp32: Array, int8: Array) -> float:
    """The reference of 09-agreement: the share of rows with the same largest class."""
    return float((fp32.argmax(axis=1) == int8.argmax(axis=1)).mean())


def random_outputs(rng: np.random.Generator) -> tuple[Array, Array]:
    """Outputs [200, 10], and the same with noise."""
    table = rng.normal(size=(200, 10))
    return table, table + rng.normal(size=table.shape) * rng.uniform(0.1, 1)


# --- 09-load: from a file's pixels to what mobile takes.

MEAN, DEVIATION = 0.1307, 0.3081  # data/CARD.md
ROWS = [0, 4, 7]  # the test images of the picture


def load(pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
    """The reference: pixels [28,28] from 0 to 255 as mobile takes them, float32 [1,28,28]."""
    return np.asarray((pixels / 255 - MEAN) / DEVIATION, np.float32)[None]


def pixel_cases() -> Iterator[Case]:
    """Test images as a file holds them, and as the network takes them."""
    for image in load_images("test")[0][ROWS]:
        pixels = np.rint((image[0] * DEVIATION + MEAN) * 255).astype(np.uint8)
        yield Case((pixels,), load(pixels), "")


def draw_load(answer: Any) -> Any:
    """The digits as the network expects them and as the reader's function gives them.

    Without one, its pixels as they are.
    """
    mobile = recorded("mobile")
    right = np.stack([case.expected for case in pixel_cases()])
    given = [case.arguments[0].astype(np.float32)[None] for case in pixel_cases()]
    if answer is not None:
        given = [np.asarray(answer(*case.arguments), np.float32) for case in pixel_cases()]
    columns = []
    for head, images in {"in training": right, "your array": np.stack(given)}.items():
        logits = mobile.activations(images, ["logits"])["logits"]
        columns.append(Column(head, None, logits.argmax(1).tolist(), images))
    title = "What does the network get, and what does it answer in FP32?"
    return digit_columns(columns, right, mobile.labels()[ROWS], title=title)


def decibels(fp32: Array, int8: Array) -> float:
    """The reference for arrays that differ."""
    return float(sqnr_db(fp32, int8) or 0)


judge_load = partial(
    judge_function, cases=pixel_cases, compare=partial(compare, rtol=1e-3, atol=1e-3)
)
judge_agreement = partial(judge_function, cases=random_cases(agreement, random_outputs))
judge_sqnr = partial(
    judge_function,
    cases=random_cases(sqnr_db, random_outputs),
    compare=partial(compare, rtol=1e-5),
)

mistakes_load = {
    "no 255": lambda pixels: ((pixels - MEAN) / DEVIATION)[None],
    "as in the file": lambda pixels: pixels[None],
    "only 255": lambda pixels: (pixels / 255)[None],
    "divided first": lambda pixels: (pixels / 255 / DEVIATION - MEAN)[None],
    "no deviation": lambda pixels: (pixels / 255 - MEAN)[None],
    "multiplied": lambda pixels: ((pixels / 255 - MEAN) * DEVIATION)[None],
    "channels last": lambda pixels: load(pixels).transpose(1, 2, 0),
    "no channel": lambda pixels: load(pixels)[0],
    "one axis more": lambda pixels: load(pixels)[None],
    "turned": lambda pixels: load(pixels.T),
}

mistakes_agreement = {
    "numbers": lambda a, b: (a == b).mean(),
    "axis 0": lambda a, b: (a.argmax(axis=0) == b.argmax(axis=0)).mean(),
    "different": lambda a, b: 1 - agreement(a, b),
    "count": lambda a, b: len(a) * agreement(a, b),
}

mistakes_sqnr = {
    "magnitudes": lambda a, b: 10 * np.log10(np.abs(a).sum() / np.abs(a - b).sum()),
    "20 log10": lambda a, b: 2 * decibels(a, b),
    "base e": lambda a, b: decibels(a, b) * np.log(10),
    "ratio": lambda a, b: (a**2).sum() / ((a - b) ** 2).sum(),
    "turned": lambda a, b: -decibels(a, b),
}
