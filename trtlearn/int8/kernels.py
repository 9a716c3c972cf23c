"""One INT8 layer in numpy: codes, exact sums and back to codes, and a pixel followed by hand.

``sum = Σ x · w`` of INT8 codes is exact. One float32 multiplication, an addition and a rounding
turn it into the output's code: ``y = clip(round(sum · s_x s_w / s_y + bias / s_y))``. Measured
against TensorRT 8.6.0 on an H200, layer by layer: data/recordings/h200-8.6.0/arithmetic,
tests/int8/test_arithmetic_recorded.py.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import ArrayLike, NDArray

from ..errors import DataError
from ..record import Record
from .quant import along, channel_amax, finite_array

__all__ = [
    "Int8Layer",
    "PixelTrace",
    "conv_sums",
    "deconv_sums",
    "int8_layer",
    "matmul_sums",
    "quantize_activations",
    "quantize_weights",
    "requantize",
    "scaled_sums",
    "trace_pixel",
    "windows",
]

Codes = NDArray[np.int8]
Floats = NDArray[np.float32]
Sums = NDArray[np.int32]
Sizes = int | Sequence[int] | None
"""One number for each spatial dimension, one for all of them, or the default."""
CHUNK_BYTES = 1 << 27
"""How much memory conv_sums takes for the windows of one chunk of images."""


# From float32 to codes: weights by the builder, activations by a reformat or a kernel


def quantize_weights(w: ArrayLike, axis: int = 0, input_scale: float = 1.0) -> tuple[Codes, Floats]:
    """Codes in [-127, 127] and one step per output channel: ``step = max|w · s_x| / 127``.

    ``q = round(w · s_x / step)``. ``w``: [C, ...] with the output channels along ``axis``. Returns
    int8 codes of w's shape and float32 steps [C]: with the layer's ``input_scale`` s_x what a sum
    of 1 is worth, without it the weights' scales. Ties go away from zero, and the division is a
    multiplication by float32(1 / step): both matter only to weights within a few last bits of a
    tie. A channel whose step is below float32's smallest normal number has codes 0 and step 0.

    Source: measured, data/recordings/h200-8.6.0/arithmetic: weights_edge (8,128 weights near a tie,
    all equal), conv_add_relu (a weight that s_x moves across a tie), conv_fp32_out (the steps, to
    the last bit). T#1421 (per output channel), T#1796 (weights stay in [-127, 127]).

    >>> codes, scales = quantize_weights([[127.0, -62.5, 0.5], [0.0, 0.0, 0.0]])
    >>> codes.tolist(), scales.tolist()
    ([[127, -63, 1], [0, 0, 0]], [1.0, 0.0])
    """
    values = finite_array(w, "w")
    with np.errstate(over="ignore", under="ignore"):
        scaled = values * np.float32(input_scale)
        steps = channel_amax(scaled, axis) / np.float32(127)
        steps = np.where(steps >= np.finfo(np.float32).tiny, steps, np.float32(0))
        inverse = np.divide(np.float32(1), steps, out=np.zeros_like(steps), where=steps > 0)
        ratio = (scaled * along(inverse, axis, scaled.ndim)).astype(np.float64)
    codes = np.copysign(np.floor(np.abs(ratio) + 0.5), ratio)
    return np.clip(codes, -127, 127).astype(np.int8), steps


def quantize_activations(x: ArrayLike, scale: float) -> Codes:
    """The codes that the engine makes of floats: ``clip(round(x · float32(1 / scale)))``.

    A reformat or a kernel does it. Ties go to the even neighbour, codes lie in [-128, 127], NaN
    becomes -128. quant.quantize divides by the scale instead, as ONNX says: the two differ by one
    for some numbers within a few last bits of a tie.

    Source: measured, data/recordings/h200-8.6.0/arithmetic: image_ties, image_near_ties (6,400
    numbers within 12 last bits of a tie, all equal; by division 110 differ), image_special.

    >>> quantize_activations([0.25, 0.75, 1.25, 99.0, float("nan")], 0.5).tolist()
    [0, 2, 2, 127, -128]
    """
    step = np.float32(scale)
    if not (np.isfinite(step) and step > 0):
        problem = f"scale is {scale}, expected a number above 0"
        raise DataError(problem, "use amax / 127 with amax > 0")
    with np.errstate(over="ignore", under="ignore", invalid="ignore"):
        codes = np.rint(np.asarray(x, np.float32) * (np.float32(1) / step))
    return np.where(np.isnan(codes), -128, np.clip(codes, -128, 127)).astype(np.int8)


# Sums of products


def _codes(array: ArrayLike, what: str, ndim: int | None = None) -> Codes:
    """``array``, which must be int8 with ``ndim`` dimensions."""
    values = np.asarray(array)
    if values.dtype != np.int8:
        raise DataError(f"{what} is {values.dtype}, expected int8 codes", "quantize it first")
    if ndim is not None and values.ndim != ndim:
        problem = f"{what} has shape {values.shape}, expected {ndim} dimensions"
        raise DataError(problem, "batch, channels, then space")
    return values


def _each(value: Sizes, count: int, default: int, what: str) -> NDArray[np.int64]:
    """``count`` whole numbers from 0, from one for all of them, from a list, or the default."""
    given = default if value is None else value
    sizes = np.full(count, given) if isinstance(given, int) else np.array(given, np.int64)
    if len(sizes) != count or sizes.min(initial=1) < 0:
        problem = f"{what}={value!r}, expected {count} numbers from 0"
        raise DataError(problem, "one for each spatial dimension")
    return sizes


def windows(
    x: NDArray[Any],
    kernel: Sequence[int],
    strides: Sizes = None,
    pads: Sizes = None,
    dilations: Sizes = None,
    fill: float = 0,
) -> NDArray[Any]:
    """What each output pixel of a filter sees: [N, C, *space] -> [N, C, *out, *kernel], a view.

    ``pads`` are ONNX's: all the beginnings, then all the ends (or one number for all), filled with
    ``fill``.

    >>> windows(np.arange(5).reshape(1, 1, 5), [3], pads=1)[0, 0, 0].tolist()
    [0, 0, 1]
    """
    rank = len(kernel)
    steps = _each(strides, rank, 1, "strides")
    gaps = _each(dilations, rank, 1, "dilations")
    edges = _each(pads, 2 * rank, 0, "pads")
    if x.ndim != rank + 2:
        problem = f"the input has shape {x.shape}, expected {rank + 2} dimensions"
        raise DataError(problem, "batch, channels, then space")
    margins = [(0, 0), (0, 0), *zip(edges[:rank], edges[rank:], strict=True)]
    padded = np.pad(x, margins, constant_values=fill)
    reach = (np.array(kernel) - 1) * gaps + 1
    if steps.min() < 1 or gaps.min() < 1 or (reach > padded.shape[2:]).any():
        raise DataError(
            f"a filter that reaches over {reach.tolist()} does not fit into {padded.shape[2:]} "
            f"(strides {steps.tolist()}, dilations {gaps.tolist()})",
            "pad the input, or use a smaller filter",
        )
    axes: Any = tuple(range(2, rank + 2))  # numpy 2.2's types know no tuple here
    view = sliding_window_view(padded, tuple(reach), axis=axes)
    picks = [slice(None, None, int(step)) for step in (1, 1, *steps, *gaps)]
    return np.asarray(view[tuple(picks)])


def _product(rows: Codes, columns: Codes) -> Sums:
    """Exact int32 of int8 rows [..., P, K] times columns [..., K, M], by the fast float product.

    Every partial sum is below 2^24 in float32, or 2^53 in float64, so no addition rounds.
    """
    exact = np.float32 if rows.shape[-1] * 128 * 128 <= 1 << 24 else np.float64
    return np.asarray(np.matmul(rows.astype(exact), columns.astype(exact)), np.int32)


def conv_sums(
    x: Codes,
    w: Codes,
    *,
    strides: Sizes = None,
    pads: Sizes = None,
    dilations: Sizes = None,
    groups: int = 1,
) -> Sums:
    """The exact sums of an INT8 convolution: ``sum[n, o, p] = Σ x[n, i, p + k] · w[o, i, k]``.

    ``x`` [N, C, *space] int8, ``w`` [O, C / groups, *kernel] int8, in 1, 2 or 3 dimensions.
    Result: [N, O, *out]. Raises DataError for shapes that do not fit each other.

    >>> x, w = np.full((1, 1, 3, 3), 127, np.int8), np.full((1, 1, 3, 3), -127, np.int8)
    >>> conv_sums(x, w, pads=1)[0, 0, 1].tolist()
    [-96774, -145161, -96774]
    """
    codes, weights = _codes(x, "x"), _codes(w, "w", np.ndim(x))
    count, channels = codes.shape[:2]
    maps, per_group, *kernel = weights.shape
    if groups < 1 or per_group * groups != channels or maps % groups:
        raise DataError(
            f"a weight of shape {weights.shape} in {groups} groups does not fit "
            f"{channels} input channels",
            f"expected [maps, {channels} / groups, ...] with maps a multiple of groups",
        )
    rank = len(kernel)
    columns = weights.reshape(groups, maps // groups, -1).transpose(0, 2, 1)
    seen = windows(codes, kernel, strides, pads, dilations)
    out = seen.shape[2 : 2 + rank]
    pixels = math.prod(out)
    image_bytes = 8 * channels * pixels * math.prod(kernel)
    step = max(1, CHUNK_BYTES // max(1, image_bytes))
    chunks = []
    for start in range(0, count, step):
        part = seen[start : start + step].reshape(-1, groups, per_group, *seen.shape[2:])
        rows = np.moveaxis(part, 2, 2 + rank).reshape(len(part), groups, pixels, -1)
        sums = _product(rows, columns)  # [images, groups, pixels, maps / groups]
        chunks.append(sums.transpose(0, 1, 3, 2).reshape(len(part), maps, *out))
    return np.concatenate(chunks)


def deconv_sums(
    x: Codes,
    w: Codes,
    *,
    strides: Sizes = None,
    pads: Sizes = None,
    dilations: Sizes = None,
    groups: int = 1,
    output_padding: Sizes = None,
) -> Sums:
    """The int32 sums of an INT8 deconvolution (ONNX's ConvTranspose): each pixel adds its filter.

    ``x`` [N, C, *space] int8, ``w`` [C, O / groups, *kernel] int8. Computed as a convolution of the
    input spread out by ``strides`` with the mirrored filter. Result: [N, O, *out], int32.

    >>> x, w = np.array([[[3, -2]]], np.int8), np.array([[[1, 10]]], np.int8)
    >>> deconv_sums(x, w, strides=2).tolist()
    [[[3, 30, -2, -20]]]
    """
    codes, weights = _codes(x, "x"), _codes(w, "w", np.ndim(x))
    channels, per_group, *kernel = weights.shape
    rank = len(kernel)
    steps = _each(strides, rank, 1, "strides")
    gaps = _each(dilations, rank, 1, "dilations")
    edges = _each(pads, 2 * rank, 0, "pads")
    more = _each(output_padding, rank, 0, "output_padding")
    if groups < 1 or channels != codes.shape[1] or channels % groups:
        raise DataError(
            f"a weight of shape {weights.shape} in {groups} groups does not fit "
            f"{codes.shape[1]} input channels",
            "expected [channels, maps / groups, ...] with channels a multiple of groups",
        )
    space = (np.array(codes.shape[2:]) - 1) * steps + 1
    spread = np.zeros((*codes.shape[:2], *space), np.int8)
    spread[tuple(slice(None, None, int(step)) for step in (1, 1, *steps))] = codes
    reach = (np.array(kernel) - 1) * gaps
    begin, end = reach - edges[:rank], reach - edges[rank:] + more  # below 0: cut instead of padded
    first, last = np.maximum(-begin, 0), space - np.maximum(-end, 0)
    inner = [slice(int(a), int(b)) for a, b in zip(first, last, strict=True)]
    mirrored = np.flip(weights, tuple(range(2, 2 + rank)))
    mirrored = mirrored.reshape(groups, channels // groups, per_group, *kernel).swapaxes(1, 2)
    return conv_sums(
        spread[(slice(None), slice(None), *inner)],
        mirrored.reshape(groups * per_group, channels // groups, *kernel),
        pads=np.maximum([*begin, *end], 0).tolist(),
        dilations=gaps.tolist(),
        groups=groups,
    )


def matmul_sums(x: Codes, w: Codes) -> Sums:
    """The int32 sums of an INT8 matrix product: [..., P, K] times [K, M] (or [..., K, M]), exact.

    >>> matmul_sums(np.array([[1, -128]], np.int8), np.array([[2], [127]], np.int8)).tolist()
    [[-16254]]
    """
    rows, columns = _codes(x, "x"), _codes(w, "w")
    if rows.ndim < 1 or columns.ndim < 2 or rows.shape[-1] != columns.shape[-2]:
        problem = f"shapes {rows.shape} and {columns.shape} do not multiply"
        raise DataError(problem, "expected [..., P, K] and [..., K, M]")
    return _product(rows, columns)


# Back to eight bits


def scaled_sums(sums: Sums, multiplier: ArrayLike, offset: ArrayLike, axis: int = 1) -> Floats:
    """``float32(sum) · multiplier + offset`` with one rounding, as the GPU does it.

    Its fused multiply-add does not round in between. ``multiplier`` and ``offset``: one number, or
    one per channel along ``axis``, float32. Exact in float64, then rounded to float32.
    """
    factor, shift = np.asarray(multiplier, np.float32), np.asarray(offset, np.float32)
    wide = sums.astype(np.float32).astype(np.float64)
    wide = wide * _wide(factor, axis, wide.ndim) + _wide(shift, axis, wide.ndim)
    return np.asarray(wide, np.float32)


def _wide(values: Floats, axis: int, ndim: int) -> NDArray[np.float64]:
    exact = values.astype(np.float64)
    return along(exact, axis, ndim) if exact.ndim else exact


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
    """The output's codes: ``y = clip(round(sum · multiplier + offset + added), low, high)``.

    Ties go to the even neighbour. ``multiplier`` (s_x · s_w / s_y) and ``offset`` (bias / s_y): one
    number or one per channel along ``axis``, float32. ``added``: the residual in output steps
    (codes · s_r / s_y), the sums' shape. ``low`` and ``high`` are the fused activation in output
    steps (ReLU: low = 0), inside [-128, 127].

    >>> requantize(np.array([[10, 30, -500]], np.int32), 0.25).tolist()
    [[2, 8, -125]]
    """
    values = np.asarray(sums)
    if values.dtype != np.int32:
        problem = f"sums are {values.dtype}, expected int32"
        raise DataError(problem, "use conv_sums, deconv_sums or matmul_sums")
    steps = scaled_sums(values, multiplier, offset, axis)
    if np.ndim(added) or added:
        steps = steps + np.asarray(added, np.float32)
    steps = np.clip(steps, np.float32(max(low, -128.0)), np.float32(min(high, 127.0)))
    return np.asarray(np.rint(steps), np.int8)


# A layer, and one of its pixels


@dataclass(frozen=True)
class Int8Layer:
    """A convolution, deconvolution or matrix product with everything that its INT8 kernel knows.

    ``codes`` are the weights, int8; ``weight_scales`` float32, one per output channel; ``units``
    what a sum of 1 is worth, float32 (``max|w · s_x| / 127``: s_x · s_w but for its last bits);
    ``bias`` float32, in the output's units. ``output_scale`` None: the layer gives FP32. ``low``
    and ``high`` are the fused activation's bounds in the output's units (ReLU: 0 and infinity).
    ``geometry``: strides, pads, dilations, groups, output_padding.
    """

    kind: str  # conv, deconv, matmul
    codes: NDArray[np.int8] = field(repr=False)
    weight_scales: Floats = field(repr=False)
    units: Floats = field(repr=False)
    bias: Floats = field(repr=False)
    input_scale: float
    output_scale: float | None
    low: float = -np.inf
    high: float = np.inf
    geometry: dict[str, Any] = field(default_factory=dict)
    reads: str = ""  # its input tensor, and the tensor that leaves it
    writes: str = ""

    @property
    def channel_axis(self) -> int:
        """The output's axis that the channels are on: 1, or the last of a matrix product."""
        return -1 if self.kind == "matmul" else 1

    @property
    def multiplier(self) -> Floats:
        """Each channel's factor of a sum: ``s_x · s_w / s_y``, or ``s_x · s_w`` for FP32."""
        return (
            self.units if self.output_scale is None else self.units / np.float32(self.output_scale)
        )

    def sums(self, x: NDArray[np.int8]) -> NDArray[np.int32]:
        """The exact int32 sums of products for the input's codes."""
        if self.kind == "matmul":
            return matmul_sums(x, self.codes)
        return (conv_sums if self.kind == "conv" else deconv_sums)(x, self.codes, **self.geometry)

    def run(self, x: NDArray[np.int8], added: Floats | None = None) -> NDArray[Any]:
        """The output: int8 codes, or float32 without an output scale; ``added``: a residual."""
        sums = self.sums(x)
        if self.output_scale is None:
            values = scaled_sums(sums, self.multiplier, self.bias, self.channel_axis)
            values = values if added is None else values + np.asarray(added, np.float32)
            return np.clip(values, np.float32(self.low), np.float32(self.high))
        step = np.float32(self.output_scale)
        return requantize(
            sums,
            self.multiplier,
            self.bias / step,
            added=0.0 if added is None else added / step,
            low=float(np.float32(self.low) / step),
            high=float(np.float32(self.high) / step),
            axis=self.channel_axis,
        )


def int8_layer(
    w: ArrayLike,
    input_scale: float,
    output_scale: float | None,
    bias: ArrayLike | None = None,
    *,
    kind: str = "conv",
    low: float = -np.inf,
    high: float = np.inf,
    **geometry: Any,
) -> Int8Layer:
    """The layer that TensorRT makes of FP32 weights: codes per output channel, the bias in float.

    ``w``: [O, C / groups, *kernel] for a convolution, [C, O / groups, *kernel] for a deconvolution,
    [K, M] for a matrix product; ``bias`` [O]. ``geometry``: strides, pads (ONNX's order),
    dilations, groups, output_padding. Raises DataError for scales that are not above 0.

    >>> layer = int8_layer(np.ones((1, 1, 1, 1)), 0.5, 0.25, [0.1], low=0.0)
    >>> layer.run(np.array([[[[3, -3]]]], np.int8)).tolist()  # 3 · 0.5 + 0.1: 6.4 steps
    [[[[6, 0]]]]
    """
    if kind not in ("conv", "deconv", "matmul"):
        raise DataError(f"kind={kind!r}", "one of conv, deconv, matmul")
    for name, scale in (("input_scale", input_scale), ("output_scale", output_scale)):
        if scale is not None and not (np.isfinite(scale) and scale > 0):
            raise DataError(f"{name} is {scale}, expected a number above 0", "use amax / 127")
    weights = np.asarray(w, np.float32)
    codes, units = _quantized(weights, kind, geometry, float(input_scale))
    _, scales = _quantized(weights, kind, geometry, 1.0)
    offsets = np.zeros(len(scales)) if bias is None else np.asarray(bias).reshape(-1)
    if offsets.shape != scales.shape:
        raise DataError(f"{offsets.size} biases for {scales.size} output channels", "give one each")
    return Int8Layer(
        kind=kind,
        codes=codes,
        weight_scales=scales,
        units=units,
        bias=offsets.astype(np.float32),
        input_scale=float(input_scale),
        output_scale=output_scale,
        low=low,
        high=high,
        geometry=geometry,
    )


def _quantized(
    w: Floats, kind: str, geometry: Mapping[str, Any], input_scale: float
) -> tuple[NDArray[np.int8], Floats]:
    """A layer's codes and steps per output channel.

    A deconvolution's weight is [C, O / groups, *kernel]: its output channel g · O / groups + o is
    w[the channels of group g, o], so each group is quantized apart.
    """
    if kind != "deconv":
        return quantize_weights(w, -1 if kind == "matmul" else 0, input_scale)
    groups = int(geometry.get("groups", 1))
    if groups < 1 or len(w) % groups:
        problem = f"{len(w)} input channels in {groups} groups"
        raise DataError(problem, "the channels must divide evenly")
    parts = [quantize_weights(part, 1, input_scale) for part in np.split(w, groups)]
    codes, steps = zip(*parts, strict=True)
    return np.concatenate(codes), np.concatenate(steps)


@dataclass(frozen=True)
class PixelTrace(Record):
    """One output pixel, step by step: ``code = clip(round(sum · multiplier + offset + added))``.

    ``inputs``, ``weights`` and ``products`` run over input channels, then the filter's rows and
    columns; ``steps`` is the result before rounding, in steps of the output's scale.
    """

    position: tuple[int, ...]  # batch, channel, row, column
    inputs: tuple[int, ...]
    weights: tuple[int, ...]
    products: tuple[int, ...]
    sum: int
    input_scale: float
    weight_scale: float
    output_scale: float
    multiplier: float
    bias: float
    offset: float  # bias / output_scale
    added: float  # the residual, in steps
    steps: float
    low: float  # the activation's bounds, in steps
    high: float
    code: int
    value: float  # code · output_scale

    def summary(self) -> str:
        image, channel, row, column = (*self.position, 0, 0)[:4]
        terms = f"sum {self.sum:,} · {self.multiplier:.4g}"
        for part in (self.offset, self.added):
            terms += f" {'−' if part < 0 else '+'} {abs(part):.4g}" if part else ""
        return (
            f"image {image}, channel {channel}, row {row}, column {column}: "
            f"{terms} = {self.steps:.6g} steps → code {self.code} = {self.value:.6g}"
        )

    def rows(self) -> list[dict[str, Any]]:
        sums = np.cumsum(self.products).tolist()
        columns = zip(self.inputs, self.weights, self.products, sums, strict=True)
        return [
            {"input": x, "weight": w, "product": product, "sum so far": total}
            for x, w, product, total in columns
        ]


def trace_pixel(
    layer: Int8Layer, x: NDArray[np.int8], position: Sequence[int], added: float = 0.0
) -> PixelTrace:
    """Follow one output pixel of an INT8 convolution or matrix product by hand.

    ``x``: the input's codes; ``position``: (batch, channel, *space) of a convolution's output, or
    the index of a matrix product's output; ``added``: the residual's value there. Raises DataError
    for a deconvolution, an FP32 output or a position outside.

    >>> layer = int8_layer([[[[1.0, -1.0]]]], 0.5, 0.25)
    >>> trace = trace_pixel(layer, np.array([[[[3, 1, 2]]]], np.int8), (0, 0, 0, 1))
    >>> trace.products, trace.sum, trace.code
    ((127, -254), -127, -2)
    """
    if layer.kind == "deconv" or layer.output_scale is None:
        problem = "only INT8 outputs of convolutions and matrix products are traced"
        raise DataError(problem, "give an output_scale")
    where = tuple(int(i) for i in position)
    channel = where[layer.channel_axis]
    seen, weights = _one_pixel(layer, x, where)
    inputs, codes = seen.astype(np.int64).ravel(), weights.astype(np.int64).ravel()
    products = inputs * codes
    total = products.sum()
    step = np.float32(layer.output_scale)
    multiplier, offset = layer.multiplier[channel], layer.bias[channel] / step
    residual = np.float32(added) / step
    steps = scaled_sums(total, multiplier, offset) + residual
    low = float(np.clip(np.float32(layer.low) / step, -128, 127))
    high = float(np.clip(np.float32(layer.high) / step, -128, 127))
    code = int(np.rint(np.clip(steps, np.float32(low), np.float32(high))))
    return PixelTrace(
        position=where,
        inputs=tuple(inputs.tolist()),
        weights=tuple(codes.tolist()),
        products=tuple(products.tolist()),
        sum=int(total),
        input_scale=layer.input_scale,
        weight_scale=float(layer.weight_scales[channel]),
        output_scale=float(step),
        multiplier=float(multiplier),
        bias=float(layer.bias[channel]),
        offset=float(offset),
        added=float(residual),
        steps=float(steps),
        low=low,
        high=high,
        code=code,
        value=float(np.float32(code) * step),
    )


def _one_pixel(
    layer: Int8Layer, x: NDArray[np.int8], where: tuple[int, ...]
) -> tuple[NDArray[np.int8], NDArray[np.int8]]:
    """The input codes that the output pixel ``where`` sees, and the weights they meet."""
    if layer.kind == "matmul":
        return x[where[:-1]], layer.codes[:, where[-1]]
    geometry = {key: value for key, value in layer.geometry.items() if key != "groups"}
    view = windows(x, layer.codes.shape[2:], **geometry)
    maps, per_group = layer.codes.shape[:2]
    shape = (view.shape[0], maps, *view.shape[2 : x.ndim])
    inside = len(where) == len(shape) and all(0 <= i < n for i, n in zip(where, shape, strict=True))
    if not inside:
        problem = f"position {where} is outside the output of shape {shape}"
        raise DataError(problem, "batch, channel, row, column")
    image, channel, *pixel = where
    first = channel // (maps // layer.geometry.get("groups", 1)) * per_group
    pick: tuple[Any, ...] = (image, slice(first, first + per_group), *pixel)
    return view[pick], layer.codes[channel]
