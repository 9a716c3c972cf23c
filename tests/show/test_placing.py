"""Place the Q/DQ: every placement that is recorded, and what is said of those that are not."""

import itertools
import time
from types import SimpleNamespace

import ipywidgets
import pytest

import trtlearn as tl
from trtlearn import show
from trtlearn.errors import DataError
from trtlearn.show.blocks import BUTTONS, EDGES, PAIRS_ON, RIGHT, WHERE, nearest

RESNET, MOBILE = (tl.recorded.placements(name) for name in ("resnet", "mobile"))


def walk(widget):
    yield widget
    for child in getattr(widget, "children", ()):
        yield from walk(child)


class Scene:
    def __init__(self):
        found = list(walk(show.place_pairs(RESNET, MOBILE)))
        kinds = (ipywidgets.Button, ipywidgets.Checkbox, ipywidgets.HTML)
        buttons, switches, words = ([w for w in found if isinstance(w, kind)] for kind in kinds)
        self.buttons = dict(zip(RESNET, buttons, strict=True))
        self.switches = dict(zip(WHERE, switches, strict=True))
        self.problem, self.text = words
        self.fig = next(one for one in found if hasattr(one, "data"))

    def frames(self):
        shown = [one for one in self.fig.layout.shapes if one.line.dash == "dot" and one.visible]
        return [(one.x0, one.x1) for one in shown]


@pytest.fixture(scope="module")
def scene():
    return Scene()


@pytest.mark.parametrize("name", PAIRS_ON)
def test_each_recorded_placement_is_one_click_and_answers_in_time(scene, name):
    scene.switches["input"].value = not scene.switches["input"].value
    start = time.process_time()
    scene.buttons[name].click()
    assert time.process_time() - start < 0.15
    assert scene.problem.value == ""
    assert {edge for edge, one in scene.switches.items() if one.value} == set(PAIRS_ON[name])
    build = RESNET[name]
    assert ">recorded<" in scene.text.value
    layers = f"{build.layers} layers, {build.int8_layers} with INT8 weights"
    assert f"{build.layer_time_ms:.3f} ms, {layers}, {build.reformats} reformat" in scene.text.value
    assert ("<b>mobile</b>" in scene.text.value) == (name in MOBILE)
    marks = dict(zip(EDGES, scene.fig.data[1].marker.symbol, strict=True))
    assert {edge for edge, mark in marks.items() if mark == "diamond"} == set(PAIRS_ON[name])
    assert ("every pair stands where" in scene.text.value) == (name == "tensorrt")


def test_the_frames_are_the_engines_layers(scene):
    scene.buttons["tensorrt"].click()
    assert scene.frames() == [(0.6, 2.4), (2.6, 5.4)]  # conv1 + relu1; conv2 + add + relu2
    scene.buttons["conv-outputs"].click()
    assert scene.frames() == [(0.6, 2.4), (2.6, 3.4), (3.6, 5.4)]  # the Add stands alone
    scene.buttons["no-shortcut"].click()
    words = [note.text for note in scene.fig.layout.annotations]
    assert "fp32 out<br>10.7 µs" in words
    assert "quantize<br>6.6 µs" in words


def test_what_is_not_recorded_says_so_and_names_the_nearest(scene):
    scene.buttons["tensorrt"].click()
    scene.switches["relu1"].value = False
    assert ">not recorded<" in scene.text.value
    assert "Nearest recorded: right (with after relu1)" in scene.text.value
    assert "after relu1: the pair is missing" in scene.text.value
    assert scene.frames() == []
    assert scene.problem.value == ""


def test_a_click_on_a_mark_flips_its_switch(scene):
    scene.buttons["tensorrt"].click()
    click = scene.fig.data[1]._click_callbacks[0]
    click(scene.fig.data[1], SimpleNamespace(point_inds=[list(EDGES).index("add")]), None)
    assert scene.switches["add"].value
    assert "after add: a pair that keeps two layers apart" in scene.text.value


def test_of_all_128_combinations_four_are_recorded_and_the_nearest_is_nearest():
    for count in range(len(EDGES) + 1):
        for pairs in itertools.combinations(EDGES, count):
            near = nearest(pairs)
            apart = {name: len(set(pairs) ^ set(on)) for name, on in PAIRS_ON.items()}
            assert {name: len(edges) for name, edges in near.items()} == {
                name: far for name, far in apart.items() if far == min(apart.values())
            }
    assert set(BUTTONS) == set(PAIRS_ON)
    assert set(WHERE) == set(EDGES) > set(RIGHT)


def test_placements_of_another_name_are_refused():
    with pytest.raises(DataError, match="elsewhere"):
        show.place_pairs({"elsewhere": RESNET["tensorrt"]})
