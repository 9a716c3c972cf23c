"""Bring your own model: an ONNX file and data, walked through calibration, Q/DQ and comparison, with or without a GPU.

Without one, our observers calibrate on the CPU, and ONNX Runtime runs the network with Q/DQ in it: for the course's
two networks that gives the accuracy of TensorRT's INT8 engines to 0.2 point (tests/trtexec/test_migrate.py). With one,
:mod:`trtlearn.course.own_model.walk` builds and times engines as well. Nothing of the reader's leaves this machine.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...calibration.cache import ALGORITHMS
from ...calibration.edit import format_cache, new_cache
from ...calibration.network import observe_network, with_shared_scales
from ...calibration.observers import check_algorithm
from ...engine.records import BuildOptions
from ...engine.variants import TRTEXEC_AVG_TIMING
from ...errors import DataError, ModelError, TrtlearnError
from ...int8.placeholder import placeholder_amax
from ...int8.placement import QdqReport
from ...int8.qdq import insert_qdq
from ...int8.quant import sqnr_db
from ...live.build import Shapes, build_engine
from ...live.calibrator import BASES, make_calibrator
from ...live.experiment import engine_info
from ...live.runner import Runner
from ...live.trt import capabilities
from ...model.arrays import feeds, load_arrays
from ...model.course_data import accuracy
from ...model.data import DataFacts, InputData, input_data
from ...model.describe import OnnxModel, describe, load_proto
from ...model.read import serialized
from ...model.run import activations
from ..doctor import DoctorReport, examine
from .records import Answer, LiveResult, TensorFit, Walk

__all__ = [
    "STEPS",
    "Answer",
    "LiveResult",
    "TensorFit",
    "Walk",
    "build_all",
    "walk",
]


# --- The part of "bring your own model" that needs a GPU: engines built, run on the reader's data, timed, inspected.

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
    return tuple(
        _one(way, options, source, arrays, shape.whole, shapes, judge)
        for way, options, source in ways
    )


def _shapes(
    facts: OnnxModel, arrays: Mapping[str, Array], batch: int, whole: tuple[str, ...]
) -> Shapes | None:
    """A profile of one shape, the data's; None where only the batch is dynamic, which build_engine sets itself."""
    more = any(
        not isinstance(axis, int) for value in facts.inputs for axis in (value.shape or ())[1:]
    )
    sizes = {
        name: array.shape if name in whole else (batch, *array.shape[1:])
        for name, array in arrays.items()
    }
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
        return LiveResult(
            way,
            f"TensorRT's calibrator is given rows, and {', '.join(whole)} has none: see int8-qdq",
        )
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
    outputs = {
        name: np.concatenate([np.atleast_1d(part[name]) for part in parts]) for name in parts[0]
    }
    return LiveResult(
        way,
        "",
        timing.median_ms,
        (timing.p05_ms, timing.p95_ms),
        built.report.plan_bytes,
        built.report.build_seconds,
        len(engine.layers) or None,
        len(engine.int8),
        len(engine.reformats),
        judge(way, outputs),
    )


# --- Bring your own model: an ONNX file and data, walked through calibration, Q/DQ and comparison, with or without a GPU.

STEPS = ("look", "calibrate", "quantize", "compare", "build", "write")


def walk(
    model: str | os.PathLike[str],
    data: str | os.PathLike[str] | Array | Mapping[str, Array] | None,
    *,
    labels: str | os.PathLike[str] | Array | None = None,
    algorithm: str = "entropy2",
    batch: int = 8,
    out: str | os.PathLike[str] | None = None,
    live: bool | None = None,
    progress: Callable[[str], None] | None = None,
) -> Walk:
    """Walk an ONNX file and its data through everything this machine can do.

    Args:
        model: the ONNX file; data: a .npy or .npz file, an array, or arrays by input name; labels: class of each row.
        algorithm: entropy2, entropy, minmax, legacy, percentile or mse; batch: rows at a time, where not fixed.
        out: folder for the cache, the Q/DQ model, the script for a GPU machine and report.html; None writes nothing.
        live: build on this machine's GPU; None: where there is one.
        progress: called with a word from STEPS as each begins.

    Raises DataError, ModelError in one line for whatever does not fit; then nothing is written.

    Example::

        tl.try_int8("my.onnx", "images.npy", labels="labels.npy", out="report")
    """
    said = progress or (lambda step: None)
    check_algorithm(algorithm)
    said("look")
    doctor, proto = examine(), load_proto(model)
    facts = describe(proto, os.fspath(model))
    if facts.has_qdq:
        raise ModelError(
            "the network has Q/DQ nodes already: its ranges are in it", "build it as it is"
        )
    inputs = input_data(facts, data, batch)
    arrays, shape = inputs.arrays, inputs.facts
    classes = load_labels(labels, shape.rows_in_all)
    said("calibrate")
    observer = observe_network(proto, inputs, algorithm)
    own, infinite = observer.thresholds(), observer.infinite
    if any(value.name in infinite for value in facts.outputs):
        raise _infinite(infinite[0])
    chosen = with_shared_scales(own, proto, facts, algorithm)
    said("quantize")
    cache = new_cache(
        {name: one.scale for name, one in chosen.items()},
        algorithm if algorithm in ALGORITHMS else "entropy2",
    )
    scales = {entry.name: entry.scale for entry in cache.scales if entry.scale > 0}
    quantized, report = insert_qdq(proto, scales)
    if not report.quantized_nodes:
        if infinite:
            raise _infinite(infinite[0])
        raise ModelError(
            f"nothing in this network can run in INT8 through Q/DQ ({report.why_none(proto)})",
            "export it with its Conv, Gemm and MatMul in the main graph, in FP32",
        )
    said("compare")
    models = {"fp32": proto, f"int8-{algorithm}": quantized}
    if algorithm != "minmax":
        minmax = with_shared_scales(own, proto, facts, "minmax")
        largest = {name: one.seen_amax for name, one in minmax.items()}
        models["int8-minmax"] = insert_qdq(
            proto, {n: v / 127 for n, v in largest.items() if v > 0}
        )[0]
    models["int8-placeholder"] = insert_qdq(
        proto, {n: v / 127 for n, v in _placeholder(facts).items()}
    )[0]
    outputs = {way: _outputs(one, inputs, facts) for way, one in models.items()}
    answers = tuple(_answer(way, outputs["fp32"], found, classes) for way, found in outputs.items())
    used = {site.scale_of or site.tensor for site in report.sites if site.kind == "activation"}
    fits = tuple(
        TensorFit(n, one.amax, one.scale, own[n].seen_amax, n in used) for n, one in chosen.items()
    )
    said("build")
    found, notes = _live(
        live, model, facts, quantized, arrays, shape, algorithm, outputs["fp32"], classes, doctor
    )
    result = Walk(
        Path(model).stem, doctor, facts, shape, algorithm, fits, format_cache(cache), report, answers, found,
        (*_notes(algorithm, report, answers, infinite, outputs["fp32"], facts), *notes), {},
    )  # fmt: skip
    if out is None:
        return result
    from .report import write_files

    said("write")
    return write_files(result, Path(out), serialized(quantized), Path(model), data, labels)


def _infinite(name: str) -> DataError:
    return DataError(
        f"tensor {name!r} becomes NaN or infinite inside the network",
        "check the network and its input's scale",
    )


def load_labels(source: str | os.PathLike[str] | Array | None, rows: int) -> Array | None:
    """Class numbers, one a row, from a .npy file or an array; DataError where they are not that."""
    if source is None or (isinstance(source, str) and not source.strip()):
        return None
    labels = source if isinstance(source, np.ndarray) else load_arrays(source, ["labels"])["labels"]
    if labels.dtype.kind not in "iu" or labels.shape != (rows,):
        raise DataError(
            f"the labels are {labels.dtype} {list(labels.shape)}, expected whole numbers [{rows}]",
            "give the class number of each row",
        )
    return labels


def _placeholder(facts: OnnxModel) -> dict[str, float]:
    """The ranges of bare --int8, of the network's activations."""
    ranges = placeholder_amax(facts.nodes)
    return {name: ranges[name] for name in facts.tensors if name in ranges}


def _outputs(proto: Any, inputs: InputData, facts: OnnxModel) -> dict[str, Array]:
    """The outputs of all batches, one behind the other.

    Left out are constants, sequences, and outputs whose shape depends on the values and so changes between batches.
    """
    names = [value.name for value in facts.outputs if value.name in facts.tensors]
    collected: dict[str, list[Array]] = {name: [] for name in names}
    for part in activations(proto, inputs, names):
        for name in names:
            collected[name].append(part[name])
    return {
        name: np.concatenate([np.atleast_1d(array) for array in found])
        for name, found in collected.items()
        if all(
            isinstance(array, np.ndarray) and array.shape[1:] == found[0].shape[1:]
            for array in found
        )
    }


def _answer(
    way: str, reference: Mapping[str, Array], found: Mapping[str, Array], labels: Array | None
) -> Answer:
    both = [
        name
        for name, values in reference.items()
        if name in found and found[name].shape == values.shape
    ]
    floats = [name for name in both if reference[name].dtype.kind == "f"]
    exact = [reference[name].ravel() for name in floats]
    values = [found[name].ravel() for name in floats]
    sqnr = sqnr_db(np.concatenate(exact), np.concatenate(values)) if floats else None
    table = reference[both[0]] if both else np.zeros(0)
    if table.ndim != 2 or table.shape[1] < 2:
        return Answer(way, sqnr, None, None)
    other = found[both[0]]
    same = accuracy(other, table.argmax(axis=1))
    right = None if labels is None else accuracy(other, labels[: len(other)])
    return Answer(way, sqnr, same, right)


def _live(
    live: bool | None,
    model: str | os.PathLike[str],
    facts: OnnxModel,
    quantized: Any,
    arrays: Mapping[str, Array],
    shape: DataFacts,
    algorithm: str,
    reference: Mapping[str, Array],
    labels: Array | None,
    doctor: DoctorReport,
) -> tuple[tuple[LiveResult, ...], tuple[str, ...]]:
    if live is False or (live is None and doctor.mode != "live"):
        return (), (f"nothing was built with TensorRT here: {doctor.why.removeprefix('because ')}",)

    def judge(way: str, outputs: Mapping[str, Array]) -> Answer:
        return _answer(way, reference, outputs, labels)

    built = build_all(model, facts, quantized, arrays, shape, algorithm, judge)
    idle = [
        one.way
        for one in built
        if one.way.startswith("int8") and one.int8_layers == 0 and not one.problem
    ]
    why = "TensorRT may use INT8, but has no INT8 kernel there or found floating point faster"
    return built, tuple(
        f"the engine {way} has no INT8 weights: {why}. Its answers are not INT8's" for way in idle
    )


def _notes(
    algorithm: str,
    report: QdqReport,
    answers: tuple[Answer, ...],
    infinite: tuple[str, ...],
    reference: Mapping[str, Array],
    facts: OnnxModel,
) -> tuple[str, ...]:
    notes = [f"{name} stays in floating point: {why}" for name, why in report.float_nodes.items()]
    if infinite:
        notes.append(
            f"no scale for what becomes NaN or infinite inside the network: {', '.join(infinite)}"
        )
    if left := [
        value.name
        for value in facts.outputs
        if value.name in facts.tensors and value.name not in reference
    ]:
        notes.append(f"not compared, because their shapes depend on the values: {', '.join(left)}")
    by_way = {one.way: one for one in answers}
    ours, other = by_way[f"int8-{algorithm}"], by_way.get("int8-minmax")
    if (
        other
        and ours.agreement is not None
        and other.agreement is not None
        and other.agreement > ours.agreement + 0.005
    ):
        notes.append(
            f"min-max ranges keep {100 * other.agreement:.1f} % of the answers, {algorithm} only "
            f"{100 * ours.agreement:.1f} %: look at the ranges before you trust a calibrator's name"
        )
    return tuple(notes)
