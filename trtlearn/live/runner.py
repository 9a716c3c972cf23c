"""Run an engine on numpy arrays, time it with CUDA events, ask it where its time goes."""

from __future__ import annotations

import contextlib
import functools
import math
import os
from collections.abc import Callable, Mapping

import numpy as np

from ..dtypes import NUMPY
from ..engine.records import Timing
from ..errors import DataError, EngineError
from ..files import plan_in, read_bytes, recognize
from ..model.data import Array, check_feed
from .cuda import Closing, DeviceBuffers, Event, Graph, Stream
from .trt import Log, dtype_name, live, logger, shape_of, trt

__all__ = ["Runner", "summarize"]

Arrays = Mapping[str, Array]


def summarize(
    times_ms: list[float],
    warmup: int,
    batch: int,
    method: str,
    layers_ms: dict[str, float] | None = None,
) -> Timing:
    """Median and 5th and 95th percentile of latencies in milliseconds.

    >>> summarize([1.0, 2.0, 9.0], 0, 8, "cuda events").median_ms
    2.0
    """
    low, middle, high = (float(value) for value in np.percentile(times_ms, [5, 50, 95]))
    return Timing(middle, low, high, len(times_ms), warmup, batch, method, layers_ms or {})


class Runner(Closing):
    """An engine ready to run, with a GPU buffer for each input and output; closing frees all.

    Args:
        plan: the plan's bytes, or its file (Ultralytics' .engine too).

    Raises EngineError for a plan of another TensorRT version or GPU, or for bytes that are no plan.

    Example (with TensorRT and a GPU)::

        with Runner("model.plan") as runner:
            logits = runner.run({"image": images})["logits"]
            print(runner.time({"image": images}))
    """

    def __init__(self, plan: bytes | str | os.PathLike[str]) -> None:
        live()
        content = plan_in(plan if isinstance(plan, bytes) else read_bytes(plan, EngineError))
        self._stack = contextlib.ExitStack()
        self._buffers = DeviceBuffers()
        self._log = Log()
        with self._log:
            self._runtime: trt.Runtime | None = trt.Runtime(logger())
            self._engine: trt.ICudaEngine | None = (
                self._runtime.deserialize_cuda_engine(content) if content else None
            )
        if self._engine is None:
            said = next(iter(self._log.errors()), "no reason given")
            other = recognize(content)
            what = f"; it is {other.words}" if other and other.kind != "plan" else ""
            problem = f"the plan does not load ({len(content):,} bytes{what}; TensorRT: {said})"
            fix = "build the engine again with the TensorRT and the GPU that are here"
            raise EngineError(problem, fix)
        self._context: trt.IExecutionContext | None = self._engine.create_execution_context()
        if self._context is None:
            raise EngineError(
                "the engine does not start: no GPU memory for it", "close other programs on the GPU"
            )
        self._stream: Stream = self._stack.enter_context(Stream())
        self.inputs: dict[str, tuple[tuple[int, ...], str]] = {}
        self._outputs: dict[str, str] = {}  # name -> dtype
        for index in range(self._engine.num_io_tensors):
            name = self._engine.get_tensor_name(index)
            dtype = dtype_name(self._engine.get_tensor_dtype(name)) or "unknown"
            if self._engine.get_tensor_mode(name) == trt.TensorIOMode.INPUT:
                self.inputs[name] = (shape_of(self._engine.get_tensor_shape(name)), dtype)
            else:
                self._outputs[name] = dtype
            if self._engine.get_tensor_format(name) != trt.TensorFormat.LINEAR:
                problem = f"tensor {name!r} has a packed format, unknown to numpy"
                raise EngineError(problem, "build with linear I/O")
        self.outputs = tuple(self._outputs)

    @property
    def device_memory_bytes(self) -> int:
        """GPU memory that the engine needs for activations while it runs, without weights."""
        for name in ("device_memory_size_v2", "device_memory_size"):
            if hasattr(self._engine, name):
                return int(getattr(self._engine, name))
        raise EngineError("this TensorRT does not say how much memory an engine needs")

    def close(self) -> None:
        """Free all GPU memory; further calls do nothing."""
        self._buffers.close()
        self._context = self._engine = self._runtime = None  # in this order: each needs the next
        self._stack.close()

    def inspect_text(self) -> str:
        """The inspector's JSON of the whole engine, which read_engine understands."""
        inspector = self._open()[0].create_engine_inspector()
        return str(inspector.get_engine_information(trt.LayerInformationFormat.JSON))

    def _open(self) -> tuple[trt.ICudaEngine, trt.IExecutionContext]:
        if self._engine is None or self._context is None:
            problem = "this runner is closed"
            raise EngineError(problem, "make a new one, or keep the work inside the with block")
        return self._engine, self._context

    def _load(self, arrays: Arrays) -> dict[str, tuple[int, ...]]:
        """Check and upload the inputs, and bind every buffer; the outputs' shapes."""
        _engine, context = self._open()
        inputs = {name: (size, NUMPY.get(dtype)) for name, (size, dtype) in self.inputs.items()}
        for name, array in check_feed(arrays, inputs, "the batch").items():
            if not context.set_input_shape(name, array.shape):
                raise DataError(
                    f"input {name!r} of shape {array.shape} is outside the engine's profile"
                )
            self._buffers.at_least(name, array.nbytes).upload(array)
        shapes = {}
        for name, dtype in self._outputs.items():
            shape = shape_of(context.get_tensor_shape(name))
            if -1 in shape:
                problem = f"the shape of output {name!r} depends on the data: {shape}"
                raise EngineError(problem, "not supported here")
            if dtype not in NUMPY:
                problem = f"output {name!r} is {dtype}, unknown to numpy"
                raise EngineError(problem, "cast it in the model")
            self._buffers.at_least(name, math.prod(shape) * np.dtype(NUMPY[dtype]).itemsize)
            shapes[name] = shape
        for name, buffer in self._buffers.items():
            if not context.set_tensor_address(name, int(buffer)):
                raise EngineError(f"TensorRT refused the buffer of {name!r}")
        return shapes

    def _enqueue(self) -> None:
        if not self._open()[1].execute_async_v3(int(self._stream)):
            raise EngineError(
                f"the engine did not run: {next(iter(self._log.errors()), 'no reason given')}",
                "build it again here",
            )

    def run(self, arrays: Arrays) -> dict[str, Array]:
        """Run once: numpy arrays by input name in, new arrays by output name out.

        Raises DataError for an input that is missing, unknown, of another shape or dtype, or holds
        NaN or infinity.
        """
        with self._log:
            shapes = self._load(arrays)
            self._enqueue()
        self._stream.synchronize()
        return {
            name: self._buffers[name].download(shape, NUMPY[self._outputs[name]])
            for name, shape in shapes.items()
        }

    def time(
        self, arrays: Arrays, warmup: int = 50, runs: int = 200, graph: bool = False
    ) -> Timing:
        """Latency on the GPU without copies: each run between two CUDA events.

        Args:
            arrays: the inputs, uploaded once.
            warmup, runs: how many runs go before, and how many are measured.
            graph: replay a CUDA graph, which takes the CPU's launching out of the measurement.

        The runs are put into one stream without waiting in between (trtexec has two under way at
        most); small engines are then bound by launching, which ``graph`` shows. Resolution of an
        event: about 0.5 µs.
        """
        if runs < 1 or warmup < 0:
            raise DataError(f"runs={runs}, warmup={warmup}: expected at least 1 and 0")
        with self._log, contextlib.ExitStack() as stack:
            self._load(arrays)
            self._enqueue()  # the first run also ends the loading, which a graph must not capture
            self._stream.synchronize()
            once: Callable[[], None] = self._enqueue
            if graph:
                captured = stack.enter_context(Graph(self._stream, self._enqueue))
                once = functools.partial(captured.launch, self._stream)
            for _ in range(warmup):
                once()
            self._stream.synchronize()
            starts = [stack.enter_context(Event()) for _ in range(runs)]
            ends = [stack.enter_context(Event()) for _ in range(runs)]
            for start, end in zip(starts, ends, strict=True):
                start.record(self._stream)
                once()
                end.record(self._stream)
            self._stream.synchronize()
            times = [end.milliseconds_since(start) for start, end in zip(starts, ends, strict=True)]
        method = "CUDA events around a CUDA graph's replay" if graph else "CUDA events"
        return summarize(times, warmup, self._rows(arrays), method)

    def _rows(self, arrays: Arrays) -> int:
        first = next(iter(arrays.values()))
        return int(first.shape[0]) if first.ndim else 1

    def profile(self, arrays: Arrays, warmup: int = 10, runs: int = 50) -> Timing:
        """Milliseconds of each engine layer, from TensorRT's own profiler.

        ``layers_ms`` holds each layer's median in the order in which it runs; ``median_ms`` is of
        the sums over the layers. Profiling puts a timer around each layer, so the sum is above what
        time() gives.
        """
        self._load(arrays)
        seen: list[dict[str, float]] = []

        class Profiler(trt.IProfiler):  # type: ignore[misc, unused-ignore]  # no stubs
            def __init__(self) -> None:
                trt.IProfiler.__init__(self)

            def report_layer_time(self, layer_name: str, ms: float) -> None:
                if seen:
                    seen[-1][layer_name] = seen[-1].get(layer_name, 0.0) + ms

        context = self._context
        profiler = Profiler()
        engine, _ = self._open()
        self._context = engine.create_execution_context()  # a profiler cannot be taken off again
        try:
            self._context.profiler = profiler
            with self._log:
                self._load(arrays)
                for index in range(warmup + runs):
                    if index >= warmup:
                        seen.append({})
                    self._enqueue()
                    self._stream.synchronize()
        finally:
            self._context = context
        totals = [sum(layers.values()) for layers in seen]
        layers = {}
        for name in seen[0]:
            layers[name] = float(np.median([times.get(name, 0.0) for times in seen]))
        method = "TensorRT's profiler, layer by layer"
        return summarize(totals, warmup, self._rows(arrays), method, layers)
