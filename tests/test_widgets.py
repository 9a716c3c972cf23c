"""Widgets redraw fast, say what happened in words, and show their errors instead of losing them."""

import subprocess
import sys
import time

import ipywidgets
import numpy as np
import pytest

from trtlearn import panels, widgets
from trtlearn.errors import DataError
from trtlearn.records import TensorRange

RNG = np.random.default_rng(0)
X = RNG.normal(size=(100, 300)).astype(np.float32)


def test_slider_redraws_in_time_and_says_what_it_costs():
    box = widgets.quantize_slider(X, "image")
    slider, problem, text, fig = box.children
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
            widgets.quantize_slider(bad)


def test_browser_shows_the_chosen_tensor_and_says_when_a_range_is_missing():
    reports = {
        "placeholder": [TensorRange("a", 4.0, 4 / 127, "placeholder")],
        "wide": [TensorRange("b", 99.0, None, "user")],
    }
    box = widgets.ranges_browser({"a": X, "b": X * 10}, reports)
    tensor, way, problem, text, fig = box.children
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

    panels.guarded(action, problem)()
    assert "ZeroDivisionError: oh &lt;no&gt;" in problem.value
    panels.guarded(lambda: None, problem)()
    assert problem.value == ""


def test_tables_escape_and_say_unknown():
    assert "&lt;b&gt;" in panels.table([["<b>", None]])
    assert "unknown" in panels.table([["<b>", None]])


def test_a_fault_of_the_figure_package_is_named(monkeypatch):
    import plotly.graph_objects as go

    def missing(fig):
        raise ImportError("Please install anywidget")

    monkeypatch.setattr(go, "FigureWidget", missing)
    with pytest.raises(widgets.TrtlearnError, match="anywidget"):
        widgets.quantize_slider(X)


def test_widgets_do_not_import_tensorrt():
    code = "import sys, trtlearn.widgets, trtlearn.plots; sys.exit('tensorrt' in sys.modules or 'onnx' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
