"""A network of the course or of the reader's own: its images, weights, tensors, cache and builds."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from trtlearn.errors import DataError, LiveUnavailable, ModelError
from trtlearn.model.course_data import load_images, model_path
from trtlearn.networks import network


def test_activations_of_every_image_come_back_in_order() -> None:
    images, _ = load_images("test")
    found = network("resnet").activations(images[:70], ["image", "logits"])  # more than one batch
    assert found["logits"].shape == (70, 10)
    assert np.array_equal(found["image"], images[:70])
    with pytest.raises(ModelError, match="no such"):
        network("resnet").activations(images[:2], ["no such"])


def test_weights_are_float32_and_named_as_in_the_file() -> None:
    found = network("mobile").weights()
    assert all(array.dtype == np.float32 for array in found.values())
    assert any(name.endswith(".weight") and array.ndim == 4 for name, array in found.items())


def test_a_network_s_builds_show_themselves_as_a_table() -> None:
    builds = network("detector", mode="recorded").builds("fp32", "int8-minmax")
    assert repr(builds) == "<2 builds: fp32, int8-minmax>"
    one, other = builds.rows()
    assert (one["variant"], one["with INT8 weights"]) == ("fp32", 0)
    assert other["right or mAP50 %"] == pytest.approx(97.8, abs=0.05)
    assert str(other["plan bytes"]) in builds._repr_html_()


def test_a_file_of_ones_own_has_everything_but_recordings(tmp_path: Path) -> None:
    """The same calls on a copy of a course network; its builds are live, and say so where there is no GPU."""
    path = tmp_path / "my.onnx"
    path.write_bytes(model_path("mobile").read_bytes())
    images, labels = load_images("calibration")
    np.save(tmp_path / "images.npy", images[:16])
    own = network(path, data=tmp_path / "images.npy", labels=labels[:16])
    assert (own.name, str(own), own.recorded, own.studies) == ("my", "my", False, ())
    assert own.input_shape == network("mobile").input_shape == (1, 28, 28)
    assert np.array_equal(own.images(), images[:16])
    assert np.array_equal(own.labels(), labels[:16])
    assert own.weights().keys() == network("mobile").weights().keys()
    ours = own.calibrate("minmax")
    assert dict(ours) == dict(network("mobile").calibrate("minmax", images[:16]))
    assert own.activations(names=["logits"])["logits"].shape == (16, 10)
    with pytest.raises(LiveUnavailable, match="tensorrt"):
        own.build("fp32")


def test_what_a_file_came_without_is_asked_for(tmp_path: Path) -> None:
    (tmp_path / "my.onnx").write_bytes(model_path("mobile").read_bytes())
    own = network(tmp_path / "my.onnx")
    for call in (own.images, own.labels, own.calibrate):
        with pytest.raises(DataError, match="came without"):
            call()
    with pytest.raises(DataError, match="no model 'vgg'"):
        network("vgg")
    with pytest.raises(ModelError, match="no such file"):
        network(tmp_path / "vgg.onnx")
