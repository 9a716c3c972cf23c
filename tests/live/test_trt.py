"""Which TensorRT is here is asked of the module; what is missing is named; CUDA's answers are
checked.
"""

from __future__ import annotations

import ast
import sys
import types
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier
from typing import Any

import numpy as np
import pytest
from fake_trt import TACTIC_SOURCES

from trtlearn.errors import EngineError, LiveUnavailable
from trtlearn.live import cuda, trt
from trtlearn.live.cuda import DeviceBuffer

PACKAGE = Path(trt.__file__).parent.parent


@pytest.mark.parametrize(("module", "home"), [("tensorrt", "trt.py"), ("cuda", "cuda.py")])
def test_one_file_imports_it(module: str, home: str) -> None:
    importers = set()
    for path in PACKAGE.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += (
                [node.module or ""] if isinstance(node, ast.ImportFrom) and node.level == 0 else []
            )
            if any(name.split(".")[0] == module for name in names):
                importers.add(path.name)
    assert importers <= {home}


def test_stubs_are_no_tensorrt(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "empty_trt", types.ModuleType("empty_trt"))
    monkeypatch.setenv("TRTLEARN_TENSORRT", "empty_trt")
    assert trt.available() is None
    with pytest.raises(LiveUnavailable, match="empty_trt is not installed"):
        trt.live()


def test_capabilities_by_what_it_has(fake: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    found = trt.capabilities()
    assert found.implicit_int8
    assert found.calibrators
    assert found.dynamic_ranges
    assert found.layer_precisions
    assert found.calibration_profile
    assert not found.progress_monitor
    assert found.tactic_sources == TACTIC_SOURCES
    monkeypatch.delattr(fake["module"], "IInt8EntropyCalibrator2")
    assert not trt.capabilities().calibrators


def test_dtype_names(fake: dict[str, Any]) -> None:
    assert trt.dtype_name(fake["module"].DataType.HALF) == "fp16"
    assert trt.dtype_name(None) is None
    assert trt.dtype_of("int8").name == "INT8"
    with pytest.raises(KeyError):
        trt.dtype_of("fp8")


def test_the_log_keeps_every_line_with_its_letter(fake: dict[str, Any]) -> None:
    severity, say = fake["module"].ILogger.Severity, trt.logger().log
    say(severity.ERROR, "nobody listens")
    with trt.Log() as log:
        say(severity.VERBOSE, "one\ntwo")
        say(severity.ERROR, "bad")
        say(severity.WARNING, "")
    say(severity.ERROR, "too late")
    assert log.text() == "[V] one\n[V] two\n[E] bad\n[W] "
    assert log.errors() == ["bad"]


def test_of_two_logs_the_inner_one_gets_a_message(fake: dict[str, Any]) -> None:
    info, say, log = fake["module"].ILogger.Severity.INFO, trt.logger().log, trt.Log()
    with log:
        say(info, "1")
        with trt.Log() as inner, log:
            say(info, "2")
        say(info, "3")
    with pytest.raises(ValueError, match="stops"), log:
        raise ValueError("it stops")
    say(info, "nobody listens")
    assert (log.lines, inner.lines) == (["[I] 1", "[I] 2", "[I] 3"], [])
    assert trt.logger() is trt.logger(), "TensorRT takes one for a process"


def test_library_version_is_the_libraries(monkeypatch: pytest.MonkeyPatch) -> None:
    def library(number: int) -> Any:
        return lambda name: types.SimpleNamespace(getInferLibVersion=lambda: number)

    module = types.SimpleNamespace(__version__="8.6.1")
    monkeypatch.setattr("trtlearn.live.trt.ctypes.CDLL", library(8600))
    assert trt.library_version(module) == "8.6.0"
    monkeypatch.setattr("trtlearn.live.trt.ctypes.CDLL", library(101303))
    assert trt.library_version(module) == "10.13.3"


def test_each_missing_piece_is_named(fake: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    trt.live()

    def no_driver() -> Any:
        raise RuntimeError("Failed to dlopen libcuda.so.1")

    status = fake["cuda"]._status
    monkeypatch.setattr(
        fake["cuda"], "cudaGetDeviceCount", lambda: (status(100, "cudaErrorNoDevice"), 0)
    )
    with pytest.raises(LiveUnavailable, match="no NVIDIA GPU that CUDA can use"):
        trt.live()
    assert cuda.gpu_name() is None
    assert cuda.cuda_version() is None
    monkeypatch.setattr(fake["cuda"], "cudaGetDeviceCount", no_driver)
    with pytest.raises(LiveUnavailable, match="no NVIDIA driver"):
        trt.live()

    def no_bindings() -> Any:
        raise LiveUnavailable("the Python package cuda-python is not installed here")

    monkeypatch.setattr(cuda, "runtime", no_bindings)
    with pytest.raises(LiveUnavailable, match="cuda-python"):
        trt.live()


def test_gpu_facts(fake: dict[str, Any]) -> None:
    assert cuda.gpu_name() == "NVIDIA Fake"
    assert cuda.cuda_version() == "12.8"


def test_buffers(fake: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    array = np.arange(6, dtype=np.int32).reshape(2, 3)
    with DeviceBuffer(array.nbytes) as buffer:
        buffer.upload(array)
        assert np.array_equal(buffer.download((2, 3), np.int32), array)
        with pytest.raises(EngineError, match="28 bytes do not fit into a buffer of 24"):
            buffer.upload(np.zeros(7, np.float32))
    assert not fake["cuda"].memory
    buffer.close()
    status = fake["cuda"]._status
    monkeypatch.setattr(
        fake["cuda"], "cudaMalloc", lambda size: (status(2, "cudaErrorMemoryAllocation"), None)
    )
    with pytest.raises(EngineError, match="no memory left for 1,000 bytes"):
        DeviceBuffer(1000)
    with pytest.raises(EngineError, match="copying failed: cudaErrorUnknown"):
        cuda.check((status(999, "cudaErrorUnknown"),), "copying")


def test_two_threads_do_not_get_each_others_messages(fake: dict[str, Any]) -> None:
    info, say = fake["module"].ILogger.Severity.INFO, trt.logger().log
    both = Barrier(3)

    def build(name: str) -> str:
        with trt.Log() as log:
            both.wait(10)
            for index in range(100):
                say(info, f"{name} {index}")
            both.wait(10)
            both.wait(10)
        return log.text()

    with ThreadPoolExecutor(2) as threads:
        builds = {name: threads.submit(build, name) for name in ("first", "second")}
        both.wait(10)
        both.wait(10)
        say(info, "of a thread of TensorRT's own")
        both.wait(10)
        texts = {name: done.result() for name, done in builds.items()}
    strangers = 0
    for name, text in texts.items():
        lines = text.splitlines()
        assert lines[:100] == [f"[I] {name} {index}" for index in range(100)]
        strangers += len(lines[100:])
    assert strangers == 1
