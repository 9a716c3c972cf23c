"""The switches of "Repair it"."""

import pytest

import trtlearn as tl
from trtlearn.errors import DataError
from trtlearn.show.tensor_ranges import repair_preview

REPAIRS = tl.recorded.repairs()


def walk(widget):
    yield widget
    for child in getattr(widget, "children", ()):
        yield from walk(child)


def test_the_bars_show_one_switch_more_and_the_line_shows_now():
    fig = repair_preview(REPAIRS, ["pool", "stem_relu"])
    shares = dict(zip(REPAIRS.tensors, fig.data[0].x, strict=True))
    assert shares["image"] == 0.99
    assert shares["pool"] == REPAIRS.accuracy(["stem_relu"])
    assert fig.layout.shapes[0].x0 == 0.61
    assert fig.data[0].text[0] == "99.0%, on"


def test_a_switch_moves_the_bars_and_the_words():
    widget = tl.show.repair_switches(REPAIRS)
    switches = {one.description: one for one in walk(widget) if hasattr(one, "indent")}
    assert list(switches) == list(REPAIRS.tensors)
    for name in ("image", "stem_relu", "pool"):
        switches[name].value = True
    words = [
        one.value
        for one in walk(widget)
        if "entropy 2's for the rest" in str(one.value if hasattr(one, "value") else "")
    ]
    assert "<b>99.0%</b> (198 right answers of 200)" in words[0]
    fig = next(one for one in walk(widget) if hasattr(one, "data"))
    on = {"image", "stem_relu", "pool"}
    assert list(fig.data[0].x) == [REPAIRS.accuracy(on ^ {name}) for name in REPAIRS.tensors]
    assert [text.endswith("off again") for text in fig.data[0].text] == [
        name in on for name in REPAIRS.tensors
    ]
    assert fig.layout.shapes[0].x0 == 0.99


def test_a_tensor_without_a_switch_is_named():
    with pytest.raises(DataError, match="no switch for 'logits'"):
        REPAIRS.accuracy(["logits"])
