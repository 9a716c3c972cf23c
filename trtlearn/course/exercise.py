"""Exercises: predict before you run, get a hint, check what you wrote; no wrong answer raises.

A notebook's questions, hints and solutions stand in ``chapters/chNN.json`` (NN = the notebook's
number; code line by line). Exercise NN-WORD is judged by ``judge_WORD`` of ``chapters/chNN.py``; by
``choice``, one word to choose; or by the first condition of ``look_WORD`` that holds, in the words
of ``told``. ``mistakes`` says what a common mistake gets told; ``mistakes_WORD`` holds the function
that makes it. ``draw_WORD`` draws the answer; ``passed`` is said of a right one.
"""

from __future__ import annotations

import contextlib
import dataclasses
import importlib
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from typing import Any

from .. import __version__
from ..errors import TrtlearnError
from ..record import html_text
from . import chapters, progress
from .notebook import NOTEBOOKS
from .verdict import Verdict, judge_case, judge_choice, raised

__all__ = ["check", "get", "ids", "outcome", "predict", "report"]


@dataclass(frozen=True)
class Prediction:
    """A question asked before the measurement; none of its ``options`` is a mistake."""

    id: str
    question: str
    options: tuple[str, ...]


@dataclass(frozen=True)
class Exercise:
    """A task with its check.

    ``judge`` gets what the reader wrote. ``solution`` and each of ``wrong`` are the source of the
    whole exercise cell: tests run the notebook with the solution in place and require that the
    check passes, and that it fails with every wrong one. ``draw`` gives a plotly Figure of what the
    reader's code does, right or wrong.
    """

    id: str
    title: str
    judge: Callable[[Any], Verdict]
    solution: str
    wrong: tuple[str, ...]
    hints: tuple[str, ...] = ()
    difficulty: int = 1  # 1 to 3
    minutes: int = 5
    draw: Callable[[Any], Any] | None = None


_REGISTRY: dict[str, Exercise | Prediction] = {}


def register(*entries: Exercise | Prediction) -> None:
    """Make exercises and predictions known; an id is the notebook's number and a word."""
    for entry in entries:
        _REGISTRY[entry.id] = entry


def ids() -> list[str]:
    """Every exercise and prediction of the course, in order."""
    for number in NOTEBOOKS:
        _load(number)
    return sorted(_REGISTRY)


@cache
def _load(number: str) -> None:
    """Make the exercises and predictions of a notebook known."""
    module = importlib.import_module(f"{chapters.__name__}.ch{number}")
    text = Path(str(module.__file__)).with_suffix(".json").read_text(encoding="utf-8")
    for row in json.loads(text):
        if "question" in row:
            register(Prediction(row["id"], row["question"], tuple(row["options"])))
            continue
        word = row["id"].removeprefix(f"{number}-")
        if "choice" in row:
            judge = partial(judge_choice, **row["choice"])
        elif "told" in row:
            judge = partial(judge_case, look=getattr(module, f"look_{word}"), told=row["told"])
        else:
            judge = getattr(module, f"judge_{word}")
        if told := row.get("mistakes"):
            make = getattr(module, f"mistakes_{word}")
            judge = partial(judge, common_mistakes={told[key]: make[key] for key in told})
        register(
            Exercise(
                row["id"],
                row["title"],
                partial(judge, right=row["passed"]) if "passed" in row else judge,
                solution="\n".join(row["solution"]),
                wrong=tuple("\n".join(lines) for lines in row["wrong"]),
                hints=tuple(row["hints"]),
                difficulty=row["difficulty"],
                minutes=row["minutes"],
                draw=getattr(module, f"draw_{word}", None),
            )
        )


def get(exercise_id: str) -> Exercise | Prediction:
    """The exercise or prediction of that id; TrtlearnError lists those of its notebook."""
    number = exercise_id[:2]
    if exercise_id not in _REGISTRY and number in NOTEBOOKS:
        _load(number)
    if exercise_id not in _REGISTRY:
        near = [known for known in ids() if known[:2] == number] or ids()
        raise TrtlearnError(f"no exercise {exercise_id!r}", f"use one of {', '.join(near)}")
    return _REGISTRY[exercise_id]


def report() -> progress.Report:
    """The reader's progress beside what the course asks, for ``trtlearn progress export``."""
    entries = {entry_id: get(entry_id) for entry_id in ids()}
    exercises = [name for name, entry in entries.items() if isinstance(entry, Exercise)]
    predictions = [name for name in entries if name not in exercises]
    steps = {name: step for name, step in progress.load().steps.items() if name in entries}
    return progress.Report(
        trtlearn=__version__,
        time_utc=progress.now_utc(),
        exercises=len(exercises),
        solved=sum(name in steps and bool(steps[name].passed) for name in exercises),
        predictions=len(predictions),
        predicted=sum(name in steps and bool(steps[name].answer) for name in predictions),
        steps=dict(sorted(steps.items())),
    )


def predict(prediction_id: str) -> Any:
    """Ask the reader for a prediction, with radio buttons; the progress keeps the choice.

    Returns the ipywidgets Widget.
    """
    entry = get(prediction_id)
    if isinstance(entry, Exercise):
        raise TrtlearnError(f"{prediction_id} is an exercise, not a prediction", "use check()")
    from ..show.controls import alert, guarded, ipywidgets, say, stack  # needs ipywidgets

    before = progress.load().steps.get(prediction_id)
    choice = before.answer if before else None
    buttons = ipywidgets.RadioButtons(
        options=entry.options,
        value=choice if choice in entry.options else None,
        layout={"width": "max-content"},
    )
    note = say("")

    def save() -> None:
        if buttons.value is None:
            note.value = "Choose one before you go on; the measurement below answers."
            return
        problem = progress.note(prediction_id, answer=buttons.value)
        words = alert(problem) if problem else "Saved. Go on: the measurement below answers."
        note.value = f'<span role="status">{words}</span>'

    on_choice = guarded(save, note, clear=False)
    buttons.observe(on_choice, "value")
    on_choice()
    return stack(say(f"<b>Predict: {html_text(entry.question)}</b>"), buttons, note)


def outcome(prediction_id: str, measured: str) -> Verdict:
    """What was measured beside what the reader predicted; ``measured`` is one of the options."""
    entry = get(prediction_id)
    if not isinstance(entry, Prediction) or measured not in entry.options:
        raise TrtlearnError(
            f"{measured!r} is no option of {prediction_id}", "give one of the prediction's options"
        )
    step = progress.load().steps.get(prediction_id)
    if step is None or step.answer not in entry.options:
        open_ = "Your own guess is still open: it is asked above"
        return Verdict(prediction_id, None, f"Measured: {measured}. {open_}.")
    right = step.answer == measured
    words = "as you predicted" if right else f'you predicted "{step.answer}"'
    return Verdict(prediction_id, right, f"Measured: {measured}; {words}.", surprise=not right)


def _picture(exercise: Exercise, answer: Any) -> Any:
    """A figure of what an answer does, right or wrong; where it cannot be drawn, of what there is
    to change. None where there is nothing to draw.
    """
    for given in (None if answer is ... else answer, None):
        with contextlib.suppress(Exception):
            return exercise.draw and exercise.draw(given)
    return None


def check(exercise_id: str, answer: Any) -> Verdict:
    """Yours beside the reference; ``...`` is not answered yet, and no wrong answer raises.

    A notebook shows first the picture of what the answer does, where the exercise has one.
    """
    exercise = get(exercise_id)
    if isinstance(exercise, Prediction):
        problem = f"{exercise_id} is a prediction, not an exercise"
        raise TrtlearnError(problem, "use predict() and outcome()")
    if isinstance(answer, Iterator):
        answer = list(answer)  # it is read twice
    verdict = _judged(exercise, answer)
    number = len(exercise.hints)
    folds = [(f"Hint {index} of {number}", hint) for index, hint in enumerate(exercise.hints, 1)]
    folds.append(("One solution (open it after your own try)", exercise.solution))
    return dataclasses.replace(
        verdict,
        id=exercise_id,
        not_saved_because=(
            "" if verdict.passed is None else progress.note(exercise_id, verdict.passed)
        ),
        figure=_picture(exercise, answer),
        folds=() if verdict.passed else tuple(folds),
    )


def _judged(exercise: Exercise, answer: Any) -> Verdict:
    if answer is None or answer is ...:
        facts = f"difficulty {exercise.difficulty} of 3, about {exercise.minutes} min"
        return Verdict(exercise.id, None, f"Not answered yet: {exercise.title} ({facts}).")
    try:
        return exercise.judge(answer)
    except TrtlearnError as problem:
        return Verdict(exercise.id, False, f"{problem}.")
    except Exception as problem:
        return Verdict(
            exercise.id, False, f"The check could not use your answer: {raised(problem)}"
        )
