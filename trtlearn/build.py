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
from typing import Any

from .builderconfig import Shapes, check_options, configure, profile_of, target
from .cachefile import CalibrationCache, parse_cache
from .calibrator import Calibrator
from .errors import BuildError, CacheError
from .messages import decode, failing_layer, first_error, scales_from_log
from .network import Parsed, has_qdq, mark_outputs, network_inputs, parsed_network, set_batch, set_precisions
from .noise import random_calibrator
from .paths import write_atomic
from .ranges import calibrated_ranges, placeholder_ranges, set_ranges
from .records import BuildOptions, BuildReport, CalibrationTrace, RangeReport
from .runner import Runner
from .timingcache import attach, load, merge_into, taken
from .trt import available, capabilities, live, make_logger, module, trt

__all__ = ["BuiltEngine", "build_engine"]


@dataclass(frozen=True)
class BuiltEngine:
    """A built engine: the plan (what TensorRT calls the file) and everything known of how it came about."""

    plan: bytes = field(repr=False)
    report: BuildReport
    text: str | None = field(default=None, repr=False)  # the inspector's JSON; None where the plan cannot be loaded
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

        def phase_start(self, phase_name: str, parent_phase: str | None, num_steps: int) -> None: ...

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
            raise BuildError("placeholder ranges cannot be set: the model has Q/DQ layers", "use ranges='qdq'")
        range_report = placeholder_ranges(network)
    elif ranges is not None:
        range_report = set_ranges(network, ranges)
    inputs = {name: (tuple(shape), dtype) for name, (shape, dtype) in network_inputs(network).items()}
    if shapes is not None:
        usual = {name: tuple(triple[1]) for name, triple in shapes.items()} | dict(calibration_shapes or {})
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
                    raise BuildError(f"TensorRT refused the calibration shapes {dict(calibration_shapes)}")
        return _build(parsed, config, options, calibrator, range_report, timing_cache, compute_capability is None)


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
