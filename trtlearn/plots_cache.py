"""A figure of one line of a calibration cache: what its hex digits say, bit by bit."""

from __future__ import annotations

import typing

from .cachefile import CacheEntry
from .colors import BAD, GOOD, SERIES, figure, footer

if typing.TYPE_CHECKING:
    import plotly.graph_objects as go

__all__ = ["float_bits"]


def float_bits(line: CacheEntry) -> go.Figure:
    """The 32 bits of one line's hex, as IEEE 754 reads them: sign, exponent, fraction.

    >>> from trtlearn.cachefile import entry
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
    fig.update_xaxes(title="hex digit (four bits each)", tickvals=ticks, ticktext=list(digits), showgrid=False)
    fig.update_yaxes(visible=False)
    value = f"scale {line.scale:.9g}, amax = 127 · scale = {line.amax:.7g}"
    formula = f"(1 + {fraction}/2²³) · 2<sup>{exponent - 127}</sup> = " if exponent else ""
    return footer(fig, f"{line.name}: {formula}{value}")
