"""Exercises of notebook 05, "Where the weights become INT8"."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache, partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...errors import DataError
from ...recorded.layers import layer_case
from ...show import draw
from ...show.layers import SIGNS
from ..verdict import Case, Comparison, Look, judge_function, kind_of, text
from . import recorded

RECORDED = "conv1x1"
"""The recorded one-layer engine that the reader's convolution is held against."""


def convolve(
    x: Any, w: Any, bias: Any, s_x: float, s_y: float, *, axis: Any = 1, clip: float = 127
) -> Any:
    """The reference: a 1x1 INT8 convolution.

    x int8 [N,C,H,W], w float32 [O,C], bias float32 [O], scales of x and of the output give the
    codes [N,O,H,W]. A scale of the weights is amax / 127 along ``axis``: of an output channel.
    """
    s_w = np.abs(w).max(axis=axis, keepdims=True) / 127
    codes = np.clip(np.round(w / s_w), -127, 127)
    sums = np.einsum("nchw,oc->nohw", x.astype(np.int64), codes.astype(np.int64))
    steps = np.rint(sums * (s_x * s_w / s_y)[..., None] + (bias / s_y)[:, None, None])
    return np.clip(steps, -clip - 1, clip)


def engine_case() -> Iterator[Case]:
    """The recorded inputs and weights of the engine, and the codes that it gave."""
    case = layer_case(RECORDED)
    w = case.weights["w"]
    arguments = (
        case.inputs["x"],
        w.reshape(w.shape[:2]),
        case.weights["b"],
        case.scales["x"],
        case.scales["conv"],
    )
    yield Case(arguments, case.output)


def compare_codes(yours: Any, reference: Any) -> Comparison | None:
    """None where 99 % of the codes are equal and 99.9 % at most one step off, as ties may be."""
    codes = np.asarray(yours)
    if codes.shape != reference.shape or not np.issubdtype(codes.dtype, np.number):
        words = f"you return {kind_of(yours)}, the engine gives the shape {list(reference.shape)}"
        return Comparison(words, text(codes), text(reference))
    gap = np.abs(codes.astype(np.float64) - reference)
    if np.mean(gap <= 1) >= 0.999 and np.mean(gap == 0) >= 0.99:
        return None
    at = np.unravel_index(int(gap.argmax()), gap.shape)
    places = zip(("image", "channel", "row", "column"), at, strict=True)
    pixel = ", ".join(f"{axis} {index}" for axis, index in places)
    words = (
        f"{100 * np.mean(gap != 0):.1f} % of {gap.size:,} codes differ from the engine's, "
        f"most at {pixel}: by {gap[at]:g}"
    )
    return Comparison(words, str(codes[at]), str(reference[at]), pixel)


# --- 05-light: one lit pixel of an image makes the output show the kernel.

SIDE, CHANNEL = 7, 5


@cache
def kernel() -> NDArray[np.int64]:
    """The codes of one channel of resnet's first convolution, [3,3]."""
    w = recorded("resnet").weights()["stem.weight"][CHANNEL, 0]
    return np.asarray(np.rint(w / np.abs(w).max() * 127), np.int64)


def image_of(answer: Any) -> NDArray[np.int64]:
    """The reader's image, int64 [7,7]; DataError says what is no such image."""
    array = np.asarray(answer)
    if not (np.issubdtype(array.dtype, np.number) or array.dtype == bool):
        raise DataError(f"Expected {SIDE} rows of {SIDE} numbers, got {kind_of(answer)}")
    if array.size != SIDE * SIDE:
        raise DataError(
            f"Expected {SIDE} rows of {SIDE} numbers, got the shape {list(array.shape)}"
        )
    image = array.reshape(SIDE, SIDE)
    if (image != np.rint(image)).any() or np.abs(image).max() > 127:
        raise DataError("A code is a whole number from -127 to 127", "light a pixel with 1")
    return image.astype(np.int64)


def sums_of(image: NDArray[np.int64]) -> NDArray[np.int64]:
    """Nine products and their sum for each pixel, zeros around the image: [7,7]."""
    windows = np.lib.stride_tricks.sliding_window_view(np.pad(image, 1), (3, 3))
    return np.asarray(np.einsum("yxij,ij->yx", windows, kernel()))


def look_light(answer: Any) -> Look:
    """Whether one pixel is lit, away from the edge: nine outputs are nine weights."""
    image = image_of(answer)
    lit = np.argwhere(image)
    inside = (lit > 0) & (lit < SIDE - 1)
    conditions = {"none": not len(lit), "many": len(lit) > 1, "edge": not inside.all()}
    return conditions | {"passed": True}, {"count": len(lit), "value": image.sum()}


def draw_light(answer: Any) -> Any:
    """The reader's image, and the sums that come out."""
    image = np.zeros((SIDE, SIDE), np.int64) if answer is None else image_of(answer)
    heads = ["your image: codes", "the kernel: weight codes", "out: sums of nine products"]
    fig = draw.panels("What comes out of the convolution?", heads, height=330)
    for column, codes in enumerate((image, kernel(), sums_of(image)), start=1):
        look: draw.Style = {"colorscale": SIGNS, "zmid": 0, "showscale": False, "xgap": 2}
        look |= {"texttemplate": "%{z}", "textfont": {"color": "white", "size": 11}, "ygap": 2}
        fig.add_heatmap(z=codes, **look, hoverinfo="skip", row=1, col=column)
        anchor = f"x{column if column > 1 else ''}"
        hidden = {"visible": False, "constrain": "domain"}
        fig.update_xaxes(**hidden, row=1, col=column)
        fig.update_yaxes(**hidden, autorange="reversed", scaleanchor=anchor, row=1, col=column)
    return draw.finish(fig)


judge_conv = partial(
    judge_function,
    cases=engine_case,
    compare=compare_codes,
    show_input=lambda arguments, difference: (
        (difference and difference.entry) or "the recorded inputs and weights"
    ),
)

mistakes_conv = {
    "not clipped": partial(convolve, clip=np.inf),
    "no bias": lambda x, w, bias, s_x, s_y: convolve(x, w, 0 * bias, s_x, s_y),
    "one scale": partial(convolve, axis=None),
    "bias not divided": lambda x, w, bias, s_x, s_y: convolve(x, w, bias * s_y, s_x, s_y),
}
