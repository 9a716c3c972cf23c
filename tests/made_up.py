"""Engines as TensorRT might build them elsewhere: made up from the recorded ones, in several kinds.

They stand behind tests/fake_trt.py, so that builds, calibration, runs and timing take the paths
that they take on a GPU. KINDS names what may surprise a lesson.
"""

from __future__ import annotations

import json
import re
import zlib
from collections.abc import Callable
from functools import cache
from typing import Any

import fake_trt
import numpy as np
import onnx

from trtlearn.calibration.cache import format_cache, parse_cache
from trtlearn.model.course_data import load_images
from trtlearn.networks import Network, network

__all__ = ["KINDS", "MadeUp"]

Layers = list[dict[str, Any]]
FP32 = "Row major linear FP32"


def as_recorded(layers: Layers) -> Layers:
    return layers


def floating(layers: Layers) -> Layers:
    """Every layer in FP32, without the reformats that INT8 needs."""
    return [_in_float(layer) for layer in layers if layer["LayerType"] != "Reformat"]


def _in_float(layer: dict[str, Any]) -> dict[str, Any]:
    new = json.loads(json.dumps(layer))
    for tensor in new["Inputs"] + new["Outputs"]:
        tensor["Format/Datatype"] = FP32
        tensor["Name"] = re.sub(r"^Reformatted Input Tensor 0 to .*", "image", tensor["Name"])
    for name in ("Weights", "Bias"):
        if name in new:
            new[name]["Type"] = "Float"
    return new


def first_in_float(layers: Layers) -> Layers:
    """The first layer with weights in FP32; its output is made INT8 for the next."""
    place = next(index for index, one in enumerate(layers) if "Weights" in one)
    first = _in_float(layers[place])
    output = first["Outputs"][0]
    reformat = {
        **{"Name": f"Reformatting CopyNode for Output Tensor 0 to {first['Name']}"},
        **{"LayerType": "Reformat", "Inputs": [output], "Metadata": "", "StreamId": 0},
        "Outputs": [layers[place]["Outputs"][0]],
    }
    return [first, reformat, *layers[place + 1 :]]


def split(layers: Layers) -> Layers:
    """Nothing is fused: each ONNX node has a layer of its own."""
    result: Layers = []
    for layer in layers:
        nodes = re.findall(r"\[ONNX Layer: ([^\]]+)\]", layer["Metadata"])
        if len(nodes) < 2:
            result.append(layer)
            continue
        dims = layer["Outputs"][0]["Dimensions"]
        middle = {
            "Location": "Device",
            "Dimensions": dims,
            "Format/Datatype": layer["Outputs"][0]["Format/Datatype"],
        }
        before = layer["Inputs"]
        for index, node in enumerate(nodes):
            last = index == len(nodes) - 1
            one = dict(layer) if index == 0 else {"LayerType": "PointWise", "StreamId": 0}
            one["Name"], one["Metadata"] = node, f"[ONNX Layer: {node}]"
            one["Inputs"] = before[:1]
            one["Outputs"] = layer["Outputs"] if last else [{**middle, "Name": node}]
            before = one["Outputs"]
            result.append(one)
    return result


def one_block(layers: Layers) -> Layers:
    """The whole network in one Myelin layer, which lists no weights."""
    nodes = re.findall(r"\[ONNX Layer: [^\]]+\]", "".join(layer["Metadata"] for layer in layers))
    ends = [re.sub(r".*: (.*)\]", r"\1", nodes[place]) for place in (0, -1)]
    image = {**layers[0]["Inputs"][0], "Format/Datatype": FP32}
    return [
        {
            **{"Name": f"{{ForeignNode[{ends[0]}...{ends[1]}]}}", "LayerType": "Myelin"},
            **{"Inputs": [image], "Outputs": layers[-1]["Outputs"], "StreamId": 0},
            "Metadata": "\x1e".join(dict.fromkeys(nodes)),
        }
    ]


def fused_otherwise(layers: Layers) -> Layers:
    """Another GPU: layers with weights are fused in pairs, kernels have other names."""
    result: Layers = []
    for layer in layers:
        last = result[-1] if result else {}
        joins = "Weights" in layer and "Weights" in last and " || " not in last["Name"]
        if joins and len(layer["Inputs"]) == 1:
            last["Name"] += f" || {layer['Name']}"
            last["Metadata"] += f"\x1e{layer['Metadata']}"
            last["Outputs"] = layer["Outputs"]
            last["Weights"] = {
                **last["Weights"],
                "Count": last["Weights"]["Count"] + layer["Weights"]["Count"],
            }
        else:
            result.append({**layer, "TacticName": "sm120_made_up_kernel"})
    return result


KINDS: dict[str, Callable[[Layers], Layers]] = {
    "nothing in INT8": floating,
    "first layer in FP32": first_in_float,
    "all layers split": split,
    "one Myelin block": one_block,
    "a failed build": as_recorded,
    "another GPU's fusions": fused_otherwise,
}


@cache
def _classes(model: str, variant: str) -> dict[bytes, int]:
    """What the recorded engine answers to each test image; calibration images get their labels."""
    build = network(model, mode="recorded").build(variant)
    images, _ = load_images("test", model)
    assert build.answers is not None
    table = {image.tobytes(): int(one) for image, one in zip(images, build.answers, strict=True)}
    images, labels = load_images("calibration", model)
    return {image.tobytes(): int(one) for image, one in zip(images, labels, strict=True)} | table


class MadeUp:
    """The fake TensorRT of a test, which builds engines of one kind for resnet and mobile."""

    def __init__(self, scene: dict[str, Any], monkeypatch: Any) -> None:
        self.scene, self.kind, self.asked = scene, "", ""
        scene |= {"make_network": lambda: fake_trt.Network([], [])}
        scene["module"] = fake_trt.make_module(scene["make_network"], scene)
        scene |= {"parse": self._parse, "compile": self._compile}
        make = Network._make

        def told(network: Network, wanted: Any, *rest: Any) -> Any:
            self.asked = wanted.variant
            try:
                return make(network, wanted, *rest)
            finally:
                self.asked = ""

        monkeypatch.setattr(Network, "_make", told)

    def be(self, kind: str) -> None:
        """From here on, builds are of this kind, on a GPU of its own: nothing is built there."""
        self.kind = kind
        self.scene["cuda"].name = f"NVIDIA {kind}"

    def _parse(self, net: fake_trt.Network, content: bytes) -> None:
        graph = onnx.load_from_string(content).graph
        types, kinds = self.scene["module"].DataType, self.scene["module"].LayerType
        shape = tuple(one.dim_value or -1 for one in graph.input[0].type.tensor_type.shape.dim)
        tensors = {"image": fake_trt.Tensor("image", shape, types.FLOAT)}
        layer_types = {
            "Conv": "CONVOLUTION",
            "Concat": "CONCATENATION",
            "QuantizeLinear": "QUANTIZE",
        }
        net._inputs = [tensors["image"]]
        for node in graph.node:
            for name in node.output:
                tensors[name] = fake_trt.Tensor(name, (-1, 1), types.FLOAT)
            kind = layer_types.get(
                node.op_type, "POOLING" if "Pool" in node.op_type else "ELEMENTWISE"
            )
            ends = [
                [tensors[one] for one in names if one in tensors]
                for names in (node.input, node.output)
            ]
            net._layers.append(fake_trt.Layer(node.name, kinds[kind], *ends, types.FLOAT))
        tensors[graph.output[0].name].is_network_output = True
        net.model = "mobile" if "m1_dw" in {node.name for node in graph.node} else "resnet"

    def _compile(self, net: Any, config: Any) -> dict[str, Any]:
        int8, model = "INT8" in config.flags, net.model
        variant = self.asked or ("int8-entropy2" if int8 else "fp32")
        recorded = network(model, mode="recorded").build(variant)
        layers = json.loads(recorded.engine.raw, strict=False)["Layers"]
        layers = KINDS.get(self.kind, as_recorded)(layers) if int8 else layers
        log = [
            ("VERBOSE", line[4:])
            for line in recorded.build.log.splitlines()
            if "INT8 Inference Tensor" in line
        ]
        log += [(message.severity.upper(), message.text) for message in recorded.build.messages]
        fails = int8 and self.kind == "a failed build"
        if fails:
            log = [
                (
                    "ERROR",
                    "2: [engine.cpp::build::99] Error Code 2: Internal Error (Assertion engine failed. )",
                )
            ]
        text = recorded.calibration and recorded.calibration.cache
        if text and "fusions" in self.kind:  # other scales, and some other answers
            entries = parse_cache(text)
            for name in list(entries):
                entries = entries.with_scale(name, 1.1 * entries[name])
            text = format_cache(entries)
        classes, flawed = _classes(model, variant), "fusions" in self.kind

        @cache
        def answers(content: bytes) -> bytes:
            image = np.frombuffer(content, np.float32)
            rows = image.reshape(-1, 28 * 28)
            logits = np.zeros((len(rows), 10), np.float32)
            for row, logit in zip(rows, logits, strict=True):
                key = row.tobytes()
                logit[classes.get(key, 0)] = 1.0
                if flawed and zlib.crc32(key) % 10 == 0:
                    logit[(classes.get(key, 0) + 1) % 10] = 2.0
            return logits.tobytes()

        def answer(image: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
            return np.frombuffer(answers(image.tobytes()), np.float32)

        return {
            **{"log": log, "fail": fails, "cache": text and text.encode()},
            **{"shape": (1, 28, 28), "classes": 10, "answer": answer},
            "inspector": json.dumps({"Layers": layers, "Bindings": ["image", "logits"]}),
            "times": {layer["Name"]: 0.01 for layer in layers},
        }
