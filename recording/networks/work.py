"""Record all engines that are missing, on this machine's GPUs: one command, one builder a GPU.

    python -m recording.networks.work --plan
    python -m recording.networks.work --out out --gpus 4 --limit 540
    python -m recording.networks.gather out data/recordings/h200-8.6.0

The first says what is missing and needs no GPU. The second makes it, vit's engines first: what is
recorded already is not built again, and each engine is saved when it is done. Stopped, by its limit
or by hand, it goes on where it was when the same command is given again. The third moves what was
made into the recordings, any time in between. One job may take 420 seconds, or --longest.

With --gpus the command starts a worker for each GPU and they share the work: a worker claims a job
by creating a file. A job whose calibration is not recorded yet waits. Each job runs in a process
that may die of it; a failure is recorded.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import get_context
from pathlib import Path

from .jobs import NETWORKS, Job, jobs
from .measure import measure
from .photos import DATA

__all__ = ["Desk", "main", "missing", "workers"]

RECORDED = DATA / "recordings" / "h200-8.6.0"
HOME = "vit"  # the network that comes first where engines are of one tier: most of it is missing
LONGEST = 420  # seconds that one job may take: vit's first INT8 build takes over 200


class Desk:
    """What is done, failed and claimed, as files under ``out`` that all workers see."""

    def __init__(self, out: Path, recorded: Path | None = None) -> None:
        self.out, self.recorded = out, recorded

    def _name(self, model: str, key: str) -> str:
        return f"{model}--{key}"

    def done(self, model: str, key: str) -> bool:
        if self.recorded is not None and (self.recorded / model / f"{key}.json.gz").is_file():
            return True
        return (self.out / "points" / f"{self._name(model, key)}.json").is_file()

    def failed(self, model: str, key: str) -> bool:
        return (self.out / "failed" / self._name(model, key)).is_file()

    def open(self, job: Job) -> bool:
        """Whether the job is neither done nor impossible."""
        if self.done(job.model, job.key) or self.failed(job.model, job.key):
            return False
        if job.needs and self.failed(job.model, job.needs):
            return False
        return not (DATA / "models" / f"{job.network}.failed").exists()

    def ready(self, job: Job) -> bool:
        """Whether the files that the job needs are there."""
        if not (DATA / "models" / f"{job.network}.onnx").is_file():
            return False
        return job.needs is None or self.done(job.model, job.needs)

    def claim(self, job: Job) -> bool:
        path = self.out / "claims" / self._name(job.model, job.key)
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY))
        except FileExistsError:
            return False
        return True

    def claimed(self, job: Job) -> bool:
        return (self.out / "claims" / self._name(job.model, job.key)).exists()

    def release(self) -> None:
        """Give back what was claimed and not done: for a run that was stopped."""
        for path in (self.out / "claims").glob("*"):
            path.unlink()

    def fail(self, job: Job, why: str) -> None:
        path = self.out / "failed" / self._name(job.model, job.key)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(why, encoding="utf-8")


def _guarded(job: Job, out: Path, scratch: Path) -> tuple[bool, str]:
    """Whether it succeeded, and a line about it: an exception with a whole log is too long."""
    try:
        return True, measure(job, out, scratch)
    except Exception as error:
        return False, f"{type(error).__name__}: {error!s:.1500}"


def _run(
    pool: ProcessPoolExecutor, job: Job, out: Path, scratch: Path, longest: float
) -> tuple[bool, str, bool]:
    """As _guarded, and whether the process can take another job."""
    try:
        return (*pool.submit(_guarded, job, out, scratch).result(timeout=longest), True)
    except BrokenProcessPool:
        return False, "the process that built it died", False
    except TimeoutError:
        return False, f"stopped after {longest:g} s", False


def _stop(pool: ProcessPoolExecutor) -> None:
    processes = list((pool._processes or {}).values())
    pool.shutdown(wait=False, cancel_futures=True)
    for process in processes:
        process.kill()


def missing(desk: Desk, home: str = HOME, networks: Sequence[str] = NETWORKS) -> list[Job]:
    """The jobs of these networks, in the order in which a worker with this home looks at them."""
    ordered = sorted(jobs(), key=lambda job: (job.tier, job.network != home))
    return [job for job in ordered if job.network in networks and desk.open(job)]


def workers(
    gpus: int, arguments: list[str], scratch: Path
) -> list[tuple[dict[str, str], list[str]]]:
    """For each GPU the environment and the command of its worker; ``arguments`` are for all."""
    command = [sys.executable, "-m", "recording.networks.work", *arguments]
    return [
        (
            {**os.environ, "CUDA_VISIBLE_DEVICES": str(gpu)},
            [*command, "--scratch", str(scratch / f"gpu{gpu}")],
        )
        for gpu in range(gpus)
    ]


def _plan(desk: Desk, networks: Sequence[str]) -> str:
    """What is missing, one job a line."""
    todo = missing(desk, networks=networks)
    lines = [f"{len(todo)} of {len(jobs())} engines are missing"]
    for job in todo:
        needs = f"after {job.needs}" if job.needs and not desk.done(job.model, job.needs) else ""
        lines.append(f"  {job.model:30} {job.key:28} {needs}".rstrip())
    return "\n".join(lines)


def _start_all(options: argparse.Namespace, desk: Desk) -> int:
    """A worker on each GPU; waits for all of them. The worst exit status."""
    desk.release()
    arguments = [f"--out={options.out}", f"--recorded={options.recorded}", f"--home={options.home}"]
    arguments += [f"--limit={options.limit}", f"--until={options.until}"]
    arguments += [f"--longest={options.longest}", "--networks", *options.networks]
    scratch = options.scratch or options.out / "scratch"
    running = [
        subprocess.Popen(command, env=environment)
        for environment, command in workers(options.gpus, arguments, scratch)
    ]
    return max(process.wait() for process in running)


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--plan", action="store_true", help="say what is missing, and build nothing"
    )
    parser.add_argument("--out", type=Path, default=Path("out"), help="where engines are saved")
    parser.add_argument("--gpus", type=int, default=0, help="start a worker on so many GPUs")
    parser.add_argument("--scratch", type=Path, help="for timing caches; default: OUT/scratch")
    parser.add_argument("--home", default=HOME, help="the network that this worker prefers")
    parser.add_argument(
        "--networks",
        nargs="+",
        choices=NETWORKS,
        default=NETWORKS,
        help="build engines of these only",
    )
    parser.add_argument("--longest", type=float, default=LONGEST, help="seconds of one job")
    parser.add_argument(
        "--limit", type=float, default=1e9, help="seconds after which no job begins"
    )
    parser.add_argument(
        "--until", type=float, default=1e12, help="likewise, as a time of day (Unix)"
    )
    parser.add_argument(
        "--recorded",
        type=Path,
        default=RECORDED,
        help="a folder of recordings: what is there is not built again",
    )
    options = parser.parse_args()
    desk = Desk(options.out, options.recorded)
    if options.plan:
        print(_plan(desk, options.networks))
        return 0
    for cache in options.recorded.glob("*/*.cache"):  # they serve the engines that are missing
        target = options.out / "builds" / cache.parent.name / cache.name
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(cache.read_bytes())
    return _start_all(options, desk) if options.gpus else _work(options, desk)


def _work(options: argparse.Namespace, desk: Desk) -> int:
    """Do jobs until none is left or the time is over."""
    scratch = options.scratch or options.out / "scratch"
    scratch.mkdir(parents=True, exist_ok=True)
    begun = time.monotonic()
    pool = ProcessPoolExecutor(1, get_context("spawn"))
    while time.monotonic() - begun < options.limit and time.time() < options.until:
        todo = missing(desk, options.home, options.networks)
        waiting = [job for job in todo if not desk.claimed(job)]
        job = next((job for job in waiting if desk.ready(job) and desk.claim(job)), None)
        if job is None:
            if not waiting:
                break
            time.sleep(0.5)
            continue
        since = time.monotonic()
        fine, text, fit = _run(pool, job, options.out, scratch, options.longest)
        if not fine:
            desk.fail(job, text)
        if not fit:
            _stop(pool)
            pool = ProcessPoolExecutor(1, get_context("spawn"))
        mark = "" if fine else "FAILED "
        spent = time.monotonic() - since
        print(f"{mark}{job.model} {job.key}: {text} ({spent:.1f} s)", flush=True)
    _stop(pool)
    print("no more work", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
