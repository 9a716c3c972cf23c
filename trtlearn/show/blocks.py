"""A residual block with Q/DQ pairs on its edges: the right placement and three wrong ones."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

from ..builds import Build
from .draw import Figure, Source, figure, finish, line, note, points
from .theme import GOOD, INK, WARN

__all__ = ["residual_block"]

RIGHT = ("input", "shortcut", "relu1", "relu2")
PAIRS_ON = {
    "tensorrt": RIGHT,
    "no-shortcut": ("input", "relu1", "relu2"),
    "conv-outputs": (*RIGHT, "conv1", "conv2"),
    "everywhere": (*RIGHT, "conv1", "conv2", "add"),
}
"""Placement -> the edges of a residual block that carry a pair, each by the node it comes from."""

NODES = ("conv1", "relu1", "conv2", "add", "relu2")
EDGES = {
    "input": (0.45, 0.0),
    "conv1": (1.5, 0.0),
    "relu1": (2.5, 0.0),
    "conv2": (3.5, 0.0),
    "add": (4.5, 0.0),
    "relu2": (5.55, 0.0),
    "shortcut": (2.0, 0.42),
}
"""Where the pair of an edge is drawn: to the right, and up from the row of nodes."""


def residual_block(builds: Mapping[str, Build], *, source: Source = None) -> Figure:
    """The same block once for each placement, with the layers and the time of the whole engine.

    ``builds``: placement -> its build, as ``tl.recorded.placements`` gives them. A diamond is a
    pair, orange where it is wrong; a cross marks the place of a pair that is missing. The time is
    the sum over the layers.
    """
    rows = []
    for placement, build in builds.items():
        name = "right" if placement == "tensorrt" else placement
        rows.append((f"<b>{name}</b><br>{_cost(build)}", PAIRS_ON[placement]))
    title = "Where do the pairs go, and what do the other places cost?"
    return _blocks(rows, title, source or next(iter(builds.values())).provenance)


def placed_block(
    pairs: Collection[str], builds: Mapping[str, Build], *, source: Source = None
) -> Figure:
    """The block once, with pairs on the edges ``pairs``, as :func:`residual_block` draws it.

    Where such a placement was recorded, ``builds`` (as there) says what it costs.
    """
    known = [build for name, build in builds.items() if set(PAIRS_ON[name]) == set(pairs)]
    cost = _cost(known[0]) if known else "not recorded"
    source = source or next(iter(builds.values())).provenance
    row = (f"<b>yours</b><br>{cost}", tuple(pairs))
    return _blocks([row], "What do your pairs do to the block?", source)


def _cost(build: Build) -> str:
    return f"{build.layers} layers, {layers_time(build)}"


def layers_time(build: Build) -> str:
    """The time of all layers: "0.123 ms"."""
    time = build.layer_time_ms
    return "time unknown" if time is None else f"{time:.3f} ms"


def _blocks(rows: Sequence[tuple[str, Collection[str]]], title: str, source: Source) -> Figure:
    """A row for each text and its pairs."""
    fig = figure(title, height=130 + 115 * len(rows), showlegend=False)
    for row, (text, pairs) in enumerate(rows):
        draw_block(fig, -row)
        _draw_pairs(fig, -row, pairs)
        note(fig, text, -0.15, -row, xanchor="right")
    fig.update_xaxes(range=[-1.7, 6.2], visible=False)
    fig.update_yaxes(range=[0.45 - len(rows), 0.7], visible=False)
    return finish(fig, source)


def draw_block(fig: Figure, y: float) -> None:
    """The nodes in a row, and the shortcut above them."""
    up = y + EDGES["shortcut"][1]
    x_edges = [0, 6, None, 0.2, 0.2, 4, 4]
    y_edges = [y, y, None, y, up, up, y]
    line(fig, x_edges, y_edges)
    look = {"type": "rect", "line": {"color": INK}, "fillcolor": "#dfe6ee"}
    for x, node in enumerate(NODES, start=1):
        fig.add_shape(x0=x - 0.3, x1=x + 0.3, y0=y - 0.2, y1=y + 0.2, **look)
        note(fig, node, x, y, font={"color": "#222222"})


def _draw_pairs(fig: Figure, y: float, present: Collection[str]) -> None:
    """A diamond on each edge with a pair, a cross where the right one is missing."""
    edges = [edge for edge in EDGES if edge in present or edge in RIGHT]
    symbols, colors = zip(*(mark(edge, edge in present) for edge in edges), strict=True)
    words = [f"{edge}: {fault(edge, edge in present)}" for edge in edges]
    x, heights = [EDGES[edge][0] for edge in edges], [y + EDGES[edge][1] for edge in edges]
    points(fig, x, heights, symbol=symbols, color=colors, size=15, hover=words)


def mark(edge: str, present: bool) -> tuple[str, str]:
    """Symbol and colour: a diamond is a pair, a cross one that is missing; orange is wrong."""
    if present:
        return "diamond", GOOD if edge in RIGHT else WARN
    return ("x", WARN) if edge in RIGHT else ("circle-open", INK)


def fault(edge: str, present: bool) -> str:
    """What is wrong with an edge that has a pair, or none; of the right ones what stands there."""
    if edge in RIGHT:
        return "a pair" if present else "the pair is missing"
    return "a pair that keeps two layers apart" if present else "no pair"
