"""One judgement of a model's own quantization, held against the parser of TensorRT for RTX."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

from trtlearn.model.graph import judge_quantization

FLOAT = onnx.TensorProto.FLOAT


def model_of(nodes: list[onnx.NodeProto], **constants: Any) -> onnx.ModelProto:
    values = [numpy_helper.from_array(np.asarray(array), name) for name, array in constants.items()]
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", FLOAT, [1, 2, 4, 4])],
        [helper.make_tensor_value_info("y", FLOAT, None)],
        values,
    )
    domains = {"": 21} | {node.domain: 1 for node in nodes if node.domain}
    opsets = [helper.make_opsetid(domain, version) for domain, version in domains.items()]
    return helper.make_model(graph, opset_imports=opsets, ir_version=9)


def pair(scale: Any, zero: Any, domain: str = "", **options: Any) -> onnx.ModelProto:
    ends = (("QuantizeLinear", "x", "q", "q"), ("DequantizeLinear", "q", "y", "dq"))
    nodes = [
        helper.make_node(op, [start, "s", "z"], [end], name, domain=domain, **options)
        for op, start, end, name in ends
    ]
    return model_of(nodes, s=np.asarray(scale, np.float32), z=zero)


def weights(codes: Any, zero: Any = None) -> onnx.ModelProto:
    names = ["w", "s"] if zero is None else ["w", "s", "z"]
    nodes = [
        helper.make_node("DequantizeLinear", names, ["d"], "dq"),
        helper.make_node("Add", ["x", "d"], ["y"], "add"),
    ]
    extra = {} if zero is None else {"z": zero}
    return model_of(nodes, w=codes, s=np.float32(0.1), **extra)


def with_codes(op: str, inputs: list[str], domain: str = "") -> onnx.ModelProto:
    nodes = [
        helper.make_node("QuantizeLinear", ["x", "s", "z"], ["q"], "q"),
        helper.make_node(op, inputs, ["o"], "op", domain=domain),
        helper.make_node("DequantizeLinear", ["o", "s", "z"], ["y"], "dq"),
    ]
    return model_of(nodes, s=np.float32(0.1), z=np.int8(0), b=np.ones((4, 4), np.int8))


def codes_of(kind: int) -> onnx.ModelProto:
    """A pair of the type, as its zero point says."""
    proto = model_of([*pair(0.1, np.int8(0)).graph.node], s=np.float32(0.1))
    proto.graph.initializer.append(helper.make_tensor("z", kind, [], [0]))
    return proto


def behind_identity(zero: int) -> onnx.ModelProto:
    nodes = [helper.make_node("Identity", ["z0"], ["z"]), *pair(0.1, np.int8(0)).graph.node]
    return model_of(nodes, s=np.float32(0.1), z0=np.int8(zero))


def in_a_function(zero: int) -> onnx.ModelProto:
    constants = [
        helper.make_node("Constant", [], [name], value=numpy_helper.from_array(np.asarray(value)))
        for name, value in (("s", np.float32(0.1)), ("z", np.int8(zero)))
    ]
    nodes = [*constants, *pair(0.1, np.int8(0)).graph.node]
    opset = [helper.make_opsetid("", 21)]
    function = helper.make_function("local", "FakeQ", ["x"], ["y"], nodes, opset)
    proto = model_of([helper.make_node("FakeQ", ["x"], ["y"], "f", domain="local")])
    proto.functions.append(function)
    return proto


def input_codes(kind: int, zero: Any) -> onnx.ModelProto:
    node = helper.make_node("DequantizeLinear", ["x", "s", "z"], ["y"], "dq")
    proto = model_of([node], s=np.float32(0.1), z=zero)
    proto.graph.input[0].type.tensor_type.elem_type = kind
    return proto


INT8, UINT8, INT32 = np.int8, np.uint8, np.int32
TYPES = onnx.TensorProto
CASES: dict[str, tuple[onnx.ModelProto, bool]] = {
    "int8": (pair(0.1, INT8(0)), True),
    "int8, zero point 3": (pair(0.1, INT8(3)), False),
    "uint8, zero point 0": (pair(0.1, UINT8(0)), True),
    "uint8, zero point 128": (pair(0.1, UINT8(128)), False),
    "int16": (pair(0.1, np.int16(0)), False),
    "uint16": (pair(0.1, np.uint16(0)), False),
    "scale 0": (pair(0, INT8(0)), False),
    "negative scale": (pair(-0.1, INT8(0)), False),
    "NaN scale": (pair(np.nan, INT8(0)), False),
    "channels": (pair([0.1, 0.2], INT8([0, 0]), axis=1), True),
    "channels, one zero point": (pair([0.1, 0.2], INT8([0, 1]), axis=1), False),
    "channels, one scale 0": (pair([0.1, 0], INT8([0, 0]), axis=1), False),
    "Microsoft's domain": (pair(0.1, INT8(0), "com.microsoft"), True),
    "INT8 weights": (weights(np.ones(4, INT8)), True),
    "INT8 weights and zero point": (weights(np.ones(4, INT8), INT8(0)), True),
    "INT32 bias": (weights(np.ones(4, INT32)), False),
    "INT32 bias and zero point": (weights(np.ones(4, INT32), INT32(0)), False),
    "UINT8 weights": (weights(np.ones(4, UINT8), UINT8(0)), False),
    "FP8": (codes_of(TYPES.FLOAT8E4M3FN), True),
    "FP8 of the other kind": (codes_of(TYPES.FLOAT8E5M2), False),
    "INT4": (codes_of(TYPES.INT4), True),
    "UINT4": (codes_of(TYPES.UINT4), False),
    "zero point 0 through Identity": (behind_identity(0), True),
    "zero point 7 through Identity": (behind_identity(7), False),
    "in a function": (in_a_function(0), True),
    "in a function, zero point 9": (in_a_function(9), False),
    "INT8 input": (input_codes(TYPES.INT8, INT8(0)), True),
    "UINT8 input": (input_codes(TYPES.UINT8, UINT8(0)), False),
    "channels of an axis counted from behind": (pair([0.1, 0.2], INT8([0, 0]), axis=-3), True),
    "more scales than channels": (pair([0.1] * 3, INT8([0] * 3), axis=1), False),
    "no such axis": (pair([0.1, 0.2], INT8([0, 0]), axis=7), False),
    "MatMulFpQ4": (with_codes("MatMulFpQ4", ["q", "b", "b"], "com.microsoft"), False),
    "QOrderedMatMul": (with_codes("QOrderedMatMul", [*"qszbszsz"], "com.microsoft"), False),
    "FloatQuant": (with_codes("FloatQuant", ["x", "s", "z"], "qonnx.custom_op.general"), False),
    "FixedPerTensorAffine": (with_codes("FixedPerTensorAffine", ["x", "s", "z"]), False),
    "TRT_FP4QDQ": (with_codes("TRT_FP4QDQ", ["x"], "trt"), False),
    "QLinearMatMul": (with_codes("QLinearMatMul", [*"qszbszsz"]), False),
    "QLinearAdd": (with_codes("QLinearAdd", [*"qszqszsz"], "com.microsoft"), False),
}


@pytest.mark.parametrize("case", CASES)
def test_what_the_parser_takes(case: str) -> None:
    proto, is_taken = CASES[case]
    judged = judge_quantization(proto)
    assert judged.is_quantized
    assert (not judged.refused) == is_taken
    assert all(node.why and node.fix for node in judged.refused)


@pytest.mark.parametrize("case", CASES)
def test_the_parser_says_the_same(case: str) -> None:
    trt = pytest.importorskip("tensorrt_rtx_bindings")
    logger = trt.Logger(trt.Logger.INTERNAL_ERROR)
    builder = trt.Builder(logger)
    network = builder.create_network(0)
    parser = trt.OnnxParser(network, logger)
    proto, is_taken = CASES[case]
    assert parser.parse(proto.SerializeToString()) == is_taken


def test_what_the_notes_say() -> None:
    (note,) = judge_quantization(pair(0.1, UINT8(0))).notes[:1]
    assert note.startswith("q has UINT8 codes with zero point 0: TensorRT 8.5 to 10.1 refuses")
    bare = pair(0.1, INT8(0))
    for node in bare.graph.node:
        node.input.pop()
    (note,) = judge_quantization(bare).notes
    assert note.startswith("q has no zero point")


def test_operators_on_codes_and_tensorrts_own() -> None:
    dynamic = helper.make_node("DynamicQuantizeLinear", ["x"], ["q", "s", "z"], "dyn")
    back = helper.make_node("DequantizeLinear", ["q", "s", "z"], ["y"], "dq")
    (refused,) = judge_quantization(model_of([dynamic, back])).refused
    assert (refused.node, refused.op) == ("dyn", "DynamicQuantizeLinear")
    integer = helper.make_node("MatMulInteger", ["q", "b"], ["y"], "mmi")
    judged = judge_quantization(model_of([dynamic, integer], b=np.ones((4, 4), UINT8)))
    assert [node.node for node in judged.refused] == ["dyn", "mmi"]
    assert not judged.has_qdq
    ends = ("TRT_FP8QuantizeLinear", "TRT_FP8DequantizeLinear")
    nodes = [
        helper.make_node(ends[0], ["x", "s"], ["q"], "q", domain="trt"),
        helper.make_node(ends[1], ["q", "s"], ["y"], "dq", domain="trt"),
    ]
    judged = judge_quantization(model_of(nodes, s=np.float32(0.1)))
    assert judged.has_qdq
    assert not judged.refused
    plain = judge_quantization(model_of([helper.make_node("Relu", ["x"], ["y"], "r")]))
    assert not plain.is_quantized
