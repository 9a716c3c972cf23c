"""``trtlearn build``: an ONNX file to an engine plan, with every option of BuildOptions."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from ..errors import BuildError, CacheError
from ..files import check_writable, read_bytes, recognize, user_dir, write_all, write_atomic
from .base import CALIBRATOR, Argument, Json, Option, pair, print_record, say

if TYPE_CHECKING:
    from ..calibration.cache import CalibrationCache
    from ..live.calibrator import Calibrator
    from ..model.graph import OnnxModel

__all__ = ["build"]

Names = list[str] | None


def build(
    model: Annotated[Path, Argument(help="An ONNX file.", show_default=False)],
    output: Annotated[
        Path | None, Option("-o", "--output", help="The plan; default MODEL.plan here.")
    ] = None,
    report: Annotated[
        Path | None, Option(help="Write a JSON report, log and layers included.")
    ] = None,
    int8: Annotated[
        bool, Option("--int8", help="Permit INT8 (any choice of ranges implies it).")
    ] = False,
    fp16: Annotated[bool, Option("--fp16", help="Permit FP16.")] = False,
    tf32: Annotated[bool, Option("--tf32", help="Permit TF32.")] = False,
    placeholder: Annotated[
        bool,
        Option("--placeholder", help="Ranges: ±2 and ±4, as `trtexec --int8` without --calib."),
    ] = False,
    random: Annotated[
        bool,
        Option("--random", help="Ranges: from a batch of noise, as `trtexec --int8 --calib=FILE`."),
    ] = False,
    calib_data: Annotated[
        Path | None, Option(help="Ranges: calibrate with this .npy or .npz file.")
    ] = None,
    calibrator: Annotated[
        str,
        Option(*CALIBRATOR, help="With --calib-data: entropy2, entropy, minmax, legacy."),
    ] = "entropy2",
    cache: Annotated[
        Path | None,
        Option(help="Ranges: of this cache. With --calib-data: read if it exists, else written."),
    ] = None,
    amax: Annotated[
        Path | None, Option(help="Ranges: of a JSON file, tensor name to amax.")
    ] = None,
    batch: Annotated[int, Option(help="What a dynamic batch size becomes.", min=1)] = 8,
    layer_precision: Annotated[Names, Option(help="NODE=DTYPE; may be repeated.")] = None,
    layer_output_type: Annotated[Names, Option(help="NODE=DTYPE; may be repeated.")] = None,
    constraints: Annotated[str, Option(help="Of layer precisions: none, prefer, obey.")] = "none",
    optimization_level: Annotated[int | None, Option(help="0 to 5.", min=0, max=5)] = None,
    avg_timing: Annotated[
        int | None, Option(help="Timings to average for each kernel; trtexec takes 8.", min=1)
    ] = None,
    tactic_source: Annotated[Names, Option(help="Permit only these; NONE for none.")] = None,
    timing_cache: Annotated[Path | None, Option(help="Start from and add to this file.")] = None,
    mark_output: Annotated[Names, Option(help="Mark this tensor as an output too.")] = None,
    compute_capability: Annotated[
        str | None, Option(help="Build for a GPU that is not here, e.g. 8.9 (TensorRT-RTX).")
    ] = None,
    as_json: Json = False,
) -> None:
    """Build an engine from an ONNX file."""
    from ..engine.records import BuildOptions
    from ..live.build import build_engine
    from ..model.read import read_model

    sources = (
        ("placeholder", placeholder),
        ("random", random),
        ("user", amax),
        (calibrator, calib_data),
        ("cache", cache and not calib_data and not random),
    )
    ranges = [name for name, choice in sources if choice]
    if len(ranges) > 1:
        raise BuildError(f"ranges from {' and from '.join(ranges)}", "choose one")
    plan = output or Path(model.name).with_suffix(".plan")
    for path in filter(None, (plan, report, cache if calib_data else None)):
        check_writable(path)
    onnx_model = read_model(model)
    if int8 and not ranges and not onnx_model.has_qdq:
        problem = "--int8 without ranges, and the model has no Q/DQ: TensorRT would refuse it"
        fix = "--placeholder for what trtexec does, or --calib-data FILE, --cache FILE, --amax FILE"
        raise BuildError(problem, fix)
    tactics = tuple(name for name in tactic_source or () if name != "NONE")
    options = BuildOptions(
        int8=int8 or bool(ranges),
        fp16=fp16,
        tf32=tf32,
        ranges=ranges[0] if ranges else "qdq" if onnx_model.has_qdq else "none",
        batch=batch,
        layer_precisions=_dtypes(layer_precision, "--layer-precision"),
        layer_output_types=_dtypes(layer_output_type, "--layer-output-type"),
        precision_constraints=constraints,
        optimization_level=optimization_level,
        avg_timing=avg_timing,
        tactic_sources=None if tactic_source is None else tactics,
        timing_cache=str(timing_cache) if timing_cache else "empty",
        outputs_marked=tuple(mark_output or ()),
    )
    with contextlib.ExitStack() as stack:
        calibrating = None
        if calib_data:
            feeding = _calibrator(calibrator, calib_data, cache, batch, onnx_model)
            calibrating = stack.enter_context(feeding)
        stack.enter_context(_log_in_a_file(model))
        built = build_engine(
            model,
            options,
            ranges=_ranges(amax, None if calib_data or random else cache),
            calibrator=calibrating,
            calib_path=cache if random else None,
            timing_cache=timing_cache,
            compute_capability=compute_capability,
        )
    facts = {"plan": str(plan)} | built.report.to_dict()
    facts["ranges"] = built.ranges and built.ranges.to_dict()
    facts["calibration"] = built.calibration and built.calibration.to_dict()
    files: dict[Path, bytes | str] = {plan: built.plan}
    if report:
        files[report] = json.dumps(facts | {"inspector": built.text}, indent=2, allow_nan=False)
    write_all(files)
    del facts["log"]
    print_record(built.report, as_json, facts)
    if not as_json:
        say(f"wrote {plan}" + (f" and {report}" if report else ""))


@contextlib.contextmanager
def _log_in_a_file(model: Path) -> Iterator[None]:
    """TensorRT's log of a build that fails goes to a file, which the error names."""
    try:
        yield
    except BuildError as error:
        if not error.log:
            raise
        log = write_atomic(user_dir() / "logs" / f"{model.stem}.log", error.log)
        raise BuildError(f"{error.problem}; log: {log}", error.fix) from error


def _dtypes(items: Names, option: str) -> dict[str, str]:
    return dict(pair(item, option, "NAME=DTYPE") for item in items or [])


def _ranges(amax: Path | None, cache: Path | None) -> Mapping[str, float] | CalibrationCache | None:
    """The ranges that a file gives: a JSON of amax, or a calibration cache."""
    from ..calibration.cache import read_cache
    from ..calibration.edit import from_ranges_json

    if amax:
        content = read_bytes(amax, CacheError)
        if (other := recognize(content)) and other.kind != "json":
            raise CacheError(f"{amax} is {other.words}, not JSON of {{tensor: amax}}", other.fix)
        text = content.decode(errors="replace")
        return {entry.name: entry.amax for entry in from_ranges_json(text).scales}
    return read_cache(cache) if cache else None


def _calibrator(
    algorithm: str, data: Path, cache: Path | None, batch: int, model: OnnxModel
) -> Calibrator:
    """A calibrator over the arrays of ``data``; reads the cache if it exists, else writes it."""
    from ..calibration.network import progress_line
    from ..live.calibrator import make_calibrator
    from ..model.data import arrays_by_name

    has_cache = cache is not None and cache.exists()
    return make_calibrator(
        algorithm,
        arrays_by_name(model, data),
        batch,
        cache=cache if has_cache else None,
        write_cache_path=None if has_cache else cache,
        progress=progress_line("calibrating"),
    )
