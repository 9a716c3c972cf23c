"""Make every recording of the course again on this machine's GPU, one script after the other: `make
record`.

    python -m recording [--tactic-sources none] [--only core,tradeoff,...] [--trtexec PATH]
    [--resume]

Nothing is shared with what else the GPU may be doing: stop that first. A script that fails is named
at the end, and the others go on; what it had written until then stays.
"""

from __future__ import annotations

import argparse
import datetime
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from trtlearn.errors import LiveUnavailable
from trtlearn.files import data_dir
from trtlearn.live import cuda
from trtlearn.live.trt import available, live
from trtlearn.recorded.files import folder_name

ROOT = Path(__file__).resolve().parents[1]

PARTS = ("core", "arithmetic", "layers", "tradeoff", "calibration", "interrupts", "trtexec")


def commands(
    folder: Path, scratch: Path, sources: str, trtexec: str | None, resume: bool = False
) -> dict[str, list[list[str]]]:
    """Part -> the commands that make it: a module of recording/ and its options; none where its
    program is not here.
    """
    raw, zoo, cases = scratch / "calibration", scratch / "zoo", scratch / "arithmetic"
    now = datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds")
    origin = [
        f"--gpu={cuda.gpu_name()}",
        f"--driver={cuda.driver_version()}",
        f"--tensorrt={available()}",
    ]
    tactics = [f"--tactic-sources={sources}"]
    timer = [f"--trtexec={trtexec}"] if trtexec else []
    missing = ["--resume"] if resume else []  # only what is not there yet
    return {
        "core": [["core", "--out", str(folder), *tactics, *missing]],
        "arithmetic": [
            ["arithmetic.record", "--out", str(cases), "--jobs=1", "--seconds=900"],
            ["arithmetic.pack", str(cases), str(folder / "arithmetic")],
        ],
        "layers": [["layers", "--out", str(folder), *tactics, *missing]],
        "tradeoff": [["tradeoff", "--out", str(folder / "tradeoff"), *tactics, *timer, *missing]],
        "calibration": [
            ["zoo.networks", str(zoo)],
            ["calibration.run", "--zoo", str(zoo), "--seconds=3600", "--jobs=1"],
            [
                "calibration.pack",
                str(raw),
                "--zoo",
                str(zoo),
                "--out",
                str(folder / "calibration"),
                *origin,
                f"--time={now}",
            ],
        ],
        "interrupts": [["interrupts", "--out", str(folder / "interrupts.json")]],
        "trtexec": [["trtexec", "--out", str(folder / "trtexec"), *tactics, *timer]]
        if timer
        else [],
    }


def main() -> int:
    """Run the parts asked for; the exit status."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--only", default=",".join(PARTS), help="some of " + ",".join(PARTS))
    parser.add_argument("--tactic-sources", default="default", choices=("default", "none"))
    parser.add_argument(
        "--resume",
        action="store_true",
        help="keep builds, studies and engines that are there already",
    )
    parser.add_argument(
        "--trtexec", default=shutil.which("trtexec"), help="NVIDIA's own program, to compare with"
    )
    options = parser.parse_args()
    chosen = options.only.split(",")
    if unknown := sorted(set(chosen) - set(PARTS)):
        parser.error(f"no part {unknown[0]!r}, expected some of {', '.join(PARTS)}")
    try:
        live()
    except LiveUnavailable as problem:
        print(f"recording: {problem}", file=sys.stderr)
        return 2
    folder = (
        data_dir() / "recordings" / folder_name(cuda.gpu_name() or "gpu", available() or "unknown")
    )
    failed = []
    with tempfile.TemporaryDirectory() as scratch:
        raw = {
            "OUT": str(Path(scratch) / "packed"),
            "CALIB_WORK": str(Path(scratch) / "calibration"),
        }
        paths = filter(None, [str(ROOT), os.environ.get("PYTHONPATH")])
        environment = os.environ | raw | {"PYTHONPATH": os.pathsep.join(paths)}
        todo = commands(
            folder, Path(scratch), options.tactic_sources, options.trtexec, options.resume
        )
        for part in chosen:
            begun = time.monotonic()
            for command in todo[part]:
                line = [sys.executable, "-m", f"recording.{command[0]}", *command[1:]]
                if subprocess.run(line, env=environment, cwd=ROOT, check=False).returncode:
                    failed.append(f"{part}: {' '.join(command)}")
                    break
            print(f"-- {part}: {time.monotonic() - begun:.0f} s", flush=True)
    for problem in failed:
        print(f"FAILED {problem}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
