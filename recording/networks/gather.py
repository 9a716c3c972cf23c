"""What the workers left, as the course reads it: builds, trade-off points, a detector's answers.

python -m recording.networks.gather out data/recordings/h200-8.6.0

<model>/<variant>.json.gz, .cache    one Build each; the batch is in the name unless it is 8
<model>/<variant>.detections.npz     a detector's boxes (trtlearn.model.detections), for some whole outputs too
networks/points-<network>.json.gz    times, sizes and accuracy (a detector's: mAP50) of all engines
networks/PROVENANCE.json             where, when and from which files
"""

from __future__ import annotations

import argparse
import dataclasses
import gzip
import json
from pathlib import Path
from typing import Any

import numpy as np

from recording.saving import save_build, save_packed, save_provenance
from trtlearn.builds import Build
from trtlearn.engine.records import Provenance
from trtlearn.int8.quant import sqnr_db
from trtlearn.recorded.files import load_build, load_provenance, read_text
from trtlearn.recorded.tradeoffs import Tradeoff

from .jobs import NETWORKS, jobs

__all__ = ["main"]

LOGGED = (  # whose verbose log is recorded: it says what the builder tried and chose
    *("photo--int8-minmax", "photo--int8-entropy2", "detector--int8-minmax"),
    *("vit--int8-placeholder", "vit--int8-entropy"),
)
WHOLE = ("fp32", "fp16", "int8-minmax", "int8-placeholder", "qdq-everywhere")


def builds(out: Path, folder: Path) -> dict[str, Provenance]:
    """Copy every build and its cache; network -> what its recordings say of their origin."""
    origins: dict[str, Provenance] = {}
    for path in sorted((out / "builds").glob("*/*.json.gz")):
        one = load_build(path)
        log = out / "logs" / f"{one.model}--{one.variant}.log.gz"
        if f"{one.model}--{one.variant}" in LOGGED and log.is_file():
            text = gzip.decompress(log.read_bytes()).decode()
            one = dataclasses.replace(one, build=dataclasses.replace(one.build, log=text))
        save_build(folder, one)
        if one.calibration is not None and one.options.ranges == "cache":
            # it lies beside the recording that wrote it, unchanged
            (folder / one.model / f"{one.variant}.cache").unlink()
        network = one.model.split("-")[0]
        first = origins.get(network, one.provenance)
        origins[network] = min(first, one.provenance, key=lambda origin: origin.time_utc or "")
    return origins


def _logits(out: Path, model: str, key: str) -> Any:
    path = out / "answers" / f"{model}--{key}.npz"
    if not path.is_file():
        return None
    with np.load(path) as arrays:
        return arrays.get("logits")


def points(out: Path, folder: Path, network: str, origin: Provenance) -> Tradeoff:
    """All engines of a network, those with its other heads included, in the order of jobs()."""
    engines, missing = [], []
    path = folder / "networks" / f"points-{network}.json.gz"
    earlier = Tradeoff.from_json(read_text(path)).points if path.is_file() else ()
    known = {(point.model, point.variant, point.batch): point for point in earlier}
    reference = _logits(out, network, "fp32")
    for job in jobs():
        if job.network != network:
            continue
        path = out / "points" / f"{job.model}--{job.key}.json"
        place = (job.model, job.name, job.options.batch)
        if path.is_file():
            point = Build.from_dict(json.loads(path.read_text(encoding="utf-8")))
            logits = _logits(out, job.model, job.key)
            if logits is not None and reference is not None and job.key != "fp32":
                point = dataclasses.replace(point, logits_sqnr_db=sqnr_db(reference, logits))
            engines.append(point)
        elif place in known:
            engines.append(known[place])
        else:
            reason = out / "failed" / f"{job.model}--{job.key}"
            text = reason.read_text(encoding="utf-8") if reason.is_file() else "not begun"
            missing.append(f"{job.model} {job.key}: {text}")
    notes = (*origin.notes, "missing: " + "; ".join(missing)) if missing else origin.notes
    return Tradeoff(tuple(engines), dataclasses.replace(origin, notes=notes))


def answers(out: Path, folder: Path) -> None:
    """A detector's boxes from every engine; from those in WHOLE also whole outputs of few scenes."""
    for path in sorted((out / "answers").glob("detector*.npz")):
        model, key = path.name.removesuffix(".npz").split("--")
        with np.load(path) as file:
            arrays = {name: file[name] for name in file.files}
        whole = arrays.pop("raw", None)
        if key in WHOLE and whole is not None:
            arrays["outputs"] = whole
        (folder / model).mkdir(parents=True, exist_ok=True)
        np.savez_compressed(folder / model / f"{key}.detections.npz", **arrays)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("out", type=Path, help="what the workers wrote")
    parser.add_argument("folder", type=Path, help="a folder of recordings")
    options = parser.parse_args()
    origins = builds(options.out, options.folder)
    for network in NETWORKS:
        if network not in origins:  # nothing new
            continue
        whole = points(options.out, options.folder, network, origins[network])
        save_packed(options.folder / "networks" / f"points-{network}.json.gz", whole)
        print(f"{network}: {len(whole.points)} engines")
    answers(options.out, options.folder)
    if not origins:
        return
    earlier = (options.folder / "networks" / "PROVENANCE.json").is_file()
    hashes = load_provenance(options.folder / "networks").sha256 if earlier else {}
    hashes |= {name: value for one in origins.values() for name, value in one.sha256.items()}
    first = min(origins.values(), key=lambda origin: origin.time_utc or "")
    notes = (*first.notes, "8.6.1 Python bindings over 8.6.0 libraries")
    origin = dataclasses.replace(first, sha256=hashes, notes=notes)
    save_provenance(options.folder / "networks", origin)


if __name__ == "__main__":
    main()
