"""What builds cost and what they win: accuracy, time, size and memory; how they are timed; mixed
precision.
"""

from __future__ import annotations

import itertools
import typing
from collections.abc import Iterable, Mapping
from typing import NamedTuple, Protocol, runtime_checkable

from ..builds import Build
from ..engine.records import LABELS, VARIANTS, Timing
from ..errors import DataError
from ..record import plural, show
from ..recorded.tradeoffs import MixedSearch, Sensitivity, Tradeoff, pareto
from . import draw
from .draw import BAD, GOOD, INK, Figure, Source, Style, dtype_color, series

__all__ = [
    "against_trtexec",
    "batch_sizes",
    "builds",
    "launches",
    "mixed_search",
    "sensitivity",
    "tradeoff",
]

NOT_GIVEN = "source not given"
DIRECT = 5  # more names than these are written beside their marks, not in a legend


class Cost(NamedTuple):
    """What a point may cost, or bring: the axis' title, the Build's field, and its unit."""

    title: str
    field: str
    unit: float = 1

    def timing(self, point: Build) -> Timing | None:
        """The timing that it is from, if it is from one."""
        value = getattr(point, self.field)
        return value if isinstance(value, Timing) else None

    def read(self, point: Build) -> float | None:
        """Its number; of a timing the median, ms."""
        value = getattr(point, self.field)
        value = value.median_ms if isinstance(value, Timing) else value
        return None if value is None else value / self.unit


COSTS: dict[str, Cost] = {
    "latency": Cost("ms a batch by graph replay, median", "graph_timing"),
    "launches": Cost("ms a batch, launch after launch, median", "timing"),
    "throughput": Cost("images a second", "images_per_second"),
    "size": Cost("plan size, kB", "plan_bytes", 1000),
    "memory": Cost("GPU memory for activations, kB", "device_memory_bytes", 1000),
    "build time": Cost("build from nothing, seconds", "build_seconds"),
}
"""A word -> what it costs."""


@runtime_checkable
class Network(Protocol):
    """A network with builds, such as trtlearn's: pictures import nothing that builds engines."""

    def builds(self) -> Mapping[str, Build]: ...


Builds = Build | Tradeoff | Network | Mapping[str, Build] | Iterable[Build]
BUILDS = 'give tl.network("resnet"), some of its builds, or a recorded Tradeoff'
GAINS = ("throughput",)  # where more is better


def _percent(point: Build) -> float | None:
    """How good its answers are, in percent: accuracy, or a detector's mAP50."""
    return None if point.quality is None else 100 * point.quality


def _quality_axis(points: Iterable[Build], accuracy: str) -> str:
    """What the percentages are: ``accuracy`` in words, or mAP50 where there is a detector."""
    kinds = {point.map50 is not None for point in points if point.quality is not None}
    return {frozenset({True}): "mAP50", frozenset({True, False}): f"{accuracy}, or mAP50"}.get(
        frozenset(kinds), accuracy
    )


def _allowed(point: Build) -> str:
    """The narrowest type that the build was allowed."""
    return "int8" if point.options.int8 else "fp16" if point.options.fp16 else "fp32"


def _span(timing: Timing | None) -> str | None:
    if timing is None:
        return None
    return f"{timing.median_ms:.4f} ms (5 to 95 %: {timing.p05_ms:.4f} to {timing.p95_ms:.4f})"


def _facts(point: Build) -> str:
    """All that is known of one engine, for hovering."""
    layers = f"{point.int8_layers} INT8, {show(point.reformats)} reformats"
    facts: list[tuple[typing.Any, str]] = [
        (_percent(point), "mAP50 {:.1f} %" if point.map50 else "{:.1f} % of the test images right"),
        (_span(point.graph_timing), "graph replay: {}"),
        (_span(point.timing), "launch after launch: {}"),
        (point.images_per_second, "{:,.0f} images/s"),
        (point.plan_bytes, "plan {:,} bytes"),
        (point.device_memory_bytes, "{:,} bytes for activations"),
        (point.build_seconds, "built from nothing in {:.1f} s"),
        (point.layers and plural(point.layers, "engine layer"), "{}, " + layers),
    ]
    known = [text.format(value) for value, text in facts if value is not None]
    return "<br>".join([f"<b>{point.model}, {point.variant}</b>, batch {point.batch}", *known])


def _builds(engines: Builds) -> tuple[Build, ...]:
    """The builds, however they come."""
    if isinstance(engines, Build):
        return (engines,)
    if isinstance(engines, Tradeoff):
        return engines.points
    if isinstance(engines, Network):
        engines = engines.builds()
    chosen = tuple(engines.values() if isinstance(engines, Mapping) else engines)
    if strangers := [one for one in chosen if not isinstance(one, Build)]:
        raise DataError(f"a build is expected, found a {type(strangers[0]).__name__}", BUILDS)
    return chosen


def ways(engines: Iterable[Build]) -> list[str]:
    """The names of the engines' ways of building, in the course's order and others after."""
    names = dict.fromkeys(point.variant for point in engines)
    ordered = dict.fromkeys([*VARIANTS, *names])
    return [name for name in ordered if name in names]


def tradeoff(
    engines: Builds,
    cost: str = "latency",
    *,
    title: str = "Which engine does nothing else beat?",
    source: Source = None,
) -> Figure:
    """Accuracy against ``cost`` (see COSTS), a panel for each batch size, with the Pareto front
    drawn through.

    One symbol for each way of building, in the colour of the narrowest type allowed. Latencies
    carry their 5 to 95 % spread. Where nothing was timed by graph replay, "latency" is launch after
    launch. Points of which accuracy or cost is unknown are left out; DataError where none is left.
    """
    if source is None:
        source = engines.provenance if isinstance(engines, Tradeoff) else NOT_GIVEN
    chosen = _builds(engines)
    if cost not in COSTS:
        raise DataError(f"no cost {cost!r}", f"one of {', '.join(COSTS)}")
    if cost == "latency" and not any(point.graph_timing for point in chosen):
        cost = "launches"
    axis, read, timing = COSTS[cost].title, COSTS[cost].read, COSTS[cost].timing
    known = [point for point in chosen if read(point) is not None and point.quality is not None]
    if not known:
        raise DataError("no point with both an accuracy and a cost", "pass Tradeoff.select(model)")
    batches, names = sorted({point.batch for point in known}), ways(known)
    numbers = {name: index for index, name in enumerate(dict.fromkeys([*VARIANTS, *names]))}
    titles = [f"batch {batch}" if len(batches) > 1 else "" for batch in batches]
    fig = draw.panels(title, titles, height=560, **draw.SHARED)
    shares = [100 * (point.quality or 0) for point in known]
    reach = max(4.0, max(shares) - min(shares))
    vertical = (min(shares) - 0.08 * reach, max(shares) + 0.2 * reach)
    sign = -1 if cost in GAINS else 1
    for column, batch in enumerate(batches, 1):
        panel = (1, column)
        here = [point for point in known if point.batch == batch]
        across = [read(point) or 0.0 for point in here]
        front = pareto(here, lambda point: sign * (read(point) or 0.0), _percent)
        x = [*map(read, front), sign * max(sign * value for value in across)]  # to the dearest
        y = [_percent(point) for point in (*front, *front[-1:])]
        look: Style = {"dash": "dot", "shape": "hv", "legendgroup": "front", "panel": panel}
        look["showlegend"] = column == 1
        draw.line(fig, x, y, "front (outlined: nothing beats it)", **look)
        for name in names:
            same = [point for point in here if point.variant == name]
            if not same:
                continue
            first = not any(point.variant == name and point.batch < batch for point in known)
            outline = {"width": [2 if point in front else 0 for point in same], "color": INK}
            look = {"like": numbers[name], "color": dtype_color(_allowed(same[0])), "size": 12}
            look |= {"marker": {"line": outline}, "panel": panel, "legendgroup": name}
            look |= {"legendrank": 1001 + names.index(name)}
            look["showlegend"] = first and len(names) <= DIRECT
            measured = [timing(point) for point in same]
            look["error_x"] = draw.spread(measured) if any(measured) else None
            x, y = list(map(read, same)), list(map(_percent, same))
            draw.points(fig, x, y, name, hover=list(map(_facts, same)), **look)
        width = max(across) - min(across) or max(across) or 1.0
        level = (min(across) - 0.1 * width, max(across) + 0.25 * width)
        fig.update_xaxes(range=level, row=1, col=column)
        if len(names) > DIRECT:
            texts = [point.variant for point in here]
            at: Style = {"ranges": (level, vertical), "size": (820 / len(batches), 390)}
            heights = [_percent(point) or 0.0 for point in here]
            draw.label_points(fig, across, heights, texts, **at, column=column)
    fig.update_xaxes(title=axis, row=1, col=(len(batches) + 1) // 2)
    fig.update_yaxes(range=vertical)
    if reach > 20:
        fig.update_yaxes(tickvals=list(range(0, 101, 10)))
    quality = _quality_axis(known, "test images right")
    fig.update_yaxes(title=f"{quality}, %", row=1, col=1)
    return draw.finish(fig, source)


def builds(
    engines: Builds,
    labels: Mapping[str, str] | None = None,
    *,
    title: str = "What does each way cost, and what does it win?",
    source: Source = None,
) -> Figure:
    """Accuracy, median latency, plan size and activation memory of each build, side by side.

    Latency is by graph replay where some build was timed so. What one build does not know is
    written "unknown"; accuracy and activations that no build knows are left out. A bar has the
    colour of the narrowest type that was allowed. ``labels`` maps a build's name to plain words,
    by default LABELS.
    """
    chosen = _builds(engines)
    if not chosen:
        raise DataError("no engine to draw", "pass builds, or Tradeoff.select(model, batch)")
    words = labels or LABELS
    rows = [draw.folded(words.get(build.variant, build.variant), 30) for build in chosen]
    cost = "latency" if any(build.graph_timing for build in chosen) else "launches"
    large = max(build.plan_bytes or 0 for build in chosen) > 10_000_000
    unit, divisor, number = ("MB", 1e6, "{:.1f} MB") if large else ("kB", 1e3, "{:,.0f} kB")
    quality = _quality_axis(chosen, "images right")
    facts = {
        (quality, "{:.1f} %"): Cost("", "quality", 0.01),
        ("ms a batch", "{:.3g} ms"): COSTS[cost],
        (f"plan, {unit}", number): Cost("", "plan_bytes", divisor),
        (f"activations, {unit}", number): Cost("", "device_memory_bytes", divisor),
    }
    shown = {fact: list(map(one.read, chosen)) for fact, one in facts.items()}
    for optional in (quality, "{:.1f} %"), (f"activations, {unit}", number):
        if set(shown[optional]) == {None}:
            del shown[optional]
    side = draw.SHARED | {"horizontal_spacing": 0.03}
    fig = draw.panels(title, [""] * len(shown), height=draw.tall(2 * len(chosen)), **side)
    look: Style = {"color": [dtype_color(_allowed(build)) for build in chosen]}
    look["hover"] = [_facts(build) for build in chosen]
    for place, ((what, form), values) in enumerate(shown.items(), 1):
        texts = [show(None) if value is None else form.format(value) for value in values]
        draw.bars(fig, rows, values, texts=texts, **look, panel=(1, place))
        longest = max(value or 0 for value in values) or 1
        bare: Style = {"showticklabels": False, "showgrid": False, "ticks": "", "side": "top"}
        fig.update_xaxes(title=what, range=[0, 2.1 * longest], **bare, row=1, col=place)
    fig.update_layout(showlegend=False)
    fig.update_yaxes(autorange="reversed")
    return draw.finish(fig, source or chosen[0].provenance)


def batch_sizes(
    engines: Builds,
    labels: Mapping[str, str] | None = None,
    *,
    title: str = "What does a larger batch bring?",
    source: Source = NOT_GIVEN,
) -> Figure:
    """Images a second, by graph replay, against the batch size: a line for each way of building one
    model.

    ``labels``: which ways, in which order -> plain words; all where not given.
    """
    known = [point for point in _builds(engines) if point.images_per_second is not None]
    words = labels or {name: name for name in ways(known)}
    if not any(point.variant in words for point in known):
        raise DataError("no engine to draw", "pass Tradeoff.select(model)")
    fig = draw.figure(title)
    for index, (name, label) in enumerate(words.items()):
        same = sorted((p for p in known if p.variant == name), key=lambda point: point.batch)
        if not same:
            continue
        sizes, rates = [p.batch for p in same], [p.images_per_second for p in same]
        look: Style = {"like": index, "color": dtype_color(_allowed(same[0])), "marks": 10}
        draw.line(fig, sizes, rates, label, hover=[_facts(p) for p in same], **look)
    drawn = [point for point in known if point.variant in words]
    draw.log_axis(fig, "x", "batch size", [point.batch for point in drawn])
    sizes = sorted({point.batch for point in drawn})
    fig.update_xaxes(tickvals=sizes, ticktext=[str(size) for size in sizes])
    draw.log_axis(fig, "y", "images a second", [point.images_per_second for point in drawn])
    return draw.finish(fig, source)


# --- How engines are timed: what launching adds, and what NVIDIA's trtexec measures.

Groups = Mapping[str, Iterable[Build]]
"""What a panel or the legend calls them -> engines."""

SHORT = 0.2  # ms
TIMED = {
    "graph replay": ("graph_timing", "trtexec_graph_ms"),
    "launch after launch": ("timing", "trtexec_ms"),
}
"""A way of timing -> a Build's fields with our timing and with trtexec's median, ms."""


def launches(groups: Groups, *, source: Source = NOT_GIVEN) -> Figure:
    """Each engine's latency by graph replay and launch after launch, with their 5 to 95 % spreads,
    a panel a group.

    ``groups``: a panel's title -> its engines, all of one batch size
    (``tl.recorded.tradeoff(name).select(model, batch)``). Engines not timed in both
    ways are left out.
    """
    timed = {
        group: [point for point in engines if point.timing and point.graph_timing]
        for group, engines in groups.items()
    }
    names = ways(itertools.chain(*timed.values()))
    if not names:
        raise DataError(
            "no engine was timed in both ways", "pass Tradeoff.select(model, batch) of a recording"
        )
    question, height = "How much of the latency is launching?", draw.tall(len(names)) + 60
    fig = draw.panels(question, list(timed), height=height, **draw.SHARED)
    for column, engines in enumerate(timed.values(), 1):
        panel = (1, column)
        rows = [point.variant for point in engines]
        for point in engines:
            medians = [COSTS[cost].read(point) for cost in ("latency", "launches")]
            draw.line(fig, medians, [point.variant] * 2, width=1, panel=panel)
        for index, (how, (field, _)) in enumerate(TIMED.items()):
            times = [getattr(point, field) for point in engines]
            look: Style = {"like": index, "size": 10, "panel": panel, "legendgroup": how}
            look |= {"showlegend": column == 1}
            look["error_x"] = draw.spread(times, series(index).color)
            hover = "%{y}: %{x:.4f} ms<extra>" + how + "</extra>"
            draw.points(fig, [time.median_ms for time in times], rows, how, hover=hover, **look)
    fig.update_xaxes(rangemode="tozero")
    fig.update_xaxes(title="ms, median and 5 to 95 %", row=1, col=(len(timed) + 1) // 2)
    order: Style = {"categoryorder": "array", "categoryarray": names}
    fig.update_yaxes(autorange="reversed", showgrid=True, **order)
    return draw.finish(fig, source)


def against_trtexec(groups: Groups, *, source: Source = NOT_GIVEN) -> Figure:
    """How far trtexec's median lies above ours for the same plan, over the latency: in
    microseconds, for engines SHORT enough that these matter, and in percent.

    ``groups``: what the legend calls them -> engines (``Tradeoff.select(model)``). Those that
    trtexec did not time are left out.
    """
    grid: Style = {"rows": 2, "cols": 2, "shared_xaxes": True, "vertical_spacing": 0.08}
    grid["horizontal_spacing"] = 0.1
    fig = draw.panels("Does trtexec measure the same time?", list(TIMED), height=600, **grid)
    drawn: list[float] = []
    for column, (how, fields) in enumerate(TIMED.items(), 1):
        for index, (group, engines) in enumerate(groups.items()):
            differences: dict[str, list[tuple[float, float, str]]] = {"µs": [], "%": []}
            for point in engines:
                ours, theirs = (getattr(point, field) for field in fields)
                if ours is None or theirs is None:
                    continue
                mine, name = ours.median_ms, f"{point.model} {point.variant}, batch {point.batch}"
                differences["%"].append((mine, 100 * (theirs / mine - 1), name))
                if mine < SHORT:
                    differences["µs"].append((mine, 1000 * (theirs - mine), name))
            for row, (unit, marks) in enumerate(differences.items(), 1):
                x, y = [mark[0] for mark in marks], [mark[1] for mark in marks]
                drawn += x
                hover = "%{customdata}: %{x:.4f} ms, trtexec %{y:+.1f} " + unit
                look: Style = {"like": index, "size": 10, "panel": (row, column)}
                look |= {"legendgroup": group, "showlegend": row == 2 and column == 1}
                look["customdata"] = [mark[2] for mark in marks]
                draw.points(fig, x, y, group, hover=f"{hover}<extra>{how}</extra>", **look)
    if not drawn:
        raise DataError(
            "no engine was timed by trtexec", "record the trade-off with --trtexec PATH"
        )
    for row, unit in enumerate((f"µs<br>(under {SHORT:g} ms)", "%"), 1):
        fig.update_yaxes(title=f"trtexec above ours, {unit}", row=row, col=1)
    fig.update_yaxes(zeroline=True, zerolinecolor=INK, rangemode="tozero")
    draw.log_axis(fig, "x", "our median, ms", drawn)
    fig.update_xaxes(title="", row=1)
    return draw.finish(fig, source)


# --- Mixed precision: which layers lose accuracy in INT8, and how many must leave it.


def sensitivity(study: Sensitivity, *, source: Source = None) -> Figure:
    """Accuracy lost with one unit alone in INT8, and regained with that unit alone in FP32, in
    graph order.

    Units of which one of the two engines was not built are left out.
    """
    names = [unit for unit in study.alone if unit in study.kept_out]
    if not names:
        raise DataError(
            "the study holds no unit with both engines", "record the sensitivity stage again"
        )
    question = "Which layers lose accuracy in INT8?"
    fig = draw.figure(question, rows=2 * len(names), barmode="group")
    lost = [100 * (study.fp32_accuracy - study.alone[name].accuracy) for name in names]
    regained = [100 * (study.kept_out[name].accuracy - study.int8_accuracy) for name in names]
    for words, values, color, pattern in (
        ("only this layer in INT8: accuracy lost", lost, BAD, "/"),
        ("only this layer in FP32: accuracy regained", regained, GOOD, ""),
    ):
        hover = "%{y}: %{x:.1f} points<extra>" + words + "</extra>"
        texts = [f"{value:.1f}" for value in values]
        draw.bars(fig, names, values, words, color=color, pattern=pattern, texts=texts, hover=hover)
    fig.update_yaxes(autorange="reversed", title="convolution and what follows it")
    fig.update_xaxes(title="percentage points of accuracy")
    return draw.finish(fig, source or study.provenance)


def mixed_search(study: Sensitivity, *, source: Source = None) -> Figure:
    """Accuracy after each unit taken out of INT8: the greedy order, and random ones, up to the
    target.
    """
    searches: list[tuple[str, MixedSearch]] = []
    if study.greedy is not None and study.greedy.trials:
        searches.append(("most harmful first", study.greedy))
    searches += [("random order", search) for search in study.random if search.trials]
    if not searches:
        raise DataError("the study holds no search", "record the sensitivity stage again")
    fig = draw.figure("How many layers must leave INT8?")
    names: set[str] = set()
    for index, (name, search) in enumerate(searches):
        right = [100 * trial.accuracy for trial in search.trials]
        taken = ["nothing taken out", *(f"{unit} taken out" for unit in search.order)]
        texts = [f"{what}: {value:.1f} %" for what, value in zip(taken, right, strict=False)]
        look: Style = {"like": min(index, 1), "dash": "dot" if index else "solid", "marks": 9}
        look |= {"legendgroup": name, "showlegend": name not in names}
        draw.line(fig, list(range(len(right))), right, name, hover=texts, **look)
        names.add(name)
    target: Style = {"annotation_text": "FP32 less 0.5 point", "annotation_position": "top left"}
    fig.add_hline(y=100 * study.target, line={"color": INK, "dash": "dash"}, **target)
    fig.update_xaxes(title="units taken out of INT8", dtick=1)
    fig.update_yaxes(title="test images right, %")
    return draw.finish(fig, source or study.provenance)
