"""A calibration cache taken apart: every byte of the file, and what it says."""

from __future__ import annotations

import math
import os
import re
import struct
import warnings
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ..errors import CacheError, DataError, MissingTensor
from ..files import read_bytes, shell_command, write_atomic
from ..int8.quant import scale_from_amax
from ..record import Record, plural

__all__ = [
    "ALGORITHMS",
    "Anatomy",
    "CacheEntry",
    "CalibrationCache",
    "KINDS",
    "Piece",
    "SetAside",
    "anatomy",
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


# --- The calibration cache as a record: its header's parts, and one line a tensor.

ALGORITHMS = {
    "entropy2": "EntropyCalibration2",
    "minmax": "MinMaxCalibration",
    "entropy": "EntropyCalibration",
    "legacy": "LegacyCalibration",
}
"""trtlearn's word for a calibrator -> the header's word (the legacy calibrator's header is three numbers instead)."""

KINDS = {word: kind for kind, word in ALGORITHMS.items()}
"""The header's word -> trtlearn's."""


@dataclass(frozen=True)
class CacheEntry(Record):
    """One line of the cache: a tensor's INT8 scale, the range ``amax = scale * 127``, and the hex as written."""

    name: str
    scale: float  # a float32
    amax: float  # a float32
    hex: str  # big-endian bits of the scale, without leading zeros when TensorRT wrote it


@dataclass(frozen=True)
class CalibrationCache(Record, Mapping[str, float]):
    """A calibration cache: a Mapping, tensor -> scale (amax / 127). It holds no weights.

    ``len(cache)``, ``name in cache``, ``cache[name]``, ``cache.items()`` in the file's order.

    ``algorithm`` is the header's word (None where unknown to trtlearn), ``kind`` trtlearn's. ``tensorrt_version`` is
    None for the legacy calibrator, whose header holds a cut-off and a quantile instead.
    """

    header: str
    algorithm: str | None
    tensorrt_version: str | None
    scales: tuple[CacheEntry, ...]
    cutoff: float | None = None
    quantile: float | None = None

    @property
    def kind(self) -> str | None:
        """entropy2, entropy, minmax, legacy, or None."""
        return KINDS.get(self.algorithm or "")

    @property
    def names(self) -> tuple[str, ...]:
        """The tensors' names in the file's order."""
        return tuple(item.name for item in self.scales)

    @cached_property
    def _entries(self) -> dict[str, CacheEntry]:
        return {item.name: item for item in reversed(self.scales)}

    def __iter__(self) -> Iterator[str]:
        return iter(dict.fromkeys(self.names))

    def __len__(self) -> int:
        return len(self._entries)

    def __contains__(self, name: object) -> bool:
        return name in self._entries

    def __getitem__(self, name: str) -> float:
        return self.entry(name).scale

    def entry(self, name: str) -> CacheEntry:
        """The line of the tensor ``name``; CacheError (a KeyError) where the cache has none."""
        if name not in self._entries:
            raise MissingTensor(
                f"no tensor {name!r} in the cache", "see .names for the tensors it holds"
            )
        return self._entries[name]

    def summary(self) -> str:
        version = f", TensorRT {self.tensorrt_version}" if self.tensorrt_version else ""
        held = plural(len(self.scales), "tensor")
        return f"calibration cache: {self.algorithm or 'unknown algorithm'}{version}, {held}"

    def rows(self) -> list[dict[str, Any]]:
        return [
            {"tensor": e.name, "hex": e.hex, "scale": e.scale, "amax": e.amax} for e in self.scales
        ]


def version_text(number: int) -> str:
    """The version that a header's number stands for: four digits up to 9.x, six from 10.0 on.

    Source: NV_TENSORRT_VERSION in include/NvInferVersion.h (v8.6.1: 1000 * major + 100 * minor + patch; v10.0.0:
    10000 * major + 100 * minor + patch).

    >>> version_text(8600), version_text(8205), version_text(101600)
    ('8.6.0', '8.2.5', '10.16.0')
    """
    unit = 10000 if number >= 10000 else 1000
    return f"{number // unit}.{number % unit // 100}.{number % 100}"


def make_header(
    kind: str = "entropy2", tensorrt: str = "8.6.0", *, cutoff: float = 1.0, quantile: float = 0.999
) -> str:
    """The first line of a cache; ``cutoff`` and ``quantile`` matter for the legacy calibrator only.

    >>> make_header("minmax"), make_header("legacy")
    ('TRT-8600-MinMaxCalibration', '0 3ff0000000000000 3feff7ced916872b')
    """
    if kind not in ALGORITHMS:
        raise CacheError(f"no calibrator is called {kind!r}", f"use one of {', '.join(ALGORITHMS)}")
    if kind == "legacy":
        return " ".join(
            ["0", *(f"{int.from_bytes(struct.pack('>d', x), 'big'):x}" for x in (cutoff, quantile))]
        )
    match = re.fullmatch(r"(\d{1,3})\.(\d{1,2})(?:\.(\d{1,2}))?.*", tensorrt)
    if not match:
        raise CacheError(f"{tensorrt!r} is no TensorRT version", "write it as 8.6.0")
    major, minor, patch = (int(part or 0) for part in match.groups())
    number = (
        major * 10000 + minor * 100 + patch if major >= 10 else major * 1000 + minor * 100 + patch
    )
    return f"TRT-{number}-{ALGORITHMS[kind]}"


# --- The calibration cache as a file: what each byte of it says, read and written exactly as TensorRT does.

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
        raise CacheError(
            f"scale of {name!r} is {scale}, expected a finite number from 0", "use amax / 127"
        )
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
    entries = (
        [entry(k, v) for k, v in scales.items()] if isinstance(scales, Mapping) else list(scales)
    )
    return parse_cache(
        "\n".join(
            [header or make_header(kind, tensorrt), *(f"{e.name}: {e.hex}" for e in entries), ""]
        )
    )


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
            warnings.warn(
                f"{where}line 1: trtlearn does not know the algorithm {word!r}", stacklevel=4
            )
        return (word if word in KINDS else None), version_text(int(match[1])), None, None
    if match := _LEGACY.fullmatch(line):
        cutoff, quantile = (
            struct.unpack(">d", int(match[i], 16).to_bytes(8, "big"))[0] for i in (2, 3)
        )
        if all(math.isfinite(x) and 0 <= x <= 1 for x in (cutoff, quantile)):
            return ALGORITHMS["legacy"], None, cutoff, quantile
    raise CacheError(
        f"{where}line 1 is {line!r:.80}, expected a header such as TRT-8600-EntropyCalibration2",
        "check that this is a TensorRT calibration cache, whole and unedited",
    )


def _check_hex(text: str, name: str, at: str, cut_off: bool) -> str:
    if not _HEX.fullmatch(text):
        raise CacheError(
            f"{at}the scale of {name!r:.80} is {text!r:.40}, expected 1 to 8 hex digits",
            "calibrate again",
        )
    bits = int(text, 16)
    if cut_off and len(text) < 8 and bits:
        raise CacheError(
            f"{at}the file ends inside the scale of {name!r:.80} ({text!r}, no line break after it)",
            "the file was cut short: copy it again, or calibrate again",
        )
    if bits & 0x7F800000 == 0x7F800000:
        kind = "NaN" if bits & 0x7FFFFF else "infinite"
        raise CacheError(
            f"{at}the scale of {name!r:.80} ({text}) is {kind}", "calibrate again with finite data"
        )
    if bits > 0x80000000:
        raise CacheError(
            f"{at}the scale of {name!r:.80} ({text}) is negative", "a scale is amax / 127, from 0"
        )
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
        raise CacheError(
            f"{where}the file is empty",
            "TensorRT writes the cache at the end of a calibration: run one",
        )
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
            raise CacheError(
                f"{at}{line!r:.80} has no colon, expected 'name: HEX'",
                "the file may have been cut short",
            )
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
                f"{at}the tensor {name!r:.80} was already given in line {first_at[name]}",
                "keep one of the two lines",
            )
        first_at[name] = number
        entries.append(
            _entry(name, _check_hex(digits.strip(" \t"), name, at, cut_off=number == len(lines)))
        )
    return CalibrationCache(lines[0], algorithm, version, tuple(entries), cutoff, quantile)


def read_cache(source: str | os.PathLike[str] | bytes) -> CalibrationCache:
    """The cache in the file at a path, or in bytes; CacheError as for :func:`parse_cache`.

    >>> read_cache(b"TRT-8600-MinMaxCalibration\\nimage: 3f000000\\n")["image"]
    0.5
    """
    if isinstance(source, bytes):
        return parse_cache(source)
    return parse_cache(read_bytes(source, CacheError), str(source))


def format_cache(cache: CalibrationCache) -> str:
    """The text of the file: exactly what TensorRT wrote when ``cache`` was read from one of its files."""
    text = "\n".join([cache.header, *(f"{item.name}: {item.hex}" for item in cache.scales), ""])
    back = parse_cache(text)
    if back.scales != cache.scales or back.header != cache.header:
        raise CacheError(
            "the cache's scales and hex do not say the same", "make its entries with cache.entry()"
        )
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
    line = shell_command(
        "trtlearn", "cache", "edit", Path(name), "-o", "NEW", "--header", make_header()
    )
    edit = f"`{line}` keeps the scales and writes the header that trtexec's calibrator takes"
    first, _, rest = content.partition(b"\n")
    header = _HEADER.fullmatch(first.rstrip(b"\r").decode(errors="replace"))
    if not content:
        return SetAside("it is empty", again)
    if header is None:
        return SetAside(
            f"its first line is not the header of an EntropyCalibration2, such as {make_header()}",
            edit,
        )
    if header[2] != "EntropyCalibration2":
        return SetAside(
            f"its header names {header[2]}, and trtexec's calibrator is an EntropyCalibration2",
            edit,
        )
    if before_10 and len(header[1]) > 4:
        version = version_text(int(header[1]))
        return SetAside(
            f"its header names TensorRT {version}, a number with too many digits for this version",
            edit,
        )
    return None if rest.strip() else SetAside("it holds a header and no scale", again)


# --- A calibration cache taken apart: every byte of the file, and what it says.

LONGEST = 12  # bytes of a piece that a table shows


@dataclass(frozen=True)
class Piece(Record):
    """Bytes ``offset`` to ``offset + len(content) - 1`` of the file, and what they mean."""

    offset: int
    content: bytes
    meaning: str


@dataclass(frozen=True)
class Anatomy(Record):
    """All bytes of a cache in order, piece by piece: nothing is left out."""

    pieces: tuple[Piece, ...]

    @property
    def size_bytes(self) -> int:
        """The length of the file."""
        return sum(len(piece.content) for piece in self.pieces)

    def summary(self) -> str:
        return f"{self.size_bytes} bytes in {len(self.pieces)} pieces"

    def rows(self) -> list[dict[str, Any]]:
        return [
            {
                "from byte": piece.offset,
                "bytes": piece.content[:LONGEST].hex(" ")
                + (" …" if len(piece.content) > LONGEST else ""),
                "as text": repr(piece.content.decode())[1:-1],
                "meaning": piece.meaning,
            }
            for piece in self.pieces
        ]


def anatomy(content: bytes, lines: int | None = None) -> Anatomy:
    """The first ``lines`` lines (all by default) of a calibration cache, piece by piece.

    Joined, the pieces' bytes are the file's. Raises CacheError for what is no cache.

    >>> for piece in anatomy(b"TRT-8600-MinMaxCalibration\\nx: 3f000000\\n").pieces[4:]:
    ...     print(piece.offset, piece.content, piece.meaning)
    27 b'x' tensor's name
    28 b': ' the LAST colon of the line separates
    30 b'3f000000' big-endian float32: scale 0.5, amax 63.5
    38 b'\\n' end of line
    """
    cache = parse_cache(content)
    at, pieces = 0, []

    def add(piece: bytes, meaning: str) -> None:
        nonlocal at
        if piece:
            pieces.append(Piece(at, piece, meaning))
        at += len(piece)

    for line in content.splitlines(keepends=True)[:lines]:
        text = line.rstrip(b"\r\n")
        if at == 0:
            _anatomy_header(text, cache.tensorrt_version, add)
        elif text.strip():
            name, _, _ = text.rpartition(b":")
            rest = text[len(name) :]
            digits = rest[1:].strip(b" \t")
            start = rest.index(digits, 1)
            line_entry = cache.entry(name.decode())
            add(name, "tensor's name")
            add(rest[:start], "the LAST colon of the line separates")
            add(
                digits,
                f"big-endian float32: scale {line_entry.scale:.9g}, amax {line_entry.amax:.7g}",
            )
            add(rest[start + len(digits) :], "blanks")
        else:
            add(text, "blanks")
        add(line[len(text) :], "end of line")
    return Anatomy(tuple(pieces))


def _anatomy_header(text: bytes, version: str | None, add: Any) -> None:
    if text.startswith(b"TRT-"):
        number = text.split(b"-")[1]
        add(b"TRT-", "every cache of TensorRT but the legacy calibrator's begins so")
        add(number, f"the version that wrote it: {version}")
        add(text[4 + len(number) :], "the calibrator that chose the scales")
        return
    first, cutoff, quantile = text.split(b" ")
    add(first + b" ", "a legacy cache begins with a number")
    add(cutoff + b" ", "the regression cut-off, a float64 in hex")
    add(quantile, "the quantile, a float64 in hex")
