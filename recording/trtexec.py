"""Record what NVIDIA's own trtexec builds with ``--int8``: its optimizer's log and the inspector's
text of its engine; and whether ``--int8 --calib=FILE`` leaves a file where there was none.

    python -m recording.trtexec --trtexec PATH --out FOLDER/trtexec [--tactic-sources none]

Needs a GPU, onnx, and trtexec of the TensorRT that is installed.
tests/recorded/test_optimizer_log.py holds our own build of the same network beside it.
"""

from __future__ import annotations

import argparse
import dataclasses
import re
import subprocess
import sys
import tempfile
from pathlib import Path

import onnx

from trtlearn.builds import engine_info
from trtlearn.errors import TrtlearnError
from trtlearn.files import write_atomic
from trtlearn.live.experiment import provenance
from trtlearn.live.trt import live
from trtlearn.model.course_data import MODELS, model_path
from trtlearn.recorded.logs import OptimizerLog, TrtexecLog

BATCH = 8  # of the recorded engines
NONE = "-CUDNN,-CUBLAS,-CUBLAS_LT,-EDGE_MASK_CONVOLUTIONS,-JIT_CONVOLUTIONS"


_SCALE = re.compile(
    r"User overriding scale with scale and zero-point Quantization\(scale: \{([^,}]+),?\}"
)
_FUSION = re.compile(r"\b(\w+Fusion): Fusing (.+) with (.+)$")
_LAST_STAGE = re.compile(r"After concat removal: (\d+) layers$")


def read_optimizer_log(log: str) -> OptimizerLog:
    """The scales, fusions and layer count that a verbose log names; all empty for another log.

    >>> log = "[V] ConvReluFusion: Fusing c1 with r1\\n[V] After concat removal: 12 layers"
    >>> read_optimizer_log(log).summary()
    '0 scales set by hand, 1 fusion, 12 layers left'
    """
    scales, fusions, layers = [], [], None
    for line in log.splitlines():
        if match := _SCALE.search(line):
            scales.append(float(match[1]))
        elif match := _FUSION.search(line):
            fusions.append(f"{match[1]}: {match[2]} + {match[3]}")
        elif match := _LAST_STAGE.search(line):
            layers = int(match[1])
    return OptimizerLog(tuple(scales), tuple(fusions), layers)


def fixed_batch(model: str, folder: Path) -> Path:
    """The network with its batch fixed, as build_engine fixes it."""
    proto = onnx.load(str(model_path(model)))
    for value in (*proto.graph.input, *proto.graph.output):
        value.type.tensor_type.shape.dim[0].dim_value = BATCH
    path = folder / f"{model}.onnx"
    path.write_bytes(proto.SerializeToString())
    return path


def record(
    model: str,
    options: argparse.Namespace,
    folder: Path,
    missing: bool = False,
    given: bytes | None = None,
) -> TrtexecLog:
    """One build by trtexec, with --calib=<missing file> where asked, or with a calibration cache of
    these bytes. With such a cache trtexec may die (T#3430): its status and its errors are recorded.

    Raises TrtlearnError where another build fails.
    """
    words = ["--int8", "--noTF32", "--profilingVerbosity=detailed", "--skipInference", "--verbose"]
    cache = folder / "missing.cache"
    if given is not None:
        cache = folder / f"{model}.cache"
        cache.write_bytes(given)
    words += [f"--calib={cache}"] if missing or given is not None else []
    if options.tactic_sources == "none":
        words.append(f"--tacticSources={NONE}")
    path, told = fixed_batch(model, folder), folder / f"{model}.json"
    command = [options.trtexec, f"--onnx={path}", *words, f"--exportLayerInfo={told}"]
    done = subprocess.run(command, capture_output=True, encoding="utf-8", check=False, timeout=300)
    said = done.stdout + done.stderr
    errors = tuple(line for line in said.splitlines() if "[E]" in line or "terminate" in line)
    if done.returncode and given is None:
        last = errors[-1] if errors else said[-300:]
        raise TrtlearnError(f"trtexec ended with status {done.returncode}: {last}")
    sources = () if options.tactic_sources == "none" else None
    origin = dataclasses.replace(
        provenance(model, sources, recorded=True), command=f"trtexec --onnx={path.name} ..."
    )
    typed = " ".join(["trtexec", f"--onnx={path.name}", *words]).replace(f"{folder}/", "")
    note = f"the network's batch was fixed at {BATCH}; trtexec was compiled from the public sources"
    log = read_optimizer_log(said)
    wrote = cache.exists() if missing else None
    return TrtexecLog(
        model,
        typed,
        log,
        origin,
        note,
        inspector=told.read_text(encoding="utf-8") if told.exists() else "",
        wrote_cache=wrote,
        status=done.returncode,
        errors=errors,
    )


def main() -> int:
    """Record both networks; the exit status."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--trtexec", required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--tactic-sources", default="default", choices=("default", "none"))
    options = parser.parse_args()
    live()
    with tempfile.TemporaryDirectory() as scratch:
        for model in MODELS:
            for name, missing in (("int8", False), ("int8-random", True)):
                log = record(model, options, Path(scratch), missing)
                write_atomic(options.out / f"{model}-{name}.json", log.to_json(indent=1) + "\n")
                print(
                    log.summary(),
                    engine_info(log.inspector).summary(),
                    log.wrote_cache,
                    sep="\n",
                    flush=True,
                )
    return 0


if __name__ == "__main__":
    sys.exit(main())
