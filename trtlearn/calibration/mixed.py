"""Tensors that mix ranges of very different size under one scale, as a detector's output does:
boxes in pixels beside scores from 0 to 1.

Nobody has to say which tensors these are. Candidates are the outputs of Concat, whose inputs are
the parts, and network outputs, whose parts are their channels. The data decide.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ..model.graph import Graph, live_tensors
from ..model.operators import REARRANGE
from ..record import Record, plural

if TYPE_CHECKING:
    import onnx

__all__ = ["SPREAD", "MixedMeter", "MixedPart", "MixedRange"]

SPREAD = 24.0
"""Parts mix where the largest values of one are this many times those of another: with one scale
for both, the smaller one keeps at most 5 of the 127 steps from 0 to the range's end.
"""
BOX = 4  # the channels of a box: fewer large ones are no detector's output
CHANNELS = {3: (1, 2), 4: (1,), 5: (2, 4)}
"""Rank of a network output -> the axes that can be a detector's channels: [N, channels, cells] or
turned, [N, channels, H, W], [N, anchors, channels, H, W] or with the channels last.
"""
SAME_VALUES = (*REARRANGE, "Concat")

Array = NDArray[Any]


@dataclass(frozen=True)
class MixedPart(Record):
    """One part of a tensor that mixes ranges: a tensor that was joined, or some channels."""

    name: str
    low: float
    high: float
    codes: int  # of 255: what the whole tensor's scale leaves its values at most

    @property
    def largest(self) -> float:
        """The largest magnitude in the data."""
        return max(-self.low, self.high)

    @property
    def is_score(self) -> bool:
        """Whether its values can be scores: all from 0 to 1."""
        return self.low >= 0 and self.high <= 1


@dataclass(frozen=True)
class MixedRange(Record):
    """A tensor whose one scale serves values of very different size; ``parts``: smallest first.

    ``also``: tensors that hold the same values in another shape, or joined with others.
    """

    tensor: str
    scale: float
    parts: tuple[MixedPart, ...]
    also: tuple[str, ...] = ()

    @property
    def codes(self) -> int:
        """The codes that the part with the smallest values is left with, of 255."""
        return self.parts[0].codes

    @property
    def advice(self) -> str:
        """What to do against it."""
        small, large = self.parts[0], self.parts[-1]
        apart = f"keep {small.name} and {large.name} apart up to the outputs"
        if small.is_score and large.largest > 1:
            apart = (
                f"divide {large.name} by the image's width inside the network, "
                "or give boxes and scores an output each"
            )
        places = ", ".join((self.tensor, *self.also))
        return f"{apart}, or keep the last layers out of INT8: no Q/DQ on {places}"

    def summary(self) -> str:
        small, large = self.parts[0], self.parts[-1]
        kind = "scores" if small.is_score and large.largest > 1 else "values"
        return (
            f"{self.tensor} mixes ranges: {large.name} up to {large.largest:.4g}, {small.name} up "
            f"to {small.largest:.3g}. One scale of {self.scale:.3g} leaves these {kind} "
            f"{plural(self.codes, 'code')} of 255"
        )

    def rows(self) -> list[dict[str, Any]]:
        return [
            {
                "tensor": self.tensor,
                "part": part.name,
                "from": part.low,
                "to": part.high,
                "codes of 255": part.codes,
            }
            for part in self.parts
        ]


class MixedMeter:
    """Watches the parts of every candidate of a network, batch by batch."""

    def __init__(self, model: onnx.ModelProto) -> None:
        live = set(live_tensors(model))
        self._graph = Graph(model)
        self._parts: dict[str, tuple[str, ...]] = {}
        for node in self._graph.nodes:
            parts = tuple(dict.fromkeys(name for name in node.input if name in live))
            if node.op_type == "Concat" and len(parts) > 1:
                self._parts[node.output[0]] = parts
        self._outputs = tuple(value.name for value in model.graph.output if value.name in live)
        self._spans: dict[str, tuple[float, float]] = {}
        self._channels: dict[tuple[str, int, int], tuple[Array, Array]] = {}  # by rank, axis

    @property
    def parts(self) -> tuple[str, ...]:
        """The tensors that Concat nodes join."""
        return tuple(dict.fromkeys(name for names in self._parts.values() for name in names))

    def observe(self, tensors: Mapping[str, Array]) -> None:
        """One batch: tensor -> its values. ``parts`` and the network's outputs are looked at."""
        for name in dict.fromkeys((*self.parts, *self._outputs)):
            values = tensors.get(name)
            if not isinstance(values, np.ndarray) or not values.size or values.dtype.kind != "f":
                continue
            low, high = self._spans.get(name, (0.0, 0.0))
            self._spans[name] = (min(low, float(values.min())), max(high, float(values.max())))
            if name in self._outputs:
                self._observe_channels(name, values)

    def _observe_channels(self, name: str, values: Array) -> None:
        for axis in CHANNELS.get(values.ndim, ()):
            others = tuple(other for other in range(values.ndim) if other != axis)
            low, high = values.min(axis=others), values.max(axis=others)
            key = name, values.ndim, axis
            if key in self._channels:
                seen = self._channels[key]
                if len(seen[0]) != len(low):  # an axis whose length the values decide
                    continue
                low, high = np.minimum(low, seen[0]), np.maximum(high, seen[1])
            self._channels[key] = (low, high)

    def results(self, scales: Mapping[str, float]) -> tuple[MixedRange, ...]:
        """The tensors that mix ranges, the fewest codes left first; ``scales``: tensor -> scale.

        A tensor without a scale takes that of one with the same values, or is left out.
        """
        mixed: list[MixedRange] = []
        covered: set[str] = set()
        for name, parts in self._parts.items():
            also = _same_values(self._graph, name)
            spans = {part: self._spans[part] for part in parts if part in self._spans}
            if one := _mixed(name, spans, also, scales):
                mixed.append(one)
                covered |= {name, *also}
        for (name, rank, _), (low, high) in self._channels.items():
            spans = {} if name in covered else _groups(low, high, alone=rank > 3)
            if one := _mixed(name, spans, (), scales):
                mixed.append(one)
        return tuple(sorted(mixed, key=lambda one: one.codes))


def _same_values(graph: Graph, name: str) -> tuple[str, ...]:
    """The tensors behind ``name`` that hold its values: turned, reshaped, or joined with others."""
    same: dict[str, None] = {}
    waiting = [name]
    while waiting:
        for node in graph.readers.get(waiting.pop(), []):
            if node.op_type in SAME_VALUES and node.output[0] not in same:
                same[node.output[0]] = None
                waiting.append(node.output[0])
    return tuple(same)


def _groups(low: Array, high: Array, alone: bool) -> dict[str, tuple[float, float]]:
    """The channels that can be scores, and those with much larger values; {} without both.

    ``alone``: {} also where other channels stand between them, as in a map of features.
    """
    largest = np.maximum(-low, high)
    scores = (low >= 0) & (high <= 1) & (high > 0)
    if not scores.any():
        return {}
    large = largest >= SPREAD * float(high[scores].max())
    if np.count_nonzero(large) < BOX or (alone and not (scores | large).all()):
        return {}
    return {
        f"channels {_runs(group)}": (float(low[group].min()), float(high[group].max()))
        for group in (scores, large)
    }


def _runs(chosen: Array) -> str:
    """The places of True, in words.

    >>> _runs(np.array([True, True, True, False, True]))
    '0 to 2, 4'
    """
    starts, ends = np.flatnonzero(np.diff(chosen, prepend=False, append=False)).reshape(-1, 2).T
    runs = zip(starts.tolist(), (ends - 1).tolist(), strict=True)
    return ", ".join(str(first) if first == last else f"{first} to {last}" for first, last in runs)


def _mixed(
    name: str,
    spans: Mapping[str, tuple[float, float]],
    also: tuple[str, ...],
    scales: Mapping[str, float],
) -> MixedRange | None:
    """The tensor as a finding; None where its parts are of like size, or its scale suits them."""
    scale = next((scales[one] for one in (name, *also) if scales.get(one)), None)
    parts = []
    for part, (low, high) in spans.items():
        if scale and np.isfinite([low, high]).all() and (low or high):
            ends = np.clip(np.rint(np.array([low, high]) / scale), -127, 127)
            parts.append(MixedPart(part, low, high, int(ends[1] - ends[0]) + 1))
    parts.sort(key=lambda part: part.largest)
    if len(parts) < 2 or scale is None:
        return None
    small, large = parts[0], parts[-1]
    if large.largest < SPREAD * small.largest or small.largest > 127 / SPREAD * scale:
        return None
    return MixedRange(name, scale, tuple(parts), also)
