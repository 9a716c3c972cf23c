"""The one index of an ONNX graph: who makes and who reads a tensor, constants, attributes.

Everything here that looks for layers looks in the main graph; :func:`all_graphs` walks the graphs
inside nodes (If, Loop, Scan) too.
"""

from __future__ import annotations

from collections.abc import Container, Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from ..errors import ModelError
from .operators import ONNX_DOMAINS

if TYPE_CHECKING:
    import onnx

__all__ = [
    "Graph",
    "all_graphs",
    "all_nodes",
    "attributes",
    "constants",
    "constants_of",
    "evaluate",
    "inner_graphs",
    "live_tensors",
    "node_key",
    "opset",
    "read_names",
    "tensor_array",
    "without_graph",
    "without_large_constants",
]

SMALL_BYTES = 1 << 16
"""Initializers up to this size may be shapes."""
CONSTANT_KINDS = {"value_float": 1, "value_floats": 1, "value_int": 7, "value_ints": 7}
"""Attributes of a Constant node besides ``value``, and the TensorProto type of each."""


class Graph:
    """The main graph of a model, indexed by tensor.

    ``producer``: tensor -> its node; ``readers``: tensor -> the nodes that read it, in order,
    once for each time; ``constants``: see :func:`constants`; ``outputs``: the network's.
    """

    def __init__(self, model: onnx.ModelProto) -> None:
        self.nodes = list(model.graph.node)
        self.producer: dict[str, onnx.NodeProto] = {}
        self.readers: dict[str, list[onnx.NodeProto]] = {}
        for node in self.nodes:
            self.producer.update(dict.fromkeys(node.output, node))
            for name in node.input:
                self.readers.setdefault(name, []).append(node)
        self.constants = constants(model)
        self.outputs = {value.name for value in model.graph.output}

    def array(self, name: str) -> np.ndarray[Any, Any]:
        """The values of the constant ``name``."""
        return tensor_array(self.constants[name])


def tensor_array(tensor: onnx.TensorProto) -> np.ndarray[Any, Any]:
    """The values of a stored tensor; ModelError for a data type that this onnx does not know."""
    from onnx import numpy_helper

    try:
        return np.asarray(numpy_helper.to_array(tensor))
    except (KeyError, TypeError, ValueError) as problem:
        raise ModelError(
            f"tensor {tensor.name!r:.200} of type {tensor.data_type} cannot be read: {problem}",
            "pip install -U onnx",
        ) from None


def evaluate(
    node: onnx.NodeProto, feed: Mapping[str, np.ndarray[Any, Any]], model: onnx.ModelProto
) -> list[np.ndarray[Any, Any]]:
    """The node's outputs for its inputs ``feed``, by onnx's reference at the model's opset.

    Raises what the reference raises where it cannot.
    """
    from onnx import helper
    from onnx.reference import ReferenceEvaluator

    inputs = []
    for name, array in feed.items():
        dtype = helper.np_dtype_to_tensor_dtype(array.dtype)
        inputs.append(helper.make_tensor_value_info(name, dtype, array.shape))
    outputs = [helper.make_empty_tensor_value_info(name) for name in node.output if name]
    alone = helper.make_model(
        helper.make_graph([node], "node", inputs, outputs),
        opset_imports=model.opset_import,
        functions=model.functions,
    )
    with np.errstate(over="ignore"):  # a Sigmoid of -100 is exp(100) on its way
        return list(map(np.asarray, ReferenceEvaluator(alone).run(None, dict(feed))))


def without_large_constants(model: onnx.ModelProto) -> onnx.ModelProto:
    """A model with the same nodes, in which large initializers are inputs: for checks and for the
    inference of shapes, neither of which looks at weights.
    """
    from onnx import helper

    bare = without_graph(model)
    graph = bare.graph
    graph.name = model.graph.name
    graph.node.extend(model.graph.node)
    inputs = {value.name: value for value in model.graph.input}
    for tensor in model.graph.initializer:
        if tensor.ByteSize() <= SMALL_BYTES:
            graph.initializer.append(tensor)
        elif tensor.name not in inputs:
            shape = helper.make_tensor_value_info(tensor.name, tensor.data_type, tensor.dims)
            inputs[tensor.name] = shape
    graph.input.extend(inputs.values())
    graph.sparse_initializer.extend(model.graph.sparse_initializer)
    graph.output.extend(model.graph.output)
    return bare


def without_graph(model: onnx.ModelProto) -> onnx.ModelProto:
    """A model of the same versions and functions, with nothing in its graph."""
    empty = type(model)(ir_version=model.ir_version)
    empty.opset_import.extend(model.opset_import)
    empty.functions.extend(model.functions)
    return empty


def node_key(node: onnx.NodeProto) -> str:
    """The node's name, or its first output's where it has none."""
    return str(node.name or node.output[0])


def attributes(node: onnx.NodeProto) -> dict[str, Any]:
    """The node's attributes as Python values."""
    from onnx import helper

    return {item.name: helper.get_attribute_value(item) for item in node.attribute}


def opset(proto: onnx.ModelProto) -> int:
    """The version of ONNX's own operators that the model asks for; 0 where it names none."""
    versions = [item.version for item in proto.opset_import if item.domain in ONNX_DOMAINS]
    return int(max(versions, default=0))


def constants(proto: onnx.ModelProto) -> dict[str, onnx.TensorProto]:
    """The constants by name: initializers and Constant nodes, no sparse tensors or strings."""
    stored = {tensor.name: tensor for tensor in proto.graph.initializer}
    return stored | constants_of(proto.graph.node)


def constants_of(nodes: Iterable[onnx.NodeProto]) -> dict[str, onnx.TensorProto]:
    """What the Constant nodes among ``nodes`` hold, by name."""
    from onnx import helper

    stored = {}
    for node in nodes:
        if node.op_type != "Constant":
            continue
        name = node.output[0]
        for item in node.attribute:
            if item.name == "value":
                stored[name] = item.t
            elif item.name in CONSTANT_KINDS:
                value = helper.get_attribute_value(item)
                shape = [len(value)] if isinstance(value, list) else []
                values = value if isinstance(value, list) else [value]
                stored[name] = helper.make_tensor(name, CONSTANT_KINDS[item.name], shape, values)
    return stored


def live_tensors(proto: onnx.ModelProto, constant_kinds: Container[str] = ()) -> tuple[str, ...]:
    """Names of the network inputs and of all that depends on them, in the order of computation.

    What is computed from weights alone is left out: it is a constant, and no calibrator sees it.
    So is what nodes of ``constant_kinds`` give, such as Shape, and what depends on nothing else.
    """
    fixed = {tensor.name for tensor in proto.graph.initializer}
    live = dict.fromkeys(value.name for value in proto.graph.input if value.name not in fixed)
    for node in proto.graph.node:
        if node.op_type in constant_kinds:
            continue
        is_live = not live.keys().isdisjoint(node.input)
        if is_live or any(inner_graphs(attribute) for attribute in node.attribute):
            live |= dict.fromkeys(name for name in node.output if name)
    return tuple(live)


def read_names(proto: onnx.ModelProto) -> list[str]:
    """Every name that a node of any graph reads or that is an output, once for each time."""
    names: list[str] = []
    for graph in all_graphs(proto):
        for node in graph.node:
            names += node.input
        names += [value.name for value in graph.output]
    return names


def inner_graphs(attribute: onnx.AttributeProto) -> tuple[onnx.GraphProto, ...]:
    """The graphs that an attribute holds: a branch of an If, the body of a Loop or Scan."""
    one = (attribute.g,) if attribute.HasField("g") else ()
    return (*one, *attribute.graphs) if attribute.graphs else one


def all_nodes(nodes: Iterable[onnx.NodeProto]) -> Iterator[onnx.NodeProto]:
    """The nodes, and those of the graphs inside them."""
    for node in nodes:
        yield node
        for attribute in node.attribute:
            for graph in inner_graphs(attribute):
                yield from all_nodes(graph.node)


def all_attributes(proto: onnx.ModelProto) -> Iterator[onnx.AttributeProto]:
    """Every attribute of every node, those of inner graphs and of functions too."""
    for nodes in (proto.graph.node, *(function.node for function in proto.functions)):
        for node in all_nodes(nodes):
            yield from node.attribute


def all_graphs(proto: onnx.ModelProto) -> Iterator[onnx.GraphProto]:
    """The model's graph and every graph inside an attribute, those of its functions' nodes too."""
    yield proto.graph
    for attribute in all_attributes(proto):
        yield from inner_graphs(attribute)
