"""An ONNX model made ready for Q/DQ: what TensorRT folds at build time is folded here.

A copy is made in which every node has a name, the opset is at least 13 (per-channel QuantizeLinear
begins there), no initializer is also a network input, weights that reach a node through Identity,
Transpose and the like stand there themselves, and a BatchNormalization behind a convolution that
nothing else reads is part of that convolution. So Q/DQ pairs meet weights.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

import numpy as np

from ..errors import ModelError, first_line
from .data import Array
from .graph import (
    Graph,
    all_graphs,
    all_nodes,
    attributes,
    constants,
    evaluate,
    opset,
    read_names,
    tensor_array,
)
from .operators import FOLDED, ONNX_DOMAINS, WEIGHTED

if TYPE_CHECKING:
    import onnx

__all__ = ["copied", "folded_batch_norms", "named", "prepared"]

NOT_FOLDED = ("Bernoulli", "Dropout", "Multinomial", "RandomNormalLike", "RandomUniformLike")
"""In front of weights every operator but these is computed here, where its inputs are constants."""
SHAPE_INPUT = {"ConstantOfShape": 0, "Expand": 1}
"""Operators one input of which is the shape of their output."""
FOLD_LIMIT = 1 << 28  # elements


def prepared(model: onnx.ModelProto, copy: bool = True) -> onnx.ModelProto:
    """A copy of ``model``, ready for Q/DQ, as the head of this module says; without ``copy`` the
    model itself may be changed.

    ModelError where it cannot be converted.

    >>> from trtlearn.model.course_data import model_path
    >>> from trtlearn.model.read import load_proto
    >>> prepared(load_proto(model_path("resnet"))).graph.node[0].name
    'stem'
    """
    result = named(at_least_opset_13(model), copy)
    result.ir_version = max(result.ir_version, 7)
    stored = {tensor.name for tensor in result.graph.initializer}
    inputs = [value for value in result.graph.input if value.name not in stored]
    _replace(result.graph.input, inputs)
    _fold_constants(result)
    _fold_batch_norms(result)
    return result


def copied(model: onnx.ModelProto) -> onnx.ModelProto:
    """A copy, its weights included."""
    copy = type(model)()
    copy.CopyFrom(model)
    return copy


def _replace(field: Any, items: list[Any]) -> None:
    """Put ``items`` in place of what a repeated field of a protobuf message holds."""
    del field[:]
    field.extend(items)


def named(model: onnx.ModelProto, copy: bool = True) -> onnx.ModelProto:
    """A copy with unique node names: an unnamed or repeated one takes its first output's.

    Without ``copy`` the model itself gets them.
    """
    model = copied(model) if copy else model
    seen: set[str] = set()
    for node in model.graph.node:
        if not node.name or node.name in seen:
            base = next((name for name in node.output if name), node.op_type)
            number, node.name = 1, base
            while node.name in seen:
                number += 1
                node.name = f"{base}_{number}"
        seen.add(node.name)
    return model


def at_least_opset_13(model: onnx.ModelProto) -> onnx.ModelProto:
    """``model``, converted to opset 13 if it is older; ModelError where onnx cannot do that.

    Tensors keep their names: the converter renames what a replaced node makes, unless it is an
    output of the network, and so all are outputs while it works.
    """
    from onnx import helper, version_converter

    version = opset(model)
    if version >= 13:
        return model
    shown = copied(model)
    outputs = {value.name for value in model.graph.output}
    inside: set[str] = set()
    for node in model.graph.node:
        inside.update(name for name in node.output if name and name not in outputs)
    shown.graph.output.extend(map(helper.make_empty_tensor_value_info, sorted(inside)))
    plugins = _hide_plugins(shown)
    try:
        converted: onnx.ModelProto = version_converter.convert_version(shown, 13)
    except Exception as problem:  # a RuntimeError or ValueError of onnx's C++ code, by version
        reason = first_line(problem)
        raise ModelError(
            f"the model is opset {version}, and onnx cannot convert it to 13: {reason:.200}",
            "export it at opset 13",
        ) from None
    graph = converted.graph
    for node in all_nodes(graph.node) if plugins else ():
        node.domain = "" if node.domain == _PLUGINS else node.domain
    own = [item for item in converted.opset_import if item.domain != _PLUGINS]
    _replace(converted.opset_import, own)
    _replace(graph.output, [value for value in graph.output if value.name in outputs])
    if version < 11:
        _set_resize_attributes(converted)
    return converted


_PLUGINS = "trtlearn.plugins"
"""Where nodes that ONNX does not know stand while its converter works, which knows none of them."""


def _hide_plugins(model: onnx.ModelProto) -> bool:
    """Move nodes of ONNX's domain that ONNX does not know, TensorRT's plugins, to one of their own.

    Returns whether there were any.
    """
    from onnx import defs, helper

    known = {schema.name for schema in defs.get_all_schemas() if schema.domain in ONNX_DOMAINS}
    unknown = [
        node
        for node in all_nodes(model.graph.node)
        if node.domain in ONNX_DOMAINS and node.op_type not in known
    ]
    for node in unknown:
        node.domain = _PLUGINS
    if unknown:
        model.opset_import.append(helper.make_opsetid(_PLUGINS, 1))
    return bool(unknown)


def _set_resize_attributes(model: onnx.ModelProto) -> None:
    """Say of each Resize what Upsample and Resize-10 did, which the version converter drops."""
    from onnx import helper

    before = {"coordinate_transformation_mode": "asymmetric", "nearest_mode": "floor"}
    for graph in all_graphs(model):
        for node in graph.node:
            if node.op_type == "Resize" and attributes(node).keys().isdisjoint(before):
                node.attribute.extend(helper.make_attribute(*item) for item in before.items())


def folded_batch_norms(model: onnx.ModelProto) -> onnx.ModelProto:
    """A copy with each BatchNormalization that alone reads a convolution folded into it.

    The convolution keeps its name; its output takes the BatchNormalization's.
    """
    copy = copied(model)
    _fold_batch_norms(copy)
    return copy


def _fold_constants(model: onnx.ModelProto) -> None:
    """Compute nodes of constants alone: FOLDED ones, and whatever weights come from."""
    from onnx import numpy_helper

    known, behind_weights = constants(model), _behind_weights(model)
    outputs = {value.name for value in model.graph.output}
    remaining = []
    for node in model.graph.node:
        inputs = [name for name in node.input if name]
        wanted = node.op_type in FOLDED or (
            node.op_type not in NOT_FOLDED and behind_weights.intersection(node.output)
        )
        constant = inputs and all(name in known for name in inputs)
        values: dict[str, Array] = {}
        if wanted and constant and node.domain in ONNX_DOMAINS and not outputs & {*node.output}:
            values = _computed(model, node, {name: known[name] for name in inputs})
        for name, value in values.items():
            known[name] = numpy_helper.from_array(value, name)
            model.graph.initializer.append(known[name])
        if not values:
            remaining.append(node)
    _replace(model.graph.node, remaining)


def _behind_weights(model: onnx.ModelProto) -> set[str]:
    """Every tensor that weights, or what may be weights, are computed from."""
    behind: set[str] = set()
    for node in reversed(model.graph.node):
        if behind.intersection(node.output):
            behind.update(node.input)
        if node.op_type == "BatchNormalization":
            behind.update(node.input[1:5])
        elif node.op_type in WEIGHTED:
            places = WEIGHTED[node.op_type].constants
            behind.update(node.input[places[0] : places[-1] + 1])
    return behind


def _computed(
    model: onnx.ModelProto, node: onnx.NodeProto, stored: dict[str, onnx.TensorProto]
) -> dict[str, Array]:
    """A node's outputs by onnx's evaluator at the model's opset; {} where too large or unable."""
    try:
        feed = {name: tensor_array(tensor) for name, tensor in stored.items()}
        size = sum(array.size for array in feed.values())
        if node.op_type in SHAPE_INPUT:
            shape = feed[node.input[SHAPE_INPUT[node.op_type]]]
            size += int(np.prod(shape, dtype=np.float64))
        if size > FOLD_LIMIT:
            return {}
        outputs = [name for name in node.output if name]
        return dict(zip(outputs, evaluate(node, feed, model), strict=True))
    except Exception:  # whatever the evaluator cannot do stays in the graph as it is
        return {}


def _fold_batch_norms(model: onnx.ModelProto) -> None:
    """Put each BatchNormalization into the convolution that it alone reads, where it can be."""
    graph, reads = Graph(model), Counter(read_names(model))
    for norm in [node for node in model.graph.node if node.op_type == "BatchNormalization"]:
        conv = graph.producer.get(norm.input[0])
        if conv is not None and reads[norm.input[0]] == 1 and _folds(conv, norm, graph.constants):
            _fold(model, conv, norm, graph.constants)


def _folds(conv: onnx.NodeProto, norm: onnx.NodeProto, known: dict[str, onnx.TensorProto]) -> bool:
    """Whether a BatchNormalization in inference, of FP32 constants, stands behind a convolution."""
    if conv.op_type not in ("Conv", "ConvTranspose"):
        return False
    if conv.op_type == "ConvTranspose" and attributes(conv).get("group", 1) > 1:
        return False
    if attributes(norm).get("training_mode") or any(norm.output[1:]):
        return False
    needed = [*norm.input[1:5], *conv.input[1:3]]
    return all(name in known and known[name].data_type == 1 for name in needed)


def _fold(
    model: onnx.ModelProto,
    conv: onnx.NodeProto,
    norm: onnx.NodeProto,
    known: dict[str, onnx.TensorProto],
) -> None:
    """y = gain * (conv(x) - mean) / sqrt(variance + epsilon) + offset, as one convolution."""
    from onnx import numpy_helper

    def array(name: str) -> Array:
        return tensor_array(known[name]).astype(np.float64)

    gain, offset, mean, variance = map(array, norm.input[1:5])
    factor = gain / np.sqrt(variance + attributes(norm).get("epsilon", 1e-5))
    weights = array(conv.input[1])
    shape = [1] * weights.ndim
    shape[WEIGHTED[conv.op_type].channel_axis] = -1
    bias = array(conv.input[2]) if len(conv.input) > 2 and conv.input[2] else np.zeros_like(mean)
    folded = {"weight": weights * factor.reshape(shape), "bias": (bias - mean) * factor + offset}
    names = []
    for what, value in folded.items():
        name = f"{conv.name}_{norm.name}_{what}"
        while name in known:
            name += "_"
        known[name] = numpy_helper.from_array(value.astype(np.float32), name)
        model.graph.initializer.append(known[name])
        names.append(name)
    _replace(conv.input, [conv.input[0], *names])
    conv.output[0] = norm.output[0]
    model.graph.node.remove(norm)
