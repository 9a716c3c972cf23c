"""Activations made on purpose: each is fed to TensorRT as a network input whose scale its
calibrators then choose.

``single()`` and ``several()`` give name -> batches (float32 arrays of one shape), the same on every
machine: the recorded caches in data/recordings/*/calibration/ are compared with what our observers
choose for the same numbers.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float32]
BINS = 2048


def _rng(name: str) -> np.random.Generator:
    return np.random.default_rng(zlib.crc32(name.encode()))


def _from_counts(counts: NDArray[np.int64], zeros: int = 0) -> Array:
    """Values whose histogram over [0, 1) in 2048 bins is ``counts``: bin centres, and one value of
    exactly 1.
    """
    counts = counts.astype(np.int64).copy()
    counts[-1] = max(counts[-1], 1)
    centres = ((np.arange(BINS) + 0.5) / BINS).astype(np.float32)
    values = np.repeat(centres, counts)
    values[-1] = 1.0
    return np.concatenate([values, np.zeros(zeros, np.float32)])


def _softmax(rng: np.random.Generator, count: int) -> NDArray[np.float64]:
    powers = np.exp(2 * rng.standard_normal((max(count // 16, 1), 16)))
    result: NDArray[np.float64] = (powers / powers.sum(1, keepdims=True)).ravel()[:count]
    return result


def _families() -> dict[str, Callable[[np.random.Generator, int], NDArray[np.float64]]]:
    return {
        "normal": lambda r, n: r.standard_normal(n),
        "half": lambda r, n: np.abs(r.standard_normal(n)),
        "laplace": lambda r, n: r.laplace(size=n),
        "lognormal": lambda r, n: r.lognormal(size=n),
        "lognormal2": lambda r, n: r.lognormal(sigma=2.0, size=n),
        "student": lambda r, n: r.standard_t(2.0, size=n),
        "square": lambda r, n: r.standard_normal(n) ** 2,
        "fourth": lambda r, n: r.standard_normal(n) ** 4,
        "uniform": lambda r, n: r.random(n),
        "relu": lambda r, n: np.maximum(r.standard_normal(n), 0),
        "relu6": lambda r, n: np.clip(3 * r.standard_normal(n) + 2, 0, 6),
        "sparse": lambda r, n: np.where(r.random(n) < 0.9, 0, r.standard_normal(n)),
        "softmax": _softmax,
        "sigmoid": lambda r, n: 1 / (1 + np.exp(-2 * r.standard_normal(n))),
        "deviation": lambda r, n: np.sqrt((r.standard_normal((n, 64)) ** 2).mean(1)),
        "deviation16": lambda r, n: np.sqrt((r.standard_normal((n, 16)) ** 2).mean(1)),
        "bimodal": lambda r, n: np.where(r.random(n) < 0.5, -5, 5) + 0.3 * r.standard_normal(n),
        "integers": lambda r, n: r.integers(0, 11, n).astype(float),
        "bytes": lambda r, n: r.integers(0, 256, n).astype(float),
        "far": lambda r, n: 5 + r.random(n),
        "farther": lambda r, n: 100 + r.random(n),
        "negative": lambda r, n: -np.abs(r.standard_normal(n)) - 0.5,
        "steps": lambda r, n: np.rint(20 * r.standard_normal(n)) * 0.1,
        "edges": lambda r, n: np.append(
            r.integers(0, 2048, n - 1) / 2048 * np.float32(0.7), np.float32(0.7)
        ),
    }


def _designed() -> dict[str, Array]:
    index = np.arange(BINS)
    made: dict[str, Array] = {}
    for seed in range(12):
        rng = _rng(f"decay{seed}")
        rate = rng.uniform(1, 12)
        made[f"decay{seed}"] = _from_counts(
            rng.poisson(rng.uniform(1, 60) * np.exp(-rate * index / BINS))
        )
    for seed in range(8):
        rng = _rng(f"holes{seed}")
        bins = rng.choice(BINS, int(rng.integers(3, 300)), replace=False)
        counts = np.zeros(BINS, np.int64)
        counts[bins] = rng.integers(1, 40, len(bins))
        made[f"holes{seed}"] = _from_counts(counts)
    for start in (
        1,
        2,
        16,
        100,
        126,
        127,
        128,
        129,
        130,
        200,
        300,
        500,
        1000,
        1024,
        1500,
        1900,
        2000,
        2040,
        2047,
    ):
        made[f"from{start}"] = _from_counts(np.where(index >= start, 3, 0))
        made[f"falling{start}"] = _from_counts(
            np.where(index >= start, np.ceil(30 * np.exp(-5 * (index - start) / BINS)), 0)
        )
    for place in (0, 1, 2, 50, 126, 127, 128, 129, 255, 256, 500, 1000, 1023, 1024, 2046):
        made[f"spike{place}"] = _from_counts(np.where(index == place, 500, 0))
        made[f"spike{place}_on_noise"] = _from_counts(np.where(index == place, 2000, 2))
    base = np.ceil(40 * np.exp(-6 * index / BINS)).astype(np.int64)
    for first in (0, 1, 5, 40, 1000, 20000):
        made[f"bin0_{first}"] = _from_counts(np.where(index == 0, first, base))
        made[f"zeros_{first}"] = _from_counts(base, zeros=first)
        made[f"bin1_{first}"] = _from_counts(np.where(index == 1, first, base))
    for width in (1, 2, 4, 64, 127, 128, 129, 200, 256, 1000):
        made[f"block{width}"] = _from_counts(np.where(index < width, 10, 0))
        made[f"block{width}_tail"] = _from_counts(
            np.where(index < width, 10, (index % 50 == 7).astype(int))
        )
    return made


SPECIAL = (
    *(
        "all_zero",
        "constant",
        "one_",
        "two_",
        "seven",
        "outlier",
        "tiny",
        "tinier",
        "denormal",
        "huge",
        "minus_zero",
    ),
    *("zeros_", "steps_of_first", "exactly", "just_above", "grow1e6"),
)


def is_special(name: str) -> bool:
    """Whether TensorRT might refuse a whole network because of this input: zeros, huge numbers and
    such.
    """
    return name.startswith(SPECIAL)


def single() -> dict[str, list[Array]]:
    """Name -> one batch."""
    made: dict[str, list[Array]] = {}
    for name, draw in _families().items():
        for count in (64, 1536, 8192):
            key = f"{name}_{count}"
            made[key] = [draw(_rng(key), count).astype(np.float32)]
    for key in ("normal_100000", "lognormal_100000", "deviation_20000"):
        family, _, count = key.rpartition("_")
        made[key] = [_families()[family](_rng(key), int(count)).astype(np.float32)]
    made |= {f"designed_{name}": [values] for name, values in _designed().items()}
    ones = np.ones(256, np.float32)
    noise = _rng("noise").standard_normal(4096).astype(np.float32)
    made |= {
        "all_zero": [0 * ones],
        "constant_3": [3 * ones],
        "constant_0.001": [np.float32(0.001) * ones],
        "constant_-7.3": [np.float32(-7.3) * ones],
        "one_element": [np.full(1, 2.5, np.float32)],
        "two_elements": [np.asarray([1.0, 0.3], np.float32)],
        "seven_elements": [noise[:7]],
        "two_values": [np.where(noise > 0, np.float32(1), np.float32(0.25))],
        "outlier_100": [np.append(noise, np.float32(100))],
        "outlier_1e6": [np.append(noise, np.float32(1e6))],
        "one_nonzero": [np.append(0 * noise, np.float32(3))],
        "tiny": [noise * np.float32(1e-20)],
        "tinier": [noise * np.float32(1e-36)],
        "denormal": [noise * np.float32(1e-40)],
        "huge": [noise * np.float32(1e20)],
        "hugest": [noise * np.float32(1e36)],
        "minus_zero": [np.append(-0 * ones, noise)],
    }
    return made


def several() -> dict[str, list[Array]]:
    """Name -> four batches of one shape, whose ranges grow or shrink."""
    made: dict[str, list[Array]] = {}
    growth = {
        "same": (1, 1, 1, 1),
        "grow": (1, 1.3, 1.7, 1.9),
        "double": (1, 2, 4, 8),
        "grow3": (1, 3, 9, 27),
        "grow100": (1, 1, 1, 100),
        "grow1000": (1, 1000, 1, 5),
        "shrink": (8, 4, 2, 1),
        "late": (1, 1, 1, 2.5),
        "grow1e6": (1, 1e6, 1, 1),
    }
    for kind in (
        "normal",
        "half",
        "lognormal",
        "square",
        "uniform",
        "sparse",
        "deviation",
        "softmax",
    ):
        for name, factors in growth.items():
            rng = _rng(f"{kind}_{name}")
            made[f"{kind}_{name}"] = [
                (factor * _families()[kind](rng, 2048)).astype(np.float32) for factor in factors
            ]
    for seed in range(12):
        rng = _rng(f"random{seed}")
        kind = sorted(_families())[int(rng.integers(len(_families())))]
        made[f"random{seed}_{kind}"] = [
            (rng.lognormal(sigma=0.8) * _families()[kind](rng, 3000)).astype(np.float32)
            for _ in range(4)
        ]
    rng = _rng("special")
    noise = [rng.standard_normal(2048).astype(np.float32) for _ in range(4)]
    nothing = np.zeros(2048, np.float32)
    ramp = (np.arange(1, 2049) / 2048).astype(np.float32)
    made |= {
        "zeros_first": [nothing, *noise[1:]],
        "zeros_twice_first": [nothing, nothing, *noise[2:]],
        "zeros_later": [noise[0], nothing, noise[2], nothing],
        "zeros_always": [nothing] * 4,
        "tiny_first": [noise[0] * np.float32(1e-8), *noise[1:]],
        "constant_first": [nothing + 1, *noise[1:]],
        "constant_growing": [nothing + np.float32(k) for k in (1, 1.5, 3, 5)],
        "exactly_double": [ramp, 2 * ramp, 2 * ramp, 4 * ramp],
        "just_above": [ramp, ramp * np.float32(1.0000001), ramp * np.float32(1.001), ramp],
        "just_above_double": [ramp, ramp * np.float32(2.0000002), ramp, ramp],
        "steps_of_first": [
            ramp,
            ramp * np.float32(1.25),
            ramp * np.float32(1.5),
            ramp * np.float32(1.75),
        ],
        "one_outlier_batch": [
            noise[0],
            noise[1],
            np.append(noise[2][:-1], np.float32(50)),
            noise[3],
        ],
        "one_outlier_first": [np.append(noise[0][:-1], np.float32(50)), *noise[1:]],
    }
    return made


GRID = (
    *(
        f"{name}_1536"
        for name in (
            "normal",
            "half",
            "laplace",
            "lognormal",
            "lognormal2",
            "student",
            "square",
            "fourth",
        )
    ),
    *(
        f"{name}_1536"
        for name in (
            "uniform",
            "relu",
            "relu6",
            "sparse",
            "softmax",
            "sigmoid",
            "deviation",
            "bimodal",
        )
    ),
    *(
        "integers_1536",
        "far_1536",
        "steps_1536",
        "normal_64",
        "normal_8192",
        "lognormal_100000",
        "normal_100000",
    ),
    *(f"designed_decay{seed}" for seed in range(6)),
    *(
        "designed_holes0",
        "designed_holes1",
        "designed_from1",
        "designed_from500",
        "designed_spike500_on_noise",
    ),
    *(
        "designed_block64_tail",
        "designed_block1000",
        "designed_zeros_1000",
        "designed_bin0_1000",
        "designed_falling1",
    ),
)
"""The tensors of single() on which the legacy calibrator's settings are tried."""
PROBE = (
    "normal_1536",
    "lognormal_1536",
    "uniform_1536",
    "designed_decay0",
    "relu_1536",
    "deviation_1536",
)


def group(which: str) -> dict[str, list[Array]]:
    """A set of tensors by its name: single or several, _safe or _special; grid; grid_several;
    probe.
    """
    if which in ("grid", "probe"):
        made = single()
        return {name: made[name] for name in (GRID if which == "grid" else PROBE)}
    made = single() if which.startswith("single") else several()
    if which == "grid_several":
        return {
            name: arrays
            for index, (name, arrays) in enumerate(made.items())
            if not is_special(name) and index % 3 == 0
        }
    return {
        name: arrays
        for name, arrays in made.items()
        if is_special(name) == which.endswith("_special")
    }
