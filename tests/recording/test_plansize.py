"""GPU programs and weights found in a plan's bytes."""

from __future__ import annotations

import dataclasses
import struct

import numpy as np
import pytest

from recording.plan_contents import FAT_MAGIC, plan_contents
from trtlearn.engine.layers import EngineLayer
from trtlearn.engine.records import BuildOptions, Provenance
from trtlearn.int8.kernels import quantize_weights
from trtlearn.recorded.layers import PlanBuild, PlanSizes


def program(kernels, code=400, machine=190):
    """An ELF file with one .text section a kernel, as small as the format allows."""
    names = [b"", b".shstrtab", *[b".text." + kernel.encode() for kernel in kernels]]
    table = b"\0".join(names) + b"\0"
    at, places = 0, []
    for name in names:
        places.append(at)
        at += len(name) + 1
    body = table + bytes(code) * len(kernels)
    start = 64
    sections = [struct.pack("<IIQQQQIIQQ", 0, 0, 0, 0, 0, 0, 0, 0, 0, 0)]
    sections.append(struct.pack("<IIQQQQIIQQ", places[1], 3, 0, 0, start, len(table), 0, 0, 1, 0))
    for index in range(len(kernels)):
        offset = start + len(table) + index * code
        sections.append(
            struct.pack("<IIQQQQIIQQ", places[2 + index], 1, 0, 0, offset, code, 0, 0, 1, 0)
        )
    header = struct.pack(
        "<16sHHIQQQIHHHHHH",
        b"\x7fELF\x02\x01\x01" + bytes(9),
        *(2, machine, 1, 0, 0, start + len(body), 0, 64, 56, 0, 64, len(sections), 1),
    )
    return header + body + b"".join(sections)


def test_programs_are_found_with_their_size_and_kernels():
    one, two = program(["conv_i8", "relu"]), program(["gemm"], code=90)
    plan = b"ftrt" + bytes(33) + one + b"between" + two + bytes(5)
    found = plan_contents(plan)
    assert [(p.offset, p.size_bytes, p.kernels) for p in found.programs] == [
        (37, len(one), ("conv_i8", "relu")),
        (37 + len(one) + 7, len(two), ("gemm",)),
    ]
    assert found.program_bytes == len(one) + len(two)
    assert found.size_bytes == len(plan)


@pytest.mark.parametrize("cut", [10, 63, 64, 120, 300, 460])
def test_other_or_cut_programs_are_not_counted(cut):
    assert not plan_contents(program(["x"], machine=62)).programs  # a program for the CPU
    assert not plan_contents(b"zz" + program(["x"])[:cut]).programs
    assert not plan_contents(b"\x7fELF" * 50).programs


def fat(*parts):
    """A fat binary: for each part (kind, architecture, data) a header of 64 bytes and the data."""
    entries = [
        struct.pack("<HHIQ12xI", kind, 0x101, 64, len(data), number) + bytes(32) + data
        for kind, number, data in parts
    ]
    return struct.pack("<4sHHQ", FAT_MAGIC, 1, 16, sum(map(len, entries))) + b"".join(entries)


def test_a_fat_binary_is_one_program_for_several_architectures():
    whole = fat((2, 80, b"x" * 100), (2, 90, program(["inner"])), (1, 86, b"ptx"))
    plan = b"ftrt" + whole + b"between" + program(["conv"]) + fat((1, 75, b""))
    found = plan_contents(plan).programs
    assert [(p.offset, p.kernels, p.architectures) for p in found] == [
        (4, (), ("sm_80", "sm_90", "compute_86")),  # the ELF file inside is a part of it
        (4 + len(whole) + 7, ("conv",), ()),
        (4 + len(whole) + 7 + len(program(["conv"])), (), ("compute_75",)),
    ]
    assert found[0].size_bytes == len(whole)


@pytest.mark.parametrize(
    "spoiled",
    [
        fat((2, 80, b"x" * 100))[:-1],
        fat((2, 80, b"x" * 100))[:12],
        fat((7, 80, b"x" * 100)),
        fat(),
        FAT_MAGIC * 9,
        fat((2, 80, b"x")).replace(b"\x01\x00\x10", b"\x02\x00\x10", 1),
    ],
)
def test_other_or_cut_fat_binaries_are_not_counted(spoiled):
    assert not plan_contents(b"zz" + spoiled).programs


def test_codes_are_found_as_vectors_of_input_channels():
    rng = np.random.default_rng(1)
    w = rng.normal(size=(6, 40, 3, 3)).astype(np.float32)
    codes = quantize_weights(w)[0]
    vectors = [
        codes[k, c : c + 32, r, s].tobytes()
        for r in range(3)
        for s in range(3)
        for k in range(6)
        for c in (0, 32)
    ]
    shuffled = [vectors[i] for i in rng.permutation(len(vectors))]
    assert plan_contents(b"..".join(shuffled), {"w": w}).int8_vectors == {"w": (w.size, w.size)}
    assert plan_contents(b"..".join(shuffled[1:]), {"w": w}).int8_vectors["w"][0] == w.size - len(
        shuffled[0]
    )
    assert plan_contents(bytes(9000), {"w": w}).int8_vectors == {}
    thin = rng.normal(size=(64, 4, 3, 3)).astype(np.float32)  # vectors of 4 would turn up by chance
    assert plan_contents(quantize_weights(thin)[0].tobytes(), {"w": thin}).int8_vectors == {}


def test_weights_are_found_as_floats_and_as_codes():
    rng = np.random.default_rng(0)
    w = rng.normal(size=(8, 32)).astype(np.float32)
    codes = np.rint(w / (np.abs(w).max(1, keepdims=True) / np.float32(127))).astype(np.int8)
    plan = b"head" + w.tobytes() + b"middle" + codes.tobytes()
    found = plan_contents(plan, {"w": w, "other": rng.normal(size=(8, 32)), "short": w[0, :4]})
    assert found.float_weights == {"w": 1024}
    assert found.int8_weights == {"w": 256}


def test_builds_side_by_side():
    def build(kernel, size):
        contents = plan_contents(
            bytes(size - 600) + program([kernel], code=600 - 64 * 4 - len(kernel) - 20)
        )
        return PlanBuild(
            contents.size_bytes,
            1.5,
            contents,
            (EngineLayer("conv", "conv", (), (), kernel=kernel),),
        )

    sizes = PlanSizes(
        "resnet",
        "int8",
        BuildOptions(),
        Provenance(),
        (build("a", 1000), build("b", 3000), build("a", 1000)),
    )
    rows = sizes.rows()
    assert [row["layers whose kernel differs from build 1's"] for row in rows] == [0, 1, 0]
    assert rows[1]["bytes of GPU programs"] == sizes.builds[1].contents.program_bytes
    unknown = dataclasses.replace(
        sizes, builds=(dataclasses.replace(sizes.builds[0], contents=None),)
    )
    assert unknown.rows()[0]["bytes of GPU programs"] is None
    assert PlanSizes.from_json(unknown.to_json()) == unknown
    assert PlanSizes.from_json(sizes.to_json()) == sizes
    assert "3 builds" in sizes.summary()
