"""How long the course takes to read, counted.

    python -m tools.reading_time

Text: every word that stands open in a Markdown cell, 200 a minute. Code: every name, number and
text in a line of code, and every word of a comment, 100 a minute: half as fast. Counted apart: folded
parts (<details>), sections whose heading begins with "Deeper:", and the minutes that exercises state.
Links' targets, formulas and what cells print are not counted.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

import nbformat

from tools import notebooks
from trtlearn.course import exercise
from trtlearn.course.notebook import NOTEBOOKS

ROOT = Path(__file__).resolve().parents[1]
TEXT, CODE = 200, 100  # words a minute
CORE = tuple(f"{number:02d}" for number in range(10))
"""The numbers of the core path."""

FOLDED = re.compile(r"<details>.*?</details>", re.S)
FENCED = re.compile(r"^```\w*\n(.*?)^```$", re.S | re.M)
SECTION = re.compile(r"^(?=## )", re.M)
SILENT = re.compile(r"\$\$.*?\$\$|\]\([^)]*\)|<[^>]+>|https?://\S+", re.S)
WORD = re.compile(r"[^\W_](?:[\w’'.,%/-]*[^\W_])?")


@dataclass(frozen=True)
class ReadingTime:
    """Minutes of one notebook."""

    text: float
    code: float
    deeper: float  # folded, or under a heading that begins with "Deeper:"
    exercises: int

    @property
    def core(self) -> float:
        """Text and code that stand open."""
        return self.text + self.code


def words(text: str) -> int:
    """How many words a reader meets.

    >>> words("Read [the file](a/b.md): scale = amax / 127, **not** 128.")
    8
    """
    return len(WORD.findall(SILENT.sub(" ", text)))


def reading_time(number: str, book: nbformat.NotebookNode) -> ReadingTime:
    """Minutes that the notebook takes."""
    minutes = {"text": 0.0, "code": 0.0, "deeper": 0.0}
    deep = False
    for cell in book.cells:
        if cell.cell_type == "code":
            deep = deep and notebooks.kind(cell) != "exercise"
            if notebooks.kind(cell) != "exercise":
                minutes["deeper" if deep else "code"] += words(cell.source) / CODE
            continue
        for part in SECTION.split(cell.source):
            if part.startswith("## "):
                deep = part.startswith("## Deeper:")
            folded = " ".join(FOLDED.findall(part))
            minutes["deeper"] += words(folded) / TEXT
            open_ = FOLDED.sub("", part)
            code = words(" ".join(FENCED.findall(open_))) / CODE
            text = words(FENCED.sub("", open_)) / TEXT
            if deep:
                minutes["deeper"] += text + code
            else:
                minutes["text"] += text
                minutes["code"] += code
    tasks = [exercise.get(one) for one in exercise.ids() if one.startswith(f"{number}-")]
    practice = sum(one.minutes for one in tasks if isinstance(one, exercise.Exercise))
    return ReadingTime(**minutes, exercises=practice)


def all_times() -> dict[str, ReadingTime]:
    """Number -> minutes of each notebook that exists."""
    paths = {number: ROOT / "notebooks" / name for number, (name, _) in NOTEBOOKS.items()}
    return {
        number: reading_time(number, notebooks.read(path))
        for number, path in paths.items()
        if path.is_file()
    }


def core_minutes() -> float:
    """Minutes of the core path: the open text and code of 00 to 09."""
    return sum(time.core for number, time in all_times().items() if number in CORE)


def main() -> None:
    """Print the table."""
    print("     text  code   core  deeper  exercises   (minutes)")
    for number, time in all_times().items():
        parts = f"{time.text:6.1f}{time.code:6.1f}{time.core:7.1f}{time.deeper:8.1f}"
        print(f"{number} {parts}{time.exercises:11d}")
    print(f"core path, 00 to 09: {core_minutes():.0f} minutes")


if __name__ == "__main__":
    main()
