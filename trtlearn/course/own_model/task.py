"""A reader's network with its data: checked before any work, run, and its answers compared."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ...calibration.network import data_for, load_model
from ...calibration.observers import check_algorithm
from ...errors import DataError, ModelError
from ...int8.quant import sqnr_db
from ...model.arrays import load_arrays
from ...model.course_data import accuracy
from ...model.data import Data, InputData, input_data
from ...model.describe import OnnxModel
from ...model.quantization import judge_quantization
from ...model.run import activations
from .records import Answer

if TYPE_CHECKING:
    import onnx

__all__ = ["Array", "Outputs", "Task", "join_batches", "load_labels", "load_task"]

Array = NDArray[Any]
Outputs = Mapping[str, Array]
"""Output name -> its values for all rows."""


@dataclass(frozen=True)
class Task:
    """A network, its data, and how to calibrate it: what every step reads."""

    path: Path
    proto: onnx.ModelProto
    model: OnnxModel
    inputs: InputData
    labels: Array | None
    algorithm: str

    @property
    def name(self) -> str:
        """The ONNX file's name without its ending."""
        return self.path.stem

    @property
    def output_names(self) -> list[str]:
        """The outputs that are computed: constants are left out."""
        return [value.name for value in self.model.outputs if value.name in self.model.tensors]

    def run(self, proto: onnx.ModelProto) -> Outputs:
        """The outputs of the network, or of a changed one, for all rows: on the CPU."""
        return join_batches(activations(proto, self.inputs, self.output_names))

    def compare(self, way: str, reference: Outputs, outputs: Outputs) -> Answer:
        """How far ``outputs`` are from FP32's, the reference."""
        both = [
            name
            for name, values in reference.items()
            if name in outputs and outputs[name].shape == values.shape
        ]
        floats = [name for name in both if reference[name].dtype.kind == "f"]
        exact = [reference[name].ravel() for name in floats]
        values = [outputs[name].ravel() for name in floats]
        sqnr = sqnr_db(np.concatenate(exact), np.concatenate(values)) if floats else None
        table = reference[both[0]] if both else np.zeros(0)
        if table.ndim != 2 or table.shape[1] < 2:
            return Answer(way, sqnr, None, None)
        logits, labels = outputs[both[0]], self.labels
        right = None if labels is None else accuracy(logits, labels[: len(logits)])
        return Answer(way, sqnr, accuracy(logits, table.argmax(axis=1)), right)


def load_task(
    model: str | os.PathLike[str],
    data: Data | None,
    labels: str | os.PathLike[str] | Array | None,
    algorithm: str,
    batch: int,
) -> Task:
    """Everything read and checked; one line of ModelError or DataError for what does not fit."""
    check_algorithm(algorithm)
    proto, facts = load_model(model)
    path = Path(getattr(model, "path", model))
    quantization = judge_quantization(proto)
    if quantization.is_quantized:
        raise ModelError(*quantization.why_not_again())
    inputs = input_data(facts, data_for(model, data), batch)
    classes = load_labels(labels, inputs.facts.rows_in_all)
    return Task(path, proto, facts, inputs, classes, algorithm)


def load_labels(source: str | os.PathLike[str] | Array | None, rows: int) -> Array | None:
    """Class numbers, one a row, from a .npy file or an array; DataError where they are not that."""
    if source is None or (isinstance(source, str) and not source.strip()):
        return None
    labels = source if isinstance(source, np.ndarray) else load_arrays(source, ["labels"])["labels"]
    if labels.dtype.kind not in "iu" or labels.shape != (rows,):
        raise DataError(
            f"the labels are {labels.dtype} {list(labels.shape)}, expected whole numbers [{rows}]",
            "give the class number of each row",
        )
    return labels


def join_batches(batches: Iterable[Mapping[str, Any]]) -> dict[str, Array]:
    """Each output of all batches, one behind the other.

    Left out are sequences, and outputs whose shape depends on the values and so changes between
    batches.
    """
    collected: dict[str, list[Any]] = {}
    for batch in batches:
        for name, values in batch.items():
            collected.setdefault(name, []).append(values)
    joined = {}
    for name, parts in collected.items():
        shapes = {getattr(part, "shape", None) and part.shape[1:] for part in parts}
        if all(isinstance(part, np.ndarray) for part in parts) and len(shapes) == 1:
            joined[name] = np.concatenate([np.atleast_1d(part) for part in parts])
    return joined
