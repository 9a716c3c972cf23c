"""Exercises of notebook 03, "What a calibrator does": two observers.

They are judged on random data and by the caches that TensorRT wrote.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import cache, partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...calibration.observers import threshold_of
from ..exercise import register_chapter
from ..verdict import Case, judge_function

__all__: list[str] = []

Batches = list[NDArray[np.float32]]
REAL = {"minmax": ("image", "stem", "b2_add"), "entropy2": ("b1_relu1", "gap")}
"""Tensors of the course's network resnet that an answer is judged on, by calibrator."""


@cache
def _tensorrt_cases(algorithm: str) -> tuple[Case, ...]:
    """Values of real tensors, in batches of 8 as TensorRT got them, and amax of its cache."""
    from ...networks import network

    resnet = network("resnet", mode="recorded")
    lines = resnet.build(f"int8-{algorithm}").cache
    assert lines is not None
    cases = []
    for name, array in resnet.activations(names=REAL[algorithm]).items():
        batches = [array[start : start + 8] for start in range(0, 512, 8)]
        cases.append(Case((batches,), lines.entry(name).amax, f"{name}, by TensorRT"))
    return tuple(cases)


def random_batches(rng: np.random.Generator) -> Batches:
    """Four batches whose largest magnitudes differ: the first a power of two, two of them negative.

    The third reaches beyond the first, so that a histogram's bins double.
    """
    top = float(2.0 ** rng.integers(-2, 4))
    batches: Batches = []
    for peak in (-top, 0.9 * top, -1.7 * top, 0.8 * top):
        x = np.clip(rng.normal(0, top / 3, (8, 400)), -0.75 * top, 0.75 * top).astype(np.float32)
        x[:, ::4] = np.maximum(x[:, ::4], 0)  # zeros, as ReLU makes them
        x[0, 1] = peak
        batches.append(x)
    return batches


def observer_cases(algorithm: str, count: int) -> Callable[[], Iterator[Case]]:
    """Random batches beside our observer, then real tensors beside TensorRT's cache."""

    def draw() -> Iterator[Case]:
        for index in range(count):
            batches = random_batches(np.random.default_rng(0 if index == 0 else None))
            amax = threshold_of(algorithm, *batches).amax
            yield Case((batches,), amax, f"random batches {index + 1}")
        yield from _tensorrt_cases(algorithm)

    return draw


def judge_observer(
    algorithm: str, count: int, mistakes: dict[str, Callable[[Batches], Any]]
) -> Callable[[Any], Any]:
    """A judge of ``answer(batches) -> amax``."""
    return partial(
        judge_function,
        cases=observer_cases(algorithm, count),
        common_mistakes=mistakes,
        right=f"Right on {count} random inputs, and equal to TensorRT's cache on "
        f"{', '.join(REAL[algorithm])}.",
    )


def _flat(batches: Batches) -> NDArray[np.float32]:
    return np.concatenate([batch.ravel() for batch in batches])


def _with_zeros(batches: Batches) -> float:
    """The entropy rule with zeros counted and bin 0 kept as it is."""
    from ...calibration.entropy import entropy_search
    from ...calibration.histogram import Histogram

    h = Histogram(keep_steps=False)
    for batch in batches:
        h.add(batch)
    counts = h.counts.copy()
    counts[1] = counts[0] + h.zeros  # entropy_search copies bin 1 into bin 0
    return (entropy_search(counts).chosen + 0.5) * (h.width or 0.0)


MINMAX_MISTAKES = {
    "take the absolute value: the largest magnitude may be negative": lambda b: _flat(b).max(),
    "that looks at the first batch only": lambda b: np.abs(b[0]).max(),
    "that looks at the last batch only": lambda b: np.abs(b[-1]).max(),
    "that is the mean of the batches' maxima": lambda b: np.mean([np.abs(x).max() for x in b]),
    "that is the scale; return amax": lambda b: np.abs(_flat(b)).max() / 127,
}

ENTROPY_MISTAKES = {
    "that is min-max": lambda b: np.abs(_flat(b)).max(),
    "zeros are left out of the histogram, and bin 0 takes bin 1's count": _with_zeros,
    "all batches at once: the FIRST batch alone sets the bin width": lambda b: (
        threshold_of("entropy2", _flat(b)).amax
    ),
}


register_chapter(
    "03",
    judges={
        "03-minmax": judge_observer("minmax", 4, MINMAX_MISTAKES),
        "03-entropy": judge_observer("entropy2", 2, ENTROPY_MISTAKES),
    },
)
