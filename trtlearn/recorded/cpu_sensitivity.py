"""Which layers lose accuracy in INT8, found on a CPU: the network with Q/DQ on some units only, run
by ONNX Runtime.

This predicts TensorRT's accuracy: with the recorded scales on all units it gives the recorded
engines' answers on at least 98 of 100 test images, mostly on all (tests/trtexec/test_migrate.py).
What it cannot tell is time.
"""

from __future__ import annotations

import datetime
import random
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..engine.records import Provenance
from ..errors import DataError
from ..int8.qdq import insert_qdq
from ..int8.quant import sqnr_db
from ..model.course_data import accuracy
from ..model.describe import describe, load_proto
from ..model.run import activations
from .tradeoffs import LayerTrial, MixedSearch, Sensitivity, units

__all__ = ["search_mixed", "sensitivity_on_cpu"]

Try = Callable[[frozenset[str]], LayerTrial | None]


def sensitivity_on_cpu(
    name: str,
    model: Any,
    scales: Mapping[str, float],
    images: NDArray[np.float32],
    labels: NDArray[np.int64],
    ranges: str = "min-max",
    allowed_loss: float = 0.005,
    seeds: Sequence[int] = (0, 1, 2),
) -> Sensitivity:
    """One unit at a time in INT8, one at a time kept out, a greedy search and random ones.

    Args:
        name: what to call the network; model: its ONNX file; scales: tensor -> scale, for example
            of a cache.
        images, labels: float32 [N, ...] and int [N]; the network has one input, its first output is
            [N, classes].
        allowed_loss: the searches stop at FP32's accuracy less this much.
        seeds: one random search each.

    A unit is a convolution or matrix product with what follows it (tradeoff.units).
    """
    proto = load_proto(model)
    facts = describe(proto)
    if len(facts.inputs) != 1:
        raise DataError(f"the network has {len(facts.inputs)} inputs, expected one")
    groups = units([(node.key, node.op) for node in facts.nodes])
    names = tuple(groups)
    reference = _logits(proto, images, facts.outputs[0].name)
    known: dict[frozenset[str], LayerTrial] = {}

    def attempt(kept: frozenset[str]) -> LayerTrial:
        if kept not in known:
            skip = [unit for unit in names if unit not in kept]
            changed = insert_qdq(proto, scales, skip=skip)[0] if kept else proto
            logits = _logits(changed, images, facts.outputs[0].name)
            order = tuple(unit for unit in names if unit in kept)
            known[kept] = LayerTrial(order, accuracy(logits, labels), sqnr_db(reference, logits))
        return known[kept]

    everything = frozenset(names)
    alone = {unit: attempt(frozenset({unit})) for unit in names}
    kept_out = {unit: attempt(everything - {unit}) for unit in names}
    target = accuracy(reference, labels) - allowed_loss

    def harm(unit: str) -> float:
        quality = alone[unit].sqnr_db
        return np.inf if quality is None else quality

    shuffled = []
    for seed in seeds:
        order = list(names)
        random.Random(seed).shuffle(order)
        shuffled.append(search_mixed(order, attempt, target))
    now = datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds")
    return Sensitivity(
        name,
        ranges,
        accuracy(reference, labels),
        attempt(everything).accuracy,
        target,
        alone,
        kept_out,
        search_mixed(sorted(names, key=harm), attempt, target),
        tuple(shuffled),
        Provenance(gpu="a CPU (ONNX Runtime, Q/DQ)", time_utc=now, recorded=False),
    )


def search_mixed(order: Sequence[str], attempt: Try, target: float) -> MixedSearch:
    """Take units out of INT8 in this order until ``attempt`` reaches the target accuracy, or gives
    None.

    ``attempt``: the units left in INT8 -> what came of them, None where that engine was not built.

    >>> def without(units):
    ...     return LayerTrial(tuple(sorted(units)), 1 - 0.1 * len(units), None)
    >>> tried = search_mixed(["a", "b"], without, 0.85)
    >>> tried.order, tried.reached
    (('a',), True)
    """
    trials: list[LayerTrial] = []
    reached = False
    for count in range(len(order) + 1):
        trial = attempt(frozenset(order[count:]))
        if trial is None:
            break
        trials.append(trial)
        reached = trial.accuracy >= target
        if reached:
            break
    return MixedSearch(tuple(order[: max(0, len(trials) - 1)]), tuple(trials), reached)


def _logits(proto: Any, images: NDArray[np.float32], output: str) -> NDArray[np.float32]:
    parts = activations(
        proto, (images[at : at + 100] for at in range(0, len(images), 100)), [output]
    )
    return np.concatenate([part[output] for part in parts])
