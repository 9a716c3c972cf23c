"""Exercises of notebook 05, "Where the weights become INT8"."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any

import numpy as np

from ..exercise import register_chapter
from ..verdict import Case, Difference, judge_function, judge_number, text

__all__ = ["convolve"]

RECORDED = "conv1x1"
"""The recorded one-layer engine that the reader's convolution is held against."""


def convolve(x: Any, w: Any, bias: Any, s_x: float, s_y: float) -> Any:
    """The reference: a 1x1 INT8 convolution.

    x int8 [N,C,H,W], w float32 [O,C], bias float32 [O], scales of x and of the output give int8
    [N,O,H,W].
    """
    s_w = np.abs(w).max(axis=1) / 127
    return _convolve(x, w, s_w, bias, s_x, s_y)


def _convolve(x: Any, w: Any, s_w: Any, bias: Any, s_x: float, s_y: float) -> Any:
    codes = np.clip(np.round(w / s_w[:, None]), -127, 127)
    sums = np.einsum("nchw,oc->nohw", x.astype(np.int64), codes.astype(np.int64))
    steps = sums * (s_x * s_w / s_y)[:, None, None] + (bias / s_y)[:, None, None]
    return np.clip(np.rint(steps), -128, 127).astype(np.int8)


MISTAKES = {
    "the bias is missing": lambda x, w, bias, s_x, s_y: convolve(x, w, 0 * bias, s_x, s_y),
    "one scale for all weights: each output channel has its own": lambda x, w, bias, s_x, s_y: (
        _convolve(x, w, np.full(len(w), np.abs(w).max() / 127), bias, s_x, s_y)
    ),
    "the bias is in the output's units: divide it by the output's scale": (
        lambda x, w, bias, s_x, s_y: convolve(x, w, bias * s_y, s_x, s_y)
    ),
}


def engine_case() -> Iterator[Case]:
    """The recorded inputs and weights of the engine, and the codes that it gave."""
    from ...recorded.layers import layer_case

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


def compare_codes(yours: Any, reference: Any) -> Difference | None:
    """None where 99 % of the codes are equal and 99.9 % at most one step off, as ties may be."""
    codes = np.asarray(yours)
    if codes.shape != reference.shape:
        words = f"your output has shape {codes.shape}, the engine's {reference.shape}"
        return Difference(words, text(codes), text(reference))
    gap = np.abs(codes.astype(np.float64) - reference)
    if np.mean(gap <= 1) >= 0.999 and np.mean(gap == 0) >= 0.99:
        return None
    at = np.unravel_index(int(gap.argmax()), gap.shape)
    pixel = tuple(int(index) for index in at)
    words = (
        f"{100 * np.mean(gap != 0):.1f} % of {gap.size:,} codes differ from the engine's, "
        f"most at {pixel}: by {gap[at]:g} steps"
    )
    return Difference(words, str(codes[at]), str(reference[at]), pixel)


def _show_pixel(arguments: tuple[Any, ...], difference: Difference | None) -> str:
    pixel = difference.entry if difference else None
    return f"pixel {pixel}" if pixel else "the recorded inputs and weights"


def channel_scale(channels: Any = 5) -> float:
    """The scale of these output channels of resnet's first convolution."""
    from ...networks import network

    return float(np.abs(network("resnet").weights()["stem.weight"][channels]).max() / 127)


register_chapter(
    "05",
    judges={
        "05-scale": partial(
            judge_number,
            reference=channel_scale,
            common_mistakes={
                "that is the whole tensor's: take channel 5 alone": lambda: channel_scale(
                    slice(None)
                ),
                "that is the largest magnitude: divide by 127": lambda: 127 * channel_scale(),
            },
        ),
        "05-conv": partial(
            judge_function,
            cases=engine_case,
            common_mistakes=MISTAKES,
            compare=compare_codes,
            show_input=_show_pixel,
            right="At least 99 % of the codes equal the engine's, and none is far off.",
        ),
    },
)
