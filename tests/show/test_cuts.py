"""A digit beside its histogram, and the toy of a few bins: what is drawn is what is computed."""

from __future__ import annotations

import time

import numpy as np
import pytest

from trtlearn import show
from trtlearn.calibration.observers import threshold_of
from trtlearn.errors import DataError

IMAGES = np.full((4, 1, 8, 8), -0.5, np.float32)
IMAGES[:, :, 3:5, 2:6] = 2.0


def test_the_spike_names_the_share_of_the_background() -> None:
    fig = show.spike(IMAGES, 0.5)
    notes = [note.text for note in fig.layout.annotations]
    assert "88 % of pixels: background" in notes
    assert sum(fig.data[0].y) == pytest.approx(100)
    assert fig.layout.yaxis.type is None  # linear
    assert np.asarray(fig.data[1].z).max() == 2
    assert np.asarray(fig.data[2].z).max() == pytest.approx(0.5)


def test_the_spike_refuses_what_has_no_range() -> None:
    for images, amax in ((IMAGES, 0.0), (np.zeros((0, 1, 8, 8)), 1.0)):
        with pytest.raises(DataError):
            show.spike(images, amax)


def test_the_slider_cuts_the_digit_and_a_button_goes_to_the_choice() -> None:
    pytest.importorskip("anywidget")
    box = show.spike_slider(IMAGES, 0.5)
    slider, problem, button, text, fig = box.children[:5]
    assert np.asarray(fig.data[2].z).max() == pytest.approx(2)
    start = time.perf_counter()
    button.click()
    assert time.perf_counter() - start < 1.5
    assert slider.value == 0.5
    assert problem.value == ""
    assert "clips 12.5 % of all pixels" in text.value
    assert np.asarray(fig.data[2].z).max() == pytest.approx(0.5)
    assert [shape.x0 for shape in fig.layout.shapes] == [-0.5, 0.5]


def test_the_toy_shows_p_q_and_their_divergence() -> None:
    fig = show.toy_cut([12, 12, 6, 2, 4, 2, 1, 1], 6)
    assert [list(trace.y) for trace in fig.data[1:]] == [[12, 12, 6, 2, 4, 4], [12, 12, 6, 3, 3, 2]]
    assert "KL = 0.0265" in fig.layout.xaxis.title.text
    assert "infinite" in show.toy_cut([4, 4, 4, 4, 0, 1], 5).layout.xaxis.title.text
    with pytest.raises(DataError):
        show.toy_cut([4, 2, 1], 2)


def test_the_kl_slider_goes_to_tensorrts_choice() -> None:
    pytest.importorskip("anywidget")
    found = threshold_of("entropy2", np.random.default_rng(0).normal(size=20_000))
    box = show.kl_slider(found, "x", bins=2000, tensorrt=found.amax)
    slider, problem, button, text, fig = box.children[:5]
    assert fig.data[7].x[0] == pytest.approx(found.amax)
    button.click()
    assert slider.value == found.bins_kept
    assert problem.value == ""
    assert f"{found.bins_kept} bins" in text.value
