"""Profiler times joined to engine layers by name; what does not join is listed, never dropped."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from ..errors import InspectorError
from ..record import Record, plural
from .inspector import inspector_text, parse
from .records import EngineInfo, Timing

__all__ = ["LayerTime", "LayerTimes", "layer_times"]


@dataclass(frozen=True)
class LayerTime(Record):
    """The time of one engine layer; None where the profile does not name it."""

    layer: str
    ms: float | None
    onnx_nodes: tuple[str, ...] = ()


@dataclass(frozen=True)
class LayerTimes(Record):
    """Every engine layer with its time, and what did not join on either side."""

    layers: tuple[LayerTime, ...]
    total_ms: float  # of the layers that joined
    without_time: tuple[str, ...]  # engine layers that the profile does not name
    without_layer: dict[str, float]  # profile entries that the engine does not name
    repeated: tuple[str, ...] = ()  # names that stand for several engine layers: not joined

    def summary(self) -> str:
        joined = sum(row.ms is not None for row in self.layers)
        rest = (
            f", {plural(len(self.without_layer), 'time')} without a layer"
            if self.without_layer
            else ""
        )
        return f"{joined} of {len(self.layers)} layers timed, {self.total_ms:.4f} ms together{rest}"

    def rows(self) -> list[dict[str, Any]]:
        """The slowest first; layers without a time last."""
        ordered = sorted(
            self.layers, key=lambda row: -math.inf if row.ms is None else row.ms, reverse=True
        )
        share = {
            row.layer: row.ms / self.total_ms
            for row in ordered
            if row.ms is not None and self.total_ms
        }
        return [
            {
                "layer": row.layer,
                "ms": row.ms,
                "share": f"{100 * share[row.layer]:.1f} %" if row.layer in share else None,
                "ONNX nodes": row.onnx_nodes,
            }
            for row in ordered
        ]


def _entries(text: str) -> Iterator[tuple[str, Any]]:
    """(name, ms) of a file of ``trtexec --exportProfile``: the median where it has one, else the mean."""
    data = parse(text)
    if isinstance(data, Mapping):
        yield from data.items()
        return
    if not isinstance(data, list):
        raise InspectorError(
            "expected the list that trtexec --exportProfile writes", "export the profile again"
        )
    for item in data:
        if isinstance(item, dict) and isinstance(item.get("name"), str):
            yield item["name"], item.get("medianMs", item.get("averageMs"))


def _pairs(times: Mapping[str, float] | Timing | str | os.PathLike[str]) -> list[tuple[str, Any]]:
    if isinstance(times, Timing):
        return list(times.layers_ms.items())
    if isinstance(times, Mapping):
        return list(times.items())
    return list(_entries(inspector_text(times)))


def layer_times(
    engine: EngineInfo, times: Mapping[str, float] | Timing | str | os.PathLike[str]
) -> LayerTimes:
    """Join the profiler's times to the engine's layers, by name.

    Args:
        times: layer name -> ms, a Timing with ``layers_ms``, or the JSON or the path of trtexec's --exportProfile.

    Raises:
        InspectorError: no such profile, or a time that is no number of at least 0.

    A name that the profile repeats is added up. A name that several engine layers share cannot be told apart:
    they are listed in ``repeated`` and get no time.

    >>> from trtlearn.engine.records import EngineLayer
    >>> joined = layer_times(EngineInfo((EngineLayer("a", None, (), ()),)), {"a": 0.5, "b": 0.1})
    >>> joined.layers[0].ms, joined.without_layer
    (0.5, {'b': 0.1})
    """
    found: dict[str, float] = {}
    for name, value in _pairs(times):
        if (
            isinstance(value, bool)
            or not isinstance(value, (int, float))
            or not 0 <= value < math.inf
        ):
            raise InspectorError(
                f"the time of {name[:60]!r} is {value!r:.40}, expected ms",
                "export the profile again",
            )
        found[name] = found.get(name, 0.0) + float(value)
    count: dict[str, int] = {}
    for layer in engine.layers:
        count[layer.name] = count.get(layer.name, 0) + 1
    repeated = tuple(
        name for name, times_named in count.items() if times_named > 1 and name in found
    )
    rows = tuple(
        LayerTime(
            layer.name, found.get(layer.name) if count[layer.name] == 1 else None, layer.onnx_nodes
        )
        for layer in engine.layers
    )
    return LayerTimes(
        rows,
        sum(row.ms for row in rows if row.ms is not None),
        tuple(row.layer for row in rows if row.ms is None),
        {name: ms for name, ms in found.items() if name not in count},
        repeated,
    )
