"""How far a network in INT8 is from FP32, tensor by tensor."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ..errors import DataError
from ..record import Record
from .quant import QuantError, cosine, quantization_error, sqnr_db

if TYPE_CHECKING:
    from .simulate import Int8Run

__all__ = ["TensorError", "tensor_errors"]


@dataclass(frozen=True)
class TensorError(Record):
    """How far one tensor of the INT8 network is from FP32, and how much its own rounding costs.

    ``total_sqnr_db`` compares with FP32, so all layers before count; ``own`` is what quantizing the
    FP32 tensor alone costs (None where the engine keeps it in float).
    """

    name: str
    scale: float | None
    total_sqnr_db: float | None
    cosine: float | None
    max_error: float
    own: QuantError | None


def tensor_errors(run: Int8Run, reference: Mapping[str, NDArray[Any]]) -> tuple[TensorError, ...]:
    """Each tensor of the run against its FP32 value: SQNR, cosine, largest error, own rounding.

    ``reference``: tensor -> float32 values from the same inputs (trtlearn.model.run gives them);
    tensors without one are left out. Raises DataError for values of another shape.
    """
    errors = []
    for name, tensor in run.tensors.items():
        if name not in reference or tensor.values.dtype != np.float32:
            continue
        exact = np.asarray(reference[name], np.float64)
        if exact.shape != tensor.values.shape:
            raise DataError(
                f"{name!r} has shape {tensor.values.shape}, the reference {exact.shape}",
                "use one input",
            )
        own = None if tensor.scale is None else quantization_error(exact, tensor.scale)
        errors.append(
            TensorError(
                name=name,
                scale=tensor.scale,
                total_sqnr_db=sqnr_db(exact, tensor.values),
                cosine=cosine(exact, tensor.values),
                max_error=float(np.abs(exact - tensor.values).max(initial=0.0)),
                own=own,
            )
        )
    return tuple(errors)
