"""What notebook 07 states, fact by fact, on the recordings that it shows."""

from __future__ import annotations

import math
from itertools import pairwise

import pytest
from timings import slower

import trtlearn as tl
from trtlearn.builds import Build
from trtlearn.course import exercise
from trtlearn.engine.records import Timing
from trtlearn.recorded.tradeoffs import Tradeoff

RESNET = tl.recorded.tradeoff("points-resnet", build_times=True)
MOBILE = tl.recorded.tradeoff("points-mobile", build_times=True)
PHOTO = tl.recorded.tradeoff("points-photo")
BIG = tl.recorded.tradeoff("big")
MIXED = tl.recorded.tradeoff("mixed")
STUDY = tl.recorded.sensitivity("mobile", "minmax")


def at_eight(points: Tradeoff, model: str) -> dict[str, Build]:
    """Variant -> its engine at batch 8."""
    return {build.variant: build for build in points.select(model, batch=8)}


R8, M8, P8, B8 = (
    at_eight(RESNET, "resnet"),
    at_eight(MOBILE, "mobile"),
    at_eight(PHOTO, "photo"),
    at_eight(BIG, "big"),
)
TWINS = [build for build in M8.values() if build.int8_layers and build.variant != "qdq"]
EIGHTS = [build for build in M8.values() if build.int8_layers]


def known(value: float | None) -> float:
    assert value is not None
    return value


def timed(build: Build) -> tuple[Timing, Timing]:
    """By graph replay, and launch after launch."""
    assert build.graph_timing is not None
    assert build.timing is not None
    return build.graph_timing, build.timing


def replay(build: Build) -> float:
    return timed(build)[0].median_ms


def launch(build: Build) -> float:
    return timed(build)[1].median_ms


def right(build: Build) -> float:
    return known(build.accuracy)


def plan(build: Build) -> float:
    return known(build.plan_bytes)


# --- Photographs.


def test_on_photographs_int8_is_smaller_faster_and_right() -> None:
    """Answers thread-8."""
    chain = [P8[name] for name in ("fp32", "tf32", "fp16", "int8-minmax")]
    for wide, narrow in pairwise(chain):
        assert slower(wide, narrow)
        assert plan(wide) > plan(narrow)
    assert [round(1000 * right(build)) for build in chain] == [957, 956, 957, 956]
    assert all(build.predictions and build.predictions.count == 1000 for build in chain)


def test_on_photographs_int8_is_3_8_times_as_fast_as_fp32_and_1_2_times_as_fp16() -> None:
    fast = replay(P8["int8-minmax"])
    assert round(replay(P8["fp32"]) / fast, 1) == 3.8
    assert round(replay(P8["fp16"]) / fast, 1) == 1.2
    shown = [round(replay(P8[name]), 3) for name in ("fp32", "fp16", "int8-minmax")]
    assert shown == [0.306, 0.098, 0.081]


def test_on_photographs_int8_is_1_5_times_as_fast_at_batch_256_in_each_of_three_builds() -> None:
    for end in ("", "-again1", "-again2"):
        half, fast = (PHOTO.point("photo", way + end, 256) for way in ("fp16", "int8-minmax"))
        assert round(replay(half) / replay(fast), 1) == 1.5
        assert slower(half, fast)


def test_on_photographs_the_plans_have_11_6_and_4_4_and_2_6_mb() -> None:
    sizes = [round(plan(P8[name]) / 1e6, 1) for name in ("fp32", "fp16", "int8-minmax")]
    assert sizes == [11.6, 4.4, 2.6]


# --- resnet, built in every way.


def test_int8_with_fitting_ranges_keeps_the_accuracy_of_fp32() -> None:
    """Answers thread-8."""
    assert right(R8["int8-minmax"]) >= right(R8["fp32"]) - 0.005


def test_the_int8_plan_is_a_third_smaller_or_more() -> None:
    """Answers thread-8."""
    assert plan(R8["int8-minmax"]) < 0.7 * plan(R8["fp32"])


def test_fp32_is_slower_than_fp16_and_fp16_than_int8_by_more_than_their_spreads() -> None:
    int8 = [build for build in R8.values() if build.int8_layers]
    assert int8
    assert all(slower(R8["fp16"], build) for build in int8)
    assert slower(R8["fp32"], R8["fp16"])


def test_the_fastest_build_of_resnet_is_int8_as_the_prediction_resolves() -> None:
    fastest = min(R8.values(), key=replay)
    assert fastest.int8_layers
    assert fastest.variant not in ("fp32", "tf32", "fp16")


def test_two_int8_engines_are_useless_with_the_same_size_and_speed() -> None:
    """Answers thread-8."""
    ruined = [build for build in R8.values() if build.int8_layers and right(build) < 0.5]
    assert [build.variant for build in ruined] == ["int8-entropy2", "int8-entropy"]
    for build in ruined:
        assert right(build) == 0.276
        assert replay(build) == pytest.approx(replay(R8["int8-minmax"]), rel=0.01)
        assert plan(build) == pytest.approx(plan(R8["int8-minmax"]), rel=0.01)


def test_every_int8_engine_of_resnet_has_nine_layers_in_int8() -> None:
    assert {build.int8_layers for build in R8.values() if build.options.int8} == {9}


# --- Timing.


def test_six_int8_engines_of_mobile_are_twins_but_for_their_scales() -> None:
    same = {(build.layers, build.int8_layers, build.device_memory_bytes) for build in TWINS}
    assert len(same) == 1
    assert len(TWINS) == 6
    assert [build for build in M8.values() if build.int8_layers == 16] == TWINS


def test_by_graph_replay_the_twins_are_equal_within_2_percent() -> None:
    times = [replay(build) for build in TWINS]
    assert max(times) < 1.02 * min(times)


def test_launch_after_launch_one_twin_looks_40_percent_slower_than_another() -> None:
    times = [launch(build) for build in TWINS]
    assert max(times) > 1.3 * min(times)
    assert round(max(times) / min(times), 1) == 1.4


def test_launching_adds_0_6_to_2_3_us_a_layer() -> None:
    added = [
        1000 * (launch(build) - replay(build)) / known(build.layers)
        for build in (*R8.values(), *B8.values())
    ]
    assert 0.3 < min(added) < max(added) < 4
    assert (round(min(added), 1), round(max(added), 1)) == (0.6, 2.3)


def test_a_layer_of_a_small_int8_engine_takes_3_us_and_launched_about_4() -> None:
    for build in (R8["int8-minmax"], *TWINS):
        assert round(1000 * replay(build) / known(build.layers)) == 3
    launched = [1000 * launch(build) / known(build.layers) for build in (R8["int8-minmax"], *TWINS)]
    assert round(sorted(launched)[len(launched) // 2]) == round(min(launched)) == 4


def test_launching_adds_4_percent_to_the_big_network_s_fp32_and_20_to_its_int8() -> None:
    wide, narrow = B8["fp32"], B8["int8-placeholder"]
    layer_us = [1000 * replay(build) / known(build.layers) for build in (narrow, wide)]
    assert [round(one) for one in layer_us] == [7, 26]
    shares = [round(100 * (launch(build) / replay(build) - 1)) for build in (wide, narrow)]
    assert shares == [4, 20]


# --- mobile.


def test_on_mobile_the_ranges_decide_the_accuracy() -> None:
    bare, fitted = M8["int8-placeholder"], M8["int8-minmax"]
    assert right(bare) < 0.5 < right(fitted)
    assert (right(bare), right(fitted)) == (0.219, 0.948)


def test_with_either_ranges_as_many_layers_run_in_int8() -> None:
    assert known(M8["int8-placeholder"].int8_layers) > 0
    assert M8["int8-placeholder"].int8_layers == M8["int8-minmax"].int8_layers


def test_all_seven_int8_engines_of_mobile_are_slower_than_fp16() -> None:
    assert len(EIGHTS) == 7
    assert all(slower(build, M8["fp16"]) for build in EIGHTS)


def test_all_int8_engines_of_mobile_are_less_right_than_fp16() -> None:
    assert all(right(build) < right(M8["fp16"]) for build in EIGHTS)


@pytest.mark.parametrize("name", ["fp32", "tf32"])
def test_fp32_and_tf32_are_slower_still(name: str) -> None:
    assert all(slower(M8[name], build) for build in EIGHTS)


def test_at_batch_1_fp16_is_faster_as_well_and_at_batch_64_int8() -> None:
    few, many = (
        [MOBILE.point("mobile", name, batch) for name in ("fp16", "int8-minmax")]
        for batch in (1, 64)
    )
    assert slower(few[1], few[0])
    assert slower(*many)


def test_allowed_both_the_builder_took_int8_at_batch_1_and_64_and_fp16_at_8() -> None:
    taken = [known(MOBILE.point("mobile", "int8-fp16", batch).int8_layers) for batch in (1, 8, 64)]
    assert [count > 0 for count in taken] == [True, False, True]


def test_the_fp16_plan_of_mobile_is_about_as_large_as_int8_s() -> None:
    assert plan(M8["fp16"]) == pytest.approx(plan(M8["int8-minmax"]), rel=0.02)
    assert (M8["int8-minmax"].layers, round(replay(M8["int8-minmax"]), 2)) == (20, 0.05)
    assert 2.2 < 1000 * replay(M8["fp16"]) / known(M8["fp16"].layers) < 2.8


# --- ResNet-50's size.

CHAIN = [B8[name] for name in ("fp32", "tf32", "fp16", "int8-placeholder")]


def test_on_resnet_50_s_size_each_narrower_type_is_faster() -> None:
    """Answers thread-8."""
    assert all(slower(CHAIN[i], CHAIN[i + 1]) for i in range(3))


def test_on_resnet_50_s_size_each_narrower_type_has_a_smaller_plan() -> None:
    """Answers thread-8."""
    assert all(plan(CHAIN[i]) > plan(CHAIN[i + 1]) for i in range(3))


def test_activations_take_half_of_tf32_s_memory_in_fp16_and_a_quarter_in_int8() -> None:
    whole = known(CHAIN[1].device_memory_bytes)
    assert [round(whole / known(build.device_memory_bytes)) for build in CHAIN[2:]] == [2, 4]


def test_allowing_fp16_too_changes_nothing() -> None:
    both = replay(B8["int8-fp16"]) / replay(CHAIN[-1])
    assert abs(both - 1) < 0.01
    assert CHAIN[-1].int8_layers == 54


def test_int8_takes_a_sixth_of_fp32_s_time_and_four_fifths_of_fp16_s() -> None:
    wide, tf32, half, int8 = (replay(build) for build in CHAIN)
    assert (round(wide / int8), round(int8 / half, 1)) == (6, 0.8)
    assert round(wide / tf32, 1) == 2.7
    assert round(plan(CHAIN[1]) / plan(CHAIN[3])) == 4


def test_at_batch_64_int8_takes_a_tenth_of_fp32_s_time_and_0_6_of_fp16_s() -> None:
    wide, half, twin = (
        replay(BIG.point("big", name, 64)) for name in ("fp32", "fp16", "int8-fp16")
    )
    assert (round(wide / twin, -1), round(twin / half, 1)) == (10, 0.6)


# --- Plans and builds.


def test_mobile_s_int8_plans_differ_by_more_than_three_times() -> None:
    sizes = [plan(build) for build in (*MOBILE.points, *MIXED.points) if build.int8_layers]
    assert max(sizes) > 3 * min(sizes)
    assert (round(min(sizes) / 1e6, 1), round(max(sizes) / 1e6, 1)) == (0.6, 2.2)
    assert max(sizes) == plan(MIXED.point("mobile", "int8-mixed", 1))


def test_mobile_has_45_588_parameters_182_kb_in_fp32_and_46_in_int8() -> None:
    count = tl.network("mobile", mode="recorded").card.parameters
    assert count == 45_588
    assert (round(4 * count / 1000), round(count / 1000)) == (182, 46)


def test_the_more_types_are_allowed_the_longer_a_build_takes() -> None:
    seconds = {name: known(M8[name].build_seconds) for name in ("fp32", "fp16", "int8-fp16")}
    assert seconds["fp32"] < seconds["fp16"] < seconds["int8-fp16"]
    assert [round(one) for one in seconds.values()] == [6, 23, 50]
    int8 = [build for name, build in M8.items() if name.startswith("int8") and name != "int8-fp16"]
    slow = [known(build.build_seconds) for build in int8]
    assert (round(min(slow)), round(max(slow))) == (23, 31)


# --- The layers that cost the accuracy.


def test_one_layer_alone_in_int8_costs_most_and_kept_out_brings_most() -> None:
    worst = min(STUDY.alone, key=lambda unit: STUDY.alone[unit].accuracy)
    saved = max(STUDY.kept_out, key=lambda unit: STUDY.kept_out[unit].accuracy)
    assert worst == saved == "m1_expand"
    shares = (STUDY.alone[worst].accuracy, STUDY.int8_accuracy, STUDY.kept_out[worst].accuracy)
    assert [round(100 * share, 1) for share in shares] == [92.2, 94.7, 97.5]


def test_int8_takes_a_tenth_of_fp32s_time_at_batch_64() -> None:
    big = tl.recorded.tradeoff("big")
    slow, fast = (big.point("big", name, batch=64) for name in ("fp32", "int8-fp16"))
    assert slow.graph_timing is not None
    assert fast.graph_timing is not None
    assert 0.09 < fast.graph_timing.median_ms / slow.graph_timing.median_ms < 0.1


def test_two_min_max_builds_of_resnet_have_two_sizes() -> None:
    other = tl.recorded.tradeoff("points-resnet").point("resnet", "int8-minmax")
    build = tl.network("resnet", mode="recorded").build("int8-minmax")
    assert (build.plan_bytes, other.plan_bytes) == (471_740, 588_228)


def test_two_units_out_of_int8_reach_fp32_less_half_a_point() -> None:
    assert STUDY.greedy is not None
    assert STUDY.greedy.reached
    assert STUDY.greedy.order == ("m1_expand", "m2_project")
    assert STUDY.target == pytest.approx(STUDY.fp32_accuracy - 0.005)


def test_in_random_order_it_takes_6_to_9() -> None:
    assert STUDY.greedy is not None
    drawn = [len(search.order) for search in STUDY.random]
    assert min(drawn) > len(STUDY.greedy.order)
    assert (min(drawn), max(drawn)) == (6, 9)


def test_a_cpu_finds_the_worst_layer_too_and_ranks_the_second_sixth() -> None:
    assert STUDY.greedy is not None
    cpu = tl.recorded.sensitivity("mobile", "minmax", cpu=True)
    rank = sorted(cpu.alone, key=lambda unit: cpu.alone[unit].sqnr_db or math.inf)
    assert rank[0] == STUDY.greedy.order[0]
    assert rank[5] == STUDY.greedy.order[1] == "m2_project"


def test_the_mixed_engine_reaches_the_target_at_each_batch() -> None:
    assert [build.batch for build in MIXED.points] == [8, 1, 64]
    assert all(right(build) >= STUDY.target for build in MIXED.points)


def test_the_mixed_engine_takes_30_percent_longer_with_five_reformats_for_one() -> None:
    one, fitted = MIXED.point("mobile", "int8-mixed"), M8["int8-minmax"]
    assert slower(one, fitted)
    assert round(replay(one) / replay(fitted), 1) == 1.3
    assert (one.reformats, fitted.reformats) == (5, 1)


def test_fp16_beats_the_mixed_engine_in_speed_and_accuracy() -> None:
    one, half = MIXED.point("mobile", "int8-mixed"), M8["fp16"]
    assert slower(one, half)
    assert right(half) > right(one)


def test_legacy_calibration_gave_97_4_percent_with_no_layer_kept_out() -> None:
    assert right(M8["int8-legacy"]) == 0.974


# --- Exercises.


def test_a_front_that_drops_equal_points_hears_what_is_wrong() -> None:
    def mine(cost, value):  # type: ignore[no-untyped-def]
        return (cost == cost.min()) | (value == value.max())

    verdict = exercise.check("07-front", mine)
    assert verdict.passed is False
    assert "only cheaper" in verdict.text


# --- The face.


def test_build_times_are_the_course_s_own_and_points_without_them_tell_none() -> None:
    bare = tl.recorded.tradeoff("points-mobile")
    assert {build.build_seconds for build in bare.points} == {None}
    own = tl.network("mobile", mode="recorded").build("fp16").build_seconds
    assert M8["fp16"].build_seconds == own
