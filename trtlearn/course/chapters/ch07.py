"""Exercises of notebook 07, "Size, speed, accuracy"."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..exercise import Exercise, Prediction, register
from ..verdict import judge_function, random_cases

__all__: list[str] = []

Array = NDArray[np.float64]


def pareto_front(cost: Array, value: Array) -> NDArray[np.bool_]:
    """Which points are on the front: no other is as good in both and better in one."""
    cheaper = cost[None, :] <= cost[:, None]
    better = value[None, :] >= value[:, None]
    strictly = (cost[None, :] < cost[:, None]) | (value[None, :] > value[:, None])
    return np.asarray(~(cheaper & better & strictly).any(axis=1))


def random_points(rng: np.random.Generator) -> tuple[Array, Array]:
    """Costs and values of 5 to 29 points."""
    count = int(rng.integers(5, 30))
    return rng.integers(1, 12, count).astype(float), rng.integers(80, 100, count).astype(float)


def _equal_points_beat_each_other(cost: Array, value: Array) -> Any:
    cheaper = cost[None, :] <= cost[:, None]
    better = value[None, :] >= value[:, None]
    return ~(cheaper & better).any(axis=1)


FRONT_MISTAKES = {
    "a point is not beaten by one that is only cheaper, or only better": lambda cost, value: (
        (cost == cost.min()) | (value == value.max())
    ),
    "of two equal points neither beats the other: one must be strictly better": (
        _equal_points_beat_each_other
    ),
}


register(
    Prediction(
        "07-fastest",
        "Which build of `resnet` answers a batch of 8 fastest?",
        ("FP32 or TF32", "FP16", "INT8", "None: they are alike"),
    ),
    Exercise(
        "07-front",
        "Draw the Pareto front",
        partial(
            judge_function,
            cases=random_cases(pareto_front, random_points),
            common_mistakes=FRONT_MISTAKES,
        ),
        solution=(
            "def my_front(cost, value):\n"
            "    front = []\n"
            "    for c, v in zip(cost, value, strict=True):\n"
            "        beaten = (cost <= c) & (value >= v) & ((cost < c) | (value > v))\n"
            "        front.append(not beaten.any())\n"
            "    return np.array(front)"
        ),
        wrong=(
            "def my_front(cost, value):\n    return (cost == cost.min()) | (value == value.max())",
            "def my_front(cost, value):\n    return value == value.max()",
        ),
        hints=(
            "A point is beaten by another that costs no more, is worth no less, "
            "and is strictly better in one.",
            "For one point (c, v): (cost <= c) & (value >= v) & ((cost < c) | (value > v)) "
            "marks those that beat it.",
        ),
        difficulty=2,
        minutes=8,
    ),
    Exercise(
        "07-throughput",
        "From latency to throughput",
        partial(
            judge_function,
            cases=random_cases(
                lambda batch, milliseconds: 1000 * batch / milliseconds,
                lambda rng: (int(rng.integers(1, 65)), float(rng.uniform(0.02, 2))),
            ),
            common_mistakes={
                "a batch holds several images": lambda batch, milliseconds: 1000 / milliseconds,
                "a second has 1000 milliseconds": lambda batch, milliseconds: batch / milliseconds,
            },
        ),
        solution="def my_throughput(batch, milliseconds):\n    return 1000 * batch / milliseconds",
        wrong=(
            "def my_throughput(batch, milliseconds):\n    return 1000 / milliseconds",
            "def my_throughput(batch, milliseconds):\n    return batch / milliseconds",
        ),
        hints=("Images a second: how many batches fit into 1000 ms, times the images in each.",),
        difficulty=1,
        minutes=2,
    ),
)
