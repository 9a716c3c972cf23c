"""Exercises of notebook 02, "Bare --int8"."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np

from ...int8.placeholder import placeholder_amax
from ...model.describe import OnnxNode
from ..exercise import register_chapter
from ..verdict import Difference, judge_function, judge_number, random_cases

__all__ = ["nodes_with"]

OPS = ("Conv", "Relu", "Add", "Concat", "MaxPool")

Network = tuple[OnnxNode, ...]
Largest = dict[str, float]


def random_network(rng: np.random.Generator) -> tuple[Network, Largest]:
    """Nodes that read earlier tensors or new inputs, and each tensor's largest |value|."""
    tensors, nodes = ["image", "mask", "t0"], [OnnxNode("", "Concat", ("image", "mask"), ("t0",))]
    for index in range(1, 8):
        op = str(rng.choice(OPS))
        count = 2 if op in ("Add", "Concat") else 1
        inputs = rng.choice([*tensors, f"side{index}"], count, replace=False)
        nodes.append(OnnxNode("", op, tuple(map(str, inputs)), (f"t{index}",)))
        tensors.append(f"t{index}")
    largest = {name: float(rng.choice([1, 2, 3, 4, 5])) for name in placeholder_amax(nodes)}
    return tuple(nodes), largest


def clipped(nodes: Network, largest: Largest) -> set[str]:
    """The reference: the tensors whose largest |value| lies beyond the rule's range."""
    return {name for name, amax in placeholder_amax(nodes).items() if largest[name] > amax}


def _equal_counts_too(nodes: Network, largest: Largest) -> set[str]:
    return {name for name, amax in placeholder_amax(nodes).items() if largest[name] >= amax}


def _last_wins(nodes: Network, largest: Largest) -> set[str]:
    ranges: dict[str, float] = {}
    for node in nodes:
        ranges |= placeholder_amax([node])
    return {name for name, amax in ranges.items() if largest[name] > amax}


CLIPPED_MISTAKES = {
    "±2 and ±4 both occur: apply the rule to each tensor": lambda nodes, largest: {
        name for name, value in largest.items() if value > 4
    },
    "most tensors are a layer's output first, and get ±4": lambda nodes, largest: {
        name for name, value in largest.items() if value > 2
    },
    "a value equal to amax still has a code: only larger ones are clipped": _equal_counts_too,
    "a tensor that has a range keeps it: the FIRST layer that meets it decides": _last_wins,
}


def nodes_with(arguments: tuple[Any, ...], difference: Difference | None) -> str:
    """The nodes of a case that make or read the first tensor that differs."""
    nodes = arguments[0]
    near = [
        node
        for node in nodes
        if difference is None or difference.entry in (*node.inputs, *node.outputs)
    ]
    return "; ".join(f"{n.op}({', '.join(n.inputs)}) → {', '.join(n.outputs)}" for n in near)


def _nodes_and_value(arguments: tuple[Any, ...], difference: Difference | None) -> str:
    name = difference.entry if difference else None
    value = arguments[1].get(name)
    return nodes_with(arguments, difference) + (f"; largest {value:g}" if value else "")


def percent_clipped() -> float:
    """How many percent of the calibration images' values lie outside ±2."""
    from ...model.course_data import load_images

    images, _ = load_images("calibration")
    return float(100 * (np.abs(images) > 2).mean())


register_chapter(
    "02",
    judges={
        "02-rule": partial(
            judge_function,
            cases=random_cases(clipped, random_network),
            common_mistakes=CLIPPED_MISTAKES,
            show_input=_nodes_and_value,
            right="Right on {count} random networks.",
        ),
        "02-clipped": partial(
            judge_number,
            reference=percent_clipped,
            unit="%",
            common_mistakes={
                "that is a share between 0 and 1; give percent": lambda: percent_clipped() / 100,
                "count what lies outside ±2, not inside": lambda: 100 - percent_clipped(),
            },
        ),
    },
)
