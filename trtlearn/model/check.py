"""Whether an ONNX model is sound: checked once, where it is read, so that nothing after it has to.

Checked by tables: each stored tensor by its type and shape, each node by the schema that ONNX has
for it. ``onnx.checker`` cannot do this: it refuses TensorRT's own operators and lets tensors pass
that hold too few values.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, NamedTuple

from ..errors import ModelError
from .graph import all_attributes, all_graphs, all_nodes
from .operators import ONNX_DOMAINS

if TYPE_CHECKING:
    import onnx

__all__ = ["NOT_ONNX", "check_graph", "check_nodes", "check_tensor", "stored_tensors"]

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
        raise ModelError(
            f"{name} of shape {shape} holds {size} {unit}, expected {expected}", NOT_ONNX
        )


def check_graph(proto: onnx.ModelProto, where: str) -> None:
    """ModelError without operator sets or outputs, or where a node reads what nothing makes."""
    graph = proto.graph
    if not proto.ir_version or not graph.node or not proto.opset_import:
        raise ModelError(
            f"{where} holds no ONNX model (no version, no nodes or no operator set)", NOT_ONNX
        )
    if not graph.output:
        raise ModelError(f"{where}: no outputs", NOT_ONNX)
    for item in proto.opset_import:
        if not _are_texts(item.domain) or not 0 < item.version < 2**31:
            raise ModelError(
                f"{where}: operator set {item.domain!r:.100} of version {item.version}", NOT_ONNX
            )
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
