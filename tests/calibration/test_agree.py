"""`agree`: our scales beside a cache's, over the course's model, with every kind of disagreement
explained.
"""

import json

import numpy as np
import pytest

from trtlearn.calibration import cache as c
from trtlearn.calibration import edit
from trtlearn.calibration.agreement import agree
from trtlearn.calibration.network import calibrate
from trtlearn.errors import CacheError, DataError, ModelError
from trtlearn.model.course_data import load_images, model_path

IMAGES = load_images("calibration")[0][:32]
MODEL = model_path("resnet")


def own_cache(kind: str, batch: int = 8, **settings) -> c.CalibrationCache:
    """The cache that TensorRT would write if its rule were ours, ties and all."""
    return calibrate(MODEL, IMAGES, kind, batch, **settings)


@pytest.fixture(scope="module")
def entropy() -> c.CalibrationCache:
    return own_cache("entropy2")


@pytest.mark.parametrize("kind", ["minmax", "legacy"])
def test_all_agree_with_a_cache_of_the_same_rule(kind):
    report = agree(MODEL, IMAGES, own_cache(kind))
    assert report.all_agree
    assert all(t.explanation is None for t in report.tensors)


@pytest.mark.parametrize("batch", [4, 8])
def test_the_batch_size_is_found_from_the_networks_input(batch):
    report = agree(MODEL, IMAGES, own_cache("entropy2", batch))
    assert report.all_agree
    assert report.batch == batch
    assert report.batches == 32 // batch
    assert any("batch size" in note for note in report.notes)


def test_a_changed_scale_is_found_and_explained(entropy):
    name = entropy.names[3]
    broken = entropy.with_scale(name, 1.5 * entropy[name])
    report = agree(MODEL, IMAGES, broken, batch=8)
    wrong = [t for t in report.tensors if not t.agrees()]
    assert [t.name for t in wrong] == [name]
    assert wrong[0].relative_difference == pytest.approx(1 / 3, rel=1e-5)
    assert wrong[0].explanation
    assert not report.all_agree
    assert agree(MODEL, IMAGES, broken, batch=8, tolerance=0.5).all_agree


def test_another_tensors_scale_is_named(entropy):
    one, other = entropy.names[2], entropy.names[6]
    report = agree(MODEL, IMAGES, entropy.with_scale(one, entropy[other]), batch=8)
    row = next(t for t in report.tensors if t.name == one)
    assert other in (row.explanation or "")


@pytest.mark.parametrize("kind", ["minmax", "entropy2", "legacy"])
def test_data_too_small_for_a_scale_are_compared(kind):
    images = np.full((8, 1, 28, 28), 1e-45, np.float32)  # 1e-45 / 127 is 0 in float32
    report = agree(model_path("resnet"), images, c.new_cache({"image": 0.5}, kind), batch=8)
    assert (report.tensors[0].ours, report.tensors[0].tensorrt) == (0.0, 0.5)


def test_stale_names_are_told_apart(entropy):
    softmax, shuffle = "(Unnamed Layer* 9) [Softmax]_output", "(Unnamed Layer* 12) [Shuffle]_output"
    renamed = edit.rename(
        entropy, dict(zip(entropy.names[2:5], ("gone", softmax, shuffle), strict=True))
    )
    rows = {t.name: t for t in agree(MODEL, IMAGES, renamed, batch=8).tensors}
    assert "stale" in (rows["gone"].explanation or "")
    assert rows["gone"].ours is None
    assert rows["gone"].relative_difference is None
    assert "parser" in (rows[softmax].explanation or "")
    assert rows[shuffle].agrees()
    assert rows[shuffle].onnx_tensor in entropy.names


def test_facts_are_json_with_stable_keys(entropy):
    facts = json.loads(json.dumps(agree(MODEL, IMAGES, entropy, batch=8).facts(), allow_nan=False))
    assert len(facts["tensors"]) == len(entropy.names)
    for tensor in facts["tensors"]:
        assert {"name", "ours", "tensorrt", "relative_difference", "explanation"} <= set(tensor)


def test_files_work_like_arrays(entropy, tmp_path):
    np.save(tmp_path / "images.npy", IMAGES)
    np.savez(tmp_path / "images.npz", image=IMAGES)
    entropy.save(tmp_path / "x.cache")
    for data in ("images.npy", "images.npz"):
        assert agree(MODEL, tmp_path / data, tmp_path / "x.cache", batch=8).all_agree


def test_bad_input_is_one_clear_error(entropy, tmp_path):
    with pytest.raises(CacheError):
        agree(MODEL, IMAGES, tmp_path / "missing")
    with pytest.raises(ModelError):
        agree(tmp_path / "missing.onnx", IMAGES, entropy)
    with pytest.raises(DataError):
        agree(MODEL, tmp_path / "missing.npy", entropy)
    with pytest.raises(DataError, match="shape"):
        agree(MODEL, IMAGES[:, :, :5], entropy, batch=8)
    with pytest.raises(DataError, match="batch"):
        agree(MODEL, IMAGES, entropy, batch=1000)
    with pytest.raises(DataError, match="tolerance"):
        agree(MODEL, IMAGES, entropy, tolerance=-1)
    with pytest.raises(DataError, match="rows"):
        agree(MODEL, IMAGES[:0], entropy)


def test_the_legacy_calibrators_settings_come_from_the_header():
    made = own_cache("legacy", quantile=0.99, cutoff=0.5)
    told = edit.with_header(made, header=c.make_header("legacy", quantile=0.99, cutoff=0.5))
    assert agree(MODEL, IMAGES, told, batch=8).all_agree
    other = edit.with_header(made, header=c.make_header("legacy"))
    assert not agree(MODEL, IMAGES, other, batch=8).all_agree


def test_a_line_that_ends_elsewhere_is_named():
    made = own_cache("legacy", cutoff=0.5)
    told = edit.with_header(made, header=c.make_header("legacy", cutoff=0.5))
    report = agree(MODEL, IMAGES, told, batch=8)
    fitted = next(
        name for name, threshold in report.thresholds.items() if threshold.bins_kept is None
    )
    other = told.with_scale(fitted, 1.0007 * told[fitted])
    (row,) = [t for t in agree(MODEL, IMAGES, other, batch=8).tensors if not t.agrees()]
    assert (row.name, "a line through the counts" in (row.explanation or "")) == (fitted, True)
