"""What controls are made of: text, alerts, figures that move; every callback's error is shown."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Sequence
from copy import deepcopy
from functools import cache
from pathlib import Path
from typing import Any

from ..errors import TrtlearnError
from ..record import html_text
from .draw import BAD, INK, Style

try:
    import ipywidgets as ipywidgets  # noqa: PLC0414 (the other modules take it from here)
except ModuleNotFoundError as missing:
    raise ModuleNotFoundError(
        "widgets need ipywidgets. Try: pip install 'trtlearn[lab]'", name=missing.name
    ) from None

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


# --- A plotly figure that moves: FigureWidget, drawn also where the page loads slowly.

SCRIPT = _file("live_figure.js")
"""Runs in the browser: plotly.js is loaded once for all figures."""


@cache
def _plotly_js(script: str) -> ipywidgets.Widget:
    """The hidden widget that holds plotly.js, one a kernel."""
    return ipywidgets.HTML(script)


@cache
def _live(base: Any) -> Any:
    """A FigureWidget that opens when it gets its place on the page, with all that it shows."""
    import traitlets

    class LiveFigure(base):  # type: ignore[misc]
        _esm = SCRIPT
        _plotly_id = traitlets.Unicode().tag(sync=True)
        is_placed = False

        def open(self) -> None:
            if self.is_placed:
                super().open()

        @property
        def model_id(self) -> Any:
            if not self.is_placed:
                self.is_placed = True
                self._plotly_id = _plotly_js(str(base._esm)).model_id
                self.send_whole()
                self.open()
                self.on_msg(self.answer)
            return super().model_id

        def _repr_mimebundle_(self, *args: Any, **keywords: Any) -> Any:
            return self.model_id and super()._repr_mimebundle_(*args, **keywords)

        def send_whole(self) -> None:
            self._widget_data = deepcopy(self._data)
            self._widget_layout = deepcopy(self._layout_obj._props)

        def answer(self, _widget: Any, content: Any, _buffers: Any) -> None:
            if isinstance(content, dict) and content.get("trtlearn") == "whole":
                self.send_whole()
                self.send({"trtlearn": "sent"})

    return LiveFigure


def figure_widget(fig: Any) -> Any:
    """``fig`` as a plotly FigureWidget; TrtlearnError where anywidget is missing."""
    import plotly.graph_objects as go

    try:
        widget = _live(go.FigureWidget)(fig)
    except ImportError:
        raise TrtlearnError(
            "moving figures need the package anywidget", "pip install 'trtlearn[lab]'"
        ) from None
    settings: Style = {"responsive": True, "displaylogo": False, "showSendToCloud": False}
    widget._config = {**widget._config, **settings}
    return widget


def redraw(widget: Any, fig: Any) -> None:
    """Show ``fig`` in ``widget``, a FigureWidget, whatever it showed before.

    A new FigureWidget for each picture would be a new place on the page. The page keeps what the
    new layout does not name, such as the axes of a panel that is gone, so these are cleared.
    """
    for name in set(widget.layout.to_plotly_json()) - set(fig.layout.to_plotly_json()):
        widget.layout[name] = None
    widget.data = ()
    widget.add_traces(fig.data)
    widget.layout = fig.layout
