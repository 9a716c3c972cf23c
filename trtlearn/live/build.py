"""ONNX to engine: one call that builds, keeps the whole log, and says in plain words what happened.

The options are set in trtlearn.live.configuration; here they become one build.
"""

from __future__ import annotations

import contextlib
import os
import re
import signal
import threading
import time
from collections.abc import Iterator, Mapping
from typing import Any

from ..builds import BuiltEngine
from ..calibration.cache import CalibrationCache, parse_cache
from ..engine.log import decode, failing_layer, last_timed, scales_from_log
from ..engine.records import BuildOptions, BuildReport, CalibrationTrace, RangeReport
from ..engine.variants import variant_options
from ..errors import BuildError, CacheError, ModelError
from ..model.read import read_model
from .calibrator import Calibrator, random_calibrator
from .configuration import (
    Shapes,
    TimingCache,
    attach_timing_cache,
    check_options,
    configure,
    merge_timing_cache,
    profile_of,
    set_target,
    timing_cache_bytes,
)
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
from .trt import Log, available, capabilities, live, module, trt

__all__ = ["build_engine"]


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
    calibrator.check(inputs)


def _set_ranges(
    network: trt.INetworkDefinition,
    options: BuildOptions,
    ranges: Mapping[str, float] | CalibrationCache | None,
) -> RangeReport | None:
    """Set the ranges that need no calibrator, where the options ask for such."""
    if options.ranges != "placeholder":
        return None if ranges is None else set_ranges(network, ranges)
    if has_qdq(network):
        raise BuildError(
            "placeholder ranges cannot be set: the model has Q/DQ layers", "use ranges='qdq'"
        )
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
