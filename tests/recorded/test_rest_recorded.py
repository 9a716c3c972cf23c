"""What later runs on a GPU machine added to a set of recordings (rest/): read, and held together."""

from __future__ import annotations

import gzip

import pytest

import trtlearn as tl
from recording.rest import ClockedTimings
from trtlearn.builds import engine_info
from trtlearn.calibration.cache import read_cache
from trtlearn.recorded.calibration import agreement, origin
from trtlearn.recorded.files import load_provenance, parts
from trtlearn.recorded.layers import studies, study
from trtlearn.recorded.logs import trtexec_log
from trtlearn.recorded.tradeoffs import PLACEMENTS, placements


@pytest.mark.parametrize("name", ["cached", "cached-fp16"])
def test_ranges_of_a_cache_set_by_hand_build_the_calibrated_engine(name: str) -> None:
    build, calibrated = study("resnet", name), tl.network("resnet").build("int8-minmax")
    assert build.provenance.gpu == "NVIDIA H200"
    assert name in studies("resnet")
    assert build.predictions is not None
    assert build.predictions.correct == 990
    assert build.ranges is not None
    cache = calibrated.cache
    assert cache is not None
    by_hand = {one.name: one.scale for one in build.ranges.tensors if one.source == "user"}
    assert len(by_hand) > 20
    assert by_hand == pytest.approx({name: cache[name] for name in by_hand}, rel=1e-6)


def test_mobile_s_placements_of_qdq_are_of_one_gpu_and_all_there() -> None:
    builds = placements("mobile")
    assert set(builds) == set(PLACEMENTS)
    assert {build.provenance.gpu for build in builds.values()} == {"NVIDIA H200"}
    right = {}
    for name, build in builds.items():
        assert build.predictions is not None
        right[name] = build.predictions.correct
    assert right == {"tensorrt": 947, "no-shortcut": 960, "conv-outputs": 954, "everywhere": 954}
    (older,) = (path for path in parts("tradeoff/placements/mobile") if "h100" in str(path))
    for name, build in placements("mobile", older.parents[1]).items():  # the other GPU agrees
        assert build.predictions is not None
        assert build.predictions.correct == right[name]


def test_another_day_s_calibration_of_the_ocr_network_gives_the_same_scales() -> None:
    """From the same data. Entropy 2 was not recorded on the first day."""
    later, first = parts("calibration")[1], parts("calibration")[0]
    assert later.parent.name == "rest"
    hashes = [load_provenance(folder).sha256["zoo/ocr.npz"] for folder in (first, later)]
    assert hashes[0] == hashes[1]
    for algorithm in ("minmax", "entropy", "legacy"):
        one, two = (read_cache(it / f"caches/ocr-{algorithm}.cache") for it in (first, later))
        assert list(one) == list(two)
        for tensor, scale in one.items():
            assert two[tensor] == pytest.approx(scale, rel=2e-6)
    rows = {row.algorithm: row for row in agreement().networks if row.network == "ocr"}
    assert (rows["entropy2"].tensors, rows["entropy2"].agreeing) == (310, 309)
    assert [other.cause for other in rows["entropy2"].others] == ["near tie"]
    assert len(rows["entropy2"].cache) == 310
    assert origin().label() == "recorded on NVIDIA H200, TensorRT 8.6.0, 2026-11-23 to 2026-11-29"
    assert origin("ties").label().endswith("to 2026-11-26")


def test_the_script_of_notebook_09_ran_on_a_network_that_is_not_the_course_s() -> None:
    (folder,) = parts("own-model")
    said = (folder / "output.txt").read_text(encoding="utf-8")
    for way in ("fp32", "fp16", "int8-entropy2", "int8-qdq"):
        assert f"{way}: built and timed" in said
    report = gzip.decompress((folder / "ocr.html.gz").read_bytes()).decode()
    assert "NVIDIA H200" in report
    assert len(read_cache(folder / "ocr.cache")) > 200


@pytest.mark.parametrize("model", ["resnet", "mobile"])
def test_trtexec_dies_of_a_min_max_cache_and_builds_with_the_other_header(model: str) -> None:
    """T#3430"""
    died = trtexec_log(model, "int8-minmax-cache")
    assert died.status == -6  # SIGABRT
    assert any("illegal memory access" in line for line in died.errors)
    assert not died.inspector
    built = trtexec_log(model, "int8-minmax-cache-new-header")
    assert (built.status, built.errors) == (0, ())
    theirs = engine_info(built.inspector)
    ours = tl.network(model, "h200-8.6.0").build("int8-minmax").engine
    assert len(theirs.int8) > 5
    assert abs(len(theirs.int8) - len(ours.int8)) <= 2


def test_the_clock_stood_still_beside_eight_small_engines() -> None:
    (path,) = parts("clocks.json")
    clocked = ClockedTimings.from_json(path.read_text(encoding="utf-8"))
    assert len(clocked.timings) == 8
    for one in clocked.timings:
        assert set(one.sm_clock_mhz) == {one.most_mhz} == {1980.0}
        assert len(one.sm_clock_mhz) > 50
