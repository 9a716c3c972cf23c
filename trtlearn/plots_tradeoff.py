"""Figures of the trade-off: every engine as a point or as bars, the front that nothing beats, batch by batch."""

from __future__ import annotations

import typing
from collections.abc import Callable, Iterable, Mapping, Sequence

from .colors import INK, MARKS, dtype_color, figure, footer
from .errors import DataError
from .plots_numbers import tall
from .record import show
from .records import Timing
from .tradeoff import Tradeoff, TradeoffPoint, pareto
from .variants import VARIANTS

if typing.TYPE_CHECKING:
    import plotly.graph_objects as go

__all__ = ["COSTS", "bars", "by_batch", "scatter", "spread", "ways"]

Measure = Callable[[TradeoffPoint], float | None]


def _kilo(count: int | None) -> float | None:
    return None if count is None else count / 1000


def _median(timing: Timing | None) -> float | None:
    return None if timing is None else timing.median_ms


def _replayed(point: TradeoffPoint) -> Timing | None:
    return point.graph_timing


def _launched(point: TradeoffPoint) -> Timing | None:
    return point.timing


TIMINGS: dict[str, Callable[[TradeoffPoint], Timing | None]] = {"latency": _replayed, "launches": _launched}

COSTS: dict[str, tuple[str, Measure]] = {
    "latency": ("ms a batch by graph replay, median", lambda p: _median(p.graph_timing)),
    "launches": ("ms a batch, launch after launch, median", lambda p: _median(p.timing)),
    "throughput": ("images a second", lambda p: p.images_per_second),
    "size": ("plan size, kB", lambda p: _kilo(p.plan_bytes)),
    "memory": ("GPU memory for activations, kB", lambda p: _kilo(p.device_memory_bytes)),
    "build time": ("build from nothing, seconds", lambda p: p.build_seconds),
}
"""What a point may cost, or bring: a word -> the axis' title and how it is read off a point."""

GAINS = ("throughput",)  # where more is better
DASHES = ("solid", "dash", "dot", "dashdot")


def _percent(point: TradeoffPoint) -> float | None:
    return None if point.accuracy is None else 100 * point.accuracy


def _hover(point: TradeoffPoint) -> str:
    facts = [f"<b>{point.model}, {point.name}</b>, batch {point.batch}"]
    if point.accuracy is not None:
        facts.append(f"{100 * point.accuracy:.1f} % of the test images right")
    for how, timing in (("graph replay", point.graph_timing), ("launch after launch", point.timing)):
        if timing is not None:
            facts.append(f"{how}: {timing.median_ms:.4f} ms (5 to 95 %: {timing.p05_ms:.4f} to {timing.p95_ms:.4f})")
    if point.images_per_second is not None:
        facts.append(f"{point.images_per_second:,.0f} images/s")
    if point.plan_bytes is not None:
        facts.append(f"plan {point.plan_bytes:,} bytes")
    if point.device_memory_bytes is not None:
        facts.append(f"{point.device_memory_bytes:,} bytes for activations")
    if point.build_seconds is not None:
        facts.append(f"built from nothing in {point.build_seconds:.1f} s")
    if point.engine_layers is not None:
        facts.append(f"{point.engine_layers} engine layers, {point.int8_layers} INT8, {point.reformats} reformats")
    return "<br>".join(facts)


def ways(points: Iterable[TradeoffPoint]) -> list[str]:
    """The names of the points' ways of building, in the course's order and others after."""
    found = dict.fromkeys(point.name for point in points)
    return [name for name in VARIANTS if name in found] + [name for name in found if name not in VARIANTS]


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

    One symbol for each way of building, in the colour of the narrowest type allowed; the
    legend switches them. Latencies carry their 5 to 95 % spread. Where nothing was timed by graph replay, "latency" is
    launch after launch. Points of which accuracy or cost is unknown are left out; DataError where none is left.
    """
    from plotly.subplots import make_subplots

    chosen = points.points if isinstance(points, Tradeoff) else tuple(points)
    label = label or (points.provenance.label() if isinstance(points, Tradeoff) else "")
    if cost not in COSTS:
        raise DataError(f"no cost {cost!r}", f"one of {', '.join(COSTS)}")
    if cost == "latency" and not any(point.graph_timing for point in chosen):
        cost = "launches"
    title, read = COSTS[cost]
    sign = -1 if cost in GAINS else 1
    known = [point for point in chosen if read(point) is not None and point.accuracy is not None]
    if not known:
        raise DataError("no point with both an accuracy and a cost", "pass Tradeoff.select(model)")
    batches, names = sorted({p.batch for p in known}), ways(known)
    fixed = {name: index for index, name in enumerate([*VARIANTS, *(name for name in names if name not in VARIANTS)])}
    legend = {"y": 1.07 if len(batches) > 1 else 1.01}
    empty = figure(question, height=520, margin={"t": 150, "b": 90}, legend=legend)
    fig = make_subplots(
        figure=empty, rows=1, cols=len(batches), shared_yaxes=True, horizontal_spacing=0.04,
        subplot_titles=[f"batch {batch}" for batch in batches] if len(batches) > 1 else None,
    )  # fmt: skip
    traces: list[dict[str, typing.Any]] = []  # plain: plotly checks every trace anew each time it is passed on
    for column, batch in enumerate(batches, 1):
        axes = {"xaxis": f"x{column}", "yaxis": f"y{column}"}
        here = [point for point in known if point.batch == batch]
        end = (min if cost in GAINS else max)(value for p in here if (value := read(p)) is not None)
        front = pareto(here, lambda p: None if (value := read(p)) is None else sign * value, _percent)
        traces.append(axes | {
            "type": "scatter", "mode": "lines", "name": "front (outlined: nothing beats it)",
            "x": [*(read(p) for p in front), end], "y": [_percent(p) for p in (*front, *front[-1:])],
            "line": {"color": INK, "dash": "dot", "shape": "hv"}, "hoverinfo": "skip", "showlegend": column == 1,
            "legendgroup": "front",
        })  # fmt: skip
        for index, name in enumerate(names):
            same = [point for point in here if point.name == name]
            if not same:
                continue
            traces.append(axes | {
                "type": "scatter", "mode": "markers", "name": name, "legendgroup": name, "legendrank": 1001 + index,
                "x": [read(p) for p in same], "y": [_percent(p) for p in same],
                "showlegend": not any(p.name == name and p.batch < batch for p in known),
                "marker": {"color": dtype_color(_allowed(same[0])), "symbol": _mark(fixed[name]), "size": 12,
                           "line": {"width": [2 if p in front else 0 for p in same], "color": INK}},
                "error_x": spread([TIMINGS[cost](p) for p in same]) if cost in TIMINGS else None,
                "hovertext": [_hover(p) for p in same], "hoverinfo": "text",
            })  # fmt: skip
        fig.update_xaxes(title=title if len(batches) < 3 or column == 2 else None, row=1, col=column)
    fig.add_traces(traces)
    fig.update_yaxes(title="test images right, %", row=1, col=1)
    return footer(fig, label)


def spread(timings: Sequence[Timing | None], color: str = INK) -> dict[str, typing.Any]:
    """Error bars from the 5th to the 95th percentile."""
    return {
        "array": [t.p95_ms - t.median_ms if t else 0 for t in timings],
        "arrayminus": [t.median_ms - t.p05_ms if t else 0 for t in timings],
        "color": color,
        "thickness": 1,
    }


def bars(
    points: Iterable[TradeoffPoint],
    labels: Mapping[str, str] | None = None,
    question: str = "What does each type cost?",
    label: str = "",
) -> go.Figure:
    """Accuracy, latency by graph replay, plan size and activation memory of each engine, side by side.

    A panel for each that some point knows; what one point does not know is written "unknown". The colour is the
    narrowest type that the build allowed. ``labels`` maps a point's name to plain words.
    """
    from plotly.subplots import make_subplots

    chosen = tuple(points)
    if not chosen:
        raise DataError("no engine to draw", "pass Tradeoff.select(model, batch)")
    names = [(labels or {}).get(point.name, point.name) for point in chosen]
    mega = max(point.plan_bytes or 0 for point in chosen) > 10_000_000
    unit, divisor, form = ("MB", 1e6, "{:.1f} MB") if mega else ("kB", 1e3, "{:,.0f} kB")
    panels: list[tuple[str, str, list[float | None]]] = [
        ("test images right, %", "{:.1f} %", [_percent(p) for p in chosen]),
        ("latency, ms a batch", "{:.3g} ms", [COSTS["latency"][1](p) for p in chosen]),
        (f"plan size, {unit}", form, [p.plan_bytes and p.plan_bytes / divisor for p in chosen]),
        (f"activations, {unit}", form, [p.device_memory_bytes and p.device_memory_bytes / divisor for p in chosen]),
    ]
    panels = [panel for panel in panels if any(value is not None for value in panel[2])]
    empty = figure(question, height=tall(2 * len(names)), showlegend=False)
    fig = make_subplots(figure=empty, rows=1, cols=len(panels), shared_yaxes=True, horizontal_spacing=0.04)
    for column, (title, written, values) in enumerate(panels, 1):
        most = max(value or 0 for value in values)
        fig.add_bar(
            x=[value or 0 for value in values], y=names, orientation="h",
            marker={"color": [dtype_color(_allowed(p)) for p in chosen]},
            text=[show(None) if value is None else written.format(value) for value in values],
            textposition="outside", textfont={"color": INK}, cliponaxis=False,
            hovertext=[_hover(p) for p in chosen], hoverinfo="text", row=1, col=column,
        )  # fmt: skip
        ticks = {"tickvals": [0, 50, 100]} if title.endswith("%") else {"nticks": 4}
        fig.update_xaxes(title=title, range=[0, 1.65 * most], **ticks, row=1, col=column)
    fig.update_yaxes(autorange="reversed")
    return footer(fig, label)


def by_batch(
    points: Iterable[TradeoffPoint],
    labels: Mapping[str, str] | None = None,
    question: str = "What does a larger batch bring?",
    label: str = "",
) -> go.Figure:
    """Images a second, by graph replay, against the batch size: a line for each way of building one model.

    ``labels``: which ways, in which order -> plain words; all where not given.
    """
    chosen = [point for point in points if point.images_per_second is not None]
    words = labels or {name: name for name in ways(chosen)}
    if not any(point.name in words for point in chosen):
        raise DataError("no engine to draw", "pass Tradeoff.select(model)")
    fig = figure(question)
    for index, (name, said) in enumerate(words.items()):
        line = sorted((point for point in chosen if point.name == name), key=lambda point: point.batch)
        fig.add_scatter(
            x=[p.batch for p in line], y=[p.images_per_second for p in line], mode="lines+markers", name=said,
            line={"color": dtype_color(_allowed(line[0])) if line else None, "dash": DASHES[index % len(DASHES)]},
            marker={"symbol": _mark(index), "size": 10}, hovertext=[_hover(p) for p in line], hoverinfo="text",
        )  # fmt: skip
    fig.update_xaxes(title="batch size (log scale)", type="log", tickvals=sorted({p.batch for p in chosen}))
    rates = [1000 * base * 10**power for power in range(-3, 5) for base in (1, 2, 5)]
    fig.update_yaxes(title="images a second (log scale)", type="log", tickvals=rates, tickformat=",")
    return footer(fig, label)


def _allowed(point: TradeoffPoint) -> str:
    """The narrowest type that the build was allowed."""
    return "int8" if point.options.int8 else "fp16" if point.options.fp16 else "fp32"
