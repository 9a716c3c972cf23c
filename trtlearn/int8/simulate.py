"""A whole network in INT8 on the CPU: every tensor's codes, also those that an engine never shows.

Marking a tensor as an output changes the engine (T#2571). Here nothing changes: each fused layer is
computed as its kernel does, from activation scales and the FP32 weights of the ONNX file.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from graphlib import CycleError, TopologicalSorter
from typing import TYPE_CHECKING, Any

import numpy as np

from ..errors import DataError, ModelError
from ..model.data import Array
from ..model.fold import folded_batch_norms
from ..model.graph import Graph, attributes, describe, evaluate, node_key
from ..model.operators import REARRANGE, WEIGHTED
from ..model.read import load_proto
from ..record import Record, plural
from .groups import (
    BOUNDING,
    PICKS_CODES,
    Groups,
    check_groups,
    engine_groups,
    float_tensors,
    fused_groups,
)
from .kernels import Int8Layer, PixelTrace, int8_layer, quantize_activations, trace_pixel, windows
from .quant import QuantError, cosine, dequantize, quantization_error, sqnr_db

if TYPE_CHECKING:
    import onnx

    from ..engine.layers import EngineInfo

__all__ = ["Int8Run", "Int8Tensor", "TensorError", "run_int8", "tensor_errors"]

Bounds = tuple[float, float]
UNBOUNDED: Bounds = (-np.inf, np.inf)


@dataclass(frozen=True)
class Int8Tensor:
    """One activation: float32 values, and codes and scale where the engine holds it in INT8."""

    name: str
    values: Array = field(repr=False)
    codes: Array | None = field(default=None, repr=False)
    scale: float | None = None


@dataclass(frozen=True)
class Int8Run:
    """What a network computed: tensors by name, INT8 layers by their first node, nodes by layer.

    Tensors inside a fused layer are missing: the kernel never holds them. ``residuals``: layer ->
    the values that its fused Add brings, float32.
    """

    tensors: dict[str, Int8Tensor]
    layers: dict[str, Int8Layer]
    groups: Groups
    residuals: dict[str, Array] = field(default_factory=dict, repr=False)

    def __repr__(self) -> str:
        held = f"{plural(len(self.tensors), 'tensor')}, {plural(len(self.layers), 'INT8 layer')}"
        return f"<Int8Run: {held}>"

    @property
    def convolutions(self) -> tuple[str, ...]:
        """The 2-D convolutions from INT8 to INT8, in order: their pixels can be followed."""
        return tuple(
            name
            for name, layer in self.layers.items()
            if layer.kind == "conv" and layer.codes.ndim == 4 and layer.output_scale is not None
        )

    def trace(self, layer: str, position: Sequence[int] | None = None) -> PixelTrace:
        """One output pixel of an INT8 layer, step by step.

        ``position``: batch, channel, row, column; by default where the first image's output code is
        largest. DataError for a layer that does not compute in INT8, or a position outside.
        """
        if layer not in self.layers:
            known = ", ".join(self.layers) or "no layer"
            raise DataError(f"{layer!r} does not compute in INT8 here", f"INT8: {known}")
        one = self.layers[layer]
        codes = self[one.reads].codes
        assert codes is not None  # a layer in self.layers reads codes
        if position is None:
            output = self[one.writes].values[0]
            position = (0, *(int(i) for i in np.unravel_index(output.argmax(), output.shape)))
        trace = trace_pixel(one, codes, position)
        if layer not in self.residuals:
            return trace
        shape = self[one.writes].values.shape
        added = np.broadcast_to(self.residuals[layer], shape)[trace.position]
        return trace_pixel(one, codes, position, float(added))

    def __getitem__(self, name: str) -> Int8Tensor:
        if name not in self.tensors:
            some = ", ".join(list(self.tensors)[:8])
            raise DataError(f"no tensor {name!r} left a layer", f"one of {some}, …")
        return self.tensors[name]


def run_int8(
    model: str | os.PathLike[str] | bytes,
    scales: Mapping[str, float],
    x: Array | Mapping[str, Array],
    *,
    engine: EngineInfo | None = None,
    groups: Sequence[Sequence[str]] | None = None,
    floats: Sequence[str] | None = None,
) -> Int8Run:
    """Run an ONNX network in INT8, layer by layer as the engine's kernels do.

    Products (Conv, ConvTranspose, Gemm, MatMul by a constant) whose input has a scale multiply
    codes into int32 and round once, at the end of their layer. Everything else is computed in
    float32 on dequantized values and quantized where its output has a scale. Reshapes hand on what
    they get, codes or floats; MaxPool's codes get its output's scale. A BatchNormalization behind a
    convolution is folded into its weights before they are quantized (inferred: no such engine was
    recorded).

    Args:
        model: path or bytes. scales: tensor -> scale, or a calibration cache.
        x: network inputs, by name where there are several: float32, or int8 codes where the engine
            takes codes.
        engine: a built engine whose fused groups and float tensors these are. Measured: for 200
            images the same answers as each recorded INT8 engine gave
            (tests/int8/test_arithmetic_recorded.py).
        groups: which nodes are one layer, in place of the engine's; without it fused_groups'.
        floats: tensors that stay float although they have a scale, in place of the engine's;
            without it the network's outputs, as TensorRT leaves an output FP32.

    Raises DataError for a missing input, a scale that is not above 0 or groups that do not fit the
    model; ModelError for a model that cannot be read or run.

    >>> from trtlearn.model.course_data import model_path
    >>> image = np.ones((1, 1, 28, 28), np.float32)
    >>> run = run_int8(model_path("resnet"), {"image": 0.02, "stem_relu": 0.03}, {"image": image})
    >>> run["stem_relu"].codes.dtype.name, run["pool"].scale, run["b0_relu1"].codes is None
    ('int8', 0.03, True)
    """
    original = proto = load_proto(model)
    if any(node.op_type == "BatchNormalization" for node in original.graph.node):
        proto = folded_batch_norms(original)
    facts = describe(proto)
    if engine is not None:
        whole = facts if proto is original else describe(original)
        groups = engine_groups(whole, engine) if groups is None else groups
        floats = float_tensors(whole, engine) if floats is None else floats
    nodes = {node_key(node): node for node in proto.graph.node}
    layers = fused_groups(facts) if groups is None else _without_folded(groups, original, nodes)
    if wrong := check_groups(facts, layers):
        some = ", ".join(wrong[:5])
        raise DataError(f"the groups do not hold each node once: {some}", "use engine_groups(…)")
    kept_float = {value.name for value in facts.outputs} if floats is None else set(floats)
    network = _Network(proto, {n: s for n, s in _checked(scales).items() if n not in kept_float})
    x = x if isinstance(x, Mapping) else {facts.inputs[0].name: x}
    for value in facts.inputs:
        if value.name not in x:
            names = ", ".join(one.name for one in facts.inputs)
            raise DataError(f"input {value.name!r} is missing", f"the inputs are {names}")
        network.put_input(value.name, x[value.name])
    layers = _in_running_order(layers, nodes)
    for group in layers:
        network.run_group([nodes[name] for name in group])
    return Int8Run(network.tensors, network.layers, layers, network.residuals)


def _in_running_order(groups: Groups, nodes: Mapping[str, onnx.NodeProto]) -> Groups:
    """The groups in an order in which each finds what it reads.

    Groups that read each other are one: a block whose layer does not name all nodes inside it.
    """
    order = {name: index for index, name in enumerate(nodes)}
    makers = {output: name for name, node in nodes.items() for output in node.output}
    while True:
        home = {name: index for index, group in enumerate(groups) for name in group}
        reads: dict[int, set[int]] = {index: set() for index in range(len(groups))}
        for name, index in home.items():
            sources = {home[makers[one]] for one in nodes[name].input if one in makers}
            reads[index] |= sources - {index}
        try:
            return tuple(groups[index] for index in TopologicalSorter(reads).static_order())
        except CycleError as problem:
            joined = set(problem.args[1])
            inside = sorted((one for index in joined for one in groups[index]), key=order.get)  # type: ignore[arg-type]
            others = [group for index, group in enumerate(groups) if index not in joined]
            groups = (*others, tuple(inside))


def _checked(scales: Mapping[str, float]) -> dict[str, float]:
    """The scales above 0 (a cache's 0 stands for none); DataError for one that is no number."""
    for name, scale in sorted(scales.items()):
        if not (np.isfinite(scale) and scale >= 0):
            raise DataError(f"the scale of {name!r} is {scale}", "give a finite number above 0")
    return {name: float(scale) for name, scale in scales.items() if scale > 0}


def _without_folded(
    groups: Sequence[Sequence[str]], original: onnx.ModelProto, nodes: Mapping[str, onnx.NodeProto]
) -> Groups:
    """The groups without the nodes of the original that were folded away."""
    folded = {node_key(node) for node in original.graph.node} - set(nodes)
    left = (tuple(name for name in group if name not in folded) for group in groups)
    return tuple(group for group in left if group)


@dataclass(frozen=True)
class TensorError(Record):
    """How far one tensor of the INT8 network is from FP32, and how much its own rounding costs.

    ``total_sqnr_db`` compares with FP32, so all layers before count; ``own`` is what quantizing the
    FP32 tensor alone costs (None where the engine keeps it in float).
    """

    name: str
    scale: float | None
    total_sqnr_db: float | None
    cosine: float | None
    max_error: float
    own: QuantError | None


def tensor_errors(run: Int8Run, reference: Mapping[str, Array]) -> tuple[TensorError, ...]:
    """Each tensor of the run against its FP32 value: SQNR, cosine, largest error, own rounding.

    ``reference``: tensor -> float32 values from the same inputs (trtlearn.model.run gives them);
    tensors without one are left out. Raises DataError for values of another shape.
    """
    errors = []
    for name, tensor in run.tensors.items():
        if name not in reference or tensor.values.dtype != np.float32:
            continue
        exact = np.asarray(reference[name], np.float64)
        if exact.shape != tensor.values.shape:
            problem = f"{name!r} has shape {tensor.values.shape}, the reference {exact.shape}"
            raise DataError(problem, "use one input")
        own = None if tensor.scale is None else quantization_error(exact, tensor.scale)
        errors.append(
            TensorError(
                name=name,
                scale=tensor.scale,
                total_sqnr_db=sqnr_db(exact, tensor.values),
                cosine=cosine(exact, tensor.values),
                max_error=float(np.abs(exact - tensor.values).max(initial=0.0)),
                own=own,
            )
        )
    return tuple(errors)


class _Network:
    """The tensors computed so far, and how the next layer is computed."""

    def __init__(self, proto: onnx.ModelProto, scales: dict[str, float]) -> None:
        from onnx import numpy_helper

        self.model = proto
        self.readers = Graph(proto).readers
        self.scales = scales
        self.weights = {w.name: numpy_helper.to_array(w) for w in proto.graph.initializer}
        self.tensors: dict[str, Int8Tensor] = {}
        self.layers: dict[str, Int8Layer] = {}
        self.residuals: dict[str, Array] = {}

    # Tensors

    def put_input(self, name: str, array: Array) -> None:
        if array.dtype != np.int8:
            self.put(name, array)
        elif name in self.scales:
            self.put_codes(name, array, self.scales[name])
        else:
            raise DataError(f"input {name!r} is given as codes, but has no scale", "give its scale")

    def put(self, name: str, values: Array) -> None:
        """Keep a tensor, quantized where it has a scale."""
        scale = self.scales.get(name)
        if scale is None or values.dtype != np.float32:
            self.put_floats(name, values)
        else:
            self.put_codes(name, quantize_activations(values, scale), scale)

    def put_floats(self, name: str, values: Array) -> None:
        self.tensors[name] = Int8Tensor(name, values)

    def put_codes(self, name: str, codes: Array, scale: float) -> None:
        self.tensors[name] = Int8Tensor(name, dequantize(codes, scale), codes, scale)

    def value(self, name: str) -> Array:
        return self.weights[name] if name in self.weights else self.tensors[name].values

    # Layers

    def run_group(self, nodes: list[onnx.NodeProto]) -> None:
        """Compute one layer and keep what leaves it."""
        first = nodes[0]
        source = self.tensors.get(first.input[0]) if first.input else None
        has_codes = source is not None and source.codes is not None
        alone = len(nodes) == 1
        if first.op_type == "Constant":
            self.weights[first.output[0]] = self.compute(first, {})[0]
        elif has_codes and self.is_product(first):
            self.run_product(nodes)
        elif has_codes and alone and first.op_type in PICKS_CODES:
            self.pick_codes(first)
        elif source is not None and alone and first.op_type in REARRANGE:
            self.put_floats(first.output[0], self.compute(first, {})[0])  # moving rounds nothing
        else:
            self.run_floats(nodes, {})

    def is_product(self, node: onnx.NodeProto) -> bool:
        """Whether a node is a product by constant weights."""
        return node.op_type in WEIGHTED and len(node.input) > 1 and node.input[1] in self.weights

    def codes(self, name: str) -> tuple[Array, float]:
        tensor = self.tensors[name]
        if tensor.codes is None or tensor.scale is None:
            raise DataError(f"tensor {name!r} holds no codes")
        return tensor.codes, tensor.scale

    def run_product(self, nodes: list[onnx.NodeProto]) -> None:
        """A product on codes, with what its kernel does to the sums before it rounds."""
        first, result = nodes[0], nodes[-1].output[0]
        codes, scale = self.codes(first.input[0])
        if first.op_type == "Gemm" and attributes(first).get("transA"):
            codes = codes.T
        ending = self.ending(nodes)
        if ending is None:  # a Sigmoid, say: the sums leave the product in float32
            layer = product_layer(first, self.weights, scale, None)
            self.run_floats(nodes[1:], {first.output[0]: layer.run(codes)})
        else:
            added, bounds = ending
            layer = product_layer(first, self.weights, scale, self.scales.get(result), bounds)
            output = layer.run(codes, added)
            if added is not None:
                self.residuals[node_key(first)] = added
            if layer.output_scale is None:
                self.put_floats(result, output)
            else:
                self.put_codes(result, output, layer.output_scale)
        self.layers[node_key(first)] = replace(layer, reads=first.input[0], writes=result)

    def ending(self, nodes: list[onnx.NodeProto]) -> tuple[Array | None, Bounds] | None:
        """The residual and the bounds that end a product's layer; None where it ends otherwise."""
        inside = {name for node in nodes for name in node.output}
        followers = nodes[1:]
        added: Array | None = None
        if followers and followers[0].op_type == "Add":
            other = next(name for name in followers[0].input if name not in inside)
            added = np.asarray(self.value(other), np.float32)
            followers = followers[1:]
        if not followers:
            return added, UNBOUNDED
        if len(followers) == 1 and followers[0].op_type in BOUNDING:
            return added, clip_bounds(followers[0], self.weights)
        return None

    def pick_codes(self, node: onnx.NodeProto) -> None:
        """MaxPool or a reshape on codes; MaxPool rescales them to its output's scale, if any."""
        source, result = node.input[0], node.output[0]
        codes, scale = self.codes(source)
        picked = self.compute(node, {source: codes.astype(np.float32)})[0]
        own_scale = scale if node.op_type in REARRANGE else self.scales.get(result, scale)
        if own_scale != scale:
            picked = np.rint(picked * (np.float32(scale) / np.float32(own_scale)))
        self.put_codes(result, np.clip(picked, -128, 127).astype(np.int8), own_scale)

    def run_floats(self, nodes: list[onnx.NodeProto], inner: dict[str, Array]) -> None:
        """Compute nodes in float32, from ``inner`` tensors of their layer; keep what leaves it."""
        computed = dict(inner)
        for node in nodes:
            computed |= dict(zip(node.output, self.compute(node, computed), strict=True))
        inside = {node_key(node) for node in nodes}
        last = nodes[-1].output[0]
        for name, values in computed.items():
            readers = {node_key(node) for node in self.readers.get(name, ())}
            if name == last or not readers or readers - inside:
                self.put(name, values)

    def compute(self, node: onnx.NodeProto, inner: Mapping[str, Array]) -> list[Array]:
        """A node's outputs in its inputs' types; what ``inner`` lacks comes from earlier layers.

        By onnx's reference; pooling by numpy, for speed.
        """
        names = [name for name in node.input if name]
        feed = {name: inner[name] if name in inner else self.value(name) for name in names}
        if node.op_type in ("MaxPool", "AveragePool", "GlobalAveragePool"):
            pooled = _pool(node, feed[node.input[0]])
            if pooled is not None:
                return [pooled]
        try:
            return evaluate(node, feed, self.model)
        except Exception as problem:
            raise ModelError(
                f"node {node.name!r} ({node.op_type}) cannot be computed here: {problem}"
            ) from None


# One ONNX node at a time: the INT8 layer that a product becomes, float32 results of everything else


def clip_bounds(node: onnx.NodeProto, values: Mapping[str, Array]) -> Bounds:
    """What a Relu or Clip keeps its input between, in the tensor's units."""
    if node.op_type == "Relu":
        return 0.0, np.inf
    options = attributes(node)
    bounds = [options.get("min", -np.inf), options.get("max", np.inf)]  # before opset 11
    for index, name in enumerate(node.input[1:3]):
        if name:
            bounds[index] = np.asarray(values[name]).reshape(-1)[0]
    return float(bounds[0]), float(bounds[1])


def product_layer(
    node: onnx.NodeProto,
    values: Mapping[str, Array],
    input_scale: float,
    output_scale: float | None,
    bounds: Bounds = UNBOUNDED,
) -> Int8Layer:
    """The INT8 layer of a Conv, ConvTranspose, Gemm or MatMul whose weight is among ``values``.

    ``bounds``: the fused activation's. Raises ModelError for padding that ONNX is to work out.
    """
    weight = np.asarray(values[node.input[1]], np.float32)
    has_bias = len(node.input) > 2 and node.input[2]
    bias = np.asarray(values[node.input[2]], np.float32) if has_bias else None
    options = attributes(node)
    if node.op_type == "Gemm":
        weight = weight.T if options.get("transB") else weight
        weight = weight * np.float32(options.get("alpha", 1.0))
        if bias is not None:
            scaled = bias * np.float32(options.get("beta", 1.0))
            bias = np.broadcast_to(scaled, (1, weight.shape[1]))[0]
    convolution = node.op_type in ("Conv", "ConvTranspose")
    return int8_layer(
        weight,
        input_scale,
        output_scale,
        bias,
        kind=WEIGHTED[node.op_type].kernel,
        low=bounds[0],
        high=bounds[1],
        **(_geometry(node, options, weight.ndim - 2) if convolution else {}),
    )


def _geometry(node: onnx.NodeProto, options: Mapping[str, Any], rank: int) -> dict[str, Any]:
    """A convolution's strides, pads, dilations, groups and output padding."""
    if options.get("auto_pad", b"NOTSET") != b"NOTSET" or "output_shape" in options:
        problem = f"{node.name!r} leaves its padding to ONNX (auto_pad)"
        raise ModelError(problem, "export the model with explicit pads")
    geometry: dict[str, Any] = {
        "strides": tuple(options.get("strides", [1] * rank)),
        "pads": tuple(options.get("pads", [0] * 2 * rank)),
        "dilations": tuple(options.get("dilations", [1] * rank)),
        "groups": int(options.get("group", 1)),
    }
    if node.op_type == "ConvTranspose":
        geometry["output_padding"] = tuple(options.get("output_padding", [0] * rank))
    return geometry


def _pool(node: onnx.NodeProto, x: Array) -> Array | None:
    """MaxPool, AveragePool or GlobalAveragePool; None for attributes that need onnx's reference."""
    space = tuple(range(2 - x.ndim, 0))
    if node.op_type == "GlobalAveragePool":
        return np.asarray(x.mean(axis=space, keepdims=True, dtype=np.float32))
    options = attributes(node)
    automatic = options.get("auto_pad", b"NOTSET") != b"NOTSET"
    if automatic or options.get("ceil_mode") or len(node.output) > 1:
        return None
    kernel = options["kernel_shape"]

    def seen(array: Array, fill: float = 0) -> Array:
        strides, pads, dilations = map(options.get, ("strides", "pads", "dilations"))
        return windows(array, kernel, strides, pads, dilations, fill)

    if node.op_type == "MaxPool":
        return np.asarray(seen(x, fill=-np.inf).max(axis=space))
    total = seen(x).sum(axis=space, dtype=np.float32)
    if options.get("count_include_pad"):
        return np.asarray(total / np.float32(np.prod(kernel)), np.float32)
    counts = seen(np.ones_like(x)).sum(axis=space, dtype=np.float32)
    return np.asarray(total / counts, np.float32)
