"""What notebook 05 states, fact by fact, on the recordings that it shows."""

from __future__ import annotations

import numpy as np
import pytest

import trtlearn as tl
from trtlearn.int8.kernels import quantize_activations, quantize_weights

RESNET = tl.network("resnet", mode="recorded")
INT8 = RESNET.build("int8-minmax")
NOISE = RESNET.build("int8-random")


# --- The image.


def test_the_image_enters_in_fp32_and_a_reformat_makes_it_int8() -> None:
    first = INT8.engine.layers[0]
    assert first.inputs[0].name == "image"
    assert first.input_dtypes == ("fp32",)
    assert first.is_reformat
    assert first.output_dtypes == ("int8",)


def test_the_engine_multiplies_by_one_over_the_scale_and_rounds_ties_to_even() -> None:
    near = tl.recorded.layer_case("image_near_ties")
    assert near.output.size == 6400
    assert (quantize_activations(near.inputs["x"], near.scales["x"]) == near.output).all()
    assert not near.difference().any()


def test_dividing_by_the_scale_gives_another_code_for_110_of_them() -> None:
    near = tl.recorded.layer_case("image_near_ties")
    assert (tl.quantize(near.inputs["x"], near.scales["x"]) != near.output).sum() == 110


def test_nan_and_infinities_become_the_ends() -> None:
    odd = tl.recorded.layer_case("image_special")
    assert odd.output.ravel()[:4].tolist() == [-128, 127, -128, 127]


# --- The noise of trtexec.


def test_the_noise_is_one_batch_given_as_the_input_and_gives_weights_no_scale() -> None:
    """Question thread-5."""
    assert NOISE.calibration is not None
    assert NOISE.ranges is not None
    assert NOISE.calibration.batches == 1
    names = {tensor.name for tensor in NOISE.ranges.tensors}
    assert "image" in names
    assert not names & set(RESNET.weights())
    assert NOISE.cache is not None
    assert not set(NOISE.cache) & set(RESNET.weights())


def test_the_noise_makes_the_image_s_range_1() -> None:
    assert NOISE.ranges is not None
    assert INT8.ranges is not None
    noise, images = NOISE.ranges["image"].amax, INT8.ranges["image"].amax
    assert noise is not None
    assert images is not None
    assert noise < 1.001 < images


def test_noise_or_images_the_int8_weights_are_the_same_but_for_one_in_1000() -> None:
    kernel = RESNET.weights()["b0_conv1.weight"]
    codes = []
    for build in (NOISE, INT8):
        assert build.ranges is not None
        scale = build.ranges["pool"].scale
        assert scale is not None
        codes.append(quantize_weights(kernel, input_scale=scale)[0])
    assert (codes[0] != codes[1]).mean() < 1e-3


# --- Weights read back.


def test_each_output_of_a_one_hot_input_is_a_weight_s_code_as_numpy_computes_it() -> None:
    case = tl.recorded.layer_case("weights_conv3x3")
    assert set(np.unique(case.inputs["x"])) == {0, 127}
    assert (np.count_nonzero(case.inputs["x"], axis=(1, 2, 3)) == 1).all()
    codes, units = quantize_weights(case.weights["w"], input_scale=case.scales["x"])
    read = case.output[:, :, 0, 0].T.reshape(codes.shape) / (127 * units.reshape(-1, 1, 1, 1))
    assert codes.size == 2304
    assert (np.rint(read) == codes).all()
    assert (case.read_weights() == codes).all()


def test_12_288_difficult_weights_are_numpy_s_codes_too() -> None:
    edge = tl.recorded.layer_case("weights_edge")
    weights = edge.weights["w"].reshape(48, 256)
    codes, units = quantize_weights(weights, input_scale=edge.scales["x"])
    one = np.where(units > 0, 127 * units, 1)[:, None]
    read = edge.output[0].reshape(48, -1)[:, :256] / one
    assert codes.size == 12_288
    assert (np.rint(read) == codes).all()


def test_a_range_of_2_set_on_weights_of_up_to_8_clips_nothing() -> None:
    case = tl.recorded.layer_case("weights_matmul_placeholder")
    assert np.abs(case.weights["w"]).max() > 7
    assert not case.difference().any()


# --- What the inspector and the plan say.


def test_the_inspector_names_each_layer_s_weight_type() -> None:
    """Question thread-6."""
    types = {layer.weight_dtype for layer in INT8.engine.layers if layer.weight_count}
    assert types == {"int8"}


def test_the_inspector_shows_no_weight_scale() -> None:
    """Question item-11."""
    parts = INT8.engine.raw.lower().split('":')[:-1]
    fields = [part.rpartition('"')[2] for part in parts]
    assert fields
    assert not any("scale" in field for field in fields)


def test_the_int8_plan_has_42_percent_of_the_fp32_plan_s_bytes() -> None:
    small, large = INT8.plan_bytes, RESNET.build("fp32").plan_bytes
    assert small is not None
    assert large is not None
    assert round(100 * small / large) == 42


def test_all_codes_that_numpy_computes_lie_in_the_int8_plan_and_none_in_the_fp32_plan() -> None:
    plans = tl.recorded.plan_insides("resnet").plans
    pairs = list(plans["int8-placeholder"].int8_vectors.values())
    assert pairs
    assert sum(there for there, _ in pairs) == sum(codes for _, codes in pairs) == 109_040
    assert not plans["fp32"].int8_vectors


def test_63_percent_of_the_int8_plan_are_gpu_programs_for_several_architectures() -> None:
    plan = tl.recorded.plan_insides("resnet").plans["int8-placeholder"]
    assert round(100 * plan.program_bytes / plan.size_bytes) == 63
    sizes = [program.size_bytes for program in plan.programs]
    assert (round(min(sizes) / 1000), round(max(sizes) / 1000)) == (13, 104)
    kinds = set().union(*(program.architectures for program in plan.programs))
    assert kinds == {"sm_75", "sm_80", "sm_86", "sm_90", "compute_86"}


def test_ten_builds_with_the_same_options_have_ten_sizes_and_other_kernels() -> None:
    """Question item-5."""
    builds = tl.recorded.plan_sizes("resnet").builds
    sizes = [build.plan_bytes for build in builds]
    assert len(set(sizes)) == len(builds) == 10
    assert (min(sizes), max(sizes)) == (516_476, 779_876)
    assert max(sizes) > 1.1 * min(sizes)
    assert all(other.kernels != builds[0].kernels for other in builds[1:])


# --- The arithmetic.


def test_a_pixel_by_hand_is_the_layer_s_and_200_images_get_tensorrt_s_answers() -> None:
    run = INT8.simulate(RESNET.images("test")[:200])
    assert run.convolutions[0] == "stem"
    at = (0, 11, 10, 14)
    codes = run["stem_relu"].codes
    assert codes is not None
    assert run.trace("stem", at).code == codes[at]
    assert run.trace("stem").code == codes[0].max()
    assert INT8.answers is not None
    assert (run["logits"].values.argmax(1) == INT8.answers[:200]).all()


CASES = ("conv3x3", "conv_add_relu", "depthwise_relu6", "gemm_relu", "avgpool")


@pytest.mark.parametrize("name", [*CASES, "maxpool_other_scale", "concat"])
def test_numpy_is_the_engine_layer_by_layer(name: str) -> None:
    assert (tl.recorded.layer_case(name).difference() == 0).mean() >= 0.999


def test_each_other_rule_gives_other_codes_than_the_engine() -> None:
    case = tl.recorded.layer_case("conv3x3")
    layer = case.numpy_run().layers["conv"]
    sums = layer.sums(case.inputs["x"])
    each = layer.multiplier[:, None, None]
    bias = (layer.bias / np.float32(layer.output_scale))[:, None, None]
    ways = {
        "as measured": np.rint(sums * each + bias),
        "truncated": np.trunc(sums * each + bias),
        "rounded before the bias": np.rint(np.rint(sums * each) + bias),
        "one weight scale for all": np.rint(sums * each.max() + bias),
    }
    equal = {name: (codes.clip(-128, 127) == case.output).mean() for name, codes in ways.items()}
    assert equal.pop("as measured") == 1
    assert max(equal.values()) < 0.9
