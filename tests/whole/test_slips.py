"""A slip in what a function is given is one line, which says what to give."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from conftest import Run

import trtlearn as tl
from trtlearn.engine.layers import EngineInfo
from trtlearn.errors import TrtlearnError
from trtlearn.model.course_data import model_path

RESNET, PHOTO, DETECTOR = (
    tl.network(name, mode="recorded") for name in ("resnet", "photo", "detector")
)
RECORDED = tl.recorded
CACHE = tl.read_cache(RECORDED.cache_path("residual", "entropy2"))
LINE = "trtexec --onnx=resnet.onnx --int8"


@pytest.mark.parametrize(
    ("ask", "names"),
    [
        (lambda: RESNET.observe("nope"), "choose among its 23 tensors: image, stem, "),
        (lambda: RECORDED.tradeoff("mobile"), "mixed, .*points-mobile, points-photo, "),
        (lambda: RECORDED.detections("resnet"), "of the detector .*: fp16, .*fp32, "),
        (lambda: RECORDED.trtexec_log("x"), "mobile-int8, .*resnet-int8"),
        (lambda: RECORDED.cache_path("x", "entropy2"), "bottleneck-entropy, .*vit-minmax;"),
        (lambda: RECORDED.marked_tensors("nope"), ": mobile-marked-fp32, "),
        (lambda: RECORDED.origin("x"), "agreement, .*, ties;"),
        (lambda: RECORDED.build("nope", "fp32"), "mobile, .*photo, resnet, .*vit;"),
    ],
)
def test_a_name_that_is_not_there_lists_those_that_are(
    ask: Callable[[], object], names: str
) -> None:
    with pytest.raises(TrtlearnError, match=f"Try: .*{names}"):
        ask()


@pytest.mark.parametrize(
    ("ask", "says"),
    [
        (lambda: tl.read_cache(np.zeros(3)), "found a ndarray"),
        (lambda: tl.agree(RESNET, CACHE, RESNET.images()[:8]), "found a ndarray"),
        (lambda: CACHE.save(None), "found a NoneType"),
        (lambda: tl.migrate(LINE, model_path("resnet"), CACHE, None), "found a NoneType"),
        (lambda: tl.set_ranges(None, {}), "TensorRT's network is expected"),
        (lambda: tl.placeholder_ranges(None), "TensorRT's network is expected"),
        (lambda: RESNET.build("int8-minmax").simulate([1, 2]), r"shape is \(2,\)"),
        (lambda: RECORDED.broken_caches("hello"), "give the file's text"),
        (lambda: RECORDED.cache_cases(CACHE), "are not {case: "),
        (lambda: tl.show.cache_editor(RECORDED.odd_caches(), RESNET), "broken_caches"),
        (lambda: photographs(PHOTO.images("test")), "pictures.*1000, 3, 32, 32.*network.pictures"),
        (
            lambda: photographs(names=["cat"], rows=range(8)),
            "1 names of classes.*network.card.labels",
        ),
        (lambda: photographs(rows=(1000,)), "no row 1000 among 1000.*from 0 to 999"),
        (lambda: boxes(DETECTOR.images("test")), r"expected \[N, height, width, 3\]"),
        (lambda: boxes(rows=()), "no engine or no picture"),
        (lambda: boxes(rows=(999,)), "no row 999 among 300 pictures"),
        (lambda: boxes(scenes=2), "detections for 2 of 300 pictures"),
    ],
)
def test_what_does_not_fit_is_named(ask: Callable[[], object], says: str) -> None:
    with pytest.raises(TrtlearnError, match=says):
        ask()


def photographs(pictures=None, names=PHOTO.card.labels, rows=(0,)):
    shown = PHOTO.pictures() if pictures is None else pictures
    return tl.show.photographs([PHOTO.build("fp32")], shown, PHOTO.labels(), names, rows)


def boxes(pictures=None, rows=(1, 4), scenes=300):
    shown, truth = DETECTOR.pictures() if pictures is None else pictures, (np.zeros(1), np.zeros(1))
    return tl.show.boxes(shown, {"fp32": RECORDED.detections()[:scenes]}, truth, rows)


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["lab", "--port", "999999", "--no-browser"], "65535"),
        (["lab", "--dir", "FILE", "--no-browser"], "FILE is a file, expected a folder"),
        (["walk", model_path("resnet"), "DATA", "-o", "FILE", "--no-live"], "expected a folder"),
    ],
)
def test_the_command_line_refuses_before_it_works(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: list[object], says: str
) -> None:
    monkeypatch.setattr("os.execv", lambda *_: pytest.fail("JupyterLab would start"))
    np.save(tmp_path / "DATA.npy", RESNET.images()[:8])
    (tmp_path / "FILE").write_text("mine", encoding="utf-8")
    places = {"FILE": tmp_path / "FILE", "DATA": tmp_path / "DATA.npy"}
    status, _, err = run(*(places.get(str(word), word) for word in words))
    assert (status, err.count("\n"), says in err) == (2, 1, True), err
    assert (tmp_path / "FILE").read_text(encoding="utf-8") == "mine"


@pytest.mark.parametrize(
    ("asked", "shown"), [("11", "11.4"), ("8.6.1", "8.6"), ("JetPack 6.2", "10.3")]
)
def test_the_explainer_takes_every_version_that_explain_takes(asked: str, shown: str) -> None:
    _, row, *_ = tl.show.explainer(trt=asked).children
    assert row.children[0].value == shown


def test_rooms_are_loaded_when_they_are_first_used() -> None:
    rooms = "tl.errors.TrtlearnError, tl.trtexec.command, tl.trtexec.sources"
    code = f"import trtlearn as tl; {rooms}; print(*dir(tl))"
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ran.stdout.split() == sorted(tl.__all__)
    with pytest.raises(AttributeError, match="no attribute 'nope'"):
        tl.nope  # noqa: B018


def test_one_of_a_kind_has_no_s() -> None:
    one = EngineInfo(RESNET.build("fp32").engine.layers[:1])
    assert re.match("1 engine layer, ", one.summary())
    assert RECORDED.cache_cases({"whole": ("nothing", CACHE)}).summary().startswith("1 cache ")
    assert "its 1 argument at" in tl.explain("trtexec --int8").steps[0].summary()
