"""The builder's configuration: options checked against each other, flags set, profiles made, targets named."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from .calibrator import BASES
from .errors import BuildError
from .network import network_inputs
from .records import BuildOptions
from .trt import available, module, trt

if TYPE_CHECKING:
    from .calibrator import Calibrator

__all__ = ["Shapes", "check_options", "configure", "profile_of", "target"]

Shapes = Mapping[str, tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...]]]
"""Input -> (least, usual, greatest) shape."""


def check_options(options: BuildOptions, ranges: object, calibrator: Calibrator | None) -> None:
    """BuildError for options that contradict each other or what was given with them."""
    source = options.ranges
    known = ("none", "placeholder", "random", "cache", "user", "qdq", *BASES)
    if source not in known:
        raise BuildError(f"ranges={source!r} is unknown", f"one of {', '.join(known)}")
    if options.precision_constraints not in ("none", "prefer", "obey"):
        raise BuildError(f"precision_constraints={options.precision_constraints!r}", "one of none, prefer, obey")
    if (options.layer_precisions or options.layer_output_types) and options.precision_constraints == "none":
        raise BuildError(
            "layer precisions are ignored without precision constraints", "set precision_constraints to prefer or obey"
        )
    if source in BASES and calibrator is None:
        raise BuildError(f"ranges={source!r} needs a calibrator", f"give make_calibrator({source!r}, images)")
    if source in BASES and calibrator is not None and calibrator.algorithm != source:
        raise BuildError(f"ranges={source!r}, but the calibrator given is {calibrator.algorithm!r}", "make them alike")
    if source == "user" and ranges is None:
        raise BuildError("ranges='user' needs ranges", "give a dict of tensor name -> amax")
    if source == "cache" and ranges is None and calibrator is None:
        raise BuildError(
            "ranges='cache' needs a cache", "give ranges=read_cache(FILE), or a calibrator made with cache="
        )
    if (calibrator is not None or source not in ("none", "qdq")) and not options.int8:
        raise BuildError(f"ranges={source!r} without int8", "set int8=True, or ranges='none'")
    if ranges is not None and source not in ("user", "cache"):
        raise BuildError(f"ranges are given, but options.ranges is {source!r}", "set it to 'user' or 'cache'")


def configure(config: trt.IBuilderConfig, options: BuildOptions, workspace_bytes: int | None) -> None:
    """Set what the options ask for on the builder's configuration; BuildError for what this TensorRT lacks."""
    flags = trt.BuilderFlag.__members__
    wanted = {
        "INT8": options.int8,
        "FP16": options.fp16,
        "OBEY_PRECISION_CONSTRAINTS": options.precision_constraints == "obey",
        "PREFER_PRECISION_CONSTRAINTS": options.precision_constraints == "prefer",
        "TF32": options.tf32,
    }
    for name, on in wanted.items():
        if name in flags:
            (config.set_flag if on else config.clear_flag)(flags[name])
        elif on and options.ranges != "qdq":
            raise BuildError(
                f"this TensorRT ({available()}) has no builder flag {name}: from 11.0 the model's own types decide",
                "put Q/DQ layers into the model and build with ranges='qdq'",
            )
    config.profiling_verbosity = trt.ProfilingVerbosity.DETAILED
    if options.optimization_level is not None:
        if not hasattr(config, "builder_optimization_level"):
            raise BuildError("this TensorRT has no optimization levels", "use 8.6 or later, or leave it out")
        config.builder_optimization_level = options.optimization_level
    if options.avg_timing is not None and hasattr(config, "avg_timing_iterations"):  # TensorRT-RTX times nothing
        if options.avg_timing < 1:
            raise BuildError(f"avg_timing={options.avg_timing}", "average at least 1 timing")
        config.avg_timing_iterations = options.avg_timing
    if options.tactic_sources is not None:
        sources = trt.TacticSource.__members__
        mask = 0
        for name in options.tactic_sources:
            if name not in sources:
                raise BuildError(f"no tactic source {name!r}", f"any of {', '.join(sources)}, or none")
            mask |= 1 << int(sources[name])
        if not config.set_tactic_sources(mask):
            raise BuildError(f"TensorRT refused the tactic sources {options.tactic_sources}")
    if workspace_bytes is not None:
        config.set_memory_pool_limit(trt.MemoryPoolType.WORKSPACE, workspace_bytes)


def profile_of(builder: trt.Builder, network: trt.INetworkDefinition, shapes: Shapes) -> trt.IOptimizationProfile:
    """An optimization profile; BuildError for shapes that do not fit the network."""
    profile = builder.create_optimization_profile()
    inputs = network_inputs(network)
    for name, (least, usual, greatest) in shapes.items():
        if name not in inputs:
            raise BuildError(f"shapes are given for {name!r}", f"the network's inputs are {', '.join(inputs)}")
        try:
            profile.set_shape(name, *(trt.Dims(list(shape)) for shape in (least, usual, greatest)))
        except (ValueError, TypeError, RuntimeError):
            raise BuildError(
                f"the shapes {least}, {usual}, {greatest} do not fit input {name!r} of shape {inputs[name][0]}",
                "give (least, usual, greatest), each at least the one before",
            ) from None
    return profile


def target(config: Any, compute_capability: str) -> None:
    """Build for another GPU, such as "8.9" (TensorRT for RTX only); BuildError where that cannot be."""
    if not hasattr(config, "set_compute_capability"):
        raise BuildError("this TensorRT builds only for the GPU that is here", "leave compute_capability out")
    name = f"SM{compute_capability.replace('.', '')}"
    known = module().ComputeCapability.__members__
    if name not in known:
        raise BuildError(f"no compute capability {compute_capability!r}", f"one of {', '.join(known)}")
    config.num_compute_capabilities = 1
    config.set_compute_capability(known[name], 0)
