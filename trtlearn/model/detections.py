"""What a detector's output holds and how good it is: boxes above a score, NMS, mAP (numpy only).

The output has the form of Ultralytics' exports: [N, 4 + classes, cells], where a cell's first four
values are a box (cx, cy, w, h) in pixels and the others its score for each class.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from .arrays import Array

__all__ = [
    "Detections",
    "Head",
    "average_precision",
    "decode",
    "find_head",
    "hits",
    "mean_ap",
    "overlap",
    "share_matched",
    "unpack",
]

LEAST_SCORE = 0.05
OVERLAP = 0.5  # NMS drops a box that overlaps a better one of its class by more
MATCHED = 0.5  # from this overlap on a box hits an object, or another box
MOST = 30  # boxes of an image
CANDIDATES = 1000  # of an image, by score: more cells than that do not reach NMS
SURE = 0.25  # a box with a higher score counts as detected
BOX = 4  # values of a box


@dataclass(frozen=True, eq=False)
class Detections:
    """One image's boxes, the best first.

    ``boxes`` float32 [M,4] (cx, cy, w, h) in pixels, ``scores`` [M] from 0 to 1, ``classes`` [M].
    """

    boxes: Array
    scores: Array
    classes: Array

    def __len__(self) -> int:
        return len(self.scores)


def overlap(one: Array, other: Array) -> Array:
    """Intersection over union of boxes (cx, cy, w, h): [M,4] and [K,4] to [M,K].

    It is 0 for a box without area.

    >>> overlap(np.array([[1.0, 1, 2, 2]]), np.array([[2.0, 1, 2, 2], [9, 9, 2, 2]])).round(3)
    array([[0.333, 0.   ]])
    """
    a, b = one[:, None].astype(np.float64), other[None].astype(np.float64)
    low = np.maximum(a[..., :2] - a[..., 2:] / 2, b[..., :2] - b[..., 2:] / 2)
    high = np.minimum(a[..., :2] + a[..., 2:] / 2, b[..., :2] + b[..., 2:] / 2)
    both = np.clip(high - low, 0, None).prod(-1)
    either = a[..., 2:].clip(0).prod(-1) + b[..., 2:].clip(0).prod(-1) - both
    shares: Array = np.divide(both, either, out=np.zeros_like(both), where=either > 0)
    return shares


def _suppress(boxes: Array, scores: Array, classes: Array, most: int) -> list[int]:
    """Non-maximum suppression, class by class: the rows that stay, the best first."""
    order = np.argsort(-scores, kind="stable")
    shares = overlap(boxes, boxes)
    stay: list[int] = []
    for row in order:
        rivals = [other for other in stay if classes[other] == classes[row]]
        if len(stay) < most and not (shares[row, rivals] > OVERLAP).any():
            stay.append(int(row))
    return stay


def decode(output: Array, least: float = LEAST_SCORE, most: int = MOST) -> list[Detections]:
    """The boxes of each image in a detector's output [N, 4 + classes, cells].

    A cell counts with its best class where that score is above ``least``. Of boxes of one class
    that overlap by more than half, the best stays, up to ``most`` boxes an image. Cells with NaN or
    infinity do not count.

    >>> output = np.zeros((1, 6, 2), np.float32)
    >>> output[0, :, 0] = 10, 10, 8, 8, 0.9, 0.1  # a box of class 0; the other cell has score 0
    >>> first = decode(output)[0]
    >>> first.boxes.tolist(), first.classes.tolist()
    ([[10.0, 10.0, 8.0, 8.0]], [0])
    """
    images = []
    for one in np.asarray(output, np.float32):
        sound = np.isfinite(one).all(axis=0)
        best = np.where(sound, one[4:].argmax(axis=0), 0)
        scores = np.where(sound, one[4:].max(axis=0), 0)
        rows = np.flatnonzero(scores > least)
        if len(rows) > CANDIDATES:
            rows = np.sort(rows[np.argsort(-scores[rows], kind="stable")[:CANDIDATES]])
        boxes, scores, best = one[:4, rows].T, scores[rows], best[rows]
        stay = _suppress(boxes, scores, best, most)
        images.append(Detections(boxes[stay], scores[stay], best[stay].astype(np.int64)))
    return images


def average_precision(right: Array, scores: Array, count: int) -> float:
    """The area under precision over recall, all points; NaN where there are no objects.

    ``right``: which detections hit an object, of ``count`` objects.

    >>> average_precision(np.array([True, False, True]), np.array([0.9, 0.8, 0.7]), 2)
    0.8333333333333333
    """
    if not count:
        return float("nan")
    hits = np.cumsum(right[np.argsort(-scores, kind="stable")])
    recall = np.concatenate([[0.0], hits / count])
    precision = hits / np.arange(1, len(hits) + 1)
    best = np.maximum.accumulate(precision[::-1])[::-1]
    return float(np.sum(np.diff(recall) * best))


def mean_ap(detections: Sequence[Detections], boxes: Array, classes: Array) -> float:
    """mAP50: the mean over classes of the average precision, where half an overlap is right.

    Args:
        detections: one an image.
        boxes, classes: the objects that the images show, [N,K,4] and [N,K], -1 where there is none.
    """
    right = [hits(*image) for image in zip(detections, boxes, classes, strict=True)]
    flags = np.concatenate([np.zeros(0, bool), *right])
    scores = np.concatenate([np.zeros(0), *(one.scores for one in detections)])
    kinds = np.concatenate([np.zeros(0, int), *(one.classes for one in detections)])
    precisions = []
    for kind in sorted(set(classes[classes >= 0].tolist())):
        mine, count = kinds == kind, int((classes == kind).sum())
        precisions.append(average_precision(flags[mine], scores[mine], count))
    return float(np.mean(precisions))


def hits(one: Detections, boxes: Array, classes: Array) -> Array:
    """Which of an image's detections hit an object of their class that no better one has hit.

    ``boxes`` [K,4], ``classes`` [K]: the objects; a class of -1 stands for none. bool [M].
    """
    right = np.zeros(len(one), bool)
    for kind in set(one.classes.tolist()):
        mine = np.flatnonzero(one.classes == kind)
        shares = overlap(one.boxes[mine], boxes[classes == kind])
        for place, row in zip(mine, shares, strict=True):
            if row.size and row.max() >= MATCHED:
                right[place] = True
                shares[:, row.argmax()] = -1  # the object is taken
    return right


def share_matched(
    reference: Sequence[Detections], detections: Sequence[Detections]
) -> float | None:
    """Share of the reference's boxes with a score above 0.25 that ``detections`` hold, too.

    A box holds another of its class that it overlaps by half or more, whatever its score. None
    where the reference has no such box.
    """
    matched: list[bool] = []
    for wanted, one in zip(reference, detections, strict=True):
        sure = wanted.scores > SURE
        shares = overlap(wanted.boxes[sure], one.boxes)
        same = wanted.classes[sure][:, None] == one.classes[None]
        matched += ((shares >= MATCHED) & same).any(axis=1).tolist()
    return float(np.mean(matched)) if matched else None


@dataclass(frozen=True)
class Head:
    """Where a network's outputs hold boxes and scores: one output with both, or one of each.

    ``axis``: that of a cell's values, 1 for [N, 4 + classes, cells]; ``objectness``: the first
    score says that there is an object, the others which one; ``corners``: a box is (left, top,
    right, bottom).
    """

    boxes: str
    scores: str
    axis: int
    objectness: bool = False
    corners: bool = False

    def joined(self, outputs: Mapping[str, Array]) -> Array:
        """The outputs as :func:`decode` takes them: [N, 4 + classes, cells].

        Scores are multiplied by the objectness, corners become (cx, cy, w, h).
        """
        parts = [outputs[name] for name in dict.fromkeys((self.boxes, self.scores))]
        values = np.concatenate([np.moveaxis(part, self.axis, 1) for part in parts], axis=1)
        boxes, scores = values[:, :BOX], values[:, BOX:]
        if self.corners:
            low, high = boxes[:, :2], boxes[:, 2:]
            boxes = np.concatenate([(low + high) / 2, high - low], axis=1)
        if self.objectness:
            scores = scores[:, 1:] * scores[:, :1]
        return np.concatenate([boxes, scores], axis=1)


def find_head(outputs: Mapping[str, Array]) -> Head | None:
    """The detector's head among a network's FP32 outputs; None where they are no detector's.

    Found by the values: four for a box, in pixels or from 0 to 1, then scores from 0 to 1 that are
    low in most cells. The popular exports, with C classes:

    - YOLOv8, YOLO11: one output [N, 4 + C, cells];
    - YOLOv5, YOLOv7, YOLOX with decoded boxes: [N, cells, 5 + C], objectness before the classes;
    - YOLO-NAS: boxes as corners [N, cells, 4], scores [N, cells, C].

    YOLOX's usual export gives None: its boxes are offsets in cells and logarithms of sizes.

    >>> output = np.zeros((2, 6, 50), np.float32)
    >>> output[:, :4], output[:, 5, 7] = 60, 0.9
    >>> find_head({"output0": output})
    Head(boxes='output0', scores='output0', axis=1, objectness=False, corners=False)
    >>> find_head({"logits": np.zeros((2, 10))})
    """
    cubes = {name: values for name, values in outputs.items() if _is_cube(values)}
    for boxes, values in cubes.items():
        for scores, others in cubes.items():
            for axis in (1, 2):
                whole = np.moveaxis(values, axis, 1)
                if scores == boxes:
                    whole, rest = whole[:, :BOX], whole[:, BOX:]
                else:
                    rest = np.moveaxis(others, axis, 1)
                if _is_head(whole, rest):
                    corners = bool((whole[:, 2:] > whole[:, :2]).mean() > 0.99)
                    return Head(boxes, scores, axis, _has_objectness(rest), corners)
    return None


def _is_cube(values: Array) -> bool:
    return values.ndim == 3 and values.dtype.kind == "f" and bool(np.isfinite(values).all())


def _is_head(boxes: Array, scores: Array) -> bool:
    """Whether two arrays can be boxes [N,4,cells] and scores [N,classes,cells].

    Centres lie all over the image, so their mean is far from 0; sizes are not negative; most scores
    are low.
    """
    if boxes.shape[1] != BOX or not scores.size or boxes.shape[::2] != scores.shape[::2]:
        return False
    centres, sizes = boxes[:, :2], boxes[:, 2:]
    spread = centres.mean() > 0.25 * centres.max() > 0 and (sizes >= 0).mean() > 0.99
    if not spread or scores.min() < 0 or not 0 < scores.max() <= 1:
        return False
    if _has_objectness(scores):
        scores = scores[:, 1:] * scores[:, :1]
    return bool(scores.mean() < 0.25)


def _has_objectness(scores: Array) -> bool:
    """Whether the first of the scores [N,classes,cells] tells objects from background.

    Then the others say which class an object would have: one is high where the first is, and often
    in the background, too. A class leaves the others low in its cells, as the background does.
    """
    if scores.shape[1] < 2:
        return False
    first, best = scores[:, 0], scores[:, 1:].max(axis=1)
    certain = best[first > 0.5]
    return bool(np.median(best) > SURE or (certain.size and np.median(certain) > SURE))


def unpack(arrays: Mapping[str, Array]) -> list[Detections]:
    """The detections of many images in the four arrays of a recording."""
    ends = np.cumsum(arrays["counts"].astype(int))[:-1]
    parts = [np.split(arrays[name], ends) for name in ("boxes", "scores", "classes")]
    return [
        Detections(boxes.astype(np.float32), scores.astype(np.float32), classes.astype(np.int64))
        for boxes, scores, classes in zip(*parts, strict=True)
    ]
