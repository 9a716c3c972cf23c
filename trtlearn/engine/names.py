"""Which ONNX nodes an engine layer came from: its Metadata says, else its fused name hints."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING

from .records import EngineLayer

if TYPE_CHECKING:
    from ..model.describe import OnnxNode

__all__ = [
    "foreign_ends",
    "infer_nodes",
    "nodes_between",
    "nodes_in_metadata",
    "nodes_in_name",
    "plain_name",
    "reformat_target",
    "without_profile",
]

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
    """A layer's name without what TensorRT appends: the profile's number and Myelin's.

    >>> plain_name("conv1 + relu1 [profile 1]"), plain_name("fc_myl5_2")
    ('conv1 + relu1', 'fc')
    """
    return _SUFFIX.sub("", name, count=1) or name


def without_profile(name: str) -> str:
    """A tensor's name without its profile's number: each profile but the first has its own tensors.

    >>> without_profile("image [profile 1]"), without_profile("image")
    ('image', 'image')
    """
    return _PROFILE.sub("", name, count=1)


def reformat_target(name: str) -> str | None:
    """The layer or tensor that a "Reformatting CopyNode" serves; None for any other name.

    >>> reformat_target("Reformatting CopyNode for Input Tensor 0 to stem + stem_relu")
    'stem + stem_relu'
    """
    match = name.startswith(_REFORMAT_START) and _REFORMAT.fullmatch(plain_name(name))
    return match.group(1) if match else None


def foreign_ends(name: str) -> tuple[str, str] | None:
    """The first and last node of "{ForeignNode[first...last]}", a stretch that Myelin runs.

    >>> foreign_ends("{ForeignNode[norm1...softmax]}")
    ('norm1', 'softmax')
    """
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

    Args:
        order: each node's place among the model's nodes, in the order in which they run.
        others: nodes that other layers name, which a ForeignNode's stretch therefore does not hold.

    >>> order = {"conv12": 0, "sigmoid13": 1, "mul14": 2}
    >>> nodes_in_name("conv12 + PWN(PWN(sigmoid13), mul14)", order)
    ['conv12', 'sigmoid13', 'mul14']
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

    Args:
        makers: tensor -> the node that makes it.
        copies: tensor -> what a reformat makes of it, such as the network's output.
        others: nodes that other layers hold: the walk from the outputs back ends there.
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
