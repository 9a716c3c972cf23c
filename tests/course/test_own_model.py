"""Bring your own model: unseen networks walk through, what does not fit is one line, script and
report are real.
"""

from __future__ import annotations

import ast
import os
import re
import runpy
import subprocess
import sys
from dataclasses import replace
from html.parser import HTMLParser

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

import trtlearn as tl
from recording.pairs import read_pairs
from trtlearn.builds import Build, LayerCounts
from trtlearn.calibration.cache import parse_cache, read_cache
from trtlearn.calibration.qdq import insert_qdq, plan_sites
from trtlearn.course.builder import build_job
from trtlearn.course.own_model.engines import OwnEngines
from trtlearn.course.own_model.records import Answer, EngineResult, Walk
from trtlearn.course.own_model.report import report_html
from trtlearn.course.own_model.task import load_task
from trtlearn.course.own_model.walk import STEPS, try_int8
from trtlearn.engine.layers import EngineInfo
from trtlearn.engine.records import BuildOptions, BuildReport, Provenance, Timing
from trtlearn.errors import DataError, LiveUnavailable, ModelError, TrtlearnError
from trtlearn.model import run
from trtlearn.model.course_data import load_images, model_path
from trtlearn.model.data import npz_bytes
from trtlearn.model.fold import prepared
from trtlearn.model.read import read_model
from trtlearn.record import html_text
from trtlearn.recorded.store import own_builds
from trtlearn.trtexec.explanation import explain

pytest.importorskip("onnxruntime")
rng = np.random.default_rng(0)
CPU = {"live": False}


def save(path, nodes, inputs, outputs, weights=(), opset=13):
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info(name, kind, shape) for name, kind, shape in inputs],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in outputs],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in weights],
    )
    onnx.save(
        helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8),
        str(path),
    )
    return path


@pytest.fixture
def two_inputs(tmp_path):
    """An image of any size and a mask of the same, two outputs, dynamic in every axis but the
    channels.
    """
    w = rng.normal(size=(4, 3, 3, 3)).astype(np.float32)
    nodes = [
        helper.make_node("Mul", ["image", "mask"], ["seen"]),
        helper.make_node("Conv", ["seen", "w"], ["features"], pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["features"], ["kept"]),
        helper.make_node("GlobalAveragePool", ["kept"], ["mean"]),
        helper.make_node("Flatten", ["mean"], ["scores"]),
    ]
    inputs = [
        ("image", TensorProto.FLOAT, ["n", 3, "h", "w_"]),
        ("mask", TensorProto.FLOAT, ["n", 1, "h", "w_"]),
    ]
    return save(tmp_path / "two.onnx", nodes, inputs, ["scores", "kept"], [("w", w)])


def arrays(rows=10, size=12):
    return {
        "image": rng.normal(size=(rows, 3, size, size)).astype(np.float32),
        "mask": np.ones((rows, 1, size, size), np.float32),
    }


def test_the_courses_network_from_files(tmp_path):
    images, labels = load_images("calibration")
    np.save(tmp_path / "images.npy", images[:128])
    np.save(tmp_path / "labels.npy", labels[:128])
    seen: list[str] = []
    walked = try_int8(
        model_path("mobile"),
        tmp_path / "images.npy",
        labels=tmp_path / "labels.npy",
        algorithm="minmax",
        out=tmp_path / "out",
        progress=seen.append,
        live=False,
    )
    assert seen == list(STEPS)
    by_way = {one.way: one for one in walked.answers}
    assert by_way["fp32"].agreement == 1
    assert by_way["fp32"].accuracy > 0.95
    assert by_way["int8-minmax"].accuracy > by_way["int8-placeholder"].accuracy + 0.3
    assert 0 < by_way["int8-minmax"].sqnr_db < 40
    cache = read_cache(walked.files["cache"])
    assert cache.entry("image").amax == pytest.approx(float(np.abs(images[:128]).max()))
    pairs = read_pairs(walked.files["qdq model"]).activations()
    assert {cache[name] for name in pairs if name in cache} == {
        pairs[name] for name in pairs if name in cache
    }
    assert Walk.from_json(walked.to_json()) == walked
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [
        "mobile.cache",
        "mobile.html",
        "mobile.qdq.onnx",
        "mobile.trtexec.cache",
        "mobile_on_gpu.py",
    ]
    ours = read_cache(walked.files["cache for trtexec"])
    assert (ours.kind, dict(ours)) == ("entropy2", dict(cache))


@pytest.fixture(scope="module")
def best_of_mobile():
    """The course's network `mobile` and 128 images, as notebook 09 takes them."""
    images, labels = load_images("calibration")
    return try_int8(
        model_path("mobile"), images[:128], labels=labels[:128], algorithm="best", live=False
    )


def test_best_takes_the_calibrator_that_keeps_most_answers(best_of_mobile):
    agreement = {one.way: one.agreement for one in best_of_mobile.answers}
    assert list(agreement) == [
        "fp32",
        "int8-legacy",
        "int8-minmax",
        "int8-entropy2",
        "int8-placeholder",
    ]
    assert best_of_mobile.algorithm == "legacy"
    assert agreement["int8-legacy"] > agreement["int8-minmax"] > agreement["int8-entropy2"]
    alone = try_int8(
        model_path("mobile"), load_images("calibration")[0][:128], algorithm="legacy", **CPU
    )
    assert best_of_mobile.cache == alone.cache
    assert best_of_mobile.tensors == alone.tensors


def test_the_network_with_pairs_is_loaded_once_for_all_ranges(monkeypatch):
    """In FP32, what Q/DQ make of the weights, and with pairs whose scales are given at each run."""
    loads = []
    load = run._session
    monkeypatch.setattr(run, "_session", lambda *one: loads.append(one) or load(*one))
    images = load_images("calibration")[0][:16]
    walked = try_int8(model_path("mobile"), images, algorithm="best", **CPU)
    assert len(walked.answers) == 5
    assert len(loads) == 3


def test_the_outputs_with_each_ranges_are_those_of_the_model_with_their_pairs():
    """Also where the pairs stand in other places: the second has none in front of b0_conv1."""
    images = load_images("calibration")[0][:8]
    task = load_task(model_path("resnet"), images, None, "minmax", 8)
    ranges = {
        "first": {"image": 0.02, "pool": 0.03},
        "second": {"image": 0.04},
        "third": {"image": 0.01, "pool": 0.05},
    }
    ready = prepared(task.proto)
    plans = {name: plan_sites(ready, scales) for name, scales in ranges.items()}
    found = dict(task.run(ready, plans))
    assert set(found) == set(ranges)
    for name, scales in ranges.items():
        model, report = insert_qdq(task.proto, scales)
        assert plans[name] == report
        expected = next(run.activations(model, [images], ["logits"]))
        assert np.array_equal(found[name]["logits"], expected["logits"])


def test_weights_may_be_constant_nodes(tmp_path):
    """As Paddle's exporter stores them: the answers are those of the same network's initializers."""
    proto = onnx.load(str(model_path("mobile")))
    nodes = [helper.make_node("Constant", [], [w.name], value=w) for w in proto.graph.initializer]
    nodes += proto.graph.node
    del proto.graph.node[:], proto.graph.initializer[:]
    proto.graph.node.extend(nodes)
    onnx.save(proto, str(tmp_path / "constants.onnx"))
    images = load_images("calibration", "mobile")[0][:16]
    theirs = try_int8(tmp_path / "constants.onnx", images, live=False)
    ours = try_int8(model_path("mobile"), images, live=False)
    assert theirs.answers == ours.answers
    assert theirs.cache == ours.cache


def test_the_verdict_names_the_best_ranges_and_the_others(best_of_mobile):
    assert best_of_mobile.verdict == (
        "With legacy ranges INT8 keeps FP32's answer on 99.2 % of 128 rows; its outputs have an "
        "error of 25.3 %. For comparison: minmax ranges 91.4 %, entropy2 ranges 19.5 %, the ranges "
        "of bare --int8 25.8 %"
    )


def test_the_report_begins_with_the_verdict(best_of_mobile):
    page = report_html(best_of_mobile)
    titles = re.findall("<h2>(.+?)</h2>", page)
    assert titles[0] == "The verdict"
    assert titles.index("This machine") > titles.index("Engines built with TensorRT")
    assert "Skipped: nothing was built with TensorRT" in page


def test_best_judges_by_sqnr_where_no_output_is_a_table_of_classes(tmp_path):
    w = rng.normal(size=(4, 3, 3, 3)).astype(np.float32)
    nodes = [helper.make_node("Conv", ["image", "w"], ["features"])]
    inputs = [("image", TensorProto.FLOAT, ["n", 3, 8, 8])]
    path = save(tmp_path / "boxes.onnx", nodes, inputs, ["features"], [("w", w)])
    images = rng.normal(size=(16, 3, 8, 8)).astype(np.float32)
    walked = try_int8(path, images, algorithm="best", **CPU)
    tried = {one.way: one for one in walked.answers}
    del tried["fp32"], tried["int8-placeholder"]
    assert walked.answer.sqnr_db == max(one.sqnr_db for one in tried.values())
    assert walked.answer.error == pytest.approx(10 ** (-walked.answer.sqnr_db / 20))
    assert "judge the Q/DQ model with your own metric" in walked.verdict
    assert walked.verdict in repr(walked)
    assert html_text(walked.verdict) in walked._repr_html_()  # what the reader asked, first


def test_inputs_may_be_called_as_numpy_calls_its_arguments(tmp_path):
    given = {"file": np.ones((2, 3), np.float32), "a/b": np.zeros(2), "allow_pickle": np.ones(1)}
    (tmp_path / "x.npz").write_bytes(npz_bytes(given))
    with np.load(tmp_path / "x.npz", allow_pickle=False) as back:
        assert {name: back[name].tolist() for name in back} == {
            name: array.tolist() for name, array in given.items()
        }


def test_several_inputs_and_every_axis_dynamic(two_inputs, tmp_path):
    np.savez(tmp_path / "data.npz", **arrays())
    walked = try_int8(two_inputs, tmp_path / "data.npz", batch=4, out=tmp_path / "out", **CPU)
    assert walked.data.rows_used == 8
    assert walked.qdq.quantized_nodes == ("features",)
    assert {one.way for one in walked.answers} == {
        "fp32",
        "int8-entropy2",
        "int8-minmax",
        "int8-placeholder",
    }
    assert read_model(walked.files["qdq model"]).has_qdq


def test_a_fixed_batch_is_kept(tmp_path):
    w = rng.normal(size=(6, 5)).astype(np.float32)
    inputs = [("x", TensorProto.FLOAT, [2, 6])]
    path = save(
        tmp_path / "fixed.onnx",
        [helper.make_node("MatMul", ["x", "w"], ["y"])],
        inputs,
        ["y"],
        [("w", w)],
    )
    walked = try_int8(
        path, rng.normal(size=(7, 6)).astype(np.float32), batch=8, algorithm="mse", **CPU
    )
    assert walked.data.batch == 2
    assert walked.data.rows_used == 6
    assert walked.files == {}


def spoiled(values):
    changed = values.copy()
    changed[3, 0, 1, 1] = np.nan
    return changed


BAD = {
    "no data given": lambda a: None,
    "no data for input 'mask'": lambda a: {"image": a["image"]},
    "one array for a network with inputs": lambda a: a["image"],
    "input 'mask' is float64, expected float32": lambda a: {
        **a,
        "mask": a["mask"].astype(np.float64),
    },
    "input 'image' is uint8, expected float32.*normalise": lambda a: {
        **a,
        "image": np.zeros((10, 3, 12, 12), np.uint8),
    },
    r"input 'image' has shape \[10,1,12,12\], expected \[rows,3,h,w_\]": lambda a: {
        **a,
        "image": a["mask"],
    },
    r"input 'mask' holds NaN or infinity: 1 such value, the first \(nan\) at \[3, 0, 1, 1\]": lambda a: {
        **a,
        "mask": spoiled(a["mask"]),
    },
    "different numbers of rows": lambda a: {**a, "mask": a["mask"][:9]},
    "no such file": lambda a: "nowhere.npz",
    "empty": lambda a: {name: value[:0] for name, value in a.items()},
}


@pytest.mark.parametrize("words", BAD)
def test_data_that_do_not_fit_are_one_line_and_nothing_is_written(two_inputs, tmp_path, words):
    with pytest.raises(TrtlearnError, match=words) as caught:
        try_int8(two_inputs, BAD[words](arrays()), out=tmp_path / "out", **CPU)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "out").exists()


def test_networks_that_cannot_be_walked(two_inputs, tmp_path):
    out = tmp_path / "out"
    walked = try_int8(two_inputs, arrays(), out=out, **CPU)
    with pytest.raises(ModelError, match="Q/DQ nodes already"):
        try_int8(walked.files["qdq model"], arrays(), **CPU)
    relu = [helper.make_node("Relu", ["x"], ["y"])]
    nothing = save(tmp_path / "relu.onnx", relu, [("x", TensorProto.FLOAT, ["n", 4])], ["y"])
    with pytest.raises(ModelError, match="nothing in this network can run in INT8"):
        try_int8(nothing, np.ones((8, 4), np.float32), **CPU)
    log = [helper.make_node("Log", ["x"], ["l"]), helper.make_node("MatMul", ["l", "w"], ["y"])]
    weights = [("w", np.ones((4, 4), np.float32))]
    bursts = save(tmp_path / "log.onnx", log, [("x", TensorProto.FLOAT, ["n", 4])], ["y"], weights)
    with pytest.raises(DataError, match="'l' becomes NaN or infinite"):
        try_int8(bursts, np.zeros((8, 4), np.float32), **CPU)
    with pytest.raises(DataError, match="no calibrator 'magic'"):
        try_int8(two_inputs, arrays(), algorithm="magic", **CPU)
    with pytest.raises(DataError, match="batch size is 0"):
        try_int8(two_inputs, arrays(), batch=0, **CPU)
    steps: list[str] = []
    images, beyond = load_images("test")[0][:16], np.arange(16) % 11
    with pytest.raises(DataError, match=r"the labels go from 0 to 10, .* classes 0 to 9"):
        try_int8(model_path("resnet"), images, labels=beyond, progress=steps.append, **CPU)
    assert steps == ["look"]  # before anything is calibrated
    with pytest.raises(DataError, match=r"labels are float64 \[10\]"):
        try_int8(two_inputs, arrays(), labels=np.zeros(10), **CPU)


def test_live_without_a_gpu_says_so(two_inputs, monkeypatch):
    monkeypatch.setenv("TRTLEARN_TENSORRT", "no_such_module")
    with pytest.raises(LiveUnavailable):
        try_int8(two_inputs, arrays(), live=True)


class Page(HTMLParser):
    """Counts tags, and keeps every address that a browser would fetch."""

    def __init__(self, text):
        super().__init__()
        self.open, self.fetched = [], []
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        if tag not in ("meta", "br", "link", "img"):
            self.open.append(tag)
        names = ("src",) if tag != "link" else ("href",)
        self.fetched += [value for name, value in attributes if name in names]

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


def test_the_report_stands_alone_and_escapes_names(tmp_path):
    evil = "</script><script>alert(1)</script>"
    nodes = [helper.make_node("MatMul", [evil, "w"], ["y"], evil)]
    weights = [("w", rng.normal(size=(4, 3)).astype(np.float32))]
    path = save(
        tmp_path / "evil.onnx", nodes, [(evil, TensorProto.FLOAT, ["n", 4])], ["y"], weights
    )
    walked = try_int8(
        path, rng.normal(size=(16, 4)).astype(np.float32), out=tmp_path / "out", **CPU
    )
    text = (tmp_path / "out" / "evil.html").read_text()
    page = Page(text)
    assert not page.open, "every tag is closed"
    assert not page.fetched, "nothing is loaded from anywhere"
    assert "<script>alert" not in text
    assert text == report_html(walked)
    assert "Plotly.newPlot" in text


@pytest.mark.parametrize("algorithm", ["entropy2", "minmax", "entropy", "legacy"])
def test_the_report_says_whether_trtexec_takes_the_cache(algorithm, tmp_path):
    walked = try_int8(
        turned(tmp_path / "t.onnx"),
        rng.normal(size=(16, 1, 2, 2)).astype(np.float32),
        algorithm=algorithm,
        **CPU,
    )
    text = report_html(walked)
    assert ("trtlearn cache edit" in text) == (algorithm != "entropy2")
    cache = tmp_path / "c.cache"
    cache.write_text(walked.cache)
    assert (explain(f"trtexec --int8 --calib={cache}").cache_set_aside is None) == (
        algorithm == "entropy2"
    )
    edit = [
        "cache",
        "edit",
        str(cache),
        "-o",
        str(cache),
        "--header",
        "TRT-8600-EntropyCalibration2",
    ]
    subprocess.run([sys.executable, "-m", "trtlearn", *edit], check=True)
    assert explain(f"trtexec --int8 --calib={cache}").cache_set_aside is None
    assert dict(read_cache(cache)) == dict(parse_cache(walked.cache))


def turned(path):
    """logits = -image, as the engine of tests/fake_trt.py computes it."""
    weights = [("w", np.full((1, 1, 1, 1), -1, np.float32)), ("shape", np.array([-1, 4], np.int64))]
    nodes = [
        helper.make_node("Conv", ["image", "w"], ["y"]),
        helper.make_node("Reshape", ["y", "shape"], ["logits"]),
    ]
    return save(path, nodes, [("image", TensorProto.FLOAT, ["n", 1, 2, 2])], ["logits"], weights)


def test_with_a_gpu_engines_are_built_run_and_compared(fake, tmp_path):
    data = rng.normal(size=(20, 1, 2, 2)).astype(np.float32)
    walked = try_int8(turned(tmp_path / "t.onnx"), data, out=tmp_path / "out", live=True)
    assert [one.way for one in walked.live] == ["fp32", "fp16", "int8-entropy2", "int8-qdq"]
    assert all(
        one.problem == "" and one.build.latency_ms > 0 and one.answer.agreement == 1
        for one in walked.live
    )
    assert not fake["cuda"].memory, "all GPU memory is freed"
    assert re.match(
        r"The engine that TensorRT built here with entropy2 ranges keeps 100.0 % of FP32's answers; "
        r"its speed is \S+ times FP32's and \S+ times FP16's\. "
        r"Simulated on the CPU: with entropy2 ranges INT8 keeps FP32's answer on",
        walked.verdict,
    )
    recorded = tuple(
        tl.network("resnet", mode="recorded").build(way) for way in ("int8-entropy2", "fp32")
    )
    answer = replace(walked.answer, agreement=0.5)
    compared = replace(walked, live=tuple(EngineResult(build, answer) for build in recorded))
    int8, exact = recorded
    assert compared.verdict.startswith(
        "The engine that TensorRT built here with entropy2 ranges keeps 50.0 % of FP32's answers; "
        f"{int8.int8_layers} of {int8.layers} layers have INT8 weights; "
        f"its speed is {exact.latency_ms / int8.latency_ms:.2g} times FP32's. Simulated"
    )
    fake["fail"] = True
    again = try_int8(tmp_path / "t.onnx", data, live=True)
    assert again.live == walked.live, "what was built is kept"
    own_builds().clear()
    fake["log"] = [("ERROR", "2: Assertion engine failed")]  # what TensorRT says is kept
    failed = try_int8(tmp_path / "t.onnx", data, live=True).live
    assert all("the build failed" in one.problem for one in failed)
    fake["fail"] = False
    known = try_int8(tmp_path / "t.onnx", data, live=True).live
    assert [one.problem for one in known] == [one.problem for one in failed], "failures are kept"
    for one in failed:  # until the reader does what the error says
        os.remove(re.search(r"then remove (/\S+\.json\.gz)", one.problem)[1])
    assert not any(one.problem for one in try_int8(tmp_path / "t.onnx", data, live=True).live)


@pytest.mark.parametrize(("count", "told"), [(0, True), (2, False)])
def test_an_engine_that_took_no_int8_is_named(fake, tmp_path, monkeypatch, count, told):
    answer = Answer("int8-entropy2", 40.0, 1.0, None)
    build = Build(
        "t",
        "int8-entropy2",
        Provenance(),
        BuildReport(BuildOptions(), 1.0, 1000),
        EngineInfo(()),
        timing=Timing(0.1, 0.1, 0.1, 10, 1, 8, "cuda events"),
        counts=LayerCounts(2, count, 0),
    )
    result = EngineResult(build, answer)
    monkeypatch.setattr("trtlearn.course.own_model.walk.build_engines", lambda *_: (result,))
    data = rng.normal(size=(20, 1, 2, 2)).astype(np.float32)
    walked = try_int8(turned(tmp_path / "t.onnx"), data, live=True)
    assert (
        any("the engine int8-entropy2 has no INT8 weights" in note for note in walked.notes) == told
    )


def test_the_script_is_a_program_that_does_the_same(fake, tmp_path):
    data = rng.normal(size=(16, 1, 2, 2)).astype(np.float32)
    walked = try_int8(turned(tmp_path / "t.onnx"), data, out=tmp_path / "out", live=False)
    script = walked.files["script"]
    runpy.run_path(script, run_name="__main__")
    again = tmp_path / "out" / "on_gpu"
    assert (again / "t.html").is_file()
    assert (again / "t.cache").read_text() == walked.cache
    assert "int8-qdq" in (again / "t.html").read_text()


@pytest.mark.parametrize("name", ['a"""b', "it's \\n", "both '\"", "-x", "größe $(date)"])
def test_the_script_is_python_whatever_the_file_is_called(tmp_path, name):
    path = turned(tmp_path / f"{name}.onnx")
    data = rng.normal(size=(16, 1, 2, 2)).astype(np.float32)
    walked = try_int8(path, data, out=tmp_path / "out", **CPU)
    program = ast.parse((tmp_path / "out" / f"{name}_on_gpu.py").read_text(encoding="utf-8"))
    assert ast.get_docstring(program).startswith(f"Walk {name} through TensorRT")
    texts = [node.value for node in ast.walk(program) if isinstance(node, ast.Constant)]
    assert str(path.resolve()) in texts
    assert walked.files["script"] == str(tmp_path / "out" / f"{name}_on_gpu.py")


def test_all_files_are_written_or_none(two_inputs, tmp_path, monkeypatch):
    def full(handle):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(TrtlearnError, match="No space left"):
        try_int8(two_inputs, arrays(), out=tmp_path / "out", **CPU)
    assert not (tmp_path / "out").exists()


def test_the_script_without_a_gpu_ends_with_one_clear_error(two_inputs, tmp_path):
    walked = try_int8(two_inputs, arrays(), out=tmp_path / "out", **CPU)
    env = {"TRTLEARN_TENSORRT": "no_such_module", "PATH": "/usr/bin:/bin"}
    env["PYTHONPATH"] = os.environ.get("PYTHONPATH", "")
    ran = subprocess.run(
        [sys.executable, walked.files["script"]],
        capture_output=True,
        text=True,
        check=False,
        env=env,
    )
    assert ran.returncode == 1
    assert re.search(r"LiveUnavailable: .+", ran.stderr.splitlines()[-1])


def test_the_widget_walks_and_says_what_does_not_fit(two_inputs, tmp_path):
    pytest.importorskip("ipywidgets")
    from trtlearn.course.own_model.widget import own_model_form

    np.savez(tmp_path / "data.npz", **arrays())
    box = own_model_form(two_inputs, tmp_path / "data.npz", out=tmp_path / "out", live=False)
    model, data, _, out, row, problem, steps, answer = box.children[:8]
    button = row.children[2]
    button.click()
    assert problem.value == ""
    assert steps.value.count("✔") == len(STEPS) - 1
    assert "– build with TensorRT: skipped" in steps.value
    assert "int8-minmax" in answer.value
    assert (tmp_path / "out" / "two.html").is_file()
    for field, text, words in (
        (data, "", "no data given"),
        (data, str(tmp_path / "gone.npz"), "no such file"),
        (model, "", "no ONNX file is named"),
        (out, " ", "no folder"),
        (row.children[1], "0", "expected a whole number from 1"),
        (row.children[1], "eight", "expected a whole number from 1"),
    ):
        before, field.value = field.value, text
        button.click()
        assert words in problem.value
        assert problem.value.count("<div") == 1
        assert answer.value == ""
        assert not button.disabled
        field.value = before
    button.click()
    assert problem.value == ""


# --- In a live notebook nothing waits: the CPU's answers at once, the engines behind the page


@pytest.fixture
def book(fake, tmp_path, monkeypatch):
    """A notebook of the course that begins on a GPU machine where nothing is built."""
    pytest.importorskip("ipywidgets")
    from live_shell import LiveShell

    monkeypatch.setattr("trtlearn.networks.stand_in", None)
    monkeypatch.setattr("trtlearn.course.doctor._gpu_names", lambda: ("NVIDIA Fake",))
    monkeypatch.chdir(tmp_path)
    turned(tmp_path / "t.onnx")
    np.save("data.npy", rng.normal(size=(20, 1, 2, 2)).astype(np.float32))
    one = LiveShell(tmp_path / "none.ipynb")
    yield one
    one.close()


def cell(book, source):
    done = book.shell.run_cell(source)
    assert done.success
    return book.shell.user_ns.get("walk")


WALK = "import trtlearn as tl\nwalk = tl.try_int8('t.onnx', 'data.npy', out='out')\nprint(walk.verdict)"
WAYS = ("fp32", "fp16", "int8-entropy2", "int8-qdq")


def shown(one):
    return "".join(str(output.get("text", output.get("data"))) for output in one.output.outputs)


def test_a_notebook_shows_the_cpu_s_answers_and_builds_behind_them(book, fake, monkeypatch):
    walk = cell(book, WALK)
    assert walk.building == WAYS
    assert not fake.get("config"), "nothing was built in the cell"
    assert walk.answer.way == "int8-entropy2"
    assert "0 of 4 engines built and timed here so far" in walk.summary()
    assert walk.notes[-1].startswith("not built yet: fp32, fp16")
    words, lesson = book.lesson._words.value, book.lesson
    assert "the CPU’s answers are shown" in words
    assert "t fp32: queued · 3 more" in words
    assert lesson._stop.layout.display == ""
    cell(book, "best = walk.answer.way")
    cell(book, "number = 7")
    first, _, other = lesson.cells
    assert walk.verdict in shown(first)
    assert lesson.panel.model_id in shown(first), "the bar stands in the cell, too"
    assert other.output is None
    monkeypatch.setattr("trtlearn.course.own_model.walk._compute", None)  # the CPU's part is kept
    for _ in WAYS:
        book.builder.finish()
    assert lesson.change_over() == 2
    built = book.shell.user_ns["walk"]
    assert built.building == ()
    assert [one.way for one in built.live] == list(WAYS)
    assert all(one.answer.agreement == 1 for one in built.live)
    assert built.answers == walk.answers
    assert lesson.panel.model_id not in shown(first)
    assert "Your GPU built 4 engines: this page shows them" in lesson._words.value
    assert "built and timed here" in built.summary()
    assert "not built yet" not in built.read("report")


def test_a_walk_again_finds_the_engines_and_waits_for_nothing(book):
    cell(book, WALK)
    book.builder.finish()
    jobs = len(book.builder.jobs)
    assert cell(book, WALK).building == ()
    assert len(book.builder.jobs) == jobs == 4


def test_a_stopped_walk_keeps_the_cpu_s_answers_until_the_reader_goes_on(book):
    from trtlearn.course.builder import Builder

    book.builder.stop = lambda: Builder.stop(book.builder)
    walk = cell(book, WALK)
    book.lesson._stop.click()
    assert book.builder.pending() == []
    assert "Building is stopped: 0 of 4 engines are built" in book.lesson._words.value
    again = cell(book, WALK)
    assert again.building == WAYS
    assert again.answers == walk.answers
    assert book.builder.pending() == []
    book.builder.jobs.clear()
    book.lesson._stop.click()
    assert [job.variant for job in book.builder.pending()] == list(WAYS)
    book.builder.finish()
    assert book.lesson.change_over() == 1
    assert book.shell.user_ns["walk"].building == ()


def test_a_stopped_walk_shows_the_engines_that_are_built(book, monkeypatch):
    from trtlearn.course.builder import Builder

    book.builder.stop = lambda: Builder.stop(book.builder)
    cell(book, WALK)
    cell(book, "seen = walk.building")
    first = book.builder.jobs[0]
    build_job(first.network, first.variant)
    first.stage = "done"
    book.builder._changed(first)
    assert book.lesson.change_over() == 0, "the others are being built"
    book.lesson._stop.click()
    assert book.lesson.change_over() == 2
    walk, shows = book.shell.user_ns["walk"], book.shell.user_ns["seen"]
    assert walk.building == shows == WAYS[1:]
    assert walk.live[0].answer.agreement == 1
    assert "1 of 4 engines built and timed here so far" in walk.summary()
    assert "fp32" in walk.engines_html()
    assert "fp16" not in walk.engines_html()
    assert "Building is stopped: 1 of 4 engines are built" in book.lesson._words.value
    assert book.lesson.panel.model_id in shown(book.lesson.cells[0]), "the way to go on"
    book.builder.jobs.clear()
    book.lesson._stop.click()
    book.builder.finish()
    assert book.lesson.change_over() == 2
    assert book.shell.user_ns["seen"] == ()
    assert book.lesson.panel.model_id not in shown(book.lesson.cells[0])


def test_the_engines_table_names_failures_below_it(fake, tmp_path):
    fake["log"], fake["fail"] = [("ERROR", "2: <b>Assertion</b> engine failed")], True
    data = rng.normal(size=(20, 1, 2, 2)).astype(np.float32)
    walk = try_int8(turned(tmp_path / "t.onnx"), data, live=True)
    assert "0 of 4 engines built and timed here" in walk.summary()
    page = walk._repr_html_()
    assert page.count("<table>") == 1, "the CPU's answers"
    assert page.count("<p>✘ ") == 4
    assert "✘ int8-qdq: the build failed" in page
    assert "<b>Assertion" not in page


def test_what_cannot_be_built_behind_is_said_once_and_not_tried_again(book, monkeypatch):
    def crash(*_, **__):
        raise TrtlearnError("the builder's process ended (status -11)")

    walk = cell(book, WALK)
    monkeypatch.setattr("live_shell.build_job", crash)
    book.builder.finish()
    book.lesson.change_over()
    walk = book.shell.user_ns["walk"]
    assert walk.building == ()
    assert {one.problem for one in walk.live} == {"the builder's process ended (status -11)"}
    assert book.lesson._problems.value == "", "the result says so itself"
    assert cell(book, WALK).building == ()


def test_where_no_plan_is_kept_the_engines_answers_are(book, fake, monkeypatch):
    monkeypatch.setenv("TRTLEARN_PLANS_MB", "0")
    assert cell(book, WALK).building == WAYS
    book.builder.finish()
    fake["fail"] = True  # nothing is built in the cell
    book.lesson.change_over()
    walk = book.shell.user_ns["walk"]
    assert [one.problem for one in walk.live] == [""] * 4
    assert all(one.answer.agreement == 1 for one in walk.live)
    jobs = len(book.builder.jobs)
    assert cell(book, WALK).live == walk.live
    assert len(book.builder.jobs) == jobs


def test_where_neither_is_kept_engines_are_built_in_the_cell_once_they_were_tried(
    book, monkeypatch
):
    monkeypatch.setenv("TRTLEARN_PLANS_MB", "0")
    monkeypatch.setattr("trtlearn.recorded.store.MOST_OUTPUTS", 0)
    assert cell(book, WALK).building == WAYS
    book.builder.finish()
    book.lesson.change_over()
    walk = book.shell.user_ns["walk"]
    assert [one.problem for one in walk.live] == [""] * 4


def test_where_only_plans_are_kept_they_are_run_again(fake, tmp_path, monkeypatch):
    monkeypatch.setattr("trtlearn.recorded.store.MOST_OUTPUTS", 0)
    data = rng.normal(size=(20, 1, 2, 2)).astype(np.float32)
    built = try_int8(turned(tmp_path / "t.onnx"), data, live=True)
    fake["fail"] = True
    assert try_int8(tmp_path / "t.onnx", data, live=True).live == built.live
    assert not fake["cuda"].memory, "all GPU memory is freed"


def test_the_form_shows_the_cpu_s_answers_and_changes_over_too(book):
    from trtlearn.course.own_model.widget import own_model_form

    box = own_model_form("t.onnx", "data.npy", out="out")
    model, *_, row, problem, steps, answer, behind = box.children[:9]
    row.children[2].click()
    assert problem.value == ""
    assert "▶ build with TensorRT: 0 of 4 engines so far" in steps.value
    assert "int8-minmax" in answer.value
    assert behind.children == (book.lesson.panel,)
    model.value = "typed meanwhile"
    book.builder.finish()
    book.lesson.change_over()
    assert problem.value == ""
    assert "✔ build with TensorRT: 4 of 4 engines" in steps.value
    assert "built and timed here" in answer.value
    assert behind.children == ()
    assert model.value == "typed meanwhile"


def test_another_process_builds_what_was_saved(fake, tmp_path, monkeypatch):
    saved = []

    def behind(engines, way):
        engines.save(tmp_path / "a folder" / "t")
        saved.append(way)
        return True

    monkeypatch.setattr("trtlearn.course.own_model.engines.stand_in", behind)
    data = rng.normal(size=(20, 1, 2, 2)).astype(np.float32)
    try_int8(turned(tmp_path / "t.onnx"), data, live=True)
    assert saved == list(WAYS)
    engines = OwnEngines.load(tmp_path / "a folder" / "t")
    assert not engines.is_kept("int8-entropy2")
    stages, batches = [], []
    build_job(
        str(tmp_path / "a folder" / "t"),
        "int8-entropy2",
        lambda *of: batches.append(of),
        stages.append,
    )
    assert stages == ["building", "measuring"]
    assert batches[-1] == (2, 2)
    assert engines.is_kept("int8-entropy2")
    assert not engines.is_kept("fp32")


def test_a_folder_that_cannot_be_is_named_before_any_work(two_inputs, tmp_path):
    (tmp_path / "out").write_bytes(b"a file")
    steps = []
    with pytest.raises(TrtlearnError, match=r"cannot write .*out"):
        try_int8(two_inputs, arrays(), out=tmp_path / "out", progress=steps.append, **CPU)
    assert steps == ["look"]
    assert (tmp_path / "out").read_bytes() == b"a file"


@pytest.mark.parametrize("content", [b"", b"no archive", b"PK\x03\x04 cut off"])
def test_what_no_lesson_saved_is_not_built(tmp_path, content):
    (tmp_path / "t").write_bytes(content)
    with pytest.raises(DataError, match="holds no engines to build"):
        OwnEngines.load(tmp_path / "t")
