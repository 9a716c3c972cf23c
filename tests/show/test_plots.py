"""Every figure is titled with its question, names its axes, carries its footer, and shows what its
record says.
"""

import numpy as np
import pytest

from trtlearn import show
from trtlearn.builds import Build
from trtlearn.engine.layers import EngineInfo, EngineLayer, EngineTensor
from trtlearn.engine.records import (
    BuildOptions,
    BuildReport,
    Predictions,
    Provenance,
    TensorRange,
    Timing,
)
from trtlearn.errors import DataError

RNG = np.random.default_rng(0)
X = RNG.normal(size=4000).astype(np.float32)
MADE = Provenance(gpu="made-up GPU", tensorrt="8.6.0", time_utc="2026-11-23T00:00:00Z")


def layer(name, dtype, weight):
    tensor = EngineTensor("t", (1,), dtype)
    return EngineLayer(name, "Convolution", (tensor,), (tensor,), weight, 9 if weight else None)


def experiment(variant="a", **changes):
    facts = {
        "timing": Timing(0.5, 0.4, 0.7, 100, 10, 8),
        "predictions": Predictions((0, 1, 2, 1), 3, 4),
        "build": BuildReport(BuildOptions(), 1.0, 5000),
        "engine": EngineInfo(
            (
                layer("conv", "int8", "int8"),
                layer("reformat", "fp32", None),
                layer("x" * 99, None, "fp32"),
            )
        ),
    }
    return Build("resnet", variant, MADE, **{**facts, **changes})


def ranges(**amax):
    return [TensorRange(name, value, value and value / 127, "user") for name, value in amax.items()]


FIGURES = {
    "number_line": lambda: show.number_line(0.5, [0.2, -99, 3]),
    "histogram": lambda: show.histogram(X, 2.0),
    "clip_or_round": lambda: show.clip_or_round(X),
    "weight_error": lambda: show.weight_error(X.reshape(8, -1)),
    "against_data": lambda: show.ranges(ranges(a=4.0, b=0.1, c=None), {"a": X, "b": X, "c": X}),
    "scales": lambda: show.scales({"one": ranges(a=4.0), "two": ranges(a=1.0, b=2.0)}),
    "builds": lambda: show.builds([experiment(), experiment("b", timing=None, predictions=None)]),
    "precision": lambda: show.precision(experiment().engine),
}


@pytest.mark.parametrize("name", FIGURES)
def test_title_axes_and_footer(name):
    fig = FIGURES[name]()
    assert "?" in fig.layout.title.text
    assert fig.layout.annotations[-1].name == "footer"
    assert fig.layout.annotations[-1].text
    titles = [axis.title.text for axis in fig.select_xaxes()]
    assert all(titles) or name == "precision"
    assert fig.layout.template.layout.paper_bgcolor == "rgba(0,0,0,0)"
    assert "http" not in fig.to_json()


def test_histogram_counts_every_value_once_and_says_what_is_clipped():
    fig = show.histogram(X, 2.0)
    kept, lost = (int(np.sum(trace.y)) for trace in fig.data)
    assert (kept, lost) == (int((np.abs(X) <= 2).sum()), int((np.abs(X) > 2).sum()))
    assert fig.data[1].marker.pattern.shape == "x"  # not by colour only


@pytest.mark.parametrize("amax", [0.0, -1.0, float("nan"), float("inf")])
def test_a_range_that_is_none_is_refused(amax):
    with pytest.raises(DataError, match="amax is"):
        show.histogram(X, amax)


@pytest.mark.parametrize("draw", [show.histogram, lambda x, _: show.clip_or_round(x)])
@pytest.mark.parametrize("values", [[], [float("nan")]])
def test_data_that_cannot_be_drawn_is_refused(draw, values):
    with pytest.raises(DataError):
        draw(values, 1.0)


def test_number_line_clips_to_its_last_code():
    fig = show.number_line(0.5, [1000.0, 0.26])
    by_name = {trace.name: trace for trace in fig.data}
    assert by_name["clipped to the end of the grid"].customdata[0].tolist() == [127, 63.5]
    assert by_name["rounded to the nearest code"].customdata[0].tolist() == [1, 0.5]


def test_too_small_and_too_large_ranges_are_told_apart_in_words():
    fig = show.ranges(ranges(small=0.1, large=1000.0), {"small": X, "large": X})
    texts = [note.text for note in fig.layout.annotations]
    assert any(text.startswith("clips") for text in texts)
    assert any("of 127 steps unused" in text for text in texts)


def test_ranges_and_data_must_share_a_name():
    with pytest.raises(DataError, match="compare names"):
        show.ranges(ranges(a=1.0), {"b": X})


def test_what_was_not_measured_is_unknown_never_zero():
    fig = show.builds([experiment(timing=None)])
    assert fig.data[1].text == ("unknown",)
    assert fig.data[0].text == ("75.0 %",)


def test_one_scale_a_channel_is_never_worse_on_uneven_channels():
    w = RNG.normal(size=(6, 50)) * np.array([[1], [0.1], [0.01], [2], [0.5], [0.001]])
    whole, each = show.weight_error(w).data
    assert np.nanmax(np.asarray(each.y) - np.asarray(whole.y)) <= 1e-9
    assert max(each.y) < max(whole.y) / 10


def test_a_channel_of_zeros_has_no_mark_and_breaks_nothing():
    _, each = show.weight_error([[0.0, 0.0], [1.0, 0.3]]).data
    assert np.isfinite(each.y).tolist() == [True, False]


def test_engine_layers_are_named_by_type_in_words():
    fig = show.precision(experiment().engine)
    assert fig.data[1].text == ("int8", "none listed", "fp32")
    assert fig.data[0].text == ("int8", "fp32", "unknown")


def test_a_folded_row_breaks_its_line_and_shows_no_markup():
    import trtlearn as tl

    builds = tl.network("mobile", mode="recorded").builds("fp32", "int8-random")
    rows = tl.show.builds(builds.values()).data[0].y
    assert rows == ("FP32", "--int8 --calib=&lt;missing file>:<br>random noise")
