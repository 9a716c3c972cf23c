"""Explicit quantization: an ONNX model with Q/DQ pairs made from our own scales.

Where the pairs go is planned in :mod:`trtlearn.int8.placement`; here they are put in.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from ..errors import ModelError, first_line
from ..model.fold import prepared
from ..model.graph import Graph, node_key, read_names, without_large_constants
from ..model.read import load_proto, serialized
from .placement import QdqReport, QdqSite, plan_sites, weight_axis
from .quant import quantize

if TYPE_CHECKING:
    import onnx

__all__ = ["insert_qdq"]

SUFFIXES = ("_q", "_dq", "_scale", "_zero_point")
"""What the tensors of a pair are called, behind the pair's name."""


def insert_qdq(
    model: str | os.PathLike[str] | bytes | onnx.ModelProto,
    scales: Mapping[str, float],
    placement: str = "tensorrt",
    skip: Iterable[str] = (),
    int8_weights: bool = False,
    copy: bool = True,
) -> tuple[onnx.ModelProto, QdqReport]:
    """A copy of ``model`` with Q/DQ pairs, and the report of what was inserted.

    Args:
        model: an ONNX file, its bytes, or a loaded model (which stays as it is).
        scales: tensor -> scale (amax / 127, above 0), for example a calibration cache; weights need
            none: theirs are computed, one per output channel.
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
    placement.

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
    report = plan_sites(result, scales, placement, skip)
    graph = Graph(result)
    taken = {*graph.producer, *graph.constants, *read_names(result)}
    taken |= {value.name for value in result.graph.input}
    nodes = {node_key(node): node for node in graph.nodes}
    in_front: dict[str, list[onnx.NodeProto]] = {}  # reader -> the pairs that it needs
    for site in report.sites:
        readers = [nodes[name] for name in site.readers]
        name = _free_name(site, graph, taken)
        pair = _pair(site, name, graph, readers[0], result, int8_weights)
        in_front.setdefault(site.readers[0], []).extend(pair)
        for reader in readers:
            inputs = [f"{name}_dq" if tensor == site.tensor else tensor for tensor in reader.input]
            reader.input[:] = inputs
    ordered: list[onnx.NodeProto] = []
    for node in result.graph.node:
        ordered += [*in_front.get(node_key(node), ()), node]
    del result.graph.node[:]
    result.graph.node.extend(ordered)
    _drop_unread(result)
    fault = _fault(without_large_constants(result))
    if fault and not _fault(before):  # a model's own faults are left to its maker
        raise ModelError(
            f"the model with Q/DQ is not valid ONNX: {fault}", "please report it with the model"
        )
    return result, report


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
