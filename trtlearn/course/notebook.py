"""What every notebook begins with and rests on: ``setup()`` says what runs here, ``claim()`` checks each fact."""

from __future__ import annotations

import platform
from dataclasses import dataclass
from importlib import metadata
from typing import TYPE_CHECKING, Any

from .. import __version__
from ..errors import LiveUnavailable, TrtlearnError
from ..record import Record, show

if TYPE_CHECKING:
    from ..networks import Network

__all__ = ["NOTEBOOKS", "TAGS", "ClaimError", "Setup", "claim", "setup"]

NOTEBOOKS: dict[str, tuple[str, str]] = {
    "00": ("00_what_int8_does.ipynb", "What does --int8 actually do?"),
    "01": ("01_a_number_in_eight_bits.ipynb", "A number in eight bits"),
    "02": ("02_bare_int8.ipynb", "Bare --int8"),
    "03": ("03_what_a_calibrator_does.ipynb", "What a calibrator does"),
    "04": ("04_the_calibration_cache.ipynb", "The calibration cache"),
    "05": ("05_where_weights_become_int8.ipynb", "Where the weights become INT8"),
    "06": ("06_which_layers_run_int8.ipynb", "Which layers really run INT8"),
    "07": ("07_size_speed_accuracy.ipynb", "Size, speed, accuracy"),
    "08": ("08_qdq_and_tensorrt_11.ipynb", "Q/DQ and TensorRT 11"),
    "09": ("09_bring_your_own_model.ipynb", "Bring your own model"),
}
"""Number -> (file in notebooks/, title), in course order."""

TAGS = ("documented", "measured", "inferred")


class ClaimError(TrtlearnError):
    """A claim of the course that does not hold here."""


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
        import html

        first, second = (html.escape(line) for line in str(self).split("\n", 1))
        mark = "●" if self.state == "live" else "◉"
        return f"<p><b>{mark} {first}</b><br>{second}</p>"


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


_live = {"built": False}  # what setup() was told: whether this notebook builds its engines


def setup(network: Network | None = None) -> Setup:
    """Versions, and whether what follows is built here ("live") or replayed ("recorded").

    ``network`` is what ``tl.network(name)`` gave; without one the notebook computes everything in numpy.
    """
    versions = {"trtlearn": __version__, "Python": platform.python_version()}
    found: dict[str, str | None] = {
        **versions,
        **{name: _version(name) for name in ("numpy", "plotly")},
    }
    _live["built"] = network is not None and not network.recorded
    if network is None:
        return Setup("live", "computed here, on this machine's CPU", "", found)
    why = ""
    if network.recorded:
        try:
            from ..live.trt import live

            live()
            why = "as TRTLEARN_MODE asks"
        except LiveUnavailable as problem:
            why = f"not live: {problem.problem}"
    return Setup("recorded" if network.recorded else "live", network.label, why, found)


def claim(holds: object, text: str, tag: str = "measured", source: str = "") -> None:
    """Print a fact with its tag and source, checked: ClaimError where ``holds`` is not true.

    In a notebook that builds its engines a measured fact may come out differently, as TensorRT's choices do: then it is
    printed as not so here, and the notebook goes on.

    ``tag``: documented (somebody's document or source says so), measured (seen in a run) or inferred (reasoning).

    >>> claim(abs(4 / 127 - 0.0315) < 1e-4, "±4 is a scale of 0.0315", "documented", "v8.6.1:SE:459-505")
    ✔ ±4 is a scale of 0.0315 [documented: v8.6.1:SE:459-505]
    """
    if tag not in TAGS:
        raise TrtlearnError(f"tag {tag!r}", f"use one of {', '.join(TAGS)}")
    says = f"{text} [{tag}{': ' + source if source else ''}]"
    if not bool(holds) and tag == "measured" and _live["built"]:
        print(
            f"✘ not so here: {says}\n  It held for the recorded engines. TensorRT built others here: see notebook 06."
        )
        return
    if not bool(holds):
        raise ClaimError(
            f"✘ does not hold here: {says}", "compare the versions above with the recording's"
        )
    print(f"✔ {says}")
