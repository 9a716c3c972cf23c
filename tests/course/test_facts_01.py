"""What notebook 01 states, fact by fact, on the course's networks."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

import trtlearn as tl
from trtlearn.int8 import quant

RESNET = tl.network("resnet", mode="recorded")
MOBILE = tl.network("mobile", mode="recorded")
X = RESNET.activations(RESNET.images()[:64], ["stem_relu"])["stem_relu"]
TOP = float(X.max())


def rounded(
    x: NDArray[np.float32], scale: NDArray[np.float32] | float, axis: int | None = None
) -> NDArray[np.float32]:
    return tl.dequantize(tl.quantize(x, scale, axis=axis), scale, axis=axis)


# --- The ruler.


def test_five_numbers_become_these_codes_and_come_back_so() -> None:
    scale = 4.0 / 127
    assert np.float32(scale) == quant.scale_from_amax(4.0)
    numbers = np.array([0.0, 0.02, 1.0, 3.99, 7.25], np.float32)
    codes = tl.quantize(numbers, scale)
    back = tl.dequantize(codes, scale)
    assert codes.tolist() == [0, 1, 32, 127, 127]
    assert np.abs(back[:4] - numbers[:4]).max() <= scale / 2
    assert back[4] == np.float32(127 * scale) == 4.0
    assert numbers[4] - back[4] == 3.25


def test_a_tie_goes_to_the_even_code_as_in_the_recorded_engine() -> None:
    assert tl.quantize([0.5, 1.5, 2.5], 1.0).tolist() == [0, 2, 2]
    assert not tl.recorded.layer_case("image_ties").difference().any()


def test_the_values_behind_the_first_relu_go_from_0_to_7_25() -> None:
    assert X.size == 1_204_224
    assert X.min() == 0
    assert round(TOP, 2) == 7.25


# --- Where the range should end.


def test_the_least_squared_error_lies_below_the_largest_value() -> None:
    ends = np.geomspace(1, 30, 120)
    errors = [tl.quantization_error(X, end / 127).mean_squared_error for end in ends]
    assert 2 < ends[int(np.argmin(errors))] < TOP


def test_the_star_of_the_picture_stands_at_5_76() -> None:
    assert tl.show.clip_or_round(X).data[-1].name == "least: ±5.762"


def test_an_amax_at_the_largest_value_clips_nothing() -> None:
    assert tl.quantization_error(X, TOP / 127).clipped_count == 0


# --- The zero point.


def test_half_of_the_codes_are_unused_after_a_relu() -> None:
    codes = tl.quantize(X, TOP / 127)
    assert (codes.min(), codes.max()) == (0, 127)
    assert len(np.unique(codes)) == 118


def test_a_zero_point_would_make_the_squared_error_6_4_times_smaller() -> None:
    """newer-13"""
    symmetric = tl.quantization_error(X, TOP / 127).mean_squared_error
    shifted = tl.quantize(X, TOP / 255, zero_point=-128)
    assert (shifted.min(), shifted.max()) == (-128, 127)
    assert len(np.unique(shifted)) == 228
    back = tl.dequantize(shifted, TOP / 255, zero_point=-128)
    ratio = symmetric / float(np.mean((back - X) ** 2))
    assert 3 < ratio < 8
    assert ratio == pytest.approx(6.4, abs=0.05)


# --- A scale for each channel.

DEPTHWISE = "m3_dw.weight"


def spread(weight: NDArray[np.float32]) -> float:
    """How much the channels' largest weights differ, as a logarithm."""
    return float(np.ptp(np.log(np.abs(weight).max((1, 2, 3)))))


def test_the_convolution_shown_is_the_one_whose_channels_differ_most() -> None:
    filters = {name: w for name, w in MOBILE.weights().items() if w.ndim == 4}
    assert max(filters, key=lambda name: spread(filters[name])) == DEPTHWISE
    assert len(filters[DEPTHWISE]) == 120


def test_its_channels_differ_more_than_fivefold_in_size() -> None:
    largest = np.abs(MOBILE.weights()[DEPTHWISE]).max((1, 2, 3))
    assert largest.max() > 5 * largest.min()
    assert round(float(largest.max() / largest.min())) == 3153


def test_a_scale_for_each_channel_cuts_the_squared_error_97_times() -> None:
    w = MOBILE.weights()[DEPTHWISE]
    scales = quant.weight_scales(w)
    whole = tl.quantization_error(w, float(scales.max()), qmin=-127).mean_squared_error
    each = tl.dequantize(tl.quantize(w, scales, axis=0, qmin=-127), scales, axis=0)
    gain = whole / float(np.mean((each - w) ** 2))
    assert gain > 2
    assert round(gain) == 97


# --- Weight-only, dynamic, static.


def test_static_costs_more_than_dynamic_and_dynamic_more_than_weight_only() -> None:
    test = RESNET.activations(RESNET.images("test")[:256], ["flatten"])["flatten"]
    seen = RESNET.activations(RESNET.images(), ["flatten"])["flatten"]
    w = RESNET.weights()["logits.weight"]
    w8 = rounded(w, quant.weight_scales(w), axis=0)
    own = np.abs(test).max(axis=1) / 127
    kinds = {
        "weight-only": test @ w8.T,
        "activation-only": rounded(test, own, axis=0) @ w.T,
        "dynamic": rounded(test, own, axis=0) @ w8.T,
        "static": rounded(test, float(np.abs(seen).max()) / 127) @ w8.T,
    }
    exact = test @ w.T
    lengths = {kind: np.linalg.norm(y - exact) for kind, y in kinds.items()}
    off = {kind: float(length / np.linalg.norm(exact)) for kind, length in lengths.items()}
    assert off["static"] > off["dynamic"] > off["weight-only"]
    assert off["dynamic"] > off["activation-only"]
    assert {kind: round(100 * share, 2) for kind, share in off.items()} == {
        "weight-only": 0.58,
        "activation-only": 0.47,
        "dynamic": 0.73,
        "static": 0.98,
    }
    assert off["static"] < 0.01


# --- One bad value.


def test_one_outlier_of_1000_leaves_two_codes_to_all_other_values() -> None:
    others = X.ravel()[1:]
    assert len(np.unique(tl.quantize(others, 1000 / 127))) == 2


def test_the_outlier_takes_the_signal_from_33_6_to_0_3_decibels() -> None:
    before = tl.quantization_error(X, TOP / 127).sqnr_db
    after = tl.quantization_error(X.ravel()[1:], 1000 / 127).sqnr_db
    assert before == pytest.approx(33.6, abs=0.05)
    assert after == pytest.approx(0.3, abs=0.05)
