"""A whole network calibrated: every tensor observed, and the cache that TensorRT would write."""

from __future__ import annotations

import math
import os
import sys
import time
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sized
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ..errors import DataError, ModelError
from ..model.data import Data, InputData, for_each_array, input_batches
from ..model.graph import OnnxModel, constants, describe, judge_quantization
from ..model.operators import WEIGHTED
from ..model.read import load_proto
from ..model.run import activation_parts
from ..record import plural
from .cache import ALGORITHMS, CalibrationCache, make_header, new_cache
from .observers import Observer, Threshold, check_algorithm, make_observer
from .tensors import flat_pools, made_of_constants, predict_ties

if TYPE_CHECKING:
    import onnx

__all__ = [
    "Model",
    "NetworkObserver",
    "Progress",
    "calibrate",
    "calibration_notes",
    "data_for",
    "load_model",
    "progress_line",
    "with_shared_scales",
]

Progress = Callable[[int, int | None], None]
"""Called after each batch: how many are done, and of how many (None: unknown)."""
BAR, WIDE = 20, 78  # characters of the bar, and of its line
FEW_ROWS = 32  # fewer say little of what a network meets
HALVES = (10, 16)  # TensorProto.FLOAT16, BFLOAT16
ONLY_FP32 = "export it in FP32: INT8 is made from that"
PATIENCE_SECONDS = 5.0  # work that is done sooner shows no progress


Model = str | os.PathLike[str] | bytes
"""An ONNX file, its bytes, or a Network, which stands for its file."""


class NetworkObserver:
    """One observer a tensor of a network, without the steps of its histogram.

    A tensor that is NaN or infinite in some batch, as an attention mask is, gets no threshold:
    ``infinite`` names it.

    >>> network = NetworkObserver("minmax")
    >>> network.observe({"x": np.array([1.0, -3.0]), "mask": np.array([0.0, -np.inf])})
    >>> network.thresholds()["x"].amax, network.infinite
    (3.0, ('mask',))
    """

    def __init__(self, algorithm: str, **settings: Any) -> None:
        self._algorithm = check_algorithm(algorithm)
        self._settings = {"keep_steps": False, **settings}
        self._observers: dict[str, Observer] = {}
        self._infinite: dict[str, None] = {}

    @property
    def names(self) -> tuple[str, ...]:
        """The tensors that will get a threshold, in the order in which they were first seen."""
        return tuple(self._observers)

    @property
    def infinite(self) -> tuple[str, ...]:
        """The tensors that were NaN or infinite somewhere, in the order in which that was seen."""
        return tuple(self._infinite)

    def observe(self, tensors: Mapping[str, NDArray[Any]]) -> None:
        """One batch: tensor -> its values, any shape; a tensor without values is passed over."""
        for name, values in tensors.items():
            if values.size and name not in self._infinite and name not in self._observers:
                self._observers[name] = make_observer(self._algorithm, **self._settings)
        for name, is_finite in for_each_array(self._observe, tensors).items():
            if not is_finite:
                self._infinite[name] = None
                self._observers.pop(name, None)

    def _observe(self, name: str, values: NDArray[Any]) -> bool:
        """One tensor of a batch; whether it is finite."""
        if not values.size:
            return True
        ends = float(values.min()), float(values.max())  # NaN where one value is NaN
        if not (math.isfinite(ends[0]) and math.isfinite(ends[1])):
            return False
        if name in self._observers:
            is_exact = values.dtype == np.float32
            self._observers[name].observe(values, ends if is_exact else None)
        return True

    def thresholds(self) -> dict[str, Threshold]:
        """Tensor -> its threshold after the batches so far, in the order of :attr:`names`."""
        return {name: observer.result() for name, observer in self._observers.items()}


def calibrate(
    model: Model,
    data: Data | Iterable[Any] | None = None,
    algorithm: str = "entropy2",
    batch: int = 8,
    progress: bool | Progress = True,
    **settings: Any,
) -> CalibrationCache:
    """The calibration cache that TensorRT would write for these data, without TensorRT.

    It has the same scales, shared ones too.

    Args:
        model: the ONNX file, its bytes, or a Network.
        data: a .npy or .npz file, an array [rows, ...], arrays by input name, or an iterable of
            batches; None: the Network's own calibration images. Only one batch's activations are
            held at a time, however many there are.
        algorithm: entropy2, entropy, minmax or legacy; also percentile and mse, which are not
            TensorRT's (their cache carries the header of entropy2).
        batch: rows at a time, where neither the network nor the data fix it. The order and the
            batches matter: the first batch sets the histograms' resolution.
        progress: True: a line on a terminal or in a notebook where it takes long; or a function
            that is called with the batches done and their number.
        settings: the observer's own: ``quantile`` and ``cutoff`` of legacy, ``percentile``.

    Warnings name what makes the ranges worth little: few rows, zeros alone, layers in FP16.
    A tensor that becomes NaN or infinite gets no line, which a warning says; DataError where a
    network's output does. ModelError or DataError in one line for whatever does not fit.

    >>> from trtlearn.model.course_data import load_images, model_path
    >>> images, _ = load_images("calibration")
    >>> cache = calibrate(model_path("resnet"), images[:16], "minmax")
    >>> cache.algorithm, round(cache.entry("image").amax, 3)
    ('MinMaxCalibration', 2.821)

    Source: measured, data/recordings/*/calibration (agree() compares our scales with TensorRT's).
    """
    algorithm = check_algorithm(algorithm)
    proto, facts = load_model(model)
    quantization = judge_quantization(proto)
    if quantization.is_quantized:
        raise ModelError(*quantization.why_not_again())
    half, layers = _half_layers(proto)
    if half == layers and half and all(value.dtype in ("fp16", "bf16") for value in facts.inputs):
        raise ModelError("the network computes in FP16", ONLY_FP32)
    batches = input_batches(facts, data_for(model, data), batch)
    observer = NetworkObserver(algorithm, **settings)
    make_observer(algorithm, **settings)  # wrong settings are found before any work
    for parts in watched(activation_parts(proto, batches), batches, progress, "calibrating"):
        for tensors in parts:
            observer.observe(tensors)
    check_observed(observer, facts)
    if observer.infinite:
        names = ", ".join(observer.infinite)
        what = f"no scale for what becomes NaN or infinite inside the network: {names}"
        warnings.warn(what, stacklevel=2)
    thresholds = with_shared_scales(observer.thresholds(), proto, facts, algorithm)
    scales = {name: threshold.scale for name, threshold in thresholds.items()}
    rows = batches.facts.rows_in_all if isinstance(batches, InputData) else None
    for note in calibration_notes(proto, scales, rows):
        warnings.warn(note, stacklevel=2)
    kind = algorithm if algorithm in ALGORITHMS else "entropy2"
    legacy = {name: settings[name] for name in ("quantile", "cutoff") if name in settings}
    return new_cache(scales, header=make_header(kind, **legacy))


def calibration_notes(
    proto: onnx.ModelProto, scales: Mapping[str, float], rows: int | None = None
) -> list[str]:
    """What makes a calibration worth little: few rows, tensors of zeros, layers in FP16."""
    notes = []
    if rows is not None and rows < FEW_ROWS:
        notes.append(f"calibrated on {plural(rows, 'row')} only: take 100 or more")
    fixed = made_of_constants(proto)
    if zeros := [name for name, scale in scales.items() if not scale and name not in fixed]:
        notes.append(f"the scale is 0, as all values are 0: {', '.join(zeros)}. Check the data")
    half, layers = _half_layers(proto)
    if half:
        share = f"{half} of {plural(layers, 'layer')}"
        notes.append(f"{share} compute in FP16 and get no scale: export the network in FP32")
    return notes


def _half_layers(proto: onnx.ModelProto) -> tuple[int, int]:
    """How many layers have weights of 16 bits, and how many have weights."""
    stored = constants(proto)
    weights = [node.input[1] for node in proto.graph.node if node.op_type in WEIGHTED]
    types = [stored[name].data_type for name in weights if name in stored]
    return sum(dtype in HALVES for dtype in types), len(types)


def data_for(model: Any, data: Any) -> Any:
    """``data``, or the Network's own calibration images; DataError where it has none."""
    if data is not None or not hasattr(type(model), "data"):
        return data
    if (own := model.data) is None:
        raise DataError(f"{model} came without images", "give data=..., or network(..., data=...)")
    return own


def load_model(model: Model | onnx.ModelProto) -> tuple[onnx.ModelProto, OnnxModel]:
    """The ONNX model of a path, bytes or Network, and its description."""
    source: Any = getattr(model, "path", model)
    if hasattr(source, "graph"):
        return source, describe(source)
    if not isinstance(source, (str, bytes, os.PathLike)):
        fix = "give an ONNX file's path or bytes, or a Network"
        raise ModelError(f"the model is a {type(model).__name__}", fix)
    proto = load_proto(source)
    return proto, describe(proto, None if isinstance(source, bytes) else os.fspath(source))


def check_observed(observer: NetworkObserver, facts: OnnxModel) -> None:
    """ModelError where a network had no FP32 tensor to observe, DataError where an output is NaN
    or infinite.
    """
    if not observer.infinite and not observer.names:
        raise ModelError("the network computes no FP32 tensor", ONLY_FP32)
    if any(value.name in observer.infinite for value in facts.outputs):
        raise becomes_infinite(observer.infinite[0])


def becomes_infinite(name: str) -> DataError:
    """The error for data on which the network cannot be calibrated."""
    return DataError(
        f"tensor {name!r} becomes NaN or infinite inside the network",
        "check the network and its input's scale",
    )


def with_shared_scales(
    thresholds: Mapping[str, Threshold], proto: onnx.ModelProto, facts: OnnxModel, algorithm: str
) -> dict[str, Threshold]:
    """Each tensor's threshold; a pooled tensor's is its input's: see :func:`predict_ties`."""
    if algorithm not in ALGORITHMS:
        return dict(thresholds)
    ties = predict_ties(facts, algorithm, flat_pools(proto))
    return {
        name: thresholds.get(ties.source_of(name), threshold)
        for name, threshold in thresholds.items()
    }


def watched(
    items: Iterable[Any], batches: Iterable[Any], progress: bool | Progress, what: str
) -> Iterator[Any]:
    """``items``, one a batch, with ``progress`` called after each; DataError without any."""
    count = len(batches) if isinstance(batches, Sized) else None
    report = progress_line(what) if progress is True else progress or (lambda done, count: None)
    done = 0
    for done, item in enumerate(items, 1):
        yield item
        report(done, count)
    if not done:
        raise DataError("the data hold no batch", "give at least one")


def progress_line(what: str) -> Progress:
    """A :data:`Progress` that writes one line again and again where work takes long, on a terminal
    and in a notebook: a bar, the batches done, and the time left if the others take as long.
    """
    in_notebook = "ipykernel" in sys.modules
    stream = sys.stdout if in_notebook else sys.stderr
    is_seen = in_notebook or stream.isatty()
    begin = time.monotonic()
    last = begin + PATIENCE_SECONDS

    def show(done: int, count: int | None) -> None:
        nonlocal last
        now, is_end = time.monotonic(), done == count
        if is_seen and now > begin + PATIENCE_SECONDS and (is_end or now > last + 0.5):
            last = now
            text = f"{what}: batch {done:,} of {f'{count:,}' if count else 'an unknown number'}"
            bar = f"{'':{WIDE}}\r" if is_end else ""
            if count and not is_end:
                left = (now - begin) / done * (count - done)
                full = "#" * (BAR * done // count)
                bar = f"[{full:<{BAR}}] {left:,.0f} s left, "
            print(f"\r{bar}{text}", end="\n" if is_end else " ", file=stream, flush=True)

    return show
