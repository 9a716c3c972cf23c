"""Exercises of notebook 10, "Photographs, boxes, transformers"."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import cache, partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...calibration.fitting import FitReport, TensorFit
from ...errors import DataError
from ...networks import Network, network
from ...record import plural
from ..exercise import register_chapter
from ..verdict import Case, Difference, judge_function, kind_of, random_cases

__all__: list[str] = []

Array = NDArray[np.float32]
SCENES = (1, 4)  # the test scenes that the picture shows
FITTED = 32  # calibration images that a real report looks at


@cache
def recorded(name: str) -> Network:
    """A network of the course, with its recordings."""
    return network(name, mode="recorded")


# --- Which ranges clip?


def clipping(report: FitReport) -> set[str]:
    """The reference: the tensors of which more than 1 % of the values are clipped."""
    return {tensor.name for tensor in report.tensors if tensor.clipped > 0.01}


@cache
def real_report(name: str) -> FitReport:
    """entropy 2's ranges of a network beside its calibration images."""
    from ...calibration.fitting import fit

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


def report_cases() -> Iterator[Case]:
    """Made-up reports, then those of three networks."""
    for case in random_cases(clipping, random_report, 3)():
        yield Case(case.arguments, case.expected, "a made-up report")
    for name in ("mobile", "resnet", "photo"):
        report = real_report(name)
        yield Case((report,), clipping(report), f"entropy 2 on {name}")


def _as_set(yours: Any, reference: set[str]) -> Difference | None:
    from ..verdict import compare

    names = yours if isinstance(yours, str) or not isinstance(yours, Iterable) else set(yours)
    return compare(names, reference)


CLIP_MISTAKES: dict[str, Callable[[FitReport], Any]] = {
    "clipped is a share: 1 % is 0.01": lambda report: {
        tensor.name for tensor in report.tensors if tensor.clipped > 1
    },
    "nearly every calibrated range clips a few values: only those above 1 % count": lambda report: {
        tensor.name for tensor in report.tensors if tensor.clipped > 0
    },
    "a range can be too LARGE: look at what is clipped": lambda report: {
        tensor.name for tensor in report.tensors if tensor.verdict != "fits"
    },
    "more than 1 %: exactly 1 % does not count": lambda report: {
        tensor.name for tensor in report.tensors if tensor.clipped >= 0.01
    },
}


def draw_clipping(answer: Any) -> Any:
    """The ranges of mobile and photo that the reader's function picks, beside their data."""
    from ...show.tensor_ranges import fit as draw_fit

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


def with_own_scales(output: Array) -> Array:
    """The reference: boxes and scores of [N,4+classes,cells] in eight bits, a scale for each."""
    return np.concatenate([in_eight_bits(output[:, :4]), in_eight_bits(output[:, 4:])], axis=1)


def in_eight_bits(x: Array, divisor: float = 127) -> Array:
    """The values that the codes of one min-max scale stand for."""
    scale = np.abs(x).max() / np.float32(divisor)
    return np.asarray(np.clip(np.rint(x / scale), -128, 127) * scale, np.float32)


def random_output(rng: np.random.Generator) -> tuple[Array]:
    """An output as a detector has it: boxes in pixels beside scores."""
    cells, classes = int(rng.integers(5, 20)), int(rng.integers(2, 8))
    boxes = rng.uniform(0, float(rng.choice([128, 320, 640])), (2, 4, cells))
    scores = rng.uniform(0, 1, (2, classes, cells)) ** 3
    return (np.concatenate([boxes, scores], axis=1).astype(np.float32),)


def _codes_only(output: Array) -> Array:
    parts = output[:, :4], output[:, 4:]
    return np.concatenate([np.rint(part / (np.abs(part).max() / 127)) for part in parts], axis=1)


def _split_at(channel: int) -> Callable[[Array], Array]:
    return lambda output: np.concatenate(
        [in_eight_bits(output[:, :channel]), in_eight_bits(output[:, channel:])], axis=1
    )


SCALE_MISTAKES: dict[str, Callable[[Array], Any]] = {
    "that is one scale for all: split along axis 1, where the scores begin at index 4": (
        in_eight_bits
    ),
    "those are the codes; times the scale they are values again": _codes_only,
    "the first FOUR rows are the box, the scores begin at index 4": _split_at(5),
    "a box has four values: x, y, width and height": _split_at(2),
    "the divisor is 127, the largest code": lambda output: np.concatenate(
        [in_eight_bits(output[:, :4], 128), in_eight_bits(output[:, 4:], 128)], axis=1
    ),
}


@cache
def scene_output() -> Array:
    """What the detector gives for the first scenes, in FP32 on the CPU: [5,14,320]."""
    detector = recorded("detector")
    images = detector.images("test")[: max(SCENES) + 1]
    return np.asarray(detector.activations(images, ["output0"])["output0"])


def draw_scales(answer: Any) -> Any:
    """The scenes with the boxes of FP32, of one scale for all, and of the reader's codes."""
    from ...model.detections import decode
    from ...show.pictures import boxes

    detector, exact = recorded("detector"), scene_output()
    ways = {"FP32": exact, "one scale": in_eight_bits(exact)}
    if answer is not None:
        ways["yours"] = np.asarray(answer(exact.copy()), np.float32)
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


def int8_share(nodes: Iterable[Any]) -> float:
    """The reference: the share of the matrix products, MatMul and Gemm, that INT8 computes."""
    products = [node for node in nodes if node.op in PRODUCTS]
    return float(np.mean([node.computed_in == "int8" for node in products]))


def random_nodes(rng: np.random.Generator) -> tuple[list[Node]]:
    """Thirty nodes of a transformer, in INT8, in FP32 or in no layer of their own."""
    ops = ["MatMul", "Gemm", "Add", "Softmax", "Erf", "Mul"]
    kinds = ["int8", "fp32", None]
    drawn = [Node(str(rng.choice(ops)), kinds[int(rng.integers(3))]) for _ in range(28)]
    return ([Node("MatMul", "int8"), Node("Gemm", "fp32"), *drawn],)


def _share_of(nodes: Iterable[Any], ops: tuple[str, ...] | None) -> float:
    chosen = [node for node in nodes if ops is None or node.op in ops]
    return float(np.mean([node.computed_in == "int8" for node in chosen]))


PRODUCT_MISTAKES: dict[str, Callable[[Any], Any]] = {
    "Gemm is a matrix product, too": lambda nodes: _share_of(nodes, ("MatMul",)),
    "of the matrix products, not of all nodes": lambda nodes: _share_of(nodes, None),
    "that was requested; computed_in says what runs": lambda nodes: float(
        np.mean([node.requested_dtype == "int8" for node in nodes if node.op in PRODUCTS])
    ),
    "that is how many; divide by the number of products": lambda nodes: sum(
        node.computed_in == "int8" for node in nodes if node.op in PRODUCTS
    ),
    "divide by the products, not by all nodes": lambda nodes: (
        sum(node.computed_in == "int8" for node in nodes if node.op in PRODUCTS) / len(nodes)
    ),
    "that is a percentage; return a share from 0 to 1": lambda nodes: 100 * int8_share(nodes),
}

ENGINES = (("vit", "int8-placeholder"), ("vit", "int8-entropy"), ("vit", "fp16"))


@cache
def real_nodes() -> dict[str, tuple[Any, ...]]:
    """Engines' names -> the nodes of their precision reports."""
    return {
        f"{model}, {way}": recorded(model).build(way).precision().nodes for model, way in ENGINES
    }


def product_cases() -> Iterator[Case]:
    """Made-up nodes, then those of three engines."""
    for case in random_cases(int8_share, random_nodes, 3)():
        yield Case(case.arguments, case.expected, "made-up nodes")
    for name, nodes in real_nodes().items():
        yield Case((list(nodes),), int8_share(nodes), name)


def draw_products(answer: Any) -> Any:
    """Each engine's share as the reader's function finds it."""
    from ...show import draw

    fig = draw.figure("How much of the matrix products is INT8?", showlegend=False, height=300)
    shares = {
        name: 0.0 if answer is None else float(answer(list(nodes)))
        for name, nodes in real_nodes().items()
    }
    texts = ["?" if answer is None else f"{share:.1%}" for share in shares.values()]
    draw.bars(fig, list(shares), list(shares.values()), texts=texts)
    fig.update_xaxes(range=[0, 1.15], tickformat=".0%")
    fig.update_yaxes(autorange="reversed", type="category")
    return draw.finish(fig, recorded("vit").provenance)


register_chapter(
    "10",
    draw={
        "10-clipping": draw_clipping,
        "10-scales": draw_scales,
        "10-products": draw_products,
    },
    judges={
        "10-clipping": partial(
            judge_function,
            cases=report_cases,
            common_mistakes=CLIP_MISTAKES,
            compare=_as_set,
            right="Right on made-up reports and on mobile, resnet and photo.",
        ),
        "10-scales": partial(
            judge_function,
            cases=random_cases(with_own_scales, random_output),
            common_mistakes=SCALE_MISTAKES,
        ),
        "10-products": partial(
            judge_function,
            cases=product_cases,
            common_mistakes=PRODUCT_MISTAKES,
            right="Right on made-up nodes and on three engines.",
        ),
    },
)
