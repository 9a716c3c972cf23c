"""Records of two experiments that only the project's tests read: the rate of feeding, and tensors
made to probe rules.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from statistics import median
from typing import Any

from trtlearn.record import Record
from trtlearn.recorded.calibration import load

__all__ = ["Crafted", "CraftedScale", "FeedingRates", "FeedingRun", "crafted", "feeding"]


@dataclass(frozen=True)
class FeedingRun(Record):
    """One calibration: seconds from the first get_batch to the end of the last, and those spent
    inside it.
    """

    who: str
    batches: int
    whole_s: float
    inside_s: float


@dataclass(frozen=True)
class FeedingRates(Record):
    """Our calibrator and Polygraphy's on the same network and data, run in turns on one machine."""

    model: str
    batch: int
    runs: tuple[FeedingRun, ...]

    def rate(self, who: str) -> float:
        """Batches handed over a second of get_batch's own time, the median of the runs."""
        return median(run.batches / run.inside_s for run in self.runs if run.who == who)

    def whole_rate(self, who: str) -> float:
        """Batches a second of the whole calibration, in which TensorRT runs the network too: the
        median of the runs.
        """
        return median(run.batches / run.whole_s for run in self.runs if run.who == who)

    @property
    def ratio(self) -> float:
        """Our rate of feeding over Polygraphy's."""
        return self.rate("trtlearn") / self.rate("polygraphy")

    def summary(self) -> str:
        ours, theirs = self.rate("trtlearn"), self.rate("polygraphy")
        return f"feeding {self.model}: {ours:,.0f} batches/s, Polygraphy {theirs:,.0f}: {self.ratio:.2f} times the rate"

    def rows(self) -> list[dict[str, Any]]:
        return [
            {
                "who": run.who,
                "batches": run.batches,
                "ms in get_batch, each": 1e3 * run.inside_s / run.batches,
                "s in all": run.whole_s,
            }
            for run in self.runs
        ]


@dataclass(frozen=True)
class CraftedScale(Record):
    """A tensor made on purpose (``group`` and ``name`` in recording/calibration/crafted.py):
    TensorRT's scale and ours.
    """

    group: str
    name: str
    algorithm: str
    tensorrt: float
    ours: float | None
    explanation: str | None = None


@dataclass(frozen=True)
class Crafted(Record):
    """All tensors made on purpose."""

    tensors: tuple[CraftedScale, ...]

    def agreeing(self, tolerance: float = 1e-6) -> int:
        """How many of ours equal TensorRT's."""
        return sum(
            t.ours is not None and abs(t.ours - t.tensorrt) <= tolerance * t.tensorrt
            for t in self.tensors
        )

    def summary(self) -> str:
        return f"{self.agreeing()} of {len(self.tensors)} made-up tensors have TensorRT's scale"

    def rows(self) -> list[dict[str, Any]]:
        return [t.to_dict() for t in self.tensors]


@cache
def feeding() -> FeedingRates:
    """The rate of feeding data, ours and Polygraphy's, in one run."""
    return load(FeedingRates, "feeding")


@cache
def crafted() -> Crafted:
    """TensorRT's scales of tensors made to probe its rules."""
    return load(Crafted, "crafted")
