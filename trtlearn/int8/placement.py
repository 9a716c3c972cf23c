"""Where QuantizeLinear/DequantizeLinear pairs belong, so that TensorRT fuses them: planned, nothing changed.

The rule, for each node of the ONNX graph:

- Conv, ConvTranspose, Gemm, MatMul: Q/DQ on each activation input, per-channel Q/DQ on the weights. A node runs in
  INT8 only when all of these are there.
- Add of two activations: a branch that comes out of a Conv nobody else reads stays as it is (TensorRT adds
  inside that convolution), the other branch (the shortcut) gets Q/DQ.
- AveragePool and GlobalAveragePool: Q/DQ on the input.
- MaxPool, Concat, Reshape, Transpose and the like only move values: their inputs get no Q/DQ of their own; the pair
  in front of the next convolution serves them, and TensorRT moves it back over them.
- Nothing behind the last layer: network outputs stay FP32.

One pair per tensor, shared by all its readers. Source: NVIDIA TensorRT documentation 10.x, "Working with
Quantized Types", Q/DQ layer-placement recommendations; what each placement gave is measured in notebook 08.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from ..errors import ModelError
from ..model.fold import named
from ..model.graph import Graph, all_graphs, attributes, node_key
from ..model.operators import AVERAGE_POOLS, ONNX_DOMAINS, PASS_VALUES, QDQ, WEIGHTED
from ..record import Record, plural
from .quant import weight_scales

if TYPE_CHECKING:
    import onnx

__all__ = [
    "PLACEMENTS",
    "QdqGraph",
    "QdqReport",
    "QdqSite",
    "plan_sites",
    "weight_axis",
]


# --- The ONNX graph as the placement of Q/DQ asks of it: who makes and who reads a tensor, and whose scale it can take.


class QdqGraph(Graph):
    """The ONNX graph with what insertion asks of it: which Add fuses into what, whose scale fits."""

    def adds_inside(self, tensor: str) -> bool:
        """Whether ``tensor`` comes out of a convolution that only one node reads, so that an Add fuses into it."""
        maker = self.producer.get(tensor)
        if maker is None or len(self.readers[tensor]) > 1 or tensor in self.outputs:
            return False
        if maker.op_type == "BatchNormalization":
            return self.adds_inside(maker.input[0])
        return bool(maker.op_type == "Conv")

    def branches(self, add: onnx.NodeProto) -> tuple[list[str], list[str]]:
        """The activations that an Add adds, and of these the one (at most) whose convolution it fuses into."""
        tensors = [tensor for tensor in add.input if tensor not in self.constants]
        return tensors, [tensor for tensor in tensors if self.adds_inside(tensor)][-1:]

    def fused_into(self, add: onnx.NodeProto) -> set[str]:
        """The name of the convolution that an Add fuses into, if any."""
        makers = [self.producer[tensor] for tensor in self.branches(add)[1]]
        return {
            node_key(self.producer[m.input[0]] if m.op_type == "BatchNormalization" else m)
            for m in makers
        }

    def scale_of(self, tensor: str, scales: Mapping[str, float]) -> str | None:
        """The tensor whose scale ``tensor`` takes: itself, the one whose values reach it unchanged, or the widest part.

        A Concat without a scale of its own takes the largest of its inputs', which holds the values of all.
        """
        while tensor not in scales:
            maker = self.producer.get(tensor)
            if maker is not None and maker.op_type == "Concat":
                parts = [
                    self.scale_of(name, scales)
                    for name in maker.input
                    if name not in self.constants
                ]
                known = [part for part in parts if part is not None]
                return (
                    max(known, key=lambda part: scales[part])
                    if known and len(known) == len(parts)
                    else None
                )
            if maker is None or maker.op_type not in PASS_VALUES or not maker.input:
                return None
            tensor = maker.input[0]
        return tensor


# --- Where QuantizeLinear/DequantizeLinear pairs belong, so that TensorRT fuses them: planned, nothing changed.

PLACEMENTS = ("tensorrt", "no-shortcut", "conv-outputs", "everywhere")
"""The right placement, and three wrong ones whose cost notebook 08 measures."""


@dataclass(frozen=True)
class QdqSite(Record):
    """One Q/DQ pair: on which tensor, with which scale, read by which nodes."""

    tensor: str
    scale: float | None  # None for weights: one scale per output channel, see ``channel_scales``
    readers: tuple[str, ...]
    kind: str = "activation"  # activation, weights
    channel_scales: tuple[float, ...] = ()
    scale_of: str = ""  # the tensor whose scale this is, where it is another's passed on (MaxPool, Reshape, ...)


@dataclass(frozen=True)
class QdqReport(Record):
    """What was inserted, which nodes stay in floating point and why."""

    sites: tuple[QdqSite, ...]
    quantized_nodes: tuple[str, ...]
    float_nodes: dict[str, str]  # node -> reason
    unused_scales: tuple[str, ...]  # given, but no Q/DQ pair needs them
    placement: str = "tensorrt"

    def why_none(self, model: onnx.ModelProto) -> str:
        """Where no node is quantized: why, in a few words."""
        if self.float_nodes:
            return "; ".join(f"{name}: {why}" for name, why in list(self.float_nodes.items())[:3])
        inside = [node for graph in list(all_graphs(model))[1:] for node in graph.node]
        inside += [node for function in model.functions for node in function.node]
        if any(map(_is_weighted, inside)):
            return "its layers stand inside an If, a Loop or a function, and only those of the main graph get Q/DQ"
        return "it has no Conv, Gemm or MatMul"

    def summary(self) -> str:
        kinds = [site.kind for site in self.sites]
        return (
            f"{plural(kinds.count('activation'), 'activation')} and "
            f"{plural(kinds.count('weights'), 'weight')} with Q/DQ, "
            f"{plural(len(self.quantized_nodes), 'node')} quantized, {len(self.float_nodes)} left in floating point"
        )

    def rows(self) -> list[dict[str, Any]]:
        return [
            {
                "tensor": s.tensor,
                "kind": s.kind,
                "scale": plural(len(s.channel_scales), "channel")
                if s.kind == "weights"
                else s.scale,
                "read by": s.readers,
            }
            for s in self.sites
        ]


def _is_weighted(node: onnx.NodeProto) -> bool:
    """Whether a node is one of ONNX's own operators with weights: a "Conv" of another domain may be anything."""
    return node.op_type in WEIGHTED and node.domain in ONNX_DOMAINS


def weight_axis(node: onnx.NodeProto) -> int | None:
    """The axis of the weights' output channels; None where one scale for all must do (a grouped ConvTranspose)."""
    options = attributes(node)
    if node.op_type == "ConvTranspose" and options.get("group", 1) > 1:
        return None
    if node.op_type == "Gemm" and options.get("transB"):
        return 0
    return WEIGHTED[node.op_type].channel_axis


def _why_float(graph: QdqGraph, node: onnx.NodeProto, scales: Mapping[str, float]) -> str | None:
    """Why a weighted node cannot run in INT8; None where it can."""
    data = [tensor for tensor in node.input[:2] if tensor not in graph.constants]
    missing = [tensor for tensor in data if graph.scale_of(tensor, scales) is None]
    if not data:
        return "all its inputs are constants"
    if missing:
        return f"no scale for {', '.join(missing)}"
    for tensor in node.input[:2]:
        if tensor in graph.constants:
            stored = graph.constants[tensor]
            if stored.data_type != 1:
                return f"its weights {tensor} are not FP32"
            if node.op_type in ("MatMul", "Gemm") and (
                len(stored.dims) != 2 or tensor == node.input[0]
            ):
                return f"its weights {tensor} are no matrix on the right-hand side"
            if 0 in stored.dims:
                return f"its weights {tensor} are empty"
            if not np.isfinite(graph.array(tensor)).all():
                return f"its weights {tensor} hold NaN or infinity"
    return None


def _wanted(graph: QdqGraph, placement: str) -> dict[str, list[str]]:
    """Tensor -> the nodes that shall read it through Q/DQ, in graph order."""
    wanted: dict[str, list[str]] = {}

    def want(tensor: str, node: onnx.NodeProto) -> None:
        if tensor and tensor not in graph.constants:
            wanted.setdefault(tensor, []).append(node_key(node))

    for node in graph.nodes:
        if placement == "everywhere":
            for tensor in node.input:
                want(tensor, node)
        elif _is_weighted(node):
            for tensor in node.input[:2]:
                want(tensor, node)
        elif node.op_type in AVERAGE_POOLS:
            want(node.input[0], node)
        elif node.op_type == "Add" and placement != "no-shortcut":
            branches, fused = graph.branches(node)
            if (
                fused and len(branches) == 2
            ):  # an Add with no convolution to fuse into stays in floating point
                want(next((tensor for tensor in branches if tensor not in fused), fused[0]), node)
        if placement == "conv-outputs" and node.op_type == "Conv":
            for reader in graph.readers.get(node.output[0], []):
                want(node.output[0], reader)
    return wanted


def plan_sites(
    model: onnx.ModelProto,
    scales: Mapping[str, float],
    placement: str = "tensorrt",
    skip: Iterable[str] = (),
) -> QdqReport:
    """Where Q/DQ pairs go, without changing the model.

    ``scales`` maps a tensor's name to its scale (amax / 127); a weighted node one of whose inputs has no scale is
    left in floating point, and the report says which scale was missing. ``skip`` names nodes to leave out.
    """
    if placement not in PLACEMENTS:
        raise ModelError(f"unknown placement {placement!r}", f"one of {', '.join(PLACEMENTS)}")
    graph, left_out = QdqGraph(named(model)), set(skip)
    if any(node.op_type in QDQ for node in graph.nodes):
        raise ModelError(
            "the model already has Q/DQ nodes", "give the model from before quantization"
        )
    wanted = _wanted(graph, placement)
    float_nodes, quantized, weights = {}, [], []
    for node in graph.nodes:
        name = node_key(node)
        if not _is_weighted(node):
            continue
        reason = "left out on request" if name in left_out else _why_float(graph, node, scales)
        if reason:
            float_nodes[name] = reason
        else:
            quantized.append(name)
            weights += [(tensor, node) for tensor in node.input[:2] if tensor in graph.constants]
    idle = left_out | set(float_nodes)
    idle |= {
        node_key(node)
        for node in graph.nodes
        if node.op_type == "Add" and graph.fused_into(node) & idle
    }
    sites = []
    for tensor, readers in wanted.items():
        active = tuple(reader for reader in readers if reader not in idle)
        source = graph.scale_of(tensor, scales)
        if active and source is not None:
            scale = float(np.float32(scales[source]))
            sites.append(
                QdqSite(tensor, scale, active, scale_of="" if source == tensor else source)
            )
    for tensor, node in weights:
        array, axis = graph.array(tensor), weight_axis(node)
        per_channel = weight_scales(array.reshape(1, -1) if axis is None else array, axis=axis or 0)
        per_channel[per_channel < np.finfo(np.float32).tiny] = (
            1  # a channel of zeros: any scale keeps it exactly
        )
        sites.append(
            QdqSite(tensor, None, (node_key(node),), "weights", tuple(map(float, per_channel)))
        )
    used = {site.scale_of or site.tensor for site in sites}
    return QdqReport(
        tuple(sites),
        tuple(quantized),
        float_nodes,
        tuple(name for name in scales if name not in used),
        placement,
    )
