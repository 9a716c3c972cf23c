"""Engine layers that a log or the inspector's one-line text lists, in the shape of its JSON.

Three forms: ``Layer(Kind): name, Tactic: 0x1, in (Int8[1,3:4,8,8]) -> out (...)`` under "Engine
Layer Information" in a verbose log; ``Name: ..., LayerType: ..., Inputs: [...], Outputs: [...]``
under "Layers:", what trtexec prints with --dumpLayerInfo; and there names alone, of an engine
built without detailed verbosity.
"""

from __future__ import annotations

import json
import re
from typing import Any

from .log import split_line

__all__ = ["layers_in_text"]

_VERBOSE = re.compile(r"Layer\((\w+)\): (.*?), Tactic: (-?\w+)(?: \([^)]*\))?,(.*)$")
_ARROW = re.compile(r"(?:(?<=[)\]]) |^ *)-> ?")
_TENSOR = re.compile(
    r"(?:^|, )\s*(?P<name>(?:\S.*?)?)"
    r"(?: \((?P<type>\w+)\[(?P<dims>[-\d,:]*)\]\)|\[(?P<old>\w+)\((?P<sizes>[-\d,:]*)\)\])"
)
_LINE = re.compile(
    r"Name: (?P<name>.*?), LayerType: (?P<kind>\w+), "
    r"Inputs: \[(?P<inputs>.*?)\], Outputs: \[(?P<outputs>|.*?\} ?)\](?=, |$)(?P<rest>.*)$"
)
_PART = re.compile(
    r"\{ ?(?:Name: )?(?P<name>.*?), (?:Location: (?P<location>\w+), )?"
    r"Dimensions: \[(?P<dims>[-\d, ]*)\], Format/Datatype: (?P<format>.*?) ?\}"
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


def _from_verbose(match: re.Match[str]) -> dict[str, Any]:
    before, *after = _ARROW.split(match[4].strip(), maxsplit=1)
    return {
        "Name": match[2],
        "LayerType": match[1],
        "Inputs": _verbose_tensors(before),
        "Outputs": _verbose_tensors(after[0] if after else ""),
        "TacticValue": match[3],
    }


def _from_line(match: re.Match[str]) -> dict[str, Any]:
    layer: dict[str, Any] = {"Name": match["name"], "LayerType": match["kind"]}
    for key in ("inputs", "outputs"):
        layer[key.title()] = [
            {
                "Name": part["name"],
                "Location": part["location"],
                "Dimensions": _sizes(part["dims"]),
                "Format/Datatype": part["format"],
            }
            for part in _PART.finditer(match[key])
        ]
    rest, _, metadata = match["rest"].partition(", Metadata: ")
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
        if match := _VERBOSE.search(line):
            detailed.append(_from_verbose(match))
        elif match := _LINE.search(line):
            detailed.append(_from_line(match))
        elif under_layers or "Layers:" in line:
            words = split_line(line)[1].strip()
            if words in ("Layers:", "Bindings:", ""):
                under_layers = words == "Layers:"
            elif under_layers and "LayerType: " not in words:
                names.append(words)
    return detailed or names
