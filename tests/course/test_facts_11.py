"""What notebook 11, "How do we know?", states: one test a fact, from the same recordings."""

from __future__ import annotations

from collections import Counter

import pytest
from test_facts_07 import BIG, MIXED, MOBILE, RESNET, known, launch, replay, timed

import trtlearn as tl
from trtlearn.networks import network
from trtlearn.recorded.calibration import CAUSES
from trtlearn.show.calibration import agreement as picture

TABLE = tl.recorded.agreement()
H100 = {name: network(name, folder="h100-80gb-hbm3-8.6.0") for name in ("resnet", "mobile")}
H200 = {name: network(name, folder="h200-8.6.0") for name in ("resnet", "mobile")}

# --- The scales.


def test_58_of_2756_scales_differ_for_three_causes() -> None:
    assert (TABLE.tensors, TABLE.agreeing, len(TABLE.others)) == (2756, 2698, 58)
    causes = Counter(other.cause for other in TABLE.others)
    assert causes == {"last bits": 46, "near tie": 8, "Concat's memory": 4}
    assert set(causes) == set(CAUSES)


def test_44_of_46_last_bits_lie_in_recurrent_and_none_is_above_a_thousandth_of_a_percent() -> None:
    rows = {row.network: 0 for row in TABLE.networks}
    largest = 0.0
    for row in TABLE.networks:
        for other in row.others:
            if other.cause == "last bits":
                rows[row.network] += 1
                largest = max(largest, known(other.relative_difference))
    assert rows["recurrent"] == 44
    assert f"{100 * largest:.3f}" == "0.001"


def test_of_the_four_networks_kept_aside_946_of_951_scales_agree_now() -> None:
    aside = ("bottleneck", "mobilev3", "vit", "unet")
    rows = [row for row in TABLE.networks if row.network in aside]
    total = sum(row.tensors for row in rows)
    assert (total, total - sum(len(row.others) for row in rows)) == (951, 946)
    assert round(100 * TABLE.share(*aside), 1) == 99.5


def test_the_caches_are_those_that_were_compared() -> None:
    for row in TABLE.networks:
        assert len(row.cache) == row.tensors, (row.network, row.algorithm)
        for other in row.others:
            assert row.cache[other.tensor] == pytest.approx(other.tensorrt, rel=1e-6)


def test_the_picture_has_one_dot_a_scale_and_names_every_exception() -> None:
    fig = picture(TABLE)
    dots = [len(trace.x) for trace in fig.data]
    assert dots == [2698, 46, 8, 4]
    assert sum(dots) == TABLE.tensors
    hovered = [text for trace in fig.data[1:] for text in trace.hovertext]
    assert {text.split("<br>")[0] for text in hovered} == {one.tensor for one in TABLE.others}


def test_mobile_has_one_near_tie_and_its_two_kls_are_0_0508_and_0_0507() -> None:
    mobile = H100["mobile"]
    report = tl.agree(mobile.path, mobile.images(), mobile.build("int8-entropy2").cache, batch=8)
    (unlike,) = [tensor for tensor in report.tensors if not tensor.agrees()]
    assert len(report.tensors) == 38
    assert unlike.onnx_tensor in report.thresholds
    assert "1064 bins (TensorRT) has KL 0.0508019, 1035 bins (ours) 0.0507238" in (
        unlike.explanation or ""
    )


def test_the_comparison_can_fail_other_batches_or_fewer_images_give_other_scales() -> None:
    resnet = H100["resnet"]
    cache, images = resnet.build("int8-entropy2").cache, resnet.images()
    assert tl.agree(resnet.path, images, cache, batch=4).agreeing == 11
    assert tl.agree(resnet.path, images[:504], cache, batch=8).agreeing == 26
    assert len(cache or ()) == 27


# --- The arithmetic.


def test_two_of_41_cases_differ() -> None:
    gaps = {name: tl.recorded.layer_case(name).difference() for name in tl.recorded.layer_cases()}
    unlike = {name: int((gap != 0).sum()) for name, gap in gaps.items() if gap.any()}
    assert len(gaps) == 41
    assert unlike["conv_sigmoid"] == 1
    assert set(unlike) == {"conv_sigmoid", "weights_groups"}
    assert sum(gap.size for gap in gaps.values()) == 364_554
    assert gaps["weights_groups"].dtype.kind == "f"


# --- trtexec.


def test_3040_command_lines_of_34_releases_stand_beside_nvidia_s_parser() -> None:
    parser = tl.recorded.trtexec_parser()
    assert (len(parser.lines), len(parser.tags)) == (3040, 34)
    assert (parser.tags[0], parser.tags[-1]) == ("8.0.1", "v11.1")
    assert sum(row["lines"] for row in parser.rows()) == 3040
    assert any(line.cache for line in parser.lines)


SMALL = [
    build
    for build in (*RESNET.points, *MOBILE.points, *MIXED.points)
    if build.trtexec_ms and build.trtexec_graph_ms
]
LARGE = [build for build in BIG.points if build.trtexec_ms and build.trtexec_graph_ms]


def test_by_graph_replay_trtexec_agrees_within_3_percent_for_10_of_12_big_engines() -> None:
    apart = {
        (build.variant, build.batch): known(build.trtexec_graph_ms) / replay(build) - 1
        for build in LARGE
    }
    alike = [share for share in apart.values() if abs(share) < 0.03]
    assert len(alike) > 0.8 * len(apart)
    assert (len(alike), len(apart)) == (10, 12)
    far = {key: round(100 * share) for key, share in apart.items() if abs(share) >= 0.03}
    assert far == {("fp16", 64): 20, ("int8-placeholder", 64): -22}


def test_on_small_engines_trtexec_is_about_2_us_above_and_at_most_4_5() -> None:
    far = [1000 * (known(build.trtexec_graph_ms) - replay(build)) for build in SMALL]
    assert 0 < min(far) < max(far) < 5
    assert round(max(far), 1) == 4.5
    assert round(sorted(far)[len(far) // 2]) == 2
    shares = [100 * (known(build.trtexec_graph_ms) / replay(build) - 1) for build in SMALL]
    assert (round(min(shares)), round(max(shares))) == (1, 6)


def test_launch_after_launch_small_engines_are_more_than_a_fifth_apart() -> None:
    assert max(abs(known(build.trtexec_ms) / launch(build) - 1) for build in SMALL) > 0.2


def test_one_of_two_twins_at_batch_64_spreads_from_1_22_to_1_65_ms() -> None:
    one, twin = (BIG.point("big", name, 64) for name in ("int8-placeholder", "int8-fp16"))
    assert (one.layers, one.int8_layers) == (twin.layers, twin.int8_layers)
    spread = timed(one)[0]
    assert (round(spread.p05_ms, 2), round(spread.p95_ms, 2)) == (1.22, 1.65)
    assert round(replay(twin), 2) == 1.22


# --- Another GPU.


@pytest.mark.parametrize("name", ["resnet", "mobile"])
@pytest.mark.parametrize("kind", ["entropy2", "minmax", "random", "legacy"])
def test_both_gpus_give_the_same_scales(name: str, kind: str) -> None:
    one, other = (gpu[name].build(f"int8-{kind}").cache for gpu in (H100, H200))
    assert one is not None
    assert one.equals(other)


def test_both_gpus_give_the_same_answers_but_for_one_engine_of_resnet() -> None:
    unlike = []
    for name in ("resnet", "mobile"):
        for way in ("fp32", "int8-placeholder", "int8-random", "int8-minmax", "int8-entropy2"):
            rates = [gpu[name].build(way).accuracy for gpu in (H100, H200)]
            if rates[0] != rates[1]:
                unlike.append((name, way, *rates))
    assert unlike == [("resnet", "int8-random", 0.967, 0.987)]


def test_recordings_are_found_by_name_and_unknown_ones_are_one_error() -> None:
    assert H200["mobile"].provenance.gpu == "NVIDIA H200"
    with pytest.raises(tl.errors.RecordingError, match="no recordings of mobile"):
        network("mobile", folder="h300-9.9")
