"""Calibrators from scratch: each watches activations batch by batch and then says which threshold it chooses.

Min-max, entropy and legacy are TensorRT's own, proved against its caches; percentile and mean squared error are what
ONNX Runtime and ModelOpt offer. All stream: memory does not grow with the number of batches.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .entropy import entropy_search
from .errors import DataError
from .histogram import absolute
from .legacy import LegacyObserver
from .quant import scale_from_amax
from .thresholds import HistogramObserver, Observer, Threshold, fraction, need_batches

__all__ = [
    "OBSERVERS",
    "EntropyObserver",
    "LegacyObserver",
    "MinMaxObserver",
    "MseObserver",
    "NetworkObserver",
    "Observer",
    "PercentileObserver",
    "Threshold",
    "make_observer",
    "threshold_of",
]


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
        values, amax = absolute(batch)
        self.amax = max(self.amax, amax)
        self.values += values.size
        self.zeros += values.size - int(np.count_nonzero(values))
        self.batches += 1

    def result(self) -> Threshold:
        need_batches(self.batches)
        scale = float(scale_from_amax(self.amax))
        return Threshold(
            self.algorithm, self.amax, scale, self.amax, self.values, self.zeros, self.batches, note="amax = max|x|"
        )


class EntropyObserver(HistogramObserver):
    """EntropyCalibration2 (TensorRT's default) and EntropyCalibration: the least information lost.

    ``amax = (i + 0.5) * width`` with ``i`` the number of bins that :func:`entropy.entropy_search` keeps.

    Source: measured, data/recordings/*/calibration. TensorRT's two entropy calibrators give the same scales; they
    differ in which tensors get one (before or after fusion).
    """

    algorithm = "entropy2"

    def choose(self, width: float) -> Threshold:
        h = self.histogram
        search = entropy_search(h.counts)
        return self.threshold(
            (search.chosen + 0.5) * width,
            bins_kept=search.chosen,
            search=search,
            note="amax = (bins kept + 0.5) * width",
        )


class PercentileObserver(HistogramObserver):
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
        self.percentile = 100 * fraction(percentile / 100, "percentile / 100")

    def choose(self, width: float) -> Threshold:
        h = self.histogram
        running = np.cumsum(h.counts) + h.zeros
        kept = min(int(np.searchsorted(running, self.percentile / 100 * running[-1])), len(running) - 1) + 1
        return self.threshold(
            min(kept * width, h.amax), bins_kept=kept, note=f"{self.percentile:g} % of the values are within amax"
        )


class MseObserver(HistogramObserver):
    """The threshold whose INT8 rounding and clipping cost the least mean squared error on the histogram.

    For every number of bins ``i`` from 128 on: ``amax = i * width``; each bin's centre is quantized with
    ``amax / 127``; the squared errors weighted by the counts are summed; the least wins. ModelOpt's "mse" method does
    the same search over bin centres (modelopt/torch/quantization/calib/histogram.py, compute_amax).
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
        best = int(np.argmin(costs))
        return self.threshold(
            int(kept[best]) * width,
            bins_kept=int(kept[best]),
            curve=tuple(costs.tolist()),
            note="least squared error",
        )


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


class NetworkObserver:
    """One observer a tensor of a network, without the steps of its histogram.

    A tensor that is NaN or infinite in some batch, as an attention mask is, gets no threshold: ``infinite`` names it.

    >>> network = NetworkObserver("minmax")
    >>> network.observe({"x": np.array([1.0, -3.0]), "mask": np.array([0.0, -np.inf])})
    >>> network.thresholds()["x"].amax, network.infinite
    (3.0, ('mask',))
    """

    def __init__(self, algorithm: str, **settings: Any) -> None:
        self._algorithm = algorithm
        self._settings = settings if algorithm == "minmax" else {"keep_steps": False, **settings}
        self._observers: dict[str, Observer] = {}
        self._infinite: dict[str, None] = {}

    @property
    def infinite(self) -> tuple[str, ...]:
        """The tensors that were NaN or infinite somewhere, in the order in which that was seen."""
        return tuple(self._infinite)

    def observe(self, tensors: Mapping[str, NDArray[Any]]) -> None:
        """One batch: tensor -> its values, any shape; a tensor without values is passed over."""
        for name, values in tensors.items():
            if not np.isfinite(values).all():
                self._infinite[name] = None
                self._observers.pop(name, None)
            elif values.size and name not in self._infinite:
                if name not in self._observers:
                    self._observers[name] = make_observer(self._algorithm, **self._settings)
                self._observers[name].observe(values)

    def thresholds(self) -> dict[str, Threshold]:
        """Tensor -> its threshold after the batches so far, in the order in which the tensors were first seen."""
        return {name: observer.result() for name, observer in self._observers.items()}


def threshold_of(algorithm: str, *batches: ArrayLike, **settings: Any) -> Threshold:
    """The threshold of one tensor given whole: its batches in order.

    >>> threshold_of("minmax", [1.0, 2.0], [-4.0]).amax
    4.0
    """
    observer = make_observer(algorithm, **settings)
    for batch in batches:
        observer.observe(batch)
    return observer.result()
