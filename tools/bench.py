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
import itertools
import json
import subprocess
import sys
import tempfile
import time
import tracemalloc
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from trtlearn.calibration.entropy import entropy_search
from trtlearn.calibration.histogram import BINS, Histogram
from trtlearn.calibration.observers import EntropyObserver

from .bench_sides import NODES

Work = Callable[[], Any]
MOST_SEARCH_MS = 8.9  # the entropy search of one tensor


@dataclass(frozen=True)
class Row:
    """One promise: a side of tools/bench_sides.py, its limits, and the side beside it.

    A limit's name says what is measured: "s" of CPU and "ms a node", "MB" at the peak, "times" the
    other side's CPU time, "times the memory" of the other side, "times its size": what the peak
    grows by beside the size of ``file``, "times its length": the text's beside that of ``file``.
    """

    side: str
    limits: dict[str, float]
    beside: str | None = None
    file: str | None = None


ROWS = (
    Row("explain", {"s": 1.0, "MB": 100}),
    Row("migrate", {"times": 3, "times its size": 2.5}, "load-save", "resnet50.onnx"),
    Row("cache-edit", {"s": 2.0}),
    Row("cache-check", {"s": 2.0}),
    Row("calibrate", {"times": 2, "MB": 1000}, "one-pass"),
    Row("fit", {"times": 2, "MB": 1000}, "one-pass"),
    Row("agree", {"times": 2, "MB": 1000}, "one-pass"),
    Row("try-int8", {"times": 4, "MB": 1000}, "one-pass"),
    Row("try-int8-long", {"times the memory": 1.1}, "try-int8"),
    Row("small-nodes", {"ms a node": 1.0}),
    Row("small-nodes-entropy", {"ms a node": 1.0}),
    Row("read-engine", {"times": 3}, "json-loads"),
    Row("picture", {"s": 2.0}),
    Row("long-cell", {"times its length": 1.5}, file="long-cell.json"),
    Row("version", {"s": 0.4}, "python"),
)


def run_side(name: str, folder: str) -> dict[str, float]:
    """One side in its own process: seconds, CPU seconds, peak memory in MB."""
    command = [sys.executable, "-m", "tools.bench_sides", name, folder]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    result: dict[str, float] = json.loads(done.stdout.splitlines()[-1] if done.stdout else "{}")
    return result


def bench_rows(names: list[str], repeats: int) -> list[dict[str, Any]]:
    """Each row measured ``repeats`` times, rows of one other side in turns; the least counts."""
    results = []
    with tempfile.TemporaryDirectory(prefix="trtlearn-bench-") as folder:
        run_side("make", folder)
        chosen = [row for row in ROWS if not names or row.side in names]
        best: dict[str, dict[str, float]] = {}
        for beside, rows in itertools.groupby(chosen, key=lambda row: row.beside):
            group = list(rows)
            sides = dict.fromkeys([beside, *(row.side for row in group)])
            for name in [side for side in sides if side] * repeats:
                run = run_side(name, folder)
                least = best.setdefault(name, run)
                best[name] = {key: min(value, least[key]) for key, value in run.items()}
            for row in group:
                results.append(judge(row, best, Path(folder)))
                show_row(results[-1])
    return results


def judge(row: Row, best: dict[str, dict[str, float]], folder: Path) -> dict[str, Any]:
    """What was measured of a row's limits, and whether all are kept."""
    mine, other = best[row.side], best[row.beside or row.side]
    size = (folder / row.file).stat().st_size if row.file else 1
    every = {
        "s": mine["cpu"],
        "ms a node": 1000 * mine["cpu"] / NODES,
        "MB": mine["peak_mb"],
        "times": mine["cpu"] / max(other["cpu"], 0.01),  # the clock's step
        "times the memory": mine["peak_mb"] / other["peak_mb"],
        "times its size": 1e6 * mine["own_mb"] / size,
        "times its length": mine.get("length", 0) / size,
    }
    found = {name: every[name] for name in row.limits}
    kept = all(found[name] <= limit for name, limit in row.limits.items())
    return asdict(row) | {"found": found, "kept": kept, "best": mine, "other": other}


def show_row(result: dict[str, Any]) -> None:
    """One line: each thing measured with its limit."""
    parts = []
    for name, limit in result["limits"].items():
        beside = f" {result['beside']}" if name == "times" else ""
        parts.append(f"{result['found'][name]:.2f} {name}{beside} (at most {limit:g})")
    mine = result["best"]
    facts = f"{mine['cpu']:6.2f} s of CPU, peak {mine['peak_mb']:5.0f} MB"
    answer = "kept" if result["kept"] else "NOT KEPT"
    print(f"{result['side']:>20}: {facts}; {', '.join(parts)}: {answer}", flush=True)


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
    result["kept"] = result["trtlearn"]["median_ms"] <= MOST_SEARCH_MS
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
    kept = "kept" if search["kept"] else "NOT KEPT"
    print(line("trtlearn", search["trtlearn"]), f" (at most {MOST_SEARCH_MS} ms): {kept}")
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
