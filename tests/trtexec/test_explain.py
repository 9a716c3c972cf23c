"""The explainer: every mode at every version, the parser's rules, and its citations against
NVIDIA's own source.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
from pathlib import Path
from string import Formatter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trtlearn.calibration.cache import format_cache, make_header, new_cache
from trtlearn.engine.records import VARIANTS
from trtlearn.errors import CommandError, ModelError
from trtlearn.files import load_table
from trtlearn.model.course_data import model_path
from trtlearn.recorded.caches import odd_caches
from trtlearn.show.commands import trtexec_command, variant_of
from trtlearn.trtexec import explanation
from trtlearn.trtexec.command import parse_trtexec
from trtlearn.trtexec.explanation import Explanation, explain
from trtlearn.trtexec.snippets import read_command_line
from trtlearn.trtexec.sources import cite, known_versions, option_kinds, read_spelling, resolve

VERSIONS = known_versions()
IMPLICIT = [version for version in VERSIONS if not version.startswith("11")]
TYPED = ["11.0", "11.1"]
MODES = {
    "not-int8",
    "placeholder-ranges",
    "random-calibration",
    "cached-scales",
    "explicit-qdq",
    "rejected",
}
BARE = "trtexec --onnx=m.onnx"


def mode(command: str, trt: str = "8.6", **facts: bool) -> str:
    return explain(command, trt=trt, **facts).mode  # type: ignore[arg-type]


def test_versions() -> None:
    asked = ["8.4", "8.5", "8.6", *(f"10.{minor}" for minor in range(17)), "11.0", "11.1"]
    assert set(asked) <= set(VERSIONS)
    assert list(VERSIONS) == sorted(VERSIONS, key=lambda v: tuple(map(int, v.split("."))))


# the table of ../facts: (--int8, int8 I/O, --calib) -> mode without Q/DQ
@pytest.mark.parametrize("trt", IMPLICIT)
@pytest.mark.parametrize(
    ("options", "facts", "expected"),
    [
        ("", {}, "not-int8"),
        ("--fp16", {}, "not-int8"),
        ("--int8", {}, "placeholder-ranges"),
        ("--best", {}, "placeholder-ranges"),
        ("--int8 --inputIOFormats=int8:chw", {}, "placeholder-ranges"),
        ("--inputIOFormats=int8:chw", {}, "placeholder-ranges"),
        ("--outputIOFormats=fp16:chw,int8:chw32", {}, "placeholder-ranges"),
        ("--outputIOFormats=fp16:chw", {}, "not-int8"),
        ("--int8 --calib=c", {"cache_exists": True}, "cached-scales"),
        ("--int8 --calib=c", {"cache_exists": False}, "random-calibration"),
        ("--best --calib=c", {"cache_exists": False}, "random-calibration"),
        ("--int8 --calib=c --inputIOFormats=int8:chw", {"cache_exists": True}, "cached-scales"),
        ("--int8 --calib=c --inputIOFormats=int8:chw", {"cache_exists": False}, "rejected"),
        ("--calib=c", {"cache_exists": True}, "not-int8"),
        ("--int8 --calib", {}, "placeholder-ranges"),
        ("--int8 --calib=", {}, "placeholder-ranges"),
        ("--int8=0", {}, "placeholder-ranges"),
        ("--int8", {"has_qdq": True}, "explicit-qdq"),
        ("--int8 --calib=c", {"has_qdq": True, "cache_exists": True}, "explicit-qdq"),
        ("", {"has_qdq": True}, "explicit-qdq"),
        ("--loadEngine=e --int8", {}, "not-int8"),
        ("--int8 --help", {}, "not-int8"),
        ("--int8 --int8", {}, "rejected"),
        ("--int8 --calib c", {}, "rejected"),
        ("--INT8", {}, "rejected"),
        ("--int8 --loadEngine=a --saveEngine=b", {}, "rejected"),
        ("--int8 --inputIOFormats=int8", {}, "rejected"),
        ("--int8 --precisionConstraints=always", {}, "rejected"),
        ("--int8 --iterations=many", {}, "rejected"),
    ],
)
def test_the_decision(trt: str, options: str, facts: dict[str, bool], expected: str) -> None:
    assert mode(f"{BARE} {options}", trt, **facts) == expected


@pytest.mark.parametrize("trt", TYPED)
def test_eleven(trt: str) -> None:
    assert mode(BARE, trt) == "not-int8"
    assert mode(f"{BARE} --stronglyTyped", trt, has_qdq=True) == "explicit-qdq"
    for option in (
        "--int8",
        "--best",
        "--fp16",
        "--bf16",
        "--fp8",
        "--calib=c",
        "--layerPrecisions=*:int8",
    ):
        answer = explain(f"{BARE} {option}", trt=trt)
        assert answer.mode == "rejected"
        assert any("Unknown option" in step.text for step in answer.steps)
        assert any(
            step.source and step.source.file.endswith("trtexec.cpp") for step in answer.steps
        )
    assert any("migrate" in advice for advice in explain(f"{BARE} --int8", trt=trt).advice)
    assert (
        mode(f"{BARE} --inputIOFormats=int8:chw", trt) == "rejected"
    )  # formats without types from 11.0 on
    assert mode(f"{BARE} --inputIOFormats=chw", trt) == "not-int8"


def test_strongly_typed_takes_int8_back() -> None:
    for trt in IMPLICIT:
        known = "--stronglyTyped" in option_kinds(resolve(trt).tag)
        answer = explain(f"{BARE} --int8 --stronglyTyped", trt=trt, has_qdq=False)
        assert (answer.mode, answer.int8) == ("not-int8" if known else "rejected", False)
    assert mode(f"{BARE} --stronglyTyped --int8", "10.16", has_qdq=True) == "explicit-qdq"
    assert mode(f"{BARE} --best --stronglyTyped", "10.16") == "rejected"
    assert mode(f"{BARE} --best --stronglyTyped", "10.3") == "not-int8"


def test_what_changed_between_versions() -> None:
    assert mode(f"{BARE} --fp8", "8.5") == "rejected"
    assert mode(f"{BARE} --fp8", "8.6") == "not-int8"
    assert mode(f"{BARE} --fp8 --int8", "8.6") == "rejected"
    assert mode("trtexec --deploy=n.prototxt --output=prob --int8", "8.6") == "placeholder-ranges"
    assert mode("trtexec --deploy=n.prototxt --output=prob --int8", "10.0") == "rejected"
    caffe = explain("trtexec --deploy=n.prototxt --output=prob --int8", "8.6")
    assert (caffe.has_qdq, "Q/DQ" in " ".join(caffe.warnings)) == (False, False)
    warned = {
        trt
        for trt in IMPLICIT
        if any("deprecated" in w for w in explain(f"{BARE} --int8", trt=trt).warnings)
    }
    assert warned == {"10.14", "10.15", "10.16"}


@pytest.mark.parametrize(
    ("asked", "tag"),
    [
        *[
            ("8.6", "v8.6.1"),
            ("8.6.0", "v8.6.0"),
            ("v8.6.1", "v8.6.1"),
            ("8.6.1.6", "v8.6.1"),
            ("8.4", "8.4.3"),
        ],
        *[("10.16", "v10.16"), ("10.16.0", "v10.16"), ("10.13", "v10.13.3"), ("10", "v10.16")],
        *[
            ("10.1", "v10.1.0"),
            ("10.10", "v10.10.0"),
            ("8.6.2", "v8.6.1"),
            ("11.1", "v11.1"),
            ("TensorRT 9.2", "v9.2.0"),
        ],
    ],
)
def test_spellings_of_a_version(asked: str, tag: str) -> None:
    assert resolve(asked).tag == tag


@pytest.mark.parametrize(
    "asked",
    [
        "7.2",
        "8.7",
        "",
        "eleven",
        "8.6.1.2.3",
        "10.99",
        "-8.6",
        "8,6",
        "٨.٦",
        "tensorrt_llm==0.17.0",
    ],
)
def test_unknown_version_lists_the_known(asked: str) -> None:
    with pytest.raises(CommandError, match=r"8\.4, 8\.5, 8\.6"):
        explain(f"{BARE} --int8", trt=asked)


def test_a_newer_version_is_answered_as_the_newest_with_a_word() -> None:
    for asked in ("11.5", "12.0", "v12.1.0.3", "tensorrt==13.0"):
        answer = explain(f"{BARE} --int8", trt=asked)
        assert answer.mode == "rejected"
        assert any("newer than 11.4, the newest version known" in text for text in answer.warnings)
    for asked in ("11.2", "11.3.0", "11.4.1"):
        assert resolve(asked).tag == "v11.1"
        assert any("no source of 11." in text for text in explain(BARE, trt=asked).warnings)


@pytest.mark.parametrize(
    ("asked", "numbers"),
    [
        ("v8601", (8, 6, 1)),
        ("101303", (10, 13, 3)),
        ("TRT-8510-EntropyCalibration2", (8, 5, 10)),
        ("[TensorRT v100300]", (10, 3, 0)),
        ("8.5.2-1+cuda11.4", (8, 5, 2)),
        ("libnvinfer8=8.6.1.6-1+cuda12.0", (8, 6, 1)),
        ("ii  libnvinfer10  10.3.0.30-1+cuda12.5  arm64", (10, 3, 0)),
        ("python3-libnvinfer-dev (8.5.2-1+cuda11.4)", (8, 5, 2)),
        ("libnvinfer.so.8.6.1", (8, 6, 1)),
        ("nvinfer_10.dll", (10, None, None)),
        ("TensorRT-10.0.1.6.Windows.win10.cuda-12.4.zip", (10, 0, 1)),
        ("nv-tensorrt-local-repo-ubuntu2204-8.6.1-cuda-12.0_1.0-1_amd64.deb", (8, 6, 1)),
        ("tensorrt-cu12==10.0.1", (10, 0, 1)),
        ("tensorrt_cu12_bindings-10.13.3.9-cp311-none-manylinux_2_28_x86_64.whl", (10, 13, 3)),
        ("10.13.3.9.post1", (10, 13, 3)),
        ("release/10.3", (10, 3, None)),
        ("8.6 GA", (8, 6, None)),
        ("8.2.0-EA", (8, 2, 0)),
        ("10.x", (10, None, None)),
        ("nvcr.io/nvidia/tensorrt:23.08-py3", (8, 6, 1)),
        ("24.05", (10, 0, 1)),
        ("nvcr.io/nvidia/l4t-tensorrt:r8.5.2-runtime", (8, 5, 2)),
        ("jetpack 6.2", (10, 3, 0)),
        ("JP6.1", (10, 3, 0)),
        ("nvidia-jetpack 5.1.2-b104", (8, 5, 2)),
        ("# R36 (release), REVISION: 4.3, GCID: 1", (10, 3, 0)),
        ("L4T r35.4.1", (8, 5, 2)),
        ("jp62", (10, 3, 0)),
        ("JP512", (8, 5, 2)),
        ("jetpack 7", (10, 16, 2)),
        ("nvidia-jetpack (6.1+b123)", (10, 3, 0)),
        ("Package: nvidia-jetpack Version: 5.1.2-b104", (8, 5, 2)),
        ("nvcr.io/nvidia/deepstream:7.1-triton-multiarch", (10, 3, 0)),
        ("DS 6.3", (8, 5, 3)),
        ("tensorrt!=10.3.0,>=10.0", (10, 0, None)),
        ("NV_TENSORRT_MAJOR 10 NV_TENSORRT_MINOR 3 NV_TENSORRT_PATCH 0", (10, 3, 0)),
        ("getInferLibVersion() 8601", (8, 6, 1)),
        ("8.6.1（GA）", (8, 6, 1)),
        ("TensorRT 版本 ８.6", (8, 6, None)),
        ("NVIDIA DRIVE OS 6.0.9 TensorRT 8.6.13", (8, 6, 13)),
        ("onnxruntime-gpu==1.18.0 TensorRT 10.0.1", (10, 0, 1)),
        ("tensorrt_llm==0.17.0 tensorrt==10.8.0", (10, 8, 0)),
        ("L4T 36", (10, 3, 0)),
    ],
)
def test_every_way_to_spell_a_version(
    asked: str, numbers: tuple[int, int | None, int | None]
) -> None:
    spelling = read_spelling(asked)
    assert spelling is not None
    assert spelling.numbers == numbers
    assert resolve(asked).number[0] == numbers[0]


def test_what_ships_tensorrt_is_named() -> None:
    assert "JetPack 6.2 has TensorRT 10.3.0" in explain(BARE, trt="jetpack 6.2").warnings
    assert "JetPack 6.0: 8.6.2, JetPack 6.1: 10.3.0" in resolve("JetPack 6").note
    assert resolve("tensorrt<11").tag == "v10.16"
    assert resolve("8.2").tag == "8.2.1"
    assert resolve("8.0").tag == "8.0.1"


def test_a_cache_that_is_here_is_looked_into(tmp_path: Path) -> None:
    cache = tmp_path / "m.cache"
    command = f"trtexec --onnx={model_path('resnet')} --int8 --calib={cache}"
    new_cache({"image": 0.5, "gone": 1.0, "lost": 1.0}).save(cache)
    notes = " ".join(explain(command, trt="jetpack 6.2").warnings)
    assert "2 names of 3 in the cache are no tensors of this model, 'gone' first" in notes
    assert "checkLinks (NVIDIA/TensorRT#4797" in notes
    notes = " ".join(explain(command, trt="8.6").warnings)
    assert "4797" not in notes
    cache.write_text("TRT-8600-EntropyCalibration2\nimage:3f000000\n", encoding="utf-8")
    assert "no space after the colon of 'image'" in " ".join(explain(command).warnings)


def test_the_answer_comes_before_its_steps() -> None:
    text = str(explain(f"{BARE} --int8"))
    assert text.index("accuracy ") < text.index("what to do") < text.index("1. splits")


def test_every_step_has_a_place_and_sources_follow_the_steps() -> None:
    for trt in VERSIONS:
        for options in ("", "--int8", "--int8 --calib=c", "--best"):
            answer = explain(f"{BARE} {options}", trt=trt, cache_exists=False)
            assert answer.mode in MODES
            assert all(step.source for step in answer.steps)
            assert list(answer.sources) == list(dict.fromkeys(step.source for step in answer.steps))
            for source in answer.sources:
                assert source.tag == resolve(trt).tag
                assert re.fullmatch(r"\d+(-\d+)?", source.lines)
                assert source.function
                first = source.lines.split("-")[0]
                assert (
                    source.url
                    == f"https://github.com/NVIDIA/TensorRT/blob/{source.tag}/{source.file}#L"
                    + (source.lines.replace("-", "-L"))
                )
                assert int(first) > 0


def test_known_lines() -> None:
    """Read by eye in the source: the decision, the placeholder function and the calibrator."""
    where = {
        ("v8.6.1", "decision"): "1009-1014",
        ("v8.6.1", "placeholder"): "459-505",
        ("v8.6.1", "calibrator"): "396-425",
        ("v8.6.1", "int8_flag"): "970-973",
        ("v10.16", "decision"): "1102-1107",
        ("v10.16", "placeholder"): "420-466",
        ("v11.0", "unknown"): "260-268",
    }
    found = {key: source.lines for key in where if (source := cite(*key))}
    assert found == where


def mirror() -> Path | None:
    for folder in filter(None, (os.environ.get("TENSORRT_REPO"), "../TensorRT")):
        path = Path(__file__).resolve().parents[2] / folder
        probe = ["git", "-C", str(path), "cat-file", "-e", "v8.6.1"]
        if subprocess.run(probe, capture_output=True, check=False).returncode == 0:
            return path
    return None


CONTAINS = {
    "decision": "build.calibration.empty()",
    "placeholder": "setDynamicRange(-dynRange, dynRange)",
    "calibrator_uniform": "(-1.0F, 1.0F)",
    "calibrator_writes": "{}",
    "int8_flag": "BuilderFlag::kINT8",
    "unknown": "Unknown option: ",
    "help": "parseHelp(args)",
    "set_calibrator": "setInt8Calibrator",
    "read_scales": "find_last_of(':')",
    "io_scales": "impossible to read tensor scales",
    "weakly_typed": "Weakly-typed networks have been deprecated",
    "no_model": "Model missing or format not recognized",
    "inputs_are_fp32": "setType(DataType::kFLOAT)",
    "safe_is_strongly_typed": "stronglyTyped = true",
    "typed_always": "kSTRONGLY_TYPED",
    "printed": "Dynamic",
}


def test_citations_against_the_source() -> None:
    repository = mirror()
    if repository is None:
        pytest.skip(
            "no git checkout of NVIDIA/TensorRT here: set TENSORRT_REPO to one (tools/trtexec_sources.py)"
        )
    for tag in ("8.4.1", "8.5.3", "v8.6.1", "v9.3.0", "v10.0.0", "v10.7.0", "v10.16", "v11.1"):
        texts: dict[str, list[str]] = {}
        for key, words in CONTAINS.items():
            if source := cite(tag, key):
                if source.file not in texts:
                    show = ["git", "-C", str(repository), "show", f"{tag}:{source.file}"]
                    texts[source.file] = subprocess.run(
                        show, capture_output=True, text=True, check=True
                    ).stdout.splitlines()
                first, _, last = source.lines.partition("-")
                cited = "\n".join(texts[source.file][int(first) - 1 : int(last or first)])
                assert words in cited, f"{tag} {key}: {source}"
                assert cited.count("{") == cited.count("}") or key in (
                    "inputs_are_fp32",
                    "printed",
                ), f"{tag} {key}"


def test_table_has_every_decision_at_every_tag() -> None:
    for tag, facts in load_table("trtexec")["tags"].items():
        assert ("decision" in facts["sources"]) is not tag.startswith("v11")
        assert ("--int8" in option_kinds(tag)) is not tag.startswith("v11")
        assert {"--onnx", "--loadEngine", "--verbose", "--help"} <= option_kinds(tag).keys()


def test_every_condition_is_understood_and_every_step_has_a_place() -> None:
    table, outcomes = load_table("sentences"), load_table("outcomes")
    assert table.keys() == {"steps", "inputs", "outputs"}
    rows = [*table["inputs"], *table["outputs"], *outcomes.values()]
    for part in table["steps"]:
        rows += [{"when": part.get("when", "")}, *part["rows"]]
    places: set[str] = set()
    known: set[str] = set()
    for tag, facts in load_table("trtexec")["tags"].items():
        places |= set(facts["sources"])
        known |= option_kinds(tag).keys()
    used = set()
    for row in rows:
        assert row.get("step") in {None, "{error_key}"} | places, row
        for word in row.get("when", "").replace("|", " ").replace("!", "").split():
            if word.startswith("--"):
                assert word.partition("=")[0] in known, row
            elif word[0] in ":@":
                assert word[1:] in (outcomes if word[0] == ":" else places), row
            elif word[0] in "<>":
                assert re.fullmatch(r"(<|>=)\d+\.\d+", word), row
            else:
                used.add(word)
        for text in row.values():
            used |= {name.split(".")[0] for _, name, _, _ in Formatter().parse(text) if name}
    facts = explanation.Case(parse_trtexec(BARE)).facts
    assert used == {name for name in facts if name[0] != ":"}
    assert {row["mode"] for row in outcomes.values() if "mode" in row} == MODES


def test_files_on_disk_are_looked_at(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    command = f"{BARE} --int8 --calib=c.cache"
    missing = explain(command)
    assert missing.mode == "random-calibration"
    assert any("cached-scales" in other for other in missing.alternatives)
    Path("c.cache").write_text("TRT-8600-EntropyCalibration2\nimage: 3c010a14\n")
    assert explain(command).mode == "cached-scales"
    assert variant_of(explain(command)) == "int8-entropy2"
    assert explain(command, cache_exists=False).mode == "random-calibration"
    Path("c.cache").write_text("")
    assert any("empty" in warning for warning in explain(command).warnings)
    Path("m.onnx").write_bytes(b"not a model")
    broken = explain(command)
    assert any("could not be read" in warning for warning in broken.warnings)
    with pytest.raises(ModelError):
        explain(command, model="nowhere.onnx")


def test_qdq_is_read_from_a_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    onnx = pytest.importorskip("onnx", reason="reading a model needs onnx")
    monkeypatch.chdir(tmp_path)
    helper, kind = onnx.helper, onnx.TensorProto.FLOAT
    scale = helper.make_tensor("s", kind, [], [0.1])
    zero = helper.make_tensor("z", onnx.TensorProto.INT8, [], [0])
    for name, nodes in {
        "plain": [helper.make_node("Relu", ["x"], ["y"])],
        "qdq": [
            helper.make_node("QuantizeLinear", ["x", "s", "z"], ["q"]),
            helper.make_node("DequantizeLinear", ["q", "s", "z"], ["y"]),
        ],
    }.items():
        values = [helper.make_tensor_value_info(tensor, kind, [1, 4]) for tensor in "xy"]
        graph = helper.make_graph(
            nodes, name, values[:1], values[1:], [scale, zero] if name == "qdq" else []
        )
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
        Path(f"{name}.onnx").write_bytes(model.SerializeToString())
    assert mode("trtexec --onnx=plain.onnx --int8") == "placeholder-ranges"
    assert mode("trtexec --onnx=qdq.onnx --int8") == "explicit-qdq"
    assert mode("trtexec --onnx=qdq.onnx", "11.1") == "explicit-qdq"
    assert explain("trtexec --onnx=elsewhere.onnx --int8", model="qdq.onnx").has_qdq is True
    assert not any(
        "assumed" in warning for warning in explain("trtexec --onnx=plain.onnx").warnings
    )


@pytest.mark.parametrize(
    ("command", "arguments"),
    [
        ("trtexec --onnx=a --int8", ("--onnx=a", "--int8")),
        ("/usr/src/tensorrt/bin/trtexec --int8", ("--int8",)),
        ("C:/TensorRT/bin/trtexec.exe --int8", ("--int8",)),
        ("$ sudo nice trtexec --onnx='a b' --int8 > log 2>&1", ("--onnx=a b", "--int8")),
        ("X=1 trtexec --onnx=a \\\n  --int8 && echo done", ("--onnx=a", "--int8")),
        ("cd /models; trtexec --int8 --onnx=a | tee out", ("--int8", "--onnx=a")),
        ("--onnx=a --int8", ("--onnx=a", "--int8")),
        ("trtexec", ()),
    ],
)
def test_shell(command: str, arguments: tuple[str, ...]) -> None:
    assert read_command_line(command).arguments == arguments


@pytest.mark.parametrize(
    "command", ["", "   ", "polygraphy run m.onnx", "trtexec --onnx='a", "rm -rf x", "trtexec\0"]
)
def test_no_trtexec_is_one_clear_error(command: str) -> None:
    with pytest.raises(CommandError) as caught:
        explain(command)
    assert caught.value.fix
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("command", "words"),
    [
        ("polygraphy run m.onnx --trt --int8", "on random numbers"),
        ("tao-converter -c cal.bin -t int8 m.etlt", "cache show"),
        ("yolo export format=engine int8=True", "min-max"),
        ("tensorrt_rtx --onnx=m.onnx", "--trt 11.1"),
    ],
)
def test_another_program_is_named_with_what_it_does(command: str, words: str) -> None:
    with pytest.raises(CommandError, match=words):
        explain(command)


def test_hints() -> None:
    assert any("--onnx=m.onnx" in hint for hint in explain("trtexec --onnx m.onnx --int8").advice)
    assert any("--int8 is" in hint for hint in explain(f"{BARE} --int_8").advice)
    assert any("once" in hint for hint in explain(f"{BARE} --int8 --int8").advice)
    newer = explain(f"{BARE} --stronglyTyped").advice
    assert newer == ("trtexec knows --stronglyTyped first in v9.1.0 and last in v11.1",)


REFUSED = {
    case.name: case
    for case in odd_caches().caches
    if not case.name.startswith(("legacy_other", "random_"))
}
CACHE = format_cache(new_cache({"image": 0.5, "logits": 0.25}))


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("whole", CACHE),
        ("crlf", CACHE.replace("\n", "\r\n")),
        ("blank_lines", CACHE.replace("\n", "\n\n")),
        ("version_7600", CACHE.replace("8600", "7600")),
        ("version_8601", CACHE.replace("8600", "8601")),
        ("bad_hex", CACHE.replace("3f000000", "zzzz")),
        ("truncated_line", CACHE[:-5]),
        ("version_101600", CACHE.replace("8600", "101600")),
        ("header_minmax", CACHE.replace("EntropyCalibration2", "MinMaxCalibration")),
        ("header_entropy", CACHE.replace("EntropyCalibration2", "EntropyCalibration")),
        ("header_legacy", CACHE.replace("TRT-8600-EntropyCalibration2", make_header("legacy"))),
        ("header_bogus", CACHE.replace("TRT-8600-EntropyCalibration2", "hello world")),
        ("header_missing", CACHE.partition("\n")[2]),
        ("header_only", CACHE.partition("\n")[0] + "\n"),
        ("bom", "\ufeff" + CACHE),
        ("empty", ""),
    ],
)
def test_a_cache_that_tensorrt_set_aside_is_told_before_the_build(
    name: str, content: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """trtexec's calibrator is an EntropyCalibration2: what TensorRT made of such files is
    recorded.
    """
    monkeypatch.chdir(tmp_path)
    Path("int8-minmax.cache").write_bytes(content.encode())
    command = f"{BARE} --int8 --calib=int8-minmax.cache"
    for told in (None, True):
        answer = explain(command, cache_exists=told)
        assert answer.mode == "cached-scales"
        assert (answer.cache_set_aside is None) == REFUSED[name].used
        assert (variant_of(answer) is None) != REFUSED[name].used
        assert ("null pointers" in str(answer)) != REFUSED[name].used
        assert ("--header TRT-8600-EntropyCalibration2" in str(answer)) == (
            not REFUSED[name].used and name not in ("empty", "header_only")
        )
    late = explain(command, trt="10.16").cache_set_aside
    assert (late is None) == (REFUSED[name].used or name == "version_101600"), (
        "10.x writes six digits itself"
    )


def test_no_model_is_said_and_explained_all_the_same() -> None:
    answer = explain("trtexec --int8")
    assert answer.mode == "placeholder-ranges"
    assert any("Model missing or format not recognized" in warning for warning in answer.warnings)


def test_variants_come_back_from_their_own_commands() -> None:
    """trtexec_command and variant_of are inverse to each other, and the command asks for what the
    variant builds.
    """
    for name, options in VARIANTS.items():
        command = trtexec_command(name, "resnet")
        answer = explain(command, cache_exists="missing" not in command, has_qdq=False)
        assert variant_of(answer) == name
        assert (answer.int8, answer.fp16) == (options.int8, options.fp16)
        assert ("--noTF32" in answer.options) is not options.tf32
        assert answer.options["--shapes"] == f"image:{options.batch}x1x28x28"


def test_record_goes_to_json_and_back_and_shows_itself() -> None:
    answer = explain(f'{BARE} --int8 --calib="<b>&.cache"', trt="10.16")
    assert Explanation.from_json(answer.to_json()) == answer
    keys = json.loads(answer.to_json())
    assert {"mode", "steps", "sources"} <= keys.keys()
    assert all({"file", "function", "lines", "tag"} <= source.keys() for source in keys["sources"])
    assert "<b>&" not in answer._repr_html_()
    assert "setupNetworkAndConfig" in str(answer)
    assert len(answer.to_frame()) == len(answer.steps)


words = st.sampled_from(
    [
        *sorted({option for tag in load_table("trtexec")["tags"] for option in option_kinds(tag)}),
        "trtexec",
        "x",
        "|",
    ]
)
values = st.one_of(
    st.just(""), st.just("="), st.text(max_size=8).map("={}".format), st.just("=int8:chw,fp16:hwc8")
)
options = st.lists(st.tuples(words, values).map("".join), max_size=6).map(
    lambda parts: " ".join(["trtexec", *parts])
)


@settings(max_examples=300, deadline=None)
@given(
    command=st.one_of(options, st.text(max_size=80), st.text(max_size=40).map("trtexec ".__add__)),
    trt=st.one_of(st.sampled_from(VERSIONS), st.text(max_size=6)),
)
def test_any_text_gives_an_explanation_or_a_command_error(command: str, trt: str) -> None:
    try:
        answer = explain(command, trt=trt)
    except CommandError:
        return
    assert answer.mode in MODES
    assert answer.steps
    assert answer.sources
    assert Explanation.from_json(answer.to_json()) == answer
    variant = variant_of(answer)
    assert variant is None or variant in VARIANTS
    assert parse_trtexec(command, trt).release.tag == answer.tag
