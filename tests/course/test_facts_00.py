"""What notebook 00 states, fact by fact, on the recordings that it shows."""

from __future__ import annotations

from pathlib import Path

import pytest

import trtlearn as tl
from trtlearn.show.commands import OWN_HEADER, answer_html

RESNET = tl.network("resnet", mode="recorded")
MOBILE = tl.network("mobile", mode="recorded")
BOTH = [pytest.param(RESNET, id="resnet"), pytest.param(MOBILE, id="mobile")]
DATA = MOBILE.images()[:128]  # what the recipe takes


def percent(network: tl.networks.Network, variant: str) -> float:
    accuracy = network.build(variant).accuracy
    assert accuracy is not None
    return 100 * accuracy


# --- The recipe.


def test_step_1_finds_seven_ranges_of_the_entropy_cache_too_small() -> None:
    report = tl.fit(MOBILE.build("int8-entropy2").cache, MOBILE.path, DATA)
    assert len(report.tensors) == 34
    assert len(report.poor) == 7
    assert {tensor.verdict for tensor in report.poor} == {"too small"}
    assert "image" in [tensor.name for tensor in report.poor]


def test_step_2_makes_ranges_that_fit_under_the_header_that_trtexec_takes(tmp_path: Path) -> None:
    path = tl.calibrate(MOBILE.path, DATA, "minmax").save(tmp_path / "a.cache", for_trtexec=True)
    assert path.read_text(encoding="utf-8").startswith("TRT-8600-EntropyCalibration2\n")
    assert tl.fit(path, MOBILE.path, DATA).all_fit


def test_min_max_on_the_course_s_512_images_gives_the_scales_of_the_recorded_build() -> None:
    theirs = MOBILE.build("int8-minmax").cache
    ours = tl.calibrate(MOBILE, MOBILE.images(), "minmax")
    assert len(MOBILE.images()) == 512
    assert theirs is not None
    for name, scale in ours.items():
        assert scale == pytest.approx(theirs[name], rel=1e-6)


def test_step_3_other_ranges_bring_mobile_s_answers_back() -> None:
    names = ("int8-entropy2", "int8-minmax", "int8-legacy", "fp32")
    shown = [round(percent(MOBILE, name), 1) for name in names]
    assert shown == [21.4, 94.8, 97.4, 98.2]


# --- What each engine sees and answers.


def test_bare_int8_makes_mobile_answer_3_for_782_of_1000_images() -> None:
    answers = MOBILE.build("int8-placeholder").answers
    assert answers is not None
    assert len(answers) == 1000
    assert int((answers == 3).sum()) == 782


def test_the_digits_of_all_columns_come_from_the_same_layers() -> None:
    names = ("placeholder", "random", "entropy2", "minmax", "legacy")
    nodes = {MOBILE.build(f"int8-{name}").int8_nodes for name in names}
    assert len(nodes) == 1


def test_bare_ranges_cut_values_off_31_tensors_beside_the_image() -> None:
    report = tl.fit(MOBILE.build("int8-placeholder").ranges, MOBILE.path, DATA)
    cut = {tensor.name for tensor in report.tensors if tensor.clipped}
    assert "image" in cut
    assert len(cut - {"image"}) == 31


# --- 43 ranges, 38 scales, 34 tensors.


def test_mobile_has_43_bare_ranges_38_scales_and_34_named_tensors() -> None:
    bare = MOBILE.build("int8-placeholder").ranges
    cache = MOBILE.build("int8-minmax").cache
    assert bare is not None
    assert cache is not None
    ranges = {tensor.name for tensor in bare.tensors}
    named = set(MOBILE.activations(DATA[:1]))
    assert (len(ranges), len(cache), len(named)) == (43, 38, 34)
    assert named <= set(cache) <= ranges
    own = ranges - named
    assert len(own) == 9
    assert all(name.startswith("(Unnamed Layer*") for name in own)
    only_shape = sorted(name.split("[")[1].split("]")[0] for name in ranges - set(cache))
    assert only_shape == ["Concatenation", "Constant", "Constant", "Gather", "Shape"]


# --- What each way gave.


@pytest.mark.parametrize(("network", "points"), [(RESNET, 0.6), (MOBILE, 76.3)])
def test_what_the_flag_alone_costs(network: tl.networks.Network, points: float) -> None:
    lost = percent(network, "fp32") - percent(network, "int8-placeholder")
    assert round(lost, 1) == points


def test_bare_int8_costs_resnet_little_and_mobile_much() -> None:
    assert abs(percent(RESNET, "fp32") - percent(RESNET, "int8-placeholder")) < 5
    assert percent(MOBILE, "fp32") - percent(MOBILE, "int8-placeholder") > 30


@pytest.mark.parametrize("network", BOTH)
def test_the_better_of_min_max_and_legacy_stays_within_1_point(
    network: tl.networks.Network,
) -> None:
    best = max(percent(network, "int8-minmax"), percent(network, "int8-legacy"))
    assert percent(network, "fp32") - best < 1


@pytest.mark.parametrize("network", BOTH)
def test_entropy_2_calibrated_on_images_is_worse_than_noise(network: tl.networks.Network) -> None:
    assert percent(network, "int8-entropy2") < percent(network, "int8-random")


@pytest.mark.parametrize("network", BOTH)
def test_by_graph_replay_a_batch_takes_less_than_0_08_ms_and_ranges_cost_no_time(
    network: tl.networks.Network,
) -> None:
    points = tl.recorded.tradeoff(f"points-{network}")
    ranges = ("placeholder", "random", "entropy2", "minmax", "legacy")
    ways = [points.point(str(network), f"int8-{name}") for name in ranges]
    times = [way.graph_timing.median_ms for way in ways if way.graph_timing]
    assert len(times) == 5
    assert max(times) < 1.02 * min(times)
    shown = [points.point(str(network), name) for name in ("fp32", "fp16")]
    assert all(way.graph_timing and way.graph_timing.median_ms < 0.08 for way in (*shown, *ways))


@pytest.mark.parametrize("network", BOTH)
def test_the_figures_engines_answer_as_the_networks_own_builds(
    network: tl.networks.Network,
) -> None:
    points = tl.recorded.tradeoff(f"points-{network}")
    for name in ("fp32", "fp16", "int8-placeholder", "int8-random", "int8-minmax", "int8-legacy"):
        assert points.point(str(network), name).accuracy == network.build(name).accuracy


def test_without_a_cache_the_invented_ranges_are_compared() -> None:
    report = tl.fit(tl.placeholder_ranges(MOBILE.path), MOBILE.path, DATA)
    assert len(report.tensors) == 34
    assert {tensor.verdict for tensor in report.poor} == {"too small"}


# --- Modes.


def test_a_missing_cache_file_is_no_error_but_noise() -> None:
    there, typo = (
        tl.explain(f"trtexec --onnx=mobile.onnx --int8 --calib={name}", cache_exists=exists)
        for name, exists in (("mobile.cache", True), ("mobil.cache", False))
    )
    assert [there.mode, typo.mode] == ["cached-scales", "random-calibration"]


def test_tensorrt_11_refuses_the_flag() -> None:
    gone = tl.explain("trtexec --onnx=mobile.onnx --int8", trt="11.1", model=MOBILE.path)
    assert gone.mode == "rejected"


@pytest.mark.parametrize("name", ["minmax", "entropy", "legacy"])
def test_a_number_of_another_calibrator_is_shown_with_the_header_that_it_needs(name: str) -> None:
    command = f"trtexec --onnx=mobile.onnx --int8 --calib=int8-{name}.cache"
    both = {"resnet": RESNET, "mobile": MOBILE}
    assert OWN_HEADER in answer_html(command, "8.6", True, both)
    assert OWN_HEADER not in answer_html(command.replace(name, "entropy2"), "8.6", True, both)
    assert OWN_HEADER not in answer_html(command, "8.6", False, both)
