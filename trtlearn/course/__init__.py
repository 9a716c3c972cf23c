"""The notebooks' side: exercises, progress, questions, your own model, this machine.

Every notebook begins with ``from trtlearn.course import claim, exercise, setup``.
"""

from . import exercise
from .notebook import claim, setup

__all__ = ["claim", "exercise", "setup"]
