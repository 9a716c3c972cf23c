"""Figures of what moves a calibrator's result: the order of the images, the batch size, and how many there are."""

from __future__ import annotations

import typing
from collections.abc import Mapping, Sequence

from .colors import INK, MARKS, SERIES, figure, footer
from .plots_calibration import DASHES
from .plots_numbers import source_label, tall
from .records import Provenance

if typing.TYPE_CHECKING:
    import plotly.graph_objects as go

__all__ = ["images_curve", "order_spread"]


def order_spread(
    amax: Mapping[str, Mapping[str, Sequence[float]]],
    largest: Mapping[str, float],
    *,
    question: str = "Same images, another order or batch size: the same scale?",
    source: Provenance | str | None = None,
) -> go.Figure:
    """One row a tensor, one mark a calibration: ``amax[way][tensor]`` holds every amax that this way gave.

    ``largest``: tensor -> max|x|; the axis shows amax as a share of it.

    >>> len(order_spread({"shuffled": {"x": [1.0, 2.0]}}, {"x": 2.0}).data)
    1
    """
    fig, rows, step = figure(question, height=2 * tall(len(largest)) - 60), list(largest), 0.7 / max(len(amax), 1)
    for index, (way, tensors) in enumerate(amax.items()):
        pairs = [(100 * value / largest[name], name) for name, values in tensors.items() for value in values]
        beside = (index - (len(amax) - 1) / 2) * step  # marks of one row would lie on each other
        symbol = MARKS[index % len(MARKS)] + ("-open" if index == 0 else "")
        fig.add_scatter(
            x=[share for share, _ in pairs],
            y=[rows.index(name) + beside for _, name in pairs],
            customdata=[name for _, name in pairs],
            mode="markers",
            name=way,
            marker={"symbol": symbol, "color": SERIES[index % len(SERIES)], "size": 11, "line": {"width": 2}},
            hovertemplate="%{customdata}: amax is %{x:.3g} % of max|x|<extra>" + way + "</extra>",
        )
    fig.update_xaxes(title="amax chosen, % of max|x|", rangemode="tozero")
    fig.update_yaxes(tickvals=list(range(len(rows))), ticktext=rows, range=[len(rows) - 0.5, -0.5])
    fig.update_yaxes(showgrid=False, zeroline=False)
    for edge in range(1, len(rows)):
        fig.add_hline(y=edge - 0.5, line={"color": INK, "width": 0.5, "dash": "dot"})
    return footer(fig, source_label(source))


def images_curve(
    amax: Mapping[str, Mapping[int, float]],
    accuracy: Mapping[str, Mapping[int, float]],
    tensor: str,
    ours: Mapping[str, Mapping[int, float]] | None = None,
    *,
    source: Provenance | str | None = None,
) -> go.Figure:
    """How many images are enough? Left amax of one tensor, right accuracy in %, against the number of images (log).

    All map a calibrator's label to {images: value}. ``ours``: further values of amax, drawn as open circles around
    those of ``amax``: an empty circle is one that does not agree.

    >>> len(images_curve({"min-max": {1: 2.0, 8: 3.0}}, {"min-max": {1: 90.0}}, "x").data)
    2
    """
    from plotly.subplots import make_subplots

    empty = figure("How many calibration images are enough?")
    fig = make_subplots(figure=empty, rows=1, cols=2, horizontal_spacing=0.13)
    labels = list(dict.fromkeys([*amax, *accuracy]))
    for column, curves in ((1, amax), (2, accuracy)):
        for label, points in curves.items():
            index = labels.index(label)
            color, mark = SERIES[index % len(SERIES)], MARKS[index % len(MARKS)]
            fig.add_scatter(
                x=list(points),
                y=list(points.values()),
                mode="lines+markers",
                name=label,
                legendgroup=label,
                showlegend=column == 1,
                line={"color": color, "dash": DASHES[index % len(DASHES)]},
                marker={"symbol": mark, "size": 9, "color": color},
                row=1,
                col=column,
            )
    for label, points in (ours or {}).items():
        color = SERIES[labels.index(label) % len(SERIES)]
        ring = {"symbol": "circle-open", "size": 17, "color": color, "line": {"width": 2}}
        x, y = list(points), list(points.values())
        fig.add_scatter(x=x, y=y, mode="markers", name=f"{label}, computed here", marker=ring, row=1, col=1)
    fig.update_xaxes(title="calibration images (log scale)", type="log", tickvals=[1, 2, 5, 10, 20, 50, 100, 200, 500])
    fig.update_yaxes(title=f"amax of {tensor}", rangemode="tozero", row=1, col=1)
    fig.update_yaxes(title="test images right, %", range=[0, 103], row=1, col=2)
    return footer(fig, source_label(source))
