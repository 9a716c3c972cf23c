"""A figure of which tensors share one scale: the ONNX graph, one colour a group."""

from __future__ import annotations

import os
import typing

from .colors import INK, MARKS, SERIES, figure, footer
from .engine_graph import GraphNode, graph
from .engine_records import Binding, EngineInfo, EngineLayer, EngineTensor
from .onnxfile import OnnxModel, read_model
from .plots_numbers import source_label
from .plots_pairs import short
from .records import Provenance
from .ties import predict_ties

if typing.TYPE_CHECKING:
    import plotly.graph_objects as go

__all__ = ["scale_groups"]


def _as_graph(model: OnnxModel) -> EngineInfo:
    """The ONNX nodes as layers, so that they are placed as an engine's are."""

    def tensors(names: tuple[str, ...]) -> tuple[EngineTensor, ...]:
        return tuple(EngineTensor(name, None, None) for name in names if name in model.tensors)

    layers = tuple(
        EngineLayer(n.name or n.outputs[0], n.op, tensors(n.inputs), tensors(n.outputs)) for n in model.nodes
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

    >>> from trtlearn.models import model_path
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
        return node.name if node.layer is None else (known.nodes[node.layer].outputs or (node.name,))[0]

    ranks = 1 + max((-node.y for node in drawn.nodes), default=0)
    fig = figure(question, height=int(190 + 26 * ranks), margin={"t": 110})
    x: list[float | None] = []
    y: list[float | None] = []
    ends = [(drawn.nodes[edge.source], drawn.nodes[edge.target]) for edge in drawn.edges]
    ends = [(a, b) for a, b in ends if b.role != "output"]  # the tensor that is the output has a node already
    for a, b in ends:
        x += [a.x, b.x, None]
        y += [a.y, b.y, None]
    fig.add_trace(
        go.Scatter(x=x, y=y, mode="lines", line={"color": INK, "width": 1}, hoverinfo="skip", showlegend=False)
    )

    def beside(node: GraphNode) -> str:
        """Where the label stands: at the left where a line comes in over the right."""
        near = ((a, b) for a, b in ends if b.y <= node.y < a.y and a.x > node.x)
        over = (a.x + (b.x - a.x) * (a.y - node.y) / (a.y - b.y) for a, b in near)
        return "middle left" if node.x < -0.1 or any(0 <= x - node.x < 0.3 for x in over) else "middle right"

    own = [i for i in range(len(drawn.nodes)) if tensor_of(i) not in member and drawn.nodes[i].role != "output"]
    parts = [("a scale of its own", own, INK, "circle-open")]
    for at, (first, tensors) in enumerate(groups.items()):
        chosen = [i for i in range(len(drawn.nodes)) if tensor_of(i) in tensors and drawn.nodes[i].role != "output"]
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
    low, high = min((n.x for n in drawn.nodes), default=0), max((n.x for n in drawn.nodes), default=0)
    fig.update_xaxes(visible=False, range=[low - max(1.5, 0.5 * (high - low)), high + max(1.5, 0.5 * (high - low))])
    fig.update_yaxes(visible=False)
    return footer(fig, "predicted from the ONNX graph" if source is None else source_label(source))
