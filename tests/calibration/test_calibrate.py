"""`calibrate`: the cache that TensorRT writes, from every kind of data, in memory that does not grow."""

from __future__ import annotations

import sys
import tracemalloc

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from trtlearn.calibration.cache import format_cache, read_cache
from trtlearn.calibration.network import calibrate, progress_line
from trtlearn.errors import DataError, ModelError
from trtlearn.model.course_data import MODELS, load_images, model_path
from trtlearn.recorded.files import recording_folders

IMAGES = load_images("calibration")[0]
FOLDER = next(folder for folder in recording_folders() if (folder / "resnet").is_dir())
NEAR_TIES = {"mobile": ("entropy2",)}  # one tensor, decided by the activations' last bits


def small(nodes, shape=("n", 4), outputs=("y",)):
    graph = helper.make_graph(
        nodes,
        "small",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in outputs],
    )
    opset = [helper.make_opsetid("", 13)]
    return helper.make_model(graph, opset_imports=opset, ir_version=8).SerializeToString()


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("algorithm", ["entropy2", "minmax", "legacy", "entropy"])
def test_the_scales_are_tensorrts_ties_included(model, algorithm):
    theirs = read_cache(FOLDER / model / f"int8-{algorithm}.cache")
    ours = calibrate(model_path(model), IMAGES, algorithm)
    assert ours.kind == theirs.kind
    assert (ours.cutoff, ours.quantile) == (theirs.cutoff, theirs.quantile)
    shared = [name for name in ours if name in theirs]
    apart = [name for name in shared if abs(ours[name] / theirs[name] - 1) > 1e-6]
    assert len(apart) <= (algorithm in NEAR_TIES.get(model, ()))
    assert len(shared) >= 12


class Network:
    """Anything with a path."""

    path = model_path("resnet")


def test_every_kind_of_model_and_data_gives_the_same_cache(tmp_path):
    images = IMAGES[:20]
    np.save(tmp_path / "images.npy", images)
    np.savez(tmp_path / "images.npz", image=images)
    np.savez_compressed(tmp_path / "small.npz", image=images)
    batches = [images[:8], images[8:16]]
    expected = format_cache(calibrate(model_path("resnet"), images))
    kinds = {"image": images}, batches, iter(batches), ({"image": x} for x in batches)
    files = (tmp_path / name for name in ("images.npy", "images.npz", "small.npz"))
    for data in (*kinds, *files, str(tmp_path / "images.npy")):
        assert format_cache(calibrate(Network(), data)) == expected
    assert format_cache(calibrate(model_path("resnet").read_bytes(), images)) == expected
    assert format_cache(calibrate(onnx.load(model_path("resnet")), images)) == expected


def test_the_batch_is_the_networks_where_it_is_fixed():
    relu = [helper.make_node("Relu", ["x"], ["y"], "relu")]
    data, seen = np.ones((9, 4), np.float32), []
    calibrate(small(relu, (2, 4)), data, progress=lambda done, count: seen.append((done, count)))
    assert seen == [(1, 4), (2, 4), (3, 4), (4, 4)]


def test_settings_are_the_observers_and_stand_in_a_legacy_header():
    cache = calibrate(model_path("resnet"), IMAGES[:8], "legacy", quantile=0.99, cutoff=0.5)
    assert (cache.quantile, cache.cutoff) == (0.99, 0.5)
    wide = calibrate(model_path("resnet"), IMAGES[:8], "percentile", percentile=100)
    narrow = calibrate(model_path("resnet"), IMAGES[:8], "percentile", percentile=90)
    assert wide["image"] > narrow["image"]
    assert wide.kind == "entropy2"
    with pytest.raises(DataError, match="quantile"):
        calibrate(model_path("resnet"), IMAGES[:8], "legacy", quantile=2)


def test_memory_does_not_grow_with_the_batches():
    relu = small([helper.make_node("Relu", ["x"], ["y"], "relu")], ("n", 1000))

    def peak(count: int) -> int:
        batches = (np.full((50, 1000), 1 + i % 3, np.float32) for i in range(count))
        tracemalloc.start()
        calibrate(relu, batches)
        peak_bytes = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return peak_bytes

    peak(2)  # what is made once
    assert peak(120) < 0.2 * 120 * 50 * 1000 * 4  # threads' work on a batch overlaps, or does not


def test_zeros_that_a_shape_makes_are_nobodys_fault(recwarn):
    nodes = [
        helper.make_node("Shape", ["x"], ["s"]),
        helper.make_node("ConstantOfShape", ["s"], ["zeros"]),
        helper.make_node("Add", ["x", "zeros"], ["y"]),
    ]
    cache = calibrate(small(nodes), np.ones((128, 4), np.float32), "minmax")
    assert cache["zeros"] == 0
    assert not recwarn
    with pytest.warns(UserWarning, match="all values are 0: x, y. Check the data"):
        calibrate(small(nodes), np.zeros((128, 4), np.float32), "minmax")


def test_what_becomes_infinite_gets_no_line():
    nodes = [
        helper.make_node("Log", ["x"], ["l"], "log"),
        helper.make_node("Exp", ["l"], ["y"], "exp"),
    ]
    zeros = np.zeros((8, 4), np.float32)
    with pytest.warns(UserWarning, match="no scale for .*: l$"):
        cache = calibrate(small(nodes), zeros, "minmax")
    assert list(cache) == ["x", "y"]
    with pytest.raises(DataError, match="'l' becomes NaN or infinite"):
        calibrate(small(nodes, outputs=("l", "y")), zeros, "minmax")


def test_bad_input_is_one_clear_error(tmp_path):
    model = model_path("resnet")
    for data, words in (
        (None, "no data given for 'image'"),
        (tmp_path / "none.npy", "no such file"),
        (IMAGES.astype(np.float64), "image' is float64, expected float32"),
        (IMAGES[:, :, :5], r"shape \[512,1,5,28\]"),
        ({"other": IMAGES}, "no data for input 'image'"),
        (np.full_like(IMAGES[:8], np.nan), "NaN or infinity"),
        (IMAGES[:0], "empty"),
        ([], "no batch"),
        ([IMAGES[:8], IMAGES[:8].astype(np.float64)], "batch 1: image is float64"),
        ([IMAGES[:8].tolist()], "is a list"),
        (3, "the data are a int"),
    ):
        with pytest.raises(DataError, match=words) as caught:
            calibrate(model, data)
        assert "\n" not in str(caught.value)
    for batch in (0, "8"):
        with pytest.raises(DataError, match="batch size"):
            calibrate(model, IMAGES, batch=batch)
    with pytest.raises(DataError, match="no calibrator 'best'"):
        calibrate(model, IMAGES, "best")
    for wrong in (None, 3, tmp_path / "none.onnx"):
        with pytest.raises(ModelError):
            calibrate(wrong, IMAGES)
    to_int = small([helper.make_node("Cast", ["x"], ["y"], "cast", to=TensorProto.INT32)])
    assert list(calibrate(to_int, np.ones((8, 4), np.float32))) == ["x"]


def test_progress_is_a_line_on_a_terminal_only(capsys, monkeypatch):
    monkeypatch.delitem(sys.modules, "ipykernel", raising=False)  # other tests may have loaded it
    calibrate(model_path("resnet"), IMAGES[:16])
    assert capsys.readouterr().err == ""
    monkeypatch.setattr("trtlearn.calibration.network.PATIENCE_SECONDS", -1.0)
    progress_line("calibrating")(1, 2)
    assert capsys.readouterr().err == ""
    monkeypatch.setattr("sys.stderr.isatty", lambda: True, raising=False)
    report = progress_line("calibrating")
    report(1, None)
    report(2, 2)
    lines = capsys.readouterr().err.split("\r")
    assert lines[-1] == "calibrating: batch 2 of 2\n"
    assert "unknown number" in lines[1]
