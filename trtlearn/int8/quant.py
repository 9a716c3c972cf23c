"""A number in eight bits: scale, quantize, dequantize, and what is lost, with TensorRT's float32 rules in numpy."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..errors import DataError
from ..record import Record, plural

__all__ = ["QuantError", "dequantize", "errors", "quantize", "scale_from_amax", "weight_scales"]


@dataclass(frozen=True)
class QuantError(Record):
    """What one tensor loses by going to INT8 and back with one scale.

    The mean squared error is split in two that add up to it: clipping (values outside ``[-128, 127] * scale``)
    and rounding (the others). ``sqnr_db`` is ``10 log10(sum x^2 / sum error^2)``: None where the error or x is all
    zero. ``cosine`` is None where either side is all zero.
    """

    scale: float
    count: int
    clipped_count: int
    clipped_fraction: float
    clip_error: float  # sum of squared errors of the clipped values / count
    rounding_error: float  # sum of squared errors of the others / count
    mean_squared_error: float
    max_error: float
    sqnr_db: float | None
    cosine: float | None

    def summary(self) -> str:
        quality = "no error" if self.sqnr_db is None else f"SQNR {self.sqnr_db:.2f} dB"
        return f"scale {self.scale:.6g}: {quality}, {100 * self.clipped_fraction:.3g} % clipped"


def _finite(x: ArrayLike, what: str) -> NDArray[np.float32]:
    try:
        values = np.asarray(x, dtype=np.float32)
    except (TypeError, ValueError) as problem:
        raise DataError(
            f"{what} is no array of numbers: {problem}", "pass a numpy array of floats"
        ) from None
    if not np.isfinite(values).all():
        raise DataError(
            f"{what} holds NaN or infinity",
            "find where they come from: no scale can represent them",
        )
    return values


def _scale(scale: ArrayLike) -> NDArray[np.float32]:
    values = _finite(scale, "scale")
    if (values <= 0).any():
        raise DataError(
            f"scale is {float(values.min())}, expected a number above 0",
            "use amax / 127 with amax > 0",
        )
    return values


def _along(parameter: NDArray[Any], axis: int | None, ndim: int) -> NDArray[Any]:
    """``parameter`` (one number, or C of them) shaped to multiply a tensor of ``ndim`` dimensions along ``axis``."""
    if axis is not None and not -ndim <= axis < ndim:
        raise DataError(
            f"axis {axis} of a {ndim}-dimensional tensor", f"use an axis from {-ndim} to {ndim - 1}"
        )
    if axis is None or parameter.ndim == 0:
        if parameter.size != 1:
            raise DataError(
                f"{parameter.size} scales but no axis", "say which axis of x they belong to: axis=0"
            )
        return parameter.reshape(())
    shape = [1] * ndim
    shape[axis] = parameter.size
    return parameter.reshape(shape)


def _fits(x: NDArray[Any], parameter: NDArray[Any], axis: int | None) -> None:
    if axis is not None and parameter.ndim and parameter.size not in (1, x.shape[axis]):
        raise DataError(
            f"{parameter.size} scales for axis {axis} of shape {x.shape}",
            f"expected {plural(x.shape[axis], 'scale')}",
        )


def scale_from_amax(amax: float) -> np.float32:
    """The scale whose code 127 is ``amax``: ``scale = amax / 127``, one float32 division.

    Source: TensorRT's calibration caches hold exactly this number (measured: data/recordings/, min-max caches).

    >>> float(scale_from_amax(127.0))
    1.0
    """
    value = np.float32(amax)
    if not np.isfinite(value) or value < 0:
        raise DataError(f"amax is {amax}, expected a finite number from 0", "pass max(abs(x))")
    scale: np.float32 = np.float32(value / np.float32(127.0))
    return scale


def quantize(
    x: ArrayLike,
    scale: ArrayLike,
    zero_point: int = 0,
    axis: int | None = None,
    *,
    qmin: int = -128,
    qmax: int = 127,
) -> NDArray[np.int8]:
    """The INT8 codes of ``x``: ``q = clip(round(x / scale) + zero_point, qmin, qmax)``, ties rounded to even.

    ``x``: any shape; ``scale``: one number, or C of them along ``axis``. Result: int8, the shape of ``x``.
    TensorRT's activations use [-128, 127] and zero point 0, its weights [-127, 127] (``qmin=-127``).
    Raises DataError for NaN, infinity, a scale that is not above 0, or a scale that does not fit ``axis``.

    Source: docs.nvidia.com/deeplearning/tensorrt/archives/tensorrt-861/developer-guide, "Quantization"; T#1796.

    >>> quantize([0.25, 0.75, 1.25, 99.0], 0.5).tolist()  # 0.5 and 2.5 go to the even neighbour; 198 clips
    [0, 2, 2, 127]
    """
    if not -128 <= qmin < qmax <= 127:
        raise DataError(f"codes from {qmin} to {qmax}", "use a range inside [-128, 127]")
    values, scales = _finite(x, "x"), _scale(scale)
    spread = _along(scales, axis, values.ndim)
    _fits(values, scales, axis)
    with np.errstate(over="ignore"):
        codes = np.rint(values / spread) + np.float32(zero_point)
    result: NDArray[np.int8] = np.clip(codes, qmin, qmax).astype(np.int8)
    return result


def dequantize(
    q: ArrayLike, scale: ArrayLike, axis: int | None = None, zero_point: int = 0
) -> NDArray[np.float32]:
    """The numbers that codes stand for: ``x = (q - zero_point) * scale`` in float32, the shape of ``q``.

    >>> dequantize([-127, 0, 2], 0.5).tolist()
    [-63.5, 0.0, 1.0]
    """
    codes, scales = np.asarray(q), _scale(scale)
    if not np.issubdtype(codes.dtype, np.integer):
        raise DataError(f"codes are {codes.dtype}, expected integers", "pass what quantize() gave")
    spread = _along(scales, axis, codes.ndim)
    _fits(codes, scales, axis)
    return np.asarray(
        (codes.astype(np.int32) - zero_point).astype(np.float32) * spread, dtype=np.float32
    )


def weight_scales(w: ArrayLike, axis: int = 0) -> NDArray[np.float32]:
    """One scale per output channel of a weight: ``scale[c] = max|w[c]| / 127``, float32 of shape [C].

    ``w``: [C, ...] for a convolution's weight (``axis=0``), [in, out] for a matrix product's (``axis=1``).
    A channel of zeros has scale 0 here: nothing to represent, and quantize() refuses it.

    Source: T#1421 (weights: per channel amax, not configurable in implicit mode).

    >>> weight_scales([[127.0, -1.0], [2.0, -254.0]]).tolist()
    [1.0, 2.0]
    """
    values = _finite(w, "w")
    if not -values.ndim <= axis < values.ndim:
        raise DataError(
            f"axis {axis} of a weight with shape {values.shape}", "use the output channel's axis"
        )
    if values.size == 0:
        raise DataError(
            f"a weight with shape {values.shape} has no values", "pass a weight with values"
        )
    others = tuple(i for i in range(values.ndim) if i != axis % values.ndim)
    return np.asarray(np.abs(values).max(axis=others) / np.float32(127.0), dtype=np.float32)


def errors(x: ArrayLike, scale: float, qmin: int = -128, qmax: int = 127) -> QuantError:
    """What ``x`` (any shape) loses with one ``scale``: clipping apart from rounding, SQNR and cosine, in float64.

    >>> result = errors([1.0, 2.0, 200.0], 1.0)
    >>> result.clipped_count, result.max_error, result.rounding_error
    (1, 73.0, 0.0)
    """
    values = _finite(x, "x")
    if values.size == 0:
        raise DataError("x has no values", "pass at least one number")
    codes = quantize(values, scale, qmin=qmin, qmax=qmax)
    exact = values.astype(np.float64)
    back = dequantize(codes, scale).astype(np.float64)
    with np.errstate(over="ignore"):
        rounded = np.rint(values / np.float32(scale))
    clipped = (rounded < qmin) | (rounded > qmax)
    squares = (exact - back) ** 2
    signal, noise = float((exact**2).sum()), float(squares.sum())
    lengths = math.sqrt(signal) * math.sqrt(float((back**2).sum()))
    clip_error = float(squares[clipped].sum()) / values.size
    rounding_error = float(squares[~clipped].sum()) / values.size
    return QuantError(
        scale=float(np.float32(scale)),
        count=values.size,
        clipped_count=int(clipped.sum()),
        clipped_fraction=float(clipped.mean()),
        clip_error=clip_error,
        rounding_error=rounding_error,
        mean_squared_error=clip_error + rounding_error,
        max_error=float(np.abs(exact - back).max()),
        sqnr_db=10 * math.log10(signal / noise) if signal > 0 and noise > 0 else None,
        cosine=float((exact * back).sum()) / lengths if lengths > 0 else None,
    )
