"""The step that needs a GPU: engines built, run on the reader's data, timed, inspected."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING
from zipfile import ZIP_STORED, BadZipFile

import numpy as np

from ...builds import Build, failed_build
from ...calibration.network import load_model
from ...engine.records import BuildOptions, live_options
from ...errors import BuildError, DataError, TrtlearnError
from ...files import sha256, write_atomic
from ...live.build import Shapes
from ...live.calibrator import BASES
from ...live.experiment import built_with, provenance
from ...live.runner import Runner
from ...live.trt import capabilities
from ...model.course_data import NETWORKS, model_card
from ...model.data import Array, DataFacts, InputData, npz_bytes
from ...model.read import serialized
from ...recorded.store import (
    Wanted,
    build_once,
    digests,
    expected_seconds,
    find,
    is_whole,
    outputs_of,
    plan_of,
)
from .records import Answer, EngineResult
from .task import Outputs, Task, join_batches

if TYPE_CHECKING:
    import onnx

__all__ = ["OwnEngines", "build_engines", "builds_behind_page", "engines_of"]

DATA, MODEL = "data ", "model "  # what names in a saved file begin with
Judge = Callable[[str, Outputs], Answer]
Progress = Callable[[int, int | None], None]


@dataclass(frozen=True)
class OwnEngines:
    """The engines of one reader's network: all that builds them, here or in another process."""

    task: Task
    sources: Mapping[str, str | bytes]  # way of building -> the ONNX file, or the Q/DQ model
    wanted: Mapping[str, Wanted]

    def key(self) -> str:
        """A word that only these engines have."""
        return sha256("".join(one.place.name for one in self.wanted.values()).encode())[:16]

    def save(self, path: Path) -> None:
        """Write a .npz file for another process; :meth:`load` reads it. Labels stay out."""
        task = self.task
        told = {
            "path": os.path.abspath(task.path),
            "algorithm": task.algorithm,
            "facts": task.inputs.facts.to_dict(),
            "wanted": [one.to_dict() for one in self.wanted.values()],
        }
        arrays = {"told": np.frombuffer(json.dumps(told).encode(), np.uint8)}
        arrays |= {f"{DATA}{name}": array for name, array in task.inputs.arrays.items()}
        for way, source in self.sources.items():
            if isinstance(source, bytes):
                arrays[f"{MODEL}{way}"] = np.frombuffer(source, np.uint8)
        write_atomic(path, npz_bytes(arrays, ZIP_STORED))  # it is read once, in a moment

    @classmethod
    def load(cls, path: Path) -> OwnEngines:
        """What :meth:`save` wrote, the model read again; DataError for another file."""
        try:
            with np.load(path, allow_pickle=False) as file:
                arrays = dict(file)
            told = json.loads(arrays["told"].tobytes())
        except (OSError, EOFError, ValueError, KeyError, BadZipFile) as problem:
            raise DataError(f"{path} holds no engines to build ({problem})") from problem
        proto, model = load_model(told["path"])
        data = {name.removeprefix(DATA): x for name, x in arrays.items() if name.startswith(DATA)}
        inputs = InputData(data, DataFacts.from_dict(told["facts"]))
        task = Task(Path(told["path"]), proto, model, inputs, None, told["algorithm"])
        wanted = {one["variant"]: Wanted.from_dict(one) for one in told["wanted"]}
        sources: dict[str, str | bytes] = dict.fromkeys(wanted, told["path"])
        for way in wanted:
            if (content := arrays.get(f"{MODEL}{way}")) is not None:
                sources[way] = content.tobytes()
        return cls(task, sources, wanted)

    def expected_seconds(self, way: str) -> float | None:
        """How long the build takes; known for the course's own networks only.

        Of Q/DQ nothing was recorded: it takes as long as bare --int8 (measured on an H200: the four
        engines of notebook 09 together).
        """
        name = self.task.name
        ours = name in NETWORKS and model_card(name).sha256 == sha256(self.task.path)
        like = "int8-placeholder" if way == "int8-qdq" else way
        return (expected_seconds(name, way) or expected_seconds(name, like)) if ours else None

    def is_kept(self, way: str) -> bool:
        """Whether this machine knows the engine's outputs, or that it fails, without building."""
        own = find(self.wanted[way])
        return own is not None and is_whole(self.wanted[way], own)

    def build(
        self,
        way: str,
        progress: Progress | None = None,
        stage: Callable[[str], None] | None = None,
        again: bool = False,
    ) -> tuple[Build, Outputs]:
        """The engine and its outputs for all rows: kept from an earlier time, or made now and kept.

        ``progress`` is called with the calibration batches done and in all, ``stage`` with waiting,
        building, measuring. ``again``: builds in any case. BuildError where TensorRT fails.
        """
        wanted, say = self.wanted[way], stage or (lambda word: None)
        given: list[Outputs] = []

        def make() -> tuple[Build, bytes, Outputs]:
            say("building")
            rows, shapes = partial(_rows, self.task), _shapes(self.task)
            source = self.sources[way]
            built = built_with(source, wanted.options, rows, progress=progress, shapes=shapes)
            say("measuring")
            with Runner(built.plan) as runner:
                timing = runner.time(next(iter(self.task.inputs)))
                given.append(join_batches(map(runner.run, self.task.inputs)))
            measured = {"timing": timing, "model_file": os.fspath(self.task.path)}
            build = Build.from_built(built, self.task.name, way, wanted.origin, **measured)
            return build, built.plan, given[0]

        waiting = partial(say, "waiting")
        own = build_once(wanted, make, again=again, need_outputs=True, waiting=waiting)
        outputs = given[0] if given else outputs_of(wanted, own)
        if outputs is None:
            with Runner(plan_of(wanted, own) or b"") as runner:
                outputs = join_batches(map(runner.run, self.task.inputs))
        return own.build, outputs


stand_in: Callable[[OwnEngines, str], bool] | None = None
"""In a live notebook: whether this engine is being built behind the page, and is shown later."""


def builds_behind_page() -> bool:
    """Whether engines that are missing are built behind a notebook's page."""
    return stand_in is not None


def engines_of(task: Task, quantized: onnx.ModelProto) -> OwnEngines:
    """Every engine that this TensorRT can build: FP32, FP16, INT8 calibrated, INT8 by Q/DQ."""
    able = capabilities()
    path = os.path.abspath(task.path)
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
    data = digests(task.inputs.arrays)
    sources = {way: source for way, (_, source) in ways.items()}
    wanted = {
        way: Wanted(task.name, way, options, origin, {"model": sha256(source)} | data)
        for way, (options, source) in ways.items()
    }
    return OwnEngines(task, sources, wanted)


def build_engines(engines: OwnEngines, judge: Judge) -> tuple[EngineResult, ...]:
    """Build each of them, or show that it is being built behind the page.

    ``judge`` gets a way of building and the engine's outputs. A build that fails gives a result
    that says why, and the others go on. LiveUnavailable where there is no GPU.
    """
    return tuple(_result(engines, way, judge) for way in engines.wanted)


def _result(engines: OwnEngines, way: str, judge: Judge) -> EngineResult:
    wanted, building = engines.wanted[way], False
    try:
        building = bool(stand_in and stand_in(engines, way))
        if building:
            raise BuildError("not built yet")
        build, outputs = engines.build(way)
    except TrtlearnError as problem:
        error = problem if isinstance(problem, BuildError) else BuildError(str(problem))
        own = find(wanted)  # the failure that is kept says when it was
        failed = failed_build(wanted.model, way, wanted.origin, wanted.options, error)
        return EngineResult(own.build if own and own.build.error else failed, building=building)
    return EngineResult(build, judge(way, outputs))


def _rows(task: Task) -> dict[str, Array]:
    """What a calibrator is given."""
    if whole := task.inputs.facts.whole:
        names = ", ".join(whole)
        raise BuildError(f"TensorRT's calibrator is given rows, and {names} has none: see int8-qdq")
    return dict(task.inputs.arrays)


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
