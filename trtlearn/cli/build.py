"""``trtlearn build``: an ONNX file to an engine plan, with every option of BuildOptions."""

from __future__ import annotations

import contextlib
import json
import os
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from ..engine.records import BuildOptions
from ..errors import BuildError, CacheError, TrtlearnError
from ..files import read_bytes, write_atomic
from .base import Json, give, typer

if TYPE_CHECKING:
    from ..calibration.edit import CalibrationCache
    from ..live.calibrator import Calibrator
    from ..model.describe import OnnxModel

__all__ = ["build"]


def _pairs(items: list[str], option: str) -> dict[str, str]:
    """``NAME=DTYPE`` arguments as a dict; a name may hold "=" itself."""
    pairs = {}
    for item in items:
        name, equals, dtype = item.rpartition("=")
        if not (name and equals and dtype):
            raise BuildError(f"{option} {item!r}, expected NAME=DTYPE", f"{option} conv1=fp32")
        pairs[name] = dtype
    return pairs


def _writable(*paths: Path | None) -> None:
    """Say before a build of minutes, not after it, that its result cannot be written."""
    for path in filter(None, paths):
        folder = path.absolute().parent
        while not folder.exists():
            folder = folder.parent
        if path.is_dir() or not folder.is_dir() or not os.access(folder, os.W_OK):
            raise TrtlearnError(
                f"cannot write {path}", "name a file in a folder that you may write to"
            )


@contextlib.contextmanager
def _calibrator(
    algorithm: str, data: Path, cache: Path | None, batch: int, model: OnnxModel
) -> Iterator[Calibrator]:
    """A calibrator over the arrays in ``data``; the cache file is used if it exists, else written."""
    from ..live.calibrator import make_calibrator
    from ..model.arrays import load_arrays

    arrays: dict[str, Any] = load_arrays(data, [value.name for value in model.inputs])
    has_cache = cache is not None and cache.exists()

    def progress(done: int, count: int | None) -> None:
        if sys.stderr.isatty():
            print(
                f"\rcalibration: batch {done} of {count or 'unknown'}",
                end="",
                file=sys.stderr,
                flush=True,
            )

    with make_calibrator(
        algorithm,
        arrays,
        batch,
        cache=cache if has_cache else None,
        write_cache_path=None if has_cache else cache,
        progress=progress,
    ) as calibrator:
        yield calibrator


def build(
    model: Annotated[Path, typer.Argument(help="An ONNX file.", show_default=False)],
    output: Annotated[
        Path | None,
        typer.Option(
            "-o", "--output", help="The plan; default MODEL.plan here.", show_default=False
        ),
    ] = None,
    report: Annotated[
        Path | None, typer.Option(help="Write a JSON report, log and layers included.")
    ] = None,
    int8: Annotated[
        bool, typer.Option("--int8", help="Permit INT8 (any choice of ranges implies it).")
    ] = False,
    fp16: Annotated[bool, typer.Option("--fp16", help="Permit FP16.")] = False,
    tf32: Annotated[bool, typer.Option("--tf32", help="Permit TF32.")] = False,
    placeholder: Annotated[
        bool,
        typer.Option(
            "--placeholder", help="Ranges: the ±2 and ±4 of `trtexec --int8` without --calib."
        ),
    ] = False,
    random: Annotated[
        bool,
        typer.Option(
            "--random", help="Ranges: from one batch of noise, as `trtexec --int8 --calib=FILE`."
        ),
    ] = False,
    calib_data: Annotated[
        Path | None, typer.Option(help="Ranges: calibrate with this .npy or .npz file.")
    ] = None,
    calibrator: Annotated[
        str, typer.Option(help="With --calib-data: entropy2, entropy, minmax, legacy.")
    ] = "entropy2",
    cache: Annotated[
        Path | None,
        typer.Option(
            help="Ranges: of this calibration cache. With --calib-data: read if it exists, else written."
        ),
    ] = None,
    amax: Annotated[
        Path | None, typer.Option(help="Ranges: of a JSON file, tensor name to amax.")
    ] = None,
    batch: Annotated[int, typer.Option(help="What a dynamic batch size becomes.", min=1)] = 8,
    layer_precision: Annotated[
        list[str] | None, typer.Option(help="NODE=DTYPE; may be repeated.")
    ] = None,
    layer_output_type: Annotated[
        list[str] | None, typer.Option(help="NODE=DTYPE; may be repeated.")
    ] = None,
    constraints: Annotated[
        str, typer.Option(help="Of layer precisions: none, prefer, obey.")
    ] = "none",
    optimization_level: Annotated[int | None, typer.Option(help="0 to 5.", min=0, max=5)] = None,
    avg_timing: Annotated[
        int | None, typer.Option(help="Timings to average for each kernel; trtexec takes 8.", min=1)
    ] = None,
    tactic_source: Annotated[
        list[str] | None, typer.Option(help="Permit only these; NONE for none.")
    ] = None,
    timing_cache: Annotated[
        Path | None, typer.Option(help="Start from and add to this file.")
    ] = None,
    mark_output: Annotated[
        list[str] | None, typer.Option(help="Mark this tensor as an output too.")
    ] = None,
    compute_capability: Annotated[
        str | None, typer.Option(help="Build for a GPU that is not here, e.g. 8.9 (TensorRT-RTX).")
    ] = None,
    as_json: Json = False,
) -> None:
    """Build an engine from an ONNX file."""
    from ..calibration.edit import from_ranges_json, read_cache
    from ..live.build import build_engine
    from ..model.describe import read_model

    chosen = [
        name
        for name, given in (("placeholder", placeholder), ("random", random), ("user", amax))
        if given
    ]
    chosen += [calibrator] if calib_data else ["cache"] if cache and not random else []
    if len(chosen) > 1:
        raise BuildError(f"ranges from {' and from '.join(chosen)}", "choose one")
    plan = output or Path(model.name).with_suffix(".plan")
    _writable(plan, report, cache if calib_data else None)
    onnx_model = read_model(model)
    if int8 and not chosen and not onnx_model.has_qdq:
        raise BuildError(
            "--int8 without ranges, and the model has no Q/DQ: TensorRT would refuse it",
            "--placeholder for what trtexec does, or --calib-data FILE, --cache FILE, --amax FILE",
        )
    options = BuildOptions(
        int8=int8 or bool(chosen),
        fp16=fp16,
        tf32=tf32,
        ranges=chosen[0] if chosen else "qdq" if onnx_model.has_qdq else "none",
        batch=batch,
        layer_precisions=_pairs(layer_precision or [], "--layer-precision"),
        layer_output_types=_pairs(layer_output_type or [], "--layer-output-type"),
        precision_constraints=constraints,
        optimization_level=optimization_level,
        avg_timing=avg_timing,
        tactic_sources=None
        if tactic_source is None
        else tuple(name for name in tactic_source if name != "NONE"),
        timing_cache=str(timing_cache) if timing_cache else "empty",
        outputs_marked=tuple(mark_output or ()),
    )
    ranges: Mapping[str, float] | CalibrationCache | None = None
    if amax:
        ranges = {
            entry.name: entry.amax
            for entry in from_ranges_json(
                read_bytes(amax, CacheError).decode(errors="replace")
            ).scales
        }
    elif chosen == ["cache"] and cache:
        ranges = read_cache(cache)
    with contextlib.ExitStack() as stack:
        built = build_engine(
            model,
            options,
            ranges=ranges,
            calibrator=stack.enter_context(
                _calibrator(calibrator, calib_data, cache, batch, onnx_model)
            )
            if calib_data
            else None,
            calib_path=cache if random else None,
            timing_cache=timing_cache,
            compute_capability=compute_capability,
        )
    built.save(plan)
    facts = {"plan": str(plan)} | built.report.to_dict()
    facts["ranges"] = built.ranges and built.ranges.to_dict()
    facts["calibration"] = built.calibration and built.calibration.to_dict()
    if report:
        write_atomic(
            report, json.dumps(facts | {"inspector": built.text}, indent=2, allow_nan=False)
        )
    del facts["log"]
    give(built.report, as_json, facts)
    if not as_json:
        print(f"wrote {plan}" + (f" and {report}" if report else ""))
