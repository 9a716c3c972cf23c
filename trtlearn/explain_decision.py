"""trtexec's own decision about INT8, in its own order, and what follows from it.

setupNetworkAndConfig in samples/common/sampleEngines.cpp, v8.6.1:970-1155; the same branches at every tag to 10.16.
"""

from __future__ import annotations

from .explain_case import Case
from .explain_words import WORDS
from .record import plural
from .trtexec_sources import cite

__all__ = ["afterwards", "decide"]


def decide(case: Case) -> tuple[str, str]:
    """trtexec's own decision, in its own order."""
    qdq, flag = bool(case.has_qdq), case.int8
    seen = {None: "unknown, assumed to be none", True: "there", False: "not there"}[case.has_qdq]
    if not case.typed:
        case.step("parse_model", "parses the model with the types and Q/DQ nodes it has", f"its Q/DQ nodes are {seen}")
        return ("explicit-qdq" if qdq else "not-int8"), ""
    if cite(case.release.tag, "inputs_are_fp32") and not case.formats["input"]:
        case.step("inputs_are_fp32", "keeps FP32 network inputs FP32 (an INT8 one becomes FP32)", "no --inputIOFormats")
    if flag:
        case.step("int8_flag", "allows INT8 kernels (BuilderFlag INT8): permitted, not forced", "int8 is set")
        if not case.fp16:
            case.step(
                "fp16_hint", "hints that FP16 may be faster: what is not INT8 runs in FP32", "int8 is set, fp16 is not"
            )
    if case.int8_io:
        case.step(
            "int8_io",
            f"counts {plural(case.int8_io, 'INT8 format')} at inputs and outputs",
            "--inputIOFormats or --outputIOFormats names int8",
        )
    case.step("has_qdq", "looks for Quantize and Dequantize layers in the network", f"its Q/DQ nodes are {seen}")
    if not qdq and (flag or case.int8_io) and not case.cache:
        reason = " and ".join(
            (["int8 is set"] if flag else []) + (["an input or output is INT8"] if case.int8_io else [])
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
            case.step("printed", 'prints "Calibration: Dynamic", though nothing is', "int8 is set and no --calib value")
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
            "set_io_scales", "looks each up by name; a name that is missing ends trtexec", "tensorScales.at(name)"
        )
    case.step("set_calibrator", "makes a RndInt8Calibrator and gives it to the builder", "int8 is set")
    if qdq:
        return "explicit-qdq", ""
    return _calibrated(case)


def _set_aside(case: Case, why: str, fix: str) -> tuple[str, str]:
    """The file opens, so no noise is made; TensorRT does not take its scales, and asks for data that are not there."""
    case.step("calibrator_opens", "makes no noise", f"{case.cache} opens")
    case.step("calibrator_reads", "hands the file's bytes to TensorRT, which sets them aside", why)
    case.step("calibrator_batch", "hands over one batch of null pointers", "no noise was made for it")
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
            "calibrator_reads", "hands the file's bytes to TensorRT, which asks for no batch", f"{case.cache} opens"
        )
        case.warnings += [
            "neither the model nor the version that the cache was made with is checked by trtexec",
            "trtexec's calibrator is an EntropyCalibration2: with a cache whose header names another one the build "
            "fails (NVIDIA/TensorRT#3430)",
        ]
        return "cached-scales", ""
    case.step("calibrator_opens", "goes on to make noise", f"{case.cache} does not open: a missing file is no error")
    case.step(
        "calibrator_uniform", "fills one batch for every network input with uniform floats in [-1, 1)", "no cache"
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
        case.step("apply_precisions", "sets the named layers' precisions", f"--precisionConstraints={constraints}")
    if has("--useDLACore"):
        case.step("dla", "sends the layers to DLA, and sets FP16 if INT8 is not set", "--useDLACore is given")
    if parsed.values.get("--sparsity") == "force":
        case.warnings.append(
            "--sparsity=force overwrites weights with a sparse pattern: the answers are not the model's"
        )
    if has("--safe") and cite(case.release.tag, "safe_is_strongly_typed"):
        case.step("safe_is_strongly_typed", "makes the network strongly typed after all", "--safe is given")
        case.warnings.append("a strongly typed network takes no precision flags and no ranges: use Q/DQ with --safe")
    if typed and not case.int8 and case.cache:
        case.warnings.append("--calib without --int8 (or --best) has no effect")
    if case.int8_io and not case.int8 and case.cache and not case.has_qdq:
        case.warnings.append("the INT8 input or output is left without a range: expect the build to fail (inferred)")
    if case.int8_io and has("--stronglyTyped") and typed and not case.has_qdq:
        case.warnings.append("a strongly typed network takes no ranges: expect the build to fail (inferred)")
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
    gone = ["calibration and --int8 are deprecated in TensorRT 10 and gone in 11.0: prefer Q/DQ for anything new"]
    late = gone if case.release.number >= (10, 1) and case.int8 and mode != "explicit-qdq" else []
    if mode in ("placeholder-ranges", "random-calibration"):
        return [f"to time INT8 this is enough; for answers {calibrate}", f"or {qdq}", *late]
    if mode == "cached-scales" and case.cache_set_aside:
        return late
    if mode == "cached-scales":
        return ["look into the cache: `trtlearn cache show FILE`; its names must be this model's tensors", *late]
    if mode == "not-int8" and case.strongly_typed:
        return [f"for INT8, {qdq}"]
    if mode == "not-int8":
        return [f"for INT8, {calibrate}, with --int8"]
    return []
