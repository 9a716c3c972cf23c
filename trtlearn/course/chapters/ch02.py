"""Exercises of notebook 02, "Bare --int8"."""

from __future__ import annotations

import math
from functools import partial
from typing import Any

import numpy as np

from ...int8.placeholder import placeholder_amax
from ...model.describe import OnnxNode
from ..exercise import register_chapter
from ..verdict import Difference, Verdict, judge_function, judge_number, random_cases

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


NINE_OF_TEN = 0.9
BEST_FACTOR = 8.0  # in the middle of those that bring the digits back


def judge_factor(answer: Any) -> Verdict:
    """Whether the ranges of bare --int8 times this factor leave nine of ten answers right."""
    from ...model.course_data import load_images
    from ...recorded.factors import range_factors

    try:
        factor = float(answer)
    except (TypeError, ValueError):
        return Verdict("", False, f"Expected a number, the factor, got {answer!r}.")
    if not (math.isfinite(factor) and factor > 0):
        return Verdict("", False, f"A range times {factor:g} is no range: give a factor above 0.")
    factors = range_factors()
    share = dict(zip(factors.trials, factors.accuracies(load_images("test")[1]), strict=True))
    near = min(share, key=lambda trial: abs(math.log(trial.factor / factor)))
    result = f"at × {near.factor:.3g}, {100 * share[near]:.1f} % are read right"
    if share[near] >= NINE_OF_TEN:
        return Verdict("", True, f"The digits are back: {result}.")
    if factor < BEST_FACTOR:
        why = f"{100 * near.clipped:.2g} % of all values are still clipped. Go up"
    else:
        why = f"a tensor has {near.codes:g} codes left of 256. Go down"
    return Verdict("", False, f"Not yet: {result}, for {why}.")


register_chapter(
    "02",
    judges={
        "02-factor": judge_factor,
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
