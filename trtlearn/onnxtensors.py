"""The tensors stored in an ONNX file: found, measured, and read from data files inside the model's own folder only."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import TYPE_CHECKING

from .errors import ModelError

if TYPE_CHECKING:
    import onnx

__all__ = ["NOT_ONNX", "all_graphs", "check_size", "load_external", "stored_tensors"]

NOT_ONNX = "export the network to ONNX again and check it with onnx.checker"
"""What to try where a file is no sound model."""
PACKED = (21, 22, 23)
"""TensorProto.UINT4, INT4 and FLOAT4E2M1: two elements share a byte, so their size is not checked."""


def _attributes(nodes: Iterable[onnx.NodeProto]) -> Iterator[onnx.AttributeProto]:
    """Every attribute of the nodes and of the nodes of graphs inside them (If, Loop, Scan)."""
    for node in nodes:
        for attribute in node.attribute:
            yield attribute
            for inner in (*([attribute.g] if attribute.HasField("g") else []), *attribute.graphs):
                yield from _attributes(inner.node)


def _top(proto: onnx.ModelProto) -> list[onnx.NodeProto]:
    return [*proto.graph.node, *(node for function in proto.functions for node in function.node)]


def all_graphs(proto: onnx.ModelProto) -> Iterator[onnx.GraphProto]:
    """The model's graph and every graph inside an attribute, those of its functions' nodes too."""
    yield proto.graph
    for attribute in _attributes(_top(proto)):
        yield from (*([attribute.g] if attribute.HasField("g") else []), *attribute.graphs)


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
        raise ModelError(f"{where}, but the model was given as bytes, not as a file", "give the model's path")
    strange = PurePosixPath(location).is_absolute() or PureWindowsPath(location).drive or "\\" in location
    if not location or "\0" in location or strange or ".." in PurePosixPath(location).parts:
        raise ModelError(f"{where}, expected a relative path inside the model's folder", inside)
    target = (folder / location).resolve()
    if not target.is_relative_to(folder.resolve()):
        raise ModelError(f"{where}, which leads outside the model's folder", inside)
    if not target.is_file():
        raise ModelError(f"{where}, but there is no such file in {folder}", "put the data file beside the model")
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
