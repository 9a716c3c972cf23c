"""Record where NVIDIA's ModelOpt puts Q/DQ pairs into the course's networks:
data/quantizers/modelopt-<model>.json.

    python -m recording.modelopt        with nvidia-modelopt[onnx] installed, best in an environment
    of its own

Runs on a CPU. Calibrated by "max" on the 512 calibration images.
"""

from __future__ import annotations

import sys
from importlib import metadata

from trtlearn.files import data_dir, write_atomic
from trtlearn.model.course_data import MODELS, load_images, model_path

from .pairs import modelopt_quantized, read_pairs


def main() -> int:
    """Quantize both networks and write the tables of pairs."""
    images, _ = load_images("calibration")
    maker = f"ModelOpt {metadata.version('nvidia-modelopt')}"
    for model in MODELS:
        table = read_pairs(modelopt_quantized(model_path(model), {"image": images}), maker)
        print(
            table.summary(),
            "->",
            write_atomic(data_dir() / "quantizers" / f"modelopt-{model}.json", table.to_json(1)),
        )
    return 0


if __name__ == "__main__":
    sys.exit(main())
