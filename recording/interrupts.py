"""Record what is left behind when a calibration is interrupted: GPU memory, files, processes.

    python -m recording.interrupts --out FOLDER/interrupts.json

Three calibrations of the residual network, each in a process of its own: one to its end, one that
gets Ctrl-C (SIGINT) at its fifth batch, one that is killed there (SIGKILL, as a notebook's kernel
is on a restart). Needs a GPU and TensorRT 8.x or 10.x.
"""

from __future__ import annotations

import argparse
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from trtlearn.files import write_atomic
from trtlearn.live.experiment import provenance
from trtlearn.live.trt import live
from trtlearn.recorded.logs import Interruption, Interruptions

ROOT = Path(__file__).resolve().parents[1]
AT_BATCH = 5
CHILD = """
import sys, time
from trtlearn.live import cuda
from trtlearn.live.build import build_engine
from trtlearn.live.calibrator import make_calibrator
from trtlearn.model.course_data import load_images, model_path
from trtlearn.engine.records import BuildOptions

images, _ = load_images("calibration")
cuda.free_memory()

def progress(done, of):
    print("batch", done, flush=True)
    if sys.argv[2] != "nothing" and done >= 5:
        time.sleep(3)  # long enough for the signal to come in the middle of the calibration

options = BuildOptions(int8=True, ranges="minmax", tactic_sources=(), optimization_level=0)
said = "finished"
try:
    with make_calibrator("minmax", images[:128], 8, write_cache_path=sys.argv[1], progress=progress) as calibrator:
        build_engine(model_path("resnet"), options, calibrator=calibrator, timing_cache=sys.argv[1] + ".timing")
except KeyboardInterrupt:
    said = "KeyboardInterrupt"
held = len(calibrator._buffers)
print("end", said, calibrator.trace().batches, held, flush=True)
"""


MEMORY = "from trtlearn.live.cuda import check, runtime\n"
MEMORY += "print(check(runtime().cudaMemGetInfo(), 'asking for free memory')[0])"


def free_bytes() -> int:
    """Free GPU memory as the driver tells it to a new process."""
    command = [sys.executable, "-c", MEMORY]
    return int(
        subprocess.run(command, capture_output=True, encoding="utf-8", check=True, cwd=ROOT).stdout
    )


def run(how: str, number: int | None) -> Interruption:
    """One calibration, interrupted by signal ``number`` at batch AT_BATCH."""
    before = free_bytes()
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-c", CHILD, f"{folder}/model.cache", how]
        start = time.monotonic()
        child = subprocess.Popen(command, stdout=subprocess.PIPE, encoding="utf-8", cwd=ROOT)
        assert child.stdout is not None
        said, batches, buffers = "killed", 0, None
        for line in child.stdout:
            words = line.split()
            if words[:1] == ["batch"]:
                batches = int(words[1])
                if number is not None and batches == AT_BATCH:
                    child.send_signal(number)
            elif words[:1] == ["end"]:
                said, batches, buffers = words[1], int(words[2]), int(words[3])
        status = child.wait()
        left = tuple(sorted(path.name for path in Path(folder).iterdir()))
        seconds = time.monotonic() - start
    return Interruption(how, said, status, batches, buffers, before, free_bytes(), left, seconds)


def main() -> int:
    """Record the three; the exit status."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    live()
    ways = {
        "nothing": None,
        "Ctrl-C (SIGINT)": signal.SIGINT,
        "kernel restart (SIGKILL)": signal.SIGKILL,
    }
    runs = tuple(run(how, number) for how, number in ways.items())
    found = Interruptions(runs, provenance("resnet", (), recorded=True))
    write_atomic(options.out, found.to_json(indent=1) + "\n")
    print(found, flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
