"""What goes wrong while TensorRT works: one clear line each, nothing half-written."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from trtlearn import files
from trtlearn.live.build import build_engine
from trtlearn.model.course_data import load_images, model_path

ROOT = Path(__file__).resolve().parents[2]
INSIDE = "2: [engine.cpp::build::99] Error Code 2: Internal Error (Assertion engine failed. )"
TIMED = "--------------- Timing Runner: {} (CaskConvolution[0x80000009])"


@pytest.fixture
def model() -> Path:
    return model_path("resnet")


def test_a_build_that_dies_inside_says_layer_tries_advice_and_log(
    fake: dict[str, Any], run: Any, model: Path, tmp_path: Path
) -> None:
    timed = [
        TIMED.format(name) for name in ("stem", "b0_conv1 + b0_relu1", "Optimizer Reformat(x)")
    ]
    fake |= {"fail": True, "log": [*(("VERBOSE", line) for line in timed), ("ERROR", INSIDE)]}
    plan = tmp_path / "r.plan"
    status, out, err = run("build", model, "--placeholder", "-o", plan, "--optimization-level", 1)
    assert (status, out, err.count("\n")) == (2, "", 1)
    assert "it names no layer; it timed 'b0_conv1 + b0_relu1' last" in err
    assert "tried: INT8 with placeholder ranges, batch 8, optimization level 1;" in err
    assert (
        "--optimization-level 3, or --layer-precision 'b0_conv1=fp32' --constraints prefer" in err
    )
    log = Path(err.split("log: ")[1].split(". Try")[0])
    assert log.read_text(encoding="utf-8").endswith(f"[E] {INSIDE}")
    assert not plan.exists()


def test_a_layer_that_has_no_kernel_is_named(fake: dict[str, Any], run: Any, model: Path) -> None:
    problem = "10: Error Code 10: Internal Error (Could not find any implementation for node b1_proj + b1_add.)"
    fake |= {"fail": True, "log": [("VERBOSE", TIMED.format("stem")), ("ERROR", problem)]}
    _, _, err = run("build", model, "--placeholder", "-o", "never.plan")
    assert "at layer 'b1_proj + b1_add'" in err
    assert "'stem'" not in err
    assert "--layer-precision 'b1_proj=fp32' --constraints prefer" in err
    assert not Path("never.plan").exists()


def nan(images: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    images[3, 0, 5, 5] = np.nan
    return images


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (nan, "(nan) at [3, 0, 5, 5]"),
        (lambda images: images[:, :, :27], "expected [rows,1,28,28]"),
        (lambda images: images.astype(np.float64), "float64, expected float32"),
        (lambda images: images[:, 0], "expected [rows,1,28,28]"),
    ],
)
def test_calibration_data_are_checked_before_the_model_is_parsed(
    fake: dict[str, Any], run: Any, model: Path, tmp_path: Path, spoil: Any, words: str
) -> None:
    np.save(tmp_path / "x.npy", spoil(load_images("calibration")[0][:16].copy()))
    parsed = []
    fake["parse"] = lambda *_: parsed.append(1)
    status, out, err = run(
        "build", model, "--calib-data", tmp_path / "x.npy", "-o", tmp_path / "x.plan"
    )
    assert (status, out, err.count("\n")) == (2, "", 1)
    assert words in err
    assert not parsed
    assert not (tmp_path / "x.plan").exists()


@pytest.mark.parametrize("verb", ["inspect", "precision"])
def test_a_plan_of_another_version_or_gpu(
    fake: dict[str, Any], run: Any, tmp_path: Path, verb: str
) -> None:
    fake["module"].Runtime.deserialize_cuda_engine = lambda runtime, plan: runtime.logger.log(
        fake["module"].ILogger.Severity.ERROR,
        "1: [runtime.cpp::parsePlan::314] Error Code 1: Serialization (Version tag does not match)",
    )
    (tmp_path / "other.plan").write_bytes(b"ftrt" + bytes(60))
    status, out, err = run(verb, tmp_path / "other.plan")
    assert (status, out, err.count("\n")) == (2, "", 1)
    assert "the plan does not load" in err
    assert "Version tag does not match" in err
    assert "build the engine again with the TensorRT and the GPU that are here" in err


def test_a_full_disk_leaves_neither_plan_nor_report(
    fake: dict[str, Any], run: Any, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan, report = tmp_path / "r.plan", tmp_path / "r.json"
    replace, count = os.fsync, []

    def full(handle: int) -> None:
        count.append(handle)
        if len(count) == 2:  # the report's: the plan's content is already on the disk
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        replace(handle)

    monkeypatch.setattr(files.os, "fsync", full)
    status, _, err = run("build", model, "-o", plan, "--report", report)
    assert (status, err.count("\n")) == (2, 1)
    assert "No space left on device" in err
    assert list(tmp_path.iterdir()) == []


def test_ctrl_c_ends_a_build_and_leaves_nothing(
    fake: dict[str, Any], run: Any, model: Path, tmp_path: Path
) -> None:
    fake["during"] = lambda: os.kill(os.getpid(), 2)
    status, out, err = run("build", model, "-o", tmp_path / "r.plan")
    assert (status, out, err.count("\n")) == (130, "", 1)
    assert "stopped by Ctrl-C" in err
    assert list(tmp_path.iterdir()) == []
    assert not fake["cuda"].memory


def test_two_builds_at_once_into_one_file_give_one_whole_plan(
    fake: dict[str, Any], model: Path, tmp_path: Path
) -> None:
    both = threading.Barrier(2)
    fake["during"] = both.wait
    plan = tmp_path / "r.plan"
    threads = [
        threading.Thread(target=lambda: build_engine(model, timing_cache=tmp_path / "t").save(plan))
        for _ in range(2)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert plan.read_bytes().startswith(b"ftrt")
    assert sorted(path.name for path in tmp_path.iterdir() if path.suffix != ".lock") == [
        "r.plan",
        "t",
    ]


NO_LOCALE = {"LC_ALL": "xx_XX", "LANG": "xx_XX", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
UNDER_NO_LOCALE = """
import locale, sys, warnings
assert locale.getpreferredencoding(False) != "UTF-8", locale.getpreferredencoding(False)
sys.path[:0] = [{root!r}, {tests!r}]
warnings.filterwarnings("error", category=EncodingWarning, module="trtlearn")
import fake_trt
from trtlearn.live import cuda, trt
from trtlearn.networks import Network, network
from made_up import MadeUp
import pytest
scene = {{"cuda": fake_trt.FakeCuda()}}
patch = pytest.MonkeyPatch()
made_up = MadeUp(scene, patch)
trt._load = lambda name: scene["module"]
cuda.runtime = lambda: scene["cuda"]
made_up.be("größe 数")
mobile = network("mobile", mode="live")
assert mobile.build("int8-minmax").accuracy > 0.9
again = network("mobile", mode="live").build("int8-minmax")
assert "größe 数" in again.label, again.label
import trtlearn as tl
from trtlearn.cli.main import run
images = mobile.images()[:16]
walk = tl.try_int8(mobile.path, images, out="report", live=True)
assert "TensorRT" in walk.read("script") and "<html" in walk.read("report")
assert run(["live"]) == 0
assert run(["build", str(mobile.path), "--placeholder", "-o", "m.plan", "--report", "r.json"]) == 0
made_up.be("a failed build")
assert run(["build", str(mobile.path), "--placeholder", "-o", "no.plan"]) == 2
assert run(["explain", "trtexec --onnx=m.onnx --int8"]) == 0
print("✔ ± done")
"""


def test_live_paths_under_a_locale_that_is_not_installed(tmp_path: Path) -> None:
    """UTF-8 by name everywhere: the machine's own encoding is ASCII here."""
    code = UNDER_NO_LOCALE.format(root=str(ROOT), tests=str(ROOT / "tests"))
    env = {**os.environ, **NO_LOCALE, "TRTLEARN_HOME": str(tmp_path / "home")}
    env |= {"PYTHONWARNDEFAULTENCODING": "1", "TRTLEARN_MODE": "live"}
    program = tmp_path / "program.py"
    program.write_text(code, encoding="utf-8")
    done = subprocess.run(
        [sys.executable, program], env=env, cwd=tmp_path, capture_output=True, check=False
    )
    assert done.returncode == 0, done.stderr.decode(errors="replace")[-3000:]
    assert "✔ ± done" in done.stdout.decode("utf-8")
    assert "measured here" in done.stdout.decode("utf-8")


def test_text_is_read_and_written_as_utf_8_by_name() -> None:
    rule = ["ruff", "check", "--isolated", "--preview", "--select", "PLW1514", "-q"]
    rooms = [ROOT / room for room in ("trtlearn", "recording", "tools", "notebooks")]
    done = subprocess.run(
        [sys.executable, "-m", *rule, *rooms], capture_output=True, encoding="utf-8", check=False
    )
    assert (done.returncode, done.stdout) == (0, "")
