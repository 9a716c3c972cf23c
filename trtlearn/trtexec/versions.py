"""How people write a TensorRT version: every spelling becomes (major, minor, patch).

TensorRT's own macros ("8601", "v101303"), NVIDIA's Debian, RPM, tar and pip packages, git tags and
branches, containers ("24.05-py3"), and JetPack, Jetson Linux or DeepStream. tables/versions.json
has the patterns, the numbers to overlook beside a version ("noise": CUDA's, Python's, a library's),
and who ships what; there a "?" marks what no page of NVIDIA and no log at hand confirms.
"""

from __future__ import annotations

import re
import unicodedata
from typing import NamedTuple

from ..calibration.cache import version_text
from ..files import load_table

__all__ = ["Spelling", "read_spelling"]


class Spelling(NamedTuple):
    """A version as numbers, None for what is not given, and what the text named instead of it."""

    numbers: tuple[int | None, int | None, int | None]
    note: str = ""  # "JetPack 6.2 has TensorRT 10.3.0"; empty where the text names TensorRT itself
    below: bool = False  # "<11": the newest release before it


DOTTED = r"(\d{1,3})(?:\.(\d{1,3}|[xX*])(?:\.(\d{1,3}|[xX*])(?:\.(?:\d{1,4}|[xX*]))?)?)?"
SUFFIX = (
    r"(?:\.?(?:post|dev|rc|a|b)\d+)?(?:[-+~_ ]*\(?(?:\d+[-+.]|ga|ea|dp|oss|rel|cuda|jetson).*)?"
)


def read_spelling(text: str) -> Spelling | None:
    """The version that ``text`` names; None where it names none.

    >>> read_spelling("v8601").numbers, read_spelling("TRT-101303-EntropyCalibration2").numbers
    ((8, 6, 1), (10, 13, 3))
    >>> read_spelling("libnvinfer8 (8.5.2-1+cuda11.4)").numbers
    (8, 5, 2)
    >>> read_spelling("jetpack 6.2")
    Spelling(numbers=(10, 3, 0), note='JetPack 6.2 has TensorRT 10.3.0', below=False)
    """
    text = unicodedata.normalize("NFKC", text).encode("ascii", "replace").decode()
    text = " ".join(text.split()).strip("'\"[](),;`")
    for kind, label, pattern in load_table("versions")["spellings"]:
        if match := re.search(pattern, text, re.I):
            return _shipped(kind, label, ".".join(part for part in match.groups() if part))
    return _own(text)


UNCHECKED = "; that could not be checked: the first line of trtexec's log names the version"


def _shipped(kind: str, label: str, version: str) -> Spelling | None:
    """TensorRT's version in a JetPack, a Jetson Linux or a container.

    The longest row that fits, a major version's last that ships one, or the nearest row before it.
    """
    if kind == "jetpack" and version.isdigit():  # "jp62"
        version = ".".join(version)
    table, parts = load_table("versions")[kind], version.strip(".").split(".")
    fitting = [".".join(parts[:length]) for length in range(len(parts), 0, -1)]
    row = next((row for row in fitting if row in table), None)
    unchecked = row is None
    if row is None:
        if len(parts) == 1 and (series := _series(kind, label, parts[0])):
            return series
        older = [row for row in table if _order(row) <= _order(version.strip("."))]
        row = max(older, key=_order, default=None)
    if row is None:
        return None
    number, _, words = table[row].partition(" ")
    verb = "can have" if words else "has"
    note = f"{label} {version} {verb} TensorRT {number.rstrip('?')}"
    note += UNCHECKED if unchecked or number.endswith("?") else ""
    return Spelling(_triple(*number.rstrip("?").split(".")), note)


def _series(kind: str, label: str, major: str) -> Spelling | None:
    """A major version alone: the last of its rows that ships a TensorRT; the note has them all."""
    rows = {
        row: words
        for row, words in load_table("versions")[kind].items()
        if row.split(".")[0] == major
    }
    shipped = [row for row in rows if " " not in rows[row]]
    if not shipped:
        return None
    last = max(shipped, key=_order)
    versions = ", ".join(f"{label} {row}: {words}" for row, words in rows.items())
    note = f"{label} {major} is taken as {last}; name yours, its TensorRT differs ({versions})"
    return Spelling(_triple(*rows[last].split(".")), note)


def _order(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split("."))


def _own(text: str) -> Spelling | None:
    """A version of TensorRT itself, alone or beside its name."""
    table = load_table("versions")
    is_named = re.search("|".join(table["named"]), text, re.I)
    macros = dict(re.findall(r"\b\w*(MAJOR|MINOR|PATCH)\w*\W+(\d+)", text))
    if "MAJOR" in macros:
        return Spelling(_triple(*(macros.get(part, "") for part in ("MAJOR", "MINOR", "PATCH"))))
    packed = re.search(r"(?<![\d.])(?:v|trt[-_ ]?)?([5-9]\d{3}|[1-9]\d{5})(?![\d.])", text, re.I)
    if packed and (re.fullmatch(r"v?\d+", text, re.I) or is_named):
        return Spelling(_triple(*version_text(int(packed[1])).split(".")))
    alone = re.fullmatch(rf"([<>=~!^ ]*)v?{DOTTED}{SUFFIX}", text, re.I)
    if alone is None and is_named:
        bare = re.sub("|".join(table["noise"]), " ", text, flags=re.I)
        spelled = rf"([<>=~!^]*) ?(?<!\d)(?<!\d\.)v?{DOTTED}(?![\d]|\.\d)"
        found = [match for match in re.finditer(spelled, bare, re.I) if "!" not in match[1]]
        dotted = [match for match in found if match[3]]
        bounds = [match for match in found if "<" in match[1]]
        alone = next(iter(bounds or dotted or found), None)
    if alone and len(alone[2]) < 3:
        return Spelling(_triple(*alone.groups()[1:4]), below=alone[1].strip() == "<")
    return None


def _triple(*parts: str | None) -> tuple[int | None, int | None, int | None]:
    numbers = [int(part) if part and part.isdigit() else None for part in parts] + [None, None]
    return numbers[0], numbers[1], numbers[2]
