"""Exercises of notebook 09, "Bring your own model"."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...int8.quant import sqnr_db
from ...model.course_data import load_images
from ...networks import network
from ...show.digits import Column, digit_columns
from ..verdict import Case, compare, judge_function, random_cases

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
    mobile = network("mobile", mode="recorded")
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


# What each common mistake gets told, and the function that makes it

mistakes_load = {
    "pixels go from 0 to 255: divide by 255 first": lambda pixels: ((pixels - MEAN) / DEVIATION)[
        None
    ],
    (
        "pixels from 0 to 255 are too large: divide by 255, subtract the mean, then divide"
    ): lambda pixels: pixels[None],
    "subtract the mean, then divide by the deviation": lambda pixels: (pixels / 255)[None],
    "subtract the mean first, then divide": lambda pixels: (pixels / 255 / DEVIATION - MEAN)[None],
    "divide by the deviation too": lambda pixels: (pixels / 255 - MEAN)[None],
    "divide by the deviation, do not multiply": lambda pixels: ((pixels / 255 - MEAN) * DEVIATION)[
        None
    ],
    "the channels come first: [1, 28, 28]": lambda pixels: load(pixels).transpose(1, 2, 0),
    "a channel axis is missing in front: [1, 28, 28]": lambda pixels: load(pixels)[0],
    "np.stack adds the axis of the rows: return one image, [1, 28, 28]": lambda pixels: load(
        pixels
    )[None],
    "rows are the height: the image is turned": lambda pixels: load(pixels.T),
}

mistakes_agreement = {
    "that compares the numbers; compare which class is largest": lambda fp32, int8: (
        fp32 == int8
    ).mean(),
    "axis=0 looks for the row; the classes are along axis 1": lambda fp32, int8: (
        fp32.argmax(axis=0) == int8.argmax(axis=0)
    ).mean(),
    "that is the share of different answers": lambda fp32, int8: 1 - agreement(fp32, int8),
    "that is a count: divide by the rows": lambda fp32, int8: len(fp32) * agreement(fp32, int8),
}

mistakes_sqnr = {
    "power is a sum of squares": lambda fp32, int8: (
        10 * np.log10(np.abs(fp32).sum() / np.abs(fp32 - int8).sum())
    ),
    "20 log10 is for amplitudes; of powers take 10 log10": lambda fp32, int8: (
        2 * decibels(fp32, int8)
    ),
    "that is the natural logarithm; decibels take base 10": lambda fp32, int8: (
        decibels(fp32, int8) * np.log(10)
    ),
    "that is the ratio; decibels are 10 log10 of it": lambda fp32, int8: (
        (fp32**2).sum() / ((fp32 - int8) ** 2).sum()
    ),
    "that is noise over signal: the sign is turned": lambda fp32, int8: -decibels(fp32, int8),
}
