"""trtexec's command line as trtexec reads it: a map of arguments from which each option is taken out once.

Every argument is split at its first ``=``; there is no ``--option value`` form. What is left in the map when all
options were taken is "Unknown option" and ends trtexec. So ``--int8=0`` sets INT8 (a flag's value is not looked at),
``--calib`` without a value is no calibration, and the same option twice is an error.
"""

from __future__ import annotations

import re
import shlex
from dataclasses import dataclass, field
from difflib import get_close_matches
from typing import Any

from ..errors import CommandError
from ..record import Record
from .sources import cite, option_kinds, resolve, words

__all__ = [
    "TrtexecCommand",
    "int8_count",
    "parse_trtexec",
    "split_command",
]


# --- A shell's command line, split as the shell would split it: nothing is expanded and nothing is run.

LONGEST = 100_000  # characters: far above what a shell takes


def split_command(command: str) -> tuple[str, ...]:
    """The arguments of the first trtexec in a shell command line; CommandError where there is none.

    Quotes, backslashes at line ends, environment settings before it and pipes or redirections after it are
    understood as a POSIX shell would; nothing is expanded.

    >>> split_command("CUDA_VISIBLE_DEVICES=0 ./trtexec --onnx='my model.onnx' --int8 2>&1 | tee log")
    ('--onnx=my model.onnx', '--int8')
    """
    if not isinstance(command, str):
        raise CommandError(
            f"the command is {type(command).__name__}, expected text",
            'give it as "trtexec --onnx=..."',
        )
    if len(command) > LONGEST or "\0" in command:
        raise CommandError(
            "the command is too long or holds a NUL character", "give one trtexec command line"
        )
    lexer = shlex.shlex(
        command.replace("\\\r\n", " ").replace("\\\n", " "), posix=True, punctuation_chars="|&;<>\n"
    )
    lexer.whitespace, lexer.whitespace_split, lexer.commenters = " \t\r", True, ""
    try:
        tokens = list(lexer)
    except ValueError as problem:
        raise CommandError(
            f"the command line does not split: {problem}", "close every quote"
        ) from None
    start = next(
        (i for i, token in enumerate(tokens) if re.search(r"(?:^|[/\\])trtexec(?:\.exe)?$", token)),
        None,
    )
    if start is None:
        if not tokens or not all(token.startswith("-") for token in tokens):
            raise CommandError(
                f"no trtexec in {command.strip()[:80]!r}",
                'write it as "trtexec --onnx=model.onnx --int8"',
            )
        start = -1
    arguments: list[str] = []
    rest = iter(tokens[start + 1 :])
    for token in rest:
        if token and not set(token) - set("|&;\n"):
            if arguments or set(token) != {"\n"}:
                break
        elif token and not set(token) - set("|&<>"):
            if arguments and arguments[-1] in ("0", "1", "2"):
                arguments.pop()  # the descriptor of 2>&1
            next(rest, None)
        else:
            arguments.append(token)
    return tuple(arguments)


# --- trtexec's command line as trtexec reads it: a map of arguments from which each option is taken out once.

SHAPES = ("--minShapes", "--optShapes", "--maxShapes")
SYNONYMS = (("--vc", "--versionCompatible"), ("--pi", "--pluginInstanceNorm"))
CHOICES = {
    "--precisionConstraints": ("obey", "prefer", "none"),
    "--sparsity": ("disable", "enable", "force"),
}
REFUSAL = {
    "--precisionConstraints": "Unknown precision constraints: ",
    "--sparsity": "Unknown sparsity mode: ",
}
NEEDS = {  # option -> what must stand beside it
    "--uint8AsymmetricQuantizationDLA": (
        "--useDLACore",
        "--uint8AsymmetricQuantizationDLA is not supported without DLA",
    ),
    "--reportCapabilityDLA": (
        "--useDLACore",
        "--reportCapabilityDLA is not supported without DLA cores.",
    ),
    "--dumpKernelText": ("--safe", "--dumpKernelText requires --safe to be enabled."),
    "--remoteAutoTuningConfig": (
        "--safe",
        "Remote auto tuning is not supported in standard build.",
    ),
    "--cpuOnly": ("--safe", "CPU-only mode (--cpuOnly) requires --safe flag to be enabled."),
}


@dataclass(frozen=True)
class TrtexecCommand(Record):
    """One trtexec command line after trtexec's own parser, at one version.

    ``error`` is what trtexec prints before it stops, ``error_key`` the place in its source (see trtexec_sources.cite).
    """

    arguments: tuple[str, ...]
    tag: str
    values: dict[str, str] = field(
        default_factory=dict
    )  # option -> its value, "" where it has none
    model: str | None = None
    helps: bool = False  # prints its help and stops
    error: str | None = None
    error_key: str | None = None
    unknown: tuple[str, ...] = ()
    hints: tuple[str, ...] = ()
    names_no_model: bool = False  # trtexec stops: "Model missing or format not recognized"

    def has(self, option: str) -> bool:
        """Whether ``option`` was given (and is known at this version)."""
        return option in self.values

    def summary(self) -> str:
        return f"trtexec {' '.join(self.arguments)}" + (f": {self.error}" if self.error else "")

    def rows(self) -> list[dict[str, Any]]:
        return [{"option": option, "value": value or None} for option, value in self.values.items()]


class _Stop(Exception):
    """trtexec's std::invalid_argument: its message and the place in the source that throws it."""

    def __init__(self, message: str, key: str = "invalid") -> None:
        super().__init__(message)
        self.key = key


def _pieces(text: str, separator: str = ",") -> list[str]:
    """As splitToStringVec: nothing for an empty text, no empty piece at the end."""
    parts = text.split(separator)
    return parts[:-1] if parts[-1] == "" else parts


def int8_count(value: str) -> int:
    """How many of the formats of ``--inputIOFormats`` or ``--outputIOFormats`` are INT8."""
    return sum(piece.split(":")[0] == "int8" for piece in _pieces(value))


def _check_number(value: str, kind: str) -> None:
    number = r"\s*[+-]?\d" if kind == "int" else r"\s*[+-]?(\d|\.\d|inf|nan)"
    if not re.match(number, value, re.I | re.A):
        raise _Stop("stoi" if kind == "int" else "stof")


def _check_formats(value: str, tag: str) -> None:
    types, formats = words(tag, "types"), words(tag, "formats")
    for piece in _pieces(value):
        kind, colon, rest = piece.partition(":")
        if types:  # up to 10.16: type:format+format
            if not colon:
                raise _Stop(f"Invalid IOFormat {piece}", "io_format_value")
            if kind not in types:
                raise _Stop(f"Invalid DataType {kind}", "io_format_value")
        for name in _pieces(rest if types else piece, "+"):
            if name not in formats:
                raise _Stop(f"Invalid TensorFormat {name}", "io_format_value")


def _check_types(value: str, tag: str) -> None:
    for piece in _pieces(value):
        for name in _pieces(piece.rpartition(":")[2], "+") or [""]:
            if name not in words(tag, "types"):
                raise _Stop(f"Invalid DataType {name}", "options")


def _check(option: str, kind: str, value: str, tag: str) -> None:
    if kind in ("int", "float", "profile"):
        _check_number(value, "float" if kind == "float" else "int")
    elif kind == "formats":
        _check_formats(value, tag)
    elif kind == "types":
        _check_types(value, tag)
    elif option in CHOICES and value not in CHOICES[option] and (value or option == "--sparsity"):
        raise _Stop(REFUSAL[option] + value, "options")
    elif kind == "shapes":
        for piece in _pieces(value):
            for dimension in _pieces(piece.rpartition(":")[2], "x"):
                _check_number(dimension, "int")


def _take(arguments: tuple[str, ...], tag: str) -> tuple[dict[str, str], list[str]]:
    """The options taken out of the map, and the names left in it, as trtexec's parse functions do."""
    kinds = option_kinds(tag)
    values: dict[str, str] = {}
    left: list[str] = []
    pairs = [argument.partition("=")[::2] for argument in arguments]
    names = {name for name, _ in pairs}
    source = next(
        (
            option
            for option in ("--onnx", "--uff", "--model")
            if option in names and option in kinds
        ),
        None,
    )
    barred = {"--onnx", "--uff", "--model"} - {source}
    barred |= {"--deploy"} if source in ("--onnx", "--uff") else set()
    barred |= {"--uffNHWC", "--uffInput"} if source != "--uff" else set()
    barred |= {second for first, second in SYNONYMS if first in names and first in kinds}
    for name, value in pairs:
        kind = kinds.get(name)
        again = kind in ("repeat", "profile") or (name in SHAPES and "--profile" in names)
        if kind is None or name in barred or (name in values and not again):
            left.append(name)
        else:
            _check(name, kind, value, tag)
            values[name] = f"{values[name]},{value}" if name in values else value
    return values, left


def _agree(values: dict[str, str], tag: str) -> None:
    """The combinations that trtexec refuses before it looks at the model."""
    known = option_kinds(tag)
    strongly_typed = "--stronglyTyped" in values and "--int8" in known
    int8 = ("--int8" in values or "--best" in values) and not strongly_typed
    if "--best" in values and strongly_typed and cite(tag, "best_and_strongly_typed"):
        raise _Stop("--best and --stronglyTyped cannot be both set", "best_and_strongly_typed")
    if "--fp8" in values and int8:
        raise _Stop(
            "Invalid usage, fp8 and int8 aren't allowed to be enabled together.", "fp8_and_int8"
        )
    if "--loadEngine" in values and "--saveEngine" in values:
        raise _Stop("Incompatible load and save engine options selected", "load_and_save")
    if _pieces(values.get("--output", "")) and "--onnx" in values:
        raise _Stop("The --output flag should not be used with ONNX models.")
    if "--uff" in values and "--uffInput" not in values:
        raise _Stop("Uff models require at least one input")
    if {"--uff", "--model", "--deploy"} & values.keys() and not _pieces(values.get("--output", "")):
        raise _Stop("Caffe and Uff models require at least one output")
    dynamic = "--onnx" in values or {*SHAPES, "--shapes"} & values.keys()
    if dynamic and any(
        re.match(r"\s*[+-]?0*[1-9]", values.get(name, "")) for name in ("--batch", "--maxBatch")
    ):
        raise _Stop(
            "The --batch and --maxBatch flags should not be used when the input model is ONNX"
        )
    for suffix in ("", "Calib") if tag.startswith("8.4") else ("Calib",):
        least, best, most = (name + suffix in values for name in SHAPES)
        if ((least or most) and not best) or (best and least != most):
            trio = ", ".join(name + suffix for name in SHAPES)
            raise _Stop(f"Must specify only --optShapes{suffix} or all of {trio}", "options")
    for option, (needed, refusal) in NEEDS.items():
        if option in values and needed not in values:
            raise _Stop(refusal, "options")
    if {"--pi", "--pluginInstanceNorm"} & values.keys() and {
        "--vc",
        "--versionCompatible",
    } & values.keys():
        raise _Stop(
            "Plugin InstanceNorm cannot be used with version compatible or hardware compatible engines!",
            "options",
        )
    profiles = values["--profile"].split(",") if "--profile" in values else []
    if profiles and not {*SHAPES} & values.keys():
        raise _Stop("Found invalid or missing shape spec at profile index 0. ", "options")
    index = re.match(r"\s*([+-]?\d+)", values.get("--calibProfile", "0"), re.A)
    if index and not 0 <= int(index[1][:9]) < max(1, len(profiles)):
        raise _Stop(
            "--calibProfile shouldn't greater than the size of optimization profile.", "options"
        )
    runtime = values.get("--useRuntime", "full") or "full"
    if runtime not in ("full", "dispatch", "lean"):
        raise _Stop(f"Unknown useRuntime: {runtime}", "options")
    if runtime != "full" and "--loadEngine" not in values:
        raise _Stop("Building a TensorRT engine requires --useRuntime=full.", "options")


def _dla(values: dict[str, str], tag: str) -> None:
    """The rules of a DLA engine that stands alone: its own formats at both ends, and no fallback to the GPU."""
    core = re.match(r"\s*\+?\d", values.get("--useDLACore", ""), re.A)
    if "--buildDLAStandalone" not in values and not ("--safe" in values and core):
        return
    first = {"8.4": ("chw", "chw4"), "8.5": ("dla_linear", "chw4")}.get(tag[:3], ("dla_linear",))
    for way in ("input", "output"):
        own = {
            *first,
            *(("chw4", "dla_hwc4") if way == "input" and first == ("dla_linear",) else ()),
        }
        taken = {
            f"{kind}:{one}"
            for kind, last in (("int8", "chw32"), ("fp16", "chw16"))
            for one in {*own, last}
        }
        taken |= {*own, "chw16", "chw32"} if not words(tag, "types") else set()
        formats = _pieces(values.get(f"--{way}IOFormats", ""))
        if not formats or not taken >= set(formats):
            raise _Stop("I/O formats for safe DLA capability are restricted", "options")
    if "--allowGPUFallback" in values:
        raise _Stop(
            "GPU fallback (--allowGPUFallback) not allowed for DLA standalone mode", "options"
        )


def _hints(arguments: tuple[str, ...], left: list[str], tag: str) -> tuple[str, ...]:
    known, hints = option_kinds(tag), []
    for name in dict.fromkeys(left):
        before = arguments[arguments.index(name) - 1] if name in arguments[1:] else ""
        if not name.startswith("-") and before.startswith("--") and "=" not in before:
            hints.append(
                f"{before} {name} is written {before}={name}: trtexec knows no space between the two"
            )
        elif name in known:
            hints.append(f"give {name} once: trtexec takes one and refuses the other")
        elif close := get_close_matches(name, known, 1, 0.8):
            hints.append(f"{name} is not an option of this version; {close[0]} is")
    return tuple(hints)


def parse_trtexec(command: str, trt: str = "8.6") -> TrtexecCommand:
    """What trtexec's parser makes of ``command`` at version ``trt``.

    Numbers, data types, formats and the values of --precisionConstraints and --sparsity are checked as trtexec does;
    the values of other options are taken as they are. Raises CommandError only where
    the text is no trtexec command line, or the version is unknown.

    >>> parse_trtexec("trtexec --onnx=m.onnx --int8 --calib").values
    {'--onnx': 'm.onnx', '--int8': '', '--calib': ''}
    >>> parse_trtexec("trtexec --onnx=m.onnx --int8", trt="11.0").error
    'Unknown option: --int8'

    Source: v8.6.1:samples/common/sampleOptions.cpp:682-699 and :846-1249, v8.6.1:samples/trtexec/trtexec.cpp:294-320.
    """
    arguments, tag = split_command(command), resolve(trt).tag
    if not arguments or {argument.partition("=")[0] for argument in arguments} & {"--help", "-h"}:
        return TrtexecCommand(arguments, tag, helps=True)
    values: dict[str, str] = {}
    left: list[str] = []
    error = key = None
    try:
        values, left = _take(arguments, tag)
        _agree(values, tag)
        _dla(values, tag)
    except _Stop as stop:
        error, key = str(stop), stop.key
    if error is None and left:
        error, key = "; ".join(f"Unknown option: {name}" for name in dict.fromkeys(left)), "unknown"
    model = next(
        (values[name] for name in ("--onnx", "--uff", "--model", "--deploy") if name in values),
        None,
    )
    return TrtexecCommand(
        arguments,
        tag,
        values,
        model,
        error=error,
        error_key=key,
        unknown=tuple(dict.fromkeys(left)),
        hints=_hints(arguments, left, tag),
        names_no_model=model is None and not {"--loadEngine", "--helpBuildRoute"} & values.keys(),
    )
