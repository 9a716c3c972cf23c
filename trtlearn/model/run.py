"""What a network computes inside: every activation tensor, batch by batch, by ONNX Runtime.

A calibrator's arithmetic needs the values that TensorRT saw. These are computed in FP32 without
any graph optimization, so each tensor of the ONNX file exists and nothing is fused.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

from numpy.typing import NDArray

from ..dtypes import named_dtype
from ..errors import DataError, ModelError, first_line
from .arrays import check_array
from .fold import named
from .graph import live_tensors, opset
from .read import load_proto, serialized

if TYPE_CHECKING:
    import onnx
    import onnxruntime

__all__ = ["activations"]

Array = NDArray[Any]
FLOAT = "tensor(float)"
FIRST_OPSET = 7  # ONNX Runtime runs models from this on


def _session(proto: onnx.ModelProto) -> onnxruntime.InferenceSession:
    try:
        import onnxruntime
    except ImportError:
        raise ModelError(
            "computing activations needs onnxruntime", "pip install 'trtlearn[lab]'"
        ) from None
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level = 4
    content = serialized(proto)
    try:
        return onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    except Exception as problem:  # onnxruntime's exceptions have no common base but Exception
        version, said = opset(proto), _line(problem)
        fix = (
            "check it with onnx.checker"
            if version >= FIRST_OPSET
            else "export it at opset 13 or later"
        )
        if "IR version" in said or "under development" in said:
            fix = (
                "the model is newer than this ONNX Runtime: pip install -U onnxruntime, "
                "or export it for an older one"
            )
        raise ModelError(
            f"ONNX Runtime cannot load this model (opset {version}): {said}", fix
        ) from None


def _line(problem: Exception) -> str:
    r"""The first line of what ONNX Runtime says, without its own source lines and C++ signatures.

    >>> start = "[ONNXRuntimeError] : 1 : FAIL : /core/model.cc:256 onnxruntime::Model::Model(A&) "
    >>> _line(ValueError(start + "Too new"))
    'Too new'
    """
    text = re.sub(r"^\[ONNXRuntimeError\] : \d+ : [A-Z_]+ : ", "", first_line(problem))
    return (re.sub(r"^.{0,300}?\.(?:cc|h|cpp):\d+ .*onnxruntime::.*\) (?=\S)", "", text) or text)[
        :200
    ]


def _numpy_type(ort_type: str) -> str | None:
    """numpy's name of ONNX Runtime's "tensor(float)"; None where numpy has no such type."""
    dtype = named_dtype(ort_type.removeprefix("tensor(").removesuffix(")"))
    return dtype.numpy if dtype else None


def _check(feed: Mapping[str, Array], inputs: Mapping[str, Any], where: str) -> dict[str, Array]:
    """The feed as ONNX Runtime takes it; DataError names the input, what it is and should be."""
    if wrong := sorted(set(feed) ^ set(inputs)):
        raise DataError(
            f"{where} has inputs {sorted(feed)}, expected {sorted(inputs)}",
            f"rename or add {wrong[0]!r}",
        )
    checked = {}
    for name, value in feed.items():
        wanted = inputs[name]
        dtype = _numpy_type(wanted.type)
        checked[name] = check_array(value, f"{where}: {name}", dtype, wanted.shape)
    return checked


def activations(
    model: str | os.PathLike[str] | bytes | onnx.ModelProto,
    batches: Iterable[Array | Mapping[str, Array]],
    names: Iterable[str] | None = None,
) -> Iterator[dict[str, Array]]:
    """For each batch, ``{tensor: array}`` of the network's inputs and of every activation.

    ``batches`` yields dicts of arrays by input name, or plain arrays where the network has one
    input. ``names`` picks tensors (inputs too); None means all of float32, which is what TensorRT
    calibrates. Only one batch is held at a time. DataError names the batch and the input that
    does not fit; ModelError a name that the model lacks, or a model that ONNX Runtime cannot run.

    >>> from trtlearn.model.course_data import load_images, model_path
    >>> images, _ = load_images("calibration")
    >>> batch = next(activations(model_path("resnet"), [images[:8]]))
    >>> list(batch)[:3], batch["stem"].dtype.name, batch["logits"].shape
    (['image', 'stem', 'stem_relu'], 'float32', (8, 10))
    """
    import onnx

    proto = named(model if isinstance(model, onnx.ModelProto) else load_proto(model))  # a copy
    live = live_tensors(proto)
    wanted = live if names is None else tuple(names)
    if unknown := [name for name in wanted if name not in live]:
        raise ModelError(
            f"the model computes no tensor {unknown[0]!r} from its inputs",
            "choose names from model.tensors",
        )
    if vague := [
        value.name for value in proto.graph.input if not value.type.tensor_type.HasField("shape")
    ]:
        raise ModelError(
            f"input {vague[0]!r} has no known shape", "export it with a shape [batch, ...]"
        )
    inputs = {value.name for value in proto.graph.input}
    del proto.graph.output[:]
    proto.graph.output.extend(onnx.ValueInfoProto(name=name) for name in live if name not in inputs)
    return _run(proto, batches, wanted, keep_all=names is not None)


def _run(
    proto: onnx.ModelProto,
    batches: Iterable[Array | Mapping[str, Array]],
    wanted: tuple[str, ...],
    keep_all: bool,
) -> Iterator[dict[str, Array]]:
    session = _session(proto)
    inputs = {value.name: value for value in session.get_inputs()}
    types = {value.name: value.type for value in (*session.get_inputs(), *session.get_outputs())}
    kept = [name for name in wanted if keep_all or types.get(name) == FLOAT]
    asked = [name for name in kept if name not in inputs]
    for index, batch in enumerate(batches):
        if not isinstance(batch, Mapping) and len(inputs) != 1:
            raise DataError(
                f"batch {index} is one array, but the model has inputs {sorted(inputs)}",
                "pass a dict",
            )
        named = batch if isinstance(batch, Mapping) else {next(iter(inputs)): batch}
        feed = _check(named, inputs, f"batch {index}")
        try:
            values = dict(zip(asked, session.run(asked, feed), strict=True)) if asked else {}
        except Exception as problem:
            raise ModelError(
                f"ONNX Runtime failed on batch {index}: {_line(problem)}", "check the input's shape"
            ) from None
        yield {name: feed[name] if name in feed else values[name] for name in kept}
