"""Write docs/questions.md, the page of all questions, from trtlearn/tables/questions.json.

python -m tools.questions
"""

from __future__ import annotations

from pathlib import Path

from trtlearn.course.notebook import NOTEBOOKS
from trtlearn.course.questions import NEWER, OTHERS, THREAD, Question

ROOT = Path(__file__).resolve().parents[1]
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
