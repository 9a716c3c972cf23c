"""Arrays from outside: one check names what does not fit, files stay on disk, batches never overlap."""

import io
import os
import struct
import tracemalloc
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

import trtlearn as tl
from trtlearn.calibration.cache import new_cache
from trtlearn.errors import DataError, ModelError
from trtlearn.model.course_data import load_images, model_path
from trtlearn.model.data import (
    check_array,
    check_batch_size,
    check_finite,
    input_batches,
    input_data,
    load_arrays,
    load_labels,
)
from trtlearn.model.read import read_model

IMAGES = ("*", 1, 28, 28)


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ([[1.0]], "is a list"),
        (np.ma.masked_array(np.zeros((2, 1, 28, 28), np.float32)), "is a MaskedArray.*filled"),
        (np.zeros((2, 1, 28, 28)), "float64, expected float32"),
        (np.zeros((2, 28, 28), np.uint8), "normalise"),
        (np.zeros((2, 28, 28), np.float32), r"\[2,28,28\], expected \[\*,1,28,28\]"),
        (np.zeros((2, 28, 28, 1), np.float32), r"\[2,28,28,1\], expected"),
        (np.float32(3)[()], "is a float32, expected a numpy array"),
        (np.zeros((), np.float32), r"shape \[\], expected \[\*,1,28,28\]"),
        (np.zeros((2, 1, 1, 1, 28, 28), np.float32), r"\[2,1,1,1,28,28\], expected"),
        (np.zeros((0, 1, 28, 28), np.float32), "empty"),
        (np.full((2, 1, 28, 28), np.nan, np.float32), "NaN or infinity: 1,568 such values"),
    ],
)
def test_wrong_images_are_refused(value, message):
    with pytest.raises(DataError, match=message):
        check_array(value, "image", "float32", IMAGES)


def test_the_first_infinity_is_named_and_good_images_pass():
    images, _ = load_images("test")
    assert check_array(images, "image", "float32", IMAGES) is images
    turned = images.transpose(0, 1, 3, 2)
    assert check_array(turned, "image", "float32", IMAGES).flags.c_contiguous
    images[3, 0, 5, 9] = -np.inf
    with pytest.raises(DataError, match=r"1 such value, the first \(-inf\) at \[3, 0, 5, 9\]"):
        check_array(images, "image", "float32", IMAGES)
    assert check_array(np.zeros((4, 7), np.float32), "x").shape == (4, 7)


def test_values_are_checked_a_part_at_a_time():
    many = np.zeros((3000, 1000), np.float32)
    many[2000:, 7] = np.nan
    with pytest.raises(DataError, match=r"1,000 such values, the first \(nan\) at \[2000, 7\]"):
        check_finite(many, "x")
    check_finite(np.array(1.0), "x")
    with pytest.raises(DataError, match=r"at \[0\]"):
        check_finite(np.array(np.inf), "x")


@pytest.mark.parametrize("batch", [0, -1, True, 1.5, "8"])
def test_a_batch_size_is_a_whole_number(batch):
    with pytest.raises(DataError, match="batch size"):
        check_batch_size(batch)


def test_arrays_of_files_stay_on_disk(tmp_path):
    x = np.arange(24, dtype=np.float32).reshape(4, 6)
    np.save(tmp_path / "x.npy", x)
    np.savez(tmp_path / "x.npz", a=np.asfortranarray(x), b=x[:, ::2], none=x[:0])
    np.savez_compressed(tmp_path / "small.npz", a=x)
    single = load_arrays(tmp_path / "x.npy", ["a"])["a"]
    several = load_arrays(tmp_path / "x.npz", ["a", "b", "none"])
    for array, expected in ((single, x), (several["a"], x), (several["b"], x[:, ::2])):
        np.testing.assert_array_equal(array, expected)
        assert isinstance(array.base, np.memmap)
    assert several["none"].shape == (0, 6)
    np.testing.assert_array_equal(load_arrays(tmp_path / "small.npz", ["a"])["a"], x)
    with zipfile.ZipFile(tmp_path / "odd.npz", "w") as archive:
        archive.writestr("a.npy", b"no array")
    for name in ("odd.npz", "missing.npz"):
        with pytest.raises(DataError, match=name):
            load_arrays(tmp_path / name, ["a"])


def test_batches_are_those_of_the_data_or_given():
    model, images = read_model(model_path("resnet")), load_images("calibration")[0][:20]
    data = input_data(model, images, 8)
    assert (len(data), data.facts.rows_used) == (2, 16)
    for _ in range(2):  # as often as wanted
        assert [batch["image"].shape[0] for batch in data] == [8, 8]
    parts = [images[:4], images[4:8]]
    assert input_batches(model, parts) is parts
    for wrong in (7, None, ""):
        with pytest.raises(DataError):
            input_batches(model, wrong)


def _refusals(folder: Path) -> dict[str, tuple[Callable[[], Any], str]]:
    """Calls with packed arrays that do not fit, and what each is told."""
    long_header = io.BytesIO(b"\x93NUMPY\x02\x00" + struct.pack("<I", 60 << 20) + bytes(60 << 20))
    packed = {
        "shape": [("image.npy", np.zeros((1 << 12, 64, 64), np.float32))],
        "type": [("image.npy", np.zeros((1 << 13, 1, 28, 28)))],
        "classes": [("labels.npy", np.zeros(1 << 23, np.int64))],
        "boxes": [
            ("boxes.npy", np.zeros((1 << 12, 256, 4), np.float64)),
            ("classes.npy", np.zeros((1 << 12, 255), np.int64)),
        ],
        "header": [("image.npy", long_header.getvalue())],
    }
    for name, members in packed.items():
        with zipfile.ZipFile(folder / f"{name}.npz", "w", zipfile.ZIP_DEFLATED, True, 1) as archive:
            for member, content in members:
                with archive.open(member, "w") as file:
                    if isinstance(content, bytes):
                        file.write(content)
                    else:
                        np.lib.format.write_array(file, content)
    model, cache = model_path("resnet"), new_cache({"image": 0.02}, "minmax")
    data = {name: folder / f"{name}.npz" for name in packed}
    return {
        "calibrate": (lambda: tl.calibrate(model, data["shape"]), r"\[4096,64,64\]"),
        "agree": (lambda: tl.agree(model, data["shape"], cache), r"\[4096,64,64\]"),
        "network": (lambda: tl.network(model, data=data["type"]), "float64, expected float32"),
        "labels": (lambda: load_labels(data["classes"], 8), r"\[8388608\]"),
        "boxes": (lambda: load_labels(data["boxes"], 8), r"boxes \[4096, 256, 4\]"),
        "header": (lambda: tl.calibrate(model, data["header"]), "no .npy or .npz file"),
    }


def test_arrays_that_do_not_fit_are_refused_before_they_are_unpacked(tmp_path: Path) -> None:
    for name, (call, message) in _refusals(tmp_path).items():
        tracemalloc.start()
        with pytest.raises(DataError, match=message):
            call()
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert peak < 16 << 20, name


def test_a_network_that_takes_no_such_data_is_named_and_long_lists_of_arrays_are_cut(tmp_path):
    value = onnx.helper.make_tensor_value_info
    ends = [value(name, onnx.TensorProto.BFLOAT16, ["n", 2]) for name in "xy"]
    graph = onnx.helper.make_graph(
        [onnx.helper.make_node("Identity", ["x"], ["y"])], "g", ends[:1], ends[1:]
    )
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 17)])
    np.save(tmp_path / "x.npy", np.zeros((8, 2), np.float32))
    with pytest.raises(ModelError, match=r"^input 'x' is bf16, which trtlearn cannot feed"):
        input_data(read_model(model.SerializeToString()), tmp_path / "x.npy")
    np.savez(tmp_path / "many.npz", **{f"a{index:03}": np.zeros(1) for index in range(300)})
    with pytest.raises(DataError, match=r"a018, a019, …, expected arrays for the inputs x: x is"):
        load_arrays(tmp_path / "many.npz", ["x"])


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="Windows has no such pipes")
def test_data_in_a_pipe_are_refused_by_name(tmp_path):
    reader, writer = os.pipe()
    with os.fdopen(writer, "wb") as file:
        file.write(b"\x93NUMPY and more")
    with os.fdopen(reader), pytest.raises(DataError, match=r"is a pipe, .* write them to a file"):
        load_arrays(f"/dev/fd/{reader}", ["x"])
