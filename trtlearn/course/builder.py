"""Engines built behind a notebook: a process of its own builds one after the other and reports.

``python -m trtlearn.course.builder`` is that process. It reads [NETWORK, VARIANT] a line, answers
with one line whenever something changes, both in JSON, and ends when its input ends, so that a
kernel that is killed leaves nothing that builds. What it makes is in recorded/store.py, which also
lets only one program of the machine build at a time. In place of a network of the course stands the
file of a reader's own, which OwnEngines.save wrote.
"""

from __future__ import annotations

import json
import os
import queue
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from ..errors import TrtlearnError
from ..networks import network
from ..recorded.store import expected_seconds
from .own_model.engines import OwnEngines

__all__ = ["ENDED", "Builder", "Job", "build_job", "serve"]

COMMAND = (sys.executable, "-m", "trtlearn.course.builder")
ENDED = ("done", "failed", "stopped")


@dataclass
class Job:
    """One engine to build, and how far it is."""

    network: str  # its name; of a reader's own the path of its file
    variant: str
    expected: float | None = None  # seconds; None: unknown
    stage: str = "queued"  # waiting, building, calibrating, measuring, done, failed, stopped
    detail: str = ""  # "batch 12 of 64", or why it failed
    since: float | None = field(default=None, repr=False)  # time.monotonic() of its start

    @property
    def ended(self) -> bool:
        return self.stage in ENDED

    @property
    def own(self) -> bool:
        """Whether the network is the reader's own: the CPU's answers stand in for its engines."""
        return os.path.isabs(self.network)

    def line(self) -> str:
        """How far it is: "mobile int8-minmax: building, 14 s of about 25 s"."""
        head = f"{Path(self.network).name} {self.variant}: {self.stage}"
        if self.ended or self.since is None:
            return f"{head} {self.detail}".rstrip()
        so_far = f"{time.monotonic() - self.since:.0f} s"
        about = "" if self.expected is None else f" of about {self.expected:.0f} s"
        return ", ".join(filter(None, [head, self.detail, so_far + about]))


class Builder:
    """Builds engines one after the other in a process of its own.

    ``changed`` is called, in a thread, with each job whose stage changes. ``command`` starts the
    process.
    """

    def __init__(self, changed: Callable[[Job], None], command: Sequence[str] = COMMAND) -> None:
        self.jobs: list[Job] = []
        self._changed, self._command = changed, command
        self._process: subprocess.Popen[str] | None = None
        self._thread: threading.Thread | None = None
        self._lock = threading.Lock()

    def ask(self, name: str, variant: str, expected: float | None = None) -> Job:
        """The job that builds ``variant`` of the network ``name``: begun now, or the one there is.

        One that was stopped is begun again; one that failed is not.
        """
        with self._lock:
            for job in self.jobs:
                if (job.network, job.variant) == (name, variant):
                    if job.stage != "stopped":
                        return job
                    self.jobs.remove(job)
                    break
            job = Job(name, variant, expected or expected_seconds(name, variant))
            self.jobs.append(job)
            if self._thread is None:
                self._thread = threading.Thread(target=self._work, daemon=True)
                self._thread.start()
        return job

    def pending(self, name: str | None = None) -> list[Job]:
        """The jobs of a network, or of all, that have not ended."""
        return [job for job in self.jobs if not job.ended and name in (None, job.network)]

    def stop(self) -> None:
        """End the process now; what it was building is lost, what it built is kept."""
        stopped = self.pending()
        for job in stopped:
            job.stage, job.detail = "stopped", ""
        if self._process is not None:
            self._process.kill()
        for job in stopped:
            self._changed(job)

    def _work(self) -> None:
        while True:
            with self._lock:
                job = next(iter(self.pending()), None)
                if job is None:
                    self._thread = None
                    self._close()
                    return
            self._build(job)
            if job.stage != "stopped":  # stop() says so itself
                self._changed(job)

    def _close(self) -> None:
        if self._process is not None and self._process.stdin is not None:
            self._process.stdin.close()  # it ends by itself
            self._process = None

    def _start(self) -> subprocess.Popen[str]:
        if self._process is None or self._process.poll() is not None:
            self._process = subprocess.Popen(
                self._command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                encoding="utf-8",
                errors="replace",
                start_new_session=True,  # Ctrl-C in the kernel's terminal is not for it
            )
        return self._process

    def _build(self, job: Job) -> None:
        job.since, code = time.monotonic(), 0
        try:
            process = self._start()
            if process.stdin is None or process.stdout is None:
                raise OSError("no pipes to the builder")
            process.stdin.write(json.dumps([job.network, job.variant]) + "\n")
            process.stdin.flush()
            for line in process.stdout:
                if line.startswith("{") and line.endswith("}\n") and not job.ended:
                    said = json.loads(line)
                    job.stage, job.detail = said["stage"], said["detail"]
                if job.ended:
                    break
                self._changed(job)
            else:
                code = process.wait()
        except OSError as problem:
            code = problem.errno or 1
        if not job.ended:
            job.stage, job.detail = "failed", f"the builder's process ended (status {code})"


def build_job(
    name: str,
    variant: str,
    progress: Callable[[int, int | None], None] | None = None,
    say: Callable[[str], None] | None = None,
) -> None:
    """Build one job here; BuildError and others say why not."""
    if os.path.isabs(name):
        OwnEngines.load(Path(name)).build(variant, progress, say)
    else:
        network(name, mode="live").build_here(variant, progress, say)


def serve() -> None:
    """The process: reads jobs from standard input, builds them and says how far it is."""
    jobs: queue.Queue[str] = queue.Queue()
    out = os.fdopen(os.dup(1), "w", encoding="utf-8")  # TensorRT may print: it gets another one
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)

    def listen() -> None:
        for line in sys.stdin:
            jobs.put(line)
        os._exit(0)  # the kernel is gone

    def say(stage: str, detail: str = "") -> None:
        print(json.dumps({"stage": stage, "detail": detail}), file=out, flush=True)

    def progress(done: int, count: int | None) -> None:
        say("calibrating", f"batch {done} of {count or 'unknown'}")

    threading.Thread(target=listen, daemon=True).start()
    while True:
        name, variant = json.loads(jobs.get())
        try:
            build_job(name, variant, progress, say)
        except TrtlearnError as problem:
            say("failed", str(problem))
        except Exception as problem:
            say("failed", f"{type(problem).__name__}: {problem}")
        else:
            say("done")


if __name__ == "__main__":
    serve()
