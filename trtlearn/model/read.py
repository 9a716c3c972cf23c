"""A model's own functions, put where they are called: exporters that write functions hide a network's layers in them.

TensorRT 8.6 knows no such functions; everything here that looks for layers looks in the main graph.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import TYPE_CHECKING

from ..errors import ModelError, first_line
from ..files import read_bytes

if TYPE_CHECKING:
    import onnx

__all__ = [
    "MAX_BYTES",
    "all_graphs",
    "all_nodes",
    "constants",
    "inlined",
    "inner_graphs",
    "live_tensors",
    "load_proto",
    "opset",
    "serialized",
]


# --- ONNX files, read with care: the one place where a model from outside is opened.

MAX_BYTES = 2**31 - 1
"""The largest file read: protobuf's own limit for one message."""
NOT_ONNX = "export the network to ONNX again and check it with onnx.checker"
"""What to try where a file is no sound model."""
CONSTANT_KINDS = {"value_float": 1, "value_floats": 1, "value_int": 7, "value_ints": 7}
"""Attributes of a Constant node besides ``value``, and the type of tensor that each stands for."""
PACKED = (21, 22, 23)
"""TensorProto.UINT4, INT4 and FLOAT4E2M1: two elements share a byte, so their size is not checked."""


def _attributes(nodes: Iterable[onnx.NodeProto]) -> Iterator[onnx.AttributeProto]:
    """Every attribute of the nodes and of the nodes of graphs inside them (If, Loop, Scan)."""
    for node in all_nodes(nodes):
        yield from node.attribute


def _top(proto: onnx.ModelProto) -> list[onnx.NodeProto]:
    return [*proto.graph.node, *(node for function in proto.functions for node in function.node)]


def all_graphs(proto: onnx.ModelProto) -> Iterator[onnx.GraphProto]:
    """The model's graph and every graph inside an attribute, those of its functions' nodes too."""
    yield proto.graph
    for attribute in _attributes(_top(proto)):
        yield from inner_graphs(attribute)


def stored_tensors(proto: onnx.ModelProto) -> Iterator[onnx.TensorProto]:
    """Every tensor stored in the model: initializers, sparse ones, and those in attributes."""
    for graph in all_graphs(proto):
        yield from graph.initializer
        for sparse in graph.sparse_initializer:
            yield from (sparse.values, sparse.indices)
    for attribute in _attributes(_top(proto)):
        yield from (*([attribute.t] if attribute.HasField("t") else []), *attribute.tensors)
        for sparse in (
            *([attribute.sparse_tensor] if attribute.HasField("sparse_tensor") else []),
            *attribute.sparse_tensors,
        ):
            yield from (sparse.values, sparse.indices)


def load_external(tensor: onnx.TensorProto, folder: Path | None) -> None:
    """Put the tensor's external data into the tensor, from a regular file inside ``folder`` only."""
    from onnx.external_data_helper import load_external_data_for_tensor

    entries = {entry.key: entry.value for entry in tensor.external_data}
    location = entries.get("location", "")
    where = f"tensor {tensor.name!r} keeps its data in {location!r}"
    inside = "move the data file beside the model, or save the model with its weights inside"
    if folder is None:
        raise ModelError(
            f"{where}, but the model was given as bytes, not as a file", "give the model's path"
        )
    strange = (
        PurePosixPath(location).is_absolute() or PureWindowsPath(location).drive or "\\" in location
    )
    if not location or "\0" in location or strange or ".." in PurePosixPath(location).parts:
        raise ModelError(f"{where}, expected a relative path inside the model's folder", inside)
    target = (folder / location).resolve()
    if not target.is_relative_to(folder.resolve()):
        raise ModelError(f"{where}, which leads outside the model's folder", inside)
    if not target.is_file():
        raise ModelError(
            f"{where}, but there is no such file in {folder}", "put the data file beside the model"
        )
    try:
        offset = int(entries.get("offset") or 0)
        length = int(entries.get("length") or max(target.stat().st_size - offset, 0))
    except ValueError:
        raise ModelError(f"{where} with an offset or length that is no number", NOT_ONNX) from None
    if offset < 0 or length < 0 or offset + length > target.stat().st_size:
        raise ModelError(
            f"{where} at bytes {offset} to {offset + length}, but that file has {target.stat().st_size}",
            "copy the data file again, it is cut",
        )
    try:
        load_external_data_for_tensor(tensor, str(folder))
    except Exception as problem:
        raise ModelError(f"{where}, which cannot be read: {problem}", inside) from None
    tensor.ClearField("data_location")
    del tensor.external_data[:]


def check_size(tensor: onnx.TensorProto, where: str) -> None:
    """ModelError where the stored bytes are not as many as the tensor's shape and type need."""
    from onnx import helper

    elements = 1
    for axis in tensor.dims:
        elements *= axis
    try:
        expected = elements * helper.tensor_dtype_to_np_dtype(tensor.data_type).itemsize
    except (KeyError, ValueError, TypeError):
        return  # a type that this onnx does not know: left to whoever computes with it
    if tensor.data_type not in PACKED and len(tensor.raw_data) != expected:
        raise ModelError(
            f"{where}: tensor {tensor.name!r} of shape {list(tensor.dims)} holds {len(tensor.raw_data)} bytes, "
            f"expected {expected}",
            NOT_ONNX,
        )


def _check(proto: onnx.ModelProto, where: str) -> None:
    """ModelError unless ``proto`` is a whole model: operator sets, outputs, and every input of a node made earlier."""
    graph = proto.graph
    if not proto.ir_version or not graph.node or not proto.opset_import:
        raise ModelError(
            f"{where} holds no ONNX model (no version, no nodes or no operator set)", NOT_ONNX
        )
    known = (
        {value.name for value in graph.input} | {tensor.name for tensor in graph.initializer} | {""}
    )
    known |= {sparse.values.name for sparse in graph.sparse_initializer}
    for index, node in enumerate(graph.node):
        if not node.op_type:
            raise ModelError(f"{where}: node {index} ({node.name!r}) has no operator", NOT_ONNX)
        if unknown := [name for name in node.input if name not in known]:
            raise ModelError(
                f"{where}: node {node.name or index!r} ({node.op_type}) reads {unknown[0]!r}, "
                "which nothing before it makes",
                NOT_ONNX,
            )
        known |= set(node.output)
    missing = [value.name for value in graph.output if value.name not in known]
    if missing or not graph.output:
        raise ModelError(
            f"{where}: {f'nothing makes the output {missing[0]!r}' if missing else 'no outputs'}",
            NOT_ONNX,
        )


def load_proto(model: str | os.PathLike[str] | bytes) -> onnx.ModelProto:
    """The ONNX model at a path, or in bytes, with its weights; ModelError in one line where it is no sound model.

    The nodes of the model's own functions stand where these are called. Refused: a missing or empty file, one over
    ``MAX_BYTES``, bytes that are no ONNX or that end too early, and external data outside the model's folder or
    beyond the end of its file.

    >>> from trtlearn.model.course_data import model_path
    >>> load_proto(model_path("resnet")).graph.node[0].name
    'stem'
    """
    try:
        import onnx
    except ImportError:
        raise ModelError(
            "reading ONNX files needs the package onnx", "pip install 'trtlearn[cli]'"
        ) from None
    where, folder = "the given bytes", None
    if not isinstance(model, bytes):
        where, folder = os.fspath(model), Path(model).parent
        if Path(model).is_file() and (size := Path(model).stat().st_size) > MAX_BYTES:
            raise ModelError(
                f"{where} has {size:,} bytes, expected at most {MAX_BYTES:,}",
                "keep the weights outside it",
            )
        model = read_bytes(model, ModelError)
    if not model:
        raise ModelError(f"{where} is empty, expected an ONNX model", "export or copy it again")
    try:
        proto = onnx.load_model_from_string(model)
    except Exception as problem:  # protobuf's own errors, and what else broken bytes may cause
        detail = str(problem).splitlines()[0] if str(problem) else "broken protobuf"
        raise ModelError(f"{where} is no ONNX model, or is cut: {detail}", NOT_ONNX) from None
    _check(proto, where)
    for tensor in stored_tensors(proto):
        if tensor.data_location == onnx.TensorProto.EXTERNAL:
            load_external(tensor, folder)
        if tensor.HasField("raw_data"):
            check_size(tensor, where)
    return inlined(proto, where)


SMALLER = "take a smaller variant of it, or a part cut out with onnx.utils.extract_model"


def serialized(proto: onnx.ModelProto, fix: str = SMALLER) -> bytes:
    """The model as bytes, the same for the same model; ModelError where it is over protobuf's 2 GB with its weights."""
    try:
        content: bytes = proto.SerializeToString(deterministic=True)
    except Exception as problem:  # an EncodeError or a ValueError, by protobuf's version
        raise ModelError(
            f"the model with its weights does not fit into 2 GB, protobuf's limit ({problem})", fix
        ) from None
    return content


def opset(proto: onnx.ModelProto) -> int:
    """The version of ONNX's own operators that the model asks for; 0 where it names none."""
    return max(
        (int(item.version) for item in proto.opset_import if item.domain in ("", "ai.onnx")),
        default=0,
    )


def constants(proto: onnx.ModelProto) -> dict[str, onnx.TensorProto]:
    """The graph's constants by name: initializers, and what Constant nodes hold (no sparse tensors, no strings)."""
    from onnx import helper

    found = {tensor.name: tensor for tensor in proto.graph.initializer}
    for node in proto.graph.node:
        for item in node.attribute if node.op_type == "Constant" else ():
            if item.name == "value":
                found[node.output[0]] = item.t
            elif item.name in CONSTANT_KINDS:
                value = helper.get_attribute_value(item)
                shape, values = ([len(value)], value) if isinstance(value, list) else ([], [value])
                found[node.output[0]] = helper.make_tensor(
                    node.output[0], CONSTANT_KINDS[item.name], shape, values
                )
    return found


def live_tensors(proto: onnx.ModelProto) -> tuple[str, ...]:
    """Names of the network inputs and of all that depends on them, in the order in which they are made.

    What is computed from weights alone is left out: it is a constant, and no calibrator sees it.
    """
    fixed = {tensor.name for tensor in proto.graph.initializer}
    live = dict.fromkeys(value.name for value in proto.graph.input if value.name not in fixed)
    for node in proto.graph.node:
        inner = any(inner_graphs(attribute) for attribute in node.attribute)
        if inner or any(name in live for name in node.input):
            live |= dict.fromkeys(name for name in node.output if name)
    return tuple(live)


# --- A model's own functions, put where they are called: exporters that write functions hide a network's layers in them.

MOST_NODES = 1_000_000
"""Functions that call functions multiply: a model that grows beyond this many nodes is refused."""

Key = tuple[str, str]


def inner_graphs(attribute: onnx.AttributeProto) -> tuple[onnx.GraphProto, ...]:
    """The graphs that an attribute holds: a branch of an If, the body of a Loop or Scan."""
    return (*([attribute.g] if attribute.HasField("g") else []), *attribute.graphs)


def all_nodes(nodes: Iterable[onnx.NodeProto]) -> Iterator[onnx.NodeProto]:
    """The nodes, and those of the graphs inside them."""
    for node in nodes:
        yield node
        for attribute in node.attribute:
            for graph in inner_graphs(attribute):
                yield from all_nodes(graph.node)


def _grown(model: onnx.ModelProto, where: str) -> int:
    """How many nodes the graph has once every call is replaced by what it calls."""
    bodies = {(one.domain, one.name): one for one in model.functions}
    known: dict[Key, int] = {}
    under_way: set[Key] = set()

    def count(nodes: Iterable[onnx.NodeProto]) -> int:
        return sum(call((node.domain, node.op_type)) for node in all_nodes(nodes))

    def call(key: Key) -> int:
        if key not in bodies:
            return 1
        if key in under_way:
            raise ModelError(
                f"{where}: function {key[1]} calls itself", "export the network to ONNX again"
            )
        if key not in known:
            under_way.add(key)
            known[key] = count(bodies[key].node)
            under_way.remove(key)
        return known[key]

    return count(model.graph.node)


def inlined(model: onnx.ModelProto, where: str = "the model") -> onnx.ModelProto:
    """``model`` with its functions' nodes in place of the calls; itself where it has none.

    A function written for other operator sets than the model's stays a function. ModelError where functions call each
    other in a circle, grow beyond ``MOST_NODES`` or cannot be inlined.
    """
    if not model.functions:
        return model
    from onnx import inliner

    if (grown := _grown(model, where)) > MOST_NODES:
        raise ModelError(
            f"{where} grows to {grown:,} nodes, expected at most {MOST_NODES:,}", "export it again"
        )
    try:
        return inliner.inline_local_functions(model)
    except Exception as problem:  # onnx's C++ code raises errors of several kinds, by version
        said = first_line(problem)
        raise ModelError(
            f"{where}: its functions cannot be inlined: {said:.200}", "export it without them"
        ) from None
