"""Exercises of notebook 02, "Bare --int8"."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..exercise import Exercise, Prediction, number, register
from ..verdict import NOTHING, Case, Verdict, no_function, text

__all__: list[str] = []

OPS = ("Conv", "Relu", "Add", "Concat", "MaxPool")


def placeholder(nodes: Any, in_range: float = 2.0, out_range: float = 4.0) -> dict[str, float]:
    """The rule of setTensorDynamicRange on (op, inputs, outputs) tuples: tensor name -> amax."""
    ranges: dict[str, float] = {}
    for op, inputs, outputs in nodes:
        for name in inputs:
            ranges.setdefault(name, out_range if op == "Concat" else in_range)
        for name in outputs:
            ranges.setdefault(name, in_range if op == "MaxPool" else out_range)
    return ranges


def _network(rng: np.random.Generator) -> list[tuple[str, list[str], list[str]]]:
    """A random network of a few layers: every tensor but the inputs is made by an earlier layer."""
    tensors, nodes = ["image", "mask"], [("Concat", ["image", "mask"], ["t0"])]
    tensors.append("t0")
    for index in range(1, 8):
        op = str(rng.choice(OPS))
        count = 2 if op in ("Add", "Concat") else 1
        inputs = [
            str(name) for name in rng.choice([*tensors, f"side{index}"], count, replace=False)
        ]
        nodes.append((op, inputs, [f"t{index}"]))
        tensors.append(f"t{index}")
    return nodes


def _rule(answer: Any) -> Verdict:
    """Judge the reader's rule on six random networks."""
    if not callable(answer):
        return no_function(answer)
    for seed in (0, None, None, None, None, None):
        nodes = _network(np.random.default_rng(seed))
        wanted = placeholder(nodes)
        got = answer([(op, list(inputs), list(outputs)) for op, inputs, outputs in nodes])
        if got is None or got is ...:
            return NOTHING
        if not isinstance(got, dict):
            return Verdict(
                "", False, f"Expected a dict of tensor name to amax, got {type(got).__name__}."
            )
        wrong = [name for name in {**wanted, **got} if got.get(name) != wanted.get(name)]
        if wrong:
            first = next((node for node in nodes if wrong[0] in node[1] + node[2]), None)
            case = Case(
                f"first met in {first}",
                text(got.get(wrong[0])),
                text(wanted.get(wrong[0])),
                wrong[0],
            )
            return Verdict(
                "", False, f"Not yet: {len(wrong)} of {len(wanted)} tensors differ.", (case,)
            )
    return Verdict("", True, "Right on 6 random networks.")


def _clipped() -> float:
    from ...model.course_data import load_images

    images, _ = load_images("calibration")
    return float(100 * (np.abs(images) > 2).mean())


register(
    Prediction(
        "02-input",
        "The network's input holds values from -0.42 to 2.82. Which range does bare --int8 give it?",
        ("±1", "±2", "±2.82", "±4"),
    ),
    Exercise(
        "02-rule",
        "Write setTensorDynamicRange",
        _rule,
        solution=(
            "def my_ranges(nodes):\n"
            "    ranges = {}\n"
            "    for op, inputs, outputs in nodes:\n"
            "        for name in inputs:\n"
            '            ranges.setdefault(name, 4.0 if op == "Concat" else 2.0)\n'
            "        for name in outputs:\n"
            '            ranges.setdefault(name, 2.0 if op == "MaxPool" else 4.0)\n'
            "    return ranges"
        ),
        wrong=(
            "def my_ranges(nodes):\n    return {name: 4.0 for _, i, o in nodes for name in i + o}",
            "def my_ranges(nodes):\n"
            "    ranges = {}\n"
            "    for op, inputs, outputs in nodes:\n"
            "        ranges |= dict.fromkeys(inputs, 2.0) | dict.fromkeys(outputs, 4.0)\n"
            "    return ranges",
        ),
        hints=(
            "Inputs before outputs, layer by layer; a tensor that has a range keeps it.",
            "Concat's inputs and MaxPool's outputs are the two exceptions.",
            "dict.setdefault(name, amax) sets only what is not there yet.",
        ),
        difficulty=2,
        minutes=8,
    ),
    Exercise(
        "02-clipped",
        "What ±2 cuts off the images",
        number(
            _clipped,
            unit="%",
            slips={
                "that is a share between 0 and 1; give percent": lambda: _clipped() / 100,
                "count what lies outside ±2, not inside": lambda: 100 - _clipped(),
            },
        ),
        solution="my_percent = 100 * (np.abs(images) > 2).mean()",
        wrong=(
            "my_percent = (np.abs(images) > 2).mean()",
            "my_percent = 100 * (np.abs(images) > 4).mean()",
        ),
        hints=(
            "np.abs(images) > 2 is True where a value is clipped.",
            "The mean of True and False is a share.",
        ),
        difficulty=1,
        minutes=3,
    ),
)
