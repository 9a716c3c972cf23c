"""The interface of TensorRT 11, for real: tensorrt_rtx parses and builds without a GPU."""

from __future__ import annotations

from typing import Any

import pytest

from trtlearn.engine.records import BuildOptions
from trtlearn.errors import BuildError, LiveUnavailable, ModelError
from trtlearn.live import trt
from trtlearn.live.build import build_engine
from trtlearn.live.network import (
    has_qdq,
    network_inputs,
    network_tensors,
    parsed_network,
    placeholder_ranges,
)
from trtlearn.model.course_data import model_path

pytest.importorskip(
    "tensorrt_rtx_bindings", reason="tensorrt_rtx has wheels for x86-64 Linux and Windows only"
)

# TensorRT-RTX keeps the timing cache's interface, without effect and with this warning.
pytestmark = pytest.mark.filterwarnings("ignore:.*Timing cache operations:DeprecationWarning")


@pytest.fixture(autouse=True)
def rtx(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRTLEARN_TENSORRT", "tensorrt_rtx_bindings")


def test_what_11_has_not() -> None:
    found = trt.capabilities()
    assert not found.implicit_int8
    assert not found.calibrators
    assert not found.dynamic_ranges
    assert not found.layer_precisions
    assert found.progress_monitor


@pytest.mark.parametrize("model", ["resnet", "mobile"])
def test_a_real_build_for_a_gpu_that_is_not_here(model: str) -> None:
    built = build_engine(model_path(model), BuildOptions(batch=4), compute_capability="8.9")
    assert built.report.plan_bytes == len(built.plan) > 10_000
    assert built.text is None  # a plan cannot be loaded without a GPU
    assert built.timing_cache
    assert "dimensions: (-1, 1, 28, 28)" in built.report.log


def test_dynamic_shapes() -> None:
    shapes = {"image": ((1, 1, 28, 28), (8, 1, 28, 28), (64, 1, 28, 28))}
    assert build_engine(
        model_path("resnet"), BuildOptions(), shapes=shapes, compute_capability="8.9"
    ).plan


def test_more_outputs_and_tactic_sources() -> None:
    options = BuildOptions(outputs_marked=("stem_relu",), tactic_sources=(), optimization_level=0)
    assert build_engine(model_path("resnet"), options, compute_capability="8.9").plan


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (BuildOptions(int8=True, ranges="placeholder"), "no builder flag INT8"),
        (BuildOptions(fp16=True), "no builder flag FP16"),
        (
            BuildOptions(layer_precisions={"stem": "fp16"}, precision_constraints="obey"),
            "no layer precisions",
        ),
        (BuildOptions(tactic_sources=("CUDNN",)), "no tactic source 'CUDNN'"),
    ],
)
def test_what_is_gone_is_said_in_one_line(options: BuildOptions, words: str) -> None:
    with pytest.raises(BuildError, match=words):
        build_engine(model_path("resnet"), options, compute_capability="8.9")


def test_parsing_needs_no_gpu() -> None:
    parsed = parsed_network(model_path("resnet"))
    assert network_inputs(parsed.network) == {"image": ((-1, 1, 28, 28), "fp32")}
    assert not has_qdq(parsed.network)
    assert "stem_relu" in network_tensors(parsed.network)
    with pytest.raises(BuildError, match="no dynamic ranges"):
        placeholder_ranges(parsed.network)


@pytest.mark.parametrize("content", [b"", b"not ONNX"])
def test_no_model(content: bytes) -> None:
    with pytest.raises(ModelError):
        build_engine(content, compute_capability="8.9")


def test_an_unknown_gpu_and_none(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(BuildError, match=r"no compute capability '1\.0'"):
        build_engine(model_path("resnet"), compute_capability="1.0")
    from trtlearn.live import cuda

    def missing() -> Any:
        raise LiveUnavailable("no NVIDIA GPU that CUDA can use")

    monkeypatch.setattr(cuda, "require_gpu", missing)
    with pytest.raises(LiveUnavailable, match="no NVIDIA GPU"):
        build_engine(model_path("resnet"))
