"""TensorRT's log in plain words: what each warning means, what to do, and the scales and layers that it names."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

from .message_table import KINDS, Kind
from .records import Message, TensorRange

__all__ = ["decode", "failing_layer", "first_error", "scales_from_log", "split_line"]

_SEVERITY = {"F": "error", "E": "error", "W": "warning", "I": "info", "V": "verbose"}
_PREFIX = re.compile(r"^(?:\[[0-9/:\-]+\] )?\[([FEWIV])\] (?:\[TRT\] )?")
_SCALE = re.compile(
    r"INT8 Inference Tensor scales and zero-points: (.+) scale and zero-point "
    r"Quantization\(scale: \{([^}]*)\}, zero-point: \{([^}]*)\}\)"
)
_NODE = re.compile(
    r"(?:implementation for node|candidate choices for node|No IAlgorithm obeys the requested constraints for) "
    r"(.+?)(?: due to insufficient workspace.*| in strict mode.*| that meet the preferred.*)?$"
)
_VERBOSE = tuple(kind for kind in KINDS if kind.verbose)
_API = re.compile(r"Error Code \d+: [^(]*\((?:\[?)(.+?)(?:\]?): ")


def split_line(line: str) -> tuple[str, str]:
    """(severity, text) of a log line, as trtlearn or trtexec wrote it; severity "verbose" where it names none.

    >>> split_line("[11/23/2026-16:00:00] [W] [TRT] Timing cache disabled.")
    ('warning', 'Timing cache disabled.')
    """
    if found := _PREFIX.match(line):
        return _SEVERITY[found[1]], line[found.end() :]
    return "verbose", line


def _lines(log: str | Iterable[str]) -> Iterator[tuple[str, str]]:
    for line in log.splitlines() if isinstance(log, str) else log:
        yield split_line(line.rstrip("\n"))


def _clean(name: str) -> str:
    """``name`` without the full stop and the ")" of "Error Code 10: Internal Error (... NAME.)"."""
    name = name.rstrip(". ")
    while name.endswith(")") and name.count(")") > name.count("("):
        name = name[:-1].rstrip(". ")
    return name


def _kind(severity: str, text: str) -> tuple[Kind | None, tuple[str, ...]]:
    for kind in _VERBOSE if severity == "verbose" else KINDS:
        if found := kind.pattern.search(text):
            return kind, tuple(_clean(part) for part in found.groups() if part)
    return None, ()


def decode(log: str | Iterable[str]) -> tuple[Message, ...]:
    """What a TensorRT log says in plain words: one Message a kind, with how often it came and whom it named.

    Args:
        log: the text, or its lines, as ``BuildReport.log`` or trtexec's output has them.

    Returns every error and warning, also of a kind not known here (``code`` "", ``plain`` None), and those
    informative lines that matter, errors first, otherwise in the order in which they came.

    >>> message, = decode("[W] Missing scale and zero-point for tensor x, expect fall back to non-int8 "
    ...                   "implementation for any layer consuming or producing given tensor")
    >>> message.code, message.names
    ('missing-scale', ('x',))
    """
    kept: dict[tuple[str, str], tuple[str, str, Kind | None, list[str], int]] = {}
    for severity, text in _lines(log):
        if not text.strip():
            continue
        kind, names = _kind(severity, text)
        if kind is None and severity not in ("error", "warning"):
            continue
        key = (severity, kind.code if kind else text)
        first_severity, first, kept_kind, all_names, count = kept.get(key, (severity, text, kind, [], 0))
        all_names += [name for name in names if name not in all_names]
        kept[key] = (first_severity, first, kept_kind, all_names, count + 1)
    messages = [
        Message(
            severity="info" if severity == "verbose" else severity,
            text=text,
            code=kind.code if kind else "",
            plain=kind.plain if kind else None,
            fix=kind.fix if kind else None,
            names=tuple(names),
            count=count,
        )
        for severity, text, kind, names, count in kept.values()
    ]
    order = {"error": 0, "warning": 1, "info": 2}
    return tuple(sorted(messages, key=lambda message: order[message.severity]))


def scales_from_log(log: str) -> tuple[TensorRange, ...]:
    """Each tensor's INT8 scale as the verbose log prints it (six digits), in the log's order.

    The builder prints them after calibration, or after the ranges set by hand: amax = 127 · scale. A tensor
    with several scales (one per channel) has scale None and says so. Source: TensorRT 8.6 verbose log, measured.

    >>> scales_from_log("[V] INT8 Inference Tensor scales and zero-points: a b scale and zero-point "
    ...                 "Quantization(scale: {0.0366892,}, zero-point: {0,})")[0].scale
    0.0366892
    """
    found: dict[str, TensorRange] = {}
    for name, scales, zeros in _SCALE.findall(log):
        values = [float(value) for value in scales.split(",") if value.strip()]
        if len(values) != 1:
            entry = TensorRange(name, None, None, "log", f"{len(values)} scales")
        else:
            zero = ", ".join(value.strip() for value in zeros.split(",") if value.strip())
            note = "" if zero == "0" else f"zero point {zero}"
            entry = TensorRange(name, values[0] * 127, values[0], "log", note)
        found.setdefault(name, entry)
    return tuple(found.values())


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
        if found := _NODE.search(text):
            return _clean(found[1])
        if (found := _API.search(text)) and not found[1].startswith("Assertion"):
            return found[1]
    return None
