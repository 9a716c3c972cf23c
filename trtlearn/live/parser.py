"""ONNX to a TensorRT network: parsed, batch fixed, outputs marked, layers' precisions set."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

from ..dtypes import DTYPES
from ..engine.layers import nodes_in_metadata
from ..engine.log import split_line
from ..errors import BuildError, LiveUnavailable, ModelError
from ..files import read_bytes
from .ranges import network_tensors
from .trt import Log, dtype_name, dtype_of, logger, shape_of, trt

__all__ = [
    "Parsed",
    "has_qdq",
    "mark_outputs",
    "network_inputs",
    "parsed_network",
    "set_batch",
    "set_precisions",
]


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
        raise LiveUnavailable(
            f"TensorRT cannot start: {said[-1] if said else 'no reason given'}",
            "run `trtlearn doctor`",
        ) from None


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


def network_inputs(network: trt.INetworkDefinition) -> dict[str, tuple[tuple[int, ...], str]]:
    """The network's inputs: name -> (shape, -1 where dynamic; dtype name)."""
    inputs = (network.get_input(i) for i in range(network.num_inputs))
    return {
        tensor.name: (shape_of(tensor.shape), dtype_name(tensor.dtype) or "unknown")
        for tensor in inputs
    }


def has_qdq(network: trt.INetworkDefinition) -> bool:
    """Whether the network has a Q or DQ layer.

    Source: trtexec asks the same, v8.6.1:samples/common/sampleEngines.cpp:989-1001.
    """
    kinds = (network.get_layer(i).type.name for i in range(network.num_layers))
    return any(kind in ("QUANTIZE", "DEQUANTIZE") for kind in kinds)


def set_batch(network: trt.INetworkDefinition, batch: int) -> None:
    """Make each dynamic first dimension ``batch``; ModelError for another dynamic one."""
    for index in range(network.num_inputs):
        tensor = network.get_input(index)
        shape = shape_of(tensor.shape)
        if -1 in shape[1:]:
            raise ModelError(
                f"input {tensor.name!r} has shape {shape}: more than the batch is dynamic",
                "give build_engine shapes={input: (least, usual, greatest)}",
            )
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


def _layers(network: trt.INetworkDefinition) -> list[tuple[trt.ILayer, list[str]]]:
    """Each layer with its names: its own, and the ONNX nodes of its metadata."""
    layers = map(network.get_layer, range(network.num_layers))
    metadata = ((layer, getattr(layer, "metadata", "") or "") for layer in layers)
    return [(layer, [layer.name, *nodes_in_metadata(text)]) for layer, text in metadata]


def _is_float(layer: trt.ILayer) -> bool:
    """Whether a precision may be set: not for integers, booleans and shapes, as trtexec's "*"."""
    if dtype_name(layer.precision) in ("int32", "int64", "bool"):
        return False
    edges = [layer.get_input(0)] if layer.num_inputs else []
    edges += [layer.get_output(0)] if layer.num_outputs else []
    edges = [tensor for tensor in edges if tensor is not None]
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
        raise BuildError(
            "this TensorRT has no layer precisions: 11.0 removed them",
            "put Q/DQ or Cast into the model",
        )
    layers = _layers(network)
    known = dict.fromkeys(chain.from_iterable(names for _, names in layers))
    for wanted in (precisions, output_types):
        types = {name: _dtype(name, dtype) for name, dtype in wanted.items()}
        for name in wanted:
            if name != "*" and name not in known:
                raise BuildError(
                    f"no layer or ONNX node {name!r} in the network", f"one of {_some(known)}"
                )
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
        raise BuildError(
            f"layer {name!r}: this TensorRT has no data type {dtype!r}",
            f"one of {', '.join(DTYPES)}",
        ) from None
