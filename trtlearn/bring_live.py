"""The part of "bring your own model" that needs a GPU: engines built, run on the reader's data, timed, inspected."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .activations import feeds
from .bring_data import DataFacts
from .bring_records import Answer, LiveResult
from .build import build_engine
from .builderconfig import Shapes
from .calibrator import BASES, make_calibrator
from .errors import TrtlearnError
from .experiment import engine_info
from .onnxfile import OnnxModel
from .onnxproto import serialized
from .records import BuildOptions
from .runner import Runner
from .trt import capabilities
from .variants import TRTEXEC_AVG_TIMING

__all__ = ["build_all"]

Array = NDArray[Any]
Judge = Callable[[str, Mapping[str, Array]], Answer]


def build_all(
    model: str | os.PathLike[str],
    facts: OnnxModel,
    quantized: Any,
    arrays: Mapping[str, Array],
    shape: DataFacts,
    algorithm: str,
    judge: Judge,
) -> tuple[LiveResult, ...]:
    """Every engine that this TensorRT can build: FP32, FP16, INT8 calibrated by TensorRT itself, and INT8 by Q/DQ.

    A build that fails gives a result that says why; the others go on. LiveUnavailable where there is no GPU.
    """
    able = capabilities()
    base = BuildOptions(batch=shape.batch, avg_timing=TRTEXEC_AVG_TIMING)
    ways: list[tuple[str, BuildOptions, Any]] = [("fp32", base, os.fspath(model))]
    if able.implicit_int8:
        ways.append(("fp16", replace(base, fp16=True), os.fspath(model)))
    if able.calibrators:
        kind = algorithm if algorithm in BASES else "entropy2"
        ways.append((f"int8-{kind}", replace(base, int8=True, ranges=kind), os.fspath(model)))
    ways.append(("int8-qdq", replace(base, int8=True, ranges="qdq"), serialized(quantized)))
    shapes = _shapes(facts, arrays, shape.batch, shape.whole)
    return tuple(_one(way, options, source, arrays, shape.whole, shapes, judge) for way, options, source in ways)


def _shapes(facts: OnnxModel, arrays: Mapping[str, Array], batch: int, whole: tuple[str, ...]) -> Shapes | None:
    """A profile of one shape, the data's; None where only the batch is dynamic, which build_engine sets itself."""
    more = any(not isinstance(axis, int) for value in facts.inputs for axis in (value.shape or ())[1:])
    sizes = {name: array.shape if name in whole else (batch, *array.shape[1:]) for name, array in arrays.items()}
    return {name: (size,) * 3 for name, size in sizes.items()} if more else None


def _one(
    way: str,
    options: BuildOptions,
    source: Any,
    arrays: Mapping[str, Array],
    whole: tuple[str, ...],
    shapes: Shapes | None,
    judge: Judge,
) -> LiveResult:
    if whole and options.ranges in BASES:
        return LiveResult(way, f"TensorRT's calibrator is given rows, and {', '.join(whole)} has none: see int8-qdq")
    try:
        with contextlib.ExitStack() as stack:
            given: dict[str, Any] = {}
            if options.ranges in BASES:
                calibrator = make_calibrator(options.ranges, dict(arrays), options.batch)
                given["calibrator"] = stack.enter_context(calibrator)
            built = build_engine(source, options, shapes=shapes, **given)
        engine = engine_info(built.text)
        with Runner(built.plan) as runner:
            parts = [runner.run(part) for part in feeds(arrays, options.batch, whole)]
            timing = runner.time(next(iter(feeds(arrays, options.batch, whole))))
    except TrtlearnError as problem:
        return LiveResult(way, str(problem))
    outputs = {name: np.concatenate([np.atleast_1d(part[name]) for part in parts]) for name in parts[0]}
    return LiveResult(
        way,
        "",
        timing.median_ms,
        (timing.p05_ms, timing.p95_ms),
        built.report.plan_bytes,
        built.report.build_seconds,
        len(engine.layers) or None,
        sum(layer.weight_dtype == "int8" for layer in engine.layers),
        sum(layer.is_reformat for layer in engine.layers),
        judge(way, outputs),
    )
