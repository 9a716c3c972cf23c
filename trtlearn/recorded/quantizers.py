"""Where ModelOpt puts Q/DQ pairs into the course's networks: recorded by recording/modelopt.py."""

from __future__ import annotations

from ..errors import RecordingError
from ..files import data_dir, read_bytes
from ..int8.pairs import PairTable

__all__ = ["modelopt_pairs"]


def modelopt_pairs(model: str) -> PairTable:
    """The pairs that NVIDIA's ModelOpt put into one of the course's networks.

    >>> modelopt_pairs("resnet").pairs[0].kind in ("activation", "weights")
    True
    """
    path = data_dir() / "quantizers" / f"modelopt-{model}.json"
    return PairTable.from_json(read_bytes(path, RecordingError).decode("utf-8"))
