"""The integer arithmetic of an INT8 layer, in numpy: sums of products in int32, and the way back to eight bits.

``sum = Σ x · w`` of INT8 codes is exact. One float32 multiplication, an addition and a rounding turn it into the
output's code: ``y = clip(round(sum · s_x s_w / s_y + bias / s_y))``. Measured against TensorRT 8.6.0 on an H200,
layer by layer: data/recordings/h200-8.6.0/arithmetic, tests/int8/test_arithmetic_recorded.py.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import ArrayLike, NDArray

from ..errors import DataError

__all__ = [
    "conv_sums",
    "deconv_sums",
    "matmul_sums",
    "quantize_activations",
    "quantize_weights",
    "requantize",
    "windows",
]


# --- From float32 to INT8 codes as TensorRT does it: weights by the builder, activations by a reformat or a kernel.

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
        raise DataError(
            "w holds NaN or infinity",
            "no scale can represent them: look at how the model was exported",
        )
    if not -values.ndim <= axis < values.ndim:
        raise DataError(
            f"axis {axis} of weights with {values.ndim} dimensions",
            "name the output channels' axis",
        )
    spread = [1] * values.ndim
    spread[axis] = -1
    with np.errstate(over="ignore", under="ignore"):
        scaled = values * np.float32(input_scale)
        others = tuple(i for i in range(values.ndim) if i != axis % values.ndim)
        steps = np.abs(scaled).max(axis=others, initial=0.0) / np.float32(127)
        steps = np.where(steps >= np.finfo(np.float32).tiny, steps, np.float32(0)).astype(
            np.float32
        )
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
        raise DataError(
            f"scale is {scale}, expected a number above 0", "use amax / 127 with amax > 0"
        )
    with np.errstate(over="ignore", under="ignore", invalid="ignore"):
        codes = np.rint(np.asarray(x, np.float32) * (np.float32(1) / step))
    return np.where(np.isnan(codes), -128, np.clip(codes, -128, 127)).astype(np.int8)


# --- The integer arithmetic of an INT8 layer, in numpy: sums of products in int32, and the way back to eight bits.

Sums = NDArray[np.int32]
CHUNK_BYTES = 1 << 27


def _integers(array: ArrayLike, what: str, ndim: int | None = None) -> NDArray[Any]:
    values = np.asarray(array)
    if values.dtype != np.int8:
        raise DataError(f"{what} is {values.dtype}, expected int8 codes", "quantize it first")
    if ndim is not None and values.ndim != ndim:
        raise DataError(
            f"{what} has shape {values.shape}, expected {ndim} dimensions",
            "batch, channels, then space",
        )
    return values


def _each(
    value: int | Sequence[int] | None, count: int, default: int, what: str
) -> tuple[int, ...]:
    if value is None:
        return (default,) * count
    found = (value,) * count if isinstance(value, int) else tuple(int(v) for v in value)
    if len(found) != count or min(found, default=1) < 0:
        raise DataError(
            f"{what}={value!r}, expected {count} numbers from 0", "one for each spatial dimension"
        )
    return found


def windows(
    x: NDArray[Any],
    kernel: Sequence[int],
    strides: int | Sequence[int] | None = None,
    pads: int | Sequence[int] | None = None,
    dilations: int | Sequence[int] | None = None,
    fill: float = 0,
) -> NDArray[Any]:
    """What each output pixel of a filter sees: [N, C, *space] -> [N, C, *out, *kernel], a view of the padded input.

    ``pads`` are ONNX's: all the beginnings, then all the ends (or one number for all).

    >>> windows(np.arange(5).reshape(1, 1, 5), [3], pads=1)[0, 0, 0].tolist()
    [0, 0, 1]
    """
    rank = len(kernel)
    step = _each(strides, rank, 1, "strides")
    spread = _each(dilations, rank, 1, "dilations")
    edge = _each(pads, 2 * rank, 0, "pads")
    if x.ndim != rank + 2:
        raise DataError(
            f"the input has shape {x.shape}, expected {rank + 2} dimensions",
            "batch, channels, then space",
        )
    padded = np.pad(
        x, [(0, 0), (0, 0), *zip(edge[:rank], edge[rank:], strict=True)], constant_values=fill
    )
    reach = tuple((k - 1) * d + 1 for k, d in zip(kernel, spread, strict=True))
    space = padded.shape[2:]
    if (
        min(step) < 1
        or min(spread) < 1
        or any(size < need for size, need in zip(space, reach, strict=True))
    ):
        raise DataError(
            f"a filter that reaches over {reach} does not fit into {space} (strides {step}, dilations {spread})",
            "pad the input, or use a smaller filter",
        )
    axes: Any = tuple(range(2, rank + 2))  # numpy 2.2's types know no tuple here
    view = sliding_window_view(padded, reach, axis=axes)
    picks = (
        [slice(None)] * 2
        + [slice(None, None, s) for s in step]
        + [slice(None, None, d) for d in spread]
    )
    return np.asarray(view[tuple(picks)])


def _product(rows: NDArray[Any], columns: NDArray[Any]) -> Sums:
    """Exact int32 of int8 rows [..., P, K] times columns [..., K, M], through the fast float product.

    Every partial sum is below 2^24 in float32, or 2^53 in float64, so no addition rounds.
    """
    exact = np.float32 if rows.shape[-1] * 128 * 128 <= 1 << 24 else np.float64
    return np.asarray(np.matmul(rows.astype(exact), columns.astype(exact)), np.int32)


def conv_sums(
    x: Codes,
    w: Codes,
    *,
    strides: int | Sequence[int] | None = None,
    pads: int | Sequence[int] | None = None,
    dilations: int | Sequence[int] | None = None,
    groups: int = 1,
) -> Sums:
    """The int32 sums of an INT8 convolution: ``sum[n, o, p] = Σ x[n, i, p + k] · w[o, i, k]``, exact.

    ``x`` [N, C, *space] int8, ``w`` [O, C / groups, *kernel] int8, in 1, 2 or 3 dimensions. Result: [N, O, *out].
    Raises DataError for shapes that do not fit each other.

    >>> conv_sums(np.full((1, 1, 3, 3), 127, np.int8), np.full((1, 1, 3, 3), -127, np.int8), pads=1)[0, 0, 1].tolist()
    [-96774, -145161, -96774]
    """
    codes, weights = _integers(x, "x"), _integers(w, "w", np.ndim(x))
    count, channels = codes.shape[:2]
    maps, per_group, *kernel = weights.shape
    if groups < 1 or per_group * groups != channels or maps % groups:
        raise DataError(
            f"a weight of shape {weights.shape} in {groups} groups does not fit {channels} input channels",
            f"expected [maps, {channels} / groups, ...] with maps a multiple of groups",
        )
    columns = weights.reshape(groups, maps // groups, -1).transpose(0, 2, 1)
    rank = len(kernel)
    parts = []
    seen = windows(codes, kernel, strides, pads, dilations)
    out = seen.shape[2 : 2 + rank]
    size = max(1, channels * int(np.prod(out)) * int(np.prod(kernel)) * 8)
    step = max(1, CHUNK_BYTES // size)
    for start in range(0, count, step):
        part = seen[start : start + step].reshape(-1, groups, per_group, *seen.shape[2:])
        part = np.moveaxis(part, 2, 2 + rank).reshape(len(part), groups, int(np.prod(out)), -1)
        parts.append(_product(part, columns).transpose(0, 1, 3, 2).reshape(len(part), maps, *out))
    return np.concatenate(parts)


def deconv_sums(
    x: Codes,
    w: Codes,
    *,
    strides: int | Sequence[int] | None = None,
    pads: int | Sequence[int] | None = None,
    dilations: int | Sequence[int] | None = None,
    groups: int = 1,
    output_padding: int | Sequence[int] | None = None,
) -> Sums:
    """The int32 sums of an INT8 deconvolution (ONNX's ConvTranspose): each input pixel adds its filter to the output.

    ``x`` [N, C, *space] int8, ``w`` [C, O / groups, *kernel] int8. Computed as a convolution of the input spread out
    by ``strides`` with the mirrored filter. Result: [N, O, *out], int32.

    >>> deconv_sums(np.array([[[3, -2]]], np.int8), np.array([[[1, 10]]], np.int8), strides=2).tolist()
    [[[3, 30, -2, -20]]]
    """
    codes, weights = _integers(x, "x"), _integers(w, "w", np.ndim(x))
    channels, per_group, *kernel = weights.shape
    rank = len(kernel)
    step = _each(strides, rank, 1, "strides")
    spread = _each(dilations, rank, 1, "dilations")
    edge = _each(pads, 2 * rank, 0, "pads")
    more = _each(output_padding, rank, 0, "output_padding")
    if groups < 1 or channels != codes.shape[1] or channels % groups:
        raise DataError(
            f"a weight of shape {weights.shape} in {groups} groups does not fit {codes.shape[1]} input channels",
            "expected [channels, maps / groups, ...] with channels a multiple of groups",
        )
    wide = np.zeros(
        (*codes.shape[:2], *((n - 1) * s + 1 for n, s in zip(codes.shape[2:], step, strict=True))),
        np.int8,
    )
    every = tuple(slice(None, None, s) for s in (1, 1, *step))
    wide[every] = codes
    reach = [(k - 1) * d for k, d in zip(kernel, spread, strict=True)]
    begin = [r - e for r, e in zip(reach, edge[:rank], strict=True)]
    end = [r - e + m for r, e, m in zip(reach, edge[rank:], more, strict=True)]
    cut = [slice(None)] * 2
    cut += [
        slice(max(0, -b), n - max(0, -e))
        for b, e, n in zip(begin, end, wide.shape[2:], strict=True)
    ]
    wide = wide[tuple(cut)]
    mirrored = np.flip(weights, tuple(range(2, 2 + rank))).reshape(
        groups, channels // groups, per_group, *kernel
    )
    turned = mirrored.swapaxes(1, 2).reshape(groups * per_group, channels // groups, *kernel)
    return conv_sums(
        wide, turned, pads=[max(0, v) for v in (*begin, *end)], dilations=spread, groups=groups
    )


def matmul_sums(x: Codes, w: Codes) -> Sums:
    """The int32 sums of an INT8 matrix product: [..., P, K] times [K, M] (or [..., K, M]), exact.

    >>> matmul_sums(np.array([[1, -128]], np.int8), np.array([[2], [127]], np.int8)).tolist()
    [[-16254]]
    """
    rows, columns = _integers(x, "x"), _integers(w, "w")
    if rows.ndim < 1 or columns.ndim < 2 or rows.shape[-1] != columns.shape[-2]:
        raise DataError(
            f"shapes {rows.shape} and {columns.shape} do not multiply",
            "expected [..., P, K] and [..., K, M]",
        )
    return _product(rows, columns)


def requantize(
    sums: Sums,
    multiplier: ArrayLike,
    offset: ArrayLike = 0.0,
    *,
    added: ArrayLike = 0.0,
    low: float = -128.0,
    high: float = 127.0,
    axis: int = 1,
) -> Codes:
    """The output's codes: ``y = clip(round(sum · multiplier + offset + added), low, high)``, ties to even.

    ``multiplier`` (s_x · s_w / s_y) and ``offset`` (bias / s_y): one number or one per channel along ``axis``, float32.
    ``added``: the residual in output steps (codes · s_r / s_y), the sums' shape. ``low`` and ``high`` are the fused
    activation in output steps (ReLU: low = 0), inside [-128, 127]. The multiplication and addition round once, as the
    GPU's fused multiply-add does.

    >>> requantize(np.array([[10, 30, -500]], np.int32), 0.25).tolist()
    [[2, 8, -125]]
    """
    values = np.asarray(sums)
    if values.dtype != np.int32:
        raise DataError(
            f"sums are {values.dtype}, expected int32", "use conv_sums, deconv_sums or matmul_sums"
        )
    spread = [1] * values.ndim
    if values.ndim:
        spread[axis] = -1
    steps = _fused(values, multiplier, offset, spread)
    if np.ndim(added) or added:
        steps = (steps + np.asarray(added, np.float32)).astype(np.float32)
    steps = np.clip(steps, np.float32(max(low, -128.0)), np.float32(min(high, 127.0)))
    return np.rint(steps).astype(np.int8)


def _fused(
    sums: NDArray[Any], multiplier: ArrayLike, offset: ArrayLike, spread: list[int]
) -> Floats:
    """float32(sum) · multiplier + offset with one rounding: exact in float64, then float32."""
    factor, shift = (
        value.reshape(spread) if value.ndim else value
        for value in (np.asarray(multiplier, np.float32), np.asarray(offset, np.float32))
    )
    wide = sums.astype(np.float32).astype(np.float64) * factor.astype(np.float64) + shift.astype(
        np.float64
    )
    return np.asarray(wide, np.float32)
