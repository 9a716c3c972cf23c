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

__all__ = ["built_with", "predict", "provenance", "run_own", "run_variant"]


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
        raise DataError(
            f"the engine has {len(runner.inputs)} inputs, expected one", "run it with Runner.run"
        )
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
    count = len(images)
    return mean_ap(
        detections,
        course_data.boxes("test", card.name)[:count],
        course_data.labels("test", card.name)[:count],
    )


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
    model: str,
    variant: str | BuildOptions,
    *,
    name: str | None = None,
    ranges: Mapping[str, float] | CalibrationCache | None = None,
    timing_cache: bytes | str | os.PathLike[str] | None = None,
    tactic_sources: tuple[str, ...] | None = None,
    runs: int = 300,
    warmup: int = 100,
    progress: Progress | None = None,
    recorded: bool = False,
    keep: Callable[[BuiltEngine], None] | None = None,
    onnx_file: str | os.PathLike[str] | None = None,
) -> Build:
    """Build one variant of one network, run it on the test images, judge its answers and time it.

    Args:
        model: one of NETWORKS; variant: one of VARIANTS, or options of your own (then ``name`` says
            what to call it).
        ranges: for options whose ranges are "user" or "cache".
        timing_cache: bytes, or a file shared by several builds, which makes them quicker and more
            alike.
        tactic_sources: where given, in place of the options' own.
        runs, warmup: of the timing. progress: as make_calibrator has it. recorded: whether this is
            for the recordings.
        onnx_file: another file of the same network (with Q/DQ layers, say) to build instead of the
            course's.
        keep: called with the BuiltEngine before it is run, to save its plan for example.

    Raises LiveUnavailable without a GPU; BuildError, ModelError and DataError as build_engine and
    Runner do.

    Example (with TensorRT and a GPU)::

        print(run_variant("resnet", "int8-placeholder"))
    """
    live()
    card = model_card(model)
    options = variant_options(variant) if isinstance(variant, str) else variant
    label = name or (variant if isinstance(variant, str) else "own")
    if tactic_sources is not None:
        options = dataclasses.replace(options, tactic_sources=tactic_sources)
    origin = provenance(model, options.tactic_sources, recorded)
    built = built_with(
        onnx_file or model_path(model),
        options,
        lambda: load_images("calibration", model)[0],
        timing_cache=timing_cache,
        progress=progress,
        ranges=ranges,
    )
    if keep is not None:
        keep(built)
    images, truth = load_images("test", model)
    measured: dict[str, Any] = {}
    with Runner(built.plan) as runner:
        if card.map50 is None:
            answers = predict(runner, images, truth, options.batch, card.output_name)
            measured["predictions"] = answers
        else:
            measured["map50"] = mean_precision(runner, card, images, options.batch)
        arrays = {next(iter(runner.inputs)): images}
        measured["timing"] = _time(runner, arrays, options.batch, runs, warmup)
    return Build.from_built(built, card.name, label, origin, **measured)


def run_own(
    path: str | os.PathLike[str],
    options: BuildOptions,
    *,
    name: str,
    data: Mapping[str, Array] | None = None,
    labels: npt.NDArray[np.int64] | None = None,
    timing_cache: bytes | str | os.PathLike[str] | None = None,
    progress: Progress | None = None,
    keep: Callable[[BuiltEngine], None] | None = None,
) -> Build:
    """Build an ONNX file of the reader's own as ``options`` say; run and time it on ``data``,
    arrays [N, ...] by input name, where given.

    ``labels``: the classes of the rows, for a network with one input whose first output is [N,
    classes]. DataError where a calibrator needs data and there are none; else as
    :func:`run_variant`.
    """
    live()

    def images() -> Mapping[str, Array]:
        if data is None:
            raise DataError(
                f"{name} calibrates, and {path} came without images",
                'give them: network("my.onnx", data="images.npy")',
            )
        return data

    built = built_with(path, options, images, timing_cache=timing_cache, progress=progress)
    if keep is not None:
        keep(built)
    measured: dict[str, Any] = {"model_file": os.fspath(path)}
    if data is not None:
        with Runner(built.plan) as runner:
            measured["timing"] = _time(runner, data, options.batch, 300, 100)
            if labels is not None:
                rows = next(iter(data.values()))
                measured["predictions"] = predict(runner, rows, labels, options.batch)
    origin = provenance(tactic_sources=options.tactic_sources)
    return Build.from_built(built, Path(path).stem, name, origin, **measured)
