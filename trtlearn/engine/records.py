"""Frozen facts: an engine and its layers; a build's options, ranges, calibration, times, answers.

Unknown is ``None`` and prints as "unknown". Nothing here knows TensorRT: a record looks the same
live and replayed from a recording.
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass, field
from itertools import chain
from typing import Any

from ..record import Record, Table, later, plural, show

__all__ = [
    "Binding",
    "BuildOptions",
    "BuildReport",
    "CalibrationTrace",
    "CalibratorCall",
    "EngineInfo",
    "EngineLayer",
    "EngineTensor",
    "Message",
    "Predictions",
    "Provenance",
    "RangeReport",
    "TensorRange",
    "Timing",
]


NAMES_ONLY = (
    "the engine was built without detailed profiling verbosity, so only its layers' names are "
    "known: build it again with --profilingVerbosity=detailed, which acts at the build only, not "
    "with --loadEngine"
)
_FLOATS = {"fp32", "fp16", "bf16"}
QUANTIZED = {"int8", "int4", "fp8"}
_IDLE_KINDS = {
    "Constant",
    "DeviceToShapeHost",
    "NoOp",
    "ShapeHostToDevice",
    "TrainStation",
    "cjmp",
    "jmp",
    "shape_call",
    "signal",
    "wait",
}
"""LayerTypes that compute nothing: renamings, Myelin's control flow, copies of shapes."""


@dataclass(frozen=True)
class EngineTensor(Record):
    """A tensor at a layer's edge, as the engine stores it."""

    name: str
    dims: tuple[int, ...] | None
    dtype: str | None
    format: str | None = None  # TensorRT's own phrase
    vector: int | None = None  # channels packed together: 32 of "Thirty-two wide channel ..."
    location: str | None = None


@dataclass(frozen=True)
class EngineLayer(Record):
    """One layer of a built engine."""

    name: str
    kind: str | None  # TensorRT's LayerType
    inputs: tuple[EngineTensor, ...]
    outputs: tuple[EngineTensor, ...]
    weight_dtype: str | None = None
    weight_count: int | None = None
    weight_bytes: int | None = None
    bias_dtype: str | None = None
    bias_count: int | None = None
    kernel: str | None = None  # the tactic's name
    tactic: str | None = None
    onnx_nodes: tuple[str, ...] = ()
    onnx_nodes_inferred: bool = False  # by its name or tensors: its Metadata does not say
    is_reformat: bool = False
    stream: int | None = None
    raw: str = later(str, json.dumps, "")  # the inspector's JSON

    @property
    def input_dtypes(self) -> tuple[str | None, ...]:
        return tuple(tensor.dtype for tensor in self.inputs)

    @property
    def output_dtypes(self) -> tuple[str | None, ...]:
        return tuple(tensor.dtype for tensor in self.outputs)

    @property
    def weights_listed(self) -> str | None:
        """The weights' type, None if unknown; "none listed" may hide some, such as Myelin's."""
        return self.weight_dtype if self.weight_count else "none listed"

    @property
    def role(self) -> str:
        """What the layer is in the network: compute, reformat or no-op."""
        if self.is_reformat:
            return "reformat"
        return "no-op" if self.kind in _IDLE_KINDS else "compute"

    @property
    def computed_in(self) -> str | None:
        """The type in which the layer works, as far as weights and inputs show it; else None.

        The weights' type where both are equally narrow (INT8 weights meet INT8 inputs); the inputs'
        where only the weights are narrow (weight-only quantization). A reformat or a NoOp computes
        nothing. "Myelin" is a stretch of the network in one layer; a "kgen" kernel only moves
        quantized inputs, or scales them to a type that is not named.
        """
        if self.role != "compute":
            return None
        inputs = {dtype for dtype in self.input_dtypes if dtype is not None}
        if self.weight_count and self.weight_dtype:
            weight_only = self.weight_dtype in QUANTIZED and inputs and inputs <= _FLOATS
            return _only(inputs) if weight_only else self.weight_dtype
        if None in self.input_dtypes or self.kind == "Myelin":
            return None
        data = inputs & (_FLOATS | QUANTIZED)
        if self.kind == "kgen" and data & QUANTIZED:
            return None
        return _only(data or inputs)

    def summary(self) -> str:
        types = show(tuple(dict.fromkeys(self.input_dtypes))), show(self.output_dtypes)
        weights = f", {self.weight_dtype} weights" if self.weight_count else ""
        return f"{self.name}: {types[0]} in, {types[1]} out{weights}"

    @property
    def shown_dtype(self) -> str | None:
        """The type that stands for the layer in a picture.

        The one it works in; of a layer that computes nothing the one that it hands on.
        """
        if self.role == "compute":
            return self.computed_in
        return self.outputs[0].dtype if self.outputs else None


def _only(dtypes: set[str]) -> str | None:
    return next(iter(dtypes)) if len(dtypes) == 1 else None


@dataclass(frozen=True)
class Binding(Record):
    """An input or output of the engine."""

    name: str
    mode: str  # input, output
    dims: tuple[int, ...] | None = None
    dtype: str | None = None
    format: str | None = None


@dataclass(frozen=True)
class EngineInfo(Table[EngineLayer]):
    """A built engine as its inspector describes it: ``engine["conv1 + relu1"]``,
    ``engine[0]``, ``engine.int8``.
    """

    ITEMS = "layers"

    layers: tuple[EngineLayer, ...]
    bindings: tuple[Binding, ...] = ()
    schema: str | None = None  # 8.6, 10, 11: which inspector's JSON it was
    detailed: bool | None = None  # False: names only, built without detailed profiling verbosity
    raw: str = field(default="", repr=False)

    @property
    def int8(self) -> tuple[EngineLayer, ...]:
        """The layers that have INT8 weights."""
        return tuple(layer for layer in self.layers if layer.weight_dtype == "int8")

    @property
    def int8_nodes(self) -> frozenset[str]:
        """The ONNX nodes inside these layers."""
        return frozenset(chain.from_iterable(layer.onnx_nodes for layer in self.int8))

    @property
    def reformats(self) -> tuple[EngineLayer, ...]:
        """The layers that only change a tensor's type or memory layout."""
        return tuple(layer for layer in self.layers if layer.is_reformat)

    def summary(self) -> str:
        count = len(self.reformats)
        names_only = "; names only" if self.detailed is False else ""
        return (
            f"{len(self.layers)} engine layers, {plural(count, 'reformat')} among them{names_only}"
        )

    @property
    def notes(self) -> tuple[str, ...]:
        """What to know of it: that an engine built without detailed verbosity holds names only."""
        return (NAMES_ONLY,) if self.detailed is False else ()

    def rows(self) -> list[dict[str, Any]]:
        return [
            {
                "layer": layer.name,
                "in": None if self.detailed is False else layer.input_dtypes,
                "out": None if self.detailed is False else layer.output_dtypes,
                "weights": None if self.detailed is False else layer.weights_listed,
                "kernel": layer.kernel,
                "ONNX nodes": layer.onnx_nodes,
            }
            for layer in self.layers
        ]


@dataclass(frozen=True)
class Provenance(Record):
    """Where and when something was measured, and from what."""

    gpu: str | None = None
    driver: str | None = None
    tensorrt: str | None = None
    cuda: str | None = None
    python: str | None = None
    trtlearn: str | None = None
    tactic_sources: tuple[str, ...] | None = None
    command: str | None = None
    time_utc: str | None = None  # ISO 8601
    sha256: dict[str, str] = field(default_factory=dict)  # file under data/ -> hash it had
    notes: tuple[str, ...] = ()
    recorded: bool = True
    since_utc: str | None = None  # of a folder: its oldest recording, where that is another day's

    def label(self) -> str:
        """What figures say: "recorded on NVIDIA H200, TensorRT 8.6.0, 2026-11-23"."""
        state = "recorded" if self.recorded else "measured here"
        date = self.time_utc[:10] if self.time_utc else "unknown date"
        if self.since_utc and self.since_utc[:10] != date:
            date = f"{self.since_utc[:10]} to {date}"
        return f"{state} on {show(self.gpu)}, TensorRT {show(self.tensorrt)}, {date}"

    def summary(self) -> str:
        return self.label()


@dataclass(frozen=True)
class TensorRange(Record):
    """One tensor's dynamic range [-amax, amax], its INT8 scale amax / 127 and their source.

    ``source`` is one of placeholder, cache, user, calibrated, tied, log, none.
    """

    name: str
    amax: float | None
    scale: float | None
    source: str
    note: str = ""


@dataclass(frozen=True)
class RangeReport(Table[TensorRange]):
    """Every tensor's range after ranges were set, and the names that fitted no tensor."""

    tensors: tuple[TensorRange, ...]
    unmatched: tuple[str, ...] = ()  # names asked for that the network does not have
    without_range: tuple[str, ...] = ()  # tensors of the network left with no range

    def summary(self) -> str:
        return (
            f"{plural(len(self.tensors), 'tensor')}, {len(self.without_range)} without a range, "
            f"{plural(len(self.unmatched), 'name')} not in the network"
        )

    def rows(self) -> list[dict[str, Any]]:
        return [
            {
                "tensor": t.name,
                "range": t.amax and f"±{t.amax:.6g}",
                "scale": t.scale,
                "source": t.source,
                "note": t.note,
            }
            for t in self.tensors
        ]


@dataclass(frozen=True)
class CalibratorCall(Record):
    """One call that TensorRT made on a calibrator."""

    method: str  # get_batch_size, get_batch, read_calibration_cache, ...
    argument: str = ""  # the names asked for, or how many bytes were handed over
    answer: str = ""
    milliseconds: float | None = None


@dataclass(frozen=True)
class CalibrationTrace(Record):
    """The conversation between TensorRT and one calibrator, call by call."""

    algorithm: str  # entropy2, entropy, minmax, legacy
    batch_size: int
    batches: int  # handed over
    calls: tuple[CalibratorCall, ...]
    cache: str | None = None  # the text that TensorRT wrote or was handed
    cache_was_read: bool = False
    inputs: tuple[str, ...] = ()

    def summary(self) -> str:
        batches = f"{plural(self.batches, 'batch', 'batches')} of {self.batch_size}"
        return f"{self.algorithm} calibrator: {plural(len(self.calls), 'call')}, {batches}"

    def rows(self) -> list[dict[str, Any]]:
        return [
            {"call": c.method, "argument": c.argument, "answer": c.answer, "ms": c.milliseconds}
            for c in self.calls
        ]


@dataclass(frozen=True)
class Message(Record):
    """A TensorRT log message in plain words: what it means and what to do."""

    severity: str  # error, warning, info
    text: str  # TensorRT's own words (the first of ``count`` alike)
    code: str = ""  # trtlearn's name of the kind, "" where not known
    plain: str | None = None
    fix: str | None = None
    names: tuple[str, ...] = ()  # tensors or layers concerned
    count: int = 1


@dataclass(frozen=True)
class BuildOptions(Record):
    """How an engine is built: the same names in build, explain and the recordings."""

    int8: bool = False
    fp16: bool = False
    tf32: bool = False
    ranges: str = "none"
    """none, placeholder, random, cache, entropy2, entropy, minmax, legacy, user or qdq."""
    batch: int = 8
    layer_precisions: dict[str, str] = field(default_factory=dict)  # ONNX node or layer -> dtype
    layer_output_types: dict[str, str] = field(default_factory=dict)  # the same, for outputs
    precision_constraints: str = "none"  # none, prefer, obey
    optimization_level: int | None = None
    tactic_sources: tuple[str, ...] | None = None  # None: TensorRT's default
    avg_timing: int | None = None
    """Timings of a kernel that are averaged; None: TensorRT's default, 1 (trtexec: 8)."""
    timing_cache: str = "empty"  # empty, warm (filled by earlier builds), or a path
    outputs_marked: tuple[str, ...] = ()  # further tensors marked as network outputs


@dataclass(frozen=True)
class BuildReport(Record):
    """What one build did."""

    options: BuildOptions
    build_seconds: float | None
    plan_bytes: int | None
    messages: tuple[Message, ...] = ()
    scales: tuple[TensorRange, ...] = ()  # as the verbose log names them
    tensorrt: str | None = None
    log: str = field(default="", repr=False)  # the verbose log, whole

    def summary(self) -> str:
        size = "unknown" if self.plan_bytes is None else f"{self.plan_bytes:,} bytes"
        warnings = f"{len(self.messages)} kinds of warning"
        return f"built in {show(self.build_seconds)} s, plan {size}, {warnings}"

    def rows(self) -> list[dict[str, Any]]:
        return [
            {
                "severity": m.severity,
                "count": m.count,
                "meaning": m.plain or m.text,
                "what to do": m.fix,
            }
            for m in self.messages
        ]


@dataclass(frozen=True)
class Timing(Record):
    """Latency of one engine: each run timed alone with a pair of CUDA events."""

    median_ms: float
    p05_ms: float
    p95_ms: float
    runs: int
    warmup: int
    batch: int
    method: str = "cuda events"
    layers_ms: dict[str, float] = field(default_factory=dict)  # by engine layer, from the profiler

    def summary(self) -> str:
        spread = f"5 to 95 %: {self.p05_ms:.4f} to {self.p95_ms:.4f} ms, {plural(self.runs, 'run')}"
        return f"{self.median_ms:.4f} ms a batch of {self.batch} ({spread})"


@dataclass(frozen=True)
class Predictions(Record):
    """What an engine answered on the test images."""

    classes: tuple[int, ...]
    correct: int
    count: int

    @property
    def accuracy(self) -> float:
        return self.correct / self.count if self.count else math.nan

    def summary(self) -> str:
        return f"{self.correct} of {self.count} right: {100 * self.accuracy:.1f} %"

    def rows(self) -> list[dict[str, Any]]:
        return []
