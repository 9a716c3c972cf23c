"""Explicit quantization: an ONNX model with Q/DQ pairs made from our own scales.

Where the pairs go is planned in :mod:`trtlearn.int8.placement`; here they are put in.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from ..errors import ModelError
from ..model.fold import at_least_opset_13, prepared
from ..model.graph import Graph, node_key, read_names
from ..model.read import serialized
from .placement import QdqReport, QdqSite, plan_sites, weight_axis
from .quant import quantize

if TYPE_CHECKING:
    import onnx

__all__ = ["at_least_opset_13", "insert_qdq"]


def insert_qdq(
    model: onnx.ModelProto,
    scales: Mapping[str, float],
    placement: str = "tensorrt",
    skip: Iterable[str] = (),
    int8_weights: bool = False,
) -> tuple[onnx.ModelProto, QdqReport]:
    """A copy of ``model`` with Q/DQ pairs, and the report of what was inserted.

    Weights stay FP32 in front of a Q/DQ pair, which every TensorRT from 8.0 folds at build time; with
    ``int8_weights`` they are stored as INT8 in front of a DequantizeLinear alone, a quarter of the size.
    """
    from onnx import helper, numpy_helper

    result = prepared(model)
    report = plan_sites(result, scales, placement, skip)
    graph = Graph(result)
    taken = set(graph.producer) | set(graph.constants) | set(read_names(result))
    taken |= {value.name for value in result.graph.input}
    by_name: dict[str, onnx.NodeProto] = {node_key(node): node for node in graph.nodes}
    before: dict[
        str, list[onnx.NodeProto]
    ] = {}  # reader -> the new nodes that must stand in front of it
    for site in report.sites:
        readers = [by_name[name] for name in site.readers]
        name = _free(
            f"{site.tensor}_{'_'.join(site.readers)}" if _shared(site, graph) else site.tensor,
            taken,
        )
        axis = weight_axis(readers[0]) if site.kind == "weights" else None
        scale = (
            site.scale
            if site.kind == "activation"
            else site.channel_scales
            if axis is not None
            else None
        )
        steps = np.asarray(site.channel_scales[0] if scale is None else scale, np.float32)
        attributes: dict[str, Any] = (
            {} if axis is None else {"axis": axis % len(graph.constants[site.tensor].dims)}
        )
        add = result.graph.initializer.append
        add(numpy_helper.from_array(steps, f"{name}_scale"))
        add(numpy_helper.from_array(np.zeros(steps.shape, np.int8), f"{name}_zero_point"))
        tail, pair = [f"{name}_scale", f"{name}_zero_point"], []
        if site.kind == "weights" and int8_weights:
            array = quantize(graph.array(site.tensor), steps, axis=axis, qmin=-127)
            add(numpy_helper.from_array(array, f"{name}_q"))
        else:
            pair.append(
                helper.make_node(
                    "QuantizeLinear",
                    [site.tensor, *tail],
                    [f"{name}_q"],
                    f"{name}_quantize",
                    **attributes,
                )
            )
        pair.append(
            helper.make_node(
                "DequantizeLinear",
                [f"{name}_q", *tail],
                [f"{name}_dq"],
                f"{name}_dequantize",
                **attributes,
            )
        )
        before.setdefault(site.readers[0], []).extend(pair)
        for reader in readers:
            for index, tensor in enumerate(reader.input):
                if tensor == site.tensor:
                    reader.input[index] = f"{name}_dq"
    ordered = [
        item for node in result.graph.node for item in (*before.get(node_key(node), ()), node)
    ]
    del result.graph.node[:]
    result.graph.node.extend(ordered)
    _drop_unread(result)
    fault = _fault(result)
    if fault and not _fault(
        model
    ):  # a fault that the model came with (an output without a shape) is left to its maker
        raise ModelError(
            f"the model with Q/DQ is not valid ONNX: {fault}", "please report it with the model"
        )
    return result, report


def _fault(model: onnx.ModelProto) -> str:
    """What onnx's checker says against a model in one line; empty where nothing."""
    import onnx

    content = serialized(model)
    try:
        onnx.checker.check_model(content)
    except (onnx.checker.ValidationError, ValueError) as problem:
        return (str(problem).strip().splitlines() or ["no reason given"])[0][:200]
    return ""


def _shared(site: QdqSite, graph: Graph) -> bool:
    """Weights that several nodes read get a pair for each of them, under a name of its own."""
    return site.kind == "weights" and len(graph.readers[site.tensor]) > 1


def _free(name: str, taken: set[str]) -> str:
    """``name``, or the first ``name_2``, ``name_3`` … whose new tensors would clash with no tensor of the graph."""
    number, candidate = 1, name
    while {f"{candidate}{tail}" for tail in ("_q", "_dq", "_scale", "_zero_point")} & taken:
        number += 1
        candidate = f"{name}_{number}"
    taken.update(f"{candidate}{tail}" for tail in ("_q", "_dq", "_scale", "_zero_point"))
    return candidate


def _drop_unread(model: onnx.ModelProto) -> None:
    """Take away initializers that nobody reads any more (the FP32 twin of INT8 weights)."""
    read = set(read_names(model))
    kept = [item for item in model.graph.initializer if item.name in read]
    del model.graph.initializer[:]
    model.graph.initializer.extend(kept)
