"""Figures of mixed precision: which layers mind INT8, and how many must leave it until the accuracy is back."""

from __future__ import annotations

import typing
from collections.abc import Callable, Iterable, Mapping, Sequence

import numpy as np

from ..builds import Build
from ..engine.records import EngineInfo, Predictions, Provenance, Timing
from ..engine.variants import VARIANTS
from ..errors import DataError
from ..record import show
from ..recorded.tradeoffs import Sensitivity, Tradeoff, pareto
from .numbers import source_label, tall
from .theme import BAD, GOOD, INK, MARKS, SERIES, dtype_color, figure, footer

__all__ = [
    "COSTS",
    "against_trtexec",
    "bars",
    "by_batch",
    "confusion",
    "engine_dtypes",
    "launches",
    "lowest_dtype",
    "scatter",
    "search_steps",
    "sensitivity_bars",
    "spread",
    "tradeoff",
    "ways",
]


# --- Figures of the trade-off: every engine as a point or as bars, the front that nothing beats, batch by batch.

if typing.TYPE_CHECKING:
    import plotly.graph_objects as go


Measure = Callable[[Build], float | None]


def _kilo(count: int | None) -> float | None:
    return None if count is None else count / 1000


def _median(timing: Timing | None) -> float | None:
    return None if timing is None else timing.median_ms


def _replayed(point: Build) -> Timing | None:
    return point.graph_timing


def _launched(point: Build) -> Timing | None:
    return point.timing


TIMINGS: dict[str, Callable[[Build], Timing | None]] = {
    "latency": _replayed,
    "launches": _launched,
}

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


def _percent(point: Build) -> float | None:
    return None if point.accuracy is None else 100 * point.accuracy


def _hover(point: Build) -> str:
    facts = [f"<b>{point.model}, {point.variant}</b>, batch {point.batch}"]
    if point.accuracy is not None:
        facts.append(f"{100 * point.accuracy:.1f} % of the test images right")
    for how, timing in (
        ("graph replay", point.graph_timing),
        ("launch after launch", point.timing),
    ):
        if timing is not None:
            facts.append(
                f"{how}: {timing.median_ms:.4f} ms (5 to 95 %: {timing.p05_ms:.4f} to {timing.p95_ms:.4f})"
            )
    if point.images_per_second is not None:
        facts.append(f"{point.images_per_second:,.0f} images/s")
    if point.plan_bytes is not None:
        facts.append(f"plan {point.plan_bytes:,} bytes")
    if point.device_memory_bytes is not None:
        facts.append(f"{point.device_memory_bytes:,} bytes for activations")
    if point.build_seconds is not None:
        facts.append(f"built from nothing in {point.build_seconds:.1f} s")
    if point.layers is not None:
        facts.append(
            f"{point.layers} engine layers, {point.int8_layers} INT8, {point.reformats} reformats"
        )
    return "<br>".join(facts)


def ways(points: Iterable[Build]) -> list[str]:
    """The names of the points' ways of building, in the course's order and others after."""
    found = dict.fromkeys(point.variant for point in points)
    return [name for name in VARIANTS if name in found] + [
        name for name in found if name not in VARIANTS
    ]


def _mark(index: int) -> str:
    """A symbol of its own for each of 16 series: the eight marks, then their outlines."""
    return MARKS[index % len(MARKS)] + ("-open" if index // len(MARKS) % 2 else "")


def scatter(
    points: Tradeoff | Iterable[Build],
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
    fixed = {
        name: index
        for index, name in enumerate([*VARIANTS, *(name for name in names if name not in VARIANTS)])
    }
    legend = {"y": 1.07 if len(batches) > 1 else 1.01}
    empty = figure(question, height=520, margin={"t": 150, "b": 90}, legend=legend)
    fig = make_subplots(
        figure=empty, rows=1, cols=len(batches), shared_yaxes=True, horizontal_spacing=0.04,
        subplot_titles=[f"batch {batch}" for batch in batches] if len(batches) > 1 else None,
    )  # fmt: skip
    traces: list[
        dict[str, typing.Any]
    ] = []  # plain: plotly checks every trace anew each time it is passed on
    for column, batch in enumerate(batches, 1):
        axes = {"xaxis": f"x{column}", "yaxis": f"y{column}"}
        here = [point for point in known if point.batch == batch]
        end = (min if cost in GAINS else max)(value for p in here if (value := read(p)) is not None)
        front = pareto(
            here, lambda p: None if (value := read(p)) is None else sign * value, _percent
        )
        traces.append(axes | {
            "type": "scatter", "mode": "lines", "name": "front (outlined: nothing beats it)",
            "x": [*(read(p) for p in front), end], "y": [_percent(p) for p in (*front, *front[-1:])],
            "line": {"color": INK, "dash": "dot", "shape": "hv"}, "hoverinfo": "skip", "showlegend": column == 1,
            "legendgroup": "front",
        })  # fmt: skip
        for index, name in enumerate(names):
            same = [point for point in here if point.variant == name]
            if not same:
                continue
            traces.append(axes | {
                "type": "scatter", "mode": "markers", "name": name, "legendgroup": name, "legendrank": 1001 + index,
                "x": [read(p) for p in same], "y": [_percent(p) for p in same],
                "showlegend": not any(p.variant == name and p.batch < batch for p in known),
                "marker": {"color": dtype_color(_allowed(same[0])), "symbol": _mark(fixed[name]), "size": 12,
                           "line": {"width": [2 if p in front else 0 for p in same], "color": INK}},
                "error_x": spread([TIMINGS[cost](p) for p in same]) if cost in TIMINGS else None,
                "hovertext": [_hover(p) for p in same], "hoverinfo": "text",
            })  # fmt: skip
        fig.update_xaxes(
            title=title if len(batches) < 3 or column == 2 else None, row=1, col=column
        )
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
    points: Iterable[Build],
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
    names = [(labels or {}).get(point.variant, point.variant) for point in chosen]
    mega = max(point.plan_bytes or 0 for point in chosen) > 10_000_000
    unit, divisor, form = ("MB", 1e6, "{:.1f} MB") if mega else ("kB", 1e3, "{:,.0f} kB")
    panels: list[tuple[str, str, list[float | None]]] = [
        ("test images right, %", "{:.1f} %", [_percent(p) for p in chosen]),
        ("latency, ms a batch", "{:.3g} ms", [COSTS["latency"][1](p) for p in chosen]),
        (f"plan size, {unit}", form, [p.plan_bytes and p.plan_bytes / divisor for p in chosen]),
        (
            f"activations, {unit}",
            form,
            [p.device_memory_bytes and p.device_memory_bytes / divisor for p in chosen],
        ),
    ]
    panels = [panel for panel in panels if any(value is not None for value in panel[2])]
    empty = figure(question, height=tall(2 * len(names)), showlegend=False)
    fig = make_subplots(
        figure=empty, rows=1, cols=len(panels), shared_yaxes=True, horizontal_spacing=0.04
    )
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
    points: Iterable[Build],
    labels: Mapping[str, str] | None = None,
    question: str = "What does a larger batch bring?",
    label: str = "",
) -> go.Figure:
    """Images a second, by graph replay, against the batch size: a line for each way of building one model.

    ``labels``: which ways, in which order -> plain words; all where not given.
    """
    chosen = [point for point in points if point.images_per_second is not None]
    words = labels or {name: name for name in ways(chosen)}
    if not any(point.variant in words for point in chosen):
        raise DataError("no engine to draw", "pass Tradeoff.select(model)")
    fig = figure(question)
    for index, (name, said) in enumerate(words.items()):
        line = sorted(
            (point for point in chosen if point.variant == name), key=lambda point: point.batch
        )
        fig.add_scatter(
            x=[p.batch for p in line], y=[p.images_per_second for p in line], mode="lines+markers", name=said,
            line={"color": dtype_color(_allowed(line[0])) if line else None, "dash": DASHES[index % len(DASHES)]},
            marker={"symbol": _mark(index), "size": 10}, hovertext=[_hover(p) for p in line], hoverinfo="text",
        )  # fmt: skip
    fig.update_xaxes(
        title="batch size (log scale)", type="log", tickvals=sorted({p.batch for p in chosen})
    )
    rates = [1000 * base * 10**power for power in range(-3, 5) for base in (1, 2, 5)]
    fig.update_yaxes(
        title="images a second (log scale)", type="log", tickvals=rates, tickformat=","
    )
    return footer(fig, label)


def _allowed(point: Build) -> str:
    """The narrowest type that the build was allowed."""
    return "int8" if point.options.int8 else "fp16" if point.options.fp16 else "fp32"


# --- Figures about whole experiments: what a build cost and won, its layers' types, what it took for what.

if typing.TYPE_CHECKING:
    import plotly.graph_objects as go
    from numpy.typing import ArrayLike


def tradeoff(
    experiments: Sequence[Build],
    *,
    labels: Mapping[str, str] | None = None,
    question: str = "What does each way cost, and what does it win?",
) -> go.Figure:
    """Accuracy, latency and plan size of each experiment, side by side; what was not measured is written "unknown".

    ``labels`` maps a variant to plain words. Latency is the median of a batch, with the 5 to 95 % spread as a bar.
    """
    from plotly.subplots import make_subplots

    if not experiments:
        raise DataError("no experiment to draw", "pass the results of network.build(variant)")
    names = [(labels or {}).get(one.variant, one.variant) for one in experiments]
    batch = next((one.timing.batch for one in experiments if one.timing), None)
    titles = (
        "test images right, %",
        f"median latency, ms per batch of {show(batch)}",
        "plan size, kB",
    )
    empty = figure(question, height=tall(2 * len(names)), showlegend=False)
    fig = make_subplots(figure=empty, rows=1, cols=3, shared_yaxes=True, horizontal_spacing=0.05)
    columns: tuple[list[float | None], ...] = (
        [100 * one.predictions.accuracy if one.predictions else None for one in experiments],
        [one.timing.median_ms if one.timing else None for one in experiments],
        [one.build.plan_bytes / 1000 if one.build.plan_bytes else None for one in experiments],
    )
    formats = ("{:.1f} %", "{:.4f} ms", "{:,.0f} kB")
    for column, (values, title, form) in enumerate(zip(columns, titles, formats, strict=True), 1):
        spread = None
        if column == 2:
            times = [one.timing for one in experiments]
            spread = {
                "array": [t.p95_ms - t.median_ms if t else 0 for t in times],
                "arrayminus": [t.median_ms - t.p05_ms if t else 0 for t in times],
                "color": INK,
            }
        fig.add_bar(
            x=[value or 0 for value in values],
            y=names,
            orientation="h",
            marker={"color": [dtype_color(lowest_dtype(one)) for one in experiments]},
            error_x=spread,
            text=[show(None) if value is None else form.format(value) for value in values],
            textposition="inside",
            insidetextanchor="start",
            textfont={"color": "white"},
            hovertemplate="%{y}: %{text}<extra></extra>",
            row=1,
            col=column,
        )
        fig.update_xaxes(title=title, row=1, col=column)
    fig.update_yaxes(autorange="reversed")
    return footer(fig, experiments[0].provenance.label())


def lowest_dtype(experiment: Build) -> str | None:
    """The narrowest type that some layer's weights have in the built engine: what the bars are coloured by."""
    found = {layer.weight_dtype for layer in experiment.engine.layers}
    return next((dtype for dtype in ("int8", "fp16", "fp32") if dtype in found), None)


def engine_dtypes(
    engine: EngineInfo,
    *,
    question: str = "In which type does each layer work?",
    source: Provenance | str | None = None,
) -> go.Figure:
    """One row an engine layer: the type of its first input, its weights and its first output, named in each box.

    >>> engine_dtypes(EngineInfo(())).layout.title.text
    'In which type does each layer work?'
    """
    rows = [
        (
            layer.name if len(layer.name) <= 44 else layer.name[:43] + "…",
            (layer.input_dtypes or (None,))[0],
            layer.weights_listed,
            (layer.output_dtypes or (None,))[0],
        )
        for layer in engine.layers
    ]
    fig = figure(question, height=tall(len(rows)), showlegend=False)
    where = list(range(len(rows)))
    for column, title in enumerate(("input", "weights", "output"), 1):
        types = [row[column] for row in rows]
        fig.add_bar(
            x=[1] * len(rows),
            y=where,
            orientation="h",
            name=title,
            text=[show(dtype) for dtype in types],
            textposition="inside",
            insidetextanchor="middle",
            textangle=0,
            marker={
                "color": [
                    "rgba(0,0,0,0)" if dtype == "none listed" else dtype_color(dtype)
                    for dtype in types
                ],
                "line": {"color": INK, "width": 1},
            },
            textfont={"color": [INK if dtype == "none listed" else "white" for dtype in types]},
            hovertext=[layer.name for layer in engine.layers],
            hovertemplate="%{hovertext}<br>" + title + ": %{text}<extra></extra>",
        )
    fig.update_layout(barmode="stack", bargap=0.2)
    fig.update_yaxes(
        tickvals=where, ticktext=[row[0] for row in rows], autorange="reversed", showgrid=False
    )
    fig.update_xaxes(
        tickvals=[0.5, 1.5, 2.5],
        ticktext=["input", "weights", "output"],
        side="top",
        range=[0, 3],
        showgrid=False,
    )
    fig.update_layout(margin={"t": 96})
    return footer(fig, source_label(source))


def confusion(
    predictions: Predictions,
    labels: ArrayLike,
    *,
    names: Sequence[str] | None = None,
    question: str = "Which digits are taken for which?",
    source: Provenance | str | None = None,
) -> go.Figure:
    """Counts of (true class, answered class); labels int [N], N = predictions.count.

    >>> confusion(Predictions((0, 1, 1), 2, 3), [0, 1, 0]).data[0].z.tolist()
    [[1, 1], [0, 1]]
    """
    truth, answer = np.asarray(labels, np.int64), np.asarray(predictions.classes, np.int64)
    if truth.shape != answer.shape:
        raise DataError(
            f"{truth.size} labels for {answer.size} predictions",
            "pass the labels of the same images",
        )
    size = int(max(truth.max(), answer.max())) + 1
    table = np.zeros((size, size), np.int64)
    np.add.at(table, (truth, answer), 1)
    ticks = list(names) if names else [str(index) for index in range(size)]
    fig = figure(f"{question} ({predictions.summary()})", height=480)
    fig.add_heatmap(
        z=table,
        x=ticks,
        y=ticks,
        text=np.where(table > 0, table.astype(str), ""),
        texttemplate="%{text}",
        colorscale=[[0, "rgba(47,127,193,0.05)"], [1, SERIES[0]]],
        showscale=False,
        hovertemplate="%{y} taken for %{x}: %{z}<extra></extra>",
    )
    fig.update_xaxes(title="answered", type="category", showgrid=False)
    fig.update_yaxes(title="true", type="category", autorange="reversed", showgrid=False)
    return footer(fig, source_label(source))


# --- Figures about the measuring itself: what launching adds to a latency, and what NVIDIA's trtexec measures instead.

if typing.TYPE_CHECKING:
    import plotly.graph_objects as go


Groups = Mapping[str, Iterable[Build]]
SHORT = 0.2  # ms
REPLAY, LAUNCH = "graph replay", "launch after launch"


def launches(
    groups: Groups, question: str = "How much of the latency is launching?", label: str = ""
) -> go.Figure:
    """Each engine's latency by graph replay and launch after launch, with their 5 to 95 % spreads, a panel a group.

    ``groups``: a panel's title -> its engines, all of one batch size. Engines not timed in both ways are left out.
    """
    from plotly.subplots import make_subplots

    chosen = {
        title: [p for p in points if p.timing and p.graph_timing]
        for title, points in groups.items()
    }
    names = ways(point for points in chosen.values() for point in points)
    if not names:
        raise DataError(
            "no engine was timed in both ways", "pass Tradeoff.select(model, batch) of a recording"
        )
    empty = figure(question, height=tall(len(names)) + 90, margin={"t": 118}, legend={"y": 1.08})
    titles = list(chosen)
    fig = make_subplots(
        figure=empty,
        rows=1,
        cols=len(chosen),
        shared_yaxes=True,
        horizontal_spacing=0.04,
        subplot_titles=titles,
    )
    for column, points in enumerate(chosen.values(), 1):
        for point in points:
            ends = [_timing(point, graph).median_ms for graph in (True, False)]
            fig.add_scatter(
                x=ends, y=[point.variant] * 2, mode="lines", line={"color": INK, "width": 1}, showlegend=False,
                hoverinfo="skip", row=1, col=column,
            )  # fmt: skip
        for index, name in enumerate((REPLAY, LAUNCH)):
            times = [_timing(point, name == REPLAY) for point in points]
            fig.add_scatter(
                x=[t.median_ms for t in times], y=[p.variant for p in points], mode="markers", name=name, legendgroup=name,
                showlegend=column == 1, marker={"color": SERIES[index], "symbol": MARKS[index], "size": 10},
                error_x=spread(times, SERIES[index]),
                hovertemplate="%{y}: %{x:.4f} ms<extra>" + name + "</extra>", row=1, col=column,
            )  # fmt: skip
        fig.update_xaxes(title="median and 5 to 95 %, ms", rangemode="tozero", row=1, col=column)
    fig.update_yaxes(
        autorange="reversed", categoryorder="array", categoryarray=names, showgrid=True
    )
    return footer(fig, label)


def _timing(point: Build, graph: bool) -> Timing:
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
                    hovertext=[f"{p.model} {p.variant}, batch {p.batch}" for p, _, _ in marks],
                    hovertemplate="%{hovertext}: %{x:.4f} ms, trtexec %{y:+.1f} " + unit + f"<extra>{kind}</extra>",
                    row=row, col=column,
                )  # fmt: skip
    if not any(len(trace.x) for trace in fig.data):
        raise DataError(
            "no engine was timed by trtexec", "record the trade-off with --trtexec PATH"
        )
    for row, unit in enumerate((f"µs<br>(engines under {SHORT:g} ms)", "%"), 1):
        fig.update_yaxes(title=f"trtexec above ours, {unit}", row=row, col=1)
    fig.update_yaxes(zeroline=True, zerolinecolor=INK, rangemode="tozero")
    fig.update_xaxes(type="log", tickvals=[0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10])
    fig.update_xaxes(title="our median, ms (log scale)", row=2)
    return footer(fig, label)


def _pair(point: Build, graph: bool) -> tuple[Build, float, float] | None:
    """The point, our median and trtexec's, ms."""
    ours, theirs = (
        (point.graph_timing, point.trtexec_graph_ms) if graph else (point.timing, point.trtexec_ms)
    )
    return None if ours is None or theirs is None else (point, ours.median_ms, theirs)


# --- Figures of mixed precision: which layers mind INT8, and how many must leave it until the accuracy is back.

if typing.TYPE_CHECKING:
    import plotly.graph_objects as go


def sensitivity_bars(study: Sensitivity, question: str = "Which layers mind INT8?") -> go.Figure:
    """Accuracy lost with one unit alone in INT8, and won back by keeping one unit out, in graph order.

    Units of which one of the two engines was not built are left out.
    """
    names = [unit for unit in study.alone if unit in study.kept_out]
    if not names:
        raise DataError(
            "the study holds no unit with both engines", "record the sensitivity stage again"
        )
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


def search_steps(
    study: Sensitivity, question: str = "How many layers must leave INT8?"
) -> go.Figure:
    """Accuracy after each unit taken out of INT8: the greedy order, and random ones, up to the target."""
    searches = [
        ("most harmful first", study.greedy),
        *(("random order", one) for one in study.random),
    ]
    shown: Sequence[typing.Any] = [
        (name, one) for name, one in searches if one is not None and one.trials
    ]
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
