"""Frozen facts of a build: its options, ranges, calibration, messages, times and answers.

Unknown is ``None`` and prints as "unknown". Nothing here knows TensorRT: a record looks the same
live and replayed from a recording. tables/variants.json holds the builds that the course compares.
"""

from __future__ import annotations

import math
import os
from dataclasses import dataclass, field, replace
from typing import Any

from ..errors import CommandError
from ..files import load_table
from ..record import Record, Table, plural, show

__all__ = [
    "ALGORITHMS",
    "HEADS",
    "LABELS",
    "TACTIC_SOURCES",
    "TRTEXEC_AVG_TIMING",
    "VARIANTS",
    "BuildOptions",
    "BuildReport",
    "CalibrationTrace",
    "CalibratorCall",
    "Message",
    "Predictions",
    "Provenance",
    "RangeReport",
    "TensorRange",
    "Timing",
    "live_options",
    "variant_options",
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


# The builds that the course compares

ALGORITHMS = ("entropy2", "minmax", "entropy", "legacy")
"""TensorRT's four calibrators."""

TRTEXEC_AVG_TIMING = 8
"""Timings of a kernel that trtexec averages (v8.6.1:samples/common/sampleOptions.h:38); the
builder's own default is 1 (v8.6.1:include/NvInfer.h:9142).
"""

TACTIC_SOURCES = "TRTLEARN_TACTIC_SOURCES"
"""The environment variable that names the tactic sources of live builds: CUDNN,JIT_CONVOLUTIONS, or
none where the machine has neither cuBLAS nor cuDNN; unset: TensorRT's own choice.
"""

_ROWS = load_table("variants")
VARIANTS = {name: BuildOptions(**row["options"]) for name, row in _ROWS.items()}
"""Name -> how it is built. TF32 is off except in "tf32", so that FP32 means FP32."""
LABELS: dict[str, str] = {name: row["label"] for name, row in _ROWS.items()}
"""Name -> plain words."""
HEADS: dict[str, str] = {name: row["head"] for name, row in _ROWS.items()}
"""Name -> the head of its column in a picture."""


def variant_options(variant: str) -> BuildOptions:
    """The options of a variant by name.

    Raises CommandError that lists the names for one unknown.

    >>> variant_options("int8-placeholder").ranges
    'placeholder'
    """
    if variant not in VARIANTS:
        raise CommandError(f"no variant {variant!r}", f"one of {', '.join(VARIANTS)}")
    return VARIANTS[variant]


def live_options(options: BuildOptions) -> BuildOptions:
    """The same build on this machine: kernels are timed as trtexec times them, and are taken from
    what TACTIC_SOURCES names.
    """
    text = os.environ.get(TACTIC_SOURCES)
    words = [word.strip() for word in (text or "").split(",")]
    named = tuple(word for word in words if word not in ("", "none"))
    sources = named if text else options.tactic_sources
    return replace(options, avg_timing=TRTEXEC_AVG_TIMING, tactic_sources=sources)
