"""A zoo of eleven small networks of different kinds, to hold our calibrators against TensorRT's.

``python -m recording.zoo.networks OUT_DIR`` writes NAME.onnx and NAME.npz (the network's inputs, by
name, all batches one after the other) for each and prints a table. ``build(name)`` gives the same
in memory. Everything is seeded; the batch is static; opset 13 except for the pre-trained one. Needs
onnx and numpy; ``ocr`` also Pillow and rapidocr-onnxruntime (``pip install --no-deps
rapidocr-onnxruntime``: only its ONNX file is read, none of its code is imported). The last four,
``HOLDOUT``, were kept aside while the calibrators' rules were found on the others.
"""

from __future__ import annotations

import argparse
import importlib.util
import io
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx

from recording.zoo.holdout import bottleneck, mobilev3, unet, vit
from recording.zoo.seeded import conv1d, inception, recurrent, transformer

__all__ = ["BATCHES", "HOLDOUT", "NAMES", "build", "main"]

SEED = 20261123
BATCHES = 16
DATA = Path(__file__).resolve().parents[2] / "data"
Network = tuple[bytes, dict[str, np.ndarray], int]


def digits(count: int) -> np.ndarray:
    """The first ``count`` calibration images, normalised as data/card.json says: float32
    [count,28,28].
    """
    card = json.loads((DATA / "card.json").read_text(encoding="utf-8"))
    norm = card["normalisation"]["digits"]
    with np.load(DATA / "images" / "digits.npz") as file:
        pixels = file["calibration_images"][:count]
    return (pixels.astype(np.float32) / np.float32(255) - np.float32(norm["mean"])) / np.float32(
        norm["std"]
    )


def _static(model: onnx.ModelProto, shape: list[int]) -> bytes:
    """The model of one input with ``shape`` as its input's shape, and the same first axis for its
    output.
    """
    (value,), (output,) = model.graph.input, model.graph.output
    del value.type.tensor_type.shape.dim[:]
    value.type.tensor_type.shape.dim.extend(
        onnx.TensorShapeProto.Dimension(dim_value=size) for size in shape
    )
    output.type.tensor_type.shape.dim[0].CopyFrom(
        onnx.TensorShapeProto.Dimension(dim_value=shape[0])
    )
    del model.graph.value_info[:]
    onnx.checker.check_model(model, full_check=True)
    return model.SerializeToString(deterministic=True)


def _trained(name: str) -> Network:
    model = onnx.load(DATA / "models" / f"{name}.onnx")
    return _static(model, [8, 1, 28, 28]), {"image": digits(8 * BATCHES)[:, None]}, 8


def _ocr_model() -> Path:
    spec = importlib.util.find_spec("rapidocr_onnxruntime")
    folders = list(spec.submodule_search_locations or []) if spec else []
    for folder in folders:
        path = Path(folder) / "models" / "ch_ppocr_mobile_v2.0_cls_infer.onnx"
        if path.is_file():
            return path
    raise SystemExit(
        "the pre-trained model is missing. Try: pip install --no-deps rapidocr-onnxruntime"
    )


def text_images(count: int, random: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Lines of text as a text-direction classifier sees them, and whether each stands upside down.

    Returns float32 [count,3,48,192] in [-1, 1] and bool [count]: words and numbers in Pillow's own
    font, dark on light or light on dark, slightly noisy, every second image turned by 180 degrees.
    """
    from PIL import Image, ImageDraw, ImageFont

    words = [
        "quick",
        "brown",
        "fox",
        "jumps",
        "over",
        "lazy",
        "dogs",
        "seven",
        "wizards",
        "mix",
        "quiet",
        "harbour",
    ]
    images, turned = [], np.arange(count) % 2 == 1
    for upside_down in turned:
        text = (
            " ".join(random.choice(words, 2))
            if random.random() < 0.6
            else str(random.integers(10**5, 10**9))
        )
        dark, light = random.integers(0, 90, 3), random.integers(160, 256, 3)
        ink, paper = (dark, light) if random.random() < 0.7 else (light, dark)
        font = ImageFont.load_default(int(random.integers(24, 34)))
        width = int(font.getlength(text)) + 12
        picture = Image.new("RGB", (width, 48), tuple(map(int, paper)))
        ImageDraw.Draw(picture).text((6, 24), text, tuple(map(int, ink)), font, anchor="lm")
        picture = picture.resize((min(192, width), 48), Image.Resampling.BILINEAR)
        pixels = np.asarray(picture, np.float32) + random.normal(
            0, 6, (48, picture.width, 3)
        ).astype(np.float32)
        pixels = np.clip(pixels, 0, 255)
        line = pixels[::-1, ::-1] if upside_down else pixels
        canvas = np.zeros(
            (48, 192, 3), np.float32
        )  # the classifier pads with zeros after normalising
        canvas[:, : line.shape[1]] = (line / np.float32(255) - np.float32(0.5)) / np.float32(0.5)
        images.append(canvas.transpose(2, 0, 1))
    return np.stack(images), turned


def _ocr() -> Network:
    """PP-OCR's text-direction classifier (PaddlePaddle, Apache-2.0), as rapidocr-onnxruntime ships
    it.
    """
    model, batch = onnx.load(_ocr_model()), 4
    name = model.graph.input[0].name
    data, _ = text_images(batch * BATCHES, np.random.default_rng([SEED, 5]))
    return _static(model, [batch, 3, 48, 192]), {name: data}, batch


def _inception() -> Network:
    """Digits as three channels: the image, its horizontal and its vertical slope."""
    x = digits(8 * BATCHES)
    channels = np.stack([x, np.gradient(x, axis=2), np.gradient(x, axis=1)], axis=1).astype(
        np.float32
    )
    return inception(np.random.default_rng([SEED, 1]), 8), {"image": channels}, 8


def _transformer() -> Network:
    """Digits read as 28 tokens, the rows of the image."""
    return transformer(np.random.default_rng([SEED, 2]), 4), {"tokens": digits(4 * BATCHES)}, 4


def _conv1d() -> Network:
    """Two-channel signals of 128 samples: three decaying tones each, a spike now and then,
    noise.
    """
    random, count = np.random.default_rng([SEED, 3]), 8 * BATCHES
    time = np.arange(128) / 128
    pitch, phase = (
        random.uniform(2, 30, (count, 2, 3, 1)),
        random.uniform(0, 6.28, (count, 2, 3, 1)),
    )
    size, decay = random.exponential(1, (count, 2, 3, 1)), random.uniform(0, 4, (count, 2, 3, 1))
    signal = (size * np.exp(-decay * time) * np.sin(6.2832 * pitch * time + phase)).sum(axis=2)
    signal += (random.random((count, 2, 128)) < 0.01) * random.normal(0, 4, (count, 2, 128))
    signal += random.normal(0, 0.1, signal.shape)
    return conv1d(np.random.default_rng([SEED, 3, 1]), 8), {"signal": signal.astype(np.float32)}, 8


def _recurrent() -> Network:
    """Digits read in four strips of seven rows, top to bottom."""
    return (
        recurrent(np.random.default_rng([SEED, 4]), 8),
        {"strips": digits(8 * BATCHES).reshape(-1, 4, 196)},
        8,
    )


def _on_digits(make: Callable[[np.random.Generator, int], bytes], batch: int, seed: int) -> Network:
    return (
        make(np.random.default_rng([SEED, seed]), batch),
        {"image": digits(batch * BATCHES)[:, None]},
        batch,
    )


BUILDERS: dict[str, Callable[[], Network]] = {
    "residual": lambda: _trained("resnet"),
    "mobile": lambda: _trained("mobile"),
    "inception": _inception,
    "transformer": _transformer,
    "conv1d": _conv1d,
    "recurrent": _recurrent,
    "ocr": _ocr,
    "bottleneck": lambda: _on_digits(bottleneck, 8, 6),
    "mobilev3": lambda: _on_digits(mobilev3, 8, 7),
    "vit": lambda: _on_digits(vit, 4, 8),
    "unet": lambda: _on_digits(unet, 4, 9),
}
NAMES = tuple(BUILDERS)
HOLDOUT = NAMES[-4:]


def build(name: str) -> Network:
    """The network ``name``: its ONNX bytes (static batch), its inputs [BATCHES * batch, ...] by
    name, and the batch.
    """
    if name not in BUILDERS:
        raise SystemExit(f"no network named {name!r} in the zoo. Try: one of {', '.join(NAMES)}")
    return BUILDERS[name]()


def _row(name: str, network: Network) -> str:
    content, arrays, batch = network
    graph = onnx.load_model_from_string(content).graph
    kinds = {node.op_type for node in graph.node} - {"Constant"}
    steps = sum(node.op_type != "Constant" for node in graph.node)
    shapes = ", ".join(f"{key} {list(value.shape)}" for key, value in arrays.items())
    return (
        f"{name:<12}{len(content):>9,}{steps:>7}{batch:>7}  {shapes:<28} {' '.join(sorted(kinds))}"
    )


def main() -> None:
    """Write the zoo into a folder and print what is in it."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("out", type=Path, help="folder to write NAME.onnx and NAME.npz to")
    parser.add_argument(
        "--only", nargs="+", choices=NAMES, default=NAMES, help="these networks only"
    )
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    print(f"{'network':<12}{'bytes':>9}{'nodes':>7}{'batch':>7}  {'inputs':<28} operators")
    for name in options.only:
        content, arrays, batch = build(name)
        buffer = io.BytesIO()
        np.savez_compressed(buffer, **arrays)
        (options.out / f"{name}.onnx").write_bytes(content)
        (options.out / f"{name}.npz").write_bytes(buffer.getvalue())
        print(_row(name, (content, arrays, batch)), flush=True)


if __name__ == "__main__":
    main()
