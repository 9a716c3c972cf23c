"""The sentences of an explanation: what each mode means for weights, activations, inputs, outputs and accuracy."""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from pathlib import PurePath

from .commandline import split_command

__all__ = ["REMOVED", "WORDS", "Words", "dtype_words", "why_removed"]


@dataclass(frozen=True)
class Words:
    """One mode in words."""

    kind: str
    weights: str
    activations: str
    accuracy: str


_WEIGHTS = (
    "FP32 in the model file. The builder itself quantizes those of each layer for which it chooses an INT8 kernel: "
    "symmetric, scale = largest |w| / 127 (one per output channel of a convolution, deconvolution or fully connected "
    "layer), integers -127 to 127, kept in the engine. "
    "No file and no calibration is involved; layers that run in floating point keep floating-point weights."
)

WORDS = {  # by mode, and "set aside" for a cached-scales whose file is not taken
    "not-int8": Words(
        "no INT8 quantization",
        "floating point",
        "floating point: no tensor gets a range or a scale",
        "that of the floating-point model in the precisions allowed",
    ),
    "placeholder-ranges": Words(
        "static symmetric post-training quantization in form, with invented ranges: good for timing, not for answers. "
        "Neither weight-only, nor activation-only, nor dynamic",
        _WEIGHTS,
        "per tensor, fixed at build time, whatever the data: every layer input that has no range yet gets ±2 "
        "(inputs of a Concat ±4), every layer output ±4 (outputs of a pooling layer ±2). Scale = 2/127 or 4/127; "
        "what lies outside is clipped.",
        "not to be trusted: the ranges know nothing of the model or of any data",
    ),
    "random-calibration": Words(
        "static symmetric post-training quantization, calibrated on one batch of random noise",
        _WEIGHTS,
        "per tensor, fixed at build time: TensorRT runs the network in FP32 on one batch of uniform noise in [-1, 1), "
        "made for each network input (not for weights), and picks each tensor's range by EntropyCalibration2.",
        "better than invented ranges, for each range fits the model's own response to noise; still not your data",
    ),
    "cached-scales": Words(
        "static symmetric post-training quantization with the scales of a calibration cache",
        _WEIGHTS,
        "per tensor, fixed at build time: scale read from the cache by tensor name, range = 127 * scale. Nothing is "
        "run or measured. A tensor that the cache does not name has no scale: the layers at it run in floating point.",
        "as good as the data that the cache was made from; trtexec does not check that it belongs to this model",
    ),
    "set aside": Words(
        "a calibration cache that TensorRT does not take from trtexec",
        _WEIGHTS,
        "none: no scale of the file is taken, and there are no data to find others with",
        "no engine comes out of this: the calibration reads from null pointers",
    ),
    "explicit-qdq": Words(
        "explicit quantization: the model's own QuantizeLinear and DequantizeLinear nodes say what is INT8",
        "quantized by the scales of the Q/DQ nodes at them, usually one per output channel; kept as INT8 in the engine",
        "per tensor, by the scale of the Q/DQ pair at each; a tensor without a pair stays in floating point",
        "that of the quantized model as its maker made it: it can be checked in ONNX Runtime before any build",
    ),
    "rejected": Words(
        "trtexec stops with an error before it builds anything",
        "nothing is built",
        "nothing is built",
        "nothing is built",
    ),
}

REMOVED = {
    "--int8": "put QuantizeLinear/DequantizeLinear nodes into the model; their scales replace the flag",
    "--best": "choose the types in the model: Q/DQ for INT8, casts to FP16 or BF16 for the rest (ModelOpt AutoCast)",
    "--fp16": "convert the model to FP16 before the build (ModelOpt AutoCast)",
    "--bf16": "convert the model to BF16 before the build (ModelOpt AutoCast)",
    "--fp8": "put FP8 Q/DQ nodes into the model",
    "--int4": "put INT4 DequantizeLinear nodes on the weights",
    "--calib": "write the cache's scales into Q/DQ nodes: trtlearn migrate",
    "--precisionConstraints": "types in the model are binding already: leave it out",
    "--layerPrecisions": "cast in the model: each layer runs in the type of its inputs",
    "--layerOutputTypes": "cast in the model after the layer",
}


MIGRATION = "https://docs.nvidia.com/deeplearning/tensorrt/11.0.0/api/migration/tensorrt-10x-to-11x-trtexec.html"


def why_removed(options: tuple[str, ...], command: str) -> tuple[str, ...]:
    """What to do instead of the options that 11.0 removed."""
    advice = [f"instead of {option}: {REMOVED[option]}" for option in options if option in REMOVED]
    if {"--int8", "--best", "--calib"} & set(options):
        given = dict(argument.partition("=")[::2] for argument in split_command(command))
        model, cache = given.get("--onnx") or "MODEL.onnx", given.get("--calib") or "FILE"
        written = f"{PurePath(model).stem}.qdq.onnx"
        line = shlex.join(["trtlearn", "migrate", command, model, "--cache", cache, "-o", written])
        advice.append(f"`{line}` writes the Q/DQ model with the cache's scales, and prints the new trtexec command")
        if cache == "FILE":
            advice.append("FILE is a calibration cache; no --calib is given, so the old ranges were invented ones")
    return (*advice, f"NVIDIA's own account of what went: {MIGRATION}")


def dtype_words(formats: str, direction: str, typed: bool, sets_fp32: bool, int8: bool) -> str:
    """What stands at the engine's inputs or outputs, from the value of --inputIOFormats or --outputIOFormats.

    ``sets_fp32``: this version's trtexec makes floating-point inputs FP32 itself (up to 10.0).
    """
    if formats and typed:
        if "int8" not in formats:
            return f"{formats}, as given by --{direction}IOFormats"
        caller = "the caller quantizes the data" if direction == "input" else "the caller gets integers"
        return f"{formats}: {caller}, with that tensor's scale"
    if direction == "output":
        text = "the model's own type, FP32 in most exported models"
        return text + ("; an INT8 result is dequantized inside the engine" if int8 else "")
    if typed and sets_fp32:
        text = (
            "FP32, linear layout (chw): no --inputIOFormats is given (FP16, integer and bool inputs stay what they are)"
        )
    else:
        text = "the model's own type, FP32 in most exported models"
    return text + ("; the engine quantizes it inside, where INT8 begins" if int8 else "")
