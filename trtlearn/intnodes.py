"""One ONNX node at a time: the INT8 layer that a product becomes, and float32 results of everything else."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from .errors import ModelError
from .intgroups import PRODUCTS
from .intlayer import Int8Layer, int8_layer
from .intmath import windows

if TYPE_CHECKING:
    import onnx

__all__ = ["attributes", "clip_bounds", "float_node", "product_layer"]

Array = NDArray[Any]


def attributes(node: onnx.NodeProto) -> dict[str, Any]:
    """The node's attributes as Python values."""
    from onnx import helper

    return {attribute.name: helper.get_attribute_value(attribute) for attribute in node.attribute}


def clip_bounds(node: onnx.NodeProto, values: Mapping[str, Array]) -> tuple[float, float]:
    """What a Relu or Clip keeps its input between, in the tensor's units."""
    if node.op_type == "Relu":
        return 0.0, float("inf")
    given = attributes(node)
    ends = [float(given.get("min", -np.inf)), float(given.get("max", np.inf))]
    for index, name in enumerate(node.input[1:3]):
        if name:
            ends[index] = float(np.asarray(values[name]).reshape(-1)[0])
    return ends[0], ends[1]


def _geometry(node: onnx.NodeProto, rank: int) -> dict[str, Any]:
    given = attributes(node)
    if given.get("auto_pad", b"NOTSET") != b"NOTSET" or "output_shape" in given:
        raise ModelError(f"{node.name!r} leaves its padding to ONNX (auto_pad)", "export the model with explicit pads")
    found: dict[str, Any] = {
        "strides": tuple(given.get("strides", [1] * rank)),
        "pads": tuple(given.get("pads", [0] * 2 * rank)),
        "dilations": tuple(given.get("dilations", [1] * rank)),
        "groups": int(given.get("group", 1)),
    }
    if node.op_type == "ConvTranspose":
        found["output_padding"] = tuple(given.get("output_padding", [0] * rank))
    return found


def product_layer(
    node: onnx.NodeProto,
    values: Mapping[str, Array],
    input_scale: float,
    output_scale: float | None,
    bounds: tuple[float, float] = (-np.inf, np.inf),
) -> Int8Layer:
    """The INT8 layer of a Conv, ConvTranspose, Gemm or MatMul whose weight is among ``values``.

    ``bounds``: the fused activation's. Raises ModelError for padding that ONNX is to work out.
    """
    weight = np.asarray(values[node.input[1]], np.float32)
    bias = np.asarray(values[node.input[2]], np.float32) if len(node.input) > 2 and node.input[2] else None
    geometry: dict[str, Any] = {}
    if node.op_type in ("Conv", "ConvTranspose"):
        geometry = _geometry(node, weight.ndim - 2)
    elif node.op_type == "Gemm":
        given = attributes(node)
        weight = (weight.T if given.get("transB") else weight) * np.float32(given.get("alpha", 1.0))
        if bias is not None:
            bias = np.broadcast_to(bias * np.float32(given.get("beta", 1.0)), (1, weight.shape[1]))[0]
    kind = PRODUCTS[node.op_type]
    low, high = bounds
    return int8_layer(weight, input_scale, output_scale, bias, kind=kind, low=low, high=high, **geometry)


def _pool(node: onnx.NodeProto, x: Array) -> Array | None:
    """MaxPool, AveragePool or GlobalAveragePool; None where only onnx's reference knows the attributes."""
    rank = x.ndim - 2
    space = tuple(range(-rank, 0))
    if node.op_type == "GlobalAveragePool":
        return np.asarray(x.mean(axis=space, keepdims=True, dtype=np.float32))
    given = attributes(node)
    if given.get("ceil_mode") or given.get("auto_pad", b"NOTSET") != b"NOTSET" or len(node.output) > 1:
        return None
    window = (given["kernel_shape"], given.get("strides"), given.get("pads"), given.get("dilations"))
    if node.op_type == "MaxPool":
        return np.asarray(windows(x, *window, fill=-np.inf).max(axis=space))
    total = windows(x, *window).sum(axis=space, dtype=np.float32)
    if given.get("count_include_pad"):
        return np.asarray(total / np.float32(np.prod(given["kernel_shape"])), np.float32)
    return np.asarray(total / windows(np.ones_like(x), *window).sum(axis=space, dtype=np.float32), np.float32)


def float_node(node: onnx.NodeProto, feed: Mapping[str, Array], opsets: Any) -> list[Array]:
    """The node's outputs in the inputs' own types, by onnx's reference implementation (pooling: by numpy).

    ``feed``: its inputs by name. Raises ModelError for an operator that the reference does not know.
    """
    from onnx import helper
    from onnx.reference import ReferenceEvaluator

    if node.op_type in ("MaxPool", "AveragePool", "GlobalAveragePool"):
        pooled = _pool(node, feed[node.input[0]])
        if pooled is not None:
            return [pooled]
    kinds = {name: helper.np_dtype_to_tensor_dtype(array.dtype) for name, array in feed.items()}
    graph = helper.make_graph(
        [node],
        "one_node",
        [helper.make_tensor_value_info(name, kind, None) for name, kind in kinds.items()],
        [helper.make_tensor_value_info(name, 0, None) for name in node.output if name],
    )
    try:
        outputs = ReferenceEvaluator(helper.make_model(graph, opset_imports=opsets)).run(None, dict(feed))
    except Exception as problem:
        raise ModelError(f"node {node.name!r} ({node.op_type}) cannot be computed here: {problem}") from None
    return [np.asarray(value) for value in outputs]
