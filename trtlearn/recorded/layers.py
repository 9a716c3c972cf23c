"""Recordings of single layers and of what decides a layer's precision.

One-layer INT8 engines with their inputs and outputs (recording/arithmetic/record.py), studies of
one network built in another way (recording/layers.py), tensors of an engine with every tensor
marked, and the sizes of ten builds.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np

from ..builds import Build
from ..engine.inspector import read_engine
from ..engine.layers import EngineInfo, EngineLayer
from ..engine.records import BuildOptions, Provenance
from ..errors import RecordingError
from ..int8.quant import scale_from_amax
from ..int8.simulate import Int8Run, run_int8
from ..model.data import Array
from ..model.read import load_proto
from ..record import Record, plural
from .files import AGAIN, check_origin, load_build, load_record, parts, place, read_arrays

__all__ = [
    "GpuProgram",
    "LayerCase",
    "PlanBuild",
    "PlanContents",
    "PlanInsides",
    "PlanSizes",
    "layer_case",
    "layer_cases",
    "marked_tensors",
    "plan_insides",
    "plan_sizes",
    "studies",
    "study",
]


@dataclass(frozen=True)
class GpuProgram(Record):
    """One CUDA program inside a plan: an ELF file, or a fat binary for several architectures."""

    offset: int
    size_bytes: int
    kernels: tuple[str, ...]  # of an ELF file; a fat binary's are compressed
    architectures: tuple[str, ...] = ()  # of a fat binary: sm_90 machine code, compute_86 PTX


@dataclass(frozen=True)
class PlanContents(Record):
    """A plan's bytes by kind; the weights named are those found as they are.

    ``int8_vectors``: weight -> (codes found as vectors, of all).
    """

    size_bytes: int
    programs: tuple[GpuProgram, ...]
    float_weights: dict[str, int]  # weight -> bytes, where its FP32 bytes lie in the plan
    int8_weights: dict[str, int]  # weight -> bytes, where its codes lie in the plan in ONNX's order
    int8_vectors: dict[str, tuple[int, int]] = field(default_factory=dict)

    @property
    def program_bytes(self) -> int:
        """Bytes of all CUDA programs."""
        return sum(program.size_bytes for program in self.programs)

    @property
    def float_bytes(self) -> int:
        """Bytes of the weights that lie in the plan as FP32."""
        return sum(self.float_weights.values())

    @property
    def int8_codes(self) -> int:
        """Codes of weights that lie in the plan as vectors."""
        return sum(count for count, _ in self.int8_vectors.values())

    def summary(self) -> str:
        return (
            f"{self.size_bytes:,} bytes: {plural(len(self.programs), 'GPU program')} of "
            f"{self.program_bytes:,} bytes, {self.float_bytes:,} bytes of weights as FP32, "
            f"{self.int8_codes:,} INT8 codes"
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
    """One build among several of the same network: its plan's size and contents, its kernels."""

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
        return (
            f"{plural(len(sizes), 'build')} of {self.model}, {self.variant}: {spread}; "
            f"{self.provenance.label()}"
        )

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
                "weights as FP32, bytes": one.float_bytes,
                "weights as INT8, bytes": one.int8_codes,
            }
            for name, one in self.plans.items()
        ]


@dataclass(frozen=True)
class LayerCase(Record):
    """One engine of one layer or few: the model, the ranges, what went in and what came out.

    ``inputs`` and ``output``: int8 codes, or float32 where TensorRT converted them itself.
    """

    name: str
    question: str
    ranges: dict[str, float]  # tensor -> amax
    scales: dict[str, float]  # tensor -> amax / 127 in float32
    inputs: dict[str, Array] = field(repr=False)
    output_name: str
    output: Array = field(repr=False)
    engine: EngineInfo
    provenance: Provenance
    constraint: str  # OBEY: INT8 was demanded; PREFER: TensorRT could not obey
    failures: tuple[str, ...]  # what TensorRT said of the builds before, where one failed
    log: tuple[str, ...]  # warnings and errors of the build that succeeded
    model: bytes = field(repr=False)  # the ONNX file

    def summary(self) -> str:
        layers = " / ".join(layer.name for layer in self.engine.layers if not layer.is_reformat)
        return (
            f"{self.name}: {self.question} Engine: {layers}; output {self.output.dtype} "
            f"{self.output.shape}"
        )

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
        return run_int8(self.model, self.scales, self.inputs, engine=self.engine)

    def read_weights(self) -> Array:
        """The weights' codes, where the input is code 127 at one place and 0 elsewhere: the output
        at (0, 0), divided by what a weight of code 1 gives there.
        """
        (layer,) = self.numpy_run().layers.values()
        one = 127 * layer.units[:, None]
        codes = np.rint(self.output[:, :, 0, 0].T / one)
        return np.asarray(codes.reshape(layer.codes.shape), np.int8)

    def difference(self) -> Array:
        """numpy minus engine, by element: in codes where the output is INT8, else in float32."""
        ours = self.numpy_run()[self.output_name]
        if self.output.dtype != np.int8:
            return np.asarray(ours.values - self.output)
        if ours.codes is None:
            problem = f"{self.name}: the numpy model leaves {self.output_name!r} in float"
            raise RecordingError(problem, AGAIN)
        return np.asarray(ours.codes.astype(np.int32) - self.output.astype(np.int32))


def layer_cases() -> tuple[str, ...]:
    """The names of the one-layer engines that were recorded.

    >>> "conv3x3" in layer_cases()
    True
    """
    return tuple(sorted(path.stem for path in place("arithmetic").glob("*.npz")))


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


def layer_case(name: str) -> LayerCase:
    """One recorded one-layer engine. RecordingError for a name that was not recorded or a damaged
    file.

    >>> case = layer_case("conv3x3")
    >>> case.output.dtype.name, int(abs(case.difference()).max())
    ('int8', 0)
    """

    def case_of(arrays: dict[str, Array]) -> LayerCase:
        facts = json.loads(str(arrays["facts"]))
        ranges = {key: float(value) for key, value in facts["ranges"].items()}
        ((output_name, output),) = _starting("out_", arrays).items()
        return LayerCase(
            name=name,
            question=facts["question"],
            ranges=ranges,
            scales={key: float(scale_from_amax(value)) for key, value in ranges.items()},
            inputs=_starting("in_", arrays),
            output_name=output_name,
            output=output,
            engine=read_engine(str(arrays["inspector"])),
            provenance=_provenance(facts),
            constraint=facts["constraint"],
            failures=tuple(facts["failures"]),
            log=tuple(facts["log"]),
            model=arrays["model"].tobytes(),
        )

    path = place("arithmetic") / f"{name}.npz"
    if not path.is_file():
        raise RecordingError(f"no recorded layer {name!r}", f"one of {', '.join(layer_cases())}")
    return read_arrays(path, case_of)


def _starting(prefix: str, arrays: Mapping[str, Array]) -> dict[str, Array]:
    """The arrays whose name begins with ``prefix``, by the rest of it."""
    names = [name for name in arrays if name.startswith(prefix)]
    return {name.removeprefix(prefix): arrays[name] for name in names}


def _studies(folder: Path | None) -> list[Path]:
    """The folders of studies: the newest set's first, then what a later run added."""
    return [folder / "studies"] if folder else parts("studies")


def studies(model: str, folder: Path | None = None) -> tuple[str, ...]:
    """The names of the studies recorded for a model, without the model's name.

    >>> "no-ranges" in studies("resnet")
    True
    """
    found = chain.from_iterable(root.glob(f"{model}-*.json") for root in _studies(folder))
    return tuple(sorted({path.stem.removeprefix(f"{model}-") for path in found}))


def study(model: str, name: str, folder: Path | None = None) -> Build:
    """One study: a network built in another way to answer a question.

    Its ``error`` says why, where TensorRT refused it. RecordingError for a study that was not
    recorded, or was made from other files.
    """
    paths = [root / f"{model}-{name}.json" for root in _studies(folder)]
    path = next((path for path in paths if path.is_file()), None)
    if path is None:
        known = ", ".join(studies(model, folder)) or "none"
        raise RecordingError(f"no study {name!r} of {model!r}", f"one of {known}")
    build = load_build(path)
    check_origin(build.provenance, path, model)
    return build


def marked_tensors(model: str, variant: str = "int8") -> dict[str, Array]:
    """What an engine with every tensor marked as an output gave for the first test images: tensor
    -> float32.

    ``variant``: "int8" or "fp32". The key "image" holds the images themselves.
    """
    return read_arrays(place(f"studies/{model}-marked-{variant}.npz"), dict)


def plan_sizes(model: str = "resnet") -> PlanSizes:
    """The sizes and contents of several builds of the same network with the same options."""
    return load_record(PlanSizes, place(f"studies/{model}-plan-sizes.json.gz"))


def plan_insides(model: str = "resnet") -> PlanInsides:
    """What the plans of a network hold, built in FP32, FP16 and INT8: GPU programs and weights."""
    return load_record(PlanInsides, place(f"studies/{model}-plan-contents.json.gz"))
