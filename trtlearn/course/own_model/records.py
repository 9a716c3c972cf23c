"""What trying a reader's network in INT8 finds out, as records."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ...builds import Build
from ...calibration.mixed import MixedRange
from ...calibration.qdq import QdqReport
from ...files import load_table
from ...model.data import DataFacts
from ...model.graph import OnnxModel
from ...record import Record, html_table, html_text, plural, show
from ..doctor import DoctorReport

__all__ = ["Answer", "ChosenRange", "EngineResult", "Walk"]


WORDS: dict[str, str] = load_table("walk")
"""What a walk says of its result, by what it found."""


def why_skipped(doctor: DoctorReport) -> str:
    """Why no engine was built on this machine."""
    if doctor.mode == "live":
        return "as you asked"
    return doctor.why.removeprefix("because ") if doctor.gpus else "no GPU here"


def percent(share: float | None) -> float | None:
    """A share between 0 and 1 in percent."""
    return None if share is None else 100 * share


@dataclass(frozen=True)
class ChosenRange(Record):
    """One tensor: the range chosen, and what the data hold."""

    name: str
    amax: float
    scale: float
    largest: float  # largest magnitude in the data
    quantized: bool  # a Q/DQ pair uses this range


@dataclass(frozen=True)
class Answer(Record):
    """One way of running the network, against FP32's answers.

    Of a detector also: the share of FP32's boxes that are still there (same class, half
    overlapped), how many different values the cells' best scores have, and mAP50 by the labels.
    """

    way: str  # fp32, int8-entropy2, int8-placeholder, ...
    sqnr_db: float | None  # over all outputs; None: no error at all, or nothing to compare
    agreement: float | None  # share of rows with FP32's largest output; None: no classes
    accuracy: float | None  # against the labels, where given
    boxes_matched: float | None = None
    distinct_scores: int | None = None
    map50: float | None = None
    boxes: int | None = None  # FP32's, of which boxes_matched is the share

    @property
    def error(self) -> float | None:
        """The outputs' error as a share of the outputs, root mean square: 10^(-SQNR / 20).

        >>> Answer("int8-minmax", 20.0, None, None).error
        0.1
        """
        return None if self.sqnr_db is None else 10 ** (-self.sqnr_db / 20)

    @property
    def kept(self) -> float | None:
        """The share of FP32's answers, or of a detector's boxes, that is still there."""
        return self.agreement if self.boxes_matched is None else self.boxes_matched

    @property
    def quality(self) -> float | None:
        """How good the answers are by the labels: the accuracy, or a detector's mAP50."""
        return self.accuracy if self.map50 is None else self.map50

    @property
    def ranges(self) -> str:
        """Whose ranges these are: "minmax ranges", "the ranges of bare --int8"."""
        algorithm = self.way.removeprefix("int8-")
        return "the ranges of bare --int8" if algorithm == "placeholder" else f"{algorithm} ranges"


@dataclass(frozen=True)
class EngineResult(Record):
    """One engine that was built on this machine's GPU, or failed to build, and its answers."""

    build: Build
    answer: Answer | None = None
    building: bool = False  # in a live notebook: it is being built behind the page

    @property
    def way(self) -> str:
        """How it was built: fp32, fp16, int8-entropy2, int8-qdq, ..."""
        return self.build.variant

    @property
    def problem(self) -> str:
        """Why there is no engine; "" where there is one."""
        return self.build.error or ""

    def summary(self) -> str:
        return f"{self.way}: {self.problem or 'built and timed'}"

    def rows(self) -> list[dict[str, Any]]:
        timing = self.build.timing
        return [
            {
                "engine": self.way,
                "median ms": self.build.latency_ms,
                "5 to 95 % ms": timing and (timing.p05_ms, timing.p95_ms),
                "plan bytes": self.build.plan_bytes,
                "build s": self.build.build_seconds,
                "layers": self.build.layers,
                "INT8": self.build.int8_layers,
                "reformats": self.build.reformats,
                "same answer as FP32 %": percent(self.answer.kept if self.answer else None),
                "accuracy %": percent(self.answer.quality if self.answer else None),
                "problem": self.problem or "none",
            }
        ]


@dataclass(frozen=True)
class Walk(Record):
    """All that was found out about a reader's network."""

    name: str
    doctor: DoctorReport
    model: OnnxModel
    data: DataFacts
    algorithm: str
    tensors: tuple[ChosenRange, ...]
    cache: str  # the calibration cache, as a TensorRT calibrator of this algorithm reads it
    qdq: QdqReport
    answers: tuple[Answer, ...]
    live: tuple[EngineResult, ...] = ()
    notes: tuple[str, ...] = ()
    files: dict[str, str] = field(default_factory=dict)  # what was written: a word -> the path
    mixed: tuple[MixedRange, ...] = ()  # tensors whose one range serves values of unlike size

    @property
    def building(self) -> tuple[str, ...]:
        """The engines that are being built behind a live notebook's page, and so not here yet."""
        return tuple(engine.way for engine in self.live if engine.building)

    @property
    def answer(self) -> Answer:
        """What INT8 answers with the ranges that were taken."""
        return next(one for one in self.answers if one.way == f"int8-{self.algorithm}")

    @property
    def verdict(self) -> str:
        """What INT8 does to the answers: the engine's, where one was built here, and simulated."""
        simulated = self._simulated()
        built = {one.way: one.build for one in self.live if one.build.latency_ms}
        answers = {one.way: one.answer for one in self.live if one.answer}
        engine, answer = built.get(self.answer.way), answers.get(self.answer.way)
        if engine is None or not engine.latency_ms or answer is None or answer.kept is None:
            return simulated
        does = f"keeps {100 * answer.kept:.1f} % of FP32's answers"
        if answer.boxes_matched is not None:
            does = self._boxes(answer)
        others = [(way, built[way].latency_ms) for way in ("fp32", "fp16") if way in built]
        faster = [f"{ms / engine.latency_ms:.2g} times {way.upper()}'s" for way, ms in others if ms]
        layers = f"; {engine.int8_layers} of {engine.layers} layers have INT8 weights"
        return WORDS["measured"].format(
            ranges=self.answer.ranges,
            does=does,
            layers=layers if engine.layers else "",
            speed=f"; its speed is {' and '.join(faster)}" if faster else "",
            simulated=simulated[0].lower() + simulated[1:],
        )

    def _simulated(self) -> str:
        best = self.answer
        outputs = {value.name: value.shape or ("unknown",) for value in self.model.outputs}
        others = [one for one in self.answers if one.way != "fp32" and one is not best]
        key = "agreement"
        if best.boxes == 0:
            key = "no box"
        elif best.boxes_matched is not None:
            key = "boxes"
        elif best.agreement is None:
            key = "no comparison" if best.error is None else "outputs"
        return WORDS[key].format(
            ranges=best.ranges,
            rows=plural(self.data.rows_used, "row"),
            error="no error" if best.error is None else f"an error of {100 * best.error:.3g} %",
            percent=percent(best.agreement),
            boxes=self._boxes(best) if key == "boxes" else "",
            outputs=", ".join(f"{name} [{show(axes)}]" for name, axes in outputs.items()),
            others=", ".join(f"{one.ranges} {100 * (one.kept or 0):.1f} %" for one in others),
        )

    def _boxes(self, best: Answer) -> str:
        """What is left of a detector's boxes, scores and mAP."""
        exact = next(one for one in self.answers if one.way == "fp32")
        text = (
            f"finds {100 * (best.boxes_matched or 0):.1f} % of FP32's "
            f"{plural(best.boxes or 0, 'box', 'boxes')}; its scores have "
            f"{best.distinct_scores:,} different values, FP32's {exact.distinct_scores:,}"
        )
        if best.map50 is None or exact.map50 is None:
            return text
        return f"{text}; mAP50 {100 * best.map50:.1f} %, FP32 {100 * exact.map50:.1f} %"

    def read(self, word: str) -> str:
        """The text of one of ``files``: "cache", "script" or "report"."""
        return Path(self.files[word]).read_text(encoding="utf-8")

    def summary(self) -> str:
        return f"{self.verdict}. {self.facts}"

    @property
    def facts(self) -> str:
        """The network, the data, and what was built here."""
        todo = "run the script" if self.files else "name an output folder, and run its script"
        here = f"no GPU here: {todo} on a machine that has one"
        if self.live:
            built = sum(not engine.problem for engine in self.live)
            here = f"{built} of {len(self.live)} engines built and timed here"
            here += " so far" * bool(self.building)
        return f"{self.name}: {self.model.summary()}; {self.data.summary()}; {here}"

    def engines_html(self) -> str:
        """A table of the engines that were built here, and why others failed."""
        rows = [engine.rows()[0] for engine in self.live if not engine.problem]
        for row in rows:
            del row["problem"]
        failed = [one.summary() for one in self.live if one.problem and not one.building]
        return html_table(rows) + "".join(f"<p>✘ {html_text(line)}</p>" for line in failed)

    def _repr_html_(self) -> str:
        return super()._repr_html_() + self.engines_html()

    def rows(self) -> list[dict[str, Any]]:
        return [
            {
                "way": answer.way,
                "SQNR dB": "reference" if answer.way == "fp32" else answer.sqnr_db,
                "error %": 0 if answer.way == "fp32" else percent(answer.error),
                "same answer as FP32 %": percent(answer.agreement),
                "accuracy %": percent(answer.accuracy),
            }
            if answer.boxes_matched is None
            else {
                "way": answer.way,
                "boxes of FP32 found %": percent(answer.boxes_matched),
                "different scores": answer.distinct_scores,
                "mAP50 %": percent(answer.map50),
                "SQNR dB": "reference" if answer.way == "fp32" else answer.sqnr_db,
            }
            for answer in self.answers
        ]
