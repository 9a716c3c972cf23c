"""Arrays that come from outside: loaded from a file, checked in one place, and cut into batches."""

from __future__ import annotations

import io
import math
import os
import struct
import zipfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import permutations
from typing import IO, Any, Literal, NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray

from ..errors import DataError, TrtlearnError, first_line
from ..files import HEAD_BYTES, read_bytes, recognize
from ..record import plural

__all__ = [
    "check_array",
    "check_batch_size",
    "check_feed",
    "check_form",
    "feeds",
    "for_each_array",
    "load_arrays",
    "npz_bytes",
    "read_npz",
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
        raise DataError(
            f"{where} is empty, shape [{_shape_text(array.shape)}]", "give at least one row"
        )


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
            raise DataError(
                f"{where} is one array, but the network has inputs {sorted(inputs)}", "pass a dict"
            )
        batch = dict.fromkeys(inputs, batch)
    if wrong := sorted(set(batch) ^ set(inputs)):
        raise DataError(
            f"{where} has inputs {sorted(batch)}, expected {sorted(inputs)}",
            f"rename or add {wrong[0]!r}",
        )
    feed = {}
    for name, (shape, dtype) in inputs.items():
        feed[name] = check_array(batch[name], f"{where}: {name}", dtype, shape)
    return feed


def for_each_array(work: Callable[[str, Array], R], arrays: Mapping[str, Array]) -> dict[str, R]:
    """``work(name, array)`` for each of ``arrays``, results in their order; on the processor's
    cores where the arrays are large enough.

    ``work`` must not change what others see.

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
    """DataError that counts the NaN and infinite values of ``array`` and names the first; a
    part of it at a time.
    """
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
        raise DataError(
            f"the batch size is {batch!r}, expected a whole number above 0", "8 is a good start"
        )
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
    """The header of a .npy file, or of a .npz file's member; ValueError where what follows is not
    as long as it says.
    """
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
        raise DataError(
            f"inputs have first axes {lengths}, expected one length for all",
            "give each as many rows",
        )
    total = next(iter(lengths.values()))
    if not 1 <= batch <= total:
        raise DataError(
            f"batch size is {batch}, expected 1 to {total} (all rows)", "choose a smaller batch"
        )
    for start in range(0, total - batch + 1, batch):
        yield {
            name: array if name in same else array[start : start + batch]
            for name, array in arrays.items()
        }
