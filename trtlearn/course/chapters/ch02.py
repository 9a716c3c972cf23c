"""Exercises of notebook 02, "Bare --int8"."""

from __future__ import annotations

import math
import operator
from collections.abc import Callable
from functools import cache, lru_cache, partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...errors import DataError
from ...int8.groups import placeholder_amax
from ...model.course_data import load_images
from ...model.graph import OnnxNode
from ...record import plural
from ...show.images import Column, digit_columns
from ..verdict import (
    Comparison,
    Look,
    judge_function,
    judge_number,
    kind_of,
    one_number,
    random_cases,
)
from . import recorded

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


def clipped(
    nodes: Network,
    largest: Largest,
    beyond: Callable[[float, float], bool] = operator.gt,
    ranges: Callable[[Network], Largest] = placeholder_amax,
) -> set[str]:
    """The reference: the tensors whose largest |value| lies beyond the rule's range."""
    return {name for name, amax in ranges(nodes).items() if beyond(largest[name], amax)}


def last_ranges(nodes: Network) -> dict[str, float]:
    """The ranges where the last layer that meets a tensor decided, not the first."""
    ranges: dict[str, float] = {}
    for node in nodes:
        ranges |= placeholder_amax([node])
    return ranges


def nodes_with(arguments: tuple[Any, ...], difference: Comparison | None) -> str:
    """The nodes of a case that make or read the first tensor that differs."""
    nodes = arguments[0]
    near = [
        node
        for node in nodes
        if difference is None or difference.entry in (*node.inputs, *node.outputs)
    ]
    return "; ".join(f"{n.op}({', '.join(n.inputs)}) → {', '.join(n.outputs)}" for n in near)


def _nodes_and_value(arguments: tuple[Any, ...], difference: Comparison | None) -> str:
    name = difference.entry if difference else None
    value = arguments[1].get(name)
    return nodes_with(arguments, difference) + (f"; largest {value:g}" if value else "")


def percent_clipped() -> float:
    """How many percent of the calibration images' values lie outside ±2."""
    images, _ = load_images("calibration")
    return float(100 * (np.abs(images) > 2).mean())


COUNT = 100  # test images that the reader's engine answers
ENOUGH = 0.9  # the share of right answers to reach
ROWS = [0, 4, 7]  # the images that the picture shows


@cache
def mobile_needs() -> dict[str, float]:
    """What the reader measures: each tensor's largest |value| in 64 calibration images."""
    mobile = recorded("mobile")
    values = mobile.activations(mobile.images()[:64])
    return {name: float(np.abs(array).max()) for name, array in values.items()}


def ranges_of(answer: Any) -> dict[str, float]:
    """The reader's ranges, tensor -> amax; DataError says what is no range."""
    try:
        table = dict(answer)
    except (TypeError, ValueError):
        raise DataError(f"Expected a dict, tensor name to amax, got {kind_of(answer)}") from None
    ranges = {}
    for name, value in table.items():
        if name not in mobile_needs():
            raise DataError(f"mobile has no tensor {name!r}", "take the names from values")
        try:
            ranges[name] = one_number(value)
        except DataError as problem:
            raise DataError(f"{name}: {problem}") from None
        if not (math.isfinite(ranges[name]) and ranges[name] > 0):
            raise DataError(f"{name}: ±{ranges[name]:g} is no range", "take abs() first")
    return ranges


@lru_cache(maxsize=8)
def answers_with(ranges: tuple[tuple[str, float], ...]) -> NDArray[np.int64]:
    """The answers of bare --int8's engine in numpy, with these ranges in place of its own."""
    mobile = recorded("mobile")
    scales = {name: amax / 127 for name, amax in ranges}
    run = mobile.build("int8-placeholder").simulate(mobile.images("test")[:COUNT], scales)
    return np.asarray(run["logits"].values.argmax(1), np.int64)


def look_ranges(answer: Any) -> Look:
    """Whether an engine with the reader's ranges reads nine of ten digits, and why not."""
    ranges, needs = ranges_of(answer), mobile_needs()
    share = float((answers_with(tuple(ranges.items())) == load_images("test")[1][:COUNT]).mean())
    reach = {name: amax / needs[name] for name, amax in ranges.items()} or {"image": 1.0}
    by_reach = sorted(reach, key=reach.__getitem__)
    short, wide = by_reach[0], by_reach[-1]
    conditions = {
        "passed": share >= ENOUGH,
        "none": not ranges,
        "scales": reach[wide] < 0.02,
        "wide": reach[wide] > 50,
        "short": reach[short] < 0.9,
        "left": True,
    }
    cut, far = ((name, ranges.get(name), needs[name]) for name in (short, wide))
    left = plural(len(needs) - len(ranges), "tensor")
    return conditions, {"share": share, "count": COUNT, "short": cut, "wide": far, "left": left}


def draw_ranges(answer: Any) -> Any:
    """Digits as FP32 and as the engine with the reader's ranges reads them."""
    mobile = recorded("mobile")
    ranges = {} if answer is None else ranges_of(answer)
    images, labels = mobile.images("test")[ROWS], mobile.labels()[ROWS]
    exact = mobile.build("fp32").answers
    assert exact is not None
    amax = ranges.get("image", 2.0)  # trtexec's, for an input
    answers = answers_with(tuple(ranges.items()))[ROWS].tolist()
    head = "your ranges" if ranges else "bare --int8"
    columns = [
        Column("FP32", None, exact[ROWS].tolist()),
        Column(head, amax, answers),
    ]
    title = "What does the engine with your ranges see, and what does it answer?"
    source = "computed here, in numpy, from the engine " + mobile.label
    return digit_columns(columns, images, labels, title=title, source=source)


judge_rule = partial(
    judge_function,
    cases=random_cases(clipped, random_network),
    show_input=_nodes_and_value,
)
judge_clipped = partial(judge_number, reference=percent_clipped, unit="%")

mistakes_rule = {
    "±4 for all": lambda nodes, largest: {name for name, value in largest.items() if value > 4},
    "±2 for all": lambda nodes, largest: {name for name, value in largest.items() if value > 2},
    "amax itself": lambda nodes, largest: clipped(nodes, largest, operator.ge),
    "last layer": lambda nodes, largest: clipped(nodes, largest, ranges=last_ranges),
}

mistakes_clipped = {
    "share": lambda: percent_clipped() / 100,
    "inside": lambda: 100 - percent_clipped(),
}
