"""What was measured on GPUs: the door to data/recordings. It checks what each was made from.

Each name is loaded when it is first used; each gives a record, newest recordings first.

====================  ==============================================================================
``agreement``         networks x calibrators: how many of our scales equal TensorRT's
``images_needed``     a network's scales after 1 to 500 calibration images
``shuffles``          the same images in other orders and batch sizes
``odd_caches``        caches changed by hand, and what TensorRT did with each
``cache_cases``       the same for caches of your own making, by the recorded cases' names
``broken_caches``     the recorded changes made to one cache of yours
``cache_path``        TensorRT's own cache of one of eleven networks
``legacy_grid``       the legacy calibrator over its two settings
``tied``              which operators' outputs share their input's scale
``studies``           the names of the builds that answer one question each
``study``             one of them
``build``             one build of a network, or of the detector with another head
``detections``        what an engine of the detector detected in the test scenes
``one_scale``         what one scale for a tensor of the detector costs, tensor by tensor
``tradeoff``          size, speed and accuracy of all ways of building
``placements``        the same scales, Q/DQ in different places
``sensitivity``       which units lose accuracy in INT8
``dynamic``           a dynamic batch, calibrated at several sizes
``layer_cases``       the names of engines of one layer
``layer_case``        one of them: inputs, outputs, and the same in numpy
``marked_tensors``    every tensor of an engine that has all of them as outputs
``plan_sizes``        ten builds of one network: how large
``plan_insides``      what a plan holds: GPU programs and weights
``modelopt_pairs``    the Q/DQ pairs that NVIDIA's ModelOpt inserts
``range_factors``     one network, all its ranges times 0.25 to 1024
``trtexec_log``       what NVIDIA's own trtexec printed
``trtexec_parser``    thousands of command lines, as NVIDIA's compiled parser read them
``interruptions``     what an interrupted calibration leaves behind
``repairs``           entropy 2's ranges, each replaced by min-max's or not: every choice
``origin``            where and with what a calibration recording was made
====================  ==============================================================================

Example::

    tl.recorded.agreement().summary()
    tl.recorded.placements("resnet")["tensorrt"].layer_time_ms
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

_DOOR = {
    "calibration": "agreement images_needed shuffles cache_path legacy_grid tied origin",
    "caches": "broken_caches cache_cases odd_caches",
    "computed": "modelopt_pairs one_scale range_factors repairs",
    "layers": "studies study layer_cases layer_case marked_tensors plan_sizes plan_insides",
    "tradeoffs": "tradeoff placements sensitivity dynamic",
    "files": "build detections",
    "logs": "trtexec_log trtexec_parser interruptions",
}
"""Module -> the names that it holds."""
_PLACES = {name: module for module, names in _DOOR.items() for name in names.split()}

__all__ = list(_PLACES)

if TYPE_CHECKING:  # for editors and type checkers: the same names
    from .caches import broken_caches as broken_caches
    from .caches import cache_cases as cache_cases
    from .caches import odd_caches as odd_caches
    from .calibration import agreement as agreement
    from .calibration import cache_path as cache_path
    from .calibration import images_needed as images_needed
    from .calibration import legacy_grid as legacy_grid
    from .calibration import origin as origin
    from .calibration import shuffles as shuffles
    from .calibration import tied as tied
    from .computed import modelopt_pairs as modelopt_pairs
    from .computed import one_scale as one_scale
    from .computed import range_factors as range_factors
    from .computed import repairs as repairs
    from .files import build as build
    from .files import detections as detections
    from .layers import layer_case as layer_case
    from .layers import layer_cases as layer_cases
    from .layers import marked_tensors as marked_tensors
    from .layers import plan_insides as plan_insides
    from .layers import plan_sizes as plan_sizes
    from .layers import studies as studies
    from .layers import study as study
    from .logs import interruptions as interruptions
    from .logs import trtexec_log as trtexec_log
    from .logs import trtexec_parser as trtexec_parser
    from .tradeoffs import dynamic as dynamic
    from .tradeoffs import placements as placements
    from .tradeoffs import sensitivity as sensitivity
    from .tradeoffs import tradeoff as tradeoff


def __getattr__(name: str) -> Any:
    if name not in _PLACES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f"{__name__}.{_PLACES[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(_PLACES)
