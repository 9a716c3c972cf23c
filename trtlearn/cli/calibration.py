"""``trtlearn calibrate``, ``fit`` and ``walk``: ranges from data, data against ranges, and a
network with its data through all of INT8; a GPU is not needed.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from ..files import check_writable, shell_command
from .base import CALIBRATOR, Argument, Json, Option, Output, print_record, say, typer
from .cache import save

__all__ = ["calibrate", "fit", "walk"]

Model = Annotated[Path, Argument(help="An ONNX file.")]
DataFile = Annotated[
    Path, Argument(help="Data for its inputs, normalised: .npy, or .npz by input name.")
]
Batch = Annotated[int, Option(help="Rows at a time, where the network does not fix it.", min=1)]


def calibrate(
    model: Model,
    data: DataFile,
    output: Output,
    algorithm: Annotated[
        str, Option(*CALIBRATOR, help="entropy2, entropy, minmax, legacy; or percentile, mse.")
    ] = "entropy2",
    batch: Batch = 8,
    for_trtexec: Annotated[
        bool, Option("--for-trtexec", help="Write the header that trtexec's --calib takes.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Write the calibration cache that TensorRT would write, without a GPU."""
    from ..calibration.network import calibrate as calibrate_network

    check_writable(output, "")
    cache = calibrate_network(model, data, algorithm, batch)
    save(cache.for_trtexec() if for_trtexec else cache, output, as_json)


def fit(
    cache: Annotated[Path, Argument(help="A calibration cache.")],
    model: Model,
    data: DataFile,
    batch: Batch = 8,
    as_json: Json = False,
) -> None:
    """Say whether each range of a cache fits the data, the worst first.

    The exit status is 1 where one does not.
    """
    from ..calibration.fitting import fit as fit_ranges

    report = fit_ranges(cache, model, data, batch)
    print_record(report, as_json)
    first = next(iter(report.poor), None)
    if first and first.advice.startswith("set") and not (as_json or report.other_inputs):
        words = ("cache", "edit", cache, "-o", "NEW", "--amax", f"{first.name}={first.largest:.4g}")
        say(f"One range set by hand: {shell_command('trtlearn', *words)}")
    raise typer.Exit(0 if report.all_fit else 1)


def walk(
    model: Model,
    data: DataFile,
    output: Annotated[
        Path | None,
        Option("-o", "--output", help="A folder for cache, Q/DQ model, script and report."),
    ] = None,
    labels: Annotated[
        Path | None,
        Option(help="Classes [rows], .npy; of a detector boxes and classes, .npz."),
    ] = None,
    algorithm: Annotated[
        str, Option(*CALIBRATOR, help="best, entropy2, entropy, minmax, legacy, percentile, mse.")
    ] = "best",
    batch: Batch = 8,
    live: Annotated[
        bool | None, Option("--live/--no-live", help="Build engines; default: with a GPU.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Try a network in INT8: calibrate, insert Q/DQ, compare with FP32, build where a GPU is."""
    from ..course.own_model.walk import try_int8

    how = {"labels": labels, "algorithm": algorithm, "batch": batch, "out": output, "live": live}
    result = try_int8(model, data, **how)  # type: ignore[arg-type]
    print_record(result, as_json)
    if result.files and not as_json:
        say("\n".join(result.files.values()))
        if cache := result.files.get("cache for trtexec", result.files.get("cache")):
            words = (f"--onnx={model}", "--int8", f"--calib={cache}")
            say(f"up to TensorRT 10.16: {shell_command('trtexec', *words)}")
