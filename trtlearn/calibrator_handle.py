"""The object that TensorRT is given to calibrate with: of its own class, passing every call on and keeping it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

from .batches import Batches
from .errors import BuildError
from .trt import capabilities, trt

__all__ = ["BASES", "make_handle"]

BASES = {
    "entropy2": "IInt8EntropyCalibrator2",
    "entropy": "IInt8EntropyCalibrator",
    "minmax": "IInt8MinMaxCalibrator",
    "legacy": "IInt8LegacyCalibrator",
}
"""trtlearn's names of the calibrators -> TensorRT's classes."""


class Owner(Protocol):
    """What the calls are passed on to: a Calibrator, as far as its handle knows it."""

    algorithm: str
    batches: Batches
    cache: bytes | None
    quantile: float
    cutoff: float
    done: int  # batches given so far

    def answer(self, method: str, argument: str, work: Callable[[], Any], said: Callable[[Any], str]) -> Any: ...

    def next_batch(self, names: list[str]) -> list[int] | None: ...

    def keep_cache(self, content: Any) -> None: ...


def make_handle(owner: Owner) -> Any:
    """The object of TensorRT's own class that passes each call on to ``owner``."""
    if not capabilities().calibrators:
        raise BuildError("this TensorRT has no calibrators: 11.0 removed them", "put Q/DQ layers into the model")
    base: Any = getattr(trt, BASES[owner.algorithm])

    class Handle(base):  # type: ignore[misc]  # a class known at run time only
        def __init__(self) -> None:
            base.__init__(self)  # without this TensorRT crashes

        def get_batch_size(self) -> int:
            size = owner.answer("get_batch_size", "", lambda: owner.batches.size, str)
            return int(size or 0)

        def get_batch(self, names: list[str]) -> list[int] | None:
            asked = list(names)
            got: list[int] | None = owner.answer(
                "get_batch",
                ", ".join(asked),
                lambda: owner.next_batch(asked),
                lambda value: "no more" if value is None else f"batch {owner.done - 1}",
            )
            return got

        def read_calibration_cache(self) -> bytes | None:
            held: bytes | None = owner.answer(
                "read_calibration_cache",
                "",
                lambda: owner.cache,
                lambda value: "none" if value is None else f"{len(value)} bytes",
            )
            return held

        def write_calibration_cache(self, cache: Any) -> None:
            owner.answer(
                "write_calibration_cache", f"{len(cache)} bytes", lambda: owner.keep_cache(cache), lambda _: ""
            )

    if owner.algorithm != "legacy":
        return Handle()

    class Legacy(Handle):
        def get_quantile(self) -> float:
            return float(owner.answer("get_quantile", "", lambda: owner.quantile, str))

        def get_regression_cutoff(self) -> float:
            return float(owner.answer("get_regression_cutoff", "", lambda: owner.cutoff, str))

        def read_histogram_cache(self, length: int) -> None:
            owner.answer("read_histogram_cache", "", lambda: None, lambda _: "none")

        def write_histogram_cache(self, ptr: Any, length: int) -> None:
            owner.answer("write_histogram_cache", f"{length} bytes", lambda: None, lambda _: "not kept")

    return Legacy()
