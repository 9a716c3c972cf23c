"""The questions that this course answers: eight of the forum thread, twenty of other readers, and
those of 2025 and 2026.

Each has a short answer with its source, and the notebook and cell that show it by running. What
cannot be shown here (another machine is needed) says "Not measured here" and is answered from its
source. A short answer never claims more than its source. The texts are in tables/questions.json;
docs/questions.md is made from them.
"""

from __future__ import annotations

from dataclasses import dataclass

from ..files import load_table
from ..record import Record

__all__ = ["NEWER", "OTHERS", "QUESTIONS", "THREAD", "UNMEASURED", "Question"]

UNMEASURED = "Not measured here."


@dataclass(frozen=True)
class Question(Record):
    """One question with its answer."""

    key: str  # thread-1 to thread-8, item-1 to item-20, newer-1 and on
    question: str
    answer: str
    source: str
    notebook: str  # the number of the notebook that shows it; "" where none can
    cell: str = ""  # the id of the cell whose claim answers it
    issues: tuple[int, ...] = ()  # of NVIDIA/TensorRT
    asked: tuple[str, ...] = ()  # elsewhere: "owner/name#number"

    def summary(self) -> str:
        return f"{self.question} {self.answer}"

    @property
    def links(self) -> tuple[str, ...]:
        """The issues' addresses."""
        places = [f"NVIDIA/TensorRT#{number}" for number in self.issues] + list(self.asked)
        return tuple(f"https://github.com/{place.replace('#', '/issues/')}" for place in places)


QUESTIONS: dict[str, Question] = {
    row["key"]: Question.from_dict(row) for row in load_table("questions")
}
"""Key -> question, in order."""

THREAD = tuple(row for row in QUESTIONS.values() if row.key.startswith("thread-"))
"""The eight questions of the thread."""

OTHERS = tuple(row for row in QUESTIONS.values() if row.key.startswith("item-"))
"""The twenty that others keep asking."""

NEWER = tuple(row for row in QUESTIONS.values() if row.key.startswith("newer-"))
"""Those asked in 2025 and 2026."""
