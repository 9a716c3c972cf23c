"""What a calibration would have given with fewer images: every tensor's scale as the images come in."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from numpy.typing import NDArray

from .errors import DataError
from .observers import Observer, make_observer

__all__ = ["MARKS", "scales_after"]

MARKS = (1, 2, 5, 10, 20, 50, 100, 200, 500)


def scales_after(
    tensors: Mapping[str, NDArray[Any]], algorithm: str, marks: Sequence[int] = MARKS, batch: int = 1
) -> dict[int, dict[str, float]]:
    """Images seen -> tensor -> scale, for one calibration that is looked at on its way.

    Args:
        tensors: name -> activations [N, ...], as ``course.inside`` gives them.
        algorithm: entropy2, entropy, minmax, legacy, percentile or mse.
        marks: after how many images to look, each a multiple of ``batch``, at most N.
        batch: images a batch, as the calibrator gets them.

    >>> import numpy as np
    >>> found = scales_after({"x": np.array([[127.0], [254.0]], np.float32)}, "minmax", (1, 2))
    >>> found == {1: {"x": 1.0}, 2: {"x": 2.0}}
    True
    """
    count = min((len(values) for values in tensors.values()), default=0)
    if batch < 1 or not marks or any(not 0 < mark <= count or mark % batch for mark in marks):
        raise DataError(f"marks {tuple(marks)} with batches of {batch}, {count} images", "use multiples of the batch")
    settings: dict[str, Any] = {} if algorithm == "minmax" else {"keep_steps": False}
    observers: dict[str, Observer] = {name: make_observer(algorithm, **settings) for name in tensors}
    found = {}
    for start in range(0, max(marks), batch):
        for name, observer in observers.items():
            observer.observe(tensors[name][start : start + batch])
        if start + batch in marks:
            found[start + batch] = {name: observer.result().scale for name, observer in observers.items()}
    return found
