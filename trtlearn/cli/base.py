"""What all verbs of the command line share: the app, ``--json``, and how a record is printed."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

try:
    import typer
except ModuleNotFoundError as missing:
    raise ModuleNotFoundError(
        "the command line needs typer and rich. Try: pip install 'trtlearn[cli]'", name=missing.name
    ) from None

if TYPE_CHECKING:
    from ..record import Record

__all__ = ["File", "Json", "app", "give", "typer"]

app = typer.Typer(
    name="trtlearn",
    help="What TensorRT's INT8 really does, shown by running it.",
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)

Json = Annotated[bool, typer.Option("--json", help="Print JSON with stable keys.")]
File = Annotated[Path, typer.Argument(show_default=False)]


def give(record: Record, as_json: bool, facts: dict[str, Any] | None = None) -> None:
    """Print ``record``: as JSON (of ``facts`` where given), as a rich table on a terminal, else as plain text."""
    if as_json:
        print(json.dumps(record.to_dict() if facts is None else facts, indent=2, allow_nan=False))
    elif not sys.stdout.isatty():
        print(record)
    else:
        from rich.console import Console
        from rich.markup import escape
        from rich.table import Table

        from ..record import Record, show

        console, rows = Console(), record.rows()
        if type(record).__str__ is not Record.__str__:  # it has its own words
            console.print(str(record), markup=False, highlight=False)
            return
        console.print(escape(record.summary()), style="bold", highlight=False)
        if rows:
            table = Table(*(escape(name) for name in rows[0]))
            for row in rows:
                table.add_row(*(escape(show(value)) for value in row.values()))
            console.print(table)
