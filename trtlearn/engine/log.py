"""TensorRT's log in plain words: what each warning means, what to do, which scales it names.

The kinds of message that trtlearn knows stand in tables/messages.json, the more particular first: a
pattern (its groups name tensors or layers), plain words, what to do, and whether it counts even as
a verbose line. What host programs put before TensorRT's words stands in tables/prefixes.json.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

from ..files import load_table
from ..record import Record, plural
from .records import Message, TensorRange

__all__ = [
    "LogReport",
    "MessageKind",
    "decode",
    "failing_layer",
    "layers_in_text",
    "read_log",
    "scales_from_log",
    "split_line",
]

_SEVERITY = {"F": "error", "C": "error", "E": "error", "W": "warning", "I": "info"}
_SEVERITY |= dict.fromkeys("VDT", "verbose")
_ORDER = ("error", "warning", "info")
_PREFIX = re.compile(r"^(?:\[[0-9/:\-]+\] )?\[([FEWIV])\] (?:\[TRT\] )?")
"""trtexec's prefix and trtlearn's own: tried first, for most lines have it."""
_LEVEL = (
    r"(?P<level>FATAL|CRITICAL|INTERNAL_ERROR|ERROR|ERR|WARNING|WARN|INFO|DEBUG|VERBOSE|TRACE"
    r"|F|E|W|I|V)"
)
_TIME = (
    r"(?:\d{2,4}[-/]\d{1,2}[-/]\d{1,4}[ T-]\d{1,2}|\d\d):\d\d:\d\d(?:[.,]\d+)?"
    r"(?:Z|[+-]\d\d:?\d\d)?"
)
_SPELLINGS = (  # of Polygraphy and Ultralytics
    (re.compile(r"(?:TensorRT|trt): (?=\S)"), ""),
    (re.compile(r"\[!\] |(?:ERROR )?❌\ufe0f? ?"), "[E] "),
    (re.compile(r"WARNING ⚠\ufe0f? ?"), "[W] "),
    (re.compile(r"\[X\] "), "[V] "),
)
_JOINED = re.compile(r"(?<=\S) (?=\[\d\d/\d\d/\d{4}-\d\d:\d\d:\d\d\] \[)")
"""Where a line of trtexec's form begins inside another, as web pages paste them."""
_COLOR = re.compile(r"\x1b\[[0-9;]*[A-Za-z]|^\[[0-9;]+m")
_LOOKS_LIKE_ERROR = re.compile(
    r"^(?:E +)?(?:[A-Za-z_][\w.]*\.)?[A-Z]\w*(?:Error|Exception): "  # of Python
    r"|^\S+:\d+:(?:\d+:)? (?:fatal )?error: |\berror C\d{4}: |\bAssertion failed: "  # of compilers
    r"|\bError Code:? \d+|\bError\[\d+\]: "
)
_SCALE = re.compile(
    r"INT8 Inference Tensor scales and zero-points: (.+) scale and zero-point "
    r"Quantization\(scale: \{([^}]*)\}, zero-point: \{([^}]*)\}\)"
)
_NODE = re.compile(
    r"(?:implementation for node|candidate choices for node"
    r"|No IAlgorithm obeys the requested constraints for) (.+?)"
    r"(?: due to insufficient workspace.*| in strict mode.*| that meet the preferred.*"
    r"|\. In \w+ at .*)?$"
)
_PARSED = re.compile(
    r"While parsing node number \d+ \[\S+(?: -> \"(?P<output>.*?)\")?"
    r"|In node -?\d+ with name: (?P<name>.*?) and operator"
)
_CONDITION = re.compile(r"Assertion|Serialization|Parameter check|Requested|Could not infer")
"""What stands at the place of a layer's name in errors that name none."""
_API = re.compile(r"Error Code \d+: [^(]*\((?:\[?)(.+?)(?:\]?): ")
_VERSION = re.compile(
    r"\[TensorRT v(\d{4,6})\]|TensorRT [Vv]ersion:? (\d+(?:\.\d+)+)|TensorRT-(\d+(?:\.\d+)+)"
)
_TIMED = re.compile(r"Timing Runner: (.+) \([A-Za-z]+\[0x[0-9a-f]+\]\)")


LONGEST = 1 << 14  # characters of a line that are looked at: more is no message, but data


@dataclass(frozen=True)
class MessageKind:
    """One kind of message."""

    code: str
    pattern: re.Pattern[str]
    plain: str
    fix: str
    verbose: bool = False  # reported even where it came as a verbose line


@cache
def message_kinds(verbose: bool = False) -> tuple[MessageKind, ...]:
    """Every kind of message known, or those that count as a verbose line; the particular first."""
    if verbose:
        return tuple(kind for kind in message_kinds() if kind.verbose)
    rows = load_table("messages")
    return tuple(MessageKind(**row | {"pattern": re.compile(row["pattern"])}) for row in rows)


@cache
def _prefixes() -> tuple[re.Pattern[str], ...]:
    """What may stand before TensorRT's words; a line may begin with several of them."""
    patterns = (row["pattern"] for row in load_table("prefixes"))
    full = (text.replace("TIME", _TIME).replace("LEVEL", _LEVEL) for text in patterns)
    return tuple(re.compile(text, re.IGNORECASE) for text in full)


def split_line(line: str) -> tuple[str, str]:
    """(severity, text) of a log line, whatever program printed it; "verbose" where it names none.

    Known are the prefixes of trtexec, TensorRT's Python logger, ONNX Runtime, DeepStream, Triton,
    Torch-TensorRT, mmdeploy, Polygraphy, Python's logging, ROS and docker; colours are dropped. A
    Python exception and a compiler's error are errors.

    >>> split_line("[11/23/2026-16:00:00] [W] [TRT] Timing cache disabled.")
    ('warning', 'Timing cache disabled.')
    >>> split_line("[TensorRT] WARNING: Timing cache disabled.")
    ('warning', 'Timing cache disabled.')
    """
    severity, text = _split(line)
    return severity or "verbose", text


def _split(line: str) -> tuple[str | None, str]:
    """(severity, text), None where the line names no severity and looks like no error."""
    if match := _PREFIX.match(line):
        return _SEVERITY[match[1]], line[match.end() :]
    text, severity = _respelled(_COLOR.sub("", line)), None
    while prefix := next(filter(None, (prefix.match(text) for prefix in _prefixes())), None):
        groups = prefix.groupdict()
        if level := groups.get("level"):
            is_word = prefix[0].upper().startswith(level.upper()) and "day" not in groups
            if is_word and severity:
                break  # "[W] Error: ..." is a warning's own text
            severity = _SEVERITY[level[0].upper()]
        text = _respelled(text[prefix.end() :])
    if severity is None and _LOOKS_LIKE_ERROR.search(text, 0, LONGEST):
        severity = "error"
    quoted = len(text) > 1 and text[0] == text[-1] == '"'
    return severity, text[1:-1] if quoted else text


def _respelled(text: str) -> str:
    for spelling, usual in _SPELLINGS:
        text = usual + text[match.end() :] if (match := spelling.match(text)) else text
    return text


def _lines(log: str | Iterable[str]) -> Iterator[tuple[str | None, str]]:
    """(severity, text) of each line that is not empty."""
    for line in filter(str.strip, log.splitlines() if isinstance(log, str) else log):
        for part in _JOINED.split(line.rstrip("\n")):
            yield _split(part)


def _clean(name: str) -> str:
    """``name`` without the full stop and the ")" of "Internal Error (... NAME.)"."""
    name = name.rstrip(". ")
    while name.endswith(")") and name.count(")") > name.count("("):
        name = name[:-1].rstrip(". ")
    return name


def _message(severity: str | None, text: str) -> Message | None:
    """The message of one line; None for a line that tells a reader nothing.

    A line of no severity, such as one pasted alone, counts as a warning where its kind is known.
    """
    shown = "info" if severity == "verbose" else severity or "warning"
    for kind in message_kinds(severity == "verbose"):
        if match := kind.pattern.search(text, 0, LONGEST):
            names = tuple(_clean(part) for part in match.groups() if part)
            return Message(shown, text, kind.code, kind.plain, kind.fix, names)
    return Message(shown, text) if severity in ("error", "warning") and text.strip() else None


def decode(log: str | Iterable[str]) -> tuple[Message, ...]:
    """What a TensorRT log says: one Message a kind, with how often it came and whom it named.

    Args:
        log: the text, or its lines, as ``BuildReport.log`` or trtexec's output has them.

    Returns every error and warning, also of a kind not known here (``code`` "", ``plain`` None),
    and those informative lines that matter, errors first, otherwise in the order in which they
    came.

    >>> line = "[W] Missing scale and zero-point for tensor x, expect fall back to non-int8 ..."
    >>> message, = decode(line)
    >>> message.code, message.names
    ('missing-scale', ('x',))
    """
    messages: dict[tuple[str, str], Message] = {}
    for severity, text in _lines(log):
        message = _message(severity, text)
        if message is None:
            continue
        key = (severity or "", message.code or text)
        first = messages.get(key)
        if first is not None:
            names = tuple(dict.fromkeys((*first.names, *message.names)))
            message = replace(first, names=names, count=first.count + 1)
        messages[key] = message
    return tuple(sorted(messages.values(), key=lambda message: _ORDER.index(message.severity)))


def scales_from_log(log: str) -> tuple[TensorRange, ...]:
    """Each tensor's INT8 scale as the verbose log prints it (six digits), in the log's order.

    The builder prints them after calibration, or after the ranges set by hand: amax = 127 ·
    scale. A tensor with several scales (one per channel) has scale None, and its note says so.
    Source: TensorRT 8.6's verbose log, measured.

    >>> start = "[V] INT8 Inference Tensor scales and zero-points: a b scale and zero-point "
    >>> scales_from_log(start + "Quantization(scale: {0.0366892,}, zero-point: {0,})")[0].scale
    0.0366892
    """
    ranges: dict[str, TensorRange] = {}
    for name, scales, zeros in _SCALE.findall(log):
        try:
            values = [float(value) for value in scales.split(",") if value.strip()]
        except ValueError:
            continue  # a damaged line
        if len(values) != 1:
            entry = TensorRange(name, None, None, "log", plural(len(values), "scale"))
        else:
            zero = ", ".join(value.strip() for value in zeros.split(",") if value.strip())
            note = "" if zero == "0" else f"zero point {zero}"
            entry = TensorRange(name, values[0] * 127, values[0], "log", note)
        ranges.setdefault(name, entry)
    return tuple(ranges.values())


def failing_layer(log: str | Iterable[str]) -> str | None:
    """The layer (or fused layers) that the log's first error blames; None where it names none.

    >>> failing_layer("[E] 10: Could not find any implementation for node a + PWN(b, c).")
    'a + PWN(b, c)'
    """
    for severity, text in _lines(log):
        if severity != "error":
            continue
        if match := _NODE.search(text):
            return _clean(match[1])
        if match := _PARSED.search(text):
            return match["name"] or match["output"]
        if (match := _API.search(text)) and not _CONDITION.match(match[1]):
            return match[1]
    return None


def last_timed(log: str) -> str | None:
    """The layer (or fused layers) whose kernels were timed last; None where none was."""
    timed = [match[1] for match in _TIMED.finditer(log) if not match[1].startswith("Optimizer ")]
    return timed[-1] if timed else None


@dataclass(frozen=True)
class LogReport(Record):
    """What a log says: its messages in plain words, the scales it lists, the layer that failed."""

    messages: tuple[Message, ...]
    failing_layer: str | None  # of the first error that names one
    scales: tuple[TensorRange, ...]  # as the verbose log prints them
    tensorrt: str | None = None  # the version that the log names, as written there
    lines: int = 0

    def summary(self) -> str:
        counts = dict.fromkeys(_ORDER, 0)
        for message in self.messages:
            counts[message.severity] += 1
        kinds = [plural(count, kind) for kind, count in counts.items() if kind != "info"]
        version = f", TensorRT {self.tensorrt}" if self.tensorrt else ""
        return f"{plural(self.lines, 'line')}{version}: {', '.join(kinds)}" + (
            f"; the layer that failed: {self.failing_layer}" if self.failing_layer else ""
        )

    def rows(self) -> list[dict[str, Any]]:
        return [
            {
                "severity": message.severity,
                "code": message.code or "not known to trtlearn",
                "times": message.count,
                "names": message.names,
                "in plain words": message.plain or message.text,
                "what to do": message.fix or "",
            }
            for message in self.messages
        ]

    def __str__(self) -> str:
        lines = [self.summary()]
        for message in self.messages:
            names = f": {', '.join(message.names[:5])}" if message.names else ""
            more = f" and {len(message.names) - 5} more" if len(message.names) > 5 else ""
            times = f" ({message.count} times)" if message.count > 1 else ""
            code = message.code or "not known to trtlearn"
            lines.append(f"{message.severity} [{code}]{times}{names}{more}")
            lines.append(f"  TensorRT says: {message.text}")
            lines += [f"  it means: {message.plain}"] if message.plain else []
            lines += [f"  what to do: {message.fix}"] if message.fix else []
        if self.scales:
            lines.append(f"{plural(len(self.scales), 'scale')} listed: see --json")
        return "\n".join(lines)


def read_log(log: str | Iterable[str]) -> LogReport:
    """Everything that a log says, whichever program printed it.

    >>> report = read_log("[TRT] [E] 10: Could not find any implementation for node conv1.")
    >>> report.failing_layer, report.messages[0].code
    ('conv1', 'no-implementation')
    """
    lines = log.splitlines() if isinstance(log, str) else [line.rstrip("\n") for line in log]
    text = "\n".join(lines)
    version = _VERSION.search(text)
    return LogReport(
        decode(lines),
        failing_layer(lines),
        scales_from_log(text),
        next(filter(None, version.groups()), None) if version else None,
        len(lines),
    )


# The engine's layers in a log, or in the inspector's one-line text. Three forms:
# ``Layer(Kind): name, Tactic: 0x1, in (Int8[1,3:4,8,8]) -> out (...)`` under "Engine Layer
# Information" in a verbose log; ``Name: ..., LayerType: ..., Inputs: [...], Outputs: [...]`` under
# "Layers:", what trtexec prints with --dumpLayerInfo; and there names alone, of an engine built
# without detailed verbosity.

_LAYER = re.compile(r"Layer\((\w+)\): ")
_TACTIC = re.compile(r", Tactic: (-?\w+)(?: \([^)]{0,400}\))?,")
_ARROW = re.compile(r"(?:(?<=[)\]]) |^ *)-> ?")
_TENSOR = re.compile(
    r"(?:^|, ) *(?P<name>(?:\S.{0,4000}?)?)"
    r"(?: \((?P<type>\w+)\[(?P<dims>[-\d,:]*)\]\)|\[(?P<old>\w+)\((?P<sizes>[-\d,:]*)\)\])"
)
_END = re.compile(r"(?:^|(?<=\}) ?)\](?=, |$)")  # of a line's outputs
_PART = re.compile(
    r"\{ ?(?:Name: )?(?P<name>.{0,4000}?), (?:Location: (?P<location>\w+), )?"
    r"Dimensions: \[(?P<dims>[-\d, ]*)\], Format/Datatype: (?P<format>[^}]*?) ?\}"
)
_FIELD = re.compile(r", (TacticName|TacticValue|ParameterType|StreamId): ([^,]*)")
_WEIGHTS = re.compile(r", (Weights|Bias): (\{[^}]*\})")


def _sizes(text: str) -> list[int]:
    return [int(size) for size in re.sub(r":\d+", "", text).replace(" ", "").split(",") if size]


def _verbose_tensors(text: str) -> list[dict[str, Any]]:
    return [
        {
            "Name": match["name"],
            "Dimensions": _sizes(match["dims"] or match["sizes"] or ""),
            "Format/Datatype": match["type"] or match["old"],
        }
        for match in _TENSOR.finditer(text)
    ]


def _from_verbose(line: str) -> dict[str, Any] | None:
    """The layer of a verbose log's line; None for another line. One layer stands in a line."""
    kind = _LAYER.search(line)
    tactic = _TACTIC.search(line, kind.end()) if kind else None
    if kind is None or tactic is None:
        return None
    before, *after = _ARROW.split(line[tactic.end() :].strip(), maxsplit=1)
    return {
        "Name": line[kind.end() : tactic.start()],
        "LayerType": kind[1],
        "Inputs": _verbose_tensors(before),
        "Outputs": _verbose_tensors(after[0] if after else ""),
        "TacticValue": tactic[1],
    }


def _from_line(line: str) -> dict[str, Any] | None:
    """The layer of a line that the inspector writes; None for another line."""
    name, _, more = line.partition("Name: ")[2].partition(", LayerType: ")
    kind, _, more = more.partition(", Inputs: [")
    inputs, _, more = more.partition("], Outputs: [")
    end = _END.search(more)
    if not kind.isidentifier() or end is None:
        return None
    tensors = {"inputs": inputs, "outputs": more[: end.start()]}
    layer: dict[str, Any] = {"Name": name, "LayerType": kind}
    for key, listed in tensors.items():
        layer[key.title()] = [
            {
                "Name": part["name"],
                "Location": part["location"],
                "Dimensions": _sizes(part["dims"]),
                "Format/Datatype": part["format"],
            }
            for part in _PART.finditer(listed)
        ]
    rest, _, metadata = more[end.end() :].partition(", Metadata: ")
    for name, value in _FIELD.findall(rest):
        layer[name] = int(value) if name == "StreamId" and value.isdigit() else value
    for name, value in _WEIGHTS.findall(rest):
        try:
            layer[name] = json.loads(value)
        except ValueError:
            continue
    return layer | {"Metadata": metadata}


def layers_in_text(text: str) -> list[Any]:
    """The layers that a text lists, as items of the inspector's "Layers"; empty where none."""
    detailed: list[Any] = []
    names: list[Any] = []
    under_layers = False
    for line in text.splitlines():
        if layer := _from_verbose(line) or _from_line(line):
            detailed.append(layer)
        elif under_layers or "Layers:" in line:
            words = split_line(line)[1].strip()
            if words in ("Layers:", "Bindings:", ""):
                under_layers = words == "Layers:"
            elif under_layers and "LayerType: " not in words:
                names.append(words)
    return detailed or names
