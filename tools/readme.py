"""Write README.md's lists again: the notebooks, and the rooms of the package with the job of
each.
"""

from __future__ import annotations

import ast
import re
import sys
from pathlib import Path

from tools.trt_bindings import VERSIONS
from trtlearn.course.notebook import NOTEBOOKS
from trtlearn.files import load_table
from trtlearn.trtexec.sources import known_versions

ROOT = Path(__file__).resolve().parents[1]
ROOMS = [
    "model",
    "engine",
    "int8",
    "calibration",
    "live",
    "recorded",
    "trtexec",
    "show",
    "course",
    "cli",
]


def table() -> str:
    """The map as a Markdown table: one line a room, its job in the words of its own docstring."""
    lines = ["| room | its job |", "|---|---|"]
    for room in ROOMS:
        source = (ROOT / "trtlearn" / room / "__init__.py").read_text(encoding="utf-8")
        first = (ast.get_docstring(ast.parse(source)) or "").split("\n\n")[0]
        job = " ".join(first.split())
        lines.append(f"| [`{room}`](trtlearn/{room}) | {job} |")
    return "\n".join(lines)


def machines() -> str:
    """Which TensorRT each JetPack has, and whether it knows --int8: tables/versions.json."""
    table = load_table("versions")["jetpack"]
    states: dict[str, dict[str, list[str]]] = {}  # what --int8 does -> TensorRT -> JetPacks
    for name, row in table.items():
        number = tuple(int(part) for part in row.split(" ")[0].split(".")[:2])
        if number < (8, 0):
            continue  # older than what trtlearn knows
        state = "yes" if number < (10, 1) else "yes; deprecated from 10.1 on"
        state = state if number < (11, 0) else "no: Q/DQ"
        can = " " in row  # a TensorRT that can be had beside the JetPack's own
        version = f"{number[0]}.{number[1]}" + " can be had" * can
        names = states.setdefault(state, {}).setdefault(version, [])
        short = ".".join(name.split(".")[:2])
        if can:
            names.append(f"{name} and later")
        elif f"{short}.0" in table:
            names.append(name if name != short else f"{short}.1 on")
        elif short not in names:
            names.append(short)
    lines = ["| you have | TensorRT | `--int8` |", "|---|---|---|"]
    lines += [
        f"| JetPack {', '.join(map(' and '.join, found.values()))} | {', '.join(found)} | {state} |"
        for state, found in states.items()
    ]
    return "\n".join([*lines, PIP])


def versions() -> str:
    """How each version is known: run, bindings loaded, type-checked, sources cited."""
    stubs = re.search(r"tensorrt-stubs==([\d.]+)\.\*", (ROOT / "Makefile").read_text("utf-8"))
    typed = stubs[1] if stubs else ""
    loaded = [version for version in VERSIONS if version != typed]
    untagged = load_table("versions")["untagged"]
    cited = [version for version in known_versions() if version not in untagged]
    rows = {
        "TensorRT 8.6": "run: every recording",
        "TensorRT for RTX 1.7 (as 11)": "builds Q/DQ networks in the tests",
        f"TensorRT {', '.join(loaded)}": "NVIDIA's bindings loaded",
        f"TensorRT {typed}": "the same, and type-checked",
        f"trtexec {cited[0]} to {cited[-1]}": "its source is cited at each tag",
    }
    lines = ["| what | how it is known |", "|---|---|"]
    return "\n".join([*lines, *(f"| {what} | {how} |" for what, how in rows.items())])


PIP = "| `pip install tensorrt` today | 11 | no: Q/DQ, by `trtlearn migrate` |"


def notebooks() -> str:
    """The notebooks that are there, with their titles."""
    there = [
        (file, title) for file, title in NOTEBOOKS.values() if (ROOT / "notebooks" / file).is_file()
    ]
    return "\n".join(f"- [{file[:2]} {title}](notebooks/{file})" for file, title in there)


def main() -> int:
    """Put each list between its two marks in README.md."""
    path = ROOT / "README.md"
    text = path.read_text(encoding="utf-8")
    for name, content in (
        ("machines", machines()),
        ("versions", versions()),
        ("map", table()),
        ("notebooks", notebooks()),
    ):
        marks = re.compile(rf"(<!-- {name} -->\n).*?(<!-- end of {name} -->)", re.S)
        if not marks.search(text):
            print(
                f"README.md has no marks <!-- {name} --> and <!-- end of {name} -->",
                file=sys.stderr,
            )
            return 1
        text = marks.sub(lambda found, content=content: f"{found[1]}{content}\n{found[2]}", text)
    path.write_text(text, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
