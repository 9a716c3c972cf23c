"""The histogram that a calibrator fills batch by batch: 2048 bins over |x|, of doubling width."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..errors import DataError
from ..record import Record

__all__ = ["BINS", "Histogram", "HistogramStep", "values_and_ends"]

BINS = 2048
"""How many bins TensorRT's histogram has (measured, data/recordings/*/calibration)."""
FRESH = BINS
"""Growth of the range from which on a histogram is begun again, with all counts so far in its first
bin.

Measured: ranges 1,000 times as large are merged, ranges 800,000 times as large begin again
(TensorRT 8.6.0, data/recordings/*/calibration/crafted.json). That it happens where the merges would
leave one bin is inferred.
"""
CHUNK = 1 << 16  # values worked on at a time: they stay in the processor's cache
SNAPSHOTS = 32  # steps kept at most, however many batches there are


@dataclass(frozen=True)
class HistogramStep(Record):
    """The histogram after one batch: ``counts`` [2048], ``width`` of a bin, ``merges`` for it."""

    batch: int
    batch_amax: float
    width: float
    merges: int
    counts: tuple[int, ...]


def values_and_ends(
    batch: ArrayLike, ends: tuple[float, float] | None = None
) -> tuple[NDArray[np.float32], float, float]:
    """A batch as flat float32, its smallest and its largest value.

    ``ends``: the two, where the caller has them, of a float32 array. DataError for what is no
    number, NaN or infinity.
    """
    try:
        values = np.asarray(batch, dtype=np.float32).ravel()
    except (TypeError, ValueError) as problem:
        what = f"the batch is no array of numbers: {problem}"
        raise DataError(what, "pass a numpy array of floats") from None
    if not values.size:
        raise DataError("the batch has no values", "leave empty batches out")
    low, high = ends or (float(values.min()), float(values.max()))
    if not (math.isfinite(low) and math.isfinite(high)):
        fix = "find where they come from: no scale fits them"
        raise DataError("the batch holds NaN or infinity", fix)
    return values, low, high


class Histogram:
    """Counts of |x| in 2048 bins of one width, zeros left out; memory independent of the number of
    batches.

    The first batch that is not all zero fixes the width: ``width = max|x| / 2048``. A value goes to
    bin ``floor(|x| / width)``, the maximum itself to the last bin. When a later batch exceeds
    ``2048 * width``, neighbouring bins are added in pairs and the width doubles, as often as
    needed: the first batch sets the resolution. A batch so large that all earlier values would
    share the first bin begins again: ``width = max|x| / 2048``.

    ``counts``: int64 [2048]; ``width``: float, None before the first value that is not zero;
    ``zeros``: values of exactly 0; ``steps``: what each batch did, thinned to at most 32 so that
    memory stays bounded.

    >>> h = Histogram()
    >>> h.add(np.asarray([0.0, 0.25, 1.0])), h.width * 2048, h.zeros
    (1.0, 1.0, 1)
    >>> h.add(np.asarray([3.0])), h.width * 2048, h.merges, int(h.counts.sum())
    (3.0, 4.0, 2, 3)

    Source: measured, data/recordings/*/calibration (TensorRT 8.6.0's scales for inputs made on
        purpose).
    """

    def __init__(self, keep_steps: bool = True) -> None:
        self.counts: NDArray[np.int64] = np.zeros(BINS, np.int64)
        self.width: float | None = None
        self.amax = 0.0
        self.zeros = 0
        self.values = 0
        self.batches = 0
        self.merges = 0
        self.keep_steps = keep_steps
        self.steps: tuple[HistogramStep, ...] = ()
        self._every = 1

    def add(self, batch: ArrayLike, ends: tuple[float, float] | None = None) -> float:
        """Count one batch (any shape); returns its max|x|. ``ends``: :func:`values_and_ends`."""
        values, low, high = values_and_ends(batch, ends)
        amax = abs(max(-low, high))  # never -0.0
        merges = self._make_room(amax)
        if self.width is not None:
            self._count(values, self.width, has_signs=low < 0)
        else:
            self.zeros += values.size
        self.values += values.size
        self.amax = max(self.amax, amax)
        if self.keep_steps:
            self._keep(amax, merges)
        self.batches += 1
        return amax

    def _make_room(self, amax: float) -> int:
        if self.width is None:
            self.width = amax / BINS if amax > 0 else None
            return 0
        merges = 0
        if amax > FRESH * self.width * BINS:  # all counts so far would end up in the first bin
            self.counts = np.concatenate([[self.counts.sum()], np.zeros(BINS - 1, np.int64)])
            self.width = amax / BINS
            merges = 1
        while amax > self.width * BINS:
            self.counts = np.concatenate(
                [self.counts.reshape(-1, 2).sum(axis=1), np.zeros(BINS // 2, np.int64)]
            )
            self.width *= 2
            merges += 1
        self.merges += merges
        return merges

    def _count(self, values: NDArray[np.float32], width: float, has_signs: bool) -> None:
        is_tiny = 1.0 / width >= 3e38  # no float32
        size = min(values.size, CHUNK)
        scaled = np.empty(size, np.float64 if is_tiny else np.float32)
        bins = np.empty(size, np.int32)
        for start in range(0, values.size, CHUNK):
            part = values[start : start + CHUNK]
            places, found_bins = scaled[: part.size], bins[: part.size]
            if is_tiny:
                np.divide(part, width, out=places, dtype=np.float64)
            else:
                np.multiply(part, np.float32(1.0 / width), out=places)
            if has_signs:
                np.abs(places, out=places)
            np.copyto(found_bins, places, casting="unsafe")  # rounds down
            found = np.bincount(found_bins, minlength=BINS)
            self.counts += found[:BINS]
            if len(found) > BINS:  # the maximum itself
                self.counts[BINS - 1] += found[BINS:].sum()
            nothing = int(np.count_nonzero(part == 0)) if found[0] else 0
            self.counts[0] -= nothing
            self.zeros += nothing

    def _keep(self, amax: float, merges: int) -> None:
        if len(self.steps) == SNAPSHOTS:
            self.steps = self.steps[::2]
            self._every *= 2
        if self.batches % self._every == 0 or merges:
            counts = tuple(self.counts.tolist())
            step = HistogramStep(self.batches, amax, self.width or 0.0, merges, counts)
            self.steps = (*self.steps, step)
