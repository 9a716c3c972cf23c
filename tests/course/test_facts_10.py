"""What notebook 10 states, fact by fact, on the recordings that it shows."""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest
from timings import slower

import trtlearn as tl
from trtlearn.builds import Build
from trtlearn.calibration.fitting import FitReport
from trtlearn.course import exercise
from trtlearn.course.chapters import ch10
from trtlearn.engine.precision import PrecisionReport
from trtlearn.errors import DataError, RecordingError
from trtlearn.model.detections import share_matched

PHOTO, DETECTOR, VIT = (tl.network(name, mode="recorded") for name in ("photo", "detector", "vit"))
POINTS = tl.recorded.tradeoff("points-detector")
VITS = {point.variant: point for point in tl.recorded.tradeoff("points-vit").select("vit", 8)}
SINGLE = tl.recorded.one_scale()


def known(value: float | None) -> float:
    assert value is not None
    return value


def point(name: str, model: str = "detector") -> Build:
    return POINTS.point(model, name)


def median(build: Build) -> float:
    assert build.graph_timing is not None
    return build.graph_timing.median_ms


@cache
def fitted(name: str, count: int = 32) -> FitReport:
    ranges = PHOTO.build(name).ranges
    assert ranges is not None
    return tl.fit(ranges, PHOTO, PHOTO.images()[:count])


@cache
def precision(name: str) -> PrecisionReport:
    return VIT.build(name).precision()


# --- 1: photographs


def test_every_honest_calibration_keeps_the_answers_of_photo() -> None:
    right = {name: round(1000 * known(PHOTO.build(name).accuracy)) for name in PHOTO.variants}
    assert [right[f"int8-{kind}"] for kind in ("entropy2", "entropy", "minmax")] == [956] * 3
    assert (right["fp32"], right["int8-legacy"]) == (957, 949)
    assert (right["int8-placeholder"], right["int8-random"]) == (948, 885)


def test_on_digits_it_is_the_other_way_round() -> None:
    for name in ("resnet", "mobile"):
        digits = tl.network(name, mode="recorded")
        shares = {
            way: known(digits.build(f"int8-{way}").accuracy)
            for way in ("entropy2", "placeholder", "random", "minmax")
        }
        assert shares["entropy2"] < 0.3
        assert shares["random"] > shares["entropy2"]
    assert known(tl.network("mobile", mode="recorded").build("int8-placeholder").accuracy) < 0.3


def test_fit_tells_the_two_cases_apart() -> None:
    assert fitted("int8-entropy2").all_fit
    assert max(tensor.clipped for tensor in fitted("int8-entropy2").tensors) < 0.004
    assert not fitted("int8-random").all_fit
    assert max(tensor.clipped for tensor in fitted("int8-random").tensors) > 0.01
    mobile = tl.network("mobile", mode="recorded")
    cache = mobile.build("int8-entropy2").cache
    assert cache is not None
    digits = tl.fit(cache, mobile, mobile.images()[:32])
    assert digits.tensors[0].name == "m0_relu6b"
    assert round(100 * digits["m0_relu6b"].clipped) == 23
    assert round(100 * digits["image"].clipped) == 16


# --- 2: a detector


def test_qdq_everywhere_halves_the_map_and_takes_longer() -> None:
    """newer-11"""
    shares = [round(100 * known(point(name).map50), 1) for name in ("fp32", "int8-minmax", "qdq")]
    assert shares == [97.7, 97.8, 97.8]
    bad, good = point("qdq-everywhere"), point("int8-minmax")
    assert round(100 * known(bad.map50), 1) == 48.7
    assert slower(bad, good)
    assert median(bad) / median(good) == pytest.approx(1.6, abs=0.05)
    assert (bad.reformats, good.reformats) == (23, 5)
    exact = tl.recorded.detections("detector", "fp32")
    found = tl.recorded.detections("detector", "qdq-everywhere")
    assert 0.6 < known(share_matched(exact, found)) < 0.8  # many boxes are there, not all in place


def test_fit_finds_the_tensors_that_mix_ranges() -> None:
    cache = DETECTOR.build("int8-minmax").cache
    assert cache is not None
    report = tl.fit(cache, DETECTOR, DETECTOR.images()[:32])
    first = report.mixed[0]
    assert (first.tensor, first.codes, round(first.scale, 2)) == ("output0", 2, 1.02)
    inner = {one.tensor: one for one in report.mixed}["h8_both"]
    assert inner.also == ("h8_flat", "levels")
    assert 2.5 < inner.parts[0].largest < 3.1
    assert 100 < inner.parts[-1].largest < 138
    assert not report.poor


def test_single_tensors_in_eight_bits() -> None:
    for name, share in (
        ("nothing", 97.7),
        ("output0", 95.9),
        ("boxes, scores", 97.2),
        ("levels", 67.8),
    ):
        assert round(100 * SINGLE[name].map50, 1) == share
    assert SINGLE["output0"].distinct_scores == 2
    assert tl.recorded.one_scale("detector-normalised")["output0"].distinct_scores == 115
    with pytest.raises(RecordingError, match="one of detector"):
        tl.recorded.one_scale("photo")


def test_the_last_convolutions_write_fp32_even_when_asked() -> None:
    for name in ("int8-minmax", "int8-minmax-joined-int8"):
        report = tl.recorded.build("detector", name).precision(DETECTOR.path)
        for node in ("h8_box", "h8_class", "h16_box", "h16_class", "levels", "output0"):
            assert set(report[node].output_dtypes) <= {"fp32"}
        assert report["h8_box"].computed_in == "int8"
    assert known(point("int8-minmax-joined-int8").map50) == known(point("int8-minmax").map50)


def test_the_cure_must_reach_as_far_as_the_mixing() -> None:
    assert round(100 * known(point("qdq-everywhere-but-tail").map50), 1) == 51.0
    shown = ("qdq-everywhere", "qdq-everywhere-but-tail", "qdq", "int8-minmax-tail-fp16")
    whole = {name: point(name) for name in shown}
    assert all(slower(whole[name], whole["qdq"]) for name in shown if name != "qdq")
    assert known(whole["int8-minmax-tail-fp16"].map50) > 0.97


# --- 3: a transformer


def test_int8_breaks_one_block_into_303_layers_and_is_slower() -> None:
    """newer-7"""
    assert [VITS[name].layers for name in ("fp32", "fp16", "int8-placeholder")] == [2, 4, 303]
    times = {name: median(VITS[name]) for name in ("fp32", "fp16", "int8-placeholder")}
    assert [round(time, 3) for time in times.values()] == [0.273, 0.150, 0.415]
    assert round(0.415 / 0.150, 1) == 2.8
    assert slower(VITS["int8-placeholder"], VITS["fp32"])
    assert slower(VITS["fp32"], VITS["fp16"])
    assert times["fp32"] / times["fp16"] == pytest.approx(1.8, abs=0.05)
    assert round(100 * known(VITS["int8-placeholder"].accuracy), 1) == 85.2
    assert round(100 * known(VITS["fp32"].accuracy), 1) == 85.0


def test_only_the_products_of_the_mlp_run_in_int8() -> None:
    """newer-9"""
    for name, count in (
        ("int8-placeholder", 12),
        ("int8-random", 6),
        ("int8-entropy", 6),
        ("int8-legacy", 6),
    ):
        products = [node for node in precision(name).nodes if node.op in ("MatMul", "Gemm")]
        narrow = [node.name for node in products if node.computed_in == "int8"]
        assert (len(products), len(narrow)) == (49, count)
        assert all("_wide_" in one or "_narrow_" in one for one in narrow)
    attention = [node for node in precision("int8-placeholder").nodes if "attention" in node.name]
    assert {node.computed_in for node in attention} <= {"fp32", None}
    assert {layer.kind for layer in VIT.build("fp32").engine.layers} == {
        "CaskConvolution",
        "Myelin",
    }


def test_qdq_on_all_its_products_keeps_the_answers() -> None:
    """newer-7"""
    photographs, names = VIT.images("test")[:256], VIT.labels("test")[:256]
    walk = tl.try_int8(VIT.path, photographs, labels=names, algorithm="minmax", live=False)
    assert (len(walk.qdq.quantized_nodes), dict(walk.qdq.float_nodes)) == (50, {})
    products = {node.name for node in walk.model.nodes if node.op in ("MatMul", "Gemm", "Conv")}
    assert set(walk.qdq.quantized_nodes) == products
    assert known(walk.answer.agreement) == pytest.approx(0.992, abs=0.006)


def test_qdq_leaves_the_block_whole_and_fp16_is_faster_still() -> None:
    """newer-7"""
    whole = tl.recorded.tradeoff("points-vit")
    qdq, ranges = VITS["qdq"], VITS["int8-minmax"]
    assert (qdq.layers, ranges.layers) == (3, 285)
    assert [round(median(one), 3) for one in (qdq, ranges)] == [0.206, 0.465]
    assert median(qdq) < median(ranges) / 2
    for batch in (1, 8, 64, 256):
        half, ours, both = (whole.point("vit", way, batch) for way in ("fp16", "qdq", "qdq-fp16"))
        assert slower(ours, half)
        assert 1.35 < median(ours) / median(half) < 1.65
        assert median(both) == pytest.approx(median(ours), rel=0.04)
        assert slower(whole.point("vit", "fp32", batch), ours)
        assert slower(whole.point("vit", "int8-minmax", batch), whole.point("vit", "fp32", batch))
    sizes = [round(known(VITS[name].plan_bytes) / 1e6, 1) for name in ("qdq", "fp16")]
    assert sizes == [2.1, 3.5]
    assert slower(VITS["qdq-weights"], qdq)
    assert median(VITS["qdq-weights"]) / median(qdq) < 1.1


def test_int8_beside_fp16_takes_no_int8_and_breaks_the_block() -> None:
    """newer-7"""
    whole = tl.recorded.tradeoff("points-vit")
    names = {1: "-b1", 8: "", 64: "-b64", 256: "-b256"}
    for batch, suffix in names.items():
        both = whole.point("vit", "int8-fp16-minmax", batch)
        half = whole.point("vit", "fp16", batch)
        engine = VIT.build(f"int8-fp16-minmax{suffix}").engine
        assert (both.int8_layers, len(engine.int8)) == (0, 0)
        dtypes = {one.dtype for layer in engine.layers for one in (*layer.inputs, *layer.outputs)}
        assert dtypes == {"fp16", "fp32"}
        assert known(both.layers) > 300
        assert 2.4 < median(both) / median(half) < 3.7
        assert slower(both, whole.point("vit", "fp32", batch))
        assert both.accuracy == pytest.approx(half.accuracy, abs=0.002)
    assert median(VITS["int8-fp16"]) == pytest.approx(median(VITS["int8-fp16-minmax"]), rel=0.01)
    assert VITS["int8-fp16"].int8_layers == 0


# --- The exercises


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("10-clipping", ["clipped is a share", "nearly every", "too LARGE", "exactly 1 %"]),
        ("10-scales", ["one scale for all", "times the scale", "begin at index 4"]),
        ("10-products", ["Gemm", "not of all nodes", "what runs", "divide by the number"]),
    ],
)
def test_each_wrong_answer_is_diagnosed(name: str, words: list[str]) -> None:
    entry = exercise.get(name)
    assert isinstance(entry, exercise.Exercise)
    assert len(entry.wrong) == len(words)
    for source, word in zip(entry.wrong, words, strict=True):
        space: dict[str, object] = {}
        exec(source, space)
        answer = next(value for key, value in space.items() if key.startswith("my_"))
        verdict = entry.judge(answer)
        assert verdict.passed is False
        assert word in verdict.text


def test_the_pictures_change_with_the_answer() -> None:
    before = ch10.draw_scales(None)
    after = ch10.draw_scales(ch10.with_own_scales)
    heads = [note.text for note in after.layout.annotations if note.text.startswith("<b>")]
    assert len(before.layout.images) == 4
    assert len(after.layout.images) == 6
    assert "<br>2 different scores<" in heads[1]
    assert "yours<br>12 different scores<" in heads[2]
    with pytest.raises(DataError, match="shape"):
        ch10.draw_scales(lambda output: output[:, :4])
    picked = ch10.draw_clipping(ch10.clipping)
    assert 0 < len(picked.data[0].x) < len(ch10.draw_clipping(None).data[0].x)
    assert "of photo's 0" in picked.layout.title.text.replace("<br>", " ")
    bars = ch10.draw_products(ch10.int8_share).data[0]
    np.testing.assert_allclose(bars.x[:2], [12 / 49, 6 / 49])
    assert list(ch10.draw_products(None).data[0].text) == ["?"] * 3
