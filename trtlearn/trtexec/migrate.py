"""From ``trtexec --int8 --calib=FILE`` to TensorRT 11: the same scales, as Q/DQ in the model.

TensorRT 11.0 took calibrators, dynamic ranges and BuilderFlag.INT8 away. What a calibration cache says survives the
move: each scale becomes the scale of a QuantizeLinear/DequantizeLinear pair, bit for bit, and the weights get the
per-channel scales (amax / 127) that implicit quantization gave them.
Source: docs.nvidia.com/deeplearning/tensorrt/latest/api/migration/ (10.x to 11.x); placement: trtlearn.int8.placement.
"""

from __future__ import annotations

import os
import shlex
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..calibration.edit import INTERNAL, CalibrationCache, read_cache
from ..errors import CommandError, ModelError
from ..files import write_atomic
from ..int8.placement import QdqReport
from ..int8.qdq import insert_qdq
from ..model.describe import describe, load_proto
from ..model.read import serialized
from ..record import Record
from .command import parse_trtexec, split_command
from .explain import explain, options_from
from .records import Explanation
from .sources import known_versions, option_kinds, resolve

__all__ = [
    "MigrationReport",
    "migrate",
    "modern_command",
]


# --- The trtexec command line of TensorRT 11 that stands for one of TensorRT 8 to 10.

RENAMED = {"--workspace": "--memPoolSize=workspace:{}", "--buildOnly": "--skipInference"}
"""Option of older versions -> what says the same in 11.x."""
BY_MODEL = ("--int8", "--best", "--fp16", "--bf16", "--fp8", "--int4", "--calib", "--calibProfile")
"""Options whose work the Q/DQ model does now, or nothing does: see ``modern_command``."""
NEEDLESS = (
    "--explicitBatch",
    "--explicitPrecision",
    "--minShapesCalib",
    "--optShapesCalib",
    "--maxShapesCalib",
)
ABOUT_MODEL = ("--onnx", "--model", "--uff", "--deploy", "--output", "--uffInput", "--uffNHWC")


def modern_command(command: str, onnx: str, trt: str = "11.1") -> tuple[str, tuple[str, ...]]:
    """The command for ``trt`` that builds ``onnx`` with what the old options say, and notes on what has no successor.

    Which options ``trt`` knows is read off its own source (tables/trtexec.json). CommandError for text that is no
    trtexec command.

    >>> modern_command("trtexec --onnx=m.onnx --int8 --calib=c --workspace=64 --noTF32", "q.onnx")[0]
    'trtexec --onnx=q.onnx --memPoolSize=workspace:64 --noTF32'
    """
    known = option_kinds(resolve(trt).tag)
    kept: list[str] = []
    notes: list[str] = []
    for argument in split_command(command):
        name, equals, value = argument.partition("=")
        if name in ABOUT_MODEL or name in BY_MODEL or name in NEEDLESS:
            continue
        if name in ("--inputIOFormats", "--outputIOFormats"):
            formats, types = _layouts(value)
            kept += [f"{name}={formats}"] if formats.replace("chw", "").strip(",") else []
            if set(types) - {"fp32", ""}:
                notes.append(
                    f"{name} no longer names types in {trt}: inputs and outputs have the model's own, {types[0]} "
                    "must be cast in the model"
                )
        elif name in RENAMED:
            kept.append(RENAMED[name].format(value))
        elif name in ("--layerPrecisions", "--precisionConstraints"):
            continue  # migrate leaves those layers without Q/DQ
        elif name in known:
            kept.append(name + equals + value)
        else:
            notes.append(f"{name} has no successor in {trt} and is left out")
    names = {argument.partition("=")[0] for argument in split_command(command)}
    if {"--fp16", "--bf16", "--best"} & names:
        notes.append(
            f"--fp16, --bf16 and --best have no successor in {trt}: types come from the model. Layers left in floating "
            "point run in FP32 (or TF32); cast them in the ONNX file for FP16"
        )
    line = shlex.join(["trtexec", f"--onnx={onnx}", *dict.fromkeys(kept)])
    refused = parse_trtexec(line, trt).error
    if refused:
        notes.append(f"trtexec {trt} refuses the new command: {refused}")
    return line, tuple(notes)


def _layouts(value: str) -> tuple[str, list[str]]:
    """``type:layout,type:layout`` without its types, and the types."""
    parts = [part.partition(":") for part in value.split(",") if part]
    return ",".join(layout for _, _, layout in parts), [kind for kind, _, _ in parts]


# --- From ``trtexec --int8 --calib=FILE`` to TensorRT 11: the same scales, as Q/DQ in the model.

QUANTIZES = ("cached-scales", "random-calibration", "placeholder-ranges")


@dataclass(frozen=True)
class MigrationReport(Record):
    """What a migration kept, and what it could not."""

    old_command: str
    old_version: str  # the newest trtexec that takes the old command
    old_mode: str
    new_command: str
    model: str
    written: str
    cache_header: str
    kept: dict[str, float]  # tensor -> scale, equal to the cache's to the last bit
    unused: tuple[
        str, ...
    ]  # in the cache, but no Q/DQ pair needs it: inside a fusion, or an output
    stale: tuple[str, ...]  # in the cache, but no tensor of the model
    internal: tuple[str, ...]  # TensorRT's own tensors inside an ONNX node: no ONNX file has them
    zero: tuple[str, ...]  # scale 0 in the cache: the calibrator saw nothing but zeros there
    qdq: QdqReport
    notes: tuple[str, ...] = ()
    cached: dict[str, float] = field(
        default_factory=dict
    )  # every line of the cache: tensor -> scale

    def summary(self) -> str:
        return (
            f"{self.written}: {len(self.kept)} of the cache's scales kept, {len(self.unused)} not needed, "
            f"{len(self.stale)} stale; {self.qdq.summary()}. Build it with: {self.new_command}"
        )

    def rows(self) -> list[dict[str, Any]]:
        fates = {
            "not needed: no pair stands there": self.unused,
            "stale: the model has no such tensor": self.stale,
            "TensorRT's own tensor inside an ONNX node": self.internal,
            "scale 0: no pair can have it": self.zero,
        }
        kept = [
            {"tensor": name, "scale": scale, "fate": "kept as Q/DQ"}
            for name, scale in self.kept.items()
        ]
        return kept + [
            {"tensor": name, "scale": self.cached.get(name), "fate": fate}
            for fate, names in fates.items()
            for name in names
        ]

    def __str__(self) -> str:
        return "\n".join([Record.__str__(self), *(f"note: {note}" for note in self.notes)])


def migrate(
    command: str,
    model: str | os.PathLike[str],
    cache: str | os.PathLike[str] | CalibrationCache,
    output: str | os.PathLike[str],
    int8_weights: bool = False,
) -> MigrationReport:
    """Write ``output``, an ONNX model with Q/DQ that keeps the scales of ``cache``, and say what was kept.

    ``command`` is the trtexec line of TensorRT 8 to 10 that is to be replaced; ``int8_weights`` stores the weights as
    INT8, a quarter of the size. Raises CommandError where that command does not quantize by ranges, CacheError or
    ModelError where a file is not what it should be. Nothing is written unless all of it succeeds.
    """
    proto = load_proto(model)
    scales = cache if isinstance(cache, CalibrationCache) else read_cache(cache)
    _not_an_input(output, model, cache)
    old = _explained(command, os.fspath(model))
    if old.mode == "rejected":
        raise CommandError(
            f"trtexec refuses the command: {old.kind}",
            "give the line that worked with TensorRT 8 or 10",
        )
    if old.mode not in QUANTIZES or not old.int8:
        raise CommandError(
            f"the command's mode is {old.mode}, so there are no ranges to migrate",
            "it needs no cache: TensorRT 11 builds the model as it is"
            if old.mode == "explicit-qdq"
            else "give the command with --int8 --calib=FILE",
        )
    positive = {entry.name: entry.scale for entry in scales.scales if entry.scale > 0}
    tensors = set(describe(proto).tensors)
    known = {name: scale for name, scale in positive.items() if name in tensors}
    if not known:
        raise ModelError(
            f"none of the cache's tensors is in the model ({len(scales.scales)} in the cache, "
            f"the first {next(iter(scales.names), 'none')!r}; the model's first {min(tensors)!r})",
            "give the model that this cache was made for",
        )
    changed, report = insert_qdq(
        proto, known, skip=_kept_out(old, proto), int8_weights=int8_weights
    )
    if not report.quantized_nodes:
        raise ModelError(
            f"no layer of the model can run in INT8 with these scales ({report.why_none(proto)})",
            "give a cache with the scale of each convolution's input",
        )
    used = {site.scale_of or site.tensor for site in report.sites if site.kind == "activation"}
    written = write_atomic(
        output, serialized(changed, "use --int8-weights, or a smaller variant of the model")
    )
    line, said = modern_command(command, os.fspath(output))
    other = [name for name in scales.names if name not in tensors]
    return MigrationReport(
        old_command=command,
        old_version=old.version,
        old_mode=old.mode,
        new_command=line,
        model=os.fspath(model),
        written=str(written),
        cache_header=scales.header,
        kept={name: scale for name, scale in known.items() if name in used},
        unused=tuple(name for name in known if name not in used),
        stale=tuple(name for name in other if not name.startswith(INTERNAL)),
        internal=tuple(name for name in other if name.startswith(INTERNAL)),
        zero=tuple(
            entry.name for entry in scales.scales if entry.name in tensors and entry.scale <= 0
        ),
        qdq=report,
        notes=(*_answers_change(old), *said, *_left_in_float(report)),
        cached=dict(scales),
    )


def _not_an_input(output: str | os.PathLike[str], *inputs: object) -> None:
    for path in inputs:
        if isinstance(path, (str, os.PathLike)) and Path(path).resolve() == Path(output).resolve():
            raise ModelError(
                f"the output {os.fspath(output)} is one of the inputs", "name another file with -o"
            )


def _explained(command: str, model: str) -> Explanation:
    """What the newest trtexec before 11.0 that takes the command does with it."""
    old = [version for version in known_versions() if not version.startswith("11")]
    answers = [
        explain(command, trt=version, model=model, cache_exists=True) for version in reversed(old)
    ]
    return next((answer for answer in answers if answer.mode != "rejected"), answers[0])


def _kept_out(old: Explanation, proto: Any) -> tuple[str, ...]:
    """The nodes that --layerPrecisions keeps out of INT8; "*" stands for all that are not named."""
    options = options_from(old)
    asked = options.layer_precisions if options.precision_constraints in ("obey", "prefer") else {}
    rest = asked.get("*", "int8")
    return tuple(
        node.name for node in proto.graph.node if node.name and asked.get(node.name, rest) != "int8"
    )


def _answers_change(old: Explanation) -> tuple[str, ...]:
    if old.mode != "placeholder-ranges":
        return ()
    return (
        "the old command named no cache, so trtexec invented ranges; the new model has the cache's, "
        "and so answers differently",
    )


def _left_in_float(report: QdqReport) -> tuple[str, ...]:
    return tuple(
        f"left in floating point: {name} ({why})" for name, why in report.float_nodes.items()
    )
