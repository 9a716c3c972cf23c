"""recording/layers.py over the fake TensorRT."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from recording import layers
from trtlearn.engine.records import Provenance
from trtlearn.model.course_data import MODELS
from trtlearn.recorded.files import load_build

IMAGES = np.random.default_rng(0).normal(size=(16, 1, 2, 2)).astype(np.float32)


@pytest.fixture
def small(fake: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """The fake, with images of its network's shape."""
    monkeypatch.setattr(layers, "load_images", lambda split: (IMAGES, np.zeros(16, int)))
    monkeypatch.setattr(layers, "provenance", lambda *given, **named: Provenance(tensorrt="fake"))
    # the fake network takes small images, whatever the file of the course's network says
    monkeypatch.setattr("trtlearn.live.build._check_data", lambda calibrator, model: None)
    return fake


def test_the_cache_of_images_that_are_all_zero_is_kept(
    small: dict[str, Any], tmp_path: Path
) -> None:
    said = layers.zero_images(tmp_path, ())
    study = load_build(tmp_path / "studies" / "resnet-zero-images.json")
    assert study.error is None
    assert study.calibration is not None
    assert study.calibration.algorithm == "minmax"
    assert study.calibration.batches == 1
    assert (study.calibration.cache or "")[:20] in said


@pytest.mark.parametrize("model", MODELS)
def test_the_studies_have_names_of_their_own_and_ask_for_what_they_say(model: str) -> None:
    plans = layers.plans(model)
    assert len({plan.name for plan in plans}) == len(plans) >= 20
    for plan in plans:
        assert plan.question.strip()
        assert ("fp16" in plan.name) <= (
            plan.options.fp16 or "fp16" in plan.options.layer_precisions.values()
        )
        if plan.name.startswith("missing"):
            ranges = layers.ranges_of(plan, model, Path("nowhere"))
            assert not set(plan.drop) & set(ranges)
            whole = layers.ranges_of(replace(plan, drop=()), model, Path("nowhere"))
            assert set(whole) == set(ranges) | set(plan.drop)


def test_the_build_that_stands_alone_has_no_timing_cache(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    seen: dict[str, Any] = {}

    def stop(*given: Any, **named: Any) -> Any:
        seen[named["name"]] = named["timing_cache"]
        raise layers.BuildError("enough")

    monkeypatch.setattr(layers, "run_variant", stop)
    monkeypatch.setattr(layers, "provenance", lambda *given, **named: Provenance(tensorrt="fake"))
    for plan in layers.plans("resnet"):
        if plan.name in ("missing-one", "missing-one-fp16"):
            layers.make("resnet", plan, tmp_path, tmp_path / "resnet.timing", 1)
    assert seen == {"missing-one": tmp_path / "resnet.timing", "missing-one-fp16": None}
    assert load_build(tmp_path / "studies" / "resnet-missing-one.json").error == "enough"


def test_an_unknown_argument_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["record_layers.py", "--out", "x", "--no-such"])
    with pytest.raises(SystemExit):
        layers.main()
