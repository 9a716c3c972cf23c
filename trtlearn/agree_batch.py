"""Which batch size a calibration had: the model's own, or the one that reproduces the cache's scales."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .activations import activations, feeds
from .cachefile import CalibrationCache
from .errors import DataError, ModelError
from .observers import NetworkObserver, threshold_of
from .onnxfile import OnnxModel, whole_inputs
from .record import plural

__all__ = ["TOLERANCE", "find_batch_size", "relative_difference"]

Array = NDArray[Any]
TOLERANCE = 1e-6
"""Relative difference up to which two scales count as equal: a few last bits of float32."""
PROBES = 10
"""How many tensors, and batch sizes, are looked at closer where the inputs alone do not tell the batch size."""
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
    notes: list[str],
) -> int:
    """The batch size that the model fixes, or the one that reproduces the cache's scales best."""
    whole = whole_inputs(facts, arrays)
    cut = [value for value in facts.inputs if value.name not in whole and value.name in arrays]
    rows: int = min((len(arrays[value.name]) for value in cut if arrays[value.name].ndim), default=0)
    fixed = {int(value.shape[0]) for value in cut if value.shape and isinstance(value.shape[0], int)}
    if len(fixed) == 1 and 1 <= (only := fixed.pop()) <= rows:
        return only
    if not rows:
        raise DataError("the data have no rows", "give arrays [N, ...], N the number of samples")
    sizes: list[int] = [b for b in dict.fromkeys((*BATCHES, rows, *range(1, rows + 1))) if 1 <= b <= rows]
    sizes = [b for b in sizes if rows % b == 0] + [b for b in BATCHES if b <= rows and rows % b]
    names = [value.name for value in cut]
    inputs = [name for name in names if name in cache and cache[name].scale > 0 and arrays[name].dtype == np.float32]
    if kind == "minmax":
        return sizes[0]
    fits = [
        b
        for b in sizes
        if all(relative_difference(_whole(arrays[n], b, kind, settings), cache[n].scale) <= TOLERANCE for n in inputs)
    ]
    if not fits:
        notes.append(f"no batch size reproduces the network inputs' cached scales: {sizes[0]} assumed (--batch)")
        return sizes[0]
    known = [name for name in facts.tensors if name in cache]
    probes = known[:: max(1, len(known) // PROBES)]
    scores = (
        {b: _score(proto, arrays, b, probes, cache, kind, settings, whole) for b in fits[:PROBES]} if fits[1:] else {}
    )
    size = max(scores, key=lambda b: scores[b]) if scores else fits[0]
    seen = "the network's inputs" if inputs else f"{scores.get(size, 0)} of {plural(len(probes), 'tensor')}"
    notes.append(f"batch size {size}, found: it reproduces the cached scales of {seen}")
    return size


def _score(
    proto: Any,
    arrays: Mapping[str, Array],
    size: int,
    names: list[str],
    cache: CalibrationCache,
    kind: str,
    settings: Mapping[str, Any],
    whole: tuple[str, ...],
) -> int:
    """How many of ``names`` get their cached scale with this batch size."""
    observer = NetworkObserver(kind, **settings)
    try:
        for tensors in activations(proto, feeds(arrays, size, whole), names):
            observer.observe({name: values for name, values in tensors.items() if values.dtype == np.float32})
    except ModelError:  # a network that runs with another batch size only
        return -1
    found = observer.thresholds()
    return sum(relative_difference(one.scale, cache[name].scale) <= TOLERANCE for name, one in found.items())


def _whole(array: Array, size: int, kind: str, settings: Mapping[str, Any]) -> float:
    return threshold_of(kind, *(part["x"] for part in feeds({"x": array}, size)), **settings).scale
