"""README.md tells the truth: its commands run, its map names every module, its links lead
somewhere.
"""

from __future__ import annotations

import json
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from tools import readme
from tools.readme_picture import SHOWN, shown, words
from trtlearn.recorded.tradeoffs import tradeoff

ROOT = Path(__file__).parent.parent.parent
TEXT = (ROOT / "README.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```(\w+)\n(.*?)^```$", TEXT, re.M | re.S)
COMMANDS = [
    line.removeprefix("$ ")
    for language, block in BLOCKS
    if language == "console"
    for line in block.splitlines()
    if line.startswith("$ ")
]


def test_every_block_is_of_a_kind_that_is_checked() -> None:
    assert TEXT.count("```") == 2 * len(BLOCKS)
    assert {language for language, _ in BLOCKS} == {"sh", "console", "python"}


@pytest.mark.parametrize("command", COMMANDS)
def test_commands_run(command: str, tmp_path: Path) -> None:
    words = shlex.split(command, comments=True)
    assert words[0] == "trtlearn"
    answer = subprocess.run(
        [sys.executable, "-m", "trtlearn", *words[1:]],
        check=False,
        capture_output=True,
        text=True,
        cwd=ROOT,
    )
    assert (answer.returncode, answer.stderr) == (0, "")
    assert answer.stdout


@pytest.mark.parametrize("block", [block for language, block in BLOCKS if language == "python"])
def test_python_runs(block: str) -> None:
    answer = subprocess.run(
        [sys.executable, "-c", block], check=False, capture_output=True, text=True, cwd=ROOT
    )
    assert answer.returncode == 0, answer.stderr


def test_make_targets_exist() -> None:
    targets = set(re.findall(r"^(\w+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.M))
    named = {word for _, block in BLOCKS for word in re.findall(r"^make (\w+)", block, re.M)}
    named |= set(re.findall(r"`make (\w+)", TEXT))
    assert {"lab", "test"} <= named <= targets


def test_every_table_of_machines_is_the_packages_own() -> None:
    section = re.search(r"<!-- machines -->\n(.*?)<!-- end of machines -->", TEXT, re.S)
    assert section is not None
    assert section[1].strip() == readme.machines(), "run python -m tools.readme"
    notebook = (ROOT / "notebooks" / "00_what_int8_does.ipynb").read_text(encoding="utf-8")
    cells = ["".join(cell["source"]) for cell in json.loads(notebook)["cells"]]
    rows = [row for cell in cells for row in cell.splitlines() if row.startswith("| JetPack")]
    assert rows == [row for row in section[1].splitlines() if row.startswith("| JetPack")]


def test_the_versions_are_those_that_are_tested() -> None:
    section = re.search(r"<!-- versions -->\n(.*?)<!-- end of versions -->", TEXT, re.S)
    assert section is not None
    assert section[1].strip() == readme.versions(), "run python -m tools.readme"


def test_map_names_every_room_once_with_its_job() -> None:
    section = re.search(r"<!-- map -->\n(.*?)<!-- end of map -->", TEXT, re.S)
    assert section is not None
    assert section[1].strip() == readme.table(), "run python -m tools.readme"
    folders = (ROOT / "trtlearn").iterdir()
    rooms = {path.name for path in folders if (path / "__init__.py").is_file()}
    assert set(re.findall(r"^\| \[`(\w+)`\]", section[1], re.M)) == rooms - {"_course"}
    assert all(len(line) > 40 for line in section[1].splitlines()[2:])


def anchors(text: str) -> set[str]:
    """The anchors that GitHub gives a page's headings."""
    titles = re.findall(r"^#+ (.+)$", text, re.M)
    return {re.sub(r"[^\w\- ]", "", title.lower()).strip().replace(" ", "-") for title in titles}


def test_it_is_short() -> None:
    assert len(TEXT) <= 9000
    answers = re.findall(r"^\| \d\. [^|]+ \| ([^|]+) \| \[long\]", TEXT, re.M)
    assert len(answers) == 8
    assert max(len(answer.split()) for answer in answers) <= 25


@pytest.mark.parametrize("page", ["README.md", "CHANGELOG.md", "docs/answers.md"])
def test_links_resolve(page: str) -> None:
    text = (ROOT / page).read_text(encoding="utf-8")
    links = re.findall(r"\]\(([^)\s]+)\)", text) + re.findall(r'(?:src|href)="([^"]+)"', text)
    assert links
    for link in links:
        if link.startswith("https://"):
            continue
        path, _, anchor = link.partition("#")
        target = (ROOT / page).parent / path if path else ROOT / page
        assert target.exists(), link
        if anchor and target.suffix == ".md":
            assert anchor in anchors(target.read_text(encoding="utf-8")), link


def test_picture_s_words_tell_the_recordings() -> None:
    points = shown(tradeoff("points-mobile"))
    assert [point.variant for point in points] == list(SHOWN)
    told = words(points)
    assert f"![{told}](docs/tradeoff.png)" in TEXT, "run tools/readme_picture.py"


def test_notebooks_are_all_listed() -> None:
    for path in (ROOT / "notebooks").glob("[0-9]*.ipynb"):
        assert f"(notebooks/{path.name})" in TEXT, path.name
