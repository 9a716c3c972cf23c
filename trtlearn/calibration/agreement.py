"""Our scales beside TensorRT's own, tensor by tensor, from model, data and cache: no GPU."""

from __future__ import annotations

import itertools
import math
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import CacheError, DataError, ModelError
from ..model.data import Data, arrays_by_name, check_batch_size, feeds, whole_inputs
from ..model.graph import OnnxModel
from ..model.run import activation_parts, activations
from ..record import Record, Table, plural
from .cache import CacheEntry, CalibrationCache, read_cache
from .names import is_internal, kind_of, made_from, names_behind
from .network import Model, NetworkObserver, Progress, load_model, watched
from .observers import Threshold, check_algorithm
from .tensors import (
    UNTIED,
    Candidate,
    could_be,
    flat_pools,
    hidden_parts,
    in_concat,
    made_of_constants,
    merged_siblings,
    predict_ties,
    tensors_of_kind,
)

__all__ = [
    "TOLERANCE",
    "AgreeReport",
    "TensorAgreement",
    "agree",
    "explain_difference",
    "find_batch_size",
    "relative_difference",
]


SAME = 1e-6
LINE = 2e-3
"""What one bin more or less under legacy's line makes at most, as seen: relative difference."""
NEAR_TIE = 5e-3
"""Share of the least KL: the last bits of the activations decide between costs this close."""
LAST_BITS = "last-bit differences between activations on the GPU and on the CPU"
ROUNDING = 5e-5
"""What float32 rounding of activations can make of a bin's width: relative difference."""


def explain_difference(
    line: CacheEntry,
    ours: Threshold,
    twin: str | None = None,
    fused: tuple[Candidate, ...] = (),
) -> str:
    """Why two scales differ, in one sentence: the first of the known causes that the numbers show.

    Args:
        line: TensorRT's line. ours: our threshold for it.
        twin: another tensor for which we have just this scale.
        fused: what else TensorRT may have taken for the tensor.
    """
    if ours.seen_amax == 0:
        return "all values are 0 in these data: TensorRT's scale comes from other data"
    ratio = line.scale / ours.scale - 1 if ours.scale else math.inf  # 0.5: half as much again
    if abs(ratio) <= ROUNDING:  # the same number of bins, of another width
        return (
            f"the same choice with a maximum that differs by {ratio:+.1e}: "
            f"GPU and CPU round the activations of this layer differently"
        )
    if twin:  # so it was not chosen from this tensor's values
        return f"TensorRT gave it the scale of {twin}"
    if found := ours.choice_of(line.scale):  # the same histogram, another threshold
        kept, theirs, mine = found
        if theirs - mine <= NEAR_TIE * max(abs(mine), 1e-12):
            return (
                f"near tie: keeping {kept} bins (TensorRT) has KL {theirs:.6g}, {ours.bins_kept} "
                f"bins (ours) {mine:.6g}; {LAST_BITS} decide"
            )
    if ours.algorithm == "legacy" and ours.bins_kept is None and abs(ratio) <= LINE:
        return (
            f"a line through the counts with another end ({ratio:+.1e}): by one count a bin at the "
            f"cut-off's height takes part or not, and {LAST_BITS} decide"
        )
    if ours.algorithm == "legacy" and ours.bins_kept is not None and ours.width:
        bins = (line.amax - ours.amax) / ours.width
        if abs(abs(bins) - 1) <= ROUNDING * ours.bins_kept:  # what the width's rounding makes of it
            return (
                f"the neighbouring bin ({bins:+.4f} of {ours.bins_kept}): the quantile is reached "
                f"there or here by single values, and {LAST_BITS} decide"
            )
    if part := next((part for part in fused if part.stale), None):
        return (
            f"it begins the Concat of {', '.join(part.needs)}, whose memory this calibrator "
            "reads on into: other tensors may have used that memory in between, which is not "
            "computed here"
        )
    if relative_difference(line.amax, ours.seen_amax) <= SAME:
        return "TensorRT's amax is max|x|, as the min-max calibrator chooses it"
    return (
        f"not explained: TensorRT's amax is {line.amax:.6g}, ours {ours.amax:.6g} of max|x| "
        f"{ours.seen_amax:.6g}"
    )


Array = NDArray[Any]
TOLERANCE = 1e-6
"""Relative difference up to which two scales count as equal: a few last bits of float32."""
PROBES = 10
"""How many tensors, and batch sizes, are looked at closer where the inputs alone do not tell
the batch size.
"""
BATCHES = (8, 1, 16, 32, 4, 2, 64, 128, 10, 100)
"""Batch sizes tried first where neither the model nor the caller says which TensorRT was given."""


def relative_difference(ours: float, theirs: float) -> float:
    """|ours - theirs| / theirs; 0 where both are 0, 1 where only theirs is.

    >>> relative_difference(0.75, 0.5)
    0.5
    """
    return abs(ours - theirs) / theirs if theirs else (0.0 if ours == 0 else 1.0)


def find_batch_size(
    facts: OnnxModel,
    proto: Any,
    arrays: Mapping[str, Array],
    cache: CalibrationCache,
    kind: str,
    settings: Mapping[str, Any],
) -> tuple[int, str]:
    """The batch size that the model fixes, or the one that reproduces the cache's scales best; and
    what to know of it, "" where it was not searched.
    """
    whole = whole_inputs(facts, arrays)
    cut = {name: array for name, array in arrays.items() if name not in whole}
    rows = min((len(array) for array in cut.values() if array.ndim), default=0)
    first_axes = {value.shape[0] for value in facts.inputs if value.name in cut and value.shape}
    fixed = [axis for axis in first_axes if isinstance(axis, int)]
    if len(fixed) == 1 and 1 <= fixed[0] <= rows:
        return fixed[0], ""
    if not rows:
        raise DataError("the data have no rows", "give arrays [N, ...], N the number of samples")
    tried = dict.fromkeys((*BATCHES, rows, *range(1, rows + 1)))
    sizes = [size for size in tried if rows % size == 0]
    sizes += [size for size in BATCHES if size < rows and rows % size]
    if kind == "minmax":
        return sizes[0], ""

    def agreeing(batches: Iterable[Mapping[str, Array]]) -> int:
        """How many of the scales that these batches give are the cache's."""
        observer = NetworkObserver(kind, **settings)
        try:
            for tensors in batches:
                observer.observe({n: x for n, x in tensors.items() if x.dtype == np.float32})
        except ModelError:  # a network that runs with another batch size only
            return -1
        ours = {name: threshold.scale for name, threshold in observer.thresholds().items()}
        return sum(relative_difference(ours[name], cache[name]) <= TOLERANCE for name in ours)

    inputs = {n: x for n, x in cut.items() if cache.get(n, 0) > 0 and x.dtype == np.float32}
    possible = sizes
    if inputs:
        possible = [size for size in sizes if agreeing(feeds(inputs, size)) == len(inputs)]
    if not possible:
        problem = "no batch size reproduces the network inputs' cached scales"
        return sizes[0], f"{problem}: {sizes[0]} assumed (--batch)"
    known = [name for name in facts.tensors if name in cache]
    probes = known[:: max(1, len(known) // PROBES)]
    scores = {possible[0]: 0}
    for size in possible[:PROBES] if possible[1:] else ():
        scores[size] = agreeing(activations(proto, feeds(arrays, size, whole), probes))
    best = max(scores, key=scores.__getitem__)
    of_tensors = f"{scores[best]} of {plural(len(probes), 'tensor')}"
    seen = "the network's inputs" if inputs else of_tensors
    return best, f"batch size {best}, found: it reproduces the cached scales of {seen}"


@dataclass(frozen=True)
class TensorAgreement(Record):
    """One tensor of the cache: our scale, TensorRT's, ``relative_difference = |ours - tensorrt| /
    tensorrt``.

    ``ours`` is None where the ONNX file has no such tensor, ``explanation`` None where the two
    agree. ``onnx_tensor`` says what of the ONNX file it was compared with, where that has another
    name.
    """

    name: str
    ours: float | None
    tensorrt: float
    relative_difference: float | None
    explanation: str | None = None
    onnx_tensor: str | None = None

    def agrees(self, tolerance: float = TOLERANCE) -> bool:
        """Whether the two scales are equal within ``tolerance``."""
        return self.relative_difference is not None and self.relative_difference <= tolerance


@dataclass(frozen=True)
class AgreeReport(Table[TensorAgreement]):
    """All tensors of a calibration cache beside our scales."""

    algorithm: str
    batch: int
    batches: int
    tolerance: float
    tensors: tuple[TensorAgreement, ...]
    notes: tuple[str, ...] = ()
    thresholds: dict[str, Threshold] = field(default_factory=dict, repr=False)

    @property
    def agreeing(self) -> int:
        """How many tensors agree."""
        return sum(tensor.agrees(self.tolerance) for tensor in self.tensors)

    @property
    def all_agree(self) -> bool:
        """Whether every tensor of the cache agrees within the tolerance."""
        return self.agreeing == len(self.tensors)

    def summary(self) -> str:
        batches = f"{plural(self.batches, 'batch', 'batches')} of {self.batch}"
        equal = f"{self.agreeing} of {len(self.tensors)} scales equal TensorRT's"
        return f"{self.algorithm}: {equal} within {self.tolerance:g} ({batches})"

    def facts(self) -> dict[str, Any]:
        """What ``trtlearn agree --json`` prints: everything but the histograms."""
        return {name: value for name, value in self.to_dict().items() if name != "thresholds"}

    def rows(self) -> list[dict[str, Any]]:
        return [
            {
                "tensor": t.name,
                "ours": t.ours,
                "TensorRT": t.tensorrt,
                "relative difference": t.relative_difference,
                "explanation": t.explanation or "",
            }
            for t in self.tensors
        ]


def agree(
    model: Model,
    data: Data,
    cache: str | os.PathLike[str] | bytes | CalibrationCache,
    *,
    batch: int | None = None,
    tolerance: float = TOLERANCE,
    algorithm: str | None = None,
    progress: bool | Progress = True,
) -> AgreeReport:
    """Compare every scale of TensorRT's ``cache`` with the one that our observers choose for the
    same data.

    Args:
        model: the ONNX file (path or bytes).
        data: calibration data in the order in which TensorRT got it: a .npy file or array [N, ...]
            for a network of one input, a .npz file or dict of arrays by input name for more.
        cache: TensorRT's calibration cache; its header says which calibrator it was.
        batch: how many of the N made up one batch then. None: the model's own where it is fixed,
            else the size that reproduces the cached scale of the network's inputs.
        tolerance: relative difference up to which scales count as equal.
        algorithm: entropy2, entropy, minmax or legacy, where the header does not say.
        progress: as for ``tl.calibrate``.

    Activations come from ONNX Runtime on the CPU in FP32. Raises CacheError, DataError, ModelError.

    Example::

        tl.agree("my.onnx", "images.npy", "tensorrt.cache", batch=8).summary()
    """
    known = cache if isinstance(cache, CalibrationCache) else read_cache(cache)
    kind = check_algorithm(algorithm) if algorithm else known.kind
    if kind is None:
        problem = f"the header {known.header!r} names no known calibrator"
        raise CacheError(problem, "say which with algorithm=")
    if not isinstance(tolerance, (int, float)) or not 0 <= tolerance < 1:
        problem = f"tolerance is {tolerance!r}, expected a number from 0 to below 1"
        raise DataError(problem, "1e-6 is a few last bits")
    proto, facts = load_model(model)
    arrays = arrays_by_name(facts, data)
    settings: dict[str, Any] = {}
    if kind == "legacy" and known.quantile is not None and known.cutoff is not None:
        settings = {"quantile": known.quantile, "cutoff": known.cutoff}
    if batch is None:
        size, note = find_batch_size(facts, proto, arrays, known, kind, settings)
    else:
        size, note = check_batch_size(batch), ""
    notes = [note] if note else []
    whole = whole_inputs(facts, arrays)
    fused = _fused(proto) if kind in UNTIED else {}
    parts = [] if set(known.names) <= set(facts.tensors) else list(hidden_parts(proto))
    parts += itertools.chain.from_iterable(fused.values())
    needed = {name for part in parts for name in part.needs}
    observer = NetworkObserver(kind, **settings)
    total = min((len(a) for n, a in arrays.items() if n not in whole and a.ndim), default=0)
    items = activation_parts(proto, feeds(arrays, size, whole))
    count, before = 0, None  # the batches so far, and what parts are made from in the last one
    for pieces in watched(items, range(total // max(size, 1)), progress, "comparing"):
        held: dict[str, Array] = {}
        for tensors in pieces:
            observer.observe(tensors)
            held |= {name: values for name, values in tensors.items() if name in needed}
        made = {part.name: part.values(held, before) for part in parts}
        observer.observe({name: values for name, values in made.items() if values is not None})
        count, before = count + 1, held
    names = _Names(proto, facts, observer, kind, fused, parts)
    rows = [names.compare(line, tolerance) for line in known.scales if not line.problem]
    if minmax := sum("min-max" in (row.explanation or "") for row in rows):
        scales = f"{minmax} of {plural(len(rows), 'scale')}"
        notes.append(f"{scales} are min-max's under the header of {kind}: try --algorithm minmax")
    if known.unusable:
        lost = [f"{name} ({why})" for name, why in known.unusable.items()]
        notes.append(f"lines of the cache of no use, left out: {', '.join(lost)}")
    return AgreeReport(kind, size, count, tolerance, tuple(rows), tuple(notes), names.thresholds)


def _fused(proto: Any) -> dict[str, tuple[Candidate, ...]]:
    """Tensor -> what else the calibrators of the fused network may take for it."""
    both = (merged_siblings(proto), in_concat(proto))
    return {
        name: tuple(one[name] for one in both if name in one) for name in {**both[0], **both[1]}
    }


class _Names:
    """Which of our thresholds belongs to a line of the cache."""

    def __init__(
        self,
        proto: Any,
        facts: OnnxModel,
        observer: NetworkObserver,
        kind: str,
        fused: Mapping[str, tuple[Candidate, ...]],
        parts: Iterable[Candidate],
    ) -> None:
        self.proto, self.fused = proto, fused
        self.parts = [part.name for part in parts]
        self.thresholds = observer.thresholds()
        self.infinite = observer.infinite
        self.ties = predict_ties(facts, kind, flat_pools(proto))
        self.known = names_behind(facts)
        self.from_constants = made_of_constants(proto)
        self.outputs = {node.name: node.outputs for node in facts.nodes}
        self.scales = np.array([one.scale for one in self.thresholds.values()])

    def of(self, line: CacheEntry) -> str | None:
        """The tensor or part of a node that the line is about; None where the ONNX file has
        nothing like it.
        """
        if line.name in self.fused:  # fused or not: whichever TensorRT did here
            return self._nearest(
                (line.name, *(part.name for part in self.fused[line.name])), line.scale
            )
        source = self.ties.source_of(line.name)
        if source in self.thresholds:
            return source
        if line.name in self.thresholds:
            return line.name
        kind = kind_of(line.name) or ("Constant" if line.name in self.from_constants else None)
        if kind is None:
            return self._close(self._behind(line.name), line.scale)
        parts = [name for name in self.parts if could_be(name, kind)]
        if len(parts) == 1:
            return self._nearest(parts, line.scale)
        return self._close((*parts, *tensors_of_kind(self.proto, kind)), line.scale)

    def _behind(self, line: str) -> tuple[str, ...]:
        """What a line with a name of TensorRT 10's own may be about."""
        source = made_from(line, self.known)
        if not source:
            return ()
        return f"constant {source}", f"product of {source}", *self.outputs.get(source, ())

    def twin(self, line: CacheEntry) -> str | None:
        """Another tensor for which we have just this scale, the first."""
        near = np.abs(self.scales - line.scale) <= SAME * line.scale
        alike = itertools.compress(self.thresholds, near)
        return next((name for name in alike if name != line.name), None)

    def _close(self, names: Iterable[str], scale: float) -> str | None:
        """The one of ``names`` with nearly this scale; None where there is none."""
        nearest = self._nearest(names, scale)
        if nearest is None or relative_difference(self.thresholds[nearest].scale, scale) > 1e-3:
            return None
        return nearest

    def _nearest(self, names: Iterable[str], scale: float) -> str | None:
        known = [name for name in names if name in self.thresholds]
        return min(known, key=lambda name: abs(self.thresholds[name].scale - scale), default=None)

    def compare(self, line: CacheEntry, tolerance: float) -> TensorAgreement:
        """The line beside our scale for it, and why the two differ."""
        source, explanation = self.of(line), None
        if source is None:
            return TensorAgreement(line.name, None, line.scale, None, self._why_none(line.name))
        ours = self.thresholds[source]
        difference = relative_difference(ours.scale, line.scale)
        if difference > tolerance:
            fused = self.fused.get(line.name, ())
            explanation = explain_difference(line, ours, self.twin(line), fused)
        other = source if source != line.name else None
        return TensorAgreement(line.name, ours.scale, line.scale, difference, explanation, other)

    def _why_none(self, name: str) -> str:
        """Why we have no scale for a line."""
        if name in self.infinite:
            what = "it becomes NaN or infinite on these data, as an attention mask does"
            return f"{what}: no scale fits that"
        if is_internal(name, self.known):
            return (
                "made by TensorRT's ONNX parser inside a node: the ONNX file has no such tensor to "
                "compare with"
            )
        return "stale: the model has no tensor of this name (TensorRT ignores the line)"
