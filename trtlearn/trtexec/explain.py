"""What a trtexec command line does about INT8: which of six things happens, why, and where trtexec's source says so.

The rule, the same from 8.4 to 10.16 (v8.6.1:samples/common/sampleEngines.cpp:1009-1082): without Q/DQ nodes, and with
--int8 or an INT8 input or output, and no --calib value: placeholder ranges. Otherwise with --int8 a calibrator is set;
it hands over the cache where the file opens and noise where not; a cache of another kind than its own, entropy 2,
TensorRT sets aside. From 11.0 on --int8 is an unknown option.
"""

from __future__ import annotations

import os
import re
import shlex
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import Any

from ..calibration.cache import SetAside, set_aside
from ..engine.records import BuildOptions
from ..engine.variants import TRTEXEC_AVG_TIMING
from ..errors import CommandError, ModelError
from ..record import plural
from .command import TrtexecCommand, int8_count, parse_trtexec, split_command
from .records import Explanation, Step
from .sources import Release, best_skips_sm103, cite, known_versions, option_kinds, resolve

__all__ = [
    "Case",
    "REMOVED",
    "VERSIONS",
    "WORDS",
    "Words",
    "afterwards",
    "decide",
    "dtype_words",
    "explain",
    "look_at_cache",
    "look_at_model",
    "options_from",
    "parse_trtexec",
    "read_flags",
    "recorded_variant",
    "refused",
    "variant_of",
    "why_removed",
]


# --- The sentences of an explanation: what each mode means for weights, activations, inputs, outputs and accuracy.


@dataclass(frozen=True)
class Words:
    """One mode in words."""

    kind: str
    weights: str
    activations: str
    accuracy: str


_WEIGHTS = (
    "FP32 in the model file. The builder itself quantizes those of each layer for which it chooses an INT8 kernel: "
    "symmetric, scale = largest |w| / 127 (one per output channel of a convolution, deconvolution or fully connected "
    "layer), integers -127 to 127, kept in the engine. "
    "No file and no calibration is involved; layers that run in floating point keep floating-point weights."
)

WORDS = {  # by mode, and "set aside" for a cached-scales whose file is not taken
    "not-int8": Words(
        "no INT8 quantization",
        "floating point",
        "floating point: no tensor gets a range or a scale",
        "that of the floating-point model in the precisions allowed",
    ),
    "placeholder-ranges": Words(
        "static symmetric post-training quantization in form, with invented ranges: good for timing, not for answers. "
        "Neither weight-only, nor activation-only, nor dynamic",
        _WEIGHTS,
        "per tensor, fixed at build time, whatever the data: every layer input that has no range yet gets ±2 "
        "(inputs of a Concat ±4), every layer output ±4 (outputs of a pooling layer ±2). Scale = 2/127 or 4/127; "
        "what lies outside is clipped.",
        "not to be trusted: the ranges know nothing of the model or of any data",
    ),
    "random-calibration": Words(
        "static symmetric post-training quantization, calibrated on one batch of random noise",
        _WEIGHTS,
        "per tensor, fixed at build time: TensorRT runs the network in FP32 on one batch of uniform noise in [-1, 1), "
        "made for each network input (not for weights), and picks each tensor's range by EntropyCalibration2.",
        "better than invented ranges, for each range fits the model's own response to noise; still not your data",
    ),
    "cached-scales": Words(
        "static symmetric post-training quantization with the scales of a calibration cache",
        _WEIGHTS,
        "per tensor, fixed at build time: scale read from the cache by tensor name, range = 127 * scale. Nothing is "
        "run or measured. A tensor that the cache does not name has no scale: the layers at it run in floating point.",
        "as good as the data that the cache was made from; trtexec does not check that it belongs to this model",
    ),
    "set aside": Words(
        "a calibration cache that TensorRT does not take from trtexec",
        _WEIGHTS,
        "none: no scale of the file is taken, and there are no data to find others with",
        "no engine comes out of this: the calibration reads from null pointers",
    ),
    "explicit-qdq": Words(
        "explicit quantization: the model's own QuantizeLinear and DequantizeLinear nodes say what is INT8",
        "quantized by the scales of the Q/DQ nodes at them, usually one per output channel; kept as INT8 in the engine",
        "per tensor, by the scale of the Q/DQ pair at each; a tensor without a pair stays in floating point",
        "that of the quantized model as its maker made it: it can be checked in ONNX Runtime before any build",
    ),
    "rejected": Words(
        "trtexec stops with an error before it builds anything",
        "nothing is built",
        "nothing is built",
        "nothing is built",
    ),
}

REMOVED = {
    "--int8": "put QuantizeLinear/DequantizeLinear nodes into the model; their scales replace the flag",
    "--best": "choose the types in the model: Q/DQ for INT8, casts to FP16 or BF16 for the rest (ModelOpt AutoCast)",
    "--fp16": "convert the model to FP16 before the build (ModelOpt AutoCast)",
    "--bf16": "convert the model to BF16 before the build (ModelOpt AutoCast)",
    "--fp8": "put FP8 Q/DQ nodes into the model",
    "--int4": "put INT4 DequantizeLinear nodes on the weights",
    "--calib": "write the cache's scales into Q/DQ nodes: trtlearn migrate",
    "--precisionConstraints": "types in the model are binding already: leave it out",
    "--layerPrecisions": "cast in the model: each layer runs in the type of its inputs",
    "--layerOutputTypes": "cast in the model after the layer",
}


MIGRATION = "https://docs.nvidia.com/deeplearning/tensorrt/11.0.0/api/migration/tensorrt-10x-to-11x-trtexec.html"


def why_removed(options: tuple[str, ...], command: str) -> tuple[str, ...]:
    """What to do instead of the options that 11.0 removed."""
    advice = [f"instead of {option}: {REMOVED[option]}" for option in options if option in REMOVED]
    if {"--int8", "--best", "--calib"} & set(options):
        given = dict(argument.partition("=")[::2] for argument in split_command(command))
        model, cache = given.get("--onnx") or "MODEL.onnx", given.get("--calib") or "FILE"
        written = f"{PurePath(model).stem}.qdq.onnx"
        line = shlex.join(["trtlearn", "migrate", command, model, "--cache", cache, "-o", written])
        advice.append(
            f"`{line}` writes the Q/DQ model with the cache's scales, and prints the new trtexec command"
        )
        if cache == "FILE":
            advice.append(
                "FILE is a calibration cache; no --calib is given, so the old ranges were invented ones"
            )
    return (*advice, f"NVIDIA's own account of what went: {MIGRATION}")


def dtype_words(formats: str, direction: str, typed: bool, sets_fp32: bool, int8: bool) -> str:
    """What stands at the engine's inputs or outputs, from the value of --inputIOFormats or --outputIOFormats.

    ``sets_fp32``: this version's trtexec makes floating-point inputs FP32 itself (up to 10.0).
    """
    if formats and typed:
        if "int8" not in formats:
            return f"{formats}, as given by --{direction}IOFormats"
        caller = (
            "the caller quantizes the data" if direction == "input" else "the caller gets integers"
        )
        return f"{formats}: {caller}, with that tensor's scale"
    if direction == "output":
        text = "the model's own type, FP32 in most exported models"
        return text + ("; an INT8 result is dequantized inside the engine" if int8 else "")
    if typed and sets_fp32:
        text = "FP32, linear layout (chw): no --inputIOFormats is given (FP16, integer and bool inputs stay what they are)"
    else:
        text = "the model's own type, FP32 in most exported models"
    return text + ("; the engine quantizes it inside, where INT8 begins" if int8 else "")


# --- The way of one trtexec command through trtexec's source: each function takes the next step of it.

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
        self.formats = {
            way: parsed.values.get(f"--{way}IOFormats", "") for way in ("input", "output")
        }
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
    gone = tuple(
        name for name in parsed.unknown if name in option_kinds("v10.16") and not case.typed
    )
    case.step(
        key,
        f'prints "{parsed.error}" and ends',
        "an option is left that no parser took"
        if parsed.unknown
        else "the parser refuses the command",
    )
    if key not in ("unknown", "invalid"):
        case.step(
            "invalid",
            "catches the error, prints its help and ends",
            "the parser threw invalid_argument",
        )
    kind = WORDS["rejected"].kind
    if gone:
        kind = f"TensorRT {case.release.version} has no {', '.join(gone)}: trtexec stops before it builds anything"
        case.advice += why_removed(gone, command)
        case.alternatives.append("up to 10.16 the same options are taken: ask with --trt 10.16")
    if not case.typed and any("int8:" in value or ":" in value for value in _io_values(parsed)):
        case.advice.append(
            "from 11.0 on I/O formats name no type: write --inputIOFormats=chw; the type is the model's"
        )
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
            "sets int8 and fp16"
            + (" (and bf16 on Ampere and later)" if case.release.number >= (10, 0) else ""),
            "--best is given",
        )
        if best_skips_sm103(case.release.tag):
            case.warnings.append(
                "--best leaves INT8 out on GPUs of compute capability 10.3 (this version asks the GPU)"
            )
    if has("--int8"):
        case.step("int8", "sets int8", "--int8 is given")
        if parsed.values["--int8"]:
            case.warnings.append(
                f"--int8={parsed.values['--int8']} is --int8: trtexec does not look at a flag's value"
            )
    if has("--fp16"):
        case.step("fp16", "sets fp16", "--fp16 is given")
    if case.typed and case.strongly_typed and (has("--int8") or has("--best") or has("--fp16")):
        case.step(
            "strongly_typed",
            "takes int8, fp16 and the other precisions back, with a warning",
            "--stronglyTyped is given",
        )
    if not case.typed:
        case.step(
            "typed_always",
            "makes a strongly typed network",
            "every network is strongly typed from 11.0 on",
        )
    if case.int8 and cite(case.release.tag, "weakly_typed"):
        case.step(
            "weakly_typed",
            "warns that weakly typed networks are deprecated",
            "a precision option is given",
        )
        case.warnings.append(
            "deprecated: --int8 and calibration are gone in 11.0; move to Q/DQ (trtlearn migrate)"
        )
    if has("--calib") and not case.cache:
        case.warnings.append(
            "--calib without a value is an empty file name, so no calibration: write --calib=FILE"
        )
    if (has("--layerPrecisions") or has("--layerOutputTypes")) and parsed.values.get(
        "--precisionConstraints", "none"
    ) in ("", "none"):
        case.step(
            "constraints",
            "warns that layer precisions have no effect",
            "--precisionConstraints is none",
        )
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
        from ..model.describe import read_model

        try:
            known = bool(read_model(path).has_qdq)
        except (ModelError, ImportError) as problem:
            if given:
                raise
            case.warnings.append(
                f"{path} could not be read for Q/DQ nodes ({problem}): assumed to have none"
            )
    case.has_qdq = known
    if known is None:
        case.warnings.append(
            f"the model {path or 'MODEL'} is not at hand: assumed to have no Q/DQ nodes"
        )
        case.alternatives.append(
            "if it has QuantizeLinear/DequantizeLinear nodes: explicit-qdq, its own scales decide"
        )


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
            case.cache_set_aside = set_aside(
                file.read(LOOKED_AT), case.cache, case.release.number < (10, 0)
            )


# --- trtexec's own decision about INT8, in its own order, and what follows from it.


def decide(case: Case) -> tuple[str, str]:
    """trtexec's own decision, in its own order."""
    qdq, flag = bool(case.has_qdq), case.int8
    seen = {None: "unknown, assumed to be none", True: "there", False: "not there"}[case.has_qdq]
    if not case.typed:
        case.step(
            "parse_model",
            "parses the model with the types and Q/DQ nodes it has",
            f"its Q/DQ nodes are {seen}",
        )
        return ("explicit-qdq" if qdq else "not-int8"), ""
    if cite(case.release.tag, "inputs_are_fp32") and not case.formats["input"]:
        case.step(
            "inputs_are_fp32",
            "keeps FP32 network inputs FP32 (an INT8 one becomes FP32)",
            "no --inputIOFormats",
        )
    if flag:
        case.step(
            "int8_flag",
            "allows INT8 kernels (BuilderFlag INT8): permitted, not forced",
            "int8 is set",
        )
        if not case.fp16:
            case.step(
                "fp16_hint",
                "hints that FP16 may be faster: what is not INT8 runs in FP32",
                "int8 is set, fp16 is not",
            )
    if case.int8_io:
        case.step(
            "int8_io",
            f"counts {plural(case.int8_io, 'INT8 format')} at inputs and outputs",
            "--inputIOFormats or --outputIOFormats names int8",
        )
    case.step(
        "has_qdq",
        "looks for Quantize and Dequantize layers in the network",
        f"its Q/DQ nodes are {seen}",
    )
    if not qdq and (flag or case.int8_io) and not case.cache:
        reason = " and ".join(
            (["int8 is set"] if flag else [])
            + (["an input or output is INT8"] if case.int8_io else [])
        )
        case.step(
            "decision",
            "takes the branch of placeholder ranges; no calibrator is made",
            f"no Q/DQ, {reason}, no --calib value",
        )
        case.step(
            "placeholder",
            "sets ±2 on layer inputs and ±4 on layer outputs that have no range",
            "inRange = 2, outRange = 4 by default",
        )
        if flag:
            case.step(
                "printed",
                'prints "Calibration: Dynamic", though nothing is',
                "int8 is set and no --calib value",
            )
        kind = WORDS["placeholder-ranges"].kind
        return (
            "placeholder-ranges",
            kind
            if flag
            else "the INT8 input or output gets an invented range; without --int8 no layer may run in INT8",
        )
    if not flag:
        condition = "the INT8 flag is off" + (": --calib is read by nobody" if case.cache else "")
        case.step(
            "decision",
            "sets no ranges and no calibrator",
            f"{'Q/DQ nodes are there and ' if qdq else ''}{condition}",
        )
        return ("explicit-qdq" if qdq else "not-int8"), ""
    case.step(
        "calibrate",
        "takes the branch of the calibrator",
        "int8 is set and " + ("Q/DQ nodes are there" if qdq else "--calib has a value"),
    )
    if not qdq and case.int8_io:
        if not case.cache_exists:
            case.step(
                "io_scales",
                f"ends: the INT8 input or output needs its scale from {case.cache}",
                "int8 I/O, and the cache file cannot be opened",
            )
            case.alternatives.append(f"if {case.cache} is there when trtexec runs: cached-scales")
            return "rejected", "trtexec stops: INT8 I/O with --calib needs the cache file"
        case.step(
            "io_scales",
            "sets the ranges of INT8 inputs and outputs from the cache, 127 * scale",
            "no Q/DQ, and INT8 I/O",
        )
        case.step(
            "set_io_scales",
            "looks each up by name; a name that is missing ends trtexec",
            "tensorScales.at(name)",
        )
    case.step(
        "set_calibrator", "makes a RndInt8Calibrator and gives it to the builder", "int8 is set"
    )
    if qdq:
        return "explicit-qdq", ""
    return _calibrated(case)


def _set_aside(case: Case, why: str, fix: str) -> tuple[str, str]:
    """The file opens, so no noise is made; TensorRT does not take its scales, and asks for data that are not there."""
    case.step("calibrator_opens", "makes no noise", f"{case.cache} opens")
    case.step("calibrator_reads", "hands the file's bytes to TensorRT, which sets them aside", why)
    case.step(
        "calibrator_batch", "hands over one batch of null pointers", "no noise was made for it"
    )
    case.warnings.append(
        f"TensorRT sets {case.cache} aside: {why} (measured with 8.6.0: "
        "data/recordings/*/calibration/odd-caches.json) and calibrates on null pointers: the build ends with an "
        "illegal memory access (documented: NVIDIA/TensorRT#3430, a min-max cache)"
    )
    case.advice.append(fix)
    return "cached-scales", f"the file opens, but TensorRT takes none of its scales: {why}"


def _calibrated(case: Case) -> tuple[str, str]:
    if case.cache_exists and case.cache_set_aside:
        return _set_aside(case, *case.cache_set_aside)
    if case.cache_exists:
        case.step("calibrator_opens", "makes no noise", f"{case.cache} opens")
        case.step(
            "calibrator_reads",
            "hands the file's bytes to TensorRT, which asks for no batch",
            f"{case.cache} opens",
        )
        case.warnings += [
            "neither the model nor the version that the cache was made with is checked by trtexec",
            "trtexec's calibrator is an EntropyCalibration2: with a cache whose header names another one the build "
            "fails (NVIDIA/TensorRT#3430)",
        ]
        return "cached-scales", ""
    case.step(
        "calibrator_opens",
        "goes on to make noise",
        f"{case.cache} does not open: a missing file is no error",
    )
    case.step(
        "calibrator_uniform",
        "fills one batch for every network input with uniform floats in [-1, 1)",
        "no cache",
    )
    case.step("calibrator_batch", "hands that one batch to TensorRT, then no more", "mBatches is 1")
    case.step(
        "calibrator_writes",
        "writes nothing: the cache that TensorRT offers is dropped",
        "writeCalibrationCache is empty",
    )
    case.warnings.append(
        f"{case.cache} is not there: trtexec calibrates on noise, says no word of it, and does not write the file"
    )
    case.alternatives.append(f"if {case.cache} is there when trtexec runs: cached-scales")
    return "random-calibration", ""


def afterwards(case: Case, mode: str) -> None:
    """What follows the decision: layer precisions, DLA, and what to know of the mode reached."""
    parsed, has, typed = case.parsed, case.parsed.has, case.typed
    constraints = parsed.values.get("--precisionConstraints", "")
    if has("--layerPrecisions") and constraints in ("obey", "prefer"):
        case.step(
            "apply_precisions",
            "sets the named layers' precisions",
            f"--precisionConstraints={constraints}",
        )
    if has("--useDLACore"):
        case.step(
            "dla",
            "sends the layers to DLA, and sets FP16 if INT8 is not set",
            "--useDLACore is given",
        )
    if parsed.values.get("--sparsity") == "force":
        case.warnings.append(
            "--sparsity=force overwrites weights with a sparse pattern: the answers are not the model's"
        )
    if has("--safe") and cite(case.release.tag, "safe_is_strongly_typed"):
        case.step(
            "safe_is_strongly_typed",
            "makes the network strongly typed after all",
            "--safe is given",
        )
        case.warnings.append(
            "a strongly typed network takes no precision flags and no ranges: use Q/DQ with --safe"
        )
    if typed and not case.int8 and case.cache:
        case.warnings.append("--calib without --int8 (or --best) has no effect")
    if case.int8_io and not case.int8 and case.cache and not case.has_qdq:
        case.warnings.append(
            "the INT8 input or output is left without a range: expect the build to fail (inferred)"
        )
    if case.int8_io and has("--stronglyTyped") and typed and not case.has_qdq:
        case.warnings.append(
            "a strongly typed network takes no ranges: expect the build to fail (inferred)"
        )
    if mode == "explicit-qdq" and case.int8:
        case.warnings.append(
            "the calibrator is set but not used: with Q/DQ nodes TensorRT ignores calibration (NVIDIA/TensorRT#1837)"
        )
    if mode == "explicit-qdq" and typed and not case.int8 and not has("--stronglyTyped"):
        case.warnings.append(
            'without --int8 the INT8 flag is off, and a weakly typed Q/DQ build may end with "int8 is not configured '
            'in the builder" (microsoft/onnxruntime#13381): add --int8'
            + (" or --stronglyTyped" if case.knows("--stronglyTyped") else "")
        )
    case.advice += _advice(case, mode)


def _advice(case: Case, mode: str) -> list[str]:
    calibrate = "calibrate with your own data in a program (trtlearn: make_calibrator) and pass its cache: --calib=FILE"
    qdq = "put Q/DQ nodes into the model, with `trtlearn migrate` from a cache or with ModelOpt, and build it as it is"
    gone = [
        "calibration and --int8 are deprecated in TensorRT 10 and gone in 11.0: prefer Q/DQ for anything new"
    ]
    late = gone if case.release.number >= (10, 1) and case.int8 and mode != "explicit-qdq" else []
    if mode in ("placeholder-ranges", "random-calibration"):
        return [f"to time INT8 this is enough; for answers {calibrate}", f"or {qdq}", *late]
    if mode == "cached-scales" and case.cache_set_aside:
        return late
    if mode == "cached-scales":
        return [
            "look into the cache: `trtlearn cache show FILE`; its names must be this model's tensors",
            *late,
        ]
    if mode == "not-int8" and case.strongly_typed:
        return [f"for INT8, {qdq}"]
    if mode == "not-int8":
        return [f"for INT8, {calibrate}, with --int8"]
    return []


# --- What a trtexec command line does about INT8: which of six things happens, why, and where trtexec's source says so.

VERSIONS = known_versions()
"""The TensorRT versions that ``explain`` answers for, oldest first."""


def explain(
    command: str,
    trt: str = "8.6",
    model: Any = None,
    cache_exists: bool | None = None,
    has_qdq: bool | None = None,
) -> Explanation:
    """What ``trtexec`` of version ``trt`` does with ``command``, step by step, with the source lines of that version.

    ``model`` is an ONNX file's path or an ``OnnxModel``, where it is not the file that --onnx names. ``cache_exists``
    and ``has_qdq`` say what cannot be seen from here: without them the files are looked for, relative to the current
    folder, and what had to be assumed stands in ``warnings`` and ``alternatives``. A cache that is at hand is looked
    into: ``cache_set_aside`` says why TensorRT does not take it from trtexec's calibrator. A command that trtexec
    refuses gives mode "rejected"; CommandError is raised only for text that is no trtexec command, or an unknown
    version.

    >>> explain("trtexec --onnx=m.onnx --int8").mode
    'placeholder-ranges'
    >>> explain("trtexec --onnx=m.onnx --int8 --calib=c.cache", trt="10.16", cache_exists=True).mode
    'cached-scales'
    >>> explain("trtexec --onnx=m.onnx --int8", trt="11.1").mode
    'rejected'

    Source: samples/common/sampleOptions.cpp, sampleEngines.cpp and samples/trtexec/trtexec.cpp at each tag.
    """
    release = resolve(trt)
    parsed = parse_trtexec(command, trt)
    case = Case(parsed, release)
    count = len(parsed.arguments)
    case.step(
        "split",
        f"splits its {count} arguments at the first '='",
        "an argument is OPTION or OPTION=VALUE",
    )
    if parsed.helps:
        case.step("help", "prints its help and ends", "--help or -h is given, or nothing at all")
        return _finish(case, command, "not-int8", "only the help is printed: nothing is built")
    if parsed.error:
        return _finish(case, command, "rejected", refused(case, command))
    read_flags(case)
    if parsed.has("--loadEngine"):
        case.step("load", "loads the engine and builds nothing", "--loadEngine is given")
        case.warnings.append(
            "--int8, --calib and the other build options have no effect on an engine that is loaded"
        )
        case.alternatives.append(
            "whether the loaded engine runs INT8 was decided when it was built: trtlearn inspect"
        )
        return _finish(
            case,
            command,
            "not-int8",
            "an engine is loaded as it is: this command quantizes nothing",
        )
    look_at_model(case, model, has_qdq)
    look_at_cache(case, cache_exists)
    mode, kind = decide(case)
    afterwards(case, mode)
    return _finish(case, command, mode, kind)


def _finish(case: Case, command: str, mode: str, kind: str) -> Explanation:
    """The record of a case that has come to its end."""
    words, built = WORDS[mode], mode != "rejected" and not case.parsed.helps
    if mode == "cached-scales" and case.cache_set_aside:
        words = WORDS["set aside"]
    loaded = case.parsed.has("--loadEngine") and built
    release, quantized = case.release.tag, case.int8 or mode == "explicit-qdq"
    precisions = "FP32 (TF32 kernels allowed)" if not case.parsed.has("--noTF32") else "FP32"
    precisions += " and FP16" if case.fp16 else ""
    weights, activations, accuracy = words.weights, words.activations, words.accuracy
    if mode == "not-int8" and not case.typed:
        weights = "in the data types that the model gives them"
    elif mode == "not-int8":
        weights = f"floating point: kernels may use {precisions}"
    elif mode == "placeholder-ranges" and not case.int8:
        weights = "floating point: without --int8 no layer may run in INT8"
    if loaded:
        weights = activations = accuracy = "as the loaded engine was built"
    elif not built or case.parsed.helps:
        weights = activations = accuracy = "nothing is built"
    ways = {
        way: "as the loaded engine was built"
        if loaded
        else dtype_words(
            case.formats[way], way, case.typed, bool(cite(release, "inputs_are_fp32")), quantized
        )
        for way in ("input", "output")
    }
    sources = dict.fromkeys(step.source for step in case.steps if step.source)
    return Explanation(
        command=command,
        version=case.release.version,
        tag=case.release.tag,
        mode=mode,
        kind=kind or words.kind,
        steps=tuple(case.steps),
        sources=tuple(sources),
        weights=weights,
        activations=activations,
        inputs=ways["input"] if built else "nothing is built",
        outputs=ways["output"] if built else "nothing is built",
        accuracy=accuracy,
        advice=tuple(dict.fromkeys(case.advice)),
        warnings=tuple(dict.fromkeys(case.warnings)),
        alternatives=tuple(dict.fromkeys(case.alternatives)),
        int8=case.int8 and built and not loaded,
        fp16=case.fp16 and built and not loaded,
        has_qdq=case.has_qdq,
        cache=case.cache,
        cache_exists=case.cache_exists,
        cache_set_aside=case.cache_set_aside and case.cache_set_aside.why,
        options=dict(case.parsed.values),
    )


def options_from(explanation: Explanation) -> BuildOptions:
    """The build that an explained command asks for, as ``build_engine`` takes it.

    CommandError where the command builds nothing (rejected, --loadEngine, --help).

    >>> options_from(explain("trtexec --onnx=m.onnx --best --noTF32")).ranges
    'placeholder'
    """
    options = explanation.options
    if explanation.mode == "rejected" or "--loadEngine" in options or not options:
        raise CommandError(
            f"the command builds nothing: {explanation.kind}",
            "give a command that builds an engine",
        )
    ranges = {
        "placeholder-ranges": "placeholder",
        "random-calibration": "random",
        "cached-scales": "cache",
        "explicit-qdq": "qdq",
    }.get(explanation.mode, "none")
    shapes = options.get("--optShapes") or options.get("--shapes") or ""
    batch = re.search(r":(\d{1,9})(?:x|$|,)", shapes, re.A)
    sources = tuple(part for part in options.get("--tacticSources", "").split(",") if part)
    averaged = re.match(r"\d{1,6}$", options.get("--avgTiming", ""), re.A)
    level = re.match(r"\d{1,3}$", options.get("--builderOptimizationLevel", ""), re.A)
    named = [
        part.rpartition(":")
        for part in options.get("--layerPrecisions", "").split(",")
        if ":" in part
    ]
    return BuildOptions(
        int8=explanation.int8,
        fp16=explanation.fp16,
        tf32="--noTF32" not in options,
        ranges=ranges,
        batch=int(batch[1]) if batch else 8,
        layer_precisions={layer.replace("'", ""): dtype for layer, _, dtype in named},
        precision_constraints=options.get("--precisionConstraints") or "none",
        optimization_level=int(level[0]) if level else None,
        avg_timing=int(averaged[0]) if averaged else TRTEXEC_AVG_TIMING,
        tactic_sources=sources or None,
        timing_cache=options.get("--timingCacheFile") or "empty",
    )


def variant_of(explanation: Explanation) -> str | None:
    """The build of this course that comes closest to an explained command; None where none was recorded.

    A cache named after a variant (int8-minmax.cache) means that one, any other entropy 2, the kind that trtexec takes.

    >>> variant_of(explain("trtexec --onnx=m.onnx --int8"))
    'int8-placeholder'
    """
    if (
        not explanation.options
        or explanation.mode in ("rejected", "explicit-qdq")
        or explanation.tag.startswith("v11")
    ):
        return None
    if "--loadEngine" in explanation.options:
        return None
    if explanation.mode == "not-int8":
        return (
            "fp16" if explanation.fp16 else "fp32" if "--noTF32" in explanation.options else "tf32"
        )
    if not explanation.int8 or explanation.cache_set_aside:
        return None
    if explanation.mode == "cached-scales":
        algorithm = _algorithm(explanation.cache or "")
        if explanation.fp16:
            return "int8-fp16" if algorithm in ("entropy2", "fp16") else None
        return f"int8-{algorithm}" if algorithm != "fp16" else None
    if explanation.fp16:
        return None
    return {"placeholder-ranges": "int8-placeholder", "random-calibration": "int8-random"}[
        explanation.mode
    ]


recorded_variant = variant_of


def _algorithm(cache: str) -> str:
    """The calibrator (or fp16) from a cache's name; entropy2, trtexec's own, where that does not tell."""
    match = re.fullmatch(
        r"(?:.*[-_.])?int8-(entropy2|minmax|entropy|legacy|fp16)", PurePath(cache).stem
    )
    return match[1] if match else "entropy2"
