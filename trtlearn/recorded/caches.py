"""Calibration caches changed by hand: how each is made, and what TensorRT did with it.

An outcome is recorded (data/recordings/*/calibration/odd-caches.json) or not known: then it is None
and prints as "unknown". ``try_cache`` measures it where a GPU and TensorRT are.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cache
from typing import Any, Protocol

from ..calibration.cache import CalibrationCache, format_cache, parse_cache
from ..engine.records import BuildOptions, Message
from ..errors import CacheError, DataError, RecordingError
from ..files import load_table
from ..record import Record, Table, plural
from .calibration import load, origin

__all__ = ["CacheCase", "CacheCases", "broken_caches", "broken_files", "cache_cases", "odd_caches"]


class Network(Protocol):
    """What is asked of a network: where it is, its images, and whether its builds are recorded."""

    @property
    def path(self) -> str | os.PathLike[str]: ...

    @property
    def recorded(self) -> bool: ...

    def images(self) -> Any: ...


@dataclass(frozen=True)
class CacheCase(Record):
    """A cache changed by hand, given back to TensorRT.

    ``batches_asked``: how many batches TensorRT took (0: it used the cache); None where nobody has
    measured it. ``scales``: tensor -> the scale that TensorRT then had, as its log printed it (six
    digits); ``written``: the cache that TensorRT then handed over, if it did. ``content`` is None
    in a recording, which holds the change in words.
    """

    name: str
    change: str
    batches_asked: int | None = None
    built: bool | None = None
    messages: tuple[Message, ...] = ()
    scales: dict[str, float] = field(default_factory=dict, repr=False)
    written: str | None = None
    error: str | None = None
    content: bytes | None = field(default=None, repr=False)
    source: str = "not recorded"

    @property
    def used(self) -> bool:
        """Whether TensorRT took the cache and asked for no data."""
        return self.batches_asked == 0

    @property
    def problem(self) -> str | None:
        """Why our reader refuses the file or a line; None where it does not, or has no file."""
        if self.content is None:
            return None
        try:
            marked = parse_cache(self.content).unusable
        except CacheError as problem:
            return problem.problem
        return next((f"{name}: {why}" for name, why in marked.items()), None)

    @property
    def warned(self) -> str:
        """The kinds of warning in TensorRT's log and how often each came, or "nothing"."""
        return "; ".join(f"{m.count} x {m.code or m.text[:60]}" for m in self.messages) or "nothing"


@dataclass(frozen=True)
class CacheCases(Table[CacheCase]):
    """Changed caches and what TensorRT did with each; scales are compared with case "whole"'s."""

    ITEMS = "caches"

    caches: tuple[CacheCase, ...]

    def on(self, network: Network, build: bool = False) -> CacheCases:
        """As recorded; where ``network`` is built here, TensorRT tries what nobody has recorded.

        ``build``: it tries every cache here. That takes a build of 10 to 50 s for each.
        """
        if network.recorded:
            return self

        def tried(case: CacheCase) -> CacheCase:
            known = case.batches_asked is not None and not build
            return case if known else try_cache(case, network.path, network.images())

        return CacheCases(tuple(map(tried, self.caches)))

    def summary(self) -> str:
        known = [case.used for case in self.caches if case.batches_asked is not None]
        return (
            f"{plural(len(self.caches), 'cache')} changed by hand: TensorRT's answer is known for "
            f"{len(known)}, {sum(known)} of them used as they are"
        )

    def outcome(self, name: str) -> str | None:
        """What TensorRT did with one of them, in words; None where it is not known.

        Where a cache was used but misread, the first scale that differs is named.
        """
        case = self[name]
        whole = self["whole"].scales if "whole" in self else {}
        if case.batches_asked is None:
            return None
        if case.batches_asked:
            return "ignored: calibrated again"
        moved = [n for n, scale in case.scales.items() if n in whole and scale != whole[n]]
        if not moved:
            return "used"
        first, more = moved[0], f", {len(moved) - 1} more differ too" if moved[1:] else ""
        return f"used: {first} has scale {case.scales[first]:.6g}, not {whole[first]:.6g}{more}"

    def rows(self) -> list[dict[str, Any]]:
        return [
            {
                "cache": case.change,
                "batches asked for": case.batches_asked,
                "what TensorRT did": self.outcome(case.name),
                "what its log said": None if case.batches_asked is None else case.warned,
                "trtlearn's reader": case.content and (case.problem or "reads it"),
            }
            for case in self.caches
        ]


@cache
def odd_caches() -> CacheCases:
    """Caches changed by hand, and what TensorRT did with each; the files are not recorded."""
    return load(CacheCases, "odd-caches")


def broken_caches(text: str, other: str = "") -> CacheCases:
    """A whole cache as people break it, and what TensorRT did with such a file.

    ``other`` is the cache of another model. The files are those of :func:`broken_files`; recorded
    were the same changes to resnet's cache (:func:`cache_cases`).
    """
    files = broken_files(text) | ({"other_models_cache": other.encode()} if other else {})
    changes = {case.name: case.change for case in odd_caches().caches}
    return cache_cases({case: (changes[case], files[case]) for case in files})


def broken_files(text: str) -> dict[str, bytes]:
    """A whole cache as people break it: case -> the file. Most change the line in the middle."""
    if not isinstance(text, str) or "\n" not in text.strip():
        problem = "no whole cache: a header and a line for each tensor are expected"
        raise DataError(problem, "give the file's text: path.read_text()")
    header, *lines = text.removesuffix("\n").split("\n")
    middle = len(lines) // 2
    name, _, _ = lines[middle].rpartition(": ")
    parts = [line.rpartition(": ") for line in lines]

    def file(*pieces: str) -> str:
        return "\n".join([*pieces, ""])

    def put(*pieces: str) -> str:
        return file(header, *lines[:middle], *pieces, *lines[middle + 1 :])

    table = load_table("broken_caches")
    made = {case: file(first, *lines) for case, first in table["headers"].items()}
    made |= {case: put(f"{name}: {digits}") for case, digits in table["digits"].items()}
    made |= {
        "whole": text,
        "padded_hex": file(header, *[f"{tensor}: {hex.zfill(8)}" for tensor, _, hex in parts]),
        "upper_hex": file(header, *[f"{tensor}: {hex.upper()}" for tensor, _, hex in parts]),
        "no_final_newline": text[:-1],
        "crlf": text.replace("\n", "\r\n"),
        "blank_lines": file(header, "", *lines[:3], "", *lines[3:], ""),
        "no_space": text.replace(": ", ":"),
        "header_missing": file(*lines),
        "header_only": file(header),
        "line_deleted": put(),
        "all_but_two_deleted": file(header, *lines[:2]),
        "renamed": put(lines[middle].replace(f"{name}:", f"{name}_old:")),
        "duplicate_line": f"{text}{name}: 3f800000\n",
        "duplicate_line_first": file(header, f"{name}: 3f800000", *lines),
        "extra_tensor": f"{text}nobody::knows this [tensor]: 3d90a39c\n",
        "extra_weird": f"{text}naïve ☃ name: 3d90a39c\n",
        "truncated_line": text[:-5],
        "truncated_half": text[: len(text) // 2],
        "reversed": file(header, *lines[::-1]),
        "bom": f"\ufeff{text}",
    }
    files = {case: content.encode() for case, content in made.items()}
    return files | {"empty": b"", "binary": bytes(range(256))}


def cache_cases(changed: Mapping[str, tuple[str, CalibrationCache | bytes | str]]) -> CacheCases:
    """What TensorRT did with each; ``changed``: case -> (what was changed, in words; the cache).

    The names are those of ``odd_caches()``. Recorded was the same change, made to the cache of the
    course's network resnet with its batch fixed to 8
    (data/recordings/*/calibration/caches/residual-entropy2.cache).

    >>> from trtlearn.calibration.cache import new_cache
    >>> other = ("another version", new_cache({"x": 0.5}, tensorrt="7.6.0"))
    >>> case = cache_cases({"version_7600": other}).caches[0]
    >>> case.batches_asked
    0
    """
    try:
        recorded, label = odd_caches(), origin("odd-caches").label()
    except RecordingError:
        recorded, label = CacheCases(()), ""
    known = {case.name: replace(case, source=label) for case in recorded.caches}
    pairs = changed.values() if isinstance(changed, Mapping) else [changed]
    if not all(isinstance(pair, tuple) and len(pair) == 2 for pair in pairs):
        problem = "the changed caches are not {case: (what was changed, the cache)}"
        raise DataError(problem, 'such as {"version_7600": ("another version", cache)}')
    cases = []
    for name, (change, file) in changed.items():
        text = file.encode() if isinstance(file, str) else file
        content = text if isinstance(text, bytes) else format_cache(text).encode()
        case = known.get(name, CacheCase(name, change))
        cases.append(replace(case, change=change, content=content))
    return CacheCases(tuple(cases))


def try_cache(
    case: CacheCase, model: str | os.PathLike[str], images: Any, batch: int = 8
) -> CacheCase:
    """Give the cache to TensorRT on this machine, with images available, and see what it does.

    Needs a GPU and TensorRT 8 to 10; LiveUnavailable without. A build takes 10 to 50 s. A build
    that fails has its errors in ``messages``.
    """
    from ..errors import BuildError
    from ..live.build import build_engine
    from ..live.calibrator import make_calibrator
    from ..live.trt import available, live

    live()
    scales: dict[str, float] = {}
    with make_calibrator("entropy2", images, batch, cache=case.content or b"") as calibrator:
        try:
            options = BuildOptions(int8=True, ranges="entropy2", batch=batch)
            report = build_engine(model, options, calibrator=calibrator).report
            messages = report.messages
            scales = {one.name: one.scale for one in report.scales if one.scale is not None}
        except BuildError as problem:
            messages = tuple(problem.messages or ())
        asked = calibrator.trace().batches
    here = f"here, TensorRT {available()}"
    return replace(case, batches_asked=asked, source=here, messages=messages, scales=scales)
