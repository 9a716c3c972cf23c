"""What was computed once, on a CPU, from recorded engines, being too slow for notebooks."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..engine.records import Provenance
from ..errors import DataError, RecordingError
from ..files import data_dir, sha256
from ..record import Record, Table, plural
from .files import check_hashes, load_record, place, read_text

__all__ = [
    "FactorTrial",
    "OneScale",
    "OneScaleTrial",
    "Pair",
    "PairTable",
    "RangeFactors",
    "Repairs",
    "modelopt_pairs",
    "one_scale",
    "range_factors",
    "repairs",
]


FACTORS = "studies/mobile-range-factors.json.gz"
REPAIRS = "studies/resnet-repairs.json.gz"
"""Where these lie among recordings: beside the engines whose ranges they change."""


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
class RangeFactors(Table[FactorTrial]):
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
            {"factor": trial.factor, "clipped %": 100 * trial.clipped, "codes": trial.codes}
            for trial in self.trials
        ]


def range_factors() -> RangeFactors:
    """Every range of mobile's bare ``--int8`` times 0.25 to 1024: answers, share clipped, codes.

    >>> range_factors()[1].factor
    1.0

    Source: measured, recording/range_factors.py (the numpy model of the recorded engine).
    """
    again = "make it again with `python -m recording.range_factors`"
    return load_record(RangeFactors, place(FACTORS), again)


@dataclass(frozen=True)
class Repairs(Record):
    """The INT8 engine of entropy 2 in numpy, some of its ranges replaced by min-max's.

    ``right[choice]`` counts the right answers of ``count`` test images; bit k of ``choice`` is set
    where ``tensors[k]`` has min-max's range.
    """

    model: str
    count: int
    tensors: tuple[str, ...]  # in the network's order
    broken: dict[str, float]  # tensor -> entropy 2's scale
    repaired: dict[str, float]  # tensor -> min-max's scale
    right: tuple[int, ...]
    provenance: Provenance

    def accuracy(self, names: Iterable[str] = ()) -> float:
        """The share of right answers, 0 to 1, with min-max's range for the tensors ``names``.

        DataError for a tensor that has no switch.
        """
        choice = 0
        for name in set(names):
            if name not in self.tensors:
                raise DataError(f"no switch for {name!r}", f"one of {', '.join(self.tensors)}")
            choice |= 1 << self.tensors.index(name)
        return self.right[choice] / self.count

    def greedy(self) -> tuple[str, ...]:
        """The tensors in the order in which each next one helps most; all of them."""
        order: tuple[str, ...] = ()
        while len(order) < len(self.tensors):
            left = [name for name in self.tensors if name not in order]
            order += (max(left, key=lambda name: self.accuracy((*order, name))),)
        return order

    def summary(self) -> str:
        none, every = self.accuracy(), self.accuracy(self.tensors)
        return (
            f"{self.model}, {len(self.tensors)} tensors: {none:.1%} right with entropy 2's ranges, "
            f"{every:.1%} with min-max's"
        )

    def rows(self) -> list[dict[str, Any]]:
        return [
            {
                "tensor": name,
                "entropy 2: amax": 127 * self.broken[name],
                "min-max: amax": 127 * self.repaired[name],
                "right, this one repaired": f"{self.accuracy([name]):.1%}",
            }
            for name in self.tensors
        ]


def repairs() -> Repairs:
    """Entropy 2's ranges of resnet, each repaired or not: the right answers of every choice.

    >>> repairs().accuracy(["image"]) < repairs().accuracy()
    True

    Source: measured, recording/repairs.py (the numpy model of the recorded engine).
    """
    return load_record(Repairs, place(REPAIRS), "make it with `python -m recording.repairs`")


@dataclass(frozen=True)
class OneScaleTrial(Record):
    """The detector with some tensors in eight bits, or with Q/DQ in some places (``qdq``)."""

    model: str  # detector, or the detector with another head
    map50: float
    distinct_scores: int  # different scores in the answers to all test scenes
    rounded: tuple[str, ...] = ()  # tensors, and nothing else, with a min-max scale each
    scales: dict[str, float] = field(default_factory=dict)
    qdq: str = ""

    @property
    def name(self) -> str:
        """What is in eight bits."""
        return f"Q/DQ {self.qdq}" if self.qdq else ", ".join(self.rounded) or "nothing"


@dataclass(frozen=True)
class OneScale(Table[OneScaleTrial]):
    """What one INT8 scale for one tensor of the detector costs: simulated, no engine was built."""

    ITEMS = "trials"

    trials: tuple[OneScaleTrial, ...]
    about: str
    provenance: Provenance

    def summary(self) -> str:
        return f"{len(self.trials)} ways to put tensors of the detector into eight bits"

    def rows(self) -> list[dict[str, Any]]:
        return [
            {
                "model": trial.model,
                "in eight bits": trial.name,
                "mAP50 %": 100 * trial.map50,
                "different scores": trial.distinct_scores,
            }
            for trial in self.trials
        ]


def one_scale(model: str = "detector") -> OneScale:
    """The detector, or the detector with another head, with single tensors in eight bits.

    >>> one_scale()["output0"].distinct_scores
    2

    Source: measured, data/recordings/*/networks/one-scale.json (ONNX Runtime on a CPU).
    """
    path = place("networks/one-scale.json")
    whole = load_record(OneScale, path)
    caches = [name for name in whole.provenance.sha256 if name.endswith(".cache")]
    check_hashes(whole.provenance, {name: sha256(data_dir() / name) for name in caches}, str(path))
    ours = tuple(trial for trial in whole.trials if trial.model == model)
    if not ours:
        known = ", ".join(dict.fromkeys(trial.model for trial in whole.trials))
        raise RecordingError(f"nothing of {model!r} in {path}", f"one of {known}")
    return dataclasses.replace(whole, trials=ours)


@dataclass(frozen=True)
class Pair(Record):
    """One Q/DQ pair (or a DequantizeLinear alone, on weights that are stored as integers)."""

    tensor: str
    kind: str  # activation, weights, bias
    scales: tuple[float, ...]  # one, or one per channel
    zero_points: tuple[int, ...]  # the values that occur
    dtype: str  # int8, uint8, int32
    readers: tuple[str, ...]  # "name (operator)" of the nodes behind it


@dataclass(frozen=True)
class PairTable(Record):
    """All pairs of a model."""

    maker: str
    pairs: tuple[Pair, ...]

    def summary(self) -> str:
        kinds = [pair.kind for pair in self.pairs]
        counts = ", ".join(f"{kinds.count(kind)} on {kind}" for kind in dict.fromkeys(kinds))
        return f"{self.maker}: {plural(len(self.pairs), 'pair')}, {counts}"

    def rows(self) -> list[dict[str, Any]]:
        return [
            {
                "tensor": p.tensor,
                "kind": p.kind,
                "scale": p.scales[0] if len(p.scales) == 1 else f"{len(p.scales)} channels",
                "zero point": p.zero_points,
                "type": p.dtype,
                "read by": p.readers,
            }
            for p in self.pairs
        ]

    def activations(self) -> dict[str, float]:
        """Tensor -> scale of the pairs on activations."""
        return {pair.tensor: pair.scales[0] for pair in self.pairs if pair.kind == "activation"}


def modelopt_pairs(model: str) -> PairTable:
    """The Q/DQ pairs that NVIDIA's ModelOpt put into one of the course's networks.

    >>> modelopt_pairs("resnet").pairs[0].kind in ("activation", "weights")
    True

    Source: recording/modelopt.py.
    """
    return PairTable.from_json(read_text(data_dir() / "quantizers" / f"modelopt-{model}.json"))
