"""The builds that the course compares, in its order."""

from __future__ import annotations

from ..errors import CommandError
from .records import BuildOptions

__all__ = [
    "ALGORITHMS",
    "LABELS",
    "TRTEXEC_AVG_TIMING",
    "VARIANTS",
    "variant_options",
]

ALGORITHMS = ("entropy2", "minmax", "entropy", "legacy")
"""TensorRT's four calibrators."""

TRTEXEC_AVG_TIMING = 8
"""Timings of a kernel that trtexec averages (v8.6.1:samples/common/sampleOptions.h:38); the
builder's own default is 1 (v8.6.1:include/NvInfer.h:9142).
"""

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
