"""The questions that this course answers: eight of the forum thread, twenty of other readers.

Each has a short answer with its source, and the notebook and cell that show it by running. A short
answer never claims more than its source; numbers stand in the notebooks, beside what they were
measured on. The texts are in questions.json.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from ..record import Record

__all__ = ["OTHERS", "QUESTIONS", "THREAD", "Question"]


@dataclass(frozen=True)
class Question(Record):
    """One question with its answer."""

    key: str  # thread-1 to thread-8, item-1 to item-20
    question: str
    answer: str
    source: str
    notebook: str  # the number of the notebook that shows it
    cell: str = ""  # the id of the cell whose claim answers it
    issues: tuple[int, ...] = ()  # of NVIDIA/TensorRT

    def summary(self) -> str:
        return f"{self.question} {self.answer}"

    @property
    def links(self) -> tuple[str, ...]:
        """The issues' addresses."""
        return tuple(
            f"https://github.com/NVIDIA/TensorRT/issues/{number}" for number in self.issues
        )


QUESTIONS: dict[str, Question] = {
    row["key"]: Question.from_dict(row)
    for row in json.loads(Path(__file__).with_name("questions.json").read_text(encoding="utf-8"))
}
"""Key -> question, in order."""

THREAD = tuple(row for row in QUESTIONS.values() if row.key.startswith("thread-"))
"""The eight questions of the thread."""

OTHERS = tuple(row for row in QUESTIONS.values() if row.key.startswith("item-"))
"""The twenty that others keep asking."""
