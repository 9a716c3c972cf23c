"""Exercises of notebook 11, "How do we know?"."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from functools import partial
from typing import Any

import numpy as np

from ...errors import DataError
from ...record import plural
from ...recorded.calibration import CAUSES, agreement, origin
from ...show.calibration import agreement as picture
from ...show.draw import Style, points
from ..verdict import Look, cut, judge_function, kind_of, random_cases

Scales = Mapping[str, float]


def pair_of(answer: Any) -> tuple[str, str]:
    """The reader's tensor and cause; DataError says what is neither."""
    words = answer.split(",", 1) if isinstance(answer, str) else answer
    if isinstance(words, (str, bytes)) or not isinstance(words, Iterable):
        raise DataError(f"Expected two words, got {kind_of(answer)}", ADVICE)
    both = [str(word).strip() for word in words]
    if len(both) != 2:
        raise DataError(f"Expected two words, got {plural(len(both), 'word')}", ADVICE)
    return both[0], both[1]


def look_odd(answer: Any) -> Look:
    """Whether this is the tensor with the largest difference of all, and its cause."""
    tensor, cause = pair_of(answer)
    by_gap = sorted(agreement().others, key=lambda one: one.relative_difference or 0.0)
    gap = {one.tensor: 100 * (one.relative_difference or 0.0) for one in by_gap}
    worst = by_gap[-1]
    conditions = {
        "equal": tensor not in gap,
        "less": tensor != worst.tensor,
        cause if cause in ("near tie", "last bits") else "cause": cause != worst.cause,
        "passed": True,
    }
    facts = {"tensor": cut(tensor), "percent": gap.get(tensor), "causes": ", ".join(CAUSES)}
    return conditions, facts | {"explanation": worst.explanation}


def draw_odd(answer: Any) -> Any:
    """The picture of all scales, with a ring around the reader's tensor."""
    fig = picture(agreement(), source=origin())
    if answer is not None:
        tensor = pair_of(answer)[0]
        for trace in fig.data[1:]:
            places = [
                at for at, text in enumerate(trace.hovertext) if text.startswith(f"{tensor}<")
            ]
            x, y = ([values[at] for at in places] for values in (trace.x, trace.y))
            place: Style = {"panel": (1, 2), "showlegend": False}
            points(fig, x, y, "your tensor", symbol="circle-open", size=22, **place)
    return fig


ADVICE = 'give the tensor and its cause, such as ("conv1", "near tie")'


def unlike(
    ours: Scales,
    theirs: Scales,
    *,
    tolerance: float = 1e-6,
    order: Callable[[float, float], float] = lambda share, gap: -share,
) -> list[str]:
    """The reference: names in both whose scales differ by more than 1e-6 of theirs, worst first."""
    gap = {name: abs(ours[name] - theirs[name]) for name in ours if name in theirs}
    share = {name: gap[name] / theirs[name] for name in gap}
    names = [name for name in share if share[name] > tolerance]
    return sorted(names, key=lambda name: order(share[name], gap[name]))


def two_caches(rng: np.random.Generator) -> tuple[dict[str, float], dict[str, float]]:
    """Two caches of ten tensors: some scales equal, some nearly so, some not, some in one only."""
    names = [f"conv{index}" for index in range(10)]
    theirs = dict(zip(names, (10.0 ** rng.uniform(-3, 2, 10)).tolist(), strict=True))
    gaps = np.zeros(10)
    gaps[2:4] = rng.uniform(1e-7, 8e-7, 2)
    gaps[4:] = 10.0 ** rng.uniform(-5.5, -1, 6)
    order = rng.permutation(10)
    ours = {names[at]: theirs[names[at]] * (1 + gaps[at]) for at in order}
    ours["ours_only"] = 1.0
    del theirs[names[int(order[0])]]
    theirs["theirs_only"] = 1.0
    return ours, theirs


judge_rows = partial(judge_function, cases=random_cases(unlike, two_caches))

mistakes_rows = {
    "least first": partial(unlike, order=lambda share, gap: share),
    "not divided": partial(unlike, order=lambda share, gap: -gap),
    "last bits": partial(unlike, tolerance=0.0),
}
