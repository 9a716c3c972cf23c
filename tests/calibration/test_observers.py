"""Observers: each states its rule, streams, and keeps its steps."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trtlearn.calibration.observers import OBSERVERS, Threshold, make_observer, threshold_of
from trtlearn.errors import DataError

RNG = np.random.default_rng(11)
NORMAL = [RNG.standard_normal((8, 3, 20, 20)).astype(np.float32) for _ in range(6)]


@pytest.mark.parametrize("algorithm", OBSERVERS)
def test_every_observer_gives_a_threshold_within_the_data(algorithm):
    found = threshold_of(algorithm, *NORMAL)
    top = max(float(np.abs(x).max()) for x in NORMAL)
    assert found.seen_amax == np.float32(top)
    assert 0 < found.amax <= top * (1 + 1 / 2048)
    assert found.scale == np.float32(np.float32(found.amax) / np.float32(127))
    assert found.batches == 6
    assert found.values == sum(x.size for x in NORMAL)
    assert Threshold.from_json(found.to_json()) == found


@pytest.mark.parametrize("algorithm", OBSERVERS)
def test_zeros_only_give_scale_zero(algorithm):
    found = threshold_of(algorithm, np.zeros(10), np.zeros(10))
    assert (found.amax, found.scale, found.zeros) == (0.0, 0.0, 20)


@pytest.mark.parametrize("algorithm", OBSERVERS)
def test_no_batch_and_bad_batches_are_refused(algorithm):
    with pytest.raises(DataError, match="no batch"):
        make_observer(algorithm).result()
    for bad in ([np.nan], [np.inf], [], ["x"]):
        with pytest.raises(DataError):
            make_observer(algorithm).observe(bad)


@settings(max_examples=30, deadline=None)
@given(st.sampled_from(sorted(OBSERVERS)), st.integers(0, 10**6))
def test_signs_do_not_matter_and_doubling_doubles(algorithm, seed):
    rng = np.random.default_rng(seed)
    x = rng.laplace(size=3000).astype(np.float32)
    once = threshold_of(algorithm, x)
    assert threshold_of(algorithm, -np.abs(x)).amax == once.amax
    assert threshold_of(algorithm, 2 * x).amax == 2 * once.amax
    assert threshold_of(algorithm, rng.permutation(x)).amax == once.amax


def test_the_order_of_batches_matters_to_entropy_and_not_to_min_max():
    small, large = NORMAL[0] * np.float32(0.3), NORMAL[1] * np.float32(3.1)
    assert threshold_of("minmax", small, large).amax == threshold_of("minmax", large, small).amax
    first, second = threshold_of("entropy2", small, large), threshold_of("entropy2", large, small)
    assert first.width != second.width
    assert first.amax != second.amax


def test_entropy_keeps_all_its_steps():
    found = threshold_of("entropy2", NORMAL[0], 5 * NORMAL[1], NORMAL[2])
    assert found.search is not None
    assert len(found.search.kl) == 2048 - 128 + 1
    assert min(found.search.kl) == found.search.kl[found.search.chosen - 128]
    assert found.steps[0].merges == 0
    assert sum(step.merges for step in found.steps) == 3
    assert [step.batch for step in found.steps] == [0, 1, 2]
    assert sum(found.steps[-1].counts) == found.values - found.zeros


def test_percentile_and_mse_clip_an_outlier_and_min_max_does_not():
    x = np.append(NORMAL[0].ravel(), np.float32(100))
    assert threshold_of("minmax", x).amax == 100
    assert threshold_of("percentile", x, percentile=99.0).amax < 10
    found = threshold_of("mse", RNG.laplace(size=50000))
    assert found.amax < 0.95 * found.seen_amax


def test_mse_is_the_least_of_its_own_curve_and_near_the_true_one():
    from trtlearn.int8.quant import quantization_error

    x = RNG.standard_normal(20000).astype(np.float32)
    found = threshold_of("mse", x)
    assert min(found.curve) == found.curve[found.bins_kept - 128]
    true = {
        amax: quantization_error(x, amax / 127, qmin=-127).mean_squared_error
        for amax in np.linspace(1, found.seen_amax, 60)
    }
    assert quantization_error(x, found.scale, qmin=-127).mean_squared_error <= 1.02 * min(
        true.values()
    )


def test_unknown_names_and_settings_are_refused():
    with pytest.raises(DataError, match="no calibrator 'best'"):
        make_observer("best")
    with pytest.raises(DataError, match="quantile"):
        make_observer("legacy", quantile=1.5)
    with pytest.raises(DataError, match="percentile"):
        make_observer("percentile", percentile=101)
