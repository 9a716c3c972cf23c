"""The calibration cache as a file: what each byte of it says, read and written exactly as TensorRT does."""

from __future__ import annotations

import math
import os
import re
import struct
import warnings
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np

from .cacherecord import ALGORITHMS, KINDS, CacheEntry, CalibrationCache, make_header, version_text
from .errors import CacheError, DataError
from .paths import read_bytes, write_atomic
from .quant import scale_from_amax

__all__ = [
    "ALGORITHMS",
    "CacheEntry",
    "CalibrationCache",
    "SetAside",
    "entry",
    "format_cache",
    "make_header",
    "new_cache",
    "parse_cache",
    "read_cache",
    "set_aside",
    "version_text",
    "write_cache",
]

_HEADER = re.compile(r"TRT-([0-9]{1,9})-([A-Za-z][A-Za-z0-9_]*)")
_LEGACY = re.compile(r"([0-9]{1,9}) ([0-9a-fA-F]{1,16}) ([0-9a-fA-F]{1,16})")
_HEX = re.compile(r"[0-9a-fA-F]{1,8}")


def _name_problem(name: str) -> str | None:
    if not name.strip():
        return "an empty tensor name"
    if any(mark in name for mark in "\n\r\0"):
        return f"the tensor name {name!r} holds a line break or a null byte"
    try:
        name.encode()
    except UnicodeEncodeError:
        return f"the tensor name {name!r} cannot be written as UTF-8"
    return None


def entry(name: str, scale: float) -> CacheEntry:
    """The cache line of one tensor; CacheError for a scale that is not finite and from 0, or an impossible name.

    >>> entry("conv1", 0.0706246570).hex, entry("zeros", 0.0).hex
    ('3d90a3a9', '0')
    """
    if problem := _name_problem(name):
        raise CacheError(problem, "a cache holds one tensor a line: choose another name")
    with np.errstate(over="ignore"):
        value = np.float32(scale)
    if not np.isfinite(value) or value < 0:
        raise CacheError(f"scale of {name!r} is {scale}, expected a finite number from 0", "use amax / 127")
    bits = struct.unpack(">I", struct.pack(">f", abs(float(value))))[0]  # abs: -0.0 is written 0
    return _entry(name, f"{bits:x}")


def _entry(name: str, text: str) -> CacheEntry:
    scale = np.frombuffer(int(text, 16).to_bytes(4, "big"), dtype=">f4")[0].astype(np.float32)
    with np.errstate(over="ignore"):
        amax = np.float32(scale * np.float32(127.0))
    return CacheEntry(name, float(scale), float(amax), text)


def new_cache(
    scales: Mapping[str, float] | Iterable[CacheEntry],
    kind: str = "entropy2",
    tensorrt: str = "8.6.0",
    *,
    header: str | None = None,
) -> CalibrationCache:
    """A cache made here from scales by tensor name (``scale = amax / 127``).

    >>> print(format_cache(new_cache({"image": 0.5})), end="")
    TRT-8600-EntropyCalibration2
    image: 3f000000
    """
    entries = [entry(k, v) for k, v in scales.items()] if isinstance(scales, Mapping) else list(scales)
    return parse_cache("\n".join([header or make_header(kind, tensorrt), *(f"{e.name}: {e.hex}" for e in entries), ""]))


def amax_entries(ranges: Mapping[str, float]) -> tuple[CacheEntry, ...]:
    """Cache lines from ``amax`` by tensor name."""
    try:
        return tuple(entry(name, float(scale_from_amax(amax))) for name, amax in ranges.items())
    except DataError as problem:
        raise CacheError(problem.problem, problem.fix) from None


def _header(line: str, where: str) -> tuple[str | None, str | None, float | None, float | None]:
    if match := _HEADER.fullmatch(line):
        word = match[2]
        if word not in KINDS:
            warnings.warn(f"{where}line 1: trtlearn does not know the algorithm {word!r}", stacklevel=4)
        return (word if word in KINDS else None), version_text(int(match[1])), None, None
    if match := _LEGACY.fullmatch(line):
        cutoff, quantile = (struct.unpack(">d", int(match[i], 16).to_bytes(8, "big"))[0] for i in (2, 3))
        if all(math.isfinite(x) and 0 <= x <= 1 for x in (cutoff, quantile)):
            return ALGORITHMS["legacy"], None, cutoff, quantile
    raise CacheError(
        f"{where}line 1 is {line!r:.80}, expected a header such as TRT-8600-EntropyCalibration2",
        "check that this is a TensorRT calibration cache, whole and unedited",
    )


def _check_hex(text: str, name: str, at: str, cut_off: bool) -> str:
    if not _HEX.fullmatch(text):
        raise CacheError(
            f"{at}the scale of {name!r:.80} is {text!r:.40}, expected 1 to 8 hex digits", "calibrate again"
        )
    bits = int(text, 16)
    if cut_off and len(text) < 8 and bits:
        raise CacheError(
            f"{at}the file ends inside the scale of {name!r:.80} ({text!r}, no line break after it)",
            "the file was cut short: copy it again, or calibrate again",
        )
    if bits & 0x7F800000 == 0x7F800000:
        kind = "NaN" if bits & 0x7FFFFF else "infinite"
        raise CacheError(f"{at}the scale of {name!r:.80} ({text}) is {kind}", "calibrate again with finite data")
    if bits > 0x80000000:
        raise CacheError(f"{at}the scale of {name!r:.80} ({text}) is negative", "a scale is amax / 127, from 0")
    return text


def _decoded(content: bytes, where: str) -> str:
    try:
        return content.decode()
    except UnicodeDecodeError as problem:
        line = content[: problem.start].count(b"\n") + 1
        raise CacheError(
            f"{where}line {line} holds the byte 0x{content[problem.start]:02x}, which is not UTF-8 text",
            "check that this is a calibration cache and not an engine or a model",
        ) from None


def parse_cache(content: str | bytes, where: str = "") -> CalibrationCache:
    """The cache that ``content`` holds: a header, then ``name: HEX`` lines split at the LAST colon.

    HEX are the big-endian bits of a float32 scale, not zero-padded. Names may hold spaces, colons and brackets; line
    breaks may be CR LF; blank lines are skipped. A scale of 0 is read (TensorRT writes it for a tensor of zeros).
    Raises CacheError with the line's number for anything else: no header, text that is not UTF-8, a line without a
    colon, a name or the space after the colon, bad hex, a negative, infinite or NaN scale, a name given twice, a file
    that ends inside a line. TensorRT 8.6.0 takes most of these without a word: calibration_recordings.odd_caches().

    Source: measured, data/recordings/ (TensorRT's own caches); trtexec's reader, v8.6.1 samples/common/
    sampleEngines.cpp:68-91, splits at the last colon too.

    >>> cache = parse_cache("TRT-8600-MinMaxCalibration\\n(Unnamed Layer* 21) [Matrix Multiply]_output: 3d90a39c\\n")
    >>> cache.algorithm, cache.tensorrt_version, round(cache.scales[0].amax, 4)
    ('MinMaxCalibration', '8.6.0', 8.9693)
    """
    where = f"{where}: " if where else ""
    text = _decoded(content, where) if isinstance(content, bytes) else content
    if not text.strip():
        raise CacheError(f"{where}the file is empty", "TensorRT writes the cache at the end of a calibration: run one")
    lines = [line.removesuffix("\r") for line in text.split("\n")]
    if len(lines) == 1:
        raise CacheError(
            f"{where}the file ends inside its first line, {text!r:.60}, expected a header and 'name: HEX' lines",
            "check that this is a calibration cache, and whole",
        )
    algorithm, version, cutoff, quantile = _header(lines[0], where)
    entries: list[CacheEntry] = []
    first_at: dict[str, int] = {}
    for number, line in enumerate(lines[1:], 2):
        if not line.strip():
            continue
        at = f"{where}line {number}: "
        name, colon, digits = line.rpartition(":")
        if not colon:
            raise CacheError(f"{at}{line!r:.80} has no colon, expected 'name: HEX'", "the file may have been cut short")
        if digits[:1].strip(" \t"):
            raise CacheError(
                f"{at}no space after the colon of {name!r:.80}: TensorRT skips one character there and would "
                f"lose the first of {digits!r:.40}",
                "write 'name: HEX'",
            )
        if wrong := _name_problem(name):
            raise CacheError(f"{at}{wrong}, expected 'name: HEX'", "delete the line")
        if name in first_at:
            raise CacheError(
                f"{at}the tensor {name!r:.80} was already given in line {first_at[name]}", "keep one of the two lines"
            )
        first_at[name] = number
        entries.append(_entry(name, _check_hex(digits.strip(" \t"), name, at, cut_off=number == len(lines))))
    return CalibrationCache(lines[0], algorithm, version, tuple(entries), cutoff, quantile)


def read_cache(source: str | os.PathLike[str] | bytes) -> CalibrationCache:
    """The cache in the file at a path, or in bytes; CacheError as for :func:`parse_cache`."""
    if isinstance(source, bytes):
        return parse_cache(source)
    return parse_cache(read_bytes(source, CacheError), str(source))


def format_cache(cache: CalibrationCache) -> str:
    """The text of the file: exactly what TensorRT wrote when ``cache`` was read from one of its files."""
    text = "\n".join([cache.header, *(f"{item.name}: {item.hex}" for item in cache.scales), ""])
    back = parse_cache(text)
    if back.scales != cache.scales or back.header != cache.header:
        raise CacheError("the cache's scales and hex do not say the same", "make its entries with cache.entry()")
    return text


def write_cache(cache: CalibrationCache, path: str | os.PathLike[str]) -> Path:
    """Write the file whole or not at all."""
    return write_atomic(path, format_cache(cache))


class SetAside(NamedTuple):
    """A cache that TensorRT does not take: why, and what to do."""

    why: str
    fix: str


def set_aside(content: bytes, name: str = "FILE", before_10: bool = True) -> SetAside | None:
    r"""Why TensorRT does not take this cache, called ``name``, from trtexec's calibrator; None where it does.

    trtexec's is an IInt8EntropyCalibrator2 (v8.6.1:samples/common/sampleEngines.cpp:362, the same to 10.16). Source:
    measured, data/recordings/*/calibration/odd-caches.json. ``before_10``: TensorRT 8.6.0 took headers of 7.6.0, 8.6.0
    and 8.6.1, and set that of 10.16.0 aside.

    >>> set_aside(b"TRT-8600-EntropyCalibration2\nx: 3f000000\n")
    >>> set_aside(b"TRT-8600-MinMaxCalibration\nx: 3f000000\n").why
    "its header names MinMaxCalibration, and trtexec's calibrator is an EntropyCalibration2"
    """
    again = "calibrate again and pass the cache that comes out"
    edit = (
        f"`trtlearn cache edit {name} -o NEW --header {make_header()}` keeps the scales and writes the header that "
        "trtexec's calibrator takes"
    )
    first, _, rest = content.partition(b"\n")
    header = _HEADER.fullmatch(first.rstrip(b"\r").decode(errors="replace"))
    if not content:
        return SetAside("it is empty", again)
    if header is None:
        return SetAside(f"its first line is not the header of an EntropyCalibration2, such as {make_header()}", edit)
    if header[2] != "EntropyCalibration2":
        return SetAside(f"its header names {header[2]}, and trtexec's calibrator is an EntropyCalibration2", edit)
    if before_10 and len(header[1]) > 4:
        version = version_text(int(header[1]))
        return SetAside(f"its header names TensorRT {version}, a number with too many digits for this version", edit)
    return None if rest.strip() else SetAside("it holds a header and no scale", again)
