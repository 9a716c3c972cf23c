"""An ONNX model made ready for Q/DQ: what TensorRT folds at build time is folded here, so that pairs meet weights.

A copy is made in which every node has a name, the opset is at least 13 (per-channel QuantizeLinear begins there), no
initializer is also a network input, weights that reach a node through Identity, Transpose and the like stand there
themselves, and a BatchNormalization behind a convolution that nobody else reads is part of that convolution.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from .errors import ModelError
from .onnxproto import all_graphs

if TYPE_CHECKING:
    import onnx

__all__ = ["at_least_opset_13", "folded_batch_norms", "named", "prepared", "read_names"]

FOLDED = ("Identity", "Transpose", "Reshape", "Squeeze", "Unsqueeze", "Flatten", "Cast", "Slice", "Concat")
"""Operators computed here where all their inputs are constants."""
FOLD_LIMIT = 1 << 28  # elements


def prepared(model: onnx.ModelProto) -> onnx.ModelProto:
    """A copy of ``model``, ready for Q/DQ: see the head of this module. ModelError where it cannot be converted.

    >>> from trtlearn.models import model_path
    >>> from trtlearn.onnxfile import load_proto
    >>> prepared(load_proto(model_path("resnet"))).graph.node[0].name
    'stem'
    """
    result = named(at_least_opset_13(model))
    result.ir_version = max(result.ir_version, 7)
    stored = {tensor.name for tensor in result.graph.initializer}
    for value in [value for value in result.graph.input if value.name in stored]:
        result.graph.input.remove(value)
    _fold_constants(result)
    _fold_batch_norms(result)
    return result


def named(model: onnx.ModelProto) -> onnx.ModelProto:
    """A copy in which every node has a name of its own: an unnamed or repeated one takes its first output's name."""
    copy = type(model)()
    copy.CopyFrom(model)
    seen: set[str] = set()
    for node in copy.graph.node:
        if not node.name or node.name in seen:
            base = next((name for name in node.output if name), node.op_type)
            number, node.name = 1, base
            while node.name in seen:
                number += 1
                node.name = f"{base}_{number}"
        seen.add(node.name)
    return copy


def at_least_opset_13(model: onnx.ModelProto) -> onnx.ModelProto:
    """``model``, converted to opset 13 if it is older; ModelError where onnx cannot do that."""
    from onnx import version_converter

    opset = max((item.version for item in model.opset_import if item.domain in ("", "ai.onnx")), default=0)
    if opset >= 13:
        return model
    try:
        converted: onnx.ModelProto = version_converter.convert_version(model, 13)
    except Exception as problem:  # a RuntimeError or ValueError of onnx's C++ code, by version
        said = (str(problem).strip().splitlines() or [type(problem).__name__])[0]
        raise ModelError(
            f"the model is opset {opset}, and onnx cannot convert it to 13: {said:.200}", "export it at opset 13"
        ) from None
    return converted


def read_names(model: onnx.ModelProto) -> set[str]:
    """Every tensor that a node reads, in the graph or in a graph inside a node, or that is an output."""
    read = {name for graph in all_graphs(model) for node in graph.node for name in node.input}
    return read | {value.name for graph in all_graphs(model) for value in graph.output}


def _constants(model: onnx.ModelProto) -> dict[str, onnx.TensorProto]:
    """The graph's constants by name: initializers, and the tensors of Constant nodes."""
    found = {tensor.name: tensor for tensor in model.graph.initializer}
    for node in model.graph.node:
        if node.op_type == "Constant" and node.attribute and node.attribute[0].name == "value":
            found[node.output[0]] = node.attribute[0].t
    return found


def folded_batch_norms(model: onnx.ModelProto) -> onnx.ModelProto:
    """A copy in which each BatchNormalization behind a convolution that only it reads is part of that convolution.

    The convolution keeps its name; its output takes the BatchNormalization's.
    """
    copy = type(model)()
    copy.CopyFrom(model)
    _fold_batch_norms(copy)
    return copy


def _fold_constants(model: onnx.ModelProto) -> None:
    """Compute FOLDED nodes whose inputs are all constants, and store what they gave."""
    from onnx import numpy_helper
    from onnx.reference import ReferenceEvaluator

    known, gone = _constants(model), []
    outputs = {value.name for value in model.graph.output}
    for node in model.graph.node:
        inputs = [name for name in node.input if name]
        if node.op_type not in FOLDED or not inputs or node.domain not in ("", "ai.onnx"):
            continue
        if not all(name in known for name in inputs) or outputs & set(node.output):
            continue
        if sum(int(np.prod(known[name].dims)) for name in inputs) > FOLD_LIMIT:
            continue
        feed = {name: numpy_helper.to_array(known[name]) for name in inputs}
        try:
            values = ReferenceEvaluator(node).run(None, feed)
        except Exception:  # whatever onnx's own evaluator cannot do stays in the graph as it is
            continue
        for name, value in zip(node.output, values, strict=True):
            known[name] = numpy_helper.from_array(np.ascontiguousarray(value), name)
            model.graph.initializer.append(known[name])
        gone.append(node)
    for node in gone:
        model.graph.node.remove(node)


def _fold_batch_norms(model: onnx.ModelProto) -> None:
    """Put each BatchNormalization into the convolution in front of it, where only it reads that convolution."""
    constants, readers = _constants(model), _readers(model)
    makers = {name: node for node in model.graph.node for name in node.output}
    for norm in [node for node in model.graph.node if node.op_type == "BatchNormalization"]:
        conv = makers.get(norm.input[0])
        if conv is None or conv.op_type not in ("Conv", "ConvTranspose") or readers[norm.input[0]] != 1:
            continue
        needed = [*norm.input[1:5], *conv.input[1:3]]
        training = any(item.name == "training_mode" and item.i for item in norm.attribute)
        if training or len([name for name in norm.output if name]) > 1 or any(name not in constants for name in needed):
            continue
        if any(constants[name].data_type != 1 for name in needed):
            continue
        if conv.op_type == "ConvTranspose" and any(item.name == "group" and item.i > 1 for item in conv.attribute):
            continue
        _fold(model, conv, norm, constants)


def _fold(
    model: onnx.ModelProto, conv: onnx.NodeProto, norm: onnx.NodeProto, constants: dict[str, onnx.TensorProto]
) -> None:
    """y = gain * (conv(x) - mean) / sqrt(variance + epsilon) + offset, as one convolution."""
    from onnx import numpy_helper

    def array(name: str) -> np.ndarray[Any, Any]:
        return numpy_helper.to_array(constants[name]).astype(np.float64)

    gain, offset, mean, variance = (array(name) for name in norm.input[1:5])
    epsilon = next((item.f for item in norm.attribute if item.name == "epsilon"), 1e-5)
    factor = gain / np.sqrt(variance + epsilon)
    weights = array(conv.input[1])
    along = 0 if conv.op_type == "Conv" else 1
    shape = [1] * weights.ndim
    shape[along] = -1
    bias = array(conv.input[2]) if len(conv.input) > 2 and conv.input[2] else np.zeros_like(mean)
    made = {"weight": weights * factor.reshape(shape), "bias": (bias - mean) * factor + offset}
    names = []
    for what, value in made.items():
        name = f"{conv.name}_{norm.name}_{what}"
        while name in constants:
            name += "_"
        constants[name] = numpy_helper.from_array(value.astype(np.float32), name)
        model.graph.initializer.append(constants[name])
        names.append(name)
    source = conv.input[0]
    del conv.input[:]
    conv.input.extend([source, *names])
    conv.output[0] = norm.output[0]
    model.graph.node.remove(norm)


def _readers(model: onnx.ModelProto) -> dict[str, int]:
    """How often each tensor is read, an output counting as one reader."""
    count: dict[str, int] = {}
    for graph in all_graphs(model):
        for name in (*(name for node in graph.node for name in node.input), *(value.name for value in graph.output)):
            count[name] = count.get(name, 0) + 1
    return count
