"""Files from others are data: whatever stands in them, only the project's own errors come out.

Real files are damaged at random: bytes changed, cut, doubled; values of JSON replaced.
``TRTLEARN_FUZZ=20000`` tries that many of each instead of 100 (for a night; in CI the time is
bounded).
"""

from __future__ import annotations

import dataclasses
import gzip
import importlib
import io
import json
import os
import pkgutil
import tracemalloc
import warnings
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import trtlearn
from trtlearn.builds import Build
from trtlearn.calibration.cache import parse_cache, read_cache
from trtlearn.calibration.cache_reading import as_tensorrt_reads
from trtlearn.calibration.edit import (
    from_ort_flatbuffers,
    from_ort_json,
    from_ort_table,
    from_ranges_json,
    to_ort_table,
    to_ranges_json,
)
from trtlearn.course import progress
from trtlearn.engine.inspector import layer_times, read_engine
from trtlearn.engine.log import decode, read_log, scales_from_log
from trtlearn.errors import TrtlearnError
from trtlearn.files import decode_text
from trtlearn.model.course_data import model_path
from trtlearn.model.data import load_arrays
from trtlearn.model.read import read_model
from trtlearn.record import Record
from trtlearn.recorded import files
from trtlearn.recorded.files import folder_with, load_build
from trtlearn.recorded.layers import layer_case
from trtlearn.recorded.open import open_engine
from trtlearn.trtexec.explanation import explain
from trtlearn.trtexec.migration import migrate

MANY = int(os.environ.get("TRTLEARN_FUZZ", "100"))
LARGE = MANY if MANY > 1000 else max(20, MANY // 4)  # of files that take long
bounded = settings(max_examples=MANY, deadline=None, suppress_health_check=list(HealthCheck))

RECORDED = folder_with("studies")
CACHE = (RECORDED / "resnet" / "int8-entropy2.cache").read_bytes()
LEGACY = (RECORDED / "resnet" / "int8-legacy.cache").read_bytes()
EXPERIMENT = load_build(RECORDED / "resnet" / "int8-entropy2.json.gz")
ENGINE = EXPERIMENT.engine.raw[
    :6000
].encode()  # long enough for every kind of layer, short enough to try many
STUDY = (RECORDED / "studies" / "resnet-no-ranges.json").read_bytes()
MODEL, CACHE_RECORD = model_path("resnet"), parse_cache(CACHE)
COMMAND = b"CUDA_VISIBLE_DEVICES=0 ./trtexec --onnx='a b.onnx' --int8 --fp16 --calib=c.cache --layerPrecisions=*:fp16 2>&1"

numbers = st.integers(-(2**70), 2**70) | st.just(10**400) | st.floats()
scalars = st.none() | st.booleans() | numbers | st.text(max_size=8)
anything = st.recursive(
    scalars,
    lambda inside: (
        st.lists(inside, max_size=4) | st.dictionaries(st.text(max_size=6), inside, max_size=4)
    ),
)


@st.composite
def damaged(draw: st.DrawFn, whole: bytes) -> bytes:
    """The bytes with a few of them changed, left out, repeated, or the end missing."""
    content = bytearray(whole)
    for _ in range(draw(st.integers(1, 6))):
        if not content:
            break
        at = draw(st.integers(0, len(content) - 1))
        end = min(len(content), at + draw(st.integers(1, 40)))
        content[at:end] = draw(
            st.binary(max_size=8)
            | st.just(b"")
            | st.just(bytes(content[at:end]) * 2)
            | st.sampled_from([b"\0", b"9" * 400])
        )
    return (
        bytes(content[: draw(st.integers(0, len(content)))])
        if draw(st.booleans())
        else bytes(content)
    )


@st.composite
def altered(draw: st.DrawFn, whole: Any) -> Any:
    """The JSON value with some value in it replaced, or a key removed or added."""
    value = json.loads(json.dumps(whole))
    place, depth = value, draw(st.integers(0, 7))
    for _ in range(depth):
        keys: Any = sorted(place) if isinstance(place, dict) else range(len(place))
        inner = [key for key in keys if isinstance(place[key], (dict, list)) and place[key]]
        if not inner:
            break
        place = place[draw(st.sampled_from(inner))]
    if isinstance(place, dict):
        key = draw(st.sampled_from(sorted(place)) | st.text(max_size=6))
    else:
        key = draw(st.integers(0, len(place) - 1))
    if isinstance(place, dict) and draw(st.booleans()):
        place.pop(key, None)
    else:
        place[key] = draw(anything)
    return value


def read(reader: Callable[[Any], Any], content: Any) -> Any:
    """What the reader gives; None where it refuses, in one line that can be printed."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return reader(content)
    except TrtlearnError as problem:
        said = str(problem)
    assert said.encode()
    assert len(said) < 2000
    return None


@bounded
@given(damaged(CACHE) | damaged(LEGACY))
def test_calibration_caches(content: bytes) -> None:
    cache = read(read_cache, content)
    if cache is not None:
        assert type(cache).from_json(cache.to_json()) == cache


@bounded
@given(damaged(ENGINE))
def test_inspector_texts(content: bytes) -> None:
    read(read_engine, content)


@bounded
@given(altered(json.loads(EXPERIMENT.engine.raw, strict=False)))
def test_inspector_values(value: Any) -> None:
    engine = read(read_engine, json.dumps(value))
    if engine is not None:
        assert str(engine).encode()
        assert type(engine).from_json(engine.to_json()) == engine


@bounded
@given(
    damaged(COMMAND).map(lambda content: content.decode("utf-8", "replace")),
    st.sampled_from(["8.6", "10.16", "11.1"]),
)
def test_commands(command: str, version: str) -> None:
    answer = read(lambda text: explain(text, trt=version), command)
    assert answer is None or answer.steps


@bounded
@given(
    damaged(to_ranges_json(parse_cache(CACHE)).encode()),
    damaged(to_ort_table(parse_cache(CACHE)).encode()),
)
def test_other_tools_tables(ranges: bytes, table: bytes) -> None:
    read(from_ranges_json, ranges.decode("utf-8", "replace"))
    read(from_ort_table, table.decode("utf-8", "replace"))


@bounded
@given(
    damaged(EXPERIMENT.build.log[-5000:].encode()).map(
        lambda content: content.decode("utf-8", "replace")
    )
)
def test_logs(log: str) -> None:
    assert isinstance(decode(log), tuple)
    assert isinstance(scales_from_log(log), tuple)


@pytest.mark.parametrize(
    "reader", [from_ranges_json, read_engine, Build.from_json, progress.Progress.from_json]
)
@pytest.mark.parametrize(
    "text", ["[" * 100_000, '{"a":' * 100_000, "9" * 5000, '{"image": ' + "9" * 400 + "}"]
)
def test_json_too_deep_or_too_long(reader: Callable[[str], Any], text: str) -> None:
    assert read(reader, text) is None


@settings(bounded, max_examples=LARGE)
@given(damaged(model_path("mobile").read_bytes()[:4000]))
def test_onnx_files(content: bytes) -> None:
    read(read_model, content)


def arrays(save: Any) -> bytes:
    file = io.BytesIO()
    save(file)
    return file.getvalue()


NPY = arrays(lambda file: np.save(file, np.zeros((4, 2), np.float32)))
NPZ = arrays(lambda file: np.savez_compressed(file, image=np.zeros((4, 2), np.float32)))


@bounded
@given(damaged(NPY) | damaged(NPZ))
def test_arrays_to_calibrate_with(tmp_path_factory: pytest.TempPathFactory, content: bytes) -> None:
    path = tmp_path_factory.getbasetemp() / "fuzz.npy"
    path.write_bytes(content)
    read(lambda file: load_arrays(file, ["image"]), path)


LEAN = {**EXPERIMENT.to_dict(), "build": {**EXPERIMENT.build.to_dict(), "log": ""}}
LEAN["engine"] = {**LEAN["engine"], "raw": "", "layers": LEAN["engine"]["layers"][:3]}


@bounded
@given(altered(LEAN))
def test_values_of_an_experiment(value: Any) -> None:
    one = read(Build.from_json, json.dumps(value))
    if one is not None:
        assert Build.from_json(one.to_json()).to_json() == one.to_json()


@settings(bounded, max_examples=LARGE)
@given(content=damaged(gzip.compress(json.dumps(LEAN).encode(), mtime=0)), study=damaged(STUDY))
def test_files_of_recordings(
    tmp_path_factory: pytest.TempPathFactory, content: bytes, study: bytes
) -> None:
    folder = tmp_path_factory.getbasetemp() / "fuzz"
    folder.mkdir(exist_ok=True)
    (folder / "one.json.gz").write_bytes(content)
    (folder / "study.json").write_bytes(study)
    read(load_build, folder / "one.json.gz")
    read(load_build, folder / "study.json")


def records() -> list[type[Record]]:
    """Every record of the package, the readers' own modules included."""
    for module in pkgutil.walk_packages(trtlearn.__path__, "trtlearn."):
        if module.name not in ("__main__", "cli", "cli_base", "cli_build", "cli_cache"):
            importlib.import_module(module.name)
    found, pending = {}, [Record]
    while pending:
        for kind in pending.pop().__subclasses__():
            found[f"{kind.__module__}.{kind.__name__}"] = kind
            pending.append(kind)
    own = [kind for name, kind in sorted(found.items()) if name.startswith("trtlearn.")]
    return [kind for kind in own if dataclasses.is_dataclass(kind)]


@pytest.mark.parametrize("kind", records(), ids=lambda kind: kind.__name__)
def test_every_record_refuses_what_it_is_not(kind: type[Record]) -> None:
    @settings(bounded, max_examples=max(10, MANY // 10))
    @given(st.text(max_size=30) | anything.map(json.dumps))
    def try_all(text: str) -> None:
        read(kind.from_json, text)

    try_all()
    names = list(kind.__dataclass_fields__)  # type: ignore[attr-defined]

    @settings(bounded, max_examples=max(10, MANY // 10))
    @given(st.fixed_dictionaries(dict.fromkeys(names, anything)))
    def try_fields(fields: dict[str, Any]) -> None:
        one = read(kind.from_json, json.dumps(fields))
        if one is not None:
            read(lambda _: (str(one), one._repr_html_()), None)

    try_fields()


@bounded
@given(
    content=st.binary(max_size=60)
    | altered({"steps": {"01-scale": {"id": "01-scale", "tries": 1}}}).map(
        lambda v: json.dumps(v).encode()
    )
)
def test_a_broken_progress_costs_the_progress_only(
    tmp_path_factory: pytest.TempPathFactory, content: bytes
) -> None:
    home = tmp_path_factory.getbasetemp() / "home"
    home.mkdir(exist_ok=True)
    (home / "progress.json").write_bytes(content)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TRTLEARN_HOME", str(home))
        str(progress.load())
        assert progress.note("01-scale", True) == ""
        assert progress.load().steps["01-scale"].passed is True


DATA = Path(__file__).parent.parent / "data"
FLAT = (DATA / "ort132.flatbuffers").read_bytes()
ORT_JSON = json.loads((DATA / "ort132.json").read_text(encoding="utf-8"))
PROFILE = [{"count": 10}, *({"name": layer.name, "averageMs": 0.5} for layer in EXPERIMENT.engine.layers[:4])]  # fmt: skip
REPORT = {**EXPERIMENT.build.to_dict(), "log": "", "inspector": EXPERIMENT.engine.raw[:3000]}


@bounded
@given(damaged(FLAT), altered(ORT_JSON), damaged(CACHE))
def test_calibration_tables_of_other_kinds(flat: bytes, table: Any, cache: bytes) -> None:
    read(from_ort_flatbuffers, flat)
    read(from_ort_json, json.dumps(table))
    assert as_tensorrt_reads(cache).header is not None


@bounded
@given(altered(PROFILE) | anything)
def test_times_of_layers(profile: Any) -> None:
    times = read(lambda text: layer_times(EXPERIMENT.engine, text), json.dumps(profile))
    if times is not None:
        assert str(times).encode()


@bounded
@given(damaged(EXPERIMENT.build.log[-5000:].encode()))
def test_whole_logs(content: bytes) -> None:
    report = read_log(decode_text(content, "replace"))
    assert str(report).encode()
    assert report._repr_html_().encode()


@bounded
@given(
    damaged(ENGINE)
    | damaged(gzip.compress(json.dumps(LEAN).encode(), mtime=0))
    | altered(REPORT).map(lambda value: json.dumps(value).encode())
    | st.sampled_from(["utf-16", "utf-16-le", "utf-16-be", "utf-8-sig"]).map(
        EXPERIMENT.engine.raw.encode
    )
    | st.binary(max_size=40)
)
def test_files_of_engines(tmp_path_factory: pytest.TempPathFactory, content: bytes) -> None:
    path = tmp_path_factory.getbasetemp() / "engine"
    path.write_bytes(content)
    opened = read(open_engine, path)
    if opened is not None:
        assert str(getattr(opened[0], "engine", opened[0])).encode()


@bounded
@given(damaged((RECORDED.parent / "h200-8.6.0" / "arithmetic" / "relu.npz").read_bytes()))
def test_recorded_layers(tmp_path_factory: pytest.TempPathFactory, content: bytes) -> None:
    folder = tmp_path_factory.getbasetemp() / "arithmetic"
    folder.mkdir(exist_ok=True)
    (folder / "relu.npz").write_bytes(content)
    with mock.patch.object(files, "recording_folders", return_value=(folder.parent,)):
        read(lambda _: layer_case("relu"), None)


@settings(bounded, max_examples=MANY)
@given(st.text(max_size=12) | st.binary(max_size=12).map(os.fsdecode) | st.just("x" * 5000))
def test_paths(name: str) -> None:
    for reader in (read_cache, read_model, open_engine, load_build):
        read(reader, f"/nowhere/{name}")
    read(lambda path: load_arrays(path, ["image"]), f"/nowhere/{name}")
    read(lambda path: migrate("trtexec --int8", MODEL, CACHE_RECORD, path), f"/dev/null/{name}")
    read(lambda text: explain(f"trtexec --int8 --onnx={text} --calib={text}"), name)


@pytest.mark.parametrize(
    "shape", [(1 << 40,), (1 << 31, 1 << 31), (0, 1 << 62), (1 << 16, 1 << 16)]
)
def test_headers_of_arrays_that_promise_too_much(tmp_path: Path, shape: tuple[int, ...]) -> None:
    """A header is believed only where the file is as long as it says."""
    header = io.BytesIO()
    facts = {"descr": "<f4", "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(header, facts)
    (tmp_path / "x.npy").write_bytes(header.getvalue() + bytes(64))
    with zipfile.ZipFile(tmp_path / "x.npz", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("image.npy", header.getvalue() + bytes(64))
    for name in ("x.npy", "x.npz"):
        assert read(lambda path: load_arrays(path, ["image"]), tmp_path / name) is None


def test_an_array_that_nobody_asked_for_is_not_unpacked(tmp_path: Path) -> None:
    path = tmp_path / "x.npz"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in (("image", NPY), ("other", b"\0" * (64 << 20))):
            archive.writestr(f"{name}.npy", content)
    tracemalloc.start()
    assert load_arrays(path, ["image"])["image"].shape == (4, 2)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 8 << 20


def test_a_text_of_too_many_values_is_refused_before_it_is_parsed(tmp_path: Path) -> None:
    text = "[" + "[]," * 6_000_000 + "1]"
    packed = tmp_path / "x.json.gz"
    packed.write_bytes(gzip.compress(text.encode(), 1))
    tracemalloc.start()
    for reader in (Build.from_json, from_ranges_json, read_engine):
        assert read(reader, text) is None
    assert read(load_build, packed) is None
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 256 << 20
