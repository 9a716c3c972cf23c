"""Made-up detectors: the heads of popular exports, as their graphs compute them, on random logits.

Two levels of cells, 8x8 and 4x4 of an image of 32x32; most cells show nothing.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

CLASSES, WIDTH, CELLS, BEST = 6, 640.0, 80, 20


class Maker:
    """A graph in the making: a call adds a node and gives its output's name."""

    def __init__(self, opset: int = 13, constants: bool = False) -> None:
        self.nodes: list[Any] = []
        self.weights: list[Any] = []
        self.opset, self.constants = opset, constants
        self.truth: dict[str, str] = {}  # the tensors with all boxes' centres and sizes, and scores

    def __call__(self, op: str, *inputs: Any, outputs: int = 1, **attributes: Any) -> Any:
        names = [x if isinstance(x, str) else self._constant(np.asarray(x)) for x in inputs]
        own = [f"{op.lower()}_{len(self.nodes)}_{i}" for i in range(outputs)]
        self.nodes.append(helper.make_node(op, names, own, own[0], **attributes))
        return own[0] if outputs == 1 else own

    def _constant(self, value: Any) -> str:
        name = f"value_{len(self.nodes)}_{len(self.weights)}"
        tensor = numpy_helper.from_array(value, name)
        if self.constants:
            self.nodes.append(helper.make_node("Constant", [], [name], name, value=tensor))
        else:
            self.weights.append(tensor)
        return name

    def split(self, values: str, sizes: list[int], axis: int) -> list[str]:
        """Its parts: before opset 13 their sizes are an attribute."""
        if self.opset < 13:
            return self("Split", values, outputs=len(sizes), axis=axis, split=sizes)  # type: ignore[no-any-return]
        return self("Split", values, np.array(sizes), outputs=len(sizes), axis=axis)  # type: ignore[no-any-return]

    def levels(self, channels: int, axis: int = 2, image: str = "image") -> str:
        """[n, channels, 80], or turned with ``axis`` 1: two convolutions, values of spread 1."""
        rng, flat = np.random.default_rng(7), []
        for stride in (4, 8):
            weight = rng.normal(size=(channels, 3, stride, stride)) / (3 * stride**2) ** 0.5
            level = self("Conv", image, weight.astype(np.float32), strides=[stride] * 2)
            if axis == 2:
                flat.append(self("Reshape", level, np.array([0, channels, -1])))
            else:
                rows = self("Transpose", level, perm=[0, 2, 3, 1])
                flat.append(self("Reshape", rows, np.array([0, -1, channels])))
        return self("Concat", *flat, axis=axis)  # type: ignore[no-any-return]

    def boxes(self, raw: str, axis: int, width: float, corners: bool = False) -> str:
        """Boxes around the cells' centres from four raw values each."""
        grids = []
        for side in (8, 4):
            places = np.stack(np.meshgrid(np.arange(side), np.arange(side))).reshape(2, -1)
            grids.append((places + 0.5) / side)
        grid = np.float32(width) * np.concatenate(grids, axis=1)[None].astype(np.float32)
        grid = grid if axis == 1 else grid.transpose(0, 2, 1)
        place, size = self.split(raw, [2, 2], axis)
        small = np.float32(width / 16)
        centre = self("Add", self("Mul", self("Tanh", place), small), grid)
        size = self("Mul", self("Exp", self("Mul", size, np.float32(0.3))), small)
        self.truth |= {"centre": centre, "size": size}
        if not corners:
            return self("Concat", centre, size, axis=axis)  # type: ignore[no-any-return]
        half = self("Mul", size, np.float32(0.5))
        low, high = self("Sub", centre, half), self("Add", centre, half)
        return self("Concat", low, high, axis=axis)  # type: ignore[no-any-return]

    def scores(self, raw: str, bias: float = 5) -> str:
        """From 0 to 1, low in most cells."""
        logits = self("Sub", self("Mul", raw, np.float32(2.5)), np.float32(bias))
        self.truth["scores"] = self("Sigmoid", logits)
        return self.truth["scores"]

    def best(self, boxes: str, scores: str, *more: str) -> list[str]:
        """Of rows [n, 80, ...] the 20 with the best scores: boxes, scores, classes and more."""
        top = self("ReduceMax", scores, axes=[2], keepdims=0)
        _, rows = self("TopK", top, np.array([BEST]), outputs=2, axis=1)
        places = self("Unsqueeze", rows, np.array([2]))
        chosen = [self("GatherND", one, places, batch_dims=1) for one in (boxes, scores, *more)]
        value = self("ReduceMax", chosen[1], axes=[2], keepdims=1)
        number = self("ArgMax", chosen[1], axis=2, keepdims=1)
        return [chosen[0], value, number, *chosen[2:]]

    def model(self, *outputs: str, called: tuple[str, ...] = (), **stated: str) -> bytes:
        """The model as bytes; ``stated``: its metadata."""
        names = called or tuple(f"output{i}" for i in range(len(outputs)))
        ends = [helper.make_node("Identity", [x], [y]) for x, y in zip(outputs, names, strict=True)]
        image = helper.make_tensor_value_info("image", TensorProto.FLOAT, ["n", 3, 32, 32])
        whole = {"labels": TensorProto.INT64, "selected": TensorProto.INT64}
        values = [
            helper.make_tensor_value_info(y, whole.get(y, TensorProto.FLOAT), None) for y in names
        ]
        graph = helper.make_graph(self.nodes + ends, "made_up", [image], values, self.weights)
        opsets = [helper.make_opsetid("", self.opset)]
        content = helper.make_model(graph, opset_imports=opsets, ir_version=8)
        helper.set_model_props(content, stated)
        return onnx.shape_inference.infer_shapes(content).SerializeToString()  # type: ignore[no-any-return]


def _behind(count: int, kind: str, **stated: str) -> Any:
    """YOLOv8's head with ``count`` columns behind the scores."""

    def build(make: Maker, width: float) -> bytes:
        classes = 1 if kind == "points" else CLASSES
        box, score, more = make.split(make.levels(4 + classes + count), [4, classes, count], 1)
        boxes, scores = make.boxes(box, 1, width), make.scores(score)
        if kind == "points":  # x, y and a score each, around the box's centre
            x_y = make.split(boxes, [2, 2], 1)[0]
            groups = []
            for part in make.split(more, [3] * (count // 3), 1):
                shift, seen = make.split(part, [2, 1], 1)
                shift = make("Mul", make("Tanh", shift), np.float32(width / 16))
                groups += [make("Add", x_y, shift), make("Sigmoid", seen)]
            more = make("Concat", *groups, axis=1)
        if kind == "angle":
            more = make(
                "Mul", make("Sub", make("Sigmoid", more), np.float32(0.25)), np.float32(3.14)
            )
        whole = [make("Concat", boxes, scores, more, axis=1)]
        if kind == "masks":
            weight = np.random.default_rng(1).normal(0, 0.1, (count, 3, 4, 4)).astype(np.float32)
            whole.append(make("Conv", "image", weight, strides=[4, 4]))
        return make.model(*whole, **stated)

    return build


def _listed(more: int, corners: bool = True) -> Any:
    """YOLOv10's and YOLO26's list: box, score, class, and ``more`` columns."""

    def build(make: Maker, width: float) -> bytes:
        raw = make.levels(4 + CLASSES + more, axis=1)
        box, score, *rest = make.split(raw, [4, CLASSES, *([more] if more else [])], 2)
        boxes, scores = make.boxes(box, 2, width, corners), make.scores(score)
        box, value, number, *rest = make.best(boxes, scores, *rest)
        number = make("Cast", number, to=TensorProto.FLOAT)
        return make.model(make("Concat", box, value, number, *rest, axis=2))

    return build


def _two(kind: str) -> Any:
    """Boxes and scores apart: YOLOv4's, RT-DETR's list, DETR's logits, SSD's background class."""

    def build(make: Maker, width: float) -> bytes:
        corners = kind not in ("logits", "background last")
        box, score = make.split(make.levels(4 + CLASSES, axis=1), [4, CLASSES], 2)
        boxes = make.boxes(box, 2, width, corners)
        if kind == "logits":
            return make.model(score, boxes, called=("pred_logits", "pred_boxes"))
        if kind.startswith("background"):
            biases = np.zeros((1, 1, CLASSES), np.float32)
            biases[..., 0 if kind == "background first" else -1] = 4
            shares = make("Softmax", make("Add", score, biases), axis=2)
            return make.model(shares, boxes, called=("scores", "boxes"))
        scores = make.scores(score)
        if kind == "yolov4":
            apart = make("Unsqueeze", boxes, np.array([2]))
            return make.model(apart, scores, called=("boxes", "confs"))
        box, value, number = make.best(boxes, scores)
        labels, values = (make("Squeeze", x, np.array([2])) for x in (number, value))
        if kind == "rt-detr":
            return make.model(labels, box, values, called=("labels", "boxes", "scores"))
        return make.model(
            make("Concat", box, value, axis=2), labels, called=("dets", "labels")
        )  # mmdeploy

    return build


def _nms(make: Maker, width: float) -> bytes:
    """SSD's end: NonMaxSuppression, and the boxes and scores that it selects."""
    box, score = make.split(make.levels(4 + CLASSES, axis=1), [4, CLASSES], 2)
    boxes, scores = make.boxes(box, 2, width, corners=True), make.scores(score)
    turned = make("Transpose", scores, perm=[0, 2, 1])
    limits = np.array([5]), np.float32([0.5]), np.float32([0.2])
    selected = make("NonMaxSuppression", boxes, turned, *limits)
    places = make("Gather", selected, np.array([0, 2]), axis=1)
    chosen = make("GatherND", boxes, places)
    value = make("GatherND", turned, selected)
    return make.model(chosen, value, selected, called=("boxes", "scores", "selected"))


def _ragged(make: Maker, width: float) -> bytes:
    """The same, boxes alone and turned: [4, M], M by the values, so batches have no common shape."""
    model = onnx.load_from_string(_nms(make, width))
    boxes = model.graph.node[-3].input[0]
    return make.model(make("Transpose", boxes, perm=[1, 0]), called=("boxes",))


def _in_front(make: Maker, width: float) -> bytes:
    """Scores before the box."""
    score, box = make.split(make.levels(CLASSES + 4), [CLASSES, 4], 1)
    scores, boxes = make.scores(score), make.boxes(box, 1, width, corners=True)
    return make.model(make("Concat", scores, boxes, axis=1))


def _one_sigmoid(make: Maker, width: float) -> bytes:
    """No Concat of boxes and scores: one Sigmoid, then a factor for each channel."""
    bias = np.repeat(np.float32([0, -6]), [4, CLASSES]).reshape(1, -1, 1)
    factor = np.repeat(np.float32([width, 1]), [4, CLASSES]).reshape(1, -1, 1)
    raw = make("Mul", make.levels(4 + CLASSES), np.float32(2.5))
    return make.model(make("Mul", make("Sigmoid", make("Add", raw, bias)), factor))


def _map(anchors: bool, make: Maker, width: float) -> bytes:
    """One level as it comes from a convolution, [n, channels, 8, 8], or with three anchors."""
    count = 3 if anchors else 1
    bias = np.tile(np.repeat(np.float32([0, -6]), [4, CLASSES]), count).reshape(1, -1, 1, 1)
    factor = np.tile(np.repeat(np.float32([width, 1]), [4, CLASSES]), count).reshape(1, -1, 1, 1)
    weight = np.random.default_rng(9).normal(0, 0.3, (bias.size, 3, 4, 4)).astype(np.float32)
    raw = make("Conv", "image", weight, strides=[4, 4])
    values = make("Mul", make("Sigmoid", make("Add", raw, bias)), factor)
    if anchors:
        values = make("Reshape", values, np.array([0, count, 4 + CLASSES, 8, 8]))
        values = make("Transpose", values, perm=[0, 1, 3, 4, 2])
    return make.model(values)


def _landmarks(make: Maker, width: float) -> bytes:
    """YOLOv5-face: box, objectness, five points, class."""
    box, score, more = make.split(make.levels(16), [4, 2, 10], 1)
    boxes, scores = make.boxes(box, 1, width), make.scores(score)
    objectness, kind = make.split(scores, [1, 1], 1)
    points = make("Mul", make("Sigmoid", more), np.float32(width))
    return make.model(make("Concat", boxes, objectness, points, kind, axis=1))


NAMED = {"task": "segment", "names": str({i: f"thing {i}" for i in range(CLASSES)})}
EXPORTS = {
    "yolo11-seg": _behind(32, "masks"),
    "yolo11-seg, named": _behind(32, "masks", **NAMED),
    "yolo11-pose": _behind(51, "points"),
    "yolo11-obb": _behind(1, "angle"),
    "yolo26": _listed(0),
    "yolo26-seg": _listed(32),
    "yolo26-obb": _listed(1, corners=False),
    "yolov4": _two("yolov4"),
    "rt-detr": _two("rt-detr"),
    "mmdeploy": _two("mmdeploy"),
    "detr": _two("logits"),
    "detr, softmax": _two("background last"),
    "ssd": _two("background first"),
    "ssd, nms": _nms,
    "ssd, ragged": _ragged,
    "scores first": _in_front,
    "one sigmoid": _one_sigmoid,
    "one map": partial(_map, False),
    "anchors": partial(_map, True),
    "yolov5-face": _landmarks,
}
