"""From ``trtexec --int8 --calib=FILE`` to TensorRT 11: the same scales, as Q/DQ in the model.

TensorRT 11.0 took calibrators, dynamic ranges and BuilderFlag.INT8 away. What a calibration cache
says survives the move: each scale becomes the scale of a QuantizeLinear/DequantizeLinear pair, bit
for bit, and the weights get the per-channel scales (amax / 127) that implicit quantization gave
them. Source: docs.nvidia.com/deeplearning/tensorrt/latest/api/migration/ (10.x to 11.x); placement:
trtlearn.calibration.qdq.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from itertools import chain
from typing import Any

from ..calibration.cache import CalibrationCache, read_cache
from ..calibration.names import stale_and_internal
from ..calibration.qdq import QdqReport, insert_qdq
from ..errors import CommandError, ModelError
from ..files import check_writable, is_same_file, load_table, shell_command, write_atomic
from ..model.graph import OnnxModel, Quantization, describe
from ..model.read import load_proto, serialized_in_pieces
from ..record import Record
from .command import parse_trtexec
from .explanation import Explanation, explain
from .snippets import read_command_line
from .sources import choices, known_versions, layer_matches, option_kinds, resolve

__all__ = ["MigrationReport", "migrate", "modern_command"]


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
    unused: tuple[str, ...]  # in the cache, but no Q/DQ pair needs it: inside a fusion, an output
    stale: tuple[str, ...]  # in the cache, but no tensor of the model
    internal: tuple[str, ...]  # TensorRT's own tensors inside an ONNX node: no ONNX file has them
    zero: tuple[str, ...]  # scale 0 in the cache: the calibrator saw nothing but zeros there
    qdq: QdqReport
    notes: tuple[str, ...] = ()
    cached: dict[str, float] = field(default_factory=dict)  # every line: tensor -> scale

    def summary(self) -> str:
        return (
            f"{self.written}: {len(self.kept)} of the cache's scales kept, {len(self.unused)} not "
            f"needed, {len(self.stale)} stale; {self.qdq.summary()}. Build it with: "
            f"{self.new_command}"
        )

    def rows(self) -> list[dict[str, Any]]:
        fates = {
            "kept as Q/DQ": tuple(self.kept),
            "not needed: no pair stands there": self.unused,
            "stale: the model has no such tensor": self.stale,
            "TensorRT's own tensor inside an ONNX node": self.internal,
            "scale 0: no pair can have it": self.zero,
        }
        scales = self.cached | self.kept
        rows = []
        for fate, names in fates.items():
            rows += [{"tensor": name, "scale": scales.get(name), "fate": fate} for name in names]
        return rows

    def __str__(self) -> str:
        return "\n".join([Record.__str__(self), *(f"note: {note}" for note in self.notes)])


def migrate(
    command: str,
    model: str | os.PathLike[str] | None,
    cache: str | os.PathLike[str] | CalibrationCache | None,
    output: str | os.PathLike[str],
    int8_weights: bool = False,
) -> MigrationReport:
    """Write ``output``: the model with Q/DQ that keeps the scales of ``cache``; say what was kept.

    ``command`` is the trtexec line of TensorRT 8 to 10 that is to be replaced; without ``model`` or
    ``cache`` the files are those that its --onnx and --calib name. ``int8_weights`` stores the
    weights as INT8, a quarter of the size. Raises CommandError where that command does not quantize
    by ranges, CacheError or ModelError where a file is not what it should be. Nothing is written
    unless all of it succeeds.

    >>> import tempfile
    >>> from trtlearn.calibration.cache import new_cache
    >>> from trtlearn.model.course_data import model_path
    >>> cache = new_cache({"image": 0.05, "b1_relu1": 0.02})
    >>> command = "trtexec --onnx=resnet.onnx --int8 --calib=c.cache --noTF32"
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     report = migrate(command, model_path("resnet"), cache, f"{folder}/resnet.qdq.onnx")
    >>> report.new_command.replace(folder, "")
    'trtexec --onnx=/resnet.qdq.onnx --noTF32'
    >>> report.kept == dict(cache)
    True
    """
    model = _file_of(command, "--onnx") if model is None else model
    check_writable(output)
    proto = load_proto(model)
    facts = describe(proto)
    if facts.refused:
        raise ModelError(*Quantization(facts.has_qdq, facts.refused).why_not_again())
    old = _old_meaning(command, facts)
    cache = _file_of(command, "--calib") if cache is None else cache
    scales = cache if isinstance(cache, CalibrationCache) else read_cache(cache)
    files = [path for path in (model, cache) if isinstance(path, (str, os.PathLike))]
    if any(is_same_file(path, output) for path in files):
        problem = f"the output {os.fspath(output)} is one of the inputs"
        raise ModelError(problem, "name another file with -o")
    tensors = set(facts.tensors)
    usable = {name: scale for name, scale in scales.items() if scale > 0 and name in tensors}
    if not usable:
        raise ModelError(
            f"none of the cache's tensors is in the model ({len(scales)} in the cache, "
            f"the first {next(iter(scales), 'none')!r}; the model's first {min(tensors)!r})",
            "give the model that this cache was made for",
        )
    skipped = _nodes_without_int8(old, proto)
    quantized, report = insert_qdq(
        proto, usable, skip=skipped, int8_weights=int8_weights, copy=False
    )
    if not report.quantized_nodes:
        raise ModelError(
            f"no layer of the model can run in INT8 with these scales ({report.why_none(proto)})",
            "give a cache with the scale of each convolution's input",
        )
    used = {site.scale_of or site.tensor for site in report.sites if site.kind == "activation"}
    fix = "use --int8-weights, or a smaller variant of the model"
    written = write_atomic(output, serialized_in_pieces(quantized, fix))
    new_command, notes = modern_command(command, os.fspath(output))
    stale, internal = stale_and_internal(scales, facts)
    lost = [f"{name} ({why})" for name, why in scales.unusable.items()]
    floats = report.float_nodes.items()
    return MigrationReport(
        old_command=command,
        old_version=old.version,
        old_mode=old.mode,
        new_command=new_command,
        model=os.fspath(model),
        written=str(written),
        cache_header=scales.header,
        kept={name: scale for name, scale in usable.items() if name in used},
        unused=tuple(name for name in usable if name not in used),
        stale=stale,
        internal=internal,
        zero=tuple(name for name, scale in scales.items() if name in tensors and scale <= 0),
        qdq=report,
        notes=(
            *(INVENTED if old.mode == "placeholder-ranges" else ()),
            *notes,
            *([f"lines of the cache of no use, left out: {', '.join(lost)}"] if lost else []),
            *(f"left in floating point: {name} ({why})" for name, why in floats),
        ),
        cached=dict(scales),
    )


INVENTED = (
    "the old command named no cache, so trtexec invented ranges; the new model has the cache's, "
    "and so answers differently",
)


NO_DLA = (
    "{} is left out: TensorRT 11.0 to 11.3 has no DLA (NVIDIA's documentation of 11.3.0, Working "
    "with DLA); 11.4.1 has it again on AGX Orin with JetPack 7.2.2"
)


def _file_of(command: str, option: str) -> str:
    """The file that the command names with ``option``; CommandError where it names none."""
    if name := parse_trtexec(command).values.get(option):
        return name
    problem = f"the command names no file with {option}"
    if option == "--onnx":
        raise CommandError(problem, "give the model yourself")
    raise CommandError(
        f"{problem}, so trtexec invented the ranges",
        "make a cache from your data with `trtlearn calibrate`, and give it with --cache",
    )


def _old_meaning(command: str, model: OnnxModel) -> Explanation:
    """What the newest trtexec before 11.0 that takes it does; CommandError without ranges."""
    versions = [version for version in known_versions() if not version.startswith("11")]
    answers = (explain(command, one, model, cache_exists=True) for one in reversed(versions))
    newest = next(answers)
    taken = (one for one in chain([newest], answers) if one.mode != "rejected")
    old = next(taken, newest)
    if old.mode == "rejected":
        problem = f"trtexec refuses the command: {old.kind}"
        raise CommandError(problem, "give the line that worked with TensorRT 8 or 10")
    if not old.int8 or old.mode in ("not-int8", "explicit-qdq"):
        raise CommandError(
            f"the command's mode is {old.mode}, so there are no ranges to migrate",
            "it needs no cache: TensorRT 11 builds the model as it is"
            if old.mode == "explicit-qdq"
            else "give the command with --int8 --calib=FILE",
        )
    return old


def _nodes_without_int8(old: Explanation, proto: Any) -> tuple[str, ...]:
    """The nodes that --layerPrecisions keeps out of INT8, an exact name before a ``*``."""
    if old.options.get("--precisionConstraints") not in ("obey", "prefer"):
        return ()
    entries = old.options.get("--layerPrecisions", "").replace("'", "").split(",")
    named = (entry.rpartition(":") for entry in entries if ":" in entry)
    types = {layer: dtype for layer, _, dtype in named}

    def dtype(name: str) -> str:
        patterns = (pattern for pattern in types if layer_matches(pattern, name, old.tag))
        # ``*`` alone comes last; trtexec's own order among several is that of a hash table.
        return types.get(name) or types.get(max(patterns, key=len, default=""), "int8")

    names = [node.name for node in proto.graph.node if node.name]
    return tuple(name for name in names if dtype(name) != "int8")


def _known_switches(option: str, value: str, tag: str) -> tuple[str, str]:
    """``value`` of --tacticSources or --preview without the words that ``tag`` does not know."""
    known = choices(tag, option) if option in load_table("parser")["switches"] else None
    if known is None:
        return value, ""
    words = [word for word in value.split(",") if word]
    lost = [word for word in words if word[1:].upper() not in map(str.upper, known[1])]
    return ",".join(word for word in words if word not in lost), ",".join(lost)


def modern_command(command: str, onnx: str, trt: str = "11.1") -> tuple[str, tuple[str, ...]]:
    """The command for ``trt`` that builds ``onnx`` as the old options say; notes on what is lost.

    Which options ``trt`` knows is read off its own source (tables/trtexec.json); what replaces the
    others stands in tables/removed.json. CommandError for text that is no trtexec command.

    >>> modern_command("trtexec --onnx=m.onnx --int8 --calib=c --workspace=64", "q.onnx")[0]
    'trtexec --onnx=q.onnx --memPoolSize=workspace:64'
    """
    release = resolve(trt)
    known, table = option_kinds(release.tag), load_table("removed")
    options: list[str] = []
    notes: list[str] = []
    names = set()
    for argument in read_command_line(command).arguments:
        name, equals, value = argument.partition("=")
        names.add(name)
        if name in table["dropped"]:
            continue  # the model does their work now, or nothing does
        if name in table["dla"] and (11, 0) <= release.number < (11, 4):
            notes.append(NO_DLA.format(name))
            continue
        if name in ("--inputIOFormats", "--outputIOFormats"):
            parts = [part.partition(":") for part in value.split(",") if part]
            layouts = ",".join(layout for _, _, layout in parts)
            types = [dtype for dtype, _, _ in parts]
            options += [f"{name}={layouts}"] if layouts.replace("chw", "").strip(",") else []
            if set(types) - {"fp32", ""}:
                notes.append(
                    f"{name} no longer names types in {trt}: inputs and outputs have the model's "
                    f"own, {types[0]} must be cast in the model"
                )
        elif name in table["successors"]:
            options.append(table["successors"][name].format(value))
        elif name in known:
            value, lost = _known_switches(name, value, release.tag)
            options += [name + equals + value] if value or not lost else []
            notes += [f"{name}={lost} is left out: {trt} no longer knows it"] if lost else []
        else:
            notes.append(f"{name} has no successor in {trt} and is left out")
    if {"--fp16", "--bf16", "--best"} & names:
        notes.append(
            f"--fp16, --bf16 and --best have no successor in {trt}: types come from the model. "
            "Layers left in floating point run in FP32 (or TF32); cast them in the ONNX file for "
            "FP16"
        )
    line = shell_command("trtexec", f"--onnx={onnx}", *dict.fromkeys(options))
    if refusal := parse_trtexec(line, trt).error:
        notes.append(f"trtexec {trt} refuses the new command: {refusal}")
    return line, tuple(notes)
