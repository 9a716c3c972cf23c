"""The words that engine inspectors use for a tensor's data type and layout, as one exact table.

TensorRT writes both into one phrase up to 10.x ("Thirty-two wide channel vectorized row major Int8 format"), or the
data type alone (10.x: "Int8"), and into two fields in 11.x. Every phrase that the table holds is a data-type word put
into one of the layouts below. A phrase outside the table is never guessed at: it warns once and its data type is None.

Sources: the phrases held by libnvinfer.so.8 of TensorRT 8.6.0 and libtensorrt_rtx.so of TensorRT for RTX 1.x (read
from the libraries' string tables), v11.0:tools/experimental/trt-engine-explorer/trex/activations.py:29-103, and
docs.nvidia.com/deeplearning/tensorrt/11.0.0/api/migration/tensorrt-10x-to-11x-IEngineInspector.html.
"""

from __future__ import annotations

import re
import warnings
from functools import lru_cache
from typing import NamedTuple

from .records import DTYPES

__all__ = ["BITS", "Format", "dtype_bits", "parse_dtype", "parse_format"]

_WORDS = {
    "fp32": "float float32 fp32 kfloat",
    "fp16": "half float16 fp16 khalf",
    "bf16": "bfloat16 bf16 kbf16",
    "int8": "int8 kint8",
    "uint8": "uint8 kuint8",
    "int32": "int32 kint32",
    "int64": "int64 kint64",
    "bool": "bool kbool",
    "fp8": "fp8 fp8e4m3 float8 kfp8",
    "int4": "int4 kint4",
    # TensorRT has these too, trtlearn has no name for them: known words whose data type stays None.
    "fp4": "fp4 fp4e2m1 kfp4",
    "e8m0": "e8m0 ke8m0",
    "int16": "int16",
    "uint16": "uint16",
    "uint32": "uint32",
    "uint64": "uint64",
    "fp64": "double",
    "complex64": "floatcomplex",
    "complex128": "doublecomplex",
}
_DTYPE = {word: dtype for dtype, words in _WORDS.items() for word in words.split()}
_NO_DTYPE = ("", "none", "unknown", "n/a")

BITS: dict[str, int] = {
    **{
        "fp32": 32,
        "fp16": 16,
        "bf16": 16,
        "int8": 8,
        "uint8": 8,
        "int32": 32,
        "int64": 64,
        "bool": 8,
        "fp8": 8,
    },
    **{
        "int4": 4,
        "fp4": 4,
        "e8m0": 8,
        "int16": 16,
        "uint16": 16,
        "uint32": 32,
        "uint64": 64,
        "fp64": 64,
    },
    **{"complex64": 64, "complex128": 128},
}
"""Bits of one element of each data type that an inspector names: two int4 elements share a byte."""


class Format(NamedTuple):
    """A parsed phrase.

    ``vector``: the channel count is padded to a multiple of it (1: not padded; None: not said). ``known`` is False
    for a phrase outside the table.
    """

    dtype: str | None
    layout: str | None
    vector: int | None
    known: bool


def _layouts() -> dict[str, tuple[str | None, int | None]]:
    """Every layout phrase in lower case, "{}" standing for the data type, as (short name, channel vector)."""
    table: dict[str, tuple[str | None, int | None]] = {}
    for linear in (
        "row major linear {}",
        "row major linear {} format",
        "row major {} format",
        "row major {}",
    ):
        table[linear] = ("NCHW", 1)
        table[f"{linear} where column stride % 64 == 0"] = ("NCHW, column stride % 64", 1)
    solid = " with 3 spatial dimensions"
    for english, n in (("two", 2), ("four", 4), ("eight", 8), ("sixteen", 16), ("thirty-two", 32)):
        for rows in ("vectorized row major {} format", "vectorized {} format"):
            table[f"{english} wide channel {rows}"] = (f"NC/{n}HW{n}", n)
            table[f"{english} wide channel {rows}{solid}"] = (f"NC/{n}DHW{n}", n)
        table[f"{english} channel {{}} format where c is padded to a multiple of {n}"] = (
            f"NHWC{n}",
            n,
        )
        table[
            f"{english} channel {{}} format where c is padded to a multiple of {n} and has 3 spatial dimensions"
        ] = (
            f"NDHWC{n}",
            n,
        )
        for channels in (f" where channel % {n} == 0", f" where channel == {n}"):
            table[f"channel major {{}} format{channels}"] = (f"NHWC{n}", n)
            table[f"channel major {{}} format{channels}{solid}"] = (f"NDHWC{n}", n)
            table[f"channel major {{}} format{solid}{channels}"] = (f"NDHWC{n}", n)
            table[f"channel major {{}} format{channels} and column stride % 32 == 0"] = (
                f"NHWC{n}, column stride % 32",
                n,
            )
    table["channel major {} format"] = table["non-vectorized channel-last {} format"] = ("NHWC", 1)
    table[f"channel major {{}} format{solid}"] = table[
        f"non-vectorized channel-last {{}} format{solid}"
    ] = ("NDHWC", 1)
    for channels in (" where channel == 1 and", " where"):
        table[f"channel major {{}} format{channels} column stride % 32 == 0"] = (
            "NHWC, column stride % 32",
            1,
        )
    return table


def _short() -> dict[str, tuple[str | None, int | None]]:
    """Layouts named by a symbol: TensorFormat's members, and the short forms after a data type."""
    table: dict[str, tuple[str | None, int | None]] = {
        **{"nchw": ("NCHW", 1), "linear": ("NCHW", 1), "nhwc": ("NHWC", 1), "hwc": ("NHWC", 1)},
        **{"ndhwc": ("NDHWC", 1), "dhwc": ("NDHWC", 1), "ncdhw": ("NCDHW", 1)},
        **{"dla_linear": ("DLA linear", None), "dla_hwc4": ("DLA HWC4", 4)},
    }
    for n in (1, 2, 4, 8, 16, 32):
        for name in (f"chw{n}", f"nc/{n}hw{n}", f"nc{n}hw", f"nc{n}hw{n}"):
            table[name] = (f"NC/{n}HW{n}", n)
        for name in (f"cdhw{n}", f"nc/{n}dhw{n}", f"nc{n}dhw"):
            table[name] = (f"NC/{n}DHW{n}", n)
        for name in (f"hwc{n}", f"nhwc{n}"):
            table[name] = (f"NHWC{n}", n)
        for name in (f"dhwc{n}", f"ndhwc{n}"):
            table[name] = (f"NDHWC{n}", n)
    return {**table, **{f"k{name}": value for name, value in table.items()}}


def _table() -> dict[str, Format]:
    layouts, short = _layouts(), _short()
    table: dict[str, Format] = {}
    for word, dtype in _DTYPE.items():
        own = dtype if dtype in DTYPES else None
        table[word] = Format(own, None, None, True)
        for phrase, (layout, vector) in layouts.items():
            table[phrase.format(word)] = Format(own, layout, vector, True)
        for name, (layout, vector) in short.items():
            table[f"{word} {name}"] = Format(own, layout, vector, True)
    for phrase, (layout, vector) in layouts.items():  # 11.x: the same without a data type
        table[phrase.replace("{} ", "").replace(" {}", "")] = Format(None, layout, vector, True)
    for name, (layout, vector) in short.items():
        table[name] = Format(None, layout, vector, True)
    for phrase in (
        *_NO_DTYPE,
        "unknown format",
        "n/a due to dynamic shapes",
        "format not available due to dynamic shapes",
    ):
        table[phrase] = Format(None, None, None, True)
    table["transposed format"] = Format(
        None, "transposed", None, True
    )  # of Myelin's layers in 11.x
    return table


_TABLE = _table()
_ENUM = re.compile(
    r" \(k[a-z0-9]+\)"
)  # getTensorFormatDesc names the enum member: "... FP32 format (kLINEAR)"
_CLASS = re.compile(
    r"(dla |\((linear|transposed|vectorized|arbitrary)\) )"
)  # 11.x names the kind of layout first
_STRIDES = re.compile(r"format with stride order = \[[\d, ]*\]")


@lru_cache(maxsize=4096)
def _lookup(phrase: str) -> Format:
    text = " ".join(phrase.lower().split()).rstrip(".")
    text = _CLASS.sub("", _ENUM.sub("", text))
    if found := _TABLE.get(text):
        return found
    if _STRIDES.fullmatch(text):
        return Format(None, "strided", None, True)
    return Format(None, None, None, False)


_warned: set[str] = set()


def _warn(kind: str, phrase: str) -> None:
    if (key := phrase[:200]) not in _warned and len(_warned) < 1000:
        _warned.add(key)
        warnings.warn(
            f"{kind} {key!r} is not in trtlearn's table: shown as unknown. Please report it with the TensorRT version",
            stacklevel=4,
        )


def parse_format(phrase: str | None, dtype: str | None = None) -> Format:
    """What a ``Format/Datatype`` phrase says, or the two fields ``Format`` and ``Datatype`` of 11.x.

    A phrase outside the table gives ``Format(None, None, None, False)`` and warns once.

    >>> parse_format("Thirty-two wide channel vectorized row major Int8 format")
    Format(dtype='int8', layout='NC/32HW32', vector=32, known=True)
    >>> parse_format("Half").dtype, parse_format("(Linear) Row major linear format", "BFloat16").dtype
    ('fp16', 'bf16')
    >>> parse_format("N/A due to dynamic shapes")
    Format(dtype=None, layout=None, vector=None, known=True)
    """
    found = _lookup(phrase or "")
    if not found.known:
        _warn("tensor format", phrase or "")
    return found if dtype is None else found._replace(dtype=parse_dtype(dtype))


def parse_dtype(word: str | None) -> str | None:
    """The name in ``engine_records.DTYPES`` of a data-type word such as "Half"; None for None and for unknown types.

    >>> parse_dtype("Half"), parse_dtype("Int4"), parse_dtype("FP4"), parse_dtype(None)
    ('fp16', 'int4', None, None)
    """
    text = (word or "").strip().lower()
    if text in _NO_DTYPE:
        return None
    if text not in _DTYPE:
        _warn("data type", word or "")
        return None
    return _DTYPE[text] if _DTYPE[text] in DTYPES else None


def dtype_bits(word: str | None) -> int | None:
    """Bits of one element of a data type, by TensorRT's word for it or trtlearn's; None where unknown.

    >>> dtype_bits("Half"), dtype_bits("int4"), dtype_bits("Mystery")
    (16, 4, None)
    """
    return BITS.get(_DTYPE.get((word or "").strip().lower(), ""))
