"""Exercises: predict before you run, get a hint, check what you wrote. Nothing here raises on a wrong answer.

A notebook's exercises stand in ``trtlearn/exercises_NN.py`` (NN = the notebook's number), which calls ``register``.
An id begins with that number: "01-scale" is looked up in exercises_01.
"""

from __future__ import annotations

import dataclasses
import html
import importlib
import pkgutil
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from ..errors import TrtlearnError
from ..record import Record, plural
from . import progress
from .verdict import Case, Prediction, Verdict, choice, function, number

__all__ = [
    "Case",
    "Exercise",
    "Prediction",
    "Verdict",
    "check",
    "choice",
    "function",
    "get",
    "hint",
    "ids",
    "number",
    "outcome",
    "predict",
    "register",
    "report",
    "show",
    "solution",
]


@dataclass(frozen=True)
class Exercise:
    """A task with its check.

    ``solution`` and each of ``wrong`` are the source of the whole exercise cell: CI runs the notebook with the
    solution in place and requires that the check passes, and that it fails with every wrong one. ``draw`` gets what
    the reader wrote and gives a plotly Figure of what it does, right or wrong.
    """

    id: str
    title: str
    checker: Callable[[Any], Verdict]
    solution: str
    wrong: tuple[str, ...]
    hints: tuple[str, ...] = ()
    difficulty: int = 1  # 1 to 3
    minutes: int = 5
    draw: Callable[[Any], Any] | None = None


@dataclass(frozen=True)
class Hint(Record):
    """One hint, and how many more there are."""

    text: str
    number: int
    of: int

    def __str__(self) -> str:
        more = f' (hint("…", {self.number + 1}) says more)' if self.number < self.of else ""
        return f"Hint {self.number} of {self.of}: {self.text}{more}"

    def _repr_html_(self) -> str:
        return f"<p>💡 {html.escape(str(self))}</p>"


@dataclass(frozen=True)
class Solution(Record):
    """One way to solve it, folded until it is opened."""

    source: str

    def __str__(self) -> str:
        return self.source

    def _repr_html_(self) -> str:
        head = "<details><summary>One solution (open it after your own try)</summary>"
        return f"{head}<pre>{html.escape(self.source)}</pre></details>"


_REGISTRY: dict[str, Exercise | Prediction] = {}


def register(*entries: Exercise | Prediction) -> None:
    """Make exercises and predictions known; called by the modules of chapters/."""
    for entry in entries:
        if not re.fullmatch(r"\d\d-[a-z0-9-]+", entry.id):
            raise TrtlearnError(
                f"exercise id {entry.id!r}",
                'use the notebook\'s number and a word, such as "01-scale"',
            )
        _REGISTRY[entry.id] = entry


def ids() -> list[str]:
    """Every exercise and prediction of the course, in order."""
    from . import chapters

    for module in pkgutil.iter_modules(chapters.__path__):
        importlib.import_module(f"{chapters.__name__}.{module.name}")
    return sorted(_REGISTRY)


def get(exercise_id: str) -> Exercise | Prediction:
    """The exercise or prediction of that id; TrtlearnError lists those of its notebook."""
    if exercise_id not in _REGISTRY and re.match(r"\d\d-", exercise_id):
        name = f"trtlearn.course.chapters.ch{exercise_id[:2]}"
        try:
            importlib.import_module(name)
        except ModuleNotFoundError as problem:
            if problem.name != name:
                raise
    if exercise_id not in _REGISTRY:
        near = [known for known in ids() if known[:2] == exercise_id[:2]] or ids()
        raise TrtlearnError(f"no exercise {exercise_id!r}", f"use one of {', '.join(near)}")
    return _REGISTRY[exercise_id]


def report() -> progress.Report:
    """The reader's progress beside what the course asks, to hand in (``trtlearn progress export``)."""
    import time

    from .. import __version__

    done = progress.load().steps
    kinds = {one: isinstance(get(one), Exercise) for one in ids()}
    return progress.Report(
        trtlearn=__version__,
        time_utc=time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        exercises=sum(kinds.values()),
        solved=sum(bool(step.passed) for one, step in done.items() if kinds.get(one)),
        predictions=len(kinds) - sum(kinds.values()),
        predicted=sum(bool(step.answer) for one, step in done.items() if kinds.get(one) is False),
        steps={one: done[one] for one in sorted(done) if one in kinds},
    )


def _exercise(exercise_id: str) -> Exercise:
    entry = get(exercise_id)
    if isinstance(entry, Prediction):
        raise TrtlearnError(
            f"{exercise_id} is a prediction, not an exercise", "use predict() and outcome()"
        )
    return entry


def predict(prediction_id: str, *, answer: str | None = None) -> Any:
    """Ask the reader for a prediction: radio buttons, by mouse or keyboard. The choice is kept in the progress.

    ``answer`` chooses without a mouse (for a script or a test). Returns the ipywidgets Widget.
    """
    entry = get(prediction_id)
    if isinstance(entry, Exercise):
        raise TrtlearnError(f"{prediction_id} is an exercise, not a prediction", "use check()")
    if answer is not None and answer not in entry.options:
        raise TrtlearnError(
            f"{answer!r} is not among the options", f"choose one of {list(entry.options)}"
        )
    from .prediction import prediction_widget

    before = progress.load().steps.get(prediction_id)
    return prediction_widget(entry, answer or (before.answer if before else None))


def outcome(prediction_id: str, measured: str) -> Verdict:
    """What was measured beside what the reader predicted. ``measured`` is one of the prediction's options."""
    entry = get(prediction_id)
    if not isinstance(entry, Prediction) or measured not in entry.options:
        raise TrtlearnError(
            f"{measured!r} is no option of {prediction_id}", "give one of the prediction's options"
        )
    step = progress.load().steps.get(prediction_id)
    if step is None or step.answer not in entry.options:
        return Verdict(prediction_id, None, f"Measured: {measured}. You made no prediction above.")
    right = step.answer == measured
    said = "as you predicted" if right else f'you predicted "{step.answer}"'
    return Verdict(prediction_id, right, f"Measured: {measured}; {said}.", surprise=not right)


def hint(exercise_id: str, number: int = 1) -> Hint:
    """The first hint, or the ``number``-th."""
    hints = _exercise(exercise_id).hints
    if not 1 <= number <= len(hints):
        raise TrtlearnError(
            f"{exercise_id} has {plural(len(hints), 'hint')}, not {number}", "count from 1"
        )
    return Hint(hints[number - 1], number, len(hints))


def solution(exercise_id: str) -> Solution:
    """One solution, folded."""
    return Solution(_exercise(exercise_id).solution)


def show(exercise_id: str, answer: Any) -> Any:
    """A figure of what your answer does, even when it is wrong; None while there is nothing to draw."""
    draw = _exercise(exercise_id).draw
    if draw is None or answer is None or answer is ...:
        return None
    try:
        return draw(answer)
    except Exception as problem:
        return Verdict(exercise_id, False, f"Your code raised {type(problem).__name__}: {problem}")


def check(exercise_id: str, answer: Any) -> Verdict:
    """Yours beside the reference. None or ``...`` means not answered yet; a wrong answer never raises."""
    exercise = _exercise(exercise_id)
    if answer is None or answer is ...:
        text = f"Not answered yet: {exercise.title} (difficulty {exercise.difficulty} of 3, about {exercise.minutes} min)."
        return Verdict(exercise_id, None, text)
    try:
        verdict = exercise.checker(answer)
    except Exception as problem:
        verdict = Verdict(
            exercise_id,
            False,
            f"The check could not use your answer: {type(problem).__name__}: {problem}",
        )
    kept = "" if verdict.passed is None else progress.note(exercise_id, verdict.passed)
    return dataclasses.replace(verdict, id=exercise_id, kept=kept)
