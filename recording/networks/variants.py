"""The detector's other heads: detector.onnx with another end of the graph and the same weights.

- ``normalised``: the boxes leave as shares of the image's width, 0 to 1, in the one output.
- ``two-outputs``: boxes and scores leave apart.
- ``by-level``: boxes and scores are joined for each stride first and the strides afterwards, as
  YOLOv5 exports do, so that the tensor that mixes them lies inside the network.
- ``by-level-normalised``: the same with boxes from 0 to 1.
- ``transposed``: the one output turned to [N,320,14], as YOLOX exports have it; the mixed tensor
  lies inside, too.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

__all__ = ["VARIANTS", "boxes_of", "variant"]

SIZE = 128.0


def _initializer(model: onnx.ModelProto, name: str) -> onnx.TensorProto:
    return next(item for item in model.graph.initializer if item.name == name)


def _put(model: onnx.ModelProto, name: str, value: Any) -> None:
    model.graph.initializer.append(numpy_helper.from_array(np.ascontiguousarray(value), name))


def _without(model: onnx.ModelProto, names: set[str]) -> None:
    nodes = [node for node in model.graph.node if node.name not in names]
    del model.graph.node[:]
    model.graph.node.extend(nodes)


def _outputs(model: onnx.ModelProto, shapes: dict[str, list[Any]]) -> None:
    del model.graph.output[:]
    for name, shape in shapes.items():
        value = helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)
        model.graph.output.append(value)


def normalised(model: onnx.ModelProto) -> None:
    """Boxes from 0 to 1: the strides that multiply them are divided by the image's width."""
    for item in model.graph.initializer:
        if item.name.endswith("strides"):
            item.CopyFrom(
                numpy_helper.from_array(numpy_helper.to_array(item) / np.float32(SIZE), item.name)
            )


def two_outputs(model: onnx.ModelProto) -> None:
    """Boxes and scores as two outputs: the last Concat left out."""
    _without(model, {"output0"})
    _outputs(model, {"boxes": ["batch", 4, 320], "scores": ["batch", 10, 320]})


def transposed(model: onnx.ModelProto) -> None:
    """The output turned: [N,320,14]."""
    last = next(node for node in model.graph.node if node.name == "output0")
    last.output[0] = last.name = "joined"
    turned = helper.make_node("Transpose", ["joined"], ["output0"], "output0", perm=[0, 2, 1])
    model.graph.node.append(turned)
    _outputs(model, {"output0": ["batch", 320, 14]})


def by_level(model: onnx.ModelProto) -> None:
    """Decoding and joining for each stride by itself, the strides joined last."""
    centres = numpy_helper.to_array(_initializer(model, "anchors"))
    strides = numpy_helper.to_array(_initializer(model, "strides"))
    nodes = []
    for node in model.graph.node:
        if node.name == "levels":
            break
        nodes.append(node)
    ends = {8: slice(0, 256), 16: slice(256, 320)}
    joined = []
    for stride, cells in ends.items():
        at = f"h{stride}_"
        _put(model, at + "anchors", centres[:, :, cells])
        _put(model, at + "strides", strides[:, :, cells])
        nodes += _decoded(at)
        joined.append(at + "joined")
    nodes.append(helper.make_node("Concat", joined, ["output0"], "output0", axis=2))
    del model.graph.node[:]
    model.graph.node.extend(nodes)


def _decoded(at: str) -> list[onnx.NodeProto]:
    """One stride's boxes and scores: the nodes of detector.onnx under names of its own."""
    make = helper.make_node

    def one(kind: str, inputs: list[str], name: str, **attributes: Any) -> onnx.NodeProto:
        return make(kind, inputs, [at + name], at + name, **attributes)

    sizes = [at + "flat", "levels_sizes"]
    halves = [at + "distances", "distances_sizes"]
    return [
        make("Split", sizes, [at + "distances", at + "class_logits"], at + "split", axis=1),
        make("Split", halves, [at + "left_top", at + "right_bottom"], at + "halves", axis=1),
        one("Sub", [at + "anchors", at + "left_top"], "first_corner"),
        one("Add", [at + "anchors", at + "right_bottom"], "second_corner"),
        one("Add", [at + "first_corner", at + "second_corner"], "corners_sum"),
        one("Div", [at + "corners_sum", "two"], "box_centre"),
        one("Sub", [at + "second_corner", at + "first_corner"], "box_size"),
        one("Concat", [at + "box_centre", at + "box_size"], "boxes_in_strides", axis=1),
        one("Mul", [at + "boxes_in_strides", at + "strides"], "boxes"),
        one("Sigmoid", [at + "class_logits"], "scores"),
        one("Concat", [at + "boxes", at + "scores"], "joined", axis=1),
    ]


def by_level_normalised(model: onnx.ModelProto) -> None:
    """Decoding and joining for each stride by itself, with boxes from 0 to 1."""
    by_level(model)
    normalised(model)


VARIANTS: dict[str, Callable[[onnx.ModelProto], None]] = {
    "detector-normalised": normalised,
    "detector-two-outputs": two_outputs,
    "detector-by-level": by_level,
    "detector-by-level-normalised": by_level_normalised,
    "detector-transposed": transposed,
}


def variant(model: onnx.ModelProto, name: str) -> onnx.ModelProto:
    """A copy of detector.onnx with another head; ``name`` one of VARIANTS."""
    changed = onnx.ModelProto()
    changed.CopyFrom(model)
    graph = changed.graph
    graph.name = name
    VARIANTS[name](changed)
    inputs = set().union(*(node.input for node in graph.node))
    constants = [item for item in graph.initializer if item.name in inputs]
    del graph.initializer[:]
    graph.initializer.extend(constants)
    onnx.checker.check_model(changed, full_check=True)
    return changed


def boxes_of(name: str, outputs: dict[str, np.ndarray[Any, Any]]) -> np.ndarray[Any, Any]:
    """The answer of a network of this name in detector.onnx's form: [N,14,320], boxes in pixels."""
    if name == "detector-two-outputs":
        return np.concatenate([outputs["boxes"], outputs["scores"]], axis=1)
    output = outputs["output0"]
    if name == "detector-transposed":
        return output.transpose(0, 2, 1)
    if name.endswith("normalised"):
        output = output.copy()
        output[:, :4] *= SIZE
    return output
