"""Networks of one or few layers whose INT8 arithmetic recording/arithmetic/record.py records:
models, ranges and inputs.

Each case is an ONNX model, a range for each tensor, and inputs given as INT8 codes, so that nothing
but the layer itself stands between what goes in and what comes out. Needs numpy and onnx;
deterministic.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import cache
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from onnx.reference import ReferenceEvaluator

__all__ = ["Case", "cases"]

Array = NDArray[Any]


@dataclass(frozen=True)
class Case:
    """One experiment. ``inputs`` hold int8 codes, or float32 where TensorRT is to quantize the
    input itself.
    """

    name: str
    question: str
    model: onnx.ModelProto
    ranges: dict[str, float]  # tensor -> amax; every other tensor has no range
    inputs: dict[str, Array]
    int8_output: bool
    constant_range: float | None = None  # amax set on constants that the parser makes of weights
    extra: dict[str, Array] = field(default_factory=dict)


def _model(
    name: str, nodes: list[onnx.NodeProto], weights: dict[str, Array], inputs: dict[str, Array]
) -> onnx.ModelProto:
    last = nodes[-1].output[0]
    graph = helper.make_graph(
        nodes,
        name,
        [
            helper.make_tensor_value_info(key, TensorProto.FLOAT, value.shape)
            for key, value in inputs.items()
        ],
        [helper.make_tensor_value_info(last, TensorProto.FLOAT, None)],
        [numpy_helper.from_array(np.asarray(value), key) for key, value in weights.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    return onnx.shape_inference.infer_shapes(model)


def _floats(inputs: dict[str, Array], ranges: dict[str, float]) -> dict[str, Array]:
    return {
        key: (value.astype(np.float32) * np.float32(np.float32(ranges[key]) / np.float32(127)))
        if value.dtype == np.int8
        else value
        for key, value in inputs.items()
    }


def _case(
    name: str,
    question: str,
    nodes: list[onnx.NodeProto],
    weights: dict[str, Array],
    inputs: dict[str, Array],
    ranges: dict[str, float],
    int8_output: bool = True,
    **more: Any,
) -> Case:
    """A case whose tensors without a range get the 99.7th percentile of |x| in FP32, so that a few
    values clip.
    """
    model = _model(name, nodes, weights, inputs)
    outputs = [node.output[0] for node in nodes]
    probe = onnx.ModelProto()
    probe.CopyFrom(model)
    del probe.graph.output[:]
    probe.graph.output.extend(
        helper.make_tensor_value_info(key, TensorProto.FLOAT, None) for key in outputs
    )
    values = ReferenceEvaluator(probe).run(None, _floats(inputs, ranges))
    full = dict(ranges)
    for key, value in zip(outputs, values, strict=True):
        full.setdefault(key, float(np.float32(np.percentile(np.abs(value), 99.7) + 1e-6)))
    return Case(name, question, model, full, inputs, int8_output, **more)


def _codes(rng: np.random.Generator, *shape: int, bound: int = 128) -> Array:
    return rng.integers(-bound, min(bound, 127) + 1, shape).astype(np.int8)


def _weights(rng: np.random.Generator, *shape: int, axis: int = 0) -> Array:
    """Normal weights whose channels' sizes differ widely along ``axis``."""
    gains = rng.lognormal(0, 0.8, shape[axis])
    spread = [1] * len(shape)
    spread[axis] = -1
    fan = np.prod(shape) / shape[axis]
    return (rng.normal(size=shape) * gains.reshape(spread) / np.sqrt(fan)).astype(np.float32)


def _conv(
    rng: np.random.Generator,
    name: str,
    question: str,
    channels: tuple[int, int] = (32, 48),
    size: int = 12,
    kernel: int = 3,
    act: str | None = None,
    residual: bool = False,
    bound: int = 128,
    exact: bool = False,
    ranges: dict[str, float] | None = None,
    int8_output: bool = True,
    **attributes: Any,
) -> Case:
    cin, cout = channels
    groups = attributes.get("group", 1)
    shape = (cout, cin // groups, kernel, kernel)
    attributes.setdefault("pads", [kernel // 2] * 4)
    if exact:  # scales are powers of two and amax is on the grid: many sums end in exactly .5
        w = rng.integers(-3, 4, shape).astype(np.float32) * np.float32(2.0**-6)
        w.reshape(cout, -1)[:, 0] = np.float32(127 * 2.0**-6)
        bias = (rng.integers(-40, 41, cout) * 2.0**-9).astype(np.float32)
        given = {"x": 127 * 2.0**-4, "y": 127 * 2.0**-8, "r": 127 * 2.0**-8}
    else:
        w = _weights(rng, *shape)
        bias = rng.normal(0, 1.0, cout).astype(np.float32)
        given = {"x": 3.1, "r": 2.3}
    inputs = {"x": _codes(rng, 4, cin, size, size, bound=bound)}
    names = ["conv"] + (["add"] if residual else []) + ([act.lower()] if act else [])
    nodes = [helper.make_node("Conv", ["x", "w", "b"], ["conv"], "conv", **attributes)]
    weights: dict[str, Array] = {"w": w, "b": bias}
    if residual:
        side = (size + 2 * attributes["pads"][0] - kernel) // attributes.get("strides", [1])[0] + 1
        inputs["r"] = _codes(rng, 4, cout, side, side)
        nodes.append(helper.make_node("Add", ["conv", "r"], ["add"], "add"))
    if act == "Clip":
        weights |= {"low": np.float32(0), "high": np.float32(2.5)}
        nodes.append(helper.make_node("Clip", [names[-2], "low", "high"], ["clip"], "clip"))
    elif act:
        extra = {"alpha": 0.1} if act == "LeakyRelu" else {}
        nodes.append(helper.make_node(act, [names[-2]], [names[-1]], names[-1], **extra))
    if "y" in given:
        given[names[-1]] = given.pop("y")
    given = {key: value for key, value in given.items() if key in (*inputs, *names)} | (
        ranges or {}
    )
    return _case(name, question, nodes, weights, inputs, given, int8_output)


def _readback(
    name: str, question: str, w: Array, kind: str = "Conv", int8_output: bool = False, **more: Any
) -> Case:
    """One-hot inputs of code 127: each output is one quantized weight times 127 · s_in ·
    s_w[channel], in FP32.
    """
    constant_range = more.pop("constant_range", None)
    if kind in ("Conv", "ConvTranspose"):
        groups = more.get("group", 1)
        cin = w.shape[1] * groups if kind == "Conv" else w.shape[0]
        k = w.shape[2]
        if (
            k == 1 or kind == "ConvTranspose"
        ):  # a one-hot channel at each pixel, all pixels of one image
            side = int(np.ceil(np.sqrt(cin)))
            x = np.zeros((1, cin, side * side), np.int8)
            x[0, np.arange(cin), np.arange(cin)] = 127
            x = x.reshape(1, cin, side, side)
        else:  # one image for each of the filter's positions
            x = np.zeros((cin * k * k, cin * k * k), np.int8)
            np.fill_diagonal(x, 127)
            x = x.reshape(cin * k * k, cin, k, k)
        nodes = [helper.make_node(kind, ["x", "w"], ["y"], "y", **more)]
    else:
        x = np.diag(np.full(w.shape[1 if more.get("transB") else 0], 127, np.int8))
        nodes = [helper.make_node(kind, ["x", "w"], ["y"], "y", **more)]
    return _case(
        name,
        question,
        nodes,
        {"w": w},
        {"x": x},
        {"x": 127 * 2.0**-5},
        int8_output,
        constant_range=constant_range,
    )


def _edge_weights(rng: np.random.Generator) -> Array:
    """[48, 256, 1, 1]: channels made to show how a weight is scaled and rounded (see the
    comments).
    """
    w = rng.normal(size=(48, 256)).astype(np.float32)
    ties = (np.arange(-127, 127) + 0.5).astype(np.float32)  # 254 of them
    w[1] = np.concatenate([[127, -127], ties]) * np.float32(2.0**-6)  # exact ties, scale 2^-6
    w[2] = 0  # nothing to represent
    for channel, size in ((3, 1e-9), (4, 1e-20), (5, 1e-30), (6, 1e-37)):  # tiny
        w[channel] *= np.float32(size)
    w[7] *= np.float32(0.01)
    w[7, 9] = 100  # one outlier
    w[8] = -np.abs(w[8])  # amax is a negative weight
    w[9] = np.float32(0.3)  # all alike
    w[10] = 0
    w[10, 5] = np.float32(-0.7)  # one weight only
    for channel in range(16, 48):  # within three last bits of a tie: which division is it?
        amax = np.float32(rng.uniform(0.5, 8))
        near = (ties * (amax / np.float32(127))).astype(np.float32)
        bits = near.view(np.int32) + rng.integers(-3, 4, 254).astype(np.int32)
        w[channel] = np.concatenate([[amax, -amax], bits.view(np.float32)])
    return w.reshape(48, 256, 1, 1)


def _image_case(name: str, question: str, x: Array, amax: float) -> Case:
    """FP32 in, an identity convolution, INT8 out with the input's scale: reads back how the input
    was quantized.
    """
    nodes = [helper.make_node("Conv", ["x", "w"], ["y"], "y")]
    w = np.ones((1, 1, 1, 1), np.float32)
    model = _model(name, nodes, {"w": w}, {"x": x})
    return Case(name, question, model, {"x": amax, "y": amax}, {"x": x}, True)


def _near_ties(rng: np.random.Generator) -> Iterator[Case]:
    """Weights within three last bits of a tie, read back through layers with INT8 outputs and what
    is fused into them.

    One-hot inputs; the output's step is the smallest channel's, so each code up to 127 · smallest /
    its channel's tells its weight's code.
    """
    ties = (np.arange(-127, 127) + 0.5).astype(np.float32)
    for name, kernel, residual, act, group in (
        ("near_conv", 1, False, None, 1),
        ("near_relu", 1, False, "Relu", 1),
        ("near_add", 1, True, None, 1),
        ("near_add_relu", 1, True, "Relu", 1),
        ("near_add_relu_3x3", 3, True, "Relu", 1),
        ("near_depthwise", 3, False, None, 64),
    ):
        cin = 64 if group > 1 else 256 if kernel == 1 else 32
        count = 64
        w: Array = np.zeros((count, cin // group * kernel * kernel), np.float32)
        amax = np.concatenate([[1.0], rng.uniform(1, 1.5, count - 1)]).astype(np.float32)
        for channel in range(count):
            near = (
                rng.permutation(ties)[: w.shape[1] - 1] * (amax[channel] / np.float32(127))
            ).astype(np.float32)
            bits = near.view(np.int32) + rng.integers(-3, 4, near.size).astype(np.int32)
            w[channel, 0] = amax[channel]
            w[channel, 1 : 1 + near.size] = bits.view(np.float32)
        w = w.reshape(count, cin // group, kernel, kernel)
        if kernel == 1:
            x: Array = np.zeros((1, cin, cin), np.int8)
            x[0, np.arange(cin), np.arange(cin)] = 127
            x = x.reshape(1, cin, 16, 16)
        else:
            taps = cin // group * kernel * kernel
            x = np.zeros((taps, cin, kernel, kernel), np.int8)
            for tap in range(taps):
                spot = np.unravel_index(tap, (cin // group, kernel, kernel))
                x[(tap, slice(None) if group > 1 else spot[0], *spot[1:])] = 127
        inputs = {"x": x}
        nodes = [helper.make_node("Conv", ["x", "w"], ["conv"], "conv", group=group)]
        names = ["conv"]
        if residual:
            inputs["r"] = np.zeros(
                (x.shape[0], count, *(n - kernel + 1 for n in x.shape[2:])), np.int8
            )
            nodes.append(helper.make_node("Add", ["conv", "r"], ["add"], "add"))
            names.append("add")
        if act:
            nodes.append(helper.make_node(act, [names[-1]], ["relu"], "relu"))
            names.append("relu")
        ranges = {"x": 3.1, "r": 2.3} | dict.fromkeys(names, 3.1)
        ranges = {key: value for key, value in ranges.items() if key in (*inputs, *names)}
        yield _case(
            name,
            "is a weight near a tie rounded the same in this layer?",
            nodes,
            {"w": w},
            inputs,
            ranges,
        )


def _images(rng: np.random.Generator) -> Iterator[Case]:
    grid = (np.arange(-320, 320) * np.float32(0.5)).astype(np.float32).reshape(1, 1, 20, 32)
    yield _image_case(
        "image_ties",
        "a float input on exact ties and out of range: even, and [-128, 127]?",
        grid,
        127.0,
    )
    amax = 2.7182
    ties = (np.arange(-128, 128) + 0.5) * float(np.float32(amax) / np.float32(127))
    near = np.repeat(ties.astype(np.float32), 25).view(np.int32) + np.tile(
        np.arange(-12, 13), 256
    ).astype(np.int32)
    x = near.view(np.float32).reshape(1, 1, 80, 80)
    yield _image_case("image_near_ties", "x / scale or x · (1 / scale)?", x, amax)
    odd = np.array(
        [np.nan, np.inf, -np.inf, 1e30, -1e30, 1e-40, 0.0, -0.0] * 8, np.float32
    ).reshape(1, 1, 8, 8)
    yield _image_case("image_special", "what becomes of NaN and infinity in the image?", odd, 1.0)


def _pools(rng: np.random.Generator) -> Iterator[Case]:
    x = {"x": _codes(rng, 4, 32, 13, 13)}
    window = {"kernel_shape": [3, 3], "strides": [2, 2], "pads": [1, 1, 1, 1]}
    plans: list[tuple[str, str, dict[str, Any]]] = [
        ("maxpool", "MaxPool", window),
        ("avgpool", "AveragePool", window | {"count_include_pad": 0}),
        ("avgpool_padded", "AveragePool", window | {"count_include_pad": 1}),
        ("gap", "GlobalAveragePool", {}),
        ("relu", "Relu", {}),
        ("sigmoid", "Sigmoid", {}),
    ]
    for name, op, attributes in plans:
        node = helper.make_node(op, ["x"], ["y"], "y", **attributes)
        ranges = {"x": 3.1, "y": 3.1} if name == "maxpool" else {"x": 3.1}
        yield _case(name, f"{op} from INT8 to INT8", [node], {}, x, ranges)
    node = helper.make_node("MaxPool", ["x"], ["y"], "y", **window)
    yield _case(
        "maxpool_other_scale",
        "does MaxPool rescale to its output's own range?",
        [node],
        {},
        x,
        {"x": 3.1, "y": 2.0},
    )
    node = helper.make_node("Add", ["x", "r"], ["y"], "y")
    pair = {"x": x["x"], "r": _codes(rng, 4, 32, 13, 13)}
    yield _case("add", "INT8 + INT8 with three scales", [node], {}, pair, {"x": 3.1, "r": 1.7})
    node = helper.make_node("Concat", ["x", "r"], ["y"], "y", axis=1)
    yield _case(
        "concat",
        "Concat of two scales into a third",
        [node],
        {},
        pair,
        {"x": 3.1, "r": 1.7, "y": 3.1},
    )


def _products(rng: np.random.Generator) -> Iterator[Case]:
    x = {"x": _codes(rng, 64, 96)}
    w, bias = _weights(rng, 96, 40, axis=1), rng.normal(size=40).astype(np.float32)
    gemm = helper.make_node("Gemm", ["x", "w", "b"], ["gemm"], "gemm")
    yield _case("gemm", "Gemm with bias", [gemm], {"w": w, "b": bias}, x, {"x": 3.1})
    wt = np.ascontiguousarray(w.T)
    gemm = helper.make_node("Gemm", ["x", "w", "b"], ["gemm"], "gemm", transB=1)
    relu = helper.make_node("Relu", ["gemm"], ["relu"], "relu")
    yield _case(
        "gemm_relu",
        "Gemm, transposed, with ReLU",
        [gemm, relu],
        {"w": wt, "b": bias},
        x,
        {"x": 3.1},
    )
    tokens = {"x": _codes(rng, 4, 24, 96)}
    matmul = helper.make_node("MatMul", ["x", "w"], ["y"], "y")
    yield _case(
        "matmul", "MatMul of three dimensions by a constant", [matmul], {"w": w}, tokens, {"x": 3.1}
    )


def _deconvs(rng: np.random.Generator) -> Iterator[Case]:
    x = {"x": _codes(rng, 2, 32, 7, 7)}
    w, bias = _weights(rng, 32, 24, 2, 2, axis=1), rng.normal(size=24).astype(np.float32)
    node = helper.make_node("ConvTranspose", ["x", "w", "b"], ["y"], "y", strides=[2, 2])
    yield _case(
        "deconv2x2_s2", "deconvolution, stride 2", [node], {"w": w, "b": bias}, x, {"x": 3.1}
    )
    w = _weights(rng, 32, 24, 4, 4, axis=1)
    node = helper.make_node(
        "ConvTranspose", ["x", "w", "b"], ["y"], "y", strides=[2, 2], pads=[1, 1, 1, 1]
    )
    yield _case(
        "deconv4x4_s2", "deconvolution with overlap", [node], {"w": w, "b": bias}, x, {"x": 3.1}
    )


def _readbacks(rng: np.random.Generator) -> Iterator[Case]:
    yield _readback("weights_edge", "how is each weight scaled and rounded?", _edge_weights(rng))
    yield _readback(
        "weights_conv3x3", "3x3: one scale per output channel?", _weights(rng, 32, 8, 3, 3)
    )
    yield _readback(
        "weights_depthwise",
        "depthwise: one scale per channel?",
        _weights(rng, 32, 1, 3, 3),
        group=32,
    )
    yield _readback(
        "weights_groups", "groups: one scale per channel?", _weights(rng, 32, 8, 3, 3), group=4
    )
    deconv = _weights(rng, 64, 24, 2, 2, axis=1)
    yield _readback(
        "weights_deconv",
        "deconvolution: scales along axis 1?",
        deconv,
        "ConvTranspose",
        strides=[2, 2],
    )
    w = _weights(rng, 96, 40, axis=1)
    yield _readback(
        "weights_gemm",
        "Gemm: per column or per tensor?",
        np.ascontiguousarray(w.T),
        "Gemm",
        transB=1,
    )
    yield _readback("weights_matmul", "MatMul: per column or per tensor?", w, "MatMul")
    big = (w * np.float32(8 / np.abs(w).max())).astype(np.float32)
    question = "does trtexec's placeholder of ±2 on the weight constant clip weights of up to 8?"
    yield _readback("weights_matmul_placeholder", question, big, "MatMul", constant_range=2.0)
    yield _readback("weights_gemm_placeholder", question, big, "Gemm", constant_range=2.0)
    huge = (rng.normal(size=(8, 64, 1, 1)) * 1e35).astype(np.float32)
    yield _readback("weights_huge", "weights of 1e35", huge)


def _convolutions(rng: np.random.Generator) -> Iterator[Case]:
    def conv(name: str, question: str, **more: Any) -> Case:
        return _conv(rng, name, question, **more)

    make: Callable[..., Case] = conv
    yield make("conv3x3", "the plain case: 3x3, padding 1, bias")
    yield make("conv3x3_s2", "stride 2", strides=[2, 2])
    yield make("conv3x3_d2", "dilation 2", dilations=[2, 2], pads=[2, 2, 2, 2])
    yield make("conv5x5_uneven", "5x5, uneven padding", kernel=5, pads=[1, 2, 2, 1])
    yield make("conv_groups", "4 groups", group=4)
    yield make("depthwise", "depthwise", channels=(48, 48), group=48)
    yield make(
        "depthwise_relu6", "depthwise, clipped to [0, 2.5]", channels=(48, 48), group=48, act="Clip"
    )
    yield make("conv1x1", "1x1", kernel=1, channels=(64, 48))
    yield make("conv_odd", "3 channels in, 5 out", channels=(3, 5), size=17)
    yield make(
        "conv_relu",
        "ReLU fused; its input's range is absurd on purpose",
        act="Relu",
        ranges={"conv": 0.01},
    )
    yield make("conv_clip", "clip to [0, 2.5] fused", act="Clip")
    yield make("conv_leaky", "LeakyRelu 0.1 fused?", act="LeakyRelu")
    yield make("conv_sigmoid", "Sigmoid fused?", act="Sigmoid")
    yield make(
        "conv_add",
        "residual fused; its input's range is absurd on purpose",
        residual=True,
        ranges={"conv": 0.01},
    )
    yield make(
        "conv_add_relu",
        "residual and ReLU fused",
        residual=True,
        act="Relu",
        ranges={"conv": 0.01, "add": 0.01},
    )
    yield make(
        "conv_add_relu_s2", "residual, ReLU, stride 2", residual=True, act="Relu", strides=[2, 2]
    )
    yield make(
        "conv_ties",
        "sums of exactly .5: which way?",
        exact=True,
        bound=4,
        kernel=1,
        channels=(16, 64),
    )
    yield make(
        "conv_ties_relu",
        "the same with ReLU",
        exact=True,
        bound=4,
        kernel=1,
        channels=(16, 64),
        act="Relu",
    )
    yield make(
        "conv_ties_add",
        "the same with a residual",
        exact=True,
        bound=4,
        kernel=1,
        channels=(16, 64),
        residual=True,
    )
    coarse: dict[str, Any] = {"channels": (4, 64), "kernel": 1, "bound": 3, "ranges": {"x": 60.0}}
    yield make("conv_bias", "large steps: is the bias float or rounded to int32?", **coarse)
    yield make("conv_fp32_out", "INT8 in, FP32 out with bias", int8_output=False)
    yield make(
        "conv_relu_fp32_out", "INT8 in, FP32 out with bias and ReLU", int8_output=False, act="Relu"
    )
    yield make(
        "conv_deep", "sums beyond 2^24", channels=(512, 16), kernel=3, size=5, int8_output=False
    )


@cache
def cases() -> list[Case]:
    """All cases, the most telling first."""
    rng = np.random.default_rng(20261123)
    groups = [
        _convolutions(rng),
        _readbacks(rng),
        _images(rng),
        _products(rng),
        _deconvs(rng),
        _pools(rng),
    ]
    return [case for group in (*groups, _near_ties(rng)) for case in group]
