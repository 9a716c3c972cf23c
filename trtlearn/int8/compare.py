"""How far a network in INT8 is from FP32, tensor by tensor."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ..errors import DataError
from ..record import Record
from .quant import QuantError, errors

if TYPE_CHECKING:
    from .simulate import Int8Run

__all__ = ["TensorError", "tensor_errors"]

Array = NDArray[Any]


@dataclass(frozen=True)
class TensorError(Record):
    """How far one tensor of the INT8 network is from FP32, and how much of it is the tensor's own rounding.

    ``total_sqnr_db`` compares with FP32, so all layers before count; ``own`` is what quantizing the FP32 tensor alone
    costs (None where the engine keeps it in float).
    """

    name: str
    scale: float | None
    total_sqnr_db: float | None
    cosine: float | None
    max_error: float
    own: QuantError | None


def tensor_errors(run: Int8Run, reference: Mapping[str, Array]) -> tuple[TensorError, ...]:
    """Each tensor of the run against its FP32 value: SQNR, cosine, largest error, and its own clipping and rounding.

    ``reference``: tensor -> float32 values from the same inputs (trtlearn.model.run gives them); tensors without one
    are left out.
    """
    found = []
    for name, tensor in run.tensors.items():
        if name not in reference or tensor.values.dtype != np.float32:
            continue
        exact = np.asarray(reference[name], np.float64)
        if exact.shape != tensor.values.shape:
            raise DataError(
                f"{name!r} has shape {tensor.values.shape}, the reference {exact.shape}",
                "use one input",
            )
        gap = exact - tensor.values
        signal, noise = float((exact**2).sum()), float((gap**2).sum())
        lengths = np.sqrt(signal * float((tensor.values.astype(np.float64) ** 2).sum()))
        found.append(
            TensorError(
                name=name,
                scale=tensor.scale,
                total_sqnr_db=float(10 * np.log10(signal / noise))
                if signal > 0 and noise > 0
                else None,
                cosine=float((exact * tensor.values).sum() / lengths) if lengths > 0 else None,
                max_error=float(np.abs(gap).max(initial=0.0)),
                own=None if tensor.scale is None else errors(reference[name], tensor.scale),
            )
        )
    return tuple(found)
