"""Exercises of notebook 05, "Where the weights become INT8"."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..exercise import Exercise, Prediction, number, register
from ..verdict import NOTHING, Case, Verdict, no_function

__all__: list[str] = []

RECORDED = "conv1x1"
"""The recorded one-layer engine that the reader's convolution is held against."""


def convolve(x: Any, w: Any, bias: Any, s_x: float, s_y: float) -> Any:
    """The reference: a 1x1 INT8 convolution. x int8 [N,C,H,W], w float32 [O,C], bias float32 [O] -> int8 [N,O,H,W]."""
    s_w = np.abs(w).max(axis=1) / 127
    codes = np.clip(np.round(w / s_w[:, None]), -127, 127)
    sums = np.einsum("nchw,oc->nohw", x.astype(np.int64), codes.astype(np.int64))
    steps = sums * (s_x * s_w / s_y)[:, None, None] + (bias / s_y)[:, None, None]
    return np.clip(np.rint(steps), -128, 127).astype(np.int8)


def _no_bias(x: Any, w: Any, bias: Any, s_x: float, s_y: float) -> Any:
    return convolve(x, w, np.zeros_like(bias), s_x, s_y)


def _one_scale(x: Any, w: Any, bias: Any, s_x: float, s_y: float) -> Any:
    s_w = np.abs(w).max() / 127
    sums = np.einsum("nchw,oc->nohw", x.astype(np.int64), np.rint(w / s_w).astype(np.int64))
    steps = sums * (s_x * s_w / s_y) + (bias / s_y)[:, None, None]
    return np.clip(np.rint(steps), -128, 127).astype(np.int8)


def _bias_unscaled(x: Any, w: Any, bias: Any, s_x: float, s_y: float) -> Any:
    return convolve(x, w, bias * s_y, s_x, s_y)


SLIPS = {
    "the bias is missing": _no_bias,
    "one scale for all weights: each output channel has its own": _one_scale,
    "the bias is in the output's units: divide it by the output's scale": _bias_unscaled,
}


def _convolution(answer: Any) -> Verdict:
    """The reader's codes beside those that TensorRT's engine gave, for the recorded inputs and weights."""
    from ...recorded.layers import layer_case

    if not callable(answer):
        return no_function(answer)
    case = layer_case(RECORDED)
    w = case.weights["w"]
    given = (
        case.inputs["x"],
        w.reshape(w.shape[:2]),
        case.weights["b"],
        case.scales["x"],
        case.scales["conv"],
    )
    yours = answer(*(value.copy() if isinstance(value, np.ndarray) else value for value in given))
    if yours is None or yours is ...:
        return NOTHING
    yours = np.asarray(yours)
    if yours.shape != case.output.shape:
        return Verdict(
            "", False, f"Your output has shape {yours.shape}, the engine's {case.output.shape}."
        )
    gap = np.abs(yours.astype(np.float64) - case.output)
    share = float(np.mean(gap == 0))
    where = tuple(int(i) for i in np.unravel_index(int(gap.argmax()), gap.shape))
    row = Case(
        f"pixel {where}", str(yours[where]), str(case.output[where]), f"{gap[where]:g} steps"
    )
    if np.mean(gap <= 1) >= 0.999 and share >= 0.99:
        return Verdict(
            "",
            True,
            f"{100 * share:.2f} % of {gap.size:,} codes equal the engine's, none far off.",
            (row,),
        )
    for why, slip in SLIPS.items():
        if np.mean(slip(*given) == yours) > 0.999:
            return Verdict("", False, f"Not yet: {why}.", (row,))
    return Verdict(
        "", False, f"Not yet: {100 * share:.1f} % of {gap.size:,} codes equal the engine's.", (row,)
    )


def _stem_scale() -> float:
    from ..notebook import weights

    return float(np.abs(weights("resnet")["stem.weight"][5]).max() / 127)


def _stem_whole() -> float:
    from ..notebook import weights

    return float(np.abs(weights("resnet")["stem.weight"]).max() / 127)


_SOLUTION = (
    "def my_conv(x, w, bias, s_x, s_y):\n"
    "    s_w = np.abs(w).max(axis=1) / 127\n"
    "    codes = np.round(w / s_w[:, None]).astype(np.int64)\n"
    '    sums = np.einsum("nchw,oc->nohw", x.astype(np.int64), codes)\n'
    "    steps = sums * (s_x * s_w / s_y)[:, None, None] + (bias / s_y)[:, None, None]\n"
    "    return np.clip(np.rint(steps), -128, 127).astype(np.int8)"
)

register(
    Prediction(
        "05-size",
        "INT8 weights take a quarter of the bytes. How large is resnet's INT8 plan, next to its FP32 plan?",
        ("a quarter", "about half", "about the same", "larger"),
    ),
    Exercise(
        "05-scale",
        "The scale of one output channel",
        number(
            _stem_scale,
            slips={
                "that is the whole tensor's: take channel 5 alone": _stem_whole,
                "that is the largest magnitude: divide by 127": lambda: 127 * _stem_scale(),
            },
        ),
        solution='my_scale = np.abs(weights("resnet")["stem.weight"][5]).max() / 127',
        wrong=(
            'my_scale = np.abs(weights("resnet")["stem.weight"]).max() / 127',
            'my_scale = np.abs(weights("resnet")["stem.weight"][5]).max()',
        ),
        hints=(
            "Output channels are axis 0 of a convolution's weight.",
            "Largest magnitude of the channel over 127.",
        ),
        difficulty=1,
        minutes=3,
    ),
    Exercise(
        "05-conv",
        "A quantized convolution by hand",
        _convolution,
        solution=_SOLUTION,
        wrong=(
            _SOLUTION.replace(" + (bias / s_y)[:, None, None]", ""),
            _SOLUTION.replace(
                "np.abs(w).max(axis=1) / 127", "np.full(len(w), np.abs(w).max() / 127)"
            ),
            _SOLUTION.replace("np.rint(steps)", "np.floor(steps)"),
        ),
        hints=(
            "Five steps: s_w per output channel, weight codes, int sums, one float multiply and add, round and clip.",
            'np.einsum("nchw,oc->nohw", x.astype(int), codes) gives the sums; without astype int8 overflows.',
            "A sum of 1 is worth s_x · s_w; the output counts in steps of s_y; the bias is in the output's units.",
        ),
        difficulty=3,
        minutes=12,
    ),
)
