"""A live notebook never waits: recorded engines are shown until the reader's own are built.

``setup()`` begins a lesson where engines can be built. While an engine of a network is missing,
``Network.build`` gives the recorded ones, a panel says how far the own ones are, and can stop them.
When all that were asked for are there, the cells that used recorded ones run again in their places:
those that called ``build``, and those that read what such a cell made. With a reader's own network
``try_int8`` shows the CPU's answers meanwhile.
"""

from __future__ import annotations

import ast
import asyncio
import contextlib
import html
import os
import re
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from .. import networks
from ..builds import Build
from ..errors import BuildError, RecordingError
from ..networks import Network
from ..record import plural
from ..show.controls import alert, badge, ipywidgets, say, stack
from . import chapters
from .builder import Builder, Job
from .own_model import engines

__all__ = ["Cell", "Lesson", "begin", "current"]

Start = Callable[[Callable[[Job], None]], Builder]
KEPT_STATE = ("exercise.check(", "exercise.predict(", "own_model_form(")
"""Cells with these hold what the reader did."""


@dataclass
class Cell:
    """A cell that ran: what it makes and reads, and which networks' recorded engines it shows."""

    key: str
    source: str
    output: ipywidgets.Output | None = None  # where its results are, once it used a recorded engine
    networks: set[str] = field(default_factory=set)
    stores: frozenset[str] = frozenset()
    loads: frozenset[str] = frozenset()

    def __post_init__(self) -> None:
        stores: set[str] = set()
        loads: set[str] = set()
        with contextlib.suppress(SyntaxError):  # magics
            for node in ast.walk(ast.parse(self.source)):
                if isinstance(node, ast.Name):
                    (loads if isinstance(node.ctx, ast.Load) else stores).add(node.id)
                elif isinstance(node, (ast.FunctionDef, ast.ClassDef)):
                    stores.add(node.name)
                elif isinstance(node, ast.AugAssign) and isinstance(node.target, ast.Name):
                    loads.add(node.target.id)
                elif isinstance(node, (ast.Subscript, ast.Attribute)):
                    root = node.value
                    if isinstance(node.ctx, ast.Store) and isinstance(root, ast.Name):
                        stores.add(root.id)  # its content changes
        self.stores, self.loads = frozenset(stores), frozenset(loads)


class Lesson:
    """What a notebook shows while its engines are built; installed by :func:`begin`."""

    def __init__(self, shell: Any, start: Start) -> None:
        self.shell = shell
        self.builder = start(self._changed)
        self.cells: list[Cell] = []
        self._current: Cell | None = None
        self._ready: set[str] = set()  # networks that have their own engines, cells not yet
        self._timer: threading.Timer | None = None
        self._calls: dict[Any, Callable[[], None]] = {}  # once all engines are there
        self._open = contextlib.ExitStack()  # while a cell's results are kept
        self._seen: Any = None
        self._halted = False  # the reader wants nothing built
        self._left: dict[tuple[str, str], float | None] = {}  # networks and ways, their seconds
        self._loop: asyncio.AbstractEventLoop | None = None
        with contextlib.suppress(RuntimeError):  # no kernel
            self._loop = asyncio.get_running_loop()
        self._bar = ipywidgets.FloatProgress(0, min=0, max=1, layout={"width": "98%"})
        self._bar.layout.display = "none"
        self._stop = ipywidgets.Button(description="Stop building", layout={"display": "none"})
        self._stop.on_click(lambda _: self.stop_or_go_on())
        self._words, self._problems = say(""), say("")
        self._said: list[str] = []
        self.panel = stack(self._words, self._bar, self._stop, self._problems)
        shell.events.register("pre_run_cell", self._before)
        shell.events.register("post_run_cell", self._after)

    def end(self) -> None:
        """Take it off again: builds are made where they are asked for."""
        self.builder.stop()
        self.shell.events.unregister("pre_run_cell", self._before)
        self.shell.events.unregister("post_run_cell", self._after)
        networks.stand_in = engines.stand_in = None

    def stop_or_go_on(self) -> None:
        """What the button does: end what is being built, or begin what is left."""
        self._halted = not self._halted
        if self._halted:
            for job in self.builder.pending():
                self._left[job.network, job.variant] = job.expected
            self.builder.stop()
            return
        left, self._left = self._left, {}
        for (name, variant), expected in left.items():
            self._show(self.builder.ask(name, variant, expected))

    # --- which engine a cell sees

    def _waits(self, name: str) -> bool:
        """Whether the cells that show this network wait for an engine of it.

        Those of a reader's own show what is built, once building is stopped.
        """
        left = {one for one, _ in self._left if not os.path.isabs(one)}
        return bool(self.builder.pending(name)) or name in left

    def stand_in(self, asking: Network, variant: str) -> Build | None:
        """The recorded build to show for now; None where the reader's own is there."""
        name = asking.name
        own = asking.kept(variant)
        if own is None and self._halted:
            self._left[name, variant] = None
        elif own is None:
            self._show(self.builder.ask(name, variant))
        elif own.error is not None:
            self._problem(f"{name} {variant} failed: {own.error}")
        pending = self._waits(name)
        if own is not None and own.error is None and not pending:
            return None
        try:
            recorded = chapters.recorded(name).build(variant)
        except RecordingError:
            return None  # nothing to show: the cell waits
        if pending and self._current is not None:
            self._current.networks.add(name)
            self._collect(self._current)
        return recorded

    def own_stand_in(self, own: engines.OwnEngines, way: str) -> bool:
        """Whether an engine of a reader's network is not here yet, so that the CPU's answers stay.

        BuildError where its build failed.
        """
        if own.is_kept(way):
            return False
        file = self._file_of(own)
        if self._halted:
            self._left[file, way] = own.expected_seconds(way)
        else:
            job = self.builder.ask(file, way, own.expected_seconds(way))
            if job.stage == "failed":
                raise BuildError(job.detail)
            if job.stage == "done":
                return False  # its plan is not kept: it is built here
            self._show(job)
        cell = self._current
        if cell is not None and file not in cell.networks:
            from IPython.display import display

            cell.networks.add(file)
            self._collect(cell)
            display(self.panel)  # type: ignore[no-untyped-call]  # setup()'s may be out of sight
        return True

    @cached_property
    def _folder(self) -> tempfile.TemporaryDirectory[str]:
        """Readers' networks, for the builder's process."""
        return tempfile.TemporaryDirectory(prefix="trtlearn-")

    def _file_of(self, own: engines.OwnEngines) -> str:
        """The file of a reader's network, which ends with its name."""
        name = re.sub(r"[^\w.-]+", "-", own.task.name)
        path = Path(self._folder.name).resolve() / own.key() / name
        if not path.exists():
            own.save(path)
        return str(path)

    def when_built(self, owner: Any, call: Callable[[], None]) -> None:
        """Call this once nothing is left to be built; only the last one of an ``owner``."""
        self._calls[owner] = call

    # --- which cells run again

    def _before(self, info: Any) -> None:
        self.change_over()
        key = getattr(info, "cell_id", None) or info.raw_cell
        self._current = Cell(key, info.raw_cell)
        self._current.networks |= self._inherited(self._current, self.cells)
        if self._current.networks:
            self._collect(self._current)

    def _inherited(self, cell: Cell, others: Iterable[Cell]) -> set[str]:
        """The networks whose recorded engines are in what ``cell`` reads of others, in order."""
        made: dict[str, set[str]] = {}
        for before in others:
            if before.key != cell.key:
                made.update(dict.fromkeys(before.stores, before.networks))
        return set().union(*(made.get(name, set()) for name in cell.loads))

    def _collect(self, cell: Cell) -> None:
        """From here on the cell's results are kept, to be shown in a place that can change later.

        The page only shows them: an Output that collects by itself would send them back, later than
        a change that was made meanwhile.
        """
        if cell.output is None:
            from IPython.display import display

            cell.output = ipywidgets.Output()
            display(cell.output)  # type: ignore[no-untyped-call]
            self._seen = self._open.enter_context(self._captured())

    @contextlib.contextmanager
    def _captured(self) -> Iterator[Any]:
        from IPython.utils.capture import capture_output

        with self.shell.display_trap, capture_output() as seen:
            yield seen

    def _after(self, result: Any) -> None:
        cell, self._current = self._current, None
        if cell is None:
            return
        self._open.close()
        if cell.output is not None:
            cell.output.outputs = _outputs(self._seen)
        if not result.success:
            cell.networks.clear()
        self.cells = [one for one in self.cells if one.key != cell.key] + [cell]

    def change_over(self) -> int:
        """Run the cells again whose networks have their own engines now; how many ran."""
        ready, self._ready = self._ready, set()
        count = 0
        for index, cell in enumerate(self.cells if ready else ()):
            if not cell.networks & ready or any(map(self._waits, cell.networks)):
                continue
            if any(word in cell.source for word in KEPT_STATE):
                cell.networks.clear()
                continue
            cell.networks = self._inherited(cell, self.cells[:index])
            self._again(cell)
            count += 1
        if ready and self._calls and not self.builder.pending():
            calls, self._calls = self._calls, {}
            for call in calls.values():
                call()
        return count

    def _again(self, cell: Cell) -> None:
        current, self._current = self._current, cell
        self.shell.events.unregister("pre_run_cell", self._before)
        self.shell.events.unregister("post_run_cell", self._after)
        try:
            with self._captured() as seen:
                done = self.shell.run_cell(cell.source, store_history=False)
        finally:
            self.shell.events.register("pre_run_cell", self._before)
            self.shell.events.register("post_run_cell", self._after)
            self._current = current
        if not done.success:
            problem = done.error_in_exec or done.error_before_exec
            kind = type(problem).__name__
            self._problem(f"with your engines a cell stops ({kind}: {problem}); it shows ours")
            return
        if cell.output is not None:
            cell.output.outputs = _outputs(seen)

    # --- what the panel says

    def _changed(self, job: Job) -> None:
        """Called in the builder's thread."""
        if job.stage == "failed" and not job.own:  # there the result says so itself
            self._problem(f"{job.network} {job.variant} failed: {job.detail}")
        if job.ended and (job.own or job.stage != "stopped") and not self._waits(job.network):
            self._ready.add(job.network)
            if self._loop is not None:
                self._loop.call_soon_threadsafe(self.change_over)
        self._show(job)

    def _show(self, job: Job) -> None:
        pending = self.builder.pending()
        busy = bool(pending)
        self._bar.layout.display = "" if busy else "none"
        self._stop.layout.display = "" if busy or self._halted else "none"
        self._stop.description = "Go on building" if self._halted else "Stop building"
        if not busy:
            count = Counter(one.stage for one in self.builder.jobs)
            done, failed = count["done"], count["failed"]
            built = f"Your GPU built {plural(done, 'engine')}: this page shows "
            words = [built + ("it" if done == 1 else "them")] * bool(done)
            words += [f"{failed} failed"] * bool(failed)
            if self._halted:
                words = [
                    f"Building is stopped: {done} of {done + failed + len(self._left)} engines "
                    "are built. Where one is missing, this page shows recorded ones, or the "
                    "CPU’s answers"
                ]
            self._words.value = html.escape("; ".join(words))
            return
        first, *rest = pending
        left = sum(one.expected or 0 for one in rest)
        more = f" · {len(rest)} more, about {left:.0f} s" if rest else ""
        mark = badge(f"{'the CPU’s answers' if first.own else 'recorded engines'} are shown")
        self._words.value = (
            f"{mark} Your engines are being built: {html.escape(first.line() + more)}"
        )
        so_far = time.monotonic() - (first.since or time.monotonic())
        self._bar.value = min(0.99, so_far / first.expected) if first.expected else 0.5
        if first.since is not None:
            self._tick_once(first)

    def _tick_once(self, job: Job) -> None:
        """In a second, show the seconds again."""

        def tick() -> None:
            self._timer = None
            if not job.ended:
                self._show(job)

        if self._timer is None:
            self._timer = threading.Timer(1.0, tick)
            self._timer.daemon = True
            self._timer.start()

    def _problem(self, words: str) -> None:
        if words not in self._said:
            self._said.append(words)
            alerts = [alert(f"{one}. The recorded engine stands in for it") for one in self._said]
            head = f"<summary>✘ {len(alerts)} problems: recorded engines stand in</summary>"
            folded = f"<details>{head}{'<br>'.join(alerts)}</details>"
            self._problems.value = folded if len(alerts) > 1 else alerts[0]


def _outputs(seen: Any) -> tuple[dict[str, Any], ...]:
    """What a cell gave, as a notebook's outputs: its text first."""
    streams = [("stdout", seen.stdout), ("stderr", seen.stderr)]
    texts = [
        {"output_type": "stream", "name": name, "text": text} for name, text in streams if text
    ]
    rich = [
        {"output_type": "display_data", "data": one.data, "metadata": one.metadata or {}}
        for one in seen.outputs
        if one.data  # a figure that displayed itself leaves an empty one
    ]
    return (*texts, *rich)


def begin(shell: Any = None, start: Start = Builder) -> Lesson | None:
    """Begin a lesson in this notebook, or give the one that has begun; None outside of one."""
    from IPython.core.getipython import get_ipython

    shell = shell or get_ipython()
    if shell is None or not hasattr(shell, "kernel"):
        return None
    there = current()
    if there is not None and there.shell is shell:
        return there
    lesson = Lesson(shell, start)
    networks.stand_in, engines.stand_in = lesson.stand_in, lesson.own_stand_in
    return lesson


def current() -> Lesson | None:
    """The lesson that has begun in this process."""
    there = getattr(networks.stand_in, "__self__", None)
    return there if isinstance(there, Lesson) else None
