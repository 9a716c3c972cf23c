"""``trtlearn lab``: the course in JupyterLab.

In a checkout it opens in place, from an installed wheel as the reader's own copy.
"""

from __future__ import annotations

import importlib.util
import os
import sys
from pathlib import Path

from ..errors import BuildError, LiveUnavailable, TrtlearnError
from ..files import notebooks_dir, read_bytes, write_atomic
from ..record import plural
from .base import say
from .live import make_builds, minutes, pending

__all__ = ["course_folder", "lab_command", "open_lab"]


def course_folder(folder: str | os.PathLike[str] | None = None) -> Path:
    """The folder to open: a checkout's own notebooks, else a copy in ``folder``.

    Without ``folder`` the copy goes to ./trtlearn-course.
    Files that are there already are the reader's and stay as they are.
    """
    source = notebooks_dir()
    if folder is None and source.parent.name != "_course":
        return source
    target = Path(folder or "trtlearn-course").absolute()
    for path in sorted(source.rglob("*")):
        copy = target / path.relative_to(source)
        if path.is_file() and not copy.exists() and ".ipynb_checkpoints" not in path.parts:
            write_atomic(copy, read_bytes(path))
    return target


def lab_command(folder: Path, *, browser: bool = True, port: int | None = None) -> list[str]:
    """The command that opens the first notebook of ``folder``.

    >>> lab_command(Path("/nowhere"))
    Traceback (most recent call last):
    trtlearn.errors.TrtlearnError: no notebook in /nowhere. Try: name another --dir
    """
    notebooks = sorted(folder.glob("[0-9]*.ipynb"))
    if not notebooks:
        raise TrtlearnError(f"no notebook in {folder}", "name another --dir")
    command = [
        *(sys.executable, "-m", "jupyterlab", "--log-level=WARN"),
        f"--ServerApp.root_dir={folder}",
        f"--LabApp.default_url=/lab/tree/{notebooks[0].name}",
    ]
    command += [] if browser else ["--no-browser"]
    command += [] if port is None else [f"--port={port}"]
    if os.name == "posix" and os.geteuid() == 0:  # in a container: Jupyter would refuse to start
        command.append("--allow-root")
    return command


def offer_builds() -> None:
    """On a GPU machine: say how long the course's engines take, and build them if the reader wants.

    Nothing is built where nobody can answer: notebooks then build behind what they show.
    """
    if os.environ.get("TRTLEARN_MODE") == "recorded":
        return
    try:
        work = pending()
    except LiveUnavailable:
        return
    if not work:
        return
    count = plural(len(work), "engine")
    print(f"The notebooks use {count} that this GPU has not built yet: about {minutes(work)}.")
    print(
        "Until they are built, recorded ones are shown. To build them later: trtlearn live --all",
        flush=True,
    )
    if not (sys.stdin and sys.stdin.isatty()):
        return
    if input("Build them now, before JupyterLab opens? [y/N] ").strip().lower() in ("y", "yes"):
        try:
            make_builds(None, again=False)
        except (BuildError, KeyboardInterrupt) as problem:
            print(str(problem) or "\nstopped: what is built is kept", flush=True)


def open_lab(
    folder: str | os.PathLike[str] | None = None, *, browser: bool = True, port: int | None = None
) -> None:
    """Become JupyterLab, with the first notebook open; returns only by an error."""
    if importlib.util.find_spec("jupyterlab") is None:
        raise TrtlearnError("JupyterLab is not installed", "pip install 'trtlearn[lab]'")
    offer_builds()
    course = course_folder(folder)
    command = lab_command(course, browser=browser, port=port)
    say(f"JupyterLab opens the course in {course} (Ctrl-C twice to stop)", flush=True)
    os.execv(command[0], command)
