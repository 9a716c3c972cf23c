"""One colour per data type, one look for every figure: readable on JupyterLab's white and on its
near-black.
"""

from __future__ import annotations

import typing
from typing import NamedTuple

from ..dtypes import DTYPES

__all__ = [
    "BAD",
    "DTYPE_COLORS",
    "GOOD",
    "GRAYS",
    "INK",
    "LAYOUT",
    "MARKS",
    "SERIES",
    "WARN",
    "dtype_color",
    "series",
]

DTYPE_COLORS: dict[str, str] = {
    "fp32": "#2f7fc1",
    "fp16": "#a33bee",
    "bf16": "#4c9a3f",
    "int8": "#d9601a",
    "uint8": "#b3791b",
    "int32": "#159c87",
    "int64": "#0f8a96",
    "bool": "#a0758f",
    "fp8": "#d1559b",
    "int4": "#c9475a",
    "unknown": "#7d7d7d",
}
"""Colour of each name in ``trtlearn.dtypes.DTYPES`` and of "unknown". Never the only sign: a label
stands beside it.

Each has a contrast of at least 3:1 on white and on #111111 (WCAG 2.1, 1.4.11); fp32, fp16, int8 and
unknown stay apart for readers with any of the three kinds of colour blindness
(tests/show/test_colors.py simulates them).
"""

INK = "#7f7f7f"
"""Text and axes: the grey with equal contrast (4:1) on white and on #111111."""

GRID = "rgba(127,127,127,0.25)"
GOOD, WARN, BAD = "#2f7fc1", "#b3791b", "#d9601a"
"""Kept, doubtful, lost. Always with a word or a pattern beside them."""

SERIES = ("#2f7fc1", "#d9601a", "#a33bee", "#4c9a3f", "#b3791b", "#d1559b", "#159c87", "#c9475a")
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


AXIS = {
    "gridcolor": GRID,
    "zerolinecolor": GRID,
    "linecolor": INK,
    "ticks": "outside",
    "tickcolor": INK,
    "automargin": True,
    "title": {"standoff": 8},
}
TITLE = {"x": 0, "xref": "paper", "xanchor": "left", "y": 0.97, "yanchor": "top"}
BUTTONS = (
    "select2d lasso2d zoomIn2d zoomOut2d autoScale2d sendChartToCloud sendDataToCloud"  # removed
)
LAYOUT: dict[str, typing.Any] = {
    "paper_bgcolor": "rgba(0,0,0,0)",
    "plot_bgcolor": "rgba(0,0,0,0)",
    "font": {"color": INK, "size": 13},
    "title": TITLE | {"font": {"size": 16}},
    "colorway": list(SERIES),
    "xaxis": AXIS,
    "yaxis": AXIS,
    "legend": {"orientation": "h", "x": 0, "xanchor": "left", "y": 1.01, "yanchor": "bottom"},
    "margin": {"l": 60, "r": 44, "t": 84, "b": 78},
    "height": 420,
    "autosize": True,
    "showlegend": True,
    "modebar": {
        "orientation": "v",
        "bgcolor": "rgba(0,0,0,0)",
        "color": INK,
        "remove": BUTTONS.split(),
    },
    "hoverlabel": {"font": {"size": 13}},
    "bargap": 0.15,
}
"""The course's template: transparent, grey text, the legend in a row above the plot."""


def series(index: int) -> Look:
    """Colour, symbol and dash of the series with this number; 8 colours, 16 symbols, 6 dashes.

    >>> series(0).symbol, series(8).symbol, series(1).dash
    ('circle', 'circle-open', 'dash')
    """
    symbol = MARKS[index % len(MARKS)] + ("-open" if index // len(MARKS) % 2 else "")
    return Look(SERIES[index % len(SERIES)], symbol, DASHES[index % len(DASHES)])
