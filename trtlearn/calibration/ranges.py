"""Ranges by tensor, whatever holds them: a cache, a setter's report, a build, or a dict."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from typing import Any, Protocol

from ..engine.records import BuildReport, RangeReport, TensorRange
from ..errors import DataError
from .cache import CalibrationCache, read_cache

__all__ = ["Ranges", "amax_by_tensor"]


class HasRanges(Protocol):
    """A build: it knows the ranges that it was given, or the scales that its log names."""

    @property
    def ranges(self) -> RangeReport | None: ...

    @property
    def build(self) -> BuildReport: ...


Ranges = (
    CalibrationCache | RangeReport | Mapping[str, float] | Iterable[TensorRange] | HasRanges | str
    | os.PathLike[str]
)  # fmt: skip
"""A cache or its file, the report of set_ranges or placeholder_ranges, a Build, {tensor: amax}."""


def amax_by_tensor(ranges: Ranges) -> dict[str, float]:
    """Tensor -> ``amax``: its range is ±amax, its INT8 scale amax / 127. Tensors without a range
    are left out.

    >>> amax_by_tensor({"x": 4.0}), amax_by_tensor([TensorRange("x", 4.0, 4 / 127, "user")])
    ({'x': 4.0}, {'x': 4.0})
    """
    source: Any = ranges
    if isinstance(source, (str, os.PathLike)):
        source = read_cache(source)
    if isinstance(source, CalibrationCache):
        return {name: source.entry(name).amax for name in source}
    if isinstance(source, Mapping):
        return {str(name): float(amax) for name, amax in source.items()}
    if hasattr(source, "ranges"):
        source = source.ranges or source.build.scales
        if not source:
            raise DataError("this build was given no ranges", "take one that runs in INT8")
    tensors = source.tensors if isinstance(source, RangeReport) else source
    return {tensor.name: tensor.amax for tensor in tensors if tensor.amax is not None}
