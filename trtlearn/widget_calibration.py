"""Widgets of the calibration notebooks: a threshold to move over the KL curve, a histogram to watch filling."""

from __future__ import annotations

import numpy as np

from .panels import guarded, ipywidgets, say, stack
from .plots_calibration import centres, histogram_figure, kl_figure, on_log_axis, p_and_q
from .record import plural
from .records import Provenance
from .thresholds import Threshold
from .widgets import figure_widget

__all__ = ["histogram_player", "kl_slider"]

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
    found = f"KL {kl:.5g}" if np.isfinite(kl) else "KL infinite: the last bin is empty but for the clipped values"
    best = search.kl[search.chosen - search.first]
    return (
        f"{kept} bins kept: amax = ({kept} + 0.5) · {width:.6g} = <b>{(kept + 0.5) * width:.5g}</b>; "
        f"clips {beyond:.3g} % of the values; <b>{found}</b> "
        f"(least: {best:.5g} at {search.chosen} bins, amax {threshold.amax:.5g})"
    )


def kl_slider(
    threshold: Threshold, name: str = "x", kept: int | None = None, *, source: Provenance | str | None = None
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
            fig.data[6].x, fig.data[6].y = [(bins + 0.5) * width], [max(here, 1e-9) if np.isfinite(here) else None]
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
