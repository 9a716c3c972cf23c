"""Figures about whole experiments: what a build cost and won, its layers' types, what it took for what."""

from __future__ import annotations

import typing
from collections.abc import Mapping, Sequence

import numpy as np

from .colors import INK, SERIES, dtype_color, figure, footer
from .engine_records import EngineInfo
from .errors import DataError
from .plots_numbers import source_label, tall
from .record import show
from .records import Experiment, Predictions, Provenance

if typing.TYPE_CHECKING:
    import plotly.graph_objects as go
    from numpy.typing import ArrayLike

__all__ = ["confusion", "engine_dtypes", "lowest_dtype", "tradeoff"]


def tradeoff(
    experiments: Sequence[Experiment],
    *,
    labels: Mapping[str, str] | None = None,
    question: str = "What does each way cost, and what does it win?",
) -> go.Figure:
    """Accuracy, latency and plan size of each experiment, side by side; what was not measured is written "unknown".

    ``labels`` maps a variant to plain words. Latency is the median of a batch, with the 5 to 95 % spread as a bar.
    """
    from plotly.subplots import make_subplots

    if not experiments:
        raise DataError("no experiment to draw", "pass the results of bench.run(variant)")
    names = [(labels or {}).get(one.variant, one.variant) for one in experiments]
    batch = next((one.timing.batch for one in experiments if one.timing), None)
    titles = ("test images right, %", f"median latency, ms per batch of {show(batch)}", "plan size, kB")
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


def lowest_dtype(experiment: Experiment) -> str | None:
    """The narrowest type that some layer's weights have in the built engine: what the bars are coloured by."""
    found = {layer.weight_dtype for layer in experiment.engine.layers}
    return next((dtype for dtype in ("int8", "fp16", "fp32") if dtype in found), None)


def engine_dtypes(
    engine: EngineInfo, *, question: str = "In which type does each layer work?", source: Provenance | str | None = None
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
                "color": ["rgba(0,0,0,0)" if dtype == "none listed" else dtype_color(dtype) for dtype in types],
                "line": {"color": INK, "width": 1},
            },
            textfont={"color": [INK if dtype == "none listed" else "white" for dtype in types]},
            hovertext=[layer.name for layer in engine.layers],
            hovertemplate="%{hovertext}<br>" + title + ": %{text}<extra></extra>",
        )
    fig.update_layout(barmode="stack", bargap=0.2)
    fig.update_yaxes(tickvals=where, ticktext=[row[0] for row in rows], autorange="reversed", showgrid=False)
    fig.update_xaxes(
        tickvals=[0.5, 1.5, 2.5], ticktext=["input", "weights", "output"], side="top", range=[0, 3], showgrid=False
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
        raise DataError(f"{truth.size} labels for {answer.size} predictions", "pass the labels of the same images")
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
