"""What is asked before a measurement, and how an answer is judged: yours beside the reference, and what differs."""

from __future__ import annotations

import html
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..record import Record

__all__ = ["Case", "Prediction", "Verdict", "choice", "function", "number"]

SHOWN = 8  # elements of an array that a verdict shows


@dataclass(frozen=True)
class Prediction:
    """A question asked before the measurement: ``options`` to choose from, nothing is right or wrong yet."""

    id: str
    question: str
    options: tuple[str, ...]


@dataclass(frozen=True)
class Case(Record):
    """One input with both results, as text."""

    given: str
    yours: str
    reference: str
    differs: str


@dataclass(frozen=True)
class Verdict(Record):
    """Passed (True), not passed (False) or not answered yet (None), and why."""

    id: str
    passed: bool | None
    text: str
    cases: tuple[Case, ...] = ()
    kept: str = ""  # why the progress could not be kept, if so
    surprise: bool = False  # a prediction that the measurement did not bear out: no mistake

    def summary(self) -> str:
        mark = {True: "✔ ", False: "✘ ", None: "○ "}[self.passed]
        return (
            ("≠ " if self.surprise else mark) + self.text + (f" ({self.kept})" if self.kept else "")
        )

    def rows(self) -> list[dict[str, Any]]:
        return [
            {
                "input": c.given,
                "yours": c.yours,
                "reference": c.reference,
                "what differs": c.differs,
            }
            for c in self.cases
        ]

    def _repr_html_(self) -> str:
        color = (
            "#7f7f7f"
            if self.passed is None or self.surprise
            else "#2f7fc1"
            if self.passed
            else "#d9601a"
        )
        head = html.escape(self.summary())
        table = super()._repr_html_().split("</p>", 1)[1] if self.cases else ""
        style = f"border-left:4px solid {color};padding-left:8px"
        return f'<div role="status" style="{style}"><p><b>{head}</b></p>{table}</div>'


NOTHING = Verdict("", None, "Not answered yet: your function returns nothing.")
"""Where a function that the reader is to write still returns None or ``...``."""


def no_function(answer: Any) -> Verdict:
    """Where the answer should be a function and is none."""
    return Verdict("", False, f"Expected a function, got {type(answer).__name__}.")


def raised(problem: Exception, given: str, wanted: Any) -> Verdict:
    """Where the reader's function raised ``problem``."""
    said = f"raised {type(problem).__name__}: {problem}"
    return Verdict("", False, f"Your code {said}.", (Case(given, said, text(wanted), "it raised"),))


def text(value: Any) -> str:
    """A value as short text: arrays by their first elements and shape."""
    if isinstance(value, np.ndarray) and value.ndim:
        flat = ", ".join(f"{item:.6g}" for item in value.ravel()[:SHOWN].tolist())
        more = ", …" if value.size > SHOWN else ""
        return f"[{flat}{more}] {value.dtype}{list(value.shape)}"
    if isinstance(value, (float, np.floating)):
        return f"{float(value):.7g}"
    return str(value)


def difference(yours: Any, reference: Any, rtol: float, atol: float) -> str:
    """What differs, in words; "" where nothing does. ``reference`` decides shape and kind.

    >>> difference([1, 2, 4], np.array([1, 2, 3]), 0, 0)
    '1 of 3 elements differ, first at [2]: 4 where the reference has 3'
    """
    if yours is None or yours is ...:
        return "returned nothing"
    wanted = np.asarray(reference)
    try:
        got = np.asarray(yours)
        numeric = np.issubdtype(got.dtype, np.number) or got.dtype == bool
    except ValueError:
        return f"{type(yours).__name__} is no array"
    if not np.issubdtype(wanted.dtype, np.number):
        return "" if got.shape == wanted.shape and bool(np.all(got == wanted)) else "not the same"
    if not numeric:
        return f"{type(yours).__name__}, expected numbers"
    if got.shape != wanted.shape:
        return f"shape {list(got.shape)}, expected {list(wanted.shape)}"
    same = np.isclose(
        got.astype(np.float64), wanted.astype(np.float64), rtol=rtol, atol=atol, equal_nan=True
    )
    if same.all():
        return ""
    if wanted.ndim == 0:
        ratio = f", {float(got) / float(wanted):.4g} times the reference" if wanted else ""
        return f"off by {float(got) - float(wanted):.4g}{ratio}"
    where = np.unravel_index(int(np.argmin(same)), same.shape)
    place = ", ".join(str(int(index)) for index in where)
    head = f"{int((~same).sum())} of {same.size} elements differ, first at [{place}]"
    return f"{head}: {got[where]:.6g} where the reference has {wanted[where]:.6g}"


def number(
    reference: Callable[[], float],
    *,
    rtol: float = 1e-4,
    unit: str = "",
    slips: Mapping[str, Callable[[], float]] | None = None,
) -> Callable[[Any], Verdict]:
    """A checker for one number. ``slips`` maps an explanation to the value that a known mistake gives.

    >>> number(lambda: 0.5, slips={"you forgot to halve it": lambda: 1.0})(1.0).text
    'Not yet: you forgot to halve it.'
    """

    def checker(answer: Any) -> Verdict:
        wanted = float(reference())
        differs = difference(answer, wanted, rtol, 0)
        case = Case("", text(answer), f"{text(wanted)} {unit}".strip(), differs or "nothing")
        if not differs:
            return Verdict("", True, f"{text(answer)} {unit}".rstrip() + " is right.", (case,))
        for why, value in (slips or {}).items():
            if not difference(answer, float(value()), rtol, 0):
                return Verdict("", False, f"Not yet: {why}.", (case,))
        return Verdict("", False, f"Not yet: {differs}.", (case,))

    return checker


def choice(
    right: str, because: str, *, wrong: Mapping[str, str] | None = None
) -> Callable[[Any], Verdict]:
    """A checker for one word. ``wrong`` maps a wrong answer to what speaks against it.

    >>> choice("int8", "the log says so")("INT8").passed
    True
    """

    def checker(answer: Any) -> Verdict:
        said = str(answer).strip()
        if said.casefold() == right.casefold():
            return Verdict("", True, f"{right}: {because}.")
        against = {key.casefold(): why for key, why in (wrong or {}).items()}.get(
            said.casefold(), "look again"
        )
        return Verdict("", False, f'Not "{said}": {against}.')

    return checker


def function(
    reference: Callable[..., Any],
    inputs: Callable[[np.random.Generator], tuple[Any, ...]],
    *,
    cases: int = 6,
    rtol: float = 1e-6,
    atol: float = 0.0,
    same_dtype: bool = False,
    slips: Mapping[str, Callable[..., Any]] | None = None,
) -> Callable[[Any], Verdict]:
    """A checker for code: runs it on fresh random inputs beside the reference, and shows where they part.

    ``inputs(rng)`` gives the arguments of one case; the first case always comes from seed 0, the others from new
    seeds. ``slips`` maps an explanation to a function with a known mistake: the first that gives what the reader's
    gives is named.
    """

    def checker(answer: Any) -> Verdict:
        if not callable(answer):
            return no_function(answer)
        shown: list[Case] = []
        ran: list[tuple[tuple[Any, ...], Any]] = []
        wrong = 0
        for index in range(cases):
            arguments = inputs(np.random.default_rng(0 if index == 0 else None))
            wanted = reference(*arguments)
            given = "; ".join(map(text, arguments))
            try:
                copies = [a.copy() if isinstance(a, np.ndarray) else a for a in arguments]
                got = answer(*copies)
            except Exception as problem:
                return raised(problem, given, wanted)
            if index == 0 and (got is None or got is ...):
                return NOTHING
            differs = difference(got, wanted, rtol, atol)
            if not differs and same_dtype and np.asarray(got).dtype != np.asarray(wanted).dtype:
                differs = f"dtype {np.asarray(got).dtype}, expected {np.asarray(wanted).dtype}"
            ran.append((arguments, got))
            wrong += bool(differs)
            if len(shown) < 3 and (differs or index == 0):
                yours = got if isinstance(got, np.ndarray) or np.isscalar(got) else np.asarray(got)
                shown.append(Case(given, text(yours), text(wanted), differs or "nothing"))
        if not wrong:
            return Verdict("", True, f"Right on {cases} random inputs.", tuple(shown[:1]))
        why = next((why for why, slip in (slips or {}).items() if _like(slip, ran, rtol, atol)), "")
        told = f": {why}" if why else ""
        return Verdict(
            "", False, f"Not yet, {wrong} of {cases} random inputs differ{told}.", tuple(shown)
        )

    return checker


def _like(
    slip: Callable[..., Any], ran: list[tuple[tuple[Any, ...], Any]], rtol: float, atol: float
) -> bool:
    return all(not difference(got, slip(*arguments), rtol, atol) for arguments, got in ran)
