"""Where NVIDIA's own sources say what trtexec and the samples do, at every release tag since 8.0.

Which release a text names, in every way that people write one; and what stands at its tag:
tables/trtexec.json (trtexec's options, and the line range of each of its decisions) and
tables/samples.json (which sample directories show which kind of quantization).
tools/trtexec_sources.py and tools/trtexec_samples.py read them off a checkout of NVIDIA/TensorRT.
"""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass
from functools import cache
from typing import Any, NamedTuple

from ..calibration.cache import version_text
from ..errors import CommandError
from ..files import load_table
from ..record import Record, html_link

__all__ = [
    "Release",
    "SampleTable",
    "Source",
    "choices",
    "cite",
    "facts_at",
    "known_versions",
    "layer_matches",
    "option_kinds",
    "read_spelling",
    "resolve",
    "samples",
    "wildcard_anywhere",
]


def facts_at(tag: str) -> dict[str, Any]:
    """What tables/trtexec.json holds for one tag: options, sources, types and formats."""
    facts: dict[str, Any] = load_table("trtexec")["tags"][tag]
    return facts


@dataclass(frozen=True)
class Source(Record):
    """A place in trtexec's source code at one release tag."""

    file: str
    function: str
    lines: str  # "1009-1014", or "385"
    tag: str
    url: str = ""

    def summary(self) -> str:
        return f"{self.tag}:{self.file}:{self.lines} ({self.function})"

    def rows(self) -> list[dict[str, Any]]:
        return []

    def _repr_html_(self) -> str:
        return html_link(self.url, self.summary())


@dataclass(frozen=True)
class Release:
    """A TensorRT version as asked for, and the tag whose source answers for it."""

    version: str
    tag: str
    number: tuple[int, int]  # (8, 6)
    note: str = ""
    later_options: tuple[str, ...] = ()  # that this version's release notes add to the tag's


def known_versions() -> tuple[str, ...]:
    """The versions that can be asked for, oldest first: "8.0", "8.2", ... "11.4".

    >>> known_versions()[:3]
    ('8.0', '8.2', '8.4')
    """
    minors = {_numbers(tag)[:2] for tag in load_table("trtexec")["tags"]}
    minors |= {_numbers(version) for version in load_table("versions")["untagged"]}
    return tuple(f"{major}.{minor}" for major, minor in sorted(minors))


def resolve(trt: str) -> Release:
    """The release that "8.6", "v10.0.1", "8601" or "JetPack 6.2" names; else CommandError.

    A version without a patch number means its newest tag, a major version alone its newest release.
    A version that has no tag of its own is answered by the nearest, one that is newer than all by
    the newest, and ``note`` says so.

    >>> resolve("8.6").tag, resolve("v10.0.1").tag, resolve("8.5.2-1+cuda11.4").tag
    ('v8.6.1', 'v10.0.1', '8.5.2')
    >>> resolve("jetpack 6.2").note
    'JetPack 6.2 has TensorRT 10.3.0'
    """
    text = str(trt).strip()
    spelling = read_spelling(text) or Spelling((None, None, None))
    major, minor, patch = spelling.numbers
    known = [_numbers(version) for version in known_versions()]
    if spelling.below:
        known = [number for number in known if number < (major, minor or 0)]
        major, minor, patch = (*known[-1], None) if known else (None, None, None)
    minors = [number for number in known if number[0] == major and minor in (None, number[1])]
    if major is None or (not minors and (major, minor or 0) < known[-1]):
        raise _unknown(text, spelling.note, major, minor, patch)
    notes = [spelling.note] if spelling.note else []
    number = max(minors, default=known[-1])
    asked, newest, whole = _dotted(major, minor), _dotted(*number), _dotted(major, minor, patch)
    if not minors:
        notes.append(
            f"TensorRT {whole} is newer than {newest}, the newest version known here: the answer "
            f"is that of {newest}"
        )
    versions = load_table("versions")
    changes = versions["later"].get(asked) or versions["untagged"].get(newest)
    tags = {_numbers(tag): tag for tag in load_table("trtexec")["tags"]}
    if changes:
        tag = tags[max(tags)]
        source = asked if asked in versions["later"] else newest
        notes.append(
            f"no source of {source} could be read: the lines are those of {tag}; "
            f"{source}'s {changes}"
        )
    else:
        patches = {_patch(numbers): tag for numbers, tag in tags.items() if numbers[:2] == number}
        nearest = max(patches)
        if patch is not None:
            nearest = min(sorted(patches), key=lambda one: abs(one - patch))
        tag = patches[nearest]
        if patch not in (None, nearest) and len(_numbers(tag)) > 2:
            notes.append(
                f"{whole} has no tag in NVIDIA/TensorRT; the source lines are those of {tag}"
            )
    plain = re.fullmatch(r"v?\d+(\.\d+)*", text, re.I) and "." in text
    return Release(
        text.lstrip("vV") if plain else whole,
        tag,
        (number[0], number[1]) if minors else (major, minor or 0),
        "; ".join(notes),
        tuple(re.findall(r"--\w+", changes or "")),
    )


def _unknown(text: str, note: str, major: int | None, *rest: int | None) -> CommandError:
    versions = known_versions()
    problem, known = f"TensorRT version {text[:40]!r} is not known", ", ".join(versions)
    if major is None or (major, rest[0] or 0) >= _numbers(versions[0]):
        return CommandError(f"{problem}, expected one of {known}", "name one of these with --trt")
    return CommandError(
        f"{note}; " * bool(note)
        + f"{problem}: {_dotted(major, *rest)} is older than {versions[0]}, the oldest of {known}",
        "ask with --trt 8.0: from 7.1 on --int8 without --calib sets the same ranges "
        "(7.1.3:samples/common/sampleEngines.cpp:492-496)",
    )


def _dotted(*numbers: int | None) -> str:
    return ".".join(str(number) for number in numbers if number is not None)


def _numbers(tag: str) -> tuple[int, ...]:
    return tuple(int(part) for part in tag.removeprefix("v").split("."))


def _patch(numbers: tuple[int, ...]) -> int:
    return numbers[2] if len(numbers) > 2 else 0


def cite(tag: str, key: str) -> Source | None:
    """The place ``key`` ("decision", "placeholder", ...) in the source at ``tag``, or None.

    >>> print(cite("v8.6.1", "decision"))
    v8.6.1:samples/common/sampleEngines.cpp:1009-1014 (setupNetworkAndConfig)
    """
    table = load_table("trtexec")
    if key not in facts_at(tag)["sources"]:
        return None
    name, function, lines = facts_at(tag)["sources"][key].split(" ")
    file = (table["files"] | facts_at(tag).get("files", {}))[name] + name
    anchor = "-".join(f"L{line}" for line in lines.split("-"))
    return Source(file, function, lines, tag, f"{table['repository']}/blob/{tag}/{file}#{anchor}")


@cache
def option_kinds(tag: str) -> dict[str, str]:
    """Every option that trtexec knows at ``tag`` and how it reads its value: flag, int, text ..."""
    options: dict[str, str] = facts_at(tag)["options"]
    kinds: dict[str, str] = {}
    for kind, names in options.items():
        kinds |= dict.fromkeys(names.split(), kind)
    return kinds


def choices(tag: str, option: str) -> tuple[str, tuple[str, ...]] | None:
    """What trtexec says of a word that ``option`` does not know, and the words it knows at ``tag``.

    >>> choices("v8.6.1", "--memPoolSize")
    ('Unknown memory pool: ', ('workspace', 'dlaSRAM', 'dlaLocalDRAM', 'dlaGlobalDRAM'))
    """
    row = load_table("trtexec")["choices"].get(option)
    if row is None:
        return None
    tags = [since for since in row["words"] if _numbers(since) <= _numbers(tag)]
    return (row["refusal"], tuple(row["words"][tags[-1]].split())) if tags else None


def wildcard_anywhere(tag: str) -> bool:
    """Whether one ``*`` may stand anywhere in a layer's name at ``tag``, or only alone.

    Source: findPlausible in setLayerPrecisions, v9.1.0:samples/common/sampleEngines.cpp:443 to
    v10.16:481; v9.2.0 has none.
    """
    return _numbers(tag) >= (9, 1) and tag != "v9.2.0"


def layer_matches(pattern: str, name: str, tag: str) -> bool:
    """Whether an entry of --layerPrecisions and its kin means the layer ``name`` at ``tag``.

    >>> layer_matches("b0_*", "b0_conv", "v10.16"), layer_matches("b0_*", "b0_conv", "v8.6.1")
    (True, False)
    """
    if pattern in ("*", name):
        return True
    before, star, after = pattern.partition("*")
    if not star or not wildcard_anywhere(tag):
        return False  # a second * is a plain character of ``after``
    return (
        name.startswith(before) and name.endswith(after) and len(name) >= len(before) + len(after)
    )


# How people write a TensorRT version: TensorRT's own macros ("8601", "v101303"), NVIDIA's Debian,
# RPM, tar and pip packages, git tags and branches, containers ("24.05-py3"), and JetPack, Jetson
# Linux or DeepStream. tables/versions.json has the patterns, the numbers to overlook beside a
# version ("noise": CUDA's, Python's, a library's), and who ships what; there a "?" marks what no
# page of NVIDIA and no log at hand confirms.


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
    if row is None and len(parts) == 1 and (series := _series(kind, label, parts[0])):
        return series
    older = (one for one in table if _numbers(one) <= _numbers(version.strip(".")))
    nearest = row or max(older, key=_numbers, default=None)
    if nearest is None:
        return None
    number, _, words = table[nearest].partition(" ")
    verb = "can have" if words else "has"
    note = f"{label} {version} {verb} TensorRT {number.rstrip('?')}"
    note += UNCHECKED if row is None or number.endswith("?") else ""
    return Spelling(_triple(*number.rstrip("?").split(".")), note)


def _series(kind: str, label: str, major: str) -> Spelling | None:
    """A major version alone: the last of its rows that ships a TensorRT; the note has them all."""
    table = load_table("versions")[kind]
    rows = {row: words for row, words in table.items() if row.split(".")[0] == major}
    shipped = [row for row in rows if " " not in rows[row]]
    if not shipped:
        return None
    last = max(shipped, key=_numbers)
    versions = ", ".join(f"{label} {row}: {words}" for row, words in rows.items())
    note = f"{label} {major} is taken as {last}; name yours, its TensorRT differs ({versions})"
    return Spelling(_triple(*rows[last].split(".")), note)


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


# The samples of NVIDIA/TensorRT that show quantization (thread question 7). A directory counts when
# its file holds the telling line, whose number is in the table.


@dataclass(frozen=True)
class Sample(Record):
    """One directory and what it shows; ``first`` and ``last`` are the tags at which it does."""

    directory: str
    kind: str
    shows: str
    first: str
    last: str
    file: str
    line: int  # at ``tag``
    tag: str
    url: str
    fate: str  # after ``last``: gone, or there without INT8; empty where it still shows it

    def summary(self) -> str:
        return f"{self.directory}: {self.shows} ({self.first} to {self.last})"


@dataclass(frozen=True)
class SampleTable(Record):
    """The directories that show quantization, at one version or at any."""

    samples: tuple[Sample, ...]
    version: str | None = None

    def summary(self) -> str:
        where = f"TensorRT {self.version}" if self.version else "TensorRT 8.0 to 11.1"
        return (
            f"{len(self.samples)} directories of NVIDIA/TensorRT show INT8 quantization in {where}"
        )

    def rows(self) -> list[dict[str, Any]]:
        return [
            {
                "directory": sample.directory,
                "kind": sample.kind,
                "shows": sample.shows,
                "from": sample.first,
                "to": sample.last,
                "then": sample.fate or None,
                "evidence": f"{sample.tag}:{sample.file}:{sample.line}",
            }
            for sample in self.samples
        ]


def samples(trt: str | None = None, kind: str | None = None) -> SampleTable:
    """The sample directories that show quantization: all, or those of one version and one kind.

    ``kind``: calibration (a calibrator fed with data), own ranges (per tensor, set by the program),
    one range (for every tensor: it runs, and proves no accuracy), Q/DQ (in the model), trtexec
    (whichever its options lead to). Raises CommandError for an unknown version or kind.

    >>> [sample.directory for sample in samples("8.6", kind="own ranges").samples]
    ['samples/sampleINT8API']

    Source: the file and line of each row at its tag in github.com/NVIDIA/TensorRT.
    """
    table, tag = load_table("samples"), resolve(trt).tag if trt is not None else None
    kinds = dict.fromkeys(row["kind"] for row in table["rows"])
    if kind is not None and kind not in kinds:
        raise CommandError(f"no kind {kind!r}", f"one of {', '.join(kinds)}")
    found = []
    for row in table["rows"]:
        lines = row["lines"]
        if kind not in (None, row["kind"]) or not (tag is None or tag in lines):
            continue
        first, last = next(iter(lines)), next(reversed(lines))
        later = table["tags"][table["tags"].index(last) + 1 :]
        fate = "there, but no longer in INT8" if set(later) & set(row["without"]) else "gone"
        at = tag or last
        found.append(
            Sample(
                **{name: row[name] for name in ("directory", "kind", "shows", "file")},
                first=first,
                last=last,
                line=lines[at],
                tag=at,
                url=f"{table['repository']}/blob/{at}/{row['file']}#L{lines[at]}",
                fate=fate if later else "",
            )
        )
    return SampleTable(tuple(found), trt)
