"""From a build to a recording and back: the same record, refused where it belongs to something
else.
"""

from __future__ import annotations

import dataclasses
import gzip
import json
import runpy
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from recording.saving import save_build, save_provenance
from trtlearn import networks
from trtlearn.builds import Build
from trtlearn.engine.records import VARIANTS, BuildOptions
from trtlearn.errors import BuildError, DataError, LiveUnavailable, RecordingError
from trtlearn.live import experiment as experiment_module
from trtlearn.live.experiment import predict, run_variant
from trtlearn.live.runner import Runner
from trtlearn.model.course_data import data_hashes
from trtlearn.networks import network
from trtlearn.recorded import files

ROOT = Path(__file__).resolve().parent.parent.parent
rng = np.random.default_rng(0)
IMAGES = rng.standard_normal((20, 1, 2, 2)).astype(np.float32)
TRUTH = (-IMAGES).reshape(20, 4).argmax(axis=1)
LAYER = {
    "Name": "conv + relu",
    "LayerType": "CaskConvolution",
    "Inputs": [
        {"Name": "image", "Dimensions": [8, 1, 2, 2], "Format/Datatype": "Row major linear FP32"}
    ],
    "Outputs": [
        {"Name": "logits", "Dimensions": [8, 4], "Format/Datatype": "Row major linear FP32"}
    ],
    "TacticName": "sm80_kernel",
    "StreamId": 0,
    "Metadata": "[ONNX Layer: conv]\x1e[ONNX Layer: relu]",
}


@pytest.fixture
def bench(fake: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """The fake TensorRT with small images in place of the course's."""
    fake["inspector"] = json.dumps({"Layers": [LAYER], "Bindings": ["image", "logits"]}).replace(
        "\\u001e", "\x1e"
    )
    monkeypatch.setattr(experiment_module, "load_images", lambda split, model: (IMAGES, TRUTH))
    # the fake network takes 2 x 2 images, whatever the file of the course's network says
    monkeypatch.setattr("trtlearn.live.build._check_data", lambda calibrator, model: None)
    monkeypatch.setenv("TRTLEARN_MODE", "recorded")
    return fake


def test_predict_counts_every_image_once(fake: dict[str, Any]) -> None:
    with Runner(b"ftrt") as runner:
        found = predict(runner, IMAGES, TRUTH, 8)
        assert (found.correct, found.count) == (20, 20)  # the last batch holds 4 and is filled up
        assert found.classes == tuple(TRUTH)
        assert predict(runner, IMAGES, (TRUTH + 1) % 4, 8).correct == 0
        with pytest.raises(DataError, match="20 images and 19 labels"):
            predict(runner, IMAGES, TRUTH[:19], 8)


@pytest.mark.parametrize("variant", list(VARIANTS))
def test_every_variant_runs_and_replays_as_it_was(
    bench: dict[str, Any], tmp_path: Path, variant: str
) -> None:
    made = run_variant(
        "resnet", variant, timing_cache=tmp_path / "t", tactic_sources=(), runs=20, warmup=2
    )
    assert made.predictions is not None
    assert made.predictions.accuracy == 1.0
    assert made.timing is not None
    assert made.timing.layers_ms == {"conv + relu": 0.25, "head": 0.5}
    assert made.build.options.tactic_sources == ()
    assert made.build.options.timing_cache == "empty"
    assert made.engine.layers[0].onnx_nodes == ("conv", "relu")
    assert (made.calibration is not None) == (
        VARIANTS[variant].ranges not in ("none", "placeholder")
    )
    path = save_build(tmp_path, made)
    assert files.load_build(path) == made
    assert (
        path.read_bytes() == save_build(tmp_path, made).read_bytes()
    )  # the same facts, the same file
    assert path.with_name(f"{variant}.cache").exists() == (made.calibration is not None)
    assert not bench["cuda"].memory


def test_a_second_build_finds_the_timing_cache_warm(bench: dict[str, Any], tmp_path: Path) -> None:
    run_variant("resnet", "fp32", timing_cache=tmp_path / "t", runs=5)
    assert (
        run_variant(
            "resnet", "fp16", timing_cache=tmp_path / "t", runs=5
        ).build.options.timing_cache
        == "warm"
    )


def recorded(tmp_path: Path, *variants: str) -> Path:
    for variant in variants:
        made = run_variant("resnet", variant, runs=5, warmup=1, recorded=True)
        save_build(tmp_path, made)
        save_provenance(tmp_path, made.provenance)
    return tmp_path


def test_the_bench_replays(bench: dict[str, Any], tmp_path: Path) -> None:
    net = network("resnet", recorded(tmp_path, "int8-minmax", "fp32"))
    assert net.recorded
    assert net.variants == ("fp32", "int8-minmax")  # in the course's order
    assert net.label.startswith("recorded on NVIDIA Fake, TensorRT 8.6.")
    assert net.build("fp32") is net.build("fp32")
    assert net.build("int8-minmax").cache.header.startswith("TRT-8600")
    assert net.build("fp32").cache is None
    with pytest.raises(
        RecordingError, match=r"no variant 'fp8' of resnet\. Try: one of fp32, int8-minmax"
    ):
        net.build("fp8")


def test_the_bench_builds_live(
    bench: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TRTLEARN_MODE", "live")
    monkeypatch.setenv("TRTLEARN_HOME", str(tmp_path))
    net = network("resnet")
    assert not net.recorded
    assert net.label.startswith("measured here on NVIDIA Fake")
    assert net.build("int8-placeholder").build.options.timing_cache == "empty"
    assert net.build("fp16").build.options.timing_cache == "warm"
    assert net.build("fp16").build.options.avg_timing == 8  # as trtexec builds
    assert list(tmp_path.rglob("resnet.timing"))


@pytest.mark.parametrize(
    ("again", "said"), [("int8", "Built again, from no timings: INT8"), ("fp32", "0 of 17 layers")]
)
def test_an_int8_engine_that_hardly_is_one_is_built_once_more(
    bench: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, again: str, said: str
) -> None:
    whole = network("mobile", mode="recorded").build("int8-minmax")

    def weights(dtype: str) -> Build:
        layers = tuple(
            dataclasses.replace(y, weight_dtype=dtype) if y.weight_count else y
            for y in whole.engine.layers
        )
        return dataclasses.replace(whole, engine=dataclasses.replace(whole.engine, layers=layers))

    made, warm = iter([weights("fp32"), weights(again)]), []

    def run(model: str, options: BuildOptions, *, timing_cache: Path, **more: Any) -> Build:
        warm.append(timing_cache.exists())
        timing_cache.parent.mkdir(parents=True, exist_ok=True)
        timing_cache.touch()
        return next(made)

    monkeypatch.setattr(experiment_module, "run_variant", run)
    monkeypatch.setenv("TRTLEARN_HOME", str(tmp_path))
    with pytest.warns(UserWarning, match=said):
        assert network("mobile", mode="live").build("int8-minmax") == weights(again)
    assert warm == [False, False]  # the second build began with no timings


def test_a_transformer_that_hardly_takes_int8_is_built_once(
    bench: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The recorded engine of vit has INT8 weights in 12 of 53 layers, too."""
    bare = network("vit", mode="recorded").build("int8-placeholder")
    made: list[str] = []

    def run(model: str, options: BuildOptions, **more: Any) -> Build:
        made.append(model)
        return bare

    monkeypatch.setattr(experiment_module, "run_variant", run)
    monkeypatch.setenv("TRTLEARN_HOME", str(tmp_path))
    assert network("vit", mode="live").build("int8-placeholder") is bare
    assert made == ["vit"]


def test_fp16_in_place_of_int8_is_no_mistake_where_both_are_allowed(
    bench: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    half = network("mobile", mode="recorded").build("fp16")
    monkeypatch.setattr(experiment_module, "run_variant", lambda *given, **named: half)
    monkeypatch.setenv("TRTLEARN_HOME", str(tmp_path))
    assert network("mobile", mode="live").build("int8-fp16") is half


def test_live_without_a_gpu_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRTLEARN_TENSORRT", "no_such_tensorrt")
    with pytest.raises(LiveUnavailable):
        network("resnet", mode="live")
    with pytest.raises(DataError, match="the mode is 'replay'"):
        network("resnet", mode="replay")
    with pytest.raises(DataError, match="no model 'vgg'"):
        network("vgg")


def test_a_recording_of_another_model_is_refused(
    bench: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = recorded(tmp_path, "fp32")
    true = data_hashes("resnet")
    monkeypatch.setattr(
        networks, "data_hashes", lambda model: {**true, "models/resnet.onnx": "0" * 64}
    )
    with pytest.raises(
        RecordingError, match=r"was made from another \(\w{12}…\) models/resnet.onnx"
    ):
        network("resnet", folder)


def test_one_stale_recording_among_good_ones_is_refused(
    bench: dict[str, Any], tmp_path: Path
) -> None:
    folder = recorded(tmp_path, "fp32")
    made = files.load_build(folder / "resnet" / "fp32.json.gz")
    hashes = {**made.provenance.sha256, "images/digits.npz": "1" * 64}
    stale = dataclasses.replace(
        made, provenance=dataclasses.replace(made.provenance, sha256=hashes), variant="fp16"
    )
    save_build(folder, stale)
    net = network("resnet", folder)
    assert net.build("fp32").variant == "fp32"
    with pytest.raises(RecordingError, match=r"resnet.fp16\.json\.gz was made from another"):
        net.build("fp16")


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (lambda data: data[: len(data) // 2], "cut short"),
        (lambda data: b"", "cut short"),
        (lambda data: b"PK" + data[2:], "damaged"),
        (lambda data: gzip.compress(b"[1, 2]"), "expected a JSON object"),
        (lambda data: gzip.compress(b'{"model": "resnet"}'), "lacks"),
        (lambda data: gzip.compress(b"\xff\xfe"), "damaged"),
    ],
)
def test_damaged_recordings_are_one_clear_line(
    bench: dict[str, Any], tmp_path: Path, spoil: Any, words: str
) -> None:
    folder = recorded(tmp_path, "fp32")
    path = folder / "resnet" / "fp32.json.gz"
    path.write_bytes(spoil(path.read_bytes()))
    with pytest.raises(RecordingError, match=words) as caught:
        network("resnet", folder).build("fp32")
    assert "\n" not in str(caught.value)


def test_a_bomb_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "LARGEST", 1000)
    (tmp_path / "x.json.gz").write_bytes(gzip.compress(b" " * 100_000))
    with pytest.raises(RecordingError, match="unpacks to over 1,000 bytes"):
        files.load_build(tmp_path / "x.json.gz")


def test_nothing_recorded(tmp_path: Path) -> None:
    with pytest.raises(RecordingError, match="no recordings of resnet"):
        network("resnet", tmp_path)


def record(monkeypatch: pytest.MonkeyPatch, *words: str) -> int:
    """recording/core.py in this process."""
    monkeypatch.setattr(sys, "argv", ["record.py", *words])
    with pytest.raises(SystemExit) as caught:
        runpy.run_module("recording.core", run_name="__main__")
    return int(caught.value.code or 0)


def test_record_py_makes_a_folder_that_replays(
    bench: dict[str, Any],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    words = ["--out", str(tmp_path), "--models", "resnet", "--tactic-sources", "none", "--quick"]
    assert record(monkeypatch, *words, "--variants", "fp32,int8-entropy2") == 0
    net = network("resnet", tmp_path)
    assert net.variants == ("fp32", "int8-entropy2")
    assert set(net.studies) == {"no-ranges", "missing-scale"}
    assert net.provenance.tactic_sources == ()
    assert set(net.provenance.sha256) == {"models/resnet.onnx", "images/digits.npz"}
    assert "record.py --out" in (net.provenance.command or "")
    study = net.study("missing-scale")
    assert isinstance(study, Build)
    assert study.ranges is not None
    assert study.ranges.without_range
    assert study.build.log == ""
    assert record(monkeypatch, *words, "--variants", "fp32", "--resume", "--studies", "none") == 0
    assert "resnet fp32: kept" in capsys.readouterr().out


def test_record_py_goes_on_after_a_failure_and_says_so(
    bench: dict[str, Any],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def fail_in_fp16() -> None:
        bench["fail"] = "FP16" in bench["config"].flags

    bench["during"] = fail_in_fp16
    words = ["--out", str(tmp_path), "--models", "resnet", "--quick", "--studies", "none"]
    assert record(monkeypatch, *words, "--variants", "fp32,fp16,tf32") == 1
    assert "FAILED resnet fp16: BuildError" in capsys.readouterr().out
    net = network("resnet", tmp_path)
    assert net.variants == ("fp32", "tf32")
    assert any("resnet fp16" in note for note in net.provenance.notes)


def test_record_py_without_a_gpu(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("TRTLEARN_TENSORRT", "no_such_tensorrt")
    assert record(monkeypatch) == 2
    assert "no_such_tensorrt is not installed" in capsys.readouterr().err


def test_own_options_need_no_variant(bench: dict[str, Any]) -> None:
    options = BuildOptions(int8=True, ranges="user")
    made = run_variant("resnet", options, name="mine", ranges={"image": 2.0}, runs=5)
    assert made.variant == "mine"
    assert made.ranges is not None
    assert made.ranges["image"].source == "user"
    with pytest.raises(BuildError, match="needs ranges"):
        run_variant("resnet", options, runs=5)
