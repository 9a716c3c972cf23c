"""trtexec's random calibrator: what ``--int8 --calib=FILE`` runs, number for number."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import numpy.typing as npt

from .batches import Batches
from .calibrator import Calibrator
from .errors import CacheError
from .paths import read_bytes

__all__ = ["random_calibrator", "trtexec_noise"]


def trtexec_noise(count: int) -> npt.NDArray[np.float32]:
    """The first ``count`` numbers of trtexec's random calibrator: uniform in [-1, 1), float32, always the same.

    libstdc++'s std::default_random_engine, x' = 16807·x mod (2³¹ - 1) from x = 1, as a float32 (x' - 1) / 2³¹ scaled
    to [-1, 1). Checked against g++ by tests/test_calibrator.py.

    >>> trtexec_noise(3)
    array([-0.9999843, -0.7369244,  0.5112107], dtype=float32)

    Source: v8.6.1:samples/common/sampleEngines.cpp:402-420.
    """
    modulus, factor = np.uint64(2**31 - 1), 16807
    state = np.array([factor], np.uint64)
    while len(state) < count:
        state = np.concatenate([state, state * np.uint64(pow(factor, len(state), int(modulus))) % modulus])
    unit = (state[:count] - np.uint64(1)).astype(np.float32) / np.float32(2**31)
    unit = np.minimum(unit, np.nextafter(np.float32(1), np.float32(0)))
    noise: npt.NDArray[np.float32] = unit * np.float32(2) - np.float32(1)
    return noise


def random_calibrator(
    inputs: Mapping[str, tuple[tuple[int, ...], str]], cache_path: str | os.PathLike[str] | None = None
) -> Calibrator:
    """trtexec's own calibrator for ``--int8 --calib=FILE``: the file if it exists, else one batch of noise.

    The numbers are network inputs, not weights; one generator fills all the inputs in the network's order. The
    batch size that it tells TensorRT is 1 whatever the network's batch, and it never writes a cache.

    Args:
        inputs: the network's inputs, name -> (shape, dtype name), as build_engine passes them.
        cache_path: the FILE of ``--calib``.

    Raises CacheError for an empty FILE: trtexec would hand TensorRT null pointers.

    Source: RndInt8Calibrator, v8.6.1:samples/common/sampleEngines.cpp:362-457.
    """
    cache = None
    if cache_path is not None and Path(cache_path).is_file():
        cache = read_bytes(cache_path, CacheError)
        if not cache:
            raise CacheError(f"{cache_path} is empty", "delete it or name another file")
    sizes = {name: int(np.prod(shape)) for name, (shape, _dtype) in inputs.items()}
    noise = trtexec_noise(sum(sizes.values()) if cache is None else 0)
    batch, start = {}, 0
    for name, (shape, _dtype) in inputs.items() if cache is None else ():
        batch[name] = noise[start : start + sizes[name]].reshape(shape)
        start += sizes[name]
    batches = Batches(lambda: iter([batch] if batch else []), 1, None, 1 if batch else 0, "trtexec's noise")
    return Calibrator("entropy2", batches, cache=cache)
