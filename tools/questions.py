"""Write docs/questions.md, the page of the questions that this course answers, from
tools/questions.json: eight of the forum thread, twenty of other readers, those of 2025 and 2026.

python -m tools.questions

Each has a short answer with its source, and the notebook and cell that show it by running. What
cannot be shown here (another machine is needed) says "Not measured here" and is answered from its
source. A short answer never claims more than its source.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from trtlearn.course.notebook import NOTEBOOKS
from trtlearn.record import Record

ROOT = Path(__file__).resolve().parents[1]
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


TABLE = Path(__file__).with_suffix(".json").read_text(encoding="utf-8")
QUESTIONS = {row["key"]: Question.from_dict(row) for row in json.loads(TABLE)}
"""Key -> question, in order."""

THREAD = tuple(row for row in QUESTIONS.values() if row.key.startswith("thread-"))
"""The eight questions of the thread."""

OTHERS = tuple(row for row in QUESTIONS.values() if row.key.startswith("item-"))
"""The twenty that others keep asking."""

NEWER = tuple(row for row in QUESTIONS.values() if row.key.startswith("newer-"))
"""Those asked in 2025 and 2026."""

GROUPS = (
    ("The eight questions of the forum thread", THREAD),
    ("Twenty that others keep asking", OTHERS),
    ("Asked in 2025 and 2026", NEWER),
)


def entry(one: Question) -> str:
    """One question: answer, the cell that shows it, who asked, the source."""
    lines = [f'<a id="{one.key}"></a>**{one.question}** {one.answer}']
    if one.notebook:
        name = NOTEBOOKS[one.notebook][0]
        lines.append(f"Shown in [{one.notebook}](../notebooks/{name}), cell `{one.cell}`.")
    asked = [f"[{short(link)}]({link})" for link in one.links]
    if asked:
        lines.append(f"Asked in {', '.join(asked)}.")
    lines.append(f"Source: {one.source}.")
    return "\n".join(lines)


def short(link: str) -> str:
    """T#N for an issue of NVIDIA/TensorRT, else NAME#N.

    >>> short("https://github.com/NVIDIA/TensorRT/issues/1703")
    'T#1703'
    """
    owner, name, _, number = link.removeprefix("https://github.com/").split("/")
    return f"T#{number}" if (owner, name) == ("NVIDIA", "TensorRT") else f"{name}#{number}"


def page() -> str:
    """The whole page."""
    parts = [
        "# Questions",
        "Each short answer names the cell that shows it by running. Where another machine is needed "
        '(Orin, Thor, DLA), the answer begins with "Not measured here" and is as good as its source. '
        "T#N is issue N of NVIDIA/TensorRT.",
    ]
    for title, questions in GROUPS:
        parts.append(f"## {title}")
        parts += [entry(one) for one in questions]
    return "\n\n".join(parts) + "\n"


def main() -> None:
    """Write the page."""
    (ROOT / "docs" / "questions.md").write_text(page(), encoding="utf-8")


if __name__ == "__main__":
    main()
