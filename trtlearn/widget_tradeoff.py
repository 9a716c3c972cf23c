"""The trade-off to explore: choose the engines, what they cost, and whether those that are mostly wrong are shown."""

from __future__ import annotations

from collections.abc import Mapping

from .colors import figure
from .errors import DataError
from .panels import guarded, ipywidgets, say, stack
from .plots_tradeoff import COSTS, scatter
from .tradeoff import Tradeoff
from .widgets import figure_widget, redraw

__all__ = ["tradeoff_explorer"]

STYLE = {"description_width": "4em"}
USELESS = 0.9  # below this share of right answers a point may be hidden


def tradeoff_explorer(groups: Mapping[str, Tradeoff]) -> ipywidgets.Widget:
    """Accuracy against latency, throughput, size, memory or build time, with the Pareto front, a panel a batch size.

    ``groups``: what the list calls them -> engines of one network.
    """
    if not groups:
        raise DataError("no engines to explore", "pass {'resnet': open_tradeoff().tradeoff('points-resnet')}")
    wide = {"width": "max-content", "max_width": "98%"}
    engines = ipywidgets.Dropdown(options=list(groups), description="engines", layout=wide, style=STYLE)
    cost = ipywidgets.Dropdown(options=list(COSTS), description="against", layout=wide, style=STYLE)
    hide = ipywidgets.Checkbox(value=False, description="hide engines below 90 %", indent=False)
    problem = say("")
    fig = figure_widget(figure(""))

    def draw() -> None:
        whole = groups[engines.value]
        points = [p for p in whole.points if not hide.value or (p.accuracy or 0) >= USELESS]
        question = f"{engines.value}: which engine does nothing else beat?"
        redraw(fig, scatter(points, cost.value, question, whole.provenance.label()))

    for control in (engines, cost, hide):
        control.observe(guarded(draw, problem), "value")
    guarded(draw, problem)()
    return stack(engines, cost, hide, problem, fig)
