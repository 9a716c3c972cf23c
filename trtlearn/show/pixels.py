"""A convolution's window on its input: nine products, their sum, and the pixel that lights up."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..errors import DataError
from ..int8.layer import PixelTrace
from ..int8.simulate import Int8Run
from . import draw
from .draw import Figure, Source, Style
from .theme import BAD, GOOD, GRAYS

__all__ = ["PixelScene", "WindowPixel", "describe_pixel", "scene_figure"]

SIGNS = [[0, BAD], [0.5, "#444444"], [1, GOOD]]  # below, at and above 0, under white text


@dataclass(frozen=True)
class WindowPixel:
    """One output pixel and the window that it sees in the input channel which adds most to it."""

    trace: PixelTrace
    source: int  # the input channel of the window
    sources: int  # how many input channels are summed
    part: int  # what the window's products add up to
    products: NDArray[np.int64]  # [rows, columns] of the window
    words: NDArray[np.str_]  # what each cell says
    frame: tuple[float, float, float, float]  # x0, y0, x1, y1 of the window on the input
    titles: tuple[str, str, str]  # of the three panels


class PixelScene:
    """A convolution of a simulated engine with the codes of one image that go in and come out.

    DataError where the engine computes no convolution from INT8 to INT8, or for another layer.
    """

    def __init__(self, run: Int8Run, layer: str | None = None) -> None:
        if not run.convolutions:
            raise DataError(
                "no convolution of this engine goes from INT8 to INT8",
                'take the recorded one: tl.network("resnet", mode="recorded")',
            )
        self.run, self.name = run, layer or run.convolutions[0]
        if self.name not in run.convolutions:
            known = ", ".join(run.convolutions)
            raise DataError(f"{self.name!r} is no INT8 convolution here", f"one of {known}")
        self.layer = run.layers[self.name]
        read, written = run[self.layer.reads].codes, run[self.layer.writes].codes
        if read is None or written is None or not len(read):
            raise DataError("no image was simulated", "simulate at least one")
        self.inputs, self.output = read[0], written[0]

    @property
    def strongest(self) -> tuple[int, int, int]:
        """Channel, row and column of the largest output code."""
        place = np.unravel_index(int(self.output.argmax()), self.output.shape)
        channel, row, column = (int(index) for index in place)
        return channel, row, column

    def at(self, channel: int, row: int, column: int) -> WindowPixel:
        """The pixel at this place of the output."""
        trace = self.run.trace(self.name, (0, channel, row, column))
        maps, depth, *kernel = self.layer.codes.shape
        shape = (depth, *kernel)
        x, w, products = (
            np.reshape(codes, shape) for codes in (trace.inputs, trace.weights, trace.products)
        )
        sums = products.sum((1, 2))
        most = int(np.abs(sums).argmax())
        facts = self.layer.geometry
        source = channel // (maps // facts["groups"]) * depth + most
        words = [
            f"{a} · {b}<br>= {a * b:,}" for a, b in zip(x[most].flat, w[most].flat, strict=True)
        ]
        top = row * facts["strides"][0] - facts["pads"][0]
        left = column * facts["strides"][1] - facts["pads"][1]
        down, across = np.array(facts["dilations"]) * (np.array(kernel) - 1)
        return WindowPixel(
            trace=trace,
            source=source,
            sources=depth,
            part=int(sums[most]),
            products=products[most],
            words=np.reshape(words, kernel),
            frame=(left - 0.5, top - 0.5, left + float(across) + 0.5, top + float(down) + 0.5),
            titles=(
                f"in: {self.layer.reads}, channel {source}",
                "input code · weight code",
                f"out: {self.layer.writes}, channel {channel}",
            ),
        )


def scene_figure(scene: PixelScene, pixel: WindowPixel, source: Source = None) -> Figure:
    """The input with the window, the window's products, the output with the pixel.

    Traces: 0 the input's codes, 1 the products, 2 the output's codes, 3 the mark of the pixel;
    shape 0 is the window.
    """
    title = f"How does one pixel of {scene.name} become a code?"
    fig = draw.panels(title, list(pixel.titles), height=400, horizontal_spacing=0.04)
    fig.update_layout(showlegend=False)
    hover = "row %{y}, column %{x}: code %{z}<extra></extra>"
    plain = {"colorscale": GRAYS, "showscale": False, "hovertemplate": hover}
    ends = {"zmin": int(scene.inputs.min()), "zmax": int(scene.inputs.max())}
    fig.add_heatmap(z=scene.inputs[pixel.source], **plain, **ends, row=1, col=1)
    products: Style = {"colorscale": SIGNS, "zmid": 0, "showscale": False, "xgap": 2, "ygap": 2}
    products |= {"texttemplate": "%{text}", "textfont": {"color": "white", "size": 12}}
    fig.add_heatmap(z=pixel.products, text=pixel.words, **products, hoverinfo="skip", row=1, col=2)
    ends = {"zmin": int(scene.output.min()), "zmax": int(scene.output.max())}
    fig.add_heatmap(z=scene.output[pixel.trace.position[1]], **plain, **ends, row=1, col=3)
    row, column = pixel.trace.position[2:]
    look: Style = {"symbol": "square-open", "size": 12, "color": BAD, "panel": (1, 3)}
    draw.points(fig, [column], [row], "this pixel", **look, marker={"line": {"width": 3}})
    x0, y0, x1, y1 = pixel.frame
    fig.add_shape(
        type="rect", x0=x0, y0=y0, x1=x1, y1=y1, line={"color": BAD, "width": 3}, row=1, col=1
    )
    sizes = (scene.inputs.shape[1:], pixel.products.shape, scene.output.shape[1:])
    for index, (high, wide) in enumerate(sizes, 1):
        edge = 0.5 if index == 2 else 1.5  # room for a window that reaches into the padding
        hidden = {"visible": False, "constrain": "domain"}
        fig.update_xaxes(range=[-edge, wide - 1 + edge], **hidden, row=1, col=index)
        anchor = {"scaleanchor": f"x{index if index > 1 else ''}"}
        fig.update_yaxes(range=[high - 1 + edge, -edge], **hidden, **anchor, row=1, col=index)
    return draw.finish(fig, source)


def describe_pixel(pixel: WindowPixel) -> str:
    """The arithmetic from the sum to the code, in a few lines of HTML."""
    trace = pixel.trace
    count = len(trace.products)
    lines = [f"{count} products add up to <b>{trace.sum:,}</b>, exact in int32."]
    if pixel.sources > 1:
        lines[0] += (
            f" Shown is channel {pixel.source}, which adds most of {pixel.sources} input "
            f"channels: {pixel.part:,}."
        )
    sign = "−" if trace.offset < 0 else "+"
    added = f" + residual {trace.added:.4g}" if trace.added else ""
    lines.append(
        f"Scale: {trace.sum:,} · {trace.multiplier:.4g} (s_x · s_w / s_y) "
        f"{sign} {abs(trace.offset):.4g} (bias / s_y){added} = <b>{trace.steps:.4f}</b> steps."
    )
    nearest = round(trace.steps)
    lines.append(
        f"Round: {nearest}. Clip to {trace.low:.4g} … {trace.high:.4g}: "
        f"<b>code {trace.code}</b>, which says {trace.value:.4g}."
    )
    return "<br>".join(lines)
