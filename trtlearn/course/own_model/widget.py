"""The widget of notebook 09: name an ONNX file and data, walk them through, read the answers and the report."""

from __future__ import annotations

import html
import os
from pathlib import Path

from ...calibration.observers import OBSERVERS
from ...errors import DataError, ModelError
from ...files import user_dir
from ...model.data import EXPECTED_DATA
from ...show.controls import badge, guarded, ipywidgets, say, stack, table
from ...show.theme import WARN
from .walk import STEPS, Walk, walk

__all__ = ["bring_widget", "walk_html"]

WORDS = {
    "look": "doctor, network and data",
    "calibrate": "calibrate on the CPU",
    "quantize": "put Q/DQ in",
    "compare": "run FP32 and INT8, compare",
    "build": "build with TensorRT",
    "write": "write files and report",
}


def bring_widget(
    model: str | os.PathLike[str] = "",
    data: str | os.PathLike[str] = "",
    labels: str | os.PathLike[str] = "",
    out: str | os.PathLike[str] | None = None,
    live: bool | None = None,
) -> ipywidgets.Widget:
    """Fields for an ONNX file, its data and how to calibrate; a button; what came of it.

    ``out`` is the folder for the report and the other files; by default bring/ in the reader's own folder. Whatever
    does not fit is said in one line below the button, and the fields keep what was typed.
    """
    wide, style = {"width": "98%"}, {"description_width": "10em"}
    fields = {
        "model": ipywidgets.Text(str(model), description="ONNX file", layout=wide, style=style),
        "data": ipywidgets.Text(
            str(data),
            description="data (.npy, .npz)",
            placeholder=EXPECTED_DATA,
            layout=wide,
            style=style,
        ),
        "labels": ipywidgets.Text(
            str(labels),
            description="labels (.npy)",
            placeholder="may stay empty",
            layout=wide,
            style=style,
        ),
        "out": ipywidgets.Text(
            str(out or user_dir() / "bring"), description="write to", layout=wide, style=style
        ),
    }
    algorithm = ipywidgets.Dropdown(
        options=list(OBSERVERS), value="minmax", description="calibrator", style=style
    )
    batch = ipywidgets.BoundedIntText(8, min=1, max=4096, description="batch", style=style)
    button = ipywidgets.Button(description="Walk it through", button_style="primary")
    steps, problem, answer = say(""), say(""), say("")

    def go() -> None:
        answer.value, button.disabled = "", True
        at: list[str] = []

        def note(step: str) -> None:
            at.append(step)
            done = [f"✔ {WORDS[one]}" for one in at[:-1]] + [f"▶ {WORDS[step]} …"]
            steps.value = "<br>".join(map(html.escape, done))

        try:
            if not fields["model"].value.strip():
                raise ModelError("no ONNX file is named", "type its path into the first field")
            if not fields["out"].value.strip():
                raise DataError(
                    "no folder to write to is named", "type one into the field “write to”"
                )
            walked = walk(
                _path(fields["model"].value), _path(fields["data"].value) if fields["data"].value.strip() else None,
                labels=_path(fields["labels"].value) if fields["labels"].value.strip() else None,
                algorithm=algorithm.value, batch=batch.value, out=_path(fields["out"].value), live=live, progress=note,
            )  # fmt: skip
            steps.value = "<br>".join(f"✔ {html.escape(WORDS[one])}" for one in STEPS)
            answer.value = walk_html(walked)
        except BaseException:
            steps.value = "<br>".join(html.escape(f"✔ {WORDS[one]}") for one in at[:-1])
            raise
        finally:
            button.disabled = False

    button.on_click(guarded(go, problem))
    row = ipywidgets.HBox([algorithm, batch, button], layout={"flex_flow": "row wrap"})
    return stack(*fields.values(), row, problem, steps, answer)


def _path(text: str) -> str:
    return os.path.expanduser(text.strip())


def walk_html(walked: Walk) -> str:
    """What a walk found, as HTML; names from the model are escaped."""
    esc = html.escape
    parts = [f"<p>{badge('live' if walked.live else 'no GPU', WARN)} {esc(walked.summary())}</p>"]
    parts += [f"<p>⚠ {esc(note)}</p>" for note in walked.notes]
    rows = walked.rows()
    parts.append(table([row.values() for row in rows], rows[0]))
    if walked.live:
        head = ("engine", "median ms", "plan bytes", "INT8 layers", "problem")
        cells = [
            (one.way, one.median_ms, one.plan_bytes, one.int8_layers, one.problem or "none")
            for one in walked.live
        ]
        parts.append(table(cells, head))
    parts.append(table([(word, path) for word, path in walked.files.items()], ("written", "file")))
    if "report" in walked.files:
        link = esc(Path(walked.files["report"]).absolute().as_uri(), quote=True)
        parts.append(
            f'<p><a href="{link}" target="_blank">open the report</a> (or open the file by hand)</p>'
        )
    return f'<div role="status">{"".join(parts)}</div>'
