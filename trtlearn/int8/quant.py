"""A number in eight bits: scale, codes and back, what is lost; TensorRT's float32 rules."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..errors import DataError
from ..record import Record, plural

__all__ = [
    "QuantError",
    "dequantize",
    "quantization_error",
    "quantize",
    "scale_from_amax",
    "sqnr_db",
    "weight_scales",
]

Floats = NDArray[np.float32]


# Checks and shapes


def finite_array(x: ArrayLike, what: str) -> Floats:
    """``x`` as float32; DataError, which calls it ``what``, for no numbers, NaN or infinity."""
    try:
        values = np.asarray(x, dtype=np.float32)
    except (TypeError, ValueError) as problem:
        fix = "pass a numpy array of floats"
        raise DataError(f"{what} is no array of numbers: {problem}", fix) from None
    if not np.isfinite(values).all():
        raise DataError(f"{what} holds NaN or infinity", "no scale can represent them: clean it")
    return values


def along(values: NDArray[Any], axis: int, ndim: int) -> NDArray[Any]:
    """C numbers, shaped to multiply a tensor of ``ndim`` dimensions along ``axis``."""
    if not -ndim <= axis < ndim:
        problem = f"axis {axis} of a {ndim}-dimensional tensor"
        raise DataError(problem, f"use an axis from {-ndim} to {ndim - 1}")
    shape = [1] * ndim
    shape[axis] = values.size
    return values.reshape(shape)


def channel_amax(w: Floats, axis: int) -> Floats:
    """The largest magnitude of each channel along ``axis``: float32 [C], 0 for an empty channel."""
    along(np.zeros(1), axis, w.ndim)  # checks the axis
    others = tuple(i for i in range(w.ndim) if i != axis % w.ndim)
    return np.asarray(np.abs(w).max(axis=others, initial=0.0), np.float32)


def _scales_for(shape: tuple[int, ...], scale: ArrayLike, axis: int | None) -> NDArray[Any]:
    """One scale, or C along ``axis``, shaped to divide a tensor of ``shape``; all above 0."""
    scales = finite_array(scale, "scale")
    if (scales <= 0).any():
        problem = f"scale is {float(scales.min())}, expected a number above 0"
        raise DataError(problem, "use amax / 127 with amax > 0")
    if axis is None:
        if scales.size != 1:
            raise DataError(f"{scales.size} scales but no axis", "say which axis is theirs: axis=0")
        return scales.reshape(())
    spread = along(scales, axis, len(shape))
    if scales.size not in (1, shape[axis]):
        problem = f"{scales.size} scales for axis {axis} of shape {shape}"
        raise DataError(problem, f"expected {plural(shape[axis], 'scale')}")
    return spread


# There and back


def scale_from_amax(amax: float) -> np.float32:
    """The scale whose code 127 is ``amax``: ``scale = amax / 127``, one float32 division.

    Source: TensorRT's calibration caches hold exactly this number (measured: data/recordings/,
    min-max caches).

    >>> float(scale_from_amax(127.0))
    1.0
    """
    value = np.float32(amax)
    if not np.isfinite(value) or value < 0 or value == 0 < amax:
        problem = f"amax is {amax}, expected a finite number from 0 that float32 holds"
        raise DataError(problem, "pass max(abs(x))")
    return np.float32(value / np.float32(127.0))


def quantize(
    x: ArrayLike,
    scale: ArrayLike,
    zero_point: int = 0,
    axis: int | None = None,
    *,
    qmin: int = -128,
    qmax: int = 127,
) -> NDArray[np.int8]:
    """The INT8 codes of ``x``: ``q = clip(round(x / scale) + zero_point, qmin, qmax)``.

    Ties go to the even neighbour. TensorRT's activations use [-128, 127] and zero point 0, its
    weights [-127, 127]: ``qmin=-127``.

    Args:
        x: any shape; computed in float32.
        scale: one number, or C of them along ``axis``, above 0, in the units of ``x``.
        zero_point: the code of the number 0; TensorRT takes 0 only.
        axis: which axis of ``x`` the scales belong to; None for one scale.
        qmin, qmax: the smallest and the largest code.

    Returns:
        int8, the shape of ``x``.

    Raises DataError for NaN, infinity, a scale that is not above 0, or one that does not fit
    ``axis``.

    >>> quantize([0.25, 0.75, 1.25, 99.0], 0.5).tolist()  # 0.5 and 2.5 go to even; 198 clips
    [0, 2, 2, 127]
    >>> quantize([[1.0, 2.0], [1.0, 2.0]], [1.0, 0.5], axis=0).tolist()  # a scale for each row
    [[1, 2], [2, 4]]

    Source: docs.nvidia.com/deeplearning/tensorrt/archives/tensorrt-861/developer-guide,
    "Quantization"; T#1796 (weights stay in [-127, 127]).
    """
    if not -128 <= qmin < qmax <= 127:
        raise DataError(f"codes from {qmin} to {qmax}", "use a range inside [-128, 127]")
    values = finite_array(x, "x")
    scales = _scales_for(values.shape, scale, axis)
    with np.errstate(over="ignore"):
        codes = np.rint(values / scales) + np.float32(zero_point)
    return np.asarray(np.clip(codes, qmin, qmax), np.int8)


def dequantize(
    q: ArrayLike, scale: ArrayLike, axis: int | None = None, zero_point: int = 0
) -> Floats:
    """The numbers that codes stand for: ``x = (q - zero_point) * scale``.

    Args:
        q: integer codes of any shape.
        scale, axis, zero_point: those that made the codes, as in quantize().

    Returns:
        float32, the shape of ``q``, in the units of ``scale``.

    Raises DataError for codes that are no integers, and for scales as quantize() does.

    >>> dequantize([-127, 0, 2], 0.5).tolist()
    [-63.5, 0.0, 1.0]

    Source: docs.nvidia.com/deeplearning/tensorrt/archives/tensorrt-861/developer-guide,
    "Quantization".
    """
    codes = np.asarray(q)
    scales = _scales_for(codes.shape, scale, axis)
    if not np.issubdtype(codes.dtype, np.integer):
        raise DataError(f"codes are {codes.dtype}, expected integers", "pass what quantize() gave")
    steps = (codes.astype(np.int32) - zero_point).astype(np.float32)
    return np.asarray(steps * scales, dtype=np.float32)


def weight_scales(w: ArrayLike, axis: int = 0) -> Floats:
    """One scale per output channel of a weight: ``scale[c] = max|w[c]| / 127``, float32 [C].

    ``w``: [C, ...] for a convolution's weight (``axis=0``), [in, out] for a matrix product's
    (``axis=1``). A channel of zeros has scale 0 here: nothing to represent, and quantize()
    refuses it.

    Source: T#1421 (weights: per channel amax, not configurable in implicit mode).

    >>> weight_scales([[127.0, -1.0], [2.0, -254.0]]).tolist()
    [1.0, 2.0]
    """
    values = finite_array(w, "w")
    largest = channel_amax(values, axis)
    if values.size == 0:
        raise DataError(f"a weight of shape {values.shape} has no values", "pass one with values")
    return np.asarray(largest / np.float32(127.0), np.float32)


# What is lost


def sqnr_db(reference: ArrayLike, values: ArrayLike) -> float | None:
    """The signal-to-noise ratio in dB: ``10 log10(Σ reference² / Σ (reference - values)²)``.

    Both of one shape, any; computed in float64. The one rule for the rest: None where the two are
    equal or the reference is all zero (there is no ratio), -inf where ``values`` hold NaN or
    infinity (all is lost).

    >>> sqnr_db([10.0, 0.0], [10.0, 1.0]), sqnr_db([1.0], [1.0]), sqnr_db([1.0], [np.nan])
    (20.0, None, -inf)
    """
    exact = np.asarray(reference, np.float64)
    with np.errstate(all="ignore"):
        signal = float((exact**2).sum())
        noise = float(((exact - np.asarray(values, np.float64)) ** 2).sum())
    if not np.isfinite(noise):
        return float("-inf")
    return float(10 * np.log10(signal / noise)) if signal > 0 and noise > 0 else None


def cosine(reference: ArrayLike, values: ArrayLike) -> float | None:
    """The cosine of the angle between two tensors of one shape; None where either is all zero.

    >>> cosine([3.0, 4.0], [6.0, 8.0]), cosine([1.0], [0.0])
    (1.0, None)
    """
    exact, other = np.asarray(reference, np.float64), np.asarray(values, np.float64)
    lengths = float(np.sqrt((exact**2).sum()) * np.sqrt((other**2).sum()))
    return float((exact * other).sum()) / lengths if lengths > 0 else None


@dataclass(frozen=True)
class QuantError(Record):
    """What one tensor loses by going to INT8 and back with one scale.

    The mean squared error is split in two that add up to it: clipping (values outside
    ``[-128, 127] * scale``) and rounding (the others). ``sqnr_db`` and ``cosine`` are None where
    there is no ratio.
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


def quantization_error(x: ArrayLike, scale: float, qmin: int = -128, qmax: int = 127) -> QuantError:
    """What ``x`` loses with one ``scale``: clipping apart from rounding, SQNR and cosine.

    Args:
        x: at least one number, any shape.
        scale: one number above 0, in the units of ``x``.
        qmin, qmax: the smallest and the largest code; -127 and 127 for weights.

    Returns:
        a QuantError: errors in the units of ``x`` (squared errors in their square), computed in
        float64 from float32 values; ``sqnr_db`` in dB.

    Raises DataError as quantize() does, and for no values.

    >>> error = quantization_error([1.0, 2.0, 200.0], 1.0)
    >>> error.clipped_count, error.max_error, error.rounding_error
    (1, 73.0, 0.0)

    Source: arithmetic; what the split shows of real tensors is in notebook 01.
    """
    values = finite_array(x, "x")
    if values.size == 0:
        raise DataError("x has no values", "pass at least one number")
    codes = quantize(values, scale, qmin=qmin, qmax=qmax)
    exact, back = values.astype(np.float64), dequantize(codes, scale).astype(np.float64)
    with np.errstate(over="ignore"):
        steps = np.rint(values / np.float32(scale))
    clipped = (steps < qmin) | (steps > qmax)
    squares = (exact - back) ** 2
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
        sqnr_db=sqnr_db(exact, back),
        cosine=cosine(exact, back),
    )
