"""Does each range fit its data? A cache's ranges beside what the network's tensors hold."""

from __future__ import annotations

import math
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import DataError
from ..int8.quant import scale_from_amax
from ..model.data import Data, InputData, for_each_array, input_batches
from ..model.run import activation_parts
from ..record import Record, Table, plural
from .cache import CalibrationCache, read_cache
from .histogram import CHUNK
from .mixed import MixedMeter, MixedRange
from .names import stale_and_internal
from .network import Model, Progress, data_for, load_model, watched
from .ranges import Ranges, amax_by_tensor
from .tensors import flat_pools, predict_ties

__all__ = ["CODES", "POOR_DB", "FitReport", "RangeMeter", "TensorFit", "fit", "fit_tensors"]

CODES = 255
"""The INT8 codes of a range ±amax: -127 to 127. (-128 stands for values beyond it.)"""
POOR_DB = 15.0
"""A range with a lower SQNR needs a look: its RMS error is over a sixth of the signal."""
FAR_OFF = 20.0
"""An input whose values are so many times as large as its range, or as small, is other data."""
MOST = 0.999  # of the values: the share that "most" of a tensor stands for
MAGNITUDES = 1 << 13  # of a float32: its exponent and the first five bits behind the comma


@dataclass(frozen=True)
class TensorFit(Record):
    """One tensor: its range ±amax beside its values.

    ``clipped`` is the share of values that lie beyond the code 127 by more than half a step;
    ``codes`` how many of the 255 codes -127 to 127 the values reach; ``sqnr_db = 10 log10(sum x^2 /
    sum error^2)``, None where all values are 0 or none has an error; ``most`` a magnitude that 99.9
    % of the values do not exceed (to half a step, or 1/32 where it is clipped).
    """

    name: str
    amax: float
    scale: float
    largest: float  # max|x|: what the data need
    most: float
    clipped: float
    codes: int
    sqnr_db: float | None
    verdict: str  # fits, too small, too large, outliers, all 0
    note: str = ""

    @property
    def advice(self) -> str:
        """What to do, in a few words; empty where the range fits."""
        if self.verdict == "too small":
            return f"set ±{self.largest:.4g}, or calibrate with minmax"
        if self.verdict == "too large":
            return f"set ±{self.largest:.4g}: the range is {self.times} times as wide as the data"
        if self.verdict == "outliers":
            return (
                f"99.9 % of the values lie within ±{self.most:.3g}: "
                "find the large ones, or keep its layers in floating point"
            )
        return ""

    @property
    def is_far_off(self) -> bool:
        """Whether range and data differ by a factor: other data, or not normalised alike."""
        return max(self.largest, self.amax) > FAR_OFF * min(self.largest, self.amax) > 0

    @property
    def times(self) -> str:
        """How many times as wide as the data the range is."""
        return f"{self.amax / self.largest:.3g}" if self.largest else "infinitely many"


@dataclass(frozen=True)
class FitReport(Table[TensorFit]):
    """Every range beside its tensor's data, the worst first: that with the lowest SQNR.

    ``stale``: names with a range that the model does not have (TensorRT ignores them);
    ``internal``: names that TensorRT made for tensors inside an ONNX node; ``missing``: FP32
    tensors of the model without a range; ``mixed``: tensors whose one range serves values of very
    different size, such as a detector's boxes and scores; ``inputs``: the network's inputs.
    """

    tensors: tuple[TensorFit, ...]
    batches: int
    batch: int | None = None  # rows; None: as the data came
    stale: tuple[str, ...] = ()
    internal: tuple[str, ...] = ()
    missing: tuple[str, ...] = ()
    mixed: tuple[MixedRange, ...] = ()
    inputs: tuple[str, ...] = ()

    @property
    def open_inputs(self) -> tuple[str, ...]:
        """The network's inputs that have no range."""
        return tuple(name for name in self.inputs if name in self.missing)

    @property
    def other_inputs(self) -> tuple[TensorFit, ...]:
        """The inputs whose data and range differ by a factor: they are not normalised alike."""
        return tuple(one for one in self.poor if one.name in self.inputs and one.is_far_off)

    @property
    def poor(self) -> tuple[TensorFit, ...]:
        """The tensors whose range does not fit, the worst first; none where all data are 0."""
        return tuple(one for one in self.tensors if one.advice and not self.only_zeros)

    @property
    def only_zeros(self) -> bool:
        """Whether the inputs' data are all 0, or without inputs all data: they tell nothing."""
        inputs = [tensor for tensor in self.tensors if tensor.name in self.inputs]
        return all(tensor.verdict == "all 0" for tensor in inputs or self.tensors)

    @property
    def all_fit(self) -> bool:
        """Whether every input has a range, and every tensor's range fits, with all its parts."""
        return not (self.poor or self.mixed or self.open_inputs or self.only_zeros)

    def summary(self) -> str:
        text = "each fits its tensor as a whole" if self.mixed else "all fit the data"
        if self.only_zeros:
            text = "the data are only zeros, they tell nothing. Give data as the network meets them"
        if self.poor:
            verdicts = [tensor.verdict for tensor in self.poor]
            first = next(iter(self.other_inputs or self.poor))
            advice = "check that the data are normalised" if self.other_inputs else first.advice
            kinds = [f"{verdicts.count(kind)} {kind}" for kind in dict.fromkeys(verdicts)]
            numbers = f"clips {100 * first.clipped:.3g} %, {first.codes} of {CODES} codes used"
            text = (
                f"{', '.join(kinds)}. Look first at {first.name}: ±{first.amax:.4g} for "
                f"values up to {first.largest:.4g} ({numbers}). Try: {advice}"
            )
        if self.mixed and not self.only_zeros:
            text += f". {self.mixed[0].summary()}. Try: {self.mixed[0].advice}"
            names = ", ".join(one.tensor for one in self.mixed[1:])
            text += f" (likewise {names})" if names else ""
        inner = tuple(name for name in self.missing if name not in self.inputs)
        if inner:
            text += f". {plural(len(inner), 'tensor')} without a range: {_first(inner)}"
        if self.stale:
            text += f". {plural(len(self.stale), 'name')} not in the model: {_first(self.stale)}"
        if self.open_inputs:
            names = ", ".join(self.open_inputs)
            count = plural(len(self.open_inputs), "input")
            text = f"{count} without a range: {names}. The others: {text}"
        return f"{plural(len(self.tensors), 'range')}: {text}"

    def rows(self) -> list[dict[str, Any]]:
        mixed = {
            one.tensor: f"mixes ranges: {plural(one.codes, 'code')} left" for one in self.mixed
        }
        return [
            {
                "tensor": tensor.name,
                "verdict": tensor.verdict,
                "SQNR dB": "no error" if tensor.sqnr_db is None else round(tensor.sqnr_db, 1),
                "range": f"±{tensor.amax:.4g}",
                "largest |x|": tensor.largest,
                "99.9 % below": tensor.most,
                "clipped %": 100 * tensor.clipped,
                f"codes of {CODES}": tensor.codes,
                "note": mixed.get(tensor.name) or tensor.note or tensor.advice,
            }
            for tensor in self.tensors
        ]


def _first(names: tuple[str, ...]) -> str:
    """The first name, and whether others follow."""
    return names[0] + (", …" if names[1:] else "")


class RangeMeter:
    """What one range does to a tensor's values, batch by batch; memory independent of their number.

    >>> meter = RangeMeter(1.0)
    >>> meter.observe(np.linspace(-2, 2, 1001))
    >>> found = meter.result("x")
    >>> found.verdict, found.largest, round(found.clipped, 3), found.codes
    ('too small', 2.0, 0.5, 255)
    """

    def __init__(self, amax: float, scale: float | None = None) -> None:
        self.amax = amax
        self.scale = float(scale_from_amax(amax)) if scale is None else scale
        self.values, self.largest, self.clipped = 0, 0.0, 0
        self.signal, self.noise, self.clip_error = 0.0, 0.0, 0.0  # sums of squares, in steps
        self._codes = np.zeros(256, np.int64)  # counts; a code below 0 stands at 256 + code
        self._beyond = np.zeros(MAGNITUDES, np.int64)  # counts of the clipped values' magnitudes

    def observe(self, batch: NDArray[Any]) -> None:
        """One batch of values, any shape; DataError for NaN and infinity."""
        values = np.asarray(batch, np.float32).ravel()
        for start in range(0, values.size, CHUNK):
            self._observe(values[start : start + CHUNK])

    def _observe(self, values: NDArray[np.float32]) -> None:
        largest = max(float(values.max()), -float(values.min()))
        if not math.isfinite(largest):
            fix = "check the network and its input's scale"
            raise DataError("NaN or infinity among the values", fix)
        self.values += values.size
        self.largest = max(self.largest, largest)
        steps = self._in_steps(values, largest)
        codes = np.rint(steps)
        if largest > 127.4 * self.scale:  # beyond 127.5 steps but for rounding
            beyond = np.abs(steps)
            clipped = np.flatnonzero(beyond > 127.5)
            self.clipped += clipped.size
            beyond -= 127
            np.maximum(beyond, 0, out=beyond)
            self.clip_error += float(np.dot(beyond, beyond))
            magnitudes = np.abs(values[clipped]).view(np.int32) >> 18
            self._beyond += np.bincount(magnitudes, minlength=MAGNITUDES)
            np.clip(codes, -127, 127, out=codes)
        self.signal += float(np.dot(steps, steps))
        steps -= codes
        self.noise += float(np.dot(steps, steps))
        self._codes += np.bincount(codes.astype(np.int8).view(np.uint8), minlength=256)

    def _in_steps(self, values: NDArray[np.float32], largest: float) -> NDArray[Any]:
        """The values divided by the scale, without overflow; a scale of 0 makes all too large."""
        inverse = 1 / self.scale if self.scale else math.inf
        if inverse < 1e30 and largest * inverse < 1e15:
            return values * np.float32(inverse)
        return values.astype(np.float64) * min(inverse, 1e60)

    def result(self, name: str, note: str = "") -> TensorFit:
        """What the batches so far show."""
        sqnr_db = 10 * math.log10(self.signal / self.noise) if self.signal and self.noise else None
        share = self.clipped / max(1, self.values)
        codes = int(np.count_nonzero(self._codes))
        most, verdict = self._most(), self._verdict(sqnr_db)
        seen = (self.largest, most, share, codes, sqnr_db)
        return TensorFit(name, self.amax, self.scale, *seen, verdict, note)

    def _most(self) -> float:
        """A magnitude that 99.9 % of the values do not exceed; see :class:`TensorFit`."""
        if 1000 * self.clipped <= self.values:
            steps = self._codes[:128].copy()
            steps[1:] += self._codes[:-128:-1]
            code = int(np.searchsorted(np.cumsum(steps), MOST * self.values))
            return min((code + 0.5) * self.scale, self.largest)
        running = self.values - self.clipped + np.cumsum(self._beyond)
        place = int(np.searchsorted(running, MOST * self.values))
        edge = np.array([(place + 1) << 18], np.int32).view(np.float32)[0]
        return min(float(edge), self.largest)

    def _verdict(self, sqnr_db: float | None) -> str:
        if not self.largest:
            return "all 0"
        if sqnr_db is None or sqnr_db >= POOR_DB:
            return "fits"
        if 2 * self.clip_error > self.noise:  # clipping is most of it
            return "too small"
        return "too large" if self.amax > 2 * self.largest else "outliers"


def fit(
    cache: Ranges,
    model: Model,
    data: Data | Iterable[Any] | None = None,
    batch: int = 8,
    progress: bool | Progress = True,
) -> FitReport:
    """Whether each range of ``cache`` fits what the network's tensors hold on ``data``: the worst
    first.

    Args:
        cache: a calibration cache or its file, {tensor: amax}, or what set_ranges or a build
            reports.
        model, data, batch, progress: as for ``tl.calibrate``. Each batch is looked at and
            forgotten.

    Activations come from ONNX Runtime on the CPU in FP32. Order: by SQNR, the ratio of a tensor's
    values to the error that INT8 with this range makes of them, clipping and rounding together.
    Raises CacheError, DataError (also where a tensor with a range becomes NaN or infinite),
    ModelError.

    >>> from trtlearn.model.course_data import load_images, model_path
    >>> images = load_images("test")[0][:64]
    >>> report = fit({"image": 0.4242, "stem": 4.0}, model_path("resnet"), images)
    >>> report.tensors[0].name, report.tensors[0].verdict, report.tensors[0].codes
    ('image', 'too small', 68)
    """
    proto, facts = load_model(model)
    ranges = read_cache(cache) if isinstance(cache, (str, os.PathLike)) else cache
    meters = _meters(ranges)
    batches = input_batches(facts, data_for(model, data), batch)
    kind = ranges.kind if isinstance(ranges, CalibrationCache) else None
    ties = predict_ties(facts, kind, flat_pools(proto)).ties if kind else ()
    notes = {tie.tensor: f"shares the range of {tie.source}" for tie in ties}
    parts = MixedMeter(proto)
    seen: dict[str, None] = {}
    done = 0
    for pieces in watched(activation_parts(proto, batches), batches, progress, "comparing"):
        for tensors in pieces:
            seen |= dict.fromkeys(tensors)
            _observe(meters, tensors)
            parts.observe(tensors)
        done += 1
    unknown = [name for name in meters if name not in seen]
    stale, internal = stale_and_internal(unknown, facts)
    return FitReport(
        _results(meters, seen, notes),
        done,
        batches.facts.batch if isinstance(batches, InputData) else None,
        stale,
        internal,
        tuple(name for name in seen if name not in meters),
        parts.results({name: meter.scale for name, meter in meters.items()}),
        tuple(value.name for value in facts.inputs),
    )


def fit_tensors(ranges: Ranges, tensors: Mapping[str, NDArray[Any]]) -> FitReport:
    """The same for tensors at hand: name -> values of any shape.

    >>> fit_tensors({"x": 4.0, "y": 1.0}, {"x": np.ones(3)}).stale
    ('y',)
    """
    meters = _meters(ranges)
    arrays = {name: np.asarray(values, np.float32) for name, values in tensors.items()}
    _observe(meters, arrays)
    stale = tuple(name for name in meters if name not in arrays)
    missing = tuple(name for name in arrays if name not in meters)
    return FitReport(_results(meters, arrays, {}), 1, None, stale, (), missing)


def _meters(ranges: Ranges) -> dict[str, RangeMeter]:
    exact = ranges if isinstance(ranges, CalibrationCache) else {}
    amax = amax_by_tensor(ranges)
    for name, value in amax.items():
        if not (math.isfinite(value) and value >= 0):
            raise DataError(f"the range of {name!r} is ±{value}, expected a finite amax from 0")
    if not amax:
        fix = "give a cache that has a line, or {tensor: amax}"
        raise DataError("there is no range to compare", fix)
    return {name: RangeMeter(value, exact.get(name)) for name, value in amax.items()}


def _observe(meters: Mapping[str, RangeMeter], tensors: Mapping[str, NDArray[Any]]) -> None:
    def observe(name: str, values: NDArray[Any]) -> None:
        try:
            meters[name].observe(values)
        except DataError as problem:
            raise DataError(f"tensor {name!r}: {problem.problem}", problem.fix) from None

    for_each_array(observe, {n: v for n, v in tensors.items() if n in meters and v.size})


def _results(
    meters: Mapping[str, RangeMeter], seen: Iterable[str], notes: Mapping[str, str]
) -> tuple[TensorFit, ...]:
    """The tensors that have values, the worst first."""
    fits = [
        meter.result(name, notes.get(name, "")) for name, meter in meters.items() if meter.values
    ]
    if not fits:
        fix = f"compare names: {list(meters)[:3]} and {list(seen)[:3]}"
        raise DataError("no tensor has both a range and data", fix)
    no_error = math.inf
    return tuple(sorted(fits, key=lambda one: no_error if one.sqnr_db is None else one.sqnr_db))
