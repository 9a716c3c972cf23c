"""Link each term of notebooks/glossary.md where a notebook uses it first.

    python -m tools.glossary notebooks/*.ipynb          # put the links in
    python -m tools.glossary --check notebooks/*.ipynb  # say which are missing

The glossary lies beside the notebooks, so that its anchors work in JupyterLab, on the repository's
web page and on the site alike. Code, headings, tables, formulas and other links are left alone.
"""

from __future__ import annotations

import argparse
import re
from collections.abc import Iterator
from pathlib import Path

import nbformat

from tools import notebooks

ROOT = Path(__file__).resolve().parents[1]
GLOSSARY = ROOT / "notebooks" / "glossary.md"
ANCHOR = re.compile(r'^<a id="([a-z0-9-]+)"></a>\*\*(.+?)\*\*:', re.M)

WORDS = {
    "activation": r"activations?",
    "amax": r"amax",
    "build": r"builder",
    "calibration": r"calibration(?! caches?| profile)",
    "calibration-cache": r"calibration caches?",
    "calibrator": r"calibrators?",
    "clipping": r"clip(?:ping|ped|s)?",
    "codes": r"codes",
    "cuda-graph": r"CUDA graph|graph replay",
    "dynamic-range": r"(?:dynamic )?ranges?",
    "engine": r"engines?(?! inspector)",
    "engine-inspector": r"(?:engine )?inspector",
    "explicit-quantization": r"explicit quantization",
    "fallback": r"fallbacks?|falls? back|fell back",
    "fusion": r"fusions?|fused?|fuses",
    "implicit-quantization": r"implicit quantization|implicit INT8",
    "kernel": r"kernels?",
    "kullback-leibler-divergence": r"Kullback-Leibler divergence|KL",
    "map50": r"mAP50",
    "myelin": r"Myelin",
    "observer": r"observers?",
    "pareto-front": r"Pareto front",
    "per-channel-scale": r"per-channel scales?|(?:one )?scale (?:per|for each) (?:output )?channel",
    "placeholder-ranges": r"(?:placeholder|invented) ranges",
    "plan": r"plans?",
    "post-training-quantization": r"post-training(?: quantization)?",
    "q-dq": r"Q/DQ",
    "random-calibration": r"random calibration|calibrat(?:ion|es?|ed) on noise",
    "recording": r"recordings?",
    "reformat": r"reformats?",
    "rounding-error": r"rounding(?: errors?)?",
    "saturation": r"saturat(?:ion|es?|ed)",
    "scale": r"scales?",
    "sqnr": r"SQNR",
    "static-quantization": r"static(?: quantization)?",
    "symmetric-quantization": r"symmetric(?: quantization)?",
    "tactic": r"tactics?",
    "tf32": r"TF32",
    "timing-cache": r"timing cache",
    "zero-point": r"zero points?",
}
"""Anchor -> the words that a notebook uses for it."""

LONGEST_FIRST = sorted(WORDS, key=lambda anchor: -len(WORDS[anchor]))
TERM = re.compile(
    r"(?<![\w/-])(?:"
    + "|".join(f"(?P<{name.replace('-', '_')}>{WORDS[name]})" for name in LONGEST_FIRST)
    + r")(?![\w/-])",
    re.IGNORECASE,
)
LINK = re.compile(r"\[([^\]]*)\]\((?:\.\./docs/)?glossary\.md(?:#([a-z0-9-]+))?\)")
SILENT = re.compile(
    r"```.*?```|^\|.*?$|`[^`]*`|\$\$.*?\$\$|^#.*?$|!?\[[^\]]*\]\([^)]*\)|<summary>.*?</summary>|<[^>]+>",
    re.S | re.M,
)


def anchors() -> dict[str, str]:
    """Anchor -> term, as the glossary has them."""
    return dict(ANCHOR.findall(GLOSSARY.read_text(encoding="utf-8")))


def _anchor(match: re.Match[str]) -> str:
    return str(match.lastgroup).replace("_", "-")


def exact(text: str) -> str:
    """Links to the glossary with the anchor of the term that they stand on."""

    def link(match: re.Match[str]) -> str:
        term = TERM.search(match[1])
        anchor = match[2] or (_anchor(term) if term else "")
        return f"[{match[1]}](glossary.md{f'#{anchor}' if anchor else ''})"

    return LINK.sub(link, text)


def linked(text: str, known: set[str]) -> str:
    """The text with each term linked that is not in ``known``; adds them to it."""
    pieces, at = [], 0
    silent = list(SILENT.finditer(text))
    for match in sorted([*silent, *TERM.finditer(text)], key=lambda one: (one.start(), -one.end())):
        if match.start() < at:
            continue
        if match.re is SILENT:
            for link in LINK.finditer(match[0]):
                known.add(link[2] or "")
            pieces.append(text[at : match.end()])
        else:
            anchor = _anchor(match)
            new = anchor not in known
            known.add(anchor)
            word = f"[{match[0]}](glossary.md#{anchor})" if new else match[0]
            pieces += [text[at : match.start()], word]
        at = match.end()
    return "".join([*pieces, text[at:]])


def with_links(book: nbformat.NotebookNode) -> Iterator[tuple[str, str]]:
    """Id and new source of each Markdown cell that lacks a link."""
    known: set[str] = set()
    for cell in book.cells:
        if cell.cell_type == "markdown":
            source = linked(exact(cell.source), known)
            if source != cell.source:
                yield str(cell.id), source


def missing(path: Path) -> list[str]:
    """The cells whose terms are used first and not linked."""
    return [f"{path.name}, {cell}" for cell, _ in with_links(notebooks.read(path))]


def main() -> int:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("files", nargs="+", type=Path)
    parser.add_argument("--check", action="store_true")
    given = parser.parse_args()
    found = [line for path in given.files for line in missing(path)]
    if given.check:
        print("\n".join(found) or "every first use is linked")
        return 1 if found else 0
    for path in given.files:
        book = notebooks.read(path)
        for cell, source in with_links(book):
            next(one for one in book.cells if one.id == cell).source = source
        path.write_text(notebooks.canonical(book), encoding="utf-8")
    print(f"{len(found)} cells got links")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
