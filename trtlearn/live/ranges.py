"""Dynamic ranges set by hand: trtexec's placeholder rule, a dict of your own, or a calibration cache.

A range [-amax, amax] gives the INT8 scale amax / 127. Works on an INetworkDefinition of TensorRT 8.x or 10.x;
11.0 removed dynamic ranges in favour of Q/DQ layers.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import numpy as np

from ..calibration.cache import CalibrationCache
from ..engine.records import Message, RangeReport, TensorRange
from ..errors import BuildError, DataError
from ..model.describe import OnnxNode
from .trt import trt

__all__ = [
    "calibrated_ranges",
    "network_tensors",
    "placeholder_amax",
    "placeholder_ranges",
    "read_ranges",
    "set_ranges",
]


def network_tensors(network: trt.INetworkDefinition) -> dict[str, trt.ITensor]:
    """Every tensor of the network by name: its inputs, then layer by layer what each reads and writes."""
    found = {
        tensor.name: tensor for tensor in (network.get_input(i) for i in range(network.num_inputs))
    }
    for _layer, _edge, tensor in _edges(network):
        found.setdefault(tensor.name, tensor)
    return found


def _edges(network: trt.INetworkDefinition) -> Iterator[tuple[trt.ILayer, str, trt.ITensor]]:
    """(layer, "in" or "out", tensor) in the network's order, inputs of a layer before its outputs."""
    for index in range(network.num_layers):
        layer = network.get_layer(index)
        inputs = (layer.get_input(i) for i in range(layer.num_inputs))
        outputs = (layer.get_output(i) for i in range(layer.num_outputs))
        yield from ((layer, "in", tensor) for tensor in inputs if tensor is not None)
        yield from ((layer, "out", tensor) for tensor in outputs if tensor is not None)


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


def _amax(tensor: Any) -> float | None:
    """The larger bound of the range that is set, None where none is (or where it reads back as NaN, T#2958)."""
    bounds = getattr(tensor, "dynamic_range", None)  # gone in 11.0
    if bounds is None or any(math.isnan(bound) for bound in bounds):
        return None
    return float(max(abs(bound) for bound in bounds))


def _entry(tensor: Any, source: str, note: str = "") -> TensorRange:
    amax = _amax(tensor)
    scale = None if amax is None else float(np.float32(amax) / np.float32(127))
    return TensorRange(tensor.name, amax, scale, source if amax is not None else "none", note)


def placeholder_amax(
    nodes: Iterable[OnnxNode], in_range: float = 2.0, out_range: float = 4.0
) -> dict[str, float]:
    """The same rule as :func:`placeholder_ranges` on the nodes of an ONNX file: tensor name -> amax.

    >>> conv, concat = OnnxNode("", "Conv", ("x",), ("y",)), OnnxNode("", "Concat", ("y", "z"), ("c",))
    >>> placeholder_amax([conv, concat])
    {'x': 2.0, 'y': 4.0, 'z': 4.0, 'c': 4.0}
    """
    ranges: dict[str, float] = {}
    for node in nodes:
        for name in node.inputs:
            ranges.setdefault(name, out_range if node.op == "Concat" else in_range)
        pooled = node.op in ("MaxPool", "AveragePool")
        for name in node.outputs:
            ranges.setdefault(name, in_range if pooled else out_range)
    return ranges


def placeholder_ranges(
    network: trt.INetworkDefinition, in_range: float = 2.0, out_range: float = 4.0
) -> RangeReport:
    """Set the ranges that bare ``trtexec --int8`` sets, whatever the data: ±2 and ±4.

    Layer by layer in the network's order: each input without a range gets ±in_range (±out_range for the inputs
    of a Concat), then each output without one ±out_range (±in_range for the outputs of a Pooling). A tensor
    between two layers is the first one's output, so it gets ±4, and only network inputs and constants read
    first as an input get ±2. Neither INT32 tensors nor constants are excepted. What has a range keeps it.

    Args:
        network: an INetworkDefinition of TensorRT 8.x or 10.x.
        in_range, out_range: the two numbers, in the units of the tensors.

    Raises BuildError where TensorRT refuses a range or has none to set (11.x).

    Example (with TensorRT)::

        network = parsed_network("model.onnx").network
        print(placeholder_ranges(network))

    Source: setTensorDynamicRange, v8.6.1:samples/common/sampleEngines.cpp:459-505 (public, Apache-2.0); the
    same rule from 8.4.1 (line 384) to 10.16 (line 420).
    """
    sources: dict[str, tuple[str, str]] = {}
    for layer, edge, tensor in _edges(network):
        if getattr(tensor, "dynamic_range", None) is not None:
            continue
        kind = layer.type.name
        if edge == "in":
            amax = out_range if kind == "CONCATENATION" else in_range
        else:
            amax = in_range if kind == "POOLING" else out_range
        _set(tensor, amax)
        sources[tensor.name] = ("placeholder", f"first met as {edge}put of {layer.name}")
    tensors = network_tensors(network)
    report = tuple(
        _entry(tensor, *sources.get(name, ("user", "had a range")))
        for name, tensor in tensors.items()
    )
    return RangeReport(report, (), tuple(entry.name for entry in report if entry.amax is None))


def _wanted(ranges: Mapping[str, float] | CalibrationCache) -> tuple[dict[str, float], str]:
    if isinstance(ranges, CalibrationCache):
        return {entry.name: float(entry.amax) for entry in ranges.scales}, "cache"
    return {str(name): float(amax) for name, amax in ranges.items()}, "user"


def set_ranges(
    network: trt.INetworkDefinition, ranges: Mapping[str, float] | CalibrationCache
) -> RangeReport:
    """Set the range ±amax of each tensor that ``ranges`` names, and say what was missed.

    Args:
        network: an INetworkDefinition of TensorRT 8.x or 10.x.
        ranges: tensor name -> amax (finite, above 0), or a calibration cache, whose amax is 127 · scale.

    Raises DataError for an amax that is NaN, infinite or negative, or 0 in a dict, before anything is set.

    Example (with TensorRT)::

        set_ranges(network, {"image": 1.0, "stem_relu": 3.2}).without_range
    """
    wanted, source = _wanted(ranges)
    for name, amax in wanted.items():
        if not math.isfinite(amax) or amax < 0 or (amax == 0 and source == "user"):
            raise DataError(
                f"the range of tensor {name!r} is ±{amax}, expected a finite amax above 0"
            )
    tensors = network_tensors(network)
    for name, amax in wanted.items():
        if name in tensors and amax > 0:
            _set(tensors[name], amax)
    report = tuple(
        _entry(tensor, source if name in wanted else "user", "" if name in wanted else "not named")
        for name, tensor in tensors.items()
    )
    unmatched = tuple(name for name in wanted if name not in tensors)
    return RangeReport(
        report, unmatched, tuple(entry.name for entry in report if entry.amax is None)
    )


def read_ranges(network: trt.INetworkDefinition) -> RangeReport:
    """The ranges that a network's tensors have now: None for those that have none.

    After a calibration TensorRT does not write its scales back here (T#2958): read the cache or the log.
    """
    report = tuple(_entry(tensor, "user") for tensor in network_tensors(network).values())
    return RangeReport(report, (), tuple(entry.name for entry in report if entry.amax is None))


def calibrated_ranges(
    cache: CalibrationCache | None, logged: Iterable[TensorRange], messages: Iterable[Message] = ()
) -> RangeReport:
    """What a calibration gave each tensor: the cache's exact scale, else the one that the log prints.

    A tensor that the log gives a scale and the cache does not has it from another tensor: its source is "tied".
    Those that TensorRT's "missing scale" warnings name are listed in ``without_range``.
    """
    exact = (
        {}
        if cache is None
        else {e.name: TensorRange(e.name, e.amax, e.scale, "calibrated") for e in cache.scales}
    )
    note = "not in the cache: it shares another tensor's scale (six digits, from the log)"
    tied = {
        t.name: TensorRange(t.name, t.amax, t.scale, "tied", note)
        for t in logged
        if t.name not in exact
    }
    missing = [
        name for message in messages if message.code == "missing-scale" for name in message.names
    ]
    lost = {
        name: TensorRange(name, None, None, "none") for name in missing if name not in exact | tied
    }
    return RangeReport(tuple((exact | tied | lost).values()), (), tuple(missing))
