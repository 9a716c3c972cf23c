"""How a calibrator arrives at a scale: its histogram, its search, and what moves its result."""

from __future__ import annotations

import itertools
import math
import os
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..calibration.entropy import divergence, reference_and_candidate
from ..calibration.observers import LEVEL, Threshold, fit_line
from ..calibration.tensors import predict_ties
from ..engine.layers import Binding, EngineInfo, EngineLayer, EngineTensor
from ..engine.layout import graph
from ..errors import DataError
from ..model.graph import OnnxModel
from ..model.read import read_model
from ..record import show
from ..recorded.calibration import CAUSES, AgreementTable
from . import draw
from .draw import BAD, GOOD, INK, SERIES, WARN, Figure, Source, Style, series
from .engines import Mark, draw_graph

__all__ = [
    "agreement",
    "images_needed",
    "kl",
    "legacy_line",
    "orders",
    "shared_scales",
    "thresholds",
    "toy_cut",
]

FLOOR = 0.5  # where a logarithmic axis of counts begins
LEAST_KL = 1e-9  # a smaller KL is drawn here


def _width(threshold: Threshold) -> float:
    """The bins' width; DataError where the threshold has no histogram."""
    if threshold.width is None or not threshold.counts:
        raise DataError(
            f"the {threshold.algorithm} threshold has no histogram",
            "use an observer that keeps one",
        )
    return threshold.width


def centres(count: int, width: float) -> NDArray[np.float64]:
    """The middle of each of ``count`` bins of one width, [count]."""
    return np.asarray((np.arange(count) + 0.5) * width, np.float64)


def on_log_axis(counts: ArrayLike) -> NDArray[np.float64]:
    """Counts for a logarithmic axis that begins at one half: a count of 0 lies on the axis."""
    values = np.asarray(counts, np.float64)
    return np.where(values > 0, values, FLOOR)


def counts_axis(fig: Figure, most: float, panel: draw.Panel = None) -> None:
    """A logarithmic axis of counts up to ``most``, from FLOOR."""
    span = [FLOOR, 1.6 * max(10.0, most)]
    draw.log_axis(fig, "y", "values in a bin", span, room=0, panel=panel)


def p_and_q(threshold: Threshold, bins: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """P and Q as the search sees them for ``bins`` bins, [bins] each; bin 0 has bin 1's count."""
    counts = np.array(threshold.counts, np.float64)
    counts[0] = counts[1]
    return reference_and_candidate(counts, bins)


def kl(
    threshold: Threshold,
    name: str = "x",
    bins: int | None = None,
    tensorrt: float | None = None,
    *,
    source: Source = None,
) -> Figure:
    """The entropy search of one tensor: left P and Q at ``bins`` bins, right KL of every choice.

    ``threshold`` comes from an EntropyObserver; ``bins`` is its choice where not given. Traces: 0
    the histogram, 1 P, 2 Q, 3 the bin that takes all beyond, 4 the KL curve (where it is finite), 5
    the least, 6 the bins shown, 7 ``tensorrt``, TensorRT's own amax, where it is known.

    >>> from trtlearn.calibration.observers import threshold_of
    >>> fig = kl(threshold_of("entropy2", np.linspace(-1, 1, 5000)), "x")
    >>> [trace.name for trace in fig.data][4:]
    ['KL(P‖Q)', 'least KL: the choice', 'here']
    """
    search, width = threshold.search, _width(threshold)
    if search is None:
        raise DataError(
            f"the {threshold.algorithm} threshold holds no entropy search",
            "use the entropy2 observer",
        )
    bins = search.chosen if bins is None else bins
    fig = draw.panels(f"Where does entropy calibration cut {name}?", ["", ""], height=450)
    left, right = (1, 1), (1, 2)
    middles = centres(len(threshold.counts), width)
    p, q = p_and_q(threshold, bins)
    for label, x, y, color, dash, thick in (
        ("values counted", middles, on_log_axis(threshold.counts), INK, "solid", 1),
        ("P: clipped here", middles[:bins], on_log_axis(p), GOOD, "solid", 2),
        ("Q: the same in 128 steps", middles[:bins], on_log_axis(q), BAD, "dot", 2),
    ):
        draw.line(fig, x, y, label, color=color, dash=dash, width=thick, shape="hvh", panel=left)
    last: Style = {"symbol": "triangle-down", "size": 12, "color": GOOD, "panel": left}
    draw.points(fig, [middles[bins - 1]], [p[-1]], "last bin: all beyond it, added", **last)
    values = np.asarray(search.kl)
    finite = np.isfinite(values)
    height = np.where(finite, np.maximum(values, LEAST_KL), np.nan)
    amax = (search.first + np.arange(len(values)) + 0.5) * width
    unnamed: Style = {"showlegend": False, "panel": right}
    size = 4 if finite.mean() > 0.5 else 7
    draw.points(fig, amax[finite], height[finite], "KL(P‖Q)", color=SERIES[2], size=size, **unnamed)
    levels = [level if is_finite else None for level, is_finite in zip(height, finite, strict=True)]
    best, here = search.chosen - search.first, bins - search.first
    star: Style = {"symbol": "star", "color": WARN, "size": 14, **unnamed}
    draw.points(fig, [amax[best]], [levels[best]], "least KL: the choice", **star)
    open_: Style = {"symbol": "diamond-open", "size": 14, **unnamed}
    draw.points(fig, [amax[here]], [levels[here]], "here", **open_)
    if tensorrt is not None:
        ring: Style = {"symbol": "circle-open", "size": 22, "color": BAD, "panel": right}
        draw.points(fig, [tensorrt], [levels[best]], "TensorRT's amax (ring)", **ring)
    if finite[best]:
        at: Style = {"row": 1, "col": 2, "xanchor": "center", "yanchor": "top", "yshift": -9}
        draw.note(fig, "least KL: the choice", amax[best], np.log10(height[best]), **at)
    for panel in (left, right):
        draw.ends(fig, (bins + 0.5) * width, panel=panel)
    top = len(threshold.counts) * width * 1.03
    fig.update_xaxes(title=f"|x| of {name} (dashed: amax)", range=[0, top], row=1, col=1)
    counts_axis(fig, sum(threshold.counts), left)
    infinite = int((~finite).sum())
    missing = f"; infinite for {infinite:,} of {len(values):,} thresholds" if infinite else ""
    fig.update_xaxes(title=f"amax{missing}", range=[0, top], row=1, col=2)
    draw.log_axis(fig, "y", "KL(P‖Q), less is better", height, room=0.12, panel=right)
    return draw.finish(fig, source)


def toy_cut(
    counts: ArrayLike, kept: int, levels: int = 4, *, source: Source = "computed here"
) -> Figure:
    """P and Q of a histogram small enough for a pencil, cut behind ``kept`` bins.

    ``counts`` [bins]; Q tells them in ``levels`` steps. Traces: 0 the counts, 1 P, 2 Q.

    >>> [trace.name for trace in toy_cut([8, 4, 2, 1], 4, 2).data]
    ['counted', 'P', 'Q']
    """
    h = np.asarray(counts, np.float64)
    if not levels <= kept <= len(h):
        raise DataError(f"kept is {kept}", f"keep {levels} to {len(h)} bins")
    p, q = reference_and_candidate(h, kept, levels)
    fig = draw.figure(f"What do {levels} steps tell of the first {kept} bins?", height=330)
    for label, values, color in (("counted", h, INK), ("P", p, GOOD), ("Q", q, BAD)):
        texts: Style = {"text": [f"{value:.4g}" for value in values], "textposition": "outside"}
        x = list(range(len(values)))
        draw.columns(fig, x, values, label, color=color, cliponaxis=False, **texts)
    fig.update_layout(barmode="group")
    fig.add_vline(x=kept - 0.5, line={"color": INK, "dash": "dash"})
    loss = divergence(p, q)
    words = f"KL = {loss:.3g}" if np.isfinite(loss) else "KL is infinite"
    fig.update_xaxes(title=f"bin of |x| (dashed: the cut); {words}", dtick=1)
    fig.update_yaxes(title="values in a bin", range=[0, 1.15 * max(h.max(), p.max())])
    return draw.finish(fig, source)


def thresholds(
    ways: Mapping[str, Threshold],
    name: str = "x",
    *,
    source: Source = None,
) -> Figure:
    """All calibrators over one histogram: above the values, below the amax that each chooses.

    ``ways``: label -> Threshold of the same tensor; at least one of them has a histogram.

    >>> from trtlearn.calibration.observers import threshold_of
    >>> both = {a: threshold_of(a, np.linspace(-1, 1, 999)) for a in ("minmax", "entropy2")}
    >>> len(thresholds(both, "x").data)
    3
    """
    counted = next((way for way in ways.values() if way.width is not None and way.counts), None)
    if counted is None or counted.width is None:
        raise DataError(
            "none of the thresholds has a histogram",
            "add one of entropy2, legacy, percentile or mse",
        )
    stacked: Style = {"rows": 2, "cols": 1, "shared_xaxes": True, "row_heights": [0.55, 0.45]}
    title = f"Where does each calibrator cut {name}?"
    height = draw.tall(len(ways)) + 190
    fig = draw.panels(title, ["", ""], height=height, vertical_spacing=0.04, **stacked)
    fig.update_layout(showlegend=False)
    above, below = (1, 1), (2, 1)
    values = on_log_axis(counted.counts)
    x = centres(len(values), counted.width)
    look: Style = {"width": 1.2, "shape": "hvh", "fill": "tozeroy"}
    draw.line(fig, x, values, "values", **look, panel=above)
    for index, (label, way) in enumerate(ways.items()):
        mark: Style = {"mode": "markers+text", "text": [f"{way.amax:.4g}"], "size": 12}
        mark |= {"textposition": "middle right", "hover": [f"{label}: ±{way.amax:.6g}"]}
        draw.points(fig, [way.amax], [index], label, like=index, **mark, panel=below)
        color, _, dash = series(index)
        fig.add_vline(x=way.amax, line={"color": color, "dash": dash, "width": 1.5}, row=1, col=1)
    top = max(counted.seen_amax, *(way.amax for way in ways.values()))
    fig.update_xaxes(range=[0, 1.2 * top])
    fig.update_xaxes(title=f"|x| of {name}; marks: amax chosen", row=2, col=1)
    draw.name_rows(fig, list(ways), panel=below)
    counts_axis(fig, max(counted.counts), above)
    return draw.finish(fig, source)


def legacy_line(
    threshold: Threshold,
    name: str,
    cutoff: float,
    *,
    source: Source = None,
) -> Figure:
    """How the legacy calibrator finds amax: the line through ``y = log(count + 1) - 0.694``.

    ``threshold`` comes from a LegacyObserver with this ``cutoff``. Traces: 0 the bins left out, 1
    the bins that take part, 2 the line down to y = 0, 3 its end.

    >>> from trtlearn.calibration.observers import threshold_of
    >>> x = np.random.default_rng(0).exponential(1, 50_000)
    >>> fig = legacy_line(threshold_of("legacy", x, cutoff=0.5), "x", 0.5)
    >>> [trace.name for trace in fig.data]
    ['left out', 'take part', 'line of least squares', 'where it ends: amax']
    """
    width = threshold.width
    fit = fit_line(threshold.counts, cutoff) if width is not None and threshold.counts else None
    if fit is None or width is None:
        raise DataError(
            f"no line falls through the counts of {name}",
            "use a LegacyObserver with a cut-off below 1",
        )
    y = np.log(np.asarray(threshold.counts) + 1.0) - float(LEVEL)
    x = centres(len(y), width)
    taken = np.zeros(len(y), bool)
    taken[fit.used] = True
    rest = ~taken & (y > 0)
    rest[0] = False  # the calibrator never looks at bin 0
    fig = draw.figure(f"Where does the line through the fall of {name}'s counts end?", height=430)
    draw.points(fig, x[rest], y[rest], "left out", symbol="x-thin-open", size=5)
    draw.points(fig, x[taken], y[taken], "take part", color=GOOD, size=5)
    amax, start = fit.end * width, (fit.used[0] + 0.5) * width
    heights = [fit.height + fit.slope * (start / width - fit.middle), 0]
    draw.line(fig, [start, amax], heights, "line of least squares", color=BAD, width=3)
    draw.points(fig, [amax], [0], "where it ends: amax", symbol="star", size=16, color=BAD)
    fig.add_hline(y=0, line={"color": INK, "width": 1})
    draw.ends(fig, threshold.seen_amax)
    fig.update_xaxes(title=f"|x| of {name} (dashed: max|x|)", rangemode="tozero")
    fig.update_yaxes(title="y = log(count + 1) − 0.694", range=[-0.06 * y.max(), 1.06 * y.max()])
    return draw.finish(fig, source)


# --- What moves the result: the order of the images, the batch size, how many there are.


def orders(
    amax: Mapping[str, Mapping[str, Sequence[float]]],
    largest: Mapping[str, float],
    *,
    source: Source = None,
) -> Figure:
    """One row a tensor, one mark a calibration: ``amax[way][tensor]`` holds all that a way gave.

    ``amax``: such as ``tl.recorded.shuffles().amax(names)``.
    ``largest``: tensor -> max|x|; the axis shows amax as a share of it.

    >>> len(orders({"shuffled": {"x": [1.0, 2.0]}}, {"x": 2.0}).data)
    1
    """
    tensors = list(largest)
    fig = draw.figure(
        "Same images, another order or batch size: the same scale?",
        height=2 * draw.tall(len(tensors)) - 60,
    )
    step = 0.7 / max(len(amax), 1)
    for index, (way, results) in enumerate(amax.items()):
        beside = (index - (len(amax) - 1) / 2) * step  # marks of one row would lie on each other
        x: list[float] = []
        y: list[float] = []
        names: list[str] = []
        for name, values in results.items():
            x += [100 * value / largest[name] for value in values]
            y += [tensors.index(name) + beside] * len(values)
            names += [name] * len(values)
        hover = "%{customdata}: amax is %{x:.3g} % of max|x|<extra>" + way + "</extra>"
        symbol = None if index else "circle-open"
        look: Style = {"like": index, "symbol": symbol, "size": 11, "customdata": names}
        draw.points(fig, x, y, way, hover=hover, **look)
    fig.update_xaxes(title="amax chosen, % of max|x|", rangemode="tozero")
    draw.name_rows(fig, tensors)
    for edge in range(1, len(tensors)):
        fig.add_hline(y=edge - 0.5, line={"color": INK, "width": 0.5, "dash": "dot"})
    return draw.finish(fig, source)


def images_needed(
    amax: Mapping[str, Mapping[int, float]],
    accuracy: Mapping[str, Mapping[int, float]],
    tensor: str,
    *,
    source: Source = None,
) -> Figure:
    """How many images are enough? Left amax of one tensor, right accuracy, over their number.

    Both map a calibrator's label to {images: value}, such as ``tl.recorded.images_needed()`` gives
    with ``.amax(tensor)`` and ``.percent_right()``.

    >>> len(images_needed({"min-max": {1: 2.0, 8: 3.0}}, {"min-max": {1: 90.0}}, "x").data)
    2
    """
    fig = draw.panels("How many calibration images are enough?", ["", ""])
    ways = list(dict.fromkeys([*amax, *accuracy]))
    for column, curves in ((1, amax), (2, accuracy)):
        for way, values in curves.items():
            look: Style = {"legendgroup": way, "showlegend": column == 1, "panel": (1, column)}
            look |= {"like": ways.index(way), "marks": 9, "hover": "%{x} images: %{y:.4g}"}
            draw.line(fig, list(values), list(values.values()), way, **look)
    counts = [images for values in (*amax.values(), *accuracy.values()) for images in values]
    for panel in ((1, 1), (1, 2)):
        draw.log_axis(fig, "x", "calibration images", counts, panel=panel)
    fig.update_yaxes(title=f"amax of {tensor}", rangemode="tozero", row=1, col=1)
    fig.update_yaxes(title="test images right, %", range=[0, 103], row=1, col=2)
    return draw.finish(fig, source)


# --- Which tensors share one scale: the ONNX graph, one colour a group.


def _as_engine(model: OnnxModel) -> EngineInfo:
    """The ONNX nodes as layers, to be placed as an engine's are."""

    def tensors(names: tuple[str, ...]) -> tuple[EngineTensor, ...]:
        return tuple(EngineTensor(name, None, None) for name in names if name in model.tensors)

    layers = [EngineLayer(n.key, n.op, tensors(n.inputs), tensors(n.outputs)) for n in model.nodes]
    bindings = [Binding(value.name, "input") for value in model.inputs]
    bindings += [Binding(value.name, "output") for value in model.outputs]
    return EngineInfo(tuple(layers), tuple(bindings))


def shared_scales(
    model: OnnxModel | str | os.PathLike[str],
    algorithm: str = "entropy2",
    *,
    source: Source = "predicted from the ONNX graph",
) -> Figure:
    """The network from its inputs at the top; tensors that share a scale have one colour and mark.

    Grey circles have a scale of their own. The groups are predicted from the graph
    (:func:`predict_ties`).

    >>> from trtlearn.model.course_data import model_path
    >>> shared_scales(model_path("resnet")).data[-1].name
    'pool shares stem_relu'
    """
    model = model if isinstance(model, OnnxModel) else read_model(model)
    drawn = graph(_as_engine(model))
    groups: dict[str, list[str]] = {}
    for tie in predict_ties(model, algorithm).ties:
        groups.setdefault(tie.source, [tie.source]).append(tie.tensor)
    looks: dict[str, tuple[str, str, str]] = {}
    for index, (first, tensors) in enumerate(groups.items()):
        more = " …" if len(tensors) > 3 else ""
        look = (f"{', '.join(tensors[1:3])}{more} shares {first}", *series(index)[:2])
        looks |= dict.fromkeys(tensors, look)
    marks: list[Mark | None] = []
    for node in drawn.nodes:
        outputs = () if node.layer is None else model.nodes[node.layer].outputs
        tensor = outputs[0] if outputs else node.name
        group, color, symbol = looks.get(tensor, ("a scale of its own", INK, "circle-open"))
        mark = Mark(group, color, symbol, tensor, f"{tensor}<br>{group}")
        marks.append(None if node.role == "output" else mark)  # the last node holds that tensor
    fig = draw_graph("Which tensors share one scale?", drawn, marks, lambda edge: INK)
    return draw.finish(fig, source)


# --- Ours beside TensorRT's.

DOTS_HIGH = 6  # dots below each other in a network's row


def agreement(table: AgreementTable, *, source: Source = None) -> Figure:
    """One dot a scale: left those equal to TensorRT's within 1e-6, right how far the others differ.

    ``table`` comes from ``tl.recorded.agreement()``. Trace 0 holds the equal scales; one trace for
    each cause follows.

    >>> from trtlearn.recorded.calibration import agreement as recorded
    >>> len(agreement(recorded()).data[0].x) == recorded().agreeing
    True
    """
    networks = list(dict.fromkeys(row.network for row in table.networks))
    title = "Which scales of TensorRT does numpy reproduce? One dot a scale"
    widths: Style = {"shared_yaxes": True, "column_widths": [0.6, 0.4], "horizontal_spacing": 0.03}
    fig = draw.panels(title, ["equal within 1e-6", "not equal"], height=560, **widths)
    dots: dict[str, list[str]] = {network: [] for network in networks}
    for row in table.networks:
        unlike = {other.tensor for other in row.others}
        dots[row.network] += [
            f"{name}<br>{row.network}, {row.algorithm}: {scale:.6g}"
            for name, scale in row.cache.items()
            if name not in unlike
        ]
    x: list[int] = []
    y: list[float] = []
    for place, equal in enumerate(dots.values()):
        x += [count // DOTS_HIGH for count in range(len(equal))]
        y += [place + 0.12 * (count % DOTS_HIGH) - 0.3 for count in range(len(equal))]
    texts = list(itertools.chain(*dots.values()))
    draw.points(fig, x, y, "equal", color=GOOD, size=4, hover=texts, panel=(1, 1))
    gaps: list[float] = []
    heights: list[int] = []
    names: list[str] = []
    for index, cause in enumerate(CAUSES, 1):
        apart: list[float] = []
        rows: list[int] = []
        hover: list[str] = []
        for row in table.networks:
            for other in [other for other in row.others if other.cause == cause]:
                apart.append(other.relative_difference or 0.0)
                rows.append(networks.index(row.network))
                hover.append(
                    f"{other.tensor}<br>{row.network}, {row.algorithm}: ours {show(other.ours)}, "
                    f"TensorRT {other.tensorrt:.6g}<br>{draw.folded(other.explanation, 70)}"
                )
        name = f"{cause} ({len(rows)})"
        draw.points(fig, apart, rows, name, like=index, hover=hover, panel=(1, 2))
        if cause != "last bits":
            gaps += map(math.log10, apart)
            heights += rows
            names += [text.partition("<br>")[0] for text in hover]
    fig.update_xaxes(visible=False, row=1, col=1)
    draw.log_axis(fig, "x", "relative difference", [1e-6, 0.3], room=0.03, panel=(1, 2))
    draw.name_rows(fig, networks, panel=(1, 1))
    ends = tuple(fig.layout.xaxis2.range), tuple(fig.layout.yaxis.range)
    draw.label_points(fig, gaps, heights, names, ranges=ends, size=(310, 400), column=2)
    return draw.finish(fig, source)
