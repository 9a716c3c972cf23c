"""``trtlearn cache``: read, compare, check, edit, merge and convert calibration caches."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from ..errors import CacheError
from ..files import read_bytes, write_atomic
from .base import File, Json, give, typer

if TYPE_CHECKING:
    from ..calibration.cache import CalibrationCache

__all__ = ["cache_app"]

cache_app = typer.Typer(help="Read, compare, edit and convert caches.", rich_markup_mode=None)

Output = Annotated[
    Path, typer.Option("-o", "--output", help="The file to write.", show_default=False)
]


def _give(cache: CalibrationCache, as_json: bool) -> None:
    facts = {
        "header": cache.header,
        "algorithm": cache.algorithm,
        "tensorrt_version": cache.tensorrt_version,
        "tensors": [entry.to_dict() for entry in cache.scales],
    }
    give(cache, as_json, facts)


@cache_app.command("show")
def cache_show(file: File, as_json: Json = False) -> None:
    """Print a calibration cache: header, and every tensor's scale and amax."""
    from ..calibration.edit import read_cache

    _give(read_cache(file), as_json)


@cache_app.command("diff")
def cache_diff(a: File, b: File, as_json: Json = False) -> None:
    """Compare two calibration caches tensor by tensor."""
    from ..calibration.edit import diff, read_cache

    give(diff(read_cache(a), read_cache(b)), as_json)


@cache_app.command()
def check(
    file: File,
    model: Annotated[Path, typer.Option(help="The ONNX file that it is for.", show_default=False)],
    as_json: Json = False,
) -> None:
    """Compare a cache's names with a model's tensors; exit status 1 where a line is stale."""
    from ..calibration.edit import read_cache, stale_names

    report = stale_names(read_cache(file), model)
    give(report, as_json)
    raise typer.Exit(1 if report.stale else 0)


def _pair(text: str, option: str) -> tuple[str, str]:
    """The two sides of NAME=VALUE; a name may hold "=" itself."""
    name, equals, value = text.rpartition("=")
    if not (equals and name and value):
        raise CacheError(
            f"{option} {text!r}, expected NAME=VALUE", f"trtlearn cache edit --help shows {option}"
        )
    return name, value


@cache_app.command()
def edit(
    file: File,
    output: Output,
    drop: Annotated[list[str] | None, typer.Option(help="Remove this tensor's line.")] = None,
    rename: Annotated[list[str] | None, typer.Option(help="OLD=NEW.")] = None,
    scale: Annotated[list[str] | None, typer.Option(help="NAME=SCALE: change or add.")] = None,
    header: Annotated[
        str | None, typer.Option(help="The header line, whole.", show_default=False)
    ] = None,
    as_json: Json = False,
) -> None:
    """Write a changed copy of a cache: lines removed, renamed, changed (each option may be repeated)."""
    from ..calibration import edit as caches

    changed = caches.drop(caches.read_cache(file), drop or [])
    changed = caches.rename(changed, dict(_pair(item, "--rename") for item in rename or []))
    for item in scale or []:
        name, value = _pair(item, "--scale")
        try:
            number = float(value)
        except ValueError:
            raise CacheError(
                f"--scale {item!r}: {value!r} is no number", "--scale conv1=0.0125"
            ) from None
        changed = caches.with_scale(changed, name, number)
    if header is not None:
        changed = caches.with_header(changed, header=header)
    caches.write_cache(changed, output)
    _give(changed, as_json)


@cache_app.command()
def merge(
    files: Annotated[list[Path], typer.Argument(show_default=False)],
    output: Output,
    prefer: Annotated[
        str, typer.Option(help="Of several scales: first, last or largest.")
    ] = "last",
    as_json: Json = False,
) -> None:
    """Write one cache with the tensors of several."""
    from ..calibration import edit as caches

    merged = caches.merge(*map(caches.read_cache, files), prefer=prefer)
    caches.write_cache(merged, output)
    _give(merged, as_json)


@cache_app.command()
def convert(
    file: File,
    output: Output,
    to: Annotated[
        str, typer.Option(help="ranges, qdq (both JSON), ort-table, ort-flatbuffers or cache.")
    ],
    source: Annotated[
        str, typer.Option("--from", help="What FILE is: cache, ranges or ort-table.")
    ] = "cache",
    as_json: Json = False,
) -> None:
    """Convert to and from a JSON of ranges and ONNX Runtime's calibration table; to scales for ONNX Q/DQ."""
    from ..calibration import edit as caches

    readers = {"ranges": caches.from_ranges_json, "ort-table": caches.from_ort_table}
    writers: dict[str, Callable[[CalibrationCache], str | bytes]] = {
        "cache": caches.format_cache,
        "ranges": caches.to_ranges_json,
        "qdq": lambda cache: json.dumps(caches.to_qdq_scales(cache), indent=2),
        "ort-table": caches.to_ort_table,
        "ort-flatbuffers": caches.to_ort_flatbuffers,
    }
    for word, option, known in ((to, "--to", [*writers]), (source, "--from", ["cache", *readers])):
        if word not in known:
            raise CacheError(f"{option} {word!r} is not known", f"one of {', '.join(known)}")
    if source == "cache":
        cache = caches.read_cache(file)
    else:
        try:
            cache = readers[source](read_bytes(file, CacheError).decode())
        except UnicodeDecodeError:
            raise CacheError(f"{file} is no text, expected {source}", "check --from") from None
    write_atomic(output, writers[to](cache))
    _give(cache, as_json)
