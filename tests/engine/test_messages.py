"""TensorRT's log in plain words: each message that was met, decoded; none that is unknown
swallowed.
"""

from __future__ import annotations

import pytest

from trtlearn.engine.log import (
    decode,
    failing_layer,
    first_error,
    message_kinds,
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
    assert first_error("[W] a\n[E] b\n[E] c") == "b"
    assert first_error("[W] a") is None


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
