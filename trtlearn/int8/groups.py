"""What TensorRT makes of ONNX nodes by rule: INT8 layers, and the ranges of bare --int8."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from ..engine.layers import EngineInfo
from ..model.graph import OnnxModel, OnnxNode
from ..model.operators import REARRANGE, WEIGHTED

__all__ = [
    "BOUNDING",
    "PICKS_CODES",
    "engine_groups",
    "float_tensors",
    "fused_groups",
    "placeholder_amax",
]

BOUNDING = ("Relu", "Clip")
"""Activations that the kernel applies as bounds, before it rounds."""
FUSED_ACTIVATIONS = (*BOUNDING, "LeakyRelu", "Sigmoid")
"""Activations that a convolution's kernel computes in float32, before it rounds (measured)."""
PICKS_CODES = ("MaxPool", *REARRANGE)
"""Operators that pick or move codes: the output has the input's scale, but for MaxPool's own."""

Groups = tuple[tuple[str, ...], ...]


def fused_groups(model: OnnxModel) -> Groups:
    """The names of the nodes of each layer, in order, as TensorRT 8.6 fuses INT8 without Q/DQ.

    A convolution, deconvolution or matrix product takes the Add that alone reads its result (of two
    products that an Add joins, the later one takes it), and a convolution or deconvolution the
    ReLU, Clip, LeakyRelu or Sigmoid that alone reads that. Every other node stands alone. Which of
    two products takes the Add was not the same in every build of the same network: give
    engine_groups of a built engine where there is one.

    >>> from trtlearn.model.course_data import model_path
    >>> from trtlearn.model.read import read_model
    >>> groups = fused_groups(read_model(model_path("resnet")))
    >>> [group for group in groups if "b0_add" in group or "b1_add" in group]
    [('b0_conv2', 'b0_add', 'b0_relu2'), ('b1_proj', 'b1_add', 'b1_relu2')]

    Source: measured: the builder's log of both models ("ConvEltwiseSumFusion: Fusing b1_proj with
    b1_add", "ConvReluFusion", "ConvPointWiseClipFusion") and the inspector's fusion,
    data/recordings/; trtexec's build of the same network said b1_conv2 instead.
    """
    first_of: dict[str, str] = {}  # node -> the product of its layer
    for node in model.nodes:
        if node.op in WEIGHTED:
            for follower in _fused_behind(model, node):
                first_of[follower.key] = node.key
    groups: dict[str, list[str]] = {}
    for node in model.nodes:
        key = node.key
        groups.setdefault(first_of.get(key, key), []).append(key)
    return tuple(tuple(group) for group in groups.values())


def _fused_behind(model: OnnxModel, product: OnnxNode) -> list[OnnxNode]:
    """The Add and the activation that a product takes into its layer."""
    followers = []
    reader = _only_reader(model, product)
    if reader is not None and reader.op == "Add" and product == _last_product(model, reader):
        followers.append(reader)
        reader = _only_reader(model, reader)
    if reader is None or WEIGHTED[product.op].kernel == "matmul":
        return followers
    return [*followers, reader] if reader.op in FUSED_ACTIVATIONS else followers


def _only_reader(model: OnnxModel, node: OnnxNode) -> OnnxNode | None:
    """The one node that reads the node's result; None where more do, or where it is an output."""
    result = node.outputs[0]
    readers = model.consumers_of(result)
    is_output = any(value.name == result for value in model.outputs)
    return readers[0] if len(readers) == 1 and not is_output else None


def _last_product(model: OnnxModel, add: OnnxNode) -> OnnxNode | None:
    """Of the products whose results only this Add of two tensors reads, the last in the graph."""
    if len(set(add.inputs)) != 2:
        return None
    joined = [
        node
        for node in model.nodes
        if node.outputs[0] in add.inputs and node.op in WEIGHTED and _only_reader(model, node)
    ]
    return joined[-1] if joined else None


def engine_groups(model: OnnxModel, engine: EngineInfo) -> Groups:
    """The nodes of each engine layer, as the inspector names them; the others stand alone."""
    order = {node.key: index for index, node in enumerate(model.nodes)}
    groups: list[tuple[str, ...]] = []
    grouped: set[str] = set()
    for layer in engine.layers:
        members = {name for name in layer.onnx_nodes if name in order} - grouped
        grouped |= members
        if members:
            groups.append(tuple(sorted(members, key=order.__getitem__)))
    groups += [(name,) for name in order if name not in grouped]
    return tuple(sorted(groups, key=lambda group: order[group[-1]]))


def float_tensors(model: OnnxModel, engine: EngineInfo) -> tuple[str, ...]:
    """Tensors of the ONNX model that the engine holds in FP32 or FP16, and never in INT8.

    A tensor that a reformat makes INT8 for its reader (the image, say) is not among them, nor is
    one that a layer without a kernel hands on to such a reformat (in front of a product).
    """
    in_int8: set[str] = set()
    otherwise: set[str] = set()
    for layer in reversed(engine.layers):
        for tensor in (*layer.inputs, *layer.outputs):
            group = in_int8 if tensor.dtype == "int8" else otherwise
            group.add(tensor.name)
        hands_on = layer.is_reformat or layer.kind == "NoOp"
        if hands_on and any(tensor.name in in_int8 for tensor in layer.outputs):
            in_int8 |= {tensor.name for tensor in layer.inputs}
    return tuple(name for name in model.tensors if name in otherwise - in_int8)


def check_groups(model: OnnxModel, groups: Sequence[Sequence[str]]) -> list[str]:
    """Names in ``groups`` that the model lacks, and its nodes that are not in just one group."""
    listed = [name for group in groups for name in group]
    names = [node.key for node in model.nodes]
    unknown = {name for name in listed if name not in names}
    return sorted(unknown | {name for name in names if listed.count(name) != 1})


def placeholder_amax(
    nodes: Iterable[OnnxNode], in_range: float = 2.0, out_range: float = 4.0
) -> dict[str, float]:
    """Tensor name -> amax: who meets a tensor first, in the order of the nodes, gives it its range.

    A node gives what it reads ±in_range (a Concat: ±out_range), and what it makes ±out_range (a
    MaxPool or AveragePool: ±in_range). A tensor between two nodes is the first one's output, so it
    gets ±4; only network inputs and constants are met first as an input, and get ±2. Neither INT32
    tensors nor constants are excepted. ``amax`` is in the units of the tensors.

    >>> conv = OnnxNode("", "Conv", ("x",), ("y",))
    >>> placeholder_amax([conv, OnnxNode("", "Concat", ("y", "z"), ("c",))])
    {'x': 2.0, 'y': 4.0, 'z': 4.0, 'c': 4.0}

    Source: setTensorDynamicRange, v8.6.1:samples/common/sampleEngines.cpp:459-505 (public,
    Apache-2.0); the same rule from 8.4.1 (line 384) to 10.16 (line 420).
    """
    ranges: dict[str, float] = {}
    for node in nodes:
        for name in node.inputs:
            ranges.setdefault(name, out_range if node.op == "Concat" else in_range)
        pools = node.op in ("MaxPool", "AveragePool")
        for name in node.outputs:
            ranges.setdefault(name, in_range if pools else out_range)
    return ranges
