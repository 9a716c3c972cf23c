"""What is in a plan, byte by byte as far as it can be told: GPU programs, and weights in a form that we know.

The plan's format is not published. Two things can be found in it without guessing: CUDA programs, which are ELF files
for machine 190, and weights that lie there as the very bytes that we expect.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .intcodes import quantize_weights
from .record import Record, plural
from .records import BuildOptions, EngineLayer, Provenance

__all__ = ["GpuProgram", "PlanBuild", "PlanContents", "PlanSizes", "plan_contents"]

CUDA_MACHINE = 190  # EM_CUDA, e_machine in the ELF header
HEADER = struct.Struct("<16sHHIQQQIHHHHHH")
SECTION = struct.Struct("<IIQQQQIIQQ")


@dataclass(frozen=True)
class GpuProgram(Record):
    """One CUDA program inside a plan, with the kernels that it holds."""

    offset: int
    size_bytes: int
    kernels: tuple[str, ...]


@dataclass(frozen=True)
class PlanContents(Record):
    """A plan's bytes by kind. ``float_weights`` and ``int8_weights`` name the weights found as they are."""

    size_bytes: int
    programs: tuple[GpuProgram, ...]
    float_weights: dict[str, int]  # weight -> bytes, where its FP32 bytes lie in the plan
    int8_weights: dict[str, int]  # weight -> bytes, where its codes lie in the plan in ONNX's order

    @property
    def program_bytes(self) -> int:
        """Bytes of all CUDA programs."""
        return sum(program.size_bytes for program in self.programs)

    def summary(self) -> str:
        return (
            f"{self.size_bytes:,} bytes: {plural(len(self.programs), 'GPU program')} of {self.program_bytes:,} bytes, "
            f"{sum(self.float_weights.values()):,} bytes of weights as FP32, "
            f"{sum(self.int8_weights.values()):,} as INT8 in ONNX's order"
        )

    def rows(self) -> list[dict[str, Any]]:
        return [{"offset": p.offset, "bytes": p.size_bytes, "kernels": ", ".join(p.kernels)} for p in self.programs]


@dataclass(frozen=True)
class PlanBuild(Record):
    """One build among several of the same network: its plan's size and contents, and the kernels chosen."""

    plan_bytes: int
    build_seconds: float | None
    contents: PlanContents
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
                "GPU programs": len(build.contents.programs),
                "their bytes": build.contents.program_bytes,
                "the rest": build.plan_bytes - build.contents.program_bytes,
                "layers": len(build.layers),
                "layers whose kernel differs from build 1's": sum(
                    self.builds[0].kernels.get(name) != kernel for name, kernel in build.kernels.items()
                ),
            }
            for index, build in enumerate(self.builds)
        ]


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
    end = max(programs_at + program_size * program_count, sections_at + section_size * section_count)
    if at + end > len(plan) or names >= section_count:
        return None
    sections = [SECTION.unpack_from(plan, at + sections_at + index * section_size) for index in range(section_count)]
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
    kernel keeps in another order is not found so. Weights under 64 bytes are not looked for.

    >>> plan_contents(b"no plan " + np.arange(64, dtype=np.float32).tobytes(), {"w": np.arange(64.0)}).float_weights
    {'w': 256}
    """
    programs: list[GpuProgram] = []
    at = plan.find(b"\x7fELF")
    while at >= 0:
        found = _program(plan, at)
        if found is not None:
            programs.append(found)
        at = plan.find(b"\x7fELF", at + (found.size_bytes if found else 4))
    floats: dict[str, int] = {}
    codes: dict[str, int] = {}
    for name, weight in (weights or {}).items():
        values = np.ascontiguousarray(weight, np.float32)
        if values.nbytes < 64 or not np.isfinite(values).all():
            continue
        if values.tobytes() in plan:
            floats[name] = values.nbytes
        if values.ndim > 1:
            quantized = quantize_weights(values)[0].tobytes()
            if len(quantized) >= 64 and quantized in plan:
                codes[name] = len(quantized)
    return PlanContents(len(plan), tuple(programs), floats, codes)
