"""The entropy search and the histogram: what they compute at once is what the rule says bin by
bin.
"""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trtlearn.calibration.entropy import divergence, entropy_search, reference_and_candidate
from trtlearn.calibration.histogram import BINS, Histogram
from trtlearn.errors import DataError


def random_counts(seed: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    kind = seed % 4
    index = np.arange(BINS)
    if kind == 0:
        return rng.poisson(rng.uniform(1, 50) * np.exp(-rng.uniform(1, 12) * index / BINS))
    if kind == 1:
        return np.where(rng.random(BINS) < rng.uniform(0.01, 0.6), rng.integers(1, 50, BINS), 0)
    if kind == 2:
        return np.where(index >= rng.integers(1, 1900), rng.integers(0, 9, BINS), 0)
    counts = np.zeros(BINS, np.int64)
    counts[rng.integers(0, BINS, 5)] = 7
    return counts


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10**6), st.lists(st.integers(128, BINS), min_size=1, max_size=6))
def test_the_curve_equals_the_rule_bin_by_bin(seed, kept):
    counts = random_counts(seed)
    counts[2] += 1
    search = entropy_search(counts)
    counts[0] = counts[1]
    for i in kept:
        p, q = reference_and_candidate(counts, i)
        if q.sum() > 0:
            assert search.kl[i - 128] == pytest.approx(divergence(p, q), abs=1e-9)


def test_a_threshold_whose_last_bin_is_empty_is_never_chosen_while_there_is_a_tail():
    counts = np.where(np.arange(BINS) % 7 == 3, 5, 0)
    counts[0] = counts[1]
    search = entropy_search(counts)
    for i in range(128, BINS + 1):
        assert np.isinf(search.kl[i - 128]) == (counts[i - 1] == 0)
    assert counts[search.chosen - 1] > 0


@pytest.mark.parametrize("seed", range(8))
def test_groups_are_those_of_the_floor_rule(seed):
    """Q by a plain loop over bins, as the rule is written."""
    counts = random_counts(seed).astype(float)
    kept = 128 + 97 * (seed + 1)
    _, q = reference_and_candidate(counts, kept)
    for g in range(128):
        members = [j for j in range(kept) if 128 * j // kept == g and counts[j] > 0]
        for j in members:
            assert q[j] == pytest.approx(sum(counts[m] for m in members) / len(members))
    assert ((q > 0) == (counts[:kept] > 0)).all()


def test_the_search_is_the_same_for_any_multiple_of_the_counts():
    counts = random_counts(4)
    assert entropy_search(counts).chosen == entropy_search(counts * 1000).chosen


@pytest.mark.parametrize(
    "counts", [np.zeros(BINS), np.ones(100), -np.ones(BINS), np.ones((2, BINS))]
)
def test_impossible_counts_are_refused(counts):
    with pytest.raises(DataError):
        entropy_search(counts)


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10**6), st.integers(1, 6))
def test_the_histogram_counts_every_value_once(seed, batches):
    rng = np.random.default_rng(seed)
    histogram = Histogram()
    values = zeros = 0
    top = 0.0
    for _ in range(batches):
        x = (rng.standard_normal(int(rng.integers(1, 300))) * 2.0 ** rng.integers(-20, 20)).astype(
            np.float32
        )
        x[rng.random(x.size) < 0.2] = 0
        histogram.add(x)
        values, zeros, top = (
            values + x.size,
            zeros + int((x == 0).sum()),
            max(top, float(np.abs(x).max())),
        )
    assert histogram.counts.sum() + histogram.zeros == values
    assert (histogram.zeros, histogram.amax) == (zeros, top)
    assert histogram.amax <= (histogram.width or 0) * BINS * (1 + 1e-6)
    assert len(histogram.steps) == batches


def test_the_first_batch_sets_the_width_and_growth_doubles_it():
    histogram = Histogram()
    histogram.add([0.0, 0.0])
    assert histogram.width is None
    histogram.add([1.0, 0.3])
    assert histogram.width == 1 / BINS
    histogram.add([1.0])
    assert (histogram.width, histogram.merges) == (1 / BINS, 0)
    histogram.add([5.0])
    assert (histogram.width, histogram.merges) == (8 / BINS, 3)
    assert histogram.counts[-1] == 0
    assert histogram.counts[int(5 / 8 * BINS)] == 1


def test_a_merge_adds_neighbours_in_pairs():
    rng = np.random.default_rng(5)
    x = rng.random(5000).astype(np.float32)
    x[0] = 1
    histogram = Histogram()
    histogram.add(x)
    before = histogram.counts.copy()
    histogram.add([2.0])
    assert np.array_equal(histogram.counts[: BINS // 2], before.reshape(-1, 2).sum(1))


def test_steps_and_memory_are_bounded():
    histogram = Histogram()
    for index in range(1000):
        histogram.add(np.full(4, 1 + index / 100, np.float32))
    assert len(histogram.steps) <= 32
    assert histogram.steps[0].batch == 0
    assert histogram.batches == 1000
    assert sum(step.batch >= 500 for step in histogram.steps) >= 8


@pytest.mark.parametrize("batch", [[], [np.nan], [np.inf, 1.0], ["a"]])
def test_bad_batches_are_refused_and_change_nothing(batch):
    histogram = Histogram()
    histogram.add([1.0])
    with pytest.raises(DataError):
        histogram.add(batch)
    assert (histogram.values, histogram.batches, int(histogram.counts.sum())) == (1, 1, 1)
