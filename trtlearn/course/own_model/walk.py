"""Your own model in INT8: calibrated, given Q/DQ nodes, compared with FP32, and built.

Without a GPU our observers calibrate, and ONNX Runtime runs the network with Q/DQ in it: for
the course's two networks that gives the accuracy of TensorRT's INT8 engines to 0.2 point
(tests/trtexec/test_migrate.py). Nothing of the reader's leaves this machine.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ...calibration.cache import ALGORITHMS, CalibrationCache, format_cache, new_cache
from ...calibration.mixed import MixedMeter, MixedRange
from ...calibration.network import (
    NetworkObserver,
    becomes_infinite,
    calibration_notes,
    check_observed,
    watched,
    with_shared_scales,
)
from ...calibration.observers import Threshold, check_algorithm
from ...calibration.qdq import QdqReport, insert_qdq, plan_sites
from ...errors import DataError, ModelError
from ...files import check_writable, sha256
from ...int8.groups import placeholder_amax
from ...model.data import Data
from ...model.fold import prepared
from ...model.run import activation_parts
from ...recorded.store import digests
from ..doctor import DoctorReport, examine
from .engines import OwnEngines, build_engines, builds_behind_page, engines_of
from .records import WORDS, Answer, ChosenRange, EngineResult, Walk, percent, why_skipped
from .report import write_files
from .task import Array, Labels, Outputs, Task, join_batches, load_task

if TYPE_CHECKING:
    import onnx

__all__ = ["BEST_OF", "STEPS", "own_engines", "try_int8"]

STEPS = {
    "look": "doctor, network and data",
    "calibrate": "calibrate on the CPU",
    "quantize": "put Q/DQ in",
    "compare": "run FP32 and INT8, compare",
    "build": "build with TensorRT",
    "write": "write files and report",
}
SORTING = ("NonMaxSuppression", "TopK")  # operators that select detections
POOR_MAP = 0.1  # of FP32: labels of another form are likelier than such a detector
BEST_OF = ("entropy2", "minmax", "legacy")
"""What algorithm="best" tries, in this order: the first of equals is taken."""


def try_int8(
    model: str | os.PathLike[str],
    data: Data | None = None,
    *,
    labels: str | os.PathLike[str] | Labels | None = None,
    algorithm: str = "entropy2",
    batch: int = 8,
    out: str | os.PathLike[str] | None = None,
    live: bool | None = None,
    progress: Callable[[str], None] | None = None,
) -> Walk:
    """Walk an ONNX file and its data through everything that this machine can do about INT8.

    Args:
        model: the ONNX file, or a Network.
        data: a .npy or .npz file, an array, or arrays by input name; [rows, ...] each. None: a
            Network's own calibration images.
        labels: the class of each row, an array or a .npy file; for a detector its objects, arrays
            or a .npz file with ``boxes`` [rows,K,4] (cx, cy, w, h in the output's unit) and
            ``classes`` [rows,K], -1 where there is none.
        algorithm: entropy2, entropy, minmax, legacy, percentile or mse; or "best": those of BEST_OF
            are tried on the CPU, and the one that keeps most of FP32's answers, or of a detector's
            boxes, is taken (by SQNR where the outputs are neither).
        batch: rows at a time, where the network does not fix it.
        out: folder for the cache, the Q/DQ model, the script for a GPU machine and the report; None
            writes nothing.
        live: build on this machine's GPU; None: where there is one. In a notebook of the course
            engines are built behind the page, and the cell runs again when they are there.
        progress: called with a word from STEPS as each begins.

    Raises DataError or ModelError in one line for whatever does not fit; then nothing is written.

    Example::

        tl.try_int8("my.onnx", "images.npy", labels="labels.npy", algorithm="best", out="report")
    """
    begin = progress or (lambda step: None)
    begin("look")
    doctor = examine()
    algorithms = _algorithms(algorithm)
    task = load_task(model, data, labels, algorithms[0], batch)
    if out is not None:
        if not os.fspath(out):
            raise DataError("out is an empty path", 'name a folder: "." is the current one')
        check_writable(Path(out) / f"{task.name}.html", "")  # said before minutes of work

    key = _key(task, algorithms) if builds_behind_page() else ""
    cpu = _kept.pop(key, None) or _compute(task, algorithms, begin)
    task, best, answers, reference = cpu.task, cpu.best, cpu.answers, cpu.reference

    begin("build")
    engines: tuple[EngineResult, ...] = ()
    if live or (live is None and doctor.mode == "live"):
        engines = build_engines(
            engines_of(task, best.quantized(task)),
            lambda way, values: task.compare(way, reference, values),
        )
    if any(engine.building for engine in engines):
        _kept.clear()
        _kept[key] = cpu
    scales = {name: threshold.scale for name, threshold in best.thresholds.items()}
    mixed = cpu.meter.results(scales)
    tensors = _tensor_fits(best.thresholds, best.own, best.report)
    result = Walk(
        name=task.name,
        doctor=doctor,
        model=task.model,
        data=task.inputs.facts,
        algorithm=best.algorithm,
        tensors=tensors,
        cache=format_cache(best.cache),
        qdq=best.report,
        answers=answers,
        live=engines,
        mixed=mixed,
        notes=(
            *_mixed_notes(mixed, tensors),
            *calibration_notes(task.proto, scales, task.inputs.facts.rows_in_all),
            *_class_notes(reference, answers[0]),
            *_head_notes(task, answers[0]),
            *_float_notes(task, best.report, best.infinite, reference),
            *_ranges_notes(best.algorithm, answers),
            *_engine_notes(engines, doctor),
        ),
    )
    if out is None:
        return result
    begin("write")
    return write_files(result, Path(out), best.quantized(task), task.path, data, labels)


def own_engines(
    model: str | os.PathLike[str],
    data: Data | None = None,
    *,
    algorithm: str = "entropy2",
    batch: int = 8,
) -> OwnEngines:
    """The engines that :func:`try_int8` builds, not built yet. Seconds: its part on the CPU."""
    algorithms = _algorithms(algorithm)
    task = load_task(model, data, None, algorithms[0], batch)
    cpu = _compute(task, algorithms, lambda step: None)
    return engines_of(cpu.task, cpu.best.quantized(cpu.task))


def _algorithms(name: str) -> tuple[str, ...]:
    """What ``algorithm`` of try_int8 stands for."""
    word = check_algorithm(name, "best")
    return BEST_OF if word == "best" else (word,)


@dataclass(frozen=True, eq=False)
class _Trial:
    """One calibrator's ranges, and where Q/DQ pairs stand with them."""

    algorithm: str
    own: Mapping[str, Threshold]  # each tensor's, before tensors share a scale
    thresholds: Mapping[str, Threshold]
    infinite: tuple[str, ...]  # tensors without a scale: NaN or infinite inside the network
    cache: CalibrationCache
    report: QdqReport

    @property
    def way(self) -> str:
        """What the network with these ranges is called."""
        return f"int8-{self.algorithm}"

    def quantized(self, task: Task) -> onnx.ModelProto:
        """The network with Q/DQ."""
        return insert_qdq(task.proto, _above_zero(self.cache))[0]


@dataclass(frozen=True, eq=False)
class _Computed:
    """What the CPU finds out, with the best calibrator's ranges."""

    task: Task
    best: _Trial
    answers: tuple[Answer, ...]
    reference: Outputs
    meter: MixedMeter


_kept: dict[str, _Computed] = {}
"""The walk whose engines are being built behind a notebook's page: not computed twice."""


def _key(task: Task, algorithms: tuple[str, ...]) -> str:
    """All that the CPU's results depend on."""
    labels = {"": task.labels} if isinstance(task.labels, np.ndarray) else task.labels or {}
    arrays = (digests(task.inputs.arrays), digests(labels))
    model = (task.path, sha256(task.path))
    return str((model, arrays, algorithms, task.inputs.facts.batch))


def _compute(task: Task, algorithms: tuple[str, ...], begin: Callable[[str], None]) -> _Computed:
    """Calibrate, plan the Q/DQ pairs, and compare: each algorithm's ranges, and others'."""
    begin("calibrate")
    observers, reference, meter = _look_inside(task, algorithms)

    begin("quantize")
    ready = prepared(task.proto)
    trials = [_plan(task, ready, *observer) for observer in observers.items()]
    others = _other_scales(task, trials[0].own, set(algorithms))
    plans = {trial.way: trial.report for trial in trials}
    plans |= {way: plan_sites(ready, scales) for way, scales in others.items()}

    begin("compare")
    task = task.with_head(reference)
    found = {way: task.compare(way, reference, values) for way, values in task.run(ready, plans)}
    ranking = sorted(trials, key=lambda trial: _closeness(found[trial.way]), reverse=True)
    best = ranking[0]
    task = replace(task, algorithm=best.algorithm)
    answers = [task.compare("fp32", reference, reference)]
    answers += [found[way] for way in (*(trial.way for trial in ranking), *others)]
    return _Computed(task, best, tuple(answers), reference, meter)


def _look_inside(
    task: Task, algorithms: Iterable[str]
) -> tuple[dict[str, NetworkObserver], Outputs, MixedMeter]:
    """The network run once in FP32: what each calibrator saw, the outputs, and the parts of
    tensors that may mix ranges.
    """
    observers = {name: NetworkObserver(name) for name in algorithms}
    meter = MixedMeter(task.proto)
    names = task.output_names
    outputs: list[dict[str, Array]] = []
    batches = activation_parts(task.proto, task.inputs, names)
    for parts in watched(batches, task.inputs, True, "calibrating"):
        outputs.append({})
        for tensors in parts:
            floats = {name: x for name, x in tensors.items() if x.dtype == np.float32}
            for observer in observers.values():
                observer.observe(floats)
            meter.observe(tensors)
            outputs[-1] |= {name: tensors[name] for name in names if name in tensors}
    for observer in observers.values():
        check_observed(observer, task.model)
    in_order = ({name: batch[name] for name in names if name in batch} for batch in outputs)
    return observers, join_batches(in_order), meter


def _plan(task: Task, ready: onnx.ModelProto, algorithm: str, observer: NetworkObserver) -> _Trial:
    own = observer.thresholds()
    thresholds = with_shared_scales(own, task.proto, task.model, algorithm)
    scales = {name: threshold.scale for name, threshold in thresholds.items()}
    cache = new_cache(scales, algorithm if algorithm in ALGORITHMS else "entropy2")
    report = plan_sites(ready, _above_zero(cache))
    if not report.quantized_nodes:
        if observer.infinite:
            raise becomes_infinite(observer.infinite[0])
        raise ModelError(
            f"nothing in this network can run in INT8 through Q/DQ ({report.why_none(task.proto)})",
            "export it with its Conv, Gemm and MatMul in the main graph, in FP32",
        )
    return _Trial(algorithm, own, thresholds, observer.infinite, cache, report)


def _closeness(answer: Answer) -> tuple[float, float]:
    """How near to FP32: the share of equal answers, then the SQNR; the larger, the nearer."""
    sqnr_db = math.inf if answer.sqnr_db is None else answer.sqnr_db
    return answer.kept or 0.0, sqnr_db


def _above_zero(scales: Mapping[str, float]) -> dict[str, float]:
    return {name: scale for name, scale in scales.items() if scale > 0}


def _other_scales(
    task: Task, own: Mapping[str, Threshold], tried: set[str]
) -> dict[str, dict[str, float]]:
    """The ranges to compare with: min-max unless tried, and those of bare trtexec --int8."""
    others = {}
    if "minmax" not in tried:
        minmax = with_shared_scales(own, task.proto, task.model, "minmax")
        scales = {name: threshold.seen_amax / 127 for name, threshold in minmax.items()}
        others["int8-minmax"] = _above_zero(scales)
    amax = placeholder_amax(task.model.nodes)
    tensors = [name for name in task.model.tensors if name in amax]
    others["int8-placeholder"] = {name: amax[name] / 127 for name in tensors}
    return others


def _tensor_fits(
    thresholds: Mapping[str, Threshold], own: Mapping[str, Threshold], report: QdqReport
) -> tuple[ChosenRange, ...]:
    used = {site.scale_of or site.tensor for site in report.sites if site.kind == "activation"}
    return tuple(
        ChosenRange(name, chosen.amax, chosen.scale, own[name].seen_amax, name in used)
        for name, chosen in thresholds.items()
    )


# --- Notes: what a reader has to know of the result


def _mixed_notes(mixed: Iterable[MixedRange], tensors: Iterable[ChosenRange]) -> Iterator[str]:
    used = {tensor.name for tensor in tensors if tensor.quantized}
    for one in mixed:
        pairs = ", ".join(name for name in (one.tensor, *one.also) if name in used)
        key = "mixed pair" if pairs else "mixed"
        yield WORDS[key].format(summary=one.summary(), pairs=pairs, advice=one.advice)


def _float_notes(
    task: Task, report: QdqReport, infinite: tuple[str, ...], reference: Outputs
) -> Iterator[str]:
    for node, why in report.float_nodes.items():
        yield WORDS["float"].format(node=node, why=why)
    if infinite:
        yield WORDS["infinite"].format(names=", ".join(infinite))
    if left := [name for name in task.output_names if name not in reference]:
        yield WORDS["shapes"].format(names=", ".join(left))


def _class_notes(reference: Outputs, answer: Answer) -> Iterator[str]:
    """A network that knows one class only answers alike whatever INT8 does to it."""
    if answer.agreement is not None:
        found = next(iter(reference.values())).argmax(axis=1)
        if len(found) > 1 and len(np.unique(found)) == 1:
            yield WORDS["one class"].format(number=found[0])


def _head_notes(task: Task, exact: Answer) -> Iterator[str]:
    """What of a detector is not judged, and why its labels were not used."""
    head, has_boxes = task.head, isinstance(task.labels, Mapping)
    if head is None:
        if order := sorted({node.op for node in task.model.nodes} & set(SORTING)):
            yield WORDS["order"].format(operators=" and ".join(order))
        if has_boxes:
            yield WORDS["no head"]
        return
    if head.extra:
        yield WORDS["extra"].format(output=head.scores.output, count=head.extra)
    if task.labels is not None and not has_boxes:
        yield WORDS["classes"]
    if exact.map50 is not None and exact.map50 < POOR_MAP:
        yield WORDS["poor"].format(percent=100 * exact.map50)


def _ranges_notes(algorithm: str, answers: tuple[Answer, ...]) -> Iterator[str]:
    kind = "answers" if answers[0].boxes_matched is None else "boxes"
    kept = {answer.way: percent(answer.kept) for answer in answers}
    ours, minmax = kept[f"int8-{algorithm}"], kept.get("int8-minmax")
    if ours is not None and minmax is not None and minmax > ours + 0.5:
        facts = {"minmax": minmax, "ours": ours, "kind": kind, "algorithm": algorithm}
        yield WORDS["min-max"].format(**facts)


def _engine_notes(engines: tuple[EngineResult, ...], doctor: DoctorReport) -> Iterator[str]:
    if not engines:
        yield WORDS["no engine"].format(why=why_skipped(doctor))
    elif building := [engine.way for engine in engines if engine.building]:
        yield WORDS["building"].format(names=", ".join(building))
    else:
        for engine in engines:
            if engine.way.startswith("int8") and engine.build.int8_layers == 0:
                yield WORDS["no INT8"].format(way=engine.way)
