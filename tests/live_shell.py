"""A notebook in this process: its cells run in IPython's shell, its engines are built here."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from IPython.core.interactiveshell import InteractiveShell

from tools import notebooks
from trtlearn import networks
from trtlearn.course.builder import Builder, Job, build_job
from trtlearn.course.lesson import KEPT_STATE, Cell, begin
from trtlearn.errors import TrtlearnError

__all__ = ["LiveShell"]


class InProcess(Builder):
    """A builder that builds in this process, when it is told to."""

    def ask(self, name: str, variant: str, expected: float | None = None) -> Job:
        for job in self.jobs:
            if (job.network, job.variant) == (name, variant):
                return job
        self.jobs.append(Job(name, variant, expected))
        return self.jobs[-1]

    def finish(self) -> None:
        while pending := self.pending():
            job = pending[0]
            try:
                build_job(job.network, job.variant)
                job.stage = "done"
            except TrtlearnError as problem:
                job.stage, job.detail = "failed", str(problem)
            self._changed(job)


class LiveShell:
    """A notebook that was opened live where nothing was built."""

    def __init__(self, path: Path) -> None:
        InteractiveShell.clear_instance()
        self.shell = InteractiveShell.instance()
        self.shell.kernel = None
        lesson = begin(self.shell, InProcess)
        assert lesson is not None
        self.lesson, self.path = lesson, path
        self.builder: Any = lesson.builder
        self.failures: list[str] = []
        self.live: dict[str, set[str]] = {}  # cell -> the networks whose engines it shows
        self.again: list[str] = []  # those of them that run again

    def run(self) -> None:
        """Run all cells: recorded engines are shown."""
        for cell in notebooks.read(self.path).cells:
            if cell.cell_type == "code":
                done = self.shell.run_cell(cell.source, cell_id=cell.id)
                if not done.success:
                    problem = done.error_in_exec or done.error_before_exec
                    self.failures.append(f"{cell.id}: {type(problem).__name__}: {problem}")
        self.live = {one.key: set(one.networks) for one in self.lesson.cells if one.networks}
        self.again = [
            one.key
            for one in self.lesson.cells
            if one.networks and not any(word in one.source for word in KEPT_STATE)
        ]

    def change_over(self) -> int:
        """Build the engines that were asked for, for this machine; run the cells that show them."""
        for value in self.shell.user_ns.values():
            if isinstance(value, networks.Network) and not value.recorded:
                value._builds.clear()
                vars(value).pop("provenance", None)
        for cell in self.lesson.cells:
            cell.networks |= self.live.get(cell.key, set())
        self.lesson._problems.value = ""
        self.lesson._said.clear()
        for job in self.builder.jobs:
            job.stage = "queued"
        self.builder.finish()
        return self.lesson.change_over()

    def texts(self) -> dict[str, str]:
        """What each of the cells that show own engines printed, by cell."""

        def text(cell: Cell) -> str:
            outputs = cell.output.outputs if cell.output else ()
            return "".join(
                str(one.get("text") or one["data"].get("text/plain", "")) for one in outputs
            )

        return {cell.key: text(cell) for cell in self.lesson.cells if cell.key in self.live}

    def close(self) -> None:
        self.lesson.end()
        InteractiveShell.clear_instance()
