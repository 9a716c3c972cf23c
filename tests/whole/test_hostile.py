"""Names are data: through every verb, report, script and picture, in every shell."""

from __future__ import annotations

import ast
import dataclasses
import html.parser
import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from conftest import Run
from hostile import FILES, TENSORS
from onnx import TensorProto, helper, numpy_helper

import trtlearn as tl
from recording.saving import save_build, save_study
from trtlearn.builds import Build
from trtlearn.calibration.cache import new_cache
from trtlearn.course.own_model.records import ChosenRange, Walk
from trtlearn.course.own_model.report import gpu_script, range_figure, report_html
from trtlearn.engine.inspector import read_engine
from trtlearn.engine.log import read_log
from trtlearn.engine.precision import precision_report
from trtlearn.errors import HIDDEN, CacheError, RecordingError, printable
from trtlearn.files import shell_command
from trtlearn.record import html_link
from trtlearn.recorded.files import folder_with, load_build
from trtlearn.trtexec.snippets import read_command_line
from trtlearn.trtexec.sources import Source

pytestmark = pytest.mark.filterwarnings("ignore:tensor format")
LINK = re.compile(r"<(?!/?(?:b|i|br|sup|sub|extra)>)")


def model(tensor: str = "product") -> bytes:
    """x @ w, then Relu; ``tensor`` is the name between, and of both nodes."""
    value = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", 4]) for name in "xy"]
    graph = helper.make_graph(
        [
            helper.make_node("MatMul", ["x", "w"], [tensor], tensor),
            helper.make_node("Relu", [tensor], ["y"], f"{tensor} too"),
        ],
        "g",
        value[:1],
        value[1:],
        [numpy_helper.from_array(np.eye(4, dtype=np.float32), "w")],
    )
    content: bytes = helper.make_model(
        graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8
    ).SerializeToString()
    return content


def check(answer: tuple[int, str, str], words: tuple[Any, ...]) -> None:
    """The command ended well or with one line, and printed nothing that a terminal obeys."""
    status, out, err = answer
    assert status in (0, 1, 2), words
    assert "This is a defect" not in err, (words, err)
    assert err.count("\n") <= 2, (words, err)
    assert not HIDDEN.search(out + err), (words, out, err)
    assert (out + err).encode()


@pytest.mark.parametrize("name", FILES, ids=ascii)
def test_file_names_through_every_verb(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TRTLEARN_HOME", str(tmp_path / "home"))
    folder = tmp_path / f"in{name}"
    folder.mkdir()
    net, cache, data = (folder / f"{name}{end}" for end in (".onnx", ".cache", ".npy"))
    layers, log, out = (folder / f"{name}{end}" for end in (".json", ".log", ".out"))
    net.write_bytes(model())
    np.save(str(data), np.ones((8, 4), np.float32))
    new_cache({"x": 0.5, "product": 0.25}).save(cache)
    layers.write_text('{"Layers": ["a", "b"], "Bindings": []}', encoding="utf-8")
    log.write_text(f"[TRT] [E] 10: no implementation for node {printable(name)}.", "utf-8")
    command = shell_command("trtexec", f"--onnx={net}", "--int8", f"--calib={cache}")
    for words in (
        ("cache", "show", cache),
        ("cache", "show", folder),
        ("cache", "show", folder / f"none{name}"),
        ("cache", "diff", cache, cache),
        ("cache", "check", cache, net),
        ("cache", "check", cache, cache),
        ("cache", "edit", cache, "-o", out, "--drop", "x"),
        ("cache", "edit", cache, "-o", out, "--scale", f"{name}=0.5"),
        ("cache", "edit", cache, "-o", out, "--rename", f"x={name}"),
        ("cache", "edit", cache, "-o", folder, "--header", name),
        ("cache", "merge", cache, cache, "-o", out),
        ("cache", "convert", cache, "-o", out, "--to", "ranges"),
        ("cache", "convert", cache, "-o", out, "--to", name),
        ("inspect", layers),
        ("inspect", net),
        ("precision", layers, "--model", net),
        ("log", log),
        ("explain", command),
        ("explain", command, "--trt", "11.1"),
        ("explain", f"trtexec --onnx={name} --int8 --calib={name}"),
        ("calibrate", net, data, "-o", out, "--algorithm", "minmax"),
        ("fit", cache, net, data),
        ("agree", net, data, "--cache", cache),
        ("migrate", command, net, "--cache", cache, "-o", folder / f"{name}.qdq.onnx"),
        ("migrate", command, net, "--cache", cache, "-o", net),
        ("build", net, "--placeholder", "-o", out),
        ("progress", "export", "-o", out),
        (name,),
        ("cache", name),
    ):
        check(run(*words), words)
    for words in (("cache", "show", cache), ("inspect", layers), ("explain", command)):
        status, text, _ = run(*words, "--json")
        assert status == 0
        assert json.loads(text)
    assert not list(tmp_path.rglob("ran"))
    assert {path.name for path in tmp_path.iterdir()} <= {folder.name, "home"}


@pytest.mark.parametrize("name", TENSORS, ids=ascii)
def test_tensor_names_through_every_verb(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.chdir(tmp_path)
    net = tmp_path / "net.onnx"
    net.write_bytes(model(name))
    np.save("data.npy", np.ones((8, 4), np.float32))
    (tmp_path / "old.cache").write_text("TRT-8600-EntropyCalibration2\nx: 3f000000\n", "utf-8")
    scales = {name: 0.25} if name.strip() else {}
    new_cache({"x": 0.5, **scales}).save("tensors.cache")
    layer = {"Name": name, "LayerType": name, "Inputs": [{"Name": name}], "Outputs": []}
    layer |= {"TacticName": name, "Metadata": f"[ONNX Layer: {name}]"}
    engine = {"Layers": [layer], "Bindings": [name]}
    (tmp_path / "layers.json").write_text(json.dumps(engine), encoding="utf-8")
    line = f"[TRT] [E] 10: Could not find any implementation for node {name}."
    (tmp_path / "t.log").write_text(line, encoding="utf-8")
    for words in (
        ("cache", "show", "tensors.cache"),
        ("cache", "diff", "tensors.cache", "old.cache"),
        ("cache", "check", "tensors.cache", net),
        ("cache", "edit", "tensors.cache", "-o", "new.cache", "--drop", name),
        ("inspect", "layers.json"),
        ("precision", "layers.json", "--model", net),
        ("log", "t.log"),
        ("calibrate", net, "data.npy", "-o", "new.cache", "--algorithm", "minmax"),
        ("fit", "tensors.cache", net, "data.npy"),
        ("agree", net, "data.npy", "--cache", "tensors.cache"),
        ("migrate", "trtexec --int8", net, "--cache", "tensors.cache", "-o", "new.onnx"),
    ):
        check(run(*words), words)


class Tags(html.parser.HTMLParser):
    """The tags of a page, with their attributes' names and links."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.seen: list[str] = []
        self.feed(page)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.append(f"{tag} {sorted(name for name, _ in attrs)}")

    def handle_endtag(self, tag: str) -> None:
        self.seen.append(f"/{tag}")


def tags(page: str) -> list[str]:
    """All but <wbr>, which stands where a long name may break."""
    return [tag for tag in Tags(page).seen if not tag.startswith(("wbr", "/wbr"))]


def named_engine(name: str) -> Any:
    layer = {"Name": name, "LayerType": name, "TacticName": name, "Outputs": []}
    layer["Inputs"] = [{"Name": name, "Format/Datatype": name, "Dimensions": [1]}]
    other = {**layer, "Name": f"{name} 2", "Inputs": [], "Outputs": layer["Inputs"]}
    return read_engine(json.dumps({"Layers": [layer, other], "Bindings": [name]}))


def named_records(name: str) -> list[Any]:
    engine = named_engine(name)
    source = Source(name, name, name, name, name)
    log = read_log(f"[TRT] [E] 10: Could not find any implementation for node {name}.")
    tensor = name if name in TENSORS and name.strip() else "x"
    return [engine, precision_report(engine), source, log, new_cache({tensor: 0.5})]


@pytest.fixture(scope="module")
def walk(tmp_path_factory: pytest.TempPathFactory) -> Walk:
    path = tmp_path_factory.mktemp("walk") / "m.onnx"
    path.write_bytes(model())
    data = np.random.default_rng(0).normal(size=(16, 4)).astype(np.float32)
    walked = tl.try_int8(path, data, algorithm="minmax", live=False)
    return dataclasses.replace(walked, files={"script": "m.py", "report": "m.html"})


def renamed(walk: Walk, name: str) -> Walk:
    fits = tuple(ChosenRange(name, 2.0, 0.1, 1.0, True) for _ in walk.tensors)
    files = {word: f"{name}-{word}" for word in walk.files}
    return dataclasses.replace(walk, name=name, tensors=fits, files=files, notes=(name,))


@pytest.mark.parametrize("name", sorted({*TENSORS, *FILES}), ids=ascii)
def test_pages_have_the_tags_that_a_plain_name_gives(
    walk: Walk, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("plotly.offline.get_plotlyjs", lambda: "")
    for record, plain in zip(named_records(name), named_records("plain"), strict=True):
        page = record._repr_html_()
        assert tags(page) == tags(plain._repr_html_())
        assert not HIDDEN.search(page)
        for text in (str(record), repr(record)):
            assert not HIDDEN.search(text)
    script = re.compile(r"<script>.*?</script>|<script .*?</script>|<div>\s*<div id=.*", re.S)
    one, other = (script.sub("", report_html(renamed(walk, n))) for n in (name, "plain"))
    assert tags(one) == tags(other)
    assert not HIDDEN.search(one)


def texts(value: Any) -> list[str]:
    """Every text inside a figure."""
    if isinstance(value, str):
        return [value]
    if isinstance(value, dict):
        return [text for item in value.values() for text in texts(item)]
    if isinstance(value, (list, tuple, np.ndarray)):
        return [text for item in value for text in texts(item)]
    return []


FIGURES: dict[str, Callable[[str], Any]] = {
    "engine": lambda name: tl.show.engine(named_engine(name)),
    "precision": lambda name: tl.show.precision(named_engine(name)),
    "diff": lambda name: tl.show.engine_diff(named_engine(name), named_engine("other")),
    "layer_times": lambda name: tl.show.layer_times(named_engine(name), {name: 1.0}),
    "scales": lambda name: tl.show.scales(new_cache({name.strip() or "x": 0.5, "y": 0.25})),
}


@pytest.mark.parametrize("picture", FIGURES)
@pytest.mark.parametrize("name", TENSORS, ids=ascii)
def test_figures_hold_no_foreign_markup(picture: str, name: str) -> None:
    figure = FIGURES[picture](name)
    for text in texts(figure.to_dict()):
        assert not LINK.search(text), text
        assert not HIDDEN.search(text), text


@pytest.mark.parametrize("name", TENSORS, ids=ascii)
def test_the_report_s_figure_holds_no_foreign_markup(walk: Walk, name: str) -> None:
    assert not any(LINK.search(text) for text in texts(range_figure(renamed(walk, name)).to_dict()))


@pytest.mark.parametrize("url", ["javascript:alert(1)", " JavaScript:x", "data:text/html,x", "x"])
def test_only_web_links_are_links(url: str) -> None:
    assert "<a" not in html_link(url, "x")
    assert "<a" not in Source("f", "f", "1", "v", url)._repr_html_()
    assert '<a href="https://x/&quot;"' in html_link('https://x/"', "x")


@pytest.mark.parametrize("name", FILES, ids=ascii)
def test_the_script_compiles_and_runs_nothing(walk: Walk, name: str, tmp_path: Path) -> None:
    files = {"script": str(tmp_path / f"{name}_on_gpu.py")}
    path = tmp_path / f"{name}.onnx"
    named = dataclasses.replace(walk, name=name, files=files)
    text = gpu_script(named, path, tmp_path / name, None)
    plain = gpu_script(dataclasses.replace(walk, name="m"), Path("m.onnx"), Path("d"), None)
    program, other = ast.parse(text.encode("utf-8")), ast.parse(plain)
    kinds = [[type(node).__name__ for node in ast.walk(tree)] for tree in (program, other)]
    assert kinds[0] == kinds[1]
    values = [node.value for node in ast.walk(program) if isinstance(node, ast.Constant)]
    assert str(path.resolve()) in values
    assert not HIDDEN.search(text)
    script = tmp_path / "script.py"
    script.write_text(text, encoding="utf-8")
    command = [sys.executable, "-c", f"import runpy; runpy.run_path({str(script)!r})"]
    if name in FILES[:3]:  # the others differ in literals only
        subprocess.run(command, check=True, cwd=tmp_path, env={"PYTHONPATH": os.getcwd()})
    assert sorted(os.listdir(tmp_path)) == ["script.py"]


@pytest.mark.parametrize("name", FILES, ids=ascii)
def test_explain_s_advice_is_read_back_as_it_was_meant(name: str, tmp_path: Path) -> None:
    command = shell_command("trtexec", f"--onnx={name}.onnx", "--int8", f"--calib={name}.cache")
    if not HIDDEN.search(name) and "\n" not in name:
        assert read_command_line(command).arguments[0] == f"--onnx={name}.onnx"
    advice = tl.explain(command, trt="11.1").advice
    lines = [match[1] for text in advice for match in re.finditer(r"`(trtlearn migrate .*?)` writes", text, re.S)]  # fmt: skip
    for line in lines:
        ran = subprocess.run(
            ["sh"], input=f"trtlearn() {{ :; }}\n{line}\n", cwd=tmp_path, capture_output=True,
            text=True, encoding="utf-8", errors="surrogateescape", check=True,
        )  # fmt: skip
        assert (ran.stdout, ran.stderr) == ("", "")
    assert len(lines) == 1
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("name", ["../out", "a/b", "..", ".", "", "a\\b", "a\0b", "/etc/x"])
def test_a_recording_stays_in_its_folder(tmp_path: Path, name: str) -> None:
    build = load_build(folder_with("resnet") / "resnet" / "fp32.json.gz")
    for changed in (
        dataclasses.replace(build, model=name),
        dataclasses.replace(build, variant=name),
    ):
        assert isinstance(changed, Build)
        with pytest.raises(RecordingError, match="cannot name"):
            save_build(tmp_path / "folder", changed)
        if "/" in name or "\\" in name or "\0" in name:
            with pytest.raises(RecordingError, match="cannot name"):
                save_study(tmp_path / "folder", changed)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("name", ["a\nb", "a\0b", "\ud800", "", " ", 7])
def test_a_cache_cannot_hold_such_names(name: Any) -> None:
    with pytest.raises(CacheError):
        new_cache({name: 0.5})


def test_names_of_the_suite_reach_the_disk(tmp_path: Path) -> None:
    for name in FILES:
        (tmp_path / f"{name}.x").write_bytes(b"")
    assert len(os.listdir(tmp_path)) == len(set(FILES))
    assert onnx.load_model_from_string(model(TENSORS[0])).graph.node[0].name == TENSORS[0]
