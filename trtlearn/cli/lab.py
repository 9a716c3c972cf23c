"""``trtlearn lab``: the course in JupyterLab: a checkout's own, or a copy that is the reader's.
``trtlearn live``: the engines that its notebooks build on this machine.
"""

from __future__ import annotations

import importlib.util
import os
import sys
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from ..errors import BuildError, DataError, LiveUnavailable, TrtlearnError
from ..files import load_table, notebooks_dir, read_bytes, write_atomic
from ..record import plural
from .base import Argument, Json, Option, print_record, say, typer

if TYPE_CHECKING:
    from ..builds import Build
    from ..course.own_model.engines import OwnEngines

__all__ = ["USED", "lab", "live_app", "make_builds"]

USED: dict[str, list[str]] = load_table("notebook_builds")
"""What the notebooks build of these networks; of the others every way."""

live_app = typer.Typer(
    help="List, make or remove the engines that notebooks build on this machine's GPU.",
    rich_markup_mode=None,
)
Networks = Annotated[
    list[str] | None, Argument(help="Networks of the course; default: those of the notebooks.")
]


@live_app.callback(invoke_without_command=True)
def live(
    context: typer.Context,
    everything: Annotated[
        bool, Option("--all", help="Build all that the notebooks use and that is not here yet.")
    ] = False,
    as_json: Json = False,
) -> None:
    """List, make or remove the engines that notebooks build on this machine's GPU."""
    from ..recorded.store import own_builds

    if everything:
        make_builds(None, again=False)
    elif context.invoked_subcommand is None:
        print_record(own_builds(), as_json)


@live_app.command("rebuild")
def live_rebuild(networks: Networks = None) -> None:
    """Build all engines again, those that are here too."""
    make_builds(networks, again=True)


@live_app.command("clear")
def live_clear() -> None:
    """Remove all engines that were built here, with their plans and logs."""
    from ..recorded.store import own_builds

    builds = own_builds()
    builds.clear(partial(_say, "waiting"))
    say(f"removed {plural(len(builds.builds), 'build')} from {builds.folder}")


@dataclass(frozen=True)
class Work:
    """One engine that is to be built."""

    name: str
    seconds: float | None  # expected; None: unknown
    build: Callable[..., Build]  # takes ``stage`` and ``again``, as Network.build_here


def pending(networks: list[str] | None = None, again: bool = False) -> list[Work]:
    """What is still to be built: of these networks, or all that the notebooks use."""
    from ..model.course_data import NETWORKS
    from ..networks import network
    from ..recorded.store import expected_seconds, find

    work = []
    if unknown := set(networks or ()).difference(NETWORKS):
        raise DataError(f"no network {min(unknown)!r}", f"one of {', '.join(NETWORKS)}")
    for name in networks or NETWORKS:
        one = network(name, mode="live")
        for variant in USED.get(name, one.variants):
            if again or find(one.wanted(variant)) is None:
                build = partial(one.build_here, variant)
                work.append(Work(f"{name} {variant}", expected_seconds(name, variant), build))
    own = None if networks else notebook_09()
    for way in own.wanted if own else ():
        if own and (again or not own.is_kept(way)):
            work.append(Work(f"09 {way}", own.expected_seconds(way), _build_of(own, way)))
    return work


def notebook_09() -> OwnEngines:
    """The engines that notebook 09's call of try_int8 builds."""
    from ..course.own_model.walk import own_engines
    from ..networks import network

    mobile = network("mobile", mode="live")
    return own_engines(mobile.path, mobile.images()[:128], algorithm="best")


def _build_of(own: OwnEngines, way: str) -> Callable[..., Build]:
    return lambda **how: own.build(way, **how)[0]


def minutes(work: Iterable[Work]) -> str:
    """How long these take in all, in words.

    >>> minutes([Work("a", 41, print)]), minutes([Work("a", 200, print), Work("b", None, print)])
    ('41 seconds', '3 minutes')
    """
    seconds = sum(one.seconds or 0 for one in work)
    whole = round(seconds / 60)
    return plural(round(seconds), "second") if seconds < 90 else plural(whole, "minute")


def make_builds(networks: list[str] | None, again: bool) -> None:
    """Build what is missing, one after the other; Ctrl-C stops, and what is built stays."""
    work = pending(networks, again)
    if not work:
        print("all engines that the notebooks use are built or failed: trtlearn live lists them")
        return
    count, failed = plural(len(work), "engine"), []
    print(f"{count} to build: about {minutes(work)}. Ctrl-C stops", flush=True)
    for index, one in enumerate(work, 1):
        about = "" if one.seconds is None else f", about {one.seconds:.0f} s"
        print(f"{index}/{len(work)} {one.name}{about} … ", end="", flush=True)
        start = time.monotonic()
        try:
            build = one.build(stage=_say, again=again)
        except TrtlearnError as problem:  # no GPU memory left for one may be enough for the next
            failed.append(f"{one.name}: {problem}")
            print("failed", flush=True)
            continue
        took = time.monotonic() - start
        int8 = f", {plural(build.int8_layers or 0, 'layer')} in INT8" if build.options.int8 else ""
        print(f"{took:.0f} s{int8}", flush=True)
    for line in failed:
        print(line, file=sys.stderr)
    if failed:
        fix = "go on: notebooks show what was recorded in their place"
        raise BuildError(f"{len(failed)} of {count} failed", fix)


def _say(stage: str) -> None:
    if stage == "waiting":
        print("another program builds here, waiting … ", end="", flush=True)


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


def lab(
    folder: Annotated[Path | None, Option("--dir", help="Where to copy the notebooks.")] = None,
    browser: Annotated[bool, Option("--browser/--no-browser", help="Open a browser.")] = True,
    port: Annotated[int | None, Option(help="The port to serve on.", min=1, max=65535)] = None,
) -> None:
    """Open the course in JupyterLab."""
    if importlib.util.find_spec("jupyterlab") is None:
        raise TrtlearnError("JupyterLab is not installed", "pip install 'trtlearn[lab]'")
    offer_builds()
    course = course_folder(folder)
    command = lab_command(course, browser=browser, port=port)
    say(f"JupyterLab opens the course in {course} (Ctrl-C twice to stop)", flush=True)
    os.execv(command[0], command)  # becomes JupyterLab
