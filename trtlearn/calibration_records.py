"""Records of what TensorRT's calibrators did on the GPU: see calibration_recordings.py for how to get them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from .record import Record
from .records import Message

__all__ = [
    "Agreement",
    "AgreementTable",
    "Disagreement",
    "ImagesNeeded",
    "ImagesPoint",
    "OddCache",
    "OddCaches",
    "Order",
    "Shuffles",
]


@dataclass(frozen=True)
class Disagreement(Record):
    """One tensor whose scale ours and TensorRT's do not share, and why."""

    tensor: str
    ours: float | None
    tensorrt: float
    relative_difference: float | None
    explanation: str


@dataclass(frozen=True)
class Agreement(Record):
    """One network under one calibrator: of ``tensors`` cached scales ``agreeing`` equal ours to 1e-6.

    Our activations come from ONNX Runtime on the CPU. ``on_gpu`` of ``on_gpu_tensors`` equal ours when the rule is
    given histograms of the activations that a GPU computed in FP32 (None where they were not recorded).
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
    """Calibration with the first ``images`` images: every tensor's scale, and the INT8 engine's accuracy if known."""

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

    def curve(self, tensor: str, algorithm: str = "entropy2", batch: int = 1) -> tuple[tuple[int, float], ...]:
        """(images, scale) of one tensor, from the calibrations with ``batch`` images a batch."""
        chosen = [p for p in self.points if (p.algorithm, p.batch) == (algorithm, batch) and tensor in p.scales]
        return tuple(sorted((p.images, p.scales[tensor]) for p in chosen))

    def accuracy(self, algorithm: str = "entropy2") -> tuple[tuple[int, float], ...]:
        """(images, share of test images right) where an engine was built and run (batches of 8)."""
        chosen = [p for p in self.points if p.algorithm == algorithm and p.correct is not None and p.tested]
        return tuple(sorted((p.images, (p.correct or 0) / (p.tested or 1)) for p in chosen))

    def summary(self) -> str:
        return f"{self.model}: scales after {', '.join(str(n) for n in sorted({p.images for p in self.points}))} images"

    def rows(self) -> list[dict[str, Any]]:
        return [
            {"calibrator": p.algorithm, "images": p.images, "batch": p.batch, "tensors": len(p.scales)}
            | {"right": p.correct, "of": p.tested}
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

    def spread(self, tensor: str) -> tuple[float, float]:
        """Least and largest scale of one tensor over the shuffled orders."""
        scales = [order.scales[tensor] for order in self.orders if order.seed is not None]
        return min(scales), max(scales)

    def amax(self, names: Iterable[str]) -> dict[str, dict[str, list[float]]]:
        """Way of feeding -> tensor -> each amax that it gave: as plots_images.order_spread draws them."""
        ways: dict[str, dict[str, list[float]]] = {}
        wanted = tuple(names)
        for order in sorted(self.orders, key=lambda one: (one.seed is None, one.batch, one.seed or 0)):
            start = "as they come" if order.seed is None else "shuffled"
            way = ways.setdefault(f"{start}, batches of {order.batch}", {name: [] for name in wanted})
            for name in wanted:
                way[name].append(127 * order.scales[name])
        return ways

    def summary(self) -> str:
        return f"{self.model}: {self.images} images in {len(self.orders)} orders and batch sizes"

    def rows(self) -> list[dict[str, Any]]:
        names = [name for name in self.orders[0].scales if not name.startswith("(")] if self.orders else []
        return [{"order": o.seed, "batch": o.batch, **{n: o.scales.get(n) for n in names[:8]}} for o in self.orders]


@dataclass(frozen=True)
class OddCache(Record):
    """A cache changed by hand, given back to TensorRT.

    ``batches_asked``: how many batches TensorRT took (0: it used the cache). ``scales``: tensor -> scale as the log
    printed it (six digits); ``written``: the cache that TensorRT then handed over, if it did.
    """

    name: str
    change: str
    batches_asked: int
    built: bool | None
    messages: tuple[Message, ...]
    scales: dict[str, float]
    written: str | None = None
    error: str | None = None

    @property
    def used(self) -> bool:
        """Whether TensorRT took the cache and asked for no data."""
        return self.batches_asked == 0


@dataclass(frozen=True)
class OddCaches(Record):
    """Every changed cache and what came of it."""

    caches: tuple[OddCache, ...]

    def __getitem__(self, name: str) -> OddCache:
        return next(cache for cache in self.caches if cache.name == name)

    def summary(self) -> str:
        used = sum(cache.used for cache in self.caches)
        return f"{len(self.caches)} changed caches: {used} used as they are, {len(self.caches) - used} calibrated anew"

    def rows(self) -> list[dict[str, Any]]:
        return [
            {
                "cache": c.name,
                "change": c.change,
                "used": c.used,
                "batches asked": c.batches_asked,
                "messages": "; ".join(f"{m.count} x {m.code or m.text[:60]}" for m in c.messages),
            }
            for c in self.caches
        ]
