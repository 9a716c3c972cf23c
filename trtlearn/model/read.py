"""ONNX files, read with care: the one place where a model from outside is opened.

A model's own functions are put where they are called: exporters that write functions hide a
network's layers in them, TensorRT 8.6 knows no such functions, and everything here that looks for
layers looks in the main graph.
"""

from __future__ import annotations

import contextlib
import math
import mmap
import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import TYPE_CHECKING, Any, NamedTuple

from ..errors import ModelError, first_line
from ..files import HEAD_BYTES, read_bytes, recognize, sha256
from .course_data import NETWORKS
from .graph import OnnxModel, all_attributes, all_graphs, all_nodes, describe
from .operators import ONNX_DOMAINS

if TYPE_CHECKING:
    import onnx

__all__ = ["Cut", "load_proto", "read_model", "serialized", "serialized_in_pieces"]

# A file without its weights: protobuf's fields, walked one after the other. A message is a row of
# fields: a tag, and for what has a length the length and so many bytes
# (protobuf.dev/programming-guides/encoding). Large fields of weights are stepped over, so that of a
# file of gigabytes only the pages that hold its structure are read.

KEPT_BYTES = 1 << 16
"""A field up to this size is kept, whatever it holds: scales, zero points, shapes."""
VARINT, FIXED64, LENGTH, FIXED32 = 0, 1, 2, 5  # the wire types in use
GRAPH, INITIALIZER = 7, 5  # the numbers of ModelProto.graph and GraphProto.initializer
DEEPEST = 100  # messages inside each other: protobuf's own limit
_WEIGHTS = "_data"  # how the fields of a TensorProto that hold its values are called


class Cut(ValueError):
    """The bytes are no protobuf message, or end inside a field."""


def without_weights(content: bytes | mmap.mmap) -> bytes:
    """The ModelProto in ``content``, without the fields of stored values over ``KEPT_BYTES``.

    A tensor that loses its values keeps its name, type and dims. :class:`Cut` for broken bytes.
    """
    from onnx import ModelProto

    return b"".join(_lean(content, ModelProto.DESCRIPTOR, 0, len(content), DEEPEST))


def _lean(content: Any, message: Any, start: int, end: int, depth: int) -> list[bytes]:
    """The message at ``start`` to ``end`` in pieces, its large messages lean too."""
    if not depth:
        raise Cut("messages stand too deep inside each other")
    pieces: list[bytes] = []
    copied = at = start
    while at < end:
        field = _field(content, at, end)
        if field.end - field.start > KEPT_BYTES:
            known = message.fields_by_number.get(field.number)
            inner = known.message_type if known is not None else None
            is_weights = known is not None and (
                known.type == known.TYPE_BYTES or known.name.endswith(_WEIGHTS)
            )
            if inner is not None or is_weights:
                pieces.append(content[copied:at])
                copied = field.end
            if inner is not None:
                lean = _lean(content, inner, field.start, field.end, depth - 1)
                pieces += [_head(field.number, sum(map(len, lean))), *lean]
        at = field.end
    pieces.append(content[copied:end])
    return pieces


def _with_tensors(
    content: bytes, tensors: Sequence[onnx.TensorProto], sizes: Sequence[int]
) -> Iterator[bytes]:
    """A ModelProto ``content`` with ``tensors`` of ``sizes`` bytes as its initializers, in pieces:
    what protobuf makes of the whole model, fields in the order of their numbers.
    """
    heads = [_head(INITIALIZER, size) for size in sizes]
    at = _place(content, 0, len(content), GRAPH)
    graph = _field(content, at, len(content))
    place = _place(content, graph.start, graph.end, INITIALIZER)
    size = graph.end - graph.start + sum(sizes) + sum(map(len, heads))
    yield content[:at] + _head(GRAPH, size) + content[graph.start : place]
    for head, tensor in zip(heads, tensors, strict=True):
        yield head
        yield tensor.SerializeToString(deterministic=True)
    yield content[place:]


def _place(content: bytes, start: int, end: int, number: int) -> int:
    """Where the first field of this number or a larger one begins."""
    while start < end and (field := _field(content, start, end)).number < number:
        start = field.end
    return start


def _head(number: int, size: int) -> bytes:
    """What stands before the ``size`` bytes of a field."""
    return _varint_of(number << 3 | LENGTH) + _varint_of(size)


class _Field(NamedTuple):
    number: int
    start: int  # of its content
    end: int


def _field(content: Any, at: int, end: int) -> _Field:
    tag, start = _varint(content, at, end)
    kind = tag & 7
    if kind == LENGTH:
        size, start = _varint(content, start, end)
        last = start + size
    elif kind == VARINT:
        _, last = _varint(content, start, end)
    elif kind in (FIXED64, FIXED32):
        last = start + (8 if kind == FIXED64 else 4)
    else:
        raise Cut(f"a field of the unknown kind {kind}")
    if last > end or not tag >> 3:
        raise Cut("it ends inside a field")
    return _Field(tag >> 3, start, last)


def _varint(content: Any, at: int, end: int) -> tuple[int, int]:
    """The number at ``at``, seven bits a byte, and where the next field begins."""
    value = shift = 0
    while at < end and shift < 70:
        byte = content[at]
        at += 1
        value |= (byte & 127) << shift
        if byte < 128:
            return value, at
        shift += 7
    raise Cut("it ends inside a number")


def _varint_of(value: int) -> bytes:
    """``value`` as a protobuf number."""
    low = bytearray()
    while value > 127:
        low.append(value & 127 | 128)
        value >>= 7
    return bytes([*low, value])


# Whether a model is sound: checked once, where it is read, so that nothing after it has to.
# ``onnx.checker`` cannot do this: it refuses TensorRT's own operators and lets tensors pass that
# hold too few values.

NOT_ONNX = "export the network to ONNX again and check it with onnx.checker"
"""What to try where a file is no sound model."""
LONGEST_AXIS = 2**31 - 1
"""TensorRT's own limit for a tensor's axis."""
BITS = {21: 4, 22: 4, 23: 4, 25: 2, 26: 2}
"""TensorProto.UINT4, INT4, FLOAT4E2M1, UINT2 and INT2: several elements share a byte."""
VALUE_FIELDS = (
    *("float_data", "int32_data", "int64_data", "double_data", "uint64_data", "string_data"),
    "raw_data",
)
RANKS = {"Conv": range(3, 9), "ConvTranspose": range(3, 9), "Gemm": (2,)}
"""How many axes an operator's weights may have."""
LAST_TYPE = 15
"""AttributeProto.TYPE_PROTOS is 14, the last."""
MESSAGE_FIELDS = {4: "t", 5: "g", 11: "sparse_tensor"}
"""AttributeProto.TENSOR, GRAPH and SPARSE_TENSOR: where the value must stand."""


def stored_tensors(proto: onnx.ModelProto) -> Iterator[onnx.TensorProto]:
    """Every tensor stored in the model: initializers, sparse ones, and those in attributes."""
    sparse: list[onnx.SparseTensorProto] = []
    for attribute in all_attributes(proto):
        if attribute.HasField("t"):
            yield attribute.t
        yield from attribute.tensors
        if attribute.HasField("sparse_tensor"):
            sparse.append(attribute.sparse_tensor)
        sparse += attribute.sparse_tensors
    for graph in all_graphs(proto):
        yield from graph.initializer
        sparse += graph.sparse_initializer
    for item in sparse:
        yield from (item.values, item.indices)


def check_tensor(tensor: onnx.TensorProto, where: str, weights: bool = True) -> None:
    """ModelError unless the tensor holds as many values as its shape and type say, in one field.

    Without ``weights`` it may hold none.
    """
    from onnx import helper

    name, shape = f"{where}: tensor {tensor.name!r:.200}", list(tensor.dims)
    if not isinstance(tensor.name, str):
        raise ModelError(f"{name} has a name that is no UTF-8", NOT_ONNX)
    if any(not 0 <= axis <= LONGEST_AXIS for axis in shape):
        raise ModelError(f"{name} has shape {shape!s:.200}, expected axes of 0 to 2^31-1", NOT_ONNX)
    if tensor.HasField("segment"):
        raise ModelError(f"{name} is a segment of one, which ONNX no longer has", NOT_ONNX)
    count = math.prod(shape)
    try:
        item_bytes: int = helper.tensor_dtype_to_np_dtype(tensor.data_type).itemsize
        typed = helper.tensor_dtype_to_field(tensor.data_type)
    except (KeyError, ValueError, TypeError):
        if tensor.data_type <= 0:
            raise ModelError(f"{name} has no data type", NOT_ONNX) from None
        return  # a type that this onnx does not know: graph.tensor_array says so
    filled = [field for field in VALUE_FIELDS if len(getattr(tensor, field))]
    if filled == ["raw_data"] or not filled:
        size, unit = len(tensor.raw_data), "bytes"
        expected = (count * BITS.get(tensor.data_type, 8 * item_bytes) + 7) // 8
    else:
        size, unit = len(getattr(tensor, filled[0])), "values"
        per_value = 8 // BITS.get(tensor.data_type, 8)
        parts = 2 if tensor.data_type in (14, 15) else 1  # complex: two numbers a value
        expected = (count * parts + per_value - 1) // per_value
    if len(filled) > 1 or not set(filled) <= {typed, "raw_data"}:
        raise ModelError(f"{name} holds {' and '.join(filled)}, expected {typed}", NOT_ONNX)
    if size != expected and (filled or weights):
        problem = f"{name} of shape {shape} holds {size} {unit}, expected {expected}"
        raise ModelError(problem, NOT_ONNX)


def check_graph(proto: onnx.ModelProto, where: str) -> None:
    """ModelError without operator sets or outputs, or where a node reads what nothing makes."""
    graph = proto.graph
    if not proto.ir_version or not graph.node or not proto.opset_import:
        problem = f"{where} holds no ONNX model (no version, no nodes or no operator set)"
        raise ModelError(problem, NOT_ONNX)
    if not graph.output:
        raise ModelError(f"{where}: no outputs", NOT_ONNX)
    for item in proto.opset_import:
        if not _are_texts(item.domain) or not 0 < item.version < 2**31:
            problem = f"{where}: operator set {item.domain!r:.100} of version {item.version}"
            raise ModelError(problem, NOT_ONNX)
    versions = {(item.domain, item.version) for item in proto.opset_import}
    if len(versions) > len({domain for domain, _ in versions}):
        raise ModelError(f"{where}: one operator set in two versions", NOT_ONNX)
    known = {"", *(value.name for value in graph.input)}
    known |= {tensor.name for tensor in graph.initializer}
    known |= {sparse.values.name for sparse in graph.sparse_initializer}
    for index, node in enumerate(graph.node):
        outputs = [name for name in node.output if name]
        problem = ""
        if not known.issuperset(node.input):
            unknown = next(name for name in node.input if name not in known)
            problem = f"reads {unknown!r}, which nothing before it makes"
        elif not known.isdisjoint(outputs):
            again = next(name for name in outputs if name in known)
            problem = f"makes {again!r}, which is there already"
        if problem:
            named = f"{where}: node {node.name or index!r} ({node.op_type})"
            raise ModelError(f"{named} {problem}", NOT_ONNX)
        known.update(outputs)
    if missing := [value.name for value in graph.output if value.name not in known]:
        raise ModelError(f"{where}: nothing makes the output {missing[0]!r}", NOT_ONNX)


def check_nodes(proto: onnx.ModelProto, where: str) -> None:
    """ModelError for a node that has too few inputs, outputs or attributes for its operator, and
    for a name that is no UTF-8.

    How many it needs is what ONNX's own schemas say; an operator without one only has to have a
    name and an output.
    """
    from onnx import defs

    versions = {item.domain: item.version for item in proto.opset_import}
    before = 1 if proto.ir_version < 3 else 0  # files of that time name no opset
    own = max((versions[domain] for domain in ONNX_DOMAINS if domain in versions), default=before)
    schemas: dict[tuple[str, str], _Needs | None] = {}

    def needs(node: onnx.NodeProto) -> _Needs | None:
        """What the operator's schema requires. A plugin or a damaged file may use the name of an
        operator later than the model's opset: of the newest schema then only the inputs count.
        """
        name, domain = node.op_type, "" if node.domain in ONNX_DOMAINS else node.domain
        if (name, domain) not in schemas:
            version = versions.get(domain, 0) if domain else own
            in_opset = version > 0 and defs.has(name, version, domain)
            place = (name, version, domain) if in_opset else (name, domain)
            found = defs.get_schema(*place) if defs.has(*place) else None
            schemas[name, domain] = _needs(found, in_opset) if found else None
        return schemas[name, domain]

    ranks = {tensor.name: len(tensor.dims) for tensor in proto.graph.initializer}
    for node in all_nodes(proto.graph.node):
        if not _are_texts(node.name, node.op_type, node.domain, *node.input, *node.output):
            problem: str | None = "has a name that is no UTF-8"
        else:
            problem = _node_problem(node) or _schema_problem(node, needs(node))
            rank = ranks.get(node.input[1]) if node.op_type in RANKS and not problem else None
            if rank is not None and rank not in RANKS[node.op_type]:
                problem = f"has weights of {rank} axes"
        if problem:
            name = node.name or next(iter(node.output), "")
            kind = f" ({node.op_type!s:.60})" if node.op_type else ""
            raise ModelError(f"{where}: node {name!r:.200}{kind} {problem}", NOT_ONNX)
    for graph in all_graphs(proto):
        for value in (*graph.input, *graph.output, *graph.value_info):
            axes = (axis.dim_param for axis in value.type.tensor_type.shape.dim)
            if not _are_texts(value.name, *axes):
                raise ModelError(
                    f"{where}: tensor {value.name!r:.200} has a name that is no UTF-8", NOT_ONNX
                )


def _are_texts(*texts: Any) -> bool:
    """Whether all are text: protobuf gives a name that is no UTF-8 as bytes."""
    return all(isinstance(text, str) for text in texts)


def _node_problem(node: onnx.NodeProto) -> str | None:
    """What is wrong with a node of any operator."""
    if not node.op_type:
        return "has no operator"
    if not node.output:
        return "has no outputs"
    for attribute in node.attribute:
        if not _are_texts(attribute.name, attribute.ref_attr_name):
            return "has an attribute whose name is no UTF-8"
        field = MESSAGE_FIELDS.get(attribute.type)
        if not 0 < attribute.type < LAST_TYPE or (field and not attribute.HasField(field)):
            return f"has an attribute {attribute.name!r:.100} without a type or a value"
        if attribute.ref_attr_name:
            return f"has an attribute {attribute.name!r:.100} that only a function may have"
    return None


class _Needs(NamedTuple):
    """What an operator's schema requires of a node."""

    inputs: tuple[str, ...]  # those that may not be left out
    least: int  # how many it has at least
    attributes: dict[str, tuple[bool, int, str]]  # whether required; its type and the type's name


def _needs(schema: Any, in_opset: bool) -> _Needs:
    """Its inputs, and its attributes where the model's opset has the operator."""
    inputs = tuple(item.name for item in schema.inputs if item.option.value == 0)
    attributes: dict[str, tuple[bool, int, str]] = {}
    for name, item in schema.attributes.items() if in_opset else ():
        attributes[name] = (item.required, item.type.value, item.type.name)
    return _Needs(inputs, max(schema.min_input, len(inputs)), attributes)


def _schema_problem(node: onnx.NodeProto, needs: _Needs | None) -> str | None:
    """What the node lacks that its operator requires."""
    if needs is None:
        return None
    if len(node.input) < needs.least or not all(node.input[: len(needs.inputs)]):
        count = len([name for name in node.input if name])
        return f"has {count} inputs, expected at least {needs.least}: {', '.join(needs.inputs)}"
    present = {attribute.name: int(attribute.type) for attribute in node.attribute}
    for name, (is_required, number, kind) in needs.attributes.items():
        if name not in present and is_required:
            return f"lacks its attribute {name!r}"
        if name in present and present[name] != number:
            return f"has an attribute {name!r} that is no {kind}"
    return None


# Reading

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
        fix = "pip install 'trtlearn[cli]'"
        raise ModelError("reading ONNX files needs the package onnx", fix) from None
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
            fix = "keep the weights outside it"
            raise ModelError(f"{where} has {size:,} bytes, expected at most {MAX_BYTES:,}", fix)
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


def read_model(model: str | os.PathLike[str] | bytes) -> OnnxModel:
    """The record of the ONNX model at a path or in bytes; ModelError as for :func:`load_proto`.

    >>> from trtlearn.model.course_data import model_path
    >>> model = read_model(model_path("resnet"))
    >>> model.inputs[0].shape, model.has_qdq, model.tensors[:3]
    (('batch', 1, 28, 28), False, ('image', 'stem', 'stem_relu'))
    """
    proto = load_proto(model, weights=False)
    path = None if isinstance(model, bytes) else os.fspath(model)
    size = len(model) if isinstance(model, bytes) else os.path.getsize(model)
    return replace(describe(proto, path), sha256=sha256(model), size_bytes=size)


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
    return _with_tensors(serialized(proto, fix), tensors, sizes)


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
        fix = "give the model's path"
        raise ModelError(f"{where}, but the model was given as bytes, not as a file", fix)
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
        fix = "put the data file beside the model"
        raise ModelError(f"{where}, but there is no such file in {str(folder)!r}", fix)
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
        fix = "export it again"
        raise ModelError(f"{where} grows to {size:,} nodes, expected at most {MOST_NODES:,}", fix)
    try:
        return inliner.inline_local_functions(model)
    except Exception as problem:  # onnx's C++ code raises errors of several kinds, by version
        reason = first_line(problem)
        fix = "export it without them"
        raise ModelError(f"{where}: its functions cannot be inlined: {reason:.200}", fix) from None


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
            problem = f"{where}: function {key[1]} calls itself"
            raise ModelError(problem, "export the network to ONNX again")
        if key not in sizes:
            open_calls.add(key)
            sizes[key] = count(bodies[key])
            open_calls.remove(key)
        return sizes[key]

    return count(model.graph.node)
