"""Exercises of notebook 04, "The calibration cache"."""

from __future__ import annotations

import re
import struct
from functools import cache, partial
from typing import Any

import numpy as np

from ...calibration.cache import format_cache, new_cache, parse_cache
from ...calibration.ranges import amax_by_tensor
from ...errors import DataError
from ...model.course_data import load_images
from ...record import plural
from ...show.images import Column, digit_columns
from ..verdict import Look, compare, cut, judge_function, kind_of, random_cases
from . import recorded

WANTED = 2.83  # the end of image's range that 04-line asks for: the digits reach 2.82
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


def read_wrongly(content: str, order: str = ">", factor: float = 127) -> dict[str, float]:
    """The ranges of a cache by a wrong byte order or a wrong factor."""
    ranges = {}
    for line in content.splitlines()[1:]:
        name, _, digits = line.rpartition(": ")
        ranges[name] = factor * scale_of(digits, order)
    return ranges


@cache
def broken_text() -> str:
    """The cache that 04-line is to edit: TensorRT's, of entropy 2."""
    calibration = recorded("resnet").build("int8-entropy2").calibration
    text = calibration and calibration.cache
    assert text
    return text


def lines_of(answer: Any) -> list[str]:
    """The lines of the reader's text; DataError where it is no text."""
    if isinstance(answer, bytes):
        answer = answer.decode(errors="replace")
    if isinstance(answer, str):
        return answer.strip().splitlines()
    if isinstance(answer, (list, tuple)) and all(isinstance(line, str) for line in answer):
        return [line.rstrip("\n") for line in answer]
    raise DataError(f"Expected the whole text of the cache, got {kind_of(answer)}")


def digits_of(lines: list[str]) -> str:
    """The hexadecimal digits of image's line; DataError says what is wrong with them."""
    found = [line.rpartition(": ")[2] for line in lines if line.startswith("image: ")]
    if len(found) != 1:
        raise DataError(f"{plural(len(found), 'line')} for image, expected one: 'image: ' and hex")
    digits = found[0].strip()
    if digits.startswith(("0x", "0X")):
        raise DataError("The file has no 0x in front of the digits", "leave it out")
    if not re.fullmatch("[0-9a-fA-F]{1,8}", digits):
        raise DataError(
            f"image's line ends in {cut(digits)!r}, expected up to 8 hexadecimal digits",
            "struct.pack('>f', scale).hex()",
        )
    return digits


def look_line(answer: Any) -> Look:
    """Whether image's line, and no other, gives the range that was asked for."""
    lines, before = lines_of(answer), broken_text().splitlines()
    digits = digits_of(lines)
    amax, swapped = 127 * scale_of(digits), 127 * scale_of(digits, "<")
    lost = [line for line in before if line not in lines and not line.startswith("image: ")]
    conditions = {
        "first line": lines[0] != before[0],
        "lost": lost,
        "passed": np.isclose(amax, WANTED, rtol=0.01),
        "swapped": np.isclose(swapped, WANTED, rtol=0.01),
        "amax": np.isclose(amax / 127, WANTED, rtol=0.01),
        "other": True,
    }
    facts = {"first": before[0], "lost": cut("".join(lost[:1])), "amax": amax, "wanted": WANTED}
    return conditions, facts


def draw_line(answer: Any) -> Any:
    """The digit, and what the range in the reader's text keeps of it."""
    lines = broken_text().splitlines() if answer is None else lines_of(answer)
    amax = 127 * scale_of(digits_of(lines))
    columns = [Column("the digit", None), Column("your cache", amax)]
    title = "What does the range in your cache keep of the digit?"
    return digit_columns(columns, load_images("calibration")[0][:1], title=title)


judge_read = partial(
    judge_function,
    cases=random_cases(lambda content: amax_by_tensor(parse_cache(content)), random_cache),
    compare=partial(compare, rtol=1e-5),
    show_input=lambda arguments, difference: repr(arguments[0]),
)

mistakes_read = {
    "scale": partial(read_wrongly, factor=1),
    "128": partial(read_wrongly, factor=128),
    "little-endian": partial(read_wrongly, order="<"),
}
