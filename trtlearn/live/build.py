"""ONNX to engine: one call that checks and sets the options, builds, keeps the whole log, and says
in plain words what happened.
"""

from __future__ import annotations

import contextlib
import os
import re
import signal
import threading
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from ..builds import BuiltEngine
from ..calibration.cache import CalibrationCache, parse_cache
from ..engine.log import decode, failing_layer, last_timed, scales_from_log
from ..engine.records import (
    TACTIC_SOURCES,
    BuildOptions,
    BuildReport,
    CalibrationTrace,
    RangeReport,
    variant_options,
)
from ..errors import BuildError, CacheError, ModelError
from ..files import locked, read_bytes, write_atomic
from ..model.read import read_model
from .calibrator import BASES, Calibrator, random_calibrator
from .network import (
    Parsed,
    calibrated_ranges,
    has_qdq,
    mark_outputs,
    network_inputs,
    parsed_network,
    placeholder_ranges,
    set_batch,
    set_precisions,
    set_ranges,
)
from .runner import Runner
from .trt import Log, available, capabilities, lacks, live, module, trt

__all__ = ["Shapes", "build_engine"]

Shapes = Mapping[str, tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...]]]
"""Input -> (least, usual, greatest) shape."""
TimingCache = bytes | str | os.PathLike[str] | None
"""How fast each kernel was: bytes to start from, or a file to start from and to add to."""
SOURCES = ("none", "placeholder", "random", "cache", "user", "qdq", *BASES)
"""Where INT8's ranges can come from."""


def build_engine(
    model: str | os.PathLike[str] | bytes,
    options: BuildOptions | str | None = None,
    *,
    ranges: Mapping[str, float] | CalibrationCache | None = None,
    calibrator: Calibrator | None = None,
    calib_path: str | os.PathLike[str] | None = None,
    timing_cache: TimingCache = None,
    shapes: Shapes | None = None,
    calibration_shapes: Mapping[str, tuple[int, ...]] | None = None,
    workspace_bytes: int | None = None,
    compute_capability: str | None = None,
) -> BuiltEngine:
    """Build an engine from an ONNX model.

    Args:
        model: the path of an ONNX file, or its bytes.
        options: how, or a variant's name such as "int8-placeholder"; ``options.ranges`` says where
            INT8's ranges come from (none: nowhere, so INT8 fails without Q/DQ). Where no options
            are given, ``ranges`` or a ``calibrator`` mean INT8.
        ranges: for "user" a dict tensor -> amax, for "cache" a CalibrationCache: set by hand.
        calibrator: for a calibrated build what make_calibrator gave; the caller closes it.
        calib_path: for "random" the file of ``trtexec --calib=FILE``, which need not exist.
        timing_cache: bytes to start from, or a file to start from and to add to.
        shapes: input -> (least, usual, greatest) for dynamic shapes; without it each dynamic batch
            becomes ``options.batch``.
        calibration_shapes: input -> the shape of its calibration batches, where not the usual one.
        workspace_bytes: the limit of scratch memory; TensorRT's default is all of the GPU's.
        compute_capability: build for a GPU that is not here ("8.9"), where this TensorRT can
            (TensorRT-RTX).

    Returns:
        a BuiltEngine: the plan, the report with TensorRT's log decoded, the inspector's text, each
        tensor's range, and the calibration call by call.

    Raises BuildError when TensorRT fails: which layer, what to try, with ``.messages`` and
    ``.log``; ModelError for a model that does not parse; DataError for calibration data that do not
    fit the model, before TensorRT starts, and what the data's generator raised; KeyboardInterrupt
    after Ctrl-C, once TensorRT returns (8.6 cannot be stopped: it ends the calibration and finishes
    the build); LiveUnavailable without a GPU.

    Example (with TensorRT and a GPU)::

        tl.build_engine("model.onnx", "int8-placeholder").report
        tl.build_engine("model.onnx", ranges=tl.read_cache("my.cache")).save("model.engine")
        with tl.make_calibrator("entropy2", images) as calibrator:
            built = tl.build_engine("model.onnx", calibrator=calibrator)

    Source: IBuilder::buildSerializedNetwork, v8.6.1:include/NvInfer.h; Ctrl-C was measured:
    data/recordings.
    """
    if options is None:
        options = _options_for(ranges, calibrator)
    elif isinstance(options, str):
        options = variant_options(options)
    module() if compute_capability else live()
    check_options(options, ranges, calibrator)
    if calibrator is not None and not calibration_shapes:
        _check_data(calibrator, model)
    with Log() as said, contextlib.ExitStack() as stack:
        parsed = parsed_network(model, said)
        network, builder = parsed.network, parsed.builder
        if shapes is None:
            set_batch(network, options.batch)
        mark_outputs(network, options.outputs_marked)
        set_precisions(network, options.layer_precisions, options.layer_output_types)
        config = builder.create_builder_config()
        configure(config, options, workspace_bytes)
        if compute_capability:
            set_target(config, compute_capability)
        if shapes is not None:
            config.add_optimization_profile(profile_of(builder, network, shapes))
        attach_timing_cache(config, timing_cache)
        range_report = _set_ranges(network, options, ranges)
        inputs = network_inputs(network)
        usual = {name: shape for name, (_least, shape, _greatest) in (shapes or {}).items()}
        usual |= (calibration_shapes or {}) if shapes is not None else {}
        inputs = {
            name: (tuple(usual.get(name, shape)), dtype) for name, (shape, dtype) in inputs.items()
        }
        if options.ranges == "random":
            calibrator = stack.enter_context(random_calibrator(inputs, calib_path))
        elif calibrator is not None:
            calibrator.bind(inputs)
        if calibrator is not None:
            config.int8_calibrator = calibrator.handle
            if calibration_shapes is not None:
                _set_calibration_shapes(parsed, config, calibration_shapes)
        plan, seconds = _run_builder(parsed, config, calibrator)
        log = said.text()
        if plan is None:
            raise _failure(log, options)
        if timing_cache is not None and not isinstance(timing_cache, bytes):
            merge_timing_cache(timing_cache, config)
        report = BuildReport(
            options=options,
            build_seconds=seconds,
            plan_bytes=len(plan),
            messages=decode(log),
            scales=scales_from_log(log),
            tensorrt=available(),
            log=log,
        )
        trace = None if calibrator is None else calibrator.trace()
        if trace is not None:
            range_report = calibrated_ranges(_cache_of(trace), report.scales, report.messages)
        text = None
        if not compute_capability:
            with Runner(plan) as runner:
                text = runner.inspect_text()
        return BuiltEngine(plan, report, text, range_report, trace, timing_cache_bytes(config))


def _options_for(ranges: object, calibrator: Calibrator | None) -> BuildOptions:
    """What a build is for that was given ranges, a calibrator, or neither."""
    if calibrator is not None:
        return BuildOptions(int8=True, ranges=calibrator.algorithm)
    if ranges is not None:
        is_cache = isinstance(ranges, CalibrationCache)
        return BuildOptions(int8=True, ranges="cache" if is_cache else "user")
    return BuildOptions()


def _check_data(calibrator: Calibrator, model: str | os.PathLike[str] | bytes) -> None:
    """DataError for calibration data that do not fit the model, before TensorRT takes its time.

    What onnx cannot read, or not without being installed, TensorRT's parser judges later.
    """
    try:
        values = read_model(model).inputs
    except (ImportError, ModelError):
        return
    inputs = {}
    for value in values:
        if value.shape is None:
            return
        shape = tuple(size if isinstance(size, int) else -1 for size in value.shape)
        dtype = value.dtype if value.dtype in ("fp32", "fp16", "int32") else "unknown"
        inputs[value.name] = (shape, dtype)  # TensorRT may take int64 as int32
    calibrator.bind(inputs)


def _set_ranges(
    network: trt.INetworkDefinition,
    options: BuildOptions,
    ranges: Mapping[str, float] | CalibrationCache | None,
) -> RangeReport | None:
    """Set the ranges that need no calibrator, where the options ask for such."""
    if options.ranges != "placeholder":
        return None if ranges is None else set_ranges(network, ranges)
    if has_qdq(network):
        problem = "placeholder ranges cannot be set: the model has Q/DQ layers"
        raise BuildError(problem, "use ranges='qdq'")
    return placeholder_ranges(network)


def _set_calibration_shapes(
    parsed: Parsed, config: trt.IBuilderConfig, shapes: Mapping[str, tuple[int, ...]]
) -> None:
    fixed = {name: (tuple(shape),) * 3 for name, shape in shapes.items()}
    if not config.set_calibration_profile(profile_of(parsed.builder, parsed.network, fixed)):
        raise BuildError(f"TensorRT refused the calibration shapes {dict(shapes)}")


def _run_builder(
    parsed: Parsed, config: trt.IBuilderConfig, calibrator: Calibrator | None
) -> tuple[bytes | None, float]:
    """The plan, None where TensorRT fails, and its seconds; the data's error is raised."""
    with _interrupts() as pressed:
        if calibrator is not None:
            calibrator.stopped = pressed.is_set
        if capabilities().progress_monitor:
            config.progress_monitor = _stopper(pressed)
        start = time.perf_counter()
        plan = parsed.builder.build_serialized_network(parsed.network, config)
        seconds = time.perf_counter() - start
    if calibrator is not None:
        calibrator.finish()
    return None if plan is None else bytes(plan), seconds


def _cache_of(trace: CalibrationTrace) -> CalibrationCache | None:
    """The trace's cache, read; None where there is none or it is not understood."""
    try:
        return parse_cache(trace.cache) if trace.cache else None
    except CacheError:
        return None


@contextlib.contextmanager
def _interrupts() -> Iterator[threading.Event]:
    """Ctrl-C while TensorRT works sets the event, and KeyboardInterrupt is raised at the end.

    Raised inside a callback it would be lost: TensorRT's bindings print a callback's exception and
    go on.
    """
    pressed = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield pressed
        return
    before = signal.signal(signal.SIGINT, lambda *_: pressed.set())
    try:
        yield pressed
    finally:
        signal.signal(signal.SIGINT, before)
    if pressed.is_set():
        raise KeyboardInterrupt


def _stopper(pressed: threading.Event) -> Any:
    """A progress monitor that ends the build once Ctrl-C was pressed (TensorRT 10 and later)."""

    class Monitor(trt.IProgressMonitor):  # type: ignore[misc, unused-ignore]  # no stubs
        def __init__(self) -> None:
            trt.IProgressMonitor.__init__(self)

        def phase_start(
            self, phase_name: str, parent_phase: str | None, num_steps: int
        ) -> None: ...

        def phase_finish(self, phase_name: str) -> None: ...

        def step_complete(self, phase_name: str, step: int) -> bool:
            return not pressed.is_set()

    return Monitor()


def _failure(log: str, options: BuildOptions) -> BuildError:
    """The error of a failed build: which layer, TensorRT's words, what was tried, what to try."""
    layer, messages = failing_layer(log), decode(log)
    errors = [message for message in messages if message.severity == "error"]
    known = next((message for message in errors if message.code), None)
    where = f" at layer {layer!r}" if layer else ""
    if timed := None if layer else last_timed(log):
        where = f" (it names no layer; it timed {timed!r} last)"
    plain = errors[0].text if errors else "TensorRT gave no reason"
    if known is not None:
        plain = f"{(known.plain or '').rstrip('.')} (TensorRT: {known.text})"
    fix = known.fix.rstrip(".") if known and known.fix else "build in FP32 first"
    if options.int8 and (layer or timed):
        node = re.split(r" \+ | \|\| ", layer or timed or "")[0]
        level = 1 if options.optimization_level != 1 else 3
        fix += f": --optimization-level {level}, or --layer-precision '{node}=fp32' "
        fix += "--constraints prefer"
    error = BuildError(f"the build failed{where}: {plain}; tried: {_tried(options)}", fix)
    error.layer, error.messages, error.log = layer, messages, log
    return error


def _tried(options: BuildOptions) -> str:
    """The options of a build in words: "INT8 with minmax ranges, batch 8, optimization level 3"."""
    types = [name.upper() for name in ("int8", "fp16", "tf32") if getattr(options, name)]
    level = options.optimization_level
    words = [" and ".join(types) or "FP32"]
    words[0] += f" with {options.ranges} ranges" if options.int8 else ""
    words += [f"batch {options.batch}"]
    words += ["the default optimization level" if level is None else f"optimization level {level}"]
    named = {**options.layer_precisions, **options.layer_output_types}
    words += [f"{node} in {dtype}" for node, dtype in named.items()]
    return ", ".join(words)


# The builder's configuration: options checked and set, profiles, the target, the timing cache


def check_options(options: BuildOptions, ranges: object, calibrator: Calibrator | None) -> None:
    """BuildError for options that contradict each other or what was given with them."""
    source, constraints = options.ranges, options.precision_constraints
    if source not in SOURCES:
        raise BuildError(f"ranges={source!r} is unknown", f"one of {', '.join(SOURCES)}")
    if constraints not in ("none", "prefer", "obey"):
        raise BuildError(f"precision_constraints={constraints!r}", "one of none, prefer, obey")
    if constraints == "none" and (options.layer_precisions or options.layer_output_types):
        problem = "layer precisions are ignored without precision constraints"
        raise BuildError(problem, "set precision_constraints to prefer or obey")
    if source in BASES and calibrator is None:
        fix = f"give make_calibrator({source!r}, images)"
        raise BuildError(f"ranges={source!r} needs a calibrator", fix)
    if source in BASES and calibrator is not None and calibrator.algorithm != source:
        problem = f"ranges={source!r}, but the calibrator given is {calibrator.algorithm!r}"
        raise BuildError(problem, "make them alike")
    if source == "user" and ranges is None:
        raise BuildError("ranges='user' needs ranges", "give a dict of tensor name -> amax")
    if source == "cache" and ranges is None and calibrator is None:
        fix = "give ranges=read_cache(FILE), or a calibrator made with cache="
        raise BuildError("ranges='cache' needs a cache", fix)
    if not options.int8 and (calibrator is not None or source not in ("none", "qdq")):
        raise BuildError(f"ranges={source!r} without int8", "set int8=True, or ranges='none'")
    if ranges is not None and source not in ("user", "cache"):
        problem = f"ranges are given, but options.ranges is {source!r}"
        raise BuildError(problem, "set it to 'user' or 'cache'")


def configure(
    config: trt.IBuilderConfig, options: BuildOptions, workspace_bytes: int | None
) -> None:
    """Set what the options ask for; BuildError for what this TensorRT lacks."""
    _set_flags(config, options)
    config.profiling_verbosity = trt.ProfilingVerbosity.DETAILED
    if options.optimization_level is not None:
        if not hasattr(config, "builder_optimization_level"):
            raise lacks("optimization levels", "use 8.6 or later, or leave it out")
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
            problem = f"shapes are given for {name!r}"
            raise BuildError(problem, f"the network's inputs are {', '.join(inputs)}")
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
        problem = "this TensorRT builds only for the GPU that is here"
        raise BuildError(problem, "leave compute_capability out")
    name = f"SM{compute_capability.replace('.', '')}"
    members = module().ComputeCapability.__members__
    if name not in members:
        problem = f"no compute capability {compute_capability!r}"
        raise BuildError(problem, f"one of {', '.join(members)}")
    config.num_compute_capabilities = 1
    config.set_compute_capability(members[name], 0)


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
