"""The base of every record: a frozen fact that goes to JSON and back and shows itself."""

from __future__ import annotations

import dataclasses
import gc
import html
import json
import math
import re
import types
import typing
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache, cached_property
from typing import Any, ClassVar, Generic, TypeVar, overload

from .errors import DataError, RecordingError, printable

if typing.TYPE_CHECKING:
    import pandas

__all__ = [
    "Record",
    "Table",
    "html_link",
    "html_table",
    "html_text",
    "later",
    "parse_json",
    "plural",
    "show",
    "without_collector",
]

R = TypeVar("R", bound="Record")
T = TypeVar("T")
MOST_VALUES = 5_000_000  # of a JSON text: the largest recording has 130,000
SHOWN_ROWS = 40
LONG = 30  # characters: a longer cell may break after each / and :
LONG_REPR = 60  # characters of a field in a repr
WIDEST = 200  # characters that a column is padded to: one long cell makes no wide table
AGAIN = "make the recording again with `make record`"
SCROLLED_ROWS = 16  # a longer table scrolls in a box of its own


_hints: Callable[[Any], dict[str, Any]] = cache(typing.get_type_hints)
_fields: Callable[[Any], dict[str, dataclasses.Field[Any]]] = cache(
    lambda cls: {field.name: field for field in dataclasses.fields(cls)}
)


def _encode(value: Any) -> Any:
    if isinstance(value, Record):
        return value.to_dict()
    if isinstance(value, dict):
        return {str(key): _encode(item) for key, item in value.items()}
    if isinstance(value, (tuple, list)):
        return [_encode(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)  # JSON has no NaN: "nan", "inf" and "-inf" are read back by _decode
    return value


def _decode(hint: Any, value: Any, where: str) -> Any:
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin in (typing.Union, types.UnionType):
        some = next(option for option in arguments if option is not type(None))
        return None if value is None else _decode(some, value, where)
    if origin is tuple and isinstance(value, list):
        some = arguments[0]
        return tuple(_decode(some, item, f"{where}[{at}]") for at, item in enumerate(value))
    if origin is dict and isinstance(value, dict):
        some = arguments[1]
        return {key: _decode(some, item, f"{where}[{key!r}]") for key, item in value.items()}
    if isinstance(hint, type) and issubclass(hint, Record) and isinstance(value, dict):
        return hint.from_dict(value, where)
    if hint is float:
        is_whole = type(value) is int and abs(value) < 2**1023
        if is_whole or isinstance(value, float) or value in ("nan", "inf", "-inf"):
            return float(value)
    elif hint is Any or type(value) is hint:
        return value
    raise RecordingError(f"{where} is {value!r:.60}, expected {hint}", AGAIN)


def show(value: Any) -> str:
    """One cell of a table: unknown for None, six significant digits for floats.

    >>> show(None), show(0.123456789), show(("fp32", None))
    ('unknown', '0.123457', 'fp32, unknown')
    """
    if value is None:
        return "unknown"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.6g}"
    if isinstance(value, (tuple, list)):
        return ", ".join(map(show, value)) if value else "none"
    if isinstance(value, dict):
        return show([f"{key}: {show(item)}" for key, item in value.items()])
    return printable(str(value))


def parse_json(text: str, *, strict: bool = True) -> Any:
    """The value of a JSON text from outside; ValueError where it is none, too deep or too large.

    ``strict`` refuses control characters in strings. Each value takes some 70 bytes of memory, so
    their number is limited, not only the length of the text.
    """
    count = sum(map(text.count, ",[{"))
    if count > MOST_VALUES:
        raise ValueError(f"it holds {count:,} values, expected at most {MOST_VALUES:,}")
    try:
        return json.JSONDecoder(strict=strict).decode(text)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None


@contextmanager
def without_collector() -> Iterator[None]:
    """Inside, Python does not search for cycles of objects: for work that makes many objects and no
    cycle, where the search takes as long as the work. Also a decorator.

    Afterwards the objects count as old, so that the next search passes over them, too.
    """
    is_enabled, is_frozen = gc.isenabled(), gc.get_freeze_count() > 0
    gc.disable()
    try:
        yield
    finally:
        if not is_frozen:
            gc.freeze()
            gc.unfreeze()
        if is_enabled:
            gc.enable()


def html_text(text: str) -> str:
    """``text`` as it stands in a page: the one place where names become HTML.

    >>> html_text("<b>x\\x1b")
    '&lt;b&gt;x\\\\x1b'
    """
    return html.escape(printable(text))


def html_link(url: str, text: str) -> str:
    """A link to a web page; only the text where ``url`` is none (javascript:, data:)."""
    is_web = url.lower().startswith(("https://", "http://"))
    words = html_text(text)
    return f'<a href="{html_text(url)}" target="_blank">{words}</a>' if is_web else words


def plural(count: int, one: str, many: str = "") -> str:
    """A count and what is counted; ``many`` where that is not ``one`` and an s.

    >>> plural(1, "reformat"), plural(2048, "reformat"), plural(0, "batch", "batches")
    ('1 reformat', '2,048 reformats', '0 batches')
    """
    return f"{count:,} {one if count == 1 else many or one + 's'}"


def _cells(rows: list[dict[str, Any]]) -> list[dict[str, str]]:
    """A table as text; a key that some row lacks is unknown there."""
    keys = dict.fromkeys(key for row in rows for key in row)
    return [{key: _cell(key, row.get(key)) for key in keys} for row in rows]


def _cell(key: str, value: Any) -> str:
    """One cell; percents with one decimal, or one digit where they are below 0.1.

    >>> _cell("accuracy %", 99.21875), _cell("clipped %", 0.0123), _cell("amax", 99.21875)
    ('99.2', '0.01', '99.2188')
    """
    if "%" in key and isinstance(value, float) and math.isfinite(value):
        return f"{value:.1f}" if value == 0 or abs(value) >= 0.1 else f"{value:.1g}"
    return show(value)


def html_table(
    rows: list[dict[str, Any]], *, style: str = "text-align:left", page: bool = False
) -> str:
    """Rows as an HTML table with every cell escaped; "" without rows.

    ``style`` is the CSS of each cell. In a notebook long words may break, and long tables scroll
    and are cut; a ``page`` with a style sheet of its own gets every row as it is.
    """
    if not rows:
        return ""
    cells = _cells(rows if page else rows[:SHOWN_ROWS])  # an engine may have thousands
    css = f' style="{style}"' if style else ""

    def cell(text: str) -> str:
        escaped = html_text(text)
        return escaped if page or len(text) <= LONG else re.sub("([/:])", r"\1<wbr>", escaped)

    head = "".join(f'<th scope="col"{css}>{html_text(key)}</th>' for key in cells[0])
    body = ""
    for row in cells:
        body += "<tr>" + "".join(f"<td{css}>{cell(text)}</td>" for text in row.values()) + "</tr>"
    table = f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"
    if len(cells) > SCROLLED_ROWS and not page:
        table = f'<div tabindex="0" style="max-height:28em;overflow:auto">{table}</div>'
    left = len(rows) - len(cells)
    more = f"<p>… and {plural(left, 'more row')}: see .to_frame()</p>" if left > 0 else ""
    return table + more


class _Later:
    """A record's field of type ``kind``. What it is set to may be of another type: ``make`` makes
    it when it is first asked for, which saves time and memory where nobody asks.
    """

    def __init__(self, kind: type, make: Callable[[Any], Any], *default: Any) -> None:
        self.kind, self.make, self.default = kind, make, default

    def __set_name__(self, owner: type, name: str) -> None:
        self.name = name

    def __get__(self, record: Any, owner: type | None = None) -> Any:
        if record is None:
            if not self.default:
                raise AttributeError(self.name)  # for dataclass(): the field has no default
            return self.default[0]
        value = vars(record)[self.name]
        if not isinstance(value, self.kind):
            value = vars(record)[self.name] = self.make(value)
        return value

    def __set__(self, record: Any, value: Any) -> None:
        vars(record)[self.name] = value


later: Any = _Later  # Any: a field is declared as what it gives


class Record:
    """Base of all facts: JSON round trip, a table for the terminal and one for Jupyter.

    A subclass is a frozen dataclass and may override :meth:`summary` and :meth:`rows`.
    """

    def __init_subclass__(cls, **keywords: Any) -> None:
        super().__init_subclass__(**keywords)
        if "__repr__" not in vars(cls):  # before dataclass() writes one with every field
            cls.__repr__ = Record.__repr__  # type: ignore[method-assign]
        if own := vars(cls).get("__str__"):
            cls.__str__ = lambda self: printable(own(self))  # type: ignore[method-assign]

    def summary(self) -> str:
        """One line that says what this is."""
        return type(self).__name__

    def rows(self) -> list[dict[str, Any]]:
        """The table to show: one dict a row, the same keys in each."""
        return [{"fact": name, "value": getattr(self, name)} for name in _fields(type(self))]

    def to_dict(self) -> dict[str, Any]:
        """This record as plain dicts, lists, strings and numbers."""
        return {name: _encode(getattr(self, name)) for name in _fields(type(self))}

    @classmethod
    def from_dict(cls: type[R], data: dict[str, Any], where: str = "") -> R:
        """The record that ``to_dict`` gave; RecordingError names the field that does not fit."""
        where = where or cls.__name__
        hints, fields = _hints(cls), _fields(cls)
        if unknown := sorted(set(data) - set(fields)):
            fix = "use the trtlearn version that wrote it"
            raise RecordingError(f"{where} has unknown fields {unknown}", fix)
        needed = {
            name
            for name, field in fields.items()
            if field.default is field.default_factory is dataclasses.MISSING
        }
        if missing := sorted(needed - set(data)):
            raise RecordingError(f"{where} lacks {missing}", AGAIN)
        values = {name: _decode(hints[name], data[name], f"{where}.{name}") for name in data}
        return cls(**values)

    def to_json(self, indent: int | None = None) -> str:
        """This record as JSON text (no NaN: unknown is null)."""
        return json.dumps(self.to_dict(), indent=indent, allow_nan=False)

    @classmethod
    def from_json(cls: type[R], text: str, where: str = "") -> R:
        """The record that ``to_json`` gave; RecordingError begins with ``where``, a file say."""
        where = where or cls.__name__
        try:
            data = parse_json(text)
        except ValueError as problem:
            raise RecordingError(f"{where} is not JSON: {problem}", AGAIN) from None
        if not isinstance(data, dict):
            kind = type(data).__name__
            raise RecordingError(f"{where}: expected a JSON object, found {kind}")
        return cls.from_dict(data, where)

    def to_frame(self) -> pandas.DataFrame:
        """The table as a pandas DataFrame (needs pandas)."""
        import pandas

        return pandas.DataFrame(self.rows())

    def __repr__(self) -> str:
        kind = type(self)
        if kind.summary is not Record.summary:
            return printable(f"<{kind.__name__}: {self.summary()}>")
        values = []
        for name in (name for name, field in _fields(kind).items() if field.repr):
            text = repr(getattr(self, name))
            values.append(f"{name}={text[: LONG_REPR - 1] + '…' if text[LONG_REPR:] else text}")
        return f"{kind.__name__}({', '.join(values)})"

    def __str__(self) -> str:
        rows = _cells(self.rows())
        if not rows:
            return printable(self.summary())
        lines = [{key: key for key in rows[0]}, *rows]
        widths = {key: min(WIDEST, max(len(line[key]) for line in lines)) for key in rows[0]}

        def text(line: dict[str, str]) -> str:
            return "  ".join(cell.ljust(widths[key]) for key, cell in line.items()).rstrip()

        return "\n".join([printable(self.summary()), *map(text, lines)])

    def _repr_html_(self) -> str:
        return f"<p><b>{html_text(self.summary())}</b></p>{html_table(self.rows())}"


class Table(Record, Generic[T]):
    """A record that holds records T: by name, by place, by slice, or one after the other.

    A subclass names the field that holds them in ``ITEMS``, and each one's name in ``KEY``.

    Example::

        report["conv1"], report[0], report[:5], len(report), "conv1" in report, list(report)
    """

    ITEMS: ClassVar[str] = "tensors"
    KEY: ClassVar[str] = "name"

    @property
    def _items(self) -> tuple[T, ...]:
        items: tuple[T, ...] = getattr(self, self.ITEMS)
        return items

    @cached_property
    def _by_name(self) -> dict[Any, T]:
        return {getattr(item, self.KEY): item for item in self._items}

    def rows(self) -> list[dict[str, Any]]:
        """The table to show: by default one row for each record, of all its facts."""
        return [_encode(item) for item in self._items]

    @overload
    def __getitem__(self, key: slice) -> tuple[T, ...]: ...
    @overload
    def __getitem__(self, key: str | float) -> T: ...
    def __getitem__(self, key: Any) -> Any:
        """One record by name or place, or some by a slice; DataError for what is not there."""
        if isinstance(key, slice):
            return self._items[key]
        if key in self._by_name:
            return self._by_name[key]
        if hasattr(key, "__index__") and -len(self) <= key < len(self):
            return self._items[key]
        names = ", ".join(str(name) for name in list(self._by_name)[:8])
        raise DataError(f"no {self.ITEMS.removesuffix('s')} {key!r}", f"one of {names or 'none'}")

    def __iter__(self) -> Iterator[T]:
        return iter(self._items)

    def __len__(self) -> int:
        return len(self._items)

    def __contains__(self, key: object) -> bool:
        return key in self._by_name or key in self._items

    def __bool__(self) -> bool:
        return True  # a report without rows is a report
