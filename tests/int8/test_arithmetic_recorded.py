"""The numpy model of INT8 layers against engines recorded on a GPU: layers, weights, one pixel,
whole networks.
"""

from __future__ import annotations

import io
import json

import numpy as np
import pytest

from trtlearn.errors import RecordingError
from trtlearn.int8.groups import engine_groups, fused_groups
from trtlearn.int8.kernels import quantize_activations, quantize_weights, trace_pixel
from trtlearn.int8.quant import quantize
from trtlearn.int8.simulate import run_int8
from trtlearn.model.course_data import MODELS, load_images, model_path
from trtlearn.model.graph import describe
from trtlearn.model.read import load_proto
from trtlearn.networks import network
from trtlearn.recorded import files
from trtlearn.recorded.layers import layer_case, layer_cases

CASES = layer_cases()
IN_FLOAT = {"weights_groups"}  # TensorRT could not obey: it computes this one in FP32
ALMOST = {"conv_sigmoid"}  # the GPU's exponential is not numpy's: one code in 13,824 is off by one
READ_BACK = [name for name in CASES if name.startswith("weights_") and name not in IN_FLOAT]


@pytest.mark.parametrize("name", [name for name in CASES if name not in IN_FLOAT])
def test_numpy_gives_what_the_engine_gave(name):
    case = layer_case(name)
    assert case.constraint == "OBEY"
    gap = np.abs(case.difference())
    assert gap.max() <= (1 if name in ALMOST else 0)
    assert np.mean(gap == 0) >= 0.999
    if not name.startswith("image_"):
        assert len(np.unique(case.output)) > 50  # there was something to be wrong about


@pytest.mark.parametrize(
    "name", ["conv3x3", "conv_relu", "conv_add_relu", "gemm", "depthwise_relu6"]
)
def test_the_rule_groups_nodes_as_these_engines_did(name):
    case = layer_case(name)
    shape = describe(load_proto(case.model))
    assert sorted(fused_groups(shape)) == sorted(engine_groups(shape, case.engine))


def test_an_intermediate_range_does_not_matter_inside_a_fused_layer():
    case = layer_case("conv_add_relu")
    assert case.ranges["conv"] == case.ranges["add"] == 0.01  # absurd: yet nothing is clipped there
    other = run_int8(case.model, case.scales | {"conv": 1.0, "add": 1.0}, case.inputs, floats=())
    np.testing.assert_array_equal(other["relu"].codes, case.output)


@pytest.mark.parametrize("name", READ_BACK)
def test_one_hot_inputs_read_each_quantized_weight_back(name):
    """Each output is 127 · s_x · s_w · code, or for the outputs that no weight reaches, zero: bit
    by bit.
    """
    case = layer_case(name)
    layer = next(iter(case.numpy_run().layers.values()))
    codes, units = layer.codes.astype(np.int64), layer.units
    axis = {"conv": 0, "deconv": 1, "matmul": 1}[layer.kind]
    spread = [1] * codes.ndim
    spread[axis] = -1
    products = (127 * codes).astype(np.float32) * units.reshape(spread)
    seen = set(np.unique(case.output).tolist())
    assert set(np.unique(products).tolist()) - {0.0} <= seen
    assert seen - {0.0} <= set(np.unique(products).tolist())


def test_a_weight_near_a_tie_is_rounded_as_the_builder_rounds_it():
    case = layer_case("weights_edge")
    weights = case.weights["w"].reshape(48, 256)
    codes, units = quantize_weights(weights, input_scale=case.scales["x"])
    engine = case.output[0].reshape(48, -1)[:, :256].astype(np.float64)
    rows = units > 0
    read = np.rint(engine[rows] / (127.0 * units[rows, None].astype(np.float64)))
    np.testing.assert_array_equal(codes[rows], read)
    even = np.clip(
        np.rint(weights[rows] / (np.abs(weights[rows]).max(1, keepdims=True) / 127)), -127, 127
    )
    assert (
        np.mean(even[1] == read[1]) < 0.6
    )  # channel 1 is made of exact ties: they go away from zero, not to even
    assert not engine[~rows].any()  # zeros, and a channel below float32's smallest normal number


def test_no_range_on_a_weight_clips_it():
    case = layer_case("weights_matmul_placeholder")
    assert (
        np.abs(case.weights["w"]).max() > 2
    )  # ±2 is what trtexec's placeholder rule sets on the constant
    log = json.loads(str(np.load(_path(case.name))["facts"]))
    assert 2.0 in log["ranges_set"].values()
    assert not case.difference().any()


def _path(name):
    from trtlearn.recorded.files import folder_with

    return folder_with("arithmetic") / "arithmetic" / f"{name}.npz"


def test_grouped_weights_fell_back_to_fp32():
    case = layer_case("weights_groups")
    assert case.constraint == "PREFER"
    (layer,) = [layer for layer in case.engine.layers if layer.weight_dtype]
    assert layer.weight_dtype == "fp32"
    x = case.inputs["x"].astype(np.float32) * np.float32(case.scales["x"])
    w = case.weights["w"].reshape(4, 8, -1)
    groups = x.reshape(len(x), 4, -1)
    np.testing.assert_allclose(
        case.output.reshape(len(x), 4, 8),
        np.einsum("ngk,gmk->ngm", groups, w),
        rtol=1e-5,
        atol=1e-6,
    )


def test_the_image_is_multiplied_by_the_reciprocal_and_rounded_to_even():
    for name in ("image_ties", "image_near_ties", "image_special"):
        case = layer_case(name)
        np.testing.assert_array_equal(
            quantize_activations(case.inputs["x"], case.scales["x"]), case.output
        )
    near = layer_case("image_near_ties")
    divided = quantize(near.inputs["x"], near.scales["x"])
    assert 0 < np.mean(divided != near.output) < 0.02
    assert np.abs(divided.astype(int) - near.output).max() == 1


def test_one_pixel_by_hand_is_the_engines():
    case = layer_case("conv_add_relu")
    layer = case.numpy_run().layers["conv"]
    for position in [(0, 0, 0, 0), (1, 47, 11, 11), (0, 3, 3, 7)]:
        residual = float(case.inputs["r"][position] * np.float32(case.scales["r"]))
        trace = trace_pixel(layer, case.inputs["x"], position, residual)
        assert trace.code == case.output[position]
        assert trace.sum == sum(x * w for x, w in zip(trace.inputs, trace.weights, strict=True))


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize(
    "variant", ["int8-placeholder", "int8-random", "int8-minmax", "int8-entropy2", "int8-legacy"]
)
def test_whole_networks_say_what_the_engines_said(model, variant):
    experiment = network(model).build(variant)
    images = load_images("test")[0][:200]
    run = run_int8(
        model_path(model),
        {tensor.name: tensor.scale for tensor in experiment.ranges.tensors if tensor.scale},
        {"image": images},
        engine=experiment.engine,
    )
    assert tuple(run["logits"].values.argmax(1).tolist()) == experiment.predictions.classes[:200]


@pytest.mark.parametrize("variant", ["int8-minmax", "int8-entropy2", "int8-placeholder"])
def test_a_transformers_products_run_in_int8_where_the_engines_do(variant):
    """Their input becomes INT8 behind a reshape of the product's own."""
    build = network("vit").build(variant)
    run = build.simulate(network("vit").images("test")[:4])
    weighted = {layer.name for layer in build.engine.layers if layer.weight_dtype == "int8"}
    assert set(run.layers) == weighted
    assert tuple(run["logits"].values.argmax(1).tolist()) == build.predictions.classes[:4]


def test_what_is_not_there_is_said():
    with pytest.raises(RecordingError, match="conv3x3"):
        layer_case("conv7x7")


def test_damaged_files_are_refused(tmp_path, monkeypatch):
    folder = tmp_path / "arithmetic"
    folder.mkdir()
    content = _path("gap").read_bytes()
    (folder / "cut.npz").write_bytes(content[: len(content) // 2])
    (folder / "text.npz").write_text("not a zip file")
    empty = io.BytesIO()
    np.savez(empty, facts=np.array("{}"))
    (folder / "empty.npz").write_bytes(empty.getvalue())
    monkeypatch.setattr(files, "recording_folders", lambda: (tmp_path,))
    for name in ("cut", "text", "empty"):
        with pytest.raises(RecordingError):
            layer_case(name)
