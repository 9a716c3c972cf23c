"""What controls are made of: text, alerts, redrawing; every callback's error reaches the reader."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from ..errors import TrtlearnError
from ..record import html_text
from .theme import BAD, INK

try:
    import ipywidgets
except ModuleNotFoundError as missing:
    raise ModuleNotFoundError(
        "widgets need ipywidgets. Try: pip install 'trtlearn[lab]'", name=missing.name
    ) from None

__all__ = [
    "FITTED",
    "alert",
    "badge",
    "beside",
    "button",
    "guarded",
    "ipywidgets",
    "move_ends",
    "moving",
    "say",
    "stack",
    "switch",
    "wired",
]

FITTED = {"width": "max-content", "max_width": "98%"}
"""The layout of what is as wide as its text."""


def _file(name: str) -> str:
    return Path(__file__).with_name(name).read_text(encoding="utf-8")


PAGE = f"const STYLE = {json.dumps(_file('controls.css'))};\n{_file('controls.js')}"
"""Runs in the browser beside every stack."""


def stack(*children: ipywidgets.Widget) -> ipywidgets.VBox:
    """Controls, texts and figures below each other, usable by keyboard."""
    try:
        import anywidget
    except ImportError:
        return ipywidgets.VBox(list(children))
    return ipywidgets.VBox([*children, anywidget.AnyWidget(_esm=PAGE)])


def say(text: str) -> ipywidgets.HTML:
    """A piece of HTML text that wraps."""
    return ipywidgets.HTML(text, layout={"width": "98%", "overflow": "visible"})


def alert(problem: object) -> str:
    """An error, for the eye, the ear and the colour-blind: words, a sign and role="alert"."""
    style = f"border-left:4px solid {BAD};padding-left:8px"
    return f'<div role="alert" style="{style}">✘ {html_text(str(problem))}</div>'


def badge(text: str, color: str = INK) -> str:
    """A word in a coloured frame."""
    style = f"border:2px solid {color};border-radius:4px;padding:1px 8px;font-weight:bold"
    return f'<span style="{style}">{html_text(text)}</span>'


def guarded(
    action: Callable[[], None], problem: ipywidgets.HTML, *, clear: bool = True
) -> Callable[..., None]:
    """``action`` as a callback: an error goes into ``problem``; success empties it."""

    def run(*_: Any) -> None:
        try:
            action()
        except TrtlearnError as error:
            problem.value = alert(error)
        except Exception as error:
            problem.value = alert(
                f"{type(error).__name__}: {error}. This is a fault of the course: please report it"
            )
        else:
            if clear:
                problem.value = ""

    return run


def wired(
    action: Callable[[], None],
    *controls: ipywidgets.Widget,
    shown: Sequence[ipywidgets.Widget],
    row: bool = False,
) -> ipywidgets.VBox:
    """The controls, in a ``row`` or below each other, a place for an error, and what they show;
    each control calls ``action``.
    """
    problem = say("")
    run = guarded(action, problem)
    for control in controls:
        control.observe(run, "value")
    run()
    return stack(*([beside(*controls)] if row else controls), problem, *shown)


def moving(
    action: Callable[[], str],
    *controls: ipywidgets.Widget,
    shown: Sequence[ipywidgets.Widget],
    row: bool = False,
) -> ipywidgets.VBox:
    """Controls above the moving figures in ``shown``: ``action`` changes these, which the page gets
    as one change, and returns the words that stand above them.
    """
    figures = [widget for widget in shown if hasattr(widget, "batch_update")]
    text = say("")

    def run() -> None:
        with contextlib.ExitStack() as change:
            for fig in figures:
                change.enter_context(fig.batch_update())
            words = action()
        text.value = words

    above = [widget for widget in shown if not hasattr(widget, "batch_update")]
    return wired(run, *controls, shown=(*above, text, *figures), row=row)


def button(text: str, press: Callable[[], None]) -> ipywidgets.Button:
    """A button as wide as its text."""
    one = ipywidgets.Button(description=text, layout=FITTED)
    one.on_click(lambda _: press())
    return one


def switch(text: str, width: str = "9em") -> ipywidgets.Checkbox:
    """A switch that is off."""
    return ipywidgets.Checkbox(False, description=text, indent=False, layout={"width": width})


def beside(*children: ipywidgets.Widget) -> ipywidgets.Box:
    """Controls in a row that wraps."""
    return ipywidgets.Box(children, layout={"flex_flow": "row wrap", "width": "98%"})


def move_ends(fig: Any, *places: float) -> None:
    """Move the dashed lines of a figure, in the order in which they were drawn."""
    for shape, place in zip(fig.layout.shapes, places, strict=False):
        shape.x0 = shape.x1 = place
