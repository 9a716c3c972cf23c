"""Which sample directories of NVIDIA/TensorRT show which kind of quantization, from 8.4 to 11.1 (thread question 7).

The table (tables/samples.json) is read off the sources at every tag by scripts/check_samples.py: a directory counts
when its file holds the telling line, whose number is kept.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from .errors import CommandError
from .record import Record
from .trtexec_sources import resolve

__all__ = ["KINDS", "Sample", "SampleTable", "samples"]

KINDS = {
    "calibration": "post-training quantization: a calibrator fed with data",
    "own ranges": "post-training quantization: per-tensor ranges that the program sets itself",
    "one range": "the same range for every tensor, whatever its data: it runs, and proves no accuracy",
    "Q/DQ": "explicit quantization: QuantizeLinear/DequantizeLinear in the model",
    "trtexec": "whichever its options lead to: see trtlearn explain",
}
"""Kind of quantization -> in words."""


@dataclass(frozen=True)
class Sample(Record):
    """One directory and what it shows; ``first`` and ``last`` are the tags at which it does."""

    directory: str
    kind: str
    shows: str
    first: str
    last: str
    file: str
    line: int  # at ``tag``
    tag: str
    url: str
    fate: str  # after ``last``: gone, or there without INT8; empty where it still shows it

    def summary(self) -> str:
        return f"{self.directory}: {self.shows} ({self.first} to {self.last})"


@dataclass(frozen=True)
class SampleTable(Record):
    """The directories that show quantization, at one version or at any."""

    samples: tuple[Sample, ...]
    version: str | None = None

    def summary(self) -> str:
        where = f"TensorRT {self.version}" if self.version else "TensorRT 8.4 to 11.1"
        return f"{len(self.samples)} directories of NVIDIA/TensorRT show INT8 quantization in {where}"

    def rows(self) -> list[dict[str, Any]]:
        return [
            {
                "directory": one.directory,
                "kind": one.kind,
                "shows": one.shows,
                "from": one.first,
                "to": one.last,
                "then": one.fate or None,
                "evidence": f"{one.tag}:{one.file}:{one.line}",
            }
            for one in self.samples
        ]


@cache
def _table() -> dict[str, Any]:
    table: dict[str, Any] = json.loads((Path(__file__).parent / "tables" / "samples.json").read_text(encoding="utf-8"))
    return table


def samples(trt: str | None = None, kind: str | None = None) -> SampleTable:
    """The sample directories that show quantization, all of them or those of one version and one kind.

    Raises CommandError for an unknown version or kind.

    >>> [one.directory for one in samples("8.6", kind="own ranges").samples]
    ['samples/sampleINT8API']

    Source: the file and line of each row at its tag in github.com/NVIDIA/TensorRT.
    """
    if kind is not None and kind not in KINDS:
        raise CommandError(f"no kind {kind!r}", f"one of {', '.join(KINDS)}")
    wanted = resolve(trt).tag if trt is not None else None
    table, found = _table(), []
    for row in table["rows"]:
        tags = list(row["lines"])
        if (kind is None or row["kind"] == kind) and (wanted is None or wanted in tags):
            tag = wanted or tags[-1]
            later = [one for one in table["tags"][table["tags"].index(tags[-1]) + 1 :] if one in row["without"]]
            gone = "" if tags[-1] == table["tags"][-1] else "there, but no longer in INT8" if later else "gone"
            found.append(
                Sample(
                    directory=row["directory"],
                    kind=row["kind"],
                    shows=row["shows"],
                    first=tags[0],
                    last=tags[-1],
                    file=row["file"],
                    line=row["lines"][tag],
                    tag=tag,
                    url=f"{table['repository']}/blob/{tag}/{row['file']}#L{row['lines'][tag]}",
                    fate=gone,
                )
            )
    return SampleTable(tuple(found), trt)
