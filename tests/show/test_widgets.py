"""Widgets redraw fast, say what happened in words, and show their errors instead of losing them."""

import subprocess
import sys
import time

import ipywidgets
import numpy as np
import pytest
from test_plots import experiment

import trtlearn as tl
from trtlearn import show
from trtlearn.engine.records import RangeReport, TensorRange
from trtlearn.errors import DataError, RecordingError, TrtlearnError
from trtlearn.int8.simulate import run_int8
from trtlearn.record import html_table
from trtlearn.show import commands, controls, widgets

RNG = np.random.default_rng(0)
ONE_IMAGE = {"image": np.zeros((1, 1, 28, 28), np.float32)}
X = RNG.normal(size=(100, 300)).astype(np.float32)


def test_slider_redraws_in_time_and_says_what_it_costs():
    box = show.amax_slider(X, "image")
    slider, problem, text, fig = box.children[:-1]
    spent = []
    for value in np.geomspace(0.1, 10, 15):
        start = time.perf_counter()
        slider.value = float(value)
        spent.append(time.perf_counter() - start)
    assert sorted(spent)[len(spent) // 2] < 0.15
    assert problem.value == ""
    assert "rounding costs more" in text.value
    slider.value = 0.5
    assert "clipping costs more" in text.value
    assert sum(fig.data[0].y) + sum(fig.data[1].y) == min(X.size, widgets.SAMPLE)
    assert fig.layout.shapes[1].x0 == pytest.approx(slider.value)


def test_slider_refuses_what_has_no_range():
    for bad in ([], [np.nan], [0.0, 0.0]):
        with pytest.raises(DataError):
            show.amax_slider(bad)


def test_browser_shows_the_chosen_tensor_and_says_when_a_range_is_missing():
    reports = {
        "placeholder": [TensorRange("a", 4.0, 4 / 127, "placeholder")],
        "wide": [TensorRange("b", 99.0, None, "user")],
    }
    box = show.range_browser({"a": X, "b": X * 10}, reports)
    tensor, way, problem, text, fig = box.children[:-1]
    assert "±4" in fig.layout.title.text
    tensor.value = "b"
    assert "no range for b" in problem.value
    assert 'role="alert"' in problem.value
    way.value = "wide"
    assert problem.value == ""
    assert "±99" in fig.layout.title.text
    assert "no value reaches" in text.value


def test_an_unexpected_fault_reaches_the_reader():
    problem = ipywidgets.HTML()

    def action():
        raise ZeroDivisionError("oh <no>")

    controls.guarded(action, problem)()
    assert "ZeroDivisionError: oh &lt;no&gt;" in problem.value
    controls.guarded(lambda: None, problem)()
    assert problem.value == ""


def test_tables_escape_and_say_unknown():
    assert "&lt;b&gt;" in html_table([{"a": "<b>", "b": None}])
    assert "unknown" in html_table([{"a": "<b>", "b": None}])


class Synthetic:
    """A network with synthetic builds: nothing here is a measurement."""

    name, variants = "resnet", ("int8-placeholder", "fp32")

    def build(self, variant):
        return experiment(
            variant, ranges=RangeReport((TensorRange("image", 2.0, 2 / 127, "placeholder"),))
        )


def explainer(**options):
    return show.explainer(Synthetic(), **options)


def test_explainer_names_the_mode_the_source_and_what_was_measured():
    text, row, problem, answer = explainer().children[:-1]
    assert problem.value == ""
    for part in (
        "placeholder-ranges",
        "75.0 % of 4",
        "0.5000 ms per batch of 8, launch by launch",
        "±2",
        "sampleEngines.cpp:459-505",
    ):
        assert part in answer.value
    assert "made-up GPU" in answer.value
    version, cache, _ = row.children
    text.value = "trtexec --onnx=resnet.onnx --int8 --calib=a.cache"
    assert "cached-scales" in answer.value
    cache.value = False
    assert "random-calibration" in answer.value
    assert "no measurement of exactly this command" in answer.value  # this network has none
    version.value = "11.1"
    assert "rejected" in answer.value


def test_explainer_has_no_numbers_for_a_model_that_is_not_the_courses():
    answer = explainer(command="trtexec --onnx=other.onnx --int8").children[3]
    assert "placeholder-ranges" in answer.value
    assert "no measurement of exactly this command" in answer.value


def test_explainer_says_what_is_wrong_with_a_command_and_recovers():
    text, _, problem, answer = explainer().children[:-1]
    text.value = "rm -rf / <b>"
    assert 'role="alert"' in problem.value
    assert "<b>" not in problem.value
    assert answer.value == ""
    text.value = "trtexec --onnx=resnet.onnx --fp16"
    assert problem.value == ""
    assert "not-int8" in answer.value


def test_examples_fill_in_the_command():
    text, row, _, answer = explainer().children[:-1]
    examples = row.children[2]
    for _, command in examples.options[1:]:
        examples.value = command
        assert text.value == command
        assert "trtexec" in text.value
        assert any(mode in answer.value for mode in commands.MODES)


def test_a_damaged_recording_is_said_in_the_answer(monkeypatch):
    def cut(self, variant):
        raise RecordingError("the recording is cut", "make it again")

    monkeypatch.setattr(Synthetic, "build", cut)
    assert "the recording is cut" in explainer().children[3].value


def test_a_fault_of_the_figure_package_is_named(monkeypatch):
    import plotly.graph_objects as go

    class Missing:  # what plotly puts in its place
        def __init__(self, fig):
            raise ImportError("Please install anywidget")

    monkeypatch.setattr(go, "FigureWidget", Missing)
    with pytest.raises(TrtlearnError, match="anywidget"):
        show.amax_slider(X)


def test_widgets_do_not_import_tensorrt():
    code = "import sys, trtlearn.show.widgets, trtlearn.show.tensor_ranges, trtlearn.show.commands; sys.exit('tensorrt' in sys.modules or 'onnx' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_the_factor_slider_breaks_a_network_in_time():
    mobile = tl.network("mobile", mode="recorded")
    images, labels = mobile.images("test"), mobile.labels()
    box = show.factor_slider(tl.recorded.range_factors(), images, labels, rows=[0, 4])
    slider, problem, text, digits, curves = box.children[:-1]
    assert "24.0 %" in text.value
    assert digits.data[1].text == ("<b>✘ 3</b>, wrong", "<b>✘ 3</b>, wrong")
    spent = []
    for index in range(len(slider.options)):
        start = time.perf_counter()
        slider.value = index
        spent.append(time.perf_counter() - start)
    assert sorted(spent)[len(spent) // 2] < 0.15
    assert problem.value == ""
    assert "±2048 and ±4096" in text.value
    assert "1 of 256 codes" in text.value
    pixels = np.asarray(digits.data[0].z)[:28, :28].astype(float)
    assert not pixels.any()  # every pixel has become 0
    assert [shape.x0 for shape in curves.layout.shapes] == [1024.0] * 3
    slider.value = 11
    assert digits.data[1].text[0] == "✔ 0"
    assert digits.layout.height + curves.layout.height <= 700


def simulated(scales_without=()):
    network = tl.network("resnet", mode="recorded")
    cache = dict(network.build("int8-minmax").cache)
    scales = {name: scale for name, scale in cache.items() if name not in scales_without}
    return run_int8(network.path, scales, {"image": network.images("test")[:2]})


def test_the_window_moves_in_time_and_its_pixel_is_the_layers():
    run = simulated()
    box = show.follow_pixel(run)
    row, column, channel, problem, text, fig = box.children[:-1]
    codes = run["stem_relu"].codes[0]
    spent = []
    for slider, values in ((row, range(0, 28, 3)), (column, range(28)), (channel, range(24))):
        for value in values:
            start = time.perf_counter()
            slider.value = value
            spent.append(time.perf_counter() - start)
            at = (channel.value, row.value, column.value)
            assert f"code {codes[at]}<" in text.value
    assert sorted(spent)[len(spent) // 2] < 0.15
    assert problem.value == ""
    assert np.array_equal(fig.data[2].z, codes[channel.value])
    assert (fig.data[3].x, fig.data[3].y) == ((column.value,), (row.value,))
    trace = run.trace("stem", (0, channel.value, row.value, column.value))
    assert np.sum(fig.data[1].z) == trace.sum
    assert f"<b>{trace.sum:,}</b>" in text.value
    window = fig.layout.shapes[0]
    assert (window.x0 + window.x1) / 2 == column.value  # stride 1, one pixel of padding
    assert (window.y0 + window.y1) / 2 == row.value


def test_the_window_follows_the_first_int8_layer_where_the_first_layer_stays_in_fp32():
    run = simulated(scales_without={"image"})
    assert run.convolutions[0] == "b0_conv1"
    box = show.follow_pixel(run)
    text, fig = box.children[-3:-1]
    assert "b0_conv1" in fig.layout.title.text
    assert "216 products" in text.value
    assert "of 24 input channels" in text.value
    with pytest.raises(DataError, match="'stem' is no INT8 convolution"):
        show.follow_pixel(run, "stem")
    with pytest.raises(DataError, match="'stem' does not compute in INT8"):
        run.trace("stem", (0, 0, 0, 0))


def test_an_engine_without_int8_convolutions_has_no_window():
    with pytest.raises(DataError, match="no convolution of this engine"):
        show.follow_pixel(run_int8(tl.network("resnet", mode="recorded").path, {}, ONE_IMAGE))


def test_a_traced_pixel_is_the_layers_in_every_convolution_with_and_without_a_residual():
    run = simulated()
    assert {"b0_conv2", "b1_proj", "b2_conv2"} <= set(run.residuals)
    for name in run.convolutions:
        codes = run[run.layers[name].writes].codes
        at = tuple(RNG.integers(codes.shape).tolist())
        assert run.trace(name, at).code == codes[at]
        assert run.trace(name).code == codes[0].max()
