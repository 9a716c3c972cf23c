"""Edit a calibration cache, and see at once what TensorRT does with it."""

from __future__ import annotations

import os
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from ..calibration.cache import CalibrationCache, NameCheck, parse_cache
from ..calibration.cache_lines import ODDITIES, CacheLine, CacheReading, as_tensorrt_reads
from ..errors import CacheError
from ..model.describe import OnnxModel, read_model
from ..record import html_table, html_text, plural, show
from .controls import badge, guarded, ipywidgets, say, stack
from .draw import short
from .theme import BAD, GOOD, INK, WARN

__all__ = ["cache_editor"]

BUTTONS = {
    "line_deleted": "delete a line",
    "renamed": "rename a tensor",
    "header_minmax": "header of min-max",
    "version_7600": "header of 7.6.0",
    "version_101600": "header of 10.16.0",
    "bom": "byte order mark",
    "upper_hex": "capital letters",
    "no_space": "no space",
    "bad_hex": "hex is zzzz",
    "duplicate_line": "a tensor twice",
    "truncated_line": "cut the last 5 bytes",
    "truncated_half": "cut in the middle",
    "other_models_cache": "another model's cache",
    "whole": "restore the file",
}
"""Recorded case -> what its button says."""

WRAPPED = {"flex_flow": "row wrap", "width": "98%"}
HALF = {"flex": "1 1 22em", "min_width": "22em", "margin": "0 1em 0 0"}
CELL = "text-align:left;vertical-align:top;padding:1px 8px 1px 0"
MOST = 8  # odd lines that are listed


class Case(Protocol):
    """What is asked of a recorded case: recorded.caches.CacheCase has it."""

    @property
    def name(self) -> str: ...
    @property
    def change(self) -> str: ...
    @property
    def content(self) -> bytes | None: ...
    @property
    def batches_asked(self) -> int | None: ...
    @property
    def warned(self) -> str: ...
    @property
    def source(self) -> str: ...


class Cases(Protocol):
    """Several of them: recorded.caches.CacheCases."""

    @property
    def caches(self) -> Sequence[Case]: ...


def cache_editor(cases: Cases, model: str | os.PathLike[str] | Any) -> ipywidgets.Widget:
    """Change a cache by hand or by a button; beside it stands what TensorRT 8.6.0 does with it.

    ``cases``: ``tl.recorded.broken_caches(text)``; ``model``: the network of the cache (an ONNX
    file, a Network). A text that is one of the cases is answered by its recording, any other by
    the rule that fits all recordings, and the answer says which.
    """
    files = {case.name: case for case in cases.caches if case.content is not None}
    text = (files["whole"].content or b"").decode()
    page = _Page(files, parse_cache(text), read_model(getattr(model, "path", model)))
    area = ipywidgets.Textarea(text, rows=text.count("\n") + 1, layout={"width": "98%"})
    area.add_class("trtlearn-cache")
    answer, problem = say(""), say("")

    def judge() -> None:
        answer.value = page.answer(area.value.encode(errors="replace"))

    def give(case: Case) -> None:
        area.value = (case.content or b"").decode()

    run = guarded(judge, problem)
    area.observe(run, "value")
    buttons = []
    for name in [name for name in BUTTONS if name in files]:
        button = ipywidgets.Button(description=BUTTONS[name], layout={"width": "max-content"})
        button.on_click(lambda _, case=files[name]: give(case))
        buttons.append(button)
    run()
    sides = [ipywidgets.VBox([one], layout=HALF) for one in (area, answer)]
    both = [ipywidgets.Box(row, layout=WRAPPED) for row in (buttons, sides)]
    return stack(both[0], problem, both[1])


@dataclass(frozen=True)
class _Page:
    """The right-hand side: what it says of a text, as HTML."""

    cases: dict[str, Case]
    good: CalibrationCache
    model: OnnxModel

    def answer(self, content: bytes) -> str:
        reading = as_tensorrt_reads(content)
        recorded = next((case for case in self.cases.values() if case.content == content), None)
        parts = [
            _verdict(reading),
            "" if reading.ignored else _odd_lines(reading, self.good),
            _tensors(reading, self.good),
            f"<p><b>trtlearn's reader:</b> {_own_reader(content, self.model)}</p>",
            f'<p style="color:{INK}">{self.how_known(reading, recorded)}</p>',
        ]
        return f'<div role="status" style="line-height:1.35">{"".join(parts)}</div>'

    def how_known(self, reading: CacheReading, recorded: Case | None) -> str:
        """Recorded, or by the rule, with what is recorded of the like."""
        if recorded is not None and recorded.batches_asked is not None:
            where = f"this change to the cache of this network at batch 8, {recorded.source}"
            log = html_text(recorded.warned)
            return f"✔ <b>Recorded</b>: {html_text(where)}. Warnings in the log: {log}."
        like = [ODDITIES[word].case for line in reading.odd for word in line.oddities]
        known = dict.fromkeys(self.cases[case].change for case in like if case)
        near = f" Recorded of the like: {html_text('; '.join(known))}." if known else ""
        return f"<b>Not recorded</b>: answered by the rule that fits all recorded files.{near}"


def _verdict(reading: CacheReading) -> str:
    header = f"<code>{html_text(short(reading.header))}</code>"
    if reading.ignored:
        why = html_text(reading.ignored)
        words = f"{header}: {why}. TensorRT asks for images and calibrates again, without a message"
        return f"<p>{badge('ignored', BAD)} {words}.</p>"
    return f"<p>{badge('used', GOOD)} {header} fits. TensorRT asks for no image.</p>"


def _odd_lines(reading: CacheReading, good: CalibrationCache) -> str:
    """The lines that TensorRT does not read as their writer meant them."""
    marked = [(line, _oddities(line, good)) for line in reading.lines]
    odd = [(line, words) for line, words in marked if words]
    if not odd:
        return ""
    rows = [
        {
            "line": line.number,
            "text": line.text,
            "TensorRT": "; ".join(ODDITIES[w].what for w in words),
        }
        for line, words in odd[:MOST]
    ]
    more = f"<p>… and {plural(len(odd) - MOST, 'more line')}</p>" if len(odd) > MOST else ""
    return html_table(rows, style=CELL) + more


def _oddities(line: CacheLine, good: CalibrationCache) -> tuple[str, ...]:
    stray = line.name is not None and line.name not in good
    return (*line.oddities, *(["other name"] if stray else []))


def _tensors(reading: CacheReading, good: CalibrationCache) -> str:
    """Every tensor of the whole file: it keeps its range, has another one, or loses it."""
    if reading.ignored:
        return f"<p>None of the {len(good)} ranges is taken from the file.</p>"
    scales, chips = reading.scales, []
    for name, scale in good.items():
        if name not in scales:
            chips.append(("lost", _chip(f"✘ {name}", BAD)))
        elif scales[name] == scale:
            chips.append(("kept", _chip(f"✔ {name}", GOOD)))
        else:
            ends = [show(None if one is None else 127 * one) for one in (scale, scales[name])]
            chips.append(("changed", _chip(f"≠ {name}: ±{ends[0]} → ±{ends[1]}", WARN)))
    groups = {state: [chip for key, chip in chips if key == state] for state in WORDS}
    return "".join(
        f"<p><b>{plural(len(chips), 'tensor')} {WORDS[state]}</b><br>{' '.join(chips)}</p>"
        for state, chips in groups.items()
        if chips
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
