"""Studies, plan sizes and the figures of layers: what the recordings say, and what the figures show
of it.
"""

from __future__ import annotations

import gzip
from dataclasses import replace

import numpy as np
import pytest

from trtlearn import show
from trtlearn.calibration.cache import parse_cache
from trtlearn.calibration.observers import threshold_of
from trtlearn.errors import DataError, RecordingError
from trtlearn.int8.kernels import int8_layer, trace_pixel
from trtlearn.int8.simulate import tensor_errors
from trtlearn.model.course_data import MODELS, accuracy, load_images, model_path
from trtlearn.model.run import activations
from trtlearn.networks import network
from trtlearn.recorded import files
from trtlearn.recorded.layers import (
    layer_case,
    marked_tensors,
    plan_insides,
    plan_sizes,
    studies,
    study,
)
from trtlearn.recorded.tradeoffs import tradeoff


@pytest.mark.parametrize("model", MODELS)
def test_marking_every_tensor_measures_another_engine(model):
    found = study(model, "marked")
    assert found.build.options.int8
    assert {layer.weight_dtype for layer in found.engine.layers if layer.weight_count} == {"fp32"}
    assert len(found.engine.layers) > len(network(model).build("int8-minmax").engine.layers)


@pytest.mark.parametrize("model", MODELS)
def test_a_marked_engine_gives_fp32_tensors(model):
    tensors = marked_tensors(model)
    exact = network(model).activations(tensors.pop("image"))
    assert set(tensors) == set(exact) - {"image"}
    for name, found in tensors.items():
        assert (
            np.abs(found.reshape(exact[name].shape) - exact[name]).max()
            < 1e-5 * np.abs(exact[name]).max()
        ), name


@pytest.mark.parametrize("model", MODELS)
def test_the_broken_range_is_the_one_that_does_not_fit(model):
    found = study(model, "broken-small")
    data = network(model).activations(load_images("test")[0][:64])
    ranges = {t.name: t.amax for t in found.ranges.tensors if t.name in data and t.amax}
    beyond = [name for name, amax in ranges.items() if np.abs(data[name]).max() > 10 * amax]
    assert len(beyond) == 1
    assert beyond[0] in found.question


@pytest.mark.parametrize(("model", "node"), [("resnet", "b1_conv1"), ("mobile", "m2_dw")])
@pytest.mark.parametrize("constraint", ["obey", "prefer"])
def test_a_wish_that_can_be_met_is_met(model, node, constraint):
    found = study(model, f"{constraint}-fp32")
    report = found.precision()
    assert found.build.options.precision_constraints == constraint
    assert report[node].requested_dtype == report[node].computed_in == "fp32"
    assert (
        report.reformats
        > network(model, mode="recorded").build("int8-minmax").precision().reformats
    )


@pytest.mark.parametrize("model", MODELS)
def test_time_by_dtype_shows_all_of_the_layers_time(model):
    runs = {name: study(model, name) for name in ("missing-one", "missing-one-fp16")}
    fig = show.time_by_dtype(runs, source="made up")
    bars, (whole,) = ([t for t in fig.data if t.type == kind] for kind in ("bar", "scatter"))
    for place, run in enumerate(runs.values()):
        assert sum(bar.x[place] for bar in bars) == pytest.approx(
            sum(run.timing.layers_ms.values())
        )
        assert whole.x[place] == run.timing.median_ms
        assert whole.x[place] - whole.error_x.arrayminus[place] == pytest.approx(run.timing.p05_ms)
    assert {"works in int8", "works in fp32", "works in fp16", "reformat"} == {
        bar.name for bar in bars
    }
    assert fig.layout.title.text.endswith("?")
    assert fig.layout.annotations[-1].text == "made up"
    with pytest.raises(DataError, match="'untimed' was not timed"):
        show.time_by_dtype({"untimed": replace(next(iter(runs.values())), timing=None)})


def test_a_first_layer_left_in_fp32_is_why_noise_did_better():
    """Two builds of int8-random, one with its stem in FP32: numpy gives both accuracies from the
    first one's ranges.
    """
    bench = network("resnet", mode="recorded")
    noise, whole = bench.build("int8-random"), bench.build("int8-minmax")
    images, labels = load_images("test")
    scales = {tensor.name: tensor.scale for tensor in noise.ranges.tensors if tensor.scale}
    runs = (noise.simulate(images), whole.simulate(images, scales))
    right = [accuracy(run["logits"].values, labels) for run in runs]
    points = tradeoff("points-resnet").points
    again = next(point for point in points if (point.variant, point.batch) == ("int8-random", 8))
    assert right == pytest.approx([noise.predictions.accuracy, again.accuracy])


def test_time_by_dtype_counts_layers_without_a_time():
    run = study("resnet", "missing-one")
    times = dict(list(run.timing.layers_ms.items())[:-2])
    fig = show.time_by_dtype({"one": replace(run, timing=replace(run.timing, layers_ms=times))})
    assert fig.layout.annotations[-1].text.endswith("; 2 layers have no time")


def test_one_missing_range_costs_its_reader_int8():
    found = study("resnet", "missing-one")
    report = found.precision()
    assert report["b1_conv2"].computed_in == "fp32"
    assert report["b1_conv1"].computed_in == report["b2_conv1"].computed_in == "int8"
    assert any("b1_relu1" in m.names for m in found.build.messages if m.code == "missing-scale")


@pytest.mark.parametrize("model", MODELS)
def test_studies_load_by_name(model):
    found = {name: study(model, name) for name in studies(model)}
    assert set(found) == set(studies(model)) >= {"no-ranges", "missing-scale", "marked"}
    assert all(one.model == model and one.provenance.gpu for one in found.values())
    assert (found["no-ranges"].error is None) == bool(found["no-ranges"].engine.layers)
    with pytest.raises(RecordingError, match="no-ranges"):
        study(model, "no-such")


def test_an_obedient_build_fails_where_no_kernel_is():
    case = layer_case("weights_groups")
    assert "Could not find any implementation" in case.failures[0]
    assert any("obeys the requested" in line for line in case.log)
    assert layer_case("conv3x3").failures == ()


def test_the_plan_varies_from_build_to_build(tmp_path, monkeypatch):
    sizes = plan_sizes("resnet")
    total = [build.plan_bytes for build in sizes.builds]
    assert max(total) > 1.1 * min(total)
    assert all(build.kernels != sizes.builds[0].kernels for build in sizes.builds[1:])
    fig = show.plan_sizes(sizes)
    np.testing.assert_allclose(fig.data[0].y, np.array(total) / 1000)
    assert "recorded on NVIDIA" in fig.layout.annotations[-1].text
    monkeypatch.setattr(files, "recording_folders", lambda: (tmp_path,))
    (tmp_path / "studies").mkdir()
    (tmp_path / "studies" / "resnet-plan-sizes.json.gz").write_bytes(
        gzip.compress(sizes.to_json().encode())[:-20]
    )
    with pytest.raises(RecordingError, match="cut short"):
        plan_sizes("resnet")


def test_what_was_not_recorded_is_said():
    with pytest.raises(RecordingError):
        marked_tensors("resnet", "nothing")


def test_repairing_every_broken_range_repairs_the_network():
    bench = network("resnet")
    broken, good = bench.build("int8-entropy2"), bench.build("int8-minmax")
    images, labels = (part[:100] for part in load_images("test"))

    def share(*names):
        run = broken.simulate(images, {name: good.ranges[name].scale for name in names})
        return accuracy(run["logits"].values, labels)

    assert share() < 0.5
    assert share("image") < 0.8 < share("image", "stem_relu", "pool")
    with pytest.raises(DataError, match="no ranges"):
        bench.build("fp32").simulate(images)


def test_errors_figure_marks_what_clips():
    bench = network("resnet")
    images = load_images("test")[0][:16]
    reference = next(iter(activations(model_path("resnet"), [{"image": images}])))
    found = {
        name: tensor_errors(bench.build(name).simulate(images), reference)
        for name in ("int8-minmax", "int8-entropy2")
    }
    fig = show.tensor_errors(found, source=bench.provenance)
    names = [trace.name for trace in fig.data]
    assert names == ["int8-minmax", "int8-entropy2", "mostly clipping"]
    assert "image" in fig.layout.yaxis.ticktext
    good = show.tensor_errors({"int8-minmax": found["int8-minmax"]})
    assert "mostly clipping" not in [trace.name for trace in good.data]


def test_read_back_tells_equal_from_unequal():
    fig = show.read_back([1, 2, 3], [1, 2, 4])
    assert fig.layout.annotations[0].text == "2 of 3 weights equal"
    assert [trace.name for trace in fig.data] == ["equal", "equal code", "another code"]
    with pytest.raises(DataError):
        show.read_back([1], [1, 2])


def test_pixel_figure_adds_up():
    layer = int8_layer([[[[1.0, -1.0]]]], 0.5, 0.25, [0.3])
    trace = trace_pixel(layer, np.array([[[[3, 1, 2]]]], np.int8), (0, 0, 0, 1))
    fig = show.pixel(trace)
    assert tuple(fig.data[0].y) == trace.products
    assert fig.data[1].y[-1] == trace.sum
    assert f"code {trace.code}" in fig.layout.xaxis.title.text


def test_images_that_are_all_zero_give_a_scale_of_zero_and_our_other_scales():
    trace = study("resnet", "zero-images").calibration
    lines = trace.cache.splitlines()
    assert (lines[0], lines[1]) == ("TRT-8600-MinMaxCalibration", "image: 0")
    told = dict(parse_cache(trace.cache))
    computed = network("resnet").activations(np.zeros((8, 1, 28, 28), np.float32))
    ours = {name: threshold_of("minmax", x).scale for name, x in computed.items() if name in told}
    assert len(ours) > 20
    for name, scale in ours.items():
        assert scale == pytest.approx(told[name], rel=1e-6), name


@pytest.mark.parametrize("model", MODELS)
def test_a_calibrator_beside_qdq_is_never_asked(model):
    both, alone = (study(model, name) for name in ("qdq-with-calibrator", "qdq"))
    assert both.calibration.calls == ()
    assert both.predictions == alone.predictions
    assert [layer.kernel for layer in both.engine.layers] == [
        layer.kernel for layer in alone.engine.layers
    ]
    assert "explicit-precision" in {message.code for message in both.build.messages}


def test_no_layer_of_a_transformer_takes_int8_by_the_flag_alone():
    found = study("transformer", "int8")
    assert found.build.options.int8
    assert all(tensor.amax for tensor in found.ranges.tensors)  # nothing lacks a range
    assert {
        dtype for y in found.engine.layers for dtype in (*y.input_dtypes, *y.output_dtypes)
    } == {"fp32"}


@pytest.mark.parametrize("model", MODELS)
def test_one_missing_range_with_fp16_allowed_ends_in_fp16_also_from_an_empty_timing_cache(model):
    found = study(model, "missing-one-fp16")
    assert found.build.options.timing_cache == "empty"
    assert "int8" not in found.precision().counts


def test_the_int8_plan_holds_the_codes_that_numpy_computes():
    inside = plan_insides("resnet")
    weights = {
        name: array
        for name, array in network("resnet").weights().items()
        if array.ndim > 1 and array.shape[1] >= 8
    }
    found = inside.plans["int8-placeholder"].int8_vectors
    assert found == {name: (array.size, array.size) for name, array in weights.items()}
    assert not inside.plans["fp32"].int8_vectors
    assert not inside.plans["fp16"].int8_vectors
    for name, plan in inside.plans.items():
        assert plan.size_bytes == tradeoff("points-resnet").point("resnet", name).plan_bytes
        for one in plan.programs:
            assert {"sm_80", "sm_86", "sm_90", "compute_86"} <= set(one.architectures)


def test_a_damaged_recording_of_plans_is_one_clear_error(tmp_path, monkeypatch):
    monkeypatch.setattr(files, "recording_folders", lambda: (tmp_path,))
    (tmp_path / "studies").mkdir()
    (tmp_path / "studies" / "resnet-plan-contents.json.gz").write_bytes(b"\x1f\x8b cut")
    with pytest.raises(RecordingError, match="is damaged"):
        plan_insides("resnet")
