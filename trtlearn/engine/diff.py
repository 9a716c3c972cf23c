"""Two engines side by side, aligned by the ONNX nodes in their layers, never by position."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Hashable, Iterable, Sequence
from itertools import chain
from typing import Any, NamedTuple

from ..record import show
from .layers import EngineInfo, EngineLayer, infer_nodes, plain_name, reformat_target

__all__ = ["DiffRow", "EngineDiff", "diff_engines"]

STATUSES = ("same", "changed", "fused differently", "only in first", "only in second")


class DiffRow(NamedTuple):
    """A group of ONNX nodes, and the layers that hold them in each engine."""

    nodes: tuple[str, ...]  # empty for what TensorRT added, such as reformats
    status: str  # one of STATUSES
    changes: tuple[str, ...]  # "weights fp32 -> int8", "kernel ...", for status "changed"
    first: tuple[int, ...]  # indices into the engines' layers
    second: tuple[int, ...]


class EngineDiff(NamedTuple):
    """Two engines aligned by ONNX nodes."""

    groups: tuple[DiffRow, ...]
    counts: dict[str, int]  # status -> groups


def _keys(layer: EngineLayer, by_name: dict[str, EngineLayer]) -> list[Hashable]:
    """What aligns a layer: its ONNX nodes, a reformat's target's nodes, else its name's parts."""
    if layer.onnx_nodes:
        return [("node", node) for node in layer.onnx_nodes]
    name = plain_name(layer.name)
    if (target := reformat_target(layer.name)) is not None:
        served, what = by_name.get(target), name.removesuffix(target)
        ends = (served and served.onnx_nodes) or (target,)
        return [("reformat", what, ends[0 if "Input" in what else -1])]
    if layer.name.startswith("__my"):  # Myelin's own: it says what it does, not what it came from
        return [("name", layer.name)]
    return [("part", part.strip()) for part in name.split(" + ")]


def _change(what: str, old: Any, new: Any) -> list[str]:
    return [] if old == new else [f"{what} {show(old)} -> {show(new)}"]


def _changes(old: EngineLayer, new: EngineLayer) -> tuple[str, ...]:
    formats = [[edge.format for edge in (*side.inputs, *side.outputs)] for side in (old, new)]
    retyped = old.input_dtypes != new.input_dtypes or old.output_dtypes != new.output_dtypes
    return (
        *_change("in", old.input_dtypes, new.input_dtypes),
        *_change("out", old.output_dtypes, new.output_dtypes),
        *_change("weights", old.weight_dtype, new.weight_dtype),
        *(["other format"] if formats[0] != formats[1] and not retyped else []),
        *_change("kind", old.kind, new.kind),
        *_change("kernel", old.kernel, new.kernel),
        *(["other tactic"] if old.kernel == new.kernel and old.tactic != new.tactic else []),
    )


def _groups(sides: Sequence[Sequence[EngineLayer]]) -> list[tuple[list[int], list[int]]]:
    """Layers of both engines that share a key, directly or not: connected components, in order."""
    parent: dict[Hashable, Hashable] = {}

    def root(item: Hashable) -> Hashable:
        while parent[item] != item:
            parent[item] = parent[parent[item]]
            item = parent[item]
        return item

    for side, layers in enumerate(sides):
        by_name = {plain_name(layer.name): layer for layer in layers}
        for index, layer in enumerate(layers):
            own = ("layer", side, index)
            parent[own] = own
            for key in _keys(layer, by_name):
                parent.setdefault(key, key)
                parent[root(key)] = root(own)
    groups: dict[Hashable, tuple[list[int], list[int]]] = defaultdict(lambda: ([], []))
    for side, layers in enumerate(sides):
        for index in range(len(layers)):
            groups[root(("layer", side, index))][side].append(index)
    return list(groups.values())


def _nodes_of(layers: Iterable[EngineLayer]) -> tuple[str, ...]:
    """The ONNX nodes inside the layers, each once, in order."""
    return tuple(dict.fromkeys(chain.from_iterable(layer.onnx_nodes for layer in layers)))


def _compared(old: list[EngineLayer], new: list[EngineLayer]) -> tuple[str, tuple[str, ...]]:
    """The status of a group of nodes by the layers that hold them, and what changed in it."""
    if not old or not new:
        return ("only in first" if old else "only in second"), ()
    nodes = [[set(layer.onnx_nodes) for layer in side] for side in (old, new)]
    names = [[layer.name for layer in side] for side in (old, new)]
    if nodes[0] != nodes[1] or (len(old) > 1 and names[0] != names[1]):
        return "fused differently", ()
    changes: dict[str, None] = {}
    for pair in zip(old, new, strict=True):
        changes |= dict.fromkeys(_changes(*pair))
    return ("changed" if changes else "same"), tuple(changes)


def diff_engines(first: EngineInfo, second: EngineInfo) -> EngineDiff:
    """What two engines of the same network do differently, aligned by ONNX nodes.

    Layers that hold the same nodes are compared (types, formats, kernel); where the groups of
    nodes differ the network was fused differently; the rest is only in one. Reformats are aligned
    by the layer that they serve.

    >>> conv = EngineLayer("conv", None, (), (), "fp32", 9, 36, onnx_nodes=("conv",))
    >>> quantized = EngineLayer("conv", None, (), (), "int8", 9, 9, onnx_nodes=("conv",))
    >>> diff_engines(EngineInfo((conv,)), EngineInfo((quantized,))).groups[0].changes
    ('weights fp32 -> int8',)
    """
    known = _nodes_of((*first.layers, *second.layers))
    sides = [infer_nodes(engine.layers, known) for engine in (first, second)]
    rows = []
    for left, right in _groups(sides):
        old = [sides[0][index] for index in left]
        new = [sides[1][index] for index in right]
        status, changes = _compared(old, new)
        rows.append(DiffRow(_nodes_of((*old, *new)), status, changes, tuple(left), tuple(right)))
    counts = Counter(row.status for row in rows)
    return EngineDiff(tuple(rows), {status: counts[status] for status in STATUSES})
