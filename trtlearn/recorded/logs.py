"""Recorded logs: the optimizer's fusions, trtexec and its parser, calibrations cut short."""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from typing import Any

from ..engine.records import Provenance
from ..files import data_dir
from ..record import Record, plural
from .files import first, load_record, place

__all__ = [
    "Interruption",
    "Interruptions",
    "OptimizerLog",
    "ParserLine",
    "ParserLines",
    "TrtexecLog",
    "interruptions",
    "trtexec_log",
    "trtexec_parser",
]


@dataclass(frozen=True)
class OptimizerLog(Record):
    """What the optimizer did, in its own order."""

    scales: tuple[float, ...]  # of ranges set by hand, six digits as the log prints them
    fusions: tuple[str, ...]  # "kind: a + b"
    layers: int | None  # after all fusions, before reformats; None where the log does not say

    def summary(self) -> str:
        left = "unknown layers" if self.layers is None else plural(self.layers, "layer")
        return (
            f"{plural(len(self.scales), 'scale')} set by hand, "
            f"{plural(len(self.fusions), 'fusion')}, {left} left"
        )

    def rows(self) -> list[dict[str, Any]]:
        return [{"fusion": fusion} for fusion in self.fusions]


@dataclass(frozen=True)
class TrtexecLog(Record):
    """The optimizer's part of a verbose log of NVIDIA's own trtexec.

    ``inspector``: what --exportLayerInfo wrote, the inspector's text of trtexec's own engine.
    ``wrote_cache``: whether the --calib file that was missing is there afterwards; None: not asked.
    ``status``: its exit status, below 0 the signal that ended it; ``errors``: the error lines.
    """

    model: str
    command: str
    optimizer: OptimizerLog
    provenance: Provenance
    note: str = ""
    inspector: str = ""
    wrote_cache: bool | None = None
    status: int = 0
    errors: tuple[str, ...] = ()

    def summary(self) -> str:
        end = f"; ended with status {self.status}" if self.status else ""
        return f"{self.command}: {self.optimizer.summary()}{end}; {self.provenance.label()}"

    def rows(self) -> list[dict[str, Any]]:
        return self.optimizer.rows()


def trtexec_log(model: str, variant: str = "int8") -> TrtexecLog:
    """A recording of trtexec on one of the course's networks; RecordingError where there is none.

    ``variant``: "int8" for bare ``--int8``, "int8-random" for ``--int8 --calib=FILE`` with no such
    file, "int8-minmax-cache" for a cache as min-max writes it, "int8-minmax-cache-new-header" for
    the same with entropy 2's header.
    """
    return load_record(TrtexecLog, first(f"trtexec/{model}-{variant}.json"))


@dataclass(frozen=True)
class ParserLine(Record):
    """One command line, and what trtexec's own parser at ``tag`` made of it."""

    tag: str
    arguments: tuple[str, ...]
    outcome: str  # taken, refused, or help
    int8: bool  # whether its builder options said INT8
    int8_formats: int  # INT8 entries of --inputIOFormats and --outputIOFormats
    cache: str  # of --calib, "" where none

    @property
    def command(self) -> str:
        """The line to paste."""
        return f"trtexec {shlex.join(self.arguments)}"


@dataclass(frozen=True)
class ParserLines(Record):
    """Random command lines at every release, as NVIDIA's compiled sampleOptions.cpp read them."""

    origin: str
    lines: tuple[ParserLine, ...]

    @property
    def tags(self) -> tuple[str, ...]:
        """The releases, the oldest first."""

        def number(tag: str) -> list[int]:
            return [int(part) for part in tag.removeprefix("v").split(".")]

        return tuple(sorted({line.tag for line in self.lines}, key=number))

    def summary(self) -> str:
        return f"{len(self.lines):,} command lines at {len(self.tags)} releases; {self.origin}"

    def rows(self) -> list[dict[str, Any]]:
        table = {
            tag: {"release": tag, "lines": 0, "taken": 0, "refused": 0, "help": 0, "INT8": 0}
            for tag in self.tags
        }
        for line in self.lines:
            row: dict[str, Any] = table[line.tag]
            row["lines"] += 1
            row[line.outcome] += 1
            row["INT8"] += line.int8 and line.outcome == "taken"
        return list(table.values())


def trtexec_parser() -> ParserLines:
    """Thousands of command lines beside NVIDIA's own parser, compiled from each release's source.

    >>> trtexec_parser().lines[0].outcome
    'refused'
    """
    return load_record(ParserLines, data_dir() / "recordings" / "trtexec-parser.json.gz")


@dataclass(frozen=True)
class Interruption(Record):
    """One calibration in a process of its own, and what was left when it was gone.

    ``buffers_held``: GPU buffers of the calibrator after its with block; None where it was killed.
    """

    how: str  # "nothing" (it ran to its end), or how it was interrupted
    ended: str  # finished, KeyboardInterrupt, or killed
    exit_status: int  # of the process; negative: the signal that ended it
    batches: int  # that TensorRT had been given
    buffers_held: int | None
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
        return (
            f"{plural(len(self.runs), 'calibration')}, {max(lost, 0):,} bytes of GPU memory lost; "
            f"{self.provenance.label()}"
        )

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
    """The newest recording (recording/interrupts.py); RecordingError where there is none."""
    return load_record(Interruptions, place("interrupts.json"))
