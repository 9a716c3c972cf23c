"""What a reader meets: every term linked where it comes first, a core path of 60 to 90 minutes, short
code, and reading copies that are as new as their notebooks.
"""

from __future__ import annotations

import re
from pathlib import Path

import pytest

pytest.importorskip("nbformat")

from tools import glossary, notebooks

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
