"""The names that TensorRT makes up for tensors, beside those of the ONNX file."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ..record import Record, plural

if TYPE_CHECKING:
    from ..model.graph import OnnxModel

__all__ = [
    "INTERNAL",
    "NameCheck",
    "is_internal",
    "kind_of",
    "made_from",
    "names_behind",
    "stale_and_internal",
]

INTERNAL = ("(Unnamed ", "ONNXTRT_")
"""How TensorRT begins names that it makes up: ``(Unnamed Layer* 3) [Constant]_output`` to 9.x,
``(Unnamed ITensor* 3)`` in 5.x, ``ONNXTRT_Broadcast_283_output`` from 10.0 on.
"""
_MADE_FROM = re.compile(r"(.+?)(_\d+)?_output(?:_[1-9]\d*)?")
_KIND = re.compile(r"\(Unnamed Layer\* \d+\) \[([^\]]+)\]")


def kind_of(line: str) -> str | None:
    """The kind in a name that TensorRT made up; None for any other name.

    >>> kind_of("(Unnamed Layer* 3) [Matrix Multiply]_output"), kind_of("conv1")
    ('Matrix Multiply', None)
    """
    found = _KIND.match(line)
    return found[1] if found else None


@dataclass(frozen=True)
class NameCheck(Record):
    """A cache's names against a model's tensors.

    ``stale`` are names that the model does not have (TensorRT ignores them without a message),
    ``internal`` names that TensorRT made up for tensors inside an ONNX node (the ONNX file cannot
    confirm them), ``missing`` the model's tensors with no line: TensorRT warns "Missing scale and
    zero-point for tensor X" and keeps the layer out of INT8, unless the tensor takes part in a
    fusion or shares another tensor's scale.
    """

    matched: tuple[str, ...]
    stale: tuple[str, ...]
    internal: tuple[str, ...]
    missing: tuple[str, ...]

    def summary(self) -> str:
        fit = plural(len(self.matched), "name fits", "names fit")
        without = plural(len(self.missing), "tensor of the model has", "tensors of the model have")
        return (
            f"{fit} the model, {len(self.stale)} stale, {len(self.internal)} TensorRT's own, "
            f"{without} no line"
        )

    def rows(self) -> list[dict[str, Any]]:
        states = dict.fromkeys(self.matched, "fits") | dict.fromkeys(self.stale, "stale")
        states |= dict.fromkeys(self.internal, "TensorRT's own")
        states |= dict.fromkeys(self.missing, "no line")
        return [{"tensor": name, "state": state} for name, state in states.items()]


def names_behind(model: OnnxModel) -> frozenset[str]:
    """The nodes and tensors of a model that TensorRT makes names of its own from."""
    known = {""}.union(*((node.name, *node.inputs, *node.outputs) for node in model.nodes))
    return frozenset(known - {""})


def made_from(name: str, known: Collection[str]) -> str | None:
    """The node or tensor among ``known`` after which TensorRT called a tensor of its own.

    From 10.0 on a layer has its ONNX node's name and its output that name with ``_output``
    (``_output_2`` for its second), a constant's likewise; a number parts layers of one name.

    >>> made_from("fc.weight_output", {"fc.weight"}), made_from("conv_12_output_2", {"conv"})
    ('fc.weight', 'conv')
    >>> made_from("conv_output_0", {"conv"}) is None  # a PyTorch exporter's own name
    True
    """
    match = _MADE_FROM.fullmatch(name)
    if match is None:
        return None
    return next((part for part in (f"{match[1]}{match[2] or ''}", match[1]) if part in known), None)


def is_internal(name: str, known: Collection[str] = ()) -> bool:
    """Whether TensorRT made up this tensor's name; ``known`` as :func:`names_behind` gives it."""
    return name.startswith(INTERNAL) or made_from(name, known) is not None


def stale_and_internal(
    names: Iterable[str], model: OnnxModel
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The names that are no tensors of the model: another model's, and TensorRT's own.

    What nodes make of constants alone is a tensor here: TensorRT calibrates it too.
    """
    tensors, known = set(model.tensors), names_behind(model)
    tensors.update(*(node.outputs for node in model.nodes))
    others = {name: is_internal(name, known) for name in names if name not in tensors}
    stale = tuple(name for name, internal in others.items() if not internal)
    return stale, tuple(name for name, internal in others.items() if internal)
