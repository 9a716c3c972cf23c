"""What goes wrong, and what to do about it: every error of trtlearn says both."""

from __future__ import annotations

import re
from typing import Any

__all__ = [
    "HIDDEN",
    "BuildError",
    "CacheError",
    "CommandError",
    "DataError",
    "EngineError",
    "InspectorError",
    "LiveUnavailable",
    "MissingTensor",
    "ModelError",
    "RecordingError",
    "TrtlearnError",
    "first_line",
    "printable",
]

LONGEST = 1500  # characters of an error's problem
HIDDEN = re.compile(
    "([\x00-\x08\x0b-\x1f\x7f-\x9f\xad\u061c\u180e\u200b-\u200f\u2028-\u202e\u2060-\u206f"
    "\ud800-\udfff\ufeff\ufff9-\ufffb\U000e0000-\U000e007f]+)"
)
"""Characters that a terminal obeys or hides: control characters but tab and newline, those that
turn the direction of text, halves of surrogate pairs, and those without width.
"""


def printable(text: str) -> str:
    """``text`` with each character of ``HIDDEN`` spelled out: names from files are data, and no
    terminal, page or figure obeys them.

    >>> printable("conv\\x1b[31m\\u202e")
    'conv\\\\x1b[31m\\\\u202e'
    """
    if text.isprintable():
        return text
    return HIDDEN.sub(lambda found: found[0].encode("unicode_escape").decode(), text)


def first_line(problem: Exception) -> str:
    """The first line of another library's error, or the error's kind where it says nothing.

    >>> first_line(ValueError("no such axis\\nin node 3")), first_line(KeyError())
    ('no such axis', 'KeyError')
    """
    return (str(problem).strip().splitlines() or [type(problem).__name__])[0]


def _cut(text: str) -> str:
    """``text`` without its middle where a name of thousands of characters stands in it."""
    return text if len(text) <= LONGEST else f"{text[: LONGEST // 2]} … {text[-LONGEST // 2 :]}"


class TrtlearnError(Exception):
    """An error with a remedy: ``problem`` says what was found and expected, ``fix`` what to try.

    >>> print(TrtlearnError("scale is -1.0, expected a number above 0", "delete that line"))
    scale is -1.0, expected a number above 0. Try: delete that line
    """

    def __init__(self, problem: str, fix: str = "") -> None:
        self.problem = printable(_cut(problem.rstrip(". ")))
        self.fix = printable(fix)
        super().__init__(f"{self.problem}. Try: {self.fix}" if fix else self.problem)


class CacheError(TrtlearnError):
    """A calibration cache that cannot be read or written."""


class MissingTensor(CacheError, KeyError):
    """A tensor that a calibration cache does not hold."""

    __str__ = Exception.__str__


class CommandError(TrtlearnError):
    """A trtexec command line that cannot be understood."""


class DataError(TrtlearnError):
    """Input data of the wrong shape or type, or holding NaN or infinity."""


class ModelError(TrtlearnError):
    """An ONNX file that is missing, broken or of a kind not handled."""


class InspectorError(TrtlearnError):
    """Engine-inspector text that is no inspector text."""


class EngineError(TrtlearnError):
    """A plan that does not load, or an engine that does not run."""


class BuildError(TrtlearnError):
    """A build that failed: names the layer where TensorRT named one."""

    layer: str | None = None
    messages: tuple[Any, ...] = ()  # the log decoded: records.Message
    log: str = ""


class RecordingError(TrtlearnError):
    """A recording that is missing, or does not belong to the model or data at hand."""


class LiveUnavailable(TrtlearnError):
    """No GPU, driver or TensorRT here: nothing can be built live."""
