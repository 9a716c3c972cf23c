"""The command line: every verb prints a table, or with ``--json`` the same facts with stable keys.

Bad input gives one clear line on standard error and exit status 2; ``TRTLEARN_DEBUG=1`` shows a
traceback instead. Each verb imports what it needs itself, so that the command line starts quickly.
"""

from __future__ import annotations

import codecs
import contextlib
import io
import os
import re
import sys
import warnings
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from .. import __version__
from ..errors import TrtlearnError
from ..files import check_writable, decode_text, read_bytes, shell_command
from ..record import plural
from .base import (
    CALIBRATOR,
    Argument,
    File,
    Json,
    Option,
    Output,
    app,
    print_record,
    print_to_nobody,
    say,
    typer,
)
from .build import build
from .cache import cache_app, save
from .lab import lab, live_app

if TYPE_CHECKING:
    from ..engine.layers import EngineLayer

__all__ = ["run"]

LAYER_KEYS = (
    *("name", "kind", "input_dtypes", "output_dtypes", "weight_dtype", "weight_count"),
    *("weight_bytes", "onnx_nodes", "kernel", "is_reformat"),
)
Model = Annotated[Path, Argument(help="An ONNX file.")]
DataFile = Annotated[
    Path, Argument(help="Data for its inputs, normalised: .npy, or .npz by input name.")
]
Batch = Annotated[int, Option(help="Rows at a time, where the network does not fix it.", min=1)]


@app.callback(invoke_without_command=True)
def _start(
    context: typer.Context,
    version: Annotated[bool, Option("--version", help="Print the version.")] = False,
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
        Argument(help='A trtexec command line in quotes, e.g. "trtexec --int8 --onnx=m.onnx".'),
    ],
    trt: Annotated[
        str | None, Option(help="A version, 8.0 to 11.4, or 'JetPack 6.2' (a log's own, or 8.6).")
    ] = None,
    model: Annotated[
        Path | None, Option(help="The ONNX file, to see whether it holds Q/DQ nodes.")
    ] = None,
    cache_exists: Annotated[
        bool | None,
        Option("--cache-exists/--no-cache-exists", help="Whether the --calib file is there."),
    ] = None,
    qdq: Annotated[
        bool | None, Option("--qdq/--no-qdq", help="Whether the model holds Q/DQ nodes.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Say what a trtexec command line does, and why."""
    from ..trtexec import explanation

    print_record(explanation.explain(command, trt, model, cache_exists, qdq), as_json)


@app.command()
def inspect(file: File, as_json: Json = False) -> None:
    """List an engine's layers and their types.

    FILE is inspector JSON, a report of `trtlearn build`, a recording, or a plan (on its own GPU).
    """
    from ..recorded.open import read_engine

    engine = read_engine(file)
    facts = {
        "schema": engine.schema,
        "detailed": engine.detailed,
        "layers": [_layer_facts(layer) for layer in engine.layers],
        "bindings": [binding.to_dict() for binding in engine.bindings],
    }
    print_record(engine, as_json, facts)


def _layer_facts(layer: EngineLayer) -> dict[str, Any]:
    return {key: getattr(layer, key) for key in LAYER_KEYS}


@app.command()
def precision(
    file: File,
    model: Annotated[
        Path | None, Option(help="The ONNX file, to list its nodes too.", show_default=False)
    ] = None,
    as_json: Json = False,
) -> None:
    """Compare requested with chosen types, with reasons.

    FILE is as for `trtlearn inspect`; a report or a recording also says what was requested.
    """
    from ..recorded import open as opened

    print_record(opened.precision(file, model), as_json)


@app.command()
def log(
    file: Annotated[
        Path, Argument(help="A log, or any text with TensorRT's messages; - reads standard input.")
    ],
    as_json: Json = False,
) -> None:
    """Say what a log means: each message in plain words, with what to do.

    FILE may come from trtexec, Python, ONNX Runtime, DeepStream, Triton and other programs.
    """
    from ..engine.inspector import log_layers
    from ..engine.log import read_log

    text = _text_of(file)
    report, layers = read_log(text), log_layers(text)
    facts = report.to_dict() | {"layers": [_layer_facts(layer) for layer in layers]}
    print_record(report, as_json, facts)
    if layers and not as_json:
        print(f"{plural(len(layers), 'engine layer')} listed: `trtlearn inspect FILE` shows them")


def _text_of(file: Path) -> str:
    """The text of a log; of a file in UTF-16, as PowerShell's ">" writes it, too."""
    text = decode_text(read_bytes(0 if str(file) == "-" else file), "replace")
    if "\0" in text[:4096]:
        raise TrtlearnError(f"{file} is a binary file, expected a log", "give the text of a log")
    return text


app.add_typer(cache_app, name="cache")
app.add_typer(live_app, name="live", invoke_without_command=True)
app.command()(build)


@app.command()
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


@app.command()
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


@app.command()
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


@app.command()
def agree(
    model: Model,
    data: Annotated[
        Path,
        Argument(help="The calibration data in TensorRT's order: .npy, or .npz by input name."),
    ],
    cache: Annotated[
        Path, Option(help="The calibration cache that TensorRT wrote.", show_default=False)
    ],
    batch: Annotated[
        int | None, Option(help="The batch size of that calibration; default: searched.", min=1)
    ] = None,
    tolerance: Annotated[
        float, Option(help="The relative difference that still counts as equal.")
    ] = 1e-6,
    algorithm: Annotated[
        str | None,
        Option(
            *CALIBRATOR,
            help="entropy2, entropy, minmax or legacy, where the cache's header does not say.",
        ),
    ] = None,
    as_json: Json = False,
) -> None:
    """Compute a cache's scales again, without a GPU.

    The exit status is 1 where one differs from TensorRT's by more than the tolerance.
    """
    from ..calibration import agreement

    report = agreement.agree(
        model, data, cache, batch=batch, tolerance=tolerance, algorithm=algorithm
    )
    print_record(report, as_json, report.facts())
    raise typer.Exit(0 if report.all_agree else 1)


@app.command()
def migrate(
    command: Annotated[
        str, Argument(help="The trtexec line of TensorRT 8 to 10 to replace, in quotes.")
    ],
    output: Output,
    model: Annotated[
        Path | None, Argument(help="Its ONNX file; default: that of --onnx.", show_default=False)
    ] = None,
    cache: Annotated[
        Path | None,
        Option(help="The calibration cache; default: that of --calib.", show_default=False),
    ] = None,
    int8_weights: Annotated[
        bool, Option("--int8-weights", help="Store the weights as INT8.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Write the Q/DQ model that TensorRT 11 needs.

    It keeps the scales of the calibration cache.
    """
    from ..trtexec import migration

    report = migration.migrate(command, model, cache, output, int8_weights)
    print_record(report, as_json)


progress_app = typer.Typer(help="Show, export or reset what was solved.", rich_markup_mode=None)
app.add_typer(progress_app, name="progress", invoke_without_command=True)


@progress_app.callback(invoke_without_command=True)
def progress(context: typer.Context, as_json: Json = False) -> None:
    """Show, export or reset what was solved."""
    if context.invoked_subcommand is None:
        progress_show(as_json)


@progress_app.command("show")
def progress_show(as_json: Json = False) -> None:
    """Show what was tried and what is solved."""
    from ..course.progress import load

    print_record(load(), as_json)


@progress_app.command("export")
def progress_export(
    output: Annotated[Path, Option("-o", "--output", help="The JSON file to write.")] = Path(
        "progress.json"
    ),
) -> None:
    """Write a summary to hand in.

    It says what was tried, solved and predicted, and how much there is to do.
    """
    from ..course.exercise import report
    from ..files import write_atomic

    say(f"wrote {write_atomic(output, report().to_json(indent=2))}")


@progress_app.command("reset")
def progress_reset() -> None:
    """Forget all of it."""
    from ..course.progress import reset

    reset()


@app.command()
def doctor(as_json: Json = False) -> None:
    """Say what runs live here, and how to fix the rest."""
    from ..course.doctor import examine

    print_record(examine(), as_json)


app.command()(lab)


@contextlib.contextmanager
def warnings_as_lines() -> Iterator[None]:
    """Warnings for the user become one line each on standard error, without Python's source."""
    with warnings.catch_warnings():
        other = warnings.showwarning

        def show(message: Any, category: type[Warning], *rest: Any, **more: Any) -> None:
            if not issubclass(category, UserWarning):
                other(message, category, *rest, **more)
                return
            say(f"trtlearn: note: {' '.join(str(message).split())}", file=sys.stderr)

        warnings.showwarning = show
        yield


def run(arguments: list[str] | None = None) -> int:
    """Run one command; returns the exit status and prints one line for whatever went wrong."""
    _prepare_streams()
    try:
        status = _invoke(sys.argv[1:] if arguments is None else arguments)
        sys.stdout.flush()
        return status
    except TrtlearnError as problem:
        return _fail(str(problem))
    except (KeyboardInterrupt, typer.Abort):
        return _fail("stopped by Ctrl-C", 130)
    except MemoryError:
        return _fail("not enough memory. Try: a smaller file, or fewer rows of data")
    except OSError as problem:  # above all: nothing more can be written to standard output
        with contextlib.suppress(OSError, ValueError):  # so that Python's own last flush is quiet
            print_to_nobody()
        if isinstance(problem, BrokenPipeError):  # the reader of our output, head say, saw enough
            return 0
        where = "" if problem.filename is None else f"{problem.filename}: "
        return _fail(f"{where}{problem.strerror or problem}")
    except Exception as problem:
        if hasattr(problem, "format_message"):  # typer's own: an option or argument that is wrong
            return _fail(f"{problem.format_message().rstrip('.?')}. Try: {_help_for(problem)}")
        if os.environ.get("TRTLEARN_DEBUG"):
            raise
        kind = type(problem).__name__
        return _fail(f"{kind}: {problem}. This is a defect: TRTLEARN_DEBUG=1 shows where")


def _help_for(problem: Any) -> str:
    """What to try after wrong arguments: the help of the verb that got them."""
    verb = problem.ctx.command_path if getattr(problem, "ctx", None) else "trtlearn"
    unknown = hasattr(problem, "possibilities")  # "--onnx" was taken for our own option
    if unknown and verb in ("trtlearn explain", "trtlearn migrate"):
        return f'put the trtexec command in quotes ({verb} "trtexec --int8 ..."), or {verb} --help'
    return f"{verb} --help"


@cache
def _command() -> Any:
    """All verbs, as typer puts them together."""
    return typer.main.get_command(app)


def _invoke(words: list[str]) -> int:
    """Run one command; its exit status."""
    if any(re.fullmatch("(-[a-z-]+=)?", word) for word in words):
        fix = "give it a value, or leave it out: a variable of your shell may be empty"
        raise TrtlearnError("an argument is empty", fix)
    command = _command()
    try:
        with warnings_as_lines(), command.make_context("trtlearn", words) as context:
            command.invoke(context)
    except typer.Exit as done:
        return done.exit_code
    return 0


def _prepare_streams() -> None:
    """Let standard output and error take any text: whatever their encoding, open or closed."""
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        try:
            os.fstat(number)
        except OSError:  # closed: the next file that is opened must not take its place
            os.open(os.devnull, os.O_RDWR)
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, "r+", encoding="utf-8"))  # noqa: SIM115
        elif number and isinstance(stream := getattr(sys, name), io.TextIOWrapper):
            # where no locale is set up, the encoding is ASCII, which has no ± and no ✔
            is_ascii = codecs.lookup(stream.encoding).name == "ascii"
            encoding = "utf-8" if is_ascii else stream.encoding
            stream.reconfigure(encoding=encoding, errors="backslashreplace")


def _fail(line: str, status: int = 2) -> int:
    with contextlib.suppress(OSError):
        say(f"trtlearn: {' '.join(line.split())}", file=sys.stderr)
    return status
