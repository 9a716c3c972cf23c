"""What the workers left, as the course reads it: experiments, trade-off points, a detector's
answers.

python -m recording.networks.gather out data/recordings/h200-8.6.0

<model>/<variant>.json.gz, .cache      one Experiment each; the batch is in the name unless it is 8
<model>/<variant>.detections.npz       a detector's boxes (see detect.unpack), for some also whole
outputs networks/points-<network>.json.gz      all engines' times, sizes and accuracy (a detector's:
mAP50) networks/PROVENANCE.json               where, when and from which files
"""

from __future__ import annotations

import argparse
import dataclasses
import gzip
import json
from pathlib import Path
from typing import Any

import numpy as np

from trtlearn.recorded.files import load_experiment, load_provenance, read_packed, save_experiment, save_packed, save_provenance
from trtlearn.engine.records import Provenance
from trtlearn.recorded.sensitivity import sqnr_db
from trtlearn.recorded.tradeoff import Tradeoff, TradeoffPoint

from .jobs import NETWORKS, jobs

__all__ = ["main"]

LOGGED = (  # whose verbose log is kept: it says what the builder tried and chose
    *("photo--int8-minmax", "photo--int8-entropy2", "detector--int8-minmax"),
    *("vit--int8-placeholder", "vit--int8-entropy"),
)
WHOLE = ("fp32", "fp16", "int8-minmax", "int8-placeholder", "qdq-everywhere")


def experiments(out: Path, folder: Path) -> dict[str, Provenance]:
    """Copy every experiment and its cache; network -> what its recordings say of their origin."""
    origins: dict[str, Provenance] = {}
    for path in sorted((out / "experiments").glob("*/*.json.gz")):
        one = load_experiment(path)
        log = out / "logs" / f"{one.model}--{one.variant}.log.gz"
        if f"{one.model}--{one.variant}" in LOGGED and log.is_file():
            text = gzip.decompress(log.read_bytes()).decode()
            one = dataclasses.replace(one, build=dataclasses.replace(one.build, log=text))
        if one.calibration is not None and one.build.options.ranges == "cache":
            # handed over and unchanged: the text lies beside the recording that made it
            save_experiment(folder, one)
            (folder / one.model / f"{one.variant}.cache").unlink()
        else:
            save_experiment(folder, one)
        network = one.model.split("-")[0]
        first = origins.get(network, one.provenance)
        origins[network] = min(first, one.provenance, key=lambda origin: origin.time_utc or "")
    return origins


def _logits(out: Path, model: str, key: str) -> Any:
    path = out / "answers" / f"{model}--{key}.npz"
    if not path.is_file():
        return None
    with np.load(path) as held:
        return held.get("logits")


def points(out: Path, folder: Path, network: str, origin: Provenance) -> Tradeoff:
    """All engines of a network, its other heads' too, in the order of jobs()."""
    made, failed = [], []
    earlier = folder / "networks" / f"points-{network}.json.gz"
    known = Tradeoff.from_json(read_packed(earlier)).points if earlier.is_file() else ()
    held = {(point.model, point.name, point.batch): point for point in known}
    reference = _logits(out, network, "fp32")
    for job in jobs():
        path = out / "points" / f"{job.model}--{job.key}.json"
        if job.network != network:
            continue
        if not path.is_file() and (job.model, job.name, job.options.batch) in held:
            made.append(held[job.model, job.name, job.options.batch])
            continue
        if not path.is_file():
            why = out / "failed" / f"{job.model}--{job.key}"
            said = why.read_text(encoding="utf-8") if why.is_file() else "not begun"
            failed.append(f"{job.model} {job.key}: {said}")
            continue
        point = TradeoffPoint.from_dict(json.loads(path.read_text(encoding="utf-8")))
        logits = _logits(out, job.model, job.key)
        if logits is not None and reference is not None and job.key != "fp32":
            point = dataclasses.replace(point, logits_sqnr_db=sqnr_db(reference, logits))
        made.append(point)
    notes = (*origin.notes, "missing: " + "; ".join(failed)) if failed else origin.notes
    return Tradeoff(tuple(made), dataclasses.replace(origin, notes=notes))


def answers(out: Path, folder: Path) -> None:
    """A detector's boxes of every engine; whole outputs of the first scenes for the engines in
    WHOLE."""
    for path in sorted((out / "answers").glob("detector*.npz")):
        model, key = path.name.removesuffix(".npz").split("--")
        with np.load(path) as held:
            arrays = {name: held[name] for name in held.files}
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
    origins = experiments(options.out, options.folder)
    for network in NETWORKS:
        if network not in origins:  # nothing new
            continue
        whole = points(options.out, options.folder, network, origins[network])
        save_packed(options.folder / "networks" / f"points-{network}.json.gz", whole)
        print(f"{network}: {len(whole.points)} engines")
    answers(options.out, options.folder)
    held = (options.folder / "networks" / "PROVENANCE.json").is_file()
    if not origins:
        return
    hashes = load_provenance(options.folder / "networks").sha256 if held else {}
    hashes |= {name: value for one in origins.values() for name, value in one.sha256.items()}
    first = min(origins.values(), key=lambda origin: origin.time_utc or "")
    notes = (*first.notes, "8.6.1 Python bindings over 8.6.0 libraries")
    origin = dataclasses.replace(first, sha256=hashes, notes=notes)
    save_provenance(options.folder / "networks", origin)


if __name__ == "__main__":
    main()
