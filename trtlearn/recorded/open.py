"""One file of an engine: inspector JSON, a report of a build, a recording, or a plan with a GPU."""

from __future__ import annotations

import dataclasses
import os
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ..builds import Build
from ..engine.inspector import read_engine as read_inspector
from ..engine.precision import PrecisionReport, precision_report
from ..engine.records import BuildOptions, BuildReport, EngineInfo
from ..errors import EngineError, InspectorError, LiveUnavailable
from ..files import decode_text, plan_in, read_bytes, recognize
from ..record import parse_json
from .files import GZIP, load_build

if TYPE_CHECKING:
    from ..model.describe import OnnxModel

__all__ = ["EngineFile", "open_engine", "precision", "read_engine"]

Engine = Build | EngineInfo | str | bytes | os.PathLike[str]
"""A build, an engine's layers, a file as :func:`open_engine` takes it, or the inspector's JSON."""


@dataclass(frozen=True)
class EngineFile:
    """An engine, and the build or only its report that it came from where the file says so."""

    engine: EngineInfo
    build: Build | None = None
    report: BuildReport | None = None

    def precision(self, model: OnnxModel | str | os.PathLike[str] | None = None) -> PrecisionReport:
        """Requested against chosen type; ``model``: the ONNX file; a recording finds its own."""
        if self.build is not None:
            return self.build.precision(model)
        return precision_report(self.engine, build=self.report, model=model)


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


def _from_report(content: bytes, path: object) -> EngineFile | None:
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
    return EngineFile(read_inspector(facts["inspector"]), None, report)


def open_engine(path: str | os.PathLike[str]) -> EngineFile:
    """The engine that a file describes: inspector JSON, a report of ``trtlearn build``, a
    recording, or a plan.

    Raises InspectorError for a file that cannot be read, is empty or is broken JSON, RecordingError
    for a damaged recording, EngineError for a plan that cannot be loaded here.
    """
    content = plan_in(read_bytes(path, InspectorError))
    if content.startswith(GZIP):
        build = load_build(path)
        return EngineFile(build.engine, build, build.build)
    other = recognize(content)
    if other.kind == "plan" if other else "\0" in decode_text(content[:64], "replace"):
        return EngineFile(_from_plan(content, path))
    try:
        return _from_report(content, path) or EngineFile(read_inspector(content))
    except InspectorError as problem:
        raise InspectorError(f"{path}: {problem.problem}", problem.fix) from None


def read_engine(source: Engine) -> EngineInfo:
    """The layers of an engine: from a file as :func:`open_engine` takes it, from the inspector's
    JSON itself, or a build's.

    Raises as :func:`open_engine` does.

    Example::

        tl.read_engine("layers.json").layers[0].weight_dtype
    """
    if isinstance(source, Build):
        return source.engine
    if isinstance(source, EngineInfo):
        return source
    if not isinstance(source, (str, bytes, os.PathLike)):
        raise InspectorError(
            f"an engine is expected, found a {type(source).__name__}",
            "give a build, what tl.read_engine gave, or the path of the inspector's JSON",
        )
    if isinstance(source, bytes) or (isinstance(source, str) and source.lstrip()[:1] in "{["):
        return read_inspector(source)
    return open_engine(source).engine


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
    if isinstance(engine, (str, os.PathLike)) and not os.fspath(engine).lstrip().startswith("{"):
        file = open_engine(engine)
        if file.report is not None:
            return file.precision(model)
        engine = file.engine
    elif isinstance(engine, Build):
        return engine.precision(model)
    return precision_report(read_engine(engine), model, options=options)
