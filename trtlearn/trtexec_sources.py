"""Where trtexec's own source code says what it does: one line range per decision, at every release tag since 8.4.

The table (tables/trtexec.json) is derived from the tags of https://github.com/NVIDIA/TensorRT by
scripts/check_sources.py, which also re-checks it.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from .errors import CommandError
from .explain_records import Source

__all__ = ["Release", "cite", "known_versions", "option_kinds", "resolve", "words"]


@dataclass(frozen=True)
class Release:
    """A TensorRT version as asked for, and the tag whose source answers for it."""

    version: str
    tag: str
    number: tuple[int, int]  # (8, 6)
    note: str = ""


@cache
def _table() -> dict[str, Any]:
    table: dict[str, Any] = json.loads((Path(__file__).parent / "tables" / "trtexec.json").read_text(encoding="utf-8"))
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
        r"(?:(?:tensorrt|trt)[\s_-]*)?v?(\d{1,3})(?:\.(\d{1,3}))?(?:\.(\d{1,3}))?(?:\.\d{1,4})?", text, re.I | re.A
    )
    tags = {_numbers(tag): tag for tag in _table()["tags"]}
    wanted = tuple(int(part) for part in match.groups() if part) if match else ()
    near = sorted(numbers for numbers in tags if wanted and numbers[: min(2, len(wanted))] == wanted[:2])
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
