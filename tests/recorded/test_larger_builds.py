"""tl.network("photo"), "detector" and "vit": their images, cards, recorded builds, ranges and detections."""

from __future__ import annotations

import json

import numpy as np
import pytest

import trtlearn as tl
from recording.networks.measure import hashes, images_of
from trtlearn.errors import DataError, RecordingError
from trtlearn.files import data_dir
from trtlearn.live.experiment import mean_precision
from trtlearn.model import course_data
from trtlearn.model.data import read_npz
from trtlearn.model.detections import decode, mean_ap
from trtlearn.networks import Network, network

LARGER = ("photo", "detector", "vit")
SHAPES = {"photo": (3, 32, 32), "detector": (3, 128, 128), "vit": (3, 32, 32)}
CARD = json.loads((data_dir() / "networks.json").read_text(encoding="utf-8"))


def recorded(name: str) -> Network:
    return network(name, mode="recorded")


@pytest.mark.parametrize("name", LARGER)
def test_a_network_knows_its_file_images_and_card(name: str) -> None:
    one, entry = recorded(name), CARD["networks"][name]
    assert one.path == data_dir() / entry["file"]
    assert one.input_shape == SHAPES[name] == one.card.input_shape
    assert (one.card.nodes, one.card.sha256) == (entry["nodes"], entry["sha256"])
    assert one.card.labels == tuple(CARD["classes"][entry["images"]])
    assert (one.card.fp32_accuracy, one.card.map50) == (
        entry.get("fp32_accuracy"),
        entry.get("map50"),
    )
    assert course_data.ModelCard.from_json(one.card.to_json()) == one.card
    for split in course_data.SPLITS:
        ours, (theirs, truth) = one.images(split), images_of(name, split)
        assert ours.dtype == np.float32
        np.testing.assert_array_equal(ours, theirs)
        kind = "classes" if name == "detector" else "labels"
        np.testing.assert_array_equal(one.labels(split), truth[kind])
    assert course_data.data_hashes(name) == hashes(name)


def test_the_detector_has_boxes_and_the_others_have_none() -> None:
    detector = recorded("detector")
    assert detector.boxes("test").shape == (300, 6, 4)
    assert detector.labels("test").shape == (300, 6)
    there = detector.labels("test") >= 0
    assert there.sum() == 1068
    assert detector.boxes("test")[there].min() > 0
    with pytest.raises(DataError, match="no boxes"):
        recorded("photo").boxes()


@pytest.mark.parametrize("name", LARGER)
def test_variants_are_those_at_batch_8(name: str) -> None:
    one = recorded(name)
    assert {"fp32", "fp16", "int8-placeholder", "int8-legacy", "int8-entropy"} <= set(one.variants)
    assert {one.build(variant).batch for variant in one.variants} == {8}
    assert one.label.startswith("recorded on NVIDIA H200, TensorRT 8.6.0")
    assert one.build("fp32-b64").batch == 64
    with pytest.raises(RecordingError, match="no variant 'int4'"):
        one.build("int4")


def test_how_good_a_build_is() -> None:
    photo, detector = recorded("photo"), recorded("detector")
    for variant in ("fp32", "int8-minmax", "int8-entropy2"):
        build = photo.build(variant)
        assert build.quality == build.accuracy == pytest.approx(0.957, abs=0.005)
        assert build.answers is not None
        assert np.mean(build.answers == photo.labels()) == build.accuracy
    fp32 = detector.build("fp32")
    assert (fp32.accuracy, fp32.answers) == (None, None)
    assert fp32.quality == fp32.map50 == pytest.approx(detector.card.map50, abs=0.002)


@pytest.mark.parametrize("name", LARGER)
def test_points_are_those_of_the_builds(name: str) -> None:
    whole, one = tl.recorded.tradeoff(f"points-{name}"), recorded(name)
    points = whole.select(name, 8)
    assert {point.variant for point in points} <= set(one.variants)
    for point in points[:3]:
        build = one.build(point.variant)
        assert point.quality == pytest.approx(build.quality)
        assert (point.plan_bytes, point.layers) == (build.plan_bytes, build.layers)
    assert {point.batch for point in whole.select(name)} >= {8, 64}
    column = "mAP50 %" if name == "detector" else "accuracy %"
    assert all(column in row for row in whole.rows())


def test_the_first_networks_points_are_as_they_were() -> None:
    whole = tl.recorded.tradeoff("points-resnet")
    assert whole.point("resnet", "fp32").accuracy == pytest.approx(0.99)
    with pytest.raises(RecordingError, match="nothing called"):
        tl.recorded.tradeoff("points-vgg")


def test_detections_and_other_heads_come_through_the_door() -> None:
    found = tl.recorded.detections("detector", "fp32")
    truth = recorded("detector")
    quality = mean_ap(found, truth.boxes(), truth.labels())
    assert quality == recorded("detector").build("fp32").map50
    head = tl.recorded.build("detector-normalised", "int8-minmax")
    assert head.model == "detector-normalised"
    point = tl.recorded.tradeoff("points-detector").point("detector-normalised", "int8-minmax")
    assert head.map50 == pytest.approx(point.map50)
    assert tl.recorded.build("photo", "fp32").map50 is None
    with pytest.raises(RecordingError, match="no variant"):
        tl.recorded.detections("detector", "none")


def test_recordings_from_other_files_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    other = {"models/detector.onnx": "0" * 64}
    monkeypatch.setattr("trtlearn.recorded.files.data_hashes", lambda model: other)
    for call in (tl.recorded.build, tl.recorded.detections):
        with pytest.raises(RecordingError, match=r"another .* models/detector\.onnx"):
            call("detector", "fp32")
    with pytest.raises(RecordingError, match=r"another .* models/detector\.onnx"):
        tl.recorded.tradeoff("points-detector")


def test_damaged_detections_are_one_clear_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("trtlearn.recorded.files.read_npz", lambda content: read_npz(content[:99]))
    with pytest.raises(RecordingError, match=r"fp32\.detections\.npz is damaged"):
        tl.recorded.detections()


class OnCpu:
    """ONNX Runtime with the face of a Runner."""

    def __init__(self, path: object) -> None:
        onnxruntime = pytest.importorskip("onnxruntime")
        self.session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
        self.inputs = {one.name: one.shape for one in self.session.get_inputs()}
        self.outputs = [one.name for one in self.session.get_outputs()]

    def run(self, arrays: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        return dict(zip(self.outputs, self.session.run(None, arrays), strict=True))


def test_a_live_engine_of_the_detector_is_judged_by_its_boxes() -> None:
    detector, runner = recorded("detector"), OnCpu(recorded("detector").path)
    scenes = detector.images("test")[:20]
    quality = mean_precision(runner, detector.card, scenes, 8)  # the last batch holds 4
    whole = decode(runner.run({"images": scenes})["output0"])
    assert quality == mean_ap(whole, detector.boxes()[:20], detector.labels()[:20])
    assert quality > 0.9
