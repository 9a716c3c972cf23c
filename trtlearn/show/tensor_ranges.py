"""Ranges of tensors: beside what the data need, beside each other, and what repairing one gives."""

from __future__ import annotations

import itertools
from collections.abc import Collection, Mapping
from typing import Any

from numpy.typing import ArrayLike

from ..builds import Build
from ..calibration.cache import CalibrationCache
from ..calibration.fitting import FitReport, TensorFit, fit_tensors
from ..calibration.ranges import Ranges, amax_by_tensor
from ..errors import DataError
from ..int8.quant import finite_array
from ..record import plural
from ..recorded.computed import Repairs
from . import draw
from .draw import BAD, GOOD, INK, SERIES, WARN, Figure, Source, Style

__all__ = ["fit", "ranges", "scales"]


def fit(
    report: FitReport,
    *,
    title: str = "Does each range fit what the data need?",
    source: Source = None,
) -> Figure:
    """Each tensor's range beside what its data need, the worst first.

    ``report`` is what ``tl.fit(...)`` gives; tensors without a range or without data are counted
    below. The text at the right says what share the range clips, or how many of the 127 steps no
    value reaches.

    >>> fit(fit_tensors({"x": 4.0}, {"x": [1.0, 9.0]})).data[0].name
    'range given'
    """
    if not isinstance(report, FitReport):
        raise DataError(
            f"tl.show.fit draws what tl.fit gives, not a {type(report).__name__}",
            "tl.show.fit(tl.fit(cache, model, data)); of ranges alone tl.show.ranges(cache)",
        )
    tensors = report.tensors
    names, rows = [tensor.name for tensor in tensors], list(range(len(tensors)))
    fig = draw.figure(title, rows=len(names))
    for name, field, symbol, color, size in (
        ("range given", "amax", "line-ns-open", INK, 15),
        ("largest |x| in the data", "largest", "circle", SERIES[0], 9),
        ("99.9 % of |x| is below", "most", "diamond", SERIES[2], 8),
    ):
        look: Style = {"symbol": symbol, "color": color, "size": size}
        x = [getattr(tensor, field) for tensor in tensors]
        hover = "%{customdata}: %{x:.4g}<extra>%{fullData.name}</extra>"
        draw.points(fig, x, rows, name, **look, hover=hover, customdata=names)
    for row, tensor in enumerate(tensors):
        color, dash = (BAD, "solid") if tensor.advice else (GOOD, "dot")
        draw.line(fig, [tensor.amax, tensor.largest], [row, row], color=color, dash=dash)
        text, font = _waste(tensor), {"size": 11}
        draw.note(fig, text, 1, row, xref="paper", xanchor="left", xshift=8, font=font)
    left = len(report.stale) + len(report.internal) + len(report.missing)
    rest = f"; {plural(left, 'tensor')} without data or range left out" if left else ""
    draw.name_rows(fig, names)
    amax, largest = [tensor.amax for tensor in tensors], [tensor.largest for tensor in tensors]
    draw.log_axis(fig, "x", "|x|", [*amax, *largest, *(tensor.most for tensor in tensors)])
    fig.update_layout(margin={"r": 165})
    return draw.finish(fig, source, rest)


def _waste(tensor: TensorFit) -> str:
    """What a range costs its tensor: values clipped, or steps that no value reaches."""
    if tensor.clipped:
        return f"clips {100 * tensor.clipped:.2g} %"
    unused = max(0, round(127 * (1 - tensor.largest / tensor.amax))) if tensor.amax else 127
    return f"{unused} of 127 steps unused"


def ranges(
    holder: Ranges, activations: Mapping[str, ArrayLike] | None = None, *, source: Source = None
) -> Figure:
    """:func:`fit` for tensors at hand: ``activations`` maps tensor names to arrays of any shape.

    ``holder``: what holds the ranges, a cache or its file, a build, a RangeReport or {tensor:
    amax}. Without activations the ranges alone are drawn.

    >>> ranges({"x": 4.0}, {"x": [1.0, 9.0]}).data[0].name
    'range given'
    """
    if activations is None:
        return scales(holder, title="Which range does each tensor have?", source=source)
    if not isinstance(activations, Mapping):
        raise DataError(
            f"the activations are a {type(activations).__name__}, expected {{tensor: values}}",
            "a model and its data: tl.show.fit(tl.fit(cache, model, data))",
        )
    arrays = {name: finite_array(values, name) for name, values in activations.items()}
    return fit(fit_tensors(holder, arrays), source=source)


def scales(
    ways: Ranges | Mapping[str, Ranges],
    *,
    title: str = "Which range does each way give?",
    source: Source = None,
) -> Figure:
    """Every tensor's amax, one mark for each way of getting it.

    ``ways`` maps a label to what holds ranges, for example ``{"entropy2": cache, "min-max":
    build}``; or it is one cache, build, report or {tensor: amax}.

    >>> scales({"a": {"x": 4.0}, "b": {"x": 2.0}}).data[1].name
    'b'
    """
    holders = _by_label(ways)
    amax = {way: amax_by_tensor(holder) for way, holder in holders.items()}
    names = list(dict.fromkeys(itertools.chain(*amax.values())))
    fig = draw.figure(title, rows=len(names))
    for index, (way, tensors) in enumerate(amax.items()):
        rows = [names.index(name) for name in tensors]
        facts = [f"{name}: ±{end:.5g}, scale {end / 127:.5g}" for name, end in tensors.items()]
        draw.points(fig, list(tensors.values()), rows, way, like=index, size=10, hover=facts)
    draw.name_rows(fig, names)
    fig.update_yaxes(showgrid=True)
    every = itertools.chain(*(tensors.values() for tensors in amax.values()))
    draw.log_axis(fig, "x", "amax: the range is ±amax", list(every))
    if source is None:
        builds = [holder for holder in holders.values() if isinstance(holder, Build)]
        source = builds[0].provenance if builds else "ranges as given"
    return draw.finish(fig, source)


def _by_label(ways: Any) -> dict[str, Any]:
    """Label -> what holds ranges; one holder alone is called "range"."""
    is_labelled = isinstance(ways, Mapping) and not isinstance(ways, CalibrationCache)
    if not is_labelled or all(isinstance(value, (int, float)) for value in ways.values()):
        return {"range": ways}
    return dict(ways)


def repair_preview(
    repairs: Repairs, repaired: Collection[str] = (), *, source: Source = None
) -> Figure:
    """A bar a tensor: the share of right answers if this one, too, is switched; dashed: now.

    ``repaired``: the tensors that have min-max's range already; switching one of them takes it
    back.
    """
    names = repairs.tensors
    shares = [repairs.accuracy(set(repaired) ^ {name}) for name in names]
    marks = ["off again" if name in repaired else "on" for name in names]
    texts = [f"{share:.1%}, {mark}" for share, mark in zip(shares, marks, strict=True)]
    colors = [GOOD if name in repaired else WARN for name in names]
    question = "What would one more switch do?"
    fig = draw.figure(question, rows=len(names), showlegend=False)
    draw.bars(fig, list(range(len(names))), shares, color=colors, texts=texts)
    draw.ends(fig, repairs.accuracy(repaired))
    draw.name_rows(fig, names)
    fig.update_xaxes(title="right answers (dashed: now)", range=[0, 1.25], tickformat=".0%")
    fig.update_xaxes(tickvals=[0, 0.25, 0.5, 0.75, 1])
    return draw.finish(fig, source or repairs.provenance)
