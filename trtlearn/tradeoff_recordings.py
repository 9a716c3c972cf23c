"""The recorded trade-off: what scripts/record_tradeoff.py left in <recordings>/tradeoff/.

points-<model>, big and mixed hold engines (Tradeoff), sensitivity-<model>-<ranges> a Sensitivity (found on a CPU where
"-cpu" follows), dynamic a DynamicShapes, placements/<model>/qdq-<placement> whole experiments. Each was made from the
models and images whose hashes it holds; one that was made from others is refused.
"""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Iterable
from pathlib import Path
from typing import TypeVar

from .errors import RecordingError
from .record import Record
from .recordings import check_hashes, data_hashes, load_experiment, read_packed
from .records import Experiment, Provenance
from .replay import folder_with
from .tradeoff import DynamicShapes, Sensitivity, Tradeoff, TradeoffPoint

__all__ = ["TradeoffRecordings", "open_tradeoff", "tradeoff_of"]

R = TypeVar("R", bound=Record)
AGAIN = "make it with `python scripts/record_tradeoff.py --out FOLDER` on a GPU machine"


class TradeoffRecordings:
    """The recordings of one folder; each is read when it is asked for, once. Made by :func:`open_tradeoff`."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._known: dict[str, Record] = {}

    @property
    def names(self) -> tuple[str, ...]:
        """What is there: "points-resnet", "sensitivity-mobile-minmax", "placements/resnet/qdq-tensorrt", ..."""
        found = self.folder.glob("**/*.json.gz")
        return tuple(sorted(path.relative_to(self.folder).as_posix().removesuffix(".json.gz") for path in found))

    def tradeoff(self, name: str) -> Tradeoff:
        """Engines: points-<model> (all ways of building), big (ResNet-50's size), mixed (by sensitivity)."""
        return self._load(name, Tradeoff)

    def with_build_times(self, name: str) -> Tradeoff:
        """``tradeoff(name)`` with the seconds that the course's own build by the same name took, begun from nothing.

        The engines of the trade-off share a timing cache, so their own builds tell no time. Unknown where the course
        holds no build of that model, name, batch, GPU and TensorRT with an empty timing cache.
        """
        whole = self.tradeoff(name)
        points = []
        for point in whole.points:
            path = self.folder.parent / point.model / f"{point.name}.json.gz"
            if point.build_seconds is None and path.is_file():
                made = load_experiment(path)
                _check(made.provenance, path)
                same = (made.provenance.gpu, made.provenance.tensorrt) == (
                    whole.provenance.gpu,
                    whole.provenance.tensorrt,
                )
                if same and made.build.options.batch == point.batch:
                    point = dataclasses.replace(point, build_seconds=_cold_seconds(made))  # noqa: PLW2901
            points.append(point)
        return dataclasses.replace(whole, points=tuple(points))

    def sensitivity(self, model: str = "mobile", ranges: str = "minmax", cpu: bool = False) -> Sensitivity:
        """Which units of a network mind INT8: by the GPU's engines, or as Q/DQ on a CPU foretells it (``cpu``)."""
        return self._load(f"sensitivity-{model}-{ranges}{'-cpu' if cpu else ''}", Sensitivity)

    def dynamic(self) -> DynamicShapes:
        """One network with a dynamic batch, calibrated at several batch sizes."""
        return self._load("dynamic", DynamicShapes)

    def placements(self, model: str = "resnet") -> dict[str, Experiment]:
        """Placement of Q/DQ -> the experiment with it, in the order of placement.PLACEMENTS."""
        from .placement import PLACEMENTS

        found = {}
        for placement in PLACEMENTS:
            path = self.folder / "placements" / model / f"qdq-{placement}.json.gz"
            if path.is_file():
                found[placement] = load_experiment(path)
                _check(found[placement].provenance, path)
        if not found:
            raise RecordingError(f"no Q/DQ placement of {model!r} is recorded in {self.folder}", AGAIN)
        return found

    def _load(self, name: str, kind: type[R]) -> R:
        if name not in self._known:
            path = self.folder / f"{name}.json.gz"
            if not path.is_file():
                raise RecordingError(f"nothing called {name!r} is recorded in {self.folder}", AGAIN)
            record = kind.from_json(read_packed(path, AGAIN))
            origin: Provenance = record.provenance  # type: ignore[attr-defined]
            _check(origin, path)
            self._known[name] = record
        held = self._known[name]
        assert isinstance(held, kind)
        return held

    def __repr__(self) -> str:
        return f"<TradeoffRecordings in {self.folder}: {', '.join(self.names) or 'nothing'}>"


def _check(origin: Provenance, path: Path) -> None:
    """RecordingError unless the models and images that the recording names are those here."""
    models = [
        name.removeprefix("models/").removesuffix(".onnx") for name in origin.sha256 if name.startswith("models/")
    ]
    if not models:
        raise RecordingError(f"{path} does not say from which model it was made", AGAIN)
    for model in models:
        check_hashes(origin, data_hashes(model), str(path))


def _cold_seconds(one: Experiment) -> float | None:
    """How long the build took, None where a timing cache shortened it."""
    return one.build.build_seconds if one.build.options.timing_cache == "empty" else None


def tradeoff_of(experiments: Iterable[Experiment]) -> Tradeoff:
    """The trade-off of whole experiments, live or recorded (``bench.run(variant)``): timed launch after launch.

    Raises RecordingError for none, or for experiments of several machines.
    """
    chosen = tuple(experiments)
    machines = {(one.provenance.gpu, one.provenance.tensorrt) for one in chosen}
    if len(machines) != 1:
        raise RecordingError(f"experiments of {len(machines)} machines, expected one", "compare what one GPU measured")
    points = tuple(
        TradeoffPoint(
            model=one.model,
            name=one.variant,
            batch=one.build.options.batch,
            options=one.build.options,
            accuracy=None if one.predictions is None else one.predictions.accuracy,
            timing=one.timing,
            graph_timing=None,
            plan_bytes=one.build.plan_bytes,
            device_memory_bytes=None,
            build_seconds=_cold_seconds(one),
            engine_layers=len(one.engine.layers) or None,
            int8_layers=sum(layer.weight_dtype == "int8" for layer in one.engine.layers),
            reformats=sum(layer.is_reformat for layer in one.engine.layers),
        )
        for one in chosen
    )
    return Tradeoff(points, chosen[0].provenance)


def open_tradeoff(folder: str | os.PathLike[str] | None = None) -> TradeoffRecordings:
    """The recorded trade-off of the newest recordings that have one, or of ``folder``.

    Raises RecordingError where there is none.

    Example::

        points = open_tradeoff().tradeoff("points-resnet")
        print(points.select("resnet", batch=8)[0].accuracy)
    """
    chosen = folder_with("tradeoff") / "tradeoff" if folder is None else Path(folder)
    if not any(chosen.glob("**/*.json.gz")):
        raise RecordingError(f"no trade-off is recorded in {chosen}", AGAIN)
    return TradeoffRecordings(chosen)
