"""A network of ResNet-50's size with random weights: for speed only, its answers mean nothing.

Convolutions with batch normalization already folded in (a bias each), 224 x 224 RGB in, 1,000
classes out. Layout after He et al., "Deep Residual Learning for Image Recognition" (2015), table 1,
50-layer column, stride in the 3 x 3 convolution.
"""

from __future__ import annotations

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

STAGES = ((64, 3), (128, 4), (256, 6), (512, 3))  # width, blocks


class _Builder:
    def __init__(self, seed: int) -> None:
        self.rng = np.random.default_rng(seed)
        self.nodes: list[onnx.NodeProto] = []
        self.weights: list[onnx.TensorProto] = []

    def conv(
        self,
        source: str,
        name: str,
        shape: tuple[int, int],
        kernel: int,
        stride: int = 1,
        gain: float = 2.0,
    ) -> str:
        fan_in = shape[0] * kernel**2
        weight = self.rng.normal(
            0, np.sqrt(gain / fan_in), (shape[1], shape[0], kernel, kernel)
        ).astype(np.float32)
        self.weights += [
            numpy_helper.from_array(weight, f"{name}_w"),
            numpy_helper.from_array(np.zeros(shape[1], np.float32), f"{name}_b"),
        ]
        pads, steps = [kernel // 2] * 4, [stride, stride]
        self.nodes.append(
            helper.make_node(
                "Conv", [source, f"{name}_w", f"{name}_b"], [name], name, pads=pads, strides=steps
            )
        )
        return name

    def op(self, kind: str, inputs: list[str], name: str, **attributes: object) -> str:
        self.nodes.append(helper.make_node(kind, inputs, [name], name, **attributes))  # type: ignore[arg-type]
        return name

    def block(self, x: str, name: str, channels: int, width: int, stride: int) -> str:
        y = self.op("Relu", [self.conv(x, f"{name}_conv1", (channels, width), 1)], f"{name}_relu1")
        y = self.op(
            "Relu", [self.conv(y, f"{name}_conv2", (width, width), 3, stride)], f"{name}_relu2"
        )
        y = self.conv(y, f"{name}_conv3", (width, 4 * width), 1, gain=0.2)
        if stride > 1 or channels != 4 * width:
            x = self.conv(x, f"{name}_down", (channels, 4 * width), 1, stride, gain=1.0)
        return self.op("Relu", [self.op("Add", [y, x], f"{name}_add")], f"{name}_relu3")


def big_network(batch: int | str = "batch", seed: int = 0) -> bytes:
    """The network as ONNX bytes (about 102 MB), of a named batch size or a fixed one; the same for
    the same seed.
    """
    make = _Builder(seed)
    x = make.op("Relu", [make.conv("image", "stem", (3, 64), 7, 2)], "stem_relu")
    x = make.op("MaxPool", [x], "stem_pool", kernel_shape=[3, 3], strides=[2, 2], pads=[1, 1, 1, 1])
    channels = 64
    for stage, (width, blocks) in enumerate(STAGES):
        for block in range(blocks):
            x = make.block(x, f"s{stage}b{block}", channels, width, 2 if stage and not block else 1)
            channels = 4 * width
    x = make.op("Flatten", [make.op("GlobalAveragePool", [x], "mean")], "flat")
    head = make.rng.normal(0, channels**-0.5, (1000, channels)).astype(np.float32)
    make.weights.append(numpy_helper.from_array(head, "fc_w"))
    make.op("Gemm", [x, "fc_w"], "logits", transB=1)
    graph = helper.make_graph(
        make.nodes,
        "big_network",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, [batch, 3, 224, 224])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, [batch, 1000])],
        make.weights,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    onnx.checker.check_model(model)
    return bytes(model.SerializeToString())
