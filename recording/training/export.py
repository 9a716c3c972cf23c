"""Fold batch norm into weights and write a trained network to ONNX (opset 13, IR 8), node by
node.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

__all__ = ["Node", "export", "fold", "spread_channels"]
SPREAD = 1.3  # sigma of the natural logarithm of the channels' factors


def fold(
    p: dict[str, np.ndarray], mean: np.ndarray, variance: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Weights OIHW and bias with batch norm folded in: w·g/√(v+ε), b − m·g/√(v+ε).

    >>> ones = np.ones(1, np.float32)
    >>> w, b = fold({"w": np.full((1, 1, 1, 1), 2.0), "g": ones, "b": ones}, mean=ones, variance=ones * 0.999)
    >>> float(w.ravel()[0]), float(b[0])
    (2.0, 0.0)
    """
    gain = p["g"].astype(np.float64) / np.sqrt(variance.astype(np.float64) + 1e-3)
    weight = p["w"] * gain  # HWIO: the last axis is the output channel
    return weight.transpose(3, 2, 0, 1).astype(np.float32), (p["b"] - mean * gain).astype(
        np.float32
    )


@dataclass(frozen=True)
class Node:
    """One node of a network: trained by ``forward`` of train.py and written to ONNX by ``export``.

    ``op`` is conv, depthwise, relu, relu6, add, maxpool, gap or gemm; the tensor it makes has the
    node's name.
    """

    name: str
    op: str
    inputs: tuple[str, ...]
    channels: int = 0  # output channels of conv, depthwise and gemm
    kernel: int = 0
    stride: int = 1
    gamma_spread: float = 0.0  # batch norm's gain starts log-normal with this sigma


def spread_channels(
    nodes: list[Node], weights: dict[str, np.ndarray], random: np.random.Generator
) -> None:
    """Scale the channels between linear projections and what reads them apart, without changing the
    function.

    Each channel of a bottleneck is multiplied by its own power of two where it is made and divided
    by it where it is read. That is exact in float32, so the logits stay the same bits; but one INT8
    scale now has to serve channels of very different size. Tensors joined by an addition share
    their factors.
    """
    stream: dict[str, str] = {}  # tensor -> the first projection it is joined with
    for node in nodes:
        if node.name.endswith("_project"):
            stream[node.name] = node.name
        elif node.op == "add" and node.inputs[0] in stream:
            first, second = (stream[tensor] for tensor in node.inputs)
            stream = {tensor: second if root == first else root for tensor, root in stream.items()}
            stream[node.name] = second
    factors: dict[str, np.ndarray] = {}
    for node in nodes:
        if root := stream.get(node.inputs[0]) if node.op == "conv" else None:
            weights[f"{node.name}.weight"] = (
                weights[f"{node.name}.weight"] / factors[root][:, None, None]
            )
        if node.op == "conv" and node.name in stream:
            exponents = np.rint(random.normal(0, SPREAD / np.log(2), node.channels))
            factor = factors.setdefault(stream[node.name], np.exp2(exponents).astype(np.float32))
            weights[f"{node.name}.weight"] = (
                weights[f"{node.name}.weight"] * factor[:, None, None, None]
            )
            weights[f"{node.name}.bias"] = weights[f"{node.name}.bias"] * factor


def export(
    name: str,
    nodes: list[Node],
    parameters: Any,
    statistics: Any,
    spread: np.random.Generator | None = None,
) -> bytes:
    """The ONNX file: ``image`` [batch,1,28,28] to ``logits`` [batch,10], each tensor named after
    its node.

    With ``spread``, the linear bottlenecks' channels are scaled apart: see :func:`spread_channels`.
    """
    made: list[onnx.NodeProto] = []
    weights: dict[str, np.ndarray] = {}

    def constant(key: str, value: Any) -> str:
        weights[key] = np.asarray(value)
        return key

    for node in nodes:
        inputs, p, attributes = list(node.inputs), parameters.get(node.name), {}
        kind: str | None = {
            "relu": "Relu",
            "add": "Add",
            "gap": "GlobalAveragePool",
            "maxpool": "MaxPool",
        }.get(node.op)
        if node.op in ("conv", "depthwise"):
            kind, pad = "Conv", node.kernel // 2
            weight, bias = fold(p, *statistics[node.name])
            inputs += [constant(f"{node.name}.weight", weight), constant(f"{node.name}.bias", bias)]
            attributes = {
                "kernel_shape": [node.kernel] * 2,
                "strides": [node.stride] * 2,
                "pads": [pad] * 4,
                "group": node.channels if node.op == "depthwise" else 1,
            }
        elif node.op == "gemm":
            made.append(helper.make_node("Flatten", inputs, ["flatten"], "flatten", axis=1))
            kind, attributes = "Gemm", {"transB": 1}
            inputs = [
                "flatten",
                constant(f"{node.name}.weight", p["w"].T),
                constant(f"{node.name}.bias", p["b"]),
            ]
        elif node.op == "relu6":
            kind = "Clip"
            inputs += [constant("zero", np.float32(0)), constant("six", np.float32(6))]
        elif node.op == "maxpool":
            attributes = {"kernel_shape": [node.kernel] * 2, "strides": [node.stride] * 2}
        if kind is None:
            raise ValueError(f"node {node.name}: op {node.op!r} has no ONNX form here")
        made.append(helper.make_node(kind, inputs, [node.name], node.name, **attributes))
    if spread is not None:
        spread_channels(nodes, weights, spread)
    graph = helper.make_graph(
        made,
        name,
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, ["batch", 1, 28, 28])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["batch", 10])],
        [
            numpy_helper.from_array(np.ascontiguousarray(value), key)
            for key, value in weights.items()
        ],
    )
    model = helper.make_model(
        graph, opset_imports=[helper.make_opsetid("", 13)], producer_name="trtlearn"
    )
    model.ir_version = 8
    onnx.checker.check_model(model, full_check=True)
    return model.SerializeToString(deterministic=True)
