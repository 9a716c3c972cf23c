"""The builds that the course compares, in its order, and the trtexec command line that each stands for."""

from __future__ import annotations

from ..errors import CommandError
from .records import BuildOptions

__all__ = [
    "ALGORITHMS",
    "LABELS",
    "TRTEXEC_AVG_TIMING",
    "VARIANTS",
    "trtexec_command",
    "variant_options",
]

ALGORITHMS = ("entropy2", "minmax", "entropy", "legacy")
"""TensorRT's four calibrators."""

TRTEXEC_AVG_TIMING = 8
"""Timings of a kernel that trtexec averages (v8.6.1:samples/common/sampleOptions.h:38); the builder's own default is 1
(v8.6.1:include/NvInfer.h:9142)."""

VARIANTS: dict[str, BuildOptions] = {
    "fp32": BuildOptions(),
    "tf32": BuildOptions(tf32=True),
    "fp16": BuildOptions(fp16=True),
    "int8-placeholder": BuildOptions(int8=True, ranges="placeholder"),
    "int8-random": BuildOptions(int8=True, ranges="random"),
    "int8-entropy2": BuildOptions(int8=True, ranges="entropy2"),
    "int8-minmax": BuildOptions(int8=True, ranges="minmax"),
    "int8-entropy": BuildOptions(int8=True, ranges="entropy"),
    "int8-legacy": BuildOptions(int8=True, ranges="legacy"),
    "int8-fp16": BuildOptions(int8=True, fp16=True, ranges="entropy2"),
}
"""Name -> how it is built. TF32 is off except in "tf32", so that FP32 means FP32."""

LABELS: dict[str, str] = {
    "fp32": "FP32",
    "tf32": "TF32",
    "fp16": "FP16",
    "int8-placeholder": "bare --int8: placeholder ranges",
    "int8-random": "--int8 --calib=<missing file>: random noise",
    "int8-entropy2": "INT8, entropy calibration 2",
    "int8-minmax": "INT8, min-max calibration",
    "int8-entropy": "INT8, entropy calibration",
    "int8-legacy": "INT8, legacy calibration",
    "int8-fp16": "INT8 and FP16, entropy calibration 2",
}
"""Name -> plain words."""


def variant_options(variant: str) -> BuildOptions:
    """The options of a variant by name.

    Raises CommandError that lists the names for one unknown.

    >>> variant_options("int8-placeholder").ranges
    'placeholder'
    """
    if variant not in VARIANTS:
        raise CommandError(f"no variant {variant!r}", f"one of {', '.join(VARIANTS)}")
    return VARIANTS[variant]


def trtexec_command(variant: str, model: str) -> str:
    """The trtexec command line (TensorRT 8.4 to 10.x) that asks for what the variant builds.

    A calibrated variant names the calibration cache that the course recorded: trtexec itself cannot calibrate
    with images (v8.6.1:samples/common/sampleEngines.cpp:362-457). Its calibrator is an EntropyCalibration2, so the
    caches of min-max, entropy and legacy need that header before it takes them (``trtlearn cache edit --header``).

    >>> trtexec_command("int8-placeholder", "resnet")
    'trtexec --onnx=resnet.onnx --shapes=image:8x1x28x28 --noTF32 --int8'
    """
    options = variant_options(variant)
    words = ["trtexec", f"--onnx={model}.onnx", f"--shapes=image:{options.batch}x1x28x28"]
    words += [] if options.tf32 else ["--noTF32"]
    if options.int8 and options.fp16:
        words.append("--best")
    elif options.int8:
        words.append("--int8")
    elif options.fp16:
        words.append("--fp16")
    if options.ranges == "random":
        words.append("--calib=missing.cache")
    elif options.ranges in ALGORITHMS:
        words.append(f"--calib={variant}.cache")
    return " ".join(words)
