"""What recording.calibration.pack says of the files that a run rests on."""

from __future__ import annotations

from argparse import Namespace
from pathlib import Path

import numpy as np

from recording.calibration.pack import provenance
from trtlearn.files import sha256


def test_a_run_of_one_network_needs_no_other_network_of_the_zoo(tmp_path: Path) -> None:
    (tmp_path / "ocr.onnx").write_bytes(b"a network")
    np.savez(tmp_path / "ocr.npz", x=np.arange(3))
    words = {"gpu": "NVIDIA H200", "driver": "580", "tensorrt": "8.6.0", "time": None, "note": []}
    found = provenance(Namespace(zoo=tmp_path, out=tmp_path / "out", **words))
    assert set(found.sha256) == {"zoo/ocr.onnx", "zoo/ocr.npz"}
    assert found.sha256["zoo/ocr.onnx"] == sha256(tmp_path / "ocr.onnx")
