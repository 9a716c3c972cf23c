"""A reader's network with its data: checked before any work, run, and its answers compared."""

from __future__ import annotations

import ast
import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ...calibration.network import data_for, load_model
from ...calibration.qdq import QdqReport, insert_pairs, scales_as_inputs
from ...errors import DataError, ModelError
from ...int8.quant import sqnr_db
from ...model.course_data import accuracy
from ...model.data import Data, InputData, Labels, input_data, load_labels
from ...model.detections import Detections, Head, find_head, mean_ap, share_matched
from ...model.fold import copied
from ...model.graph import OnnxModel, judge_quantization
from ...model.run import activations
from .records import Answer

if TYPE_CHECKING:
    import onnx

__all__ = ["Array", "Labels", "Outputs", "Task", "join_batches", "load_task"]

Array = NDArray[Any]
Outputs = Mapping[str, Array]
"""Output name -> its values for all rows."""
BOXES = 100  # of an image that a detector is judged by


@dataclass(frozen=True)
class Task:
    """A network, its data, and how to calibrate it: what every step reads."""

    path: Path
    proto: onnx.ModelProto
    model: OnnxModel
    inputs: InputData
    labels: Labels | None
    algorithm: str
    head: Head | None = None  # where the outputs hold boxes; set when FP32 has run
    found: tuple[Detections, ...] = ()  # FP32's boxes, which the head holds

    @property
    def name(self) -> str:
        """The ONNX file's name without its ending."""
        return self.path.stem

    @property
    def output_names(self) -> list[str]:
        """The outputs that are computed: constants are left out."""
        return [value.name for value in self.model.outputs if value.name in self.model.tensors]

    def run(
        self, model: onnx.ModelProto, plans: Mapping[str, QdqReport]
    ) -> Iterator[tuple[str, Outputs]]:
        """Each plan's name, and the outputs for all rows with its pairs: on the CPU.

        ``model`` is the one that was planned for; it is used up. It is loaded once for all plans
        that differ in their scales only.
        """
        groups: dict[Any, list[str]] = {}
        for name, plan in plans.items():
            groups.setdefault(plan.places, []).append(name)
        for number, names in enumerate(groups.values(), 1):
            own = model if number == len(groups) else copied(model)
            insert_pairs(own, plans[names[0]])
            inputs = scales_as_inputs(own, plans[names[0]])
            batches = self._batches(inputs, [plans[name] for name in names])
            outputs = activations(own, batches, self.output_names, copy=False)
            for name in names:
                yield name, join_batches(islice(outputs, len(self.inputs)))

    def _batches(
        self, inputs: Mapping[str, str], plans: Iterable[QdqReport]
    ) -> Iterator[dict[str, Array]]:
        """Every batch with the scales of each plan, for a network that has these inputs."""
        for plan in plans:
            scales = {site.tensor: site.scale for site in plan.sites}
            given = {name: np.asarray(scales[x], np.float32) for x, name in inputs.items()}
            for batch in self.inputs:
                yield batch | given

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
        if self.head is not None and self.head.outputs <= set(both):
            return self._judge_boxes(way, sqnr, self.head, reference, outputs)
        if not both or not self._is_class_table(reference, both[0]):
            return Answer(way, sqnr, None, None)
        table, logits, labels = reference[both[0]], outputs[both[0]], self.labels
        classes = None if isinstance(labels, Mapping) else labels
        _check_classes(classes, table.shape[1])
        right = None if classes is None else accuracy(logits, classes[: len(logits)])
        return Answer(way, sqnr, accuracy(logits, table.argmax(axis=1)), right)

    def _is_class_table(self, outputs: Outputs, name: str) -> bool:
        """Whether an output is [rows, classes]: the scores of detections [rows, K] are not, beside
        boxes [rows, K, 4].
        """
        table = outputs[name]
        if table.dtype.kind != "f" or table.ndim != 2 or table.shape[1] < 2:
            return False
        lists = any(one.ndim > 2 and one.shape[:2] == table.shape for one in outputs.values())
        return len(table) == self.inputs.facts.rows_used and not lists

    def _judge_boxes(
        self, way: str, sqnr: float | None, head: Head, reference: Outputs, outputs: Outputs
    ) -> Answer:
        """A detector's answers: the boxes found again, the scores left, mAP50 by the labels."""
        found = self.found
        detections = found if outputs is reference else head.detections(outputs, BOXES)
        quality = None
        if isinstance(self.labels, Mapping):
            boxes, classes = (self.labels[name][: len(detections)] for name in ("boxes", "classes"))
            _check_classes(classes, self.known_classes(head))
            quality = mean_ap(detections, boxes, classes)
        matched, count = share_matched(found, detections), sum(int(one.sure.sum()) for one in found)
        scores = int(np.unique(head.joined(outputs)[:, 4:].max(axis=1)).size)
        return Answer(way, sqnr, None, None, matched, scores, quality, count)

    @property
    def stated_classes(self) -> int | None:
        """How many classes the file states: Ultralytics' exports name each, beside their task
        (ultralytics 002363f, ultralytics/engine/exporter.py).
        """
        stated = {entry.key: entry.value for entry in self.proto.metadata_props}
        try:
            return len(ast.literal_eval(stated["names"])) if "task" in stated else None
        except (KeyError, SyntaxError, TypeError, ValueError):
            return None

    def known_classes(self, head: Head) -> int | None:
        """How many classes the detector tells apart; None where neither head nor file says so."""
        return self.stated_classes if head.known_classes is None else head.known_classes

    def with_head(self, outputs: Outputs) -> Task:
        """The same, with the detector's head among FP32's ``outputs``, and its boxes."""
        head = find_head(outputs, self.stated_classes)
        return replace(
            self, head=head, found=tuple(head.detections(outputs, BOXES)) if head else ()
        )


def load_task(
    model: str | os.PathLike[str],
    data: Data | None,
    labels: str | os.PathLike[str] | Labels | None,
    algorithm: str,
    batch: int,
) -> Task:
    """Everything read and checked; one line of ModelError or DataError for what does not fit."""
    proto, facts = load_model(model)
    path = Path(getattr(model, "path", model))
    quantization = judge_quantization(proto)
    if quantization.is_quantized:
        raise ModelError(*quantization.why_not_again())
    inputs = input_data(facts, data_for(model, data), batch)
    classes = load_labels(labels, inputs.facts.rows_in_all)
    task = Task(path, proto, facts, inputs, classes, algorithm)
    if isinstance(classes, Mapping):  # only the values say how many classes a detector has
        outputs = next(activations(proto, islice(inputs, 1), task.output_names))
        if head := find_head(outputs, task.stated_classes):
            _check_classes(classes["classes"], task.known_classes(head))
        return task
    shapes = (value.shape for value in facts.outputs if value.name in facts.tensors)
    shape = next(shapes, None) or ()
    _check_classes(classes, shape[1] if len(shape) == 2 else None)
    return task


def _check_classes(classes: Array | None, count: Any) -> None:
    """DataError where a class is none of the network's ``count``; in [rows,K] -1 is no object."""
    if classes is None or not isinstance(count, int):
        return
    if not 1 - classes.ndim <= classes.min() <= classes.max() < count:
        raise DataError(
            f"the labels go from {classes.min()} to {classes.max()}, "
            f"the network knows the classes 0 to {count - 1}",
            "give the labels of this network's classes",
        )


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
