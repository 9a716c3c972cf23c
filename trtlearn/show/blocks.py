"""A residual block with Q/DQ pairs on its edges: the right placement and three wrong ones, and a
control that puts pairs there; recorded engines answer.
"""

from __future__ import annotations

import html
from collections.abc import Collection, Container, Iterable, Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple

from ..builds import Build
from ..errors import DataError
from ..record import plural
from . import draw
from .draw import BAD, DTYPE_COLORS, GOOD, INK, WARN, Figure, Source

__all__ = ["place_pairs", "residual_block"]

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
        rows.append((name, build, PAIRS_ON[placement]))
    title = "Where do the pairs go, and what do the other places cost?"
    return _blocks(rows, title, source or next(iter(builds.values())).provenance)


def placed_block(
    pairs: Collection[str], builds: Mapping[str, Build], *, source: Source = None
) -> Figure:
    """The block once, with pairs on the edges ``pairs``, as :func:`residual_block` draws it.

    Where such a placement was recorded, ``builds`` (as there) says what it costs.
    """
    known = (build for name, build in builds.items() if set(PAIRS_ON[name]) == set(pairs))
    source = source or next(iter(builds.values())).provenance
    row = ("yours", next(known, None), pairs)
    return _blocks([row], "What do your pairs do to the block?", source)


def _layers_time(build: Build) -> str:
    """The time of all layers: "0.123 ms"."""
    time = build.layer_time_ms
    return "time unknown" if time is None else f"{time:.3f} ms"


def _blocks(
    rows: Sequence[tuple[str, Build | None, Collection[str]]], title: str, source: Source
) -> Figure:
    """A row for each name, what its build costs where there is one, and its pairs."""
    fig = draw.figure(title, height=130 + 115 * len(rows), showlegend=False)
    for row, (name, build, pairs) in enumerate(rows):
        cost = f"{build.layers} layers, {_layers_time(build)}" if build else "not recorded"
        _draw_block(fig, -row)
        _draw_pairs(fig, -row, pairs)
        draw.note(fig, f"<b>{name}</b><br>{cost}", -0.15, -row, xanchor="right")
    fig.update_xaxes(range=[-1.7, 6.2], visible=False)
    fig.update_yaxes(range=[0.45 - len(rows), 0.7], visible=False)
    return draw.finish(fig, source)


def _draw_block(fig: Figure, y: float) -> None:
    """The nodes in a row, and the shortcut above them."""
    up = y + EDGES["shortcut"][1]
    x_edges = [0, 6, None, 0.2, 0.2, 4, 4]
    y_edges = [y, y, None, y, up, up, y]
    draw.line(fig, x_edges, y_edges)
    look = {"type": "rect", "line": {"color": INK}, "fillcolor": "#dfe6ee"}
    for x, node in enumerate(NODES, start=1):
        fig.add_shape(x0=x - 0.3, x1=x + 0.3, y0=y - 0.2, y1=y + 0.2, **look)
        draw.note(fig, node, x, y, font={"color": "#222222"})


def _draw_pairs(fig: Figure, y: float, present: Collection[str]) -> None:
    """A diamond on each edge with a pair, a cross where the right one is missing."""
    edges = [edge for edge in EDGES if edge in present or edge in RIGHT]
    symbols, colors = zip(*(_mark(edge, edge in present) for edge in edges), strict=True)
    words = [f"{edge}: {_fault(edge, edge in present)}" for edge in edges]
    x, heights = [EDGES[edge][0] for edge in edges], [y + EDGES[edge][1] for edge in edges]
    draw.points(fig, x, heights, symbol=symbols, color=colors, size=15, hover=words)


def _mark(edge: str, present: bool) -> tuple[str, str]:
    """Symbol and colour: a diamond is a pair, a cross one that is missing; orange is wrong."""
    if present:
        return "diamond", GOOD if edge in RIGHT else WARN
    return ("x", WARN) if edge in RIGHT else ("circle-open", INK)


def _fault(edge: str, present: bool) -> str:
    """What is wrong with an edge that has a pair, or none; of the right ones what stands there."""
    if edge in RIGHT:
        return "a pair" if present else "the pair is missing"
    return "a pair that keeps two layers apart" if present else "no pair"


# --- The control.

BUTTONS = {
    "tensorrt": "right",
    "no-shortcut": "no pair on the shortcut",
    "conv-outputs": "a pair behind each convolution",
    "everywhere": "a pair everywhere",
}
"""Recorded placement -> what its button says."""
WHERE = {
    "input": "input",
    "shortcut": "shortcut",
    **{node: f"after {node}" for node in NODES},
}
"""Edge -> what its switch says."""
STEPS = {"input": "pool_quantize", "relu2": "b0_relu2_quantize"}
"""Edge -> the layer that only quantizes there, where an engine has one."""
TITLE = "Where do the pairs of a residual block go?"


def nearest(pairs: Iterable[str], recorded: Iterable[str] = PAIRS_ON) -> dict[str, set[str]]:
    """The recorded placements nearest to pairs on these edges -> the edges that differ.

    >>> nearest(["input", "shortcut", "relu1"])
    {'tensorrt': {'relu2'}}
    """
    apart = {name: set(pairs) ^ set(PAIRS_ON[name]) for name in recorded}
    least = min(len(edges) for edges in apart.values())
    return {name: edges for name, edges in apart.items() if len(edges) == least}


class _Layers(NamedTuple):
    """What is drawn of an engine's layers: frames (left, right, colour), and texts at their x."""

    frames: list[tuple[float, float, str]]
    texts: list[tuple[float, str]]


def _layers(build: Build) -> _Layers:
    """The layers that hold the block's nodes, then those that only quantize; resnet's first block
    is the one drawn.
    """
    times = build.timing.layers_ms if build.timing else {}
    words = {name: f"<br>{1000 * ms:.1f} µs" for name, ms in times.items()}
    layers = _Layers([], [])
    for layer in build.engine.layers:
        places = [x for x, node in enumerate(NODES, 1) if f"b0_{node}" in layer.onnx_nodes]
        if places:
            given = layer.output_dtypes[0] if layer.output_dtypes else None
            color = DTYPE_COLORS.get(given or "unknown", INK)
            layers.frames.append((places[0] - 0.4, places[-1] + 0.4, color))
            text = f"{given or 'unknown'} out{words.get(layer.name, '')}"
            layers.texts.append(((places[0] + places[-1]) / 2, text))
    there = {layer.name for layer in build.engine.layers}
    for edge, name in STEPS.items():
        if name in there:
            layers.texts.append((EDGES[edge][0], f"quantize{words.get(name, '')}"))
    return layers


def _picture(builds: Mapping[str, Build], source: Source) -> Figure:
    """The block with a mark on every edge, room for five layers, and a bar for each build."""
    fig = draw.panels(
        TITLE,
        ["the block: click a mark to put or take a pair", "time of all layers, milliseconds"],
        height=500,
        rows=2,
        cols=1,
        row_heights=[0.6, 0.4],
        vertical_spacing=0.13,
    )
    _draw_block(fig, 0)
    x, y = zip(*EDGES.values(), strict=True)
    marker = {"line": {"width": 2, "color": INK}}
    draw.points(fig, x, y, size=18, marker=marker, hover="%{text}")
    for _ in NODES:
        fig.add_shape(type="rect", y0=-0.3, y1=0.3, x0=0, x1=0, line={"dash": "dot", "width": 2})
    for _ in (*NODES, *STEPS):
        fig.add_annotation(x=0, y=-0.33, text="", yanchor="top", showarrow=False)
    texts = [_cost(build) for build in builds.values()]
    rows = list(range(len(builds)))
    times = [build.layer_time_ms for build in builds.values()]
    draw.bars(fig, rows, times, texts=texts, panel=(2, 1))
    draw.name_rows(fig, [BUTTONS.get(name, name) for name in builds], panel=(2, 1))
    fig.update_layout(showlegend=False)
    fig.update_xaxes(range=[0, 6], visible=False, row=1, col=1)
    fig.update_yaxes(range=[-0.72, 0.62], visible=False, row=1, col=1)
    longest = max((time or 0 for time in times), default=0)
    fig.update_xaxes(range=[0, 1.9 * longest or 1], row=2, col=1)
    return draw.finish(fig, source or next(iter(builds.values())).provenance)


def _cost(build: Build, with_int8: bool = False) -> str:
    """What an engine costs: "0.123 ms, 13 layers, 9 with INT8 weights, 1 reformat"."""
    int8 = [f"{build.int8_layers} with INT8 weights"] if with_int8 else []
    reformats = build.reformats
    last = "reformats unknown" if reformats is None else plural(reformats, "reformat")
    return ", ".join([_layers_time(build), f"{build.layers} layers", *int8, last])


def place_pairs(
    builds: Mapping[str, Build], *others: Mapping[str, Build], source: Source = None
) -> Any:
    """Put a Q/DQ pair on each edge of a residual block, or take it away, and see what it gives.

    ``builds``: placement -> its build, as ``tl.recorded.placements`` gives them, of resnet, whose
    first block is drawn; ``others`` the same of further networks, for the words. A combination
    that is not recorded says so and names the nearest recorded ones. An ipywidgets Widget is
    returned.
    """
    from .controls import beside, button, figure_widget, guarded, say, stack, switch

    if unknown := set(builds) - set(PAIRS_ON):
        raise DataError(f"placements {sorted(unknown)}", f"pass some of {', '.join(PAIRS_ON)}")
    fig = figure_widget(_picture(builds, source))
    marks, costs = fig.data[1], fig.data[2]
    frames = fig.layout.shapes[-len(NODES) :]
    notes = [note for note in fig.layout.annotations if note.yanchor == "top" and not note.name]
    layers = {name: _layers(build) for name, build in builds.items()}
    switches = {edge: switch(place, "8em") for edge, place in WHERE.items()}
    text, problem = say(""), say("")

    def move() -> None:
        pairs = [edge for edge, one in switches.items() if one.value]
        name = next((one for one in builds if set(PAIRS_ON[one]) == set(pairs)), "")
        near = nearest(pairs, builds)
        with fig.batch_update():
            looks = [_mark(edge, edge in pairs) for edge in EDGES]
            marks.marker.symbol, marks.marker.color = zip(*looks, strict=True)
            marks.text = [f"{WHERE[edge]}: {_fault(edge, edge in pairs)}" for edge in EDGES]
            costs.marker.color = [_bar_color(one, name, near) for one in builds]
            _show_layers(frames, notes, layers.get(name, _Layers([], [])))
        text.value = _answer(name, pairs, near, (builds, *others))

    run = guarded(move, problem)

    def put(pairs: Iterable[str]) -> None:
        for edge, one in switches.items():
            one.unobserve(run, "value")
            one.value = edge in pairs
            one.observe(run, "value")
        run()

    def flip(_trace: object, points: object, _state: object) -> None:
        for index in getattr(points, "point_inds", ()):
            one = switches[list(EDGES)[index]]
            one.value = not one.value

    marks.on_click(flip)
    buttons = [button(BUTTONS[name], partial(put, PAIRS_ON[name])) for name in builds]
    put(PAIRS_ON["everywhere"])
    return stack(beside(*buttons), beside(*switches.values()), problem, text, fig)


def _bar_color(one: str, name: str, near: Iterable[str]) -> str:
    """Blue: this one is recorded; orange: the nearest of those that are."""
    return GOOD if one == name else WARN if not name and one in near else INK


def _show_layers(shapes: Sequence[Any], notes: Sequence[Any], layers: _Layers) -> None:
    """A dotted frame around each engine layer, its words below; the other frames hidden."""
    no_frames, no_texts = [None] * len(shapes), [(0, "")] * len(notes)
    for shape, frame in zip(shapes, [*layers.frames, *no_frames], strict=False):
        shape.visible = frame is not None
        if frame:
            shape.x0, shape.x1, shape.line.color = frame
    for note, text in zip(notes, [*layers.texts, *no_texts], strict=False):
        note.x, note.text = text


def _answer(
    name: str,
    pairs: Sequence[str],
    near: Mapping[str, set[str]],
    networks: Sequence[Mapping[str, Build]],
) -> str:
    """What the recordings say of the pairs, as HTML."""
    from .controls import badge

    lines = []
    for one in [name] if name else near:
        lines += [_line(one, builds[one]) for builds in networks if one in builds]
    if name:
        head = badge("recorded", GOOD)
    else:
        ways = [f"{BUTTONS[one]} ({_difference(edges, pairs)})" for one, edges in near.items()]
        head = f"{badge('not recorded', BAD)} Nearest recorded: {html.escape('; '.join(ways))}"
    wrong: dict[str, list[str]] = {}
    for edge in EDGES:
        if (edge in pairs) != (edge in RIGHT):
            wrong.setdefault(_fault(edge, edge in pairs), []).append(WHERE[edge])
    faults = [f"{', '.join(places)}: {what}" for what, places in wrong.items()]
    why = html.escape("; ".join(faults) or "every pair stands where TensorRT expects it")
    return f"<p>{head} {why}.<br>{'<br>'.join(lines)}</p>"


def _difference(edges: Container[str], pairs: Sequence[str]) -> str:
    return ", ".join(
        f"{'without' if edge in pairs else 'with'} {words}"
        for edge, words in WHERE.items()
        if edge in edges
    )


def _line(name: str, build: Build) -> str:
    share = build.accuracy
    right = "" if share is None else f"; {100 * share:.1f} % of the test images right"
    return f"<b>{build.model}</b>, {BUTTONS[name]}: {_cost(build, with_int8=True)}{right}"
