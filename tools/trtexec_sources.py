"""Make or re-check trtlearn/tables/trtexec.json: trtexec's options and the lines that decide, at
every release tag.

    python -m tools.trtexec_sources /path/to/TensorRT           # re-check what is committed; exit 1
    on a difference python -m tools.trtexec_sources /path/to/TensorRT --write   # derive the table
    again

The argument is a git checkout (or a bare or mirrored git folder) of
https://github.com/NVIDIA/TensorRT with its tags. The C++ is read as text: functions by their
braces, statements by an anchor that must occur where it is looked for.
"""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import sys
from functools import cache
from pathlib import Path
from typing import Any

TABLE = Path(__file__).resolve().parents[1] / "trtlearn" / "tables" / "trtexec.json"
SO, SE, TX = (
    "samples/common/sampleOptions.cpp",
    "samples/common/sampleEngines.cpp",
    "samples/trtexec/trtexec.cpp",
)
HEADER = "samples/common/sampleOptions.h"
OLD_FOLDER = "samples/opensource/trtexec"  # of trtexec.cpp at 8.0.1
RELEASE = re.compile(r"v?(8\.[02456]|9\.\d+|1[01]\.\d+)(\.\d+)?$")
KINDS = {
    "bool": "flag",
    "int32_t": "int",
    "int64_t": "int",
    "int": "int",
    "size_t": "int",
    "float": "float",
}
KINDS |= {"double": "float", "SparsityFlag": "sparsity"}


def taken(option: str, variable: str) -> str:
    """The anchor of the call that takes ``option`` off the command line into ``variable``."""
    return rf"getAndDelOption\(arguments, \"--{option}\", {variable}\)"


# key -> (file, anchor regex, how many lines or "block" (to the closing brace) or "function" (the
# whole function))
ANCHORS: dict[str, tuple[str, str, int | str]] = {
    "split": (SO, r"^Arguments argsToArgumentsMap", "function"),
    "flag_value": (SO, r"^bool stringToValue<bool>", "function"),
    "help": (TX, r"if \(parseHelp\(args\)\)", "block"),
    "unknown": (TX, r"^\s+if \(!args\.empty\(\)\)\s*$", "second block"),
    "invalid": (
        TX,
        r"catch \((std::invalid_argument const|const std::invalid_argument)& arg\)",
        "block",
    ),
    "io_formats": (SO, r"getFormats\(inputFormats, \"--inputIOFormats\"\)", 2),
    "io_format_value": (SO, r"^IOFormat stringToValue<IOFormat>", "function"),
    "best": (SO, taken("best", "best"), "statement and block"),
    "int8": (SO, taken("int8", "int8"), 1),
    "fp16": (SO, taken("fp16", "fp16"), 1),
    "fp8_and_int8": (SO, r"if \(fp8 && int8\)", "block"),
    "best_and_strongly_typed": (SO, r"if \(best && stronglyTyped\)", "block"),
    "strongly_typed": (SO, r"^    if \(stronglyTyped\)", "block"),
    "strongly_typed_option": (SO, taken("stronglyTyped", "stronglyTyped"), 1),
    "weakly_typed": (SO, r"if \(fp16 \|\| bf16 \|\| int8 \|\| fp8 \|\| int4 \|\| best\)", "block"),
    "constraints": (
        SO,
        r"^    if \(layerPrecisions\.empty\(\) && layerOutputTypes\.empty\(\) && precision",
        "chain",
    ),
    "calib": (SO, "bool calibCheck = " + taken("calib", "calibration"), "statement and block"),
    "load_option": (SO, rf"if \({taken('loadEngine', 'engine')}\)", "block"),
    "load_and_save": (SO, r"if \(load && save\)", "block"),
    "no_model": (
        SO,
        r"if \(!build\.load && model\.baseModel\.format == ModelFormat::kANY\)",
        "block",
    ),
    "printed": (SO, r"\"Calibration: \"", 1),
    "options": (SO, r"^void BuildOptions::parse\(", "function"),
    "load": (SE, r"^    if \(build\.load\)", "block"),
    "read_scales": (
        SE,
        r"readScalesFromCalibrationCache\((std::string const|const std::string)& calibrationFile\)$",
        "function",
    ),
    "set_io_scales": (SE, r"^void setTensorScalesFromCalibration", "function"),
    "parse_model": (SE, r"^Parser modelToNetwork", "function"),
    "calibrator": (SE, r"^RndInt8Calibrator::RndInt8Calibrator", "function"),
    "calibrator_opens": (SE, r"std::ifstream tryCache\(cacheFile", 5),
    "calibrator_uniform": (
        SE,
        r"std::uniform_real_distribution<float> distribution\(-1\.0F, 1\.0F\)",
        1,
    ),
    "calibrator_batch": (SE, r"^bool RndInt8Calibrator::getBatch", "function"),
    "calibrator_reads": (
        SE,
        r"^(const void\*|void const\*) RndInt8Calibrator::readCalibrationCache",
        "function",
    ),
    "calibrator_writes": (SE, r"void writeCalibrationCache\(", 1),
    "placeholder": (SE, r"^bool setTensorDynamicRange", "function"),
    "set_layer_precisions": (SE, r"^void setLayerPrecisions", "function"),
    "int8_flag": (SE, r"^    if \(build\.int8\)", "block"),
    "fp16_hint": (SE, r"^    if \(build\.int8 && !build\.fp16\)", "block"),
    "int8_io": (SE, r"auto isInt8 = \[\]", 3),
    "has_qdq": (SE, r"auto hasQDQLayers = \[\]", "block"),
    "decision": (
        SE,
        r"^    if \(!hasQDQLayers\(network\) && \(build\.int8 \|\| int8IO\) && build\.calib",
        "block",
    ),
    "calibrate": (SE, r"^    else if \(build\.int8\)", "block"),
    "io_scales": (SE, r"^        if \(!hasQDQLayers\(network\) && int8IO\)", "block"),
    "set_calibrator": (SE, r"(calibrator\.reset|setInt8Calibrator)\(new RndInt8Calibrator", 2),
    "apply_precisions": (
        SE,
        r"^    if \(!build\.layerPrecisions\.empty\(\) && build\.precisionConstraints",
        "block",
    ),
    "dla": (SE, r"^    if \(sys\.DLACore != -1\)", "block"),
    "typed_network": (SE, r"auto (const )?networkFlags", 3),
    "typed_always": (SE, r"NetworkDefinitionCreationFlag::kSTRONGLY_TYPED\);", 1),
    "safe_is_strongly_typed": (
        TX,
        r"StronglyTyped is enabled by default on safety mode",
        "enclosing block",
    ),
    "timing": (SO, r"// Data transfers are now disabled by default", 5),
    "inputs": (SE, r"^        if \(!build\.inputFormats\.empty\(\)\)", "chain"),
    "outputs": (SE, r"^        if \(!build\.outputFormats\.empty\(\)\)", "chain"),
    "inputs_are_fp32": (SE, r"User did not specify a floating-point format\.", 2),
}
NEEDED = {  # what every tag up to 10.16 must have; the rest came or went
    *(
        "split",
        "flag_value",
        "help",
        "unknown",
        "invalid",
        "io_formats",
        "best",
        "int8",
        "fp16",
        "calib",
        "load_option",
    ),
    *(
        "load",
        "load_and_save",
        "no_model",
        "printed",
        "options",
        "read_scales",
        "set_io_scales",
        "parse_model",
    ),
    *(
        "calibrator",
        "calibrator_opens",
        "calibrator_uniform",
        "calibrator_batch",
        "calibrator_reads",
        "constraints",
    ),
    *(
        "calibrator_writes",
        "placeholder",
        "set_layer_precisions",
        "int8_flag",
        "int8_io",
        "has_qdq",
        "decision",
    ),
    *(
        "inputs",
        "outputs",
        "calibrate",
        "io_scales",
        "set_calibrator",
        "apply_precisions",
        "dla",
        "typed_network",
        "fp16_hint",
    ),
}
NEEDED_11 = {
    "split",
    "flag_value",
    "help",
    "unknown",
    "invalid",
    "io_formats",
    "io_format_value",
    "options",
    "no_model",
}
NEEDED_11 |= {
    "load",
    "load_option",
    "load_and_save",
    "parse_model",
    "typed_always",
    "strongly_typed_option",
}
SINCE_8_4 = {"apply_precisions", "constraints", "set_layer_precisions"}


def git(repo: Path, *arguments: str) -> str:
    return subprocess.run(
        ["git", "-C", str(repo), *arguments], check=True, capture_output=True, encoding="utf-8"
    ).stdout


def releases(repo: Path) -> list[str]:
    """The tags of the releases, the oldest first."""
    tags = [tag for tag in git(repo, "tag").split() if RELEASE.fullmatch(tag)]
    return sorted(tags, key=lambda tag: [int(part) for part in tag.removeprefix("v").split(".")])


@cache
def lines_of(repo: Path, tag: str, file: str) -> tuple[str, ...]:
    """The lines of ``file`` at ``tag``."""
    return tuple(git(repo, "show", f"{tag}:{place(tag, file)}").splitlines())


def place(tag: str, file: str) -> str:
    """Where ``file`` stands at ``tag``: up to 8.0 the samples had a folder more."""
    return file.replace("samples/trtexec", OLD_FOLDER) if tag.startswith("8.0") else file


def closing(lines: tuple[str, ...], start: int) -> int:
    """The index of the line that closes the first brace opened at or after line index ``start``."""
    depth, opened = 0, False
    for index in range(start, len(lines)):
        bare = re.sub(r'"(\\.|[^"\\])*"|\'(\\.|[^\'\\])+\'|//.*', "", lines[index])
        depth += bare.count("{") - bare.count("}")
        opened = opened or "{" in bare
        if opened and depth <= 0:
            return index
    raise ValueError(f"unbalanced braces from line {start + 1}")


def functions(lines: tuple[str, ...]) -> list[tuple[int, int, str]]:
    """(first line index, last, name) of each function defined at column 0; its signature may span
    lines.
    """
    found = []
    for index, line in enumerate(lines):
        if line != "{":
            continue
        start = index - 1
        while (
            start > 0
            and lines[start - 1].strip()
            and not re.match(r"[{}#]|//|template|namespace", lines[start - 1])
        ):
            start -= 1
        signature = " ".join(part.strip() for part in lines[start:index])
        if match := re.search(r"([\w:~]+(?:<[\w:<>]+>)?|operator\W+)\(", signature):
            found.append((start, closing(lines, index), match[1].removeprefix("sample::")))
    return found


def enclosing(lines: tuple[str, ...], at: int) -> str:
    for first, last, name in functions(lines):
        if first <= at <= last:
            return name
    return (
        "RndInt8Calibrator::writeCalibrationCache" if "writeCalibrationCache" in lines[at] else ""
    )


def extent(lines: tuple[str, ...], at: int, how: int | str) -> tuple[int, int]:
    """The first and last line index of what starts at line index ``at``."""
    if isinstance(how, int):
        return at, at + how - 1
    if how == "function":
        return next((first, last) for first, last, _ in functions(lines) if first <= at <= last)
    if how in ("block", "statement and block"):
        return at, closing(lines, at)
    if how == "chain":
        last = closing(lines, at)
        while last + 1 < len(lines) and lines[last + 1].lstrip().startswith("else"):
            last = closing(lines, last + 1)
        return at, last
    if how == "enclosing block":
        start = at
        while not lines[start].lstrip().startswith("if "):
            start -= 1
        return start, closing(lines, start)
    raise ValueError(how)


def find(lines: tuple[str, ...], pattern: str, how: int | str) -> tuple[int, int] | None:
    hits = [index for index, line in enumerate(lines) if re.search(pattern, line)]
    if how == "second block":  # the loop that prints "Unknown option"
        hits = [i for i in hits if any("Unknown option" in line for line in lines[i : i + 6])][-1:]
        how = "block"
    return extent(lines, hits[0], how) if hits else None


def source_lines(repo: Path, tag: str) -> dict[str, str]:
    """key -> "file function first-last" at ``tag``."""
    table = {}
    for key, (file, pattern, how) in ANCHORS.items():
        lines = lines_of(repo, tag, file)
        if found := find(lines, pattern, how):
            first, last = found
            function = enclosing(lines, first)
            if not function.startswith("SafeBuilderOptions"):  # another program's options
                table[key] = f"{Path(file).name} {function} " + (
                    f"{first + 1}-{last + 1}" if last > first else f"{first + 1}"
                )
    wanted = NEEDED_11 if re.match(r"v11", tag) else NEEDED
    wanted = wanted - SINCE_8_4 if re.match(r"8\.[02]", tag) else wanted
    if missing := sorted(wanted - table.keys()):
        raise SystemExit(f"{tag}: nothing found for {missing}")
    return table


def option_kinds(repo: Path, tag: str) -> dict[str, str]:
    """option -> flag, int, float, text, shapes, formats, sparsity, types or repeat, for what
    trtexec itself parses.
    """
    lines = lines_of(repo, tag, SO)
    header = "\n".join(lines_of(repo, tag, HEADER))
    kinds: dict[str, str] = {}
    for first, last, name in functions(lines):
        if not re.search(r"::parse$|^parseHelp$", name) or re.match(
            r"(SafeBuilder|TaskInference)Options", name
        ):
            continue
        body = "\n".join(lines[first : last + 1])
        for match in re.finditer(
            r"(while \()?(\w+)\(\s*(?:arguments|\w+),(?:\s*\w+,)?\s*\"(--?[\w]+)\"(?:,\s*([\w.]+))?",
            body,
        ):
            loop, call, option, variable = match.groups()
            kinds[option] = kind_of(call, variable, body + header, bool(loop))
    return kinds


def kind_of(call: str, variable: str | None, text: str, loop: bool) -> str:
    if loop or "Repeated" in call:
        return "repeat"
    if "NegOption" in call:
        return "flag"
    for part, kind in (
        ("Shapes", "shapes"),
        ("getFormats", "formats"),
        ("Profiles", "profile"),
        ("Precisions", "types"),
    ):
        if part in call:
            return kind
    if call == "getLayerOutputTypes":
        return "types"
    name = (variable or "").split(".")[-1]
    declared = (
        re.search(rf"\b([\w:]+(?:<[\w:]+>)?)\s+{re.escape(name)}\s*(?:\{{|=|;|,)", text)
        if name
        else None
    )
    declared_type = declared[1] if declared else ""
    return KINDS.get(declared_type, "text")


def names_in(repo: Path, tag: str, function: str) -> list[str]:
    """The words that ``stringToValue`` of a data type or tensor format knows at ``tag``."""
    lines = lines_of(repo, tag, SO)
    span = find(lines, rf"^nvinfer1::{function} stringToValue<nvinfer1::{function}>", "function")
    body = "\n".join(lines[span[0] : span[1] + 1]) if span else ""
    return re.findall(r"\{\s*\"(\w+)\",\s*nvinfer1::(?:DataType|TensorFormat)::", body)


def choices(repo: Path, tag: str) -> dict[str, tuple[str, str]]:
    """option -> (what trtexec says of another word, the words it knows), at ``tag``.

    Read off each chain of comparisons, or each table of words, that ends in throwing "Unknown ...".
    """
    text = "\n".join(lines_of(repo, tag, SO))
    known: dict[str, tuple[str, str]] = {}
    throw = r"invalid_argument\(\s*std::string\(\"(Unknown [^\"]*: )\"\) \+ \w+"
    for end in re.finditer(throw, text):
        before = text[: end.start()]
        options = list(re.finditer(r"\"(--\w+)\"", before))
        if not options or "sparsity" in end[1] or "tuning" in end[1]:
            continue  # these two are read by functions that name no option
        words = re.findall(r"== \"([^\"]+)\"|\{\s*\"(\w+)\", \w+::k", before[options[-1].end() :])
        if words:
            known[options[-1][1]] = end[1], " ".join(left or right for left, right in words)
    return known


def changes(repo: Path) -> dict[str, dict[str, Any]]:
    """option -> its refusal, and its words at each tag where they change."""
    table: dict[str, dict[str, Any]] = {}
    for tag in releases(repo):
        for option, (refusal, words) in choices(repo, tag).items():
            row = table.setdefault(option, {"refusal": refusal, "words": {}})
            if list(row["words"].values())[-1:] != [words]:
                row["words"][tag] = words
    return table


def derive(repo: Path) -> dict[str, Any]:
    table: dict[str, Any] = {
        "repository": "https://github.com/NVIDIA/TensorRT",
        "files": {Path(file).name: file.removesuffix(Path(file).name) for file in (SO, SE, TX)},
        "choices": changes(repo),
        "tags": {},
    }
    for tag in releases(repo):
        options: dict[str, list[str]] = {}
        for option, kind in sorted(option_kinds(repo, tag).items()):
            options.setdefault(kind, []).append(option)
        text = "\n".join(lines_of(repo, tag, SO))
        table["tags"][tag] = {
            "sources": source_lines(repo, tag),
            "options": {kind: " ".join(names) for kind, names in sorted(options.items())},
            "types": " ".join(names_in(repo, tag, "DataType")),
            "formats": " ".join(names_in(repo, tag, "TensorFormats")),
            "best_skips_sm103": "0x0a03" in text,
        }
        if place(tag, TX) != TX:
            table["tags"][tag]["files"] = {Path(TX).name: f"{OLD_FOLDER}/"}
    return table


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("repository", type=Path)
    parser.add_argument("--write", action="store_true", help="write the table again")
    arguments = parser.parse_args()
    derived = derive(arguments.repository)
    text = json.dumps(derived, indent=1) + "\n"
    if arguments.write:
        TABLE.parent.mkdir(exist_ok=True)
        TABLE.write_text(text, encoding="utf-8")
        print(f"{TABLE}: {len(derived['tags'])} tags, {len(text):,} bytes")
        return 0
    committed = json.loads(TABLE.read_text(encoding="utf-8"))
    wrong = [
        f"{tag} {key}: committed {committed['tags'].get(tag, {}).get(part, {}).get(key)}, found {value}"
        for tag, facts in derived["tags"].items()
        for part in ("sources", "options")
        for key, value in facts[part].items()
        if committed["tags"].get(tag, {}).get(part, {}).get(key) != value
    ]
    print(
        "\n".join(wrong)
        or f"every line range and option of {len(derived['tags'])} tags is as committed"
    )
    return 1 if wrong or committed != derived else 0


if __name__ == "__main__":
    sys.exit(main())
