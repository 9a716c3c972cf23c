"""Which nodes are one layer, by rule and as an engine says; and the course's networks computed in
INT8.
"""

from __future__ import annotations

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper

from trtlearn.engine.layers import EngineInfo, EngineLayer, EngineTensor
from trtlearn.int8.groups import check_groups, engine_groups, float_tensors, fused_groups
from trtlearn.int8.simulate import run_int8, tensor_errors
from trtlearn.model.course_data import MODELS, load_images, model_path
from trtlearn.model.fold import folded_batch_norms
from trtlearn.model.read import read_model
from trtlearn.model.run import activations


@pytest.mark.parametrize("name", MODELS)
def test_the_rule_holds_each_node_once(name):
    model = read_model(model_path(name))
    groups = fused_groups(model)
    assert check_groups(model, groups) == []
    assert check_groups(model, groups[1:]) == sorted(groups[0])
    joined = {node: group for group in groups for node in group}
    for node in model.nodes:
        if node.op in ("Relu", "Clip"):  # an activation is never left alone in these networks
            assert len(joined[node.name]) > 1
        if node.op in ("MaxPool", "GlobalAveragePool", "Flatten"):
            assert joined[node.name] == (node.name,)


def layer(nodes, inputs, outputs):
    tensors = [
        tuple(EngineTensor(name, None, dtype) for name, dtype in side.items())
        for side in (inputs, outputs)
    ]
    return EngineLayer(" + ".join(nodes) or "reformat", "conv", *tensors, onnx_nodes=nodes)


def test_groups_and_float_tensors_of_an_engine():
    model = read_model(model_path("resnet"))
    engine = EngineInfo(
        (
            layer((), {"image": "fp32"}, {"image": "int8"}),
            layer(("stem_relu", "stem"), {"image": "int8"}, {"stem_relu": "int8"}),
            layer(("pool",), {"stem_relu": "int8"}, {"pool": "fp32"}),
        )
    )
    groups = engine_groups(model, engine)
    assert groups[:2] == (("stem", "stem_relu"), ("pool",))
    assert check_groups(model, groups) == []
    assert float_tensors(model, engine) == ("pool",)


@pytest.mark.parametrize(("name", "least_db"), [("resnet", 25), ("mobile", 4)])
def test_int8_networks_classify_as_well_as_float_ones(name, least_db):
    path = model_path(name)
    model = read_model(path)
    images, labels = load_images("test")
    images, labels = images[:64], labels[:64]
    reference = next(iter(activations(path, [{"image": images}], model.tensors)))
    amax = {tensor: float(np.abs(values).max()) for tensor, values in reference.items()}
    run = run_int8(path, {tensor: value / 127 for tensor, value in amax.items()}, {"image": images})
    right = (run["logits"].values.argmax(1) == labels).sum()
    assert right >= (reference["logits"].argmax(1) == labels).sum() - 2
    assert min(error.total_sqnr_db for error in tensor_errors(run, reference)) > least_db
    assert all(
        tensor.codes is not None for tensor in run.tensors.values() if tensor.name != "logits"
    )


def test_a_batch_normalization_behind_a_convolution_is_part_of_its_weights():
    rng = np.random.default_rng(5)
    shapes = {"w": (4, 3, 3, 3), "gain": (4,), "offset": (4,), "mean": (4,), "variance": (4,)}
    arrays = {
        name: np.abs(rng.normal(1, 0.4, shape)).astype(np.float32) for name, shape in shapes.items()
    }
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["c"], "c", pads=[1, 1, 1, 1]),
        helper.make_node(
            "BatchNormalization", ["c", "gain", "offset", "mean", "variance"], ["b"], "b"
        ),
        helper.make_node("Relu", ["b"], ["y"], "y"),
    ]
    value = helper.make_tensor_value_info
    graph = helper.make_graph(
        nodes,
        "normed",
        [value("x", TensorProto.FLOAT, [1, 3, 6, 6])],
        [value("y", TensorProto.FLOAT, [1, 4, 6, 6])],
        [numpy_helper.from_array(array, name) for name, array in arrays.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    x = rng.normal(size=(1, 3, 6, 6)).astype(np.float32)
    scales = {"x": float(np.abs(x).max()) / 127, "c": 0.1, "b": 0.1, "y": 0.15}
    ours = run_int8(
        model.SerializeToString(), scales, {"x": x}, groups=[("c", "b", "y")], floats=()
    )
    folded = run_int8(folded_batch_norms(model).SerializeToString(), scales, {"x": x}, floats=())
    assert ours.groups == folded.groups == (("c", "y"),)
    np.testing.assert_array_equal(ours["y"].codes, folded["y"].codes)
    exact = next(activations(model.SerializeToString(), [{"x": x}]))["y"]
    assert np.abs(ours["y"].values - exact).max() < 0.15 * 3
    assert "c" not in ours.tensors  # what the kernel never holds
