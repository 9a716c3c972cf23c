"""``trtlearn cache``: read, compare, check, edit, merge and convert calibration caches."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from ..errors import CacheError
from ..files import read_bytes, write_atomic
from .base import Argument, File, Json, Option, Output, pair, print_record, typer

if TYPE_CHECKING:
    from ..calibration.cache import CalibrationCache

__all__ = ["cache_app", "cache_facts"]

cache_app = typer.Typer(help="Read, compare, edit and convert caches.", rich_markup_mode=None)


def cache_facts(cache: CalibrationCache) -> dict[str, Any]:
    """What ``--json`` prints of a cache."""
    facts = {
        "header": cache.header,
        "algorithm": cache.algorithm,
        "tensorrt_version": cache.tensorrt_version,
        "tensors": [entry.to_dict() for entry in cache.scales],
    }
    return facts | ({"unusable": cache.unusable} if cache.unusable else {})


def _print(cache: CalibrationCache, as_json: bool) -> None:
    print_record(cache, as_json, cache_facts(cache) if as_json else None)


@cache_app.command()
def show(file: File, as_json: Json = False) -> None:
    """Print a calibration cache: header, and every tensor's scale and amax."""
    from ..calibration import edit as caches

    _print(caches.read_cache(file), as_json)


@cache_app.command()
def diff(a: File, b: File, as_json: Json = False) -> None:
    """Compare two calibration caches tensor by tensor."""
    from ..calibration import edit as caches

    print_record(caches.read_cache(a).diff(caches.read_cache(b)), as_json)


@cache_app.command()
def check(
    file: File,
    model: Annotated[Path, Option(help="The ONNX file that it is for.", show_default=False)],
    as_json: Json = False,
) -> None:
    """Compare a cache's names with a model's tensors; exit status 1 where a line is stale."""
    from ..calibration import edit as caches

    report = caches.read_cache(file).check(model)
    print_record(report, as_json)
    raise typer.Exit(1 if report.stale else 0)


@cache_app.command()
def edit(
    file: File,
    output: Output,
    drop: Annotated[list[str] | None, Option(help="Remove this tensor's line.")] = None,
    rename: Annotated[list[str] | None, Option(help="OLD=NEW.")] = None,
    scale: Annotated[list[str] | None, Option(help="NAME=SCALE: change or add.")] = None,
    header: Annotated[
        str | None, Option(help="The header line, whole.", show_default=False)
    ] = None,
    as_json: Json = False,
) -> None:
    """Write a changed copy of a cache: lines removed, renamed, changed.

    --drop, --rename and --scale may be repeated.
    """
    from ..calibration import edit as caches

    before = _read_under(file, header)
    changed = caches.drop(before, drop or [])
    names = dict(pair(item, "--rename", "OLD=NEW") for item in rename or [])
    changed = caches.rename(changed, names)
    for item in scale or []:
        name, value = pair(item, "--scale", "NAME=SCALE")
        changed = changed.with_scale(name, _number(value))
    if header is not None:
        changed = caches.with_header(changed, header=header)
    caches.write_cache(changed, output)
    _print(changed, as_json)


def _read_under(file: Path, header: str | None) -> CalibrationCache:
    """The cache; where its first line cannot be read, under ``header``."""
    from ..calibration import edit as caches

    try:
        return caches.read_cache(file)
    except CacheError:
        content = read_bytes(file, CacheError)
        if header is None or caches.is_ort_table(content):
            raise
        return caches.parse_cache(caches.with_first_line(content, header), str(file))


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise CacheError(f"--scale: {text!r} is no number", "--scale conv1=0.0125") from None


@cache_app.command()
def merge(
    files: Annotated[list[Path], Argument(show_default=False)],
    output: Output,
    prefer: Annotated[str, Option(help="Of several scales: first, last or largest.")] = "last",
    as_json: Json = False,
) -> None:
    """Write one cache with the tensors of several."""
    from ..calibration import edit as caches

    merged = caches.merge(*map(caches.read_cache, files), prefer=prefer)
    caches.write_cache(merged, output)
    _print(merged, as_json)


@cache_app.command()
def convert(
    file: File,
    output: Output,
    to: Annotated[
        str, Option(help="ranges, qdq (both JSON), ort-table, ort-flatbuffers or cache.")
    ],
    source: Annotated[
        str,
        Option("--from", help="What FILE is: cache, ranges, ort-table, ort-json, ort-flatbuffers."),
    ] = "cache",
    as_json: Json = False,
) -> None:
    """Convert to and from a JSON of ranges and ONNX Runtime's table; to scales for ONNX Q/DQ."""
    from ..calibration import edit as caches

    readers: dict[str, Callable[[], CalibrationCache]] = {
        "cache": lambda: caches.read_cache(file),
        "ranges": lambda: caches.from_ranges_json(_text(file, source)),
        "ort-table": lambda: caches.from_ort_table(_text(file, source)),
        "ort-json": lambda: caches.from_ort_json(_text(file, source)),
        "ort-flatbuffers": lambda: caches.from_ort_flatbuffers(read_bytes(file, CacheError)),
    }
    writers: dict[str, Callable[[CalibrationCache], str | bytes]] = {
        "cache": caches.format_cache,
        "ranges": caches.to_ranges_json,
        "qdq": lambda cache: json.dumps(caches.to_qdq_scales(cache), indent=2),
        "ort-table": caches.to_ort_table,
        "ort-flatbuffers": caches.to_ort_flatbuffers,
    }
    for word, option, known in ((to, "--to", [*writers]), (source, "--from", [*readers])):
        if word not in known:
            raise CacheError(f"{option} {word!r} is not known", f"one of {', '.join(known)}")
    try:
        cache = readers[source]()
    except CacheError as problem:
        named = "" if str(file) in problem.problem else f"{file}: "
        raise CacheError(f"{named}{problem.problem}", problem.fix) from None
    write_atomic(output, writers[to](cache))
    is_one_sided = source in ("ort-table", "ort-flatbuffers")
    notes = {"notes": [caches.ONE_SIDED]} if is_one_sided else {}
    print_record(cache, as_json, cache_facts(cache) | notes)
    if is_one_sided and not as_json:
        print(f"note: {caches.ONE_SIDED}")


def _text(file: Path, kind: str) -> str:
    try:
        return read_bytes(file, CacheError).decode()
    except UnicodeDecodeError:
        raise CacheError(f"{file} is no text, expected {kind}", "check --from") from None
