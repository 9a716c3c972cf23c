"""A built engine's layers, and which ONNX nodes each holds: its Metadata says, else its name hints.

Unknown is ``None`` and prints as "unknown". Nothing here knows TensorRT: a record looks the same
live and replayed from a recording.
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from itertools import chain
from typing import Any

from ..model.graph import OnnxModel, OnnxNode
from ..record import Record, Table, later, plural, show

__all__ = [
    "Binding",
    "EngineInfo",
    "EngineLayer",
    "EngineTensor",
    "infer_nodes",
    "layers_by_node",
    "nodes_in_metadata",
    "plain_name",
    "reformat_target",
    "without_profile",
]

NAMES_ONLY = (
    "the engine was built without detailed profiling verbosity, so only its layers' names are "
    "known: build it again with --profilingVerbosity=detailed, which acts at the build only, not "
    "with --loadEngine"
)
_FLOATS = {"fp32", "fp16", "bf16"}
QUANTIZED = {"int8", "int4", "fp8"}
_IDLE_KINDS = {
    "Constant",
    "DeviceToShapeHost",
    "NoOp",
    "ShapeHostToDevice",
    "TrainStation",
    "cjmp",
    "jmp",
    "shape_call",
    "signal",
    "wait",
}
"""LayerTypes that compute nothing: renamings, Myelin's control flow, copies of shapes."""


@dataclass(frozen=True)
class EngineTensor(Record):
    """A tensor at a layer's edge, as the engine stores it."""

    name: str
    dims: tuple[int, ...] | None
    dtype: str | None
    format: str | None = None  # TensorRT's own phrase
    vector: int | None = None  # channels packed together: 32 of "Thirty-two wide channel ..."
    location: str | None = None


@dataclass(frozen=True)
class EngineLayer(Record):
    """One layer of a built engine."""

    name: str
    kind: str | None  # TensorRT's LayerType
    inputs: tuple[EngineTensor, ...]
    outputs: tuple[EngineTensor, ...]
    weight_dtype: str | None = None
    weight_count: int | None = None
    weight_bytes: int | None = None
    bias_dtype: str | None = None
    bias_count: int | None = None
    kernel: str | None = None  # the tactic's name
    tactic: str | None = None
    onnx_nodes: tuple[str, ...] = ()
    onnx_nodes_inferred: bool = False  # by its name or tensors: its Metadata does not say
    is_reformat: bool = False
    stream: int | None = None
    raw: str = later(str, json.dumps, "")  # the inspector's JSON

    @property
    def input_dtypes(self) -> tuple[str | None, ...]:
        return tuple(tensor.dtype for tensor in self.inputs)

    @property
    def output_dtypes(self) -> tuple[str | None, ...]:
        return tuple(tensor.dtype for tensor in self.outputs)

    @property
    def weights_listed(self) -> str | None:
        """The weights' type, None if unknown; "none listed" may hide some, such as Myelin's."""
        return self.weight_dtype if self.weight_count else "none listed"

    @property
    def role(self) -> str:
        """What the layer is in the network: compute, reformat or no-op."""
        if self.is_reformat:
            return "reformat"
        return "no-op" if self.kind in _IDLE_KINDS else "compute"

    @property
    def computed_in(self) -> str | None:
        """The type in which the layer works, as far as weights and inputs show it; else None.

        The weights' type where both are equally narrow (INT8 weights meet INT8 inputs); the inputs'
        where only the weights are narrow (weight-only quantization). A reformat or a NoOp computes
        nothing. "Myelin" is a stretch of the network in one layer; a "kgen" kernel only moves
        quantized inputs, or scales them to a type that is not named.
        """
        if self.role != "compute":
            return None
        inputs = {dtype for dtype in self.input_dtypes if dtype is not None}
        if self.weight_count and self.weight_dtype:
            weight_only = self.weight_dtype in QUANTIZED and inputs and inputs <= _FLOATS
            return _only(inputs) if weight_only else self.weight_dtype
        if None in self.input_dtypes or self.kind == "Myelin":
            return None
        data = inputs & (_FLOATS | QUANTIZED)
        if self.kind == "kgen" and data & QUANTIZED:
            return None
        return _only(data or inputs)

    def summary(self) -> str:
        types = show(tuple(dict.fromkeys(self.input_dtypes))), show(self.output_dtypes)
        weights = f", {self.weight_dtype} weights" if self.weight_count else ""
        return f"{self.name}: {types[0]} in, {types[1]} out{weights}"

    @property
    def shown_dtype(self) -> str | None:
        """The type that stands for the layer in a picture.

        The one it works in; of a layer that computes nothing the one that it hands on.
        """
        if self.role == "compute":
            return self.computed_in
        return self.outputs[0].dtype if self.outputs else None


def _only(dtypes: set[str]) -> str | None:
    return next(iter(dtypes)) if len(dtypes) == 1 else None


@dataclass(frozen=True)
class Binding(Record):
    """An input or output of the engine."""

    name: str
    mode: str  # input, output
    dims: tuple[int, ...] | None = None
    dtype: str | None = None
    format: str | None = None


@dataclass(frozen=True)
class EngineInfo(Table[EngineLayer]):
    """A built engine as its inspector describes it: ``engine["conv1 + relu1"]``,
    ``engine[0]``, ``engine.int8``.
    """

    ITEMS = "layers"

    layers: tuple[EngineLayer, ...]
    bindings: tuple[Binding, ...] = ()
    schema: str | None = None  # 8.6, 10, 11: which inspector's JSON it was
    detailed: bool | None = None  # False: names only, built without detailed profiling verbosity
    raw: str = field(default="", repr=False)

    @property
    def int8(self) -> tuple[EngineLayer, ...]:
        """The layers that have INT8 weights."""
        return tuple(layer for layer in self.layers if layer.weight_dtype == "int8")

    @property
    def int8_nodes(self) -> frozenset[str]:
        """The ONNX nodes inside these layers."""
        return frozenset(chain.from_iterable(layer.onnx_nodes for layer in self.int8))

    @property
    def reformats(self) -> tuple[EngineLayer, ...]:
        """The layers that only change a tensor's type or memory layout."""
        return tuple(layer for layer in self.layers if layer.is_reformat)

    def summary(self) -> str:
        count = len(self.reformats)
        names_only = "; names only" if self.detailed is False else ""
        layers, reformats = plural(len(self.layers), "engine layer"), plural(count, "reformat")
        return f"{layers}, {reformats} among them{names_only}"

    @property
    def notes(self) -> tuple[str, ...]:
        """What to know of it: that an engine built without detailed verbosity holds names only."""
        return (NAMES_ONLY,) if self.detailed is False else ()

    def rows(self) -> list[dict[str, Any]]:
        return [
            {
                "layer": layer.name,
                "in": None if self.detailed is False else layer.input_dtypes,
                "out": None if self.detailed is False else layer.output_dtypes,
                "weights": None if self.detailed is False else layer.weights_listed,
                "kernel": layer.kernel,
                "ONNX nodes": layer.onnx_nodes,
            }
            for layer in self.layers
        ]


# Which ONNX nodes a layer came from

_NODE = re.compile(r"\[ONNX Layer: ((?:(?!\[ONNX Layer: )[^\x1c-\x1f])+)\]")
_SUFFIX = re.compile(r"(?: \[profile \d+\])?(?:_myl\d+_\d+)?$")
_PROFILE = re.compile(r" \[profile \d+\]$")
_FOREIGN = re.compile(r"\{ForeignNode\[(.*?)\.\.\.(.*)\]\}", re.DOTALL)
_REFORMAT_START = "Reformatting CopyNode for "
_REFORMAT = re.compile(
    rf"{_REFORMAT_START}(?:Network )?(?:Input|Output)(?: Tensor \d+ to)? (.*)", re.DOTALL
)


def nodes_in_metadata(metadata: str) -> tuple[str, ...]:
    """The ONNX nodes that a layer's ``Metadata`` names, in its order, each once.

    8.6 parts the names with 0x1e, 10.x with 0x1e between fused groups and 0x1f inside one
    (measured: 8.6.0 on an H100; 10.16 inspector output in public repositories). Names may hold
    brackets and spaces themselves.

    >>> nodes_in_metadata("[ONNX Layer: stem]\\x1e[ONNX Layer: (Unnamed Layer* 1) [Shuffle]]")
    ('stem', '(Unnamed Layer* 1) [Shuffle]')
    """
    return tuple(dict.fromkeys(_NODE.findall(metadata)))


def plain_name(name: str) -> str:
    """A layer's name without what TensorRT appends: the profile's number and Myelin's."""
    return _SUFFIX.sub("", name, count=1) or name


def without_profile(name: str) -> str:
    """A tensor's name without its profile's number: all profiles but the first have their own."""
    return _PROFILE.sub("", name, count=1)


def reformat_target(name: str) -> str | None:
    """The layer or tensor that a "Reformatting CopyNode" serves; None for any other name."""
    match = name.startswith(_REFORMAT_START) and _REFORMAT.fullmatch(plain_name(name))
    return match.group(1) if match else None


def foreign_ends(name: str) -> tuple[str, str] | None:
    """The first and last node of "{ForeignNode[first...last]}", a stretch that Myelin runs."""
    match = _FOREIGN.search(plain_name(name))
    return (match.group(1), match.group(2)) if match else None


def _pieces(name: str) -> Iterator[str]:
    """A fused name taken apart at " + ", " || ", "+", "PWN(", "," and brackets."""
    for piece in re.split(r" \+ | \|\| |\+", name):
        bare = piece.strip()
        yield bare
        if "(" in bare:
            for inner in re.split(r"(?:\b[A-Z]+\()|[(),]", bare):
                yield inner.strip()


def nodes_in_name(name: str, order: dict[str, int], others: Collection[str] = ()) -> list[str]:
    """The model's nodes that a fused layer's name holds: inferred, where Metadata is silent.

    ``order``: each node's place in the model; ``others``: nodes that other layers name, which a
    ForeignNode's stretch therefore does not hold.
    """
    if name.startswith(("Reformatting CopyNode", "Reformatted ")):
        return []
    plain = plain_name(name)
    if plain in order:
        return [plain]
    if ends := foreign_ends(plain):
        low, high = sorted(order.get(end, -1) for end in ends)
        if low < 0:
            return [end for end in ends if end in order]
        stretch = list(order)[low : high + 1]
        return [node for node in stretch if node not in others or node in ends]
    return sorted({piece for piece in _pieces(plain) if piece in order}, key=order.__getitem__)


def nodes_between(
    block: EngineLayer,
    makers: Mapping[str, OnnxNode],
    copies: Mapping[str, str],
    others: Collection[str],
) -> set[str]:
    """The model's nodes from which a block's inputs lead to its outputs, where its name is silent.

    ``makers``: tensor -> the node that makes it; ``copies``: tensor -> what a reformat makes of it,
    such as the network's output; ``others``: nodes of other layers, where the walk back ends.
    """
    walk = [tensor.name for tensor in block.outputs]
    walk += [copies[name] for name in walk if name in copies]
    passed, inside = {tensor.name for tensor in block.inputs}, set()
    while walk:
        name = walk.pop()
        maker = makers.get(name)
        if name not in passed and maker and maker.name not in others:
            inside.add(maker.name)
            walk += maker.inputs
        passed.add(name)
    return inside - {""}


def infer_nodes(
    layers: Iterable[EngineLayer], known: Iterable[str], nodes: Iterable[OnnxNode] = ()
) -> tuple[EngineLayer, ...]:
    """The layers, with nodes of ``known`` read off their names where Metadata is silent.

    ``nodes``: the model's, where it is there. Then a ForeignNode whose name holds TensorRT's own
    names gets the nodes that lie between its tensors.

    >>> infer_nodes([EngineLayer("conv + relu", None, (), ())], ["conv", "relu"])[0].onnx_nodes
    ('conv', 'relu')
    """
    layers = tuple(layers)
    makers: dict[str, OnnxNode] = {}
    for node in nodes:
        makers.update(dict.fromkeys(node.outputs, node))
    names = dict.fromkeys(name for name in known if name)
    order = {name: place for place, name in enumerate(names)}
    claimed: set[str] = set()
    copies: dict[str, str] = {}
    for layer in layers:
        claimed.update(layer.onnx_nodes)
        if layer.is_reformat and layer.inputs and layer.outputs:
            copies[layer.inputs[0].name] = layer.outputs[0].name
        if not layer.onnx_nodes and foreign_ends(layer.name) is None:
            claimed.update(nodes_in_name(layer.name, order))
    inferred = []
    for layer in layers:
        held = () if layer.onnx_nodes else tuple(nodes_in_name(layer.name, order, claimed))
        ends = None if layer.onnx_nodes else foreign_ends(layer.name)
        if ends and not order.keys() >= set(ends):
            between = nodes_between(layer, makers, copies, claimed)
            held = tuple(sorted(between, key=order.__getitem__)) or held
            claimed.update(held)
        named = replace(layer, onnx_nodes=held, onnx_nodes_inferred=True) if held else layer
        inferred.append(named)
    return tuple(inferred)


def layers_by_node(
    engine: EngineInfo, nodes: OnnxModel | Iterable[str] = ()
) -> dict[str, tuple[EngineLayer, ...]]:
    """ONNX node -> the engine layers that do its work, () where none names it.

    Args:
        nodes: the model, or its node names in order: then nodes that were removed are there too,
            and layers whose Metadata is silent are matched by name (``onnx_nodes_inferred``).

    >>> layer = EngineLayer("conv + relu", None, (), (), onnx_nodes=("conv", "relu"))
    >>> held = layers_by_node(EngineInfo((layer,)), ["conv", "relu", "dropout"])
    >>> held["conv"] == (layer,), held["dropout"]
    (True, ())
    """
    onnx: tuple[OnnxNode, ...] = ()
    if isinstance(nodes, OnnxModel):
        onnx, nodes = nodes.nodes, [node.name for node in nodes.nodes]
    names = [name for name in nodes if name]
    held: dict[str, tuple[EngineLayer, ...]] = dict.fromkeys(names, ())
    for layer in infer_nodes(engine.layers, names, onnx) if names else engine.layers:
        for node in layer.onnx_nodes:
            held[node] = (*held.get(node, ()), layer)
    return held
