"""Calibration data as batches: from an array, a dict of arrays or an iterable, checked before TensorRT sees them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sized
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from .errors import DataError
from .record import plural

__all__ = ["DTYPES_NUMPY", "Batches", "batches_from", "check_batch", "check_finite"]

Arrays = dict[str, npt.NDArray[Any]]
ONLY = ""  # the name of the only input, until the network tells its own

DTYPES_NUMPY = {
    "fp32": "float32",
    "fp16": "float16",
    "int8": "int8",
    "uint8": "uint8",
    "int32": "int32",
    "int64": "int64",
    "bool": "bool",
}
"""trtlearn's names of data types -> numpy's, where numpy has them."""


@dataclass(frozen=True)
class Batches:
    """Batches to iterate over as often as the data allow: each a dict of arrays by input name."""

    start: Callable[[], Iterator[Arrays]]
    size: int
    first: Arrays | None = None  # the first batch, where it is known before iterating
    count: int | None = None  # how many, where that is known
    note: str = ""  # what was left out

    def __iter__(self) -> Iterator[Arrays]:
        return self.start()

    @staticmethod
    def rename(batch: Arrays, names: tuple[str, ...]) -> Arrays:
        """``batch`` under the network's input names; DataError where they differ."""
        if ONLY in batch:
            if len(names) != 1:
                raise DataError(
                    f"the network has {len(names)} inputs ({', '.join(names)}), the data are one unnamed array",
                    "give a dict of arrays by input name",
                )
            return {names[0]: batch[ONLY]}
        if missing := [name for name in names if name not in batch]:
            raise DataError(
                f"the data lack the input {missing[0]!r}; they have {', '.join(map(repr, batch)) or 'none'}",
                f"name the arrays as the network does: {', '.join(names)}",
            )
        return {name: batch[name] for name in names}


def check_finite(array: npt.NDArray[Any], where: str) -> None:
    """DataError that names the first NaN or infinity of ``array``."""
    if array.dtype.kind != "f":
        return
    with np.errstate(all="ignore"):
        if np.isfinite(array.sum(dtype=array.dtype if array.dtype.itemsize > 2 else np.float32)):
            return  # a NaN or infinity would have stayed in the sum
    bad = np.argwhere(~np.isfinite(array))
    if len(bad):
        place = tuple(int(i) for i in bad[0])
        raise DataError(f"{where} holds {array[place]} at {place}, one of {len(bad)} such values", "clean the data")


def _array(value: Any, where: str) -> npt.NDArray[Any]:
    if not isinstance(value, np.ndarray):
        raise DataError(f"{where} is of type {type(value).__name__}, expected a numpy array", "np.asarray it")
    if value.ndim == 0 or value.dtype.kind not in "fiub":
        raise DataError(f"{where} has dtype {value.dtype} and shape {value.shape}, expected numbers [batch, ...]")
    if value.dtype == np.float64:
        raise DataError(f"{where} is float64, TensorRT takes float32", "use .astype(np.float32)")
    return value


def _named(value: Any, where: str) -> Arrays:
    if isinstance(value, Mapping):
        if not value:
            raise DataError(f"{where} is an empty dict", "give an array for each input of the network")
        return {str(name): _array(item, f"{where}, input {name!r}") for name, item in value.items()}
    return {ONLY: _array(value, where)}


def batches_from(data: Any, batch_size: int) -> Batches:
    """Batches of ``batch_size`` from an array, a dict of arrays, or an iterable of batches.

    Arrays are checked at once for type, length and NaN; an iterable's batches as they come. A last batch that is
    not full is dropped, which ``note`` says (for an iterable: a shorter last batch is dropped in silence only if
    it is the last; a short one in between is an error).

    >>> [batch[""].shape for batch in batches_from(np.zeros((20, 3), np.float32), 8)]
    [(8, 3), (8, 3)]
    """
    if isinstance(batch_size, bool) or not isinstance(batch_size, int) or batch_size < 1:
        raise DataError(f"batch_size is {batch_size!r}, expected a whole number from 1")
    if isinstance(data, (np.ndarray, Mapping)):
        arrays = _named(data, "the calibration data")
        lengths = {len(array) for array in arrays.values()}
        if len(lengths) != 1:
            raise DataError(f"the inputs' arrays have {sorted(lengths)} rows, expected the same for each")
        for name, array in arrays.items():
            check_finite(array, "the calibration data" + (f", input {name!r}," if name else ""))
        count, left = divmod(lengths.pop(), batch_size)
        if not count:
            raise DataError(f"less than one batch of {batch_size}: {plural(left, 'image')}", "use a smaller batch_size")
        starts = range(0, count * batch_size, batch_size)

        def slices() -> Iterator[Arrays]:
            return ({name: array[at : at + batch_size] for name, array in arrays.items()} for at in starts)

        note = f"the last {plural(left, 'image does', 'images do')} not fill a batch of {batch_size}: left out"
        return Batches(slices, batch_size, next(slices()), count, note if left else "")
    if not isinstance(data, Iterable) or isinstance(data, (str, bytes)):
        raise DataError(
            f"the calibration data are of type {type(data).__name__}", "give an array, a dict of arrays, or batches"
        )
    return Batches(lambda: _full(data, batch_size), batch_size, count=len(data) if isinstance(data, Sized) else None)


def _full(data: Iterable[Any], batch_size: int) -> Iterator[Arrays]:
    """The batches of an iterable, less a short last one."""
    short: tuple[int, int] | None = None
    for index, item in enumerate(data):
        if short is not None:
            raise DataError(f"batch {short[0]} has {short[1]} of {batch_size} rows: only the last may be short")
        batch = _named(item, f"batch {index}")
        rows = {len(array) for array in batch.values()}
        if rows != {batch_size}:
            if max(rows) > batch_size or len(rows) > 1:
                raise DataError(f"batch {index} has {sorted(rows)} rows, expected {batch_size}")
            short = (index, rows.pop())
            continue
        for name, array in batch.items():
            check_finite(array, f"batch {index}" + (f", input {name!r}," if name else ""))
        yield batch


def check_batch(batch: Arrays, inputs: Mapping[str, tuple[tuple[int, ...], str]], index: int) -> None:
    """DataError where a batch's shapes or dtypes are not the network inputs' (-1 stands for any size)."""
    for name, (shape, dtype) in inputs.items():
        array, where = batch[name], f"batch {index}, input {name!r}"
        fits = len(array.shape) == len(shape) and all(
            want in (-1, have) for want, have in zip(shape, array.shape, strict=True)
        )
        if not fits:
            raise DataError(f"{where} has shape {array.shape}, the network takes {shape}", "reshape the data")
        wanted = DTYPES_NUMPY.get(dtype)
        if wanted is not None and array.dtype != wanted:
            raise DataError(f"{where} has dtype {array.dtype}, the network takes {wanted}", f"use .astype('{wanted}')")
