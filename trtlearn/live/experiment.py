"""One build of one of the course's networks, run on its test images and timed: everything as one
record.
"""

from __future__ import annotations

import contextlib
import dataclasses
import datetime
import os
import platform
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from .. import __version__
from ..builds import Build, BuiltEngine
from ..engine.records import (
    ALGORITHMS,
    BuildOptions,
    Predictions,
    Provenance,
    Timing,
    variant_options,
)
from ..errors import DataError
from ..files import shell_command
from ..model import course_data
from ..model.course_data import ModelCard, data_hashes, load_images, model_card, model_path
from ..model.data import Array
from ..model.detections import decode, mean_ap
from . import cuda
from .build import build_engine
from .calibrator import make_calibrator
from .runner import Runner
from .trt import available, live

if TYPE_CHECKING:
    from ..calibration.cache import CalibrationCache

Progress = Callable[[int, int | None], None]

__all__ = ["built_with", "predict", "provenance", "run_variant"]


def provenance(
    model: str | None = None, tactic_sources: tuple[str, ...] | None = None, recorded: bool = False
) -> Provenance:
    """What is true of everything measured here and now; LiveUnavailable without a GPU."""
    live()
    return Provenance(
        gpu=cuda.gpu_name(),
        driver=cuda.driver_version(),
        tensorrt=available(),
        cuda=cuda.cuda_version(),
        python=platform.python_version(),
        trtlearn=__version__,
        tactic_sources=tactic_sources,
        command=shell_command(Path(sys.argv[0]).name, *sys.argv[1:]) if recorded else None,
        time_utc=datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
        sha256=data_hashes(model) if model else {},
        recorded=recorded,
    )


def predict(
    runner: Runner,
    images: npt.NDArray[np.float32],
    labels: npt.NDArray[np.int64],
    batch: int,
    output: str | None = None,
) -> Predictions:
    """Classify all images, ``batch`` at a time: a last batch that is not full is filled up, and the
    rest ignored.

    Args:
        images: float32 [N, C, H, W]; labels: int [N]. output: the logits, where the engine has
            further outputs (default: its first).
    """
    if len(images) != len(labels) or not len(images):
        raise DataError(
            f"{len(images)} images and {len(labels)} labels, expected as many of each, at least one"
        )
    if len(runner.inputs) != 1 or not runner.outputs:
        problem = f"the engine has {len(runner.inputs)} inputs, expected one"
        raise DataError(problem, "run it with Runner.run")
    classes: list[int] = []
    for logits in _answers(runner, images, batch, output):
        classes += [int(index) for index in logits.argmax(axis=1)]
    correct = int(np.count_nonzero(np.array(classes) == labels))
    return Predictions(tuple(classes), correct, len(classes))


def _answers(
    runner: Runner, images: Array, batch: int, output: str | None = None
) -> Iterator[Array]:
    """The engine's answers to the images, batch by batch: [n, all values of one image]."""
    name = next(iter(runner.inputs))
    output_name = output if output in runner.outputs else runner.outputs[0]
    for at in range(0, len(images), batch):
        part = images[at : at + batch]
        full = np.resize(part, (batch, *part.shape[1:])) if len(part) < batch else part
        yield runner.run({name: full})[output_name].reshape(batch, -1)[: len(part)]


def mean_precision(runner: Runner, card: ModelCard, images: Array, batch: int) -> float:
    """mAP50 of a detector's engine on the first test scenes, ``images`` [N,3,H,W]."""
    detections = []
    for answers in _answers(runner, images, batch, card.output_name):
        detections += decode(answers.reshape(len(answers), 4 + len(card.labels), -1))
    boxes, labels = course_data.boxes("test", card.name), course_data.labels("test", card.name)
    return mean_ap(detections, boxes[: len(images)], labels[: len(images)])


def _time(
    runner: Runner, arrays: Mapping[str, Array], batch: int, runs: int, warmup: int
) -> Timing:
    rows = {}
    for name, array in arrays.items():
        rows[name] = np.resize(array[:batch], (batch, *array.shape[1:]))
    timing = runner.time(rows, warmup=warmup, runs=runs)
    layers = runner.profile(rows, warmup=min(warmup, 10), runs=min(runs, 50)).layers_ms
    return dataclasses.replace(timing, layers_ms=layers)


def built_with(
    model: str | os.PathLike[str] | bytes,
    options: BuildOptions,
    data: Callable[[], Array | Mapping[str, Array]],
    *,
    timing_cache: bytes | str | os.PathLike[str] | None = None,
    progress: Progress | None = None,
    **how: Any,
) -> BuiltEngine:
    """The engine, its options saying whether the timing cache held anything; ``data`` gives the
    calibration images where a calibrator needs them. ``how`` goes to build_engine.
    """
    is_warm = bool(timing_cache) and (
        isinstance(timing_cache, bytes) or Path(str(timing_cache)).exists()
    )
    options = dataclasses.replace(options, timing_cache="warm" if is_warm else "empty")
    with contextlib.ExitStack() as stack:
        if options.ranges in ALGORITHMS:
            how["calibrator"] = stack.enter_context(
                make_calibrator(options.ranges, data(), options.batch, progress=progress)
            )
        return build_engine(model, options, timing_cache=timing_cache, **how)


def run_variant(
    model: str | Path,
    variant: str | BuildOptions,
    *,
    name: str | None = None,
    ranges: Mapping[str, float] | CalibrationCache | None = None,
    data: Mapping[str, Array] | None = None,
    labels: npt.NDArray[np.int64] | None = None,
    timing_cache: bytes | str | os.PathLike[str] | None = None,
    tactic_sources: tuple[str, ...] | None = None,
    runs: int = 300,
    warmup: int = 100,
    progress: Progress | None = None,
    recorded: bool = False,
    keep: Callable[[BuiltEngine], None] | None = None,
    onnx_file: str | os.PathLike[str] | None = None,
) -> Build:
    """Build one variant of one network, run it on its images, judge its answers and time it.

    Args:
        model: the name of one of NETWORKS, whose images are used; or the Path of a reader's own
            ONNX file, which is run and timed on ``data`` where given.
        variant: one of VARIANTS, or options of your own (then ``name`` says what to call it).
        ranges: for options whose ranges are "user" or "cache".
        data, labels: of an own file: arrays [N, ...] by input name; the classes of the rows, for a
            network with one input whose first output is [N, classes].
        timing_cache: bytes, or a file shared by several builds, which makes them quicker and more
            alike.
        tactic_sources: where given, in place of the options' own.
        runs, warmup: of the timing. progress: as make_calibrator has it. recorded: whether this is
            for the recordings.
        onnx_file: another file of the same network (with Q/DQ layers, say) to build instead.
        keep: called with the BuiltEngine before it is run, to save its plan for example.

    Raises LiveUnavailable without a GPU; DataError where a calibrator needs data and there are
    none; BuildError, ModelError and DataError as build_engine and Runner do.

    Example (with TensorRT and a GPU)::

        print(run_variant("resnet", "int8-placeholder"))
    """
    live()
    card = model_card(model) if isinstance(model, str) else None
    options = variant_options(variant) if isinstance(variant, str) else variant
    label = name or (variant if isinstance(variant, str) else "own")
    if tactic_sources is not None:
        options = dataclasses.replace(options, tactic_sources=tactic_sources)
    origin = provenance(card.name if card else None, options.tactic_sources, recorded)

    def images() -> Array | Mapping[str, Array]:
        if card is not None:
            return load_images("calibration", card.name)[0]
        if data is None:
            problem = f"{label} calibrates, and {model} came without images"
            raise DataError(problem, 'give them: network("my.onnx", data="images.npy")')
        return data

    path = onnx_file or (model_path(card.name) if card else model)
    how: dict[str, Any] = {"timing_cache": timing_cache, "progress": progress, "ranges": ranges}
    built = built_with(path, options, images, **how)
    if keep is not None:
        keep(built)
    measured: dict[str, Any] = {} if card else {"model_file": os.fspath(model)}
    rows = next(iter(data.values())) if data else None
    if card is not None:
        rows, labels = load_images("test", card.name)
    if rows is not None:
        with Runner(built.plan) as runner:
            arrays = data or {next(iter(runner.inputs)): rows}
            if card is not None and card.map50 is not None:
                measured["map50"] = mean_precision(runner, card, rows, options.batch)
            elif labels is not None:
                output = card.output_name if card else None
                measured["predictions"] = predict(runner, rows, labels, options.batch, output)
            measured["timing"] = _time(runner, arrays, options.batch, runs, warmup)
    title = card.name if card else Path(model).stem
    return Build.from_built(built, title, label, origin, **measured)
