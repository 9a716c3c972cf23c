"""Record all engines on this machine's GPUs: one of these runs for each GPU, and they share the
work.

    CUDA_VISIBLE_DEVICES=0 python -m recording.networks.work --out out --home photo --limit 1200

A worker claims a job by creating a file. Jobs whose network is not trained yet, or whose calibration
is not recorded yet, wait. What is recorded already stays. Each job runs in a process that may die of
it; a failure is recorded.
"""

from __future__ import annotations

import argparse
import os
import time
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import get_context
from pathlib import Path

from .jobs import Job, jobs
from .measure import measure
from .photos import DATA

__all__ = ["main"]

LONGEST = 420  # seconds that one job may take: vit's first INT8 build takes over 200


class Desk:
    """What is done, failed and claimed, as files under ``out`` that all workers see."""

    def __init__(self, out: Path, recorded: Path | None = None) -> None:
        self.out, self.recorded = out, recorded
        for folder in ("claims", "failed", "points"):
            (out / folder).mkdir(parents=True, exist_ok=True)

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
        try:
            os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY))
        except FileExistsError:
            return False
        return True

    def claimed(self, job: Job) -> bool:
        return (self.out / "claims" / self._name(job.model, job.key)).exists()

    def fail(self, job: Job, why: str) -> None:
        path = self.out / "failed" / self._name(job.model, job.key)
        path.write_text(why, encoding="utf-8")


def _guarded(job: Job, out: Path, scratch: Path) -> tuple[bool, str]:
    """Whether it succeeded, and a line about it: an exception with a whole log is too long."""
    try:
        return True, measure(job, out, scratch)
    except Exception as error:
        return False, f"{type(error).__name__}: {error!s:.1500}"


def _run(pool: ProcessPoolExecutor, job: Job, out: Path, scratch: Path) -> tuple[bool, str, bool]:
    """As _guarded, and whether the process can take another job."""
    try:
        return (*pool.submit(_guarded, job, out, scratch).result(timeout=LONGEST), True)
    except BrokenProcessPool:
        return False, "the process that built it died", False
    except TimeoutError:
        return False, f"stopped after {LONGEST} s", False


def _stop(pool: ProcessPoolExecutor) -> None:
    processes = list((pool._processes or {}).values())
    pool.shutdown(wait=False, cancel_futures=True)
    for process in processes:
        process.kill()


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--scratch", type=Path, required=True, help="this worker's timing caches")
    parser.add_argument("--home", default="photo", help="the network that this worker prefers")
    parser.add_argument(
        "--limit", type=float, default=1e9, help="seconds after which no job begins"
    )
    parser.add_argument(
        "--until", type=float, default=1e12, help="likewise, as a time of day (Unix)"
    )
    parser.add_argument(
        "--recorded", type=Path, help="a folder of recordings: what is there is not built again"
    )
    options = parser.parse_args()
    if options.recorded:  # their calibration caches serve the engines that are missing
        for cache in options.recorded.glob("*/*.cache"):
            target = options.out / "builds" / cache.parent.name / cache.name
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(cache.read_bytes())
    options.scratch.mkdir(parents=True, exist_ok=True)
    desk, begun = Desk(options.out, options.recorded), time.monotonic()
    todo = sorted(jobs(), key=lambda job: (job.tier, job.network != options.home))
    pool = ProcessPoolExecutor(1, get_context("spawn"))
    while time.monotonic() - begun < options.limit and time.time() < options.until:
        waiting = [job for job in todo if desk.open(job) and not desk.claimed(job)]
        job = next((job for job in waiting if desk.ready(job) and desk.claim(job)), None)
        if job is None:
            if not waiting:
                break
            time.sleep(0.5)
            continue
        since = time.monotonic()
        fine, text, fit = _run(pool, job, options.out, options.scratch)
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


if __name__ == "__main__":
    main()
