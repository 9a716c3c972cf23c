"""What a detector's output holds and how good it is: boxes above a score, NMS, mAP (numpy only).

The output has the form of Ultralytics' exports: [N, 4 + classes, cells], where a cell's first four
values are a box (cx, cy, w, h) in pixels and the others its score for each class.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import permutations, product

import numpy as np

from .data import Array

__all__ = [
    "Columns",
    "Detections",
    "Head",
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
ENOUGH = 64  # images to know a head by
SURE = 0.25  # a box with a higher score counts as detected
BOX = 4  # values of a box
RARE = 0.25  # a score's mean over all cells is lower: most cells show nothing


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

    @property
    def sure(self) -> Array:
        """Which boxes have a score above 0.25: bool [M]."""
        return self.scores > SURE


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


def _suppress(boxes: Array, scores: Array, classes: Array, most: int, limit: float) -> list[int]:
    """Non-maximum suppression, class by class: the rows that stay, the best first."""
    order = np.argsort(-scores, kind="stable")
    shares = overlap(boxes, boxes)
    stay: list[int] = []
    for row in order:
        rivals = [other for other in stay if classes[other] == classes[row]]
        if len(stay) < most and not (shares[row, rivals] > limit).any():
            stay.append(int(row))
    return stay


def decode(
    output: Array, least: float = LEAST_SCORE, most: int = MOST, classes: Array | None = None
) -> list[Detections]:
    """The boxes of each image in a detector's output [N, 4 + classes, cells].

    A cell counts with its best class where that score is above ``least``. Of boxes of one class
    that overlap by more than half, the best stays, up to ``most`` boxes an image. Cells with NaN or
    infinity do not count. With ``classes`` [N, cells], the class number of each cell, no box is
    dropped for its overlap.

    >>> output = np.zeros((1, 6, 2), np.float32)
    >>> output[0, :, 0] = 10, 10, 8, 8, 0.9, 0.1  # a box of class 0; the other cell has score 0
    >>> first = decode(output)[0]
    >>> first.boxes.tolist(), first.classes.tolist()
    ([[10.0, 10.0, 8.0, 8.0]], [0])
    """
    images = []
    for row, one in enumerate(np.asarray(output, np.float32)):
        numbers = one[4:].argmax(axis=0) if classes is None else np.rint(classes[row])
        sound = np.isfinite(one).all(axis=0) & np.isfinite(numbers)
        best = np.where(sound, numbers, 0)
        scores = np.where(sound, one[4:].max(axis=0), 0)
        rows = np.flatnonzero(scores > least)
        if len(rows) > CANDIDATES:
            rows = np.sort(rows[np.argsort(-scores[rows], kind="stable")[:CANDIDATES]])
        boxes, scores, best = one[:4, rows].T, scores[rows], best[rows]
        stay = _suppress(boxes, scores, best, most, OVERLAP if classes is None else np.inf)
        images.append(Detections(boxes[stay], scores[stay], best[stay].astype(np.int64)))
    return images


def average_precision(right: Array, scores: Array, count: int) -> float:
    """The area under precision over recall, all points; NaN where there are no objects.

    ``right``: which detections hit an object, of ``count`` objects.
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
    """Share of the reference's sure boxes that ``detections`` hold, too.

    A box holds another of its class that it overlaps by half or more, whatever its score. None
    where the reference has no such box.
    """
    matched: list[bool] = []
    for wanted, one in zip(reference, detections, strict=True):
        sure = wanted.sure
        shares = overlap(wanted.boxes[sure], one.boxes)
        same = wanted.classes[sure][:, None] == one.classes[None]
        matched += ((shares >= MATCHED) & same).any(axis=1).tolist()
    return float(np.mean(matched)) if matched else None


@dataclass(frozen=True)
class Columns:
    """Some values of every cell: those from ``start`` to ``stop`` along ``axis`` of an output."""

    output: str
    axis: int
    start: int
    stop: int

    def read(self, outputs: Mapping[str, Array]) -> Array:
        """[N, columns, cells]."""
        table = _as_table(outputs[self.output])
        return np.moveaxis(table, self.axis, 1)[:, self.start : self.stop]


@dataclass(frozen=True)
class Head:
    """Where a network's outputs hold boxes and scores.

    ``objectness``: the first score says that there is an object, the others which one; ``corners``:
    a box is (left, top, right, bottom); ``extra``: how many columns behind the scores are neither
    (mask coefficients, key points). ``classes``: the class numbers of a list of detections, from
    which the network has left out what NMS would drop; None where every cell has all scores.
    """

    boxes: Columns
    scores: Columns
    objectness: bool = False
    corners: bool = False
    extra: int = 0
    classes: Columns | None = None

    @property
    def outputs(self) -> set[str]:
        """The outputs that hold it."""
        return {part.output for part in (self.boxes, self.scores, self.classes) if part}

    @property
    def known_classes(self) -> int | None:
        """How many classes it tells apart; None for a list of detections, which does not say."""
        return None if self.classes else self.scores.stop - self.scores.start - self.objectness

    def joined(self, outputs: Mapping[str, Array]) -> Array:
        """The outputs as :func:`decode` takes them: [N, 4 + classes, cells].

        Scores are multiplied by the objectness, corners become (cx, cy, w, h). A list of detections
        has one score, whatever its class.
        """
        boxes, scores = self.boxes.read(outputs), self.scores.read(outputs)
        if self.corners:
            low, high = boxes[:, :2], boxes[:, 2:]
            boxes = np.concatenate([(low + high) / 2, high - low], axis=1)
        if self.objectness:
            scores = scores[:, 1:] * scores[:, :1]
        return np.concatenate([boxes, scores], axis=1)

    def detections(self, outputs: Mapping[str, Array], most: int = MOST) -> list[Detections]:
        """The boxes of each image, as :func:`decode` finds them."""
        classes = self.classes.read(outputs)[:, 0] if self.classes else None
        return decode(self.joined(outputs), most=most, classes=classes)


Place = tuple[int, int, int | None]
"""Which of the outputs, and its columns from, to: None is the last."""
LAYOUTS: tuple[tuple[Place, ...], ...] = (  # boxes, scores, class numbers
    ((0, 0, 4), (0, 4, 5), (0, 5, 6)),
    ((0, 0, 4), (0, 4, 5), (1, 0, 1)),
    ((0, 0, 4), (1, 0, 1), (2, 0, 1)),
    ((0, 0, 4), (0, 4, None)),
    ((0, -4, None), (0, 0, -4)),
    ((0, 0, 4), (1, 0, None)),
)
"""Where popular exports have what, lists of detections first: they are told by more.

YOLOv10 and YOLO26; mmdeploy; RT-DETR; YOLOv5, v7, v8, 11 and YOLOX; scores in front; YOLO-NAS and
YOLOv4.
"""


@np.errstate(all="ignore")  # a network's outputs may be as large as float32 goes
def find_head(outputs: Mapping[str, Array], classes: int | None = None) -> Head | None:
    """The detector's head among a network's FP32 outputs; None where none is known.

    Found by the values: four for a box, in pixels or from 0 to 1, then scores from 0 to 1 that are
    low in most cells. A list of detections has its scores in order, and whole class numbers. A
    guess that may be wrong is none. The popular exports, with C classes:

    - YOLOv8, YOLO11: one output [N, 4 + C, cells]; behind the scores 32 mask coefficients
      (segmentation), or 2 or 3 values of each key point (pose);
    - YOLOv5, YOLOv7, YOLOX with decoded boxes: [N, cells, 5 + C], objectness before the classes;
    - YOLO-NAS: boxes as corners [N, cells, 4], scores [N, cells, C]; YOLOv4: boxes [N, cells, 1, 4]
      (Tianxiaomo/pytorch-YOLOv4 a65d219, tool/yolo_layer.py);
    - YOLOv10, YOLO26: a list [N, 300, 6] of corners, score, class (ultralytics 001ce22,
      ultralytics/nn/modules/head.py); RT-DETR: labels [N, 300], boxes as corners [N, 300, 4],
      scores [N, 300] (lyuwenyu/RT-DETR 068dfde, rtdetrv2_pytorch/tools/export_onnx.py).

    None: YOLOX's usual export, whose boxes are offsets in cells and logarithms of sizes (YOLOX
    0.3.0, yolox/models/yolo_head.py); boxes with an angle, whose overlap is another one; scores as
    logits; a class for the background.

    Args:
        outputs: name -> values of all rows.
        classes: how many there are, where the export says so: then there is no objectness.

    >>> output = np.zeros((2, 6, 50), np.float32)
    >>> output[:, :4], output[:, 5, 7] = 60, 0.9
    >>> find_head({"output0": output}).scores
    Columns(output='output0', axis=1, start=4, stop=6)
    >>> find_head({"logits": np.zeros((2, 10))})
    """
    tables = {name: _as_table(x) for name, x in outputs.items() if x.dtype.kind in "fiu"}
    tables = {n: np.asarray(x[:ENOUGH], np.float32) for n, x in tables.items() if x.ndim == 3}
    tables = {n: x for n, x in tables.items() if x.size and np.isfinite(x).all()}
    for boxes, scores, numbers in _places(tables):
        values, rest = boxes.read(tables), scores.read(tables)
        alike = values.shape[::2] == rest.shape[::2] and values.shape[2] > 1
        if values.shape[1] != BOX or not rest.size or not alike:
            continue
        if numbers is None and not _is_whole(tables, boxes, scores):
            continue
        used = {one.output: tables[one.output].shape[one.axis] for one in (boxes, scores)}
        extra = sum(used.values()) - BOX - rest.shape[1]
        if numbers is None:
            if not _are_boxes(values):
                continue
            count, objectness = _score_columns(values, rest, classes)
            extra += rest.shape[1] - count
            place = replace(scores, stop=scores.start + count)
            head = Head(boxes, place, objectness, _are_corners(values), extra)
            sound = _are_scores(rest, count, objectness)
        else:
            extra -= numbers.output in used
            head = Head(boxes, scores, False, True, extra, numbers)
            sound = _is_list(values, rest, numbers.read(tables))
        if sound and (not extra or (extra > 1 and len(used) == 1 and boxes.start == 0)):
            return head
    return None


def _as_table(values: Array) -> Array:
    """[N, cells, columns] or turned: an axis of size 1 is left out, or put in for [N, cells]."""
    if values.ndim == 4 and values.shape[2] == 1:
        return values[:, :, 0]
    return values[:, None] if values.ndim == 2 else values


def _places(tables: Mapping[str, Array]) -> Iterator[tuple[Columns, Columns, Columns | None]]:
    """Boxes, scores and class numbers by each of LAYOUTS."""
    for layout in LAYOUTS:
        for names in permutations(tables, 1 + max(place[0] for place in layout)):
            for axes in product((1, 2), repeat=len(names)):
                if len(names) > 1 and tables[names[0]].shape[axes[0]] > BOX + 1:
                    continue  # no table of boxes alone: networks can have many outputs
                parts = []
                for output, start, stop in layout:
                    columns = range(tables[names[output]].shape[axes[output]])[start:stop]
                    parts.append(Columns(names[output], axes[output], columns.start, columns.stop))
                yield parts[0], parts[1], parts[2] if len(parts) > 2 else None


def _is_whole(tables: Mapping[str, Array], *parts: Columns) -> bool:
    """Whether parts can hold all cells: they are more than the columns, and no other output has
    as many columns for other cells, as another level of the pyramid would.
    """
    used = {part.output for part in parts}
    for part in parts:
        shape, cells = tables[part.output].shape, 3 - part.axis
        others = [x.shape for name, x in tables.items() if name not in used]
        levels = any(one[part.axis] == shape[part.axis] for one in others if one != shape)
        if shape[cells] < shape[part.axis] or levels:
            return False
    return True


def _is_list(boxes: Array, scores: Array, numbers: Array) -> bool:
    """Whether [N,4,K], [N,1,K] and [N,1,K] can be detections: corners, the best score first."""
    if not scores.shape == numbers.shape == (len(boxes), 1, boxes.shape[2]):
        return False
    ordered = (np.diff(scores) <= 0).all() and scores.min() >= 0 and 0 < scores.max() <= 1
    whole = (numbers == np.rint(numbers)).all() and numbers.min() >= -1  # fills a short list
    sizes = boxes[:, 2:] - boxes[:, :2]
    return bool(ordered and whole and sizes.min() >= 0 and sizes.max() > 0)


def _are_boxes(values: Array) -> bool:
    """Whether [N,4,cells] can be boxes: sizes are not negative, and centres lie all over the image,
    so that their mean is far from 0.
    """
    centres, sizes = values[:, :2], values[:, 2:]
    spread = (centres.mean(axis=(0, 2)) > 0.25 * centres.max(axis=(0, 2))).all()
    return bool(spread and (sizes >= 0).mean() > 0.99)


def _are_scores(rest: Array, count: int, objectness: bool) -> bool:
    """Whether the first ``count`` columns of [N,columns,cells] can be scores: most are low.

    Where all columns have the sum 1, one stands for the background.
    """
    scores = rest[:, :count]
    if not count or not scores.max() > 0 or np.allclose(rest.sum(axis=1), 1, atol=1e-3):
        return False
    if objectness:
        scores = scores[:, 1:] * scores[:, :1]
    return bool(scores.mean() < RARE)


def _score_columns(boxes: Array, rest: Array, stated: int | None) -> tuple[int, bool]:
    """How many of the columns behind a box are scores, and whether the first is the objectness.

    (0, False) where that is open, or what follows the scores looks like neither mask coefficients,
    which have both signs, nor key points (x, y, and perhaps a score).
    """
    inside = (rest.min(axis=(0, 2)) >= 0) & (rest.max(axis=(0, 2)) <= 1) & ~_follow(boxes, rest)
    if stated is not None:
        return (stated, False) if inside[:stated].sum() == stated else (0, False)
    count = _leading(inside)
    objectness = _has_objectness(rest[:, :count])
    if objectness is None:
        return 0, False
    if not objectness:
        count = _leading(inside & (rest.mean(axis=(0, 2)) < RARE))
    behind = inside[count:]
    points = len(behind) % 3 == 0 and (behind == (np.arange(len(behind)) % 3 == 2)).all()
    return (count, objectness) if points or not behind.any() else (0, False)


def _leading(flags: Array) -> int:
    """How many flags are True before the first False."""
    return int(np.append(flags, False).argmin())


def _follow(boxes: Array, rest: Array) -> Array:
    """Which columns go with the boxes' place, as a key point does even where it is from 0 to 1."""
    some = slice(None, None, 1 + rest.shape[2] // 500)  # of many cells
    columns, places = rest[:, :, some], boxes[:, :2, some]
    pairs = product(columns.transpose(1, 0, 2), places.transpose(1, 0, 2))
    follow = np.array([_correlation(column, place) > 0.8 for column, place in pairs])
    either: Array = follow[::2] | follow[1::2]
    return either


def _correlation(one: Array, other: Array) -> float:
    """From -1 to 1; 0 where all values of one are equal."""
    one, other = one - one.mean(), other - other.mean()
    both = float(np.sqrt(np.vdot(one, one) * np.vdot(other, other)))
    return float(np.vdot(one, other)) / both if both else 0.0


def _are_corners(boxes: Array) -> bool:
    """Whether boxes are (left, top, right, bottom).

    Opposite corners move together over the image, or they are far apart: as centre and size such
    boxes leave the image on the left.
    """
    low, high = boxes[:, :2], boxes[:, 2:]
    together = [_correlation(low[:, i], high[:, i]) > 0.5 for i in (0, 1)]
    outside = np.maximum(high / 2 - low, 0).mean() > 0.1 * high.mean()
    return bool((high > low).mean() > 0.99 and (all(together) or outside))


def _has_objectness(scores: Array) -> bool | None:
    """Whether the first of the scores [N,classes,cells] tells objects from background.

    Then the others say which class an object would have: one is high where the first is, and often
    in the background, too. A class leaves the others low in its cells, as the background does. None
    where the last column alone says so: it may be an angle.
    """
    if scores.shape[1] < 2:
        return False
    first, others = scores[:, 0], scores[:, 1:]

    def are_high(others: Array, limit: float = SURE) -> bool:
        best = others.max(axis=1)
        certain = best[first > 0.5]
        return bool(np.median(best) > limit or (certain.size and np.median(certain) > limit))

    whole = are_high(others)
    fewer = are_high(others[:, :-1]) if others.shape[1] > 1 else are_high(others, 0.75)
    return whole if whole == fewer else None


def unpack(arrays: Mapping[str, Array]) -> list[Detections]:
    """The detections of many images in the four arrays of a recording."""
    ends = np.cumsum(arrays["counts"].astype(int))[:-1]
    parts = [np.split(arrays[name], ends) for name in ("boxes", "scores", "classes")]
    return [
        Detections(boxes.astype(np.float32), scores.astype(np.float32), classes.astype(np.int64))
        for boxes, scores, classes in zip(*parts, strict=True)
    ]
