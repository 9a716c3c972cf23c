"""What became of the network: which engine layer holds which ONNX node."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import chain
from typing import TYPE_CHECKING, Any

from ..record import Record, Table, plural
from .names import infer_nodes
from .records import EngineInfo, EngineLayer

if TYPE_CHECKING:
    from ..model.describe import OnnxModel, OnnxNode

__all__ = ["FusionMap", "fusion_map"]


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

    onnx: tuple[OnnxNode, ...] = ()
    if isinstance(nodes, OnnxModel):
        onnx, nodes = nodes.nodes, [node.name for node in nodes.nodes]
    names = [name for name in nodes or () if name]
    layers = infer_nodes(engine.layers, names, onnx) if names else engine.layers
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
