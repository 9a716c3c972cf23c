"""A command line as trtexec reads it: a map of arguments from which it takes each option once.

Every argument is split at its first ``=``; there is no ``--option value`` form. What is left in the
map when all options were taken is "Unknown option" and ends trtexec. So ``--int8=0`` sets INT8 (a
flag's value is not looked at), ``--calib`` without a value is no calibration, and the same option
twice is an error.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass, field
from difflib import get_close_matches

from ..files import load_table
from .snippets import DASHES, read_command_line
from .sources import Release, choices, cite, facts_at, option_kinds, resolve

__all__ = ["TrtexecCommand", "holds", "int8_count", "parse_trtexec"]

SHAPES = ("--minShapes", "--optShapes", "--maxShapes")
SOURCES = ("--onnx", "--uff", "--model")
DEFAULT_VERSION = "8.6"


@dataclass(frozen=True)
class TrtexecCommand:
    """One trtexec command line after trtexec's own parser, at one release.

    ``error`` is what trtexec prints before it stops, ``error_key`` the place in its source (see
    ``sources.cite``).
    """

    arguments: tuple[str, ...]
    release: Release
    values: dict[str, str] = field(default_factory=dict)  # option -> value, "" where it has none
    helps: bool = False  # prints its help and stops
    error: str | None = None
    error_key: str | None = None
    unknown: tuple[str, ...] = ()
    hints: tuple[str, ...] = ()
    names_no_model: bool = False  # trtexec stops: "Model missing or format not recognized"
    notes: tuple[str, ...] = ()  # what the pasted text leaves open

    @property
    def outcome(self) -> str:
        """What trtexec does with the line: "taken", "refused", or "help"."""
        if self.helps:
            return "help"
        return "refused" if self.error or self.names_no_model else "taken"


def parse_trtexec(command: str, trt: str | None = None) -> TrtexecCommand:
    """What trtexec's parser makes of ``command`` at version ``trt``.

    Without ``trt`` the version is that of the log which the command stands in, otherwise 8.6.

    Numbers, data types, formats and options that know a list of words are checked as trtexec of
    that version does; the values of other options are taken as they are. Raises CommandError only
    where the text is no trtexec command line, or the version is unknown.

    >>> parse_trtexec("trtexec --onnx=m.onnx --int8 --calib").values
    {'--onnx': 'm.onnx', '--int8': '', '--calib': ''}
    >>> parse_trtexec("trtexec --onnx=m.onnx --int8", trt="11.0").error
    'Unknown option: --int8'

    Source: v8.6.1:samples/common/sampleOptions.cpp:682-699 and :846-1249,
    v8.6.1:samples/trtexec/trtexec.cpp:294-320.
    """
    line = read_command_line(command)
    release = resolve((line.version or DEFAULT_VERSION) if trt is None else trt)
    tag, arguments = release.tag, line.arguments
    if not arguments or {argument.partition("=")[0] for argument in arguments} & {"--help", "-h"}:
        return TrtexecCommand(arguments, release, helps=True, notes=line.notes)
    values: dict[str, str] = {}
    left: list[str] = []
    error = key = form = None
    try:
        values, left = _take(arguments, tag, line.unknown_values)
        facts = _facts(values, tag)
        for row in load_table("parser")["refusals"]:
            if holds(row["when"], values, release, facts):
                raise _Refusal(row["error"], row["place"])
    except _Refusal as refusal:
        error, key, form = str(refusal), refusal.key, refusal.form
    unknown = tuple(name for name in dict.fromkeys(left) if name not in release.later_options)
    if error is None and unknown:
        error, key = "; ".join(f"Unknown option: {name}" for name in unknown), "unknown"
    names_model = {*SOURCES, "--deploy", "--loadEngine", "--helpBuildRoute"} & values.keys()
    return TrtexecCommand(
        arguments,
        release,
        values,
        error=error,
        error_key=key,
        unknown=unknown,
        hints=(*((f"write {form}",) if form else ()), *_hints(arguments, unknown, tag)),
        names_no_model=not names_model,
        notes=line.notes,
    )


def holds(
    condition: str, values: Mapping[str, str], release: Release, facts: Mapping[str, object]
) -> bool:
    """Whether a condition of tables/parser.json or sentences.json holds: each of its words, of a|b
    one.

    A word is an option (``--int8``), an option with this value or any (``--sparsity=force``,
    ``--calib=``), ``@`` and a place that this version's source has, a version (``<10.0``,
    ``>=11.4``), or one of ``facts``; ``!`` says no.
    """

    def one(word: str) -> bool:
        if word.startswith("!"):
            return not one(word[1:])
        if word.startswith("--"):
            option, equals, value = word.partition("=")
            given = values.get(option, "")
            return (given == value if value else bool(given)) if equals else option in values
        if word.startswith("@"):
            return cite(release.tag, word[1:]) is not None
        if word.startswith(("<", ">=")):
            major, minor = word.strip("<>=").split(".")
            return (release.number < (int(major), int(minor))) == (word[0] == "<")
        return bool(facts.get(word))

    return all(any(map(one, word.split("|"))) for word in condition.split())


class _Refusal(Exception):
    """trtexec's std::invalid_argument: its message and the place in the source that throws it."""

    def __init__(self, message: str, key: str = "invalid") -> None:
        super().__init__(message)
        self.key = key
        self.form: str | None = None  # the right way to write the option


# How trtexec reads one value.


def _pieces(text: str, separator: str = ",") -> list[str]:
    """As splitToStringVec: nothing for an empty text, no empty piece at the end."""
    pieces = text.split(separator)
    return pieces[:-1] if pieces[-1] == "" else pieces


def int8_count(value: str) -> int:
    """How many of the formats of ``--inputIOFormats`` or ``--outputIOFormats`` are INT8.

    >>> int8_count("fp16:chw,int8:chw32")
    1
    """
    return sum(piece.split(":")[0] == "int8" for piece in _pieces(value))


def _check_number(value: str, kind: str) -> None:
    number = r"\s*[+-]?\d" if kind == "int" else r"\s*[+-]?(\d|\.\d|inf|nan)"
    if not re.match(number, value, re.I | re.A):
        raise _Refusal("stoi" if kind == "int" else "stof")


def _check_word(option: str, word: str, known: Sequence[str], refusal: str) -> None:
    if option in load_table("parser")["any_case"]:
        word = word.upper() if known[0].isupper() else word.lower()
    if word not in known:
        raise _Refusal(refusal + word, "options")


def _check_words(option: str, value: str, tag: str) -> None:
    """WORD, NAME:WORD or +WORD of an option that knows a list of them at ``tag``."""
    table = load_table("parser")
    fixed = table["fixed"].get(option)
    known = (fixed["refusal"], fixed["words"].split()) if fixed else choices(tag, option)
    if known is None:
        return
    refusal, names = known
    if option in table["pairs"]:
        for piece in _pieces(value):
            name, _, word = piece.rpartition(":")
            if option == "--memPoolSize":
                _check_number(word, "float")
                if word.strip().startswith("-"):
                    raise _Refusal(f"Negative memory pool size: {word}", "options")
                word = name or word  # without a colon trtexec takes the text for both
            _check_word(option, word, names, refusal)
    elif option in table["switches"]:
        signs: dict[str, str] = {}
        for piece in _pieces(value):
            if not piece.startswith(("+", "-")):
                raise _Refusal(table["switches"][option], "options")
            _check_word(option, piece[1:], names, refusal)
            source = piece[1:].upper().replace("_", "")  # CUBLASLT is CUBLAS_LT
            if names[0].isupper() and signs.setdefault(source, piece[0]) != piece[0]:
                raise _Refusal(f"Cannot enable and disable {piece[1:].upper()}", "options")
    elif value or option == "--sparsity":
        _check_word(option, value, names, refusal)


def _check(option: str, kind: str, value: str, tag: str) -> None:
    """Refuse a value as trtexec at ``tag`` does."""
    types, formats = (facts_at(tag)[what].split() for what in ("types", "formats"))
    if kind in ("int", "float", "profile"):
        _check_number(value, "float" if kind == "float" else "int")
    elif option == "--sparsity" and kind == "text" and not value:
        return  # up to 8.2 an empty mode is none
    elif kind in ("text", "sparsity", "repeat"):
        _check_words(option, value, tag)
    for piece in _pieces(value) if kind in ("formats", "types", "shapes") else ():
        before, colon, behind = piece.partition(":")
        last = piece.rpartition(":")[2]
        if kind == "shapes":
            for dimension in _pieces(last, "x"):
                _check_number(dimension, "int")
        elif kind == "types":
            several = option == "--layerOutputTypes"
            for name in (_pieces(last, "+") or [""]) if several else [last]:
                if name not in types:
                    raise _Refusal(f"Invalid DataType {name}", "options")
        else:
            if types and not colon:  # up to 10.16: type:format+format
                raise _Refusal(f"Invalid IOFormat {piece}", "io_format_value")
            if types and before not in types:
                raise _Refusal(f"Invalid DataType {before}", "io_format_value")
            for name in _pieces(behind if types else piece, "+"):
                if name not in formats:
                    raise _Refusal(f"Invalid TensorFormat {name}", "io_format_value")


def _take(
    arguments: tuple[str, ...], tag: str, unknown_values: Set[str]
) -> tuple[dict[str, str], list[str]]:
    """What trtexec's parse functions take out of the map, and the names that they leave in it."""
    kinds = option_kinds(tag)
    values: dict[str, str] = {}
    left: list[str] = []
    pairs = [argument.partition("=")[::2] for argument in arguments]
    overlooked = _overlooked({name for name, _ in pairs}, kinds)
    profiles = any(name == "--profile" for name, _ in pairs)
    for name, value in pairs:
        kind = kinds.get(name)
        repeats = kind in ("repeat", "profile") or (name in SHAPES and profiles)
        if kind is None or name in overlooked or (name in values and not repeats):
            left.append(name)
        else:
            if f"{name}={value}" not in unknown_values:
                try:
                    _check(name, kind, value, tag)
                except _Refusal as refusal:
                    refusal.form = load_table("parser")["forms"].get(name)
                    raise
            values[name] = f"{values[name]},{value}" if name in values else value
    return values, left


def _overlooked(names: set[str], kinds: dict[str, str]) -> set[str]:
    """Options that trtexec does not look for beside the others: one kind of model, one synonym."""
    sources = [option for option in SOURCES if option in names and option in kinds]
    source = sources[0] if sources else None
    others = set(SOURCES) - {source}
    others |= {"--deploy"} if source in ("--onnx", "--uff") else set()
    others |= {"--uffNHWC", "--uffInput"} if source != "--uff" else set()
    synonyms = load_table("parser")["synonyms"]
    return others | {second for first, second in synonyms if first in names and first in kinds}


def _facts(values: Mapping[str, str], tag: str) -> dict[str, object]:
    """What the refusals in tables/parser.json ask for beside options and versions."""
    batches = [values.get(option, "") for option in ("--batch", "--maxBatch")]
    profiles = values["--profile"].split(",") if "--profile" in values else []
    index = re.match(r"\s*([+-]?\d+)", values.get("--calibProfile", "0"), re.A)
    core = re.match(r"\s*\+?\d", values.get("--useDLACore", ""), re.A)
    ends = {way: set(_pieces(values.get(f"--{way}IOFormats", ""))) for way in ("input", "output")}
    return {
        "batch": any(re.match(r"\s*[+-]?0*[1-9]", value) for value in batches),
        "calib_profile": index and not 0 <= int(index[1][:9]) < max(1, len(profiles)),
        "calib_shapes": not _complete(values.keys(), [f"{option}Calib" for option in SHAPES]),
        "dla_formats": not all(of and of <= _dla_formats(way, tag) for way, of in ends.items()),
        "safe_dla": "--safe" in values and core,
        "shapes": not _complete(values.keys(), SHAPES),
    }


def _complete(names: Set[str], shapes: Sequence[str]) -> bool:
    """Whether of minimum, optimum and maximum there is none, the optimum only, or all."""
    return {option for option in shapes if option in names} in (set(), {shapes[1]}, set(shapes))


def _dla_formats(way: str, tag: str) -> set[str]:
    """The formats that a DLA engine which stands alone takes at its inputs or outputs."""
    layouts = {"8.4": {"chw", "chw4"}, "8.5": {"dla_linear", "chw4"}}.get(tag[:3])
    if layouts is None:
        layouts = {"dla_linear", "chw4", "dla_hwc4"} if way == "input" else {"dla_linear"}
    int8 = {f"int8:{layout}" for layout in layouts | {"chw32"}}
    fp16 = {f"fp16:{layout}" for layout in layouts | {"chw16"}}
    return int8 | fp16 | (set() if facts_at(tag)["types"] else layouts | {"chw16", "chw32"})


PLAIN = str.maketrans({"“": '"', "”": '"', "„": '"', "‘": "'", "’": "'", "\xa0": " "})
BY_ENDING = (  # the option that a file of this name belongs to
    (r"\.onnx$", "--onnx"),
    (r"cache|calib|\.table$", "--calib"),
    (r"\.(engine|plan|trt)$", "--saveEngine"),
)


def _hints(arguments: tuple[str, ...], unknown: tuple[str, ...], tag: str) -> tuple[str, ...]:
    """What the writer of each unknown option, and of each argument that is none, probably meant."""
    hints = [
        f"{argument} holds a web page's quotes or spaces, which no shell knows: type "
        f"{argument.translate(PLAIN)}"
        for argument in arguments
        if argument.translate(PLAIN) != argument
    ]
    names = [argument.partition("=")[0] for argument in arguments]
    strays = (name for name in names if not name.startswith(tuple(DASHES)))
    for name in dict.fromkeys([*unknown, *strays]):  # trtexec may stop before it comes to a stray
        at = names.index(name)
        hint = _hint(name, arguments[at], arguments[at - 1] if at else "", tag)
        hints += [hint] if hint else []
    return tuple(hints)


def _hint(name: str, argument: str, before: str, tag: str) -> str | None:
    """What one unknown option was meant to be; ``before`` is the argument in front of it."""
    known = option_kinds(tag)
    if not name.startswith(tuple(DASHES)):
        if f"--{name}" in known:
            return f"{argument} is written --{argument}"
        option, equals, value = before.partition("=")
        file = next((o for pattern, o in BY_ENDING if re.search(pattern, name, re.I)), None)
        if option in known and not value and known[option] != "flag":
            space = f"before and after {name or '='}" if equals or not name else "between them"
            value = argument.lstrip("=")
            written = f" {before} {argument} is written {option}={value}:" if value else ""
            return f"{written} trtexec knows no space {space}".strip()
        if file in known:
            return f"{argument} is written {file}={argument}: trtexec takes options only"
        if option in known and known[option] == "flag" and not value:
            return f"{option} takes no value: leave {argument} out"
        return f"trtexec takes options only: leave {argument} out, or name its option"
    if name in known:
        return f"give {name} once: trtexec takes one and refuses the other"
    plain = "--" + name.lstrip(DASHES)
    removed = load_table("removed")
    if plain in removed["successors"]:
        successor = removed["successors"][plain].format(argument.partition("=")[2])
        return f"{name} is gone in this version: write {successor}"
    if plain in removed["no_effect"]:
        return f"{name} is gone in this version: leave it out, {removed['no_effect'][plain]}"
    if plain in load_table("parser")["no_such"]:
        return f"{name}: {load_table('parser')['no_such'][plain]}"
    if plain in known:
        is_plain = name.startswith("-") and name.isascii()
        dashes = "" if is_plain else " (those are a web page's dashes)"
        return f"{name} is not an option of this version{dashes}; {plain} is"
    option, colon, value = name.partition(":")
    if colon and option in known:
        return f"{name} is written {option}={value}"
    if having := [one for one in load_table("trtexec")["tags"] if plain in option_kinds(one)]:
        return f"trtexec knows {name} first in {having[0]} and last in {having[-1]}"
    close = [option for option in known if option.lower() == plain.lower()]
    close = close or get_close_matches(plain, known, 1, 0.8)
    return f"{name} is not an option of this version; {close[0]} is" if close else None
