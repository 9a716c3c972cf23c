"""Photographs with the answers of engines, scenes with the boxes that a detector found, and what
an engine computes a network's operators in.
"""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..builds import Build
from ..engine.precision import PrecisionReport
from ..engine.records import HEADS
from ..errors import DataError
from ..model.detections import Detections, hits
from . import draw
from .digits import answers_of
from .draw import BAD, GOOD, INK, Figure, Source, Style, dtype_color

__all__ = ["boxes", "operators", "photographs"]

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
    shown, right = np.asarray(pictures, np.uint8), np.asarray(labels)
    engines, chosen = list(builds), list(rows)
    if not engines or not chosen:
        raise DataError("no engine or no picture to show", "pass at least one of each")
    line = shown.shape[1] // 4
    fig = _album(title, list(shown[chosen]), len(chosen), line * (len(engines) + 1))
    heights = [shown.shape[1] + line * (place + 0.8) for place in range(len(engines))]
    for engine, y in zip(engines, heights, strict=True):
        answers = answers_of(engine, len(right), "pictures")
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
    shown, chosen, names = np.asarray(pictures, np.uint8), list(rows), list(ways)
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
    height = draw.tall(len(ops))
    fig = draw.panels(
        "What does each engine compute the operators in?",
        heads,
        height=height,
        shared_yaxes=True,
        horizontal_spacing=0.04,
    )
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
