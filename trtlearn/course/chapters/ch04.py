"""Exercises of notebook 04, "The calibration cache"."""

from __future__ import annotations

import struct
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np

from ...calibration.cache import format_cache, new_cache, parse_cache
from ..exercise import register_chapter
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


register_chapter(
    "04",
    judges={
        "04-decode": partial(
            judge_number, reference=lambda: 127 * scale_of(HEX), common_mistakes=DECODE_MISTAKES
        ),
        "04-read": partial(
            judge_function,
            cases=random_cases(read_ranges, random_cache),
            common_mistakes=READ_MISTAKES,
            compare=partial(compare, rtol=1e-5),
            show_input=_show_cache,
            right="Right on {count} random caches, names with colons and a scale of 0 among them.",
        ),
    },
)
