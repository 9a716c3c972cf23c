"""Size, speed and accuracy side by side: what each way of building gave, which of them nothing else beats, and
which layers cost the accuracy."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from .errors import RecordingError
from .record import Record
from .records import BuildOptions, Provenance, Timing

__all__ = [
    "DynamicShapes",
    "DynamicTrial",
    "LayerTrial",
    "MixedSearch",
    "Sensitivity",
    "Tradeoff",
    "TradeoffPoint",
    "pareto",
    "slower",
    "units",
]


@dataclass(frozen=True)
class TradeoffPoint(Record):
    """One engine: how it was built and what it gave."""

    model: str
    name: str  # fp32, int8-entropy2, qdq, ...
    batch: int
    options: BuildOptions
    accuracy: float | None  # share of the test images, None for a network that was not trained
    timing: Timing | None  # one launch after the other
    graph_timing: Timing | None  # a CUDA graph replayed: without the CPU's launching
    plan_bytes: int | None
    device_memory_bytes: int | None  # activations and scratch, without weights
    build_seconds: float | None  # from nothing: None where a timing cache shortened it
    engine_layers: int | None = None
    int8_layers: int | None = None  # with INT8 weights
    reformats: int | None = None
    logits_sqnr_db: float | None = None  # of the answers against FP32's
    note: str = ""
    trtexec_ms: float | None = None  # the same plan timed by NVIDIA's trtexec: its median GPU compute time
    trtexec_graph_ms: float | None = None  # likewise with --useCudaGraph

    @property
    def images_per_second(self) -> float | None:
        """Throughput: ``1000 * batch / median milliseconds``, of graph replays where they were timed."""
        timing = self.graph_timing or self.timing
        return None if timing is None else 1000 * self.batch / timing.median_ms


@dataclass(frozen=True)
class Tradeoff(Record):
    """All engines measured in one run."""

    points: tuple[TradeoffPoint, ...]
    provenance: Provenance

    def summary(self) -> str:
        return f"{len(self.points)} engines, {self.provenance.label()}"

    def rows(self) -> list[dict[str, Any]]:
        models = list(dict.fromkeys(point.model for point in self.points))
        return [
            {
                "model": p.model,
                "built as": p.name,
                "batch": p.batch,
                "accuracy %": None if p.accuracy is None else 100 * p.accuracy,
                "latency ms": (p.graph_timing or p.timing) and (p.graph_timing or p.timing).median_ms,  # type: ignore[union-attr]
                "images/s": p.images_per_second,
                "plan bytes": p.plan_bytes,
                "activations bytes": p.device_memory_bytes,
                "build s": p.build_seconds,
            }
            for p in sorted(self.points, key=lambda p: (models.index(p.model), p.batch))
        ]

    def select(self, model: str, batch: int | None = None) -> tuple[TradeoffPoint, ...]:
        """The points of one model, at one batch size if given; RecordingError where there are none."""
        found = tuple(p for p in self.points if p.model == model and batch in (None, p.batch))
        if not found:
            known = sorted({f"{p.model} at batch {p.batch}" for p in self.points})
            raise RecordingError(f"no engine of {model!r} at batch {batch}", f"one of {', '.join(known)}")
        return found

    def point(self, model: str, name: str, batch: int = 8) -> TradeoffPoint:
        """The engine built as ``name``; RecordingError where there is none."""
        here = {p.name: p for p in self.select(model, batch)}
        if name not in here:
            raise RecordingError(f"no engine {name!r} of {model!r} at batch {batch}", f"one of {', '.join(here)}")
        return here[name]


def pareto(
    points: Iterable[TradeoffPoint],
    cost: Callable[[TradeoffPoint], float | None],
    value: Callable[[TradeoffPoint], float | None],
) -> tuple[TradeoffPoint, ...]:
    """The points that no other beats: no other costs at most as much and is worth at least as much, one of it strictly.

    Points whose cost or value is unknown are left out. Sorted by cost.
    """
    known = [(c, v, p) for p in points if (c := cost(p)) is not None and (v := value(p)) is not None]
    front = [
        (c, v, p) for c, v, p in known if not any(c2 <= c and v2 >= v and (c2 < c or v2 > v) for c2, v2, _ in known)
    ]
    return tuple(p for _, _, p in sorted(front, key=lambda item: (item[0], -item[1])))


def slower(one: TradeoffPoint, other: TradeoffPoint) -> bool:
    """Whether ``one`` is slower by more than both spreads: its 5th percentile is above the other's 95th.

    By graph replay, which is what small engines can be compared by; False where either was not timed so.
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

    @property
    def int8_left(self) -> int:
        """How many units still ran in INT8 at the end."""
        return len(self.trials[-1].int8_units)


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
            f"{self.model} with {self.ranges} ranges: FP32 {100 * self.fp32_accuracy:.1f} %, all INT8 "
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
    profile_named: bool = True  # a calibration profile was set; else TensorRT takes the usual shape of the first


@dataclass(frozen=True)
class DynamicShapes(Record):
    """One network with a dynamic batch, calibrated at several sizes through the calibration profile."""

    model: str
    profile: tuple[int, ...]  # least, usual, greatest batch
    trials: tuple[DynamicTrial, ...]
    provenance: Provenance

    def summary(self) -> str:
        return f"{self.model} with a dynamic batch {self.profile}, {self.provenance.label()}"

    def rows(self) -> list[dict[str, Any]]:
        return [
            {
                "calibrator": t.algorithm,
                "calibrated at batch": t.calibration_batch,
                "calibration profile": "set" if t.profile_named else "not set",
                "batches": t.batches,
                **{f"accuracy % at batch {size}": 100 * share for size, share in t.accuracy_at.items()},
            }
            for t in self.trials
        ]


WEIGHTED = ("Conv", "ConvTranspose", "Gemm", "MatMul")


def units(nodes: Sequence[tuple[str, str]]) -> dict[str, tuple[str, ...]]:
    """Nodes grouped by the weighted node they follow: what a precision is asked for together.

    ``nodes``: (name, operator) in graph order. A convolution with the Relu, Clip, Add or pooling behind it is one
    unit, so that asking for FP32 does not break the fusion with INT8 in the middle. Nodes before the first weighted
    one belong to it.

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
