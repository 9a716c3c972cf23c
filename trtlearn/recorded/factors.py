"""One network, all its ranges times a factor: what each factor does. Computed once, on a CPU."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..engine.records import Provenance
from ..record import Record, Table
from .files import check_origin, folder_with, read_packed

__all__ = ["FactorTrial", "RangeFactors", "factors_path", "range_factors"]


@dataclass(frozen=True)
class FactorTrial(Record):
    """Every range times ``factor``: the answers, and what the ranges do to the tensors' values."""

    factor: float
    answers: str  # the class of each image, one digit each
    clipped: float  # share of all tensors' values, in FP32, that lie beyond their range
    codes: float  # of 256: how many different codes a tensor uses, the median of the INT8 tensors

    @property
    def classes(self) -> NDArray[np.int64]:
        """The answers as int64 [N]."""
        return np.array(list(self.answers), np.int64)


@dataclass(frozen=True)
class RangeFactors(Table):
    """Bare ``--int8``'s engine in numpy, its ranges times each factor, on the first test images."""

    ITEMS, KEY = "trials", "factor"

    model: str
    count: int  # images
    trials: tuple[FactorTrial, ...]  # the least factor first
    provenance: Provenance

    def accuracies(self, labels: NDArray[np.int64]) -> list[float]:
        """The share of right answers for each factor; ``labels`` int [N], at least ``count``."""
        return [float((trial.classes == labels[: self.count]).mean()) for trial in self.trials]

    def summary(self) -> str:
        first, last = self.trials[0].factor, self.trials[-1].factor
        return f"{self.model}: all ranges times {first:g} to {last:g}, {len(self.trials)} factors"

    def rows(self) -> list[dict[str, Any]]:
        return [
            {
                "factor": trial.factor,
                "clipped %": 100 * trial.clipped,
                "codes": trial.codes,
            }
            for trial in self.trials
        ]


def factors_path(model: str = "mobile", folder: Path | None = None) -> Path:
    """Where the recording lies: beside the engine whose ranges it multiplies."""
    return (folder or folder_with("studies")) / "studies" / f"{model}-range-factors.json.gz"


def range_factors(model: str = "mobile", folder: Path | None = None) -> RangeFactors:
    """Every range of bare ``--int8`` times 0.25 to 1024: answers, share clipped, codes used.

    >>> range_factors()[1].factor
    1.0

    Source: measured, recording/range_factors.py (the numpy model of the recorded engine).
    """
    path = factors_path(model, folder)
    again = "make it again with `python -m recording.range_factors`"
    record = RangeFactors.from_json(read_packed(path, again))
    check_origin(record.provenance, path)
    return record
