"""One engine of one of the three networks: built, asked about all test images, timed, written
down."""

from __future__ import annotations

import dataclasses
import gzip
from pathlib import Path
from typing import Any

import numpy as np
import onnx

from trtlearn.live.build import BuiltEngine, build_engine
from trtlearn.calibration.edit import read_cache
from trtlearn.live.calibrator import make_calibrator
from trtlearn.errors import TrtlearnError
from trtlearn.live.experiment import engine_info, provenance
from trtlearn.files import sha256
from trtlearn.int8.qdq import insert_qdq
from trtlearn.recorded.files import save_experiment
from trtlearn.engine.records import BuildOptions, Experiment, Predictions, Timing
from trtlearn.live.runner import Runner
from trtlearn.recorded.tradeoff import TradeoffPoint
from trtlearn.engine.variants import ALGORITHMS

from . import detect, photos, scenes, variants
from .jobs import Job
from .photos import DATA

__all__ = ["hashes", "images_of", "measure", "model_bytes", "score"]

RUNS, WARMUP = 500, 100
RAW = 4  # scenes whose whole output is kept, to see the codes in it
COMMAND = "python -m recording.networks.work"

Array = np.ndarray[Any, Any]


def images_of(network: str, split: str) -> tuple[Array, dict[str, Array]]:
    """Network-ready images of a split, and what they show (labels, or boxes and classes)."""
    name = "scenes" if network == "detector" else "photos"
    ready = scenes.normalise if network == "detector" else photos.normalise
    kinds = ("boxes", "classes") if network == "detector" else ("labels",)
    with np.load(DATA / "images" / f"{name}.npz") as held:
        return ready(held[f"{split}_images"]), {kind: held[f"{split}_{kind}"] for kind in kinds}


def model_bytes(model: str) -> bytes:
    """The ONNX file of a network, or of one of the detector's other heads."""
    path = DATA / "models" / f"{model.partition('-')[0]}.onnx"
    if model not in variants.VARIANTS:
        return path.read_bytes()
    made = variants.variant(onnx.load(str(path)), model)
    return made.SerializeToString(deterministic=True)


def hashes(network: str) -> dict[str, str]:
    """SHA-256 of the files that a recording rests on, by their path under data/."""
    images = "scenes" if network == "detector" else "photos"
    files = [DATA / "models" / f"{network}.onnx", DATA / "images" / f"{images}.npz"]
    return {path.relative_to(DATA).as_posix(): sha256(path) for path in files}


def score(model: str, answers: Array, truth: dict[str, Array]) -> tuple[float, dict[str, Array]]:
    """Accuracy or mAP50 of the answers to all test images, and the answers in a compact form."""
    if model.startswith("detector"):
        kept = detect.pack(detect.detections(answers))
        found = detect.unpack(kept)  # judged as they are kept: float16
        kept["raw"] = answers[:RAW]
        return detect.mean_ap(found, truth["boxes"], truth["classes"]), kept
    right = float((answers.argmax(1) == truth["labels"]).mean())
    return right, {"logits": answers}


def _asked(runner: Runner, model: str, images: Array, batch: int) -> Array:
    """The engine's answers to all images; a last batch that is not full is filled up, the rest
    ignored."""
    name, answers = next(iter(runner.inputs)), []
    for at in range(0, len(images), batch):
        part = images[at : at + batch]
        full = np.resize(part, (batch, *part.shape[1:])) if len(part) < batch else part
        outputs = runner.run({name: np.ascontiguousarray(full)})
        if model.startswith("detector"):
            made = variants.boxes_of(model, outputs)
        else:
            made = outputs["logits"].reshape(batch, -1)
        answers.append(made[: len(part)].copy())
    return np.concatenate(answers)


def _built(job: Job, content: bytes, options: BuildOptions, out: Path, timing: Any) -> BuiltEngine:
    cache = out / "experiments" / job.model / f"{job.needs}.cache"
    if options.ranges == "qdq":
        scales = {line.name: line.scale for line in read_cache(cache).scales if line.scale > 0}
        model, _ = insert_qdq(onnx.load_from_string(content), scales, job.placement, job.skip)
        return build_engine(model.SerializeToString(), options, timing_cache=timing)
    if options.ranges not in (*ALGORITHMS, "cache"):
        return build_engine(content, options, timing_cache=timing)
    handed = cache if options.ranges == "cache" else None
    images, _ = images_of(job.network, "calibration")
    kind = job.calibration or options.ranges
    # at batch 8 whatever the engine's: a cache that is handed over asks for no images
    with make_calibrator(kind, images, 8, cache=handed) as calibrator:
        built = build_engine(content, options, calibrator=calibrator, timing_cache=timing)
    if handed is not None and built.calibration is not None and built.calibration.batches:
        raise TrtlearnError(f"TensorRT did not take the cache {handed}: it asked for images")
    return built


def _time(runner: Runner, array: Array, profiled: bool) -> tuple[Timing, Timing]:
    arrays = {next(iter(runner.inputs)): array}
    plain = runner.time(arrays, WARMUP, RUNS)
    replayed = runner.time(arrays, WARMUP, RUNS, graph=True)
    if profiled:
        layers = runner.profile(arrays, 10, 50).layers_ms
        plain = dataclasses.replace(plain, layers_ms=layers)
    return plain, replayed


def measure(job: Job, out: Path, scratch: Path) -> str:
    """Make the engine and write everything under ``out``; one line that says what came of it."""
    timing = scratch / f"{job.network}-b{job.options.batch}.timing"
    warm = timing.exists() and not job.cold
    options = dataclasses.replace(
        job.options, tactic_sources=(), timing_cache="warm" if warm else "empty"
    )
    origin = dataclasses.replace(
        provenance(None, (), recorded=True),
        command=COMMAND,
        sha256=hashes(job.network),
        notes=("builds of one network share a timing cache; engines are timed alone",),
    )
    built = _built(job, model_bytes(job.model), options, out, None if job.cold else str(timing))
    engine = engine_info(built.text)
    images, truth = images_of(job.network, "test")
    batch = options.batch
    with Runner(built.plan) as runner:
        answers = _asked(runner, job.model, images, batch)
        array = np.ascontiguousarray(np.resize(images, (batch, *images.shape[1:])))
        plain, replayed = _time(runner, array, profiled=batch in (8, 64))
        memory = runner.device_memory_bytes
    quality, kept = score(job.model, answers, truth)
    predictions = None
    if job.network != "detector":
        classes = answers.argmax(1)
        right = int((classes == truth["labels"]).sum())
        predictions = Predictions(tuple(map(int, classes)), right, len(classes))
    log, report = built.report.log, dataclasses.replace(built.report, log="")
    experiment = Experiment(
        model=job.model,
        variant=job.key,
        provenance=origin,
        build=report,
        engine=engine,
        ranges=built.ranges,
        calibration=built.calibration,
        timing=plain,
        predictions=predictions,
    )
    int8 = sum(layer.weight_dtype == "int8" for layer in engine.layers)
    point = TradeoffPoint(
        model=job.model,
        name=job.name,
        batch=batch,
        options=options,
        accuracy=quality,
        timing=dataclasses.replace(plain, layers_ms={}),
        graph_timing=replayed,
        plan_bytes=report.plan_bytes,
        device_memory_bytes=memory,
        build_seconds=None if warm else report.build_seconds,
        engine_layers=len(engine.layers),
        int8_layers=int8,
        reformats=sum(layer.is_reformat for layer in engine.layers),
        note="accuracy is mAP50" if job.network == "detector" else "",
    )
    for folder in ("points", "answers", "logs"):
        (out / folder).mkdir(parents=True, exist_ok=True)
    name = f"{job.model}--{job.key}"
    np.savez_compressed(out / "answers" / f"{name}.npz", **kept)
    (out / "logs" / f"{name}.log.gz").write_bytes(gzip.compress(log.encode(), 6))
    save_experiment(out / "experiments", experiment)
    (out / "points" / f"{name}.json").write_text(
        point.to_json(), encoding="utf-8"
    )  # last: it is done
    return (
        f"{100 * quality:.1f} %, {plain.median_ms:.4f} ms, graph {replayed.median_ms:.4f} "
        f"({replayed.p05_ms:.4f} to {replayed.p95_ms:.4f}), {report.plan_bytes:,} bytes, "
        f"{int8} of {len(engine.layers)} layers with INT8 weights"
    )
