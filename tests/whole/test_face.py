"""The face: ``import trtlearn as tl`` is enough for each question, on the course's networks and on other files."""

from __future__ import annotations

import ast
import dataclasses
import inspect
import json
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from test_imports import PACKAGE, bare

import trtlearn as tl
from trtlearn.errors import TrtlearnError
from trtlearn.record import Record, Table
from trtlearn.recorded.files import load_build, recording_folders

ROOMS = ("recorded", "show")


@pytest.mark.parametrize("name", dir(tl))
def test_every_name_says_what_it_does(name: str) -> None:
    value = getattr(tl, name)
    assert inspect.getdoc(value)
    assert f"``{name}``" in (tl.__doc__ or "")
    assert name in ROOMS or ">>> " in value.__doc__ or "Example" in value.__doc__


def test_the_face_is_small_and_is_all_that_a_tab_shows() -> None:
    assert dir(tl) == sorted(tl.__all__)
    assert 15 <= len(dir(tl)) <= 25
    with pytest.raises(AttributeError, match="no attribute 'open_bench'"):
        _ = tl.open_bench


def test_no_module_hides_a_name_of_the_face() -> None:
    tops = {path.stem for path in PACKAGE.glob("*.py")} | {
        path.name for path in PACKAGE.iterdir() if path.is_dir()
    }
    assert tops & set(dir(tl)) == set(ROOMS)
    assert len(list(PACKAGE.glob("*.py"))) <= 10


def test_editors_see_the_same_names() -> None:
    tree = ast.parse((PACKAGE / "__init__.py").read_text(encoding="utf-8"))
    (block,) = [node for node in tree.body if isinstance(node, ast.If)]
    ours = [node for node in block.body if isinstance(node, ast.ImportFrom) and node.level]
    seen = {alias.asname for node in ours for alias in node.names}
    assert seen == set(dir(tl))


def test_the_face_works_with_numpy_alone() -> None:
    answer = bare("""
import trtlearn as tl
assert "network" in dir(tl)
print(tl.quantize([1.0, -3.0], 0.5), tl.network("resnet", mode="recorded").build("fp32").accuracy)
print(tl.explain("trtexec --onnx=x.onnx --int8").mode, tl.read_cache(b"TRT-8600-MinMaxCalibration\\nx: 3f000000\\n")["x"])
""")
    assert answer.returncode == 0, answer.stderr
    assert "placeholder-ranges 0.5" in answer.stdout


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A reader's own files: a small model, images, a cache of both and an engine's layers."""
    onnx = pytest.importorskip("onnx")
    pytest.importorskip("onnxruntime")
    folder = tmp_path_factory.mktemp("own")
    rng = np.random.default_rng(0)
    node, value = onnx.helper.make_node, onnx.helper.make_tensor_value_info
    weights = rng.normal(size=(4, 3, 3, 3)).astype(np.float32)
    layer = [node("Conv", ["x", "w"], ["c"], name="conv", pads=[1, 1, 1, 1])]
    own = [*layer, node("Relu", ["c"], ["y"], name="relu")]
    mixed = [node("Cast", ["image"], ["x"], to=10), *layer, node("Cast", ["c"], ["y"], to=1)]
    pool = [node("Abs", ["c"], ["a"]), node("ReduceMean", ["a"], ["y"], axes=[2, 3], keepdims=0)]
    for name, nodes, image, rows, dtype in (
        ("my", own, "x", "N", 1),
        ("fixed", own, "x", 1, 1),
        ("half", own, "x", "N", 10),
        ("mixed", mixed, "image", "N", 1),
        ("one", [*layer, *pool], "x", "N", 1),
    ):
        kind = np.float16 if name in ("half", "mixed") else np.float32
        stored = (
            np.zeros_like(weights) + np.arange(4)[:, None, None, None] if name == "one" else weights
        )
        graph = onnx.helper.make_graph(
            nodes,
            name,
            [value(image, dtype, [rows, 3, 8, 8])],
            [value("y", dtype, [rows, 4] if name == "one" else [rows, 4, 8, 8])],
            [onnx.numpy_helper.from_array(stored.astype(kind), "w")],
        )
        model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 17)])
        model.ir_version = 8
        onnx.save(model, folder / f"{name}.onnx")
    images = rng.normal(size=(16, 3, 8, 8)).astype(np.float32)
    np.save(folder / "images.npy", images)
    np.savez(folder / "unnamed.npz", images)
    tl.calibrate(folder / "my.onnx", folder / "images.npy").save(folder / "my.cache")
    minmax = tl.calibrate(folder / "my.onnx", images, "minmax")
    minmax.save(folder / "trtexec.cache", for_trtexec=True)
    tensor = {"Name": "x", "Dimensions": [8, 3], "Format/Datatype": "Row major linear FP32"}
    layer = {"Name": "conv", "LayerType": "Convolution", "Inputs": [tensor], "Outputs": [tensor]}
    (folder / "layers.json").write_text(
        json.dumps({"Layers": [layer], "Bindings": []}), encoding="utf-8"
    )
    return folder


COURSE = (
    'tl.network("resnet").build("int8-minmax").accuracy > 0.9',
    'tl.network("resnet").build("int8-minmax").cache["image"] > 0',
    'len(tl.network("mobile").build("int8-placeholder").ranges.tensors) > 40',
    'tl.network("mobile").build("int8-minmax").precision()["head"].computed_in == "int8"',
    '"stem" in tl.network("resnet").build("int8-entropy2").int8_nodes',
    'tl.network("resnet").study("missing-one").warning("missing-scale").names == ("b1_relu1",)',
    'tl.network("resnet").build("fp32").label.startswith("recorded on NVIDIA")',
    'tl.network("resnet").build("minmax").variant == "int8-minmax"',
    'tl.fit(tl.network("mobile").build("int8-entropy2"), tl.network("mobile"))[0].verdict == "too small"',
    'tl.calibrate(tl.network("resnet"), algorithm="minmax").equals(tl.network("resnet").build("minmax").cache)',
    'tl.precision(tl.network("resnet").build("minmax").engine, tl.network("resnet"))["stem"].computed_in == "int8"',
    'tl.insert_qdq(tl.network("resnet"), tl.network("resnet").build("minmax").cache)[1].quantized_nodes[0] == "stem"',
    'tl.placeholder_ranges(tl.network("resnet"))["image"].amax == 2',
    'len(tl.show.ranges(tl.network("resnet").build("minmax")).data) == 1',
    '[layer.name for layer in tl.network("resnet").build("minmax").engine.int8][0].startswith("stem")',
    'tl.try_int8(tl.network("resnet")).answers[0].way == "fp32"',
    'tl.read_engine(tl.network("resnet").build("minmax")).int8',
    'tl.show.builds(tl.network("resnet")).data',
    'tl.show.tradeoff(tl.network("resnet").builds("fp32", "fp16")).data',
    'tl.show.builds(tl.network("resnet").build("fp32")).data',
    'tl.show.histogram(tl.network("resnet").images()).data',
)
OWN = (
    'tl.network("my.onnx").input_shape == (3, 8, 8)',
    'tl.read_cache("my.cache").amax["x"] == tl.read_cache("my.cache").entry("x").amax',
    'set(tl.calibrate("my.onnx", "images.npy", "minmax", batch=4)) == {"x", "c", "y"}',
    'dict(tl.read_cache("my.cache")) == dict(tl.network("my.onnx", data="images.npy").calibrate())',
    'tl.agree("my.onnx", "images.npy", "my.cache", batch=8).all_agree',
    'tl.read_engine("layers.json").layers[0].name == "conv"',
    'tl.precision(tl.read_engine("layers.json"), model="my.onnx").nodes[0].name == "conv"',
    'tl.explain("trtexec --onnx=my.onnx --int8 --calib=my.cache").int8',
    'tl.migrate("trtexec --onnx=my.onnx --int8 --calib=my.cache", "my.onnx", "my.cache", "q.onnx")',
    'tl.try_int8("my.onnx", "images.npy").answers[0].way == "fp32"',
    "tl.quantize(np.array([1.0], np.float32), 0.5)[0] == 2",
    "tl.quantization_error(np.array([1.0], np.float32), 0.5).mean_squared_error == 0",
    "tl.recorded.agreement().agreeing > 1000",
    'tl.fit("my.cache", "my.onnx", "images.npy")[:2][0].name in ("x", "c", "y")',
    '"x" in tl.fit("my.cache", "my.onnx", "images.npy")',
    '[tensor.name for tensor in tl.agree("my.onnx", "images.npy", "my.cache", batch=8)]',
    '[layer.name for layer in tl.read_engine("layers.json")] == ["conv"]',
    'tl.read_engine("layers.json")["conv"].kind == "Convolution"',
    'tl.precision("layers.json", "my.onnx")["conv"].name == "conv"',
    'tl.read_cache("my.cache").equals("my.cache") and tl.read_cache("my.cache").diff("my.cache").identical',
    'tl.explain(["trtexec", "--onnx=my.onnx", "--int8"]).int8',
    'len(tl.show.ranges("my.cache").data[0].x) == 3',
    'len(tl.show.scales(tl.read_cache("my.cache")).data[0].x) == 3',
    'tl.placeholder_ranges("my.onnx")["c"].amax == 4',
    'tl.insert_qdq("my.onnx", "my.cache")[1].quantized_nodes == ("conv",)',
    'tl.insert_qdq("my.onnx", tl.placeholder_ranges("my.onnx"))[1].sites[0].scale == np.float32(2 / 127)',
    'tl.calibrate("my.onnx", "images.npy", "MinMax").equals(tl.calibrate("my.onnx", "images.npy", "min-max"))',
    'tl.network("resnet", mode="recorded").build("min-max").variant == "int8-minmax"',
)
REFUSED = {
    'tl.calibrate("resnet", "images.npy")': 'tl.network("resnet")',
    'tl.show.fit(tl.read_cache("my.cache"))': "tl.fit(cache, model, data)",
    'tl.set_ranges("my.onnx", {"x": 1.0})': "tl.build_engine(model, ranges=",
    'tl.fit("my.cache", "my.onnx")': "a .npy file",
    'tl.read_engine("layers.json")["pool"]': "one of conv",
    'tl.precision("my.onnx")': "layers.json",
    "tl.show.engine(7)": "name a file",
    'tl.read_cache("my.cache")["z"]': "one of x, c, y",
    'tl.read_cache("my.cache").__setitem__("x", 0.1)': "cache.with_scale('x', 0.1)",
    'tl.calibrate("my.onnx", np.zeros((9, 8, 8, 3), "f4"))': ".transpose(0, 3, 1, 2)",
    'tl.calibrate("my.onnx", np.load("images.npy")[0])': "x[None]",
    'tl.calibrate("my.onnx", "unnamed.npz")': "numpy.savez(FILE, x=...)",
    'tl.calibrate("half.onnx", "images.npy")': "export it in FP32",
    'tl.calibrate(tl.insert_qdq("my.onnx", "my.cache")[0], "images.npy")': "build it as it is",
    "tl.try_int8(RESNET, RESNET.images()[:8], labels=np.arange(8) + 5)": "this network's classes",
    'tl.insert_qdq("my.onnx", "none.cache")': "the path",
    'tl.insert_qdq("my.onnx", 0.5)': "a cache or its file",
    'tl.fit(0.5, "my.onnx", "images.npy")': "a cache or its file",
    'tl.fit({"x": "wide"}, "my.onnx", "images.npy")': "a cache or its file",
    'tl.calibrate("my.onnx", "images.npy", minmax=True)': 'algorithm="minmax"',
    'tl.calibrate("my.onnx", "images.npy", "legacy", percentile=9)': "quantile, cutoff",
    'tl.try_int8("my.onnx", "images.npy", algorithm="all")': "one of best, entropy2",
    'tl.show.ranges("my.cache", "images.npy")': "tl.fit(cache, model, data)",
    'tl.show.number_line(0.1, "abc")': "a numpy array of floats",
    'tl.read_cache("my.onnx")': "the order of the files",
    'tl.read_engine("my.onnx")': "layers.json",
    'tl.read_engine("my.cache")': "the order of the files",
    'tl.fit("my.cache", "my.onnx", "my.cache")': "the order of the files",
    'tl.read_cache("my.cache").save("my.onnx")': "name another file",
    'tl.read_cache("my.cache").save("images.npy")': "name another file",
    "tl.show.builds([1, 2])": 'tl.network("resnet")',
    "tl.network(None)": "one of resnet",
    'tl.network("my.onnx", data="images.npy", labels=[[1], [2, 3]])': "the class number of each row",
    'tl.network("my.onnx", data="images.npy", labels=np.array([1]))': "the class number of each row",
    'tl.network("my.onnx", data="images.npy", labels=np.full(64, 0.5))': "the class number of each row",
    'tl.calibrate("my.onnx", "images.npy", "percentile", percentile="99")': "give a number",
    'tl.agree("my.onnx", "images.npy", "my.cache", batch=2.5)': "8 is a good start",
    'tl.agree("my.onnx", "images.npy", "my.cache", tolerance="1e-6")': "1e-6 is a few last bits",
    'tl.insert_qdq("my.onnx", {"x": float("nan")})': "give amax / 127",
    'tl.insert_qdq("my.onnx", {"x": 0.0})': "give amax / 127",
    'tl.try_int8("my.onnx", "images.npy", labels=[1, 2])': "the class number of each row",
}
SAYS = {
    'tl.calibrate("my.onnx", np.load("images.npy")[:3])': "on 3 rows only: take 100",
    'tl.calibrate("my.onnx", np.zeros((64, 3, 8, 8), "f4"))': "the scale is 0, as all values are 0: x, c, y",
    'tl.calibrate("mixed.onnx", "images.npy")': "1 of 1 layer compute in FP16",
    'tl.try_int8("my.onnx", np.load("images.npy")[:3]).notes': "on 3 rows only: take 100",
    'tl.try_int8("one.onnx", "images.npy").notes': "FP32 answers class 3 for every row",
    'tl.fit({"c": 90.0}, "my.onnx", "images.npy").summary()': "1 input without a range: x.",
    'tl.fit("my.cache", "my.onnx", 300 * np.load("images.npy")).summary()': "Look first at x",
    'tl.agree("my.onnx", "images.npy", "trtexec.cache").notes': "3 of 3 scales are min-max's",
    'tl.network("fixed.onnx").activations(np.load("images.npy")[:4])["y"].shape': "(4, 4, 8, 8)",
}


@pytest.mark.parametrize("line", COURSE)
def test_one_line_asks_a_course_network(line: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRTLEARN_MODE", "recorded")
    assert eval(line, {"tl": tl})


@pytest.mark.parametrize("line", OWN)
def test_one_line_asks_a_file_that_the_project_has_not_seen(
    line: str, files: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(files)
    assert eval(line, {"tl": tl, "np": np})


@pytest.mark.parametrize("line", REFUSED)
def test_a_slip_gets_one_line_that_says_what_to_do(
    line: str, files: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(files)
    with pytest.raises(TrtlearnError) as refused:
        eval(line, {"tl": tl, "np": np, "RESNET": tl.network("resnet", mode="recorded")})
    assert REFUSED[line] in refused.value.fix


@pytest.mark.parametrize("line", SAYS)
def test_what_is_worth_little_says_so(
    line: str, files: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(files)
    with warnings.catch_warnings(record=True) as notes:
        warnings.simplefilter("always")
        answer = eval(line, {"tl": tl, "np": np})
    assert SAYS[line] in " ".join([str(answer), *(str(note.message) for note in notes)])


def subclasses(kind: type[Any]) -> set[type[Any]]:
    below = set(kind.__subclasses__())
    return below.union(*map(subclasses, below)) if below else below


def test_a_record_shows_its_summary_never_all_of_itself() -> None:
    folder = recording_folders()[0]
    for path in sorted(folder.glob("resnet/*.json.gz")):
        build = load_build(path)
        assert repr(build) == f"<Build: {build.summary()}>"
        for part in (
            build.build,
            build.engine,
            build.provenance,
            build.timing,
            *build.engine.layers,
        ):
            assert len(repr(part)) < 1500
    for kind in subclasses(Record):
        assert kind.__repr__ is Record.__repr__, kind


def test_a_table_answers_by_name_by_place_and_by_slice() -> None:
    report = tl.placeholder_ranges(tl.network("resnet", mode="recorded"))
    names = [tensor.name for tensor in report]
    assert report[names[3]] is report[3]
    assert report[-1].name == names[-1]
    assert [tensor.name for tensor in report[:5]] == names[:5]
    assert len(report) == len(names)
    assert names[2] in report
    assert "nobody" not in report
    for kind in subclasses(Table):
        assert {kind.ITEMS} <= {field.name for field in dataclasses.fields(kind)}, kind
