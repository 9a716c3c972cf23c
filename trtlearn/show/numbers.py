"""Numbers in eight bits: the grid, what a range clips and rounds, a cache line bit by bit."""

from __future__ import annotations

import typing

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..calibration.cache import CacheEntry
from ..errors import DataError
from ..int8 import quant
from . import draw
from .draw import BAD, GOOD, INK, SERIES, WARN, Figure, Source, Style, series

__all__ = ["clip_or_round", "float_bits", "histogram", "number_line", "weight_error"]

QMAX = 127
BINS = 81  # of the histogram behind a slider


def finite(values: ArrayLike, what: str) -> NDArray[np.float64]:
    """The values as float64 [N]; DataError where there are none, or some are NaN or infinite."""
    flat = np.asarray(values, np.float64).ravel()
    if flat.size == 0:
        raise DataError(f"{what} is empty", "pass at least one number")
    if bad := int((~np.isfinite(flat)).sum()):
        raise DataError(
            f"{what} holds {bad} values that are NaN or infinite",
            "drop them with x[np.isfinite(x)]",
        )
    return flat


def _positive(amax: float) -> float:
    if not (np.isfinite(amax) and amax > 0):
        raise DataError(
            f"amax is {amax}, expected a finite number above 0", "use the largest |x| to be kept"
        )
    return float(amax)


def number_line(
    scale: float,
    values: ArrayLike = (),
    *,
    qmin: int = -128,
    qmax: int = 127,
    source: Source = None,
) -> Figure:
    """Which real numbers can the codes say? A tick for each, and where each of ``values`` lands.

    ``values`` is float [N], N up to a few dozen. A value inside the grid goes to the nearest tick;
    one outside is clipped to the end and marked with a cross.

    >>> len(number_line(0.5, [1.1, 99.0]).data)
    3
    """
    scale = _positive(scale)
    codes = np.arange(qmin, qmax + 1)
    title = f"Which numbers can {codes.size} codes say when the scale is {scale:.4g}?"
    fig = draw.figure(title, height=270)
    says = "code %{customdata} says %{x:.6g}"
    tick: Style = {"symbol": "line-ns", "size": 16, "marker": {"line": {"width": 1, "color": INK}}}
    places = codes * scale
    draw.points(
        fig, places, np.zeros(codes.size), "what a code says", hover=says, customdata=codes, **tick
    )
    quant.finite_array(values, "values")
    x = np.asarray(values, np.float64).ravel()
    q = np.clip(np.rint(x / scale), qmin, qmax)
    clipped = np.rint(x / scale) != q
    becomes = "%{x:.6g} becomes code %{customdata[0]} = %{customdata[1]:.6g}"
    for name, which, color, symbol in (
        ("rounded to the nearest code", ~clipped, GOOD, "circle"),
        ("clipped to the end of the grid", clipped, BAD, "x"),
    ):
        if not which.any():
            continue
        landing = np.stack([q[which], q[which] * scale], -1)
        for start, end in zip(x[which], landing[:, 1], strict=True):
            arrow: Style = {"showarrow": True, "arrowhead": 2, "arrowcolor": color, "opacity": 0.6}
            draw.note(fig, "", end, 0, ax=start, ay=1, axref="x", ayref="y", **arrow)
        look: Style = {"color": color, "symbol": symbol, "size": 10}
        y = np.ones(len(landing))
        draw.points(fig, x[which], y, name, **look, hover=becomes, customdata=landing)
    fig.update_yaxes(visible=False, range=[-0.4, 1.4])
    fig.update_xaxes(title="real value", zeroline=True)
    return draw.finish(fig, source)


def histogram(
    values: ArrayLike,
    amax: float | None = None,
    name: str = "x",
    *,
    bins: int = 80,
    source: Source = None,
) -> Figure:
    """What does the range ±amax keep of these values, and what does it clip?

    ``values`` float, any shape; counts on a log axis. ``amax``: by default the largest magnitude,
    which clips nothing. Clipped bars are hatched and counted in the
    legend; the part of the range that holds no value is marked "unused".

    >>> [trace.name for trace in histogram([0.0, 1.0, 3.0], 2.0).data]
    ['kept: 66.7 %', 'clipped: 33.3 %']
    """
    x = finite(values, name)
    reach = float(np.abs(x).max())
    amax = _positive(reach if amax is None else amax)
    low = min(float(x.min()), -amax if x.min() < 0 else 0.0)
    high = max(float(x.max()), amax)
    cuts = [end for end in (-amax, amax) if low < end < high]  # no bar straddles the range's end
    edges = np.unique(np.concatenate([np.linspace(low, high, bins + 1), cuts]))
    counts, edges = np.histogram(x, edges)
    clipped = 100 * float((np.abs(x) > amax).mean())
    fig = draw.figure(f"What does ±{amax:.4g} keep of {name}?", bargap=0)
    shares = f"kept: {100 - clipped:.3g} %", f"clipped: {clipped:.3g} %"
    _value_bars(fig, edges, counts, amax, shares)
    draw.ends(fig, *{-amax if low < 0 else amax, amax})
    if reach < 0.9 * amax:
        fig.add_vrect(x0=reach, x1=amax, fillcolor=WARN, opacity=0.15, line={"width": 0})
        unused = round(QMAX * (1 - reach / amax))
        text = f"unused: {unused} of {QMAX} codes"
        draw.note(fig, text, (reach + amax) / 2, 0.9, yref="paper")
    draw.log_axis(fig, "y", "number of values", [0.8, *counts])
    fig.update_xaxes(title=f"value of {name} (dashed: the range ±{amax:.4g})")
    return draw.finish(fig, source)


def _value_bars(
    fig: Figure,
    edges: NDArray[np.float64],
    counts: NDArray[np.int64],
    amax: float,
    names: tuple[str, str] = ("kept", "clipped"),
    **more: typing.Any,
) -> None:
    """Bars of the values inside the range, and hatched ones of those outside."""
    centres, widths = (edges[:-1] + edges[1:]) / 2, np.diff(edges)
    look: Style = {"width": widths, "hover": "values at %{x:.4g}: %{y}", **more}
    inside = np.abs(centres) <= amax
    draw.columns(fig, centres, np.where(inside, counts, 0), names[0], **look)
    clipped = np.where(inside, 0, counts)
    draw.columns(fig, centres, clipped, names[1], color=BAD, pattern="x", **look)


def _error_lines(
    fig: Figure, x: ArrayLike, amax: NDArray[np.float64], panel: draw.Panel = None
) -> NDArray[np.float64]:
    """Clipping and rounding error of ``x`` [N], and their sum, for each of the ranges ``amax`` [P];
    the sum is returned.
    """
    errors = [quant.quantization_error(x, float(end) / QMAX) for end in amax]
    clip = np.array([error.clip_error for error in errors])
    rounding = np.array([error.rounding_error for error in errors])
    total: NDArray[np.float64] = clip + rounding
    for name, y, color, dash in (
        ("clipping error", clip, BAD, "dot"),
        ("rounding error", rounding, GOOD, "dash"),
        ("both", total, INK, "solid"),
    ):
        drawn = np.where(y > 0, y, np.nan)
        draw.line(fig, amax, drawn, name, color=color, dash=dash, panel=panel)
    draw.log_axis(fig, "x", "amax", amax, panel=panel)
    draw.log_axis(fig, "y", "mean squared error", [*total, *rounding], panel=panel)
    return total


def clip_or_round(values: ArrayLike, *, source: Source = None) -> Figure:
    """Where should the range end? Mean squared error of clipping and of rounding against amax.

    ``values`` float, any shape; 60 ranges from a fiftieth of max|x| to four times it.

    >>> [trace.name for trace in clip_or_round([0.1, 0.2, 1.0]).data]
    ['clipping error', 'rounding error', 'both', 'least: ±1']
    """
    x = finite(values, "values")
    reach = _positive(float(np.abs(x).max()))
    grid = np.sort(np.append(np.geomspace(reach / 50, reach * 4, 60), reach))
    fig = draw.figure("Where should the range end?")
    total = _error_lines(fig, x, grid)
    best = int(total.argmin())
    star: Style = {"symbol": "star", "size": 14}
    draw.points(fig, [grid[best]], [total[best]], f"least: ±{grid[best]:.4g}", **star)
    fig.update_xaxes(title="amax, the end of the range (log scale)")
    return draw.finish(fig, source)


def weight_error(weights: ArrayLike, name: str = "weights", *, source: Source = None) -> Figure:
    """Does one scale per channel pay? RMS rounding error of each output channel, both ways.

    ``weights`` float [channels, ...]. Scales are amax / 127, of the tensor or of each channel.

    >>> [trace.name for trace in weight_error([[1.0, 0.3], [0.1, 0.02]]).data]
    ['one scale for the tensor', 'one scale per channel']
    """
    w = np.asarray(weights, np.float64)
    w = w.reshape(w.shape[0], -1)
    finite(w, name)
    each = np.abs(w).max(1) / QMAX
    order = np.argsort(-each, kind="stable")
    fig = draw.figure(f"Does one scale per channel pay in {name}?")
    drawn = []
    for title, scales, number in (
        ("one scale for the tensor", np.full(each.shape, each.max()), 1),
        ("one scale per channel", each, 0),
    ):
        error = _relative_error(w, scales)[order]
        look: Style = {"color": SERIES[number], "symbol": series(1 - number).symbol}
        hover = "channel %{customdata}: %{y:.3g} %"
        draw.points(fig, np.arange(len(w)), error, title, **look, hover=hover, customdata=order)
        drawn.append(error)
    fig.update_xaxes(title="output channels, from the largest weights to the smallest")
    draw.log_axis(fig, "y", "error in % of the weights (RMS)", drawn)
    return draw.finish(fig, source)


def _relative_error(w: NDArray[np.float64], scales: NDArray[np.float64]) -> NDArray[np.float64]:
    """RMS rounding error in % of each row's RMS, [C]; NaN where there is none."""
    steps = np.where(scales > 0, scales, 1)[:, None]
    rounded = np.clip(np.rint(w / steps), -QMAX, QMAX) * steps
    error = np.sqrt(((rounded - w) ** 2).mean(1))
    percent = 100 * error / np.maximum(np.sqrt((w**2).mean(1)), np.finfo(float).tiny)
    return np.where(percent > 0, percent, np.nan)


def slider_figure(
    x: NDArray[np.float32], amax: NDArray[np.float64], name: str, start: float, source: Source
) -> Figure:
    """What ±``start`` keeps of ``x`` [N], beside both errors for each of the ranges ``amax`` [P].

    Traces 0 and 1 are the kept and the clipped bars, the last is the mark on the errors.
    """
    high, reach = float(amax.max()), float(np.abs(x).max())
    counts, edges = np.histogram(x, BINS, (-reach if x.min() < 0 else 0, reach))
    fig = draw.panels(f"What does the range keep of {name}?", ["", ""], height=400)
    fig.update_layout(bargap=0, barmode="overlay")
    _value_bars(fig, edges, counts, start, panel=(1, 1))
    draw.log_axis(fig, "y", "number of values", [0.8, 2 * counts.max()], panel=(1, 1))
    span = [1.02 * high * (-1 if x.min() < 0 else -0.02), 1.02 * high]
    fig.update_xaxes(title=f"value of {name} (dashed: ±amax)", range=span, row=1, col=1)
    draw.ends(fig, -start, start, panel=(1, 1))
    _error_lines(fig, x, amax, (1, 2))
    draw.points(fig, [start], [None], "here", symbol="diamond", size=13, panel=(1, 2))
    return draw.finish(fig, source)


def float_bits(entry: CacheEntry, *, source: Source = None) -> Figure:
    """The 32 bits of one cache line's hex, as IEEE 754 reads them: sign, exponent, fraction.

    >>> from trtlearn.calibration.cache import entry
    >>> len(float_bits(entry("x", 0.5)).data)
    3
    """
    bits = f"{int(entry.hex, 16):032b}"
    exponent, fraction = int(bits[1:9], 2), int(bits[9:], 2)
    fig = draw.figure(f"What do the hex digits {entry.hex} say?", height=270)
    for name, first, last, color in (
        (f"sign: {bits[0]}", 0, 1, SERIES[2]),
        (f"exponent: {exponent} − 127 = {exponent - 127}", 1, 9, GOOD),
        (f"fraction: {fraction} / 2²³", 9, 32, BAD),
    ):
        inside: Style = {"textposition": "inside", "insidetextanchor": "middle"}
        font = {"color": "white", "size": 14}
        text, height = list(bits[first:last]), [1] * (last - first)
        place = list(range(first, last))
        draw.columns(fig, place, height, name, color=color, text=text, textfont=font, **inside)
    digits: Style = {"tickvals": [4 * digit + 1.5 for digit in range(8)]}
    digits["ticktext"] = list(entry.hex.zfill(8))
    fig.update_xaxes(title="hex digit (four bits each)", showgrid=False, **digits)
    fig.update_yaxes(visible=False)
    value = f"scale {entry.scale:.9g}, amax = 127 · scale = {entry.amax:.7g}"
    formula = f"(1 + {fraction}/2²³) · 2<sup>{exponent - 127}</sup> = " if exponent else ""
    origin = "" if source is None else f"; {draw.source_label(source)}"
    return draw.finish(fig, f"{entry.name}: {formula}{value}{origin}")
