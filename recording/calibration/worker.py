"""A worker process of the calibration experiments: jobs as JSON lines on stdin, ``@@`` lines about
them on stdout.
"""

from __future__ import annotations

import json
import os
import sys
import time
from pathlib import Path

os.environ.setdefault("CUDA_MODULE_LOADING", "LAZY")


def tell(channel, **facts) -> None:
    channel.write("@@" + json.dumps(facts) + "\n")
    channel.flush()


def main() -> None:
    channel = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # whatever else prints goes to the worker's error file
    started = time.time()
    from cuda import cudart

    from recording.calibration import jobs

    logger = jobs.Log()
    jobs.KEEP.append(logger)
    builder = None
    parked = 0
    while True:
        if builder is None:
            began = time.time()
            builder = jobs.trt.Builder(logger)
            jobs.KEEP.append(builder)
            free = jobs.cuda_ok(cudart.cudaMemGetInfo())
            tell(
                channel,
                ready=round(time.time() - began, 3),
                since_start=round(time.time() - started, 3),
                parked=parked,
                free_mib=int(free) >> 20,
                early=logger.early[:5],
            )
            logger.early.clear()
        line = sys.stdin.readline()
        if not line:
            os._exit(0)
        job = json.loads(line)
        target = Path(job.pop("target"))

        def save(result: dict, target: Path = target) -> None:
            scratch = target.with_suffix(".part")
            scratch.write_text(json.dumps(result), encoding="utf-8")
            os.replace(scratch, target)

        session = jobs.Session(job, logger, builder, save)
        session.start()
        session.done.wait()
        logger.session = None
        save(session.result)
        tell(channel, done=job["name"], parked=session.parked)
        if session.parked:
            parked, builder = parked + 1, None


if __name__ == "__main__":
    main()
