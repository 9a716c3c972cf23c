"""One INT8 layer of an engine in numpy, and one of its pixels followed by hand."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..errors import DataError
from ..record import Record
from .kernels import conv_sums, deconv_sums, matmul_sums, quantize_weights, requantize, windows

__all__ = ["Int8Layer", "PixelTrace", "int8_layer", "trace_pixel"]

Floats = NDArray[np.float32]


@dataclass(frozen=True)
class Int8Layer:
    """A convolution, deconvolution or matrix product with everything that its INT8 kernel knows.

    ``codes`` are the weights, int8; ``weight_scales`` float32, one per output channel; ``units`` what a sum of 1 is
    worth, float32 (``max|w · s_x| / 127``: s_x · s_w but for its last bits); ``bias`` float32, in the output's units.
    ``output_scale`` None: the layer gives FP32. ``low`` and ``high`` are the fused activation's bounds
    in the output's units (ReLU: 0 and infinity).
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
    geometry: dict[str, Any] = field(
        default_factory=dict
    )  # strides, pads, dilations, groups, output_padding

    @property
    def channel_axis(self) -> int:
        """The output's axis that the channels are on: 1, or the last of a matrix product."""
        return -1 if self.kind == "matmul" else 1

    @property
    def multiplier(self) -> Floats:
        """What a sum is multiplied with: ``s_x · s_w / s_y`` per channel (``s_x · s_w`` for an FP32 output)."""
        return (
            self.units if self.output_scale is None else self.units / np.float32(self.output_scale)
        )

    def sums(self, x: NDArray[np.int8]) -> NDArray[np.int32]:
        """The exact int32 sums of products for the input's codes."""
        if self.kind == "matmul":
            return matmul_sums(x, self.codes)
        return (conv_sums if self.kind == "conv" else deconv_sums)(x, self.codes, **self.geometry)

    def run(self, x: NDArray[np.int8], added: Floats | None = None) -> NDArray[Any]:
        """The output: int8 codes, or float32 where there is no output scale. ``added``: a residual, in its units."""
        sums = self.sums(x)
        if self.output_scale is None:
            spread = [1] * sums.ndim
            spread[self.channel_axis] = -1
            wide = sums.astype(np.float32).astype(np.float64) * self.multiplier.astype(
                np.float64
            ).reshape(spread)
            values = (wide + self.bias.astype(np.float64).reshape(spread)).astype(np.float32)
            values = values if added is None else (values + added).astype(np.float32)
            return np.clip(values, np.float32(self.low), np.float32(self.high))
        step = np.float32(self.output_scale)
        return requantize(
            sums,
            self.multiplier,
            self.bias / step,
            added=0.0 if added is None else (added / step).astype(np.float32),
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
    """The layer that TensorRT makes of FP32 weights: quantized per output channel, bias kept in float.

    ``w``: [O, C / groups, *kernel] for a convolution, [C, O / groups, *kernel] for a deconvolution, [K, M] for a matrix
    product; ``bias`` [O]. ``geometry``: strides, pads (ONNX's order), dilations, groups, output_padding.
    Raises DataError for scales that are not above 0.

    >>> layer = int8_layer(np.ones((1, 1, 1, 1)), 0.5, 0.25, [0.1], low=0.0)
    >>> layer.run(np.array([[[[3, -3]]]], np.int8)).tolist()  # 3 · 0.5 + 0.1 is 1.6: 6.4 steps of 0.25
    [[[[6, 0]]]]
    """
    if kind not in ("conv", "deconv", "matmul"):
        raise DataError(f"kind={kind!r}", "one of conv, deconv, matmul")
    for name, scale in (("input_scale", input_scale), ("output_scale", output_scale)):
        if scale is not None and not (np.isfinite(scale) and scale > 0):
            raise DataError(f"{name} is {scale}, expected a number above 0", "use amax / 127")
    weights = np.asarray(w, np.float32)
    if kind == "deconv":
        groups = int(geometry.get("groups", 1))
        (codes, units), (_, scales) = (
            _quantize_deconv(weights, groups, s) for s in (float(input_scale), 1.0)
        )
    else:
        axis = -1 if kind == "matmul" else 0
        (codes, units), (_, scales) = (
            quantize_weights(weights, axis, s) for s in (float(input_scale), 1.0)
        )
    offset = (
        np.zeros(len(scales), np.float32)
        if bias is None
        else np.asarray(bias, np.float32).reshape(-1)
    )
    if offset.shape != scales.shape:
        raise DataError(f"{offset.size} biases for {scales.size} output channels", "give one each")
    return Int8Layer(
        kind, codes, scales, units, offset, float(input_scale), output_scale, low, high, geometry
    )


def _quantize_deconv(w: Floats, groups: int, input_scale: float) -> tuple[NDArray[np.int8], Floats]:
    """[C, O / groups, *kernel]: output channel g · O / groups + o is w[the channels of group g, o]."""
    parts = np.split(w, groups) if groups > 0 and w.shape[0] % groups == 0 else []
    if not parts:
        raise DataError(
            f"{w.shape[0]} input channels in {groups} groups", "the channels must divide evenly"
        )
    done = [quantize_weights(part, 1, input_scale) for part in parts]
    return np.concatenate([codes for codes, _ in done]), np.concatenate(
        [scales for _, scales in done]
    )


@dataclass(frozen=True)
class PixelTrace(Record):
    """One output pixel, step by step: ``code = clip(round(sum · multiplier + offset + added))``.

    ``inputs``, ``weights`` and ``products`` run over input channels, then the filter's rows and columns; ``steps`` is
    the result before rounding, in steps of the output's scale.
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
        return (
            f"pixel {self.position}: sum {self.sum:,} · {self.multiplier:.6g} + {self.offset:.6g} + {self.added:.6g} = "
            f"{self.steps:.6g} steps -> code {self.code} = {self.value:.6g}"
        )

    def rows(self) -> list[dict[str, Any]]:
        return [
            {"input": x, "weight": w, "product": p, "sum so far": int(total)}
            for x, w, p, total in zip(
                self.inputs, self.weights, self.products, np.cumsum(self.products), strict=True
            )
        ]


def trace_pixel(
    layer: Int8Layer, x: NDArray[np.int8], position: Sequence[int], added: float = 0.0
) -> PixelTrace:
    """Follow one output pixel of an INT8 convolution or matrix product by hand.

    ``x``: the input's codes; ``position``: (batch, channel, *space) of a convolution's output, or the index of a matrix
    product's output; ``added``: the residual's value there. Raises DataError for a deconvolution, an FP32 output or a
    position outside.

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
    if layer.kind == "matmul":
        seen, channel = x[where[:-1]], where[-1]
        weights = layer.codes[:, channel]
    else:
        geometry = {key: value for key, value in layer.geometry.items() if key != "groups"}
        view = windows(x, layer.codes.shape[2:], **geometry)
        per_group = layer.codes.shape[1]
        channel = where[1]
        group = channel // (layer.codes.shape[0] // layer.geometry.get("groups", 1))
        shape = (view.shape[0], layer.codes.shape[0], *view.shape[2 : x.ndim])
        if len(where) != len(shape) or any(
            not 0 <= i < n for i, n in zip(where, shape, strict=True)
        ):
            raise DataError(
                f"position {where} is outside the output of shape {shape}",
                "batch, channel, row, column",
            )
        pick: tuple[Any, ...] = (
            where[0],
            slice(group * per_group, (group + 1) * per_group),
            *where[2:],
        )
        seen, weights = view[pick], layer.codes[channel]
    inputs, codes = seen.astype(np.int64).ravel(), weights.astype(np.int64).ravel()
    products = inputs * codes
    total = int(products.sum())
    step = np.float32(layer.output_scale)
    multiplier, offset = layer.multiplier[channel], np.float32(layer.bias[channel] / step)
    residual = np.float32(np.float32(added) / step)
    steps = np.float32(np.float64(np.float32(total)) * np.float64(multiplier) + np.float64(offset))
    steps = np.float32(steps + residual)
    low, high = (
        max(-128.0, min(127.0, float(np.float32(bound) / step)))
        for bound in (layer.low, layer.high)
    )
    code = int(np.rint(np.clip(steps, np.float32(low), np.float32(high))))
    return PixelTrace(
        position=where,
        inputs=tuple(map(int, inputs)),
        weights=tuple(map(int, codes)),
        products=tuple(map(int, products)),
        sum=total,
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
