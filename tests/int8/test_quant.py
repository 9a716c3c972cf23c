"""INT8 arithmetic: what quantize, dequantize and the error report must hold for any numbers."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from trtlearn.errors import DataError
from trtlearn.int8.quant import (
    along,
    dequantize,
    quantization_error,
    quantize,
    scale_from_amax,
    weight_scales,
)

FLOATS = st.floats(-1e4, 1e4, width=32)
TENSORS = arrays(np.float32, st.integers(1, 60), elements=FLOATS)


@given(TENSORS, st.floats(2.0**-10, 128, width=32))
def test_error_is_at_most_half_a_step_where_nothing_clips(x, scale):
    back = dequantize(quantize(x, scale), scale)
    inside = np.abs(x) <= 127 * np.float32(scale)
    assert (np.abs(back - x)[inside] <= np.float32(scale) / 2 + 1e-5 * np.abs(x[inside])).all()
    assert (np.abs(back) <= 128 * np.float32(scale)).all()


@given(TENSORS)
def test_the_largest_magnitude_becomes_127_with_its_own_scale(x):
    amax = float(np.abs(x).max())
    if amax >= 2.0**-119:  # below, amax / 127 is no normal float32: it loses bits, or becomes 0
        assert np.abs(quantize(x, scale_from_amax(amax), qmin=-127)).max() == 127


@given(TENSORS, st.floats(2.0**-10, 128, width=32))
def test_clipping_and_rounding_add_up_to_the_whole_error(x, scale):
    report = quantization_error(x, scale)
    exact = ((x.astype(float) - dequantize(quantize(x, scale), scale).astype(float)) ** 2).mean()
    assert report.clip_error + report.rounding_error == pytest.approx(exact, rel=1e-9)
    assert report.clipped_fraction == report.clipped_count / x.size
    assert report.from_json(report.to_json()) == report


def test_ties_go_to_the_even_neighbour():
    assert quantize([0.5, 1.5, 2.5, -0.5, -1.5, -2.5], 1.0).tolist() == [0, 2, 2, 0, -2, -2]


def test_activations_reach_minus_128_and_weights_do_not():
    assert quantize([-500.0], 1.0).tolist() == [-128]
    assert quantize([-500.0], 1.0, qmin=-127).tolist() == [-127]


def test_per_channel_is_never_worse_than_per_tensor_on_the_worst_channel():
    w = (
        np.random.default_rng(0).standard_normal((8, 4, 3, 3)).astype(np.float32)
        * np.logspace(-2, 1, 8)[:, None, None, None]
    )
    w = w.astype(np.float32)
    scales = weight_scales(w)
    assert scales.shape == (8,)
    assert np.array_equal(scales, np.abs(w).reshape(8, -1).max(1) / np.float32(127))
    channel = (
        np.abs(dequantize(quantize(w, scales, axis=0), scales, axis=0) - w).reshape(8, -1).max(1)
    )
    one = scale_from_amax(float(np.abs(w).max()))
    tensor = np.abs(dequantize(quantize(w, one), one) - w).reshape(8, -1).max(1)
    assert (channel <= scales / 2 * 1.001).all()
    assert channel[0] < tensor[0] / 10


def test_weight_scales_of_a_matrix_product_run_along_its_columns():
    w = np.asarray([[1.0, -254.0], [127.0, 3.0]], np.float32)
    assert weight_scales(w, axis=1).tolist() == [1.0, 2.0]
    assert weight_scales(w, axis=-1).tolist() == [1.0, 2.0]


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: quantize([np.nan], 1.0), "NaN"),
        (lambda: quantize([1.0], 0.0), "above 0"),
        (lambda: quantize([1.0], -1.0), "above 0"),
        (lambda: quantize([1.0], np.inf), "NaN or infinity"),
        (lambda: quantize([[1.0, 2.0]], [1.0, 2.0, 3.0], axis=1), "3 scales"),
        (lambda: quantize([[1.0, 2.0]], [1.0, 2.0]), "no axis"),
        (lambda: quantize([1.0], 1.0, axis=3), "axis 3"),
        (lambda: quantize([1.0], 1.0, qmax=300), "range"),
        (lambda: quantize(["a"], 1.0), "numbers"),
        (lambda: dequantize([1.5], 1.0), "integers"),
        (lambda: scale_from_amax(float("nan")), "finite"),
        (lambda: scale_from_amax(-1.0), "finite"),
        (lambda: weight_scales(np.zeros((0, 3), np.float32)), "no values"),
        (lambda: quantization_error([], 1.0), "no values"),
    ],
)
def test_bad_input_is_one_clear_error(call, words):
    with pytest.raises(DataError, match=words):
        call()


def test_error_report_of_exact_codes_has_no_error():
    report = quantization_error([0.0, 1.0, -127.0], 1.0)
    assert report.mean_squared_error == 0
    assert report.sqnr_db is None
    assert report.cosine == pytest.approx(1.0)
    assert quantization_error([0.0, 0.0], 1.0).cosine is None


def test_channels_are_shaped_along_their_axis():
    assert along(np.ones(5), 1, 4).shape == (1, 5, 1, 1)
