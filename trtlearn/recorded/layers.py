"""Recordings of single layers and of what decides a layer's precision: loaded as records, from data/recordings/.

One-layer INT8 engines with their inputs and outputs (recording/arithmetic/record.py), studies of one network built in another
way (recording/layers.py), tensors of an engine with every tensor marked, and the sizes of ten builds.
"""

from __future__ import annotations

import io
import json
import re
import struct
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..builds import Build
from ..engine.inspector import read_engine
from ..engine.records import BuildOptions, EngineInfo, EngineLayer, Provenance
from ..errors import RecordingError
from ..files import read_bytes
from ..int8.groups import engine_groups, float_tensors
from ..int8.kernels import quantize_weights
from ..int8.simulate import Int8Run, run_int8
from ..model.describe import describe, load_proto
from ..record import Record, plural
from .files import AGAIN, folder_with, load_study, read_packed

__all__ = [
    "GpuProgram",
    "LayerCase",
    "PlanBuild",
    "PlanContents",
    "PlanInsides",
    "PlanSizes",
    "layer_case",
    "layer_cases",
    "load_studies",
    "marked_tensors",
    "plan_contents",
    "plan_insides",
    "plan_sizes",
    "studies",
    "study",
]


# --- What is in a plan, byte by byte as far as it can be told: GPU programs, and weights in a form that we know.

CUDA_MACHINE = 190  # EM_CUDA, e_machine in the ELF header
HEADER = struct.Struct("<16sHHIQQQIHHHHHH")
SECTION = struct.Struct("<IIQQQQIIQQ")
VECTOR, SHORTEST = 32, 8  # input channels
FAT_MAGIC = bytes.fromhex("50ed55ba")
FAT_HEADER = struct.Struct("<4sHHQ")
FAT_ENTRY = struct.Struct("<HHIQ12xI")  # kind, version, header size, data size, ..., architecture
FAT_KINDS = {1: "compute", 2: "sm"}  # PTX, to be compiled for a later GPU; machine code


@dataclass(frozen=True)
class GpuProgram(Record):
    """One CUDA program inside a plan: an ELF file, or a fat binary with code for several architectures."""

    offset: int
    size_bytes: int
    kernels: tuple[str, ...]  # of an ELF file; a fat binary's are compressed
    architectures: tuple[str, ...] = ()  # of a fat binary: sm_90 machine code, compute_86 PTX


@dataclass(frozen=True)
class PlanContents(Record):
    """A plan's bytes by kind. ``float_weights`` and ``int8_weights`` name the weights found as they are."""

    size_bytes: int
    programs: tuple[GpuProgram, ...]
    float_weights: dict[str, int]  # weight -> bytes, where its FP32 bytes lie in the plan
    int8_weights: dict[str, int]  # weight -> bytes, where its codes lie in the plan in ONNX's order
    int8_vectors: dict[str, tuple[int, int]] = field(
        default_factory=dict
    )  # weight -> (codes found as vectors, of all)

    @property
    def program_bytes(self) -> int:
        """Bytes of all CUDA programs."""
        return sum(program.size_bytes for program in self.programs)

    def summary(self) -> str:
        return (
            f"{self.size_bytes:,} bytes: {plural(len(self.programs), 'GPU program')} of {self.program_bytes:,} bytes, "
            f"{sum(self.float_weights.values()):,} bytes of weights as FP32, "
            f"{sum(found for found, _ in self.int8_vectors.values()):,} INT8 codes"
        )

    def rows(self) -> list[dict[str, Any]]:
        return [
            {
                "offset": p.offset,
                "bytes": p.size_bytes,
                "kernels": p.kernels,
                "architectures": p.architectures,
            }
            for p in self.programs
        ]


@dataclass(frozen=True)
class PlanBuild(Record):
    """One build among several of the same network: its plan's size and contents, and the kernels chosen."""

    plan_bytes: int
    build_seconds: float | None
    contents: PlanContents | None  # None: not looked into
    layers: tuple[EngineLayer, ...]

    @property
    def kernels(self) -> dict[str, str | None]:
        """Engine layer -> kernel."""
        return {layer.name: layer.kernel for layer in self.layers}


@dataclass(frozen=True)
class PlanSizes(Record):
    """Several builds of one network with the same options and no timing cache."""

    model: str
    variant: str
    options: BuildOptions
    provenance: Provenance
    builds: tuple[PlanBuild, ...]

    def summary(self) -> str:
        sizes = [build.plan_bytes for build in self.builds]
        spread = f"{min(sizes):,} to {max(sizes):,} bytes" if sizes else "none"
        return f"{len(sizes)} builds of {self.model}, {self.variant}: {spread}; {self.provenance.label()}"

    def rows(self) -> list[dict[str, Any]]:
        return [
            {
                "build": index + 1,
                "plan bytes": build.plan_bytes,
                "bytes of GPU programs": build.contents and build.contents.program_bytes,
                "layers": len(build.layers),
                "layers whose kernel differs from build 1's": sum(
                    self.builds[0].kernels.get(name) != kernel
                    for name, kernel in build.kernels.items()
                ),
            }
            for index, build in enumerate(self.builds)
        ]


@dataclass(frozen=True)
class PlanInsides(Record):
    """What is in the plans of one network, built in several ways."""

    model: str
    provenance: Provenance
    plans: dict[str, PlanContents]  # variant -> what its plan holds

    def summary(self) -> str:
        return f"{self.model}: {', '.join(self.plans)}; {self.provenance.label()}"

    def rows(self) -> list[dict[str, Any]]:
        return [
            {
                "built as": name,
                "plan bytes": one.size_bytes,
                "GPU programs": len(one.programs),
                "their bytes": one.program_bytes,
                "weights as FP32, bytes": sum(one.float_weights.values()),
                "weights as INT8, bytes": sum(found for found, _ in one.int8_vectors.values()),
            }
            for name, one in self.plans.items()
        ]


def _fat_binary(plan: bytes, at: int) -> GpuProgram | None:
    """The fat binary at ``at``; None where it is none or runs beyond the plan."""
    if at + FAT_HEADER.size > len(plan):
        return None
    _, version, header, size = FAT_HEADER.unpack_from(plan, at)
    end = at + header + size
    if version != 1 or header != FAT_HEADER.size or end > len(plan):
        return None
    architectures = []
    here = at + header
    while here + FAT_ENTRY.size <= end:
        kind, _, entry, data, number = FAT_ENTRY.unpack_from(plan, here)
        if kind not in FAT_KINDS or entry < FAT_ENTRY.size or here + entry + data > end:
            return None
        architectures.append(f"{FAT_KINDS[kind]}_{number}")
        here += entry + data
    return GpuProgram(at, header + size, (), tuple(architectures)) if architectures else None


def _program(plan: bytes, at: int) -> GpuProgram | None:
    """The CUDA program whose ELF header is at ``at``; None where it is none or runs beyond the plan."""
    if at + HEADER.size > len(plan):
        return None
    fields = HEADER.unpack_from(plan, at)
    ident, machine = fields[0], fields[2]
    programs_at, sections_at = fields[5], fields[6]
    program_size, program_count, section_size, section_count, names = fields[9:14]
    if ident[4] != 2 or machine != CUDA_MACHINE or section_size != SECTION.size:
        return None
    end = max(
        programs_at + program_size * program_count, sections_at + section_size * section_count
    )
    if at + end > len(plan) or names >= section_count:
        return None
    sections = [
        SECTION.unpack_from(plan, at + sections_at + index * section_size)
        for index in range(section_count)
    ]
    for kind, offset, size in ((s[1], s[4], s[5]) for s in sections):
        if kind != 8:  # SHT_NOBITS takes no room in the file
            end = max(end, offset + size)
    if at + end > len(plan):
        return None
    text = plan[at + sections[names][4] : at + sections[names][4] + sections[names][5]]
    labels = [text[s[0] : text.find(b"\0", s[0])].decode("ascii", "replace") for s in sections]
    return GpuProgram(at, end, tuple(label[6:] for label in labels if label.startswith(".text.")))


def plan_contents(plan: bytes, weights: Mapping[str, NDArray[Any]] | None = None) -> PlanContents:
    """What is found in a plan: GPU programs, and which of ``weights`` (FP32, by name) lie in it.

    Each weight is looked for as FP32 bytes and as INT8 codes per output channel (axis 0), both in ONNX's order: what a
    kernel keeps in another order is not found so. Weights under 64 bytes are not looked for. INT8 kernels keep the
    codes of up to VECTOR input channels together, so the codes are looked for in such vectors, too, if 8 or longer.

    >>> plan_contents(b"no plan " + np.arange(64, dtype=np.float32).tobytes(), {"w": np.arange(64.0)}).float_weights
    {'w': 256}
    """
    programs: list[GpuProgram] = []
    begins, end = re.compile(re.escape(b"\x7fELF") + b"|" + re.escape(FAT_MAGIC)), 0
    for match in begins.finditer(plan):
        at = match.start()
        found = (
            None
            if at < end
            else _fat_binary(plan, at)
            if match[0] == FAT_MAGIC
            else _program(plan, at)
        )
        if found is not None:  # an ELF file inside a fat binary is a part of it
            programs.append(found)
            end = at + found.size_bytes
    floats: dict[str, int] = {}
    codes: dict[str, int] = {}
    vectors: dict[str, tuple[int, int]] = {}
    for name, weight in (weights or {}).items():
        values = np.ascontiguousarray(weight, np.float32)
        if values.nbytes < 64 or not np.isfinite(values).all():
            continue
        if values.tobytes() in plan:
            floats[name] = values.nbytes
        if values.ndim > 1:
            quantized = quantize_weights(values)[0]
            if quantized.nbytes >= 64 and quantized.tobytes() in plan:
                codes[name] = quantized.nbytes
            vectors[name] = _vectors(plan, quantized)
    return PlanContents(
        len(plan),
        tuple(programs),
        floats,
        codes,
        {n: both for n, both in vectors.items() if both[0]},
    )


def _vectors(plan: bytes, codes: NDArray[np.int8]) -> tuple[int, int]:
    """How many of the codes [O, I, ...] lie in the plan as vectors of input channels, and how many were looked for."""
    last = np.moveaxis(codes, 1, -1)
    found = total = 0
    for row in last.reshape(-1, last.shape[-1]):
        for start in range(0, len(row), VECTOR):
            vector = row[start : start + VECTOR].tobytes()
            if len(vector) >= SHORTEST:
                total += len(vector)
                found += len(vector) * (vector in plan)
    return found, total


# --- Recordings of single layers and of what decides a layer's precision: loaded as records, from data/recordings/.

Array = NDArray[Any]
LARGEST = 64 << 20  # bytes that one file may unpack to


@dataclass(frozen=True)
class LayerCase(Record):
    """One engine of one layer or few: the model, the ranges that were set, what went in and what came out."""

    name: str
    question: str
    ranges: dict[str, float]  # tensor -> amax
    scales: dict[str, float]  # tensor -> amax / 127 in float32
    inputs: dict[str, Array] = field(
        repr=False
    )  # int8 codes, or float32 where TensorRT quantized them itself
    output_name: str
    output: Array = field(repr=False)  # int8 codes, or float32
    engine: EngineInfo
    provenance: Provenance
    constraint: str  # OBEY: INT8 was demanded; PREFER: TensorRT could not obey
    failures: tuple[str, ...]  # what TensorRT said of the builds before, where one failed
    log: tuple[str, ...]  # warnings and errors of the build that succeeded
    model: bytes = field(repr=False)  # the ONNX file

    def summary(self) -> str:
        layers = " / ".join(layer.name for layer in self.engine.layers if not layer.is_reformat)
        return f"{self.name}: {self.question} Engine: {layers}; output {self.output.dtype} {self.output.shape}"

    @property
    def weights(self) -> dict[str, Array]:
        """The model's constants by name, float32."""
        from onnx import numpy_helper

        return {
            item.name: numpy_helper.to_array(item)
            for item in load_proto(self.model).graph.initializer
        }

    def numpy_run(self) -> Int8Run:
        """The numpy model of the same layers, grouped and kept in float as the engine has them."""
        shape = describe(load_proto(self.model))
        floats = set(float_tensors(shape, self.engine))
        keep = (
            floats - {self.output_name}
            if self.output.dtype == np.int8
            else floats | {self.output_name}
        )
        return run_int8(
            self.model,
            self.scales,
            self.inputs,
            groups=engine_groups(shape, self.engine),
            floats=sorted(keep),
        )

    def difference(self) -> Array:
        """numpy minus engine, element by element: in codes where the output is INT8, else in float32."""
        found = self.numpy_run()[self.output_name]
        if self.output.dtype == np.int8:
            if found.codes is None:
                raise RecordingError(
                    f"{self.name}: the numpy model leaves {self.output_name!r} in float", AGAIN
                )
            return np.asarray(found.codes.astype(np.int32) - self.output.astype(np.int32))
        return np.asarray(found.values - self.output)


def _folder(folder: Path | None, part: str = "arithmetic") -> Path:
    return (folder_with(part) if folder is None else folder) / part


def layer_cases(folder: Path | None = None) -> tuple[str, ...]:
    """The names of the one-layer engines that were recorded.

    >>> "conv3x3" in layer_cases()
    True
    """
    return tuple(sorted(path.stem for path in _folder(folder).glob("*.npz")))


def _arrays(path: Path) -> dict[str, Array]:
    content = read_bytes(path, RecordingError)
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as packed:
            size = sum(item.file_size for item in packed.infolist())
        if size > LARGEST:
            raise RecordingError(f"{path} unpacks to {size:,} bytes", AGAIN)
        with np.load(io.BytesIO(content), allow_pickle=False) as file:
            return {name: file[name] for name in file.files}
    except RecordingError:
        raise
    except (
        Exception
    ) as problem:  # numpy, zipfile, zlib and tokenize each raise their own on a damaged file
        raise RecordingError(f"{path} is damaged: {problem}", AGAIN) from None


def _provenance(facts: Mapping[str, Any]) -> Provenance:
    kept = facts.get("kept_images")
    notes = [f"a one-layer engine, built at optimization level {facts.get('optimization_level')}"]
    notes += [f"{kept} of {facts['recorded_images']} images kept"] if kept else []
    return Provenance(
        gpu=facts["gpu"],
        tensorrt=facts["tensorrt"],
        tactic_sources=(),
        time_utc=facts["time_utc"],
        command="recording/arithmetic/record.py",
        notes=tuple(notes),
    )


def layer_case(name: str, folder: Path | None = None) -> LayerCase:
    """One recorded one-layer engine. RecordingError for a name that was not recorded or a damaged file.

    >>> case = layer_case("conv3x3")
    >>> case.output.dtype.name, int(abs(case.difference()).max())
    ('int8', 0)
    """
    root = _folder(folder)
    if not (root / f"{name}.npz").is_file():
        raise RecordingError(
            f"no recorded layer {name!r}", f"one of {', '.join(layer_cases(folder))}"
        )
    held = _arrays(root / f"{name}.npz")
    try:
        facts = json.loads(str(held["facts"]))
        ranges = {key: float(value) for key, value in facts["ranges"].items()}
        outputs = {key[4:]: value for key, value in held.items() if key.startswith("out_")}
        (output_name,) = outputs
        return LayerCase(
            name=name,
            question=facts["question"],
            ranges=ranges,
            scales={
                key: float(np.float32(value) / np.float32(127)) for key, value in ranges.items()
            },
            inputs={key[3:]: value for key, value in held.items() if key.startswith("in_")},
            output_name=output_name,
            output=outputs[output_name],
            engine=read_engine(str(held["inspector"])),
            provenance=_provenance(facts),
            constraint=facts["constraint"],
            failures=tuple(facts["failures"]),
            log=tuple(facts["log"]),
            model=held["model"].tobytes(),
        )
    except (KeyError, ValueError, TypeError) as problem:
        raise RecordingError(
            f"{root / name}.npz is not what recording/arithmetic/record.py writes: {problem!r}",
            AGAIN,
        ) from None


def studies(model: str, folder: Path | None = None) -> tuple[str, ...]:
    """The names of the studies recorded for a model, without the model's name.

    >>> "no-ranges" in studies("resnet")
    True
    """
    found = sorted(_folder(folder, "studies").glob(f"{model}-*.json"))
    return tuple(path.stem.removeprefix(f"{model}-") for path in found)


def study(model: str, name: str, folder: Path | None = None) -> Build:
    """One study: a network built in another way, and what TensorRT made of it, or the error that it gave."""
    path = _folder(folder, "studies") / f"{model}-{name}.json"
    if not path.is_file():
        raise RecordingError(
            f"no study {name!r} of {model!r}", f"one of {', '.join(studies(model, folder))}"
        )
    return load_study(path)


def load_studies(model: str, folder: Path | None = None) -> dict[str, Build]:
    """All studies of a model by name."""
    return {name: study(model, name, folder) for name in studies(model, folder)}


def marked_tensors(
    model: str, variant: str = "int8", folder: Path | None = None
) -> dict[str, Array]:
    """What an engine with every tensor marked as an output gave for the first test images: tensor -> float32.

    ``variant``: "int8" or "fp32". The key "image" holds the images themselves.
    """
    return _arrays(_folder(folder, "studies") / f"{model}-marked-{variant}.npz")


def plan_sizes(model: str = "resnet", folder: Path | None = None) -> PlanSizes:
    """The sizes and contents of several builds of the same network with the same options."""
    return PlanSizes.from_json(
        read_packed(_folder(folder, "studies") / f"{model}-plan-sizes.json.gz")
    )


def plan_insides(model: str = "resnet", folder: Path | None = None) -> PlanInsides:
    """What the plans of a network hold, built in FP32, FP16 and INT8: GPU programs and weights."""
    return PlanInsides.from_json(
        read_packed(_folder(folder, "studies") / f"{model}-plan-contents.json.gz")
    )
