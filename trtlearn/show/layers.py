"""Figures of INT8 arithmetic: weights read out of an engine, one pixel by hand, errors by tensor, plan sizes."""

from __future__ import annotations

import typing
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import ArrayLike

from ..engine.times import layer_times
from ..errors import DataError
from ..int8.layer import PixelTrace
from ..record import plural, show
from .numbers import source_label, tall
from .theme import BAD, GOOD, INK, MARKS, SERIES, WARN, dtype_color, figure, footer

if typing.TYPE_CHECKING:
    import plotly.graph_objects as go

    from ..builds import Build
    from ..engine.records import Provenance
    from ..int8.compare import TensorError
    from ..recorded.layers import PlanSizes

__all__ = ["errors_by_tensor", "pixel", "plan_sizes", "read_back", "time_by_dtype"]


def read_back(
    expected: ArrayLike,
    read: ArrayLike,
    *,
    question: str = "Are the engine's weights the codes that numpy computes?",
    source: Provenance | str | None = None,
) -> go.Figure:
    """Each weight's code, numpy's against the one read out of an engine: points on the diagonal are equal.

    Args:
        expected: int8 codes of any shape; read: the engine's, the same shape.

    >>> read_back([1, -2], [1, -2]).layout.annotations[0].text
    '2 of 2 weights equal'
    """
    ours, theirs = np.asarray(expected).ravel(), np.asarray(read).ravel()
    if ours.shape != theirs.shape:
        raise DataError(
            f"{ours.size} codes expected and {theirs.size} read", "compare the same weights"
        )
    same = ours == theirs
    fig = figure(question, height=400)
    fig.add_scatter(
        x=[-128, 128],
        y=[-128, 128],
        mode="lines",
        line={"color": INK, "dash": "dot"},
        name="equal",
        hoverinfo="skip",
    )
    for mask, name, color, symbol in (
        (same, "equal code", GOOD, "circle"),
        (~same, "another code", BAD, "x"),
    ):
        if mask.any():
            pairs, counts = np.unique(
                np.stack([ours[mask], theirs[mask]], -1), axis=0, return_counts=True
            )
            fig.add_scatter(
                x=pairs[:, 0],
                y=pairs[:, 1],
                mode="markers",
                name=name,
                marker={"color": color, "symbol": symbol, "size": 6},
                customdata=[plural(count, "weight") for count in counts.tolist()],
                hovertemplate="numpy %{x}, engine %{y}: %{customdata}<extra></extra>",
            )
    text = f"{int(same.sum()):,} of {same.size:,} weights equal"
    fig.add_annotation(text=text, x=-120, y=115, xanchor="left", showarrow=False)
    fig.update_xaxes(title="code that numpy computes from the ONNX file", range=[-135, 135])
    fig.update_yaxes(title="code read from the engine", range=[-135, 135])
    return footer(fig, source_label(source))


def pixel(
    trace: PixelTrace, *, question: str | None = None, source: Provenance | str | None = None
) -> go.Figure:
    """One output pixel: each product of an input code and a weight code, and the sum that grows from left to right."""
    fig = figure(
        question or f"How does pixel {trace.position} become code {trace.code}?", height=400
    )
    order = np.arange(1, len(trace.products) + 1)
    fig.add_bar(
        x=order,
        y=trace.products,
        name="product: input code · weight code",
        marker={"color": dtype_color("int8")},
        customdata=np.stack([trace.inputs, trace.weights], -1),
        hovertemplate="%{customdata[0]} · %{customdata[1]} = %{y}<extra></extra>",
    )
    fig.add_scatter(
        x=order,
        y=np.cumsum(trace.products),
        mode="lines+markers",
        name="sum so far, int32",
        line={"color": dtype_color("int32")},
        marker={"symbol": "square", "size": 7},
    )
    steps = f"{trace.sum:,} · {trace.multiplier:.4g} + {trace.offset:.4g}"
    steps += f" + {trace.added:.4g}" if trace.added else ""
    text = f"{steps} = {trace.steps:.4f} → code {trace.code}"
    fig.update_xaxes(title=text, tickmode="linear", dtick=max(1, len(order) // 12))
    fig.update_yaxes(title="units of s_x · s_w")
    return footer(fig, source_label(source))


def errors_by_tensor(
    errors: Mapping[str, Sequence[TensorError]],
    *,
    question: str = "How far is each tensor from FP32?",
    source: Provenance | str | None = None,
) -> go.Figure:
    """Signal to noise of every tensor in the network's order, a line for each set of ranges; clipping is marked.

    Higher is better: 20 dB is an error of a tenth, 40 dB of a hundredth. A ringed cross stands where clipping, and not
    rounding, makes up most of what quantizing that tensor alone costs.

    Args:
        errors: label -> what interrors.tensor_errors gave.
    """
    names = list(dict.fromkeys(one.name for found in errors.values() for one in found))
    fig = figure(question, height=460)
    clipped_x: list[int] = []
    clipped_y: list[float] = []
    for index, (label, found) in enumerate(errors.items()):
        rows = [(names.index(one.name), one) for one in found if one.total_sqnr_db is not None]
        fig.add_scatter(
            x=[place for place, _ in rows],
            y=[one.total_sqnr_db for _, one in rows],
            mode="lines+markers",
            name=label,
            line={"color": SERIES[index % len(SERIES)]},
            marker={"symbol": MARKS[index % len(MARKS)], "size": 8},
            hovertext=[
                f"{one.name}<br>{one.total_sqnr_db:.1f} dB, cosine {one.cosine:.4f}"
                + (f"<br>alone: {one.own.summary()}" if one.own else "<br>kept in float")
                for _, one in rows
            ],
            hoverinfo="text",
        )
        for place, one in rows:
            if one.own is not None and one.own.clip_error > one.own.rounding_error:
                clipped_x.append(place)
                clipped_y.append(float(one.total_sqnr_db or 0.0))
    if clipped_x:
        fig.add_scatter(
            x=clipped_x,
            y=clipped_y,
            mode="markers",
            name="mostly clipping",
            marker={"color": WARN, "symbol": "x-open", "size": 14, "line": {"width": 2}},
            hoverinfo="skip",
        )
    fig.update_xaxes(tickvals=list(range(len(names))), ticktext=names, tickangle=-60)
    fig.update_yaxes(title="signal to noise, dB")
    fig.update_layout(margin={"b": 130})
    footer(fig, source_label(source))
    fig.layout.annotations[-1].yshift = -125
    return fig


def plan_sizes(
    sizes: PlanSizes, *, question: str = "Does the same network build to the same size?"
) -> go.Figure:
    """The plan of each build, and in how many layers another kernel was chosen than in the first."""
    fig = figure(question, height=380)
    first = sizes.builds[0].kernels
    other = [
        sum(first.get(name) != kernel for name, kernel in build.kernels.items())
        for build in sizes.builds
    ]
    fig.add_bar(
        x=[f"build {index + 1}" for index in range(len(sizes.builds))],
        y=[build.plan_bytes / 1000 for build in sizes.builds],
        name="plan, and how many layers have another kernel than in build 1",
        marker={"color": dtype_color("int8")},
        text=[
            f"{build.plan_bytes / 1000:.0f} kB"
            + (f"<br>{plural(n, 'kernel')}<br>new" if index else "")
            for index, (build, n) in enumerate(zip(sizes.builds, other, strict=True))
        ],
        textposition="inside",
        insidetextanchor="middle",
        textangle=0,
        textfont={"color": "white"},
    )
    fig.update_yaxes(title="plan, kB", rangemode="tozero")
    chosen = sizes.options.optimization_level
    level = "" if chosen is None else f", optimization level {chosen}"
    return footer(fig, f"{source_label(sizes.provenance)}; {sizes.model}, {sizes.variant}{level}")


def time_by_dtype(
    runs: Mapping[str, Build],
    *,
    question: str = "What does each type cost?",
    source: Provenance | str | None = None,
) -> go.Figure:
    """The layers' time of each engine, stacked by the type that they work in, and the time of the whole run beside it.

    The bars are the profiler's medians, layer by layer; the diamond is the median of whole runs with 5 to 95 % of them
    as its line. Profiling costs time, so the two differ: compare bars with bars and diamonds with diamonds.

    Args:
        runs: label -> an experiment with a timing. DataError where one has none.
    """
    if without := [label for label, run in runs.items() if run.timing is None]:
        raise DataError(f"{without[0]!r} was not timed", "give experiments with a timing")
    fig = figure(question, height=tall(len(runs)) + 60)
    parts: dict[str, list[float]] = {}
    missed = 0
    timings = [run.timing for run in runs.values() if run.timing is not None]
    for place, (run, timing) in enumerate(zip(runs.values(), timings, strict=True)):
        joined = layer_times(run.engine, timing)
        missed += len(joined.without_time)
        for row, layer in zip(joined.layers, run.engine.layers, strict=True):
            kind = f"works in {show(layer.computed_in)}" if layer.role == "compute" else layer.role
            parts.setdefault(kind, [0.0] * len(runs))[place] += row.ms or 0.0
    for kind in sorted(
        (kind for kind, times in parts.items() if any(times)),
        key=lambda kind: (" in " not in kind, kind),
    ):
        dtype = kind.removeprefix("works in ")
        fig.add_bar(
            x=parts[kind],
            y=list(range(len(runs))),
            orientation="h",
            name=kind,
            marker={
                "color": INK if dtype == kind else dtype_color(dtype),
                "pattern": {"shape": "/" if dtype == kind else ""},
            },
            hovertemplate=kind + ": %{x:.4f} ms<extra></extra>",
        )
    fig.add_scatter(
        x=[timing.median_ms for timing in timings],
        y=[place + 0.44 for place in range(len(runs))],
        error_x={
            "array": [timing.p95_ms - timing.median_ms for timing in timings],
            "arrayminus": [timing.median_ms - timing.p05_ms for timing in timings],
            "color": INK,
        },
        mode="markers",
        name="whole run, 5 to 95 %",
        marker={"symbol": "diamond", "size": 9, "color": INK},
        hovertext=[timing.summary() for timing in timings],
        hoverinfo="text",
    )
    fig.update_layout(barmode="stack", bargap=0.35)
    fig.update_xaxes(title="ms", rangemode="tozero")
    fig.update_yaxes(
        tickvals=list(range(len(runs))), ticktext=list(runs), autorange="reversed", showgrid=False
    )
    rest = f"; {plural(missed, 'layer has', 'layers have')} no time" if missed else ""
    return footer(fig, source_label(source) + rest)
