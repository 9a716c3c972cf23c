"""Caches taken apart and changed by hand: every byte has a meaning, and no outcome is made up."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trtlearn import cache, cache_cases, paths
from trtlearn.anatomy import anatomy
from trtlearn.cachefile import entry, format_cache, new_cache
from trtlearn.errors import CacheError

CACHES = sorted((paths.data_dir() / "recordings").glob("*/*/*.cache"))
NAMES = st.text(st.characters(codec="utf-8", exclude_categories=["C", "Z"]), min_size=1).filter(str.strip)


@pytest.mark.parametrize("path", CACHES, ids=lambda path: f"{path.parent.name}-{path.stem}")
def test_pieces_are_the_file(path) -> None:
    content = path.read_bytes()
    taken = anatomy(content)
    assert b"".join(piece.content for piece in taken.pieces) == content
    assert all(content[p.offset : p.offset + len(p.content)] == p.content for p in taken.pieces)
    assert sum(piece.meaning == "tensor's name" for piece in taken.pieces) == len(cache.read_cache(content).scales)


@given(st.dictionaries(NAMES, st.floats(0, 2.0**100, width=32), max_size=5))
def test_pieces_of_any_cache(scales) -> None:
    content = format_cache(new_cache(scales)).encode()
    for ending in (content, content.replace(b"\n", b"\r\n")):
        assert b"".join(piece.content for piece in anatomy(ending).pieces) == ending


def test_what_is_no_cache_is_refused() -> None:
    with pytest.raises(CacheError):
        anatomy(b"hello\nworld\n")


def test_outcomes_are_known_or_none() -> None:
    one = new_cache({"x": 0.5})
    made = {"whole": ("as it was", one), "never_measured": ("nobody knows", b"junk")}
    cases = cache_cases.cache_cases(made)
    assert cases["whole"].batches_asked == 0
    assert cases["whole"].content == format_cache(one).encode()
    unknown = cases["never_measured"]
    assert (unknown.batches_asked, unknown.outcome, unknown.messages) == (None, None, ())
    assert "unknown" in str(cases)
    assert all(case.source for case in cases.cases)


def test_a_recording_comes_before_what_was_measured_earlier(monkeypatch) -> None:
    from trtlearn.calibration_records import OddCache, OddCaches
    from trtlearn.records import Message, Provenance

    warning = Message("warning", "Missing scale", "missing-scale", names=("x",), count=3)
    recorded = OddCaches((OddCache("whole", "none", 64, True, (warning,), {}),))
    monkeypatch.setattr(cache_cases, "odd_caches", lambda: recorded)
    monkeypatch.setattr(cache_cases, "origin", lambda part: Provenance(gpu="a GPU", tensorrt="8.6.0"))
    case = cache_cases.cache_cases({"whole": ("as it was", new_cache({"x": 0.5}))})["whole"]
    assert case.batches_asked == 64
    assert "a GPU" in case.source
    assert "3 warning(s)" in (case.outcome or "")


def test_entry_of_zero_is_one_digit() -> None:
    content = format_cache(new_cache([entry("x", 0.0)])).encode()
    assert anatomy(content).pieces[-2].content == b"0"
