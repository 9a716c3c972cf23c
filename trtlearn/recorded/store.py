"""The reader's own builds: made once on this machine, kept as records, found by what made them.

A build lies in the reader's folder as builds/<gpu>-<tensorrt>/<model>--<variant>--<key>.json.gz;
the key is a hash of the model, the options, the data, TensorRT, the GPU and the driver. Its plan
lies beside it as <...>.plan, as long as all plans stay under PLANS_MB, and what the engine gives
for a reader's own data as <...>.npz, up to MOST_OUTPUTS. A record is written last and in one piece:
what a killed program leaves is no record, and the other files count only with the hashes that their
record names.
"""

from __future__ import annotations

import gzip
import json
import os
import re
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from ..builds import Build, failed_build
from ..engine.records import BuildOptions, Provenance
from ..errors import BuildError, DataError, RecordingError, TrtlearnError
from ..files import locked, sha256, user_dir, write_all
from ..model.data import npz_bytes, read_npz
from ..record import Record, plural, show
from .files import folder_name, lean, read_text, recording_folders, whole

__all__ = [
    "OwnBuild",
    "OwnBuilds",
    "Wanted",
    "build_once",
    "digests",
    "expected_seconds",
    "find",
    "is_whole",
    "outputs_of",
    "own_builds",
    "plan_of",
]

FORMAT = "1"  # another one where what is measured changes: older builds are then not found
PLANS_MB = "TRTLEARN_PLANS_MB"
"""The environment variable that limits the plans kept, in MB; 0 keeps none."""
DEFAULT_PLANS_MB = 2000
MOST_OUTPUTS = 1 << 24  # bytes; of more the plan is run again
AGAIN = "`trtlearn live rebuild"
MEASURING = 4.0  # seconds that a recorded build lacks: it is run and timed after it was built


Outputs = Mapping[str, NDArray[Any]]
Made = tuple[Build, bytes] | tuple[Build, bytes, Outputs]
"""A build, its plan, and what the engine gives for the data, where that is to be kept."""


@dataclass(frozen=True)
class Wanted(Record):
    """A build that is asked for: of what, how, and on which machine."""

    model: str
    variant: str
    options: BuildOptions
    origin: Provenance  # of this machine, now
    hashes: dict[str, str]  # SHA-256 of the model and of all data that the build is given

    @property
    def facts(self) -> dict[str, str]:
        """All that the result depends on, as text."""
        machine = {name: show(getattr(self.origin, name)) for name in ("gpu", "driver", "tensorrt")}
        options = json.dumps(self.options.to_dict(), sort_keys=True)
        return {"format": FORMAT, "options": options, **machine, **self.hashes}

    @property
    def place(self) -> Path:
        """The path of its files without their endings."""
        key = sha256(json.dumps(self.facts, sort_keys=True).encode())[:16]
        machine = folder_name(self.origin.gpu or "gpu", self.origin.tensorrt or "unknown")
        return _root() / machine / f"{_file_name(self.model, self.variant)}--{key}"

    def file(self, ending: str) -> Path:
        """One of its files: .json.gz, .plan, .npz or .log."""
        return self.place.with_name(self.place.name + ending)


def _file_name(model: str, variant: str) -> str:
    return re.sub(r"[^A-Za-z0-9._-]+", "-", f"{model}--{variant}")[:120]


@dataclass(frozen=True)
class OwnBuild(Record):
    """One build of this machine, or its failure, and what it was made from."""

    facts: dict[str, str]  # model, options, data, tensorrt, gpu, driver: the key is their hash
    build: Build
    seconds: float  # building and measuring
    plan_sha256: str | None = None  # None: the plan was not kept
    outputs_sha256: str | None = None  # likewise what the engine gave

    @property
    def date(self) -> str:
        """The day of the build, 2026-11-28."""
        return show(self.build.provenance.time_utc)[:10]


@dataclass(frozen=True)
class OwnBuilds(Record):
    """All builds that this machine keeps."""

    folder: str
    builds: tuple[OwnBuild, ...]
    plans_bytes: int

    def summary(self) -> str:
        plans = f"plans {self.plans_bytes / 1e6:.1f} of {_plans_limit() / 1e6:,.0f} MB"
        none = "" if self.builds else ". To build all: trtlearn live --all"
        return f"{plural(len(self.builds), 'build')} measured here, {plans}, in {self.folder}{none}"

    def rows(self) -> list[dict[str, Any]]:
        return [
            {
                "network": one.build.model + ".onnx" * ("model" in one.facts),  # a reader's own
                "way": one.build.variant,
                "measured here": one.date,
                "machine": f"{show(one.facts.get('gpu'))}, TensorRT {one.facts.get('tensorrt')}",
                "seconds": round(one.seconds, 1),
                "plan": "kept" if one.plan_sha256 else "not kept",
                "result": one.build.error or "built",
            }
            for one in self.builds
        ]

    def clear(self, waiting: Callable[[], None] | None = None) -> None:
        """Remove them all, plans and logs too; ``waiting``: called while a build goes on."""
        for machine in (path for path in _root().glob("*") if path.is_dir()):
            with locked(machine / "builds", waiting):
                for path in machine.iterdir():
                    if path.suffix != ".lock":
                        path.unlink(missing_ok=True)


def _root() -> Path:
    return user_dir() / "builds"


def _time(path: Path) -> float:
    return path.stat().st_mtime


def _read(path: Path) -> OwnBuild | None:
    """The build in a file; None where there is none, or one of another version of trtlearn."""
    try:
        own = OwnBuild.from_json(read_text(path))
        return replace(own, build=whole(own.build))
    except TrtlearnError:
        return None


def digests(arrays: Mapping[str, NDArray[Any]]) -> dict[str, str]:
    """The SHA-256 of each array, its type and shape included."""

    def digest(array: NDArray[Any]) -> str:
        return sha256(f"{array.dtype} {array.shape} ".encode() + array.tobytes())

    return {f"data {name}": digest(array) for name, array in arrays.items()}


def find(wanted: Wanted) -> OwnBuild | None:
    """The build that was made from exactly these facts; None where there is none yet."""
    return _read(wanted.file(".json.gz"))


def plan_of(wanted: Wanted, own: OwnBuild) -> bytes | None:
    """The plan of a build; None where it was not kept."""
    return _content(wanted.file(".plan"), own.plan_sha256)


def outputs_of(wanted: Wanted, own: OwnBuild) -> dict[str, NDArray[Any]] | None:
    """What the engine gave for the data it was built with, by output; None where not kept."""
    content = _content(wanted.file(".npz"), own.outputs_sha256)
    return None if content is None else read_npz(content)


def _content(path: Path, digest: str | None) -> bytes | None:
    """The bytes of a file; None where it is not the one with this hash."""
    content = path.read_bytes() if digest and path.is_file() else b""
    return content if content and sha256(content) == digest else None


def own_builds() -> OwnBuilds:
    """All builds of this machine, by folder, network and way."""
    builds = tuple(filter(None, map(_read, sorted(_root().glob("*/*.json.gz")))))
    plans = sum(path.stat().st_size for path in _root().glob("*/*.plan"))
    return OwnBuilds(str(_root()), builds, plans)


def build_once(
    wanted: Wanted,
    make: Callable[[], Made],
    *,
    again: bool = False,
    need_outputs: bool = False,
    waiting: Callable[[], None] | None = None,
) -> OwnBuild:
    """The build that is wanted: found, or made by ``make``, which gives it and its plan, and kept.

    Only one program of the machine builds at a time; ``waiting`` is called where another one does.
    ``again`` makes it whatever is kept; ``need_outputs`` also where neither what the engine gives,
    which ``make`` gives third, nor the plan is kept.

    Raises what ``make`` raises. What TensorRT refuses to build is kept too, its log in a file: the
    BuildError is raised again, without building, until ``again`` is asked for.
    """

    def usable() -> OwnBuild | None:
        own = None if again else find(wanted)
        return own if own and (not need_outputs or is_whole(wanted, own)) else None

    own = usable()
    if own is None:
        with locked(wanted.place.parent / "builds", waiting):
            own = usable() or _make(wanted, make)
    if own.build.error is not None:
        error = BuildError(own.build.error)
        error.messages = own.build.build.messages
        raise error
    return own


def is_whole(wanted: Wanted, own: OwnBuild) -> bool:
    """Whether it is known what the engine gives, or can be found out without building it."""
    failed = own.build.error is not None
    return failed or outputs_of(wanted, own) is not None or plan_of(wanted, own) is not None


def _make(wanted: Wanted, make: Callable[[], Made]) -> OwnBuild:
    _plans_limit()  # a wrong number is said before the build, not after it
    start = time.monotonic()
    files: dict[Path, bytes | str] = {}
    of_plan = of_outputs = None  # hashes
    try:
        build, plan, *outputs = make()
    except BuildError as error:
        if not error.log:
            raise  # refused before TensorRT began
        files[wanted.file(".log")] = error.log
        date = show(wanted.origin.time_utc)[:10]
        problem = f"{error.problem} (tried here on {date}; log: {wanted.file('.log')})"
        retry = f"{AGAIN} {wanted.model}`"
        if "model" in wanted.hashes:  # a reader's own: no command knows it
            retry = f"remove {wanted.file('.json.gz')}"
        again = BuildError(problem, f"{error.fix}; then {retry}".lstrip("; "))
        again.messages = error.messages
        build = failed_build(wanted.model, wanted.variant, wanted.origin, wanted.options, again)
    else:
        if _make_room(len(plan)):
            of_plan = sha256(plan)
            files[wanted.file(".plan")] = plan
        if outputs and sum(array.nbytes for array in outputs[0].values()) <= MOST_OUTPUTS:
            content = npz_bytes(outputs[0])
            of_outputs = sha256(content)
            files[wanted.file(".npz")] = content
    own = OwnBuild(wanted.facts, build, time.monotonic() - start, of_plan, of_outputs)
    packed = replace(own, build=lean(build)).to_json().encode()
    files[wanted.file(".json.gz")] = gzip.compress(packed, 6, mtime=0)  # last: all is there
    write_all(files)
    return own


def _plans_limit() -> int:
    text = os.environ.get(PLANS_MB, str(DEFAULT_PLANS_MB))
    if not text.isdecimal():
        raise DataError(f"{PLANS_MB} is {text!r}, expected a whole number of MB", "0 keeps no plan")
    return int(text) * 1_000_000


def _make_room(size: int) -> bool:
    """Whether a plan of ``size`` bytes may be kept; the oldest plans go for it."""
    limit = _plans_limit()
    if size > limit:
        return False
    plans = sorted(_root().glob("*/*.plan"), key=_time)
    left = sum(path.stat().st_size for path in plans) + size
    for path in plans:
        if left <= limit:
            break
        left -= path.stat().st_size
        path.unlink(missing_ok=True)
    return True


def expected_seconds(model: str, variant: str) -> float | None:
    """How long the build takes, as far as an earlier one here or a recording says; else None."""
    files = _root().glob(f"*/{_file_name(model, variant)}--*.json.gz")
    for path in sorted(files, key=_time, reverse=True):
        own = _read(path)
        if own is not None and own.build.error is None:
            return own.seconds
    for folder in recording_folders():
        try:
            recorded = Build.from_json(read_text(folder / model / f"{variant}.json.gz"))
        except RecordingError:
            continue
        seconds = recorded.build.build_seconds
        return None if seconds is None else seconds + MEASURING
    return None
