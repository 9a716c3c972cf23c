"""Ranges of tensors: beside what the data need, and beside each other. Everything that holds ranges can be drawn."""

from __future__ import annotations

import os
import typing
from collections.abc import Iterable, Mapping

import numpy as np

from ..builds import Build
from ..calibration.cache import CalibrationCache
from ..calibration.edit import read_cache
from ..engine.records import RangeReport, TensorRange
from ..errors import DataError
from ..record import plural
from . import draw
from .draw import Source, Style
from .numbers import finite
from .theme import BAD, GOOD, INK, SERIES, series

if typing.TYPE_CHECKING:
    import plotly.graph_objects as go
    from numpy.typing import ArrayLike

__all__ = ["Ranges", "amax_by_name", "ranges", "scales"]

Ranges = (
    CalibrationCache
    | RangeReport
    | Build
    | Mapping[str, float]
    | Iterable[TensorRange]
    | str
    | os.PathLike[str]
)
"""What holds ranges: a cache, its file, a RangeReport, a build, or a mapping from tensor to amax."""


def amax_by_name(holder: Ranges) -> dict[str, float]:
    """Tensor name -> amax, of the tensors that have one.

    ``holder``: a CalibrationCache (whose values are scales) or the path of its file, a RangeReport, a build, a
    mapping from names to amax, or TensorRanges.

    >>> amax_by_name({"x": 4.0}), amax_by_name([TensorRange("x", 4.0, 4 / 127, "user")])
    ({'x': 4.0}, {'x': 4.0})
    """
    if isinstance(holder, (str, os.PathLike)):
        holder = read_cache(holder)
    if isinstance(holder, CalibrationCache):
        return {entry.name: entry.amax for entry in holder.scales}
    if isinstance(holder, Mapping):
        return {name: float(amax) for name, amax in holder.items()}
    if isinstance(holder, Build):
        holder = holder.ranges or holder.build.scales
    tensors = holder.tensors if isinstance(holder, RangeReport) else holder
    return {tensor.name: tensor.amax for tensor in tensors if tensor.amax is not None}


def ranges(
    holder: Ranges,
    activations: Mapping[str, ArrayLike],
    *,
    title: str = "Does each range fit what the data need?",
    source: Source = None,
) -> go.Figure:
    """Each tensor's range beside the largest |x| and the 99.9th percentile of |x| in its data.

    ``holder``: what holds the ranges (see ``amax_by_name``). ``activations`` maps tensor names to float arrays of
    any shape; tensors without a range, or without data, are left out and counted under the axis. The text at the
    right says what share the range clips, or how many of the 127 steps no value reaches.

    >>> ranges({"x": 4.0}, {"x": [1.0, 9.0]}).data[0].name
    'range given'
    """
    amax = amax_by_name(holder)
    names = [name for name in activations if name in amax]
    if not names:
        raise DataError(
            "no tensor has both a range and data",
            f"compare names: {list(amax)[:3]} and {list(activations)[:3]}",
        )
    data = {name: np.abs(finite(activations[name], name)) for name in names}
    largest = [float(x.max()) for x in data.values()]
    most = [float(np.quantile(x, 0.999)) for x in data.values()]
    limits = [amax[name] for name in names]
    rows = list(range(len(names)))
    fig = draw.figure(title, height=draw.tall(len(names)))
    hover = "%{customdata}: %{x:.4g}<extra>%{fullData.name}</extra>"
    for name, x, symbol, color, size in (
        ("range given", limits, "line-ns-open", INK, 15),
        ("largest |x| in the data", largest, "circle", SERIES[0], 9),
        ("99.9 % of |x| is below", most, "diamond", SERIES[2], 8),
    ):
        look: Style = {"symbol": symbol, "color": color, "size": size}
        draw.points(fig, x, rows, name, **look, hover=hover, customdata=names)
    for row, limit, end in zip(rows, limits, largest, strict=True):
        color, dash = (BAD, "solid") if end > limit else (GOOD, "dot")
        draw.line(fig, [limit, end], [row, row], color=color, dash=dash)
    for row, name in enumerate(names):
        text = _verdict(data[name], amax[name])
        draw.note(fig, text, 1, row, xref="paper", xanchor="left", xshift=8, font={"size": 11})
    left = len(set(amax) ^ set(activations))
    rest = f"; {plural(left, 'tensor')} without data or range left out" if left else ""
    draw.name_rows(fig, names)
    draw.log_axis(fig, "x", "|x|", [*limits, *largest, *most])
    fig.update_layout(margin={"r": 165})
    return draw.finish(fig, source, rest)


def _verdict(magnitudes: np.ndarray[typing.Any, typing.Any], amax: float) -> str:
    """What a range clips of the data, or which part of it no value reaches."""
    clipped = float((magnitudes > amax).mean())
    if clipped:
        return f"clips {100 * clipped:.2g} %"
    unused = max(0, round(127 * (1 - float(magnitudes.max()) / amax)))
    return f"{unused} of 127 steps unused"


def scales(
    ways: Mapping[str, Ranges],
    *,
    title: str = "Which range does each way give?",
    source: Source = None,
) -> go.Figure:
    """Every tensor's amax, one mark for each way of getting it.

    ``ways`` maps a label to what holds ranges, for example ``{"entropy2": cache, "min-max": build}``.

    >>> scales({"a": {"x": 4.0}, "b": {"x": 2.0}}).data[1].name
    'b'
    """
    amax = {way: amax_by_name(holder) for way, holder in ways.items()}
    names: list[str] = []
    for tensors in amax.values():
        names += [name for name in tensors if name not in names]
    fig = draw.figure(title, height=draw.tall(len(names)))
    for index, (way, tensors) in enumerate(amax.items()):
        look = series(index)
        rows = [names.index(name) for name in tensors]
        facts = [f"{name}: ±{end:.5g}, scale {end / 127:.5g}" for name, end in tensors.items()]
        ends = list(tensors.values())
        draw.points(
            fig, ends, rows, way, color=look.color, symbol=look.symbol, size=10, hover=facts
        )
    draw.name_rows(fig, names)
    fig.update_yaxes(showgrid=True)
    largest = [end for tensors in amax.values() for end in tensors.values()]
    draw.log_axis(fig, "x", "amax: the range is ±amax", largest)
    return draw.finish(fig, source)
