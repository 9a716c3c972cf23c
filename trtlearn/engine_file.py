"""One file of an engine, whatever it is: inspector JSON, a recorded experiment, or a plan (with a GPU)."""

from __future__ import annotations

import os
import zlib

from .errors import EngineError, InspectorError, LiveUnavailable
from .inspector import read_engine
from .paths import read_bytes
from .records import EngineInfo, Experiment

__all__ = ["open_engine"]

_GZIP = b"\x1f\x8b"
_LARGEST = 1 << 30  # bytes a compressed recording may unfold to


def _unfold(content: bytes, path: object) -> bytes:
    """The content of a gzip file, refused when damaged or larger than any recording."""
    unfold = zlib.decompressobj(wbits=31)
    try:
        text = unfold.decompress(content, _LARGEST)
    except zlib.error as problem:
        raise InspectorError(f"{path} is a damaged gzip file: {problem}", "copy it again") from None
    if unfold.unconsumed_tail:
        raise InspectorError(f"{path} unfolds to more than {_LARGEST:,} bytes", "name a recording or inspector JSON")
    if not unfold.eof:
        raise InspectorError(f"{path} is a gzip file cut short", "copy it again")
    return text


def _from_plan(content: bytes, path: object) -> EngineInfo:
    from .runner import Runner

    try:
        with Runner(content) as runner:
            return read_engine(runner.inspect_text())
    except LiveUnavailable as missing:
        raise EngineError(
            f"{path} is no inspector JSON; as an engine plan it can only be read by the TensorRT that built it, "
            f"on a GPU of that kind ({missing.problem})",
            "trtexec --loadEngine=PLAN --exportLayerInfo=layers.json where it was built, then give layers.json",
        ) from None


def open_engine(path: str | os.PathLike[str]) -> tuple[EngineInfo, Experiment | None]:
    """The engine that a file describes, and the experiment when it is a recorded one (.json or .json.gz).

    Raises InspectorError for a file that cannot be read, is empty or is broken JSON, EngineError for a plan that
    cannot be loaded here.
    """
    content = read_bytes(path, InspectorError)
    if content.startswith(_GZIP):
        content = _unfold(content, path)
    if not content.strip():
        raise InspectorError(f"{path} is empty", "export it again")
    if not content.lstrip(b"\xef\xbb\xbf \t\r\n").startswith((b"{", b"[")):
        return _from_plan(content, path), None
    text = content.decode(errors="replace")
    if '"provenance"' in text and '"variant"' in text:
        experiment = Experiment.from_json(text)
        return experiment.engine, experiment
    return read_engine(text), None
