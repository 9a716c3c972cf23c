"""The command line: stable JSON keys, one clear line and exit status 2 for bad input, nothing
half-written.
"""

from __future__ import annotations

import contextlib
import gzip
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from trtlearn.calibration.cache import new_cache, read_cache
from trtlearn.dtypes import DTYPES
from trtlearn.engine.records import BuildOptions, BuildReport

ROOT = Path(__file__).parent.parent.parent
RTX = "tensorrt_rtx_bindings"
Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def facts(run: Run) -> Callable[..., Any]:
    """Run one command with --json and read what it printed."""

    def facts(*arguments: object) -> Any:
        status, out, err = run(*arguments, "--json")
        assert (status, err) == (0, "")
        return json.loads(out)

    return facts


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    scales = {"image": 1.0, "odd (name): [x]": 0.25, "zero": 0.0}
    return new_cache(scales).save(tmp_path / "a.cache")


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """A small ONNX file: one convolution, one ReLU, dynamic batch."""
    onnx = pytest.importorskip("onnx")
    weights = np.random.default_rng(0).normal(size=(8, 4, 3, 3)).astype(np.float32)
    make, kind = onnx.helper, onnx.TensorProto.FLOAT
    graph = make.make_graph(
        [
            make.make_node("Conv", ["image", "w"], ["conv"], name="conv", pads=[1, 1, 1, 1]),
            make.make_node("Relu", ["conv"], ["relu"], name="relu"),
        ],
        "g",
        [make.make_tensor_value_info("image", kind, ["batch", 4, 8, 8])],
        [make.make_tensor_value_info("relu", kind, ["batch", 8, 8, 8])],
        [onnx.numpy_helper.from_array(weights, "w")],
    )
    path = tmp_path / "m.onnx"
    onnx.save(make.make_model(graph, opset_imports=[make.make_opsetid("", 17)], ir_version=9), path)
    return path


INSPECTOR = {
    "Layers": [
        {
            "Name": "conv + relu",
            "LayerType": "CaskConvolution",
            "Inputs": [
                {
                    "Name": "image",
                    "Location": "Device",
                    "Dimensions": [8, 4, 8, 8],
                    "Format/Datatype": "Thirty-two wide channel vectorized row major Int8 format",
                },
            ],
            "Outputs": [
                {
                    "Name": "relu",
                    "Location": "Device",
                    "Dimensions": [8, 8, 8, 8],
                    "Format/Datatype": "Row major linear FP32",
                },
            ],
            "ParameterType": "Convolution",
            "Weights": {"Type": "Int8", "Count": 288},
            "Bias": {"Type": "Float", "Count": 8},
            "TacticName": "sm80_xmma_fprop",
            "TacticValue": "0x1",
            "StreamId": 0,
            "Metadata": "[ONNX Layer: conv]\x1e[ONNX Layer: relu]",
        }
    ],
    "Bindings": ["image", "relu"],
}


@pytest.fixture
def layers(tmp_path: Path) -> Path:
    """A file of the inspector of 8.6, with its raw 0x1e."""
    path = tmp_path / "layers.json"
    path.write_text(json.dumps(INSPECTOR).replace("\\u001e", "\x1e"))
    return path


def one_line(err: str) -> str:
    assert err.startswith("trtlearn: ")
    assert err.count("\n") == 1, err
    return err


def test_explain_keys(facts: Callable[..., Any]) -> None:
    found = facts("explain", "trtexec --onnx=m.onnx --int8", "--trt", "8.6")
    assert found["mode"] == "placeholder-ranges"
    assert found["steps"]
    assert found["sources"]
    assert all({"file", "function", "lines", "tag"} <= set(source) for source in found["sources"])
    assert facts("explain", "trtexec --onnx=m.onnx", "--trt", "8.6")["mode"] == "not-int8"
    assert facts("explain", "trtexec --onnx=m.onnx --int8", "--trt", "11.1")["mode"] == "rejected"
    calibrating = ("explain", "trtexec --onnx=m.onnx --int8 --calib=c", "--trt", "8.6")
    assert facts(*calibrating, "--cache-exists")["mode"] == "cached-scales"
    assert facts(*calibrating, "--no-cache-exists")["mode"] == "random-calibration"


def test_explain_looks_into_the_model(
    facts: Callable[..., Any], run: Run, model: Path, tmp_path: Path
) -> None:
    command = f"trtexec --onnx={model} --int8"
    assert facts("explain", command)["mode"] == "placeholder-ranges"
    status, _, err = run("explain", command, "--model", tmp_path / "missing.onnx")
    assert status == 2
    assert "missing.onnx" in one_line(err)


def test_cache_show_keys(facts: Callable[..., Any], cache: Path) -> None:
    found = facts("cache", "show", cache)
    assert found["header"] == "TRT-8600-EntropyCalibration2"
    assert (found["algorithm"], found["tensorrt_version"]) == ("EntropyCalibration2", "8.6.0")
    first = found["tensors"][0]
    assert (first["name"], first["scale"], first["amax"]) == ("image", 1.0, 127.0)
    assert [tensor["name"] for tensor in found["tensors"]] == ["image", "odd (name): [x]", "zero"]


def test_cache_diff(facts: Callable[..., Any], cache: Path, tmp_path: Path) -> None:
    other = new_cache({"image": 0.5, "new": 1.0}).save(tmp_path / "b.cache")
    states = {row["name"]: row["state"] for row in facts("cache", "diff", cache, other)["tensors"]}
    assert states == {
        "image": "changed",
        "odd (name): [x]": "only in a",
        "zero": "only in a",
        "new": "only in b",
    }


def test_cache_edits_merges_and_converts(
    facts: Callable[..., Any], run: Run, cache: Path, model: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out.cache"
    edits = (
        "--drop",
        "zero",
        "--rename",
        "odd (name): [x]=conv",
        "--scale",
        "image=0.5",
        "--scale",
        "relu=2",
    )
    facts("cache", "edit", cache, "-o", out, *edits)
    assert dict(read_cache(out)) == {"image": 0.5, "conv": 0.25, "relu": 2.0}
    assert facts("cache", "check", out, model)["stale"] == []
    assert run("cache", "check", cache, model)[0] == 1
    merged = facts("cache", "merge", cache, out, "-o", tmp_path / "m.cache", "--prefer", "largest")
    assert next(tensor["scale"] for tensor in merged["tensors"] if tensor["name"] == "image") == 1.0
    for kind in ("ranges", "ort-table"):
        facts("cache", "convert", out, "--to", kind, "-o", tmp_path / kind)
        facts(
            "cache",
            "convert",
            tmp_path / kind,
            "--from",
            kind,
            "--to",
            "cache",
            "-o",
            tmp_path / "back",
        )
        assert dict(read_cache(tmp_path / "back")) == dict(read_cache(out))
    facts("cache", "convert", out, "--to", "qdq", "-o", tmp_path / "qdq")
    assert json.loads((tmp_path / "qdq").read_text())["conv"] == [0.25, 0]


@pytest.mark.parametrize(
    "arguments",
    [
        ["edit", "{cache}", "--drop", "unknown"],
        ["edit", "{cache}", "--rename", "image"],
        ["edit", "{cache}", "--scale", "image=much"],
        ["edit", "{cache}", "--scale", "image=-1"],
        ["edit", "{cache}", "--header", "two\nlines"],
        ["merge", "{cache}", "{cache}", "--prefer", "mine"],
        ["convert", "{cache}", "--to", "toml"],
        ["convert", "{cache}", "--to", "cache", "--from", "ranges"],
    ],
)
def test_cache_changes_are_refused_whole(
    run: Run, cache: Path, tmp_path: Path, arguments: list[str]
) -> None:
    out = tmp_path / "out"
    status, _, err = run("cache", *(part.format(cache=cache) for part in arguments), "-o", out)
    assert status == 2
    assert "defect" not in one_line(err)
    assert not out.exists()


def test_progress_is_shown_exported_and_reset(
    facts: Callable[..., Any], run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from trtlearn.course import progress

    monkeypatch.setenv("TRTLEARN_HOME", str(tmp_path / "home"))
    progress.note("01-scale", passed=True)
    assert "01-scale" in facts("progress")["steps"]
    assert facts("progress", "show") == facts("progress")
    progress.note("01-range", answer="exactly ±7.25")
    progress.note("77-of-an-older-course", passed=True)
    assert run("progress", "export", "-o", tmp_path / "mine.json")[0] == 0
    report = json.loads((tmp_path / "mine.json").read_text())
    assert (report["solved"], report["predicted"]) == (1, 1)
    assert report["exercises"] > 3
    assert set(report["steps"]) == {"01-scale", "01-range"}
    assert "01-scale" in json.loads((tmp_path / "mine.json").read_text())["steps"]
    assert run("progress", "reset")[0] == 0
    assert facts("progress")["steps"] == {}


def test_migrate_writes_the_qdq_model(
    facts: Callable[..., Any], run: Run, model: Path, tmp_path: Path
) -> None:
    from trtlearn.model.read import read_model

    cache = new_cache({"image": 0.05, "conv": 0.1, "relu": 0.1}).save(tmp_path / "m.cache")
    command, out = f"trtexec --onnx={model} --int8 --calib={cache}", tmp_path / "qdq.onnx"
    facts("migrate", command, model, "--cache", cache, "-o", out)
    assert read_model(out).has_qdq
    status, _, err = run(
        "migrate", f"trtexec --onnx={model}", model, "--cache", cache, "-o", tmp_path / "no.onnx"
    )
    assert status == 2
    assert "mode is not-int8" in one_line(err)
    assert not (tmp_path / "no.onnx").exists()


def test_inspect_keys(facts: Callable[..., Any], layers: Path) -> None:
    (layer,) = facts("inspect", layers)["layers"]
    assert layer["name"] == "conv + relu"
    assert (layer["input_dtypes"], layer["output_dtypes"], layer["weight_dtype"]) == (
        ["int8"],
        ["fp32"],
        "int8",
    )
    assert layer["onnx_nodes"] == ["conv", "relu"]
    assert layer["kernel"] == "sm80_xmma_fprop"


def test_precision_keys(facts: Callable[..., Any], layers: Path, model: Path) -> None:
    found = facts("precision", layers, "--model", model)
    assert [(row["name"], row["computed_in"]) for row in found["nodes"]] == [
        ("conv", "int8"),
        ("relu", "int8"),
    ]
    assert {
        "requested_dtype",
        "input_dtypes",
        "output_dtypes",
        "weight_dtype",
        "reason",
        "evidence",
    } <= set(found["layers"][0])


def test_a_build_s_report_can_be_inspected(
    facts: Callable[..., Any], run: Run, tmp_path: Path
) -> None:
    build = BuildReport(BuildOptions(int8=True, ranges="placeholder"), 1.0, 100).to_dict()
    report = tmp_path / "report.json"
    report.write_text(json.dumps({**build, "plan": "m.plan", "inspector": json.dumps(INSPECTOR)}))
    assert facts("inspect", report)["layers"][0]["onnx_nodes"] == ["conv", "relu"]
    assert facts("precision", report)["nodes"][0]["requested_dtype"] == "int8"
    report.write_text(json.dumps({**build, "inspector": None}))
    status, _, err = run("inspect", report)
    assert status == 2
    assert "no inspector text" in one_line(err)


def test_recorded_experiments_are_read(facts: Callable[..., Any]) -> None:
    files = sorted((ROOT / "data" / "recordings").glob("*/*/int8-entropy2.json.gz"))
    assert files
    layers = facts("inspect", files[0])["layers"]
    dtypes = {d for layer in layers for d in (*layer["input_dtypes"], *layer["output_dtypes"]) if d}
    assert "int8" in dtypes <= set(DTYPES)
    report = facts("precision", files[0])
    assert {row["computed_in"] for row in report["nodes"]} >= {"int8"}
    assert all(row["reason"] and row["evidence"] for row in report["layers"])


def test_agree_keys_and_status(
    facts: Callable[..., Any], run: Run, model: Path, tmp_path: Path
) -> None:
    """Our own min-max scales agree with themselves, a changed one does not: exit status 0, then
    1.
    """
    pytest.importorskip("onnxruntime")
    data = tmp_path / "data.npy"
    np.save(data, np.random.default_rng(1).normal(size=(16, 4, 8, 8)).astype(np.float32))
    cache = new_cache({"image": 1.0, "conv": 1.0, "relu": 1.0}, "minmax")
    first = cache.save(tmp_path / "first.cache")
    status, out, _ = run("agree", model, data, "--cache", first, "--batch", 8, "--json")
    found = json.loads(out)["tensors"]
    assert status == 1
    assert all(
        {"name", "ours", "tensorrt", "relative_difference", "explanation"} <= set(row)
        for row in found
    )
    ours = new_cache({row["name"]: row["ours"] for row in found}, "minmax")
    same = ours.save(tmp_path / "same.cache")
    assert all(
        row["explanation"] is None
        for row in facts("agree", model, data, "--cache", same)["tensors"]
    )
    assert run("agree", model, data, "--cache", same, "--tolerance", "2")[0] == 2


def test_doctor_keys(facts: Callable[..., Any]) -> None:
    assert {"mode", "why", "gpus", "driver", "tensorrt", "recordings", "findings"} <= set(
        facts("doctor")
    )


@pytest.mark.parametrize(
    "arguments",
    [
        ["cache", "show"],
        ["cache", "diff", "{cache}"],
        ["inspect"],
        ["precision"],
        ["build"],
        ["agree", "--cache", "{cache}", "{model}"],
    ],
)
@pytest.mark.parametrize(
    "kind", ["missing", "folder", "empty", "binary", "text", "unreadable", "cut"]
)
def test_bad_files_are_one_line_and_status_2(
    run: Run, cache: Path, model: Path, tmp_path: Path, arguments: list[str], kind: str
) -> None:
    bad = tmp_path / "bad"
    if kind == "folder":
        bad.mkdir()
    elif kind != "missing":
        content = {
            "binary": bytes(range(256)) * 9,
            "text": b"hello\n",
            "cut": b'{"Layers": [{"Name": "x"',
        }
        bad.write_bytes(content.get(kind, b""))
    if kind == "unreadable":
        if os.geteuid() == 0:
            bad.unlink()
            bad.symlink_to(
                bad
            )  # root may read everything; a loop of links is unreadable for root too
        else:
            bad.chmod(0)
    before = sorted(tmp_path.rglob("*"))
    status, out, err = run(
        *(part.format(cache=cache, model=model) for part in arguments), bad, "--json"
    )
    assert (status, out) == (2, "")
    assert "defect" not in one_line(err)
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["explain", "ls -l"], "trtexec"),
        (["explain", "trtexec --onnx='m"], "quot"),
        (["explain", "trtexec --int8", "--trt", "7.0"], "8.4"),
        (["explain"], "Missing argument"),
        (["nonsense"], "nonsense"),
        (["doctor", "--nonsense"], "--nonsense"),
        (["build", "m.onnx", "--batch", "0"], "--batch"),
        (["lab", "--port", "many"], "--port"),
    ],
)
def test_bad_arguments_are_one_line_and_status_2(
    run: Run, arguments: list[str], expected: str
) -> None:
    status, out, err = run(*arguments)
    assert (status, out) == (2, "")
    assert expected in one_line(err)


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (["--int8"], "without ranges"),
        (["--placeholder", "--random"], "choose one"),
        (["--placeholder", "--amax", "x.json"], "choose one"),
        (["--layer-precision", "conv"], "NAME=DTYPE"),
        (["--calib-data", "{folder}/missing.npy"], "missing.npy"),
        (["--cache", "{folder}/missing.cache"], "missing.cache"),
        (["--amax", "{folder}/m.onnx"], "not JSON"),
        (["-o", "{folder}"], "cannot write"),
        (["-o", "{folder}/m.onnx/plan"], "cannot write"),
    ],
)
def test_build_refuses_before_it_builds(
    run: Run,
    model: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    options: list[str],
    expected: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    status, out, err = run("build", model, *(option.format(folder=tmp_path) for option in options))
    assert (status, out) == (2, "")
    assert expected in one_line(err)
    assert sorted(tmp_path.iterdir()) == [model]


def test_build_without_tensorrt_says_so(
    run: Run, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TRTLEARN_TENSORRT", "no_such_tensorrt")
    status, _, err = run("build", model)
    assert status == 2
    assert "trtlearn[gpu]" in one_line(err)
    assert not list(tmp_path.glob("*.plan"))


def test_build_writes_plan_and_report(
    facts: Callable[..., Any], model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """TensorRT-RTX builds for a GPU that is not here, so the whole verb runs on any machine."""
    pytest.importorskip(RTX)
    monkeypatch.setenv("TRTLEARN_TENSORRT", RTX)
    plan, report = tmp_path / "out" / "m.plan", tmp_path / "report.json"
    found = facts(
        "build",
        model,
        "-o",
        plan,
        "--report",
        report,
        "--compute-capability",
        "8.9",
        "--batch",
        "2",
    )
    assert found["plan_bytes"] == plan.stat().st_size > 0
    assert found["options"]["batch"] == 2
    assert "log" not in found
    assert json.loads(report.read_text())["plan"] == str(plan)


def test_a_plan_without_its_gpu_is_explained(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TRTLEARN_TENSORRT", "no_such_tensorrt")
    (tmp_path / "m.plan").write_bytes(b"ftrt\0\0\0\0plan")
    status, _, err = run("inspect", tmp_path / "m.plan")
    assert status == 2
    assert "--exportLayerInfo" in one_line(err)


def test_a_damaged_recording(run: Run, tmp_path: Path) -> None:
    whole = gzip.compress(b'{"model": "resnet"}' * 100)
    for name, content in (
        ("cut", whole[:-12]),
        ("hurt", whole[:12] + b"\xff\xff" + whole[14:]),
        ("other", whole),
    ):
        (tmp_path / name).write_bytes(content)
        status, _, err = run("inspect", tmp_path / name)
        assert status == 2
        assert "defect" not in one_line(err)


def test_a_defect_is_one_line_unless_debugging(
    run: Run, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(path: object) -> None:
        raise RuntimeError("two\nlines")

    monkeypatch.setattr("trtlearn.calibration.cache.read_cache", broken)
    monkeypatch.delenv("TRTLEARN_DEBUG", raising=False)
    status, _, err = run("cache", "show", cache)
    assert status == 2
    assert "RuntimeError: two lines" in one_line(err)
    monkeypatch.setenv("TRTLEARN_DEBUG", "1")
    with pytest.raises(RuntimeError, match="two"):
        run("cache", "show", cache)


def test_help_lists_every_verb(run: Run) -> None:
    status, out, _ = run()
    assert status == 0
    for verb in ("explain", "cache", "inspect", "precision", "build", "agree", "doctor", "lab"):
        assert f"  {verb} " in out


def program(*arguments: object, **options: Any) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "trtlearn", *map(str, arguments)]
    return subprocess.run(command, check=False, capture_output=True, text=True, cwd=ROOT, **options)


def test_no_colour_and_no_cut_lines_when_not_a_terminal(cache: Path) -> None:
    answer = program("cache", "show", cache)
    assert answer.returncode == 0
    assert "\x1b" not in answer.stdout
    assert "odd (name): [x]" in answer.stdout


def on_a_terminal(*arguments: object, **variables: str) -> str:
    """What the program shows on a terminal of 24 lines."""
    pty = pytest.importorskip("pty")
    ours, theirs = pty.openpty()
    left = {key: value for key, value in os.environ.items() if key not in ("NO_COLOR", "COLUMNS")}
    environment = left | {"TERM": "xterm-256color"} | variables
    command = [sys.executable, "-m", "trtlearn", *map(str, arguments)]
    with subprocess.Popen(command, stdout=theirs, cwd=ROOT, env=environment) as child:
        os.close(theirs)
        parts = []
        with contextlib.suppress(OSError):  # the other end is closed
            while part := os.read(ours, 100_000):
                parts.append(part)
        assert child.wait() == 0
    os.close(ours)
    return b"".join(parts).decode()


def test_colour_on_a_terminal(cache: Path) -> None:
    shown = on_a_terminal("cache", "show", cache)
    assert "\x1b[1m" in shown
    assert "odd (name): [x]" in shown


@pytest.mark.parametrize(("lines", "times"), [("100", 1), ("24", 2)])
def test_the_summary_stands_below_a_table_too_that_fills_the_screen(
    tmp_path: Path, lines: str, times: int
) -> None:
    long = new_cache({f"tensor{i}": 0.5 for i in range(40)}).save(tmp_path / "long.cache")
    shown = on_a_terminal("cache", "show", long, LINES=lines, COLUMNS="120")
    assert shown.count("40 tensors") == times


def test_a_reader_that_stops_early_is_no_error(tmp_path: Path) -> None:
    big = new_cache({f"tensor{i}": 0.5 for i in range(20_000)}).save(tmp_path / "big.cache")
    line = f"set -o pipefail; {sys.executable} -m trtlearn cache show {big} | head -n 1"
    answer = subprocess.run(
        ["bash", "-c", line], check=False, capture_output=True, text=True, cwd=ROOT
    )
    assert (answer.returncode, answer.stderr) == (0, "")
    assert "20,000 tensors" in answer.stdout


@pytest.mark.parametrize(
    ("words", "advice"),
    [
        (("explain", "trtexec", "--onnx=m.onnx", "--int8"), "put the trtexec command in quotes"),
        (("fit",), "Missing argument 'cache'. Try: trtlearn fit --help"),
        (("precison",), "Did you mean 'precision'. Try: trtlearn --help"),
    ],
)
def test_a_wrong_argument_names_the_help_of_its_verb(
    run: Run, words: tuple[str, ...], advice: str
) -> None:
    status, _, err = run(*words)
    assert status == 2
    assert advice.lower() in err.lower()  # typer 0.18 writes CACHE
