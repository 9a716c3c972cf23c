"""Figures of mixed precision: which layers mind INT8, and how many must leave it until the accuracy is back."""

from __future__ import annotations

import typing
from collections.abc import Sequence

from .colors import BAD, GOOD, INK, MARKS, SERIES, figure, footer
from .errors import DataError
from .plots_numbers import tall
from .tradeoff import Sensitivity

if typing.TYPE_CHECKING:
    import plotly.graph_objects as go

__all__ = ["search_steps", "sensitivity_bars"]


def sensitivity_bars(study: Sensitivity, question: str = "Which layers mind INT8?") -> go.Figure:
    """Accuracy lost with one unit alone in INT8, and won back by keeping one unit out, in graph order.

    Units of which one of the two engines was not built are left out.
    """
    names = [unit for unit in study.alone if unit in study.kept_out]
    if not names:
        raise DataError("the study holds no unit with both engines", "record the sensitivity stage again")
    fig = figure(question, height=tall(2 * len(names)), barmode="group")
    lost = [100 * (study.fp32_accuracy - study.alone[name].accuracy) for name in names]
    won = [100 * (study.kept_out[name].accuracy - study.int8_accuracy) for name in names]
    for title, values, color, pattern in (
        ("lost when it alone is INT8", lost, BAD, "/"),
        ("won back when it alone is not", won, GOOD, ""),
    ):
        fig.add_bar(
            y=names, x=values, orientation="h", name=title, marker={"color": color, "pattern": {"shape": pattern}},
            hovertemplate="%{y}: %{x:.1f} points<extra>" + title + "</extra>",
        )  # fmt: skip
    fig.update_yaxes(autorange="reversed", title="convolution and what follows it")
    fig.update_xaxes(title="percentage points of accuracy")
    return footer(fig, study.provenance.label())


def search_steps(study: Sensitivity, question: str = "How many layers must leave INT8?") -> go.Figure:
    """Accuracy after each unit taken out of INT8: the greedy order, and random ones, up to the target."""
    searches = [("most harmful first", study.greedy), *(("random order", one) for one in study.random)]
    shown: Sequence[typing.Any] = [(name, one) for name, one in searches if one is not None and one.trials]
    if not shown:
        raise DataError("the study holds no search", "record the sensitivity stage again")
    fig = figure(question)
    for index, (name, one) in enumerate(shown):
        fig.add_scatter(
            x=list(range(len(one.trials))), y=[100 * trial.accuracy for trial in one.trials],
            mode="lines+markers", name=name if index == 0 else f"{name} {index}",
            line={"color": SERIES[index % len(SERIES)], "dash": "solid" if index == 0 else "dot"},
            marker={"symbol": MARKS[index % len(MARKS)], "size": 9},
            hovertext=["nothing taken out", *(f"{unit} taken out" for unit in one.order)],
            hovertemplate="%{hovertext}: %{y:.1f} %<extra></extra>",
        )  # fmt: skip
    fig.add_hline(y=100 * study.target, line={"color": INK, "dash": "dash"}, annotation_text="FP32 less 0.5 point",
                  annotation_position="top left")  # fmt: skip
    fig.update_xaxes(title="units taken out of INT8", dtick=1)
    fig.update_yaxes(title="test images right, %")
    return footer(fig, study.provenance.label())
