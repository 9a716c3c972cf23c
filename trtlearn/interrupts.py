"""What an interrupted calibration leaves behind on a GPU machine: measured, and kept as a record."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from .record import Record
from .recordings import read_text
from .records import Provenance
from .replay import folder_with

__all__ = ["Interruption", "Interruptions", "interruptions"]


@dataclass(frozen=True)
class Interruption(Record):
    """One calibration in a process of its own, and what was left when it was gone."""

    how: str  # "nothing" (it ran to its end), or how it was interrupted
    ended: str  # finished, KeyboardInterrupt, or killed
    exit_status: int  # of the process; negative: the signal that ended it
    batches: int  # that TensorRT had been given
    buffers_held: int | None  # GPU buffers of the calibrator after its with block; None where the process was killed
    free_bytes_before: int  # GPU memory
    free_bytes_after: int
    files_left: tuple[str, ...]
    seconds: float


@dataclass(frozen=True)
class Interruptions(Record):
    """A calibration to its end, one with Ctrl-C, one killed."""

    runs: tuple[Interruption, ...]
    provenance: Provenance

    def summary(self) -> str:
        lost = max((run.free_bytes_before - run.free_bytes_after for run in self.runs), default=0)
        return f"{len(self.runs)} calibrations, {max(lost, 0):,} bytes of GPU memory lost; {self.provenance.label()}"

    def rows(self) -> list[dict[str, Any]]:
        return [
            {
                "interrupted by": run.how,
                "ended": run.ended,
                "batches": run.batches,
                "GPU memory lost, bytes": run.free_bytes_before - run.free_bytes_after,
                "files left": ", ".join(run.files_left) or "none",
            }
            for run in self.runs
        ]


def interruptions() -> Interruptions:
    """The newest recording (scripts/record_interrupts.py); RecordingError where there is none."""
    return Interruptions.from_json(read_text(folder_with("interrupts.json") / "interrupts.json"))
