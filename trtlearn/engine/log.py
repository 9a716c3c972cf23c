"""TensorRT's log in plain words: what each warning means, what to do, which scales it names.

The kinds of message that trtlearn knows stand in messages.json, the more particular first: a
pattern (its groups name tensors or layers), plain words, what to do, and whether it counts even as
a verbose line.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

from ..files import read_bytes
from .records import Message, TensorRange

__all__ = [
    "MessageKind",
    "decode",
    "failing_layer",
    "first_error",
    "message_kinds",
    "scales_from_log",
    "split_line",
]

_SEVERITY = {"F": "error", "E": "error", "W": "warning", "I": "info", "V": "verbose"}
_ORDER = ("error", "warning", "info")
_PREFIX = re.compile(r"^(?:\[[0-9/:\-]+\] )?\[([FEWIV])\] (?:\[TRT\] )?")
_SCALE = re.compile(
    r"INT8 Inference Tensor scales and zero-points: (.+) scale and zero-point "
    r"Quantization\(scale: \{([^}]*)\}, zero-point: \{([^}]*)\}\)"
)
_NODE = re.compile(
    r"(?:implementation for node|candidate choices for node"
    r"|No IAlgorithm obeys the requested constraints for) (.+?)"
    r"(?: due to insufficient workspace.*| in strict mode.*| that meet the preferred.*)?$"
)
_API = re.compile(r"Error Code \d+: [^(]*\((?:\[?)(.+?)(?:\]?): ")


@dataclass(frozen=True)
class MessageKind:
    """One kind of message."""

    code: str
    pattern: re.Pattern[str]
    plain: str
    fix: str
    verbose: bool = False  # reported even where it came as a verbose line


@cache
def message_kinds(verbose: bool = False) -> tuple[MessageKind, ...]:
    """Every kind of message known, or those that count as a verbose line; the particular first."""
    if verbose:
        return tuple(kind for kind in message_kinds() if kind.verbose)
    rows = json.loads(read_bytes(Path(__file__).with_name("messages.json")))
    return tuple(MessageKind(**row | {"pattern": re.compile(row["pattern"])}) for row in rows)


def split_line(line: str) -> tuple[str, str]:
    """(severity, text) of a log line of trtlearn or trtexec; "verbose" where it names none.

    >>> split_line("[11/23/2026-16:00:00] [W] [TRT] Timing cache disabled.")
    ('warning', 'Timing cache disabled.')
    """
    if match := _PREFIX.match(line):
        return _SEVERITY[match[1]], line[match.end() :]
    return "verbose", line


def _lines(log: str | Iterable[str]) -> Iterator[tuple[str, str]]:
    for line in log.splitlines() if isinstance(log, str) else log:
        yield split_line(line.rstrip("\n"))


def _clean(name: str) -> str:
    """``name`` without the full stop and the ")" of "Internal Error (... NAME.)"."""
    name = name.rstrip(". ")
    while name.endswith(")") and name.count(")") > name.count("("):
        name = name[:-1].rstrip(". ")
    return name


def _message(severity: str, text: str) -> Message | None:
    """The message of one line; None for a line that tells a reader nothing."""
    shown = "info" if severity == "verbose" else severity
    for kind in message_kinds(severity == "verbose"):
        if match := kind.pattern.search(text):
            names = tuple(_clean(part) for part in match.groups() if part)
            return Message(shown, text, kind.code, kind.plain, kind.fix, names)
    return Message(shown, text) if severity in ("error", "warning") and text.strip() else None


def decode(log: str | Iterable[str]) -> tuple[Message, ...]:
    """What a TensorRT log says: one Message a kind, with how often it came and whom it named.

    Args:
        log: the text, or its lines, as ``BuildReport.log`` or trtexec's output has them.

    Returns every error and warning, also of a kind not known here (``code`` "", ``plain`` None),
    and those informative lines that matter, errors first, otherwise in the order in which they
    came.

    >>> line = "[W] Missing scale and zero-point for tensor x, expect fall back to non-int8 ..."
    >>> message, = decode(line)
    >>> message.code, message.names
    ('missing-scale', ('x',))
    """
    messages: dict[tuple[str, str], Message] = {}
    for severity, text in _lines(log):
        message = _message(severity, text)
        if message is None:
            continue
        key = (severity, message.code or text)
        first = messages.get(key)
        if first is not None:
            names = tuple(dict.fromkeys((*first.names, *message.names)))
            message = replace(first, names=names, count=first.count + 1)
        messages[key] = message
    return tuple(sorted(messages.values(), key=lambda message: _ORDER.index(message.severity)))


def scales_from_log(log: str) -> tuple[TensorRange, ...]:
    """Each tensor's INT8 scale as the verbose log prints it (six digits), in the log's order.

    The builder prints them after calibration, or after the ranges set by hand: amax = 127 ·
    scale. A tensor with several scales (one per channel) has scale None, and its note says so.
    Source: TensorRT 8.6's verbose log, measured.

    >>> start = "[V] INT8 Inference Tensor scales and zero-points: a b scale and zero-point "
    >>> scales_from_log(start + "Quantization(scale: {0.0366892,}, zero-point: {0,})")[0].scale
    0.0366892
    """
    ranges: dict[str, TensorRange] = {}
    for name, scales, zeros in _SCALE.findall(log):
        values = [float(value) for value in scales.split(",") if value.strip()]
        if len(values) != 1:
            entry = TensorRange(name, None, None, "log", f"{len(values)} scales")
        else:
            zero = ", ".join(value.strip() for value in zeros.split(",") if value.strip())
            note = "" if zero == "0" else f"zero point {zero}"
            entry = TensorRange(name, values[0] * 127, values[0], "log", note)
        ranges.setdefault(name, entry)
    return tuple(ranges.values())


def first_error(log: str | Iterable[str]) -> str | None:
    """The first error's own words; None where the log holds no error."""
    return next((text for severity, text in _lines(log) if severity == "error"), None)


def failing_layer(log: str | Iterable[str]) -> str | None:
    """The layer (or fused layers) that the log's first error blames; None where it names none.

    >>> failing_layer("[E] 10: Could not find any implementation for node a + PWN(b, c).")
    'a + PWN(b, c)'
    """
    for severity, text in _lines(log):
        if severity != "error":
            continue
        if match := _NODE.search(text):
            return _clean(match[1])
        if (match := _API.search(text)) and not match[1].startswith("Assertion"):
            return match[1]
    return None
