"""Exercises of notebook 00, "What does --int8 actually do?"."""

from __future__ import annotations

from functools import partial
from typing import Any

from ...errors import TrtlearnError
from ..exercise import Exercise, Prediction, register
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


register(
    Prediction(
        "00-mobile",
        "The network mobile gets 98 % of its test images right in FP32. How many with bare --int8?",
        ("close to 98 %", "far less than 88 %"),
    ),
    Exercise(
        "00-mode",
        "What does --best do about ranges?",
        partial(
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
        solution='my_mode = "placeholder-ranges"',
        wrong=('my_mode = "not-int8"', 'my_mode = "random-calibration"'),
        hints=(
            "Type it into the widget above.",
            "--best is short for two options, and neither is --calib.",
        ),
        difficulty=1,
        minutes=2,
    ),
    Exercise(
        "00-command",
        "Write the command",
        judge_command,
        solution='my_command = "trtexec --onnx=net.onnx --int8 --fp16 --calib=good.cache"',
        wrong=(
            'my_command = "trtexec --onnx=net.onnx --int8 --calib=good.cache"',
            'my_command = "trtexec --onnx=net.onnx --fp16 --calib=good.cache"',
            'my_command = "make me an engine"',
        ),
        hints=(
            "Three options beside --onnx, or two with --best.",
            "--calib=good.cache names the file.",
        ),
        difficulty=2,
        minutes=5,
    ),
)
