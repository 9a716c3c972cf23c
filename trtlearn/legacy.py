"""TensorRT's legacy calibrator: a quantile of the magnitudes."""

from __future__ import annotations

import numpy as np

from .thresholds import HistogramObserver, Threshold, fraction

__all__ = ["LegacyObserver"]


class LegacyObserver(HistogramObserver):
    """LegacyCalibration: the upper edge of the bin in which a quantile of all magnitudes lies.

    The same histogram as the entropy calibrators', but zeros are counted, in bin 0, and MaxPool's output has one of its
    own. ``p = counts / total`` is summed from bin 0 in float64; the first bin ``b`` where the sum exceeds ``quantile``
    gives ``amax = (b + 1) * width``; the whole range where none does. ``curve`` of the threshold holds the running sum.

    ``quantile`` from 0 to 1, 0.999 where nothing is said; ``cutoff`` from 0 to 1. With ``cutoff = 1`` the quantile
    alone decides: measured, all of 894 tensors equal TensorRT's to float32. Below 1 TensorRT fits a regression to some
    tensors (most others keep the quantile); its rule has not been found, and the quantile is given here too.

    Source: measured, data/recordings/*/calibration (crafted.json, legacy-grid.json).

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
        beyond = np.flatnonzero(running > self.quantile)
        kept = int(beyond[0]) + 1 if beyond.size else len(running)
        return self.threshold(
            kept * width,
            bins_kept=kept,
            curve=tuple(running.tolist()),
            note="amax = bins kept * width" + ("" if self.cutoff == 1 else "; the regression cut-off is not modelled"),
        )
