"""The first widget of the course: type a trtexec command, see which of six things it does, and what that gave."""

from __future__ import annotations

import html
import re
from collections.abc import Mapping
from typing import Any

from ..builds import Build
from ..engine.variants import ALGORITHMS, LABELS, VARIANTS
from ..errors import TrtlearnError
from ..record import show
from ..trtexec.options import trtexec_command
from ..trtexec.records import Step
from .controls import badge, guarded, ipywidgets, say, stack, table
from .theme import DTYPE_COLORS, INK, WARN

__all__ = ["MODES", "explainer_widget"]

MODES: dict[str, tuple[str, str]] = {
    "not-int8": ("No INT8 is asked for.", DTYPE_COLORS["fp32"]),
    "placeholder-ranges": (
        "INT8 with invented ranges: every tensor gets ±4 or ±2, whatever its data.",
        WARN,
    ),
    "random-calibration": ("INT8 calibrated on random noise instead of images.", WARN),
    "cached-scales": (
        "INT8 with the scales of a calibration cache: as good as whatever made the cache.",
        DTYPE_COLORS["int8"],
    ),
    "explicit-qdq": ("INT8 where the model's own Q/DQ nodes say so.", DTYPE_COLORS["int8"]),
    "rejected": ("This version of trtexec refuses the command.", DTYPE_COLORS["unknown"]),
}
"""Mode -> the answer in one sentence, and the colour of its frame."""


def explainer_widget(
    network: Any = None,
    command: str = "trtexec --onnx=resnet.onnx --int8",
    trt: str = "8.6",
) -> ipywidgets.Widget:
    """Type a trtexec command line: its mode, the steps with their sources, and what that mode measured.

    ``network`` (a Network, or a dict of them by model name) gives accuracy, latency, size and ranges,
    recorded or live; without it only the explanation is shown. Enter, or leaving the field, asks; a command that
    cannot be understood is answered below it with what is wrong.
    """
    from ..trtexec.sources import known_versions

    wide, style = {"width": "98%"}, {"description_width": "5em"}
    text = ipywidgets.Text(
        command, description="command", continuous_update=False, layout=wide, style=style
    )
    version = ipywidgets.Dropdown(
        options=list(known_versions()), value=trt, description="TensorRT", style=style
    )
    examples = ipywidgets.Dropdown(
        options=[
            ("or pick a command …", ""),
            *((words, line) for words, line in _examples().items()),
        ],
        description="examples",
        layout={"width": "max-content", "max_width": "98%"},
        style=style,
    )
    cache = ipywidgets.Dropdown(
        options=[("is there", True), ("is missing", False)],
        description="if --calib is given, its file",
        style={"description_width": "max-content"},
    )
    problem, answer = say(""), say("")

    def ask() -> None:
        answer.value = ""
        answer.value = answer_html(text.value, version.value, cache.value, network)

    def pick() -> None:
        if examples.value:
            cache.value = "missing" not in examples.value
            text.value = examples.value

    for control in (text, version, cache):
        control.observe(guarded(ask, problem), "value")
    examples.observe(guarded(pick, problem, clear=False), "value")
    guarded(ask, problem)()
    row = ipywidgets.HBox([version, cache, examples], layout={"flex_flow": "row wrap"})
    return stack(text, row, problem, answer)


def _examples() -> dict[str, str]:
    shown = (
        "fp32",
        "fp16",
        "int8-placeholder",
        "int8-random",
        "int8-entropy2",
        "int8-minmax",
        "int8-fp16",
    )
    return {LABELS[name]: trtexec_command(name, "resnet") for name in shown if name in VARIANTS}


def course_model(command: str) -> str | None:
    """Which of the course's networks the command's --onnx names, by the file's name alone; None where none.

    >>> course_model("trtexec --onnx=/some/where/mobile.onnx"), course_model("trtexec --onnx=other.onnx")
    ('mobile', None)
    """
    from ..model.course_data import MODELS

    named = re.search(r"--onnx[= ](?:\S*/)?([\w.-]+)\.onnx\b", command)
    return named[1] if named and named[1] in MODELS else None


def answer_html(command: str, version: str, cache_exists: bool, network: Any = None) -> str:
    """The whole answer to one command as HTML: what the widget shows."""
    from ..model.course_data import model_path
    from ..trtexec.explanation import explain
    from ..trtexec.options import variant_of

    ours = course_model(command)
    said = explain(
        command, trt=version, model=model_path(ours) if ours else None, cache_exists=cache_exists
    )
    if isinstance(network, Mapping):
        network = network.get(ours) if ours else None
    elif network is not None and network.name != ours:
        network = None
    color, sentence = MODES[said.mode][1], MODES[said.mode][0]
    parts = [f'<p style="font-size:1.15em">{badge(said.mode, color)} {html.escape(sentence)}</p>']
    known = variant_of(said)
    any_cache = (
        said.mode == "cached-scales" and not said.fp16 and str(known) not in (said.cache or "")
    )
    parts.append(
        measured_html(
            network, tuple(f"int8-{name}" for name in ALGORITHMS) if any_cache else (known,)
        )
    )
    parts.append(table(said.details()))
    steps = "".join(f"<li>{step_html(step)}</li>" for step in said.steps)
    parts.append(
        f"<details><summary>The {len(said.steps)} steps in trtexec's source</summary><ol>{steps}</ol></details>"
    )
    return f'<div role="status">{"".join(parts)}</div>'


def step_html(step: Step) -> str:
    """One step: what trtexec does, why, and the lines that do it."""
    link = ""
    if step.source:
        href = html.escape(step.source.url, quote=True)
        link = f'<br><small><a href="{href}" target="_blank">{html.escape(step.source.summary())}</a></small>'
    return f"{html.escape(step.text)}, because {html.escape(step.condition)}{link}"


def measured_html(network: Any, variants: tuple[str | None, ...]) -> str:
    """What the variants measured beside FP32, as HTML; says so where nothing was measured."""
    found = [name for name in variants if network is not None and name in network.variants]
    if not found:
        return f'<p style="color:{INK}">This course has no measurement of exactly this command.</p>'
    try:
        runs = [network.build(name) for name in (*found, *({"fp32"} - set(found)))]
    except TrtlearnError as problem:
        return f"<p>{html.escape(str(problem))}</p>"
    here = runs[0]
    rows = [(LABELS.get(one.variant, one.variant), *facts_of(one)) for one in runs]
    head = (
        "build",
        "test images right",
        "median latency",
        "plan size",
        "engine layers with INT8 weights",
    )
    ranges = here.ranges.tensors if here.ranges else here.build.scales
    title = f"Measured on {here.model}: {here.provenance.label()}"
    shown = f"<p><b>{html.escape(title)}</b></p>{table(rows, head)}"
    if not ranges or len(found) > 1:
        return shown
    listing = table([(t.name, f"±{show(t.amax)}", t.scale, t.source) for t in ranges], RANGE_HEAD)
    return f"{shown}<details><summary>Its {len(ranges)} ranges, tensor by tensor</summary>{listing}</details>"


RANGE_HEAD = ("tensor", "range", "scale", "from")


def facts_of(experiment: Build) -> tuple[str | int | None, ...]:
    """Accuracy, latency, size and INT8 layers of one experiment, with units."""
    answers, timing, size = experiment.predictions, experiment.timing, experiment.build.plan_bytes
    return (
        f"{100 * answers.accuracy:.1f} % of {answers.count}" if answers else None,
        f"{timing.median_ms:.4f} ms per batch of {timing.batch}" if timing else None,
        f"{size / 1000:,.0f} kB" if size else None,
        len(experiment.engine.int8),
    )
