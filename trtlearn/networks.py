"""The noun Network: an ONNX file with its images, and the engines built from it, live or recorded.

``network("resnet").build("int8-placeholder")`` gives the same kind of record on a GPU machine,
where it builds and measures, and elsewhere, where it replays. The environment variable
TRTLEARN_MODE (live or recorded) overrules.
"""

from __future__ import annotations

import dataclasses
import os
import re
import warnings
from collections.abc import Callable, Iterable, Mapping
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .builds import Build, Builds, BuiltEngine
from .calibration import network as calibration
from .calibration.cache import CalibrationCache, calibrator_word
from .calibration.observers import Threshold, threshold_of
from .engine.records import VARIANTS, Provenance, live_options
from .errors import DataError, LiveUnavailable, ModelError, RecordingError
from .files import sha256
from .live import experiment, trt
from .model import course_data, run
from .model.course_data import NETWORKS, ModelCard, data_hashes, load_images, model_path
from .model.data import Data, arrays_by_name, load_labels
from .model.graph import OnnxNode
from .model.read import load_proto, read_model
from .recorded import files as recordings
from .recorded import layers
from .recorded.store import Wanted, build_once, digests, find

__all__ = ["Network", "network"]

Array = NDArray[Any]
Progress = Callable[[int, int | None], None]
OTHER_BATCH = re.compile(r"-b\d+$")  # ends the name of a build whose batch is not 8


stand_in: Callable[[Network, str], Build | None] | None = None
"""In a live notebook: the recorded build to show while the reader's own is built, or None."""


class Network:
    """An ONNX file, the images that go with it, and its builds. Made by :func:`network`."""

    def __init__(
        self,
        name: str,
        path: Path,
        folder: Path | None = None,
        data: Mapping[str, Array] | None = None,
        labels: Array | None = None,
    ) -> None:
        self.name = name
        self.path = path
        self.folder = folder  # of recordings; None: builds are live
        self._own = name not in NETWORKS or path != model_path(name)
        self._data = data
        self._labels = labels
        self._builds: dict[str, Build] = {}
        self._hashes = {} if self._own else data_hashes(name)

    @property
    def recorded(self) -> bool:
        """Whether builds come from a recording."""
        return self.folder is not None

    @cached_property
    def provenance(self) -> Provenance:
        """Where builds come from: the recording's machine, or this one."""
        if self.folder is not None:
            return recordings.load_provenance(recordings.origin_folder(self.folder, self.name))
        return experiment.provenance(None if self._own else self.name)

    @property
    def label(self) -> str:
        """What figures say of it: "recorded on NVIDIA H200, TensorRT 8.6.0, 2026-11-23"."""
        return self.provenance.label()

    # --- the network itself, in FP32 on the CPU

    @cached_property
    def input_shapes(self) -> dict[str, tuple[int | str | None, ...]]:
        """Input -> its shape in the ONNX file, the batch axis included."""
        return {value.name: tuple(value.shape or ()) for value in read_model(self.path).inputs}

    @property
    def input_shape(self) -> tuple[int | str | None, ...]:
        """The first input's shape without the batch axis: (1, 28, 28) for resnet and mobile."""
        return next(iter(self.input_shapes.values()))[1:]

    def images(self, split: str = "calibration") -> Array:
        """The images of ``split``, "calibration" or "test": float32 [N,C,H,W], network-ready.

        A network of your own has the data that :func:`network` was given, whatever the split.
        """
        if not self._own:
            return load_images(split, self.name)[0]
        if self._data is None or len(self._data) != 1:
            fix = 'give them: network("my.onnx", data="images.npy")'
            raise DataError(f"{self.name} came without images", fix)
        return next(iter(self._data.values()))

    @property
    def data(self) -> Data | None:
        """The calibration images, which calibrate, fit and try_int8 take where they are given no
        data; None where it came without any.
        """
        return self._data if self._own else self.images()

    def pictures(self, split: str = "test") -> NDArray[np.uint8]:
        """The images of ``split`` as people see them: uint8 [N,H,W,3], or [N,28,28] for digits."""
        if self._own:
            raise DataError(f"{self.name} has no pictures", f"one of {', '.join(NETWORKS)} has")
        return course_data.pictures(split, self.name)

    def labels(self, split: str = "test") -> NDArray[np.int64]:
        """The class of each image of ``split``, int64 [N].

        For the detector: of each object in each scene, int64 [N,6], -1 where there is none.
        """
        if not self._own:
            return course_data.labels(split, self.name)
        if self._labels is None:
            fix = "give them: network(..., labels=...)"
            raise DataError(f"{self.name} came without labels", fix)
        return self._labels

    def boxes(self, split: str = "test") -> NDArray[np.float32]:
        """The objects' boxes (cx, cy, w, h) in pixels, float32 [N,6,4]: the detector's only.

        Those count whose class in :meth:`labels` is not -1.
        """
        if self._own:
            raise DataError(f"{self.name} came without boxes", 'ask network("detector")')
        return course_data.boxes(split, self.name)

    @property
    def card(self) -> ModelCard:
        """What is known of a network of the course: its size, its input, how good it is in FP32.

        >>> network("photo", mode="recorded").card.summary()
        'photo: 1,918,410 parameters, FP32 test accuracy 95.7%'
        """
        if self._own:
            raise DataError(f"{self.name} has no card", f"one of {', '.join(NETWORKS)} has")
        return course_data.model_card(self.name)

    @cached_property
    def nodes(self) -> tuple[OnnxNode, ...]:
        """The nodes of the ONNX file, in its order: ``op``, ``inputs``, ``outputs``.

        >>> network("resnet", mode="recorded").nodes[0].op
        'Conv'
        """
        return read_model(self.path).nodes

    def weights(self) -> dict[str, NDArray[np.float32]]:
        """Every float32 weight and bias in the ONNX file, by name.

        >>> network("resnet", mode="recorded").weights()["stem.weight"].shape
        (24, 1, 3, 3)
        """
        from onnx import numpy_helper

        arrays = {
            item.name: numpy_helper.to_array(item)
            for item in load_proto(self.path).graph.initializer
        }
        return {name: array for name, array in arrays.items() if array.dtype == np.float32}

    def activations(
        self,
        images: Array | Mapping[str, Array] | None = None,
        names: Iterable[str] | None = None,
        batch: int = 64,
    ) -> dict[str, NDArray[np.float32]]:
        """What the network computes for ``images`` [N,...] (default: the calibration images):
        tensor -> float32 [N,...].

        FP32 on the CPU with ONNX Runtime, nothing fused: every tensor of the ONNX file, or those in
        ``names``. All N stay in memory: use ``model.run.activations`` for many images.

        >>> resnet = network("resnet", mode="recorded")
        >>> resnet.activations(resnet.images("test")[:3], ["logits"])["logits"].shape
        (3, 10)
        """
        data: Any = self.data if images is None else images
        arrays = data if isinstance(data, Mapping) else {next(iter(self.input_shapes)): data}
        count = 0 if data is None else min((len(array) for array in arrays.values()), default=0)
        if not count:
            raise DataError(f"no images for {self.name}", "give an array [N, ...]")
        fixed = next(iter(self.input_shapes.values()))[:1]
        batch = next((axis for axis in fixed if isinstance(axis, int)), batch)
        batches = [
            {name: array[start : start + batch] for name, array in arrays.items()}
            for start in range(0, count, batch)
        ]
        parts = list(run.activations(self.path, batches, names))
        return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}

    def calibrate(
        self, algorithm: str = "entropy2", images: Any = None, batch: int = 8, **settings: Any
    ) -> CalibrationCache:
        """The calibration cache that TensorRT would write for ``images`` (default: :attr:`data`).

        Example::

            mobile = tl.network("mobile")
            mobile.calibrate("minmax").equals(mobile.build("int8-minmax").cache)
        """
        return calibration.calibrate(self, images, algorithm, batch, **settings)

    def observe(
        self, tensor: str, algorithm: str = "entropy2", batch: int = 8, **settings: Any
    ) -> Threshold:
        """What a calibrator makes of one tensor of the calibration images: histogram, search, amax.

        >>> network("resnet", mode="recorded").observe("image", "minmax").batches
        64
        """
        values = self.activations(names=[tensor])[tensor]
        parts = [values[start : start + batch] for start in range(0, len(values), batch)]
        return threshold_of(algorithm, *parts, **settings)

    # --- its engines

    @cached_property
    def _names(self) -> tuple[str, ...]:
        """All that :meth:`build` knows, those at other batches than 8 included."""
        if self.folder is None:
            return tuple(VARIANTS)
        files = (self.folder / self.name).glob("*.json.gz")
        names = sorted(path.name.removesuffix(".json.gz") for path in files)
        ways = [*VARIANTS, *names]
        return tuple(sorted(names, key=ways.index))

    @property
    def variants(self) -> tuple[str, ...]:
        """The ways of building that :meth:`build` knows, at batch 8, in the course's order."""
        return tuple(name for name in self._names if not OTHER_BATCH.search(name))

    def build(self, variant: str, progress: Progress | None = None) -> Build:
        """The engine of a variant, measured: recorded, or built here once and kept.

        Args:
            variant: one of ``variants``, also without its "int8-"; with "-b64" behind it, at batch
                64, where that was recorded.
            progress: live only: called with the calibration batches done and in all.

        Raises RecordingError for a variant that is not here, or a recording that is damaged or
        belongs to another model or other images; live what run_variant raises.

        Example::

            tl.network("resnet").build("int8-placeholder").accuracy
        """
        if variant not in self._names:
            word = calibrator_word(variant.removeprefix("int8-"))
            spellings = (f"int8-{variant}", f"int8-{word}")
            if not (names := [name for name in spellings if name in self._names]):
                known = ", ".join(self._names)
                raise RecordingError(f"no variant {variant!r} of {self.name}", f"one of {known}")
            variant = names[0]
        live = self.folder is None
        if live and not self._own and stand_in and (shown := stand_in(self, variant)):
            return shown
        if variant not in self._builds and live:
            self._builds[variant] = self.build_here(variant, progress)
        elif variant not in self._builds:
            self._builds[variant] = recordings.build(self.name, variant, self.folder)
        return self._builds[variant]

    def kept(self, variant: str) -> Build | None:
        """The build that this machine keeps, or its failure; None where it was not tried yet."""
        if variant not in self._builds and (own := find(self.wanted(variant))):
            if own.build.error is not None:
                return own.build
            self._builds[variant] = own.build
        return self._builds.get(variant)

    def builds(self, *variants: str) -> Builds:
        """Variant -> its build, for these variants.

        Where none is named: for all, on one machine, without the recordings that stand in for own
        builds that failed.
        """
        builds = Builds({name: self.build(name) for name in variants or self.variants})
        own = Builds({name: one for name, one in builds.items() if not one.provenance.recorded})
        return builds if variants or not own else own

    def wanted(self, variant: str) -> Wanted:
        """What this machine is to build for a variant, and what the result depends on."""
        options = live_options(VARIANTS[variant])
        hashes = self._hashes
        if self._own:
            fixed = next(iter(self.input_shapes.values()))[0]
            if isinstance(fixed, int) and fixed > 0:
                options = dataclasses.replace(options, batch=fixed)
            labels = {} if self._labels is None else {"labels": self._labels}
            hashes = {"model": sha256(self.path)} | digests({**(self._data or {}), **labels})
        return Wanted(self.name, variant, options, self.provenance, hashes)

    def build_here(
        self,
        variant: str,
        progress: Progress | None = None,
        stage: Callable[[str], None] | None = None,
        again: bool = False,
    ) -> Build:
        """The build of a variant on this machine: kept from an earlier time, or made now and kept.

        ``stage``: called with waiting, building, measuring. ``again``: builds in any case.
        """
        wanted, say = self.wanted(variant), stage or (lambda word: None)
        waiting = partial(say, "waiting")
        make = partial(self._make, wanted, progress, say)
        return build_once(wanted, make, again=again, waiting=waiting).build

    def _make(
        self, wanted: Wanted, progress: Progress | None, stage: Callable[[str], None]
    ) -> tuple[Build, bytes]:
        options, timings = wanted.options, wanted.place.parent / f"{self.name}.timing"
        plans: list[bytes] = []

        def keep(built: BuiltEngine) -> None:
            plans.append(built.plan)
            stage("measuring")

        def make() -> Build:
            stage("building")
            return experiment.run_variant(
                self.path if self._own else self.name,
                options,
                name=wanted.variant,
                data=self._data,
                labels=self._labels,
                timing_cache=timings,
                progress=progress,
                keep=keep,
            )

        build = make()
        first = _hardly_int8(build)
        unusual = first and not options.fp16 and not self._recorded_alike(wanted.variant)
        if unusual:  # the timings it rests on would mislead every later build
            timings.unlink(missing_ok=True)
            build = make()
            warnings.warn(
                f"{first}. Built again, from no timings: {_hardly_int8(build) or 'INT8'}",
                stacklevel=3,
            )
        return build, plans[-1] if plans else b""

    def _recorded_alike(self, variant: str) -> bool:
        """Whether the recorded engine hardly took INT8 either, as a transformer's."""
        try:
            return _hardly_int8(recordings.build(self.name, variant, self.folder)) is not None
        except RecordingError:
            return False

    # --- further questions asked of TensorRT: recorded builds with a question

    @property
    def studies(self) -> tuple[str, ...]:
        """The names of the builds that answer one question each; live: the newest recordings'."""
        try:
            return layers.studies(self.name, self.folder)
        except RecordingError:
            return ()

    def study(self, name: str) -> Build:
        """One recorded build that answers a question; its ``error`` where TensorRT refused it.

        >>> network("resnet", mode="recorded").study("missing-one").warning("missing-scale").names
        ('b1_relu1',)
        """
        return layers.study(self.name, name, self.folder)

    def __fspath__(self) -> str:
        """The ONNX file's path: whatever takes a model's path takes a Network."""
        return os.fspath(self.path)

    def __str__(self) -> str:
        return self.name

    def __repr__(self) -> str:
        if self._own:
            return f"<Network {self.name}: {self.path}; builds are live>"
        return f"<Network {self.name}: {self.label}; {', '.join(self.variants)}>"


def _hardly_int8(build: Build) -> str | None:
    """What to know of an INT8 engine that works in other types for the most part; else None.

    On networks as small as the course's a layer takes a few µs in any type, and the builder's
    timings decide.
    """
    types = [layer.weight_dtype for layer in build.engine.layers if layer.weight_count]
    count = types.count("int8")
    if not build.options.int8 or 2 * count >= len(types):
        return None
    return (
        f"{build.variant} of {build.model} has {count} of {len(types)} layers with weights in "
        "INT8: TensorRT timed the others as faster in another type (notebook 06), so this engine "
        "says little of INT8"
    )


def network(
    model: str | os.PathLike[str],
    folder: str | os.PathLike[str] | None = None,
    mode: str | None = None,
    *,
    data: Data | None = None,
    labels: str | os.PathLike[str] | Array | None = None,
) -> Network:
    """One of the course's networks, or an ONNX file of your own.

    Args:
        model: one of NETWORKS, or the path of an ONNX file. The builds of a file are live only.
        folder: recordings to replay, in place of the newest that came with the course: a folder,
            or the name of one that came with the course, "h200-8.6.0"; implies mode "recorded".
        mode: "live" or "recorded"; by default $TRTLEARN_MODE, else what this machine can do.
        data: for a file: its calibration images, a .npy or .npz file, an array [N, ...] or arrays
            by input name.
        labels: for a file: the classes of ``data``, int [N] or a .npy file.

    Raises DataError for an unknown name or mode, RecordingError where there is nothing to replay or
    its model or images are not those here, LiveUnavailable for mode "live" where that cannot be.

    Example::

        resnet = tl.network("resnet")
        resnet.label, resnet.variants, resnet.build("int8-minmax").accuracy
        tl.network("my.onnx", data="images.npy").calibrate("minmax")
    """
    try:
        name = os.fspath(model)
    except TypeError:
        what = f"a network's name or path is expected, found a {type(model).__name__}"
        raise DataError(what, f"one of {', '.join(NETWORKS)}, or an ONNX file") from None
    if name not in NETWORKS:
        return _own_network(name, folder, data, labels)
    replay = "recorded" if folder is not None else os.environ.get("TRTLEARN_MODE")
    asked = mode or replay or "best"
    if asked not in ("best", "live", "recorded"):
        raise DataError(f"the mode is {asked!r}", "live or recorded (TRTLEARN_MODE)")
    if asked != "recorded":
        try:
            trt.live()
            return Network(name, model_path(name))
        except LiveUnavailable:
            if asked == "live":
                raise
    came = {one.name: one for one in recordings.recording_folders()}
    own = None if folder is None else came.get(str(folder), Path(folder))
    place = own or recordings.folder_with(name)
    if not (place / name).is_dir():
        raise RecordingError(f"there are no recordings of {name} in {place}", recordings.AGAIN)
    course = Network(name, model_path(name), place)
    what = f"the recordings in {place.name}"
    recordings.check_hashes(course.provenance, course._hashes, what)
    return course


def _own_network(
    name: str,
    folder: str | os.PathLike[str] | None,
    data: Data | None,
    labels: str | os.PathLike[str] | Array | None,
) -> Network:
    path = Path(name)
    if not path.suffix and not os.path.exists(path):
        known = ", ".join(NETWORKS)
        raise DataError(f"no model {name!r}", f"one of {known}, or the path of an ONNX file")
    if folder is not None:
        raise ModelError(f"nothing is recorded of {name}", "leave out the folder of recordings")
    model = read_model(path)
    arrays = None if data is None else arrays_by_name(model, data)
    rows = len(next(iter(arrays.values()))) if arrays else None
    classes = load_labels(labels, rows)
    if isinstance(classes, Mapping):
        raise DataError("the labels are boxes, a Network takes classes", "tl.try_int8 takes boxes")
    classes = None if classes is None else np.asarray(classes, np.int64)
    return Network(path.stem, path, data=arrays, labels=classes)
