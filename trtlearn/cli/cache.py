"""``trtlearn cache``: read, compare, check, edit, merge and convert calibration caches."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from ..errors import CacheError
from ..files import read_bytes, recognize, write_atomic
from .base import Argument, File, Json, Option, Output, pair, print_record, say, typer

if TYPE_CHECKING:
    from ..calibration.cache import CalibrationCache

__all__ = ["cache_app", "save"]

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


def read(file: Path) -> CalibrationCache:
    """The cache in a file."""
    from ..calibration.cache import read_cache

    return read_cache(file)


def save(cache: CalibrationCache, output: Path, as_json: bool) -> None:
    """Write a cache, and print it, where it is, and whether trtexec takes it."""
    from ..calibration.cache import format_cache
    from ..calibration.cache_reading import ignored_by_trtexec

    cache.save(output)
    print_record(cache, as_json, cache_facts(cache))
    if not as_json:
        say(f"wrote {output}")
        if ignored := ignored_by_trtexec(format_cache(cache).encode(), str(output)):
            say(f"note: trtexec does not take it: {ignored.why}. Try: {ignored.fix}")


@cache_app.command()
def show(file: File, as_json: Json = False) -> None:
    """Print a calibration cache: header, and every tensor's scale and amax."""
    cache = read(file)
    print_record(cache, as_json, cache_facts(cache))


@cache_app.command()
def diff(a: File, b: File, as_json: Json = False) -> None:
    """Compare two calibration caches tensor by tensor."""
    print_record(read(a).diff(b), as_json)


@cache_app.command()
def check(
    file: File,
    model: Annotated[Path, Argument(help="The ONNX file that it is for.", show_default=False)],
    as_json: Json = False,
) -> None:
    """Compare a cache's names with a model's tensors; exit status 1 where a line is stale."""
    report = read(file).check(model)
    print_record(report, as_json)
    raise typer.Exit(1 if report.stale else 0)


@cache_app.command()
def edit(
    file: File,
    output: Output,
    drop: Annotated[list[str] | None, Option(help="Remove this tensor's line.")] = None,
    rename: Annotated[list[str] | None, Option(help="OLD=NEW.")] = None,
    scale: Annotated[list[str] | None, Option(help="NAME=SCALE: change or add.")] = None,
    amax: Annotated[list[str] | None, Option(help="NAME=AMAX: the same, 127 * scale.")] = None,
    header: Annotated[
        str | None, Option(help="The header line, whole.", show_default=False)
    ] = None,
    as_json: Json = False,
) -> None:
    """Write a changed copy of a cache: lines removed, renamed, changed.

    --drop, --rename, --scale and --amax may be repeated.
    """
    from ..calibration import edit as edits
    from ..int8.quant import scale_from_amax

    changed = edits.drop(_read_under(file, header), drop or [])
    names = dict(pair(item, "--rename", "OLD=NEW") for item in rename or [])
    changed = edits.rename(changed, names)
    for item in scale or []:
        name, value = pair(item, "--scale", "NAME=SCALE")
        changed = changed.with_scale(name, _number(value))
    for item in amax or []:
        name, value = pair(item, "--amax", "NAME=AMAX")
        changed = changed.with_scale(name, float(scale_from_amax(_number(value))))
    if header is not None:
        changed = edits.with_header(changed, header=header)
    save(changed, output, as_json)


def _read_under(file: Path, header: str | None) -> CalibrationCache:
    """The cache; where its first line cannot be read, under ``header``."""
    from ..calibration.cache import is_ort_table, parse_cache
    from ..calibration.cache_reading import with_first_line

    try:
        return read(file)
    except CacheError:
        content = read_bytes(file, CacheError)
        if header is None or is_ort_table(content) or recognize(content):
            raise
        return parse_cache(with_first_line(content, header), str(file))


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise CacheError(f"{text!r} is no number", "--scale conv1=0.0125") from None


@cache_app.command()
def merge(
    files: Annotated[list[Path], Argument(show_default=False)],
    output: Output,
    prefer: Annotated[str, Option(help="Of several scales: first, last or largest.")] = "last",
    as_json: Json = False,
) -> None:
    """Write one cache with the tensors of several."""
    from ..calibration import edit as edits

    save(edits.merge(*map(read, files), prefer=prefer), output, as_json)


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
    from ..calibration import edit as edits
    from ..calibration.cache import format_cache, parse_cache

    readers: dict[str, Callable[[Any], CalibrationCache]] = {
        "cache": parse_cache,
        "ranges": edits.from_ranges_json,
        "ort-table": edits.from_ort_table,
        "ort-json": edits.from_ort_json,
        "ort-flatbuffers": edits.from_ort_flatbuffers,
    }
    writers: dict[str, Callable[[CalibrationCache], str | bytes]] = {
        "cache": format_cache,
        "ranges": edits.to_ranges_json,
        "qdq": lambda cache: json.dumps(edits.to_qdq_scales(cache), indent=2),
        "ort-table": edits.to_ort_table,
        "ort-flatbuffers": edits.to_ort_flatbuffers,
    }
    for word, option, known in ((to, "--to", writers), (source, "--from", readers)):
        if word not in known:
            raise CacheError(f"{option} {word!r} is not known", f"one of {', '.join(known)}")
    content = read_bytes(file, CacheError)
    try:
        is_text = source in ("ranges", "ort-table", "ort-json")
        cache = readers[source](content.decode() if is_text else content)
    except UnicodeDecodeError:
        raise CacheError(f"{file} is no text, expected {source}", "check --from") from None
    except CacheError as problem:
        raise CacheError(f"{file}: {problem.problem}", problem.fix) from None
    write_atomic(output, writers[to](cache))
    notes = {"notes": [edits.ONE_SIDED]} if source in ("ort-table", "ort-flatbuffers") else {}
    print_record(cache, as_json, cache_facts(cache) | notes)
    if not as_json:
        say("\n".join([f"wrote {output}", *(f"note: {note}" for note in notes.get("notes", []))]))
