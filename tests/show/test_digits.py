"""The digit grid: each image as its engine's input range leaves it, wrong answers marked, no taller than a screen."""

from __future__ import annotations

import numpy as np
import pytest

import trtlearn as tl
from trtlearn.errors import DataError
from trtlearn.show.draw import BAD, TALLEST
from trtlearn.show.images import BELOW, BESIDE, as_seen, input_amax

MOBILE = tl.network("mobile", mode="recorded")
IMAGES, LABELS = MOBILE.images("test"), MOBILE.labels()
ROWS = [0, 4, 7, 8, 10]
NAMES = ["fp32", "int8-placeholder", "int8-entropy2"]


@pytest.fixture(scope="module")
def fig():
    return tl.show.digits_grid(MOBILE.builds(*NAMES), IMAGES, LABELS, ROWS)


def cell(fig, row, column):
    mosaic = np.asarray(fig.data[0].z)
    top, left = row * (28 + BELOW), column * (28 + BESIDE)
    return mosaic[top : top + 28, left : left + 28].astype(np.float32)


def test_fp32_sees_the_image_as_it_is(fig):
    np.testing.assert_array_equal(cell(fig, 0, 0), IMAGES[0, 0])


@pytest.mark.parametrize(("column", "amax"), [(1, 2.0), (2, 0.4250139892101288)])
def test_an_int8_engine_sees_what_its_input_range_leaves(fig, column, amax):
    build = MOBILE.build(NAMES[column])
    assert input_amax(build) == pytest.approx(amax)
    scale = amax / 127
    codes = tl.quantize(IMAGES[7, 0], scale)
    np.testing.assert_allclose(cell(fig, 2, column), tl.dequantize(codes, scale), rtol=1e-6)
    assert cell(fig, 2, column).max() == pytest.approx(amax)


def test_between_the_cells_the_page_shines_through(fig):
    mosaic = np.asarray(fig.data[0].z)
    assert set(mosaic[28:37].ravel()) == {None}
    assert set(mosaic[:, 28:34].ravel()) == {None}
    assert fig.layout.template.layout.paper_bgcolor == "rgba(0,0,0,0)"


def test_exactly_the_wrong_answers_are_marked(fig):
    answers = [text for text in fig.layout.annotations if text.text[:1] in "✔<"]
    wrong = [text for text in answers if text.font.color == BAD]
    assert all("wrong" in text.text for text in wrong)
    assert len(answers) == len(ROWS) * len(NAMES)
    count = 0
    for name in NAMES:
        count += int((MOBILE.build(name).answers[ROWS] != LABELS[ROWS]).sum())
    assert len(wrong) == count == 8


def test_heads_name_the_engine_and_its_input_range(fig):
    heads = [text.text for text in fig.layout.annotations if "<br>" in text.text]
    assert heads == ["FP32<br>exact", "bare --int8<br>±2", "entropy 2<br>±0.425"]


@pytest.mark.parametrize("rows", [[0], [0, 1], list(range(12))])
def test_it_fits_on_a_screen(rows):
    fig = tl.show.digits_grid(MOBILE.builds(*NAMES).values(), IMAGES, LABELS, rows)
    assert fig.layout.height <= TALLEST == 700


def test_what_does_not_fit_is_refused():
    builds = MOBILE.builds(*NAMES)
    with pytest.raises(DataError, match="did not answer these 5 images"):
        tl.show.digits_grid(builds, IMAGES[:5], LABELS[:5], [0])
    with pytest.raises(DataError, match="no build or no image"):
        tl.show.digits_grid({}, IMAGES, LABELS)


def test_an_image_without_a_range_stays_as_it_is():
    image = IMAGES[0]
    assert as_seen(image, None) is image
