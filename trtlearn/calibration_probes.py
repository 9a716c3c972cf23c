"""Records of experiments made to find the calibrators' rules: see calibration_recordings.py for how to get them."""

from __future__ import annotations

from dataclasses import dataclass
from statistics import median
from typing import Any

from .record import Record

__all__ = [
    "Crafted",
    "CraftedScale",
    "FeedingRates",
    "FeedingRun",
    "LegacyGrid",
    "LegacyPoint",
    "TiedOperator",
    "TiedOperators",
]


@dataclass(frozen=True)
class FeedingRun(Record):
    """One calibration: seconds from the first get_batch to the end of the last, and those spent inside it."""

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
        """Batches a second of the whole calibration, in which TensorRT runs the network too: the median of the runs."""
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
    """A tensor made on purpose (``group`` and ``name`` in scripts/crafted.py): TensorRT's scale and ours."""

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
        return sum(t.ours is not None and abs(t.ours - t.tensorrt) <= tolerance * t.tensorrt for t in self.tensors)

    def summary(self) -> str:
        return f"{self.agreeing()} of {len(self.tensors)} made-up tensors have TensorRT's scale"

    def rows(self) -> list[dict[str, Any]]:
        return [t.to_dict() for t in self.tensors]


@dataclass(frozen=True)
class LegacyPoint(Record):
    """The legacy calibrator's amax of one tensor for one quantile and cut-off."""

    tensor: str
    quantile: float
    cutoff: float
    tensorrt: float
    ours: float | None


@dataclass(frozen=True)
class LegacyGrid(Record):
    """amax over a grid of quantiles and cut-offs."""

    points: tuple[LegacyPoint, ...]

    def summary(self) -> str:
        settings = {(p.quantile, p.cutoff) for p in self.points}
        equal = sum(p.ours is not None and abs(p.ours - p.tensorrt) <= 1e-6 * p.tensorrt for p in self.points)
        return f"{len(self.points):,} legacy thresholds over {len(settings)} settings, {equal:,} equal ours within 1e-6"

    def rows(self) -> list[dict[str, Any]]:
        return [p.to_dict() for p in self.points]


@dataclass(frozen=True)
class TiedOperator(Record):
    """Whether an operator's output got exactly its input's scale, in a network made for this question.

    ``place``: middle (between two layers) or input (right after the network's input). ``cached``: whether the cache
    has a line for the output at all.
    """

    operator: str
    place: str
    algorithm: str
    cached: bool
    tied: bool | None
    note: str = ""


@dataclass(frozen=True)
class TiedOperators(Record):
    """Every operator tried."""

    operators: tuple[TiedOperator, ...]

    def summary(self) -> str:
        names = sorted({o.operator for o in self.operators if o.tied})
        return f"{len({o.operator for o in self.operators})} operators tried; share a scale: {', '.join(names)}"

    def rows(self) -> list[dict[str, Any]]:
        return [o.to_dict() for o in self.operators]
