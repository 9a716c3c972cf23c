"""Whether and how TensorRT takes the quantization that a model brings along: one judgement.

Q/DQ nodes decide what is INT8 where the parser takes them. It refuses zero points other than 0,
scales of 0 and below, other codes than INT8, INT4, FP8 (E4M3) and FP4, such as a quantized bias,
and the operators that compute on codes (QLinearConv, MatMulInteger, DynamicQuantizeLinear). UINT8
with zero point 0 is read as INT8. Source: measured with the parser of TensorRT for RTX 1.7, whose
interface is TensorRT 11's; no parser of 8.x or 10.x was tried. What the notes say of those is read
in onnx/onnx-tensorrt, QuantDequantLinearHelper, branches 8.0-GA to 10.1-GA.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ..errors import ModelError
from ..record import Record
from .graph import all_graphs, all_nodes, attributes, constants_of, node_key, tensor_array
from .operators import QDQ, TRT_QDQ

if TYPE_CHECKING:
    import onnx

    Tensors = dict[str, onnx.TensorProto]
    Types = dict[str, onnx.TypeProto.Tensor]

__all__ = ["SYMMETRIC", "Quantization", "RefusedNode", "judge_quantization"]

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
    """Whether the model is quantized, and which of its nodes TensorRT's parser refuses."""
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
