"""A plotly figure that moves: FigureWidget, drawn also where the page loads slowly."""

from __future__ import annotations

from copy import deepcopy
from functools import cache
from pathlib import Path
from typing import Any

from ..errors import TrtlearnError
from .controls import ipywidgets
from .draw import Style

__all__ = ["figure_widget", "redraw"]

SCRIPT = Path(__file__).with_name("live_figure.js").read_text(encoding="utf-8")
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
