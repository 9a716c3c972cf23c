"""Calibrators from scratch: each watches activations batch by batch and then says which threshold it chooses.

Min-max, entropy and legacy are TensorRT's own, proved against its caches; percentile and mean squared error are what
ONNX Runtime and ModelOpt offer. All stream: memory does not grow with the number of batches.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
from numpy.typing import ArrayLike

from .entropy import EntropySearch, entropy_search
from .errors import DataError
from .histogram import Histogram, HistogramStep, absolute
from .quant import scale_from_amax
from .record import Record

__all__ = [
    "OBSERVERS",
    "EntropyObserver",
    "LegacyObserver",
    "MinMaxObserver",
    "MseObserver",
    "Observer",
    "PercentileObserver",
    "Threshold",
    "make_observer",
    "threshold_of",
]


@dataclass(frozen=True)
class Threshold(Record):
    """What one observer chose for one tensor, with every step that led there.

    ``amax`` is the largest magnitude kept, ``scale = amax / 127`` (float32); ``seen_amax`` the largest magnitude there
    was. ``width``, ``counts`` [2048] and ``steps`` describe the histogram (None and empty where there is none),
    ``search`` the entropy search, ``curve`` another search's cost per number of bins kept.
    """

    algorithm: str
    amax: float
    scale: float
    seen_amax: float
    values: int
    zeros: int
    batches: int
    width: float | None = None
    bins_kept: int | None = None
    note: str = ""
    counts: tuple[int, ...] = field(default=(), repr=False)
    steps: tuple[HistogramStep, ...] = field(default=(), repr=False)
    search: EntropySearch | None = field(default=None, repr=False)
    curve: tuple[float, ...] = field(default=(), repr=False)

    def summary(self) -> str:
        kept = f"{100 * self.amax / self.seen_amax:.4g} % of max|x|" if self.seen_amax else "all values are 0"
        return f"{self.algorithm}: amax {self.amax:.6g}, scale {self.scale:.6g} ({kept})"

    def rows(self) -> list[dict[str, Any]]:
        facts = {
            "values": self.values,
            "zeros": self.zeros,
            "batches": self.batches,
            "max|x|": self.seen_amax,
            "bin width": self.width,
            "bins kept": self.bins_kept,
            "merges": sum(step.merges for step in self.steps) if self.steps else None,
            "note": self.note,
        }
        return [{"fact": name, "value": value} for name, value in facts.items()]


class Observer(Protocol):
    """What every observer does."""

    def observe(self, batch: ArrayLike) -> None:
        """Look at one batch (any shape, float)."""

    def result(self) -> Threshold:
        """The threshold chosen from all batches so far; DataError before the first."""


class MinMaxObserver:
    """The largest magnitude of all batches: ``amax = max|x|``.

    Source: measured, data/recordings/: equals TensorRT's MinMaxCalibration cache to float32.

    >>> o = MinMaxObserver()
    >>> o.observe([1.0, -3.0]); o.observe([2.0]); o.result().amax
    3.0
    """

    algorithm = "minmax"

    def __init__(self) -> None:
        self.amax, self.values, self.zeros, self.batches = 0.0, 0, 0, 0

    def observe(self, batch: ArrayLike) -> None:
        values = absolute(batch)
        amax = float(values.max())
        if not np.isfinite(amax):
            raise DataError("the batch holds NaN or infinity", "find where they come from: no scale fits them")
        self.amax = max(self.amax, amax)
        self.values += values.size
        self.zeros += values.size - int(np.count_nonzero(values))
        self.batches += 1

    def result(self) -> Threshold:
        _need(self.batches)
        scale = float(scale_from_amax(self.amax))
        return Threshold(
            self.algorithm, self.amax, scale, self.amax, self.values, self.zeros, self.batches, note="amax = max|x|"
        )


class _HistogramObserver:
    """The observers that decide from a histogram."""

    algorithm = ""

    def __init__(self, keep_steps: bool = True) -> None:
        self.histogram = Histogram(keep_steps)

    def observe(self, batch: ArrayLike) -> None:
        """Count one batch (any shape, float)."""
        self.histogram.add(batch)

    def _threshold(self, amax: float, **more: Any) -> Threshold:
        h, amax = self.histogram, float(np.float32(amax))
        return Threshold(
            algorithm=self.algorithm,
            amax=amax,
            scale=float(scale_from_amax(amax)),
            seen_amax=h.amax,
            values=h.values,
            zeros=h.zeros,
            batches=h.batches,
            width=h.width,
            counts=tuple(h.counts.tolist()),
            steps=h.steps,
            **more,
        )


class EntropyObserver(_HistogramObserver):
    """EntropyCalibration2 (TensorRT's default) and EntropyCalibration: the least information lost.

    ``amax = (i + 0.5) * width`` with ``i`` the number of bins that :func:`entropy.entropy_search` keeps.

    Source: measured, data/recordings/*/calibration. TensorRT's two entropy calibrators give the same scales; they
    differ in which tensors get one (before or after fusion).
    """

    algorithm = "entropy2"

    def result(self) -> Threshold:
        h = self.histogram
        _need(h.batches)
        if h.width is None:
            return self._threshold(0.0, note="all values are 0")
        search = entropy_search(h.counts)
        return self._threshold(
            (search.chosen + 0.5) * h.width,
            bins_kept=search.chosen,
            search=search,
            note="amax = (bins kept + 0.5) * width",
        )


class LegacyObserver(_HistogramObserver):
    """LegacyCalibration: a quantile of the magnitudes.

    ``quantile`` from 0 to 1.
    """

    algorithm = "legacy"

    def __init__(self, quantile: float = 0.999, cutoff: float = 1.0, keep_steps: bool = True) -> None:
        super().__init__(keep_steps)
        self.quantile, self.cutoff = _fraction(quantile, "quantile"), _fraction(cutoff, "cutoff")

    def result(self) -> Threshold:
        h = self.histogram
        _need(h.batches)
        if h.width is None:
            return self._threshold(0.0, note="all values are 0")
        kept = _quantile_bin(h, self.quantile, zeros=True)
        return self._threshold((kept + 1) * h.width, bins_kept=kept + 1)


class PercentileObserver(_HistogramObserver):
    """The magnitude that ``percentile`` per cent of all values (zeros too) do not exceed, to one bin.

    ``amax`` is the upper edge of the first bin where the running count reaches the percentile. ONNX Runtime's default
    is 99.999 (onnxruntime/python/tools/quantization/calibrate.py, PercentileCalibrater), ModelOpt's 99.99.

    >>> o = PercentileObserver(50.0)
    >>> o.observe(np.linspace(-1, 1, 9999)); round(o.result().amax, 3)
    0.5
    """

    algorithm = "percentile"

    def __init__(self, percentile: float = 99.999, keep_steps: bool = True) -> None:
        super().__init__(keep_steps)
        self.percentile = 100 * _fraction(percentile / 100, "percentile / 100")

    def result(self) -> Threshold:
        h = self.histogram
        _need(h.batches)
        if h.width is None:
            return self._threshold(0.0, note="all values are 0")
        kept = _quantile_bin(h, self.percentile / 100, zeros=True) + 1
        return self._threshold(
            min(kept * h.width, h.amax), bins_kept=kept, note=f"{self.percentile:g} % of the values are within amax"
        )


class MseObserver(_HistogramObserver):
    """The threshold whose INT8 rounding and clipping cost the least mean squared error on the histogram.

    For every number of bins ``i`` from 128 on: ``amax = i * width``; each bin's centre is quantized with
    ``amax / 127``; the squared errors weighted by the counts are summed; the least wins. ModelOpt's "mse" method does
    the same search over bin centres (modelopt/torch/quantization/calib/histogram.py, compute_amax).
    """

    algorithm = "mse"

    def result(self) -> Threshold:
        h = self.histogram
        _need(h.batches)
        if h.width is None:
            return self._threshold(0.0, note="all values are 0")
        kept = np.arange(128, len(h.counts) + 1)
        centres = np.arange(len(h.counts)) + 0.5
        filled = h.counts > 0
        steps = kept[:, None] / 127.0
        rounded = np.minimum(np.rint(centres[filled] / steps), 127) * steps
        costs = ((rounded - centres[filled]) ** 2) @ h.counts[filled] * h.width**2 / h.values
        best = int(np.argmin(costs))
        return self._threshold(
            int(kept[best]) * h.width,
            bins_kept=int(kept[best]),
            curve=tuple(costs.tolist()),
            note="least squared error",
        )


def _need(batches: int) -> None:
    if not batches:
        raise DataError("no batch was observed", "call observe(batch) first")


def _fraction(value: float, what: str) -> float:
    if not 0 <= value <= 1:
        raise DataError(f"{what} is {value}, expected a number from 0 to 1", "0.999 keeps all but one in a thousand")
    return float(value)


def _quantile_bin(h: Histogram, quantile: float, zeros: bool) -> int:
    """The first bin where the running count reaches ``quantile`` of all."""
    running = np.cumsum(h.counts) + (h.zeros if zeros else 0)
    return min(int(np.searchsorted(running, quantile * running[-1])), len(running) - 1)


OBSERVERS: dict[str, Callable[..., Observer]] = {
    "entropy2": EntropyObserver,
    "entropy": EntropyObserver,
    "minmax": MinMaxObserver,
    "legacy": LegacyObserver,
    "percentile": PercentileObserver,
    "mse": MseObserver,
}
"""trtlearn's word for an algorithm -> its observer."""


def make_observer(algorithm: str, **settings: Any) -> Observer:
    """A new observer by its algorithm's name; settings as its class takes them."""
    if algorithm not in OBSERVERS:
        raise DataError(f"no observer is called {algorithm!r}", f"use one of {', '.join(OBSERVERS)}")
    return OBSERVERS[algorithm](**settings)


def threshold_of(algorithm: str, *batches: ArrayLike, **settings: Any) -> Threshold:
    """The threshold of one tensor given whole: its batches in order.

    >>> threshold_of("minmax", [1.0, 2.0], [-4.0]).amax
    4.0
    """
    observer = make_observer(algorithm, **settings)
    for batch in batches:
        observer.observe(batch)
    return observer.result()
