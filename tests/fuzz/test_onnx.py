"""ONNX models from others: every field of the format may say anything.

A sound model is changed field by field, as protobuf knows them, so that most of what comes out is
still a message. Whatever reads it refuses it in one line or works with it; what `trtlearn migrate`
writes is sound again, and runs where the model did. The seeds stand in seeds/onnx: small models of
every storage kind, and models that once crashed a reader.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from test_readers import MANY, damaged, read

from recording.pairs import compare_pairs, read_pairs
from trtlearn.calibration.cache import new_cache
from trtlearn.errors import TrtlearnError
from trtlearn.model.graph import judge_quantization
from trtlearn.model.read import load_proto, read_model
from trtlearn.model.run import activations
from trtlearn.trtexec.migration import migrate

SEEDS = sorted((Path(__file__).parent / "seeds" / "onnx").glob("*.onnx"))
SOUND = [path for path in SEEDS if path.name.startswith("sound-")]
bounded = settings(max_examples=MANY, deadline=None, suppress_health_check=list(HealthCheck))
Kind = FieldDescriptor
INTEGERS = (0, 1, -1, 2, -4, 3, 7, 255, 1000, 2**31 - 1, 2**31, 2**63 - 1, -(2**63))
TEXTS = ("", "x", "y", "w", "Conv", "MatMul", "QuantizeLinear", "If", "\0", "../x", "a" * 300)
VALUES: dict[int, tuple[Any, ...]] = {
    Kind.TYPE_INT64: INTEGERS,
    Kind.TYPE_UINT64: tuple(abs(value) for value in INTEGERS),
    Kind.TYPE_INT32: tuple(value for value in INTEGERS if abs(value) < 2**31),
    Kind.TYPE_FLOAT: (0.0, 1.0, -1.0, 1e38, float("inf"), float("nan")),
    Kind.TYPE_DOUBLE: (0.0, 1.0, float("nan")),
    Kind.TYPE_STRING: TEXTS,
    Kind.TYPE_BYTES: (b"", b"\0" * 4, b"\xff" * 64, b"\xff\xfe"),
    Kind.TYPE_BOOL: (True, False),
}


def one_of_the_messages(draw: st.DrawFn, message: Message) -> Message:
    """The message itself or one inside it, some levels down."""
    for _ in range(draw(st.integers(0, 6))):
        inside: list[Message] = []
        for field, value in message.ListFields():
            if field.message_type is not None:
                inside += [value] if isinstance(value, Message) else list(value)
        if not inside:
            break
        message = draw(st.sampled_from(inside))
    return message


def change(draw: st.DrawFn, message: Message) -> None:
    """Give one field of the message another value, or none, or one more."""
    field = draw(st.sampled_from(list(message.DESCRIPTOR.fields)))
    name, values = field.name, VALUES.get(field.type, ())
    if field.type == Kind.TYPE_ENUM:
        values = tuple(field.enum_type.values_by_number)
    held: Any = getattr(message, name)
    action = draw(st.sampled_from(["clear", "remove", "double", "set", "set", "add"]))
    if action == "clear":
        message.ClearField(name)
    elif not hasattr(held, "append") or isinstance(held, (str, bytes)):
        if values:
            setattr(message, name, draw(st.sampled_from(values)))
        else:
            held.SetInParent()
    elif held and action in ("remove", "double", "set"):
        at = draw(st.integers(0, len(held) - 1))
        if action == "double":
            held.append(held[at])
        elif action == "set" and values:
            held[at] = draw(st.sampled_from(values))
        else:
            del held[at]
    elif values:
        held.append(draw(st.sampled_from(values)))
    else:
        held.add()


@st.composite
def changed_models(draw: st.DrawFn) -> bytes:
    """A seed with a few of its fields changed."""
    model = onnx.load_model_from_string(draw(st.sampled_from(SOUND)).read_bytes())
    for _ in range(draw(st.integers(1, 3))):
        change(draw, one_of_the_messages(draw, model))
    content: bytes = model.SerializeToString()
    return content


def runs(content: bytes) -> bool:
    """Whether ONNX Runtime computes the model on ones."""
    try:
        facts = read_model(content)
        feed = {
            value.name: np.ones(
                [axis if isinstance(axis, int) else 1 for axis in value.shape or ()], np.float32
            )
            for value in facts.inputs
        }
        next(activations(content, [feed], [facts.outputs[0].name]))
    except (TrtlearnError, MemoryError, ValueError):
        return False
    return True


def work_with(content: bytes, folder: Path) -> None:
    """Read the model in every way that the package has, and migrate it."""
    facts = read(read_model, content)
    if facts is None:
        return
    assert str(facts).encode()
    assert facts._repr_html_().encode()
    proto = read(load_proto, content)  # its weights may be damaged, which no description reads
    if proto is None:
        return
    judge_quantization(proto)
    pairs = read(read_pairs, content)
    if pairs is not None:
        str(compare_pairs(pairs, pairs))
    (folder / "model.onnx").write_bytes(content)
    names = [name for name in facts.tensors if read(lambda name: new_cache({name: 1.0}), name)]
    cache, target = new_cache(dict.fromkeys(names or ["none"], 0.05)), folder / "new.onnx"
    command, model = "trtexec --int8 --calib=c", folder / "model.onnx"
    if read(lambda _: migrate(command, model, cache, target), None) is None:
        assert not target.exists()
        return
    new = target.read_bytes()
    target.unlink()
    load_proto(new)
    assert runs(new) or not runs(content)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("models")


@pytest.mark.parametrize("path", SEEDS, ids=lambda path: path.stem)
def test_seeds(path: Path, folder: Path) -> None:
    content = path.read_bytes()
    work_with(content, folder)
    facts = read(read_model, content)
    assert (facts is not None) == path.name.startswith("sound-")
    assert facts is None or runs(content)


@bounded
@given(changed_models())
def test_models_with_changed_fields(folder: Path, content: bytes) -> None:
    work_with(content, folder)


@bounded
@given(st.sampled_from(SOUND).map(Path.read_bytes).flatmap(damaged))
def test_models_with_damaged_bytes(folder: Path, content: bytes) -> None:
    work_with(content, folder)
