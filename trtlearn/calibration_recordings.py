"""What TensorRT's calibrators did on the GPU, recorded: data/recordings/<gpu>-<version>/calibration/.

    agreement()            AgreementTable: networks x calibrators, how many scales ours and TensorRT's share
    images_needed(model)   ImagesNeeded: every tensor's scale after 1, 2, 5 … 500 images; INT8 accuracy where measured
    shuffles(model)        Shuffles: every tensor's scale for the same 512 images in five orders, and in batches of
                           1, 8, 16 and 64
    odd_caches()           OddCaches: caches changed by hand and what TensorRT said to each, its warnings decoded
    feeding()              FeedingRates: batches a second of our calibrator and of Polygraphy's, run in turns
    crafted()              Crafted: tensors made on purpose (scripts/crafted.py), TensorRT's scale for each
    tied()                 TiedOperators: which operator's output gets its input's scale, per calibrator
    legacy_grid()          LegacyGrid: the legacy calibrator's amax for quantiles and cut-offs
    origin(part)           Provenance of one of these: GPU, driver, versions, date; .label() for captions

``model`` is "resnet" or "mobile". All records are frozen, have .summary(), .rows(), .to_frame() and show themselves
as tables; RecordingError says what is missing. Nothing here needs a GPU, TensorRT or ONNX. Their fields are in
calibration_records.py and calibration_probes.py; scripts/calib_experiments.py makes them, scripts/calib_pack.py packs
them.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import TypeVar

from .calibration_probes import Crafted, FeedingRates, LegacyGrid, TiedOperators
from .calibration_records import AgreementTable, ImagesNeeded, OddCaches, Shuffles
from .errors import RecordingError
from .record import Record
from .recordings import load_provenance, read_text
from .records import Provenance
from .replay import folder_with

__all__ = [
    "agreement",
    "cache_path",
    "crafted",
    "feeding",
    "folder",
    "images_needed",
    "legacy_grid",
    "odd_caches",
    "origin",
    "shuffles",
    "tied",
]

R = TypeVar("R", bound=Record)


def folder(part: str = "agreement.json") -> Path:
    """The folder of the newest recordings that hold ``part``, a file or folder of theirs."""
    return folder_with(f"calibration/{part}") / "calibration"


def _load(kind: type[R], name: str) -> R:
    return kind.from_json(read_text(folder(f"{name}.json") / f"{name}.json"))


def cache_path(network: str, algorithm: str) -> Path:
    """TensorRT's own cache of one of the networks in scripts/zoo.py: residual, mobile, inception, transformer …"""
    name = f"caches/{network}-{algorithm}.cache"
    return folder(name) / name


@cache
def agreement() -> AgreementTable:
    """Networks x calibrators: how many scales ours and TensorRT's share."""
    return _load(AgreementTable, "agreement")


def _model(name: str) -> str:
    if name not in ("resnet", "mobile"):
        raise RecordingError(f"no model {name!r} was recorded", "resnet or mobile")
    return name


@cache
def images_needed(model: str = "resnet") -> ImagesNeeded:
    """Scales after 1 to 500 calibration images, and accuracy where it was measured."""
    return _load(ImagesNeeded, f"images-{_model(model)}")


@cache
def shuffles(model: str = "resnet") -> Shuffles:
    """Scales for the same images in several orders and batch sizes."""
    return _load(Shuffles, f"orders-{_model(model)}")


@cache
def odd_caches() -> OddCaches:
    """Caches changed by hand, and what TensorRT made of each."""
    return _load(OddCaches, "odd-caches")


@cache
def feeding() -> FeedingRates:
    """The rate of feeding data, ours and Polygraphy's, in one run."""
    return _load(FeedingRates, "feeding")


@cache
def crafted() -> Crafted:
    """TensorRT's scales of tensors made on purpose."""
    return _load(Crafted, "crafted")


@cache
def legacy_grid() -> LegacyGrid:
    """The legacy calibrator's amax over its two settings."""
    return _load(LegacyGrid, "legacy-grid")


@cache
def tied() -> TiedOperators:
    """Which operators' outputs share their input's scale."""
    return _load(TiedOperators, "ties")


@cache
def origin(part: str = "agreement") -> Provenance:
    """Where and with what ``part`` was recorded: agreement, odd-caches, images-resnet, ties …"""
    return load_provenance(folder(f"{part}.json"))
