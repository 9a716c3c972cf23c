"""What an engine's inspector says, read into records: the JSON of TensorRT 8.6, 10.x and 11.x.

    inspector.get_engine_information(trt.LayerInformationFormat.JSON)
    trtexec --loadEngine=PLAN --profilingVerbosity=detailed --exportLayerInfo=layers.json

The versions differ in how they say a tensor's type (one phrase, the type alone, two fields), in
``Bindings`` against ``I/O Tensors``, and in the control characters between ONNX names. What a file
does not say stays None.

TensorRT writes data type and layout into one phrase up to 10.x ("Thirty-two wide channel vectorized
row major Int8 format"), or the data type alone (10.x: "Int8"), and into two fields in 11.x. Every
phrase is a data-type word put into one of the layouts of tables/layouts.json. A phrase outside that
table is never guessed at: it warns once and its data type is None.

Sources: the phrases held by libnvinfer.so.8 of TensorRT 8.6.0 and libtensorrt_rtx.so of TensorRT
for RTX 1.x (read from the libraries' string tables),
v11.0:tools/experimental/trt-engine-explorer/trex/activations.py:29-103, and
docs.nvidia.com/deeplearning/tensorrt/11.0.0/api/migration/tensorrt-10x-to-11x-IEngineInspector.html.
"""

from __future__ import annotations

import json
import math
import os
import re
import sys
import warnings
from collections import Counter
from collections.abc import Mapping
from functools import lru_cache
from itertools import chain
from typing import Any, NamedTuple

from ..dtypes import DTYPES, named_dtype
from ..errors import InspectorError
from ..files import decode_text, load_table, plan_in, read_bytes, recognize
from ..record import parse_json, without_collector
from .layers import (
    Binding,
    EngineInfo,
    EngineLayer,
    EngineTensor,
    nodes_in_metadata,
    reformat_target,
)
from .log import layers_in_text
from .records import Timing

__all__ = [
    "Format",
    "LayerTimes",
    "inspector_text",
    "layer_times",
    "log_layers",
    "parse",
    "read_engine",
]

# The words for a tensor's data type and layout, as one exact table

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
    """What a ``Format/Datatype`` phrase says, or the fields ``Format`` and ``Datatype`` of 11.x."""
    found = _lookup(phrase or "")
    if not found.known:
        _warn("tensor format", phrase or "")
    return found if dtype is None else found._replace(dtype=parse_dtype(dtype))


def parse_dtype(word: str | None) -> str | None:
    """The name in ``DTYPES`` of a data-type word such as "Half"; None for an unknown one."""
    dtype = named_dtype(word)
    if dtype is None and (word or "").strip().lower() not in _NO_DTYPE:
        _warn("data type", word or "")
    return dtype.name if dtype is not None and dtype.name in DTYPES else None


def dtype_bits(word: str | None) -> int | None:
    """Bits of one element of a data type, by TensorRT's word or trtlearn's; None where unknown."""
    dtype = named_dtype(word)
    return dtype.bits if dtype else None


# The text and its JSON

EXPORT = (
    "export it with trtexec --onnx=MODEL --profilingVerbosity=detailed "
    "--exportLayerInfo=layers.json (with --loadEngine=PLAN where the plan was built so)"
)
"""What to try when a file is no inspector output."""
AGAIN = "export the file again"
_DECODER = json.JSONDecoder(strict=False)  # strict=False: 8.6 leaves 0x1e raw inside strings
_START = re.compile(r'\{\s*"(?:Layers|Name)"\s*:')


def _decode(content: bytes) -> str:
    """The text of a file, or an InspectorError that says what the file is instead."""
    content = plan_in(content)
    head, other = content[:64], recognize(content)
    if other and other.kind != "json":
        fix = EXPORT if other.kind in ("plan", "onnx") else other.fix
        raise InspectorError(f"this is {other.words}, expected the inspector's JSON", fix)
    if b"\0" in head and "\0" in decode_text(head, "replace"):
        raise InspectorError(
            "this is a binary file (an engine plan?), expected the inspector's JSON", EXPORT
        )
    try:
        return decode_text(content)
    except UnicodeDecodeError as problem:
        raise InspectorError(
            f"not {problem.encoding.upper()} text: byte {problem.start} is "
            f"{problem.object[problem.start]:#04x}",
            EXPORT,
        ) from None


def inspector_text(source: str | bytes | os.PathLike[str]) -> str:
    """The text of ``source``: itself where it looks like JSON, else the file at that path."""
    if isinstance(source, bytes):
        return _decode(source)
    if isinstance(source, str):
        start = source.lstrip("\ufeff \t\r\n")[:1]
        if start in ("{", "[", '"', "") or "\n" in source:
            return source.lstrip("\ufeff")
    try:
        return _decode(read_bytes(source, InspectorError))
    except ValueError:  # a path with a zero byte
        raise InspectorError(f"neither JSON nor a path: {source!r:.60}", EXPORT) from None


def _among_other_lines(text: str) -> Any:
    """The engine or list of layers that a script printed between lines of a log; else None."""
    values: list[dict[str, Any]] = []
    at = 0
    while start := _START.search(text, at):
        try:
            value, at = _DECODER.raw_decode(text, start.start())
        except (ValueError, RecursionError):
            return None
        values.append(value)
    engines = [value for value in values if "Layers" in value]
    if len(engines) > 1:
        count = f"the text holds {len(engines)} engines"
        raise InspectorError(count, "give each a file of its own")
    return engines[0] if engines else values or None


def parse(text: str) -> Any:
    """The JSON of ``text``, or an InspectorError that says in one line what is wrong with it.

    A text that is no JSON as a whole may still hold one engine, or its layers one after the other.
    """
    if not text.strip():
        raise InspectorError("the inspector's text is empty", EXPORT)
    try:
        value = parse_json(text, strict=False)
        is_quoted = isinstance(value, str) and value.lstrip()[:1] == "{"  # json.dump of the text
        return parse(value) if is_quoted else value
    except json.JSONDecodeError as problem:
        value = _among_other_lines(text) or layers_in_text(text)
        if not value:
            raise _not_json(text, problem) from None
        return value
    except ValueError as problem:  # an integer with thousands of digits
        raise InspectorError(f"broken JSON: {problem}", AGAIN) from None


def _not_json(text: str, problem: json.JSONDecodeError) -> InspectorError:
    if re.search(r"^Layers:|\bLayerType: ", text, re.MULTILINE):
        words = "this is a piece of the inspector's one-line text or of a log, expected its JSON"
        return InspectorError(words, EXPORT)
    if re.match(r"\s*[{\[]\s*'", text):
        return InspectorError(
            "this is Python's form of a dict, not JSON", "write it with json.dump"
        )
    is_log = re.match(r"\s*\[(?:[A-Z]|\d\d/)", text) and not _START.search(text)
    if is_log or text.lstrip()[:1] not in ("{", "["):
        start = " ".join(text[:80].split())[:40]
        words = f"expected the inspector's JSON, the text starts with {start!r}"
        return InspectorError(words, EXPORT)
    is_cut = not text[problem.pos :].strip() or "Unterminated" in problem.msg
    where = f"{problem.msg} at line {problem.lineno}, column {problem.colno}"
    return InspectorError(f"broken JSON{' (cut short?)' if is_cut else ''}: {where}", AGAIN)


# Layers and bindings

_DETAIL = {"TacticName", "TacticValue", "Metadata", "StreamId", "ParameterType", "Constants"}
_MYELIN = {"conv", "correlation", "fusion", "gemm", "kgen", "pointwise", "reduce"}
_MYELIN |= {"shape_call", "signal", "wait"}
_NEW_TYPES = re.compile("BFloat16|FP8|FP4|Int4|Int64|UInt8")
_ALONE = {"Float", "Half", "Int8", "Int32", "Bool"}
_INTEGERS, _TENSORS = {int}, {dict, str}  # the types of dimensions (a bool is none), of tensors


def _string(value: Any) -> str | None:
    if not isinstance(value, str) or not value:
        return None
    if value.isascii():
        return value
    return value.encode("utf-8", "replace").decode()  # no half of a surrogate pair


def _integer(value: Any) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def _dims(value: Any) -> tuple[int, ...] | None:
    if isinstance(value, list) and _INTEGERS.issuperset(map(type, value)):
        return tuple(value)
    return None


def _tensor(item: str | dict[str, Any]) -> EngineTensor:
    if isinstance(item, str):
        return EngineTensor(item, None, None)
    phrase, word = _string(item.get("Format/Datatype")), None
    if phrase is None:
        phrase = _string(item.get("Format"))
        word = _string(item.get("Datatype") or item.get("DataType"))
    layout = parse_format(phrase, word)
    return EngineTensor(
        _string(item.get("Name")) or "",
        _dims(item.get("Dimensions")),
        layout.dtype,
        phrase,
        layout.vector,
        _string(item.get("Location")),
    )


def _tensors(layer: dict[str, Any], key: str, index: int) -> tuple[EngineTensor, ...]:
    items = layer.get(key)
    if items is None:
        return ()
    if isinstance(items, list):
        if _TENSORS.issuperset(map(type, items)):
            return tuple(map(_tensor, items))
        odd = next(item for item in items if not isinstance(item, (dict, str)))
        problem = f"holds {odd!r:.40}, expected a tensor"
    else:
        problem = f"is {items!r:.40}, expected a list"
    name = _string(layer.get("Name")) or ""
    raise InspectorError(f"layer {index} ({name[:60]!r}): {key} {problem}", AGAIN)


def _largest_constant(constants: list[Any]) -> tuple[str | None, int | None]:
    """Data type and count of the largest of Myelin's constants; (None, None) without any."""
    word, largest = None, None
    for item in constants:
        dims = _dims(item.get("Dimensions")) if isinstance(item, dict) else None
        if dims is not None and math.prod(dims) > max(largest or 0, 1):
            largest = math.prod(dims)
            named = item.get("Datatype") or item.get("DataType") or item.get("Format/Datatype")
            word = _string(named)
    if word is not None and parse_format(word).known:
        word = parse_format(word).dtype or word
    return word, largest


def _weights(layer: dict[str, Any], name: str) -> tuple[str | None, int | None, int | None]:
    """Data type, count and bytes of "Weights" or "Bias"; of Myelin's "Constants" the largest."""
    stored = layer.get(name) or layer.get(f"Conv{name}") or layer.get(name.lower())
    constants = layer.get("Constants")
    if isinstance(stored, dict):
        word, count = _string(stored.get("Type")), _integer(stored.get("Count"))
    elif name == "Weights" and isinstance(constants, list):
        word, count = _largest_constant(constants)
    else:
        return None, None, None
    if count is None or count < 0:
        return parse_dtype(word), None, None
    if count == 0:
        return None, 0, 0
    bits = dtype_bits(word)
    return parse_dtype(word), count, None if bits is None else (count * bits + 7) // 8


def _flat(metadata: Any) -> str:
    """The text of a layer's Metadata, also where it is a list or an object."""
    if isinstance(metadata, str):
        return _string(metadata) or ""
    if isinstance(metadata, dict):
        metadata = list(metadata.values())
    return "\x1e".join(_flat(item) for item in metadata) if isinstance(metadata, list) else ""


def _layer(item: Any, index: int) -> EngineLayer:
    if isinstance(item, str):
        is_reformat = reformat_target(item) is not None
        return EngineLayer(_string(item) or "", None, (), (), is_reformat=is_reformat, raw=item)
    if not isinstance(item, dict) or not ("LayerType" in item or "Inputs" in item):
        raise InspectorError(f"layer {index} is {item!r:.60}, expected an engine layer", EXPORT)
    name, kind = _string(item.get("Name")) or "", _string(item.get("LayerType"))
    weight_dtype, weight_count, weight_bytes = _weights(item, "Weights")
    bias_dtype, bias_count, _ = _weights(item, "Bias")
    return EngineLayer(
        name,
        kind,
        _tensors(item, "Inputs", index),
        _tensors(item, "Outputs", index),
        weight_dtype=weight_dtype,
        weight_count=weight_count,
        weight_bytes=weight_bytes,
        bias_dtype=bias_dtype,
        bias_count=bias_count,
        kernel=_string(item.get("TacticName")),
        tactic=_string(item.get("TacticValue")),
        onnx_nodes=nodes_in_metadata(_flat(item.get("Metadata"))),
        is_reformat=kind == "Reformat" or (kind != "NoOp" and reformat_target(name) is not None),
        stream=_integer(item.get("StreamId")),
        raw=item,  # type: ignore[arg-type]  # its text is written when it is asked for
    )


def log_layers(text: str) -> tuple[EngineLayer, ...]:
    """The engine's layers that a log lists; none where it lists none."""
    return tuple(_layer(item, index) for index, item in enumerate(layers_in_text(text)))


def _bindings(data: dict[str, Any], layers: tuple[EngineLayer, ...]) -> tuple[Binding, ...]:
    """The network's inputs and outputs; before 11.x only names, to look up in the layers."""
    listed = data.get("I/O Tensors") or data.get("Bindings")
    listed = listed if isinstance(listed, list) else ()
    written = {one.name: one for one in chain.from_iterable(layer.outputs for layer in layers)}
    read = {one.name: one for one in chain.from_iterable(layer.inputs for layer in layers)}
    bindings = []
    for item in listed:
        if isinstance(item, str):
            mode = "output" if item in written else "input" if item in read else "unknown"
            tensor = written.get(item) or read.get(item)
            known = (tensor.dims, tensor.dtype, tensor.format) if tensor else ()
            bindings.append(Binding(item, mode, *known))
        elif isinstance(item, dict):
            bindings.append(_binding(item))
    return tuple(bindings)


def _binding(item: dict[str, Any]) -> Binding:
    """One of 11.x's ``I/O Tensors``; of several profiles the first."""
    profiles = item.get("ProfileInfo")
    first = profiles[0] if isinstance(profiles, list) and profiles else None
    phrase = _string((first if isinstance(first, dict) else {}).get("Format") or item.get("Format"))
    word = _string(item.get("DataType") or item.get("Datatype"))
    return Binding(
        _string(item.get("Name")) or "",
        (_string(item.get("IOMode")) or "unknown").lower(),
        _dims(item.get("Dimensions")),
        parse_dtype(word) if word else parse_format(phrase).dtype,
        phrase,
    )


def _schema(data: dict[str, Any], items: list[Any], text: str) -> str | None:
    """Which inspector wrote it; "8.6" also where early 10.x wrote just the same."""
    detailed = [item for item in items if isinstance(item, dict)]
    if "I/O Tensors" in data or "Engine Metadata" in data:
        return "11"
    if not detailed:
        return None  # names only: 8.6 and 10.x write the same
    if '"Format/Datatype"' not in text and re.search(r'"Data[tT]ype"\s*:', text):
        return "11"
    if "\x1e" in text:
        return "8.6"  # later versions write the escape \u001e
    kinds = {str(item.get("LayerType")) for item in detailed}
    if "\\u001" in text or kinds & _MYELIN:
        return "10"
    phrases = _values(text, "Format/Datatype")
    is_new = phrases & _ALONE or any(map(_NEW_TYPES.search, phrases | _values(text, "Type")))
    return "10" if is_new else "8.6"


def _values(text: str, key: str) -> set[str]:
    """The texts that stand behind ``key`` in a JSON text, wherever that is."""
    return set(re.findall(rf'"{key}":\s*"([^"]*)', text))


def _is_detailed(items: list[Any]) -> bool:
    for item in items:
        if isinstance(item, dict):
            if _DETAIL & set(item):
                return True
            tensors = [*(item.get("Inputs") or ()), *(item.get("Outputs") or ())]
            if any(isinstance(tensor, dict) and "Dimensions" in tensor for tensor in tensors):
                return True
    return False


def _unwrap(data: Any) -> tuple[dict[str, Any], list[Any]]:
    """The top level and the layers, also of one layer (getLayerInformation) or a bare list."""
    if isinstance(data, str):
        return {}, [data]
    if isinstance(data, list):
        keys: set[str] = set()
        for item in data:
            keys.update(item if isinstance(item, dict) else ())
        if keys & {"averageMs", "timeMs", "startInMs", "startComputeMs"}:
            words = "these are trtexec's times (--exportProfile or --exportTimes), not layers"
            raise InspectorError(words, EXPORT)
        if keys and not keys & {"LayerType", "Inputs", "Outputs"}:
            words = f"expected engine layers, found a list of objects with {sorted(keys)[:5]}"
            raise InspectorError(words, EXPORT)
        return {}, data
    if isinstance(data, dict) and isinstance(data.get("Layers"), list):
        return data, data["Layers"]
    if isinstance(data, dict) and {"Name", "LayerType"} <= set(data):
        return {}, [data]
    held = f"an object with {sorted(data)[:5]}" if isinstance(data, dict) else f"{data!r:.40}"
    raise InspectorError(f'expected an object with a list "Layers", found {held}', EXPORT)


@without_collector()
def read_engine(source: str | bytes | os.PathLike[str]) -> EngineInfo:
    """The layers of an engine from its inspector's JSON: text, bytes, or the path of a file.

    ``detailed`` is False where the engine was built without detailed profiling verbosity, so that
    only names are known. ``schema`` is 8.6, 10 or 11, None where names alone do not tell. Raises
    InspectorError for an empty or broken file, or another kind of file (a plan, an ONNX model).

    >>> x = '{"Name": "x", "Dimensions": [1,8], "Format/Datatype": "Row major linear FP32"}'
    >>> layer = '{"Name": "fc", "LayerType": "MatrixMultiply", "Inputs": [%s], "Outputs": []}' % x
    >>> read_engine('{"Layers": [%s]}' % layer).layers[0].input_dtypes
    ('fp32',)

    Source: docs.nvidia.com/deeplearning/tensorrt/10.16.1/inference-library/engine-tools.html (8.6,
    10.x), .../11.0.0/api/migration/tensorrt-10x-to-11x-IEngineInspector.html (11.x).
    """
    text = inspector_text(source)
    data, items = _unwrap(parse(text))
    try:
        layers = tuple(_layer(item, index) for index, item in enumerate(items))
        bindings = _bindings(data, layers)
    except RecursionError:
        raise InspectorError("the JSON is nested too deeply for inspector output", EXPORT) from None
    return EngineInfo(layers, bindings, _schema(data, items, text), _is_detailed(items), text)


# Times that trtexec exports or the profiler measured


class LayerTimes(NamedTuple):
    """The time of every engine layer, and the times that no layer has."""

    ms: tuple[float | None, ...]  # by layer; None where the profile does not name it, and it alone
    without_layer: dict[str, float]  # profile entries that the engine does not name

    @property
    def total_ms(self) -> float:
        """Of the layers that have a time."""
        return sum(one for one in self.ms if one is not None)


def _profile(times: Mapping[str, float] | Timing | str | os.PathLike[str]) -> list[tuple[str, Any]]:
    """(name, ms) of each entry; in a file of ``trtexec --exportProfile`` the median, else mean."""
    if isinstance(times, Timing):
        return list(times.layers_ms.items())
    data = times if isinstance(times, Mapping) else parse(inspector_text(times))
    if isinstance(data, Mapping):
        return list(data.items())
    if not isinstance(data, list):
        problem = "expected the list that trtexec --exportProfile writes"
        raise InspectorError(problem, "export the profile again")
    named = [item for item in data if isinstance(item, dict) and isinstance(item.get("name"), str)]
    return [(item["name"], item.get("medianMs", item.get("averageMs"))) for item in named]


def layer_times(
    engine: EngineInfo, times: Mapping[str, float] | Timing | str | os.PathLike[str]
) -> LayerTimes:
    """Join the profiler's times to the engine's layers, by name; what does not join is listed.

    Args:
        times: layer name -> ms, a Timing with ``layers_ms``, or the JSON or the path of trtexec's
            --exportProfile.

    Raises:
        InspectorError: no such profile, or a time that is no number of at least 0.

    A name that the profile repeats is added up. Layers that share a name cannot be told apart: they
    get no time.

    >>> joined = layer_times(EngineInfo((EngineLayer("a", None, (), ()),)), {"a": 0.5, "b": 0.1})
    >>> joined.ms, joined.without_layer
    ((0.5,), {'b': 0.1})
    """
    times_ms: dict[str, float] = {}
    for name, value in _profile(times):
        is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
        if not is_number or not 0 <= value <= sys.float_info.max:
            problem = f"the time of {name!r:.60} is {value!r:.40}, expected ms"
            raise InspectorError(problem, "export the profile again")
        times_ms[name] = times_ms.get(name, 0.0) + float(value)
    count = Counter(layer.name for layer in engine.layers)
    once = {name: ms for name, ms in times_ms.items() if count[name] == 1}
    without_layer = {name: ms for name, ms in times_ms.items() if name not in count}
    return LayerTimes(tuple(once.get(layer.name) for layer in engine.layers), without_layer)
