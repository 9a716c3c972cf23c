"""What a reader meets: every term linked where it comes first, a core path of 60 to 90 minutes, short
code, and reading copies that are as new as their notebooks.
"""

from __future__ import annotations

import ast
import re
import statistics
from pathlib import Path

import pytest

pytest.importorskip("nbformat")

import nbformat

from tools import glossary, notebooks, read, reading_time
from trtlearn.course import exercise

ROOT = Path(__file__).resolve().parents[2]
FOUND = sorted((ROOT / "notebooks").glob("[0-9]*.ipynb"))
each = pytest.mark.parametrize("path", FOUND, ids=lambda path: path.stem)


# --- The glossary.


@each
def test_every_term_is_linked_where_it_is_used_first(path: Path) -> None:
    assert glossary.missing(path) == [], "run python -m tools.glossary notebooks/[0-9]*.ipynb"


def test_every_term_of_the_glossary_has_its_anchor_and_its_words() -> None:
    terms = glossary.anchors()
    assert set(terms) == set(glossary.WORDS)
    assert list(terms.values()) == sorted(terms.values(), key=str.lower)
    for anchor, term in terms.items():
        match = glossary.TERM.search(term) or glossary.TERM.search(f"the {term}er")
        assert match is not None, term
        assert match.lastgroup == anchor.replace("-", "_"), term


@each
def test_links_to_the_glossary_lead_to_a_term(path: Path) -> None:
    text = notebooks.as_text(notebooks.read(path))
    used = set(re.findall(r"glossary\.md#([^)\s]+)", text))
    assert used <= set(glossary.anchors())


def test_a_first_use_without_a_link_is_found_and_code_is_left_alone() -> None:
    known: set[str] = set()
    text = "## A scale\n`scale` and a scale. Another scale, [an engine](x.md), an engine."
    assert glossary.linked(text, known) == (
        "## A scale\n`scale` and a [scale](glossary.md#scale). Another scale, [an engine](x.md), "
        "an [engine](glossary.md#engine)."
    )
    assert known == {"scale", "engine"}
    assert glossary.linked("a scale", known) == "a scale"
    assert glossary.exact("[plans](../docs/glossary.md)") == "[plans](glossary.md#plan)"


# --- The time it takes.


def test_words_are_counted_as_the_tool_says() -> None:
    book = notebooks.build(
        "%% md question\nOne two three.\n\n<details>four five</details>\n\n```sh\nsix --seven\n```\n\n"
        "%% code run\nx = 1  # eight nine\n\n%% md run-b\n## Deeper: ten\neleven\n\n"
        "%% code run-c\ntwelve\n\n%% md run-d\n## Thirteen\n\n%% code exercise-x\nfourteen\n"
    )
    time = reading_time.reading_time("99", book)
    assert time.text == pytest.approx((3 + 1) / 200)
    assert time.code == pytest.approx((2 + 4) / 100)
    assert time.deeper == pytest.approx((2 + 3 - 1 + 1) / 200 + 1 / 100, abs=0.006)
    assert time.exercises == 0


def test_the_core_path_takes_60_to_90_minutes_and_the_pages_say_so() -> None:
    minutes = reading_time.core_minutes()
    assert 60 <= minutes <= 90
    for page in ("README.md", "notebooks/00_what_int8_does.ipynb", "docs/facilitator.md"):
        text = (ROOT / page).read_text(encoding="utf-8")
        (said,) = set(re.findall(r"(\d+) minutes to read", text))
        assert abs(int(said) - minutes) <= 3, (
            f"{page}: python -m tools.reading_time counts {minutes:.0f}"
        )


def test_the_plan_for_facilitators_follows_the_path_with_its_times() -> None:
    text = (ROOT / "docs" / "facilitator.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| \[(\d\d)\][^|]*\| (\d+) \| (\d+) \| (\d+) \|", text, re.M)
    times = reading_time.all_times()
    assert [row[0] for row in rows] == list(times)
    for number, *said in rows:
        time = times[number]
        counted = (time.core, time.deeper, time.exercises)
        assert all(abs(int(a) - b) <= 3 for a, b in zip(said, counted, strict=True)), number
    for plan in text.split("\n## ")[4:6]:
        order = re.findall(r"\[(\d\d)\]\(\.\./notebooks", plan)
        assert order == sorted(order)


# --- How the code looks.

CELLS = {
    path.name[:2]: [cell.source for cell in notebooks.read(path).cells if cell.cell_type == "code"]
    for path in FOUND
}
LINES = [
    len(line)
    for cells in CELLS.values()
    for cell in cells
    for line in cell.splitlines()
    if line.strip()
]


def test_lines_of_code_are_short() -> None:
    assert statistics.median(LINES) <= 45
    assert sum(length >= 100 for length in LINES) < 0.01 * len(LINES)
    assert sum(length > 88 for length in LINES) < 0.03 * len(LINES)


def comprehensions(source: str) -> int:
    kinds = (ast.ListComp, ast.SetComp, ast.DictComp, ast.GeneratorExp)
    return sum(isinstance(node, kinds) for node in ast.walk(ast.parse(source)))


def test_few_cells_have_two_comprehensions() -> None:
    counts = [comprehensions(cell) for cells in CELLS.values() for cell in cells]
    assert sum(count >= 2 for count in counts) < 0.03 * len(counts)


@pytest.mark.parametrize("number", list(CELLS))
def test_three_claims_and_two_lines_of_import_at_most(number: str) -> None:
    lines = [line for cell in CELLS[number] for line in cell.splitlines()]
    assert sum(bool(re.match(r"\s*(?:import|from) ", line)) for line in lines) <= 2
    calls = [node for cell in CELLS[number] for node in ast.walk(ast.parse(cell))]
    claims = [
        node for node in calls if isinstance(node, ast.Call) and ast.unparse(node.func) == "claim"
    ]
    assert len(claims) <= 3


# --- Reading copies.

READ = read.READ


def test_reading_copies_are_as_new_as_their_notebooks() -> None:
    assert read.stale() == []


def test_reading_copies_are_small_and_every_picture_is_there_and_used() -> None:
    files = [path for path in READ.rglob("*") if path.is_file()]
    assert sum(path.stat().st_size for path in files) < read.MOST_BYTES
    pictures = {path.name for path in READ.glob("img/*.webp")}
    used: set[str] = set()
    for number in read.there():
        here = re.findall(
            rf"\]\(img/({number}-[\w-]+\.webp)\)", (READ / f"{number}.md").read_text()
        )
        assert here, number
        used |= set(here)
    assert used == pictures


@pytest.mark.parametrize("number", [*read.there(), "README"])
def test_links_of_a_reading_copy_lead_somewhere(number: str) -> None:
    page = READ / f"{number}.md"
    text = re.sub(r"^```.*?^```$|`[^`\n]*`", "", page.read_text("utf-8"), flags=re.S | re.M)
    links = re.findall(r"\]\(([^)\s]+)\)", text)
    assert links
    for link in links:
        if not re.match(r"[a-z]+:", link):
            path, _, anchor = link.partition("#")
            target = page.parent / path
            assert target.exists(), link
            if target.name == "glossary.md" and anchor:
                assert anchor in glossary.anchors(), link


def test_a_reading_copy_names_no_folder_of_the_machine_that_made_it() -> None:
    number, path = next(iter(read.there().items()))
    text = f"%% md question\n# {number}\n\n%% code run\nprint(1)\n"
    book = notebooks.build(text)
    shown = f"{ROOT}/data/models/mobile.onnx\n"
    book.cells[1].outputs = [{"output_type": "stream", "name": "stdout", "text": shown}]
    page, _ = read.copy_of(number, path, nbformat.from_dict(book))
    assert "data/models/mobile.onnx" in page
    assert str(ROOT) not in page


def test_reading_copies_hold_no_solution() -> None:
    for name in exercise.ids():
        entry = exercise.get(name)
        page = READ / f"{name[:2]}.md"
        if isinstance(entry, exercise.Exercise) and page.is_file():
            text = page.read_text("utf-8")
            assert entry.title in text or name in text
            last = [line for line in entry.solution.splitlines() if len(line.strip()) > 24][-1:]
            assert not any(line in text.partition(f'check("{name}"')[2] for line in last), name


def test_a_copy_that_is_old_is_named_with_the_command(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(read, "READ", tmp_path)
    number, path = next(iter(read.there().items()))
    assert any(f"{number}.md is not there: run `make read`" in line for line in read.stale())
    page = tmp_path / f"{number}.md"
    mark = "<!-- made from cells {}, data {} -->\n"
    page.write_text(mark.format(read.cells_hash(path), read.data_hash()))
    assert not any(f"{number}.md" in line for line in read.stale())
    page.write_text(mark.format("0" * 16, read.data_hash()))
    assert any(f"{number}.md is older than {path.name}" in line for line in read.stale())
    page.write_text(mark.format(read.cells_hash(path), "0" * 16))
    assert any(f"{number}.md is older than data/" in line for line in read.stale())
