"""What trtlearn knows of ONNX's operators: which multiply by weights, which only move values."""

from __future__ import annotations

from typing import NamedTuple

__all__ = [
    "AVERAGE_POOLS",
    "FOLDED",
    "ONNX_DOMAINS",
    "PASS_VALUES",
    "POOLS",
    "QDQ",
    "REARRANGE",
    "RESHAPES",
    "TRT_QDQ",
    "WEIGHTED",
    "Weighted",
]

ONNX_DOMAINS = ("", "ai.onnx")
"""Domains of ONNX's own operators: a "Conv" of another domain may be anything."""

QDQ = ("QuantizeLinear", "DequantizeLinear")
"""The operators that carry scales in a model."""
TRT_QDQ = (
    "TRT_FP8QuantizeLinear",
    "TRT_FP8DequantizeLinear",
    "TRT_INT4QuantizeLinear",
    "TRT_INT4DequantizeLinear",
    "TRT_FP4DynamicQuantize",
    "TRT_MXFP8DynamicQuantize",
    "TRT_MXFP8DequantizeLinear",
)
"""TensorRT's own, which NVIDIA's tools write where ONNX had no such type: Q/DQ layers too."""


class Weighted(NamedTuple):
    """An operator whose INT8 kernels multiply codes."""

    kernel: str  # conv, deconv, matmul
    channel_axis: int  # of the output channels in the weights (Gemm: 0 where transB is set)
    constants: tuple[int, ...]  # which inputs may be weights or a bias


WEIGHTED = {
    "Conv": Weighted("conv", 0, (1, 2)),
    "ConvTranspose": Weighted("deconv", 1, (1, 2)),
    "Gemm": Weighted("matmul", 1, (0, 1)),
    "MatMul": Weighted("matmul", -1, (0, 1)),
}

AVERAGE_POOLS = ("AveragePool", "GlobalAveragePool")
POOLS = ("MaxPool", "GlobalMaxPool", *AVERAGE_POOLS)

RESHAPES = ("Flatten", "Reshape", "Squeeze", "Unsqueeze")
"""Operators that change the shape only: TensorRT needs no kernel for them."""
REARRANGE = (*RESHAPES, "Identity", "Transpose")
"""Operators whose output holds exactly their input's values, in the same type and scale."""
PASS_VALUES = (
    *REARRANGE,
    "DepthToSpace",
    "Dropout",
    "MaxPool",
    "Slice",
    "SpaceToDepth",
    "Split",
)
"""Operators each of whose outputs holds values of the input only: it can use the input's scale."""
FOLDED = (*REARRANGE, "Cast", "Concat", "Slice")
"""Operators that are computed before the build where all their inputs are constants."""
