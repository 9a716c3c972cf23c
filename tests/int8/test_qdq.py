"""Q/DQ insertion: pairs where TensorRT fuses them, scales kept to the last bit, the graph still
valid.
"""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from trtlearn.calibration.qdq import insert_qdq, plan_sites
from trtlearn.errors import ModelError

rng = np.random.default_rng(0)


def conv(name: str, source: str, channels: tuple[int, int], kernel: int = 3):
    weights = numpy_helper.from_array(
        rng.normal(size=(channels[1], channels[0], kernel, kernel)).astype(np.float32), f"{name}_w"
    )
    node = helper.make_node("Conv", [source, f"{name}_w"], [name], name, pads=[kernel // 2] * 4)
    return node, weights


def residual() -> onnx.ModelProto:
    stem, w0 = conv("stem", "image", (1, 4))
    first, w1 = conv("c1", "pool", (4, 4))
    second, w2 = conv("c2", "relu1", (4, 4))
    nodes = [
        stem,
        helper.make_node("Relu", ["stem"], ["relu"], "relu"),
        helper.make_node(
            "MaxPool", ["relu"], ["pool"], "pool", kernel_shape=[2, 2], strides=[2, 2]
        ),
        first,
        helper.make_node("Relu", ["c1"], ["relu1"], "relu1"),
        second,
        helper.make_node("Add", ["c2", "pool"], ["add"], "add"),
        helper.make_node("Relu", ["add"], ["relu2"], "relu2"),
        helper.make_node("GlobalAveragePool", ["relu2"], ["mean"], "mean"),
        helper.make_node("Flatten", ["mean"], ["flat"], "flat"),
        helper.make_node("Gemm", ["flat", "fc_w"], ["logits"], "fc", transB=1),
    ]
    fc = numpy_helper.from_array(rng.normal(size=(10, 4)).astype(np.float32), "fc_w")
    graph = helper.make_graph(
        nodes,
        "residual",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, [2, 1, 8, 8])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, [2, 10])],
        [w0, w1, w2, fc],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)


SCALES = {
    name: float(np.float32(0.01 * (index + 1)))
    for index, name in enumerate(
        ["image", "stem", "relu", "c1", "relu1", "c2", "add", "relu2", "mean", "logits"]
    )
}


def test_pairs_stand_where_tensorrt_fuses_them():
    report = plan_sites(residual(), SCALES)
    activations = {
        site.tensor: set(site.readers) for site in report.sites if site.kind == "activation"
    }
    assert activations == {
        "image": {"stem"},
        "pool": {"c1", "add"},  # the shortcut shares the first convolution's pair
        "relu1": {"c2"},
        "relu2": {"mean"},
        "flat": {"fc"},
    }
    assert {site.tensor for site in report.sites if site.kind == "weights"} == {
        "stem_w",
        "c1_w",
        "c2_w",
        "fc_w",
    }
    assert set(report.quantized_nodes) == {"stem", "c1", "c2", "fc"}
    passed_on = {site.tensor: site.scale_of for site in report.sites if site.scale_of}
    assert passed_on == {"pool": "relu", "flat": "mean"}, (
        "MaxPool and Flatten pass their input's scale on"
    )
    assert set(report.unused_scales) == {"stem", "c1", "c2", "add", "logits"}


def test_scales_are_kept_to_the_last_bit():
    model, report = insert_qdq(residual(), SCALES)
    constants = {item.name: numpy_helper.to_array(item) for item in model.graph.initializer}
    for node in model.graph.node:
        if node.op_type == "QuantizeLinear" and constants[node.input[1]].ndim == 0:
            site = next(s for s in report.sites if s.tensor == node.input[0])
            expected = np.float32(SCALES[site.scale_of or site.tensor])
            assert constants[node.input[1]].tobytes() == expected.tobytes()


@pytest.mark.parametrize("int8_weights", [False, True])
def test_the_quantized_model_answers_close_to_the_float_one(int8_weights):
    ort = pytest.importorskip("onnxruntime")
    model = residual()
    image = rng.normal(size=(2, 1, 8, 8)).astype(np.float32)
    exposed = onnx.ModelProto()
    exposed.CopyFrom(model)
    names = [name for node in model.graph.node for name in node.output if name != "logits"]
    exposed.graph.output.extend(onnx.ValueInfoProto(name=name) for name in names)
    values = dict(
        zip(
            ["logits", *names],
            ort.InferenceSession(exposed.SerializeToString()).run(None, {"image": image}),
            strict=True,
        )
    )
    scales = {
        name: float(np.abs(value).max() / 127) for name, value in {**values, "image": image}.items()
    }
    quantized, _ = insert_qdq(model, scales, int8_weights=int8_weights)
    # Not optimized: on CPUs without VNNI the fused INT8 kernels of ONNX Runtime saturate in 16
    # bits.
    plain = ort.SessionOptions()
    plain.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = ort.InferenceSession(quantized.SerializeToString(), plain)
    answer = session.run(None, {"image": image})[0]
    error = np.linalg.norm(answer - values["logits"]) / np.linalg.norm(values["logits"])
    assert 0 < error < 0.05
    if int8_weights:
        assert not {"stem_w", "c1_w"} & {item.name for item in quantized.graph.initializer}


def test_a_node_to_leave_out_that_is_not_there_is_refused():
    with pytest.raises(ModelError, match="no node 'nope' to leave out"):
        insert_qdq(residual(), SCALES, skip=["nope"])


def test_a_missing_scale_leaves_the_node_in_float_and_says_so():
    scales = {name: scale for name, scale in SCALES.items() if name != "relu1"}
    model, report = insert_qdq(residual(), scales)
    assert report.float_nodes == {"c2": "no scale for relu1"}
    reader = next(node for node in model.graph.node if node.name == "c2")
    assert list(reader.input) == ["relu1", "c2_w"]


@pytest.mark.parametrize("placement", ["no-shortcut", "conv-outputs", "everywhere"])
def test_wrong_placements_differ_from_the_right_one(placement):
    right = {(s.tensor, s.readers) for s in plan_sites(residual(), SCALES).sites}
    model, report = insert_qdq(residual(), SCALES, placement)
    assert {(s.tensor, s.readers) for s in report.sites} != right
    onnx.checker.check_model(model, full_check=True)


def test_a_channel_of_zeros_gets_a_scale_that_onnx_allows():
    model = residual()
    weights = numpy_helper.to_array(model.graph.initializer[1]).copy()
    weights[2] = 0
    model.graph.initializer[1].CopyFrom(numpy_helper.from_array(weights, "c1_w"))
    _, report = insert_qdq(model, SCALES)
    site = next(s for s in report.sites if s.tensor == "c1_w")
    assert all(scale > 0 for scale in site.channel_scales)


def test_a_model_with_qdq_is_refused():
    model, _ = insert_qdq(residual(), SCALES)
    with pytest.raises(ModelError, match="already has Q/DQ"):
        insert_qdq(model, SCALES)


def test_a_concat_without_a_scale_takes_the_widest_of_its_parts():
    model = residual()
    model.graph.node.insert(
        8, helper.make_node("Concat", ["relu2", "pool"], ["both"], "both", axis=1)
    )
    mean = next(node for node in model.graph.node if node.name == "mean")
    mean.input[0] = "both"
    fc = numpy_helper.from_array(rng.normal(size=(10, 8)).astype(np.float32), "fc_w")
    model.graph.initializer[-1].CopyFrom(fc)
    site = next(s for s in plan_sites(model, SCALES).sites if s.tensor == "both")
    assert (site.scale_of, site.scale) == ("relu2", SCALES["relu2"])
    assert SCALES["relu2"] > SCALES["relu"], "pool passes relu's scale on, which is the smaller"
    partly = {name: scale for name, scale in SCALES.items() if name != "relu2"}
    assert not [s for s in plan_sites(model, partly).sites if s.tensor == "both"]


def test_clashing_and_missing_names_do_not_matter():
    model = residual()
    for node in model.graph.node:
        node.name = ""
    model.graph.node[4].output[0] = "image_q"
    model.graph.node[5].input[0] = "image_q"
    changed, _ = insert_qdq(model, {**SCALES, "image_q": SCALES["relu1"]})
    outputs = [name for node in changed.graph.node for name in node.output]
    assert len(outputs) == len(set(outputs))


def test_the_modern_builder_takes_it():
    """tensorrt_rtx has TensorRT 11's API and builds without a GPU: the Q/DQ model becomes a
    plan.
    """
    trt = pytest.importorskip("tensorrt_rtx_bindings")
    model, _ = insert_qdq(residual(), SCALES)
    logger = trt.Logger(trt.Logger.ERROR)
    builder = trt.Builder(logger)
    network = builder.create_network(0)
    parser = trt.OnnxParser(network, logger)
    assert parser.parse(model.SerializeToString())
    config = builder.create_builder_config()
    config.num_compute_capabilities = 1
    config.set_compute_capability(trt.ComputeCapability.SM89, 0)
    plan = builder.build_serialized_network(network, config)
    assert plan is not None
    assert plan.nbytes > 1000
