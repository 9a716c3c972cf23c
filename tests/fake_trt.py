"""A stand-in for TensorRT 8.6 and CUDA, for what can be tested honestly without a GPU.

It holds no knowledge of kernels: it keeps who called what, holds the conversation with a calibrator
that was measured on a real TensorRT (data/recordings: one get_batch a batch and one more, then the
cache is written), writes a log that it is told, and "runs" an engine as a fixed linear function.
Every name here is one of the real 8.6.1 bindings (checked with ``python tests/fake_trt.py`` where
those are installed).
"""

from __future__ import annotations

import ctypes
import enum
import sys
import types
from typing import Any

import numpy as np

ADDRESSES = iter(range(1 << 40, 1 << 50, 1 << 20))

TACTIC_SOURCES = ("CUBLAS", "CUBLAS_LT", "CUDNN", "EDGE_MASK_CONVOLUTIONS", "JIT_CONVOLUTIONS")


def named(name: str, *members: str, start: int = 0) -> Any:
    return enum.IntEnum(name, {member: number for number, member in enumerate(members, start)})


class Dims(tuple):
    pass


class Tensor:
    def __init__(self, name: str, shape: tuple[int, ...] = (1,), dtype: Any = None) -> None:
        self.name, self.shape, self.dtype = name, shape, dtype
        self.dynamic_range: tuple[float, float] | None = None
        self.is_network_output = self.is_shape_tensor = False
        self.refuses = False

    def set_dynamic_range(self, low: float, high: float) -> bool:
        if not self.refuses:
            self.dynamic_range = (float(np.float32(low)), float(np.float32(high)))
        return not self.refuses


class Layer:
    def __init__(
        self, name: str, type: Any, inputs: list[Any], outputs: list[Any], precision: Any = None
    ) -> None:
        self.name, self.type, self.metadata = name, type, f"[ONNX Layer: {name}]"
        self._inputs, self._outputs, self.precision = inputs, outputs, precision
        self.output_types: dict[int, Any] = {}

    num_inputs = property(lambda self: len(self._inputs))
    num_outputs = property(lambda self: len(self._outputs))

    def get_input(self, index: int) -> Any:
        return self._inputs[index]

    def get_output(self, index: int) -> Any:
        return self._outputs[index]

    def set_output_type(self, index: int, dtype: Any) -> None:
        self.output_types[index] = dtype


class Network:
    def __init__(self, inputs: list[Tensor], layers: list[Layer]) -> None:
        self._inputs, self._layers, self.marked = inputs, layers, []

    num_inputs = property(lambda self: len(self._inputs))
    num_layers = property(lambda self: len(self._layers))
    num_outputs = property(lambda self: 1 + len(self.marked))

    def get_input(self, index: int) -> Tensor:
        return self._inputs[index]

    def get_layer(self, index: int) -> Layer:
        return self._layers[index]

    def mark_output(self, tensor: Tensor) -> None:
        self.marked.append(tensor.name)


class Cache:
    def __init__(self, content: bytes) -> None:
        self.content = content

    def serialize(self) -> bytes:
        return self.content

    def combine(self, other: Cache, ignore_mismatch: bool) -> bool:
        if other.content not in self.content:
            self.content += other.content
        return True


class Config:
    def __init__(self) -> None:
        self.flags: set[str] = {"TF32"}
        self.builder_optimization_level, self.profiling_verbosity, self.int8_calibrator = (
            3,
            None,
            None,
        )
        self.sources: int | None = None
        self.avg_timing_iterations = 1
        self.cache: Cache | None = None
        self.profiles: list[Any] = []
        self.calibration_profile: Any = None

    def set_flag(self, flag: Any) -> None:
        self.flags.add(flag.name)

    def clear_flag(self, flag: Any) -> None:
        self.flags.discard(flag.name)

    def set_tactic_sources(self, mask: int) -> bool:
        self.sources = mask
        return True

    def create_timing_cache(self, content: bytes) -> Cache | None:
        return None if content.startswith(b"other GPU") else Cache(content)

    def set_timing_cache(self, cache: Cache, ignore_mismatch: bool) -> bool:
        self.cache = cache
        return True

    def get_timing_cache(self) -> Cache | None:
        return self.cache

    def add_optimization_profile(self, profile: Any) -> int:
        self.profiles.append(profile)
        return 0

    def set_calibration_profile(self, profile: Any) -> bool:
        self.calibration_profile = profile
        return True


class Profile:
    def __init__(self) -> None:
        self.shapes: dict[str, Any] = {}

    def set_shape(self, name: str, least: Any, usual: Any, greatest: Any) -> None:
        if len({len(least), len(usual), len(greatest)}) != 1:
            raise ValueError("inconsistent shapes")
        self.shapes[name] = (least, usual, greatest)


def calibrate(
    handle: Any,
    names: list[str],
    cache: bytes = b"TRT-8600-EntropyCalibration2\nimage: 3c010a14\n",
) -> bytes | None:
    """The conversation that TensorRT 8.6 has with a calibrator (data/recordings, traces)."""
    handle.get_batch_size()
    held = handle.read_calibration_cache()
    if held is not None:
        return bytes(held)
    if hasattr(handle, "get_quantile"):
        handle.get_quantile()
        handle.get_regression_cutoff()
        handle.read_histogram_cache(0)
    count = 0
    while handle.get_batch(names) is not None:
        count += 1
    if not count:
        return None
    handle.write_calibration_cache(memoryview(cache))
    return cache


def make_module(make_network: Any, scene: dict[str, Any]) -> types.ModuleType:
    """A module like ``tensorrt``; ``scene`` tells it what to log and whether to fail, and keeps
    what it was given.
    """
    trt = types.ModuleType("tensorrt")
    severity = named("Severity", "INTERNAL_ERROR", "ERROR", "WARNING", "INFO", "VERBOSE")

    class ILogger:
        Severity = severity

        def __init__(self) -> None: ...

    class Builder:
        def __init__(self, logger: Any) -> None:
            self.logger = scene.setdefault("logger", logger)  # a process has one: the first

        def create_network(self, flags: int) -> Network:
            scene["creation_flags"] = flags
            return make_network()

        def create_builder_config(self) -> Config:
            scene["config"] = Config()
            return scene["config"]

        def create_optimization_profile(self) -> Profile:
            return Profile()

        def build_serialized_network(self, network: Network, config: Config) -> bytes | None:
            scene["network"] = network
            if scene.get("during"):
                scene["during"]()
            # what a test makes up for this network: log, fail, cache, inspector, shape, answers
            made = scene["compile"](network, config) if "compile" in scene else {}
            scene.update({key: made[key] for key in ("log", "fail") if key in made})
            if config.int8_calibrator is not None:
                calibrate(
                    config.int8_calibrator,
                    [network.get_input(i).name for i in range(network.num_inputs)],
                    *([made["cache"]] if made.get("cache") else []),
                )
            for letter, text in scene.get("log", []):
                self.logger.log(severity[letter], text)
            if config.cache is not None:
                config.cache.content += b"+timed"
            batch = max(next(iter(network.get_input(0).shape)), 0)  # 0 where it is dynamic
            scene.setdefault("engines", []).append(made)
            number = len(scene["engines"]).to_bytes(4, "little") if made else bytes(4)
            return None if scene.get("fail") else b"ftrt" + bytes([batch]) + number + bytes(55)

    class OnnxParser:
        def __init__(self, network: Network, logger: Any) -> None:
            self.num_errors, self.network = 0, network

        def parse(self, content: bytes, path: str | None = None) -> bool:
            self.num_errors = int(content.startswith(b"broken"))
            if "parse" in scene:
                scene["parse"](self.network, content)
            return not self.num_errors

        def get_error(self, index: int) -> Any:
            return types.SimpleNamespace(desc=lambda: "unknown operator\n Foo", node=lambda: 7)

    class IInt8Calibrator:
        def __init__(self) -> None: ...

    for name in ("EntropyCalibrator2", "EntropyCalibrator", "MinMaxCalibrator", "LegacyCalibrator"):
        setattr(trt, f"IInt8{name}", type(f"IInt8{name}", (IInt8Calibrator,), {}))
    types_ = named(
        "LayerType",
        "CONVOLUTION",
        "POOLING",
        "CONCATENATION",
        "CONSTANT",
        "ELEMENTWISE",
        "QUANTIZE",
    )
    trt.__dict__.update(
        __version__="8.6.1",
        ILogger=ILogger,
        Builder=Builder,
        OnnxParser=OnnxParser,
        Dims=Dims,
        ITensor=Tensor,
        ILayer=type("ILayer", (), {"precision": None}),
        IBuilderConfig=Config,
        LayerType=types_,
        DataType=named("DataType", "FLOAT", "HALF", "INT8", "INT32", "BOOL", "UINT8"),
        BuilderFlag=named(
            "BuilderFlag",
            "FP16",
            "INT8",
            "TF32",
            "OBEY_PRECISION_CONSTRAINTS",
            "PREFER_PRECISION_CONSTRAINTS",
        ),
        TacticSource=named("TacticSource", *TACTIC_SOURCES),
        NetworkDefinitionCreationFlag=named("NetworkDefinitionCreationFlag", "EXPLICIT_BATCH"),
        ProfilingVerbosity=named("ProfilingVerbosity", "LAYER_NAMES_ONLY", "DETAILED"),
        LayerInformationFormat=named("LayerInformationFormat", "ONELINE", "JSON"),
        TensorIOMode=named("TensorIOMode", "NONE", "INPUT", "OUTPUT"),
        TensorFormat=named("TensorFormat", "LINEAR", "CHW32"),
        MemoryPoolType=named("MemoryPoolType", "WORKSPACE"),
        IProfiler=type("IProfiler", (), {"__init__": lambda self: None}),
        **_running(scene),
    )
    return trt


def _running(scene: dict[str, Any]) -> dict[str, Any]:
    """Runtime, engine and context of an engine that takes image [B, 1, 2, 2] and gives logits [B,
    4] = -image.

    The plan's fifth byte is B; 8 where that is 0 or missing.
    """

    class Context:
        def __init__(self, batch: int, made: dict[str, Any]) -> None:
            self.batch, self.made = batch, made
            self.address: dict[str, int] = {}
            self.profiler: Any = None

        def set_input_shape(self, name: str, shape: Any) -> bool:
            return True

        def get_tensor_shape(self, name: str) -> Dims:
            return Dims((self.batch, self.made.get("classes", 4)))

        def set_tensor_address(self, name: str, address: int) -> bool:
            self.address[name] = address
            return True

        def execute_async_v3(self, stream: int) -> bool:
            memory: dict[int, bytearray] = scene["cuda"].memory
            image = np.frombuffer(memory[self.address["image"]], np.float32)
            answer = self.made.get("answer", np.negative)
            memory[self.address["logits"]][:] = answer(image).tobytes()
            if self.profiler is not None:
                for name, ms in self.made.get("times", {"conv + relu": 0.25, "head": 0.5}).items():
                    self.profiler.report_layer_time(name, ms)
            return True

    class Inspector:
        def __init__(self, made: dict[str, Any]) -> None:
            self.made = made

        def get_engine_information(self, format: Any) -> str:
            text = '{"Layers": [], "Bindings": ["image", "logits"]}'
            return str(self.made.get("inspector") or scene.get("inspector", text))

    class Engine:
        num_io_tensors, device_memory_size = 2, 512

        def __init__(self, batch: int, made: dict[str, Any]) -> None:
            self.batch, self.made = batch, made

        def get_tensor_name(self, index: int) -> str:
            return ("image", "logits")[index]

        def get_tensor_shape(self, name: str) -> Dims:
            shape, classes = self.made.get("shape", (1, 2, 2)), self.made.get("classes", 4)
            return Dims({"image": (self.batch, *shape), "logits": (self.batch, classes)}[name])

        def get_tensor_dtype(self, name: str) -> Any:
            return scene["module"].DataType.FLOAT

        def get_tensor_mode(self, name: str) -> Any:
            modes = scene["module"].TensorIOMode
            return modes.INPUT if name == "image" else modes.OUTPUT

        def get_tensor_format(self, name: str) -> Any:
            return scene["module"].TensorFormat.LINEAR

        def create_execution_context(self) -> Context:
            return Context(self.batch, self.made)

        def create_engine_inspector(self) -> Inspector:
            return Inspector(self.made)

    class Runtime:
        def __init__(self, logger: Any) -> None:
            self.logger = scene.setdefault("logger", logger)  # a process has one: the first

        def deserialize_cuda_engine(self, plan: bytes) -> Engine | None:
            if plan.startswith(b"ftrt"):
                number = int.from_bytes(plan[5:9], "little")
                made = scene["engines"][number - 1] if number else {}
                return Engine((plan[4:5] and plan[4]) or 8, made)
            text = "The engine plan file is not compatible with this version of TensorRT, please rebuild."
            self.logger.log(scene["module"].ILogger.Severity.ERROR, text)
            return None

    return {"Runtime": Runtime, "ICudaEngine": Engine, "IExecutionContext": Context}


class FakeCuda:
    """cuda.bindings.runtime, with the memory that is held counted in ``memory``."""

    cudaMemcpyKind = types.SimpleNamespace(
        cudaMemcpyHostToDevice="up", cudaMemcpyDeviceToHost="down"
    )
    cudaStreamCaptureMode = types.SimpleNamespace(cudaStreamCaptureModeThreadLocal=1)

    def __init__(self) -> None:
        self.name = "NVIDIA Fake"
        self.memory: dict[int, bytearray] = {}
        self.largest = 0
        self.clock = 0.0
        self.open: dict[str, int] = {"stream": 0, "event": 0, "graph": 0}

    @staticmethod
    def _status(number: int = 0, name: str = "cudaSuccess") -> Any:
        return enum.IntEnum("cudaError_t", {name: number})(number)

    def cudaGetDeviceCount(self) -> Any:
        return self._status(), 1

    def cudaGetDeviceProperties(self, device: int) -> Any:
        return self._status(), types.SimpleNamespace(name=self.name.encode() + b"\0\0")

    def cudaDriverGetVersion(self) -> Any:
        return self._status(), 12080

    def cudaMalloc(self, size: int) -> Any:
        address = next(ADDRESSES)
        self.memory[address] = bytearray(size)
        self.largest = max(self.largest, sum(map(len, self.memory.values())))
        return self._status(), address

    def cudaFree(self, address: int) -> Any:
        del self.memory[address]
        return (self._status(),)

    def cudaMemcpy(self, target: int, source: int, size: int, kind: str) -> Any:
        if kind == "up":
            self.memory[target][:size] = ctypes.string_at(source, size)
        else:
            ctypes.memmove(target, bytes(self.memory[source][:size]), size)
        return (self._status(),)

    def _make(self, kind: str) -> Any:
        self.open[kind] += 1
        return self._status(), 1

    def _drop(self, kind: str) -> Any:
        self.open[kind] -= 1
        return (self._status(),)

    def cudaStreamCreate(self) -> Any:
        return self._make("stream")

    def cudaStreamDestroy(self, stream: int) -> Any:
        return self._drop("stream")

    def cudaStreamSynchronize(self, stream: int) -> Any:
        return (self._status(),)

    def cudaEventCreate(self) -> Any:
        return self._make("event")

    def cudaEventDestroy(self, event: int) -> Any:
        return self._drop("event")

    def cudaEventRecord(self, event: int, stream: int) -> Any:
        return (self._status(),)

    def cudaEventElapsedTime(self, start: int, end: int) -> Any:
        self.clock += 0.001
        return self._status(), self.clock

    def cudaStreamBeginCapture(self, stream: int, mode: int) -> Any:
        return (self._status(),)

    def cudaStreamEndCapture(self, stream: int) -> Any:
        return self._status(), 5

    def cudaGraphInstantiate(self, graph: int, flags: int) -> Any:
        return self._make("graph")

    def cudaGraphDestroy(self, graph: int) -> Any:
        return (self._status(),)

    def cudaGraphExecDestroy(self, graph: int) -> Any:
        return self._drop("graph")

    def cudaGraphLaunch(self, graph: int, stream: int) -> Any:
        return (self._status(),)


def check_against(real: Any) -> list[str]:
    """Names of this stand-in that the real module does not have."""
    fake = make_module(lambda: None, {})
    pairs = [
        (name, getattr(real, name, None), value)
        for name, value in vars(fake).items()
        if not name.startswith("_")
    ]
    pairs += [
        ("INetworkDefinition", real.INetworkDefinition, Network),
        ("ILayer", real.ILayer, Layer),
    ]
    pairs += [
        ("ITimingCache", real.ITimingCache, Cache),
        ("IOptimizationProfile", real.IOptimizationProfile, Profile),
    ]
    missing = [name for name, theirs, _ in pairs if theirs is None]
    for name, theirs, ours in pairs:
        if theirs is not None and isinstance(ours, type):
            members = ours.__members__ if isinstance(ours, type(enum.IntEnum)) else vars(ours)
            missing += [
                f"{name}.{member}"
                for member in members
                if member[0] != "_" and not hasattr(theirs, member)
            ]
    return missing


if __name__ == "__main__":
    import tensorrt

    sys.exit("\n".join(check_against(tensorrt)) or 0)
