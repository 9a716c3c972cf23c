"""The trtexec command line of TensorRT 11 that stands for one of TensorRT 8 to 10."""

from __future__ import annotations

import shlex

from .commandline import split_command
from .trtexec_options import parse_trtexec
from .trtexec_sources import option_kinds, resolve

__all__ = ["modern_command"]

RENAMED = {"--workspace": "--memPoolSize=workspace:{}", "--buildOnly": "--skipInference"}
"""Option of older versions -> what says the same in 11.x."""
BY_MODEL = ("--int8", "--best", "--fp16", "--bf16", "--fp8", "--int4", "--calib", "--calibProfile")
"""Options whose work the Q/DQ model does now, or nothing does: see ``modern_command``."""
NEEDLESS = ("--explicitBatch", "--explicitPrecision", "--minShapesCalib", "--optShapesCalib", "--maxShapesCalib")
ABOUT_MODEL = ("--onnx", "--model", "--uff", "--deploy", "--output", "--uffInput", "--uffNHWC")


def modern_command(command: str, onnx: str, trt: str = "11.1") -> tuple[str, tuple[str, ...]]:
    """The command for ``trt`` that builds ``onnx`` with what the old options say, and notes on what has no successor.

    Which options ``trt`` knows is read off its own source (tables/trtexec.json). CommandError for text that is no
    trtexec command.

    >>> modern_command("trtexec --onnx=m.onnx --int8 --calib=c --workspace=64 --noTF32", "q.onnx")[0]
    'trtexec --onnx=q.onnx --memPoolSize=workspace:64 --noTF32'
    """
    known = option_kinds(resolve(trt).tag)
    kept: list[str] = []
    notes: list[str] = []
    for argument in split_command(command):
        name, equals, value = argument.partition("=")
        if name in ABOUT_MODEL or name in BY_MODEL or name in NEEDLESS:
            continue
        if name in ("--inputIOFormats", "--outputIOFormats"):
            formats, types = _layouts(value)
            kept += [f"{name}={formats}"] if formats.replace("chw", "").strip(",") else []
            if set(types) - {"fp32", ""}:
                notes.append(
                    f"{name} no longer names types in {trt}: inputs and outputs have the model's own, {types[0]} "
                    "must be cast in the model"
                )
        elif name in RENAMED:
            kept.append(RENAMED[name].format(value))
        elif name in ("--layerPrecisions", "--precisionConstraints"):
            continue  # migrate leaves those layers without Q/DQ
        elif name in known:
            kept.append(name + equals + value)
        else:
            notes.append(f"{name} has no successor in {trt} and is left out")
    names = {argument.partition("=")[0] for argument in split_command(command)}
    if {"--fp16", "--bf16", "--best"} & names:
        notes.append(
            f"--fp16, --bf16 and --best have no successor in {trt}: types come from the model. Layers left in floating "
            "point run in FP32 (or TF32); cast them in the ONNX file for FP16"
        )
    line = shlex.join(["trtexec", f"--onnx={onnx}", *dict.fromkeys(kept)])
    refused = parse_trtexec(line, trt).error
    if refused:
        notes.append(f"trtexec {trt} refuses the new command: {refused}")
    return line, tuple(notes)


def _layouts(value: str) -> tuple[str, list[str]]:
    """``type:layout,type:layout`` without its types, and the types."""
    parts = [part.partition(":") for part in value.split(",") if part]
    return ",".join(layout for _, _, layout in parts), [kind for kind, _, _ in parts]
