"""Requested against chosen: in which type each ONNX node and each engine layer runs, and why not in the narrowest.

Never "the precision": a layer has input types, output types and a type of its weights, and they differ. What a
node was allowed, what it got, and the reason as far as one can be shown, each marked documented (a rule in a source
cited), measured (this engine's inspector or log says so) or inferred.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ..model.operators import QDQ
from ..record import Record, plural, show
from .names import infer_nodes
from .reasons import (
    Facts,
    Reason,
    computed_in,
    fed_by_dq,
    gather,
    reason_for_layer,
    reason_for_narrower,
)
from .records import BuildOptions, BuildReport, EngineInfo, EngineLayer

if TYPE_CHECKING:
    from ..model.describe import OnnxModel

__all__ = [
    "IDLE",
    "PrecisionReport",
    "PrecisionRow",
    "precision_report",
]


# --- The record of a precision report: what was requested of each ONNX node and engine layer, what was chosen, and why.

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
        held = (
            ", ".join(f"{count} {dtype}" for dtype, count in self.counts.items())
            or "no ONNX nodes named"
        )
        nodes, layers = (
            plural(len(self.nodes), "ONNX node"),
            plural(len(self.layers), "engine layer"),
        )
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


# --- Requested against chosen: in which type each ONNX node and each engine layer runs, and why not in the narrowest.

_NARROW = ("int4", "fp8", "int8", "fp16", "bf16", "fp32")  # narrowest first
_FOLDED = {
    "BatchNormalization": "folded into the weights of the layer before it",
    "Constant": "a constant",
    **dict.fromkeys(
        ("Flatten", "Reshape", "Squeeze", "Unsqueeze"),
        "changes the shape only, which needs no kernel",
    ),
    **dict.fromkeys(("Identity", "Dropout"), "does nothing in inference"),
}


def _requested(
    options: BuildOptions | None, names: Iterable[str], fed_by_dq: bool, has_qdq: bool
) -> tuple[str | None, bool]:
    """(the type asked for, whether it was asked of this node alone); the first of ``names`` with a wish counts."""
    if options is None:
        return ("int8", False) if fed_by_dq else (None, False)
    if options.precision_constraints in ("prefer", "obey"):
        for name in names:
            if wish := options.layer_precisions.get(name):
                return wish, True
        if wish := options.layer_precisions.get("*"):
            return wish, True
    wide = "fp16" if options.fp16 else "fp32"
    if has_qdq or options.ranges == "qdq":
        return ("int8" if fed_by_dq else wide), False
    return ("int8" if options.int8 else wide), False


def _writes(layer: EngineLayer, computed: str | None, facts: Facts) -> str:
    """What is to be said of a narrow layer that writes a wider type."""
    wider = [tensor for tensor in layer.outputs if tensor.dtype not in (None, computed)]
    if computed not in ("int8", "int4", "fp8") or not wider:
        return ""
    tensor = wider[0]
    if tensor.name in facts.outputs:
        return f"; writes {tensor.dtype}: {facts.outputs[tensor.name]} is a network output"
    return f"; writes {tensor.dtype}: {tensor.name} is not quantized"


def _verdict(
    layer: EngineLayer, asked: str | None, alone: bool, allowed: str | None, facts: Facts
) -> Reason:
    """The reason of one engine layer; ``allowed`` is the narrowest type that is known to have been allowed."""
    if reason := reason_for_layer(layer):
        return reason
    computed = computed_in(layer)
    wanted = asked or allowed
    if wanted is None or computed == wanted:
        words = "as requested" if asked else "what was requested is not known"
        return Reason(
            "as-requested" if asked else "request-unknown",
            words + _writes(layer, computed, facts),
            "measured",
        )
    if (
        computed in _NARROW
        and wanted in _NARROW
        and _NARROW.index(computed) < _NARROW.index(wanted)
    ):
        if asked is None:
            return Reason("request-unknown", "what was requested is not known", "measured")
        if alone:
            return Reason(
                "wish-not-met", f"{wanted} was asked for, TensorRT chose {computed}", "measured"
            )
        return Reason(
            "narrower", f"runs in {computed}, narrower than what was requested", "measured"
        )
    reason = reason_for_narrower(layer, computed, wanted, facts)
    if alone and reason.evidence == "inferred":
        constraint = facts.options.precision_constraints if facts.options else "prefer"
        return Reason(
            "wish-not-met", f"{wanted} was asked for with {constraint}; {reason.words}", "inferred"
        )
    return reason


def _layer_row(layer: EngineLayer, requested: str | None, reason: Reason) -> PrecisionRow:
    return PrecisionRow(
        layer.name,
        True,
        layer.kind,
        requested,
        computed_in(layer),
        layer.input_dtypes,
        layer.output_dtypes,
        layer.weight_dtype,
        (layer.name,),
        reason.code,
        reason.words,
        reason.evidence,
    )


def _no_layer(name: str, op: str | None, engine: EngineInfo) -> Reason:
    if not name:
        return Reason(
            "no-engine-name",
            "the ONNX file gives this node no name, so no engine layer can name it",
            "measured",
        )
    if not any(layer.onnx_nodes for layer in engine.layers):
        return Reason(
            "no-engine-name",
            "this engine's layers do not say which ONNX nodes they hold",
            "measured",
        )
    if op in QDQ:
        return Reason(
            "quantization",
            "became a scale of the layers beside it: no kernel of its own",
            "inferred",
        )
    if op in _FOLDED:
        return Reason("removed", f"{_FOLDED[op]}: no engine layer names it", "inferred")
    return Reason(
        "removed", "removed or folded into a constant: no engine layer names it", "inferred"
    )


def _node_row(
    name: str,
    op: str | None,
    asked: str | None,
    held: list[tuple[EngineLayer, PrecisionRow]],
    nothing: Reason,
    profiles: bool,
) -> PrecisionRow:
    if not held:
        return PrecisionRow(name, False, op, asked, None, (), (), None, (), *nothing)
    layer, row = held[0]
    reason = Reason(row.code, row.reason, row.evidence)
    others = [node for node in layer.onnx_nodes if node != name]
    if others:
        code = "fused" if row.code in ("as-requested", "request-unknown") else row.code
        reason = Reason(code, f"fused into {layer.name}: {row.reason}", row.evidence)
    elif len(held) > 1:
        words = f"{len(held)} engine layers{' (each profile has its own)' if profiles else ''}"
        reason = Reason(row.code, f"split over {words}: {row.reason}", row.evidence)
    if layer.onnx_nodes_inferred:
        reason = Reason(reason.code, reason.words + " (node read off the layer's name)", "inferred")
    computed = {computed_in(each) for each, _ in held} - {None}
    return PrecisionRow(
        name,
        False,
        op,
        asked,
        computed.pop() if len(computed) == 1 else None,
        layer.input_dtypes,
        held[-1][0].output_dtypes,
        layer.weight_dtype,
        tuple(each.name for each, _ in held),
        *reason,
    )


def precision_report(
    engine: EngineInfo,
    *,
    options: BuildOptions | None = None,
    build: BuildReport | None = None,
    model: OnnxModel | str | os.PathLike[str] | None = None,
) -> PrecisionReport:
    """Requested against chosen for every ONNX node and every engine layer.

    Args:
        engine: what was built; ``Build.precision()`` fills in the rest.
        options: how it was built; without them ``requested_dtype`` is None (unknown).
        build: its report: the log's messages and scales tell which tensors had none.
        model: the ONNX model or its path: its nodes that no engine layer names are then listed too.

    Raises:
        ModelError: ``model`` is a path that cannot be read.

    >>> from trtlearn.engine.records import EngineTensor
    >>> x, y = EngineTensor("x", (1,), "int8"), EngineTensor("y", (1,), "int8")
    >>> conv = EngineLayer("conv + relu", "CaskConvolution", (x,), (y,), "int8", 9, 9, onnx_nodes=("conv", "relu"))
    >>> report = precision_report(EngineInfo((conv,)), options=BuildOptions(int8=True))
    >>> report["relu"].computed_in, report["relu"].code, report["relu"].evidence
    ('int8', 'fused', 'measured')
    """
    options = options or (build.options if build else None)
    if isinstance(model, (str, os.PathLike)):
        from ..model.describe import read_model

        model = read_model(model)
    facts = gather(engine, options, build, model)
    layers = (
        infer_nodes(engine.layers, [node.name for node in model.nodes]) if model else engine.layers
    )
    dq_fed, has_qdq = fed_by_dq(model), bool(model and model.has_qdq)
    ran = Counter(dtype for layer in layers if (dtype := computed_in(layer)))
    quantized = next((dtype for dtype in ("int8", "fp8", "int4") if ran[dtype]), "int8")

    def wish(names: tuple[str, ...]) -> tuple[str | None, bool]:
        asked, alone = _requested(options, names, not dq_fed.isdisjoint(names), has_qdq)
        return (quantized if asked == "int8" and has_qdq and not alone else asked), alone

    allowed = (
        None
        if options
        else next((dtype for dtype in ("int8", "fp8", "fp16", "bf16") if ran[dtype]), None)
    )
    rows = []
    for layer in layers:
        asked, alone = wish((*layer.onnx_nodes, layer.name))
        rows.append(_layer_row(layer, asked, _verdict(layer, asked, alone, allowed, facts)))
    held: dict[str, list[tuple[EngineLayer, PrecisionRow]]] = {}
    for layer, row in zip(layers, rows, strict=True):
        for node in layer.onnx_nodes:
            held.setdefault(node, []).append((layer, row))
    listed = (
        [node.name or f"({node.op} -> {', '.join(node.outputs)})" for node in model.nodes]
        if model
        else []
    )
    unnamed = (
        {f"({node.op} -> {', '.join(node.outputs)})" for node in model.nodes if not node.name}
        if model
        else set()
    )
    profiles = any(" [profile " in layer.name for layer in layers)
    nodes = []
    for name in dict.fromkeys([*listed, *held]):
        op = facts.operators.get(name)
        nothing = _no_layer("" if name in unnamed else name, op, engine)
        nodes.append(_node_row(name, op, wish((name,))[0], held.get(name, []), nothing, profiles))
    counts = Counter("no kernel" if row.code in IDLE else show(row.computed_in) for row in nodes)
    notes = []
    if options and options.layer_precisions and options.precision_constraints == "none":
        notes.append(
            "layer precisions without precision_constraints prefer or obey have no effect "
            "(documented: v8.6.1:samples/common/sampleOptions.cpp:1000-1005)"
        )
    if engine.detailed is False:
        notes.append("the engine was built without detailed profiling verbosity: types are unknown")
    reformats = sum(layer.is_reformat for layer in layers)
    return PrecisionReport(
        tuple(nodes), tuple(rows), dict(counts.most_common()), reformats, tuple(notes)
    )
