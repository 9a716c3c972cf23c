"""What TensorRT's ONNX parser makes of one node: tensors that the ONNX file does not name, but the cache may.

A Gemm becomes a matrix product and an addition, a constant a layer of its own: the cache names them
``(Unnamed Layer* N) [Kind]_output``. N counts layers, not nodes, so they are recognised by their values.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    import onnx

__all__ = ["Candidate", "could_be", "hidden_parts"]

Array = NDArray[Any]


@dataclass(frozen=True)
class Candidate:
    """A tensor inside a node: a constant, or the product of a Gemm before its bias is added."""

    name: str  # what to call it: "constant W", "product of gemm1"
    constant: Array | None = field(default=None, repr=False)
    source: str = ""  # the tensor that the product is made from
    weight: Array | None = field(default=None, repr=False)

    def values(self, tensors: Mapping[str, Array]) -> Array | None:
        """Its values for one batch of activations; None where they cannot be computed."""
        if self.constant is not None:
            return self.constant
        if self.weight is None or self.source not in tensors:
            return None
        product: Array = (tensors[self.source] @ self.weight).astype(np.float32)
        return product


def could_be(part: str, line: str) -> bool:
    """Whether the cache's line ``(Unnamed Layer* N) [Kind]_output`` can be this part: a product or a constant.

    >>> could_be("product of fc", "(Unnamed Layer* 3) [Matrix Multiply]_output")
    True
    """
    return part.startswith("product of ") == ("[Matrix Multiply]" in line)


def hidden_parts(proto: onnx.ModelProto) -> tuple[Candidate, ...]:
    """Every float constant of the model, and every Gemm's product before its bias."""
    from onnx import numpy_helper

    found: dict[str, Candidate] = {}
    constants: dict[str, Array] = {}
    for tensor in proto.graph.initializer:
        constants[tensor.name] = numpy_helper.to_array(tensor)
    for node in proto.graph.node:
        for attribute in node.attribute:
            if node.op_type == "Constant" and attribute.name == "value":
                constants[node.output[0]] = numpy_helper.to_array(attribute.t)
            elif node.op_type == "Constant" and attribute.name == "value_float":
                constants[node.output[0]] = np.float32(attribute.f).reshape(1)
    for name, array in constants.items():
        if array.dtype == np.float32 and array.size:
            found[f"constant {name}"] = Candidate(f"constant {name}", constant=array)
    for node in proto.graph.node:
        if node.op_type == "Gemm" and len(node.input) > 1 and node.input[1] in constants:
            options = {a.name: a for a in node.attribute}
            weight = constants[node.input[1]]
            if "transB" in options and options["transB"].i:
                weight = weight.T
            if "alpha" in options:
                weight = weight * np.float32(options["alpha"].f)
            if "transA" in options and options["transA"].i:
                continue
            name = f"product of {node.name or node.output[0]}"
            found[name] = Candidate(name, source=node.input[0], weight=np.ascontiguousarray(weight))
    return tuple(found.values())
