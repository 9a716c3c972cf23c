"""Calibrators: data in batches, fed to TensorRT's four calibrators from numpy, and every call kept.

Also trtexec's random calibrator: what ``--int8 --calib=FILE`` runs, number for number.
"""

from __future__ import annotations

import math
import os
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sized
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ..calibration.cache import calibrator_word
from ..calibration.observers import fraction
from ..dtypes import NUMPY
from ..engine.records import CalibrationTrace, CalibratorCall
from ..errors import CacheError, DataError
from ..files import read_bytes, write_atomic
from ..model.data import Array, check_array, check_batch_size, check_feed, feeds
from ..record import plural
from .cuda import Closing, DeviceBuffers
from .trt import capabilities, lacks, trt

__all__ = [
    "BASES",
    "Batches",
    "Calibrator",
    "batches_from",
    "make_calibrator",
    "random_calibrator",
    "trtexec_noise",
]


Arrays = dict[str, Array]
Data = Array | Mapping[str, Array] | Iterable[Any]
Inputs = Mapping[str, tuple[tuple[int, ...], str]]
"""A network's inputs: name -> (shape, -1 where any size will do; trtlearn's name of the dtype)."""
ONLY_INPUT = ""
"""The name of the only input of unnamed data, until the network gives its own."""

BASES = {
    "entropy2": "IInt8EntropyCalibrator2",
    "entropy": "IInt8EntropyCalibrator",
    "minmax": "IInt8MinMaxCalibrator",
    "legacy": "IInt8LegacyCalibrator",
}
"""trtlearn's names of the calibrators -> TensorRT's classes."""


# The data, checked and cut into batches


@dataclass(frozen=True)
class Batches:
    """Batches to iterate over as often as the data allow: each a dict of arrays by input name."""

    start: Callable[[], Iterator[Arrays]]
    size: int
    first: Arrays | None = None  # the first batch, where it is known before iterating
    count: int | None = None  # how many, where that is known
    note: str = ""  # what was left out

    def __iter__(self) -> Iterator[Arrays]:
        return self.start()


def _named(value: Any, where: str) -> Arrays:
    """One array, or a dict of them, as a dict of arrays that TensorRT can be given."""
    if not isinstance(value, Mapping):
        value = {ONLY_INPUT: value}
    if not value:
        raise DataError(f"{where} is an empty dict", "give an array for each input of the network")
    arrays: Arrays = {}
    for name, item in value.items():
        what = f"{where}, input {name!r}," if name else where
        array = check_array(item, what)
        if array.ndim == 0 or array.dtype.kind not in "fiub":
            raise DataError(
                f"{what} has dtype {array.dtype} and shape {array.shape}, "
                "expected numbers [batch, ...]"
            )
        if array.dtype == np.float64:
            raise DataError(f"{what} is float64, TensorRT takes float32", "use .astype(np.float32)")
        arrays[str(name)] = array
    return arrays


def batches_from(data: Data, batch_size: int) -> Batches:
    """Batches of ``batch_size`` from an array, a dict of arrays, or an iterable of batches.

    Arrays are checked at once for type, length and NaN; an iterable's batches as they come. A last
    batch that is not full is dropped: ``note`` says so for arrays; an iterable's short batch must
    be its last.

    >>> [batch[""].shape for batch in batches_from(np.zeros((20, 3), np.float32), 8)]
    [(8, 3), (8, 3)]
    """
    check_batch_size(batch_size)
    if isinstance(data, (np.ndarray, Mapping)):
        arrays = _named(data, "the calibration data")
        first = next(feeds(arrays, batch_size))
        count, left = divmod(len(next(iter(arrays.values()))), batch_size)
        images = plural(left, "image does", "images do")
        note = f"the last {images} not fill a batch of {batch_size}: left out" if left else ""
        return Batches(lambda: feeds(arrays, batch_size), batch_size, first, count, note)
    if not isinstance(data, Iterable) or isinstance(data, (str, bytes)):
        problem = f"the calibration data are of type {type(data).__name__}"
        raise DataError(problem, "give an array, a dict of arrays, or batches")
    known = len(data) if isinstance(data, Sized) else None
    return Batches(lambda: _iterable_batches(data, batch_size), batch_size, count=known)


def _iterable_batches(data: Iterable[Any], size: int) -> Iterator[Arrays]:
    """The batches of an iterable, less a short last one."""
    short = ""
    for index, item in enumerate(data):
        if short:
            raise DataError(f"{short} rows: only the last may be short")
        batch = _named(item, f"batch {index}")
        rows = {len(array) for array in batch.values()}
        if rows == {size}:
            yield batch
        elif len(rows) > 1 or max(rows) > size:
            raise DataError(f"batch {index} has {sorted(rows)} rows, expected {size}")
        else:
            short = f"batch {index} has {rows.pop()} of {size}"


def _for_inputs(batch: Arrays, inputs: Mapping[str, tuple[Any, str]], index: int) -> Arrays:
    """``batch`` under the network's input names; DataError where a name, shape or type differs."""
    known = {name: (shape, NUMPY.get(dtype)) for name, (shape, dtype) in inputs.items()}
    if inputs.keys() <= batch.keys():
        batch = {name: batch[name] for name in inputs}  # TensorRT may ask for some of them
    return check_feed(batch.get(ONLY_INPUT, batch), known, f"batch {index}")


# The calibrator


@dataclass(eq=False, repr=False)
class Calibrator(Closing):
    """One calibration: hands batches to TensorRT and keeps every call; TensorRT gets ``handle``.

    A context manager: leaving it frees the GPU memory, also after an exception or Ctrl-C. An
    exception of the data (a generator that fails, NaN in a batch) cannot pass through TensorRT: it
    is kept, calibration ends early, and build_engine raises it when TensorRT returns.
    """

    algorithm: str
    batches: Batches
    cache: bytes | None = None
    write_cache_path: str | os.PathLike[str] | None = None
    quantile: float = 0.999
    cutoff: float = 1.0
    progress: Callable[[int, int | None], None] | None = None

    def __post_init__(self) -> None:
        self.written: bytes | None = None  # the cache that TensorRT handed over
        self.error: BaseException | None = None
        self.stopped: Callable[[], bool] = lambda: False  # build_engine: was Ctrl-C pressed?
        self._source: Iterator[Arrays] | None = None
        self._inputs: Inputs = {}
        self._buffers = DeviceBuffers()
        self._calls: list[CalibratorCall] = []
        self.given = 0  # batches given so far
        self.handle: Any = _tensorrt_object(self)

    def bind(self, inputs: Inputs) -> None:
        """Tell the network's inputs; DataError where the data known now do not fit them."""
        self._inputs = dict(inputs)
        if self.cache is None and self.batches.first is not None:
            _for_inputs(self.batches.first, inputs, 0)

    def trace(self) -> CalibrationTrace:
        """The conversation so far."""
        text = self.written if self.written is not None else self.cache
        note = [CalibratorCall("data", "", self.batches.note)] if self.batches.note else []
        methods = {call.method for call in self._calls}
        return CalibrationTrace(
            algorithm=self.algorithm,
            batch_size=self.batches.size,
            batches=self.given,
            calls=(*note, *self._calls),
            cache=None if text is None else text.decode("utf-8", "replace"),
            cache_was_read=self.cache is not None and "read_calibration_cache" in methods,
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
        if self.write_cache_path is not None and self.written is not None:
            write_atomic(self.write_cache_path, self.written)

    # What TensorRT calls, through ``handle``

    def record_call(
        self,
        method: str,
        argument: str,
        compute: Callable[[], Any],
        describe: Callable[[Any], str] = str,
    ) -> Any:
        """Answer one of TensorRT's calls: note and time it, and keep its exception for finish()."""
        start = time.perf_counter()
        try:
            value = compute()
            answer = describe(value)
        except BaseException as error:
            self.error = self.error or error
            value, answer = None, f"{type(error).__name__}: {error}"
        milliseconds = (time.perf_counter() - start) * 1e3
        self._calls.append(CalibratorCall(method, argument, answer, milliseconds))
        return value

    def next_batch(self, names: list[str]) -> list[int] | None:
        """The GPU addresses of the next batch's inputs in ``names``; None after the last."""
        if self.error is not None or self.stopped():
            return None
        if self._source is None:
            self._source = iter(self.batches)
        batch = next(self._source, None)
        if batch is None:
            if not self.given:
                problem = "the calibration data hold no full batch"
                raise DataError(problem, "give at least one batch of images")
            return None
        wanted = {name: self._inputs.get(name, (None, "any")) for name in names}
        for name, array in _for_inputs(batch, wanted, self.given).items():
            self._buffers.at_least(name, array.nbytes).upload(array)
        self.given += 1
        if self.progress is not None:
            self.progress(self.given, self.batches.count)
        return [int(self._buffers[name]) for name in names]


def _tensorrt_object(calibrator: Calibrator) -> Any:
    """The object of TensorRT's own class that passes each call on to ``calibrator``."""
    if not capabilities().calibrators:
        raise lacks("calibrators: 11.0 removed them")
    base: Any = getattr(trt, BASES[calibrator.algorithm])
    record_call = calibrator.record_call

    class Handle(base):  # type: ignore[misc]  # a class known at run time only
        def __init__(self) -> None:
            base.__init__(self)  # without this TensorRT crashes

        def get_batch_size(self) -> int:
            return int(record_call("get_batch_size", "", lambda: calibrator.batches.size) or 0)

        def get_batch(self, names: list[str]) -> Any:
            asked = list(names)
            return record_call(
                "get_batch",
                ", ".join(asked),
                lambda: calibrator.next_batch(asked),
                lambda batch: "no more" if batch is None else f"batch {calibrator.given - 1}",
            )

        def read_calibration_cache(self) -> Any:
            return record_call(
                "read_calibration_cache",
                "",
                lambda: calibrator.cache,
                lambda cache: "none" if cache is None else f"{len(cache)} bytes",
            )

        def write_calibration_cache(self, cache: Any) -> None:
            def keep() -> None:  # a file gets it only once the build is done: see finish()
                calibrator.written = bytes(cache)

            record_call("write_calibration_cache", f"{len(cache)} bytes", keep, lambda _: "")

    class Legacy(Handle):
        def get_quantile(self) -> float:
            return float(record_call("get_quantile", "", lambda: calibrator.quantile))

        def get_regression_cutoff(self) -> float:
            return float(record_call("get_regression_cutoff", "", lambda: calibrator.cutoff))

        def read_histogram_cache(self, length: int) -> None:
            record_call("read_histogram_cache", "", lambda: None, lambda _: "none")

        def write_histogram_cache(self, ptr: Any, length: int) -> None:
            size = f"{length} bytes"
            record_call("write_histogram_cache", size, lambda: None, lambda _: "not kept")

    return Legacy() if calibrator.algorithm == "legacy" else Handle()


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
        data: an array [N, ...] for a network of one input, a dict of them by input name, or an
            iterable of batches (each an array [batch_size, ...] or a dict of them). float32, int32,
            or what the network's input takes; float64 is refused, since converting it without a
            message would hide a mistake. A last batch that is not full is dropped, and the trace
            says so.
        batch_size: images a batch; the network's batch when it has a fixed one.
        cache: a calibration cache to use in place of the data: bytes, or a file that must exist.
        write_cache_path: where the build writes the cache that TensorRT made, whole or not at all.
        quantile, cutoff: of the legacy calibrator, both in [0, 1].
        progress: called as progress(batches done, batches in all or None) after each batch.

    Returns:
        a Calibrator, to be closed (``with``): build_engine takes it, ``handle`` is for other code.

    Raises DataError for data of a wrong type or holding NaN or infinity (arrays at once, an
    iterable's batches as they come, raised by build_engine), CacheError for a cache file that
    cannot be read, BuildError for TensorRT 11, LiveUnavailable without TensorRT.

    Example (with TensorRT and a GPU)::

        with make_calibrator("entropy2", images, batch_size=8) as calibrator:
            options = BuildOptions(int8=True, ranges="entropy2")
            built = build_engine("model.onnx", options, calibrator=calibrator)
        print(built.calibration)

    Source: IInt8Calibrator, v8.6.1:include/NvInfer.h; what is called when was measured:
    data/recordings.
    """
    algorithm = calibrator_word(algorithm)
    if algorithm not in BASES:
        raise DataError(f"no calibrator {algorithm!r}", f"one of {', '.join(BASES)}")
    if cache is not None and not isinstance(cache, bytes):
        cache = read_bytes(cache, CacheError)
    if cache == b"":
        problem = "the calibration cache is empty"
        raise CacheError(problem, "leave it out to calibrate with the data")
    return Calibrator(
        algorithm,
        batches_from(data, batch_size),
        cache=cache,
        write_cache_path=write_cache_path,
        quantile=fraction(quantile, "quantile"),
        cutoff=fraction(cutoff, "cutoff"),
        progress=progress,
    )


# trtexec's random calibrator


NOISE = "trtexec's noise"


def trtexec_noise(count: int) -> npt.NDArray[np.float32]:
    """The first ``count`` numbers of trtexec's random calibrator: uniform in [-1, 1), float32.

    Always the same: libstdc++'s std::default_random_engine, x' = 16807·x mod (2³¹ - 1) from x = 1,
    as a float32 (x' - 1) / 2³¹ scaled to [-1, 1). Checked against g++ in a test.

    >>> trtexec_noise(3)
    array([-0.9999843, -0.7369244,  0.5112107], dtype=float32)

    Source: v8.6.1:samples/common/sampleEngines.cpp:402-420.
    """
    modulus, factor = 2**31 - 1, 16807
    state = np.array([factor], np.uint64)
    while len(state) < count:
        jump = np.uint64(pow(factor, len(state), modulus))
        state = np.concatenate([state, state * jump % np.uint64(modulus)])
    unit = (state[:count] - np.uint64(1)).astype(np.float32) / np.float32(2**31)
    unit = np.minimum(unit, np.nextafter(np.float32(1), np.float32(0)))
    noise: npt.NDArray[np.float32] = unit * np.float32(2) - np.float32(1)
    return noise


def random_calibrator(
    inputs: Inputs, cache_path: str | os.PathLike[str] | None = None
) -> Calibrator:
    """trtexec's own calibrator for ``--int8 --calib=FILE``: the file ``cache_path`` if it exists,
    else one batch of noise, the same generator for all ``inputs`` in the network's order.

    The batch size that it tells TensorRT is 1 whatever the network's batch, and it never writes a
    cache. Raises CacheError for an empty file: trtexec would hand TensorRT null pointers.

    Source: RndInt8Calibrator, v8.6.1:samples/common/sampleEngines.cpp:362-457.
    """
    if cache_path is not None and Path(cache_path).is_file():
        cache = read_bytes(cache_path, CacheError)
        if not cache:
            raise CacheError(f"{cache_path} is empty", "delete it or name another file")
        return Calibrator("entropy2", Batches(lambda: iter(()), 1, None, 0, NOISE), cache=cache)
    noise = trtexec_noise(sum(math.prod(shape) for shape, _dtype in inputs.values()))
    batch = {}
    for name, (shape, _dtype) in inputs.items():
        part, noise = np.split(noise, [math.prod(shape)])
        batch[name] = part.reshape(shape)
    return Calibrator("entropy2", Batches(lambda: iter([batch]), 1, None, 1, NOISE))
