"""Records in, plotly Figures out: each figure answers the question in its title and says where it was measured.

Nothing is shown here: a notebook's last line is the figure. Nothing here knows TensorRT.
"""

from __future__ import annotations

import typing
from collections.abc import Iterable, Mapping

import numpy as np

from ..engine.records import Provenance, RangeReport, TensorRange
from ..errors import DataError
from ..record import plural
from .engines import engine_diff, engine_graph, fusion, layer_latency
from .numbers import (
    clip_or_round,
    histogram_with_range,
    number_line,
    source_label,
    tall,
    weight_error,
)
from .theme import BAD, GOOD, INK, MARKS, SERIES, figure, footer
from .tradeoffs import confusion, engine_dtypes, tradeoff

if typing.TYPE_CHECKING:
    import plotly.graph_objects as go
    from numpy.typing import ArrayLike

__all__ = [
    "clip_or_round",
    "confusion",
    "engine_diff",
    "engine_dtypes",
    "engine_graph",
    "fusion",
    "histogram_with_range",
    "layer_latency",
    "number_line",
    "ranges_against_data",
    "scales_bar",
    "tradeoff",
    "weight_error",
]

Ranges = RangeReport | Iterable[TensorRange]


def amax_by_name(ranges: Ranges) -> dict[str, float]:
    """Tensor name -> amax, of the tensors that have one."""
    tensors = ranges.tensors if isinstance(ranges, RangeReport) else ranges
    return {tensor.name: tensor.amax for tensor in tensors if tensor.amax is not None}


def ranges_against_data(
    ranges: Ranges,
    activations: Mapping[str, ArrayLike],
    *,
    question: str = "Does each range fit what the data needs?",
    source: Provenance | str | None = None,
) -> go.Figure:
    """Each tensor's range beside the largest |x| and the 99.9th percentile of |x| in its data.

    ``activations`` maps tensor names to float arrays of any shape; tensors without a range, or without data, are
    left out and counted under the axis. The text at the right says what share the range clips, or how many of the
    127 steps no value reaches.

    >>> ranges_against_data([TensorRange("x", 4.0, 4 / 127, "placeholder")], {"x": [1.0, 9.0]}).data[0].name
    'range given'
    """
    amax = amax_by_name(ranges)
    names = [name for name in activations if name in amax]
    if not names:
        raise DataError(
            "no tensor has both a range and data",
            f"compare names: {list(amax)[:3]} and {list(activations)[:3]}",
        )
    data = {name: np.abs(np.asarray(activations[name], np.float32).ravel()) for name in names}
    largest = [float(data[name].max()) for name in names]
    most = [float(np.quantile(data[name], 0.999)) for name in names]
    given = [amax[name] for name in names]
    fig = figure(question, height=tall(len(names)))
    for start, end, y in zip(given, largest, names, strict=True):
        color, dash = (BAD, "solid") if end > start else (GOOD, "dot")
        fig.add_scatter(
            x=[start, end],
            y=[y, y],
            mode="lines",
            line={"color": color, "dash": dash},
            showlegend=False,
            hoverinfo="skip",
        )
    series = (
        ("range given", given, "line-ns-open", INK, 15),
        ("largest |x| in the data", largest, "circle", SERIES[0], 9),
        ("99.9 % of |x| is below", most, "diamond", SERIES[2], 8),
    )
    hover = "%{y}: %{x:.4g}<extra>%{fullData.name}</extra>"
    for label, x, symbol, color, size in series:
        marker = {
            "symbol": symbol,
            "color": color,
            "size": size,
            "line": {"width": 3 if "open" in symbol else 0},
        }
        fig.add_scatter(
            x=x, y=names, mode="markers", name=label, marker=marker, hovertemplate=hover
        )
    fig.data = fig.data[len(names) :] + fig.data[: len(names)]
    for name, end in zip(names, given, strict=True):
        lost = float((data[name] > end).mean())
        idle = max(0, round(127 * (1 - float(data[name].max()) / end)))
        text = f"clips {100 * lost:.2g} %" if lost else f"{idle} of 127 steps unused"
        fig.add_annotation(
            x=1, xref="paper", xanchor="left", xshift=8, y=name, text=text, showarrow=False
        )
    left = len(set(amax) ^ set(activations))
    note = f" ({plural(left, 'tensor')} without data or range left out)" if left else ""
    fig.update_xaxes(title=f"|x|, log scale{note}", type="log")
    fig.update_yaxes(autorange="reversed", showgrid=True)
    fig.update_layout(margin={"r": 200})
    return footer(fig, source_label(source))


def scales_bar(
    reports: Mapping[str, Ranges],
    *,
    question: str = "Which range did each way give?",
    source: Provenance | str | None = None,
) -> go.Figure:
    """Every tensor's amax, one mark for each way of getting it.

    ``reports`` maps a label to a RangeReport or TensorRanges, for example ``{"entropy2": experiment.build.scales}``.

    >>> scales_bar({"a": [TensorRange("x", 4.0, 4 / 127, "user")]}).data[0].name
    'a'
    """
    fig = figure(question)
    names: dict[str, None] = {}
    for index, (label, ranges) in enumerate(reports.items()):
        amax = amax_by_name(ranges)
        names.update(dict.fromkeys(amax))
        fig.add_scatter(
            x=list(amax.values()),
            y=list(amax),
            mode="markers",
            name=label,
            marker={"symbol": MARKS[index % 8], "color": SERIES[index % 8], "size": 10},
            hovertemplate="%{y}: ±%{x:.5g}, scale "
            + "%{customdata:.5g}<extra>"
            + label
            + "</extra>",
            customdata=[value / 127 for value in amax.values()],
        )
    fig.update_layout(height=tall(len(names)))
    fig.update_xaxes(title="amax: the range is ±amax (log scale)", type="log")
    fig.update_yaxes(autorange="reversed")
    return footer(fig, source_label(source))
