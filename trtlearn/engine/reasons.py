"""Why a layer runs in another type than the one allowed: reasons in order, with their evidence."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, NamedTuple

from ..model.operators import QDQ
from ..record import show
from .names import plain_name, reformat_target, without_profile
from .records import BuildOptions, BuildReport, EngineInfo, EngineLayer, EngineTensor, Message

if TYPE_CHECKING:
    from ..model.describe import OnnxModel

__all__ = [
    "Facts",
    "Reason",
    "fed_by_dq",
    "gather",
    "reason_for_idle",
    "reason_for_wider",
    "sources_of",
]

_INTEGERS = {"int32", "int64", "bool", "uint8"}
_QUANTIZED = {"int8", "int4", "fp8"}


class Reason(NamedTuple):
    """A stable ``code``, plain words, and their ``evidence``: documented, measured or inferred."""

    code: str
    words: str
    evidence: str


@dataclass(frozen=True)
class Facts:
    """What is known beside the engine's layers; everything may be empty."""

    options: BuildOptions | None = None
    messages: tuple[Message, ...] = ()
    scales: frozenset[str] = frozenset()  # tensors whose INT8 scale the log names; empty: not known
    operators: dict[str, str] = field(default_factory=dict)  # by ONNX node
    edges: dict[str, tuple[str, ...]] = field(default_factory=dict)  # ONNX node -> its activations
    outputs: dict[str, str] = field(default_factory=dict)  # tensor -> the network output it becomes
    origin: dict[str, str] = field(default_factory=dict)  # reformatted tensor -> what it copies

    def named(self, *codes: str) -> frozenset[str]:
        """The tensors or layers that messages of these kinds name."""
        names: set[str] = set()
        for message in self.messages:
            if message.code in codes:
                names.update(message.names)
        return frozenset(names)


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


def gather(
    engine: EngineInfo,
    options: BuildOptions | None,
    build: BuildReport | None,
    model: OnnxModel | None,
) -> Facts:
    """What an engine, its build and its model say that a reason may rest on."""
    operators: dict[str, str] = {}
    edges: dict[str, tuple[str, ...]] = {}
    if model is not None:
        activations = set(model.tensors)
        for node in model.nodes:
            around = (*node.inputs, *node.outputs)
            operators[node.name] = node.op
            edges[node.name] = tuple(name for name in around if name in activations)
    origin = sources_of(engine)
    results = {binding.name for binding in engine.bindings if binding.mode == "output"}
    outputs: dict[str, str] = {}
    for layer in engine.layers:
        for tensor in layer.outputs:
            output = without_profile(tensor.name)
            if output in results:
                outputs[tensor.name] = outputs[origin.get(tensor.name, tensor.name)] = output
    scales = [entry.name for entry in build.scales if entry.scale] if build else []
    messages = build.messages if build else ()
    return Facts(options, messages, frozenset(scales), operators, edges, outputs, origin)


def fed_by_dq(model: OnnxModel | None) -> frozenset[str]:
    """The nodes all of whose activations a DequantizeLinear makes: what Q/DQ asks to quantize."""
    if model is None or not model.has_qdq:
        return frozenset()
    dequantized: set[str] = set()
    for node in model.nodes:
        if node.op == "DequantizeLinear":
            dequantized.update(node.outputs)
    activations, fed = set(model.tensors), set()
    for node in model.nodes:
        inputs = activations.intersection(node.inputs)
        if node.op not in QDQ and inputs and inputs <= dequantized:
            fed.add(node.name)
    return frozenset(fed)


def _listed(names: list[str]) -> str:
    more = f" and {len(names) - 3} more" if len(names) > 3 else ""
    return ", ".join(names[:3]) + more


def _conversion(before: EngineTensor, after: EngineTensor) -> str:
    if before.dtype is None and after.dtype is None:
        return "the types are not shown"
    if before.dtype != after.dtype:
        return f"converts {show(before.dtype)} to {show(after.dtype)}"
    return "same type" if before.format == after.format else "same type, another layout"


def reason_for_idle(layer: EngineLayer) -> Reason | None:
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


@dataclass(frozen=True)
class _Case:
    """A layer that works in ``computed`` where the narrower type ``allowed`` was allowed too."""

    layer: EngineLayer
    computed: str | None
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

    @cached_property
    def without_scale(self) -> frozenset[str]:
        """The tensors that the log says have no scale."""
        return self.facts.named("missing-scale", "tensor-zero")


def _integers(case: _Case) -> Reason | None:
    dtypes = {*case.layer.input_dtypes, *case.layer.output_dtypes} - {None}
    if dtypes and dtypes <= _INTEGERS:
        return Reason("integers", "works on integers, such as shapes and indices", "measured")
    return None


def _plugin(case: _Case) -> Reason | None:
    layer = case.layer
    if not (layer.kind or "").startswith("Plugin") and '"PluginType"' not in layer.raw:
        return None
    words = (
        "a plugin: it runs in the types that its author offers, whatever the flags allow "
        "(supportsFormatCombination, v8.6.1:include/NvInferRuntime.h)"
    )
    return Reason("plugin", words, "documented")


def _reads_integers(case: _Case) -> Reason | None:
    """Not INT8 codes: shapes, indices, images as bytes, and the Cast that turns them to floats."""
    read = {*case.layer.input_dtypes} - {None}
    if read and read <= _INTEGERS and not case.layer.weight_count:
        words = f"reads {_listed(sorted(map(str, read)))}, which INT8 quantization leaves as it is"
        return Reason("integers", words, "measured")
    return None


def _unknown(case: _Case) -> Reason | None:
    layer = case.layer
    if case.computed is not None:
        return None
    if not layer.inputs:
        words = "no inputs are listed"
    elif None in layer.input_dtypes:
        words = "the type of an input is not shown"
    elif layer.kind in ("Myelin", "kgen"):
        read = sorted({dtype for dtype in layer.input_dtypes if dtype})
        words = f"reads {_listed(read)}; the type inside is not shown"
    else:
        words = "its inputs differ in type and its weights are not listed"
    return Reason("unknown", words, "inferred")


def _quantizes(case: _Case) -> Reason | None:
    written = case.layer.output_dtypes
    kind = (case.layer.kind or "").lower()
    does = kind == "kgen" or "quantize" in kind
    if does and written and set(written) <= _QUANTIZED:
        words = f"reads {case.computed} and writes {written[0]}: it quantizes"
        return Reason("quantizes", words, "measured")
    return None


def _no_scale(case: _Case) -> Reason | None:
    names = [name for name in case.tensors if name in case.without_scale]
    if case.allowed == "int8" and names:
        words = f"no scale for tensor {_listed(names)}: TensorRT's log says so"
        return Reason("no-scale", words, "measured")
    return None


def _no_kernel(case: _Case) -> Reason | None:
    names = {case.layer.name, plain_name(case.layer.name), *case.layer.onnx_nodes}
    if names & case.facts.named("no-implementation", "constraint-not-met"):
        words = f"no {case.allowed} kernel for it: TensorRT's log says so"
        return Reason("no-kernel", words, "measured")
    return None


def _softmax(case: _Case) -> Reason | None:
    operators = {case.facts.operators.get(node) for node in case.layer.onnx_nodes}
    is_softmax = "Softmax" in operators or "softmax" in (case.layer.kind or "").lower()
    if case.allowed == "int8" and is_softmax:
        source = "docs.nvidia.com/…/tensorrt-860-ea/operators/docs/SoftMax.html"
        words = f"SoftMax takes float16 and float32 only ({source})"
        return Reason("no-int8-kernel", words, "documented")
    return None


def _perhaps_no_scale(case: _Case) -> Reason | None:
    if case.allowed != "int8":
        return None
    names = [name for name in case.outer_tensors if name in case.without_scale]
    if names:
        words = f"perhaps because tensor {_listed(names)} has no scale"
        return Reason("no-scale", words, "inferred")
    if not case.facts.scales:
        return None
    names = [name for name in case.tensors if name not in {*case.facts.scales, *case.facts.outputs}]
    if case.facts.edges:  # names that the engine made up itself have no scale of their own
        names = [name for name in names if name in case.outer_tensors]
    if names:
        words = f"perhaps because tensor {_listed(names)} has no scale: the log lists none"
        return Reason("no-scale", words, "inferred")
    return None


def _network_output(case: _Case) -> Reason | None:
    """Not for a layer with weights: kernels read INT8 and write FP32 (measured: resnet's last)."""
    layer, outputs = case.layer, case.facts.outputs
    written = [case.facts.origin.get(tensor.name, tensor.name) for tensor in layer.outputs]
    if layer.weight_count or not written or not outputs.keys() >= set(written):
        return None
    if set(layer.output_dtypes) != {"fp32"}:
        return None
    words = (
        f"it writes the network output {_listed([outputs[name] for name in written])}, "
        "fp32 unless --outputIOFormats says otherwise "
        "(v8.6.1:samples/common/sampleOptions.cpp:2059); "
        "another type would need a reformat after it"
    )
    return Reason("network-output", words, "inferred")


def _faster(case: _Case) -> Reason:
    other = "" if case.facts.options else ", or the network's own types ask for it"
    if case.computed == "fp16" and case.allowed == "int8":
        words = f"the builder timed FP16 as faster here, or found no INT8 kernel{other}"
    else:
        words = (
            f"the builder timed {case.computed} as faster here, "
            f"or found no {case.allowed} kernel for this shape{other}"
        )
    return Reason(f"faster-in-{case.computed}", words, "inferred")


_REASONS: tuple[Callable[[_Case], Reason | None], ...] = (
    _integers,
    _plugin,
    _reads_integers,
    _unknown,
    _quantizes,
    _no_scale,
    _no_kernel,
    _softmax,
    _perhaps_no_scale,
    _network_output,
)
"""What may be the reason, in order: the first that answers counts."""


def reason_for_wider(
    layer: EngineLayer, computed: str | None, allowed: str, facts: Facts
) -> Reason:
    """Why ``layer`` works in ``computed`` where the narrower type ``allowed`` was allowed too."""
    case = _Case(layer, computed, allowed, facts)
    answers: Iterable[Reason | None] = (reason(case) for reason in _REASONS)
    return next(filter(None, answers), None) or _faster(case)
