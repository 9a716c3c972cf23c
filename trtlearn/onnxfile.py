"""ONNX files, read with care: the one place where a model from outside is opened.

A model is data. Nothing in it is executed on reading, and it may name no file outside its own folder. What ONNX
Runtime computes from it is in :func:`activations`.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .activations import activations
from .errors import ModelError
from .onnxtensors import NOT_ONNX, all_graphs, check_size, load_external, stored_tensors
from .paths import read_bytes, sha256
from .record import Record

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
]

MAX_BYTES = 2**31 - 1
"""The largest file read: protobuf's own limit for one message."""
QDQ = ("QuantizeLinear", "DequantizeLinear")
DTYPE_NAMES = {1: "fp32", 2: "uint8", 3: "int8", 6: "int32", 7: "int64", 9: "bool", 10: "fp16", 16: "bf16", 22: "int4"}
"""TensorProto.DataType numbers (onnx.proto3 of ONNX 1.17) in trtlearn's words; another number is unknown."""


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
        return f"{len(self.nodes)} nodes, {self.parameters:,} parameters, opset {self.opset}, {kind}"

    def rows(self) -> list[dict[str, Any]]:
        return [{"node": n.name, "op": n.op, "inputs": n.inputs, "outputs": n.outputs} for n in self.nodes]

    def node(self, name: str) -> OnnxNode:
        """The node called ``name``; ModelError where there is none."""
        for node in self.nodes:
            if node.name == name:
                return node
        raise ModelError(f"no node named {name!r} in this model", "look at the names in model.nodes")

    def producer_of(self, tensor: str) -> OnnxNode | None:
        """The node that makes ``tensor``; None for a network input, a weight or an unknown name."""
        return next((node for node in self.nodes if tensor in node.outputs), None)

    def consumers_of(self, tensor: str) -> tuple[OnnxNode, ...]:
        """The nodes that read ``tensor``."""
        return tuple(node for node in self.nodes if tensor in node.inputs)


def _check(proto: onnx.ModelProto, where: str) -> None:
    """ModelError unless ``proto`` is a whole model: operator sets, outputs, and every input of a node made earlier."""
    graph = proto.graph
    if not proto.ir_version or not graph.node or not proto.opset_import:
        raise ModelError(f"{where} holds no ONNX model (no version, no nodes or no operator set)", NOT_ONNX)
    known = {value.name for value in graph.input} | {tensor.name for tensor in graph.initializer} | {""}
    known |= {sparse.values.name for sparse in graph.sparse_initializer}
    for index, node in enumerate(graph.node):
        if not node.op_type:
            raise ModelError(f"{where}: node {index} ({node.name!r}) has no operator", NOT_ONNX)
        if unknown := [name for name in node.input if name not in known]:
            raise ModelError(
                f"{where}: node {node.name or index!r} ({node.op_type}) reads {unknown[0]!r}, "
                "which nothing before it makes",
                NOT_ONNX,
            )
        known |= set(node.output)
    missing = [value.name for value in graph.output if value.name not in known]
    if missing or not graph.output:
        raise ModelError(
            f"{where}: {f'nothing makes the output {missing[0]!r}' if missing else 'no outputs'}", NOT_ONNX
        )


def load_proto(model: str | os.PathLike[str] | bytes) -> onnx.ModelProto:
    """The ONNX model at a path, or in bytes, with its weights; ModelError in one line where it is no sound model.

    Refused: a missing or empty file, one over ``MAX_BYTES``, bytes that are no ONNX or that end too early, and
    external data outside the model's folder or beyond the end of its file.

    >>> from trtlearn.models import model_path
    >>> load_proto(model_path("resnet")).graph.node[0].name
    'stem'
    """
    try:
        import onnx
    except ImportError:
        raise ModelError("reading ONNX files needs the package onnx", "pip install 'trtlearn[cli]'") from None
    where, folder = "the given bytes", None
    if not isinstance(model, bytes):
        where, folder = os.fspath(model), Path(model).parent
        if Path(model).is_file() and (size := Path(model).stat().st_size) > MAX_BYTES:
            raise ModelError(
                f"{where} has {size:,} bytes, expected at most {MAX_BYTES:,}", "keep the weights outside it"
            )
        model = read_bytes(model, ModelError)
    if not model:
        raise ModelError(f"{where} is empty, expected an ONNX model", "export or copy it again")
    try:
        proto = onnx.load_model_from_string(model)
    except Exception as problem:  # protobuf's own errors, and what else broken bytes may cause
        detail = str(problem).splitlines()[0] if str(problem) else "broken protobuf"
        raise ModelError(f"{where} is no ONNX model, or is cut: {detail}", NOT_ONNX) from None
    _check(proto, where)
    for tensor in stored_tensors(proto):
        if tensor.data_location == onnx.TensorProto.EXTERNAL:
            load_external(tensor, folder)
        if tensor.HasField("raw_data"):
            check_size(tensor, where)
    return proto


def live_tensors(proto: onnx.ModelProto) -> tuple[str, ...]:
    """Names of the network inputs and of all that depends on them, in the order in which they are made.

    What is computed from weights alone is left out: it is a constant, and no calibrator sees it.
    """
    fixed = {tensor.name for tensor in proto.graph.initializer}
    live = dict.fromkeys(value.name for value in proto.graph.input if value.name not in fixed)
    for node in proto.graph.node:
        inner = any(attribute.HasField("g") or attribute.graphs for attribute in node.attribute)
        if inner or any(name in live for name in node.input):
            live |= dict.fromkeys(name for name in node.output if name)
    return tuple(live)


def _value(value: onnx.ValueInfoProto) -> OnnxValue:
    kind = value.type.tensor_type
    shape = None
    if kind.HasField("shape"):
        axes = [
            axis.dim_param or (axis.dim_value if axis.HasField("dim_value") and axis.dim_value >= 0 else None)
            for axis in kind.shape.dim
        ]
        shape = tuple(axes)
    return OnnxValue(value.name, shape, DTYPE_NAMES.get(kind.elem_type))


def describe(proto: onnx.ModelProto, path: str | None = None, content: bytes | None = None) -> OnnxModel:
    """The record of a model in memory; ``content`` are the bytes it was read from, for its hash and size."""
    content = proto.SerializeToString(deterministic=True) if content is None else content
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
        opset=max((int(entry.version) for entry in proto.opset_import if entry.domain in ("", "ai.onnx")), default=0),
        nodes=tuple(OnnxNode(n.name, n.op_type, tuple(n.input), tuple(n.output)) for n in graph.node),
        inputs=tuple(_value(value) for value in graph.input if value.name not in fixed),
        outputs=tuple(_value(value) for value in graph.output),
        tensors=live_tensors(proto),
        initializers=len(graph.initializer),
        parameters=elements,
        has_qdq=any(node.op_type in QDQ for inner in all_graphs(proto) for node in inner.node),
    )


def read_model(model: str | os.PathLike[str] | bytes) -> OnnxModel:
    """The record of the ONNX model at a path or in bytes; ModelError as for :func:`load_proto`.

    >>> from trtlearn.models import model_path
    >>> model = read_model(model_path("resnet"))
    >>> model.inputs[0].shape, model.has_qdq, model.tensors[:3]
    (('batch', 1, 28, 28), False, ('image', 'stem', 'stem_relu'))
    """
    proto = load_proto(model)
    if isinstance(model, bytes):
        return describe(proto, None, model)
    return describe(proto, os.fspath(model), read_bytes(model, ModelError))
