"""Built engines: graph, types and times; two engines, or engine and network, side by side."""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from ..builds import Build
from ..engine.diff import diff_engines
from ..engine.inspector import layer_times as join_times
from ..engine.inspector import read_engine
from ..engine.layers import EngineInfo, EngineLayer, layers_by_node
from ..engine.layout import EngineGraph, GraphEdge, GraphNode, graph
from ..engine.records import Timing
from ..errors import DataError
from ..model.graph import OnnxModel
from ..record import plural, show, without_collector
from ..recorded.files import load_build
from . import draw
from .draw import BAD, DTYPE_COLORS, INK, WARN, Figure, Source, Style, dtype_color

__all__ = ["engine", "engine_diff", "fusion", "layer_times", "precision"]

# --- A drawn graph: named marks from the top to the bottom, and the lines between them.

NAMED = 150  # nodes that get their name written beside them
COLUMN, LONG_COLUMN = 24, 150  # ranks below each other, with and without names
DRAWN = 1500  # nodes up to which a figure is drawn as SVG; above that by WebGL

Place = tuple[float, float]


class BrokenLines(dict[str, tuple[list[float | None], list[float | None]]]):
    """Lines of one look each: kind -> x and y of all its lines, with None between two of them."""

    def add(self, kind: str, x: Sequence[float], y: Sequence[float]) -> None:
        """One more line."""
        across, down = self.setdefault(kind, ([], []))
        across += [*x, None]
        down += [*y, None]


class Mark(NamedTuple):
    """How one node is drawn: group in the legend, look, label, and what hovering says."""

    group: str
    color: str
    symbol: str
    label: str
    hover: str
    size: float = 11
    in_legend: bool = True


def _places(drawn: EngineGraph, ranks: int, gap: float) -> list[Place]:
    """Where the nodes stand: a graph of more than ``ranks`` goes on at the top of a next column."""
    column = [int(-node.y // ranks) for node in drawn.nodes]
    lows, highs = [0.0] * (max(column, default=0) + 1), [0.0] * (max(column, default=0) + 1)
    for node, at in zip(drawn.nodes, column, strict=True):
        lows[at], highs[at] = min(lows[at], node.x), max(highs[at], node.x)
    starts, edge = [], 0.0
    for low, high in zip(lows, highs, strict=True):
        starts.append(edge - low)
        edge += high - low + gap
    return [
        (node.x + starts[at], node.y + ranks * at)
        for node, at in zip(drawn.nodes, column, strict=True)
    ]


def _lines(
    drawn: EngineGraph, places: Sequence[Place], color: Callable[[GraphEdge], str]
) -> BrokenLines:
    """The edges of each colour as one broken line; an edge past other ranks bends aside."""
    lines = BrokenLines()
    for edge in drawn.edges:
        (from_x, from_y), (to_x, to_y) = places[edge.source], places[edge.target]
        ranks = from_y - to_y
        if ranks <= 1:  # to the next rank, or into the next column
            lines.add(color(edge), (from_x, to_x), (from_y, to_y))
            continue
        bend = 0.12 + 0.08 * min(ranks, 8)
        parts = [step / 8 for step in range(9)]
        x = [from_x + (to_x - from_x) * p - 4 * bend * p * (1 - p) for p in parts]
        lines.add(color(edge), x, [from_y - ranks * part for part in parts])
    return lines


def _column(values: list[Any]) -> Any:
    """Values for a mark each: of a long list plotly looks at every one in Python, and copies it.
    Between two lines NaN stands for None, of which plotly would copy each.
    """
    if len(values) <= DRAWN:
        return values
    return np.array(values, dtype=float if None in values else None)


def _label_side(node: Place, ends: Sequence[tuple[Place, Place]], left: bool) -> str:
    """The label's side: the left for nodes that stand left, or where a line passes at the right."""
    for (from_x, from_y), (to_x, to_y) in ends:
        if to_y <= node[1] < from_y and from_x > node[0]:
            over = from_x + (to_x - from_x) * (from_y - node[1]) / (from_y - to_y)
            left = left or 0 <= over - node[0] < 0.3
    return "middle left" if left else "middle right"


def draw_graph(
    title: str,
    drawn: EngineGraph,
    marks: Sequence[Mark | None],
    edge_color: Callable[[GraphEdge], str],
) -> Figure:
    """The nodes of ``drawn`` as ``marks``, in the same order; None is not drawn, nor its lines.

    Up to NAMED nodes are labelled; hovering names every one. A long graph goes on in a next column.
    """
    import plotly.graph_objects as go

    named = sum(mark is not None for mark in marks) <= NAMED
    places = _places(drawn, COLUMN if named else LONG_COLUMN, 3.5 if named else 2.0)
    ranks = 1 + max((-y for _, y in places), default=0)
    fig = draw.figure(
        title, height=min(draw.TALLEST, int(150 + 25 * ranks)) if named else draw.TALLEST
    )
    scatter = go.Scatter if len(drawn.nodes) <= DRAWN else go.Scattergl
    edges = [edge for edge in drawn.edges if marks[edge.source] and marks[edge.target]]
    drawn = EngineGraph(drawn.nodes, tuple(edges))
    quiet: Style = {"mode": "lines", "hoverinfo": "skip", "showlegend": False}
    for color, (x, y) in _lines(drawn, places, edge_color).items():
        line = {"color": color, "width": 1.5}
        fig.add_trace(scatter(x=_column(x), y=_column(y), line=line, **quiet))
    ends = [(places[edge.source], places[edge.target]) for edge in edges] if named else []
    groups: dict[str, list[int]] = {}
    for index, mark in enumerate(marks):
        if mark is not None:
            groups.setdefault(mark.group, []).append(index)
    for group, members in groups.items():
        group_marks = [mark for index in members if (mark := marks[index])]
        first = group_marks[0]
        bare = "open" in first.symbol
        label: Style = {"mode": "markers"}
        if named:
            sides = [_label_side(places[i], ends, drawn.nodes[i].x < -0.1) for i in members]
            labels = [draw.short(mark.label, 30) for mark in group_marks]
            label = {"mode": "markers+text", "text": labels, "textposition": sides}
            label["textfont"] = {"size": 11}
        look: Style = {"color": first.color, "symbol": first.symbol, "opacity": 1}
        look["line"] = {"color": first.color if bare else INK, "width": 2 if bare else 1}
        look["size"] = _column([mark.size * (1 if named else 0.55) for mark in group_marks])
        label |= {"hovertext": _column([mark.hover for mark in group_marks]), "hoverinfo": "text"}
        across, down = (_column([places[index][axis] for index in members]) for axis in (0, 1))
        legend: Style = {"name": group, "showlegend": first.in_legend}
        fig.add_trace(scatter(x=across, y=down, marker=look, **legend, **label))
    low, high = min((x for x, _ in places), default=0), max((x for x, _ in places), default=0)
    room = max(1.5, 0.5 * (high - low) if ranks <= COLUMN and high - low < 3 else 1.5)
    fig.update_xaxes(visible=False, range=[low - room, high + room + (1 if named else 0)])
    fig.update_yaxes(visible=False)
    return fig


# --- One engine.

Engine = EngineInfo | Build | str | os.PathLike[str]
"""An engine: as its inspector describes it, a build, or the path of the inspector's JSON."""

Times = Mapping[str, float] | Timing | str | os.PathLike[str]
"""Layer name -> ms, a Timing, or the path of trtexec's --exportProfile."""

SYMBOLS = {
    "compute": "circle",
    "reformat": "diamond",
    "no-op": "x-thin-open",
    "input": "triangle-down",
    "output": "triangle-up",
}
NO_FILL, FRAME = "rgba(0,0,0,0)", {"line": {"color": INK, "width": 1}}
PATTERNS = {"compute": "", "reformat": "/", "no-op": "x"}


def _info(engine: Engine, source: Source) -> tuple[EngineInfo, Source]:
    """The engine's layers, and where they come from: of a build its own provenance."""
    if isinstance(engine, Build):
        return engine.engine, source or engine.provenance
    if isinstance(engine, EngineInfo):
        return engine, source
    if isinstance(engine, (str, os.PathLike)) and str(engine).endswith(".gz"):
        return _info(load_build(engine), source)
    return read_engine(engine), source or str(engine)


def _times(engine: Engine, times: Times | None) -> Times | None:
    """The times given, else those of the build; None where it was not profiled."""
    if times is not None or not isinstance(engine, Build) or engine.timing is None:
        return times
    return engine.timing.layers_ms or None


def layer_facts(layer: EngineLayer, ms: float | None = None) -> str:
    """What hovering over a layer says: name, kind, types, ONNX nodes, kernel, time."""
    types = (
        f"in {show(layer.input_dtypes)}; weights {show(layer.weights_listed)}; "
        f"out {show(layer.output_dtypes)}"
    )
    lines = [f"<b>{draw.label(layer.name, 90)}</b>", show(layer.kind), types]
    if layer.onnx_nodes:
        lines.append(f"ONNX nodes: {draw.label(', '.join(layer.onnx_nodes), 90)}")
    if layer.kernel:
        lines.append(f"kernel: {draw.label(layer.kernel, 70)}")
    if ms is not None:
        lines.append(f"{ms:.4f} ms")
    return "<br>".join(lines)


@without_collector()
def engine(
    engine: Engine,
    times: Times | None = None,
    *,
    title: str = "What does the engine do, in which type?",
    source: Source = None,
) -> Figure:
    """The engine from its inputs at the top: one colour a data type, one mark a role.

    A circle is a layer that computes, a diamond a reformat, a cross a layer without a kernel; lines
    are tensors. With ``times``, of a build its own, a mark's area grows with the layer's time. Up
    to 150 layers are named; hovering names every one.

    >>> engine(EngineInfo(())).layout.title.text
    'What does the engine do, in which type?'
    """
    times = _times(engine, times)
    info, source = _info(engine, source)
    drawn = graph(info)
    joined = join_times(info, times) if times is not None else None
    ms = joined.ms if joined else [None] * len(info.layers)
    longest = max((value for value in ms if value is not None), default=0.0)

    def mark(node: GraphNode) -> Mark:
        dtype, look = show(node.dtype), (dtype_color(node.dtype), SYMBOLS[node.role])
        group = f"{dtype}, {node.role}"
        if node.layer is None:
            facts = f"<b>{draw.label(node.name, 90)}</b><br>network {node.role}, {dtype}"
            return Mark(group, *look, node.name, facts, in_legend=False)
        time = ms[node.layer]
        size = 6 + 17 * ((time or 0) / longest) ** 0.5 if longest else 11
        return Mark(group, *look, node.name, layer_facts(info.layers[node.layer], time), size)

    marks = [mark(node) for node in drawn.nodes]
    fig = draw_graph(title, drawn, marks, lambda edge: dtype_color(edge.dtype))
    strangers = len(joined.without_layer) if joined else 0
    names = plural(strangers, "profiled name is", "profiled names are")
    return draw.finish(fig, source, f"; {names} no layer of this engine" if strangers else "")


def precision(engine: Engine, *, source: Source = None) -> Figure:
    """One row an engine layer: the types of its first input, its weights and its first output.

    >>> precision(EngineInfo(())).layout.title.text
    'In which type does each layer work?'
    """
    info, source = _info(engine, source)
    layers = info.layers
    bars: Style = {"showlegend": False, "barmode": "stack", "bargap": 0.2}
    fig = draw.figure("In which type does each layer work?", rows=len(layers), **bars)
    rows, whole = list(range(len(layers))), [1] * len(layers)
    sides = {
        "input": [(layer.input_dtypes or (None,))[0] for layer in layers],
        "weights": [layer.weights_listed for layer in layers],
        "output": [(layer.output_dtypes or (None,))[0] for layer in layers],
    }
    for side, dtypes in sides.items():
        listed = [dtype != "none listed" for dtype in dtypes]
        look: Style = {"textposition": "inside", "insidetextanchor": "middle", "textangle": 0}
        look["textfont"] = {"color": ["white" if there else INK for there in listed]}
        look["text"] = [show(dtype) for dtype in dtypes]
        look["color"] = [dtype_color(one) if one != "none listed" else NO_FILL for one in dtypes]
        hover = [
            f"{layer.name}<br>{side}: {show(dtype)}"
            for layer, dtype in zip(layers, dtypes, strict=True)
        ]
        draw.bars(fig, rows, whole, side, hover=hover, marker=FRAME, **look)
    draw.name_rows(fig, [layer.name for layer in layers])
    middle: Style = {"tickvals": [0.5, 1.5, 2.5], "ticktext": list(sides), "range": [0, 3]}
    fig.update_xaxes(side="top", showgrid=False, **middle)
    return draw.finish(fig, source)


def layer_times(
    engine: Engine, times: Times | None = None, *, most: int = 20, source: Source = None
) -> Figure:
    """The ``most`` slowest layers, coloured by the type they work in; the rest together in one bar.

    ``times`` are the profiler's, of a build its own, joined by name; layers and times that do not
    join are counted under the figure.
    """
    times = _times(engine, times)
    info, source = _info(engine, source)
    joined = join_times(info, times if times is not None else {})
    pairs = zip(joined.ms, info.layers, strict=True)
    timed = [(ms, layer) for ms, layer in pairs if ms is not None]
    timed.sort(key=lambda pair: -pair[0])
    if not timed:
        raise DataError(
            "no time joins a layer of this engine",
            f"compare names: {list(joined.without_layer)[:2]}",
        )
    slowest, rest = timed[:most], timed[most:]
    count = len(slowest) + bool(rest)
    fig = draw.figure("Which layers take the time?", rows=count, barmode="overlay")
    groups: dict[tuple[str, str], list[int]] = {}
    for row, (_, layer) in enumerate(slowest):
        groups.setdefault((show(layer.shown_dtype), layer.role), []).append(row)
    for (dtype, role), rows in sorted(groups.items()):
        ms = [slowest[row][0] for row in rows]
        look: Style = {"color": dtype_color(dtype), "pattern": PATTERNS[role], "width": 0.8}
        look["texts"] = [f"{one:.4f} ms, {100 * one / joined.total_ms:.1f} %" for one in ms]
        look["hover"] = [layer_facts(layer, one) for one, layer in (slowest[row] for row in rows)]
        draw.bars(fig, rows, ms, f"{dtype}, {role}", **look)
    names = [layer.name for _, layer in slowest]
    if rest:
        together = sum(one for one, _ in rest)
        look = {"color": NO_FILL, "marker": FRAME, "texts": [f"{together:.4f} ms"]}
        draw.bars(fig, [len(slowest)], [together], "the rest", width=0.8, **look)
        names.append(plural(len(rest), "more layer"))
    draw.name_rows(fig, names)
    longest = max(slowest[0][0], sum(one for one, _ in rest))
    fig.update_xaxes(title="ms, median of the profiled runs", range=[0, 1.35 * longest])
    untimed, strangers = joined.ms.count(None), len(joined.without_layer)
    missing = f"; {plural(untimed, 'layer has', 'layers have')} no time" if untimed else ""
    missing += f"; {plural(strangers, 'time has', 'times have')} no layer" if strangers else ""
    return draw.finish(fig, source, missing)


# --- Two sides and the lines between.


class Row(NamedTuple):
    """One name at a side: height, text, the type that colours its box, what hovering says."""

    y: float
    text: str
    dtype: str | None
    facts: str


def _layer_rows(info: EngineInfo, stretch: float = 1) -> list[Row]:
    return [
        Row(at * stretch, layer.name, layer.shown_dtype, layer_facts(layer))
        for at, layer in enumerate(info.layers)
    ]


def _two_sides(
    fig: Figure, left: Sequence[Row], right: Sequence[Row], titles: Sequence[str]
) -> None:
    """Names at both sides, a box of the type's colour beside each; of too many some are named."""
    for x, rows, align in ((0, left, "middle left"), (1, right, "middle right")):
        apart = -(-len(rows) // 48) or 1
        texts = [
            f"{draw.label(row.text, 32)} ({show(row.dtype)})" if at % apart == 0 else ""
            for at, row in enumerate(rows)
        ]
        size, letters = (12, 12) if len(rows) < 30 else (9, 10)
        look: Style = {"symbol": "square", "size": size, "showlegend": False, "cliponaxis": False}
        look["color"] = [dtype_color(row.dtype) for row in rows]
        look |= {"mode": "markers+text", "text": texts, "textposition": align}
        look |= {"textfont": {"size": letters}, "hover": [row.facts for row in rows]}
        draw.points(fig, [x] * len(rows), [row.y for row in rows], titles[x], **look)
    ends: Style = {"range": [-1.7, 2.7], "tickvals": [0, 1], "ticktext": list(titles)}
    fig.update_xaxes(side="top", showgrid=False, zeroline=False, **ends)
    fig.update_yaxes(visible=False, autorange="reversed")


STATUS_LINES = {
    "same": ("same", INK, "dot"),
    "changed": ("changed in type, format or kernel", BAD, "solid"),
    "fused differently": ("fused differently", WARN, "dash"),
}
"""Status of a group of ONNX nodes -> what the legend calls it, colour and dash."""


def engine_diff(
    first: Engine,
    second: Engine,
    *,
    labels: tuple[str, str] = ("first", "second"),
    source: Source = None,
) -> Figure:
    """Two engines side by side: lines join the layers that hold the same ONNX nodes.

    Dotted: the same; solid: another type, format or kernel (hover names it); dashed: fused
    differently. A layer without a line is only in that engine. Each box has the colour, and says
    the name, of the type worked in.
    """
    (left, origin), (right, _) = _info(first, source), _info(second, source)
    diff = diff_engines(left, right)
    rows = max(len(left.layers), len(right.layers))
    fig = draw.figure("Where do the two engines differ?", rows=rows)
    joins = BrokenLines()
    changes: list[tuple[float, str]] = []
    for row in diff.groups:
        if row.status not in STATUS_LINES:
            continue
        one_to_one = zip(row.first, row.second, strict=True)
        every = itertools.product(row.first, row.second)
        for pair in every if row.status == "fused differently" else one_to_one:
            joins.add(row.status, (0, 1), pair)
        if row.changes:
            changes.append(((row.first[0] + row.second[0]) / 2, "<br>".join(row.changes)))
    for status, (x, y) in joins.items():
        words, color, dash = STATUS_LINES[status]
        draw.line(fig, x, y, f"{words}: {diff.counts[status]}", color=color, dash=dash)
    if changes:
        heights, texts = [at for at, _ in changes], [text for _, text in changes]
        look: Style = {"color": BAD, "size": 7, "symbol": "diamond", "showlegend": False}
        draw.points(fig, [0.5] * len(changes), heights, "changes", hover=texts, **look)
    _two_sides(fig, _layer_rows(left), _layer_rows(right), labels)
    alone = [diff.counts[status] for status in ("only in first", "only in second")]
    rest = f"; only in {labels[0]}: {alone[0]}, only in {labels[1]}: {alone[1]}"
    return draw.finish(fig, origin, rest)


def fusion(
    engine: Engine,
    nodes: OnnxModel | Iterable[str] | None = None,
    *,
    source: Source = None,
) -> Figure:
    """ONNX nodes on the left, engine layers on the right, joined where a layer holds a node.

    A node without a line is in no engine layer; a layer without one was added by TensorRT. Boxes
    have the colour, and say the name, of the type the layer works in.

    Args:
        nodes: the model, or its nodes' names in order; by default the model of a build.
    """
    nodes = engine.onnx() if nodes is None and isinstance(engine, Build) else nodes
    info, source = _info(engine, source)
    held = layers_by_node(info, nodes or ())
    count = max(len(held), len(info.layers), 1)
    question = "Which engine layer does each ONNX node's work?"
    fig = draw.figure(question, rows=count, showlegend=False)
    stretch = max(1, len(held) - 1) / max(1, len(info.layers) - 1)
    places: dict[str, list[int]] = {}
    for at, layer in enumerate(info.layers):
        places.setdefault(layer.name, []).append(at)
    joins = BrokenLines()
    rows: list[Row] = []
    for at, (node, parts) in enumerate(held.items()):
        names = [layer.name for layer in parts]
        layers = [place for name in dict.fromkeys(names) for place in places[name]]
        for place in layers:
            joins.add(show(info.layers[place].shown_dtype), (0, 1), (at, place * stretch))
        where = draw.label(", ".join(names), 90) or "no engine layer names it"
        text = node if layers else f"{node}: in no layer"
        dtype = _common_dtype([info.layers[place] for place in layers])
        rows.append(Row(at, text, dtype, f"<b>{draw.label(node, 90)}</b><br>{where}"))
    for dtype, (x, y) in joins.items():
        draw.line(fig, x, y, color=DTYPE_COLORS.get(dtype, INK), width=1.5)
    titles = plural(len(rows), "ONNX node"), plural(len(info.layers), "engine layer")
    _two_sides(fig, rows, _layer_rows(info, stretch), titles)
    return draw.finish(fig, source)


def _common_dtype(layers: Sequence[EngineLayer]) -> str | None:
    """The type that all of the layers compute in, else hand on; None where they differ."""
    dtypes = {layer.computed_in for layer in layers} - {None} or {
        layer.shown_dtype for layer in layers
    }
    return dtypes.pop() if len(dtypes) == 1 else None
