"""Choose what of recording/arithmetic/record.py's files goes with the course, and cut batches
short; no value is altered.

    python -m recording.arithmetic.pack RECORDED_FOLDER FOLDER/arithmetic

Images of a batch are computed apart from each other, so the first ones say what all say. What was
left out is noted in each file's facts: ``kept_images`` of ``recorded_images``.
"""

from __future__ import annotations

import argparse
import io
import json
from pathlib import Path
from typing import Any

import numpy as np

from trtlearn.files import write_atomic

WHOLE = ("weights_", "near_", "image_", "gemm", "matmul")
"""Cases whose every row counts."""
LEFT_OUT = (
    "conv5x5_uneven",
    "conv_add_relu_s2",
    "conv_deep",
    "conv_relu_fp32_out",
    "conv_ties_relu",
    "weights_gemm",
    "weights_gemm_placeholder",
)
"""Cases that say what others say."""
KEPT = {"conv_fp32_out": 1}
"""How many images of a case are kept, where not two."""


def pack(path: Path) -> bytes:
    """The file with fewer images."""
    with np.load(path, allow_pickle=False) as file:
        held: dict[str, Any] = {name: file[name] for name in file.files}
    facts = json.loads(str(held["facts"]))
    if not path.stem.startswith(WHOLE):
        facts["recorded_images"] = len(
            next(value for name, value in held.items() if name.startswith("out_"))
        )
        facts["kept_images"] = KEPT.get(path.stem, 2)
        for name in [name for name in held if name.startswith(("in_", "out_"))]:
            held[name] = held[name][: facts["kept_images"]]
    held["facts"] = np.array(json.dumps(facts))
    packed = io.BytesIO()
    np.savez_compressed(packed, **held)
    return packed.getvalue()


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("recorded", type=Path)
    parser.add_argument("out", type=Path)
    arguments = parser.parse_args()
    total = 0
    for path in sorted(arguments.recorded.glob("*.npz")):
        with np.load(path, allow_pickle=False) as file:
            is_case = "facts" in file.files
        if is_case and path.stem not in LEFT_OUT:
            content = pack(path)
            total += len(content)
            write_atomic(arguments.out / path.name, content)
    print(f"{total:,} bytes in {arguments.out}")


if __name__ == "__main__":
    main()
