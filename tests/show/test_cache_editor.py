"""The cache editor: every button, a change by hand, and what is said of each."""

import time

import ipywidgets
import pytest

import trtlearn as tl
from trtlearn import show
from trtlearn.recorded.caches import broken_files, odd_caches
from trtlearn.show.caches import BUTTONS

RESNET = tl.network("resnet", mode="recorded")
TEXT = RESNET.build("int8-entropy2").calibration.cache
OTHER = tl.network("mobile", mode="recorded").build("int8-entropy2").calibration.cache


def walk(widget):
    yield widget
    for child in getattr(widget, "children", ()):
        yield from walk(child)


def parts():
    """The text area, the buttons by case, the alert and the answer."""
    found = list(walk(show.cache_editor(tl.recorded.broken_caches(TEXT, OTHER), RESNET)))
    area = next(one for one in found if isinstance(one, ipywidgets.Textarea))
    words = [one for one in found if isinstance(one, ipywidgets.HTML)]
    buttons = [one for one in found if isinstance(one, ipywidgets.Button)]
    return area, dict(zip(BUTTONS, buttons, strict=True)), *words


def test_each_button_shows_its_recorded_case_in_time():
    area, buttons, problem, answer = parts()
    spent = []
    for case, button in buttons.items():
        start = time.perf_counter()
        button.click()
        spent.append(time.perf_counter() - start)
        recorded = odd_caches()[case]
        assert (">used<" in answer.value) == recorded.used
        assert (">ignored<" in answer.value) != recorded.used
        assert "<b>Recorded</b>" in answer.value
        assert f"Warnings in the log: {recorded.warned}." in answer.value
        assert problem.value == ""
    assert max(spent) < 0.15
    buttons["other_models_cache"].click()
    assert area.value == OTHER
    buttons["whole"].click()
    assert area.value == TEXT
    assert "<b>27 tensors with their range</b>" in answer.value


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("b0_relu1: 3d2ce41e\n", "", ("1 tensor without a range", "✘ b0_relu1")),
        ("b0_relu1: 3d2ce41e", "b0_relu1: 3d2cXXXX", ("as far as it goes", "≠ b0_relu1: ±5.36")),
        (
            "b0_relu1: 3d2ce41e",
            "b0_relu1 3d2ce41e",
            ("skipped, with a warning", "refuses the file"),
        ),
        ("EntropyCalibration2", "NoCalibration", ("names NoCalibration", "None of the 27")),
        ("TRT", "\ud83d", ("its first line is not the header", "None of the 27")),
        ("b0_relu1:", "<b>:", ("&lt;b&gt;: 3d2ce41e", "no tensor has this name")),
    ],
)
def test_a_change_by_hand_is_answered_by_the_rule_and_says_so(old, new, words):
    area, _, problem, answer = parts()
    area.value = TEXT.replace(old, new)
    assert problem.value == ""
    assert "<b>Not recorded</b>" in answer.value
    for part in words:
        assert part in answer.value


def test_what_was_recorded_of_the_like_is_named():
    area, _, _, answer = parts()
    area.value = TEXT.replace("gap: 3cc54c24", "gap: 0.0706")
    like = odd_caches()["bad_hex"].change
    assert "Recorded of the like" in answer.value
    assert like.split("'")[0] in answer.value
    assert area.value.encode() not in broken_files(TEXT).values()
