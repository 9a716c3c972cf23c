"""Figures of one engine: its graph, and where the time goes. Those of two sides are in plots_pairs."""

from __future__ import annotations

import itertools
import os
import typing
from collections.abc import Iterable, Mapping, Sequence

from ..engine.fusion import EngineDiff, FusionMap, diff_engines, fusion_map
from ..engine.layout import EngineGraph, graph
from ..engine.records import EngineInfo, EngineLayer, Provenance, Timing
from ..engine.times import layer_times
from ..errors import DataError
from ..record import plural, show
from .numbers import source_label, tall
from .theme import BAD, INK, WARN, dtype_color, figure, footer

__all__ = [
    "engine_diff",
    "engine_graph",
    "fusion",
    "hover",
    "layer_latency",
    "short",
]


# --- Figures of two sides and the lines between: engine against engine, ONNX nodes against engine layers.

if typing.TYPE_CHECKING:
    import plotly.graph_objects as go

    from ..model.describe import OnnxModel


def short(name: str, length: int = 44) -> str:
    """A name cut in its middle, where fused names differ least."""
    return name if len(name) <= length else f"{name[: length - 16]}…{name[-15:]}"


def hover(layer: EngineLayer, ms: float | None = None) -> str:
    """What hovering over a layer says: name, kind, types, ONNX nodes, kernel, time."""
    kernel = f"<br>kernel: {short(layer.kernel, 70)}" if layer.kernel else ""
    nodes = f"<br>ONNX nodes: {short(', '.join(layer.onnx_nodes), 90)}" if layer.onnx_nodes else ""
    time = f"<br>{ms:.4f} ms" if ms is not None else ""
    types = f"in {show(layer.input_dtypes)}; weights {show(layer.weights_listed)}; out {show(layer.output_dtypes)}"
    return f"<b>{short(layer.name, 90)}</b><br>{show(layer.kind)}<br>{types}{nodes}{kernel}{time}"


def _boxes(
    fig: go.Figure,
    x: float,
    rows: Sequence[tuple[float, str, str | None, str]],
    align: str,
    name: str = "",
) -> None:
    """Names at ``x``: (y, text, dtype or None for grey, hover), a mark of the dtype's colour beside each."""
    types = [show(dtype) if dtype else "unknown" for _, _, dtype, _ in rows]
    fig.add_scatter(
        x=[x] * len(rows),
        y=[row[0] for row in rows],
        mode="markers+text",
        marker={"color": [dtype_color(row[2]) for row in rows], "size": 13, "symbol": "square"},
        text=[f"{short(row[1], 38)} ({dtype})" for row, dtype in zip(rows, types, strict=True)],
        textposition=align,
        hovertext=[row[3] for row in rows],
        hoverinfo="text",
        name=name,
        showlegend=False,
        cliponaxis=False,
    )


def _two_columns(fig: go.Figure, titles: tuple[str, str]) -> None:
    ends = {"range": [-1.15, 2.15], "showgrid": False, "zeroline": False}
    fig.update_xaxes(tickvals=[0, 1], ticktext=list(titles), side="top", **ends)
    fig.update_yaxes(visible=False, autorange="reversed")
    fig.update_layout(title={"y": 1, "pad": {"t": 14}})


STATUS_LINES = {
    "same": (INK, "dot"),
    "changed": (BAD, "solid"),
    "fused differently": (WARN, "dash"),
}
STATUS_WORDS = {"changed": "changed in type, format or kernel"}  # in the legend


def engine_diff(
    first: EngineInfo,
    second: EngineInfo,
    *,
    labels: tuple[str, str] = ("first", "second"),
    diff: EngineDiff | None = None,
    question: str = "Where do the two engines differ?",
    source: Provenance | str | None = None,
) -> go.Figure:
    """Two engines side by side: lines join the layers that hold the same ONNX nodes.

    Dotted: the same; solid: another type, format or kernel (hover names it); dashed: fused differently. A layer
    without a line is only in that engine. Each square has the colour, and says the name, of the type worked in.
    """
    found = diff or diff_engines(first, second, labels=labels)
    engines = (first, second)
    fig = figure(question, height=tall(max(len(first.layers), len(second.layers), 1)))
    joined: dict[str, tuple[list[float | None], list[float | None]]] = {}
    middle: list[tuple[float, str]] = []
    for row in found.groups:
        if row.status not in STATUS_LINES:
            continue
        x, y = joined.setdefault(row.status, ([], []))
        paired = (
            zip(row.first, row.second, strict=True) if row.status != "fused differently" else None
        )
        for left, right in paired or itertools.product(row.first, row.second):
            x += [0, 1, None]
            y += [left, right, None]
        if row.changes:
            middle.append(((row.first[0] + row.second[0]) / 2, "<br>".join(row.changes)))
    for status, (x, y) in joined.items():
        color, dash = STATUS_LINES[status]
        line = {"color": color, "dash": dash, "width": 2}
        name = f"{STATUS_WORDS.get(status, status)}: {found.counts[status]}"
        fig.add_scatter(x=x, y=y, mode="lines", line=line, name=name, hoverinfo="skip")
    if middle:
        fig.add_scatter(
            x=[0.5] * len(middle),
            y=[at for at, _ in middle],
            mode="markers",
            marker={"color": BAD, "size": 7, "symbol": "diamond"},
            hovertext=[text for _, text in middle],
            hoverinfo="text",
            showlegend=False,
            name="changes",
        )
    for side, align in enumerate(("middle left", "middle right")):
        rows = [
            (at, layer.name, layer.shown_dtype, hover(layer))
            for at, layer in enumerate(engines[side].layers)
        ]
        _boxes(fig, side, rows, align, labels[side])
    fig.update_xaxes(
        range=[-1.15, 2.15],
        tickvals=[0, 1],
        ticktext=list(labels),
        side="top",
        showgrid=False,
        zeroline=False,
    )
    fig.update_yaxes(visible=False, autorange="reversed")
    fig.update_layout(title={"y": 1, "pad": {"t": 14}}, legend={"y": 0, "yanchor": "top"})
    alone = [found.counts[status] for status in ("only in first", "only in second")]
    return footer(
        fig,
        f"{source_label(source)}; only in {labels[0]}: {alone[0]}, only in {labels[1]}: {alone[1]}",
    )


def fusion(
    engine: EngineInfo,
    nodes: OnnxModel | Iterable[str] | None = None,
    *,
    mapped: FusionMap | None = None,
    question: str = "Which engine layer does each ONNX node's work?",
    source: Provenance | str | None = None,
) -> go.Figure:
    """ONNX nodes on the left, engine layers on the right, joined where a layer holds a node.

    A node without a line is in no engine layer; a layer without one was added by TensorRT. Squares have the
    colour, and say the name, of the type the layer works in.
    """
    found = mapped or fusion_map(engine, nodes)
    fig = figure(
        question, height=tall(max(len(found.nodes), len(engine.layers), 1)), showlegend=False
    )
    stretch = max(1, len(found.nodes) - 1) / max(1, len(engine.layers) - 1)
    places: dict[str, list[int]] = {}
    for at, layer in enumerate(engine.layers):
        places.setdefault(layer.name, []).append(at)
    lines: dict[str, tuple[list[float | None], list[float | None]]] = {}
    left: list[tuple[float, str, str | None, str]] = []
    for at, row in enumerate(found.nodes):
        held = list(dict.fromkeys(place for name in row.engine_layers for place in places[name]))
        types = {engine.layers[place].computed_in for place in held} - {None}
        if not types:
            types = {engine.layers[place].shown_dtype for place in held}
        dtype = types.pop() if len(types) == 1 else None
        where = short(", ".join(row.engine_layers), 90) or "no engine layer names it"
        left.append(
            (
                at,
                row.node if held else f"{row.node}: in no layer",
                dtype,
                f"<b>{short(row.node, 90)}</b><br>{where}",
            )
        )
        for place in held:
            x, y = lines.setdefault(show(engine.layers[place].shown_dtype), ([], []))
            x += [0, 1, None]
            y += [at, place * stretch, None]
    for dtype, (x, y) in lines.items():
        fig.add_scatter(
            x=x,
            y=y,
            mode="lines",
            line={"color": dtype_color(dtype), "width": 1.5},
            hoverinfo="skip",
        )
    _boxes(fig, 0, left, "middle left", "ONNX nodes")
    right = [
        (at * stretch, layer.name, layer.shown_dtype, hover(layer))
        for at, layer in enumerate(engine.layers)
    ]
    _boxes(fig, 1, right, "middle right", "engine layers")
    _two_columns(
        fig, (plural(len(found.nodes), "ONNX node"), plural(len(engine.layers), "engine layer"))
    )
    return footer(fig, source_label(source))


# --- Figures of one engine: its graph, and where the time goes. Those of two sides are in plots_pairs.

if typing.TYPE_CHECKING:
    import plotly.graph_objects as go


Times = Mapping[str, float] | Timing | str | os.PathLike[str]
SYMBOLS = {
    "compute": "circle",
    "reformat": "diamond",
    "no-op": "x-thin-open",
    "input": "triangle-down",
    "output": "triangle-up",
}
PATTERNS = {"compute": "", "reformat": "/", "no-op": "x"}
COLUMN = 150  # ranks that stand below each other
NAMED = 150  # layers that get their name written beside them
DRAWN = 1500  # nodes up to which a figure is drawn as SVG; above that by WebGL


def _folded(drawn: EngineGraph) -> list[tuple[float, float]]:
    """The nodes' places; a graph of more than 150 ranks goes on at the top of a next column."""
    column = [int(-node.y // COLUMN) for node in drawn.nodes]
    lows, highs = [0.0] * (max(column, default=0) + 1), [0.0] * (max(column, default=0) + 1)
    for node, at in zip(drawn.nodes, column, strict=True):
        lows[at], highs[at] = min(lows[at], node.x), max(highs[at], node.x)
    starts, edge = [], 0.0
    for low, high in zip(lows, highs, strict=True):
        starts.append(edge - low)
        edge += high - low + 2
    return [
        (node.x + starts[at], node.y + COLUMN * at)
        for node, at in zip(drawn.nodes, column, strict=True)
    ]


def _lines(
    drawn: EngineGraph, places: list[tuple[float, float]]
) -> dict[str | None, tuple[list[float | None], list[float | None]]]:
    """The edges of each data type as one broken line; an edge past other ranks bends aside so that it is seen."""
    lines: dict[str | None, tuple[list[float | None], list[float | None]]] = {}
    for edge in drawn.edges:
        (from_x, from_y), (to_x, to_y) = places[edge.source], places[edge.target]
        x, y = lines.setdefault(edge.dtype, ([], []))
        ranks = from_y - to_y
        if ranks <= 1:  # to the next rank, or into the next column
            x += [from_x, to_x, None]
            y += [from_y, to_y, None]
            continue
        bend = 0.12 + 0.08 * min(ranks, 8)
        for step in range(9):
            part = step / 8
            x.append(from_x + (to_x - from_x) * part - 4 * bend * part * (1 - part))
            y.append(from_y - ranks * part)
        x.append(None)
        y.append(None)
    return lines


def _height(ranks: float, layers: int) -> int:
    """Pixels for a graph: room for each name where names are written."""
    return int(170 + max(24.0, min(46.0, 900 / ranks)) * ranks) if layers <= NAMED else 1300


def engine_graph(
    engine: EngineInfo,
    profile: Times | None = None,
    *,
    question: str = "What does the engine do, in which type?",
    source: Provenance | str | None = None,
) -> go.Figure:
    """The engine from its inputs at the top to its outputs: one colour a data type, one mark a role.

    A circle is a layer that computes, a diamond a reformat, a cross a layer without a kernel; lines are tensors.
    With a ``profile`` (layer name -> ms, a Timing, or trtexec's --exportProfile) a mark's area grows with the
    layer's time. Up to 150 layers are named; hovering names every one.

    >>> engine_graph(EngineInfo(())).layout.title.text
    'What does the engine do, in which type?'
    """
    drawn = graph(engine)
    places = _folded(drawn)
    joined = layer_times(engine, profile) if profile is not None else None
    ms = [row.ms for row in joined.layers] if joined else [None] * len(engine.layers)
    longest = max((value for value in ms if value is not None), default=0.0)
    ranks = 1 + max((-y for _, y in places), default=0)
    fig = figure(question, height=_height(ranks, len(engine.layers)), margin={"t": 110})
    import plotly.graph_objects as go

    scatter = go.Scatter if len(drawn.nodes) <= DRAWN else go.Scattergl
    for kind, (line_x, line_y) in _lines(drawn, places).items():
        fig.add_trace(
            scatter(
                x=line_x,
                y=line_y,
                mode="lines",
                line={"color": dtype_color(kind), "width": 1.5},
                name=f"{show(kind)}, tensor",
                hoverinfo="skip",
                showlegend=False,
            )
        )
    groups: dict[tuple[str, str], list[int]] = {}
    for index, node in enumerate(drawn.nodes):
        groups.setdefault((show(node.dtype), node.role), []).append(index)
    named = len(engine.layers) <= NAMED
    usual = 11 if named else 6
    for (dtype, role), members in sorted(groups.items()):
        nodes = [drawn.nodes[index] for index in members]
        sizes = [
            7 + 25 * ((ms[node.layer] or 0) / longest) ** 0.5
            if node.layer is not None and longest
            else usual
            for node in nodes
        ]
        color = dtype_color(dtype)
        fig.add_trace(
            scatter(
                x=[places[index][0] for index in members],
                y=[places[index][1] for index in members],
                mode="markers+text" if named else "markers",
                name=f"{dtype}, {role}",
                marker={
                    "color": color,
                    "symbol": SYMBOLS[role],
                    "size": sizes,
                    "opacity": 1,
                    "line": {
                        "color": color if role == "no-op" else INK,
                        "width": 2 if role == "no-op" else 1,
                    },
                },
                text=[short(node.name, 30) for node in nodes] if named else None,
                textposition=["middle left" if node.x < -0.1 else "middle right" for node in nodes]
                if named
                else None,
                hovertext=[
                    hover(engine.layers[node.layer], ms[node.layer])
                    if node.layer is not None
                    else f"<b>{short(node.name, 90)}</b><br>network {role}, {show(node.dtype)}"
                    for node in nodes
                ],
                hoverinfo="text",
            )
        )
    low, high = min((x for x, _ in places), default=0), max((x for x, _ in places), default=0)
    room = max(1.5, 0.5 * (high - low)) if named else 1.0
    fig.update_xaxes(visible=False, range=[low - room, high + room])
    fig.update_yaxes(visible=False)
    fig.update_layout(
        title={"y": 1, "pad": {"t": 14}}, legend={"y": 1 + 8 / (fig.layout.height - 188)}
    )
    alien = len(joined.without_layer) if joined else 0
    rest = (
        f"; {plural(alien, 'profiled name is', 'profiled names are')} no layer of this engine"
        if alien
        else ""
    )
    return footer(fig, source_label(source) + rest)


def layer_latency(
    engine: EngineInfo,
    times: Times,
    *,
    most: int = 30,
    question: str = "Which layers take the time?",
    source: Provenance | str | None = None,
) -> go.Figure:
    """The ``most`` slowest layers, coloured by the type they work in; the rest together in one bar.

    Times are the profiler's, joined by name; layers and times that do not join are counted in the footer.
    """
    joined = layer_times(engine, times)
    timed = sorted(
        (
            (row.ms, layer)
            for row, layer in zip(joined.layers, engine.layers, strict=True)
            if row.ms is not None
        ),
        key=lambda pair: -pair[0],
    )
    if not timed:
        raise DataError(
            "no time joins a layer of this engine",
            f"compare names: {list(joined.without_layer)[:2]}",
        )
    head, rest = timed[:most], timed[most:]
    fig = figure(question, height=tall(len(head) + bool(rest)))
    groups: dict[tuple[str, str], list[tuple[float, EngineLayer, int]]] = {}
    for place, (ms, layer) in enumerate(head):
        groups.setdefault((show(layer.shown_dtype), layer.role), []).append((ms, layer, place))
    for (dtype, role), members in sorted(groups.items()):
        fig.add_bar(
            x=[ms for ms, _, _ in members],
            y=[place for _, _, place in members],
            orientation="h",
            name=f"{dtype}, {role}",
            width=0.8,
            marker={"color": dtype_color(dtype), "pattern": {"shape": PATTERNS[role]}},
            text=[f"{ms:.4f} ms, {100 * ms / joined.total_ms:.1f} %" for ms, _, _ in members]
            if joined.total_ms
            else None,
            textposition="outside",
            hovertext=[hover(layer, ms) for ms, layer, _ in members],
            hoverinfo="text",
            cliponaxis=False,
        )
    labels = [short(layer.name) for _, layer in head]
    if rest:
        together = sum(ms for ms, _ in rest)
        fig.add_bar(
            x=[together],
            y=[len(head)],
            orientation="h",
            name="the rest",
            width=0.8,
            marker={"color": "rgba(0,0,0,0)", "line": {"color": INK, "width": 1}},
            text=[f"{together:.4f} ms"],
            textposition="outside",
            hoverinfo="skip",
        )
        labels.append(plural(len(rest), "more layer"))
    fig.update_layout(barmode="overlay")
    fig.update_xaxes(
        title="ms, median of the profiled runs",
        range=[0, 1.25 * max(t.x[i] for t in fig.data for i in range(len(t.x)))],
    )
    fig.update_yaxes(
        tickvals=list(range(len(labels))), ticktext=labels, autorange="reversed", showgrid=False
    )
    untimed, alien = len(joined.without_time), len(joined.without_layer)
    missed = f"; {plural(untimed, 'layer has', 'layers have')} no time" if untimed else ""
    missed += f"; {plural(alien, 'time has', 'times have')} no layer" if alien else ""
    return footer(fig, source_label(source) + missed)
