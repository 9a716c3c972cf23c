"""Writing: only to regular files and new ones, through links, several together or none; reading:
files of a bounded size, and nothing that never ends.
"""

from __future__ import annotations

import os
import resource
import socket
import stat
import subprocess
import sys
from pathlib import Path

import pytest
from hostile import FILES

from trtlearn import files
from trtlearn.errors import CacheError, ModelError, TrtlearnError
from trtlearn.files import (
    check_writable,
    locked,
    read_bytes,
    shell_command,
    write_all,
    write_atomic,
)

ROOT = Path(__file__).parent.parent.parent
IS_ROOT = os.geteuid() == 0


def special(folder: Path, kind: str) -> Path:
    """A path in ``folder`` that is no regular file."""
    path = folder / kind
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "folder":
        path.mkdir()
    elif kind == "socket":
        socket.socket(socket.AF_UNIX).bind(str(path))
    elif kind == "loop":
        path.symlink_to(path)
    elif kind == "device":
        try:
            os.mknod(path, 0o600 | stat.S_IFCHR, os.makedev(1, 3))
        except PermissionError:
            pytest.skip("only root makes devices")
    return path


KINDS = ("pipe", "folder", "socket", "loop", "device")


@pytest.mark.parametrize("linked", [False, True])
@pytest.mark.parametrize("kind", KINDS)
def test_only_regular_files_are_written(tmp_path: Path, kind: str, linked: bool) -> None:
    place = target = special(tmp_path, kind)
    if linked:
        target = tmp_path / "link"
        target.symlink_to(place)
    before = os.lstat(place)
    for write in (lambda: write_atomic(target, "x"), lambda: check_writable(target)):
        with pytest.raises(TrtlearnError, match="cannot write") as caught:
            write()
        assert "\n" not in str(caught.value)
    after = os.lstat(place)
    assert (after.st_ino, after.st_mode) == (before.st_ino, before.st_mode)
    assert len(os.listdir(tmp_path)) == 1 + linked


@pytest.mark.parametrize("kind", KINDS)
def test_only_files_are_read(tmp_path: Path, kind: str) -> None:
    with pytest.raises(CacheError) as caught:
        read_bytes(special(tmp_path, kind), CacheError)
    assert "\n" not in str(caught.value)


NO_FILES = ("/dev/zero", "/dev/null", "a\0b", "a\0b/c", "x" * 5000, "\ud800", "\ud800/c")


@pytest.mark.parametrize("path", NO_FILES)
def test_what_is_no_file_is_one_line(path: str) -> None:
    for work in (
        lambda: read_bytes(path, CacheError),
        lambda: check_writable(path),
        lambda: write_atomic(path, "x"),
    ):
        with pytest.raises(TrtlearnError) as caught:
            work()
        assert str(caught.value).encode()
        assert "\n" not in str(caught.value)


def test_a_file_over_the_bound_is_not_read(tmp_path: Path) -> None:
    sparse = tmp_path / "sparse"
    with open(sparse, "wb") as file:
        file.truncate(1 << 40)
    with pytest.raises(ModelError, match="expected at most"):
        read_bytes(sparse, ModelError)
    assert read_bytes(sparse, ModelError, 4) == b"\0" * 4
    reading, writing = os.pipe()
    os.write(writing, b"x" * 100)
    os.close(writing)
    with pytest.raises(CacheError, match="over 50 bytes"):
        read_bytes(f"/dev/fd/{reading}", CacheError, most=50)
    os.close(reading)


def test_a_command_s_output_is_read() -> None:
    reading, writing = os.pipe()
    os.write(writing, b"TRT-8600-EntropyCalibration2\n")
    os.close(writing)
    assert read_bytes(f"/dev/fd/{reading}").startswith(b"TRT")
    os.close(reading)


@pytest.mark.parametrize("mode", [0o600, 0o640, 0o755])
def test_links_and_modes_stay(tmp_path: Path, mode: int) -> None:
    (tmp_path / "there").mkdir()
    real, link = tmp_path / "there" / "file", tmp_path / "link"
    real.write_text("old", encoding="utf-8")
    real.chmod(mode)
    link.symlink_to(Path("there") / "file")
    write_atomic(link, "new")
    assert link.is_symlink()
    assert real.read_text(encoding="utf-8") == "new"
    assert stat.S_IMODE(real.stat().st_mode) == mode
    dangling = tmp_path / "dangling"
    dangling.symlink_to(tmp_path / "there" / "fresh")
    write_atomic(dangling, "fresh")
    assert dangling.is_symlink()
    assert (tmp_path / "there" / "fresh").read_text(encoding="utf-8") == "fresh"


def test_a_new_file_has_the_mode_that_the_umask_leaves(tmp_path: Path) -> None:
    before = os.umask(0o027)
    try:
        write_atomic(tmp_path / "new", "x")
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "new").stat().st_mode) == 0o640


NOT_OURS = (
    *(".out.cache.20251128", ".out.cache.original", ".out.cache.abcdefgh", "trtlearn-part"),
    *(
        ".trtlearn-0123456789abcdef.part.mine",
        ".trtlearn-xyz.part",
        ".trtlearn-0123456789ABCDEF.part",
    ),
)


def test_only_our_own_scratch_files_are_swept(tmp_path: Path) -> None:
    ours = tmp_path / ".trtlearn-0123456789abcdef.part"
    for name in (*NOT_OURS, ours.name):
        (tmp_path / name).write_text(name, encoding="utf-8")
        os.utime(tmp_path / name, (0, 0))
    (tmp_path / ".trtlearn-0123456789abcdee.part").mkdir()
    write_atomic(tmp_path / "out.cache", "x")
    left = {*NOT_OURS, "out.cache", ".trtlearn-0123456789abcdee.part"}
    assert set(os.listdir(tmp_path)) == left


@pytest.mark.parametrize("fails_at", [1, 2, 3])
@pytest.mark.parametrize("problem", [OSError(28, "No space left on device"), KeyboardInterrupt()])
def test_several_files_are_written_together_or_not_at_all(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fails_at: int, problem: BaseException
) -> None:
    (tmp_path / "a").write_text("old", encoding="utf-8")
    real, count = os.replace, 0

    def replace(*paths: Path) -> None:
        nonlocal count
        count += 1
        if count == fails_at:
            raise problem
        real(*paths)

    new = {tmp_path / "b": "1", tmp_path / "a": "2", tmp_path / "c" / "d": "3"}
    monkeypatch.setattr(files.os, "replace", replace)
    with pytest.raises((TrtlearnError, KeyboardInterrupt)):
        write_all(new)
    assert [path.name for path in tmp_path.rglob("*")] == ["a"]
    assert (tmp_path / "a").read_text(encoding="utf-8") == "old"
    write_all(new)
    assert {path: path.read_text(encoding="utf-8") for path in new} == new
    assert len(list(tmp_path.rglob("*"))) == 4


FULL = """
import sys
from pathlib import Path
from trtlearn.errors import TrtlearnError
from trtlearn.files import write_all
folder = Path(sys.argv[1])
try:
    write_all({folder / "small": "x", folder / "new" / "large": "y" * 200_000, folder / "last": "z"})
except TrtlearnError as problem:
    print(problem)
"""


def test_a_full_disk_leaves_all_as_it_was(tmp_path: Path) -> None:
    (tmp_path / "small").write_text("old", encoding="utf-8")

    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))

    ran = subprocess.run(
        [sys.executable, "-c", FULL, str(tmp_path)],
        capture_output=True, text=True, encoding="utf-8", cwd=ROOT, preexec_fn=limit, check=True,
    )  # fmt: skip
    assert ran.stdout.startswith("cannot write")
    assert os.listdir(tmp_path) == ["small"]
    assert (tmp_path / "small").read_text(encoding="utf-8") == "old"


def test_two_names_of_one_file_are_refused(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(tmp_path / "file")
    with pytest.raises(TrtlearnError, match="written twice"):
        write_all({tmp_path / "file": "1", tmp_path / "link": "2"})
    assert os.listdir(tmp_path) == ["link"]


def test_a_lock_leaves_a_file_of_that_name_as_it_is(tmp_path: Path) -> None:
    (tmp_path / "x.lock").write_text("mine", encoding="utf-8")
    with locked(tmp_path / "x"):
        pass
    assert (tmp_path / "x.lock").read_text(encoding="utf-8") == "mine"
    with pytest.raises(TrtlearnError, match="cannot lock"), locked(tmp_path / "x.lock" / "y"):
        pass


@pytest.mark.skipif(IS_ROOT, reason="root may write everywhere")
def test_what_may_not_be_written_stays(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_text("old", encoding="utf-8")
    file.chmod(0o444)
    with pytest.raises(TrtlearnError, match="read-only"):
        write_atomic(file, "new")


@pytest.mark.parametrize("shell", ["sh", "bash"])
def test_a_command_is_read_as_it_was_meant(tmp_path: Path, shell: str) -> None:
    """Each hostile name in turn is handed to a program by the shell itself."""
    program = "import sys,os; print([os.fsencode(a) for a in sys.argv[1:]])"
    script = []
    for name in FILES:
        script.append(shell_command(sys.executable, "-c", program, name, Path(name)))
    text = "\n".join(script)
    assert not files.HIDDEN.search(text)
    ran = subprocess.run(
        [shell], input=text.encode(), capture_output=True, check=True, cwd=tmp_path
    )
    for name, line in zip(FILES, ran.stdout.decode().splitlines(), strict=True):
        path = os.fsencode(f"./{name}" if name.startswith("-") else name)
        assert line == str([os.fsencode(name), path])
    assert ran.stderr == b""
    assert os.listdir(tmp_path) == []


def test_a_current_folder_that_is_gone_is_one_clear_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "gone").mkdir()
    monkeypatch.chdir(tmp_path / "gone")
    (tmp_path / "gone").rmdir()
    for write in (check_writable, lambda path: write_atomic(path, "text")):
        with pytest.raises(
            TrtlearnError, match=r"cannot write x\.txt.* folder that you may write to"
        ):
            write("x.txt")
