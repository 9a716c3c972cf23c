"""Where the course's files lie, and how a file is written whole or not at all."""

from __future__ import annotations

import contextlib
import glob
import hashlib
import os
import re
import shlex
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

from .errors import TrtlearnError

__all__ = [
    "PLAN_STARTS",
    "KnownFile",
    "data_dir",
    "locked",
    "notebooks_dir",
    "plan_in",
    "read_bytes",
    "recognize",
    "sha256",
    "shell_command",
    "user_dir",
    "write_all",
    "write_atomic",
]

_PACKAGE = Path(__file__).resolve().parent
STALE_SECONDS = 600
PLAN_STARTS = (b"ptrt", b"ftrt")
"""How an engine plan begins."""


def _shared(name: str) -> Path:
    """The folder ``name`` beside the package in a checkout, or inside the package in an installed
    wheel.
    """
    checkout = _PACKAGE.parent
    folder = (
        checkout / name if (checkout / "pyproject.toml").is_file() else _PACKAGE / "_course" / name
    )
    if not folder.is_dir():
        raise TrtlearnError(f"the course's folder {folder} is missing", "install trtlearn again")
    return folder


def data_dir() -> Path:
    """The folder with models, images and recordings."""
    return _shared("data")


def notebooks_dir() -> Path:
    """The folder with the course's notebooks."""
    return _shared("notebooks")


def user_dir() -> Path:
    """The reader's own folder: ``$TRTLEARN_HOME``, or trtlearn/ in the XDG data folder (may not
    exist yet).
    """
    if home := os.environ.get("TRTLEARN_HOME"):
        return Path(home)
    return Path(os.environ.get("XDG_DATA_HOME") or Path.home() / ".local" / "share") / "trtlearn"


def read_bytes(
    path: str | os.PathLike[str], error: type[TrtlearnError] = TrtlearnError, count: int = -1
) -> bytes:
    """The file's bytes, or its first ``count``; ``error`` with one clear line where it cannot be
    read.
    """
    try:
        with open(path, "rb") as file:
            return file.read(count)
    except FileNotFoundError:
        raise error(f"no such file: {path}", "check the path") from None
    except IsADirectoryError:
        raise error(f"{path} is a folder, expected a file", "name a file inside it") from None
    except OSError as problem:
        raise error(
            f"cannot read {str(path)[:300]}: {problem.strerror}", "check its permissions"
        ) from None


class KnownFile(NamedTuple):
    """What a file is, recognized by its first bytes."""

    kind: str
    words: str
    fix: str


_TORCH = (
    "export the network to ONNX in Python (torch.onnx.export; Ultralytics: yolo export format=onnx)"
)
_KNOWN = (
    (
        re.compile(rb"version https://(?:git-lfs|hawser)\.github\.com/spec/"),
        KnownFile(
            "git-lfs",
            "a pointer of Git LFS, not the file itself",
            "run `git lfs pull` in its repository, or download the file itself",
        ),
    ),
    (
        re.compile(
            rb"(?:\xef\xbb\xbf)?\s*<(?:!doctype|html|head|!--|\?xml[^>]*>\s*<(?:!doctype )?html)",
            re.I,
        ),
        KnownFile(
            "web-page",
            "a web page, not the file that it links to",
            "download the file itself (on GitHub and Hugging Face: the page's raw or resolve link)",
        ),
    ),
    (
        re.compile(
            rb"PK\x03\x04.{0,1024}?data\.pkl|\x80[\x02-\x05].{0,400}?(?:torch|ctorch|\x8a\nl\xfc\x9cF)",
            re.S,
        ),
        KnownFile("torch", "a PyTorch file (.pt or .pth)", _TORCH),
    ),
    (
        re.compile(rb"\x89HDF\r\n"),
        KnownFile("hdf5", "an HDF5 file, such as Keras writes", "export it with tf2onnx"),
    ),
    (
        re.compile(rb".{4}TFL3", re.S),
        KnownFile("tflite", "a TensorFlow Lite model", "convert it with tf2onnx --tflite"),
    ),
    (
        re.compile(rb".{8}\{\s*\"", re.S),
        KnownFile("safetensors", "a safetensors file: weights without a network", _TORCH),
    ),
    (
        re.compile(rb"[pf]trt|.{2}\x00\x00\{[^\x00]*[pf]trt", re.S),
        KnownFile(
            "plan",
            "an engine plan, which only the TensorRT that built it reads",
            "give the ONNX file that it was built from",
        ),
    ),
    (
        re.compile(rb"PK\x03\x04|\x1f\x8b|7z\xbc\xaf|BZh|\xfd7zXZ"),
        KnownFile("archive", "a compressed archive", "unpack it first"),
    ),
    (
        re.compile(rb"\x93NUMPY"),
        KnownFile("numpy", "a numpy array (.npy)", "check the order of the files"),
    ),
    (
        re.compile(rb"TRT-\d+-[A-Z]"),
        KnownFile("cache", "a TensorRT calibration cache", "check the order of the files"),
    ),
    (
        re.compile(rb"<\?xml[^>]*>\s*<net "),
        KnownFile("openvino", "an OpenVINO model", "take the ONNX file that it was made from"),
    ),
    (
        re.compile(rb"(?:\xef\xbb\xbf)?\s*[{\[]\s*[\"{\[\]}]"),
        KnownFile("json", "JSON text", "check the order of the files"),
    ),
)


def recognize(content: bytes) -> KnownFile | None:
    """What the bytes are, whatever the file is called; None where they are of no known kind.

    >>> recognize(b"version https://git-lfs.github.com/spec/v1").kind
    'git-lfs'
    """
    head = content[:65536]
    return next((known for pattern, known in _KNOWN if pattern.match(head)), None)


def plan_in(content: bytes) -> bytes:
    """The engine plan in a file: Ultralytics writes a length of 4 bytes and JSON before it."""
    length = int.from_bytes(content[:4], "little")
    behind = content[4 + length :]
    if content[4:5] == b"{" and behind[:4] in PLAN_STARTS:
        return behind
    return content


def write_atomic(path: str | os.PathLike[str], content: bytes | str) -> Path:
    """Write ``content`` beside ``path`` and rename it into place, so that no reader ever sees half
    a file.

    A program that is killed in between leaves a file ".NAME.????????"; the next one that writes
    there removes it.
    """
    target = Path(path)
    write_all({target: content})
    return target


def write_all(contents: Mapping[Path, bytes | str]) -> None:
    """Write several files, all or none: each beside its place first, then every one is renamed into
    it.
    """
    written: dict[Path, str] = {}
    target = Path()
    try:
        for target, content in contents.items():
            target.parent.mkdir(parents=True, exist_ok=True)
            _remove_stale(target)
            handle, written[target] = tempfile.mkstemp(dir=target.parent, prefix=f".{target.name}.")
            with os.fdopen(handle, "wb") as file:
                file.write(content.encode() if isinstance(content, str) else content)
                file.flush()
                os.fsync(file.fileno())
            mask = os.umask(0)
            os.umask(mask)
            os.chmod(written[target], 0o666 & ~mask)
        for target in contents:
            os.replace(written[target], target)
    except OSError as problem:
        raise TrtlearnError(
            f"cannot write {target}: {problem.strerror}",
            "choose a folder that you may write to, with free space",
        ) from None
    finally:
        for scratch in written.values():
            with contextlib.suppress(FileNotFoundError):
                os.unlink(scratch)


def _remove_stale(target: Path) -> None:
    """Remove what killed programs left beside ``target``."""
    for old in glob.glob(f"{glob.escape(str(target.parent / f'.{target.name}'))}.????????"):
        with contextlib.suppress(OSError):
            if time.time() - os.stat(old).st_mtime > STALE_SECONDS:
                os.unlink(old)


@contextlib.contextmanager
def locked(
    path: str | os.PathLike[str], waiting: Callable[[], None] | None = None
) -> Iterator[None]:
    """Only one program at a time changes ``path`` between here and the end: others wait.

    ``waiting`` is called once where another program has the lock. A file "NAME.lock" beside it
    holds the lock (POSIX; on Windows the last writer wins).
    """
    try:
        import fcntl
    except ImportError:
        yield
        return
    target = Path(path)
    target.parent.mkdir(parents=True, exist_ok=True)
    with open(target.with_name(f"{target.name}.lock"), "w", encoding="utf-8") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if waiting is not None:
                waiting()
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def sha256(content: bytes | str | os.PathLike[str]) -> str:
    """The SHA-256 of bytes, or of the file at a path, as 64 hex digits."""
    return hashlib.sha256(
        content if isinstance(content, bytes) else read_bytes(content)
    ).hexdigest()


def shell_command(*words: str | os.PathLike[str]) -> str:
    """A command line to paste into a POSIX shell, which reads each of ``words`` as it is.

    A word given as a Path is a file: "./" stands before a name that begins with "-", so that no
    program takes it for an option.

    >>> print(shell_command("trtlearn", "cache", "show", Path("$(date) it's.cache")))
    trtlearn cache show '$(date) it'"'"'s.cache'
    >>> shell_command("cat", Path("-n"))
    'cat ./-n'
    """

    def text(word: str | os.PathLike[str]) -> str:
        is_file = not isinstance(word, str)
        return f"./{word}" if is_file and str(word).startswith("-") else os.fspath(word)

    return shlex.join(map(text, words))
