"""A figure of which tensors share one scale: the ONNX graph, one colour a group."""

from __future__ import annotations

import os
import typing
from collections.abc import Mapping, Sequence

import numpy as np

from ..calibration.entropy import reference_and_candidate
from ..calibration.observers import LEVEL, Threshold, fit_line
from ..calibration.tensors import predict_ties
from ..engine.layout import GraphNode, graph
from ..engine.records import Binding, EngineInfo, EngineLayer, EngineTensor, Provenance
from ..errors import DataError
from ..model.describe import OnnxModel, read_model
from .engines import short
from .numbers import source_label, tall
from .theme import BAD, GOOD, INK, MARKS, SERIES, WARN, figure, footer

__all__ = [
    "histogram_figure",
    "images_curve",
    "kl_figure",
    "line_figure",
    "order_spread",
    "scale_groups",
    "thresholds_figure",
]


# --- Figures of how a calibrator arrives at a scale: its histogram, its search, and the result.

if typing.TYPE_CHECKING:
    import plotly.graph_objects as go
    from numpy.typing import NDArray


FLOOR = 0.5  # where a logarithmic axis of counts begins
DASHES = ("solid", "dash", "dot", "dashdot", "longdash", "longdashdot")


def _need_histogram(threshold: Threshold) -> float:
    if threshold.width is None or not threshold.counts:
        raise DataError(
            f"the {threshold.algorithm} threshold has no histogram",
            "use an observer that keeps one",
        )
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
    threshold: Threshold,
    name: str,
    kept: int | None = None,
    *,
    source: Provenance | str | None = None,
) -> go.Figure:
    """The entropy search of one tensor: left P and Q at ``kept`` bins, right KL(P||Q) for every number of bins.

    ``threshold`` comes from an EntropyObserver. Traces: 0 the histogram, 1 P, 2 Q, 3 the bin that takes all beyond,
    4 the KL curve (where it is finite), 5 the least, 6 the threshold shown.

    >>> from trtlearn.calibration.observers import threshold_of
    >>> fig = kl_figure(threshold_of("entropy2", np.linspace(-1, 1, 5000)), "x")
    >>> [trace.name for trace in fig.data][4:]
    ['KL(P‖Q)', 'least KL: the choice', 'here']
    """
    from plotly.subplots import make_subplots

    search, width = threshold.search, _need_histogram(threshold)
    if search is None:
        raise DataError(
            f"the {threshold.algorithm} threshold holds no entropy search",
            "use the entropy2 observer",
        )
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
        x=[middles[kept - 1]],
        y=[p[-1]],
        mode="markers",
        name="last bin: all beyond it, added",
        marker=last,
    )
    kl = np.asarray(search.kl)
    ends = (search.first + np.arange(len(kl)) + 0.5) * width
    finite = np.isfinite(kl)
    dots = {"color": SERIES[2], "size": 4 if finite.mean() > 0.5 else 7}
    fig.add_scatter(
        x=ends[finite],
        y=np.maximum(kl[finite], 1e-9),
        mode="markers",
        name="KL(P‖Q)",
        marker=dots,
        row=1,
        col=2,
    )
    marks = (
        ("least KL: the choice", search.chosen, "star", WARN, 15),
        ("here", kept, "diamond-open", INK, 13),
    )
    for label, bins, symbol, color, size in marks:
        height = [max(kl[bins - search.first], 1e-9) if finite[bins - search.first] else None]
        mark = {
            "symbol": symbol,
            "color": color,
            "size": size,
            "line": {"width": 3 if "open" in symbol else 0},
        }
        fig.add_scatter(
            x=[(bins + 0.5) * width],
            y=height,
            mode="markers",
            name=label,
            marker=mark,
            row=1,
            col=2,
        )
    for column in (1, 2):
        fig.add_vline(
            x=(kept + 0.5) * width, line={"color": INK, "dash": "dash"}, row=1, col=column
        )
    top = len(threshold.counts) * width * 1.03
    fig.update_xaxes(title=f"|x| of {name} (dashed: amax)", range=[0, top], row=1, col=1)
    most = log_range(sum(threshold.counts))
    fig.update_yaxes(
        title="values in a bin",
        type="log",
        dtick=1,
        exponentformat="power",
        range=most,
        row=1,
        col=1,
    )
    missing = (
        "" if finite.all() else f"; infinite for {int((~finite).sum()):,} of {len(kl):,} thresholds"
    )
    fig.update_xaxes(title=f"amax{missing}", range=[0, top], row=1, col=2)
    fig.update_yaxes(
        title="KL(P‖Q), less is better", type="log", exponentformat="power", row=1, col=2
    )
    return footer(fig, source_label(source))


def histogram_figure(
    threshold: Threshold, name: str, *, source: Provenance | str | None = None
) -> go.Figure:
    """The histogram as it stood after the first batch that was kept; a widget moves it on.

    >>> from trtlearn.calibration.observers import threshold_of
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
        x=centres(len(step.counts), step.width),
        y=on_log_axis(step.counts),
        mode="lines",
        line=line,
        fill="tozeroy",
    )
    fig.add_vline(x=step.width * len(step.counts), line={"color": INK, "dash": "dash"})
    fig.update_xaxes(
        title=f"|x| of {name} (dashed: end of the last bin)",
        range=[0, len(step.counts) * width * 1.03],
    )
    most = log_range(max(threshold.counts))
    fig.update_yaxes(
        title="values in a bin", type="log", dtick=1, exponentformat="power", range=most
    )
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

    >>> from trtlearn.calibration.observers import threshold_of
    >>> both = {a: threshold_of(a, np.linspace(-1, 1, 999)) for a in ("minmax", "entropy2")}
    >>> len(thresholds_figure(both, "x").data)
    3
    """
    from plotly.subplots import make_subplots

    drawn = next((one for one in thresholds.values() if one.width is not None and one.counts), None)
    if drawn is None or drawn.width is None:
        raise DataError(
            "none of the thresholds has a histogram",
            "add one of entropy2, legacy, percentile or mse",
        )
    asked = question or f"Where does each calibrator cut {name}?"
    empty = figure(asked, height=tall(len(thresholds)) + 190, showlegend=False)
    heights = [0.55, 0.45]
    fig = make_subplots(
        figure=empty, rows=2, cols=1, shared_xaxes=True, vertical_spacing=0.04, row_heights=heights
    )
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
    fig.update_yaxes(
        title="values in a bin",
        type="log",
        dtick=1,
        exponentformat="power",
        range=most,
        row=1,
        col=1,
    )
    fig.update_yaxes(autorange="reversed", row=2, col=1)
    return footer(fig, source_label(source))


# --- The legacy calibrator's line: a histogram's counts as logarithms, the line through their fall, and where it ends.

if typing.TYPE_CHECKING:
    import plotly.graph_objects as go


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

    >>> from trtlearn.calibration.observers import threshold_of
    >>> x = np.random.default_rng(0).exponential(1, 50_000)
    >>> fig = line_figure(threshold_of("legacy", x, cutoff=0.5), "x", 0.5)
    >>> [trace.name for trace in fig.data]
    ['left out', 'take part', 'line of least squares', 'where it ends: amax']
    """
    width = threshold.width
    line = fit_line(threshold.counts, cutoff) if width is not None and threshold.counts else None
    if line is None or width is None:
        raise DataError(
            f"no line falls through the counts of {name}",
            "use a LegacyObserver with a cut-off below 1",
        )
    y, x = (
        np.log(np.asarray(threshold.counts) + 1.0) - float(LEVEL),
        centres(len(threshold.counts), width),
    )
    part = np.zeros(len(y), bool)
    part[line.used] = True
    rest = ~part & (y > 0)
    rest[0] = False  # bin 0 is never looked at
    fig = figure(f"Where does the line through the fall of {name}'s counts end?", height=430)
    for label, some, color, mark in (
        ("left out", rest, INK, "x-thin-open"),
        ("take part", part, GOOD, "circle"),
    ):
        dots = {"color": color, "size": 5, "symbol": mark}
        fig.add_scatter(x=x[some], y=y[some], mode="markers", name=label, marker=dots)
    amax = line.end * width
    begin = (line.used[0] + 0.5) * width
    ends = [line.height + line.slope * (begin / width - line.middle), 0]
    fig.add_scatter(
        x=[begin, amax],
        y=ends,
        mode="lines",
        name="line of least squares",
        line={"color": BAD, "width": 3},
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


# --- Figures of what moves a calibrator's result: the order of the images, the batch size, and how many there are.

if typing.TYPE_CHECKING:
    import plotly.graph_objects as go


def order_spread(
    amax: Mapping[str, Mapping[str, Sequence[float]]],
    largest: Mapping[str, float],
    *,
    question: str = "Same images, another order or batch size: the same scale?",
    source: Provenance | str | None = None,
) -> go.Figure:
    """One row a tensor, one mark a calibration: ``amax[way][tensor]`` holds every amax that this way gave.

    ``largest``: tensor -> max|x|; the axis shows amax as a share of it.

    >>> len(order_spread({"shuffled": {"x": [1.0, 2.0]}}, {"x": 2.0}).data)
    1
    """
    fig, rows, step = (
        figure(question, height=2 * tall(len(largest)) - 60),
        list(largest),
        0.7 / max(len(amax), 1),
    )
    for index, (way, tensors) in enumerate(amax.items()):
        pairs = [
            (100 * value / largest[name], name)
            for name, values in tensors.items()
            for value in values
        ]
        beside = (index - (len(amax) - 1) / 2) * step  # marks of one row would lie on each other
        symbol = MARKS[index % len(MARKS)] + ("-open" if index == 0 else "")
        fig.add_scatter(
            x=[share for share, _ in pairs],
            y=[rows.index(name) + beside for _, name in pairs],
            customdata=[name for _, name in pairs],
            mode="markers",
            name=way,
            marker={
                "symbol": symbol,
                "color": SERIES[index % len(SERIES)],
                "size": 11,
                "line": {"width": 2},
            },
            hovertemplate="%{customdata}: amax is %{x:.3g} % of max|x|<extra>" + way + "</extra>",
        )
    fig.update_xaxes(title="amax chosen, % of max|x|", rangemode="tozero")
    fig.update_yaxes(tickvals=list(range(len(rows))), ticktext=rows, range=[len(rows) - 0.5, -0.5])
    fig.update_yaxes(showgrid=False, zeroline=False)
    for edge in range(1, len(rows)):
        fig.add_hline(y=edge - 0.5, line={"color": INK, "width": 0.5, "dash": "dot"})
    return footer(fig, source_label(source))


def images_curve(
    amax: Mapping[str, Mapping[int, float]],
    accuracy: Mapping[str, Mapping[int, float]],
    tensor: str,
    ours: Mapping[str, Mapping[int, float]] | None = None,
    *,
    source: Provenance | str | None = None,
) -> go.Figure:
    """How many images are enough? Left amax of one tensor, right accuracy in %, against the number of images (log).

    All map a calibrator's label to {images: value}. ``ours``: further values of amax, drawn as open circles around
    those of ``amax``: an empty circle is one that does not agree.

    >>> len(images_curve({"min-max": {1: 2.0, 8: 3.0}}, {"min-max": {1: 90.0}}, "x").data)
    2
    """
    from plotly.subplots import make_subplots

    empty = figure("How many calibration images are enough?")
    fig = make_subplots(figure=empty, rows=1, cols=2, horizontal_spacing=0.13)
    labels = list(dict.fromkeys([*amax, *accuracy]))
    for column, curves in ((1, amax), (2, accuracy)):
        for label, points in curves.items():
            index = labels.index(label)
            color, mark = SERIES[index % len(SERIES)], MARKS[index % len(MARKS)]
            fig.add_scatter(
                x=list(points),
                y=list(points.values()),
                mode="lines+markers",
                name=label,
                legendgroup=label,
                showlegend=column == 1,
                line={"color": color, "dash": DASHES[index % len(DASHES)]},
                marker={"symbol": mark, "size": 9, "color": color},
                row=1,
                col=column,
            )
    for label, points in (ours or {}).items():
        color = SERIES[labels.index(label) % len(SERIES)]
        ring = {"symbol": "circle-open", "size": 17, "color": color, "line": {"width": 2}}
        x, y = list(points), list(points.values())
        fig.add_scatter(
            x=x, y=y, mode="markers", name=f"{label}, computed here", marker=ring, row=1, col=1
        )
    fig.update_xaxes(
        title="calibration images (log scale)",
        type="log",
        tickvals=[1, 2, 5, 10, 20, 50, 100, 200, 500],
    )
    fig.update_yaxes(title=f"amax of {tensor}", rangemode="tozero", row=1, col=1)
    fig.update_yaxes(title="test images right, %", range=[0, 103], row=1, col=2)
    return footer(fig, source_label(source))


# --- A figure of which tensors share one scale: the ONNX graph, one colour a group.

if typing.TYPE_CHECKING:
    import plotly.graph_objects as go


def _as_graph(model: OnnxModel) -> EngineInfo:
    """The ONNX nodes as layers, so that they are placed as an engine's are."""

    def tensors(names: tuple[str, ...]) -> tuple[EngineTensor, ...]:
        return tuple(EngineTensor(name, None, None) for name in names if name in model.tensors)

    layers = tuple(
        EngineLayer(n.key, n.op, tensors(n.inputs), tensors(n.outputs)) for n in model.nodes
    )
    ends = [Binding(value.name, "input") for value in model.inputs]
    return EngineInfo(layers, (*ends, *(Binding(value.name, "output") for value in model.outputs)))


def scale_groups(
    model: OnnxModel | str | os.PathLike[str],
    algorithm: str = "entropy2",
    *,
    question: str = "Which tensors share one scale?",
    source: Provenance | str | None = None,
) -> go.Figure:
    """The network's nodes from its inputs at the top; those whose output shares a scale have one colour and mark.

    Grey circles have a scale of their own. The groups are predicted from the graph (:func:`ties.predict_ties`).

    >>> from trtlearn.model.course_data import model_path
    >>> [trace.name for trace in scale_groups(model_path("resnet")).data if "shares" in (trace.name or "")]
    ['pool shares stem_relu']
    """
    import plotly.graph_objects as go

    known = model if isinstance(model, OnnxModel) else read_model(model)
    info = _as_graph(known)
    drawn = graph(info)
    groups: dict[str, list[str]] = {}
    for tie in predict_ties(known, algorithm).ties:
        groups.setdefault(tie.source, [tie.source]).append(tie.tensor)
    member = {tensor: source_ for source_, tensors in groups.items() for tensor in tensors}

    def tensor_of(index: int) -> str:
        node = drawn.nodes[index]
        return (
            node.name
            if node.layer is None
            else (known.nodes[node.layer].outputs or (node.name,))[0]
        )

    ranks = 1 + max((-node.y for node in drawn.nodes), default=0)
    fig = figure(question, height=int(190 + 26 * ranks), margin={"t": 110})
    x: list[float | None] = []
    y: list[float | None] = []
    ends = [(drawn.nodes[edge.source], drawn.nodes[edge.target]) for edge in drawn.edges]
    ends = [
        (a, b) for a, b in ends if b.role != "output"
    ]  # the tensor that is the output has a node already
    for a, b in ends:
        x += [a.x, b.x, None]
        y += [a.y, b.y, None]
    fig.add_trace(
        go.Scatter(
            x=x,
            y=y,
            mode="lines",
            line={"color": INK, "width": 1},
            hoverinfo="skip",
            showlegend=False,
        )
    )

    def beside(node: GraphNode) -> str:
        """Where the label stands: at the left where a line comes in over the right."""
        near = ((a, b) for a, b in ends if b.y <= node.y < a.y and a.x > node.x)
        over = (a.x + (b.x - a.x) * (a.y - node.y) / (a.y - b.y) for a, b in near)
        return (
            "middle left"
            if node.x < -0.1 or any(0 <= x - node.x < 0.3 for x in over)
            else "middle right"
        )

    own = [
        i
        for i in range(len(drawn.nodes))
        if tensor_of(i) not in member and drawn.nodes[i].role != "output"
    ]
    parts = [("a scale of its own", own, INK, "circle-open")]
    for at, (first, tensors) in enumerate(groups.items()):
        chosen = [
            i
            for i in range(len(drawn.nodes))
            if tensor_of(i) in tensors and drawn.nodes[i].role != "output"
        ]
        name = f"{', '.join(tensors[1:3])}{' …' if len(tensors) > 3 else ''} shares {first}"
        parts.append((name, chosen, SERIES[at % len(SERIES)], MARKS[at % len(MARKS)]))
    for name, chosen, color, mark in parts:
        nodes = [drawn.nodes[i] for i in chosen]
        fig.add_trace(
            go.Scatter(
                x=[node.x for node in nodes],
                y=[node.y for node in nodes],
                mode="markers+text",
                marker={"color": color, "symbol": mark, "size": 11},
                text=[short(tensor_of(i), 28) for i in chosen],
                textposition=[beside(node) for node in nodes],
                hovertext=[f"{tensor_of(i)}<br>{name}" for i in chosen],
                hoverinfo="text",
                name=name,
            )
        )
    low, high = (
        min((n.x for n in drawn.nodes), default=0),
        max((n.x for n in drawn.nodes), default=0),
    )
    fig.update_xaxes(
        visible=False,
        range=[low - max(1.5, 0.5 * (high - low)), high + max(1.5, 0.5 * (high - low))],
    )
    fig.update_yaxes(visible=False)
    return footer(fig, "predicted from the ONNX graph" if source is None else source_label(source))
