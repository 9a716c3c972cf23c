"""What every notebook rests on: ``setup()`` says what runs here, ``claim()`` checks each fact."""

from __future__ import annotations

import os
import platform
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from .. import __version__
from ..errors import LiveUnavailable, TrtlearnError
from ..files import load_table
from ..live import trt
from ..record import Record, html_text, show
from .doctor import installed

if TYPE_CHECKING:
    from ..networks import Network

__all__ = ["NOTEBOOKS", "TAGS", "ClaimError", "Setup", "claim", "setup"]

NOTEBOOKS: dict[str, tuple[str, str]] = {
    number: (row["file"], row["title"]) for number, row in load_table("notebooks").items()
}
"""Number -> (file in notebooks/, title), in course order."""

TAGS = ("documented", "measured", "inferred")


class ClaimError(TrtlearnError):
    """A claim of the course that does not hold on this machine."""


@dataclass(frozen=True)
class Setup(Record):
    """What this notebook runs on."""

    state: str  # live or recorded
    label: str
    why: str  # why not live, if so
    versions: dict[str, str | None]

    def summary(self) -> str:
        because = f" ({self.why})" if self.why else ""
        return f"{self.state}: results are {self.label}{because}"

    def rows(self) -> list[dict[str, Any]]:
        return []

    def __str__(self) -> str:
        versions = ", ".join(f"{name} {show(version)}" for name, version in self.versions.items())
        return f"{self.summary()}\n{versions}"

    def _repr_html_(self) -> str:
        first, second = (html_text(line) for line in str(self).split("\n", 1))
        mark = "●" if self.state == "live" else "◉"
        return f"<p><b>{mark} {first}</b><br>{second}</p>"


def setup(network: Network | None = None) -> Setup:
    """The versions, and whether what follows is built here ("live") or replayed ("recorded").

    ``network`` is what ``tl.network(name)`` gave; without one the notebook computes everything in
    numpy.
    """
    versions = {
        "trtlearn": __version__,
        "Python": platform.python_version(),
        "numpy": installed("numpy"),
        "plotly": installed("plotly"),
    }
    if network is None:
        if not why_recorded():
            _begin_lesson()
        return Setup("live", "computed here, on this machine's CPU", "", versions)
    if not network.recorded:
        _begin_lesson()
        return Setup("live", network.label, "", versions)
    return Setup("recorded", network.label, why_recorded() or "as you asked", versions)


def _begin_lesson() -> None:
    """In a notebook: recorded engines are shown until the reader's own are built."""
    try:
        from IPython.display import display

        from .lesson import begin
    except ImportError:
        return  # no notebook: builds are waited for
    if (lesson := begin()) is not None:
        display(lesson.panel)  # type: ignore[no-untyped-call]


def why_recorded() -> str:
    """Why this machine replays recordings; "" where it builds its own engines."""
    try:
        trt.live()
    except LiveUnavailable as problem:
        return f"not live: {problem.problem}"
    return "as TRTLEARN_MODE asks" if os.environ.get("TRTLEARN_MODE") == "recorded" else ""


def claim(holds: object, text: str, tag: str = "measured", source: str = "") -> None:
    """Print a fact with its tag and source, checked: ClaimError where ``holds`` is not true.

    On a machine that builds its own engines a measured fact may come out differently, as TensorRT's
    choices do: then the claim says so, and the notebook goes on.

    ``tag``: documented (a document or source says so), measured (seen in a run) or inferred
    (reasoning).

    >>> claim(abs(4 / 127 - 0.0315) < 1e-4, "±4: scale 0.0315", "documented", "v8.6.1:SE:459")
    ✔ ±4: scale 0.0315 [documented: v8.6.1:SE:459]
    """
    if tag not in TAGS:
        raise TrtlearnError(f"tag {tag!r}", f"use one of {', '.join(TAGS)}")
    fact = f"{text} [{tag}{': ' + source if source else ''}]"
    if holds:
        print(f"✔ {fact}")
        return
    failure = f"✘ does not hold on this machine: {fact}"
    if tag != "measured" or why_recorded():
        raise ClaimError(failure, "compare the versions above with the recording's")
    print(failure)
    print("  It held for the recorded engines. TensorRT built others here: see notebook 06.")
