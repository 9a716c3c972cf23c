"""Migration: the cache's scales bit for bit in the new model, its answers those of the implicit
build, odd models.
"""

from __future__ import annotations

import json
import struct
import subprocess
import sys

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from trtlearn.calibration.cache import new_cache, read_cache
from trtlearn.calibration.edit import from_ranges_json
from trtlearn.errors import CacheError, CommandError, ModelError
from trtlearn.model.course_data import load_images, model_path
from trtlearn.model.read import load_proto
from trtlearn.recorded.files import folder_with, load_build
from trtlearn.recorded.tradeoffs import tradeoff
from trtlearn.trtexec.command import parse_trtexec
from trtlearn.trtexec.migration import MigrationReport, migrate, modern_command

ort = pytest.importorskip("onnxruntime")
COMMAND = "trtexec --onnx=m.onnx --int8 --calib=c.cache"
RECORDED = folder_with("resnet")


def session(path):
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    return ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


def pairs(path) -> dict[str, bytes]:
    """Tensor -> the bits of its per-tensor scale, from the file itself."""
    proto = onnx.load(str(path))
    stored = {item.name: numpy_helper.to_array(item) for item in proto.graph.initializer}
    found = {}
    for node in proto.graph.node:
        if node.op_type == "QuantizeLinear" and node.input[0] not in stored:
            assert stored[node.input[1]].dtype == np.float32
            assert not stored[node.input[2]].any(), "symmetric: the zero point is 0"
            found[node.input[0]] = struct.pack(">f", stored[node.input[1]])
    return found


@pytest.mark.parametrize("algorithm", ["minmax", "legacy", "entropy2", "random"])
@pytest.mark.parametrize("model", ["resnet", "mobile"])
def test_the_courses_models_keep_scales_and_accuracy(model, algorithm, tmp_path):
    cache = read_cache(RECORDED / model / f"int8-{algorithm}.cache")
    report = migrate(COMMAND, model_path(model), cache, tmp_path / "out.onnx")
    bits = {entry.name: bytes.fromhex(entry.hex.zfill(8)) for entry in cache.scales}
    sources = {s.tensor: s.scale_of or s.tensor for s in report.qdq.sites if s.kind == "activation"}
    written = pairs(tmp_path / "out.onnx")
    assert set(written) == set(sources)
    assert all(value == bits[sources[name]] for name, value in written.items())
    assert not report.stale
    assert {row["tensor"]: row["scale"] for row in report.rows()} == dict(
        cache
    )  # whatever became of each
    assert not report.qdq.float_nodes
    images, labels = load_images("test")
    classes = session(tmp_path / "out.onnx").run(None, {"image": images})[0].argmax(1)
    points = tradeoff(f"points-{model}").select(model, batch=8)
    (implicit,) = [point for point in points if point.variant == f"int8-{algorithm}"]
    assert (
        implicit.int8_layers == {"resnet": 9, "mobile": 16}[model]
    )  # an engine that left none of them in FP32
    assert abs((classes == labels).mean() - implicit.accuracy) <= 0.002
    recorded = load_build(RECORDED / model / f"int8-{algorithm}.json.gz")
    if (
        sum(layer.weight_dtype == "int8" for layer in recorded.engine.layers)
        == implicit.int8_layers
    ):
        same = (classes == np.array(recorded.predictions.classes)).mean()
        assert same > 0.98, "not only as many right: the same answers"


@pytest.mark.parametrize("int8_weights", [False, True])
@pytest.mark.parametrize("model", ["resnet", "mobile"])
def test_the_modern_builder_takes_it(model, int8_weights, tmp_path, monkeypatch):
    pytest.importorskip("tensorrt_rtx_bindings")
    from trtlearn.engine.records import BuildOptions
    from trtlearn.live.build import build_engine

    monkeypatch.setenv("TRTLEARN_TENSORRT", "tensorrt_rtx_bindings")
    cache = RECORDED / model / "int8-minmax.cache"
    migrate(COMMAND, model_path(model), cache, tmp_path / "out.onnx", int8_weights)
    options = BuildOptions(int8=True, ranges="qdq")
    with pytest.warns(DeprecationWarning, match="Timing cache"):
        built = build_engine(tmp_path / "out.onnx", options, compute_capability="8.9")
    assert len(built.plan) > 10_000


rng = np.random.default_rng(0)


def tensor(name, shape):
    return numpy_helper.from_array(rng.normal(size=shape).astype(np.float32), name)


def odd_model(opset: int) -> onnx.ModelProto:
    """Shared weights, BatchNorm, MaxPool, Concat, ConvTranspose, MatMul with turned weights;
    unnamed nodes.
    """
    norm = [tensor(f"bn_{name}", (4,)) for name in ("gain", "offset", "mean")]
    norm.append(numpy_helper.from_array(rng.uniform(0.5, 2, 4).astype(np.float32), "bn_variance"))
    nodes = [
        helper.make_node("Conv", ["image", "w"], ["a"], pads=[1, 1, 1, 1]),
        helper.make_node("BatchNormalization", ["a", *(item.name for item in norm)], ["b"]),
        helper.make_node("Relu", ["b"], ["c"]),
        helper.make_node("MaxPool", ["c"], ["d"], kernel_shape=[2, 2], strides=[2, 2]),
        helper.make_node("Conv", ["d", "shared"], ["e"], pads=[1, 1, 1, 1]),
        helper.make_node("Conv", ["e", "shared"], ["f"], pads=[1, 1, 1, 1]),
        helper.make_node("Concat", ["e", "f"], ["g"], axis=1),
        helper.make_node("ConvTranspose", ["g", "up"], ["h"], strides=[2, 2], group=2),
        helper.make_node("Transpose", ["fc_turned"], ["fc"], perm=[1, 0]),
        helper.make_node("GlobalAveragePool", ["h"], ["mean"]),
        helper.make_node("Flatten", ["mean"], ["flat"]),
        helper.make_node("MatMul", ["flat", "fc"], ["logits"]),
    ]
    weights = [tensor("w", (4, 3, 3, 3)), tensor("shared", (4, 4, 3, 3)), *norm]
    weights += [tensor("up", (8, 3, 2, 2)), tensor("fc_turned", (10, 6))]
    inputs = [helper.make_tensor_value_info("image", TensorProto.FLOAT, [2, 3, 8, 8])]
    if opset < 10:  # as older exporters wrote it: every weight is an input too
        inputs += [
            helper.make_tensor_value_info(w.name, TensorProto.FLOAT, list(w.dims)) for w in weights
        ]
    output = helper.make_tensor_value_info("logits", TensorProto.FLOAT, [2, 10])
    graph = helper.make_graph(nodes, "odd", inputs, [output], weights)
    version = 3 if opset < 10 else 8
    return helper.make_model(
        graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=version
    )


def minmax(model: onnx.ModelProto, image: np.ndarray) -> dict[str, float]:
    from trtlearn.model.run import activations

    values = next(iter(activations(model, [{"image": image}])))
    return {name: float(np.abs(value).max()) for name, value in values.items()}


def cache_of(amax: dict[str, float]):
    return from_ranges_json(json.dumps(amax))


@pytest.mark.parametrize("int8_weights", [False, True])
@pytest.mark.parametrize("opset", [9, 11, 13, 17])
def test_a_model_of_odd_parts(opset, int8_weights, tmp_path):
    model, image = odd_model(opset), rng.normal(size=(2, 3, 8, 8)).astype(np.float32)
    onnx.save(model, str(tmp_path / "m.onnx"))
    cache = cache_of(minmax(model, image))
    report = migrate(COMMAND, tmp_path / "m.onnx", cache, tmp_path / "out.onnx", int8_weights)
    assert not report.qdq.float_nodes
    assert len(report.qdq.quantized_nodes) == 5
    written = pairs(tmp_path / "out.onnx")
    assert set(written) == {"image", "d", "e", "g", "h", "flat"}
    assert all(struct.unpack(">f", bits)[0] == cache[name] for name, bits in written.items())
    before = session(tmp_path / "m.onnx").run(None, {"image": image})[0]
    after = session(tmp_path / "out.onnx").run(None, {"image": image})[0]
    assert 0 < np.linalg.norm(after - before) / np.linalg.norm(before) < 0.05
    assert not any(
        node.op_type == "BatchNormalization" for node in onnx.load(tmp_path / "out.onnx").graph.node
    )


def test_a_shared_scale_and_a_scale_of_zero(tmp_path):
    model, image = odd_model(13), rng.normal(size=(2, 3, 8, 8)).astype(np.float32)
    amax = minmax(model, image)
    onnx.save(model, str(tmp_path / "m.onnx"))
    del amax["d"]  # a MaxPool's output takes its input's scale
    amax["e"] = 0.0
    report = migrate(COMMAND, tmp_path / "m.onnx", cache_of(amax), tmp_path / "out.onnx")
    assert report.zero == ("e",)
    assert report.qdq.float_nodes == {"f": "no scale for e"}
    assert any("left in floating point: f" in note for note in report.notes)
    assert report.kept["c"] == np.float32(amax["c"] / 127)
    written = pairs(tmp_path / "out.onnx")
    assert struct.unpack(">f", written["d"])[0] == report.kept["c"]
    assert "e" not in written


def test_the_layers_that_were_kept_out_stay_out(tmp_path):
    command = COMMAND + " --precisionConstraints=obey --layerPrecisions=b0_conv1:fp32,logits:fp16"
    cache = RECORDED / "resnet" / "int8-minmax.cache"
    report = migrate(command, model_path("resnet"), cache, tmp_path / "o.onnx")
    assert report.qdq.float_nodes == dict.fromkeys(("b0_conv1", "logits"), "left out on request")
    ignored = COMMAND + " --layerPrecisions=b0_conv1:fp32"  # without constraints trtexec ignores it
    assert not migrate(ignored, model_path("resnet"), cache, tmp_path / "o.onnx").qdq.float_nodes


def test_weights_in_a_file_of_their_own(tmp_path):
    proto = load_proto(model_path("resnet"))
    source = tmp_path / "in"
    source.mkdir()
    onnx.save_model(
        proto,
        str(source / "m.onnx"),
        save_as_external_data=True,
        location="w.bin",
        size_threshold=0,
    )
    migrate(
        COMMAND, source / "m.onnx", RECORDED / "resnet" / "int8-minmax.cache", tmp_path / "out.onnx"
    )
    migrate(
        COMMAND,
        model_path("resnet"),
        RECORDED / "resnet" / "int8-minmax.cache",
        tmp_path / "whole.onnx",
    )
    assert session(tmp_path / "out.onnx").get_inputs()[0].name == "image"
    images, _ = load_images("test")
    answers = [
        session(tmp_path / name).run(None, {"image": images[:8]})[0]
        for name in ("out.onnx", "whole.onnx")
    ]
    assert np.array_equal(*answers)


def test_stale_and_internal_names_are_told_apart(tmp_path):
    cache = read_cache(RECORDED / "resnet" / "int8-minmax.cache")
    entries = {entry.name: entry.amax for entry in cache.scales} | {"gone": 1.0}
    report = migrate(COMMAND, model_path("resnet"), cache_of(entries), tmp_path / "out.onnx")
    assert report.stale == ("gone",)
    assert all(name.startswith("(Unnamed Layer") for name in report.internal)
    assert report.internal
    assert MigrationReport.from_json(report.to_json()) == report


def test_a_graph_inside_a_node_keeps_the_weights_it_reads(tmp_path):
    model = odd_model(13)
    inner = helper.make_graph(
        [helper.make_node("Mul", ["logits", "inner_w"], ["scaled"])],
        "inner",
        [],
        [helper.make_tensor_value_info("scaled", TensorProto.FLOAT, None)],
    )
    model.graph.initializer.extend(
        [tensor("inner_w", (10,)), numpy_helper.from_array(np.array(True), "yes")]
    )
    model.graph.node.append(
        helper.make_node("If", ["yes"], ["chosen"], then_branch=inner, else_branch=inner)
    )
    model.graph.output[0].name = "chosen"
    image = rng.normal(size=(2, 3, 8, 8)).astype(np.float32)
    onnx.save(model, str(tmp_path / "m.onnx"))
    migrate(
        COMMAND,
        tmp_path / "m.onnx",
        cache_of(minmax(odd_model(13), image)),
        tmp_path / "o.onnx",
        int8_weights=True,
    )
    assert session(tmp_path / "o.onnx").run(None, {"image": image})[0].shape == (2, 10)


def test_the_files_are_those_that_the_command_names(tmp_path):
    model, cache = model_path("resnet"), RECORDED / "resnet" / "int8-minmax.cache"
    line = f"trtexec --onnx={model} --int8 --calib={cache}"
    named = migrate(line, None, None, tmp_path / "named.onnx")
    assert named.kept == migrate(line, model, cache, tmp_path / "given.onnx").kept
    assert (tmp_path / "named.onnx").read_bytes() == (tmp_path / "given.onnx").read_bytes()
    with pytest.raises(CommandError, match="names no file with --calib"):
        migrate(f"trtexec --onnx={model} --int8", None, None, tmp_path / "out.onnx")
    with pytest.raises(CommandError, match=r"invented the ranges.*trtlearn calibrate.*--cache"):
        migrate(f"trtexec --onnx={model} --int8", None, None, tmp_path / "out.onnx")
    with pytest.raises(CommandError, match="mode is not-int8"):
        migrate(f"trtexec --onnx={model} --fp16", None, None, tmp_path / "out.onnx")
    with pytest.raises(CommandError, match="names no file with --onnx"):
        migrate("trtexec --int8 --calib=c.cache", None, cache, tmp_path / "out.onnx")


def test_nothing_is_written_when_something_is_wrong(tmp_path):
    cache, out = RECORDED / "resnet" / "int8-minmax.cache", tmp_path / "out.onnx"
    model = model_path("resnet")
    bad = tmp_path / "bad.cache"
    bad.write_bytes(b"not a cache")
    other = tmp_path / "other.cache"
    cache_of({"elsewhere": 1.0}).save(other)
    cases = [
        (CommandError, "not-int8", ("trtexec --onnx=m.onnx", model, cache, out)),
        (
            CommandError,
            "trtexec refuses",
            ("trtexec --onnx=m.onnx --int8 --calib=c --nonsense", model, cache, out),
        ),
        (CommandError, "no trtexec", ("rm -rf m", model, cache, out)),
        (CacheError, "bad", (COMMAND, model, bad, out)),
        (CacheError, "no such file", (COMMAND, model, tmp_path / "none.cache", out)),
        (ModelError, "no such file", (COMMAND, tmp_path / "none.onnx", cache, out)),
        (ModelError, "none of the cache's tensors", (COMMAND, model, other, out)),
        (ModelError, "is one of the inputs", (COMMAND, model, cache, model)),
    ]
    before = {path: path.read_bytes() for path in (model, cache)}
    for kind, words, arguments in cases:
        with pytest.raises(kind, match=words):
            migrate(*arguments)
    assert not out.exists()
    assert all(path.read_bytes() == content for path, content in before.items())
    migrate(COMMAND, model, cache, out)
    with pytest.raises(CommandError, match="explicit-qdq"):
        migrate(COMMAND, out, cache, tmp_path / "twice.onnx")


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("--int8 --calib=c --fp16 --saveEngine=e.plan", "--saveEngine=e.plan"),
        ("--best --workspace=4096 --calib=c", "--memPoolSize=workspace:4096"),
        (
            "--int8 --calib=c --shapes=image:8x1x28x28 --buildOnly",
            "--shapes=image:8x1x28x28 --skipInference",
        ),
        ("--int8 --calib=c --noTF32 --useCudaGraph --builderOptimizationLevel=2", None),
        ("--int8 --calib=c --inputIOFormats=int8:chw32 --explicitBatch", "--inputIOFormats=chw32"),
    ],
)
def test_the_new_command_is_one_that_trtexec_11_takes(old, new):
    line, _ = modern_command(f"trtexec --onnx=m.onnx {old}", "q.onnx")
    assert parse_trtexec(line, "11.1").error is None
    assert new is None or line == f"trtexec --onnx=q.onnx {new}"
    assert not {"--int8", "--calib=c", "--best", "--fp16"} & set(line.split())


def test_a_command_without_a_cache_changes_its_answers_and_says_so(tmp_path):
    cache = RECORDED / "resnet" / "int8-minmax.cache"
    report = migrate(
        "trtexec --onnx=m.onnx --int8", model_path("resnet"), cache, tmp_path / "o.onnx"
    )
    assert report.old_mode == "placeholder-ranges"
    assert any("invented ranges" in note for note in report.notes)


@pytest.mark.parametrize("name", ["m.onnx", "my model.onnx"])
def test_the_command_that_explain_advises_works_as_it_stands(name, tmp_path, monkeypatch):
    import shlex
    import shutil

    from trtlearn.__main__ import main
    from trtlearn.trtexec.explanation import explain

    monkeypatch.chdir(tmp_path)
    shutil.copy(model_path("resnet"), name)
    shutil.copy(RECORDED / "resnet" / "int8-legacy.cache", "c.cache")
    command = shlex.join(["trtexec", f"--onnx={name}", "--int8", "--calib=c.cache", "--best"])
    advice = explain(command, trt="11.1").advice
    line = next(text for text in advice if text.startswith("`trtlearn migrate")).split("`")[1]
    assert main(shlex.split(line)[1:]) == 0
    written = name.replace(".onnx", ".qdq.onnx")
    assert explain(modern_command(command, written)[0], trt="11.1").mode == "explicit-qdq"


@pytest.mark.parametrize("network", ["inception", "transformer", "conv1d", "recurrent"])
def test_networks_of_other_kinds(network, tmp_path):
    """Concat, attention, one-dimensional convolutions, a recurrent loop: all migrate and answer as
    before.
    """
    from recording.zoo import seeded

    (tmp_path / "m.onnx").write_bytes(getattr(seeded, network)(np.random.default_rng(0), 2))
    model = onnx.load(tmp_path / "m.onnx")
    source = model.graph.input[0]
    shape = [axis.dim_value for axis in source.type.tensor_type.shape.dim]
    image = rng.normal(size=shape).astype(np.float32)
    from trtlearn.model.run import activations

    values = next(iter(activations(model, [{source.name: image}])))
    cache = cache_of({name: float(np.abs(value).max()) for name, value in values.items()})
    report = migrate(COMMAND, tmp_path / "m.onnx", cache, tmp_path / "out.onnx")
    assert not report.qdq.float_nodes
    written = pairs(tmp_path / "out.onnx")
    assert {struct.unpack(">f", bits)[0] for bits in written.values()} <= {
        entry.scale for entry in cache.scales
    }
    before, after = (
        session(tmp_path / name).run(None, {source.name: image})[0].astype(np.float64)
        for name in ("m.onnx", "out.onnx")
    )
    assert 0 < np.linalg.norm(after - before) / np.linalg.norm(before) < 0.05


MEASURE = """
import sys
from pathlib import Path
from trtlearn.trtexec.migration import migrate
def peak_kb():
    return int(Path("/proc/self/status").read_text(encoding="utf-8").split("VmHWM:")[1].split()[0])
command, model, cache, written = sys.argv[1:]
small = Path(model).with_name("small.onnx")
migrate(command, small, cache, written)  # everything is imported
before = peak_kb()
migrate(command, model, cache, written)
print(peak_kb() - before)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_the_weights_are_in_memory_twice_at_most(tmp_path):
    """While the file is read; written is one tensor after the other."""

    def save(name, side, layers):
        weights = np.random.default_rng(0).standard_normal((side, side), np.float32)
        stored = [numpy_helper.from_array(weights, f"w{at}") for at in range(layers)]
        nodes = [
            helper.make_node("MatMul", [f"x{at}", f"w{at}"], [f"x{at + 1}"], f"m{at}")
            for at in range(layers)
        ]
        ends = [helper.make_tensor_value_info(f"x{at}", 1, ["n", side]) for at in (0, layers)]
        graph = helper.make_graph(nodes, "g", ends[:1], ends[1:], stored)
        opsets = [helper.make_opsetid("", 17)]
        onnx.save(helper.make_model(graph, opset_imports=opsets, ir_version=8), tmp_path / name)

    save("small.onnx", 4, 16)
    save("m.onnx", 1024, 16)
    new_cache({f"x{at}": 0.5 for at in range(17)}).save(tmp_path / "c.cache")
    files = [str(tmp_path / name) for name in ("m.onnx", "c.cache", "out.onnx")]
    done = subprocess.run(
        [sys.executable, "-c", MEASURE, COMMAND, *files],
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    assert 1000 * int(done.stdout) < 2.5 * (tmp_path / "m.onnx").stat().st_size
