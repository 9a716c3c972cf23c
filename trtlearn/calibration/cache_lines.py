"""A calibration cache as TensorRT 8.6.0 reads it, line by line, odd lines too.

:func:`~trtlearn.calibration.cache.parse_cache` refuses what is odd; TensorRT takes most of it
without a message. Source: measured, data/recordings/*/calibration/odd-caches.json: each file
recorded there is read with the same scales and the same warnings (tests/recorded/
test_cache_cases.py).
"""

from __future__ import annotations

import math
import re
import struct
from dataclasses import dataclass
from typing import NamedTuple

from ..files import load_table
from ..record import Record, plural
from .cache import ignored_by_trtexec

__all__ = ["ODDITIES", "CacheLine", "CacheReading", "Oddity", "as_tensorrt_reads"]


class Oddity(NamedTuple):
    """What TensorRT does with an odd line, and the recorded case that shows it."""

    what: str
    case: str | None


ODDITIES = {word: Oddity(**row) for word, row in load_table("oddities").items()}
"""Oddity of a line -> what it means."""

_DIGITS = re.compile(r"\s*([0-9a-fA-F]*)\s*")


@dataclass(frozen=True)
class CacheLine(Record):
    """One line behind the header: the tensor, the scale that TensorRT reads, what is odd.

    ``name`` is None for a line that is skipped, ``scale`` None where it is not known.
    """

    number: int  # in the file, from 1
    text: str
    name: str | None
    scale: float | None
    oddities: tuple[str, ...] = ()


@dataclass(frozen=True)
class CacheReading(Record):
    """The whole file: ``ignored`` says why TensorRT calibrates again, None where it uses it."""

    header: str
    ignored: str | None
    lines: tuple[CacheLine, ...]

    @property
    def scales(self) -> dict[str, float | None]:
        """Tensor -> the scale that TensorRT has from the file; {} for a file that it ignores."""
        if self.ignored:
            return {}
        return {line.name: line.scale for line in self.lines if line.name is not None}

    @property
    def odd(self) -> tuple[CacheLine, ...]:
        """The lines with something odd."""
        return tuple(line for line in self.lines if line.oddities)

    def summary(self) -> str:
        if self.ignored:
            return f"ignored: {self.ignored}"
        return f"used: {plural(len(self.scales), 'scale')}, {plural(len(self.odd), 'odd line')}"


def as_tensorrt_reads(content: bytes) -> CacheReading:
    r"""What an EntropyCalibration2 calibrator of TensorRT 8.6.0, such as trtexec's, takes from it.

    >>> as_tensorrt_reads(b"TRT-8600-EntropyCalibration2\nx: 3f000000\ny:3f000000\n").scales
    {'x': 0.5, 'y': 6.310887241768095e-30}
    """
    ignored = ignored_by_trtexec(content)
    first, *rest = content.decode(errors="replace").split("\n")
    ends_in_line = bool(rest and rest[-1])
    if rest and not rest[-1]:
        rest.pop()
    lines = [CacheLine(1, "", None, None, ("no colon",))] if first.endswith("\r") else []
    seen: set[str] = set()
    for number, text in enumerate(rest, 2):
        line = _read_line(number, text, seen, ends_in_line and number == len(rest) + 1)
        lines.append(line)
        seen.add(line.name or "")
    return CacheReading(first.rstrip("\r"), ignored and ignored.why, tuple(lines))


def _read_line(number: int, text: str, seen: set[str], is_cut: bool) -> CacheLine:
    name, colon, rest = text.rpartition(":")
    if not colon:
        return CacheLine(number, text, None, None, ("no colon",))
    found = _DIGITS.match(rest[1:])
    digits = found[1] if found else ""
    bits = int(digits or "0", 16)
    scale = struct.unpack(">f", bits.to_bytes(4, "big"))[0] if len(digits) <= 8 else None
    odd = {
        "no space": not rest[:1].isspace(),
        "no hex": not digits or found is None or found.end() < len(rest[1:]),
        "too long": scale is None,
        "cut": is_cut and 0 < len(digits) < 8 and bits > 0,
        "given twice": name in seen,
        "zero": scale == 0 and bool(digits),
        "negative": scale is not None and scale < 0,
        "NaN": scale is not None and math.isnan(scale),
        "infinite": scale is not None and math.isinf(scale),
    }
    return CacheLine(number, text, name, scale, tuple(word for word, is_so in odd.items() if is_so))
