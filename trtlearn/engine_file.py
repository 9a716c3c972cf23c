"""One file of an engine, whatever it is: inspector JSON, a recorded experiment, or a plan (with a GPU)."""

from __future__ import annotations

import os

from .errors import EngineError, InspectorError, LiveUnavailable
from .inspector import read_engine
from .paths import read_bytes
from .recordings import load_experiment
from .records import EngineInfo, Experiment

__all__ = ["open_engine"]

_GZIP = b"\x1f\x8b"


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
    """The engine that a file describes, and the experiment when it is a recording (.json.gz).

    Raises InspectorError for a file that cannot be read, is empty or is broken JSON, RecordingError for a damaged
    recording, EngineError for a plan that cannot be loaded here.
    """
    content = read_bytes(path, InspectorError)
    if content.startswith(_GZIP):
        experiment = load_experiment(path)
        return experiment.engine, experiment
    if not content.strip():
        raise InspectorError(f"{path} is empty", "export it again")
    if not content.lstrip(b"\xef\xbb\xbf \t\r\n").startswith((b"{", b"[")):
        return _from_plan(content, path), None
    return read_engine(content), None
