"""``photo``: a residual network for photographs of 32 x 32 pixels, and its ONNX graph.

Batch norm is folded into the convolutions.
"""

from __future__ import annotations

from typing import Any

import onnx
import torch
from torch import nn

from .graph import Graph, folded

__all__ = ["Photo", "export"]

WIDTHS = (64, 128, 192)
BLOCKS = 2  # a stage; the first of each stage but the first halves the image


def conv_norm(inside: int, outside: int, kernel: int, stride: int = 1) -> nn.Sequential:
    """A convolution without bias and its batch norm."""
    conv = nn.Conv2d(inside, outside, kernel, stride, kernel // 2, bias=False)
    return nn.Sequential(conv, nn.BatchNorm2d(outside))


class Block(nn.Module):
    """Two 3x3 convolutions plus the block's input, by a 1x1 convolution where its shape changes."""

    def __init__(self, inside: int, outside: int, stride: int) -> None:
        super().__init__()
        self.conv1 = conv_norm(inside, outside, 3, stride)
        self.conv2 = conv_norm(outside, outside, 3)
        same = stride == 1 and inside == outside
        self.project = None if same else conv_norm(inside, outside, 1, stride)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        skip = x if self.project is None else self.project(x)
        return torch.relu(self.conv2(torch.relu(self.conv1(x))) + skip)


class Photo(nn.Module):
    """[N,3,32,32] to ten logits: stem, three stages of two blocks, average pool, linear layer."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = conv_norm(3, WIDTHS[0], 3)
        blocks, width = [], WIDTHS[0]
        for stage, wide in enumerate(WIDTHS):
            for index in range(BLOCKS):
                blocks.append(Block(width, wide, 2 if stage and not index else 1))
                width = wide
        self.blocks = nn.ModuleList(blocks)
        self.linear = nn.Linear(width, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = torch.relu(self.stem(x))
        for block in self.blocks:
            x = block(x)
        return self.linear(x.mean((2, 3)))


def export(net: Photo) -> onnx.ModelProto:
    """The ONNX graph: ``image`` [batch,3,32,32] to ``logits`` [batch,10]."""
    graph = Graph("photo")
    last = graph.conv_relu("stem", "image", net.stem)
    for index, block in enumerate(net.blocks):
        name, skip = f"b{index}_", last
        last = graph.conv_relu(name + "conv1", last, block.conv1)
        last = graph.conv(name + "conv2", last, *folded(*block.conv2))
        if block.project is not None:
            stride = block.project[0].stride[0]
            skip = graph.conv(name + "project", skip, *folded(*block.project), stride)
        last = graph.add("Relu", [graph.add("Add", [last, skip], name + "add")], name + "relu2")
    last = graph.add("GlobalAveragePool", [last], "gap")
    last = graph.add("Flatten", [last], "flatten", axis=1)
    state: dict[str, Any] = {
        key: value.cpu().numpy() for key, value in net.linear.state_dict().items()
    }
    weight = graph.constant("logits.weight", state["weight"])
    bias = graph.constant("logits.bias", state["bias"])
    graph.add("Gemm", [last, weight, bias], "logits", transB=1)
    return graph.model({"image": ["batch", 3, 32, 32]}, {"logits": ["batch", 10]})
