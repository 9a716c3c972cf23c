"""What a walk writes: the cache, the Q/DQ model, the script for a GPU machine, the report."""

from __future__ import annotations

import dataclasses
import os
import re
from collections.abc import Mapping
from pathlib import Path
from string import Template
from typing import TYPE_CHECKING, Any

from ...calibration.cache import format_cache, parse_cache
from ...calibration.cache_reading import ignored_by_trtexec
from ...errors import TrtlearnError
from ...files import Content, shell_command, write_all
from ...model.data import npz_bytes
from ...model.read import serialized_in_pieces
from ...record import Record, html_table, html_text, plural
from ...show.draw import Figure
from ...show.tensor_ranges import scales
from .records import WORDS, ChosenRange, Walk

if TYPE_CHECKING:
    import onnx

__all__ = ["gpu_script", "range_figure", "report_html", "write_files"]


# --- The report: one HTML file that needs no network, no server and no notebook

MOST_BARS = 60


def report_html(walk: Walk) -> str:
    """The report as one page, with plotly's code in it; TrtlearnError without plotly."""
    try:
        from plotly.offline import get_plotlyjs
    except ImportError:
        raise TrtlearnError("the report needs plotly", "pip install 'trtlearn[lab]'") from None
    figure = range_figure(walk).to_html(
        full_html=False, include_plotlyjs=False, default_width="100%", div_id="ranges"
    )
    tensors = [
        {
            "tensor": fit.name,
            "range ±": fit.amax,
            "scale": fit.scale,
            "largest": fit.largest,
            "in a pair": fit.quantized,
        }
        for fit in walk.tensors
    ]
    skipped = "<p>Skipped: nothing was built with TensorRT on this machine. Run the script on one "
    engines = _table([engine.rows()[0] for engine in walk.live])
    return Template(_file("report.html")).substitute(
        name=html_text(walk.name),
        plotly=get_plotlyjs(),
        verdict=html_text(walk.verdict),
        answers=_table(walk.rows()),
        notes="".join(f'<p class="note">{html_text(note)}</p>' for note in walk.notes),
        figure=figure,
        tensors=_folded(f"All {plural(len(tensors), 'tensor')}", tensors),
        qdq=_folded(walk.qdq.summary(), walk.qdq.rows()),
        engines=engines if walk.live else f"{skipped}with a GPU.</p>",
        purpose=_cache_words(walk.cache),
        cache=html_text(walk.cache),
        data=_record(walk.data),
        machine=html_text(f"{walk.doctor.mode} {walk.doctor.why}"),
        doctor=_record(walk.doctor),
        network=_folded(walk.model.summary(), walk.model.rows()),
        files=_table([{"what": word, "file": path} for word, path in walk.files.items()]),
    )


def range_figure(walk: Walk) -> Figure:
    """Each quantized tensor's range beside the largest magnitude in the data, widest gap first."""

    def share(fit: ChosenRange) -> float:
        return fit.amax / fit.largest if fit.largest else 1.0

    shown = sorted((fit for fit in walk.tensors if fit.quantized), key=share)[:MOST_BARS]
    ways = {
        "range chosen": {fit.name: fit.amax for fit in shown},
        "largest magnitude in the data": {fit.name: fit.largest for fit in shown},
    }
    title = "Does each range fit what the data need?"
    return scales(ways, title=title, source="computed here, on this machine's CPU")


def _table(rows: list[dict[str, Any]]) -> str:
    return html_table(rows, style="", page=True) or "<p>none</p>"


def _record(record: Record) -> str:
    return f"<p>{html_text(record.summary())}</p>{_table(record.rows())}"


def _folded(summary: str, rows: list[dict[str, Any]]) -> str:
    return f"<details><summary>{html_text(summary)}</summary>{_table(rows)}</details>"


def _cache_words(cache: str) -> str:
    """What the calibration cache is good for: trtexec takes one kind only."""
    problem = ignored_by_trtexec(cache.encode())
    if problem is None:
        return WORDS["for trtexec"]
    fix = re.sub("`(.+?)`", r"<code>\1</code>", html_text(problem.fix))
    return WORDS["for a calibrator"].format(why=html_text(problem.why), fix=fix)


# --- The files


def write_files(
    walk: Walk, out: Path, quantized: onnx.ModelProto, model: Path, data: Any, labels: Any
) -> Walk:
    """Write everything into the folder ``out``, all files or none; the walk, naming them.

    Data given as arrays are saved too, so that the script finds them.
    """
    files = {"cache": out / f"{walk.name}.cache", "qdq model": out / f"{walk.name}.qdq.onnx"}
    contents: dict[str, Content] = {"cache": walk.cache}
    contents["qdq model"] = serialized_in_pieces(quantized)
    if ignored_by_trtexec(walk.cache.encode()):
        files["cache for trtexec"] = out / f"{walk.name}.trtexec.cache"
        contents["cache for trtexec"] = format_cache(parse_cache(walk.cache).for_trtexec())
    places = {"data": data, "labels": labels}
    names = {"data": next(iter(walk.data.shapes)), "labels": "labels"}
    for word, value in places.items():
        if value is not None and not isinstance(value, (str, os.PathLike)):
            files[word] = places[word] = out / f"{walk.name}.{word}.npz"
            arrays = value if isinstance(value, Mapping) else {names[word]: value}
            contents[word] = npz_bytes(arrays)
    files |= {"script": out / f"{walk.name}_on_gpu.py", "report": out / f"{walk.name}.html"}
    walk = dataclasses.replace(walk, files={word: str(path) for word, path in files.items()})
    contents["script"] = gpu_script(walk, model, places["data"], places["labels"])
    contents["report"] = report_html(walk)
    write_all({files[word]: content for word, content in contents.items()})
    return walk


def gpu_script(walk: Walk, model: Any, data: Any, labels: Any) -> str:
    """A Python program that does the same walk on a GPU machine, engines included.

    It takes each file from its own folder, else from where it was on this machine.
    """
    name = _in_docstring(walk.name)
    title = (
        f"Walk {name} through TensorRT on a machine with an NVIDIA GPU, and write the report there."
    )
    command = shell_command("python", Path(Path(walk.files["script"]).name))
    return Template(_file("gpu_script.txt")).substitute(
        title=title,
        command=_in_docstring(command),
        model=_literal(model),
        data=_literal(data),
        labels=_literal(labels),
        algorithm=repr(walk.algorithm),
        batch=walk.data.batch,
    )


def _file(name: str) -> str:
    return Path(__file__).with_name(name).read_text(encoding="utf-8")


def _literal(path: Any) -> str:
    return "None" if path is None else repr(str(Path(path).resolve()))


def _in_docstring(text: str) -> str:
    """A text as it may stand between triple quotes."""
    return repr(text)[1:-1].replace('"', '\\"')
