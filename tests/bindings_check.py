"""Run in a process of its own over NVIDIA's real bindings: does our live side fit them?

Prints what it finds as JSON. No GPU: CUDA is played by fake_trt, and TensorRT's libraries are
stand-ins, so nothing is built.
"""

from __future__ import annotations

import ast
import json
import re
import sys
import threading
from pathlib import Path
from typing import Any

import fake_trt
import numpy as np

from trtlearn.errors import BuildError, LiveUnavailable
from trtlearn.live import build, calibrator, cuda, network, trt

LIVE = Path(trt.__file__).parent
CLASSES = [
    "Builder",
    "INetworkDefinition",
    "ITensor",
    "ILayer",
    "IBuilderConfig",
    "IOptimizationProfile",
    "ITimingCache",
    "OnnxParser",
    "ParserError",
    "Runtime",
    "ICudaEngine",
    "IExecutionContext",
    "EngineInspector",
    "ILogger",
    "IProfiler",
    "IProgressMonitor",
    "IInt8EntropyCalibrator2",
    "IInt8EntropyCalibrator",
    "IInt8MinMaxCalibrator",
    "IInt8LegacyCalibrator",
    "IHostMemory",
    "Dims",
]
ENUMS = {
    "BuilderFlag": "INT8 FP16 TF32 OBEY_PRECISION_CONSTRAINTS PREFER_PRECISION_CONSTRAINTS",
    "NetworkDefinitionCreationFlag": "EXPLICIT_BATCH STRONGLY_TYPED",
    "TensorIOMode": "INPUT OUTPUT",
    "TensorFormat": "LINEAR",
    "MemoryPoolType": "WORKSPACE",
    "ProfilingVerbosity": "DETAILED",
    "LayerInformationFormat": "JSON",
    "LayerType": "CONSTANT QUANTIZE DEQUANTIZE ACTIVATION CONCATENATION POOLING",
    "ActivationType": "RELU",
    "DataType": "FLOAT HALF BF16 INT8 FP8 INT32 INT64 BOOL UINT8 INT4",
    "TacticSource": "CUBLAS CUBLAS_LT CUDNN EDGE_MASK_CONVOLUTIONS JIT_CONVOLUTIONS",
}
CALLS = {  # what our calls give (beside self) and take back
    "Builder.create_network": (1, "INetworkDefinition"),
    "Builder.build_serialized_network": (2, "IHostMemory"),
    "Builder.create_builder_config": (0, "IBuilderConfig"),
    "Builder.create_optimization_profile": (0, "IOptimizationProfile"),
    "INetworkDefinition.mark_output": (1, "None"),
    "IBuilderConfig.set_flag": (1, "None"),
    "IBuilderConfig.set_memory_pool_limit": (2, "None"),
    "IBuilderConfig.set_tactic_sources": (1, "bool"),
    "IBuilderConfig.create_timing_cache": (1, "ITimingCache"),
    "IBuilderConfig.set_timing_cache": (2, "bool"),
    "IBuilderConfig.add_optimization_profile": (1, "int"),
    "IBuilderConfig.set_calibration_profile": (1, "bool"),
    "IOptimizationProfile.set_shape": (4, "None"),
    "ITimingCache.combine": (2, "bool"),
    "ITimingCache.serialize": (0, "IHostMemory"),
    "OnnxParser.parse": (2, "bool"),
    "OnnxParser.get_error": (1, "IParserError"),
    "ITensor.set_dynamic_range": (2, "bool"),
    "ILayer.set_output_type": (2, "None"),
    "Runtime.deserialize_cuda_engine": (1, "ICudaEngine"),
    "ICudaEngine.create_execution_context": (0, "IExecutionContext"),
    "ICudaEngine.create_engine_inspector": (0, "EngineInspector"),
    "ICudaEngine.get_tensor_name": (1, "str"),
    "IExecutionContext.set_input_shape": (2, "bool"),
    "IExecutionContext.set_tensor_address": (2, "bool"),
    "IExecutionContext.execute_async_v3": (1, "bool"),
    "EngineInspector.get_engine_information": (1, "str"),
}


def used_names() -> set[str]:
    """Every attribute that our live side asks of anything."""
    names: set[str] = set()
    for file in LIVE.glob("*.py"):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Attribute):
                names.add(node.attr)
    return names


def members(module: Any) -> list[str]:
    """The classes, members and enum words that we use and this version has."""
    used, found = used_names(), []
    for name in CLASSES:
        if (kind := getattr(module, name, None)) is not None:
            found += [name, *(f"{name}.{member}" for member in dir(kind) if member in used)]
    for name, words in ENUMS.items():
        there = getattr(module, name).__members__
        found += [f"{name}.{word}" for word in words.split() if word in there]
    return found


def misfits(module: Any) -> list[str]:
    """The calls that this version would not take, or answers otherwise."""
    wrong = []
    for call, (count, returns) in CALLS.items():
        owner, _, method = call.partition(".")
        text = getattr(getattr(module, owner), method, None)
        if text is None:
            continue  # whether it may be missing is the members' question
        forms = re.findall(rf"{method}\((.*)\) -> (.*)", text.__doc__ or "")
        fits = False
        for arguments, result in forms:
            names = re.findall(r"(?:^|, )(\w+): ", arguments)
            least = len(names) - arguments.count(" = ")
            fits |= least <= count + 1 <= len(names) and returns in result
        if not fits:
            wrong.append(f"{call}: {forms}")
    return wrong


def logger_keeps_lines() -> list[str]:
    logger, severity = trt.logger(), trt.module().ILogger.Severity
    with trt.Log() as log:
        logger.log(severity.WARNING, "one\ntwo")
        with trt.Log():
            logger.log(severity.ERROR, "for another")
        logger.log(severity.INTERNAL_ERROR, "three")
    assert isinstance(logger, trt.module().ILogger)
    return [*log.lines, *log.errors()]


def refusal(call: Any, kind: type[Exception]) -> str:
    try:
        call()
    except kind as problem:
        return str(problem)
    return ""


def calibrator_answers(algorithm: str) -> list[Any]:
    """TensorRT's calls, made by hand on an object of its own class."""
    data = np.ones((16, 1, 2, 2), np.float32)
    made = calibrator.make_calibrator(algorithm, data, batch_size=8)
    handle = made.handle
    base = getattr(trt.module(), calibrator.BASES[algorithm])
    answers = [isinstance(handle, base), handle.get_batch_size()]
    answers += [handle.get_batch(["image"]) is not None for _ in range(3)]
    answers += [handle.read_calibration_cache() is None]
    handle.write_calibration_cache(b"TRT-1-x\n")
    answers += [made.written == b"TRT-1-x\n", handle.get_algorithm().name]
    return answers


def monitor_stops() -> list[bool]:
    pressed = threading.Event()
    monitor = build._stopper(pressed)
    monitor.phase_start("Building", None, 2)
    first = monitor.step_complete("Building", 0)
    pressed.set()
    second = monitor.step_complete("Building", 1)
    monitor.phase_finish("Building")
    return [first, second, isinstance(monitor, trt.module().IProgressMonitor)]


def main() -> None:
    cuda.runtime = lambda: FAKE
    module = trt.module()
    able = trt.capabilities()
    facts: dict[str, Any] = {
        "version": able.version,
        "capabilities": able.to_dict(),
        "members": members(module),
        "misfits": misfits(module),
        "logger": logger_keeps_lines(),
        "monitor": monitor_stops(),
        "starts": refusal(lambda: network.parsed_network(b"x"), LiveUnavailable),
        "shape": list(trt.shape_of(module.Dims([2, -1, 8]))),
        "dtypes": {
            name: trt.dtype_name(kind) for name, kind in module.DataType.__members__.items()
        },
    }
    if able.calibrators:
        facts["calibrators"] = {name: calibrator_answers(name) for name in calibrator.BASES}
    else:
        data = np.ones((8, 1, 2, 2), np.float32)
        config, options = type("Config", (), {})(), build.variant_options("int8-placeholder")
        facts["refused"] = [
            refusal(lambda: calibrator.make_calibrator("minmax", data).handle, BuildError),
            refusal(lambda: network.set_precisions(None, {"a": "fp32"}, {}), BuildError),
            refusal(lambda: build._set_flags(config, options), BuildError),
        ]
    json.dump(facts, sys.stdout)


FAKE = fake_trt.FakeCuda()

if __name__ == "__main__":
    main()
