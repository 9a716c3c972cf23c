"""A network cut into pieces gives the same activations, and holds one piece at a time."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from trtlearn.model import run
from trtlearn.model.course_data import load_images, model_path
from trtlearn.model.run import activation_parts, activations


def a_network():
    """A network with an If that reads from outside, integers, and weights made by a node."""
    rng = np.random.default_rng(0)

    def store(name, *shape):
        return numpy_helper.from_array(rng.standard_normal(shape, dtype=np.float32), name)

    then = helper.make_node("Relu", ["b"], ["t"], "then")
    other = helper.make_node("Neg", ["a"], ["e"], "otherwise")
    branches = [
        helper.make_graph(
            [node], name, [], [helper.make_tensor_value_info(node.output[0], 1, None)]
        )
        for node, name in ((then, "yes"), (other, "no"))
    ]
    nodes = [
        helper.make_node("Neg", ["w0"], ["w"], "weights"),
        helper.make_node("MatMul", ["x", "w"], ["a"], "first"),
        helper.make_node("MatMul", ["a", "w"], ["b"], "second"),
        helper.make_node("ReduceMax", ["b"], ["top"], "top", keepdims=0),
        helper.make_node("Greater", ["top", "limit"], ["is_large"], "compare"),
        helper.make_node("If", ["is_large"], ["c"], "choose"),
        helper.make_node("ArgMax", ["c"], ["class"], "class", axis=1),
        helper.make_node("MatMul", ["c", "w"], ["d"], "third"),
        helper.make_node("Add", ["d", "a"], ["y"], "sum"),
    ]
    nodes[5].attribute.append(helper.make_attribute("then_branch", branches[0]))
    nodes[5].attribute.append(helper.make_attribute("else_branch", branches[1]))
    graph = helper.make_graph(
        nodes,
        "pieces",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 4])],
        [
            helper.make_tensor_value_info(name, kind, None)
            for name, kind in (("y", 1), ("class", 7))
        ],
        [store("w0", 4, 4), numpy_helper.from_array(np.float32(0.5), "limit")],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


@pytest.mark.parametrize("size", [1, 100, 300])
def test_every_activation_is_the_same_to_the_last_bit(monkeypatch, size):
    model = a_network()
    batches = [np.random.default_rng(seed).standard_normal((8, 4), np.float32) for seed in (0, 1)]
    whole = list(activations(model, batches))
    monkeypatch.setattr(run, "PIECE_BYTES", size)
    counts = []
    for parts, expected in zip(activation_parts(model, batches, ["class"]), whole, strict=True):
        dicts = [dict(part) for part in parts]
        counts.append(len(dicts))
        together = {name: values for part in dicts for name, values in part.items()}
        assert together.pop("class").dtype == np.int64
        assert list(together) == list(expected)
        assert all(np.array_equal(together[name], expected[name]) for name in expected)
    assert min(counts) > 2


def test_a_courses_network_is_the_same_in_pieces(monkeypatch):
    images = load_images("calibration")[0][:8]
    expected = next(activations(model_path("mobile"), [images]))
    monkeypatch.setattr(run, "PIECE_BYTES", 1 << 16)
    found = next(activations(model_path("mobile"), [images]))
    assert list(found) == list(expected)
    assert all(np.array_equal(found[name], expected[name]) for name in expected)
    parts = list(next(activation_parts(model_path("mobile"), [images])))
    assert len(parts) > 5
    assert max(len(part) for part in parts) < len(expected) / 3


def test_weights_with_q_dq_are_rounded_once_and_the_same():
    """What the nodes make of weights is computed before the first batch, by ONNX Runtime."""
    import onnxruntime

    from trtlearn.calibration.qdq import insert_qdq
    from trtlearn.model.run import _prepared

    images = load_images("calibration")[0][:8]
    changed, _ = insert_qdq(model_path("resnet"), {"image": 0.02, "pool": 0.03})
    proto, _ = _prepared(changed)
    kinds = [node.op_type for node in proto.graph.node]
    assert (
        kinds.count("QuantizeLinear")
        == 2
        < [n.op_type for n in changed.graph.node].count("QuantizeLinear")
    )
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(changed.SerializeToString(), options)
    logits = next(activations(changed, [images], ["logits"]))["logits"]
    assert np.array_equal(logits, session.run(["logits"], {"image": images})[0])
    assert onnx.checker.check_model(changed) is None


ATTACK = """
import resource, sys
import numpy as np
from trtlearn.errors import ModelError
from trtlearn.model.run import activations

resource.setrlimit(resource.RLIMIT_AS, (8 << 30, 8 << 30))  # else a fault takes the machine along
try:
    list(activations(sys.argv[1], [np.ones((8, 1), np.float32)]))
except ModelError as problem:
    print(problem)
"""


def test_a_tensor_that_no_memory_holds_is_refused_before_it_is_made(tmp_path):
    shape = numpy_helper.from_array(np.array([1 << 40], np.int64), "shape")
    nodes = [
        helper.make_node("ConstantOfShape", ["shape"], ["zeros"], "many"),
        helper.make_node("Add", ["zeros", "x"], ["y"], "sum"),
    ]
    ends = [helper.make_tensor_value_info(name, 1, ["n", None]) for name in "xy"]
    graph = helper.make_graph(nodes, "large", ends[:1], ends[1:], [shape])
    opsets = [helper.make_opsetid("", 17)]
    onnx.save(helper.make_model(graph, opset_imports=opsets, ir_version=8), tmp_path / "m.onnx")
    command = [sys.executable, "-c", ATTACK, str(tmp_path / "m.onnx")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.stdout.startswith("tensor 'zeros' takes 4,398,046,511,104 bytes for one batch")
    assert "take a smaller batch" in done.stdout
