"""Record what decides which layers run in INT8: marked outputs, precision constraints, missing and
broken scales.

    python -m recording.layers --out FOLDER [--models resnet,mobile] [--only WORD ...]
        [--timing-cache FOLDER] [--deadline SECONDS] [--tactic-sources none] [--ten 10]
        [--keep-plans FOLDER]

Needs a GPU and the calibration caches of the recordings. Writes studies/<model>-<study>.json, the
tensors of engines with every tensor marked as studies/<model>-marked-<variant>.npz, and the sizes
of ten builds as studies/<model>-plan-sizes.json.gz. A study that fails is recorded with its error,
and the rest go on. The models come one after the other, each in a process of its own; one that
crashes is started again after the study that it crashed in.
"""

from __future__ import annotations

import argparse
import io
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from onnx import numpy_helper

from recording.plan_contents import plan_contents
from recording.saving import save_packed, save_study
from trtlearn.builds import Build, engine_info, failed_build
from trtlearn.calibration.cache import CalibrationCache, read_cache
from trtlearn.calibration.qdq import insert_qdq
from trtlearn.engine.records import VARIANTS, BuildOptions
from trtlearn.errors import BuildError
from trtlearn.files import data_dir, write_atomic
from trtlearn.live.build import build_engine
from trtlearn.live.calibrator import make_calibrator
from trtlearn.live.experiment import provenance, run_variant
from trtlearn.live.runner import Runner
from trtlearn.live.trt import live
from trtlearn.model.course_data import MODELS, load_images, model_path
from trtlearn.model.read import load_proto, read_model
from trtlearn.recorded.layers import PlanBuild, PlanInsides, PlanSizes

FOCUS = {"resnet": ("b1_conv1", "b1_relu1"), "mobile": ("m2_dw", "m2_relu6b")}
"""The layer that the studies of precision and of broken scales are about, and the tensor that
leaves it.
"""
KEPT_IMAGES = 1


@dataclass(frozen=True)
class Plan:
    """One study to make."""

    name: str
    question: str
    options: BuildOptions
    drop: tuple[str, ...] = ()  # tensors without a range
    factors: dict[str, float] = field(
        default_factory=dict
    )  # tensor -> what its range is multiplied with
    borrowed: dict[str, str] = field(
        default_factory=dict
    )  # tensor -> the variant whose range it gets
    base: str = "int8-minmax"  # the variant whose ranges all others get
    marked: str = ""  # keep all tensors of the engine under this name
    placement: str = ""  # where the Q/DQ layers go, for a network that has them
    # built with an empty timing cache: which kernel a layer gets is not owed to other builds
    alone: bool = False


def plans(model: str) -> list[Plan]:
    """The studies of one model, the most telling first."""
    layer, tensor = FOCUS[model]
    shape = read_model(model_path(model))
    inner = tuple(
        name
        for name in shape.tensors
        if name not in {v.name for v in (*shape.inputs, *shape.outputs)}
    )
    base = BuildOptions(int8=True, ranges="user")
    both = replace(base, fp16=True)
    last = shape.nodes[-1].name
    every_other = tuple(name for name in inner if "relu" in name)[::2]
    return [
        Plan(
            "marked",
            "Every tensor marked as an output: is it still the same engine?",
            replace(base, outputs_marked=inner),
            marked="int8",
        ),
        Plan("missing-one", f"No range for {tensor}, fallback to FP32", base, drop=(tensor,)),
        Plan(
            "missing-one-fp16",
            f"No range for {tensor}, fallback to FP16 allowed",
            both,
            drop=(tensor,),
            alone=True,
        ),
        Plan(
            "obey-fp32",
            f"Layer {layer} asked for in FP32, obey",
            replace(base, layer_precisions={layer: "fp32"}, precision_constraints="obey"),
        ),
        Plan(
            "repaired-image",
            "Entropy calibration 2's ranges, but the image's from min-max calibration",
            base,
            base="int8-entropy2",
            borrowed={"image": "int8-minmax"},
        ),
        Plan(
            "prefer-fp32",
            f"Layer {layer} asked for in FP32, prefer",
            replace(base, layer_precisions={layer: "fp32"}, precision_constraints="prefer"),
        ),
        Plan(
            "broken-small",
            f"The range of {tensor} 50 times too small",
            base,
            factors={tensor: 1 / 50},
        ),
        Plan(
            "missing-half",
            "No range for every other activation, fallback to FP32",
            base,
            drop=every_other,
        ),
        Plan(
            "missing-half-fp16",
            "No range for every other activation, FP16 allowed",
            both,
            drop=every_other,
        ),
        Plan(
            "obey-int8-last",
            f"The last layer, {last}, asked for in INT8, obey",
            replace(base, layer_precisions={last: "int8"}, precision_constraints="obey"),
        ),
        Plan(
            "qdq-conv-outputs",
            "Q/DQ layers between each convolution and its activation, too",
            BuildOptions(int8=True, ranges="qdq"),
            placement="conv-outputs",
        ),
        Plan(
            "qdq",
            "Q/DQ layers where TensorRT fuses them",
            BuildOptions(int8=True, ranges="qdq"),
            placement="tensorrt",
        ),
        Plan(
            "qdq-with-calibrator",
            "Q/DQ layers and a calibrator, both",
            BuildOptions(int8=True, ranges="entropy2"),
            placement="tensorrt",
        ),
        Plan(
            "obey-fp32-output",
            f"Layer {layer} asked for in FP32 with an FP32 output, obey",
            replace(
                base,
                layer_precisions={layer: "fp32"},
                layer_output_types={layer: "fp32"},
                precision_constraints="obey",
            ),
        ),
        Plan("missing-input", "No range for the network input", base, drop=("image",)),
        Plan(
            "broken-large",
            f"The range of {tensor} 50 times too large",
            base,
            factors={tensor: 50.0},
        ),
        Plan(
            "obey-fp16",
            f"Layer {layer} asked for in FP16 with FP16 allowed, obey",
            replace(both, layer_precisions={layer: "fp16"}, precision_constraints="obey"),
        ),
        Plan("cached", "The ranges of min-max calibration, set by hand", base),
        Plan("cached-fp16", "The same ranges with FP16 allowed", both),
        Plan(
            "marked-fp32",
            "Every tensor marked as an output, in FP32",
            BuildOptions(outputs_marked=inner),
            marked="fp32",
        ),
    ]


def cache_of(folder: Path, model: str, variant: str) -> CalibrationCache:
    """The calibration cache of a variant: of this folder's recordings, or of those that came with
    the course.
    """
    name = f"{model}/{variant}.cache"
    found = [folder / name, *sorted((data_dir() / "recordings").glob(f"*/{name}"))]
    return read_cache(next((path for path in found if path.is_file()), found[0]))


def ranges_of(plan: Plan, model: str, folder: Path) -> dict[str, float]:
    """The ranges of a study, as its plan says."""
    amax = {
        item.name: item.amax for item in cache_of(folder, model, plan.base).scales if item.amax > 0
    }
    for tensor, variant in plan.borrowed.items():
        amax[tensor] = next(
            i.amax for i in cache_of(folder, model, variant).scales if i.name == tensor
        )
    scaled = {name: value * plan.factors.get(name, 1.0) for name, value in amax.items()}
    return {name: value for name, value in scaled.items() if name not in plan.drop}


def make(model: str, plan: Plan, folder: Path, timing: Path, runs: int) -> str:
    """Build, run and write one study; one line that says what came out."""
    ranges = ranges_of(plan, model, folder) if plan.options.ranges == "user" else None
    held: list[bytes] = []
    options = plan.options
    question = plan.question
    onnx_file = None
    try:
        if plan.placement:
            proto = load_proto(model_path(model))
            known = set(read_model(model_path(model)).tensors)
            scales = {
                e.name: float(e.scale)
                for e in cache_of(folder, model, plan.base).scales
                if e.name in known
            }
            onnx_file = timing.with_name(f"{model}-{plan.placement}.onnx")
            write_atomic(
                onnx_file, insert_qdq(proto, scales, plan.placement)[0].SerializeToString()
            )
        build = run_variant(
            model,
            options,
            name=plan.name,
            ranges=ranges,
            timing_cache=None if plan.alone else timing,
            tactic_sources=options.tactic_sources,
            runs=runs,
            warmup=min(50, runs),
            recorded=True,
            onnx_file=onnx_file,
            keep=lambda built: held.append(built.plan),
        )
        right = build.predictions
        said = f"{right.summary() if right else 'not run'}, {build.engine.summary()}"
    except BuildError as error:
        origin = provenance(model, options.tactic_sources, recorded=True)
        build = failed_build(model, plan.name, origin, options, error)
        said = f"the build failed: {error}"
    save_study(folder, replace(build, question=question))
    if plan.marked and held:
        images = load_images("test")[0][: options.batch]
        with Runner(held[0]) as runner:
            tensors = runner.run({next(iter(runner.inputs)): images})
        packed = io.BytesIO()
        few: dict[str, Any] = {name: value[:KEPT_IMAGES] for name, value in tensors.items()}
        np.savez_compressed(packed, image=images[:KEPT_IMAGES], **few)
        write_atomic(folder / "studies" / f"{model}-marked-{plan.marked}.npz", packed.getvalue())
    return said


def transformer(folder: Path, sources: tuple[str, ...] | None) -> str:
    """A small transformer (random weights) with placeholder ranges: what of it runs in INT8?"""
    from recording.zoo.networks import build as zoo

    options = BuildOptions(int8=True, ranges="placeholder", tactic_sources=sources)
    built = build_engine(zoo("transformer")[0], options)
    origin = provenance(None, sources, recorded=True)
    question = "What of a transformer runs in INT8 with bare --int8?"
    build = Build.from_built(built, "transformer", "int8", origin, question=question)
    save_study(folder, build)
    return build.engine.summary()


def zero_images(folder: Path, sources: tuple[str, ...] | None) -> str:
    """Min-max calibration with images that are all 0: which bits does a scale of 0 get in the
    cache?
    """
    options = BuildOptions(int8=True, ranges="minmax", tactic_sources=sources, optimization_level=0)
    origin = provenance("resnet", sources, recorded=True)
    question = "What does the cache say of a tensor that was 0 on every image?"
    images = np.zeros_like(load_images("calibration")[0][:8])
    with make_calibrator("minmax", images, 8) as calibrator:
        try:
            built = build_engine(model_path("resnet"), options, calibrator=calibrator)
            study = Build.from_built(built, "resnet", "zero-images", origin)
        except BuildError as error:
            study = failed_build("resnet", "zero-images", origin, options, error)
            study = replace(study, error=f"{error}\nthe cache: {calibrator.trace().cache}")
        cache = calibrator.trace().cache or "no cache"
    save_study(folder, replace(study, question=question))
    return f"{cache[:120]!r}, {study.error or 'built'}"


def weights_of(model: str) -> dict[str, Any]:
    return {
        weight.name: numpy_helper.to_array(weight)
        for weight in load_proto(model_path(model)).graph.initializer
    }


def insides(model: str, folder: Path, timing: Path, sources: tuple[str, ...] | None) -> str:
    """What the plans hold that FP32, FP16 and INT8 give: GPU programs, and weights as the bytes
    that they should be.
    """
    weights = weights_of(model)
    plans = {}
    for name in ("fp32", "fp16", "int8-placeholder"):
        options = replace(VARIANTS[name], tactic_sources=sources)
        plans[name] = plan_contents(
            build_engine(model_path(model), options, timing_cache=timing).plan, weights
        )
    found = PlanInsides(model, provenance(model, sources, recorded=True), plans)
    save_packed(folder / "studies" / f"{model}-plan-contents.json.gz", found)
    return "; ".join(f"{name} {one.summary()}" for name, one in plans.items())


def sizes(
    model: str, folder: Path, options: BuildOptions, count: int, end: float, keep: Path | None
) -> str:
    """Build the same INT8 network again and again, each time without a timing cache."""
    weights = weights_of(model)
    builds: list[PlanBuild] = []
    for index in range(count):
        if time.monotonic() > end and builds:
            break
        built = build_engine(model_path(model), options, timing_cache=b"")
        layers = tuple(replace(layer, raw="") for layer in engine_info(built.text).layers)
        contents = plan_contents(built.plan, weights)
        builds.append(PlanBuild(len(built.plan), built.report.build_seconds, contents, layers))
        if keep is not None:
            write_atomic(keep / f"{model}-{index}.plan", built.plan)
        print(
            f"  build {index + 1}: {contents.summary()}, {builds[-1].build_seconds:.1f} s",
            flush=True,
        )
        origin = provenance(model, options.tactic_sources, recorded=True)
        found = PlanSizes(model, "int8-placeholder", options, origin, tuple(builds))
        save_packed(folder / "studies" / f"{model}-plan-sizes.json.gz", found)
    return found.summary()


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--models", default="resnet,mobile")
    parser.add_argument(
        "--only", nargs="*", default=None, help="studies by name; sizes for the ten builds"
    )
    parser.add_argument("--timing-cache", type=Path, default=None)
    parser.add_argument(
        "--deadline", type=float, default=1e9, help="start nothing new after this many seconds"
    )
    parser.add_argument("--tactic-sources", default="default", help="default, or none")
    parser.add_argument(
        "--ten", type=int, default=10, help="how many builds without a timing cache"
    )
    parser.add_argument("--ten-model", default="resnet")
    parser.add_argument("--ten-level", type=int, default=None, help="their optimization level")
    parser.add_argument("--keep-plans", type=Path, default=None)
    parser.add_argument("--runs", type=int, default=100)
    parser.add_argument(
        "--resume", action="store_true", help="keep the studies that --out holds, make the others"
    )
    parser.add_argument(
        "--begun", type=Path, default=None, help=argparse.SUPPRESS
    )  # set for a model's own process
    arguments = parser.parse_args()
    models = [model for model in arguments.models.split(",") if model in MODELS]
    wants = arguments.only
    start = time.monotonic()
    with tempfile.TemporaryDirectory() as scratch:
        if arguments.begun is not None:
            del sys.argv[
                -6:
            ]  # what the first process added: the recordings name the command that was typed
            return _one_model(arguments, models, arguments.begun, start)
        parts = (
            [[model] for model in models] if wants is None or set(wants) - {"sizes"} else [models]
        )
        begun = [Path(scratch) / f"begun-{index}" for index in range(len(parts))]

        def start_part(index: int) -> subprocess.Popen[bytes]:
            rest = max(arguments.deadline - (time.monotonic() - start), 0)
            command = [
                sys.executable,
                "-m",
                "recording.layers",
                *sys.argv[1:],
                "--models",
                ",".join(parts[index]),
            ]
            return subprocess.Popen(
                [*command, "--begun", str(begun[index]), "--deadline", str(rest)]
            )

        worst = 0
        for index in range(len(parts)):
            for _ in range(4):
                status = start_part(index).wait()
                worst = max(worst, abs(status))
                if status >= 0 or time.monotonic() - start > arguments.deadline:
                    break
                print(
                    f"CRASHED ({status}): {begun[index].read_text(encoding='utf-8').split() if begun[index].exists() else ''}"
                )
    return 1 if worst else 0


def _one_model(
    arguments: argparse.Namespace, models: list[str], begun_file: Path, start: float
) -> int:
    """What one process does: all studies of ``models`` that were not begun yet."""
    live()
    failed = 0
    sources: tuple[str, ...] | None = () if arguments.tactic_sources == "none" else None
    work: list[tuple[str, Callable[[], str]]] = []
    with tempfile.TemporaryDirectory() as scratch:
        timing = arguments.timing_cache or Path(scratch)
        for model in models:
            for plan in plans(model):
                plan = replace(plan, options=replace(plan.options, tactic_sources=sources))  # noqa: PLW2901
                there = (
                    arguments.resume
                    and (arguments.out / "studies" / f"{model}-{plan.name}.json").is_file()
                )
                if not there and (arguments.only is None or plan.name in arguments.only):

                    def study(model: str = model, plan: Plan = plan) -> str:
                        return make(
                            model, plan, arguments.out, timing / f"{model}.timing", arguments.runs
                        )

                    work.append((f"{model}-{plan.name}", study))
            if arguments.only is None or "contents" in arguments.only:

                def look(model: str = model) -> str:
                    return insides(model, arguments.out, timing / f"{model}.timing", sources)

                work.append((f"{model}-contents", look))
            if model == "resnet" and (arguments.only is None or "transformer" in arguments.only):
                work.insert(
                    min(7, len(work)),
                    ("transformer-int8", lambda: transformer(arguments.out, sources)),
                )
            if model == "resnet" and (arguments.only is None or "zero-images" in arguments.only):
                work.append(("resnet-zero-images", lambda: zero_images(arguments.out, sources)))
        if (
            arguments.ten
            and arguments.ten_model in models
            and (arguments.only is None or "sizes" in arguments.only)
        ):
            end = start + arguments.deadline
            ten, name = arguments.ten, arguments.ten_model
            again = BuildOptions(
                int8=True,
                ranges="placeholder",
                tactic_sources=sources,
                optimization_level=arguments.ten_level,
            )
            work.append(
                (
                    f"{name}-sizes",
                    lambda: sizes(name, arguments.out, again, ten, end, arguments.keep_plans),
                )
            )
        done = begun_file.read_text(encoding="utf-8").split() if begun_file.exists() else []
        for label, job in work:
            begun = time.monotonic()
            if label in done:
                continue
            if begun - start > arguments.deadline:
                print(f"not started: {label}", flush=True)
                failed += 1
                continue
            with begun_file.open("a", encoding="utf-8") as file:
                file.write(f"{label}\n")
            try:
                print(f"{label}: {job()} ({time.monotonic() - begun:.1f} s)", flush=True)
            except Exception:
                failed += 1
                print(f"FAILED {label}: {traceback.format_exc(limit=4)}", flush=True)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
