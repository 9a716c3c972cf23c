"""The photographs, scenes and three networks, what was recorded of them, and a detector's arithmetic."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from recording.networks import jobs, variants
from recording.networks.measure import hashes, images_of, model_bytes, pack, score
from trtlearn.calibration.cache import read_cache
from trtlearn.files import data_dir, sha256
from trtlearn.model import detections as detect
from trtlearn.recorded.files import load_build, load_provenance, read_text
from trtlearn.recorded.tradeoffs import Tradeoff

DATA = data_dir()
FOLDER = DATA / "recordings" / "h200-8.6.0"
CARD = json.loads((DATA / "networks.json").read_text(encoding="utf-8"))
LEAST = {"photo": 0.93, "detector": 0.90, "vit": 0.80}
MODELS = (*jobs.NETWORKS, *jobs.HEADS)
RECORDED = sorted(path for model in MODELS for path in (FOLDER / model).glob("*.json.gz"))


@pytest.mark.parametrize("name", jobs.NETWORKS)
def test_a_network_is_as_good_as_its_card_says(name: str) -> None:
    pytest.importorskip("onnxruntime")
    from recording.networks.card import answers

    images, truth = images_of(name, "test")
    quality, _ = score(name, answers(name, images), truth)
    entry = CARD["networks"][name]
    assert quality == pytest.approx(entry.get("map50", entry.get("fp32_accuracy")), abs=0.002)
    assert quality >= LEAST[name]
    assert entry["size_bytes"] < (12e6 if name == "photo" else 6e6)


def test_the_card_names_the_files_that_are_here() -> None:
    for entry in (*CARD["networks"].values(), *CARD["images"].values()):
        assert sha256(DATA / entry["file"]) == entry["sha256"]


def test_calibration_and_test_images_are_held_apart() -> None:
    with np.load(DATA / "images" / "photos.npz") as file:
        parts = {split: file[f"{split}_images"] for split in ("calibration", "test")}
        assert [len(part) for part in parts.values()] == [512, 1000]
        seen = {split: {image.tobytes() for image in part} for split, part in parts.items()}
        assert not seen["calibration"] & seen["test"]
        assert set(np.bincount(file["test_labels"])) == {100}
        assert len(file["classes"]) == 10
    assert (DATA / "images" / "photos.npz").stat().st_size < 6e6


@pytest.mark.parametrize("path", RECORDED, ids=lambda path: f"{path.parent.name}/{path.name}")
def test_a_recording_loads_and_says_what_it_was_made_from(path: Path) -> None:
    one = load_build(path)
    origin, network = one.provenance, one.model.split("-")[0]
    assert (one.model, f"{one.variant}.json.gz") == (path.parent.name, path.name)
    assert (origin.gpu, origin.tensorrt, origin.recorded) == ("NVIDIA H200", "8.6.0", True)
    assert origin.driver
    assert origin.time_utc
    assert origin.command
    assert origin.tactic_sources == ()
    assert origin.sha256 == hashes(network)
    assert one.engine.layers
    assert one.timing is not None
    assert one.timing.median_ms > 0
    if network != "detector":
        assert one.predictions is not None
        assert one.predictions.accuracy > 0.8


def test_every_way_of_the_first_two_networks_is_recorded() -> None:
    for network in ("photo", "detector"):
        here = {path.name.removesuffix(".json.gz") for path in (FOLDER / network).glob("*.json.gz")}
        assert {job.key for job in jobs.jobs() if job.model == network and job.tier < 2} <= here


@pytest.mark.parametrize("model", MODELS)
def test_the_points_tell_the_same_as_the_recordings(model: str) -> None:
    network = model.split("-", maxsplit=1)[0]
    whole = Tradeoff.from_json(read_text(FOLDER / "networks" / f"points-{network}.json.gz"))
    _, truth = images_of(network, "test")
    keys = {(job.model, job.name, job.options.batch): job.key for job in jobs.jobs()}
    for point in whole.select(model):
        base = FOLDER / model / keys[model, point.variant, point.batch]
        one = load_build(f"{base}.json.gz")
        assert point.plan_bytes == one.build.plan_bytes
        assert point.graph_timing is not None
        if network != "detector":
            assert one.predictions is not None
            assert point.accuracy == pytest.approx(one.predictions.accuracy)
            right = np.array(one.predictions.classes) == truth["labels"]
            assert right.mean() == pytest.approx(point.accuracy)
            continue
        with np.load(f"{base}.detections.npz") as file:
            detections = detect.unpack(file)
        quality = detect.mean_ap(detections, truth["boxes"], truth["classes"])
        assert point.map50 == pytest.approx(quality)


def test_every_point_is_of_a_network_that_has_a_recording() -> None:
    for network in jobs.NETWORKS:
        whole = Tradeoff.from_json(read_text(FOLDER / "networks" / f"points-{network}.json.gz"))
        assert {point.model for point in whole.points} <= set(MODELS)


def test_the_folder_says_where_it_comes_from() -> None:
    origin = load_provenance(FOLDER / "networks")
    for network in jobs.NETWORKS:
        assert hashes(network).items() <= origin.sha256.items()


def test_photo_in_int8_is_faster_than_fp16_by_more_than_the_spread_and_as_right() -> None:
    whole = Tradeoff.from_json(read_text(FOLDER / "networks" / "points-photo.json.gz"))
    for batch in (8, 64):
        half = whole.point("photo", "fp16", batch)
        for name in ("int8-minmax", "int8-fp16-minmax", "qdq", "qdq-fp16"):
            point = whole.point("photo", name, batch)
            assert point.graph_timing is not None
            assert half.graph_timing is not None
            assert point.graph_timing.p95_ms < half.graph_timing.p05_ms
            assert point.accuracy == pytest.approx(half.accuracy, abs=0.005)
            assert point.plan_bytes is not None
            assert half.plan_bytes is not None
            assert point.plan_bytes < half.plan_bytes


def test_one_scale_for_boxes_and_scores_leaves_two_codes_of_score_and_coarse_boxes() -> None:
    text = (FOLDER / "networks" / "one-scale.json").read_text(encoding="utf-8")
    rows = {
        (row["model"], *row.get("rounded", [row.get("qdq")])): row
        for row in json.loads(text)["trials"]
    }
    exact = rows[("detector",)]["map50"]
    assert exact == pytest.approx(CARD["networks"]["detector"]["map50"], abs=0.002)
    assert rows["detector", "output0"]["distinct_scores"] == 2
    assert rows["detector-normalised", "output0"]["distinct_scores"] > 100
    assert (
        rows["detector", "levels"]["map50"] < exact - 0.2 < rows["detector", "distances"]["map50"]
    )
    assert rows["detector", "as TensorRT wants it"]["map50"] == pytest.approx(exact, abs=0.01)


@pytest.mark.parametrize("head", variants.VARIANTS)
def test_another_head_of_the_detector_answers_the_same(head: str) -> None:
    pytest.importorskip("onnxruntime")
    from recording.networks.card import answers

    images = images_of("detector", "test")[0][:3]
    whole, other = answers("detector", images), answers(head, images)
    np.testing.assert_allclose(other, whole, rtol=1e-4, atol=1e-3)


@pytest.mark.parametrize(
    ("model", "name"),
    [
        (model, name)
        for model in MODELS
        for name in ("int8-minmax", "int8-entropy")
        if (FOLDER / model / f"{name}.cache").is_file()
    ],
)
def test_a_cache_names_tensors_of_its_network(model: str, name: str) -> None:
    import onnx

    graph = onnx.load_from_string(model_bytes(model)).graph
    known = {value.name for value in graph.input}.union(*(node.output for node in graph.node))
    named = set(read_cache(FOLDER / model / f"{name}.cache"))
    strange = {name for name in named - known if "Unnamed Layer" not in name}
    assert graph.input[0].name in named
    assert len(strange) < len(named) / 4


def test_overlap_of_boxes() -> None:
    boxes = np.array([[10.0, 10, 4, 4], [12, 10, 4, 4], [50, 50, 4, 4], [10, 10, 0, 4]])
    shares = detect.overlap(boxes, boxes)
    np.testing.assert_allclose(np.diag(shares), [1, 1, 1, 0])
    assert shares[0, 1] == pytest.approx(1 / 3)
    assert shares[0, 2] == 0


def test_detections_drop_the_lesser_of_two_boxes_of_one_class_and_what_is_no_number() -> None:
    output = np.zeros((1, 6, 5), np.float32)
    output[0, :4] = np.array(
        [[10, 10, 8, 8], [11, 10, 8, 8], [10, 10, 8, 8], [40, 40, 8, 8], [60, 60, 8, 8]]
    ).T
    output[0, 4:] = np.array([[0.9, 0], [0.8, 0], [0, 0.7], [0.03, 0.02], [np.nan, 1]]).T
    (one,) = detect.decode(output)
    assert one.classes.tolist() == [0, 1]
    np.testing.assert_allclose(one.scores, [0.9, 0.7])


def test_mean_ap_by_hand() -> None:
    boxes = np.array([[[10.0, 10, 8, 8], [30, 30, 8, 8]]])
    classes = np.array([[0, 1]])
    right = detect.Detections(boxes[0], np.array([0.9, 0.8]), np.array([0, 1]))
    assert detect.mean_ap([right], boxes, classes) == 1
    twice = detect.Detections(boxes[0][[0, 0]], np.array([0.9, 0.8]), np.array([0, 0]))
    assert (
        detect.mean_ap([twice], boxes, classes) == 0.5
    )  # the second is a false alarm, class 1 is missed
    shifted = detect.Detections(boxes[0] + [[5, 0, 0, 0]], np.array([0.9, 0.8]), np.array([0, 1]))
    assert detect.mean_ap([shifted], boxes, classes) == 0
    nothing = detect.Detections(np.zeros((0, 4)), np.zeros(0), np.zeros(0, int))
    assert detect.mean_ap([nothing], boxes, classes) == 0


def test_packed_detections_come_back() -> None:
    rng = np.random.default_rng(0)
    packed = [
        detect.Detections(rng.uniform(1, 128, (n, 4)), rng.random(n), rng.integers(0, 10, n))
        for n in (3, 0, 5)
    ]
    for one, again in zip(packed, detect.unpack(pack(packed)), strict=True):
        np.testing.assert_allclose(again.boxes, one.boxes, rtol=1e-3)
        np.testing.assert_allclose(again.scores, one.scores, rtol=1e-3)
        assert again.classes.tolist() == one.classes.tolist()
