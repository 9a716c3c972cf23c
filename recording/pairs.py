"""What other quantizers make of a model: the Q/DQ pairs in any ONNX file, read and compared;
ONNX Runtime's quantizer and NVIDIA's ModelOpt, run on the same model and images.
"""

from __future__ import annotations

import logging
import math
import os
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from trtlearn.errors import ModelError, TrtlearnError
from trtlearn.model.graph import Graph, node_key
from trtlearn.model.read import load_proto
from trtlearn.record import Record, plural
from trtlearn.recorded.computed import Pair, PairTable

if TYPE_CHECKING:
    import onnx

__all__ = [
    "PairComparison",
    "compare_pairs",
    "modelopt_quantized",
    "ort_quantized",
    "read_pairs",
]

Array = NDArray[Any]


@dataclass(frozen=True)
class PairComparison(Record):
    """Two tools on one model: which tensors each put a pair on, and how their scales differ."""

    makers: tuple[str, ...]
    both: dict[str, float]  # tensor -> second's scale / first's scale
    only_first: tuple[str, ...]
    only_second: tuple[str, ...]
    asymmetric: tuple[str, ...]  # either has a zero point other than 0, which TensorRT refuses

    def summary(self) -> str:
        first, second = self.makers
        return (
            f"{plural(len(self.both), 'activation has', 'activations have')} a pair from both, "
            f"{len(self.only_first)} only from {first}, "
            f"{len(self.only_second)} only from {second}"
        )

    def rows(self) -> list[dict[str, Any]]:
        first, second = self.makers
        sides: dict[str, Mapping[str, float | None]] = {
            "both": self.both,
            first: dict.fromkeys(self.only_first),
            second: dict.fromkeys(self.only_second),
        }
        rows: list[dict[str, Any]] = []
        for maker, ratios in sides.items():
            rows += [
                {"tensor": name, "pair from": maker, "ratio of scales": ratio}
                for name, ratio in ratios.items()
            ]
        return rows


def read_pairs(
    model: str | os.PathLike[str] | bytes | onnx.ModelProto, maker: str = "the model"
) -> PairTable:
    """Every Q/DQ pair of an ONNX model, in graph order; ModelError for a model that cannot be read.

    >>> from trtlearn.model.course_data import model_path
    >>> read_pairs(model_path("resnet")).pairs
    ()
    """
    proto = load_proto(model) if isinstance(model, (str, os.PathLike, bytes)) else model
    graph = Graph(proto)
    pairs = [
        _pair(graph, node)
        for node in graph.nodes
        if node.op_type == "DequantizeLinear" and node.input[1] in graph.constants
    ]
    return PairTable(maker, tuple(pairs))


def _pair(graph: Graph, dequantize: onnx.NodeProto) -> Pair:
    """The pair that ends in this DequantizeLinear."""
    tensor, scale, *zero_point = dequantize.input
    scales = graph.array(scale)
    if scales.dtype.kind not in "fV" or not scales.size:  # V: bfloat16 and the float8s
        raise ModelError(
            f"the scale of {node_key(dequantize)} is {scales.dtype} {list(scales.shape)}, "
            "expected floating-point numbers",
            "export the model again",
        )
    quantizer = graph.producer.get(tensor)
    if quantizer is not None and quantizer.op_type == "QuantizeLinear":
        tensor = quantizer.input[0]
    zeros: Array = np.zeros(1, np.uint8)
    if zero_point and zero_point[0] in graph.constants:
        zeros = graph.array(zero_point[0]).ravel()
    kind = "activation"
    if tensor in graph.constants:
        kind = "bias" if zeros.dtype == np.int32 else "weights"
    readers = graph.readers.get(dequantize.output[0], [])
    return Pair(
        tensor=tensor,
        kind=kind,
        scales=tuple(scales.astype(np.float32).ravel().tolist()),
        zero_points=tuple(sorted(set(zeros.tolist()))),
        dtype=str(zeros.dtype),
        readers=tuple(f"{node_key(reader)} ({reader.op_type})" for reader in readers),
    )


def compare_pairs(first: PairTable, second: PairTable) -> PairComparison:
    """Two tables of pairs of one model, by the activations' names."""
    ours, theirs = first.activations(), second.activations()
    asymmetric = [
        pair.tensor
        for pair in (*first.pairs, *second.pairs)
        if pair.kind == "activation" and any(pair.zero_points)
    ]
    return PairComparison(
        makers=(first.maker, second.maker),
        both={name: _ratio(theirs[name], ours[name]) for name in ours if name in theirs},
        only_first=tuple(name for name in ours if name not in theirs),
        only_second=tuple(name for name in theirs if name not in ours),
        asymmetric=tuple(dict.fromkeys(asymmetric)),
    )


def _ratio(one: float, other: float) -> float:
    return one / other if other else math.inf


def ort_quantized(
    model: str | os.PathLike[str], batches: list[Mapping[str, Array]], for_tensorrt: bool = True
) -> onnx.ModelProto:
    """The model as ONNX Runtime's static quantizer leaves it, calibrated by min-max on ``batches``.

    ``for_tensorrt`` asks for what TensorRT needs: symmetric activations and weights, per channel,
    no INT32 biases; otherwise the quantizer's defaults in Q/DQ format.
    Source: onnxruntime/python/tools/quantization/quantize.py, StaticQuantConfig and
    quantize_static.
    """
    import onnx

    try:
        from onnxruntime.quantization import (
            CalibrationDataReader,
            QuantFormat,
            QuantType,
            quantize_static,
        )
    except ImportError as problem:
        raise TrtlearnError(
            f"ONNX Runtime's quantizer is not here: {problem}", "pip install 'trtlearn[lab]'"
        ) from None

    class Reader(CalibrationDataReader):  # type: ignore[misc]  # untyped
        def __init__(self) -> None:
            self.left = iter(batches)

        def get_next(self) -> Mapping[str, Array] | None:
            return next(self.left, None)

    symmetric = {"ActivationSymmetric": True, "WeightSymmetric": True, "QuantizeBias": False}
    level = logging.root.manager.disable
    logging.disable(logging.WARNING)  # its advice to pre-process, which the course does not need
    with tempfile.TemporaryDirectory() as folder:
        target = Path(folder) / "quantized.onnx"
        try:
            quantize_static(
                os.fspath(model),
                str(target),
                Reader(),
                quant_format=QuantFormat.QDQ,
                per_channel=for_tensorrt,
                activation_type=QuantType.QInt8 if for_tensorrt else QuantType.QUInt8,
                weight_type=QuantType.QInt8,
                extra_options=symmetric if for_tensorrt else {},
            )
        except Exception as problem:  # its errors have no common base
            raise ModelError(
                f"ONNX Runtime's quantizer failed: {problem!s:.200}", "export the model again"
            ) from None
        finally:
            logging.disable(level)
        return onnx.load(str(target))


def modelopt_quantized(
    model: str | os.PathLike[str], arrays: Mapping[str, Array]
) -> onnx.ModelProto:
    """The model as ModelOpt leaves it: INT8, calibrated by "max"; needs nvidia-modelopt[onnx].

    ``arrays``: the calibration data by input name. The rest stays FP32; ModelOpt's default would
    turn it into FP16. The file ``model`` is not touched.
    Source: modelopt/onnx/quantization/quantize.py of NVIDIA/TensorRT-Model-Optimizer, 0.47.
    """
    import onnx

    try:
        from modelopt.onnx.quantization import quantize
    except ImportError:
        raise TrtlearnError(
            "ModelOpt is not installed", "pip install 'nvidia-modelopt[onnx]' elsewhere"
        ) from None
    with tempfile.TemporaryDirectory() as folder:
        source, target = Path(folder) / "model.onnx", Path(folder) / "quantized.onnx"
        onnx.save(load_proto(model), str(source))  # 0.47 writes into the file that it is given
        try:
            quantize(
                str(source),
                quantize_mode="int8",
                high_precision_dtype="fp32",
                calibration_data=dict(arrays),
                calibration_method="max",
                calibration_eps=["cpu"],
                output_path=str(target),
                log_level="ERROR",
            )
        except Exception as problem:  # its errors have no common base
            raise ModelError(
                f"ModelOpt failed: {problem!s:.200}", "export the model again"
            ) from None
        return onnx.load(str(target))
