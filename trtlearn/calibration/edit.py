"""Calibration caches edited: merged, renamed, under another header; and in the forms that other
programs read.
"""

from __future__ import annotations

import json
import math
import re
import sys
from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from ..errors import CacheError, first_line
from ..record import parse_json
from .cache import (
    ALGORITHMS,
    CacheEntry,
    CalibrationCache,
    amax_entries,
    entry,
    format_cache,
    is_ort_table,
    make_header,
    new_cache,
    parse_cache,
    read_cache,
    version_text,
    write_cache,
)

__all__ = [
    "ALGORITHMS",
    "ONE_SIDED",
    "CacheEntry",
    "CalibrationCache",
    "drop",
    "entry",
    "format_cache",
    "from_ort_flatbuffers",
    "from_ort_json",
    "from_ort_table",
    "from_ranges_json",
    "is_ort_table",
    "make_header",
    "merge",
    "new_cache",
    "parse_cache",
    "read_cache",
    "rename",
    "to_ort_flatbuffers",
    "to_ort_table",
    "to_qdq_scales",
    "to_ranges_json",
    "version_text",
    "with_first_line",
    "with_header",
    "write_cache",
]


# --- Calibration caches in other forms: a JSON of ranges, ONNX Runtime's calibration table, scales
# for ONNX Q/DQ.


def to_ranges_json(cache: CalibrationCache) -> str:
    """The cache as JSON: ``{"header": ..., "ranges": {tensor: amax}, "hex": {tensor: bits of the
    scale}}``.

    ``amax = scale * 127`` in float32 is for reading and editing; ``hex`` keeps the way back exact.
    Lines of no use (an infinite or NaN scale) are left out.
    """
    lines = _usable(cache)
    return json.dumps(
        {
            "header": cache.header,
            "ranges": {item.name: item.amax for item in lines},
            "hex": {item.name: item.hex for item in lines},
        },
        indent=2,
    )


def _usable(cache: CalibrationCache) -> list[CacheEntry]:
    return [item for item in cache.scales if item.problem is None]


def from_ranges_json(
    text: str, *, kind: str = "entropy2", tensorrt: str = "8.6.0"
) -> CalibrationCache:
    """The cache of :func:`to_ranges_json`'s text, or of a plain ``{tensor: amax}`` object.

    A range edited by hand wins over the hex beside it: ``scale = amax / 127``.

    >>> from_ranges_json('{"image": 127.0}')["image"]
    1.0
    """
    try:
        data = parse_json(text)
    except ValueError as problem:
        raise CacheError(f"not JSON: {problem}", "write {tensor: amax}") from None
    whole = isinstance(data, dict) and isinstance(data.get("ranges"), dict)
    ranges = data["ranges"] if whole else data
    if not isinstance(ranges, dict) or any(
        isinstance(v, bool) or not isinstance(v, (int, float)) or abs(v) > 1e300
        for v in ranges.values()
    ):
        raise CacheError(
            "expected a JSON object of tensor names and ranges (numbers)", "write {tensor: amax}"
        )
    given = data.get("hex") if whole else None
    exact = given if isinstance(given, dict) else {}
    items = []
    for item in amax_entries(ranges):
        line = (
            parse_cache(f"{make_header()}\n{item.name}: {exact[item.name]}\n").scales[0]
            if item.name in exact
            else None
        )
        items.append(line if line and line.amax == float(ranges[item.name]) else item)
    header = data.get("header") if whole else None
    return new_cache(items, kind, tensorrt, header=header if isinstance(header, str) else None)


def to_ort_table(cache: CalibrationCache) -> str:
    """ONNX Runtime's text calibration table (``calibration.cache``): ``tensor amax`` a line, sorted
    by name.

    Source: onnxruntime 1.32 quantization/quant_utils.py, write_calibration_table (which writes the
    same amax to calibration.flatbuffers, the file that its TensorRT provider reads: see
    :func:`to_ort_flatbuffers`).

    >>> print(to_ort_table(new_cache({"image": 1.0})), end="")
    image 127.0
    """
    return "".join(
        f"{item.name} {item.amax!r}\n" for item in sorted(_usable(cache), key=lambda i: i.name)
    )


def from_ort_table(
    text: str, *, kind: str = "entropy2", tensorrt: str = "8.6.0"
) -> CalibrationCache:
    """The cache of ONNX Runtime's text calibration table: ``scale = amax / 127``.

    The table may be one-sided (:data:`ONE_SIDED`). A tensor with -0.0 had values below 0 only, and
    the table has lost its range: it is left out.
    """
    ranges: dict[str, float] = {}
    for number, line in enumerate(text.split("\n"), 1):
        if not line.strip():
            continue
        name, _, value = line.rpartition(" ")
        try:
            amax = float(value)
        except ValueError:
            raise CacheError(
                f"line {number}: {line!r:.80} is not 'tensor amax'", "give calibration.cache"
            ) from None
        if name in ranges:
            raise CacheError(
                f"line {number}: the tensor {name!r} was already given", "keep one of the two lines"
            )
        if amax < 0:
            raise CacheError(
                f"line {number}: the range of {name!r:.80} is {value}: ONNX Runtime wrote the "
                "higher end of a range below 0",
                "convert calibration.json instead (--from ort-json)",
            )
        if math.copysign(1, amax) > 0:
            ranges[name] = amax
    return new_cache(amax_entries(ranges), kind, tensorrt)


def from_ort_json(
    text: str, *, kind: str = "entropy2", tensorrt: str = "8.6.0"
) -> CalibrationCache:
    """The cache of ONNX Runtime's ``calibration.json``, which has both ends of each range.

    ``amax`` is the larger of |lowest| and |highest|. Old versions wrote {tensor:
    [lowest, highest]}.

    >>> from_ort_json('{"x": [-127.0, 3.5]}')["x"]
    1.0
    """
    try:
        data = parse_json(text)
    except ValueError as problem:
        raise CacheError(f"not JSON: {problem}", "give calibration.json") from None
    if isinstance(data, dict) and isinstance(data.get("data"), dict):
        data = data["data"]
    ranges = {}
    for name, item in data.items() if isinstance(data, dict) else ():
        if name in ("CLS", "calibration_method"):
            continue
        ends = (item.get("lowest"), item.get("highest")) if isinstance(item, dict) else item
        values = np.abs(np.array(_numbers(ends), np.float64))
        if not values.size:
            raise CacheError(
                f"{name!r:.80} has no lowest and highest value",
                "give ONNX Runtime's calibration.json",
            )
        ranges[name] = float(values.max())
    if not ranges:
        raise CacheError("the JSON holds no ranges", "give ONNX Runtime's calibration.json")
    return new_cache(amax_entries(ranges), kind, tensorrt)


def _numbers(value: Any) -> list[float]:
    """Every number inside lists and numpy arrays as ONNX Runtime writes them to JSON."""
    if isinstance(value, dict):
        return _numbers(value.get("data"))
    if isinstance(value, (list, tuple)):
        numbers: list[float] = []
        for item in value:
            numbers += _numbers(item)
        return numbers
    is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
    return [float(value)] if is_number and abs(value) <= sys.float_info.max else []


def from_ort_flatbuffers(
    content: bytes, *, kind: str = "entropy2", tensorrt: str = "8.6.0"
) -> CalibrationCache:
    """The cache of ONNX Runtime's ``calibration.flatbuffers``, as one-sided as its text table.

    Needs onnxruntime, which brings flatbuffers and the table's schema.
    """
    from onnxruntime.quantization.CalTableFlatBuffers import TrtTable

    try:
        table = TrtTable.TrtTable.GetRootAsTrtTable(content, 0)
        pairs = [table.Dict(at) for at in range(table.DictLength())]
        lines = [f"{pair.Key().decode()} {pair.Value().decode()}" for pair in pairs]
    except Exception as problem:  # struct.error and others, by what the bytes hold
        raise CacheError(
            f"no calibration table: {first_line(problem)}", "give calibration.flatbuffers"
        ) from None
    return from_ort_table("\n".join(lines), kind=kind, tensorrt=tensorrt)


ONE_SIDED = (
    "ONNX Runtime writes the larger of lowest and highest, not of their absolute values "
    "(microsoft/onnxruntime#25621): the range of a tensor that reaches further below 0 than above "
    "is too small here; calibration.json, written beside it, has both ends (--from ort-json)"
)
"""What to know of a scale from ONNX Runtime's table, in text or flatbuffers."""


def with_first_line(content: bytes, header: str) -> bytes:
    """A cache file's content under ``header``, also where its own first line cannot be read.

    >>> with_first_line(b"TRT-8XXX-EntropyCalibration2\\nx: 3f000000\\n", make_header())
    b'TRT-8600-EntropyCalibration2\\nx: 3f000000\\n'
    """
    first, _, rest = content.removeprefix(b"\xef\xbb\xbf").partition(b"\n")
    is_scale = re.fullmatch(rb".+: [0-9a-fA-F]{1,8}\r?", first)  # there is no header at all
    return header.encode() + b"\n" + (first + b"\n" if is_scale else b"") + rest


def to_ort_flatbuffers(cache: CalibrationCache) -> bytes:
    """ONNX Runtime's ``calibration.flatbuffers``, for its TensorRT provider's
    ``trt_int8_calibration_table_name``.

    Needs onnxruntime, which brings flatbuffers and the table's schema.
    """
    import flatbuffers  # type: ignore[import-untyped]
    from onnxruntime.quantization.CalTableFlatBuffers import KeyValue, TrtTable

    builder = flatbuffers.Builder(1024)
    pairs = []
    for item in sorted(_usable(cache), key=lambda item: item.name):
        key, value = builder.CreateString(item.name), builder.CreateString(repr(item.amax))
        KeyValue.KeyValueStart(builder)
        KeyValue.KeyValueAddKey(builder, key)
        KeyValue.KeyValueAddValue(builder, value)
        pairs.append(KeyValue.KeyValueEnd(builder))
    TrtTable.TrtTableStartDictVector(builder, len(pairs))
    for pair in pairs:
        builder.PrependUOffsetTRelative(pair)
    rows = builder.EndVector()
    TrtTable.TrtTableStart(builder)
    TrtTable.TrtTableAddDict(builder, rows)
    builder.Finish(TrtTable.TrtTableEnd(builder))
    return bytes(builder.Output())


def to_qdq_scales(cache: CalibrationCache) -> dict[str, tuple[float, int]]:
    """Tensor -> (scale, zero point 0), as ONNX QuantizeLinear and DequantizeLinear take them (int8,
    symmetric).

    A scale of 0 is left out, by which QuantizeLinear would divide, and so are lines of no use.

    >>> to_qdq_scales(new_cache({"x": 0.5, "zeros": 0.0}))
    {'x': (0.5, 0)}
    """
    return {name: (scale, 0) for name, scale in cache.items() if scale > 0}


def merge(*caches: CalibrationCache, prefer: str = "last") -> CalibrationCache:
    """One cache with every tensor of all, under the first's header.

    Where several give a tensor, ``prefer`` takes the "first", the "last" or the "largest" scale,
    an infinite or NaN one only where there is no other.
    CacheError when the algorithms differ: their scales answer different questions.

    >>> dict(merge(new_cache({"x": 0.5}), new_cache({"x": 0.25, "y": 1.0}), prefer="largest"))
    {'x': 0.5, 'y': 1.0}
    """
    if not caches or prefer not in ("first", "last", "largest"):
        raise CacheError(
            f"merge of {len(caches)} caches, prefer={prefer!r}", "prefer is first, last or largest"
        )
    if len(kinds := {cache.algorithm for cache in caches}) > 1:
        raise CacheError(
            "the caches come from different algorithms: "
            f"{', '.join(map(str, sorted(kinds, key=str)))}",
            "merge caches of one algorithm, or give them one header with with_header()",
        )
    merged: dict[str, CacheEntry] = {}
    for item in (item for cache in caches for item in cache.scales):
        old = merged.get(item.name)
        larger = prefer == "largest" and old is not None and item.scale > old.scale
        if old is None or (item.problem is None and (old.problem or prefer == "last" or larger)):
            merged[item.name] = item
    return replace(caches[0], scales=tuple(merged.values()))


def _known(cache: CalibrationCache, names: Iterable[str]) -> None:
    held = set(cache.names)
    if unknown := [name for name in names if name not in held]:
        raise CacheError(
            f"the cache has no tensor {', '.join(map(repr, unknown))}",
            "see .names for those it has",
        )


def rename(cache: CalibrationCache, names: Mapping[str, str]) -> CalibrationCache:
    """The cache with tensors renamed, old -> new; CacheError for an unknown name or two lines
    of one name.
    """
    _known(cache, names)
    if not names:
        return cache
    changed = [
        replace(item, name=names[item.name]) if item.name in names else item
        for item in cache.scales
    ]
    return new_cache(changed, header=cache.header)


def drop(cache: CalibrationCache, names: Iterable[str]) -> CalibrationCache:
    """The cache without the lines of ``names``; CacheError for a name that it does not have."""
    gone = {names} if isinstance(names, str) else set(names)
    _known(cache, gone)
    return replace(cache, scales=tuple(item for item in cache.scales if item.name not in gone))


def with_header(
    cache: CalibrationCache,
    kind: str | None = None,
    tensorrt: str | None = None,
    *,
    header: str | None = None,
) -> CalibrationCache:
    """The same scales under another header: another calibrator, TensorRT version, or a header given
    whole.

    >>> with_header(new_cache({"x": 0.5}), tensorrt="7.6.0").header
    'TRT-7600-EntropyCalibration2'
    """
    wanted = header or make_header(
        kind or cache.kind or "entropy2", tensorrt or cache.tensorrt_version or "8.6.0"
    )
    return new_cache(cache.scales, header=wanted)
