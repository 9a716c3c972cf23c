"""The table of NVIDIA's samples: what is in it, and each row against the source."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from trtlearn.errors import CommandError
from trtlearn.trtexec.sources import SampleTable, samples


def test_what_the_thread_asked_for() -> None:
    by_name = {one.directory: one for one in samples().samples}
    assert by_name["samples/sampleINT8"].kind == "calibration"
    assert by_name["samples/sampleINT8"].last == "8.5.2"
    assert by_name["samples/python/int8_caffe_mnist"].last == "8.4.3"
    assert by_name["samples/sampleINT8API"].kind == "own ranges"
    assert by_name["samples/sampleOnnxMNIST"].fate == "there, but no longer in INT8"
    assert by_name["samples/sampleINT8API"].fate == "gone"
    kinds = {"calibration", "own ranges", "one range", "Q/DQ", "trtexec"}
    assert {one.kind for one in by_name.values()} == kinds


def test_eleven_has_no_implicit_quantization_in_its_own_samples() -> None:
    implicit = [one for one in samples("11.1").samples if one.kind != "Q/DQ"]
    assert all(one.directory.startswith("tools/Polygraphy/") for one in implicit)
    assert samples("11.1", kind="one range").samples == ()


def test_version_and_kind_narrow_the_table() -> None:
    whole = {one.directory for one in samples().samples}
    for version in ("8.4", "8.6", "10.16", "11.0"):
        part = samples(version)
        assert {one.directory for one in part.samples} < whole
        assert all(one.tag == part.samples[0].tag for one in part.samples)
    assert SampleTable.from_json(samples("8.6").to_json()) == samples("8.6")
    with pytest.raises(CommandError, match="calibration, own ranges"):
        samples(kind="magic")
    with pytest.raises(CommandError, match=r"8\.4"):
        samples("3.0")


def test_each_line_against_the_source() -> None:
    repository = os.environ.get("TENSORRT_REPO", "")
    if not repository:
        pytest.skip("set TENSORRT_REPO to a git checkout of NVIDIA/TensorRT")
    check = [sys.executable, "tools/trtexec_samples.py", repository]
    assert subprocess.run(check, check=False, capture_output=True).returncode == 0
