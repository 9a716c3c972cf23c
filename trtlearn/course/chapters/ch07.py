"""Exercises of notebook 07, "Size, speed, accuracy"."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..exercise import register_chapter
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


register_chapter(
    "07",
    judges={
        "07-front": partial(
            judge_function,
            cases=random_cases(pareto_front, random_points),
            common_mistakes=FRONT_MISTAKES,
        ),
        "07-throughput": partial(
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
    },
)
