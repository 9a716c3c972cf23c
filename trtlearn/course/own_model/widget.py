"""The form of notebook 09: name an ONNX file and data, try INT8, read the answers."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from ...calibration.observers import OBSERVERS
from ...errors import DataError, ModelError
from ...files import user_dir
from ...model.data import EXPECTED_DATA
from ...record import html_table, html_text
from ...show.controls import badge, guarded, ipywidgets, say, stack
from ...show.draw import WARN
from ..lesson import current
from .records import Walk, why_skipped
from .walk import BEST_OF, STEPS, try_int8

__all__ = ["own_model_form", "walk_html"]

MOST_ROWS = 4096  # of a batch


def own_model_form(
    model: str | os.PathLike[str] = "",
    data: str | os.PathLike[str] = "",
    labels: str | os.PathLike[str] | None = "",
    out: str | os.PathLike[str] | None = None,
    live: bool | None = None,
) -> ipywidgets.Widget:
    """Fields for an ONNX file, its data and how to calibrate; a button; the result.

    ``out`` is the folder for the report and the other files; by default own_model/ in the reader's
    own folder. One line below the button says what does not fit, and the fields keep what was
    typed.
    """
    style = {"description_width": "10em"}

    def field(label: str, value: Any, placeholder: str = "") -> ipywidgets.Text:
        return ipywidgets.Text(
            "" if value is None else str(value),
            description=label,
            placeholder=placeholder,
            layout={"width": "98%"},
            style=style,
        )

    fields = {
        "model": field("ONNX file", model),
        "data": field("data (.npy, .npz)", data, EXPECTED_DATA),
        "labels": field("labels (.npy)", labels, "optional"),
        "out": field("write to", out or user_dir() / "own_model"),
    }
    algorithm = ipywidgets.Dropdown(
        options=[(f"best of {', '.join(BEST_OF)}", "best"), *((name, name) for name in OBSERVERS)],
        value="best",
        description="calibrator",
        style=style,
        layout={"width": "30em"},
    )
    narrow = {"width": "17em"}
    batch = ipywidgets.Text("8", description="batch", style=style, layout=narrow)
    button = ipywidgets.Button(description="Walk it through", button_style="primary")
    steps, problem, answer = say(""), say(""), say("")
    behind = ipywidgets.VBox()  # how far the engines are that are built behind the page

    def run() -> None:
        answer.value = steps.value = ""
        behind.children = ()
        typed: dict[str, Any] = {
            name: os.path.expanduser(str(one.value).strip()) or None for name, one in fields.items()
        }
        if typed["model"] is None:
            raise ModelError("no ONNX file is named", "type its path into the first field")
        if typed["out"] is None:
            advice = "type one into the field “write to”"
            raise DataError("no folder to write to is named", advice)
        walk_through({**typed, "algorithm": algorithm.value, "batch": _batch(batch.value)})

    def walk_through(typed: Mapping[str, Any]) -> None:
        begun: list[str] = []

        def show_step(step: str) -> None:
            steps.value = _step_list(begun, step)
            begun.append(step)

        button.disabled = True
        try:
            walk = try_int8(**typed, live=live, progress=show_step)
            steps.value = _step_list(STEPS, build=_build_line(walk))
            answer.value = walk_html(walk)
            lesson = current() if walk.building else None
            behind.children = (lesson.panel,) if lesson else ()
            if lesson:
                lesson.when_built(box, guarded(lambda: walk_through(typed), problem))
        except BaseException:
            steps.value = _step_list(begun[:-1])
            raise
        finally:
            button.disabled = False

    button.on_click(guarded(run, problem))
    row = ipywidgets.HBox([algorithm, batch, button], layout={"flex_flow": "row wrap"})
    box = stack(*fields.values(), row, problem, steps, answer, behind)
    return box


def _batch(text: str) -> int:
    """The number of rows in a batch; a field of numbers alone would clamp it without a word."""
    if not (text.strip().isdecimal() and 1 <= int(text) <= MOST_ROWS):
        raise DataError(
            f"the batch is {text!r}, expected a whole number from 1 to {MOST_ROWS}",
            "type one into the field “batch”",
        )
    return int(text)


def _build_line(walk: Walk) -> str:
    """How the step that needs a GPU ended."""
    if not walk.live:
        return f"– {STEPS['build']}: skipped, {why_skipped(walk.doctor)}"
    built = sum(not engine.problem for engine in walk.live)
    line = f"{STEPS['build']}: {built} of {len(walk.live)} engines"
    return f"▶ {line} so far" if walk.building else f"{'✔' if built else '✘'} {line}"


def _step_list(done: Iterable[str], current: str = "", build: str = "") -> str:
    """The steps so far; ``build`` is that step's line, once it is known what came of it."""
    pending = build or f"· {STEPS['build']}"
    lines = [pending if step == "build" else f"✔ {STEPS[step]}" for step in done]
    if current:
        lines.append(f"▶ {STEPS[current]} …")
    return "<br>".join(map(html_text, lines))


def walk_html(walk: Walk) -> str:
    """A walk's result as HTML; names from the model are escaped."""
    place = badge("live" if walk.live else "no GPU", WARN)
    parts = [f"<p><b>{html_text(walk.verdict)}.</b></p>"]
    parts.append(f"<p>{place} {html_text(walk.facts)}</p>")
    parts += [f"<p>⚠ {html_text(note)}</p>" for note in walk.notes]
    parts.append(html_table(walk.rows()))
    parts.append(walk.engines_html())
    parts.append(html_table([{"written": word, "file": path} for word, path in walk.files.items()]))
    if "report" in walk.files:
        path = html_text(str(Path(walk.files["report"]).absolute()))
        parts.append(f"<p>Open the report in a browser: <code>{path}</code></p>")
    return f'<div role="status">{"".join(parts)}</div>'
