"""``trtlearn live``: the builds of this machine, which notebooks live use: list, make, remove."""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING, Annotated

from ..errors import BuildError
from ..record import plural
from .base import Argument, Json, Option, print_record, say, typer

if TYPE_CHECKING:
    from ..course.own_model.records import EngineResult

__all__ = ["USED", "live_app", "make_builds", "minutes", "pending"]

USED = {
    "photo": [
        "fp32",
        "int8-placeholder",
        "int8-random",
        "int8-entropy2",
        "int8-minmax",
        "int8-legacy",
    ],
    "detector": ["int8-minmax"],
    "vit": ["fp32", "int8-placeholder"],
}
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
    builds.clear()
    say(f"removed {plural(len(builds.builds), 'build')} from {builds.folder}")


def pending(networks: list[str] | None = None, again: bool = False) -> list[tuple[str, str, float]]:
    """What is still to be built: network, variant, expected seconds (0: unknown)."""
    from ..model.course_data import NETWORKS
    from ..networks import network
    from ..recorded.store import expected_seconds, find

    jobs = []
    for name in networks or NETWORKS:
        one = network(name, mode="live")
        for variant in USED.get(name, one.variants):
            if again or find(one.wanted(variant)) is None:
                jobs.append((name, variant, expected_seconds(name, variant) or 0.0))
    return jobs


def minutes(seconds: float) -> str:
    """A duration in words.

    >>> minutes(41), minutes(200)
    ('41 seconds', '3 minutes')
    """
    whole = round(seconds / 60)
    return plural(round(seconds), "second") if seconds < 90 else plural(whole, "minute")


def make_builds(networks: list[str] | None, again: bool) -> None:
    """Build what is missing, one after the other; Ctrl-C stops, and what is built stays."""
    jobs = pending(networks, again)
    failed = _build_all(jobs, again)
    count = len(jobs)
    if networks is None:
        engines = _build_own_model()
        count += len(engines)
        failed += [f"09: {one.summary()}" for one in engines if one.problem]
    for line in failed:
        print(line, file=sys.stderr)
    if failed:
        raise BuildError(
            f"{len(failed)} of {plural(count, 'engine')} failed",
            "go on: notebooks show what was recorded in their place",
        )


def _build_all(jobs: list[tuple[str, str, float]], again: bool) -> list[str]:
    """Build these, and give a line for each that failed."""
    from ..networks import network

    if not jobs:
        print("all engines that the notebooks use are here: trtlearn live lists them")
        return []
    total = sum(seconds for *_, seconds in jobs)
    count = plural(len(jobs), "engine")
    print(f"{count} to build: about {minutes(total)}. Ctrl-C stops", flush=True)
    failed = []
    for index, (name, variant, seconds) in enumerate(jobs, 1):
        print(f"{index}/{len(jobs)} {name} {variant}, about {seconds:.0f} s … ", end="", flush=True)
        start = time.monotonic()
        try:
            build = network(name, mode="live").build_here(variant, stage=_say, again=again)
        except BuildError as problem:
            failed.append(f"{name} {variant}: {problem}")
            print("failed", flush=True)
            continue
        took = time.monotonic() - start
        print(f"{took:.0f} s, {plural(build.int8_layers or 0, 'layer')} in INT8", flush=True)
    return failed


def _build_own_model() -> tuple[EngineResult, ...]:
    """The engines that notebook 09's call of try_int8 asks for: found, or built."""
    from ..course.own_model.walk import try_int8
    from ..networks import network

    print("09, your own model: four engines, unless they are here … ", end="", flush=True)
    start, mobile = time.monotonic(), network("mobile", mode="live")
    data, labels = mobile.images()[:128], mobile.labels("calibration")[:128]
    walk = try_int8(mobile.path, data, labels=labels, algorithm="best", live=True)
    print(f"{time.monotonic() - start:.0f} s", flush=True)
    return walk.live


def _say(stage: str) -> None:
    if stage == "waiting":
        print("another program builds here, waiting … ", end="", flush=True)
