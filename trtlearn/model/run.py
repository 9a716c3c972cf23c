"""What a network computes inside: every activation tensor, batch by batch, by ONNX Runtime.

A calibrator's arithmetic needs the values that TensorRT saw. These are computed in FP32 without
any graph optimization, so each tensor of the ONNX file exists and nothing is fused.
"""

from __future__ import annotations

import io
import math
import os
import re
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from ..dtypes import named_dtype
from ..errors import ModelError, first_line
from ..record import plural
from .data import Array, check_feed
from .fold import named
from .graph import (
    all_nodes,
    inner_graphs,
    live_tensors,
    opset,
    read_names,
    without_graph,
    without_large_constants,
)
from .operators import QDQ
from .read import load_proto, serialized_in_pieces

if TYPE_CHECKING:
    import onnx
    import onnxruntime

__all__ = ["activation_parts", "activations", "cut"]

# A network cut into pieces that run one after the other: all activations of a batch at once take
# memory by the network's size, a piece after the other as much as one piece. The same kernels see
# the same values, so every activation is the same to the last bit.

PIECE_BYTES = 1 << 26
"""A piece ends where its activations reach this size."""
PAGES = ("SC_PAGE_SIZE", "SC_PHYS_PAGES")
MEMORY_BYTES = math.prod(map(os.sysconf, PAGES)) if hasattr(os, "sysconf") else 1 << 40
"""Of this machine; no tensor may take more."""
FOLLOWED_BYTES = 1 << 22
"""The values of larger tensors are not followed from node to node: onnx keeps each apart."""


def cut(
    model: onnx.ModelProto, wanted: Collection[str], shapes: Mapping[str, tuple[int, ...]]
) -> Iterator[tuple[onnx.ModelProto, frozenset[str]]]:
    """The pieces of ``model``, whose outputs are ``wanted``; nothing where it is small, or has
    what cannot be cut: tensors between pieces whose type is unknown.

    Each is a model, made when it is asked for, with those of its tensors that a later one needs.
    ``shapes``: those of the network's inputs.
    """
    known = _inferred(model, shapes)
    groups = _groups(model, wanted, known)
    if len(groups) < 2 or model.graph.sparse_initializer:
        return
    stored = {tensor.name: tensor for tensor in model.graph.initializer}
    inputs = {value.name: value for value in model.graph.input}
    network_inputs = [name for name in inputs if name not in stored]
    reads = [_reads(group) for group in groups]
    makers: dict[str, int] = {}
    for number, group in enumerate(groups):
        for node in group:
            makers.update(dict.fromkeys(node.output, number))
    crossing: list[tuple[str, ...]] = []
    for number, names in enumerate(reads):
        crossing.append(tuple(name for name in names if makers.get(name, number) < number))
    if any(name not in known for names in crossing for name in names):
        return
    for number, group in enumerate(groups):
        later = frozenset(name for names in crossing[number + 1 :] for name in names)
        piece = without_graph(model)
        graph = piece.graph
        graph.name = model.graph.name
        graph.node.extend(group)
        graph.initializer.extend(stored[name] for name in reads[number] if name in stored)
        own = network_inputs if not number else [n for n in reads[number] if n in network_inputs]
        graph.input.extend(inputs[name] for name in own)
        graph.input.extend(inputs[n] for n in reads[number] if n in stored and n in inputs)
        graph.input.extend(_of_any_size(known[name]) for name in crossing[number])
        for name in dict.fromkeys(name for node in group for name in node.output if name):
            if name in wanted or name in later:
                graph.output.add(name=name)
        if graph.output:  # else the end of the network, behind all that is wanted
            yield piece, later


def _groups(
    model: onnx.ModelProto, wanted: Collection[str], known: Mapping[str, onnx.ValueInfoProto]
) -> list[list[onnx.NodeProto]]:
    groups: list[list[onnx.NodeProto]] = [[]]
    size = 0
    for node in model.graph.node:
        if size >= PIECE_BYTES:
            groups.append([])
            size = 0
        groups[-1].append(node)
        size += sum(_bytes(known[name]) for name in node.output if name in known and name in wanted)
    return groups


def _reads(nodes: list[onnx.NodeProto]) -> list[str]:
    """The names that the nodes read, in order; inside an If or a Loop also names of its own."""
    names: dict[str, None] = {}
    for node in all_nodes(nodes):
        names |= dict.fromkeys(name for name in node.input if name)
        for attribute in node.attribute:
            for graph in inner_graphs(attribute):
                names |= dict.fromkeys(value.name for value in graph.output)
    return list(names)


def _inferred(
    model: onnx.ModelProto, shapes: Mapping[str, tuple[int, ...]]
) -> dict[str, onnx.ValueInfoProto]:
    """Tensor -> its type and shape, as onnx infers them without looking at weights.

    ModelError for a tensor that does not fit into memory.
    """
    from onnx import helper

    bare = without_large_constants(model)
    stored = {tensor.name for tensor in model.graph.initializer}
    for value in bare.graph.input:
        if value.name in shapes and value.name not in stored:
            kind = value.type.tensor_type.elem_type
            value.CopyFrom(helper.make_tensor_value_info(value.name, kind, shapes[value.name]))
    made = [node.output[0] for node in model.graph.node if node.op_type == "ConstantOfShape"]
    known = _infer(bare, follow=not made)
    if made and all(_bytes(known[name]) < FOLLOWED_BYTES for name in made if name in known):
        known = _infer(bare, follow=True)
    for name, value in known.items():
        if (size := _bytes(value)) > MEMORY_BYTES:  # to try it may end the process without a word
            raise ModelError(
                f"tensor {name!r:.200} takes {size:,} bytes for one batch, "
                f"this machine has {MEMORY_BYTES:,} bytes of memory",
                "take a smaller batch, or smaller inputs",
            )
    return known


def _infer(model: onnx.ModelProto, follow: bool) -> dict[str, onnx.ValueInfoProto]:
    from onnx import shape_inference

    try:
        graph = shape_inference.infer_shapes(model, data_prop=follow).graph
    except Exception:  # errors of several kinds, by version: then nothing is known
        return {}
    values = {value.name: value for value in (*graph.value_info, *graph.output)}
    return {name: one for name, one in values.items() if one.type.tensor_type.elem_type}


def _bytes(value: onnx.ValueInfoProto) -> int:
    """How many bytes a tensor takes, as FP32; 0 where an axis is unknown."""
    return 4 * math.prod(int(axis.dim_value) for axis in value.type.tensor_type.shape.dim)


def _of_any_size(value: onnx.ValueInfoProto) -> onnx.ValueInfoProto:
    """The tensor as an input of a piece: its type and how many axes it has."""
    from onnx import helper

    tensor = value.type.tensor_type
    axes = [None] * len(tensor.shape.dim) if tensor.HasField("shape") else None
    return helper.make_tensor_value_info(value.name, tensor.elem_type, axes)


# Running

FLOAT = "tensor(float)"
STEP_FAILED = (
    "check the shapes of the inputs; where one holds its rows on another axis than the first, "
    "give all rows as one batch"
)
FIRST_OPSET = 7  # ONNX Runtime runs models from this on


def _session(proto: onnx.ModelProto, is_piece: bool = False) -> onnxruntime.InferenceSession:
    """The model ready to run; its weights are taken out of ``proto``."""
    try:
        import onnxruntime
    except ImportError:
        raise ModelError(
            "computing activations needs onnxruntime", "pip install 'trtlearn[lab]'"
        ) from None
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level = 4
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")  # cores for others
    options.enable_cpu_mem_arena = not is_piece  # of many sessions only one works at a time
    version, content = opset(proto), io.BytesIO()
    content.writelines(serialized_in_pieces(proto))
    try:
        return onnxruntime.InferenceSession(
            content.getvalue(), options, providers=["CPUExecutionProvider"]
        )
    except Exception as problem:  # onnxruntime's exceptions have no common base but Exception
        said = _line(problem)
        old = version < FIRST_OPSET
        fix = "export it at opset 13 or later" if old else "check it with onnx.checker"
        if "IR version" in said or "under development" in said:
            fix = "the model is newer than this ONNX Runtime: pip install -U onnxruntime, "
            fix += "or export it for an older one"
        plugins = sorted({node.op_type for node in proto.graph.node if "_TRT" in node.op_type})
        if plugins:
            fix = f"only TensorRT runs {', '.join(plugins)}: export the network without it"
        raise ModelError(
            f"ONNX Runtime cannot load this model (opset {version}): {said}", fix
        ) from None


def _line(problem: Exception) -> str:
    """What ONNX Runtime says, without its source lines; in an If or Loop the inner node's words."""
    outer, _, text = first_line(problem).rpartition("Status Message: ")
    text = re.sub(r"\[ONNXRuntimeError\] : \d+ : [A-Z_]+ : ", "", text)
    source = r"^.{0,300}?\.(?:cc|h|cpp):\d+ [^(]*onnxruntime::[^(]*\(.*?\)(?: const)? (?=\S)"
    words = re.sub(source, "", text)
    nodes = re.findall(r"running (\w+) node\. Name:('[^']*')", outer)
    node = f"{' '.join(nodes[-1])}: " if nodes else ""
    return (node + (words or text))[:200]


def activations(
    model: str | os.PathLike[str] | bytes | onnx.ModelProto,
    batches: Iterable[Array | Mapping[str, Array]],
    names: Iterable[str] | None = None,
    copy: bool = True,
) -> Iterator[dict[str, Array]]:
    """For each batch, ``{tensor: array}`` of the network's inputs and of every activation.

    ``batches`` yields dicts of arrays by input name, or plain arrays where the network has one
    input. ``names`` picks tensors (inputs too) of any type, but no sequences; None means all of
    float32, which is what TensorRT calibrates. Only one batch is held at a time. DataError names
    the batch and the input that does not fit; ModelError a name that the model lacks, or a model
    that ONNX Runtime cannot run.

    >>> from trtlearn.model.course_data import load_images, model_path
    >>> images, _ = load_images("calibration")
    >>> batch = next(activations(model_path("resnet"), [images[:8]]))
    >>> list(batch)[:3], batch["stem"].dtype.name, batch["logits"].shape
    (['image', 'stem', 'stem_relu'], 'float32', (8, 10))
    """
    proto, live = _prepared(model, copy)
    wanted = None if names is None else tuple(names)
    if unknown := [name for name in wanted or () if name not in live]:
        problem = f"the model computes no tensor {unknown[0]!r} from its inputs"
        some = ", ".join(live[:8])
        raise ModelError(problem, f"choose among its {plural(len(live), 'tensor')}: {some} …")
    return _joined(_run(proto, live if wanted is None else wanted, batches, wanted or ()), wanted)


def activation_parts(
    model: str | os.PathLike[str] | bytes | onnx.ModelProto,
    batches: Iterable[Array | Mapping[str, Array]],
    also: Iterable[str] = (),
) -> Iterator[Iterator[dict[str, Array]]]:
    """The same, where a batch's activations need not be in memory together.

    For each batch its tensors in several dicts, in the order of computation; a dict's arrays go
    when the next dict is asked for. ``also`` names tensors to give whatever their type, but no
    sequences.

    >>> from trtlearn.model.course_data import load_images, model_path
    >>> images, _ = load_images("calibration")
    >>> for parts in activation_parts(model_path("resnet"), [images[:8]]):
    ...     print(sum(len(part) for part in parts))
    23
    """
    return _run(*_prepared(model), batches, tuple(also))


def _joined(
    batches: Iterable[Iterable[dict[str, Array]]], wanted: tuple[str, ...] | None
) -> Iterator[dict[str, Array]]:
    """Each batch's tensors in one dict: all, or those ``wanted`` in their order; no sequences."""
    for parts in batches:
        tensors: dict[str, Array] = {}
        for part in parts:
            tensors |= part
        names = tensors if wanted is None else [name for name in wanted if name in tensors]
        yield {name: tensors[name] for name in names}


def _prepared(
    model: str | os.PathLike[str] | bytes | onnx.ModelProto, copy: bool = True
) -> tuple[onnx.ModelProto, tuple[str, ...]]:
    """A copy of the model without outputs, and the tensors that depend on its inputs."""
    import onnx

    if isinstance(model, onnx.ModelProto):
        proto = named(model, copy)
    else:
        proto = named(load_proto(model), copy=False)
    if vague := [
        value.name for value in proto.graph.input if not value.type.tensor_type.HasField("shape")
    ]:
        problem = f"input {vague[0]!r} has no known shape"
        raise ModelError(problem, "export it with a shape [batch, ...]")
    live = live_tensors(proto)
    _round_weights_once(proto)
    del proto.graph.output[:]
    return proto, live


def _round_weights_once(proto: onnx.ModelProto) -> None:
    """Put what Q/DQ nodes make of weights in place of these nodes: each run would do it again.

    ONNX Runtime computes it, so that the values are the same to the last bit.
    """
    import onnx
    from onnx import numpy_helper

    graph = proto.graph
    fixed = {tensor.name for tensor in graph.initializer}
    made: set[str] = set()
    rounding: list[onnx.NodeProto] = []
    left: list[onnx.NodeProto] = []
    for node in graph.node:
        if node.op_type in QDQ and node.input and all(n in fixed or n in made for n in node.input):
            rounding.append(node)
            made.update(node.output)
        else:
            left.append(node)
    if not rounding:
        return
    alone = onnx.ModelProto(ir_version=max(proto.ir_version, 4))
    alone.opset_import.extend(proto.opset_import)
    alone.graph.name = "weights"
    alone.graph.node.extend(rounding)
    read = {name for node in rounding for name in node.input}
    alone.graph.initializer.extend(tensor for tensor in graph.initializer if tensor.name in read)
    del graph.node[:]
    graph.node.extend(left)
    still_read = set(read_names(proto))
    names = sorted(made & still_read)
    for name in names:
        alone.graph.output.add(name=name)
    stored = [tensor for tensor in graph.initializer if tensor.name in still_read]
    stored += map(numpy_helper.from_array, _session(alone).run(names, {}) if names else (), names)
    del graph.initializer[:]
    graph.initializer.extend(stored)


@dataclass(frozen=True)
class _Step:
    """A session for one piece of the network, or for all of it."""

    session: Any
    inputs: tuple[str, ...]
    floats: tuple[str, ...]  # its activations in FP32
    others: tuple[str, ...]  # what else is to be given
    needed_later: frozenset[str]

    def run(self, values: dict[str, Any]) -> dict[str, Array]:
        """The step's activations; ``values``, OrtValues by name, gets what later steps need."""
        names = list(dict.fromkeys((*self.floats, *self.others, *self.needed_later)))
        if not names:
            return {}
        results = self.session.run_with_ort_values(names, {n: values[n] for n in self.inputs})
        made = dict(zip(names, results, strict=True))
        values.update((name, made[name]) for name in self.needed_later)
        arrays = {name: _view(made[name]) for name in self.floats}
        others = {name: made[name] for name in self.others if made[name].is_tensor()}
        return arrays | {name: value.numpy() for name, value in others.items()}


class _View:
    """An OrtValue as numpy sees it, without a copy; the array keeps it alive."""

    def __init__(self, value: Any) -> None:
        self.value = value
        self.__array_interface__ = {
            "version": 3,
            "typestr": "<f4",
            "shape": tuple(value.shape()),
            "data": (value.data_ptr(), False),
        }


def _view(value: Any) -> Array:
    if 0 in value.shape():
        return np.zeros(value.shape(), np.float32)
    return np.asarray(_View(value))


def _steps(
    proto: onnx.ModelProto,
    names: tuple[str, ...],
    also: tuple[str, ...],
    shapes: Mapping[str, tuple[int, ...]],
) -> tuple[list[_Step], dict[str, Any]]:
    """The sessions of the network's pieces, or the one of all of it; and the network's inputs."""
    given = {value.name for value in proto.graph.input}
    wanted = dict.fromkeys(name for name in names if name not in given)
    inputs: dict[str, Any] = {}
    steps: list[_Step] = []

    def step(model: onnx.ModelProto, needed_later: frozenset[str], is_piece: bool) -> None:
        session = _session(model, is_piece)
        types = {value.name: value.type for value in session.get_outputs()}
        floats = tuple(name for name, kind in types.items() if kind == FLOAT and name in wanted)
        others = tuple(name for name in types if name in also and name not in floats)
        read = tuple(value.name for value in session.get_inputs())
        for one in session.get_inputs():
            if one.name in given:
                dtype = named_dtype(one.type.removeprefix("tensor(").removesuffix(")"))
                inputs[one.name] = (one.shape, dtype and dtype.numpy)
        steps.append(_Step(session, read, floats, others, needed_later & types.keys()))

    for piece, needed_later in cut(proto, wanted, shapes):
        step(piece, needed_later, True)
    if not steps:  # a session has at least one output
        for name in wanted or [name for name in proto.graph.node[-1].output if name][:1]:
            proto.graph.output.add(name=name)
        step(proto, frozenset(), False)
    return steps, inputs


def _run(
    proto: onnx.ModelProto,
    names: tuple[str, ...],
    batches: Iterable[Array | Mapping[str, Array]],
    also: tuple[str, ...],
) -> Iterator[Iterator[dict[str, Array]]]:
    """For each batch those of the tensors ``names`` that are float32, and those in ``also``."""
    steps: list[_Step] = []
    inputs: dict[str, Any] = {}
    for index, batch in enumerate(batches):
        if not steps:
            steps, inputs = _steps(proto, names, also, _shapes(batch, proto))
            proto.Clear()  # the sessions have it all
        feed = check_feed(batch, inputs, f"batch {index}")
        yield _parts(steps, feed, names, also, index)


def _shapes(
    batch: Array | Mapping[str, Array], proto: onnx.ModelProto
) -> dict[str, tuple[int, ...]]:
    """The shapes of a batch that is not checked yet, by input name."""
    by_name = batch if isinstance(batch, Mapping) else {proto.graph.input[0].name: batch}
    return {name: tuple(np.shape(array)) for name, array in by_name.items()}


def _parts(
    steps: list[_Step],
    feed: dict[str, Array],
    names: tuple[str, ...],
    also: tuple[str, ...],
    index: int,
) -> Iterator[dict[str, Array]]:
    """One batch's tensors, step by step, the network's inputs first."""
    from onnxruntime import OrtValue

    floats = {name for name, array in feed.items() if array.dtype == np.float32}
    shown = [name for name in names if name in feed and (name in floats or name in also)]
    yield {name: feed[name] for name in shown}
    values = {name: OrtValue.ortvalue_from_numpy(array) for name, array in feed.items()}
    for number, step in enumerate(steps):
        try:
            part = step.run(values)
        except Exception as problem:
            raise ModelError(
                f"ONNX Runtime failed on batch {index}: {_line(problem)}", STEP_FAILED
            ) from None
        yield part
        del part
        left = {name for later in steps[number + 1 :] for name in later.inputs}
        for name in set(values) - left:
            del values[name]
