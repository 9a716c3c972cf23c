"""The command line: every verb prints a table, or with ``--json`` the same facts with stable keys.

Bad input gives one clear line on standard error and exit status 2; ``TRTLEARN_DEBUG=1`` shows a traceback instead.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Annotated

from .. import __version__
from ..errors import TrtlearnError
from .base import File, Json, app, give, typer
from .build import build
from .cache import cache_app

__all__ = ["run"]


@app.callback(invoke_without_command=True)
def _start(
    context: typer.Context,
    version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False,
) -> None:
    if version:
        print(__version__)
        raise typer.Exit
    if context.invoked_subcommand is None:
        print(context.get_help())


@app.command()
def explain(
    command: Annotated[
        str,
        typer.Argument(
            help='A trtexec command line in quotes, e.g. "trtexec --int8 --onnx=m.onnx".'
        ),
    ],
    trt: Annotated[str, typer.Option(help="The TensorRT version, 8.4 to 11.1.")] = "8.6",
    model: Annotated[
        Path | None, typer.Option(help="The ONNX file, to see whether it holds Q/DQ nodes.")
    ] = None,
    cache_exists: Annotated[
        bool | None,
        typer.Option("--cache-exists/--no-cache-exists", help="Whether the --calib file is there."),
    ] = None,
    qdq: Annotated[
        bool | None, typer.Option("--qdq/--no-qdq", help="Whether the model holds Q/DQ nodes.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Say what a trtexec command line does, and why."""
    from ..trtexec.explanation import explain as explain_command

    give(
        explain_command(command, trt=trt, model=model, cache_exists=cache_exists, has_qdq=qdq),
        as_json,
    )


@app.command()
def inspect(file: File, as_json: Json = False) -> None:
    """List an engine's layers and their types.

    FILE is inspector JSON, a report of `trtlearn build`, a recording, or a plan (on the GPU that it is for).
    """
    from ..recorded.open import open_engine

    engine = open_engine(file).engine
    layers = [
        {
            "name": layer.name,
            "kind": layer.kind,
            "input_dtypes": list(layer.input_dtypes),
            "output_dtypes": list(layer.output_dtypes),
            "weight_dtype": layer.weight_dtype,
            "weight_count": layer.weight_count,
            "weight_bytes": layer.weight_bytes,
            "onnx_nodes": list(layer.onnx_nodes),
            "kernel": layer.kernel,
            "is_reformat": layer.is_reformat,
        }
        for layer in engine.layers
    ]
    bindings = [binding.to_dict() for binding in engine.bindings]
    facts = {
        "schema": engine.schema,
        "detailed": engine.detailed,
        "layers": layers,
        "bindings": bindings,
    }
    give(engine, as_json, facts)


@app.command()
def precision(
    file: File,
    model: Annotated[
        Path | None, typer.Option(help="The ONNX file, to list its nodes too.", show_default=False)
    ] = None,
    as_json: Json = False,
) -> None:
    """Compare requested with chosen types, with reasons.

    FILE is one that `trtlearn inspect` reads; a report or a recording also says what was requested.
    """
    from ..recorded.open import open_engine

    opened = open_engine(file)
    give(
        opened.precision(model),
        as_json,
    )


app.add_typer(cache_app, name="cache")
app.command()(build)


@app.command()
def agree(
    model: Annotated[Path, typer.Argument(help="An ONNX file.")],
    data: Annotated[
        Path,
        typer.Argument(
            help="The calibration data in TensorRT's order: .npy, or .npz by input name."
        ),
    ],
    cache: Annotated[
        Path, typer.Option(help="The calibration cache that TensorRT wrote.", show_default=False)
    ],
    batch: Annotated[
        int | None, typer.Option(help="The batch size then; found out where not given.", min=1)
    ] = None,
    tolerance: Annotated[
        float, typer.Option(help="The relative difference that still counts as equal.")
    ] = 1e-6,
    algorithm: Annotated[
        str | None,
        typer.Option(
            help="entropy2, entropy, minmax or legacy, where the cache's header does not say."
        ),
    ] = None,
    as_json: Json = False,
) -> None:
    """Compute a cache's scales anew, without a GPU.

    The exit status is 1 where one differs from TensorRT's by more than the tolerance.
    """
    from ..calibration.agree import agree as agree_with

    report = agree_with(model, data, cache, batch=batch, tolerance=tolerance, algorithm=algorithm)
    give(report, as_json, report.facts())
    raise typer.Exit(0 if report.all_agree else 1)


@app.command()
def migrate(
    command: Annotated[
        str, typer.Argument(help="The trtexec line of TensorRT 8 to 10 to replace, in quotes.")
    ],
    model: Annotated[Path, typer.Argument(help="Its ONNX file.")],
    cache: Annotated[
        Path, typer.Option(help="The calibration cache of its --calib.", show_default=False)
    ],
    output: Annotated[
        Path, typer.Option("-o", "--output", help="The ONNX file to write.", show_default=False)
    ],
    int8_weights: Annotated[
        bool, typer.Option("--int8-weights", help="Store the weights as INT8.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Write the Q/DQ model that TensorRT 11 needs.

    It keeps the scales of the calibration cache.
    """
    from ..trtexec.migration import migrate as migrate_model

    give(migrate_model(command, model, cache, output, int8_weights=int8_weights), as_json)


progress_app = typer.Typer(help="Show, export or reset what was solved.", rich_markup_mode=None)
app.add_typer(progress_app, name="progress", invoke_without_command=True)


@progress_app.callback(invoke_without_command=True)
def progress(context: typer.Context, as_json: Json = False) -> None:
    """Show, export or reset what was solved."""
    from ..course.progress import load

    if context.invoked_subcommand is None:
        give(load(), as_json)


@progress_app.command("show")
def progress_show(as_json: Json = False) -> None:
    """Show what was tried and what is solved."""
    from ..course.progress import load

    give(load(), as_json)


@progress_app.command("export")
def progress_export(
    output: Annotated[Path, typer.Option("-o", "--output", help="The JSON file to write.")] = Path(
        "progress.json"
    ),
) -> None:
    """Write a summary to hand in: what was tried, solved and predicted, and how much there is to do."""
    from ..course.exercise import report
    from ..files import write_atomic

    print(f"wrote {write_atomic(output, report().to_json(indent=2))}")


@progress_app.command("reset")
def progress_reset() -> None:
    """Forget all of it."""
    from ..course.progress import reset

    reset()


@app.command()
def doctor(as_json: Json = False) -> None:
    """Say what runs live here, and how to fix the rest."""
    from ..course.doctor import examine

    give(examine(), as_json)


@app.command()
def lab(
    folder: Annotated[
        Path | None, typer.Option("--dir", help="Where to copy the notebooks.", show_default=False)
    ] = None,
    browser: Annotated[bool, typer.Option("--browser/--no-browser", help="Open a browser.")] = True,
    port: Annotated[
        int | None, typer.Option(help="The port to serve on.", show_default=False)
    ] = None,
) -> None:
    """Open the course in JupyterLab."""
    from .lab import open_lab

    open_lab(folder, browser=browser, port=port)


def _fail(line: str) -> int:
    print("trtlearn:", " ".join(line.split()), file=sys.stderr)
    return 2


def run(arguments: list[str] | None = None) -> int:
    """Run one command; returns the exit status and prints one line for whatever went wrong."""
    try:
        command = typer.main.get_command(app)
        with command.make_context(
            "trtlearn", sys.argv[1:] if arguments is None else arguments
        ) as context:
            command.invoke(context)
        sys.stdout.flush()
        return 0
    except typer.Exit as done:
        return done.exit_code
    except TrtlearnError as problem:
        return _fail(str(problem))
    except BrokenPipeError:  # the reader of our output, for example head, has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except (KeyboardInterrupt, typer.Abort):
        return 130
    except Exception as problem:
        if hasattr(problem, "format_message"):  # typer's own: an option or argument that is wrong
            return _fail(f"{problem.format_message().rstrip('.')}. Try: trtlearn --help")
        if os.environ.get("TRTLEARN_DEBUG"):
            raise
        return _fail(
            f"{type(problem).__name__}: {problem}. This is a defect: TRTLEARN_DEBUG=1 shows where"
        )
