"""Experiments on a GPU with TensorRT 8.6: what its four calibrators make of activations that we control.

    OUT=folder python scripts/calib_experiments.py [--zoo FOLDER] [--seconds 280] [--only a,b,...] [--jobs 14]

Each job runs in a process of its own that ends as soon as TensorRT hands over its cache (the engine is not needed),
so hundreds fit in minutes. Results go to $OUT/calib.tar.xz: one JSON file a job.

Stages: crafted inputs (b), legacy grid (c), ties (d), zoo (a), odd caches (e), feeding rate (f), images needed (g).
"""

from __future__ import annotations

import argparse
import base64
import hashlib
import json
import os
import random
import signal
import sys
import tarfile
import time
import traceback
import zlib
from pathlib import Path

import numpy as np

HERE = Path(__file__).resolve().parent
ROOT = next((p for p in (HERE.parent, Path.cwd(), Path("/work/main")) if (p / "trtlearn").is_dir()), Path.cwd())
sys.path[:0] = [str(HERE), str(ROOT / "scripts"), str(ROOT)]
os.environ.setdefault("CUDA_MODULE_LOADING", "LAZY")

import tensorrt as trt  # noqa: E402

OUT = Path(os.environ.get("OUT", "/tmp/gpu/out"))
WORK = Path("/tmp/calib_work")
ALGORITHMS = {
    "entropy2": trt.IInt8EntropyCalibrator2,
    "minmax": trt.IInt8MinMaxCalibrator,
    "entropy": trt.IInt8EntropyCalibrator,
    "legacy": trt.IInt8LegacyCalibrator,
}
START = time.time()


def say(*words) -> None:
    print(f"[{time.time() - START:6.1f}]", *words, flush=True)


# ---------------------------------------------------------------- inside one job's process


class Log(trt.ILogger):
    """Keeps warnings, and the scales; ends the process when the builder starts timing, if asked to."""

    def __init__(self, result: dict, finish=None) -> None:
        trt.ILogger.__init__(self)
        self.result, self.finish = result, finish
        self.result.setdefault("messages", [])
        self.result.setdefault("scales", [])

    def log(self, severity, message) -> None:
        try:
            if "scale and zero-point Quantization" in message:
                self.result["scales"].append(message[:400])
            elif severity in (trt.ILogger.WARNING, trt.ILogger.ERROR, trt.ILogger.INTERNAL_ERROR):
                if len(self.result["messages"]) < 60:
                    self.result["messages"].append(f"{severity.name}: {message[:500]}")
            elif self.result["job"].get("keep_log") and len(self.result.setdefault("log", [])) < 3000:
                self.result["log"].append(message[:300])
            told = "cache" in self.result or self.result["scales"]
            if self.finish and told and any(w in message for w in ("Autotuning", "Computing costs", "Timing Runner")):
                self.finish()
        except Exception as problem:
            print("logger:", problem, flush=True)


def cuda_ok(answer):
    status, *values = answer
    if int(status) != 0:
        raise RuntimeError(f"cuda error {status}")
    return values[0] if values else None


def make_calibrator(job: dict, batches: list, result: dict, finish):
    """A calibrator fed from ``batches`` (list of {input: array}) that records the conversation."""
    from cuda import cudart

    base = ALGORITHMS[job["algorithm"]]
    to_device = cudart.cudaMemcpyKind.cudaMemcpyHostToDevice
    calls = result.setdefault("calls", [])
    buffers: dict = {}

    class Calibrator(base):
        def __init__(self) -> None:
            base.__init__(self)
            self.position = 0

        def get_batch_size(self):
            return int(job.get("batch", 1))

        def get_batch(self, names):
            calls.append(["get_batch", list(names) if self.position == 0 else len(names), time.time()])
            if self.position >= len(batches):
                return None
            batch = batches[self.position]
            self.position += 1
            pointers = []
            for name in names:
                array = np.ascontiguousarray(batch[name])
                if name not in buffers:
                    buffers[name] = cuda_ok(cudart.cudaMalloc(max(array.nbytes, 4)))
                cuda_ok(cudart.cudaMemcpy(buffers[name], array.ctypes.data, array.nbytes, to_device))
                pointers.append(int(buffers[name]))
            return pointers

        def read_calibration_cache(self):
            calls.append(["read_calibration_cache", time.time()])
            text = job.get("given_cache")
            return None if text is None else base64.b64decode(text)

        def write_calibration_cache(self, cache):
            content = bytes(cache)
            calls.append(["write_calibration_cache", len(content), time.time()])
            result["cache"] = content.decode("utf-8", "replace")
            if job.get("stop", "cache") == "cache":
                finish()

        # the legacy calibrator's own
        def get_quantile(self):
            return float(job.get("quantile", 0.999))

        def get_regression_cutoff(self):
            return float(job.get("cutoff", 1.0))

        def read_histogram_cache(self, length=0):
            calls.append(["read_histogram_cache", str(length)])

        def write_histogram_cache(self, pointer, length):
            calls.append(["write_histogram_cache", int(length)])
            try:
                import ctypes

                take = ctypes.pythonapi.PyCapsule_GetPointer
                take.restype, take.argtypes = ctypes.c_void_p, [ctypes.py_object, ctypes.c_char_p]
                content = ctypes.string_at(take(pointer, None), int(length))
                result["histogram_bytes"] = len(content)
                if job.get("keep_histogram"):
                    result["histogram"] = base64.b64encode(zlib.compress(content, 6)).decode()
            except Exception as problem:
                result["histogram_error"] = repr(problem)

    return Calibrator()


def relu_network(network, shapes: dict) -> None:
    """One lonely ReLU per input: its input tensor is exactly what we feed, its output the positive half."""
    for index, (name, shape) in enumerate(shapes.items()):
        layer = network.add_activation(network.add_input(name, trt.float32, shape), trt.ActivationType.RELU)
        layer.name = f"layer{index}"
        layer.get_output(0).name = f"out::{name}"
        network.mark_output(layer.get_output(0))


_KEEP: list = []


def conv_network(network, shapes: dict) -> None:
    for index, (name, shape) in enumerate(shapes.items()):
        tensor = network.add_input(name, trt.float32, shape)
        weight, bias = np.ones((4, 1, 1, 1), np.float32), np.zeros(4, np.float32)
        _KEEP.extend([weight, bias])
        layer = network.add_convolution_nd(tensor, 4, (1, 1), trt.Weights(weight), trt.Weights(bias))
        layer.name = f"layer{index}"
        layer.get_output(0).name = f"out::{name}"
        network.mark_output(layer.get_output(0))


def crafted_batches(which: str, conv: bool) -> tuple[dict, list]:
    import crafted

    made = crafted.single() if which.startswith("single") else crafted.several()
    if which.endswith("_safe"):
        made = {name: arrays for name, arrays in made.items() if not crafted.is_special(name)}

    def form(array):
        return array.reshape(1, 1, 1, -1) if conv else array.reshape(1, -1)

    shapes = {name: form(arrays[0]).shape for name, arrays in made.items()}
    count = len(next(iter(made.values())))
    return shapes, [{name: form(arrays[index]) for name, arrays in made.items()} for index in range(count)]


def load_feed(job: dict) -> dict:
    """{input: array[N, ...]} for an ONNX job."""
    with np.load(job["data"]) as file:
        names = job.get("arrays") or {name: name for name in file.files}
        feed = {name: file[key] for name, key in names.items()}
    if job.get("normalise"):
        feed = {name: x.astype(np.float32) for name, x in feed.items()}
    return feed


def parse_onnx(builder, logger, content: bytes, batch: int):
    network = builder.create_network(1 << int(trt.NetworkDefinitionCreationFlag.EXPLICIT_BATCH))
    parser = trt.OnnxParser(network, logger)
    if not parser.parse(content):
        raise RuntimeError("; ".join(str(parser.get_error(i)) for i in range(parser.num_errors)))
    for index in range(network.num_inputs):
        tensor = network.get_input(index)
        shape = tuple(tensor.shape)
        if -1 in shape:
            tensor.shape = tuple(batch if size == -1 else size for size in shape)
    _KEEP.append(parser)
    return network


def new_config(builder, job: dict):
    config = builder.create_builder_config()
    config.set_memory_pool_limit(trt.MemoryPoolType.WORKSPACE, 1 << 30)
    config.set_tactic_sources(0)
    config.builder_optimization_level = int(job.get("level", 0))
    config.clear_flag(trt.BuilderFlag.TF32)
    config.avg_timing_iterations = 1
    return config


def split_batches(feed: dict, batch: int, limit: int | None, order=None) -> list:
    """Batches of the feed; an input whose first axis does not count samples travels whole with each batch."""
    count = max(array.shape[0] for array in feed.values())
    index = np.arange(count) if order is None else np.asarray(order)
    batches = []
    for start in range(0, len(index) - batch + 1, batch):
        pick = index[start : start + batch]
        batches.append({n: np.ascontiguousarray(a[pick] if a.shape[0] == count else a) for n, a in feed.items()})
    return batches[:limit] if limit else batches


def cast_to_network(network, batches: list) -> list:
    kinds = {network.get_input(i).name: trt.nptype(network.get_input(i).dtype) for i in range(network.num_inputs)}
    return [{name: np.ascontiguousarray(b[name], dtype=kind) for name, kind in kinds.items()} for b in batches]


def run_job(job: dict, target: Path) -> None:
    result = {"job": {k: v for k, v in job.items() if k != "onnx_bytes"}}

    def finish(code: int = 0) -> None:
        result["seconds"] = time.time() - started
        scratch = target.with_suffix(".part")
        scratch.write_text(json.dumps(result))
        os.replace(scratch, target)
        os._exit(code)

    started = time.time()
    try:
        globals()["job_" + job["do"]](job, result, finish)
    except BaseException:
        result["error"] = traceback.format_exc()[-3000:]
        finish(1)
    finish()


def job_calibrate(job: dict, result: dict, finish) -> None:
    logger = Log(result, finish if job.get("stop") == "scales" else None)
    builder = trt.Builder(logger)
    config = new_config(builder, job)
    config.set_flag(trt.BuilderFlag.INT8)
    if job.get("crafted"):
        network = builder.create_network(1 << int(trt.NetworkDefinitionCreationFlag.EXPLICIT_BATCH))
        shapes, batches = crafted_batches(job["crafted"], job.get("layer") == "conv")
        if job.get("layer") == "conv":
            conv_network(network, shapes)
        else:
            relu_network(network, shapes)
    else:
        content = base64.b64decode(job["onnx_bytes"]) if "onnx_bytes" in job else Path(job["onnx"]).read_bytes()
        network = parse_onnx(builder, logger, content, int(job.get("batch", 1)))
        if "feed_seed" in job:
            rng = np.random.default_rng(job["feed_seed"])
            shape = tuple(network.get_input(0).shape)
            feed = {
                network.get_input(0).name: rng.standard_normal((shape[0] * job.get("batches", 3), *shape[1:])).astype(
                    np.float32
                )
            }
        else:
            feed = load_feed(job)
        order = None
        if job.get("images"):
            count = max(a.shape[0] for a in feed.values())
            order = np.arange(count)
            if job.get("shuffle") is not None:
                np.random.default_rng(job["shuffle"]).shuffle(order)
            order = order[: job["images"]]
        batches = cast_to_network(
            network, split_batches(feed, int(network.get_input(0).shape[0]), job.get("limit"), order)
        )
    result["batches"] = len(batches)
    calibrator = make_calibrator(job, batches, result, finish)
    config.int8_calibrator = calibrator
    plan = builder.build_serialized_network(network, config)
    result["built"] = plan is not None
    result["plan_bytes"] = None if plan is None else plan.nbytes
    if plan is not None and job.get("test"):
        result["correct"], result["tested"] = accuracy(plan, logger, job)


def accuracy(plan, logger, job) -> tuple[int, int]:
    with np.load(job["test"]["data"]) as file:
        images, labels = file[job["test"]["images"]], file[job["test"]["labels"]]
    engine = trt.Runtime(logger).deserialize_cuda_engine(plan)
    names = [engine.get_tensor_name(i) for i in range(engine.num_io_tensors)]
    source = next(n for n in names if engine.get_tensor_mode(n) == trt.TensorIOMode.INPUT)
    target = next(n for n in names if engine.get_tensor_mode(n) == trt.TensorIOMode.OUTPUT)
    batch = int(engine.get_tensor_shape(source)[0])
    correct = 0
    count = len(images) // batch * batch
    for answer, start in run_engine(
        engine, source, [images[s : s + batch].astype(np.float32) for s in range(0, count, batch)], [target]
    ):
        correct += int(
            (answer[target].reshape(batch, -1).argmax(1) == labels[start * batch : (start + 1) * batch]).sum()
        )
    return correct, count


def run_engine(engine, source, arrays, wanted):
    """Yield ({output: array}, index) for each array fed; nothing is freed: the process is about to end."""
    from cuda import cudart

    kinds = cudart.cudaMemcpyKind
    context = engine.create_execution_context()
    stream = cuda_ok(cudart.cudaStreamCreate())
    memory, hosts = {}, {}
    for index in range(engine.num_io_tensors):
        name = engine.get_tensor_name(index)
        host = np.zeros(tuple(engine.get_tensor_shape(name)), trt.nptype(engine.get_tensor_dtype(name)))
        hosts[name] = host
        memory[name] = cuda_ok(cudart.cudaMalloc(max(host.nbytes, 4)))
        context.set_tensor_address(name, int(memory[name]))
    sources = [source] if isinstance(source, str) else list(source)
    for index, given in enumerate(arrays):
        feed = given if isinstance(given, dict) else {sources[0]: given}
        for name in sources:
            array = np.ascontiguousarray(feed[name], dtype=hosts[name].dtype)
            cuda_ok(cudart.cudaMemcpy(memory[name], array.ctypes.data, array.nbytes, kinds.cudaMemcpyHostToDevice))
        if not context.execute_async_v3(int(stream)):
            raise RuntimeError("execute_async_v3 failed")
        cuda_ok(cudart.cudaStreamSynchronize(stream))
        answer = {}
        for name in wanted:
            cuda_ok(
                cudart.cudaMemcpy(
                    hosts[name].ctypes.data, memory[name], hosts[name].nbytes, kinds.cudaMemcpyDeviceToHost
                )
            )
            answer[name] = hosts[name].copy()
        yield answer, index


def job_dump(job: dict, result: dict, finish) -> None:
    """Every activation of the FP32 network on the GPU, reduced to 2048-bin histograms by the known collection rule."""
    logger = Log(result)
    builder = trt.Builder(logger)
    config = new_config(builder, job)
    network = parse_onnx(builder, logger, Path(job["onnx"]).read_bytes(), int(job.get("batch", 1)))
    marked = {network.get_output(i).name for i in range(network.num_outputs)}
    for index in range(network.num_layers):
        layer = network.get_layer(index)
        for slot in range(layer.num_outputs):
            tensor = layer.get_output(slot)
            if tensor is None or tensor.dtype != trt.float32 or tensor.name in marked or tensor.is_shape_tensor:
                continue
            if layer.type == trt.LayerType.CONSTANT or -1 in tuple(tensor.shape):
                continue
            network.mark_output(tensor)
            marked.add(tensor.name)
    batches = cast_to_network(
        network, split_batches(load_feed(job), int(network.get_input(0).shape[0]), job.get("limit"))
    )
    plan = builder.build_serialized_network(network, config)
    if plan is None:
        raise RuntimeError("build failed")
    engine = trt.Runtime(logger).deserialize_cuda_engine(plan)
    names = [engine.get_tensor_name(i) for i in range(engine.num_io_tensors)]
    sources = [n for n in names if engine.get_tensor_mode(n) == trt.TensorIOMode.INPUT]
    wanted = [n for n in names if n not in sources and engine.get_tensor_dtype(n) == trt.float32]
    kept: dict = {}
    for answer, index in run_engine(engine, sources, batches, wanted):
        for name, array in answer.items():
            collect(kept.setdefault(name, {}), array)
            if index == 0 and job.get("sums"):
                kept[name]["sha256"] = hashlib.sha256(array.tobytes()).hexdigest()
                kept[name]["first"] = [float(v) for v in array.ravel()[:8]]
    result["histograms"] = {
        name: {
            "width": state["width"],
            "amax": state["amax"],
            "doublings": state["doublings"],
            "counts": base64.b64encode(zlib.compress(state["counts"].astype(np.int32).tobytes(), 6)).decode(),
            **({"sha256": state["sha256"], "first": state["first"]} if "sha256" in state else {}),
        }
        for name, state in kept.items()
        if "counts" in state
    }


def collect(state: dict, array) -> None:
    x = np.abs(array.ravel())
    top = float(x.max()) if x.size else 0.0
    state["amax"] = max(state.get("amax", 0.0), top)
    x = x[x != 0]
    if not x.size:
        return
    if "counts" not in state:
        state.update(width=top / 2048, counts=np.zeros(2048, np.int64), doublings=0)
    while top > state["width"] * 2048:
        half = state["counts"].reshape(-1, 2).sum(1)
        state["counts"] = np.concatenate([half, np.zeros(1024, np.int64)])
        state["width"] *= 2
        state["doublings"] += 1
    bins = np.minimum((x / state["width"]).astype(np.int64), 2047)
    state["counts"] += np.bincount(bins, minlength=2048)


def job_feed(job: dict, result: dict, finish) -> None:
    """Feeding rate: trtlearn's calibrator or Polygraphy's on the same network and data, timed from outside."""
    logger = Log(result)
    builder = trt.Builder(logger)
    config = new_config(builder, job)
    config.set_flag(trt.BuilderFlag.INT8)
    network = parse_onnx(builder, logger, Path(job["onnx"]).read_bytes(), int(job["batch"]))
    batches = cast_to_network(network, split_batches(load_feed(job), int(job["batch"]), job.get("limit")))
    name = network.get_input(0).name
    stamps: list = []
    if job["who"] == "polygraphy":
        import glob

        found = glob.glob("/usr/local/cuda*/lib64/libcudart.so*") + glob.glob("/opt/**/libcudart.so*", recursive=True)
        folders = [os.environ.get("LD_LIBRARY_PATH", ""), *sorted({os.path.dirname(path) for path in found})]
        os.environ["LD_LIBRARY_PATH"] = os.pathsep.join(folders)  # read by Polygraphy, not by the loader
        from polygraphy.backend.trt import Calibrator

        base = Calibrator(data_loader=batches, BaseClass=trt.IInt8EntropyCalibrator2, batch_size=int(job["batch"]))
        try:  # as its CreateConfig does
            from polygraphy.common import TensorMetadata

            meta = TensorMetadata()
            meta.add(name, np.dtype(np.float32), tuple(network.get_input(0).shape))
            base.set_input_metadata(meta)
        except Exception as problem:
            result["metadata_error"] = repr(problem)
    else:
        from trtlearn.calibrator import make_calibrator as ours

        data = np.concatenate([b[name] for b in batches])
        owner = ours("entropy2", {name: data}, int(job["batch"]))
        owner.bind({name: (tuple(network.get_input(0).shape), "fp32")})
        base = owner.handle
    kind = type(base)
    inner = kind.get_batch

    def get_batch(self, names):
        before = time.perf_counter()
        answer = inner(self, names)
        stamps.append((before, time.perf_counter()))
        return answer

    old_write = kind.write_calibration_cache

    def write_calibration_cache(self, cache):
        ended = time.perf_counter()
        result["batches"] = len(stamps) - 1
        result["inside_get_batch_s"] = [b - a for a, b in stamps]
        result["whole_s"] = stamps[-1][1] - stamps[0][0]
        result["until_cache_s"] = ended - stamps[0][0]
        finish()

    kind.get_batch, kind.write_calibration_cache = get_batch, write_calibration_cache
    result["old_write"] = repr(old_write)
    if hasattr(base, "__enter__"):
        base.__enter__()
    config.int8_calibrator = base
    builder.build_serialized_network(network, config)
    result["stamps"] = len(stamps)


# ---------------------------------------------------------------- jobs


def tie_models() -> dict[str, bytes]:
    """conv -> OP -> conv (or matrix product), and OP right after the input, for each kind of OP."""
    import onnx.shape_inference
    from onnx import TensorProto, helper, numpy_helper

    rng = np.random.default_rng(7)
    shape = [2, 8, 16, 16]

    def tensor(name, array):
        return numpy_helper.from_array(np.asarray(array), name)

    def one(op: str, attributes: dict, extra: list, how: str) -> bytes:
        nodes, weights = [], list(extra)

        def conv(source, out):
            weights.append(tensor(f"{out}_w", (rng.standard_normal((8, 8, 3, 3)) * 0.2).astype(np.float32)))
            nodes.append(helper.make_node("Conv", [source, f"{out}_w"], [out], name=out, pads=[1, 1, 1, 1]))

        source = "x"
        if how != "input":
            conv("x", "before")
            source = "before"
        inputs = [source, *[t.name for t in extra]]
        outputs = ["op"]
        if op in ("Add", "Mul", "Sub", "Max", "Div"):
            conv("x", "side")
            inputs = [source, "side"]
        if op == "AddConst":
            op = "Add"
        if op == "Concat":
            conv("x", "side")
            nodes.append(helper.make_node("Mul", ["side", "ten"], ["scaled_side"], name="scaled_side"))
            weights.append(tensor("ten", np.float32(10)))
            inputs = [source, "scaled_side"]
        if op == "Split":
            outputs = ["op", "other"]
        nodes.append(helper.make_node(op, inputs, outputs, name="op", **attributes))
        if op in ("Flatten",) or (op == "Reshape" and extra and extra[0].name == "flat"):
            weights.append(tensor("m_w", (rng.standard_normal((2048, 10)) * 0.05).astype(np.float32)))
            nodes.append(helper.make_node("MatMul", ["op", "m_w"], ["y"], name="y"))
        elif op in ("ReduceMean", "GlobalAveragePool"):
            weights.append(tensor("k_w", (rng.standard_normal((4, 8, 1, 1))).astype(np.float32)))
            nodes.append(helper.make_node("Conv", ["op", "k_w"], ["y"], name="y"))
        elif op in (
            "Transpose",
            "Squeeze",
            "Unsqueeze",
            "ReduceSum",
            "MatMul",
            "Gather",
            "Split",
            "Slice",
            "Concat",
            "Reshape",
            "DepthToSpace",
        ):
            nodes.append(helper.make_node("Relu", ["op"], ["tail"], name="tail"))
            weights.append(tensor("half", np.float32(0.5)))
            nodes.append(helper.make_node("Mul", ["tail", "half"], ["y"], name="y"))
        else:
            conv("op", "y")
        outs = ["y"] + (["other"] if op == "Split" else [])
        graph = helper.make_graph(
            nodes,
            op,
            [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
            [helper.make_tensor_value_info(o, TensorProto.FLOAT, None) for o in outs],
            weights,
        )
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)])
        model.ir_version = 8
        return onnx.shape_inference.infer_shapes(model).SerializeToString()

    i64 = lambda name, *v: tensor(name, np.asarray(v, np.int64))  # noqa: E731
    f32 = lambda name, v: tensor(name, np.asarray(v, np.float32))  # noqa: E731
    kinds = {
        "MaxPool": ({"kernel_shape": [2, 2], "strides": [2, 2]}, []),
        "AveragePool": ({"kernel_shape": [2, 2], "strides": [2, 2]}, []),
        "GlobalAveragePool": ({}, []),
        "GlobalMaxPool": ({}, []),
        "Relu": ({}, []),
        "LeakyRelu": ({"alpha": 0.1}, []),
        "Sigmoid": ({}, []),
        "Tanh": ({}, []),
        "Elu": ({}, []),
        "HardSigmoid": ({}, []),
        "Softplus": ({}, []),
        "Erf": ({}, []),
        "Exp": ({}, []),
        "Abs": ({}, []),
        "Neg": ({}, []),
        "Sqrt": ({}, []),
        "HardSwish": ({}, []),
        "Clip": ({}, [f32("lo", 0.0), f32("hi", 6.0)]),
        "Identity": ({}, []),
        "Dropout": ({}, []),
        "Flatten": ({}, []),
        "Reshape": ({}, [i64("shape4", 2, 16, 8, 16)]),
        "Reshape2": ({}, [i64("flat", 2, 2048)]),
        "Transpose": ({"perm": [0, 2, 3, 1]}, []),
        "Squeeze": ({}, []),
        "Unsqueeze": ({}, [i64("axes", 0)]),
        "Slice": ({}, [i64("starts", 0, 0), i64("ends", 8, 8), i64("axes", 2, 3)]),
        "Split": ({"axis": 1}, []),
        "Gather": ({"axis": 1}, [i64("idx", 0, 2, 4)]),
        "Pad": ({}, [i64("pads", 0, 0, 1, 1, 0, 0, 1, 1)]),
        "Resize": (
            {"mode": "nearest", "coordinate_transformation_mode": "asymmetric", "nearest_mode": "floor"},
            [f32("roi", []), f32("sizes", [1, 1, 2, 2])],
        ),
        "ResizeLinear": ({"mode": "linear"}, [f32("roi", []), f32("sizes", [1, 1, 2, 2])]),
        "DepthToSpace": ({"blocksize": 2}, []),
        "Softmax": ({"axis": 1}, []),
        "ReduceMean": ({"axes": [2, 3]}, []),
        "ReduceSum": ({}, [i64("axes", 2, 3)]),
        "Add": ({}, []),
        "Mul": ({}, []),
        "Sub": ({}, []),
        "Max": ({}, []),
        "AddConst": ({}, [f32("bias", 3.0)]),
        "Div": ({}, []),
        "Concat": ({"axis": 1}, []),
        "MatMul": ({}, [f32("mm", rng.standard_normal((16, 16)) * 0.3)]),
        "PRelu": ({}, [f32("slope", np.full((8, 1, 1), 0.2))]),
        "BatchNormalization": (
            {},
            [f32("g", np.full(8, 2.0)), f32("b", np.ones(8)), f32("mean", np.zeros(8)), f32("var", np.ones(8))],
        ),
        "InstanceNormalization": ({}, [f32("g", np.full(8, 2.0)), f32("b", np.ones(8))]),
    }
    names = {"Reshape2": "Reshape", "ResizeLinear": "Resize"}
    made = {}
    for kind, (attributes, extra) in kinds.items():
        for how in ("middle", "input"):
            if kind in ("Squeeze", "Dropout", "HardSwish"):
                continue
            try:
                made[f"{kind}_{how}"] = one(names.get(kind, kind), attributes, extra, how)
            except Exception as problem:
                say("tie model", kind, how, repr(problem))
    return made


def odd_caches(text: str) -> dict[str, bytes]:
    """Caches as people break them, made from a whole one."""
    header, *lines = text.rstrip("\n").split("\n")
    middle = len(lines) // 2

    def joined(*parts, end="\n"):
        return "\n".join(parts) + end

    name, _, value = lines[middle].rpartition(": ")
    return {
        "whole": text.encode(),
        "padded_hex": joined(
            header, *[f"{x.rpartition(': ')[0]}: {x.rpartition(': ')[2].zfill(8)}" for x in lines]
        ).encode(),
        "upper_hex": joined(
            header, *[f"{x.rpartition(': ')[0]}: {x.rpartition(': ')[2].upper()}" for x in lines]
        ).encode(),
        "no_final_newline": joined(header, *lines, end="").encode(),
        "crlf": joined(header, *lines).replace("\n", "\r\n").encode(),
        "blank_lines": joined(header, "", *lines[:3], "", *lines[3:], "").encode(),
        "no_space": joined(header, *[x.replace(": ", ":") for x in lines]).encode(),
        "version_7600": joined("TRT-7600-EntropyCalibration2", *lines).encode(),
        "version_8601": joined("TRT-8601-EntropyCalibration2", *lines).encode(),
        "version_101600": joined("TRT-101600-EntropyCalibration2", *lines).encode(),
        "header_minmax": joined("TRT-8600-MinMaxCalibration", *lines).encode(),
        "header_entropy": joined("TRT-8600-EntropyCalibration", *lines).encode(),
        "header_legacy": joined("0 3ff0000000000000 3feff7ced916872b", *lines).encode(),
        "header_bogus": joined("hello world", *lines).encode(),
        "header_missing": joined(*lines).encode(),
        "line_deleted": joined(header, *lines[:middle], *lines[middle + 1 :]).encode(),
        "all_but_two_deleted": joined(header, *lines[:2]).encode(),
        "header_only": joined(header).encode(),
        "renamed": joined(header, *lines[:middle], f"{name}_old: {value}", *lines[middle + 1 :]).encode(),
        "duplicate_line": joined(header, *lines, f"{name}: 3f800000").encode(),
        "duplicate_line_first": joined(header, f"{name}: 3f800000", *lines).encode(),
        "zero_scale": joined(header, *lines[:middle], f"{name}: 0", *lines[middle + 1 :]).encode(),
        "nan_scale": joined(header, *lines[:middle], f"{name}: 7fc00000", *lines[middle + 1 :]).encode(),
        "inf_scale": joined(header, *lines[:middle], f"{name}: 7f800000", *lines[middle + 1 :]).encode(),
        "negative_scale": joined(header, *lines[:middle], f"{name}: bd90a39c", *lines[middle + 1 :]).encode(),
        "bad_hex": joined(header, *lines[:middle], f"{name}: zzzz", *lines[middle + 1 :]).encode(),
        "decimal_scale": joined(header, *lines[:middle], f"{name}: 0.0706", *lines[middle + 1 :]).encode(),
        "extra_tensor": joined(header, *lines, "nobody::knows this [tensor]: 3d90a39c").encode(),
        "extra_weird": joined(header, *lines, "naïve ☃ name: 3d90a39c").encode(),
        "truncated_line": joined(header, *lines)[:-5].encode(),
        "truncated_half": joined(header, *lines)[: len(text) // 2].encode(),
        "empty": b"",
        "binary": bytes(range(256)),
        "reversed": joined(header, *lines[::-1]).encode(),
        "bom": b"\xef\xbb\xbf" + text.encode(),
    }


def strange_name_model(names: list[str]) -> bytes:
    """A chain of convolutions whose tensors carry the given names."""
    from onnx import TensorProto, helper, numpy_helper

    rng = np.random.default_rng(3)
    nodes, weights, source = [], [], names[0]
    for index, name in enumerate(names[1:]):
        weights.append(
            numpy_helper.from_array((rng.standard_normal((4, 4, 1, 1)) * 0.5).astype(np.float32), f"w_{index}")
        )
        nodes.append(helper.make_node("Conv", [source, f"w_{index}"], [name], name=f"n{index}"))
        source = name
    value = helper.make_tensor_value_info
    graph = helper.make_graph(
        nodes,
        "strange",
        [value(names[0], TensorProto.FLOAT, [1, 4, 8, 8])],
        [value(source, TensorProto.FLOAT, None)],
        weights,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)])
    model.ir_version = 8
    return model.SerializeToString()


def strange_cache_jobs() -> list[dict]:
    """Random names and scales written by trtlearn.cache: TensorRT must take every one (no get_batch, no warning)."""
    from trtlearn.cachefile import format_cache, new_cache

    letters = "abcXYZ019_./:-[]()* #é☃\t"
    jobs = []
    for seed in range(14):
        rng = random.Random(seed)
        names = ["in"] + [
            f"t{i}_" + ("".join(rng.choice(letters) for _ in range(rng.randint(1, 24))).strip() or "x")
            for i in range(6)
        ]
        scales = {n: float(np.float32(2.0 ** rng.uniform(-20, 8))) for n in names}
        if seed == 0:
            scales[names[2]] = 1e-30
        text = format_cache(new_cache(scales, "entropy2", "8.6.0"))
        model = strange_name_model(names)
        jobs.append(
            {
                "name": f"strange_{seed}",
                "do": "calibrate",
                "algorithm": "entropy2",
                "batch": 1,
                "feed_seed": 1,
                "batches": 1,
                "onnx_bytes": base64.b64encode(model).decode(),
                "given_cache": base64.b64encode(text.encode()).decode(),
                "stop": "scales",
                "names": names,
            }
        )
    return jobs


# ---------------------------------------------------------------- the pool


def run_all(jobs: list[dict], parallel: int, timeout: float, deadline: float) -> dict[str, dict]:
    """Fork one process a job (TensorRT is imported already, CUDA not yet touched), at most ``parallel`` at once."""
    WORK.mkdir(parents=True, exist_ok=True)
    waiting, running, results = list(jobs), {}, {}
    while waiting or running:
        now = time.time()
        if now > deadline and waiting:
            say("deadline: left out", len(waiting), "jobs:", [j["name"] for j in waiting][:5])
            waiting = []
        while waiting and len(running) < parallel:
            job = waiting.pop(0)
            target = WORK / f"{job['name']}.json"
            pid = os.fork()
            if pid == 0:
                try:
                    os.setpgid(0, 0)
                    log = os.open(WORK / f"{job['name']}.err", os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
                    os.dup2(log, 1)
                    os.dup2(log, 2)
                    run_job(job, target)
                finally:
                    os._exit(9)
            running[pid] = (job, now, target)
        for pid in list(running):
            job, began, target = running[pid]
            done, status = os.waitpid(pid, os.WNOHANG)
            if done == 0 and time.time() - began < job.get("timeout", timeout) and time.time() < deadline + 15:
                continue
            if done == 0:
                os.kill(pid, signal.SIGKILL)
                os.waitpid(pid, 0)
                status = "timeout"
            del running[pid]
            if target.exists():
                results[job["name"]] = json.loads(target.read_text())
                if "error" in results[job["name"]]:
                    say("ERROR", job["name"], results[job["name"]]["error"][-300:].replace("\n", " | "))
            else:
                error = (WORK / f"{job['name']}.err").read_text(errors="replace")[-1500:]
                results[job["name"]] = {
                    "job": {k: v for k, v in job.items() if k != "onnx_bytes"},
                    "error": f"no result, status {status}: {error}",
                }
                target.write_text(json.dumps(results[job["name"]]))
                say("LOST", job["name"], status, error[-200:].replace("\n", " | "))
        time.sleep(0.01)
    return results


def pack() -> None:
    OUT.mkdir(parents=True, exist_ok=True)
    scratch = OUT / "calib.tar.part"
    with tarfile.open(scratch, "w:xz", preset=1) as tar:
        for path in sorted(WORK.glob("*.json")):
            tar.add(path, arcname=f"calib/{path.name}")
    os.replace(scratch, OUT / "calib.tar.xz")


# ---------------------------------------------------------------- stages


def stage_b(options) -> list[dict]:
    base = {"do": "calibrate", "stop": "cache", "batch": 1}
    jobs = [
        {
            **base,
            "name": f"crafted_{which}_{algorithm}",
            "crafted": which,
            "algorithm": algorithm,
            "keep_histogram": algorithm == "legacy",
            "keep_log": which == "single" and algorithm == "entropy2",
        }
        for which in ("single", "several", "single_safe", "several_safe")
        for algorithm in ALGORITHMS
    ]
    jobs += [
        {**base, "name": f"crafted_{which}_{a}_conv", "crafted": which, "algorithm": a, "layer": "conv", "timeout": 60}
        for which in ("single", "several")
        for a in ("entropy2",)
    ]
    jobs.append({**base, "name": "crafted_single_entropy2_again", "crafted": "single", "algorithm": "entropy2"})
    return jobs


def stage_c(options) -> list[dict]:
    base = {"do": "calibrate", "stop": "cache", "batch": 1, "algorithm": "legacy"}
    grid = [(q, c) for q in (0.5, 0.9, 0.99, 0.999, 0.9999, 1.0) for c in (0.0, 0.25, 0.5, 0.75, 0.9, 1.0)]
    grid += [(0.0, 1.0), (0.999, 0.1), (0.999, 0.99)]
    jobs = [
        {**base, "name": f"legacy_single_q{q}_c{c}", "crafted": "single_safe", "quantile": q, "cutoff": c}
        for q, c in grid
    ]
    jobs += [
        {**base, "name": f"legacy_several_q{q}_c{c}", "crafted": "several_safe", "quantile": q, "cutoff": c}
        for q, c in ((0.9, 1.0), (0.999, 0.5), (0.99, 0.75), (1.0, 1.0), (1.0, 0.5))
    ]
    return jobs


def stage_d(options) -> list[dict]:
    jobs = []
    models = tie_models()
    kept = {name: base64.b64encode(zlib.compress(content)).decode() for name, content in models.items()}
    (WORK / "tie_models.json").write_text(json.dumps(kept))
    for name, content in models.items():
        for algorithm in ALGORITHMS if name.endswith("middle") else ("entropy2",):
            jobs.append(
                {
                    "name": f"tie_{name}_{algorithm}",
                    "do": "calibrate",
                    "algorithm": algorithm,
                    "batch": 2,
                    "feed_seed": 5,
                    "batches": 3,
                    "onnx_bytes": base64.b64encode(content).decode(),
                    "stop": "scales" if algorithm == "entropy2" else "cache",
                    "timeout": 40,
                }
            )
    return jobs


def zoo_models(options) -> list[dict]:
    """name, onnx, data, arrays for every model at hand."""
    found = []
    images = ROOT / "data" / "images" / "digits.npz"
    for path in sorted((ROOT / "data" / "models").glob("*.onnx")):
        if path.stem in ("resnet", "mobile") and (Path("/tmp/calib_work/digits_calib.npz")).exists():
            found.append({"model": path.stem, "onnx": str(path), "data": "/tmp/calib_work/digits_calib.npz"})
    for folder in options.zoo:
        for path in sorted(Path(folder).glob("*.onnx")):
            data = path.with_suffix(".npz")
            if data.exists() and path.stem not in [model["model"] for model in found]:
                found.append({"model": path.stem, "onnx": str(path), "data": str(data)})
    say("models:", [f["model"] for f in found], "images file", images.exists())
    return found


def prepare_digits() -> bool:
    """Calibration and test images as the course's own loader gives them."""
    WORK.mkdir(parents=True, exist_ok=True)
    try:
        from trtlearn.models import load_images

        calibration, _ = load_images("calibration")
        test, labels = load_images("test")
        np.savez(WORK / "digits_calib.npz", image=np.asarray(calibration, np.float32))
        np.savez(WORK / "digits_test.npz", image=np.asarray(test, np.float32), labels=np.asarray(labels))
        return True
    except Exception as problem:
        say("no digits:", repr(problem))
        return False


def fixed_batch(path: str) -> int | None:
    """The batch size that a model's first input fixes; None where it is free."""
    import onnx

    axis = onnx.load(path).graph.input[0].type.tensor_type.shape.dim[0]
    return int(axis.dim_value) if axis.HasField("dim_value") else None


def stage_a(options) -> list[dict]:
    jobs = []
    for model in zoo_models(options):
        fixed = fixed_batch(model["onnx"])
        base = {"onnx": model["onnx"], "data": model["data"], "timeout": 90}
        whole = fixed or 8
        sizes = [(whole, 16), (whole, 5)] if fixed else [(8, 16), (2, 16)]
        for index, (batch, limit) in enumerate(sizes):
            for algorithm in ALGORITHMS:
                with_scales = index == 0 and algorithm in ("entropy2", "entropy")
                job = {"do": "calibrate", "algorithm": algorithm, "batch": batch, "limit": limit, **base}
                job |= {"stop": "scales" if with_scales else "cache", "model": model["model"]}
                job |= {"keep_histogram": index == 0 and algorithm == "legacy"}
                jobs.append({"name": f"zoo_{model['model']}_b{batch}_n{limit}_{algorithm}", **job})
        dump = {"do": "dump", "batch": whole, "limit": 16, "sums": True, "model": model["model"], **base}
        jobs.append({"name": f"zoo_{model['model']}_b{whole}_n16_dump", **dump})
    return jobs


def stage_e(options) -> list[dict]:
    source = WORK / "zoo_resnet_b8_n16_entropy2.json"
    jobs = []
    if source.exists() and "cache" in (first := json.loads(source.read_text())):
        job = first["job"]
        for name, content in odd_caches(first["cache"]).items():
            jobs.append(
                {
                    "name": f"odd_{name}",
                    "do": "calibrate",
                    "algorithm": "entropy2",
                    "batch": 8,
                    "limit": 2,
                    "onnx": job["onnx"],
                    "data": job["data"],
                    "given_cache": base64.b64encode(content).decode(),
                    "stop": "scales",
                    "timeout": 40,
                }
            )
        legacy = WORK / "zoo_resnet_b8_n16_legacy.json"
        if legacy.exists() and "cache" in (second := json.loads(legacy.read_text())):
            for name, q, c in (("same", 0.999, 1.0), ("other_quantile", 0.99, 1.0), ("other_cutoff", 0.999, 0.5)):
                jobs.append(
                    {
                        "name": f"odd_legacy_{name}",
                        "do": "calibrate",
                        "algorithm": "legacy",
                        "batch": 8,
                        "limit": 2,
                        "onnx": job["onnx"],
                        "data": job["data"],
                        "quantile": q,
                        "cutoff": c,
                        "given_cache": base64.b64encode(second["cache"].encode()).decode(),
                        "stop": "scales",
                        "timeout": 40,
                    }
                )
        mobile = WORK / "zoo_mobile_b8_n16_entropy2.json"
        if mobile.exists() and "cache" in (other := json.loads(mobile.read_text())):
            jobs.append(
                {
                    "name": "odd_other_models_cache",
                    "do": "calibrate",
                    "algorithm": "entropy2",
                    "batch": 8,
                    "limit": 2,
                    "onnx": job["onnx"],
                    "data": job["data"],
                    "given_cache": base64.b64encode(other["cache"].encode()).decode(),
                    "stop": "scales",
                    "timeout": 40,
                }
            )
    else:
        say("no resnet cache: odd caches left out")
    return jobs + strange_cache_jobs()


def stage_f(options) -> list[dict]:
    model = ROOT / "data" / "models" / "resnet.onnx"
    if not model.exists() or not (WORK / "digits_calib.npz").exists():
        return []
    order = ["trtlearn", "polygraphy", "polygraphy", "trtlearn", "trtlearn", "polygraphy", "polygraphy", "trtlearn"]
    return [
        {
            "name": f"feed_{i}_{who}",
            "do": "feed",
            "who": who,
            "onnx": str(model),
            "data": str(WORK / "digits_calib.npz"),
            "batch": 8,
            "timeout": 25,
        }
        for i, who in enumerate(order)
    ]


def stage_g(options) -> list[dict]:
    jobs = []
    for name in ("resnet", "mobile"):
        model = ROOT / "data" / "models" / f"{name}.onnx"
        if not model.exists() or not (WORK / "digits_calib.npz").exists():
            continue
        base = {"do": "calibrate", "onnx": str(model), "data": str(WORK / "digits_calib.npz"), "stop": "cache"}
        for algorithm in ("entropy2", "minmax"):
            for count in (1, 2, 5, 10, 20, 50, 100, 200, 500):
                jobs.append(
                    {
                        **base,
                        "name": f"images_{name}_{algorithm}_{count}",
                        "algorithm": algorithm,
                        "batch": 1,
                        "images": count,
                    }
                )
        for seed in range(5):
            jobs.append(
                {
                    **base,
                    "name": f"shuffle_{name}_{seed}",
                    "algorithm": "entropy2",
                    "batch": 8,
                    "images": 512,
                    "shuffle": seed,
                }
            )
        for batch in (1, 16, 64):
            jobs.append(
                {**base, "name": f"batchsize_{name}_{batch}", "algorithm": "entropy2", "batch": batch, "images": 512}
            )
    return jobs


def stage_h(options) -> list[dict]:
    """Accuracy of an INT8 engine made from N calibration images."""
    jobs = []
    model = ROOT / "data" / "models" / "resnet.onnx"
    if not model.exists() or not (WORK / "digits_test.npz").exists():
        return []
    for algorithm in ("entropy2", "minmax"):
        for count in (8, 16, 24, 48, 104, 200, 504) if algorithm == "entropy2" else (8, 48, 504):
            jobs.append(
                {
                    "name": f"accuracy_resnet_{algorithm}_{count}",
                    "do": "calibrate",
                    "algorithm": algorithm,
                    "batch": 8,
                    "images": count,
                    "onnx": str(model),
                    "data": str(WORK / "digits_calib.npz"),
                    "stop": "never",
                    "timeout": 100,
                    "test": {"data": str(WORK / "digits_test.npz"), "images": "image", "labels": "labels"},
                }
            )
    return jobs


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--zoo", action="append", default=[])
    parser.add_argument("--seconds", type=float, default=280)
    parser.add_argument("--only", default="b,c,d,a,e,g,f,h")
    parser.add_argument("--jobs", type=int, default=14)
    options = parser.parse_args()
    OUT.mkdir(parents=True, exist_ok=True)
    deadline = START + options.seconds - 20
    prepare_digits()
    import crafted  # noqa: F401
    import onnx  # noqa: F401

    if "b" in options.only:
        import crafted as made

        hashes = {
            k: [hashlib.sha256(a.tobytes()).hexdigest()[:16] for a in v]
            for f in (made.single, made.several)
            for k, v in f().items()
        }
        (WORK / "crafted_hashes.json").write_text(json.dumps(hashes))
    for stage in options.only.split(","):
        if time.time() > deadline:
            say("deadline: stage", stage, "and later left out")
            break
        try:
            jobs = globals()["stage_" + stage](options)
            say("stage", stage, len(jobs), "jobs")
            parallel = 1 if stage == "f" else options.jobs
            results = run_all(jobs, parallel, 60, deadline)
            times = sorted(r.get("seconds", 0) for r in results.values())
            say(
                "stage",
                stage,
                "done:",
                sum("error" not in r for r in results.values()),
                "of",
                len(jobs),
                "without error; median seconds",
                times[len(times) // 2] if times else None,
                "max",
                times[-1] if times else None,
            )
            if stage == "b":
                for name, r in results.items():
                    say(
                        "  ",
                        name,
                        len(r.get("cache", "").splitlines()),
                        "lines",
                        r.get("histogram_bytes"),
                        r.get("histogram_error"),
                        r.get("messages", [])[:2],
                    )
        except Exception:
            say("stage", stage, "failed:", traceback.format_exc()[-800:])
        pack()
    say("all done,", sum(p.stat().st_size for p in OUT.glob("*.xz")), "bytes")


if __name__ == "__main__":
    main()
