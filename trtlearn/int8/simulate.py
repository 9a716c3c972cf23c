"""A whole network in INT8 on the CPU: every tensor's codes, those that an engine never shows included.

Marking a tensor as an output changes the engine (T#2571). Here nothing changes: each fused layer is computed as its
kernel does, from activation scales and the FP32 weights of the ONNX file.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ..errors import DataError, ModelError
from ..model.describe import describe, load_proto
from ..model.fold import folded_batch_norms
from .groups import (
    ACTIVATIONS,
    KEEPS_SCALE,
    MOVES,
    PRODUCTS,
    check_groups,
    engine_groups,
    float_tensors,
    fused_groups,
    node_key,
)
from .kernels import quantize_activations, windows
from .layer import Int8Layer, int8_layer
from .quant import dequantize

if TYPE_CHECKING:
    import onnx

    from ..engine.records import Experiment

__all__ = [
    "Int8Run",
    "Int8Tensor",
    "attributes",
    "clip_bounds",
    "float_node",
    "product_layer",
    "run_int8",
    "run_like",
]


# --- One ONNX node at a time: the INT8 layer that a product becomes, and float32 results of everything else.

Array = NDArray[Any]


def attributes(node: onnx.NodeProto) -> dict[str, Any]:
    """The node's attributes as Python values."""
    from onnx import helper

    return {attribute.name: helper.get_attribute_value(attribute) for attribute in node.attribute}


def clip_bounds(node: onnx.NodeProto, values: Mapping[str, Array]) -> tuple[float, float]:
    """What a Relu or Clip keeps its input between, in the tensor's units."""
    if node.op_type == "Relu":
        return 0.0, float("inf")
    given = attributes(node)
    ends = [float(given.get("min", -np.inf)), float(given.get("max", np.inf))]
    for index, name in enumerate(node.input[1:3]):
        if name:
            ends[index] = float(np.asarray(values[name]).reshape(-1)[0])
    return ends[0], ends[1]


def _geometry(node: onnx.NodeProto, rank: int) -> dict[str, Any]:
    given = attributes(node)
    if given.get("auto_pad", b"NOTSET") != b"NOTSET" or "output_shape" in given:
        raise ModelError(
            f"{node.name!r} leaves its padding to ONNX (auto_pad)",
            "export the model with explicit pads",
        )
    found: dict[str, Any] = {
        "strides": tuple(given.get("strides", [1] * rank)),
        "pads": tuple(given.get("pads", [0] * 2 * rank)),
        "dilations": tuple(given.get("dilations", [1] * rank)),
        "groups": int(given.get("group", 1)),
    }
    if node.op_type == "ConvTranspose":
        found["output_padding"] = tuple(given.get("output_padding", [0] * rank))
    return found


def product_layer(
    node: onnx.NodeProto,
    values: Mapping[str, Array],
    input_scale: float,
    output_scale: float | None,
    bounds: tuple[float, float] = (-np.inf, np.inf),
) -> Int8Layer:
    """The INT8 layer of a Conv, ConvTranspose, Gemm or MatMul whose weight is among ``values``.

    ``bounds``: the fused activation's. Raises ModelError for padding that ONNX is to work out.
    """
    weight = np.asarray(values[node.input[1]], np.float32)
    bias = (
        np.asarray(values[node.input[2]], np.float32)
        if len(node.input) > 2 and node.input[2]
        else None
    )
    geometry: dict[str, Any] = {}
    if node.op_type in ("Conv", "ConvTranspose"):
        geometry = _geometry(node, weight.ndim - 2)
    elif node.op_type == "Gemm":
        given = attributes(node)
        weight = (weight.T if given.get("transB") else weight) * np.float32(given.get("alpha", 1.0))
        if bias is not None:
            bias = np.broadcast_to(bias * np.float32(given.get("beta", 1.0)), (1, weight.shape[1]))[
                0
            ]
    kind = PRODUCTS[node.op_type]
    low, high = bounds
    return int8_layer(
        weight, input_scale, output_scale, bias, kind=kind, low=low, high=high, **geometry
    )


def _pool(node: onnx.NodeProto, x: Array) -> Array | None:
    """MaxPool, AveragePool or GlobalAveragePool; None where only onnx's reference knows the attributes."""
    rank = x.ndim - 2
    space = tuple(range(-rank, 0))
    if node.op_type == "GlobalAveragePool":
        return np.asarray(x.mean(axis=space, keepdims=True, dtype=np.float32))
    given = attributes(node)
    if (
        given.get("ceil_mode")
        or given.get("auto_pad", b"NOTSET") != b"NOTSET"
        or len(node.output) > 1
    ):
        return None
    window = (
        given["kernel_shape"],
        given.get("strides"),
        given.get("pads"),
        given.get("dilations"),
    )
    if node.op_type == "MaxPool":
        return np.asarray(windows(x, *window, fill=-np.inf).max(axis=space))
    total = windows(x, *window).sum(axis=space, dtype=np.float32)
    if given.get("count_include_pad"):
        return np.asarray(total / np.float32(np.prod(given["kernel_shape"])), np.float32)
    return np.asarray(
        total / windows(np.ones_like(x), *window).sum(axis=space, dtype=np.float32), np.float32
    )


def float_node(node: onnx.NodeProto, feed: Mapping[str, Array], opsets: Any) -> list[Array]:
    """The node's outputs in the inputs' own types, by onnx's reference implementation (pooling: by numpy).

    ``feed``: its inputs by name. Raises ModelError for an operator that the reference does not know.
    """
    from onnx import helper
    from onnx.reference import ReferenceEvaluator

    if node.op_type in ("MaxPool", "AveragePool", "GlobalAveragePool"):
        pooled = _pool(node, feed[node.input[0]])
        if pooled is not None:
            return [pooled]
    kinds = {name: helper.np_dtype_to_tensor_dtype(array.dtype) for name, array in feed.items()}
    graph = helper.make_graph(
        [node],
        "one_node",
        [helper.make_tensor_value_info(name, kind, None) for name, kind in kinds.items()],
        [helper.make_tensor_value_info(name, 0, None) for name in node.output if name],
    )
    try:
        outputs = ReferenceEvaluator(helper.make_model(graph, opset_imports=opsets)).run(
            None, dict(feed)
        )
    except Exception as problem:
        raise ModelError(
            f"node {node.name!r} ({node.op_type}) cannot be computed here: {problem}"
        ) from None
    return [np.asarray(value) for value in outputs]


# --- A whole network in INT8 on the CPU: every tensor's codes, those that an engine never shows included.


@dataclass(frozen=True)
class Int8Tensor:
    """One activation: its values in float32, and where the engine holds it in INT8 also codes and scale."""

    name: str
    values: Array = field(repr=False)
    codes: Array | None = field(default=None, repr=False)
    scale: float | None = None


@dataclass(frozen=True)
class Int8Run:
    """What a network computed: tensors by name, its INT8 layers by their first node, and which nodes made a layer.

    Tensors inside a fused layer are missing: the kernel never holds them.
    """

    tensors: dict[str, Int8Tensor]
    layers: dict[str, Int8Layer]
    groups: tuple[tuple[str, ...], ...]

    def __getitem__(self, name: str) -> Int8Tensor:
        if name not in self.tensors:
            raise DataError(
                f"no tensor {name!r} left a layer", f"one of {', '.join(list(self.tensors)[:8])}, …"
            )
        return self.tensors[name]


def run_int8(
    model: str | os.PathLike[str] | bytes,
    scales: Mapping[str, float],
    x: Mapping[str, Array],
    *,
    groups: Sequence[Sequence[str]] | None = None,
    floats: Sequence[str] | None = None,
) -> Int8Run:
    """Run an ONNX network in INT8, layer by layer as the engine's kernels do.

    Products (Conv, ConvTranspose, Gemm, MatMul by a constant) whose input has a scale multiply codes into int32 and
    round once, at the end of their layer. Everything else is computed in float32 on dequantized values and quantized
    where its output has a scale. Reshapes hand on what they get, codes or floats; MaxPool's codes get its output's
    scale. A BatchNormalization behind a convolution is folded into its weights before they are quantized (inferred: no
    such engine was recorded).

    Args:
        model: path or bytes. scales: tensor -> scale, or a calibration cache.
        x: network inputs by name: float32, or int8 codes where the engine takes codes.
        groups: which nodes are one layer (engine_groups of a built engine); by default fused_groups' rule.
        floats: tensors that stay float although they have a scale; by default the network's outputs, as TensorRT
            leaves an output FP32.

    Raises DataError for a missing input, a scale that is not above 0 or groups that do not fit the model; ModelError
    for a model that cannot be read or run.

    >>> from trtlearn.model.course_data import model_path
    >>> path = model_path("resnet")
    >>> run = run_int8(path, {"image": 0.02, "stem_relu": 0.03}, {"image": np.ones((1, 1, 28, 28), np.float32)})
    >>> run["stem_relu"].codes.dtype.name, run["pool"].scale, run["b0_relu1"].codes is None
    ('int8', 0.03, True)
    """
    whole = proto = load_proto(model)
    if any(node.op_type == "BatchNormalization" for node in whole.graph.node):
        proto = folded_batch_norms(whole)
    shape = describe(proto)
    given = dict(scales)
    if bad := sorted(
        name for name, scale in given.items() if not (np.isfinite(scale) and scale >= 0)
    ):
        raise DataError(
            f"the scale of {bad[0]!r} is {given[bad[0]]}", "give a finite number above 0"
        )
    chosen = fused_groups(shape) if groups is None else _without_folded(groups, whole, proto)
    if wrong := check_groups(shape, chosen):
        raise DataError(
            f"the groups do not hold each node once: {', '.join(wrong[:5])}", "use engine_groups(…)"
        )
    kept = {value.name for value in shape.outputs} if floats is None else set(floats)
    work = _Work(
        proto,
        {name: float(scale) for name, scale in given.items() if name not in kept and scale > 0},
    )
    for value in shape.inputs:
        if value.name not in x:
            raise DataError(
                f"input {value.name!r} is missing",
                f"the inputs are {', '.join(v.name for v in shape.inputs)}",
            )
        work.put_input(value.name, x[value.name])
    nodes = {node.name or node.output[0]: node for node in proto.graph.node}
    order = {node_key(node): index for index, node in enumerate(shape.nodes)}
    for group in sorted(chosen, key=lambda names: max(order[name] for name in names)):
        work.run_group([nodes[name] for name in group])
    return Int8Run(work.tensors, work.layers, chosen)


def _without_folded(
    groups: Sequence[Sequence[str]], whole: onnx.ModelProto, folded: onnx.ModelProto
) -> tuple[tuple[str, ...], ...]:
    """The groups without the nodes that were folded away."""
    gone = {node.name or node.output[0] for node in whole.graph.node} - {
        node.name or node.output[0] for node in folded.graph.node
    }
    left = (tuple(name for name in group if name not in gone) for group in groups)
    return tuple(group for group in left if group)


def run_like(
    experiment: Experiment, images: Array, scales: Mapping[str, float] | None = None
) -> Int8Run:
    """What an INT8 engine of one of the course's networks computes for ``images``, every tensor in sight.

    Ranges, fused groups and tensors kept in float are the engine's. ``scales``: tensor -> scale, in place of its own.
    Measured: for 200 images the same answers as each recorded INT8 engine gave (tests/int8/test_arithmetic_recorded.py).
    """
    from ..model.course_data import model_card, model_path

    if experiment.ranges is None:
        raise DataError(f"{experiment.variant} has no ranges", "take an INT8 variant")
    path, card = model_path(experiment.model), model_card(experiment.model)
    shape = describe(load_proto(path))
    own = {tensor.name: tensor.scale for tensor in experiment.ranges.tensors if tensor.scale}
    return run_int8(
        path,
        own | dict(scales or {}),
        {card.input_name: images},
        groups=engine_groups(shape, experiment.engine),
        floats=float_tensors(shape, experiment.engine),
    )


class _Work:
    """The tensors so far, and how the next layer is computed."""

    def __init__(self, proto: onnx.ModelProto, scales: dict[str, float]) -> None:
        from onnx import numpy_helper

        self.opsets = proto.opset_import
        self.scales = scales
        self.weights: dict[str, Array] = {
            w.name: numpy_helper.to_array(w) for w in proto.graph.initializer
        }
        self.tensors: dict[str, Int8Tensor] = {}
        self.layers: dict[str, Int8Layer] = {}

    def put_input(self, name: str, array: Array) -> None:
        if array.dtype != np.int8:
            self.put(name, array)
        elif name in self.scales:
            self.put_codes(name, array, self.scales[name])
        else:
            raise DataError(f"input {name!r} is given as codes, but has no scale", "give its scale")

    def put_codes(self, name: str, codes: Array, scale: float) -> None:
        self.tensors[name] = Int8Tensor(name, dequantize(codes, scale), codes, scale)

    def put(self, name: str, values: Array) -> None:
        """Keep a tensor, quantized where it has a scale."""
        scale = self.scales.get(name)
        if scale is None or values.dtype != np.float32:
            self.tensors[name] = Int8Tensor(name, values)
        else:
            self.put_codes(name, quantize_activations(values, scale), scale)

    def value(self, name: str) -> Array:
        return self.weights[name] if name in self.weights else self.tensors[name].values

    def run_group(self, nodes: list[onnx.NodeProto]) -> None:
        """Compute one layer and keep what leaves it."""
        first, last = nodes[0], nodes[-1].output[0]
        if first.op_type == "Constant":
            self.weights[last] = float_node(first, {}, self.opsets)[0]
            return
        source = self.tensors.get(first.input[0]) if first.input else None
        held: dict[str, Array] = {}
        if source is not None and source.codes is not None and source.scale is not None:
            if first.op_type in KEEPS_SCALE and len(nodes) == 1:
                moved = self.floats(first, {first.input[0]: source.codes.astype(np.float32)})[0]
                scale = (
                    source.scale if first.op_type in MOVES else self.scales.get(last, source.scale)
                )
                if scale != source.scale:  # the kernel rescales
                    moved = np.clip(
                        np.rint(moved * (np.float32(source.scale) / np.float32(scale))), -128, 127
                    )
                self.put_codes(last, moved.astype(np.int8), scale)
                return
            if (
                first.op_type in PRODUCTS
                and len(first.input) > 1
                and first.input[1] in self.weights
            ):
                codes = source.codes
                if first.op_type == "Gemm" and attributes(first).get("transA"):
                    codes = codes.T
                end = self.epilogue(nodes)
                if end is not None:
                    self.run_product(first, last, codes, source.scale, *end)
                    return
                layer = self.layers[first.name or first.output[0]] = product_layer(
                    first, self.weights, source.scale, None
                )
                held[first.output[0]] = layer.run(codes)
        if (
            first.op_type in MOVES
            and len(nodes) == 1
            and source is not None
            and source.codes is None
        ):
            self.tensors[last] = Int8Tensor(
                last, self.floats(first, {})[0]
            )  # moving numbers rounds nothing
            return
        for node in nodes:
            if node.output[0] not in held:
                held |= dict(zip(node.output, self.floats(node, held), strict=True))
        inner = {name for node in nodes for name in node.input}
        for name, values in held.items():
            if name == last or name not in inner:
                self.put(name, values)

    def run_product(
        self,
        first: onnx.NodeProto,
        last: str,
        codes: Array,
        scale: float,
        added: Array | None,
        bounds: tuple[float, float],
    ) -> None:
        layer = product_layer(first, self.weights, scale, self.scales.get(last), bounds)
        self.layers[first.name or first.output[0]] = layer
        result = layer.run(codes, added)
        if layer.output_scale is None:
            self.tensors[last] = Int8Tensor(last, result)
        else:
            self.put_codes(last, result, layer.output_scale)

    def epilogue(
        self, nodes: list[onnx.NodeProto]
    ) -> tuple[Array | None, tuple[float, float]] | None:
        """The residual and the activation's bounds of a product's layer; None where it ends otherwise."""
        inside = {name for node in nodes for name in node.output}
        added: Array | None = None
        bounds = (-np.inf, np.inf)
        for index, node in enumerate(nodes[1:]):
            if node.op_type == "Add" and index == 0:
                added = np.asarray(
                    self.value(next(name for name in node.input if name not in inside)), np.float32
                )
            elif node.op_type in ACTIVATIONS and index == len(nodes) - 2:
                bounds = clip_bounds(node, self.weights)
            else:
                return None
        return added, bounds

    def floats(self, node: onnx.NodeProto, held: Mapping[str, Array]) -> list[Array]:
        feed = {
            name: held[name] if name in held else self.value(name) for name in node.input if name
        }
        return float_node(node, feed, self.opsets)
