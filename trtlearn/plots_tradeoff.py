"""Figures of the trade-off: every engine as a point with the front that nothing beats, and which layers mind INT8."""

from __future__ import annotations

import typing
from collections.abc import Callable, Iterable, Sequence

from .colors import BAD, GOOD, INK, MARKS, SERIES, figure, footer
from .errors import DataError
from .plots_numbers import tall
from .tradeoff import Sensitivity, Tradeoff, TradeoffPoint, pareto

if typing.TYPE_CHECKING:
    import plotly.graph_objects as go

__all__ = ["COSTS", "scatter", "search_steps", "sensitivity_bars"]

Measure = Callable[[TradeoffPoint], float | None]


def _latency(point: TradeoffPoint) -> float | None:
    timing = point.graph_timing or point.timing
    return None if timing is None else timing.median_ms


COSTS: dict[str, tuple[str, Measure]] = {
    "latency": ("median latency, ms per batch", _latency),
    "size": ("plan size, kB", lambda p: None if p.plan_bytes is None else p.plan_bytes / 1000),
    "memory": (
        "GPU memory for activations, kB",
        lambda p: None if p.device_memory_bytes is None else p.device_memory_bytes / 1000,
    ),
}
"""What a point may cost: a word -> the axis' title and how it is read off a point."""


def _percent(point: TradeoffPoint) -> float | None:
    return None if point.accuracy is None else 100 * point.accuracy


def _hover(point: TradeoffPoint) -> str:
    facts = [f"<b>{point.model}, {point.name}</b>, batch {point.batch}"]
    if point.accuracy is not None:
        facts.append(f"{100 * point.accuracy:.1f} % of the test images right")
    timing = point.graph_timing or point.timing
    if timing is not None:
        facts.append(f"{timing.median_ms:.4f} ms (5 to 95 %: {timing.p05_ms:.4f} to {timing.p95_ms:.4f})")
    if point.images_per_second is not None:
        facts.append(f"{point.images_per_second:,.0f} images/s")
    if point.plan_bytes is not None:
        facts.append(f"plan {point.plan_bytes:,} bytes")
    if point.engine_layers is not None:
        facts.append(f"{point.engine_layers} engine layers, {point.int8_layers} INT8, {point.reformats} reformats")
    return "<br>".join(facts)


def _mark(index: int) -> str:
    """A symbol of its own for each of 16 series: the eight marks, then their outlines."""
    return MARKS[index % len(MARKS)] + ("-open" if index // len(MARKS) % 2 else "")


def scatter(
    points: Tradeoff | Iterable[TradeoffPoint],
    cost: str = "latency",
    question: str = "Which engine does nothing else beat?",
    label: str = "",
) -> go.Figure:
    """Accuracy against ``cost`` (see COSTS), a panel for each batch size, with the Pareto front drawn through.

    One symbol and colour for each way of building, the same in every panel; the legend switches them. Points of which
    the accuracy or the cost is unknown are left out; DataError where none is left.
    """
    from plotly.subplots import make_subplots

    chosen = points.points if isinstance(points, Tradeoff) else tuple(points)
    label = label or (points.provenance.label() if isinstance(points, Tradeoff) else "")
    if cost not in COSTS:
        raise DataError(f"no cost {cost!r}", f"one of {', '.join(COSTS)}")
    title, read = COSTS[cost]
    known = [point for point in chosen if read(point) is not None and point.accuracy is not None]
    if not known:
        raise DataError("no point with both an accuracy and a cost", "pass Tradeoff.select(model)")
    batches, names = sorted({p.batch for p in known}), list(dict.fromkeys(p.name for p in known))
    look = figure(question).layout
    fig = make_subplots(
        rows=1, cols=len(batches), shared_yaxes=True, horizontal_spacing=0.04,
        subplot_titles=[f"batch {batch}" for batch in batches] if len(batches) > 1 else None,
    )  # fmt: skip
    legend = {"y": 1.07 if len(batches) > 1 else 1.01}
    fig.update_layout(template=look.template, title=look.title, height=520, margin={"t": 150, "b": 90}, legend=legend)
    for column, batch in enumerate(batches, 1):
        here = [point for point in known if point.batch == batch]
        front = pareto(here, read, _percent)
        fig.add_scatter(
            x=[read(p) for p in front], y=[_percent(p) for p in front], mode="lines", name="front",
            line={"color": INK, "dash": "dot", "shape": "hv"}, hoverinfo="skip", showlegend=column == 1,
            legendgroup="front", row=1, col=column,
        )  # fmt: skip
        for index, name in enumerate(names):
            same = [point for point in here if point.name == name]
            fig.add_scatter(
                x=[read(p) for p in same], y=[_percent(p) for p in same], mode="markers", name=name, legendgroup=name,
                showlegend=bool(same) and not any(p.name == name and p.batch < batch for p in known),
                marker={"color": SERIES[index % len(SERIES)], "symbol": _mark(index), "size": 12,
                        "line": {"width": [2 if p in front else 0 for p in same], "color": INK}},
                hovertext=[_hover(p) for p in same], hoverinfo="text", row=1, col=column,
            )  # fmt: skip
        fig.update_xaxes(title=title if column == (len(batches) + 1) // 2 else None, row=1, col=column)
    fig.update_yaxes(title="test images right, %", row=1, col=1)
    return footer(fig, label)


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
    fig.add_hline(y=100 * study.target, line={"color": INK, "dash": "dash"}, annotation_text="FP32 less 0.5 point")
    fig.update_xaxes(title="units taken out of INT8", dtick=1)
    fig.update_yaxes(title="test images right, %")
    return footer(fig, study.provenance.label())
