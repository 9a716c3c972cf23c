"""Images beside what engines answer: digits as an input range leaves them, photographs, scenes with
boxes; and what an engine computes a network's operators in.
"""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..builds import Build
from ..calibration.ranges import amax_by_tensor
from ..engine.precision import PrecisionReport
from ..engine.records import HEADS
from ..errors import DataError
from ..int8.quant import dequantize, quantize
from ..model.detections import Detections, hits
from . import draw
from .draw import BAD, GOOD, GRAYS, INK, Figure, Source, Style, dtype_color

__all__ = ["boxes", "digits_grid", "operators", "photographs", "spike"]

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


class Column(NamedTuple):
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
    *,
    values: ArrayLike | None = None,
    source: Source = None,
) -> Figure:
    """A digit before and after the range ±amax, beside the histogram of all pixels (linear axis).

    ``images`` float32 [N,1,H,W]; the first is shown; ``values`` [N] are counted in place of
    all pixels. Traces: 0 the histogram, 1 the digit, 2 the digit cut at ±amax.

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
    digit = pixels[0].reshape(pixels.shape[-2:])
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


# --- Photographs and scenes.

GAP = 6  # pixels between two pictures
LETTER, ROW = 7, 13  # a label's letter and height, in pixels of a scene in the narrowest page


def _album(
    title: str, pictures: Sequence[NDArray[np.uint8]], columns: int, under: int = 0
) -> Figure:
    """A figure of pictures in rows of ``columns``, ``under`` free pixels below each row."""
    fig = draw.figure(title, showlegend=False)
    from plotly.utils import image_array_to_data_uri

    high, wide = pictures[0].shape[:2]
    rows = -(-len(pictures) // columns)
    for index, picture in enumerate(pictures):
        row, column = divmod(index, columns)
        place = {"x": column * (wide + GAP), "y": row * (high + GAP + under)}
        size = {"sizex": wide, "sizey": high, "sizing": "stretch", "layer": "below"}
        png = image_array_to_data_uri(picture, backend="pypng", compression=9)
        fig.add_layout_image(source=png, xref="x", yref="y", **place, **size)
    still: Style = {"showgrid": False, "zeroline": False, "constrain": "domain"}
    still |= {"ticks": "", "showticklabels": False}
    fig.update_xaxes(**still, range=[-1, columns * (wide + GAP)], constraintoward="left")
    whole = rows * (high + GAP + under)
    fig.update_yaxes(**still, range=[whole, -0.12 * high], scaleanchor="x", constraintoward="top")
    return fig


def _pictures(
    pictures: ArrayLike, rows: Sequence[int], engines: Sequence[object]
) -> NDArray[np.uint8]:
    """``pictures`` as an array; DataError where they are not uint8 [N,H,W,3] or lack one of
    ``rows``, or where there is no row or no engine.
    """
    if not engines or not rows:
        raise DataError("no engine or no picture to show", "pass at least one of each")
    array = np.asarray(pictures)
    if array.ndim != 4 or array.shape[-1] != 3:
        problem = f"pictures of shape {array.shape}, expected [N, height, width, 3]"
        raise DataError(problem, 'pass network.pictures("test"); network.images() is for engines')
    if lost := [row for row in rows if not -len(array) <= row < len(array)]:
        problem = f"there is no row {lost[0]} among {len(array)} pictures"
        raise DataError(problem, f"choose rows from 0 to {len(array) - 1}")
    return array.astype(np.uint8)


def photographs(
    builds: Iterable[Build],
    pictures: ArrayLike,
    labels: ArrayLike,
    names: Sequence[str],
    rows: Sequence[int] = range(8),
    *,
    title: str = "What does each engine answer?",
    source: Source = None,
) -> Figure:
    """A row of photographs, and under each what the engines answer; wrong answers are marked.

    Args:
        builds: engines that answered all of the images.
        pictures: uint8 [N,H,W,3], ``Network.pictures("test")``; labels: int [N].
        names: the classes' names. rows: which photographs.

    >>> import trtlearn as tl
    >>> photo = tl.network("photo", mode="recorded")
    >>> engines = [photo.build("fp32"), photo.build("int8-entropy2")]
    >>> fig = photographs(engines, photo.pictures(), photo.labels(), photo.card.labels, [0, 1])
    >>> len(fig.layout.images)
    2
    """
    engines, chosen, right = list(builds), list(rows), np.asarray(labels)
    shown = _pictures(pictures, chosen, engines)
    line = shown.shape[1] // 4
    fig = _album(title, list(shown[chosen]), len(chosen), line * (len(engines) + 1))
    heights = [shown.shape[1] + line * (place + 0.8) for place in range(len(engines))]
    for engine, y in zip(engines, heights, strict=True):
        answers = answers_of(engine, len(right), "pictures")
        if (most := int(answers[chosen].max())) >= len(names):
            problem = f"{len(names)} names of classes, and {engine.variant} answers class {most}"
            raise DataError(problem, "pass all: network.card.labels")
        for column, row in enumerate(chosen):
            answer = int(answers[row])
            good = answer == right[row]
            text = names[answer] if good else f"<b>✘ {names[answer]}</b>"
            font = {"size": 11, "color": INK if good else BAD}
            draw.note(fig, text, column * (shown.shape[2] + GAP) + shown.shape[2] / 2, y, font=font)
    heads = [HEADS.get(engine.variant, engine.variant) for engine in engines]
    fig.update_yaxes(showticklabels=True, tickvals=heights, ticktext=heads)
    fig.update_layout(height=240 + 24 * len(engines))
    return draw.finish(fig, source or engines[0].provenance)


def boxes(
    pictures: ArrayLike,
    ways: Mapping[str, Sequence[Detections]],
    truth: tuple[ArrayLike, ArrayLike],
    rows: Sequence[int] = (1, 4),
    *,
    title: str = "Which boxes does each engine find?",
    source: Source = None,
) -> Figure:
    """Scenes with the boxes of each way of running the detector, the class beside each.

    Args:
        pictures: uint8 [N,H,W,3]; ways: a name -> one Detections a picture.
        truth: the objects' boxes [N,K,4] (cx, cy, w, h) and classes [N,K], -1 where there is none.
            A box is right where it hits an object of its class that no better one has hit.
        rows: which pictures. Boxes that are not sure, of a score up to 0.25, are left out.

    >>> empty = [Detections(np.zeros((0, 4)), np.zeros(0), np.zeros(0, int))]
    >>> scene, truth = np.zeros((1, 8, 8, 3), np.uint8), (np.zeros((1, 1, 4)), np.array([[3]]))
    >>> boxes(scene, {"nothing": empty}, truth, [0]).layout.annotations[0].text
    '<b>nothing</b><br>0 right, 0 wrong of 1'
    """
    chosen, names = list(rows), list(ways)
    shown = _pictures(pictures, chosen, names)
    if short := [name for name in names if len(ways[name]) <= max(chosen)]:
        problem = f"{short[0]} has detections for {len(ways[short[0]])} of {len(shown)} pictures"
        raise DataError(problem, "pass one Detections a picture, as tl.recorded.detections() gives")
    high, wide = shown.shape[1:3]
    tiles = [shown[row] for row in chosen for _ in names]
    fig = _album(title, tiles, len(names))
    objects, kinds = (np.asarray(part) for part in truth)
    taken: list[tuple[float, ...]] = []
    for column, name in enumerate(names):
        right = wrong = 0
        for place, row in enumerate(chosen):
            one = ways[name][row]
            good = hits(one, objects[row], kinds[row])
            for index in np.flatnonzero(one.sure):
                right, wrong = right + int(good[index]), wrong + int(not good[index])
                at = (column * (wide + GAP), place * (high + GAP))
                _draw_box(fig, one, int(index), at, bool(good[index]), taken)
        count = int((kinds[chosen] >= 0).sum())
        head = f"<b>{name}</b><br>{right} right, {wrong} wrong of {count}"
        x = column * (wide + GAP) + wide / 2
        draw.note(fig, head, x, -0.02 * high, yanchor="bottom", font={"size": 12})
    fig.update_yaxes(range=[len(chosen) * (high + GAP), -0.3 * high])
    fig.update_layout(height=min(draw.TALLEST, 190 + 170 * len(chosen)))
    return draw.finish(fig, source)


def _draw_box(
    fig: Figure,
    one: Detections,
    index: int,
    at: tuple[float, float],
    good: bool,
    taken: list[tuple[float, ...]],
) -> None:
    """A box, and its class where no other stands; the score, too, at hovering."""
    x, y, wide, high = one.boxes[index].tolist()
    left, top = at[0] + x - wide / 2, at[1] + y - high / 2
    corners = np.array([[0, 0], [1, 0], [1, 1], [0, 1], [0, 0]]) * [wide, high] + [left, top]
    text = f"{one.classes[index]}, score {one.scores[index]:.2f}: {'right' if good else 'wrong'}"
    look: Style = {"mode": "lines", "hovertext": text, "hoverinfo": "text"}
    for color, thick in (("#ffffff", 4), (GOOD if good else BAD, 2)):
        stroke = {"color": color, "width": thick, "dash": "solid" if good else "dot"}
        fig.add_scatter(x=corners[:, 0], y=corners[:, 1], line=stroke, **look)
    label = f"{'' if good else '✘ '}{one.classes[index]}"
    right, bottom = left + wide, top + high
    room = (LETTER * len(label) + 4, ROW)  # in pixels of the scene, in the narrowest page
    look = {"bgcolor": GOOD if good else BAD, "borderpad": 1}
    look["font"] = {"size": 10, "color": "#ffffff"}
    for x, y, xanchor, yanchor in (
        (left, top, "left", "bottom"),
        (left, bottom, "left", "top"),
        (right, top, "left", "top"),
        (left, top, "right", "top"),
        (right, bottom, "left", "bottom"),
    ):
        start = x - room[0] if xanchor == "right" else x
        above = y - room[1] if yanchor == "bottom" else y
        place = (start, above, start + room[0], above + room[1])
        if not any(draw.overlap(place, other) for other in taken):
            taken.append(place)
            draw.note(fig, label, x, y, xanchor=xanchor, yanchor=yanchor, **look)
            break


def operators(reports: Mapping[str, PrecisionReport], *, source: Source = None) -> Figure:
    """A panel for each engine: its ONNX nodes by operator, coloured by what they are computed in.

    Grey stands for nodes whose type the engine does not show: inside one block, or folded.

    >>> import trtlearn as tl
    >>> report = tl.network("resnet", mode="recorded").build("int8-minmax").precision()
    >>> operators({"INT8": report}).data[0].name
    'int8'
    """
    if not reports or not isinstance(reports, Mapping):
        raise DataError("no report to draw", "pass {name: build.precision()}")
    counts = {
        name: Counter((row.op or "unknown", row.computed_in) for row in report.nodes)
        for name, report in reports.items()
    }
    nodes = itertools.chain(*(report.nodes for report in reports.values()))
    ops = [op for op, _ in Counter(row.op or "unknown" for row in nodes).most_common()]
    used = {kind for _, kind in itertools.chain(*counts.values())}
    kinds = sorted(used, key=lambda kind: (kind is None, kind != "int8", kind or ""))
    heads = [f"{name}: {len(report.layers)} layers" for name, report in reports.items()]
    question = "What does each engine compute the operators in?"
    fig = draw.panels(question, heads, height=draw.tall(len(ops)), **draw.SHARED)
    fig.update_layout(barmode="stack")
    for column, one in enumerate(counts.values(), 1):
        for kind in kinds:
            values = [one.get((op, kind), 0) for op in ops]
            look: Style = {"color": dtype_color(kind), "pattern": "/" if kind == "int8" else ""}
            look["hover"] = [f"{count} {op}" for op, count in zip(ops, values, strict=True)]
            look |= {"panel": (1, column), "showlegend": column == 1}
            draw.bars(fig, ops, values, kind or "type not shown", **look)
    fig.update_yaxes(autorange="reversed", type="category")
    fig.update_xaxes(title="nodes")
    return draw.finish(fig, source)
