"""ONNX files, read with care: the one place where a model from outside is opened.

A model's own functions are put where they are called: exporters that write functions hide a
network's layers in them, TensorRT 8.6 knows no such functions, and everything here that looks for
layers looks in the main graph.
"""

from __future__ import annotations

import contextlib
import mmap
import os
from collections.abc import Iterable, Iterator
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import TYPE_CHECKING

from ..errors import ModelError, first_line
from ..files import HEAD_BYTES, read_bytes, recognize
from .check import NOT_ONNX, check_graph, check_nodes, check_tensor, stored_tensors
from .course_data import NETWORKS
from .graph import all_nodes
from .wire import KEPT_BYTES, with_tensors, without_weights

if TYPE_CHECKING:
    import onnx

__all__ = ["MAX_BYTES", "inlined", "load_proto", "serialized", "serialized_in_pieces"]

MAX_BYTES = 2**31 - 1
"""The largest file read: protobuf's own limit for one message."""
MOST_NODES = 1_000_000
"""Functions that call functions multiply: a model that grows beyond this many nodes is refused."""
SMALLER = "take a smaller variant of it, or a part cut out with onnx.utils.extract_model"
_TOO_LARGE = "the model with its weights does not fit into 2 GB, protobuf's limit ({})"


def load_proto(model: str | os.PathLike[str] | bytes, *, weights: bool = True) -> onnx.ModelProto:
    """The ONNX model at a path, or in bytes; ModelError where it is not sound.

    Without ``weights`` stored tensors of more than 64 KB keep their name, type and dims only: a
    file of gigabytes takes a moment and little memory, external data are not opened. The nodes of
    the model's own functions stand where these are called. Refused: a missing or empty file, one
    over ``MAX_BYTES``, bytes that are no ONNX or that end too early, and external data outside the
    model's folder or beyond the end of its file.

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
    content: bytes | mmap.mmap
    if isinstance(model, bytes):
        content = model
    else:
        path = Path(model)
        where, folder = os.fspath(model), path.parent
        if where in NETWORKS and not os.path.exists(path):
            raise ModelError(f"no such file: {where}", f'the network is tl.network("{where}")')
        if os.path.isfile(path) and (size := path.stat().st_size) > MAX_BYTES:
            raise ModelError(
                f"{where} has {size:,} bytes, expected at most {MAX_BYTES:,}",
                "keep the weights outside it",
            )
        content = read_bytes(model, ModelError) if weights else _mapped(path)
    if not content:
        raise ModelError(f"{where} is empty, expected an ONNX model", "export or copy it again")
    if (known := recognize(content[:HEAD_BYTES])) and known.kind != "onnx":
        raise ModelError(f"{where} is no ONNX model: it is {known.words}", known.fix)
    try:
        proto: onnx.ModelProto = onnx.ModelProto.FromString(
            content if weights else without_weights(content)
        )
    except Exception as problem:  # protobuf's own errors, and what else broken bytes may cause
        detail = str(problem).splitlines()[0] if str(problem) else "broken protobuf"
        raise ModelError(f"{where} is no ONNX model, or is cut: {detail}", NOT_ONNX) from None
    check_graph(proto, where)
    for tensor in stored_tensors(proto):
        if tensor.data_location == onnx.TensorProto.EXTERNAL:
            _load_external(tensor, folder, None if weights else KEPT_BYTES)
        check_tensor(tensor, where, weights)
    if proto.functions:
        proto = inlined(proto, where)
        check_graph(proto, where)
    check_nodes(proto, where)
    return proto


def _mapped(path: Path) -> bytes | mmap.mmap:
    """The file's bytes, read where they are looked at; ModelError as for :func:`read_bytes`."""
    if not os.path.isfile(path):  # a pipe, or nothing
        return read_bytes(path, ModelError)
    read_bytes(path, ModelError, 1)
    with open(path, "rb") as file:
        try:
            return mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        except (OSError, ValueError):  # an empty file, or a file system without memory maps
            return file.read()


def serialized(proto: onnx.ModelProto, fix: str = SMALLER) -> bytes:
    """The model as bytes, the same for the same model; ModelError over protobuf's 2 GB."""
    try:
        content: bytes = proto.SerializeToString(deterministic=True)
    except Exception as problem:  # an EncodeError or a ValueError, by protobuf's version
        raise ModelError(_TOO_LARGE.format(problem), fix) from None
    return content


def serialized_in_pieces(proto: onnx.ModelProto, fix: str = SMALLER) -> Iterator[bytes]:
    """The same bytes, one stored tensor after the other: the weights are not in memory twice.

    They are taken out of ``proto``, which is of no use afterwards.
    """
    tensors = list(proto.graph.initializer)
    sizes = [tensor.ByteSize() for tensor in tensors]
    if sum(sizes) > MAX_BYTES:
        raise ModelError(_TOO_LARGE.format(f"{sum(sizes):,} bytes"), fix)
    del proto.graph.initializer[:]
    return with_tensors(serialized(proto, fix), tensors, sizes)


def _load_external(tensor: onnx.TensorProto, folder: Path | None, most: int | None) -> None:
    """Put external data into the tensor, from a regular file inside ``folder`` only.

    Data of more than ``most`` bytes stay outside: it is checked that they are there.
    """
    from onnx.external_data_helper import load_external_data_for_tensor

    entries = {entry.key: entry.value for entry in tensor.external_data}
    location = entries.get("location", "")
    where = f"tensor {tensor.name!r:.200} keeps its data in {location!r:.200}"
    inside = "move the data file beside the model, or save the model with its weights inside"
    if folder is None:
        raise ModelError(
            f"{where}, but the model was given as bytes, not as a file", "give the model's path"
        )
    posix = PurePosixPath(location)
    absolute = posix.is_absolute() or PureWindowsPath(location).drive or "\\" in location
    if not location or "\0" in location or absolute or ".." in posix.parts:
        raise ModelError(f"{where}, expected a relative path inside the model's folder", inside)
    try:
        target = (folder / location).resolve()
        is_inside, is_file = target.is_relative_to(folder.resolve()), target.is_file()
        with contextlib.suppress(FileNotFoundError, NotADirectoryError):
            target.stat()  # from Python 3.14 on, is_file answers False for a name too long
    except (OSError, RuntimeError):  # a name too long, or links in a circle
        raise ModelError(f"{where}, which is no path", inside) from None
    if not is_inside:
        raise ModelError(f"{where}, which leads outside the model's folder", inside)
    if not is_file:
        raise ModelError(
            f"{where}, but there is no such file in {str(folder)!r}",
            "put the data file beside the model",
        )
    size = target.stat().st_size
    try:
        offset = int(entries.get("offset") or 0)
        length = int(entries.get("length") or max(size - offset, 0))
    except ValueError:
        raise ModelError(f"{where} with an offset or length that is no number", NOT_ONNX) from None
    if offset < 0 or length < 0 or offset + length > size:
        raise ModelError(
            f"{where} at bytes {offset} to {offset + length}, but that file has {size}",
            "copy the data file again, it is cut",
        )
    if most is not None and length > most:
        return
    try:
        load_external_data_for_tensor(tensor, str(folder))
    except Exception as problem:
        raise ModelError(f"{where}, which cannot be read: {problem}", inside) from None
    tensor.ClearField("data_location")
    del tensor.external_data[:]


def inlined(model: onnx.ModelProto, where: str = "the model") -> onnx.ModelProto:
    """``model`` with its functions' nodes in place of the calls; itself where it has none.

    A function written for other operator sets than the model's stays a function. ModelError where
    functions call each other in a circle, grow beyond ``MOST_NODES`` or cannot be inlined.
    """
    if not model.functions:
        return model
    from onnx import inliner

    if (size := _inlined_size(model, where)) > MOST_NODES:
        raise ModelError(
            f"{where} grows to {size:,} nodes, expected at most {MOST_NODES:,}", "export it again"
        )
    try:
        return inliner.inline_local_functions(model)
    except Exception as problem:  # onnx's C++ code raises errors of several kinds, by version
        reason = first_line(problem)
        raise ModelError(
            f"{where}: its functions cannot be inlined: {reason:.200}", "export it without them"
        ) from None


def _inlined_size(model: onnx.ModelProto, where: str) -> int:
    """How many nodes the graph has once every call is replaced by what it calls."""
    bodies = {(function.domain, function.name): function.node for function in model.functions}
    sizes: dict[tuple[str, str], int] = {}
    open_calls: set[tuple[str, str]] = set()

    def count(nodes: Iterable[onnx.NodeProto]) -> int:
        return sum(call((node.domain, node.op_type)) for node in all_nodes(nodes))

    def call(key: tuple[str, str]) -> int:
        if key not in bodies:
            return 1
        if key in open_calls:
            raise ModelError(
                f"{where}: function {key[1]} calls itself", "export the network to ONNX again"
            )
        if key not in sizes:
            open_calls.add(key)
            sizes[key] = count(bodies[key])
            open_calls.remove(key)
        return sizes[key]

    return count(model.graph.node)
