"""What interrupted calibrations left on the GPU machine, as recorded."""

from __future__ import annotations

from pathlib import Path

import pytest

from trtlearn.errors import RecordingError
from trtlearn.recorded import files, logs


def test_an_interrupted_calibration_leaves_no_memory_and_no_file() -> None:
    finished, pressed, killed = logs.interruptions().runs
    assert (finished.ended, pressed.ended, killed.ended) == (
        "finished",
        "KeyboardInterrupt",
        "killed",
    )
    assert "model.cache" in finished.files_left
    assert pressed.batches == killed.batches < finished.batches
    assert pressed.files_left == killed.files_left == ()
    assert pressed.buffers_held == 0
    for run in (finished, pressed, killed):
        assert run.free_bytes_after == run.free_bytes_before


def test_a_missing_or_damaged_recording_is_one_clear_error(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(files, "recording_folders", lambda: (tmp_path,))
    for content, said in (
        (None, "no recordings of 'interrupts.json'"),
        (b"{", "not JSON"),
        (b"\xff", "is damaged"),
    ):
        if content is not None:
            (tmp_path / "interrupts.json").write_bytes(content)
        with pytest.raises(RecordingError, match=said):
            logs.interruptions()
