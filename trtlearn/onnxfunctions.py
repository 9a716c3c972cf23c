"""A model's own functions, put where they are called: exporters that write functions hide a network's layers in them.

TensorRT 8.6 knows no such functions; everything here that looks for layers looks in the main graph.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

from .errors import ModelError, first_line

if TYPE_CHECKING:
    import onnx

__all__ = ["all_nodes", "inlined", "inner_graphs"]

MOST_NODES = 1_000_000
"""Functions that call functions multiply: a model that grows beyond this many nodes is refused."""

Key = tuple[str, str]


def inner_graphs(attribute: onnx.AttributeProto) -> tuple[onnx.GraphProto, ...]:
    """The graphs that an attribute holds: a branch of an If, the body of a Loop or Scan."""
    return (*([attribute.g] if attribute.HasField("g") else []), *attribute.graphs)


def all_nodes(nodes: Iterable[onnx.NodeProto]) -> Iterator[onnx.NodeProto]:
    """The nodes, and those of the graphs inside them."""
    for node in nodes:
        yield node
        for attribute in node.attribute:
            for graph in inner_graphs(attribute):
                yield from all_nodes(graph.node)


def _grown(model: onnx.ModelProto, where: str) -> int:
    """How many nodes the graph has once every call is replaced by what it calls."""
    bodies = {(one.domain, one.name): one for one in model.functions}
    known: dict[Key, int] = {}
    under_way: set[Key] = set()

    def count(nodes: Iterable[onnx.NodeProto]) -> int:
        return sum(call((node.domain, node.op_type)) for node in all_nodes(nodes))

    def call(key: Key) -> int:
        if key not in bodies:
            return 1
        if key in under_way:
            raise ModelError(f"{where}: function {key[1]} calls itself", "export the network to ONNX again")
        if key not in known:
            under_way.add(key)
            known[key] = count(bodies[key].node)
            under_way.remove(key)
        return known[key]

    return count(model.graph.node)


def inlined(model: onnx.ModelProto, where: str = "the model") -> onnx.ModelProto:
    """``model`` with its functions' nodes in place of the calls; itself where it has none.

    A function written for other operator sets than the model's stays a function. ModelError where functions call each
    other in a circle, grow beyond ``MOST_NODES`` or cannot be inlined.
    """
    if not model.functions:
        return model
    from onnx import inliner

    if (grown := _grown(model, where)) > MOST_NODES:
        raise ModelError(f"{where} grows to {grown:,} nodes, expected at most {MOST_NODES:,}", "export it again")
    try:
        return inliner.inline_local_functions(model)
    except Exception as problem:  # onnx's C++ code raises errors of several kinds, by version
        said = first_line(problem)
        raise ModelError(f"{where}: its functions cannot be inlined: {said:.200}", "export it without them") from None
