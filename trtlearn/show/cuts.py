"""Where a range is cut, on a small scale: a digit beside its histogram, and a toy of a few bins."""

from __future__ import annotations

import typing

import numpy as np

from ..calibration.entropy import divergence, reference_and_candidate
from ..errors import DataError
from . import draw
from .digits import as_seen
from .draw import Source, Style
from .theme import BAD, GOOD, GRAYS, INK

if typing.TYPE_CHECKING:
    import plotly.graph_objects as go
    from numpy.typing import ArrayLike, NDArray

__all__ = ["background", "cut_digit", "spike", "toy_cut"]

BARS = 64


def background(images: ArrayLike) -> tuple[float, float]:
    """The value that comes most often, and its share of all values.

    >>> background([0.0, 0.0, 0.0, 2.0])
    (0.0, 0.75)
    """
    values, counts = np.unique(np.asarray(images, np.float32), return_counts=True)
    if not counts.size:
        raise DataError("no pixel to look at", "pass float32 images [N,1,H,W]")
    most = int(counts.argmax())
    return float(values[most]), float(counts[most] / counts.sum())


def cut_digit(image: ArrayLike, amax: float) -> NDArray[np.float32]:
    """The image [...,H,W] as the INT8 codes of ±amax say it, [H,W].

    >>> cut_digit([[0.0, 9.0]], 4.0).tolist()
    [[0.0, 4.0]]
    """
    pixels = np.asarray(image, np.float32)
    return as_seen(pixels, amax).reshape(pixels.shape[-2:])


def spike(
    images: ArrayLike,
    amax: float,
    index: int = 0,
    *,
    values: ArrayLike | None = None,
    source: Source = None,
) -> go.Figure:
    """A digit before and after the range ±amax, beside the histogram of all pixels (linear axis).

    ``images`` float32 [N,1,H,W]; ``index`` is the digit shown; ``values`` [N] are counted in place
    of all pixels. Traces: 0 the histogram, 1 the digit, 2 the digit cut at ±amax.

    >>> len(spike(np.eye(4, dtype=np.float32).reshape(1, 1, 4, 4), 0.5).data)
    3
    """
    pixels = np.asarray(images, np.float32)
    counted = pixels.ravel() if values is None else np.asarray(values, np.float32)
    value, share = background(counted)
    if amax <= 0:
        raise DataError(f"amax is {amax}", "pass a number above 0")
    heads = ["", "the digit", "what ±amax keeps of it"]
    widths = {"column_widths": [0.5, 0.25, 0.25], "horizontal_spacing": 0.05}
    fig = draw.panels("What does the range keep of a digit?", heads, height=370, **widths)
    counts, edges = np.histogram(counted, BARS)
    middles, percent = (edges[:-1] + edges[1:]) / 2, 100 * counts / counted.size
    step = float(edges[1] - edges[0])
    hover = "%{y:.2g} % of the pixels near %{x:.3g}"
    draw.columns(fig, middles, percent, width=step, hover=hover, panel=(1, 1))
    draw.ends(fig, -amax, amax, color=BAD, panel=(1, 1))
    if share > 0.5:
        words = f"{100 * share:.0f} % of pixels: background"
        label: Style = {"xanchor": "left", "xshift": 14, "row": 1, "col": 1}
        draw.note(fig, words, value, 0.93 * percent.max(), **label)
    digit = pixels[index].reshape(pixels.shape[-2:])
    ends = {"zmin": float(digit.min()), "zmax": float(digit.max())}
    look: Style = {**ends, "colorscale": GRAYS, "showscale": False}
    for column, seen in ((2, digit), (3, cut_digit(digit, amax))):
        text = "%{z:.3g}<extra></extra>"
        fig.add_heatmap(z=seen, hovertemplate=text, **look, row=1, col=column)
        fig.update_xaxes(visible=False, constrain="domain", row=1, col=column)
        anchor = "x2" if column == 2 else "x3"
        fig.update_yaxes(visible=False, autorange="reversed", scaleanchor=anchor, row=1, col=column)
    fig.update_layout(showlegend=False, bargap=0)
    reach = 1.05 * max(float(np.abs(pixels).max()), amax)
    fig.update_xaxes(title="value of a pixel (dashed: ±amax)", range=[-reach, reach], row=1, col=1)
    fig.update_yaxes(title="share of pixels, %", range=[0, 1.1 * percent.max()], row=1, col=1)
    return draw.finish(fig, source)


def toy_cut(
    counts: ArrayLike, kept: int, levels: int = 4, *, source: Source = "computed here"
) -> go.Figure:
    """P and Q of a histogram small enough for a pencil, cut behind ``kept`` bins.

    ``counts`` [bins]; Q tells them in ``levels`` steps. Traces: 0 the counts, 1 P, 2 Q.

    >>> [trace.name for trace in toy_cut([8, 4, 2, 1], 4, 2).data]
    ['counted', 'P', 'Q']
    """
    h = np.asarray(counts, np.float64)
    if not levels <= kept <= len(h):
        raise DataError(f"kept is {kept}", f"keep {levels} to {len(h)} bins")
    p, q = reference_and_candidate(h, kept, levels)
    fig = draw.figure(f"What do {levels} steps tell of the first {kept} bins?", height=330)
    for label, values, color in (("counted", h, INK), ("P", p, GOOD), ("Q", q, BAD)):
        texts: Style = {"text": [f"{value:.4g}" for value in values], "textposition": "outside"}
        x = list(range(len(values)))
        draw.columns(fig, x, values, label, color=color, cliponaxis=False, **texts)
    fig.update_layout(barmode="group")
    fig.add_vline(x=kept - 0.5, line={"color": INK, "dash": "dash"})
    loss = divergence(p, q)
    words = f"KL = {loss:.3g}" if np.isfinite(loss) else "KL is infinite"
    fig.update_xaxes(title=f"bin of |x| (dashed: the cut); {words}", dtick=1)
    fig.update_yaxes(title="values in a bin", range=[0, 1.15 * max(h.max(), p.max())])
    return draw.finish(fig, source)
