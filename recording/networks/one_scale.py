"""What one INT8 scale for one tensor of the detector costs: simulated on a CPU, tensor by tensor.

    python -m recording.networks.one_scale data/recordings/h200-8.6.0

Each row rounds the named tensors, and nothing else, with TensorRT's own min-max scales (Q/DQ in
ONNX Runtime), or places Q/DQ everywhere but at some nodes. Written to
<folder>/networks/one-scale.json. No engine was built for it.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import helper, numpy_helper

from trtlearn.calibration.cache import read_cache
from trtlearn.calibration.qdq import insert_qdq
from trtlearn.engine.records import Provenance
from trtlearn.files import sha256

from .card import run
from .jobs import jobs
from .measure import hashes, images_of, model_bytes, score

__all__ = ["main", "rounded"]

GROUPS = (
    (),
    ("output0",),
    ("boxes", "scores"),
    ("distances",),
    ("class_logits",),
    ("levels",),
    ("h8_both", "h16_both"),
    ("h8_box", "h16_box", "h8_class", "h16_class"),
    ("h8_joined", "h16_joined"),
)
MODELS = ("detector", "detector-normalised", "detector-by-level")
HEAD = ("h8_both", "h16_both", "h8_flat", "h16_flat", "levels", "levels_split", "distances_split")


def rounded(
    model: onnx.ModelProto, tensors: tuple[str, ...], scales: Mapping[str, float]
) -> onnx.ModelProto:
    """A copy in which each of ``tensors`` goes through QuantizeLinear and DequantizeLinear."""
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    nodes = []
    for node in copy.graph.node:
        nodes.append(node)
        for index, name in enumerate(node.output):
            if name not in tensors:
                continue
            node.output[index] = f"{name}_exact"
            tail = [f"{name}_step", f"{name}_zero"]
            values = (np.float32(scales[name]), np.int8(0))
            for label, value in zip(tail, values, strict=True):
                copy.graph.initializer.append(numpy_helper.from_array(np.asarray(value), label))
            codes = helper.make_node("QuantizeLinear", [f"{name}_exact", *tail], [f"{name}_codes"])
            nodes += [codes, helper.make_node("DequantizeLinear", [f"{name}_codes", *tail], [name])]
    whole = [onnx.NodeProto.FromString(node.SerializeToString()) for node in nodes]
    del copy.graph.node[:]
    copy.graph.node.extend(whole)
    return copy


def _row(name: str, model: onnx.ModelProto, images: Any, truth: Any) -> dict[str, Any]:
    answers = run(name, model.SerializeToString(), images)
    quality, _ = score(name, answers, truth)
    return {"map50": quality, "distinct_scores": len(np.unique(answers[:, 4:]))}


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("folder", type=Path, help="a folder of recordings")
    options = parser.parse_args()
    images, truth = images_of("detector", "test")
    rows: list[dict[str, Any]] = []
    for name in MODELS:
        model = onnx.load_from_string(model_bytes(name))
        scales = dict(read_cache(options.folder / name / "int8-minmax.cache"))
        tensors_here = set().union(*(node.output for node in model.graph.node))
        for tensors in GROUPS:
            if not set(tensors) <= tensors_here & set(scales):
                continue
            row = _row(name, rounded(model, tensors, scales), images, truth)
            steps = {tensor: scales[tensor] for tensor in tensors}
            rows.append({"model": name, "rounded": list(tensors), "scales": steps} | row)
            print(rows[-1], flush=True)
    model = onnx.load_from_string(model_bytes("detector"))
    cache = read_cache(options.folder / "detector" / "int8-minmax.cache")
    scales = {name: scale for name, scale in cache.items() if scale > 0}
    tail = next(job.skip for job in jobs() if job.name == "qdq-everywhere-but-tail")
    for label, placement, skip in (
        ("everywhere", "everywhere", ()),
        ("everywhere but the decoding", "everywhere", tail),
        ("everywhere but behind the last convolutions", "everywhere", (*tail, *HEAD)),
        ("as TensorRT wants it", "tensorrt", ()),
    ):
        changed, _ = insert_qdq(model, scales, placement, skip)
        rows.append({"model": "detector", "qdq": label} | _row("detector", changed, images, truth))
        print(rows[-1], flush=True)
    path = options.folder / "networks" / "one-scale.json"
    about = "simulated with ONNX Runtime on a CPU, TensorRT's min-max scales"
    caches = [options.folder / name / "int8-minmax.cache" for name in MODELS]
    root = options.folder.parent.parent
    made_from = {file.relative_to(root).as_posix(): sha256(file) for file in caches}
    origin = Provenance(
        gpu="a CPU (ONNX Runtime)",
        command=f"python -m recording.networks.one_scale {os.fspath(options.folder)}",
        time_utc=time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        sha256=hashes("detector") | made_from,
    )
    whole = {"about": about, "provenance": origin.to_dict(), "trials": rows}
    path.write_text(json.dumps(whole, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
