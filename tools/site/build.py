"""Build the course as pages to read without Jupyter and without a network, into site/.

    python -m tools.site.build [--out site]

Notebooks are run from the recordings (kept in build/executed until something changes); the pages in
docs/*.md, the questions, the recordings and the docstrings become pages too. plotly's JavaScript is
copied from the installed package.
"""

from __future__ import annotations

import argparse
import datetime
import html
import json
import re
import shutil
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote

import trtlearn
from tools.questions import NEWER, OTHERS, THREAD, Question
from tools.site import api, facts, notebook
from tools.site import markdown as site_md
from tools.site.markdown import Page, markdown
from trtlearn.course.notebook import NOTEBOOKS

ROOT = Path(__file__).resolve().parents[2]
DOCS = ROOT / "docs"
WEB = DOCS / "web"
EXTERNAL = ("https://", "http://", "mailto:")


def notebooks() -> list[Path]:
    """The course's notebooks that exist, in order."""
    return [path for name, _ in NOTEBOOKS.values() if (path := ROOT / "notebooks" / name).is_file()]


def answer_place(question: Question, cells: dict[str, set[str]]) -> str:
    """Where the question is answered: its cell, else its notebook, else the page of questions."""
    name = NOTEBOOKS.get(question.notebook, ("",))[0].removesuffix(".ipynb")
    if name not in cells:
        return f"questions.html#{question.key}"
    return f"notebooks/{name}.html" + (
        f"#cell-{question.cell}" if question.cell in cells[name] else ""
    )


def listed(questions: tuple[Question, ...], cells: dict[str, set[str]]) -> str:
    """Questions with short answers, each a link to the place that shows it."""
    items = [
        f'<li value="{number}"><a href="{answer_place(one, cells)}"><b>{number}. {html.escape(one.question)}</b></a>'
        f"{markdown(one.answer)}</li>"
        for number, one in enumerate(questions, 1)
    ]
    return '<ol class="cards">\n' + "\n".join(items) + "\n</ol>"


def question_page(cells: dict[str, set[str]]) -> Page:
    """The page of all questions, with sources and issues."""
    made = ["<h1>Questions</h1>"]
    for anchor, head, questions in (
        ("thread", "The eight questions of the forum thread", THREAD),
        ("others", "Twenty that others keep asking", OTHERS),
        ("newer", "Asked in 2025 and 2026", NEWER),
    ):
        made.append(f'<h2 id="{anchor}">{head}</h2>')
        for one in questions:
            place = answer_place(one, cells)
            where = ""
            if one.notebook:
                title = f"notebook {one.notebook}: {NOTEBOOKS[one.notebook][1]}"
                where = f'Shown in <a href="{place}">{title}</a>.'
            asked = ", ".join(
                f'<a href="{to}">issue {to.rsplit("/", 1)[1]}</a>' for to in one.links
            )
            made.append(
                f'<h3 id="{one.key}">{html.escape(one.question)}</h3>{markdown(one.answer)}'
            )
            made.append(f"<p>{where}{f' Asked in {asked}.' if asked else ''}</p>")
            made.append(f'<p class="hint">Source: {facts.cited(one.source)}</p>')
    return Page("questions.html", "Questions", "\n".join(made), "Course")


def glossary_page() -> Page:
    """The page of notebooks/glossary.md, beside the notebooks' pages."""
    text = (ROOT / "notebooks" / "glossary.md").read_text(encoding="utf-8")
    return Page("notebooks/glossary.html", "Glossary", definitions(markdown(text)), "Reference")


def prose_page(name: str, title: str, section: str, extra: dict[str, str] | None = None) -> Page:
    """The page of docs/NAME.md; each ``<!-- word -->`` is replaced by ``extra[word]``."""
    text = (
        (DOCS / f"{name}.md").read_text(encoding="utf-8").replace("](../notebooks/", "](notebooks/")
    )
    body = markdown(text)
    for word, part in (extra or {}).items():
        body = body.replace(f"<!-- {word} -->", part)
    return Page(f"{name}.html", title, body, section)


def definitions(body: str) -> str:
    """Glossary entries, an anchor, ``**term**`` and a colon, as a list."""
    entry = re.compile(r'<p>(?:<a id="([^"]+)"></a>)<strong>([^<]+)</strong>:\s+(.*?)</p>', re.S)
    return entry.sub(r'<dl class="api"><dt id="\1"><b>\2</b></dt><dd>\3</dd></dl>', body)


def pages() -> list[Page]:
    """Every page of the site, in the order of the navigation."""
    books = {path: notebook.executed(path) for path in notebooks()}
    cells = {path.stem: {str(cell.id) for cell in book.cells} for path, book in books.items()}
    course = [notebook.page(path, book) for path, book in books.items()]
    for before, one, after in zip([None, *course], course, [*course[1:], None], strict=False):
        one.links = [
            (near.to, f"{arrow} {near.title}")
            for near, arrow in ((before, "←"), (after, "→"))
            if near
        ]
    contents = (
        "<ul>"
        + "".join(f'<li><a href="{one.to}">{html.escape(one.title)}</a></li>' for one in course)
        + "</ul>"
    )
    thread = '<h2 id="thread">The eight questions, one click each</h2>' + listed(THREAD, cells)
    intro = prose_page("facts", "", "").body
    change = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    return [
        prose_page(
            "index", "What does --int8 do?", "Course", {"thread": thread, "notebooks": contents}
        ),
        question_page(cells),
        prose_page("use", "Run it yourself", "Course"),
        prose_page("answers", "The eight questions, answered", "Course"),
        *course,
        facts.page(books, intro),
        glossary_page(),
        api.index(),
        prose_page("facilitator", "For facilitators", "Reference"),
        Page("changelog.html", "Changelog", markdown(change), "Reference"),
        *(api.page(name) for name in api.modules()),
    ]


def build(out: Path) -> list[Page]:
    """Write the site into ``out``, replacing what was there; returns its pages."""
    import plotly

    made = pages()
    scratch = out.with_name(f".{out.name}.new")
    shutil.rmtree(scratch, ignore_errors=True)
    (scratch / "assets").mkdir(parents=True)
    for name in ("site.css", "site.js"):
        shutil.copyfile(WEB / name, scratch / "assets" / name)
    shutil.copyfile(
        Path(plotly.__file__).parent / "package_data" / "plotly.min.js",
        scratch / "assets" / "plotly.min.js",
    )
    found = [section for page in made for section in site_md.sections(page)]
    index = json.dumps(found, ensure_ascii=False, separators=(",", ":"))
    (scratch / "assets" / "index.js").write_text(f"window.INDEX={index};\n", encoding="utf-8")
    when = datetime.datetime.now(datetime.timezone.utc).strftime("%Y-%m-%d")
    footer = f"trtlearn {trtlearn.__version__}, built on {when}. Apache-2.0. Independent of NVIDIA; TensorRT is NVIDIA's."
    for page in made:
        target = scratch / page.to
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(site_md.frame(page, made, footer), encoding="utf-8")
    shutil.rmtree(out, ignore_errors=True)
    scratch.rename(out)
    return made


class _Links(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.links: list[str] = []
        self.loads: list[str] = []
        self.ids: list[str] = []

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        given = {key: value or "" for key, value in attributes}
        self.ids += [given["id"]] if "id" in given else []
        if tag == "a" and "href" in given:
            self.links.append(given["href"])
        self.loads += [given[key] for key in ("src", "data") if key in given and tag != "a"]
        self.loads += [given["href"]] if tag == "link" else []


def problems(out: Path) -> list[str]:
    """What is wrong with the built site: dead links, missing anchors, doubled ids, anything loaded
    from elsewhere.
    """
    read, found = {}, []
    unwritten = {name.replace(".ipynb", ".html") for name, _ in NOTEBOOKS.values()} - {
        path.with_suffix(".html").name for path in notebooks()
    }
    for path in sorted(out.rglob("*.html")):
        read[path.resolve()] = reader = _Links()
        reader.feed(path.read_text(encoding="utf-8"))
    for path, reader in read.items():
        name = path.relative_to(out.resolve())
        found += [
            f"{name}: id {one} twice"
            for one in sorted({i for i in reader.ids if reader.ids.count(i) > 1})
        ]
        for to in reader.links + reader.loads:
            if to.startswith((*EXTERNAL, "data:")):
                if to in reader.loads and not to.startswith("data:"):
                    found.append(f"{name}: loads {to}")
                continue
            file, _, anchor = unquote(to).partition("#")
            target = (path.parent / file).resolve() if file else path
            if target.name in unwritten:
                continue
            if not target.is_file():
                found.append(f"{name}: link to {to} leads nowhere")
            elif anchor and target in read and anchor not in read[target].ids:
                found.append(f"{name}: no place #{anchor} in {target.name}")
    return found


def main() -> int:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, default=ROOT / "site")
    out = parser.parse_args().out.resolve()
    made = build(out)
    found = problems(out)
    size = sum(path.stat().st_size for path in out.rglob("*") if path.is_file())
    print(*found, f"{len(made)} pages, {size / 1e6:.1f} MB: open {out / 'index.html'}", sep="\n")
    return 1 if found else 0


if __name__ == "__main__":
    raise SystemExit(main())
