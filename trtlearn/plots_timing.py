"""Figures about the measuring itself: what launching adds to a latency, and what NVIDIA's trtexec measures instead."""

from __future__ import annotations

import typing
from collections.abc import Iterable, Mapping

from .colors import INK, MARKS, SERIES, figure, footer
from .errors import DataError
from .plots_numbers import tall
from .plots_tradeoff import spread, ways
from .records import Timing
from .tradeoff import TradeoffPoint

if typing.TYPE_CHECKING:
    import plotly.graph_objects as go

__all__ = ["against_trtexec", "launches"]

Groups = Mapping[str, Iterable[TradeoffPoint]]
SHORT = 0.2  # ms
REPLAY, LAUNCH = "graph replay", "launch after launch"


def launches(groups: Groups, question: str = "How much of the latency is launching?", label: str = "") -> go.Figure:
    """Each engine's latency by graph replay and launch after launch, with their 5 to 95 % spreads, a panel a group.

    ``groups``: a panel's title -> its engines, all of one batch size. Engines not timed in both ways are left out.
    """
    from plotly.subplots import make_subplots

    chosen = {title: [p for p in points if p.timing and p.graph_timing] for title, points in groups.items()}
    names = ways(point for points in chosen.values() for point in points)
    if not names:
        raise DataError("no engine was timed in both ways", "pass Tradeoff.select(model, batch) of a recording")
    empty = figure(question, height=tall(len(names)) + 90, margin={"t": 118}, legend={"y": 1.08})
    titles = list(chosen)
    fig = make_subplots(
        figure=empty, rows=1, cols=len(chosen), shared_yaxes=True, horizontal_spacing=0.04, subplot_titles=titles
    )
    for column, points in enumerate(chosen.values(), 1):
        for point in points:
            ends = [_timing(point, graph).median_ms for graph in (True, False)]
            fig.add_scatter(
                x=ends, y=[point.name] * 2, mode="lines", line={"color": INK, "width": 1}, showlegend=False,
                hoverinfo="skip", row=1, col=column,
            )  # fmt: skip
        for index, name in enumerate((REPLAY, LAUNCH)):
            times = [_timing(point, name == REPLAY) for point in points]
            fig.add_scatter(
                x=[t.median_ms for t in times], y=[p.name for p in points], mode="markers", name=name, legendgroup=name,
                showlegend=column == 1, marker={"color": SERIES[index], "symbol": MARKS[index], "size": 10},
                error_x=spread(times, SERIES[index]),
                hovertemplate="%{y}: %{x:.4f} ms<extra>" + name + "</extra>", row=1, col=column,
            )  # fmt: skip
        fig.update_xaxes(title="median and 5 to 95 %, ms", rangemode="tozero", row=1, col=column)
    fig.update_yaxes(autorange="reversed", categoryorder="array", categoryarray=names, showgrid=True)
    return footer(fig, label)


def _timing(point: TradeoffPoint, graph: bool) -> Timing:
    found = point.graph_timing if graph else point.timing
    assert found is not None
    return found


def against_trtexec(
    groups: Groups, question: str = "Does trtexec measure the same time?", label: str = ""
) -> go.Figure:
    """How far trtexec's median lies above ours for the same plan, over the latency: in microseconds, for engines SHORT
    enough that these matter, and in percent.

    ``groups``: what the legend calls them -> engines. Those that trtexec did not time are left out.
    """
    from plotly.subplots import make_subplots

    fig = make_subplots(
        figure=figure(question, height=600, margin={"t": 118}, legend={"y": 1.07}),
        rows=2,
        cols=2,
        shared_xaxes=True,
        horizontal_spacing=0.1,
        vertical_spacing=0.08,
        subplot_titles=[REPLAY, LAUNCH],
    )
    for column, kind in enumerate((REPLAY, LAUNCH), 1):
        for index, (title, points) in enumerate(groups.items()):
            pairs = [pair for point in points if (pair := _pair(point, kind == REPLAY))]
            more = (
                ("µs", [(p, mine, 1000 * (its - mine)) for p, mine, its in pairs if mine < SHORT]),
                ("%", [(p, mine, 100 * (its / mine - 1)) for p, mine, its in pairs]),
            )
            for row, (unit, marks) in enumerate(more, 1):
                fig.add_scatter(
                    x=[mine for _, mine, _ in marks], y=[far for *_, far in marks], mode="markers", name=title,
                    legendgroup=title, showlegend=row == 2 and column == 1,
                    marker={"color": SERIES[index], "symbol": MARKS[index], "size": 10},
                    hovertext=[f"{p.model} {p.name}, batch {p.batch}" for p, _, _ in marks],
                    hovertemplate="%{hovertext}: %{x:.4f} ms, trtexec %{y:+.1f} " + unit + f"<extra>{kind}</extra>",
                    row=row, col=column,
                )  # fmt: skip
    if not any(len(trace.x) for trace in fig.data):
        raise DataError("no engine was timed by trtexec", "record the trade-off with --trtexec PATH")
    for row, unit in enumerate((f"µs<br>(engines under {SHORT:g} ms)", "%"), 1):
        fig.update_yaxes(title=f"trtexec above ours, {unit}", row=row, col=1)
    fig.update_yaxes(zeroline=True, zerolinecolor=INK, rangemode="tozero")
    fig.update_xaxes(type="log", tickvals=[0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10])
    fig.update_xaxes(title="our median, ms (log scale)", row=2)
    return footer(fig, label)


def _pair(point: TradeoffPoint, graph: bool) -> tuple[TradeoffPoint, float, float] | None:
    """The point, our median and trtexec's, ms."""
    ours, theirs = (point.graph_timing, point.trtexec_graph_ms) if graph else (point.timing, point.trtexec_ms)
    return None if ours is None or theirs is None else (point, ours.median_ms, theirs)
