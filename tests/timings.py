"""When one engine counts as slower than another."""

from __future__ import annotations

from trtlearn.builds import Build


def slower(one: Build, other: Build) -> bool:
    """Whether ``one`` is slower by more than both spreads: its 5th percentile above the 95th.

    By graph replay, by which small engines compare; False where either was not timed so.
    """
    first, second = one.graph_timing, other.graph_timing
    return first is not None and second is not None and first.p05_ms > second.p95_ms
