"""The table of questions: whole, unique, and citing lines that are there."""

from __future__ import annotations

import os
import re
import subprocess

import pytest

from trtlearn.course import NOTEBOOKS
from trtlearn.questions import OTHERS, QUESTIONS, THREAD, QuestionTable, question_table


def test_eight_and_twenty() -> None:
    assert [one.key for one in THREAD] == [f"thread-{n}" for n in range(1, 9)]
    assert [one.key for one in OTHERS] == [f"item-{n}" for n in range(1, 21)]
    assert len({one.question for one in QUESTIONS.values()}) == 28


def test_each_is_answered_from_somewhere() -> None:
    for one in QUESTIONS.values():
        assert one.question.endswith("?")
        assert one.answer.endswith(".")
        assert one.notebook in NOTEBOOKS
        assert re.search(r"v\d+\.\d+(\.\d)?:|measured: data/|NVIDIA/TensorRT|docs\.nvidia\.com|trtlearn\.", one.source)
        assert all(link.startswith("https://github.com/NVIDIA/TensorRT/issues/") for link in one.links)
    assert all(one.issues for one in OTHERS)


def test_table() -> None:
    assert QuestionTable.from_json(question_table().to_json()) == question_table()
    parts = [question_table(number).questions for number in NOTEBOOKS]
    assert sum(map(len, parts)) == 28


def test_cited_lines_exist() -> None:
    repository = os.environ.get("TENSORRT_REPO")
    if not repository:
        pytest.skip("set TENSORRT_REPO to a git checkout of NVIDIA/TensorRT")
    for one in QUESTIONS.values():
        for tag, file, lines in re.findall(r"(v\d+\.\d+(?:\.\d+)?):([\w/.]+):([\d, and-]+)", one.source):
            show = ["git", "-C", repository, "show", f"{tag}:{file}"]
            length = len(subprocess.run(show, check=True, capture_output=True, text=True).stdout.splitlines())
            assert all(int(number) <= length for number in re.findall(r"\d+", lines)), one.key
