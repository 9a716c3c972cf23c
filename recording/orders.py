"""What a calibration gives with fewer images, in another order, or in batches of another size: our
own, which tests hold against TensorRT's recorded ones.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from trtlearn.calibration.observers import Observer, Threshold, make_observer, threshold_of
from trtlearn.errors import DataError
from trtlearn.recorded.calibration import Shuffles

__all__ = ["MARKS", "in_order", "kl_excess", "orders_apart", "scales_after"]

MARKS = (1, 2, 5, 10, 20, 50, 100, 200, 500)


def scales_after(
    tensors: Mapping[str, NDArray[Any]],
    algorithm: str,
    marks: Sequence[int] = MARKS,
    batch: int = 1,
) -> dict[int, dict[str, float]]:
    """Images seen -> tensor -> scale, for one calibration that is looked at on its way.

    Args:
        tensors: name -> activations [N, ...], as ``network.activations()`` gives them.
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
        raise DataError(
            f"marks {tuple(marks)} with batches of {batch}, {count} images",
            "use multiples of the batch",
        )
    observers: dict[str, Observer] = {
        name: make_observer(algorithm, keep_steps=False) for name in tensors
    }
    found = {}
    for start in range(0, max(marks), batch):
        for name, observer in observers.items():
            observer.observe(tensors[name][start : start + batch])
        if start + batch in marks:
            found[start + batch] = {
                name: observer.result().scale for name, observer in observers.items()
            }
    return found


def in_order(
    tensors: Mapping[str, NDArray[Any]], seed: int | None, batch: int, algorithm: str = "entropy2"
) -> dict[str, Threshold]:
    """Tensor -> threshold when the images come shuffled by ``seed`` (None: as they are), ``batch``
    at a time.

    The order is numpy's ``default_rng(seed).shuffle``, as in the recordings (recorded.shuffles).

    >>> x = {"x": np.arange(8, dtype=np.float32).reshape(4, 2)}
    >>> in_order(x, 1, 2, "minmax")["x"].amax
    7.0
    """
    found = {}
    for name, values in tensors.items():
        order = np.arange(len(values))
        if seed is not None:
            np.random.default_rng(seed).shuffle(order)
        parts = [values[order[start : start + batch]] for start in range(0, len(order), batch)]
        found[name] = threshold_of(algorithm, *parts, keep_steps=False)
    return found


def kl_excess(threshold: Threshold, scale: float) -> float | None:
    """How much more KL another ``scale`` of the same histogram costs than the least, as a share of
    the least.

    Near 0 is a near tie: last bits of the activations decide. None where ``scale`` is no threshold
    of this histogram.

    >>> found = threshold_of("entropy2", np.linspace(-1, 1, 5000))
    >>> kl_excess(found, found.scale)
    0.0
    """
    found = threshold.choice_of(scale)
    if found is None:
        return None
    _, kl, least = found
    return kl / least - 1 if least else None


def orders_apart(
    tensors: Mapping[str, NDArray[Any]], recorded: Shuffles, tolerance: float = 1e-6
) -> dict[str, float | None]:
    """Where our entropy scales and TensorRT's recorded ones differ: "tensor, seed, batch" ->
    :func:`kl_excess`.

    ``tensors``: name -> activations [N, ...] of the same images, as for :func:`scales_after`.

    >>> from trtlearn.recorded import shuffles
    >>> orders_apart({}, shuffles("resnet"))
    {}
    """
    found = {}
    for order in recorded.orders:
        for name, threshold in in_order(tensors, order.seed, order.batch).items():
            if abs(threshold.scale / order.scales[name] - 1) > tolerance:
                way = "as they come" if order.seed is None else f"shuffle {order.seed}"
                found[f"{name} ({way}, {order.batch} a batch)"] = kl_excess(
                    threshold, order.scales[name]
                )
    return found
