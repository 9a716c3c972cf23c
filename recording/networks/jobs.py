"""Which engines are built from the three networks, the most important first."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from typing import Any

from trtlearn.engine.records import VARIANTS as WAYS
from trtlearn.engine.records import BuildOptions

__all__ = ["HEADS", "NETWORKS", "Job", "jobs"]

DEPTH = 6  # of vit
NETWORKS = ("photo", "detector", "vit")
HEADS = (
    *("detector-by-level", "detector-transposed", "detector-normalised", "detector-two-outputs"),
    "detector-by-level-normalised",
)
BATCHES = (64, 1, 256)
QDQ = BuildOptions(int8=True, ranges="qdq")
QDQ_FP16 = BuildOptions(int8=True, fp16=True, ranges="qdq")
TAIL = ("boxes_in_strides", "boxes", "scores")  # and output0: what decodes the detector's answer
SUMS = ("first_corner", "second_corner", "corners_sum", "box_centre", "box_size")


@dataclass(frozen=True)
class Job:
    """One engine: its network, how it is built and which calibration it takes."""

    model: str  # photo, vit, detector or one of HEADS
    name: str
    options: BuildOptions
    tier: int  # the lowest is built first
    calibration: str = ""  # minmax, entropy2: whose scales Q/DQ takes, or whose cache is given
    placement: str = "tensorrt"
    skip: tuple[str, ...] = field(default=())  # nodes without Q/DQ
    cold: bool = False  # begins with an empty timing cache

    @property
    def network(self) -> str:
        return self.model.split("-")[0]

    @property
    def key(self) -> str:
        """The recording's name: the batch is part of it unless it is 8."""
        batch = self.options.batch
        return self.name if batch == 8 else f"{self.name}-b{batch}"

    @property
    def needs(self) -> str | None:
        """The recording whose calibration cache this one takes; None where it takes none."""
        return f"int8-{self.calibration}" if self.calibration else None


def _with(base: BuildOptions, **changes: Any) -> BuildOptions:
    return dataclasses.replace(base, **changes)


def _main(network: str) -> list[Job]:
    """Every way of getting ranges, at batch 8."""
    first = ("int8-minmax", "int8-entropy2", "fp32", "fp16", "int8-placeholder")
    later = ("int8-random", "int8-entropy", "int8-legacy", "int8-fp16", "tf32")
    engines = [Job(network, name, WAYS[name], 0) for name in first]
    engines += [Job(network, name, WAYS[name], _tier(network, name, 1)) for name in later]
    for calibration, end in (("minmax", ""), ("entropy2", "-entropy2")):
        engines.append(Job(network, f"qdq{end}", QDQ, 1, calibration))
        engines.append(Job(network, f"qdq-fp16{end}", QDQ_FP16, 1, calibration))
    both = "int8-fp16-minmax"
    engines.append(_from_cache(network, both, "minmax", _tier(network, both, 1), fp16=True))
    return engines


def _tier(network: str, name: str, usual: int) -> int:
    """vit with INT8 and FP16 is not built after seven minutes: it comes last of all."""
    return 7 if network == "vit" and name.startswith("int8-fp16") else usual


def _from_cache(model: str, name: str, calibration: str, tier: int, **changes: Any) -> Job:
    """An engine whose ranges come from a calibration cache."""
    options = _with(BuildOptions(int8=True, ranges="cache"), **changes)
    return Job(model, name, options, tier, calibration)


def _batches(network: str) -> list[Job]:
    engines = []
    for place, batch in enumerate(BATCHES):
        tier = 3 + place
        for name in ("fp32", "fp16"):
            engines.append(Job(network, name, _with(WAYS[name], batch=batch), tier))
        engines.append(_from_cache(network, "int8-minmax", "minmax", tier, batch=batch))
        both = "int8-fp16-minmax"
        last = _tier(network, both, tier)
        engines.append(_from_cache(network, both, "minmax", last, batch=batch, fp16=True))
        engines.append(Job(network, "qdq", _with(QDQ, batch=batch), tier, "minmax"))
        engines.append(Job(network, "qdq-fp16", _with(QDQ_FP16, batch=batch), tier, "minmax"))
    return engines


def _tail(model: str, dtype: str, end: str = "") -> dict[str, Any]:
    """The options that keep what decodes in ``dtype``; the network's own output stays FP32."""
    levels = ("h8_", "h16_") if "by-level" in model else ("",)
    joined = tuple(f"{level}joined" for level in levels if level)
    inside = tuple(f"{level}{name}" for level in levels for name in (*SUMS, *TAIL)) + joined
    return {
        "layer_precisions": dict.fromkeys((*inside, "output0"), dtype),
        "layer_output_types": dict.fromkeys(inside, dtype),
        "precision_constraints": "obey",
    }


def _forced(model: str) -> dict[str, Any]:
    """The options that have the tensor of boxes and scores joined in INT8."""
    joined = {"detector-by-level": ("h8_joined", "h16_joined"), "detector-transposed": ("joined",)}
    names = joined.get(model, ("output0",))
    return {
        "layer_precisions": dict.fromkeys(names, "int8"),
        "layer_output_types": dict.fromkeys(names if model in joined else (), "int8"),
        "precision_constraints": "obey",
    }


def _heads() -> list[Job]:
    engines = []
    for model in HEADS:
        engines += [Job(model, name, WAYS[name], 2) for name in ("int8-minmax", "int8-entropy2")]
        engines.append(_from_cache(model, "int8-fp16-minmax", "minmax", 2, fp16=True))
        engines.append(Job(model, "qdq", QDQ, 2, "minmax"))
        if model in ("detector-by-level", "detector-transposed"):
            engines += [
                Job(model, name, WAYS[name], 2) for name in ("int8-placeholder", "fp16", "fp32")
            ]
    for model in ("detector", "detector-by-level", "detector-transposed"):
        engines.append(_from_cache(model, "int8-minmax-joined-int8", "minmax", 2, **_forced(model)))
        if model != "detector-transposed":
            tail16 = {"fp16": True, **_tail(model, "fp16")}
            engines.append(_from_cache(model, "int8-minmax-tail-fp16", "minmax", 2, **tail16))
            tail32 = _tail(model, "fp32")
            engines.append(_from_cache(model, "int8-minmax-tail-fp32", "minmax", 2, **tail32))
        everywhere = {"calibration": "minmax", "placement": "everywhere"}
        engines.append(Job(model, "qdq-everywhere", QDQ, 2, **everywhere))
        left_out = tuple({**_tail(model, "fp32")["layer_precisions"], "output0": ""})
        left_out += () if model != "detector-transposed" else ("joined",)
        partly = {**everywhere, "skip": left_out}
        engines.append(Job(model, "qdq-everywhere-but-tail", QDQ, 2, **partly))
    return engines


def _vit() -> list[Job]:
    """Q/DQ on the products with weights; the two inside attention stay in floating point."""
    parts = ("attention_scores", "attention_mixed")
    inner = tuple(f"l{layer}_{part}" for layer in range(DEPTH) for part in parts)
    engines = []
    for name, base in (("qdq-weights", QDQ), ("qdq-weights-fp16", QDQ_FP16)):
        engines.append(Job("vit", name, base, 2, "minmax", skip=inner))
        engines.append(Job("vit", name, _with(base, batch=64), 3, "minmax", skip=inner))
    return engines


def _again() -> list[Job]:
    """FP16 against INT8 twice more, from nothing, with kernels timed as trtexec times them."""
    engines = []
    for number in (1, 2):
        for batch in (64, 256):
            careful = {"batch": batch, "avg_timing": 8}
            end = f"-again{number}"
            engines.append(Job("photo", "fp16" + end, _with(WAYS["fp16"], **careful), 6, cold=True))
            for name, more in (("int8-minmax", {}), ("int8-fp16-minmax", {"fp16": True})):
                one = _from_cache("photo", name + end, "minmax", 6, **careful, **more)
                engines.append(dataclasses.replace(one, cold=True))
            qdq = _with(QDQ_FP16, **careful)
            engines.append(Job("photo", "qdq-fp16" + end, qdq, 6, "minmax", cold=True))
    return engines


def jobs() -> list[Job]:
    """All engines, the most important first."""
    engines = [job for network in NETWORKS for job in (*_main(network), *_batches(network))]
    engines += [*_heads(), *_vit(), *_again()]
    return sorted(engines, key=lambda job: job.tier)
