"""Make the course's recordings again: every variant of every model, built, run and timed on this
machine's GPU.

    python -m recording.core                       all of it, into data/recordings/<gpu>-<tensorrt
    version>/ python -m recording.core --models resnet --variants fp32,int8-placeholder --out DIR
    python -m recording.core --tactic-sources none where cuBLAS and cuDNN are not installed

Each recording is written whole as soon as it is made. One that fails is reported, noted in
PROVENANCE.json, and the others go on; the exit status is then 1. Needs numpy, TensorRT 8.x or 10.x
and cuda-python.
"""

from __future__ import annotations

import argparse
import dataclasses
import sys
import time
import traceback
from pathlib import Path

from recording.saving import save_build, save_provenance, save_study
from trtlearn.builds import failed_build
from trtlearn.engine.records import VARIANTS, BuildOptions, Provenance
from trtlearn.errors import BuildError, LiveUnavailable, TrtlearnError
from trtlearn.files import data_dir
from trtlearn.live import cuda
from trtlearn.live.experiment import provenance, run_variant
from trtlearn.live.trt import available, live
from trtlearn.model.course_data import MODELS
from trtlearn.recorded.files import folder_name, load_build, load_provenance

STUDIES = ("no-ranges", "missing-scale")
ALONE = "every engine was built with an empty timing cache, one after the other"


def names(text: str, known: tuple[str, ...], what: str) -> list[str]:
    """The comma-separated names in ``text``, each one of ``known``."""
    chosen = (
        [name.strip() for name in text.split(",") if name.strip()] if text != "all" else list(known)
    )
    for name in chosen:
        if name not in known:
            raise SystemExit(f"record.py: no {what} {name!r}, expected some of {', '.join(known)}")
    return chosen


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument(
        "--out", type=Path, help="folder to write to (default: data/recordings/<gpu>-<tensorrt>)"
    )
    parser.add_argument("--models", default="all")
    parser.add_argument("--variants", "--only", default="all")
    parser.add_argument(
        "--studies", default="all", help="all, none, or some of " + ", ".join(STUDIES)
    )
    parser.add_argument(
        "--tactic-sources", default="default", help="default, none, or names such as CUBLAS,CUDNN"
    )
    parser.add_argument(
        "--quick", action="store_true", help="20 timed runs: to try the script, not to record"
    )
    parser.add_argument("--runs", type=int, default=500)
    parser.add_argument("--resume", action="store_true", help="keep what is there already")
    parser.add_argument("--deadline", type=float, help="start nothing new after this many seconds")
    return parser.parse_args()


class Recorder:
    """Records one thing after the other and keeps count of what failed."""

    def __init__(self, options: argparse.Namespace, folder: Path) -> None:
        self.options, self.folder = options, folder
        self.start = time.monotonic()
        self.failed: list[str] = []
        sources: str = options.tactic_sources
        self.sources: tuple[str, ...] | None = (
            None if sources == "default" else () if sources == "none" else tuple(sources.split(","))
        )
        self.runs = 20 if options.quick else options.runs

    def guarded(self, what: str, work: object) -> None:
        """Run ``work``; a failure is printed and counted."""
        begun = time.monotonic()
        if self.options.deadline and begun - self.start > self.options.deadline:
            self.failed.append(
                f"{what}: not started, the deadline of {self.options.deadline:g} s had passed"
            )
            return
        try:
            said = work()  # type: ignore[operator]
        except Exception as error:
            self.failed.append(f"{what}: {type(error).__name__}: {error}")
            if isinstance(error, TrtlearnError):
                print(f"FAILED {what}: {error}", flush=True)
            else:
                traceback.print_exc()
            return
        print(f"{what}: {said} ({time.monotonic() - begun:.1f} s)", flush=True)

    def variant(self, model: str, variant: str) -> str:
        """Record one variant of one model."""
        path = self.folder / model / f"{variant}.json.gz"
        if self.options.resume and path.is_file():
            return "kept"
        experiment = run_variant(
            model,
            variant,
            tactic_sources=self.sources,
            runs=self.runs,
            warmup=min(100, self.runs),
            recorded=True,
        )
        save_build(self.folder, experiment)
        timing, right = experiment.timing, experiment.predictions
        assert timing is not None
        assert right is not None
        return f"{right.summary()}, {timing.median_ms:.4f} ms, {experiment.engine.summary()}"

    def no_ranges(self, model: str) -> str:
        """INT8 asked for with no calibrator, no ranges and no Q/DQ: TensorRT refuses."""
        options = BuildOptions(int8=True, tactic_sources=self.sources)
        question = "What does TensorRT do with the INT8 flag alone, without any ranges?"
        try:
            study = run_variant(
                model,
                options,
                name="no-ranges",
                tactic_sources=self.sources,
                runs=20,
                warmup=5,
                recorded=True,
            )
        except BuildError as error:
            origin = provenance(model, self.sources, recorded=True)
            study = failed_build(model, "no-ranges", origin, options, error)
        save_study(self.folder, dataclasses.replace(study, question=question))
        return study.error or "it built"

    def missing_scale(self, model: str) -> str:
        """Entropy2's ranges set by hand, all but one tensor's: which layers fall back?"""
        known = load_build(self.folder / model / "int8-entropy2.json.gz")
        if known.ranges is None:
            raise BuildError(
                "the int8-entropy2 recording has no ranges", "record int8-entropy2 first"
            )
        amax = {tensor.name: tensor.amax for tensor in known.ranges.tensors if tensor.amax}
        left_out = next(
            (name for name in amax if "b0" in name and "conv2" in name), list(amax)[len(amax) // 2]
        )
        options = BuildOptions(int8=True, ranges="user", tactic_sources=self.sources)
        experiment = run_variant(
            model,
            options,
            name="missing-scale",
            ranges={name: value for name, value in amax.items() if name != left_out},
            tactic_sources=self.sources,
            runs=self.runs,
            warmup=min(100, self.runs),
            recorded=True,
        )
        question = f"What happens when one tensor, {left_out!r}, has no scale?"
        save_study(self.folder, dataclasses.replace(experiment, question=question))
        return f"without {left_out}: {experiment.engine.summary()}"


def finish(recorder: Recorder, models: list[str]) -> None:
    """Write PROVENANCE.json: this machine, now, with the hashes of all models recorded here so
    far.
    """
    origin = provenance(None, recorder.sources, recorded=True)
    hashes: dict[str, str] = {}
    for model in models:
        hashes |= provenance(model).sha256
    if (recorder.folder / "PROVENANCE.json").is_file():
        earlier: Provenance = load_provenance(recorder.folder)
        if earlier.gpu == origin.gpu and earlier.tensorrt == origin.tensorrt:
            hashes = earlier.sha256 | hashes
    notes = (ALONE, *recorder.failed)
    files = [path for model in MODELS for path in (recorder.folder / model).glob("*.json.gz")]
    made = [load_build(path).provenance.time_utc for path in files]
    since = min((time for time in made if time), default=None)
    save_provenance(
        recorder.folder, dataclasses.replace(origin, sha256=hashes, notes=notes, since_utc=since)
    )


def main() -> int:
    """Record what the command line asks for; the exit status."""
    options = arguments()
    models = names(options.models, tuple(MODELS), "model")
    variants = names(options.variants, tuple(VARIANTS), "variant")
    studies = [] if options.studies == "none" else names(options.studies, STUDIES, "study")
    try:
        live()
    except LiveUnavailable as problem:
        print(f"record.py: {problem}", file=sys.stderr)
        return 2
    gpu, version = cuda.gpu_name() or "gpu", available() or "unknown"
    folder = options.out or data_dir() / "recordings" / folder_name(gpu, version)
    print(f"{gpu}, driver {cuda.driver_version()}, TensorRT {version} -> {folder}", flush=True)
    recorder = Recorder(options, folder)
    for model in models:
        for variant in variants:
            recorder.guarded(
                f"{model} {variant}", lambda m=model, v=variant: recorder.variant(m, v)
            )
        if "no-ranges" in studies:
            recorder.guarded(f"{model} study no-ranges", lambda m=model: recorder.no_ranges(m))
        if "missing-scale" in studies:
            recorder.guarded(
                f"{model} study missing-scale", lambda m=model: recorder.missing_scale(m)
            )
        finish(recorder, models[: models.index(model) + 1])
    print(f"{time.monotonic() - recorder.start:.0f} s in all", flush=True)
    for failure in recorder.failed:
        print(f"FAILED {failure}")
    return 1 if recorder.failed else 0


if __name__ == "__main__":
    sys.exit(main())
