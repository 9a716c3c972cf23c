"""``detector``: finds digits in scenes of 128 x 128 pixels; its head is that of Ultralytics' exports.

Two strides (8 and 16). A 1x1 convolution each gives four distances (left, top, right, bottom, in
strides) and ten class logits a cell. Inside the network the distances become boxes in pixels (cx,
cy, w, h) and the logits scores, and both leave in ONE tensor ``output0`` [N, 4 + 10, 320]: boxes up
to 128 beside scores up to 1.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import torch
from torch import nn
from torch.nn import functional as F

from .graph import Graph, folded
from .photo import Block, conv_norm
from .scenes import CLASSES, SIZE

__all__ = ["Detector", "anchors", "export", "loss"]

WIDTHS = (32, 64, 64, 128)  # after 1, 2, 3 and 4 halvings
HEAD = 64
STRIDES = (8, 16)
NEAR = 30  # pixels: larger digits belong to the coarse cells
PRIOR = 0.01  # score of a cell before training


def anchors() -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    """The cells' centres in strides, float32 [2,320] (x, y), and their strides, float32 [1,320]."""
    centres, strides = [], []
    for stride in STRIDES:
        cells = np.arange(SIZE // stride, dtype=np.float32) + 0.5
        y, x = np.meshgrid(cells, cells, indexing="ij")
        centres.append(np.stack([x.ravel(), y.ravel()]))
        strides.append(np.full((1, x.size), stride, np.float32))
    return np.concatenate(centres, 1), np.concatenate(strides, 1)


class Head(nn.Module):
    """One stride's branches, for boxes and for classes: a 3x3 and a 1x1 convolution each."""

    def __init__(self, inside: int) -> None:
        super().__init__()
        self.box1, self.class1 = conv_norm(inside, HEAD, 3), conv_norm(inside, HEAD, 3)
        self.box, self.classes = nn.Conv2d(HEAD, 4, 1), nn.Conv2d(HEAD, len(CLASSES), 1)
        nn.init.constant_(self.box.bias, 1.5)
        nn.init.constant_(self.classes.bias, float(np.log(PRIOR / (1 - PRIOR))))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        box = self.box(torch.relu(self.box1(x)))
        return torch.cat([box, self.classes(torch.relu(self.class1(x)))], 1).flatten(2)


class Detector(nn.Module):
    """[N,3,128,128] to distances and class logits [N,14,320]; ``decode`` makes boxes and scores of
    them."""

    def __init__(self) -> None:
        super().__init__()
        a, b, c, d = WIDTHS
        self.stem = conv_norm(3, a, 3, 2)
        self.down1, self.block1 = conv_norm(a, b, 3, 2), Block(b, b, 1)
        self.down2, self.block2 = conv_norm(b, c, 3, 2), Block(c, c, 1)
        self.down3, self.block3 = conv_norm(c, d, 3, 2), Block(d, d, 1)
        self.head8, self.head16 = Head(c), Head(d)
        centres, strides = anchors()
        self.register_buffer("centres", torch.from_numpy(centres), persistent=False)
        self.register_buffer("strides", torch.from_numpy(strides), persistent=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.block1(torch.relu(self.down1(torch.relu(self.stem(x)))))
        x = self.block2(torch.relu(self.down2(x)))
        fine = self.head8(x)
        return torch.cat([fine, self.head16(self.block3(torch.relu(self.down3(x))))], 2)

    def corners(self, raw: torch.Tensor) -> torch.Tensor:
        """Left, top, right and bottom of each cell's box in pixels, [N,4,320]."""
        first, second = self.centres - raw[:, :2], self.centres + raw[:, 2:4]
        return torch.cat([first, second], 1) * self.strides

    def decode(self, raw: torch.Tensor) -> torch.Tensor:
        """Boxes (cx, cy, w, h) in pixels and scores in one tensor, [N,14,320]."""
        corners = self.corners(raw)
        first, second = corners[:, :2], corners[:, 2:]
        boxes = torch.cat([(first + second) / 2, second - first], 1)
        return torch.cat([boxes, raw[:, 4:].sigmoid()], 1)


def _assigned(net: Detector, boxes: torch.Tensor, classes: torch.Tensor) -> torch.Tensor:
    """The digit that each cell should detect, [N,320]: its centre is near; -1 for none."""
    centres = (net.centres * net.strides)[None, None]
    far = (boxes[:, :, :2, None] - centres).abs().amax(2) / net.strides
    coarse = boxes[:, :, 2:].amax(2, keepdim=True) > NEAR
    fits = (coarse == (net.strides > STRIDES[0])[None]) & (far < 1) & (classes[:, :, None] >= 0)
    nearest, index = torch.where(fits, far, far.new_tensor(1e9)).min(1)
    return torch.where(nearest < 1e9, index, -1)


def loss(
    net: Detector, raw: torch.Tensor, boxes: torch.Tensor, classes: torch.Tensor
) -> torch.Tensor:
    """1 - GIoU and a tenth of the L1 distance where there is a digit, cross-entropy of all scores."""
    index = _assigned(net, boxes, classes.long())
    image, cell = torch.nonzero(index >= 0, as_tuple=True)
    which = index[image, cell]
    wanted = torch.zeros_like(raw[:, 4:])
    wanted[image, classes[image, which].long(), cell] = 1
    count = max(len(image), 1)
    scores = F.binary_cross_entropy_with_logits(raw[:, 4:], wanted, reduction="sum") / count
    true = boxes[image, which]
    first, second = true[:, :2] - true[:, 2:] / 2, true[:, :2] + true[:, 2:] / 2
    ours = net.corners(raw)[image, :, cell]
    inner = (torch.minimum(ours[:, 2:], second) - torch.maximum(ours[:, :2], first)).clamp(min=0)
    outer = (torch.maximum(ours[:, 2:], second) - torch.minimum(ours[:, :2], first)).clamp(min=1e-3)
    both = inner.prod(1)
    union = (ours[:, 2:] - ours[:, :2]).clamp(min=0).prod(1) + true[:, 2:].prod(1) - both
    hull = outer.prod(1)
    giou = both / union.clamp(min=1e-3) - (hull - union) / hull
    apart = (ours - torch.cat([first, second], 1)).abs().mean(1) / net.strides[0, cell]
    return scores + (1 - giou).sum() / count + 0.1 * apart.sum() / count


def _block(graph: Graph, name: str, source: str, block: Block) -> str:
    last = graph.conv_relu(name + "conv1", source, block.conv1)
    last = graph.conv(name + "conv2", last, *folded(*block.conv2))
    return graph.add("Relu", [graph.add("Add", [last, source], name + "add")], name + "relu2")


def _head(graph: Graph, name: str, source: str, head: Head, cells: int) -> str:
    parts = []
    for kind, wide, last in (("box", head.box1, head.box), ("class", head.class1, head.classes)):
        hidden = graph.conv_relu(f"{name}_{kind}1", source, wide)
        state = {key: value.detach().cpu().numpy() for key, value in last.state_dict().items()}
        parts.append(graph.conv(f"{name}_{kind}", hidden, state["weight"], state["bias"]))
    both = graph.add("Concat", parts, f"{name}_both", axis=1)
    shape = graph.constant(f"{name}_shape", [0, 4 + len(CLASSES), cells], np.int64)
    return graph.add("Reshape", [both, shape], f"{name}_flat")


def _split(graph: Graph, source: str, names: list[str], sizes: list[int]) -> None:
    size = graph.constant(f"{source}_sizes", sizes, np.int64)
    node = onnx.helper.make_node("Split", [source, size], names, f"{source}_split", axis=1)
    graph.nodes.append(node)


def export(net: Detector) -> onnx.ModelProto:
    """The ONNX graph: ``images`` [batch,3,128,128] to ``output0`` [batch,14,320], with decoding."""
    graph = Graph("detector")
    last = graph.conv_relu("stem", "images", net.stem)
    last = _block(graph, "b1_", graph.conv_relu("down1", last, net.down1), net.block1)
    fine = _block(graph, "b2_", graph.conv_relu("down2", last, net.down2), net.block2)
    coarse = _block(graph, "b3_", graph.conv_relu("down3", fine, net.down3), net.block3)
    flat = []
    for stride, source, head in zip(STRIDES, (fine, coarse), (net.head8, net.head16), strict=True):
        flat.append(_head(graph, f"h{stride}", source, head, (SIZE // stride) ** 2))
    graph.add("Concat", flat, "levels", axis=2)
    _split(graph, "levels", ["distances", "class_logits"], [4, len(CLASSES)])
    _split(graph, "distances", ["left_top", "right_bottom"], [2, 2])
    centres, strides = anchors()
    centre = graph.constant("anchors", centres[None])
    first = graph.add("Sub", [centre, "left_top"], "first_corner")
    second = graph.add("Add", [centre, "right_bottom"], "second_corner")
    total = graph.add("Add", [first, second], "corners_sum")
    middle = graph.add("Div", [total, graph.constant("two", 2)], "box_centre")
    size = graph.add("Sub", [second, first], "box_size")
    boxes = graph.add("Concat", [middle, size], "boxes_in_strides", axis=1)
    boxes = graph.add("Mul", [boxes, graph.constant("strides", strides[None])], "boxes")
    scores = graph.add("Sigmoid", ["class_logits"], "scores")
    graph.add("Concat", [boxes, scores], "output0", axis=1)
    shape = ["batch", 4 + len(CLASSES), centres.shape[1]]
    return graph.model({"images": ["batch", 3, SIZE, SIZE]}, {"output0": shape})
