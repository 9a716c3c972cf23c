"""Whether and how TensorRT takes the quantization that a model brings along: one judgement.

Q/DQ nodes decide what is INT8 where the parser takes them. It refuses zero points other than 0,
scales of 0 and below, codes of 16 and 32 bits (a quantized bias), and the operators that compute
on codes (QLinearConv, MatMulInteger, DynamicQuantizeLinear). UINT8 with zero point 0 is read as
INT8. Source: measured with the parser of TensorRT for RTX 1.7,
whose interface is TensorRT 11's; no parser of 8.x or 10.x was tried.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ..errors import ModelError
from ..record import Record
from .graph import all_graphs, constants, node_key, tensor_array
from .operators import QDQ, TRT_QDQ

if TYPE_CHECKING:
    import onnx

__all__ = ["SYMMETRIC", "Quantization", "RefusedNode", "judge_quantization"]

_OWN_OPERATORS = re.compile(
    r"QLinear\w+|QGemm|QAttention|QEmbed\w+|QMoE|\w+Integer(?:ToFloat)?|DynamicQuantize\w+"
    r"|MatMul(?:NBits|Bnb4)|GatherBlockQuantized|Quant|BipolarQuant|FakeQuant\w*|Vitis\w+Linear"
)
SYMMETRIC = "quantize again symmetrically: QuantType.QInt8, ActivationSymmetric, WeightSymmetric"
AS_QDQ = (
    "quantize the original model again, with Q/DQ nodes: QuantFormat.QDQ in ONNX Runtime, or "
    "`trtlearn migrate` from a calibration cache"
)
FLOAT_BIAS = "quantize again with the bias left in floating point (QuantizeBias=False)"


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
    from onnx import TensorProto

    wide: dict[int, str] = {
        TensorProto.INT32: "INT32",
        TensorProto.INT16: "INT16",
        TensorProto.UINT16: "UINT16",
    }
    stored, graphs = constants(proto), list(all_graphs(proto))
    for graph in graphs:
        stored |= {tensor.name: tensor for tensor in graph.initializer if tensor.name not in stored}
    refused: list[RefusedNode] = []
    notes: list[str] = []
    has_qdq = False

    def values(names: list[str]) -> NDArray[Any] | None:
        tensor = stored.get(names[0]) if names else None
        if tensor is None or tensor.data_location == TensorProto.EXTERNAL:
            return None
        try:
            return tensor_array(tensor)
        except ModelError:  # of a type that this onnx does not know
            return None

    def problem(node: onnx.NodeProto) -> tuple[str, str] | None:
        scale, zero = values(list(node.input[1:2])), values(list(node.input[2:3]))
        codes = stored.get(node.input[0]) if node.op_type == "DequantizeLinear" else None
        typed = [tensor for tensor in (codes, stored.get((*node.input, "", "", "")[2])) if tensor]
        for tensor in typed:
            kind = wide.get(tensor.data_type)
            if kind:
                fix = FLOAT_BIAS if kind == "INT32" else SYMMETRIC
                return f"its codes are {kind}, and TensorRT takes 8 bits and fewer", fix
        if zero is not None and np.any(zero.astype(np.float32) != 0):
            worst = zero.ravel()[np.argmax(zero.ravel() != 0)]
            return f"its zero point is {worst}, and TensorRT takes 0 only", SYMMETRIC
        if scale is not None and not np.all(scale.astype(np.float64) > 0):
            bad = scale.ravel()[~(scale.ravel().astype(np.float64) > 0)][0]
            return (
                f"its scale is {bad}, and TensorRT takes scales above 0 only",
                "calibrate again, or leave this tensor out of quantization",
            )
        if codes is not None and codes.data_type == TensorProto.UINT8:
            return "its codes are constants of UINT8, and TensorRT takes INT8", SYMMETRIC
        if zero is not None and zero.dtype == np.uint8:
            notes.append(
                f"{node_key(node)} has UINT8 codes with zero point 0: TensorRT reads them as INT8, "
                "so that values above 127 steps are clipped"
            )
        return None

    for graph in graphs:
        for node in graph.node:
            if node.op_type in TRT_QDQ:
                has_qdq = True
                notes.append(
                    f"{node.op_type} is TensorRT's own operator: ONNX Runtime cannot run the model"
                )
            elif node.op_type in QDQ:
                has_qdq = True
                if found := problem(node):
                    refused.append(RefusedNode(node_key(node), node.op_type, *found))
            elif _OWN_OPERATORS.fullmatch(str(node.op_type)):
                why = "TensorRT has no importer for this operator"
                refused.append(RefusedNode(node_key(node), node.op_type, why, AS_QDQ))
    return Quantization(has_qdq, tuple(refused), tuple(dict.fromkeys(notes)))
