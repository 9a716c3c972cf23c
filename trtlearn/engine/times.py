"""Profiler times joined to engine layers by name; what does not join is listed, never dropped."""

from __future__ import annotations

import math
import os
import sys
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ..errors import InspectorError
from ..record import Record, plural
from .inspector import inspector_text, parse
from .layers import EngineInfo
from .records import Timing

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
        times = f"{joined} of {len(self.layers)} layers timed, {self.total_ms:.4f} ms together"
        without = plural(len(self.without_layer), "time")
        return f"{times}, {without} without a layer" if self.without_layer else times

    def rows(self) -> list[dict[str, Any]]:
        """The slowest first; layers without a time last."""
        rows = []
        for row in sorted(self.layers, key=lambda row: math.inf if row.ms is None else -row.ms):
            share = row.ms / self.total_ms if row.ms is not None and self.total_ms else None
            rows.append(
                {
                    "layer": row.layer,
                    "ms": row.ms,
                    "share": None if share is None else f"{100 * share:.1f} %",
                    "ONNX nodes": row.onnx_nodes,
                }
            )
        return rows


def _pairs(times: Mapping[str, float] | Timing | str | os.PathLike[str]) -> list[tuple[str, Any]]:
    """(name, ms) of each layer; of a file of ``trtexec --exportProfile`` the median, or the mean
    without one.
    """
    if isinstance(times, Timing):
        return list(times.layers_ms.items())
    data = times if isinstance(times, Mapping) else parse(inspector_text(times))
    if isinstance(data, Mapping):
        return list(data.items())
    if not isinstance(data, list):
        raise InspectorError(
            "expected the list that trtexec --exportProfile writes", "export the profile again"
        )
    named = [item for item in data if isinstance(item, dict) and isinstance(item.get("name"), str)]
    return [(item["name"], item.get("medianMs", item.get("averageMs"))) for item in named]


def layer_times(
    engine: EngineInfo, times: Mapping[str, float] | Timing | str | os.PathLike[str]
) -> LayerTimes:
    """Join the profiler's times to the engine's layers, by name.

    Args:
        times: layer name -> ms, a Timing with ``layers_ms``, or the JSON or the path of trtexec's
            --exportProfile.

    Raises:
        InspectorError: no such profile, or a time that is no number of at least 0.

    A name that the profile repeats is added up. Layers that share a name cannot be told apart: they
    are listed in ``repeated`` and get no time.

    >>> from trtlearn.engine.layers import EngineLayer
    >>> joined = layer_times(EngineInfo((EngineLayer("a", None, (), ()),)), {"a": 0.5, "b": 0.1})
    >>> joined.layers[0].ms, joined.without_layer
    (0.5, {'b': 0.1})
    """
    times_ms: dict[str, float] = {}
    for name, value in _pairs(times):
        is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
        if not is_number or not 0 <= value <= sys.float_info.max:
            raise InspectorError(
                f"the time of {name!r:.60} is {value!r:.40}, expected ms",
                "export the profile again",
            )
        times_ms[name] = times_ms.get(name, 0.0) + float(value)
    count = Counter(layer.name for layer in engine.layers)
    rows = []
    for layer in engine.layers:
        ms = times_ms.get(layer.name) if count[layer.name] == 1 else None
        rows.append(LayerTime(layer.name, ms, layer.onnx_nodes))
    return LayerTimes(
        tuple(rows),
        sum(row.ms for row in rows if row.ms is not None),
        tuple(row.layer for row in rows if row.ms is None),
        {name: ms for name, ms in times_ms.items() if name not in count},
        tuple(name for name, times in count.items() if times > 1 and name in times_ms),
    )
