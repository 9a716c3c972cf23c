"""Networks made for the calibration experiments: an operator between two others, strange names."""

from __future__ import annotations

import numpy as np

__all__ = ["strange_name_model", "tie_models"]


def tie_models() -> dict[str, bytes]:
    """conv -> OP -> conv (or matrix product), and OP right after the input, for each kind of OP."""
    import onnx.shape_inference
    from onnx import TensorProto, helper, numpy_helper

    rng = np.random.default_rng(7)
    shape = [2, 8, 16, 16]

    def tensor(name, array):
        return numpy_helper.from_array(np.asarray(array), name)

    def one(op: str, attributes: dict, extra: list, how: str) -> bytes:
        nodes, weights = [], list(extra)

        def conv(source, out):
            weights.append(
                tensor(f"{out}_w", (rng.standard_normal((8, 8, 3, 3)) * 0.2).astype(np.float32))
            )
            nodes.append(
                helper.make_node("Conv", [source, f"{out}_w"], [out], name=out, pads=[1, 1, 1, 1])
            )

        source = "x"
        if how != "input":
            conv("x", "before")
            source = "before"
        inputs = [source, *[t.name for t in extra]]
        outputs = ["op"]
        if op in ("Add", "Mul", "Sub", "Max", "Div"):
            conv("x", "side")
            inputs = [source, "side"]
        if op == "AddConst":
            op = "Add"
        if op == "Concat":
            conv("x", "side")
            nodes.append(
                helper.make_node("Mul", ["side", "ten"], ["scaled_side"], name="scaled_side")
            )
            weights.append(tensor("ten", np.float32(10)))
            inputs = [source, "scaled_side"]
        if op == "Split":
            outputs = ["op", "other"]
        nodes.append(helper.make_node(op, inputs, outputs, name="op", **attributes))
        if op in ("Flatten",) or (op == "Reshape" and extra and extra[0].name == "flat"):
            weights.append(
                tensor("m_w", (rng.standard_normal((2048, 10)) * 0.05).astype(np.float32))
            )
            nodes.append(helper.make_node("MatMul", ["op", "m_w"], ["y"], name="y"))
        elif op in ("ReduceMean", "GlobalAveragePool"):
            weights.append(tensor("k_w", (rng.standard_normal((4, 8, 1, 1))).astype(np.float32)))
            nodes.append(helper.make_node("Conv", ["op", "k_w"], ["y"], name="y"))
        elif op in (
            "Transpose",
            "Squeeze",
            "Unsqueeze",
            "ReduceSum",
            "MatMul",
            "Gather",
            "Split",
            "Slice",
            "Concat",
            "Reshape",
            "DepthToSpace",
        ):
            nodes.append(helper.make_node("Relu", ["op"], ["tail"], name="tail"))
            weights.append(tensor("half", np.float32(0.5)))
            nodes.append(helper.make_node("Mul", ["tail", "half"], ["y"], name="y"))
        else:
            conv("op", "y")
        outs = ["y"] + (["other"] if op == "Split" else [])
        graph = helper.make_graph(
            nodes,
            op,
            [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
            [helper.make_tensor_value_info(o, TensorProto.FLOAT, None) for o in outs],
            weights,
        )
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)])
        model.ir_version = 8
        return onnx.shape_inference.infer_shapes(model).SerializeToString()

    i64 = lambda name, *v: tensor(name, np.asarray(v, np.int64))  # noqa: E731
    f32 = lambda name, v: tensor(name, np.asarray(v, np.float32))  # noqa: E731
    kinds = {
        "MaxPool": ({"kernel_shape": [2, 2], "strides": [2, 2]}, []),
        "AveragePool": ({"kernel_shape": [2, 2], "strides": [2, 2]}, []),
        "GlobalAveragePool": ({}, []),
        "GlobalMaxPool": ({}, []),
        "Relu": ({}, []),
        "LeakyRelu": ({"alpha": 0.1}, []),
        "Sigmoid": ({}, []),
        "Tanh": ({}, []),
        "Elu": ({}, []),
        "HardSigmoid": ({}, []),
        "Softplus": ({}, []),
        "Erf": ({}, []),
        "Exp": ({}, []),
        "Abs": ({}, []),
        "Neg": ({}, []),
        "Sqrt": ({}, []),
        "HardSwish": ({}, []),
        "Clip": ({}, [f32("lo", 0.0), f32("hi", 6.0)]),
        "Identity": ({}, []),
        "Dropout": ({}, []),
        "Flatten": ({}, []),
        "Reshape": ({}, [i64("shape4", 2, 16, 8, 16)]),
        "Reshape2": ({}, [i64("flat", 2, 2048)]),
        "Transpose": ({"perm": [0, 2, 3, 1]}, []),
        "Squeeze": ({}, []),
        "Unsqueeze": ({}, [i64("axes", 0)]),
        "Slice": ({}, [i64("starts", 0, 0), i64("ends", 8, 8), i64("axes", 2, 3)]),
        "Split": ({"axis": 1}, []),
        "Gather": ({"axis": 1}, [i64("idx", 0, 2, 4)]),
        "Pad": ({}, [i64("pads", 0, 0, 1, 1, 0, 0, 1, 1)]),
        "Resize": (
            {
                "mode": "nearest",
                "coordinate_transformation_mode": "asymmetric",
                "nearest_mode": "floor",
            },
            [f32("roi", []), f32("sizes", [1, 1, 2, 2])],
        ),
        "ResizeLinear": ({"mode": "linear"}, [f32("roi", []), f32("sizes", [1, 1, 2, 2])]),
        "DepthToSpace": ({"blocksize": 2}, []),
        "Softmax": ({"axis": 1}, []),
        "ReduceMean": ({"axes": [2, 3]}, []),
        "ReduceSum": ({}, [i64("axes", 2, 3)]),
        "Add": ({}, []),
        "Mul": ({}, []),
        "Sub": ({}, []),
        "Max": ({}, []),
        "AddConst": ({}, [f32("bias", 3.0)]),
        "Div": ({}, []),
        "Concat": ({"axis": 1}, []),
        "MatMul": ({}, [f32("mm", rng.standard_normal((16, 16)) * 0.3)]),
        "PRelu": ({}, [f32("slope", np.full((8, 1, 1), 0.2))]),
        "BatchNormalization": (
            {},
            [
                f32("g", np.full(8, 2.0)),
                f32("b", np.ones(8)),
                f32("mean", np.zeros(8)),
                f32("var", np.ones(8)),
            ],
        ),
        "InstanceNormalization": ({}, [f32("g", np.full(8, 2.0)), f32("b", np.ones(8))]),
    }
    names = {"Reshape2": "Reshape", "ResizeLinear": "Resize"}
    made = {}
    for kind, (attributes, extra) in kinds.items():
        for how in ("middle", "input"):
            if kind in ("Squeeze", "Dropout", "HardSwish"):
                continue
            try:
                made[f"{kind}_{how}"] = one(names.get(kind, kind), attributes, extra, how)
            except Exception as problem:
                print("tie model", kind, how, repr(problem))
    return made


def strange_name_model(names: list[str]) -> bytes:
    """A chain of convolutions whose tensors carry the given names."""
    from onnx import TensorProto, helper, numpy_helper

    rng = np.random.default_rng(3)
    nodes, weights, source = [], [], names[0]
    for index, name in enumerate(names[1:]):
        weights.append(
            numpy_helper.from_array(
                (rng.standard_normal((4, 4, 1, 1)) * 0.5).astype(np.float32), f"w_{index}"
            )
        )
        nodes.append(helper.make_node("Conv", [source, f"w_{index}"], [name], name=f"n{index}"))
        source = name
    value = helper.make_tensor_value_info
    graph = helper.make_graph(
        nodes,
        "strange",
        [value(names[0], TensorProto.FLOAT, [1, 4, 8, 8])],
        [value(source, TensorProto.FLOAT, None)],
        weights,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)])
    model.ir_version = 8
    return model.SerializeToString()
