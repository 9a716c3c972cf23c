"""Our live side over NVIDIA's own Python bindings: what it uses is there, and what is gone is named.

Each version in a process of its own (tests/bindings_check.py), over stand-in libraries.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest

from tools import trt_bindings
from trtlearn.live.calibrator import BASES

CHECK = Path(__file__).parent.parent / "bindings_check.py"
GONE_IN_11 = {
    *(f"BuilderFlag.{name}" for name in ("FP16", "INT8")),
    *(f"BuilderFlag.{name}_PRECISION_CONSTRAINTS" for name in ("OBEY", "PREFER")),
    *(f"IBuilderConfig.{name}" for name in ("int8_calibrator", "set_calibration_profile")),
    *(f"TacticSource.{name}" for name in ("CUBLAS", "CUBLAS_LT", "CUDNN")),
    *BASES.values(),
    *(f"{name}.__init__" for name in BASES.values()),
    "ILayer.precision",
    "ILayer.set_output_type",
    "ITensor.set_dynamic_range",
    "NetworkDefinitionCreationFlag.EXPLICIT_BATCH",
}
"""What we use and TensorRT 11 has not: asked for before use, or refused with words."""


@cache
def facts(version: str) -> dict[str, Any]:
    """What a process that imported these bindings found out."""
    if reason := trt_bindings.why_not(version):
        pytest.skip(reason)
    with TemporaryDirectory() as folder:
        environment = os.environ | trt_bindings.prepare(version, Path(folder))
        command = [sys.executable, str(CHECK)]
        ran = subprocess.run(
            command, env=environment, capture_output=True, text=True, timeout=120, check=False
        )
    assert ran.returncode == 0, ran.stderr
    found: dict[str, Any] = json.loads(ran.stdout)
    return found


pytestmark = pytest.mark.xdist_group("bindings")
versions = pytest.mark.parametrize("version", trt_bindings.VERSIONS)


@versions
def test_every_name_and_call_of_our_live_side_is_there(version: str) -> None:
    found, reference = facts(version), facts("10.13")
    is_11 = version.startswith("11")
    assert set(reference["members"]) - set(found["members"]) == (GONE_IN_11 if is_11 else set())
    assert set(found["members"]) <= set(reference["members"])
    assert len(found["members"]) > 100
    assert found["misfits"] == []
    assert found["version"].startswith(f"{version}.")


@versions
def test_loggers_monitors_and_types(version: str) -> None:
    found = facts(version)
    assert found["logger"] == ["[W] one", "[W] two", "[F] three", "three"]
    assert found["monitor"] == [True, False, True]  # it stops a build once Ctrl-C was pressed
    assert found["shape"] == [2, -1, 8]
    assert "TensorRT cannot start" in found["starts"]
    unknown = {name for name, ours in found["dtypes"].items() if ours is None}
    assert unknown <= {"E8M0", "FP4"}
    assert found["capabilities"]["progress_monitor"]


@versions
def test_calibrators_are_called_or_refused(version: str) -> None:
    found = facts(version)
    if version.startswith("11"):
        calibrators, precisions, flags = found["refused"]
        assert "11.0 removed them" in calibrators
        assert "11.0 removed them" in precisions
        assert "ranges='qdq'" in flags
        assert not any(found["capabilities"][name] for name in ("implicit_int8", "calibrators"))
    else:
        # its own class, batch size, two batches and then no more, no cache, the cache kept
        for name, answers in found["calibrators"].items():
            assert answers[:-1] == [True, 8, True, True, False, True, True], name
        kinds = [answers[-1] for answers in found["calibrators"].values()]
        assert kinds == [
            "ENTROPY_CALIBRATION_2",
            "ENTROPY_CALIBRATION",
            "MINMAX_CALIBRATION",
            "LEGACY_CALIBRATION",
        ]
