"""Which tensors share one scale, and which only TensorRT has: predicted from the ONNX graph."""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from functools import cached_property, partial
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ..model.graph import Graph, OnnxModel, attributes, live_tensors, node_key
from ..model.operators import POOLS
from ..model.read import read_model
from ..record import Record

if TYPE_CHECKING:
    import onnx

__all__ = [
    "TIES",
    "UNTIED",
    "Candidate",
    "Tie",
    "TieReport",
    "could_be",
    "flat_pools",
    "hidden_parts",
    "in_concat",
    "made_of_constants",
    "merged_siblings",
    "predict_ties",
    "tensors_of_kind",
]

Array = NDArray[Any]
MADE_BY = {
    "Softmax": ("Softmax", "LogSoftmax"),
    "Convolution": ("Conv",),
    "Deconvolution": ("ConvTranspose",),
    "Pooling": POOLS,
    "Matrix Multiply": ("MatMul", "Gemm"),
}
"""TensorRT's kind of layer -> the ONNX operators that become one; any may become another kind."""
CONV_SHAPE = ("kernel_shape", "strides", "pads", "dilations", "auto_pad")


@dataclass(frozen=True)
class Candidate:
    """A tensor that TensorRT has and the ONNX file has not: a constant, a product, or several
    outputs joined.

    ``needs``: the ONNX tensors whose values ``compute`` takes, in this order; ``stale``: all but
    the first of them hold the batch before, zeros at first.
    """

    name: str  # what to call it: "constant W", "product of gemm1", "a, b and c computed as one"
    needs: tuple[str, ...]
    compute: Callable[..., Array] = field(repr=False)
    stale: bool = False

    def values(
        self, tensors: Mapping[str, Array], before: Mapping[str, Array] | None = None
    ) -> Array | None:
        """Its values for one batch of activations; None where they cannot be computed.

        ``before``: the batch before, None for the first.
        """
        if any(name not in tensors for name in self.needs):
            return None
        arrays = [tensors[name] for name in self.needs]
        if self.stale:
            arrays[1:] = [
                np.zeros_like(array) if before is None else before[name]
                for name, array in zip(self.needs[1:], arrays[1:], strict=True)
            ]
        return self.compute(*arrays)


def _product(weight: Array, values: Array) -> Array:
    return np.asarray((values @ weight).astype(np.float32))


def _joined(first: Array, *others: Array) -> Array:
    """Tensors joined along the channels, of which the first one's number of values count."""
    return np.concatenate([first, *others], axis=1).ravel()[: first.size]


def could_be(part: str, kind: str) -> bool:
    """Whether a layer of ``kind`` may have made the part of :func:`hidden_parts` of this name.

    >>> could_be("product of fc", "Matrix Multiply"), could_be("constant b", "Pooling")
    (True, False)
    """
    is_product = part.startswith("product of ")
    return kind in (("Matrix Multiply",) if is_product else ("Constant", "Shuffle"))


def tensors_of_kind(proto: onnx.ModelProto, kind: str) -> tuple[str, ...]:
    """The ONNX tensors whose values a layer of TensorRT's ``kind`` may hold.

    Pooling's input is among them: both have one scale.
    """
    operators = MADE_BY.get(kind)
    names = [value.name for value in proto.graph.input if operators is None]
    for node in proto.graph.node:
        if operators is None or node.op_type in operators:
            names += [*node.output, *(node.input[:1] if kind == "Pooling" else ())]
    return tuple(dict.fromkeys(names))


def flat_pools(proto: onnx.ModelProto) -> frozenset[str]:
    """Outputs of 1-D pooling, calibrated on their own: TensorRT reshapes around them."""
    return frozenset(
        node.output[0]
        for node in proto.graph.node
        if node.op_type in POOLS and len(attributes(node).get("kernel_shape", (0, 0))) == 1
    )


def made_of_constants(proto: onnx.ModelProto) -> frozenset[str]:
    """Tensors that nodes make from constants and from shapes alone, such as a reshaped bias."""
    made = {name for node in proto.graph.node for name in node.output}
    return frozenset(made - set(live_tensors(proto, ("Shape", "Size"))))


def hidden_parts(proto: onnx.ModelProto) -> tuple[Candidate, ...]:
    """Every float constant of the model, and every Gemm's product before its bias."""
    graph = Graph(proto)
    constants = {name: graph.array(name) for name in graph.constants}
    parts = [
        Candidate(f"constant {name}", (), partial(np.asarray, array))
        for name, array in constants.items()
        if array.dtype == np.float32 and array.size
    ]
    for node in proto.graph.node:
        options = attributes(node) if node.op_type == "Gemm" else {}
        weight = constants.get(node.input[1]) if len(node.input) > 1 else None
        if node.op_type == "Gemm" and weight is not None and not options.get("transA"):
            weight = weight.T if options.get("transB") else weight
            weight = np.ascontiguousarray(weight * np.float32(options.get("alpha", 1.0)))
            name = f"product of {node_key(node)}"
            parts.append(Candidate(name, (node.input[0],), partial(_product, weight)))
    return tuple(parts)


def merged_siblings(proto: onnx.ModelProto) -> dict[str, Candidate]:
    """First tensor -> what TensorRT takes for it where sibling convolutions became one layer.

    Convolutions of one input with the same kernel, strides and padding, all followed by a Relu or
    all not, are run as one. Their joined output keeps the first one's name, and the calibrators
    that look at the fused network (entropy and legacy) read as many of its values as the first
    one's own output has. Measured: data/recordings/*/calibration, the Inception-like network, all
    four scales to float32.
    """
    readers = Graph(proto).readers
    groups: dict[tuple[Any, ...], list[str]] = {}
    for node in proto.graph.node:
        options = attributes(node)
        if node.op_type != "Conv" or options.get("group", 1) != 1:
            continue
        after = readers.get(node.output[0], [])
        is_fused = len(after) == 1 and after[0].op_type == "Relu"
        shape = [str(options.get(name)) for name in CONV_SHAPE]
        names = groups.setdefault((node.input[0], *shape, is_fused), [])
        names.append((after[0] if is_fused else node).output[0])
    return {
        first: Candidate(
            f"{', '.join([first, *others[:-1]])} and {others[-1]} computed as one",
            (first, *others),
            _joined,
        )
        for first, *others in groups.values()
        if others
    }


def in_concat(proto: onnx.ModelProto) -> dict[str, Candidate]:
    """Tensor -> what TensorRT takes for it where it is the first part of a Concat along the
    channels.

    TensorRT lets it be written straight into the Concat's memory. The calibrators that look at the
    fused network (entropy and legacy) then read as many values as the tensor has from there on,
    without a step over its neighbours: in all but the last image these are partly theirs, as the
    batch before left them (zeros at first). Measured: data/recordings/*/calibration, down0b_relu of
    the U-Net, both scales to float32. Where the neighbours' memory has served other tensors in
    between, as for two more of the recorded tensors, it cannot be computed here.
    """
    made = {name for node in proto.graph.node for name in node.output}
    return {
        node.input[0]: Candidate(
            f"{node.input[0]} in the memory of {node.output[0]}",
            tuple(node.input),
            _joined,
            stale=True,
        )
        for node in proto.graph.node
        if node.op_type == "Concat"
        and attributes(node).get("axis") == 1
        and made.issuperset(node.input)
    }


TIES = {
    "MaxPool": "the largest of some of its input's values is one of them: the input's scale fits",
    "AveragePool": "a mean of its input's values lies within their range: the input's scale fits",
}
"""ONNX operators whose output gets its input's scale, and why (measured:
data/recordings/*/calibration/ties.json).

Global pooling, slices, Split, Gather and Concat are calibrated on their own; Flatten, Reshape,
Transpose, Identity and their like only hold the same values, and so get the same scale.
"""
UNTIED = ("entropy", "legacy")
"""Calibrators that give pooled tensors a scale of their own (measured: data/recordings/)."""


@dataclass(frozen=True)
class Tie(Record):
    """``tensor`` is given the scale of ``source``, through the nodes named in ``through``."""

    tensor: str
    source: str
    through: tuple[str, ...]
    reason: str


@dataclass(frozen=True)
class TieReport(Record):
    """All tensors of a network that are predicted to share another tensor's scale."""

    ties: tuple[Tie, ...]
    tensors: int

    def summary(self) -> str:
        return f"{len(self.ties)} of {self.tensors} tensors share another tensor's scale"

    def rows(self) -> list[dict[str, Any]]:
        return [
            {
                "tensor": t.tensor,
                "takes the scale of": t.source,
                "through": t.through,
                "why": t.reason,
            }
            for t in self.ties
        ]

    def source_of(self, tensor: str) -> str:
        """The tensor whose scale ``tensor`` gets: itself where nothing is shared."""
        return self._sources.get(tensor, tensor)

    @cached_property
    def _sources(self) -> dict[str, str]:
        return {tie.tensor: tie.source for tie in self.ties}


def predict_ties(
    model: OnnxModel | str | os.PathLike[str],
    algorithm: str = "entropy2",
    own: Collection[str] = (),
) -> TieReport:
    """The ties of a network: a tensor made by an operator in :data:`TIES` takes its first input's
    scale, and so on up.

    ``algorithm``: entropy2, entropy, minmax or legacy; those in :data:`UNTIED` tie nothing. ``own``
    names tensors known to have a scale of their own: outputs of 1-D pooling (:func:`flat_pools`).

    >>> from trtlearn.model.course_data import model_path
    >>> predict_ties(model_path("resnet")).tensors > 10
    True
    """
    known = model if isinstance(model, OnnxModel) else read_model(model)
    ties: dict[str, Tie] = {}
    tensors = set(known.tensors)
    for node in known.nodes:
        if algorithm in UNTIED or node.op not in TIES or not (node.inputs and node.outputs):
            continue
        tensor, source = node.outputs[0], node.inputs[0]
        if source not in tensors or tensor in own:
            continue
        through: tuple[str, ...] = (node.name or tensor,)
        if before := ties.get(source):
            source, through = before.source, before.through + through
        ties[tensor] = Tie(tensor, source, through, TIES[node.op])
    return TieReport(tuple(ties.values()), len(known.tensors))
