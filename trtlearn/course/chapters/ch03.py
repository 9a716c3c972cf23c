"""Exercises of notebook 03, "What a calibrator does": a spike, and two observers.

The observers are judged on random data and by the caches that TensorRT wrote.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import cache, partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...calibration.entropy import divergence, reference_and_candidate
from ...calibration.histogram import Histogram
from ...calibration.observers import threshold_of
from ...errors import DataError
from ...model.course_data import load_images
from ...show.images import spike
from ..verdict import Case, Look, Verdict, judge_function, kind_of
from . import recorded

Batches = list[NDArray[np.float32]]
REAL = {"minmax": ("image", "stem", "b2_add"), "entropy2": ("b1_relu1", "gap")}
"""Tensors of the course's network resnet that an answer is judged on, by calibrator."""


@cache
def _tensorrt_cases(algorithm: str) -> tuple[Case, ...]:
    """Values of real tensors, in batches of 8 as TensorRT got them, and amax of its cache."""
    resnet = recorded("resnet")
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


def judge_observer(algorithm: str, count: int) -> Callable[[Any], Verdict]:
    """A judge of ``answer(batches) -> amax``, by our observer on ``count`` random inputs, then by
    TensorRT's cache on real tensors.
    """

    def cases() -> Iterator[Case]:
        for index in range(count):
            batches = random_batches(np.random.default_rng(0 if index == 0 else None))
            amax = threshold_of(algorithm, *batches).amax
            yield Case((batches,), amax, f"random batches {index + 1}")
        yield from _tensorrt_cases(algorithm)

    return partial(
        judge_function,
        cases=cases,
        right=f"Right on {count} random inputs, and equal to TensorRT's cache on "
        f"{', '.join(REAL[algorithm])}.",
    )


def flat(batches: Batches) -> NDArray[np.float32]:
    return np.concatenate([batch.ravel() for batch in batches])


def with_zeros(batches: Batches) -> float:
    """The entropy rule with zeros counted and bin 0 kept as it is."""
    h = Histogram(keep_steps=False)
    for batch in batches:
        h.add(batch)
    counts = h.counts.astype(np.float64)
    counts[0] += h.zeros
    losses = [divergence(*reference_and_candidate(counts, kept)) for kept in range(128, 2049)]
    return (128 + int(np.argmin(losses)) + 0.5) * (h.width or 0.0)


# --- 03-spike: what the entropy calibrator makes of the pixels that the reader keeps.

MOST = 0.75  # of the pixels that are no background must stay


@cache
def pixels() -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """The calibration images [512,1,28,28], and their pixels that are no background [N]."""
    images = load_images("calibration")[0]
    return images, images[images != images.min()]


def values_of(answer: Any) -> NDArray[np.float32]:
    """The values that the reader keeps, float32 [N]; DataError says what is no such array."""
    array = np.asarray(answer)
    if array.dtype == bool:
        raise DataError("Yes or no for each pixel is a mask", "images[mask] gives the pixels")
    if array.ndim == 0 or not np.issubdtype(array.dtype, np.number):
        raise DataError(f"Expected an array of pixels, got {kind_of(answer)}")
    flat = array.astype(np.float32).ravel()
    if not flat.size:
        raise DataError("No pixel is left", "turn the condition around")
    return flat


def cut_of(values: NDArray[np.float32]) -> float:
    """Where entropy calibration 2 cuts these values, in 64 batches as above."""
    return threshold_of("entropy2", *np.array_split(values, min(64, len(values)))).amax


def look_spike(answer: Any) -> Look:
    """Whether the spike is gone, the strokes are whole and the digit comes back."""
    values = values_of(answer)
    images, strokes = pixels()
    facts = {
        "background": float((values == images.min()).mean()),
        "left": int(np.isin(values, strokes).sum()) / len(strokes),
        "amax": cut_of(values),
        "yours": float(np.abs(values).max()),
        "largest": float(np.abs(images).max()),
    }
    conditions = {
        "spike": facts["background"] > 0.01,
        "changed": not np.isclose(facts["yours"], facts["largest"]),
        "strokes": facts["left"] < MOST,
        "often": facts["amax"] < 0.9 * facts["largest"],
        "passed": True,
    }
    return conditions, facts


def draw_spike(answer: Any) -> Any:
    """The histogram of the reader's pixels, and the digit as the cut leaves it."""
    images = pixels()[0]
    values = images.ravel() if answer is None else values_of(answer)
    return spike(images, cut_of(values), values=values)


judge_minmax = judge_observer("minmax", 4)
judge_entropy = judge_observer("entropy2", 2)

mistakes_minmax = {
    "no abs": lambda x: flat(x).max(),
    "first batch": lambda x: np.abs(x[0]).max(),
    "last batch": lambda x: np.abs(x[-1]).max(),
    "mean": lambda x: np.mean([np.abs(batch).max() for batch in x]),
    "scale": lambda x: np.abs(flat(x)).max() / 127,
}

mistakes_entropy = {
    "min-max": lambda x: np.abs(flat(x)).max(),
    "zeros": with_zeros,
    "all at once": lambda x: threshold_of("entropy2", flat(x)).amax,
}
