"""TensorRT's log in plain words: each message that was met, decoded; none that is unknown
swallowed.
"""

from __future__ import annotations

import time

import pytest

from trtlearn.engine.log import (
    decode,
    failing_layer,
    last_timed,
    layers_in_text,
    message_kinds,
    read_log,
    scales_from_log,
    split_line,
)

MET = {
    "missing-scale": "[W] Missing scale and zero-point for tensor b0_add: x, expect fall back to non-int8 "
    "implementation for any layer consuming or producing given tensor",
    "explicit-precision": "[W] Calibrator won't be used in explicit precision mode. Use quantization aware training to "
    "generate network with Quantize/Dequantize nodes.",
    "no-scales": "[E] 4: [standardEngineBuilder.cpp::initCalibrationParams::1460] Error Code 4: Internal Error "
    "(Calibration failure occurred with no scaling factors detected. This could be due to no int8 calibrator or "
    "insufficient custom scales for network layers. Please see int8 sample to setup calibration correctly.)",
    "no-implementation": "[E] 10: Could not find any implementation for node conv12 + PWN(PWN(sigmoid13), mul14).",
    "ranges-by-hand": "[W] Calibrator is not being used. Users must provide dynamic range for all tensors that are "
    "not Int32 or Bool.",
    "cached-calibration": "[I] Generated calibration scales using calibration cache. Make sure that calibration cache "
    "has latest scales.",
    "no-calibration-profile": "[W] Calibration Profile is not defined. Calibrating with Profile 0",
    "int64-weights": "[W] onnx2trt_utils.cpp:374: Your ONNX model has been generated with INT64 weights, while "
    "TensorRT does not natively support INT64. Attempting to cast down to INT32.",
    "weights-clamped": "[W] One or more weights outside the range of INT32 was clamped",
    "linked-against": "[W] TensorRT was linked against cuDNN 8.8.0 but loaded cuDNN 8.6.0",
    "lazy-loading": "[W] CUDA lazy loading is not enabled. Enabling it can significantly reduce device memory usage.",
    "subnormal-fp16": "[W]  - 3 weights are affected by this issue: Detected subnormal FP16 values.",
    "no-native-int8": "[W] Int8 support requested on hardware without native Int8 support, performance will be "
    "negatively affected.",
    "timing-cache-mismatch": "[W] Detected invalid timing cache, setup a local cache instead",
    "plan-version": "[E] 6: The engine plan file is not compatible with this version of TensorRT, expecting library "
    "version 8.6.0.12 got 8.5.3.1, please rebuild.",
    "weakly-typed": "[W] Weakly typed networks are deprecated and will be removed",
    "workspace": "[I] Some tactics do not have sufficient workspace memory to run. Increasing workspace size will "
    "enable more tactics, please check verbose output for requested sizes.",
}


@pytest.mark.parametrize("code", list(MET))
def test_each_is_decoded(code: str) -> None:
    found = {message.code: message for message in decode(MET[code])}
    assert code in found
    assert found[code].plain
    assert found[code].fix
    assert found[code].text in MET[code]


def test_a_bad_line_of_a_cache_is_quoted_without_its_quotes() -> None:
    start = "[W] Could not parse the following line from the calibration cache: "
    (found,) = decode([start + '"b"', start + '""', start + '"half a line', start + '"a "b" c"'])
    assert (found.code, found.count) == ("cache-bad-line", 4)
    assert found.names == ("b", "half a line", 'a "b" c')  # a blank line has no name


def test_the_table_is_sound() -> None:
    codes = [kind.code for kind in message_kinds()]
    assert len(codes) == len(set(codes))
    assert all(kind.plain.endswith(".") and kind.fix.endswith(".") for kind in message_kinds())


def test_alike_messages_are_counted_and_their_names_kept() -> None:
    lines = [MET["missing-scale"].replace("b0_add: x", name) for name in ("a", "b c", "a")]
    (message,) = decode(lines)
    assert (message.count, message.names) == (3, ("a", "b c"))


def test_unknown_warnings_are_kept_and_verbose_noise_is_not() -> None:
    messages = decode(
        "[V] Tactic: 0x1 Time: 0.01\n[I] Hello\n[W] Never seen before\n[E] Nor this\n[W] \n"
    )
    assert [(m.severity, m.text, m.code, m.plain) for m in messages] == [
        ("error", "Nor this", "", None),
        ("warning", "Never seen before", "", None),
    ]


def test_trtexecs_own_lines_are_understood() -> None:
    assert split_line("[11/23/2026-10:00:00] [E] [TRT] boo") == ("error", "boo")
    assert split_line("no prefix") == ("verbose", "no prefix")
    assert (
        decode("[11/23/2026-10:00:00] [W] [TRT] CUDA lazy loading is not enabled.")[0].code
        == "lazy-loading"
    )


@pytest.mark.parametrize(
    ("line", "layer"),
    [
        (MET["no-implementation"], "conv12 + PWN(PWN(sigmoid13), mul14)"),
        (
            "[E] 10: [o.cpp::c::3869] Error Code 10: Internal Error (Could not find any implementation for node a(b).)",
            "a(b)",
        ),
        (
            "[E] 10: [o] Error Code 10: Internal Error (Could not find any implementation for node "
            "{ForeignNode[a.b...c.d]} due to insufficient workspace. See verbose log for requested sizes.)",
            "{ForeignNode[a.b...c.d]}",
        ),
        (
            "[E] 4: [graph.cpp::x::1] Error Code 4: API Usage Error (b0_add: dimensions not compatible)",
            "b0_add",
        ),
        (MET["no-scales"], None),
        ("[W] Could not find any implementation for node x.", None),
    ],
)
def test_the_failing_layer(line: str, layer: str | None) -> None:
    assert failing_layer(f"[V] before\n{line}\n[V] after") == layer


def test_first_error() -> None:
    first = decode("[W] a\n[E] b\n[E] c")[0]
    assert (first.severity, first.text) == ("error", "b")
    assert [message.severity for message in decode("[W] a")] == ["warning"]


def test_scales_with_hard_names_and_several_values() -> None:
    words = (
        "INT8 Inference Tensor scales and zero-points: {} scale and zero-point "
        "Quantization(scale: {{{}}}, zero-point: {{{}}})"
    )
    log = "\n".join(
        "[V] " + words.format(*parts)
        for parts in (
            ("(Unnamed Layer* 21) [Matrix Multiply]_output", "0.0366892,", "0,"),
            ("a: b scale", "1e-05,", "0,"),
            ("per channel", "0.1,0.2,", "0,0,"),
            ("shifted", "0.5,", "3,"),
            ("a: b scale", "2,", "0,"),
        )
    )
    found = {entry.name: entry for entry in scales_from_log(log)}
    assert found["(Unnamed Layer* 21) [Matrix Multiply]_output"].scale == 0.0366892
    assert found["a: b scale"].scale == 1e-05  # the first of two
    assert found["per channel"].scale is None
    assert found["per channel"].note == "2 scales"
    assert found["shifted"].note == "zero point 3"
    assert found["shifted"].amax == 63.5


WORDS = "Missing scale and zero-point for tensor a:0 b, expect fall back to non-int8 implementation"
PREFIXES = (
    "[08/12/2024-10:00:00] [W] [TRT] ",
    "[02/12/2024-00:29:48] [TRT] [W] ",
    "[TensorRT] WARNING: ",
    "[TRT] [WARNING] ",
    "WARNING: [TRT]: ",
    "[W] ",
    "[W]     ",
    "[WARNING] ",
    "[2022-11-08 06:01:58 WARNING] ",
    "2024-01-01 10:00:00.123456789 [W:onnxruntime:Default, tensorrt_execution_provider.h:84 log] "
    "[2024-01-01 10:00:00 WARNING] ",
    "WARNING: [Torch-TensorRT TorchScript Conversion Context] - ",
    "WARNING:torch_tensorrt [TensorRT Conversion Context]:",
    "[2023-01-01 10:00:00.123] [mmdeploy] [warning] [trt_net.cpp:24] TRTNet: ",
    "W0101 10:00:00.123456 1 logging.cc:46] ",
    "\x1b[33m[08/12/2024-10:00:00] [W] [TRT] \x1b[0m",
    "web-1  | [08/12/2024-10:00:00] [W] [TRT] ",
    "[component_container_mt-1] WARNING: [TRT]: ",
    "0:00:04.123456789  1234 0x55d0 WARN   nvinfer gstnvinfer.cpp:643:gst_nvinfer_logger:"
    "<primary_gie> NvDsInferContext[UID 1]: Warning from NvDsInferContextImpl::buildModel() "
    "<nvdsinfer_context_impl.cpp:1161> [UID = 1]: ",
    "2024-05-01 10:00:00,123 - WARNING - ",
    "2024-05-01T10:00:00.123Z WARNING [TRT]: ",
    "WARNING:root:[TRT] ",
    "[01/01/2024-10:00:00] [TRT-LLM] [W] ",
)


@pytest.mark.parametrize("prefix", PREFIXES)
def test_the_prefixes_of_host_programs(prefix: str) -> None:
    severity, text = split_line(prefix + WORDS)
    assert (severity, text.strip()) == ("warning", WORDS)
    (message,) = decode(prefix + WORDS)
    assert (message.code, message.names) == ("missing-scale", ("a:0 b",))


def test_a_message_pasted_alone_is_decoded() -> None:
    (message,) = decode(WORDS)
    assert (message.severity, message.code) == ("warning", "missing-scale")
    assert split_line("[W] Error: of its own") == ("warning", "Error: of its own")
    assert split_line("[x.cpp::f::12] Error Code 2: Internal Error (boo)")[0] == "error"


PASTED = {
    "AttributeError: module 'tensorrt' has no attribute 'IInt8Calibrator'": "removed-int8-api",
    "AttributeError: module 'tensorrt' has no attribute 'CalibrationAlgoType'": "removed-int8-api",
    "AttributeError: type object 'tensorrt_bindings.tensorrt.BuilderFlag' has no attribute 'INT8'": (
        "removed-int8-api"
    ),
    "AttributeError: 'tensorrt.tensorrt.IBuilderConfig' object has no attribute 'int8_calibrator'": (
        "removed-int8-api"
    ),
    "AttributeError: 'tensorrt.tensorrt.ITensor' object has no attribute 'set_dynamic_range'": (
        "removed-int8-api"
    ),
    "AttributeError: 'tensorrt.tensorrt.ILayer' object has no attribute 'precision'": (
        "removed-int8-api"
    ),
    "AttributeError: 'tensorrt.tensorrt.Builder' object has no attribute 'platform_has_fast_int8'": (
        "removed-int8-api"
    ),
    "ImportError: cannot import name 'IInt8MinMaxCalibrator' from 'tensorrt' (/x)": (
        "removed-int8-api"
    ),
    "a.cpp:1:5: error: 'class nvinfer1::IBuilderConfig' has no member named 'setInt8Calibrator'": (
        "removed-int8-api"
    ),
    "a.h:3:1: error: ‘kINT8’ is not a member of ‘nvinfer1::BuilderFlag’": "removed-int8-api",
    "AttributeError: 'tensorrt.tensorrt.IBuilderConfig' object has no attribute "
    "'max_workspace_size'": "removed-in-10",
    "AttributeError: module 'tensorrt' has no attribute 'Logger'": "hollow-package",
    "[E] Error[2]: [checkSanity.cpp::checkLinks::218] Error Code 2: Internal Error (Assertion "
    "item.second != nullptr failed. )": "check-links",
    "AttributeError: 'tensorrt.tensorrt.Builder' object has no attribute 'int8_mode'": "removed-in-8",
    "AttributeError: type object 'tensorrt_bindings.tensorrt.BuilderFlag' has no attribute 'BF16'": "flag-of-another-version",
    "error: 'kBF16' is not a member of 'nvinfer1::BuilderFlag'": "flag-of-another-version",
    "AttributeError: 'tensorrt.tensorrt.INetworkDefinition' object has no attribute 'has_explicit_precision'": "removed-in-10",
    "error C2039: 'setInt8Calibrator': is not a member of 'nvinfer1::IBuilderConfig'": "removed-int8-api",
    "c.h:12:44: error: 'IInt8EntropyCalibrator2' in namespace 'nvinfer1' does not name a type": "removed-int8-api",
    "[TRT] [E] IMatrixMultiplyLayer must have same input types. `A` is of type Float and `B` is of type Half.": "mixed-types",
    "Error Code 4: Internal Error (fp16 precision has been set for a layer or layer output, but fp16 is not configured in the builder)": "type-not-allowed",
    "[TRT] [E] IPluginRegistry::getCreator: Error Code 4: API Usage Error (Cannot find plugin: DummyOp, version: 1, namespace:.)": "plugin-missing",
    '[E] Assertion failed: scaleAllPositive && "Scale coefficients must all be positive"': "qdq-scale",
    "[E] Error[2]: [pointWiseV2Builder.cpp::toExpr::325] Error Code 2: Internal Error (Assertion outScales.size() == 1 failed. )": "one-scale",
    "[W] [TRT] Missing dynamic range for tensor x copy, expect fall back to non-int8 implementation for any layer consuming or producing given tensor": "missing-scale",
    "WARNING: INT8 calibration file not specified. Trying FP16 mode.": "deepstream-no-int8",
    "TensorRT EP could not set INT8 dynamic range for fused node: TRTKernel_1": "ort-dynamic-range",
    "[TRT] [E] 2: [calibrator.cpp::nvinfer1::builder::calibrateEngine::1181] Error Code 2: Internal Error (Assertion context->executeV2(&bindings[0]) failed. )": "calibration-run",
    "[E] Error[2]: Internal Error (Engine generation failed because all backend strategies failed.)": "builder-failed-inside",
    "[TRT] [E] 2: [optimizer.cpp::filterQDQFormats::4422] Error Code 2: Internal Error (Assertion !n->candidateRequirements.empty() failed. All of the candidates were removed)": "no-int8-format",
    "[W] FP32 and INT8 precisions have been specified - more performance might be enabled by additionally specifying --fp16 or --best": "int8-without-fp16",
    '(Parameter check failed, condition: nullPtrAllowed. Tensor "input" is bound to nullptr, which is allowed only for an empty input tensor)': "calibration-null-input",
    "[W] [TRT] DLA requests all profiles have same min, max, and opt value. All dla layers are falling back to GPU": "dla-shapes",
    "[W] [TRT] /conv/Conv: DLA only allows inputs of the same precision type. Layer falls back to GPU": "dla-fallback",
    "[TRT] [E] 3: Error Code 3: API Usage Error (Parameter check failed at: x.cpp::canRunOnDLA::382, condition: dlaEngineCount > 0": "dla-missing",
    "[TRT] [W] Tactic Device request: 143MB Available: 112MB. Device memory is insufficient to use tactic.": "workspace",
    "[TRT] [E] 1: [defaultAllocator.cpp::allocate::20] Error Code 1: Cuda Runtime (out of memory)": "out-of-memory",
    "[TRT] [E] Error Code: 9: API Usage Error (Target GPU SM 120 is not supported by this TensorRT release.)": "gpu-not-supported",
    "AttributeError: 'NoneType' object has no attribute 'create_execution_context'": "no-engine-object",
    "x.py:10: DeprecationWarning: Use Deprecated in TensorRT 10.1. Superseded by explicit quantization. instead.": "calibrator-deprecated",
    "[E] Unknown option: --int8": "unknown-option",
    "[08/12/2024-10:00:00] [I] Precision: FP32+FP8": "narrow-flag-alone",
    '[E] [TRT] ModelImporter.cpp:140: While parsing node number 0 [Conv -> "y"]:': "parser-stops",
    "[E] Assertion failed: shiftIsAllZeros(zeroPoint): Non-zero zero point is not supported.": (
        "asymmetric-qdq"
    ),
    "[E] ITensor::getDimensions: Error Code 4: API Usage Error (bdq: input has type Int32 but must "
    "have type FP8, FP4, Int4, Int8, or UInt8. In checkType at x.cpp:456)": "qdq-type",
}


@pytest.mark.parametrize("line", PASTED)
def test_errors_that_people_paste(line: str) -> None:
    (message,) = decode(line)
    assert message.code == PASTED[line]
    assert message.fix
    named = message.code in ("removed-int8-api", "removed-in-10", "unknown-option")
    assert bool(message.names) or not named


def test_the_layer_that_the_parser_refuses() -> None:
    line = '[E] [TRT] ModelImporter.cpp:140: While parsing node number 3 [Conv -> "y"]:'
    assert failing_layer(line) == "y"
    assert (
        failing_layer("[E] In node 3 with name: /a/Conv and operator: Conv (parse): x") == "/a/Conv"
    )


@pytest.mark.parametrize("start", ["[", '{"Layers":', "a", "1.", "=>", "tensor ", "layer ", " "])
def test_a_long_line_is_read_in_a_moment(start: str) -> None:
    begin = time.process_time()
    assert read_log(start * (100_000 // len(start))).messages == ()
    assert time.process_time() - begin < 10


@pytest.mark.parametrize(
    "before", ["", "Layer(X): a, Tactic: 1,", "Name: a, LayerType: B, Inputs: ["]
)
@pytest.mark.parametrize(
    "part",
    ["Layer(X): ", "Layer(X): a, Tactic: ", "Name: a, LayerType: B, Inputs: [], ", ", b", "{ a, "],
)
def test_layers_in_a_long_line_are_read_in_a_moment(before: str, part: str) -> None:
    begin = time.process_time()
    layers_in_text(before + part * (40_000 // len(part)))  # 115 s, where every start is tried
    assert time.process_time() - begin < 10


def test_empty_lines_take_no_time() -> None:
    begin = time.process_time()
    report = read_log("\r" * 200_000 + "[E] 10: Could not find any implementation for node conv1.")
    assert (report.lines, report.failing_layer) == (200_001, "conv1")
    assert time.process_time() - begin < 2  # each pattern tried on each line: 8 s


def test_the_layer_that_was_timed_last() -> None:
    line = "[V] --------------- Timing Runner: stem + stem_relu (CaskConvolution[0x8])"
    assert last_timed(line) == "stem + stem_relu"
