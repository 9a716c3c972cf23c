"""What an observer is and what it gives: a threshold for one tensor, with every step that led there."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
from numpy.typing import ArrayLike

from .entropy import EntropySearch
from .errors import DataError
from .histogram import Histogram, HistogramStep
from .quant import scale_from_amax
from .record import Record

__all__ = ["HistogramObserver", "Observer", "Threshold", "fraction", "need_batches"]


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

    def choice_of(self, scale: float) -> tuple[int, float, float] | None:
        """The bins that ``scale`` keeps of this histogram, their KL and the KL of the bins kept here.

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


class Observer(Protocol):
    """What every observer does."""

    def observe(self, batch: ArrayLike) -> None:
        """Look at one batch (any shape, float)."""

    def result(self) -> Threshold:
        """The threshold chosen from all batches so far; DataError before the first."""


class HistogramObserver:
    """The observers that decide from a histogram."""

    algorithm = ""

    def __init__(self, keep_steps: bool = True) -> None:
        self.histogram = Histogram(keep_steps)

    def observe(self, batch: ArrayLike) -> None:
        """Count one batch (any shape, float)."""
        self.histogram.add(batch)

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
            counts=tuple(h.counts.tolist()),
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
        raise DataError(f"{what} is {value}, expected a number from 0 to 1", "0.999 keeps all but one in a thousand")
    return float(value)
