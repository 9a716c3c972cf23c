"""Record which layers of the mobile network lose accuracy in INT8, on a CPU
(tradeoff/sensitivity-mobile-minmax-cpu.json.gz).

    python -m recording.sensitivity [FOLDER]      by default the newest recordings; about a minute

TensorRT's recorded min-max scales as Q/DQ, run by ONNX Runtime on the 1,000 test images.
"""

from __future__ import annotations

import dataclasses
import sys
from pathlib import Path

from trtlearn.calibration.edit import read_cache
from trtlearn.model.course_data import data_hashes, load_images, model_path
from trtlearn.recorded.cpu_sensitivity import sensitivity_on_cpu
from trtlearn.recorded.files import folder_with, load_provenance, save_packed


def main() -> int:
    """Run the study and write it."""
    folder = Path(sys.argv[1]) if len(sys.argv) > 1 else folder_with("mobile")
    cache, version = (
        read_cache(folder / "mobile" / "int8-minmax.cache"),
        load_provenance(folder).tensorrt,
    )
    images, labels = load_images("test")
    scales = {entry.name: entry.scale for entry in cache.scales}
    study = sensitivity_on_cpu("mobile", model_path("mobile"), scales, images, labels, "minmax")
    origin = dataclasses.replace(
        study.provenance,
        tensorrt=f"{version}'s min-max scales",
        sha256=data_hashes("mobile"),
        recorded=True,
    )
    study = dataclasses.replace(study, provenance=origin)
    path = folder / "tradeoff" / "sensitivity-mobile-minmax-cpu.json.gz"
    print(study, study.greedy, save_packed(path, study), sep="\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
