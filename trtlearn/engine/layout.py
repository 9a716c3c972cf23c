"""An engine as a graph with places for its layers: longest-path ranks, few crossings."""

from __future__ import annotations

from collections import defaultdict
from typing import NamedTuple

from .layers import EngineInfo, without_profile

__all__ = ["EngineGraph", "GraphEdge", "GraphNode", "graph"]


class GraphNode(NamedTuple):
    """One engine layer, network input or output; ``x`` grows to the right, ``y`` is -rank."""

    name: str
    role: str  # compute, reformat, no-op, input, output
    dtype: str | None  # the type it works in; of an input, output or reformat what it hands on
    x: float
    y: float
    layer: int | None  # index into engine.layers; None for an input or output


class GraphEdge(NamedTuple):
    """A tensor from one node to another (indices into ``nodes``)."""

    source: int
    target: int
    tensor: str
    dtype: str | None


class EngineGraph(NamedTuple):
    """The engine's layers as nodes with coordinates, and the tensors between them."""

    nodes: tuple[GraphNode, ...]
    edges: tuple[GraphEdge, ...]


def _edges(engine: EngineInfo, inputs: list[str], outputs: list[str]) -> list[GraphEdge]:
    """Tensors from writer to reader, in the order of execution.

    Several layers may write parts of one tensor (a Concat that needs no copy): all of them count
    until the tensor is read; a write after that starts it again (names are used again inside
    Myelin's layers). The layers of a second profile read and write the network's inputs and
    outputs as "x [profile 1]".
    """
    first = len(engine.layers)
    starts = {name: [first + at] for at, name in enumerate(inputs)}
    writers: dict[str, list[int]] = dict(starts)
    read: set[str] = set()
    edges = []
    for index, layer in enumerate(engine.layers):
        for tensor in {tensor.name: tensor for tensor in layer.inputs}.values():
            read.add(tensor.name)
            sources = writers.get(tensor.name) or starts.get(without_profile(tensor.name), [])
            edges += [GraphEdge(at, index, tensor.name, tensor.dtype) for at in sources]
        for tensor in layer.outputs:
            if tensor.name in read or tensor.name not in writers:
                writers[tensor.name] = []
                read.discard(tensor.name)
            if index not in writers[tensor.name]:
                writers[tensor.name].append(index)
    ends: dict[str, list[int]] = defaultdict(list)
    for name, layers in writers.items():
        ends[without_profile(name)] += layers
    for at, name in enumerate(outputs, first + len(inputs)):
        dtype = next((binding.dtype for binding in engine.bindings if binding.name == name), None)
        edges += [GraphEdge(writer, at, name, dtype) for writer in ends[name] if writer != at]
    return edges


def _mean(values: list[float], otherwise: float) -> float:
    return sum(values) / len(values) if values else otherwise


def _places(
    ranks: list[int],
    order: list[int],
    parents: dict[int, list[int]],
    children: dict[int, list[int]],
) -> list[float]:
    """x of each node: ranks sorted by their neighbours' mean, then drawn to it, 1 or more apart."""
    rows: dict[int, list[int]] = defaultdict(list)
    for node in order:
        rows[ranks[node]].append(node)
    x = [0.0] * len(ranks)
    for row in rows.values():
        for at, node in enumerate(row):
            x[node] = at - (len(row) - 1) / 2
    down = sorted(rows)
    still = 0  # sweeps that changed nothing: after two, down and up, no other will
    for sweep in range(6):
        before = x.copy()
        neighbours = parents if sweep % 2 == 0 else children
        for rank in down if sweep % 2 == 0 else reversed(down):
            row = rows[rank]
            wanted = {}
            for node in row:
                wanted[node] = _mean([x[other] for other in neighbours[node]], x[node])
            row.sort(key=wanted.__getitem__)
            placed: list[float] = []
            for node in row:
                placed.append(max(wanted[node], placed[-1] + 1) if placed else wanted[node])
            shift = _mean(
                [wanted[node] - place for node, place in zip(row, placed, strict=True)], 0.0
            )
            for node, place in zip(row, placed, strict=True):
                x[node] = place + shift
        still = still + 1 if x == before else 0
        if still == 2:
            break
    return x


def graph(engine: EngineInfo) -> EngineGraph:
    """The engine's layers, inputs and outputs as a graph with coordinates.

    Ranks are longest paths from the inputs; inside a rank nodes are ordered by the mean place of
    their neighbours (Sugiyama, Tagawa and Toda, 1981). Network inputs and outputs come last in
    ``nodes``, after the layers.

    >>> from trtlearn.engine.layers import Binding, EngineLayer, EngineTensor
    >>> x, y = EngineTensor("x", (1,), "fp32"), EngineTensor("y", (1,), "fp32")
    >>> bindings = (Binding("x", "input"), Binding("y", "output"))
    >>> engine = EngineInfo((EngineLayer("fc", None, (x,), (y,)),), bindings)
    >>> [(node.name, node.y) for node in graph(engine).nodes]
    [('fc', -1.0), ('x', 0.0), ('y', -2.0)]
    """
    inputs = [binding.name for binding in engine.bindings if binding.mode == "input"]
    outputs = [binding.name for binding in engine.bindings if binding.mode == "output"]
    first, types = len(engine.layers), {binding.name: binding.dtype for binding in engine.bindings}
    count = first + len(inputs) + len(outputs)
    edges = _edges(engine, inputs, outputs)
    parents: dict[int, list[int]] = defaultdict(list)
    children: dict[int, list[int]] = defaultdict(list)
    for edge in edges:
        parents[edge.target].append(edge.source)
        children[edge.source].append(edge.target)
    order = [*range(first, first + len(inputs)), *range(first), *range(first + len(inputs), count)]
    ranks = [0] * count
    for node in order:  # topological: TensorRT lists layers as they run
        ranks[node] = max((ranks[parent] + 1 for parent in parents[node]), default=0)
    for node in order[: len(inputs)]:  # an input stands just above its first reader
        ranks[node] = min((ranks[child] for child in children[node]), default=1) - 1
    x = _places(ranks, order, parents, children)
    nodes = []
    for index, layer in enumerate(engine.layers):
        y = float(-ranks[index])
        nodes.append(GraphNode(layer.name, layer.role, layer.shown_dtype, x[index], y, index))
    for at, name in enumerate([*inputs, *outputs], first):
        role = "input" if at < first + len(inputs) else "output"
        nodes.append(GraphNode(name, role, types[name], x[at], float(-ranks[at]), None))
    return EngineGraph(tuple(nodes), tuple(edges))
