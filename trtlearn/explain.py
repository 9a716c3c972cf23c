"""What a trtexec command line does about INT8: which of six things happens, why, and where trtexec's source says so.

The rule, the same from 8.4 to 10.16 (v8.6.1:samples/common/sampleEngines.cpp:1009-1082): without Q/DQ nodes, and with
--int8 or an INT8 input or output, and no --calib value: placeholder ranges. Otherwise with --int8 a calibrator is set;
it hands over the cache where the file opens and noise where not; a cache of another kind than its own, entropy 2,
TensorRT sets aside. From 11.0 on --int8 is an unknown option.
"""

from __future__ import annotations

import re
from pathlib import PurePath
from typing import Any

from .errors import CommandError
from .explain_case import Case, look_at_cache, look_at_model, read_flags, refused
from .explain_decision import afterwards, decide
from .explain_records import Explanation
from .explain_words import WORDS, dtype_words
from .records import BuildOptions
from .trtexec_options import parse_trtexec
from .trtexec_sources import cite, known_versions, resolve
from .variants import TRTEXEC_AVG_TIMING

__all__ = ["VERSIONS", "explain", "options_from", "parse_trtexec", "recorded_variant", "variant_of"]

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
    case.step("split", f"splits its {count} arguments at the first '='", "an argument is OPTION or OPTION=VALUE")
    if parsed.helps:
        case.step("help", "prints its help and ends", "--help or -h is given, or nothing at all")
        return _finish(case, command, "not-int8", "only the help is printed: nothing is built")
    if parsed.error:
        return _finish(case, command, "rejected", refused(case, command))
    read_flags(case)
    if parsed.has("--loadEngine"):
        case.step("load", "loads the engine and builds nothing", "--loadEngine is given")
        case.warnings.append("--int8, --calib and the other build options have no effect on an engine that is loaded")
        case.alternatives.append("whether the loaded engine runs INT8 was decided when it was built: trtlearn inspect")
        return _finish(case, command, "not-int8", "an engine is loaded as it is: this command quantizes nothing")
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
        else dtype_words(case.formats[way], way, case.typed, bool(cite(release, "inputs_are_fp32")), quantized)
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
        raise CommandError(f"the command builds nothing: {explanation.kind}", "give a command that builds an engine")
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
    named = [part.rpartition(":") for part in options.get("--layerPrecisions", "").split(",") if ":" in part]
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
    if not explanation.options or explanation.mode in ("rejected", "explicit-qdq") or explanation.tag.startswith("v11"):
        return None
    if "--loadEngine" in explanation.options:
        return None
    if explanation.mode == "not-int8":
        return "fp16" if explanation.fp16 else "fp32" if "--noTF32" in explanation.options else "tf32"
    if not explanation.int8 or explanation.cache_set_aside:
        return None
    if explanation.mode == "cached-scales":
        algorithm = _algorithm(explanation.cache or "")
        if explanation.fp16:
            return "int8-fp16" if algorithm in ("entropy2", "fp16") else None
        return f"int8-{algorithm}" if algorithm != "fp16" else None
    if explanation.fp16:
        return None
    return {"placeholder-ranges": "int8-placeholder", "random-calibration": "int8-random"}[explanation.mode]


recorded_variant = variant_of


def _algorithm(cache: str) -> str:
    """The calibrator (or fp16) from a cache's name; entropy2, trtexec's own, where that does not tell."""
    match = re.fullmatch(r"(?:.*[-_.])?int8-(entropy2|minmax|entropy|legacy|fp16)", PurePath(cache).stem)
    return match[1] if match else "entropy2"
