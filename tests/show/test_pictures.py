"""Photographs with answers, scenes with boxes, operators by type: what is drawn is what was recorded."""

from __future__ import annotations

import base64
import zlib
from collections import Counter

import numpy as np
import pytest

import trtlearn as tl
from trtlearn.errors import DataError
from trtlearn.show.draw import BAD, TALLEST

PHOTO, DETECTOR, VIT = (tl.network(name, mode="recorded") for name in ("photo", "detector", "vit"))


def test_each_image_holds_the_pixels_of_its_photograph() -> None:
    pictures = PHOTO.pictures()
    high, wide, colors = pictures.shape[1:]
    names = PHOTO.card.labels
    fig = tl.show.photographs([PHOTO.build("fp32")], pictures, PHOTO.labels(), names, [3, 5])
    for image, row in zip(fig.layout.images, [3, 5], strict=True):
        head, _, text = image.source.partition(",")
        assert head == "data:image/png;base64"
        content = base64.b64decode(text)
        assert content[:8] == b"\x89PNG\r\n\x1a\n"
        start = content.index(b"IDAT")
        size = int.from_bytes(content[start - 4 : start], "big")
        lines = zlib.decompress(content[start + 4 : start + 4 + size])
        rows = np.frombuffer(lines, np.uint8).reshape(high, 1 + wide * colors)
        assert not rows[:, 0].any()
        np.testing.assert_array_equal(rows[:, 1:].reshape(high, wide, colors), pictures[row])


def test_exactly_the_wrong_answers_are_marked() -> None:
    engines = [PHOTO.build("fp32"), PHOTO.build("int8-random")]
    rows = list(range(8, 20))
    names = PHOTO.card.labels
    fig = tl.show.photographs(engines, PHOTO.pictures(), PHOTO.labels(), names, rows)
    wrong = [note.text for note in fig.layout.annotations if note.font.color == BAD]
    right = PHOTO.labels()[rows]
    expected = [
        names[answer]
        for engine in engines
        for answer, label in zip(engine.answers[rows], right, strict=True)
        if answer != label
    ]
    assert [text.replace("<b>✘ ", "").replace("</b>", "") for text in wrong] == expected
    assert expected
    assert len(fig.layout.images) == len(rows)
    with pytest.raises(DataError, match="did not answer"):
        tl.show.photographs(engines, PHOTO.pictures(), PHOTO.labels()[:3], names, [0])
    with pytest.raises(DataError, match="no engine or no picture"):
        tl.show.photographs([], PHOTO.pictures(), PHOTO.labels(), names)


def test_every_sure_box_is_drawn_right_or_wrong() -> None:
    names = ("fp32", "qdq-everywhere")
    found = {name: tl.recorded.detections("detector", name) for name in names}
    truth = DETECTOR.boxes(), DETECTOR.labels()
    rows = [1, 4, 10]
    fig = tl.show.boxes(DETECTOR.pictures(), found, truth, rows)
    heads = [note.text for note in fig.layout.annotations if note.text.startswith("<b>")]
    for name, head in zip(names, heads, strict=True):
        right, wrong, count = _numbers(head)
        sure = sum(int(found[name][row].sure.sum()) for row in rows)
        assert right + wrong == sure
        assert count == int((truth[1][rows] >= 0).sum())
        assert right <= count
    assert _numbers(heads[0])[1] == 0
    assert _numbers(heads[1])[1] > 3
    assert len(fig.layout.images) == 6
    assert fig.layout.height <= TALLEST


def _numbers(head: str) -> tuple[int, int, int]:
    words = head.split("<br>")[1].replace(",", "").split()
    return int(words[0]), int(words[2]), int(words[-1])


def test_operators_counts_every_node_once() -> None:
    report = VIT.build("int8-placeholder").precision()
    fig = tl.show.operators({"INT8": report})
    drawn = {trace.name: sum(trace.x) for trace in fig.data}
    counts = Counter(node.computed_in or "type not shown" for node in report.nodes)
    assert drawn == counts
    assert "303 layers" in fig.layout.annotations[0].text
    with pytest.raises(DataError, match="no report"):
        tl.show.operators({})
    with pytest.raises(DataError, match=r"\{name: build"):
        tl.show.operators(report)
