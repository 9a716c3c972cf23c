"""Where files lie, ours and the course's, and how a file is written whole or not at all."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import os
import re
import secrets
import shlex
import stat
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import cache
from itertools import chain
from pathlib import Path
from typing import Any, NamedTuple

from .errors import HIDDEN, TrtlearnError, first_line

__all__ = [
    "HEAD_BYTES",
    "check_writable",
    "data_dir",
    "decode_text",
    "is_same_file",
    "load_table",
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
MOST_BYTES = 2**31 - 1
"""The largest file read whole: protobuf's own limit for one message."""
HASHED_BYTES = 1 << 20  # of a file, at a time
HEAD_BYTES = 1 << 16  # of a file, by which it is recognized
_SCRATCH = re.compile(r"\.trtlearn-[0-9a-f]{16}\.part")
_NONBLOCK, _BINARY = getattr(os, "O_NONBLOCK", 0), getattr(os, "O_BINARY", 0)
PLAN_STARTS = (b"ptrt", b"ftrt")
"""How an engine plan begins."""
TEXT_KINDS = ("git-lfs", "web-page", "cache", "openvino", "json")
"""Of the kinds in known_files.json those whose files another kind may replace."""


@cache
def load_table(name: str) -> Any:
    """What the data file tables/NAME.json holds."""
    return json.loads((_PACKAGE / "tables" / f"{name}.json").read_text(encoding="utf-8"))


def _shared(name: str) -> Path:
    """The folder ``name`` beside the package in a checkout, or inside an installed package."""
    is_checkout = (_PACKAGE.parent / "pyproject.toml").is_file()
    folder = (_PACKAGE.parent if is_checkout else _PACKAGE / "_course") / name
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
    """The reader's own folder, which may not exist yet: ``$TRTLEARN_HOME``, or trtlearn/ in the XDG
    data folder. TrtlearnError where this user has no home folder.
    """
    if home := os.environ.get("TRTLEARN_HOME"):
        return Path(home)
    try:
        shared = os.environ.get("XDG_DATA_HOME") or Path.home() / ".local" / "share"
    except RuntimeError:  # no HOME and no entry in passwd, as in docker run --user
        raise TrtlearnError("this user has no home folder", "set TRTLEARN_HOME to one") from None
    return Path(shared) / "trtlearn"


def check_path(path: object, error: type[TrtlearnError] = TrtlearnError) -> None:
    """``error`` where ``path`` is no path."""
    if not isinstance(path, (str, os.PathLike)):
        raise error(f"a path is expected, found a {type(path).__name__}", "name a file")


def read_bytes(
    path: str | int | os.PathLike[str],
    error: type[TrtlearnError] = TrtlearnError,
    count: int = -1,
    most: int = MOST_BYTES,
) -> bytes:
    """The bytes of a file, or its first ``count``; ``error`` where it cannot be read.

    Read are regular files, pipes (as ``<(command)`` gives) and standard input (``path`` 0) of at
    most ``most`` bytes; a folder, a device and a pipe that nothing writes to are refused.
    """
    is_stdin = type(path) is int and path == 0  # open() takes any descriptor
    if not is_stdin:
        check_path(path, error)
    name = "standard input" if is_stdin else str(path)[:300]
    try:
        flags = os.O_RDONLY | _NONBLOCK | _BINARY
        handle = os.dup(path) if isinstance(path, int) else os.open(path, flags)
        with open(handle, "rb") as file:
            mode, size = os.fstat(handle).st_mode, os.fstat(handle).st_size
            if stat.S_ISDIR(mode):
                raise IsADirectoryError
            if not (stat.S_ISREG(mode) or stat.S_ISFIFO(mode) or os.isatty(handle)):
                raise error(f"{name} is {_kind(mode)}, expected a file", "name a file")
            if _NONBLOCK:
                os.set_blocking(handle, True)
            content = file.read(count) if count >= 0 else b""
            if count < 0 and size <= most:
                content = file.read(-1 if stat.S_ISREG(mode) and size else most + 1)
    except FileNotFoundError:
        raise error(f"no such file: {name}", "check the path") from None
    except IsADirectoryError:
        raise error(f"{name} is a folder, expected a file", "name a file inside it") from None
    except (OSError, ValueError) as problem:  # ValueError: a NUL or half a character in the path
        reason = getattr(problem, "strerror", None) or first_line(problem)
        raise error(f"cannot read {name}: {reason}", "check its path and permissions") from None
    except MemoryError:
        raise error(f"{name} does not fit into memory", "take a smaller file") from None
    if count < 0 and max(size, len(content)) > most:
        raise error(f"{name} has over {most:,} bytes, expected at most that", "take a smaller file")
    if stat.S_ISFIFO(mode) and not content:
        raise error(f"{name} is a pipe that nothing writes to", "name a file")
    return content


def decode_text(content: bytes, errors: str = "strict") -> str:
    """The text in ``content``: UTF-8, or UTF-16 as PowerShell's ">" writes it, with or without a
    byte order mark. UnicodeDecodeError where it is neither and ``errors`` is strict.

    >>> decode_text('{"a": 1}'.encode("utf-16-le")), decode_text(b"\\xef\\xbb\\xbfx")
    ('{"a": 1}', 'x')
    """
    if content[:2] in (b"\xff\xfe", b"\xfe\xff"):
        return content.decode("utf-16", errors)
    if re.match(rb"[\t\n\r -~]\0[\t\n\r -~]\0", content):
        return content.decode("utf-16-le", errors)
    if re.match(rb"\0[\t\n\r -~]\0[\t\n\r -~]", content):
        return content.decode("utf-16-be", errors)
    return content.decode("utf-8-sig", errors)


def is_same_file(one: str | os.PathLike[str], other: str | os.PathLike[str]) -> bool:
    """Whether two paths lead to the same place, which may not be there yet."""
    try:
        return os.path.realpath(one) == os.path.realpath(other)
    except (OSError, ValueError):
        return False


def _kind(mode: int) -> str:
    """What a path leads to that is no regular file."""
    kinds = {stat.S_IFDIR: "a folder", stat.S_IFIFO: "a pipe", stat.S_IFSOCK: "a socket"}
    return kinds.get(stat.S_IFMT(mode), "a device")


class KnownFile(NamedTuple):
    """What a file is, recognized by its first bytes."""

    kind: str
    words: str
    fix: str


@cache
def _known_files() -> list[tuple[re.Pattern[bytes], KnownFile]]:
    """How files of each kind begin, as tables/known_files.json says; the first that fits counts."""
    rows = map(dict, load_table("known_files"))
    return [(re.compile(row.pop("begins").encode()), KnownFile(**row)) for row in rows]


def recognize(content: bytes) -> KnownFile | None:
    """What the bytes are, whatever the file is called; None where they are of no known kind.

    >>> recognize(b"version https://git-lfs.github.com/spec/v1").kind
    'git-lfs'
    """
    head = content[:HEAD_BYTES]
    return next((known for pattern, known in _known_files() if pattern.match(head)), None)


def plan_in(content: bytes) -> bytes:
    """The engine plan in a file: Ultralytics writes a length of 4 bytes and JSON before it."""
    length = int.from_bytes(content[:4], "little")
    behind = content[4 + length :]
    if content[4:5] == b"{" and behind[:4] in PLAN_STARTS:
        return behind
    return content


Content = bytes | str | Iterable[bytes]
"""What a file is to hold: whole, or in pieces."""


def write_atomic(path: str | os.PathLike[str], content: Content) -> Path:
    """Write ``content`` beside ``path`` and rename it into place, so that no reader ever sees half
    a file. See :func:`write_all`.
    """
    check_path(path)
    target = Path(path)
    write_all({target: content})
    return target


def write_all(contents: Mapping[Path, Content]) -> None:
    """Write several files, all or none: each beside its place first, then every one is renamed into
    it; where a rename fails, the files before it come back.

    Written are new files and regular ones, through links; a file keeps its mode and owner. Folders
    are made as needed. TrtlearnError for a folder, a device, a pipe, a file that may not be
    changed, and a model, an array, an engine that another kind of file would replace. A program
    that is killed in between leaves a file ".trtlearn-????????????????.part"; the next one that
    writes into that folder removes it after ten minutes.
    """
    scratches: dict[Path, Path] = {}
    saved: dict[Path, Path] = {}
    new: list[Path] = []
    folders: list[Path] = []
    target, whole = Path(), False
    try:
        for target, content in contents.items():
            _check_folders(target)
            folders += _missing_folders(target.parent)
            target.parent.mkdir(parents=True, exist_ok=True)
            text = content.encode() if isinstance(content, str) else content
            pieces = iter([text] if isinstance(text, bytes) else text)
            first = next(pieces, b"")
            place, before = _place(target, content if isinstance(content, str) else first)
            if place in scratches:
                raise TrtlearnError(
                    f"{target} is written twice: another name leads to the same file",
                    "choose another folder",
                )
            _remove_stale(place.parent)
            scratches[place] = scratch = _scratch(place)
            _write_new(scratch, chain([first], pieces), before)
        for place, scratch in scratches.items():
            if len(scratches) > 1 and place.exists():
                saved[place] = _scratch(place)
                _second_name(place, saved[place])
            elif not place.exists():
                new.append(place)
            os.replace(scratch, place)
        whole = True
    except (OSError, ValueError) as problem:
        reason = getattr(problem, "strerror", None) or first_line(problem)
        fix = "choose a folder that you may write to, with free space"
        raise TrtlearnError(f"cannot write {target}: {reason}", fix) from None
    finally:
        for place, old in () if whole else saved.items():
            with contextlib.suppress(OSError):
                os.replace(old, place)
        for leftover in (*scratches.values(), *saved.values(), *(() if whole else new)):
            with contextlib.suppress(OSError):
                os.unlink(leftover)
        for folder in () if whole else folders:
            with contextlib.suppress(OSError, ValueError):  # ValueError: a name with a zero byte
                folder.rmdir()


def _missing_folders(folder: Path) -> list[Path]:
    """Those of ``folder`` and the folders around it that are not there, the innermost first."""
    return [one for one in (folder, *folder.parents) if not os.path.lexists(one)]


def _check_folders(target: Path) -> None:
    """TrtlearnError where a file stands in the place of a folder around ``target``."""
    if found := next(filter(os.path.isfile, target.parents), None):
        problem = f"cannot write {target}: {found} is a file, expected a folder"
        raise TrtlearnError(problem, "name another folder, or one that is not there yet")


def check_writable(path: str | os.PathLike[str], content: str | None = None) -> None:
    """TrtlearnError where ``path``, or text there, cannot be written: said before long work."""
    check_path(path)
    _check_folders(Path(path))
    try:
        folder = Path(path).absolute().parent  # OSError where the current folder is gone
        _place(Path(path), content)
        while not os.path.lexists(folder):
            folder = folder.parent
        is_open = folder.is_dir() and os.access(folder, os.W_OK)
    except (OSError, ValueError):
        is_open = False
    if not is_open:
        fix = "name a file in a folder that you may write to"
        raise TrtlearnError(f"cannot write {path}", fix)


def _place(target: Path, content: bytes | str | None) -> tuple[Path, os.stat_result | None]:
    """Where ``target`` leads through links, and the regular file there now, if there is one.

    A slip in a file's name must not cost a model or data: TrtlearnError where a binary file stands
    there and ``content`` is of another kind.
    """
    try:
        before = os.stat(target)
    except FileNotFoundError:
        return Path(os.path.realpath(target)), None
    if not stat.S_ISREG(before.st_mode):
        problem = f"cannot write {target}: it is {_kind(before.st_mode)}, expected a file"
        raise TrtlearnError(problem, "name a new file, or one to replace")
    if not os.access(target, os.W_OK):
        raise PermissionError(errno.EACCES, "the file is read-only")
    head = b"" if content is None else read_bytes(target, count=HEAD_BYTES)
    old = recognize(head)
    is_binary = old.kind not in TEXT_KINDS if old else "\0" in decode_text(head, "replace")
    if is_binary and (not isinstance(content, bytes) or old != recognize(content)):
        what = old.words if old else "a binary file"
        raise TrtlearnError(f"{target} is {what}, which stays as it is", "name another file")
    return Path(os.path.realpath(target)), before


def _scratch(place: Path) -> Path:
    """A new name beside ``place``."""
    return place.with_name(f".trtlearn-{secrets.token_hex(8)}.part")


def _write_new(scratch: Path, pieces: Iterable[bytes], before: os.stat_result | None) -> None:
    """Write the file ``scratch`` to the disk, with the mode and owner of the file ``before`` it."""
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | _BINARY
    with open(os.open(scratch, flags, 0o666 if before is None else 0o600), "wb") as file:
        file.writelines(pieces)
        file.flush()
        os.fsync(file.fileno())
    if before is not None:
        with contextlib.suppress(OSError, AttributeError):  # not the owner; Windows
            os.chown(scratch, before.st_uid, before.st_gid)
        os.chmod(scratch, stat.S_IMODE(before.st_mode))


def _second_name(place: Path, name: Path) -> None:
    """Keep the file at ``place`` under ``name`` too; where a disk has no links, under it only."""
    try:
        os.link(place, name)
    except OSError:
        os.replace(place, name)


def _remove_stale(folder: Path) -> None:
    """Remove what killed programs left in ``folder``."""
    with contextlib.suppress(OSError):
        for old in os.scandir(folder):
            facts = old.stat(follow_symlinks=False)
            is_ours = _SCRATCH.fullmatch(old.name) and stat.S_ISREG(facts.st_mode)
            if is_ours and time.time() - facts.st_mtime > STALE_SECONDS:
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
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        handle = os.open(target.with_name(f"{target.name}.lock"), os.O_RDWR | os.O_CREAT, 0o666)
    except (OSError, ValueError) as problem:
        reason = getattr(problem, "strerror", None) or first_line(problem)
        fix = "choose a folder that you may write to"
        raise TrtlearnError(f"cannot lock {target}: {reason}", fix) from None
    with open(handle, "r+b", buffering=0):
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if waiting is not None:
                waiting()
            fcntl.flock(handle, fcntl.LOCK_EX)
        yield


def sha256(content: bytes | str | os.PathLike[str]) -> str:
    """The SHA-256 of bytes, or of the file at a path, as 64 hex digits."""
    digest = hashlib.sha256(content if isinstance(content, bytes) else b"")
    if not isinstance(content, bytes):
        read_bytes(content, count=1)  # one clear line where it cannot be read
        with open(content, "rb") as file:
            while block := file.read(HASHED_BYTES):
                digest.update(block)
    return digest.hexdigest()


def shell_command(*words: str | os.PathLike[str]) -> str:
    """A command line to paste into a POSIX shell, which reads each of ``words`` as it is.

    Control characters and bytes that are not UTF-8 are spelled out; a newline stays.
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

    return " ".join(_quoted(text(word)) for word in words)


def _quoted(word: str) -> str:
    """One word for a POSIX shell: what no terminal shows as itself is spelled by ``printf``."""
    parts = HIDDEN.split(word)
    if len(parts) == 1:
        return shlex.quote(word)
    shown = [shlex.quote(part) if part else "" for part in parts]
    for index in range(1, len(parts), 2):
        octal = "".join(f"\\{byte:03o}" for byte in parts[index].encode("utf-8", "surrogateescape"))
        shown[index] = f"\"$(printf '{octal}')\""
    return "".join(shown)
