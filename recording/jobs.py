"""One engine of the trade-off: built, run on the test images and timed in a worker process that may
die of it.
"""

from __future__ import annotations

import dataclasses
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import get_context
from pathlib import Path

import numpy as np

from trtlearn.builds import BuiltEngine, engine_info
from trtlearn.engine.records import BuildOptions, Predictions, Timing
from trtlearn.errors import TrtlearnError
from trtlearn.live.build import build_engine
from trtlearn.live.calibrator import make_calibrator
from trtlearn.live.runner import Runner
from trtlearn.model import course_data
from trtlearn.model.course_data import load_images

__all__ = ["WARMUP", "Facts", "Job", "Worker", "accuracy", "run_all"]

WARMUP = 50  # runs before those that are timed
LONGEST = 240  # seconds that a worker may take for one job


@dataclasses.dataclass(frozen=True)
class Job:
    """One engine to make: everything a worker needs, picklable."""

    model: str
    name: str
    options: BuildOptions
    onnx_path: str
    plan_path: str
    timing_cache: str | None = (
        None  # a file that several builds share: they are quicker and more alike
    )
    cache_path: str | None = None  # a calibration cache to hand over
    algorithm: str = "entropy2"  # whose cache that is
    trained: bool = True  # whether the test images say anything
    runs: int = 0  # timed runs; 0: not timed

    @property
    def key(self) -> str:
        return f"{self.model}-{self.name}-b{self.options.batch}"


@dataclasses.dataclass(frozen=True)
class Facts:
    """What came of a job."""

    options: BuildOptions
    plan_bytes: int
    build_seconds: float | None  # None where a timing cache shortened it
    engine_layers: int | None = None
    int8_layers: int | None = None
    reformats: int | None = None
    logits: np.ndarray | None = None  # [1000, 10] of the test images
    timing: Timing | None = None
    graph_timing: Timing | None = None
    device_memory_bytes: int | None = None


def run_all(runner: Runner, batch: int) -> np.ndarray:
    """The logits [1000, 10] of all test images, the last batch filled up."""
    images, _ = load_images("test")
    name, answers = next(iter(runner.inputs)), []
    for at in range(0, len(images), batch):
        part = images[at : at + batch]
        full = np.resize(part, (batch, *part.shape[1:])) if len(part) < batch else part
        answers.append(runner.run({name: full})[runner.outputs[0]].reshape(batch, -1)[: len(part)])
    return np.concatenate(answers)


def accuracy(logits: np.ndarray) -> float:
    """The share of the test images that these logits get right."""
    _, labels = load_images("test")
    return course_data.accuracy(logits, labels)


def predictions(logits: np.ndarray) -> Predictions:
    """The classes that these logits give the test images."""
    _, labels = load_images("test")
    classes = logits.argmax(1)
    return Predictions(
        tuple(int(one) for one in classes), int((classes == labels).sum()), len(labels)
    )


def _built(job: Job, options: BuildOptions) -> BuiltEngine:
    if job.cache_path is None:
        return build_engine(job.onnx_path, options, timing_cache=job.timing_cache)
    images, _ = load_images("calibration")
    # as trtexec --calib=FILE does it: a calibrator that hands the cache over and is never asked for
    # images
    with make_calibrator(job.algorithm, images, 8, cache=job.cache_path) as calibrator:
        built = build_engine(
            job.onnx_path, options, calibrator=calibrator, timing_cache=job.timing_cache
        )
    assert built.calibration is not None
    if built.calibration.batches:
        raise TrtlearnError(
            f"TensorRT did not take the cache {job.cache_path}: it asked for images"
        )
    return built


def _made(job: Job) -> Facts:
    warm = job.timing_cache is not None
    options = dataclasses.replace(job.options, timing_cache="warm" if warm else "empty")
    built = _built(job, options)
    Path(job.plan_path).write_bytes(built.plan)
    layers = engine_info(built.text).layers
    facts = Facts(options, built.report.plan_bytes, None if warm else built.report.build_seconds)
    if layers:
        facts = dataclasses.replace(
            facts,
            engine_layers=len(layers),
            int8_layers=sum(layer.weight_dtype == "int8" for layer in layers),
            reformats=sum(layer.is_reformat for layer in layers),
        )
    with Runner(built.plan) as runner:
        (name, (shape, _)), *_ = runner.inputs.items()
        random = np.random.default_rng(0).normal(size=shape).astype(np.float32)
        array = np.ascontiguousarray(load_images("test")[0][: shape[0]]) if job.trained else random
        changes: dict[str, object] = {"device_memory_bytes": runner.device_memory_bytes}
        if job.trained:
            changes["logits"] = run_all(runner, options.batch)
        if job.runs:
            changes["timing"] = runner.time({name: array}, WARMUP, job.runs)
            changes["graph_timing"] = runner.time({name: array}, WARMUP, job.runs, graph=True)
    return dataclasses.replace(facts, **changes)  # type: ignore[arg-type]


def _guarded(job: Job) -> Facts | str:
    """The facts, or the error's text: an exception with a build's whole log in it shall not
    travel.
    """
    try:
        return _made(job)
    except Exception as error:
        return f"{type(error).__name__}: {error!s:.600}"


class Worker:
    """One process that makes engines, one after the other; a new one takes over where it dies."""

    def __init__(self) -> None:
        self._pool: ProcessPoolExecutor | None = None

    def run(self, job: Job) -> Facts:
        """The job's facts; TrtlearnError with the reason where it failed, or killed its process
        twice.
        """
        for _ in range(2):
            self._pool = self._pool or ProcessPoolExecutor(1, get_context("spawn"))
            try:
                told = self._pool.submit(_guarded, job).result(timeout=LONGEST)
            except BrokenProcessPool:
                self.stop()
                continue
            except TimeoutError:
                self.stop()
                raise TrtlearnError(f"given up after {LONGEST} s") from None
            if isinstance(told, str):
                raise TrtlearnError(told)
            return told
        raise TrtlearnError("the process that built it died, twice")

    def stop(self) -> None:
        """End the process, whatever it is at."""
        pool, self._pool = self._pool, None
        if pool is not None:
            processes = list((pool._processes or {}).values())
            pool.shutdown(wait=False, cancel_futures=True)
            for process in processes:
                process.kill()
