"""Exercises of notebook 07, "Size, speed, accuracy"."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ..exercise import Exercise, Prediction, function, register

__all__: list[str] = []

Array = NDArray[np.float64]


def _front(cost: Array, value: Array) -> NDArray[np.bool_]:
    """Whether each point is on the front: no other costs at most as much, is worth at least as much, and one better."""
    cheaper = cost[None, :] <= cost[:, None]
    better = value[None, :] >= value[:, None]
    strictly = (cost[None, :] < cost[:, None]) | (value[None, :] > value[:, None])
    return np.asarray(~(cheaper & better & strictly).any(axis=1))


def _points(rng: np.random.Generator) -> tuple[Array, Array]:
    count = int(rng.integers(5, 30))
    return rng.integers(1, 12, count).astype(float), rng.integers(80, 100, count).astype(float)


def _throughput(batch: int, milliseconds: float) -> float:
    return 1000 * batch / milliseconds


register(
    Prediction(
        "07-fastest",
        "Which build of `resnet` answers a batch of 8 fastest?",
        ("FP32 or TF32", "FP16", "INT8", "None: they are alike"),
    ),
    Exercise(
        "07-front",
        "Draw the Pareto front",
        function(
            _front,
            _points,
            slips={
                "a point is not beaten by one that is only cheaper, or only better": lambda c, v: (
                    (c == c.min()) | (v == v.max())
                ),
                "of two points alike neither beats the other: one of the two must be strictly better": lambda c, v: (
                    ~((c[None, :] <= c[:, None]) & (v[None, :] >= v[:, None])).any(axis=1)
                ),
            },
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
            "A point is beaten by another that costs no more, is worth no less, and is strictly better in one.",
            "For one point (c, v): (cost <= c) & (value >= v) & ((cost < c) | (value > v)) marks those that beat it.",
        ),
        difficulty=2,
        minutes=8,
    ),
    Exercise(
        "07-throughput",
        "From latency to throughput",
        function(
            _throughput,
            lambda rng: (int(rng.integers(1, 65)), float(rng.uniform(0.02, 2))),
            slips={
                "a batch holds several images": lambda b, ms: 1000 / ms,
                "a second has 1000 milliseconds": lambda b, ms: b / ms,
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
