"""What notebook 02 states, fact by fact, on the recordings that it shows."""

from __future__ import annotations

import re
from typing import Any

import fake_trt
import nbformat
import numpy as np
import pytest
from numpy.typing import NDArray

import trtlearn as tl
from recording.trtexec import read_optimizer_log
from tools.notebooks import ROOT
from trtlearn.int8.groups import placeholder_amax
from trtlearn.model.run import activations
from trtlearn.networks import Network

RESNET = tl.network("resnet", mode="recorded")
MOBILE = tl.network("mobile", mode="recorded")
BOTH = [pytest.param(RESNET, id="resnet"), pytest.param(MOBILE, id="mobile")]
TEST, LABELS = MOBILE.images("test"), MOBILE.labels()
BARE = MOBILE.build("int8-placeholder")


def percent(network: Network, variant: str) -> float:
    accuracy = network.build(variant).accuracy
    assert accuracy is not None
    return 100 * accuracy


# --- The rule.


def test_bare_int8_takes_the_branch_that_invents_the_ranges() -> None:
    answer = tl.explain("trtexec --onnx=mobile.onnx --int8", model=MOBILE.path)
    assert answer.mode == "placeholder-ranges"
    functions = [step.source.function for step in answer.steps if step.source]
    assert "setTensorDynamicRange" in functions


def test_the_cell_s_rule_is_the_package_s() -> None:
    book = nbformat.read(ROOT / "notebooks" / "02_bare_int8.ipynb", as_version=4)
    source = next(cell.source for cell in book.cells if cell.id == "run-rule")
    scope: dict[str, Any] = {}
    exec(source, scope)
    for network in (RESNET, MOBILE):
        assert scope["placeholder"](network.nodes) == placeholder_amax(network.nodes)


@pytest.mark.parametrize(("network", "count"), [(RESNET, 23), (MOBILE, 34)])
def test_the_engines_were_built_with_these_ranges(network: Network, count: int) -> None:
    rule = placeholder_amax(network.nodes)
    ranges = network.build("int8-placeholder").ranges
    assert ranges is not None
    named = {tensor.name: tensor.amax for tensor in ranges.tensors if tensor.name in rule}
    assert len(named) == count
    for name, amax in named.items():
        assert amax == rule[name]


def test_the_image_gets_2() -> None:
    assert BARE.ranges is not None
    assert BARE.ranges["image"].amax == 2


@pytest.mark.parametrize(("network", "count"), [(RESNET, 27), (MOBILE, 38)])
def test_trtexec_set_the_same_scales_in_the_same_order(network: Network, count: int) -> None:
    theirs = tl.recorded.trtexec_log(network.name).optimizer
    ours = read_optimizer_log(network.build("int8-placeholder").build.log)
    assert theirs.scales == ours.scales
    assert len(ours.scales) == count


@pytest.mark.parametrize("network", BOTH)
def test_trtexec_was_left_with_the_same_fused_layers(network: Network) -> None:
    theirs = tl.recorded.trtexec_log(network.name).optimizer
    assert theirs.layers == read_optimizer_log(network.build("int8-placeholder").build.log).layers


def test_the_loop_to_copy_sets_the_ranges_that_set_ranges_sets(fake: dict[str, Any]) -> None:
    book = nbformat.read(ROOT / "notebooks" / "02_bare_int8.ipynb", as_version=4)
    text = next(cell.source for cell in book.cells if cell.id == "explain-rule")
    match = re.search(r"```python\n(.*?)```", text, re.DOTALL)
    assert match is not None
    lines = match[1].splitlines()
    assert lines[0] == 'cache = tl.calibrate("model.onnx", "inputs.npy", "minmax")'
    ranges = {"image": 2.83, "pool": 7.01, "logits": 1.5}
    by_hand, by_name = fake["make_network"](), fake["make_network"]()
    config = fake_trt.Config()
    scales = {name: amax / 127 for name, amax in ranges.items()}
    names = {"network": by_hand, "cache": scales, "config": config, "trt": fake["module"]}
    exec("\n".join(lines[1:]), names)
    assert "INT8" in config.flags
    tl.set_ranges(by_name, ranges)
    assert tl.set_ranges(by_hand, {}).tensors
    for ours, theirs in zip(
        tl.set_ranges(by_hand, {}).tensors, tl.set_ranges(by_name, {}).tensors, strict=True
    ):
        assert (ours.name, ours.amax) == (theirs.name, theirs.amax)
        assert ours.amax == (pytest.approx(ranges[ours.name]) if ours.name in ranges else None)


# --- Ranges against data.


def largest(network: Network) -> dict[str, float]:
    tensors = network.activations(network.images()[:64])
    return {name: float(np.abs(values).max()) for name, values in tensors.items()}


def test_in_mobile_many_tensors_hold_values_beyond_4_and_some_beyond_100() -> None:
    ends = largest(MOBILE)
    assert sum(end > 4 for end in ends.values()) > 10
    assert sum(end > 100 for end in ends.values()) >= 5


def test_in_resnet_most_values_lie_within_4_and_the_largest_is_near_15() -> None:
    tensors = RESNET.activations(RESNET.images()[:64])
    assert max(largest(RESNET).values()) == pytest.approx(15, abs=1)
    within = [float((np.abs(values) <= 4).mean()) for values in tensors.values()]
    assert np.mean(within) > 0.9


def test_four_fifths_of_the_pixels_are_background() -> None:
    images = MOBILE.images()
    low = float(images.min())
    assert low == pytest.approx(-0.42, abs=0.005)
    assert float((images == low).mean()) == pytest.approx(0.8, abs=0.02)


# --- What they cost.


def test_by_luck_invented_ranges_cost_resnet_little() -> None:
    assert percent(RESNET, "int8-placeholder") > percent(RESNET, "fp32") - 5


def test_invented_ranges_ruin_mobile() -> None:
    assert percent(MOBILE, "int8-placeholder") < percent(MOBILE, "fp32") - 30


def test_ranges_that_fit_cost_mobile_under_2_points() -> None:
    assert percent(MOBILE, "int8-legacy") > percent(MOBILE, "fp32") - 2


@pytest.mark.parametrize("network", BOTH)
def test_noise_beats_entropy_2(network: Network) -> None:
    assert percent(network, "int8-random") > percent(network, "int8-entropy2")


def test_noise_gives_the_input_a_range_of_1() -> None:
    cache = MOBILE.build("int8-random").cache
    assert cache is not None
    assert cache.entry("image").amax == pytest.approx(1, abs=0.001)


def test_an_h200_s_build_with_noise_left_the_first_layer_in_fp32_and_read_98_7_percent() -> None:
    folder = ROOT / "data" / "recordings" / "h200-8.6.0"
    build = tl.network("resnet", folder=folder).build("int8-random")
    assert build.accuracy == pytest.approx(0.987)
    assert "stem" not in build.int8_nodes


# --- The engine does not tell.


@pytest.mark.parametrize("good", ["int8-entropy2", "int8-minmax"])
def test_right_or_wrong_ranges_the_same_layers_run_in_int8(good: str) -> None:
    assert BARE.int8_nodes == MOBILE.build(good).int8_nodes != frozenset()


# --- The slider.

FACTORS = tl.recorded.range_factors()
SHARES = dict(
    zip([trial.factor for trial in FACTORS.trials], FACTORS.accuracies(LABELS), strict=True)
)


def test_the_slider_starts_at_the_recorded_engine_s_own_answers() -> None:
    answers = BARE.answers
    assert answers is not None
    np.testing.assert_array_equal(FACTORS[1].classes, answers[: FACTORS.count])


def test_the_slider_goes_from_a_quarter_to_1024_in_25_stops() -> None:
    factors = list(SHARES)
    assert (factors[0], factors[-1], len(factors), FACTORS.count) == (0.25, 1024, 25, 400)


def test_a_quarter_clips_a_quarter_and_the_network_answers_1() -> None:
    assert FACTORS[0.25].clipped == pytest.approx(0.25, abs=0.01)
    assert set(FACTORS[0.25].answers) == {"1"}


def test_at_11_3_the_network_reads_93_2_percent() -> None:
    best = max(SHARES, key=lambda factor: SHARES[factor])
    assert best == pytest.approx(11.3, abs=0.05)
    assert SHARES[best] == pytest.approx(0.9325, abs=0.0006)


def test_at_16_nearly_nothing_is_clipped_and_13_codes_are_left() -> None:
    assert FACTORS[16].clipped < 0.001
    assert FACTORS[16].codes == 13


def test_at_1024_every_value_becomes_0() -> None:
    assert FACTORS[1024].codes == 1
    assert len(set(FACTORS[1024].answers)) == 1


def test_wider_ranges_would_have_saved_mobile_and_far_wider_ones_ruin_it_again() -> None:
    assert SHARES[16] > SHARES[1] + 0.3
    assert SHARES[1024] < SHARES[16] - 0.3


def on_this_cpu(factor: float, count: int = 400) -> float:
    """Q/DQ nodes with the rule's ranges times ``factor``, run by ONNX Runtime: percent right."""
    rule = placeholder_amax(MOBILE.nodes, 2 * factor, 4 * factor)
    names = MOBILE.activations(TEST[:1])
    model, _ = tl.insert_qdq(MOBILE.path, {name: rule[name] / 127 for name in names})
    batches = [TEST[start : start + 100] for start in range(0, count, 100)]
    parts = activations(model, batches, ["logits"])
    logits: NDArray[Any] = np.concatenate([part["logits"] for part in parts])
    return 100 * float((logits.argmax(1) == LABELS[:count]).mean())


def test_the_ranges_as_q_dq_on_a_cpu_foretell_what_tensorrt_reached() -> None:
    answers = BARE.answers
    assert answers is not None
    measured = 100 * float((answers[:400] == LABELS[:400]).mean())
    one, wide, far = on_this_cpu(1), on_this_cpu(16), on_this_cpu(1024)
    assert abs(one - measured) < 3
    assert wide > one + 30
    assert far < wide - 30


def test_numpy_gives_the_gpu_s_answers() -> None:
    answers = BARE.answers
    assert answers is not None
    ours = BARE.simulate(TEST[:200])["logits"].values.argmax(1)
    np.testing.assert_array_equal(ours, answers[:200])


def test_without_any_ranges_the_int8_build_fails() -> None:
    assert "no scaling factors" in str(MOBILE.study("no-ranges").error)
