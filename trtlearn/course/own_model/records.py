"""What a walk through a reader's network finds out, as records."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from ...int8.placement import QdqReport
from ...model.data import DataFacts
from ...model.describe import OnnxModel
from ...record import Record
from ..doctor import DoctorReport

__all__ = ["Answer", "LiveResult", "TensorFit", "Walk"]


@dataclass(frozen=True)
class TensorFit(Record):
    """One tensor: the range chosen, and what the data hold."""

    name: str
    amax: float
    scale: float
    largest: float  # largest magnitude in the data
    quantized: bool  # a Q/DQ pair uses this range


@dataclass(frozen=True)
class Answer(Record):
    """One way of running the network, against FP32's answers."""

    way: str  # fp32, int8-entropy2, int8-placeholder, ...
    sqnr_db: (
        float | None
    )  # over all outputs; None: no error at all, or nothing to compare; -inf: NaN or infinity
    agreement: (
        float | None
    )  # share of rows whose largest output is FP32's; None where the outputs are no classes
    accuracy: float | None  # against the labels, where given


@dataclass(frozen=True)
class LiveResult(Record):
    """One engine built and run on this machine's GPU, or why it was not."""

    way: str
    problem: str = ""
    median_ms: float | None = None
    spread_ms: tuple[float, ...] = ()  # 5th and 95th percentile
    plan_bytes: int | None = None
    build_seconds: float | None = None
    layers: int | None = None
    int8_layers: int | None = None
    reformats: int | None = None
    answer: Answer | None = None


@dataclass(frozen=True)
class Walk(Record):
    """All that was found out about a reader's network."""

    name: str
    doctor: DoctorReport
    model: OnnxModel
    data: DataFacts
    algorithm: str
    tensors: tuple[TensorFit, ...]
    cache: str  # the calibration cache, as a TensorRT calibrator of this algorithm reads it
    qdq: QdqReport
    answers: tuple[Answer, ...]
    live: tuple[LiveResult, ...]
    notes: tuple[str, ...]
    files: dict[str, str]  # what was written: a word -> the path

    def summary(self) -> str:
        here = (
            "built and timed here"
            if self.live
            else "no GPU here: run the script on a machine that has one"
        )
        return f"{self.name}: {self.model.summary()}; {self.data.summary()}; {here}"

    def rows(self) -> list[dict[str, Any]]:
        return [
            {
                "way": one.way,
                "SQNR dB": one.sqnr_db,
                "same answer as FP32 %": None if one.agreement is None else 100 * one.agreement,
                "accuracy %": None if one.accuracy is None else 100 * one.accuracy,
            }
            for one in self.answers
        ]
