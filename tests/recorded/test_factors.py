"""The recording of one network at 25 factors is what its script computes."""

from __future__ import annotations

from pathlib import Path

import pytest

import trtlearn as tl
from recording.range_factors import attempt
from trtlearn.errors import RecordingError
from trtlearn.recorded import files
from trtlearn.recorded.computed import FACTORS, range_factors

MOBILE = tl.network("mobile", mode="recorded")


@pytest.mark.parametrize("factor", [0.25, 16.0])
def test_the_script_computes_what_is_recorded(factor: float) -> None:
    images = MOBILE.images("test")[:100]
    build = MOBILE.build("int8-placeholder")
    trial = attempt(build, images, MOBILE.activations(images), factor)
    recorded = range_factors()[factor]
    assert trial.answers == recorded.answers[:100]
    assert trial.clipped == pytest.approx(recorded.clipped, rel=1e-6)
    assert trial.codes <= recorded.codes  # of 100 images in place of 400


def test_it_says_what_it_was_made_from() -> None:
    origin = range_factors().provenance
    assert origin.tensorrt == MOBILE.provenance.tensorrt
    assert "numpy" in str(origin.gpu)


def test_a_damaged_recording_says_how_to_make_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    start = files.place(FACTORS).read_bytes()[:200]
    monkeypatch.setattr(files, "recording_folders", lambda: (tmp_path,))
    with pytest.raises(RecordingError, match=f"no recordings of '{FACTORS}'"):
        range_factors()
    path = tmp_path / FACTORS
    path.parent.mkdir()
    path.write_bytes(start)
    with pytest.raises(RecordingError, match=r"python -m recording\.range_factors"):
        range_factors()
