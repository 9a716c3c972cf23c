"""A detector's engines in the pictures of the trade-off: judged by mAP50, and labelled so."""

from __future__ import annotations

import pytest

import trtlearn as tl

POINTS = tl.recorded.tradeoff("points-detector")
EIGHT = POINTS.select("detector", 8)


def test_builds_have_their_map() -> None:
    fig = tl.show.builds(EIGHT[:5])
    titles = [note.text for note in fig.layout.annotations]
    axes = [axis.title.text for axis in fig.select_xaxes()]
    assert any("mAP50" in (text or "") for text in [*titles, *axes])
    shares = [100 * (point.map50 or 0) for point in EIGHT[:5]]
    assert list(fig.data[0].x) == pytest.approx(shares)


def test_the_tradeoff_is_drawn_and_its_front_is_known() -> None:
    fig = tl.show.tradeoff(EIGHT, source=POINTS.provenance)
    assert fig.layout.yaxis.title.text == "mAP50, %"
    drawn = {y for trace in fig.data if trace.mode == "markers" for y in trace.y}
    assert drawn == {100 * point.map50 for point in EIGHT if point.map50 is not None}
    hover = next(text for trace in fig.data if trace.hovertext for text in trace.hovertext)
    assert "mAP50 " in hover


def test_accuracy_keeps_its_words() -> None:
    photo = tl.recorded.tradeoff("points-photo").select("photo", 8)
    assert tl.show.tradeoff(photo).layout.yaxis.title.text == "test images right, %"
