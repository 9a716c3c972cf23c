"""trtlearn: what TensorRT's INT8 really does, shown by running it.

``import trtlearn as tl`` offers these names; each is loaded when it is first used.

========================  ==========================================================================
``network``               one of the course's networks, or an ONNX file of your own, and its builds
``recorded``              what was measured on GPUs
``show``                  pictures and controls
``quantize``              a number in eight bits
``dequantize``            and back
``quantization_error``    what that loses: by clipping, by rounding
``calibrate``             model and data in, the calibration cache that TensorRT would write out
``read_cache``            a calibration cache: a Mapping, tensor -> scale
``fit``                   does each range of a cache fit what the data need? The worst first
``agree``                 does TensorRT's cache hold the scales that our calibrators choose?
``set_ranges``            live: set a network's ranges by hand or from a cache
``placeholder_ranges``    live: set the ranges that bare ``trtexec --int8`` sets
``make_calibrator``       live: a calibrator that TensorRT can be given, fed from numpy
``build_engine``          live: build an engine from an ONNX file
``read_engine``           an engine's layers, from inspector JSON, a recording or a plan
``precision``             requested against chosen type for every node and layer, with the reason
``explain``               what a trtexec command does, step by step in its source
``migrate``               an implicit-INT8 command, model and cache moved to TensorRT 11
``insert_qdq``            a model with the Q/DQ pairs that a cache stands for
``try_int8``              your model and data: calibrated, compared with FP32, built where a GPU is
========================  ==========================================================================

The rooms behind them are sub-packages: model, engine, int8, calibration, live, recorded, trtexec,
show, course, cli. Each is loaded when it is first used, as ``tl.errors`` is.
"""

from __future__ import annotations

from importlib import import_module

__version__ = "0.1.0"

_FACE = {
    "network": "networks",
    "recorded": "",
    "show": "",
    "quantize": "int8.quant",
    "dequantize": "int8.quant",
    "quantization_error": "int8.quant",
    "calibrate": "calibration.network",
    "read_cache": "calibration.cache",
    "fit": "calibration.fitting",
    "agree": "calibration.agreement",
    "set_ranges": "live.network",
    "placeholder_ranges": "live.network",
    "make_calibrator": "live.calibrator",
    "build_engine": "live.build",
    "read_engine": "recorded.open",
    "precision": "recorded.open",
    "explain": "trtexec.explanation",
    "migrate": "trtexec.migration",
    "insert_qdq": "calibration.qdq",
    "try_int8": "course.own_model.walk",
}
"""Name -> the module that holds it; "" for a room."""
_ROOMS = ("errors", "model", "engine", "int8", "calibration", "live", "trtexec", "course", "cli")

__all__ = list(_FACE)

TYPE_CHECKING = False  # typing's own would be imported for it
if TYPE_CHECKING:  # for editors and type checkers: the same names
    from typing import Any

    from . import recorded as recorded
    from . import show as show
    from .calibration.agreement import agree as agree
    from .calibration.cache import read_cache as read_cache
    from .calibration.fitting import fit as fit
    from .calibration.network import calibrate as calibrate
    from .calibration.qdq import insert_qdq as insert_qdq
    from .course.own_model.walk import try_int8 as try_int8
    from .int8.quant import dequantize as dequantize
    from .int8.quant import quantization_error as quantization_error
    from .int8.quant import quantize as quantize
    from .live.build import build_engine as build_engine
    from .live.calibrator import make_calibrator as make_calibrator
    from .live.network import placeholder_ranges as placeholder_ranges
    from .live.network import set_ranges as set_ranges
    from .networks import network as network
    from .recorded.open import precision as precision
    from .recorded.open import read_engine as read_engine
    from .trtexec.explanation import explain as explain
    from .trtexec.migration import migrate as migrate


def __getattr__(name: str) -> Any:
    if name not in _FACE and name not in _ROOMS:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    place = _FACE.get(name)
    module = import_module(f"{__name__}.{place or name}")
    globals()[name] = value = getattr(module, name) if place else module
    return value


def __dir__() -> list[str]:
    return sorted(_FACE)
