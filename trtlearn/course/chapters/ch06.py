"""Exercises of notebook 06, "Which layers really run INT8"."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..exercise import Exercise, Prediction, function, register
from ..verdict import Verdict, choice

__all__: list[str] = []


def int8_share(layers: Any) -> float:
    """The reference: percent of the layers with weights whose weights are INT8."""
    kinds = [layer["Weights"]["Type"] for layer in layers if layer.get("Weights", {}).get("Count")]
    return float(100 * kinds.count("Int8") / len(kinds))


def _first_input(layers: Any) -> float:
    """A known mistake: a layer is called INT8 because its first input is."""
    kinds = ["Int8" in layer["Inputs"][0]["Format/Datatype"] for layer in layers]
    return 100 * sum(kinds) / len(kinds)


def _all_layers(layers: Any) -> float:
    kinds = [layer.get("Weights", {}).get("Type") == "Int8" for layer in layers]
    return float(100 * sum(kinds) / len(kinds))


def _inspector(rng: np.random.Generator) -> tuple[Any]:
    """A random engine in the words of the inspector's JSON (8.6): reformats, layers with weights, layers without."""
    formats = {
        "Int8": "Thirty-two wide channel vectorized row major Int8 format",
        "Float": "Row major linear FP32",
    }
    layers: list[dict[str, Any]] = []
    for index in range(int(rng.integers(6, 14))):
        kind = ("Reformat", "CaskConvolution", "CaskConvolution", "CaskPooling")[
            int(rng.integers(4))
        ]
        if index < 2:
            kind = "CaskConvolution"
        dtype = str(rng.choice(["Int8", "Float"]))
        layer: dict[str, Any] = {
            "Name": f"layer{index}",
            "LayerType": kind,
            "Inputs": [
                {
                    "Name": f"t{index}",
                    "Format/Datatype": formats[str(rng.choice(["Int8", "Float"]))],
                }
            ],
            "Outputs": [{"Name": f"t{index + 1}", "Format/Datatype": formats[dtype]}],
        }
        if kind == "CaskConvolution":
            layer["Weights"] = {"Type": dtype, "Count": int(rng.integers(9, 900))}
        layers.append(layer)
    return (layers,)


_FELL = choice(
    "b1_conv2",
    "its weights are FP32. Its input b1_relu1 has no range, so it has no scale to be quantized with",
    wrong={
        "b1_conv1": "its weights are INT8; only its output is FP32, because nobody could quantize it",
        "b1_relu1": "that is the tensor without a range; which layer reads it",
        "b1_proj": "its weights are INT8: the reformat in front of it serves its second input",
        "logits": "its weights are INT8; its output is FP32 because it leaves the network",
        "gap": "it has no weights, and works on INT8",
    },
)


def _fell(answer: Any) -> Verdict:
    return _FELL(answer)


_SOLUTION = (
    "def my_share(layers):\n"
    '    kinds = [layer["Weights"]["Type"] for layer in layers if layer.get("Weights", {}).get("Count")]\n'
    '    return 100 * kinds.count("Int8") / len(kinds)'
)

register(
    Prediction(
        "06-marked",
        "You mark every tensor of an INT8 network as an output, to compare each with FP32. What stays in INT8?",
        ("every layer", "about half", "nothing"),
    ),
    Exercise(
        "06-fell",
        "Which layer fell back",
        _fell,
        solution='my_layer = "b1_conv2"',
        wrong=('my_layer = "b1_conv1"', 'my_layer = "b1_relu1"', 'my_layer = "logits"'),
        hints=(
            "Look for the weights' type, not for the type of what goes in.",
            "json.loads(inspector)['Layers'] is a list of dicts; a convolution's has 'Weights': {'Type', 'Count'}.",
        ),
        difficulty=2,
        minutes=6,
    ),
    Exercise(
        "06-share",
        "How much of an engine is INT8",
        function(
            int8_share,
            inputs=_inspector,
            rtol=1e-6,
            slips={
                "a layer's first input says how it is stored, not how the layer computes": _first_input,
                "count only layers that have weights": _all_layers,
                "that is a share between 0 and 1; give percent": lambda layers: (
                    int8_share(layers) / 100
                ),
            },
        ),
        solution=_SOLUTION,
        wrong=(
            _SOLUTION.replace("100 * ", ""),
            "def my_share(layers):\n"
            '    return 100 * sum(l.get("Weights", {}).get("Type") == "Int8" for l in layers) / len(layers)',
        ),
        hints=(
            "Reformats and pooling have no 'Weights': layer.get('Weights', {}) is {} for them.",
            "A list's count method counts a value: ['a', 'b', 'a'].count('a') is 2.",
        ),
        difficulty=2,
        minutes=8,
    ),
)
