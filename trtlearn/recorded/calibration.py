"""TensorRT's calibrations, recorded: its scales beside ours, with fewer images, in other orders."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

from ..calibration.cache import CalibrationCache, parse_cache
from ..engine.records import Provenance
from ..errors import RecordingError
from ..record import Record, Table, plural
from .files import R, first, load_provenance, load_record, parts, place, read_text

__all__ = [
    "CAUSES",
    "Agreement",
    "AgreementTable",
    "Disagreement",
    "ImagesNeeded",
    "ImagesPoint",
    "LegacyGrid",
    "LegacyPoint",
    "Order",
    "Shuffles",
    "TiedOperator",
    "TiedOperators",
    "agreement",
    "cache_path",
    "images_needed",
    "legacy_grid",
    "load",
    "origin",
    "shuffles",
    "tied",
]


@dataclass(frozen=True)
class LegacyPoint(Record):
    """The legacy calibrator's amax of one tensor for one quantile and cut-off."""

    tensor: str
    quantile: float
    cutoff: float
    tensorrt: float
    ours: float | None


@dataclass(frozen=True)
class LegacyGrid(Table[LegacyPoint]):
    """amax over a grid of quantiles and cut-offs."""

    ITEMS, KEY = "points", "tensor"

    points: tuple[LegacyPoint, ...]

    def summary(self) -> str:
        settings = {(p.quantile, p.cutoff) for p in self.points}
        known = [(p.ours, p.tensorrt) for p in self.points if p.ours is not None]
        equal = sum(abs(ours - theirs) <= 1e-6 * theirs for ours, theirs in known)
        return (
            f"{len(self.points):,} legacy thresholds over {len(settings)} settings, "
            f"{equal:,} equal ours within 1e-6"
        )


@dataclass(frozen=True)
class TiedOperator(Record):
    """Whether an operator's output got its input's scale exactly, in a network made to see that.

    ``place``: middle (between two layers) or input (right after the network's input). ``cached``:
    whether the cache has a line for the output at all.
    """

    operator: str
    place: str
    algorithm: str
    cached: bool
    tied: bool | None
    note: str = ""


@dataclass(frozen=True)
class TiedOperators(Table[TiedOperator]):
    """Every operator tried."""

    ITEMS, KEY = "operators", "operator"

    operators: tuple[TiedOperator, ...]

    def summary(self) -> str:
        tried = {one.operator for one in self.operators}
        names = sorted({one.operator for one in self.operators if one.tied})
        return f"{len(tried)} operators tried; share a scale: {', '.join(names)}"


@dataclass(frozen=True)
class Disagreement(Record):
    """One tensor whose scale ours and TensorRT's do not share, and why."""

    tensor: str
    ours: float | None
    tensorrt: float
    relative_difference: float | None
    explanation: str

    @property
    def cause(self) -> str:
        """The explanation in two or three words: a key of CAUSES, or "not explained".

        >>> Disagreement("x", 1.0, 1.1, 0.1, "near tie: keeping 1089 bins").cause
        'near tie'
        """
        found = (cause for cause, start in CAUSES.items() if self.explanation.startswith(start))
        return next(found, "not explained")


CAUSES = {
    "last bits": "the same choice",
    "near tie": "near tie",
    "Concat's memory": "it begins the Concat",
}
"""Why a scale differs -> how its explanation begins."""


@dataclass(frozen=True)
class Agreement(Record):
    """One network under one calibrator: of ``tensors`` cached scales ``agreeing`` equal ours to
    1e-6.

    Our activations come from ONNX Runtime on the CPU. ``on_gpu`` of ``on_gpu_tensors`` equal ours
    when the rule is given histograms of the activations that a GPU computed in FP32 (None where
    they were not recorded).
    """

    network: str
    kind: str  # what kind of network it is, in words
    algorithm: str
    batch: int
    batches: int
    tensors: int
    agreeing: int
    others: tuple[Disagreement, ...] = ()
    on_gpu: int | None = None
    on_gpu_tensors: int | None = None

    @property
    def cache(self) -> CalibrationCache:
        """TensorRT's own cache, whose scales were compared."""
        return parse_cache(read_text(cache_path(self.network, self.algorithm)))


@dataclass(frozen=True)
class AgreementTable(Record):
    """Every network under every calibrator."""

    networks: tuple[Agreement, ...]

    @property
    def tensors(self) -> int:
        """All cached scales compared."""
        return sum(row.tensors for row in self.networks)

    @property
    def agreeing(self) -> int:
        """Those equal to ours within 1e-6."""
        return sum(row.agreeing for row in self.networks)

    @property
    def others(self) -> tuple[Disagreement, ...]:
        """The scales that differ, network by network."""
        return sum((row.others for row in self.networks), ())

    def share(self, *networks: str) -> float:
        """Share of equal scales in these networks; in all where none is named."""
        rows = [row for row in self.networks if not networks or row.network in networks]
        return sum(row.agreeing for row in rows) / max(sum(row.tensors for row in rows), 1)

    def summary(self) -> str:
        equal = f"{self.agreeing:,} of {self.tensors:,} scales ({100 * self.share():.2f} %)"
        return f"{equal} equal TensorRT's to 1e-6"

    def rows(self) -> list[dict[str, Any]]:
        table: dict[str, dict[str, Any]] = {}
        for row in self.networks:
            line = table.setdefault(row.network, {"network": row.network, "kind": row.kind})
            line[row.algorithm] = f"{row.agreeing} of {row.tensors}"
        return list(table.values())


@dataclass(frozen=True)
class ImagesPoint(Record):
    """Calibration with the first ``images`` images: the scales, the engine's accuracy if known."""

    algorithm: str
    images: int
    batch: int
    scales: dict[str, float]
    correct: int | None = None
    tested: int | None = None


@dataclass(frozen=True)
class ImagesNeeded(Record):
    """Scales as the number of calibration images grows."""

    model: str
    points: tuple[ImagesPoint, ...]

    def amax(self, tensor: str, algorithm: str = "entropy2", batch: int = 1) -> dict[int, float]:
        """Images -> amax of one tensor, from the calibrations with ``batch`` images a batch."""
        chosen = [p for p in self.points if (p.algorithm, p.batch) == (algorithm, batch)]
        scales = sorted((p.images, p.scales[tensor]) for p in chosen if tensor in p.scales)
        return {count: 127 * scale for count, scale in scales}

    def percent_right(self, algorithm: str = "entropy2") -> dict[int, float]:
        """Images -> percent of the test images right, where an engine was built (batches of 8)."""
        shares = [
            (p.images, p.correct / p.tested)
            for p in self.points
            if p.algorithm == algorithm and p.correct is not None and p.tested
        ]
        return {count: 100 * share for count, share in sorted(shares)}

    def summary(self) -> str:
        counts = sorted({p.images for p in self.points})
        return f"{self.model}: scales after {', '.join(map(str, counts))} images"

    def rows(self) -> list[dict[str, Any]]:
        return [
            {
                "calibrator": p.algorithm,
                "images": p.images,
                "batch": p.batch,
                "tensors": len(p.scales),
                "right": p.correct,
                "of": p.tested,
            }
            for p in self.points
        ]


@dataclass(frozen=True)
class Order(Record):
    """The scales that one order (``seed``; None: as the images come) and one batch size give."""

    seed: int | None
    batch: int
    scales: dict[str, float]


@dataclass(frozen=True)
class Shuffles(Record):
    """The same images in several orders and batch sizes, under the entropy calibrator."""

    model: str
    images: int
    orders: tuple[Order, ...]

    def amax(self, names: Iterable[str]) -> dict[str, dict[str, list[float]]]:
        """Way of feeding -> tensor -> each amax that it gave."""
        ways: dict[str, dict[str, list[float]]] = {}
        wanted = tuple(names)
        for order in sorted(self.orders, key=lambda o: (o.seed is None, o.batch, o.seed or 0)):
            start = "as they come" if order.seed is None else "shuffled"
            way = ways.setdefault(f"{start}, batches of {order.batch}", {})
            for name in wanted:
                way.setdefault(name, []).append(127 * order.scales[name])
        return ways

    def summary(self) -> str:
        orders = plural(len(self.orders), "order")
        return f"{self.model}: {plural(self.images, 'image')} in {orders} and batch sizes"

    def rows(self) -> list[dict[str, Any]]:
        scales = self.orders[0].scales if self.orders else {}
        names = [name for name in scales if not name.startswith("(")][:8]
        return [
            {"order": order.seed, "batch": order.batch, **{n: order.scales.get(n) for n in names}}
            for order in self.orders
        ]


def load(kind: type[R], name: str) -> R:
    """The record in the newest calibration/<name>.json."""
    return load_record(kind, place(f"calibration/{name}.json"))


def cache_path(network: str, algorithm: str) -> Path:
    """TensorRT's own cache of a network in recording/zoo/networks.py: residual, mobile, ocr …"""
    return first(f"calibration/caches/{network}-{algorithm}.cache")


@cache
def agreement() -> AgreementTable:
    """Networks x calibrators: how many scales ours and TensorRT's share.

    A row that the newest set of recordings lacks comes from what a later run added to it.
    """
    rows: dict[tuple[str, str], Agreement] = {}
    for path in _of_one_set("calibration/agreement.json"):
        for row in load_record(AgreementTable, path).networks:
            rows.setdefault((row.network, row.algorithm), row)
    return AgreementTable(tuple(rows.values()))


def _of_one_set(part: str) -> list[Path]:
    """The part in the newest set of recordings, then what a later run added to that set."""
    newest = place(part)
    return [path for path in parts(part) if path.is_relative_to(newest.parents[1])]


def _model(name: str) -> str:
    if name not in ("resnet", "mobile"):
        raise RecordingError(f"no model {name!r} was recorded", "resnet or mobile")
    return name


@cache
def images_needed(model: str = "resnet") -> ImagesNeeded:
    """Scales after 1 to 500 calibration images, and accuracy where it was measured."""
    return load(ImagesNeeded, f"images-{_model(model)}")


@cache
def shuffles(model: str = "resnet") -> Shuffles:
    """Scales for the same images in several orders and batch sizes."""
    return load(Shuffles, f"orders-{_model(model)}")


@cache
def legacy_grid() -> LegacyGrid:
    """The legacy calibrator's amax over its two settings."""
    return load(LegacyGrid, "legacy-grid")


@cache
def tied() -> TiedOperators:
    """Which operators' outputs share their input's scale."""
    return load(TiedOperators, "ties")


@cache
def origin(part: str = "agreement") -> Provenance:
    """Where and with what ``part`` was recorded: agreement, odd-caches, images-resnet, ties …

    The time is that of what a later run added, if one did.
    """
    found = [load_provenance(path.parent) for path in _of_one_set(f"calibration/{part}.json")]
    return replace(found[0], time_utc=found[-1].time_utc)
