"""One colour per data type, one look for every figure: readable on JupyterLab's white and on its
near-black.
"""

from __future__ import annotations

import typing
from typing import NamedTuple

from ..dtypes import DTYPES
from ..files import load_table

_THEME = load_table("theme")
DTYPE_COLORS: dict[str, str] = _THEME["dtypes"]
"""Colour of each name in ``trtlearn.dtypes.DTYPES`` and of "unknown". Never the only sign: a label
stands beside it.

Each has a contrast of at least 3:1 on white and on #111111 (WCAG 2.1, 1.4.11); fp32, fp16, int8 and
unknown stay apart for readers with any of the three kinds of colour blindness
(tests/show/test_colors.py simulates them).
"""

LAYOUT: dict[str, typing.Any] = _THEME["layout"] | dict.fromkeys(("xaxis", "yaxis"), _THEME["axis"])
"""The course's template: transparent, grey text, the legend in a row above the plot."""

INK: str = LAYOUT["font"]["color"]
"""Text and axes: the grey with equal contrast (4:1) on white and on #111111."""

GOOD, WARN, BAD = "#2f7fc1", "#b3791b", "#d9601a"
"""Kept, doubtful, lost. Always with a word or a pattern beside them."""

SERIES: tuple[str, ...] = tuple(LAYOUT["colorway"])
"""Colours of series that are no data types, in order; ``MARKS`` are the symbols that go with them.
"""

GRAYS = [[0, "#000000"], [1, "#ffffff"]]
"""The colour scale of images."""

MARKS = ("circle", "diamond", "square", "triangle-up", "cross", "x", "triangle-down", "star")
DASHES = ("solid", "dash", "dot", "dashdot", "longdash", "longdashdot")


class Look(NamedTuple):
    """How one series looks."""

    color: str
    symbol: str
    dash: str


def dtype_color(dtype: str | None) -> str:
    """The colour of a data type; grey for None and for names that are not in
    ``trtlearn.dtypes.DTYPES``.

    >>> dtype_color("int8") == DTYPE_COLORS["int8"], dtype_color(None) == DTYPE_COLORS["unknown"]
    (True, True)
    """
    return DTYPE_COLORS[dtype] if dtype in DTYPES else DTYPE_COLORS["unknown"]


def series(index: int) -> Look:
    """Colour, symbol and dash of the series with this number; 8 colours, 16 symbols, 6 dashes.

    >>> series(0).symbol, series(8).symbol, series(1).dash
    ('circle', 'circle-open', 'dash')
    """
    symbol = MARKS[index % len(MARKS)] + ("-open" if index // len(MARKS) % 2 else "")
    return Look(SERIES[index % len(SERIES)], symbol, DASHES[index % len(DASHES)])
