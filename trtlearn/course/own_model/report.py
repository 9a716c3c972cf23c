"""What a walk writes: the calibration cache, the Q/DQ model, the script for a GPU machine, and the report."""

from __future__ import annotations

import dataclasses
import html
import io
import os
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ...calibration.cache import set_aside
from ...errors import TrtlearnError
from ...files import write_atomic
from ...record import Record, show

if TYPE_CHECKING:
    import plotly.graph_objects as go

    from .records import Walk

__all__ = [
    "gpu_script",
    "range_figure",
    "report_html",
    "write_files",
    "write_report",
]


# --- A walk as one HTML file that needs nothing else: no network, no server, no notebook.

STYLE = """
:root { color-scheme: light dark }
body { font: 16px/1.5 system-ui, sans-serif; max-width: 70rem; margin: 2rem auto; padding: 0 1rem }
table { border-collapse: collapse; margin: .5rem 0 }
th, td { text-align: left; vertical-align: top; padding: .15rem .9rem .15rem 0; border-bottom: 1px solid #8884 }
code, pre { font-size: .9em; overflow-x: auto }
.note { border-left: 4px solid #b3791b; padding-left: .7rem }
"""
MOST_BARS = 60


def _cache_words(cache: str) -> str:
    """What the calibration cache is good for: trtexec takes one kind only."""
    later = "From TensorRT 11.0 on use the Q/DQ model."
    if problem := set_aside(cache.encode()):
        fix = re.sub("`(.+?)`", r"<code>\1</code>", html.escape(problem.fix))
        return (
            "For a program with a calibrator of this kind, up to TensorRT 10.16. With trtexec TensorRT sets it aside: "
            f"{html.escape(problem.why)}. What to do: {fix}. {later}"
        )
    return f"For <code>trtexec --int8 --calib=FILE</code> up to 10.16. {later}"


def _table(rows: Iterable[dict[str, Any]]) -> str:
    rows = list(rows)
    if not rows:
        return "<p>none</p>"
    head = "".join(f'<th scope="col">{html.escape(str(key))}</th>' for key in rows[0])
    body = "".join(
        "<tr>" + "".join(f"<td>{html.escape(show(value))}</td>" for value in row.values()) + "</tr>"
        for row in rows
    )
    return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"


def _record(record: Record) -> str:
    return f"<p>{html.escape(record.summary())}</p>{_table(record.rows())}"


def range_figure(walk: Walk) -> go.Figure:
    """Each quantized tensor's range beside the largest magnitude in the data, widest gap first."""
    from ...show.theme import GOOD, WARN, figure, footer

    shown = sorted(
        (t for t in walk.tensors if t.quantized),
        key=lambda t: t.amax / t.largest if t.largest else 1.0,
    )
    shown = shown[:MOST_BARS]
    fig = figure(
        "Does each range fit what the data need?", height=150 + 22 * len(shown), barmode="group"
    )
    names = [t.name for t in shown]
    for title, values, color, pattern in (
        ("range chosen", [t.amax for t in shown], GOOD, ""),
        ("largest magnitude in the data", [t.largest for t in shown], WARN, "/"),
    ):
        fig.add_bar(
            y=names, x=values, orientation="h", name=title, marker={"color": color, "pattern": {"shape": pattern}},
            hovertemplate="%{y}: %{x:.6g}<extra>" + title + "</extra>",
        )  # fmt: skip
    fig.update_yaxes(autorange="reversed", type="category")
    fig.update_xaxes(title="magnitude (log)", type="log")
    return footer(fig, "computed here, on this machine's CPU")


def _live_rows(walk: Walk) -> list[dict[str, Any]]:
    return [
        {
            "engine": one.way,
            "median ms": one.median_ms,
            "5 to 95 % ms": one.spread_ms or None,
            "plan bytes": one.plan_bytes,
            "build s": one.build_seconds,
            "layers": one.layers,
            "INT8": one.int8_layers,
            "reformats": one.reformats,
            "same answer as FP32 %": one.answer
            and one.answer.agreement
            and 100 * one.answer.agreement,
            "problem": one.problem or "none",
        }
        for one in walk.live
    ]


def report_html(walk: Walk) -> str:
    """The whole report as one page with plotly's code, from the installed package, in it; TrtlearnError without it."""
    try:
        from plotly.offline import get_plotlyjs
    except ImportError:
        raise TrtlearnError("the report needs plotly", "pip install 'trtlearn[lab]'") from None
    esc = html.escape
    figure = range_figure(walk).to_html(
        full_html=False, include_plotlyjs=False, default_width="100%", div_id="ranges"
    )
    notes = "".join(f'<p class="note">{esc(note)}</p>' for note in walk.notes)
    files = _table({"what": word, "file": path} for word, path in walk.files.items())
    tensors = [
        {
            "tensor": t.name,
            "range ±": t.amax,
            "scale": t.scale,
            "largest": t.largest,
            "in a pair": t.quantized,
        }
        for t in walk.tensors
    ]
    live = (
        _table(_live_rows(walk))
        if walk.live
        else "<p>Nothing was built with TensorRT on this machine.</p>"
    )
    sections = {
        "In short": f"<p>{esc(walk.summary())}</p>{notes}",
        "This machine": f"<p>{esc(walk.doctor.mode)} {esc(walk.doctor.why)}</p>{_record(walk.doctor)}",
        "The data": _record(walk.data),
        "What INT8 does to the answers": "<p>Computed by ONNX Runtime on the CPU with Q/DQ nodes in the network. "
        f"“int8-placeholder” are the ranges of bare trtexec --int8.</p>{_table(walk.rows())}",
        "Ranges": figure
        + f"<details><summary>All {len(tensors)} tensors</summary>{_table(tensors)}</details>",
        "Q/DQ": f"<details><summary>{esc(walk.qdq.summary())}</summary>{_table(walk.qdq.rows())}</details>",
        "Engines built with TensorRT": live,
        "The calibration cache": f"<p>{_cache_words(walk.cache)}</p>"
        f"<details><summary>the file</summary><pre>{esc(walk.cache)}</pre></details>",
        "The network": f"<details><summary>{esc(walk.model.summary())}</summary>{_table(walk.model.rows())}</details>",
        "Files": files,
    }
    body = "".join(
        f"<section><h2>{esc(title)}</h2>{content}</section>" for title, content in sections.items()
    )
    return (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{esc(walk.name)} in INT8</title>'
        f"<style>{STYLE}</style><script>{get_plotlyjs()}</script></head>"
        f"<body><h1>{esc(walk.name)} in INT8</h1>{body}</body></html>\n"
    )


def write_report(walk: Walk, path: str | os.PathLike[str]) -> Path:
    """Write the report, whole or not at all."""
    return write_atomic(path, report_html(walk))


# --- What a walk writes: the calibration cache, the Q/DQ model, the script for a GPU machine, and the report.


def write_files(
    result: Walk, out: Path, quantized: bytes, model: Path, data: Any, labels: Any
) -> Walk:
    """Write everything into the folder ``out``, each file whole or not at all; the walk, naming them.

    Data given as arrays are saved too, so that the script finds them.
    """
    files = {"cache": out / f"{result.name}.cache", "qdq model": out / f"{result.name}.qdq.onnx"}
    inputs = {"data": data, "labels": labels}
    for word, value in inputs.items():
        if value is not None and not isinstance(value, (str, os.PathLike)):
            files[word] = out / f"{result.name}.{word}.npz"
    files |= {"script": out / f"{result.name}_on_gpu.py", "report": out / f"{result.name}.html"}
    result = dataclasses.replace(result, files={word: str(path) for word, path in files.items()})
    kept = {word: files.get(word, value) for word, value in inputs.items()}
    text, page = gpu_script(result, model, kept["data"], kept["labels"]), report_html(result)
    write_atomic(files["cache"], result.cache)
    write_atomic(files["qdq model"], quantized)
    for word, value in inputs.items():
        if word in files:
            write_atomic(
                files[word],
                _packed(value, "labels" if word == "labels" else next(iter(result.data.shapes))),
            )
    write_atomic(files["script"], text)
    write_atomic(files["report"], page)
    return result


def _packed(value: Any, name: str) -> bytes:
    arrays = (
        {str(key): item for key, item in value.items()}
        if isinstance(value, Mapping)
        else {name: value}
    )
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **arrays)
    return buffer.getvalue()


def gpu_script(result: Walk, model: object, data: object, labels: object) -> str:
    """A Python program that does the same walk on a GPU machine, engines included, and writes the report there.

    It takes each file from its own folder where it is there, else from where it was on this machine.
    """
    name = Path(result.files["script"]).name
    return f'''"""Walk {result.name} through TensorRT on a machine with an NVIDIA GPU, and write the report there.

Copy this file, the ONNX file, the data, and the labels if there are any, into one folder, then:

    pip install 'trtlearn[lab,gpu]'
    python {name}
"""

from pathlib import Path

from trtlearn.course.own_model.walk import walk

HERE = Path(__file__).resolve().parent


def find(path: str | None) -> Path | None:
    """The file beside this script, else where it was."""
    if path is None:
        return None
    beside = HERE / Path(path).name
    return beside if beside.exists() else Path(path)


MODEL = find({_literal(model)})
DATA = find({_literal(data)})
LABELS = find({_literal(labels)})

if __name__ == "__main__":
    walked = walk(
        MODEL,
        DATA,
        labels=LABELS,
        algorithm={result.algorithm!r},
        batch={result.data.batch},
        out=HERE / "on_gpu",
        live=True,
        progress=lambda step: print(step, "...", flush=True),
    )
    print(walked)
    for engine in walked.live:
        print(engine)
    print("report:", walked.files["report"])
'''


def _literal(path: Any) -> str:
    return "None" if path is None else repr(str(Path(path).resolve()))
