"""Make the reading copies: docs/read/NN.md, each notebook as it ran, with pictures that stand still.

    python -m tools.read            # all of them, a few minutes, unattended; needs Chromium
    python -m tools.read 03 11      # these
    python -m tools.read --check    # says which copies are older than their notebooks; no browser

A notebook is run from the recordings (kept in build/executed until something changes). nbconvert
writes the Markdown; Chromium draws each figure with plotly, and each control as it stands first.
A copy names the hash of its notebook's cells and of the data that figures rest on.
"""

from __future__ import annotations

import argparse
import base64
import copy
import hashlib
import html
import re
import sys
import time
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import nbformat

from tools import notebooks
from trtlearn.course.notebook import NOTEBOOKS
from trtlearn.files import write_atomic

ROOT = Path(__file__).resolve().parents[1]
READ = ROOT / "docs" / "read"
PICTURES = READ / "img"
MOST_BYTES = 8_000_000
LONG_TABLE = 16  # rows: a longer table is folded
WIDTH, SCALE, QUALITY = 860, 1.5, 82  # pixels of a page's column, and what they are drawn with
COMMAND = "make read"
PROGRESS = re.compile(r"^(?:.*\r)?calibrating: .*\n?", re.M)
MARK = re.compile(r"^<!-- made from cells (\w+), data (\w+) -->$", re.M)
PAGE = """<!doctype html><meta charset="utf-8"><script>{plotly}</script><style>
body {{ margin: 0; font: 15px/1.45 "DejaVu Sans", sans-serif; background: #fff; color: #222 }}
.picture {{ width: {width}px; padding: 4px; overflow: hidden }}
table {{ border-collapse: collapse }} td, th {{ padding: 2px 10px; text-align: left }}
.control {{ display: inline-block; margin: 3px 18px 3px 0; color: #444 }}</style>{body}<script>
Promise.all([...document.querySelectorAll('.figure')].map((box) => {{
  const facts = JSON.parse(box.querySelector('script').textContent);
  box.replaceChildren();
  return Plotly.newPlot(box, facts.data, facts.layout, {{ staticPlot: true }});
}})).then(() => {{ document.body.dataset.drawn = 'yes'; }});
</script>"""


# --- What a copy is made from.


def cells_hash(path: Path) -> str:
    """The hash of a notebook's cells."""
    text = notebooks.as_text(notebooks.read(path))
    return hashlib.sha256(text.encode()).hexdigest()[:16]


@cache
def data_hash() -> str:
    """The hash of data/: the recordings, images and networks that every figure rests on."""
    hashed = hashlib.sha256()
    for file in sorted((ROOT / "data").rglob("*")):
        if file.is_file():
            name = file.relative_to(ROOT).as_posix()
            hashed.update(f"{name}\n".encode() + hashlib.sha256(file.read_bytes()).digest())
    return hashed.hexdigest()[:16]


def there() -> dict[str, Path]:
    """Number -> notebook, for those that exist."""
    paths = {number: ROOT / "notebooks" / name for number, (name, _) in NOTEBOOKS.items()}
    return {number: path for number, path in paths.items() if path.is_file()}


def stale() -> list[str]:
    """What is wrong with the copies, one line each; empty where every copy is its notebook's."""
    found = []
    for number, path in there().items():
        target = READ / f"{number}.md"
        mark = MARK.search(target.read_text(encoding="utf-8")) if target.is_file() else None
        if mark is None:
            found.append(f"docs/read/{number}.md is not there: run `{COMMAND}`")
        elif mark[1] != cells_hash(path):
            found.append(f"docs/read/{number}.md is older than {path.name}: run `{COMMAND}`")
        elif mark[2] != data_hash():
            found.append(f"docs/read/{number}.md is older than data/: run `{COMMAND}`")
    return found


# --- Pictures.


def picture_html(output: Any, models: dict[str, Any]) -> str:
    """What the browser is to draw for an output; "" where that is text."""
    from tools.site.notebook import PLOTLY, VIEW, figure, widget

    data = output.get("data", {})
    if PLOTLY in data:
        return figure(data[PLOTLY]["data"], data[PLOTLY]["layout"])
    inside = widget(models, data[VIEW]["model_id"]) if VIEW in data else ""
    return inside if 'class="figure"' in inside else ""


def draw(pictures: dict[str, str]) -> None:
    """Write img/NAME.webp for each name -> HTML."""
    import plotly

    from tools.browser import chromium, wait_for

    code = (Path(plotly.__file__).parent / "package_data" / "plotly.min.js").read_text("utf-8")
    body = "".join(
        f'<div class="picture" id="{name}">{inside}</div>' for name, inside in pictures.items()
    )
    scratch = ROOT / "build" / "read.html"
    scratch.parent.mkdir(exist_ok=True)
    scratch.write_text(PAGE.format(plotly=code, body=body, width=WIDTH), encoding="utf-8")
    place = """const box = document.getElementById(arguments[0]).getBoundingClientRect();
        return {x: box.x + scrollX, y: box.y + scrollY, width: box.width, height: box.height}"""
    with chromium(WIDTH + 40, 1000) as browser:
        browser.get(scratch.as_uri())
        drawn = "return document.body.dataset.drawn"
        wait_for(lambda: browser.execute_script(drawn), 120, "plotly did not draw the figures")
        for name in pictures:
            clip = browser.execute_script(place, name) | {"scale": SCALE}
            options = {"format": "webp", "quality": QUALITY, "captureBeyondViewport": True}
            shot = browser.execute_cdp_cmd("Page.captureScreenshot", options | {"clip": clip})
            write_atomic(PICTURES / f"{name}.webp", base64.b64decode(shot["data"]))
    scratch.unlink()


# --- Text.


def still_html(text: str) -> str:
    """HTML that a repository's page shows: no style, no blank line that would end it."""
    text = re.sub(r'\s(?:style|class|tabindex|role|scope)="[^"]*"', "", text)
    text = re.sub(r"<(style|script)\b.*?</\1>", "", text, flags=re.S)
    text = re.sub(r"\s*You made no prediction above\.", "", text)
    text = re.sub(r"<table>.*?</table>", folded, text, flags=re.S)
    return re.sub(r"\n\s*\n", "\n", text).strip()


def folded(table: re.Match[str]) -> str:
    """A long table, to open."""
    rows = table[0].count("<tr>") - 1
    if rows <= LONG_TABLE:
        return table[0]
    return f"<details><summary>{rows} rows</summary>{table[0]}</details>"


def links(text: str) -> str:
    """Markdown whose links to notebooks and files work from docs/read/."""
    text = re.sub(r"\]\((\d\d)_\w+\.ipynb(#[^)]*)?\)", r"](\1.md\2)", text)
    text = text.replace("](../docs/", "](../").replace(
        "](glossary.md", "](../../notebooks/glossary.md"
    )
    return re.sub(r"\]\(\.\./(data|tests|recording|tools|trtlearn)/", r"](../../\1/", text)


def readable(number: str, book: nbformat.NotebookNode) -> tuple[nbformat.NotebookNode, Any]:
    """The notebook with outputs as a page shows them, and its pictures: name -> HTML."""
    from tools.site.notebook import STATE, VIEW, widget

    book = copy.deepcopy(book)
    models = book.metadata.get("widgets", {}).get(STATE, {}).get("state", {})
    pictures: dict[str, str] = {}
    for cell in book.cells:
        if cell.cell_type == "markdown":
            cell.source = links(cell.source)
        exercise = str(cell.id).startswith("exercise-")
        for output in cell.get("outputs", ()):
            data = output.get("data")
            if data is None:
                output.text = PROGRESS.sub("", output.text)
                continue
            output.output_type = "display_data"
            if drawn := picture_html(output, models):
                name = f"{number}-{cell.id}" + (f"-{len(pictures)}" if exercise else "")
                pictures[name] = drawn
                title = html.unescape(re.search(r'aria-label="([^"]*)"', drawn)[1])  # type: ignore[index]
                alt = re.sub(r"<[^>]*>|[\[\]]", " ", title)
                output.data = {"text/markdown": f"![{alt}](img/{name}.webp)"}
            elif VIEW in data:
                output.data = {"text/html": still_html(widget(models, data[VIEW]["model_id"]))}
            elif exercise:  # the hints and the solution stay in the notebook
                output.data = {"text/plain": data["text/plain"].strip("'\"")}
            elif "text/html" in data:
                output.data = {"text/html": still_html(data["text/html"])}
    return book, pictures


def navigation(number: str) -> str:
    """Links to the copy before, the list, and the copy after."""
    numbers = list(there())
    at = numbers.index(number)
    before, after = numbers[at - 1 : at] if at else [], numbers[at + 1 : at + 2]
    parts = [f"← [{one} {NOTEBOOKS[one][1]}]({one}.md)" for one in before]
    parts += ["[all pages](README.md)"]
    parts += [f"[{one} {NOTEBOOKS[one][1]}]({one}.md) →" for one in after]
    return " · ".join(parts)


def copy_of(number: str, path: Path, book: nbformat.NotebookNode) -> tuple[str, dict[str, str]]:
    """The Markdown of a reading copy, and its pictures."""
    from nbconvert import MarkdownExporter

    shown, pictures = readable(number, book)
    body = MarkdownExporter().from_notebook_node(shown)[0]
    body = re.sub(r"\n{3,}", "\n\n", body).strip().replace(f"{ROOT}/", "")
    note = (
        f"*A reading copy of [{path.name}](../../notebooks/{path.name}), as it ran from the "
        "recordings. Controls stand still here. To move them and to solve the exercises: "
        "[run it yourself](../use.md).*"
    )
    mark = f"<!-- made from cells {cells_hash(path)}, data {data_hash()} -->"
    bar = navigation(number)
    return "\n\n".join([mark, bar, note, body, bar]) + "\n", pictures


def contents() -> str:
    """docs/read/README.md: the list of copies."""
    lines = [f"- [{number} {NOTEBOOKS[number][1]}]({number}.md)" for number in there()]
    return (
        "# The course to read\n\nEach notebook as it ran from the recordings, with its figures. "
        "Nothing is installed for this.\nTo move sliders and solve exercises, "
        "[run it yourself](../use.md). Words: [glossary](../../notebooks/glossary.md). "
        "Numbers: [measured facts](../facts.md).\n\n" + "\n".join(lines) + "\n"
    )


def make(numbers: list[str]) -> Iterator[str]:
    """Write these copies, and the list; yields a line for each."""
    from tools.site.notebook import executed

    for number in numbers:
        start = time.monotonic()
        path = there()[number]
        text, pictures = copy_of(number, path, executed(path))
        for old in PICTURES.glob(f"{number}-*.webp"):
            old.unlink()
        draw(pictures)
        write_atomic(READ / f"{number}.md", text)
        yield f"docs/read/{number}.md: {len(pictures)} pictures, {time.monotonic() - start:.0f} s"
    write_atomic(READ / "README.md", contents())
    size = sum(path.stat().st_size for path in READ.rglob("*") if path.is_file())
    yield f"docs/read: {size / 1e6:.2f} MB of {MOST_BYTES / 1e6:.0f}"


def main() -> int:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("numbers", nargs="*", choices=[*there(), []], help="such as 03; else all")
    parser.add_argument("--check", action="store_true", help="say which copies are old")
    given = parser.parse_args()
    if given.check:
        found = stale()
        print("\n".join(found) or "every reading copy is its notebook's")
        return 1 if found else 0
    for line in make(given.numbers or list(there())):
        print(line, flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
