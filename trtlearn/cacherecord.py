"""The calibration cache as a record: its header's parts, and one line a tensor."""

from __future__ import annotations

import re
import struct
from dataclasses import dataclass
from typing import Any

from .errors import CacheError
from .record import Record, plural

__all__ = ["ALGORITHMS", "KINDS", "CacheEntry", "CalibrationCache", "make_header", "version_text"]

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
class CalibrationCache(Record):
    """A calibration cache: a header, then one activation scale a line, no weights.

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

    def __contains__(self, name: object) -> bool:
        return any(item.name == name for item in self.scales)

    def __getitem__(self, name: str) -> CacheEntry:
        for item in self.scales:
            if item.name == name:
                return item
        raise CacheError(f"no tensor {name!r} in the cache", "see .names for the tensors it holds")

    def as_dict(self) -> dict[str, float]:
        """Tensor name -> scale."""
        return {item.name: item.scale for item in self.scales}

    def summary(self) -> str:
        version = f", TensorRT {self.tensorrt_version}" if self.tensorrt_version else ""
        held = plural(len(self.scales), "tensor")
        return f"calibration cache: {self.algorithm or 'unknown algorithm'}{version}, {held}"

    def rows(self) -> list[dict[str, Any]]:
        return [{"tensor": e.name, "hex": e.hex, "scale": e.scale, "amax": e.amax} for e in self.scales]


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
        return " ".join(["0", *(f"{int.from_bytes(struct.pack('>d', x), 'big'):x}" for x in (cutoff, quantile))])
    match = re.fullmatch(r"(\d{1,3})\.(\d{1,2})(?:\.(\d{1,2}))?.*", tensorrt)
    if not match:
        raise CacheError(f"{tensorrt!r} is no TensorRT version", "write it as 8.6.0")
    major, minor, patch = (int(part or 0) for part in match.groups())
    number = major * 10000 + minor * 100 + patch if major >= 10 else major * 1000 + minor * 100 + patch
    return f"TRT-{number}-{ALGORITHMS[kind]}"
