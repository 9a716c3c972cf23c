"""The zoo's hold-out: four more networks with seeded weights, kept aside while rules were found (as
networks.py).
"""

from __future__ import annotations

from typing import Any

import numpy as np

from recording.zoo.seeded import Net, layer_norm

__all__ = ["bottleneck", "mobilev3", "unet", "vit"]


def _classify(net: Net, x: str, width: int) -> None:
    """The mean over the picture and ten classes."""
    x = net.op("Flatten", "flatten", net.op("GlobalAveragePool", "gap", x), axis=1)
    weight, bias = (
        net.normal("logits.weight", (10, width), width**-0.5),
        net.normal("logits.bias", (10,), 0.1),
    )
    net.op("Gemm", "logits", x, weight, bias, transB=1)


def bottleneck(random: np.random.Generator, batch: int) -> bytes:
    """ResNet v1.5: blocks of 1x1, 3x3 (which strides) and 1x1 convolutions, each followed by a
    BatchNormalization.
    """
    net = Net(random)

    def unit(name: str, x: str, width: int, channels: int, size: int, stride: int = 1) -> str:
        """A convolution without bias and its BatchNormalization, NAME_bn."""
        weight = net.normal(
            f"{name}.weight", (channels, width, size, size), (2 / (width * size * size)) ** 0.5
        )
        options = {
            "kernel_shape": [size, size],
            "pads": [size // 2] * 4,
            "strides": [stride, stride],
        }
        made = net.op("Conv", name, x, weight, **options)
        gain, offset = (
            net.normal(f"{name}.gain", (channels,), 0.2, mean=1),
            net.normal(f"{name}.offset", (channels,), 0.2),
        )
        mean = net.normal(f"{name}.mean", (channels,), 0.3)
        variance = net.constant(
            f"{name}.variance", random.uniform(0.5, 2, channels).astype(np.float32)
        )
        return net.op(
            "BatchNormalization", f"{name}_bn", made, gain, offset, mean, variance, epsilon=1e-5
        )

    x = net.op("Relu", "stem_relu", unit("stem", "image", 1, 16, 3))
    x = net.op("MaxPool", "stem_pool", x, kernel_shape=[3, 3], strides=[2, 2], pads=[1, 1, 1, 1])
    width = 16
    for index, (inner, stride) in enumerate([(8, 1), (8, 1), (16, 2), (16, 1)]):
        b = f"b{index}_"
        y = net.op("Relu", b + "relu1", unit(b + "conv1", x, width, inner, 1))
        y = net.op("Relu", b + "relu2", unit(b + "conv2", y, inner, inner, 3, stride))
        y = unit(b + "conv3", y, inner, 4 * inner, 1)
        shortcut = x if width == 4 * inner else unit(b + "project", x, width, 4 * inner, 1, stride)
        x, width = net.op("Relu", b + "relu3", net.op("Add", b + "add", y, shortcut)), 4 * inner
    _classify(net, x, width)
    return net.finish("bottleneck", ("image", [batch, 1, 28, 28]), ("logits", [batch, 10]))


def mobilev3(random: np.random.Generator, batch: int) -> bytes:
    """MobileNet v3: inverted residual blocks, squeeze-and-excite, and HardSwish as PyTorch writes
    it in opset 13.
    """
    net = Net(random)
    zero, three, six = (
        net.constant(name, np.float32(value))
        for name, value in [("zero", 0), ("three", 3), ("six", 6)]
    )

    def hard_swish(name: str, x: str) -> str:
        clipped = net.op(
            "Clip", f"{name}_clip", net.op("Add", f"{name}_raised", x, three), zero, six
        )
        return net.op("Mul", name, x, net.op("Div", f"{name}_share", clipped, six))

    def activate(kind: str, name: str, x: str) -> str:
        return hard_swish(name, x) if kind == "HardSwish" else net.op(kind, name, x)

    x = hard_swish("stem_act", net.conv("stem", "image", 1, 16, (3, 3), strides=[2, 2]))
    width = 16
    blocks = [("Relu", 16, 3, 16, 1), ("HardSwish", 48, 5, 24, 2), ("HardSwish", 72, 5, 24, 1)]
    for index, (kind, inner, size, channels, stride) in enumerate(blocks):
        b, y = f"b{index}_", x
        if inner != width:
            y = activate(kind, b + "expand_act", net.conv(b + "expand", x, width, inner, (1, 1)))
        y = net.conv(b + "depth", y, 1, inner, (size, size), group=inner, strides=[stride, stride])
        y = activate(kind, b + "depth_act", y)
        squeezed = net.conv(
            b + "squeeze", net.op("GlobalAveragePool", b + "mean", y), inner, inner // 4, (1, 1)
        )
        excited = net.conv(
            b + "excite", net.op("Relu", b + "squeeze_relu", squeezed), inner // 4, inner, (1, 1)
        )
        gate = net.op("HardSigmoid", b + "gate", excited, alpha=1 / 6, beta=0.5)
        y = net.conv(b + "narrow", net.op("Mul", b + "gated", y, gate), inner, channels, (1, 1))
        keeps = (width, 1) == (channels, stride)
        x, width = net.op("Add", b + "add", x, y) if keeps else y, channels
    x = hard_swish("head_act", net.conv("head", x, width, 96, (1, 1)))
    _classify(net, x, 96)
    return net.finish("mobilev3", ("image", [batch, 1, 28, 28]), ("logits", [batch, 10]))


def vit(
    random: np.random.Generator, batch: int, width: int = 48, heads: int = 3, blocks: int = 2
) -> bytes:
    """A vision transformer as timm writes it: patches, a class token, query, key and value from one
    product.
    """
    net, size, tokens = Net(random), width // heads, 17
    one, half = net.constant("one", np.float32(1)), net.constant("half", np.float32(0.5))
    root_two, inverse_root = (
        net.constant("root_two", np.float32(2**0.5)),
        net.constant("inverse_root", np.float32(size**-0.5)),
    )
    split = net.constant("split_shape", np.int64([batch, tokens, 3, heads, size]))
    joined_shape = net.constant("joined_shape", np.int64([batch, tokens, width]))
    at = [net.constant(f"at{index}", np.int64(index)) for index in range(3)]

    weight, bias = (
        net.normal("patches.weight", (width, 1, 7, 7), 1 / 7),
        net.normal("patches.bias", (width,), 0.1),
    )
    x = net.op("Conv", "patches", "image", weight, bias, kernel_shape=[7, 7], strides=[7, 7])
    x = net.op(
        "Reshape",
        "patches_flat",
        x,
        net.constant("flat_shape", np.int64([batch, width, tokens - 1])),
    )
    x = net.op("Transpose", "patches_tokens", x, perm=[0, 2, 1])
    token = np.repeat(random.normal(0, 0.5, (1, 1, width)).astype(np.float32), batch, axis=0)
    x = net.op("Concat", "with_class", net.constant("class_token", token), x, axis=1)
    x = net.op("Add", "with_position", x, net.normal("position", (1, tokens, width), 0.3))
    for index in range(blocks):
        b = f"b{index}_"
        qkv = net.linear(b + "qkv", layer_norm(net, b + "norm1", x, width), width, 3 * width)
        qkv = net.op(
            "Transpose",
            b + "qkv_heads",
            net.op("Reshape", b + "qkv_split", qkv, split),
            perm=[2, 0, 3, 1, 4],
        )
        names = (b + "query", b + "key", b + "value")
        query, key, value = (
            net.op("Gather", name, qkv, at[i], axis=0) for i, name in enumerate(names)
        )
        key = net.op("Transpose", b + "key_turned", key, perm=[0, 1, 3, 2])
        scores = net.op(
            "MatMul", b + "scores", net.op("Mul", b + "query_scaled", query, inverse_root), key
        )
        mixed = net.op(
            "MatMul", b + "mixed", net.op("Softmax", b + "attention", scores, axis=-1), value
        )
        mixed = net.op("Transpose", b + "mixed_tokens", mixed, perm=[0, 2, 1, 3])
        mixed = net.op("Reshape", b + "joined", mixed, joined_shape)
        x = net.op("Add", b + "residual1", x, net.linear(b + "project", mixed, width, width))
        hidden = net.linear(b + "up", layer_norm(net, b + "norm2", x, width), width, 4 * width)
        inner = net.op("Erf", b + "gelu_erf", net.op("Div", b + "gelu_inner", hidden, root_two))
        product = net.op(
            "Mul", b + "gelu_product", hidden, net.op("Add", b + "gelu_share", inner, one)
        )
        gelu = net.op("Mul", b + "gelu", product, half)
        x = net.op("Add", b + "residual2", x, net.linear(b + "down", gelu, 4 * width, width))
    x = net.op("Gather", "class", layer_norm(net, "norm", x, width), at[0], axis=1)
    weight, bias = (
        net.normal("logits.weight", (10, width), width**-0.5),
        net.normal("logits.bias", (10,), 0.1),
    )
    net.op("Gemm", "logits", x, weight, bias, transB=1)
    return net.finish("vit", ("image", [batch, 1, 28, 28]), ("logits", [batch, 10]))


def unet(random: np.random.Generator, batch: int) -> bytes:
    """Two steps down (MaxPool), two up (ConvTranspose, then Resize), each joined with what came
    before it; a mask.
    """
    net = Net(random)

    def unit(name: str, x: str, width: int, channels: int, **attributes: Any) -> str:
        return net.op(
            "Relu", f"{name}_relu", net.conv(name, x, width, channels, (3, 3), **attributes)
        )

    fine = unit("down0b", unit("down0a", "image", 1, 8), 8, 8)
    x = net.op("MaxPool", "pool0", fine, kernel_shape=[2, 2], strides=[2, 2])
    coarse = unit("down1b", unit("down1a", x, 8, 16), 16, 16)
    x = net.op("MaxPool", "pool1", coarse, kernel_shape=[2, 2], strides=[2, 2])
    x = unit("bottom_b", unit("bottom_a", x, 16, 32), 32, 32)
    weight, bias = (
        net.normal("grow.weight", (32, 16, 2, 2), (2 / 32) ** 0.5),
        net.normal("grow.bias", (16,), 0.1),
    )
    x = net.op("ConvTranspose", "grow", x, weight, bias, kernel_shape=[2, 2], strides=[2, 2])
    x = unit("up1b", unit("up1a", net.op("Concat", "skip1", coarse, x, axis=1), 32, 16), 16, 16)
    scales = net.constant("twice", np.float32([1, 1, 2, 2]))
    how = {
        "mode": "nearest",
        "coordinate_transformation_mode": "asymmetric",
        "nearest_mode": "floor",
    }
    x = net.op("Resize", "enlarge", x, "", scales, **how)
    x = unit("up0b", unit("up0a", net.op("Concat", "skip0", fine, x, axis=1), 24, 8), 8, 8)
    net.op("Sigmoid", "mask", net.conv("mask_logits", x, 8, 1, (1, 1)))
    return net.finish("unet", ("image", [batch, 1, 28, 28]), ("mask", [batch, 1, 28, 28]))
