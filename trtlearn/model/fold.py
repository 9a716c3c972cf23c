"""An ONNX model made ready for Q/DQ: what TensorRT folds at build time is folded here, so that pairs meet weights.

A copy is made in which every node has a name, the opset is at least 13 (per-channel QuantizeLinear begins there), no
initializer is also a network input, weights that reach a node through Identity, Transpose and the like stand there
themselves, and a BatchNormalization behind a convolution that nobody else reads is part of that convolution.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from ..errors import ModelError, first_line
from .read import all_graphs, constants, opset

if TYPE_CHECKING:
    import onnx

__all__ = ["at_least_opset_13", "folded_batch_norms", "named", "prepared", "read_names"]

FOLDED = (
    "Identity",
    "Transpose",
    "Reshape",
    "Squeeze",
    "Unsqueeze",
    "Flatten",
    "Cast",
    "Slice",
    "Concat",
)
"""Operators computed here where all their inputs are constants; in front of weights every other one is, too."""
NOT_FOLDED = ("Bernoulli", "Dropout", "Multinomial", "RandomNormalLike", "RandomUniformLike")
WEIGHTS_AT = {
    "Conv": (1, 2),
    "ConvTranspose": (1, 2),
    "Gemm": (0, 1),
    "MatMul": (0, 1),
    "BatchNormalization": (1, 2, 3, 4),
}
"""Operators with weights, and which of their inputs these may be."""
FOLD_LIMIT = 1 << 28  # elements


def prepared(model: onnx.ModelProto) -> onnx.ModelProto:
    """A copy of ``model``, ready for Q/DQ: see the head of this module. ModelError where it cannot be converted.

    >>> from trtlearn.model.course_data import model_path
    >>> from trtlearn.model.describe import load_proto
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
    """``model``, converted to opset 13 if it is older; ModelError where onnx cannot do that.

    Tensors keep their names: the converter renames what a replaced node makes, unless it is an output of the network,
    and so all are outputs while it works.
    """
    from onnx import helper, version_converter

    version = opset(model)
    if version >= 13:
        return model
    shown = type(model)()
    shown.CopyFrom(model)
    outputs = list(model.graph.output)
    own = {value.name for value in outputs}
    made = {name for node in model.graph.node for name in node.output if name}
    shown.graph.output.extend(
        helper.make_empty_tensor_value_info(name) for name in sorted(made - own)
    )
    try:
        converted: onnx.ModelProto = version_converter.convert_version(shown, 13)
    except Exception as problem:  # a RuntimeError or ValueError of onnx's C++ code, by version
        said = first_line(problem)
        raise ModelError(
            f"the model is opset {version}, and onnx cannot convert it to 13: {said:.200}",
            "export it at opset 13",
        ) from None
    kept = [value for value in converted.graph.output if value.name in own]
    del converted.graph.output[:]
    converted.graph.output.extend(kept)
    if version < 11:
        _resizes_as_before_11(converted)
    return converted


def _resizes_as_before_11(model: onnx.ModelProto) -> None:
    """Say of every Resize what Upsample and Resize-10 did, which the converter forgets: asymmetric, rounding down."""
    from onnx import helper

    for node in (
        node for graph in all_graphs(model) for node in graph.node if node.op_type == "Resize"
    ):
        if not any(item.name == "coordinate_transformation_mode" for item in node.attribute):
            before = {"coordinate_transformation_mode": "asymmetric", "nearest_mode": "floor"}
            node.attribute.extend(helper.make_attribute(*item) for item in before.items())


def read_names(model: onnx.ModelProto) -> set[str]:
    """Every tensor that a node reads, in the graph or in a graph inside a node, or that is an output."""
    read = {name for graph in all_graphs(model) for node in graph.node for name in node.input}
    return read | {value.name for graph in all_graphs(model) for value in graph.output}


def folded_batch_norms(model: onnx.ModelProto) -> onnx.ModelProto:
    """A copy in which each BatchNormalization behind a convolution that only it reads is part of that convolution.

    The convolution keeps its name; its output takes the BatchNormalization's.
    """
    copy = type(model)()
    copy.CopyFrom(model)
    _fold_batch_norms(copy)
    return copy


def _fold_constants(model: onnx.ModelProto) -> None:
    """Compute nodes whose inputs are all constants, FOLDED ones and what weights come from; store what they gave."""
    from onnx import numpy_helper

    known, gone, wanted = constants(model), [], _behind_weights(model)
    outputs = {value.name for value in model.graph.output}
    for node in model.graph.node:
        inputs = [name for name in node.input if name]
        folds = node.op_type in FOLDED or (
            node.op_type not in NOT_FOLDED and wanted.intersection(node.output)
        )
        if not folds or not inputs or node.domain not in ("", "ai.onnx"):
            continue
        if not all(name in known for name in inputs) or outputs & set(node.output):
            continue
        try:
            values = _computed(
                model, node, {name: numpy_helper.to_array(known[name]) for name in inputs}
            )
        except Exception:  # whatever onnx's own evaluator cannot do stays in the graph as it is
            continue
        for name, value in values.items():
            known[name] = numpy_helper.from_array(np.asarray(value), name)
            model.graph.initializer.append(known[name])
        gone.append(node)
    for node in gone:
        model.graph.node.remove(node)


def _behind_weights(model: onnx.ModelProto) -> set[str]:
    """Every tensor that weights, or what may be weights, are computed from."""
    behind: set[str] = set()
    for node in reversed(model.graph.node):
        if behind.intersection(node.output):
            behind.update(node.input)
        behind.update(
            node.input[at] for at in WEIGHTS_AT.get(node.op_type, ()) if at < len(node.input)
        )
    return behind


def _computed(
    model: onnx.ModelProto, node: onnx.NodeProto, feed: dict[str, np.ndarray[Any, Any]]
) -> dict[str, np.ndarray[Any, Any]]:
    """What a node gives for these inputs, by onnx's own evaluator at the model's opset; ValueError over FOLD_LIMIT."""
    from onnx import helper
    from onnx.reference import ReferenceEvaluator

    shaped = {
        "ConstantOfShape": 0,
        "Expand": 1,
    }  # operators one input of which is the shape of what they make
    size = sum(array.size for array in feed.values())
    if node.op_type in shaped:
        size += int(np.prod(feed[node.input[shaped[node.op_type]]], dtype=np.float64))
    if size > FOLD_LIMIT:
        raise ValueError(f"{size} elements")
    inputs = [
        helper.make_tensor_value_info(
            name, helper.np_dtype_to_tensor_dtype(array.dtype), array.shape
        )
        for name, array in feed.items()
    ]
    names = [name for name in node.output if name]
    outputs = [helper.make_empty_tensor_value_info(name) for name in names]
    alone = helper.make_model(
        helper.make_graph([node], "node", inputs, outputs),
        opset_imports=model.opset_import,
        functions=model.functions,
    )
    return dict(zip(names, ReferenceEvaluator(alone).run(names, feed), strict=True))


def _fold_batch_norms(model: onnx.ModelProto) -> None:
    """Put each BatchNormalization into the convolution in front of it, where only it reads that convolution."""
    known, readers = constants(model), _readers(model)
    makers = {name: node for node in model.graph.node for name in node.output}
    for norm in [node for node in model.graph.node if node.op_type == "BatchNormalization"]:
        conv = makers.get(norm.input[0])
        if (
            conv is None
            or conv.op_type not in ("Conv", "ConvTranspose")
            or readers[norm.input[0]] != 1
        ):
            continue
        needed = [*norm.input[1:5], *conv.input[1:3]]
        training = any(item.name == "training_mode" and item.i for item in norm.attribute)
        if (
            training
            or len([name for name in norm.output if name]) > 1
            or any(name not in known for name in needed)
        ):
            continue
        if any(known[name].data_type != 1 for name in needed):
            continue
        if conv.op_type == "ConvTranspose" and any(
            item.name == "group" and item.i > 1 for item in conv.attribute
        ):
            continue
        _fold(model, conv, norm, known)


def _fold(
    model: onnx.ModelProto,
    conv: onnx.NodeProto,
    norm: onnx.NodeProto,
    known: dict[str, onnx.TensorProto],
) -> None:
    """y = gain * (conv(x) - mean) / sqrt(variance + epsilon) + offset, as one convolution."""
    from onnx import numpy_helper

    def array(name: str) -> np.ndarray[Any, Any]:
        return numpy_helper.to_array(known[name]).astype(np.float64)

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
        while name in known:
            name += "_"
        known[name] = numpy_helper.from_array(value.astype(np.float32), name)
        model.graph.initializer.append(known[name])
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
        for name in (
            *(name for node in graph.node for name in node.input),
            *(value.name for value in graph.output),
        ):
            count[name] = count.get(name, 0) + 1
    return count
