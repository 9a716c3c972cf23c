"""What notebook 08 states, fact by fact, on the recordings that it shows."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import trtlearn as tl
from recording.pairs import compare_pairs, ort_quantized, read_pairs
from trtlearn.calibration.cache import parse_cache
from trtlearn.calibration.qdq import PLACEMENTS, QdqReport
from trtlearn.model.course_data import accuracy
from trtlearn.recorded.computed import PairTable
from trtlearn.show.blocks import PAIRS_ON
from trtlearn.trtexec import sources

pytest.importorskip("onnxruntime")

RESNET = tl.network("resnet", mode="recorded")
IMPLICIT = RESNET.build("int8-minmax")
CACHE = IMPLICIT.cache
PLACES = tl.recorded.placements("resnet")
EXPLICIT = PLACES["tensorrt"]
WRONG = [name for name in PLACES if name != "tensorrt"]


def insert(placement: str = "tensorrt") -> tuple[Any, QdqReport]:
    assert CACHE is not None
    return tl.insert_qdq(RESNET.path, CACHE, placement)


# --- Putting pairs in


def test_all_nine_layers_with_weights_can_run_in_int8() -> None:
    report = insert()[1]
    assert not report.float_nodes
    assert len(report.quantized_nodes) == 9


def test_each_pair_has_the_cache_s_scale_to_the_last_bit() -> None:
    written = read_pairs(insert()[0]).activations()
    assert CACHE is not None
    assert len(written) == 10
    assert all(CACHE[name] == scale for name, scale in written.items())


@pytest.mark.parametrize("placement", PLACEMENTS)
def test_the_drawn_block_has_the_pairs_of_the_network_s_first_block(placement: str) -> None:
    sites = {site.tensor: site.readers for site in insert(placement)[1].sites}
    drawn = {name for name in ("conv1", "relu1", "conv2", "add", "relu2") if f"b0_{name}" in sites}
    drawn |= {"input"} if "b0_conv1" in sites["pool"] else set()
    drawn |= {"shortcut"} if "b0_add" in sites["pool"] else set()
    assert drawn == set(PAIRS_ON[placement])


def test_the_picture_draws_every_placement_and_names_its_cost() -> None:
    fig = tl.show.residual_block(PLACES)
    texts = [note.text for note in fig.layout.annotations]
    assert "<b>right</b><br>13 layers, 0.087 ms" in texts
    assert "<b>no-shortcut</b><br>17 layers, 0.126 ms" in texts
    assert len([trace for trace in fig.data if trace.mode == "markers"]) == len(PLACES)
    assert fig.layout.height <= 700
    crosses = [trace.marker.symbol.count("x") for trace in fig.data if trace.mode == "markers"]
    assert crosses == [0, 1, 0, 0]


# --- The same engine


def test_the_two_engines_agree_on_nearly_every_test_image() -> None:
    assert IMPLICIT.answers is not None
    assert sum(IMPLICIT.answers == EXPLICIT.answers) >= 998


def test_both_engines_have_nine_layers_with_int8_weights() -> None:
    """newer-2"""
    assert IMPLICIT.int8_layers == EXPLICIT.int8_layers == 9


# --- Wrong places: item-4, item-18


@pytest.mark.parametrize("name", WRONG)
def test_each_wrong_placement_adds_layers(name: str) -> None:
    """newer-1"""
    layers, right = PLACES[name].layers, EXPLICIT.layers
    assert layers is not None
    assert right is not None
    assert layers > right


@pytest.mark.parametrize("name", WRONG)
def test_each_wrong_placement_costs_time_summed_over_layers(name: str) -> None:
    time, right = PLACES[name].layer_time_ms, EXPLICIT.layer_time_ms
    assert time is not None
    assert right is not None
    assert time > right


def test_the_answers_of_every_placement_are_as_good() -> None:
    assert {build.accuracy for build in PLACES.values()} == {0.99}
    assert len({build.predictions.correct for build in PLACES.values() if build.predictions}) == 1


# --- Other tools


@pytest.fixture(scope="module")
def ours() -> PairTable:
    return read_pairs(insert()[0], "trtlearn")


def test_onnx_runtime_finds_the_scales_and_puts_a_pair_behind_every_layer(ours: PairTable) -> None:
    images = RESNET.images()
    batches = [{"image": images[start : start + 64]} for start in range(0, 512, 64)]
    theirs = read_pairs(ort_quantized(RESNET.path, batches), "ONNX Runtime")
    compared = compare_pairs(ours, theirs)
    assert all(abs(ratio - 1) < 1e-5 for ratio in compared.both.values())
    assert len(compared.only_second) > 10


def test_modelopt_places_nearly_as_we_do(ours: PairTable) -> None:
    compared = compare_pairs(ours, tl.recorded.modelopt_pairs("resnet"))
    assert len(compared.both) == 8
    assert set(compared.only_first) == {"flatten", "b1_conv2"}
    assert set(compared.only_second) == {"stem_relu", "b1_proj"}


# --- --calib with Q/DQ in the model; --int8 on a transformer: item-7


def test_with_qdq_in_the_model_trtexec_sets_the_calibrator_and_does_not_use_it(
    tmp_path: Path,
) -> None:
    """newer-4"""
    model = tmp_path / "resnet.qdq.onnx"
    model.write_bytes(insert()[0].SerializeToString())
    command = "trtexec --onnx=m.onnx --int8 --calib=c.cache"
    assert tl.explain(command, model=model, cache_exists=True).mode == "explicit-qdq"


def test_tensorrt_asks_that_calibrator_for_nothing() -> None:
    both = RESNET.study("qdq-with-calibrator")
    assert both.calibration is not None
    assert not both.calibration.calls


def test_the_engine_answers_as_without_that_calibrator() -> None:
    assert RESNET.study("qdq-with-calibrator").predictions == RESNET.study("qdq").predictions


def test_int8_permits() -> None:
    assert tl.explain("trtexec --onnx=m.onnx --int8").int8


def test_a_transformer_under_bare_int8_stays_in_fp32() -> None:
    study = tl.recorded.study("transformer", "int8")
    assert study.engine is not None
    types = [{*layer.input_dtypes, *layer.output_dtypes} for layer in study.engine.layers]
    assert set.union(*types) == {"fp32"}
    assert study.int8_layers == 0


# --- Migration: item-19

OLD = "trtexec --onnx=resnet.onnx --int8 --calib=c.cache --workspace=1024 --noTF32"


def test_trtexec_11_1_refuses_the_old_command() -> None:
    """newer-6"""
    assert tl.explain(OLD, trt="11.1").mode == "rejected"


def test_the_migrated_command_is_taken_and_the_model_answers_within_0_2_points(
    tmp_path: Path,
) -> None:
    assert CACHE is not None
    cache = CACHE.save(tmp_path / "c.cache")
    moved = tl.migrate(OLD, RESNET.path, cache, tmp_path / "migrated.onnx")
    assert tl.explain(moved.new_command, trt="11.1").mode == "explicit-qdq"
    migrated = tl.network(str(tmp_path / "migrated.onnx"))
    logits = migrated.activations(RESNET.images("test"), ["logits"])["logits"]
    assert IMPLICIT.accuracy is not None
    assert abs(accuracy(logits, RESNET.labels()) - IMPLICIT.accuracy) <= 0.002


# --- Dynamic shapes: item-17


def test_min_max_gives_the_same_scales_whatever_the_calibration_s_batch() -> None:
    assert max(tl.recorded.dynamic().scale_change("minmax").values()) < 1e-6


def test_min_max_keeps_99_percent_at_batch_1_8_and_64() -> None:
    """newer-12"""
    trials = [trial for trial in tl.recorded.dynamic().trials if trial.algorithm == "minmax"]
    assert trials
    for trial in trials:
        assert trial.accuracy_at == {"1": 0.99, "8": 0.99, "64": 0.99}


def test_with_entropy_2_the_batch_moves_a_scale_by_22_percent() -> None:
    change = tl.recorded.dynamic().scale_change("entropy2")
    worst = max(change, key=lambda name: change[name])
    assert worst == "gap"
    assert round(100 * change[worst]) == 22


def test_the_change_of_a_scale_is_against_the_first_trial() -> None:
    dynamic = tl.recorded.dynamic()
    caches = [parse_cache(one.cache) for one in dynamic.trials if one.algorithm == "entropy2"]
    first, *others = [cache["image"] for cache in caches]
    expected = max(abs(other / first - 1) for other in others)
    assert dynamic.scale_change("entropy2")["image"] == expected


def test_calibration_ran_at_batches_of_8_1_and_32_and_without_a_profile_at_64_of_8() -> None:
    trials = tl.recorded.dynamic().trials
    assert {trial.calibration_batch for trial in trials} == {8, 1, 32}
    unnamed = [trial for trial in trials if not trial.profile_named]
    assert {(trial.batches, trial.calibration_batch) for trial in unnamed} == {(64, 8)}


# --- NVIDIA's samples: thread-7


def test_in_8_6_sampleint8api_sets_its_own_ranges() -> None:
    own = sources.samples("8.6", kind="own ranges").samples
    assert own[0].directory == "samples/sampleINT8API"


def test_in_11_1_the_samples_show_qdq_only() -> None:
    left = [one for one in sources.samples("11.1").samples if one.kind != "Q/DQ"]
    assert all(one.directory.startswith("tools/") for one in left)


def test_the_place_of_the_pairs_decides_a_detectors_answers() -> None:
    places = ("qdq", "qdq-everywhere-but-tail", "qdq-everywhere")
    built = [tl.recorded.build("detector", place) for place in places]
    assert [round(100 * (one.map50 or 0), 1) for one in built] == [97.8, 51.0, 48.7]
    assert [one.reformats for one in built] == [5, 14, 23]
