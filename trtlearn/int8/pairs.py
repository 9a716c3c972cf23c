"""The Q/DQ pairs in a model, whoever put them there, and what other tools put into the same one.

``read_pairs`` reads them off any ONNX file; ``ort_quantized`` and ``modelopt_quantized`` let ONNX Runtime's quantizer
and NVIDIA's ModelOpt do the work on the same model and images; ``compare_pairs`` sets two tables side by side.
"""

from __future__ import annotations

import logging
import os
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ..errors import ModelError, RecordingError, TrtlearnError
from ..files import data_dir, read_bytes
from ..model.describe import load_proto
from ..model.graph import Graph, node_key
from ..record import Record, plural

if TYPE_CHECKING:
    import onnx

__all__ = [
    "Pair",
    "PairComparison",
    "PairTable",
    "compare_pairs",
    "modelopt_quantized",
    "ort_quantized",
    "read_pairs",
    "recorded_modelopt",
]

Array = NDArray[Any]


@dataclass(frozen=True)
class Pair(Record):
    """One Q/DQ pair (or a DequantizeLinear alone, on weights that are stored as integers)."""

    tensor: str
    kind: str  # activation, weights, bias
    scales: tuple[float, ...]  # one, or one per channel
    zero_points: tuple[int, ...]  # the values that occur
    dtype: str  # int8, uint8, int32
    readers: tuple[str, ...]  # "name (operator)" of the nodes behind it


@dataclass(frozen=True)
class PairTable(Record):
    """All pairs of a model."""

    maker: str
    pairs: tuple[Pair, ...]

    def summary(self) -> str:
        kinds = [pair.kind for pair in self.pairs]
        counts = ", ".join(f"{kinds.count(kind)} on {kind}" for kind in dict.fromkeys(kinds))
        return f"{self.maker}: {plural(len(self.pairs), 'pair')}, {counts}"

    def rows(self) -> list[dict[str, Any]]:
        return [
            {
                "tensor": p.tensor,
                "kind": p.kind,
                "scale": p.scales[0] if len(p.scales) == 1 else f"{len(p.scales)} channels",
                "zero point": p.zero_points,
                "type": p.dtype,
                "read by": p.readers,
            }
            for p in self.pairs
        ]

    def activations(self) -> dict[str, float]:
        """Tensor -> scale of the pairs on activations."""
        return {pair.tensor: pair.scales[0] for pair in self.pairs if pair.kind == "activation"}


@dataclass(frozen=True)
class PairComparison(Record):
    """Two tools on one model: which tensors each put a pair on, and how their scales differ."""

    makers: tuple[str, ...]
    both: dict[str, float]  # tensor -> second's scale / first's scale
    only_first: tuple[str, ...]
    only_second: tuple[str, ...]
    asymmetric: tuple[
        str, ...
    ]  # tensors where either has a zero point other than 0, which TensorRT refuses

    def summary(self) -> str:
        first, second = self.makers
        return (
            f"{plural(len(self.both), 'activation has', 'activations have')} a pair from both, "
            f"{len(self.only_first)} only from {first}, "
            f"{len(self.only_second)} only from {second}"
        )

    def rows(self) -> list[dict[str, Any]]:
        first, second = self.makers
        rows = [
            {"tensor": n, "pair from": "both", "ratio of scales": ratio}
            for n, ratio in self.both.items()
        ]
        rows += [
            {"tensor": n, "pair from": first, "ratio of scales": None} for n in self.only_first
        ]
        return rows + [
            {"tensor": n, "pair from": second, "ratio of scales": None} for n in self.only_second
        ]


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
    pairs = []
    for node in graph.nodes:
        if node.op_type != "DequantizeLinear" or node.input[1] not in graph.constants:
            continue
        quantizer = graph.producer.get(node.input[0])
        is_pair = quantizer is not None and quantizer.op_type == "QuantizeLinear"
        source = quantizer.input[0] if quantizer is not None and is_pair else node.input[0]
        scales = graph.array(node.input[1]).astype(np.float32).ravel()
        zeros: Array = np.zeros(1, np.uint8)
        if len(node.input) > 2 and node.input[2] in graph.constants:
            zeros = graph.array(node.input[2]).ravel()
        kind = "activation"
        if source in graph.constants:
            kind = "bias" if zeros.dtype == np.int32 else "weights"
        readers = graph.readers.get(node.output[0], [])
        pairs.append(
            Pair(
                source,
                kind,
                tuple(map(float, scales)),
                tuple(sorted({int(zero) for zero in zeros})),
                str(zeros.dtype),
                tuple(f"{node_key(reader)} ({reader.op_type})" for reader in readers),
            )
        )
    return PairTable(maker, tuple(pairs))


def compare_pairs(first: PairTable, second: PairTable) -> PairComparison:
    """Two tables of pairs of one model, by the activations' names."""
    ours, theirs = first.activations(), second.activations()
    odd = [
        p.tensor
        for table in (first, second)
        for p in table.pairs
        if p.kind == "activation" and any(p.zero_points)
    ]
    return PairComparison(
        (first.maker, second.maker),
        {name: theirs[name] / ours[name] for name in ours if name in theirs},
        tuple(name for name in ours if name not in theirs),
        tuple(name for name in theirs if name not in ours),
        tuple(dict.fromkeys(odd)),
    )


def ort_quantized(
    model: str | os.PathLike[str], batches: list[Mapping[str, Array]], for_tensorrt: bool = True
) -> onnx.ModelProto:
    """The model as ONNX Runtime's static quantizer leaves it, calibrated by min-max on ``batches``.

    ``for_tensorrt`` asks for what TensorRT needs: symmetric activations and weights, per channel, no INT32 biases;
    otherwise the quantizer's defaults in Q/DQ format.
    Source: onnxruntime/python/tools/quantization/quantize.py, StaticQuantConfig and quantize_static.
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

    extra = (
        {"ActivationSymmetric": True, "WeightSymmetric": True, "QuantizeBias": False}
        if for_tensorrt
        else {}
    )
    with tempfile.TemporaryDirectory() as folder:
        target = Path(folder) / "quantized.onnx"
        before = logging.root.manager.disable
        logging.disable(
            logging.WARNING
        )  # its advice to pre-process, which the course's networks do not need
        try:
            quantize_static(
                os.fspath(model),
                str(target),
                Reader(),
                quant_format=QuantFormat.QDQ,
                per_channel=for_tensorrt,
                activation_type=QuantType.QInt8 if for_tensorrt else QuantType.QUInt8,
                weight_type=QuantType.QInt8,
                extra_options=extra,
            )
        except Exception as problem:  # its own errors have no common base
            raise ModelError(
                f"ONNX Runtime's quantizer failed: {problem!s:.200}", "export the model again"
            ) from None
        finally:
            logging.disable(before)
        return onnx.load(str(target))


def modelopt_quantized(
    model: str | os.PathLike[str], arrays: Mapping[str, Array]
) -> onnx.ModelProto:
    """The model as NVIDIA's ModelOpt leaves it (INT8, calibrated by "max" on ``arrays``); needs nvidia-modelopt[onnx].

    The rest stays FP32; ModelOpt's default would turn it into FP16. The file ``model`` is not touched.
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
        onnx.save(
            load_proto(model), str(source)
        )  # a copy: 0.47 writes into the file that it is given
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
        except Exception as problem:
            raise ModelError(
                f"ModelOpt failed: {problem!s:.200}", "export the model again"
            ) from None
        return onnx.load(str(target))


def recorded_modelopt(model: str) -> PairTable:
    """The pairs that ModelOpt put into one of the course's networks, recorded by recording/modelopt.py.

    >>> recorded_modelopt("resnet").pairs[0].kind in ("activation", "weights")
    True
    """
    path = data_dir() / "quantizers" / f"modelopt-{model}.json"
    return PairTable.from_json(read_bytes(path, RecordingError).decode())
