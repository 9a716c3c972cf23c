"""TensorRT's entropy search: the threshold that keeps a histogram's shape best in 128 levels."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..errors import DataError
from ..record import Record, later, plural

__all__ = [
    "LEVELS",
    "EntropySearch",
    "divergence",
    "entropy_search",
    "numbers",
    "reference_and_candidate",
]

LEVELS = 128
"""Levels of an INT8 magnitude: 0 to 127; also the first candidate threshold, in bins."""
SAME = 1e-12
"""Divergences this close are the same number, reached by additions in another order."""
ROWS = 128  # candidates worked on at a time: they stay in the processor's cache
FEW = 8
"""Up to so many candidates of one divergence, it is added up bin by bin to tell them apart."""


def numbers(values: NDArray[Any]) -> tuple[float, ...]:
    """An array's values as Python's own numbers."""
    return tuple(values.tolist())


@dataclass(frozen=True)
class EntropySearch(Record):
    """The search's outcome: ``kl[k]`` is the divergence when the first ``first + k`` bins are kept.

    ``chosen`` is the number of bins kept, so the threshold is ``amax = (chosen + 0.5) * width``.
    """

    chosen: int
    first: int
    kl: tuple[float, ...] = later(tuple, numbers)

    def summary(self) -> str:
        kl, tried = self.kl[self.chosen - self.first], plural(len(self.kl), "candidate")
        return f"keeps {self.chosen} bins, KL {kl:.6g}, of {tried}"

    def rows(self) -> list[dict[str, Any]]:
        return [
            {"bins kept": self.first + index, "KL": value} for index, value in enumerate(self.kl)
        ]


@lru_cache(maxsize=4)
def _edges(bins: int) -> NDArray[np.intp]:
    """Groups' first bins for i kept bins: ceil(g * i / 128), [candidates, 129]."""
    kept = np.arange(LEVELS, bins + 1)[:, None]
    return np.asarray(-(-np.arange(LEVELS + 1) * kept // LEVELS), dtype=np.intp)


def reference_and_candidate(
    counts: ArrayLike, kept: int, levels: int = LEVELS
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """P and Q for one threshold, bin by bin, as the rule says it: see :func:`entropy_search`.

    P is the first ``kept`` bins with all later counts added to the last of them; Q the first
    ``kept`` bins averaged in 128 groups (bin j in group ``floor(128 j / kept)``), the mean over a
    group's non-empty bins. Both [kept].

    >>> p, q = reference_and_candidate([4] * 100 + [2] * 156 + [1] * 44, 256)
    >>> p[255].item(), q[0].item(), q[255].item()
    (46.0, 4.0, 2.0)
    """
    h = np.asarray(counts, np.float64)
    p = h[:kept].copy()
    p[-1] += h[kept:].sum()
    group = levels * np.arange(kept) // kept
    sums = np.bincount(group, weights=h[:kept], minlength=levels)
    filled = np.bincount(group, weights=h[:kept] > 0, minlength=levels)
    q = np.where(h[:kept] > 0, (sums / np.maximum(filled, 1))[group], 0.0)
    return p, q


def divergence(p: ArrayLike, q: ArrayLike) -> float:
    """``KL(P||Q) = sum p log(p / q)`` of the two normalised; infinite where P > 0 and Q is 0.

    >>> divergence([1, 1], [1, 1]), round(divergence([3, 1], [1, 1]), 6), divergence([1, 1], [1, 0])
    (0.0, 0.130812, inf)
    """
    a, b = np.asarray(p, np.float64), np.asarray(q, np.float64)
    if not b.sum() > 0 or ((a > 0) & (b == 0)).any():
        return float("inf")
    a, b = a / a.sum(), b / b.sum()
    both = a > 0
    return float((a[both] * np.log(a[both] / b[both])).sum())


def _log_times(x: NDArray[np.float64]) -> NDArray[np.float64]:
    """x log x, 0 at 0."""
    logarithm: NDArray[np.float64] = np.log(np.where(x > 0, x, 1.0))
    return x * logarithm


def _curve(h: NDArray[np.float64]) -> NDArray[np.float64]:
    """KL for each number of kept bins from 128 to all, [candidates], by running sums."""
    total = h.sum()
    running = np.concatenate([[0.0], np.cumsum(h)])
    filled = np.concatenate([[0.0], np.cumsum(h > 0)])
    inside = running[LEVELS:]  # counts that Q holds
    last = h[LEVELS - 1 :]
    tail = total - inside
    # a last bin that is empty but for the tail has a P and no Q: the divergence is infinite
    finite = (filled[LEVELS:] > 1) & ((last != 0) | (tail <= 0))
    candidates = np.flatnonzero(finite)
    if not candidates.size:
        return np.full(len(last), np.inf)
    cross = np.zeros(len(last))
    for start in range(0, len(candidates), ROWS):
        rows = candidates[start : start + ROWS]
        edges = _edges(len(h))[rows]
        sums, counts = running.take(edges, mode="clip"), filled.take(edges, mode="clip")
        group, members = sums[:, 1:] - sums[:, :-1], counts[:, 1:] - counts[:, :-1]
        means = np.divide(group, np.maximum(members, 1, out=members), out=members)
        np.copyto(means, 1.0, where=group <= 0)
        np.log(means, out=means)
        last_mean = means[:, -1].copy()
        means *= group
        cross[rows] = means.sum(axis=1) + tail[rows] * last_mean
    # sum of p log p without and with the tail, which sits on the last kept bin
    x_log_x = np.concatenate([[0.0], np.cumsum(_log_times(h))])
    own = x_log_x[LEVELS:] - _log_times(last) + _log_times(last + tail)
    with np.errstate(divide="ignore", invalid="ignore"):
        kl = (own - cross) / total + np.log(inside) - np.log(total)
    return np.where(finite, kl, np.inf)


def entropy_search(counts: ArrayLike) -> EntropySearch:
    """The number of bins to keep so that INT8's 128 magnitudes distort the histogram least.

    ``counts`` [bins], bins over |x| without zeros. Bin 0 is first given bin 1's count. For every
    ``i`` from 128 to all bins: ``P`` and ``Q`` of :func:`reference_and_candidate`; the least
    ``KL(P||Q)`` wins, the last on a tie. Where only rounding tells a few apart, the
    :func:`divergence` added up bin by bin does, as TensorRT's own does. Passed over (KL infinite):
    an ``i`` whose last bin is empty while counts lie beyond it, and one that keeps a single
    non-empty bin, which any scale represents. Where nothing is left all bins are kept.

    Source: measured, data/recordings/*/calibration: TensorRT 8.6.0's caches for inputs made on
        purpose.
    """
    h = np.array(counts, dtype=np.float64)
    if h.ndim != 1 or len(h) < LEVELS or not h.sum() > 0 or (h < 0).any():
        problem = f"counts of shape {h.shape}, sum {h.sum():g}"
        raise DataError(problem, f"pass at least {LEVELS} counts, not all zero")
    h[0] = h[1]
    kl = _curve(h)
    alike = np.flatnonzero(kl <= kl.min() + SAME)
    if 1 < len(alike) <= FEW:
        exact = np.array(
            [divergence(*reference_and_candidate(h, LEVELS + int(one))) for one in alike]
        )
        alike = alike[exact == exact.min()]
    return EntropySearch(LEVELS + int(alike[-1]), LEVELS, kl)  # type: ignore[arg-type]  # see later()
