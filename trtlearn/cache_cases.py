"""Calibration caches changed by hand: how each is made, what TensorRT did with it, and how that is known.

An outcome is recorded (data/recordings/*/calibration/odd-caches.json), measured earlier without a recording, or not
known: then it is None and prints as "unknown". ``try_cache`` measures it where a GPU and TensorRT are.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from .cachefile import CalibrationCache, format_cache
from .calibration_recordings import odd_caches, origin
from .errors import RecordingError
from .record import Record
from .records import BuildOptions, Message

__all__ = ["EARLIER", "CacheCase", "CacheCases", "cache_cases", "try_cache"]

EARLIER_SOURCE = "H100, TensorRT 8.6.0, 2026-11-23, not recorded"
EARLIER: Mapping[str, tuple[int, str]] = {
    "whole": (0, "used: not one batch is asked for"),
    "version_7600": (0, "used in silence: the version is not checked"),
    "renamed": (0, 'used: one warning "Missing scale and zero-point" for each tensor now without a line'),
}
"""Case -> (batches that TensorRT asked for, what it did), for those measured before anything was recorded."""


@dataclass(frozen=True)
class CacheCase(Record):
    """One changed cache. ``batches_asked`` 0 means that TensorRT used it; None that nobody has measured it yet."""

    name: str
    change: str
    content: bytes
    batches_asked: int | None = None
    outcome: str | None = None
    source: str = "not recorded yet"
    messages: tuple[Message, ...] = ()


@dataclass(frozen=True)
class CacheCases(Record):
    """Changed caches and what came of each."""

    cases: tuple[CacheCase, ...]

    def __getitem__(self, name: str) -> CacheCase:
        return {case.name: case for case in self.cases}[name]

    def summary(self) -> str:
        known = sum(case.outcome is not None for case in self.cases)
        return f"{len(self.cases)} caches changed by hand: TensorRT's answer is known for {known}"

    def rows(self) -> list[dict[str, Any]]:
        return [
            {
                "cache": case.change,
                "batches asked for": case.batches_asked,
                "what TensorRT did": case.outcome,
                "known from": case.source,
            }
            for case in self.cases
        ]


def _told(asked: int, built: bool | None, messages: tuple[Message, ...]) -> str:
    missing = sum(message.count for message in messages if message.code == "missing-scale")
    said = "used" if asked == 0 else "set aside: it calibrated anew"
    warned = f"; {missing} warning(s) of a missing scale" if missing else ""
    return said + warned + ("; the build failed" if built is False else "")


def cache_cases(changed: Mapping[str, tuple[str, CalibrationCache | bytes]]) -> CacheCases:
    """``changed``: case -> (what was changed, in words; the cache). Looks up what TensorRT did with each.

    >>> from trtlearn.cachefile import new_cache
    >>> case = cache_cases({"version_7600": ("another version", new_cache({"x": 0.5}, tensorrt="7.6.0"))}).cases[0]
    >>> case.batches_asked
    0
    """
    try:
        recorded, label = {case.name: case for case in odd_caches().caches}, origin("odd-caches").label()
    except RecordingError:
        recorded, label = {}, ""
    cases = []
    for name, (change, cache) in changed.items():
        content = cache if isinstance(cache, bytes) else format_cache(cache).encode()
        case = CacheCase(name, change, content)
        if one := recorded.get(name):
            told = _told(one.batches_asked, one.built, one.messages)
            case = replace(case, batches_asked=one.batches_asked, outcome=told, source=label, messages=one.messages)
        elif name in EARLIER:
            asked, told = EARLIER[name]
            case = replace(case, batches_asked=asked, outcome=told, source=EARLIER_SOURCE)
        cases.append(case)
    return CacheCases(tuple(cases))


def try_cache(case: CacheCase, model: str | os.PathLike[str], images: Any, batch: int = 8) -> CacheCase:
    """Give the cache to TensorRT on this machine, with images at hand, and see what it does.

    Needs a GPU and TensorRT 8 to 10; LiveUnavailable without. A build takes 10 to 50 s.
    """
    from .build import build_engine
    from .calibrator import make_calibrator
    from .errors import BuildError
    from .trt import available, live

    live()
    with make_calibrator("entropy2", images, batch, cache=case.content) as calibrator:
        try:
            report = build_engine(
                model, BuildOptions(int8=True, ranges="entropy2", batch=batch), calibrator=calibrator
            ).report
            messages, built = report.messages, True
        except BuildError as problem:
            messages, built = tuple(problem.messages or ()), False
        asked = calibrator.trace().batches
    return replace(
        case,
        batches_asked=asked,
        outcome=_told(asked, built, messages),
        source=f"here, TensorRT {available()}",
        messages=messages,
    )
