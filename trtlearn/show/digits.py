"""Digits as an engine's input range leaves them, and what the network answered."""

from __future__ import annotations

import typing
from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from ..builds import Build
from ..errors import DataError
from ..int8.quant import dequantize, quantize
from . import draw
from .draw import Source
from .theme import BAD, INK

if typing.TYPE_CHECKING:
    import plotly.graph_objects as go
    from numpy.typing import ArrayLike, NDArray

__all__ = ["digits_grid"]

HEADS = {
    "fp32": "FP32",
    "tf32": "TF32",
    "fp16": "FP16",
    "int8-placeholder": "bare --int8",
    "int8-random": "missing file",
    "int8-entropy2": "entropy 2",
    "int8-minmax": "min-max",
    "int8-entropy": "entropy",
    "int8-legacy": "legacy",
    "int8-fp16": "INT8 + FP16",
}
"""A build's variant -> the head of its column."""

GRAYS = [[0, "#000000"], [1, "#ffffff"]]
BESIDE, BELOW = (
    6,
    9,
)  # pixels of an image that are left free at its right, and under it for the answer


def digits_grid(
    builds: Mapping[str, Build] | Iterable[Build],
    images: ArrayLike,
    labels: ArrayLike,
    rows: Sequence[int] = (0, 4, 7, 8, 10),
    *,
    title: str = "What does each engine see, and what does it answer?",
    source: Source = None,
) -> go.Figure:
    """Rows are images, columns engines: the image as the engine's input range leaves it.

    Under each stands the answer; wrong ones are marked. ``builds``: what ``Network.builds(...)``
    gives, or builds; ``images`` float32 [N,1,H,W] and ``labels`` [N] are the images that the builds
    answered, and ``rows`` chooses among them. A build without an input range shows the image as it
    is. DataError for a build without answers.

    >>> import trtlearn as tl
    >>> mobile = tl.network("mobile", mode="recorded")
    >>> builds = mobile.builds("fp32", "int8-placeholder")
    >>> digits_grid(builds, mobile.images("test"), mobile.labels(), [0]).layout.annotations[1].text
    'bare --int8<br>±2'
    """
    columns = list(builds.values()) if isinstance(builds, Mapping) else list(builds)
    pixels, right = np.asarray(images, np.float32), np.asarray(labels)
    if not columns or not len(rows):
        raise DataError("no build or no image to show", "pass at least one of each")
    high, wide = pixels.shape[-2] + BELOW, pixels.shape[-1] + BESIDE
    mosaic = np.full((len(rows) * high, len(columns) * wide), np.nan, np.float32)
    height = min(draw.TALLEST, 150 + 110 * len(rows))
    fig = draw.figure(title, height=height, showlegend=False)
    for column, build in enumerate(columns):
        answers, amax = build.answers, input_amax(build)
        if answers is None or len(answers) != len(right):
            raise DataError(
                f"{build.variant} did not answer these {len(right)} images",
                'pass the test images: network.images("test") and network.labels()',
            )
        middle = column * wide + (wide - BESIDE) / 2
        head = f"{HEADS.get(build.variant, build.variant)}<br>{f'±{amax:.3g}' if amax else 'exact'}"
        draw.note(fig, head, middle, 0, yanchor="bottom", font={"size": 12})
        for row, index in enumerate(rows):
            seen = as_seen(pixels[index].reshape(pixels.shape[-2:]), amax)
            top, left = row * high, column * wide
            mosaic[top : top + seen.shape[0], left : left + seen.shape[1]] = seen
            wrong = answers[index] != right[index]
            words = f"<b>✘ {answers[index]}</b>, wrong" if wrong else f"✔ {answers[index]}"
            font = {"size": 12, "color": BAD if wrong else INK}
            draw.note(fig, words, middle, top + seen.shape[0], yanchor="top", font=font)
    chosen = pixels[list(rows)]
    fig.add_heatmap(
        z=mosaic,
        colorscale=GRAYS,
        zmin=float(chosen.min()),
        zmax=float(chosen.max()),
        showscale=False,
        hoverongaps=False,
        hovertemplate="this engine reads %{z:.3g}<extra></extra>",
    )
    fig.update_xaxes(visible=False, range=[-1, mosaic.shape[1]], constrain="domain")
    fig.update_xaxes(constraintoward="left")
    fig.update_yaxes(
        visible=False,
        range=[mosaic.shape[0], -14],
        scaleanchor="x",
        constrain="domain",
        constraintoward="top",
    )
    return draw.finish(fig, source or columns[0].provenance)


def input_amax(build: Build) -> float | None:
    """The end of the range that the build gave its input; None where it has none."""
    tensors = build.ranges.tensors if build.ranges else build.build.scales or ()
    ends = {tensor.name: tensor.amax for tensor in tensors}
    inputs = [binding.name for binding in build.engine.bindings if binding.mode == "input"]
    return ends.get(inputs[0]) if inputs else None


def as_seen(image: NDArray[np.float32], amax: float | None) -> NDArray[np.float32]:
    """The image as the codes of ±amax say it; the image itself where amax is None.

    >>> as_seen(np.array([0.3, 9.0], np.float32), 4.0).tolist()
    [0.2834645211696625, 4.0]
    """
    if amax is None:
        return image
    scale = amax / 127
    return np.asarray(dequantize(quantize(image, scale), scale), np.float32)
