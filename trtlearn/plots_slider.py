"""The figure behind the sliders: a histogram whose bars change sides, beside the two errors and a moving mark."""

from __future__ import annotations

import typing
from dataclasses import dataclass

import numpy as np

from . import quant
from .colors import BAD, GOOD, INK, figure, footer
from .plots_numbers import source_label
from .records import Provenance

if typing.TYPE_CHECKING:
    import plotly.graph_objects as go
    from numpy.typing import NDArray

__all__ = ["Curves", "Histogram", "error_curves", "slider_figure"]

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
    """Clipping and rounding error (``quant.errors``) of ``x`` [N] for ``points`` ranges from low to high."""
    grid: NDArray[np.float64] = np.geomspace(low, high, points, dtype=np.float64)
    errors = [quant.errors(x, amax / 127) for amax in grid]
    return Curves(grid, np.array([e.clip_error for e in errors]), np.array([e.rounding_error for e in errors]))


def slider_figure(
    histogram: Histogram, curves: Curves | None, name: str, amax: float, source: Provenance | str | None
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
        fig.update_yaxes(title="mean squared error", type="log", exponentformat="power", row=1, col=2)
    return footer(fig, source_label(source))
