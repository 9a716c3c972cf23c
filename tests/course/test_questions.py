"""The table of questions: whole, unique, and citing lines that are there."""

from __future__ import annotations

import json
import os
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tools import questions as questions_page
from tools.questions import NEWER, OTHERS, QUESTIONS, THREAD, UNMEASURED, Question
from trtlearn.course.notebook import NOTEBOOKS
from trtlearn.files import notebooks_dir

ROOT = Path(__file__).resolve().parents[2]


def test_the_page_of_questions_is_made_from_the_table() -> None:
    page = (ROOT / "docs" / "questions.md").read_text(encoding="utf-8")
    assert page == questions_page.page(), "run python -m tools.questions"
    for one in QUESTIONS.values():
        assert f'<a id="{one.key}"></a>' in page


def test_eight_and_twenty() -> None:
    assert [one.key for one in THREAD] == [f"thread-{n}" for n in range(1, 9)]
    assert [one.key for one in OTHERS] == [f"item-{n}" for n in range(1, 21)]
    assert [one.key for one in NEWER] == [f"newer-{n}" for n in range(1, len(NEWER) + 1)]
    assert len(NEWER) >= 18
    assert len({one.question for one in (*THREAD, *OTHERS)}) == 28
    assert len({one.question for one in QUESTIONS.values()}) == 28 + len(NEWER)


def test_each_is_answered_from_somewhere() -> None:
    for one in QUESTIONS.values():
        assert one.question.endswith("?")
        assert one.answer.endswith(".")
        assert (one.notebook in NOTEBOOKS) != one.answer.startswith(UNMEASURED)
        assert re.search(
            r"v\d+\.\d+(\.\d)?:|measured: data/|NVIDIA/TensorRT|docs\.nvidia\.com|trtlearn\.|github\.com",
            one.source,
        )
        if one not in NEWER:
            assert one.notebook
            assert all(
                link.startswith("https://github.com/NVIDIA/TensorRT/issues/") for link in one.links
            )
        assert all(
            re.fullmatch(r"https://github\.com/[\w.-]+/[\w.-]+/issues/\d+", link)
            for link in one.links
        )
    assert all(one.links for one in NEWER)
    assert all(one.issues for one in OTHERS)


def test_table() -> None:
    for one in QUESTIONS.values():
        assert Question.from_json(one.to_json()) == one
    notebooks = [one.notebook for one in QUESTIONS.values()]
    assert sum(notebooks.count(number) for number in NOTEBOOKS) == 28 + sum(
        bool(one.notebook) for one in NEWER
    )


def cells_of(number: str) -> dict[str, Any]:
    """Id -> source of the code cells of a notebook; empty while it is not there."""
    path = notebooks_dir() / NOTEBOOKS[number][0]
    if not path.is_file() or not path.stat().st_size:
        return {}
    book = json.loads(path.read_text(encoding="utf-8"))
    return {
        cell["id"]: "".join(cell["source"]) for cell in book["cells"] if cell["cell_type"] == "code"
    }


def keys_of_facts(number: str) -> set[str]:
    """The questions that docstrings of tests/course/test_facts_NN.py name."""
    path = Path(__file__).with_name(f"test_facts_{number}.py")
    text = path.read_text(encoding="utf-8") if path.is_file() else ""
    return set(re.findall(r"\b(?:thread|item|newer)-\d+\b", text))


@pytest.mark.parametrize("key", list(QUESTIONS))
def test_each_is_answered_by_a_cell_that_checks_it(key: str) -> None:
    """Every question names a cell; the cell is there, a claim or a test of facts checks it, and its
    notebook names the issues.
    """
    one = QUESTIONS[key]
    if not one.notebook:
        assert one.answer.startswith(UNMEASURED)
        assert f'<a id="{key}"></a>' in (ROOT / "docs" / "questions.md").read_text(encoding="utf-8")
        return
    cells = cells_of(one.notebook)
    whole = all(cells_of(number) for number in NOTEBOOKS)
    if not one.cell and not whole:
        pytest.skip("the course is not whole yet")
    assert one.cell in cells, f"{key}: notebook {one.notebook} has no code cell {one.cell!r}"
    checked = "claim(" in cells[one.cell] or key in keys_of_facts(one.notebook)
    assert checked, (
        f"{key}: cell {one.cell!r} claims nothing, and test_facts_{one.notebook} neither"
    )
    text = (notebooks_dir() / NOTEBOOKS[one.notebook][0]).read_text(encoding="utf-8")
    assert not one.issues or any(str(number) in text for number in one.issues), (
        f"{key}: no issue is named"
    )


def test_cited_lines_exist() -> None:
    repository = os.environ.get("TENSORRT_REPO")
    if not repository:
        pytest.skip("set TENSORRT_REPO to a git checkout of NVIDIA/TensorRT")
    for one in QUESTIONS.values():
        for tag, file, lines in re.findall(
            r"(v\d+\.\d+(?:\.\d+)?):([\w/.]+):([\d, and-]+)", one.source
        ):
            show = ["git", "-C", repository, "show", f"{tag}:{file}"]
            length = len(
                subprocess.run(show, check=True, capture_output=True, text=True).stdout.splitlines()
            )
            assert all(int(number) <= length for number in re.findall(r"\d+", lines)), one.key
