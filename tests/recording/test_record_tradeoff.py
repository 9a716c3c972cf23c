"""recording/tradeoff.py from its command line to its files, over the fake TensorRT."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from recording import jobs, tradeoff
from trtlearn.engine.records import VARIANTS
from trtlearn.errors import TrtlearnError
from trtlearn.recorded import tradeoffs

IMAGES = np.random.default_rng(0).standard_normal((100, 1, 2, 2)).astype(np.float32)
TRUTH = (-IMAGES).reshape(100, 4).argmax(axis=1)


def here(job: jobs.Job) -> jobs.Facts:
    """The job in this process."""
    told = jobs._guarded(job)
    if isinstance(told, str):
        raise TrtlearnError(told)
    return told


@pytest.fixture
def record(fake: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Call it with stages; gives the exit status and the folder."""
    for module in (jobs, tradeoff):
        monkeypatch.setattr(module, "load_images", lambda split: (IMAGES, TRUTH))
    monkeypatch.setattr(jobs.Worker, "run", lambda self, job: here(job))

    def run(stages: str, *more: str) -> tuple[int, Path]:
        words = [
            "--out",
            str(tmp_path / "out"),
            "--scratch",
            str(tmp_path / "scratch"),
            "--stages",
            stages,
        ]
        monkeypatch.setattr(
            sys, "argv", ["record_tradeoff.py", *words, "--runs", "3", "--models", "resnet", *more]
        )
        return tradeoff.main(), tmp_path / "out"

    return run


def test_every_way_at_every_batch_is_built_and_timed(record: Any) -> None:
    status, out = record("points", "--tactic-sources", "none")
    points = tradeoffs.tradeoff("points-resnet", folder=out).points
    assert status == 0
    assert {(p.variant, p.batch) for p in points} == {
        (n, b) for n in (*VARIANTS, "qdq") for b in (1, 8, 64)
    }
    for point in points:
        assert point.accuracy == 1.0
        assert point.timing is not None
        assert point.graph_timing is not None
        assert point.build_seconds is None  # a timing cache shortened it
        assert (point.options.timing_cache, point.options.tactic_sources) == ("warm", ())
        assert point.options.ranges == (
            "cache" if point.variant in CALIBRATED else VARIANTS_RANGES[point.variant]
        )


CALIBRATED = ("int8-entropy2", "int8-minmax", "int8-entropy", "int8-legacy", "int8-fp16")
VARIANTS_RANGES = {name: options.ranges for name, options in VARIANTS.items()} | {"qdq": "qdq"}


def test_the_plans_are_timed_by_trtexec_too(record: Any, tmp_path: Path) -> None:
    program = tmp_path / "trtexec"
    program.write_text(
        '#!/bin/sh\ncase "$*" in *--useCudaGraph*) n=0.25;; *) n=0.5;; esac\n'
        'echo "[I] GPU Compute Time: min = 0.1 ms, max = 9 ms, mean = 0.6 ms, median = $n ms, percentile(90%) = 1 ms"\n'
    )
    program.chmod(0o755)
    _, out = record("points", "--trtexec", str(program))
    points = {p.variant: p for p in tradeoffs.tradeoff("points-resnet", folder=out).points}
    assert (points["fp32"].trtexec_ms, points["fp32"].trtexec_graph_ms) == (0.5, 0.25)
    assert points["int8-legacy"].trtexec_ms is None


def test_what_fails_is_named_and_the_rest_goes_on(
    record: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def half(self: jobs.Worker, job: jobs.Job) -> jobs.Facts:
        if job.name == "fp16":
            raise TrtlearnError("the process that built it died, twice")
        return here(job)

    monkeypatch.setattr(jobs.Worker, "run", half)
    status, out = record("points")
    assert status == 1
    assert "FAILED resnet-fp16-b8: the process that built it died, twice" in capsys.readouterr().out
    kept = tradeoffs.tradeoff("points-resnet", folder=out)
    assert len(kept.points) == 30
    assert any("resnet-fp16-b64" in note for note in kept.provenance.notes)


def test_a_stage_whose_time_is_over_begins_no_build(
    record: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    status, out = record("points", "--limit", "-1")
    assert status == 1
    assert not list(out.glob("*.gz"))
    assert "not begun, the stage's time was over" in capsys.readouterr().out


def test_a_worker_that_dies_twice_is_one_clear_error() -> None:
    worker = jobs.Worker()

    class Dead:
        def submit(self, *words: Any) -> Any:
            raise jobs.BrokenProcessPool

        def shutdown(self, **words: Any) -> None: ...

        _processes: dict[int, Any] = {}  # noqa: RUF012

    def dead(*words: Any) -> Any:
        return Dead()

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(jobs, "ProcessPoolExecutor", dead)
        with pytest.raises(TrtlearnError, match="died, twice"):
            worker.run(None)  # type: ignore[arg-type]


def test_a_recording_goes_on_where_it_was_cut_short(
    record: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    built: list[str] = []

    def first(self: jobs.Worker, job: jobs.Job) -> jobs.Facts:
        if job.options.batch == 64:
            raise TrtlearnError("no time")
        built.append(job.key)
        return here(job)

    monkeypatch.setattr(jobs.Worker, "run", first)
    _, out = record("points")
    before = tradeoffs.tradeoff("points-resnet", folder=out)

    def rest(self: jobs.Worker, job: jobs.Job) -> jobs.Facts:
        built.append(job.key)
        return here(job)

    monkeypatch.setattr(jobs.Worker, "run", rest)
    status, _ = record("points", "--resume")
    after = tradeoffs.tradeoff("points-resnet", folder=out)
    assert status == 0
    assert len(built) == len(set(built)) == len(after.points) == 33
    assert after.points[:22] == before.points
    assert after.provenance.since_utc == before.provenance.time_utc
