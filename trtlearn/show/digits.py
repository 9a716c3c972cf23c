"""Digits as an engine's input range leaves them, beside answers or the pixels' histogram."""

from __future__ import annotations

import typing
from collections.abc import Iterable, Mapping, Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..builds import Build
from ..calibration.ranges import amax_by_tensor
from ..engine.records import HEADS
from ..errors import DataError
from ..int8.quant import dequantize, quantize
from . import draw
from .draw import BAD, GRAYS, INK, Figure, Source, Style

__all__ = ["digits_grid", "spike"]

BESIDE, BELOW = 6, 9  # free pixels at an image's right, and under it for the answer


def digits_grid(
    builds: Mapping[str, Build] | Iterable[Build],
    images: ArrayLike,
    labels: ArrayLike,
    rows: Sequence[int] = (0, 4, 7, 8, 10),
    *,
    title: str = "What does each engine see, and what does it answer?",
    source: Source = None,
) -> Figure:
    """Rows are images, columns engines: the image as the engine's input range leaves it.

    Under each stands the answer; wrong ones are marked. ``builds``: what ``Network.builds(...)``
    gives, or builds; ``images`` float32 [N,1,H,W] and ``labels`` [N] are the images that the builds
    answered, and ``rows`` chooses among them. A build without an input range shows the image as it
    is. DataError for a build without answers.

    >>> import trtlearn as tl
    >>> mobile = tl.network("mobile", mode="recorded")
    >>> builds = mobile.builds("fp32", "int8-placeholder")
    >>> digits_grid(builds, mobile.images("test"), mobile.labels(), [0]).layout.annotations[2].text
    'bare --int8<br>±2'
    """
    columns = list(builds.values()) if isinstance(builds, Mapping) else list(builds)
    pixels, right = np.asarray(images, np.float32), np.asarray(labels)
    if not columns or not len(rows):
        raise DataError("no build or no image to show", "pass at least one of each")
    chosen = list(rows)
    shown = []
    for build in columns:
        name = HEADS.get(build.variant, build.variant)
        answers = answers_of(build, len(right), "images")[chosen].tolist()
        shown.append(Column(name, input_amax(build), answers))
    return digit_columns(
        shown, pixels[chosen], right[chosen], title=title, source=source or columns[0].provenance
    )


def answers_of(build: Build, count: int, what: str) -> NDArray[np.int64]:
    """The build's answers to the test images; DataError where it did not answer so many."""
    if build.answers is None or len(build.answers) != count:
        raise DataError(
            f"{build.variant} did not answer these {count} {what}",
            f'pass the test {what}: network.{what}("test") and network.labels()',
        )
    return build.answers


class Column(typing.NamedTuple):
    """The same images as one engine sees them, and its answers."""

    head: str
    amax: float | None  # the end of the input's range; None: exact
    answers: Sequence[int] = ()  # none: no answer is shown
    images: NDArray[np.float32] | None = None  # [rows, ..., H, W]; None: the originals in ±amax


def digit_columns(
    columns: Sequence[Column],
    originals: NDArray[np.float32],
    labels: Sequence[int] | NDArray[np.int64] = (),
    *,
    title: str,
    source: Source = None,
) -> Figure:
    """A column of images for each engine, its answers below them; ``labels`` are the right ones.

    The grays run from the least to the largest value of ``originals`` float32 [rows, ..., H, W].
    """
    cells = [
        as_seen(originals, column.amax) if column.images is None else column.images
        for column in columns
    ]
    fig = board(title, np.stack(cells, axis=1), originals)
    fig.update_layout(height=min(draw.TALLEST, 150 + 110 * len(originals)))
    for place, column in enumerate(columns):
        middle = place_of(0, place, originals.shape)[0]
        head = f"{column.head}<br>{f'±{column.amax:.3g}' if column.amax else 'exact'}"
        draw.note(fig, head, middle, 0, yanchor="bottom", font={"size": 12})
        for row, answer in enumerate(column.answers):
            x, y = place_of(row, place, originals.shape)
            draw.note(fig, x=x, y=y, yanchor="top", **answer_look(int(answer), int(labels[row])))
    return draw.finish(fig, source)


def board(title: str, cells: NDArray[np.float32], originals: NDArray[np.float32]) -> Figure:
    """A figure of images in rows and columns: ``cells`` float32 [rows, columns, ..., H, W].

    The grays run from the least to the largest value of ``originals``.
    """
    fig = draw.figure(title, showlegend=False)
    ends = {"zmin": float(originals.min()), "zmax": float(originals.max())}
    look: Style = {"colorscale": GRAYS, "showscale": False, "hoverongaps": False}
    look["hovertemplate"] = "this engine reads %{z:.3g}<extra></extra>"
    fig.add_heatmap(z=mosaic(cells), **ends, **look)
    high, wide = fig.data[0].z.shape
    still: Style = {"visible": False, "constrain": "domain"}
    fig.update_xaxes(**still, range=[-1, wide], constraintoward="left")
    fig.update_yaxes(**still, range=[high, -14], scaleanchor="x", constraintoward="top")
    return fig


def mosaic(cells: NDArray[np.float32]) -> NDArray[np.object_]:
    """The images as one, with None between them: object [height, width].

    A figure goes to the page as JSON, which has no NaN.
    """
    rows, columns, *_, high, wide = cells.shape
    whole = np.full((rows, high + BELOW, columns, wide + BESIDE), None, object)
    whole[:, :high, :, :wide] = cells.reshape(rows, columns, high, wide).transpose(0, 2, 1, 3)
    return whole.reshape(rows * (high + BELOW), columns * (wide + BESIDE))


def place_of(row: int, column: int, shape: tuple[int, ...]) -> tuple[float, float]:
    """The middle of a cell's lower edge; ``shape`` ends in H, W."""
    high, wide = shape[-2:]
    return column * (wide + BESIDE) + wide / 2, row * (high + BELOW) + high


def answer_look(answer: int, right: int) -> Style:
    """An answer's words and colour."""
    if answer == right:
        return {"text": f"✔ {answer}", "font": {"size": 12, "color": INK}}
    return {"text": f"<b>✘ {answer}</b>, wrong", "font": {"size": 12, "color": BAD}}


def input_amax(build: Build) -> float | None:
    """The end of the range that the build gave its input; None where it has none."""
    inputs = [binding.name for binding in build.engine.bindings if binding.mode == "input"]
    known = build.ranges or build.build.scales
    return amax_by_tensor(build).get(inputs[0]) if inputs and known else None


def as_seen(image: NDArray[np.float32], amax: float | None) -> NDArray[np.float32]:
    """The image as the codes of ±amax say it; the image itself where amax is None.

    >>> as_seen(np.array([0.3, 9.0], np.float32), 4.0).tolist()
    [0.31496062874794006, 4.0]
    """
    if amax is None:
        return image
    scale = amax / 127
    return np.asarray(dequantize(quantize(image, scale), scale), np.float32)


# --- A digit beside its histogram.

BARS = 64


def background(images: ArrayLike) -> tuple[float, float]:
    """The value that comes most often, and its share of all values.

    >>> background([0.0, 0.0, 0.0, 2.0])
    (0.0, 0.75)
    """
    values, counts = np.unique(np.asarray(images, np.float32), return_counts=True)
    if not counts.size:
        raise DataError("no pixel to look at", "pass float32 images [N,1,H,W]")
    most = int(counts.argmax())
    return float(values[most]), float(counts[most] / counts.sum())


def cut_digit(image: ArrayLike, amax: float) -> NDArray[np.float32]:
    """The image [...,H,W] as the INT8 codes of ±amax say it, [H,W].

    >>> cut_digit([[0.0, 9.0]], 4.0).tolist()
    [[0.0, 4.0]]
    """
    pixels = np.asarray(image, np.float32)
    return as_seen(pixels, amax).reshape(pixels.shape[-2:])


def spike(
    images: ArrayLike,
    amax: float,
    index: int = 0,
    *,
    values: ArrayLike | None = None,
    source: Source = None,
) -> Figure:
    """A digit before and after the range ±amax, beside the histogram of all pixels (linear axis).

    ``images`` float32 [N,1,H,W]; ``index`` is the digit shown; ``values`` [N] are counted in place
    of all pixels. Traces: 0 the histogram, 1 the digit, 2 the digit cut at ±amax.

    >>> len(spike(np.eye(4, dtype=np.float32).reshape(1, 1, 4, 4), 0.5).data)
    3
    """
    pixels = np.asarray(images, np.float32)
    counted = pixels.ravel() if values is None else np.asarray(values, np.float32)
    value, share = background(counted)
    if amax <= 0:
        raise DataError(f"amax is {amax}", "pass a number above 0")
    heads = ["", "the digit", "what ±amax keeps of it"]
    widths = {"column_widths": [0.5, 0.25, 0.25], "horizontal_spacing": 0.05}
    fig = draw.panels("What does the range keep of a digit?", heads, height=370, **widths)
    counts, edges = np.histogram(counted, BARS)
    middles, percent = (edges[:-1] + edges[1:]) / 2, 100 * counts / counted.size
    step = float(edges[1] - edges[0])
    hover = "%{y:.2g} % of the pixels near %{x:.3g}"
    draw.columns(fig, middles, percent, width=step, hover=hover, panel=(1, 1))
    draw.ends(fig, -amax, amax, color=BAD, panel=(1, 1))
    if share > 0.5:
        words = f"{100 * share:.0f} % of pixels: background"
        label: Style = {"xanchor": "left", "xshift": 14, "row": 1, "col": 1}
        draw.note(fig, words, value, 0.93 * percent.max(), **label)
    digit = pixels[index].reshape(pixels.shape[-2:])
    ends = {"zmin": float(digit.min()), "zmax": float(digit.max())}
    look: Style = {**ends, "colorscale": GRAYS, "showscale": False}
    for column, seen in ((2, digit), (3, cut_digit(digit, amax))):
        text = "%{z:.3g}<extra></extra>"
        fig.add_heatmap(z=seen, hovertemplate=text, **look, row=1, col=column)
        fig.update_xaxes(visible=False, constrain="domain", row=1, col=column)
        anchor = "x2" if column == 2 else "x3"
        fig.update_yaxes(visible=False, autorange="reversed", scaleanchor=anchor, row=1, col=column)
    fig.update_layout(showlegend=False, bargap=0)
    reach = 1.05 * max(float(np.abs(pixels).max()), amax)
    fig.update_xaxes(title="value of a pixel (dashed: ±amax)", range=[-reach, reach], row=1, col=1)
    fig.update_yaxes(title="share of pixels, %", range=[0, 1.1 * percent.max()], row=1, col=1)
    return draw.finish(fig, source)
