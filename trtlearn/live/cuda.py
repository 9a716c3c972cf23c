"""CUDA through cuda-python: which GPU is here; buffers, streams, events and graphs that close.

The only file that imports ``cuda``. Both layouts of cuda-python are known:
``cuda.bindings.runtime`` (12.6 and later) and ``cuda.cudart`` (before).
"""

from __future__ import annotations

import importlib
import re
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from ..errors import EngineError, LiveUnavailable

if TYPE_CHECKING:
    from typing_extensions import Self

__all__ = [
    "DeviceBuffer",
    "Event",
    "Graph",
    "Stream",
    "cuda_version",
    "driver_version",
    "gpu_name",
    "require_gpu",
]

_INSTALL = "pip install 'trtlearn[gpu]' on a machine with an NVIDIA GPU, or use the recordings"


@cache
def runtime() -> Any:
    """The CUDA runtime's bindings; LiveUnavailable where cuda-python is not installed."""
    for name in ("cuda.bindings.runtime", "cuda.cudart"):
        try:
            return importlib.import_module(name)
        except ImportError:
            continue
    raise LiveUnavailable("the Python package cuda-python is not installed here", _INSTALL)


def check(answer: tuple[Any, ...], doing: str) -> Any:
    """A cuda-python call's answer without its status; EngineError where ``doing`` failed."""
    status, *values = answer
    if int(status) != 0:
        if status.name == "cudaErrorMemoryAllocation":
            problem = f"the GPU has no memory left for {doing}"
            raise EngineError(problem, "use a smaller batch, or close other programs")
        problem = f"{doing} failed: {status.name}"
        raise EngineError(problem, "see `nvidia-smi`; restart Python after a GPU error")
    return values[0] if len(values) == 1 else tuple(values)


def require_gpu() -> None:
    """LiveUnavailable, which names the missing piece: cuda-python, a driver or a GPU."""
    cudart = runtime()
    try:
        status, count = cudart.cudaGetDeviceCount()
    except RuntimeError as problem:  # cuda-python: libcuda.so.1 is not there
        fix = "install the driver, or use the recordings"
        raise LiveUnavailable(f"no NVIDIA driver here ({problem})", fix) from None
    if int(status) != 0 or not count:
        fix = "check `nvidia-smi`, or use the recordings"
        raise LiveUnavailable(f"no NVIDIA GPU that CUDA can use ({status.name})", fix)


def gpu_name() -> str | None:
    """The name of GPU 0, for example "NVIDIA H200"; None where there is no GPU."""
    try:
        require_gpu()
    except LiveUnavailable:
        return None
    name = check(runtime().cudaGetDeviceProperties(0), "asking for the GPU's name").name
    return name.decode(errors="replace").strip("\0 ") if isinstance(name, bytes) else str(name)


def driver_version() -> str | None:
    """The NVIDIA driver's version, for example "550.54.15"; None where it does not say."""
    try:
        text = Path("/proc/driver/nvidia/version").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None
    found = re.search(r"(?:Kernel Module|for x86_64|for aarch64)\s+(\d+(?:\.\d+)+)", text)
    return found and found[1]


def cuda_version() -> str | None:
    """The newest CUDA that the driver supports, for example "12.8"; None without a driver."""
    try:
        require_gpu()
    except LiveUnavailable:
        return None
    number = int(check(runtime().cudaDriverGetVersion(), "asking for the CUDA version"))
    return f"{number // 1000}.{number % 1000 // 10}"


class Closing:
    """A context manager that gives back what it holds, also after an exception."""

    def close(self) -> None:
        """Give it back; further calls do nothing."""
        raise NotImplementedError

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class _Handle(Closing):
    """Something of CUDA's that must be given back once."""

    def __init__(self, value: Any, release: Callable[[Any], Any]) -> None:
        self.value: Any = value
        self._release = release

    def close(self) -> None:
        value, self.value = self.value, None
        if value is not None:
            self._release(value)


class Stream(_Handle):
    """A CUDA stream; ``int(stream)`` is its handle."""

    def __init__(self) -> None:
        stream = check(runtime().cudaStreamCreate(), "making a stream")
        super().__init__(stream, runtime().cudaStreamDestroy)

    def __int__(self) -> int:
        return int(self.value)

    def synchronize(self) -> None:
        """Wait until all that was put into the stream is done."""
        check(runtime().cudaStreamSynchronize(self.value), "running on the GPU")


class Event(_Handle):
    """A point in a stream's time."""

    def __init__(self) -> None:
        event = check(runtime().cudaEventCreate(), "making an event")
        super().__init__(event, runtime().cudaEventDestroy)

    def record(self, stream: Stream) -> None:
        """Put this event into the stream."""
        check(runtime().cudaEventRecord(self.value, stream.value), "recording an event")

    def milliseconds_since(self, start: Event) -> float:
        """Time from ``start`` to this event, both done (resolution about 0.5 µs)."""
        return float(check(runtime().cudaEventElapsedTime(start.value, self.value), "timing"))


class DeviceBuffer(_Handle):
    """``size_bytes`` of GPU memory; ``int(buffer)`` is its address."""

    def __init__(self, size_bytes: int) -> None:
        cudart = runtime()
        self.size_bytes = max(int(size_bytes), 1)
        memory = check(cudart.cudaMalloc(self.size_bytes), f"{self.size_bytes:,} bytes")
        super().__init__(memory, cudart.cudaFree)

    def __int__(self) -> int:
        return int(self.value)

    def upload(self, array: npt.NDArray[Any]) -> None:
        """Copy a C-contiguous array to the GPU (waits until the array may be changed again)."""
        if array.nbytes > self.size_bytes:
            problem = f"{array.nbytes:,} bytes do not fit into a buffer of {self.size_bytes:,}"
            raise EngineError(problem)
        cudart = runtime()
        up = cudart.cudaMemcpyKind.cudaMemcpyHostToDevice
        copied = cudart.cudaMemcpy(self.value, array.ctypes.data, array.nbytes, up)
        check(copied, "copying to the GPU")

    def download(self, shape: tuple[int, ...], dtype: npt.DTypeLike) -> npt.NDArray[Any]:
        """A new array of ``shape`` and ``dtype`` with the buffer's first bytes."""
        cudart, array = runtime(), np.empty(shape, dtype)
        down = cudart.cudaMemcpyKind.cudaMemcpyDeviceToHost
        copied = cudart.cudaMemcpy(array.ctypes.data, self.value, array.nbytes, down)
        check(copied, "copying from the GPU")
        return array


class DeviceBuffers(dict[str, DeviceBuffer]):
    """Buffers by tensor name."""

    def at_least(self, name: str, size_bytes: int) -> DeviceBuffer:
        """The buffer of ``name``, made again where it is missing or too small."""
        held = self.get(name)
        if held is None or held.size_bytes < size_bytes:
            if held is not None:
                held.close()
            self[name] = held = DeviceBuffer(size_bytes)
        return held

    def close(self) -> None:
        """Free them all; further calls do nothing."""
        while self:
            self.popitem()[1].close()


class Graph(_Handle):
    """What ``work`` puts into ``stream``, captured once, to be launched again and again."""

    def __init__(self, stream: Stream, work: Callable[[], None]) -> None:
        cudart = runtime()
        mode = cudart.cudaStreamCaptureMode.cudaStreamCaptureModeThreadLocal
        check(cudart.cudaStreamBeginCapture(stream.value, mode), "beginning a CUDA graph")
        try:
            work()
        finally:
            graph = check(cudart.cudaStreamEndCapture(stream.value), "capturing a CUDA graph")
        try:
            made = check(cudart.cudaGraphInstantiate(graph, 0), "instantiating a CUDA graph")
        finally:
            cudart.cudaGraphDestroy(graph)
        super().__init__(made, cudart.cudaGraphExecDestroy)

    def launch(self, stream: Stream) -> None:
        """Run all of it once."""
        check(runtime().cudaGraphLaunch(self.value, stream.value), "launching a CUDA graph")
