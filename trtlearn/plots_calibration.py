"""Figures of how a calibrator arrives at a scale: its histogram, its search, and the result."""

from __future__ import annotations

import typing
from collections.abc import Mapping

import numpy as np

from .colors import BAD, GOOD, INK, MARKS, SERIES, WARN, figure, footer
from .entropy import reference_and_candidate
from .errors import DataError
from .plots_numbers import source_label, tall
from .records import Provenance
from .thresholds import Threshold

if typing.TYPE_CHECKING:
    import plotly.graph_objects as go
    from numpy.typing import NDArray

__all__ = ["histogram_figure", "kl_figure", "thresholds_figure"]

FLOOR = 0.5  # where a logarithmic axis of counts begins
DASHES = ("solid", "dash", "dot", "dashdot", "longdash", "longdashdot")


def _need_histogram(threshold: Threshold) -> float:
    if threshold.width is None or not threshold.counts:
        raise DataError(f"the {threshold.algorithm} threshold has no histogram", "use an observer that keeps one")
    return threshold.width


def centres(count: int, width: float) -> NDArray[np.float64]:
    """The middle of each of ``count`` bins of one width, [count]."""
    return np.asarray((np.arange(count) + 0.5) * width, np.float64)


def on_log_axis(counts: typing.Any) -> NDArray[np.float64]:
    """Counts for a logarithmic axis that begins at one half: a count of 0 lies on the axis."""
    values = np.asarray(counts, np.float64)
    return np.where(values > 0, values, FLOOR)


def log_range(most: float) -> list[float]:
    """The logarithmic axis from one half to a little above ``most``."""
    return [float(np.log10(FLOOR)), float(np.log10(max(10.0, most))) + 0.2]


def p_and_q(threshold: Threshold, kept: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """P and Q as the search sees them when ``kept`` bins are kept (bin 0 with bin 1's count), [kept] each."""
    counts = np.array(threshold.counts, np.float64)
    counts[0] = counts[1]
    return reference_and_candidate(counts, kept)


def kl_figure(
    threshold: Threshold, name: str, kept: int | None = None, *, source: Provenance | str | None = None
) -> go.Figure:
    """The entropy search of one tensor: left P and Q at ``kept`` bins, right KL(P||Q) for every number of bins.

    ``threshold`` comes from an EntropyObserver. Traces: 0 the histogram, 1 P, 2 Q, 3 the bin that takes all beyond,
    4 the KL curve (where it is finite), 5 the least, 6 the threshold shown.

    >>> from trtlearn.observers import threshold_of
    >>> fig = kl_figure(threshold_of("entropy2", np.linspace(-1, 1, 5000)), "x")
    >>> [trace.name for trace in fig.data][4:]
    ['KL(P‖Q)', 'least KL: the choice', 'here']
    """
    from plotly.subplots import make_subplots

    search, width = threshold.search, _need_histogram(threshold)
    if search is None:
        raise DataError(f"the {threshold.algorithm} threshold holds no entropy search", "use the entropy2 observer")
    kept = search.chosen if kept is None else kept
    empty = figure(f"Where does entropy calibration cut {name}?", height=450, margin={"t": 96})
    fig = make_subplots(figure=empty, rows=1, cols=2, horizontal_spacing=0.13)
    middles = centres(len(threshold.counts), width)
    p, q = p_and_q(threshold, kept)
    lines = (
        ("values counted", middles, on_log_axis(threshold.counts), INK, "solid", 1),
        ("P: clipped here", middles[:kept], on_log_axis(p), GOOD, "solid", 2),
        ("Q: the same in 128 steps", middles[:kept], on_log_axis(q), BAD, "dot", 2),
    )
    for label, x, y, color, dash, thick in lines:
        line = {"color": color, "dash": dash, "width": thick, "shape": "hvh"}
        fig.add_scatter(x=x, y=y, mode="lines", name=label, line=line, row=1, col=1)
    last = {"symbol": "triangle-down", "size": 12, "color": GOOD}
    fig.add_scatter(
        x=[middles[kept - 1]], y=[p[-1]], mode="markers", name="last bin: all beyond it, added", marker=last
    )
    kl = np.asarray(search.kl)
    ends = (search.first + np.arange(len(kl)) + 0.5) * width
    finite = np.isfinite(kl)
    dots = {"color": SERIES[2], "size": 4 if finite.mean() > 0.5 else 7}
    fig.add_scatter(
        x=ends[finite], y=np.maximum(kl[finite], 1e-9), mode="markers", name="KL(P‖Q)", marker=dots, row=1, col=2
    )
    marks = (("least KL: the choice", search.chosen, "star", WARN, 15), ("here", kept, "diamond-open", INK, 13))
    for label, bins, symbol, color, size in marks:
        height = [max(kl[bins - search.first], 1e-9) if finite[bins - search.first] else None]
        mark = {"symbol": symbol, "color": color, "size": size, "line": {"width": 3 if "open" in symbol else 0}}
        fig.add_scatter(x=[(bins + 0.5) * width], y=height, mode="markers", name=label, marker=mark, row=1, col=2)
    for column in (1, 2):
        fig.add_vline(x=(kept + 0.5) * width, line={"color": INK, "dash": "dash"}, row=1, col=column)
    top = len(threshold.counts) * width * 1.03
    fig.update_xaxes(title=f"|x| of {name} (dashed: amax)", range=[0, top], row=1, col=1)
    most = log_range(sum(threshold.counts))
    fig.update_yaxes(title="values in a bin", type="log", dtick=1, exponentformat="power", range=most, row=1, col=1)
    missing = "" if finite.all() else f"; infinite for {int((~finite).sum()):,} of {len(kl):,} thresholds"
    fig.update_xaxes(title=f"amax{missing}", range=[0, top], row=1, col=2)
    fig.update_yaxes(title="KL(P‖Q), less is better", type="log", exponentformat="power", row=1, col=2)
    return footer(fig, source_label(source))


def histogram_figure(threshold: Threshold, name: str, *, source: Provenance | str | None = None) -> go.Figure:
    """The histogram as it stood after the first batch that was kept; a widget moves it on.

    >>> from trtlearn.observers import threshold_of
    >>> len(histogram_figure(threshold_of("entropy2", [1.0, 2.0], [3.0]), "x").data)
    1
    """
    width = _need_histogram(threshold)
    if not threshold.steps:
        raise DataError("the threshold holds no steps", "observe with keep_steps=True")
    step = threshold.steps[0]
    fig = figure(f"How does the histogram of {name} fill?", showlegend=False)
    line = {"color": GOOD, "width": 1.5, "shape": "hvh"}
    fig.add_scatter(
        x=centres(len(step.counts), step.width), y=on_log_axis(step.counts), mode="lines", line=line, fill="tozeroy"
    )
    fig.add_vline(x=step.width * len(step.counts), line={"color": INK, "dash": "dash"})
    fig.update_xaxes(title=f"|x| of {name} (dashed: end of the last bin)", range=[0, len(step.counts) * width * 1.03])
    most = log_range(max(threshold.counts))
    fig.update_yaxes(title="values in a bin", type="log", dtick=1, exponentformat="power", range=most)
    return footer(fig, source_label(source))


def thresholds_figure(
    thresholds: Mapping[str, Threshold],
    name: str,
    *,
    question: str | None = None,
    source: Provenance | str | None = None,
) -> go.Figure:
    """All calibrators over one histogram: above the values, below the amax that each chooses.

    ``thresholds``: label -> Threshold of the same tensor; at least one of them has a histogram.

    >>> from trtlearn.observers import threshold_of
    >>> both = {a: threshold_of(a, np.linspace(-1, 1, 999)) for a in ("minmax", "entropy2")}
    >>> len(thresholds_figure(both, "x").data)
    3
    """
    from plotly.subplots import make_subplots

    drawn = next((one for one in thresholds.values() if one.width is not None and one.counts), None)
    if drawn is None or drawn.width is None:
        raise DataError("none of the thresholds has a histogram", "add one of entropy2, legacy, percentile or mse")
    asked = question or f"Where does each calibrator cut {name}?"
    empty = figure(asked, height=tall(len(thresholds)) + 190, showlegend=False)
    heights = [0.55, 0.45]
    fig = make_subplots(figure=empty, rows=2, cols=1, shared_xaxes=True, vertical_spacing=0.04, row_heights=heights)
    line = {"color": INK, "width": 1.2, "shape": "hvh"}
    values = on_log_axis(drawn.counts)
    fig.add_scatter(
        x=centres(len(values), drawn.width),
        y=values,
        mode="lines",
        line=line,
        fill="tozeroy",
        name="values",
        row=1,
        col=1,
    )
    for index, (label, one) in enumerate(thresholds.items()):
        color, mark = SERIES[index % len(SERIES)], MARKS[index % len(MARKS)]
        fig.add_scatter(
            x=[one.amax],
            y=[label],
            mode="markers+text",
            text=[f"{one.amax:.4g}"],
            textposition="middle right",
            marker={"color": color, "symbol": mark, "size": 12},
            hovertemplate="%{y}: ±%{x:.6g}<extra></extra>",
            name=label,
            row=2,
            col=1,
        )
        dash = DASHES[index % len(DASHES)]
        fig.add_vline(x=one.amax, line={"color": color, "dash": dash, "width": 1.5}, row=1, col=1)
    top = max(drawn.seen_amax, *(one.amax for one in thresholds.values()))
    fig.update_xaxes(range=[0, 1.12 * top])
    fig.update_xaxes(title=f"|x| of {name}; marks: amax chosen", row=2, col=1)
    most = log_range(max(drawn.counts))
    fig.update_yaxes(title="values in a bin", type="log", dtick=1, exponentformat="power", range=most, row=1, col=1)
    fig.update_yaxes(autorange="reversed", row=2, col=1)
    return footer(fig, source_label(source))
