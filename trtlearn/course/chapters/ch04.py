"""Exercises of notebook 04, "The calibration cache"."""

from __future__ import annotations

import math
import struct
from typing import Any

import numpy as np

from ...calibration.cache import format_cache, new_cache, parse_cache
from ..exercise import Exercise, Prediction, number, register
from ..verdict import NOTHING, Case, Verdict, no_function, raised, text

__all__: list[str] = []

HEX = "3f400000"  # of the exercise 04-decode: scale 0.75


def _scale(digits: str, order: str = ">") -> float:
    return float(struct.unpack(f"{order}f", bytes.fromhex(digits.zfill(8)))[0])


NAMES = (
    "conv1",
    "layer:0",
    "block/add:1: out",
    "(Unnamed Layer* 7) [Shuffle]_output",
    "x y",
    "head",
)


def _reader(answer: Any) -> Verdict:
    """Judge the reader's parser on random caches."""
    if not callable(answer):
        return no_function(answer)
    for seed in (0, None, None, None, None, None):
        rng = np.random.default_rng(seed)
        names = [str(name) for name in rng.permutation(NAMES)[:4]]
        scales = dict(
            zip(names, [0.0, *rng.uniform(1e-4, 3, 3).astype(np.float32).tolist()], strict=True)
        )
        content = format_cache(new_cache(scales))
        wanted = {name: 127 * parse_cache(content)[name] for name in names}
        try:
            got = answer(content)
        except Exception as problem:
            return raised(problem, repr(content), wanted)
        if got is None or got is ...:
            return NOTHING
        if not isinstance(got, dict):
            return Verdict(
                "", False, f"Expected a dict of tensor name to amax, got {type(got).__name__}."
            )
        for name in {**wanted, **got}:
            ours, theirs = got.get(name), wanted.get(name)
            if (
                ours is None
                or theirs is None
                or not math.isclose(float(ours), theirs, rel_tol=1e-5)
            ):
                case = Case(repr(content), text(ours), text(theirs), name)
                return Verdict("", False, f"Not yet: {name!r} differs.", (case,))
    return Verdict(
        "", True, "Right on 6 random caches, names with colons and a scale of 0 among them."
    )


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
        ("an error", "it calibrates anew", "it is used in silence"),
    ),
    Exercise(
        "04-decode",
        "Decode one line by hand",
        number(
            lambda: 127 * _scale(HEX),
            slips={
                "that is the scale; amax is 127 times as much": lambda: _scale(HEX),
                "amax = 127 * scale, not 128": lambda: 128 * _scale(HEX),
                "the bytes are big-endian: the first digits are sign and exponent": lambda: (
                    127 * _scale(HEX, "<")
                ),
                "the digits are the bits of a float32, not an integer": lambda: float(int(HEX, 16)),
            },
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
        _reader,
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
