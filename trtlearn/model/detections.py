"""What a detector's output holds and how good it is: boxes above a score, NMS, mAP (numpy only).

The output has the form of Ultralytics' exports: [N, 4 + classes, cells], where a cell's first four
values are a box (cx, cy, w, h) in pixels and the others its score for each class.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = [
    "Detections",
    "average_precision",
    "decode",
    "mean_ap",
    "overlap",
    "pack",
    "unpack",
]

LEAST_SCORE = 0.05
OVERLAP = 0.5  # NMS drops a box that overlaps a better one of its class by more
MOST = 30  # boxes of an image

Array = NDArray[Any]


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


def _suppress(boxes: Array, scores: Array, classes: Array) -> list[int]:
    """Non-maximum suppression, class by class: the rows that stay, the best first."""
    order = np.argsort(-scores, kind="stable")
    shares = overlap(boxes, boxes)
    stay: list[int] = []
    for row in order:
        rivals = [other for other in stay if classes[other] == classes[row]]
        if len(stay) < MOST and not (shares[row, rivals] > OVERLAP).any():
            stay.append(int(row))
    return stay


def decode(output: Array, least: float = LEAST_SCORE) -> list[Detections]:
    """The boxes of each image in a detector's output [N, 4 + classes, cells].

    A cell counts with its best class where that score is above ``least``. Of boxes of one class
    that overlap by more than half, the best stays. Cells with NaN or infinity do not count.

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
        boxes, scores, best = one[:4, rows].T, scores[rows], best[rows]
        stay = _suppress(boxes, scores, best)
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


def mean_ap(
    detections: Sequence[Detections], boxes: Array, classes: Array, least: float = 0.5
) -> float:
    """mAP: the mean over classes of the average precision; mAP50 by default.

    Args:
        detections: one an image.
        boxes, classes: the objects that the images show, [N,K,4] and [N,K], -1 where there is none.
        least: the overlap from which a box is right.
    """
    precisions = []
    for kind in sorted(set(classes[classes >= 0].tolist())):
        hits: list[bool] = []
        scores: list[float] = []
        for one, objects, kinds in zip(detections, boxes, classes, strict=True):
            mine = one.classes == kind
            if not mine.any():
                continue
            hits += _hits(one.boxes[mine], objects[kinds == kind], least)
            scores += one.scores[mine].tolist()
        count = int((classes == kind).sum())
        precisions.append(average_precision(np.array(hits, bool), np.array(scores), count))
    return float(np.mean(precisions))


def _hits(boxes: Array, objects: Array, least: float) -> list[bool]:
    """Which of the boxes, best first, hit an object that no better one has hit."""
    if not len(objects):
        return [False] * len(boxes)
    free, hits = np.ones(len(objects), bool), []
    for row in overlap(boxes, objects):
        best = int(np.argmax(np.where(free, row, -1))) if free.any() else -1
        hit = best >= 0 and row[best] >= least
        if hit:
            free[best] = False
        hits.append(bool(hit))
    return hits


def pack(detections: Sequence[Detections]) -> dict[str, Array]:
    """Detections of many images as four small arrays; boxes and scores in float16."""
    return {
        "counts": np.array([len(one) for one in detections], np.uint8),
        "boxes": np.concatenate([one.boxes for one in detections]).astype(np.float16),
        "scores": np.concatenate([one.scores for one in detections]).astype(np.float16),
        "classes": np.concatenate([one.classes for one in detections]).astype(np.uint8),
    }


def unpack(arrays: Mapping[str, Array]) -> list[Detections]:
    """What ``pack`` packed."""
    ends = np.cumsum(arrays["counts"].astype(int))[:-1]
    parts = [np.split(arrays[name], ends) for name in ("boxes", "scores", "classes")]
    return [
        Detections(boxes.astype(np.float32), scores.astype(np.float32), classes.astype(np.int64))
        for boxes, scores, classes in zip(*parts, strict=True)
    ]
