"""A detector's boxes and scores under one scale: found on made-up heads of the usual exports and on
the recorded detector; no alarm on classifiers, segmentation, hidden states.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

import trtlearn as tl
from recording.networks.measure import images_of, model_bytes
from recording.networks.one_scale import rounded
from trtlearn.calibration.cache import read_cache
from trtlearn.calibration.fitting import FitReport, fit
from trtlearn.calibration.network import calibrate
from trtlearn.course.own_model.records import EngineResult, Walk
from trtlearn.course.own_model.walk import try_int8
from trtlearn.errors import DataError
from trtlearn.files import data_dir
from trtlearn.model.course_data import load_images, model_path
from trtlearn.model.detections import Detections, Head, decode, find_head, share_matched
from trtlearn.model.run import activations
from trtlearn.recorded import detections

node = helper.make_node
RECORDED = data_dir() / "recordings" / "h200-8.6.0"
CLASSES, WIDTH = 6, 640.0
IMAGE = {"image": ["n", 3, 32, 32]}


def model(nodes: list[Any], outputs: dict[str, list[Any]], **weights: Any) -> bytes:
    graph = helper.make_graph(
        nodes,
        "made_up",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, IMAGE["image"])],
        [
            helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)
            for name, shape in outputs.items()
        ],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in weights.items()],
    )
    opsets = [helper.make_opsetid("", 13)]
    content: bytes = helper.make_model(
        graph, opset_imports=opsets, ir_version=8
    ).SerializeToString()
    return content


def convolution(
    name: str, stride: int, channels: int, rng: Any
) -> tuple[list[Any], dict[str, Any]]:
    """A convolution and its values as [n, channels, cells]."""
    weight = rng.normal(0, 0.5, (channels, 3, stride, stride)).astype(np.float32)
    nodes = [
        node("Conv", ["image", f"{name}.weight"], [f"{name}_map"], name, strides=[stride] * 2),
        node("Reshape", [f"{name}_map", f"{name}.shape"], [f"{name}_raw"]),
    ]
    cells = (32 // stride) ** 2
    return nodes, {f"{name}.weight": weight, f"{name}.shape": np.array([0, channels, cells])}


def decoding(name: str, width: float) -> tuple[list[Any], dict[str, Any]]:
    """Boxes up to ``width`` and scores from the raw values, as two tensors."""
    nodes = [
        node("Split", [f"{name}_raw", "sizes"], [f"{name}_box", f"{name}_logits"], axis=1),
        node("Sigmoid", [f"{name}_box"], [f"{name}_shares"]),
        node("Mul", [f"{name}_shares", "width"], [f"{name}_boxes"]),
        node("Sigmoid", [f"{name}_logits"], [f"{name}_scores"]),
    ]
    return nodes, {"sizes": np.array([4, CLASSES]), "width": np.float32(width)}


def head(kind: str, width: float = WIDTH) -> bytes:
    """A made-up network with the head of one kind of exports."""
    rng = np.random.default_rng(3)
    strides = (4, 8) if "strides" in kind else (4,)
    nodes, weights, levels = [], {}, []
    channels = 4 + CLASSES
    for stride in strides:
        name = f"s{stride}"
        for some, values in (convolution(name, stride, channels, rng), decoding(name, width)):
            nodes += some
            weights |= values
        levels.append(f"{name}_joined")
        if "rows" in kind:  # YOLOv5: every cell a row, parts joined along the last axis
            for part in ("boxes", "scores"):
                nodes.append(
                    node("Transpose", [f"{name}_{part}"], [f"{name}_{part}_r"], perm=[0, 2, 1])
                )
            nodes.append(
                node("Concat", [f"{name}_boxes_r", f"{name}_scores_r"], [levels[-1]], axis=2)
            )
        else:
            nodes.append(node("Concat", [f"{name}_boxes", f"{name}_scores"], [levels[-1]], axis=1))
    if kind == "two outputs":
        return model(
            nodes[:-1], {"s4_boxes": ["n", 4, 64], "s4_scores": ["n", CLASSES, 64]}, **weights
        )
    if kind == "no Concat":  # one factor a channel: nothing in the graph says what is a box
        factors = np.ones((1, channels, 1), np.float32)
        factors[:, :4] = width
        nodes = [
            *nodes[:2],
            node("Sigmoid", ["s4_raw"], ["all"]),
            node("Mul", ["all", "factors"], ["output0"]),
        ]
        return model(nodes, {"output0": ["n", channels, 64]}, factors=factors, **weights)
    end = {"perm": [0, 2, 1]} if "transposed" in kind else {}
    if len(strides) > 1:
        nodes.append(node("Concat", levels, ["output0"], axis=1 if "rows" in kind else 2))
    else:
        nodes.append(node("Transpose" if end else "Identity", levels, ["output0"], **end))
    return model(nodes, {"output0": ["n", None, None]}, **weights)


def images(rows: int = 8) -> Any:
    return np.random.default_rng(5).normal(size=(rows, 3, 32, 32)).astype(np.float32)


def findings(content: bytes, algorithm: str = "minmax", data: Any = None) -> FitReport:
    data = images() if data is None else data
    return fit(calibrate(content, data, algorithm), content, data)


KINDS = ("joined", "transposed", "rows", "strides", "strides, rows", "no Concat")


@pytest.mark.parametrize("kind", KINDS)
def test_boxes_in_pixels_beside_scores_are_found_without_being_told(kind: str) -> None:
    report = findings(head(kind))
    assert report.mixed
    assert not report.all_fit
    first = report.mixed[0]
    assert first.codes == 1  # 640 / 127 = 5.04 a step: every score becomes 0
    assert first.parts[0].high <= 1
    assert first.parts[-1].high > 500
    assert "leaves these scores 1 code of 255" in first.summary()
    assert "divide" in first.advice
    assert "no Q/DQ on" in first.advice
    assert first.summary() in report.summary()
    assert "output0" in (first.tensor, *first.also)
    assert FitReport.from_json(report.to_json()) == report
    if kind == "no Concat":
        assert [part.name for part in first.parts] == ["channels 4 to 9", "channels 0 to 3"]


@pytest.mark.parametrize("kind", ["joined", "transposed", "strides", "no Concat"])
def test_boxes_from_0_to_1_cure_it(kind: str) -> None:
    assert not findings(head(kind, 1.0)).mixed


def test_two_outputs_cure_it() -> None:
    assert not findings(head("two outputs")).mixed


EXPORTS = {  # name -> axis, objectness, corners of its head; None where its boxes are no boxes yet
    "v5": (2, True, False),
    "v5, one class": (2, True, False),
    "v5, turned": (1, True, False),
    "v8": (1, False, False),
    "v8, turned": (2, False, False),
    "yolox": (2, True, False),
    "yolox, undecoded": None,
    "yolo-nas": (2, False, True),
    "yolo-nas, joined": (2, False, True),
}


def export(kind: str, width: float = WIDTH) -> bytes:
    """The head of a popular export as its graph computes it, on made-up logits.

    Two levels of cells; most of them show nothing: low objectness where there is one, else low
    scores of all classes.
    """
    name, _, form = kind.partition(", ")
    rng = np.random.default_rng(7)
    objectness = name in ("v5", "yolox")
    classes = 1 if form == "one class" else CLASSES
    channels = 4 + objectness + classes
    gain = np.repeat(np.float32([0.35, 2]), [4, channels - 4]).reshape(1, -1, 1, 1)
    bias = np.zeros_like(gain)
    bias[:, 4 : 5 if objectness else None] = -5
    if classes == 1:
        bias[:, 5:] = 11  # YOLOv5 does not train the class of a network that has one
    weights: dict[str, Any] = {"gain": gain, "bias": bias, "width": np.float32(width)}
    weights |= {"two": np.float32(2), "half": np.float32(0.5), "size": np.float32(width / 8)}
    weights["rows"] = np.array([0, -1, channels])
    nodes, levels, grids = [], [], []
    for stride in (4, 8):
        some, values = convolution(f"s{stride}", stride, channels, rng)
        weights |= values
        weights[f"s{stride}.weight"] /= np.float32(0.5 * (3 * stride**2) ** 0.5)  # spread 1
        side = 32 // stride
        grid = np.stack(np.meshgrid(np.arange(side), np.arange(side)), -1).reshape(1, -1, 2)
        grids.append((grid + 0.5) * width / side)
        nodes += [some[0], node("Mul", [f"s{stride}_map", "gain"], [f"s{stride}_scaled"])]
        nodes.append(node("Add", [f"s{stride}_scaled", "bias"], [f"s{stride}_all"]))
        level = f"s{stride}_all"
        if name == "v5":  # sigmoid, decoded on each level, a cell's values last
            weights["parts"] = np.array([2, 2, 1 + classes])
            nodes += [
                node("Transpose", [level], [f"{level}_t"], perm=[0, 2, 3, 1]),
                node("Sigmoid", [f"{level}_t"], [f"{level}_s"]),
                node("Split", [f"{level}_s", "parts"], [f"{level}{i}" for i in range(3)], axis=3),
                node("Mul", [f"{level}0", "width"], [f"{level}_xy"]),
                node("Mul", [f"{level}1", "two"], [f"{level}_double"]),
                node("Pow", [f"{level}_double", "two"], [f"{level}_square"]),
                node("Mul", [f"{level}_square", "size"], [f"{level}_wh"]),
                node("Concat", [f"{level}_xy", f"{level}_wh", f"{level}2"], [f"{level}_y"], axis=3),
                node("Reshape", [f"{level}_y", "rows"], [f"{level}_rows"]),
            ]
            levels.append(f"{level}_rows")
            continue
        if name == "yolox":  # sigmoid of objectness and classes, joined with the raw box
            weights["parts"] = np.array([4, 1, classes])
            nodes += [
                node("Split", [level, "parts"], [f"{level}{i}" for i in range(3)], axis=1),
                node("Sigmoid", [f"{level}1"], [f"{level}_obj"]),
                node("Sigmoid", [f"{level}2"], [f"{level}_cls"]),
                node(
                    "Concat", [f"{level}0", f"{level}_obj", f"{level}_cls"], [f"{level}_y"], axis=1
                ),
            ]
            level = f"{level}_y"
        nodes.append(node("Reshape", [level, f"s{stride}.shape"], [f"{level}_flat"]))
        levels.append(f"{level}_flat")
    nodes.append(node("Concat", levels, ["all"], axis=1 if name == "v5" else 2))
    weights["grid"] = np.concatenate(grids, axis=1).astype(np.float32)
    last = "all"
    if name != "v5":
        weights["parts2"] = np.array([2, 2, channels - 4])
        nodes.append(node("Transpose", ["all"], ["raw"], perm=[0, 2, 1]))
        nodes.append(node("Split", ["raw", "parts2"], ["raw_xy", "raw_wh", "raw_s"], axis=2))
        if name != "yolox":
            nodes.append(node("Sigmoid", ["raw_s"], ["scores"]))
        nodes += [
            node("Mul", ["raw_xy", "size"], ["shift"]),
            node("Add", ["shift", "grid"], ["xy"]),
            node("Exp", ["raw_wh"], ["factor"]),
            node("Mul", ["factor", "size"], ["wh"]),
        ]
        box, scores = ["xy", "wh"], "raw_s" if name == "yolox" else "scores"
        if name == "yolo-nas":
            nodes += [
                node("Mul", ["wh", "half"], ["side"]),
                node("Sub", ["xy", "side"], ["low"]),
                node("Add", ["xy", "side"], ["high"]),
                node("Concat", ["low", "high"], ["boxes"], axis=2),
            ]
            if not form:
                shapes = {"boxes": ["n", None, 4], "scores": ["n", None, classes]}
                return model(nodes, shapes, **weights)
            box = ["low", "high"]
        last = "raw"
        if form != "undecoded":
            nodes.append(node("Concat", [*box, scores], ["joined"], axis=2))
            last = "joined"
    turned = (name == "v8") != (form == "turned") if name in ("v5", "v8") else False
    end = {"perm": [0, 2, 1]} if turned else {}
    nodes.append(node("Transpose" if end else "Identity", [last], ["output0"], **end))
    return model(nodes, {"output0": ["n", None, None]}, **weights)


@pytest.mark.parametrize("kind", EXPORTS)
def test_the_head_of_popular_exports_is_known_and_their_one_scale_found(kind: str) -> None:
    content, data = export(kind), images(32)
    outputs = next(activations(content, [data]))
    names = [value.name for value in onnx.load_from_string(content).graph.output]
    found = find_head({name: outputs[name] for name in names})
    form = EXPORTS[kind]
    assert (found and (found.boxes.axis, found.objectness, found.corners)) == form
    if found:
        joined = found.joined(outputs)
        classes = 1 if kind == "v5, one class" else CLASSES
        assert joined.shape == (32, 4 + classes, 64 + 16)
        cells = np.moveaxis(outputs[found.scores.output], found.scores.axis, 1)
        scores = cells[:, 0 if found.scores.output == "scores" else 4 :]
        wanted = scores[:, :1] * scores[:, 1:] if found.objectness else scores
        np.testing.assert_array_equal(joined[:, 4:], wanted)
        assert (joined[:, 2:4] > 0).all()
        centres = joined[:, :2].mean(axis=(0, 2))
        np.testing.assert_allclose(centres, WIDTH / 2, rtol=0.1)
    mixed = findings(content, data=data).mixed
    if kind in ("yolo-nas", "yolox, undecoded"):  # scores alone, or beside small offsets
        assert not mixed
        return
    assert mixed[0].codes == 1
    assert "leaves these scores 1 code of 255" in mixed[0].summary()
    assert "divide" in mixed[0].advice
    assert "an output each" in mixed[0].advice
    assert "output0" in {name for one in mixed for name in (one.tensor, *one.also)}
    assert not findings(export(kind, 1.0), data=data).mixed


def test_one_class_without_objects_is_no_objectness() -> None:
    """YOLOv8's first class is absent, rare, or often taken for another one."""
    rng = np.random.default_rng(2)
    for first in (0.001, 0.3, 0.9):
        output = np.full((4, 4 + CLASSES, 500), 0.001, np.float32)
        output[:, :4] = rng.uniform(20, 600, (4, 4, 500))
        output[:, 4, :20] = first
        output[:, 5, :20] = min(first * 2, 0.2)
        output[:, 6, 100:140] = 0.95
        found = find_head({"output0": output})
        assert found is not None
        assert not found.objectness
        assert found.joined({"output0": output}).shape == output.shape


def test_points_between_scores_are_found() -> None:
    """A pose: box, score, then x, y and visibility of each point; no Concat."""
    factors = np.array([640.0] * 4 + [1] + [640, 640, 1] * 3, np.float32).reshape(1, -1, 1)
    nodes, weights = convolution("c", 4, factors.size, np.random.default_rng(0))
    nodes += [node("Sigmoid", ["c_raw"], ["all"]), node("Mul", ["all", "factors"], ["output0"])]
    found = findings(model(nodes, {"output0": ["n", None, 64]}, factors=factors, **weights)).mixed
    assert found[0].parts[0].name == "channels 4, 7, 10, 13"


def _end(make: Callable[[], list[Any]], outputs: dict[str, list[Any]], **more: Any) -> bytes:
    nodes, weights = convolution("c", 4, 21, np.random.default_rng(1))
    return model(nodes + make(), outputs, **weights, **more)


def segmentation() -> bytes:
    """Logits [n,21,8,8], one class of them twenty times as large as another."""
    factors = np.geomspace(0.05, 40, 21).astype(np.float32).reshape(1, -1, 1, 1)
    make = [node("Mul", ["c_map", "factors"], ["logits"])]
    return _end(lambda: make, {"logits": ["n", 21, 8, 8]}, factors=factors)


def flat_segmentation() -> bytes:
    factors = np.geomspace(0.05, 40, 21).astype(np.float32).reshape(1, -1, 1)
    make = [node("Mul", ["c_raw", "factors"], ["logits"])]
    return _end(lambda: make, {"logits": ["n", 21, 64]}, factors=factors)


def features() -> bytes:
    """A map of features [n,21,8,8] from 0 on, some channels small, some large."""
    factors = np.geomspace(0.05, 40, 21).astype(np.float32).reshape(1, -1, 1, 1)
    make = [node("Relu", ["c_map"], ["from_0"]), node("Mul", ["from_0", "factors"], ["features"])]
    return _end(lambda: make, {"features": ["n", 21, 8, 8]}, factors=factors)


def probabilities() -> bytes:
    return _end(lambda: [node("Softmax", ["c_raw"], ["shares"], axis=1)], {"shares": ["n", 21, 64]})


def skip_connection() -> bytes:
    """A U-Net's Concat, one part eight times as large as the other."""
    make = [
        node("Mul", ["c_map", "eight"], ["large"]),
        node("Concat", ["c_map", "large"], ["both"], axis=1),
    ]
    return _end(lambda: make, {"both": ["n", 42, 8, 8]}, eight=np.float32(8))


def hidden_states() -> bytes:
    """A transformer's output [n,64,21] with one channel that is always large."""
    factors = np.ones((1, 21, 1), np.float32)
    factors[:, 7] = 60
    make = [
        node("Mul", ["c_raw", "factors"], ["scaled"]),
        node("Transpose", ["scaled"], ["states"], perm=[0, 2, 1]),
    ]
    return _end(lambda: make, {"states": ["n", 64, 21]}, factors=factors)


def two_classifiers() -> bytes:
    """Two groups of logits joined, [n,42]."""
    make = [
        node("ReduceMean", ["c_raw"], ["one"], axes=[2], keepdims=0),
        node("ReduceMax", ["c_raw"], ["other"], axes=[2], keepdims=0),
        node("Concat", ["one", "other"], ["logits"], axis=1),
    ]
    return _end(lambda: make, {"logits": ["n", 42]})


MADE = (
    segmentation,
    flat_segmentation,
    features,
    probabilities,
    skip_connection,
    hidden_states,
    two_classifiers,
)


@pytest.mark.parametrize("make", MADE, ids=lambda make: make.__name__)
def test_no_false_alarm(make: Callable[[], bytes]) -> None:
    content = make()
    assert not findings(content).mixed
    outputs = next(activations(content, [images()]))
    last = onnx.load_from_string(content).graph.output[0].name
    assert find_head({last: outputs[last]}) is None


@pytest.mark.parametrize("name", ["photo", "resnet", "mobile", "vit"])
def test_no_false_alarm_on_the_courses_classifiers(name: str) -> None:
    data = load_images("calibration", name)[0][:8]
    report = fit(calibrate(model_path(name), data, "minmax"), model_path(name), data)
    assert not report.mixed
    assert report.all_fit


def scenes(count: int, split: str = "test") -> tuple[Any, dict[str, Any]]:
    data, truth = images_of("detector", split)
    return data[:count], {name: values[:count] for name, values in truth.items()}


def test_the_detectors_own_cache_says_what_was_measured() -> None:
    data, _ = scenes(16)
    cache = RECORDED / "detector" / "int8-minmax.cache"
    found = {one.tensor: one for one in fit(cache, model_path("detector"), data).mixed}
    assert list(found)[:2] == ["output0", "h8_both"]
    study = json.loads((RECORDED / "networks" / "one-scale.json").read_text(encoding="utf-8"))
    rows = {
        tuple(row["rounded"]): row
        for row in study["trials"]
        if row.get("rounded") and row["model"] == "detector"
    }
    assert found["output0"].codes == rows["output0",]["distinct_scores"] == 2
    assert "levels" in found["h8_both"].also
    for names in (("output0",), ("h8_both", "h16_both"), ("levels",)):
        assert rows[names]["map50"] < 0.97
    for names in (("boxes", "scores"), ("h8_box", "h16_box", "h8_class", "h16_class")):
        assert rows[names]["map50"] > 0.97


def test_a_walk_judges_a_detector_by_its_boxes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data, truth = scenes(16)
    calls: list[int] = []

    def counted(head: Head, *arguments: Any) -> list[Detections]:
        calls.append(1)
        return detect(head, *arguments)

    detect = Head.detections
    monkeypatch.setattr(Head, "detections", counted)
    walk = try_int8(
        model_path("detector"), data, labels=truth, algorithm="minmax", out=tmp_path, live=False
    )
    assert len(calls) == len(walk.answers), "each way's boxes are decoded once, FP32's too"
    exact, ours = walk.answers[0], walk.answer
    assert (exact.boxes_matched, exact.agreement) == (1.0, None)
    assert ours.boxes_matched is not None
    assert ours.map50 is not None
    assert ours.boxes_matched > 0.95
    assert ours.map50 > 0.93
    assert "of FP32's 56 boxes" in walk.verdict
    build = tl.network("detector", mode="recorded").build("int8-minmax")
    verdict = replace(walk, live=(EngineResult(build, ours),)).verdict
    assert verdict.startswith("The engine that TensorRT built here with minmax ranges finds ")
    assert f"mAP50 {100 * ours.map50:.1f} %" in verdict.split("Simulated")[0]
    assert "answers" not in verdict
    assert {one.tensor for one in walk.mixed} >= {"output0", "h8_both"}
    assert "The Q/DQ model written here has no pair there" in walk.notes[0]
    assert "mixes ranges" in Path(walk.files["report"]).read_text(encoding="utf-8")
    assert Walk.from_json(walk.to_json()) == walk
    again = try_int8(
        model_path("detector"), data, labels=walk.files["labels"], algorithm="minmax", live=False
    )
    assert again.answers == walk.answers
    with pytest.raises(DataError, match="expected"):
        try_int8(model_path("detector"), data, labels={"boxes": truth["boxes"]}, live=False)
    short = {name: values[:3] for name, values in truth.items()}
    with pytest.raises(DataError, match="whole numbers"):
        try_int8(model_path("detector"), data, labels=short, live=False)


def test_one_scale_costs_scores_that_sqnr_does_not_show() -> None:
    data, _ = scenes(16)
    scales = read_cache(RECORDED / "detector" / "int8-minmax.cache")
    whole = onnx.load_from_string(model_bytes("detector"))
    exact, coarse = (
        next(activations(one, [data], ["output0"]))["output0"]
        for one in (whole, rounded(whole, ("output0",), scales))
    )
    error = 20 * np.log10(np.linalg.norm(exact) / np.linalg.norm(exact - coarse))
    assert error > 35  # 40 dB are an error of 1 %: nothing to see
    assert len(np.unique(coarse[:, 4:])) == 2
    assert set(np.concatenate([one.scores for one in decode(coarse)])) == {
        np.float32(scales["output0"])
    }


def test_boxes_of_recorded_engines_are_matched() -> None:
    exact = detections("detector", "fp32")
    assert share_matched(exact, exact) == 1
    assert share_matched(exact, detections("detector", "int8-minmax")) > 0.99
    assert share_matched(exact, detections("detector", "qdq-everywhere")) < 0.9
    assert (
        share_matched(
            exact, [Detections(*(part[:0] for part in vars(one).values())) for one in exact]
        )
        == 0
    )


@pytest.mark.parametrize(
    "name", ["detector-transposed", "detector-two-outputs", "detector-normalised"]
)
def test_the_head_is_found_in_every_form(name: str) -> None:
    data, _ = scenes(8)
    content = onnx.load_from_string(model_bytes(name))
    names = [value.name for value in content.graph.output]
    outputs = next(activations(content, [data], names))
    found = find_head(outputs)
    assert found is not None
    exact = next(activations(model_path("detector"), [data], ["output0"]))["output0"]
    joined = found.joined(outputs)
    assert joined.shape == exact.shape
    np.testing.assert_allclose(joined[:, 4:], exact[:, 4:], atol=1e-5)


@pytest.mark.parametrize("verb", ["fit", "walk"])
def test_the_command_line_says_it(verb: str, run: Any, tmp_path: Path) -> None:
    (tmp_path / "yolo.onnx").write_bytes(head("transposed"))
    np.save(tmp_path / "images.npy", images())
    files = [tmp_path / "yolo.onnx", tmp_path / "images.npy"]
    if verb == "fit":
        calibrate(head("transposed"), images(), "minmax").save(tmp_path / "yolo.cache")
        status, expected, options = 1, "s4_joined", [tmp_path / "yolo.cache"]
    else:
        status, expected, options = 0, "s4_joined", ["--no-live", "-o", tmp_path / "out"]
    arguments = [verb, *options, *files] if verb == "fit" else [verb, *files, *options]
    code, out, _ = run(*arguments)
    assert code == status
    assert "mixes ranges" in out
    code, out, _ = run(*arguments, "--json")
    assert code == status
    assert json.loads(out)["mixed"][0]["tensor"] == expected
