"""What an ONNX model holds: one index of its graph, its record, and its own quantization.

Everything here that looks for layers looks in the main graph; :func:`all_graphs` walks the graphs
inside nodes (If, Loop, Scan) too.
"""

from __future__ import annotations

import math
import re
from collections.abc import Container, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ..dtypes import ONNX
from ..errors import ModelError
from ..record import Record, plural
from .operators import ONNX_DOMAINS, QDQ, TRT_QDQ

if TYPE_CHECKING:
    import onnx

    Tensors = dict[str, onnx.TensorProto]
    Types = dict[str, onnx.TypeProto.Tensor]

__all__ = [
    "SYMMETRIC",
    "Graph",
    "OnnxModel",
    "OnnxNode",
    "OnnxValue",
    "Quantization",
    "RefusedNode",
    "all_graphs",
    "all_nodes",
    "attributes",
    "constants",
    "describe",
    "evaluate",
    "inner_graphs",
    "judge_quantization",
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


# What an ONNX file holds, as a record without its weights


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


# The quantization that a model brings along

_OWN_OPERATORS = re.compile(
    r"(?:\w+::)?(?:Q(?:Linear|Ordered|Embed)\w+|QGemm|QAttention|QMoE|\w+Integer(?:ToFloat)?"
    r"|DynamicQuantize\w+|MatMul(?:NBits|Bnb4|FpQ4)|GatherBlockQuantized|TRT_FP4QDQ"
    r"|(?:Int|Float|Bipolar)?Quant|\w*(?:[Ff]ake_?[Qq]uant|Per(?:Tensor|Channel)Affine)\w*"
    r"|(?:[Dd]e)?[Qq]uantize(?:BFP|WithOrder|_linear)|(?:Vitis|Extended|SNPE_)\w+Linear)"
)
_CODES = {2: "UINT8", 3: "INT8", 17: "FLOAT8E4M3FN", 22: "INT4", 23: "FLOAT4E2M1"}
"""The types of codes that TensorRT takes, as ONNX numbers them."""
SYMMETRIC = "quantize again symmetrically: QuantType.QInt8, ActivationSymmetric, WeightSymmetric"
AS_QDQ = (
    "quantize the original model again, with Q/DQ nodes: QuantFormat.QDQ in ONNX Runtime, or "
    "`trtlearn migrate` from a calibration cache"
)
NARROW = "quantize again to INT8 (QuantType.QInt8), or with ModelOpt to INT4, FP8 (E4M3) or FP4"
FLOAT_BIAS = "quantize again with the bias left in floating point (QuantizeBias=False)"


@lru_cache(maxsize=1024)
def _is_own_operator(name: str) -> bool:
    """Whether an operator computes on codes, and TensorRT has no importer for it."""
    return _OWN_OPERATORS.fullmatch(name) is not None


@dataclass(frozen=True)
class RefusedNode(Record):
    """A node that TensorRT's parser refuses, why, and what to do."""

    node: str
    op: str
    why: str
    fix: str

    def summary(self) -> str:
        return f"TensorRT's parser refuses the node {self.node!r} ({self.op}): {self.why}"


@dataclass(frozen=True)
class Quantization(Record):
    """What a model's own quantization is to TensorRT."""

    has_qdq: bool  # it holds quantize or dequantize nodes, TensorRT's own included
    refused: tuple[RefusedNode, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def is_quantized(self) -> bool:
        """Whether it is quantized already, in whatever way."""
        return self.has_qdq or bool(self.refused)

    def why_not_again(self) -> tuple[str, str]:
        """The problem and its cure, for a program that was to quantize the model."""
        if self.refused:
            first = self.refused[0]
            return f"the model is quantized already, and {first.summary()}", first.fix
        return "the model has Q/DQ nodes already: its ranges are in it", "build it as it is"


def judge_quantization(proto: onnx.ModelProto) -> Quantization:
    """Whether the model is quantized, and which of its nodes TensorRT's parser refuses.

    Q/DQ nodes decide what is INT8 where the parser takes them. It refuses zero points other than 0,
    scales of 0 and below, other codes than INT8, INT4, FP8 (E4M3) and FP4, such as a quantized
    bias, and the operators that compute on codes (QLinearConv, MatMulInteger,
    DynamicQuantizeLinear). UINT8 with zero point 0 is read as INT8.

    Source: measured with the parser of TensorRT for RTX 1.7, whose interface is TensorRT 11's; no
    parser of 8.x or 10.x was tried. What the notes say of those is read in onnx/onnx-tensorrt,
    QuantDequantLinearHelper, branches 8.0-GA to 10.1-GA.
    """
    refused: list[RefusedNode] = []
    notes: list[str] = []
    has_qdq = False
    for nodes, known, inputs in _bodies(proto):
        for node in nodes:
            if node.op_type in TRT_QDQ:
                has_qdq = True
                notes.append(
                    f"{node.op_type} is TensorRT's own operator: ONNX Runtime cannot run the model"
                )
            elif node.op_type in QDQ:
                has_qdq = True
                if found := _problem(node, known, inputs):
                    refused.append(RefusedNode(node_key(node), node.op_type, *found))
                elif note := _note(node, known):
                    notes.append(f"{node_key(node)} {note}")
            elif _is_own_operator(str(node.op_type)):
                why = "TensorRT has no importer for this operator"
                refused.append(RefusedNode(node_key(node), node.op_type, why, AS_QDQ))
    return Quantization(has_qdq, tuple(refused), tuple(dict.fromkeys(notes)))


def _bodies(proto: onnx.ModelProto) -> Iterator[tuple[list[onnx.NodeProto], Tensors, Types]]:
    """The nodes of the graph, and of each function that is called, with those of inner graphs; the
    constants that they know by name, also through Identity; and the types of the inputs.
    """
    stored = {tensor.name: tensor for graph in all_graphs(proto) for tensor in graph.initializer}
    typed = {value.name: value.type.tensor_type for value in proto.graph.input}
    main = list(all_nodes(proto.graph.node))
    functions = {item.name: list(all_nodes(item.node)) for item in proto.functions}
    called = {node.op_type for nodes in (main, *functions.values()) for node in nodes}
    bodies: list[tuple[list[onnx.NodeProto], Tensors, Types]] = [(main, stored, typed)]
    bodies += [(nodes, {}, {}) for name, nodes in functions.items() if name in called]
    for nodes, tensors, inputs in bodies:
        known = constants_of(nodes) | tensors
        for node in nodes:
            if node.op_type == "Identity" and node.input[0] in known:
                known[node.output[0]] = known[node.input[0]]
        yield nodes, known, inputs


def _values(name: str, known: Tensors) -> NDArray[Any] | None:
    tensor = known.get(name)
    if tensor is None or tensor.data_location == 1:  # kept in another file
        return None
    try:
        return tensor_array(tensor)
    except ModelError:  # of a type that this onnx does not know
        return None


def _problem(node: onnx.NodeProto, known: Tensors, inputs: Types) -> tuple[str, str] | None:
    """Why the parser refuses a Q or DQ node, and what to do."""
    from onnx import TensorProto

    data, scales, zeros = (*node.input, "", "")[:3]
    scale, zero, options = _values(scales, known), _values(zeros, known), attributes(node)
    held, given = known.get(data), inputs.get(data)
    codes = held.data_type if held else given.elem_type if given else 0
    shape = list(held.dims) if held else [dim.dim_value for dim in given.shape.dim] if given else []
    is_dq = node.op_type == "DequantizeLinear"
    kinds = (
        codes if is_dq else options.get("output_dtype"),
        zeros in known and known[zeros].data_type,
    )
    for kind in filter(None, kinds):
        if kind not in _CODES:
            name = {number: name for name, number in TensorProto.DataType.items()}.get(kind, kind)
            fix = FLOAT_BIAS if held and kind == TensorProto.INT32 else NARROW
            return f"its codes are {name}, and TensorRT takes INT8, INT4, FP8 (E4M3) and FP4", fix
    if zero is not None and np.any(zero.astype(np.float32) != 0):
        worst = zero.ravel()[np.argmax(zero.ravel() != 0)]
        return f"its zero point is {worst}, and TensorRT takes 0 only", SYMMETRIC
    if scale is not None and not np.all(scale.astype(np.float64) > 0):
        bad = scale.ravel()[~(scale.ravel().astype(np.float64) > 0)][0]
        return (
            f"its scale is {bad}, and TensorRT takes scales above 0 only",
            "calibrate again, or leave this tensor out of quantization",
        )
    if is_dq and codes == TensorProto.UINT8:
        return "its codes are constants or inputs of UINT8, and TensorRT takes INT8", SYMMETRIC
    if shape and scale is not None and scale.ndim == 1 and scale.size > 1:
        axis = int(options.get("axis", 1))
        if not -len(shape) <= axis < len(shape) or shape[axis] not in (0, scale.size):
            where = f"axis {axis} of a tensor of shape {shape}"
            return (
                f"it has {scale.size} scales on {where}",
                "write one for each channel of the axis",
            )
    return None


def _note(node: onnx.NodeProto, known: Tensors) -> str:
    """What to know of a Q or DQ node that the parser takes."""
    zero = _values((*node.input, "", "")[2], known)
    if zero is not None and zero.dtype == np.uint8:
        return (
            "has UINT8 codes with zero point 0: TensorRT 8.5 to 10.1 refuses UINT8, a later one "
            "reads them as INT8, so that values above 127 steps are clipped"
        )
    if node.op_type == "QuantizeLinear" and not node.input[2:] and not node.attribute:
        return "has no zero point: its codes are UINT8 to ONNX, INT8 to TensorRT; 8.x refuses it"
    return ""
