"""Record the trade-off on this machine's GPU: size, speed and accuracy, sensitivity, Q/DQ placements, dynamic shapes.

    python scripts/record_tradeoff.py --out data/recordings/h200-8.6.0/tradeoff --tactic-sources none [--stages ...]

Engines are built one after the other in a process of their own, each with an empty timing cache; afterwards each is
timed alone. ``--jobs`` builds several at once, which slows each (measured: 47 s instead of 6 s with three). Build
times are taken in a stage of their own. A build that fails, or a process that dies of one, is reported and the rest
goes on. ``--limit`` seconds into a stage no build is begun any more, ``--grace`` seconds later those still running are
given up; what is there is saved. Needs numpy, onnx, TensorRT 8.x or 10.x and cuda-python.
"""

from __future__ import annotations

import argparse
import dataclasses
import gzip
import random
import sys
import time
import traceback
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import onnx

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from big_network import big_network

from trtlearn.build import build_engine
from trtlearn.cache import read_cache
from trtlearn.calibrator import make_calibrator
from trtlearn.errors import RecordingError, TrtlearnError
from trtlearn.experiment import engine_info, provenance, run_variant
from trtlearn.models import load_images, model_path
from trtlearn.paths import data_dir, write_atomic
from trtlearn.placement import PLACEMENTS
from trtlearn.qdq import insert_qdq
from trtlearn.recordings import check_hashes, data_hashes, folder_name, load_provenance, save_experiment
from trtlearn.records import BuildOptions, Experiment, Provenance, Record
from trtlearn.runner import Runner
from trtlearn.sensitivity import sqnr_db
from trtlearn.tradeoff import (
    DynamicShapes,
    DynamicTrial,
    LayerTrial,
    MixedSearch,
    Sensitivity,
    Tradeoff,
    TradeoffPoint,
    units,
)
from trtlearn.variants import VARIANTS

MODELS = ("resnet", "mobile")
BATCHES = (1, 8, 64)
BIG_BATCHES = (8, 1, 64)
STAGES = ("points", "big", "sensitivity", "placements", "dynamic", "seconds")
ALLOWED_LOSS = 0.005  # the mixed search may lose this much accuracy against FP32


@dataclasses.dataclass(frozen=True)
class Job:
    """One engine to build in a worker: everything it needs, picklable."""

    model: str
    name: str
    options: BuildOptions
    onnx_path: str
    scratch: str
    cache_path: str | None = None
    weigh: bool = True  # run the test images
    optimization_level: int | None = None
    algorithm: str = "entropy2"  # whose cache cache_path is

    @property
    def key(self) -> str:
        return f"{self.model}-{self.name}-b{self.options.batch}"


def build(job: Job) -> dict[str, Any]:
    """Worker: build one engine, keep its plan, run the test images; {"error": text} where that fails."""
    try:
        return _build(job)
    except Exception as error:  # an exception with a build's whole log in it shall not travel between processes
        return {"error": f"{type(error).__name__}: {error!s:.600}"}


def _build(job: Job) -> dict[str, Any]:
    options = dataclasses.replace(job.options, optimization_level=job.optimization_level)
    if job.cache_path is None:
        built = build_engine(job.onnx_path, options)
    else:  # as trtexec --calib=FILE does it: a calibrator that hands the cache over and is never asked for images
        images, _ = load_images("calibration")
        with make_calibrator(job.algorithm, images, 8, cache=job.cache_path) as calibrator:
            built = build_engine(job.onnx_path, options, calibrator=calibrator)
        assert built.calibration is not None
        if built.calibration.batches:
            raise TrtlearnError(f"TensorRT did not take the cache {job.cache_path}: it asked for images")
    plan = Path(job.scratch) / f"{job.key}.plan"
    plan.write_bytes(built.plan)
    engine = engine_info(built.text)
    logits = None
    if job.weigh:
        with Runner(built.plan) as runner:
            logits = run_all(runner, options.batch)
    return {
        "plan": str(plan),
        "plan_bytes": built.report.plan_bytes,
        "seconds": built.report.build_seconds,
        "layers": len(engine.layers) or None,
        "int8": sum(layer.weight_dtype == "int8" for layer in engine.layers) if engine.layers else None,
        "reformats": sum(layer.is_reformat for layer in engine.layers) if engine.layers else None,
        "logits": logits,
        "options": options,
    }


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
    _, labels = load_images("test")
    return float((logits.argmax(1) == labels).mean())


class Study:
    """The run: where things go, what failed, and the processes that build."""

    def __init__(self, options: argparse.Namespace) -> None:
        self.options = options
        self.out: Path = options.out
        self.scratch = Path(options.scratch)
        self.scratch.mkdir(parents=True, exist_ok=True)
        sources: str = options.tactic_sources
        self.sources: tuple[str, ...] | None = None if sources == "default" else ()
        self.failed: list[str] = []
        self.start = self.begun = time.monotonic()
        self._pool: ProcessPoolExecutor | None = None

    @property
    def pool(self) -> ProcessPoolExecutor:
        if self._pool is None:
            self._pool = ProcessPoolExecutor(self.options.jobs, mp_context=get_context("spawn"))
        return self._pool

    def stop(self) -> None:
        """End the processes that build, whatever they are at."""
        pool, self._pool = self._pool, None
        if pool is not None:
            workers = list((pool._processes or {}).values())
            pool.shutdown(wait=False, cancel_futures=True)
            for worker in workers:
                worker.kill()

    def late(self, grace: float = 0) -> bool:
        """Whether the stage's time is over."""
        limit: float | None = self.options.limit
        return limit is not None and time.monotonic() - self.begun > limit + grace

    def options_of(self, base: BuildOptions, **changes: Any) -> BuildOptions:
        return dataclasses.replace(base, tactic_sources=self.sources, **changes)

    def build(self, jobs: list[Job]) -> dict[str, dict[str, Any]]:
        """Build all jobs in the pool; those that fail, or come too late, are reported and missing from the answer."""
        waiting, tried = list(jobs), dict.fromkeys((job.key for job in jobs), 0)
        running: dict[Future[dict[str, Any]], Job] = {}
        done: dict[str, dict[str, Any]] = {}
        while waiting or running:
            while waiting and len(running) < self.options.jobs and not self.late():
                suspect = tried[waiting[0].key] or any(tried[one.key] > 1 for one in running.values())
                if suspect and running:  # a second try is made alone, so that no other job is lost with it
                    break
                job = waiting.pop(0)
                tried[job.key] += 1
                running[self.pool.submit(build, job)] = job
            if not running:
                break
            finished, _ = wait(running, timeout=1, return_when=FIRST_COMPLETED)
            broken = False
            for future in finished:
                job = running.pop(future)
                try:
                    self.took(job, future.result(), done)
                except BrokenProcessPool:  # all that were running are lost, the one that crashed among them
                    broken = True
                    lost = [job, *running.values()]
                    running.clear()
                    waiting[:0] = [one for one in lost if tried[one.key] < 2]
                    for one in lost:
                        if tried[one.key] >= 2:
                            self.fail(f"{one.key}: the process that built it died, twice")
                    break
            if broken:
                self.stop()
            elif self.late(self.options.grace) and running:
                for one in running.values():
                    self.fail(f"{one.key}: given up, still building at the end of the stage's time")
                running.clear()
                self.stop()
        for job in waiting:
            self.fail(f"{job.key}: not begun, the stage's time was over")
        return done

    def took(self, job: Job, facts: dict[str, Any], done: dict[str, dict[str, Any]]) -> None:
        if "error" in facts:
            self.fail(f"{job.key}: {facts['error']}")
            return
        done[job.key] = facts
        print(f"{time.monotonic() - self.start:6.1f} s  {job.key}: {facts['seconds']:.1f} s", flush=True)

    def fail(self, what: str) -> None:
        self.failed.append(what)
        print(f"FAILED {what}", flush=True)

    def caches(self, model: str) -> dict[str, str]:
        """Calibration caches of a model: those recorded, else made here at batch 8. Algorithm -> path."""
        found = {}
        for algorithm in ("minmax", "entropy2", "legacy"):
            try:
                found[algorithm] = self.recorded_cache(model, algorithm)
            except TrtlearnError as problem:
                print(f"{model} {algorithm}: calibrating here ({problem})", flush=True)
                path = self.scratch / f"{model}-{algorithm}.cache"
                images, _ = load_images("calibration")
                with make_calibrator(algorithm, images, 8) as calibrator:
                    base = self.options_of(VARIANTS[f"int8-{algorithm}"], optimization_level=0)
                    built = build_engine(model_path(model), base, calibrator=calibrator)
                assert built.calibration is not None
                path.write_text(built.calibration.cache or "")
                found[algorithm] = str(path)
        return found

    def recorded_cache(self, model: str, algorithm: str) -> str:
        """The recorded cache's path; RecordingError where there is none, or it is of another model."""
        origin = self.origin()
        named = data_dir() / "recordings" / folder_name(origin.gpu or "", origin.tensorrt or "")
        for folder in (self.out.parent, named):
            path = folder / model / f"int8-{algorithm}.cache"
            if path.is_file():
                check_hashes(load_provenance(folder), data_hashes(model), str(path))
                return str(path)
        raise RecordingError(f"no recorded cache of {model} by {algorithm}")

    def origin(self, notes: tuple[str, ...] = ()) -> Provenance:
        both = [provenance(model, self.sources, recorded=True) for model in MODELS]
        hashes = {name: value for one in both for name, value in one.sha256.items()}
        return dataclasses.replace(both[0], sha256=hashes, notes=notes)

    def save(self, name: str, record: Record) -> None:
        write_atomic(self.out / f"{name}.json.gz", gzip.compress(record.to_json().encode(), mtime=0))
        print(f"{time.monotonic() - self.start:6.1f} s  wrote {name}.json.gz", flush=True)

    def job(self, model: str, name: str, base: BuildOptions, path: Path | str | None = None, **more: Any) -> Job:
        onnx_path = str(path or model_path(model))
        return Job(model, name, self.options_of(base, **more.pop("changes", {})), onnx_path, str(self.scratch), **more)

    # -- stages -----------------------------------------------------------------------------------------------------

    def qdq_model(self, model: str, cache: str, placement: str = "tensorrt") -> Path:
        """An ONNX file with Q/DQ of the cache's scales."""
        scales = {entry.name: entry.scale for entry in read_cache(cache).scales if entry.scale > 0}
        proto = onnx.load(str(model_path(model)))
        known = {name for node in proto.graph.node for name in (*node.input, *node.output)}
        changed, _ = insert_qdq(proto, {n: s for n, s in scales.items() if n in known}, placement)
        path = self.scratch / f"{model}-{placement}.onnx"
        path.write_bytes(changed.SerializeToString())
        return path

    def points(self) -> None:
        """Every way of building both trained networks, at three batch sizes."""
        jobs = []
        for model in MODELS:
            caches = self.caches(model)
            qdq = self.qdq_model(model, caches["minmax"])
            for batch in BATCHES:
                sized = {"batch": batch}
                for name in ("fp32", "tf32", "fp16", *(("int8-placeholder",) if batch == 8 else ())):
                    jobs.append(self.job(model, name, VARIANTS[name], changes=sized))
                calibrated = [("int8-minmax", "minmax"), ("int8-fp16", "minmax")]
                if batch == 8:
                    calibrated += [("int8-entropy2", "entropy2"), ("int8-legacy", "legacy")]
                for name, algorithm in calibrated:
                    changes = {**sized, "ranges": "cache"}
                    jobs.append(
                        self.job(
                            model, name, VARIANTS[name],
                            cache_path=caches[algorithm], algorithm=algorithm, changes=changes,
                        )
                    )  # fmt: skip
                explicit = BuildOptions(int8=True, ranges="qdq", batch=batch)
                jobs.append(self.job(model, "qdq", explicit, qdq))
        jobs.sort(key=lambda job: (job.options.batch != 8, job.name not in ("fp32", "int8-minmax", "qdq")))
        self.measure("points", jobs, "INT8+FP16 and Q/DQ with min-max scales")

    def big(self) -> None:
        """ResNet-50's size, random weights: speed, size and memory only."""
        level, jobs = self.options.big_level, []  # batch 8 first: the stage may be cut short
        path = self.scratch / "big.onnx"
        path.write_bytes(big_network())
        for batch in BIG_BATCHES:
            for name in ("fp32", "tf32", "fp16", "int8-placeholder", "int8-fp16"):
                base = dataclasses.replace(VARIANTS[name], ranges="placeholder" if "int8" in name else "none")
                changes = {"batch": batch}
                jobs.append(self.job("big", name, base, path, weigh=False, optimization_level=level, changes=changes))
        self.measure("big", jobs, f"optimization level {level}; random weights, so no accuracy")

    def measure(self, name: str, jobs: list[Job], note: str = "") -> None:
        """Build all, then time each alone, and write the points."""
        built = self.build(jobs)
        reference = {job.model: built[job.key]["logits"] for job in jobs if job.name == "fp32" and job.key in built}
        points = []
        for job in jobs:
            if job.key not in built:
                continue
            facts = built[job.key]
            try:
                timing, graph, memory = self.time(job, Path(facts["plan"]))
            except Exception as error:
                self.fail(f"timing {job.key}: {type(error).__name__}: {error}")
                continue
            logits = facts["logits"]
            against = reference.get(job.model)
            points.append(
                TradeoffPoint(
                    model=job.model,
                    name=job.name,
                    batch=job.options.batch,
                    options=facts["options"],
                    accuracy=None if logits is None else accuracy(logits),
                    timing=timing,
                    graph_timing=graph,
                    plan_bytes=facts["plan_bytes"],
                    device_memory_bytes=memory,
                    build_seconds=None,  # several were built at once: see the stage "seconds"
                    engine_layers=facts["layers"],
                    int8_layers=facts["int8"],
                    reformats=facts["reformats"],
                    logits_sqnr_db=None if logits is None or against is None else sqnr_db(against, logits),
                    note=note,
                )
            )
        notes = (f"{self.options.jobs} builds at a time, timing caches empty; each engine timed alone", *self.failed)
        self.save(name, Tradeoff(tuple(points), self.origin(notes)))

    def time(self, job: Job, plan: Path) -> tuple[Any, Any, int]:
        """Timing by launches and by graph replay, and the memory, of one plan."""
        with Runner(plan) as runner:
            (name, (shape, _)), *_ = runner.inputs.items()
            if job.weigh:
                images, _ = load_images("test")
                array = np.ascontiguousarray(images[: shape[0]])
            else:
                array = np.random.default_rng(0).normal(size=shape).astype(np.float32)
            runs = self.options.runs
            return (
                runner.time({name: array}, warmup=50, runs=runs),
                runner.time({name: array}, warmup=50, runs=runs, graph=True),
                runner.device_memory_bytes,
            )

    def sensitivity(self) -> None:
        """One unit at a time in INT8, one at a time kept out, a greedy search and random ones: the mobile network."""
        model, ranges = "mobile", "minmax"
        cache = self.caches(model)[ranges]
        nodes = [(node.name, node.op_type) for node in onnx.load(str(model_path(model))).graph.node]
        kinds, groups = dict(nodes), units(nodes)
        names, everything = tuple(groups), frozenset(groups)
        known: dict[frozenset[str], LayerTrial] = {}

        def options(kept: frozenset[str]) -> BuildOptions:
            out = [member for unit in names if unit not in kept for member in groups[unit]]
            asked = {unit: "int8" for unit in names if unit in kept and kinds[unit] == "Conv"} if out else {}
            return dataclasses.replace(
                VARIANTS["int8-minmax"],
                ranges="cache",
                layer_precisions={**asked, **dict.fromkeys(out, "fp32")},
                layer_output_types=dict.fromkeys(out, "fp32"),
                precision_constraints="prefer" if out else "none",
            )

        def trials(wanted: list[frozenset[str]]) -> list[LayerTrial | None]:
            """The trials of these sets of units, built where not known yet; None for one that does not build."""
            jobs = {}
            for kept in dict.fromkeys(wanted):
                if kept not in known:
                    name = f"kept-{sum(1 << i for i, unit in enumerate(names) if unit in kept):x}"
                    jobs[kept] = self.job(
                        model, name, options(kept), cache_path=cache, algorithm=ranges, optimization_level=1
                    )
            done = self.build(list(jobs.values()))
            for kept, job in jobs.items():
                if job.key in done:
                    facts = done[job.key]
                    order = tuple(unit for unit in names if unit in kept)
                    quality = sqnr_db(reference, facts["logits"])
                    known[kept] = LayerTrial(order, accuracy(facts["logits"]), quality, facts["int8"])
            return [known.get(kept) for kept in wanted]

        fp32 = self.build([self.job(model, "fp32-reference", VARIANTS["fp32"], optimization_level=1)])
        if not fp32:
            raise TrtlearnError("the FP32 reference was not built")
        reference = next(iter(fp32.values()))["logits"]
        target = accuracy(reference) - ALLOWED_LOSS

        def search(order: list[str]) -> MixedSearch:
            """Take units out of INT8 in this order until the target is reached; several steps are built at once."""
            sets = [everything - frozenset(order[:count]) for count in range(len(order) + 1)]
            steps: list[LayerTrial] = []
            while len(steps) < len(sets):
                for trial in trials(sets[len(steps) : len(steps) + self.options.jobs]):
                    if trial is None:
                        return MixedSearch(tuple(order[: max(0, len(steps) - 1)]), tuple(steps), False)
                    steps.append(trial)
                    if trial.accuracy >= target:
                        return MixedSearch(tuple(order[: len(steps) - 1]), tuple(steps), True)
            return MixedSearch(tuple(order), tuple(steps), False)

        trials([everything])
        if everything not in known:
            raise TrtlearnError("the network with all units in INT8 was not built")
        trials([frozenset({name}) for name in names])
        trials([everything - {name} for name in names])
        study = Sensitivity(
            model,
            ranges,
            accuracy(reference),
            known[everything].accuracy,
            target,
            {name: known[one] for name in names if (one := frozenset({name})) in known},
            {name: known[one] for name in names if (one := everything - {name}) in known},
            None,
            (),
            self.origin(
                (
                    f"target: FP32 less {100 * ALLOWED_LOSS} points; optimization level 1; units kept out ask for FP32 "
                    "and, where any is kept out, the other convolutions for INT8, with prefer",
                )
            ),
        )
        name = f"sensitivity-{model}-{ranges}"
        self.save(name, study)
        damage = {unit: trial.sqnr_db if trial.sqnr_db is not None else 1e9 for unit, trial in study.alone.items()}
        greedy = search(sorted(names, key=lambda unit: damage.get(unit, 1e9)))
        study = dataclasses.replace(study, greedy=greedy)
        self.save(name, study)
        for seed in range(3):
            order = list(names)
            random.Random(seed).shuffle(order)
            study = dataclasses.replace(study, random=(*study.random, search(order)))
            self.save(name, study)
        if greedy.reached:
            best = options(frozenset(greedy.trials[-1].int8_units))
            jobs = [
                self.job(model, "int8-mixed", best, cache_path=cache, algorithm=ranges, changes={"batch": batch})
                for batch in (8, 1, 64)
            ]
            self.measure("mixed", jobs, f"{len(greedy.order)} units kept out by the greedy search: {greedy.order}")

    def placements(self) -> None:
        """The same scales implicit and explicit, and three wrong placements: whole experiments, with their engines."""
        for model in MODELS:
            cache = self.caches(model)["minmax"]
            for placement in PLACEMENTS if model == "resnet" else PLACEMENTS[:1]:
                if self.late():
                    self.fail(f"placement {model} {placement}: not begun, the stage's time was over")
                    continue
                options = self.options_of(BuildOptions(int8=True, ranges="qdq"))
                try:
                    path = self.qdq_model(model, cache, placement)
                    save_experiment(self.out / "placements", self.experiment(model, f"qdq-{placement}", options, path))
                except Exception as error:
                    self.fail(f"placement {model} {placement}: {error!s:.600}")
                else:
                    print(f"{time.monotonic() - self.start:6.1f} s  placement {model} {placement}", flush=True)

    def experiment(self, model: str, name: str, options: BuildOptions, path: Path) -> Experiment:
        """run_variant's experiment for another ONNX file of the same network."""
        return run_variant(
            model, options, name=name, onnx_file=path, recorded=True,
            tactic_sources=self.sources, runs=self.options.runs, warmup=50,
        )  # fmt: skip

    def dynamic(self) -> None:
        """A dynamic batch, and the calibration profile: same images, three calibration batch sizes, one network."""
        trials: list[DynamicTrial] = []
        for algorithm in ("minmax", "entropy2"):
            for size, named in ((8, False), (8, True), (1, True), (32, True)):
                if self.late():
                    self.fail(f"dynamic {algorithm} {size}: not begun, the stage's time was over")
                    continue
                try:
                    trials.append(self.dynamic_trial(algorithm, size, named))
                except Exception as error:
                    self.fail(f"dynamic {algorithm} {size} {named}: {error!s:.600}")
                else:
                    print(f"dynamic, {algorithm} at {size} ({named}): {trials[-1].accuracy_at}", flush=True)
        notes = ("optimization level 1", *self.failed)
        self.save("dynamic", DynamicShapes("resnet", (1, 8, 64), tuple(trials), self.origin(notes)))

    def dynamic_trial(self, algorithm: str, size: int, named: bool) -> DynamicTrial:
        """One engine for batches 1 to 64, calibrated ``size`` images at a time."""
        images, _ = load_images("calibration")
        with make_calibrator(algorithm, images, size) as calibrator:
            built = build_engine(
                model_path("resnet"), self.options_of(VARIANTS[f"int8-{algorithm}"], optimization_level=1),
                calibrator=calibrator, shapes={"image": ((1, 1, 28, 28), (8, 1, 28, 28), (64, 1, 28, 28))},
                calibration_shapes={"image": (size, 1, 28, 28)} if named else None,
            )  # fmt: skip
        with Runner(built.plan) as runner:
            answers = {str(batch): accuracy(run_all(runner, batch)) for batch in (1, 8, 64)}
        assert built.calibration is not None
        said = tuple(message.plain or message.text for message in built.report.messages)
        trace = built.calibration
        return DynamicTrial(size, trace.batches, trace.cache or "", answers, said, algorithm, named)

    def seconds(self) -> None:
        """Build time, one at a time with nothing to start from, at batch 8."""
        points: list[TradeoffPoint] = []
        for model in ("resnet",):
            for name in ("fp32", "fp16", "int8-placeholder", "int8-fp16"):
                if self.late():
                    self.fail(f"seconds {name}: not begun, the stage's time was over")
                    continue
                base = dataclasses.replace(VARIANTS[name], ranges="placeholder" if "int8" in name else "none")
                options = self.options_of(base)
                built = build_engine(model_path(model), options)
                points.append(
                    TradeoffPoint(model, name, 8, options, None, None, None, built.report.plan_bytes, None,
                                  built.report.build_seconds, note="empty timing cache, nothing else running")
                )  # fmt: skip
                print(f"{model} {name}: {built.report.build_seconds:.1f} s", flush=True)
        self.save("seconds", Tradeoff(tuple(points), self.origin()))


def main() -> int:
    """Run the stages asked for; the exit status."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--scratch", default="/tmp/trtlearn-tradeoff")
    parser.add_argument("--stages", default=",".join(STAGES))
    parser.add_argument("--tactic-sources", default="default", choices=("default", "none"))
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument("--runs", type=int, default=300)
    parser.add_argument("--big-level", type=int, default=1)
    parser.add_argument("--limit", type=float, help="seconds into a stage after which it begins no build")
    parser.add_argument(
        "--grace", type=float, default=30, help="seconds after that to wait for builds that are running"
    )
    options = parser.parse_args()
    unknown = [stage for stage in options.stages.split(",") if stage not in STAGES]
    if unknown:
        parser.error(f"no stage {unknown[0]!r}, expected some of {', '.join(STAGES)}")
    study = Study(options)
    for stage in options.stages.split(","):
        study.begun = time.monotonic()
        try:
            getattr(study, stage)()
        except Exception as error:
            study.fail(f"{stage}: {type(error).__name__}: {error!s:.600}")
            traceback.print_exc(limit=5)
        print(f"stage {stage}: {time.monotonic() - study.begun:.0f} s", flush=True)
    study.stop()
    print(f"{len(study.failed)} failed" if study.failed else "nothing failed", flush=True)
    return 1 if study.failed else 0


if __name__ == "__main__":
    sys.exit(main())
