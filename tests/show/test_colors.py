"""The colours can be told apart, on both themes and by colour-blind readers; every figure is
transparent.
"""

import itertools

import numpy as np
import pytest

from trtlearn.dtypes import DTYPES
from trtlearn.show import draw

DARK, LIGHT = "#111111", "#ffffff"
# Machado, Oliveira, Fernandes (2009), severity 1.0, on linear RGB.
CVD = {
    "protanopia": [
        [0.152286, 1.052583, -0.204868],
        [0.114503, 0.786281, 0.099216],
        [-0.003882, -0.048116, 1.051998],
    ],
    "deuteranopia": [
        [0.367322, 0.860646, -0.227968],
        [0.280085, 0.672501, 0.047413],
        [-0.01182, 0.04294, 0.968881],
    ],
    "tritanopia": [
        [1.255528, -0.076749, -0.178779],
        [-0.078411, 0.930809, 0.147602],
        [0.004733, 0.691367, 0.3039],
    ],
}


def linear(color):
    srgb = np.array([int(color[i : i + 2], 16) for i in (1, 3, 5)]) / 255
    return np.where(srgb <= 0.04045, srgb / 12.92, ((srgb + 0.055) / 1.055) ** 2.4)


def luminance(color):
    return float(linear(color) @ [0.2126, 0.7152, 0.0722])


def contrast(a, b):
    high, low = sorted((luminance(a), luminance(b)), reverse=True)
    return (high + 0.05) / (low + 0.05)


def lab(rgb):
    xyz = np.array(
        [[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]]
    ) @ np.clip(rgb, 0, 1)
    t = xyz / [0.95047, 1, 1.08883]
    f = np.where(t > 0.008856, np.cbrt(t), 7.787 * t + 16 / 116)
    return np.array([116 * f[1] - 16, 500 * (f[0] - f[1]), 200 * (f[1] - f[2])])


def test_every_dtype_has_its_own_colour():
    assert set(draw.DTYPE_COLORS) == {*DTYPES, "unknown"}
    assert len(set(draw.DTYPE_COLORS.values())) == len(DTYPES) + 1
    assert draw.dtype_color("no such type") == draw.DTYPE_COLORS["unknown"]


@pytest.mark.parametrize("color", [*draw.DTYPE_COLORS.values(), *draw.SERIES, draw.WARN])
def test_contrast_on_both_themes(color):
    assert contrast(color, LIGHT) >= 3
    assert contrast(color, DARK) >= 3


def test_text_is_readable_on_both_themes():
    assert min(contrast(draw.INK, LIGHT), contrast(draw.INK, DARK)) >= 3.9


@pytest.mark.parametrize("kind", CVD)
def test_main_types_stay_apart_for_colour_blind_readers(kind):
    seen = {
        d: lab(np.array(CVD[kind]) @ linear(draw.DTYPE_COLORS[d]))
        for d in ("fp32", "fp16", "int8", "unknown")
    }
    for a, b in itertools.combinations(seen, 2):
        assert np.linalg.norm(seen[a] - seen[b]) > 20, (a, b)


def test_figures_are_transparent_and_carry_their_footer():
    layout = draw.figure("Why?").layout.template.layout
    assert layout.paper_bgcolor == layout.plot_bgcolor == "rgba(0,0,0,0)"
    assert draw.finish(draw.figure("Why?"), "recorded").layout.annotations[-1].name == "footer"
