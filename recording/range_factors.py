"""Record what happens to the mobile network when all ranges of bare --int8 grow or shrink
(studies/mobile-range-factors.json.gz).

    python -m recording.range_factors [FOLDER]    by default the newest recordings; some minutes

The recorded engine of bare --int8 is computed in numpy (Build.simulate) for the first test images,
with every range times each factor, half an octave apart.
"""

from __future__ import annotations

import datetime
import sys
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from recording.saving import save_packed
from trtlearn.builds import Build
from trtlearn.engine.records import Provenance
from trtlearn.model.course_data import data_hashes
from trtlearn.networks import network
from trtlearn.recorded.computed import FACTORS as FILE
from trtlearn.recorded.computed import FactorTrial, RangeFactors
from trtlearn.recorded.files import folder_with

MODEL, COUNT, BATCH = "mobile", 400, 100
FACTORS = [2 ** (half / 2) for half in range(-4, 21)]  # 0.25, 0.354, 0.5 ... 1024


def attempt(
    build: Build,
    images: NDArray[np.float32],
    values: Mapping[str, NDArray[np.float32]],
    factor: float,
) -> FactorTrial:
    """The build's numpy model with its ranges times ``factor``; ``values`` are the FP32 tensors."""
    assert build.ranges is not None
    tensors = [tensor for tensor in build.ranges.tensors if tensor.name in values]
    scales = {tensor.name: factor * (tensor.scale or 0) for tensor in tensors}
    answers = ""
    used: dict[str, set[int]] = {}
    for start in range(0, len(images), BATCH):
        run = build.simulate(images[start : start + BATCH], scales)
        answers += "".join(map(str, run["logits"].values.argmax(1)))
        for name, tensor in run.tensors.items():
            if tensor.codes is not None:
                used.setdefault(name, set()).update(np.unique(tensor.codes).tolist())
    beyond = sum(int((np.abs(values[t.name]) > factor * (t.amax or 0)).sum()) for t in tensors)
    total = sum(values[tensor.name].size for tensor in tensors)
    codes = float(np.median([len(one) for one in used.values()]))
    return FactorTrial(factor, answers, beyond / total, codes)


def main() -> int:
    """Run the study and write it."""
    folder = Path(sys.argv[1]) if len(sys.argv) > 1 else folder_with("studies")
    mobile = network(MODEL, folder, "recorded")
    build = mobile.build("int8-placeholder")
    images = mobile.images("test")[:COUNT]
    values = mobile.activations(images[:BATCH])
    trials = []
    for factor in FACTORS:
        trials.append(attempt(build, images, values, factor))
        print(trials[-1], flush=True)
    now = datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds")
    origin = Provenance(
        gpu="a CPU (numpy model of the engine)",
        tensorrt=build.provenance.tensorrt,
        time_utc=now,
        sha256=data_hashes(MODEL),
    )
    record = RangeFactors(MODEL, COUNT, tuple(trials), origin)
    print(save_packed(folder / FILE, record))
    return 0


if __name__ == "__main__":
    sys.exit(main())
