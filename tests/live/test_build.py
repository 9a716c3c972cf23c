"""What build_engine asks of TensorRT, and how it fails: one clear line, nothing half-written."""

from __future__ import annotations

import dataclasses
import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from trtlearn.engine.records import TACTIC_SOURCES, BuildOptions, live_options
from trtlearn.errors import BuildError, DataError, EngineError, LiveUnavailable, ModelError
from trtlearn.live.build import build_engine
from trtlearn.live.calibrator import make_calibrator
from trtlearn.live.runner import Runner
from trtlearn.model.course_data import model_path
from trtlearn.networks import network
from trtlearn.recorded.store import own_builds

TWO = ("JIT_CONVOLUTIONS", "EDGE_MASK_CONVOLUTIONS")
X = np.ones((16, 1, 2, 2), np.float32)
SCALE = (
    "INT8 Inference Tensor scales and zero-points: {} scale and zero-point "
    "Quantization(scale: {{{},}}, zero-point: {{0,}})"
)


def test_options_reach_tensorrt(fake: dict[str, Any]) -> None:
    options = BuildOptions(
        int8=True, fp16=True, ranges="placeholder", batch=4, optimization_level=2, tactic_sources=()
    )
    options = dataclasses.replace(options, avg_timing=8)
    fake["log"] = [
        ("WARNING", "Missing scale and zero-point for tensor x, expect fall back to non-int8"),
        ("VERBOSE", SCALE.format("image", "0.0157")),
    ]
    built = build_engine(b"onnx", options)
    config = fake["config"]
    assert config.flags == {"INT8", "FP16"}  # TF32 is on by default and was cleared
    assert (config.builder_optimization_level, config.avg_timing_iterations, config.sources) == (
        2,
        8,
        0,
    )
    assert config.profiling_verbosity.name == "DETAILED"
    assert fake["creation_flags"] == 1  # EXPLICIT_BATCH
    assert fake["network"].get_input(0).shape == (4, 1, 2, 2)
    assert built.ranges is not None
    assert built.ranges["image"].amax == 2.0
    assert built.report.plan_bytes == len(built.plan)
    assert [m.code for m in built.report.messages] == ["missing-scale"]
    assert built.report.scales[0].scale == 0.0157
    assert "[V] INT8 Inference" in built.report.log
    assert built.report.tensorrt == "8.6.1"
    assert built.text == '{"Layers": [], "Bindings": ["image", "logits"]}'
    assert not fake["cuda"].memory
    assert fake["cuda"].open == {"stream": 0, "event": 0, "graph": 0}


def test_tf32_and_default_tactics(fake: dict[str, Any]) -> None:
    build_engine(b"onnx", BuildOptions(tf32=True))
    assert fake["config"].flags == {"TF32"}
    assert fake["config"].sources is None
    build_engine(b"onnx", BuildOptions(tactic_sources=("CUBLAS", "CUDNN")))
    assert fake["config"].sources == 0b101


@pytest.mark.parametrize(
    ("text", "sources", "mask"),
    [
        ("none", (), 0),
        ("CUBLAS_LT,CUDNN", ("CUBLAS_LT", "CUDNN"), 0b110),
        ("JIT_CONVOLUTIONS,EDGE_MASK_CONVOLUTIONS", TWO, 0b11000),
        ("JIT_CONVOLUTIONS, EDGE_MASK_CONVOLUTIONS", TWO, 0b11000),
        (None, ("CUBLAS",), 0b001),
        ("", ("CUBLAS",), 0b001),
    ],
)
def test_tactic_sources_of_live_builds(
    fake: dict[str, Any],
    monkeypatch: pytest.MonkeyPatch,
    text: str | None,
    sources: tuple[str, ...],
    mask: int,
) -> None:
    if text is not None:
        monkeypatch.setenv(TACTIC_SOURCES, text)
    options = live_options(BuildOptions(tactic_sources=("CUBLAS",)))
    assert options.tactic_sources == sources
    build_engine(b"onnx", options)
    assert fake["config"].sources == mask


def test_an_unknown_tactic_source_is_one_error_that_lists_those_there(
    fake: dict[str, Any], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv(TACTIC_SOURCES, "CUDNN,JIT")
    with pytest.raises(BuildError) as caught:
        network("mobile", mode="live").build("fp32")
    assert str(caught.value) == (
        "no tactic source 'JIT'. Try: any of CUBLAS, CUBLAS_LT, CUDNN, EDGE_MASK_CONVOLUTIONS, "
        "JIT_CONVOLUTIONS, or none, in TRTLEARN_TACTIC_SOURCES or --tactic-source"
    )
    assert own_builds().builds == (), "it is no failure of TensorRT: nothing is kept"


def test_a_calibrated_build_says_what_was_asked(fake: dict[str, Any]) -> None:
    fake["log"] = [
        ("VERBOSE", SCALE.format("image", "0.00787")),
        ("VERBOSE", SCALE.format("pool", "0.5")),
    ]
    with make_calibrator("entropy2", X, 8) as calibrator:
        built = build_engine(
            b"onnx", BuildOptions(int8=True, ranges="entropy2"), calibrator=calibrator
        )
    assert built.calibration is not None
    assert built.calibration.batches == 2
    assert built.ranges is not None
    assert [(t.name, t.source) for t in built.ranges.tensors] == [
        ("image", "calibrated"),
        ("pool", "tied"),
    ]


def test_random_calibration_of_a_missing_file(fake: dict[str, Any], tmp_path: Path) -> None:
    built = build_engine(
        b"onnx", BuildOptions(int8=True, ranges="random"), calib_path=tmp_path / "missing"
    )
    assert built.calibration is not None
    assert [c.answer for c in built.calibration.calls if c.method == "get_batch"] == [
        "batch 0",
        "no more",
    ]
    assert not fake["cuda"].memory
    assert not list(tmp_path.iterdir())


def test_layer_precisions_by_name_and_star(fake: dict[str, Any]) -> None:
    options = BuildOptions(
        int8=True,
        ranges="placeholder",
        layer_precisions={"conv": "int8", "*": "fp16"},
        layer_output_types={"pool": "fp32"},
        precision_constraints="obey",
    )
    build_engine(b"onnx", options)
    layers = {layer.name: layer for layer in fake["network"]._layers}
    assert layers["conv"].precision.name == "INT8"
    assert layers["add"].precision.name == "HALF"
    assert layers["pool"].output_types == {0: fake["module"].DataType.FLOAT}
    assert "OBEY_PRECISION_CONSTRAINTS" in fake["config"].flags


def test_star_leaves_integer_layers_alone(fake: dict[str, Any]) -> None:
    dtypes = fake["module"].DataType
    make = fake["make_network"]
    network = make()
    network._layers[3].precision = dtypes.INT32
    from trtlearn.live.network import set_precisions

    set_precisions(network, {"*": "fp16"}, {})
    assert network._layers[3].precision is dtypes.INT32
    assert network._layers[4].precision is dtypes.HALF


def test_outputs_and_dynamic_shapes(fake: dict[str, Any]) -> None:
    shapes = {"image": ((1, 1, 2, 2), (8, 1, 2, 2), (64, 1, 2, 2))}
    options = BuildOptions(int8=True, ranges="minmax", outputs_marked=("conv", "logits"))
    with make_calibrator("minmax", X, 4) as calibrator:
        build_engine(
            b"onnx",
            options,
            calibrator=calibrator,
            shapes=shapes,
            calibration_shapes={"image": (4, 1, 2, 2)},
        )
    assert fake["network"].marked == ["conv"]  # logits is an output already
    assert fake["config"].profiles[0].shapes == shapes
    assert fake["config"].calibration_profile.shapes["image"] == ((4, 1, 2, 2),) * 3
    assert fake["network"].get_input(0).shape[0] == -1


def test_the_timing_cache_is_read_merged_and_written(fake: dict[str, Any], tmp_path: Path) -> None:
    path = tmp_path / "t" / "gpu.timing"
    build_engine(b"onnx", BuildOptions(), timing_cache=path)
    assert path.read_bytes() == b"+timed"
    built = build_engine(b"onnx", BuildOptions(), timing_cache=path)
    assert built.timing_cache is not None
    assert built.timing_cache.startswith(b"+timed+timed")
    fake["during"] = lambda: path.write_bytes(b"another program's")
    build_engine(b"onnx", BuildOptions(), timing_cache=path)
    assert b"another program's" in path.read_bytes()
    built = build_engine(b"onnx", BuildOptions(), timing_cache=b"other GPU")
    assert built.timing_cache == b"+timed"  # refused, so it started from nothing


def fails(fake: dict[str, Any], error: str) -> None:
    """Let TensorRT's build fail, with ``error`` in its log."""
    fake["fail"] = True
    fake["log"] = [("ERROR", error)]


def test_a_failed_build_names_the_layer_and_keeps_the_log(fake: dict[str, Any]) -> None:
    fails(
        fake,
        "10: [optimizer.cpp::computeCosts::3869] Error Code 10: Internal Error "
        "(Could not find any implementation for node conv12 + PWN(PWN(sigmoid13), mul14).)",
    )
    with pytest.raises(BuildError, match="at layer 'conv12 ") as caught:
        build_engine(b"onnx", BuildOptions(int8=True, ranges="placeholder"))
    assert caught.value.layer == "conv12 + PWN(PWN(sigmoid13), mul14)"
    assert caught.value.messages[0].code == "no-implementation"
    assert caught.value.log.startswith("[E] 10:")
    assert "Keep this layer out of INT8" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_int8_without_ranges(fake: dict[str, Any]) -> None:
    fails(
        fake,
        "4: [s.cpp::initCalibrationParams::1460] Error Code 4: Internal Error (Calibration failure "
        "occurred with no scaling factors detected. This could be due to no int8 calibrator.)",
    )
    with pytest.raises(BuildError, match="nothing has a scale"):
        build_engine(b"onnx", BuildOptions(int8=True))


def test_ctrl_c_comes_after_the_build_and_leaves_nothing(
    fake: dict[str, Any], tmp_path: Path
) -> None:
    def batches() -> Any:
        yield X[:8]
        os.kill(os.getpid(), signal.SIGINT)
        yield X[:8]

    before = signal.getsignal(signal.SIGINT)
    calibrator = make_calibrator("entropy2", batches(), 8, write_cache_path=tmp_path / "x.cache")
    with pytest.raises(KeyboardInterrupt), calibrator:
        build_engine(b"onnx", BuildOptions(int8=True, ranges="entropy2"), calibrator=calibrator)
    assert signal.getsignal(signal.SIGINT) is before
    assert not fake["cuda"].memory
    assert not list(tmp_path.iterdir())
    assert calibrator.trace().batches <= 2


def test_a_build_and_an_engine_that_runs_inside_its_data_keep_their_own_messages(
    fake: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    severity, plan = fake["module"].ILogger.Severity, build_engine(b"onnx").plan
    fake["during"] = lambda: fake["logger"].log(severity.INFO, "before the data")
    fake["log"] = [("INFO", "after the data")]

    def refuse(context: Any, stream: int) -> bool:
        fake["logger"].log(severity.ERROR, "of the engine")
        return False

    monkeypatch.setattr(fake["module"].IExecutionContext, "execute_async_v3", refuse)
    said = []

    def batches() -> Iterator[dict[str, np.ndarray[Any, Any]]]:
        with Runner(plan) as runner:
            for _ in range(2):
                with pytest.raises(EngineError) as problem:
                    runner.run({"image": X[:8]})
                said.append(problem.value.problem)
                yield {"image": X[:8]}

    with make_calibrator("minmax", batches()) as calibrator, Runner(plan):  # one more is there
        built = build_engine(b"onnx", calibrator=calibrator)
    assert built.report.log == "[I] before the data\n[I] after the data"
    assert said == ["the engine did not run: of the engine"] * 2


def test_the_datas_error_wins_over_the_builds(fake: dict[str, Any]) -> None:
    fake["fail"] = True
    bad = iter([np.full((8, 1, 2, 2), np.nan, np.float32)])
    with (
        pytest.raises(DataError, match=r"batch 0 holds NaN or infinity.*\(nan\)"),
        make_calibrator("entropy2", bad, 8) as calibrator,
    ):
        build_engine(b"onnx", BuildOptions(int8=True, ranges="entropy2"), calibrator=calibrator)
    assert not fake["cuda"].memory


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (np.ones((8, 3, 28, 28), np.float32), "has shape"),
        (np.ones((8, 1, 28, 28), np.int32), "is int32, expected float32"),
        (
            {"picture": np.ones((8, 1, 28, 28), np.float32)},
            r"has inputs \['picture'\], expected \['image'\]",
        ),
    ],
)
def test_data_that_do_not_fit_the_model_are_refused_before_tensorrt_reads_it(
    fake: dict[str, Any], monkeypatch: pytest.MonkeyPatch, data: Any, words: str
) -> None:
    def too_late(*_: Any, **__: Any) -> Any:
        raise AssertionError("TensorRT was asked to parse the model")

    monkeypatch.setattr("trtlearn.live.build.parsed_network", too_late)
    options = BuildOptions(int8=True, ranges="entropy2")
    with (
        make_calibrator("entropy2", data, 8) as calibrator,
        pytest.raises(DataError, match=words),
    ):
        build_engine(model_path("resnet"), options, calibrator=calibrator)


@pytest.mark.parametrize(
    ("options", "given", "words"),
    [
        (BuildOptions(ranges="best"), {}, "ranges='best' is unknown"),
        (BuildOptions(int8=True, ranges="entropy2"), {}, "needs a calibrator"),
        (BuildOptions(int8=True, ranges="user"), {}, "needs ranges"),
        (BuildOptions(int8=True, ranges="cache"), {}, "needs a cache"),
        (BuildOptions(ranges="placeholder"), {}, "without int8"),
        (BuildOptions(int8=True), {"ranges": {"a": 1.0}}, "ranges are given"),
        (BuildOptions(precision_constraints="strict"), {}, "precision_constraints='strict'"),
        (
            BuildOptions(layer_precisions={"conv": "fp16"}),
            {},
            "ignored without precision constraints",
        ),
        (
            BuildOptions(layer_precisions={"x": "fp16"}, precision_constraints="obey"),
            {},
            "no layer or ONNX node 'x'",
        ),
        (
            BuildOptions(layer_precisions={"conv": "fp7"}, precision_constraints="obey"),
            {},
            "no data type 'fp7'",
        ),
        (
            BuildOptions(layer_precisions={"conv": "bf16"}, precision_constraints="obey"),
            {},
            "no data type 'bf16'",
        ),
        (BuildOptions(outputs_marked=("x",)), {}, "no tensor 'x'"),
        (BuildOptions(tactic_sources=("BLAS",)), {}, "no tactic source 'BLAS'"),
        (BuildOptions(avg_timing=0), {}, "average at least 1 timing"),
        (BuildOptions(), {"shapes": {"x": ((1,), (1,), (1,))}}, "shapes are given for 'x'"),
        (BuildOptions(), {"shapes": {"image": ((1,), (1, 2), (1,))}}, "do not fit input 'image'"),
        (BuildOptions(), {"compute_capability": "8.9"}, "builds only for the GPU that is here"),
    ],
)
def test_contradictions_are_refused_in_one_line(
    fake: dict[str, Any], options: BuildOptions, given: dict[str, Any], words: str
) -> None:
    with pytest.raises(BuildError, match=words) as caught:
        build_engine(b"onnx", options, **given)
    assert "\n" not in str(caught.value)


def test_models_that_do_not_parse(fake: dict[str, Any], tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="does not parse at node 7: unknown operator Foo"):
        build_engine(b"broken", BuildOptions())
    with pytest.raises(ModelError, match="no such file"):
        build_engine(tmp_path / "none.onnx", BuildOptions())
    fake["module"].OnnxParser.parse = lambda self, content, path=None: True
    with pytest.raises(ModelError, match="no ONNX model"):
        build_engine(b"", BuildOptions())


def test_without_a_gpu_it_says_which_piece_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRTLEARN_TENSORRT", "no_such_tensorrt")
    with pytest.raises(LiveUnavailable, match="no_such_tensorrt is not installed"):
        build_engine(b"onnx", BuildOptions())


def test_removed_features_of_11(fake: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    import fake_trt

    monkeypatch.setattr(fake["module"], "BuilderFlag", fake_trt.named("BuilderFlag", "TF32"))
    with pytest.raises(BuildError, match="no builder flag INT8"):
        build_engine(b"onnx", BuildOptions(int8=True, ranges="placeholder"))
    build_engine(b"onnx", BuildOptions(int8=True, ranges="qdq"))  # the model's own types decide
