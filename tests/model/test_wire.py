"""A model without its weights: the same as onnx's, weights taken out; and no byte of them read."""

from __future__ import annotations

import random
import subprocess
import sys

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from trtlearn.errors import ModelError
from trtlearn.model import read
from trtlearn.model.course_data import model_path
from trtlearn.model.read import load_proto, read_model, serialized, serialized_in_pieces

SMALL = 40  # bytes that a field may have here and is kept
seeds = st.integers(0, 2**32 - 1).map(random.Random)


def a_word(rng):
    return "".join(rng.choices("aé/%😀", k=rng.randint(1, SMALL)))


def a_tensor(rng):
    """A tensor that stores its values in one way or another, or outside."""
    name, array = a_word(rng), np.arange(rng.randint(0, 60), dtype=np.float32)
    kind = rng.choice(("raw", "floats", "words", "outside"))
    if kind == "words":
        words = [b"word"] * array.size
        return helper.make_tensor(name, TensorProto.STRING, [array.size], words)
    if kind == "floats":
        return helper.make_tensor(name, TensorProto.FLOAT, [array.size], array)
    tensor = numpy_helper.from_array(array, name)
    if kind == "outside":
        tensor.ClearField("raw_data")
        tensor.data_location = TensorProto.EXTERNAL
        tensor.external_data.add(key="location", value=a_word(rng))
    return tensor


def a_graph(rng, depth=2):
    """A graph whose nodes hold tensors, numbers, strings and, ``depth`` levels deep, graphs."""
    nodes = []
    for _ in range(rng.randint(0, 4)):
        node = helper.make_node("Any", [a_word(rng)], [a_word(rng)], a_word(rng))
        values = [a_tensor(rng), a_word(rng) * 3, [-1, 2**40] * rng.randint(1, 9), 0.5]
        values += [a_graph(rng, depth - 1)] if depth else []
        node.attribute.append(helper.make_attribute(a_word(rng), rng.choice(values)))
        nodes.append(node)
    stored = [a_tensor(rng) for _ in range(rng.randint(0, 3))]
    return helper.make_graph(nodes, a_word(rng), [], [], stored, doc_string=a_word(rng))


def a_model(rng):
    return helper.make_model(a_graph(rng))


def lean(message):
    """``message`` with its large stored values taken out, by onnx's own reading of it."""
    for field, value in message.ListFields():
        if field.message_type is not None:
            for inner in value if field.is_repeated else [value]:
                lean(inner)
        elif field.type == field.TYPE_BYTES or field.name.endswith("_data"):
            size = len(value) if not field.is_repeated else value and _packed(field, value)
            if field.is_repeated and field.type == field.TYPE_BYTES:
                continue  # each string is a field of its own, and small here
            if size > SMALL:
                message.ClearField(field.name)
    return message


def _packed(field, values):
    alone = TensorProto()
    getattr(alone, field.name).extend(values)
    content = alone.SerializeToString()
    return len(content) - (2 if len(content) < 130 else 3)


@pytest.fixture(autouse=True, scope="module")
def fields_are_small():
    kept, read.KEPT_BYTES = read.KEPT_BYTES, SMALL
    yield
    read.KEPT_BYTES = kept


@settings(max_examples=150, deadline=None)
@given(seeds)
def test_only_large_values_are_left_out(rng):
    model = a_model(rng)
    content = model.SerializeToString()
    assert onnx.ModelProto.FromString(read.without_weights(content)) == lean(model)


@settings(max_examples=100, deadline=None)
@given(seeds)
def test_a_model_in_pieces_is_the_same_bytes(rng):
    model = a_model(rng)
    content = serialized(model) + b"\xfa\x01\x02hi"  # ends in a field that ONNX does not know
    model = onnx.ModelProto.FromString(content)
    model.graph.input.add(name="x")
    expected = serialized(model)
    assert b"".join(serialized_in_pieces(model)) == expected
    assert expected.endswith(b"hi")


@settings(max_examples=150, deadline=None)
@given(seeds)
def test_broken_bytes_are_refused_or_read_as_onnx_reads_them(rng):
    content = bytearray(a_model(rng).SerializeToString())
    if rng.random() < 0.3:
        del content[rng.randrange(len(content)) :]
    else:
        for _ in range(rng.randint(1, 3)):
            content[rng.randrange(len(content))] = rng.randrange(256)
    try:
        left = read.without_weights(bytes(content))
    except read.Cut as problem:
        left, reason = None, str(problem)
    try:
        whole = onnx.ModelProto.FromString(bytes(content))
    except Exception:  # DecodeError; what was broken may lie in weights that are left out
        return
    if left is None:
        assert "kind" in reason  # an old kind of field, of which ONNX has none
        return
    ours = onnx.ModelProto.FromString(left).graph.node
    assert [(node.op_type, node.input, node.output) for node in ours] == [
        (node.op_type, node.input, node.output) for node in whole.graph.node
    ]


def test_a_field_that_ends_too_early_is_refused_with_one_line():
    content = model_path("resnet").read_bytes()
    for end in (3, len(content) // 2, len(content) - 1):
        with pytest.raises(ModelError, match="is no ONNX model, or is cut"):
            load_proto(content[:end], weights=False)
    for broken in (b"\x0b\x0b", b"\x3a\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01", b"\x02"):
        with pytest.raises(read.Cut):
            read.without_weights(broken)


def test_a_record_is_the_same_with_and_without_weights():
    path = model_path("resnet")
    whole = onnx.load(path)
    assert read_model(path).parameters == sum(np.prod(t.dims) for t in whole.graph.initializer)
    assert load_proto(path, weights=False).graph.node == whole.graph.node


def a_large_model(path, size):
    """A model with weights of ``size`` bytes that take no place on the disk."""
    node = helper.make_node("MatMul", ["x", "w"], ["y"], "product")
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", 4]) for name in "xy"]
    model = helper.make_model(helper.make_graph([node], "large", ends[:1], ends[1:]), ir_version=8)
    tensor = TensorProto(name="w", data_type=TensorProto.FLOAT, dims=[size // 16, 4])

    def field(tag, length):
        return bytes([tag]) + read._varint_of(length)

    start = tensor.SerializeToString() + field(9 << 3 | 2, size)
    stored = field(5 << 3 | 2, len(start) + size) + start
    graph = model.graph.SerializeToString() + stored
    model.ClearField("graph")
    with open(path, "wb") as file:
        file.write(model.SerializeToString() + field(7 << 3 | 2, len(graph) + size) + graph)
        file.truncate(file.tell() + size)


ASK = """
import sys
from trtlearn.trtexec.explanation import explain
print(explain(f"trtexec --int8 --onnx={sys.argv[1]}").mode)
print(open("/proc/self/status").read().split("VmHWM:")[1].split()[0])
"""


@pytest.mark.skipif(sys.platform != "linux", reason="the peak of memory is read off /proc")
def test_explain_reads_no_weights(tmp_path):
    path = tmp_path / "large.onnx"
    a_large_model(path, 1_900_000_000)
    done = subprocess.run(
        [sys.executable, "-c", ASK, path], capture_output=True, text=True, timeout=60, check=True
    )
    mode, kilobytes = done.stdout.split()
    assert mode == "placeholder-ranges"
    assert int(kilobytes) < 100_000
