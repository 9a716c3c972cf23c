"""Figures of two sides and the lines between: engine against engine, ONNX nodes against engine layers."""

from __future__ import annotations

import itertools
import typing
from collections.abc import Iterable, Sequence

from .colors import BAD, INK, WARN, dtype_color, figure, footer
from .engine_records import EngineInfo, EngineLayer
from .engine_view import EngineDiff, FusionMap, diff_engines, fusion_map
from .plots_numbers import source_label, tall
from .precision_reasons import computed_in
from .record import plural, show
from .records import Provenance

if typing.TYPE_CHECKING:
    import plotly.graph_objects as go

    from .onnxfile import OnnxModel

__all__ = ["engine_diff", "fusion", "hover", "short"]


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
    fig: go.Figure, x: float, rows: Sequence[tuple[float, str, str | None, str]], align: str, name: str = ""
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


def _dtype(layer: EngineLayer) -> str | None:
    return computed_in(layer) or (layer.output_dtypes or (None,))[0]


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
        paired = zip(row.first, row.second, strict=True) if row.status != "fused differently" else None
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
        rows = [(at, layer.name, _dtype(layer), hover(layer)) for at, layer in enumerate(engines[side].layers)]
        _boxes(fig, side, rows, align, labels[side])
    fig.update_xaxes(
        range=[-1.15, 2.15], tickvals=[0, 1], ticktext=list(labels), side="top", showgrid=False, zeroline=False
    )
    fig.update_yaxes(visible=False, autorange="reversed")
    fig.update_layout(title={"y": 1, "pad": {"t": 14}}, legend={"y": 0, "yanchor": "top"})
    alone = [found.counts[status] for status in ("only in first", "only in second")]
    return footer(fig, f"{source_label(source)}; only in {labels[0]}: {alone[0]}, only in {labels[1]}: {alone[1]}")


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
    fig = figure(question, height=tall(max(len(found.nodes), len(engine.layers), 1)), showlegend=False)
    stretch = max(1, len(found.nodes) - 1) / max(1, len(engine.layers) - 1)
    places: dict[str, list[int]] = {}
    for at, layer in enumerate(engine.layers):
        places.setdefault(layer.name, []).append(at)
    lines: dict[str, tuple[list[float | None], list[float | None]]] = {}
    left: list[tuple[float, str, str | None, str]] = []
    for at, row in enumerate(found.nodes):
        held = list(dict.fromkeys(place for name in row.engine_layers for place in places[name]))
        types = {computed_in(engine.layers[place]) for place in held} - {None}
        if not types:
            types = {_dtype(engine.layers[place]) for place in held}
        dtype = types.pop() if len(types) == 1 else None
        where = short(", ".join(row.engine_layers), 90) or "no engine layer names it"
        left.append(
            (at, row.node if held else f"{row.node}: in no layer", dtype, f"<b>{short(row.node, 90)}</b><br>{where}")
        )
        for place in held:
            x, y = lines.setdefault(show(_dtype(engine.layers[place])), ([], []))
            x += [0, 1, None]
            y += [at, place * stretch, None]
    for dtype, (x, y) in lines.items():
        fig.add_scatter(x=x, y=y, mode="lines", line={"color": dtype_color(dtype), "width": 1.5}, hoverinfo="skip")
    _boxes(fig, 0, left, "middle left", "ONNX nodes")
    right = [(at * stretch, layer.name, _dtype(layer), hover(layer)) for at, layer in enumerate(engine.layers)]
    _boxes(fig, 1, right, "middle right", "engine layers")
    _two_columns(fig, (plural(len(found.nodes), "ONNX node"), plural(len(engine.layers), "engine layer")))
    return footer(fig, source_label(source))
