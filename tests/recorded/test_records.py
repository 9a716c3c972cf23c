"""Records show themselves, go to JSON and back, and refuse what does not fit."""

from __future__ import annotations

import gc
import math
from dataclasses import dataclass
from typing import Any

import pytest

from trtlearn.builds import Build
from trtlearn.engine.layers import EngineInfo
from trtlearn.engine.records import BuildOptions, BuildReport, Provenance, TensorRange
from trtlearn.errors import RecordingError
from trtlearn.record import Record, without_collector


@dataclass(frozen=True)
class Ragged(Record):
    note: str = ""

    def rows(self) -> list[dict[str, Any]]:
        return [{"a": 1}, {"a": 2, "b": "<x>"}]


def test_a_cell_that_a_row_lacks_is_unknown() -> None:
    assert str(Ragged()).splitlines()[1:] == ["a  b", "1  unknown", "2  <x>"]
    assert "&lt;x&gt;" in Ragged()._repr_html_()
    assert "unknown" in Ragged()._repr_html_()


def test_json_and_back_with_nan_and_infinity() -> None:
    report = BuildReport(
        BuildOptions(), 1.0, None, scales=(TensorRange("a", math.nan, math.inf, "log"),)
    )
    experiment = Build("m", "v", Provenance(gpu="x"), report, EngineInfo(()))
    back = Build.from_json(experiment.to_json())
    scale = back.build.scales[0]
    assert scale.amax is not None
    assert math.isnan(scale.amax)
    assert scale.scale == math.inf
    assert back.build.options == experiment.build.options


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("{", "not JSON"),
        ("[]", "expected a JSON object"),
        ('{"gpu": 3}', "Provenance.gpu"),
        ('{"surprise": 1}', "unknown fields"),
    ],
)
def test_what_does_not_fit_is_named(text: str, says: str) -> None:
    with pytest.raises(RecordingError, match=says):
        Provenance.from_json(text)


def test_a_missing_field_is_named() -> None:
    with pytest.raises(RecordingError, match="TensorRange lacks"):
        TensorRange.from_json('{"name": "x"}')


@without_collector()
def fail() -> None:
    assert not gc.isenabled()
    with without_collector():
        pass
    assert not gc.isenabled()
    raise ValueError("x")


def test_the_collector_works_again_after_an_error() -> None:
    with pytest.raises(ValueError, match="x"):
        fail()
    assert gc.isenabled()
