"""A drawn graph: named marks from the top to the bottom, and the lines between them."""

from __future__ import annotations

import typing
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

from ..engine.layout import EngineGraph, GraphEdge
from . import draw
from .draw import TALLEST, Figure, Style
from .theme import INK

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


def _column(values: list[typing.Any]) -> typing.Any:
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
    fig = draw.figure(title, height=min(TALLEST, int(150 + 25 * ranks)) if named else TALLEST)
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
