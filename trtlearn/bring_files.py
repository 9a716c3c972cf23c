"""What a walk writes: the calibration cache, the Q/DQ model, the script for a GPU machine, and the report."""

from __future__ import annotations

import dataclasses
import io
import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from .paths import write_atomic
from .report import report_html

if TYPE_CHECKING:
    from .bring_records import Walk

__all__ = ["gpu_script", "write_files"]


def write_files(result: Walk, out: Path, quantized: bytes, model: Path, data: Any, labels: Any) -> Walk:
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
            write_atomic(files[word], _packed(value, "labels" if word == "labels" else next(iter(result.data.shapes))))
    write_atomic(files["script"], text)
    write_atomic(files["report"], page)
    return result


def _packed(value: Any, name: str) -> bytes:
    arrays = {str(key): item for key, item in value.items()} if isinstance(value, Mapping) else {name: value}
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

from trtlearn.bring import walk

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
