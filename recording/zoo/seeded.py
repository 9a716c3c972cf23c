"""The zoo's networks with seeded weights, written node by node in ONNX (opset 13, static batch)."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

__all__ = ["Net", "conv1d", "inception", "layer_norm", "recurrent", "transformer"]


class Net:
    """A network being written: each method adds one node, named like the tensor it makes, and
    returns that name.
    """

    def __init__(self, random: np.random.Generator) -> None:
        self.random = random
        self.nodes: list[onnx.NodeProto] = []
        self.weights: dict[str, np.ndarray] = {}

    def constant(self, name: str, value: Any) -> str:
        """A weight tensor; the same name may be asked for again."""
        self.weights.setdefault(name, np.asarray(value))
        return name

    def normal(self, name: str, shape: tuple[int, ...], sigma: float, mean: float = 0.0) -> str:
        """A float32 weight tensor drawn from a normal distribution."""
        return self.constant(name, self.random.normal(mean, sigma, shape).astype(np.float32))

    def op(self, kind: str, name: str, *inputs: str, **attributes: Any) -> str:
        """A node of any kind with one output."""
        self.nodes.append(helper.make_node(kind, list(inputs), [name], name, **attributes))
        return name

    def conv(
        self,
        name: str,
        x: str,
        width: int,
        channels: int,
        kernel: tuple[int, ...],
        **attributes: Any,
    ) -> str:
        """A convolution with He-normal weights, a small bias, and padding that keeps the size at
        stride 1.
        """
        sigma = (2 / (width * np.prod(kernel))) ** 0.5
        weight = self.normal(f"{name}.weight", (channels, width, *kernel), sigma)
        bias = self.normal(f"{name}.bias", (channels,), 0.1)
        dilations = attributes.get("dilations", [1] * len(kernel))
        pads = [
            dilation * (size // 2) for dilation, size in zip(dilations, kernel, strict=True)
        ] * 2
        return self.op(
            "Conv", name, x, weight, bias, kernel_shape=list(kernel), pads=pads, **attributes
        )

    def linear(self, name: str, x: str, width: int, channels: int) -> str:
        """x @ W + b, as MatMul and Add; the MatMul's tensor is NAME_matmul."""
        weight = self.normal(f"{name}.weight", (width, channels), width**-0.5)
        bias = self.normal(f"{name}.bias", (channels,), 0.1)
        return self.op("Add", name, self.op("MatMul", f"{name}_matmul", x, weight), bias)

    def finish(self, name: str, x: tuple[str, list[int]], y: tuple[str, list[int]]) -> bytes:
        """The checked ONNX file with input ``x`` and output ``y``, each a name and a shape."""
        made = helper.make_graph(
            self.nodes,
            name,
            [helper.make_tensor_value_info(x[0], TensorProto.FLOAT, x[1])],
            [helper.make_tensor_value_info(y[0], TensorProto.FLOAT, y[1])],
            [
                numpy_helper.from_array(np.asarray(value, order="C"), key)
                for key, value in self.weights.items()
            ],
        )
        model = helper.make_model(
            made, opset_imports=[helper.make_opsetid("", 13)], producer_name="trtlearn"
        )
        model.ir_version = 8
        onnx.checker.check_model(model, full_check=True)
        return model.SerializeToString(deterministic=True)


def inception(random: np.random.Generator, batch: int) -> bytes:
    """Stem, two blocks of four branches joined by Concat (one an average pool), a reduction block,
    a classifier.
    """
    net = Net(random)

    def unit(name: str, x: str, width: int, channels: int, size: int, **attributes: Any) -> str:
        made = net.conv(name, x, width, channels, (size, size), **attributes)
        return net.op("Relu", f"{name}_relu", made)

    x = unit("stem", "image", 3, 16, 3)
    x = net.op("AveragePool", "stem_pool", x, kernel_shape=[2, 2], strides=[2, 2])
    width = 16
    for index in range(2):
        i = f"i{index}_"
        pooled = net.op(
            "AveragePool",
            i + "pool",
            x,
            kernel_shape=[3, 3],
            strides=[1, 1],
            pads=[1, 1, 1, 1],
            count_include_pad=index,
        )
        branches = [
            unit(i + "a1", x, width, 16, 1),
            unit(i + "b3", unit(i + "b1", x, width, 8, 1), 8, 16, 3),
            unit(i + "c3b", unit(i + "c3a", unit(i + "c1", x, width, 8, 1), 8, 12, 3), 12, 16, 3),
            unit(i + "d1", pooled, width, 8, 1),
        ]
        x, width = net.op("Concat", i + "concat", *branches, axis=1), 56
    halved = [
        unit("r_conv", x, width, 24, 3, strides=[2, 2]),
        net.op("MaxPool", "r_pool", x, kernel_shape=[3, 3], strides=[2, 2], pads=[1, 1, 1, 1]),
    ]
    x = net.op("Concat", "r_concat", *halved, axis=1)
    x = unit("mix", x, 80, 32, 1)
    x = net.op("GlobalAveragePool", "gap", x)
    x = net.op("Flatten", "flatten", x, axis=1)
    weight, bias = (
        net.normal("logits.weight", (10, 32), 32**-0.5),
        net.normal("logits.bias", (10,), 0.1),
    )
    net.op("Gemm", "logits", x, weight, bias, transB=1)
    return net.finish("inception", ("image", [batch, 3, 28, 28]), ("logits", [batch, 10]))


def layer_norm(net: Net, name: str, x: str, width: int) -> str:
    """(x - mean) / sqrt(variance + ε) * gain + offset over the last axis, in primitive
    operators.
    """
    mean = net.op("ReduceMean", f"{name}_mean", x, axes=[-1], keepdims=1)
    centred = net.op("Sub", f"{name}_centred", x, mean)
    square = net.op("Mul", f"{name}_square", centred, centred)
    variance = net.op("ReduceMean", f"{name}_variance", square, axes=[-1], keepdims=1)
    raised = net.op("Add", f"{name}_raised", variance, net.constant("epsilon", np.float32([1e-5])))
    deviation = net.op("Sqrt", f"{name}_deviation", raised)
    unit = net.op("Div", f"{name}_unit", centred, deviation)
    scaled = net.op(
        "Mul", f"{name}_scaled", unit, net.normal(f"{name}.gain", (width,), 0.2, mean=1.0)
    )
    return net.op("Add", name, scaled, net.normal(f"{name}.offset", (width,), 0.1))


def transformer(
    random: np.random.Generator, batch: int, tokens: int = 28, width: int = 64, heads: int = 4
) -> bytes:
    """Embedding, one pre-norm block (attention, GELU feed-forward), a last norm, the mean over
    tokens, a classifier.
    """
    net, size = Net(random), width // heads
    x = net.linear("embed", "tokens", 28, width)
    x = net.op("Add", "embed_position", x, net.normal("position", (1, tokens, width), 0.3))
    normed = layer_norm(net, "norm1", x, width)
    split = net.constant("split_shape", np.int64([batch, tokens, heads, size]))
    parts = {}
    for part, order in (("query", [0, 2, 1, 3]), ("key", [0, 2, 3, 1]), ("value", [0, 2, 1, 3])):
        flat = net.linear(part, normed, width, width)
        parts[part] = net.op(
            "Transpose",
            f"{part}_heads",
            net.op("Reshape", f"{part}_split", flat, split),
            perm=order,
        )
    scores = net.op("MatMul", "scores", parts["query"], parts["key"])
    scores = net.op(
        "Mul", "scores_scaled", scores, net.constant("inverse_root", np.float32([size**-0.5]))
    )
    weights = net.op("Softmax", "attention", scores, axis=-1)
    mixed = net.op(
        "Transpose",
        "mixed_tokens",
        net.op("MatMul", "mixed", weights, parts["value"]),
        perm=[0, 2, 1, 3],
    )
    joined = net.op(
        "Reshape", "joined", mixed, net.constant("joined_shape", np.int64([batch, tokens, width]))
    )
    x = net.op("Add", "residual1", x, net.linear("project", joined, width, width))
    hidden = net.linear("up", layer_norm(net, "norm2", x, width), width, 2 * width)
    inner = net.op("Div", "gelu_inner", hidden, net.constant("root_two", np.float32([2**0.5])))
    share = net.op(
        "Add", "gelu_share", net.op("Erf", "gelu_erf", inner), net.constant("one", np.float32([1]))
    )
    product = net.op("Mul", "gelu_product", hidden, share)
    gelu = net.op("Mul", "gelu", product, net.constant("half", np.float32([0.5])))
    x = net.op("Add", "residual2", x, net.linear("down", gelu, 2 * width, width))
    x = net.op("ReduceMean", "pooled", layer_norm(net, "norm3", x, width), axes=[1], keepdims=0)
    net.linear("logits", x, width, 10)
    return net.finish("transformer", ("tokens", [batch, tokens, 28]), ("logits", [batch, 10]))


def conv1d(random: np.random.Generator, batch: int) -> bytes:
    """A dilated 1-D convolution network with LeakyRelu, Relu, Tanh, residual sums, and both kinds
    of pooling.
    """
    net = Net(random)
    x = net.op("LeakyRelu", "stem_leaky", net.conv("stem", "signal", 2, 16, (7,)), alpha=0.1)
    for index, (dilation, kind) in enumerate([(1, "Relu"), (2, "LeakyRelu"), (4, "Relu")]):
        d = f"d{index}_"
        y = net.conv(d + "conv1", x, 16, 24, (3,), dilations=[dilation])
        y = net.op(kind, d + "act", y, **({"alpha": 0.2} if kind == "LeakyRelu" else {}))
        x = net.op("Add", d + "add", x, net.conv(d + "conv2", y, 24, 16, (3,)))
    x = net.op("MaxPool", "max", x, kernel_shape=[2], strides=[2])
    x = net.op("Tanh", "squash", net.conv("narrow", x, 16, 24, (5,), strides=[2]))
    x = net.op("AveragePool", "average", x, kernel_shape=[4], strides=[4])
    x = net.op("Relu", "last_relu", net.conv("last", x, 24, 32, (3,)))
    x = net.op("Flatten", "flatten", net.op("GlobalAveragePool", "gap", x), axis=1)
    weight, bias = (
        net.normal("logits.weight", (6, 32), 32**-0.5),
        net.normal("logits.bias", (6,), 0.1),
    )
    net.op("Gemm", "logits", x, weight, bias, transB=1)
    return net.finish("conv1d", ("signal", [batch, 2, 128]), ("logits", [batch, 6]))


def recurrent(
    random: np.random.Generator, batch: int, steps: int = 4, width: int = 196, hidden: int = 32
) -> bytes:
    """A gated recurrent unit unrolled over ``steps``: update and reset gates (Sigmoid), candidate
    (Tanh), no loop.
    """
    net = Net(random)
    weights = {
        gate: (
            net.normal(f"{gate}.input", (width, hidden), width**-0.5),
            net.normal(f"{gate}.state", (hidden, hidden), hidden**-0.5),
            net.normal(f"{gate}.bias", (hidden,), 0.3),
        )
        for gate in ("update", "reset", "candidate")
    }
    one, axis = net.constant("one", np.float32([1])), net.constant("axis", np.int64([1]))
    flat = net.constant("flat", np.int64([batch, width]))

    def gate(name: str, kind: str, x: str, state: str | None, t: str, activation: str) -> str:
        into, back, bias = weights[kind]
        total = net.op("MatMul", f"{t}{name}_in", x, into)
        if state:
            total = net.op(
                "Add", f"{t}{name}_sum", total, net.op("MatMul", f"{t}{name}_back", state, back)
            )
        return net.op(activation, f"{t}{name}", net.op("Add", f"{t}{name}_biased", total, bias))

    state: str | None = None
    for step in range(steps):
        t = f"t{step}_"
        start, end = (
            net.constant(f"at{step}", np.int64([step])),
            net.constant(f"at{step + 1}", np.int64([step + 1])),
        )
        x = net.op(
            "Reshape", t + "x", net.op("Slice", t + "slice", "strips", start, end, axis), flat
        )
        update = gate("update", "update", x, state, t, "Sigmoid")
        if state is None:  # the first state is zero, so nothing is reset and nothing is kept
            candidate = gate("candidate", "candidate", x, None, t, "Tanh")
            state = net.op("Mul", t + "state", net.op("Sub", t + "fresh", one, update), candidate)
            continue
        reset = gate("reset", "reset", x, state, t, "Sigmoid")
        candidate = gate(
            "candidate", "candidate", x, net.op("Mul", t + "kept", reset, state), t, "Tanh"
        )
        fresh = net.op("Mul", t + "new", net.op("Sub", t + "fresh", one, update), candidate)
        state = net.op("Add", t + "state", fresh, net.op("Mul", t + "old", update, state))
    net.linear("logits", str(state), hidden, 10)
    return net.finish("recurrent", ("strips", [batch, steps, width]), ("logits", [batch, 10]))
