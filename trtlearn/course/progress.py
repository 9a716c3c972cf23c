"""The reader's progress: one small JSON file in :func:`trtlearn.files.user_dir`.

A file that cannot be read or written costs the progress, never the lesson.
"""

from __future__ import annotations

import contextlib
import json
import os
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..errors import TrtlearnError
from ..files import locked, user_dir, write_atomic
from ..record import Record, plural

__all__ = ["Progress", "Report", "Step", "load", "note", "now_utc", "path", "reset"]


@dataclass(frozen=True)
class Step(Record):
    """One exercise or prediction: how often it was tried and how it stands."""

    id: str
    tries: int = 0
    passed: bool | None = None  # None: a prediction, neither right nor wrong
    answer: str = ""  # of a prediction
    time_utc: str = ""  # of the last try


@dataclass(frozen=True)
class Progress(Record):
    """Everything that the reader has done so far."""

    steps: dict[str, Step] = field(default_factory=dict)

    def summary(self) -> str:
        solved = sum(bool(step.passed) for step in self.steps.values())
        predicted = sum(bool(step.answer) for step in self.steps.values())
        return f"{plural(solved, 'exercise')} solved, {plural(predicted, 'prediction')} made"

    def rows(self) -> list[dict[str, Any]]:
        return [
            {
                "exercise": step.id,
                "solved": step.passed,
                "tries": step.tries,
                "predicted": step.answer or "none",
                "last": step.time_utc,
            }
            for _, step in sorted(self.steps.items())
        ]


@dataclass(frozen=True)
class Report(Record):
    """What ``trtlearn progress export`` writes: no name, no code."""

    trtlearn: str
    time_utc: str
    exercises: int  # of the course
    solved: int
    predictions: int  # of the course
    predicted: int
    steps: dict[str, Step] = field(default_factory=dict)

    def summary(self) -> str:
        solved = f"{self.solved} of {self.exercises} exercises solved"
        return f"{solved}, {self.predicted} of {self.predictions} predicted"


def path() -> Path:
    """Where the progress is kept."""
    return user_dir() / "progress.json"


def load() -> Progress:
    """The progress so far; empty where there is none or the file is broken."""
    try:
        return Progress.from_json(path().read_text(encoding="utf-8"))
    except (OSError, ValueError, TrtlearnError):
        return Progress()


def now_utc() -> str:
    """The time of day, as the progress writes it."""
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())


def note(step_id: str, passed: bool | None = None, answer: str = "") -> str:
    """Save one try and return "" or why that failed; what was solved once stays solved."""
    try:
        with locked(path()):
            steps = dict(load().steps)
            if not steps and os.access(path(), os.R_OK):
                path().unlink()  # it is broken; a binary file would not be replaced
            before = steps.get(step_id, Step(step_id))
            steps[step_id] = Step(
                step_id,
                before.tries + 1,
                True if before.passed else passed,
                answer or before.answer,
                now_utc(),
            )
            write_atomic(path(), json.dumps(Progress(steps).to_dict(), indent=1))
    except (OSError, TrtlearnError) as problem:
        return f"progress not saved: {problem}"
    return ""


def reset() -> None:
    """Forget everything: the file is removed."""
    for file in (path(), path().with_name(f"{path().name}.lock")):
        with contextlib.suppress(FileNotFoundError):
            os.unlink(file)
