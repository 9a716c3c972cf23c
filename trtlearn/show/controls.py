"""What controls are made of: text, alerts, redrawing; every callback's error reaches the reader."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
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

__all__ = ["alert", "badge", "guarded", "ipywidgets", "move_ends", "say", "stack", "wired"]

KEYS = """
function render({ el }) {
  el.style.display = "none";
  if (!document.getElementById("trtlearn-style")) {
    const style = document.createElement("style");
    Object.assign(style, { id: "trtlearn-style", textContent: STYLE });
    document.head.append(style);
  }
  const mark = () => {
    const box = el.closest(".widget-vbox");
    if (!box) { requestAnimationFrame(mark); return; }
    box.addEventListener("focusin", (event) => {
      event.target.setAttribute("data-lm-suppress-shortcuts", "true");
      if (event.target.matches(".widget-readout")) event.target.contentEditable = "false";
    });
    for (const text of box.querySelectorAll(".widget-html")) {
      text.setAttribute("aria-live", "polite");
    }
    if (box.querySelector(".js-plotly-plot")) widen();
  };
  const widen = () => window.dispatchEvent(new Event("resize"));
  const drawn = ({ detail }) => {
    if (el.closest(".widget-vbox")?.contains(detail.element)) widen();
  };
  document.addEventListener("plotlywidget-after-render", drawn);
  mark();
  return () => document.removeEventListener("plotlywidget-after-render", drawn);
}
export default { render };
"""
"""In the browser: keys stay in their control, changed text is read aloud, figures fill the page.

Without the mark JupyterLab takes the arrow keys from lists and radio buttons and moves to another
cell. It looks for the mark from the focused element upwards and stops at the first match of its
own, so each control needs it (@lumino/commands; measured in JupyterLab 4.6 by
tests/course/test_browser.py). A FigureWidget is drawn before it has a place on the page, 700 pixels
wide, and looks at its place again only when the window is resized (plotly 6).
"""

STYLE = """
.jp-OutputArea-output.jp-RenderedText pre { word-break: normal; overflow-wrap: break-word; }
body[data-jp-theme-light="false"] .widget-dropdown > select {
  background-image: url("data:image/svg+xml,%3Csvg xmlns='http://www.w3.org/2000/svg' \
viewBox='0 0 18 18'%3E%3Cpath fill='%23ddd' d='M5 7l4 4 4-4z'/%3E%3C/svg%3E");
}
.widget-readout { pointer-events: none; }
.trtlearn-cache textarea {
  font-family: var(--jp-code-font-family, monospace); white-space: pre;
  overflow-x: auto; line-height: 1.25;
}
"""
"""For the page: printed lines break between words, a list's arrow is light where the page is dark,
a slider's number is no field (it would clamp or drop what is typed), a cache has the font of code.
"""


def stack(*children: ipywidgets.Widget) -> ipywidgets.VBox:
    """Controls, texts and figures below each other, usable by keyboard."""
    try:
        import anywidget
    except ImportError:
        return ipywidgets.VBox(list(children))
    return ipywidgets.VBox(
        [*children, anywidget.AnyWidget(_esm=f"const STYLE = {json.dumps(STYLE)};\n{KEYS}")]
    )


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
    action: Callable[[], None], *controls: ipywidgets.Widget, shown: Sequence[ipywidgets.Widget]
) -> ipywidgets.VBox:
    """The controls, a place for an error, and what they show; each control calls ``action``."""
    problem = say("")
    run = guarded(action, problem)
    for control in controls:
        control.observe(run, "value")
    run()
    return stack(*controls, problem, *shown)


def move_ends(fig: Any, *places: float) -> None:
    """Move the dashed lines of a figure, in the order in which they were drawn."""
    for shape, place in zip(fig.layout.shapes, places, strict=False):
        shape.x0 = shape.x1 = place
