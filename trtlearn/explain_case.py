"""The way of one trtexec command through trtexec's source: each function takes the next step of it.

All line ranges come from trtexec_sources; the conditions are those of the C++ at that place.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from .cachefile import SetAside, set_aside
from .errors import ModelError
from .explain_records import Step
from .explain_words import WORDS, why_removed
from .trtexec_options import TrtexecCommand, int8_count
from .trtexec_sources import Release, best_skips_sm103, cite, option_kinds

__all__ = ["Case", "look_at_cache", "look_at_model", "read_flags", "refused"]

LOOKED_AT = 1 << 16  # bytes of a cache that are enough to tell whether TensorRT takes it


class Case:
    """One command on its way to an explanation: the facts known, and the steps gone so far."""

    def __init__(self, parsed: TrtexecCommand, release: Release) -> None:
        self.parsed, self.release = parsed, release
        self.steps: list[Step] = []
        self.warnings: list[str] = [release.note] if release.note else []
        self.alternatives: list[str] = []
        self.advice: list[str] = list(parsed.hints)
        has = parsed.has
        self.typed = release.number < (11, 0)  # types are chosen by flags, not by the model
        self.strongly_typed = has("--stronglyTyped") or not self.typed
        self.int8 = (has("--int8") or has("--best")) and not self.strongly_typed
        self.fp16 = (has("--fp16") or has("--best")) and not self.strongly_typed
        self.formats = {way: parsed.values.get(f"--{way}IOFormats", "") for way in ("input", "output")}
        self.int8_io = sum(int8_count(value) for value in self.formats.values())
        self.cache = parsed.values.get("--calib") or None
        self.cache_exists: bool | None = None
        self.cache_set_aside: SetAside | None = None
        self.has_qdq: bool | None = None

    def knows(self, option: str) -> bool:
        """Whether this version has ``option``."""
        return option in option_kinds(self.release.tag)

    def step(self, key: str, text: str, condition: str) -> None:
        self.steps.append(Step(text, condition, cite(self.release.tag, key)))


def refused(case: Case, command: str) -> str:
    """The steps to a refusal; returns what kind it is."""
    parsed, key = case.parsed, case.parsed.error_key or "invalid"
    gone = tuple(name for name in parsed.unknown if name in option_kinds("v10.16") and not case.typed)
    case.step(
        key,
        f'prints "{parsed.error}" and ends',
        "an option is left that no parser took" if parsed.unknown else "the parser refuses the command",
    )
    if key not in ("unknown", "invalid"):
        case.step("invalid", "catches the error, prints its help and ends", "the parser threw invalid_argument")
    kind = WORDS["rejected"].kind
    if gone:
        kind = f"TensorRT {case.release.version} has no {', '.join(gone)}: trtexec stops before it builds anything"
        case.advice += why_removed(gone, command)
        case.alternatives.append("up to 10.16 the same options are taken: ask with --trt 10.16")
    if not case.typed and any("int8:" in value or ":" in value for value in _io_values(parsed)):
        case.advice.append("from 11.0 on I/O formats name no type: write --inputIOFormats=chw; the type is the model's")
    return kind


def _io_values(parsed: TrtexecCommand) -> list[str]:
    return [argument.partition("=")[2] for argument in parsed.arguments if "IOFormats=" in argument]


def read_flags(case: Case) -> None:
    """What the parser made of the precision options."""
    parsed, has = case.parsed, case.parsed.has
    if parsed.names_no_model:
        stop = cite(case.release.tag, "no_model")
        where = f" ({stop.summary()})" if stop else ""
        case.warnings.append(
            'the command names no model: as it stands trtexec ends with "Model missing or format not recognized"'
            f"{where}; explained as if --onnx=MODEL were there"
        )
    if has("--best"):
        case.step(
            "best",
            "sets int8 and fp16" + (" (and bf16 on Ampere and later)" if case.release.number >= (10, 0) else ""),
            "--best is given",
        )
        if best_skips_sm103(case.release.tag):
            case.warnings.append(
                "--best leaves INT8 out on GPUs of compute capability 10.3 (this version asks the GPU)"
            )
    if has("--int8"):
        case.step("int8", "sets int8", "--int8 is given")
        if parsed.values["--int8"]:
            case.warnings.append(f"--int8={parsed.values['--int8']} is --int8: trtexec does not look at a flag's value")
    if has("--fp16"):
        case.step("fp16", "sets fp16", "--fp16 is given")
    if case.typed and case.strongly_typed and (has("--int8") or has("--best") or has("--fp16")):
        case.step(
            "strongly_typed",
            "takes int8, fp16 and the other precisions back, with a warning",
            "--stronglyTyped is given",
        )
    if not case.typed:
        case.step("typed_always", "makes a strongly typed network", "every network is strongly typed from 11.0 on")
    if case.int8 and cite(case.release.tag, "weakly_typed"):
        case.step("weakly_typed", "warns that weakly typed networks are deprecated", "a precision option is given")
        case.warnings.append("deprecated: --int8 and calibration are gone in 11.0; move to Q/DQ (trtlearn migrate)")
    if has("--calib") and not case.cache:
        case.warnings.append("--calib without a value is an empty file name, so no calibration: write --calib=FILE")
    if (has("--layerPrecisions") or has("--layerOutputTypes")) and parsed.values.get(
        "--precisionConstraints", "none"
    ) in ("", "none"):
        case.step("constraints", "warns that layer precisions have no effect", "--precisionConstraints is none")
        case.warnings.append(
            "--layerPrecisions and --layerOutputTypes do nothing without --precisionConstraints=obey or prefer"
        )


def _is_file(path: str) -> bool:
    try:
        return Path(path).is_file()
    except (OSError, ValueError):
        return False


def look_at_model(case: Case, model: Any, has_qdq: bool | None) -> None:
    """Whether the network has Q/DQ layers: told, read from the model, or assumed not."""
    name = case.parsed.values.get("--onnx") or ""
    known = has_qdq
    if known is None and isinstance(getattr(model, "has_qdq", None), bool):
        known = model.has_qdq
    given = isinstance(model, (str, os.PathLike))
    path = model if given else name
    if known is None and path and (given or _is_file(path)):
        from .onnxfile import read_model

        try:
            known = bool(read_model(path).has_qdq)
        except (ModelError, ImportError) as problem:
            if given:
                raise
            case.warnings.append(f"{path} could not be read for Q/DQ nodes ({problem}): assumed to have none")
    case.has_qdq = known
    if known is None:
        case.warnings.append(f"the model {path or 'MODEL'} is not at hand: assumed to have no Q/DQ nodes")
        case.alternatives.append("if it has QuantizeLinear/DequantizeLinear nodes: explicit-qdq, its own scales decide")


def look_at_cache(case: Case, cache_exists: bool | None) -> None:
    """Note whether the file of --calib is there, as told, else as found here, and whether its header fits."""
    if not case.cache:
        return
    try:
        found = os.access(case.cache, os.R_OK)
    except (OSError, ValueError):
        found = False
    case.cache_exists = found if cache_exists is None else cache_exists
    if case.cache_exists and found and _is_file(case.cache):
        with open(case.cache, "rb") as file:
            case.cache_set_aside = set_aside(file.read(LOOKED_AT), case.cache, case.release.number < (10, 0))
