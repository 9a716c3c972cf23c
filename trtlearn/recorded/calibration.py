"""What a calibration would have given with fewer images, in another order, or in batches of another
size.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from ..calibration.cache import CalibrationCache, parse_cache
from ..calibration.observers import Observer, Threshold, make_observer, threshold_of
from ..engine.records import Provenance
from ..errors import DataError, RecordingError
from ..record import Record, plural
from .files import folder_with, load_provenance, read_text

__all__ = [
    "CAUSES",
    "MARKS",
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
    "folder",
    "images_needed",
    "in_order",
    "kl_excess",
    "legacy_grid",
    "load",
    "orders_apart",
    "origin",
    "scales_after",
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
class LegacyGrid(Record):
    """amax over a grid of quantiles and cut-offs."""

    points: tuple[LegacyPoint, ...]

    def summary(self) -> str:
        settings = {(p.quantile, p.cutoff) for p in self.points}
        equal = sum(
            p.ours is not None and abs(p.ours - p.tensorrt) <= 1e-6 * p.tensorrt
            for p in self.points
        )
        return (
            f"{len(self.points):,} legacy thresholds over {len(settings)} settings, {equal:,} "
            "equal "
            "ours within 1e-6"
        )

    def rows(self) -> list[dict[str, Any]]:
        return [p.to_dict() for p in self.points]


@dataclass(frozen=True)
class TiedOperator(Record):
    """Whether an operator's output got exactly its input's scale, in a network made for this
    question.

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
class TiedOperators(Record):
    """Every operator tried."""

    operators: tuple[TiedOperator, ...]

    def summary(self) -> str:
        names = sorted({o.operator for o in self.operators if o.tied})
        return (
            f"{len({o.operator for o in self.operators})} operators tried; share a scale: "
            f"{', '.join(names)}"
        )

    def rows(self) -> list[dict[str, Any]]:
        return [o.to_dict() for o in self.operators]


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
    """Calibration with the first ``images`` images: every tensor's scale, and the INT8 engine's
    accuracy if known.
    """

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

    def curve(
        self, tensor: str, algorithm: str = "entropy2", batch: int = 1
    ) -> tuple[tuple[int, float], ...]:
        """(images, scale) of one tensor, from the calibrations with ``batch`` images a batch."""
        chosen = [
            p
            for p in self.points
            if (p.algorithm, p.batch) == (algorithm, batch) and tensor in p.scales
        ]
        return tuple(sorted((p.images, p.scales[tensor]) for p in chosen))

    def accuracy(self, algorithm: str = "entropy2") -> tuple[tuple[int, float], ...]:
        """(images, share of test images right) where an engine was built and run (batches of 8)."""
        chosen = [
            p
            for p in self.points
            if p.algorithm == algorithm and p.correct is not None and p.tested
        ]
        return tuple(sorted((p.images, (p.correct or 0) / (p.tested or 1)) for p in chosen))

    def amax(self, tensor: str, algorithm: str = "entropy2", batch: int = 1) -> dict[int, float]:
        """Images -> amax of one tensor: the :meth:`curve` times 127."""
        return {count: 127 * scale for count, scale in self.curve(tensor, algorithm, batch)}

    def percent_right(self, algorithm: str = "entropy2") -> dict[int, float]:
        """Images -> percent of the test images right: the :meth:`accuracy` times 100."""
        return {count: 100 * share for count, share in self.accuracy(algorithm)}

    def summary(self) -> str:
        return (
            f"{self.model}: scales after "
            f"{', '.join(str(n) for n in sorted({p.images for p in self.points}))} images"
        )

    def rows(self) -> list[dict[str, Any]]:
        return [
            {
                "calibrator": p.algorithm,
                "images": p.images,
                "batch": p.batch,
                "tensors": len(p.scales),
            }
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
        """Way of feeding -> tensor -> each amax that it gave: as plots_images.order_spread draws
        them.
        """
        ways: dict[str, dict[str, list[float]]] = {}
        wanted = tuple(names)
        for order in sorted(
            self.orders, key=lambda one: (one.seed is None, one.batch, one.seed or 0)
        ):
            start = "as they come" if order.seed is None else "shuffled"
            way = ways.setdefault(
                f"{start}, batches of {order.batch}", {name: [] for name in wanted}
            )
            for name in wanted:
                way[name].append(127 * order.scales[name])
        return ways

    def summary(self) -> str:
        orders = plural(len(self.orders), "order")
        return f"{self.model}: {plural(self.images, 'image')} in {orders} and batch sizes"

    def rows(self) -> list[dict[str, Any]]:
        names = (
            [name for name in self.orders[0].scales if not name.startswith("(")]
            if self.orders
            else []
        )
        return [
            {"order": o.seed, "batch": o.batch, **{n: o.scales.get(n) for n in names[:8]}}
            for o in self.orders
        ]


R = TypeVar("R", bound=Record)


def folder(part: str = "agreement.json") -> Path:
    """The folder of the newest recordings that hold ``part``, a file or folder of theirs."""
    return folder_with(f"calibration/{part}") / "calibration"


def load(kind: type[R], name: str) -> R:
    """The record in the newest calibration/<name>.json."""
    return kind.from_json(read_text(folder(f"{name}.json") / f"{name}.json"))


def cache_path(network: str, algorithm: str) -> Path:
    """TensorRT's own cache of one of the networks in recording/zoo/networks.py: residual, mobile,
    inception, transformer …
    """
    name = f"caches/{network}-{algorithm}.cache"
    return folder(name) / name


@cache
def agreement() -> AgreementTable:
    """Networks x calibrators: how many scales ours and TensorRT's share."""
    return load(AgreementTable, "agreement")


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
    """Where and with what ``part`` was recorded: agreement, odd-caches, images-resnet, ties …"""
    return load_provenance(folder(f"{part}.json"))


MARKS = (1, 2, 5, 10, 20, 50, 100, 200, 500)


def scales_after(
    tensors: Mapping[str, NDArray[Any]],
    algorithm: str,
    marks: Sequence[int] = MARKS,
    batch: int = 1,
) -> dict[int, dict[str, float]]:
    """Images seen -> tensor -> scale, for one calibration that is looked at on its way.

    Args:
        tensors: name -> activations [N, ...], as ``course.inside`` gives them.
        algorithm: entropy2, entropy, minmax, legacy, percentile or mse.
        marks: after how many images to look, each a multiple of ``batch``, at most N.
        batch: images a batch, as the calibrator gets them.

    >>> import numpy as np
    >>> found = scales_after({"x": np.array([[127.0], [254.0]], np.float32)}, "minmax", (1, 2))
    >>> found == {1: {"x": 1.0}, 2: {"x": 2.0}}
    True
    """
    count = min((len(values) for values in tensors.values()), default=0)
    if batch < 1 or not marks or any(not 0 < mark <= count or mark % batch for mark in marks):
        raise DataError(
            f"marks {tuple(marks)} with batches of {batch}, {count} images",
            "use multiples of the batch",
        )
    observers: dict[str, Observer] = {
        name: make_observer(algorithm, keep_steps=False) for name in tensors
    }
    found = {}
    for start in range(0, max(marks), batch):
        for name, observer in observers.items():
            observer.observe(tensors[name][start : start + batch])
        if start + batch in marks:
            found[start + batch] = {
                name: observer.result().scale for name, observer in observers.items()
            }
    return found


def in_order(
    tensors: Mapping[str, NDArray[Any]], seed: int | None, batch: int, algorithm: str = "entropy2"
) -> dict[str, Threshold]:
    """Tensor -> threshold when the images come shuffled by ``seed`` (None: as they are), ``batch``
    at a time.

    The order is numpy's ``default_rng(seed).shuffle``, as in the recordings
    (calibration_recordings.shuffles).

    >>> x = {"x": np.arange(8, dtype=np.float32).reshape(4, 2)}
    >>> in_order(x, 1, 2, "minmax")["x"].amax
    7.0
    """
    found = {}
    for name, values in tensors.items():
        order = np.arange(len(values))
        if seed is not None:
            np.random.default_rng(seed).shuffle(order)
        parts = [values[order[start : start + batch]] for start in range(0, len(order), batch)]
        found[name] = threshold_of(algorithm, *parts, keep_steps=False)
    return found


def kl_excess(threshold: Threshold, scale: float) -> float | None:
    """How much more KL another ``scale`` of the same histogram costs than the least, as a share of
    the least.

    Near 0 is a near tie: last bits of the activations decide. None where ``scale`` is no threshold
    of this histogram.

    >>> found = threshold_of("entropy2", np.linspace(-1, 1, 5000))
    >>> kl_excess(found, found.scale)
    0.0
    """
    found = threshold.choice_of(scale)
    if found is None:
        return None
    _, kl, least = found
    return kl / least - 1 if least else None


def orders_apart(
    tensors: Mapping[str, NDArray[Any]], recorded: Shuffles, tolerance: float = 1e-6
) -> dict[str, float | None]:
    """Where our entropy scales and TensorRT's recorded ones differ: "tensor, seed, batch" ->
    :func:`kl_excess`.

    ``tensors``: name -> activations [N, ...] of the same images, as ``course.inside`` gives them.

    >>> from trtlearn.recorded.calibration import shuffles
    >>> orders_apart({}, shuffles("resnet"))
    {}
    """
    found = {}
    for order in recorded.orders:
        for name, threshold in in_order(tensors, order.seed, order.batch).items():
            if abs(threshold.scale / order.scales[name] - 1) > tolerance:
                way = "as they come" if order.seed is None else f"shuffle {order.seed}"
                found[f"{name} ({way}, {order.batch} a batch)"] = kl_excess(
                    threshold, order.scales[name]
                )
    return found
