"""How fast trtlearn is and how much memory it takes: `make bench`, as ratios measured in one run.

    python -m tools.bench [--repeats 7] [--rows explain migrate ...] [--json FILE]

Rows: two sides each, turn by turn, every run in a process of its own (tools/bench_sides.py); the
least CPU time of each side counts, since others may use the machine. Entropy search: one 2,048-bin histogram, ours beside ONNX Runtime's (and ModelOpt's and
pytorch-quantization's where installed). Collecting: ours beside one numpy pass over the same data.
Each pair is timed turn by turn, so that a busy machine slows both.
"""

from __future__ import annotations

import argparse
import importlib
import json
import subprocess
import sys
import tempfile
import time
import tracemalloc
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from trtlearn.calibration.entropy import entropy_search
from trtlearn.calibration.histogram import BINS, Histogram
from trtlearn.calibration.observers import EntropyObserver

Work = Callable[[], Any]


@dataclass(frozen=True)
class Row:
    """One promise: a side of tools/bench_sides.py, what it is compared with, and the limits."""

    side: str
    beside: str | None = None
    most_times: float | None = None  # the CPU time of the other side
    most_seconds: float | None = None
    most_mb: float | None = None


ROWS = (
    Row("explain", most_seconds=1.0, most_mb=100),
    Row("migrate", "load-save", most_times=3, most_mb=300),
    Row("cache-edit", most_seconds=2.0),
    Row("cache-check", most_seconds=2.0),
    Row("calibrate", "one-pass", most_times=2, most_mb=1000),
    Row("fit", "one-pass", most_times=2, most_mb=1000),
    Row("agree", "one-pass", most_times=2, most_mb=1000),
    Row("try-int8", "one-pass", most_times=4, most_mb=1000),
    Row("small-nodes", most_seconds=2.0),  # 2,000 nodes: 1 ms a node
    Row("read-engine", "json-loads", most_times=3),
    Row("picture", most_seconds=2.0),
    Row("version", "python", most_seconds=0.4),
)


def run_side(name: str, folder: str) -> dict[str, float]:
    """One side in its own process: seconds, CPU seconds, peak memory in MB."""
    command = [sys.executable, "-m", "tools.bench_sides", name, folder]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    result: dict[str, float] = json.loads(done.stdout.splitlines()[-1] if done.stdout else "{}")
    return result


def bench_rows(names: list[str], repeats: int) -> list[dict[str, Any]]:
    """Each row measured ``repeats`` times, both sides in turns; the least of each counts."""
    results = []
    with tempfile.TemporaryDirectory(prefix="trtlearn-bench-") as folder:
        run_side("make", folder)
        for row in (row for row in ROWS if not names or row.side in names):
            sides = [name for name in (row.side, row.beside) if name]
            runs: dict[str, list[dict[str, float]]] = {name: [] for name in sides}
            for _ in range(repeats):
                for name in sides:
                    runs[name].append(run_side(name, folder))
            best = {
                name: {key: min(run[key] for run in each) for key in each[0]}
                for name, each in runs.items()
            }
            ratio = best[row.side]["cpu"] / best[row.beside]["cpu"] if row.beside else None
            kept = (
                (row.most_times is None or ratio is None or ratio <= row.most_times)
                and (row.most_seconds is None or best[row.side]["cpu"] <= row.most_seconds)
                and (row.most_mb is None or best[row.side]["peak_mb"] <= row.most_mb)
            )
            results.append(asdict(row) | {"times": ratio, "kept": kept, "best": best})
            show_row(results[-1])
    return results


def show_row(result: dict[str, Any]) -> None:
    mine = result["best"][result["side"]]
    text = f"{result['side']:>12}: {mine['cpu']:7.2f} s of CPU, peak {mine['peak_mb']:6.0f} MB"
    if result["times"] is not None:
        text += f", {result['times']:.2f} times {result['beside']}"
    limits = [
        f"{limit:g} {unit}"
        for limit, unit in (
            (result["most_times"], "times"),
            (result["most_seconds"], "s"),
            (result["most_mb"], "MB"),
        )
        if limit is not None
    ]
    print(f"{text}; at most {', '.join(limits)}: {'yes' if result['kept'] else 'NO'}", flush=True)


def _spread(times: list[float]) -> dict[str, float]:
    low, middle, high = (1e3 * float(np.quantile(times, q)) for q in (0.1, 0.5, 0.9))
    return {"median_ms": middle, "p10_ms": low, "p90_ms": high}


def race(contestants: dict[str, Work], repeats: int) -> dict[str, list[float]]:
    """Seconds of each contestant, in turns; one warm-up each."""
    times: dict[str, list[float]] = {name: [] for name in contestants}
    for work in contestants.values():
        work()
    for _ in range(repeats):
        for name, work in contestants.items():
            start = time.perf_counter()
            work()
            times[name].append(time.perf_counter() - start)
    return times


def onnxruntime_search(counts: np.ndarray, width: float) -> Work | None:
    """ONNX Runtime's entropy search on the same magnitudes; its histogram spans both signs, so it
    is mirrored.
    """
    try:
        from onnxruntime.quantization.calibrate import HistogramCollector
    except ImportError:
        return None
    half = counts.reshape(-1, 2).sum(axis=1)  # 1,024 bins a side: 2,048 in all
    both = np.concatenate([half[::-1], half])
    edges = np.linspace(-width * BINS, width * BINS, BINS + 1).astype(np.float32)
    top = np.float32(width * BINS)
    collector = HistogramCollector("entropy", True, BINS, 128, 99.999, "same")
    return lambda: collector.get_entropy_threshold((both, edges, -top, top, top), 128)


def nvidia_search(module: str, counts: np.ndarray, width: float) -> Work | None:
    """The entropy search of one of NVIDIA's two libraries on the same histogram, where it is
    installed.
    """
    try:
        search = importlib.import_module(module)._compute_amax_entropy
    except (ImportError, AttributeError):
        return None
    edges = np.arange(BINS + 1) * width
    return lambda: search(counts, edges, 8, False, 1, 128)


HOW_TO_GET = {
    "onnxruntime": "pip install onnxruntime",
    "modelopt": "pip install 'nvidia-modelopt[onnx]' requests huggingface-hub (6 GB)",
    "pytorch-quantization": "PyPI holds a placeholder only; build it from NVIDIA's sources",
}
"""The other tools whose search is measured where they are installed."""


def bench_search(repeats: int) -> dict[str, Any]:
    """The entropy search, ours and others', on the histogram of a ReLU's output."""
    values = np.maximum(np.random.default_rng(0).standard_normal(200_000), 0).astype(np.float32)
    histogram = Histogram(keep_steps=False)
    histogram.add(values)
    counts, width = histogram.counts, float(histogram.width or 1.0)
    ours = race({"trtlearn": lambda: entropy_search(counts)}, max(repeats, 15))
    result: dict[str, Any] = {"bins": BINS, "trtlearn": _spread(ours["trtlearn"])}
    others = {
        "onnxruntime": onnxruntime_search(counts, width),
        "modelopt": nvidia_search("modelopt.torch.quantization.calib.histogram", counts, width),
        "pytorch-quantization": nvidia_search(
            "pytorch_quantization.calib.histogram", counts, width
        ),
    }
    for name, work in others.items():
        if work is None:
            result[name] = None
            continue
        times = race({"trtlearn": lambda: entropy_search(counts), name: work}, repeats)
        ratios = np.asarray(times[name]) / np.asarray(times["trtlearn"])
        result[name] = _spread(times[name]) | {"times_slower": float(np.median(ratios))}
    return result


def one_numpy_pass(values: np.ndarray, width: float) -> np.ndarray:
    """The least that numpy needs to count magnitudes in bins: |x|, its maximum, the bin of each,
    and the counts.
    """
    magnitudes = np.abs(values)
    magnitudes.max()
    return np.bincount(
        np.minimum((magnitudes * np.float32(1 / width)).astype(np.intp), BINS - 1), minlength=BINS
    )


def bench_collect(repeats: int, elements: int) -> dict[str, Any]:
    """Collecting one batch into the histogram, beside one numpy pass and beside numpy.histogram."""
    values = np.random.default_rng(1).standard_normal(elements).astype(np.float32)
    width = float(np.abs(values).max()) / BINS

    def ours() -> None:
        Histogram(keep_steps=False).add(values)

    times = race(
        {
            "trtlearn": ours,
            "numpy pass": lambda: one_numpy_pass(values, width),
            "numpy.histogram": lambda: np.histogram(np.abs(values), bins=BINS),
        },
        repeats,
    )
    mine = np.asarray(times["trtlearn"])
    return {
        "elements": elements,
        **{name: _spread(each) for name, each in times.items()},
        "ratio_to_numpy_pass": float(np.median(mine / np.asarray(times["numpy pass"]))),
        "ratio_to_numpy_histogram": float(np.median(mine / np.asarray(times["numpy.histogram"]))),
    }


def bench_memory() -> dict[str, int]:
    """Peak bytes that an entropy observer allocates for 10 and for 200 batches of 100,000
    values.
    """
    peaks = {}
    for batches in (10, 200):
        rng = np.random.default_rng(2)
        values = rng.standard_normal(100_000).astype(np.float32)
        tracemalloc.start()
        observer = EntropyObserver()
        for index in range(batches):
            observer.observe(values * np.float32(1 + index / 50))
        peaks[f"{batches}_batches"] = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    return peaks


def show(found: dict[str, Any]) -> None:
    """The results as lines of text."""

    def line(name: str, spread: dict[str, float]) -> str:
        return f"{name:>22}: {spread['median_ms']:10.2f} ms  ({spread['p10_ms']:.2f} to {spread['p90_ms']:.2f})"

    search = found["search"]
    print(f"Entropy search of one tensor, {search['bins']} bins")
    print(line("trtlearn", search["trtlearn"]))
    for name, how in HOW_TO_GET.items():
        if search[name] is None:
            print(f"{name:>22}: does not import: {how}")
        else:
            print(line(name, search[name]), f" {search[name]['times_slower']:.0f} times as long")
    for collect in found["collect"]:
        print(f"Collecting {collect['elements']:,} values")
        for name in ("trtlearn", "numpy pass", "numpy.histogram"):
            print(line(name, collect[name]))
        print(
            f"{'ratio':>22}: {collect['ratio_to_numpy_pass']:.2f} to one numpy pass, "
            f"{collect['ratio_to_numpy_histogram']:.2f} to numpy.histogram"
        )
    memory = found["memory"]
    print(
        "Peak memory of an entropy observer: "
        + ", ".join(f"{k}: {v / 1e6:.2f} MB" for k, v in memory.items())
    )


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--json", help="also write the numbers to this file")
    parser.add_argument("--rows", nargs="*", default=[], help="only these rows, no observers")
    options = parser.parse_args()
    rows = bench_rows(options.rows, min(options.repeats, 3))
    found: dict[str, Any] = {"rows": rows}
    if not options.rows:
        found |= bench_observers(options.repeats)
        show(found)
    if options.json:
        from trtlearn.files import write_atomic

        write_atomic(options.json, json.dumps(found, indent=2))
    return 0


def bench_observers(repeats: int) -> dict[str, Any]:
    """The entropy search, collecting, and the memory of an observer."""
    return {
        "search": bench_search(repeats),
        "collect": [bench_collect(repeats, size) for size in (50_000, 1_000_000, 8_000_000)],
        "memory": bench_memory(),
    }


if __name__ == "__main__":
    sys.exit(main())
