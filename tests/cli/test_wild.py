"""Files as they come in the wild, through the command line: read, or refused with words that help."""

from __future__ import annotations

import json
import pickle
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from trtlearn.calibration.cache import read_cache
from trtlearn.calibration.qdq import insert_qdq
from trtlearn.engine.inspector import read_engine
from trtlearn.errors import CacheError, InspectorError, ModelError
from trtlearn.files import plan_in, recognize
from trtlearn.model.read import load_proto

DATA = Path(__file__).parent.parent / "data"
Run = Callable[..., tuple[int, str, str]]


def test_a_cache_with_infinite_scales_is_shown_and_edited(run: Run, tmp_path: Path) -> None:
    file, to = DATA / "mask-inf.cache", tmp_path / "whole.cache"
    status, out, _ = run("cache", "show", file)
    assert status == 0
    assert "2 lines of no use" in out
    status, out, _ = run("cache", "show", file, "--json")
    assert json.loads(out)["unusable"] == {
        "/enc/Where_output_0": "infinite",
        "/enc/Add_output_0": "infinite",
    }
    drop = ("--drop", "/enc/Where_output_0", "--drop", "/enc/Add_output_0")
    assert run("cache", "edit", file, "-o", to, *drop)[0] == 0
    assert len(read_cache(to).scales) == 4


def test_names_of_tensorrt_10_are_not_stale(run: Run) -> None:
    file, model = DATA / "trt10.cache", DATA / "trt10-model.onnx"
    status, out, _ = run("cache", "check", file, model)
    assert status == 0
    assert "0 stale" in out


def test_migrate_leaves_lines_with_infinite_scales_out(run: Run, tmp_path: Path) -> None:
    cache = tmp_path / "a.cache"
    cache.write_text((DATA / "trt10.cache").read_text().replace("3e6c71c3", "7fc00000"))
    command = "trtexec --int8 --calib=a.cache"
    output = tmp_path / "q.onnx"
    status, out, _ = run(
        "migrate", command, DATA / "trt10-model.onnx", "--cache", cache, "-o", output, "--json"
    )
    facts = json.loads(out)
    assert status == 0
    assert facts["stale"] == []
    assert "/m/conv/Conv_output_0" not in facts["kept"]
    assert any("/m/conv/Conv_output_0 (NaN)" in note for note in facts["notes"])


TABLE = {"c": 19.811315536499023, "r": 19.811315536499023}
TABLE |= {"x": 1.0660367012023926, "y": 41.41773223876953}
ENDS = {"x": 5.899421691894531, "n": 19.811315536499023, "c": 33.48225402832031}


@pytest.mark.parametrize(("file", "kind"), [("cache", "table"), ("flatbuffers", "flatbuffers")])
def test_onnx_runtimes_tables_say_that_they_may_be_one_sided(
    run: Run, tmp_path: Path, file: str, kind: str
) -> None:
    if kind == "flatbuffers":
        pytest.importorskip("onnxruntime.quantization.CalTableFlatBuffers")
    to = tmp_path / "a.cache"
    source = ("--from", f"ort-{kind}", "--to", "cache")
    status, out, _ = run("cache", "convert", DATA / f"ort132.{file}", *source, "-o", to)
    assert status == 0
    assert "ort-json" in out
    assert "25621" in out
    ranges = {item.name: item.amax for item in read_cache(to).scales}
    assert ranges == pytest.approx(TABLE)  # n is -0.0: all of it is below 0, its range is lost


def test_onnx_runtimes_json_has_both_ends(run: Run, tmp_path: Path) -> None:
    to = tmp_path / "a.cache"
    source = ("--from", "ort-json", "--to", "cache")
    assert run("cache", "convert", DATA / "ort132.json", *source, "-o", to)[0] == 0
    ranges = {item.name: item.amax for item in read_cache(to).scales}
    assert {name: ranges[name] for name in ENDS} == pytest.approx(ENDS)
    wrapped = tmp_path / "wrapped.json"
    inner = {"x": {"lowest": {"data": -2.0}, "highest": {"data": [[1.0]]}, "CLS": "TensorData"}}
    text = json.dumps({"CLS": "TensorsData", "data": inner, "calibration_method": "MinMax"})
    wrapped.write_text(text)
    assert run("cache", "convert", wrapped, *source, "-o", to)[0] == 0
    assert read_cache(to).entry("x").amax == pytest.approx(2)
    for text in ("[]", "{}", '{"x": 3}x', '{"x": {"lowest": {}}}', '{"x": []}'):
        wrapped.write_text(text)
        status, _, err = run("cache", "convert", wrapped, *source, "-o", to)
        assert status == 2
        assert str(wrapped) in err


def test_a_negative_line_of_a_table_names_file_and_line(run: Run, tmp_path: Path) -> None:
    table = tmp_path / "t.cache"
    table.write_text("a 1.5\nb -0.25\n")
    source = ("--from", "ort-table", "--to", "cache")
    status, _, err = run("cache", "convert", table, *source, "-o", tmp_path / "o")
    assert status == 2
    assert f"{table}: line 2" in err
    status, _, err = run("cache", "show", DATA / "ort132.cache")
    assert status == 2
    assert "--from ort-table" in err


@pytest.mark.parametrize("first", ["TRT-8XXX-EntropyCalibration2\n", "hello\n", "\ufeff", "", "\n"])
def test_the_advised_header_replaces_a_first_line_that_cannot_be_read(
    run: Run, tmp_path: Path, first: str
) -> None:
    file, to = tmp_path / "a.cache", tmp_path / "b.cache"
    file.write_text(f"{first}x: 3f000000\n", encoding="utf-8")
    header = "TRT-8600-EntropyCalibration2"
    status, _, err = run("cache", "edit", file, "-o", to, "--header", header)
    assert (status, err) == (0, "")
    assert read_cache(to).header == header
    assert dict(read_cache(to)) == {"x": 0.5}


def test_what_explain_advises_for_a_foreign_cache_works() -> None:
    from trtlearn.calibration.cache_reading import ignored_by_trtexec

    table = ignored_by_trtexec((DATA / "ort132.cache").read_bytes(), "ort132.cache")
    assert table is not None
    assert "convert ./ort132.cache" in table.fix or "convert ort132.cache" in table.fix


PLAN = b"ptrt" + bytes(64)
METADATA = b'{"task": "detect"}'
ULTRALYTICS = len(METADATA).to_bytes(4, "little") + METADATA
OTHER = {
    "git-lfs": b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 28954452\n",
    "web-page": b"\n\n<!DOCTYPE html>\n<html><head>",
    "torch": b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19.",
    "hdf5": b"\x89HDF\r\n\x1a\n",
    "tflite": b"\x1c\0\0\0TFL3",
    "safetensors": b"\x10\0\0\0\0\0\0\0" + b'{"a": 1}',
    "plan": PLAN,
    "archive": b"\x1f\x8b\x08",
    "numpy": b"\x93NUMPY\x01\0",
    "cache": b"TRT-8600-EntropyCalibration2\n",
    "json": b'{"Layers": []}',
}


@pytest.mark.parametrize("kind", OTHER)
def test_files_that_are_not_what_they_are_called(kind: str) -> None:
    content = OTHER[kind]
    known = recognize(content)
    assert known is not None
    assert known.kind == kind
    with pytest.raises(ModelError, match="no ONNX model") as problem:
        load_proto(content)
    assert known.words in str(problem.value)
    if kind != "cache":
        with pytest.raises(CacheError):
            read_cache(content)
    if kind in ("git-lfs", "web-page"):
        with pytest.raises(InspectorError, match=known.words[:20]):
            read_engine(content)


def test_a_renamed_pt_is_a_pytorch_file(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "m.onnx", "w") as archive:
        archive.writestr("archive/data.pkl", pickle.dumps({"model": 1}))
    with pytest.raises(ModelError, match="PyTorch"):
        load_proto(tmp_path / "m.onnx")


def test_the_plan_behind_ultralytics_metadata() -> None:
    assert recognize(ULTRALYTICS + PLAN) is not None
    assert plan_in(ULTRALYTICS + PLAN) == PLAN
    assert plan_in(PLAN) == PLAN
    with pytest.raises(InspectorError, match="engine plan"):
        read_engine(ULTRALYTICS + PLAN)


def test_json_that_is_no_engine(run: Run) -> None:
    status, out, err = run("inspect", DATA / "trex-metadata.json")
    assert (status, out) == (2, "")
    assert "expected engine layers" in err


@pytest.mark.parametrize("verb", ["inspect", "precision"])
def test_an_engine_of_names_only_says_so(run: Run, verb: str) -> None:
    status, out, err = run(verb, DATA / "names-only.json")
    assert (status, err) == (0, "")
    assert "--profilingVerbosity=detailed, which acts at the build only" in out
    assert "unknown" in out


def test_reasons_that_cannot_be(run: Run) -> None:
    status, out, err = run("precision", DATA / "plugin-and-cast.json", "--json")
    assert status == 0
    assert "UserWarning" not in err
    facts = json.loads(out)
    codes = {row["name"]: row["code"] for row in facts["layers"]}
    assert codes["nms"] == "plugin"
    assert codes["/Cast"] == codes["y"] == "integers"
    assert codes["Q + copy"] == "quantizes"
    assert not any("faster" in row["reason"] for row in facts["layers"])


@pytest.mark.parametrize("name", ["layers.log", "oneline.log"])
def test_layers_in_a_log_are_read(run: Run, name: str) -> None:
    status, out, _ = run("inspect", DATA / name, "--json")
    assert status == 0
    layers = json.loads(out)["layers"]
    status, out, _ = run("log", DATA / name, "--json")
    assert json.loads(out)["layers"] == layers
    if name == "layers.log":
        types = [(layer["name"], layer["input_dtypes"], layer["output_dtypes"]) for layer in layers]
        assert types[1:] == [("conv1 + relu1", ["int8"], ["int8"]), ("conv2", ["int8"], ["fp32"])]
        assert layers[0]["is_reformat"]
    else:
        assert layers[0]["onnx_nodes"] == ["Sub"]


def test_log_decodes_and_names_the_failing_layer(run: Run, tmp_path: Path) -> None:
    log = tmp_path / "build.log"
    words = "Error Code 10: Internal Error (Could not find any implementation for node c1 + r1.)"
    log.write_text(
        "&&&& RUNNING TensorRT.trtexec [TensorRT v8601] # trtexec --int8\n"
        "[TRT] [W] Missing scale and zero-point for tensor a, expect fall back to non-int8\n"
        f"[TRT] [E] 10: [optimizer.cpp::computeCosts::3728] {words}\n"
        "[V] INT8 Inference Tensor scales and zero-points: b scale and zero-point "
        "Quantization(scale: {0.5,}, zero-point: {0,})\n"
    )
    status, out, _ = run("log", log, "--json")
    facts = json.loads(out)
    assert status == 0
    assert facts["failing_layer"] == "c1 + r1"
    assert [message["code"] for message in facts["messages"]] == [
        "no-implementation",
        "missing-scale",
    ]
    assert facts["messages"][1]["names"] == ["a"]
    assert facts["scales"][0]["scale"] == 0.5
    assert facts["tensorrt"] == "8601"
    status, out, _ = run("log", log)
    assert "what to do" in out
    log.write_bytes(log.read_text().encode("utf-16"))
    assert "c1 + r1" in run("log", log)[1]
    log.write_bytes(bytes(100))
    assert run("log", log)[0] == 2


REFUSED = {
    "int32bias": ("bdq", "INT32", "QuantizeBias=False"),
    "qlinearconv": ("qlc", "no importer", "QDQ"),
    "uint8_zp128": ("xd_Q", "zero point is 128", "QInt8"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_quantization_that_the_parser_refuses(run: Run, tmp_path: Path, name: str) -> None:
    model, (node, why, cure) = DATA / f"{name}.onnx", REFUSED[name]
    status, out, _ = run("explain", f"trtexec --onnx={model} --int8", "--trt", "10.3", "--json")
    facts = json.loads(out)
    assert status == 0
    assert "will not build" in facts["warnings"][0]
    assert node in facts["warnings"][0]
    assert why in facts["warnings"][0]
    assert any(cure in advice for advice in facts["advice"])
    assert "no engine is built" in facts["accuracy"]
    command, cache = "trtexec --int8 --calib=c", DATA / "mask-inf.cache"
    status, _, err = run("migrate", command, model, "--cache", cache, "-o", tmp_path / "q.onnx")
    assert status == 2
    assert node in err
    with pytest.raises(ModelError, match=node):
        insert_qdq(model, {"x": 0.1})


def test_tensorrts_own_qdq_operators_are_qdq(run: Run, tmp_path: Path) -> None:
    model = DATA / "trt_fp8.onnx"
    status, out, _ = run("explain", f"trtexec --onnx={model} --int8", "--trt", "10.3", "--json")
    facts = json.loads(out)
    assert (status, facts["mode"], facts["has_qdq"]) == (0, "explicit-qdq", True)
    assert any("ONNX Runtime cannot run" in warning for warning in facts["warnings"])
    command, cache = "trtexec --int8 --calib=c", DATA / "mask-inf.cache"
    status, _, err = run("migrate", command, model, "--cache", cache, "-o", tmp_path / "q.onnx")
    assert status == 2
    assert "explicit-qdq" in err


def test_a_plugin_in_onnxs_domain_is_no_hindrance(run: Run, tmp_path: Path) -> None:
    to = tmp_path / "q.onnx"
    command = "trtexec --int8 --calib=nms12.cache"
    status, _, err = run(
        "migrate", command, DATA / "nms12.onnx", "--cache", DATA / "nms12.cache", "-o", to
    )
    assert (status, err) == (0, "")
    proto = load_proto(to)
    assert [node.domain for node in proto.graph.node if node.op_type == "EfficientNMS_TRT"] == [""]
    assert [item.version for item in proto.opset_import if item.domain == ""] == [13]


# (version as people write it, what explain says)
SHIPPED = [
    ("jetpack 7.2.2", "JetPack 7.2.2 can have TensorRT 11.4.1"),
    ("jetpack 6.2", "JetPack 6.2 has TensorRT 10.3.0"),
    ("JetPack 8.1", "could not be checked"),
    ("L4T R39.2", "L4T 39.2 has TensorRT 10.16.2"),
    ("r36.5", "L4T 36.5 has TensorRT 10.3.0; that could not be checked"),
    ("nvcr.io/nvidia/tensorrt:24.08-py3", "container 24.08 has TensorRT 10.3.0"),
    ("24.06-py3-igpu", "container 24.06 has TensorRT 10.1.0; that could not be checked"),
    (
        "nvcr.io/nvidia/tritonserver:25.09-trtllm-python-py3",
        "TensorRT-LLM 25.09 has TensorRT 10.11",
    ),
    ("26.10-py3", "could not be checked"),
    ("11.3", "11.3's release notes name no change of trtexec"),
    ("11.4.1", "moved to samples/trtexecCommon"),
    ("11.5", "11.5's release notes add --independentWeightLayouts"),
]


@pytest.mark.parametrize(("asked", "words"), SHIPPED)
def test_what_a_version_is_known_from(run: Run, asked: str, words: str) -> None:
    status, out, _ = run("explain", "trtexec --onnx=m.onnx", "--trt", asked, "--json")
    assert status == 0
    assert any(words in warning for warning in json.loads(out)["warnings"])


@pytest.mark.parametrize("asked", ["jetpack 4.5", "JP4.4", "L4T 32.5", "7.1.3", "7103"])
def test_a_version_older_than_all_says_so(run: Run, asked: str) -> None:
    status, _, err = run("explain", "trtexec --int8", "--trt", asked)
    assert status == 2
    assert "older than 8.0" in err
    assert "--trt 8.0" in err


SHAPES = "--minShapes=x:1x3 --optShapes=x:1x3 --maxShapes=x:"
# (options, TensorRT, what the answer says, what it does not say)
ANSWERS = [
    ("--fp8", "10.13", "#4590", ""),
    ("--int4", "10.3", "quantizes nothing", ""),
    ("--fp8 --int8 --stronglyTyped", "10.16", "quantizes nothing", ""),
    ("--fp16", "10.13", "", "#4590"),
    ("--fp4", "10.13", "no flag for FP4", "--fp8 is"),
    ("--nvfp4", "11.1", "FP4 Q/DQ nodes", ""),
    ("--calibCache=c", "8.6", "--calib=FILE", ""),
    ("--FP16", "8.6", "--fp16 is", ""),
    ("--workspace=4096", "10.3", "write --memPoolSize=workspace:4096", ""),
    ("--workspace=4096", "8.6", "no INT8", "gone in this version"),
    ("--minTiming=2", "10.0", "write --avgTiming=2", ""),
    ("--buildOnly", "11.0", "write --skipInference", ""),
    ("--explicitBatch --fp16", "10.3", "leave it out, every network", ""),
    ("--nvtxMode=verbose", "10.3", "--profilingVerbosity=detailed", ""),
    ("--int8=my.cache", "8.6", "write --int8 --calib=my.cache", ""),
    ("--useDLACore=0", "11.2", "has no DLA", "times the engine"),
    ("--useDLACore=1 --allowGPUFallback", "11.4.1", "AGX Orin with JetPack 7.2.2", "no DLA cores"),
    ("--useDLACore=0", "10.3", "sets FP16", "11.4.1"),
    ("--useDLACore=0 --int8", "10.3", "#3531", ""),
    ("--useDLACore=-1 --int8", "10.3", "no DLA core", "#3531"),
    (f"--useDLACore=0 {SHAPES}4x3", "8.6", "takes no dynamic shapes", ""),
    (f"--useDLACore=0 {SHAPES}1x3", "8.6", "sets FP16", "dynamic shapes"),
    ("", "11.0", "by a CUDA graph", "only warn"),
    ("--useCudaGraph --noDataTransfers", "11.1", "only warn from 11.0 on", ""),
    ("--loadEngine=m.plan --useSpinWait", "11.1", "only warn from 11.0 on", ""),
    ("--skipInference", "11.1", "", "by a CUDA graph"),
    ("--useCudaGraph", "10.16", "", "CUDA graph"),
    ("--layerPrecisions=a*b*:fp16 --precisionConstraints=obey", "10.3", "takes the second", ""),
    (
        "--layerPrecisions=a*b*:fp16 --precisionConstraints=obey",
        "8.6",
        "matches no layer",
        "second",
    ),
    ("--layerPrecisions=*:fp32,a*:fp16 --precisionConstraints=obey", "9.1", "hash table", ""),
    ("--layerPrecisions=a*:fp16 --layerOutputTypes=b*:fp16", "10.3", "", "hash table"),
    ("--preview=+fasterDynamicShapes0805", "10.3", "Unknown preview feature", ""),
    ("--preview=+fasterDynamicShapes0805", "8.5", "", "Unknown"),
    ("--preview=+profileSharing0806", "8.5", "Unknown preview feature", ""),
    ("--tacticSources=-CUDNN", "11.0", "Unknown tactic source: CUDNN", ""),
    ("--tacticSources=+EDGE_MASK_CONVOLUTIONS", "8.2", "Unknown tactic source", ""),
    ("--memPoolSize=tacticSharedMem:1", "8.6", "Unknown memory pool", ""),
    ("--memPoolSize=tacticSharedMem:1", "10.0", "", "Unknown"),
    ("--hardwareCompatibilityLevel=sameComputeCapability", "10.3", "Unknown hardware", ""),
    ("--hardwareCompatibilityLevel=sameComputeCapability", "10.9", "", "Unknown"),
    ("--profilingVerbosity=DETAILED", "8.6", "Unknown profilingVerbosity: DETAILED", ""),
    ("--useRuntime=leaner", "10.3", "Unknown useRuntime: leaner", ""),
    ("--runtimePlatform=windows", "10.3", "Unknown runtime platform", ""),
    ("--allocationStrategy=dynamic", "10.13", "Unknown allocationStrategy", ""),
    ("--saveEngineSo=a --safe", "11.5", "no INT8 quantization", "Unknown option"),
]


@pytest.mark.parametrize(("options", "trt", "words", "absent"), ANSWERS)
def test_what_explain_says(run: Run, options: str, trt: str, words: str, absent: str) -> None:
    status, out, _ = run("explain", f"trtexec --onnx=m.onnx {options}", "--trt", trt)
    text = " ".join(out.split())
    assert status == 0
    assert words in text
    assert not absent or absent not in text


def test_a_migrated_command_leaves_unknown_words_out() -> None:
    from trtlearn.trtexec.migration import modern_command

    command, notes = modern_command(
        "trtexec --int8 --calib=c --tacticSources=-CUDNN,+JIT_CONVOLUTIONS "
        "--preview=+profileSharing0806",
        "q.onnx",
    )
    assert command == "trtexec --onnx=q.onnx --tacticSources=+JIT_CONVOLUTIONS"
    assert any("-CUDNN is left out" in note for note in notes)


@pytest.mark.parametrize("name", REFUSED)
def test_try_int8_refuses_what_the_parser_refuses(name: str) -> None:
    import numpy as np

    import trtlearn as tl

    with pytest.raises(ModelError, match=REFUSED[name][0]):
        tl.try_int8(DATA / f"{name}.onnx", np.zeros((8, 3, 8, 8), np.float32))


MISSING = "Missing scale and zero-point for tensor a, expect fall back to non-int8 implementation"
STALE = (
    "Error Code 1: Serialization (Serialization assertion magicTag == rt::kPLAN_MAGIC_TAG failed.)"
)
GST = "nvinfer gstnvinfer.cpp:681:gst_nvinfer_logger:<primary_gie> NvDsInferContext[UID 1]: "
# What host programs print before TensorRT's words: as in public reports, with the time changed.
WARNINGS = [
    "2023-08-21 16:33:00.127300669 [W:onnxruntime:Default, tensorrt_execution_provider.h:75 log] "
    "[2023-08-21 14:33:00 WARNING] ",  # microsoft/onnxruntime#17235
    "[W:onnxruntime:Default, tensorrt_execution_provider.h:53 onnxruntime::TensorrtLogger::log] "
    "[2021-12-08 16:53:27   WARNING] ",  # neuralchen/SimSwap#173
    "> [05/26/2023-07:53:50] [TRT] [W] ",
    "12/04/2025-19:04:21] [TRT] [W] ",  # ultralytics#22877
    "2022-09-08 17:36:02,762 - mmdeploy - WARNING - ",  # NVIDIA/TensorRT#2311
    "[2024-07-26 15:04:00.553] [warning] [ main ] ",  # Lidar_AI_Solution#271
    "0:00:00.201818454   603 0x593cf8dffe60 WARN                 "
    f"{GST}Warning from NvDsInferContextImpl::buildModel() <a.cpp:2080> [UID = 1]: ",
    "WARNING: [TRT]: ",  # DeepStream-Yolo#603
    "[WARNING  | TRT-LLM            ]: ",  # TensorRT-LLM#2855
    "[INFO     | TRT-LLM            ]: [TRT-LLM] [W] ",
    "W1021 00:03:42.198331 226 logging.cc:46] ",  # Triton
    "[TensorRT] WARNING: ",
    "WARNING: [Torch-TensorRT TorchScript Conversion Context] - ",
    "[component-1] [WARN] [1700000000.123] [node]: [TRT] ",
    "2025-06-01T10:00:00.123456Z stderr F [06/01/2025-10:00:00] [W] [TRT] ",
    "Jun 01 10:00:00 orin trtexec[123]: [06/01/2025-10:00:00] [W] [TRT] ",
    "TensorRT: WARNING ⚠️ ",
    "W TRT: ",
    "[component_container-1] 2022-03-02 05:05:00.037 WARN  "
    "gxf/tensor_rt/tensor_rt_inference.cpp@151: TRT WARNING: ",  # Isaac ROS
    "2018-10-02 17:56:40.780078: W tensorflow/compiler/tf2tensorrt/utils/trt_logger.cc:34] "
    "DefaultLogger ",
    "[16:33:00] /workspace/src/runtime/contrib/tensorrt/tensorrt_logger.h:62: WARNING: ",  # TVM
    "2024-07-26 15:04:00.553 | WARNING  | module.build:func:123 - [TRT] ",  # loguru
    "[2023-08-26 10:00:00] frigate.detectors.plugins.tensorrt WARNING : ",
    "2025-06-01T10:00:00.123456+02:00 orin trtexec[123]: [06/01/2025-10:00:00] [W] [TRT] ",
    "[pod/trt-0/trt] [06/01/2025-10:00:00] [W] [TRT] ",  # kubectl logs --prefix
    "#12 3.456 [05/01/2024-10:00:00] [W] [TRT] ",  # docker build
    "[2023-02-10 15:25:35][warn][trt_builder.cpp:30]:NVInfer WARNING: ",
    "2023-11-06 11:57:39,123 [TAO Toolkit] [WARNING] root: ",
    "[ WARN] [1654123456.123456789]: [TRT] ",  # ROS 1
    "[38;5;11m[W] ",  # colours without their escape
    "12:[05/01/2024-10:00:00] [W] [TRT] ",  # grep -n
    "[10:00:00] [W] [TRT] ",
]
ERRORS = [
    "\x1b[1;31m2025-03-01 10:00:00.123 [E:onnxruntime:Default, tensorrt_execution_provider.h:88 log] "
    "[2025-03-01 10:00:00   ERROR] ",
    'triton-models-1  | E0625 13:46:36.561897 1 logging.cc:40] "',
    "[stdbuf-1] [NVINFER LOG]: ",  # Lidar_AI_Solution#271
    "Error: [TRT] [E] ",  # ComfyUI-Depth-Anything-Tensorrt#2
    "ERROR: [TRT]: ",
    "[TensorRT-LLM][ERROR] ",
    "0:00:08.701327807 12280      0x16b5800 ERROR                "
    f"{GST}Error in NvDsInferContextImpl::buildModel() <nvdsinfer_context_impl.cpp:1934> [UID = 1]: ",
    "[!] ",
    "TensorRT: ERROR ❌️ ",
]


@pytest.mark.parametrize("prefix", [*WARNINGS, *ERRORS])
def test_what_host_programs_print_before_tensorrts_words(
    run: Run, tmp_path: Path, prefix: str
) -> None:
    text, severity = (MISSING, "warning") if prefix in WARNINGS else (STALE, "error")
    log = tmp_path / "a.log"
    log.write_text(prefix + text + '"' * prefix.endswith('"') + "\n", encoding="utf-8")
    status, out, _ = run("log", log, "--json")
    (message,) = json.loads(out)["messages"]
    assert status == 0
    assert (message["severity"], message["text"]) == (severity, text)
    assert message["code"] in ("missing-scale", "plan-version")


def test_log_lines_that_a_web_page_joined(run: Run, tmp_path: Path) -> None:
    log = tmp_path / "a.log"
    start = "[07/25/2024-09:30:30] [TRT] [W] "
    log.write_text(f"{start}{MISSING} {start}{MISSING.replace('tensor a', 'tensor b')}\n")
    (message,) = json.loads(run("log", log, "--json")[1])["messages"]
    assert (message["names"], message["count"]) == (["a", "b"], 2)


# (operator, domain): quantized, in a way that TensorRT has no importer for
FOREIGN_OPERATORS = [
    ("QLinearAdd", "com.microsoft"),  # ONNX Runtime's QOperator format
    ("QAttention", "com.microsoft"),
    ("MatMulNBits", "com.microsoft"),  # ONNX Runtime's 4-bit weights
    ("DynamicQuantizeLSTM", "com.microsoft"),
    ("VitisQuantizeLinear", "com.vai.quantize"),
    ("Quant", "onnx.brevitas"),  # Brevitas, QONNX
    ("FakeQuantize", "org.openvinotoolkit"),
]


@pytest.mark.parametrize(("operator", "domain"), FOREIGN_OPERATORS)
def test_quantized_under_other_names(run: Run, tmp_path: Path, operator: str, domain: str) -> None:
    from onnx import TensorProto, helper

    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, 4]) for name in "xy"]
    node = helper.make_node(operator, ["x"], ["y"], name="q1", domain=domain)
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid(domain, 1)]
    graph = helper.make_graph([node], "g", ends[:1], ends[1:])
    model = tmp_path / "m.onnx"
    model.write_bytes(helper.make_model(graph, opset_imports=opsets).SerializeToString())
    status, out, _ = run("explain", f"trtexec --onnx={model} --int8", "--trt", "10.3", "--json")
    assert status == 0
    assert "'q1'" in json.loads(out)["warnings"][0]
    command, cache = "trtexec --int8 --calib=c", DATA / "mask-inf.cache"
    status, _, err = run("migrate", command, model, "--cache", cache, "-o", tmp_path / "q.onnx")
    assert (status, "q1" in err) == (2, True)


@pytest.mark.parametrize(
    ("text", "version"),
    [
        ("docker run nvcr.io/nvidia/tensorrt:24.08-py3 trtexec --onnx=m.onnx --int8", "10.3.0"),
        (
            "docker run nvcr.io/nvidia/tritonserver:25.11-trtllm-python-py3 trtexec --int8",
            "10.13.3",
        ),
        ("&&&& FAILED TensorRT.trtexec [TensorRT v8502] # trtexec --onnx=m.onnx --int8", "8.5.2"),
        ("docker run ubuntu:22.04 trtexec --onnx=m.onnx --int8", "8.6"),
    ],
)
def test_the_version_that_the_text_itself_names(run: Run, text: str, version: str) -> None:
    status, out, _ = run("explain", text, "--json")
    assert status == 0
    assert json.loads(out)["version"] == version


# (a pasted line, its code, a word of the cure): reports of 2024 to 2026 and their siblings
FLAG = "AttributeError: type object 'tensorrt_bindings.tensorrt."
PASTED = [
    (f"{FLAG}BuilderFlag' has no attribute 'FP16'", "removed-int8-api", "<11"),  # Rife-Tensorrt#25
    (f"{FLAG}BuilderFlag' has no attribute 'INT8'", "removed-int8-api", "<11"),
    (
        "ERROR ❌ TensorRT: export failure 5.5s: module 'tensorrt' has no attribute 'IInt8Calibrator'",
        "removed-int8-api",
        "<11",
    ),  # ultralytics#24729
    (
        "AttributeError: module 'tensorrt' has no attribute 'CalibrationAlgoType'",
        "removed-int8-api",
        "<11",
    ),  # wyoming-whisper-trt#1020
    (
        f"{FLAG}NetworkDefinitionCreationFlag' has no attribute 'EXPLICIT_BATCH'",
        "explicit-batch-gone",
        "without it",
    ),  # lightly-train#935
    (
        "[E] IBuilder::buildSerializedNetwork: Error Code 4: Internal Error "
        "(checkSanity.cpp::checkLinks::218. Assertion item.second != nullptr failed.)",
        "check-links",
        "10.7",
    ),  # NVIDIA/TensorRT#4797
    (
        "[E] Error[9]: IBuilder::buildSerializedNetwork: Error Code 9: API Usage Error "
        "(Networks with FP8 Q/DQ layers require hardware with FP8 support.)",
        "hardware-lacks-type",
        "INT8",
    ),  # Model-Optimizer#70
    (
        "Error Code 9: [type.cpp:186: infer_type] Could not infer output types for operation: "
        "291: dequantize: Dequantized input0",
        "myelin-dequantize",
        "nodes_to_exclude",
    ),  # #4832
    (
        "[E] Error: MyelinCheckException: gvn.cpp:318: CHECK(graph().ssa_validation()) failed.",
        "myelin-fault",
        "later",
    ),  # NVIDIA/TensorRT#4468
    (
        "[E] Error[1]: [executionContext.cpp::executeInternal::966] Error Code 1: Cuda Runtime "
        "(an illegal memory access was encountered)",
        "illegal-memory",
        "explain",
    ),  # #4092
    (
        "[E] Error[2]: [weightConvertors.cpp::quantizeBiasCommon::310] Error Code 2: Internal Error "
        "(Assertion getter(i) != 0 failed. )",
        "zero-scale",
        "cache show",
    ),  # #2984
    (
        "[E] Error[2]: [weightConvertors.cpp::computeStaticKernelScales::440] Error Code 2: Internal "
        "Error (Assertion x failed. )",
        "kernel-scales",
        "8.6",
    ),  # #2961
    (
        "[TensorRT] ERROR: Misc Error in createRegionScalesFromTensorScales: -1 (Could not find scales "
        "for tensor softmax0 copy.)",
        "missing-scale",
        "range",
    ),
    (
        "[12/04/2025-19:04:21] [TRT] [E] Error Code 10: Internal Error (Could not find any "
        "implementation for node /model/model.0/conv/Conv.)",
        "no-implementation",
        "",
    ),  # #22877
    (
        "WARNING: [TRT]: Calibration Profile is not defined. Calibrating with Profile 0",
        "no-calibration-profile",
        "",
    ),  # DeepStream-Yolo#603
    (
        "[W] Int8 Calibration is using randomly generated input data.",
        "random-calibration",
        "--data",
    ),
    (
        "[W] [TRT] Layer 'conv1' (CONVOLUTION): Unsupported on DLA. Switching this layer's device type "
        "to GPU.",
        "dla-fallback",
        "DLA",
    ),
    ("[E] Cannot create DLA engine, 0 not available", "dla-missing", "--useDLACore"),
    (
        "[E] Error Code 4: API Usage Error (Int8 precision has been set for a layer or layer output, "
        "but int8 is not configured in the builder)",
        "int8-not-allowed",
        "--int8",
    ),
    (
        "[TRT] [W] Running layernorm after self-attention in FP16 may cause overflow.",
        "layernorm-fp16",
        "opset 17",
    ),
    ("ModuleNotFoundError: No module named 'tensorrt'", "no-tensorrt", "--system-site-packages"),
    (
        "ImportError: libnvinfer.so.10: cannot open shared object file: No such file or directory",
        "library-missing",
        "version",
    ),
    (
        "[E] A module that was compiled using NumPy 1.x cannot be run in NumPy 2.0.2 as it may crash.",
        "numpy-abi",
        "numpy<2",
    ),
    (
        "[TRT] [E] ICudaEngine::createExecutionContext: Error Code 2: OutOfMemory (Requested size was "
        "123 bytes.)",
        "out-of-memory",
        "batch",
    ),
]


@pytest.mark.parametrize(("line", "code", "cure"), PASTED)
def test_pasted_errors_have_a_cure(
    run: Run, tmp_path: Path, line: str, code: str, cure: str
) -> None:
    log = tmp_path / "a.log"
    log.write_text(line + "\n", encoding="utf-8")
    status, out, _ = run("log", log, "--json")
    facts = json.loads(out)
    assert status == 0
    assert [message["code"] for message in facts["messages"]] == [code]
    assert cure in facts["messages"][0]["fix"]
    assert facts["failing_layer"] in (None, "/model/model.0/conv/Conv")


def test_orins_dla_takes_zero_points_by_an_option_of_its_own(run: Run) -> None:
    command = f"trtexec --onnx={DATA / 'uint8_zp128.onnx'} --int8 --useDLACore=0"
    flag = " --uint8AsymmetricQuantizationDLA"
    asked = ("--trt", "10.16")
    assert "will not build" in run("explain", command, *asked)[1]
    text = " ".join(run("explain", command + flag, *asked)[1].split())
    assert "will not build" not in text
    assert "Orin's DLA only" in text
    alone = run("explain", command.replace("--useDLACore=0", "") + flag, *asked)[1]
    assert "not supported without DLA" in alone
