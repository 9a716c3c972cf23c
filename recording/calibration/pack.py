"""Turn the raw results of recording/calibration/run.py into the recordings that the course reads.

    python -m recording.calibration.pack RAW_FOLDER --zoo ZOO_FOLDER --out FOLDER/calibration

Our own scales are computed here, on the CPU, and written beside TensorRT's. A part whose raw
results are missing is left as it was, and named.
"""

from __future__ import annotations

import argparse
import base64
import json
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from recording import probes
from recording.calibration import crafted as made
from recording.saving import save_provenance
from trtlearn.calibration.agreement import agree
from trtlearn.calibration.cache import parse_cache
from trtlearn.calibration.entropy import entropy_search
from trtlearn.calibration.names import kind_of
from trtlearn.calibration.observers import threshold_of
from trtlearn.calibration.tensors import flat_pools, predict_ties
from trtlearn.engine.log import decode, scales_from_log
from trtlearn.engine.records import Provenance
from trtlearn.files import sha256, write_atomic
from trtlearn.int8.quant import scale_from_amax
from trtlearn.model.read import load_proto
from trtlearn.record import Record
from trtlearn.recorded import calibration as r
from trtlearn.recorded.caches import CacheCase, CacheCases

IMAGES = 64  # of each network
ALGORITHMS = ("entropy2", "minmax", "entropy", "legacy")
KINDS = {
    "residual": "residual convolutions",
    "mobile": "depthwise convolutions, ReLU6",
    "inception": "branches, Concat, average pooling",
    "transformer": "attention, layer norms, GELU",
    "conv1d": "dilated 1-D convolutions",
    "recurrent": "unrolled gated recurrent unit",
    "ocr": "pre-trained PP-OCR text-direction classifier",
    "bottleneck": "bottleneck residual blocks, batch norms unfused",
    "mobilev3": "depthwise convolutions, HardSwish, squeeze-and-excite",
    "vit": "vision transformer, class token, fused qkv",
    "unet": "encoder and decoder, ConvTranspose, Resize",
}
CHANGES = {
    "whole": "nothing",
    "padded_hex": "every scale padded to 8 hex digits",
    "upper_hex": "hex digits in capitals",
    "no_final_newline": "the last line break removed",
    "crlf": "line breaks as on Windows (CR LF)",
    "blank_lines": "blank lines after the header, in the middle and at the end",
    "no_space": "no space after the colon",
    "version_7600": "the header says TensorRT 7.6.0",
    "version_8601": "the header says TensorRT 8.6.1",
    "version_101600": "the header says TensorRT 10.16.0",
    "header_minmax": "the header says MinMaxCalibration",
    "header_entropy": "the header says EntropyCalibration",
    "header_legacy": "the header is the legacy calibrator's",
    "header_bogus": "the header is 'hello world'",
    "header_missing": "the header's line deleted",
    "line_deleted": "one tensor's line deleted",
    "all_but_two_deleted": "all tensors but two deleted",
    "header_only": "nothing but the header",
    "renamed": "one tensor renamed",
    "duplicate_line": "a tensor given twice, the second time with scale 1",
    "duplicate_line_first": "a tensor given twice, the first time with scale 1",
    "zero_scale": "one scale set to 0",
    "nan_scale": "one scale set to NaN",
    "inf_scale": "one scale set to infinity",
    "negative_scale": "one scale made negative",
    "bad_hex": "one scale replaced by 'zzzz'",
    "decimal_scale": "one scale written as 0.0706",
    "extra_tensor": "a tensor added that the model does not have",
    "extra_weird": "a tensor added with a name that is not ASCII",
    "truncated_line": "the file cut short by five bytes",
    "truncated_half": "the file cut in the middle",
    "empty": "an empty file",
    "binary": "256 bytes that are no text",
    "reversed": "the lines in reverse order",
    "bom": "a byte order mark before the header",
    "other_models_cache": "another model's cache",
    "legacy_same": "the legacy calibrator's own cache",
    "legacy_other_quantile": "the legacy calibrator's cache, another quantile asked for",
    "legacy_other_cutoff": "the legacy calibrator's cache, another cut-off asked for",
}


LONG = ("crafted", "legacy-grid")  # written without indentation


class Raw:
    """The folder of raw results."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __call__(self, name: str) -> dict[str, Any]:
        path = self.folder / f"{name}.json"
        return json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}

    def all(self, start: str) -> list[tuple[str, dict[str, Any]]]:
        """(name without ``start``, result) of all jobs whose names begin so."""
        return [
            (p.stem[len(start) :], json.loads(p.read_text(encoding="utf-8")))
            for p in sorted(self.folder.glob(f"{start}*.json"))
        ]


def scales(result: dict[str, Any]) -> dict[str, float]:
    return dict(parse_cache(result["cache"])) if result.get("cache") else {}


def model_file(network: str, zoo: Path, out: Path) -> Path:
    """The network's ONNX file: as it was recorded, where it has changed since, else the zoo's."""
    kept = out / "networks" / f"{network}.onnx"
    return kept if kept.is_file() else zoo / f"{network}.onnx"


def earlier(out: Path) -> dict[tuple[str, str], r.Agreement]:
    """The rows of the table that is there already, by network and calibrator."""
    try:
        table = r.AgreementTable.from_json((out / "agreement.json").read_text(encoding="utf-8"))
    except OSError:
        return {}
    return {(row.network, row.algorithm): row for row in table.networks}


def agreement(raw: Raw, zoo: Path, out: Path) -> Record | None:
    """Every network and calibrator: TensorRT's cache from the raw results, or else as it was
    recorded before.
    """
    rows, before = [], earlier(out)
    for network, kind in KINDS.items():
        for algorithm in ALGORITHMS:
            path = out / "caches" / f"{network}-{algorithm}.cache"
            result = raw(f"zoo_{network}_{algorithm}")
            if result.get("cache"):
                write_atomic(path, result["cache"])
            elif not path.is_file():
                print("no cache:", network, algorithm, str(result.get("error"))[-200:])
                continue
            model = model_file(network, zoo, out)
            batch = int(load_proto(model).graph.input[0].type.tensor_type.shape.dim[0].dim_value)
            with np.load(zoo / f"{network}.npz") as file:
                data = {name: file[name][:IMAGES] for name in file.files}
            report = agree(model, data, path, batch=batch)
            others = [
                r.Disagreement(
                    t.name, t.ours, t.tensorrt, t.relative_difference, t.explanation or ""
                )
                for t in report.tensors
                if not t.agrees()
            ]
            counts = (report.batch, report.batches, len(report.tensors), report.agreeing)
            gpu = on_gpu(raw, network, algorithm, zoo)
            if gpu == (None, None) and (known := before.get((network, algorithm))):
                gpu = (known.on_gpu, known.on_gpu_tensors)
            rows.append(r.Agreement(network, kind, algorithm, *counts, tuple(others), *gpu))
            print(network, algorithm, f"{report.agreeing} of {len(report.tensors)}")
            for other in others:
                print("   ", other.tensor, other.ours, other.tensorrt, other.explanation)
    return r.AgreementTable(tuple(rows)) if rows else None


def on_gpu(raw: Raw, network: str, algorithm: str, zoo: Path) -> tuple[int | None, int | None]:
    """How many scales equal ours from the GPU's own FP32 activations, of how many: entropy2 and
    minmax only.
    """
    dumped = raw(f"zoo_{network}_dump").get("histograms")
    if not dumped or algorithm not in ("entropy2", "minmax"):
        return None, None
    ties = predict_ties(
        zoo / f"{network}.onnx", algorithm, flat_pools(load_proto(zoo / f"{network}.onnx"))
    )
    right = compared = 0
    for name, theirs in scales(raw(f"zoo_{network}_{algorithm}")).items():
        if (found := dumped.get(ties.source_of(name))) is None or (kind_of(name) == "Pooling"):
            continue
        amax = found["amax"]
        if algorithm == "entropy2":
            counts = np.frombuffer(zlib.decompress(base64.b64decode(found["counts"])), np.int32)
            amax = (entropy_search(counts).chosen + 0.5) * found["width"]
        compared += 1
        right += bool(abs(float(scale_from_amax(amax)) - theirs) <= 1e-6 * theirs)
    return right, compared


def images(raw: Raw, model: str) -> Record | None:
    points = []
    for start in (f"images_{model}_", f"accuracy_{model}_"):
        for _, result in raw.all(start):
            job = result["job"]
            if result.get("cache"):
                found = (result.get("correct"), result.get("tested"))
                points.append(
                    r.ImagesPoint(
                        job["algorithm"], job["images"], job["batch"], scales(result), *found
                    )
                )
    points.sort(key=lambda p: (p.algorithm, p.correct is not None, p.images))
    return r.ImagesNeeded(model, tuple(points)) if points else None


def orders(raw: Raw, model: str) -> Record | None:
    found = [*raw.all(f"shuffle_{model}_"), *raw.all(f"batchsize_{model}_")]
    rows = [
        r.Order(result["job"].get("shuffle"), result["job"]["batch"], scales(result))
        for _, result in found
        if result.get("cache")
    ]
    return r.Shuffles(model, 512, tuple(rows)) if rows else None


LETTERS = {"WARNING": "W", "ERROR": "E", "INTERNAL_ERROR": "F"}


def log_lines(result: dict[str, Any]) -> list[str]:
    """The messages as lines of a log."""
    pairs = [message.partition(": ") for message in result.get("messages", [])]
    return [
        f"[{LETTERS.get(severity, 'I')}] {' '.join(text.split())}" for severity, _, text in pairs
    ]


def odd(raw: Raw) -> Record | None:
    rows = []
    for start in ("odd_", "strange_"):
        for name, result in raw.all(start):
            if "messages" not in result and "calls" not in result:
                print("no result:", start, name, str(result.get("error"))[-200:])
                continue
            asked = [call for call in result.get("calls", []) if call[0] == "get_batch"]
            log = "\n".join(f"[V] {line}" for line in result.get("scales", []))
            used = {row.name: row.scale for row in scales_from_log(log) if row.scale is not None}
            change = (
                CHANGES.get(name)
                if start == "odd_"
                else "random names and scales, written by trtlearn"
            )
            rows.append(
                CacheCase(
                    name if start == "odd_" else f"random_{name}",
                    change or name,
                    max(len(asked) - 1, 0) if asked else 0,
                    result.get("built"),
                    decode(log_lines(result)),
                    used,
                    result.get("cache"),
                    str(result["error"])[-200:] if "error" in result else None,
                )
            )
    return CacheCases(tuple(rows)) if rows else None


def feeding(raw: Raw) -> Record | None:
    runs = [
        probes.FeedingRun(
            result["job"]["who"],
            result["batches"],
            result["whole_s"],
            sum(result["inside_get_batch_s"]),
        )
        for _, result in raw.all("feed_")
        if result.get("whole_s")
    ]
    return (
        probes.FeedingRates("resnet", 8, tuple(runs))
        if {run.who for run in runs} >= {"trtlearn", "polygraphy"}
        else None
    )


def crafted(raw: Raw) -> Record | None:
    rows = []
    for which in ("single_safe", "single_special", "several_safe", "several_special"):
        tensors = made.group(which)
        for algorithm in ALGORITHMS:
            result = raw(f"crafted_{which}_{algorithm}")
            cached = scales(result)
            if not cached:
                print(
                    "no cache: crafted",
                    which,
                    algorithm,
                    result.get("messages", [])[-2:],
                    result.get("error", "")[-200:],
                )
                continue
            for name, batches in tensors.items():
                for line, values in (
                    (name, batches),
                    (f"out::{name}", [np.maximum(b, 0) for b in batches]),
                ):
                    if line in cached:
                        mine = threshold_of(algorithm, *values).scale
                        rows.append(probes.CraftedScale(which, line, algorithm, cached[line], mine))
    return probes.Crafted(tuple(rows)) if rows else None


def legacy(raw: Raw) -> Record | None:
    points = []
    for start, which in (("legacy_q", "grid"), ("legacy_several_q", "grid_several")):
        tensors = made.group(which)
        for _, result in raw.all(start):
            job, cached = result["job"], scales(result)
            for name, batches in tensors.items():
                if name in cached:
                    mine = threshold_of(
                        "legacy", *batches, quantile=job["quantile"], cutoff=job["cutoff"]
                    )
                    theirs = float(np.float32(cached[name]) * np.float32(127))
                    points.append(
                        r.LegacyPoint(name, job["quantile"], job["cutoff"], theirs, mine.amax)
                    )
    return r.LegacyGrid(tuple(points)) if points else None


def ties(raw: Raw) -> Record | None:
    rows = []
    for name, result in raw.all("tie_"):
        if not result.get("cache"):
            continue
        parts = name.split("_")
        cached, place, operator = scales(result), parts[-2], "_".join(parts[:-2])
        source = "x" if place == "input" else "before"
        own, theirs = cached.get("op"), cached.get(source)
        rows.append(
            r.TiedOperator(
                operator,
                place,
                parts[-1],
                own is not None,
                None if own is None or theirs is None else own == theirs,
            )
        )
    return r.TiedOperators(tuple(rows)) if rows else None


def provenance(options: argparse.Namespace) -> Provenance:
    """Where the raw results came from, with the hashes of the networks and data that they rest
    on: those of the zoo that are there, for a run may have asked for some networks only.
    """
    hashes = {}
    for network in KINDS:
        model = model_file(network, options.zoo, options.out)
        if not model.is_file():
            continue
        hashes[f"zoo/{network}.onnx"] = sha256(model)
        with np.load(options.zoo / f"{network}.npz") as file:
            # the file's own bytes depend on the time: its arrays' do not
            arrays = b"".join(file[key].tobytes() for key in sorted(file.files))
        hashes[f"zoo/{network}.npz"] = sha256(arrays)
    return Provenance(
        gpu=options.gpu,
        driver=options.driver,
        tensorrt=options.tensorrt,
        tactic_sources=(),
        command="recording/calibration/run.py, then recording/calibration/pack.py",
        time_utc=options.time,
        sha256=hashes,
        notes=tuple(options.note),
    )


def tie_model(raw: Raw, name: str) -> bytes:
    """The ONNX file of a tie experiment, as it was run."""
    return zlib.decompress(base64.b64decode(raw("tie_models")[name]))


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("raw", type=Path)
    parser.add_argument("--zoo", type=Path, required=True)
    parser.add_argument(
        "--out", type=Path, required=True, help="the calibration folder of some recordings"
    )
    parser.add_argument("--only", nargs="*")
    parser.add_argument("--gpu", help="with it PROVENANCE.json is written too")
    parser.add_argument("--driver")
    parser.add_argument("--tensorrt", default="8.6.0")
    parser.add_argument("--time", help="when, ISO 8601")
    parser.add_argument("--note", action="append", default=[])
    options = parser.parse_args()
    raw = Raw(options.raw)
    if options.gpu:
        save_provenance(options.out, provenance(options))
    parts: dict[str, Callable[[], Record | None]] = {
        "agreement": lambda: agreement(raw, options.zoo, options.out),
        **{f"images-{m}": (lambda m=m: images(raw, m)) for m in ("resnet", "mobile")},
        **{f"orders-{m}": (lambda m=m: orders(raw, m)) for m in ("resnet", "mobile")},
        "odd-caches": lambda: odd(raw),
        "feeding": lambda: feeding(raw),
        "crafted": lambda: crafted(raw),
        "legacy-grid": lambda: legacy(raw),
        "ties": lambda: ties(raw),
    }
    for name, work in parts.items():
        if options.only and name not in options.only:
            continue
        record = work()
        if record is None:
            print("nothing for", name)
            continue
        write_atomic(
            options.out / f"{name}.json", record.to_json(None if name in LONG else 1) + "\n"
        )
        print(name, record.summary())


if __name__ == "__main__":
    main()
