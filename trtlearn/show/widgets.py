"""The trade-off to explore: choose the engines, what they cost, and whether those that are mostly wrong are shown."""

from __future__ import annotations

import typing
from collections.abc import Mapping
from typing import Any

import numpy as np

from ..calibration.observers import Threshold
from ..engine.records import Provenance
from ..errors import DataError, TrtlearnError
from ..int8 import quant
from ..record import plural
from ..recorded.tradeoffs import Tradeoff
from .calibration import centres, histogram_figure, kl_figure, on_log_axis, p_and_q
from .commands import explainer_widget
from .controls import guarded, ipywidgets, say, stack
from .numbers import Histogram, error_curves, slider_figure
from .tensor_ranges import Ranges, amax_by_name
from .theme import figure
from .tradeoffs import COSTS, scatter

__all__ = [
    "explainer_widget",
    "histogram_player",
    "kl_slider",
    "quantize_slider",
    "ranges_browser",
    "tradeoff_explorer",
]


# --- Plots with controls: each function returns an ipywidgets Widget that works by mouse and by keyboard.

if typing.TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray


SAMPLE = 20_000  # values a slider works on: enough for the picture, few enough for 150 ms


def figure_widget(fig: Any) -> Any:
    """``fig`` as a plotly FigureWidget; TrtlearnError where anywidget is missing."""
    import plotly.graph_objects as go

    try:
        widget = go.FigureWidget(fig)
    except ImportError:
        raise TrtlearnError(
            "moving figures need the package anywidget", "pip install 'trtlearn[lab]'"
        ) from None
    widget._config = {
        **widget._config,
        "responsive": True,
        "displaylogo": False,
        "showSendToCloud": False,
    }
    return widget


def redraw(widget: Any, fig: Any) -> None:
    """Show ``fig`` in ``widget``, a FigureWidget, whatever it showed before.

    A new FigureWidget for each picture would send the whole of plotly.js to the page again: 4 MB.
    """
    for name in set(widget.layout.to_plotly_json()) - set(fig.layout.to_plotly_json()):
        widget.layout[name] = (
            None  # the page keeps what is not named, the axes of a panel that is gone
        )
    widget.data = ()
    widget.add_traces(fig.data)
    widget.layout = fig.layout


def sample(values: ArrayLike, name: str, count: int = SAMPLE) -> NDArray[np.float32]:
    """At most ``count`` of the values, evenly spaced and the largest |x| always among them, as float32 [N].

    >>> sample([3.0, -5.0, 1.0], "x", 2).tolist()
    [3.0, -5.0]
    """
    flat = np.asarray(values, np.float32).ravel()
    if flat.size == 0 or not np.isfinite(flat).all():
        raise DataError(f"{name} is empty or holds NaN or infinity", "pass finite numbers")
    if flat.size <= count:
        return flat
    chosen = np.linspace(0, flat.size - 1, count).astype(np.int64)
    chosen[-1] = int(np.abs(flat).argmax())
    return flat[chosen]


def describe_error(error: quant.QuantError) -> str:
    """One line of what a range costs: scale, clipped share, both errors and SQNR, with units."""
    quality = "no error" if error.sqnr_db is None else f"{error.sqnr_db:.1f} dB"
    larger = "clipping" if error.clip_error > error.rounding_error else "rounding"
    return (
        f"scale = amax / 127 = {error.scale:.5g}; clipped {100 * error.clipped_fraction:.3g} % of the values; mean "
        f"squared error: clipping {error.clip_error:.3g}, rounding {error.rounding_error:.3g} ({larger} costs more); "
        f"signal to noise (SQNR) {quality}"
    )


def quantize_slider(
    values: ArrayLike,
    name: str = "x",
    amax: float | None = None,
    *,
    source: Provenance | str | None = None,
) -> ipywidgets.Widget:
    """Move the end of the range and see what is clipped and what is rounded.

    ``values`` float, any shape (at most 20,000 of them are used). The slider sets amax on a log scale from a
    hundredth of max|x| to four times it: arrow keys move it by 2 %, Page Up and Down by more.
    """
    x = sample(values, name)
    reach = float(np.abs(x).max())
    if reach == 0:
        raise DataError(f"{name} is all zero", "pass values that differ from 0")
    start = reach if amax is None else float(amax)
    low, high = float(np.log10(min(reach / 100, start))), float(np.log10(max(reach * 4, start)))
    histogram = Histogram(x, 10**high)
    curves = error_curves(x, 10**low, 10**high)
    fig = figure_widget(slider_figure(histogram, curves, name, start, source))
    slider = ipywidgets.FloatLogSlider(
        value=start,
        base=10,
        min=low,
        max=high,
        step=0.01,
        description="amax",
        readout_format=".4g",
        continuous_update=True,
        layout={"width": "98%"},
    )
    text, problem = say(""), say("")

    def move() -> None:
        error = quant.quantization_error(x, slider.value / 127)
        kept, lost = histogram.split(slider.value)
        with fig.batch_update():
            fig.data[0].y, fig.data[1].y = kept, lost
            fig.data[-1].x, fig.data[-1].y = [slider.value], [error.mean_squared_error]
            for shape, end in zip(fig.layout.shapes, (-slider.value, slider.value), strict=False):
                shape.x0 = shape.x1 = end
        text.value = describe_error(error)

    slider.observe(guarded(move, problem), "value")
    guarded(move, problem)()
    return stack(slider, problem, text, fig)


def ranges_browser(
    activations: Mapping[str, ArrayLike],
    reports: Mapping[str, Ranges],
    *,
    source: Provenance | str | None = None,
) -> ipywidgets.Widget:
    """Choose a tensor and a way of getting its range: what the range keeps and clips of the tensor's data.

    ``activations``: tensor name -> float array; ``reports``: label -> RangeReport or TensorRanges. Tensors with
    data are listed; where the chosen report has no range for one, that is said.
    """
    if not activations or not reports:
        raise DataError("no activations or no ranges to browse", "pass at least one of each")
    amax = {label: amax_by_name(ranges) for label, ranges in reports.items()}
    wide = {"width": "max-content", "max_width": "98%"}
    style = {"description_width": "4em"}
    tensor = ipywidgets.Dropdown(
        options=list(activations), description="tensor", layout=wide, style=style
    )
    way = ipywidgets.ToggleButtons(options=list(reports), description="range", style=style)
    text, problem = say(""), say("")
    first = sample(activations[tensor.value], tensor.value)
    largest = max(amax[way.value].get(tensor.value, 0.0), float(np.abs(first).max()), 1e-30)
    fig = figure_widget(
        slider_figure(Histogram(first, largest), None, tensor.value, largest, source)
    )

    def choose() -> None:
        name = tensor.value
        x = sample(activations[name], name)
        end = amax[way.value].get(name)
        if end is None:
            raise DataError(
                f'"{way.value}" has no range for {name}', "choose another tensor or another way"
            )
        histogram = Histogram(x, max(end, float(np.abs(x).max())))
        kept, lost = histogram.split(end)
        with fig.batch_update():
            for trace, counts in zip(fig.data[:2], (kept, lost), strict=True):
                trace.x, trace.width, trace.y = histogram.centres, histogram.widths, counts
            for shape, place in zip(fig.layout.shapes, (-end, end), strict=False):
                shape.x0 = shape.x1 = place
            fig.layout.title.text = f"What does ±{end:.4g} keep of {name}?"
            fig.layout.xaxis.range = histogram.span
            fig.layout.xaxis.title.text = f"value of {name} (dashed: ±{end:.4g}, {way.value})"
        idle = max(0, round(127 * (1 - float(np.abs(x).max()) / end)))
        text.value = (
            f"largest |x| {float(np.abs(x).max()):.4g}; steps of 127 that no value "
            f"reaches: {idle}; {describe_error(quant.quantization_error(x, end / 127))}"
        )

    for control in (tensor, way):
        control.observe(guarded(choose, problem), "value")
    guarded(choose, problem)()
    return stack(tensor, way, problem, text, fig)


# --- Widgets of the calibration notebooks: a threshold to move over the KL curve, a histogram to watch filling.

WIDE = {"width": "98%"}
STYLE = {"description_width": "6em"}


def describe_cut(threshold: Threshold, kept: int) -> str:
    """One line of what keeping ``kept`` bins means: amax, share clipped, KL, and the least KL."""
    search, width = threshold.search, threshold.width or 0.0
    if search is None:
        return ""
    counts = np.asarray(threshold.counts)
    beyond = 100 * counts[kept:].sum() / threshold.values
    kl = search.kl[kept - search.first]
    found = (
        f"KL {kl:.5g}"
        if np.isfinite(kl)
        else "KL infinite: the last bin is empty but for the clipped values"
    )
    best = search.kl[search.chosen - search.first]
    return (
        f"{kept} bins kept: amax = ({kept} + 0.5) · {width:.6g} = <b>{(kept + 0.5) * width:.5g}</b>; "
        f"clips {beyond:.3g} % of the values; <b>{found}</b> "
        f"(least: {best:.5g} at {search.chosen} bins, amax {threshold.amax:.5g})"
    )


def kl_slider(
    threshold: Threshold,
    name: str = "x",
    kept: int | None = None,
    *,
    source: Provenance | str | None = None,
) -> ipywidgets.Widget:
    """Move the threshold: what P and Q become, and what KL(P||Q) says of it.

    ``threshold`` comes from an EntropyObserver; ``kept`` is where the slider starts, by default at the choice. Arrow
    keys move it by one bin, Page Up and Down by more.
    """
    fig = figure_widget(kl_figure(threshold, name, kept, source=source))
    search, width = threshold.search, threshold.width or 0.0
    first = search.first if search else 128
    slider = ipywidgets.IntSlider(
        value=kept or threshold.bins_kept or first,
        min=first,
        max=len(threshold.counts),
        description="bins kept",
        layout=WIDE,
        style=STYLE,
    )
    text, problem = say(""), say("")
    middles = centres(len(threshold.counts), width)
    kl = np.asarray(search.kl if search else ())

    def move() -> None:
        bins = slider.value
        p, q = p_and_q(threshold, bins)
        here = kl[bins - first]
        with fig.batch_update():
            fig.data[1].x = fig.data[2].x = middles[:bins]
            fig.data[1].y, fig.data[2].y = on_log_axis(p), on_log_axis(q)
            fig.data[3].x, fig.data[3].y = [middles[bins - 1]], [p[-1] or None]
            fig.data[6].x, fig.data[6].y = (
                [(bins + 0.5) * width],
                [max(here, 1e-9) if np.isfinite(here) else None],
            )
            for shape in fig.layout.shapes:
                shape.x0 = shape.x1 = (bins + 0.5) * width
        text.value = describe_cut(threshold, bins)

    slider.observe(guarded(move, problem), "value")
    guarded(move, problem)()
    return stack(slider, problem, text, fig)


def histogram_player(
    threshold: Threshold, name: str = "x", *, source: Provenance | str | None = None
) -> ipywidgets.Widget:
    """Watch the histogram fill, batch by batch: the first batch fixes the bins, a larger value doubles their width.

    ``threshold`` comes from an observer with ``keep_steps=True`` (at most 32 of the batches are kept).
    """
    fig = figure_widget(histogram_figure(threshold, name, source=source))
    steps = threshold.steps
    numbers = [step.batch for step in steps]
    slider = ipywidgets.SelectionSlider(
        options=[(str(number + 1), index) for index, number in enumerate(numbers)],
        value=0,
        description="after batch",
        layout=WIDE,
        style=STYLE,
    )
    text, problem = say(""), say("")

    def move() -> None:
        step = steps[slider.value]
        counts = np.asarray(step.counts)
        with fig.batch_update():
            fig.data[0].x, fig.data[0].y = centres(len(counts), step.width), on_log_axis(counts)
            for shape in fig.layout.shapes:
                shape.x0 = shape.x1 = len(counts) * step.width
        doubled = round(np.log2(step.width / steps[0].width)) if steps[0].width else 0
        state = f"doubled {plural(doubled, 'time')}" if doubled else "as the first batch set it"
        text.value = (
            f"after batch {step.batch + 1}: {int(counts.sum()):,} values other than 0 counted; this batch's max|x| "
            f"{step.batch_amax:.5g}; bin width {step.width:.6g} ({state}); "
            f"the bins reach to {len(counts) * step.width:.5g}"
        )

    slider.observe(guarded(move, problem), "value")
    guarded(move, problem)()
    return stack(slider, problem, text, fig)


# --- The trade-off to explore: choose the engines, what they cost, and whether those that are mostly wrong are shown.

TRADEOFF_STYLE = {"description_width": "4em"}
USELESS = 0.9  # below this share of right answers a point may be hidden


def tradeoff_explorer(groups: Mapping[str, Tradeoff]) -> ipywidgets.Widget:
    """Accuracy against latency, throughput, size, memory or build time, with the Pareto front, a panel a batch size.

    ``groups``: what the list calls them -> engines of one network.
    """
    if not groups:
        raise DataError(
            "no engines to explore", "pass {'resnet': open_tradeoff().tradeoff('points-resnet')}"
        )
    wide = {"width": "max-content", "max_width": "98%"}
    engines = ipywidgets.Dropdown(
        options=list(groups), description="engines", layout=wide, style=TRADEOFF_STYLE
    )
    cost = ipywidgets.Dropdown(
        options=list(COSTS), description="against", layout=wide, style=TRADEOFF_STYLE
    )
    hide = ipywidgets.Checkbox(value=False, description="hide engines below 90 %", indent=False)
    problem = say("")
    fig = figure_widget(figure(""))

    def draw() -> None:
        whole = groups[engines.value]
        points = [p for p in whole.points if not hide.value or (p.accuracy or 0) >= USELESS]
        question = f"{engines.value}: which engine does nothing else beat?"
        redraw(fig, scatter(points, cost.value, question, whole.provenance.label()))

    for control in (engines, cost, hide):
        control.observe(guarded(draw, problem), "value")
    guarded(draw, problem)()
    return stack(engines, cost, hide, problem, fig)
