"""The recorded trade-off: what recording/tradeoff.py left in <recordings>/tradeoff/.

points-<model>, big and mixed hold engines (Tradeoff), sensitivity-<model>-<ranges> a Sensitivity
(found on a CPU where "-cpu" follows), dynamic a DynamicShapes, placements/<model>/qdq-<placement>
whole builds. ``folder``: another one than that of the newest recordings.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..builds import Build
from ..calibration.cache import parse_cache
from ..calibration.qdq import PLACEMENTS
from ..engine.records import Provenance
from ..errors import RecordingError
from ..model.course_data import MODELS, NETWORKS
from ..record import Record, plural
from .files import R, check_origin, load_build, load_record, others, parts, place

__all__ = [
    "DynamicShapes",
    "DynamicTrial",
    "LayerTrial",
    "MixedSearch",
    "Sensitivity",
    "Tradeoff",
    "dynamic",
    "pareto",
    "placements",
    "sensitivity",
    "tradeoff",
    "tradeoff_of",
]

AGAIN = "make it with `python -m recording.tradeoff --out FOLDER` on a GPU machine"


@dataclass(frozen=True)
class Tradeoff(Record):
    """All engines measured in one run."""

    points: tuple[Build, ...]
    provenance: Provenance

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
                "latency ms": timing.median_ms if (timing := p.graph_timing or p.timing) else None,
                "images/s": p.images_per_second,
                "plan bytes": p.plan_bytes,
                "activations bytes": p.device_memory_bytes,
                "build s": p.build_seconds,
            }
            for p in sorted(self.points, key=lambda p: (models.index(p.model), p.batch))
        ]

    def select(self, model: str, batch: int | None = None) -> tuple[Build, ...]:
        """The points of one model, of one batch size if given; RecordingError without any."""
        chosen = tuple(p for p in self.points if p.model == model and batch in (None, p.batch))
        if not chosen:
            known = ", ".join(sorted({f"{p.model} at batch {p.batch}" for p in self.points}))
            raise RecordingError(f"no engine of {model!r} at batch {batch}", f"one of {known}")
        return chosen

    def point(self, model: str, name: str, batch: int = 8) -> Build:
        """The engine built as ``name``; RecordingError where there is none."""
        here = {p.variant: p for p in self.select(model, batch)}
        if name not in here:
            problem = f"no engine {name!r} of {model!r} at batch {batch}"
            raise RecordingError(problem, f"one of {', '.join(here)}")
        return here[name]


def pareto(
    points: Iterable[Build],
    cost: Callable[[Build], float | None],
    value: Callable[[Build], float | None],
) -> tuple[Build, ...]:
    """The points that no other beats: none is at least as good in both and better in one.

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
            f"{self.model} with {self.ranges} ranges: FP32 {100 * self.fp32_accuracy:.1f} %, "
            f"all INT8 {100 * self.int8_accuracy:.1f} %; {self.provenance.label()}"
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
    """A dynamic engine calibrated at one batch size, run at several.

    ``profile_named``: whether a calibration profile was set; without one TensorRT takes the usual
    shape of the first.
    """

    calibration_batch: int
    batches: int  # that the calibrator handed over
    cache: str
    accuracy_at: dict[str, float]  # batch size at run time -> accuracy
    messages: tuple[str, ...] = ()
    algorithm: str = "entropy2"
    profile_named: bool = True


@dataclass(frozen=True)
class DynamicShapes(Record):
    """One network with a dynamic batch, calibrated at several sizes by the calibration profile."""

    model: str
    profile: tuple[int, ...]  # least, usual, greatest batch
    trials: tuple[DynamicTrial, ...]
    provenance: Provenance

    def scale_change(self, algorithm: str) -> dict[str, float]:
        """Tensor -> the largest |scale / scale of the first trial - 1| of this calibrator."""
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


def _load(kind: type[R], name: str, folder: Path | None) -> R:
    root = folder or place("tradeoff")
    path = root / f"{name}.json.gz"
    if not path.is_file():
        roots = [root] if folder else [root, *parts("networks")]
        fix = others((one / path.name for one in roots), AGAIN)
        raise RecordingError(f"nothing called {name!r} is recorded in {root}", fix)
    return load_record(kind, path, AGAIN)


def tradeoff(name: str, build_times: bool = False, folder: Path | None = None) -> Tradeoff:
    """Engines measured in one run.

    points-resnet, points-mobile, points-photo, points-detector, points-vit: every way of building,
    at several batches; big: a network of ResNet-50's size; mixed: by sensitivity.

    ``build_times``: with the seconds that the course's own build by the same name took, begun from
    nothing. The engines of one run share a timing cache, so their own builds tell no time. Unknown
    where the course holds no build of that model, name, batch, GPU and TensorRT with an empty
    timing cache.

    >>> tradeoff("mixed").point("mobile", "int8-mixed").int8_layers
    14
    """
    if folder is None and name in {f"points-{network}" for network in set(NETWORKS) - set(MODELS)}:
        folder = place("networks")
    whole = _load(Tradeoff, name, folder)
    if not build_times:
        return whole
    builds = (folder or place("tradeoff")).parent
    points = [_with_build_time(point, builds, whole.provenance) for point in whole.points]
    return dataclasses.replace(whole, points=tuple(points))


def _with_build_time(point: Build, builds: Path, here: Provenance) -> Build:
    """``point`` with the time of the same build in the folder ``builds``, made on that machine."""
    path = builds / point.model / f"{point.variant}.json.gz"
    if point.build_seconds is not None or not path.is_file():
        return point
    cold = load_build(path)
    check_origin(cold.provenance, path)
    of_cold = (cold.provenance.gpu, cold.provenance.tensorrt, cold.batch)
    if of_cold != (here.gpu, here.tensorrt, point.batch):
        return point
    return dataclasses.replace(point, cold_build_seconds=cold.build_seconds)


def tradeoff_of(experiments: Iterable[Build]) -> Tradeoff:
    """The trade-off of whole builds, live or recorded (``network.build(variant)``): timed launch
    after launch.

    Raises RecordingError for none, or for builds of several machines.
    """
    chosen = tuple(experiments)
    machines = {(one.provenance.gpu, one.provenance.tensorrt) for one in chosen}
    if len(machines) != 1:
        problem = f"experiments of {len(machines)} machines, expected one"
        raise RecordingError(problem, "compare what one GPU measured")
    return Tradeoff(chosen, chosen[0].provenance)


def placements(model: str = "resnet", folder: Path | None = None) -> dict[str, Build]:
    """Placement of Q/DQ, as in PLACEMENTS -> its build, each with the same scales.

    One machine built them all: the newest of those that built most of the placements.
    """
    part = f"placements/{model}"
    roots = [folder / part] if folder else parts(f"tradeoff/{part}")
    sets = [
        {name: path for name in PLACEMENTS if (path := root / f"qdq-{name}.json.gz").is_file()}
        for root in roots
    ]
    paths = max(sets, key=len, default={})
    builds = {name: load_build(path) for name, path in paths.items()}
    if not builds:
        raise RecordingError(f"no Q/DQ placement of {model!r} is recorded", AGAIN)
    for name, build in builds.items():
        check_origin(build.provenance, paths[name])
    return builds


def sensitivity(
    model: str = "mobile", ranges: str = "minmax", cpu: bool = False, folder: Path | None = None
) -> Sensitivity:
    """Which units lose accuracy in INT8: by the GPU's engines, or predicted with Q/DQ on a CPU."""
    return _load(Sensitivity, f"sensitivity-{model}-{ranges}{'-cpu' if cpu else ''}", folder)


def dynamic(folder: Path | None = None) -> DynamicShapes:
    """One network with a dynamic batch, calibrated at several batch sizes."""
    return _load(DynamicShapes, "dynamic", folder)
