"""Figures and widgets of the calibration notebooks: what is drawn is what the observers found, and
moves in time.
"""

from __future__ import annotations

import time

import numpy as np
import pytest

from recording.orders import in_order, kl_excess, orders_apart, scales_after
from trtlearn import show
from trtlearn.calibration import cache
from trtlearn.calibration.entropy import divergence
from trtlearn.calibration.observers import MinMaxObserver, Threshold, fit_line, threshold_of
from trtlearn.errors import DataError
from trtlearn.recorded.calibration import Order, Shuffles, images_needed, shuffles
from trtlearn.show.calibration import p_and_q

RNG = np.random.default_rng(8)
BATCHES = [RNG.normal(0, 1 + index / 3, 4000).astype(np.float32) for index in range(6)]
FOUND = threshold_of("entropy2", *BATCHES)


def test_kl_figure_marks_the_least_of_its_own_curve() -> None:
    fig = show.kl(FOUND, "x")
    curve, choice = fig.data[4], fig.data[5]
    best = int(np.argmin(curve.y))
    assert np.isclose(curve.x[best], choice.x[0])
    assert np.isclose(choice.x[0], FOUND.amax)


def test_p_and_q_have_the_divergence_of_the_search() -> None:
    assert FOUND.search is not None
    for kept in (128, 500, FOUND.search.chosen, 2048):
        p, q = p_and_q(FOUND, kept)
        expected = FOUND.search.kl[kept - FOUND.search.first]
        found = divergence(p, q)
        assert np.isclose(found, expected) or (np.isinf(found) and np.isinf(expected))


def test_p_keeps_every_value() -> None:
    counts = np.array(FOUND.counts)
    counts[0] = counts[1]
    for kept in (128, 777, 2048):
        assert p_and_q(FOUND, kept)[0].sum() == counts.sum()


def test_kl_figure_says_what_it_needs() -> None:
    plain = MinMaxObserver()
    plain.observe([1.0])
    with pytest.raises(DataError, match="no histogram"):
        show.kl(plain.result(), "x")
    with pytest.raises(DataError, match="no entropy search"):
        show.kl(threshold_of("mse", *BATCHES), "x")


def test_histogram_needs_steps() -> None:
    with pytest.raises(DataError, match="no steps"):
        show.filling_player(threshold_of("entropy2", *BATCHES, keep_steps=False), "x")


def test_thresholds_figure_draws_each_amax() -> None:
    chosen: dict[str, Threshold] = {
        a: threshold_of(a, *BATCHES) for a in ("minmax", "entropy2", "legacy", "mse")
    }
    fig = show.thresholds(chosen, "x")
    drawn = {trace.name: trace.x[0] for trace in fig.data if trace.name in chosen}
    assert drawn == {label: one.amax for label, one in chosen.items()}


def test_order_spread_draws_every_value_as_a_share() -> None:
    fig = show.orders({"a": {"x": [1.0, 2.0]}, "b": {"x": [4.0]}}, {"x": 4.0})
    assert [list(trace.x) for trace in fig.data] == [[25.0, 50.0], [100.0]]
    assert not set(fig.data[0].y) & set(fig.data[1].y)  # side by side, not on each other
    assert all(name == "x" for trace in fig.data for name in trace.customdata)


def test_line_figure_ends_at_amax_and_leaves_the_rest_out() -> None:
    values = [RNG.exponential(1, 20_000).astype(np.float32) for _ in range(2)]
    found = threshold_of("legacy", *values, cutoff=0.5)
    fig = show.legacy_line(found, "x", 0.5)
    left_out, part, line, end = fig.data
    assert end.x[0] == pytest.approx(found.amax, rel=1e-6)
    assert (end.x[0], end.y[0]) == (line.x[-1], line.y[-1])
    fitted = fit_line(found.counts, 0.5)
    assert fitted is not None
    assert len(part.x) == len(fitted.used)
    assert min(part.y) >= 0.5 * max(part.y) > max(left_out.y[left_out.x > part.x.max()])
    assert np.polyfit(part.x, part.y, 1)[0] == pytest.approx(
        (line.y[1] - line.y[0]) / (line.x[1] - line.x[0])
    )
    with pytest.raises(DataError, match="no line"):
        show.legacy_line(threshold_of("legacy", *values), "x", 1.0)


def test_orders_apart_names_what_differs_and_how_near_the_tie_is() -> None:
    values = {"x": np.concatenate(BATCHES).reshape(60, -1)}
    mine = {
        (seed, batch): in_order(values, seed, batch)["x"]
        for seed in (None, 3)
        for batch in (10, 60)
    }
    orders = tuple(Order(seed, batch, {"x": found.scale}) for (seed, batch), found in mine.items())
    assert not orders_apart(values, Shuffles("m", 60, orders))
    found = mine[None, 10]
    assert found.width is not None
    next_bin = found.scale + found.width / 127
    apart = orders_apart(values, Shuffles("m", 60, (Order(None, 10, {"x": next_bin}),)))
    assert list(apart) == ["x (as they come, 10 a batch)"]
    assert apart["x (as they come, 10 a batch)"] == kl_excess(found, next_bin)
    assert (kl_excess(found, next_bin) or 0) > 0
    assert kl_excess(found, found.scale * 1.00017) is None
    assert set(Shuffles("m", 60, orders).amax(["x"])) == {
        f"{way}, batches of {size}" for way in ("shuffled", "as they come") for size in (10, 60)
    }


@pytest.mark.parametrize("model", ["resnet", "mobile"])
def test_tensorrts_scales_for_fewer_images_and_other_orders_are_ours(model) -> None:
    from trtlearn.networks import network

    data = network(model).activations()
    points = [p for p in images_needed(model).points if p.batch == 1]
    off = [
        abs(found[p.images][name] / p.scales[name] - 1)
        for algorithm in ("minmax", "entropy2")
        for found in [scales_after(data, algorithm)]
        for p in points
        if p.algorithm == algorithm
        for name in data
    ]
    assert len(off) == 18 * len(data)
    assert np.mean(np.array(off) < 1e-6) > 0.99
    apart = orders_apart(data, shuffles(model))
    assert len(apart) <= 0.02 * len(shuffles(model).orders) * len(data)
    assert all(gap is not None and gap < 5e-3 for gap in apart.values())


def test_scales_after_equals_calibrations_that_stop_there() -> None:
    values = {"x": np.concatenate(BATCHES).reshape(60, -1)}
    for algorithm in ("minmax", "entropy2"):
        found = scales_after(values, algorithm, (2, 10, 60), batch=2)
        for mark, scales in found.items():
            parts = [values["x"][start : start + 2] for start in range(0, mark, 2)]
            assert scales["x"] == threshold_of(algorithm, *parts).scale
    with pytest.raises(DataError, match="multiples of the batch"):
        scales_after(values, "minmax", (3,), batch=2)
    with pytest.raises(DataError):
        scales_after({}, "minmax", (1,))


@pytest.mark.parametrize("scale", [0.5, 1.0, 0.02221643, 1e-40, 3e38])
def test_float_bits_are_the_scale(scale: float) -> None:
    line = cache.entry("x", scale)
    fig = show.float_bits(line)
    bits = "".join("".join(trace.text) for trace in fig.data)
    assert np.array([int(bits, 2)], np.uint32).view(np.float32)[0] == np.float32(line.scale)


def test_widgets_move_and_stay_fast() -> None:
    pytest.importorskip("anywidget")
    box = show.kl_slider(FOUND, "x", bins=600)
    slider, problem, text, fig = box.children[:4]
    start = time.perf_counter()
    slider.value = 2048
    assert time.perf_counter() - start < 1.5  # 150 ms alone on a core; tests share theirs
    assert not problem.value
    assert "2048 bins" in text.value
    assert len(fig.data[1].x) == 2048
    assert all(np.isclose(shape.x0, 2048.5 * FOUND.width) for shape in fig.layout.shapes)
    player = show.filling_player(FOUND, "x")
    player.children[0].value = len(FOUND.steps) - 1
    assert not player.children[1].value
    drawn = np.asarray(player.children[3].data[0].y)
    assert drawn[drawn >= 1].sum() == sum(FOUND.counts)
