"""Exercises: unsolved never raises, wrong says what differs, right passes, and the progress is
kept.
"""

import concurrent.futures
import importlib
import json
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from trtlearn.course import exercise, progress
from trtlearn.course.notebook import NOTEBOOKS
from trtlearn.course.verdict import judge_choice, judge_function, judge_number, random_cases
from trtlearn.errors import TrtlearnError


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("TRTLEARN_HOME", str(tmp_path / "home"))
    exercise.ids()  # loads every module that registers some
    known = dict(exercise._REGISTRY)
    exercise.register(
        exercise.Prediction("99-guess", "Will it rain?", ("yes", "no")),
        exercise.Exercise(
            "99-double",
            "Double it",
            partial(
                judge_function,
                cases=random_cases(lambda x: 2 * x, lambda rng: (rng.normal(size=4),)),
                common_mistakes={"squared": lambda x: x * x},
            ),
            solution="def double(x):\n    return 2 * x",
            wrong=("def double(x):\n    return x",),
            hints=("add it to itself",),
            draw=lambda f: f(1),
        ),
        exercise.Exercise(
            "99-half",
            "Half of one",
            partial(judge_number, reference=lambda: 0.5),
            "a = 0.5",
            ("a = 1",),
        ),
    )
    yield tmp_path / "home"
    exercise._REGISTRY.clear()
    exercise._REGISTRY.update(known)


@pytest.mark.parametrize("answer", [None, ..., lambda x: None, lambda x: ...])
def test_unsolved_never_raises_and_is_no_try(answer):
    verdict = exercise.check("99-double", answer)
    assert verdict.passed is None
    assert "Not answered" in str(verdict)
    assert not progress.load().steps


def test_right_and_wrong_code():
    assert exercise.check("99-double", lambda x: x + x).passed is True
    wrong = exercise.check("99-double", lambda x: 3 * x)
    assert wrong.passed is False
    assert wrong.id == "99-double"
    assert "elements differ" in wrong.comparisons[0].differs
    assert "squared" in exercise.check("99-double", lambda x: x * x).text


def boom(x):
    raise ValueError("no such luck")


@pytest.mark.parametrize(
    "answer", [boom, 3, "text", lambda: 1, lambda x: "text", lambda x: [1, [2]], lambda x: x[:2]]
)
def test_any_nonsense_gives_a_verdict(answer):
    verdict = exercise.check("99-double", answer)
    assert verdict.passed is False
    assert verdict._repr_html_()


def test_an_answer_cannot_pass_by_changing_its_input():
    def cheat(x):
        x *= 0
        return x

    assert exercise.check("99-double", cheat).passed is False


@pytest.mark.parametrize(
    ("answer", "passed"),
    [(0.5, True), (np.float32(0.5), True), (0.51, False), ("x", False), ([0.5, 0.5], False)],
)
def test_numbers(answer, passed):
    assert exercise.check("99-half", answer).passed is passed


def test_choice_ignores_case_and_says_what_speaks_against():
    judge = partial(
        judge_choice,
        right="INT8",
        because="the log says so",
        objections={"fp32": "its weights are bytes"},
    )
    assert judge("int8").passed
    assert "its weights are bytes" in judge("FP32").text


def test_even_what_is_wrong_is_drawn_and_what_raises_is_said():
    wrong = exercise.check("99-double", lambda x: 7)
    assert (wrong.passed, wrong.figure) == (False, 7)
    assert exercise.check("99-double", None).figure is None
    raising = exercise.check("99-double", boom)
    assert raising.figure is None
    assert "no such luck" in raising.text


def test_hints_and_solutions():
    open_ = exercise.check("99-double", None)
    assert open_.folds == (
        ("Hint 1 of 1", "add it to itself"),
        ("One solution (open it after your own try)", "def double(x):\n    return 2 * x"),
    )
    assert open_._repr_html_().count("<details>") == 2


@pytest.mark.parametrize("bad", ["99-nothing", "nonsense", "98-x"])
def test_unknown_ids_name_those_that_exist(bad):
    with pytest.raises(TrtlearnError, match="use one of"):
        exercise.check(bad, 1)


def test_prediction_is_kept_and_compared():
    assert exercise.outcome("99-guess", "yes").passed is None
    widget = exercise.predict("99-guess")
    widget.children[1].value = "no"
    assert progress.load().steps["99-guess"].answer == "no"
    assert exercise.outcome("99-guess", "no").passed is True
    surprised = exercise.outcome("99-guess", "yes")
    assert (surprised.passed, surprised.surprise) == (False, True)
    assert exercise.predict("99-guess").children[1].value == "no"  # as chosen before


def test_progress_survives_and_resets(home):
    exercise.check("99-half", 3)
    exercise.check("99-half", 0.5)
    exercise.check("99-half", 4)
    step = progress.load().steps["99-half"]
    assert (step.tries, step.passed) == (3, True)
    assert "1 exercise solved" in progress.load().summary()
    progress.reset()
    assert not list(home.iterdir())
    assert progress.load() == progress.Progress()


@pytest.mark.parametrize("content", ["", "{", "[]", '{"steps": 3}', '{"steps": {"a": {}}}', "\x00"])
def test_a_broken_progress_file_costs_only_the_progress(home, content):
    home.mkdir()
    progress.path().write_text(content)
    assert exercise.check("99-half", 0.5).passed
    assert json.loads(progress.path().read_text())["steps"]["99-half"]["passed"] is True


def test_a_folder_that_cannot_be_written_is_said(home):
    home.write_text("a file where the folder should be")
    verdict = exercise.check("99-half", 0.5)
    assert verdict.passed
    assert "progress not saved" in str(verdict)


def test_notebooks_noting_at_once_lose_nothing():
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda index: progress.note(f"99-n{index}", True), range(24)))
    assert len(progress.load().steps) == 24


def judged() -> list[tuple[str, str]]:
    """Every exercise of the course and each of its common mistakes."""
    pairs = []
    for name in exercise.ids():
        judge = getattr(exercise.get(name), "judge", None)
        pairs += [(name, reason) for reason in getattr(judge, "keywords", {}).get(MISTAKES) or ()]
    return pairs


MISTAKES = "common_mistakes"


def test_every_mistake_that_a_chapter_makes_has_words():
    for number in NOTEBOOKS:
        module = importlib.import_module(f"trtlearn.course.chapters.ch{number}")
        rows = json.loads(Path(module.__file__).with_suffix(".json").read_text(encoding="utf-8"))
        told = {row["id"][3:]: set(row["mistakes"]) for row in rows if "mistakes" in row}
        made = {
            name.removeprefix("mistakes_"): set(functions)
            for name, functions in vars(module).items()
            if name.startswith("mistakes_")
        }
        assert told == made


@pytest.mark.parametrize(("name", "reason"), judged())
def test_a_common_mistake_is_named(name, reason):
    judge = exercise.get(name).judge
    mistake = judge.keywords[MISTAKES][reason]
    verdict = exercise.check(name, mistake() if judge.func is judge_number else mistake)
    assert verdict.passed is False
    assert reason in verdict.text


def test_who_takes_abs_is_not_told_to_take_abs():
    for _ in range(5):
        verdict = exercise.check("03-minmax", lambda batches: np.abs(batches[-1]).max())
        assert "the last batch only" in verdict.text


def test_an_engine_is_shown_in_one_line():
    verdict = exercise.check("06-share", lambda layers: 7.0)
    assert len(verdict.comparisons) == 1
    assert "layers: " in verdict.comparisons[0].input
    assert "{" not in str(verdict)


def test_a_shortcut_that_a_convolution_makes_needs_a_pair():
    def inputs_only(nodes):
        return {node.inputs[0] for node in nodes if node.op in ("Conv", "Gemm")}

    for _ in range(5):
        verdict = exercise.check("08-sites", inputs_only)
        assert verdict.passed is False
        assert "8 of 8" in verdict.text
        assert "Add(" in verdict.comparisons[0].input
