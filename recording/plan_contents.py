"""What is in a plan, byte by byte as far as it can be told: GPU programs, and weights in a form
that we know.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from trtlearn.int8.kernels import quantize_weights
from trtlearn.recorded.layers import GpuProgram, PlanContents

__all__ = ["plan_contents"]

CUDA_MACHINE = 190  # EM_CUDA, e_machine in the ELF header
HEADER = struct.Struct("<16sHHIQQQIHHHHHH")
SECTION = struct.Struct("<IIQQQQIIQQ")
VECTOR, SHORTEST = 32, 8  # input channels
FAT_MAGIC = bytes.fromhex("50ed55ba")
FAT_HEADER = struct.Struct("<4sHHQ")
FAT_ENTRY = struct.Struct("<HHIQ12xI")  # kind, version, header size, data size, ..., architecture
FAT_KINDS = {1: "compute", 2: "sm"}  # PTX, to be compiled for a later GPU; machine code


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
    """The CUDA program whose ELF header is at ``at``; None where it is none or runs beyond the
    plan.
    """
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

    Each weight is looked for as FP32 bytes and as INT8 codes per output channel (axis 0), both in
    ONNX's order: what a kernel keeps in another order is not found so. Weights under 64 bytes are
    not looked for. INT8 kernels keep the codes of up to VECTOR input channels together, so the
    codes are looked for in such vectors, too, if 8 or longer.

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
    """How many of the codes [O, I, ...] lie in the plan as vectors of input channels, and how many
    were looked for.
    """
    last = np.moveaxis(codes, 1, -1)
    found = total = 0
    for row in last.reshape(-1, last.shape[-1]):
        for start in range(0, len(row), VECTOR):
            vector = row[start : start + VECTOR].tobytes()
            if len(vector) >= SHORTEST:
                total += len(vector)
                found += len(vector) * (vector in plan)
    return found, total
