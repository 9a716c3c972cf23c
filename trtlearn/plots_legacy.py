"""The legacy calibrator's line: a histogram's counts as logarithms, the line through their fall, and where it ends."""

from __future__ import annotations

import typing

import numpy as np

from .colors import BAD, GOOD, INK, MARKS, figure, footer
from .errors import DataError
from .legacy import LEVEL, fit_line
from .plots_calibration import centres
from .plots_numbers import source_label
from .records import Provenance
from .thresholds import Threshold

if typing.TYPE_CHECKING:
    import plotly.graph_objects as go

__all__ = ["line_figure"]


def line_figure(
    threshold: Threshold,
    name: str,
    cutoff: float,
    told: float | None = None,
    *,
    source: Provenance | str | None = None,
) -> go.Figure:
    """How the legacy calibrator's line finds amax: ``y = log(count + 1) - 0.694`` of each bin, the line, its end.

    ``threshold`` comes from a LegacyObserver with this ``cutoff``; ``told`` is TensorRT's own amax, where it is known.
    Traces: 0 the bins left out, 1 the bins that take part, 2 the line down to y = 0, 3 its end, 4 ``told``.

    >>> from trtlearn.observers import threshold_of
    >>> x = np.random.default_rng(0).exponential(1, 50_000)
    >>> fig = line_figure(threshold_of("legacy", x, cutoff=0.5), "x", 0.5)
    >>> [trace.name for trace in fig.data]
    ['left out', 'take part', 'line of least squares', 'where it ends: amax']
    """
    width = threshold.width
    line = fit_line(threshold.counts, cutoff) if width is not None and threshold.counts else None
    if line is None or width is None:
        raise DataError(f"no line falls through the counts of {name}", "use a LegacyObserver with a cut-off below 1")
    y, x = np.log(np.asarray(threshold.counts) + 1.0) - float(LEVEL), centres(len(threshold.counts), width)
    part = np.zeros(len(y), bool)
    part[line.used] = True
    rest = ~part & (y > 0)
    rest[0] = False  # bin 0 is never looked at
    fig = figure(f"Where does the line through the fall of {name}'s counts end?", height=430)
    for label, some, color, mark in (("left out", rest, INK, "x-thin-open"), ("take part", part, GOOD, "circle")):
        dots = {"color": color, "size": 5, "symbol": mark}
        fig.add_scatter(x=x[some], y=y[some], mode="markers", name=label, marker=dots)
    amax = line.end * width
    begin = (line.used[0] + 0.5) * width
    ends = [line.height + line.slope * (begin / width - line.middle), 0]
    fig.add_scatter(
        x=[begin, amax], y=ends, mode="lines", name="line of least squares", line={"color": BAD, "width": 3}
    )
    star = {"symbol": "star", "size": 16, "color": BAD}
    fig.add_scatter(x=[amax], y=[0], mode="markers", name="where it ends: amax", marker=star)
    if told is not None:
        ring = {"symbol": f"{MARKS[0]}-open", "size": 22, "color": INK, "line": {"width": 2}}
        fig.add_scatter(x=[told], y=[0], mode="markers", name="TensorRT's amax", marker=ring)
    fig.add_hline(y=0, line={"color": INK, "width": 1})
    fig.add_vline(x=threshold.seen_amax, line={"color": INK, "dash": "dash"})
    fig.update_xaxes(title=f"|x| of {name} (dashed: max|x|)", rangemode="tozero")
    fig.update_yaxes(title="y = log(count + 1) − 0.694", range=[-0.06 * y.max(), 1.06 * y.max()])
    return footer(fig, source_label(source))
