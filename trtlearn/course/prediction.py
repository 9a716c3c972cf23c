"""Predict before you run: the question that stands above a measurement, with radio buttons."""

from __future__ import annotations

import html

from ..course import progress
from ..show.controls import alert, guarded, ipywidgets, say, stack
from .verdict import Prediction

__all__ = [
    "prediction_widget",
]


def prediction_widget(prediction: Prediction, answer: str | None = None) -> ipywidgets.Widget:
    """The question with radio buttons; a choice is kept in the reader's progress and can be changed."""
    buttons = ipywidgets.RadioButtons(
        options=list(prediction.options),
        value=answer if answer in prediction.options else None,
        layout={"width": "max-content"},
    )
    note = say("")

    def keep() -> None:
        if buttons.value is None:
            note.value = "Choose one before you go on; the measurement below answers."
            return
        problem = progress.note(prediction.id, answer=buttons.value)
        kept = alert(problem) if problem else "Kept. Go on: the measurement below answers."
        note.value = f'<span role="status">{kept}</span>'

    buttons.observe(guarded(keep, note, clear=False), "value")
    guarded(keep, note, clear=False)()
    return stack(say(f"<b>Predict: {html.escape(prediction.question)}</b>"), buttons, note)
