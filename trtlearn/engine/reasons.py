"""What was asked of an engine's layer, and why it runs in another type: reasons in order, with
their evidence.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, NamedTuple

from ..model.operators import QDQ
from ..record import show
from .names import plain_name, reformat_target, without_profile
from .records import BuildOptions, BuildReport, EngineInfo, EngineLayer, EngineTensor

if TYPE_CHECKING:
    from ..model.describe import OnnxModel

__all__ = ["Facts", "Reason", "layer_reason", "sources_of"]

_INTEGERS = {"int32", "int64", "bool", "uint8"}
_NARROW = ("int4", "fp8", "int8", "fp16", "bf16", "fp32")
"""Types, the narrowest first."""
_QUANTIZED = {"int8", "int4", "fp8"}


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
        if self._has_qdq or self.options.ranges == "qdq":
            return by_qdq or wide
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
    unknown = Reason("request-unknown", "what was requested is not known", "measured")
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
    reason = _wider(_Case(layer, expected, facts))
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
    if layer.computed_in not in _QUANTIZED:
        return ""
    for tensor in layer.outputs:
        if tensor.dtype not in (None, layer.computed_in):
            output = facts.outputs.get(tensor.name)
            why = f"{output} is a network output" if output else f"{tensor.name} is not quantized"
            return f"; writes {tensor.dtype}: {why}"
    return ""


# Why a layer works in a wider type than the one allowed: each says it in words, or "".


@dataclass(frozen=True)
class _Case:
    """A layer that works in a wider type than ``allowed``."""

    layer: EngineLayer
    allowed: str
    facts: Facts

    @cached_property
    def tensors(self) -> list[str]:
        """The tensors at the layer's own edges, by the names that they had before any reformat."""
        edges = (*self.layer.inputs, *self.layer.outputs)
        origin = self.facts.origin
        return list(dict.fromkeys(origin.get(tensor.name, tensor.name) for tensor in edges))

    @cached_property
    def outer_tensors(self) -> list[str]:
        """The tensors of the layer's ONNX nodes, without those between two of them (fused away)."""
        count: Counter[str] = Counter()
        for node in self.layer.onnx_nodes:
            count.update(self.facts.edges.get(node, ()))
        return [name for name, times in count.items() if times == 1] or self.tensors

    def without_scale(self, tensors: list[str]) -> str:
        """Those of the tensors that the log says have no scale; "" where INT8 is not allowed."""
        named = self.facts.named("missing-scale", "tensor-zero")
        return _listed([name for name in tensors if name in named and self.allowed == "int8"])


def _listed(names: list[str]) -> str:
    more = f" and {len(names) - 3} more" if len(names) > 3 else ""
    return ", ".join(names[:3]) + more


def _integers(case: _Case) -> str:
    dtypes = {*case.layer.input_dtypes, *case.layer.output_dtypes} - {None}
    is_so = dtypes and dtypes <= _INTEGERS
    return "works on integers, such as shapes and indices" if is_so else ""


def _plugin(case: _Case) -> str:
    layer = case.layer
    if not (layer.kind or "").startswith("Plugin") and '"PluginType"' not in layer.raw:
        return ""
    return (
        "a plugin: it runs in the types that its author offers, whatever the flags allow "
        "(supportsFormatCombination, v8.6.1:include/NvInferRuntime.h)"
    )


def _reads_integers(case: _Case) -> str:
    """Not INT8 codes: shapes, indices, images as bytes, and the Cast that turns them to floats."""
    read = {*case.layer.input_dtypes} - {None}
    if not read or not read <= _INTEGERS or case.layer.weight_count:
        return ""
    return f"reads {_listed(sorted(map(str, read)))}, which INT8 quantization leaves as it is"


def _unknown(case: _Case) -> str:
    layer = case.layer
    if layer.computed_in is not None:
        return ""
    if not layer.inputs:
        return "no inputs are listed"
    if None in layer.input_dtypes:
        return "the type of an input is not shown"
    if layer.kind in ("Myelin", "kgen"):
        read = sorted({dtype for dtype in layer.input_dtypes if dtype})
        return f"reads {_listed(read)}; the type inside is not shown"
    return "its inputs differ in type and its weights are not listed"


def _quantizes(case: _Case) -> str:
    written, kind = case.layer.output_dtypes, (case.layer.kind or "").lower()
    does = (kind == "kgen" or "quantize" in kind) and written and set(written) <= _QUANTIZED
    return f"reads {case.layer.computed_in} and writes {written[0]}: it quantizes" if does else ""


def _no_scale(case: _Case) -> str:
    names = case.without_scale(case.tensors)
    return f"no scale for tensor {names}: TensorRT's log says so" if names else ""


def _no_kernel(case: _Case) -> str:
    names = {case.layer.name, plain_name(case.layer.name), *case.layer.onnx_nodes}
    lacks = names & case.facts.named("no-implementation", "constraint-not-met")
    return f"no {case.allowed} kernel for it: TensorRT's log says so" if lacks else ""


def _softmax(case: _Case) -> str:
    operators = {case.facts.operators.get(node) for node in case.layer.onnx_nodes}
    is_softmax = "Softmax" in operators or "softmax" in (case.layer.kind or "").lower()
    source = "docs.nvidia.com/…/tensorrt-860-ea/operators/docs/SoftMax.html"
    words = f"SoftMax takes float16 and float32 only ({source})"
    return words if case.allowed == "int8" and is_softmax else ""


def _perhaps_no_scale(case: _Case) -> str:
    names = case.without_scale(case.outer_tensors)
    return f"perhaps because tensor {names} has no scale" if names else ""


def _no_scale_listed(case: _Case) -> str:
    if case.allowed != "int8" or not case.facts.scales:
        return ""
    names = [name for name in case.tensors if name not in {*case.facts.scales, *case.facts.outputs}]
    if case.facts.edges:  # names that the engine made up itself have no scale of their own
        names = [name for name in names if name in case.outer_tensors]
    words = f"perhaps because tensor {_listed(names)} has no scale: the log lists none"
    return words if names else ""


def _network_output(case: _Case) -> str:
    """Not for a layer with weights: kernels read INT8 and write FP32 (measured: resnet's last)."""
    layer, outputs = case.layer, case.facts.outputs
    written = [case.facts.origin.get(tensor.name, tensor.name) for tensor in layer.outputs]
    if layer.weight_count or not written or not outputs.keys() >= set(written):
        return ""
    if set(layer.output_dtypes) != {"fp32"}:
        return ""
    return (
        f"it writes the network output {_listed([outputs[name] for name in written])}, "
        "fp32 unless --outputIOFormats says otherwise "
        "(v8.6.1:samples/common/sampleOptions.cpp:2059); "
        "another type would need a reformat after it"
    )


_WIDER: tuple[tuple[str, str, Callable[[_Case], str]], ...] = (
    ("integers", "measured", _integers),
    ("plugin", "documented", _plugin),
    ("integers", "measured", _reads_integers),
    ("unknown", "inferred", _unknown),
    ("quantizes", "measured", _quantizes),
    ("no-scale", "measured", _no_scale),
    ("no-kernel", "measured", _no_kernel),
    ("no-int8-kernel", "documented", _softmax),
    ("no-scale", "inferred", _perhaps_no_scale),
    ("no-scale", "inferred", _no_scale_listed),
    ("network-output", "inferred", _network_output),
)
"""(code, evidence, what says it), in order: the first that has words counts."""


def _wider(case: _Case) -> Reason:
    for code, evidence, say in _WIDER:
        if words := say(case):
            return Reason(code, words, evidence)
    computed, allowed = case.layer.computed_in, case.allowed
    if (computed, allowed) == ("fp16", "int8"):
        words = "the builder timed FP16 as faster here, or found no INT8 kernel"
    else:
        words = f"the builder timed {computed} as faster here, "
        words += f"or found no {allowed} kernel for this shape"
    words += "" if case.facts.options else ", or the network's own types ask for it"
    return Reason(f"faster-in-{computed}", words, "inferred")
