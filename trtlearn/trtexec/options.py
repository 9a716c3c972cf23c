"""trtexec's options and BuildOptions: the build that a command asks for, and back."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import PurePath
from typing import Any, NamedTuple

from ..engine.records import BuildOptions
from ..engine.variants import ALGORITHMS, TRTEXEC_AVG_TIMING, variant_options
from ..errors import CommandError
from ..files import shell_command
from .explanation import Explanation

__all__ = ["options_from", "trtexec_command", "variant_of"]


class Setting(NamedTuple):
    """A field of BuildOptions, and the trtexec option of the same meaning."""

    field: str
    option: str
    read: Callable[[str], Any]  # None: not a value that trtexec would take
    write: Callable[[Any], str] = str


def _number(text: str) -> int | None:
    return int(text) if re.fullmatch(r"\d{1,6}", text, re.A) else None


def _names(text: str) -> tuple[str, ...] | None:
    return tuple(name for name in text.split(",") if name) or None


def _types(text: str) -> dict[str, str]:
    named = [item.replace("'", "").rpartition(":") for item in text.split(",") if ":" in item]
    return {layer: dtype for layer, _, dtype in named}


def _types_text(types: dict[str, str]) -> str:
    return ",".join(f"{layer}:{dtype}" for layer, dtype in types.items())


SETTINGS = (
    Setting("layer_precisions", "--layerPrecisions", _types, _types_text),
    Setting("layer_output_types", "--layerOutputTypes", _types, _types_text),
    Setting("precision_constraints", "--precisionConstraints", lambda text: text or None),
    Setting("optimization_level", "--builderOptimizationLevel", _number),
    Setting("avg_timing", "--avgTiming", _number),
    Setting("tactic_sources", "--tacticSources", _names, ",".join),
    Setting("timing_cache", "--timingCacheFile", lambda text: text or None),
)
RANGES = {  # a mode of explain -> BuildOptions.ranges
    "placeholder-ranges": "placeholder",
    "random-calibration": "random",
    "cached-scales": "cache",
    "explicit-qdq": "qdq",
}


def options_from(explanation: Explanation) -> BuildOptions:
    """The build that an explained command asks for, as ``build_engine`` takes it.

    CommandError where the command builds nothing (rejected, --loadEngine, --help).

    >>> from trtlearn.trtexec.explanation import explain
    >>> options_from(explain("trtexec --onnx=m.onnx --best --noTF32")).ranges
    'placeholder'
    """
    values = explanation.options
    if explanation.mode == "rejected" or "--loadEngine" in values or not values:
        raise CommandError(
            f"the command builds nothing: {explanation.kind}",
            "give a command that builds an engine",
        )
    shapes = values.get("--optShapes") or values.get("--shapes") or ""
    batch = re.search(r":(\d{1,9})(?:x|$|,)", shapes, re.A)
    settings = {s.field: s.read(values[s.option]) for s in SETTINGS if s.option in values}
    known = {name: value for name, value in settings.items() if value is not None}
    return BuildOptions(
        int8=explanation.int8,
        fp16=explanation.fp16,
        tf32="--noTF32" not in values,
        ranges=RANGES.get(explanation.mode, "none"),
        batch=int(batch[1]) if batch else 8,
        **{"avg_timing": TRTEXEC_AVG_TIMING, **known},
    )


def trtexec_command(variant: str, model: str) -> str:
    """The trtexec command line (TensorRT 8.4 to 10.x) that asks for what the variant builds.

    A calibrated variant names the calibration cache that the course recorded: trtexec itself cannot
    calibrate with images (v8.6.1:samples/common/sampleEngines.cpp:362-457). Its calibrator is an
    EntropyCalibration2, so the caches of min-max, entropy and legacy need that header before it
    takes them (``trtlearn cache edit --header``).

    >>> trtexec_command("int8-placeholder", "resnet")
    'trtexec --onnx=resnet.onnx --shapes=image:8x1x28x28 --noTF32 --int8'
    """
    options, default = variant_options(variant), BuildOptions()
    flags = {(True, True): ["--best"], (True, False): ["--int8"], (False, True): ["--fp16"]}
    words = [f"--onnx={model}.onnx", f"--shapes=image:{options.batch}x1x28x28"]
    words += [] if options.tf32 else ["--noTF32"]
    words += flags.get((options.int8, options.fp16), [])
    for setting in SETTINGS:
        value = getattr(options, setting.field)
        if value != getattr(default, setting.field):
            words.append(f"{setting.option}={setting.write(value)}")
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
