"""ONNX to engine: one call that builds, keeps the whole log, and says in plain words what happened."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..calibration.cache import CalibrationCache, parse_cache
from ..engine.log import decode, failing_layer, first_error, scales_from_log
from ..engine.records import BuildOptions, BuildReport, CalibrationTrace, RangeReport
from ..errors import BuildError, CacheError
from ..files import read_bytes, write_atomic
from .calibrator import BASES, Calibrator, random_calibrator
from .parser import (
    Parsed,
    has_qdq,
    mark_outputs,
    network_inputs,
    parsed_network,
    set_batch,
    set_precisions,
)
from .ranges import calibrated_ranges, placeholder_ranges, set_ranges
from .runner import Runner
from .trt import available, capabilities, live, make_logger, module, trt

if TYPE_CHECKING:
    from .calibrator import Calibrator

__all__ = [
    "BuiltEngine",
    "Shapes",
    "attach",
    "build_engine",
    "check_options",
    "configure",
    "load",
    "merge_into",
    "profile_of",
    "taken",
    "target",
]


# --- Timing caches: the builder's memory of how fast each kernel was, shared safely by several programs.


def load(source: bytes | str | os.PathLike[str] | None) -> bytes:
    """A timing cache's bytes: those given, a file's (none where it does not exist yet), or none."""
    if source is None or isinstance(source, bytes):
        return source or b""
    return read_bytes(source, BuildError) if Path(source).exists() else b""


def attach(config: trt.IBuilderConfig, content: bytes) -> None:
    """Give the builder's config a timing cache that starts from ``content`` (empty: from nothing).

    A cache of another GPU or TensorRT version is refused by TensorRT with a warning, and the build goes on.
    """
    cache: Any = config.create_timing_cache(content)  # None where TensorRT refuses it
    if cache is None or not config.set_timing_cache(cache, False):
        config.set_timing_cache(config.create_timing_cache(b""), False)


def taken(config: trt.IBuilderConfig) -> bytes | None:
    """The timing cache after a build, serialized; None where the builder keeps none."""
    cache = config.get_timing_cache()
    held = None if cache is None else cache.serialize()
    return None if held is None else bytes(held)


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Only one program at a time between here and the end (POSIX; elsewhere the last writer wins)."""
    try:
        import fcntl
    except ImportError:
        yield
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path.with_name(path.name + ".lock"), "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def merge_into(path: str | os.PathLike[str], config: trt.IBuilderConfig) -> None:
    """Add what this build learned to the file, keeping what other programs wrote there meanwhile."""
    target = Path(path)
    ours: Any = config.get_timing_cache()
    if ours is None:
        return
    try:
        with _locked(target):
            others: Any = (
                config.create_timing_cache(target.read_bytes()) if target.exists() else None
            )
            if others is not None:
                ours.combine(others, False)
            write_atomic(target, bytes(ours.serialize()))
    except OSError as problem:
        raise BuildError(
            f"cannot write the timing cache {target}: {problem.strerror}",
            "name a file in a folder you may write to",
        ) from None


# --- The builder's configuration: options checked against each other, flags set, profiles made, targets named.

Shapes = Mapping[str, tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...]]]
"""Input -> (least, usual, greatest) shape."""


def check_options(options: BuildOptions, ranges: object, calibrator: Calibrator | None) -> None:
    """BuildError for options that contradict each other or what was given with them."""
    source = options.ranges
    known = ("none", "placeholder", "random", "cache", "user", "qdq", *BASES)
    if source not in known:
        raise BuildError(f"ranges={source!r} is unknown", f"one of {', '.join(known)}")
    if options.precision_constraints not in ("none", "prefer", "obey"):
        raise BuildError(
            f"precision_constraints={options.precision_constraints!r}", "one of none, prefer, obey"
        )
    if (
        options.layer_precisions or options.layer_output_types
    ) and options.precision_constraints == "none":
        raise BuildError(
            "layer precisions are ignored without precision constraints",
            "set precision_constraints to prefer or obey",
        )
    if source in BASES and calibrator is None:
        raise BuildError(
            f"ranges={source!r} needs a calibrator", f"give make_calibrator({source!r}, images)"
        )
    if source in BASES and calibrator is not None and calibrator.algorithm != source:
        raise BuildError(
            f"ranges={source!r}, but the calibrator given is {calibrator.algorithm!r}",
            "make them alike",
        )
    if source == "user" and ranges is None:
        raise BuildError("ranges='user' needs ranges", "give a dict of tensor name -> amax")
    if source == "cache" and ranges is None and calibrator is None:
        raise BuildError(
            "ranges='cache' needs a cache",
            "give ranges=read_cache(FILE), or a calibrator made with cache=",
        )
    if (calibrator is not None or source not in ("none", "qdq")) and not options.int8:
        raise BuildError(f"ranges={source!r} without int8", "set int8=True, or ranges='none'")
    if ranges is not None and source not in ("user", "cache"):
        raise BuildError(
            f"ranges are given, but options.ranges is {source!r}", "set it to 'user' or 'cache'"
        )


def configure(
    config: trt.IBuilderConfig, options: BuildOptions, workspace_bytes: int | None
) -> None:
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
            raise BuildError(
                "this TensorRT has no optimization levels", "use 8.6 or later, or leave it out"
            )
        config.builder_optimization_level = options.optimization_level
    if options.avg_timing is not None and hasattr(
        config, "avg_timing_iterations"
    ):  # TensorRT-RTX times nothing
        if options.avg_timing < 1:
            raise BuildError(f"avg_timing={options.avg_timing}", "average at least 1 timing")
        config.avg_timing_iterations = options.avg_timing
    if options.tactic_sources is not None:
        sources = trt.TacticSource.__members__
        mask = 0
        for name in options.tactic_sources:
            if name not in sources:
                raise BuildError(
                    f"no tactic source {name!r}", f"any of {', '.join(sources)}, or none"
                )
            mask |= 1 << int(sources[name])
        if not config.set_tactic_sources(mask):
            raise BuildError(f"TensorRT refused the tactic sources {options.tactic_sources}")
    if workspace_bytes is not None:
        config.set_memory_pool_limit(trt.MemoryPoolType.WORKSPACE, workspace_bytes)


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
                f"the shapes {least}, {usual}, {greatest} do not fit input {name!r} of shape {inputs[name][0]}",
                "give (least, usual, greatest), each at least the one before",
            ) from None
    return profile


def target(config: Any, compute_capability: str) -> None:
    """Build for another GPU, such as "8.9" (TensorRT for RTX only); BuildError where that cannot be."""
    if not hasattr(config, "set_compute_capability"):
        raise BuildError(
            "this TensorRT builds only for the GPU that is here", "leave compute_capability out"
        )
    name = f"SM{compute_capability.replace('.', '')}"
    known = module().ComputeCapability.__members__
    if name not in known:
        raise BuildError(
            f"no compute capability {compute_capability!r}", f"one of {', '.join(known)}"
        )
    config.num_compute_capabilities = 1
    config.set_compute_capability(known[name], 0)


# --- ONNX to engine: one call that builds, keeps the whole log, and says in plain words what happened.


@dataclass(frozen=True)
class BuiltEngine:
    """A built engine: the plan (what TensorRT calls the file) and everything known of how it came about."""

    plan: bytes = field(repr=False)
    report: BuildReport
    text: str | None = field(
        default=None, repr=False
    )  # the inspector's JSON; None where the plan cannot be loaded
    ranges: RangeReport | None = None
    calibration: CalibrationTrace | None = None
    timing_cache: bytes | None = field(default=None, repr=False)

    def save(self, path: str | os.PathLike[str]) -> Path:
        """Write the plan to a file, whole or not at all."""
        return write_atomic(path, self.plan)


@contextlib.contextmanager
def _interrupts() -> Iterator[threading.Event]:
    """Ctrl-C while TensorRT works sets the event, and KeyboardInterrupt is raised at the end.

    Raised inside a callback it would be lost: TensorRT's bindings print a callback's exception and go on.
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

    class Monitor(trt.IProgressMonitor):  # type: ignore[misc, unused-ignore]  # Any without tensorrt-stubs
        def __init__(self) -> None:
            trt.IProgressMonitor.__init__(self)

        def phase_start(
            self, phase_name: str, parent_phase: str | None, num_steps: int
        ) -> None: ...

        def phase_finish(self, phase_name: str) -> None: ...

        def step_complete(self, phase_name: str, step: int) -> bool:
            return not pressed.is_set()

    return Monitor()


def _failed(log: str, options: BuildOptions) -> BuildError:
    layer, messages = failing_layer(log), decode(log)
    known = next((m for m in messages if m.severity == "error" and m.code), None)
    said = known.text if known else first_error(log) or "TensorRT gave no reason"
    where = f" at layer {layer!r}" if layer else ""
    plain = f"{known.plain} (TensorRT: {said})" if known else said
    fix = (known.fix if known else None) or "read the error's .log, and build in FP32 first"
    error = BuildError(f"the build failed{where}: {plain}", fix)
    error.layer, error.messages, error.log = layer, messages, log
    return error


def build_engine(
    model: str | os.PathLike[str] | bytes,
    options: BuildOptions | None = None,
    *,
    ranges: Mapping[str, float] | CalibrationCache | None = None,
    calibrator: Calibrator | None = None,
    calib_path: str | os.PathLike[str] | None = None,
    timing_cache: bytes | str | os.PathLike[str] | None = None,
    shapes: Shapes | None = None,
    calibration_shapes: Mapping[str, tuple[int, ...]] | None = None,
    workspace_bytes: int | None = None,
    compute_capability: str | None = None,
) -> BuiltEngine:
    """Build an engine from an ONNX model.

    Args:
        model: the path of an ONNX file, or its bytes.
        options: how; ``options.ranges`` says where INT8's ranges come from (none: nowhere, so INT8 fails without Q/DQ).
        ranges: for "user" a dict tensor -> amax, for "cache" a CalibrationCache: set by hand, no calibrator.
        calibrator: for a calibrated build what make_calibrator gave; the caller closes it.
        calib_path: for "random" the file of ``trtexec --calib=FILE``, which need not exist.
        timing_cache: bytes to start from, or a file to start from and to add to.
        shapes: input -> (least, usual, greatest) for dynamic shapes; without it each dynamic batch becomes
            ``options.batch``.
        calibration_shapes: input -> the shape of its calibration batches, where not the usual one.
        workspace_bytes: the limit of scratch memory; TensorRT's default is all of the GPU's.
        compute_capability: build for a GPU that is not here ("8.9"), where this TensorRT can (TensorRT-RTX).

    Raises BuildError when TensorRT fails: which layer, what to try, with ``.messages`` and ``.log``; ModelError for a
    model that does not parse; what the calibration data raised; KeyboardInterrupt after Ctrl-C, once TensorRT
    returns (8.6 cannot be stopped: it ends the calibration and finishes the build); LiveUnavailable without a GPU.

    Example (with TensorRT and a GPU)::

        built = build_engine("model.onnx", BuildOptions(int8=True, ranges="placeholder"))
        print(built.report)
    """
    options = options or BuildOptions()
    module() if compute_capability else live()
    check_options(options, ranges, calibrator)
    log = make_logger()
    parsed = parsed_network(model, logger=log)
    network, builder = parsed.network, parsed.builder
    if shapes is None:
        set_batch(network, options.batch)
    mark_outputs(network, options.outputs_marked)
    set_precisions(network, options.layer_precisions, options.layer_output_types)
    config = builder.create_builder_config()
    configure(config, options, workspace_bytes)
    if compute_capability:
        target(config, compute_capability)
    if shapes is not None:
        config.add_optimization_profile(profile_of(builder, network, shapes))
    attach(config, load(timing_cache))
    range_report = None
    if options.ranges == "placeholder":
        if has_qdq(network):
            raise BuildError(
                "placeholder ranges cannot be set: the model has Q/DQ layers", "use ranges='qdq'"
            )
        range_report = placeholder_ranges(network)
    elif ranges is not None:
        range_report = set_ranges(network, ranges)
    inputs = {
        name: (tuple(shape), dtype) for name, (shape, dtype) in network_inputs(network).items()
    }
    if shapes is not None:
        usual = {name: tuple(triple[1]) for name, triple in shapes.items()} | dict(
            calibration_shapes or {}
        )
        inputs = {name: (usual.get(name, shape), dtype) for name, (shape, dtype) in inputs.items()}
    own = random_calibrator(inputs, calib_path) if options.ranges == "random" else None
    calibrator = calibrator or own
    with contextlib.ExitStack() as stack:
        if own is not None:
            stack.enter_context(own)
        elif calibrator is not None:
            calibrator.bind(inputs)
        if calibrator is not None:
            config.int8_calibrator = calibrator.handle
            if calibration_shapes is not None:
                same = {name: (tuple(shape),) * 3 for name, shape in calibration_shapes.items()}
                profile = profile_of(builder, network, same)
                if not config.set_calibration_profile(profile):
                    raise BuildError(
                        f"TensorRT refused the calibration shapes {dict(calibration_shapes)}"
                    )
        return _build(
            parsed,
            config,
            options,
            calibrator,
            range_report,
            timing_cache,
            compute_capability is None,
        )


def _cache(trace: CalibrationTrace) -> CalibrationCache | None:
    """The trace's cache, read; None where there is none or TensorRT took what trtlearn does not understand."""
    try:
        return parse_cache(trace.cache) if trace.cache else None
    except CacheError:
        return None


def _build(
    parsed: Parsed,
    config: trt.IBuilderConfig,
    options: BuildOptions,
    calibrator: Calibrator | None,
    ranges: RangeReport | None,
    timing_cache: object,
    here: bool,
) -> BuiltEngine:
    """The build itself, and the reading of what it left behind."""
    log = parsed.logger
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
    text = log.text()
    log.lines.clear()  # the logger outlives the build, its messages need not
    if plan is None:
        raise _failed(text, options)
    content = bytes(plan)
    if timing_cache is not None and not isinstance(timing_cache, bytes):
        merge_into(str(timing_cache), config)
    report = BuildReport(
        options=options,
        build_seconds=seconds,
        plan_bytes=len(content),
        messages=decode(text),
        scales=scales_from_log(text),
        tensorrt=available(),
        log=text,
    )
    inspected = None
    if here:
        with Runner(content) as runner:
            inspected = runner.inspect_text()
    trace = calibrator.trace() if calibrator is not None else None
    if trace is not None:
        ranges = calibrated_ranges(_cache(trace), report.scales, report.messages)
    return BuiltEngine(content, report, inspected, ranges, trace, taken(config))
