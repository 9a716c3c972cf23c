"""The questions that this course answers: the eight of the forum thread, and twenty that keep being asked.

Each has a short answer, where it is known from, and the notebook and cell that show it by running. A short answer
never claims more than its source; numbers stand in the notebooks, beside what they were measured on. The texts are
in tables/questions.json.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..record import Record

__all__ = ["OTHERS", "QUESTIONS", "THREAD", "Question", "QuestionTable", "question_table"]


@dataclass(frozen=True)
class Question(Record):
    """One question. ``key`` is "thread-1" to "thread-8" or "item-1" to "item-20"; ``issues`` are of NVIDIA/TensorRT."""

    key: str
    question: str
    answer: str
    source: str
    notebook: str  # the number of the notebook that shows it
    cell: str = ""  # the id of the cell whose claim answers it
    issues: tuple[int, ...] = ()

    def summary(self) -> str:
        return f"{self.question} {self.answer}"

    @property
    def links(self) -> tuple[str, ...]:
        """The issues' addresses."""
        return tuple(
            f"https://github.com/NVIDIA/TensorRT/issues/{number}" for number in self.issues
        )


@dataclass(frozen=True)
class QuestionTable(Record):
    """Questions with their answers, to show as a table."""

    questions: tuple[Question, ...]

    def summary(self) -> str:
        return f"{len(self.questions)} questions"

    def rows(self) -> list[dict[str, Any]]:
        return [
            {
                "question": one.question,
                "in short": one.answer,
                "notebook": one.notebook,
                "source": one.source,
            }
            for one in self.questions
        ]


QUESTIONS: dict[str, Question] = {
    row["key"]: Question(**{**row, "issues": tuple(row["issues"])})
    for row in json.loads((Path(__file__).with_name("questions.json")).read_text(encoding="utf-8"))
}
"""Key -> question, in order."""

THREAD = tuple(one for one in QUESTIONS.values() if one.key.startswith("thread-"))
"""The eight questions of the thread."""

OTHERS = tuple(one for one in QUESTIONS.values() if one.key.startswith("item-"))
"""The twenty that others keep asking."""


def question_table(notebook: str | None = None) -> QuestionTable:
    """All questions, or those of one notebook, as a table.

    >>> len(question_table().questions)
    28
    """
    return QuestionTable(
        tuple(one for one in QUESTIONS.values() if notebook in (None, one.notebook))
    )
