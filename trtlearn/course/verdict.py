"""How an answer is judged: yours beside the reference, what differs, and the likely mistake.

Each judge takes the reader's answer and gives a :class:`Verdict`. An exercise holds one with all
but the answer filled in: ``judge=partial(judge_number, reference=..., common_mistakes={...})``. A
table of common mistakes maps a sentence for the reader to what the mistake would give.
"""

from __future__ import annotations

import copy
import dataclasses
import decimal
import numbers
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ..errors import DataError, first_line
from ..record import Record, html_table, html_text, plural

__all__ = ["Case", "Verdict", "compare", "judge_choice", "judge_function", "judge_number"]

SHOWN = 8  # elements of an array that a verdict shows
LONGEST = 120  # characters of any other value, of a case's input and of an error's message
NOTHING = "nothing"  # what differs where the results are equal


@dataclass(frozen=True)
class Comparison(Record):
    """Both results of one input, as text: in a dict or set the first entry that differs."""

    differs: str  # what, in words
    yours: str
    reference: str
    entry: Any = None  # of a dict or a set: the first key that differs
    input: str = ""


@dataclass(frozen=True)
class Verdict(Record):
    """Passed (True), not passed (False) or not answered yet (None), and why."""

    id: str
    passed: bool | None
    text: str
    comparisons: tuple[Comparison, ...] = ()
    not_saved_because: str = ""  # why the progress could not be saved, if so
    surprise: bool = False  # the measurement did not bear a prediction out: no mistake
    figure: Any = field(default=None, compare=False)  # plotly: what the answer does
    folds: tuple[tuple[str, str], ...] = ()  # (title, text): hints and a solution to open

    def summary(self) -> str:
        mark = {True: "✔", False: "✘", None: "○"}[self.passed]
        note = f" ({self.not_saved_because})" if self.not_saved_because else ""
        return f"{'≠' if self.surprise else mark} {self.text}{note}"

    def rows(self) -> list[dict[str, Any]]:
        return [
            {
                "input": row.input,
                "yours": row.yours,
                "reference": row.reference,
                "what differs": row.differs,
            }
            for row in self.comparisons
        ]

    def _repr_html_(self) -> str:
        color = {True: "#2f7fc1", False: "#d9601a", None: "#7f7f7f"}[
            None if self.surprise else self.passed
        ]
        style = f"border-left:4px solid {color};padding-left:8px"
        head = f"<p><b>{html_text(self.summary())}</b></p>"
        folds = "".join(
            f"<details><summary>{html_text(title)}</summary><pre>{html_text(inside)}</pre>"
            "</details>"
            for title, inside in self.folds
        )
        return f'<div role="status" style="{style}">{head}{html_table(self.rows())}{folds}</div>'

    def _ipython_display_(self) -> None:
        """In a notebook: the picture, then the verdict."""
        from IPython.display import display

        if self.figure is not None:
            display(self.figure)  # type: ignore[no-untyped-call]
        both = {"text/plain": str(self), "text/html": self._repr_html_()}
        display(both, raw=True)  # type: ignore[no-untyped-call]


def text(value: Any) -> str:
    """A value as one short line: arrays by their first elements and shape, others by their kind.

    >>> text([1.0, 2.5]), text([{"Name": "a"}]), text({"a", "b"})
    ('[1, 2.5]', 'a list of 1', 'a, b')
    """
    if isinstance(value, (set, frozenset)):
        return cut(", ".join(sorted(map(str, value))) or "none")
    if isinstance(value, (list, tuple, dict)):
        if all(isinstance(item, (int, float, np.number)) for item in value):
            return cut(f"[{', '.join(map(text, value))}]")
        return f"{kind_of(value)} of {len(value)}"
    if isinstance(value, np.ndarray) and value.ndim:
        flat = ", ".join(f"{item:.6g}" for item in value.ravel()[:SHOWN].tolist())
        more = ", …" if value.size > SHOWN else ""
        return f"[{flat}{more}] {value.dtype}{list(value.shape)}"
    if isinstance(value, (float, np.floating)):
        return f"{float(value):.7g}"
    return cut(" ".join(str(value).split()))


def cut(words: str) -> str:
    """The words, at most LONGEST characters of them."""
    return words if len(words) <= LONGEST else f"{words[:LONGEST]}…"


def raised(problem: Exception) -> str:
    """An exception in one line.

    >>> raised(ValueError("no such luck"))
    'ValueError: no such luck'
    """
    return cut(f"{type(problem).__name__}: {first_line(problem)}")


def kind_of(value: Any) -> str:
    """What a reader gave, in words that need no Python.

    >>> kind_of("7"), kind_of([1, 2]), kind_of(len)
    ("the text '7'", 'a list', 'a function')
    """
    if isinstance(value, str):
        return f"the text {cut(value)!r}"
    if isinstance(value, np.ndarray):
        return f"an array of shape {list(value.shape)}"
    if callable(value):
        return "a function"
    name = type(value).__name__
    known = {"float": "a number", "int": "a number", "bool": "yes or no", "NoneType": "nothing"}
    return known.get(name, f"an {name}" if name[0] in "aeiou" else f"a {name}")


def one_number(answer: Any) -> float:
    """The reader's number, whatever it was written as; DataError says what it is instead.

    >>> one_number(np.float32(0.5)), one_number(np.array([0.5]))
    (0.5, 0.5)
    """
    if isinstance(answer, (np.ndarray, list, tuple)) and np.size(answer) == 1:
        answer = np.asarray(answer).ravel()[0].item()
    if isinstance(answer, (numbers.Real, decimal.Decimal, np.number)):
        return float(answer)
    if isinstance(answer, str):
        raise DataError(f"Expected a number, got {kind_of(answer)}", "leave out the quotes")
    if callable(answer):
        raise DataError("Expected a number, got a function", "call it, or write the number")
    raise DataError(f"Expected one number, got {kind_of(answer)}", "give one number")


# --- Comparing one result with the reference's


def compare(
    yours: Any, reference: Any, *, rtol: float = 1e-6, atol: float = 0.0
) -> Comparison | None:
    """What differs between a reader's result and the reference's; None where nothing does.

    The reference decides the kind: numbers and arrays within ``rtol`` and ``atol``, dicts key by
    key, sets name by name.

    >>> compare([1, 2, 4], np.array([1, 2, 3])).differs
    '1 of 3 elements differ, first at [2]: 4 where the reference has 3'
    >>> compare({"x": 2.0}, {"x": 2.0, "y": 4.0}).differs
    "1 of 2 entries differ, first 'y'"
    """
    if isinstance(reference, dict):
        return _compare_dicts(yours, reference, rtol, atol)
    if isinstance(reference, set):
        return _compare_sets(yours, reference)
    words = _what_differs(yours, reference, rtol, atol)
    return Comparison(words, text(yours), text(reference)) if words else None


def _compare_dicts(
    yours: Any, reference: dict[Any, Any], rtol: float, atol: float
) -> Comparison | None:
    try:
        yours = dict(yours)  # pairs are a dict too
    except (TypeError, ValueError):
        return Comparison(f"{kind_of(yours)}, expected a dict", text(yours), "a dict")

    keys = {**reference, **yours}
    wrong = [k for k in keys if _what_differs(yours.get(k), reference.get(k), rtol, atol)]
    if not wrong:
        return None
    first = wrong[0]
    words = f"{len(wrong)} of {plural(len(reference), 'entry', 'entries')} differ, first {first!r}"
    values = [text(table.get(first, "no entry")) for table in (yours, reference)]
    return Comparison(words, values[0], values[1], first)


def _compare_sets(yours: Any, reference: set[Any]) -> Comparison | None:
    if isinstance(yours, str) or not isinstance(yours, Iterable):
        return Comparison(f"{kind_of(yours)}, expected a set of names", text(yours), "a set")
    wrong = sorted(map(str, reference ^ set(yours)))
    if not wrong:
        return None
    first, missing = wrong[0], wrong[0] in reference
    words = f"{first!r} is missing" if missing else f"{first!r} does not belong there"
    if len(wrong) > 1:
        words += f", and {len(wrong) - 1} more differ"
    yes, no = f"with {first!r}", f"without {first!r}"
    return Comparison(words, no if missing else yes, yes if missing else no, first)


def _what_differs(yours: Any, reference: Any, rtol: float, atol: float) -> str:
    """What differs between two numbers or arrays, in words; "" where nothing does."""
    if yours is None or yours is ...:
        return "returned nothing"
    expected = np.asarray(reference)
    try:
        got = np.asarray(yours)
        numeric = np.issubdtype(got.dtype, np.number) or got.dtype == bool
    except ValueError:
        return f"{kind_of(yours)} is no array"
    if expected.dtype == bool:
        expected = expected.astype(np.int64)
    if not np.issubdtype(expected.dtype, np.number):
        return "" if np.array_equal(got, expected) else "not the same"
    if not numeric:
        return f"{kind_of(yours)}, expected numbers"
    if got.shape != expected.shape:
        if not expected.ndim:
            return f"{kind_of(got)}, expected one number"
        return f"your result has the shape {list(got.shape)}, expected {list(expected.shape)}"
    got, expected = got.astype(np.float64), expected.astype(np.float64)
    same = np.isclose(got, expected, rtol=rtol, atol=atol, equal_nan=True)
    if same.all():
        return ""
    if expected.ndim == 0:
        ratio = f", {float(got) / float(expected):.4g} times the reference" if expected else ""
        return f"off by {float(got) - float(expected):.4g}{ratio}"
    where = np.unravel_index(int(np.argmin(same)), same.shape)
    place = ", ".join(str(int(index)) for index in where)
    head = f"{int((~same).sum())} of {same.size} elements differ, first at [{place}]"
    return f"{head}: {got[where]:.6g} where the reference has {expected[where]:.6g}"


# --- Judges


def judge_choice(
    answer: Any,
    *,
    right: str,
    because: str,
    objections: Mapping[str, str],
    otherwise: str = "look again",
) -> Verdict:
    """Judge one word. ``objections`` maps a wrong word to what speaks against it.

    >>> judge_choice("INT8", right="int8", because="the log says so", objections={}).passed
    True
    """
    if isinstance(answer, (list, tuple, set)) and len(answer) == 1:
        (answer,) = answer
    if not isinstance(answer, str):
        return Verdict("", False, f"Expected one word in quotes, got {kind_of(answer)}.")
    against = {_plain(key): why for key, why in objections.items()}
    if _plain(answer) == _plain(right):
        return Verdict("", True, f"{right}: {because}.")
    return Verdict("", False, f'Not "{cut(answer)}": {against.get(_plain(answer), otherwise)}.')


def _plain(word: str) -> str:
    return re.sub("[ _-]+", "-", word.strip().casefold())


Look = tuple[Mapping[str, object], Mapping[str, Any]]
"""Conditions in order, by name, and the facts for the words that go with them."""


def judge_case(answer: Any, *, look: Callable[[Any], Look], told: Mapping[str, str]) -> Verdict:
    """Judge by the first condition that holds: ``told`` has its words; "passed" is the right one.

    >>> judge_case(3, look=lambda x: ({"odd": x % 2, "passed": 1}, {"x": x}), told={"odd": "{x}?"})
    <Verdict: ✘ 3?>
    """
    conditions, facts = look(answer)
    key = next(key for key, holds in conditions.items() if holds)
    return Verdict("", key == "passed", told[key].format(**facts))


def judge_number(
    answer: Any,
    *,
    reference: Callable[[], float],
    common_mistakes: Mapping[str, Callable[[], float]] | None = None,
    rtol: float = 1e-4,
    unit: str = "",
) -> Verdict:
    """Judge one number.

    >>> mistakes = {"you forgot to halve it": lambda: 1.0}
    >>> judge_number(1.0, reference=lambda: 0.5, common_mistakes=mistakes).text
    'Not yet: you forgot to halve it.'
    """
    expected = float(reference())
    try:
        answer = one_number(answer)
    except DataError as problem:
        return Verdict("", False, f"{problem}.")
    wrong = compare(answer, expected, rtol=rtol)
    if not wrong:
        return Verdict("", True, f"{text(answer)} {unit}".rstrip() + " is right.")
    reasons = (
        reason
        for reason, mistake in (common_mistakes or {}).items()
        if compare(answer, float(mistake()), rtol=rtol) is None
    )
    return Verdict("", False, f"Not yet: {next(reasons, wrong.differs)}.")


@dataclass(frozen=True)
class Case:
    """One input for the reader's function and what it should return; named cases are all shown."""

    arguments: tuple[Any, ...]
    expected: Any
    name: str = ""


def call(function: Callable[..., Any], *arguments: Any) -> Any:
    """What a function gives for copies of the arguments; what it yields as a list."""
    result = function(*copy.deepcopy(arguments))
    return list(result) if isinstance(result, Iterator) else result


def random_cases(
    reference: Callable[..., Any],
    inputs: Callable[[np.random.Generator], tuple[Any, ...]],
    count: int = 6,
    name: str = "",
    real: Callable[[], Mapping[str, Any]] = dict,
) -> Callable[[], Iterator[Case]]:
    """Cases drawn again for each check: the first always from seed 0, the others from new seeds;
    then those of ``real``: a name -> the one argument.
    """

    def draw() -> Iterator[Case]:
        for index in range(count):
            arguments = inputs(np.random.default_rng(0 if index == 0 else None))
            yield Case(arguments, call(reference, *arguments), name)
        for what, argument in real().items():
            yield Case((argument,), reference(argument), what)

    return draw


def show_arguments(arguments: tuple[Any, ...], difference: Comparison | None) -> str:
    """The arguments of a case as text, whatever differs."""
    return "; ".join(map(text, arguments))


def judge_function(
    answer: Any,
    *,
    cases: Callable[[], Iterable[Case]],
    common_mistakes: Mapping[str, Callable[..., Any]] | None = None,
    compare: Callable[[Any, Any], Comparison | None] = compare,
    show_input: Callable[[tuple[Any, ...], Comparison | None], str] = show_arguments,
    right: str = "Right on {count} random inputs.",
) -> Verdict:
    """Judge code: run it on every case, show the first that differs, and name the likely mistake.

    ``common_mistakes`` maps a sentence to a function with that mistake: the first that gives the
    same on all cases is named. ``compare`` gives what differs between a result and the expected
    one; ``show_input`` writes a case's arguments, given what differs.
    """
    if not callable(answer):
        return Verdict("", False, f"Expected a function, got {kind_of(answer)}. Write it with def.")
    tried: list[tuple[Case, Any]] = []
    rows: list[Comparison] = []
    for case in cases():
        try:
            result = call(answer, *case.arguments)
        except Exception as problem:
            return Verdict("", False, f"Your code raised {raised(problem)}.")
        if not tried and (result is None or result is ...):
            return Verdict("", None, "Not answered yet: your function returns nothing.")
        tried.append((case, result))
        difference = compare(result, case.expected)
        where = case.name or cut(show_input(case.arguments, difference))
        row = difference or Comparison(NOTHING, text(result), text(case.expected))
        rows.append(dataclasses.replace(row, input=where))

    wrong = [row for row in rows if row.differs != NOTHING]
    shown_rows = tuple(rows if tried[0][0].name else (wrong or rows)[:1])
    if not wrong:
        return Verdict("", True, right.format(count=len(rows)), shown_rows)

    def gives_the_same(mistake: Callable[..., Any]) -> bool:
        return all(
            compare(result, call(mistake, *case.arguments)) is None for case, result in tried
        )

    reasons = (reason for reason, make in (common_mistakes or {}).items() if gives_the_same(make))
    reason = next(reasons, wrong[0].differs)
    head = f"Not yet, {len(wrong)} of {plural(len(rows), 'input')} differ"
    return Verdict("", False, f"{head}: {reason}.", shown_rows)
