"""``trtlearn calibrate`` and ``trtlearn fit``: ranges from data, and data against ranges,
without a GPU.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from .base import Argument, Json, Option, Output, print_record, typer
from .cache import cache_facts

__all__ = ["calibrate", "fit"]

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
        str, Option(help="entropy2, entropy, minmax, legacy; or percentile, mse.")
    ] = "entropy2",
    batch: Batch = 8,
    for_trtexec: Annotated[
        bool, Option("--for-trtexec", help="Write the header that trtexec's --calib takes.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Write the calibration cache that TensorRT would write, without a GPU."""
    from ..calibration.network import calibrate as calibrate_network

    cache = calibrate_network(model, data, algorithm, batch)
    cache.save(output, for_trtexec=for_trtexec)
    print_record(cache, as_json, cache_facts(cache))


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
    raise typer.Exit(0 if report.all_fit else 1)
