"""A calibration cache taken apart: every byte of the file, and what it means."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from ..record import Record, plural
from .cache import parse_cache

__all__ = ["CacheBytes", "Piece", "bytes_of_cache"]

LONGEST = 12  # bytes of a piece that a table shows


@dataclass(frozen=True)
class Piece(Record):
    """Bytes ``offset`` to ``offset + len(content) - 1`` of the file, and what they mean."""

    offset: int
    content: bytes
    meaning: str


@dataclass(frozen=True)
class CacheBytes(Record):
    """All bytes of a cache in order, piece by piece: nothing is left out."""

    pieces: tuple[Piece, ...]

    @property
    def size_bytes(self) -> int:
        """The length of the file."""
        return sum(len(piece.content) for piece in self.pieces)

    def summary(self) -> str:
        return f"{plural(self.size_bytes, 'byte')} in {plural(len(self.pieces), 'piece')}"

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


def bytes_of_cache(content: bytes, lines: int | None = None) -> CacheBytes:
    """The first ``lines`` lines (all by default) of a calibration cache, piece by piece.

    Joined, the pieces' bytes are the file's. Raises CacheError for what is no cache.

    >>> for piece in bytes_of_cache(b"TRT-8600-MinMaxCalibration\\nx: 3f000000\\n").pieces[4:]:
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
            _add_header(text, cache.tensorrt_version, add)
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
    return CacheBytes(tuple(pieces))


def _add_header(text: bytes, version: str | None, add: Any) -> None:
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
