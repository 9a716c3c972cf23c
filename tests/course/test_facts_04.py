"""What notebook 04, "The calibration cache", states: one test a fact, from the same recordings.

A docstring names the question of tools/questions.json that the fact answers, if one.
"""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest
from onnx import ModelProto

import trtlearn as tl
from trtlearn.calibration.cache import CalibrationCache, format_cache
from trtlearn.calibration.edit import drop, rename, with_header
from trtlearn.calibration.observers import threshold_of
from trtlearn.int8.simulate import run_int8
from trtlearn.model.graph import describe
from trtlearn.model.read import load_proto
from trtlearn.model.run import activations
from trtlearn.networks import Network
from trtlearn.recorded.caches import CacheCases, cache_cases
from trtlearn.recorded.files import recording_folders

KINDS = ("entropy2", "minmax", "entropy", "legacy")


@cache
def network(name: str) -> Network:
    return tl.network(name, mode="recorded")


@cache
def text_of(kind: str, model: str = "resnet") -> str:
    talk = network(model).build(f"int8-{kind}").calibration
    assert talk is not None
    assert talk.cache is not None
    return talk.cache


@cache
def cache_of(kind: str, model: str = "resnet") -> CalibrationCache:
    found = network(model).build(f"int8-{kind}").cache
    assert found is not None
    return found


# --- The format


def test_amax_of_the_image_is_the_largest_pixel_under_min_max() -> None:
    """item-10, T#625"""
    amax = 127 * cache_of("minmax")["image"]
    assert abs(amax / abs(network("resnet").images()).max() - 1) < 1e-6
    assert text_of("minmax").splitlines()[1].startswith("image: ")


@pytest.mark.parametrize("kind", KINDS)
def test_read_and_written_again_the_bytes_are_the_same(kind: str) -> None:
    """item-10, T#625"""
    assert format_cache(cache_of(kind)) == text_of(kind)


def test_tensorrt_used_every_cache_of_random_names_and_scales() -> None:
    random = [c for c in tl.recorded.odd_caches().caches if c.name.startswith("random_")]
    assert random
    assert all(case.used for case in random)


def test_a_scale_of_0_is_one_digit() -> None:
    talk = network("resnet").study("zero-images").calibration
    assert talk is not None
    assert talk.cache is not None
    assert "\nimage: 0\n" in talk.cache


# --- Four calibrators


def test_entropy_2_and_min_max_have_a_line_for_every_tensor() -> None:
    assert cache_of("entropy2").names == cache_of("minmax").names
    assert cache_of("entropy2").check(network("resnet")).missing == ()


@pytest.mark.parametrize("kind", ["entropy", "legacy"])
def test_entropy_and_legacy_have_fewer_lines_and_a_warning_for_each_other(kind: str) -> None:
    messages = network("resnet").build(f"int8-{kind}").build.messages
    warned = {name for m in messages if m.code == "missing-scale" for name in m.names}
    assert warned
    if kind == "entropy":
        assert {*cache_of(kind).names, *warned} == set(cache_of("entropy2").names)
    assert len(cache_of(kind)) < len(cache_of("entropy2"))


def test_legacys_header_holds_its_quantile_and_cut_off() -> None:
    assert (cache_of("legacy").quantile, cache_of("legacy").cutoff) == (0.999, 1.0)


def test_entropy_2_repeats_a_maxpools_input_and_legacy_does_not() -> None:
    two, legacy = cache_of("entropy2"), cache_of("legacy")
    first = two.entry("stem_relu").hex
    assert [e.name for e in two.scales if e.hex == first] == ["stem_relu", "pool"]
    assert legacy["pool"] != legacy["stem_relu"]
    ties = tl.recorded.tied().operators
    assert "MaxPool" in {o.operator for o in ties if o.tied and o.algorithm == "entropy2"}


def test_no_convolutions_weights_have_a_line() -> None:
    """T#2887"""
    names = [name for name in network("resnet").weights() if name.endswith(".weight")]
    assert len(names) > 5
    assert not set(network("resnet").weights()) & set(cache_of("entropy2").names)


def test_the_constants_are_the_last_layers_weight_and_bias_calibrated_like_activations() -> None:
    """T#1212"""
    constants = [e for e in cache_of("entropy2").scales if "[Constant]" in e.name]
    for line, name in zip(constants, ("logits.weight", "logits.bias"), strict=True):
        own = threshold_of("entropy2", network("resnet").weights()[name])
        assert abs(own.scale / line.scale - 1) < 1e-6


# --- Broken caches


@cache
def changed_files() -> CacheCases:
    good, text = cache_of("entropy2"), text_of("entropy2")
    files: dict[str, CalibrationCache | bytes | str] = {
        "whole": text,
        "version_7600": with_header(good, tensorrt="7.6.0"),
        "version_101600": with_header(good, tensorrt="10.16.0"),
        "header_minmax": with_header(good, "minmax"),
        "bom": b"\xef\xbb\xbf" + text.encode(),
        "line_deleted": drop(good, ["b1_add"]),
        "renamed": rename(good, {"b1_add": "b1_add_old"}),
        "other_models_cache": text_of("entropy2", "mobile"),
        "truncated_half": text[: len(text) // 2],
    }
    return cache_cases({name: (name, file) for name, file in files.items()})


def test_only_a_header_that_does_not_fit_makes_tensorrt_calibrate_again() -> None:
    anew = {case.name for case in changed_files().caches if case.batches_asked}
    assert all(case.batches_asked is not None for case in changed_files().caches)
    assert anew == {"version_101600", "header_minmax", "bom"}


def test_trtlearn_finds_a_renamed_tensor_without_a_gpu() -> None:
    found = rename(cache_of("entropy2"), {"b1_add": "b1_add_old"}).check(network("resnet"))
    assert (found.stale, found.missing) == (("b1_add_old",), ("b1_add",))


@cache
def broken_files() -> CacheCases:
    text, hex_digits = text_of("entropy2"), cache_of("entropy2").entry("b1_add").hex
    line = f"b1_add: {hex_digits}"
    digits = {
        "bad_hex": "zzzz",
        "decimal_scale": "0.0706",
        "negative_scale": "bd90a39c",
        "nan_scale": "7fc00000",
    }
    files = {name: text.replace(line, f"b1_add: {new}") for name, new in digits.items()}
    files["no_space"] = text.replace(": ", ":")
    files["truncated_line"] = text[:-5]
    files["duplicate_line"] = f"{text}b1_add: 3f800000\n"
    return cache_cases({name: (name, file) for name, file in files.items()})


def test_each_broken_line_is_used_without_a_word() -> None:
    assert all(case.batches_asked == 0 and not case.messages for case in broken_files().caches)


def test_trtlearns_reader_refuses_or_marks_each_broken_file() -> None:
    assert all(case.problem for case in broken_files().caches)


# --- What it costs


@pytest.mark.parametrize(
    ("study", "tensor"), [("missing-scale", "b0_conv2"), ("missing-one", "b1_relu1")]
)
def test_one_tensor_without_a_scale_is_one_warning_by_name(study: str, tensor: str) -> None:
    """item-12, T#3092"""
    assert network("resnet").study(study).warning("missing-scale").names == (tensor,)


@pytest.mark.parametrize(
    ("study", "node", "dtype"),
    [("missing-scale", "b0_conv2", "int8"), ("missing-one", "b1_conv2", "fp32")],
)
def test_inside_a_layer_it_costs_nothing_between_two_the_reader_runs_in_fp32(
    study: str, node: str, dtype: str
) -> None:
    """item-12, T#3092"""
    layers = network("resnet").study(study).engine.layers
    types = [y.weight_dtype for y in layers if node in y.onnx_nodes and y.weight_dtype]
    assert types[0] == dtype


def on_this_cpu(model: object, scales: object) -> tuple[float, int]:
    """The integer model in numpy: percent right of 100 test images, how many layers are INT8."""
    test, labels = network("resnet").images("test")[:100], network("resnet").labels()[:100]
    run = run_int8(model, scales, {"image": test})  # type: ignore[arg-type]
    right = run["logits"].values.argmax(1) == labels
    return 100 * float(right.mean()), len(run.layers)


def test_with_another_models_cache_few_layers_are_int8() -> None:
    """item-14, T#3137"""
    mine, other = cache_of("minmax"), cache_of("minmax", "mobile")
    own, foreign = (on_this_cpu(network("resnet").path, scales) for scales in (mine, other))
    assert foreign[1] < own[1] / 3
    assert mine.header == other.header


def retrained() -> ModelProto:
    """The same function, but inside each block values are 16 times as large."""
    proto, arrays = load_proto(network("resnet").path), network("resnet").weights()
    for w in proto.graph.initializer:
        if "_conv1." in w.name or w.name.endswith("_conv2.weight"):
            factor = np.float32(16 if "_conv1." in w.name else 1 / 16)
            w.raw_data = (arrays[w.name] * factor).tobytes()
    return proto


def test_a_retrained_model_needs_a_new_calibration_though_every_name_fits() -> None:
    """item-14, T#3137"""
    proto, mine = retrained(), cache_of("minmax")
    model = proto.SerializeToString()
    after = next(iter(activations(model, [network("resnet").images()[:128]])))
    again = {name: threshold_of("minmax", x).scale for name, x in after.items()}
    stale, fresh = on_this_cpu(model, mine), on_this_cpu(model, again)
    assert not mine.check(describe(proto)).missing
    assert stale[0] < fresh[0] - 50


def test_a_calib_file_that_is_missing_means_noise_and_stays_missing() -> None:
    """thread-5, item-1, T#1703"""
    command = "trtexec --onnx=mobile.onnx --int8 --calib=mobil.cache"
    typo = tl.explain(command, cache_exists=False, model=network("mobile").path)
    assert typo.mode == "random-calibration"
    log = tl.recorded.trtexec_log("mobile", "int8-random")
    assert log.wrote_cache is False


def test_noise_beats_no_calib_by_far_and_is_still_no_calibration() -> None:
    """item-1, T#1703"""
    names = ("int8-placeholder", "int8-random", "int8-minmax")
    bare, random, best = [network("mobile").build(name).accuracy or 0 for name in names]
    assert random > bare + 0.5
    assert random < best
    assert [round(100 * share, 1) for share in (bare, random)] == [21.9, 91.0]


def test_on_resnet_noise_is_worse_than_the_invented_ranges() -> None:
    names = ("int8-placeholder", "int8-random")
    shares = [round(100 * (network("resnet").build(name).accuracy or 0), 1) for name in names]
    assert shares == [98.4, 96.7]


def test_without_the_fifteen_lines_the_same_nodes_run_in_int8() -> None:
    legacy, minmax = (network("resnet").build(f"int8-{kind}") for kind in ("legacy", "minmax"))
    assert len(legacy.warning("missing-scale").names) == 15
    assert legacy.int8_nodes == minmax.int8_nodes


def test_min_max_gives_the_same_scales_on_every_gpu() -> None:
    """item-13, T#1378, T#3612"""
    folders = [folder for folder in recording_folders() if (folder / "resnet").is_dir()]
    caches = [tl.network("resnet", folder).build("int8-minmax").cache for folder in folders]
    first = caches[0]
    assert first is not None
    for other in caches:
        assert other is not None
        assert all(abs(other[name] / first[name] - 1) < 1e-6 for name in other)


@pytest.mark.parametrize("kind", KINDS)
def test_trtexec_takes_the_cache_of_entropy_2_only(kind: str) -> None:
    """T#3430"""
    folder = next(folder for folder in recording_folders() if (folder / "resnet").is_dir())
    command = f"trtexec --onnx=m.onnx --int8 --calib={folder / 'resnet' / f'int8-{kind}'}.cache"
    answer = tl.explain(command, has_qdq=False)
    assert (answer.cache_set_aside is None) == (kind == "entropy2")
