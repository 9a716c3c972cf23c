"""The first control: type a trtexec command, see which of six things it does, what that gave."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import PurePath
from typing import Any

from ..builds import Build
from ..engine.records import ALGORITHMS, LABELS, VARIANTS, variant_options
from ..errors import TrtlearnError
from ..files import load_table, shell_command
from ..model.course_data import MODELS, model_path
from ..record import html_table, html_text, plural, show
from ..trtexec.explanation import Explanation, explain
from ..trtexec.sources import known_versions, resolve
from .controls import FITTED, badge, guarded, ipywidgets, say, stack
from .draw import DTYPE_COLORS, INK, WARN

__all__ = ["explainer"]

MODES: dict[str, tuple[str, str]] = {
    mode: (row["words"], DTYPE_COLORS.get(row["color"], WARN))
    for mode, row in load_table("modes").items()
}
"""Mode -> the answer in one sentence, and the colour of its frame."""

EXAMPLES = [name for name in VARIANTS if name not in ("tf32", "int8-entropy", "int8-legacy")]
OWN_HEADER = (
    "Measured with these scales under trtexec's own header, as cache.save(path, for_trtexec=True) "
    "writes it. With the file that another calibrator wrote, the build fails."
)
CELL = "text-align:left;vertical-align:top;padding:2px 10px 2px 0"


def explainer(
    networks: Any = None, command: str = "trtexec --onnx=resnet.onnx --int8", trt: str = "8.6"
) -> ipywidgets.Widget:
    """Type a trtexec command line: its mode, the steps with their sources, what that measured.

    ``networks`` (a Network, or a dict of them by name) gives accuracy, latency, size and ranges,
    recorded or live; without it only the explanation is shown. Enter, or leaving the field, asks; a
    command that cannot be understood is answered below it with what is wrong.
    """
    style = {"description_width": "5em"}
    line: dict[str, Any] = {"continuous_update": False, "layout": {"width": "98%"}, "style": style}
    text = ipywidgets.Text(command, description="command", **line)
    versions, asked = list(known_versions()), ".".join(map(str, resolve(trt).number))
    version = ipywidgets.Dropdown(
        options=versions, value=asked, description="TensorRT", style=style
    )
    lines = [(LABELS[name], trtexec_command(name, "resnet")) for name in EXAMPLES]
    examples = ipywidgets.Dropdown(
        options=[("or pick a command …", ""), *lines],
        description="examples",
        layout=FITTED,
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
        answer.value = answer_html(text.value, version.value, cache.value, networks)

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


def course_model(command: str) -> str | None:
    """Which of the course's networks --onnx names, by the file's name alone; None where none.

    >>> course_model("trtexec --onnx=/some/where/mobile.onnx")
    'mobile'
    """
    named = re.search(r"--onnx[= ](?:\S*/)?([\w.-]+)\.onnx\b", command)
    return named[1] if named and named[1] in MODELS else None


def answer_html(command: str, version: str, cache_exists: bool, networks: Any = None) -> str:
    """The whole answer to one command as HTML: what the control shows."""
    model = course_model(command)
    path = model_path(model) if model else None
    answer = explain(command, trt=version, model=path, cache_exists=cache_exists)
    if isinstance(networks, Mapping):
        network = networks.get(model) if model else None
    else:
        network = networks if networks is not None and networks.name == model else None
    sentence, color = MODES[answer.mode]
    variant = variant_of(answer)
    variants: list[str | None] = [variant]
    if answer.mode == "cached-scales" and not answer.fp16 and str(variant) not in str(answer.cache):
        variants = [f"int8-{name}" for name in ALGORITHMS]  # any of them may have written the cache
    others = set(variants) & {"int8-minmax", "int8-entropy", "int8-legacy"}
    note = f"<p>{OWN_HEADER}</p>" if answer.mode == "cached-scales" and network and others else ""
    facts = [{"fact": name, "value": value} for name, value in answer.details()]
    steps = ""
    for step in answer.steps:
        link = f"<br><small>{step.source._repr_html_()}</small>" if step.source else ""
        steps += f"<li>{html_text(step.summary())}{link}</li>"
    title = f"The {plural(len(answer.steps), 'step')} in trtexec's source"
    return (
        f'<div role="status"><p style="font-size:1.15em">{badge(answer.mode, color)} '
        f"{html_text(sentence)}</p>{measured_html(network, variants)}{note}"
        f"{html_table(facts, style=CELL)}"
        f"<details><summary>{title}</summary><ol>{steps}</ol></details></div>"
    )


def measured_html(network: Any, variants: list[str | None]) -> str:
    """What the variants measured beside FP32, as HTML; says so where nothing was measured."""
    names = [name for name in variants if network is not None and name in network.variants]
    if not names:
        return f'<p style="color:{INK}">This course has no measurement of exactly this command.</p>'
    try:
        builds = [network.build(name) for name in dict.fromkeys([*names, "fp32"])]
    except TrtlearnError as problem:
        return f"<p>{html_text(str(problem))}</p>"
    first = builds[0]
    title = html_text(f"Measured on {first.model}: {first.provenance.label()}")
    table = html_table([build_facts(build) for build in builds], style=CELL)
    measured = f"<p><b>{title}</b></p>{table}"
    ranges = first.ranges.tensors if first.ranges else first.build.scales
    if not ranges or len(names) > 1:
        return measured
    rows = [
        {"tensor": r.name, "range": f"±{show(r.amax)}", "scale": r.scale, "from": r.source}
        for r in ranges
    ]
    summary = f"<summary>Its {plural(len(ranges), 'range')}, tensor by tensor</summary>"
    return f"{measured}<details>{summary}{html_table(rows, style=CELL)}</details>"


def build_facts(build: Build) -> dict[str, Any]:
    """Accuracy, latency, size and INT8 layers of one build, with units; None is unknown."""
    answers, timing, size = build.predictions, build.timing, build.build.plan_bytes
    right = f"{100 * answers.accuracy:.1f} % of {answers.count}" if answers else None
    latency = (
        f"{timing.median_ms:.4f} ms per batch of {timing.batch}, launch by launch"
        if timing
        else None
    )
    return {
        "build": LABELS.get(build.variant, build.variant),
        "test images right": right,
        "median latency": latency,
        "plan size": f"{size / 1000:,.0f} kB" if size else None,
        "engine layers with INT8 weights": len(build.engine.int8),
    }


def trtexec_command(variant: str, model: str) -> str:
    """The trtexec command line (TensorRT 8.4 to 10.x) that asks for what the variant builds.

    A calibrated variant names the calibration cache that the course recorded: trtexec itself cannot
    calibrate with images (v8.6.1:samples/common/sampleEngines.cpp:362-457). Its calibrator is an
    EntropyCalibration2, so the caches of min-max, entropy and legacy need that header before it
    takes them (``trtlearn cache edit --header``).

    >>> trtexec_command("int8-placeholder", "resnet")
    'trtexec --onnx=resnet.onnx --shapes=image:8x1x28x28 --noTF32 --int8'
    """
    options = variant_options(variant)
    words = [f"--onnx={model}.onnx", f"--shapes=image:{options.batch}x1x28x28"]
    words += [] if options.tf32 else ["--noTF32"]
    flags = {(True, True): ["--best"], (True, False): ["--int8"], (False, True): ["--fp16"]}
    words += flags.get((options.int8, options.fp16), [])
    if options.ranges == "random":
        words.append("--calib=missing.cache")
    elif options.ranges in ALGORITHMS:
        words.append(f"--calib={variant}.cache")
    return shell_command("trtexec", *words)


def variant_of(explanation: Explanation) -> str | None:
    """The course's build that comes closest to an explained command; None where none was recorded.

    A cache named after a variant (int8-minmax.cache) means that one, any other entropy 2, the kind
    that trtexec takes.

    >>> from trtlearn.trtexec.explanation import explain
    >>> variant_of(explain("trtexec --onnx=m.onnx --int8"))
    'int8-placeholder'
    """
    options, mode, fp16 = explanation.options, explanation.mode, explanation.fp16
    if not options or "--loadEngine" in options or explanation.tag.startswith("v11"):
        return None
    if mode == "not-int8":
        return "fp16" if fp16 else "fp32" if "--noTF32" in options else "tf32"
    if not explanation.int8 or explanation.cache_set_aside:
        return None
    if mode == "cached-scales":
        algorithm = _algorithm(explanation.cache or "")
        if fp16:
            return "int8-fp16" if algorithm in ("entropy2", "fp16") else None
        return f"int8-{algorithm}" if algorithm != "fp16" else None
    uncalibrated = {"placeholder-ranges": "int8-placeholder", "random-calibration": "int8-random"}
    return None if fp16 else uncalibrated.get(mode)


def _algorithm(cache: str) -> str:
    """The calibrator (or fp16) in a cache's name; otherwise entropy2, trtexec's own."""
    pattern = r"(?:.*[-_.])?int8-(entropy2|minmax|entropy|legacy|fp16)"
    match = re.fullmatch(pattern, PurePath(cache).stem)
    return match[1] if match else "entropy2"
