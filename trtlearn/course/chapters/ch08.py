"""Exercises of notebook 08, "Q/DQ and TensorRT 11"."""

from __future__ import annotations

import struct
from typing import Any

import numpy as np

from ...record import plural
from ..exercise import Exercise, Prediction, function, register
from ..verdict import NOTHING, Case, Verdict, no_function, text

__all__: list[str] = []

Node = tuple[str, list[str], list[str]]


def pairs_of(nodes: list[Node]) -> set[str]:
    """Tensors that get a pair: inputs of Conv and Gemm, and the branch of an Add that its Conv does not make."""
    makers = {name: (op, name) for op, _, outputs in nodes for name in outputs}
    readers: dict[str, int] = {}
    for _, inputs, _ in nodes:
        for name in inputs:
            readers[name] = readers.get(name, 0) + 1
    wanted: set[str] = set()
    for op, inputs, _ in nodes:
        if op in ("Conv", "Gemm"):
            wanted.add(inputs[0])
        elif op == "Add":
            fused = [
                name
                for name in inputs
                if makers.get(name, ("",))[0] == "Conv" and readers[name] == 1
            ][-1:]
            if fused:
                wanted |= {name for name in inputs if name not in fused}
    return wanted


def _network(rng: np.random.Generator) -> list[Node]:
    """A random residual network: blocks of two convolutions, with and without an Add, and a Gemm at the end."""
    nodes: list[Node] = [("Conv", ["image"], ["stem"]), ("Relu", ["stem"], ["t0"])]
    last = "t0"
    for index in range(int(rng.integers(2, 5))):
        nodes += [("Conv", [last], [f"a{index}"]), ("Relu", [f"a{index}"], [f"b{index}"])]
        nodes.append(("Conv", [f"b{index}"], [f"c{index}"]))
        tail = f"c{index}"
        if rng.random() < 0.7:
            inputs = [tail, last] if rng.random() < 0.5 else [last, tail]
            nodes.append(("Add", inputs, [f"d{index}"]))
            tail = f"d{index}"
        nodes.append(("Relu", [tail], [f"t{index + 1}"]))
        last = f"t{index + 1}"
    return [*nodes, ("Gemm", [last], ["logits"])]


def _sites(answer: Any) -> Verdict:
    """Judge the reader's rule on eight random networks."""
    if not callable(answer):
        return no_function(answer)
    for seed in (0, 1, None, None, None, None, None, None):
        nodes = _network(np.random.default_rng(seed))
        wanted = pairs_of(nodes)
        got = answer([(op, list(inputs), list(outputs)) for op, inputs, outputs in nodes])
        if got is None or got is ...:
            return NOTHING
        if not isinstance(got, (set, frozenset, list, tuple)):
            return Verdict("", False, f"Expected a set of tensor names, got {type(got).__name__}.")
        if wrong := sorted(wanted ^ set(got)):
            first = next((node for node in nodes if wrong[0] in node[1] + node[2]), None)
            says = ("a pair", "no pair") if wrong[0] in got else ("no pair", "a pair")
            case = Case(f"first met in {first}", text(says[0]), text(says[1]), wrong[0])
            return Verdict(
                "",
                False,
                f"Not yet: {plural(len(wrong), 'tensor differs', 'tensors differ')}.",
                (case,),
            )
    return Verdict("", True, "Right on 8 random networks.")


def _scale(bits: str) -> np.float32:
    return np.float32(struct.unpack(">f", bytes.fromhex(bits.zfill(8)))[0])


def _lines(rng: np.random.Generator) -> tuple[str]:
    value = np.float32(rng.uniform(1e-4, 2) if rng.random() < 0.8 else 0.0)
    return (f"{int(value.view(np.uint32)):x}",)


register(
    Prediction(
        "08-same",
        "The same min-max scales, once as a calibration cache, once as Q/DQ nodes. How do the two engines answer?",
        ("the same on every image", "Q/DQ is clearly better", "the cache is clearly better"),
    ),
    Exercise(
        "08-scale",
        "From a line of the cache to the scale of a Q/DQ pair",
        function(
            _scale,
            _lines,
            rtol=0,
            atol=0,
            slips={
                "the bytes are big-endian: the sign comes first": lambda bits: np.float32(
                    struct.unpack("<f", bytes.fromhex(bits.zfill(8)))[0]
                ),
                "that is the number as an integer; read its bits as a float32": lambda bits: (
                    np.float32(int(bits, 16))
                ),
            },
        ),
        solution=(
            "import struct\n\n\ndef my_scale(bits):\n    return struct.unpack('>f', bytes.fromhex(bits.zfill(8)))[0]"
        ),
        wrong=(
            "def my_scale(bits):\n    return float(int(bits, 16))",
            "import struct\n\n\ndef my_scale(bits):\n    return struct.unpack('<f', bytes.fromhex(bits.zfill(8)))[0]",
        ),
        hints=(
            "The hexadecimal digits are the 32 bits of a float32. Leading zeros may be missing, scale 0 is just 0.",
            "bytes.fromhex needs all eight digits: bits.zfill(8). struct.unpack('>f', …) reads them as a float32.",
        ),
        difficulty=2,
        minutes=5,
    ),
    Exercise(
        "08-sites",
        "Place the pairs",
        _sites,
        solution=(
            "def my_sites(nodes):\n"
            "    maker = {name: op for op, _, outputs in nodes for name in outputs}\n"
            "    readers = [name for _, inputs, _ in nodes for name in inputs]\n"
            "    sites = {inputs[0] for op, inputs, _ in nodes if op in ('Conv', 'Gemm')}\n"
            "    for op, inputs, _ in nodes:\n"
            "        fused = [n for n in inputs if maker.get(n) == 'Conv' and readers.count(n) == 1][-1:]\n"
            "        if op == 'Add' and fused:\n"
            "            sites |= {n for n in inputs if n not in fused}\n"
            "    return sites"
        ),
        wrong=(
            "def my_sites(nodes):\n    return {inputs[0] for op, inputs, _ in nodes if op in ('Conv', 'Gemm', 'Relu')}",
            "def my_sites(nodes):\n    return {n for op, inputs, _ in nodes if op != 'Relu' for n in inputs}",
            "def my_sites(nodes):\n    return {n for _, _, outputs in nodes for n in outputs}",
        ),
        hints=(
            "Every Conv and Gemm reads its input through a pair.",
            "An Add fuses into the convolution that makes one of its inputs: that input stays as it is.",
            "So of an Add's two inputs the other one, the shortcut, gets the pair.",
        ),
        difficulty=3,
        minutes=12,
    ),
)
