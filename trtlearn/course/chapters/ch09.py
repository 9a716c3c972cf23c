"""Exercises of notebook 09, "Bring your own model"."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ..exercise import Exercise, Prediction, function, register

__all__: list[str] = []

Array = NDArray[np.float64]


def _sqnr(reference: Array, answer: Array) -> float:
    return float(10 * np.log10((reference**2).sum() / ((reference - answer) ** 2).sum()))


def _agreement(reference: Array, answer: Array) -> float:
    return float((reference.argmax(axis=1) == answer.argmax(axis=1)).mean())


def _outputs(rng: np.random.Generator) -> tuple[Array, Array]:
    table = rng.normal(size=(200, 10))
    return table, table + rng.normal(size=table.shape) * rng.uniform(0.1, 1)


register(
    Prediction(
        "09-best",
        "The network `mobile`, seen as if it were yours: which ranges keep most of its FP32 answers?",
        ("int8-minmax", "int8-entropy2", "int8-placeholder"),
    ),
    Exercise(
        "09-agreement",
        "The same answers",
        function(
            _agreement,
            _outputs,
            slips={
                "that compares the numbers; compare which class is largest": lambda a, b: float(
                    (a == b).mean()
                ),
                "axis=0 looks for the row; the classes are along axis 1": lambda a, b: float(
                    (a.argmax(axis=0) == b.argmax(axis=0)).mean()
                ),
            },
        ),
        solution="def my_agreement(fp32, int8):\n    return (fp32.argmax(axis=1) == int8.argmax(axis=1)).mean()",
        wrong=(
            "def my_agreement(fp32, int8):\n    return (fp32 == int8).mean()",
            "def my_agreement(fp32, int8):\n    return (fp32.argmax(axis=0) == int8.argmax(axis=0)).mean()",
        ),
        hints=(
            "The class of a row is the place of its largest number: argmax along axis 1.",
            "Then a mean of equals.",
        ),
        difficulty=1,
        minutes=3,
    ),
    Exercise(
        "09-sqnr",
        "Signal to quantization noise",
        function(
            _sqnr,
            _outputs,
            rtol=1e-5,
            slips={
                "power is a sum of squares": lambda a, b: float(
                    10 * np.log10(np.abs(a).sum() / np.abs(a - b).sum())
                ),
                "20 log10 is for amplitudes; of powers take 10 log10": lambda a, b: 2 * _sqnr(a, b),
                "that is noise over signal: the sign is turned": lambda a, b: -_sqnr(a, b),
            },
        ),
        solution="def my_sqnr(fp32, int8):\n    return 10 * np.log10((fp32**2).sum() / ((fp32 - int8) ** 2).sum())",
        wrong=(
            "def my_sqnr(fp32, int8):\n    return 20 * np.log10((fp32**2).sum() / ((fp32 - int8) ** 2).sum())",
            "def my_sqnr(fp32, int8):\n    return 10 * np.log10(((fp32 - int8) ** 2).sum() / (fp32**2).sum())",
        ),
        hints=(
            "Signal: the sum of squares of FP32's answers. Noise: the sum of squares of the differences.",
            "In decibel: ten times the logarithm to base 10 of signal over noise.",
        ),
        difficulty=2,
        minutes=6,
    ),
)
