"""The drawing vocabulary: a figure is a short function that says what is drawn.

``figure`` or ``panels`` asks its question; ``points``, ``line``, ``bars``, ``columns`` and ``note``
draw; ``finish`` writes the source and makes room. Only this module imports plotly for a picture.
"""

from __future__ import annotations

import math
import re
import textwrap
import typing
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from ..dtypes import DTYPES
from ..engine.records import Provenance, Timing
from ..errors import printable
from ..files import load_table

if typing.TYPE_CHECKING:
    import plotly.graph_objects as go

# --- One colour per data type, one look for every figure, on white and on near-black.

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


# --- Figures.

Figure: typing.TypeAlias = "go.Figure"
Source = Provenance | str | None
"""Where a figure's numbers come from; the last keyword of every figure."""

Style = dict[str, typing.Any]
"""Keywords of marks, axes or notes."""

Panel = tuple[int, int] | None
"""Row and column of a panel, from 1; None in a figure without panels."""

SHARED: Style = {"shared_yaxes": True, "horizontal_spacing": 0.04}
"""Options of panels that share their y axis."""

TALLEST = 700  # pixels: a figure fits on a laptop's screen
DATA_FIELDS = ("x", "y", "customdata", "labels", "ids", "parents")
TEXT_FIELDS = ("text", "hovertext", "hovertemplate", "texttemplate", "name")
ANY_TAG = re.compile("<(?!br>)")  # but the line break of our own folded rows
FOREIGN = re.compile(r"<(?!/?(?:b|i|br|sup|sub|extra)>)")
MOST_ROWS = 44  # names below each other in the tallest figure
NARROW = 640  # pixels that a legend may fill in the narrowest page, 700 pixels wide
LINE = 112  # characters of the source line in the narrowest page


def figure(title: str, *, rows: int | None = None, **layout: typing.Any) -> Figure:
    """An empty figure in the course's look, titled with the question that it answers; as high as
    ``rows`` rows of text are.

    >>> figure("Which layers run in INT8?").layout.title.text
    'Which layers run in INT8?'
    """
    import plotly.graph_objects as go

    template = go.layout.Template(layout=LAYOUT)
    height = LAYOUT["height"] if rows is None else tall(rows)
    look = {"template": template, "title": {"text": title}, "height": height}
    return go.Figure(layout=look | layout)


def panels(
    title: str, titles: Sequence[str], *, height: int = 420, **options: typing.Any
) -> Figure:
    """A figure with a panel for each of ``titles``, side by side; ``options`` are make_subplots'.

    >>> len(list(panels("Which is faster?", ["batch 1", "batch 8"]).select_xaxes()))
    2
    """
    empty = figure(title, height=height)
    from plotly.subplots import make_subplots

    side_by_side = {"rows": 1, "cols": len(titles), "horizontal_spacing": 0.12}
    fig: Figure = make_subplots(figure=empty, subplot_titles=titles, **side_by_side | options)
    fig.update_annotations(font={"size": 13})
    if "shared_yaxes" in options:
        for column in range(2, len(titles) + 1):
            fig.update_yaxes(ticks="", row=1, col=column)
    return fig


def tall(rows: int) -> int:
    """The height in pixels of a figure with ``rows`` rows of text, at most TALLEST."""
    return min(TALLEST, max(260, 180 + 24 * rows))


def short(name: str, length: int = 44) -> str:
    """A name cut in its middle, where fused names differ least."""
    return name if len(name) <= length else f"{name[: length - 16]}…{name[-15:]}"


def label(name: str, length: int = 44) -> str:
    """A short name as a figure shows it: plotly takes "<" and "&" for markup.

    >>> label("<b>relu</b>")
    '&lt;b>relu&lt;/b>'
    """
    return printable(short(name, length)).replace("&", "&amp;").replace("<", "&lt;")


def _neutral(fig: Figure) -> None:
    """Make all other text of the figure data: of markup only our own few tags without attributes
    stay, in labels; in values, which names may be, none but a line break.
    """
    for trace in fig.data:
        for key in filter(trace.__contains__, (*DATA_FIELDS, *TEXT_FIELDS)):
            value = trace[key]
            text = _as_text(value, FOREIGN if key in TEXT_FIELDS else ANY_TAG)
            if text is not value:  # setting it makes plotly look at every value again
                trace[key] = text
    for note in fig.layout.annotations:
        note.text = note.text and _as_text(note.text, FOREIGN)
    if fig.layout.title.text:
        fig.layout.title.text = _as_text(fig.layout.title.text, FOREIGN)
    for axis in (*fig.select_xaxes(), *fig.select_yaxes()):
        for key in ("ticktext", "categoryarray"):
            if axis[key] is not None:
                axis[key] = _as_text(axis[key], FOREIGN)


def _as_text(value: typing.Any, markup: re.Pattern[str]) -> typing.Any:
    """``value``, or every text in it, without what ``markup`` matches; itself where that is all."""
    if isinstance(value, str):
        return markup.sub("&lt;", printable(value))
    if isinstance(value, np.ndarray) and value.dtype.kind in "OU":
        items = value.tolist()
        clean = _as_text(items, markup)
        return value if clean is items else np.array(clean, dtype=object)
    if isinstance(value, (list, tuple)):
        clean = type(value)([_as_text(item, markup) for item in value])
        return value if clean == value else clean
    return value


def folded(text: str, width: int) -> str:
    """The text in lines of at most ``width`` characters, as plotly breaks them.

    >>> folded("INT8, ranges invented", 12)
    'INT8, ranges<br>invented'
    """
    if "<br>" in text:
        return text
    return "<br>".join(textwrap.wrap(text, width, break_long_words=False)) or text


# --- Marks: each takes the figure first, and the place of its panel (row, column) last.


def _place(panel: Panel) -> dict[str, int]:
    return {} if panel is None else {"row": panel[0], "col": panel[1]}


def _hover(hover: str | Sequence[str] | None) -> dict[str, typing.Any]:
    """A template with %{x}, one text for each mark, or nothing."""
    if hover is None:
        return {"hoverinfo": "skip"}
    if isinstance(hover, str):
        return {"hovertemplate": hover if "<extra>" in hover else f"{hover}<extra></extra>"}
    return {"hovertext": list(hover), "hoverinfo": "text"}


def points(
    fig: Figure,
    x: typing.Any,
    y: typing.Any,
    name: str = "",
    *,
    like: int | None = None,
    color: typing.Any = None,
    symbol: typing.Any = None,
    size: typing.Any = 9,
    hover: str | Sequence[str] | None = None,
    panel: Panel = None,
    **more: typing.Any,
) -> None:
    """Marks at (x, y), grey circles or those of the series ``like``. An open or a line symbol gets
    a line of 2 pixels.
    """
    if like is not None:
        color, symbol = color or series(like).color, symbol or series(like).symbol
    color, symbol = INK if color is None else color, "circle" if symbol is None else symbol
    thin = isinstance(symbol, str) and ("open" in symbol or symbol.startswith("line"))
    marker = {"color": color, "symbol": symbol, "size": size, "line": {"width": 2 if thin else 0}}
    marker |= more.pop("marker", {})
    look = {"mode": "markers", "name": name, "marker": marker}
    fig.add_scatter(x=x, y=y, **{**look, **_hover(hover), **more}, **_place(panel))


def line(
    fig: Figure,
    x: typing.Any,
    y: typing.Any,
    name: str = "",
    *,
    like: int | None = None,
    color: str = "",
    dash: str = "",
    width: float = 2,
    marks: int = 0,
    symbol: str = "",
    shape: str = "linear",
    hover: str | Sequence[str] | None = None,
    panel: Panel = None,
    **more: typing.Any,
) -> None:
    """A line through (x, y), broken at None and NaN; in the legend where it has a name.

    It is grey, or looks as the series ``like``; ``marks`` of so many pixels stand on it;
    ``shape="hvh"`` draws steps.
    """
    own = Look(INK, "circle", "solid") if like is None else series(like)
    color = color or own.color
    stroke = {"color": color, "dash": dash or own.dash, "width": width, "shape": shape}
    look: Style = {"mode": "lines", "name": name, "line": stroke, "showlegend": bool(name)}
    if marks:
        marker = {"symbol": symbol or own.symbol, "size": marks, "color": color}
        look |= {"mode": "lines+markers", "marker": marker}
    fig.add_scatter(x=x, y=y, **{**look, **_hover(hover), **more}, **_place(panel))


def columns(
    fig: Figure,
    x: typing.Any,
    y: typing.Any,
    name: str = "",
    *,
    color: typing.Any = GOOD,
    pattern: str = "",
    hover: str | Sequence[str] | None = None,
    panel: Panel = None,
    **more: typing.Any,
) -> None:
    """Upright bars; what is clipped or lost has a ``pattern``, too, not only a colour."""
    marker = {"color": color, "pattern": {"shape": pattern}, "line": {"width": 0}}
    look = {"name": name, "marker": marker | more.pop("marker", {}), "textangle": 0}
    fig.add_bar(x=x, y=y, **{**look, **_hover(hover), **more}, **_place(panel))


def bars(
    fig: Figure,
    rows: typing.Any,
    values: Sequence[float | None],
    name: str = "",
    *,
    texts: Sequence[str] | None = None,
    **more: typing.Any,
) -> None:
    """Level bars, one a row, ``texts`` at the end; a value of None has a text and no bar."""
    if texts is not None:
        more |= {"text": list(texts), "textposition": "outside", "cliponaxis": False}
        more["textfont"] = {"color": INK}
    columns(fig, [value or 0 for value in values], rows, name, orientation="h", **more)


def note(fig: Figure, text: str, x: typing.Any, y: typing.Any, **more: typing.Any) -> None:
    """A few words at (x, y): the direct label of a mark."""
    fig.add_annotation(**{"text": text, "x": x, "y": y, "showarrow": False, **more})


def ends(fig: Figure, *places: float, color: str = INK, panel: Panel = None) -> None:
    """A dashed upright line at each of ``places``: where a range ends."""
    for place in places:
        fig.add_vline(x=place, line={"color": color, "dash": "dash"}, **_place(panel))


def spread(timings: Sequence[Timing | None], color: str = INK) -> dict[str, typing.Any]:
    """Error bars from the 5th to the 95th percentile."""
    return {
        "array": [t.p95_ms - t.median_ms if t else 0 for t in timings],
        "arrayminus": [t.median_ms - t.p05_ms if t else 0 for t in timings],
        "color": color,
        "thickness": 1,
    }


def label_points(
    fig: Figure,
    x: Sequence[float],
    y: Sequence[float],
    texts: Sequence[str],
    *,
    ranges: tuple[tuple[float, float], tuple[float, float]],
    size: tuple[float, float],
    column: int = 1,
) -> None:
    """Write each text near its mark, with a thin line to it where it stands away; nothing overlaps.

    ``ranges`` are the two axes' ends, ``size`` the panel in pixels. A text that finds no room is
    left to hovering.
    """
    (left, right), (low, high) = ranges
    across, up = size[0] / (right - left), size[1] / (high - low)
    places = [((a - left) * across, (b - low) * up) for a, b in zip(x, y, strict=True)]
    boxes = [(px - 6, py - 6, px + 6, py + 6) for px, py in places]
    labels = []
    panel = column if column > 1 else ""
    for index in sorted(range(len(places)), key=lambda at: -places[at][1]):
        px, py = places[index]
        width = 6.2 * len(texts[index]) + 6
        for dx, dy in _OFFSETS:
            shift = dx + math.copysign(width / 2, dx) if dx else 0.0
            middle, level = px + shift, py + dy
            box = (middle - width / 2, level - 7, middle + width / 2, level + 7)
            inside = box[0] > 0 and box[2] < size[0] and box[1] > 0 and box[3] < size[1]
            if inside and not any(overlap(box, other) for other in boxes):
                boxes.append(box)
                side = "left" if dx > 0 else "right" if dx < 0 else "center"
                place = {"x": x[index], "y": y[index], "xref": f"x{panel}", "yref": f"y{panel}"}
                shift_to = {"ax": dx, "ay": -dy, "xanchor": side}
                labels.append({"text": texts[index], **place, **shift_to, **_LABEL})
                break
    fig.layout.annotations = (*fig.layout.annotations, *labels)  # quicker than an update


def overlap(a: tuple[float, ...], b: tuple[float, ...]) -> bool:
    """Whether two boxes (left, top, right, bottom) share more than an edge."""
    return a[0] < b[2] and b[0] < a[2] and a[1] < b[3] and b[1] < a[3]


_LABEL: Style = {
    "font": {"size": 11, "color": INK},
    "showarrow": True,
    "arrowhead": 0,
    "arrowwidth": 0.7,
    "arrowcolor": INK,
    "standoff": 6,
}


def _offsets() -> list[tuple[float, float]]:
    """Where a label may stand beside its mark, in pixels, the nearest first."""
    near = [(10.0, 0.0), (-10.0, 0.0), (0.0, 15.0), (0.0, -15.0)]
    for radius in range(20, 130, 14):
        for turn in (1, -1, 2, -2, 0, 3, -3, 5, -5, 4, -4, 6):
            angle = math.pi * turn / 6
            near.append((radius * math.cos(angle), radius * math.sin(angle)))
    return near


_OFFSETS = _offsets()


# --- Axes.


def log_ticks(low: float, high: float, narrow: bool = False) -> tuple[list[float], list[str]]:
    """The ticks of a logarithmic axis from ``low`` to ``high``, and what they say: never a lone 2.

    >>> log_ticks(0.3, 40)
    ([0.5, 1, 2, 5, 10, 20], ['0.5', '1', '2', '5', '10', '20'])
    >>> log_ticks(1, 1e6)[1]
    ['1', '10', '100', '1,000', '10<sup>4</sup>', '10<sup>5</sup>', '10<sup>6</sup>']
    """
    first, last = math.floor(math.log10(low)), math.ceil(math.log10(high))
    decades = math.log10(high / low)
    few = 1.5 if narrow else 3
    steps = (1,) if decades > few else (1, 2, 5) if decades > 0.6 else (1, 1.5, 2, 3, 4, 5, 6, 8)
    apart = max(1, round(decades / 8))
    ticks: list[float] = []
    for power in range(first, last + 1, apart):
        for step in steps:
            tick = step * 10**power if power >= 0 else step / 10**-power
            if low <= tick <= high:
                ticks.append(tick)
    return ticks, [_tick(tick) for tick in ticks]


def _tick(value: float) -> str:
    if 0.001 <= value <= 9000:
        return f"{value:,.6g}"
    power = math.floor(math.log10(value) + 1e-9)
    factor = value / 10.0**power
    return f"{'' if round(factor, 6) == 1 else f'{factor:g}·'}10<sup>{power}</sup>"


def log_axis(
    fig: Figure,
    which: str,
    title: str,
    values: typing.Any,
    *,
    room: float = 0.05,
    panel: Panel = None,
) -> None:
    """Make the axis ``which`` ("x" or "y") logarithmic over all of ``values``, and say so.

    ``room`` is left free at both ends, as a share of the axis. Values that are not above 0 have no
    place on it.
    """
    flat = np.asarray(values, np.float64).ravel()
    flat = flat[np.isfinite(flat) & (flat > 0)]
    low, high = (float(flat.min()), float(flat.max())) if flat.size else (1.0, 10.0)
    if high < 1.5 * low:
        low, high = low / 1.5, high * 1.5
    margin = room * math.log10(high / low)
    span = [math.log10(low) - margin, math.log10(high) + margin]
    narrow = which == "x" and len(list(fig.select_xaxes())) > 1
    ticks, words = log_ticks(10 ** span[0], 10 ** span[1], narrow)
    update = fig.update_xaxes if which == "x" else fig.update_yaxes
    axis = {"type": "log", "range": span, "tickvals": ticks, "ticktext": words}
    update(title=f"{title} (log scale)", **axis, **_place(panel))


def name_rows(fig: Figure, names: Sequence[str], *, panel: Panel = None) -> None:
    """Name the rows 0, 1, 2 … of the y axis from the top; of too many, every second or third."""
    apart = -(-len(names) // MOST_ROWS) or 1
    size = 13 if len(names) <= 24 else 11
    fig.update_yaxes(
        tickvals=list(range(0, len(names), apart)),
        ticktext=[label(name) for name in names[::apart]],
        tickfont={"size": size},
        range=[len(names) - 0.4, -0.6],
        showgrid=False,
        zeroline=False,
        **_place(panel),
    )


# --- The line under the figure, and room for all that stands around the plot.


def source_label(source: Source) -> str:
    """Where a figure's numbers come from: a provenance's label, a text, else "computed here".

    >>> source_label(None), source_label("drawn by hand")
    ('computed here, in numpy', 'drawn by hand')
    """
    if source is None:
        return "computed here, in numpy"
    return source if isinstance(source, str) else source.label()


def finish(fig: Figure, source: Source = None, rest: str = "") -> Figure:
    """Write the source under the figure and make room: nothing is cut from 700 pixels on.

    ``rest`` follows the source: what did not join, what was left out. The figure itself is
    returned.

    >>> finish(figure("?"), "recorded on NVIDIA H200").layout.annotations[-1].text
    'recorded on NVIDIA H200'
    """
    layout = fig.layout
    _fold_titles(fig)
    source_line = folded(source_label(source) + rest, LINE)
    title = folded(layout.title.text or "", 74)
    under = _under(fig)
    left = _left(fig)
    head = 14 + 21 * (title.count("<br>") + 1)
    legend = 21 * _legend_rows(fig)
    above = 26 if any(axis.side == "top" for axis in fig.select_xaxes()) else 8
    for text in layout.annotations:
        if text.yref == "paper" and text.yanchor == "bottom" and text.y >= 0.99:  # panels' titles
            above = max(above, 10 + 17 * (1 + text.text.count("<br>")))
    top, bottom = head + legend + above, under + 15 * (source_line.count("<br>") + 1) + 6
    height = min(TALLEST, max(layout.height or 420, top + bottom + 90))
    fig.update_layout(
        height=height,
        margin={"t": top, "b": bottom, "l": left},
        title={"text": title, "xref": "container", "x": 0, "y": 1, "pad": {"t": 12, "l": 10}},
        legend={"xref": "container", "x": 0.005, "yref": "container", "yanchor": "top"},
    )
    fig.update_layout(title_yanchor="top", legend_y=1 - head / height)
    _neutral(fig)
    below: Style = {"xref": "paper", "yref": "paper", "xanchor": "left", "yanchor": "top"}
    below |= {"xshift": 10 - left, "yshift": -under, "align": "left"}
    below["font"] = {"size": 11, "color": INK}
    note(fig, _as_text(source_line, FOREIGN), 0, 0, name="footer", **below)
    return fig


def _legend_rows(fig: Figure) -> int:
    if fig.layout.showlegend is False:
        return 0
    names = [trace.name for trace in fig.data if trace.name and trace.showlegend is not False]
    widths = [46 + 7 * len(re.sub("<.*?>", "", name)) for name in names]
    if sum(widths) <= NARROW:
        return 1 if names else 0
    return -(-len(names) // max(1, NARROW // max(widths)))


def _fold_titles(fig: Figure) -> None:
    """Axis titles in lines that are no longer than their axis in the narrowest page."""
    alone = sum(bool(axis.title.text) for axis in fig.select_xaxes()) == 1
    for axis in fig.select_xaxes():
        axis.tickangle = 0
        first, last = (0, 1) if alone or not axis.domain else axis.domain
        axis.title.text = axis.title.text and folded(axis.title.text, round(76 * (last - first)))
    for axis in fig.select_yaxes():
        first, last = axis.domain or (0, 1)
        length = round((last - first) * ((fig.layout.height or 420) - 150) / 8)
        axis.title.text = axis.title.text and folded(axis.title.text, length)


def _under(fig: Figure) -> int:
    """Pixels that the lowest x axes need for ticks and title."""
    most = 8
    for axis in fig.select_xaxes():
        if axis.visible is False or axis.side == "top":
            continue
        ticks = max((str(text).count("<br>") for text in axis.ticktext or ()), default=0)
        most = max(most, 28 + 17 * ticks + 20 * _title_lines(axis))
    return most


def _title_lines(axis: typing.Any) -> int:
    return len(axis.title.text.split("<br>")) if axis.title.text else 0


def _left(fig: Figure) -> int:
    """Pixels that the y axes at the left need for tick labels and title."""
    most = 20
    categories: list[str] = []
    for trace in fig.data:
        if trace.y is not None and len(trace.y) and isinstance(trace.y[0], str):
            categories += trace.y
    for axis in fig.select_yaxes():
        across = fig.layout["xaxis" + (axis.anchor or "x")[1:]]
        if axis.visible is False or (across.domain and across.domain[0] > 0.001):
            continue
        lines = [part for text in axis.ticktext or () for part in str(text).split("<br>")]
        lines += [part for text in categories for part in text.split("<br>")]
        longest = max((len(re.sub("<.*?>", "", text)) for text in lines), default=6)
        most = max(most, 18 + round(7.1 * longest) + 20 * _title_lines(axis))
    return most
