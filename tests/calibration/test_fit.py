"""`fit`: every range beside its data, the worst first, over TensorRT's own caches and over a reader's files."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
from onnx import TensorProto, helper

import trtlearn
from trtlearn.calibration.cache import new_cache, read_cache
from trtlearn.calibration.fitting import CODES, FitReport, RangeMeter, fit, fit_tensors
from trtlearn.calibration.network import calibrate
from trtlearn.errors import CacheError, DataError, ModelError
from trtlearn.int8.quant import quantize
from trtlearn.model.course_data import MODELS, load_images, model_path
from trtlearn.networks import network
from trtlearn.recorded.files import recording_folders

IMAGES = load_images("calibration")[0]
FOLDERS = [folder for folder in recording_folders() if (folder / "resnet").is_dir()]
rng = np.random.default_rng(0)


def recorded(model: str, algorithm: str, folder=FOLDERS[0]) -> FitReport:
    return fit(folder / model / f"int8-{algorithm}.cache", model_path(model), IMAGES[:128])


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: folder.name)
@pytest.mark.parametrize("model", MODELS)
def test_the_spike_of_the_digits_comes_first(model, folder):
    for algorithm in ("entropy2", "entropy"):
        report = recorded(model, algorithm, folder)
        assert "image" in [tensor.name for tensor in report.tensors[:2]]
        assert report["image"].verdict == "too small"
        assert report["image"].clipped > 0.1
        assert report["image"].largest == pytest.approx(float(IMAGES[:128].max()))
        assert not report.all_fit
        assert "Look first at" in report.summary()
    for algorithm in ("minmax", "legacy"):
        report = recorded(model, algorithm, folder)
        assert report.all_fit
        assert "all fit" in report.summary()
        assert not report.stale


def test_what_the_cache_and_the_model_do_not_share_is_listed():
    report = recorded("resnet", "entropy2")
    assert len(report.internal) == 4
    assert all(name.startswith("(Unnamed Layer* ") for name in report.internal)
    assert report["pool"].note == "shares the range of stem_relu"
    assert "stem" in recorded("resnet", "legacy").missing
    cache = new_cache({"old": 1.0, "image": 0.1})
    other = fit(cache, model_path("resnet"), IMAGES[:8])
    assert other.stale == ("old",)
    assert "not in the model: old" in other.summary()
    assert f"{len(other.missing)} tensors without a range: stem, …" in other.summary()
    assert "without a range" not in report.summary()
    assert set(other.missing) == set(report.missing) | {t.name for t in report.tensors} - {"image"}


@pytest.mark.parametrize("model", MODELS)
def test_placeholder_ranges_do_not_fit(model):
    report = fit(network(model).build("int8-placeholder"), model_path(model), IMAGES[:64])
    assert len(report.poor) >= 2
    assert {tensor.verdict for tensor in report.poor} == {"too small"}
    narrow = fit({"image": 1000.0}, model_path(model), IMAGES[:64])
    assert narrow.tensors[0].verdict == "too large"
    assert narrow.tensors[0].codes < 3
    assert "times as wide" in narrow.tensors[0].advice


@pytest.mark.parametrize("amax", [0.3, 1.0, 3.9, 40.0, 1e4])
def test_the_numbers_are_those_of_the_arithmetic(amax):
    x = rng.normal(size=100_000).astype(np.float32)
    meter = RangeMeter(amax)
    for part in np.array_split(x, 7):
        meter.observe(part)
    found, codes = meter.result("x"), quantize(x, meter.scale, qmin=-127)
    error = x - codes * np.float64(meter.scale)
    assert found.codes == len(np.unique(codes))
    assert found.clipped == np.mean(np.abs(x) / np.float32(meter.scale) > 127.5)
    sqnr_db = 10 * np.log10(np.sum(x.astype(np.float64) ** 2) / np.sum(error**2))
    assert found.sqnr_db == pytest.approx(sqnr_db, abs=1e-3)
    share = float(np.mean(np.abs(x) <= found.most))
    assert share >= 0.999
    assert found.most <= max(np.quantile(np.abs(x), 0.999) * 1.04, meter.scale)


def test_a_few_large_values_are_told_from_a_wide_range():
    x = np.append(rng.normal(size=200_000), 900).astype(np.float32)
    report = fit_tensors({"x": 900.0, "y": 1e6}, {"x": x, "y": x, "z": x})
    assert {tensor.name: tensor.verdict for tensor in report.tensors} == {
        "x": "outliers",
        "y": "too large",
    }
    assert report.missing == ("z",)


def test_only_zeros_tell_nothing():
    """The biases give the inner tensors values: they are no data, nor is what they say advice."""
    cache = calibrate(model_path("resnet"), IMAGES[:32], "minmax")
    report = fit(cache, model_path("resnet"), np.zeros_like(IMAGES[:8]))
    assert report["stem"].largest > 0
    assert any(tensor.advice for tensor in report.tensors)
    assert not report.all_fit
    assert not report.poor
    assert "only zeros, they tell nothing" in report.summary()
    assert "all fit" not in report.summary()
    one = np.zeros_like(IMAGES[:8])
    one[3, 0, 5, 5] = 0.5
    assert "only zeros" not in fit(cache, model_path("resnet"), one).summary()
    assert not fit_tensors({"x": 1.0}, {"x": np.zeros(4)}).all_fit
    assert fit_tensors({"x": 1.0, "y": 1.0}, {"x": np.zeros(4), "y": np.ones(4)}).all_fit


@pytest.mark.parametrize("amax", [0.0, 1e-38, 1e-30, 3e38])
def test_extreme_ranges_never_overflow(amax):
    for value in (0.0, 1e-40, 1.0, 3e38):
        report = fit_tensors({"x": amax}, {"x": np.array([value, -value / 2, 0], np.float32)})
        tensor = report.tensors[0]
        assert 0 <= tensor.clipped <= 1
        assert 1 <= tensor.codes <= CODES
        assert tensor.sqnr_db is None or math.isfinite(tensor.sqnr_db)
        assert (tensor.verdict == "all 0") == (np.float32(value) == 0)
    nothing = fit_tensors(new_cache({"x": 0.0}), {"x": np.ones(4, np.float32)}).tensors[0]
    assert (nothing.verdict, nothing.clipped, nothing.codes) == ("too small", 1, 1)


def test_every_kind_of_ranges_and_data_and_json(tmp_path):
    cache = calibrate(model_path("resnet"), IMAGES[:32], "minmax")
    path = cache.save(tmp_path / "a.cache")
    np.save(tmp_path / "images.npy", IMAGES[:32])
    first = fit(cache, model_path("resnet"), IMAGES[:32])
    assert fit(path, model_path("resnet"), tmp_path / "images.npy") == first
    assert (first.batches, first.batch) == (4, 8)
    assert FitReport.from_json(first.to_json()) == first
    streamed = fit(str(path), network("resnet"), (IMAGES[at : at + 8] for at in (0, 8, 16, 24)))
    assert streamed.tensors == first.tensors
    amax = {name: cache.entry(name).amax for name in cache}
    by_name = fit(amax, model_path("resnet").read_bytes(), {"image": IMAGES[:32]})
    assert [t.name for t in by_name.tensors] == [t.name for t in first.tensors]
    assert trtlearn.fit is fit
    assert len(json.loads(json.dumps(first.to_dict()))["tensors"]) == len(cache)


def test_bad_input_is_one_clear_error(tmp_path):
    model = model_path("resnet")
    for ranges, data, kind, words in (
        (tmp_path / "none", IMAGES[:8], CacheError, "no such file"),
        ({}, IMAGES[:8], DataError, "no range"),
        ({"image": float("nan")}, IMAGES[:8], DataError, "finite amax"),
        ({"image": -1.0}, IMAGES[:8], DataError, "finite amax"),
        ({"other": 1.0}, IMAGES[:8], DataError, "compare names"),
        ({"image": 1.0}, IMAGES[:8] * np.inf, DataError, "NaN or infinity"),
        ({"image": 1.0}, [], DataError, "no batch"),
        (network("resnet").build("fp32"), IMAGES[:8], DataError, "no ranges"),
    ):
        with pytest.raises(kind, match=words) as caught, np.errstate(invalid="ignore"):
            fit(ranges, model, data)
        assert "\n" not in str(caught.value)
    with pytest.raises(ModelError):
        fit({"image": 1.0}, tmp_path / "none.onnx", IMAGES[:8])
    graph = helper.make_graph(
        [helper.make_node("Log", ["x"], ["y"], "log")],
        "log",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 4])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
    )
    opset = [helper.make_opsetid("", 13)]
    log = helper.make_model(graph, opset_imports=opset, ir_version=8).SerializeToString()
    with pytest.raises(DataError, match="tensor 'y': NaN or infinity"):
        fit({"y": 1.0}, log, np.zeros((8, 4), np.float32))


def test_a_report_draws_itself():
    show = pytest.importorskip("trtlearn.show.tensor_ranges")
    report = fit(FOLDERS[0] / "resnet/int8-entropy2.cache", model_path("resnet"), IMAGES[:32])
    figure = show.fit(report, source="test")
    assert list(figure.data[0].customdata) == [tensor.name for tensor in report.tensors]
    assert list(figure.data[0].x) == [tensor.amax for tensor in report.tensors]
    assert any(note.text.startswith("clips") for note in figure.layout.annotations)
    cache = read_cache(FOLDERS[0] / "resnet/int8-entropy2.cache")
    assert len(show.scales({"entropy2": cache}).data[0].x) == len(cache)
