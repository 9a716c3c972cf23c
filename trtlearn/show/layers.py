"""INT8 arithmetic: weights read back, one pixel by hand, errors by tensor, plan sizes, times."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import ArrayLike

from ..builds import Build
from ..engine.times import layer_times
from ..errors import DataError
from ..int8.layer import PixelTrace
from ..int8.simulate import TensorError
from ..record import plural, show
from ..recorded.layers import PlanSizes
from . import draw
from .draw import Figure, Source, Style
from .theme import BAD, GOOD, INK, WARN, dtype_color, series

__all__ = ["pixel", "plan_sizes", "read_back", "tensor_errors", "time_by_dtype"]


def read_back(expected: ArrayLike, read: ArrayLike, *, source: Source = None) -> Figure:
    """Each weight's code, numpy's against the engine's: points on the diagonal are equal.

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
    fig = draw.figure("Are the engine's weights the codes that numpy computes?", height=400)
    draw.line(fig, [-128, 128], [-128, 128], "equal", dash="dot")
    for which, name, color, symbol in (
        (same, "equal code", GOOD, "circle"),
        (~same, "another code", BAD, "x"),
    ):
        if which.any():
            codes = np.stack([ours[which], theirs[which]], -1)
            codes, counts = np.unique(codes, axis=0, return_counts=True)
            weights = [plural(count, "weight") for count in counts.tolist()]
            hover = "numpy %{x}, engine %{y}: %{customdata}"
            look: Style = {"color": color, "symbol": symbol, "size": 6, "customdata": weights}
            draw.points(fig, codes[:, 0], codes[:, 1], name, hover=hover, **look)
    text = f"{int(same.sum()):,} of {same.size:,} weights equal"
    draw.note(fig, text, -120, 115, xanchor="left")
    fig.update_xaxes(title="code that numpy computes from the ONNX file", range=[-135, 135])
    fig.update_yaxes(title="code read from the engine", range=[-135, 135])
    return draw.finish(fig, source)


def pixel(trace: PixelTrace, *, source: Source = None) -> Figure:
    """One output pixel: each product of an input and a weight code, and the sum that grows."""
    fig = draw.figure(f"How does pixel {trace.position} become code {trace.code}?", height=400)
    order = np.arange(1, len(trace.products) + 1)
    codes = np.stack([trace.inputs, trace.weights], -1)
    product: Style = {"color": dtype_color("int8"), "customdata": codes}
    hover = "%{customdata[0]} · %{customdata[1]} = %{y}"
    name = "product: input code · weight code"
    draw.columns(fig, order, trace.products, name, hover=hover, **product)
    mark = {"symbol": "square", "size": 7}
    total: Style = {"color": dtype_color("int32"), "marker": mark, "hover": "sum so far %{y:,}"}
    draw.line(fig, order, np.cumsum(trace.products), "sum so far, int32", **total)
    steps = f"{trace.sum:,} · {trace.multiplier:.4g} + {trace.offset:.4g}"
    steps += f" + {trace.added:.4g}" if trace.added else ""
    text = f"{steps} = {trace.steps:.4f} → code {trace.code}"
    fig.update_xaxes(title=text, tickmode="linear", dtick=max(1, len(order) // 12))
    fig.update_yaxes(title="units of s_x · s_w")
    return draw.finish(fig, source)


def tensor_errors(errors: Mapping[str, Sequence[TensorError]], *, source: Source = None) -> Figure:
    """Signal to noise of every tensor, the network's input on top, a line for each set of ranges.

    Higher is better: 20 dB is an error of a tenth, 40 dB of a hundredth. A cross stands where
    clipping, and not rounding, makes up most of what quantizing that tensor alone costs.

    Args:
        errors: label -> what ``int8.simulate.tensor_errors`` gave.
    """
    names: list[str] = []
    for tensors in errors.values():
        names += [tensor.name for tensor in tensors if tensor.name not in names]
    fig = draw.figure("How far is each tensor from FP32?", height=draw.tall(len(names)))
    clipped: list[tuple[float, int]] = []
    for index, (label, tensors) in enumerate(errors.items()):
        look = series(index)
        x: list[float] = []
        rows: list[int] = []
        facts: list[str] = []
        for tensor in tensors:
            if tensor.total_sqnr_db is None:
                continue
            row, own = names.index(tensor.name), tensor.own
            x.append(tensor.total_sqnr_db)
            rows.append(row)
            alone = f"alone: {own.summary()}" if own else "stays in float"
            quality = f"{tensor.total_sqnr_db:.1f} dB, cosine {tensor.cosine:.4f}"
            facts.append(f"{tensor.name}<br>{quality}<br>{alone}")
            if own is not None and own.clip_error > own.rounding_error:
                clipped.append((tensor.total_sqnr_db, row))
        mark = {"symbol": look.symbol, "size": 8}
        draw.line(fig, x, rows, label, color=look.color, marker=mark, hover=facts)
    if clipped:
        x, rows = [db for db, _ in clipped], [row for _, row in clipped]
        draw.points(fig, x, rows, "mostly clipping", color=WARN, symbol="x-open", size=14)
    draw.name_rows(fig, names)
    fig.update_yaxes(showgrid=True)
    fig.update_xaxes(title="signal to noise, dB: more is better")
    return draw.finish(fig, source)


def plan_sizes(sizes: PlanSizes, *, source: Source = None) -> Figure:
    """The plan of each build, and in how many layers its kernel is not the first build's."""
    first = sizes.builds[0].kernels
    kilobytes = [build.plan_bytes / 1000 for build in sizes.builds]
    names, texts = ["build 1"], [f"{kilobytes[0]:.0f} kB"]
    for number, build in enumerate(sizes.builds[1:], 2):
        other = sum(first.get(name) != kernel for name, kernel in build.kernels.items())
        names.append(str(number))
        texts.append(f"{build.plan_bytes / 1000:.0f} kB<br>{other} other")
    fig = draw.figure("Does the same network build to the same size?", height=380, showlegend=False)
    look: Style = {"color": dtype_color("int8"), "cliponaxis": False, "text": texts}
    look |= {"textposition": "outside", "textfont": {"color": INK, "size": 11}}
    draw.columns(fig, names, kilobytes, **look)
    fig.update_xaxes(title="other: layers with another kernel than in build 1", type="category")
    fig.update_yaxes(title="plan, kB", range=[0, 1.25 * max(kilobytes)])
    chosen = sizes.options.optimization_level
    level = "" if chosen is None else f", optimization level {chosen}"
    origin = draw.source_label(source or sizes.provenance)
    return draw.finish(fig, origin, f"; {sizes.model}, {sizes.variant}{level}")


def time_by_dtype(
    builds: Mapping[str, Build], *, title: str = "What does each type cost?", source: Source = None
) -> Figure:
    """The layers' time of each engine, stacked by type, and the time of the whole run beside it.

    The bars are the profiler's medians, layer by layer; the diamond is the median of whole runs
    with 5 to 95 % of them as its line. Profiling costs time, so the two differ: compare bars with
    bars and diamonds with diamonds.

    Args:
        builds: label -> a build with a timing. DataError where one has none.
    """
    timings = [build.timing for build in builds.values() if build.timing is not None]
    if len(timings) < len(builds):
        label = next(label for label, build in builds.items() if build.timing is None)
        raise DataError(f"{label!r} was not timed", "give builds with a timing")
    # whether it computes nothing, its role and its type, "" where it computes nothing -> ms
    groups: dict[tuple[bool, str, str], list[float]] = {}
    missing = 0
    for place, (build, timing) in enumerate(zip(builds.values(), timings, strict=True)):
        joined = layer_times(build.engine, timing)
        missing += len(joined.without_time)
        for row, layer in zip(joined.layers, build.engine.layers, strict=True):
            dtype = show(layer.computed_in) if layer.role == "compute" else ""
            group = (not dtype, layer.role, dtype)
            times = groups.setdefault(group, [0.0] * len(builds))
            times[place] += row.ms or 0.0
    rows = list(range(len(builds)))
    fig = draw.figure(title, height=draw.tall(len(builds)) + 60, barmode="stack", bargap=0.35)
    for (_, role, dtype), times in sorted(groups.items()):
        if any(times):
            name = f"works in {dtype}" if dtype else role
            look: Style = {"color": dtype_color(dtype) if dtype else INK}
            look |= {"pattern": "" if dtype else "/", "hover": name + ": %{x:.4f} ms"}
            draw.bars(fig, rows, times, name, **look)
    whole: Style = {"symbol": "diamond", "error_x": draw.spread(timings)}
    whole["hover"] = [timing.summary() for timing in timings]
    medians, heights = [timing.median_ms for timing in timings], [row + 0.44 for row in rows]
    draw.points(fig, medians, heights, "whole run, 5 to 95 %", **whole)
    draw.name_rows(fig, list(builds))
    fig.update_xaxes(title="ms", rangemode="tozero")
    rest = f"; {plural(missing, 'layer has', 'layers have')} no time" if missing else ""
    return draw.finish(fig, source, rest)
