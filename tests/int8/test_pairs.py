"""Q/DQ pairs read from any model, and ONNX Runtime's quantizer beside ours on the same network."""

from __future__ import annotations

import importlib.util

import numpy as np
import pytest

from recording.pairs import (
    compare_pairs,
    modelopt_quantized,
    ort_quantized,
    read_pairs,
)
from trtlearn.calibration.cache import read_cache
from trtlearn.calibration.qdq import insert_qdq
from trtlearn.errors import ModelError, TrtlearnError
from trtlearn.model.course_data import load_images, model_path
from trtlearn.model.read import load_proto
from trtlearn.recorded.computed import PairTable
from trtlearn.recorded.files import folder_with

SCALES = {
    e.name: e.scale for e in read_cache(folder_with("mobile") / "mobile/int8-minmax.cache").scales
}


@pytest.mark.parametrize("int8_weights", [False, True])
def test_what_was_put_in_is_read_back(int8_weights):
    model, report = insert_qdq(load_proto(model_path("mobile")), SCALES, int8_weights=int8_weights)
    table = read_pairs(model)
    assert table.activations() == {
        s.tensor: s.scale for s in report.sites if s.kind == "activation"
    }
    assert sum(pair.kind == "weights" for pair in table.pairs) == len(report.quantized_nodes)
    assert all(pair.zero_points == (0,) and pair.dtype == "int8" for pair in table.pairs)
    assert PairTable.from_json(table.to_json()) == table


def test_the_quantizer_of_onnx_runtime():
    pytest.importorskip("onnxruntime.quantization")
    images, _ = load_images("calibration")
    batches = [{"image": images[i : i + 64]} for i in range(0, 512, 64)]
    ours, _ = insert_qdq(load_proto(model_path("mobile")), SCALES)
    theirs = ort_quantized(model_path("mobile"), batches)
    compared = compare_pairs(read_pairs(ours, "trtlearn"), read_pairs(theirs, "ONNX Runtime"))
    assert not compared.only_first
    assert len(compared.only_second) > 10, "a pair on nearly every tensor"
    assert np.allclose(list(compared.both.values()), 1, rtol=1e-5), (
        "the same min-max scales as TensorRT's calibrator"
    )
    assert not compared.asymmetric
    plain = read_pairs(
        ort_quantized(model_path("mobile"), batches[:1], for_tensorrt=False), "defaults"
    )
    assert "image" in compare_pairs(read_pairs(ours), plain).asymmetric
    with pytest.raises(ModelError, match="quantizer failed"):
        ort_quantized(model_path("mobile"), [{"image": images[:8].astype(np.float64)}])


def test_modelopt_is_optional():
    if importlib.util.find_spec("modelopt") is not None:
        pytest.skip("ModelOpt is installed here")
    with pytest.raises(TrtlearnError, match="nvidia-modelopt"):
        modelopt_quantized(model_path("mobile"), {})
