"""A network cut into pieces that ONNX Runtime runs one after the other.

All activations of a batch at once take memory by the network's size; a piece after the other takes
as much as one piece. The same kernels see the same values, so every activation is the same to the
last bit.
"""

from __future__ import annotations

import math
import os
from collections.abc import Collection, Iterator, Mapping
from typing import TYPE_CHECKING

from ..errors import ModelError
from .graph import all_nodes, inner_graphs, without_graph, without_large_constants

if TYPE_CHECKING:
    import onnx

__all__ = ["PIECE_BYTES", "cut"]

PIECE_BYTES = 1 << 26
"""A piece ends where its activations reach this size."""
PAGES = ("SC_PAGE_SIZE", "SC_PHYS_PAGES")
MEMORY_BYTES = math.prod(map(os.sysconf, PAGES)) if hasattr(os, "sysconf") else 1 << 40
"""Of this machine; no tensor may take more."""
FOLLOWED_BYTES = 1 << 22
"""The values of larger tensors are not followed from node to node: onnx keeps each apart."""


def cut(
    model: onnx.ModelProto, wanted: Collection[str], shapes: Mapping[str, tuple[int, ...]]
) -> Iterator[tuple[onnx.ModelProto, frozenset[str]]]:
    """The pieces of ``model``, whose outputs are ``wanted``; nothing where it is small, or has
    what cannot be cut: tensors between pieces whose type is unknown.

    Each is a model, made when it is asked for, with those of its tensors that a later one needs.
    ``shapes``: those of the network's inputs.
    """
    known = _inferred(model, shapes)
    groups = _groups(model, wanted, known)
    if len(groups) < 2 or model.graph.sparse_initializer:
        return
    stored = {tensor.name: tensor for tensor in model.graph.initializer}
    inputs = {value.name: value for value in model.graph.input}
    network_inputs = [name for name in inputs if name not in stored]
    reads = [_reads(group) for group in groups]
    makers: dict[str, int] = {}
    for number, group in enumerate(groups):
        for node in group:
            makers.update(dict.fromkeys(node.output, number))
    crossing: list[tuple[str, ...]] = []
    for number, names in enumerate(reads):
        crossing.append(tuple(name for name in names if makers.get(name, number) < number))
    if any(name not in known for names in crossing for name in names):
        return
    for number, group in enumerate(groups):
        later = frozenset(name for names in crossing[number + 1 :] for name in names)
        piece = without_graph(model)
        graph = piece.graph
        graph.name = model.graph.name
        graph.node.extend(group)
        graph.initializer.extend(stored[name] for name in reads[number] if name in stored)
        own = network_inputs if not number else [n for n in reads[number] if n in network_inputs]
        graph.input.extend(inputs[name] for name in own)
        graph.input.extend(inputs[n] for n in reads[number] if n in stored and n in inputs)
        graph.input.extend(_of_any_size(known[name]) for name in crossing[number])
        for name in dict.fromkeys(name for node in group for name in node.output if name):
            if name in wanted or name in later:
                graph.output.add(name=name)
        if graph.output:  # else the end of the network, behind all that is wanted
            yield piece, later


def _groups(
    model: onnx.ModelProto, wanted: Collection[str], known: Mapping[str, onnx.ValueInfoProto]
) -> list[list[onnx.NodeProto]]:
    groups: list[list[onnx.NodeProto]] = [[]]
    size = 0
    for node in model.graph.node:
        if size >= PIECE_BYTES:
            groups.append([])
            size = 0
        groups[-1].append(node)
        size += sum(_bytes(known[name]) for name in node.output if name in known and name in wanted)
    return groups


def _reads(nodes: list[onnx.NodeProto]) -> list[str]:
    """The names that the nodes read, in order; inside an If or a Loop also names of its own."""
    names: dict[str, None] = {}
    for node in all_nodes(nodes):
        names |= dict.fromkeys(name for name in node.input if name)
        for attribute in node.attribute:
            for graph in inner_graphs(attribute):
                names |= dict.fromkeys(value.name for value in graph.output)
    return list(names)


def _inferred(
    model: onnx.ModelProto, shapes: Mapping[str, tuple[int, ...]]
) -> dict[str, onnx.ValueInfoProto]:
    """Tensor -> its type and shape, as onnx infers them without looking at weights.

    ModelError for a tensor that does not fit into memory.
    """
    from onnx import helper

    bare = without_large_constants(model)
    stored = {tensor.name for tensor in model.graph.initializer}
    for value in bare.graph.input:
        if value.name in shapes and value.name not in stored:
            kind = value.type.tensor_type.elem_type
            value.CopyFrom(helper.make_tensor_value_info(value.name, kind, shapes[value.name]))
    made = [node.output[0] for node in model.graph.node if node.op_type == "ConstantOfShape"]
    known = _infer(bare, follow=not made)
    if made and all(_bytes(known[name]) < FOLLOWED_BYTES for name in made if name in known):
        known = _infer(bare, follow=True)
    for name, value in known.items():
        if (size := _bytes(value)) > MEMORY_BYTES:  # to try it may end the process without a word
            raise ModelError(
                f"tensor {name!r:.200} takes {size:,} bytes for one batch, "
                f"this machine has {MEMORY_BYTES:,} bytes of memory",
                "take a smaller batch, or smaller inputs",
            )
    return known


def _infer(model: onnx.ModelProto, follow: bool) -> dict[str, onnx.ValueInfoProto]:
    from onnx import shape_inference

    try:
        graph = shape_inference.infer_shapes(model, data_prop=follow).graph
    except Exception:  # errors of several kinds, by version: then nothing is known
        return {}
    values = {value.name: value for value in (*graph.value_info, *graph.output)}
    return {name: one for name, one in values.items() if one.type.tensor_type.elem_type}


def _bytes(value: onnx.ValueInfoProto) -> int:
    """How many bytes a tensor takes, as FP32; 0 where an axis is unknown."""
    return 4 * math.prod(int(axis.dim_value) for axis in value.type.tensor_type.shape.dim)


def _of_any_size(value: onnx.ValueInfoProto) -> onnx.ValueInfoProto:
    """The tensor as an input of a piece: its type and how many axes it has."""
    from onnx import helper

    tensor = value.type.tensor_type
    axes = [None] * len(tensor.shape.dim) if tensor.HasField("shape") else None
    return helper.make_tensor_value_info(value.name, tensor.elem_type, axes)
