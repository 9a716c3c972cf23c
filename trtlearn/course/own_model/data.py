"""A reader's own data for a reader's own network: loaded, and checked against the network's inputs before any work."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...dtypes import NUMPY
from ...errors import DataError, ModelError
from ...model.describe import OnnxModel, OnnxValue, whole_inputs
from ...model.run import load_arrays
from ...record import Record, plural

__all__ = ["DataFacts", "fit_data", "load_labels"]

Array = NDArray[Any]
FEEDABLE = ("fp32", "fp16", "int32", "int64", "bool", "uint8")
"""The data types of network inputs that trtlearn can feed."""
WANTED = "a .npy file [rows, ...] for one input, a .npz file with one array for each input's name for several"


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
        return f"{plural(self.rows_in_all, 'row')}, {self.rows_used} of them used in batches of {self.batch}"

    def rows(self) -> list[dict[str, Any]]:
        return [
            {"input": name, "shape": shape, "type": self.dtypes[name]}
            for name, shape in self.shapes.items()
        ]


def fit_data(
    model: OnnxModel,
    data: str | os.PathLike[str] | Array | Mapping[str, Array] | None,
    batch: int = 8,
) -> tuple[dict[str, Array], DataFacts]:
    """The arrays by input name, and what they are; DataError in one line where they do not fit the network.

    ``data`` is a .npy or .npz file, one array, or a dict of arrays. A fixed first axis of the network overrides
    ``batch``; other axes that are dynamic take the data's size. Refused: nothing given, a missing input, another type,
    another shape, unequal rows, fewer rows than one batch, NaN or infinity. An input without a batch axis (a scalar,
    a state: :func:`whole_inputs`) is given once, and goes into every batch.
    """
    if not model.inputs:
        raise ModelError("the network has no inputs", "export it with its input as a graph input")
    for value in model.inputs:
        if value.shape is None:
            raise ModelError(
                f"input {value.name!r} has no known shape", "export it with a shape [batch, ...]"
            )
    if all(value.shape == () for value in model.inputs):
        raise ModelError(
            "no input of the network has an axis", "export it with a shape [batch, ...]"
        )
    _size_above_0(batch)
    arrays = _arrays(model, data)
    whole = whole_inputs(model, arrays)
    cut = tuple(value for value in model.inputs if value.name not in whole)
    wanted = _batch(cut, batch)
    for value in model.inputs:
        _check(value, arrays[value.name], value.name in whole)
    lengths = {value.name: len(arrays[value.name]) for value in cut}
    if len(set(lengths.values())) != 1:
        raise DataError(
            f"the inputs have different numbers of rows: {lengths}", "give each input as many rows"
        )
    total = next(iter(lengths.values()))
    fixed = any(isinstance(value.shape[0], int) for value in cut if value.shape)
    size = wanted if fixed else min(wanted, total)
    if total < size:
        raise DataError(
            f"{plural(total, 'row')} of data, the network takes {size} at once",
            "give at least one batch",
        )
    return arrays, DataFacts(
        {name: tuple(array.shape) for name, array in arrays.items()},
        {name: str(array.dtype) for name, array in arrays.items()},
        total,
        size,
        total // size * size,
        whole,
    )


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


def _size_above_0(batch: int) -> None:
    if isinstance(batch, bool) or not isinstance(batch, int) or batch < 1:
        raise DataError(
            f"the batch size is {batch!r}, expected a whole number above 0", "8 is a good start"
        )


def _batch(inputs: tuple[OnnxValue, ...], batch: int) -> int:
    fixed = {value.shape[0] for value in inputs if value.shape and isinstance(value.shape[0], int)}
    if len(fixed) > 1:
        raise ModelError(
            f"the inputs' first axes are fixed to {sorted(fixed)}: they are no common batch",
            "give an input without rows (a state, say) in exactly its own shape, or export with a dynamic batch",
        )
    return int(fixed.pop()) if fixed else batch


def _arrays(model: OnnxModel, data: Any) -> dict[str, Array]:
    names = [value.name for value in model.inputs]
    if data is None or (isinstance(data, str) and not data.strip()):
        raise DataError(f"no data given for {', '.join(map(repr, names))}", WANTED)
    if isinstance(data, np.ndarray):
        if len(names) > 1:
            raise DataError(f"one array for a network with inputs {names}", WANTED)
        return {names[0]: data}
    if isinstance(data, Mapping):
        if missing := [name for name in names if name not in data]:
            raise DataError(f"no data for input {missing[0]!r} (given: {sorted(data)})", WANTED)
        return {name: np.asarray(data[name]) for name in names}
    path = Path(data)
    if path.is_file() and path.suffix == ".npy" and len(names) > 1:
        raise DataError(f"{path.name} holds one array, but the network has inputs {names}", WANTED)
    return load_arrays(path, names)


def _check(value: OnnxValue, array: Array, whole: bool) -> None:
    shape = value.shape or ()
    where = f"input {value.name!r}"
    wanted = NUMPY[value.dtype] if value.dtype in FEEDABLE else None
    if wanted is None:
        raise ModelError(
            f"{where} is {value.dtype or 'no tensor of a known type'}, which trtlearn cannot feed",
            "export it with float32 inputs",
        )
    if str(array.dtype) != wanted:
        advice = (
            " after the normalisation that the network was trained with"
            if array.dtype == np.uint8
            else ""
        )
        raise DataError(
            f"{where}: the data are {array.dtype}, the network takes {wanted}",
            f".astype('{wanted}'){advice}",
        )
    fits = array.ndim == len(shape) and all(
        not isinstance(axis, int) or axis == size
        for axis, size in zip(shape[1:], array.shape[1:], strict=True)
    )
    if not fits:
        told = ", ".join(
            "rows" if i == 0 and not whole else str(axis or "any") for i, axis in enumerate(shape)
        )
        raise DataError(
            f"{where}: the data have shape {list(array.shape)}, the network takes [{told}]",
            "reshape them",
        )
    if array.size == 0:
        raise DataError(
            f"{where}: the data are empty (shape {list(array.shape)})", "give at least one batch"
        )
    if array.dtype.kind == "f" and not np.isfinite(array).all():
        row = int(
            np.argwhere(
                ~np.isfinite(array.reshape(len(array), -1) if array.ndim else array[None, None])
            )[0][0]
        )
        raise DataError(
            f"{where}: the data hold NaN or infinity, first in row {row}",
            "mend or leave out these rows",
        )
