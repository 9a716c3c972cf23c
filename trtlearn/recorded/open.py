"""One file of an engine: inspector JSON, a report of a build, a recording, or a plan with a GPU."""

from __future__ import annotations

import dataclasses
import os
from typing import TYPE_CHECKING

from ..builds import Build
from ..engine.inspector import read_engine as read_inspector
from ..engine.layers import EngineInfo
from ..engine.precision import PrecisionReport, precision_report
from ..engine.records import BuildOptions, BuildReport
from ..errors import EngineError, InspectorError, LiveUnavailable
from ..files import decode_text, plan_in, read_bytes, recognize
from ..record import parse_json
from .files import GZIP, load_build

if TYPE_CHECKING:
    from ..model.graph import OnnxModel

__all__ = ["open_engine", "precision", "read_engine"]

Engine = Build | EngineInfo | str | bytes | os.PathLike[str]
"""A build, an engine's layers, a file as :func:`open_engine` takes it, or the inspector's JSON."""


def _from_plan(content: bytes, path: object) -> EngineInfo:
    from ..live.runner import Runner

    try:
        with Runner(content) as runner:
            return read_inspector(runner.inspect_text())
    except LiveUnavailable as missing:
        raise EngineError(
            f"{path} is no inspector JSON; as an engine plan it can only be read by the TensorRT "
            f"that built it, on a GPU of that kind ({missing.problem})",
            "trtexec --loadEngine=PLAN --exportLayerInfo=layers.json where it was built, then give "
            "layers.json",
        ) from None


def _from_report(content: bytes, path: object) -> tuple[EngineInfo, BuildReport] | None:
    """What ``trtlearn build --report`` wrote; None for any other JSON."""
    try:
        facts = parse_json(decode_text(content))
    except ValueError:
        return None
    names = {field.name for field in dataclasses.fields(BuildReport)}
    if not isinstance(facts, dict) or not facts.keys() >= names | {"inspector"}:
        return None
    report = BuildReport.from_dict({name: facts[name] for name in names}, str(path))
    if not isinstance(facts["inspector"], str):
        problem = f"{path} holds no inspector text: the plan was for another GPU"
        raise InspectorError(problem, "inspect it there")
    return read_inspector(facts["inspector"]), report


def open_engine(path: str | os.PathLike[str]) -> tuple[Build | EngineInfo, BuildReport | None]:
    """What a file holds: a recorded build; or an engine, from inspector JSON, a plan, or a report
    of ``trtlearn build``, which is given too.

    Raises InspectorError for a file that cannot be read, is empty or is broken JSON, RecordingError
    for a damaged recording, EngineError for a plan that cannot be loaded here.
    """
    content = plan_in(read_bytes(path, InspectorError))
    if content.startswith(GZIP):
        return load_build(path), None
    other = recognize(content)
    if other.kind == "plan" if other else "\0" in decode_text(content[:64], "replace"):
        return _from_plan(content, path), None
    try:
        return _from_report(content, path) or (read_inspector(content), None)
    except InspectorError as problem:
        raise InspectorError(f"{path}: {problem.problem}", problem.fix) from None


def _opened(source: Engine) -> tuple[Build | EngineInfo, BuildReport | None]:
    """``source`` itself where it is a build or an engine, else as :func:`open_engine` has it."""
    if isinstance(source, (Build, EngineInfo)):
        return source, None
    if isinstance(source, bytes) or (isinstance(source, str) and source.lstrip()[:1] in "{["):
        return read_inspector(source), None
    if not isinstance(source, (str, os.PathLike)):
        raise InspectorError(
            f"an engine is expected, found a {type(source).__name__}",
            "give a build, what tl.read_engine gave, or the path of the inspector's JSON",
        )
    return open_engine(source)


def read_engine(source: Engine) -> EngineInfo:
    """The layers of an engine: from a file as :func:`open_engine` takes it, from the inspector's
    JSON itself, or a build's.

    Raises as :func:`open_engine` does.

    Example::

        tl.read_engine("layers.json").layers[0].weight_dtype
    """
    one, _ = _opened(source)
    return one.engine if isinstance(one, Build) else one


def precision(
    engine: Engine,
    model: OnnxModel | str | os.PathLike[str] | None = None,
    options: BuildOptions | None = None,
) -> PrecisionReport:
    """Requested against chosen type for every ONNX node and every engine layer, with the reason.

    Args:
        engine: a build, which knows its options, log and model; an engine's layers; or a file as
            :func:`open_engine` takes it.
        model: the ONNX model or its path: nodes that no engine layer names are then listed too.
        options: how an engine alone was built; without them what was requested is unknown.

    Raises as :func:`open_engine` does; ModelError for a model that cannot be read.

    Example::

        tl.precision("layers.json", "my.onnx").where(computed_in="fp32")
    """
    one, report = _opened(engine)
    if isinstance(one, Build):
        return one.precision(model)
    return precision_report(one, model, options=options, build=report)
