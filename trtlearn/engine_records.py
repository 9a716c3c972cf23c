"""What a built engine is: its layers, what each reads and writes, its weights, as the inspector tells it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from .record import Record

__all__ = [
    "DTYPES",
    "Binding",
    "EngineInfo",
    "EngineLayer",
    "EngineTensor",
]

DTYPES = ("fp32", "fp16", "bf16", "int8", "uint8", "int32", "int64", "bool", "fp8", "int4")
"""The names of data types throughout trtlearn."""


@dataclass(frozen=True)
class EngineTensor(Record):
    """A tensor at a layer's edge, as the engine stores it."""

    name: str
    dims: tuple[int, ...] | None
    dtype: str | None
    format: str | None = None  # TensorRT's own phrase
    vector: int | None = None  # channels packed together (the 32 of "Thirty-two wide channel vectorized ...")
    location: str | None = None


@dataclass(frozen=True)
class EngineLayer(Record):
    """One layer of a built engine."""

    name: str
    kind: str | None  # TensorRT's LayerType
    inputs: tuple[EngineTensor, ...]
    outputs: tuple[EngineTensor, ...]
    weight_dtype: str | None = None
    weight_count: int | None = None
    weight_bytes: int | None = None
    bias_dtype: str | None = None
    bias_count: int | None = None
    kernel: str | None = None  # the tactic's name
    tactic: str | None = None
    onnx_nodes: tuple[str, ...] = ()
    onnx_nodes_inferred: bool = False  # True: read off the layer's name, the engine's Metadata does not say
    is_reformat: bool = False
    stream: int | None = None
    raw: str = field(default="", repr=False)

    @property
    def input_dtypes(self) -> tuple[str | None, ...]:
        return tuple(tensor.dtype for tensor in self.inputs)

    @property
    def output_dtypes(self) -> tuple[str | None, ...]:
        return tuple(tensor.dtype for tensor in self.outputs)

    @property
    def weights_listed(self) -> str | None:
        """The weights' type, None if unknown; "none listed" may hide some (the inspector is silent on Myelin's)."""
        return self.weight_dtype if self.weight_count else "none listed"


@dataclass(frozen=True)
class Binding(Record):
    """An input or output of the engine."""

    name: str
    mode: str  # input, output
    dims: tuple[int, ...] | None = None
    dtype: str | None = None
    format: str | None = None


@dataclass(frozen=True)
class EngineInfo(Record):
    """A built engine as its inspector describes it."""

    layers: tuple[EngineLayer, ...]
    bindings: tuple[Binding, ...] = ()
    schema: str | None = None  # 8.6, 10, 11: which inspector's JSON it was
    detailed: bool | None = None  # False: names only, built without detailed profiling verbosity
    raw: str = field(default="", repr=False)

    def summary(self) -> str:
        reformats = sum(layer.is_reformat for layer in self.layers)
        return f"{len(self.layers)} engine layers, {reformats} of them reformats"

    def rows(self) -> list[dict[str, Any]]:
        return [
            {
                "layer": layer.name,
                "in": layer.input_dtypes,
                "out": layer.output_dtypes,
                "weights": layer.weights_listed,
                "kernel": layer.kernel,
                "ONNX nodes": layer.onnx_nodes,
            }
            for layer in self.layers
        ]
