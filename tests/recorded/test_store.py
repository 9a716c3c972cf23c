"""A reader's builds: made once, found by what made them, whole or not there at all."""

from __future__ import annotations

import dataclasses
import fcntl
import multiprocessing
import os
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from trtlearn.builds import Build
from trtlearn.engine.records import BuildOptions, Provenance
from trtlearn.errors import BuildError, DataError
from trtlearn.networks import network
from trtlearn.recorded import store
from trtlearn.recorded.store import (
    PLANS_MB,
    Wanted,
    build_once,
    find,
    outputs_of,
    own_builds,
    plan_of,
)

ORIGIN = Provenance("NVIDIA Fake", "550.1", "8.6.1", time_utc="2026-11-28T20:00", recorded=False)
WANTED = Wanted("resnet", "int8-minmax", BuildOptions(int8=True), ORIGIN, {"models/r.onnx": "ab"})
PLAN = b"ftrt" + bytes(1000)


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("TRTLEARN_HOME", str(tmp_path))
    return tmp_path


def build() -> Build:
    one = network("resnet", mode="recorded").build("int8-minmax")
    return dataclasses.replace(one, provenance=ORIGIN)


def make() -> tuple[Build, bytes]:
    return build(), PLAN


def refuse() -> Any:
    raise AssertionError("built again")


def test_built_once_then_loaded_in_milliseconds_and_says_when(home: Path) -> None:
    made = build_once(WANTED, make)
    start = time.process_time()
    again = build_once(WANTED, refuse)
    assert time.process_time() - start < 0.5  # on a busy machine; some 80 ms
    assert again == made
    assert again.build == build()
    assert again.build.label == "measured here on NVIDIA Fake, TensorRT 8.6.1, 2026-11-28"
    assert plan_of(WANTED, again) == PLAN
    (row,) = own_builds().rows()
    assert row["measured here"] == "2026-11-28"
    assert row["plan"] == "kept"


@pytest.mark.parametrize(
    "change",
    [
        {"hashes": {"models/r.onnx": "cd"}},
        {"options": BuildOptions(int8=True, batch=1)},
        {"origin": dataclasses.replace(ORIGIN, gpu="NVIDIA Other")},
        {"origin": dataclasses.replace(ORIGIN, driver="551.0")},
        {"origin": dataclasses.replace(ORIGIN, tensorrt="10.3.0")},
    ],
)
def test_another_model_way_or_machine_is_another_build(change: dict[str, Any]) -> None:
    build_once(WANTED, make)
    assert find(dataclasses.replace(WANTED, **change)) is None
    later = dataclasses.replace(ORIGIN, time_utc="2027-01-01", cuda="13.0")
    assert find(dataclasses.replace(WANTED, origin=later)) is not None


def test_what_a_killed_program_leaves_is_never_taken_for_a_build(home: Path) -> None:
    build_once(WANTED, make)
    record, plan = WANTED.file(".json.gz"), WANTED.file(".plan")
    whole = record.read_bytes()
    for content in (whole[: len(whole) // 2], b"", b"PK"):
        record.write_bytes(content)
        assert find(WANTED) is None
        assert own_builds().builds == ()
    assert build_once(WANTED, make).build == build()
    plan.write_bytes(PLAN[:-1])  # as if killed between two renames: a plan of another build
    own = build_once(WANTED, refuse)
    assert plan_of(WANTED, own) is None
    again = build_once(WANTED, make, need_outputs=True)
    assert plan_of(WANTED, again) == PLAN


def test_what_an_engine_gives_is_kept_where_no_plan_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(PLANS_MB, "0")
    outputs = {"file": np.arange(6, dtype=np.float32).reshape(2, 3), "/b:0": np.ones(2, np.int64)}
    build_once(WANTED, make)
    own = build_once(WANTED, lambda: (build(), PLAN, outputs), need_outputs=True)
    again = build_once(WANTED, refuse, need_outputs=True)
    assert again == own
    np.testing.assert_equal(outputs_of(WANTED, again), outputs)
    file = WANTED.file(".npz")
    file.write_bytes(file.read_bytes()[:-1])  # another build's, as if killed between two renames
    assert outputs_of(WANTED, again) is None
    with pytest.raises(AssertionError, match="built again"):
        build_once(WANTED, refuse, need_outputs=True)
    monkeypatch.setattr(store, "MOST_OUTPUTS", 39)  # they have 40 bytes
    assert build_once(WANTED, lambda: (build(), PLAN, outputs), again=True).outputs_sha256 is None


def killed() -> None:
    """A kernel that is killed while it builds."""

    def make() -> Any:
        os._exit(9)

    build_once(WANTED, make)


def slow(count: Any) -> None:
    def make() -> tuple[Build, bytes]:
        with count.get_lock():
            count.value += 1
        time.sleep(0.2)
        return build(), PLAN

    build_once(WANTED, make)


def test_two_programs_build_it_once_and_a_killed_one_holds_nobody_up() -> None:
    fork = multiprocessing.get_context("fork")
    dead = fork.Process(target=killed)
    dead.start()
    dead.join()
    assert dead.exitcode == 9
    count = fork.Value("i", 0)
    both = [fork.Process(target=slow, args=(count,)) for _ in range(2)]
    for one in both:
        one.start()
    for one in both:
        one.join(60)
    assert [one.exitcode for one in both] == [0, 0]
    assert count.value == 1
    assert find(WANTED) is not None


def test_a_refused_build_is_kept_with_its_log_and_not_tried_again(home: Path) -> None:
    def fail() -> Any:
        error = BuildError("the build failed at layer 'stem': Assertion engine failed", "go on")
        error.log = "[E] 2: Assertion engine failed é"
        raise error

    for again in (fail, refuse):
        with pytest.raises(
            BuildError, match=r"'stem'.*tried here on 2026-11-28; log: .*live rebuild resnet`"
        ):
            build_once(WANTED, again)
    log = WANTED.file(".log")
    assert log.read_text(encoding="utf-8") == "[E] 2: Assertion engine failed é"
    assert str(log) in own_builds().rows()[0]["result"]
    assert build_once(WANTED, make, again=True).build == build()


def test_bad_input_is_no_refusal_of_tensorrt() -> None:
    def fail() -> Any:
        raise BuildError("ranges from nowhere")

    with pytest.raises(BuildError, match="nowhere"):
        build_once(WANTED, fail)
    assert own_builds().builds == ()


def test_plans_stay_under_their_limit(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(PLANS_MB, "0")
    assert build_once(WANTED, make).plan_sha256 is None
    monkeypatch.setenv(PLANS_MB, "1")
    ways = [dataclasses.replace(WANTED, variant=f"way{index}") for index in range(3)]
    for age, one in enumerate(ways):
        build_once(one, lambda: (build(), b"ftrt" + bytes(400_000)))
        os.utime(one.file(".plan"), (age, age))
    assert [one.file(".plan").exists() for one in ways] == [False, True, True]
    assert own_builds().plans_bytes <= 1_000_000
    monkeypatch.setenv(PLANS_MB, "many")
    with pytest.raises(DataError, match="TRTLEARN_PLANS_MB is 'many'"):
        own_builds().summary()
    with pytest.raises(DataError, match="TRTLEARN_PLANS_MB is 'many'"):
        build_once(WANTED, refuse, again=True)  # before it is built


def test_clear_leaves_nothing(home: Path) -> None:
    build_once(WANTED, make)
    waited: list[str] = []
    own_builds().clear(lambda: waited.append("waiting"))
    assert own_builds().builds == ()
    assert not list(home.rglob("*.plan"))
    assert waited == []
    handle = os.open(WANTED.place.with_name("builds.lock"), os.O_RDWR)  # another program builds
    fcntl.flock(handle, fcntl.LOCK_EX)
    own_builds().clear(lambda: waited.append("waiting") or fcntl.flock(handle, fcntl.LOCK_UN))
    os.close(handle)
    assert waited == ["waiting"]


def test_how_long_it_will_take_is_known_before() -> None:
    recorded = network("resnet", mode="recorded").build("int8-minmax").build.build_seconds
    assert recorded is not None
    assert store.expected_seconds("resnet", "int8-minmax") == recorded + store.MEASURING
    own = build_once(WANTED, make)
    assert store.expected_seconds("resnet", "int8-minmax") == own.seconds
    assert store.expected_seconds("my-model", "fp32") is None
