"""Exercises of notebook 08, "Q/DQ and TensorRT 11"."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection
from functools import partial
from itertools import chain
from typing import Any

import numpy as np

from ...model.graph import OnnxNode
from ...recorded.tradeoffs import placements
from ...show.blocks import EDGES, placed_block
from ..verdict import compare, judge_function, random_cases
from .ch02 import Network, nodes_with
from .ch04 import scale_of


def tensors_with_pair(nodes: Network) -> set[str]:
    """The reference: inputs of Conv and Gemm, and the branch of an Add that it does not fuse with.

    An Add fuses into the convolution that makes one of its inputs and that nothing else reads; of
    two such convolutions into that of the last input.
    """
    maker = {node.outputs[0]: node.op for node in nodes}
    reads = Counter(chain.from_iterable(node.inputs for node in nodes))
    sites = inputs_of(nodes, ("Conv", "Gemm"))
    for node in nodes:
        fused = [name for name in node.inputs if maker.get(name) == "Conv" and reads[name] == 1]
        if node.op == "Add" and fused:
            sites |= set(node.inputs) - {fused[-1]}
    return sites


def inputs_of(nodes: Network, ops: Collection[str]) -> set[str]:
    """The first input of each node of these operators."""
    return {node.inputs[0] for node in nodes if node.op in ops}


def random_network(rng: np.random.Generator) -> tuple[Network]:
    """A residual network: blocks of two convolutions, with or without an Add.

    An Add adds the block's input or a projection of it. The first block has a projection: one
    input of its Add needs a pair although no convolution reads it.
    """

    def node(op: str, inputs: list[str], output: str) -> str:
        nodes.append(OnnxNode("", op, tuple(inputs), (output,)))
        return output

    nodes: list[OnnxNode] = []
    first = node("Relu", [node("Conv", ["image"], "stem")], "t0")
    for index in range(int(rng.integers(2, 5))):
        hidden = node("Relu", [node("Conv", [first], f"a{index}")], f"b{index}")
        last = node("Conv", [hidden], f"c{index}")
        shortcut = "projection" if index == 0 else rng.choice(["projection", "identity", "none"])
        if shortcut != "none":
            other = node("Conv", [first], f"p{index}") if shortcut == "projection" else first
            inputs = [last, other] if rng.random() < 0.5 else [other, last]
            last = node("Add", inputs, f"d{index}")
        first = node("Relu", [last], f"t{index + 1}")
    node("Gemm", [first], "logits")
    return (tuple(nodes),)


def random_digits(rng: np.random.Generator) -> tuple[str]:
    """The hexadecimal part of a cache's line, now and then of the scale 0."""
    value = np.float32(rng.uniform(1e-4, 2) if rng.random() < 0.8 else 0.0)
    return (f"{int(value.view(np.uint32)):x}",)


BLOCK = (
    OnnxNode("", "Conv", ("input",), ("conv1",)),
    OnnxNode("", "Relu", ("conv1",), ("relu1",)),
    OnnxNode("", "Conv", ("relu1",), ("conv2",)),
    OnnxNode("", "Conv", ("input",), ("shortcut",)),
    OnnxNode("", "Add", ("shortcut", "conv2"), ("add",)),
    OnnxNode("", "Relu", ("add",), ("relu2",)),
    OnnxNode("", "Conv", ("relu2",), ("next",)),
)
"""The block in the picture; its shortcut is made by a convolution, too."""


def draw_sites(answer: Any) -> Any:
    """The pairs that the reader's function puts on a block; without one, none."""
    pairs = set() if answer is None else set(answer(BLOCK) or ())
    return placed_block([edge for edge in EDGES if edge in pairs], placements("resnet"))


judge_scale = partial(
    judge_function,
    cases=random_cases(scale_of, random_digits),
    compare=partial(compare, rtol=0),
)
judge_sites = partial(
    judge_function,
    cases=random_cases(tensors_with_pair, random_network, 8),
    show_input=nodes_with,
)

mistakes_scale = {
    "little-endian": lambda bits: scale_of(bits, "<"),
    "integer": lambda bits: float(int(bits, 16)),
    "amax": lambda bits: 127 * scale_of(bits),
}

mistakes_sites = {
    "no Add": partial(inputs_of, ops=("Conv", "Gemm")),
    "Relu": partial(inputs_of, ops=("Conv", "Gemm", "Relu")),
    "every output": lambda nodes: set(chain.from_iterable(node.outputs for node in nodes)),
    "every input": lambda nodes: set(
        chain.from_iterable(node.inputs for node in nodes if node.op != "Relu")
    ),
}
