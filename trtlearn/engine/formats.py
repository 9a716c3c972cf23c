"""The words that engine inspectors use for a tensor's data type and layout, as one exact table.

TensorRT writes both into one phrase up to 10.x ("Thirty-two wide channel vectorized row major
Int8 format"), or the data type alone (10.x: "Int8"), and into two fields in 11.x. Every phrase
of the table is a data-type word put into one of the layouts of tables/layouts.json. A phrase
outside the table is never guessed at: it warns once and its data type is None.

Sources: the phrases held by libnvinfer.so.8 of TensorRT 8.6.0 and libtensorrt_rtx.so of TensorRT
for RTX 1.x (read from the libraries' string tables),
v11.0:tools/experimental/trt-engine-explorer/trex/activations.py:29-103, and
docs.nvidia.com/deeplearning/tensorrt/11.0.0/api/migration/tensorrt-10x-to-11x-IEngineInspector.html.
"""

from __future__ import annotations

import re
import warnings
from functools import lru_cache
from typing import NamedTuple

from ..dtypes import DTYPES, named_dtype
from ..files import load_table

__all__ = ["Format", "dtype_bits", "parse_dtype", "parse_format"]

_NO_DTYPE = ("", "none", "unknown", "n/a")


class Format(NamedTuple):
    """A parsed phrase.

    ``vector``: the channel count is padded to a multiple of it (1: not padded; None: not said).
    ``known`` is False for a phrase outside the table.
    """

    dtype: str | None
    layout: str | None
    vector: int | None
    known: bool


_IN_WORDS = {2: "two", 4: "four", 8: "eight", 16: "sixteen", 32: "thirty-two"}


def _layouts() -> dict[str, tuple[str | None, int | None]]:
    """Each phrase of tables/layouts.json, in lower case -> (short name, vector).

    As it stands around a data type ("{}"), and alone, as 11.x writes it. "@" and "#" stand for a
    size, in words and digits. A symbol is TensorFormat's member, or the short form of one.
    """
    table: dict[str, tuple[str | None, int | None]] = {}
    for row in load_table("layouts"):
        symbols = row.get("symbols", "").split()
        phrases = [*row.get("phrases", ()), *symbols]
        for symbol in symbols:
            phrases += [f"{{}} {symbol}", f"k{symbol}", f"{{}} k{symbol}"]
        for size in row.get("sizes") or [row["vector"]]:
            for phrase in phrases:
                full = phrase.replace("@", _IN_WORDS.get(size, "")).replace("#", str(size))
                layout = (row["layout"] and row["layout"].replace("#", str(size)), size)
                table[full] = table[full.replace("{} ", "").replace(" {}", "")] = layout
    return table


_LAYOUTS = _layouts()
# getTensorFormatDesc adds the enum member ("... FP32 format (kLINEAR)"), 11.x a kind of layout.
_ENUM = re.compile(r" \(k[a-z0-9]+\)")
_CLASS = re.compile(r"(dla |\((linear|transposed|vectorized|arbitrary)\) )")
_STRIDES = re.compile(r"format with stride order = \[[\d, ]*\]")


@lru_cache(maxsize=4096)
def _lookup(phrase: str) -> Format:
    text = " ".join(phrase.lower().split()).rstrip(".")
    text = _CLASS.sub("", _ENUM.sub("", text))
    if text in _LAYOUTS:
        return Format(None, *_LAYOUTS[text], known=True)
    if _STRIDES.fullmatch(text):
        return Format(None, "strided", None, known=True)
    words = text.split()
    for at, word in enumerate(words):
        dtype = named_dtype(word)
        around = " ".join([*words[:at], "{}", *words[at + 1 :]])
        if dtype is not None and around in _LAYOUTS:
            name = dtype.name if dtype.name in DTYPES else None
            return Format(name, *_LAYOUTS[around], known=True)
    return Format(None, None, None, known=False)


_warned: set[str] = set()


def _warn(kind: str, phrase: str) -> None:
    if (key := phrase[:200]) not in _warned and len(_warned) < 1000:
        _warned.add(key)
        warnings.warn(
            f"{kind} {key!r} is not in trtlearn's table: shown as unknown. "
            "Please report it with the TensorRT version",
            stacklevel=4,
        )


def parse_format(phrase: str | None, dtype: str | None = None) -> Format:
    """What a ``Format/Datatype`` phrase says, or the fields ``Format`` and ``Datatype`` of 11.x.

    A phrase outside the table gives ``Format(None, None, None, False)`` and warns once.

    >>> parse_format("Thirty-two wide channel vectorized row major Int8 format")
    Format(dtype='int8', layout='NC/32HW32', vector=32, known=True)
    >>> parse_format("(Linear) Row major linear format", "BFloat16").dtype
    'bf16'
    >>> parse_format("N/A due to dynamic shapes")
    Format(dtype=None, layout=None, vector=None, known=True)
    """
    found = _lookup(phrase or "")
    if not found.known:
        _warn("tensor format", phrase or "")
    return found if dtype is None else found._replace(dtype=parse_dtype(dtype))


def parse_dtype(word: str | None) -> str | None:
    """The name in ``DTYPES`` of a data-type word such as "Half"; None for None and unknown types.

    >>> parse_dtype("Half"), parse_dtype("Int4"), parse_dtype("FP4"), parse_dtype(None)
    ('fp16', 'int4', None, None)
    """
    dtype = named_dtype(word)
    if dtype is None and (word or "").strip().lower() not in _NO_DTYPE:
        _warn("data type", word or "")
    return dtype.name if dtype is not None and dtype.name in DTYPES else None


def dtype_bits(word: str | None) -> int | None:
    """Bits of one element of a data type, by TensorRT's word or trtlearn's; None where unknown.

    >>> dtype_bits("Half"), dtype_bits("int4"), dtype_bits("Mystery")
    (16, 4, None)
    """
    dtype = named_dtype(word)
    return dtype.bits if dtype else None
