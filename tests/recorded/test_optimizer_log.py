"""trtexec's own build against ours, by what TensorRT's optimizer said in both logs."""

from __future__ import annotations

from pathlib import Path

import pytest

from recording.trtexec import read_optimizer_log
from trtlearn.errors import RecordingError
from trtlearn.networks import network
from trtlearn.recorded import files
from trtlearn.recorded.logs import trtexec_log


@pytest.mark.parametrize("model", ["resnet", "mobile"])
def test_trtexec_and_trtlearn_set_the_same_scales_in_the_same_order(model: str) -> None:
    theirs = trtexec_log(model)
    ours = read_optimizer_log(network(model).build("int8-placeholder").build.log)
    assert " --int8 " in theirs.command
    assert "--calib" not in theirs.command
    assert theirs.optimizer.scales == ours.scales
    assert theirs.optimizer.layers == ours.layers
    kinds = [[fusion.split(":")[0] for fusion in log.fusions] for log in (theirs.optimizer, ours)]
    assert sorted(kinds[0]) == sorted(kinds[1])


def test_a_log_that_is_not_verbose_says_nothing() -> None:
    log = read_optimizer_log("[W] something")
    assert (log.scales, log.fusions, log.layers) == ((), (), None)
    assert "unknown layers" in log.summary()


def test_a_missing_recording_is_one_clear_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(RecordingError, match=r"recorded: mobile-int8, .*resnet-int8"):
        trtexec_log("resnet", "unknown")
    monkeypatch.setattr(files, "recording_folders", lambda: (tmp_path,))
    with pytest.raises(RecordingError, match=r"no recordings of 'trtexec/resnet-int8.json'"):
        trtexec_log("resnet")


@pytest.mark.parametrize("model", ["resnet", "mobile"])
def test_a_missing_calibration_file_is_still_missing_after_trtexec(model: str) -> None:
    theirs = trtexec_log(model, "int8-random")
    assert "--calib=missing.cache" in theirs.command
    assert theirs.wrote_cache is False
    assert not theirs.optimizer.scales  # none set by hand: it calibrated
    ours = network(model, mode="recorded").build("int8-random")
    assert theirs.optimizer.layers == read_optimizer_log(ours.build.log).layers
