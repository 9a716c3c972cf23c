"""The record of a precision report: what was requested of each ONNX node and engine layer, what was chosen, and why."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from .record import Record, plural

__all__ = ["IDLE", "PrecisionReport", "PrecisionRow"]

IDLE = ("reformat", "no-op", "constant", "removed", "no-engine-name", "quantization")
"""Codes of rows whose node or layer computes nothing, so that no type was asked of it."""


@dataclass(frozen=True)
class PrecisionRow(Record):
    """One ONNX node, or (``is_layer``) one engine layer.

    ``requested_dtype`` is what was asked of this node alone, else the narrowest type that was allowed; None where
    only the engine is known. ``computed_in`` is the type in which its engine layer works (see ``computed_in``).
    """

    name: str
    is_layer: bool
    op: str | None  # the ONNX operator; of an engine layer TensorRT's LayerType
    requested_dtype: str | None
    computed_in: str | None
    input_dtypes: tuple[str | None, ...]
    output_dtypes: tuple[str | None, ...]
    weight_dtype: str | None
    engine_layers: tuple[str, ...]
    code: str  # as-requested, fused, no-scale, reformat, faster-in-fp16, removed, ...
    reason: str
    evidence: str  # documented, measured, inferred


@dataclass(frozen=True)
class PrecisionReport(Record):
    """Every ONNX node and every engine layer, what was requested of it, what was chosen, and why."""

    nodes: tuple[PrecisionRow, ...]
    layers: tuple[PrecisionRow, ...]
    counts: dict[str, int]  # type -> ONNX nodes that run in it; "unknown" and "no kernel" too
    reformats: int
    notes: tuple[str, ...] = ()

    def summary(self) -> str:
        held = ", ".join(f"{count} {dtype}" for dtype, count in self.counts.items()) or "no ONNX nodes named"
        nodes, layers = plural(len(self.nodes), "ONNX node"), plural(len(self.layers), "engine layer")
        return f"{nodes} ({held}) in {layers}, {plural(self.reformats, 'reformat')}"

    def rows(self) -> list[dict[str, Any]]:
        """The ONNX nodes, then the engine layers that hold none of them."""
        held = {layer for row in self.nodes for layer in row.engine_layers}
        return [
            {
                "ONNX node": "none" if row.is_layer else row.name,
                "op": row.op,
                "requested": "none" if row.code in IDLE else row.requested_dtype,
                "runs in": "none" if row.code in IDLE else row.computed_in,
                "in": row.input_dtypes,
                "out": row.output_dtypes,
                "weights": row.weight_dtype or "none listed",
                "engine layer": row.name if row.is_layer else row.engine_layers,
                "why": row.reason,
                "evidence": row.evidence,
            }
            for row in (*self.nodes, *(row for row in self.layers if row.name not in held))
        ]

    def __getitem__(self, name: str) -> PrecisionRow:
        """The row of an ONNX node, or of an engine layer, by name."""
        return {row.name: row for row in (*self.layers, *self.nodes)}[name]
