"""What all verbs of the command line share: the app, ``--json``, and how a record is printed."""

from __future__ import annotations

import contextlib
import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

try:
    import typer
except ModuleNotFoundError as missing:
    raise ModuleNotFoundError(
        "the command line needs typer and rich. Try: pip install 'trtlearn[cli]'", name=missing.name
    ) from None

from ..errors import TrtlearnError, printable

if TYPE_CHECKING:
    from ..record import Record

__all__ = [
    "CALIBRATOR",
    "Argument",
    "File",
    "Json",
    "Option",
    "Output",
    "app",
    "pair",
    "print_record",
    "print_to_nobody",
    "say",
    "typer",
]

Argument, Option = typer.Argument, typer.Option
CALIBRATOR = ("--algorithm", "--calibrator")
"""Two words for one option."""
Json = Annotated[bool, Option("--json", help="Print JSON with stable keys.")]
File = Annotated[Path, Argument(show_default=False)]
Output = Annotated[Path, Option("-o", "--output", help="The file to write.", show_default=False)]

app = typer.Typer(
    name="trtlearn",
    help="What TensorRT's INT8 really does, shown by running it.",
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def print_to_nobody() -> None:
    """Send what is printed from now on nowhere: nobody reads standard output any more."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


@contextlib.contextmanager
def _to_reader() -> Iterator[None]:
    """What is printed inside goes out, until the reader, head say, has closed the pipe."""
    try:
        yield
        sys.stdout.flush()
    except BrokenPipeError:
        print_to_nobody()


@_to_reader()
def print_record(record: Record, as_json: bool, facts: dict[str, Any] | None = None) -> None:
    """Print ``record``: as JSON (of ``facts`` if given), a rich table on a terminal, else text."""
    if as_json:
        print(json.dumps(record.to_dict() if facts is None else facts, indent=2, allow_nan=False))
        return
    notes = [note for note in getattr(record, "notes", ()) if note not in str(record)]
    if not sys.stdout.isatty():
        say("\n".join([str(record), *(f"note: {note}" for note in notes)]))
        return
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    from ..record import Record, show

    console, rows = Console(emoji=False), record.rows()
    if type(record).__str__ is not Record.__str__:  # it has its own words
        console.print(str(record), markup=False, highlight=False)
        return
    summary = escape(printable(record.summary()))
    console.print(summary, style="bold", highlight=False)
    if rows:
        table = Table(*map(escape, rows[0]))
        for row in rows:
            table.add_row(*(escape(show(value)) for value in row.values()))
        console.print(table)
    if len(rows) > console.height:  # the first line is out of sight
        console.print(summary, style="bold", highlight=False)
    for note in notes:
        console.print(printable(f"note: {note}"), markup=False, highlight=False)


def say(text: str, **options: Any) -> None:
    """Print ``text``: whatever names stand in it, the terminal does not obey them."""
    print(printable(text), **options)


def pair(text: str, option: str, shape: str) -> tuple[str, str]:
    """The two sides of ``text``, of ``shape`` NAME=VALUE; a name may hold "=" itself."""
    name, equals, value = text.rpartition("=")
    if not (name and equals and value):
        raise TrtlearnError(f"{option} {text!r}, expected {shape}", f"write {option} {shape}")
    return name, value
