"""Your own model in INT8: calibrated, given Q/DQ nodes, compared with FP32, and built.

Without a GPU our observers calibrate, and ONNX Runtime runs the network with Q/DQ in it: for
the course's two networks that gives the accuracy of TensorRT's INT8 engines to 0.2 point
(tests/trtexec/test_migrate.py). Nothing of the reader's leaves this machine.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from ...calibration.cache import ALGORITHMS, format_cache, new_cache
from ...calibration.network import observe_network, with_shared_scales
from ...calibration.observers import Threshold
from ...errors import DataError, ModelError
from ...int8.placeholder import placeholder_amax
from ...int8.placement import QdqReport
from ...int8.qdq import insert_qdq
from ...model.data import Data
from ..doctor import DoctorReport, examine
from .engines import build_engines
from .records import Answer, EngineResult, TensorFit, Walk
from .task import Array, Outputs, Task, load_task

if TYPE_CHECKING:
    pass

__all__ = ["STEPS", "try_int8"]

STEPS = ("look", "calibrate", "quantize", "compare", "build", "write")


def try_int8(
    model: str | os.PathLike[str],
    data: Data | None,
    *,
    labels: str | os.PathLike[str] | Array | None = None,
    algorithm: str = "entropy2",
    batch: int = 8,
    out: str | os.PathLike[str] | None = None,
    live: bool | None = None,
    progress: Callable[[str], None] | None = None,
) -> Walk:
    """Walk an ONNX file and its data through everything that this machine can do about INT8.

    Args:
        model: the ONNX file, or a Network.
        data: a .npy or .npz file, an array, or arrays by input name; [rows, ...] each.
        labels: the class of each row, an array or a .npy file.
        algorithm: entropy2, entropy, minmax, legacy, percentile or mse.
        batch: rows at a time, where the network does not fix it.
        out: folder for the cache, the Q/DQ model, the script for a GPU machine and the report; None
            writes nothing.
        live: build on this machine's GPU; None: where there is one.
        progress: called with a word from STEPS as each begins.

    Raises DataError or ModelError in one line for whatever does not fit; then nothing is written.

    Example::

        tl.try_int8("my.onnx", "images.npy", labels="labels.npy", out="report")
    """
    begin = progress or (lambda step: None)
    begin("look")
    doctor = examine()
    task = load_task(model, data, labels, algorithm, batch)

    begin("calibrate")
    observer = observe_network(task.proto, task.inputs, algorithm)
    infinite = observer.infinite
    if any(value.name in infinite for value in task.model.outputs):
        raise _becomes_infinite(infinite[0])
    own = observer.thresholds()
    thresholds = with_shared_scales(own, task.proto, task.model, algorithm)

    begin("quantize")
    scales = {name: threshold.scale for name, threshold in thresholds.items()}
    cache = new_cache(scales, algorithm if algorithm in ALGORITHMS else "entropy2")
    quantized, report = insert_qdq(task.proto, _above_zero(cache))
    if not report.quantized_nodes:
        raise _nothing_to_quantize(task, report, infinite)

    begin("compare")
    reference = task.run(task.proto)
    outputs = {"fp32": reference, f"int8-{algorithm}": task.run(quantized)}
    for way, others in _other_scales(task, own).items():
        outputs[way] = task.run(insert_qdq(task.proto, others)[0])
    answers = tuple(task.compare(way, reference, values) for way, values in outputs.items())

    begin("build")
    engines: tuple[EngineResult, ...] = ()
    if live or (live is None and doctor.mode == "live"):
        engines = build_engines(
            task, quantized, lambda way, values: task.compare(way, reference, values)
        )
    result = Walk(
        name=task.name,
        doctor=doctor,
        model=task.model,
        data=task.inputs.facts,
        algorithm=algorithm,
        tensors=_tensor_fits(thresholds, own, report),
        cache=format_cache(cache),
        qdq=report,
        answers=answers,
        live=engines,
        notes=(
            *_float_notes(task, report, infinite, reference),
            *_ranges_notes(algorithm, answers),
            *_engine_notes(engines, doctor),
        ),
    )
    if out is None:
        return result
    from .report import write_files

    begin("write")
    return write_files(result, Path(out), quantized, task.path, data, labels)


def _becomes_infinite(name: str) -> DataError:
    return DataError(
        f"tensor {name!r} becomes NaN or infinite inside the network",
        "check the network and its input's scale",
    )


def _nothing_to_quantize(
    task: Task, report: QdqReport, infinite: tuple[str, ...]
) -> DataError | ModelError:
    if infinite:
        return _becomes_infinite(infinite[0])
    return ModelError(
        f"nothing in this network can run in INT8 through Q/DQ ({report.why_none(task.proto)})",
        "export it with its Conv, Gemm and MatMul in the main graph, in FP32",
    )


def _above_zero(scales: Mapping[str, float]) -> dict[str, float]:
    return {name: scale for name, scale in scales.items() if scale > 0}


def _other_scales(task: Task, own: Mapping[str, Threshold]) -> dict[str, dict[str, float]]:
    """The ranges to compare with: min-max, and those of bare trtexec --int8."""
    others = {}
    if task.algorithm != "minmax":
        minmax = with_shared_scales(own, task.proto, task.model, "minmax")
        scales = {name: threshold.seen_amax / 127 for name, threshold in minmax.items()}
        others["int8-minmax"] = _above_zero(scales)
    amax = placeholder_amax(task.model.nodes)
    tensors = [name for name in task.model.tensors if name in amax]
    others["int8-placeholder"] = {name: amax[name] / 127 for name in tensors}
    return others


def _tensor_fits(
    thresholds: Mapping[str, Threshold], own: Mapping[str, Threshold], report: QdqReport
) -> tuple[TensorFit, ...]:
    used = {site.scale_of or site.tensor for site in report.sites if site.kind == "activation"}
    return tuple(
        TensorFit(name, chosen.amax, chosen.scale, own[name].seen_amax, name in used)
        for name, chosen in thresholds.items()
    )


# --- Notes: what a reader has to know of the result


def _float_notes(
    task: Task, report: QdqReport, infinite: tuple[str, ...], reference: Outputs
) -> list[str]:
    notes = [f"{name} stays in floating point: {why}" for name, why in report.float_nodes.items()]
    if infinite:
        names = ", ".join(infinite)
        notes.append(f"no scale for what becomes NaN or infinite inside the network: {names}")
    if left := [name for name in task.output_names if name not in reference]:
        names = ", ".join(left)
        notes.append(f"not compared, because their shapes depend on the values: {names}")
    return notes


def _ranges_notes(algorithm: str, answers: tuple[Answer, ...]) -> list[str]:
    agreement = {answer.way: answer.agreement for answer in answers}
    ours, minmax = agreement[f"int8-{algorithm}"], agreement.get("int8-minmax")
    if ours is None or minmax is None or minmax <= ours + 0.005:
        return []
    return [
        f"min-max ranges keep {100 * minmax:.1f} % of the answers, {algorithm} only "
        f"{100 * ours:.1f} %: look at the ranges before you trust a calibrator's name"
    ]


def _engine_notes(engines: tuple[EngineResult, ...], doctor: DoctorReport) -> list[str]:
    if not engines:
        why = doctor.why.removeprefix("because ")
        return [f"nothing was built with TensorRT here: {why}"]
    return [
        f"the engine {engine.way} has no INT8 weights: TensorRT may use INT8, but has no INT8 "
        "kernel there or found floating point faster. Its answers are not INT8's"
        for engine in engines
        if engine.way.startswith("int8") and engine.build.int8_layers == 0
    ]
