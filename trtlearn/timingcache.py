"""Timing caches: the builder's memory of how fast each kernel was, shared safely by several programs."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from .errors import BuildError
from .paths import read_bytes, write_atomic
from .trt import trt

__all__ = ["attach", "load", "merge_into", "taken"]


def load(source: bytes | str | os.PathLike[str] | None) -> bytes:
    """A timing cache's bytes: those given, a file's (none where it does not exist yet), or none."""
    if source is None or isinstance(source, bytes):
        return source or b""
    return read_bytes(source, BuildError) if Path(source).exists() else b""


def attach(config: trt.IBuilderConfig, content: bytes) -> None:
    """Give the builder's config a timing cache that starts from ``content`` (empty: from nothing).

    A cache of another GPU or TensorRT version is refused by TensorRT with a warning, and the build goes on.
    """
    cache: Any = config.create_timing_cache(content)  # None where TensorRT refuses it
    if cache is None or not config.set_timing_cache(cache, False):
        config.set_timing_cache(config.create_timing_cache(b""), False)


def taken(config: trt.IBuilderConfig) -> bytes | None:
    """The timing cache after a build, serialized; None where the builder keeps none."""
    cache = config.get_timing_cache()
    held = None if cache is None else cache.serialize()
    return None if held is None else bytes(held)


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Only one program at a time between here and the end (POSIX; elsewhere the last writer wins)."""
    try:
        import fcntl
    except ImportError:
        yield
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path.with_name(path.name + ".lock"), "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def merge_into(path: str | os.PathLike[str], config: trt.IBuilderConfig) -> None:
    """Add what this build learned to the file, keeping what other programs wrote there meanwhile."""
    target = Path(path)
    ours: Any = config.get_timing_cache()
    if ours is None:
        return
    try:
        with _locked(target):
            others: Any = config.create_timing_cache(target.read_bytes()) if target.exists() else None
            if others is not None:
                ours.combine(others, False)
            write_atomic(target, bytes(ours.serialize()))
    except OSError as problem:
        raise BuildError(
            f"cannot write the timing cache {target}: {problem.strerror}", "name a file in a folder you may write to"
        ) from None
