"""Exercises of notebook 07, "Size, speed, accuracy"."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...recorded.tradeoffs import tradeoff
from ...show import draw
from ...show.draw import GOOD, INK
from ..verdict import call, judge_function, random_cases

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


def draw_front(answer: Any) -> Any:
    """The recorded engines of mobile at batch 8, with the reader's front drawn through them."""
    engines = tradeoff("points-mobile")
    timed = [way for way in engines.select("mobile", 8) if way.graph_timing and way.accuracy]
    cost = np.array([way.graph_timing.median_ms for way in timed if way.graph_timing])
    value = np.array([100 * (way.accuracy or 0) for way in timed])
    front = np.zeros(len(timed), bool)
    if answer is not None:
        front = np.array(call(answer, cost, value)).astype(bool)
    fig = draw.figure("mobile, batch 8: which engines are on your front?", showlegend=False)
    order = np.argsort(cost[front])
    steps = (cost[front][order], value[front][order])
    draw.line(fig, *steps, "your front", dash="dot", shape="hv", color=GOOD)
    colors = np.where(front, GOOD, INK).tolist()
    symbols = np.where(front, "circle", "circle-open").tolist()
    names = [way.variant for way in timed]
    draw.points(fig, cost, value, color=colors, symbol=symbols, size=13, hover=names)
    fig.update_xaxes(title="median latency of a batch, ms, by graph replay")
    fig.update_yaxes(title="test images right, %")
    return draw.finish(fig, engines.provenance)


judge_front = partial(judge_function, cases=random_cases(pareto_front, random_points))
judge_throughput = partial(
    judge_function,
    cases=random_cases(
        lambda batch, milliseconds: 1000 * batch / milliseconds,
        lambda rng: (int(rng.integers(1, 65)), float(rng.uniform(0.02, 2))),
    ),
)

mistakes_front = {
    "ends": lambda cost, value: (cost == cost.min()) | (value == value.max()),
    "beaten": lambda cost, value: ~pareto_front(cost, value),
    "cheapest": lambda cost, value: cost == cost.min(),
    "best": lambda cost, value: value == value.max(),
    "turned": lambda cost, value: pareto_front(-cost, value),
    "indices": lambda cost, value: np.flatnonzero(pareto_front(cost, value)),
    "equal points": lambda cost, value: (
        ~((cost <= cost[:, None]) & (value >= value[:, None])).any(axis=1)
    ),
}

mistakes_throughput = {
    "one image": lambda batch, ms: 1000 / ms,
    "no 1000": lambda batch, ms: batch / ms,
    "time of one": lambda batch, ms: ms / batch,
    "multiplied": lambda batch, ms: batch * ms / 1000,
}
