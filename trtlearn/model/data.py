"""Data for a network's inputs: loaded, and checked against the network before any work."""

from __future__ import annotations

import io
import math
import os
import struct
import zipfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from itertools import permutations
from typing import IO, Any, Literal, NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray

from ..dtypes import NUMPY
from ..errors import DataError, ModelError, TrtlearnError, first_line
from ..files import HEAD_BYTES, read_bytes, recognize
from ..record import Record, plural
from .graph import OnnxModel, OnnxValue

__all__ = [
    "EXPECTED_DATA",
    "Data",
    "DataFacts",
    "InputData",
    "Labels",
    "arrays_by_name",
    "check_array",
    "check_batch_size",
    "check_feed",
    "check_form",
    "feeds",
    "for_each_array",
    "input_batches",
    "input_data",
    "load_arrays",
    "load_labels",
    "npz_bytes",
    "read_npz",
    "whole_inputs",
]

Array = NDArray[Any]
R = TypeVar("R")
MOST_UNPACKED = 1 << 31  # bytes that the compressed arrays of a file may unpack to
MOST_RECORDED = 1 << 26  # bytes that a recording's arrays may unpack to
SHOWN = 20  # names of arrays in a message
HEADER_BYTES = 1 << 16  # a .npy file's header is shorter, whatever length it states
CHUNK = 1 << 20  # values looked at together
MANY_VALUES = 1 << 20  # from here on several threads pay: numpy lets go of the lock while it works


def check_array(
    value: object,
    where: str,
    dtype: str | None = None,
    shape: Sequence[object] | None = None,
) -> Array:
    """``value``, C-contiguous, where a network can be given it; else DataError, which begins with
    ``where``. NaN and infinity are refused too.

    Args:
        dtype: the type expected, in numpy's words; None: any.
        shape: the shape expected, a number for each fixed axis, anything else for a free one.

    >>> check_array(np.zeros((2, 27), np.float32), "x", "float32", ("batch", 28))
    Traceback (most recent call last):
    ...
    trtlearn.errors.DataError: x has shape [2,27], expected [batch,28]. Try: reshape or resize it
    """
    if not isinstance(value, np.ndarray) or isinstance(value, np.ma.MaskedArray):
        kind = type(value).__name__
        fix = "use .filled(0), or leave rows out" if kind == "MaskedArray" else "use numpy.asarray"
        raise DataError(f"{where} is a {kind}, expected a numpy array", fix)
    check_form(value, where, dtype, shape)
    check_finite(value, where)
    return np.asarray(value, order="C")


def check_form(array: Array, where: str, dtype: str | None, shape: Sequence[object] | None) -> None:
    """:func:`check_array` without a look at the values: type and shape, and that there are any."""
    if dtype is not None and array.dtype != dtype:
        is_image = array.dtype == np.uint8 and dtype.startswith("float")
        convert = f"convert it with .astype('{dtype}')"
        raise DataError(
            f"{where} is {array.dtype}, expected {dtype}",
            "normalise it as the network's training did" if is_image else convert,
        )
    if shape is not None and not _fits(array.shape, shape):
        wanted, size = _shape_text(shape), _shape_text(array.shape)
        fix = _shape_advice(array.shape, shape)
        raise DataError(f"{where} has shape [{size}], expected [{wanted}]", fix)
    if array.size == 0:
        problem = f"{where} is empty, shape [{_shape_text(array.shape)}]"
        raise DataError(problem, "give at least one row")


def check_feed(
    batch: object, inputs: Mapping[str, tuple[Sequence[object] | None, str | None]], where: str
) -> dict[str, Array]:
    """A batch as arrays by input name; DataError where a name, a shape or a type does not fit.

    Args:
        batch: arrays by input name, or one array for a network with one input.
        inputs: input -> (shape, type), each as :func:`check_array` takes it.
    """
    if not isinstance(batch, Mapping):
        if len(inputs) != 1:
            problem = f"{where} is one array, but the network has inputs {sorted(inputs)}"
            raise DataError(problem, "pass a dict")
        batch = dict.fromkeys(inputs, batch)
    if wrong := sorted(set(batch) ^ set(inputs)):
        problem = f"{where} has inputs {sorted(batch)}, expected {sorted(inputs)}"
        raise DataError(problem, f"rename or add {wrong[0]!r}")
    feed = {}
    for name, (shape, dtype) in inputs.items():
        feed[name] = check_array(batch[name], f"{where}: {name}", dtype, shape)
    return feed


def for_each_array(work: Callable[[str, Array], R], arrays: Mapping[str, Array]) -> dict[str, R]:
    """``work(name, array)`` for each of ``arrays``, on all cores where they are large enough.

    Results stand in their order; ``work`` must not change what others see.

    >>> for_each_array(lambda name, array: array.sum().item(), {"x": np.ones(3)})
    {'x': 3.0}
    """
    cores = os.cpu_count() or 1
    if cores < 2 or len(arrays) < 2 or sum(a.size for a in arrays.values()) < MANY_VALUES:
        return {name: work(name, array) for name, array in arrays.items()}
    with ThreadPoolExecutor(cores) as threads:
        return dict(zip(arrays, threads.map(work, arrays.keys(), arrays.values()), strict=True))


def _fits(size: Sequence[int], shape: Sequence[object]) -> bool:
    return len(size) == len(shape) and all(
        not isinstance(axis, int) or axis < 0 or axis == length
        for axis, length in zip(shape, size, strict=True)
    )


def _shape_advice(size: Sequence[int], shape: Sequence[object]) -> str:
    """What to do about another shape: a missing first axis, axes in another order, or neither."""
    if _fits((1, *size), shape):
        return "add the axis of the rows: x[None]"
    for order in permutations(range(1, len(size))) if 0 < len(size) < 6 else ():
        if _fits([size[axis] for axis in (0, *order)], shape):
            return f"its axes are in another order: .transpose{(0, *order)}"
    return "reshape or resize it"


def _shape_text(shape: Sequence[object]) -> str:
    free = (axis if isinstance(axis, str) and axis else "*" for axis in shape)
    return ",".join(
        str(axis) if isinstance(axis, int) and axis >= 0 else name
        for axis, name in zip(shape, free, strict=True)
    )


def check_finite(array: Array, where: str) -> None:
    """DataError that counts the NaN and infinite values of ``array`` and names the first."""
    if array.dtype.kind != "f" or not array.size:
        return
    rows = array if array.ndim else array.reshape(1)
    step = max(1, CHUNK // rows[0].size)
    count = 0
    first: tuple[int, ...] = ()
    for start in range(0, len(rows), step):
        bad = ~np.isfinite(rows[start : start + step])
        if bad.any():
            row, *inside = (int(axis) for axis in np.argwhere(bad)[0])
            first = first or (start + row, *inside)
            count += int(np.count_nonzero(bad))
    if count:
        raise DataError(
            f"{where} holds NaN or infinity: {plural(count, 'such value')}, "
            f"the first ({rows[first]}) at {list(first)}",
            "find where they come from: no scale can represent them",
        )


def check_batch_size(batch: object) -> int:
    """``batch`` where it is a whole number above 0; DataError otherwise."""
    if isinstance(batch, bool) or not isinstance(batch, int) or batch < 1:
        problem = f"the batch size is {batch!r}, expected a whole number above 0"
        raise DataError(problem, "8 is a good start")
    return batch


def load_arrays(
    path: str | os.PathLike[str],
    *choices: Iterable[str],
    check: Callable[[dict[str, Array]], object] = len,
) -> dict[str, Array]:
    """Arrays by name from a .npz file, or from a .npy file where one name alone is expected.

    Arrays stay on disk until they are used, except those that a .npz file holds compressed. Nothing
    is unpickled. DataError where the file is neither, or holds other names.

    Args:
        choices: names; of several sets of names the first that the file holds.
        check: gets the arrays before any is read, without their values, and raises DataError where
            a type or a shape does not fit.
    """
    several = [tuple(names) for names in choices]
    other = recognize(read_bytes(path, DataError, HEAD_BYTES))
    if other and other.kind not in ("numpy", "archive"):
        raise DataError(f"{path} is {other.words}, expected a .npy or .npz file", other.fix)
    if not os.path.isfile(path):
        fix = "write them to a file: arrays stay there until they are used"
        raise DataError(f"{path} is a pipe, expected a .npy or .npz file", fix)
    try:
        with open(path, "rb") as file:
            archive = zipfile.ZipFile(file) if zipfile.is_zipfile(file) else None
            members = _members(archive) if archive else dict.fromkeys(one[0] for one in several)
            names = next((one for one in several if set(one) <= set(members)), None)
            if names is not None:
                forms = {name: _form(file, archive, members[name]) for name in names}
                check({name: form.outline for name, form in forms.items()})
                return {name: _read(file, archive, members[name], forms[name]) for name in names}
    except TrtlearnError:
        raise
    except Exception as problem:  # numpy, zipfile, zlib and tokenize each raise their own
        raise DataError(
            f"{path} is no .npy or .npz file of plain arrays: {first_line(problem)[:200]}",
            "save it with numpy.save",
        ) from None
    names, held = several[-1], sorted(members) or ["no array"]
    held = [*held[:SHOWN], "…"] if len(held) > SHOWN else held
    missing = next(name for name in names if name not in members)
    named = ", ".join(f"{name}=..." if name.isidentifier() else "**arrays" for name in names)
    raise DataError(
        f"{path} holds {', '.join(held) if archive else 'one array without a name'}, "
        f"expected arrays for the inputs {', '.join(names)}: {missing} is missing",
        f"numpy.savez(FILE, {named})",
    )


def read_npz(content: bytes) -> dict[str, Array]:
    """The arrays of a small .npz file given as bytes; none is unpickled.

    Raises what numpy and zipfile raise for a damaged file, ValueError for one that unpacks to over
    ``MOST_RECORDED`` bytes.
    """
    with io.BytesIO(content) as file, zipfile.ZipFile(file) as archive:
        members = _members(archive)
        if (size := sum(item.file_size for item in members.values())) > MOST_RECORDED:
            raise ValueError(f"it unpacks to {size:,} bytes, expected at most {MOST_RECORDED:,}")
        for member in members.values():
            _form(file, archive, member)
        return {name: _unpacked(archive, member) for name, member in members.items()}


def npz_bytes(arrays: Mapping[str, Array], compression: int = zipfile.ZIP_DEFLATED) -> bytes:
    """The content of a .npz file. numpy's own writer refuses an array that is called "file"."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", compression) as packed:
        for name, array in arrays.items():
            with packed.open(f"{name}.npy", "w", force_zip64=True) as member:
                np.lib.format.write_array(member, np.asarray(array), allow_pickle=False)
    return buffer.getvalue()


class _Form(NamedTuple):
    """What the header of a .npy file says."""

    outline: Array  # of the file's type and shape, without its values
    offset: int  # where the values begin
    order: Literal["C", "F"]


def _members(archive: zipfile.ZipFile) -> dict[str, zipfile.ZipInfo]:
    return {item.filename.removesuffix(".npy"): item for item in archive.infolist()}


def _form(
    file: IO[bytes], archive: zipfile.ZipFile | None, member: zipfile.ZipInfo | None
) -> _Form:
    """The header of a .npy file or a .npz file's member; ValueError where the length differs."""
    if archive is None or member is None:
        file.seek(0)
        head, size = file.read(HEADER_BYTES), os.fstat(file.fileno()).st_size
    else:
        with archive.open(member) as inside:
            head, size = inside.read(HEADER_BYTES), member.file_size
    start = io.BytesIO(head)
    version = np.lib.format.read_magic(start)
    second = np.lib.format.read_array_header_2_0
    if version not in ((1, 0), (2, 0)):  # 3.0: field names in UTF-8, which no array of ours has
        raise ValueError(f"format {version[0]}.{version[1]} of .npy, expected 1.0 or 2.0")
    read = np.lib.format.read_array_header_1_0 if version == (1, 0) else second
    shape, is_fortran, dtype = read(start)
    if dtype.hasobject or not dtype.itemsize:
        raise ValueError(f"its values are {dtype}, expected numbers")
    needed, held = math.prod(shape) * dtype.itemsize, size - start.tell()
    if min(shape, default=0) < 0 or needed != held:
        raise ValueError(f"its header says {needed:,} bytes, it holds {held:,}")
    outline = np.broadcast_to(np.zeros((), dtype), shape)
    return _Form(outline, start.tell(), "F" if is_fortran else "C")


def _read(
    file: IO[bytes], archive: zipfile.ZipFile | None, member: zipfile.ZipInfo | None, form: _Form
) -> Array:
    """The array itself: left on disk where it is not compressed."""
    outline, start = form.outline, form.offset
    if archive is not None and member is not None:
        if member.compress_type != zipfile.ZIP_STORED:
            return _unpacked(archive, member)
        file.seek(member.header_offset + 26)  # a local header: 30 bytes, name, extra field
        start += member.header_offset + 30 + sum(struct.unpack("<HH", file.read(4)))
    if not outline.size:
        return outline.copy()
    try:
        return np.asarray(np.memmap(file, outline.dtype, "r", start, outline.shape, form.order))
    except OSError:  # a file system without memory maps
        file.seek(start)
        flat = np.fromfile(file, outline.dtype, outline.size)
        return flat.reshape(outline.shape, order=form.order)


def _unpacked(archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> Array:
    if member.file_size > MOST_UNPACKED:
        raise ValueError(
            f"{member.filename} unpacks to {member.file_size:,} bytes, expected at most "
            f"{MOST_UNPACKED:,}: numpy.savez does not compress, and such arrays stay on disk"
        )
    with archive.open(member) as file:
        return np.lib.format.read_array(file, allow_pickle=False)


def feeds(
    arrays: Mapping[str, Array], batch: int, whole: Iterable[str] = ()
) -> Iterator[dict[str, Array]]:
    """``arrays`` (equal first axes) cut into dicts of ``batch`` rows; rows left over at the end are
    dropped.

    The arrays named in ``whole`` hold no rows and go into each dict as they are.

    >>> [part["x"].shape for part in feeds({"x": np.zeros((5, 3), np.float32)}, 2)]
    [(2, 3), (2, 3)]
    """
    same = set(whole)
    cut = {name: array for name, array in arrays.items() if name not in same}
    lengths = {name: len(array) for name, array in cut.items() if array.ndim}
    if len(set(lengths.values())) != 1 or len(lengths) != len(cut):
        problem = f"inputs have first axes {lengths}, expected one length for all"
        raise DataError(problem, "give each as many rows")
    total = next(iter(lengths.values()))
    if not 1 <= batch <= total:
        problem = f"batch size is {batch}, expected 1 to {total} (all rows)"
        raise DataError(problem, "choose a smaller batch")
    for start in range(0, total - batch + 1, batch):
        yield {
            name: array if name in same else array[start : start + batch]
            for name, array in arrays.items()
        }


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
    """A network's input data: iterating gives batches, dicts of arrays by input name."""

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
            problem = f"input {value.name!r} has no known shape"
            raise ModelError(problem, "export it with a shape [batch, ...]")
    if model.inputs and all(value.shape == () for value in model.inputs):
        problem = "no input of the network has an axis"
        raise ModelError(problem, "export it with a shape [batch, ...]")
    check_batch_size(batch)
    arrays = arrays_by_name(model, data)
    whole = whole_inputs(model, arrays)
    cut = tuple(value for value in model.inputs if value.name not in whole)
    fixed = _fixed_batch(cut)
    _check_forms(model, arrays)
    arrays = {name: check_array(array, f"input {name!r}") for name, array in arrays.items()}
    lengths = {value.name: len(arrays[value.name]) for value in cut}
    if len(set(lengths.values())) != 1:
        problem = f"the inputs have different numbers of rows: {lengths}"
        raise DataError(problem, "give each input as many rows")
    total = next(iter(lengths.values()))
    size = fixed or min(batch, total)
    if total < size:
        problem = f"{plural(total, 'row')} of data, the network takes {size} at once"
        raise DataError(problem, "give at least one batch")
    shapes = {name: tuple(array.shape) for name, array in arrays.items()}
    dtypes = {name: str(array.dtype) for name, array in arrays.items()}
    return InputData(arrays, DataFacts(shapes, dtypes, total, size, total // size * size, whole))


def _fixed_batch(inputs: tuple[OnnxValue, ...]) -> int | None:
    """The batch size that the inputs' first axes fix; None where they are dynamic."""
    first_axes = {value.shape[0] for value in inputs if value.shape}
    fixed = {axis for axis in first_axes if isinstance(axis, int)}
    if 0 in fixed:
        problem = "the network fixes its batch size at 0"
        raise ModelError(problem, "export it with a dynamic batch, or one above")
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
            problem = f"no data for input {missing[0]!r} (given: {sorted(data)})"
            raise DataError(problem, EXPECTED_DATA)
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
