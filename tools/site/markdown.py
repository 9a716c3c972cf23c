"""Markdown to HTML for the course's pages, and the frame that every page has.

Formulas become MathML, which browsers show themselves; code is coloured by Pygments; headings get
anchors.
"""

from __future__ import annotations

import html
import re
import string
from dataclasses import dataclass, field
from html.parser import HTMLParser
from pathlib import Path

from latex2mathml.converter import convert
from markdown_it import MarkdownIt
from mdit_py_plugins.anchors import anchors_plugin
from mdit_py_plugins.dollarmath import dollarmath_plugin
from pygments import highlight as colour
from pygments.formatters import HtmlFormatter
from pygments.lexers import TextLexer, get_lexer_by_name
from pygments.util import ClassNotFound

FRAME = string.Template(
    (Path(__file__).resolve().parents[2] / "docs" / "web" / "page.html").read_text(encoding="utf-8")
)


@dataclass
class Page:
    """One page of the site: where it lies (relative to the site's root), its title and its HTML."""

    to: str
    title: str
    body: str
    section: str = ""  # where the navigation lists it; "" for nowhere
    description: str = ""
    links: list[tuple[str, str]] = field(default_factory=list)  # before and after: (address, title)

    @property
    def root(self) -> str:
        """The way from this page to the site's root."""
        return "../" * self.to.count("/")


def code(text: str, language: str = "python") -> str:
    """Coloured code."""
    try:
        lexer = get_lexer_by_name(language or "text")
    except ClassNotFound:
        lexer = TextLexer()
    inside = colour(text.rstrip("\n"), lexer, HtmlFormatter(nowrap=True))
    return f'<pre tabindex="0"><code>{inside}</code></pre>\n'


def slug(title: str) -> str:
    """The anchor of a heading, as GitHub makes it.

    >>> slug("What does `--int8` do?")
    'what-does---int8-do'
    """
    return re.sub(r"[^\w\- ]", "", title.lower()).strip().replace(" ", "-")


def _parser() -> MarkdownIt:
    parser = MarkdownIt("commonmark", {"html": True, "highlight": None}).enable(
        ["table", "strikethrough"]
    )
    parser.use(
        anchors_plugin,
        max_level=3,
        slug_func=slug,
        permalink=True,
        permalinkSymbol="#",
        permalinkSpace=False,
    )
    parser.use(
        dollarmath_plugin,
        double_inline=True,
        renderer=lambda text, options: convert(
            text, display="block" if options["display_mode"] else "inline"
        ),
    )
    parser.add_render_rule(
        "fence",
        lambda _, tokens, at, *rest: code(tokens[at].content, tokens[at].info.strip() or "text"),
    )
    parser.add_render_rule("table_open", lambda *_: '<div class="wide" tabindex="0"><table>\n')
    parser.add_render_rule("table_close", lambda *_: "</table></div>\n")
    return parser


PARSER = _parser()


def markdown(text: str) -> str:
    """The HTML of Markdown ``text``; links to notebooks and Markdown pages lead to their pages.

    The pages of docs/ stand at the site's top; other files of the repository are named, not linked.
    """
    made: str = PARSER.render(text)
    made = made.replace('class="header-anchor"', 'class="anchor" aria-label="link to this heading"')
    elsewhere = r'<a href="(?:\.\./(?:data|recording|tests)|read)/[^"]*">(.*?)</a>'
    made = re.sub(elsewhere, r"\1", made)
    made = re.sub(r'(<a href=")([^":]+?)\.(?:ipynb|md)(#[^"]*)?"', r'\1\2.html\3"', made)
    return made.replace('<a href="../docs/', '<a href="../')


def table(head: list[str], rows: list[list[str]]) -> str:
    """A table of cells that are HTML already."""
    top = "".join(f'<th scope="col">{html.escape(cell)}</th>' for cell in head)
    body = "".join("<tr>" + "".join(f"<td>{cell}</td>" for cell in row) + "</tr>\n" for row in rows)
    return f'<div class="wide" tabindex="0"><table><thead><tr>{top}</tr></thead><tbody>\n{body}</tbody></table></div>\n'


def frame(page: Page, pages: list[Page], footer: str) -> str:
    """The whole HTML of a page: with navigation, search and, where it draws, plotly."""
    lists = []
    for section in dict.fromkeys(one.section for one in pages if one.section):
        lines = [
            f'<li><a href="{page.root}{one.to}"{" aria-current=page" if one is page else ""}>'
            f"{html.escape(one.title)}</a></li>"
            for one in pages
            if one.section == section
        ]
        lists.append(f"<h2>{html.escape(section)}</h2>\n<ul>\n" + "\n".join(lines) + "\n</ul>")
    onward = "".join(
        f'<a href="{page.root}{to}">{html.escape(title)}</a>' for to, title in page.links
    )
    return FRAME.substitute(
        title=html.escape(page.title),
        description=html.escape(page.description or page.title, quote=True),
        root=page.root,
        nav="\n".join(lists),
        body=page.body + (f'<div class="onward">{onward}</div>' if onward else ""),
        footer=footer,
        scripts=f'<script src="{page.root}assets/plotly.min.js" defer></script>'
        if 'class="figure"' in page.body
        else "",
    )


class _Sections(HTMLParser):
    """The text of a page, cut at its headings and cells."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[list[str]] = [["", "", ""]]  # heading, anchor, text
        self.heading = self.silent = 0

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        given = dict(attributes)
        if tag in ("h1", "h2", "h3", "dt"):
            self.found.append(["", given.get("id") or "", ""])
            self.heading = 1
        self.silent += tag in ("script", "style", "math") or given.get("class") == "anchor"

    def handle_endtag(self, tag: str) -> None:
        if tag in ("h1", "h2", "h3", "dt"):
            self.heading = 0
        if self.silent and tag in ("script", "style", "math", "a"):
            self.silent -= 1

    def handle_data(self, data: str) -> None:
        if not self.silent:
            self.found[-1][0 if self.heading else 2] += data


def sections(page: Page) -> list[tuple[str, str, str, str]]:
    """What the search looks through: (title, heading, address, text) of each section of the page."""
    reader = _Sections()
    reader.feed(page.body)
    tidy = [[" ".join(part.split()) for part in one] for one in reader.found]
    return [
        (page.title, heading, f"{page.to}#{anchor}" if anchor else page.to, text)
        for heading, anchor, text in tidy
        if heading or text
    ]
