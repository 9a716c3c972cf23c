"""Pictures with controls: each function returns an ipywidgets Widget that works by mouse and by
keyboard.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..builds import Build
from ..calibration.observers import Threshold
from ..calibration.ranges import Ranges, amax_by_tensor
from ..errors import DataError
from ..int8 import quant
from ..int8.simulate import Int8Run
from ..record import plural
from ..recorded.computed import FactorTrial, RangeFactors, Repairs
from ..recorded.tradeoffs import Tradeoff, tradeoff_of
from . import draw
from .calibration import centres, counts_axis, kl, on_log_axis, p_and_q
from .controls import (
    FITTED,
    button,
    figure_widget,
    ipywidgets,
    move_ends,
    moving,
    redraw,
    say,
    switch,
    wired,
)
from .draw import GOOD, INK, Source, Style
from .images import answer_look, as_seen, background, board, cut_digit, mosaic, place_of, spike
from .layers import PixelScene, describe_pixel, scene_figure
from .numbers import finite, histogram, slider_figure
from .tensor_ranges import repair_preview
from .tradeoffs import COSTS, tradeoff

__all__ = [
    "amax_slider",
    "factor_slider",
    "filling_player",
    "follow_pixel",
    "kl_slider",
    "range_browser",
    "repair_switches",
    "spike_slider",
    "tradeoff_explorer",
]

SAMPLE = 20_000  # values a slider works on: enough for the picture, few enough for 150 ms
WIDE = {"width": "98%"}
LABELLED: Style = {"layout": WIDE, "style": {"description_width": "6em"}}
ALMOST_ALL = 0.9  # the share of right answers below which an engine may be hidden


def sample(values: ArrayLike, name: str) -> NDArray[np.float32]:
    """At most SAMPLE of the values, evenly spaced and the largest |x| always among them, as
    float32 [N].
    """
    flat = finite(values, name).astype(np.float32)
    if flat.size <= SAMPLE:
        return flat
    chosen = np.linspace(0, flat.size - 1, SAMPLE).astype(np.int64)
    chosen[-1] = int(np.abs(flat).argmax())
    return flat[chosen]


def describe_error(error: quant.QuantError) -> str:
    """One line of what a range costs: scale, clipped share, both errors and SQNR, with units."""
    quality = "no error" if error.sqnr_db is None else f"{error.sqnr_db:.1f} dB"
    larger = "clipping" if error.clip_error > error.rounding_error else "rounding"
    clipped = f"clipped {100 * error.clipped_fraction:.3g} % of the values"
    errors = f"clipping {error.clip_error:.3g}, rounding {error.rounding_error:.3g}"
    return (
        f"scale = amax / 127 = {error.scale:.5g}; {clipped}; mean squared error: {errors} "
        f"({larger} costs more); signal to noise (SQNR) {quality}"
    )


def amax_slider(
    values: ArrayLike, name: str = "x", amax: float | None = None, *, source: Source = None
) -> ipywidgets.Widget:
    """Move the end of the range and see what is clipped and what is rounded.

    ``values`` float, any shape (at most 20,000 of them are used). The slider sets amax on a log
    scale from a hundredth of max|x| to four times it: arrow keys move it by 2 %, Page Up and Down
    by more.
    """
    x = sample(values, name)
    reach = float(np.abs(x).max())
    if reach == 0:
        raise DataError(f"{name} is all zero", "pass values that differ from 0")
    start = reach if amax is None else float(amax)
    low, high = min(reach / 100, start), max(reach * 4, start)
    fig = figure_widget(slider_figure(x, np.geomspace(low, high, 50), name, start, source))
    places, counts = np.abs(fig.data[0].x), fig.data[0].y + fig.data[1].y
    ends = {"min": math.log10(low), "max": math.log10(high), "step": 0.01}
    slider = ipywidgets.FloatLogSlider(
        start, **ends, description="amax", readout_format=".4g", layout=WIDE
    )

    def move() -> str:
        end = slider.value
        error = quant.quantization_error(x, end / 127)
        fig.data[0].y = np.where(places <= end, counts, 0)
        fig.data[1].y = np.where(places <= end, 0, counts)
        fig.data[-1].x, fig.data[-1].y = [end], [error.mean_squared_error]
        move_ends(fig, -end, end)
        return describe_error(error)

    return moving(move, slider, shown=(fig,))


def range_browser(
    activations: Mapping[str, ArrayLike], ways: Mapping[str, Ranges], *, source: Source = None
) -> ipywidgets.Widget:
    """Choose a tensor and a way of getting its range: what the range keeps and clips of the
    tensor's data.

    ``activations``: tensor name -> float array; ``ways``: label -> what holds ranges (a cache, a
    build, a RangeReport, a mapping to amax). Tensors with data are listed; where the chosen way has
    no range for one, that is said.
    """
    if not activations or not ways:
        raise DataError("no activations or no ranges to browse", "pass at least one of each")
    amax = {label: amax_by_tensor(holder) for label, holder in ways.items()}
    style = {"description_width": "4em"}
    names: Style = {"options": list(activations), "description": "tensor"}
    tensor = ipywidgets.Dropdown(**names, layout=FITTED, style=style)
    way = ipywidgets.ToggleButtons(options=list(ways), description="range", style=style)
    fig = figure_widget(draw.figure(""))
    text = say("")

    def choose() -> None:
        name = tensor.value
        x = sample(activations[name], name)
        end = amax[way.value].get(name)
        if end is None:
            raise DataError(
                f'"{way.value}" has no range for {name}', "choose another tensor or another way"
            )
        redraw(fig, histogram(x, end, name, source=source))
        reach = float(np.abs(x).max())
        unused = max(0, round(127 * (1 - reach / end)))
        text.value = (
            f"largest |x| {reach:.4g}; steps of 127 that no value reaches: {unused}; "
            f"{describe_error(quant.quantization_error(x, end / 127))}"
        )

    return wired(choose, tensor, way, shown=(text, fig))


def describe_cut(threshold: Threshold, bins: int) -> str:
    """One line of what keeping ``bins`` bins means: amax, share clipped, KL, and the least KL."""
    search, width = threshold.search, threshold.width or 0.0
    if search is None:
        return ""
    amax = (bins + 0.5) * width
    beyond = 100 * np.asarray(threshold.counts)[bins:].sum() / threshold.values
    here, least = search.kl[bins - search.first], search.kl[search.chosen - search.first]
    empty = "KL infinite: the last bin is empty but for the clipped values"
    words = f"KL {here:.5g}" if np.isfinite(here) else empty
    return (
        f"{bins} bins kept: amax = ({bins} + 0.5) · {width:.6g} = <b>{amax:.5g}</b>; "
        f"clips {beyond:.3g} % of the values; <b>{words}</b> "
        f"(least: {least:.5g} at {search.chosen} bins, amax {threshold.amax:.5g})"
    )


def kl_slider(
    threshold: Threshold,
    name: str = "x",
    bins: int | None = None,
    tensorrt: float | None = None,
    *,
    source: Source = None,
) -> ipywidgets.Widget:
    """Move the threshold: what P and Q become, and what KL(P||Q) says of it.

    ``tensorrt``, TensorRT's own amax, gets a ring on the curve and a button that goes there.

    ``threshold`` comes from an EntropyObserver; ``bins`` is where the slider starts, by default at
    the choice. Arrow keys move it by one bin, Page Up and Down by more.
    """
    fig = figure_widget(kl(threshold, name, bins, tensorrt, source=source))
    search, width = threshold.search, threshold.width or 0.0
    first = search.first if search else 128
    start, last = bins or threshold.bins_kept or first, len(threshold.counts)
    slider = ipywidgets.IntSlider(start, first, last, description="bins kept", **LABELLED)
    middles = centres(len(threshold.counts), width)
    values = np.asarray(search.kl if search else ())

    def move() -> str:
        bins = slider.value
        p, q = p_and_q(threshold, bins)
        here = values[bins - first]
        end = (bins + 0.5) * width
        fig.data[1].x = fig.data[2].x = middles[:bins]
        fig.data[1].y, fig.data[2].y = on_log_axis(p), on_log_axis(q)
        fig.data[3].x, fig.data[3].y = [middles[bins - 1]], [p[-1] or None]
        fig.data[6].x = [end]
        fig.data[6].y = [max(here, 1e-9) if np.isfinite(here) else None]
        move_ends(fig, end, end)
        return describe_cut(threshold, bins)

    shown = [fig]
    if tensorrt is not None and width:
        shown = [_tensorrts_choice(slider, round(tensorrt / width - 0.5)), fig]
    return moving(move, slider, shown=shown)


def _tensorrts_choice(slider: Any, value: float) -> ipywidgets.Button:
    return button("TensorRT's choice", lambda: setattr(slider, "value", value))


def spike_slider(images: ArrayLike, choice: float, *, source: Source = None) -> ipywidgets.Widget:
    """Move the end of the images' range and see what is left of a digit, beside all pixels.

    ``images`` float32 [N,1,H,W]; the slider starts at max|x|, a button goes to ``choice``, an amax.
    """
    pixels = np.asarray(images, np.float32)
    reach = float(np.abs(pixels).max())
    fig = figure_widget(spike(pixels, reach, source=source))
    slider = ipywidgets.FloatSlider(
        value=reach, min=0.05, max=reach, step=0.005, description="amax", layout=WIDE
    )
    size = np.sort(np.abs(pixels).ravel())
    strokes = int((pixels > background(pixels)[0]).sum())

    def move() -> str:
        amax = slider.value
        clipped = len(size) - int(np.searchsorted(size, amax, side="right"))
        fig.data[2].z = cut_digit(pixels[0], amax)
        move_ends(fig, -amax, amax)
        return (
            f"±{amax:.4g} clips {100 * clipped / len(size):.3g} % of all pixels; "
            f"{100 * strokes / len(size):.3g} % are not background"
        )

    return moving(move, slider, shown=(_tensorrts_choice(slider, choice), fig))


def filling_player(
    threshold: Threshold, name: str = "x", *, source: Source = None
) -> ipywidgets.Widget:
    """Watch the histogram fill, batch by batch: the first batch fixes the bins, a larger value
    doubles their width.

    ``threshold`` comes from an observer with ``keep_steps=True`` (at most 32 of the batches are
    kept).
    """
    steps, reach = threshold.steps, len(threshold.counts) * (threshold.width or 0.0)
    if not steps:
        raise DataError("the threshold holds no steps", "observe with keep_steps=True")
    empty = draw.figure(f"How does the histogram of {name} fill?", showlegend=False)
    draw.line(empty, [], [], color=GOOD, width=1.5, shape="hvh", fill="tozeroy")
    draw.ends(empty, reach)
    dashed = f"|x| of {name} (dashed: end of the last bin)"
    empty.update_xaxes(title=dashed, range=[0, 1.03 * reach])
    counts_axis(empty, max(threshold.counts))
    fig = figure_widget(draw.finish(empty, source))
    options = [(str(step.batch + 1), index) for index, step in enumerate(steps)]
    slider = ipywidgets.SelectionSlider(
        options=options, value=0, description="after batch", **LABELLED
    )

    def move() -> str:
        step = steps[slider.value]
        counts = np.asarray(step.counts)
        end = len(counts) * step.width
        fig.data[0].x, fig.data[0].y = centres(len(counts), step.width), on_log_axis(counts)
        move_ends(fig, end)
        doubled = round(np.log2(step.width / steps[0].width)) if steps[0].width else 0
        state = f"doubled {plural(doubled, 'time')}" if doubled else "as the first batch set it"
        return (
            f"after batch {step.batch + 1}: {int(counts.sum()):,} values other than 0 counted; "
            f"this batch's max|x| {step.batch_amax:.5g}; bin width {step.width:.6g} ({state}); "
            f"the bins reach to {end:.5g}"
        )

    return moving(move, slider, shown=(fig,))


def follow_pixel(
    run: Int8Run, layer: str | None = None, *, source: Source = None
) -> ipywidgets.Widget:
    """Move a convolution's window over its input: the products, their sum, and the output's code.

    ``run`` is what ``Build.simulate`` gave; ``layer`` one of its ``convolutions``, by default the
    first; of the batch the first image. Arrow keys move the window by one output pixel.
    """
    scene = PixelScene(run, layer)
    channel, row, column = scene.strongest
    maps, rows, columns = scene.output.shape
    sliders = []
    for value, count, name in (
        (row, rows, "row"),
        (column, columns, "column"),
        (channel, maps, "channel"),
    ):
        sliders.append(ipywidgets.IntSlider(value, 0, count - 1, description=name, **LABELLED))
    down, across, depth = sliders
    fig = figure_widget(scene_figure(scene, scene.at(channel, row, column), source))

    def move() -> str:
        pixel = scene.at(depth.value, down.value, across.value)
        fig.data[0].z, fig.data[2].z = scene.inputs[pixel.source], scene.output[depth.value]
        for note, words in zip(fig.layout.annotations, pixel.titles, strict=False):
            note.text = words
        fig.data[1].z, fig.data[1].text = pixel.products, pixel.words
        fig.data[3].x, fig.data[3].y = [across.value], [down.value]
        frame = fig.layout.shapes[0]
        frame.x0, frame.y0, frame.x1, frame.y1 = pixel.frame
        return describe_pixel(pixel)

    return moving(move, *sliders, shown=(fig,))


def tradeoff_explorer(
    groups: Mapping[str, Tradeoff | Iterable[Build]],
) -> ipywidgets.Widget:
    """Accuracy against latency, throughput, size, memory or build time, with the Pareto front, a
    panel a batch size.

    ``groups``: what the list calls them -> engines of one network, measured on one machine.
    """
    if not groups:
        raise DataError(
            "no engines to explore", "pass {'resnet': tl.recorded.tradeoff('points-resnet')}"
        )
    whole = {
        name: group if isinstance(group, Tradeoff) else tradeoff_of(group)
        for name, group in groups.items()
    }
    look: Style = {"layout": FITTED, "style": {"description_width": "4em"}}
    engines = ipywidgets.Dropdown(options=list(groups), description="engines", **look)
    cost = ipywidgets.Dropdown(options=list(COSTS), description="against", **look)
    hide = ipywidgets.Checkbox(value=False, description="hide engines below 90 %", indent=False)
    fig = figure_widget(draw.figure(""))

    def choose() -> None:
        group = whole[engines.value]
        least = ALMOST_ALL if hide.value else 0.0
        shown = [point for point in group.points if (point.quality or 0) >= least]
        title = f"{engines.value}: which engine does nothing else beat?"
        redraw(fig, tradeoff(shown, cost.value, title=title, source=group.provenance))

    return wired(choose, engines, cost, hide, shown=(fig,))


def factor_slider(
    factors: RangeFactors,
    images: ArrayLike,
    labels: ArrayLike,
    rows: Sequence[int] = (0, 1, 4, 5, 6, 7, 8, 23),
    *,
    source: Source = None,
) -> ipywidgets.Widget:
    """One slider that breaks a network: every range times a factor.

    With it move some digits as the input's range leaves them, their answers, the accuracy, the
    share of values clipped and the codes in use. ``factors``: ``tl.recorded.range_factors()``;
    ``images`` float32 [N,1,H,W] and ``labels`` [N]: the test images; ``rows``: those shown.
    """
    pixels, right = np.asarray(images, np.float32), np.asarray(labels)
    chosen = [row for row in rows if row < factors.count]
    label = source or factors.provenance
    accuracies = factors.accuracies(right)
    start = min(factors.trials, key=lambda trial: abs(math.log(trial.factor)))
    digits = figure_widget(_digit_row(pixels[chosen], label))
    curves = figure_widget(_factor_curves(factors, accuracies, start.factor, label))
    options = [(_times(trial), index) for index, trial in enumerate(factors.trials)]
    slider = ipywidgets.SelectionSlider(
        options=options, value=factors.trials.index(start), description="ranges", layout=WIDE
    )

    def move() -> str:
        trial = factors.trials[slider.value]
        seen = as_seen(pixels[chosen], INPUT_AMAX * trial.factor)
        digits.data[0].z = mosaic(seen[np.newaxis])
        looks = [answer_look(int(trial.classes[i]), int(right[i])) for i in chosen]
        digits.data[1].text = [look["text"] for look in looks]
        digits.data[1].textfont.color = [look["font"]["color"] for look in looks]
        move_ends(curves, *[trial.factor] * 3)
        return describe_factor(trial, accuracies[slider.value], factors.count)

    return moving(move, slider, shown=(digits, curves))


INPUT_AMAX = 2.0  # what bare --int8 gives a network's input


def _times(trial: FactorTrial) -> str:
    return f"× {trial.factor:.3g}" if trial.factor < 1000 else f"× {trial.factor:.0f}"


def describe_factor(trial: FactorTrial, accuracy: float, count: int) -> str:
    """One line of what a factor does."""
    low, high = INPUT_AMAX * trial.factor, 2 * INPUT_AMAX * trial.factor
    return (
        f"ranges ±{low:.4g} and ±{high:.4g}: "
        f"<b>{100 * accuracy:.1f} %</b> of {count} images right; "
        f"{100 * trial.clipped:.2g} % of all values clipped; "
        f"{trial.codes:g} of 256 codes in use (the median tensor)"
    )


def _digit_row(images: NDArray[np.float32], source: Source) -> Any:
    fig = board(
        "What is left of the digits, and what does the network answer?", images[None], images
    )
    places = [place_of(0, column, images.shape) for column in range(len(images))]
    x, y = zip(*places, strict=True)
    font = {"size": 12, "color": [INK] * len(x)}
    look: Style = {"mode": "text", "text": [""] * len(x), "textfont": font}
    fig.add_scatter(x=x, y=y, **look, textposition="bottom center", hoverinfo="skip")
    fig.update_layout(height=230)
    fig.update_yaxes(range=[fig.data[0].z.shape[0] + 2, -1])
    return draw.finish(fig, source)


def _factor_curves(
    factors: RangeFactors, accuracies: Sequence[float], start: float, source: Source
) -> Any:
    x = [trial.factor for trial in factors.trials]
    titles = ("right answers, %", "values clipped, %", "codes in use, of 256")
    series = (
        [100 * accuracy for accuracy in accuracies],
        [100 * trial.clipped for trial in factors.trials],
        [trial.codes for trial in factors.trials],
    )
    fig = draw.panels("Too small, fitting, too large?", titles, height=300)
    look: Style = {"hover": "× %{x:.3g}: %{y:.3g}", "marks": 6}
    for column, values in enumerate(series, 1):
        draw.line(fig, x, values, color=GOOD, **look, panel=(1, column))
        draw.ends(fig, start, panel=(1, column))
        draw.log_axis(fig, "x", "factor", x, panel=(1, column))
        fig.update_yaxes(rangemode="tozero", row=1, col=column)
    fig.update_layout(showlegend=False)
    return draw.finish(fig, source)


def repair_switches(repairs: Repairs, *, source: Source = None) -> ipywidgets.Widget:
    """Give tensors min-max's range instead of entropy 2's, and see the right answers at once.

    ``repairs`` is what ``tl.recorded.repairs()`` gives: every choice was computed before.
    """
    fig = figure_widget(repair_preview(repairs, source=source))
    switches = {name: switch(name) for name in repairs.tensors}

    def move() -> str:
        repaired = [name for name, one in switches.items() if one.value]
        share = repairs.accuracy(repaired)
        bars, now = fig.data[0], repair_preview(repairs, repaired).data[0]
        bars.x, bars.text, bars.marker.color = now.x, now.text, now.marker.color
        move_ends(fig, share)
        right = plural(round(share * repairs.count), "right answer")
        return (
            f"min-max's range for {', '.join(repaired) or 'no tensor'}, entropy 2's for the rest: "
            f"<b>{share:.1%}</b> ({right} of {repairs.count})"
        )

    return moving(move, *switches.values(), shown=(fig,), row=True)
