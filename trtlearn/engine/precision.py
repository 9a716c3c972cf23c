"""Requested against chosen: in which type each ONNX node and engine layer runs, and why.

Never "the precision": a layer has input types, output types and a type of its weights, and they
differ. Each reason is marked documented (a rule in a source cited), measured (this engine's
inspector or log says so) or inferred.
"""

from __future__ import annotations

import os
from collections import Counter
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

from ..model.operators import QDQ, RESHAPES
from ..record import Record, Table, html_table, html_text, plural, show
from .names import infer_nodes
from .reasons import Facts, Reason, layer_reason
from .records import BuildOptions, BuildReport, EngineInfo, EngineLayer

if TYPE_CHECKING:
    from ..model.describe import OnnxModel

__all__ = ["IDLE", "PrecisionReport", "PrecisionRow", "PrecisionRows", "precision_report"]

IDLE = ("reformat", "no-op", "constant", "removed", "no-engine-name", "quantization")
"""Codes of rows whose node or layer computes nothing, so that no type was asked of it."""
_REMOVED = {
    "BatchNormalization": "folded into the weights of the layer before it",
    "Constant": "a constant",
    "Dropout": "does nothing in inference",
    "Identity": "does nothing in inference",
    **dict.fromkeys(RESHAPES, "changes the shape only, which needs no kernel"),
}


@dataclass(frozen=True)
class PrecisionRow(Record):
    """One ONNX node, or (``is_layer``) one engine layer.

    ``requested_dtype`` is what was asked of this node alone, else the narrowest type that was
    allowed; None where only the engine is known. ``computed_in`` is the type in which its engine
    layer works (see ``EngineLayer.computed_in``).
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

    @property
    def is_name_only(self) -> bool:
        """Whether only the layer's name is known: built without detailed verbosity."""
        return self.is_layer and self.op is None


class PrecisionRows(tuple[PrecisionRow, ...]):
    """Some rows of a report; shown as a table: name, type, reason."""

    __slots__ = ()

    def rows(self) -> list[dict[str, Any]]:
        """One dictionary a row, for a table."""
        return [
            {
                "node": row.name,
                "op": row.op,
                "requested": row.requested_dtype,
                "runs in": row.computed_in,
                "why": row.reason,
                "evidence": row.evidence,
            }
            for row in self
        ]

    def __repr__(self) -> str:
        names = ", ".join(f"{row.name} ({show(row.computed_in)})" for row in self)
        return f"<{plural(len(self), 'row')}: {names or 'none'}>"

    def _repr_html_(self) -> str:
        return html_table(self.rows()) if self else f"<p>{html_text(repr(self))}</p>"


@dataclass(frozen=True)
class PrecisionReport(Table[PrecisionRow]):
    """Every ONNX node and every engine layer, what was requested of it, what was chosen, and why.

    ``report["conv1"]`` is the row of a node or layer, ``report.where(computed_in="fp32")`` the rows
    of all nodes that run in FP32.
    """

    ITEMS = "nodes"

    nodes: tuple[PrecisionRow, ...]
    layers: tuple[PrecisionRow, ...]
    counts: dict[str, int]  # type -> ONNX nodes that run in it; "unknown" and "no kernel" too
    reformats: int
    notes: tuple[str, ...] = ()

    def summary(self) -> str:
        counts = [f"{count} {dtype}" for dtype, count in self.counts.items()]
        nodes = plural(len(self.nodes), "ONNX node")
        layers = plural(len(self.layers), "engine layer")
        reformats = plural(self.reformats, "reformat")
        return f"{nodes} ({', '.join(counts) or 'no ONNX nodes named'}) in {layers}, {reformats}"

    def rows(self) -> list[dict[str, Any]]:
        """The ONNX nodes, then the engine layers that hold none of them."""
        held: set[str] = set()
        for row in self.nodes:
            held.update(row.engine_layers)
        alone = [row for row in self.layers if row.name not in held]
        return [
            {
                "ONNX node": "none" if row.is_layer else row.name,
                "op": row.op,
                "requested": "none" if row.code in IDLE else row.requested_dtype,
                "runs in": "none" if row.code in IDLE else row.computed_in,
                "in": None if row.is_name_only else row.input_dtypes,
                "out": None if row.is_name_only else row.output_dtypes,
                "weights": None if row.is_name_only else row.weight_dtype or "none listed",
                "engine layer": row.name if row.is_layer else row.engine_layers,
                "why": row.reason,
                "evidence": row.evidence,
            }
            for row in (*self.nodes, *alone)
        ]

    @cached_property
    def _by_name(self) -> dict[str, PrecisionRow]:
        return {row.name: row for row in (*self.layers, *self.nodes)}

    def where(self, is_layer: bool = False, **fields: Any) -> PrecisionRows:
        """The rows of the nodes (``is_layer``: of the layers) whose fields have these values.

        Example::

            report.where(computed_in="fp32", requested_dtype="int8")
        """
        rows = self.layers if is_layer else self.nodes
        for name, value in fields.items():
            rows = tuple(row for row in rows if getattr(row, name) == value)
        return PrecisionRows(rows)


def _reason_without_layer(name: str, op: str | None, engine: EngineInfo) -> Reason:
    """Why no engine layer names an ONNX node; ``name`` is empty where the ONNX file gives none."""
    if not name:
        words = "the ONNX file gives this node no name, so no engine layer can name it"
        return Reason("no-engine-name", words, "measured")
    if not any(layer.onnx_nodes for layer in engine.layers):
        words = "this engine's layers do not say which ONNX nodes they hold"
        return Reason("no-engine-name", words, "measured")
    if op in QDQ:
        words = "became a scale of the layers beside it: no kernel of its own"
        return Reason("quantization", words, "inferred")
    words = _REMOVED.get(op or "", "removed or folded into a constant")
    return Reason("removed", f"{words}: no engine layer names it", "inferred")


def _node_row(
    name: str, op: str | None, requested: str | None, held: list[tuple[EngineLayer, PrecisionRow]]
) -> PrecisionRow:
    """The row of an ONNX node that the layers ``held`` do the work of."""
    working = [part for part in held if part[1].code not in IDLE] or held
    layer, row = working[0]
    code, words, evidence = row.code, row.reason, row.evidence
    if len(layer.onnx_nodes) > 1:
        code = "fused" if code in ("as-requested", "request-unknown") else code
        words = f"fused into {layer.name}: {words}"
    elif len(held) > 1:
        profiles = any(" [profile " in part.name for part, _ in held)
        each = " (each profile has its own)" if profiles else ""
        words = f"split over {len(held)} engine layers{each}: {words}"
    if layer.onnx_nodes_inferred:
        words, evidence = f"{words} (inferred from the layer's name or tensors)", "inferred"
    computed = {part.computed_in for part, _ in held} - {None}
    return PrecisionRow(
        name,
        False,
        op,
        requested,
        computed.pop() if len(computed) == 1 else None,
        layer.input_dtypes,
        working[-1][0].output_dtypes,
        layer.weight_dtype,
        tuple(part.name for part, _ in held),
        code,
        words,
        evidence,
    )


def precision_report(
    engine: EngineInfo,
    model: OnnxModel | str | os.PathLike[str] | None = None,
    *,
    options: BuildOptions | None = None,
    build: BuildReport | None = None,
) -> PrecisionReport:
    """Requested against chosen for every ONNX node and every engine layer.

    Args:
        engine: what was built; ``Build.precision()`` fills in the rest.
        model: the ONNX model or its path: nodes that no engine layer names are then listed too.
        options: how it was built; without them ``requested_dtype`` is None (unknown).
        build: its report: the log's messages and scales tell which tensors had none.

    Raises:
        ModelError: ``model`` is a path that cannot be read.

    >>> from trtlearn.engine.records import EngineTensor
    >>> x, y = EngineTensor("x", (1,), "int8"), EngineTensor("y", (1,), "int8")
    >>> nodes = ("conv", "relu")
    >>> conv = EngineLayer("conv + relu", None, (x,), (y,), "int8", 9, onnx_nodes=nodes)
    >>> report = precision_report(EngineInfo((conv,)), options=BuildOptions(int8=True))
    >>> report["relu"].computed_in, report["relu"].code, report["relu"].evidence
    ('int8', 'fused', 'measured')
    """
    options = options or (build.options if build else None)
    if isinstance(model, (str, os.PathLike)):
        from ..model.describe import read_model

        model = read_model(model)
    facts = Facts(engine, options, build, model)
    layers = engine.layers
    if model:
        layers = infer_nodes(layers, facts.operators, model.nodes)
    rows = []
    held: dict[str, list[tuple[EngineLayer, PrecisionRow]]] = {}
    for layer in layers:
        row = PrecisionRow(
            layer.name,
            True,
            layer.kind,
            facts.requested((*layer.onnx_nodes, layer.name)),
            layer.computed_in,
            layer.input_dtypes,
            layer.output_dtypes,
            layer.weight_dtype,
            (layer.name,),
            *layer_reason(layer, facts),
        )
        rows.append(row)
        for node in layer.onnx_nodes:
            held.setdefault(node, []).append((layer, row))
    names = {}  # as shown -> the node's own, which may be empty
    for one in model.nodes if model else ():
        names[one.name or f"({one.op} -> {', '.join(one.outputs)})"] = one.name
    nodes = []
    for name in dict.fromkeys([*names, *held]):
        op, requested = facts.operators.get(name), facts.requested([name])
        if name in held:
            nodes.append(_node_row(name, op, requested, held[name]))
        else:
            reason = _reason_without_layer(names[name], op, engine)
            nodes.append(PrecisionRow(name, False, op, requested, None, (), (), None, (), *reason))
    counts = Counter("no kernel" if row.code in IDLE else show(row.computed_in) for row in nodes)
    notes = []
    if options and options.layer_precisions and options.precision_constraints == "none":
        notes.append(
            "layer precisions without precision_constraints prefer or obey have no effect "
            "(documented: v8.6.1:samples/common/sampleOptions.cpp:1000-1005)"
        )
    if engine.detailed is False:
        notes += engine.notes
    return PrecisionReport(
        tuple(nodes),
        tuple(rows),
        dict(counts.most_common()),
        len(engine.reformats),
        tuple(notes),
    )
