"""The ranges that bare ``trtexec --int8`` gives every tensor, whatever the data: ±2 and ±4."""

from __future__ import annotations

from collections.abc import Iterable

from ..model.graph import OnnxNode

__all__ = ["placeholder_amax"]


def placeholder_amax(
    nodes: Iterable[OnnxNode], in_range: float = 2.0, out_range: float = 4.0
) -> dict[str, float]:
    """Tensor name -> amax: who meets a tensor first, in the order of the nodes, gives it its range.

    A node gives what it reads ±in_range (a Concat: ±out_range), and what it makes ±out_range (a
    MaxPool or AveragePool: ±in_range). A tensor between two nodes is the first one's output, so it
    gets ±4; only network inputs and constants are met first as an input, and get ±2. Neither INT32
    tensors nor constants are excepted. ``amax`` is in the units of the tensors.

    >>> conv = OnnxNode("", "Conv", ("x",), ("y",))
    >>> placeholder_amax([conv, OnnxNode("", "Concat", ("y", "z"), ("c",))])
    {'x': 2.0, 'y': 4.0, 'z': 4.0, 'c': 4.0}

    Source: setTensorDynamicRange, v8.6.1:samples/common/sampleEngines.cpp:459-505 (public,
    Apache-2.0); the same rule from 8.4.1 (line 384) to 10.16 (line 420).
    """
    ranges: dict[str, float] = {}
    for node in nodes:
        for name in node.inputs:
            ranges.setdefault(name, out_range if node.op == "Concat" else in_range)
        pools = node.op in ("MaxPool", "AveragePool")
        for name in node.outputs:
            ranges.setdefault(name, in_range if pools else out_range)
    return ranges
