"""The one file that imports TensorRT: its version, what it can do, a log of every message.

``trt`` is the module itself, imported at its first use, so that everything else imports without
TensorRT. TensorRT 8.6, 10.x and 11.x are told apart by what the module has, never by its version
number. The environment variable TRTLEARN_TENSORRT names another module with the same interface
(tensorrt_rtx_bindings, say).
"""

from __future__ import annotations

import ctypes
import importlib
import os
import re
from dataclasses import dataclass
from functools import cache
from threading import get_ident
from typing import TYPE_CHECKING, Any

from ..calibration.cache import version_text
from ..dtypes import TENSORRT
from ..errors import BuildError, LiveUnavailable
from ..record import Record
from . import cuda

if TYPE_CHECKING:
    import tensorrt as trt
else:

    class _Later:
        """The module tensorrt, imported when one of its names is first used."""

        def __getattr__(self, name: str) -> Any:
            if name.startswith("__"):  # what inspection asks of any object must not import TensorRT
                raise AttributeError(name)
            return getattr(module(), name)

    trt = _Later()

__all__ = [
    "Capabilities",
    "Log",
    "available",
    "capabilities",
    "dtype_name",
    "lacks",
    "live",
    "logger",
    "shape_of",
    "trt",
]

_listeners: list[Log] = []  # the newest one of a thread gets its messages

_LETTERS = {"INTERNAL_ERROR": "F", "ERROR": "E", "WARNING": "W", "INFO": "I", "VERBOSE": "V"}


@dataclass(frozen=True)
class Capabilities(Record):
    """What the TensorRT here can do, asked of its module; the migration guide says what went."""

    version: str  # of the libraries, which may differ from the bindings'
    implicit_int8: bool  # BuilderFlag.INT8: gone in 11
    calibrators: bool  # IInt8EntropyCalibrator2 and its kin: gone in 11
    dynamic_ranges: bool  # ITensor.set_dynamic_range: gone in 11
    layer_precisions: bool  # ILayer.precision: gone in 11
    calibration_profile: bool
    progress_monitor: bool  # a build can be stopped: 10 and later
    tactic_sources: tuple[str, ...]


@cache
def _load(name: str) -> Any:
    try:
        found = importlib.import_module(name)
    except (ImportError, OSError, RuntimeError):  # RuntimeError: its libraries are not installed
        return None
    return found if hasattr(found, "Builder") else None  # tensorrt-stubs leave an empty namespace


def module() -> Any:
    """The TensorRT module; LiveUnavailable where none is installed."""
    name = os.environ.get("TRTLEARN_TENSORRT", "tensorrt")
    if (found := _load(name)) is None:
        fix = "pip install 'trtlearn[gpu]' on a machine with an NVIDIA GPU, or use the recordings"
        raise LiveUnavailable(f"the Python package {name} is not installed here", fix)
    return found


def library_version(found: Any) -> str:
    """The version of libnvinfer itself: bindings of 8.6.1 also run over libraries of 8.6.0."""
    version = str(found.__version__)
    try:
        major = version.split(".", maxsplit=1)[0]
        number = int(ctypes.CDLL(f"libnvinfer.so.{major}").getInferLibVersion())
    except (OSError, AttributeError):
        return version
    return version_text(number)


def available() -> str | None:
    """The version of the TensorRT libraries here, None where there are none. Never raises.

    >>> available() is None or available()[0].isdigit()
    True
    """
    try:
        return library_version(module())
    except LiveUnavailable:
        return None


def capabilities() -> Capabilities:
    """What the TensorRT at hand has; LiveUnavailable where there is none."""
    found = module()
    sources = getattr(found, "TacticSource", None)
    return Capabilities(
        version=library_version(found),
        implicit_int8=hasattr(found.BuilderFlag, "INT8"),
        calibrators=hasattr(found, "IInt8EntropyCalibrator2"),
        dynamic_ranges=hasattr(found.ITensor, "set_dynamic_range"),
        layer_precisions=hasattr(found.ILayer, "precision"),
        calibration_profile=hasattr(found.IBuilderConfig, "set_calibration_profile"),
        progress_monitor=hasattr(found, "IProgressMonitor"),
        tactic_sources=tuple(sources.__members__) if sources is not None else (),
    )


def lacks(what: str, fix: str = "put Q/DQ layers into the model") -> BuildError:
    """The error of a build that asks for what the TensorRT here does not have."""
    return BuildError(f"this TensorRT has no {what}", fix)


def live() -> Any:
    """The TensorRT module, once TensorRT, cuda-python, a driver and a GPU are all here.

    Raises LiveUnavailable that names the missing piece and the remedy.
    """
    found = module()
    cuda.require_gpu()
    return found


def dtype_name(dtype: Any) -> str | None:
    """trtlearn's name of a trt.DataType; None for one unknown here."""
    return TENSORRT.get(getattr(dtype, "name", ""))


def dtype_of(name: str) -> Any:
    """The trt.DataType that trtlearn calls ``name``; KeyError where this TensorRT has none."""
    wanted = {ours: theirs for theirs, ours in TENSORRT.items()}[name]
    members: dict[str, Any] = module().DataType.__members__
    return members[wanted]


def shape_of(dims: Any) -> tuple[int, ...]:
    """A trt.Dims as a tuple of whole numbers, -1 where dynamic."""
    return tuple(int(size) for size in dims)


class Log:
    """TensorRT's messages, verbose ones too, as lines "[V] text": all that come inside a ``with``.

    Letters: F internal error, E error, W warning, I info, V verbose. A message of several lines
    keeps its letter on each. Of logs inside each other the inner one gets a message, and the outer
    one goes on behind it. A thread's messages go to its own logs; those of a thread without one, as
    TensorRT's own are, to the newest. A log can be opened again: it keeps its lines.

    Example (with TensorRT)::

        with Log() as log:
            builder = trt.Builder(logger())
        print(log.text())
    """

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.thread = 0

    def __enter__(self) -> Log:
        self.thread = get_ident()
        _listeners.append(self)
        return self

    def __exit__(self, *problem: object) -> None:
        _listeners.remove(self)

    def text(self) -> str:
        """All lines so far."""
        return "\n".join(self.lines)

    def errors(self) -> list[str]:
        """The text of each line that is an error."""
        return [re.sub(r"^\[.\] ", "", line) for line in self.lines if line[1:2] in "FE"]


def logger() -> Any:
    """The process's one trt.ILogger: it hands each message to the innermost open :class:`Log`.

    TensorRT registers the first logger of a process, ignores others, and keeps a pointer to it:
    it is never freed (measured: 8.6.0 crashes otherwise).
    """
    return _logger_of(module())


@cache
def _logger_of(found: Any) -> Any:
    class Logger(found.ILogger):  # type: ignore[misc]  # its type is known at run time only
        def __init__(self) -> None:
            found.ILogger.__init__(self)

        def log(self, severity: Any, msg: str) -> None:
            letter = _LETTERS.get(severity.name, "V")
            mine = [log for log in _listeners if log.thread == get_ident()]
            for log in (mine or _listeners)[-1:]:
                log.lines.extend(f"[{letter}] {line}" for line in msg.splitlines() or [""])

    return Logger()
