"""The recorded trade-off: what recording/tradeoff.py left in <recordings>/tradeoff/.

points-<model>, big and mixed hold engines (Tradeoff), sensitivity-<model>-<ranges> a Sensitivity
(found on a CPU where "-cpu" follows), dynamic a DynamicShapes, placements/<model>/qdq-<placement>
whole experiments. Each was made from the models and images whose hashes it holds; one that was made
from others is refused.
"""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from ..builds import Build
from ..calibration.cache import parse_cache
from ..engine.records import Provenance
from ..errors import RecordingError
from ..model.course_data import MODELS, NETWORKS
from ..model.operators import WEIGHTED
from ..record import Record, plural
from .files import check_origin, folder_with, load_build, read_packed

__all__ = [
    "DynamicShapes",
    "DynamicTrial",
    "LayerTrial",
    "MixedSearch",
    "Sensitivity",
    "Tradeoff",
    "TradeoffRecordings",
    "dynamic",
    "open_tradeoff",
    "pareto",
    "placements",
    "sensitivity",
    "slower",
    "tradeoff",
    "tradeoff_of",
    "units",
]


TESTED = 1000  # test images: a recorded accuracy is a share of them
MAP50 = "accuracy is mAP50"  # the note of a flat point of a detector


def _as_build(point: Any, provenance: Any) -> Any:
    """A point as it was recorded so far, one flat row, with the fields of a Build; any other value
    as it is.
    """
    if not isinstance(point, dict) or "name" not in point:
        return point
    flat = {key: value for key, value in point.items() if key != "batch"}  # options hold it too
    share = flat.pop("accuracy", None)
    if flat.get("note") == MAP50:
        flat |= {"map50": share, "note": ""}
        share = None
    right = round(TESTED * share) if isinstance(share, float) else share
    return {
        "variant": flat.pop("name"),
        "provenance": provenance,
        "build": {
            "options": flat.pop("options", None),
            "build_seconds": None,
            "plan_bytes": flat.pop("plan_bytes", None),
        },
        "engine": {"layers": []},
        "counts": {
            "layers": flat.pop("engine_layers", None),
            "int8_layers": flat.pop("int8_layers", None),
            "reformats": flat.pop("reformats", None),
        },
        "predictions": share
        if share is None
        else {"classes": [], "correct": right, "count": TESTED},
        "cold_build_seconds": flat.pop("build_seconds", None),
        **flat,
    }


@dataclass(frozen=True)
class Tradeoff(Record):
    """All engines measured in one run."""

    points: tuple[Build, ...]
    provenance: Provenance

    @classmethod
    def from_dict(cls, data: dict[str, Any], where: str = "") -> Tradeoff:
        """The record that ``to_dict`` gave, or a recording of flat points."""
        if isinstance(data.get("points"), list):
            origin = data.get("provenance")
            data = {**data, "points": [_as_build(point, origin) for point in data["points"]]}
        return super().from_dict(data, where)

    def summary(self) -> str:
        return f"{plural(len(self.points), 'engine')}, {self.provenance.label()}"

    def rows(self) -> list[dict[str, Any]]:
        models = list(dict.fromkeys(point.model for point in self.points))
        return [
            {
                "model": p.model,
                "built as": p.variant,
                "batch": p.batch,
                "accuracy %" if p.map50 is None else "mAP50 %": p.quality and 100 * p.quality,
                "latency ms": (p.graph_timing or p.timing)
                and (p.graph_timing or p.timing).median_ms,  # type: ignore[union-attr]
                "images/s": p.images_per_second,
                "plan bytes": p.plan_bytes,
                "activations bytes": p.device_memory_bytes,
                "build s": p.build_seconds,
            }
            for p in sorted(self.points, key=lambda p: (models.index(p.model), p.batch))
        ]

    def select(self, model: str, batch: int | None = None) -> tuple[Build, ...]:
        """The points of one model, at one batch size if given; RecordingError where there are
        none.
        """
        found = tuple(p for p in self.points if p.model == model and batch in (None, p.batch))
        if not found:
            known = sorted({f"{p.model} at batch {p.batch}" for p in self.points})
            raise RecordingError(
                f"no engine of {model!r} at batch {batch}", f"one of {', '.join(known)}"
            )
        return found

    def point(self, model: str, name: str, batch: int = 8) -> Build:
        """The engine built as ``name``; RecordingError where there is none."""
        here = {p.variant: p for p in self.select(model, batch)}
        if name not in here:
            raise RecordingError(
                f"no engine {name!r} of {model!r} at batch {batch}", f"one of {', '.join(here)}"
            )
        return here[name]


def pareto(
    points: Iterable[Build],
    cost: Callable[[Build], float | None],
    value: Callable[[Build], float | None],
) -> tuple[Build, ...]:
    """The points that no other beats: no other costs at most as much and is worth at least as much,
    one of it strictly.

    Points whose cost or value is unknown are left out. Sorted by cost.
    """
    known = [
        (c, v, p) for p in points if (c := cost(p)) is not None and (v := value(p)) is not None
    ]
    front = [
        (c, v, p)
        for c, v, p in known
        if not any(c2 <= c and v2 >= v and (c2 < c or v2 > v) for c2, v2, _ in known)
    ]
    return tuple(p for _, _, p in sorted(front, key=lambda item: (item[0], -item[1])))


def slower(one: Build, other: Build) -> bool:
    """Whether ``one`` is slower by more than both spreads: its 5th percentile is above the other's
    95th.

    By graph replay, which is what small engines can be compared by; False where either was not
    timed so.
    """
    first, second = one.graph_timing, other.graph_timing
    return first is not None and second is not None and first.p05_ms > second.p95_ms


@dataclass(frozen=True)
class LayerTrial(Record):
    """One engine of a sensitivity study: which units ran in INT8 and what came of it."""

    int8_units: tuple[str, ...]
    accuracy: float
    sqnr_db: float | None  # of the logits against the FP32 engine's
    int8_layers: int | None = None  # engine layers with INT8 weights


@dataclass(frozen=True)
class MixedSearch(Record):
    """Layers taken out of INT8 one after the other until the accuracy is reached."""

    order: tuple[str, ...]  # in which units were taken out
    trials: tuple[LayerTrial, ...]  # after each step, the first with nothing taken out
    reached: bool


@dataclass(frozen=True)
class Sensitivity(Record):
    """How much each unit of a network minds INT8: alone in INT8, and alone kept out of it."""

    model: str
    ranges: str
    fp32_accuracy: float
    int8_accuracy: float
    target: float
    alone: dict[str, LayerTrial]  # unit -> only it in INT8
    kept_out: dict[str, LayerTrial]  # unit -> all but it in INT8
    greedy: MixedSearch | None  # None where the recording was cut short
    random: tuple[MixedSearch, ...]
    provenance: Provenance

    def summary(self) -> str:
        return (
            f"{self.model} with {self.ranges} ranges: FP32 {100 * self.fp32_accuracy:.1f} %, all "
            "INT8 "
            f"{100 * self.int8_accuracy:.1f} %; {self.provenance.label()}"
        )

    def rows(self) -> list[dict[str, Any]]:
        return [
            {
                "unit": unit,
                "alone: accuracy %": 100 * self.alone[unit].accuracy,
                "alone: SQNR dB": self.alone[unit].sqnr_db,
                "kept out: accuracy %": 100 * self.kept_out[unit].accuracy,
                "kept out: SQNR dB": self.kept_out[unit].sqnr_db,
            }
            for unit in self.alone
            if unit in self.kept_out
        ]


@dataclass(frozen=True)
class DynamicTrial(Record):
    """A dynamic engine calibrated at one batch size, run at several."""

    calibration_batch: int
    batches: int  # that the calibrator handed over
    cache: str
    accuracy_at: dict[str, float]  # batch size at run time -> accuracy
    messages: tuple[str, ...] = ()
    algorithm: str = "entropy2"
    profile_named: bool = (
        True  # a calibration profile was set; else TensorRT takes the usual shape of the first
    )


@dataclass(frozen=True)
class DynamicShapes(Record):
    """One network with a dynamic batch, calibrated at several sizes through the calibration
    profile.
    """

    model: str
    profile: tuple[int, ...]  # least, usual, greatest batch
    trials: tuple[DynamicTrial, ...]
    provenance: Provenance

    def scale_change(self, algorithm: str) -> dict[str, float]:
        """Tensor -> how far its scale moves between this calibrator's trials.

        The largest |scale / scale of the first trial - 1|.
        """
        first, *others = [
            parse_cache(trial.cache) for trial in self.trials if trial.algorithm == algorithm
        ]
        return {
            name: max(abs(other[name] / scale - 1) for other in others)
            for name, scale in first.items()
        }

    def summary(self) -> str:
        return f"{self.model} with a dynamic batch {self.profile}, {self.provenance.label()}"

    def rows(self) -> list[dict[str, Any]]:
        return [
            {
                "calibrator": t.algorithm,
                "calibrated at batch": t.calibration_batch,
                "calibration profile": "set" if t.profile_named else "not set",
                "batches": t.batches,
                **{
                    f"accuracy % at batch {size}": 100 * share
                    for size, share in t.accuracy_at.items()
                },
            }
            for t in self.trials
        ]


def units(nodes: Sequence[tuple[str, str]]) -> dict[str, tuple[str, ...]]:
    """Nodes grouped by the weighted node they follow: what a precision is asked for together.

    ``nodes``: (name, operator) in graph order. A convolution with the Relu, Clip, Add or pooling
    behind it is one unit, so that asking for FP32 does not break the fusion with INT8 in the
    middle. Nodes before the first weighted one belong to it.

    >>> units([("c1", "Conv"), ("r1", "Relu"), ("c2", "Conv"), ("fc", "Gemm")])
    {'c1': ('c1', 'r1'), 'c2': ('c2',), 'fc': ('fc',)}
    """
    first = next((name for name, kind in nodes if kind in WEIGHTED), "")
    groups: dict[str, list[str]] = {}
    current = first
    for name, kind in nodes:
        if kind in WEIGHTED:
            current = name
        groups.setdefault(current, []).append(name)
    return {unit: tuple(members) for unit, members in groups.items()}


R = TypeVar("R", bound=Record)
AGAIN = "make it with `python -m recording.tradeoff --out FOLDER` on a GPU machine"


class TradeoffRecordings:
    """The recordings of one folder; each is read when it is asked for, once. Made by
    :func:`open_tradeoff`.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._known: dict[str, Record] = {}

    @property
    def names(self) -> tuple[str, ...]:
        """What is there: "points-resnet", "sensitivity-mobile-minmax",
        "placements/resnet/qdq-tensorrt", ...
        """
        found = self.folder.glob("**/*.json.gz")
        return tuple(
            sorted(
                path.relative_to(self.folder).as_posix().removesuffix(".json.gz") for path in found
            )
        )

    def tradeoff(self, name: str) -> Tradeoff:
        """Engines: points-<model> (all ways of building), big (ResNet-50's size), mixed (by
        sensitivity).
        """
        return self._load(name, Tradeoff)

    def with_build_times(self, name: str) -> Tradeoff:
        """``tradeoff(name)`` with the seconds that the course's own build by the same name took,
        begun from nothing.

        The engines of the trade-off share a timing cache, so their own builds tell no time. Unknown
        where the course holds no build of that model, name, batch, GPU and TensorRT with an empty
        timing cache.
        """
        whole = self.tradeoff(name)
        points = []
        for point in whole.points:
            path = self.folder.parent / point.model / f"{point.variant}.json.gz"
            if point.build_seconds is None and path.is_file():
                made = load_build(path)
                check_origin(made.provenance, path)
                same = (made.provenance.gpu, made.provenance.tensorrt) == (
                    whole.provenance.gpu,
                    whole.provenance.tensorrt,
                )
                if same and made.build.options.batch == point.batch:
                    point = dataclasses.replace(point, cold_build_seconds=made.build_seconds)  # noqa: PLW2901
            points.append(point)
        return dataclasses.replace(whole, points=tuple(points))

    def sensitivity(
        self, model: str = "mobile", ranges: str = "minmax", cpu: bool = False
    ) -> Sensitivity:
        """Which units of a network lose accuracy in INT8: by the GPU's engines, or as Q/DQ on a
        CPU predicts it (``cpu``).
        """
        return self._load(f"sensitivity-{model}-{ranges}{'-cpu' if cpu else ''}", Sensitivity)

    def dynamic(self) -> DynamicShapes:
        """One network with a dynamic batch, calibrated at several batch sizes."""
        return self._load("dynamic", DynamicShapes)

    def placements(self, model: str = "resnet") -> dict[str, Build]:
        """Placement of Q/DQ -> the experiment with it, in the order of placement.PLACEMENTS."""
        from ..int8.placement import PLACEMENTS

        found = {}
        for placement in PLACEMENTS:
            path = self.folder / "placements" / model / f"qdq-{placement}.json.gz"
            if path.is_file():
                found[placement] = load_build(path)
                check_origin(found[placement].provenance, path)
        if not found:
            raise RecordingError(
                f"no Q/DQ placement of {model!r} is recorded in {self.folder}", AGAIN
            )
        return found

    def _load(self, name: str, kind: type[R]) -> R:
        if name not in self._known:
            path = self.folder / f"{name}.json.gz"
            if not path.is_file():
                raise RecordingError(f"nothing called {name!r} is recorded in {self.folder}", AGAIN)
            record = kind.from_json(read_packed(path, AGAIN))
            origin: Provenance = record.provenance  # type: ignore[attr-defined]
            check_origin(origin, path)
            self._known[name] = record
        held = self._known[name]
        assert isinstance(held, kind)
        return held

    def __repr__(self) -> str:
        return f"<TradeoffRecordings in {self.folder}: {', '.join(self.names) or 'nothing'}>"


def tradeoff_of(experiments: Iterable[Build]) -> Tradeoff:
    """The trade-off of whole experiments, live or recorded (``network.build(variant)``): timed
    launch after launch.

    Raises RecordingError for none, or for experiments of several machines.
    """
    chosen = tuple(experiments)
    machines = {(one.provenance.gpu, one.provenance.tensorrt) for one in chosen}
    if len(machines) != 1:
        raise RecordingError(
            f"experiments of {len(machines)} machines, expected one",
            "compare what one GPU measured",
        )
    return Tradeoff(chosen, chosen[0].provenance)


def open_tradeoff(folder: str | os.PathLike[str] | None = None) -> TradeoffRecordings:
    """The recorded trade-off of the newest recordings that have one, or of ``folder``.

    Raises RecordingError where there is none.

    Example::

        points = open_tradeoff().tradeoff("points-resnet")
        print(points.select("resnet", batch=8)[0].accuracy)
    """
    chosen = folder_with("tradeoff") / "tradeoff" if folder is None else Path(folder)
    if not any(chosen.glob("**/*.json.gz")):
        raise RecordingError(f"no trade-off is recorded in {chosen}", AGAIN)
    return TradeoffRecordings(chosen)


def tradeoff(name: str, build_times: bool = False) -> Tradeoff:
    """Engines measured in one run.

    points-resnet, points-mobile, points-photo, points-detector, points-vit: every way of building,
    at several batches; big: a network of ResNet-50's size; mixed: by sensitivity. ``build_times``:
    with the seconds of the course's own builds at batch 8 (TradeoffRecordings.with_build_times).

    >>> tradeoff("mixed").point("mobile", "int8-mixed").int8_layers
    14
    """
    larger = {f"points-{network}" for network in set(NETWORKS) - set(MODELS)}
    folder = folder_with("networks") / "networks" if name in larger else None
    recordings = open_tradeoff(folder)
    return recordings.with_build_times(name) if build_times else recordings.tradeoff(name)


def placements(model: str = "resnet") -> dict[str, Build]:
    """Placement of Q/DQ -> its build: the same scales, Q/DQ in different places."""
    return open_tradeoff().placements(model)


def sensitivity(model: str = "mobile", ranges: str = "minmax", cpu: bool = False) -> Sensitivity:
    """Which units lose accuracy in INT8: by the GPU's engines, or predicted with Q/DQ on a CPU."""
    return open_tradeoff().sensitivity(model, ranges, cpu)


def dynamic() -> DynamicShapes:
    """One network with a dynamic batch, calibrated at several batch sizes."""
    return open_tradeoff().dynamic()
