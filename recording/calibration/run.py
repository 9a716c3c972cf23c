"""Experiments on a GPU with TensorRT 8.6: what its four calibrators make of activations that we
control.

    OUT=folder python -m recording.calibration.run --zoo FOLDER [--seconds 240] [--only
    probe,crafted,...] [--jobs 3]

A few worker processes are started once (more of them slow each other down); each job ends as soon
as TensorRT hands over its cache, the engine is not needed. Results go to $OUT/calib.tar.xz, one
JSON file a job, packed again after each stage.
"""

from __future__ import annotations

import argparse
import base64
import hashlib
import json
import os
import random
import shutil
import tarfile
import time
import traceback
import zlib
from pathlib import Path

import numpy as np

from recording.calibration.models import strange_name_model, tie_models
from recording.calibration.pool import Pool
from trtlearn.recorded.caches import broken_files

ROOT = Path(__file__).resolve().parents[2]
OUT = Path(os.environ.get("OUT", "calib-results"))
WORK = Path(os.environ.get("CALIB_WORK", "/tmp/calib_work"))
ALGORITHMS = ("entropy2", "minmax", "legacy", "entropy")
IMAGES = 64
START = time.time()


def say(*words) -> None:
    print(f"[{time.time() - START:6.1f}]", *words, flush=True)


def cache_of(network: str, algorithm: str) -> str | None:
    """TensorRT's cache of a network: from this run, else as recorded before."""
    from trtlearn.errors import RecordingError
    from trtlearn.recorded.calibration import cache_path

    if found := result_of(f"zoo_{network}_{algorithm}").get("cache"):
        return found
    try:
        return cache_path(network, algorithm).read_text(encoding="utf-8")
    except RecordingError:
        return None


def coded(content: bytes) -> str:
    return base64.b64encode(content).decode()


def result_of(name: str) -> dict:
    path = WORK / f"{name}.json"
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}


# ---------------------------------------------------------------- what there is to work on


def prepare_digits() -> None:
    """Calibration and test images as the course's own loader gives them."""
    from trtlearn.model.course_data import load_images

    calibration, _ = load_images("calibration")
    test, labels = load_images("test")
    np.savez(WORK / "digits_calib.npz", image=np.asarray(calibration, np.float32))
    np.savez(
        WORK / "digits_test.npz", image=np.asarray(test, np.float32), labels=np.asarray(labels)
    )


def course_model(name: str) -> dict | None:
    path, data = ROOT / "data" / "models" / f"{name}.onnx", WORK / "digits_calib.npz"
    return (
        {"onnx": str(path), "data": str(data), "model": name}
        if path.exists() and data.exists()
        else None
    )


def zoo(options) -> list[dict]:
    """model, onnx, data and the batch that each network's first input fixes."""
    import onnx

    found = []
    for folder in options.zoo:
        for path in sorted(Path(folder).glob("*.onnx")):
            data = path.with_suffix(".npz")
            axis = onnx.load(path).graph.input[0].type.tensor_type.shape.dim[0]
            if data.exists():
                batch = int(axis.dim_value) if axis.HasField("dim_value") else 8
                found.append(
                    {"model": path.stem, "onnx": str(path), "data": str(data), "batch": batch}
                )
    return found


# ---------------------------------------------------------------- stages, the most important first


def stage_probe(options, pool: Pool) -> None:
    """Which design of a network takes tensors that we make."""
    base = {"do": "calibrate", "batch": 1, "crafted": "probe", "timeout": 40}
    jobs = [
        {**base, "name": f"probe_{design}_{a}", "design": design, "algorithm": a}
        for design in ("many", "slices")
        for a in ("entropy2", "legacy")
    ]
    one = {
        **base,
        "name": "probe_one_entropy2",
        "design": "one",
        "names": ["normal_1536"],
        "algorithm": "entropy2",
    }
    pool.run([*jobs, one])


def stage_zoo(options, pool: Pool) -> None:
    """Every network of the zoo with every calibrator, and its FP32 activations on the GPU."""
    jobs = []
    networks = [
        network
        for network in zoo(options)
        if network["model"] in (options.networks or network["model"])
    ]
    for algorithm in ALGORITHMS:
        for network in networks:
            batch = network["batch"]
            job = {
                "do": "calibrate",
                "algorithm": algorithm,
                "limit": IMAGES // batch,
                "timeout": 200,
                **network,
            }
            job |= {
                "name": f"zoo_{network['model']}_{algorithm}",
                "keep_histogram": algorithm == "legacy",
            }
            jobs.append(job | {"stop": "scales" if algorithm == "entropy" else "cache"})
    for network in networks:
        limit = IMAGES // network["batch"]
        jobs.append(
            {
                "do": "dump",
                "name": f"zoo_{network['model']}_dump",
                "limit": limit,
                "timeout": 60,
                **network,
            }
        )
    pool.run(jobs)


def design() -> str:
    """The first design of which TensorRT took every tensor, for both kinds of calibrator."""
    from recording.calibration import crafted

    for name, mark in (("many", ""), ("slices", "out::")):
        caches = [result_of(f"probe_{name}_{a}").get("cache", "") for a in ("entropy2", "legacy")]
        if all(f"{mark}{tensor}: " in cache for cache in caches for tensor in crafted.PROBE):
            return name
    return "slices" if "cache" in result_of("probe_slices_entropy2") else "one"


def stage_crafted(options, pool: Pool) -> None:
    from recording.calibration import crafted

    chosen = design()
    say("crafted tensors by the design", chosen)
    base = {"do": "calibrate", "batch": 1, "design": chosen, "timeout": 75}
    if chosen == "one":
        jobs = [
            {
                **base,
                "name": f"crafted_one_{a}_{name}",
                "crafted": which,
                "names": [name],
                "algorithm": a,
                "timeout": 30,
            }
            for a, which in (
                ("entropy2", "single_safe"),
                ("legacy", "grid"),
                ("entropy2", "several_safe"),
            )
            for name in list(crafted.group(which))[::3]
        ]
        pool.run(jobs, deadline=time.time() + 90)
        return
    jobs = [
        {
            **base,
            "name": f"crafted_{which}_{a}",
            "crafted": which,
            "algorithm": a,
            "keep_histogram": a == "legacy",
        }
        for which in ("single_safe", "several_safe", "single_special", "several_special")
        for a in ("entropy2", "legacy", "minmax", "entropy")
        if not which.endswith("_special") or a in ("entropy2", "minmax", "legacy")
    ]
    grid = [(q, c) for q in (0.9, 0.999, 0.9999, 1.0) for c in (0.0, 0.5, 0.9, 1.0)]
    grid += [
        (0.5, 0.5),
        (0.5, 1.0),
        (0.99, 0.75),
        (0.99, 1.0),
        (0.0, 1.0),
        (0.999, 0.1),
        (0.999, 0.25),
        (0.999, 0.99),
    ]
    jobs += [
        {
            **base,
            "name": f"legacy_q{q}_c{c}",
            "crafted": "grid",
            "algorithm": "legacy",
            "quantile": q,
            "cutoff": c,
        }
        for q, c in grid
    ]
    jobs += [
        {
            **base,
            "name": f"legacy_several_q{q}_c{c}",
            "crafted": "grid_several",
            "algorithm": "legacy",
        }
        | {"quantile": q, "cutoff": c}
        for q, c in ((0.9, 1.0), (0.999, 0.5), (0.99, 0.75), (1.0, 1.0))
    ]
    jobs.append(
        {
            **base,
            "name": "crafted_single_safe_entropy2_again",
            "crafted": "grid",
            "algorithm": "entropy2",
        }
    )
    pool.run(jobs)


def stage_ties(options, pool: Pool) -> None:
    models = tie_models()
    kept = {
        name: base64.b64encode(zlib.compress(content)).decode() for name, content in models.items()
    }
    (WORK / "tie_models.json").write_text(json.dumps(kept), encoding="utf-8")
    base = {"do": "calibrate", "batch": 2, "feed_seed": 5, "batches": 3, "timeout": 25}
    jobs = [
        {**base, "name": f"tie_{name}_{a}", "algorithm": a, "onnx_bytes": coded(content)}
        for a, ending in (("entropy2", "_middle"), ("entropy", "_middle"), ("entropy2", "_input"))
        for name, content in models.items()
        if name.endswith(ending)
    ]
    several = (
        "MaxPool",
        "AveragePool",
        "Concat",
        "Reshape",
        "Transpose",
        "Slice",
        "Relu",
        "Resize",
    )
    jobs += [
        {
            **base,
            "name": f"tie_{name}_middle_{a}",
            "algorithm": a,
            "onnx_bytes": coded(models[f"{name}_middle"]),
        }
        for a in ("minmax", "legacy")
        for name in several
    ]
    pool.run(jobs)


def stage_odd(options, pool: Pool) -> None:
    """Caches as people break them, given back to TensorRT."""
    network = next((n for n in zoo(options) if n["model"] == "residual"), None)
    first = cache_of("residual", "entropy2")
    if network is None or first is None:
        say("no cache to break")
        return
    base = {
        "do": "calibrate",
        "algorithm": "entropy2",
        "limit": 2,
        "stop": "scales",
        "timeout": 40,
        **network,
    }
    jobs = [
        {**base, "name": f"odd_{name}", "given_cache": coded(content)}
        for name, content in broken_files(first).items()
    ]
    legacy, mobile = cache_of("residual", "legacy"), cache_of("mobile", "entropy2")
    if mobile:
        jobs.append(
            {**base, "name": "odd_other_models_cache", "given_cache": coded(mobile.encode())}
        )
    if legacy:
        settings = (
            ("same", 0.999, 1.0),
            ("other_quantile", 0.99, 1.0),
            ("other_cutoff", 0.999, 0.5),
        )
        jobs += [
            {
                **base,
                "name": f"odd_legacy_{name}",
                "algorithm": "legacy",
                "quantile": q,
                "cutoff": c,
            }
            | {"given_cache": coded(legacy.encode())}
            for name, q, c in settings
        ]
    pool.run(jobs)


def stage_property(options, pool: Pool) -> None:
    """Random names and scales written by trtlearn.calibration.cache: TensorRT must take every one
    and ask for no batch.
    """
    from trtlearn.calibration.cache import format_cache, new_cache

    letters = "abcXYZ019_./:-[]()* #é☃\t"
    jobs = []
    for seed in range(14):
        rng = random.Random(seed)
        names = ["in"] + [
            f"t{i}_"
            + ("".join(rng.choice(letters) for _ in range(rng.randint(1, 24))).strip() or "x")
            for i in range(6)
        ]
        scales = {n: float(np.float32(2.0 ** rng.uniform(-20, 8))) for n in names}
        if seed == 0:
            scales[names[2]] = 1e-30
        text = format_cache(new_cache(scales, "entropy2", "8.6.0"))
        job = {
            "name": f"strange_{seed}",
            "do": "calibrate",
            "algorithm": "entropy2",
            "batch": 1,
            "feed_seed": 1,
        }
        job |= {
            "batches": 1,
            "onnx_bytes": coded(strange_name_model(names)),
            "given_cache": coded(text.encode()),
        }
        jobs.append(job | {"stop": "scales", "names_given": names, "timeout": 25})
    pool.run(jobs)


def stage_feed(options, pool: Pool) -> None:
    """One job at a time, nothing else on the machine."""
    course = course_model("resnet")
    if course is None:
        return
    order = [
        "trtlearn",
        "polygraphy",
        "polygraphy",
        "trtlearn",
        "trtlearn",
        "polygraphy",
        "polygraphy",
        "trtlearn",
    ]
    base = {"do": "feed", **course, "batch": 8, "timeout": 25}
    jobs = [{**base, "name": f"feed_{i}_{who}", "who": who} for i, who in enumerate(order)]
    pool.run(jobs, parallel=1, deadline=time.time() + 45)


def stage_images(options, pool: Pool) -> None:
    """The scale as a function of the number of images, their order and the size of the batches."""
    jobs = []
    for name in ("resnet", "mobile"):
        if not (course := course_model(name)):
            continue
        base = {"do": "calibrate", "timeout": 25, "brief": True, **course}
        counts = (1, 2, 5, 10, 20, 50, 100, 200, 500)
        jobs += [
            {
                **base,
                "name": f"images_{name}_{a}_{count}",
                "algorithm": a,
                "batch": 1,
                "images": count,
            }
            for a in ("entropy2", "minmax")
            for count in counts
        ]
        jobs += [
            {
                **base,
                "name": f"shuffle_{name}_{seed}",
                "algorithm": "entropy2",
                "batch": 8,
                "images": 512,
                "shuffle": seed,
            }
            for seed in range(5)
        ]
        jobs += [
            {
                **base,
                "name": f"batchsize_{name}_{batch}",
                "algorithm": "entropy2",
                "batch": batch,
                "images": 512,
            }
            for batch in (1, 8, 16, 64)
        ]
    pool.run(jobs)


def stage_accuracy(options, pool: Pool) -> None:
    """Accuracy of an INT8 engine made from N calibration images."""
    if not (course := course_model("resnet")):
        return
    test = {"data": str(WORK / "digits_test.npz"), "images": "image", "labels": "labels"}
    base = {"do": "calibrate", "batch": 8, "stop": "never", "timeout": 150, "test": test, **course}
    plan = [("entropy2", n) for n in (8, 24, 48, 104, 504)] + [("minmax", n) for n in (8, 48, 504)]
    pool.run(
        [{**base, "name": f"accuracy_resnet_{a}_{n}", "algorithm": a, "images": n} for a, n in plan]
    )


STAGES = ("probe", "crafted", "ties", "zoo", "odd", "property", "feed", "images", "accuracy")


def pack() -> None:
    scratch = OUT / "calib.tar.part"
    with tarfile.open(scratch, "w:xz", preset=1) as tar:
        for path in sorted(WORK.glob("*.json")):
            tar.add(path, arcname=f"calib/{path.name}")
    os.replace(scratch, OUT / "calib.tar.xz")


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--zoo", action="append", default=[])
    parser.add_argument("--networks", nargs="+", help="these of the zoo only, in the stage zoo")
    parser.add_argument("--seconds", type=float, default=240)
    parser.add_argument("--only", default=",".join(STAGES))
    parser.add_argument("--jobs", type=int, default=3)
    options = parser.parse_args()
    shutil.rmtree(WORK, ignore_errors=True)
    WORK.mkdir(parents=True)
    OUT.mkdir(parents=True, exist_ok=True)
    pool = Pool(options.jobs, WORK, say, START + options.seconds - 15)
    try:
        prepare_digits()
        from recording.calibration import crafted

        made = {k: v for f in (crafted.single, crafted.several) for k, v in f().items()}
        hashes = {
            k: [hashlib.sha256(a.tobytes()).hexdigest()[:16] for a in v] for k, v in made.items()
        }
        (WORK / "crafted_hashes.json").write_text(json.dumps(hashes), encoding="utf-8")
        say("data ready; networks:", [network["model"] for network in zoo(options)])
        for stage in options.only.split(","):
            if time.time() > pool.deadline:
                say("no time left for stage", stage)
                continue
            say("stage", stage)
            try:
                globals()["stage_" + stage](options, pool)
            except Exception:
                say("stage", stage, "failed:", traceback.format_exc()[-800:])
            good = sum("error" not in result for result in pool.results.values())
            times = sorted(result.get("seconds", 0) for result in pool.results.values()) or [0]
            say(
                "stage",
                stage,
                "done:",
                good,
                "of",
                len(pool.results),
                "fine; median",
                times[len(times) // 2],
                "s",
            )
            pack()
    finally:
        pool.close()
        pack()
    say("all done,", (OUT / "calib.tar.xz").stat().st_size, "bytes")


if __name__ == "__main__":
    main()
