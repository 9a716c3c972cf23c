"""Calibration caches edited: merged, renamed, under another header; and in the forms that other
programs read.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import replace

from ..errors import CacheError
from .cache import (
    ALGORITHMS,
    CacheEntry,
    CalibrationCache,
    amax_entries,
    entry,
    format_cache,
    make_header,
    new_cache,
    parse_cache,
    read_cache,
    version_text,
    write_cache,
)

__all__ = [
    "ALGORITHMS",
    "CacheEntry",
    "CalibrationCache",
    "drop",
    "entry",
    "format_cache",
    "from_ort_table",
    "from_ranges_json",
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
        data = json.loads(text)
    except (ValueError, RecursionError) as problem:
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
    """The cache of ONNX Runtime's text calibration table: ``scale = amax / 127``."""
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
        ranges[name] = amax
    return new_cache(amax_entries(ranges), kind, tensorrt)


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
    return _rebuilt(
        cache, [replace(item, name=names.get(item.name, item.name)) for item in cache.scales]
    )


def drop(cache: CalibrationCache, names: Iterable[str]) -> CalibrationCache:
    """The cache without the lines of ``names``; CacheError for a name that it does not have."""
    gone = {names} if isinstance(names, str) else set(names)
    _known(cache, gone)
    return _rebuilt(cache, [item for item in cache.scales if item.name not in gone])


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


def _rebuilt(cache: CalibrationCache, items: list[CacheEntry]) -> CalibrationCache:
    return new_cache(items, header=cache.header)
