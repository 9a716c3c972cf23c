"""Exercises of notebook 06, "Which layers really run INT8"."""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial
from typing import Any

import numpy as np

from ...errors import TrtlearnError
from ...record import plural
from ...recorded.computed import repairs
from ...show.tensor_ranges import repair_preview
from ..verdict import Comparison, Look, judge_function, judge_number, kind_of, random_cases
from . import recorded

Layers = list[dict[str, Any]]

FORMATS = {
    "Int8": "Thirty-two wide channel vectorized row major Int8 format",
    "Float": "Row major linear FP32",
}
KINDS = ("Reformat", "CaskConvolution", "CaskConvolution", "CaskPooling")


def random_engine(rng: np.random.Generator) -> tuple[Layers]:
    """Layers as TensorRT 8.6's inspector has them: reformats, with weights, without."""

    def tensor(index: int, dtype: str) -> list[dict[str, str]]:
        return [{"Name": f"t{index}", "Format/Datatype": FORMATS[dtype]}]

    layers: Layers = []
    for index in range(int(rng.integers(6, 14))):
        kind = "CaskConvolution" if index < 2 else KINDS[int(rng.integers(4))]
        read, written = (str(dtype) for dtype in rng.choice(list(FORMATS), 2))
        layer: dict[str, Any] = {
            "Name": f"layer{index}",
            "LayerType": kind,
            "Inputs": tensor(index, read),
            "Outputs": tensor(index + 1, written),
        }
        if kind == "CaskConvolution":
            layer["Weights"] = {"Type": written, "Count": int(rng.integers(9, 900))}
        layers.append(layer)
    return (layers,)


def weight_types(layers: Layers) -> list[str]:
    """The type of the weights of each layer that has some."""
    return [layer["Weights"]["Type"] for layer in layers if layer.get("Weights", {}).get("Count")]


def fell_layers() -> Layers:
    """The engine of mobile without a range for m2_relu6b, as the inspector lists it."""
    return recorded("mobile").study("missing-one").layer_dicts


def fell() -> int:
    """The reference: how many of these layers have FP32 weights."""
    return weight_types(fell_layers()).count("Float")


def int8_share(layers: Layers) -> float:
    """The reference: percent of the layers with weights whose weights are INT8."""
    types = weight_types(layers)
    return float(100 * types.count("Int8") / len(types))


def weights(layers: Layers, dtype: str) -> int:
    """How many weights have this type."""
    held = [layer["Weights"] for layer in layers if "Weights" in layer]
    return sum(one["Count"] for one in held if one["Type"] == dtype)


def _describe(arguments: tuple[Any, ...], difference: Comparison | None) -> str:
    """An engine in a line, in place of its dicts."""
    (layers,) = arguments
    types = weight_types(layers)
    int8 = types.count("Int8")
    return (
        f"{plural(len(layers), 'layer')}: {len(types)} with weights "
        f"({int8} Int8, {len(types) - int8} Float), {len(layers) - len(types)} without"
    )


ENOUGH = 0.95  # the share of right answers to reach
ADVICE = 'give a list of names, such as ["image", "gap"]'


def _names(answer: Any) -> list[str]:
    """The tensors that the reader names; TrtlearnError where these are no names."""
    words = answer.replace(",", " ").split() if isinstance(answer, str) else answer
    if not isinstance(words, Iterable):
        raise TrtlearnError(f"{kind_of(answer)} is no list of names", ADVICE)
    return list(dict.fromkeys(str(getattr(word, "name", word)) for word in words))


def look_repair(answer: Any) -> Look:
    """Whether these tensors' ranges, and no fewer, bring the answers back."""
    known, names = repairs(), _names(answer)
    share = known.accuracy(names)
    spare = [name for name in names if known.accuracy(set(names) - {name}) >= ENOUGH]
    facts = {"tensors": plural(len(names), "tensor"), "share": share, "spare": spare}
    return {"cut": share < ENOUGH, "spare": spare, "passed": True}, facts


def draw_repair(answer: Any) -> Any:
    """The bars of ``tl.show.repair_switches`` with the reader's tensors switched on."""
    return repair_preview(repairs(), _names([] if answer is None else answer))


judge_fell = partial(judge_number, reference=fell, unit="layers")
judge_share = partial(
    judge_function, cases=random_cases(int8_share, random_engine), show_input=_describe
)

mistakes_fell = {
    "INT8": lambda: weight_types(fell_layers()).count("Int8"),
    "with weights": lambda: len(weight_types(fell_layers())),
    "all layers": lambda: len(fell_layers()),
    "nodes": lambda: 18,
    "without logits": lambda: fell() - 1,
}

mistakes_share = {
    "first input": lambda layers: (
        100 * np.mean(["Int8" in layer["Inputs"][0]["Format/Datatype"] for layer in layers])
    ),
    "all layers": lambda layers: 100 * weight_types(layers).count("Int8") / len(layers),
    "not percent": lambda layers: int8_share(layers) / 100,
    "not INT8": lambda layers: 100 - int8_share(layers),
    "weights": lambda layers: (
        100 * weights(layers, "Int8") / (weights(layers, "Int8") + weights(layers, "Float"))
    ),
    "count": lambda layers: weight_types(layers).count("Int8"),
}
