"""What was measured on GPUs: the door to data/recordings. It checks what each was made from.

Each name gives a record, of the newest recordings that hold it.

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

from .caches import broken_caches, cache_cases, odd_caches
from .calibration import agreement, cache_path, images_needed, legacy_grid, origin, shuffles, tied
from .computed import modelopt_pairs, one_scale, range_factors, repairs
from .files import build, detections
from .layers import (
    layer_case,
    layer_cases,
    marked_tensors,
    plan_insides,
    plan_sizes,
    studies,
    study,
)
from .logs import interruptions, trtexec_log, trtexec_parser
from .tradeoffs import dynamic, placements, sensitivity, tradeoff

__all__ = [
    "agreement",
    "broken_caches",
    "build",
    "cache_cases",
    "cache_path",
    "detections",
    "dynamic",
    "images_needed",
    "interruptions",
    "layer_case",
    "layer_cases",
    "legacy_grid",
    "marked_tensors",
    "modelopt_pairs",
    "odd_caches",
    "one_scale",
    "origin",
    "placements",
    "plan_insides",
    "plan_sizes",
    "range_factors",
    "repairs",
    "sensitivity",
    "shuffles",
    "studies",
    "study",
    "tied",
    "tradeoff",
    "trtexec_log",
    "trtexec_parser",
]


def __dir__() -> list[str]:
    return __all__
