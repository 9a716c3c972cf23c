"""Ranges by tensor, whatever holds them: a cache, a setter's report, a build, or a dict."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from typing import Any, Protocol

from ..engine.records import BuildReport, RangeReport, TensorRange
from ..errors import DataError, first_line
from .cache import CalibrationCache, read_cache

__all__ = ["Ranges", "Scales", "amax_by_tensor", "scales_by_tensor"]

EXPECTED = "give a cache or its file, a build, what set_ranges reports, or {tensor: number}"


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
Scales = Ranges
"""The same, but {tensor: scale}."""


def amax_by_tensor(ranges: Ranges) -> dict[str, float]:
    """Tensor -> ``amax``: its range is ±amax, its INT8 scale amax / 127. Tensors without a range
    are left out.

    >>> amax_by_tensor({"x": 4.0}), amax_by_tensor([TensorRange("x", 4.0, 4 / 127, "user")])
    ({'x': 4.0}, {'x': 4.0})
    """
    return _numbers(ranges, "amax")


def scales_by_tensor(scales: Scales) -> dict[str, float]:
    """Tensor -> INT8 scale, amax / 127. Tensors without one are left out.

    >>> scales_by_tensor({"x": 0.5}), scales_by_tensor([TensorRange("x", 63.5, 0.5, "user")])
    ({'x': 0.5}, {'x': 0.5})
    """
    return _numbers(scales, "scale")


def _numbers(source: Any, what: str) -> dict[str, float]:
    """The ``what`` of each tensor, amax or scale; numbers by name are taken as they are."""
    if isinstance(source, (str, os.PathLike)):
        source = read_cache(source)
    if isinstance(source, CalibrationCache) and what == "amax":
        return source.amax
    if isinstance(source, Mapping):
        try:
            return {str(name): float(number) for name, number in source.items()}
        except (TypeError, ValueError) as problem:
            raise DataError(f"the ranges hold no number: {first_line(problem)}", EXPECTED) from None
    if hasattr(source, "ranges"):
        source = source.ranges or source.build.scales
        if not source:
            raise DataError("this build was given no ranges", "take one that runs in INT8")
    tensors = tuple(source) if isinstance(source, Iterable) else (source,)
    if wrong := [one for one in tensors if not isinstance(one, TensorRange)]:
        raise DataError(f"the ranges hold a {type(wrong[0]).__name__}", EXPECTED)
    numbers = {tensor.name: getattr(tensor, what) for tensor in tensors}
    return {name: number for name, number in numbers.items() if number is not None}
