"""Every notebook keeps the rules of style, runs unsolved, runs solved, and refuses every wrong
answer.
"""

import json
from pathlib import Path

import nbformat
import pytest

from tools import notebooks
from tools.site.notebook import executed
from trtlearn.course import exercise as exercises
from trtlearn.course.notebook import NOTEBOOKS

pytestmark = pytest.mark.xdist_group("notebooks")

ROOT = Path(__file__).resolve().parent.parent.parent

FOUND = sorted((ROOT / "notebooks").glob("*.ipynb"))
each = pytest.mark.parametrize("path", FOUND, ids=lambda path: path.stem)


def test_the_course_is_whole():
    assert [path.name for path in FOUND] == [name for name, _ in NOTEBOOKS.values()]


CONTROLS = """
import copy, json, statistics, time, ipywidgets
from ipywidgets.widgets.widget import _instances
TREE = [{"a": [1, 2, 3], "b": {"c": "d"}} for _ in range(200)]
def milliseconds(work, *args):
    start = time.process_time()
    work(*args)
    return 1000 * (time.process_time() - start)
def spent(control, value):  # as if this machine took 1 ms to copy TREE: a busy or a slow one takes longer
    yardstick = statistics.median(milliseconds(copy.deepcopy, TREE) for _ in range(5))
    act = control.click if value is CLICK else lambda: setattr(control, "value", value)
    return milliseconds(act) / max(1, yardstick)
CLICK = object()
def values(control):
    if isinstance(control, ipywidgets.Button):
        return [CLICK]
    if isinstance(control, ipywidgets.Textarea):
        return [control.value[:-9], control.value[1:], control.value]
    if hasattr(control, "options"):
        options = [one[1] if isinstance(one, tuple) else one for one in control.options]
        return options[1:] + options[:1]
    if isinstance(control, ipywidgets.Checkbox):
        return [not control.value, control.value]
    low, high, log = control.min, control.max, isinstance(control, ipywidgets.FloatLogSlider)
    steps = [low + (high - low) * i / 8 for i in range(9)]
    whole = isinstance(control, (ipywidgets.IntSlider, ipywidgets.IntText))
    return [round(one) if whole else control.base**one if log else one for one in steps]
moved, faults = {}, []
kinds = (ipywidgets.FloatSlider, ipywidgets.IntSlider, ipywidgets.FloatLogSlider, ipywidgets.Dropdown,
         ipywidgets.Select, ipywidgets.ToggleButtons, ipywidgets.SelectionSlider, ipywidgets.RadioButtons,
         ipywidgets.Checkbox, ipywidgets.Button, ipywidgets.Textarea)
WORK = ("Walk it through", "Stop building")  # these redraw nothing: they run a model, end a build
controls = [one for one in list(_instances.values()) if isinstance(one, kinds)]
for control in [one for one in controls if getattr(one, "description", "") not in WORK]:
    times = [spent(control, value) for value in values(control)]
    name = f"{type(control).__name__} {control.description} {len(moved)}"
    moved[name] = round(statistics.median(times), 1)
    faults += [f"{name}: {one.value}" for one in list(_instances.values())
               if isinstance(one, ipywidgets.HTML) and "fault of the course" in one.value]
print(json.dumps({"moved": moved, "faults": faults}))
"""


@each
def test_style(path):
    assert notebooks.problems(path) == []


@each
def test_runs_unsolved_from_the_recordings(path):
    book = executed(path)  # kept for the pages of tests/whole/test_site.py
    said = [output for cell in book.cells for output in cell.get("outputs", ())]
    assert any(
        "plotly" in mime or "widget" in mime for output in said for mime in output.get("data", ())
    )


@each
def test_solved_passes_and_wrong_fails_and_every_control_answers_in_time(path):
    """Every option of every control is tried in the kernel: what the reader sees is never a fault,
    nor late.
    """
    book = notebooks.run(path, solve=True, timeout=300, after=CONTROLS)
    said = json.loads(book.cells[-1].outputs[0].text)
    assert said["faults"] == []
    assert said["moved"]
    slow = {name: ms for name, ms in said["moved"].items() if ms >= 150}
    print(path.name, said["moved"])
    assert slow == {}, "milliseconds of CPU time, median, on a machine of the yardstick's speed"


@pytest.mark.parametrize(
    "one", [one for one in exercises.ids() if isinstance(exercises.get(one), exercises.Exercise)]
)
def test_every_exercise_has_hints_a_time_and_a_wrong_answer(one):
    exercise = exercises.get(one)
    assert exercise.hints
    assert exercise.wrong
    assert exercise.minutes > 0
    assert exercise.difficulty in (1, 2, 3)
    assert exercises.check(one, None).passed is None


TINY = """%% md question
# 01 · A number in eight bits

%% code setup
x = 1

%% md takeaway
[back](tiny.ipynb)
"""


def test_plain_text_survives_the_way_there_and_back():
    assert notebooks.as_text(notebooks.build(TINY)) == TINY
    assert notebooks.canonical(notebooks.build(TINY)) == notebooks.canonical(
        nbformat.reads(notebooks.canonical(notebooks.build(TINY)), as_version=4)
    )


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        (lambda text: text, "no cell of kind"),
        (lambda text: text.replace("x = 1", "x = 1\n" * 41), "41 lines, at most 40"),
        (lambda text: text.replace("tiny.ipynb", "gone.ipynb"), "leads nowhere"),
        (lambda text: text + "".join(f"%% code look-{i}\nx\n" for i in range(61)), "at most 60"),
        (
            lambda text: text + "%% code exercise-01-nothing\nx\n",
            "no exercise in trtlearn/course/chapters/ch01.py",
        ),
        (lambda text: text.replace("# 01", "# 02"), "the first line is not"),
    ],
)
def test_what_breaks_the_rules_is_named(tmp_path, change, complaint):
    path = tmp_path / NOTEBOOKS["01"][0]
    (tmp_path / "tiny.ipynb").write_text("")
    path.write_text(notebooks.canonical(notebooks.build(change(TINY))))
    assert any(complaint in line for line in notebooks.problems(path))


def test_outputs_left_in_a_notebook_are_refused(tmp_path):
    path = tmp_path / NOTEBOOKS["01"][0]
    book = notebooks.build(TINY)
    book.cells[1].outputs = [nbformat.v4.new_output("stream", text="1")]
    path.write_text(nbformat.writes(book))
    assert {"setup: has outputs"} < set(notebooks.problems(path))


def test_a_check_that_passes_a_wrong_answer_is_found(tmp_path):
    text = '%% code exercise-01-scale\nmy_scale = ...\ncheck("01-scale", my_scale)\n'
    book = notebooks.solved(notebooks.build(text))
    tests = [cell.source for cell in book.cells[1:]]
    check = 'check("01-scale", my_scale)'
    assert book.cells[0].source == f"{exercises.get('01-scale').solution}\n{check}"
    assert sum("is False" in test for test in tests) == len(exercises.get("01-scale").wrong)
