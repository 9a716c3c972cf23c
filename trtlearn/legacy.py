"""TensorRT's legacy calibrator: a line fitted to the histogram's fall, or a quantile of the magnitudes."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .thresholds import HistogramObserver, Threshold, fraction

__all__ = ["LegacyObserver", "Line", "fit_line", "regression_amax"]

LEVEL = np.float32(0.694)
"""What is taken off each log count: just above log 2, so bins of a single value never take part."""


@dataclass(frozen=True)
class Line:
    """A line through a histogram's falling side: ``y = height + slope * (bin middle - middle)``, bins as unit of x.

    ``used``: the bins that took part, each with the middle ``bin + 0.5``; ``y = log(count + 1) - 0.694``.
    """

    used: NDArray[np.int64]
    middle: float
    height: float
    slope: float

    @property
    def end(self) -> float:
        """Where y is 0, in bins."""
        return self.middle - self.height / self.slope


def fit_line(counts: ArrayLike, cutoff: float) -> Line | None:
    """The line that the legacy calibrator puts through a histogram; None where none falls.

    ``counts`` [bins] over |x| without zeros. ``y = log(counts + 1) - 0.694`` in float32, bin 0 left out. From the first
    bin with the largest count on, the bins with ``y > 0`` and ``y >= cutoff * y of the largest`` take part; least
    squares of ``y`` on the bins' middles gives the line. None for fewer than two such bins.

    >>> line = fit_line(np.exp(8 - 0.01 * np.arange(2048)).astype(int), 0.5)
    >>> len(line.used), round(line.slope, 3)
    (366, -0.01)
    """
    y = np.log(np.asarray(counts, np.float64)[1:] + 1).astype(np.float32) - LEVEL
    peak = int(np.argmax(y))
    used = np.flatnonzero((y[peak:] > 0) & (y[peak:] >= cutoff * np.float64(y[peak]))) + peak
    if len(used) < 2:
        return None
    x, height = used + 1.5, y[used].astype(np.float64)  # y begins with bin 1, whose middle is 1.5
    dx = x - x.mean()
    slope = float((dx * (height - height.mean())).sum() / (dx * dx).sum())
    return Line(used + 1, float(x.mean()), float(height.mean()), slope) if slope < 0 else None


def regression_amax(counts: ArrayLike, width: float, seen_amax: float, cutoff: float) -> float | None:
    """Where a line through the histogram's falling side reaches a count of about one; None where no line fits.

    ``amax = width * fit_line(counts, cutoff).end``. None also for an amax beyond twice the largest magnitude.

    >>> counts = np.exp(8 - 0.01 * np.arange(2048)).astype(int)
    >>> round(regression_amax(counts, 1 / 2048, 1.0, 0.5), 3), regression_amax(counts, 1 / 2048, 1.0, 1.0)
    (0.357, None)

    Source: measured, data/recordings/*/calibration/legacy-grid.json: all 1,048 choices of TensorRT 8.6.0 over 24
    settings, 405 of them made by such a line.
    """
    line = fit_line(counts, cutoff)
    if line is None:
        return None
    amax = float(line.end * width)
    return amax if amax <= 2 * seen_amax else None


class LegacyObserver(HistogramObserver):
    """LegacyCalibration: the upper edge of the bin in which a quantile of all magnitudes lies, or a fitted line's end.

    The same histogram as the entropy calibrators', but zeros are counted, in bin 0, and MaxPool's output has one of its
    own. ``p = counts / total`` is summed from bin 0 in float64; the first bin ``b`` where the sum exceeds ``quantile``
    gives ``amax = (b + 1) * width``; the whole range where none does. ``curve`` of the threshold holds the running sum.
    With ``cutoff < 1`` :func:`regression_amax` comes first, and the quantile only where that finds nothing.

    ``quantile`` from 0 to 1, 0.999 where nothing is said; ``cutoff`` from 0 to 1, by default 1 (no line: only bins as
    high as the highest would take part).

    Source: measured, data/recordings/*/calibration (crafted.json, legacy-grid.json): 1,048 choices of TensorRT 8.6.0
    over 24 settings, all equal to float32.

    >>> o = LegacyObserver(quantile=0.5)
    >>> o.observe(np.linspace(0, 1, 9999)); round(o.result().amax, 3)
    0.5
    """

    algorithm = "legacy"

    def __init__(self, quantile: float = 0.999, cutoff: float = 1.0, keep_steps: bool = True) -> None:
        super().__init__(keep_steps)
        self.quantile, self.cutoff = fraction(quantile, "quantile"), fraction(cutoff, "cutoff")

    def choose(self, width: float) -> Threshold:
        h = self.histogram
        counts = h.counts.astype(np.float64)
        counts[0] += h.zeros
        running = np.cumsum(counts / counts.sum())
        curve = tuple(running.tolist())
        fitted = regression_amax(h.counts, width, h.amax, self.cutoff) if self.cutoff < 1 else None
        if fitted is not None:
            return self.threshold(fitted, curve=curve, note="amax: where the line through the fall of the counts ends")
        beyond = np.flatnonzero(running > self.quantile)
        kept = int(beyond[0]) + 1 if beyond.size else len(running)
        return self.threshold(kept * width, bins_kept=kept, curve=curve, note="amax = bins kept * width")
