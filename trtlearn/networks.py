"""The bench: the same calls on a GPU machine, where they build and measure, and elsewhere, where they replay.

``open_bench("resnet").run("int8-placeholder")`` gives the same kind of record either way, and each says of itself
whether it was recorded or measured live. The environment variable TRTLEARN_MODE (live or recorded) overrules.
"""

from __future__ import annotations

import dataclasses
import os
import warnings
from collections.abc import Callable
from functools import cached_property
from pathlib import Path

from .builds import Build
from .engine.records import Provenance
from .engine.variants import TRTEXEC_AVG_TIMING, VARIANTS
from .errors import DataError, LiveUnavailable, RecordingError
from .files import user_dir
from .model.course_data import MODELS, data_hashes
from .recorded.files import (
    AGAIN,
    check_hashes,
    folder_name,
    folder_with,
    load_build,
    load_provenance,
    load_study,
)

__all__ = [
    "Bench",
    "open_bench",
]


class Bench:
    """One network's experiments, live or recorded. Made by :func:`open_bench`."""

    def __init__(self, model: str, folder: Path | None) -> None:
        self.model = model
        self.folder = folder  # None: live
        self._known: dict[str, Build] = {}
        self._hashes = data_hashes(model)

    @property
    def recorded(self) -> bool:
        """Whether results come from a recording."""
        return self.folder is not None

    @cached_property
    def provenance(self) -> Provenance:
        """Where results come from: the recording's machine, or this one."""
        if self.folder is not None:
            return load_provenance(self.folder)
        from .live.experiment import provenance

        return provenance(self.model)

    @property
    def label(self) -> str:
        """What every figure says of itself: "recorded on NVIDIA H200, TensorRT 8.6.0, 2026-11-23"."""
        return self.provenance.label()

    @cached_property
    def variants(self) -> tuple[str, ...]:
        """The variants that :meth:`run` knows, in the course's order."""
        if self.folder is None:
            return tuple(VARIANTS)
        here = {
            path.name.removesuffix(".json.gz")
            for path in (self.folder / self.model).glob("*.json.gz")
        }
        return tuple(name for name in VARIANTS if name in here) + tuple(
            sorted(here - set(VARIANTS))
        )

    def run(self, variant: str, progress: Callable[[int, int | None], None] | None = None) -> Build:
        """The experiment of a variant: loaded, or built and measured here (once; then it is remembered).

        Args:
            variant: one of ``variants``.
            progress: live only: called with the calibration batches done and in all.

        Raises RecordingError for a variant that is not here, or a recording that is damaged or belongs to another
        model or other images; live what run_variant raises.

        Example::

            open_bench("resnet").run("int8-placeholder").predictions.accuracy
        """
        if variant not in self.variants:
            raise RecordingError(
                f"no variant {variant!r} of {self.model}", f"one of {', '.join(self.variants)}"
            )
        if variant not in self._known:
            self._known[variant] = (
                self._load(variant) if self.folder else self._build(variant, progress)
            )
        return self._known[variant]

    def _load(self, variant: str) -> Build:
        path = (self.folder or Path()) / self.model / f"{variant}.json.gz"
        experiment = load_build(path)
        if (experiment.model, experiment.variant) != (self.model, variant):
            raise RecordingError(f"{path} holds {experiment.model} {experiment.variant}", AGAIN)
        check_hashes(
            experiment.provenance, self._hashes, f"the recording {variant} of {self.model}"
        )
        return experiment

    def _build(self, variant: str, progress: Callable[[int, int | None], None] | None) -> Build:
        from .live.experiment import run_variant

        origin = self.provenance
        here = (
            user_dir() / "timing" / folder_name(origin.gpu or "gpu", origin.tensorrt or "unknown")
        )
        timings = here / f"{self.model}.timing"
        options = dataclasses.replace(VARIANTS[variant], avg_timing=TRTEXEC_AVG_TIMING)

        def build() -> Build:
            return run_variant(
                self.model, options, name=variant, timing_cache=timings, progress=progress
            )

        made = build()
        if (
            first := _hardly_int8(made)
        ) and not options.fp16:  # the timings it rests on would mislead every later build
            timings.unlink(missing_ok=True)
            made = build()
            warnings.warn(
                f"{first}. Built again, from no timings: {_hardly_int8(made) or 'INT8'}",
                stacklevel=3,
            )
        return made

    def cache_text(self, variant: str) -> str | None:
        """The calibration cache that a variant's calibration left; None where it had none."""
        trace = self.run(variant).calibration
        return None if trace is None else trace.cache

    @cached_property
    def studies(self) -> dict[str, Build]:
        """Further questions asked of TensorRT, recorded: name -> Build (the newest recordings' where live)."""
        folder = self.folder or folder_with("studies")
        found = {}
        for path in sorted((folder / "studies").glob("*.json")):
            if path.name.startswith(f"{self.model}-"):
                study = load_study(path)
                check_hashes(study.provenance, self._hashes, f"the study {study.variant}")
                found[study.variant] = study
        return found

    def __repr__(self) -> str:
        return f"<Bench of {self.model}: {self.label}; {', '.join(self.variants)}>"


def _hardly_int8(made: Build) -> str | None:
    """What to know of an INT8 engine that works in other types for the most part; None where there is nothing to say.

    On networks as small as the course's a layer takes a few µs in any type, and the builder's timings decide.
    """
    types = [layer.weight_dtype for layer in made.engine.layers if layer.weight_count]
    count = types.count("int8")
    if not made.build.options.int8 or 2 * count >= len(types):
        return None
    return (
        f"{made.variant} of {made.model} has {count} of {len(types)} layers with weights in INT8: TensorRT timed the "
        "others as faster in another type (notebook 06), so this engine says little of INT8"
    )


def _why_not_live() -> LiveUnavailable | None:
    from .live.trt import live

    try:
        live()
    except LiveUnavailable as problem:
        return problem
    return None


def open_bench(
    model: str, folder: str | os.PathLike[str] | None = None, mode: str | None = None
) -> Bench:
    """The bench of one of the course's networks: live where TensorRT and a GPU are, else recorded.

    Args:
        model: one of MODELS.
        folder: recordings to replay, in place of the newest that came with the course; implies mode "recorded".
        mode: "live" or "recorded"; by default $TRTLEARN_MODE, else what this machine can do.

    Raises DataError for an unknown model or mode, RecordingError where there is nothing to replay or its model or
    images are not those here, LiveUnavailable for mode "live" where that cannot be.

    Example::

        bench = open_bench("resnet")
        print(bench.label, bench.variants)
    """
    if model not in MODELS:
        raise DataError(f"no model {model!r}", f"one of {', '.join(MODELS)}")
    wanted = (
        mode or ("recorded" if folder is not None else os.environ.get("TRTLEARN_MODE")) or "best"
    )
    if wanted not in ("best", "live", "recorded"):
        raise DataError(f"the mode is {wanted!r}", "live or recorded (TRTLEARN_MODE)")
    if wanted != "recorded":
        problem = _why_not_live()
        if problem is None:
            return Bench(model, None)
        if wanted == "live":
            raise problem
    chosen = folder_with(model) if folder is None else Path(folder)
    if not (chosen / model).is_dir():
        raise RecordingError(f"there are no recordings of {model} in {chosen}", AGAIN)
    bench = Bench(model, chosen)
    check_hashes(bench.provenance, bench._hashes, f"the recordings in {chosen.name}")
    return bench
