"""A walk as one HTML file that needs nothing else: no network, no server, no notebook."""

from __future__ import annotations

import html
import os
import re
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .cachefile import set_aside
from .errors import TrtlearnError
from .paths import write_atomic
from .record import Record, show

if TYPE_CHECKING:
    import plotly.graph_objects as go

    from .bring_records import Walk

__all__ = ["range_figure", "report_html", "write_report"]

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
        "<tr>" + "".join(f"<td>{html.escape(show(value))}</td>" for value in row.values()) + "</tr>" for row in rows
    )
    return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"


def _record(record: Record) -> str:
    return f"<p>{html.escape(record.summary())}</p>{_table(record.rows())}"


def range_figure(walk: Walk) -> go.Figure:
    """Each quantized tensor's range beside the largest magnitude in the data, widest gap first."""
    from .colors import GOOD, WARN, figure, footer

    shown = sorted((t for t in walk.tensors if t.quantized), key=lambda t: t.amax / t.largest if t.largest else 1.0)
    shown = shown[:MOST_BARS]
    fig = figure("Does each range fit what the data need?", height=150 + 22 * len(shown), barmode="group")
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
            "same answer as FP32 %": one.answer and one.answer.agreement and 100 * one.answer.agreement,
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
    figure = range_figure(walk).to_html(full_html=False, include_plotlyjs=False, default_width="100%", div_id="ranges")
    notes = "".join(f'<p class="note">{esc(note)}</p>' for note in walk.notes)
    files = _table({"what": word, "file": path} for word, path in walk.files.items())
    tensors = [
        {"tensor": t.name, "range ±": t.amax, "scale": t.scale, "largest": t.largest, "in a pair": t.quantized}
        for t in walk.tensors
    ]
    live = _table(_live_rows(walk)) if walk.live else "<p>Nothing was built with TensorRT on this machine.</p>"
    sections = {
        "In short": f"<p>{esc(walk.summary())}</p>{notes}",
        "This machine": f"<p>{esc(walk.doctor.mode)} {esc(walk.doctor.why)}</p>{_record(walk.doctor)}",
        "The data": _record(walk.data),
        "What INT8 does to the answers": "<p>Computed by ONNX Runtime on the CPU with Q/DQ nodes in the network. "
        f"“int8-placeholder” are the ranges of bare trtexec --int8.</p>{_table(walk.rows())}",
        "Ranges": figure + f"<details><summary>All {len(tensors)} tensors</summary>{_table(tensors)}</details>",
        "Q/DQ": f"<details><summary>{esc(walk.qdq.summary())}</summary>{_table(walk.qdq.rows())}</details>",
        "Engines built with TensorRT": live,
        "The calibration cache": f"<p>{_cache_words(walk.cache)}</p>"
        f"<details><summary>the file</summary><pre>{esc(walk.cache)}</pre></details>",
        "The network": f"<details><summary>{esc(walk.model.summary())}</summary>{_table(walk.model.rows())}</details>",
        "Files": files,
    }
    body = "".join(f"<section><h2>{esc(title)}</h2>{content}</section>" for title, content in sections.items())
    return (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{esc(walk.name)} in INT8</title>'
        f"<style>{STYLE}</style><script>{get_plotlyjs()}</script></head>"
        f"<body><h1>{esc(walk.name)} in INT8</h1>{body}</body></html>\n"
    )


def write_report(walk: Walk, path: str | os.PathLike[str]) -> Path:
    """Write the report, whole or not at all."""
    return write_atomic(path, report_html(walk))
