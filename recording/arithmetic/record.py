"""Record what TensorRT's INT8 kernels compute, layer by layer: engines of one layer with INT8 in
and out.

    python -m recording.arithmetic.record --out FOLDER/arithmetic [--only NAME ...] [--jobs 4]
    [--seconds S]

Needs a GPU and TensorRT 8.x or 10.x. Writes one small CASE.npz for each case of
cases.py: the ONNX model, the ranges set, the inputs, the engine's outputs and its
inspector text. A case that fails is named and the rest go on.
"""

from __future__ import annotations

import argparse
import io
import json
import sys
import time
import traceback
from concurrent.futures import ProcessPoolExecutor, as_completed
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np

from recording.arithmetic.cases import Case, cases
from trtlearn.files import write_atomic
from trtlearn.live.cuda import DeviceBuffer, Stream, gpu_name
from trtlearn.live.trt import Log, available, live, logger, trt

NUMPY = {"FLOAT": np.float32, "INT8": np.int8, "INT32": np.int32, "HALF": np.float16}
PRODUCTS = ("CONVOLUTION", "DECONVOLUTION", "FULLY_CONNECTED", "MATRIX_MULTIPLY")
OTHERS = ("ELEMENTWISE", "ACTIVATION", "POOLING", "REDUCE", "CONCATENATION")


def network_of(case: Case) -> tuple[Any, Any, dict[str, float]]:
    """The parsed network with the case's ranges and INT8 inputs and outputs, its builder, and the
    ranges as set.
    """
    builder = trt.Builder(logger())
    network = builder.create_network(1 << int(trt.NetworkDefinitionCreationFlag.EXPLICIT_BATCH))
    parser = trt.OnnxParser(network, logger())
    if not parser.parse(case.model.SerializeToString()):
        raise RuntimeError("; ".join(str(parser.get_error(i)) for i in range(parser.num_errors)))
    linear = 1 << int(trt.TensorFormat.LINEAR)
    names: dict[str, float] = {}
    for index in range(network.num_layers):
        layer = network.get_layer(index)
        for i in range(layer.num_outputs):
            tensor = layer.get_output(i)
            amax = case.ranges.get(tensor.name)
            if amax is None and layer.type.name == "CONSTANT" and tensor.dtype == trt.float32:
                amax = case.constant_range
            if amax is not None:
                tensor.set_dynamic_range(-amax, amax)
                names[tensor.name] = amax
    for index in range(network.num_inputs):
        tensor = network.get_input(index)
        amax = case.ranges[tensor.name]
        tensor.set_dynamic_range(-amax, amax)
        names[tensor.name] = amax
        if case.inputs[tensor.name].dtype == np.int8:
            tensor.dtype, tensor.allowed_formats = trt.int8, linear
    if case.int8_output:
        tensor = network.get_output(0)
        tensor.dtype, tensor.allowed_formats = trt.int8, linear
    return builder, network, names


def ask_for_int8(network: Any) -> list[str]:
    """Ask for INT8 on the products of the network, or where it has none on all that computes; their
    names.
    """
    layers = [network.get_layer(i) for i in range(network.num_layers)]
    chosen = [layer for layer in layers if layer.type.name in PRODUCTS] or [
        layer for layer in layers if layer.type.name in OTHERS
    ]
    for layer in chosen:
        layer.precision = trt.int8
    return [f"{layer.name} ({layer.type.name})" for layer in chosen]


def build(
    case: Case, constraint: str, level: int, timing: bytes
) -> tuple[bytes, bytes, dict[str, Any]]:
    """The plan, the timing cache after it, and what was set and said."""
    log = Log()
    with log:
        builder, network, ranges = network_of(case)
    asked = ask_for_int8(network)
    config = builder.create_builder_config()
    config.set_flag(trt.BuilderFlag.INT8)
    config.clear_flag(trt.BuilderFlag.TF32)
    config.set_flag(getattr(trt.BuilderFlag, f"{constraint}_PRECISION_CONSTRAINTS"))
    config.set_tactic_sources(0)
    config.profiling_verbosity = trt.ProfilingVerbosity.DETAILED
    config.builder_optimization_level = level
    config.avg_timing_iterations = 1
    config.set_memory_pool_limit(trt.MemoryPoolType.WORKSPACE, 1 << 30)
    cache = config.create_timing_cache(timing)
    config.set_timing_cache(cache, False)
    with log:
        plan = builder.build_serialized_network(network, config)
    kept = [line for line in log.lines if line[1] in "EFW" or "Quantization(scale" in line]
    if plan is None:
        raise RuntimeError(" | ".join(log.errors()[-4:]) or "the build failed without a message")
    facts = {
        "constraint": constraint,
        "optimization_level": level,
        "asked_int8": asked,
        "ranges_set": ranges,
        "log": kept,
    }
    return bytes(plan), bytes(cache.serialize()), facts


def execute(plan: bytes, case: Case) -> tuple[dict[str, Any], str]:
    """The engine's outputs for the case's inputs, and its inspector text."""
    runtime = trt.Runtime(logger())
    engine = runtime.deserialize_cuda_engine(plan)
    context = engine.create_execution_context()
    inspector = engine.create_engine_inspector()
    text = inspector.get_engine_information(trt.LayerInformationFormat.JSON)
    outputs: dict[str, Any] = {}
    buffers: dict[str, DeviceBuffer] = {}
    with Log() as log, Stream() as stream:
        for index in range(engine.num_io_tensors):
            name = engine.get_tensor_name(index)
            shape, dtype = (
                tuple(engine.get_tensor_shape(name)),
                NUMPY[engine.get_tensor_dtype(name).name],
            )
            buffers[name] = DeviceBuffer(int(np.prod(shape)) * np.dtype(dtype).itemsize)
            if engine.get_tensor_mode(name) == trt.TensorIOMode.INPUT:
                buffers[name].upload(np.ascontiguousarray(case.inputs[name].astype(dtype)))
            else:
                outputs[name] = (shape, dtype)
            context.set_tensor_address(name, int(buffers[name]))
        if not context.execute_async_v3(int(stream)):
            raise RuntimeError(" | ".join(log.errors()) or "the engine did not run")
        stream.synchronize()
        arrays = {name: buffers[name].download(*what) for name, what in outputs.items()}
    for buffer in buffers.values():
        buffer.close()
    return arrays, text


TIMING = b""
# few kernels are timed: which one computes the layer does not matter here, and a build takes a
# second
LEVEL = 1


def record(name: str, folder: str) -> str:
    """Build and run one case and write its file; one line that says how it went."""
    global TIMING
    start = time.perf_counter()
    case = next(case for case in cases() if case.name == name)
    failures: list[str] = []
    for constraint, level in (("OBEY", LEVEL), ("OBEY", 3), ("PREFER", 3)):
        try:
            plan, TIMING, facts = build(case, constraint, level, TIMING)
            break
        except Exception as problem:
            failures.append(f"{constraint}, level {level}: {problem}")
    else:
        return f"FAILED {name}: {' || '.join(failures)}"
    outputs, text = execute(plan, case)
    facts |= {
        "name": name,
        "question": case.question,
        "ranges": case.ranges,
        "constant_range": case.constant_range,
        "gpu": gpu_name(),
        "tensorrt": available(),
        "plan_bytes": len(plan),
        "time_utc": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "failures": failures,
    }
    held: dict[str, Any] = {"model": np.frombuffer(case.model.SerializeToString(), np.uint8)}
    held |= {f"in_{key}": value for key, value in case.inputs.items()}
    held |= {f"out_{key}": value for key, value in outputs.items()}
    packed = io.BytesIO()
    np.savez_compressed(packed, facts=np.array(json.dumps(facts)), inspector=np.array(text), **held)
    write_atomic(Path(folder) / f"{name}.npz", packed.getvalue())
    return f"ok {name} {facts['constraint']} {time.perf_counter() - start:.1f} s, {len(packed.getvalue()):,} bytes"


def attempt(name: str, folder: str) -> str:
    try:
        return record(name, folder)
    except Exception:
        return f"FAILED {name}: {traceback.format_exc(limit=4)}"


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--only", nargs="*", default=None)
    parser.add_argument("--jobs", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=150.0)
    arguments = parser.parse_args()
    live()
    names = [case.name for case in cases() if arguments.only is None or case.name in arguments.only]
    arguments.out.mkdir(parents=True, exist_ok=True)
    start, done = time.monotonic(), 0
    pool = ProcessPoolExecutor(arguments.jobs, mp_context=get_context("spawn"))
    futures = {pool.submit(attempt, name, str(arguments.out)): name for name in names}
    try:
        for future in as_completed(futures, timeout=arguments.seconds):
            line = future.result()
            done += line.startswith("ok")
            print(f"{time.monotonic() - start:6.1f} s {line}", flush=True)
    except TimeoutError:
        print(f"stopped after {arguments.seconds} s", flush=True)
    except Exception as problem:
        print(f"the pool broke: {problem!r}", flush=True)
    for process in list(getattr(pool, "_processes", {}).values()):
        process.terminate()
    pool.shutdown(wait=False, cancel_futures=True)
    print(f"{done} of {len(names)} cases recorded in {arguments.out}", flush=True)
    return 0 if done == len(names) else 1


if __name__ == "__main__":
    sys.exit(main())
