"""Which sample directories of NVIDIA/TensorRT show which kind of quantization, from 8.4 to 11.1 (thread question 7).

The table (tables/samples.json) is read off the sources at every tag by tools/trtexec_samples.py: a directory counts
when its file holds the telling line, whose number is kept.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from ..errors import CommandError
from ..record import Record
from .records import Source

__all__ = [
    "KINDS",
    "Release",
    "Sample",
    "SampleTable",
    "cite",
    "known_versions",
    "option_kinds",
    "resolve",
    "samples",
    "words",
]


# --- Where trtexec's own source code says what it does: one line range per decision, at every release tag since 8.4.


@dataclass(frozen=True)
class Release:
    """A TensorRT version as asked for, and the tag whose source answers for it."""

    version: str
    tag: str
    number: tuple[int, int]  # (8, 6)
    note: str = ""


@cache
def _table() -> dict[str, Any]:
    table: dict[str, Any] = json.loads(
        (Path(__file__).parent / "tables" / "trtexec.json").read_text(encoding="utf-8")
    )
    return table


def _numbers(tag: str) -> tuple[int, ...]:
    return tuple(int(part) for part in tag.removeprefix("v").split("."))


def known_versions() -> tuple[str, ...]:
    """The versions that can be asked for, oldest first: "8.4", "8.5", ... "11.1".

    >>> known_versions()[:3]
    ('8.4', '8.5', '8.6')
    """
    minors = sorted({_numbers(tag)[:2] for tag in _table()["tags"]})
    return tuple(f"{major}.{minor}" for major, minor in minors)


def resolve(trt: str) -> Release:
    """The release that "8.6", "v8.6.1", "10" or "10.13.2" names; CommandError lists the known ones otherwise.

    A version without a patch number means its newest tag, a major version alone its newest release. A patch
    release that has no tag of its own is answered by the nearest tag of its minor version, and ``note`` says so.

    >>> resolve("8.6").tag, resolve("v10.0.1").tag, resolve("11").tag
    ('v8.6.1', 'v10.0.1', 'v11.1')
    """
    text = str(trt).strip()
    match = re.fullmatch(
        r"(?:(?:tensorrt|trt)[\s_-]*)?v?(\d{1,3})(?:\.(\d{1,3}))?(?:\.(\d{1,3}))?(?:\.\d{1,4})?",
        text,
        re.I | re.A,
    )
    tags = {_numbers(tag): tag for tag in _table()["tags"]}
    wanted = tuple(int(part) for part in match.groups() if part) if match else ()
    near = sorted(
        numbers for numbers in tags if wanted and numbers[: min(2, len(wanted))] == wanted[:2]
    )
    if not near:
        raise CommandError(
            f"TensorRT version {text[:40]!r} is not known, expected one of {', '.join(known_versions())}",
            "name one of these with --trt",
        )
    patch = wanted[2] if len(wanted) > 2 else None

    def at(numbers: tuple[int, ...]) -> int:
        return numbers[2] if len(numbers) > 2 else 0

    best = near[-1] if patch is None else min(near, key=lambda numbers: abs(at(numbers) - patch))
    note = ""
    if patch is not None and at(best) != patch and len(best) > 2:
        note = f"{text} has no tag in NVIDIA/TensorRT; the source lines are those of {tags[best]}"
    return Release(text.lstrip("vV"), tags[best], (best[0], best[1]), note)


def cite(tag: str, key: str) -> Source | None:
    """The place ``key`` (for example "decision" or "placeholder") in the source at ``tag``; None where it is not there.

    >>> print(cite("v8.6.1", "decision"))
    v8.6.1:samples/common/sampleEngines.cpp:1009-1014 (setupNetworkAndConfig)
    """
    table = _table()
    entry: str | None = table["tags"][tag]["sources"].get(key)
    if entry is None:
        return None
    name, function, lines = entry.split(" ")
    file = table["files"][name] + name
    anchor = "-".join(f"L{line}" for line in lines.split("-"))
    return Source(file, function, lines, tag, f"{table['repository']}/blob/{tag}/{file}#{anchor}")


@cache
def option_kinds(tag: str) -> dict[str, str]:
    """Every option that trtexec knows at ``tag`` and how its value is read: flag, int, float, text, repeat, ..."""
    options: dict[str, str] = _table()["tags"][tag]["options"]
    return {name: kind for kind, names in options.items() for name in names.split()}


def words(tag: str, what: str) -> tuple[str, ...]:
    """The data types (``what="types"``) or tensor formats ("formats") that trtexec can name at ``tag``."""
    text: str = _table()["tags"][tag][what]
    return tuple(text.split())


def best_skips_sm103(tag: str) -> bool:
    """Whether ``--best`` leaves INT8 out on GPUs of compute capability 10.3 at ``tag``."""
    return bool(_table()["tags"][tag]["best_skips_sm103"])


# --- Which sample directories of NVIDIA/TensorRT show which kind of quantization, from 8.4 to 11.1 (thread question 7).

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
        return (
            f"{len(self.samples)} directories of NVIDIA/TensorRT show INT8 quantization in {where}"
        )

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
def _samples_table() -> dict[str, Any]:
    table: dict[str, Any] = json.loads(
        (Path(__file__).parent / "tables" / "samples.json").read_text(encoding="utf-8")
    )
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
    table, found = _samples_table(), []
    for row in table["rows"]:
        tags = list(row["lines"])
        if (kind is None or row["kind"] == kind) and (wanted is None or wanted in tags):
            tag = wanted or tags[-1]
            later = [
                one
                for one in table["tags"][table["tags"].index(tags[-1]) + 1 :]
                if one in row["without"]
            ]
            gone = (
                ""
                if tags[-1] == table["tags"][-1]
                else "there, but no longer in INT8"
                if later
                else "gone"
            )
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
