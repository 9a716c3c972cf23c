"""Why one of our scales differs from TensorRT's: the cause that can be shown from the numbers, in words."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from .cachefile import CacheEntry, CalibrationCache
from .observers import Threshold
from .parts import Candidate
from .ties import TieReport

__all__ = ["Evidence", "explain_difference"]

INTERNAL = "(Unnamed Layer* "
SAME = 1e-6
LINE = 2e-3  # relative difference that one bin more or less under the legacy calibrator's line makes at most, as seen
NEAR_TIE = 5e-3  # of the least KL: closer costs than this are decided by the last bits of the activations
ROUNDING = 5e-5  # relative difference of bin widths that float32 rounding of activations can make


@dataclass(frozen=True)
class Evidence:
    """One line of TensorRT's cache, our threshold for it (None where there is none), and everything around it."""

    line: CacheEntry
    ours: Threshold | None
    thresholds: Mapping[str, Threshold]
    cache: CalibrationCache
    ties: TieReport
    fused: tuple[Candidate, ...] = ()  # what else TensorRT may have taken for the tensor
    infinite: bool = False  # the tensor becomes NaN or infinite on these data


def explain_difference(evidence: Evidence) -> str:
    """One sentence: the first of the known causes that the numbers show, or that none does."""
    line, ours = evidence.line, evidence.ours
    if ours is None:
        if evidence.infinite:
            return "it becomes NaN or infinite on these data, as an attention mask does: no scale fits that"
        if line.name.startswith(INTERNAL):
            return "made by TensorRT's ONNX parser inside a node: the ONNX file has no such tensor to compare with"
        return "stale: the model has no tensor of this name (TensorRT ignores the line)"
    for cause in (_zero, _bin_width, _same_scale, _near_tie, _line, _in_concat):
        if text := cause(evidence, ours):
            return text
    return f"not explained: TensorRT's amax is {line.amax:.6g}, ours {ours.amax:.6g} of max|x| {ours.seen_amax:.6g}"


def _zero(evidence: Evidence, ours: Threshold) -> str | None:
    if ours.seen_amax == 0:
        return "all values are 0 in these data: TensorRT's scale comes from other data"
    return None


def _same_scale(evidence: Evidence, ours: Threshold) -> str | None:
    """Another tensor's scale, so one that was not chosen from this tensor's values."""
    scale = evidence.line.scale
    for name, other in evidence.thresholds.items():
        if name != evidence.line.name and abs(other.scale - scale) <= SAME * scale:
            return f"TensorRT gave it the scale of {name}"
    return None


def _near_tie(evidence: Evidence, ours: Threshold) -> str | None:
    """The same histogram, another threshold of nearly the same cost."""
    found = ours.choice_of(evidence.line.scale)
    if found is None:
        return None
    kept, theirs, mine = found
    if theirs - mine <= NEAR_TIE * max(abs(mine), 1e-12):
        return (
            f"near tie: keeping {kept} bins (TensorRT) has KL {theirs:.6g}, {ours.bins_kept} bins (ours) {mine:.6g}; "
            f"last-bit differences between activations on the GPU and on the CPU decide"
        )
    return None


def _line(evidence: Evidence, ours: Threshold) -> str | None:
    """The legacy calibrator's line, fitted to bins of which the lowest are in or out by a single count."""
    ratio = evidence.line.scale / ours.scale - 1
    if ours.algorithm == "legacy" and ours.bins_kept is None and abs(ratio) <= LINE:
        return (
            f"a line through the counts with another end ({ratio:+.1e}): by one count a bin at the cut-off's height "
            f"takes part or not, and last-bit differences between activations on the GPU and on the CPU decide"
        )
    return None


def _in_concat(evidence: Evidence, ours: Threshold) -> str | None:
    for part in evidence.fused:
        if part.stale:
            return (
                f"it begins the Concat of {', '.join(part.joined)}, whose memory this calibrator reads on into: other "
                f"tensors may have used that memory in between, which is not computed here"
            )
    return None


def _bin_width(evidence: Evidence, ours: Threshold) -> str | None:
    """The same number of bins, whose width comes from a maximum that differs in its last bits."""
    ratio = evidence.line.scale / ours.scale - 1
    if abs(ratio) <= ROUNDING:
        return (
            f"the same choice with a maximum that differs by {ratio:+.1e}: "
            f"GPU and CPU round the activations of this layer differently"
        )
    return None
