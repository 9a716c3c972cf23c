"""The ONNX graph as the placement of Q/DQ asks of it: who makes and who reads a tensor, and whose scale it can take."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from .onnxproto import constants

if TYPE_CHECKING:
    import onnx

__all__ = ["MOVES", "Graph", "node_name"]

MOVES = (
    *("MaxPool", "Reshape", "Flatten", "Transpose", "Squeeze", "Unsqueeze", "Identity", "Slice", "Dropout"),
    *("Split", "DepthToSpace", "SpaceToDepth"),
)
"""Operators that only pass values on: a tensor they make can use its input's scale."""


class Graph:
    """The ONNX graph with what insertion asks of it: who makes and who reads a tensor, and the constants."""

    def __init__(self, model: onnx.ModelProto) -> None:
        from onnx import numpy_helper

        self.nodes = list(model.graph.node)
        self.maker = {name: node for node in self.nodes for name in node.output}
        self.readers: dict[str, list[onnx.NodeProto]] = {}
        for node in self.nodes:
            for name in node.input:
                self.readers.setdefault(name, []).append(node)
        self.outputs = {output.name for output in model.graph.output}
        self.constants = constants(model)
        self._array = numpy_helper.to_array

    def array(self, name: str) -> np.ndarray[Any, Any]:
        return np.asarray(self._array(self.constants[name]))

    def adds_inside(self, tensor: str) -> bool:
        """Whether ``tensor`` comes out of a convolution that only one node reads, so that an Add fuses into it."""
        maker = self.maker.get(tensor)
        if maker is None or len(self.readers[tensor]) > 1 or tensor in self.outputs:
            return False
        if maker.op_type == "BatchNormalization":
            return self.adds_inside(maker.input[0])
        return bool(maker.op_type == "Conv")

    def branches(self, add: onnx.NodeProto) -> tuple[list[str], list[str]]:
        """The activations that an Add adds, and of these the one (at most) whose convolution it fuses into."""
        tensors = [tensor for tensor in add.input if tensor not in self.constants]
        return tensors, [tensor for tensor in tensors if self.adds_inside(tensor)][-1:]

    def fused_into(self, add: onnx.NodeProto) -> set[str]:
        """The name of the convolution that an Add fuses into, if any."""
        makers = [self.maker[tensor] for tensor in self.branches(add)[1]]
        return {node_name(self.maker[m.input[0]] if m.op_type == "BatchNormalization" else m) for m in makers}

    def scale_of(self, tensor: str, scales: Mapping[str, float]) -> str | None:
        """The tensor whose scale ``tensor`` takes: itself, the one whose values reach it unchanged, or the widest part.

        A Concat without a scale of its own takes the largest of its inputs', which holds the values of all.
        """
        while tensor not in scales:
            maker = self.maker.get(tensor)
            if maker is not None and maker.op_type == "Concat":
                parts = [self.scale_of(name, scales) for name in maker.input if name not in self.constants]
                known = [part for part in parts if part is not None]
                return max(known, key=lambda part: scales[part]) if known and len(known) == len(parts) else None
            if maker is None or maker.op_type not in MOVES or not maker.input:
                return None
            tensor = maker.input[0]
        return tensor


def node_name(node: onnx.NodeProto) -> str:
    """The node's name, or its first output's where it has none."""
    return str(node.name or node.output[0])
