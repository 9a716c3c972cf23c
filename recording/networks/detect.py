"""What a detector's output says and how good it is: boxes above a score, NMS, mAP at an overlap of
one half (numpy)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

__all__ = ["Detections", "average_precision", "detections", "mean_ap", "overlap", "pack", "unpack"]

LEAST_SCORE = 0.05
OVERLAP = 0.5  # NMS drops a box that overlaps a better one of its class by more
MOST = 30  # boxes of an image

Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class Detections:
    """One image's boxes: float32 [M,4] (cx, cy, w, h) in pixels, scores [M] and classes [M], the
    best first."""

    boxes: Array
    scores: Array
    classes: Array


def overlap(one: Array, other: Array) -> Array:
    """Intersection over union of boxes (cx, cy, w, h): [M,4] and [K,4] to [M,K]; 0 for a box
    without area.

    >>> overlap(np.array([[1., 1, 2, 2]]), np.array([[2., 1, 2, 2], [9., 9, 2,
    2]])).round(3).tolist() [[0.333, 0.0]]
    """
    a, b = one[:, None].astype(np.float64), other[None].astype(np.float64)
    low = np.maximum(a[..., :2] - a[..., 2:] / 2, b[..., :2] - b[..., 2:] / 2)
    high = np.minimum(a[..., :2] + a[..., 2:] / 2, b[..., :2] + b[..., 2:] / 2)
    both = np.clip(high - low, 0, None).prod(-1)
    either = a[..., 2:].clip(0).prod(-1) + b[..., 2:].clip(0).prod(-1) - both
    return np.divide(both, either, out=np.zeros_like(both), where=either > 0)


def _kept(boxes: Array, scores: Array, classes: Array) -> list[int]:
    """Non-maximum suppression, class by class: the rows that stay, the best first."""
    order = np.argsort(-scores, kind="stable")
    shares = overlap(boxes, boxes)
    kept: list[int] = []
    for row in order:
        rivals = [other for other in kept if classes[other] == classes[row]]
        if len(kept) < MOST and not (shares[row, rivals] > OVERLAP).any():
            kept.append(int(row))
    return kept


def detections(output: Array, least: float = LEAST_SCORE) -> list[Detections]:
    """The boxes in a detector's output [N,4+classes,anchors]; NaN and infinite answers count as
    none."""
    found = []
    for one in np.asarray(output, np.float32):
        sound = np.isfinite(one).all(axis=0)
        best = np.where(sound, one[4:].argmax(axis=0), 0)
        scores = np.where(sound, one[4:].max(axis=0), 0)
        rows = np.flatnonzero(scores > least)
        boxes, scores, best = one[:4, rows].T, scores[rows], best[rows]
        kept = _kept(boxes, scores, best)
        found.append(Detections(boxes[kept], scores[kept], best[kept].astype(np.int64)))
    return found


def average_precision(right: Array, scores: Array, count: int) -> float:
    """The area under precision over recall, all points; ``right`` says which detections hit, of
    ``count`` objects.

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


def mean_ap(found: list[Detections], boxes: Array, classes: Array, least: float = 0.5) -> float:
    """mAP: the mean over classes of the average precision, a box being right from an overlap of
    ``least``.

    Args:
        found: one a scene. boxes: [N,K,4] and classes: [N,K], -1 where there is none: what the
        scenes show.
    """
    kinds = sorted(set(classes[classes >= 0].tolist()))
    precisions = []
    for kind in kinds:
        hits: list[bool] = []
        scores: list[float] = []
        for one, there, what in zip(found, boxes, classes, strict=True):
            mine = one.classes == kind
            true = there[what == kind]
            hits += _hits(one.boxes[mine], true, least)
            scores += one.scores[mine].tolist()
        count = int((classes == kind).sum())
        precisions.append(average_precision(np.array(hits, bool), np.array(scores), count))
    return float(np.mean(precisions))


def _hits(made: Array, true: Array, least: float) -> list[bool]:
    """Which of the detections, best first, find an object that no better one has found."""
    free, hits = np.ones(len(true), bool), []
    shares = overlap(made, true)
    for row in shares:
        best = int(np.argmax(np.where(free, row, -1))) if free.any() else -1
        hit = best >= 0 and row[best] >= least
        if hit:
            free[best] = False
        hits.append(bool(hit))
    return hits


def pack(found: list[Detections]) -> dict[str, Array]:
    """Detections of many images as four small arrays; boxes and scores in float16."""
    return {
        "counts": np.array([len(one.scores) for one in found], np.uint8),
        "boxes": np.concatenate([one.boxes for one in found]).astype(np.float16),
        "scores": np.concatenate([one.scores for one in found]).astype(np.float16),
        "classes": np.concatenate([one.classes for one in found]).astype(np.uint8),
    }


def unpack(arrays: Any) -> list[Detections]:
    """What ``pack`` packed."""
    ends = np.cumsum(arrays["counts"].astype(int))[:-1]
    parts = [np.split(arrays[name], ends) for name in ("boxes", "scores", "classes")]
    return [
        Detections(boxes.astype(np.float32), scores.astype(np.float32), classes.astype(np.int64))
        for boxes, scores, classes in zip(*parts, strict=True)
    ]
