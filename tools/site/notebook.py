"""A notebook, run from the recordings, as a page to read: live figures, and widgets as the cell
left them.
"""

from __future__ import annotations

import copy
import hashlib
import html
import json
import re
from pathlib import Path
from typing import Any

import nbformat
from nbconvert import HTMLExporter

from tools import notebooks
from tools.site.markdown import Page, code, markdown
from trtlearn.course.notebook import NOTEBOOKS
from trtlearn.files import write_atomic

ROOT = Path(__file__).resolve().parents[2]
KEPT = ROOT / "build" / "executed"
PLOTLY = "application/vnd.plotly.v1+json"
VIEW = "application/vnd.jupyter.widget-view+json"
STATE = "application/vnd.jupyter.widget-state+json"
TEMPLATE = """
{%- extends 'display_priority.j2' -%}
{%- block codecell %}<section class="cell" id="cell-{{ cell.id }}">{{ super() }}</section>
{% endblock codecell -%}
{%- block input %}{{ cell.source | code }}{% endblock input -%}
{%- block output_group %}<div class="outputs">{{ super() }}</div>{% endblock output_group -%}
{%- block stream_stdout %}<pre>{{ output.text | ansi2html }}</pre>{% endblock stream_stdout -%}
{%- block stream_stderr %}<pre role="alert">{{ output.text | ansi2html }}</pre>{% endblock stream_stderr -%}
{%- block error %}<pre role="alert">{{ output.traceback | join('\\n') | ansi2html }}</pre>{% endblock error -%}
{%- block data_html scoped %}{{ output.data['text/html'] }}{% endblock data_html -%}
{%- block data_text scoped %}<pre>{{ output.data['text/plain'] | ansi2html }}</pre>{% endblock data_text -%}
{%- block markdowncell scoped %}<section class="cell" id="cell-{{ cell.id }}">{{ cell.source | course }}</section>
{% endblock markdowncell -%}
"""
CLAIM = re.compile(
    r"^✔ (?P<fact>.+?) \[(?P<tag>documented|measured|inferred)(?:: (?P<source>[^\]]*))?\]$", re.M
)


def fingerprint(path: Path) -> str:
    """What the notebook's outputs depend on: itself, the package and the data, hashed."""
    hashed = hashlib.sha256(path.read_bytes())
    for folder in ("trtlearn", "data"):
        for file in sorted((ROOT / folder).rglob("*")):
            if file.is_file() and "__pycache__" not in file.parts:
                hashed.update(
                    f"{file.relative_to(ROOT)}\n".encode()
                    + hashlib.sha256(file.read_bytes()).digest()
                )
    return hashed.hexdigest()[:16]


def joined(book: nbformat.NotebookNode) -> nbformat.NotebookNode:
    """The notebook with what a cell printed in several pieces as one."""
    for cell in book.cells:
        kept: list[Any] = []
        for output in cell.get("outputs", ()):
            if (
                kept
                and output.output_type == kept[-1].output_type == "stream"
                and output.name == kept[-1].name
            ):
                kept[-1].text += output.text
            else:
                kept.append(output)
        if kept:
            cell.outputs = kept
    return book


def executed(path: Path) -> nbformat.NotebookNode:
    """The notebook, run from the recordings; kept in build/executed until something that it rests
    on changes.
    """
    kept = KEPT / f"{path.stem}-{fingerprint(path)}.ipynb"
    if kept.is_file():
        return joined(nbformat.read(kept, as_version=4))
    book = joined(notebooks.run(path, timeout=300))
    for old in KEPT.glob(f"{path.stem}-*.ipynb"):
        old.unlink(missing_ok=True)
    write_atomic(kept, nbformat.writes(book))
    return book


def figure(data: Any, layout: Any) -> str:
    """A place where site.js draws the figure; its title and footer are there without JavaScript
    too.
    """
    layout = {key: value for key, value in layout.items() if key not in ("width", "autosize")} | {
        "autosize": True
    }
    title = (layout.get("title") or {}).get("text", "figure")
    notes = [
        one.get("text", "") for one in layout.get("annotations", ()) if one.get("name") == "footer"
    ]
    facts = json.dumps({"data": data, "layout": layout}, separators=(",", ":")).replace(
        "</", "<\\/"
    )
    words = html.escape(" — ".join([title, *notes]))
    height = int(layout.get("height") or 420)
    inside = f'<p>{words} (this figure needs JavaScript)</p><script type="application/json">{facts}</script>'
    return f'<div class="figure" style="height:{height}px" role="figure" aria-label="{words}">{inside}</div>'


def whole(model: dict[str, Any]) -> dict[str, Any]:
    """A widget's state with its arrays in plotly's own form for JSON."""
    state = copy.deepcopy(model["state"])
    for buffer in model.get("buffers", ()):
        *way, last = buffer["path"]
        place = state
        for step in way:
            place = place[step]
        place[last] = buffer["data"]
    return typed(state)


def typed(value: Any) -> Any:
    """The value with each widget's array, {"buffer": base64, "dtype": …, "shape": …}, as plotly.js
    reads it.

    >>> typed({"x": {"buffer": "AAAA", "dtype": "float32", "shape": [3]}})
    {'x': {'bdata': 'AAAA', 'dtype': 'f4', 'shape': '3'}}
    """
    if isinstance(value, dict):
        if {"buffer", "dtype"} <= set(value):
            kind = {"float": "f", "int": "i", "uint": "u"}[value["dtype"].rstrip("0123456789")]
            size = int(re.sub(r"\D", "", value["dtype"])) // 8
            shape = ", ".join(map(str, value.get("shape") or []))
            return {"bdata": value["buffer"], "dtype": f"{kind}{size}"} | (
                {"shape": shape} if shape else {}
            )
        return {key: typed(item) for key, item in value.items()}
    return [typed(item) for item in value] if isinstance(value, list) else value


def widget(models: dict[str, Any], name: str) -> str:
    """The widget's text, controls (still) and figures, as they stand when the cell has run."""
    state = whole(models[name])
    kind, label = models[name]["model_name"], html.escape(state.get("description") or "")
    if "children" in state:
        return "".join(
            widget(models, child.removeprefix("IPY_MODEL_")) for child in state["children"]
        )
    if "_widget_data" in state:
        return figure(state["_widget_data"], state["_widget_layout"])
    if kind == "HTMLModel":
        return f"<div>{state['value']}</div>" if state["value"] else ""
    options = state.get("_options_labels", [])
    if kind == "RadioButtonsModel":
        return "<ul>" + "".join(f"<li>{html.escape(one)}</li>" for one in options) + "</ul>"
    if options:
        chosen = state.get("index")
        rest = [
            f"<b>{html.escape(one)}</b>" if i == chosen else html.escape(one)
            for i, one in enumerate(options)
        ]
        return f'<p class="control">{label}: {" · ".join(rest)}</p>'
    value = state.get("value")
    if kind == "TextareaModel":
        return f"<pre>{html.escape(value)}</pre>"
    if value is None or not label:
        return ""
    if isinstance(value, bool):
        value = "on" if value else "off"
    shown = f"{value:.4g}" if isinstance(value, float) else str(value)
    return f'<p class="control">{label}: <code>{html.escape(shown)}</code></p>'


def still(book: nbformat.NotebookNode) -> nbformat.NotebookNode:
    """The notebook with figures and widgets as HTML that needs no kernel."""
    book = copy.deepcopy(book)
    models = book.metadata.get("widgets", {}).get(STATE, {}).get("state", {})
    note = '<p class="hint">Controls move in JupyterLab; here they stand as the cell left them.</p>'
    for cell in book.cells:
        for output in cell.get("outputs", ()):
            data = output.get("data", {})
            if PLOTLY in data:
                output.data = {"text/html": figure(data[PLOTLY]["data"], data[PLOTLY]["layout"])}
            elif VIEW in data:
                inside = widget(models, data[VIEW]["model_id"])
                output.data = {"text/html": f'<div class="controls">{inside}{note}</div>'}
            if data:
                output.output_type = (
                    "display_data"  # an execute_result is shown alike, but for its number
                )
                output.pop("execution_count", None)
    return book


def body(book: nbformat.NotebookNode) -> str:
    """The notebook's cells as HTML, each with its id as anchor."""
    exporter = HTMLExporter(raw_template=TEMPLATE)
    exporter.register_filter("course", markdown)
    exporter.register_filter("code", code)
    text: str = exporter.from_notebook_node(still(book))[0]
    return text


def claims(book: nbformat.NotebookNode) -> list[tuple[str, str, str, str]]:
    """What the notebook claimed and checked: (cell's id, fact, tag, source)."""
    return [
        (str(cell.id), found["fact"], found["tag"], found["source"] or "")
        for cell in book.cells
        for output in cell.get("outputs", ())
        if output.get("name") == "stdout"
        for found in CLAIM.finditer(output.text)
    ]


def page_title(path: Path) -> str:
    """Number and title of the notebook."""
    return f"{path.name[:2]} {NOTEBOOKS[path.name[:2]][1]}"


def page(path: Path, book: nbformat.NotebookNode) -> Page:
    """The page of one notebook."""
    head = f'<p class="hint">To run it: <code>make lab</code>, then open <code>{html.escape(path.name)}</code>.</p>'
    return Page(f"notebooks/{path.stem}.html", page_title(path), head + body(book), "Notebooks")
