"""The step that needs a GPU: engines built, run on the reader's data, timed, inspected."""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from ...builds import Build, failed_build
from ...engine.records import BuildOptions, Provenance
from ...engine.variants import live_options
from ...errors import BuildError, TrtlearnError
from ...files import sha256
from ...live.build import build_engine
from ...live.calibrator import BASES, make_calibrator
from ...live.configuration import Shapes
from ...live.experiment import provenance
from ...live.runner import Runner
from ...live.trt import capabilities
from ...model.read import serialized
from ...recorded.store import Wanted, build_once, digests, plan_of
from .records import Answer, EngineResult
from .task import Outputs, Task, join_batches

if TYPE_CHECKING:
    import onnx

__all__ = ["build_engines"]

Judge = Callable[[str, Outputs], Answer]


def build_engines(task: Task, quantized: onnx.ModelProto, judge: Judge) -> tuple[EngineResult, ...]:
    """Every engine that this TensorRT can build: FP32, FP16, INT8 calibrated, INT8 by Q/DQ.

    ``judge`` gets a way of building and the engine's outputs. A build that fails gives a result
    that says why, and the others go on. LiveUnavailable where there is no GPU.
    """
    able = capabilities()
    path = os.fspath(task.path)
    base = live_options(BuildOptions(batch=task.inputs.facts.batch))
    ways: dict[str, tuple[BuildOptions, str | bytes]] = {"fp32": (base, path)}
    if able.implicit_int8:
        ways["fp16"] = (replace(base, fp16=True), path)
    if able.calibrators:
        kind = task.algorithm if task.algorithm in BASES else "entropy2"
        ways[f"int8-{kind}"] = (replace(base, int8=True, ranges=kind), path)
    ways["int8-qdq"] = (replace(base, int8=True, ranges="qdq"), serialized(quantized))
    here = provenance(tactic_sources=base.tactic_sources)
    origin = replace(here, sha256={task.path.name: sha256(task.path)})
    return tuple(
        _build(task, way, options, source, origin, judge) for way, (options, source) in ways.items()
    )


def _build(
    task: Task,
    way: str,
    options: BuildOptions,
    source: str | bytes,
    origin: Provenance,
    judge: Judge,
) -> EngineResult:
    plans: list[bytes] = []

    def make() -> tuple[Build, bytes]:
        with ExitStack() as stack:
            calibrator: dict[str, Any] = {}
            if options.ranges in BASES:
                calibrator["calibrator"] = stack.enter_context(_calibrator(task, options))
            built = build_engine(source, options, shapes=_shapes(task), **calibrator)
        with Runner(built.plan) as runner:
            timing = runner.time(next(iter(task.inputs)))
        plans.append(built.plan)
        measured = {"timing": timing, "model_file": os.fspath(task.path)}
        return Build.from_built(built, task.name, way, origin, **measured), built.plan

    content = {"model": sha256(source)}
    wanted = Wanted(task.name, way, options, origin, content | digests(task.inputs.arrays))
    try:
        own = build_once(wanted, make, need_plan=True)
        with Runner(plans[0] if plans else plan_of(wanted, own) or b"") as runner:
            outputs = join_batches(runner.run(batch) for batch in task.inputs)
    except TrtlearnError as problem:
        error = problem if isinstance(problem, BuildError) else BuildError(str(problem))
        return EngineResult(failed_build(task.name, way, origin, options, error))
    return EngineResult(own.build, judge(way, outputs))


def _calibrator(task: Task, options: BuildOptions) -> Any:
    if whole := task.inputs.facts.whole:
        names = ", ".join(whole)
        raise BuildError(f"TensorRT's calibrator is given rows, and {names} has none: see int8-qdq")
    return make_calibrator(options.ranges, dict(task.inputs.arrays), options.batch)


def _shapes(task: Task) -> Shapes | None:
    """A profile of one shape, the data's; None where only the batch is dynamic."""
    axes = [axis for value in task.model.inputs for axis in (value.shape or ())[1:]]
    if all(isinstance(axis, int) for axis in axes):
        return None
    facts = task.inputs.facts
    shapes = {}
    for name, array in task.inputs.arrays.items():
        size = array.shape if name in facts.whole else (facts.batch, *array.shape[1:])
        shapes[name] = (size, size, size)
    return shapes
