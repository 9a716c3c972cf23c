"""Make or re-check trtlearn/tables/samples.json: which directories of NVIDIA/TensorRT show which
quantization, per tag.

    python -m tools.trtexec_samples /path/to/TensorRT            # re-check; exit 1 on a difference
    python -m tools.trtexec_samples /path/to/TensorRT --write    # read every tag again

A directory counts as showing a kind at a tag when its file holds the telling line there; that
line's number is kept.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from pathlib import Path
from typing import Any

from tools.trtexec_sources import git, lines_of, releases

TABLE = Path(__file__).resolve().parents[1] / "trtlearn" / "tables" / "samples.json"
BUILD, TRT = "build_engine.py", r"class \w+\(trt\.IInt8{}Calibrator"
CPP2, DUMMY = r"Int8EntropyCalibrator2[<(]", r"setAllDynamicRanges\(|setDummyInt8DynamicRanges\("
# directory, kind, file, telling line, what it shows
ROWS: list[tuple[str, str, str, str, str]] = [
    (
        "samples/trtexec",
        "trtexec",
        "../common/sampleEngines.cpp",
        r"^bool setTensorDynamicRange",
        "placeholder ranges, noise calibration or a given cache",
    ),
    (
        "samples/sampleINT8",
        "calibration",
        "sampleINT8.cpp",
        CPP2,
        "entropy calibration of a Caffe MNIST network in C++",
    ),
    (
        "samples/sampleDynamicReshape",
        "calibration",
        "sampleDynamicReshape.cpp",
        CPP2,
        "entropy calibration, with a calibration profile for dynamic shapes, in C++",
    ),
    (
        "samples/sampleSSD",
        "calibration",
        "sampleSSD.cpp",
        CPP2,
        "entropy calibration of a Caffe detector in C++",
    ),
    (
        "samples/sampleUffSSD",
        "calibration",
        "sampleUffSSD.cpp",
        CPP2,
        "entropy calibration of a UFF detector in C++",
    ),
    (
        "samples/sampleUffFasterRCNN",
        "calibration",
        "sampleUffFasterRCNN.cpp",
        r"new Int8EntropyCalibrator2\(",
        "entropy calibration of a UFF detector in C++",
    ),
    (
        "samples/sampleINT8API",
        "own ranges",
        "sampleINT8API.cpp",
        r"->setDynamicRange\($",
        "per-tensor ranges from a file, and layer precisions, in C++",
    ),
    (
        "samples/sampleFasterRCNN",
        "own ranges",
        "sampleFasterRCNN.cpp",
        r"->setDynamicRange\($",
        "per-tensor ranges from a file in C++",
    ),
    (
        "samples/sampleOnnxMNIST",
        "one range",
        "sampleOnnxMNIST.cpp",
        DUMMY,
        "--int8 with one range for every tensor",
    ),
    (
        "samples/sampleOnnxMnistCoordConvAC",
        "one range",
        "sampleOnnxMnistCoordConvAC.cpp",
        DUMMY,
        "--int8 with one range for every tensor, and a plugin",
    ),
    (
        "samples/sampleMNIST",
        "one range",
        "sampleMNIST.cpp",
        DUMMY,
        "--int8 with one range for nearly every tensor",
    ),
    (
        "samples/sampleMNISTAPI",
        "one range",
        "sampleMNISTAPI.cpp",
        DUMMY,
        "--int8 with one range for every tensor",
    ),
    (
        "samples/sampleUffMNIST",
        "one range",
        "sampleUffMNIST.cpp",
        DUMMY,
        "--int8 with one range for every tensor",
    ),
    (
        "samples/sampleUffMaskRCNN",
        "one range",
        "sampleUffMaskRCNN.cpp",
        DUMMY,
        "--int8 with one range for every tensor",
    ),
    (
        "samples/sampleUffPluginV2Ext",
        "one range",
        "sampleUffPluginV2Ext.cpp",
        DUMMY,
        "an INT8 plugin, one range for all",
    ),
    (
        "samples/sampleAlgorithmSelector",
        "one range",
        "sampleAlgorithmSelector.cpp",
        DUMMY,
        "--int8 with one range for every tensor, and tactics fixed by an algorithm selector",
    ),
    (
        "samples/sampleIOFormats",
        "one range",
        "sampleIOFormats.cpp",
        DUMMY,
        "INT8 network input and output, one range for all",
    ),
    (
        "samples/sampleProgressMonitor",
        "one range",
        "sampleProgressMonitor.cpp",
        DUMMY,
        "--int8 with one range for every tensor",
    ),
    (
        "samples/python/int8_caffe_mnist",
        "calibration",
        "calibrator.py",
        TRT.format("Entropy") + "2?|" + TRT.format("Entropy2?"),
        "entropy calibration and its cache, in Python",
    ),
    (
        "samples/python/efficientdet",
        "calibration",
        BUILD,
        r"class \w+\(trt\.IInt8EntropyCalibrator2",
        "entropy calibration in Python",
    ),
    (
        "samples/python/efficientnet",
        "calibration",
        BUILD,
        r"class \w+\(trt\.IInt8EntropyCalibrator2",
        "entropy calibration in Python",
    ),
    (
        "samples/python/tensorflow_object_detection_api",
        "calibration",
        BUILD,
        r"class \w+\(trt\.IInt8EntropyCalibrator2",
        "entropy calibration in Python",
    ),
    (
        "samples/python/detectron2",
        "calibration",
        BUILD,
        r"class \w+\(trt\.IInt8MinMaxCalibrator",
        "min-max calibration in Python",
    ),
    (
        "demo/BERT",
        "calibration",
        "helpers/calibrator.py",
        r"class \w+\(trt\.IInt8LegacyCalibrator",
        "legacy calibration of a transformer built from plugins; with trained ranges too (builder.py)",
    ),
    (
        "tools/Polygraphy/examples/api/04_int8_calibration_in_tensorrt",
        "calibration",
        "example.py",
        r"Calibrator\(",
        "Polygraphy's calibrator from any Python generator",
    ),
    (
        "tools/Polygraphy/examples/cli/convert/01_int8_calibration_in_tensorrt",
        "calibration",
        "README.md",
        r"--calibration-cache",
        "calibration from the command line: polygraphy convert --int8",
    ),
    (
        "quickstart/quantization_tutorial",
        "Q/DQ",
        "qat-ptq-workflow.ipynb",
        r"use_fb_fake_quant = True",
        "Q/DQ by calibration and by training in PyTorch, built with trtexec --int8",
    ),
    (
        "tools/pytorch-quantization",
        "Q/DQ",
        "pytorch_quantization/tensor_quant.py",
        r"class FakeTensorQuantFunction",
        "a library that puts Q/DQ into PyTorch models (superseded by ModelOpt)",
    ),
    (
        "tools/tensorflow-quantization",
        "Q/DQ",
        "README.md",
        r"inserts Q/DQ nodes",
        "a library that puts Q/DQ into Keras models",
    ),
    (
        "demo/Diffusion",
        "Q/DQ",
        "README.md",
        r"INT8.*quantization|quantization.*INT8",
        "INT8 diffusion models, quantized with ModelOpt (AMMO at first)",
    ),
]


def derive(repo: Path) -> dict[str, Any]:
    tags = releases(repo)
    listing = {
        tag: set(git(repo, "ls-tree", "-r", "-d", "--name-only", tag).splitlines()) for tag in tags
    }
    files = {tag: set(git(repo, "ls-tree", "-r", "--name-only", tag).splitlines()) for tag in tags}
    rows = []
    for directory, kind, name, pattern, shows in ROWS:
        file = (
            f"samples/common/{Path(name).name}"
            if name.startswith("../common/")
            else f"{directory}/{name}"
        )
        found = {}
        for tag in tags:
            if file not in files[tag]:
                continue
            numbers = [
                i for i, line in enumerate(lines_of(repo, tag, file), 1) if re.search(pattern, line)
            ]
            if numbers:
                found[tag] = numbers[0]
        if not found:
            raise SystemExit(f"{directory}: no tag holds {pattern!r} in {file}")
        present = [tag for tag in tags if directory in listing[tag]]
        rows.append(
            {
                "directory": directory,
                "kind": kind,
                "shows": shows,
                "file": file,
                "lines": found,
                "without": [tag for tag in present if tag not in found],
            }
        )
    return {"repository": "https://github.com/NVIDIA/TensorRT", "tags": tags, "rows": rows}


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("repository", type=Path)
    parser.add_argument("--write", action="store_true", help="write the table again")
    arguments = parser.parse_args()
    derived = derive(arguments.repository)
    if arguments.write:
        TABLE.write_text(json.dumps(derived, indent=1) + "\n", encoding="utf-8")
        print(f"{TABLE}: {len(derived['rows'])} directories")
        return 0
    committed = json.loads(TABLE.read_text(encoding="utf-8"))
    wrong = [
        new["directory"]
        for new, old in zip(derived["rows"], committed["rows"], strict=False)
        if new != old
    ]
    print("\n".join(wrong) or f"{len(derived['rows'])} directories are as committed")
    return int(derived != committed)


if __name__ == "__main__":
    sys.exit(main())
