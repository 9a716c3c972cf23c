"""ONNX files of kinds that models in the wild have: each is walked, migrated and compared, or
refused in one line.
"""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from recording.pairs import read_pairs
from trtlearn.calibration.agreement import agree
from trtlearn.calibration.cache import format_cache, new_cache, read_cache
from trtlearn.calibration.qdq import plan_sites
from trtlearn.course.own_model.records import Walk
from trtlearn.course.own_model.walk import try_int8
from trtlearn.errors import DataError, ModelError, TrtlearnError
from trtlearn.model.data import feeds, whole_inputs
from trtlearn.model.fold import at_least_opset_13, prepared
from trtlearn.model.graph import describe
from trtlearn.model.read import load_proto
from trtlearn.model.run import activations
from trtlearn.trtexec.migration import migrate

ort = pytest.importorskip("onnxruntime")
rng = np.random.default_rng(0)
START = rng.bit_generator.state
node = helper.make_node
FLOAT, INT64, BOOL = TensorProto.FLOAT, TensorProto.INT64, TensorProto.BOOL
IMAGE = ("x", FLOAT, ["n", 4, 8, 8])


@pytest.fixture(autouse=True)
def _the_same_numbers():
    """Each test draws from the start, whatever ran before it in this process."""
    rng.bit_generator.state = START


def normal(*shape):
    return rng.normal(size=shape).astype(np.float32)


def conv(source, name, weights="w"):
    return node("Conv", [source, weights], [name], name, pads=[1, 1, 1, 1])


def network(nodes, inputs=(IMAGE,), outputs=("y",), weights=(), opset=13, domains=()):
    values = [one if isinstance(one, tuple) else (one, FLOAT, None) for one in outputs]
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info(*one) for one in inputs],
        [helper.make_tensor_value_info(*one) for one in values],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in dict(weights).items()],
    )
    opsets = [
        helper.make_opsetid("", opset),
        *(helper.make_opsetid(domain, 1) for domain in domains),
    ]
    return helper.make_model(graph, opset_imports=opsets, ir_version=8)


def walked(model, data, folder, algorithm="minmax", **settings):
    """Walk a model, migrate it with the cache that came out, and check all that must hold of any
    model.
    """
    path = folder / "model.onnx"
    onnx.save(model, str(path))
    found = try_int8(path, data, algorithm=algorithm, out=folder / "out", live=False, **settings)
    assert Walk.from_json(found.to_json()) == found
    for int8_weights in (False, True):
        report = migrate(
            "trtexec --int8 --calib=c",
            path,
            found.files["cache"],
            folder / "q.onnx",
            int8_weights=int8_weights,
        )
        cache, pairs = read_cache(found.files["cache"]), read_pairs(folder / "q.onnx").activations()
        source = {
            site.tensor: site.scale_of or site.tensor
            for site in report.qdq.sites
            if site.kind == "activation"
        }
        assert pairs == {tensor: cache[name] for tensor, name in source.items()}
        for level in (
            ort.GraphOptimizationLevel.ORT_DISABLE_ALL,
            ort.GraphOptimizationLevel.ORT_ENABLE_ALL,
        ):
            options = ort.SessionOptions()
            options.graph_optimization_level, options.log_severity_level = level, 4
            session = ort.InferenceSession(
                str(folder / "q.onnx"), options, providers=["CPUExecutionProvider"]
            )
            session.run(
                None,
                next(
                    feeds(
                        {n: np.asarray(a) for n, a in data.items()},
                        found.data.batch,
                        found.data.whole,
                    )
                ),
            )
        assert parses(path) <= parses(folder / "q.onnx")
    return found


def parses(path):
    """Whether TensorRT-RTX, the interface of TensorRT 11, reads the model; False where it is not
    here.
    """
    try:
        import tensorrt_rtx_bindings as trt
    except ImportError:
        return False
    logger = trt.Logger(trt.Logger.INTERNAL_ERROR)
    network = trt.Builder(logger).create_network(0)
    return trt.OnnxParser(network, logger).parse(path.read_bytes())


def sqnr(found, way="int8-minmax"):
    return next(one.sqnr_db for one in found.answers if one.way == way)


def same_answers(model, changed, data):
    """Each tensor that both compute has the same values."""
    ours, theirs = next(activations(model, [data])), next(activations(changed, [data]))
    for name in ours.keys() & theirs.keys():
        np.testing.assert_allclose(theirs[name], ours[name], rtol=1e-5, atol=1e-6)
    return ours.keys() - theirs.keys()


MADE = {
    "ConstantOfShape": (
        [node("ConstantOfShape", ["s"], ["w"], value=helper.make_tensor("v", FLOAT, [1], [0.5]))],
        {"s": np.array([4, 4, 3, 3])},
    ),
    "weight norm": (
        [
            node("ReduceL2", ["v"], ["length"], axes=[1, 2, 3]),
            node("Div", ["v", "length"], ["unit"]),
            node("Mul", ["unit", "gain"], ["w"]),
        ],
        {"v": normal(4, 4, 3, 3), "gain": normal(4, 1, 1, 1)},
    ),
    "Split": ([node("Split", ["both"], ["w", "rest"], axis=0)], {"both": normal(8, 4, 3, 3)}),
    "Gather and Expand": (
        [node("Gather", ["v", "order"], ["turned"]), node("Expand", ["turned", "s"], ["w"])],
        {"v": normal(4, 4, 1, 1), "order": np.array([3, 1, 0, 2]), "s": np.array([4, 4, 3, 3])},
    ),
    "FP16 and Cast": (
        [node("Cast", ["h"], ["w"], to=FLOAT)],
        {"h": normal(4, 4, 3, 3).astype(np.float16)},
    ),
    "Constant of floats": (
        [
            node("Constant", [], ["v"], value_floats=[float(v) for v in normal(144)]),
            node("Reshape", ["v", "s"], ["w"]),
        ],
        {"s": np.array([4, 4, 3, 3])},
    ),
}


@pytest.mark.parametrize("kind", MADE)
def test_weights_that_nodes_compute(kind, tmp_path):
    nodes, weights = MADE[kind]
    model = network([*nodes, conv("x", "y")], weights=weights)
    data = {"x": normal(4, 4, 8, 8)}
    assert not same_answers(model, prepared(model), data)
    found = walked(model, data, tmp_path)
    assert found.qdq.quantized_nodes == ("y",)
    assert sqnr(found) > 30


def test_what_is_random_or_too_large_is_not_computed_beforehand():
    many = [
        node("ConstantOfShape", ["s"], ["v"], value=helper.make_tensor("v", FLOAT, [1], [1])),
        node("RandomNormalLike", ["v0"], ["r"]),
        node("MatMul", ["x", "v"], ["a"]),
        node("MatMul", ["x", "r"], ["y"]),
    ]
    weights = {"s": np.array([1 << 20, 1 << 20]), "v0": normal(4, 4)}
    left = {one.op_type for one in prepared(network(many, weights=weights)).graph.node}
    assert left == {"ConstantOfShape", "RandomNormalLike", "MatMul"}


@pytest.mark.parametrize("mode", ["nearest", "linear"])
@pytest.mark.parametrize("opset", [7, 9, 10])
def test_resizing_before_opset_11_keeps_its_names_and_its_meaning(opset, mode, tmp_path):
    """onnx's converter gives the tensor behind an Upsample another name, and resizes by other
    coordinates.
    """
    weights = {"w": normal(4, 4, 3, 3)}
    scales = [1.0, 1.0, 2.5, 1.7]
    given = ["c"] if opset < 9 else ["c", "s"]
    named = {"scales": scales} if opset < 9 else {}
    if opset >= 9:
        weights["s"] = np.array(scales, np.float32)
    nodes = [
        conv("x", "c"),
        node("Resize" if opset == 10 else "Upsample", given, ["u"], mode=mode, **named),
    ]
    model = network([*nodes, conv("u", "y")], weights=weights, opset=opset)
    data = {"x": normal(2, 4, 8, 8)}
    assert not same_answers(model, at_least_opset_13(model), data)
    found = walked(model, data, tmp_path)
    assert found.qdq.quantized_nodes == ("c", "y")
    assert sqnr(found) > 20


def test_a_scalar_and_a_state_go_into_every_batch(tmp_path):
    inputs = [IMAGE, ("k", FLOAT, []), ("state", FLOAT, [2, "n", 4])]
    nodes = [
        node("Mul", ["x", "k"], ["a"]),
        conv("a", "c"),
        node("GlobalAveragePool", ["c"], ["p"]),
        node("Flatten", ["p"], ["f"]),
        node("Add", ["state", "f"], ["y"]),
    ]
    model = network(nodes, inputs, ["f", "y"], {"w": normal(4, 4, 3, 3)})
    data = {"x": normal(9, 4, 8, 8), "k": np.array(0.5, np.float32), "state": normal(2, 4, 4)}
    found = walked(model, data, tmp_path, batch=4)
    assert found.data.whole == ("k", "state")
    assert (found.data.rows_in_all, found.data.rows_used, found.data.batch) == (9, 8, 4)
    report = agree(tmp_path / "model.onnx", data, found.files["cache"], batch=4)
    assert report.all_agree
    data["k"] = np.array(np.nan, np.float32)
    with pytest.raises(DataError, match=r"input 'k' holds NaN or infinity: .* \(nan\)"):
        try_int8(tmp_path / "model.onnx", data, live=False)
    with pytest.raises(DataError, match=r"input 'k' has shape \[9\], expected \[\]"):
        try_int8(tmp_path / "model.onnx", {**data, "k": np.zeros(9, np.float32)}, live=False)


@pytest.mark.parametrize(
    ("rows", "whole"),
    [((8, 2), ("b",)), ((1, 2), ("b",)), ((2, 2), ("b",)), ((1, 8), ("a",)), ((8, 8), ())],
)
def test_which_of_two_fixed_first_axes_is_the_batch(rows, whole):
    product = [node("MatMul", ["a", "w"], ["y"]), node("MatMul", ["b", "w"], ["z"])]
    model = network(
        product, [("a", FLOAT, [1, 4]), ("b", FLOAT, [2, 4])], ["y", "z"], {"w": normal(4, 4)}
    )
    facts = describe(model)
    assert whole_inputs(facts, {"a": normal(rows[0], 4), "b": normal(rows[1], 4)}) == whole


def test_two_batches_at_odds_are_refused(tmp_path):
    product = [node("MatMul", ["a", "w"], ["y"]), node("MatMul", ["b", "w"], ["z"])]
    model = network(
        product, [("a", FLOAT, [1, 4]), ("b", FLOAT, [2, 4])], ["y", "z"], {"w": normal(4, 4)}
    )
    with pytest.raises(ModelError, match=r"different fixed batch sizes.*in exactly its own shape"):
        walked(model, {"a": normal(8, 4), "b": normal(8, 4)}, tmp_path)


def test_outputs_of_every_kind(tmp_path):
    """A number without axes, a constant, a weight, an input, one whose shape depends on the values,
    a sequence.
    """
    nodes = [
        conv("x", "c"),
        node("ReduceMean", ["c"], ["mean"], keepdims=0),
        node("Identity", ["w"], ["constant"]),
        node("NonZero", ["relu"], ["where"]),
        node("Relu", ["c"], ["relu"]),
        node("Transpose", ["where"], ["rows"]),
        node("SplitToSequence", ["c"], ["list"]),
    ]
    nodes[3], nodes[4] = nodes[4], nodes[3]
    kinds = ["mean", "constant", "w", "x", ("where", INT64, None), ("rows", INT64, None)]
    model = network(nodes, outputs=kinds, weights={"w": normal(4, 4, 3, 3)})
    model.graph.output.append(helper.make_tensor_sequence_value_info("list", FLOAT, None))
    found = walked(model, {"x": normal(6, 4, 8, 8)}, tmp_path, batch=2)
    assert sqnr(found) > 20
    assert "not compared, because their shapes depend on the values: where, list" in found.notes


def test_int8_that_makes_nan_is_no_perfect_answer(tmp_path):
    """log(1 + x) where x comes just above -1 in FP32, and below it in INT8."""
    model = network([conv("x", "c"), node("Add", ["c", "one"], ["a"]), node("Log", ["a"], ["y"])])
    weights = np.zeros((4, 4, 3, 3), np.float32)
    weights[range(4), range(4), 1, 1] = 1
    for name, value in {"w": weights, "one": np.array(1, np.float32)}.items():
        model.graph.initializer.append(numpy_helper.from_array(value, name))
    image = np.full((2, 4, 8, 8), -0.99, np.float32)
    image[0, 0, 0, 0] = 80  # 80 / 127 = 0.63: -0.99 becomes -2 steps, -1.26
    found = walked(model, {"x": image}, tmp_path)
    assert sqnr(found) == float("-inf")


def masked(output):
    nodes = [
        node("Where", ["keep", "x", "never"], ["a"]),
        node("Softmax", ["a"], ["s"]),
        node("MatMul", ["s", "w"], ["y"]),
    ]
    inputs = [("x", FLOAT, ["n", 4]), ("keep", BOOL, ["n", 4])]
    return network(
        nodes, inputs, [output], {"w": normal(4, 4), "never": np.array(-np.inf, np.float32)}
    )


def test_a_mask_of_infinity_gets_no_scale_and_the_rest_does(tmp_path):
    data = {"x": normal(8, 4), "keep": np.arange(32).reshape(8, 4) % 4 != 1}
    found = walked(masked("y"), data, tmp_path)
    assert found.qdq.quantized_nodes == ("y",)
    assert "a" not in read_cache(found.files["cache"])
    assert "no scale for what becomes NaN or infinite inside the network: a" in found.notes
    text = format_cache(new_cache({**dict(read_cache(found.files["cache"])), "a": 1.0}, "entropy2"))
    rows = {row.name: row for row in agree(tmp_path / "model.onnx", data, text.encode()).tensors}
    assert "becomes NaN or infinite" in rows["a"].explanation
    with pytest.raises(DataError, match="'a' becomes NaN or infinite"):
        walked(masked("a"), data, tmp_path)


def test_nodes_of_one_name_and_nodes_of_other_domains(tmp_path):
    nodes = [conv("x", "a"), node("Relu", ["a"], ["b"], "a"), conv("b", "y")]
    model = network(nodes, weights={"w": normal(4, 4, 3, 3)})
    assert set(walked(model, {"x": normal(4, 4, 8, 8)}, tmp_path).qdq.quantized_nodes) == {"a", "y"}
    other = network(
        [node("Conv", ["x", "w"], ["p"], "p", domain="mine"), conv("p", "y")],
        weights={"w": normal(4, 4, 3, 3)},
    )
    report = plan_sites(other, {"x": 0.1, "p": 0.1})
    assert report.quantized_nodes == ("y",)
    assert {site.tensor for site in report.sites} == {"p", "w"}


@pytest.mark.parametrize("algorithm", ["entropy2", "minmax", "entropy"])
def test_pooled_tensors_get_the_scale_that_tensorrt_gives_them(algorithm, tmp_path):
    nodes = [
        node("AveragePool", ["x"], ["p"], kernel_shape=[2, 2], strides=[2, 2]),
        conv("p", "c"),
        node("MaxPool", ["c"], ["m"], kernel_shape=[2, 2], strides=[2, 2]),
        conv("m", "y"),
    ]
    model = network(nodes, weights={"w": normal(4, 4, 3, 3)})
    data = {"x": normal(8, 4, 8, 8)}
    found = walked(model, data, tmp_path, algorithm)
    scales = dict(read_cache(found.files["cache"]))
    tied = algorithm != "entropy"
    assert (scales["p"] == scales["x"], scales["m"] == scales["c"]) == (tied, tied)
    assert agree(tmp_path / "model.onnx", data, found.files["cache"], batch=8).all_agree


def test_the_batch_size_is_found_where_no_input_is_float(tmp_path):
    nodes = [node("Gather", ["e", "i"], ["a"]), node("MatMul", ["a", "w"], ["y"])]
    growing = normal(640, 8) * np.linspace(1, 3, 640, dtype=np.float32)[:, None]
    model = network(nodes, [("i", INT64, ["n", 20])], weights={"e": growing, "w": normal(8, 8)})
    data = {"i": np.arange(640).reshape(32, 20)}
    found = walked(model, data, tmp_path, "entropy2", batch=4)
    report = agree(tmp_path / "model.onnx", data, found.files["cache"])
    assert report.batch == 4
    assert report.all_agree
    assert any("batch size 4, found" in note for note in report.notes)


def branch(*nodes):
    return helper.make_graph(
        nodes, "branch", [], [helper.make_tensor_value_info(nodes[-1].output[0], FLOAT, None)]
    )


def inside_an_if():
    either = {"then_branch": branch(conv("x", "t")), "else_branch": branch(conv("x", "e"))}
    nodes = [node("ReduceMax", ["x"], ["m"], keepdims=0), node("Cast", ["m"], ["k"], to=BOOL)]
    return network([*nodes, node("If", ["k"], ["y"], **either)], weights={"w": normal(4, 4, 3, 3)})


def inside_functions(opset=13):
    """Two stages of two blocks each: functions that call functions, as exporters write them."""

    def function(name, *nodes):
        imports = [helper.make_opsetid("", opset), helper.make_opsetid("mine", 1)]
        return helper.make_function("mine", name, ["a", "w"], ["o"], nodes, imports)

    def call(name, source, made):
        return node(name, [source, "w"], [made], made, domain="mine")

    model = network(
        [call("Stage", "x", "h"), call("Stage", "h", "y")],
        weights={"w": normal(4, 4, 3, 3)},
        domains=["mine"],
    )
    block = function("Block", conv("a", "c"), node("Relu", ["c"], ["o"], "relu"))
    model.functions.extend(
        [block, function("Stage", call("Block", "a", "t"), call("Block", "t", "o"))]
    )
    return model


def test_layers_inside_functions_get_qdq(tmp_path):
    model, data = inside_functions(), {"x": normal(8, 4, 8, 8)}
    found = walked(model, data, tmp_path)
    assert len(read_pairs(tmp_path / "q.onnx").activations()) == 4, (
        "each call is a layer of its own"
    )
    assert sqnr(found) > 30
    whole = load_proto(tmp_path / "model.onnx")
    session = ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    assert [one.op_type for one in whole.graph.node] == ["Conv", "Relu"] * 4
    np.testing.assert_allclose(
        next(activations(whole, [data], ["y"]))["y"],
        session.run(None, data)[0],
        rtol=1e-4,
        atol=1e-5,
    )


def of_opset_6():
    nodes = [conv("x", "c"), node("Add", ["c", "b"], ["y"], broadcast=1, axis=1)]
    return network(nodes, weights={"w": normal(4, 4, 3, 3), "b": normal(4)}, opset=6)


def of_tomorrow():
    model = network([conv("x", "y")], weights={"w": normal(4, 4, 3, 3)})
    model.ir_version = 99
    return model


def without_a_shape():
    model = network([conv("x", "y")], weights={"w": normal(4, 4, 3, 3)})
    model.graph.input[0].type.tensor_type.ClearField("shape")
    return model


def weights_on_the_left():
    nodes = [node("MatMul", ["w", "x"], ["y"], "product")]
    return network(nodes, [("x", FLOAT, [4, "n"])], weights={"w": normal(4, 4)})


REFUSED = {
    inside_an_if: "its layers stand inside an If, a Loop or a function",
    lambda: inside_functions(opset=12): "its layers stand inside an If, a Loop or a function",
    of_opset_6: r"opset 6.*Try: export it at opset 13",
    of_tomorrow: r"\(opset 13\): Unsupported model IR version: 99.*Try: .*pip install -U onnxruntime",
    without_a_shape: "input 'x' has no known shape. Try",
    weights_on_the_left: r"product: its weights w are no matrix on the right-hand side",
    lambda: network(
        [conv("x", "y")],
        [("x", TensorProto.DOUBLE, ["n", 4, 8, 8])],
        weights={"w": normal(4, 4, 3, 3)},
    ): ("input 'x' is fp64, which trtlearn cannot feed"),
    lambda: network(
        [node("Relu", ["x"], ["y"])], [("x", FLOAT, [])]
    ): "no input of the network has an axis",
    lambda: network([node("Relu", ["x"], ["y"])]): r"\(it has no Conv, Gemm or MatMul\)",
}


@pytest.mark.parametrize("make", REFUSED)
def test_what_cannot_be_done_is_one_line_that_says_why(make, tmp_path):
    model = make()
    shape = [
        4 if isinstance(axis, str) else axis
        for axis in (describe(model).inputs[0].shape or (4, 4, 8, 8))
    ]
    with pytest.raises(TrtlearnError, match=REFUSED[make]) as caught:
        walked(model, {"x": normal(*shape)}, tmp_path)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "out").exists()


def test_a_constant_without_a_value_is_one_line(tmp_path):
    model = network(
        [node("Constant", [], ["v"]), conv("x", "y")], weights={"w": normal(4, 4, 3, 3)}
    )
    onnx.save(model, str(tmp_path / "m.onnx"))
    assert load_proto(tmp_path / "m.onnx").graph.node[0].op_type == "Constant"
    assert read_pairs(tmp_path / "m.onnx").pairs == ()
    with pytest.raises(ModelError, match="ONNX Runtime cannot load"):
        try_int8(tmp_path / "m.onnx", normal(4, 4, 8, 8), live=False)


def test_a_calibrator_of_tensorrt_is_not_given_what_has_no_rows(fake, tmp_path):
    model = network(
        [node("Mul", ["image", "k"], ["a"]), conv("a", "y")],
        [("image", *IMAGE[1:]), ("k", FLOAT, [])],
    )
    model.graph.initializer.append(numpy_helper.from_array(normal(4, 4, 3, 3), "w"))
    onnx.save(model, str(tmp_path / "m.onnx"))
    data = {"image": normal(4, 4, 8, 8), "k": np.array(2, np.float32)}
    found = try_int8(tmp_path / "m.onnx", data, live=True)
    problems = {one.way: one.problem for one in found.live}
    assert (
        problems["int8-entropy2"]
        == "TensorRT's calibrator is given rows, and k has none: see int8-qdq"
    )
