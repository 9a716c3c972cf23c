"""Calibration caches edited: merged, renamed, under another header, in other programs' forms."""

from __future__ import annotations

import itertools
import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from ..errors import CacheError, DataError, first_line
from ..int8.quant import scale_from_amax
from ..record import parse_json
from .cache import CacheEntry, CalibrationCache, entry, make_header, new_cache, parse_cache

__all__ = [
    "ONE_SIDED",
    "drop",
    "from_ort_flatbuffers",
    "from_ort_json",
    "from_ort_table",
    "from_ranges_json",
    "merge",
    "rename",
    "to_ort_flatbuffers",
    "to_ort_table",
    "to_qdq_scales",
    "to_ranges_json",
    "with_header",
]

ONE_SIDED = (
    "ONNX Runtime writes the larger of lowest and highest, not of their absolute values "
    "(microsoft/onnxruntime#25621): the range of a tensor that reaches further below 0 than above "
    "is too small here; calibration.json, written beside it, has both ends (--from ort-json)"
)
"""What to know of a scale from ONNX Runtime's table, in text or flatbuffers."""


def to_ranges_json(cache: CalibrationCache) -> str:
    """The cache as JSON: ``{"header": ..., "ranges": {tensor: amax}, "hex": {tensor: bits}}``.

    ``amax = scale * 127`` in float32 is for reading and editing; ``hex`` keeps the way back exact.
    Lines of no use (an infinite or NaN scale) are left out.
    """
    ranges = {name: cache.entry(name).amax for name in cache}
    bits = {name: cache.entry(name).hex for name in cache}
    return json.dumps({"header": cache.header, "ranges": ranges, "hex": bits}, indent=2)


def _json(text: str, expected: str) -> Any:
    try:
        return parse_json(text)
    except ValueError as problem:
        raise CacheError(f"not JSON: {problem}", expected) from None


def _from_ranges(ranges: Mapping[str, float]) -> CalibrationCache:
    """The cache of ``amax`` by tensor name, under a header of entropy2."""
    try:
        return new_cache({name: float(scale_from_amax(amax)) for name, amax in ranges.items()})
    except DataError as problem:
        raise CacheError(problem.problem, problem.fix) from None


def from_ranges_json(text: str) -> CalibrationCache:
    """The cache of :func:`to_ranges_json`'s text, or of a plain ``{tensor: amax}`` object.

    A range edited by hand wins over the hex beside it: ``scale = amax / 127``.

    >>> from_ranges_json('{"image": 127.0}')["image"]
    1.0
    """
    data = _json(text, "write {tensor: amax}")
    whole = data if isinstance(data, dict) and isinstance(data.get("ranges"), dict) else {}
    ranges = whole.get("ranges", data)
    if not isinstance(ranges, dict) or not all(map(_is_number, ranges.values())):
        problem = "expected a JSON object of tensor names and ranges (numbers)"
        raise CacheError(problem, "write {tensor: amax}")
    header, bits = whole.get("header"), whole.get("hex")
    cache = _from_ranges(ranges)
    if isinstance(bits, dict):
        lines = [f"{name}: {digits}" for name, digits in bits.items() if name in ranges]
        exact = parse_cache("\n".join([cache.header, *lines, ""]))
        same = tuple(line for line in exact.scales if line.amax == ranges.get(line.name))
        cache = merge(cache, replace(exact, scales=same))
    return new_cache(cache.scales, header=header if isinstance(header, str) else None)


def _is_number(value: object) -> bool:
    return type(value) in (int, float) and abs(value) <= 1e300  # type: ignore[arg-type]


def to_ort_table(cache: CalibrationCache) -> str:
    """ONNX Runtime's text calibration table (``calibration.cache``): ``tensor amax`` by name.

    Source: onnxruntime 1.32 quantization/quant_utils.py, write_calibration_table (which writes the
    same amax to calibration.flatbuffers, the file that its TensorRT provider reads: see
    :func:`to_ort_flatbuffers`).

    >>> print(to_ort_table(new_cache({"image": 1.0})), end="")
    image 127.0
    """
    return "".join(f"{name} {cache.entry(name).amax!r}\n" for name in sorted(cache))


def from_ort_table(text: str) -> CalibrationCache:
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
            problem = f"line {number}: {line!r:.80} is not 'tensor amax'"
            raise CacheError(problem, "give calibration.cache") from None
        if name in ranges:
            problem = f"line {number}: the tensor {name!r} was already given"
            raise CacheError(problem, "keep one of the two lines")
        if amax < 0:
            raise CacheError(
                f"line {number}: the range of {name!r:.80} is {value}: ONNX Runtime wrote the "
                "higher end of a range below 0",
                "convert calibration.json instead (--from ort-json)",
            )
        if math.copysign(1, amax) > 0:
            ranges[name] = amax
    return _from_ranges(ranges)


def from_ort_json(text: str) -> CalibrationCache:
    """The cache of ONNX Runtime's ``calibration.json``, which has both ends of each range.

    ``amax`` is the larger of |lowest| and |highest|. Old versions wrote {tensor:
    [lowest, highest]}.

    >>> from_ort_json('{"x": [-127.0, 3.5]}')["x"]
    1.0
    """
    data = _json(text, "give calibration.json")
    if isinstance(data, dict) and isinstance(data.get("data"), dict):
        data = data["data"]
    ranges = {}
    for name, item in data.items() if isinstance(data, dict) else ():
        if name in ("CLS", "calibration_method"):
            continue
        ends = (item.get("lowest"), item.get("highest")) if isinstance(item, dict) else item
        values = np.abs(np.array(_numbers(ends), np.float64))
        if not values.size:
            problem = f"{name!r:.80} has no lowest and highest value"
            raise CacheError(problem, "give ONNX Runtime's calibration.json")
        ranges[name] = float(values.max())
    if not ranges:
        raise CacheError("the JSON holds no ranges", "give ONNX Runtime's calibration.json")
    return _from_ranges(ranges)


def _numbers(value: Any) -> list[float]:
    """Every number inside lists and numpy arrays as ONNX Runtime writes them to JSON."""
    if isinstance(value, dict):
        return _numbers(value.get("data"))
    if isinstance(value, (list, tuple)):
        return list(itertools.chain.from_iterable(map(_numbers, value)))
    return [float(value)] if _is_number(value) else []


def from_ort_flatbuffers(content: bytes) -> CalibrationCache:
    """The cache of ONNX Runtime's ``calibration.flatbuffers``, as one-sided as its text table.

    Needs onnxruntime, which brings flatbuffers and the table's schema.
    """
    from onnxruntime.quantization.CalTableFlatBuffers import TrtTable

    try:
        table = TrtTable.TrtTable.GetRootAsTrtTable(content, 0)
        pairs = [table.Dict(at) for at in range(table.DictLength())]
        lines = [f"{pair.Key().decode()} {pair.Value().decode()}" for pair in pairs]
    except Exception as problem:  # struct.error and others, by what the bytes hold
        what = f"no calibration table: {first_line(problem)}"
        raise CacheError(what, "give calibration.flatbuffers") from None
    return from_ort_table("\n".join(lines))


def to_ort_flatbuffers(cache: CalibrationCache) -> bytes:
    """ONNX Runtime's ``calibration.flatbuffers``, for its TensorRT provider's
    ``trt_int8_calibration_table_name``.

    Needs onnxruntime, which brings flatbuffers and the table's schema.
    """
    import flatbuffers  # type: ignore[import-untyped]
    from onnxruntime.quantization.CalTableFlatBuffers import KeyValue, TrtTable

    builder = flatbuffers.Builder(1024)
    pairs = []
    for name in sorted(cache):
        amax = repr(cache.entry(name).amax)
        key, value = builder.CreateString(name), builder.CreateString(amax)
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
    """Tensor -> (scale, zero point 0), as ONNX QuantizeLinear takes them for int8.

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
        problem = f"merge of {len(caches)} caches, prefer={prefer!r}"
        raise CacheError(problem, "prefer is first, last or largest")
    if len(kinds := sorted({str(cache.algorithm) for cache in caches})) > 1:
        raise CacheError(
            f"the caches come from different algorithms: {', '.join(kinds)}",
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
    if unknown := [repr(name) for name in names if name not in held]:
        problem = f"the cache has no tensor {', '.join(unknown)}"
        raise CacheError(problem, "`trtlearn cache show FILE` lists those it has")


def rename(cache: CalibrationCache, names: Mapping[str, str]) -> CalibrationCache:
    """The cache with tensors renamed, old -> new; CacheError for a name unknown or taken."""
    _known(cache, names)
    if not names:
        return cache
    checked = {old: entry(new, 0.0).name for old, new in names.items()}
    new = {old: replace(cache.entry(old), name=name) for old, name in checked.items()}
    return new_cache([new.get(item.name, item) for item in cache.scales], header=cache.header)


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
    """The same scales under another calibrator's or TensorRT version's header, or a whole one.

    >>> with_header(new_cache({"x": 0.5}), tensorrt="7.6.0").header
    'TRT-7600-EntropyCalibration2'
    """
    wanted = header or make_header(
        kind or cache.kind or "entropy2", tensorrt or cache.tensorrt_version or "8.6.0"
    )
    return new_cache(cache.scales, header=wanted)
