"""What notebook 06 states, fact by fact, on the recordings that it shows."""

from __future__ import annotations

import json

import numpy as np
import pytest

import trtlearn as tl
from trtlearn.builds import Build
from trtlearn.course import exercise
from trtlearn.networks import Network

RESNET = tl.network("resnet", mode="recorded")
MOBILE = tl.network("mobile", mode="recorded")
BOTH = [pytest.param(RESNET, id="resnet"), pytest.param(MOBILE, id="mobile")]
MISSING = [  # a network, the tensor without a range, and the node that reads it
    pytest.param(RESNET, "b1_relu1", "b1_conv2", id="resnet"),
    pytest.param(MOBILE, "m2_relu6b", "m2_project", id="mobile"),
]
ASKED = [  # a network and the node that was asked for in FP32
    pytest.param(RESNET, "b1_conv1", id="resnet"),
    pytest.param(MOBILE, "m2_dw", id="mobile"),
]


def microseconds(build: Build, node: str) -> float:
    """The time of the engine layer that does the node's work."""
    assert build.timing is not None
    return 1000 * build.timing.layers_ms[build.precision()[node].engine_layers[0]]


def total_ms(build: Build) -> float:
    total = build.layer_time_ms
    assert total is not None
    return total


# --- Your own engine.


def test_the_file_with_a_raw_byte_0x1e_is_read_with_strict_off_only() -> None:
    build = MOBILE.build("int8-minmax")
    text = build.engine.raw
    assert "\x1e" in text
    with pytest.raises(json.JSONDecodeError, match="control character"):
        json.loads(text)
    layers = json.loads(text, strict=False)["Layers"]
    assert layers == build.layer_dicts
    assert len(layers) == 20


def test_an_engine_read_from_its_text_and_a_model_give_the_build_s_types() -> None:
    """newer-8"""
    build = MOBILE.build("int8-minmax")
    read = tl.precision(tl.read_engine(build.engine.raw), MOBILE.path)
    assert [row.computed_in for row in read.nodes] == [
        row.computed_in for row in build.precision().nodes
    ]


def test_a_layer_can_work_in_int8_and_write_fp32() -> None:
    head = MOBILE.build("int8-minmax").precision()["head"]
    assert head.computed_in == "int8"
    assert (head.input_dtypes, head.output_dtypes) == (("int8",), ("fp32",))


def test_all_ranges_set_and_two_nodes_stay_in_fp32() -> None:
    """Answers item-6. newer-3"""
    stayed = MOBILE.build("int8-minmax").precision().where(computed_in="fp32")
    assert [row.name for row in stayed] == ["gap", "logits"]
    assert {row.requested_dtype for row in stayed} == {"int8"}


def test_the_rows_of_a_report_show_names_types_and_reasons() -> None:
    stayed = MOBILE.build("int8-minmax").precision().where(computed_in="fp32")
    assert repr(stayed) == "<2 rows: gap (fp32), logits (fp32)>"
    assert "the builder timed fp32 as faster" in stayed._repr_html_()


def test_fewer_engine_layers_than_onnx_nodes_is_fusion() -> None:
    build = MOBILE.build("int8-minmax")
    model = build.onnx()
    assert model is not None
    assert (len(model.nodes), build.layers, build.reformats) == (33, 20, 1)
    assert len(tl.show.fusion(build).data) == len(tl.show.fusion(build, model).data)


@pytest.mark.parametrize(
    ("network", "variant", "one", "other"),
    [(RESNET, "int8-entropy", 8, 9), (MOBILE, "int8-fp16", 16, 0)],
    ids=["resnet", "mobile"],
)
def test_two_builds_of_the_same_thing_differ(
    network: Network, variant: str, one: int, other: int
) -> None:
    again = tl.recorded.tradeoff(f"points-{network}").point(str(network), variant)
    assert network.build(variant).int8_layers == one
    assert again.int8_layers == other


# --- Missing ranges.


@pytest.mark.parametrize(("network", "tensor", "reader"), MISSING)
def test_tensorrt_names_the_tensor_without_a_range_and_its_reader_falls_back(
    network: Network, tensor: str, reader: str
) -> None:
    """Answers item-8."""
    missing = network.study("missing-one")
    assert missing.warning("missing-scale").names == (tensor,)
    assert missing.precision()[reader].computed_in == "fp32"


def test_in_resnet_the_reader_alone_falls_back_and_one_reformat_more_turns_values_back() -> None:
    missing, whole = RESNET.study("missing-one"), RESNET.build("int8-minmax")
    assert [row.name for row in missing.precision().where(computed_in="fp32")] == ["b1_conv2"]
    assert (whole.reformats, missing.reformats) == (1, 2)


def test_in_mobile_the_reader_falls_back_with_everything_before_it() -> None:
    missing, whole = MOBILE.study("missing-one"), MOBILE.build("int8-minmax")
    anyway = {row.name for row in whole.precision().where(computed_in="fp32")}
    fell = [
        row.name for row in missing.precision().where(computed_in="fp32") if row.name not in anyway
    ]
    first = [row.name for row in missing.precision().nodes[: len(fell)]]
    assert len(fell) == 16
    assert (len(anyway), len(anyway) + len(fell)) == (2, 18)
    assert fell == first
    assert "m2_project" in fell
    assert missing.accuracy == 0.98
    assert 2 * missing.int8_layers < whole.int8_layers


@pytest.mark.parametrize(("network", "tensor", "reader"), MISSING)
def test_without_half_of_the_ranges_more_falls_back(
    network: Network, tensor: str, reader: str
) -> None:
    one, many = (network.study(f"missing-{count}").precision() for count in ("one", "half"))
    assert many.counts["fp32"] > one.counts["fp32"]


def test_without_half_of_the_ranges_mobile_has_no_int8_layer() -> None:
    assert MOBILE.study("missing-half").int8_layers == 0


@pytest.mark.parametrize("network", BOTH)
def test_with_fp16_allowed_one_missing_range_ends_int8_and_answers_stay_good(
    network: Network,
) -> None:
    half = network.study("missing-one-fp16")
    assert "int8" not in half.precision().counts
    assert round(half.accuracy, 3) == {"resnet": 0.99, "mobile": 0.982}[str(network)]
    assert half.accuracy == network.build("fp16").accuracy


@pytest.mark.parametrize("network", BOTH)
def test_no_range_at_all_gives_no_engine(network: Network) -> None:
    assert "no scaling" in str(network.study("no-ranges").error)


@pytest.mark.parametrize(
    ("network", "node"), [(RESNET, "b0_conv2"), (MOBILE, "m3_dw")], ids=["resnet", "mobile"]
)
def test_a_tensor_inside_a_fused_layer_needs_no_range(network: Network, node: str) -> None:
    """Answers item-9. newer-5"""
    study = network.study("missing-scale")
    assert study.warning("missing-scale").names == (node,)
    assert study.precision()[node].computed_in == "int8"


# --- A type for one layer.


@pytest.mark.parametrize(("network", "node"), ASKED)
def test_a_layer_asked_for_in_fp32_runs_in_it_among_more_reformats(
    network: Network, node: str
) -> None:
    before, after = network.build("int8-minmax"), network.study("obey-fp32")
    row = after.precision()[node]
    assert before.precision()[node].computed_in == "int8"
    assert row.requested_dtype == row.computed_in == "fp32"
    assert after.reformats > before.reformats


@pytest.mark.parametrize("network", BOTH)
def test_prefer_gives_the_engine_of_obey_kernel_by_kernel(network: Network) -> None:
    obey, prefer = (network.study(f"{word}-fp32").engine.layers for word in ("obey", "prefer"))
    assert [layer.kernel for layer in obey] == [layer.kernel for layer in prefer]


def test_where_no_kernel_is_found_obey_fails_and_prefer_warns() -> None:
    case = tl.recorded.layer_case("weights_groups")
    last = case.failures[0].split(" | ")[-1]
    assert "Could not find any implementation" in last
    assert case.constraint == "PREFER"
    assert "No implementation of layer y obeys the requested" in case.log[-1]


# --- What it costs.


@pytest.mark.parametrize(("network", "tensor", "reader"), MISSING)
def test_a_layer_in_fp32_takes_far_longer_than_in_fp16(
    network: Network, tensor: str, reader: str
) -> None:
    single, half = (network.study(name) for name in ("missing-one", "missing-one-fp16"))
    assert microseconds(single, reader) > 1.3 * microseconds(half, reader)


def test_b1_conv2_takes_7_2_us_in_int8_8_9_in_fp16_and_13_7_in_fp32() -> None:
    builds = [
        RESNET.build("int8-minmax"),
        RESNET.study("missing-one-fp16"),
        RESNET.study("missing-one"),
    ]
    assert [round(microseconds(build, "b1_conv2"), 1) for build in builds] == [7.2, 8.9, 13.7]
    assert round(total_ms(builds[0]), 3) == 0.085
    assert round(total_ms(builds[2]), 3) == 0.102


@pytest.mark.parametrize("network", BOTH)
def test_one_layer_in_fp32_costs_all_layers_more_than_a_twentieth(network: Network) -> None:
    whole, missing = network.build("int8-minmax"), network.study("missing-one")
    assert total_ms(missing) > 1.05 * total_ms(whole)


@pytest.mark.parametrize("network", BOTH)
def test_the_same_kernels_timed_twice_differ_by_less_than_3_percent(network: Network) -> None:
    obey, prefer = (total_ms(network.study(f"{word}-fp32")) for word in ("obey", "prefer"))
    assert abs(prefer / obey - 1) < 0.03
    if network is RESNET:
        assert round(100 * (prefer / obey - 1), 1) == 0.5


@pytest.mark.parametrize(
    ("place", "more_layers", "more_reformats", "times"),
    [("conv-outputs", 3, 0, 1.19), ("no-shortcut", 4, 4, 1.46)],
)
def test_q_dq_in_a_worse_place_gives_more_layers_and_takes_longer(
    place: str, more_layers: int, more_reformats: int, times: float
) -> None:
    places = tl.recorded.placements("resnet")
    best, worse = places["tensorrt"], places[place]
    assert worse.layers == best.layers + more_layers
    assert worse.reformats == best.reformats + more_reformats
    assert len(worse.engine.reformats) == worse.reformats
    assert total_ms(worse) > 1.1 * total_ms(best)
    assert round(total_ms(worse) / total_ms(best), 2) == times


@pytest.mark.parametrize(
    ("model", "faster", "slower"),
    [("mobile", "fp16", "int8-minmax"), ("resnet", "int8-minmax", "fp16")],
)
def test_int8_is_slower_than_fp16_on_mobile_and_faster_on_resnet(
    model: str, faster: str, slower: str
) -> None:
    """Answers item-3."""
    points = tl.recorded.tradeoff(f"points-{model}")
    quick, slow = (points.point(model, name).graph_timing for name in (faster, slower))
    assert slow.p05_ms > quick.p95_ms


# --- Marked tensors.


@pytest.mark.parametrize("network", BOTH)
def test_every_tensor_marked_leaves_no_layer_in_int8(network: Network) -> None:
    """Answers item-20."""
    marked = network.study("marked")
    assert marked.build.options.int8
    weighted = [layer.weight_dtype for layer in marked.engine.layers if layer.weight_count]
    assert set(weighted) == {"fp32"}
    assert marked.int8_layers == 0
    assert marked.layers > network.build("int8-minmax").layers


@pytest.mark.parametrize("network", BOTH)
def test_the_marked_engine_s_tensors_equal_fp32_on_a_cpu(network: Network) -> None:
    tensors = tl.recorded.marked_tensors(str(network))
    exact = network.activations(tensors.pop("image"))
    for name, values in tensors.items():
        gap = np.abs(values.reshape(exact[name].shape) - exact[name]).max()
        assert gap < 1e-5 * np.abs(exact[name]).max(), name


# --- One bad range, and several.


def test_clipping_far_above_rounding_marks_the_first_tensors_of_entropy_2() -> None:
    errors = RESNET.build("int8-entropy2").tensor_errors(RESNET.images("test")[:200])
    losses = {one.name: one.own for one in errors if one.own}
    clipped = [name for name, own in losses.items() if own.clip_error > 10 * own.rounding_error]
    assert clipped == ["image", "stem_relu", "pool"]
    crossed = [name for name, own in losses.items() if own.clip_error > own.rounding_error]
    assert crossed == [one.name for one in errors[:4]] == [*clipped, "b0_relu1"]
    assert round(errors[0].total_sqnr_db) == 2


def test_min_max_stays_near_30_db() -> None:
    errors = RESNET.build("int8-minmax").tensor_errors(RESNET.images("test")[:200])
    inner = [one.total_sqnr_db for one in errors if one.name not in ("image", "logits")]
    assert min(inner) > 28
    assert max(inner) < 36


@pytest.mark.parametrize(
    ("network", "tensor", "times", "right"),
    [(RESNET, "b1_relu1", 39, 28.7), (MOBILE, "m2_relu6b", 50, 13.8)],
    ids=["resnet", "mobile"],
)
def test_one_range_too_small_shows_beside_the_data(
    network: Network, tensor: str, times: int, right: float
) -> None:
    broken = network.study("broken-small")
    report = tl.fit(broken.ranges, network.path, network.images("test")[:64], progress=False)
    over = {one.name: one.largest / one.amax for one in report.tensors}
    worst, second = sorted(over, key=over.__getitem__)[:-3:-1]
    assert (worst, round(over[worst])) == (tensor, times)
    assert worst in broken.question
    assert over[second] < 1.1
    assert [one.name for one in report.poor] == [tensor]
    assert round(100 * broken.accuracy, 1) == right


def test_resnet_has_99_percent_and_23_ranges_before_one_is_broken() -> None:
    assert RESNET.build("int8-minmax").accuracy == 0.99
    broken = RESNET.study("broken-small").ranges
    report = tl.fit(broken, RESNET.path, RESNET.images("test")[:64], progress=False)
    assert len(report.tensors) == 23


# --- Repair it.

REPAIRS = tl.recorded.repairs()


def test_every_choice_of_eleven_switches_was_computed() -> None:
    assert len(REPAIRS.tensors) == 11
    assert len(REPAIRS.right) == 2**11
    assert all(0 <= count <= REPAIRS.count for count in REPAIRS.right)


@pytest.mark.parametrize(
    ("names", "right"),
    [
        ("", 28.0),
        ("image", 26.5),
        ("pool", 29.5),
        ("pool stem_relu", 61.0),
        ("pool stem_relu image", 99.0),
        (" ".join(REPAIRS.tensors), 99.0),
    ],
)
def test_a_choice_of_switches_gives_these_right_answers_also_in_numpy(
    names: str, right: float
) -> None:
    chosen = names.split()
    assert round(100 * REPAIRS.accuracy(chosen), 1) == right
    images, labels = RESNET.images("test")[:200], RESNET.labels()[:200]
    scales = {name: REPAIRS.repaired[name] for name in chosen}
    if "gap" in scales:
        scales["flatten"] = scales["gap"]
    run = RESNET.build("int8-entropy2").simulate(images, scales)
    assert int((run["logits"].values.argmax(1) == labels).sum()) == round(2 * right)


def test_the_scales_of_the_switches_are_the_engines_own() -> None:
    for variant, scales in (("int8-entropy2", REPAIRS.broken), ("int8-minmax", REPAIRS.repaired)):
        known = {one.name: one.scale for one in RESNET.build(variant).ranges.tensors}
        assert scales == {name: known[name] for name in REPAIRS.tensors}


def test_the_image_alone_makes_it_worse_and_no_single_switch_helps() -> None:
    assert REPAIRS.accuracy(["image"]) < REPAIRS.accuracy()
    assert max(REPAIRS.accuracy([name]) for name in REPAIRS.tensors) < 0.3


def test_three_switches_are_needed_and_enough() -> None:
    assert set(REPAIRS.greedy()[:3]) == {"pool", "stem_relu", "image"}
    needed = {"pool", "stem_relu", "image"}
    for choice, count in enumerate(REPAIRS.right):
        names = {name for bit, name in enumerate(REPAIRS.tensors) if choice >> bit & 1}
        assert (count >= 0.95 * REPAIRS.count) == (names >= needed)
    assert max(REPAIRS.accuracy(needed - {name}) for name in needed) == 0.61


def test_fit_names_the_three() -> None:
    cache = RESNET.build("int8-entropy2").cache
    report = tl.fit(cache, RESNET.path, RESNET.images("test")[:64], progress=False)
    assert {one.name for one in report.poor} == {"image", "stem_relu", "pool"}


def test_the_image_is_cut_at_0_43_although_it_reaches_2_8() -> None:
    assert round(127 * REPAIRS.broken["image"], 2) == 0.43
    assert round(float(np.abs(RESNET.images("test")[:200]).max()), 1) == 2.8


@pytest.mark.parametrize("network", BOTH)
def test_the_image_alone_repaired_on_the_gpu_gives_numpy_s_answers_and_fewer_right(
    network: Network,
) -> None:
    real = network.study("repaired-image")
    numpy_s = real.simulate(network.images("test")[:200])["logits"].values.argmax(1)
    assert (numpy_s == real.answers[:200]).all()
    assert real.accuracy < network.build("int8-entropy2").accuracy


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (["image"], "26.5% right"),
        (["stem_relu", "pool"], "61.0% right"),
        (["image", "stem_relu", "pool", "gap"], "gap can keep its range"),
        (["Image"], "no switch for 'Image'"),
        (3, "no list of names"),
    ],
)
def test_a_wrong_repair_hears_what_is_wrong(answer: object, words: str) -> None:
    verdict = exercise.check("06-repair", answer)
    assert verdict.passed is False
    assert words in verdict.text


def test_names_in_one_text_are_a_list_too_and_the_answer_is_drawn() -> None:
    verdict = exercise.check("06-repair", "pool, stem_relu, image")
    assert verdict.passed
    assert max(verdict.figure.data[0].x) == 0.99


def test_of_a_trained_transformer_int8_reaches_the_mlp_s_products_and_the_gelu_only() -> None:
    """item-7"""
    vit = tl.network("vit", mode="recorded")
    report = vit.build("int8-placeholder").precision()
    narrow = [node for node in report.nodes if node.computed_in == "int8"]
    assert sum(node.op == "MatMul" for node in narrow) == 12
    assert sum(node.op in ("MatMul", "Gemm") for node in report.nodes) == 49
    words = ("_wide", "_gelu", "_narrow")
    assert all(any(word in node.name for word in words) for node in narrow)
    assert vit.build("fp32").layers == 2
    assert vit.build("int8-placeholder").layers == 303
