"""Exercises of notebook 01, "A number in eight bits"."""

from __future__ import annotations

from functools import cache, partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...int8 import quant
from ...model.course_data import load_images
from ...show import draw
from ...show.draw import SERIES
from ...show.images import Column, digit_columns
from ..verdict import call, judge_function, judge_number, one_number, random_cases

CUT = 0.45  # the range's end in the picture of 01-scale that is to change


def random_values(rng: np.random.Generator) -> tuple[NDArray[np.float32], float]:
    """Values that round, tie and clip, and a scale: a power of two, so that ties are exact."""
    scale = float(2.0 ** rng.integers(-6, 0))
    spread = rng.normal(0, 60 * scale, 200)
    ties = (rng.integers(-140, 140, 40) + 0.5) * scale
    return np.concatenate([spread, ties]).astype(np.float32), scale


def random_weights(rng: np.random.Generator) -> tuple[NDArray[np.float32]]:
    """A convolution weight [C, I, 3, 3] whose channels differ a hundredfold."""
    channels = int(rng.integers(3, 7))
    size = 10.0 ** rng.uniform(-2, 0, (channels, 1, 1, 1))
    return ((rng.normal(size=(channels, 2, 3, 3)) * size).astype(np.float32),)


@cache
def digit() -> NDArray[np.float32]:
    """The first calibration image, float32 [1,1,28,28]."""
    return load_images("calibration")[0][:1]


def digit_amax() -> float:
    """The largest |x| of the digit."""
    return float(np.abs(digit()).max())


def draw_scale(answer: Any) -> Any:
    """The digit, and what the codes of the reader's scale keep of it."""
    amax = CUT if answer is None else 127 * one_number(answer)
    name = "range too short" if answer is None else "your scale"
    columns = [Column("the digit", None), Column(name, amax)]
    return digit_columns(columns, digit(), title="What does your scale keep of the digit?")


def draw_quantize(answer: Any) -> Any:
    """The reader's quantize beside the reference, as two staircases."""
    x, scale = np.linspace(-1.5, 1.5, 601, dtype=np.float32), 1 / 127
    fig = draw.figure("What does your quantize do, beside the reference?")
    steps: draw.Style = {"shape": "hv", "hover": "%{x}: %{y}"}
    draw.line(fig, x, quant.quantize(x, scale), "reference", color=SERIES[0], width=5, **steps)
    if answer is not None:
        codes = np.asarray(call(answer, x, scale))
        draw.line(fig, x, codes, "yours", color=SERIES[1], **steps)
    fig.update_xaxes(title="x (scale 1/127)").update_yaxes(title="code")
    return draw.finish(fig)


judge_scale = partial(judge_number, reference=lambda: digit_amax() / 127, rtol=0.002)
judge_quantize = partial(judge_function, cases=random_cases(quant.quantize, random_values))
judge_channels = partial(judge_function, cases=random_cases(quant.weight_scales, random_weights))

mistakes_scale = {
    "amax": digit_amax,
    "255 steps": lambda: 2 * digit_amax() / 255,
    "asymmetric": lambda: float(np.ptp(digit())) / 255,
    "128": lambda: digit_amax() / 128,
    "inverse": lambda: 127 / digit_amax(),
}

mistakes_quantize = {
    "half up": lambda x, scale: np.clip(np.floor(x / scale + 0.5), -128, 127),
    "not clipped": lambda x, scale: np.rint(x / scale),
    "-127": lambda x, scale: np.clip(np.rint(x / scale), -127, 127),
    "multiplied": lambda x, scale: np.clip(np.rint(x * scale), -128, 127),
    "unsigned": lambda x, scale: np.clip(np.rint(x / scale), 0, 255),
    "not rounded": lambda x, scale: np.clip(x / scale, -128, 127),
    "truncated": lambda x, scale: np.clip(np.trunc(x / scale), -128, 127),
    "wrapped": lambda x, scale: np.rint(x / scale).astype(np.int64).astype(np.int8),
}

mistakes_channels = {
    "one scale": lambda w: np.abs(w).max() / 127,
    "no abs": lambda w: w.max((1, 2, 3)) / 127,
    "amax": lambda w: np.abs(w).max((1, 2, 3)),
    "128": lambda w: np.abs(w).max((1, 2, 3)) / 128,
    "input channel": lambda w: np.abs(w).max((0, 2, 3)) / 127,
}
