"""Dynamic ranges set by hand: trtexec's placeholder rule, your own dict, or a calibration cache.

A range [-amax, amax] gives the INT8 scale amax / 127. Works on an INetworkDefinition of TensorRT
8.x or 10.x; 11.0 removed dynamic ranges in favour of Q/DQ layers.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterable, Mapping
from typing import Any

from ..calibration.cache import CalibrationCache
from ..engine.records import Message, RangeReport, TensorRange
from ..errors import BuildError, DataError
from ..int8.placeholder import placeholder_amax
from ..int8.quant import scale_from_amax
from ..model.graph import OnnxNode
from ..model.read import read_model
from .trt import trt

__all__ = ["calibrated_ranges", "network_tensors", "placeholder_ranges", "set_ranges"]

OPERATORS = {"CONCATENATION": "Concat", "POOLING": "MaxPool"}
"""TensorRT's kinds of layers that the placeholder rule tells apart -> ONNX's name of the like."""
Edges = list[tuple[Any, list[Any], list[Any]]]
"""Each layer with the tensors that it reads and those that it makes."""


def _edges(network: trt.INetworkDefinition) -> Edges:
    edges: Edges = []
    for index in range(network.num_layers):
        layer = network.get_layer(index)
        inputs = [layer.get_input(i) for i in range(layer.num_inputs)]
        outputs = [layer.get_output(i) for i in range(layer.num_outputs)]
        edges.append(
            (layer, [t for t in inputs if t is not None], [t for t in outputs if t is not None])
        )
    return edges


def network_tensors(network: trt.INetworkDefinition) -> dict[str, trt.ITensor]:
    """Every tensor of the network by name: its inputs, then what each layer reads and makes."""
    tensors = [network.get_input(index) for index in range(network.num_inputs)]
    for _layer, inputs, outputs in _edges(network):
        tensors += [*inputs, *outputs]
    by_name: dict[str, trt.ITensor] = {}
    for tensor in tensors:
        by_name.setdefault(tensor.name, tensor)
    return by_name


def _set(tensor: trt.ITensor, amax: float) -> None:
    if not hasattr(tensor, "set_dynamic_range"):
        raise BuildError(
            "this TensorRT has no dynamic ranges: 11.0 removed them",
            "put Q/DQ layers into the model",
        )
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
    trtlearn.int8.placeholder.placeholder_amax is the rule in eight lines, for an ONNX file.

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
    layers = []
    notes: dict[str, str] = {}
    for layer, inputs, outputs in _edges(network):
        kind = layer.type.name
        reads, makes = tuple(t.name for t in inputs), tuple(t.name for t in outputs)
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
            "...) with trtlearn.live.parser",
        )
    from_cache = isinstance(ranges, CalibrationCache)
    source = "cache" if from_cache else "user"
    if isinstance(ranges, CalibrationCache):
        wanted = {entry.name: float(entry.amax) for entry in ranges.scales if not entry.problem}
    else:
        wanted = {str(name): float(amax) for name, amax in ranges.items()}
    for name, amax in wanted.items():
        if not math.isfinite(amax) or amax < 0 or (amax == 0 and not from_cache):
            raise DataError(
                f"the range of tensor {name!r} is ±{amax}, expected a finite amax above 0"
            )
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
