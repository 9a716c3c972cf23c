"""Plots with controls: each function returns an ipywidgets Widget that works by mouse and by keyboard.

Nothing is displayed here. Callbacks call pure functions; whatever they raise is shown to the reader in place.
"""

from __future__ import annotations

import html
import typing
from collections.abc import Mapping
from typing import Any

import numpy as np

from . import progress, quant
from .errors import DataError, TrtlearnError
from .panels import alert, guarded, ipywidgets, say, stack
from .plots import Ranges, amax_by_name
from .plots_slider import Histogram, error_curves, slider_figure
from .records import Provenance
from .verdicts import Prediction
from .widget_explain import explainer_widget

if typing.TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

__all__ = ["explainer_widget", "prediction_widget", "quantize_slider", "ranges_browser"]

SAMPLE = 20_000  # values a slider works on: enough for the picture, few enough for 150 ms


def figure_widget(fig: Any) -> Any:
    """``fig`` as a plotly FigureWidget; TrtlearnError where anywidget is missing."""
    import plotly.graph_objects as go

    try:
        widget = go.FigureWidget(fig)
    except ImportError:
        raise TrtlearnError("moving figures need the package anywidget", "pip install 'trtlearn[lab]'") from None
    widget._config = {**widget._config, "responsive": True, "displaylogo": False, "showSendToCloud": False}
    return widget


def redraw(widget: Any, fig: Any) -> None:
    """Show ``fig`` in ``widget``, a FigureWidget, whatever it showed before.

    A new FigureWidget for each picture would send the whole of plotly.js to the page again: 4 MB.
    """
    for name in set(widget.layout.to_plotly_json()) - set(fig.layout.to_plotly_json()):
        widget.layout[name] = None  # the page keeps what is not named, the axes of a panel that is gone
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
    values: ArrayLike, name: str = "x", amax: float | None = None, *, source: Provenance | str | None = None
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
        error = quant.errors(x, slider.value / 127)
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
    tensor = ipywidgets.Dropdown(options=list(activations), description="tensor", layout=wide, style=style)
    way = ipywidgets.ToggleButtons(options=list(reports), description="range", style=style)
    text, problem = say(""), say("")
    first = sample(activations[tensor.value], tensor.value)
    largest = max(amax[way.value].get(tensor.value, 0.0), float(np.abs(first).max()), 1e-30)
    fig = figure_widget(slider_figure(Histogram(first, largest), None, tensor.value, largest, source))

    def choose() -> None:
        name = tensor.value
        x = sample(activations[name], name)
        end = amax[way.value].get(name)
        if end is None:
            raise DataError(f'"{way.value}" has no range for {name}', "choose another tensor or another way")
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
            f"reaches: {idle}; {describe_error(quant.errors(x, end / 127))}"
        )

    for control in (tensor, way):
        control.observe(guarded(choose, problem), "value")
    guarded(choose, problem)()
    return stack(tensor, way, problem, text, fig)


def prediction_widget(prediction: Prediction, answer: str | None = None) -> ipywidgets.Widget:
    """The question with radio buttons; a choice is kept in the reader's progress and can be changed."""
    buttons = ipywidgets.RadioButtons(
        options=list(prediction.options),
        value=answer if answer in prediction.options else None,
        layout={"width": "max-content"},
    )
    note = say("")

    def keep() -> None:
        if buttons.value is None:
            note.value = "Choose one before you go on; the measurement below answers."
            return
        problem = progress.note(prediction.id, answer=buttons.value)
        kept = alert(problem) if problem else "Kept. Go on: the measurement below answers."
        note.value = f'<span role="status">{kept}</span>'

    buttons.observe(guarded(keep, note, clear=False), "value")
    guarded(keep, note, clear=False)()
    return stack(say(f"<b>Predict: {html.escape(prediction.question)}</b>"), buttons, note)
