"""ONNX files from anybody: read right, or refused in one clear line."""

from __future__ import annotations

import contextlib
import os

import numpy as np
import onnx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from trtlearn.errors import DataError, ModelError
from trtlearn.model import course_data, read
from trtlearn.model.data import feeds, load_arrays
from trtlearn.model.graph import OnnxModel
from trtlearn.model.read import load_proto, read_model, serialized
from trtlearn.model.run import _line, activations

RESNET = course_data.model_path("resnet").read_bytes()


def small(nodes, initializers=(), inputs=("x",), outputs=("y",), shape=("n", 4)):
    """A model of a few nodes, as a proto."""
    made = helper.make_graph(
        list(nodes),
        "small",
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name in inputs],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in outputs],
        list(initializers),
    )
    model = helper.make_model(made, opset_imports=[helper.make_opsetid("", 13)])
    model.ir_version = 8
    return model


def weight(name="w", value=None):
    return numpy_helper.from_array(np.ones((4, 4), np.float32) if value is None else value, name)


def matmul():
    return small([helper.make_node("MatMul", ["x", "w"], ["y"], "product")], [weight()])


def external(model, **entries):
    """The model with its weight declared to lie outside, as the entries say."""
    tensor = model.graph.initializer[0]
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    for key, value in entries.items():
        tensor.external_data.add(key=key, value=str(value))
    return model


def test_a_record_says_what_the_file_holds():
    path = course_data.model_path("resnet")
    model = read_model(path)
    assert model.sha256 == course_data.model_card("resnet").sha256
    assert (model.opset, model.ir_version, model.size_bytes) == (13, 8, len(RESNET))
    assert model.parameters == course_data.model_card("resnet").parameters
    assert model.inputs[0].to_dict() == {
        "name": "image",
        "shape": ["batch", 1, 28, 28],
        "dtype": "fp32",
    }
    inputs = {node.name: node.inputs for node in model.nodes}
    assert inputs["b1_add"] == ("b1_conv2", "b1_proj")
    assert {node.name for node in model.consumers_of("b0_relu2")} == {"b1_conv1", "b1_proj"}
    assert model.tensors == ("image", *(node.outputs[0] for node in model.nodes))
    again = read_model(RESNET)
    assert (again.path, again.sha256, again.nodes) == (None, model.sha256, model.nodes)
    assert OnnxModel.from_json(model.to_json()).to_json() == model.to_json()


def test_constants_are_no_activations():
    nodes = [
        helper.make_node("Constant", [], ["c"], "c", value=weight("c")),
        helper.make_node("Transpose", ["w"], ["wt"], "wt"),
        helper.make_node("Add", ["wt", "c"], ["sum"], "sum"),
        helper.make_node("MatMul", ["x", "sum"], ["y"], "product"),
    ]
    assert read_model(small(nodes, [weight()]).SerializeToString()).tensors == ("x", "y")


def test_an_input_with_a_default_is_a_weight():
    model = matmul()
    model.graph.input.append(helper.make_tensor_value_info("w", TensorProto.FLOAT, [4, 4]))
    found = read_model(model.SerializeToString())
    assert [value.name for value in found.inputs] == ["x"]
    assert found.tensors == ("x", "y")


def test_qdq_is_seen_even_inside_a_branch():
    assert not read_model(RESNET).has_qdq
    scale, zero = weight("s", np.float32(0.1)), weight("z", np.int8(0))
    pair = [
        helper.make_node("QuantizeLinear", ["x", "s", "z"], ["q"], "q"),
        helper.make_node("DequantizeLinear", ["q", "s", "z"], ["y"], "dq"),
    ]
    assert read_model(small(pair, [scale, zero]).SerializeToString()).has_qdq
    inner = helper.make_graph(
        pair, "inner", [], [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)]
    )
    branch = helper.make_node("If", ["yes"], ["y"], "if", then_branch=inner, else_branch=inner)
    model = small([branch], [scale, zero, weight("yes", np.array(True))])
    assert read_model(model.SerializeToString()).has_qdq


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "empty"),
        (b"\x00", "no ONNX model"),
        (b"TRT-8600-EntropyCalibration2\nimage: 3caa0b5f\n", "no ONNX model"),
        (b'{"Layers": []}', "no ONNX model"),
        (RESNET[:1000], "no ONNX model"),
        (RESNET[:-1], "no ONNX model"),
        (RESNET[1:], "no ONNX model"),
    ],
)
def test_what_is_no_onnx_is_refused(tmp_path, content, message):
    path = tmp_path / "broken.onnx"
    path.write_bytes(content)
    for given_as in (path, content):
        with pytest.raises(ModelError, match=message):
            load_proto(given_as)


def test_missing_files_folders_and_giants_are_refused(tmp_path, monkeypatch):
    with pytest.raises(ModelError, match="no such file"):
        read_model(tmp_path / "none.onnx")
    with pytest.raises(ModelError, match="is a folder"):
        read_model(tmp_path)
    monkeypatch.setattr(read, "MAX_BYTES", 1000)
    with pytest.raises(ModelError, match="at most 1,000"):
        read_model(course_data.model_path("resnet"))


def test_every_cut_at_a_field_border_is_seen():
    model = onnx.load_model_from_string(RESNET)
    cuts = []
    for spoil in (
        lambda m: m.ClearField("opset_import"),
        lambda m: m.ClearField("ir_version"),
        lambda m: m.graph.ClearField("node"),
        lambda m: m.graph.ClearField("output"),
        lambda m: m.graph.ClearField("input"),
        lambda m: m.graph.initializer.pop(),
        lambda m: m.graph.node.pop(3),
        lambda m: m.graph.node.pop(),
        lambda m: m.graph.node[2].ClearField("op_type"),
    ):
        spoiled = onnx.ModelProto()
        spoiled.CopyFrom(model)
        spoil(spoiled)
        cuts.append(spoiled.SerializeToString())
    for content in cuts:
        with pytest.raises(ModelError):
            load_proto(content)


def test_a_weight_of_the_wrong_size_is_refused():
    model = matmul()
    model.graph.initializer[0].raw_data = b"\0" * 60
    with pytest.raises(ModelError, match=r"'w' of shape \[4, 4\] holds 60 bytes, expected 64"):
        load_proto(model.SerializeToString())


def stored(dims, data_type=TensorProto.FLOAT, **values):
    """A tensor named w with just these fields."""
    tensor = TensorProto(name="w", data_type=data_type, dims=dims)
    for field, value in values.items():
        if field == "raw_data":
            tensor.raw_data = value
        else:
            getattr(tensor, field).extend(value)
    return tensor


@pytest.mark.parametrize(
    ("tensor", "message"),
    [
        (stored([4, 4], float_data=[1.0] * 15), "holds 15 values, expected 16"),
        (stored([4, 4], float_data=[1.0] * 17), "holds 17 values, expected 16"),
        (stored([4, 4], int32_data=[1] * 16), "holds int32_data, expected float_data"),
        (stored([4, 4], raw_data=bytes(64), float_data=[1.0] * 16), "float_data and raw_data"),
        (stored([4, 4]), "holds 0 bytes, expected 64"),
        (stored([4, 4], TensorProto.UNDEFINED, raw_data=bytes(64)), "no data type"),
        (stored([4, 4], TensorProto.FLOAT16, int32_data=[1] * 15), "holds 15 values"),
        (stored([4, 4], TensorProto.DOUBLE, double_data=[1.0] * 15), "holds 15 values"),
        (stored([4, 4], TensorProto.INT64, int64_data=[1] * 15), "holds 15 values"),
        (stored([4, 4], TensorProto.UINT64, uint64_data=[1] * 15), "holds 15 values"),
        (stored([4, 4], TensorProto.STRING, string_data=[b"a"] * 15), "holds 15 values"),
        (stored([4, 4], TensorProto.INT4, int32_data=[1] * 16), "holds 16 values, expected 8"),
        (stored([4, 4], TensorProto.INT4, raw_data=bytes(16)), "holds 16 bytes, expected 8"),
        (stored([4, 4], TensorProto.COMPLEX64, float_data=[1.0] * 16), "expected 32"),
        (stored([-4, 4], raw_data=bytes(64)), "expected axes of 0"),
        (stored([2**31, 0], raw_data=b""), "expected axes of 0"),
        (stored([2**62, 4], raw_data=b""), "expected axes of 0"),
        (stored([2**31 - 1, 2**31 - 1], raw_data=b"1"), "expected 18446744056529682436"),
    ],
)
def test_a_tensor_that_does_not_hold_what_its_shape_says_is_refused(tensor, message):
    model = matmul()
    model.graph.initializer[0].CopyFrom(tensor)
    with pytest.raises(ModelError, match=message):
        load_proto(model.SerializeToString())
    node = helper.make_node("Constant", [], ["w"], "c", value=tensor)
    hidden = small([node, helper.make_node("MatMul", ["x", "w"], ["y"], "product")])
    with pytest.raises(ModelError, match=message):
        load_proto(hidden.SerializeToString())


@pytest.mark.parametrize(
    ("op", "inputs", "attributes", "message"),
    [
        ("Conv", ["x"], {}, "has 1 inputs, expected at least 2: X, W"),
        ("Conv", ["x", ""], {}, "has 1 inputs, expected at least 2"),
        ("MatMul", ["x"], {}, "has 1 inputs"),
        ("Gemm", [], {}, "has 0 inputs"),
        ("QuantizeLinear", ["x"], {}, "has 1 inputs"),
        ("Concat", ["x"], {}, "lacks its attribute 'axis'"),
        ("Conv", ["x", "w"], {"strides": "two"}, "has an attribute 'strides' that is no INTS"),
        ("Conv", ["x", "w"], {}, "has weights of 2 axes"),
    ],
)
def test_a_node_that_lacks_what_its_operator_needs_is_refused(op, inputs, attributes, message):
    node = helper.make_node(op, inputs, ["y"], "node", **attributes)
    with pytest.raises(ModelError, match=message):
        load_proto(small([node], [weight("w")]).SerializeToString())


def test_names_that_are_no_utf8_are_refused():
    content = small([helper.make_node("Relu", ["x"], ["y"], "WXYZ")]).SerializeToString()
    with pytest.raises(ModelError, match="UTF-8"):
        load_proto(content.replace(b"WXYZ", b"W\xff\xfeZ"))


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.data())
def test_flipped_bytes_never_crash(data):
    content = bytearray(matmul().SerializeToString())
    for _ in range(data.draw(st.integers(1, 6))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    with contextlib.suppress(ModelError):  # any other exception fails the test
        assert read_model(bytes(content)).nodes


def test_external_data_beside_the_model_is_read(tmp_path):
    values = np.arange(16, dtype=np.float32).reshape(4, 4)
    (tmp_path / "weights.bin").write_bytes(b"head" + values.tobytes())
    model = external(matmul(), location="weights.bin", offset=4, length=64)
    onnx.save(model, tmp_path / "m.onnx")
    proto = load_proto(tmp_path / "m.onnx")
    np.testing.assert_array_equal(numpy_helper.to_array(proto.graph.initializer[0]), values)
    x = np.eye(4, dtype=np.float32)
    np.testing.assert_array_equal(next(activations(proto, [x]))["y"], values)


@pytest.mark.parametrize(
    ("entries", "message"),
    [
        ({"location": "../secret.bin"}, "expected a relative path inside"),
        ({"location": "a/../../secret.bin"}, "expected a relative path inside"),
        ({"location": "/etc/hostname"}, "expected a relative path inside"),
        ({"location": "C:\\secret.bin"}, "expected a relative path inside"),
        ({"location": "..\\secret.bin"}, "expected a relative path inside"),
        ({"location": ""}, "expected a relative path inside"),
        ({"location": "link.bin"}, "leads outside"),
        ({"location": "linked/secret.bin"}, "leads outside"),
        ({"location": "none.bin"}, "no such file"),
        ({"location": "x" * 5000}, "no path"),
        ({"location": "loop.bin"}, "no path|leads outside|no such file"),
        ({"location": "folder"}, "no such file"),
        ({"location": "short.bin"}, "holds 10 bytes, expected 64"),
        ({"location": "short.bin", "length": 64}, "at bytes 0 to 64, but that file has 10"),
        ({"location": "short.bin", "offset": 11}, "but that file has 10"),
        ({"location": "short.bin", "offset": -1, "length": 4}, "but that file has 10"),
        ({"location": "short.bin", "offset": "many"}, "no number"),
    ],
)
def test_external_data_elsewhere_is_refused(tmp_path, entries, message):
    folder = tmp_path / "models"
    (folder / "folder").mkdir(parents=True)
    (tmp_path / "secret.bin").write_bytes(bytes(64))
    (folder / "short.bin").write_bytes(bytes(10))
    os.symlink(tmp_path / "secret.bin", folder / "link.bin")
    os.symlink(tmp_path, folder / "linked")
    os.symlink("loop.bin", folder / "loop.bin")
    path = folder / "m.onnx"
    path.write_bytes(external(matmul(), **entries).SerializeToString())
    with pytest.raises(ModelError, match=message):
        load_proto(path)


def test_external_data_hidden_in_attributes_is_refused_too(tmp_path):
    tensor = weight("c")
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value="../secret.bin")
    nodes = [
        helper.make_node("Constant", [], ["w"], "c", value=tensor),
        helper.make_node("MatMul", ["x", "w"], ["y"], "product"),
    ]
    inner = helper.make_graph(
        nodes, "inner", [], [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)]
    )
    branch = helper.make_node("If", ["yes"], ["y"], "if", then_branch=inner, else_branch=inner)
    with_function = matmul()
    with_function.functions.append(helper.make_function("own", "f", ["x"], ["y"], nodes, []))
    for model in (small(nodes), small([branch], [weight("yes", np.array(True))]), with_function):
        with pytest.raises(ModelError, match="expected a relative path"):
            _from_file(tmp_path, model)


def _from_file(folder, model):
    path = folder / "m.onnx"
    path.write_bytes(model.SerializeToString())
    return load_proto(path)


def test_external_data_of_a_model_in_memory_is_refused():
    with pytest.raises(ModelError, match="given as bytes"):
        load_proto(external(matmul(), location="w.bin").SerializeToString())


def test_activations_are_what_the_network_computes():
    images, _ = course_data.load_images("calibration")
    path = course_data.model_path("mobile")
    kept = list(activations(path, [images[:8], images[8:16]]))
    assert list(kept[0]) == list(read_model(path).tensors)
    np.testing.assert_array_equal(kept[1]["image"], images[8:16])
    one = kept[0]
    np.testing.assert_array_equal(one["m2_add"], one["m2_project"] + one["m1_project"])
    np.testing.assert_array_equal(one["head_relu6"], np.clip(one["head"], 0, 6))
    np.testing.assert_allclose(
        one["gap"], one["head_relu6"].mean(axis=(2, 3), keepdims=True), rtol=1e-5, atol=1e-6
    )
    chosen = next(activations(path, [images[:8]], names=["logits", "image"]))
    assert list(chosen) == ["logits", "image"]
    np.testing.assert_array_equal(chosen["logits"], one["logits"])


def test_activations_take_one_batch_at_a_time():
    taken = []

    def source():
        for index in range(3):
            taken.append(index)
            yield np.full((2, 4), index, np.float32)

    stream = activations(matmul(), source())
    assert taken == []
    next(stream)
    assert taken == [0]


def test_only_float_tensors_unless_named():
    nodes = [
        helper.make_node("Shape", ["x"], ["size"], "size"),
        helper.make_node("Cast", ["size"], ["real"], "real", to=TensorProto.FLOAT),
        helper.make_node("ReduceSum", ["real"], ["total"], "total", keepdims=0),
        helper.make_node("Add", ["x", "total"], ["y"], "y"),
    ]
    x = np.zeros((2, 4), np.float32)
    assert list(next(activations(small(nodes), [x]))) == ["x", "real", "total", "y"]
    assert next(activations(small(nodes), [x], names=["size"]))["size"].tolist() == [2, 4]


@pytest.mark.parametrize(
    ("batch", "message"),
    [
        (np.zeros((2, 5), np.float32), r"batch 0: x has shape \[2,5\], expected \[n,4\]"),
        (np.zeros((2, 4, 1), np.float32), r"\[2,4,1\], expected"),
        (np.zeros((0, 4), np.float32), r"empty, shape \[0,4\]"),
        (np.zeros((2, 4)), "float64, expected float32"),
        (np.full((2, 4), np.nan, np.float32), "NaN or infinity"),
        (np.full((2, 4), np.inf, np.float32), "NaN or infinity"),
        ({"z": np.zeros((2, 4), np.float32)}, r"inputs \['z'\], expected \['x'\]"),
        ({}, r"inputs \[\], expected"),
        ({"x": [1.0]}, "is a list"),
    ],
)
def test_wrong_batches_are_refused(batch, message):
    with pytest.raises(DataError, match=message):
        list(activations(matmul(), [batch]))


def test_wrong_names_and_models_are_refused():
    with pytest.raises(ModelError, match="'w'"):
        activations(matmul(), [], names=["w"])
    with pytest.raises(ModelError, match="ONNX Runtime cannot load"):
        list(
            activations(
                small([helper.make_node("NoSuchOp", ["x"], ["y"], "y")]),
                [np.zeros((2, 4), np.float32)],
            )
        )
    two = small([helper.make_node("Add", ["x", "z"], ["y"], "y")], inputs=("x", "z"))
    with pytest.raises(DataError, match="is one array"):
        list(activations(two, [np.zeros((2, 4), np.float32)]))


def test_arrays_from_files(tmp_path):
    x = np.arange(8, dtype=np.float32).reshape(2, 4)
    np.save(tmp_path / "x.npy", x)
    np.savez(tmp_path / "x.npz", x=x, other=x)
    for name in ("x.npy", "x.npz"):
        loaded = load_arrays(tmp_path / name, ["x"])
        assert list(loaded) == ["x"]
        np.testing.assert_array_equal(loaded["x"], x)
    with pytest.raises(DataError, match="z is missing"):
        load_arrays(tmp_path / "x.npy", ["x", "z"])
    np.save(tmp_path / "pickled.npy", np.array([{"a": 1}], dtype=object))
    (tmp_path / "cut.npz").write_bytes((tmp_path / "x.npz").read_bytes()[:100])
    (tmp_path / "cut.npy").write_bytes((tmp_path / "x.npy").read_bytes()[:-4])
    (tmp_path / "empty.npy").write_bytes(b"")
    for name in ("pickled.npy", "cut.npz", "cut.npy", "empty.npy", "none.npy"):
        with pytest.raises(DataError, match=name):
            load_arrays(tmp_path / name, ["x"])


def test_feeds_refuse_what_does_not_fit():
    x = np.zeros((5, 3), np.float32)
    with pytest.raises(DataError, match="one length"):
        list(feeds({"x": x, "z": x[:4]}, 2))
    for size in (0, 6):
        with pytest.raises(DataError, match="batch size"):
            list(feeds({"x": x}, size))


def calls(*names):
    """One call after the other, of functions in the domain "own"."""
    made = ["a", *(f"t{i}" for i in range(len(names) - 1)), "o"]
    return [
        helper.make_node(name, [made[i]], [made[i + 1]], domain="own")
        for i, name in enumerate(names)
    ]


def with_functions(**bodies):
    opsets = [helper.make_opsetid("", 13), helper.make_opsetid("own", 1)]
    made = [
        helper.make_function("own", name, ["a"], ["o"], body, opsets)
        for name, body in bodies.items()
    ]
    value = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1]) for name in "xy"]
    graph = helper.make_graph(
        [helper.make_node("f", ["x"], ["y"], domain="own")], "g", value[:1], value[1:]
    )
    return helper.make_model(
        graph, opset_imports=opsets, functions=made, ir_version=8
    ).SerializeToString()


def test_functions_in_a_circle_are_refused():
    for bodies in ({"f": calls("f")}, {"f": calls("g"), "g": calls("h"), "h": calls("g")}):
        with pytest.raises(ModelError, match=r"calls itself\. Try"):
            load_proto(with_functions(**bodies))


def test_functions_that_multiply_are_refused_before_they_fill_the_memory():
    bodies = {"f": calls(*["f0"] * 10), **{f"f{i}": calls(*[f"f{i + 1}"] * 10) for i in range(8)}}
    bodies["f8"] = [helper.make_node("Relu", ["a"], ["o"])]
    with pytest.raises(
        ModelError, match="grows to 1,000,000,000 nodes, expected at most 1,000,000"
    ):
        load_proto(with_functions(**bodies))
    bodies["f3"] = bodies["f8"]
    assert len(load_proto(with_functions(**bodies)).graph.node) == 10_000


def test_a_model_over_two_gigabytes_is_one_line():
    class Large:
        def SerializeToString(self, **_):
            raise ValueError("Message onnx.ModelProto exceeds maximum protobuf size of 2GB")

    with pytest.raises(ModelError, match=r"does not fit into 2 GB.*Try: take a smaller variant"):
        serialized(Large())
    with pytest.raises(ModelError, match="Try: use --int8-weights"):
        serialized(Large(), "use --int8-weights")


def test_what_onnx_runtime_says_is_cut_to_its_own_words():
    start = "[ONNXRuntimeError] : 1 : FAIL : /core/model.cc:256 onnxruntime::Model::Model(A&) "
    assert _line(ValueError(start + "Too new")) == "Too new"
    inner = "running Add node. Name:'b' Status Message: 2 by 3"
    outer = f"running If node. Name:'a' Status Message: {inner}"
    assert _line(ValueError(outer)) == "Add 'b': 2 by 3"
