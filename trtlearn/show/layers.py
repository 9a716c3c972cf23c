"""INT8 arithmetic: weights read back, one pixel by hand, errors by tensor, plan sizes, times."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..builds import Build
from ..engine.inspector import layer_times
from ..errors import DataError
from ..int8.kernels import PixelTrace
from ..int8.simulate import Int8Run, TensorError
from ..record import plural, show
from ..recorded.layers import PlanSizes
from . import draw
from .draw import BAD, GOOD, GRAYS, INK, WARN, Figure, Source, Style, dtype_color

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
    """One output pixel: each product of an input and a weight code, and the sum that grows.

    ``trace`` is what ``build.simulate(images).trace(layer)`` gives.
    """
    fig = draw.figure(f"How does pixel {trace.position} become code {trace.code}?", height=400)
    order = np.arange(1, len(trace.products) + 1)
    codes = np.stack([trace.inputs, trace.weights], -1)
    product: Style = {"color": dtype_color("int8"), "customdata": codes}
    hover = "%{customdata[0]} · %{customdata[1]} = %{y}"
    name = "product: input code · weight code"
    draw.columns(fig, order, trace.products, name, hover=hover, **product)
    total: Style = {"color": dtype_color("int32"), "hover": "sum so far %{y:,}"}
    total |= {"marks": 7, "symbol": "square"}
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
    fig = draw.figure("How far is each tensor from FP32?", rows=len(names))
    clipped: list[tuple[float, int]] = []
    for index, (label, tensors) in enumerate(errors.items()):
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
        draw.line(fig, x, rows, label, like=index, dash="solid", marks=8, hover=facts)
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
    texts = [f"{kilobytes[0]:.0f} kB"]
    for size, build in zip(kilobytes[1:], sizes.builds[1:], strict=True):
        other = sum(first.get(name) != kernel for name, kernel in build.kernels.items())
        texts.append(f"{size:.0f} kB<br>{other} other")
    names = ["build 1", *map(str, range(2, len(texts) + 1))]
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
    timings = []
    for label, build in builds.items():
        if build.timing is None:
            raise DataError(f"{label!r} was not timed", "give builds with a timing")
        timings.append(build.timing)
    # whether it computes nothing, its role and its type, "" where it computes nothing -> ms
    groups: dict[tuple[bool, str, str], list[float]] = {}
    missing = 0
    for place, (build, timing) in enumerate(zip(builds.values(), timings, strict=True)):
        joined = layer_times(build.engine, timing)
        missing += joined.ms.count(None)
        for ms, layer in zip(joined.ms, build.engine.layers, strict=True):
            dtype = show(layer.computed_in) if layer.role == "compute" else ""
            group = (not dtype, layer.role, dtype)
            times = groups.setdefault(group, [0.0] * len(builds))
            times[place] += ms or 0.0
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


# --- A convolution's window: nine products, their sum, and the pixel that lights up.

SIGNS = [[0, BAD], [0.5, "#444444"], [1, GOOD]]  # below, at and above 0, under white text


class WindowPixel(NamedTuple):
    """One output pixel and the window that it sees in the input channel which adds most to it."""

    trace: PixelTrace
    source: int  # the input channel of the window
    sources: int  # how many input channels are summed
    products: NDArray[np.int64]  # [rows, columns] of the window
    words: NDArray[np.str_]  # what each cell says
    frame: tuple[float, float, float, float]  # x0, y0, x1, y1 of the window on the input
    titles: tuple[str, str, str]  # of the three panels


class PixelScene:
    """A convolution of a simulated engine with the codes of one image that go in and come out.

    DataError where the engine computes no convolution from INT8 to INT8, or for another layer.
    """

    def __init__(self, run: Int8Run, layer: str | None = None) -> None:
        if not run.convolutions:
            raise DataError(
                "no convolution of this engine goes from INT8 to INT8",
                'take the recorded one: tl.network("resnet", mode="recorded")',
            )
        self.run, self.name = run, layer or run.convolutions[0]
        if self.name not in run.convolutions:
            known = ", ".join(run.convolutions)
            raise DataError(f"{self.name!r} is no INT8 convolution here", f"one of {known}")
        self.layer = run.layers[self.name]
        read, written = run[self.layer.reads].codes, run[self.layer.writes].codes
        if read is None or written is None or not len(read):
            raise DataError("no image was simulated", "simulate at least one")
        self.inputs, self.output = read[0], written[0]

    @property
    def strongest(self) -> tuple[int, int, int]:
        """Channel, row and column of the largest output code."""
        channel, row, column = np.unravel_index(self.output.argmax(), self.output.shape)
        return int(channel), int(row), int(column)

    def at(self, channel: int, row: int, column: int) -> WindowPixel:
        """The pixel at this place of the output."""
        trace = self.run.trace(self.name, (0, channel, row, column))
        maps, *shape = self.layer.codes.shape
        facts, (depth, *kernel) = self.layer.geometry, shape
        every = np.reshape(trace.products, shape)
        most = int(np.abs(every.sum((1, 2))).argmax())
        source = channel // (maps // facts["groups"]) * depth + most
        x, w = (np.reshape(codes, shape)[most] for codes in (trace.inputs, trace.weights))
        words = [f"{a} · {b}<br>= {a * b:,}" for a, b in zip(x.flat, w.flat, strict=True)]
        top, left = np.array([row, column]) * facts["strides"] - facts["pads"][:2]
        down, across = np.array(facts["dilations"]) * (np.array(kernel) - 1)
        titles = (
            f"in: {self.layer.reads}, channel {source}",
            "input code · weight code",
            f"out: {self.layer.writes}, channel {channel}",
        )
        frame = (left - 0.5, top - 0.5, float(left + across) + 0.5, float(top + down) + 0.5)
        cells = np.reshape(words, kernel)
        return WindowPixel(trace, source, depth, every[most], cells, frame, titles)


def scene_figure(scene: PixelScene, pixel: WindowPixel, source: Source = None) -> Figure:
    """The input with the window, the window's products, the output with the pixel.

    Traces: 0 the input's codes, 1 the products, 2 the output's codes, 3 the mark of the pixel;
    shape 0 is the window.
    """
    title = f"How does one pixel of {scene.name} become a code?"
    fig = draw.panels(title, list(pixel.titles), height=400, horizontal_spacing=0.04)
    fig.update_layout(showlegend=False)
    hover = "row %{y}, column %{x}: code %{z}<extra></extra>"
    plain = {"colorscale": GRAYS, "showscale": False, "hovertemplate": hover}
    ends = {"zmin": int(scene.inputs.min()), "zmax": int(scene.inputs.max())}
    fig.add_heatmap(z=scene.inputs[pixel.source], **plain, **ends, row=1, col=1)
    products: Style = {"colorscale": SIGNS, "zmid": 0, "showscale": False, "xgap": 2, "ygap": 2}
    products |= {"texttemplate": "%{text}", "textfont": {"color": "white", "size": 12}}
    fig.add_heatmap(z=pixel.products, text=pixel.words, **products, hoverinfo="skip", row=1, col=2)
    ends = {"zmin": int(scene.output.min()), "zmax": int(scene.output.max())}
    fig.add_heatmap(z=scene.output[pixel.trace.position[1]], **plain, **ends, row=1, col=3)
    row, column = pixel.trace.position[2:]
    look: Style = {"symbol": "square-open", "size": 12, "color": BAD, "panel": (1, 3)}
    draw.points(fig, [column], [row], "this pixel", **look, marker={"line": {"width": 3}})
    frame = dict(zip(("x0", "y0", "x1", "y1"), pixel.frame, strict=True))
    fig.add_shape(type="rect", **frame, line={"color": BAD, "width": 3}, row=1, col=1)
    sizes = (scene.inputs.shape[1:], pixel.products.shape, scene.output.shape[1:])
    for index, (high, wide) in enumerate(sizes, 1):
        edge = 0.5 if index == 2 else 1.5  # room for a window that reaches into the padding
        hidden = {"visible": False, "constrain": "domain"}
        fig.update_xaxes(range=[-edge, wide - 1 + edge], **hidden, row=1, col=index)
        anchor = {"scaleanchor": f"x{index if index > 1 else ''}"}
        fig.update_yaxes(range=[high - 1 + edge, -edge], **hidden, **anchor, row=1, col=index)
    return draw.finish(fig, source)


def describe_pixel(pixel: WindowPixel) -> str:
    """The arithmetic from the sum to the code, in a few lines of HTML."""
    trace = pixel.trace
    count = len(trace.products)
    lines = [f"{count} products add up to <b>{trace.sum:,}</b>, exact in int32."]
    if pixel.sources > 1:
        lines[0] += (
            f" Shown is channel {pixel.source}, which adds most of {pixel.sources} input "
            f"channels: {int(pixel.products.sum()):,}."
        )
    sign = "−" if trace.offset < 0 else "+"
    added = f" + residual {trace.added:.4g}" if trace.added else ""
    lines.append(
        f"Scale: {trace.sum:,} · {trace.multiplier:.4g} (s_x · s_w / s_y) "
        f"{sign} {abs(trace.offset):.4g} (bias / s_y){added} = <b>{trace.steps:.4f}</b> steps."
    )
    nearest = round(trace.steps)
    lines.append(
        f"Round: {nearest}. Clip to {trace.low:.4g} … {trace.high:.4g}: "
        f"<b>code {trace.code}</b>, which says {trace.value:.4g}."
    )
    return "<br>".join(lines)
