"""Exercises of notebook 09, "Bring your own model"."""

from __future__ import annotations

from functools import partial

import numpy as np
from numpy.typing import NDArray

from ..exercise import register_chapter
from ..verdict import compare, judge_function, random_cases

__all__: list[str] = []

Array = NDArray[np.float64]


def sqnr_db(fp32: Array, int8: Array) -> float:
    """The reference of 09-sqnr: signal over noise, in decibel."""
    return float(10 * np.log10((fp32**2).sum() / ((fp32 - int8) ** 2).sum()))


def agreement(fp32: Array, int8: Array) -> float:
    """The reference of 09-agreement: the share of rows with the same largest class."""
    return float((fp32.argmax(axis=1) == int8.argmax(axis=1)).mean())


def random_outputs(rng: np.random.Generator) -> tuple[Array, Array]:
    """Outputs [200, 10], and the same with noise."""
    table = rng.normal(size=(200, 10))
    return table, table + rng.normal(size=table.shape) * rng.uniform(0.1, 1)


AGREEMENT_MISTAKES = {
    "that compares the numbers; compare which class is largest": lambda fp32, int8: (
        fp32 == int8
    ).mean(),
    "axis=0 looks for the row; the classes are along axis 1": lambda fp32, int8: (
        fp32.argmax(axis=0) == int8.argmax(axis=0)
    ).mean(),
}

SQNR_MISTAKES = {
    "power is a sum of squares": lambda fp32, int8: (
        10 * np.log10(np.abs(fp32).sum() / np.abs(fp32 - int8).sum())
    ),
    "20 log10 is for amplitudes; of powers take 10 log10": lambda fp32, int8: (
        2 * sqnr_db(fp32, int8)
    ),
    "that is noise over signal: the sign is turned": lambda fp32, int8: -sqnr_db(fp32, int8),
}


register_chapter(
    "09",
    judges={
        "09-agreement": partial(
            judge_function,
            cases=random_cases(agreement, random_outputs),
            common_mistakes=AGREEMENT_MISTAKES,
        ),
        "09-sqnr": partial(
            judge_function,
            cases=random_cases(sqnr_db, random_outputs),
            common_mistakes=SQNR_MISTAKES,
            compare=partial(compare, rtol=1e-5),
        ),
    },
)
