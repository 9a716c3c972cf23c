"""The notebooks' side: exercises, progress, questions, your own model, this machine.

Every notebook begins with ``from trtlearn.course import claim, exercise, setup``; those that
compute take numpy along, as ``np``.
"""

from typing import Any

import numpy as np

from . import exercise
from .notebook import claim, setup

__all__ = ["claim", "exercise", "np", "own_model_form", "setup"]


def __getattr__(name: str) -> Any:
    if name != "own_model_form":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from .own_model.widget import own_model_form  # needs ipywidgets

    return own_model_form
