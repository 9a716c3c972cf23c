"""What an ONNX file holds, as a record without its weights."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ..dtypes import ONNX
from ..files import sha256
from ..record import Record, plural
from .graph import constants, live_tensors, opset
from .quantization import RefusedNode, judge_quantization
from .read import load_proto

if TYPE_CHECKING:
    import onnx

__all__ = ["OnnxModel", "OnnxNode", "OnnxValue", "describe", "read_model", "whole_inputs"]


@dataclass(frozen=True)
class OnnxValue(Record):
    """An input or output: a symbolic axis is a string, an unknown one None."""

    name: str
    shape: tuple[Any, ...] | None
    dtype: str | None


@dataclass(frozen=True)
class OnnxNode(Record):
    """One node; ``name`` is empty where the file gives none, as are omitted ``inputs``."""

    name: str
    op: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]

    @property
    def key(self) -> str:
        """The node's name, or its first output's where the file gives none."""
        return self.name or self.outputs[0]


@dataclass(frozen=True)
class OnnxModel(Record):
    """What an ONNX file holds, without its weights.

    ``tensors`` are the activations: the network inputs and everything computed from them, in the
    order of the nodes. ``initializers`` counts the weight tensors; ``parameters`` counts their
    elements, and those of Constant nodes.
    """

    path: str | None
    sha256: str | None  # of the file; None for a model in memory
    size_bytes: int | None
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
    refused: tuple[RefusedNode, ...] = ()  # quantized nodes that TensorRT's parser refuses
    quantization_notes: tuple[str, ...] = ()

    def summary(self) -> str:
        kind = "with Q/DQ" if self.has_qdq else "no Q/DQ"
        size = f"{plural(len(self.nodes), 'node')}, {plural(self.parameters, 'parameter')}"
        return f"{size}, opset {self.opset}, {kind}"

    def rows(self) -> list[dict[str, Any]]:
        return [
            {"node": n.name, "op": n.op, "inputs": n.inputs, "outputs": n.outputs}
            for n in self.nodes
        ]

    @cached_property
    def _consumers(self) -> dict[str, tuple[OnnxNode, ...]]:
        consumers: dict[str, list[OnnxNode]] = {}
        for node in self.nodes:
            for tensor in dict.fromkeys(node.inputs):
                consumers.setdefault(tensor, []).append(node)
        return {tensor: tuple(nodes) for tensor, nodes in consumers.items()}

    def consumers_of(self, tensor: str) -> tuple[OnnxNode, ...]:
        """The nodes that read ``tensor``."""
        return self._consumers.get(tensor, ())


def _value(value: onnx.ValueInfoProto) -> OnnxValue:
    kind = value.type.tensor_type
    axes: list[str | int | None] = []
    for axis in kind.shape.dim:
        known = axis.HasField("dim_value") and axis.dim_value >= 0
        axes.append(axis.dim_param or (axis.dim_value if known else None))
    shape = tuple(axes) if kind.HasField("shape") else None
    return OnnxValue(value.name, shape, ONNX.get(kind.elem_type))


def describe(proto: onnx.ModelProto, path: str | None = None) -> OnnxModel:
    """The record of a model in memory, with or without its weights; it has no hash and no size."""
    graph = proto.graph
    stored = {tensor.name for tensor in graph.initializer}
    quantization = judge_quantization(proto)
    return OnnxModel(
        path=path,
        sha256=None,
        size_bytes=None,
        producer=f"{proto.producer_name} {proto.producer_version}".strip(),
        ir_version=int(proto.ir_version),
        opset=opset(proto),
        nodes=tuple(
            OnnxNode(node.name, node.op_type, tuple(node.input), tuple(node.output))
            for node in graph.node
        ),
        inputs=tuple(_value(value) for value in graph.input if value.name not in stored),
        outputs=tuple(map(_value, graph.output)),
        tensors=live_tensors(proto),
        initializers=len(graph.initializer),
        parameters=sum(math.prod(tensor.dims) for tensor in constants(proto).values()),
        has_qdq=quantization.has_qdq,
        refused=quantization.refused,
        quantization_notes=quantization.notes,
    )


def whole_inputs(model: OnnxModel, arrays: Mapping[str, NDArray[Any]]) -> tuple[str, ...]:
    """The inputs that hold no rows, so that every batch gets them whole: a scalar, a first state.

    These are all inputs without axes, and, where the arrays differ in their first axis, those that
    are as long there as the network fixes it. Where that would be all, the first holds the rows.

    >>> from trtlearn.model.course_data import model_path
    >>> images = np.zeros((8, 1, 28, 28), np.float32)
    >>> whole_inputs(read_model(model_path("resnet")), {"image": images})
    ()
    """
    rows: dict[str, int] = {}
    fixed: dict[str, int] = {}
    for value in model.inputs:
        if not value.shape:
            continue
        array = arrays.get(value.name)
        if array is not None and np.ndim(array):
            rows[value.name] = len(array)
        if isinstance(value.shape[0], int):
            fixed[value.name] = value.shape[0]
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
    proto = load_proto(model, weights=False)
    path = None if isinstance(model, bytes) else os.fspath(model)
    size = len(model) if isinstance(model, bytes) else os.path.getsize(model)
    return replace(describe(proto, path), sha256=sha256(model), size_bytes=size)
