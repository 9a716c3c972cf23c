"""Record the trade-off on this machine's GPU: size, speed and accuracy, sensitivity, Q/DQ
placements, dynamic shapes.

    python -m recording.tradeoff --out FOLDER/tradeoff --tactic-sources none [--stages ...]
    [--models resnet]

Engines are built one after the other in a process of their own and timed there alone; where
``--trtexec`` names NVIDIA's own program it times the same plan too. Builds of one network share a
timing cache, so that they differ in what was asked for and not by chance; build times come from
recording/core.py, which starts each from nothing. A build that fails, or a process that dies of
one, is reported and the rest goes on; each engine is written as soon as it is measured. ``--limit``
seconds into a stage no build is begun any more. Needs numpy, onnx, TensorRT 8.x or 10.x and
cuda-python.
"""

from __future__ import annotations

import argparse
import dataclasses
import random
import re
import subprocess
import sys
import time
import traceback
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx

from recording.jobs import WARMUP, Facts, Job, Worker, accuracy, predictions, run_all
from recording.saving import save_build, save_packed
from recording.sensitivity import search_mixed, units
from recording.zoo.big import big_network
from trtlearn.builds import Build, LayerCounts
from trtlearn.calibration.cache import read_cache
from trtlearn.calibration.qdq import PLACEMENTS, insert_qdq
from trtlearn.engine.layers import EngineInfo
from trtlearn.engine.records import ALGORITHMS, VARIANTS, BuildOptions, BuildReport, Provenance
from trtlearn.errors import RecordingError, TrtlearnError
from trtlearn.int8.quant import sqnr_db
from trtlearn.live.build import build_engine
from trtlearn.live.calibrator import make_calibrator
from trtlearn.live.experiment import provenance, run_variant
from trtlearn.live.runner import Runner
from trtlearn.model.course_data import MODELS, data_hashes, load_images, model_path
from trtlearn.record import Record
from trtlearn.recorded.files import check_hashes, load_build, recording_folders
from trtlearn.recorded.tradeoffs import (
    DynamicShapes,
    DynamicTrial,
    LayerTrial,
    Sensitivity,
    Tradeoff,
    sensitivity,
    tradeoff,
)

BATCHES = (8, 1, 64)  # a stage may be cut short
STAGES = ("points", "big", "placements", "dynamic", "sensitivity", "mixed")
COMPARED = (
    "fp32",
    "fp16",
    "int8-placeholder",
    "int8-minmax",
    "int8-fp16",
    "qdq",
    "int8-mixed",
)  # timed by trtexec too
RANGES_ONLY = (
    "int8-random",
    "int8-entropy",
    "int8-legacy",
    "int8-entropy2",
    "tf32",
)  # say little of speed
ALLOWED_LOSS = 0.005  # the mixed search may lose this much accuracy against FP32


class Study:
    """The run: where things go, what failed, and the process that builds."""

    def __init__(self, options: argparse.Namespace) -> None:
        self.options = options
        self.out: Path = options.out
        self.scratch = Path(options.scratch)
        self.scratch.mkdir(parents=True, exist_ok=True)
        self.models = [model for model in options.models.split(",") if model in MODELS]
        sources: str = options.tactic_sources
        self.sources: tuple[str, ...] | None = None if sources == "default" else ()
        self.failed: list[str] = []
        self.start = self.begun = time.monotonic()
        self.worker = Worker()

    def late(self) -> bool:
        """Whether the stage's time is over."""
        limit: float | None = self.options.limit
        return limit is not None and time.monotonic() - self.begun > limit

    def options_of(self, base: BuildOptions, **changes: Any) -> BuildOptions:
        return dataclasses.replace(base, tactic_sources=self.sources, **changes)

    def made(self, job: Job) -> Facts | None:
        """What came of a job; None where it failed or came too late, which is reported."""
        if self.late():
            self.fail(f"{job.key}: not begun, the stage's time was over")
            return None
        begun = time.monotonic()
        try:
            facts = self.worker.run(job)
        except TrtlearnError as error:
            self.fail(f"{job.key}: {error}")
            return None
        print(
            f"{time.monotonic() - self.start:6.1f} s  {job.key}: {time.monotonic() - begun:.1f} s",
            flush=True,
        )
        return facts

    def fail(self, what: str) -> None:
        self.failed.append(what)
        print(f"FAILED {what}", flush=True)

    def caches(self, model: str) -> dict[str, str]:
        """Calibration caches of a model: those recorded, else made here at batch 8. Algorithm ->
        path.
        """
        found = {}
        for algorithm in ALGORITHMS:
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
                path.write_text(built.calibration.cache or "", encoding="utf-8")
                found[algorithm] = str(path)
        return found

    def recorded_cache(self, model: str, algorithm: str) -> str:
        """The recorded cache's path; RecordingError where there is none, or it is of another
        model.
        """
        for folder in (self.out.parent, *recording_folders()):
            path = folder / model / f"int8-{algorithm}.cache"
            if path.is_file():
                trace = load_build(path.with_suffix(".json.gz"))
                check_hashes(trace.provenance, data_hashes(model), str(path))
                return str(path)
        raise RecordingError(f"no recorded cache of {model} by {algorithm}")

    def origin(self, notes: tuple[str, ...] = ()) -> Provenance:
        both = [provenance(model, self.sources, recorded=True) for model in MODELS]
        hashes = {name: value for one in both for name, value in one.sha256.items()}
        return dataclasses.replace(both[0], sha256=hashes, notes=notes)

    def save(self, name: str, record: Record) -> None:
        save_packed(self.out / f"{name}.json.gz", record)
        print(f"{time.monotonic() - self.start:6.1f} s  wrote {name}.json.gz", flush=True)

    def job(
        self, model: str, name: str, base: BuildOptions, path: Path | str | None = None, **more: Any
    ) -> Job:
        options = self.options_of(base, **more.pop("changes", {}))
        plan = self.scratch / f"{model}-{name}-b{options.batch}.plan"
        timing = str((self.options.timing_cache or self.scratch) / f"{model}.timing")
        return Job(model, name, options, str(path or model_path(model)), str(plan), timing, **more)

    # -- stages

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
        """Every way of building both trained networks, at three batch sizes; the most telling
        first.
        """
        for model in self.models:
            caches = self.caches(model)
            qdq = self.qdq_model(model, caches["minmax"])
            explicit = BuildOptions(int8=True, ranges="qdq")
            jobs = []
            for batch in BATCHES:
                for name, base in VARIANTS.items():
                    algorithm = "minmax" if name == "int8-fp16" else base.ranges
                    handed = (
                        {"cache_path": caches[algorithm], "algorithm": algorithm}
                        if algorithm in caches
                        else {}
                    )
                    changes = {"batch": batch, "ranges": "cache" if handed else base.ranges}
                    jobs.append(
                        self.job(
                            model, name, base, changes=changes, runs=self.options.runs, **handed
                        )
                    )
                jobs.append(
                    self.job(
                        model,
                        "qdq",
                        explicit,
                        qdq,
                        changes={"batch": batch},
                        runs=self.options.runs,
                    )
                )
            # FP32 first: the others' SQNR is against its logits
            jobs.sort(
                key=lambda job: (
                    job.options.batch != 8,
                    job.name != "fp32",
                    job.name in RANGES_ONLY,
                )
            )
            self.measure(f"points-{model}", jobs, "INT8+FP16 and Q/DQ with min-max scales")

    def big(self) -> None:
        """ResNet-50's size, random weights: speed, size and memory only."""
        level, jobs = self.options.big_level, []
        path = self.scratch / "big.onnx"
        path.write_bytes(big_network())
        for batch in BATCHES:
            for name in ("fp32", "tf32", "fp16", "int8-placeholder", "int8-fp16"):
                base = dataclasses.replace(
                    VARIANTS[name],
                    ranges="placeholder" if "int8" in name else "none",
                    optimization_level=level,
                )
                more = {"trained": False, "runs": self.options.runs}
                jobs.append(self.job("big", name, base, path, changes={"batch": batch}, **more))
        self.measure("big", jobs, f"optimization level {level}; random weights, so no accuracy")

    def measure(self, name: str, jobs: list[Job], note: str = "") -> None:
        """Make and time all engines, and write the points after each; with --resume only those not
        recorded yet.
        """
        earlier = self.earlier(name)
        points: list[Build] = [] if earlier is None else list(earlier.points)
        there = {(point.model, point.variant, point.batch) for point in points}
        reference: dict[str, np.ndarray] = {}
        for job in jobs:
            if (job.model, job.name, job.options.batch) in there:
                continue
            facts = self.made(job)
            if facts is None:
                continue
            logits = facts.logits
            if job.name == "fp32" and logits is not None:
                reference.setdefault(job.model, logits)
            against = reference.get(job.model)
            points.append(
                Build(
                    model=job.model,
                    variant=job.name,
                    provenance=self.origin(),
                    build=BuildReport(facts.options, facts.build_seconds, facts.plan_bytes),
                    engine=EngineInfo(()),
                    counts=LayerCounts(facts.engine_layers, facts.int8_layers, facts.reformats),
                    predictions=None if logits is None else predictions(logits),
                    timing=facts.timing,
                    graph_timing=facts.graph_timing,
                    device_memory_bytes=facts.device_memory_bytes,
                    logits_sqnr_db=None
                    if logits is None or against is None
                    else sqnr_db(against, logits),
                    note=note,
                    trtexec_ms=self.trtexec(job, graph=False),
                    trtexec_graph_ms=self.trtexec(job, graph=True),
                )
            )
            notes = (
                "one build at a time, a timing cache for each network; each engine timed alone",
                *self.failed,
            )
            origin = self.origin(notes)
            if earlier is not None:
                origin = dataclasses.replace(
                    origin, since_utc=earlier.provenance.since_utc or earlier.provenance.time_utc
                )
            self.save(name, Tradeoff(tuple(points), origin))

    def earlier(self, name: str) -> Tradeoff | None:
        """What --resume goes on with: the points recorded before, if on the same kind of GPU by the
        same TensorRT.
        """
        if not self.options.resume or not (self.out / f"{name}.json.gz").is_file():
            return None
        found, here = tradeoff(name, folder=self.out), self.origin()
        same = (found.provenance.gpu, found.provenance.tensorrt) == (here.gpu, here.tensorrt)
        return found if same else None

    def trtexec(self, job: Job, graph: bool) -> float | None:
        """The plan's median GPU compute time by NVIDIA's own program, ms; None if that is not here
        or not COMPARED.
        """
        if self.options.trtexec is None or job.name not in COMPARED:
            return None
        command = [
            self.options.trtexec,
            f"--loadEngine={job.plan_path}",
            f"--iterations={job.runs}",
            "--duration=0",
        ]
        command += ["--warmUp=50", "--noDataTransfers", *(["--useCudaGraph"] if graph else [])]
        try:
            done = subprocess.run(
                command, capture_output=True, encoding="utf-8", check=False, timeout=60
            )
            found = re.search(r"GPU Compute Time: .*median = ([0-9.e-]+) ms", done.stdout)
        except (OSError, subprocess.TimeoutExpired) as problem:
            self.fail(f"trtexec on {job.key}: {problem}")
            return None
        if found is None:
            self.fail(f"trtexec on {job.key} timed nothing: {(done.stdout + done.stderr)[-300:]!r}")
            return None
        return float(found[1])

    def sensitivity(self) -> None:
        """One unit at a time in INT8, one at a time kept out, a greedy search and random ones: the
        mobile network.
        """
        model, ranges = "mobile", "minmax"
        cache = self.caches(model)[ranges]
        nodes = [(node.name, node.op_type) for node in onnx.load(str(model_path(model))).graph.node]
        kinds, groups = dict(nodes), units(nodes)
        names, everything = tuple(groups), frozenset(groups)
        known: dict[frozenset[str], LayerTrial] = {}

        def attempt(kept: frozenset[str]) -> LayerTrial | None:
            """The trial of these units, built where not known yet; None where it does not build."""
            if kept not in known:
                name = f"kept-{sum(1 << i for i, unit in enumerate(names) if unit in kept):x}"
                base = dataclasses.replace(mixed_options(kept, groups, kinds), optimization_level=1)
                facts = self.made(self.job(model, name, base, cache_path=cache, algorithm=ranges))
                if facts is not None and facts.logits is not None:
                    order = tuple(unit for unit in names if unit in kept)
                    quality = sqnr_db(reference, facts.logits)
                    known[kept] = LayerTrial(
                        order, accuracy(facts.logits), quality, facts.int8_layers
                    )
            return known.get(kept)

        fp32 = self.made(
            self.job(model, "fp32", dataclasses.replace(VARIANTS["fp32"], optimization_level=1))
        )
        if fp32 is None or fp32.logits is None:
            raise TrtlearnError("the FP32 reference was not built")
        reference = fp32.logits
        target = accuracy(reference) - ALLOWED_LOSS

        whole = attempt(everything)
        if whole is None:
            raise TrtlearnError("the network with all units in INT8 was not built")
        alone = {name: trial for name in names if (trial := attempt(frozenset({name})))}
        kept_out = {name: trial for name in names if (trial := attempt(everything - {name}))}
        study = Sensitivity(
            model,
            ranges,
            accuracy(reference),
            whole.accuracy,
            target,
            alone,
            kept_out,
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
        damage = {
            unit: trial.sqnr_db if trial.sqnr_db is not None else 1e9
            for unit, trial in study.alone.items()
        }
        order = sorted(names, key=lambda unit: damage.get(unit, 1e9))
        greedy = search_mixed(order, attempt, target)
        study = dataclasses.replace(study, greedy=greedy)
        self.save(name, study)
        for seed in range(3):
            order = list(names)
            random.Random(seed).shuffle(order)
            study = dataclasses.replace(
                study, random=(*study.random, search_mixed(order, attempt, target))
            )
            self.save(name, study)

    def mixed(self) -> None:
        """The mixed network that the recorded greedy search ended with, built and timed like all
        others.
        """
        model, ranges = "mobile", "minmax"
        folder = (
            self.out if (self.out / f"sensitivity-{model}-{ranges}.json.gz").is_file() else None
        )
        study = sensitivity(model, ranges, folder=folder)
        if study.greedy is None or not study.greedy.reached:
            raise RecordingError("the recorded greedy search did not reach its target")
        nodes = [(node.name, node.op_type) for node in onnx.load(str(model_path(model))).graph.node]
        base = mixed_options(
            frozenset(study.greedy.trials[-1].int8_units), units(nodes), dict(nodes)
        )
        cache = self.caches(model)[ranges]
        jobs = [
            self.job(
                model,
                "int8-mixed",
                base,
                changes={"batch": batch},
                cache_path=cache,
                algorithm=ranges,
                runs=self.options.runs,
            )
            for batch in BATCHES
        ]
        out = ", ".join(study.greedy.order)
        self.measure(
            "mixed",
            jobs,
            f"kept out of INT8 by the greedy search ({study.provenance.label()}): {out}",
        )

    def placements(self) -> None:
        """The same scales implicit and explicit, and three wrong placements: whole experiments,
        with their engines.
        """
        for model in self.models:
            cache = self.caches(model)["minmax"]
            for placement in PLACEMENTS:
                if self.late():
                    self.fail(
                        f"placement {model} {placement}: not begun, the stage's time was over"
                    )
                    continue
                options = self.options_of(BuildOptions(int8=True, ranges="qdq"))
                try:
                    path = self.qdq_model(model, cache, placement)
                    save_build(
                        self.out / "placements",
                        self.experiment(model, f"qdq-{placement}", options, path),
                    )
                except Exception as error:
                    self.fail(f"placement {model} {placement}: {error!s:.600}")
                else:
                    print(
                        f"{time.monotonic() - self.start:6.1f} s  placement {model} {placement}",
                        flush=True,
                    )

    def experiment(self, model: str, name: str, options: BuildOptions, path: Path) -> Build:
        """run_variant's experiment for another ONNX file of the same network."""
        return run_variant(
            model,
            options,
            name=name,
            onnx_file=path,
            recorded=True,
            tactic_sources=self.sources,
            runs=self.options.runs,
            warmup=WARMUP,
        )

    def dynamic(self) -> None:
        """A dynamic batch, and the calibration profile: same images, three calibration batch sizes,
        one network.
        """
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
                    print(
                        f"dynamic, {algorithm} at {size} ({named}): {trials[-1].accuracy_at}",
                        flush=True,
                    )
                    notes = ("optimization level 1", *self.failed)
                    self.save(
                        "dynamic",
                        DynamicShapes("resnet", (1, 8, 64), tuple(trials), self.origin(notes)),
                    )

    def dynamic_trial(self, algorithm: str, size: int, named: bool) -> DynamicTrial:
        """One engine for batches 1 to 64, calibrated ``size`` images at a time."""
        images, _ = load_images("calibration")
        with make_calibrator(algorithm, images, size) as calibrator:
            built = build_engine(
                model_path("resnet"),
                self.options_of(VARIANTS[f"int8-{algorithm}"], optimization_level=1),
                calibrator=calibrator,
                shapes={"image": ((1, 1, 28, 28), (8, 1, 28, 28), (64, 1, 28, 28))},
                calibration_shapes={"image": (size, 1, 28, 28)} if named else None,
            )
        with Runner(built.plan) as runner:
            answers = {str(batch): accuracy(run_all(runner, batch)) for batch in (1, 8, 64)}
        assert built.calibration is not None
        said = tuple(message.plain or message.text for message in built.report.messages)
        trace = built.calibration
        return DynamicTrial(size, trace.batches, trace.cache or "", answers, said, algorithm, named)


def mixed_options(
    kept: frozenset[str], groups: Mapping[str, tuple[str, ...]], kinds: Mapping[str, str]
) -> BuildOptions:
    """INT8 for the units ``kept``, FP32 for the others; nothing asked for where all are kept."""
    out = [member for unit in groups if unit not in kept for member in groups[unit]]
    asked = (
        {unit: "int8" for unit in groups if unit in kept and kinds[unit] == "Conv"} if out else {}
    )
    return dataclasses.replace(
        VARIANTS["int8-minmax"],
        ranges="cache",
        layer_precisions={**asked, **dict.fromkeys(out, "fp32")},
        layer_output_types=dict.fromkeys(out, "fp32"),
        precision_constraints="prefer" if out else "none",
    )


def main() -> int:
    """Run the stages asked for; the exit status."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--scratch", default="/tmp/trtlearn-tradeoff")
    parser.add_argument("--stages", default=",".join(STAGES))
    parser.add_argument("--tactic-sources", default="default", choices=("default", "none"))
    parser.add_argument(
        "--timing-cache", type=Path, help="folder that keeps the networks' timing caches"
    )
    parser.add_argument("--runs", type=int, default=300)
    parser.add_argument(
        "--resume",
        action="store_true",
        help="keep the engines that --out holds, measure the others",
    )
    parser.add_argument(
        "--models", default=",".join(MODELS), help="of the stages points and placements"
    )
    parser.add_argument("--trtexec", help="NVIDIA's trtexec, to time the same plans with")
    parser.add_argument("--big-level", type=int, default=1)
    parser.add_argument(
        "--limit", type=float, help="seconds into a stage after which it begins no build"
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
    study.worker.stop()
    print(f"{len(study.failed)} failed" if study.failed else "nothing failed", flush=True)
    return 1 if study.failed else 0


if __name__ == "__main__":
    sys.exit(main())
