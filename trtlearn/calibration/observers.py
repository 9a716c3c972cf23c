"""Calibrators from scratch: each watches activations batch by batch and then chooses a threshold.

Min-max, entropy and legacy are TensorRT's own, proved against its caches; percentile and mean
squared error are what ONNX Runtime and ModelOpt offer. All stream: memory does not grow with the
number of batches.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..errors import DataError
from ..int8.quant import scale_from_amax
from ..record import Record, later
from .cache import calibrator_word
from .entropy import EntropySearch, entropy_search, numbers
from .histogram import Histogram, HistogramStep, values_and_ends

__all__ = [
    "OBSERVERS",
    "EntropyObserver",
    "HistogramObserver",
    "LegacyObserver",
    "Line",
    "MinMaxObserver",
    "MseObserver",
    "Observer",
    "PercentileObserver",
    "Threshold",
    "check_algorithm",
    "fit_line",
    "fraction",
    "make_observer",
    "threshold_of",
]

Ends = tuple[float, float]
"""The smallest and the largest value of a float32 array."""


@dataclass(frozen=True)
class Threshold(Record):
    """What one observer chose for one tensor, with every step that led there.

    ``amax`` is the largest magnitude kept, ``scale = amax / 127`` (float32); ``seen_amax`` the
    largest magnitude there was. ``width``, ``counts`` [2048] and ``steps`` describe the histogram
    (None and empty where there is none), ``search`` the entropy search, ``curve`` another search's
    cost per number of bins kept.
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
    counts: tuple[int, ...] = later(tuple, numbers, ())
    steps: tuple[HistogramStep, ...] = field(default=(), repr=False)
    search: EntropySearch | None = field(default=None, repr=False)
    curve: tuple[float, ...] = later(tuple, numbers, ())

    def summary(self) -> str:
        share = f"{100 * self.amax / self.seen_amax:.4g} % of max|x|" if self.seen_amax else ""
        numbers = f"amax {self.amax:.6g}, scale {self.scale:.6g}"
        return f"{self.algorithm}: {numbers} ({share or 'all values are 0'})"

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

    def choice_of(self, scale: float) -> tuple[int, float, float] | None:
        """The bins that ``scale`` keeps of this histogram, their KL, and the KL of those kept here.

        None where no number of bins that the entropy search tries gives ``scale``.
        """
        search, width = self.search, self.width
        if search is None or width is None:
            return None
        place = 127 * scale / width - 0.5
        kept = round(place)
        index = kept - search.first
        rounding = max(1e-2, kept * 1e-5)  # of a float32 scale, in bins
        if abs(place - kept) > rounding or not 0 <= index < len(search.kl):
            return None
        return kept, search.kl[index], search.kl[search.chosen - search.first]


class HistogramObserver:
    """The observers that decide from a histogram."""

    algorithm = ""

    def __init__(self, keep_steps: bool = True) -> None:
        self.histogram = Histogram(keep_steps)

    def observe(self, batch: ArrayLike, ends: Ends | None = None) -> None:
        """Count one batch (any shape, float); ``ends``: its smallest and largest, if known."""
        self.histogram.add(batch, ends)

    def result(self) -> Threshold:
        """The threshold chosen from all batches so far; DataError before the first."""
        need_batches(self.histogram.batches)
        width = self.histogram.width
        return self.threshold(0.0, note="all values are 0") if width is None else self.choose(width)

    def choose(self, width: float) -> Threshold:
        """The threshold, where not all values are 0; ``width`` is that of the histogram's bins."""
        raise NotImplementedError

    def threshold(self, amax: float, **more: Any) -> Threshold:
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
            counts=h.counts.copy(),  # type: ignore[arg-type]  # see later()
            steps=h.steps,
            **more,
        )


def need_batches(batches: int) -> None:
    """DataError where an observer is asked for its result before it has seen a batch."""
    if not batches:
        raise DataError("no batch was observed", "call observe(batch) first")


def fraction(value: float, what: str) -> float:
    """The value, which must lie from 0 to 1; DataError names ``what`` otherwise."""
    if not 0 <= value <= 1:
        fix = "0.999 keeps all but one in a thousand"
        raise DataError(f"{what} is {value}, expected a number from 0 to 1", fix)
    return float(value)


LEVEL = np.float32(0.694)
"""What is taken off each log count: just above log 2, so bins of a single value never take part."""


@dataclass(frozen=True)
class Line:
    """A line through a histogram's falling side: ``y = height + slope * (x - middle)``, x in bins.

    ``used``: the bins that took part, each at ``x = bin + 0.5``; ``y = log(count + 1) - 0.694``.
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

    ``counts`` [bins] over |x| without zeros. ``y = log(counts + 1) - 0.694`` in float32, bin 0 left
    out. From the first bin with the largest count on, the bins with ``y > 0`` and ``y >= cutoff * y
    of the largest`` take part; least squares of ``y`` on the bins' middles gives the line. None for
    fewer than two such bins.

    >>> line = fit_line(np.exp(8 - 0.01 * np.arange(2048)).astype(int), 0.5)
    >>> len(line.used), round(line.slope, 3), round(line.end / 2048, 3)
    (366, -0.01, 0.357)
    """
    y = np.log(np.asarray(counts, np.float64)[1:] + 1).astype(np.float32) - LEVEL
    peak = int(np.argmax(y))
    falling = y[peak:].astype(np.float64)
    used = np.flatnonzero((falling > 0) & (falling >= cutoff * falling[0])) + peak
    if len(used) < 2:
        return None
    x, height = used + 1.5, y[used].astype(np.float64)  # y begins with bin 1, whose middle is 1.5
    dx = x - x.mean()
    slope = float((dx * (height - height.mean())).sum() / (dx * dx).sum())
    return Line(used + 1, float(x.mean()), float(height.mean()), slope) if slope < 0 else None


class LegacyObserver(HistogramObserver):
    """LegacyCalibration: the upper edge of the bin in which a quantile of all magnitudes lies, or a
    fitted line's end.

    The same histogram as the entropy calibrators', but zeros are counted, in bin 0, and MaxPool's
    output has one of its own. ``p = counts / total`` is summed from bin 0 in float64; the first bin
    ``b`` where the sum exceeds ``quantile`` gives ``amax = (b + 1) * width``; the whole range where
    none does. ``curve`` of the threshold holds the running sum. With ``cutoff < 1`` the end of
    :func:`fit_line` comes first, where a count is about one: ``amax = width * line.end``; and the
    quantile only where no line falls, or ends beyond twice the largest magnitude.

    ``quantile`` from 0 to 1, 0.999 where nothing is said; ``cutoff`` from 0 to 1, by default 1 (no
    line: only bins as high as the highest would take part).

    Source: measured, data/recordings/*/calibration (crafted.json, legacy-grid.json): 1,048 choices
    of TensorRT 8.6.0 over 24 settings, 405 of them made by such a line, all equal to float32.

    >>> o = LegacyObserver(quantile=0.5)
    >>> o.observe(np.linspace(0, 1, 9999)); round(o.result().amax, 3)
    0.5
    """

    algorithm = "legacy"

    def __init__(
        self, quantile: float = 0.999, cutoff: float = 1.0, keep_steps: bool = True
    ) -> None:
        super().__init__(keep_steps)
        self.quantile, self.cutoff = fraction(quantile, "quantile"), fraction(cutoff, "cutoff")

    def choose(self, width: float) -> Threshold:
        h = self.histogram
        counts = h.counts.astype(np.float64)
        counts[0] += h.zeros
        running = np.cumsum(counts / counts.sum())
        line = fit_line(h.counts, self.cutoff) if self.cutoff < 1 else None
        if line is not None and (end := float(line.end * width)) <= 2 * h.amax:
            note = "amax: where the line through the fall of the counts ends"
            return self.threshold(end, curve=running, note=note)
        beyond = np.flatnonzero(running > self.quantile)
        kept = int(beyond[0]) + 1 if beyond.size else len(running)
        note = "amax = bins kept * width"
        return self.threshold(kept * width, bins_kept=kept, curve=running, note=note)


class MinMaxObserver:
    """The largest magnitude of all batches: ``amax = max|x|``.

    Source: measured, data/recordings/: equals TensorRT's MinMaxCalibration cache to float32.

    >>> o = MinMaxObserver()
    >>> o.observe([1.0, -3.0]); o.observe([2.0]); o.result().amax
    3.0
    """

    algorithm = "minmax"

    def __init__(self, keep_steps: bool = True) -> None:  # it has no steps to keep
        self.amax, self.values, self.zeros, self.batches = 0.0, 0, 0, 0

    def observe(self, batch: ArrayLike, ends: Ends | None = None) -> None:
        values, low, high = values_and_ends(batch, ends)
        self.amax = max(self.amax, -low, high)
        self.values += values.size
        self.zeros += values.size - int(np.count_nonzero(values))
        self.batches += 1

    def result(self) -> Threshold:
        need_batches(self.batches)
        scale = float(scale_from_amax(self.amax))
        seen = (self.amax, self.values, self.zeros, self.batches)
        return Threshold(self.algorithm, self.amax, scale, *seen, note="amax = max|x|")


class EntropyObserver(HistogramObserver):
    """EntropyCalibration2 (TensorRT's default) and EntropyCalibration: the least information lost.

    ``amax = (i + 0.5) * width`` with ``i`` the number of bins that ``entropy_search``
    keeps.

    Source: measured, data/recordings/*/calibration. TensorRT's two entropy calibrators give the
    same scales; they differ in which tensors get one (before or after fusion).
    """

    algorithm = "entropy2"

    def choose(self, width: float) -> Threshold:
        h = self.histogram
        search = entropy_search(h.counts)
        amax, note = (search.chosen + 0.5) * width, "amax = (bins kept + 0.5) * width"
        return self.threshold(amax, bins_kept=search.chosen, search=search, note=note)


class PercentileObserver(HistogramObserver):
    """The magnitude that ``percentile`` per cent of all values (zeros too) do not exceed, to one
    bin.

    ``amax`` is the upper edge of the first bin where the running count reaches the percentile. ONNX
    Runtime's default is 99.999 (onnxruntime/python/tools/quantization/calibrate.py,
    PercentileCalibrater), ModelOpt's 99.99.

    >>> o = PercentileObserver(50.0)
    >>> o.observe(np.linspace(-1, 1, 9999)); round(o.result().amax, 3)
    0.5
    """

    algorithm = "percentile"

    def __init__(self, percentile: float = 99.999, keep_steps: bool = True) -> None:
        super().__init__(keep_steps)
        self.percentile = 100 * fraction(percentile / 100, "percentile / 100")

    def choose(self, width: float) -> Threshold:
        h = self.histogram
        running = np.cumsum(h.counts) + h.zeros
        last = int(np.searchsorted(running, self.percentile / 100 * running[-1]))
        kept = min(last + 1, len(running))
        note = f"{self.percentile:g} % of the values are within amax"
        return self.threshold(min(kept * width, h.amax), bins_kept=kept, note=note)


class MseObserver(HistogramObserver):
    """The threshold whose INT8 rounding and clipping cost the least mean squared error on the
    histogram.

    For every number of bins ``i`` from 128 on: ``amax = i * width``; each bin's centre is quantized
    with ``amax / 127``; the squared errors weighted by the counts are summed; the least wins.
    ModelOpt's "mse" method does the same search over bin centres
    (modelopt/torch/quantization/calib/histogram.py, compute_amax).
    """

    algorithm = "mse"

    def choose(self, width: float) -> Threshold:
        h = self.histogram
        kept = np.arange(128, len(h.counts) + 1)
        centres = np.arange(len(h.counts)) + 0.5
        filled = h.counts > 0
        steps = kept[:, None] / 127.0
        rounded = np.minimum(np.rint(centres[filled] / steps), 127) * steps
        costs = ((rounded - centres[filled]) ** 2) @ h.counts[filled] * width**2 / h.values
        best, note = int(kept[np.argmin(costs)]), "least squared error"
        return self.threshold(best * width, bins_kept=best, curve=costs, note=note)


Observer = HistogramObserver | MinMaxObserver
OBSERVERS: dict[str, Callable[..., Observer]] = {
    "entropy2": EntropyObserver,
    "entropy": EntropyObserver,
    "minmax": MinMaxObserver,
    "legacy": LegacyObserver,
    "percentile": PercentileObserver,
    "mse": MseObserver,
}
"""trtlearn's word for an algorithm -> its observer."""


def check_algorithm(algorithm: str, *more: str) -> str:
    """trtlearn's word for ``algorithm``: one of :data:`OBSERVERS`, or ``more``; else DataError."""
    word, known = calibrator_word(algorithm), (*more, *OBSERVERS)
    if word not in known:
        raise DataError(f"no calibrator {algorithm!r}", f"one of {', '.join(known)}")
    return word


_settings = cache(lambda word: tuple(inspect.signature(OBSERVERS[word]).parameters))


def make_observer(algorithm: str, **settings: Any) -> Observer:
    """A new observer by its algorithm's name; settings as its class takes them, else DataError."""
    word = check_algorithm(algorithm)
    known = _settings(word)
    if wrong := [name for name in settings if name not in known]:
        others = ", ".join(name for name in known if name != "keep_steps")
        fix = f"it has {others}" if others else 'another calibrator is algorithm="minmax", say'
        raise DataError(f"the calibrator {word} has no setting {wrong[0]!r}", fix)
    if wrong := [name for name, value in settings.items() if not isinstance(value, (int, float))]:
        what = f"{wrong[0]} is {settings[wrong[0]]!r}, expected a number"
        raise DataError(what, "give a number")
    return OBSERVERS[word](**settings)


def threshold_of(algorithm: str, *batches: ArrayLike, **settings: Any) -> Threshold:
    """The threshold of one tensor given whole: its batches in order.

    >>> threshold_of("minmax", [1.0, 2.0], [-4.0]).amax
    4.0
    """
    observer = make_observer(algorithm, **settings)
    for batch in batches:
        observer.observe(batch)
    return observer.result()
