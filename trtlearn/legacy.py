"""TensorRT's legacy calibrator: a line fitted to the histogram's fall, or a quantile of the magnitudes."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from .thresholds import HistogramObserver, Threshold, fraction

__all__ = ["LegacyObserver", "regression_amax"]

LEVEL = np.float32(0.694)
"""What is taken off each log count: just above log 2, so bins of a single value never take part."""


def regression_amax(counts: ArrayLike, width: float, seen_amax: float, cutoff: float) -> float | None:
    """Where a line through the histogram's falling side reaches a count of about one; None where no line fits.

    ``counts`` [bins] over |x| without zeros. ``y = log(counts + 1) - 0.694`` in float32, bin 0 left out. From the first
    bin with the largest count on, the bins with ``y > 0`` and ``y >= cutoff * y of the largest`` take part; least
    squares of ``y`` on the bins' middles gives the line, and ``amax`` is where it is 0. None for fewer than two such
    bins, for a line that does not fall, and for an amax beyond twice the largest magnitude.

    >>> counts = np.exp(8 - 0.01 * np.arange(2048)).astype(int)
    >>> round(regression_amax(counts, 1 / 2048, 1.0, 0.5), 3), regression_amax(counts, 1 / 2048, 1.0, 1.0)
    (0.357, None)

    Source: measured, data/recordings/*/calibration/legacy-grid.json: all of 719 choices of TensorRT 8.6.0.
    """
    y = np.log(np.asarray(counts, np.float64)[1:] + 1).astype(np.float32) - LEVEL
    peak = int(np.argmax(y))
    used = np.flatnonzero((y[peak:] > 0) & (y[peak:] >= cutoff * np.float64(y[peak]))) + peak
    if len(used) < 2:
        return None
    x, height = used + 1.5, y[used].astype(np.float64)  # y begins with bin 1, whose middle is 1.5
    dx = x - x.mean()
    slope = float((dx * (height - height.mean())).sum() / (dx * dx).sum())
    if not slope < 0:
        return None
    amax = float((x.mean() - height.mean() / slope) * width)
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
