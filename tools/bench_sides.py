"""The two sides of each row of `make bench`, each run in a process of its own.

    python -m tools.bench_sides make FOLDER       models, caches and data, from a seed
    python -m tools.bench_sides SIDE FOLDER       one side: its seconds and peak memory as JSON

A side is a function that prepares, and returns the work that is measured.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

IMAGES, BATCH = 16, 8
NODES, LAYERS, LINES = 2000, 20_000, 100_000
BIG_SIDE = 11_000  # four matrices of this side: 1.9 GB
COMMAND = "trtexec --int8 --calib=c.cache --onnx="
Work = Callable[[], Any]


def make(folder: Path) -> None:
    """Everything that the sides read."""
    import numpy as np
    import onnx
    from onnx import helper, numpy_helper

    from trtlearn.calibration.cache import new_cache
    from trtlearn.files import write_atomic
    from trtlearn.model.read import serialized_in_pieces

    rng = np.random.default_rng(0)

    def save(name: str, nodes: list[Any], stored: list[Any], ends: list[list[Any]]) -> None:
        values = [helper.make_tensor_value_info(title, 1, shape) for title, shape in ends]
        graph = helper.make_graph(nodes, name, values[:1], values[1:], stored)
        opsets = [helper.make_opsetid("", 17)]
        model = helper.make_model(graph, opset_imports=opsets, ir_version=8)
        write_atomic(folder / f"{name}.onnx", serialized_in_pieces(model))

    nodes, stored = resnet50(rng)
    ends = [["image", ["batch", 3, 224, 224]], ["logits", ["batch", 1000]]]
    save("resnet50", nodes, stored, ends)
    images = rng.standard_normal((IMAGES, 3, 224, 224), dtype=np.float32)
    np.save(folder / "images.npy", images)
    names = [name for node in nodes for name in node.output]
    new_cache({"image": 0.02} | dict.fromkeys(names, 0.05)).save(folder / "resnet50.cache")
    products = [
        helper.make_node("MatMul", [f"x{i}", f"w{i}"], [f"x{i + 1}"], f"m{i}") for i in range(4)
    ]
    weights = rng.standard_normal((BIG_SIDE, BIG_SIDE), dtype=np.float32)
    big = [numpy_helper.from_array(weights, f"w{i}") for i in range(4)]
    save("big", products, big, [[f"x{i}", ["n", BIG_SIDE]] for i in (0, 4)])
    del big, weights
    kinds = ("Relu", "Tanh", "Sigmoid", "Abs")
    chain = [
        helper.make_node(kinds[i % 4], [f"t{i}"], [f"t{i + 1}"], f"n{i}") for i in range(NODES)
    ]
    save("small", chain, [], [[f"t{i}", ["n", 16]] for i in (0, NODES)])
    np.save(folder / "rows.npy", rng.standard_normal((64, 16), dtype=np.float32))
    small = dict.fromkeys([f"t{i}" for i in range(NODES + 1)], 0.01)
    for kind in ("minmax", "entropy2"):
        new_cache(small, kind).save(folder / f"small-{kind}.cache")
    lines = {f"t{i}": float(scale) for i, scale in enumerate(rng.random(LINES, np.float32))}
    new_cache(lines).save(folder / "long.cache")
    layers = [layer(index) for index in range(LAYERS)]
    ends = ["t0", f"t{LAYERS}"]
    for name, held in {
        "layers.json": layers,
        "long-cell.json": [*layers[:100], layers[100] | {"Name": "n" * 1_000_000}],
    }.items():
        text = json.dumps({"Layers": held, "Bindings": ends})
        (folder / name).write_text(text, encoding="utf-8")
    assert onnx.load(folder / "small.onnx").graph.node


def layer(index: int) -> dict[str, Any]:
    """One layer of an inspector's file, in detail."""
    tensors = [
        {
            "Name": f"t{index + side}",
            "Location": "Device",
            "Dimensions": [8, 64, 56, 56],
            "Format/Datatype": "Thirty-two wide channel vectorized row major Int8 format",
        }
        for side in (0, 1)
    ]
    return {
        "Name": f"conv{index}",
        "LayerType": "CaskConvolution",
        "Inputs": tensors[:1],
        "Outputs": tensors[1:],
        "Weights": {"Type": "Int8", "Count": 36864},
        "Bias": {"Type": "Float", "Count": 64},
        "TacticName": "sm80_xmma_fprop_implicit_gemm_interleaved_i8i8_i8i32_f32_nchw_vect_c_32",
        "TacticValue": "0x9808072e706def96",
        "StreamId": 0,
        "Metadata": f"[ONNX Layer: conv{index}]",
    }


def resnet50(rng: Any) -> tuple[list[Any], list[Any]]:
    """The nodes and weights of ResNet-50 with its BatchNormalization folded, weights drawn."""
    import numpy as np
    from onnx import helper, numpy_helper

    nodes: list[Any] = []
    stored: list[Any] = []

    def node(operator: str, inputs: list[str], result: str, **options: Any) -> str:
        nodes.append(helper.make_node(operator, inputs, [result], f"{result}_node", **options))
        return result

    def store(name: str, array: Any) -> str:
        stored.append(numpy_helper.from_array(array.astype(np.float32), name))
        return name

    def conv(source: str, channels: tuple[int, int], size: int, stride: int, gain: float) -> str:
        name = f"c{len(nodes)}"
        deviation = gain * np.sqrt(2 / (channels[0] * size * size))
        shape = (channels[1], channels[0], size, size)
        weights = store(f"{name}_w", rng.standard_normal(shape, np.float32) * deviation)
        bias = store(f"{name}_b", rng.standard_normal(channels[1]) * 0.01)
        pads, strides = [size // 2] * 4, [stride] * 2
        return node("Conv", [source, weights, bias], name, pads=pads, strides=strides)

    def relu(source: str) -> str:
        return node("Relu", [source], f"{source}_relu")

    x = relu(conv("image", (3, 64), 7, 2, 1))
    x = node("MaxPool", [x], "pool", kernel_shape=[3, 3], strides=[2, 2], pads=[1] * 4)
    width = 64
    for stage, blocks in enumerate((3, 4, 6, 3)):
        inner = 64 << stage
        for block in range(blocks):
            stride = 2 if stage and not block else 1
            y = relu(conv(x, (width, inner), 1, 1, 1))
            y = relu(conv(y, (inner, inner), 3, stride, 1))
            y = conv(y, (inner, 4 * inner), 1, 1, 0.3)
            shortcut = x if block else conv(x, (width, 4 * inner), 1, stride, 1)
            x = relu(node("Add", [y, shortcut], f"add{stage}_{block}"))
            width = 4 * inner
    x = node("Flatten", [node("GlobalAveragePool", [x], "mean")], "flat")
    weights = store("fc_w", rng.standard_normal((1000, width)) * 0.02)
    node("Gemm", [x, weights, store("fc_b", np.zeros(1000))], "logits", transB=1)
    return nodes, stored


def explain(folder: Path) -> Work:
    def work() -> None:
        from trtlearn.trtexec.explanation import explain

        explain(f"{COMMAND}{folder / 'big.onnx'}")

    return work


def load_save(folder: Path) -> Work:
    import onnx

    return lambda: onnx.save(onnx.load(folder / "resnet50.onnx"), str(folder / "copy.onnx"))


def migrate(folder: Path) -> Work:
    import onnx  # noqa: F401

    from trtlearn.trtexec.migration import migrate

    model, cache = folder / "resnet50.onnx", folder / "resnet50.cache"
    return lambda: migrate(f"{COMMAND}m.onnx", model, cache, folder / "migrated.onnx")


def cache_edit(folder: Path) -> Work:
    from trtlearn.calibration import cache as caches
    from trtlearn.calibration import edit

    def work() -> None:
        cache = edit.rename(caches.read_cache(folder / "long.cache"), {"t5": "five"})
        str(edit.drop(cache, ["t7"]).with_scale("t9", 0.5).save(folder / "edited.cache"))

    return work


def cache_check(folder: Path) -> Work:
    from trtlearn.calibration.cache import read_cache
    from trtlearn.model.read import read_model

    model = read_model(folder / "small.onnx")
    return lambda: str(read_cache(folder / "long.cache").check(model))


def one_pass(folder: Path) -> Work:
    """ONNX Runtime over the images, unoptimised, with every tensor kept."""
    import numpy as np
    import onnx
    import onnxruntime

    model = onnx.load(folder / "resnet50.onnx")
    del model.graph.output[:]
    for node in model.graph.node:
        model.graph.output.add(name=node.output[0])
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(model.SerializeToString(), options)
    images = np.load(folder / "images.npy")

    def work() -> None:
        for start in range(0, IMAGES, BATCH):
            session.run(None, {"image": images[start : start + BATCH]})

    return work


def _face(call: Callable[[Any, Path, Any], Any]) -> Callable[[Path], Work]:
    """A side that calls the package's face with the ResNet-50 and the images."""

    def side(folder: Path) -> Work:
        import numpy as np
        import onnx  # noqa: F401
        import onnxruntime  # noqa: F401  # as one_pass has them, before its work

        import trtlearn as tl

        images = np.load(folder / "images.npy")
        return lambda: call(tl, folder, images)

    return side


def small_nodes(folder: Path, kind: str = "minmax") -> Work:
    import trtlearn as tl

    files = [folder / name for name in ("small.onnx", "rows.npy", f"small-{kind}.cache")]
    return lambda: tl.agree(*files, batch=8)


def json_loads(folder: Path) -> Work:
    text = (folder / "layers.json").read_text(encoding="utf-8")
    return lambda: json.loads(text)


def read_engine(folder: Path) -> Work:
    from trtlearn.engine.inspector import read_engine

    text = (folder / "layers.json").read_text(encoding="utf-8")
    return lambda: read_engine(text)


def picture(folder: Path) -> Work:
    import plotly.graph_objects  # noqa: F401

    import trtlearn as tl

    engine = tl.read_engine(folder / "layers.json")
    return lambda: (tl.show.engine(engine).to_json(), engine._repr_html_())


def long_cell(folder: Path) -> Work:
    from trtlearn.engine.inspector import read_engine

    engine = read_engine(folder / "long-cell.json")
    return lambda: {"length": len(str(engine))}


def version(folder: Path) -> Work:
    command = [sys.executable, "-m", "trtlearn", "--version"]
    return lambda: subprocess.run(command, capture_output=True, check=True)


def python_alone(folder: Path) -> Work:
    return lambda: subprocess.run([sys.executable, "-c", "pass"], check=True)


SIDES: dict[str, Callable[[Path], Work]] = {
    "explain": explain,
    "load-save": load_save,
    "migrate": migrate,
    "cache-edit": cache_edit,
    "cache-check": cache_check,
    "one-pass": one_pass,
    "calibrate": _face(lambda tl, folder, x: tl.calibrate(folder / "resnet50.onnx", x)),
    "fit": _face(lambda tl, f, x: tl.fit(f / "resnet50.cache", f / "resnet50.onnx", x)),
    "agree": _face(
        lambda tl, f, x: tl.agree(f / "resnet50.onnx", x, f / "resnet50.cache", batch=BATCH)
    ),
    "try-int8": _face(lambda tl, folder, x: tl.try_int8(folder / "resnet50.onnx", x, live=False)),
    "try-int8-long": _face(
        lambda tl, f, x: tl.try_int8(f / "resnet50.onnx", x.repeat(3, axis=0), live=False)
    ),
    "small-nodes": small_nodes,
    "small-nodes-entropy": lambda folder: small_nodes(folder, "entropy2"),
    "json-loads": json_loads,
    "read-engine": read_engine,
    "picture": picture,
    "long-cell": long_cell,
    "version": version,
    "python": python_alone,
}


def peak_mb() -> float:
    """The largest memory of this process so far; 0 where it cannot be read."""
    try:
        text = Path("/proc/self/status").read_text(encoding="utf-8")
        return int(text.split("VmHWM:")[1].split()[0]) / 1000
    except (OSError, IndexError):
        return 0.0


def cpu_seconds() -> float:
    """Of this process and of those that it ran."""
    import os

    times = os.times()
    return times.user + times.system + times.children_user + times.children_system


def main() -> int:
    name, folder = sys.argv[1], Path(sys.argv[2])
    if name == "make":
        make(folder)
        return 0
    work = SIDES[name](folder)
    begin, cpu, base = time.perf_counter(), cpu_seconds(), peak_mb()
    more = work()
    seconds = time.perf_counter() - begin
    facts = {"seconds": seconds, "cpu": cpu_seconds() - cpu, "peak_mb": peak_mb()}
    facts["own_mb"] = facts["peak_mb"] - base
    print(json.dumps(facts | (more if name == "long-cell" else {})))
    return 0


if __name__ == "__main__":
    sys.exit(main())
