"""Requested against chosen: in which type each ONNX node and engine layer runs, and why.

Never "the precision": a layer has input types, output types and a type of its weights, and they
differ. Each reason is marked documented (a rule in a source cited), measured (this engine's
inspector or log says so) or inferred.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from itertools import chain
from typing import TYPE_CHECKING, Any, NamedTuple

from ..model.operators import QDQ, RESHAPES
from ..record import Record, Table, html_table, html_text, plural, show
from .layers import (
    QUANTIZED,
    EngineInfo,
    EngineLayer,
    EngineTensor,
    infer_nodes,
    plain_name,
    reformat_target,
    without_profile,
)
from .records import BuildOptions, BuildReport

if TYPE_CHECKING:
    from ..model.graph import OnnxModel

__all__ = [
    "Facts",
    "PrecisionReport",
    "PrecisionRow",
    "PrecisionRows",
    "Reason",
    "precision_report",
]

_INTEGERS = {"int32", "int64", "bool", "uint8"}
_NARROW = ("int4", "fp8", "int8", "fp16", "bf16", "fp32")
"""Types, the narrowest first."""


class Reason(NamedTuple):
    """A stable ``code``, plain words, and their ``evidence``: documented, measured or inferred."""

    code: str
    words: str
    evidence: str


class Facts:
    """What an engine, its build and its model say; each may say nothing.

    ``scales``: tensors whose INT8 scale the log names; ``operators`` and ``edges``: by ONNX node
    its operator and its activations; ``outputs``: tensor -> the network output that it becomes;
    ``origin``: reformatted tensor -> what it copies; ``allowed``: where the options are not known,
    the narrowest type that is known to have been allowed.
    """

    def __init__(
        self,
        engine: EngineInfo,
        options: BuildOptions | None = None,
        build: BuildReport | None = None,
        model: OnnxModel | None = None,
    ) -> None:
        self.options = options
        self.messages = build.messages if build else ()
        self.scales = {entry.name for entry in build.scales if entry.scale} if build else set()
        self.origin = sources_of(engine)
        self.outputs: dict[str, str] = {}
        results = {binding.name for binding in engine.bindings if binding.mode == "output"}
        for layer in engine.layers:
            for tensor in layer.outputs:
                output = without_profile(tensor.name)
                if output in results:
                    source = self.origin.get(tensor.name, tensor.name)
                    self.outputs[tensor.name] = self.outputs[source] = output
        types = {layer.computed_in for layer in engine.layers}
        self._by_qdq = next((dtype for dtype in ("int8", "fp8", "int4") if dtype in types), "int8")
        narrow = ("int8", "fp8", "fp16", "bf16") if options is None else ()
        self.allowed = next((dtype for dtype in narrow if dtype in types), None)
        self.operators: dict[str, str] = {}
        self.edges: dict[str, tuple[str, ...]] = {}
        self._has_qdq = bool(model and model.has_qdq)
        self._fed_by_dq: set[str] = set()
        if model is not None:
            self._read(model)

    def _read(self, model: OnnxModel) -> None:
        """The nodes' operators and activations; those nodes all of whose inputs are dequantized."""
        activations = set(model.tensors)
        dequantized: set[str] = set()
        for node in model.nodes:
            around = (*node.inputs, *node.outputs)
            self.operators[node.name] = node.op
            self.edges[node.name] = tuple(name for name in around if name in activations)
            dequantized.update(node.outputs if node.op == "DequantizeLinear" else ())
        for node in model.nodes if self._has_qdq else ():
            inputs = activations.intersection(node.inputs)
            if node.op not in QDQ and inputs and inputs <= dequantized:
                self._fed_by_dq.add(node.name)

    def named(self, *codes: str) -> set[str]:
        """The tensors or layers that messages of these kinds name."""
        names: set[str] = set()
        for message in self.messages:
            names.update(message.names if message.code in codes else ())
        return names

    def requested_alone(self, names: Iterable[str]) -> str | None:
        """The type that was asked of one of ``names`` alone: the first counts."""
        if self.options is None or self.options.precision_constraints not in ("prefer", "obey"):
            return None
        asked = self.options.layer_precisions
        return next((asked[name] for name in (*names, "*") if asked.get(name)), None)

    def requested(self, names: Iterable[str]) -> str | None:
        """The type that was asked of a layer or node by its ``names``, or of the network."""
        names = tuple(names)
        by_qdq = None if self._fed_by_dq.isdisjoint(names) else self._by_qdq
        if self.options is None:
            return by_qdq
        wide = "fp16" if self.options.fp16 else "fp32"
        if alone := self.requested_alone(names):
            return alone
        if self._has_qdq:
            return by_qdq or wide
        if self.options.ranges == "qdq":  # the pairs ask, and they are not in the model read here
            return None
        return "int8" if self.options.int8 else wide


def sources_of(engine: EngineInfo) -> dict[str, str]:
    """Each tensor that a reformat wrote -> the tensor that it copies, through chains of them."""
    copied = {
        layer.outputs[0].name: layer.inputs[0].name
        for layer in engine.layers
        if (layer.is_reformat or layer.kind == "NoOp")
        and len(layer.inputs) == len(layer.outputs) == 1
    }
    sources = {}
    for name, start in copied.items():
        source, passed = start, {name}
        while source in copied and source not in passed:
            passed.add(source)
            source = copied[source]
        sources[name] = source
    return sources


def layer_reason(layer: EngineLayer, facts: Facts) -> Reason:
    """Why a layer runs in its type: as requested, or what kept it from the type requested."""
    if reason := _idle(layer):
        return reason
    names = (*layer.onnx_nodes, layer.name)
    requested, alone = facts.requested(names), facts.requested_alone(names) is not None
    computed, expected = layer.computed_in, requested or facts.allowed
    words = "what was requested is not known"
    if facts.options and facts.options.ranges == "qdq":
        words = "the Q/DQ pairs ask for the type, and this ONNX file has none"
    unknown = Reason("request-unknown", words, "measured")
    if facts.options and computed is None and expected is None:
        return next(_wider(layer, "int8", facts))
    if expected is None or computed == expected:
        match = Reason("as-requested", "as requested", "measured") if requested else unknown
        return match._replace(words=match.words + _wider_output(layer, facts))
    both = computed in _NARROW and expected in _NARROW
    if both and _NARROW.index(computed or "") < _NARROW.index(expected):
        if requested is None:
            return unknown
        if alone:
            words = f"{requested} was asked for, TensorRT chose {computed}"
            return Reason("wish-not-met", words, "measured")
        words = f"runs in {computed}, narrower than what was requested"
        return Reason("narrower", words, "measured")
    reason = next(_wider(layer, expected, facts))
    if alone and reason.evidence == "inferred":
        constraint = facts.options.precision_constraints if facts.options else "prefer"
        words = f"{expected} was asked for with {constraint}; {reason.words}"
        return Reason("wish-not-met", words, "inferred")
    return reason


def _idle(layer: EngineLayer) -> Reason | None:
    """The reason of a layer that computes nothing; None for any other."""
    if layer.is_reformat:
        inserted = reformat_target(layer.name) is not None  # else such as a QuantizeLinear
        words = "a reformat inserted by TensorRT" if inserted else "done as a reformat"
        if layer.inputs and layer.outputs:
            words += f": {_conversion(layer.inputs[0], layer.outputs[0])}"
        return Reason("reformat", words, "measured")
    if layer.kind == "Constant":
        return Reason("constant", "a constant", "measured")
    if layer.role == "no-op":
        return Reason("no-op", f"{layer.kind}: no kernel that computes", "measured")
    return None


def _conversion(before: EngineTensor, after: EngineTensor) -> str:
    if before.dtype is None and after.dtype is None:
        return "the types are not shown"
    if before.dtype != after.dtype:
        return f"converts {show(before.dtype)} to {show(after.dtype)}"
    return "same type" if before.format == after.format else "same type, another layout"


def _wider_output(layer: EngineLayer, facts: Facts) -> str:
    """What is to be said of a narrow layer that writes a wider type."""
    if layer.computed_in not in QUANTIZED:
        return ""
    for tensor in layer.outputs:
        if tensor.dtype not in (None, layer.computed_in):
            output = facts.outputs.get(tensor.name)
            why = f"{output} is a network output" if output else f"{tensor.name} is not quantized"
            return f"; writes {tensor.dtype}: {why}"
    return ""


def _listed(names: list[str]) -> str:
    more = f" and {len(names) - 3} more" if len(names) > 3 else ""
    return ", ".join(names[:3]) + more


def _wider(layer: EngineLayer, allowed: str, facts: Facts) -> Iterator[Reason]:
    """Why a layer works in a wider type than ``allowed``: the first reason counts."""
    kind, written = layer.kind or "", layer.output_dtypes
    read = sorted({dtype for dtype in layer.input_dtypes if dtype})
    known = {*read, *written} - {None}
    if known and known <= _INTEGERS:
        yield Reason("integers", "works on integers, such as shapes and indices", "measured")
    if kind.startswith("Plugin") or '"PluginType"' in layer.raw:
        words = (
            "a plugin: it runs in the types that its author offers, whatever the flags allow "
            "(supportsFormatCombination, v8.6.1:include/NvInferRuntime.h)"
        )
        yield Reason("plugin", words, "documented")
    if read and _INTEGERS.issuperset(read) and not layer.weight_count:
        # no INT8 codes: shapes, indices, images as bytes, and the Cast that makes them floats
        words = f"reads {_listed(read)}, which INT8 quantization leaves as it is"
        yield Reason("integers", words, "measured")
    if layer.computed_in is None:
        words = "its inputs differ in type and its weights are not listed"
        if not layer.inputs:
            words = "no inputs are listed"
        elif None in layer.input_dtypes:
            words = "the type of an input is not shown"
        elif kind in ("Myelin", "kgen"):
            words = f"reads {_listed(read)}; the type inside is not shown"
        yield Reason("unknown", words, "inferred")
    makes_codes = kind == "kgen" or "quantize" in kind.lower()
    if makes_codes and written and QUANTIZED.issuperset(written):
        words = f"reads {layer.computed_in} and writes {written[0]}: it quantizes"
        yield Reason("quantizes", words, "measured")
    edges = (*layer.inputs, *layer.outputs)  # by the names that they had before any reformat
    tensors = list(dict.fromkeys(facts.origin.get(edge.name, edge.name) for edge in edges))
    without_scale = facts.named("missing-scale", "tensor-zero") if allowed == "int8" else set()
    if names := [name for name in tensors if name in without_scale]:
        words = f"no scale for tensor {_listed(names)}: TensorRT's log says so"
        yield Reason("no-scale", words, "measured")
    own = {layer.name, plain_name(layer.name), *layer.onnx_nodes}
    if own & facts.named("no-implementation", "constraint-not-met"):
        yield Reason("no-kernel", f"no {allowed} kernel for it: TensorRT's log says so", "measured")
    operators = {facts.operators.get(node) for node in layer.onnx_nodes}
    if allowed == "int8" and ("Softmax" in operators or "softmax" in kind.lower()):
        source = "docs.nvidia.com/…/tensorrt-860-ea/operators/docs/SoftMax.html"
        words = f"SoftMax takes float16 and float32 only ({source})"
        yield Reason("no-int8-kernel", words, "documented")
    # the tensors of its ONNX nodes, without those between two of them, which are fused away
    times = Counter(chain.from_iterable(facts.edges.get(node, ()) for node in layer.onnx_nodes))
    outer = [name for name, count in times.items() if count == 1] or tensors
    if names := [name for name in outer if name in without_scale]:
        words = f"perhaps because tensor {_listed(names)} has no scale"
        yield Reason("no-scale", words, "inferred")
    if allowed == "int8" and facts.scales:
        with_scale = {*facts.scales, *facts.outputs}
        if facts.edges:  # names that the engine made up itself have no scale of their own
            tensors = [name for name in tensors if name in outer]
        if names := [name for name in tensors if name not in with_scale]:
            words = f"perhaps because tensor {_listed(names)} has no scale: the log lists none"
            yield Reason("no-scale", words, "inferred")
    ends = [facts.outputs.get(facts.origin.get(one.name, one.name)) for one in layer.outputs]
    # no layer with weights: kernels read INT8 and write FP32 (measured: resnet's last)
    if set(written) == {"fp32"} and None not in ends and not layer.weight_count:
        words = (
            f"it writes the network output {_listed([str(name) for name in ends])}, fp32 unless "
            "--outputIOFormats says otherwise (v8.6.1:samples/common/sampleOptions.cpp:2059); "
            "another type would need a reformat after it"
        )
        yield Reason("network-output", words, "inferred")
    computed = layer.computed_in
    if (computed, allowed) == ("fp16", "int8"):
        words = "the builder timed FP16 as faster here, or found no INT8 kernel"
    else:
        words = f"the builder timed {computed} as faster here, "
        words += f"or found no {allowed} kernel for this shape"
    words += "" if facts.options else ", or the network's own types ask for it"
    yield Reason(f"faster-in-{computed}", words, "inferred")


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

    >>> from trtlearn.engine.layers import EngineTensor
    >>> x, y = EngineTensor("x", (1,), "int8"), EngineTensor("y", (1,), "int8")
    >>> nodes = ("conv", "relu")
    >>> conv = EngineLayer("conv + relu", None, (x,), (y,), "int8", 9, onnx_nodes=nodes)
    >>> report = precision_report(EngineInfo((conv,)), options=BuildOptions(int8=True))
    >>> report["relu"].computed_in, report["relu"].code, report["relu"].evidence
    ('int8', 'fused', 'measured')
    """
    options = options or (build.options if build else None)
    if isinstance(model, (str, os.PathLike)):
        from ..model.read import read_model

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
    if names and held and held.keys().isdisjoint(names):
        notes.append("no engine layer names a node of this model: was the engine built from it?")
    return PrecisionReport(
        tuple(nodes),
        tuple(rows),
        dict(counts.most_common()),
        len(engine.reformats),
        tuple(notes),
    )
