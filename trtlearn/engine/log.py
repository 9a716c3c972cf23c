"""TensorRT's log in plain words: what each warning means, what to do, and the scales and layers that it names."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from .records import Message, TensorRange

__all__ = [
    "KINDS",
    "Kind",
    "decode",
    "failing_layer",
    "first_error",
    "scales_from_log",
    "split_line",
]


# --- The kinds of TensorRT log message that trtlearn knows: a pattern, plain words, what to do.


@dataclass(frozen=True)
class Kind:
    """One kind of message."""

    code: str
    pattern: re.Pattern[str]
    plain: str
    fix: str
    verbose: bool = False  # reported even where it came as a verbose line


def _kind(code: str, pattern: str, plain: str, fix: str, verbose: bool = False) -> Kind:
    return Kind(code, re.compile(pattern), plain, fix, verbose)


KINDS = (
    _kind(
        "missing-scale",
        r"Missing scale and zero-point for tensor (.+?)(?:, expect fall back|\. Tensor scale and zero-point must)",
        "This tensor has no INT8 scale, so the layers that read or write it cannot run in INT8.",
        "Give it a range (set_ranges), calibrate again, or, if its name changed, rename it in the cache.",
    ),
    _kind(
        "explicit-precision",
        r"Calibrator won't be used in explicit precision mode",
        "The model has Q/DQ layers: they alone decide what is INT8, and the calibrator is ignored.",
        "Drop the calibrator, or build the model without its Q/DQ layers.",
    ),
    _kind(
        "no-scales",
        r"Calibration failure occurred with no scaling factors detected",
        "INT8 was asked for, but there are neither a calibrator nor ranges nor Q/DQ layers: nothing has a scale.",
        "Choose where the ranges come from: ranges='placeholder', a calibrator, set_ranges, or Q/DQ.",
    ),
    _kind(
        "no-implementation",
        r"Could not find any implementation for node (.+?)(?: due to insufficient workspace.*)?$",
        "The builder found no kernel that can run this layer (or fused group of layers) as asked.",
        "Keep this layer out of INT8 (layer_precisions with prefer), allow FP16, raise the optimization level, or "
        "allow more tactic sources.",
    ),
    _kind(
        "constraint-not-met",
        r"No (?:implementation of layer|IAlgorithm obeys the requested constraints for|valid obedient candidate choices"
        r" for node) (.+?)(?: obeys the requested| in strict mode| that meet the preferred).*",
        "No kernel has the precision that was asked of this layer.",
        "With prefer the fastest one is used instead; with obey the build fails: relax this layer's precision.",
    ),
    _kind(
        "int8-no-calibrator",
        r"Int8 mode specified but no calibrator specified",
        "INT8 without a calibrator: TensorRT relies on ranges set by hand.",
        "Nothing, if you set a range for every tensor; otherwise add a calibrator.",
    ),
    _kind(
        "ranges-by-hand",
        r"Calibrator is not being used\. Users must provide dynamic range",
        "No calibrator: every tensor that is not INT32 or Bool needs a range set by hand.",
        "Check that no 'missing scale' warning follows; each one named falls back to FP32 or FP16.",
    ),
    _kind(
        "calibration-skipped",
        r"User provided dynamic ranges for all network tensors\. Calibration skipped",
        "Every tensor had a range set by hand, so the calibrator was never asked for data.",
        "Remove the ranges to calibrate.",
    ),
    _kind(
        "cached-calibration",
        r"Generated calibration scales using calibration cache",
        "The scales came from the calibration cache: no data was run through the network.",
        "Delete the cache to calibrate anew; do so whenever the model changes.",
        verbose=True,
    ),
    _kind(
        "cache-to-delete",
        r"To regenerate calibration cache, please delete the existing one",
        "The cache was used as it is.",
        "Delete it to calibrate again.",
    ),
    _kind(
        "cache-other-algorithm",
        r"Calibration table does not match(?: calibrator algorithm type)?\.",
        "The cache's header names another calibrator than the one in use.",
        "Use the calibrator that wrote the cache, or calibrate again.",
    ),
    _kind(
        "calibration-null-input",
        r"Assertion memory != nullptr failed\. memory must be valid if nbElem",
        "The calibration was given a null pointer for an input: trtexec does so when the cache that --calib names "
        "opens, but is not an EntropyCalibration2's (NVIDIA/TensorRT#3430).",
        "Give the cache that header (`trtlearn cache edit --header TRT-8600-EntropyCalibration2`), or calibrate again.",
    ),
    _kind(
        "cache-bad-line",
        r'Could not parse the following line from the calibration cache: "(.*?)"?$',
        "A line of the calibration cache has no colon: a blank line, or a file cut short. TensorRT skips it.",
        "Repair the line (`trtlearn cache show`), or calibrate again; blank lines alone do no harm.",
    ),
    _kind(
        "no-calibration-profile",
        r"Calibration Profile is not defined\. (?:Calibrating|Running calibration) with Profile 0",
        "The network has dynamic shapes and no calibration profile: calibration uses profile 0's optimum shape.",
        "Give calibration_shapes where your calibration batches have another shape.",
    ),
    _kind(
        "tensor-zero",
        r"ensor (.+?) is uniformly zero",
        "This tensor was zero for all calibration data, so it has no range.",
        "Feed data that reaches it, or set its range by hand.",
    ),
    _kind(
        "qdq-needs-int8",
        r"INT8 mode needs to be enabled for networks with INT8 QuantizeLayer",
        "The model has Q/DQ layers, but INT8 was not allowed.",
        "Build with int8=True and ranges='qdq'.",
    ),
    _kind(
        "ranges-with-qdq",
        r"Setting dynamic range is only allowed when there are no Q/DQ layers",
        "Ranges cannot be set in a model with Q/DQ layers.",
        "Build with ranges='qdq'.",
    ),
    _kind(
        "int8-io-range",
        r"(\S+): input/output with DataType Int8 in network without Q/DQ layers must have dynamic range",
        "An INT8 input or output needs a range set by hand when no calibrator is used.",
        "Set its range (set_ranges).",
    ),
    _kind(
        "no-native-int8",
        r"Int8 support requested on hardware without native Int8 support",
        "This GPU has no INT8 instructions: INT8 will be slower, not faster.",
        "Use FP16 here.",
    ),
    _kind(
        "subnormal-fp16",
        r"Detected subnormal FP16 values|Detected values less than smallest positive FP16 subnormal|Subnormal FP16 val",
        "Some weights are too small for FP16's normal range and lose digits when converted.",
        "Compare the accuracy with FP32; if it suffers, keep those layers in FP32.",
        verbose=True,
    ),
    _kind(
        "weights-converted",
        r"TensorRT encountered issues when converting weights between types|weights are affected by this issue|"
        r"If this is not the desired behavior, please modify the weights|^adjust the magnitude of the weights|"
        r"Check verbose logs for the list of affected weights",
        "Converting weights to a narrower type changed some of them.",
        "Compare the accuracy with FP32; the verbose log lists the weights.",
    ),
    _kind(
        "int64-weights",
        r"generated with INT64 weights, while TensorRT does not natively support INT64",
        "The model holds INT64 constants; TensorRT 8 casts them to INT32.",
        "Nothing, unless 'clamped' follows: ONNX exporters write shapes and indices as INT64.",
    ),
    _kind(
        "weights-clamped",
        r"One or more weights outside the range of (\w+) was clamped",
        "A constant did not fit into the narrower type and was cut to its limit.",
        "Harmless for the 'to the end' of a Slice (INT64's maximum); otherwise mend the model.",
    ),
    _kind(
        "linked-against",
        r"TensorRT was linked against (.+? but loaded .+?)(?:\. |$)",
        "Another version of cuDNN or cuBLAS is loaded than the one TensorRT was built with.",
        "Install the version named, or build with tactic_sources=() so that neither is used.",
    ),
    _kind(
        "lazy-loading",
        r"CUDA lazy loading is not enabled",
        "All of CUDA's kernels are loaded at start, which costs time and GPU memory; results do not change.",
        "Set the environment variable CUDA_MODULE_LOADING=LAZY.",
    ),
    _kind(
        "timing-cache-mismatch",
        r"Timing cache header mismatch|Detected invalid timing cache",
        "The timing cache is of another GPU or TensorRT version, so it is not used.",
        "Keep one timing cache for each GPU model and TensorRT version.",
    ),
    _kind(
        "timing-cache-refused",
        r"myelinCache\.h::deserializeFromBuffer|The timing cache will not be used",
        "TensorRT could not read the timing cache, or Myelin's part of it, and times those kernels anew.",
        "Nothing: the engine is as good, the build takes longer. Build without a timing cache to lose the message.",
    ),
    _kind(
        "timing-cache-off",
        r"Timing cache disabled\. Turning it on",
        "Every kernel is timed anew.",
        "Give a timing cache to make later builds faster and more alike.",
    ),
    _kind(
        "workspace",
        r"Some tactics do not have sufficient workspace memory to run",
        "Some faster kernels were left out because the workspace limit is too small for them.",
        "Raise the workspace limit.",
    ),
    _kind(
        "out-of-memory",
        r"Requested amount of GPU memory \((.+?)\) could not be allocated|Out of memory error while finding fastest",
        "The GPU has too little free memory for this kernel or engine.",
        "Close other programs on the GPU, or use a smaller batch.",
    ),
    _kind(
        "plan-version",
        r"engine plan file is not compatible with this version of TensorRT|Version tag does not match|"
        r"magicTag(?:Read)? == \S+ failed",
        "The plan was built by another TensorRT version, or is no plan: a plan loads only where it was built.",
        "Build the engine again with the TensorRT that is installed here.",
    ),
    _kind(
        "plan-other-gpu",
        r"Using an engine plan file across different models of devices",
        "The plan was built on another model of GPU.",
        "Build it again on this GPU: its kernels were chosen for the other one.",
    ),
    _kind(
        "weakly-typed",
        r"[Ww]eakly.typed networks? (?:is|are) deprecated",
        "TensorRT 11 drops networks whose precisions the builder chooses.",
        "Move to a strongly typed network with Q/DQ layers.",
    ),
    _kind(
        "calibrator-deprecated",
        r"(?i)calibrat\w+.{0,80}deprecated|deprecated.{0,80}calibrat",
        "Calibrators are deprecated since TensorRT 10.1 and gone in 11.0.",
        "Plan the move to Q/DQ layers; the scales can be kept.",
    ),
    _kind(
        "no-importer",
        r"No importer registered for op: (\w+)",
        "The ONNX parser does not know this operator and looks for a plugin of that name.",
        "Replace the operator, or load the plugin's library.",
    ),
    _kind(
        "asymmetric-range",
        r"Dynamic range should be symmetric",
        "INT8 here is symmetric: the larger bound is used for both sides.",
        "Give ranges as one amax.",
    ),
    _kind(
        "no-output",
        r"Network must have at least one output",
        "The network has no output.",
        "Mark one, or check the ONNX model.",
    ),
    _kind(
        "no-driver",
        r"CUDA initialization failure with error|Unable to determine GPU memory usage",
        "TensorRT cannot use a GPU here.",
        "Check `nvidia-smi`; `trtlearn doctor` says what is missing.",
    ),
)
"""Every kind known, the more particular first."""


# --- TensorRT's log in plain words: what each warning means, what to do, and the scales and layers that it names.

_SEVERITY = {"F": "error", "E": "error", "W": "warning", "I": "info", "V": "verbose"}
_PREFIX = re.compile(r"^(?:\[[0-9/:\-]+\] )?\[([FEWIV])\] (?:\[TRT\] )?")
_SCALE = re.compile(
    r"INT8 Inference Tensor scales and zero-points: (.+) scale and zero-point "
    r"Quantization\(scale: \{([^}]*)\}, zero-point: \{([^}]*)\}\)"
)
_NODE = re.compile(
    r"(?:implementation for node|candidate choices for node|No IAlgorithm obeys the requested constraints for) "
    r"(.+?)(?: due to insufficient workspace.*| in strict mode.*| that meet the preferred.*)?$"
)
_VERBOSE = tuple(kind for kind in KINDS if kind.verbose)
_API = re.compile(r"Error Code \d+: [^(]*\((?:\[?)(.+?)(?:\]?): ")


def split_line(line: str) -> tuple[str, str]:
    """(severity, text) of a log line, as trtlearn or trtexec wrote it; severity "verbose" where it names none.

    >>> split_line("[11/23/2026-16:00:00] [W] [TRT] Timing cache disabled.")
    ('warning', 'Timing cache disabled.')
    """
    if found := _PREFIX.match(line):
        return _SEVERITY[found[1]], line[found.end() :]
    return "verbose", line


def _lines(log: str | Iterable[str]) -> Iterator[tuple[str, str]]:
    for line in log.splitlines() if isinstance(log, str) else log:
        yield split_line(line.rstrip("\n"))


def _clean(name: str) -> str:
    """``name`` without the full stop and the ")" of "Error Code 10: Internal Error (... NAME.)"."""
    name = name.rstrip(". ")
    while name.endswith(")") and name.count(")") > name.count("("):
        name = name[:-1].rstrip(". ")
    return name


def _messages_kind(severity: str, text: str) -> tuple[Kind | None, tuple[str, ...]]:
    for kind in _VERBOSE if severity == "verbose" else KINDS:
        if found := kind.pattern.search(text):
            return kind, tuple(_clean(part) for part in found.groups() if part)
    return None, ()


def decode(log: str | Iterable[str]) -> tuple[Message, ...]:
    """What a TensorRT log says in plain words: one Message a kind, with how often it came and whom it named.

    Args:
        log: the text, or its lines, as ``BuildReport.log`` or trtexec's output has them.

    Returns every error and warning, also of a kind not known here (``code`` "", ``plain`` None), and those
    informative lines that matter, errors first, otherwise in the order in which they came.

    >>> message, = decode("[W] Missing scale and zero-point for tensor x, expect fall back to non-int8 "
    ...                   "implementation for any layer consuming or producing given tensor")
    >>> message.code, message.names
    ('missing-scale', ('x',))
    """
    kept: dict[tuple[str, str], tuple[str, str, Kind | None, list[str], int]] = {}
    for severity, text in _lines(log):
        if not text.strip():
            continue
        kind, names = _messages_kind(severity, text)
        if kind is None and severity not in ("error", "warning"):
            continue
        key = (severity, kind.code if kind else text)
        first_severity, first, kept_kind, all_names, count = kept.get(
            key, (severity, text, kind, [], 0)
        )
        all_names += [name for name in names if name not in all_names]
        kept[key] = (first_severity, first, kept_kind, all_names, count + 1)
    messages = [
        Message(
            severity="info" if severity == "verbose" else severity,
            text=text,
            code=kind.code if kind else "",
            plain=kind.plain if kind else None,
            fix=kind.fix if kind else None,
            names=tuple(names),
            count=count,
        )
        for severity, text, kind, names, count in kept.values()
    ]
    order = {"error": 0, "warning": 1, "info": 2}
    return tuple(sorted(messages, key=lambda message: order[message.severity]))


def scales_from_log(log: str) -> tuple[TensorRange, ...]:
    """Each tensor's INT8 scale as the verbose log prints it (six digits), in the log's order.

    The builder prints them after calibration, or after the ranges set by hand: amax = 127 · scale. A tensor
    with several scales (one per channel) has scale None and says so. Source: TensorRT 8.6 verbose log, measured.

    >>> scales_from_log("[V] INT8 Inference Tensor scales and zero-points: a b scale and zero-point "
    ...                 "Quantization(scale: {0.0366892,}, zero-point: {0,})")[0].scale
    0.0366892
    """
    found: dict[str, TensorRange] = {}
    for name, scales, zeros in _SCALE.findall(log):
        values = [float(value) for value in scales.split(",") if value.strip()]
        if len(values) != 1:
            entry = TensorRange(name, None, None, "log", f"{len(values)} scales")
        else:
            zero = ", ".join(value.strip() for value in zeros.split(",") if value.strip())
            note = "" if zero == "0" else f"zero point {zero}"
            entry = TensorRange(name, values[0] * 127, values[0], "log", note)
        found.setdefault(name, entry)
    return tuple(found.values())


def first_error(log: str | Iterable[str]) -> str | None:
    """The first error's own words; None where the log holds no error."""
    return next((text for severity, text in _lines(log) if severity == "error"), None)


def failing_layer(log: str | Iterable[str]) -> str | None:
    """The layer (or fused layers) that the log's first error blames; None where it names none.

    >>> failing_layer("[E] 10: Could not find any implementation for node a + PWN(b, c).")
    'a + PWN(b, c)'
    """
    for severity, text in _lines(log):
        if severity != "error":
            continue
        if found := _NODE.search(text):
            return _clean(found[1])
        if (found := _API.search(text)) and not found[1].startswith("Assertion"):
            return found[1]
    return None
