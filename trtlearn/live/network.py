"""ONNX to a TensorRT network: parsed, batch fixed, outputs marked, precisions and ranges set.

Ranges come from trtexec's placeholder rule, your own dict, or a calibration cache: a range [-amax,
amax] gives the INT8 scale amax / 127. Precisions and ranges work on an INetworkDefinition of
TensorRT 8.x or 10.x; 11.0 removed them in favour of Q/DQ layers.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

from ..calibration.cache import CalibrationCache
from ..dtypes import DTYPES
from ..engine.layers import nodes_in_metadata
from ..engine.log import split_line
from ..engine.records import Message, RangeReport, TensorRange
from ..errors import BuildError, DataError, LiveUnavailable, ModelError
from ..files import read_bytes
from ..int8.groups import placeholder_amax
from ..int8.quant import scale_from_amax
from ..model.graph import OnnxNode
from ..model.read import read_model
from .trt import Log, dtype_name, dtype_of, lacks, logger, shape_of, trt

__all__ = [
    "Parsed",
    "calibrated_ranges",
    "has_qdq",
    "mark_outputs",
    "network_inputs",
    "network_tensors",
    "parsed_network",
    "placeholder_ranges",
    "set_batch",
    "set_precisions",
    "set_ranges",
]

OPERATORS = {"CONCATENATION": "Concat", "POOLING": "MaxPool"}
"""TensorRT's kinds of layers that the placeholder rule tells apart -> ONNX's name of the like."""
Edges = list[tuple[Any, list[Any], list[Any]]]
"""Each layer with the tensors that it reads and those that it makes."""


@dataclass(frozen=True)
class Parsed:
    """A parsed model: the network, with the objects that must live as long as it does."""

    network: trt.INetworkDefinition
    builder: trt.Builder
    parser: trt.OnnxParser


def parsed_network(model: str | os.PathLike[str] | bytes, log: Log | None = None) -> Parsed:
    """Parse an ONNX model into an INetworkDefinition.

    Args:
        model: the path of an ONNX file (its external data beside it), or its bytes.
        log: where what TensorRT says goes, beside an error.

    Raises ModelError for a file that is missing or cannot be parsed, naming the ONNX node;
    LiveUnavailable without TensorRT.

    Example (with TensorRT)::

        network = parsed_network("model.onnx").network
        print(network.num_layers)
    """
    content = model if isinstance(model, bytes) else read_bytes(model, ModelError)
    name = "the model" if isinstance(model, bytes) else str(model)
    where = () if isinstance(model, bytes) else (str(Path(model).resolve()),)
    with log or Log() as said:
        builder = _builder(said)
        flag = trt.NetworkDefinitionCreationFlag.__members__.get("EXPLICIT_BATCH")  # gone in 11
        network = builder.create_network(0 if flag is None else 1 << int(flag))
        parser = trt.OnnxParser(network, logger())
        if not content or not parser.parse(content, *where):
            advice = "check the file with `trtlearn doctor` or onnx.checker"
            raise ModelError(_parser_problem(parser, name), advice)
    if network.num_outputs == 0:
        raise ModelError(f"{name} has no outputs", "export the model again")
    return Parsed(network, builder, parser)


def _builder(log: Log) -> trt.Builder:
    try:
        return trt.Builder(logger())
    except (TypeError, RuntimeError):  # what the bindings raise where CUDA does not start
        said = [split_line(line)[1] for line in log.lines if line[1:2] in "FEW"]
        problem = f"TensorRT cannot start: {said[-1] if said else 'no reason given'}"
        raise LiveUnavailable(problem, "run `trtlearn doctor`") from None


def _parser_problem(parser: trt.OnnxParser, name: str) -> str:
    if not parser.num_errors:
        return f"{name} is no ONNX model that TensorRT can read"
    error = parser.get_error(0)
    node_name = getattr(error, "node_name", None)
    text = " ".join(str(error.desc()).split())
    index = error.node()
    node = f" at node {index}" if index >= 0 else ""
    named = f" {node_name()!r}" if node_name is not None and node_name() else ""
    return f"{name} does not parse{node}{named}: {text or 'no reason given'}"


def _layers(network: trt.INetworkDefinition) -> Iterator[trt.ILayer]:
    return map(network.get_layer, range(network.num_layers))


def _edges(layer: trt.ILayer) -> tuple[list[Any], list[Any]]:
    """The tensors that a layer reads, and those that it makes."""
    reads = map(layer.get_input, range(layer.num_inputs))
    makes = map(layer.get_output, range(layer.num_outputs))
    return [one for one in reads if one is not None], [one for one in makes if one is not None]


def _check_network(network: object) -> None:
    """DataError where ``network`` is no network of TensorRT."""
    if not hasattr(network, "num_layers"):
        problem = f"TensorRT's network is expected, found a {type(network).__name__}"
        fix = "parsed_network(model).network, with trtlearn.live.network"
        raise DataError(problem, fix)


def network_tensors(network: trt.INetworkDefinition) -> dict[str, trt.ITensor]:
    """Every tensor of the network by name: its inputs, then what each layer reads and makes."""
    tensors: list[Any] = list(map(network.get_input, range(network.num_inputs)))
    for layer in _layers(network):
        tensors += chain(*_edges(layer))
    by_name: dict[str, trt.ITensor] = {}
    for tensor in tensors:
        by_name.setdefault(tensor.name, tensor)
    return by_name


def network_inputs(network: trt.INetworkDefinition) -> dict[str, tuple[tuple[int, ...], str]]:
    """The network's inputs: name -> (shape, -1 where dynamic; dtype name)."""
    return {
        tensor.name: (shape_of(tensor.shape), dtype_name(tensor.dtype) or "unknown")
        for tensor in map(network.get_input, range(network.num_inputs))
    }


def has_qdq(network: trt.INetworkDefinition) -> bool:
    """Whether the network has a Q or DQ layer.

    Source: trtexec asks the same, v8.6.1:samples/common/sampleEngines.cpp:989-1001.
    """
    return any(layer.type.name in ("QUANTIZE", "DEQUANTIZE") for layer in _layers(network))


def set_batch(network: trt.INetworkDefinition, batch: int) -> None:
    """Make each dynamic first dimension ``batch``; ModelError for another dynamic one."""
    for tensor in map(network.get_input, range(network.num_inputs)):
        shape = shape_of(tensor.shape)
        if -1 in shape[1:]:
            problem = f"input {tensor.name!r} has shape {shape}: more than the batch is dynamic"
            raise ModelError(problem, "give build_engine shapes={input: (least, usual, greatest)}")
        if shape and shape[0] == -1:
            tensor.shape = trt.Dims([batch, *shape[1:]])


def mark_outputs(network: trt.INetworkDefinition, names: tuple[str, ...]) -> None:
    """Mark further tensors as outputs of the network; BuildError for a name that it does not have.

    A marked tensor must exist as it is, so fusions across it are lost: this builds another engine
    (T#2571).
    """
    tensors = network_tensors(network)
    for name in names:
        if name not in tensors:
            raise BuildError(f"no tensor {name!r} to mark as output", f"one of {_some(tensors)}")
        already: Any = tensors[name].is_network_output
        if not already:
            network.mark_output(tensors[name])


def _some(names: Mapping[str, Any]) -> str:
    listed = [name for name in names if name]
    return ", ".join(listed[:12]) + (f", … ({len(listed)} in all)" if len(listed) > 12 else "")


def _is_float(layer: trt.ILayer) -> bool:
    """Whether a precision may be set: not for integers, booleans and shapes, as trtexec's "*"."""
    if dtype_name(layer.precision) in ("int32", "int64", "bool"):
        return False
    reads, makes = _edges(layer)
    edges = [*reads[:1], *makes[:1]]
    if any(tensor.is_shape_tensor for tensor in edges):
        return False
    return not edges or any(
        dtype_name(tensor.dtype) not in ("int32", "int64", "bool") for tensor in edges
    )


def set_precisions(
    network: trt.INetworkDefinition, precisions: Mapping[str, str], output_types: Mapping[str, str]
) -> None:
    """Ask layers for a precision and for types of their outputs.

    Args:
        network: an INetworkDefinition of TensorRT 8.x or 10.x.
        precisions: ONNX node or layer name, or "*" for every other layer -> dtype name.
        output_types: likewise, for all outputs of a layer.

    Raises BuildError for a name or dtype that is not there, or where TensorRT has no layer
    precisions (11.x).
    Source: setLayerPrecisions and setLayerOutputTypes,
    v8.6.1:samples/common/sampleEngines.cpp:507-632.
    """
    if not precisions and not output_types:
        return
    if not hasattr(trt.ILayer, "precision"):
        raise lacks("layer precisions: 11.0 removed them", "put Q/DQ or Cast into the model")
    layers = [  # each with its names: its own, and the ONNX nodes of its metadata
        (layer, [layer.name, *nodes_in_metadata(getattr(layer, "metadata", "") or "")])
        for layer in _layers(network)
    ]
    known = dict.fromkeys(chain.from_iterable(names for _, names in layers))
    for wanted in (precisions, output_types):
        types = {name: _dtype(name, dtype) for name, dtype in wanted.items()}
        for name in wanted:
            if name != "*" and name not in known:
                problem = f"no layer or ONNX node {name!r} in the network"
                raise BuildError(problem, f"one of {_some(known)}")
        for layer, names in layers:
            asked = [dtype for name, dtype in types.items() if name in names]
            if not asked and not ("*" in types and _is_float(layer)):
                continue
            dtype = asked[-1] if asked else types["*"]
            if wanted is precisions:
                layer.precision = dtype
            for index in range(layer.num_outputs) if wanted is output_types else ():
                layer.set_output_type(index, dtype)


def _dtype(name: str, dtype: str) -> Any:
    try:
        return dtype_of(dtype)
    except KeyError:
        problem = f"layer {name!r}: this TensorRT has no data type {dtype!r}"
        raise BuildError(problem, f"one of {', '.join(DTYPES)}") from None


# Dynamic ranges


def _set(tensor: trt.ITensor, amax: float) -> None:
    if not hasattr(tensor, "set_dynamic_range"):
        raise lacks("dynamic ranges: 11.0 removed them")
    if not tensor.set_dynamic_range(-amax, amax):
        raise BuildError(
            f"TensorRT refused the range ±{amax:g} for tensor {tensor.name!r}", "give a finite amax"
        )


def _range(tensor: Any, source: str, note: str = "") -> TensorRange:
    """The range that a tensor has now; unknown where none is set, or reads back as NaN (T#2958)."""
    bounds = getattr(tensor, "dynamic_range", None)  # gone in 11.0
    if bounds is None or any(math.isnan(bound) for bound in bounds):
        return TensorRange(tensor.name, None, None, "none", note)
    amax = float(max(abs(bound) for bound in bounds))
    return TensorRange(tensor.name, amax, float(scale_from_amax(amax)), source, note)


def _report(ranges: list[TensorRange], unmatched: Iterable[str] = ()) -> RangeReport:
    without = tuple(tensor.name for tensor in ranges if tensor.amax is None)
    return RangeReport(tuple(ranges), tuple(unmatched), without)


def placeholder_ranges(
    network: trt.INetworkDefinition | str | os.PathLike[str],
) -> RangeReport:
    """Set the ranges that bare ``trtexec --int8`` sets, whatever the data: ±2 and ±4.

    Who meets a tensor first gives it its range: a layer gives what it reads ±2 (a Concat: ±4) and
    what it makes ±4 (a Pooling: ±2). So almost every tensor gets ±4, and network inputs and
    constants get ±2. What has a range keeps it.
    trtlearn.int8.groups.placeholder_amax is the rule in eight lines, for an ONNX file.

    Args:
        network: an INetworkDefinition of TensorRT 8.x or 10.x; or an ONNX file or a Network: then
            nothing is set, and the report says what the rule gives the file's tensors.

    Returns:
        each tensor's amax and scale, and which layer met it first.

    Raises BuildError where TensorRT refuses a range or has none to set (11.x).

    Example::

        tl.placeholder_ranges("model.onnx")["conv1"].amax
        tl.placeholder_ranges(parsed_network("model.onnx").network)  # with TensorRT

    Source: setTensorDynamicRange, v8.6.1:samples/common/sampleEngines.cpp:459-505 (public,
    Apache-2.0); the same rule from 8.4.1 (line 384) to 10.16 (line 420).
    """
    if isinstance(network, (str, os.PathLike)):
        facts = read_model(os.fspath(network))
        rule = placeholder_amax(facts.nodes)
        known = ((name, rule[name]) for name in facts.tensors if name in rule)
        return _report(
            [TensorRange(n, amax, float(scale_from_amax(amax)), "placeholder") for n, amax in known]
        )
    _check_network(network)
    layers = []
    notes: dict[str, str] = {}
    for layer in _layers(network):
        kind = layer.type.name
        reads, makes = (tuple(tensor.name for tensor in edges) for edges in _edges(layer))
        layers.append(OnnxNode(layer.name, OPERATORS.get(kind, kind), reads, makes))
        for name in reads:
            notes.setdefault(name, f"first met as input of {layer.name}")
        for name in makes:
            notes.setdefault(name, f"first met as output of {layer.name}")
    amax = placeholder_amax(layers)
    ranges = []
    for name, tensor in network_tensors(network).items():
        if name in amax and getattr(tensor, "dynamic_range", None) is None:
            _set(tensor, amax[name])
            ranges.append(_range(tensor, "placeholder", notes[name]))
        else:
            ranges.append(_range(tensor, "user", "had a range"))
    return _report(ranges)


def set_ranges(
    network: trt.INetworkDefinition, ranges: Mapping[str, float] | CalibrationCache
) -> RangeReport:
    """Set the range ±amax of each tensor that ``ranges`` names; report what every tensor has now.

    Args:
        network: an INetworkDefinition of TensorRT 8.x or 10.x.
        ranges: tensor name -> amax (finite, above 0, in the tensor's units), or a calibration
        cache,
            whose amax is 127 · scale. An empty dict sets nothing and reads what is set.

    Returns:
        each tensor's amax and scale (amax / 127), the names in ``ranges`` that the network lacks
        (``unmatched``), and the tensors that have no range (``without_range``).

    Raises DataError for an amax that is NaN, infinite or negative, or 0 in a dict, before anything
    is set; BuildError where TensorRT refuses a range or has none to set (11.x).

    Example (with TensorRT)::

        network = parsed_network("model.onnx").network
        set_ranges(network, {"image": 1.0, "stem_relu": 3.2}).without_range

    Source: ITensor::setDynamicRange, v8.6.1:include/NvInfer.h. After a calibration TensorRT does
    not write its scales back here (T#2958): read the cache or the log.
    """
    if isinstance(network, (str, os.PathLike)):
        raise DataError(
            "ranges are set on TensorRT's network, not on an ONNX file",
            "tl.build_engine(model, ranges={...}), or tl.set_ranges(parsed_network(model).network, "
            "...) with trtlearn.live.network",
        )
    _check_network(network)
    from_cache = isinstance(ranges, CalibrationCache)
    source = "cache" if from_cache else "user"
    if isinstance(ranges, CalibrationCache):
        wanted = {entry.name: float(entry.amax) for entry in ranges.scales if not entry.problem}
    else:
        wanted = {str(name): float(amax) for name, amax in ranges.items()}
    for name, amax in wanted.items():
        if not math.isfinite(amax) or amax < 0 or (amax == 0 and not from_cache):
            problem = f"the range of tensor {name!r} is ±{amax}, expected a finite amax above 0"
            raise DataError(problem)
    tensors = network_tensors(network)
    for name in tensors.keys() & wanted.keys():
        if wanted[name] > 0:
            _set(tensors[name], wanted[name])
    report = [
        _range(tensor, source) if name in wanted else _range(tensor, "user", "not named")
        for name, tensor in tensors.items()
    ]
    return _report(report, (name for name in wanted if name not in tensors))


def calibrated_ranges(
    cache: CalibrationCache | None, logged: Iterable[TensorRange], messages: Iterable[Message] = ()
) -> RangeReport:
    """What a calibration gave each tensor: the cache's exact scale, else the log's rounded one.

    A tensor that the log gives a scale and the cache does not has it from another tensor: its
    source is "tied". Those that TensorRT's "missing scale" warnings name are listed in
    ``without_range``.
    """
    ranges: dict[str, TensorRange] = {}
    for entry in () if cache is None else cache.scales:
        if entry.problem:
            why = f"the scale that was chosen: {entry.problem}"
            ranges[entry.name] = TensorRange(entry.name, None, None, "calibrated", why)
        else:
            ranges[entry.name] = TensorRange(entry.name, entry.amax, entry.scale, "calibrated")
    note = "not in the cache: it shares another tensor's scale (six digits, from the log)"
    exact = set(ranges)
    for tensor in logged:
        if tensor.name not in exact:
            ranges[tensor.name] = TensorRange(tensor.name, tensor.amax, tensor.scale, "tied", note)
    missing: list[str] = []
    for message in messages:
        missing += message.names if message.code == "missing-scale" else ()
    for name in missing:
        ranges.setdefault(name, TensorRange(name, None, None, "none"))
    return RangeReport(tuple(ranges.values()), (), tuple(missing))
