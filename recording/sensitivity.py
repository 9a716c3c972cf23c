"""Record which layers of the mobile network lose accuracy in INT8, on a CPU
(tradeoff/sensitivity-mobile-minmax-cpu.json.gz).

    python -m recording.sensitivity [FOLDER]      by default the newest recordings; about a minute

TensorRT's recorded min-max scales as Q/DQ on some units only, run by ONNX Runtime on the 1,000 test
images. This predicts TensorRT's accuracy: with the recorded scales on all units it gives the
recorded engines' answers on at least 98 of 100 test images, mostly on all
(tests/trtexec/test_migrate.py). What it cannot tell is time.
"""

from __future__ import annotations

import dataclasses
import datetime
import random
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from recording.saving import save_packed
from trtlearn.calibration.cache import read_cache
from trtlearn.calibration.qdq import insert_qdq
from trtlearn.engine.records import Provenance
from trtlearn.errors import DataError
from trtlearn.int8.quant import sqnr_db
from trtlearn.model.course_data import accuracy, data_hashes, load_images, model_path
from trtlearn.model.graph import describe
from trtlearn.model.operators import WEIGHTED
from trtlearn.model.read import load_proto
from trtlearn.model.run import activations
from trtlearn.recorded.files import folder_with, load_provenance
from trtlearn.recorded.tradeoffs import LayerTrial, MixedSearch, Sensitivity

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

    A unit is a convolution or matrix product with what follows it (:func:`units`).
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


def units(nodes: Sequence[tuple[str, str]]) -> dict[str, tuple[str, ...]]:
    """Nodes grouped by the weighted node they follow: what a precision is asked for together.

    ``nodes``: (name, operator) in graph order. A convolution with the Relu, Clip, Add or pooling
    behind it is one unit, so that asking for FP32 does not break the fusion with INT8 in the
    middle. Nodes before the first weighted one belong to it.

    >>> units([("c1", "Conv"), ("r1", "Relu"), ("c2", "Conv"), ("fc", "Gemm")])
    {'c1': ('c1', 'r1'), 'c2': ('c2',), 'fc': ('fc',)}
    """
    first = next((name for name, kind in nodes if kind in WEIGHTED), "")
    groups: dict[str, list[str]] = {}
    current = first
    for name, kind in nodes:
        if kind in WEIGHTED:
            current = name
        groups.setdefault(current, []).append(name)
    return {unit: tuple(members) for unit, members in groups.items()}


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


def main() -> int:
    """Run the study and write it."""
    folder = Path(sys.argv[1]) if len(sys.argv) > 1 else folder_with("mobile")
    cache, version = (
        read_cache(folder / "mobile" / "int8-minmax.cache"),
        load_provenance(folder).tensorrt,
    )
    images, labels = load_images("test")
    scales = {entry.name: entry.scale for entry in cache.scales}
    study = sensitivity_on_cpu("mobile", model_path("mobile"), scales, images, labels, "minmax")
    origin = dataclasses.replace(
        study.provenance,
        tensorrt=f"{version}'s min-max scales",
        sha256=data_hashes("mobile"),
        recorded=True,
    )
    study = dataclasses.replace(study, provenance=origin)
    path = folder / "tradeoff" / "sensitivity-mobile-minmax-cpu.json.gz"
    print(study, study.greedy, save_packed(path, study), sep="\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
