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
