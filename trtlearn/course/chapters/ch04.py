"""Exercises of notebook 04, "The calibration cache"."""

from __future__ import annotations

import struct
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np

from ...calibration.cache import format_cache, new_cache, parse_cache
from ..exercise import Exercise, Prediction, register
from ..verdict import Difference, compare, judge_function, judge_number, random_cases

__all__: list[str] = []

HEX = "3f400000"  # of the exercise 04-decode: scale 0.75
NAMES = (
    "conv1",
    "layer:0",
    "block/add:1: out",
    "(Unnamed Layer* 7) [Shuffle]_output",
    "x y",
    "head",
)


def scale_of(digits: str, order: str = ">") -> float:
    """The float32 whose bits are the hexadecimal ``digits``."""
    return float(struct.unpack(f"{order}f", bytes.fromhex(digits.zfill(8)))[0])


def random_cache(rng: np.random.Generator) -> tuple[str]:
    """The text of a cache of four tensors, one of them with the scale 0."""
    names = rng.permutation(NAMES)[:4].tolist()
    scales = [0.0, *rng.uniform(1e-4, 3, 3).astype(np.float32).tolist()]
    return (format_cache(new_cache(dict(zip(names, scales, strict=True)))),)


def read_ranges(content: str) -> dict[str, float]:
    """The reference: tensor name -> amax."""
    return {name: 127 * scale for name, scale in parse_cache(content).items()}


def _wrong_reader(order: str = ">", factor: float = 127) -> Callable[[str], dict[str, float]]:
    """A reader of caches with a wrong byte order or a wrong factor."""

    def read(content: str) -> dict[str, float]:
        ranges = {}
        for line in content.splitlines()[1:]:
            name, _, digits = line.rpartition(": ")
            ranges[name] = factor * scale_of(digits, order)
        return ranges

    return read


READ_MISTAKES = {
    "that is the scale; amax is 127 times as much": _wrong_reader(factor=1),
    "amax = 127 * scale, not 128": _wrong_reader(factor=128),
    "the bytes are big-endian: the first digits are sign and exponent": _wrong_reader(order="<"),
}

DECODE_MISTAKES = {
    "that is the scale; amax is 127 times as much": lambda: scale_of(HEX),
    "amax = 127 * scale, not 128": lambda: 128 * scale_of(HEX),
    "the bytes are big-endian: the first digits are sign and exponent": lambda: (
        127 * scale_of(HEX, "<")
    ),
    "the digits are the bits of a float32, not an integer": lambda: float(int(HEX, 16)),
}


def _show_cache(arguments: tuple[Any, ...], difference: Difference | None) -> str:
    return repr(arguments[0])


READ = """def my_read(text):
    ranges = {}
    for line in text.splitlines()[1:]:
        name, _, digits = line.rpartition(": ")
        ranges[name] = 127 * struct.unpack(">f", bytes.fromhex(digits.zfill(8)))[0]
    return ranges"""

register(
    Prediction(
        "04-header",
        "A cache whose header names TensorRT 7.6.0 is given to TensorRT 8.6.0. What happens?",
        ("an error", "it calibrates again", "it is used without a message"),
    ),
    Exercise(
        "04-decode",
        "Decode one line by hand",
        partial(
            judge_number, reference=lambda: 127 * scale_of(HEX), common_mistakes=DECODE_MISTAKES
        ),
        solution="my_amax = 127 * 0.75",
        wrong=("my_amax = 0.75", "my_amax = 128 * 0.75", "my_amax = 0x3f400000"),
        hints=(
            "0x3f4 is 0011 1111 0100: sign 0, exponent 0111 1110 = 126, fraction 100…0.",
            "2^(126 - 127) = 0.5, and the fraction makes it 1.5 * 0.5.",
            "scale 0.75, amax = 127 * scale",
        ),
        difficulty=2,
        minutes=5,
    ),
    Exercise(
        "04-read",
        "Write a reader of calibration caches",
        partial(
            judge_function,
            cases=random_cases(read_ranges, random_cache),
            common_mistakes=READ_MISTAKES,
            compare=partial(compare, rtol=1e-5),
            show_input=_show_cache,
            right="Right on {count} random caches, names with colons and a scale of 0 among them.",
        ),
        solution=READ,
        wrong=(
            READ.replace("line.rpartition", "line.partition"),
            READ.replace(".zfill(8)", ""),
            READ.replace('">f"', '"<f"'),
            READ.replace("127 * ", ""),
        ),
        hints=(
            "The name ends at the LAST colon: str.rpartition(': ').",
            "The hex is not zero-padded: '0'.zfill(8) is '00000000'.",
            "struct.unpack('>f', bytes.fromhex(...))[0] is the scale; 127 times it is amax.",
        ),
        difficulty=2,
        minutes=8,
    ),
)
