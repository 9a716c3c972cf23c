"""Calibrators: feed TensorRT's four from numpy and keep the whole conversation. (trtexec's random one: noise.py.)

TensorRT asks the calibrator for batches, runs the network in FP32 and works out each tensor's range. What it asked
and got is kept call by call in a CalibrationTrace. Works with TensorRT 8.x and 10.x; 11.0 has no calibrators.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from .batches import Batches, batches_from, check_batch
from .calibrator_handle import BASES, make_handle
from .cuda import Closing, DeviceBuffers
from .errors import CacheError, DataError
from .paths import read_bytes, write_atomic
from .records import CalibrationTrace, CalibratorCall

__all__ = ["BASES", "Calibrator", "make_calibrator"]

Data = npt.NDArray[Any] | Mapping[str, npt.NDArray[Any]] | Iterable[Any]


class Calibrator(Closing):
    """One calibration: hands batches to TensorRT and keeps every call. ``handle`` is what TensorRT is given.

    A context manager: leaving it frees the GPU memory, also after an exception or Ctrl-C. An exception of the data
    (a generator that fails, NaN in a batch) cannot pass through TensorRT: it is kept, calibration ends early, and
    build_engine raises it when TensorRT returns.
    """

    def __init__(
        self,
        algorithm: str,
        batches: Batches,
        *,
        cache: bytes | None = None,
        write_cache_path: str | os.PathLike[str] | None = None,
        quantile: float = 0.999,
        cutoff: float = 1.0,
        progress: Callable[[int, int | None], None] | None = None,
    ) -> None:
        self.algorithm = algorithm
        self.batches = batches
        self.quantile, self.cutoff = quantile, cutoff
        self.cache = cache
        self.written: bytes | None = None
        self.error: BaseException | None = None
        self.stopped: Callable[[], bool] = lambda: False  # build_engine: has the reader pressed Ctrl-C?
        self._write_to = write_cache_path
        self._progress = progress
        self._source: Iterator[dict[str, npt.NDArray[Any]]] | None = None
        self._inputs: dict[str, tuple[tuple[int, ...], str]] | None = None
        self._buffers = DeviceBuffers()
        self._calls: list[CalibratorCall] = []
        self.done = 0
        self.handle: Any = make_handle(self)

    def bind(self, inputs: Mapping[str, tuple[tuple[int, ...], str]]) -> None:
        """Tell which inputs the network has, name -> (shape, dtype); DataError where the data known now do not fit."""
        self._inputs = dict(inputs)
        if self.cache is None and self.batches.first is not None:
            check_batch(self.batches.rename(self.batches.first, tuple(inputs)), self._inputs, 0)

    def trace(self) -> CalibrationTrace:
        """The conversation so far."""
        text = self.written if self.written is not None else self.cache
        note = [CalibratorCall("data", "", self.batches.note)] if self.batches.note else []
        return CalibrationTrace(
            algorithm=self.algorithm,
            batch_size=self.batches.size,
            batches=self.done,
            calls=(*note, *self._calls),
            cache=None if text is None else text.decode("utf-8", "replace"),
            cache_was_read=self.cache is not None and any(c.method == "read_calibration_cache" for c in self._calls),
            inputs=tuple(self._buffers),
        )

    def close(self) -> None:
        """Free the GPU memory and stop the data's generator; further calls do nothing."""
        self._buffers.close()
        source, self._source = self._source, None
        if source is not None and hasattr(source, "close"):
            source.close()

    def finish(self) -> None:
        """After the build: raise what was kept, else write the cache where that was asked for."""
        if self.error is not None:
            raise self.error
        if self._write_to is not None and self.written is not None:
            write_atomic(self._write_to, self.written)

    # What TensorRT calls, through ``handle``.

    def answer(self, method: str, argument: str, work: Callable[[], Any], said: Callable[[Any], str]) -> Any:
        """Do ``work`` for TensorRT: time it, note it, and keep its exception."""
        start = time.perf_counter()
        try:
            value = work()
            answer = said(value)
        except BaseException as error:  # whatever it is, finish() raises it again
            self.error = self.error or error
            value, answer = None, f"{type(error).__name__}: {error}"
        self._calls.append(CalibratorCall(method, argument, answer, (time.perf_counter() - start) * 1e3))
        return value

    def next_batch(self, names: list[str]) -> list[int] | None:
        """The GPU addresses of the next batch's inputs, in the order of ``names``; None after the last."""
        if self.error is not None or self.stopped():
            return None
        if self._source is None:
            self._source = iter(self.batches)
        batch = next(self._source, None)
        if batch is None:
            if not self.done:
                raise DataError("the calibration data hold no full batch", "give at least one batch of images")
            return None
        arrays = self.batches.rename(batch, tuple(names))
        if self._inputs is not None:
            check_batch(arrays, {name: self._inputs[name] for name in names}, self.done)
        for name in names:
            array = np.ascontiguousarray(arrays[name])
            self._buffers.at_least(name, array.nbytes).upload(array)
        self.done += 1
        if self._progress is not None:
            self._progress(self.done, self.batches.count)
        return [int(self._buffers[name]) for name in names]

    def keep_cache(self, content: Any) -> None:
        """Keep the cache that TensorRT hands over (written to a file only by finish)."""
        self.written = bytes(content)


def make_calibrator(
    algorithm: str,
    data: Data,
    batch_size: int = 8,
    *,
    cache: bytes | str | os.PathLike[str] | None = None,
    write_cache_path: str | os.PathLike[str] | None = None,
    quantile: float = 0.999,
    cutoff: float = 1.0,
    progress: Callable[[int, int | None], None] | None = None,
) -> Calibrator:
    """A calibrator that TensorRT can be given, fed from numpy.

    Args:
        algorithm: entropy2, entropy, minmax or legacy.
        data: an array [N, ...] for a network of one input, a dict of them by input name, or an iterable of
            batches (each an array [batch_size, ...] or a dict of them). float32, int32, or what the network's input
            takes; float64 is refused, since converting it in silence would hide a mistake. A last batch that is
            not full is dropped, and the trace says so.
        batch_size: images a batch; the network's batch when it has a fixed one.
        cache: a calibration cache to use in place of the data: bytes, or a file that must exist.
        write_cache_path: where the build writes the cache that TensorRT made, whole or not at all.
        quantile, cutoff: of the legacy calibrator, both in [0, 1].
        progress: called as progress(batches done, batches in all or None) after each batch.

    Raises DataError for data of a wrong type or holding NaN or infinity (arrays at once, an iterable's batches as
    they come, raised by build_engine), CacheError for a cache file that cannot be read, BuildError for TensorRT 11.

    Example (with TensorRT and a GPU)::

        with make_calibrator("entropy2", images, batch_size=8) as calibrator:
            built = build_engine("model.onnx", BuildOptions(int8=True, ranges="entropy2"), calibrator=calibrator)
        print(built.calibration)

    Source: IInt8Calibrator, v8.6.1:include/NvInfer.h; what is called when was measured: data/recordings.
    """
    if algorithm not in BASES:
        raise DataError(f"no calibrator {algorithm!r}", f"one of {', '.join(BASES)}")
    for name, value in (("quantile", quantile), ("cutoff", cutoff)):
        if not 0 <= value <= 1:
            raise DataError(f"{name} is {value}, expected a number from 0 to 1")
    held = cache if cache is None or isinstance(cache, bytes) else read_bytes(cache, CacheError)
    if held == b"":
        raise CacheError("the calibration cache is empty", "leave it out to calibrate with the data")
    batches = batches_from(data, batch_size)
    return Calibrator(
        algorithm,
        batches,
        cache=held,
        write_cache_path=write_cache_path,
        quantile=quantile,
        cutoff=cutoff,
        progress=progress,
    )
