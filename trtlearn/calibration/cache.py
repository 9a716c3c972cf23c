"""A calibration cache: a Mapping, tensor -> scale, read and written as TensorRT does."""

from __future__ import annotations

import math
import os
import re
import struct
import warnings
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import CacheError, MissingTensor
from ..files import read_bytes, recognize, write_atomic
from ..record import Record, plural, without_collector
from .names import NameCheck, is_internal, stale_and_internal

__all__ = [
    "ALGORITHMS",
    "KINDS",
    "CacheDiff",
    "CacheEntry",
    "CalibrationCache",
    "DiffRow",
    "calibrator_word",
    "entry",
    "format_cache",
    "is_ort_table",
    "make_header",
    "new_cache",
    "parse_cache",
    "read_cache",
    "version_text",
]

ALGORITHMS = {
    "entropy2": "EntropyCalibration2",
    "minmax": "MinMaxCalibration",
    "entropy": "EntropyCalibration",
    "legacy": "LegacyCalibration",
}
"""trtlearn's word for a calibrator -> the header's; the legacy calibrator's has three numbers."""
KINDS = {word: kind for kind, word in ALGORITHMS.items()}
"""The header's word -> trtlearn's."""
Scales = Mapping[str, float] | str | os.PathLike[str]
"""A calibration cache, its file, or {tensor: scale}."""


@dataclass(frozen=True)
class CacheEntry(Record):  # noqa: PLW1641, the dataclass makes its hash
    """One line of the cache: a tensor's INT8 scale, ``amax = scale * 127``, the hex as written."""

    name: str
    scale: float  # a float32
    amax: float  # a float32
    hex: str  # big-endian bits of the scale, without leading zeros when TensorRT wrote it

    def __eq__(self, other: object) -> bool:
        """All fields the same; a NaN equals itself, which dataclasses of Python 3.13 deny."""
        return isinstance(other, CacheEntry) and vars(self) == vars(other)

    @property
    def problem(self) -> str | None:
        """Why the line is of no use: its scale or its range is infinite or NaN; else None.

        TensorRT writes such lines itself behind attention masks (NVIDIA/TensorRT#672).
        """
        if math.isnan(self.scale):
            return "NaN"
        if math.isinf(self.scale):
            return "infinite"
        return None if math.isfinite(self.amax) else "its range overflows float32"


@dataclass(frozen=True)
class CalibrationCache(Record, Mapping[str, float]):
    """A calibration cache: a Mapping, tensor -> scale (amax / 127). It holds no weights.

    ``len(cache)``, ``name in cache``, ``cache[name]``, ``cache.items()`` in the file's order.
    The Mapping leaves out the lines of no use (see :attr:`unusable`); ``scales`` has every line.

    ``algorithm`` is the header's word (None where unknown to trtlearn), ``kind`` trtlearn's.
    ``tensorrt_version`` is None for the legacy calibrator, whose header holds a cut-off and a
    quantile instead.
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
    def unusable(self) -> dict[str, str]:
        """Tensor -> why its line is of no use: an infinite or NaN scale.

        >>> cache = parse_cache("TRT-8600-MinMaxCalibration\\nx: 3f000000\\nmask: 7f800000\\n")
        >>> dict(cache), cache.unusable
        ({'x': 0.5}, {'mask': 'infinite'})
        """
        return {item.name: item.problem for item in self.scales if item.problem}

    @cached_property
    def _lines(self) -> dict[str, CacheEntry]:
        return {item.name: item for item in reversed(self.scales)}

    @cached_property
    def _usable(self) -> dict[str, float]:
        return {item.name: item.scale for item in self.scales if item.problem is None}

    def __iter__(self) -> Iterator[str]:
        return iter(self._usable)

    def __len__(self) -> int:
        return len(self._usable)

    def __contains__(self, name: object) -> bool:
        return name in self._usable

    def __getitem__(self, name: str) -> float:
        return self.entry(name).scale

    def __setitem__(self, name: str, scale: float) -> None:
        raise CacheError("a cache does not change", f"cache = cache.with_scale({name!r}, {scale})")

    @property
    def amax(self) -> dict[str, float]:
        """Tensor -> its range's end, 127 * scale."""
        return {name: self._lines[name].amax for name in self}

    def entry(self, name: str) -> CacheEntry:
        """The line of the tensor ``name``; CacheError (a KeyError) where the cache has none."""
        if name not in self._lines:
            fix = f"one of {', '.join(self.names[:8]) or 'none'}"
            raise MissingTensor(f"no tensor {name!r} in the cache", fix)
        return self._lines[name]

    def equals(self, other: Scales, tolerance: float = 1e-6) -> bool:
        """Whether both hold the same tensors, with scales equal within ``tolerance`` (relative).

        ``other``: a cache or its file, or {tensor: scale}.

        Lines of tensors that TensorRT's parser made, which no ONNX file names, do not count.
        """
        other = read_cache(other) if isinstance(other, (str, os.PathLike)) else other
        gap = self.largest_difference(other)
        return _onnx_names(self) == _onnx_names(other) and (gap is None or gap <= tolerance)

    def largest_difference(self, other: Scales) -> float | None:
        """The largest |a - b| / max(a, b) of a scale that both hold; None where none is shared.

        ``other``: a cache or its file, or {tensor: scale}.
        """
        other = read_cache(other) if isinstance(other, (str, os.PathLike)) else other
        gaps = (relative_gap(self[name], other[name]) for name in self if name in other)
        return max(gaps, default=None)

    def diff(self, other: Scales) -> CacheDiff:
        """What differs from ``other`` (a cache or its file), tensor by tensor: scales are compared
        as float32, exactly.

        >>> a, b = new_cache({"x": 0.5, "y": 1.0}), new_cache({"x": 0.25, "z": 1.0})
        >>> [(row.name, row.state, row.relative_difference) for row in a.diff(b).tensors]
        [('x', 'changed', 0.5), ('y', 'only in a', None), ('z', 'only in b', None)]
        """
        other = read_cache(other) if isinstance(other, (str, os.PathLike)) else other
        second = other if isinstance(other, CalibrationCache) else new_cache(other)
        rows = []
        for name in dict.fromkeys((*self.names, *second.names)):
            a, b = self._lines.get(name), second._lines.get(name)
            if a is None or b is None:
                scales = a.scale if a else None, b.scale if b else None
                rows.append(DiffRow(name, *scales, "only in a" if a else "only in b"))
                continue
            same = a.scale == b.scale or int(a.hex, 16) == int(b.hex, 16)
            gap = None if a.problem or b.problem else relative_gap(a.scale, b.scale)
            rows.append(DiffRow(name, a.scale, b.scale, "same" if same else "changed", gap))
        return CacheDiff(self.header, second.header, tuple(rows))

    def check(self, model: Any) -> NameCheck:
        """Which names ``model`` (an ONNX file, a Network) has or lacks, and what has no line."""
        from ..model.graph import OnnxModel
        from ..model.read import read_model

        source = model if isinstance(model, OnnxModel) else read_model(model)
        stale, internal = stale_and_internal(self.names, source)
        others = {*stale, *internal}
        return NameCheck(
            tuple(name for name in dict.fromkeys(self.names) if name not in others),
            stale,
            internal,
            missing=tuple(name for name in source.tensors if name not in self._lines),
        )

    def with_scale(self, name: str, scale: float) -> CalibrationCache:
        """The cache with one tensor's scale changed, or added at the end.

        >>> new_cache({"x": 0.5}).with_scale("x", 0.25).entry("x").amax
        31.75
        """
        lines = {item.name: item for item in self.scales} | {name: entry(name, scale)}
        return replace(self, scales=tuple(lines.values()))

    def save(self, path: str | os.PathLike[str], for_trtexec: bool | str = False) -> Path:
        """Write the file, whole or not at all.

        ``for_trtexec``: with the header that trtexec's calibrator takes, and the same scales; it
        ignores caches of the other calibrators (:mod:`~trtlearn.calibration.cache_reading`). For
        TensorRT 10 give its version, ``for_trtexec="10.3"``.
        """
        ours = self.for_trtexec(for_trtexec) if for_trtexec else self
        return write_atomic(path, format_cache(ours))

    def for_trtexec(self, tensorrt: bool | str = True) -> CalibrationCache:
        """The same scales under the header that trtexec's calibrator takes: see :meth:`save`."""
        version = self.tensorrt_version or "8.6.0"
        is_old = major(version) < 10  # TensorRT 8.6.0 ignores headers of 10.x
        own = tensorrt if isinstance(tensorrt, str) else version if is_old else "8.6.0"
        return new_cache(self.scales, header=make_header("entropy2", own))

    def summary(self) -> str:
        version = f", TensorRT {self.tensorrt_version}" if self.tensorrt_version else ""
        held = plural(len(self.scales), "tensor")
        lost = len(self.unusable)
        marked = f", {plural(lost, 'line')} of no use (infinite or NaN)" if lost else ""
        kind = self.algorithm or "unknown algorithm"
        return f"calibration cache: {kind}{version}, {held}{marked}"

    def rows(self) -> list[dict[str, Any]]:
        rows: list[dict[str, Any]] = []
        for e in self.scales:
            rows.append({"tensor": e.name, "hex": e.hex, "scale": e.scale, "amax": e.amax})
            if self.unusable:
                rows[-1]["note"] = f"of no use: {e.problem}" if e.problem else ""
        return rows


@dataclass(frozen=True)
class DiffRow(Record):
    """One tensor in two caches: ``state`` is same, changed, only in a, or only in b."""

    name: str
    scale_a: float | None
    scale_b: float | None
    state: str
    relative_difference: float | None = None  # |a - b| / max(a, b), None where one side is missing


@dataclass(frozen=True)
class CacheDiff(Record):
    """Two caches side by side, in the order of the first, then what only the second has.

    Lines with an infinite or NaN scale are compared by their bits.
    """

    header_a: str
    header_b: str
    tensors: tuple[DiffRow, ...]

    @property
    def identical(self) -> bool:
        """Whether headers, tensors and scales are the same; the order of the lines may differ."""
        return self.header_a == self.header_b and all(row.state == "same" for row in self.tensors)

    def summary(self) -> str:
        is_same, states = self.header_a == self.header_b, [row.state for row in self.tensors]
        headers = "same header" if is_same else f"headers {self.header_a} | {self.header_b}"
        known = ("same", "changed", "only in a", "only in b")
        return f"{headers}; {', '.join(f'{states.count(state)} {state}' for state in known)}"

    def rows(self) -> list[dict[str, Any]]:
        return [
            {
                "tensor": row.name,
                "state": row.state,
                "scale a": row.scale_a,
                "scale b": row.scale_b,
                "relative difference": row.relative_difference,
            }
            for row in self.tensors
        ]


def relative_gap(a: float, b: float) -> float:
    """|a - b| / max(a, b); 0 where both are 0."""
    return abs(a - b) / (max(a, b) or 1.0)


def _onnx_names(names: Iterable[str]) -> set[str]:
    return {name for name in names if not is_internal(name)}


def version_text(number: int) -> str:
    """The version that a header's number stands for: four digits up to 9.x, six from 10.0 on.

    Source: NV_TENSORRT_VERSION in include/NvInferVersion.h (v8.6.1: 1000 * major + 100 * minor +
    patch; v10.0.0: 10000 * major + 100 * minor + patch).

    >>> version_text(8600), version_text(8205), version_text(101600)
    ('8.6.0', '8.2.5', '10.16.0')
    """
    unit = 10000 if number >= 10000 else 1000
    return f"{number // unit}.{number % unit // 100}.{number % 100}"


def major(tensorrt: str) -> int:
    """The first number of a TensorRT version."""
    return int(tensorrt.partition(".")[0])


def calibrator_word(word: object) -> str:
    """trtlearn's word for a calibrator, however it is written.

    >>> [calibrator_word(word) for word in ("min-max", "MinMax", "IInt8EntropyCalibrator2")]
    ['minmax', 'minmax', 'entropy2']
    """
    return re.sub(r"[^a-z0-9]|^iint8|calibrat(?:ion|or)", "", str(word).lower())


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
        first, second = (struct.pack(">d", x).hex().lstrip("0") or "0" for x in (cutoff, quantile))
        return f"0 {first} {second}"
    match = re.fullmatch(r"(\d{1,3})\.(\d{1,2})(?:\.(\d{1,2}))?.*", tensorrt)
    if not match:
        raise CacheError(f"{tensorrt!r} is no TensorRT version", "write it as 8.6.0")
    major, minor, patch = (int(part or 0) for part in match.groups())
    number = major * (10000 if major >= 10 else 1000) + minor * 100 + patch
    return f"TRT-{number}-{ALGORITHMS[kind]}"


HEADER = re.compile(r"TRT-([0-9]{1,9})-([A-Za-z][A-Za-z0-9_]*)")
_LEGACY = re.compile(r"([0-9]{1,9}) ([0-9a-fA-F]{1,16}) ([0-9a-fA-F]{1,16})")
_HEX = re.compile(r"[0-9a-fA-F]{1,8}")
_NAME = r"[^\n\r\0\ud800-\udfff]"  # a character of a tensor's name
_LINE = re.compile(rf"(?!\s){_NAME}+:[ \t]+[0-7]?[0-9a-fA-F]{{1,7}}[ \t]*")  # one without faults
_ORT_LINE = re.compile(r".*[^:\s] -?(?:\d+(?:\.\d*)?(?:e[+-]?\d+)?|inf|nan)\s*", re.IGNORECASE)


def _name_problem(name: object) -> str | None:
    if not isinstance(name, str):
        return f"the tensor name {name!r:.80} is no text"
    if re.fullmatch(f"{_NAME}+", name) and not name.isspace():
        return None
    if not name.strip():
        return "an empty tensor name"
    if any(mark in name for mark in "\n\r\0"):
        return f"the tensor name {name!r} holds a line break or a null byte"
    return f"the tensor name {name!r} cannot be written as UTF-8"


def entry(name: str, scale: float) -> CacheEntry:
    """The line of one tensor; CacheError for a scale that float32 does not hold, or a bad name.

    >>> entry("conv1", 0.0706246570).hex, entry("zeros", 0.0).hex
    ('3d90a3a9', '0')
    """
    if problem := _name_problem(name):
        raise CacheError(problem, "a cache holds one tensor a line: choose another name")
    try:
        with np.errstate(over="ignore"):
            value = np.float32(scale)
    except (TypeError, ValueError, OverflowError):  # no number, or one of hundreds of digits
        value = np.float32(np.nan)
    if np.ndim(value) or not np.isfinite(value) or value < 0 or value == 0 < scale:
        problem = f"scale of {name!r:.80} is {scale!s:.40}, expected a finite number from 0"
        raise CacheError(f"{problem} that float32 holds", "use amax / 127")
    bits = abs(value).view(np.uint32)  # abs: -0.0 is written 0
    return _entries([name], [f"{bits:x}"])[0]


def _entries(names: Iterable[str], texts: list[str]) -> tuple[CacheEntry, ...]:
    """The lines of these names; ``texts``: their scales as hex digits."""
    scales = np.array([int(text, 16) for text in texts], np.uint32).view(np.float32)
    with np.errstate(over="ignore", invalid="ignore"):
        amaxes = scales * np.float32(127.0)
    columns = scales.tolist(), amaxes.tolist()
    for row in np.flatnonzero(np.isnan(scales)):  # this one NaN equals itself in a tuple
        columns[0][row] = columns[1][row] = math.nan
    return tuple(map(CacheEntry, names, *columns, texts))


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
    if isinstance(scales, Mapping):
        scales = [entry(name, scale) for name, scale in scales.items()]
    return parse_cache(_text(header or make_header(kind, tensorrt), scales))


def _text(header: str, lines: Iterable[CacheEntry]) -> str:
    return "\n".join([header, *(f"{line.name}: {line.hex}" for line in lines), ""])


def _header(line: str, where: str) -> tuple[str | None, str | None, float | None, float | None]:
    if match := HEADER.fullmatch(line):
        word = match[2]
        if word not in KINDS:
            problem = f"{where}line 1: trtlearn does not know the algorithm {word!r}"
            warnings.warn(problem, stacklevel=4)
        return (word if word in KINDS else None), version_text(int(match[1])), None, None
    if match := _LEGACY.fullmatch(line):
        digits = match[2].zfill(16) + match[3].zfill(16)
        cutoff, quantile = struct.unpack(">2d", bytes.fromhex(digits))
        if 0 <= cutoff <= 1 and 0 <= quantile <= 1:
            return ALGORITHMS["legacy"], None, cutoff, quantile
    raise CacheError(
        f"{where}line 1 is {line!r:.80}, expected a header such as TRT-8600-EntropyCalibration2",
        "check that this is a TensorRT calibration cache, whole and unedited; `trtlearn cache "
        "edit --header` puts another first line in its place",
    )


def is_ort_table(content: bytes) -> bool:
    """Whether this is ONNX Runtime's text table: ``tensor amax`` a line, the amax in decimals."""
    lines = filter(str.strip, content.decode(errors="replace").splitlines())
    matches = map(_ORT_LINE.fullmatch, lines)
    return next(matches, None) is not None and all(matches)


def _decoded(content: bytes, where: str) -> str:
    try:
        return content.decode()
    except UnicodeDecodeError as problem:
        line = content[: problem.start].count(b"\n") + 1
        byte = f"0x{content[problem.start]:02x}"
        raise CacheError(
            f"{where}line {line} holds the byte {byte}, which is not UTF-8 text",
            "save it as UTF-8: this is UTF-16, as PowerShell's > writes it"
            if content.startswith((b"\xff\xfe", b"\xfe\xff"))
            else "check that this is a calibration cache and not an engine or a model",
        ) from None


@without_collector()
def parse_cache(content: str | bytes, where: str = "") -> CalibrationCache:
    """The cache that ``content`` holds: a header, then ``name: HEX`` lines split at the LAST colon.

    HEX are the big-endian bits of a float32 scale, not zero-padded. Names may hold spaces, colons
    and brackets; line breaks may be CR LF; blank lines are skipped. A scale of 0 is read (TensorRT
    writes it for a tensor of zeros). Raises CacheError with the line's number for anything else: no
    header, text that is not UTF-8, a line without a colon, a name or the space after the colon, bad
    hex, a negative scale, a name given twice, a file that ends inside a line. Infinite and NaN
    scales are read and marked (:attr:`CalibrationCache.unusable`).
    TensorRT 8.6.0 takes most of these without a word: tl.recorded.odd_caches().

    Source: measured, data/recordings/ (TensorRT's own caches); trtexec's reader, v8.6.1
    samples/common/ sampleEngines.cpp:68-91, splits at the last colon too.

    >>> name = "(Unnamed Layer* 21) [Matrix Multiply]_output"
    >>> cache = parse_cache(f"TRT-8600-MinMaxCalibration\\n{name}: 3d90a39c\\n")
    >>> cache.algorithm, cache.tensorrt_version, round(cache.scales[0].amax, 4)
    ('MinMaxCalibration', '8.6.0', 8.9693)
    """
    where = f"{where}: " if where else ""
    if isinstance(content, bytes) and (other := recognize(content)) and other.kind != "cache":
        raise CacheError(
            f"{where}line 1: this is {other.words}, expected a calibration cache", other.fix
        )
    text = _decoded(content, where) if isinstance(content, bytes) else content
    if not text.strip():
        raise CacheError(
            f"{where}the file is empty",
            "TensorRT writes the cache at the end of a calibration: run one",
        )
    if is_ort_table(text.encode(errors="replace")) and not _LEGACY.match(text):
        raise CacheError(
            f"{where}line 1 is {text.splitlines()[0]!r:.80}, expected a header: this is ONNX "
            "Runtime's calibration table",
            "`trtlearn cache convert FILE --from ort-table --to cache -o NEW`",
        )
    lines = [line.removesuffix("\r") for line in text.split("\n")]
    if len(lines) == 1:
        raise CacheError(
            f"{where}the file ends inside its first line, {text!r:.60}, expected a header and "
            "'name: HEX' lines",
            "check that this is a calibration cache, and whole",
        )
    algorithm, version, cutoff, quantile = _header(lines[0], where)
    hexes: list[str] = []
    first_at: dict[str, int] = {}
    for number, line in enumerate(lines[1:], 2):
        name, colon, digits = line.rpartition(":")
        if not colon and not line.strip():
            continue
        is_last = number == len(lines)
        is_sound = _LINE.fullmatch(line) and name not in first_at and not is_last
        if not is_sound and (wrong := _line_problem(line, name, digits, first_at, is_last)):
            raise CacheError(f"{where}line {number}: {wrong[0]}", wrong[1])
        first_at[name] = number
        hexes.append(digits.strip(" \t"))
    entries = _entries(first_at, hexes)
    return CalibrationCache(lines[0], algorithm, version, entries, cutoff, quantile)


def _line_problem(
    line: str, name: str, digits: str, first_at: Mapping[str, int], is_last: bool
) -> tuple[str, str] | None:
    """What is wrong with a line, and what to do; ``is_last``: no line break follows it."""
    if HEADER.fullmatch(line):
        problem = f"{line!r:.80} is a header again: the file holds two caches"
        return problem, "split it there, and `trtlearn cache merge` the two"
    if ":" not in line:
        problem = f"{line!r:.80} has no colon, expected 'name: HEX'"
        return problem, "the file may have been cut short"
    if digits[:1] not in ("", " ", "\t"):
        return (
            f"no space after the colon of {name!r:.80}: TensorRT skips one character there "
            f"and would lose the first of {digits!r:.40}",
            "write 'name: HEX'",
        )
    if wrong := _name_problem(name):
        return f"{wrong}, expected 'name: HEX'", "delete the line"
    if name in first_at:
        problem = f"the tensor {name!r:.80} was already given in line {first_at[name]}"
        return problem, "keep one of the two lines"
    text = digits.strip(" \t")
    if not _HEX.fullmatch(text):
        problem = f"the scale of {name!r:.80} is {text!r:.40}, expected 1 to 8 hex digits"
        return problem, "calibrate again"
    bits = int(text, 16)
    if is_last and len(text) < 8 and bits:
        return (
            f"the file ends inside the scale of {name!r:.80} ({text!r}, no line break after it)",
            "the file was cut short: copy it again, or calibrate again",
        )
    if 0x80000000 < bits < 0xFF800000:  # above that: -infinity and NaN, marked as of no use
        problem = f"the scale of {name!r:.80} ({text}) is negative"
        return problem, "a scale is amax / 127, from 0"
    return None


def read_cache(source: str | os.PathLike[str] | bytes) -> CalibrationCache:
    """The cache in the file at a path, or in bytes; CacheError as for :func:`parse_cache`.

    >>> read_cache(b"TRT-8600-MinMaxCalibration\\nimage: 3f000000\\n")["image"]
    0.5
    """
    if isinstance(source, bytes):
        return parse_cache(source)
    return parse_cache(read_bytes(source, CacheError), str(source))


def format_cache(cache: CalibrationCache) -> str:
    """The text of the file: what TensorRT wrote, where ``cache`` was read from one of its files."""
    text = _text(cache.header, cache.scales)
    back = parse_cache(text)
    if back.scales != cache.scales or back.header != cache.header:
        problem = "the cache's scales and hex do not say the same"
        raise CacheError(problem, "make its entries with cache.entry()")
    return text
