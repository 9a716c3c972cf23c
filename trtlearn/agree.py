"""Our scales beside TensorRT's own, tensor by tensor, from the model, the calibration data and the cache: no GPU."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .activations import activations, feeds, load_arrays
from .agree_batch import TOLERANCE, find_batch_size, relative_difference
from .cachefile import CacheEntry, CalibrationCache, read_cache
from .errors import CacheError, DataError
from .explanations import Evidence, explain_difference
from .observers import NetworkObserver, Threshold
from .onnxfile import OnnxModel, describe, load_proto, whole_inputs
from .parts import (
    Candidate,
    could_be,
    flat_pools,
    hidden_parts,
    in_concat,
    kind_of,
    made_of_constants,
    merged_siblings,
    tensors_of_kind,
)
from .record import Record, plural
from .ties import UNTIED, TieReport, predict_ties

__all__ = ["TOLERANCE", "AgreeReport", "TensorAgreement", "agree"]

Array = NDArray[Any]


@dataclass(frozen=True)
class TensorAgreement(Record):
    """One tensor of the cache: our scale, TensorRT's, ``relative_difference = |ours - tensorrt| / tensorrt``.

    ``ours`` is None where the ONNX file has no such tensor, ``explanation`` None where the two agree. ``onnx_tensor``
    says what of the ONNX file it was compared with, where that has another name.
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
class AgreeReport(Record):
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
        return (
            f"{self.algorithm}: {self.agreeing} of {len(self.tensors)} scales equal TensorRT's within "
            f"{self.tolerance:g} ({plural(self.batches, 'batch', 'batches')} of {self.batch})"
        )

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
    model: str | os.PathLike[str] | bytes,
    data: str | os.PathLike[str] | Array | Mapping[str, Array],
    cache: str | os.PathLike[str] | bytes | CalibrationCache,
    *,
    batch: int | None = None,
    tolerance: float = TOLERANCE,
    algorithm: str | None = None,
) -> AgreeReport:
    """Compare every scale of TensorRT's ``cache`` with the one that our observers choose for the same data.

    Args:
        model: the ONNX file (path or bytes).
        data: calibration data in the order in which TensorRT got it: a .npy file or array [N, ...] for a network of
            one input, a .npz file or dict of arrays by input name for more.
        cache: TensorRT's calibration cache; its header says which calibrator it was.
        batch: how many of the N made up one batch then. None: the model's own where it is fixed, else the size that
            reproduces the cached scale of the network's inputs.
        tolerance: relative difference up to which scales count as equal.
        algorithm: entropy2, entropy, minmax or legacy, where the header does not say.

    Activations come from ONNX Runtime on the CPU in FP32. Raises CacheError, DataError, ModelError.
    """
    known = cache if isinstance(cache, CalibrationCache) else read_cache(cache)
    kind = algorithm or known.kind
    if kind is None:
        raise CacheError(f"the header {known.header!r} names no known calibrator", "say which with algorithm=")
    if not 0 <= tolerance < 1:
        raise DataError(f"tolerance is {tolerance}, expected a number from 0 to below 1", "1e-6 is a few last bits")
    proto = load_proto(model)
    facts = describe(proto)
    arrays = _arrays(data, facts)
    settings: dict[str, Any] = {}
    if kind == "legacy" and known.quantile is not None and known.cutoff is not None:
        settings = {"quantile": known.quantile, "cutoff": known.cutoff}
    notes: list[str] = []
    whole = whole_inputs(facts, arrays)
    size = batch if batch is not None else find_batch_size(facts, proto, arrays, known, kind, settings, notes)
    parts = hidden_parts(proto) if any(name not in facts.tensors for name in known.names) else ()
    fused = _fused(proto) if kind in UNTIED else {}
    parts = (*parts, *(part for several in fused.values() for part in several))
    observer = NetworkObserver(kind, **settings)
    count = _observe(observer, proto, feeds(arrays, size, whole), parts)
    thresholds = observer.thresholds()
    ties, part_names = predict_ties(facts, kind, flat_pools(proto)), tuple(part.name for part in parts)
    names = _Names(proto, ties, thresholds, fused, part_names, observer.infinite)
    rows = [_compare(line, names, known, tolerance) for line in known.scales]
    return AgreeReport(kind, size, count, tolerance, tuple(rows), tuple(notes), thresholds)


def _fused(proto: Any) -> dict[str, tuple[Candidate, ...]]:
    """Tensor -> what else the calibrators of the fused network may take for it."""
    both = (merged_siblings(proto), in_concat(proto))
    return {name: tuple(one[name] for one in both if name in one) for name in {**both[0], **both[1]}}


def _arrays(data: str | os.PathLike[str] | Array | Mapping[str, Array], facts: OnnxModel) -> dict[str, Array]:
    names = [value.name for value in facts.inputs]
    if isinstance(data, Mapping):
        return {name: np.asarray(array) for name, array in data.items()}
    if isinstance(data, np.ndarray):
        if len(names) != 1:
            raise DataError(f"one array for a model with inputs {names}", "give a dict or a .npz file by input name")
        return {names[0]: data}
    return load_arrays(data, names)


def _observe(
    observer: NetworkObserver, proto: Any, batches: Iterator[dict[str, Array]], parts: tuple[Candidate, ...]
) -> int:
    """Show the observer every float tensor of the model and each part that its ONNX nodes hide; returns the batches."""
    count = 0
    before: dict[str, Array] | None = None
    for tensors in activations(proto, batches):
        count += 1
        made = {part.name: part.values(tensors, before) for part in parts}
        observer.observe({**tensors, **{name: values for name, values in made.items() if values is not None}})
        before = {name: tensors[name] for part in parts if part.stale for name in part.joined if name in tensors}
    return count


@dataclass(frozen=True)
class _Names:
    """Which of our thresholds belongs to a line of the cache."""

    proto: Any
    ties: TieReport
    thresholds: Mapping[str, Threshold]
    fused: Mapping[str, tuple[Candidate, ...]]
    parts: tuple[str, ...]
    infinite: tuple[str, ...]  # tensors that have no threshold because they become NaN or infinite

    def of(self, line: CacheEntry) -> str | None:
        """The tensor or part of a node that the line is about; None where the ONNX file has nothing like it."""
        if line.name in self.fused:  # fused or not: whichever TensorRT did here
            return self._nearest((line.name, *(part.name for part in self.fused[line.name])), line.scale)
        source = self.ties.source_of(line.name)
        if source in self.thresholds:
            return source
        if line.name in self.thresholds:
            return line.name
        kind = kind_of(line.name) or ("Constant" if line.name in made_of_constants(self.proto) else None)
        if kind is None:
            return None
        parts = [name for name in self.parts if could_be(name, kind)]
        if len(parts) == 1:
            return self._nearest(parts, line.scale)
        found = self._nearest((*parts, *tensors_of_kind(self.proto, kind)), line.scale)
        close = found is not None and relative_difference(self.thresholds[found].scale, line.scale) <= 1e-3
        return found if close else None

    def _nearest(self, names: Iterable[str], scale: float) -> str | None:
        known = [name for name in names if name in self.thresholds]
        return min(known, key=lambda name: abs(self.thresholds[name].scale - scale), default=None)


def _compare(line: CacheEntry, names: _Names, cache: CalibrationCache, tolerance: float) -> TensorAgreement:
    source = names.of(line)
    ours = None if source is None else names.thresholds[source]
    difference = None if ours is None else relative_difference(ours.scale, line.scale)
    explanation = None
    if difference is None or difference > tolerance:
        fused, infinite = names.fused.get(line.name, ()), line.name in names.infinite
        explanation = explain_difference(Evidence(line, ours, names.thresholds, cache, names.ties, fused, infinite))
    mine = None if ours is None else ours.scale
    other = source if source != line.name else None
    return TensorAgreement(line.name, mine, line.scale, difference, explanation, other)
