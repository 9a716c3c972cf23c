"""The noun Build: one engine, built and measured, live or recorded, and what can be asked of it."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .calibration.cache import CalibrationCache, parse_cache
from .engine.inspector import parse, read_engine
from .engine.layers import EngineInfo
from .engine.precision import PrecisionReport, precision_report
from .engine.records import (
    BuildOptions,
    BuildReport,
    CalibrationTrace,
    Message,
    Predictions,
    Provenance,
    RangeReport,
    Timing,
)
from .errors import BuildError, DataError, InspectorError, TrtlearnError
from .files import write_atomic
from .int8.simulate import Int8Run, TensorError, run_int8, tensor_errors
from .model.course_data import NETWORKS, model_path
from .model.graph import OnnxModel
from .model.read import read_model
from .model.run import activations
from .record import Record, html_table, plural

__all__ = ["Build", "Builds", "BuiltEngine", "LayerCounts", "engine_info", "failed_build"]


@dataclass(frozen=True)
class BuiltEngine:
    """What TensorRT built: the plan, as it calls the file, and how it came about."""

    plan: bytes = field(repr=False)
    report: BuildReport
    text: str | None = field(default=None, repr=False)  # the inspector's JSON; None: not loadable
    ranges: RangeReport | None = None
    calibration: CalibrationTrace | None = None
    timing_cache: bytes | None = field(default=None, repr=False)

    def save(self, path: str | os.PathLike[str]) -> Path:
        """Write the plan to a file, whole or not at all."""
        return write_atomic(path, self.plan)


def engine_info(text: str | None) -> EngineInfo:
    """The inspector's text parsed; no layers where it is missing or not understood."""
    try:
        return read_engine(text or "")
    except InspectorError:
        return EngineInfo((), raw=text or "")


@dataclass(frozen=True)
class LayerCounts(Record):
    """How many layers an engine has, where the layers themselves were not recorded."""

    layers: int | None
    int8_layers: int | None  # with INT8 weights
    reformats: int | None


@dataclass(frozen=True)
class Build(Record):
    """One engine, built and measured: what a notebook looks at, live or recorded.

    What was not measured is None and prints as "unknown". A build that failed has an ``error`` and
    no layers.

    Example::

        run = tl.network("resnet").build("int8-minmax")
        run.accuracy, run.latency_ms, run.int8_layers, run.cache, run.precision()
    """

    model: str
    variant: str  # fp32, int8-entropy2, ...: how it was built
    provenance: Provenance
    build: BuildReport
    engine: EngineInfo
    ranges: RangeReport | None = None
    calibration: CalibrationTrace | None = None
    timing: Timing | None = None  # one launch after the other
    predictions: Predictions | None = None
    map50: float | None = None  # of a detector: mAP at an overlap of one half
    graph_timing: Timing | None = None  # a CUDA graph replayed: without the CPU's launching
    question: str = ""  # of a study: what this build was made to find out
    error: str | None = None  # the BuildError's text, where the build failed
    device_memory_bytes: int | None = None  # activations and scratch, without weights
    cold_build_seconds: float | None = None  # of the same build without a timing cache
    logits_sqnr_db: float | None = None  # of the answers against FP32's
    note: str = ""
    trtexec_ms: float | None = None  # the same plan in NVIDIA's trtexec: median GPU compute time
    trtexec_graph_ms: float | None = None  # likewise with --useCudaGraph
    counts: LayerCounts | None = None
    model_file: str | None = None  # the ONNX file, where it is not one of the course's networks

    @classmethod
    def from_built(
        cls, built: BuiltEngine, model: str, variant: str, provenance: Provenance, **facts: Any
    ) -> Build:
        """The record of an engine that was just built; ``facts`` are what was measured on it."""
        return cls(
            model=model,
            variant=variant,
            provenance=provenance,
            build=built.report,
            engine=engine_info(built.text),
            ranges=built.ranges,
            calibration=built.calibration,
            **facts,
        )

    @property
    def label(self) -> str:
        """What figures say of it: "recorded on NVIDIA H200, TensorRT 8.6.0, 2026-11-23"."""
        return self.provenance.label()

    @property
    def options(self) -> BuildOptions:
        """How it was built."""
        return self.build.options

    @property
    def batch(self) -> int:
        """Images a batch."""
        return self.build.options.batch

    @cached_property
    def cache(self) -> CalibrationCache | None:
        """The calibration cache that TensorRT wrote or was given; None without a calibrator."""
        text = self.calibration and self.calibration.cache
        return parse_cache(text, f"the cache of {self.variant}") if text else None

    @property
    def accuracy(self) -> float | None:
        """Share of the test images that the engine classifies correctly, 0 to 1."""
        one = self.predictions
        return None if one is None or not one.count else one.accuracy

    @property
    def quality(self) -> float | None:
        """How good its answers are, 0 to 1: the accuracy, or a detector's mAP50."""
        return self.accuracy if self.map50 is None else self.map50

    @property
    def answers(self) -> NDArray[np.int64] | None:
        """The class that the engine gives each test image, int64 [N]."""
        known = self.predictions is not None and self.predictions.classes
        return np.array(known, np.int64) if known else None

    @property
    def latency_ms(self) -> float | None:
        """Median milliseconds of one batch, launched one after the other."""
        return None if self.timing is None else self.timing.median_ms

    @property
    def layer_time_ms(self) -> float | None:
        """The layers' median milliseconds from TensorRT's profiler, added up."""
        times = self.timing and self.timing.layers_ms
        return sum(times.values()) if times else None

    @property
    def images_per_second(self) -> float | None:
        """Throughput: ``1000 * batch / median milliseconds``, of graph replays where timed."""
        timing = self.graph_timing or self.timing
        return None if timing is None else 1000 * self.batch / timing.median_ms

    @property
    def plan_bytes(self) -> int | None:
        """Size of the serialized engine."""
        return self.build.plan_bytes

    @property
    def build_seconds(self) -> float | None:
        """How long the build took from nothing; None where a timing cache shortened it."""
        if self.cold_build_seconds is not None or self.options.timing_cache != "empty":
            return self.cold_build_seconds
        return self.build.build_seconds

    @property
    def _counts(self) -> LayerCounts:
        engine = self.engine
        if not engine.layers:
            return self.counts or LayerCounts(None, None, None)
        return LayerCounts(len(engine.layers), len(engine.int8), len(engine.reformats))

    @property
    def layers(self) -> int | None:
        """How many layers the engine has."""
        return self._counts.layers

    @property
    def int8_layers(self) -> int | None:
        """How many engine layers have INT8 weights."""
        return self._counts.int8_layers

    @property
    def reformats(self) -> int | None:
        """How many engine layers only change a tensor's type or memory layout."""
        return self._counts.reformats

    @property
    def int8_nodes(self) -> frozenset[str]:
        """The ONNX nodes inside engine layers that have INT8 weights."""
        return self.engine.int8_nodes

    @property
    def layer_dicts(self) -> list[Any]:
        """The inspector's own JSON, one item a layer; none where its text was not kept."""
        return list(parse(self.engine.raw)["Layers"]) if self.engine.raw else []

    def warning(self, code: str) -> Message:
        """The message of this kind in TensorRT's log, such as "missing-scale"; else DataError."""
        messages = {message.code: message for message in self.build.messages}
        if code not in messages:
            codes = ", ".join(filter(None, messages)) or "nothing: its log has no known warning"
            problem = f"{self.variant} of {self.model} has no warning {code!r}"
            raise DataError(problem, f"use {codes}")
        return messages[code]

    def _model_path(self) -> str | os.PathLike[str] | None:
        return self.model_file or (model_path(self.model) if self.model in NETWORKS else None)

    def onnx(self) -> OnnxModel | None:
        """The model's nodes and tensors; None without onnx or without the ONNX file."""
        try:
            path = self._model_path()
            return None if path is None else read_model(path)
        except (ImportError, TrtlearnError):
            return None

    def precision(self, model: OnnxModel | str | os.PathLike[str] | None = None) -> PrecisionReport:
        """Requested against chosen type, with the reason: for every ONNX node and engine layer.

        ``model``: the ONNX file, where it is not the one that the build names. Without onnx or
        without that file the nodes that the engine does not name are left out.
        """
        return precision_report(self.engine, build=self.build, model=model or self.onnx())

    def simulate(
        self,
        images: ArrayLike | Mapping[str, NDArray[Any]],
        scales: Mapping[str, float] | None = None,
    ) -> Int8Run:
        """The same engine in numpy: every tensor that it computes for ``images`` float32 [N,...].

        Ranges, fused groups and tensors that stay in float are the engine's. ``scales``: tensor ->
        scale, in place of its own. DataError for a build without ranges.
        """
        path = self._model_path()
        if path is None:
            raise DataError(f"{self.model} is not on this machine", "use one of the networks here")
        if self.ranges is None:
            raise DataError(f"{self.variant} has no ranges", "use a build by ranges: int8-minmax")
        array = images if isinstance(images, Mapping) else np.asarray(images)
        own = {tensor.name: tensor.scale for tensor in self.ranges.tensors if tensor.scale}
        return run_int8(path, own | dict(scales or {}), array, engine=self.engine)

    def tensor_errors(self, images: NDArray[np.float32]) -> tuple[TensorError, ...]:
        """Each tensor that :meth:`simulate` computes for ``images``, beside FP32's.

        Raises as :meth:`simulate` does.
        """
        run = self.simulate(images)
        return tensor_errors(run, next(iter(activations(self._model_path() or "", [images]))))

    def summary(self) -> str:
        asked = f"{self.question} " if self.question else ""
        return f"{asked}{self.model}, {self.variant}: {self.label}"

    def rows(self) -> list[dict[str, Any]]:
        if self.error is not None:
            return [{"fact": "build", "value": self.error}]
        size, seconds = self.plan_bytes, self.build.build_seconds
        facts = {
            "accuracy": None if self.accuracy is None else f"{100 * self.accuracy:.1f} %",
            **({} if self.map50 is None else {"mAP50": f"{100 * self.map50:.1f} %"}),
            "latency, launch after launch": self.timing and self.timing.summary(),
            **({"latency, graph replay": self.graph_timing.summary()} if self.graph_timing else {}),
            "plan size": size and f"{size:,} bytes",
            "engine layers": self.layers,
            "layers with INT8 weights": self.int8_layers,
            "build time": seconds and f"{seconds:.1f} s",
        }
        return [{"fact": key, "value": value} for key, value in facts.items()]


class Builds(dict[str, Build]):
    """Variant -> build of a network; shown as a table, a row a build."""

    def rows(self) -> list[dict[str, Any]]:
        """One dictionary a build, for a table."""
        return [
            {
                "variant": variant,
                "right or mAP50 %": None if build.quality is None else 100 * build.quality,
                "ms, launch after launch": build.latency_ms,
                "plan bytes": build.plan_bytes,
                "layers": build.layers,
                "with INT8 weights": build.int8_layers,
                "reformats": build.reformats,
            }
            for variant, build in self.items()
        ]

    def __repr__(self) -> str:
        return f"<{plural(len(self), 'build')}: {', '.join(self) or 'none'}>"

    def _repr_html_(self) -> str:
        return f"<p><b>{plural(len(self), 'build')}</b></p>{html_table(self.rows())}"


def failed_build(
    model: str, variant: str, provenance: Provenance, options: BuildOptions, error: BuildError
) -> Build:
    """The record of a build that TensorRT refused: its options, its messages and the error."""
    report = BuildReport(options, None, None, tuple(error.messages or ()))
    return Build(model, variant, provenance, report, EngineInfo(()), error=str(error))
