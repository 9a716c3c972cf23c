"""One engine of one of the three networks: built, run on all test images, timed and recorded."""

from __future__ import annotations

import dataclasses
import gzip
from pathlib import Path
from typing import Any

import numpy as np
import onnx

from recording.saving import save_build
from trtlearn.builds import Build, BuiltEngine, LayerCounts
from trtlearn.calibration.cache import read_cache
from trtlearn.calibration.qdq import insert_qdq
from trtlearn.engine.layers import EngineInfo
from trtlearn.engine.records import ALGORITHMS, BuildOptions, BuildReport, Predictions, Timing
from trtlearn.errors import TrtlearnError
from trtlearn.files import sha256
from trtlearn.live.build import build_engine
from trtlearn.live.calibrator import make_calibrator
from trtlearn.live.experiment import provenance
from trtlearn.live.runner import Runner
from trtlearn.model.detections import Detections, decode, mean_ap, unpack

from . import photos, scenes, variants
from .jobs import Job
from .photos import DATA

__all__ = ["hashes", "images_of", "measure", "model_bytes", "score"]

RUNS, WARMUP = 500, 100
RAW = 4  # scenes whose whole output is recorded, to see the codes in it
COMMAND = "python -m recording.networks.work"

Array = np.ndarray[Any, Any]


def images_of(network: str, split: str) -> tuple[Array, dict[str, Array]]:
    """Network-ready images of a split, and what they show (labels, or boxes and classes)."""
    name = "scenes" if network == "detector" else "photos"
    ready = scenes.normalise if network == "detector" else photos.normalise
    kinds = ("boxes", "classes") if network == "detector" else ("labels",)
    with np.load(DATA / "images" / f"{name}.npz") as file:
        return ready(file[f"{split}_images"]), {kind: file[f"{split}_{kind}"] for kind in kinds}


def model_bytes(model: str) -> bytes:
    """The ONNX file of a network, or of one of the detector's other heads."""
    path = DATA / "models" / f"{model.partition('-')[0]}.onnx"
    if model not in variants.VARIANTS:
        return path.read_bytes()
    changed = variants.variant(onnx.load(str(path)), model)
    return changed.SerializeToString(deterministic=True)


def hashes(network: str) -> dict[str, str]:
    """SHA-256 of the files that a recording rests on, by their path under data/."""
    images = "scenes" if network == "detector" else "photos"
    files = [DATA / "models" / f"{network}.onnx", DATA / "images" / f"{images}.npz"]
    return {path.relative_to(DATA).as_posix(): sha256(path) for path in files}


def pack(detections: list[Detections]) -> dict[str, Array]:
    """Detections of many images as four small arrays; boxes and scores in float16."""
    return {
        "counts": np.array([len(one) for one in detections], np.uint8),
        "boxes": np.concatenate([one.boxes for one in detections]).astype(np.float16),
        "scores": np.concatenate([one.scores for one in detections]).astype(np.float16),
        "classes": np.concatenate([one.classes for one in detections]).astype(np.uint8),
    }


def score(model: str, answers: Array, truth: dict[str, Array]) -> tuple[float, dict[str, Array]]:
    """Accuracy or mAP50 of the answers to all test images, and the answers in a compact form."""
    if model.startswith("detector"):
        compact = pack(decode(answers))
        boxes = unpack(compact)  # judged as they are recorded: in float16
        compact["raw"] = answers[:RAW]
        return mean_ap(boxes, truth["boxes"], truth["classes"]), compact
    right = float((answers.argmax(1) == truth["labels"]).mean())
    return right, {"logits": answers}


def _answers(runner: Runner, model: str, images: Array, batch: int) -> Array:
    """The engine's answers to all images; a last batch that is not full is filled up."""
    name, answers = next(iter(runner.inputs)), []
    for at in range(0, len(images), batch):
        part = images[at : at + batch]
        full = np.resize(part, (batch, *part.shape[1:])) if len(part) < batch else part
        outputs = runner.run({name: np.ascontiguousarray(full)})
        if model.startswith("detector"):
            rows = variants.boxes_of(model, outputs)
        else:
            rows = outputs["logits"].reshape(batch, -1)
        answers.append(rows[: len(part)].copy())
    return np.concatenate(answers)


def _built(job: Job, content: bytes, options: BuildOptions, out: Path, timing: Any) -> BuiltEngine:
    cache = out / "builds" / job.model / f"{job.needs}.cache"
    if options.ranges == "qdq":
        scales = {name: scale for name, scale in read_cache(cache).items() if scale > 0}
        model, _ = insert_qdq(onnx.load_from_string(content), scales, job.placement, job.skip)
        return build_engine(model.SerializeToString(), options, timing_cache=timing)
    if options.ranges not in (*ALGORITHMS, "cache"):
        return build_engine(content, options, timing_cache=timing)
    given = cache if options.ranges == "cache" else None
    images, _ = images_of(job.network, "calibration")
    kind = job.calibration or options.ranges
    # at batch 8 whatever the engine's: with a cache given, TensorRT asks for no images
    with make_calibrator(kind, images, 8, cache=given) as calibrator:
        built = build_engine(content, options, calibrator=calibrator, timing_cache=timing)
    if given is not None and built.calibration is not None and built.calibration.batches:
        raise TrtlearnError(f"TensorRT did not take the cache {given}: it asked for images")
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
    """Build and measure the engine and write everything under ``out``; one line of results."""
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
    images, truth = images_of(job.network, "test")
    batch = options.batch
    with Runner(built.plan) as runner:
        answers = _answers(runner, job.model, images, batch)
        array = np.ascontiguousarray(np.resize(images, (batch, *images.shape[1:])))
        plain, replayed = _time(runner, array, profiled=batch in (8, 64))
        memory = runner.device_memory_bytes
    quality, compact = score(job.model, answers, truth)
    predictions = None
    if job.network != "detector":
        classes = answers.argmax(1)
        right = int((classes == truth["labels"]).sum())
        predictions = Predictions(tuple(map(int, classes)), right, len(classes))
    log = gzip.compress(built.report.log.encode(), 6)
    build = Build.from_built(
        dataclasses.replace(built, report=dataclasses.replace(built.report, log="")),
        job.model,
        job.key,
        origin,
        timing=plain,
        predictions=predictions,
        map50=quality if job.network == "detector" else None,
    )
    point = dataclasses.replace(
        build,
        variant=job.name,
        build=BuildReport(options, build.build_seconds, build.plan_bytes),
        engine=EngineInfo(()),
        counts=LayerCounts(build.layers, build.int8_layers, build.reformats),
        ranges=None,
        calibration=None,
        timing=dataclasses.replace(plain, layers_ms={}),
        graph_timing=replayed,
        device_memory_bytes=memory,
    )
    for folder in ("points", "answers", "logs"):
        (out / folder).mkdir(parents=True, exist_ok=True)
    name = f"{job.model}--{job.key}"
    np.savez_compressed(out / "answers" / f"{name}.npz", **compact)
    (out / "logs" / f"{name}.log.gz").write_bytes(log)
    save_build(out / "builds", build)
    # the point comes last: it says that the job is done
    (out / "points" / f"{name}.json").write_text(point.to_json(), encoding="utf-8")
    return (
        f"{100 * quality:.1f} %, {plain.median_ms:.4f} ms, graph {replayed.median_ms:.4f} "
        f"({replayed.p05_ms:.4f} to {replayed.p95_ms:.4f}), {build.plan_bytes:,} bytes, "
        f"{build.int8_layers} of {build.layers} layers with INT8 weights"
    )
