"""Which ONNX nodes TensorRT computes as one INT8 layer: by rule, or read off a built engine."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ..engine.records import EngineInfo
    from ..model.describe import OnnxModel, OnnxNode

__all__ = [
    "ACTIVATIONS",
    "KEEPS_SCALE",
    "MOVES",
    "POINTWISE",
    "PRODUCTS",
    "engine_groups",
    "float_tensors",
    "fused_groups",
]

PRODUCTS = {"Conv": "conv", "ConvTranspose": "deconv", "Gemm": "matmul", "MatMul": "matmul"}
"""ONNX operators whose INT8 kernels multiply codes -> the kind of Int8Layer."""
ACTIVATIONS = ("Relu", "Clip")
"""Activations that the kernel applies as bounds, before it rounds."""
POINTWISE = (*ACTIVATIONS, "LeakyRelu", "Sigmoid")
"""Activations that a convolution's kernel computes in float32, before it rounds (measured, one-layer engines)."""
MOVES = ("Flatten", "Reshape", "Squeeze", "Unsqueeze", "Identity", "Transpose")
"""Operators that only move numbers: what leaves them is as it came, in scale and type."""
KEEPS_SCALE = ("MaxPool", *MOVES)
"""Operators that pick or move codes: their output has its input's scale (MaxPool's: where it has none of its own)."""

Groups = tuple[tuple[str, ...], ...]


def node_key(node: OnnxNode) -> str:
    """What a group calls a node: its name, or its first output where the file gives it none."""
    return node.name or node.outputs[0]


def fused_groups(model: OnnxModel) -> Groups:
    """The names of the nodes of each layer, in order, as TensorRT 8.6 fuses an INT8 network without Q/DQ.

    A convolution, deconvolution or matrix product takes the Add that alone reads its result (of two products that an
    Add joins, the later one takes it), and a convolution or deconvolution the ReLU, Clip, LeakyRelu or Sigmoid that
    alone reads that. Every other node stands alone. Which of two products takes the Add was not the same in every build
    of the same network: give engine_groups of a built engine where there is one.

    >>> from trtlearn.model.course_data import model_path
    >>> from trtlearn.model.describe import read_model
    >>> [group for group in fused_groups(read_model(model_path("resnet"))) if len(group) == 3]
    [('b0_conv2', 'b0_add', 'b0_relu2'), ('b1_proj', 'b1_add', 'b1_relu2'), ('b2_conv2', 'b2_add', 'b2_relu2')]

    Source: measured: the builder's log of both models ("ConvEltwiseSumFusion: Fusing b1_proj with b1_add",
    "ConvReluFusion", "ConvPointWiseClipFusion") and the inspector's fusion, data/recordings/; trtexec's build of the
    same network said b1_conv2 instead.
    """
    results = {value.name for value in model.outputs}
    order = {node_key(node): index for index, node in enumerate(model.nodes)}
    taken: dict[str, str] = {}  # node -> the first node of its group
    for node in model.nodes:
        if node.op in PRODUCTS:
            taken[node_key(node)] = node_key(node)

    def only_reader(node: OnnxNode) -> OnnxNode | None:
        readers = model.consumers_of(node.outputs[0])
        return readers[0] if len(readers) == 1 and node.outputs[0] not in results else None

    for node in model.nodes:
        if node.op not in PRODUCTS:
            continue
        reader, last = only_reader(node), node
        if reader is not None and reader.op == "Add" and len(set(reader.inputs)) == 2:
            makers = [model.producer_of(name) for name in reader.inputs]
            rivals = [
                m
                for m in makers
                if m is not None and m.op in PRODUCTS and only_reader(m) is not None
            ]
            if all(order[node_key(rival)] <= order[node_key(node)] for rival in rivals):
                taken[node_key(reader)] = node_key(node)
                last, reader = reader, only_reader(reader)
        fuses = reader is not None and reader.op in POINTWISE and PRODUCTS[node.op] != "matmul"
        if reader is not None and fuses and last.outputs[0] in reader.inputs:
            taken[node_key(reader)] = node_key(node)
    groups: dict[str, list[str]] = {}
    for node in model.nodes:
        groups.setdefault(taken.get(node_key(node), node_key(node)), []).append(node_key(node))
    return tuple(tuple(group) for group in groups.values())


def engine_groups(model: OnnxModel, engine: EngineInfo) -> Groups:
    """The nodes of each engine layer, as the inspector names them; nodes that it does not name stand alone."""
    order = {node_key(node): index for index, node in enumerate(model.nodes)}
    found: list[tuple[str, ...]] = []
    seen: set[str] = set()
    for layer in engine.layers:
        group = sorted(
            (name for name in layer.onnx_nodes if name in order and name not in seen),
            key=order.__getitem__,
        )
        seen.update(group)
        if group:
            found.append(tuple(group))
    found += [(name,) for name in order if name not in seen]
    return tuple(sorted(found, key=lambda group: order[group[-1]]))


def float_tensors(model: OnnxModel, engine: EngineInfo) -> tuple[str, ...]:
    """Tensors of the ONNX model that the engine holds in FP32 or FP16, and never in INT8.

    A tensor that a reformat makes INT8 for its reader (the image, say) is not among them.
    """
    eight: set[str] = set()
    more: set[str] = set()
    for layer in engine.layers:
        for tensor in (*layer.inputs, *layer.outputs):
            (eight if tensor.dtype == "int8" else more).add(tensor.name)
        if layer.is_reformat and any(tensor.dtype == "int8" for tensor in layer.outputs):
            eight.update(tensor.name for tensor in layer.inputs)
    return tuple(name for name in model.tensors if name in more and name not in eight)


def check_groups(model: OnnxModel, groups: Sequence[Sequence[str]]) -> list[str]:
    """The names in ``groups`` that the model has not, and its nodes that no group or more than one holds."""
    flat = [name for group in groups for name in group]
    names = [node_key(node) for node in model.nodes]
    return sorted(
        {name for name in flat if name not in names}
        | {name for name in names if flat.count(name) != 1}
    )
