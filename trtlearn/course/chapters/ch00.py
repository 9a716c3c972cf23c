"""Exercises of notebook 00, "What does --int8 actually do?"."""

from __future__ import annotations

from pathlib import PurePath
from typing import Any

from ...errors import DataError
from ...show.images import digits_grid
from ...trtexec.explanation import Explanation, explain
from ..verdict import Look, kind_of
from . import recorded

CACHES = {f"{name}.cache": f"int8-{name}" for name in ("entropy2", "minmax", "legacy")}
"""The files that the reader may name -> the build with these ranges."""

ENOUGH = 0.9  # the share of right answers to reach
ROWS = [0, 4, 7]  # the test images that the picture shows


def engine_of(answer: Any) -> tuple[Explanation, str]:
    """What a command means, and the course's build of mobile with the ranges that it gives.

    DataError where the answer is no text, CommandError where it is no trtexec command.
    """
    if isinstance(answer, (list, tuple)):
        answer = " ".join(map(str, answer))
    if not isinstance(answer, str):
        raise DataError(f"Expected the command in quotes, got {kind_of(answer)}")
    command = explain(answer, trt="8.6", cache_exists=True)
    cache = PurePath(command.cache or "").name
    if command.mode == "cached-scales" and cache not in CACHES:
        command = explain(answer, trt="8.6", cache_exists=False)
    builds = {
        "not-int8": "fp16" if command.fp16 else "fp32",
        "placeholder-ranges": "int8-placeholder",
        "random-calibration": "int8-random",
    }
    return command, builds.get(command.mode, CACHES.get(cache, "fp32"))


def look_command(answer: Any) -> Look:
    """What the explainer says of the command, and the answers with its ranges."""
    command, variant = engine_of(answer)
    share = recorded("mobile").build(variant).accuracy or 0.0
    conditions = {
        "model": PurePath(command.options.get("--onnx") or "").name != "mobile.onnx",
        command.mode: command.mode not in ("cached-scales", "explicit-qdq"),
        "strokes": share < ENOUGH,
        "no FP16": not command.fp16,
        "passed": True,
    }
    return conditions, {"files": ", ".join(CACHES), "share": share}


def draw_command(answer: Any) -> Any:
    """The digits as FP32 and as the reader's engine reads them; without a command, bare --int8."""
    variant = "int8-placeholder" if answer is None else engine_of(answer)[1]
    mobile = recorded("mobile")
    title = "What does your engine see, and what does it answer?"
    builds = [mobile.build("fp32"), mobile.build(variant)]
    return digits_grid(builds, mobile.images("test"), mobile.labels(), ROWS, title=title)
