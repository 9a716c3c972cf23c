"""What other tools make of a model: NVIDIA's ModelOpt, which only recording needs."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from numpy.typing import NDArray

from trtlearn.errors import ModelError, TrtlearnError
from trtlearn.model.read import load_proto

if TYPE_CHECKING:
    import onnx

__all__ = ["modelopt_quantized"]


def modelopt_quantized(
    model: str | os.PathLike[str], arrays: Mapping[str, NDArray[Any]]
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
