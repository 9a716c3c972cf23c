"""The heads of more exports: read right, or left alone and said so; one scale found in both."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from made_up_heads import BEST, CLASSES, EXPORTS, WIDTH, Maker

from trtlearn.calibration.fitting import FitReport, fit
from trtlearn.calibration.network import calibrate
from trtlearn.course.own_model.records import Walk
from trtlearn.course.own_model.walk import try_int8
from trtlearn.errors import DataError, ModelError
from trtlearn.model.detections import Detections, average_precision, decode, find_head
from trtlearn.model.run import activations

KNOWN = {  # columns behind the scores, whether it is a list, classes
    "yolo11-seg": (32, False, CLASSES),
    "yolo11-pose": (51, False, 1),
    "yolo26": (0, True, None),
    "yolo26-seg": (32, True, None),
    "yolov4": (0, False, CLASSES),
    "rt-detr": (0, True, None),
    "mmdeploy": (0, True, None),
    "scores first": (0, False, CLASSES),
    "one sigmoid": (0, False, CLASSES),
}
UNIT = {"yolov4", "detr", "detr, softmax", "ssd"}  # kinds whose boxes go from 0 to 1
APART = {*UNIT, "rt-detr", "ssd, nms", "ssd, ragged"}  # boxes and scores have an output each
rng = np.random.default_rng(5)
DATA = rng.normal(size=(16, 3, 32, 32)).astype(np.float32)


def made(kind: str, width: float | None = None) -> tuple[bytes, dict[str, str]]:
    make = {"scores first": Maker(11, True), "one sigmoid": Maker(20, True)}.get(kind) or Maker()
    content = EXPORTS[kind](make, width or (1.0 if kind in UNIT else WIDTH))
    return content, make.truth


def outputs_of(content: bytes, more: tuple[str, ...] = ()) -> dict[str, Any]:
    names = [value.name for value in onnx.load_from_string(content).graph.output]
    return next(activations(content, [DATA], [*names, *more]))


def truth(kind: str) -> tuple[dict[str, Any], list[Detections]]:
    """The network's outputs, and its detections by the tensors inside that hold them all."""
    content, names = made(kind)
    inside = outputs_of(content, tuple(names.values()))
    if kind == "one sigmoid":
        return inside, decode(inside["output0"], most=100)
    parts = [inside.pop(names[part]) for part in ("centre", "size", "scores")]
    axis = 1 if parts[0].shape[1] == 2 else 2
    whole = np.concatenate([np.moveaxis(part, axis, 1) for part in parts], axis=1)
    if not KNOWN[kind][1]:
        return inside, decode(whole, most=100)
    images = []
    for one in whole:
        best = np.argsort(-one[4:].max(axis=0), kind="stable")[:BEST]
        scores, classes = one[4:, best].max(axis=0), one[4:, best].argmax(axis=0)
        sure = scores > 0.05
        images.append(Detections(one[:4, best].T[sure], scores[sure], classes[sure]))
    return inside, images


@pytest.mark.parametrize("kind", KNOWN)
def test_a_known_head_is_read_right(kind: str) -> None:
    outputs, wanted = truth(kind)
    head = find_head(outputs)
    assert head is not None
    extra, is_list, classes = KNOWN[kind]
    assert (head.extra, head.classes is not None, head.known_classes) == (extra, is_list, classes)
    for one, right in zip(head.detections(outputs, 100), wanted, strict=True):
        assert len(one) > 3
        np.testing.assert_allclose(one.boxes, right.boxes, rtol=1e-4, atol=1e-3)
        np.testing.assert_allclose(one.scores, right.scores, rtol=1e-5)
        np.testing.assert_array_equal(one.classes, right.classes)


@pytest.mark.parametrize("kind", [kind for kind in EXPORTS if kind.split(",")[0] not in KNOWN])
def test_another_head_is_left_alone(kind: str) -> None:
    assert find_head(outputs_of(made(kind)[0])) is None


def test_the_classes_that_an_export_states_are_taken() -> None:
    """A mask coefficient that the data show from 0 to 1 only would be taken for a class."""
    outputs = outputs_of(made("yolo11-seg")[0])
    outputs["output0"][:, 4 + CLASSES] = outputs["output0"][:, 5]
    by_values, stated = find_head(outputs), find_head(outputs, CLASSES)
    assert by_values
    assert by_values.known_classes == CLASSES + 1
    assert stated
    assert (stated.known_classes, stated.extra) == (CLASSES, 32)
    outputs["output0"][:, 4 + CLASSES :] = 0.5
    assert find_head(outputs, CLASSES + 40) is None


def test_points_and_angles_from_0_to_1_are_no_scores() -> None:
    outputs = outputs_of(made("yolo11-pose", 1.0)[0])
    head = find_head(outputs)
    assert head
    assert (head.known_classes, head.objectness, head.extra) == (1, False, 51)
    outputs = outputs_of(made("yolo11-obb")[0])
    outputs["output0"][:, -1] = np.clip(outputs["output0"][:, -1], 0, 1)
    assert find_head(outputs) is None


@pytest.mark.parametrize("background", [0.02, 0.5])
@pytest.mark.parametrize("share", [0.05, 0.5, 0.95])
@pytest.mark.parametrize("classes", [1, 2, 3])
def test_objectness_is_never_taken_for_a_class(
    classes: int, share: float, background: float
) -> None:
    """``share`` of the objects are of the last class; ``background``: what its cells say."""
    cells = 500
    output = np.full((4, 5 + classes, cells), background, np.float32)
    output[:, :4] = rng.uniform(20, 600, (4, 4, cells))
    output[:, 4] = 0.01
    kinds = np.where(rng.random((4, 50)) < share, classes - 1, 0)
    output[:, 4, :50] = 0.9
    output[:, 5:, :50] = np.where(np.arange(classes)[:, None] == kinds[:, None], 0.95, 0.02)
    head = find_head({"output0": output})
    assert head is None or head.objectness
    assert head or classes == 2 or share > 0.9  # else the last column alone could say so


@pytest.mark.parametrize("largest", [0.1, 0.4, 0.8])
def test_corners_are_told_from_centre_and_size(largest: float) -> None:
    """Boxes all over an image of 640x640, some of which leave it."""
    output = np.zeros((4, 4 + CLASSES, 400), np.float32)
    centre, size = rng.uniform(0, 1, (4, 2, 400)), rng.uniform(0.02, largest, (4, 2, 400))
    output[:, 5, :3] = 0.9
    output[:, :4] = WIDTH * np.concatenate([centre, size], axis=1)
    head = find_head({"output0": output})
    assert head
    assert not head.corners
    output[:, :4] = WIDTH * np.concatenate([centre - size / 2, centre + size / 2], axis=1)
    head = find_head({"output0": output})
    assert head
    assert head.corners


def test_large_boxes_with_their_size_are_no_corners() -> None:
    output = np.zeros((4, 4 + CLASSES, 50), np.float32)
    output[:, :2] = rng.uniform(0.45, 0.5, (4, 2, 50))
    output[:, 2:4] = rng.uniform(0.8, 0.9, (4, 2, 50))
    output[:, 5, :3] = 0.9
    head = find_head({"output0": output})
    assert head
    assert not head.corners


def findings(content: bytes) -> FitReport:
    with pytest.warns(UserWarning, match="16 rows only"):
        cache = calibrate(content, DATA, "minmax")
    return fit(cache, content, DATA)


@pytest.mark.parametrize("kind", EXPORTS)
def test_one_scale_is_found_whether_the_head_is_known_or_not(kind: str) -> None:
    mixed = findings(made(kind)[0]).mixed
    if kind in APART:
        assert not mixed
        return
    assert mixed[0].codes <= 2
    ends = {name for one in mixed for name in (one.tensor, *one.also)}
    assert ends & {"output0", "dets"}
    assert "no Q/DQ on" in mixed[0].advice
    assert not findings(made(kind, 1.0)[0]).mixed


def walk(folder: Path, kind: str, **options: Any) -> Walk:
    path = folder / f"{kind}.onnx"
    path.write_bytes(made(kind)[0])
    return try_int8(path, DATA, algorithm="minmax", live=False, **options)


def as_labels(images: list[Detections]) -> dict[str, Any]:
    """The boxes of each image that have a high score, as a reader's labels."""
    most = max(len(one) for one in images)
    boxes, classes = np.zeros((len(images), most, 4)), np.full((len(images), most), -1)
    for row, one in enumerate(images):
        sure = one.scores > 0.25
        boxes[row, : sure.sum()], classes[row, : sure.sum()] = one.boxes[sure], one.classes[sure]
    return {"boxes": boxes, "classes": classes}


@pytest.mark.parametrize("kind", KNOWN)
def test_a_walk_judges_a_known_head(kind: str, tmp_path: Path) -> None:
    labels = as_labels(truth(kind)[1])
    result = walk(tmp_path, kind, labels=labels)
    exact, ours = result.answers[0], result.answer
    assert exact.boxes_matched == 1.0
    assert exact.map50 == pytest.approx(1, abs=1e-3)
    assert ours.boxes_matched is not None
    assert ours.map50 is not None
    assert f"of FP32's {ours.boxes} boxes" in result.verdict
    notes = " ".join(result.notes)
    assert ("columns that are neither boxes nor scores" in notes) == (KNOWN[kind][0] > 0)
    assert "no mAP50" not in notes
    assert "in FP32 already" not in notes


@pytest.mark.parametrize("kind", [kind for kind in EXPORTS if kind.split(",")[0] not in KNOWN])
def test_a_walk_says_that_it_does_not_know_a_head(kind: str, tmp_path: Path) -> None:
    labels = {"boxes": np.ones((16, 1, 4)), "classes": np.zeros((16, 1), int)}
    result = walk(tmp_path, kind, labels=labels)
    for one in result.answers:
        assert (one.boxes_matched, one.map50, one.agreement) == (None, None, None)
    assert "no detector's head that trtlearn knows" in result.verdict
    assert "no mAP50: the outputs are no detector's head" in " ".join(result.notes)
    selects = kind in ("ssd, nms", "ssd, ragged", "yolo26-obb")
    assert ("decides which values come out" in " ".join(result.notes)) == selects
    is_compared = "nothing could be compared" not in result.verdict
    assert is_compared == (not kind.startswith("ssd, "))


def test_an_export_that_names_its_classes_is_judged_by_them(tmp_path: Path) -> None:
    result = walk(tmp_path, "yolo11-seg, named", labels=as_labels(truth("yolo11-seg")[1]))
    assert result.answers[0].map50 == 1.0


@pytest.mark.parametrize("kind", ["yolo11-seg", "rt-detr", "yolo11-seg, named"])
def test_labels_of_other_classes_are_refused_before_calibration(kind: str, tmp_path: Path) -> None:
    labels, steps = as_labels(truth(kind.partition(",")[0])[1]), []
    labels["classes"][3, 0] = CLASSES
    if kind == "rt-detr":  # its list does not say how many classes there are
        assert walk(tmp_path, kind, labels=labels).answers[0].map50 < 1
        return
    with pytest.raises(DataError, match=r"go from -?\d to 6, the network knows the classes 0 to 5"):
        walk(tmp_path, kind, labels=labels, progress=steps.append)
    assert steps == ["look"]
    labels["classes"][:] = -1
    with pytest.raises(DataError, match="the labels name no object"):
        walk(tmp_path, kind, labels=labels)


def test_a_plugin_of_tensorrt_is_named(tmp_path: Path) -> None:
    """YOLOv7's and others' exports with NMS in the graph."""
    make = Maker()
    box, score = make.split(make.levels(4 + CLASSES, axis=1), [4, CLASSES], 2)
    ends = make("EfficientNMS_TRT", make.boxes(box, 2, WIDTH), make.scores(score), outputs=4)
    (tmp_path / "end2end.onnx").write_bytes(make.model(*ends))
    with pytest.raises(ModelError, match="only TensorRT runs EfficientNMS_TRT: export the network"):
        try_int8(tmp_path / "end2end.onnx", DATA, live=False)


def test_labels_in_another_form_are_pointed_out(tmp_path: Path) -> None:
    labels = as_labels(truth("yolo26")[1])
    labels["boxes"] /= WIDTH
    notes = " ".join(walk(tmp_path, "yolo26", labels=labels).notes)
    assert "mAP50 is 0.0 % in FP32 already" in notes
    notes = " ".join(walk(tmp_path, "yolo26", labels=np.zeros(16, int)).notes)
    assert "no mAP50: the labels are one class a row" in notes


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("seed", range(20))
def test_outputs_of_any_shape_and_size_are_looked_at(seed: int) -> None:
    """Tables of other numbers of rows, without rows, and as large as their type goes."""
    random = np.random.default_rng(seed)
    for _ in range(25):
        outputs = {}
        for name in ("boxes", "scores", "other")[: random.integers(1, 4)]:
            shape = random.choice([0, 1, 2, 3, 4, 5, 6, 20, 84], random.integers(1, 5))
            dtype = random.choice(["f2", "f4", "f8", "i8", "u1", "?"])
            largest = random.choice([1.0, 1.0, 60.0, 3e38]) if dtype in ("f4", "f8") else 1.0
            outputs[name] = (random.random(shape) * largest).astype(dtype)
        if head := find_head(outputs):
            assert len(head.detections(outputs)) == len(outputs[head.boxes.output])


def test_one_level_of_several_and_a_few_cells_are_no_head() -> None:
    outputs = outputs_of(made("yolo11-seg")[0])
    (name,) = (name for name, x in outputs.items() if x.shape[1] == 4 + CLASSES + 32)
    cells = outputs[name]
    assert find_head({name: cells}) is not None
    assert find_head({name: cells, "h16": cells[:, :, ::4], "h32": cells[:, :, ::16]}) is None
    assert find_head({name: cells[:, :, :30]}) is None  # fewer cells than columns


def test_without_a_box_in_fp32_the_walk_asks_for_other_images(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("trtlearn.model.detections.SURE", 1.1)
    result = walk(tmp_path, "yolov4")
    assert {(one.boxes, one.boxes_matched) for one in result.answers} == {(0, None)}
    assert "FP32 finds no box with a score above 0.25 in these 16 rows" in result.verdict
    assert "give images of what the detector knows" in result.verdict


def test_average_precision_is_the_area_under_precision_over_recall():
    right, scores = np.array([True, False, True]), np.array([0.9, 0.8, 0.7])
    assert average_precision(right, scores, 2) == pytest.approx(5 / 6)
