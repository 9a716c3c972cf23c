"""``vit``: a small vision transformer on the same photographs, its ONNX graph as exporters write it.

LayerNorm is written as its parts (ReduceMean, Sub, Mul, Sqrt, Div ...) and GELU through Erf, as
PyTorch's exporter writes both below opset 17.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import onnx
import torch
from torch import nn
from torch.nn import functional as F

from .graph import Graph

__all__ = ["Vit", "export"]

SIZE, PATCH = 32, 4
TOKENS = (SIZE // PATCH) ** 2
WIDTH, DEPTH, HEADS, HIDDEN = 128, 6, 4, 512
EPSILON = 1e-5


class Layer(nn.Module):
    """Attention and a two-layer perceptron, each behind a LayerNorm and added to what came in."""

    def __init__(self, drop: float) -> None:
        super().__init__()
        self.norm1, self.norm2 = (nn.LayerNorm(WIDTH, EPSILON) for _ in range(2))
        self.query, self.key, self.value = (nn.Linear(WIDTH, WIDTH) for _ in range(3))
        self.project = nn.Linear(WIDTH, WIDTH)
        self.wide, self.narrow = nn.Linear(WIDTH, HIDDEN), nn.Linear(HIDDEN, WIDTH)
        self.drop = drop  # share of images for which a branch is left out while training

    def branch(self, x: torch.Tensor) -> torch.Tensor:
        if not self.training or not self.drop:
            return x
        keep = torch.rand(len(x), 1, 1, device=x.device) >= self.drop
        return x * keep.to(x.dtype) / (1 - self.drop)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        shape = (len(x), TOKENS, HEADS, WIDTH // HEADS)
        y = self.norm1(x)
        query, key, value = (
            part(y).view(shape).transpose(1, 2) for part in (self.query, self.key, self.value)
        )
        y = F.scaled_dot_product_attention(query, key, value)
        x = x + self.branch(self.project(y.transpose(1, 2).reshape(x.shape)))
        return x + self.branch(self.narrow(F.gelu(self.wide(self.norm2(x)))))


class Vit(nn.Module):
    """[N,3,32,32] to ten logits: patches of 4 x 4, six layers, mean of 64 tokens, linear layer."""

    def __init__(self) -> None:
        super().__init__()
        self.patches = nn.Conv2d(3, WIDTH, PATCH, PATCH)
        self.position = nn.Parameter(0.02 * torch.randn(1, TOKENS, WIDTH))
        self.layers = nn.ModuleList(Layer(0.1 * index / (DEPTH - 1)) for index in range(DEPTH))
        self.norm = nn.LayerNorm(WIDTH, EPSILON)
        self.linear = nn.Linear(WIDTH, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.patches(x).flatten(2).transpose(1, 2) + self.position
        for layer in self.layers:
            x = layer(x)
        return self.linear(self.norm(x).mean(1))


def _array(tensor: torch.Tensor) -> np.ndarray[Any, Any]:
    array: np.ndarray[Any, Any] = tensor.detach().float().cpu().numpy()
    return array


def _norm(graph: Graph, name: str, source: str, norm: nn.LayerNorm) -> str:
    mean = graph.add("ReduceMean", [source], name + "_mean", axes=[-1])
    centred = graph.add("Sub", [source, mean], name + "_centred")
    square = graph.add("Mul", [centred, centred], name + "_square")
    variance = graph.add("ReduceMean", [square], name + "_variance", axes=[-1])
    safe = graph.add("Add", [variance, graph.constant("epsilon", EPSILON)], name + "_safe")
    root = graph.add("Sqrt", [safe], name + "_root")
    divided = graph.add("Div", [centred, root], name + "_divided")
    weight = graph.constant(name + ".weight", _array(norm.weight))
    bias = graph.constant(name + ".bias", _array(norm.bias))
    return graph.add("Add", [graph.add("Mul", [divided, weight], name + "_scaled"), bias], name)


def _linear(graph: Graph, name: str, source: str, linear: nn.Linear) -> str:
    weight = graph.constant(name + ".weight", _array(linear.weight).T)
    bias = graph.constant(name + ".bias", _array(linear.bias))
    return graph.add("Add", [graph.add("MatMul", [source, weight], name + "_matmul"), bias], name)


def _gelu(graph: Graph, name: str, source: str) -> str:
    scaled = graph.add("Div", [source, graph.constant("root2", math.sqrt(2))], name + "_scaled")
    erf = graph.add("Erf", [scaled], name + "_erf")
    raised = graph.add("Add", [erf, graph.constant("one", 1)], name + "_raised")
    product = graph.add("Mul", [source, raised], name + "_product")
    return graph.add("Mul", [product, graph.constant("half", 0.5)], name)


def _attention(graph: Graph, name: str, source: str, layer: Layer) -> str:
    split = graph.constant("heads_shape", [0, TOKENS, HEADS, WIDTH // HEADS], np.int64)
    joined = graph.constant("tokens_shape", [0, TOKENS, WIDTH], np.int64)
    orders = {"query": [0, 2, 1, 3], "key": [0, 2, 3, 1], "value": [0, 2, 1, 3]}
    heads = {}
    for part, order in orders.items():
        flat = _linear(graph, f"{name}_{part}", source, getattr(layer, part))
        shaped = graph.add("Reshape", [flat, split], f"{name}_{part}_heads")
        heads[part] = graph.add("Transpose", [shaped], f"{name}_{part}_turned", perm=order)
    scores = graph.add("MatMul", [heads["query"], heads["key"]], f"{name}_scores")
    root = graph.constant("root_width", math.sqrt(WIDTH // HEADS))
    scaled = graph.add("Div", [scores, root], f"{name}_scores_scaled")
    shares = graph.add("Softmax", [scaled], f"{name}_softmax", axis=-1)
    mixed = graph.add("MatMul", [shares, heads["value"]], f"{name}_mixed")
    turned = graph.add("Transpose", [mixed], f"{name}_mixed_turned", perm=[0, 2, 1, 3])
    flat = graph.add("Reshape", [turned, joined], f"{name}_mixed_joined")
    return _linear(graph, f"{name}_project", flat, layer.project)


def export(net: Vit) -> onnx.ModelProto:
    """The ONNX graph: ``image`` [batch,3,32,32] to ``logits`` [batch,10]."""
    graph = Graph("vit")
    weight = graph.constant("patches.weight", _array(net.patches.weight))
    bias = graph.constant("patches.bias", _array(net.patches.bias))
    sizes = {"kernel_shape": [PATCH] * 2, "strides": [PATCH] * 2}
    last = graph.add("Conv", ["image", weight, bias], "patches", **sizes)
    shape = graph.constant("patches_shape", [0, WIDTH, TOKENS], np.int64)
    last = graph.add("Reshape", [last, shape], "patches_flat")
    last = graph.add("Transpose", [last], "patches_turned", perm=[0, 2, 1])
    position = graph.constant("position", _array(net.position))
    last = graph.add("Add", [last, position], "tokens")
    for index, layer in enumerate(net.layers):
        name = f"l{index}"
        normed = _norm(graph, f"{name}_norm1", last, layer.norm1)
        attended = _attention(graph, f"{name}_attention", normed, layer)
        last = graph.add("Add", [last, attended], f"{name}_add1")
        normed = _norm(graph, f"{name}_norm2", last, layer.norm2)
        wide = _linear(graph, f"{name}_wide", normed, layer.wide)
        narrow = _linear(graph, f"{name}_narrow", _gelu(graph, f"{name}_gelu", wide), layer.narrow)
        last = graph.add("Add", [last, narrow], f"{name}_add2")
    normed = _norm(graph, "norm", last, net.norm)
    mean = graph.add("ReduceMean", [normed], "mean", axes=[1], keepdims=0)
    weight = graph.constant("logits.weight", _array(net.linear.weight))
    bias = graph.constant("logits.bias", _array(net.linear.bias))
    graph.add("Gemm", [mean, weight, bias], "logits", transB=1)
    return graph.model({"image": ["batch", 3, 32, 32]}, {"logits": ["batch", 10]})
