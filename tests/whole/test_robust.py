"""Several programs at once, programs that die in the middle, and files that must not be
executed.
"""

from __future__ import annotations

import ast
import gzip
import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from recording.saving import save_build
from trtlearn import files
from trtlearn.course import progress
from trtlearn.engine.records import BuildOptions
from trtlearn.errors import ModelError, TrtlearnError
from trtlearn.files import write_atomic
from trtlearn.live.build import build_engine
from trtlearn.model.read import read_model
from trtlearn.recorded.files import folder_with, load_build

ROOT = Path(__file__).parent.parent.parent
PACKAGE = Path(files.__file__).parent
RECORDING = folder_with("resnet") / "resnet" / "fp32.json.gz"
FORBIDDEN = {"pickle", "cPickle", "dill", "cloudpickle", "joblib", "marshal", "shelve"}


def calls(tree: ast.AST) -> list[tuple[str, ast.Call]]:
    return [(ast.unparse(node.func), node) for node in ast.walk(tree) if isinstance(node, ast.Call)]


PROGRAMS = [ROOT / "recording", ROOT / "tools"]  # absent where only the wheel is installed
FILES = [path for folder in (PACKAGE, *PROGRAMS) for path in sorted(folder.rglob("*.py"))]


@pytest.mark.parametrize("path", FILES, ids=lambda path: "/".join(path.parts[-2:]))
def test_nothing_is_unpickled_or_executed(path: Path) -> None:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    for node in ast.walk(tree):
        names = [one.name for one in node.names] if isinstance(node, ast.Import) else []
        names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
        assert not FORBIDDEN & {name.split(".")[0] for name in names}
    for name, call in calls(tree):
        assert name not in ("eval", "exec", "os.system", "yaml.load", "torch.load"), (
            f"line {call.lineno}"
        )
        given = {one.arg: ast.unparse(one.value) for one in call.keywords}
        assert given.get("shell", "False") == "False", f"line {call.lineno}"
        assert given.get("allow_pickle", "False") == "False", f"line {call.lineno}"
        if path.is_relative_to(PACKAGE) and name in ("np.load", "numpy.load"):
            assert given.get("allow_pickle") == "False", (
                f"line {call.lineno}: say allow_pickle=False"
            )


def test_a_pickled_array_is_refused(tmp_path: Path) -> None:
    import numpy as np

    from trtlearn.model.data import load_arrays

    trap = tmp_path / "ran"

    class Trap:
        def __reduce__(self) -> Any:
            return (os.mkdir, (str(trap),))

    np.save(tmp_path / "data.npy", np.array([Trap()], object), allow_pickle=True)
    with pytest.raises(TrtlearnError):
        load_arrays(tmp_path / "data.npy", ["image"])
    assert not trap.exists()


@pytest.mark.parametrize("location", ["../weights.bin", "/etc/hostname", "sub/../../weights.bin"])
def test_external_data_outside_the_model_s_folder_is_refused(tmp_path: Path, location: str) -> None:
    import onnx

    (tmp_path / "weights.bin").write_bytes(bytes(64))
    folder = tmp_path / "model"
    folder.mkdir()
    tensor = onnx.TensorProto(name="w", data_type=onnx.TensorProto.FLOAT, dims=[16])
    tensor.data_location = onnx.TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value=location)
    value = onnx.helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, [16])
    out = onnx.helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, [16])
    graph = onnx.helper.make_graph(
        [onnx.helper.make_node("Add", ["x", "w"], ["y"])], "g", [value], [out], [tensor]
    )
    (folder / "m.onnx").write_bytes(onnx.helper.make_model(graph).SerializeToString())
    with pytest.raises(ModelError):
        read_model(folder / "m.onnx")


WRITER = """
import os, signal, sys, time
from trtlearn import files
signal.signal(signal.SIGINT, signal.default_int_handler)  # a background job may ignore it
real = os.{stop}
def stop(*args, **named):
    print("now", flush=True)
    for _ in range(600):  # a signal between two lines does not wake a sleep that begins after it
        time.sleep(0.1)
os.{stop} = stop
files.write_atomic(sys.argv[1], "new " * 1_000_000)
"""


@pytest.mark.parametrize("stop", ["fsync", "chmod", "replace"])
@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_a_program_killed_while_it_writes_leaves_the_old_file_whole(
    tmp_path: Path, stop: str, how: signal.Signals
) -> None:
    """What a restarted kernel does to its process: it dies anywhere in write_atomic."""
    target = tmp_path / "file.json"
    target.write_text("old")
    program = [sys.executable, "-c", WRITER.format(stop=stop), str(target)]
    with subprocess.Popen(
        program, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, cwd=ROOT, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "now\n"
        process.send_signal(how)
        process.wait(20)
    assert target.read_text() == "old"
    left = [path.name for path in tmp_path.iterdir() if path != target]
    assert how != signal.SIGINT or left == []  # Python cleans up after Ctrl-C
    assert all(re.fullmatch(r"\.trtlearn-[0-9a-f]{16}\.part", name) for name in left)
    for name in left:
        os.utime(tmp_path / name, (0, 0))
    write_atomic(target, "newer")
    assert target.read_text() == "newer"
    assert list(tmp_path.iterdir()) == [target]  # what the dead left is gone


def test_readers_never_see_half_a_file(tmp_path: Path) -> None:
    target, stop = tmp_path / "file", threading.Event()
    wholes = [bytes([letter]) * 200_000 for letter in b"abc"]
    write_atomic(target, wholes[0])

    def write(content: bytes) -> None:
        while not stop.is_set():
            write_atomic(target, content)

    writers = [threading.Thread(target=write, args=(content,)) for content in wholes]
    for writer in writers:
        writer.start()
    seen = [target.read_bytes() for _ in range(200)]
    stop.set()
    for writer in writers:
        writer.join()
    assert all(content in wholes for content in seen)
    assert os.listdir(tmp_path) == ["file"]


NOTE = """
import sys
from trtlearn.course import progress
for n in range(15):
    assert not progress.note(f"{sys.argv[1]}-{n}", True)
"""
SAVE = """
import sys
from pathlib import Path
from recording.saving import save_build
from trtlearn.recorded.files import load_build
one = load_build(sys.argv[1])
for _ in range(3):
    save_build(Path(sys.argv[2]), one)
    load_build(sys.argv[1])
"""


def test_notebooks_that_note_at_once_lose_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TRTLEARN_HOME", str(tmp_path))
    programs = [subprocess.Popen([sys.executable, "-c", NOTE, f"0{n}"], cwd=ROOT) for n in range(4)]
    assert [program.wait(60) for program in programs] == [0] * 4
    assert len(progress.load().steps) == 60


def test_recordings_written_and_read_by_several_programs(tmp_path: Path) -> None:
    one = load_build(RECORDING)
    path = save_build(tmp_path, one)
    programs = [
        subprocess.Popen([sys.executable, "-c", SAVE, path, tmp_path], cwd=ROOT) for _ in range(3)
    ]
    while any(program.poll() is None for program in programs):
        json.loads(gzip.decompress(path.read_bytes()))
    assert [program.returncode for program in programs] == [0] * 3
    assert load_build(path) == one
    assert [file for file in tmp_path.rglob("*") if file.is_file()] == [path]


def test_commands_side_by_side_agree(tmp_path: Path) -> None:
    cache = RECORDING.with_name("int8-entropy2.cache")
    command = [sys.executable, "-m", "trtlearn", "cache", "show", str(cache), "--json"]
    programs = [subprocess.Popen(command, stdout=subprocess.PIPE, cwd=ROOT) for _ in range(3)]
    answers = [program.communicate(timeout=60)[0] for program in programs]
    assert len(set(answers)) == 1
    assert json.loads(answers[0])["tensors"]


def test_builds_at_once_share_a_timing_cache(fake: dict[str, Any], tmp_path: Path) -> None:
    """Each adds what it learned under a lock: the file is whole at every moment and none of them is
    lost.
    """
    shared, failed = tmp_path / "timing.cache", []

    def build() -> None:
        try:
            build_engine(b"onnx", BuildOptions(), timing_cache=shared)
        except BaseException as problem:
            failed.append(problem)

    build()  # Ctrl-C can be watched for in the main thread only: this one shows that it is
    first = shared.read_bytes()
    threads = [threading.Thread(target=build) for _ in range(4)]
    for thread in threads:
        thread.start()
    while any(thread.is_alive() for thread in threads):
        assert shared.read_bytes()
        time.sleep(0.001)
    assert failed == []
    assert first
    assert {path.name for path in tmp_path.iterdir()} == {"timing.cache", "timing.cache.lock"}
