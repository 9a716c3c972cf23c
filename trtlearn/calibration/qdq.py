"""Explicit quantization: a model with Q/DQ pairs made from our own scales, so that TensorRT fuses.

Where they go is planned first; then they are put in.

The rule, for each node of the ONNX graph:

- Conv, ConvTranspose, Gemm, MatMul: Q/DQ on each activation input, per-channel Q/DQ on the weights.
  A node runs in INT8 only when all of these are there.
- Add of two activations: a branch that comes out of a Conv nobody else reads stays as it is
  (TensorRT adds inside that convolution), the other branch (the shortcut) gets Q/DQ.
- AveragePool and GlobalAveragePool: Q/DQ on the input.
- MaxPool, Concat, Reshape, Transpose and the like only move values: their inputs get no Q/DQ of
  their own; the pair in front of the next convolution serves them, and TensorRT moves it back.
- Nothing behind the last layer: network outputs stay FP32.

One pair per tensor, shared by all its readers. Source: NVIDIA TensorRT documentation 10.x, "Working
with Quantized Types", Q/DQ layer-placement recommendations; what each placement gave is measured in
notebook 08.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from ..errors import DataError, ModelError, first_line
from ..int8.quant import quantize, weight_scales
from ..model.fold import named, prepared
from ..model.graph import (
    Graph,
    all_graphs,
    attributes,
    judge_quantization,
    node_key,
    read_names,
    without_large_constants,
)
from ..model.operators import AVERAGE_POOLS, ONNX_DOMAINS, PASS_VALUES, WEIGHTED
from ..model.read import load_proto, serialized
from ..record import Record, plural
from .ranges import Scales, scales_by_tensor

if TYPE_CHECKING:
    import onnx

__all__ = [
    "PLACEMENTS",
    "QdqReport",
    "QdqSite",
    "insert_pairs",
    "insert_qdq",
    "plan_sites",
    "scales_as_inputs",
]

PLACEMENTS = ("tensorrt", "no-shortcut", "conv-outputs", "everywhere")
"""The right placement, and three wrong ones whose cost notebook 08 measures."""
SUFFIXES = ("_q", "_dq", "_scale", "_zero_point")
"""What the tensors of a pair are called, behind the pair's name."""


def is_weighted(node: onnx.NodeProto) -> bool:
    """Whether a node is one of ONNX's own operators with weights, no other domain's."""
    return node.op_type in WEIGHTED and node.domain in ONNX_DOMAINS


def weight_axis(node: onnx.NodeProto) -> int | None:
    """The axis of the weights' output channels; None for a grouped ConvTranspose: one scale."""
    options = attributes(node)
    if node.op_type == "ConvTranspose" and options.get("group", 1) > 1:
        return None
    is_transposed = node.op_type == "Gemm" and options.get("transB")
    return 0 if is_transposed else WEIGHTED[node.op_type].channel_axis


class QdqGraph(Graph):
    """The ONNX graph with what placement needs it: which Add fuses into what, which scale fits."""

    def activations(self, node: onnx.NodeProto) -> list[str]:
        """The node's inputs that are no constants."""
        return [tensor for tensor in node.input if tensor and tensor not in self.constants]

    def fusing_conv(self, tensor: str) -> onnx.NodeProto | None:
        """The convolution that makes ``tensor`` for one reader only: an Add fuses into it."""
        maker = self.producer.get(tensor)
        if maker is None or len(self.readers[tensor]) > 1 or tensor in self.outputs:
            return None
        if maker.op_type == "BatchNormalization":
            return self.fusing_conv(maker.input[0])
        return maker if maker.op_type == "Conv" else None

    def fused_branch(self, add: onnx.NodeProto) -> tuple[str, onnx.NodeProto] | None:
        """The input of an Add whose convolution it fuses into, with that convolution."""
        for tensor in reversed(self.activations(add)):
            convolution = self.fusing_conv(tensor)
            if convolution is not None:
                return tensor, convolution
        return None

    def scale_of(self, tensor: str, scales: Mapping[str, float]) -> str | None:
        """The tensor whose scale ``tensor`` takes: itself, or one whose values reach it unchanged.

        A Concat without a scale of its own takes the largest of its inputs', which holds the values
        of all.
        """
        while tensor not in scales:
            maker = self.producer.get(tensor)
            if maker is not None and maker.op_type == "Concat":
                parts = [self.scale_of(name, scales) for name in self.activations(maker)]
                known = [part for part in parts if part is not None]
                if not known or len(known) < len(parts):
                    return None
                return max(known, key=lambda part: scales[part])
            if maker is None or maker.op_type not in PASS_VALUES or not maker.input:
                return None
            tensor = maker.input[0]
        return tensor


@dataclass(frozen=True)
class QdqSite(Record):
    """One Q/DQ pair to insert: on which tensor, with which scale, read by which nodes."""

    tensor: str
    scale: float | None  # None for weights: one scale per output channel, see ``channel_scales``
    readers: tuple[str, ...]
    kind: str = "activation"  # activation, weights
    channel_scales: tuple[float, ...] = ()
    scale_of: str = ""  # the tensor whose scale this is, where another's is passed on (MaxPool, …)


@dataclass(frozen=True)
class QdqReport(Record):
    """What was inserted, which nodes stay in floating point and why."""

    sites: tuple[QdqSite, ...]
    quantized_nodes: tuple[str, ...]
    float_nodes: dict[str, str]  # node -> reason
    unused_scales: tuple[str, ...]  # given, but no Q/DQ pair needs them
    placement: str = "tensorrt"

    @property
    def places(self) -> tuple[tuple[str, tuple[str, ...]], ...]:
        """Where the pairs stand: each one's tensor and the nodes that read it."""
        return tuple((site.tensor, site.readers) for site in self.sites)

    def why_none(self, model: onnx.ModelProto) -> str:
        """Where no node is quantized: why, in a few words."""
        if self.float_nodes:
            return "; ".join(f"{name}: {why}" for name, why in list(self.float_nodes.items())[:3])
        inside = [node for graph in list(all_graphs(model))[1:] for node in graph.node]
        inside += [node for function in model.functions for node in function.node]
        if any(map(is_weighted, inside)):
            return (
                "its layers stand inside an If, a Loop or a function, "
                "and only those of the main graph get Q/DQ"
            )
        return "it has no Conv, Gemm or MatMul"

    def summary(self) -> str:
        kinds = [site.kind for site in self.sites]
        return (
            f"{plural(kinds.count('activation'), 'activation')} and "
            f"{plural(kinds.count('weights'), 'weight')} with Q/DQ, "
            f"{plural(len(self.quantized_nodes), 'node')} quantized, "
            f"{len(self.float_nodes)} left in floating point"
        )

    def rows(self) -> list[dict[str, Any]]:
        return [
            {
                "tensor": site.tensor,
                "kind": site.kind,
                "scale": site.scale or plural(len(site.channel_scales), "channel"),
                "read by": site.readers,
            }
            for site in self.sites
        ]


def plan_sites(
    model: onnx.ModelProto,
    scales: Mapping[str, float],
    placement: str = "tensorrt",
    skip: Iterable[str] = (),
) -> QdqReport:
    """Where Q/DQ pairs go, without changing the model.

    ``scales`` maps a tensor's name to its scale (amax / 127); a weighted node one of whose inputs
    has no scale is left in floating point, and the report says which scale was missing. ``skip``
    names nodes to leave out. Raises ModelError for an unknown placement or node, and a model with
    Q/DQ.
    """
    if placement not in PLACEMENTS:
        raise ModelError(f"unknown placement {placement!r}", f"one of {', '.join(PLACEMENTS)}")
    names = [node.name for node in model.graph.node]
    is_named = all(names) and len(set(names)) == len(names)
    graph, skipped = QdqGraph(model if is_named else named(model)), set(skip)
    quantization = judge_quantization(model)
    if quantization.refused:
        raise ModelError(*quantization.why_not_again())
    if quantization.has_qdq:
        raise ModelError(
            "the model already has Q/DQ nodes", "give the model from before quantization"
        )
    if unknown := skipped.difference(map(node_key, graph.nodes)):
        problem = f"no node {min(unknown)!r} to leave out"
        raise ModelError(problem, f"name nodes such as {', '.join(map(node_key, graph.nodes[:5]))}")
    float_nodes: dict[str, str] = {}
    quantized: list[onnx.NodeProto] = []
    for node in filter(is_weighted, graph.nodes):
        name = node_key(node)
        reason = "left out on request" if name in skipped else _why_float(graph, node, scales)
        if reason:
            float_nodes[name] = reason
        else:
            quantized.append(node)
    in_float = skipped | set(float_nodes)
    in_float |= _adds_in_float(graph, in_float)
    sites = []
    for tensor, readers in _readers_with_qdq(graph, placement).items():
        active = tuple(reader for reader in readers if reader not in in_float)
        source = graph.scale_of(tensor, scales)
        if active and source is not None:
            scale = float(np.float32(scales[source]))
            if not 0 < scale < np.inf:
                what = f"the scale of {source!r} is {scales[source]}, expected a float32 above 0"
                raise DataError(what, "give amax / 127, or leave the tensor out")
            sites.append(
                QdqSite(tensor, scale, active, scale_of="" if source == tensor else source)
            )
    used = {site.scale_of or site.tensor for site in sites}
    for node in quantized:
        weights = [tensor for tensor in node.input[:2] if tensor in graph.constants]
        sites += [_weights_site(graph, node, tensor) for tensor in weights]
        used.update(weights)
    return QdqReport(
        sites=tuple(sites),
        quantized_nodes=tuple(map(node_key, quantized)),
        float_nodes=float_nodes,
        unused_scales=tuple(name for name in scales if name not in used),
        placement=placement,
    )


def _why_float(graph: QdqGraph, node: onnx.NodeProto, scales: Mapping[str, float]) -> str | None:
    """Why a weighted node cannot run in INT8; None where it can."""
    data = [tensor for tensor in node.input[:2] if tensor not in graph.constants]
    if not data:
        return "all its inputs are constants"
    if missing := [tensor for tensor in data if graph.scale_of(tensor, scales) is None]:
        return f"no scale for {', '.join(missing)}"
    for tensor in node.input[:2]:
        stored = graph.constants.get(tensor)
        if stored is None:
            continue
        is_right_matrix = len(stored.dims) == 2 and tensor == node.input[1]
        if stored.data_type != 1:
            fault = "are not FP32"
        elif node.op_type in ("MatMul", "Gemm") and not is_right_matrix:
            fault = "are no matrix on the right-hand side"
        elif 0 in stored.dims:
            fault = "are empty"
        elif not np.isfinite(graph.array(tensor)).all():
            fault = "hold NaN or infinity"
        else:
            continue
        return f"its weights {tensor} {fault}"
    return None


def _adds_in_float(graph: QdqGraph, in_float: set[str]) -> set[str]:
    """The Adds that fuse into a convolution that stays in floating point."""
    names = set()
    for node in graph.nodes:
        branch = graph.fused_branch(node) if node.op_type == "Add" else None
        if branch is not None and node_key(branch[1]) in in_float:
            names.add(node_key(node))
    return names


def _readers_with_qdq(graph: QdqGraph, placement: str) -> dict[str, list[str]]:
    """Tensor -> the nodes that shall read it through Q/DQ, in graph order."""
    readers: dict[str, list[str]] = {}
    for node in graph.nodes:
        for tensor in _inputs_with_qdq(graph, node, placement):
            if tensor and tensor not in graph.constants:
                readers.setdefault(tensor, []).append(node_key(node))
        if placement == "conv-outputs" and node.op_type == "Conv":
            for reader in graph.readers.get(node.output[0], []):
                readers.setdefault(node.output[0], []).append(node_key(reader))
    return readers


def _inputs_with_qdq(graph: QdqGraph, node: onnx.NodeProto, placement: str) -> list[str]:
    """The inputs that a node shall read through Q/DQ, by the rule at the top of this file."""
    if placement == "everywhere":
        return list(node.input)
    if is_weighted(node):
        return list(node.input[:2])
    if node.op_type in AVERAGE_POOLS:
        return [node.input[0]]
    if node.op_type == "Add" and placement != "no-shortcut":
        branches, fused = graph.activations(node), graph.fused_branch(node)
        if fused is not None and len(branches) == 2:  # any other Add stays in floating point
            return [next((tensor for tensor in branches if tensor != fused[0]), fused[0])]
    return []


def _weights_site(graph: QdqGraph, node: onnx.NodeProto, tensor: str) -> QdqSite:
    """The pair on a node's weights: a scale for each output channel."""
    array, axis = graph.array(tensor), weight_axis(node)
    scales = weight_scales(array.reshape(1, -1)) if axis is None else weight_scales(array, axis)
    scales[scales < np.finfo(np.float32).tiny] = 1  # any scale keeps a channel of zeros exactly
    return QdqSite(tensor, None, (node_key(node),), "weights", tuple(scales.tolist()))


# The pairs put in


def insert_qdq(
    model: str | os.PathLike[str] | bytes | onnx.ModelProto,
    scales: Scales,
    placement: str = "tensorrt",
    skip: Iterable[str] = (),
    int8_weights: bool = False,
    copy: bool = True,
) -> tuple[onnx.ModelProto, QdqReport]:
    """A copy of ``model`` with Q/DQ pairs, and the report of what was inserted.

    Args:
        model: an ONNX file, its bytes, or a loaded model (which stays as it is).
        scales: a calibration cache or its file, {tensor: scale} (amax / 127, above 0), a Build or
            what set_ranges reports; weights need none: theirs are computed, one per output channel.
        placement: "tensorrt", or one of PLACEMENTS to see what another costs.
        skip: the names of nodes to leave in floating point.
        int8_weights: store weights as INT8 in front of a DequantizeLinear alone, a quarter of the
            size; otherwise they stay FP32 in front of a Q/DQ pair, which every TensorRT from 8.0
            folds at build time.
        copy: False where a loaded model may be changed itself, to spare memory.

    Returns:
        the changed model (opset 13 or later), and a QdqReport: the pairs, the nodes that can run in
        INT8, and why each of the others cannot.

    Raises ModelError for a model that cannot be read, that has Q/DQ already, or an unknown
    placement; DataError for a scale in use that is not above 0.

    >>> from trtlearn.model.course_data import model_path
    >>> changed, report = insert_qdq(model_path("resnet"), {"image": 0.02, "pool": 0.03})
    >>> report.quantized_nodes, report.float_nodes["logits"]
    (('stem', 'b0_conv1'), 'no scale for flatten')

    Source: NVIDIA TensorRT documentation 10.x, "Working with Quantized Types".
    """
    is_ours = isinstance(model, (str, os.PathLike, bytes))
    original = load_proto(model) if isinstance(model, (str, os.PathLike, bytes)) else model
    before = without_large_constants(original)
    result = prepared(original, copy and not is_ours)
    report = plan_sites(result, scales_by_tensor(scales), placement, skip)
    insert_pairs(result, report, int8_weights)
    fault = _fault(without_large_constants(result))
    if fault and not _fault(before):  # a model's own faults are left to its maker
        raise ModelError(
            f"the model with Q/DQ is not valid ONNX: {fault}", "please report it with the model"
        )
    return result, report


def insert_pairs(model: onnx.ModelProto, report: QdqReport, int8_weights: bool = False) -> None:
    """Put the pairs of ``report`` into ``model`` itself, for which it was planned."""
    graph = Graph(model)
    taken = {*graph.producer, *graph.constants, *read_names(model)}
    taken |= {value.name for value in model.graph.input}
    nodes = {node_key(node): node for node in graph.nodes}
    in_front: dict[str, list[onnx.NodeProto]] = {}  # reader -> the pairs that it needs
    for site in report.sites:
        readers = [nodes[name] for name in site.readers]
        name = _free_name(site, graph, taken)
        pair = _pair(site, name, graph, readers[0], model, int8_weights)
        in_front.setdefault(site.readers[0], []).extend(pair)
        for reader in readers:
            inputs = [f"{name}_dq" if tensor == site.tensor else tensor for tensor in reader.input]
            reader.input[:] = inputs
    ordered: list[onnx.NodeProto] = []
    for node in model.graph.node:
        ordered += [*in_front.get(node_key(node), ()), node]
    del model.graph.node[:]
    model.graph.node.extend(ordered)
    _drop_unread(model)


def scales_as_inputs(model: onnx.ModelProto, plan: QdqReport) -> dict[str, str]:
    """Make the activations' scales of a model with this plan's pairs inputs: tensor -> the input's
    name.
    """
    from onnx import helper

    stored = {tensor.name: at for at, tensor in enumerate(model.graph.initializer)}
    pairs = [node.input for node in model.graph.node if node.op_type == "QuantizeLinear"]
    activations = {site.tensor for site in plan.sites if site.kind == "activation"}
    names = {tensor: scale for tensor, scale, _ in pairs if tensor in activations}
    for name in sorted(names.values(), key=stored.__getitem__, reverse=True):
        del model.graph.initializer[stored[name]]
        model.graph.input.append(helper.make_tensor_value_info(name, 1, []))
    return names


def _pair(
    site: QdqSite,
    name: str,
    graph: Graph,
    reader: onnx.NodeProto,
    model: onnx.ModelProto,
    int8_weights: bool,
) -> list[onnx.NodeProto]:
    """The nodes of one pair; its constants are added to the model."""
    from onnx import helper, numpy_helper

    def store(array: np.ndarray[Any, Any], suffix: str) -> None:
        model.graph.initializer.append(numpy_helper.from_array(array, f"{name}{suffix}"))

    scale: float | tuple[float, ...] | None = site.scale
    options: dict[str, Any] = {}
    if site.kind == "weights":
        axis = weight_axis(reader)
        scale = site.channel_scales[0] if axis is None else site.channel_scales
        if axis is not None:
            options["axis"] = axis % len(graph.constants[site.tensor].dims)
    steps = np.asarray(scale, np.float32)
    store(steps, "_scale")
    store(np.zeros(steps.shape, np.int8), "_zero_point")

    def node(operator: str, source: str, result: str, title: str) -> onnx.NodeProto:
        inputs = [source, f"{name}_scale", f"{name}_zero_point"]
        return helper.make_node(operator, inputs, [result], title, **options)

    back = node("DequantizeLinear", f"{name}_q", f"{name}_dq", f"{name}_dequantize")
    if site.kind == "weights" and int8_weights:
        store(quantize(graph.array(site.tensor), steps, axis=options.get("axis"), qmin=-127), "_q")
        return [back]
    return [node("QuantizeLinear", site.tensor, f"{name}_q", f"{name}_quantize"), back]


def _free_name(site: QdqSite, graph: Graph, taken: set[str]) -> str:
    """A name for the pair whose tensors clash with none of the graph: ``name``, ``name_2`` …

    Weights that several nodes read get a pair for each of them, under a name of its own.
    """
    shared = site.kind == "weights" and len(graph.readers[site.tensor]) > 1
    name = f"{site.tensor}_{'_'.join(site.readers)}" if shared else site.tensor
    number, candidate = 1, name
    while any(f"{candidate}{suffix}" in taken for suffix in SUFFIXES):
        number += 1
        candidate = f"{name}_{number}"
    taken.update(f"{candidate}{suffix}" for suffix in SUFFIXES)
    return candidate


def _fault(model: onnx.ModelProto) -> str:
    """What onnx's checker says against a model in one line; empty where nothing."""
    import onnx

    content = serialized(model)
    try:
        onnx.checker.check_model(content)
    except (onnx.checker.ValidationError, ValueError) as problem:
        return first_line(problem)[:200]
    return ""


def _drop_unread(model: onnx.ModelProto) -> None:
    """Remove the initializers that nothing reads any more (the FP32 twin of INT8 weights)."""
    read = set(read_names(model))
    stored = model.graph.initializer
    for index in reversed(range(len(stored))):
        if stored[index].name not in read:
            del stored[index]
