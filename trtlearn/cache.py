"""Calibration caches: read, write, compare, edit, convert, and check against a model."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from .cacheconvert import (
    from_ort_table,
    from_ranges_json,
    to_ort_flatbuffers,
    to_ort_table,
    to_qdq_scales,
    to_ranges_json,
)
from .cachefile import (
    ALGORITHMS,
    CacheEntry,
    CalibrationCache,
    entry,
    format_cache,
    make_header,
    new_cache,
    parse_cache,
    read_cache,
    version_text,
    write_cache,
)
from .errors import CacheError
from .record import Record, plural

if TYPE_CHECKING:
    import os

    from .onnxfile import OnnxModel

__all__ = [
    "ALGORITHMS",
    "CacheDiff",
    "CacheEntry",
    "CalibrationCache",
    "DiffRow",
    "StaleReport",
    "diff",
    "drop",
    "entry",
    "format_cache",
    "from_ort_table",
    "from_ranges_json",
    "make_header",
    "merge",
    "new_cache",
    "parse_cache",
    "read_cache",
    "rename",
    "stale_names",
    "to_ort_flatbuffers",
    "to_ort_table",
    "to_qdq_scales",
    "to_ranges_json",
    "version_text",
    "with_header",
    "with_scale",
    "write_cache",
]

INTERNAL = "(Unnamed Layer* "
"""How TensorRT begins the names of tensors that its ONNX parser made and that the ONNX file does not name."""


@dataclass(frozen=True)
class DiffRow(Record):
    """One tensor in two caches: ``state`` is same, changed, only in a, or only in b."""

    name: str
    scale_a: float | None
    scale_b: float | None
    state: str
    relative_difference: float | None = None  # |a - b| / max(a, b), None where one side is missing


@dataclass(frozen=True)
class CacheDiff(Record):
    """Two caches side by side, in the order of the first, then what only the second has."""

    header_a: str
    header_b: str
    tensors: tuple[DiffRow, ...]

    @property
    def identical(self) -> bool:
        """Whether headers, tensors and scales are all the same (the order of the lines may differ)."""
        return self.header_a == self.header_b and all(row.state == "same" for row in self.tensors)

    def summary(self) -> str:
        counts = dict.fromkeys(("same", "changed", "only in a", "only in b"), 0)
        for row in self.tensors:
            counts[row.state] += 1
        headers = "same header" if self.header_a == self.header_b else f"headers {self.header_a} | {self.header_b}"
        return f"{headers}; " + ", ".join(f"{count} {state}" for state, count in counts.items())

    def rows(self) -> list[dict[str, Any]]:
        return [
            {
                "tensor": row.name,
                "state": row.state,
                "scale a": row.scale_a,
                "scale b": row.scale_b,
                "relative difference": row.relative_difference,
            }
            for row in self.tensors
        ]


@dataclass(frozen=True)
class StaleReport(Record):
    """A cache's names against a model's tensors.

    ``stale`` are names that the model does not have (TensorRT ignores them in silence), ``internal`` names that
    TensorRT made up for tensors inside an ONNX node (the ONNX file cannot confirm them), ``missing`` the model's
    tensors with no line: TensorRT warns "Missing scale and zero-point for tensor X" and keeps the layer out of INT8,
    unless the tensor takes part in a fusion or shares another tensor's scale.
    """

    matched: tuple[str, ...]
    stale: tuple[str, ...]
    internal: tuple[str, ...]
    missing: tuple[str, ...]

    def summary(self) -> str:
        return (
            f"{plural(len(self.matched), 'name fits', 'names fit')} the model, {len(self.stale)} stale, "
            f"{len(self.internal)} TensorRT's own, "
            f"{plural(len(self.missing), 'tensor of the model has', 'tensors of the model have')} no line"
        )

    def rows(self) -> list[dict[str, Any]]:
        groups = {"fits": self.matched, "stale": self.stale, "TensorRT's own": self.internal, "no line": self.missing}
        return [{"tensor": name, "state": state} for state, names in groups.items() for name in names]


def diff(a: CalibrationCache, b: CalibrationCache) -> CacheDiff:
    """What differs between two caches: scales are compared as float32, exactly.

    >>> a, b = new_cache({"x": 0.5, "y": 1.0}), new_cache({"x": 0.25, "z": 1.0})
    >>> [(row.name, row.state, row.relative_difference) for row in diff(a, b).tensors]
    [('x', 'changed', 0.5), ('y', 'only in a', None), ('z', 'only in b', None)]
    """
    left, right = a.as_dict(), b.as_dict()
    rows = []
    for name in [*left, *(name for name in right if name not in left)]:
        x, y = left.get(name), right.get(name)
        if x is None or y is None:
            rows.append(DiffRow(name, x, y, "only in a" if y is None else "only in b"))
        else:
            rows.append(DiffRow(name, x, y, "same" if x == y else "changed", abs(x - y) / (max(x, y) or 1.0)))
    return CacheDiff(a.header, b.header, tuple(rows))


def merge(*caches: CalibrationCache, prefer: str = "last") -> CalibrationCache:
    """One cache with every tensor of all, under the first's header.

    Where several give a tensor, ``prefer`` takes the "first", the "last" or the "largest" scale. CacheError when the
    algorithms differ: their scales answer different questions.

    >>> merge(new_cache({"x": 0.5}), new_cache({"x": 0.25, "y": 1.0}), prefer="largest").as_dict()
    {'x': 0.5, 'y': 1.0}
    """
    if not caches or prefer not in ("first", "last", "largest"):
        raise CacheError(f"merge of {len(caches)} caches, prefer={prefer!r}", "prefer is first, last or largest")
    if len(kinds := {cache.algorithm for cache in caches}) > 1:
        raise CacheError(
            f"the caches come from different algorithms: {', '.join(map(str, sorted(kinds, key=str)))}",
            "merge caches of one algorithm, or give them one header with with_header()",
        )
    merged: dict[str, CacheEntry] = {}
    for item in (item for cache in caches for item in cache.scales):
        old = merged.get(item.name)
        if old is None or prefer == "last" or (prefer == "largest" and item.scale > old.scale):
            merged[item.name] = item
    return replace(caches[0], scales=tuple(merged.values()))


def _known(cache: CalibrationCache, names: Iterable[str]) -> None:
    if unknown := [name for name in names if name not in cache.names]:
        raise CacheError(f"the cache has no tensor {', '.join(map(repr, unknown))}", "see .names for those it has")


def rename(cache: CalibrationCache, names: Mapping[str, str]) -> CalibrationCache:
    """The cache with tensors renamed, old -> new; CacheError for an unknown name or two lines of one name."""
    _known(cache, names)
    return _rebuilt(cache, [replace(item, name=names.get(item.name, item.name)) for item in cache.scales])


def drop(cache: CalibrationCache, names: Iterable[str]) -> CalibrationCache:
    """The cache without the lines of ``names``; CacheError for a name that it does not have."""
    gone = {names} if isinstance(names, str) else set(names)
    _known(cache, gone)
    return _rebuilt(cache, [item for item in cache.scales if item.name not in gone])


def with_scale(cache: CalibrationCache, name: str, scale: float) -> CalibrationCache:
    """The cache with one tensor's scale changed, or added at the end.

    >>> with_scale(new_cache({"x": 0.5}), "x", 0.25)["x"].amax
    31.75
    """
    new = entry(name, scale)
    kept = [new if item.name == name else item for item in cache.scales]
    return _rebuilt(cache, kept if name in cache else [*kept, new])


def with_header(
    cache: CalibrationCache, kind: str | None = None, tensorrt: str | None = None, *, header: str | None = None
) -> CalibrationCache:
    """The same scales under another header: another calibrator, TensorRT version, or a header given whole.

    >>> with_header(new_cache({"x": 0.5}), tensorrt="7.6.0").header
    'TRT-7600-EntropyCalibration2'
    """
    wanted = header or make_header(kind or cache.kind or "entropy2", tensorrt or cache.tensorrt_version or "8.6.0")
    return new_cache(cache.scales, header=wanted)


def _rebuilt(cache: CalibrationCache, items: list[CacheEntry]) -> CalibrationCache:
    return new_cache(items, header=cache.header)


def stale_names(cache: CalibrationCache, model: OnnxModel | str | os.PathLike[str]) -> StaleReport:
    """Which of the cache's names the model has, lacks, or cannot confirm; and which of its tensors have no line."""
    from .onnxfile import OnnxModel, read_model

    known = model if isinstance(model, OnnxModel) else read_model(model)
    have = dict.fromkeys(known.tensors)
    return StaleReport(
        matched=tuple(name for name in cache.names if name in have),
        stale=tuple(name for name in cache.names if name not in have and not name.startswith(INTERNAL)),
        internal=tuple(name for name in cache.names if name not in have and name.startswith(INTERNAL)),
        missing=tuple(name for name in have if name not in cache),
    )
