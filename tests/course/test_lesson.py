"""A live notebook: recorded engines at once, the reader's own behind them, figures that change
over.
"""

from __future__ import annotations

import dataclasses
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import plotly.io
import pytest
from hostile import FILES
from IPython.core.interactiveshell import InteractiveShell

from trtlearn import networks
from trtlearn.builds import Build
from trtlearn.course.builder import Builder, Job
from trtlearn.course.lesson import Lesson, begin
from trtlearn.course.own_model import engines
from trtlearn.course.own_model.walk import try_int8
from trtlearn.networks import Network, network
from trtlearn.recorded.store import expected_seconds, own_builds

SAYING = """
import json, sys
for line in sys.stdin:
    name, variant = json.loads(line)
    if variant == "fp16":
        print('{"stage": "bui', end="", flush=True)  # it dies inside a line
        sys.exit(3)
    print("a line of TensorRT's own", flush=True)
    said = [("building", ""), ("calibrating", "batch 3 of 64"), ("done", name)]
    if variant == "int8-legacy":
        said[2] = ("failed", "2: Assertion engine failed")
    for stage, detail in said:
        print(json.dumps({"stage": stage, "detail": detail}), flush=True)
        if variant == "tf32":
            import time; time.sleep(600)
"""


# --- the builder's process


def all_end(builder: Builder, seconds: float) -> bool:
    """Whether all jobs ended within so many seconds."""
    end = time.monotonic() + seconds
    while builder.pending() and time.monotonic() < end:
        time.sleep(0.02)
    return not builder.pending()


def test_jobs_are_built_in_turn_and_every_end_is_told() -> None:
    seen: list[tuple[str, str]] = []
    builder = Builder(
        lambda job: seen.append((job.variant, job.stage)), (sys.executable, "-c", SAYING)
    )
    first, legacy = builder.ask("mobile", "fp32"), builder.ask("mobile", "int8-legacy")
    crash, last = builder.ask("mobile", "fp16"), builder.ask("resnet", "fp32")
    assert builder.ask("mobile", "fp32") is first
    assert first.expected is not None  # from the recordings
    assert all_end(builder, 30)
    assert [one.stage for one in (first, legacy, crash, last)] == [
        "done",
        "failed",
        "failed",
        "done",
    ]
    assert "Assertion engine failed" in legacy.line()
    assert crash.detail == "the builder's process ended (status 3)"
    assert ("fp32", "calibrating") in seen
    assert seen.index(("fp32", "done")) < seen.index(("int8-legacy", "building"))


def test_a_file_is_built_whatever_it_is_called() -> None:
    builder = Builder(lambda job: None, (sys.executable, "-c", SAYING))
    jobs = [builder.ask(f"/a folder/{name}", "fp32") for name in FILES]
    assert all_end(builder, 60)
    assert [job.detail for job in jobs] == [job.network for job in jobs]


def test_stop_ends_the_process_at_once_and_asking_begins_again() -> None:
    builder = Builder(lambda job: None, (sys.executable, "-c", SAYING))
    job, other = builder.ask("mobile", "tf32"), builder.ask("mobile", "fp32")
    while job.stage == "queued":
        time.sleep(0.01)
    process = builder._process
    assert process is not None
    assert "building" in job.line()
    assert " s of about " in job.line()
    builder.stop()
    assert (job.stage, other.stage) == ("stopped", "stopped")
    assert process.wait(10) != 0
    again = builder.ask("mobile", "fp32")
    assert all_end(builder, 30)
    assert again.stage == "done"


REAL = """
import sys
sys.path[:0] = [{root!r}, {tests!r}]
import fake_trt, pytest
from made_up import MadeUp
from trtlearn.course.builder import serve
from trtlearn.live import cuda, trt
scene = {{"cuda": fake_trt.FakeCuda()}}
MadeUp(scene, pytest.MonkeyPatch()).be("as recorded")
trt._load = lambda name: scene["module"]
cuda.runtime = lambda: scene["cuda"]
serve()
"""


def test_the_builders_own_process_builds_keeps_and_ends_with_its_kernel(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TRTLEARN_HOME", str(tmp_path))
    root = Path(__file__).resolve().parents[2]
    program = tmp_path / "builder.py"
    text = REAL.format(root=str(root), tests=str(root / "tests"))
    program.write_text(text, encoding="utf-8")
    stages: list[str] = []
    builder = Builder(lambda job: stages.append(job.stage), (sys.executable, str(program)))
    job, bad = builder.ask("mobile", "int8-minmax"), builder.ask("mobile", "int9")
    processes = set()
    while builder.pending():
        processes.add(builder._process)
        time.sleep(0.01)
    (process,) = processes - {None}  # one for all jobs: the first builder of each takes seconds
    assert (job.stage, bad.stage) == ("done", "failed")
    assert {"building", "calibrating", "measuring", "done"} <= set(stages)
    (own,) = own_builds().builds
    assert own.build.variant == "int8-minmax"
    assert process is not None
    assert process.wait(10) == 0  # its input ended


def test_the_builders_own_process_builds_a_reader_s_network(
    fake: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "a folder" / "mobile"
    saved: list[engines.OwnEngines] = []

    def behind(own: engines.OwnEngines, way: str) -> bool:
        own.save(file)
        saved.append(own)
        return True

    monkeypatch.setattr(engines, "stand_in", behind)
    mobile = network("mobile", mode="recorded")
    walk = try_int8(mobile, mobile.images()[:16], algorithm="minmax", live=True)
    assert saved[0].expected_seconds("int8-minmax") == expected_seconds("mobile", "int8-minmax")
    program = tmp_path / "builder.py"
    root = Path(__file__).resolve().parents[2]
    text = REAL.format(root=str(root), tests=str(root / "tests"))
    program.write_text(text, encoding="utf-8")
    stages: list[str] = []
    builder = Builder(lambda job: stages.append(job.stage), (sys.executable, str(program)))
    job, lost = builder.ask(str(file), "int8-minmax", 25.0), builder.ask(str(tmp_path), "fp32")
    assert Job(str(file), "int8-minmax", 25.0).line() == "mobile int8-minmax: queued"
    assert job.line().startswith("mobile int8-minmax: ")  # it may have begun
    assert all_end(builder, 60)
    assert (job.stage, lost.stage, job.expected) == ("done", "failed", 25.0)
    assert {"building", "calibrating", "measuring", "done"} <= set(stages)
    assert [way for way in walk.building if saved[0].is_kept(way)] == ["int8-minmax"]


# --- the notebook


class Played(Builder):
    """A builder whose jobs end when the test says so; own engines are recorded ones, renamed."""

    def ask(self, name: str, variant: str, expected: float | None = None) -> Job:
        for job in self.jobs:
            if (job.network, job.variant) == (name, variant):
                return job
        self.jobs.append(Job(name, variant, 25.0))
        return self.jobs[-1]

    def stop(self) -> None:
        for job in self.pending():
            job.stage = "stopped"
            self.jobs.remove(job)
            self._changed(job)

    def finish(self, name: str = "mobile", failing: str = "") -> None:
        for job in self.pending(name):
            job.stage = "failed" if job.variant == failing else "done"
            job.detail = "2: Assertion engine failed" if job.variant == failing else ""
            self._changed(job)


@pytest.fixture
def lesson(fake: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> Iterator[Lesson]:
    InteractiveShell.clear_instance()
    shell = InteractiveShell.instance()
    shell.kernel = None
    monkeypatch.setattr(networks, "stand_in", None)
    one = begin(shell, Played)
    assert one is not None
    assert begin(shell, Played) is one

    def kept(self: Network, variant: str) -> Build | None:
        jobs = [
            job for job in one.builder.jobs if (job.network, job.variant) == (self.name, variant)
        ]
        recorded = network(self.name, mode="recorded").build(variant)
        if not jobs or not jobs[0].ended:
            return None
        if jobs[0].stage == "failed":
            return dataclasses.replace(recorded, error=jobs[0].detail)
        own = dataclasses.replace(recorded, provenance=self.provenance, note="own")
        self._builds[variant] = own
        return own

    monkeypatch.setattr(Network, "kept", kept)
    ran = shell.run_cell(
        "import trtlearn as tl\nmobile, resnet = tl.network('mobile', mode='live'), tl.network('resnet', mode='live')"
    )
    assert ran.success
    yield one
    one.end()
    InteractiveShell.clear_instance()


@pytest.fixture
def cell(lesson: Lesson) -> Callable[[str], Any]:
    def run(source: str) -> Any:
        done = lesson.shell.run_cell(source)
        assert done.success, source
        return done.result

    return run


def label(lesson: Lesson, name: str = "build") -> str:
    return str(lesson.shell.user_ns[name].label)


def text(cell: Any) -> str:
    return "".join(str(one.get("text", one.get("data"))) for one in cell.output.outputs)


def test_recorded_at_once_then_the_cells_change_over_in_order(lesson: Lesson, cell: Any) -> None:
    builder: Any = lesson.builder
    cell("number = 7")
    cell("build = mobile.build('int8-minmax')")
    cell("words = [build.label]")
    cell("print(words[0], number)")
    cell("words.append(mobile.build('fp32').label)")
    assert label(lesson).startswith("recorded on")
    assert "recorded engines are shown" in lesson._words.value
    assert "mobile int8-minmax: queued" in lesson._words.value
    assert lesson._stop.layout.display == ""
    assert [job.variant for job in builder.pending()] == ["int8-minmax", "fp32"]
    builder.finish()
    assert lesson.change_over() == 4  # all but the first two cells
    assert label(lesson).startswith("measured here on NVIDIA Fake")
    assert "measured here on NVIDIA Fake" in text(lesson.cells[4])
    assert [words[:8] for words in lesson.shell.user_ns["words"]] == ["measured"] * 2
    assert "Your GPU built 2 engines" in lesson._words.value
    assert lesson._stop.layout.display == "none"
    assert lesson.change_over() == 0


def test_a_figure_changes_over_as_a_figure(
    lesson: Lesson, cell: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    # plotly asks once, when it is imported, whether there is a notebook: another test may be first
    monkeypatch.setattr(plotly.io.renderers, "default", "plotly_mimetype")
    builder: Any = lesson.builder
    cell("tl.show.builds([mobile.build('fp32')], title='one')")
    cell("tl.show.number_line(1.0, [0.5])")
    figure = lesson.cells[1].output.outputs[-1]  # type: ignore[union-attr]
    assert "recorded on NVIDIA" in str(figure["data"])
    builder.finish()
    assert lesson.change_over() == 1
    figure = lesson.cells[1].output.outputs[-1]  # type: ignore[union-attr]
    assert "application/vnd.plotly.v1+json" in figure["data"]
    assert "measured here on NVIDIA Fake" in str(figure["data"])
    assert lesson.cells[2].output is None


def test_stop_is_obeyed_until_the_reader_goes_on(lesson: Lesson, cell: Any) -> None:
    builder: Any = lesson.builder
    cell("build = mobile.build('fp32')")
    lesson._stop.click()
    assert builder.pending() == []
    assert lesson._stop.description == "Go on building"
    assert "Building is stopped: 0 of 1 engines" in lesson._words.value
    cell("label = mobile.build('int8-minmax').label")
    assert builder.pending() == []  # nothing begins by itself
    assert lesson.change_over() == 0
    assert lesson.shell.user_ns["label"].startswith("recorded on")
    lesson._stop.click()
    assert {job.variant for job in builder.pending()} == {"fp32", "int8-minmax"}
    builder.finish()
    assert lesson.change_over() == 2
    assert label(lesson).startswith("measured here")
    assert lesson._stop.layout.display == "none"


def test_no_figure_mixes_recorded_and_own_engines(lesson: Lesson, cell: Any) -> None:
    builder: Any = lesson.builder
    cell("build = mobile.build('fp32')")
    builder.finish()
    cell("both = [mobile.build(one).label[:8] for one in ('int8-minmax', 'fp32')]")
    assert label(lesson).startswith("measured here")  # changed over before the cell ran
    assert lesson.shell.user_ns["both"] == ["recorded"] * 2
    cell("other = resnet.build('fp32').label")
    builder.finish()
    assert lesson.change_over() == 1
    assert lesson.shell.user_ns["both"] == ["measured"] * 2
    assert lesson.shell.user_ns["other"].startswith("recorded")


def test_a_failed_build_is_said_and_its_recording_stays(lesson: Lesson, cell: Any) -> None:
    builder: Any = lesson.builder
    cell("build, good = mobile.build('int8-minmax'), mobile.build('fp32')")
    builder.finish(failing="int8-minmax")
    lesson.change_over()
    assert label(lesson).startswith("recorded on")
    assert label(lesson, "good").startswith("measured here")
    assert "Assertion engine failed" in lesson._problems.value
    assert "The recorded engine stands in for it" in lesson._problems.value
    assert "<details>" not in lesson._problems.value
    cell("other = mobile.build('int8-legacy')")
    builder.finish(failing="int8-legacy")
    assert "2 problems: recorded engines stand in</summary>" in lesson._problems.value
    assert lesson._problems.value.count('role="alert"') == 2
    assert "Your GPU built 1 engine: this page shows it; 2 failed" in lesson._words.value


def test_a_cell_that_stops_with_the_own_engines_keeps_the_recorded_result(
    lesson: Lesson, cell: Any
) -> None:
    builder: Any = lesson.builder
    cell("build = mobile.build('fp32')\nassert build.label.startswith('recorded'), 'other'")
    builder.finish()
    lesson.change_over()
    assert "with your engines a cell stops (AssertionError: other)" in lesson._problems.value


def test_what_the_reader_did_is_not_done_again(lesson: Lesson, cell: Any) -> None:
    builder: Any = lesson.builder
    cell(
        "count = 0\nclass exercise:\n    def check(self, answer=None):\n        global count\n        count += 1\nexercise = exercise()"
    )
    cell("answer = mobile.build('fp32').accuracy")
    cell("exercise.check('00-mode')\nanswer")
    builder.finish()
    lesson.change_over()
    assert lesson.shell.user_ns["count"] == 1


def test_in_a_script_builds_are_waited_for(fake: dict[str, Any]) -> None:
    assert begin() is None
    assert networks.stand_in is None
