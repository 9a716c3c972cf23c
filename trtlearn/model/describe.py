"""What an ONNX file holds, as a record without its weights.

The file is opened by :func:`load_proto`; what ONNX Runtime computes from it is in :func:`activations`.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ..dtypes import ONNX
from ..errors import ModelError
from ..files import read_bytes, sha256
from ..record import Record, plural
from .read import MAX_BYTES, all_graphs, live_tensors, load_proto, opset, serialized
from .run import activations

if TYPE_CHECKING:
    import onnx

__all__ = [
    "MAX_BYTES",
    "OnnxModel",
    "OnnxNode",
    "OnnxValue",
    "activations",
    "describe",
    "live_tensors",
    "load_proto",
    "read_model",
    "whole_inputs",
]

QDQ = ("QuantizeLinear", "DequantizeLinear")


@dataclass(frozen=True)
class OnnxValue(Record):
    """An input or output: a symbolic axis is a string, an unknown one None."""

    name: str
    shape: tuple[Any, ...] | None
    dtype: str | None


@dataclass(frozen=True)
class OnnxNode(Record):
    """One node; ``name`` is empty where the file gives none, as are left-out optional ``inputs``."""

    name: str
    op: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]


@dataclass(frozen=True)
class OnnxModel(Record):
    """What an ONNX file holds, without its weights.

    ``tensors`` are the activations: the network inputs and everything computed from them, in the order in which the
    nodes make them. ``initializers`` counts the weight tensors and ``parameters`` their elements.
    """

    path: str | None
    sha256: str
    size_bytes: int
    producer: str
    ir_version: int
    opset: int
    nodes: tuple[OnnxNode, ...]
    inputs: tuple[OnnxValue, ...]
    outputs: tuple[OnnxValue, ...]
    tensors: tuple[str, ...]
    initializers: int
    parameters: int
    has_qdq: bool

    def summary(self) -> str:
        kind = "with Q/DQ" if self.has_qdq else "no Q/DQ"
        size = f"{plural(len(self.nodes), 'node')}, {plural(self.parameters, 'parameter')}"
        return f"{size}, opset {self.opset}, {kind}"

    def rows(self) -> list[dict[str, Any]]:
        return [
            {"node": n.name, "op": n.op, "inputs": n.inputs, "outputs": n.outputs}
            for n in self.nodes
        ]

    def node(self, name: str) -> OnnxNode:
        """The node called ``name``; ModelError where there is none."""
        for node in self.nodes:
            if node.name == name:
                return node
        raise ModelError(
            f"no node named {name!r} in this model", "look at the names in model.nodes"
        )

    def producer_of(self, tensor: str) -> OnnxNode | None:
        """The node that makes ``tensor``; None for a network input, a weight or an unknown name."""
        return next((node for node in self.nodes if tensor in node.outputs), None)

    def consumers_of(self, tensor: str) -> tuple[OnnxNode, ...]:
        """The nodes that read ``tensor``."""
        return tuple(node for node in self.nodes if tensor in node.inputs)


def _value(value: onnx.ValueInfoProto) -> OnnxValue:
    kind = value.type.tensor_type
    shape = None
    if kind.HasField("shape"):
        axes = [
            axis.dim_param
            or (axis.dim_value if axis.HasField("dim_value") and axis.dim_value >= 0 else None)
            for axis in kind.shape.dim
        ]
        shape = tuple(axes)
    return OnnxValue(value.name, shape, ONNX.get(kind.elem_type))


def describe(
    proto: onnx.ModelProto, path: str | None = None, content: bytes | None = None
) -> OnnxModel:
    """The record of a model in memory; ``content`` are the bytes it was read from, for its hash and size."""
    content = serialized(proto) if content is None else content
    graph = proto.graph
    fixed = {tensor.name for tensor in graph.initializer}
    elements = 0
    for tensor in graph.initializer:
        count = 1
        for axis in tensor.dims:
            count *= axis
        elements += count
    return OnnxModel(
        path=path,
        sha256=sha256(content),
        size_bytes=len(content),
        producer=f"{proto.producer_name} {proto.producer_version}".strip(),
        ir_version=int(proto.ir_version),
        opset=opset(proto),
        nodes=tuple(
            OnnxNode(n.name, n.op_type, tuple(n.input), tuple(n.output)) for n in graph.node
        ),
        inputs=tuple(_value(value) for value in graph.input if value.name not in fixed),
        outputs=tuple(_value(value) for value in graph.output),
        tensors=live_tensors(proto),
        initializers=len(graph.initializer),
        parameters=elements,
        has_qdq=any(node.op_type in QDQ for inner in all_graphs(proto) for node in inner.node),
    )


def whole_inputs(model: OnnxModel, arrays: Mapping[str, NDArray[Any]]) -> tuple[str, ...]:
    """The inputs that every batch gets whole, because they hold no rows: a scalar, a recurrent network's first state.

    These are all inputs without axes, and, where the arrays differ in their first axis, those that are as long there
    as the network fixes it. Where that would be all of them, the first holds the rows.

    >>> from trtlearn.model.course_data import model_path
    >>> whole_inputs(read_model(model_path("resnet")), {"image": np.zeros((8, 1, 28, 28), np.float32)})
    ()
    """
    given = {name: np.shape(array) for name, array in arrays.items()}
    rows = {
        value.name: given[value.name][0]
        for value in model.inputs
        if value.shape and given.get(value.name)
    }
    fixed = {
        value.name: value.shape[0]
        for value in model.inputs
        if value.shape and isinstance(value.shape[0], int)
    }
    differ = len(set(rows.values())) > 1 or len(set(fixed.values())) > 1
    whole = {name for name, size in fixed.items() if differ and rows.get(name) == size}
    if whole == set(rows) and whole:
        whole.remove(next(iter(rows)))
    return tuple(value.name for value in model.inputs if value.shape == () or value.name in whole)


def read_model(model: str | os.PathLike[str] | bytes) -> OnnxModel:
    """The record of the ONNX model at a path or in bytes; ModelError as for :func:`load_proto`.

    >>> from trtlearn.model.course_data import model_path
    >>> model = read_model(model_path("resnet"))
    >>> model.inputs[0].shape, model.has_qdq, model.tensors[:3]
    (('batch', 1, 28, 28), False, ('image', 'stem', 'stem_relu'))
    """
    proto = load_proto(model)
    if isinstance(model, bytes):
        return describe(proto, None, model)
    return describe(proto, os.fspath(model), read_bytes(model, ModelError))
