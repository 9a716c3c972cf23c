"""Switch the range of each tensor between two calibrators, and see how many answers are right."""

from __future__ import annotations

import typing

from ..record import plural
from ..recorded.computed import Repairs
from . import draw
from .controls import ipywidgets, move_ends, moving, switch
from .draw import Source
from .live_figure import figure_widget
from .theme import GOOD, INK, WARN

if typing.TYPE_CHECKING:
    from collections.abc import Collection

    import plotly.graph_objects as go

__all__ = ["repair_preview", "repair_switches"]


def one_switch_away(repairs: Repairs, repaired: Collection[str]) -> list[float]:
    """The share of right answers after one more switch of each tensor, on or off."""
    return [repairs.accuracy(set(repaired) ^ {name}) for name in repairs.tensors]


def _colors(repairs: Repairs, repaired: Collection[str]) -> list[str]:
    return [GOOD if name in repaired else WARN for name in repairs.tensors]


def _texts(repairs: Repairs, repaired: Collection[str]) -> list[str]:
    shares = one_switch_away(repairs, repaired)
    marks = ["off again" if name in repaired else "on" for name in repairs.tensors]
    return [f"{share:.1%}, {mark}" for share, mark in zip(shares, marks, strict=True)]


def repair_preview(
    repairs: Repairs, repaired: Collection[str] = (), *, source: Source = None
) -> go.Figure:
    """A bar a tensor: the share of right answers if this one, too, is switched; dashed: now.

    ``repaired``: the tensors that have min-max's range already; switching one of them takes it
    back.
    """
    count = len(repairs.tensors)
    question = "What would one more switch do?"
    fig = draw.figure(question, height=draw.tall(count), showlegend=False)
    draw.bars(
        fig,
        list(range(count)),
        one_switch_away(repairs, repaired),
        color=_colors(repairs, repaired),
        texts=_texts(repairs, repaired),
    )
    draw.ends(fig, repairs.accuracy(repaired), color=INK)
    draw.name_rows(fig, repairs.tensors)
    fig.update_xaxes(title="right answers (dashed: now)", range=[0, 1.25], tickformat=".0%")
    fig.update_xaxes(tickvals=[0, 0.25, 0.5, 0.75, 1])
    return draw.finish(fig, source or repairs.provenance)


def repair_switches(repairs: Repairs, *, source: Source = None) -> ipywidgets.Widget:
    """Give tensors min-max's range instead of entropy 2's, and see the right answers at once.

    ``repairs`` is what ``tl.recorded.repairs()`` gives: every choice was computed before.
    """
    fig = figure_widget(repair_preview(repairs, source=source))
    switches = {name: switch(name) for name in repairs.tensors}

    def move() -> str:
        repaired = [name for name, one in switches.items() if one.value]
        share = repairs.accuracy(repaired)
        bars = fig.data[0]
        bars.x, bars.text = one_switch_away(repairs, repaired), _texts(repairs, repaired)
        bars.marker.color = _colors(repairs, repaired)
        move_ends(fig, share)
        right = plural(round(share * repairs.count), "right answer")
        return (
            f"min-max's range for {', '.join(repaired) or 'no tensor'}, entropy 2's for the rest: "
            f"<b>{share:.1%}</b> ({right} of {repairs.count})"
        )

    return moving(move, *switches.values(), shown=(fig,), row=True)
