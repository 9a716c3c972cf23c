"""The builds that the course compares, in the order of tables/variants.json."""

from __future__ import annotations

import os
from dataclasses import replace

from ..errors import CommandError
from ..files import load_table
from .records import BuildOptions

__all__ = [
    "ALGORITHMS",
    "HEADS",
    "LABELS",
    "TACTIC_SOURCES",
    "TRTEXEC_AVG_TIMING",
    "VARIANTS",
    "live_options",
    "variant_options",
]

ALGORITHMS = ("entropy2", "minmax", "entropy", "legacy")
"""TensorRT's four calibrators."""

TRTEXEC_AVG_TIMING = 8
"""Timings of a kernel that trtexec averages (v8.6.1:samples/common/sampleOptions.h:38); the
builder's own default is 1 (v8.6.1:include/NvInfer.h:9142).
"""

TACTIC_SOURCES = "TRTLEARN_TACTIC_SOURCES"
"""The environment variable that names the tactic sources of live builds: CUDNN,JIT_CONVOLUTIONS, or
none where the machine has neither cuBLAS nor cuDNN; unset: TensorRT's own choice.
"""

_ROWS = load_table("variants")
VARIANTS = {name: BuildOptions(**row["options"]) for name, row in _ROWS.items()}
"""Name -> how it is built. TF32 is off except in "tf32", so that FP32 means FP32."""
LABELS: dict[str, str] = {name: row["label"] for name, row in _ROWS.items()}
"""Name -> plain words."""
HEADS: dict[str, str] = {name: row["head"] for name, row in _ROWS.items()}
"""Name -> the head of its column in a picture."""


def variant_options(variant: str) -> BuildOptions:
    """The options of a variant by name.

    Raises CommandError that lists the names for one unknown.

    >>> variant_options("int8-placeholder").ranges
    'placeholder'
    """
    if variant not in VARIANTS:
        raise CommandError(f"no variant {variant!r}", f"one of {', '.join(VARIANTS)}")
    return VARIANTS[variant]


def live_options(options: BuildOptions) -> BuildOptions:
    """The same build on this machine: kernels are timed as trtexec times them, and are taken from
    what TACTIC_SOURCES names.
    """
    text = os.environ.get(TACTIC_SOURCES)
    words = [word.strip() for word in (text or "").split(",")]
    named = tuple(word for word in words if word not in ("", "none"))
    sources = named if text else options.tactic_sources
    return replace(options, avg_timing=TRTEXEC_AVG_TIMING, tactic_sources=sources)
