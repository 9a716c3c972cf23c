"""Record what decides which layers run in INT8: marked outputs, precision constraints, missing and broken scales.

    python scripts/record_layers.py --out data/recordings/h200-8.6.0 [--models resnet,mobile] [--only WORD ...]
        [--timing-cache FOLDER] [--deadline SECONDS] [--tactic-sources none] [--ten 10] [--keep-plans FOLDER]

Needs a GPU, and the int8-entropy2 recordings (their .cache) in the same folder. Writes studies/<model>-<study>.json,
the tensors of engines with every tensor marked as arithmetic/<model>-marked-<variant>.npz, and the sizes of ten builds
as arithmetic/<model>-plan-sizes.json.gz. A study that fails is recorded with its error, and the rest go on.
"""

from __future__ import annotations

import argparse
import gzip
import io
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

from trtlearn.build import build_engine
from trtlearn.cachefile import CalibrationCache, read_cache
from trtlearn.errors import BuildError
from trtlearn.experiment import engine_info, provenance, run_variant
from trtlearn.models import MODELS, load_images, model_path
from trtlearn.onnxfile import load_proto, read_model
from trtlearn.paths import write_atomic
from trtlearn.plansize import PlanBuild, PlanSizes, plan_contents
from trtlearn.recordings import Study, save_study
from trtlearn.records import BuildOptions
from trtlearn.runner import Runner
from trtlearn.trt import live

FOCUS = {"resnet": ("b1_conv1", "b1_relu1"), "mobile": ("m2_dw", "m2_relu6b")}
"""The layer that the studies of precision and of broken scales are about, and the tensor that leaves it."""
KEPT_IMAGES = 2


@dataclass(frozen=True)
class Plan:
    """One study to make."""

    name: str
    question: str
    options: BuildOptions
    drop: tuple[str, ...] = ()  # tensors without a range
    factors: dict[str, float] = field(default_factory=dict)  # tensor -> what its range is multiplied with
    marked: str = ""  # keep all tensors of the engine under this name


def plans(model: str) -> list[Plan]:
    """The studies of one model, the most telling first."""
    layer, tensor = FOCUS[model]
    shape = read_model(model_path(model))
    inner = tuple(name for name in shape.tensors if name not in {v.name for v in (*shape.inputs, *shape.outputs)})
    base = BuildOptions(int8=True, ranges="user")
    both = replace(base, fp16=True)
    last = shape.nodes[-1].name
    every_other = tuple(name for name in inner if "relu" in name)[::2]
    return [
        Plan("cached", "The ranges of entropy calibration 2, set by hand: the engine to compare with", base),
        Plan(
            "marked",
            "Every tensor marked as an output: is it still the same engine?",
            replace(base, outputs_marked=inner),
            marked="int8",
        ),
        Plan(
            "marked-fp32",
            "Every tensor marked as an output, in FP32",
            BuildOptions(outputs_marked=inner),
            marked="fp32",
        ),
        Plan(
            "obey-fp32",
            f"Layer {layer} asked for in FP32, obey",
            replace(base, layer_precisions={layer: "fp32"}, precision_constraints="obey"),
        ),
        Plan(
            "prefer-fp32",
            f"Layer {layer} asked for in FP32, prefer",
            replace(base, layer_precisions={layer: "fp32"}, precision_constraints="prefer"),
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
        Plan(
            "obey-int8-last",
            f"The last layer, {last}, asked for in INT8, obey",
            replace(base, layer_precisions={last: "int8"}, precision_constraints="obey"),
        ),
        Plan("missing-one", f"No range for {tensor}, fallback to FP32", base, drop=(tensor,)),
        Plan("missing-one-fp16", f"No range for {tensor}, fallback to FP16 allowed", both, drop=(tensor,)),
        Plan("missing-half", "No range for every other activation, fallback to FP32", base, drop=every_other),
        Plan("missing-half-fp16", "No range for every other activation, FP16 allowed", both, drop=every_other),
        Plan("missing-input", "No range for the network input", base, drop=("image",)),
        Plan("broken-small", f"The range of {tensor} 50 times too small", base, factors={tensor: 1 / 50}),
        Plan("broken-large", f"The range of {tensor} 50 times too large", base, factors={tensor: 50.0}),
        Plan(
            "obey-fp16",
            f"Layer {layer} asked for in FP16 with FP16 allowed, obey",
            replace(both, layer_precisions={layer: "fp16"}, precision_constraints="obey"),
        ),
        Plan("cached-fp16", "The same ranges with FP16 allowed", both),
    ]


def make(model: str, plan: Plan, folder: Path, cache: CalibrationCache, timing: Path, runs: int) -> str:
    """Build, run and write one study; one line that says what came out."""
    amax = {item.name: item.amax * plan.factors.get(item.name, 1.0) for item in cache.scales if item.amax > 0}
    ranges = {name: value for name, value in amax.items() if name not in plan.drop} if plan.options.int8 else None
    held: list[bytes] = []
    options = plan.options
    question = plan.question
    try:
        experiment = run_variant(
            model,
            options,
            name=plan.name,
            ranges=ranges,
            timing_cache=timing,
            tactic_sources=options.tactic_sources,
            runs=runs,
            warmup=min(50, runs),
            recorded=True,
            keep=lambda built: held.append(built.plan),
        )
        study = Study(
            f"{model}-{plan.name}",
            model,
            question,
            experiment.provenance,
            experiment.build.options,
            messages=experiment.build.messages,
            experiment=experiment,
        )
        said = experiment.engine.summary()
    except BuildError as error:
        origin = provenance(model, options.tactic_sources, recorded=True)
        study = Study(f"{model}-{plan.name}", model, question, origin, options, str(error), error.messages)
        said = f"the build failed: {error}"
    save_study(folder, study)
    if plan.marked and held:
        images = load_images("test")[0][: options.batch]
        with Runner(held[0]) as runner:
            tensors = runner.run({next(iter(runner.inputs)): images})
        packed = io.BytesIO()
        few: dict[str, Any] = {name: value[:KEPT_IMAGES] for name, value in tensors.items()}
        np.savez_compressed(packed, image=images[:KEPT_IMAGES], **few)
        write_atomic(folder / "arithmetic" / f"{model}-marked-{plan.marked}.npz", packed.getvalue())
    return said


def sizes(model: str, folder: Path, options: BuildOptions, count: int, end: float, keep: Path | None) -> str:
    """Build the same INT8 network again and again, each time without a timing cache."""
    weights = {w.name: numpy_helper.to_array(w) for w in load_proto(model_path(model)).graph.initializer}
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
        print(f"  build {index + 1}: {builds[-1].contents.summary()}, {builds[-1].build_seconds:.1f} s", flush=True)
        origin = provenance(model, options.tactic_sources, recorded=True)
        found = PlanSizes(model, "int8-placeholder", options, origin, tuple(builds))
        packed = gzip.compress(found.to_json().encode(), mtime=0)
        write_atomic(folder / "arithmetic" / f"{model}-plan-sizes.json.gz", packed)
    return found.summary()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--models", default="resnet,mobile")
    parser.add_argument("--only", nargs="*", default=None, help="studies by name; sizes for the ten builds")
    parser.add_argument("--timing-cache", type=Path, default=None)
    parser.add_argument("--deadline", type=float, default=1e9, help="start nothing new after this many seconds")
    parser.add_argument("--tactic-sources", default="default", help="default, or none")
    parser.add_argument("--ten", type=int, default=10, help="how many builds without a timing cache")
    parser.add_argument("--ten-model", default="resnet")
    parser.add_argument("--ten-level", type=int, default=None, help="their optimization level")
    parser.add_argument("--keep-plans", type=Path, default=None)
    parser.add_argument("--runs", type=int, default=200)
    arguments = parser.parse_args()
    live()
    start, failed = time.monotonic(), 0
    sources: tuple[str, ...] | None = () if arguments.tactic_sources == "none" else None
    models = [model for model in arguments.models.split(",") if model in MODELS]
    work: list[tuple[str, Callable[[], str]]] = []
    with tempfile.TemporaryDirectory() as scratch:
        timing = arguments.timing_cache or Path(scratch)
        lists = {model: plans(model) for model in models}
        for index in range(max(map(len, lists.values()), default=0)):
            for model in models:
                plan = lists[model][index]
                plan = replace(plan, options=replace(plan.options, tactic_sources=sources))
                if arguments.only is None or plan.name in arguments.only:

                    def study(model: str = model, plan: Plan = plan) -> str:
                        cache = read_cache(arguments.out / model / "int8-entropy2.cache")
                        return make(model, plan, arguments.out, cache, timing / f"{model}.timing", arguments.runs)

                    work.append((f"{model} {plan.name}", study))
        if arguments.ten and (arguments.only is None or "sizes" in arguments.only):
            end = start + arguments.deadline
            ten, name = arguments.ten, arguments.ten_model
            again = BuildOptions(
                int8=True, ranges="placeholder", tactic_sources=sources, optimization_level=arguments.ten_level
            )
            work.append((f"{name} sizes", lambda: sizes(name, arguments.out, again, ten, end, arguments.keep_plans)))
        for label, job in work:
            begun = time.monotonic()
            if begun - start > arguments.deadline:
                print(f"not started: {label}", flush=True)
                failed += 1
                continue
            try:
                print(f"{label}: {job()} ({time.monotonic() - begun:.1f} s)", flush=True)
            except Exception:
                failed += 1
                print(f"FAILED {label}: {traceback.format_exc(limit=4)}", flush=True)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
