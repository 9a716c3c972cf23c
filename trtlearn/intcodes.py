"""From float32 to INT8 codes as TensorRT does it: weights by the builder, activations by a reformat or a kernel."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .errors import DataError

__all__ = ["quantize_activations", "quantize_weights"]

Codes = NDArray[np.int8]
Floats = NDArray[np.float32]


def quantize_weights(w: ArrayLike, axis: int = 0, input_scale: float = 1.0) -> tuple[Codes, Floats]:
    """Codes in [-127, 127], one step per output channel: ``step = max|w · s_x| / 127``, ``q = round(w · s_x / step)``.

    ``w``: [C, ...] with the output channels along ``axis``. Returns int8 codes of w's shape and float32 steps [C]: with
    the layer's ``input_scale`` s_x what a sum of 1 is worth, without it the weights' scales. Ties go away from zero,
    and the division is a multiplication by float32(1 / step): both matter to weights within a few last bits of a tie
    only. A channel whose step is 0 or below float32's smallest normal number has codes 0 and step 0.

    Source: measured, data/recordings/h200-8.6.0/arithmetic: weights_edge (8,128 weights near a tie, all equal),
    conv_add_relu (a weight that s_x moves across a tie), conv_fp32_out (the steps, to the last bit). T#1421 (per output
    channel), T#1796 (weights stay in [-127, 127]).

    >>> codes, scales = quantize_weights([[127.0, -62.5, 0.5], [0.0, 0.0, 0.0]])
    >>> codes.tolist(), scales.tolist()
    ([[127, -63, 1], [0, 0, 0]], [1.0, 0.0])
    """
    values = np.asarray(w, np.float32)
    if not np.isfinite(values).all():
        raise DataError("w holds NaN or infinity", "no scale can represent them: look at how the model was exported")
    if not -values.ndim <= axis < values.ndim:
        raise DataError(f"axis {axis} of weights with {values.ndim} dimensions", "name the output channels' axis")
    spread = [1] * values.ndim
    spread[axis] = -1
    with np.errstate(over="ignore", under="ignore"):
        scaled = values * np.float32(input_scale)
        others = tuple(i for i in range(values.ndim) if i != axis % values.ndim)
        steps = np.abs(scaled).max(axis=others, initial=0.0) / np.float32(127)
        steps = np.where(steps >= np.finfo(np.float32).tiny, steps, np.float32(0)).astype(np.float32)
        inverse = np.divide(np.float32(1), steps, out=np.zeros_like(steps), where=steps > 0)
        ratio = (scaled * inverse.reshape(spread)).astype(np.float64)
    codes = np.copysign(np.floor(np.abs(ratio) + 0.5), ratio)
    return np.clip(codes, -127, 127).astype(np.int8), steps


def quantize_activations(x: ArrayLike, scale: float) -> Codes:
    """The codes of a float tensor as a reformat or a kernel makes them: ``clip(round(x · float32(1 / scale)))``.

    Ties go to the even neighbour, codes lie in [-128, 127], NaN becomes -128. quant.quantize divides by the scale
    instead, as ONNX says: the two differ by one for some numbers within a few last bits of a tie.

    Source: measured, data/recordings/h200-8.6.0/arithmetic: image_ties, image_near_ties (6,400 numbers within 12 last
    bits of a tie, all equal; by division 110 differ), image_special.

    >>> quantize_activations([0.25, 0.75, 1.25, 99.0, float("nan")], 0.5).tolist()
    [0, 2, 2, 127, -128]
    """
    step = np.float32(scale)
    if not (np.isfinite(step) and step > 0):
        raise DataError(f"scale is {scale}, expected a number above 0", "use amax / 127 with amax > 0")
    with np.errstate(over="ignore", under="ignore", invalid="ignore"):
        codes = np.rint(np.asarray(x, np.float32) * (np.float32(1) / step))
    return np.where(np.isnan(codes), -128, np.clip(codes, -128, 127)).astype(np.int8)
