"""The engines of the three networks that are still to be recorded: the plan, and how it resumes."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from recording.networks.jobs import jobs
from recording.networks.work import RECORDED, Desk, missing, workers


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    return Desk(tmp_path / "out", RECORDED)


def test_what_is_recorded_is_not_built_again_and_vit_comes_first(desk: Desk) -> None:
    todo = missing(desk)
    recorded = {
        (path.parent.name, path.name.removesuffix(".json.gz"))
        for path in RECORDED.glob("*/*.json.gz")
    }
    assert not {(job.model, job.key) for job in todo} & recorded
    assert {(job.model, job.key) for job in jobs()} <= {
        (job.model, job.key) for job in todo
    } | recorded
    for tier in {job.tier for job in todo}:
        models = [job.network for job in todo if job.tier == tier]
        assert models == sorted(models, key=lambda name: name != "vit")
    assert [job.tier for job in todo] == sorted(job.tier for job in todo)


def test_it_goes_on_where_it_was(desk: Desk) -> None:
    everything = Desk(desk.out, desk.out / "nothing recorded")
    first, second, third = missing(everything)[:3]
    assert first.network == "vit"
    assert everything.claim(first)
    assert not everything.claim(first)  # another worker has it
    assert everything.claimed(first)
    everything.release()  # that worker was stopped: the job is open again
    assert first in missing(everything)
    assert not everything.claimed(first)
    points = desk.out / "points"
    points.mkdir()
    (points / f"{first.model}--{first.key}.json").write_text("{}", encoding="utf-8")
    everything.fail(second, "it died")
    assert missing(everything)[0] == third


def test_a_job_waits_for_its_calibration(desk: Desk) -> None:
    everything = Desk(desk.out, desk.out / "nothing recorded")
    waiting = next(job for job in missing(everything) if job.needs)
    assert not everything.ready(waiting)
    everything.fail(
        next(j for j in jobs() if (j.model, j.key) == (waiting.model, waiting.needs)), "no"
    )
    assert waiting not in missing(everything)


def test_each_gpu_has_one_worker_and_its_own_timing_caches(tmp_path: Path) -> None:
    both = workers(2, ["--limit=540"], tmp_path)
    assert [environment["CUDA_VISIBLE_DEVICES"] for environment, _ in both] == ["0", "1"]
    assert all("--limit=540" in command for _, command in both)
    assert len({command[-1] for _, command in both}) == 2


def test_the_plan_needs_no_gpu_and_writes_nothing(tmp_path: Path) -> None:
    command = [
        sys.executable,
        "-m",
        "recording.networks.work",
        "--plan",
        "--out",
        str(tmp_path / "out"),
    ]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    lines = done.stdout.splitlines()
    assert lines[0].endswith("engines are missing")
    assert len(lines) == 1 + int(lines[0].split()[0])
    assert not (tmp_path / "out").exists()


def test_a_worker_may_take_some_networks_only(tmp_path: Path) -> None:
    everything = Desk(tmp_path / "out", tmp_path / "nothing recorded")
    apart = [missing(everything, networks=[name]) for name in ("vit", "photo", "detector")]
    assert [{job.network for job in one} for one in apart] == [{"vit"}, {"photo"}, {"detector"}]
    assert sum(map(len, apart)) == len(missing(everything)) == len(jobs())
    assert all(job.name.startswith("int8-fp16") for job in apart[0][-5:])  # not built in 7 minutes
