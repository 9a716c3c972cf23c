"""An ONNX file without its weights: protobuf's fields, walked one after the other.

A message is a row of fields: a tag, and for what has a length the length and so many bytes
(protobuf.dev/programming-guides/encoding). Large fields of weights are stepped over, so that of a
file of gigabytes only the pages that hold its structure are read.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    import mmap

    import onnx

__all__ = ["KEPT_BYTES", "Cut", "with_tensors", "without_weights"]

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

    >>> from onnx import TensorProto, helper
    >>> large = helper.make_tensor("w", TensorProto.INT8, [100_000], bytes(100_000), raw=True)
    >>> model = helper.make_model(helper.make_graph([], "g", [], [], [large]))
    >>> len(model.SerializeToString()) > 100_000, len(without_weights(model.SerializeToString()))
    (True, 22)
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


def with_tensors(
    content: bytes, tensors: Sequence[onnx.TensorProto], sizes: Sequence[int]
) -> Iterator[bytes]:
    """A ModelProto with ``tensors`` of ``sizes`` bytes as its initializers, in pieces.

    ``content`` is the model without any. Together the pieces are what protobuf makes of the whole
    model, fields in the order of their numbers.
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
