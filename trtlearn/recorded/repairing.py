"""Entropy 2's ranges of one network, each replaced by min-max's or not: the answers of every
choice. Computed once, on a CPU.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..engine.records import Provenance
from ..errors import DataError
from ..record import Record
from .files import check_origin, folder_with, read_packed

__all__ = ["Repairs", "repairs", "repairs_path"]

AGAIN = "make it with `python -m recording.repairs`"


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


def repairs_path(model: str = "resnet", folder: Path | None = None) -> Path:
    """Where the recording lies: beside the engines whose ranges it mixes."""
    return (folder or folder_with("studies")) / "studies" / f"{model}-repairs.json.gz"


def repairs(model: str = "resnet", folder: Path | None = None) -> Repairs:
    """Entropy 2's ranges, each repaired or not: the right answers of every choice.

    >>> repairs().accuracy(["image"]) < repairs().accuracy()
    True

    Source: measured, recording/repairs.py (the numpy model of the recorded engine).
    """
    path = repairs_path(model, folder)
    record = Repairs.from_json(read_packed(path, AGAIN))
    check_origin(record.provenance, path)
    return record
