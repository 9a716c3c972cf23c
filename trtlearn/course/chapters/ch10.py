"""Exercises of notebook 10, "Photographs, boxes, transformers"."""

from __future__ import annotations

import operator
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass
from functools import cache, partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...calibration.fitting import FitReport, TensorFit, fit
from ...errors import DataError
from ...model.detections import decode
from ...record import plural
from ...show import draw
from ...show.images import boxes
from ...show.tensor_ranges import fit as draw_fit
from ..verdict import call, judge_function, kind_of, random_cases
from . import recorded

Array = NDArray[np.float32]
SCENES = (1, 4)  # the test scenes that the picture shows
FITTED = 32  # calibration images that a real report looks at


# --- Which ranges clip?


def clipping(
    report: FitReport, least: float = 0.01, beyond: Callable[[float, float], bool] = operator.gt
) -> set[str]:
    """The reference: the tensors of which more than 1 % of the values are clipped."""
    return {tensor.name for tensor in report.tensors if beyond(tensor.clipped, least)}


@cache
def real_report(name: str) -> FitReport:
    """entropy 2's ranges of a network beside its calibration images."""
    one = recorded(name)
    cache = one.build("int8-entropy2").cache
    assert cache is not None
    return fit(cache, one, one.images()[:FITTED], progress=False)


def random_report(rng: np.random.Generator) -> tuple[FitReport]:
    """A report of eight tensors; some ranges clip, some are too large."""
    tensors = []
    for index, clipped in enumerate(rng.choice([0, 0.002, 0.01, 0.03, 0.2], 8)):
        verdict = str(rng.choice(["fits", "too large"])) if clipped < 0.02 else "too small"
        fit = TensorFit(f"t{index}", 1.0, 1 / 127, 2.0, 0.9, float(clipped), 128, 20.0, verdict)
        tensors.append(fit)
    return (FitReport(tuple(tensors), 1),)


def real_reports() -> dict[str, FitReport]:
    """What they are called -> reports of three networks."""
    return {f"entropy 2 on {name}": real_report(name) for name in ("mobile", "resnet", "photo")}


def draw_clipping(answer: Any) -> Any:
    """The ranges of mobile and photo that the reader's function picks, beside their data."""
    report = real_report("mobile")
    if answer is None:
        return draw_fit(report, title="mobile, entropy 2: which of these ranges clip?")
    names = answer(report)
    if isinstance(names, str) or not isinstance(names, Iterable):
        raise DataError(f"Expected a set of names, got {kind_of(names)}")
    chosen = set(names)
    kept = tuple(tensor for tensor in report.tensors if tensor.name in chosen)
    found = len(set(answer(real_report("photo"))))
    title = f"mobile: you pick {plural(len(kept), 'range')}; of photo's {found}"
    return draw_fit(FitReport(kept, report.batches), title=title)


# --- Two scales for one tensor


def with_own_scales(output: Array, at: int = 4, **how: Any) -> Array:
    """The reference: boxes and scores of [N,4+classes,cells] in eight bits, a scale for each.

    ``at``: where the scores begin; ``how`` is :func:`in_eight_bits`'.
    """
    boxes, scores = output[:, :at], output[:, at:]
    return np.concatenate([in_eight_bits(boxes, **how), in_eight_bits(scores, **how)], axis=1)


def in_eight_bits(x: Array, divisor: float = 127, values: bool = True) -> Array:
    """The codes of one min-max scale, or the values that they stand for."""
    scale = np.abs(x).max() / np.float32(divisor)
    codes = np.clip(np.rint(x / scale), -128, 127)
    return np.asarray(codes * scale if values else codes, np.float32)


def random_output(rng: np.random.Generator) -> tuple[Array]:
    """An output as a detector has it: boxes in pixels beside scores."""
    cells, classes = int(rng.integers(5, 20)), int(rng.integers(2, 8))
    boxes = rng.uniform(0, float(rng.choice([128, 320, 640])), (2, 4, cells))
    scores = rng.uniform(0, 1, (2, classes, cells)) ** 3
    return (np.concatenate([boxes, scores], axis=1).astype(np.float32),)


@cache
def scene_output() -> Array:
    """What the detector gives for the first scenes, in FP32 on the CPU: [5,14,320]."""
    detector = recorded("detector")
    images = detector.images("test")[: max(SCENES) + 1]
    return np.asarray(detector.activations(images, ["output0"])["output0"])


def draw_scales(answer: Any) -> Any:
    """The scenes with the boxes of FP32, of one scale for all, and of the reader's codes."""
    detector, exact = recorded("detector"), scene_output()
    ways = {"FP32": exact, "one scale": in_eight_bits(exact)}
    if answer is not None:
        ways["yours"] = np.asarray(call(answer, exact), np.float32)
        if ways["yours"].shape != exact.shape:
            shape = list(ways["yours"].shape)
            raise DataError(f"your result has the shape {shape}, expected {list(exact.shape)}")
    found = {}
    for name, values in ways.items():
        scores = np.unique(values[:, 4:]).size
        found[f"{name}<br>{plural(scores, 'different score')}"] = decode(values)
    truth = detector.boxes(), detector.labels()
    return boxes(detector.pictures(), found, truth, SCENES, title="What do eight bits leave?")


# --- How much of a transformer is INT8?


@dataclass(frozen=True)
class Node:
    """What the exercise reads of a node in a precision report."""

    op: str
    computed_in: str | None
    requested_dtype: str = "int8"


PRODUCTS = ("MatMul", "Gemm")


def int8_share(
    nodes: Iterable[Any], ops: Collection[str] = PRODUCTS, fact: str = "computed_in"
) -> float:
    """The reference: the share of the matrix products that INT8 computes."""
    return float(np.mean([getattr(node, fact) == "int8" for node in nodes if node.op in ops]))


def int8_count(nodes: Iterable[Any]) -> int:
    """How many of the matrix products INT8 computes."""
    return sum(node.computed_in == "int8" for node in nodes if node.op in PRODUCTS)


OPS = (*PRODUCTS, "Add", "Softmax", "Erf", "Mul")


def random_nodes(rng: np.random.Generator) -> tuple[list[Node]]:
    """Thirty nodes of a transformer, in INT8, in FP32 or in no layer of their own."""
    kinds = ["int8", "fp32", None]
    drawn = [Node(str(rng.choice(OPS)), kinds[int(rng.integers(3))]) for _ in range(28)]
    return ([Node("MatMul", "int8"), Node("Gemm", "fp32"), *drawn],)


@cache
def real_nodes() -> dict[str, list[Any]]:
    """Engines' names -> the nodes of their precision reports."""
    ways = ("int8-placeholder", "int8-entropy", "fp16")
    vit = recorded("vit")
    return {f"vit, {way}": list(vit.build(way).precision().nodes) for way in ways}


def draw_products(answer: Any) -> Any:
    """Each engine's share as the reader's function finds it."""
    fig = draw.figure("How much of the matrix products is INT8?", showlegend=False, height=300)
    shares = {
        name: 0.0 if answer is None else float(answer(nodes))
        for name, nodes in real_nodes().items()
    }
    texts = ["?" if answer is None else f"{share:.1%}" for share in shares.values()]
    draw.bars(fig, list(shares), list(shares.values()), texts=texts)
    fig.update_xaxes(range=[0, 1.15], tickformat=".0%")
    fig.update_yaxes(autorange="reversed", type="category")
    return draw.finish(fig, recorded("vit").provenance)


judge_clipping = partial(
    judge_function, cases=random_cases(clipping, random_report, 3, "a made-up report", real_reports)
)
judge_scales = partial(judge_function, cases=random_cases(with_own_scales, random_output))
judge_products = partial(
    judge_function, cases=random_cases(int8_share, random_nodes, 3, "made-up nodes", real_nodes)
)

mistakes_clipping = {
    "percent": partial(clipping, least=1),
    "any": partial(clipping, least=0),
    "too large": lambda report: {
        tensor.name for tensor in report.tensors if tensor.verdict != "fits"
    },
    "1 % itself": partial(clipping, beyond=operator.ge),
}

mistakes_scales = {
    "one scale": in_eight_bits,
    "codes": partial(with_own_scales, values=False),
    "at 5": partial(with_own_scales, at=5),
    "at 2": partial(with_own_scales, at=2),
    "128": partial(with_own_scales, divisor=128),
}

mistakes_products = {
    "no Gemm": partial(int8_share, ops=("MatMul",)),
    "all nodes": lambda nodes: np.mean([node.computed_in == "int8" for node in nodes]),
    "requested": partial(int8_share, fact="requested_dtype"),
    "count": int8_count,
    "of all nodes": lambda nodes: int8_count(nodes) / len(nodes),
    "percent": lambda nodes: 100 * int8_share(nodes),
}
