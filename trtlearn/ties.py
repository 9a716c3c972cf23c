"""Which tensors share one scale: what TensorRT does not calibrate on its own, predicted from the ONNX graph."""

from __future__ import annotations

import os
from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

from .onnxfile import OnnxModel, read_model
from .record import Record

__all__ = ["TIES", "UNTIED", "Tie", "TieReport", "predict_ties"]

TIES = {
    "MaxPool": "the largest of some of its input's values is one of those values: the input's scale fits",
    "AveragePool": "a mean of some of its input's values lies within their range: the input's scale fits",
}
"""ONNX operators whose output gets its input's scale, and why (measured: data/recordings/*/calibration/ties.json).

Global pooling, slices, Split, Gather and Concat are calibrated on their own; Flatten, Reshape, Transpose, Identity and
their like only hold the same values, and so get the same scale.
"""
UNTIED = ("entropy", "legacy")
"""Calibrators that give pooled tensors a scale of their own all the same (measured: data/recordings/)."""


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
            {"tensor": t.tensor, "takes the scale of": t.source, "through": t.through, "why": t.reason}
            for t in self.ties
        ]

    def source_of(self, tensor: str) -> str:
        """The tensor whose scale ``tensor`` gets: itself where nothing is shared."""
        return next((tie.source for tie in self.ties if tie.tensor == tensor), tensor)


def predict_ties(
    model: OnnxModel | str | os.PathLike[str], algorithm: str = "entropy2", own: Collection[str] = ()
) -> TieReport:
    """The ties of a network: a tensor made by an operator in :data:`TIES` takes its first input's scale, and so on up.

    ``algorithm``: entropy2, entropy, minmax or legacy; those in :data:`UNTIED` tie nothing. ``own`` names
    tensors known to have a scale of their own: outputs of 1-D pooling (parts.flat_pools).

    >>> from trtlearn.models import model_path
    >>> predict_ties(model_path("resnet")).tensors > 10
    True
    """
    known = model if isinstance(model, OnnxModel) else read_model(model)
    found: dict[str, Tie] = {}
    for node in known.nodes:
        if algorithm in UNTIED:
            break
        if node.op not in TIES or not node.inputs or not node.outputs or node.inputs[0] not in known.tensors:
            continue
        if node.outputs[0] in own:
            continue
        tensor, source = node.outputs[0], node.inputs[0]
        before = found.get(source)
        name = node.name or tensor
        found[tensor] = Tie(
            tensor,
            before.source if before else source,
            (*before.through, name) if before else (name,),
            TIES[node.op],
        )
    return TieReport(tuple(found.values()), len(known.tensors))
