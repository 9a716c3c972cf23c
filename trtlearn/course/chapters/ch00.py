"""Exercises of notebook 00, "What does --int8 actually do?"."""

from __future__ import annotations

from functools import partial
from typing import Any

from ...errors import TrtlearnError
from ..exercise import register_chapter
from ..verdict import Comparison, Verdict, judge_choice

__all__: list[str] = []

WANTED_MODE = "cached-scales"


def judge_command(answer: Any) -> Verdict:
    """Judge a command by what the explainer says of it."""
    from ...trtexec.explanation import explain

    if not isinstance(answer, str):
        return Verdict("", False, f"Expected the command as a text, got {type(answer).__name__}.")
    try:
        command = explain(answer, trt="8.6", cache_exists=True)
    except TrtlearnError as problem:
        return Verdict("", False, f"That is no trtexec command: {problem}.")
    faults = {
        "the model is to be net.onnx (--onnx=...)": command.options.get("--onnx") != "net.onnx",
        f"this gives {command.mode}": command.mode != WANTED_MODE,
        f"the scales would come from {command.cache}": command.cache != "good.cache",
        "layers without INT8 would run in FP32, for FP16 is not allowed": not command.fp16,
    }
    differs = "nothing" if command.mode == WANTED_MODE else "the mode"
    row = Comparison(answer, command.mode, WANTED_MODE, differs)
    for words, is_fault in faults.items():
        if is_fault:
            return Verdict("", False, f"Not yet: {words}.", (row,))
    return Verdict("", True, "INT8 and FP16 allowed, scales from good.cache.", (row,))


register_chapter(
    "00",
    judges={
        "00-mode": partial(
            judge_choice,
            right="placeholder-ranges",
            because="--best sets int8 and fp16, and there is no --calib "
            "(v8.6.1 sampleOptions.cpp:932-938)",
            objections={
                "not-int8": "--best sets int8 too",
                "cached-scales": "no --calib is given",
                "random-calibration": "that needs --calib with a file that is missing",
                "explicit-qdq": "the model has no Q/DQ",
                "rejected": "8.6 knows --best",
            },
        ),
        "00-command": judge_command,
    },
)
