"""INT8 arithmetic in numpy against ONNX Runtime's, which computes the same sums by other means."""

from __future__ import annotations

import numpy as np
import onnx
import onnxruntime
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from trtlearn.errors import DataError, ModelError
from trtlearn.int8.kernels import (
    PixelTrace,
    conv_sums,
    deconv_sums,
    int8_layer,
    matmul_sums,
    quantize_weights,
    requantize,
    trace_pixel,
    windows,
)
from trtlearn.int8.quant import quantize, weight_scales

RNG = np.random.default_rng(5)


def codes(*shape, low=-128):
    return RNG.integers(low, 128, shape).astype(np.int8)


def ort(node, **arrays):
    """One node in ONNX Runtime: constants and inputs alike are fed."""
    kinds = {name: helper.np_dtype_to_tensor_dtype(array.dtype) for name, array in arrays.items()}
    graph = helper.make_graph(
        [node],
        "one",
        [
            helper.make_tensor_value_info(name, kinds[name], array.shape)
            for name, array in arrays.items()
        ],
        [helper.make_tensor_value_info("y", TensorProto.UNDEFINED, None)],
    )
    if node.op_type == "QLinearConv":
        graph.output[0].type.tensor_type.elem_type = TensorProto.INT8
    else:
        graph.output[0].type.tensor_type.elem_type = TensorProto.FLOAT
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), providers=["CPUExecutionProvider"]
    )
    return session.run(None, arrays)[0]


shapes = st.fixed_dictionaries(
    {
        "groups": st.integers(1, 3),
        "cin": st.integers(1, 4),
        "cout": st.integers(1, 3),
        "size": st.tuples(st.integers(5, 9), st.integers(5, 9)),
        "kernel": st.tuples(st.integers(1, 3), st.integers(1, 3)),
        "strides": st.tuples(st.integers(1, 3), st.integers(1, 3)),
        "dilations": st.tuples(st.integers(1, 2), st.integers(1, 2)),
        "pads": st.tuples(*[st.integers(0, 2)] * 4),
    }
)


@settings(max_examples=60, deadline=None)
@given(shapes)
def test_convolution_sums_are_the_exact_integers(case):
    g = case["groups"]
    x = codes(2, g * case["cin"], *case["size"])
    w = codes(g * case["cout"], case["cin"], *case["kernel"], low=-127)
    geometry = {name: case[name] for name in ("strides", "pads", "dilations")}
    ours = conv_sums(x, w, groups=g, **geometry)
    node = helper.make_node(
        "Conv", ["x", "w"], ["y"], group=g, kernel_shape=case["kernel"], **geometry
    )
    exact = ort(
        node, x=x.astype(np.float32), w=w.astype(np.float32)
    )  # all sums below 2^24: float32 is exact
    np.testing.assert_array_equal(ours, exact)
    assert ours.dtype == np.int32


@settings(max_examples=60, deadline=None)
@given(shapes, st.integers(0, 1))
def test_deconvolution_sums_are_the_exact_integers(case, more):
    g = case["groups"]
    x = codes(2, g * case["cin"], *case["size"])
    w = codes(g * case["cin"], case["cout"], *case["kernel"], low=-127)
    geometry = {name: case[name] for name in ("strides", "pads", "dilations")}
    geometry["output_padding"] = tuple(min(more, s - 1) for s in case["strides"])
    ours = deconv_sums(x, w, groups=g, **geometry)
    node = helper.make_node(
        "ConvTranspose", ["x", "w"], ["y"], group=g, kernel_shape=case["kernel"], **geometry
    )
    np.testing.assert_array_equal(ours, ort(node, x=x.astype(np.float32), w=w.astype(np.float32)))


@pytest.mark.parametrize("rank", [1, 3])
def test_one_and_three_dimensions(rank):
    x, w = codes(2, 4, *[6] * rank), codes(6, 2, *[3] * rank, low=-127)
    pads = [1] * 2 * rank
    node = helper.make_node("Conv", ["x", "w"], ["y"], group=2, pads=pads)
    exact = ort(node, x=x.astype(np.float32), w=w.astype(np.float32))
    np.testing.assert_array_equal(conv_sums(x, w, pads=pads, groups=2), exact)


def test_long_sums_do_not_round():
    """4,000 products of the largest codes end at 64 million, which float32 cannot hold in
    between.
    """
    x = np.full((1, 4000), -128, np.int8)
    w = np.full((4000, 1), -127, np.int8)
    x[0, 0] = 1
    assert matmul_sums(x, w)[0, 0] == 3999 * 128 * 127 - 127
    big = conv_sums(x.reshape(1, 4000, 1, 1), w.reshape(1, 4000, 1, 1))
    assert big[0, 0, 0, 0] == 3999 * 128 * 127 - 127


def test_a_large_batch_is_the_same_as_its_images():
    x, w = codes(300, 8, 12, 12), codes(16, 8, 3, 3, low=-127)
    whole = conv_sums(x, w, pads=1)
    for index in (0, 137, 299):
        np.testing.assert_array_equal(
            whole[index : index + 1], conv_sums(x[index : index + 1], w, pads=1)
        )


def test_matrix_products_of_any_rank():
    x, w = codes(3, 5, 7), codes(7, 4, low=-127)
    np.testing.assert_array_equal(matmul_sums(x, w), x.astype(np.int64) @ w.astype(np.int64))


@settings(max_examples=25, deadline=None)
@given(st.integers(1, 4), st.integers(0, 1), st.booleans())
def test_requantized_convolution_is_onnx_runtimes(groups, pad, relu):
    """QLinearConv's semantics coincide where the bias is a whole number of sums."""
    x, w = codes(2, groups * 4, 17, 17), codes(groups * 3, 4, 3, 3, low=-127)
    s_w = RNG.uniform(0.001, 0.02, len(w)).astype(np.float32)
    s_x, s_y = np.float32(0.013), np.float32(0.06)
    bias = RNG.integers(-9000, 9000, len(w)).astype(np.int32)
    zero = np.int8(0)
    node = helper.make_node(
        "QLinearConv",
        ["x", "sx", "zx", "w", "sw", "zw", "sy", "zy", "b"],
        ["y"],
        group=groups,
        pads=[pad] * 4,
    )
    theirs = ort(
        node,
        x=x,
        sx=np.array(s_x),
        zx=np.array(zero),
        w=w,
        sw=s_w,
        zw=np.zeros(len(w), np.int8),
        sy=np.array(s_y),
        zy=np.array(zero),
        b=bias,
    )
    theirs = np.maximum(theirs, 0) if relu else theirs
    factor = s_x * s_w / s_y
    ours = requantize(
        conv_sums(x, w, pads=pad, groups=groups), factor, bias * factor, low=0.0 if relu else -128.0
    )
    gap = np.abs(ours.astype(int) - theirs)
    assert gap.max() <= 1
    assert (gap > 0).sum() <= 2 + 0.001 * gap.size
    assert len(np.unique(theirs)) > 20  # the comparison is of real numbers, not of zeros


def test_ties_go_to_even_and_the_ends_clip():
    sums = np.array([[1, 3, 5, -1, -3, 100000, -100000]], np.int32)
    assert requantize(sums, 0.5).tolist() == [[0, 2, 2, 0, -2, 127, -128]]
    assert requantize(sums, 0.5, low=0.0).tolist() == [[0, 2, 2, 0, 0, 127, 0]]
    assert requantize(sums, 0.5, 0.5).tolist()[0][:2] == [1, 2]


def test_a_channel_has_its_own_multiplier_and_the_residual_adds_before_rounding():
    sums = np.ones((1, 2, 2, 2), np.int32)
    assert requantize(sums, [1.0, 10.0])[0, :, 0, 0].tolist() == [1, 10]
    added = np.full(sums.shape, 0.4, np.float32)
    assert (
        requantize(sums, 0.2, added=added).max() == 1
    )  # 0.6, where 0 and 0 would have been rounded apart


def test_weights_are_quantized_per_channel_within_127():
    w = RNG.normal(size=(6, 3, 3, 3)).astype(np.float32) * np.logspace(
        -9, 3, 6, dtype=np.float32
    ).reshape(-1, 1, 1, 1)
    q, scales = quantize_weights(w)
    np.testing.assert_array_equal(scales, weight_scales(w))
    np.testing.assert_array_equal(q, quantize(w, scales, axis=0, qmin=-127))
    assert (np.abs(q).reshape(6, -1).max(axis=1) == 127).all()
    zeros, zero_scales = quantize_weights(np.zeros((2, 3), np.float32))
    assert not zeros.any()
    assert not zero_scales.any()


@pytest.mark.parametrize("groups", [1, 4])
@pytest.mark.parametrize("relu", [False, True])
def test_a_traced_pixel_is_the_layers_own(groups, relu):
    x = codes(2, 8, 7, 6)
    geometry = {"strides": (2, 1), "pads": (1, 0, 2, 1), "dilations": (1, 2), "groups": groups}
    layer = int8_layer(
        RNG.normal(size=(12, 8 // groups, 3, 3)),
        0.02,
        0.05,
        RNG.normal(size=12),
        low=0.0 if relu else -np.inf,
        **geometry,
    )
    residual = RNG.normal(size=layer.run(x).shape).astype(np.float32)
    out, plain = layer.run(x, residual), layer.run(x)
    for _ in range(40):
        where = tuple(int(RNG.integers(n)) for n in out.shape)
        trace = trace_pixel(layer, x, where, float(residual[where]))
        assert trace.code == out[where]
        assert trace.sum == sum(trace.products) == layer.sums(x)[where]
        assert trace_pixel(layer, x, where).code == plain[where]
    assert PixelTrace.from_json(trace.to_json()) == trace
    assert "sum" in trace.summary()


def test_a_traced_product_of_matrices():
    x = codes(4, 3, 10)
    layer = int8_layer(RNG.normal(size=(10, 6)), 0.02, 0.05, RNG.normal(size=6), kind="matmul")
    out = layer.run(x)
    assert trace_pixel(layer, x, (2, 1, 5)).code == out[2, 1, 5]


def test_an_fp32_output_is_the_scaled_sum():
    x = codes(1, 4, 5, 5)
    layer = int8_layer(RNG.normal(size=(3, 4, 1, 1)), 0.02, None, [0.5, 0.0, -0.5])
    y = layer.run(x)
    assert y.dtype == np.float32
    exact = (
        layer.sums(x) * (0.02 * layer.weight_scales.astype(float))[:, None, None]
        + layer.bias[:, None, None]
    )
    np.testing.assert_allclose(y, exact, rtol=1e-5, atol=1e-6)


def test_deconvolution_layers_scale_by_their_output_channel():
    w = RNG.normal(size=(4, 3, 2, 2)).astype(np.float32) * np.array(
        [1, 10, 100], np.float32
    ).reshape(1, 3, 1, 1)
    layer = int8_layer(w, 0.02, 0.5, kind="deconv", strides=2)
    np.testing.assert_array_equal(layer.weight_scales, weight_scales(w, axis=1))
    grouped = int8_layer(w, 0.02, 0.5, kind="deconv", strides=2, groups=2)
    assert grouped.weight_scales.shape == (6,)
    assert grouped.run(codes(1, 4, 3, 3)).shape == (1, 6, 6, 6)


def test_bad_input_says_what_is_wrong():
    x, w = codes(1, 4, 5, 5), codes(3, 4, 3, 3)
    with pytest.raises(DataError, match="float64"):
        conv_sums(np.zeros((1, 4, 5, 5)), w)
    with pytest.raises(DataError, match="2 groups"):
        conv_sums(x, w, groups=2)
    with pytest.raises(DataError, match="does not fit into"):
        conv_sums(x[..., :2], w)
    with pytest.raises(DataError, match="strides"):
        conv_sums(x, w, strides=(1, 2, 3))
    with pytest.raises(DataError, match="do not multiply"):
        matmul_sums(codes(2, 3), codes(4, 5))
    with pytest.raises(DataError, match="expected int32"):
        requantize(np.zeros((1, 2)), 1.0)
    with pytest.raises(DataError, match="input_scale"):
        int8_layer(np.ones((1, 1, 1, 1)), 0.0, 1.0)
    with pytest.raises(DataError, match="2 biases"):
        int8_layer(np.ones((1, 1, 1, 1)), 1.0, 1.0, [1.0, 2.0])
    with pytest.raises(DataError, match="outside"):
        trace_pixel(int8_layer(np.ones((1, 4, 3, 3)), 1.0, 1.0), x, (0, 0, 3, 0))
    with pytest.raises(DataError, match="dimensions"):
        windows(x, [3])


def test_a_whole_network_agrees_with_its_float_self(tmp_path):
    """conv + residual + ReLU, pooling, deconvolution, concat, Gemm: small steps give nearly the
    float result.
    """
    from trtlearn.int8.simulate import run_int8, tensor_errors

    rng = np.random.default_rng(1)
    w = {
        "w1": rng.normal(size=(8, 3, 3, 3)),
        "w2": rng.normal(size=(8, 1, 3, 3)),
        "w3": rng.normal(size=(8, 4, 2, 2)),
        "w4": rng.normal(size=(5, 12 * 8 * 8)) / 20,
        "b1": rng.normal(size=8),
        "b4": rng.normal(size=5),
        "low": np.array(0.0),
        "high": np.array(6.0),
    }
    make = helper.make_node
    nodes = [
        make("Conv", ["x", "w1", "b1"], ["c1"], "c1", pads=[1] * 4),
        make("Conv", ["c1", "w2"], ["c2"], "c2", pads=[1] * 4, group=8),
        make("Add", ["c2", "c1"], ["a"], "a"),
        make("Relu", ["a"], ["r"], "r"),
        make("MaxPool", ["r"], ["m"], "m", kernel_shape=[2, 2], strides=[2, 2]),
        make("AveragePool", ["r"], ["v"], "v", kernel_shape=[3, 3], strides=[2, 2], pads=[1] * 4),
        make("Clip", ["m", "low", "high"], ["k"], "k"),
        make(
            "ConvTranspose",
            ["k", "w3"],
            ["t"],
            "t",
            kernel_shape=[2, 2],
            strides=[1, 1],
            pads=[0, 0, 1, 1],
        ),
        make("Concat", ["t", "v"], ["j"], "j", axis=1),
        make("Flatten", ["j"], ["f"], "f"),
        make("Gemm", ["f", "w4", "b4"], ["y"], "y", transB=1),
    ]
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 3, 16, 16])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", 5])],
        [numpy_helper.from_array(np.asarray(value, np.float32), name) for name, value in w.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    path = tmp_path / "net.onnx"
    onnx.save(model, str(path))
    probe = onnx.ModelProto()
    probe.CopyFrom(model)
    names = [node.output[0] for node in nodes]
    del probe.graph.output[:]
    probe.graph.output.extend(
        helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in names
    )
    x = rng.normal(size=(4, 3, 16, 16)).astype(np.float32)
    session = onnxruntime.InferenceSession(
        probe.SerializeToString(), providers=["CPUExecutionProvider"]
    )
    reference = dict(zip(names, session.run(None, {"x": x}), strict=True)) | {"x": x}
    scales = {name: float(np.abs(value).max() / 127) for name, value in reference.items()}
    run = run_int8(path, scales, {"x": x})
    assert ("c2", "a", "r") in run.groups
    assert set(run.layers) == {"c1", "c2", "t", "y"}
    assert "a" not in run.tensors  # never leaves its layer
    assert run["m"].scale == run["r"].scale  # pooling keeps the scale
    assert run["y"].codes is None  # an output stays FP32
    errors = {error.name: error for error in tensor_errors(run, reference)}
    assert min(error.total_sqnr_db for error in errors.values()) > 22
    assert errors["c1"].own.clipped_count == 0
    assert errors["f"].total_sqnr_db == pytest.approx(errors["j"].total_sqnr_db)
    worse = run_int8(path, scales | {"c1": scales["c1"] / 40}, {"x": x})
    broken = {error.name: error for error in tensor_errors(worse, reference)}
    assert (
        broken["c1"].own.clip_error > 10 * broken["c1"].own.rounding_error
    )  # the broken range shows as clipping
    assert broken["y"].total_sqnr_db < errors["y"].total_sqnr_db - 10
    with pytest.raises(DataError, match="'x' is missing"):
        run_int8(path, scales, {})
    with pytest.raises(DataError, match="each node once"):
        run_int8(path, scales, {"x": x}, groups=[("c1",)])
    with pytest.raises(DataError, match="no tensor 'a'"):
        run["a"]
    with pytest.raises(ModelError):
        run_int8(b"no model", scales, {"x": x})
