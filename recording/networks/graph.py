"""An ONNX graph written node by node: a tensor has its node's name (opset 13, IR 8)."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

__all__ = ["Graph", "folded"]


def folded(conv: Any, norm: Any) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    """A convolution's weights OIHW and bias with the batch norm behind it folded in (PyTorch
    modules).

    w * g / sqrt(v + eps), b - m * g / sqrt(v + eps); computed in float64.
    """
    double = {
        name: value.detach().double().cpu().numpy() for name, value in norm.state_dict().items()
    }
    gain = double["weight"] / np.sqrt(double["running_var"] + norm.eps)
    weight = conv.weight.detach().double().cpu().numpy() * gain[:, None, None, None]
    return weight, double["bias"] - double["running_mean"] * gain


class Graph:
    """Nodes and constants in the order in which they are added; ``model`` joins them."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.nodes: list[onnx.NodeProto] = []
        self.constants: dict[str, np.ndarray[Any, Any]] = {}

    def constant(self, name: str, value: Any, dtype: Any = np.float32) -> str:
        """Keep an array under a name, which is returned."""
        self.constants[name] = np.ascontiguousarray(np.asarray(value, dtype))
        return name

    def add(self, kind: str, inputs: list[str], name: str, **attributes: Any) -> str:
        """A node with one output, which has the node's name."""
        self.nodes.append(helper.make_node(kind, inputs, [name], name, **attributes))
        return name

    def conv(self, name: str, source: str, weight: Any, bias: Any, stride: int = 1) -> str:
        """A convolution padded to keep the size (divided by ``stride``)."""
        kernel = weight.shape[-1]
        inputs = [source, self.constant(f"{name}.weight", weight)]
        inputs.append(self.constant(f"{name}.bias", bias))
        attributes = {"kernel_shape": [kernel] * 2, "strides": [stride] * 2}
        return self.add("Conv", inputs, name, pads=[kernel // 2] * 4, **attributes)

    def conv_relu(self, name: str, source: str, pair: Any) -> str:
        """A PyTorch Sequential of convolution and batch norm, folded, and a Relu behind it."""
        weight, bias = folded(pair[0], pair[1])
        last = self.conv(name, source, weight, bias, pair[0].stride[0])
        return self.add("Relu", [last], f"{name}_relu")

    def model(
        self, inputs: dict[str, list[Any]], outputs: dict[str, list[Any]], opset: int = 13
    ) -> onnx.ModelProto:
        """The checked model; ``inputs`` and ``outputs``: name -> shape, where "batch" is free."""

        def values(shapes: dict[str, list[Any]]) -> list[Any]:
            kind = TensorProto.FLOAT
            return [
                helper.make_tensor_value_info(key, kind, shape) for key, shape in shapes.items()
            ]

        weights = [numpy_helper.from_array(value, key) for key, value in self.constants.items()]
        graph = helper.make_graph(self.nodes, self.name, values(inputs), values(outputs), weights)
        model = helper.make_model(
            graph, opset_imports=[helper.make_opsetid("", opset)], producer_name="trtlearn"
        )
        model.ir_version = 8
        onnx.checker.check_model(model, full_check=True)
        return model
