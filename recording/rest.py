"""Make the recordings that were left out so far, on the next machine with a GPU, step by step.

    python -m recording.rest [--trtexec PATH] [--tactic-sources none] [--only STEP,STEP]

Each step runs in a process of its own and is saved at once; a step that is recorded is not made
again, so that an interrupted run goes on. ``rest.json`` says what came of each. A part that this
machine's set of recordings does not have goes to rest/ inside it, so that no set looks whole that
is not: a study is read from the newest set that holds studies.

Needs onnx and onnxruntime; the step ocr also Pillow and rapidocr-onnxruntime (zoo/networks.py).
"""

from __future__ import annotations

import argparse
import dataclasses
import gzip
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from recording import trtexec
from trtlearn.engine.records import Provenance, Timing
from trtlearn.errors import TrtlearnError
from trtlearn.files import data_dir, write_atomic
from trtlearn.live import cuda
from trtlearn.live.experiment import provenance, run_variant
from trtlearn.live.runner import Runner
from trtlearn.live.trt import available, live
from trtlearn.model.course_data import MODELS, load_images
from trtlearn.record import Record, parse_json
from trtlearn.recorded.files import folder_name, folder_with

__all__ = ["STEPS", "ClockedTimings", "main"]

ROOT = Path(__file__).resolve().parents[1]
SECONDS = 1800  # of one step
RUNS = 2000  # of a timing beside which the clock is read
CLOCKED = ("fp32", "fp16", "int8-placeholder", "int8-minmax")
CLOCK = ["nvidia-smi", "--query-gpu=clocks.sm,clocks.max.sm,temperature.gpu", "--id=0"]
CLOCK += ["--format=csv,noheader,nounits"]
OWN_NETWORKS = ("ocr", "unet")  # none of the course's: the first whose file is to be had


@dataclass(frozen=True)
class ClockedTiming(Record):
    """One engine's latency, and the GPU's clock while it was timed."""

    model: str
    variant: str
    timing: Timing
    graph_timing: Timing
    sm_clock_mhz: tuple[float, ...]  # one reading after the other, while it ran
    most_mhz: float | None  # what the GPU allows
    celsius: float | None  # at the last reading

    @property
    def median_mhz(self) -> float | None:
        return statistics.median(self.sm_clock_mhz) if self.sm_clock_mhz else None


@dataclass(frozen=True)
class ClockedTimings(Record):
    """Latencies with the SM clock beside each."""

    timings: tuple[ClockedTiming, ...]
    provenance: Provenance

    def rows(self) -> list[dict[str, Any]]:
        return [
            {"network": one.model, "way": one.variant, "median ms": one.timing.median_ms}
            | {"graph ms": one.graph_timing.median_ms, "SM MHz": one.median_mhz}
            for one in self.timings
        ]


@dataclass(frozen=True)
class Place:
    """Where a step writes, and what it is given."""

    machine: Path  # this machine's set of recordings
    options: argparse.Namespace

    def part(self, name: str) -> Path:
        """A part of the set; inside rest/ where the set does not have it yet."""
        whole = self.machine / name
        return whole if whole.is_dir() else self.machine / "rest" / name

    @property
    def tactics(self) -> list[str]:
        return [f"--tactic-sources={self.options.tactic_sources}"]

    @property
    def sources(self) -> tuple[str, ...] | None:
        return () if self.options.tactic_sources == "none" else None


def run_module(*words: str | Path, env: Mapping[str, str] | None = None) -> None:
    """Another script of recording/; TrtlearnError where it fails."""
    line = [sys.executable, "-m", *map(str, words)]
    done = subprocess.run(line, cwd=ROOT, env={**os.environ, **(env or {})}, check=False)
    if done.returncode:
        raise TrtlearnError(f"{' '.join(line[1:])} ended with status {done.returncode}")


def placements(place: Place) -> None:
    """mobile with Q/DQ in all four places: conv-outputs and everywhere were left out."""
    out = place.part("tradeoff")
    words = ["--stages=placements", "--models=mobile", *place.tactics]
    run_module("recording.tradeoff", f"--out={out}", *words)


def cached(place: Place) -> None:
    """resnet with min-max's ranges set by hand, without and with FP16."""
    out = place.part("studies").parent
    only = ["--models=resnet", "--resume", *place.tactics, "--only", "cached", "cached-fp16"]
    run_module("recording.layers", f"--out={out}", *only)


def read_clock() -> tuple[float, float, float] | None:
    """The SM clock in MHz, the most that the GPU allows, its temperature; None without
    nvidia-smi.
    """
    try:
        done = subprocess.run(CLOCK, capture_output=True, encoding="utf-8", check=True, timeout=10)
        clock, most, celsius = (float(word) for word in done.stdout.splitlines()[0].split(","))
    except (OSError, subprocess.SubprocessError, ValueError, IndexError):
        return None
    return clock, most, celsius


def clocked(work: Callable[[], Timing]) -> tuple[Timing, list[tuple[float, float, float]]]:
    """What ``work`` gives, done again and again for a second, and the clock read meanwhile."""
    readings: list[tuple[float, float, float]] = []
    over = threading.Event()

    def watch() -> None:
        while not over.is_set() and (one := read_clock()) is not None:
            readings.append(one)

    watcher = threading.Thread(target=watch, daemon=True)
    work()  # the clock is up
    watcher.start()
    end, timings = time.monotonic() + 1.0, [work()]
    while time.monotonic() < end:
        timings.append(work())
    over.set()
    watcher.join(20)
    return timings[-1], readings


def clocks(place: Place) -> None:
    """The SM clock beside the timings of both networks."""
    path, origin = place.machine / "rest" / "clocks.json.part", provenance(None, place.sources)
    found = _begun(path, origin)
    done = {(one.model, one.variant) for one in found}
    for model in MODELS:
        array = np.ascontiguousarray(load_images("test", model)[0][:8])
        for variant in CLOCKED:
            if (model, variant) in done:
                continue
            plans: list[bytes] = []
            run_variant(
                model, variant, tactic_sources=place.sources, runs=50, recorded=True,
                keep=lambda built, plans=plans: plans.append(built.plan),
            )  # fmt: skip
            with Runner(plans[0]) as runner:
                arrays = {next(iter(runner.inputs)): array}
                timing, readings = clocked(lambda: runner.time(arrays, 100, RUNS))  # noqa: B023
                graph, more = clocked(lambda: runner.time(arrays, 100, RUNS, graph=True))  # noqa: B023
            readings += more
            most, celsius = readings[-1][1:] if readings else (None, None)
            values = tuple(one[0] for one in readings)
            found.append(ClockedTiming(model, variant, timing, graph, values, most, celsius))
            origin = provenance(model, place.sources, recorded=True)
            record = ClockedTimings(tuple(found), origin)
            write_atomic(path, record.to_json(1) + "\n")
            print(record.rows()[-1], flush=True)
    path.replace(path.with_suffix(""))


def _begun(path: Path, here: Provenance) -> list[ClockedTiming]:
    """What an interrupted run timed on the same GPU, driver and TensorRT."""
    if not path.is_file():
        return []
    record = ClockedTimings.from_json(path.read_text(encoding="utf-8"))
    then = record.provenance
    same = (then.gpu, then.driver, then.tensorrt) == (here.gpu, here.driver, here.tensorrt)
    return list(record.timings) if same else []


def trtexec_caches(place: Place) -> None:
    """trtexec with a min-max cache, as TensorRT wrote it and with entropy 2's header."""
    if place.options.trtexec is None:
        raise TrtlearnError("trtexec is not here", "--trtexec=PATH names it")
    for model in MODELS:
        cache = folder_with(f"{model}/int8-minmax.cache") / model / "int8-minmax.cache"
        content = cache.read_bytes()
        changed = content.replace(b"-MinMaxCalibration", b"-EntropyCalibration2", 1)
        for name, given in (("minmax-cache", content), ("minmax-cache-new-header", changed)):
            with tempfile.TemporaryDirectory() as scratch:
                log = trtexec.record(model, place.options, Path(scratch), given=given)
            path = place.part("trtexec") / f"{model}-int8-{name}.json"
            write_atomic(path, log.to_json(indent=1) + "\n")
            print(log.summary(), flush=True)


def ocr(place: Place) -> None:
    """The zoo's pre-trained OCR network by entropy 2: the one cache of its four that is missing."""
    out = place.machine / "rest" / "calibration"
    with tempfile.TemporaryDirectory() as scratch:
        zoo = Path(scratch) / "zoo"
        env = {"OUT": f"{scratch}/packed", "CALIB_WORK": f"{scratch}/work"}
        run_module("recording.zoo.networks", zoo, "--only", "ocr")
        words = ["--zoo", zoo, "--networks", "ocr", "--only=zoo", "--jobs=1", "--seconds=1200"]
        run_module("recording.calibration.run", *words, env=env)
        machine = [f"--gpu={cuda.gpu_name()}", f"--driver={cuda.driver_version()}"]
        machine += [f"--tensorrt={available()}", f"--time={provenance().time_utc}"]
        words = [env["CALIB_WORK"], "--zoo", zoo, "--out", out, "--only", "agreement", *machine]
        run_module("recording.calibration.pack", *words)


def own_model(place: Place) -> None:
    """The script that notebook 09 writes for the GPU machine, run on a network that is not the
    course's.
    """
    from recording.zoo.networks import build
    from trtlearn.course.own_model.walk import try_int8

    with tempfile.TemporaryDirectory() as scratch:
        for name in OWN_NETWORKS:
            try:
                content, arrays, batch = build(name)
                break
            except SystemExit as problem:
                print(problem, flush=True)
        model = Path(scratch) / f"{name}.onnx"
        model.write_bytes(content)
        walk = try_int8(model, arrays, batch=batch, out=Path(scratch) / "out", live=False)
        paths = filter(None, [str(ROOT), os.environ.get("PYTHONPATH")])
        env = {**os.environ, "PYTHONPATH": os.pathsep.join(paths)}
        env["TRTLEARN_HOME"] = f"{scratch}/home"
        script = walk.files["script"]
        done = subprocess.run(
            [sys.executable, script], cwd=scratch, env=env, capture_output=True,
            encoding="utf-8", check=False, timeout=SECONDS,
        )  # fmt: skip
        out = place.machine / "rest" / "own-model"
        write_atomic(out / "output.txt", done.stdout + done.stderr)
        if done.returncode:
            raise TrtlearnError(f"the script ended with status {done.returncode}", f"read {out}")
        for path in (Path(script).parent / "on_gpu").iterdir():
            if path.suffix in (".json", ".cache"):
                shutil.copy(path, out / path.name)
            elif path.suffix == ".html":  # plotly's code makes it 5 MB
                packed = gzip.compress(path.read_bytes(), 9, mtime=0)
                write_atomic(out / f"{path.name}.gz", packed)
        if not list(out.glob("*.html.gz")):
            raise TrtlearnError("the script wrote no report", f"read {out / 'output.txt'}")


Step = Callable[[Place], None]
STEPS: dict[str, tuple[Step, str, tuple[str, ...]]] = {
    "placements": (
        placements,
        "tradeoff",
        ("placements/mobile/qdq-conv-outputs.json.gz", "placements/mobile/qdq-everywhere.json.gz"),
    ),
    "cached": (cached, "studies", ("resnet-cached.json", "resnet-cached-fp16.json")),
    "clocks": (clocks, "rest", ("clocks.json",)),
    "trtexec": (
        trtexec_caches,
        "trtexec",
        ("resnet-int8-minmax-cache.json", "mobile-int8-minmax-cache-new-header.json"),
    ),
    "ocr": (ocr, "rest/calibration", ("caches/ocr-entropy2.cache",)),
    "own-model": (own_model, "rest/own-model", ("output.txt", "*.html.gz")),
}
"""Name -> what it does, the part of the set that it writes to, the files that say it is done."""


def missing(place: Place, name: str) -> list[str]:
    """The files of a step that are not there yet."""
    _, part, files = STEPS[name]
    folder = place.machine / part if part.startswith("rest") else place.part(part)
    return [file for file in files if not list(folder.glob(file))]


def _one(place: Place, name: str, arguments: Sequence[str]) -> str:
    """Run a step in a process of its own; what came of it."""
    line = [sys.executable, "-m", "recording.rest", *arguments, "--step", name]
    try:
        status = subprocess.run(line, cwd=ROOT, check=False, timeout=SECONDS).returncode
    except subprocess.TimeoutExpired:
        return f"not done after {SECONDS} s"
    if status:
        return f"ended with status {status}"
    left = missing(place, name)
    return f"lacks {', '.join(left)}" if left else "recorded"


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line that the module's text describes; 1 where a step is not recorded."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--only", default=",".join(STEPS), help="some of " + ", ".join(STEPS))
    parser.add_argument("--tactic-sources", default="default", choices=("default", "none"))
    parser.add_argument("--trtexec", default=shutil.which("trtexec"), help="NVIDIA's own program")
    parser.add_argument("--out", type=Path, help="this machine's set; default: in data/recordings")
    parser.add_argument("--step", choices=tuple(STEPS), help=argparse.SUPPRESS)
    words = list(sys.argv[1:] if arguments is None else arguments)
    options = parser.parse_args(words)
    if unknown := sorted(set(options.only.split(",")) - set(STEPS)):
        parser.error(f"no step {unknown[0]!r}, expected some of {', '.join(STEPS)}")
    try:
        live()
        return _make(options, words)
    except TrtlearnError as problem:
        print(f"recording: {problem}", file=sys.stderr)
        return 2


def _make(options: argparse.Namespace, words: Sequence[str]) -> int:
    """The one step, or those that are not recorded yet, each in a process of its own."""
    machine = folder_name(cuda.gpu_name() or "gpu", available() or "unknown")
    place = Place(options.out or data_dir() / "recordings" / machine, options)
    if options.step:
        STEPS[options.step][0](place)
        return 0
    report = place.machine / "rest.json"
    try:
        said = parse_json(report.read_text("utf-8")) if report.is_file() else {}
    except ValueError as problem:
        fix = "remove it: the steps that are recorded stay"
        raise TrtlearnError(f"{report} is not JSON: {problem}", fix) from None
    for name in options.only.split(","):
        if missing(place, name):
            start = time.monotonic()
            came = _one(place, name, words)
            origin = dataclasses.replace(provenance(recorded=True), sha256={})
            seconds = round(time.monotonic() - start, 1)
            said[name] = {"came": came, "seconds": seconds, "provenance": origin.to_dict()}
            write_atomic(report, json.dumps(said, indent=1, ensure_ascii=False) + "\n")
        print(f"-- {name}: {said.get(name, {'came': 'recorded before'})['came']}", flush=True)
    return int(any(missing(place, name) for name in options.only.split(",")))


if __name__ == "__main__":
    sys.exit(main())
