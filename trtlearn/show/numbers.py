"""A figure of one line of a calibration cache: what its hex digits say, bit by bit."""

from __future__ import annotations

import typing
from dataclasses import dataclass

import numpy as np

from ..calibration.cache import CacheEntry
from ..engine.records import Provenance
from ..errors import DataError
from ..int8 import quant
from .theme import BAD, GOOD, INK, MARKS, SERIES, WARN, figure, footer

__all__ = [
    "Curves",
    "Histogram",
    "clip_or_round",
    "error_curves",
    "float_bits",
    "histogram_with_range",
    "number_line",
    "slider_figure",
    "source_label",
    "tall",
    "weight_error",
]


# --- Figures about numbers in eight bits: the grid, what is clipped, what is rounded. Arrays in, plotly Figure out.

if typing.TYPE_CHECKING:
    import plotly.graph_objects as go
    from numpy.typing import ArrayLike, NDArray


QMAX = 127


def source_label(source: Provenance | str | None) -> str:
    """The footer of a figure: a provenance's own label, a text as it is, else "computed here, in numpy".

    >>> source_label(None), source_label("drawn by hand")
    ('computed here, in numpy', 'drawn by hand')
    """
    if source is None:
        return "computed here, in numpy"
    return source if isinstance(source, str) else source.label()


def tall(rows: int) -> int:
    """The height in pixels of a figure with one row of text for each of ``rows``."""
    return max(260, 180 + 24 * rows)


def _finite(values: ArrayLike, what: str) -> NDArray[np.float64]:
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
    source: Provenance | str | None = None,
) -> go.Figure:
    """Which real numbers can the codes say? Every ``q * scale`` as a tick, and where each of ``values`` lands.

    ``values`` is float [N], N up to a few dozen. A value inside the grid goes to the nearest tick; one outside is
    clipped to the end and marked with a cross.

    >>> len(number_line(0.5, [1.1, 99.0]).data)
    3
    """
    import plotly.graph_objects as go

    scale = _positive(scale)
    grid = np.arange(qmin, qmax + 1) * scale
    fig = figure(
        f"Which numbers can {qmax - qmin + 1} codes say when the scale is {scale:.4g}?", height=260
    )
    ticks = {"symbol": "line-ns", "size": 16, "line": {"width": 1, "color": INK}}
    code = np.arange(qmin, qmax + 1)
    hover = "code %{customdata} says %{x:.6g}<extra></extra>"
    fig.add_scatter(
        x=grid,
        y=np.zeros(grid.size),
        mode="markers",
        marker=ticks,
        name="what a code says",
        customdata=code,
        hovertemplate=hover,
    )
    x = np.asarray(values, np.float64).ravel()
    q = np.clip(np.rint(x / scale), qmin, qmax)
    lost = (np.rint(x / scale) != q) if x.size else np.zeros(0, bool)
    for name, mask, color, mark in (
        ("rounded to the nearest code", ~lost, GOOD, "circle"),
        ("clipped to the end of the grid", lost, BAD, "x"),
    ):
        if not mask.any():
            continue
        for start, end in zip(x[mask], q[mask] * scale, strict=True):
            fig.add_annotation(
                x=end,
                y=0,
                ax=start,
                ay=1,
                axref="x",
                ayref="y",
                arrowhead=2,
                arrowcolor=color,
                text="",
                opacity=0.6,
            )
        fig.add_trace(
            go.Scatter(
                x=x[mask],
                y=np.ones(int(mask.sum())),
                mode="markers",
                name=name,
                marker={"color": color, "symbol": mark, "size": 10},
                customdata=np.stack([q[mask], q[mask] * scale], -1),
                hovertemplate="%{x:.6g} becomes code %{customdata[0]} = %{customdata[1]:.6g}<extra></extra>",
            )
        )
    fig.update_yaxes(visible=False, range=[-0.4, 1.4])
    fig.update_xaxes(title="real value", zeroline=True)
    return footer(fig, source_label(source))


def histogram_with_range(
    values: ArrayLike,
    amax: float,
    name: str = "x",
    *,
    bins: int = 80,
    source: Provenance | str | None = None,
) -> go.Figure:
    """What does the range ±amax keep of these values, and what does it clip?

    ``values`` float, any shape; counts on a log axis. Clipped bars are hatched and counted in the legend; the part
    of the range that holds no value is marked "unused".

    >>> [trace.name for trace in histogram_with_range([0.0, 1.0, 3.0], 2.0).data]
    ['kept: 66.7 %', 'clipped: 33.3 %']
    """
    x, amax = _finite(values, name), _positive(amax)
    reach = float(np.abs(x).max())
    low = min(float(x.min()), -amax if x.min() < 0 else 0.0)
    high = max(float(x.max()), amax)
    edges = np.linspace(low, high, bins + 1)
    if low < -amax < high or low < amax < high:  # a bar never straddles the end of the range
        edges = np.unique(
            np.concatenate([edges, [edge for edge in (-amax, amax) if low < edge < high]])
        )
    counts, edges = np.histogram(x, edges)
    centres, widths = (edges[:-1] + edges[1:]) / 2, np.diff(edges)
    lost = np.abs(centres) > amax
    share = float((np.abs(x) > amax).mean())
    fig = figure(f"What does ±{amax:.4g} keep of {name}?")
    hover = "values at %{x:.4g}: %{y}<extra></extra>"
    for label, mask, color, pattern in (
        (f"kept: {100 * (1 - share):.3g} %", ~lost, GOOD, ""),
        (f"clipped: {100 * share:.3g} %", lost, BAD, "x"),
    ):
        fig.add_bar(
            x=centres[mask],
            y=counts[mask],
            width=widths[mask],
            name=label,
            marker={"color": color, "pattern": {"shape": pattern}, "line": {"width": 0}},
            hovertemplate=hover,
        )
    for end in {-amax if low < 0 else amax, amax}:
        fig.add_vline(x=end, line={"color": INK, "dash": "dash"})
    if reach < 0.9 * amax:
        fig.add_vrect(x0=reach, x1=amax, fillcolor=WARN, opacity=0.15, line={"width": 0})
        codes = round(QMAX * (1 - reach / amax))
        fig.add_annotation(
            x=(reach + amax) / 2,
            y=0.9,
            yref="paper",
            text=f"unused: {codes} of {QMAX} codes",
            showarrow=False,
        )
    fig.update_yaxes(title="number of values", type="log", dtick=1)
    fig.update_xaxes(title=f"value of {name} (dashed: the range ±{amax:.4g})")
    fig.update_layout(bargap=0)
    return footer(fig, source_label(source))


def clip_or_round(
    values: ArrayLike, *, points: int = 60, source: Provenance | str | None = None
) -> go.Figure:
    """Where should the range end? Mean squared error of clipping and of rounding against amax.

    ``values`` float, any shape. Error is measured by quantizing with scale = amax / 127 and back: of values beyond
    amax it is clipping, of the others rounding.

    >>> [trace.name for trace in clip_or_round([0.1, 0.2, 1.0]).data]
    ['clipping error', 'rounding error', 'both', 'least: ±1']
    """
    x = _finite(values, "values")
    reach = _positive(float(np.abs(x).max()))
    grid = np.geomspace(reach / 50, reach * 4, points)
    grid = np.sort(np.append(grid, reach))
    measured = [quant.quantization_error(x, float(amax) / QMAX) for amax in grid]
    clip, rounding = (
        np.array([getattr(e, field) for e in measured])
        for field in ("clip_error", "rounding_error")
    )
    total = clip + rounding
    best = int(total.argmin())
    fig = figure("Where should the range end?")
    for label, series, color, dash in (
        ("clipping error", clip, BAD, "dot"),
        ("rounding error", rounding, GOOD, "dash"),
        ("both", total, INK, "solid"),
    ):
        y = np.where(series > 0, series, np.nan)
        fig.add_scatter(
            x=grid, y=y, mode="lines", name=label, line={"color": color, "dash": dash, "width": 2}
        )
    fig.add_scatter(
        x=[grid[best]],
        y=[total[best]],
        mode="markers",
        name=f"least: ±{grid[best]:.4g}",
        marker={"symbol": "star", "size": 14, "color": INK},
    )
    fig.update_xaxes(title="amax, the end of the range", type="log")
    fig.update_yaxes(title="mean squared error", type="log", exponentformat="power")
    return footer(fig, source_label(source))


def weight_error(
    weights: ArrayLike,
    name: str = "weights",
    *,
    axis: int = 0,
    source: Provenance | str | None = None,
) -> go.Figure:
    """Does one scale per channel pay? Root-mean-square rounding error of each output channel, both ways.

    ``weights`` float, channels on ``axis``. Scales are amax / 127, of the whole tensor or of each channel.

    >>> [trace.name for trace in weight_error([[1.0, 0.3], [0.1, 0.02]]).data]
    ['one scale for the tensor', 'one scale per channel']
    """
    w = np.moveaxis(np.asarray(weights, np.float64), axis, 0)
    w = w.reshape(w.shape[0], -1)
    _finite(w, name)
    whole = np.full(w.shape[0], np.abs(w).max() / QMAX)
    each = np.abs(w).max(1) / QMAX
    fig = figure(f"Does one scale per channel pay in {name}?")
    order = np.argsort(-each, kind="stable")
    for index, (label, scales) in enumerate(
        (("one scale for the tensor", whole), ("one scale per channel", each))
    ):
        safe = np.where(scales > 0, scales, 1)[:, None]
        error = np.sqrt(((np.clip(np.rint(w / safe), -QMAX, QMAX) * safe - w) ** 2).mean(1))
        relative = 100 * error / np.maximum(np.sqrt((w**2).mean(1)), np.finfo(float).tiny)
        fig.add_scatter(
            x=np.arange(w.shape[0]),
            y=np.where(relative > 0, relative, np.nan)[order],
            mode="markers",
            name=label,
            marker={"symbol": MARKS[index], "color": SERIES[(1, 0)[index]], "size": 9},
            customdata=order,
            hovertemplate="channel %{customdata}: %{y:.3g} %<extra></extra>",
        )
    fig.update_xaxes(title="output channels, from the largest weights to the smallest")
    drawn = np.concatenate([trace.y for trace in fig.data])
    wide = np.nanmax(drawn) > 20 * np.nanmin(drawn) if np.isfinite(drawn).any() else True
    fig.update_yaxes(title="error in % of the weights (RMS)", type="log", dtick=1 if wide else "D1")
    return footer(fig, source_label(source))


# --- The figure behind the sliders: a histogram whose bars change sides, beside the two errors and a moving mark.

if typing.TYPE_CHECKING:
    import plotly.graph_objects as go
    from numpy.typing import NDArray


BINS = 81


class Histogram:
    """Counts of ``x`` [N] in equal bins over all that ±amax may span; ``split`` says which are clipped.

    >>> Histogram(np.array([0.1, 0.9, -1.0]), 1.0).split(0.5)[1].sum()
    np.int64(2)
    """

    def __init__(self, x: NDArray[np.float32], amax: float) -> None:
        low = -amax if x.min() < 0 else -0.02 * amax
        self.span = (low * 1.02, amax * 1.02)
        reach = float(np.abs(x).max())
        edges = np.linspace(max(low, -reach), reach, BINS + 1)
        self.counts, self.edges = np.histogram(x, edges)
        self.centres, self.widths = (self.edges[:-1] + self.edges[1:]) / 2, np.diff(self.edges)
        self.signed = bool(x.min() < 0)

    def split(self, amax: float) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Counts of the bars whose middle lies inside ±amax, and of the others."""
        inside = np.abs(self.centres) <= amax
        return np.where(inside, self.counts, 0), np.where(inside, 0, self.counts)


@dataclass(frozen=True)
class Curves:
    """Mean squared error against amax, float64 [P] each."""

    amax: NDArray[np.float64]
    clip: NDArray[np.float64]
    rounding: NDArray[np.float64]


def error_curves(x: NDArray[np.float32], low: float, high: float, points: int = 50) -> Curves:
    """Clipping and rounding error (``quant.quantization_error``) of ``x`` [N] for ``points`` ranges from low to high."""
    grid: NDArray[np.float64] = np.geomspace(low, high, points, dtype=np.float64)
    errors = [quant.quantization_error(x, amax / 127) for amax in grid]
    return Curves(
        grid, np.array([e.clip_error for e in errors]), np.array([e.rounding_error for e in errors])
    )


def slider_figure(
    histogram: Histogram,
    curves: Curves | None,
    name: str,
    amax: float,
    source: Provenance | str | None,
) -> go.Figure:
    """Traces 0 and 1 are the kept and the clipped bars, the last is the mark on the error curves (if any)."""
    from plotly.subplots import make_subplots

    empty = figure(f"What does the range keep of {name}?", bargap=0, barmode="overlay", height=400)
    fig = make_subplots(figure=empty, rows=1, cols=2 if curves else 1, horizontal_spacing=0.13)
    for label, counts, color, pattern in zip(
        ("kept", "clipped"), histogram.split(amax), (GOOD, BAD), ("", "x"), strict=True
    ):
        fig.add_bar(
            x=histogram.centres,
            y=counts,
            width=histogram.widths,
            name=label,
            marker={"color": color, "pattern": {"shape": pattern}, "line": {"width": 0}},
            hovertemplate="values at %{x:.4g}: %{y}<extra>" + label + "</extra>",
            row=1,
            col=1,
        )
    fig.update_xaxes(title=f"value of {name} (dashed: ±amax)", range=histogram.span, row=1, col=1)
    fig.update_yaxes(title="number of values", type="log", dtick=1, row=1, col=1)
    for end in (-amax, amax):
        fig.add_vline(x=end, line={"color": INK, "dash": "dash"}, row=1, col=1)
    if curves:
        for label, y, color, dash in (
            ("clipping error", curves.clip, BAD, "dot"),
            ("rounding error", curves.rounding, GOOD, "dash"),
            ("both", curves.clip + curves.rounding, INK, "solid"),
        ):
            fig.add_scatter(
                x=curves.amax,
                y=np.where(y > 0, y, np.nan),
                mode="lines",
                name=label,
                line={"color": color, "dash": dash},
                row=1,
                col=2,
            )
        mark = {"symbol": "diamond", "size": 13, "color": INK}
        fig.add_scatter(x=[amax], y=[None], mode="markers", name="here", marker=mark, row=1, col=2)
        fig.update_xaxes(title="amax", type="log", row=1, col=2)
        fig.update_yaxes(
            title="mean squared error", type="log", exponentformat="power", row=1, col=2
        )
    return footer(fig, source_label(source))


# --- A figure of one line of a calibration cache: what its hex digits say, bit by bit.

if typing.TYPE_CHECKING:
    import plotly.graph_objects as go


def float_bits(line: CacheEntry) -> go.Figure:
    """The 32 bits of one line's hex, as IEEE 754 reads them: sign, exponent, fraction.

    >>> from trtlearn.calibration.cache import entry
    >>> len(float_bits(entry("x", 0.5)).data)
    3
    """
    bits = f"{int(line.hex, 16):032b}"
    fig = figure(f"What do the hex digits {line.hex} say?", height=270)
    exponent, fraction = int(bits[1:9], 2), int(bits[9:], 2)
    parts = (
        (f"sign: {bits[0]}", slice(0, 1), SERIES[2]),
        (f"exponent: {exponent} − 127 = {exponent - 127}", slice(1, 9), GOOD),
        (f"fraction: {fraction} / 2²³", slice(9, 32), BAD),
    )
    for label, where, color in parts:
        places = list(range(32))[where]
        fig.add_bar(
            x=places,
            y=[1] * len(places),
            text=list(bits[where]),
            textposition="inside",
            insidetextanchor="middle",
            textfont={"color": "white", "size": 14},
            marker={"color": color},
            name=label,
            hoverinfo="skip",
        )
    digits = line.hex.zfill(8)
    ticks = [4 * index + 1.5 for index in range(8)]
    fig.update_xaxes(
        title="hex digit (four bits each)", tickvals=ticks, ticktext=list(digits), showgrid=False
    )
    fig.update_yaxes(visible=False)
    value = f"scale {line.scale:.9g}, amax = 127 · scale = {line.amax:.7g}"
    formula = f"(1 + {fraction}/2²³) · 2<sup>{exponent - 127}</sup> = " if exponent else ""
    return footer(fig, f"{line.name}: {formula}{value}")
