"""What TensorRT's optimizer says before it times a kernel: the scales it took over, the layers it fused.

The verbose log names these in fixed sentences, whoever built the engine, so a build by trtexec and one by trtlearn can
be compared line by line. Source: verbose logs of TensorRT 8.6.0, measured: data/recordings/*/trtexec/.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .record import Record, plural
from .recordings import read_text
from .records import Provenance
from .replay import folder_with

__all__ = ["OptimizerLog", "TrtexecLog", "load_trtexec_log", "read_optimizer_log"]

_SCALE = re.compile(r"User overriding scale with scale and zero-point Quantization\(scale: \{([^,}]+),?\}")
_FUSION = re.compile(r"\b(\w+Fusion): Fusing (.+) with (.+)$")
_LAST_STAGE = re.compile(r"After concat removal: (\d+) layers$")


@dataclass(frozen=True)
class OptimizerLog(Record):
    """What the optimizer did, in its own order."""

    scales: tuple[float, ...]  # of ranges set by hand, six digits as the log prints them
    fusions: tuple[str, ...]  # "kind: a + b"
    layers: int | None  # left after all fusions, before reformats are put in; None where the log does not say

    def summary(self) -> str:
        left = "unknown layers" if self.layers is None else plural(self.layers, "layer")
        return f"{plural(len(self.scales), 'scale')} set by hand, {plural(len(self.fusions), 'fusion')}, {left} left"

    def rows(self) -> list[dict[str, Any]]:
        return [{"fusion": fusion} for fusion in self.fusions]


@dataclass(frozen=True)
class TrtexecLog(Record):
    """The optimizer's part of a verbose log of NVIDIA's own trtexec."""

    model: str
    command: str
    optimizer: OptimizerLog
    provenance: Provenance
    note: str = ""
    inspector: str = ""  # what --exportLayerInfo wrote: the inspector's text of trtexec's own engine
    wrote_cache: bool | None = None  # whether the --calib file that was missing is there afterwards; None: not asked

    def summary(self) -> str:
        return f"{self.command}: {self.optimizer.summary()}; {self.provenance.label()}"

    def rows(self) -> list[dict[str, Any]]:
        return self.optimizer.rows()


def read_optimizer_log(log: str) -> OptimizerLog:
    """The scales, fusions and layer count that a verbose log names; all empty for a log that is not verbose.

    >>> read_optimizer_log("[V] ConvReluFusion: Fusing c1 with r1\\n[V] After concat removal: 12 layers").summary()
    '0 scales set by hand, 1 fusion, 12 layers left'
    """
    scales, fusions, layers = [], [], None
    for line in log.splitlines():
        if found := _SCALE.search(line):
            scales.append(float(found[1]))
        elif found := _FUSION.search(line):
            fusions.append(f"{found[1]}: {found[2]} + {found[3]}")
        elif found := _LAST_STAGE.search(line):
            layers = int(found[1])
    return OptimizerLog(tuple(scales), tuple(fusions), layers)


def load_trtexec_log(model: str, variant: str = "int8", folder: Path | None = None) -> TrtexecLog:
    """A recording of trtexec on one of the course's networks; RecordingError where there is none.

    ``variant``: "int8" for bare ``--int8``, "int8-random" for ``--int8 --calib=FILE`` with no such file.
    """
    base = folder or folder_with("trtexec") / "trtexec"
    return TrtexecLog.from_json(read_text(base / f"{model}-{variant}.json"))
