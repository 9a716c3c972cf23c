"""Predict before you run: the question that stands above a measurement, with radio buttons."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from ..record import html_text
from ..show.controls import alert, guarded, ipywidgets, say, stack

__all__ = ["prediction_widget"]


def prediction_widget(
    question: str, options: Iterable[str], choice: str | None, save: Callable[[str], str]
) -> ipywidgets.Widget:
    """The question with radio buttons; ``save`` gets each choice and returns "" or what failed."""
    options = list(options)
    buttons = ipywidgets.RadioButtons(
        options=options,
        value=choice if choice in options else None,
        layout={"width": "max-content"},
    )
    note = say("")

    def show_choice() -> None:
        if buttons.value is None:
            note.value = "Choose one before you go on; the measurement below answers."
            return
        problem = save(buttons.value)
        words = alert(problem) if problem else "Saved. Go on: the measurement below answers."
        note.value = f'<span role="status">{words}</span>'

    on_choice = guarded(show_choice, note, clear=False)
    buttons.observe(on_choice, "value")
    on_choice()
    return stack(say(f"<b>Predict: {html_text(question)}</b>"), buttons, note)
