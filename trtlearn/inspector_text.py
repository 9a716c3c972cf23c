"""The text of an inspector file, and in one line what a file is that holds none."""

from __future__ import annotations

import json
import os
import re
from typing import Any

from .errors import InspectorError
from .paths import read_bytes

__all__ = ["EXPORT", "inspector_text", "parse"]

EXPORT = "export it with trtexec --loadEngine=PLAN --profilingVerbosity=detailed --exportLayerInfo=layers.json"
"""What to try when a file is no inspector output."""
_DECODER = json.JSONDecoder(strict=False)  # strict=False: 8.6 leaves 0x1e raw inside strings
_START = re.compile(r'\{\s*"(?:Layers|Name)"\s*:')


def _decode(content: bytes) -> str:
    """The text of a file, or an InspectorError that says what the file is instead."""
    head = content[:64]
    if head[:2] in (b"\xff\xfe", b"\xfe\xff"):  # what PowerShell's ">" writes
        try:
            return content.decode("utf-16")
        except UnicodeDecodeError:
            raise InspectorError("the text is damaged UTF-16", "export it again") from None
    if head[:4] in (b"ptrt", b"ftrt"):
        raise InspectorError("this is an engine plan, expected the inspector's JSON", EXPORT)
    if head[:2] == b"\x1f\x8b" or head[:2] == b"PK":
        raise InspectorError("this file is compressed, expected the inspector's JSON", "unpack it first")
    if head[:1] == b"\x08" and (b"onnx" in content[:4096].lower() or b"pytorch" in content[:4096].lower()):
        raise InspectorError("this is an ONNX model, expected the inspector's JSON of an engine", EXPORT)
    if b"\0" in head:
        raise InspectorError("this is a binary file (an engine plan?), expected the inspector's JSON", EXPORT)
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as problem:
        raise InspectorError(f"not UTF-8 text: byte {problem.start} is {content[problem.start]:#04x}", EXPORT) from None


def inspector_text(source: str | bytes | os.PathLike[str]) -> str:
    """The text of ``source``: itself where it looks like JSON, else the file at that path."""
    if isinstance(source, bytes):
        return _decode(source)
    if isinstance(source, str) and (source.lstrip("\ufeff \t\r\n")[:1] in ("{", "[", '"', "") or "\n" in source):
        return source.lstrip("\ufeff")
    try:
        return _decode(read_bytes(source, InspectorError))
    except ValueError:  # a path with a zero byte
        raise InspectorError(f"neither JSON nor a path: {source!r:.60}", EXPORT) from None


def _among_other_lines(text: str) -> Any:
    """The engine, or the list of layers, that a script printed between lines of a log; None where there is none."""
    found: list[dict[str, Any]] = []
    at = 0
    while start := _START.search(text, at):
        try:
            value, at = _DECODER.raw_decode(text, start.start())
        except (ValueError, RecursionError):
            return None
        found.append(value)
    engines = [value for value in found if "Layers" in value]
    if len(engines) > 1:
        raise InspectorError(f"the text holds {len(engines)} engines", "give each a file of its own")
    return engines[0] if engines else found or None


def parse(text: str) -> Any:
    """The JSON of ``text``, or an InspectorError that says in one line what is wrong with it.

    A text that is no JSON as a whole may still hold one engine, or its layers one after the other.
    """
    if not text.strip():
        raise InspectorError("the inspector's text is empty", EXPORT)
    try:
        return _DECODER.decode(text)
    except RecursionError:
        raise InspectorError("the JSON is nested too deeply for inspector output", EXPORT) from None
    except json.JSONDecodeError as problem:
        if (found := _among_other_lines(text)) is not None:
            return found
        if re.search(r"^Layers:|\bLayerType: ", text, re.MULTILINE):
            raise InspectorError("this is the inspector's one-line text or a log, expected its JSON", EXPORT) from None
        if text.lstrip()[:1] not in ("{", "["):
            start = " ".join(text[:80].split())[:40]
            raise InspectorError(f"expected the inspector's JSON, the text starts with {start!r}", EXPORT) from None
        cut = " (cut short?)" if not text[problem.pos :].strip() or "Unterminated" in problem.msg else ""
        where = f"line {problem.lineno}, column {problem.colno}"
        raise InspectorError(f"broken JSON{cut}: {problem.msg} at {where}", "export the file again") from None
    except ValueError as problem:  # an integer with thousands of digits
        raise InspectorError(f"broken JSON: {problem}", "export the file again") from None
