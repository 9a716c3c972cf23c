"""One INT8 layer of an engine in numpy, and one of its pixels followed by hand."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..errors import DataError
from ..record import Record
from .kernels import (
    conv_sums,
    deconv_sums,
    matmul_sums,
    quantize_weights,
    requantize,
    scaled_sums,
    windows,
)

__all__ = ["Int8Layer", "PixelTrace", "int8_layer", "trace_pixel"]

Floats = NDArray[np.float32]


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
        raise DataError(
            f"{len(w)} input channels in {groups} groups", "the channels must divide evenly"
        )
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
        raise DataError(
            "only INT8 outputs of convolutions and matrix products are traced",
            "give an output_scale",
        )
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
        raise DataError(
            f"position {where} is outside the output of shape {shape}",
            "batch, channel, row, column",
        )
    image, channel, *pixel = where
    first = channel // (maps // layer.geometry.get("groups", 1)) * per_group
    pick: tuple[Any, ...] = (image, slice(first, first + per_group), *pixel)
    return view[pick], layer.codes[channel]
