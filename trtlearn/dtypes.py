"""Data types in one table: trtlearn's names, and those of TensorRT, ONNX, numpy and inspectors."""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple

__all__ = ["DTYPES", "NUMPY", "ONNX", "TENSORRT", "DataType", "named_dtype"]


class DataType(NamedTuple):
    """One data type; None where the other library has no such type.

    ``words``: how inspectors, ONNX Runtime and people write it, in lower case. Two int4 elements
    share a byte.
    """

    name: str
    bits: int
    words: str
    tensorrt: str | None = None  # member of trt.DataType
    onnx: int | None = None  # TensorProto.DataType, onnx.proto3 of ONNX 1.17
    numpy: str | None = None


_TABLE = (
    DataType("fp32", 32, "float float32 fp32 kfloat", "FLOAT", 1, "float32"),
    DataType("fp16", 16, "half float16 fp16 khalf", "HALF", 10, "float16"),
    DataType("bf16", 16, "bfloat16 bf16 kbf16", "BF16", 16),
    DataType("int8", 8, "int8 kint8", "INT8", 3, "int8"),
    DataType("uint8", 8, "uint8 kuint8", "UINT8", 2, "uint8"),
    DataType("int32", 32, "int32 kint32", "INT32", 6, "int32"),
    DataType("int64", 64, "int64 kint64", "INT64", 7, "int64"),
    DataType("bool", 8, "bool kbool", "BOOL", 9, "bool"),
    DataType("fp8", 8, "fp8 fp8e4m3 float8 kfp8", "FP8"),
    DataType("int4", 4, "int4 kint4", "INT4", 22),
    # Engines may hold these too, without a trt.DataType that trtlearn works with.
    DataType("fp4", 4, "fp4 fp4e2m1 kfp4"),
    DataType("e8m0", 8, "e8m0 ke8m0"),
    DataType("int16", 16, "int16", onnx=5, numpy="int16"),
    DataType("uint16", 16, "uint16", onnx=4, numpy="uint16"),
    DataType("uint32", 32, "uint32", onnx=12, numpy="uint32"),
    DataType("uint64", 64, "uint64", onnx=13, numpy="uint64"),
    DataType("fp64", 64, "double float64", onnx=11, numpy="float64"),
    DataType("complex64", 64, "floatcomplex"),
    DataType("complex128", 128, "doublecomplex"),
)

DTYPES = tuple(dtype.name for dtype in _TABLE if dtype.tensorrt)
"""The names of the data types that an engine's tensors and layers have in trtlearn."""
TENSORRT = {dtype.tensorrt: dtype.name for dtype in _TABLE if dtype.tensorrt}
"""trt.DataType's member -> trtlearn's name."""
NUMPY = {dtype.name: dtype.numpy for dtype in _TABLE if dtype.numpy}
"""trtlearn's name -> numpy's, where numpy has the type."""
ONNX = {dtype.onnx: dtype.name for dtype in _TABLE if dtype.onnx} | {8: "string"}
"""TensorProto.DataType's number -> trtlearn's name; another number is unknown."""

_BY_WORD = {word: dtype for dtype in _TABLE for word in dtype.words.split()}


@lru_cache(maxsize=4096)
def named_dtype(word: str | None) -> DataType | None:
    """The data type that ``word`` names; None for None and for an unknown word.

    >>> named_dtype("Half").name, named_dtype("int4").bits, named_dtype("Mystery")
    ('fp16', 4, None)
    """
    return _BY_WORD.get((word or "").strip().lower())
