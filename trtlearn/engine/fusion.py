"""What became of the network: which engine layer holds which ONNX node, what reformats cost."""

from __future__ import annotations

import math
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import chain
from typing import TYPE_CHECKING, Any

from ..record import Record, Table, plural, show
from .formats import dtype_bits
from .names import infer_nodes, reformat_target
from .records import EngineInfo, EngineLayer, EngineTensor, Timing
from .times import layer_times

if TYPE_CHECKING:
    from ..model.describe import OnnxModel

__all__ = ["FusionMap", "ReformatSummary", "fusion_map", "reformats", "tensor_bytes"]


@dataclass(frozen=True)
class FusionRow(Record):
    """One ONNX node and the engine layers that do its work.

    ``evidence`` is measured (the layers' Metadata) or inferred (their names).
    """

    node: str
    engine_layers: tuple[str, ...]
    fused_with: tuple[str, ...]  # the other ONNX nodes in those layers
    evidence: str


@dataclass(frozen=True)
class FusionMap(Table[FusionRow]):
    """ONNX node -> engine layers; and what stands alone on either side."""

    ITEMS, KEY = "nodes", "node"

    nodes: tuple[FusionRow, ...]
    without_layer: tuple[str, ...]  # nodes that no engine layer names
    layers_without_node: tuple[str, ...]  # reformats, moves, constants that TensorRT added

    def summary(self) -> str:
        layers: set[str] = set()
        for row in self.nodes:
            layers.update(row.engine_layers)
        without = len(self.without_layer)
        return (
            f"{plural(len(self.nodes) - without, 'ONNX node')} in "
            f"{plural(len(layers), 'engine layer')}, {plural(without, 'node')} in none, "
            f"{plural(len(self.layers_without_node), 'layer')} that TensorRT added"
        )

    def rows(self) -> list[dict[str, Any]]:
        return [
            {
                "ONNX node": row.node,
                "engine layer": row.engine_layers,
                "fused with": row.fused_with,
                "evidence": row.evidence,
            }
            for row in self.nodes
        ]


def fusion_map(engine: EngineInfo, nodes: OnnxModel | Iterable[str] | None = None) -> FusionMap:
    """Which engine layers hold each ONNX node.

    Args:
        nodes: the model, or its node names in order: then nodes that were removed are listed too,
            and layers whose Metadata is silent are matched by name (evidence "inferred").

    >>> from trtlearn.engine.records import EngineLayer
    >>> layer = EngineLayer("conv + relu", None, (), (), onnx_nodes=("conv", "relu"))
    >>> fusion_map(EngineInfo((layer,)), ["conv", "relu", "dropout"]).without_layer
    ('dropout',)
    """
    from ..model.describe import OnnxModel

    listed = (node.name for node in nodes.nodes) if isinstance(nodes, OnnxModel) else nodes or ()
    names = [name for name in listed if name]
    layers = infer_nodes(engine.layers, names) if names else engine.layers
    held: dict[str, list[EngineLayer]] = {name: [] for name in names}
    for layer in layers:
        for node in layer.onnx_nodes:
            held.setdefault(node, []).append(layer)
    rows = []
    for node, parts in held.items():
        others = dict.fromkeys(chain.from_iterable(layer.onnx_nodes for layer in parts))
        others.pop(node, None)
        inferred = not parts or any(layer.onnx_nodes_inferred for layer in parts)
        evidence = "inferred" if inferred else "measured"
        engine_layers = tuple(layer.name for layer in parts)
        rows.append(FusionRow(node, engine_layers, tuple(others), evidence))
    alone = tuple(layer.name for layer in layers if not layer.onnx_nodes)
    return FusionMap(tuple(rows), tuple(row.node for row in rows if not row.engine_layers), alone)


def tensor_bytes(tensor: EngineTensor, padded: bool = False) -> int | None:
    """Bytes of a tensor, product of dims · bits / 8; None where a dimension or the type is unknown.

    ``padded``: with the channels (axis 1) rounded up to the format's vector, as they lie in memory.

    >>> image = EngineTensor("x", (8, 1, 28, 28), "int8", vector=4)
    >>> tensor_bytes(image), tensor_bytes(image, padded=True)
    (6272, 25088)
    """
    bits = dtype_bits(tensor.dtype)
    if bits is None or tensor.dims is None or any(size < 0 for size in tensor.dims):
        return None
    sizes = list(tensor.dims)
    if padded and tensor.vector:
        sizes[1:2] = [-(-size // tensor.vector) * tensor.vector for size in sizes[1:2]]
    return (math.prod(sizes) * bits + 7) // 8


@dataclass(frozen=True)
class ReformatRow(Record):
    """One reformat: what it converts, the bytes it reads and writes, its time where profiled."""

    layer: str
    serves: str | None  # the engine layer that it was inserted for
    input_dtype: str | None
    output_dtype: str | None
    input_format: str | None
    output_format: str | None
    bytes: int | None  # read + written, without padding
    padded_bytes: int | None
    ms: float | None


@dataclass(frozen=True)
class ReformatSummary(Record):
    """All reformats of an engine; a total is None where one of its parts is unknown."""

    reformats: tuple[ReformatRow, ...]
    count: int
    bytes: int | None
    ms: float | None
    share: float | None  # of the profiled time of all layers

    def summary(self) -> str:
        size = "unknown bytes" if self.bytes is None else f"{self.bytes:,} bytes read and written"
        time = "" if self.ms is None else f", {self.ms:.4f} ms"
        share = "" if self.share is None else f" ({100 * self.share:.1f} % of the layers' time)"
        return f"{plural(self.count, 'reformat')}, {size}{time}{share}"

    def rows(self) -> list[dict[str, Any]]:
        return [
            {
                "reformat": row.layer,
                "for": row.serves,
                "converts": f"{show(row.input_dtype)} to {show(row.output_dtype)}",
                "from": row.input_format,
                "to": row.output_format,
                "bytes": row.bytes,
                "ms": row.ms,
            }
            for row in self.reformats
        ]


def _total(values: Iterable[int | float | None]) -> Any:
    """The sum; None where a part is unknown."""
    listed = list(values)
    return None if None in listed else sum(value for value in listed if value is not None)


def reformats(
    engine: EngineInfo, times: Mapping[str, float] | Timing | str | os.PathLike[str] | None = None
) -> ReformatSummary:
    """Count, bytes and time of the engine's reformats.

    Args:
        times: the profiler's layer times, in any form that :func:`layer_times` takes.
    """
    joined = layer_times(engine, times) if times is not None else None
    ms_of = {row.layer: row.ms for row in joined.layers} if joined else {}
    rows = tuple(_reformat(layer, ms_of.get(layer.name)) for layer in engine.reformats)
    ms = _total(row.ms for row in rows) if joined else None
    share = ms / joined.total_ms if joined and ms is not None and joined.total_ms else None
    return ReformatSummary(rows, len(rows), _total(row.bytes for row in rows), ms, share)


def _reformat(layer: EngineLayer, ms: float | None) -> ReformatRow:
    unknown = EngineTensor("", None, None)
    before, after = (layer.inputs or (unknown,))[0], (layer.outputs or (unknown,))[0]
    edges = (*layer.inputs, *layer.outputs) or (unknown,)
    return ReformatRow(
        layer.name,
        reformat_target(layer.name),
        before.dtype,
        after.dtype,
        before.format,
        after.format,
        _total(tensor_bytes(tensor) for tensor in edges),
        _total(tensor_bytes(tensor, padded=True) for tensor in edges),
        ms,
    )
