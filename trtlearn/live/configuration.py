"""The builder's configuration: options checked and set, profiles, the target, the timing cache."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..engine.records import BuildOptions
from ..engine.variants import TACTIC_SOURCES
from ..errors import BuildError
from ..files import locked, read_bytes, write_atomic
from .calibrator import BASES, Calibrator
from .parser import network_inputs
from .trt import available, module, trt

__all__ = [
    "Shapes",
    "TimingCache",
    "attach_timing_cache",
    "check_options",
    "configure",
    "merge_timing_cache",
    "profile_of",
    "set_target",
    "timing_cache_bytes",
]

Shapes = Mapping[str, tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...]]]
"""Input -> (least, usual, greatest) shape."""
TimingCache = bytes | str | os.PathLike[str] | None
"""How fast each kernel was: bytes to start from, or a file to start from and to add to."""
SOURCES = ("none", "placeholder", "random", "cache", "user", "qdq", *BASES)
"""Where INT8's ranges can come from."""


def check_options(options: BuildOptions, ranges: object, calibrator: Calibrator | None) -> None:
    """BuildError for options that contradict each other or what was given with them."""
    source, constraints = options.ranges, options.precision_constraints
    asks_layers = options.layer_precisions or options.layer_output_types
    algorithm = None if calibrator is None else calibrator.algorithm
    problem = fix = ""
    if source not in SOURCES:
        problem, fix = f"ranges={source!r} is unknown", f"one of {', '.join(SOURCES)}"
    elif constraints not in ("none", "prefer", "obey"):
        problem, fix = f"precision_constraints={constraints!r}", "one of none, prefer, obey"
    elif asks_layers and constraints == "none":
        problem = "layer precisions are ignored without precision constraints"
        fix = "set precision_constraints to prefer or obey"
    elif source in BASES and algorithm is None:
        problem = f"ranges={source!r} needs a calibrator"
        fix = f"give make_calibrator({source!r}, images)"
    elif source in BASES and algorithm != source:
        problem = f"ranges={source!r}, but the calibrator given is {algorithm!r}"
        fix = "make them alike"
    elif source == "user" and ranges is None:
        problem, fix = "ranges='user' needs ranges", "give a dict of tensor name -> amax"
    elif source == "cache" and ranges is None and calibrator is None:
        problem = "ranges='cache' needs a cache"
        fix = "give ranges=read_cache(FILE), or a calibrator made with cache="
    elif not options.int8 and (calibrator is not None or source not in ("none", "qdq")):
        problem, fix = f"ranges={source!r} without int8", "set int8=True, or ranges='none'"
    elif ranges is not None and source not in ("user", "cache"):
        problem = f"ranges are given, but options.ranges is {source!r}"
        fix = "set it to 'user' or 'cache'"
    if problem:
        raise BuildError(problem, fix)


def configure(
    config: trt.IBuilderConfig, options: BuildOptions, workspace_bytes: int | None
) -> None:
    """Set what the options ask for; BuildError for what this TensorRT lacks."""
    _set_flags(config, options)
    config.profiling_verbosity = trt.ProfilingVerbosity.DETAILED
    if options.optimization_level is not None:
        if not hasattr(config, "builder_optimization_level"):
            raise BuildError(
                "this TensorRT has no optimization levels", "use 8.6 or later, or leave it out"
            )
        config.builder_optimization_level = options.optimization_level
    times_kernels = hasattr(config, "avg_timing_iterations")  # TensorRT-RTX times nothing
    if options.avg_timing is not None and times_kernels:
        if options.avg_timing < 1:
            raise BuildError(f"avg_timing={options.avg_timing}", "average at least 1 timing")
        config.avg_timing_iterations = options.avg_timing
    if options.tactic_sources is not None:
        _set_tactic_sources(config, options.tactic_sources)
    if workspace_bytes is not None:
        config.set_memory_pool_limit(trt.MemoryPoolType.WORKSPACE, workspace_bytes)


def _set_flags(config: trt.IBuilderConfig, options: BuildOptions) -> None:
    """Set or clear each builder flag that an option stands for."""
    members = trt.BuilderFlag.__members__
    flags = {
        "INT8": options.int8,
        "FP16": options.fp16,
        "OBEY_PRECISION_CONSTRAINTS": options.precision_constraints == "obey",
        "PREFER_PRECISION_CONSTRAINTS": options.precision_constraints == "prefer",
        "TF32": options.tf32,
    }
    for name, is_on in flags.items():
        if name not in members:
            if is_on and options.ranges != "qdq":
                raise BuildError(
                    f"this TensorRT ({available()}) has no builder flag {name}: "
                    "from 11.0 the model's own types decide",
                    "put Q/DQ layers into the model and build with ranges='qdq'",
                )
        elif is_on:
            config.set_flag(members[name])
        else:
            config.clear_flag(members[name])


def _set_tactic_sources(config: trt.IBuilderConfig, names: tuple[str, ...]) -> None:
    members = trt.TacticSource.__members__
    mask = 0
    for name in names:
        if name not in members:
            known = f"any of {', '.join(members)}, or none, in {TACTIC_SOURCES} or --tactic-source"
            raise BuildError(f"no tactic source {name!r}", known)
        mask |= 1 << int(members[name])
    if not config.set_tactic_sources(mask):
        raise BuildError(f"TensorRT refused the tactic sources {names}")


def profile_of(
    builder: trt.Builder, network: trt.INetworkDefinition, shapes: Shapes
) -> trt.IOptimizationProfile:
    """An optimization profile; BuildError for shapes that do not fit the network."""
    profile = builder.create_optimization_profile()
    inputs = network_inputs(network)
    for name, (least, usual, greatest) in shapes.items():
        if name not in inputs:
            raise BuildError(
                f"shapes are given for {name!r}", f"the network's inputs are {', '.join(inputs)}"
            )
        try:
            profile.set_shape(name, *(trt.Dims(list(shape)) for shape in (least, usual, greatest)))
        except (ValueError, TypeError, RuntimeError):
            raise BuildError(
                f"the shapes {least}, {usual}, {greatest} do not fit input {name!r} "
                f"of shape {inputs[name][0]}",
                "give (least, usual, greatest), each at least the one before",
            ) from None
    return profile


def set_target(config: Any, compute_capability: str) -> None:
    """Build for another GPU, such as "8.9": TensorRT for RTX only, otherwise BuildError."""
    if not hasattr(config, "set_compute_capability"):
        raise BuildError(
            "this TensorRT builds only for the GPU that is here", "leave compute_capability out"
        )
    name = f"SM{compute_capability.replace('.', '')}"
    members = module().ComputeCapability.__members__
    if name not in members:
        raise BuildError(
            f"no compute capability {compute_capability!r}", f"one of {', '.join(members)}"
        )
    config.num_compute_capabilities = 1
    config.set_compute_capability(members[name], 0)


# The timing cache: the builder's memory of how fast each kernel was, shared by several programs


def attach_timing_cache(config: trt.IBuilderConfig, source: TimingCache) -> None:
    """Start from a timing cache: bytes, a file's (none where it does not exist yet), or nothing.

    TensorRT refuses a cache of another GPU or version with a warning, and the build starts from
    nothing.
    """
    content = source if isinstance(source, bytes) else b""
    if source is not None and not isinstance(source, bytes) and Path(source).exists():
        content = read_bytes(source, BuildError)
    cache: Any = config.create_timing_cache(content)  # None where TensorRT refuses it
    if cache is None or not config.set_timing_cache(cache, False):
        config.set_timing_cache(config.create_timing_cache(b""), False)


def timing_cache_bytes(config: trt.IBuilderConfig) -> bytes | None:
    """The timing cache after a build, serialized; None where the builder keeps none."""
    cache: Any = config.get_timing_cache()
    content = None if cache is None else cache.serialize()
    return None if content is None else bytes(content)


def merge_timing_cache(path: str | os.PathLike[str], config: trt.IBuilderConfig) -> None:
    """Add what this build learned to the file, beside what other programs wrote meanwhile."""
    target = Path(path)
    ours: Any = config.get_timing_cache()
    if ours is None:
        return
    with locked(target):
        content = read_bytes(target, BuildError) if target.exists() else None
        theirs: Any = None if content is None else config.create_timing_cache(content)
        if theirs is not None:
            ours.combine(theirs, False)
        write_atomic(target, bytes(ours.serialize()))
