"""Every notebook live on this machine's GPU, one after the other, beside the same from recordings.

    python -m recording.live                 # or: make live
    python -m recording.live --only 02,05    # these notebooks only
    python -m recording.live --again         # do not go on where an earlier run of today stopped

First all engines that the notebooks use are built, unless they are here; meanwhile each notebook
runs from the recordings. Then each runs live. Cells that stop are noted and the next one runs.
After each notebook the result is saved in data/recordings/<machine>/live/<date>.json, to be
committed; a run that was interrupted goes on behind the last notebook that it holds.
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
import re
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from trtlearn.cli.lab import make_builds
from trtlearn.course.notebook import NOTEBOOKS
from trtlearn.engine.records import BuildOptions, Provenance, live_options
from trtlearn.errors import BuildError, TrtlearnError
from trtlearn.files import data_dir, notebooks_dir, write_atomic
from trtlearn.live.experiment import provenance
from trtlearn.record import Record
from trtlearn.recorded.files import folder_name

__all__ = ["LiveNotebook", "LiveRun", "execute", "main"]

SECONDS = 1800  # of one cell
SHOWN = 12  # differences a notebook that are kept
NOISE = re.compile(
    r"(?:measured here|recorded) on .*?\d{4}-\d\d-\d\d|\d{4}-\d\d-\d\d|\bat 0x[0-9a-f]+|/\S+"
)
"""What differs from run to run: labels, days, addresses, places."""

Texts = dict[str, str]
Execute = Callable[[Path, str], tuple[Texts, list[str]]]


@dataclass(frozen=True)
class Difference(Record):
    """One cell's text, as recorded and live: the first line that differs."""

    cell: str
    recorded: str
    live: str


@dataclass(frozen=True)
class LiveNotebook(Record):
    """One notebook that ran live."""

    number: str
    cells: int
    seconds: float
    failures: tuple[str, ...] = ()  # cells that stopped, and how
    claims: tuple[str, ...] = ()  # claims that did not hold
    differences: tuple[Difference, ...] = ()  # the first SHOWN
    different_cells: int = 0


@dataclass(frozen=True)
class LiveRun(Record):
    """All notebooks that ran live on one machine on one day."""

    provenance: Provenance
    build_seconds: float  # of the engines that were not here yet
    failed_builds: str = ""
    notebooks: tuple[LiveNotebook, ...] = ()

    def summary(self) -> str:
        seconds = sum(one.seconds for one in self.notebooks)
        built = f"engines built in {self.build_seconds:.0f} s"
        return f"{len(self.notebooks)} notebooks in {seconds:.0f} s, {built}: {self.provenance.label()}"

    def rows(self) -> list[dict[str, Any]]:
        return [
            {
                "notebook": one.number,
                "cells": one.cells,
                "seconds": round(one.seconds, 1),
                "cells that differ": one.different_cells,
                "claims that do not hold": len(one.claims),
                "failures": "; ".join(one.failures) or "none",
            }
            for one in self.notebooks
        ]


def execute(path: Path, mode: str) -> tuple[Texts, list[str]]:
    """Run a notebook in a kernel: what each code cell printed, and the cells that stopped."""
    import nbclient
    import nbformat

    book = nbformat.read(path, as_version=4)
    where = {"metadata": {"path": str(path.parent)}}
    client = nbclient.NotebookClient(
        book, timeout=SECONDS, kernel_name="python3", resources=where, allow_errors=True
    )
    paths = [str(Path(__file__).resolve().parents[1]), os.environ.get("PYTHONPATH", "")]
    env = {**os.environ, "TRTLEARN_MODE": mode, "PYTHONPATH": os.pathsep.join(filter(None, paths))}
    client.execute(env=env)
    texts: Texts = {}
    failures = []
    for cell in (one for one in book.cells if one.cell_type == "code"):
        pieces: list[str] = []
        before = ""
        for output in cell.outputs:
            if output.output_type == "error":
                failures.append(f"{cell.id}: {output.ename}: {output.evalue}"[:300])
            elif output.output_type != "stream":
                pieces.append(output.data.get("text/plain", ""))
            elif before == "stream":  # a kernel may send one line in two pieces
                pieces[-1] += output.text
            else:
                pieces.append(output.text)
            before = output.output_type
        texts[cell.id] = "\n".join(pieces)
    return texts, failures


def compare(recorded: Texts, live: Texts) -> list[Difference]:
    """The cells whose text differs, but for dates, addresses and places."""
    found = []
    for cell, text in live.items():
        ours, theirs = recorded.get(cell, "").splitlines(), text.splitlines()
        for index in range(max(len(ours), len(theirs))):
            pair = [lines[index] if index < len(lines) else "" for lines in (ours, theirs)]
            if NOISE.sub("", pair[0]) != NOISE.sub("", pair[1]):
                found.append(Difference(cell, pair[0][:300], pair[1][:300]))
                break
    return found


def path_of(number: str) -> Path:
    """The path of a notebook."""
    return notebooks_dir() / NOTEBOOKS[number][0]


def run_one(number: str, recorded: Texts, execute: Execute = execute) -> LiveNotebook:
    """One notebook live, compared with what it printed from the recordings."""
    start = time.monotonic()
    live, failures = execute(path_of(number), "live")
    seconds = time.monotonic() - start
    claims = [line for text in live.values() for line in text.splitlines() if line[:1] == "✘"]
    found = compare(recorded, live)
    kept = tuple(found[:SHOWN])
    return LiveNotebook(
        number, len(live), seconds, tuple(failures), tuple(claims), kept, len(found)
    )


def load(path: Path, origin: Provenance) -> LiveRun | None:
    """What a run of this machine and day saved; None where there is none."""
    try:
        found = LiveRun.from_json(path.read_text(encoding="utf-8"))
    except (OSError, TrtlearnError):
        return None
    same = [getattr(found.provenance, name) == getattr(origin, name) for name in ("gpu", "driver")]
    return found if all(same) else None


def main(arguments: Sequence[str] | None = None, execute: Execute = execute) -> int:
    """The command line that the module's text describes; 1 where a cell stopped."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--only", default=",".join(NOTEBOOKS), help="notebooks, e.g. 02,05")
    parser.add_argument("--again", action="store_true", help="begin anew")
    parser.add_argument("--out", type=Path, help="the JSON file; default: in data/recordings")
    given = parser.parse_args(arguments)
    numbers = [one for one in given.only.split(",") if one in NOTEBOOKS]
    try:
        sources = live_options(BuildOptions()).tactic_sources
        origin = provenance(tactic_sources=sources, recorded=True)
    except TrtlearnError as problem:
        print(problem, file=sys.stderr)
        return 2
    machine = folder_name(origin.gpu or "gpu", origin.tensorrt or "unknown")
    today = datetime.datetime.now(datetime.timezone.utc).date().isoformat()
    out = given.out or data_dir() / "recordings" / machine / "live" / f"{today}.json"
    run = None if given.again else load(out, origin)
    ran = {one.number for one in run.notebooks} if run else set()
    todo = [number for number in numbers if number not in ran]
    for number in sorted(ran.intersection(numbers)):
        print(f"{number}: ran already, kept (--again runs it again)", flush=True)
    pool = ThreadPoolExecutor(1)  # recorded notebooks need no GPU: they run beside the builds
    try:
        recorded = {number: pool.submit(execute, path_of(number), "recorded") for number in todo}
        run = _run_live(run, todo, recorded, origin, out, execute)
    finally:
        pool.shutdown(wait=False, cancel_futures=True)
    print(run)
    for one in run.notebooks:
        for line in (*one.failures, *one.claims):
            print(f"{one.number} {line}")
    print(f"saved: {out}")
    return int(any(one.failures for one in run.notebooks))


def _run_live(
    run: LiveRun | None,
    numbers: Sequence[str],
    recorded: Mapping[str, Future[tuple[Texts, list[str]]]],
    origin: Provenance,
    out: Path,
    execute: Execute,
) -> LiveRun:
    """Build what is missing, then run each notebook; what ran is saved after each."""
    start, failed = time.monotonic(), ""
    try:
        make_builds(None, again=False)
    except BuildError as problem:
        failed = str(problem)
        print(problem, file=sys.stderr)
    seconds = time.monotonic() - start
    run = run or LiveRun(origin, seconds, failed)
    for number in numbers:
        print(f"{number} … ", end="", flush=True)
        one = run_one(number, recorded[number].result()[0], execute)
        print(f"{one.cells} cells, {one.seconds:.0f} s, {len(one.failures)} stopped", flush=True)
        ran = sorted([*run.notebooks, one], key=lambda one: one.number)
        run = replace(run, notebooks=tuple(ran))
        text = json.dumps(run.to_dict(), indent=1, ensure_ascii=False)
        write_atomic(out, text + "\n")
    return run


if __name__ == "__main__":
    raise SystemExit(main())
