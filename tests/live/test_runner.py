"""The runner checks what goes in, times what it says, and frees everything."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from trtlearn.errors import DataError, EngineError
from trtlearn.live.runner import Runner, summarize

PLAN = b"ftrt" + bytes(60)
X = np.arange(32, dtype=np.float32).reshape(8, 1, 2, 2)


def test_run_and_free(fake: dict[str, Any]) -> None:
    with Runner(PLAN) as runner:
        assert runner.inputs == {"image": ((8, 1, 2, 2), "fp32")}
        assert runner.outputs == ("logits",)
        assert runner.device_memory_bytes == 512
        once = runner.run({"image": X})
        assert np.array_equal(once["logits"], -X.reshape(8, 4))
        again = runner.run({"image": np.asfortranarray(X[::-1])})
        assert np.array_equal(again["logits"], -X[::-1].reshape(8, 4))
        assert np.array_equal(once["logits"], -X.reshape(8, 4))  # a new array each time
        assert len(fake["cuda"].memory) == 2
    runner.close()
    assert not fake["cuda"].memory
    assert not any(fake["cuda"].open.values())
    with pytest.raises(EngineError, match="closed"):
        runner.run({"image": X})


@pytest.mark.parametrize("graph", [False, True])
def test_timing(fake: dict[str, Any], graph: bool) -> None:
    with Runner(PLAN) as runner:
        timing = runner.time({"image": X}, warmup=3, runs=100, graph=graph)
    assert (timing.runs, timing.warmup, timing.batch) == (100, 3, 8)
    assert timing.p05_ms < timing.median_ms < timing.p95_ms
    assert timing.median_ms == pytest.approx(0.0505)  # the fake clock ticks 0.001 ms a pair
    assert ("graph" in timing.method) == graph
    assert not any(fake["cuda"].open.values())


def test_profile_gives_each_layers_median(fake: dict[str, Any]) -> None:
    with Runner(PLAN) as runner:
        timing = runner.profile({"image": X}, warmup=2, runs=5)
        assert timing.layers_ms == {"conv + relu": 0.25, "head": 0.5}
        assert timing.median_ms == 0.75
        assert timing.runs == 5


@pytest.mark.parametrize(
    ("arrays", "words"),
    [
        ({}, r"has inputs \[\], expected \['image'\]"),
        ({"image": X, "x": X}, r"has inputs \['image', 'x'\], expected \['image'\]"),
        ({"image": X[:7]}, r"shape \[7,1,2,2\], expected \[8,1,2,2\]"),
        ({"image": X.astype(np.float64)}, "is float64, expected float32"),
        ({"image": np.full_like(X, np.nan)}, r"holds NaN or infinity.*\(nan\)"),
    ],
)
def test_bad_inputs(fake: dict[str, Any], arrays: dict[str, Any], words: str) -> None:
    with Runner(PLAN) as runner, pytest.raises(DataError, match=words):
        runner.run(arrays)


@pytest.mark.parametrize("plan", [b"", b"not a plan"])
def test_a_plan_that_does_not_load(fake: dict[str, Any], plan: bytes) -> None:
    with pytest.raises(EngineError, match="does not load") as caught:
        Runner(plan)
    assert "\n" not in str(caught.value)
    assert "build the engine again" in str(caught.value)


def test_counts_are_checked(fake: dict[str, Any]) -> None:
    with Runner(PLAN) as runner, pytest.raises(DataError, match="runs=0"):
        runner.time({"image": X}, runs=0)


def test_summary_of_latencies() -> None:
    timing = summarize([float(value) for value in range(1, 102)], 5, 8, "CUDA events")
    assert (timing.p05_ms, timing.median_ms, timing.p95_ms) == (6.0, 51.0, 96.0)


def test_a_plan_behind_ultralytics_metadata_runs(fake: dict[str, Any]) -> None:
    metadata = b'{"task": "detect"}'
    with Runner(len(metadata).to_bytes(4, "little") + metadata + PLAN) as runner:
        assert runner.outputs
