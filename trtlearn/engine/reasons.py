"""Why a layer runs in another type than the one allowed: the reasons that can be shown, each with its evidence."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

from ..model.operators import QDQ
from ..record import show
from .names import plain_name, reformat_target, without_profile
from .records import BuildOptions, BuildReport, EngineInfo, EngineLayer, EngineTensor, Message

if TYPE_CHECKING:
    from ..model.describe import OnnxModel

__all__ = [
    "IDLE_KINDS",
    "Facts",
    "Reason",
    "computed_in",
    "fed_by_dq",
    "gather",
    "reason_for_layer",
    "reason_for_narrower",
    "sources_of",
]

IDLE_KINDS = (
    *("NoOp", "signal", "wait", "shape_call", "jmp", "cjmp"),
    *("DeviceToShapeHost", "ShapeHostToDevice", "TrainStation"),
)
"""LayerTypes that compute nothing: renamings, Myelin's control flow, copies of shapes and waiting for them."""

_FLOATS = ("fp32", "fp16", "bf16", "fp8")
_QUANTIZED = {"int8", "int4", "fp8"}
_INTEGERS = ("int32", "int64", "bool", "uint8")
_SOFTMAX = "SoftMax takes float16 and float32 only (docs.nvidia.com/…/tensorrt-860-ea/operators/docs/SoftMax.html)"
_NO_KERNEL = ("no-implementation", "constraint-not-met")


class Reason(NamedTuple):
    """A short stable ``code``, plain words, and their ``evidence``: documented, measured or inferred."""

    code: str
    words: str
    evidence: str


@dataclass(frozen=True)
class Facts:
    """What is known beside the engine's layers; everything may be empty."""

    options: BuildOptions | None = None
    messages: tuple[Message, ...] = ()
    scales: frozenset[str] = frozenset()  # tensors whose INT8 scale the log names; empty: not known
    operators: dict[str, str] = field(default_factory=dict)  # ONNX node -> op
    edges: dict[str, tuple[str, ...]] = field(
        default_factory=dict
    )  # ONNX node -> its activation tensors
    outputs: dict[str, str] = field(
        default_factory=dict
    )  # a tensor that is, or becomes, a network output -> its name
    origin: dict[str, str] = field(
        default_factory=dict
    )  # a reformatted tensor -> the tensor that it copies

    def named(self, codes: Iterable[str]) -> frozenset[str]:
        """The tensors or layers that messages of these kinds name."""
        wanted = set(codes)
        return frozenset(
            name for message in self.messages if message.code in wanted for name in message.names
        )


def sources_of(engine: EngineInfo) -> dict[str, str]:
    """Each tensor that a reformat wrote -> the tensor that it copied, through chains of reformats."""
    copied = {
        layer.outputs[0].name: layer.inputs[0].name
        for layer in engine.layers
        if (layer.is_reformat or layer.kind == "NoOp")
        and len(layer.inputs) == len(layer.outputs) == 1
    }
    found = {}
    for name, source in copied.items():
        at, seen = source, {name}
        while at in copied and at not in seen:
            seen.add(at)
            at = copied[at]
        found[name] = at
    return found


def gather(
    engine: EngineInfo,
    options: BuildOptions | None,
    report: BuildReport | None,
    model: OnnxModel | None,
) -> Facts:
    """What an engine, its build and its model say that a reason may rest on."""
    operators: dict[str, str] = {}
    edges: dict[str, tuple[str, ...]] = {}
    if model is not None:
        activations = set(model.tensors)
        for node in model.nodes:
            operators[node.name] = node.op
            edges[node.name] = tuple(
                name for name in (*node.inputs, *node.outputs) if name in activations
            )
    origin = sources_of(engine)
    outputs = {binding.name for binding in engine.bindings if binding.mode == "output"}
    written = [tensor.name for layer in engine.layers for tensor in layer.outputs]
    ends = {name: without_profile(name) for name in written if without_profile(name) in outputs}
    return Facts(
        options,
        report.messages if report else (),
        frozenset(entry.name for entry in report.scales if entry.scale) if report else frozenset(),
        operators,
        edges,
        {tensor: name for end, name in ends.items() for tensor in (end, origin.get(end, end))},
        origin,
    )


def fed_by_dq(model: OnnxModel | None) -> frozenset[str]:
    """The nodes all of whose activations come out of a DequantizeLinear: what Q/DQ asks to run quantized."""
    if model is None or not model.has_qdq:
        return frozenset()
    dequantized = {
        name for node in model.nodes if node.op == "DequantizeLinear" for name in node.outputs
    }
    made = set(model.tensors)
    found = set()
    for node in model.nodes:
        read = [name for name in node.inputs if name in made]
        if node.op not in QDQ and read and all(name in dequantized for name in read):
            found.add(node.name)
    return frozenset(found)


def computed_in(layer: EngineLayer) -> str | None:
    """The type in which a layer works, as far as weights and inputs show it; None where they do not.

    The weights' type where both are equally narrow (INT8 weights meet INT8 inputs); the inputs' where only the
    weights are narrow (weight-only quantization). A reformat or a NoOp computes nothing. "Myelin" is a stretch of the
    network in one layer; a "kgen" kernel only moves quantized inputs, or scales them to a type that is not named.
    """
    if layer.is_reformat or layer.kind in (*IDLE_KINDS, "Constant"):
        return None
    inputs = {dtype for dtype in layer.input_dtypes if dtype is not None}
    floats = inputs & set(_FLOATS)
    if layer.weight_count and layer.weight_dtype:
        wide = inputs & {"fp32", "fp16", "bf16"}
        narrow = layer.weight_dtype in ("int8", "int4", "fp8")
        if not (narrow and inputs and inputs <= wide):
            return layer.weight_dtype
        return wide.pop() if len(wide) == 1 else None
    if None in layer.input_dtypes or layer.kind == "Myelin":
        return None
    data = floats | (inputs & {"int8", "int4"})
    if layer.kind == "kgen" and data & _QUANTIZED:
        return None
    if data:
        return data.pop() if len(data) == 1 else None
    return inputs.pop() if len(inputs) == 1 else None


def _tensors(layer: EngineLayer, facts: Facts) -> list[str]:
    """The tensors at the layer's own edges, by the names that they had before any reformat."""
    return list(
        dict.fromkeys(facts.origin.get(t.name, t.name) for t in (*layer.inputs, *layer.outputs))
    )


def _at_edges_of_nodes(layer: EngineLayer, facts: Facts) -> list[str]:
    """The tensors that the layer's ONNX nodes read or write, without those between two of them (fused away)."""
    count = Counter(name for node in layer.onnx_nodes for name in facts.edges.get(node, ()))
    return [name for name, times in count.items() if times == 1]


def _listed(names: list[str]) -> str:
    more = f" and {len(names) - 3} more" if len(names) > 3 else ""
    return ", ".join(names[:3]) + more


def _converts(before: EngineTensor, after: EngineTensor) -> str:
    if before.dtype is None and after.dtype is None:
        return "the types are not shown"
    if before.dtype != after.dtype:
        return f"converts {show(before.dtype)} to {show(after.dtype)}"
    return "same type" if before.format == after.format else "same type, another layout"


def _why_unknown(layer: EngineLayer) -> str:
    """Why ``computed_in`` is None."""
    if not layer.inputs:
        return "no inputs are listed"
    if None in layer.input_dtypes:
        return "the type of an input is not shown"
    if layer.kind in ("Myelin", "kgen"):
        return f"reads {_listed(sorted(set(filter(None, layer.input_dtypes))))}; the type inside is not shown"
    return "its inputs differ in type and its weights are not listed"


def reason_for_layer(layer: EngineLayer) -> Reason | None:
    """The reason of a layer that computes nothing, or nothing that a quantization concerns; None for any other."""
    if layer.is_reformat:
        inserted = reformat_target(layer.name) is not None
        words = (
            "a reformat inserted by TensorRT" if inserted else "done as a reformat"
        )  # such as a QuantizeLinear
        if layer.inputs and layer.outputs:
            words += f": {_converts(layer.inputs[0], layer.outputs[0])}"
        return Reason("reformat", words, "measured")
    if layer.kind in IDLE_KINDS:
        return Reason("no-op", f"{layer.kind}: no kernel that computes", "measured")
    if layer.kind == "Constant":
        return Reason("constant", "a constant", "measured")
    return None


def reason_for_narrower(
    layer: EngineLayer, computed: str | None, allowed: str, facts: Facts
) -> Reason:
    """Why ``layer`` works in ``computed`` where the narrower type ``allowed`` was allowed too."""
    tensors = _tensors(layer, facts)
    names = {layer.name, plain_name(layer.name), *layer.onnx_nodes}
    dtypes = {dtype for dtype in (*layer.input_dtypes, *layer.output_dtypes) if dtype is not None}
    if dtypes and dtypes <= set(_INTEGERS):
        return Reason("integers", "works on integers, such as shapes and indices", "measured")
    if computed is None:
        return Reason("unknown", _why_unknown(layer), "inferred")
    if layer.kind == "kgen" and layer.output_dtypes and set(layer.output_dtypes) <= _QUANTIZED:
        return Reason(
            "quantizes",
            f"reads {computed} and writes {layer.output_dtypes[0]}: it quantizes",
            "measured",
        )
    missing = facts.named(["missing-scale", "tensor-zero"])
    if allowed == "int8" and (without := [name for name in tensors if name in missing]):
        return Reason(
            "no-scale",
            f"no scale for tensor {_listed(without)}: TensorRT's log says so",
            "measured",
        )
    if names & facts.named(_NO_KERNEL):
        return Reason(
            "no-kernel", f"no {allowed} kernel for it: TensorRT's log says so", "measured"
        )
    if allowed == "int8":
        softmax = any(facts.operators.get(node) == "Softmax" for node in layer.onnx_nodes)
        if softmax or "softmax" in (layer.kind or "").lower():
            return Reason("no-int8-kernel", _SOFTMAX, "documented")
        known = _at_edges_of_nodes(layer, facts) or tensors
        if without := [name for name in known if name in missing]:
            return Reason(
                "no-scale", f"perhaps because tensor {_listed(without)} has no scale", "inferred"
            )
        if facts.scales:
            unlisted = [
                name for name in tensors if name not in facts.scales and name not in facts.outputs
            ]
            if facts.edges:  # names that the engine made up itself have no scale of their own
                unlisted = [name for name in unlisted if name in known]
            if unlisted:
                words = (
                    f"perhaps because tensor {_listed(unlisted)} has no scale: the log lists none"
                )
                return Reason("no-scale", words, "inferred")
    written = [facts.origin.get(tensor.name, tensor.name) for tensor in layer.outputs]
    # no reason for a layer with weights: kernels that read INT8 and write FP32 exist (measured: resnet's last layer)
    if (
        written
        and not layer.weight_count
        and all(name in facts.outputs for name in written)
        and set(layer.output_dtypes) == {"fp32"}
    ):
        names_out = _listed([facts.outputs[name] for name in written])
        words = (
            f"it writes the network output {names_out}, fp32 unless --outputIOFormats says otherwise "
            "(v8.6.1:samples/common/sampleOptions.cpp:2059); another type would need a reformat after it"
        )
        return Reason("network-output", words, "inferred")
    other = "" if facts.options else ", or the network's own types ask for it"
    if computed == "fp16" and allowed == "int8":
        words = f"the builder timed FP16 as faster here, or found no INT8 kernel{other}"
        return Reason("faster-in-fp16", words, "inferred")
    words = f"the builder timed {computed} as faster here, or found no {allowed} kernel for this shape{other}"
    return Reason(f"faster-in-{computed}", words, "inferred")
