"""Data for a network's inputs: loaded, and checked against the network before any work."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from ..dtypes import NUMPY
from ..errors import DataError, ModelError
from ..record import Record, plural
from .arrays import Array, check_array, check_batch_size, check_form, feeds, load_arrays
from .graph import OnnxModel, OnnxValue

__all__ = [
    "EXPECTED_DATA",
    "Data",
    "DataFacts",
    "InputData",
    "Labels",
    "arrays_by_name",
    "input_batches",
    "input_data",
    "load_labels",
    "whole_inputs",
]

Data = str | os.PathLike[str] | Array | Mapping[str, Array]
"""A .npy or .npz file, one array, or arrays by input name; [rows, ...] each."""
Labels = Array | Mapping[str, Array]
"""The class of each row; for a detector ``boxes`` [rows,K,4] and ``classes`` [rows,K]."""
LABELS = "give the class number of each row, or a detector's boxes [rows,K,4] and classes [rows,K]"
NUMPY_LABELS = f"{LABELS}; as numpy arrays: np.array(labels)"
FEEDABLE = ("fp32", "fp16", "int32", "int64", "bool", "uint8")
"""The data types of network inputs that trtlearn can feed."""
EXPECTED_DATA = (
    "a .npy file [rows, ...] for one input, a .npz file with one array for each input's name for "
    "several"
)


@dataclass(frozen=True)
class DataFacts(Record):
    """What the data are: shapes and types by input, how many rows, and how many at a time."""

    shapes: dict[str, tuple[int, ...]]
    dtypes: dict[str, str]
    rows_in_all: int
    batch: int
    rows_used: int  # rows of the last batch that is not full are left out
    whole: tuple[str, ...] = ()  # inputs without rows: every batch gets them as they are

    def summary(self) -> str:
        return (
            f"{plural(self.rows_in_all, 'row')}, {self.rows_used} of them used "
            f"in batches of {self.batch}"
        )

    def rows(self) -> list[dict[str, Any]]:
        return [
            {"input": name, "shape": shape, "type": self.dtypes[name]}
            for name, shape in self.shapes.items()
        ]


@dataclass(frozen=True)
class InputData:
    """A network's input data: iterating gives one batch after the other, a dict of arrays by
    input name.
    """

    arrays: dict[str, Array]
    facts: DataFacts

    def __len__(self) -> int:
        return self.facts.rows_used // self.facts.batch

    def __iter__(self) -> Iterator[dict[str, Array]]:
        return feeds(self.arrays, self.facts.batch, self.facts.whole)


def input_batches(
    model: OnnxModel, data: Data | Iterable[Any], batch: int = 8
) -> Iterable[Array | Mapping[str, Array]]:
    """Batches for ``model``: :func:`input_data`'s; where ``data`` are batches already, ``data``."""
    is_whole = data is None or isinstance(data, (str, os.PathLike, np.ndarray, Mapping))
    if not is_whole and not isinstance(data, Iterable):
        raise DataError(f"the data are a {type(data).__name__}", EXPECTED_DATA)
    return input_data(model, data, batch) if is_whole else data  # type: ignore[arg-type, return-value]


def input_data(model: OnnxModel, data: Data | None, batch: int = 8) -> InputData:
    """The data as arrays by input name, with their facts; DataError in one line where they do not
    fit ``model``.

    A fixed first axis of the network overrides ``batch``; other axes that are dynamic take the
    data's size. Refused: nothing given, a missing input, another type, another shape, unequal rows,
    fewer rows than one batch, NaN or infinity. An input without a batch axis (a scalar, a state:
    :func:`whole_inputs`) goes whole into every batch.
    """
    for value in model.inputs:
        if value.shape is None:
            raise ModelError(
                f"input {value.name!r} has no known shape", "export it with a shape [batch, ...]"
            )
    if model.inputs and all(value.shape == () for value in model.inputs):
        raise ModelError(
            "no input of the network has an axis", "export it with a shape [batch, ...]"
        )
    check_batch_size(batch)
    arrays = arrays_by_name(model, data)
    whole = whole_inputs(model, arrays)
    cut = tuple(value for value in model.inputs if value.name not in whole)
    fixed = _fixed_batch(cut)
    _check_forms(model, arrays)
    arrays = {name: check_array(array, f"input {name!r}") for name, array in arrays.items()}
    lengths = {value.name: len(arrays[value.name]) for value in cut}
    if len(set(lengths.values())) != 1:
        raise DataError(
            f"the inputs have different numbers of rows: {lengths}", "give each input as many rows"
        )
    total = next(iter(lengths.values()))
    size = fixed or min(batch, total)
    if total < size:
        raise DataError(
            f"{plural(total, 'row')} of data, the network takes {size} at once",
            "give at least one batch",
        )
    shapes = {name: tuple(array.shape) for name, array in arrays.items()}
    dtypes = {name: str(array.dtype) for name, array in arrays.items()}
    return InputData(arrays, DataFacts(shapes, dtypes, total, size, total // size * size, whole))


def _fixed_batch(inputs: tuple[OnnxValue, ...]) -> int | None:
    """The batch size that the inputs' first axes fix; None where they are dynamic."""
    first_axes = {value.shape[0] for value in inputs if value.shape}
    fixed = {axis for axis in first_axes if isinstance(axis, int)}
    if 0 in fixed:
        raise ModelError(
            "the network fixes its batch size at 0", "export it with a dynamic batch, or one above"
        )
    if len(fixed) > 1:
        raise ModelError(
            f"the inputs have different fixed batch sizes: {sorted(fixed)}",
            "give an input without rows (a state, say) in exactly its own shape, "
            "or export with a dynamic batch",
        )
    return fixed.pop() if fixed else None


def whole_inputs(model: OnnxModel, arrays: Mapping[str, Array]) -> tuple[str, ...]:
    """The inputs that hold no rows, so that every batch gets them whole: a scalar, a first state.

    These are all inputs without axes, and, where the arrays differ in their first axis, those that
    are as long there as the network fixes it. Where that would be all, the first holds the rows.

    >>> from trtlearn.model.course_data import model_path
    >>> from trtlearn.model.read import read_model
    >>> images = np.zeros((8, 1, 28, 28), np.float32)
    >>> whole_inputs(read_model(model_path("resnet")), {"image": images})
    ()
    """
    rows: dict[str, int] = {}
    fixed: dict[str, int] = {}
    for value in model.inputs:
        if not value.shape:
            continue
        array = arrays.get(value.name)
        if array is not None and np.ndim(array):
            rows[value.name] = len(array)
        if isinstance(value.shape[0], int):
            fixed[value.name] = value.shape[0]
    differ = len(set(rows.values())) > 1 or len(set(fixed.values())) > 1
    whole = {name for name, size in fixed.items() if differ and rows.get(name) == size}
    if whole == set(rows) and whole:
        whole.remove(next(iter(rows)))
    return tuple(value.name for value in model.inputs if value.shape == () or value.name in whole)


def arrays_by_name(model: OnnxModel, data: Data | None) -> dict[str, Array]:
    """The data as one array for each input; DataError where an input has none."""
    names = [value.name for value in model.inputs]
    if not names:
        raise ModelError("the network has no inputs", "export it with its input as a graph input")
    if data is None or (isinstance(data, str) and not data.strip()):
        raise DataError(f"no data given for {', '.join(map(repr, names))}", EXPECTED_DATA)
    if isinstance(data, np.ndarray):
        if len(names) > 1:
            raise DataError(f"one array for a network with inputs {names}", EXPECTED_DATA)
        return {names[0]: data}
    if isinstance(data, Mapping):
        if missing := [name for name in names if name not in data]:
            raise DataError(
                f"no data for input {missing[0]!r} (given: {sorted(data)})", EXPECTED_DATA
            )
        return {name: np.asarray(data[name]) for name in names}
    return load_arrays(data, names, check=partial(_check_forms, model))


def _check_forms(model: OnnxModel, arrays: Mapping[str, Array]) -> None:
    """Whether the network can be given arrays of these types and shapes; no value is looked at."""
    whole = whole_inputs(model, arrays)
    for value in model.inputs:
        shape, where = value.shape, f"input {value.name!r}"
        if value.dtype not in FEEDABLE:
            raise ModelError(
                f"{where} is {value.dtype or 'no tensor of a known type'}, "
                "which trtlearn cannot feed",
                "export it with float32 inputs",
            )
        if shape and value.name not in whole:
            shape = ("rows", *shape[1:])
        check_form(arrays[value.name], where, NUMPY[value.dtype], shape)


def load_labels(source: str | os.PathLike[str] | Labels | None, rows: int | None) -> Labels | None:
    """The class number of each row, or a detector's boxes and classes; DataError for other labels.

    From an array, a .npy file, arrays by name or a .npz file of them. ``rows`` None: any number.
    """
    if source is None or (isinstance(source, str) and not source.strip()):
        return None
    check = partial(_check_labels, rows=rows)
    if isinstance(source, (str, os.PathLike)):
        arrays = load_arrays(source, ("boxes", "classes"), ("labels",), check=check)
    elif isinstance(source, Mapping):
        arrays = {name: np.asarray(source.get(name, ())) for name in ("boxes", "classes")}
    else:
        arrays = {"labels": source}
    check(arrays)
    if "labels" in arrays:
        return arrays["labels"]
    if not (arrays["classes"] >= 0).any():
        raise DataError("the labels name no object", "give the classes from 0, and boxes for them")
    return arrays


def _check_labels(labels: Mapping[str, Array], rows: int | None) -> None:
    """DataError unless these are ``labels`` [rows], or ``boxes`` and ``classes`` of ``rows``."""
    if "labels" in labels:
        one, expected = labels["labels"], f"expected whole numbers [{rows or 'N'}]"
        if not isinstance(one, np.ndarray):
            raise DataError(f"the labels are a {type(one).__name__}, {expected}", NUMPY_LABELS)
        if one.dtype.kind not in "iu" or one.shape != (rows or one.size,):
            raise DataError(f"the labels are {one.dtype} {list(one.shape)}, {expected}", LABELS)
        return
    boxes, classes = labels["boxes"], labels["classes"]
    whole = classes.dtype.kind in "iu" and boxes.dtype.kind in "fiu"
    if not whole or classes.ndim != 2 or boxes.shape != (rows, *classes.shape[1:], 4):
        raise DataError(
            f"the labels are boxes {list(boxes.shape)} and classes {list(classes.shape)}, expected "
            f"[{rows}, K, 4] and whole numbers [{rows}, K]",
            "boxes are (cx, cy, w, h) in the output's unit, a class of -1 stands for no object",
        )
