"""Edit a calibration cache, and see at once what TensorRT does with it."""

from __future__ import annotations

import os
import warnings
from functools import partial
from typing import Any

from ..calibration.cache import CalibrationCache, parse_cache
from ..calibration.cache_reading import ODDITIES, CacheReading, as_tensorrt_reads
from ..calibration.names import NameCheck
from ..errors import CacheError, DataError
from ..files import load_table
from ..model.graph import OnnxModel
from ..model.read import read_model
from ..record import html_table, html_text, plural, show
from .controls import badge, beside, button, guarded, ipywidgets, say, stack
from .draw import BAD, GOOD, INK, WARN, short

__all__ = ["cache_editor"]

BUTTONS: dict[str, str] = load_table("cache_edits")
"""Recorded case -> what its button says."""

HALF = {"flex": "1 1 22em", "min_width": "22em", "margin": "0 1em 0 0"}
CELL = "text-align:left;vertical-align:top;padding:1px 8px 1px 0"
MOST = 8  # odd lines that are listed


def cache_editor(cases: Any, model: str | os.PathLike[str] | Any) -> ipywidgets.Widget:
    """Change a cache by hand or by a button; beside it stands what TensorRT 8.6.0 does with it.

    ``cases``: ``tl.recorded.broken_caches(text)``; ``model``: the network of the cache (an ONNX
    file, a Network). A text that is one of the cases is answered by its recording, any other by
    the rule that fits all recordings, and the answer says which.
    """
    files = {case.name: case for case in cases.caches if case.content is not None}
    if "whole" not in files:
        problem = "these cases hold no whole cache to edit"
        raise DataError(problem, "pass tl.recorded.broken_caches(text), text being a cache's file")
    text = (files["whole"].content or b"").decode()
    good, network = parse_cache(text), read_model(getattr(model, "path", model))
    area = ipywidgets.Textarea(text, rows=text.count("\n") + 1, layout={"width": "98%"})
    area.add_class("trtlearn-cache")
    answer, problem = say(""), say("")

    def judge() -> None:
        answer.value = _answer(area.value.encode(errors="replace"), files, good, network)

    def give(case: Any) -> None:
        area.value = (case.content or b"").decode()

    run = guarded(judge, problem)
    area.observe(run, "value")
    run()
    row = [button(BUTTONS[name], partial(give, files[name])) for name in BUTTONS if name in files]
    sides = [ipywidgets.VBox([one], layout=HALF) for one in (area, answer)]
    return stack(beside(*row), problem, beside(*sides))


def _answer(content: bytes, cases: dict[str, Any], good: CalibrationCache, model: OnnxModel) -> str:
    """The right-hand side: all that is said of a text, as HTML."""
    reading = as_tensorrt_reads(content)
    recorded = next((case for case in cases.values() if case.content == content), None)
    if recorded is not None and recorded.batches_asked is not None:
        where = f"this change to the cache of this network at batch 8, {recorded.source}"
        log = html_text(recorded.warned)
        known = f"✔ <b>Recorded</b>: {html_text(where)}. Warnings in the log: {log}."
    else:
        like = [ODDITIES[word].case for line in reading.odd for word in line.oddities]
        changes = "; ".join(dict.fromkeys(cases[case].change for case in like if case))
        near = f" Recorded of the like: {html_text(changes)}." if changes else ""
        known = f"<b>Not recorded</b>: answered by the rule that fits all recorded files.{near}"
    header = f"<code>{html_text(short(reading.header))}</code>"
    if reading.ignored:
        said = f"{badge('ignored', BAD)} {header}: {html_text(reading.ignored)}. TensorRT asks for "
        said += "images and calibrates again, without a message."
        tensors = f"<p>None of the {len(good)} ranges is taken from the file.</p>"
    else:
        said = f"{badge('used', GOOD)} {header} fits. TensorRT asks for no image."
        tensors = _odd_lines(reading, good) + _tensors(reading, good)
    return (
        f'<div role="status" style="line-height:1.35"><p>{said}</p>{tensors}'
        f"<p><b>trtlearn's reader:</b> {_own_reader(content, model)}</p>"
        f'<p style="color:{INK}">{known}</p></div>'
    )


def _odd_lines(reading: CacheReading, good: CalibrationCache) -> str:
    """The lines that TensorRT does not read as their writer meant them."""
    rows = []
    for line in reading.lines:
        stray = ["other name"] if line.name is not None and line.name not in good else []
        if words := [*line.oddities, *stray]:
            what = "; ".join(ODDITIES[word].what for word in words)
            rows.append({"line": line.number, "text": line.text, "TensorRT": what})
    left = len(rows) - MOST
    more = f"<p>… and {plural(left, 'more line')}</p>" if left > 0 else ""
    return html_table(rows[:MOST], style=CELL) + more


def _tensors(reading: CacheReading, good: CalibrationCache) -> str:
    """Every tensor of the whole file: it keeps its range, has another one, or loses it."""
    scales = reading.scales
    chips: dict[str, list[str]] = {state: [] for state in WORDS}
    for name, scale in good.items():
        if name not in scales:
            chips["lost"].append(_chip(f"✘ {name}", BAD))
        elif scales[name] == scale:
            chips["kept"].append(_chip(f"✔ {name}", GOOD))
        else:
            ends = [show(None if one is None else 127 * one) for one in (scale, scales[name])]
            chips["changed"].append(_chip(f"≠ {name}: ±{ends[0]} → ±{ends[1]}", WARN))
    return "".join(
        f"<p><b>{plural(len(group), 'tensor')} {WORDS[state]}</b><br>{' '.join(group)}</p>"
        for state, group in chips.items()
        if group
    )


WORDS = {
    "lost": "without a range: a warning for each",
    "changed": "with another range, without a message",
    "kept": "with their range",
}


def _chip(text: str, color: str) -> str:
    style = f"display:inline-block;border-left:4px solid {color};padding:0 6px;font-size:0.9em"
    return f'<span style="{style}">{html_text(text)}</span>'


def _own_reader(content: bytes, model: OnnxModel) -> str:
    """What ``parse_cache`` and ``cache.check`` say."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            cache = parse_cache(content)
    except CacheError as problem:
        return f"refuses the file: {html_text(str(problem))}"
    names: NameCheck = cache.check(model)
    marked = [f"{name} is of no use: {why}" for name, why in cache.unusable.items()]
    return html_text("; ".join(["reads it", names.summary(), *marked]))
