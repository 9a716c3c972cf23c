"""The zoo is what it says: eleven kinds of networks, the same each time, that compute and that the
parser reads.
"""

from __future__ import annotations

import importlib.util
import sys

import numpy as np
import onnx
import pytest

from recording.zoo import networks
from trtlearn.model.data import feeds
from trtlearn.model.read import read_model
from trtlearn.model.run import activations

HAS_OCR = importlib.util.find_spec("rapidocr_onnxruntime") is not None
SKIP_OCR = pytest.mark.skipif(not HAS_OCR, reason="pip install --no-deps rapidocr-onnxruntime")
EACH = pytest.mark.parametrize(
    "name",
    [pytest.param(name, marks=SKIP_OCR) if name == "ocr" else name for name in networks.NAMES],
)
KINDS = {
    "residual": {"Add", "MaxPool"},
    "mobile": {"Clip", "Add"},
    "inception": {"Concat", "AveragePool"},
    "transformer": {"Softmax", "Erf", "Sqrt"},
    "conv1d": {"Conv", "LeakyRelu", "Tanh"},
    "recurrent": {"Sigmoid", "Tanh", "Slice"},
    "ocr": {"HardSigmoid", "BatchNormalization"},
    "bottleneck": {"Conv", "BatchNormalization", "Add", "MaxPool"},
    "mobilev3": {"HardSigmoid", "Clip", "Div", "Mul", "Add"},
    "vit": {"Softmax", "Erf", "Sqrt", "Concat", "Gather"},
    "unet": {"ConvTranspose", "Resize", "Concat", "Sigmoid"},
}


@EACH
def test_a_network_is_whole_static_and_the_same_each_time(name):
    content, arrays, batch = networks.build(name)
    again, same, _ = networks.build(name)
    assert content == again
    assert len(content) < 600_000
    model = read_model(content)
    assert {node.op for node in model.nodes} >= KINDS[name]
    assert not {"Loop", "If", "Scan", "GRU"} & {node.op for node in model.nodes}
    for value in (*model.inputs, *model.outputs):
        assert value.shape
        assert value.shape[0] == batch
        assert all(isinstance(axis, int) for axis in value.shape)
    assert set(arrays) == {value.name for value in model.inputs}
    for key, array in arrays.items():
        assert (array.dtype, len(array)) == (np.float32, networks.BATCHES * batch)
        np.testing.assert_array_equal(array, same[key])
    onnx.checker.check_model(onnx.load_model_from_string(content), full_check=True)


@EACH
def test_every_tensor_carries_something_to_calibrate(name):
    content, arrays, batch = networks.build(name)
    first = next(activations(content, feeds(arrays, batch)))
    for tensor, value in first.items():
        assert np.isfinite(value).all(), tensor
        assert value.std() > 1e-4, tensor
        assert np.abs(value).max() < 1e3, tensor


@EACH
def test_tensorrts_parser_reads_it(name):
    trt = pytest.importorskip("tensorrt_rtx_bindings", reason="no tensorrt_rtx here")
    logger = trt.Logger(trt.Logger.ERROR)
    network = trt.Builder(logger).create_network(0)
    parser = trt.OnnxParser(network, logger)
    assert parser.parse(networks.build(name)[0]), [
        str(parser.get_error(i)) for i in range(parser.num_errors)
    ]
    assert network.num_outputs == 1


@SKIP_OCR
def test_the_pretrained_classifier_reads_our_text():
    images, upside_down = networks.text_images(64, np.random.default_rng([networks.SEED, 5]))
    content, arrays, batch = networks.build("ocr")
    np.testing.assert_array_equal(arrays["x"], images)
    output = read_model(content).outputs[0].name
    found = [part[output] for part in activations(content, feeds(arrays, batch), names=[output])]
    share = np.mean((np.concatenate(found)[:, 1] > 0.5) == upside_down)
    assert share > 0.85, "rendered text is what this network was trained for"


def test_the_folder_and_the_table(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(
        sys, "argv", ["zoo.py", str(tmp_path / "out"), "--only", "conv1d", "recurrent"]
    )
    networks.main()
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [
        "conv1d.npz",
        "conv1d.onnx",
        "recurrent.npz",
        "recurrent.onnx",
    ]
    assert (tmp_path / "out" / "conv1d.onnx").read_bytes() == networks.build("conv1d")[0]
    with np.load(tmp_path / "out" / "conv1d.npz") as file:
        np.testing.assert_array_equal(file["signal"], networks.build("conv1d")[1]["signal"])
    table = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in table] == ["network", "conv1d", "recurrent"]


def test_the_hold_out_is_small():
    assert networks.HOLDOUT == ("bottleneck", "mobilev3", "vit", "unet")
    assert all(len(networks.build(name)[0]) < 400_000 for name in networks.HOLDOUT)


def test_an_unknown_network_is_refused():
    with pytest.raises(SystemExit, match="residual, mobile"):
        networks.build("vgg")
