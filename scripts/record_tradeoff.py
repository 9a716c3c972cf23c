"""Record the trade-off on this machine's GPU: size, speed and accuracy, sensitivity, Q/DQ placements, dynamic shapes.

    python scripts/record_tradeoff.py --out data/recordings/h200-8.6.0/tradeoff --tactic-sources none [--stages ...]

Engines are built by several processes at once (``--jobs``), which share a timing cache a network; afterwards each is
timed alone. Build times are taken in a stage of their own, one build at a time with an empty timing cache. A build that
fails is reported and the rest goes on. Needs numpy, onnx, TensorRT 8.x or 10.x and cuda-python.
"""

from __future__ import annotations

import argparse
import dataclasses
import gzip
import random
import sys
import time
import traceback
from concurrent.futures import ProcessPoolExecutor, as_completed
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from big_network import big_network

from trtlearn.build import build_engine
from trtlearn.cache import read_cache
from trtlearn.calibrator import make_calibrator
from trtlearn.experiment import engine_info, provenance, run_variant
from trtlearn.models import load_images, model_path
from trtlearn.paths import write_atomic
from trtlearn.placement import PLACEMENTS
from trtlearn.qdq import insert_qdq
from trtlearn.recordings import save_experiment
from trtlearn.records import BuildOptions, Experiment, Provenance, Record
from trtlearn.runner import Runner
from trtlearn.tradeoff import LayerTrial, MixedSearch, Sensitivity, Tradeoff, TradeoffPoint, units
from trtlearn.variants import ALGORITHMS, VARIANTS, variant_options

MODELS = ("resnet", "mobile")
BATCHES = (1, 8, 64)
BIG_BATCHES = (1, 8, 64)
STAGES = ("points", "big", "sensitivity", "placements", "dynamic", "seconds")
LIMIT = 0.005  # the mixed search may lose this much accuracy against FP32


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

    @property
    def key(self) -> str:
        return f"{self.model}-{self.name}-b{self.options.batch}"


def build(job: Job) -> dict[str, Any]:
    """Worker: build one engine, keep its plan, run the test images."""
    timing_cache = Path(job.scratch) / f"{job.model}.timing"
    ranges = read_cache(job.cache_path) if job.cache_path and job.options.ranges == "cache" else None
    options = dataclasses.replace(job.options, timing_cache="shared", optimization_level=job.optimization_level)
    built = build_engine(job.onnx_path, options, ranges=ranges, timing_cache=timing_cache)
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
        "raw": engine.raw,
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


def sqnr(reference: np.ndarray, logits: np.ndarray) -> float | None:
    """10 log10(signal / error) of the logits in dB, None where they are equal."""
    noise = float(((reference.astype(np.float64) - logits) ** 2).sum())
    return None if noise == 0 else float(10 * np.log10(float((reference.astype(np.float64) ** 2).sum()) / noise))


class Study:
    """The run: where things go, what failed, and the processes that build."""

    def __init__(self, options: argparse.Namespace) -> None:
        self.options = options
        self.out: Path = options.out
        self.scratch = Path(options.scratch)
        self.scratch.mkdir(parents=True, exist_ok=True)
        sources: str = options.tactic_sources
        self.sources: tuple[str, ...] | None = None if sources == "default" else ()
        self.pool = ProcessPoolExecutor(options.jobs, mp_context=get_context("spawn"))
        self.failed: list[str] = []
        self.start = time.monotonic()

    def options_of(self, base: BuildOptions, **changes: Any) -> BuildOptions:
        return dataclasses.replace(base, tactic_sources=self.sources, **changes)

    def build(self, jobs: list[Job]) -> dict[str, dict[str, Any]]:
        """Build all jobs in the pool; those that fail are reported and missing from the answer."""
        running = {self.pool.submit(build, job): job for job in jobs}
        done: dict[str, dict[str, Any]] = {}
        for future in as_completed(running):
            job = running[future]
            try:
                done[job.key] = future.result()
                print(
                    f"{time.monotonic() - self.start:6.1f} s  {job.key}: {done[job.key]['seconds']:.1f} s", flush=True
                )
            except Exception as error:
                self.failed.append(f"{job.key}: {error}")
                print(f"FAILED {job.key}: {error}", flush=True)
        return done

    def calibrate(self, model: str) -> dict[str, str]:
        """The four calibrators' caches of a model, made at batch 8: algorithm -> path."""
        found = {}
        for algorithm in ALGORITHMS:
            recorded = self.out.parent / model / f"int8-{algorithm}.cache"
            if not recorded.is_file():
                recorded = self.scratch / f"{model}-{algorithm}.cache"
                images, _ = load_images("calibration")
                with make_calibrator(algorithm, images, 8) as calibrator:
                    base = self.options_of(VARIANTS[f"int8-{algorithm}"], optimization_level=0)
                    built = build_engine(model_path(model), base, calibrator=calibrator)
                assert built.calibration is not None
                recorded.write_text(built.calibration.cache or "")
            found[algorithm] = str(recorded)
        return found

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
            caches = self.calibrate(model)
            qdq = self.qdq_model(model, caches["entropy2"])
            for batch in BATCHES:
                sized = {"batch": batch}
                for name in ("fp32", "tf32", "fp16", "int8-placeholder"):
                    jobs.append(self.job(model, name, VARIANTS[name], changes=sized))
                jobs.append(self.job(model, "int8-random", VARIANTS["int8-random"], changes=sized))
                for name, algorithm in [(f"int8-{a}", a) for a in ALGORITHMS] + [("int8-fp16", "entropy2")]:
                    changes = {**sized, "ranges": "cache"}
                    jobs.append(self.job(model, name, VARIANTS[name], cache_path=caches[algorithm], changes=changes))
                explicit = BuildOptions(int8=True, ranges="qdq", batch=batch)
                jobs.append(self.job(model, "qdq", explicit, qdq))
        self.measure("points", jobs)

    def big(self) -> None:
        """ResNet-50's size, random weights: speed, size and memory only."""
        level, jobs = self.options.big_level, []
        for batch in BIG_BATCHES:
            path = self.scratch / f"big-{batch}.onnx"
            if not path.is_file():
                path.write_bytes(big_network(batch))
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
            timing, graph, memory = self.time(job, Path(facts["plan"]))
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
                    logits_sqnr_db=None if logits is None or against is None else sqnr(against, logits),
                    note=note,
                )
            )
        notes = (f"{self.options.jobs} builds at a time, timing cache shared; each engine timed alone", *self.failed)
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
        """One unit at a time in INT8, one at a time kept out, a greedy search and random ones."""
        for model in MODELS:
            for ranges, cache in (
                ("minmax", self.calibrate(model)["minmax"]),
                ("entropy2", self.calibrate(model)["entropy2"]),
            ):
                try:
                    self.save(f"sensitivity-{model}-{ranges}", self.sensitivity_of(model, ranges, cache))
                except Exception as error:
                    self.failed.append(f"sensitivity {model} {ranges}: {error}")
                    traceback.print_exc()

    def sensitivity_of(self, model: str, ranges: str, cache: str) -> Sensitivity:
        nodes = [(node.name, node.op_type) for node in onnx.load(str(model_path(model))).graph.node]
        groups = units(nodes)
        names = tuple(groups)
        cached: dict[frozenset[str], LayerTrial] = {}

        def job(kept: frozenset[str]) -> Job:
            out = [member for unit in names if unit not in kept for member in groups[unit]]
            options = dataclasses.replace(
                VARIANTS["int8-minmax"],
                ranges="cache",
                layer_precisions=dict.fromkeys(out, "fp32"),
                layer_output_types=dict.fromkeys(out, "fp32"),
                precision_constraints="obey" if out else "none",
            )
            label = "+".join(unit for unit in names if unit in kept) or "none"
            return self.job(model, f"sens-{ranges}-{abs(hash(label))}", options, cache_path=cache)

        def trials(wanted: list[frozenset[str]]) -> list[LayerTrial]:
            missing = list(dict.fromkeys(kept for kept in wanted if kept not in cached))
            jobs = {kept: job(kept) for kept in missing}
            done = self.build(list(jobs.values()))
            for kept, one in jobs.items():
                logits = done[one.key]["logits"]
                order = tuple(unit for unit in names if unit in kept)
                cached[kept] = LayerTrial(order, accuracy(logits), sqnr(reference, logits))
            return [cached[kept] for kept in wanted]

        fp32 = self.build([self.job(model, "fp32-reference", VARIANTS["fp32"])])
        reference = next(iter(fp32.values()))["logits"]
        everything = frozenset(names)
        target = accuracy(reference) - LIMIT
        singles = trials([everything, *({name} for name in names), *(everything - {name} for name in names)])  # type: ignore[list-item]
        whole, alone, kept_out = singles[0], singles[1 : len(names) + 1], singles[len(names) + 1 :]

        def search(order: list[str]) -> MixedSearch:
            steps, kept = [], everything
            for unit in [None, *order]:
                kept = kept - {unit} if unit else kept
                steps.append(trials([kept])[0])
                if steps[-1].accuracy >= target:
                    break
            return MixedSearch(tuple(order[: len(steps) - 1]), tuple(steps), steps[-1].accuracy >= target)

        quality = {
            name: trial.sqnr_db if trial.sqnr_db is not None else 1e9 for name, trial in zip(names, alone, strict=True)
        }
        greedy = search(sorted(names, key=lambda name: quality[name]))
        shuffled = []
        for seed in range(5):
            order = list(names)
            random.Random(seed).shuffle(order)
            shuffled.append(search(order))
        return Sensitivity(
            model,
            ranges,
            accuracy(reference),
            whole.accuracy,
            target,
            dict(zip(names, alone, strict=True)),
            dict(zip(names, kept_out, strict=True)),
            greedy,
            tuple(shuffled),
            self.origin((f"target: FP32 less {100 * LIMIT} points; layers kept out ask for FP32 with obey",)),
        )

    def placements(self) -> None:
        """The same scales implicit and explicit, and three wrong placements: whole experiments, with their engines."""
        for model in MODELS:
            cache = self.calibrate(model)["entropy2"]
            for placement in PLACEMENTS:
                path = self.qdq_model(model, cache, placement)
                options = self.options_of(BuildOptions(int8=True, ranges="qdq"))
                try:
                    save_experiment(self.out / "placements", self.experiment(model, f"qdq-{placement}", options, path))
                except Exception as error:
                    self.failed.append(f"placement {model} {placement}: {error}")
                    print(f"FAILED placement {model} {placement}: {error}", flush=True)

    def experiment(self, model: str, name: str, options: BuildOptions, path: Path) -> Experiment:
        """run_variant's experiment for another ONNX file of the same network."""
        return run_variant(
            model, options, name=name, onnx_file=path, timing_cache=self.scratch / f"{model}.timing", recorded=True,
            tactic_sources=self.sources, runs=self.options.runs, warmup=50,
        )  # fmt: skip

    def dynamic(self) -> None:
        """A dynamic batch, and the calibration profile: same data, three calibration batch sizes, one engine."""
        from trtlearn.tradeoff import DynamicShapes, DynamicTrial

        images, _ = load_images("calibration")
        trials = []
        for calibration_batch in (1, 8, 32):
            options = self.options_of(variant_options("int8-entropy2"))
            shape = {"image": (calibration_batch, 1, 28, 28)}
            with make_calibrator("entropy2", images, calibration_batch) as calibrator:
                built = build_engine(
                    model_path("resnet"), options, calibrator=calibrator,
                    shapes={"image": ((1, 1, 28, 28), (8, 1, 28, 28), (64, 1, 28, 28))}, calibration_shapes=shape,
                    timing_cache=self.scratch / "resnet-dynamic.timing",
                )  # fmt: skip
            with Runner(built.plan) as runner:
                answers = {str(batch): accuracy(run_all(runner, batch)) for batch in (1, 8, 64)}
            assert built.calibration is not None
            trials.append(
                DynamicTrial(calibration_batch, built.calibration.batches, built.calibration.cache or "", answers,
                             tuple(m.plain or m.text for m in built.report.messages))
            )  # fmt: skip
            print(f"dynamic, calibrated at {calibration_batch}: {answers}", flush=True)
        self.save("dynamic", DynamicShapes("resnet", (1, 8, 64), tuple(trials), self.origin()))

    def seconds(self) -> None:
        """Build time, one at a time with nothing to start from, at batch 8."""
        points = []
        for model in ("resnet",):
            for name in ("fp32", "fp16", "int8-placeholder", "int8-fp16"):
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
    parser.add_argument("--jobs", type=int, default=6)
    parser.add_argument("--runs", type=int, default=300)
    parser.add_argument("--big-level", type=int, default=2)
    options = parser.parse_args()
    study = Study(options)
    for stage in options.stages.split(","):
        begun = time.monotonic()
        try:
            getattr(study, stage)()
        except Exception as error:
            study.failed.append(f"{stage}: {error}")
            traceback.print_exc()
        print(f"stage {stage}: {time.monotonic() - begun:.0f} s", flush=True)
    for problem in study.failed:
        print(f"FAILED {problem}")
    return 1 if study.failed else 0


if __name__ == "__main__":
    sys.exit(main())
