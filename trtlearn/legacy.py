"""TensorRT's legacy calibrator: a quantile of the magnitudes, and a regression cut-off."""

from __future__ import annotations

from .thresholds import HistogramObserver, Threshold, fraction, need_batches, quantile_bin

__all__ = ["LegacyObserver"]


class LegacyObserver(HistogramObserver):
    """LegacyCalibration: a quantile of the magnitudes.

    ``quantile`` from 0 to 1.
    """

    algorithm = "legacy"

    def __init__(self, quantile: float = 0.999, cutoff: float = 1.0, keep_steps: bool = True) -> None:
        super().__init__(keep_steps)
        self.quantile, self.cutoff = fraction(quantile, "quantile"), fraction(cutoff, "cutoff")

    def result(self) -> Threshold:
        h = self.histogram
        need_batches(h.batches)
        if h.width is None:
            return self.threshold(0.0, note="all values are 0")
        kept = quantile_bin(h, self.quantile, zeros=True)
        return self.threshold((kept + 1) * h.width, bins_kept=kept + 1)
