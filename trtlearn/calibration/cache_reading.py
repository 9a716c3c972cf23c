"""A calibration cache's file as TensorRT takes it: ignored or used, and line by line.

:func:`~trtlearn.calibration.cache.parse_cache` refuses odd lines; TensorRT takes most of them
without a message. Source: measured, TensorRT 8.6.0, data/recordings/*/calibration/odd-caches.json:
each file recorded there is read with the same scales and the same warnings (tests/recorded/
test_cache_cases.py).
"""

from __future__ import annotations

import math
import re
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from ..errors import CacheError
from ..files import load_table, recognize, shell_command
from ..record import Record, plural
from .cache import HEADER, is_ort_table, major, make_header, parse_cache, version_text

__all__ = [
    "ODDITIES",
    "CacheIgnored",
    "CacheLine",
    "CacheReading",
    "Oddity",
    "as_tensorrt_reads",
    "ignored_by_trtexec",
    "old_header",
    "with_first_line",
]


def with_first_line(content: bytes, header: str) -> bytes:
    """A cache file's content under ``header``, also where its own first line cannot be read.

    >>> with_first_line(b"TRT-8XXX-EntropyCalibration2\\nx: 3f000000\\n", make_header())
    b'TRT-8600-EntropyCalibration2\\nx: 3f000000\\n'
    """
    first, _, rest = content.removeprefix(b"\xef\xbb\xbf").partition(b"\n")
    is_scale = re.fullmatch(rb".+: [0-9a-fA-F]{1,8}\r?", first)  # there is no header at all
    return header.encode() + b"\n" + (first + b"\n" if is_scale else b"") + rest


class CacheIgnored(NamedTuple):
    """A cache that TensorRT does not take: why, and what to do."""

    why: str
    fix: str


def ignored_by_trtexec(
    content: bytes, name: str = "FILE", tensorrt: str = "8.6.0"
) -> CacheIgnored | None:
    r"""Why TensorRT does not take this cache, called ``name``, from trtexec's calibrator; None
    where it does.

    trtexec's is an IInt8EntropyCalibrator2 (v8.6.1:samples/common/sampleEngines.cpp:362, the same
    to 10.16). Source: measured, data/recordings/*/calibration/odd-caches.json: TensorRT 8.6.0 took
    headers of 7.6.0, 8.6.0 and 8.6.1, and set that of 10.16.0 aside.

    >>> ignored_by_trtexec(b"TRT-8600-EntropyCalibration2\nx: 3f000000\n")
    >>> ignored_by_trtexec(b"TRT-8600-MinMaxCalibration\nx: 3f000000\n").why
    "its header names MinMaxCalibration, and trtexec's calibrator is an EntropyCalibration2"
    """
    again = "calibrate again and pass the cache that comes out"
    edit = _new_header(name, tensorrt)
    header = _header(content)
    if not content:
        return CacheIgnored("it is empty", again)
    if header is None and is_ort_table(content):
        kinds = ("--from", "ort-table", "--to", "cache")
        line = shell_command("trtlearn", "cache", "convert", Path(name), "-o", "NEW", *kinds)
        fix = f"`{line}` writes a cache of TensorRT's"
        return CacheIgnored("it is ONNX Runtime's calibration table", fix)
    if header is None and not _reads_under(content, make_header()):
        other = recognize(content)
        what = other.words if other and other.kind != "cache" else "no calibration cache"
        return CacheIgnored(f"it is {what}", f"give a calibration cache, or {again}")
    if header is None:
        wanted = make_header(tensorrt=tensorrt)
        why = f"its first line is not the header of an EntropyCalibration2, such as {wanted}"
        return CacheIgnored(why, edit)
    if header[2] != "EntropyCalibration2":
        why = f"its header names {header[2]}, and trtexec's calibrator is an EntropyCalibration2"
        return CacheIgnored(why, edit)
    if major(tensorrt) < 10 and len(header[1]) > 4:
        version = f"TensorRT {version_text(int(header[1]))}"
        why = f"its header names {version}, a number with too many digits for this version"
        return CacheIgnored(why, edit)
    has_lines = content.partition(b"\n")[2].strip()
    return None if has_lines else CacheIgnored("it holds a header and no scale", again)


def _header(content: bytes) -> re.Match[str] | None:
    return HEADER.fullmatch(content.partition(b"\n")[0].rstrip(b"\r").decode(errors="replace"))


def _reads_under(content: bytes, header: str) -> bool:
    """Whether the file holds scales once ``header`` stands in place of its first line."""
    try:
        return bool(parse_cache(with_first_line(content, header)).scales)
    except CacheError:
        return False


def _new_header(name: str, tensorrt: str) -> str:
    """The advice to write the header that trtexec's calibrator takes."""
    words = ("--header", make_header(tensorrt=tensorrt))
    line = shell_command("trtlearn", "cache", "edit", Path(name), "-o", "NEW", *words)
    return f"`{line}` keeps the scales and writes the header that trtexec's calibrator takes"


def old_header(content: bytes, name: str, tensorrt: str) -> CacheIgnored | None:
    """What to know of a cache whose header is of TensorRT 9 or before, under TensorRT 10.

    Source: NVIDIA/Deep-Learning-Accelerator-SW#26: 10.3.0 asked trtexec's calibrator for a batch,
    though the cache was an EntropyCalibration2's, with the header TRT-8600.
    """
    header = _header(content)
    if header is None or len(header[1]) > 4 or major(tensorrt) < 10:
        return None
    why = (
        f"the header of {name} is of TensorRT {version_text(int(header[1]))}: 10.3.0 was reported "
        "to ignore such a cache, and to end on null pointers "
        "(NVIDIA/Deep-Learning-Accelerator-SW#26)"
    )
    return CacheIgnored(why, _new_header(name, tensorrt))


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
