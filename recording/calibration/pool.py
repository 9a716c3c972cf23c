"""Persistent worker processes for the calibration experiments: started once, replaced when they die
or hang.
"""

from __future__ import annotations

import json
import os
import queue
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
START_LIMIT = 75  # seconds that a worker may take to make its first builder
NEXT_LIMIT = 20  # and a later one
MEMORY_LEAST = 12_000  # MiB of GPU memory below which a worker is replaced: parked jobs keep theirs


class Worker:
    """One process. ``state``: starting, idle, busy, dead."""

    count = 0

    def __init__(self, pool: Pool) -> None:
        Worker.count += 1
        self.name, self.pool, self.state, self.since = (
            f"w{Worker.count}",
            pool,
            "starting",
            time.time(),
        )
        self.job: dict | None = None
        self.parked = self.jobs = 0
        self.errors = pool.folder / f"{self.name}.err"
        self.process = subprocess.Popen(
            [sys.executable, "-m", "recording.calibration.worker"],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self.errors.open("wb"),
            start_new_session=True,
            encoding="utf-8",
        )
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self) -> None:
        for line in self.process.stdout:
            if line.startswith("@@"):
                self.pool.events.put((self, json.loads(line[2:])))
        self.pool.events.put((self, {"gone": self.process.wait()}))

    def give(self, job: dict, target: Path) -> bool:
        self.job, self.state, self.since = job, "busy", time.time()
        try:
            self.process.stdin.write(json.dumps(job | {"target": str(target)}) + "\n")
            self.process.stdin.flush()
        except OSError:
            return False
        return True

    def kill(self) -> None:
        self.state = "dead"
        try:
            os.killpg(self.process.pid, signal.SIGKILL)
        except OSError:
            self.process.kill()

    def last_words(self) -> str:
        try:
            return self.errors.read_text(errors="replace", encoding="utf-8")[-600:]
        except OSError:
            return ""


class Pool:
    """``run`` hands jobs to ``size`` workers, in order, and returns {name: result}; results are
    JSON files too.
    """

    def __init__(self, size: int, folder: Path, say, deadline: float) -> None:
        self.size, self.folder, self.say, self.deadline = size, folder, say, deadline
        folder.mkdir(parents=True, exist_ok=True)
        self.events: queue.Queue = queue.Queue()
        self.fresh = False  # every job in a new process: when parking turns out not to work
        self.hung_after_park = self.fine_after_park = self.lost = 0
        self.workers = [Worker(self) for _ in range(size)]
        self.waiting: list[dict] = []
        self.results: dict[str, dict] = {}

    def run(
        self, jobs: list[dict], parallel: int | None = None, deadline: float | None = None
    ) -> dict[str, dict]:
        limit = min(deadline or self.deadline, self.deadline)
        self.waiting, self.results = list(jobs), {}
        while self.waiting or self._busy():
            if self.waiting and time.time() > limit:
                self.say(
                    "no time left for",
                    len(self.waiting),
                    "jobs:",
                    [j["name"] for j in self.waiting][:6],
                )
                self.waiting = []
            if time.time() > limit + 12:
                for worker in self._busy():
                    self._lose(worker, "deadline", again=False)
                break
            self._hand_out(parallel or self.size)
            try:
                worker, event = self.events.get(timeout=0.05)
                self._handle(worker, event)
            except queue.Empty:
                pass
            self._watch()
        return self.results

    def close(self) -> None:
        for worker in self.workers:
            worker.kill()

    def _busy(self) -> list[Worker]:
        return [w for w in self.workers if w.state == "busy"]

    def _hand_out(self, parallel: int) -> None:
        idle = [w for w in self.workers if w.state == "idle"]
        while self.waiting and idle and len(self._busy()) < parallel:
            job, worker = self.waiting.pop(0), idle.pop(0)
            if not worker.give(job, self.folder / f"{job['name']}.json"):
                self.waiting.insert(0, job)
                self._replace(worker)

    def _handle(self, worker: Worker, event: dict) -> None:
        if worker.state == "dead":
            return
        if "ready" in event:
            slow = event["ready"] > 4 or worker.parked == 0
            if slow or event["early"]:
                self.say(worker.name, "ready", {k: v for k, v in event.items() if v})
            if worker.parked == 0:
                worker.started_in = event["since_start"]
            worker.parked, worker.state = event["parked"], "idle"
            if event["free_mib"] < MEMORY_LEAST:
                self.say(
                    worker.name, "GPU memory is short:", event["free_mib"], "MiB free; replaced"
                )
                self._replace(worker)
        elif "done" in event:
            self._collect(worker, event["parked"])
        elif "gone" in event:
            if worker.state == "busy":
                self._lose(
                    worker,
                    f"worker ended with {event['gone']}: {worker.last_words()}",
                    again=worker.jobs > 0,
                )
            else:
                self.say(
                    worker.name,
                    "ended while",
                    worker.state,
                    event["gone"],
                    worker.last_words()[-300:],
                )
                self._replace(worker)

    def _collect(self, worker: Worker, parked: bool) -> None:
        job, worker.job = worker.job, None
        result = json.loads((self.folder / f"{job['name']}.json").read_text(encoding="utf-8"))
        self.results[job["name"]] = result
        worker.jobs += 1
        self.fine_after_park += worker.parked > 0
        note = result["error"][-250:].replace("\n", " | ") if "error" in result else ""
        lines = len(result.get("cache", "").splitlines())
        self.say(
            f"{worker.name} {result['seconds']:6.2f} s {job['name']} cache {lines} lines",
            f"scales {len(result['scales'])} messages {len(result['messages'])}",
            note,
        )
        worker.state, worker.since = ("starting" if parked else "idle"), time.time()
        if self.fresh:
            self._replace(worker)

    def _watch(self) -> None:
        for worker in list(self.workers):
            took = time.time() - worker.since
            if worker.state == "busy" and took > worker.job.get("timeout", 30):
                self._lose(worker, f"no end after {took:.0f} s", again=worker.parked > 0)
            elif worker.state == "starting" and took > (NEXT_LIMIT if worker.jobs else START_LIMIT):
                self.say(worker.name, "made no builder in", round(took), "s; replaced")
                self.hung_after_park += worker.jobs > 0
                self._replace(worker)
        if not self.fresh and self.hung_after_park >= 3 and not self.fine_after_park:
            self.fresh = True
            self.say(
                "a second builder in one process hangs: from now on each job gets a new process"
            )

    def _lose(self, worker: Worker, why: str, again: bool) -> None:
        job = worker.job
        path = self.folder / f"{job['name']}.json"
        if path.exists():  # saved when the cache came
            self.results[job["name"]] = json.loads(path.read_text(encoding="utf-8")) | {
                "ended": why
            }
            again = False
        else:
            self.hung_after_park += worker.parked > 0
            self.results[job["name"]] = {
                "job": {k: v for k, v in job.items() if k != "onnx_bytes"},
                "error": why,
            }
        path.write_text(json.dumps(self.results[job["name"]]), encoding="utf-8")
        self.say(
            "LOST",
            worker.name,
            job["name"],
            why[-300:].replace("\n", " | "),
            "again" if again else "",
        )
        if again and not job.get("second_try"):
            path.unlink()
            self.waiting.insert(0, job | {"second_try": True})
        self.lost += 1
        self._replace(worker)

    def _replace(self, worker: Worker) -> None:
        worker.kill()
        self.workers.remove(worker)
        if time.time() < self.deadline - 25 and self.lost < 40:
            self.workers.append(Worker(self))
