"""Caches taken apart and changed by hand: every byte has a meaning, and no outcome is made up."""

from __future__ import annotations

import base64

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from trtlearn import files
from trtlearn.calibration import edit
from trtlearn.calibration.cache import (
    entry,
    format_cache,
    new_cache,
    parse_cache,
    read_cache,
)
from trtlearn.calibration.cache_reading import ODDITIES, as_tensorrt_reads
from trtlearn.engine.records import Message, Provenance
from trtlearn.errors import CacheError
from trtlearn.recorded import caches
from trtlearn.recorded.caches import CacheCase, CacheCases, broken_files, odd_caches
from trtlearn.recorded.calibration import cache_path, origin

CACHES = sorted((files.data_dir() / "recordings").glob("*/*/*.cache"))
NAMES = st.text(st.characters(codec="utf-8", exclude_categories=["C", "Z"]), min_size=1).filter(
    str.strip
)


@pytest.mark.parametrize("path", CACHES, ids=lambda path: f"{path.parent.name}-{path.stem}")
def test_every_byte_of_the_file_comes_back(path) -> None:
    content = path.read_bytes()
    assert format_cache(read_cache(content)).encode() == content


@given(st.dictionaries(NAMES, st.floats(0, 2.0**100, width=32), max_size=5))
def test_a_file_with_windows_line_breaks_says_the_same(scales) -> None:
    content = format_cache(new_cache(scales)).encode()
    assert read_cache(content.replace(b"\n", b"\r\n")) == read_cache(content)


def test_what_is_no_cache_is_refused() -> None:
    with pytest.raises(CacheError):
        read_cache(b"hello\nworld\n")


def test_outcomes_are_known_or_none() -> None:
    one = new_cache({"x": 0.5})
    made = {"whole": ("as it was", one), "never_measured": ("nobody knows", b"junk")}
    cases = caches.cache_cases(made)
    assert cases["whole"].batches_asked == 0
    assert cases["whole"].content == format_cache(one).encode()
    assert cases["whole"].problem is None
    assert origin("odd-caches").label() == cases["whole"].source
    unknown = cases["never_measured"]
    assert (unknown.batches_asked, cases.outcome("never_measured"), unknown.messages) == (
        None,
        None,
        (),
    )
    assert unknown.problem
    assert "unknown" in str(cases)
    assert "known for 1" in cases.summary()


def test_an_outcome_is_what_was_recorded(monkeypatch) -> None:
    warning = Message("warning", "Missing scale", "missing-scale", names=("x",), count=3)
    rows = (
        CacheCase("whole", "none", 0, True, (), {"x": 0.5, "y": 1.0}),
        CacheCase("anew", "header", 64, True, (), {"x": 0.25}),
        CacheCase("read_wrongly", "digits", 0, None, (warning,), {"x": 0.0, "y": 2.0}),
    )
    monkeypatch.setattr(caches, "odd_caches", lambda: CacheCases(rows))
    monkeypatch.setattr(caches, "origin", lambda part: Provenance(gpu="a GPU", tensorrt="8.6.0"))
    cases = caches.cache_cases({row.name: ("changed", new_cache({"x": 0.5})) for row in rows})
    assert cases["anew"].batches_asked == 64
    assert "a GPU" in cases["anew"].source
    assert [cases.outcome(row.name) for row in rows] == [
        "used",
        "ignored: calibrated again",
        "used: x has scale 0, not 0.5, 1 more differ too",
    ]
    assert cases["read_wrongly"].warned == "3 x missing-scale"


BROKEN = broken_files(cache_path("residual", "entropy2").read_text())
SET_ASIDE = {
    "version_101600",
    "bom",
    "binary",
    "empty",
    "header_only",
    "header_missing",
    "header_bogus",
} | {f"header_{kind}" for kind in ("minmax", "entropy", "legacy")}
SILENT = {
    "bad_hex",
    "decimal_scale",
    "negative_scale",
    "no_space",
    "truncated_line",
} | {
    "duplicate_line",
    "duplicate_line_first",
}
"""Caches that TensorRT took without a word and read otherwise than anybody meant: our reader
refuses each.
"""
MARKED = {"nan_scale": "NaN", "inf_scale": "infinite"}
"""Caches with a line of no use, as TensorRT itself writes them: our reader marks the line."""


def test_every_broken_cache_is_recorded() -> None:
    names = {case.name for case in odd_caches().caches if not case.name.startswith("random_")}
    legacy = {"legacy_same", "legacy_other_quantile", "legacy_other_cutoff"}
    assert names == {*BROKEN, "other_models_cache", *legacy}
    assert {name for name in BROKEN if not odd_caches()[name].used} == SET_ASIDE
    assert {name for name in legacy if odd_caches()[name].used} == {"legacy_same"}


@pytest.mark.parametrize("name", sorted(BROKEN))
def test_what_our_reader_takes_tensorrt_read_alike(name) -> None:
    """Where TensorRT used the file, we read the scales that its log printed, or refuse the file;
    a line with an infinite or NaN scale is read and marked.
    """
    recorded = odd_caches()[name]
    if name in ("inf_scale", "nan_scale"):
        (problem,) = read_cache(BROKEN[name]).unusable.values()
        assert problem == ("NaN" if name == "nan_scale" else "infinite")
        return
    if name in SILENT or (
        not recorded.used and name in ("bom", "binary", "empty", "header_missing", "header_bogus")
    ):
        with pytest.raises(CacheError):
            read_cache(BROKEN[name])
        return
    if name == "truncated_half":
        with pytest.raises(CacheError, match="no colon"):
            read_cache(BROKEN[name])
        assert [m.code for m in recorded.messages] == ["cache-bad-line", "missing-scale"]
        return
    if name in MARKED:
        assert set(read_cache(BROKEN[name]).unusable.values()) == {MARKED[name]}
        return
    read = {entry.name: entry.scale for entry in read_cache(BROKEN[name]).scales}
    if recorded.used:
        assert recorded.scales == pytest.approx({n: read[n] for n in recorded.scales}, rel=1e-5)


ALL = parse_cache(BROKEN["whole"].decode()).names
FILES = BROKEN | {"other_models_cache": cache_path("mobile", "entropy2").read_bytes()}


@pytest.mark.parametrize("name", sorted(FILES))
def test_line_by_line_we_read_what_tensorrt_read(name) -> None:
    """Used or ignored, every scale, every tensor without one, every line that it could not read."""
    recorded, reading = odd_caches()[name], as_tensorrt_reads(FILES[name])
    assert (reading.ignored is None) == recorded.used
    if not recorded.used:
        assert reading.scales == {}
        return
    read = {tensor: reading.scales[tensor] for tensor in recorded.scales}
    assert read == pytest.approx(recorded.scales, rel=1e-5, nan_ok=True)
    count = dict.fromkeys(("cache-bad-line", "missing-scale"), 0)
    for message in recorded.messages:
        count[message.code or ""] += message.count
    assert count["missing-scale"] == len(set(ALL) - set(reading.scales))
    assert count["cache-bad-line"] == sum("no colon" in line.oddities for line in reading.lines)


def test_every_oddity_has_its_recorded_case() -> None:
    cases = {word: odd.case for word, odd in ODDITIES.items() if odd.case}
    for word, case in cases.items():
        reading = as_tensorrt_reads(BROKEN[case])
        stray = set(reading.scales) - set(ALL)
        assert stray if word == "other name" else any(word in line.oddities for line in reading.odd)
    assert set(ODDITIES) - set(cases) == {"too long"}


def test_a_scale_of_nine_digits_is_not_guessed() -> None:
    reading = as_tensorrt_reads(b"TRT-8600-EntropyCalibration2\nx: 3f0000000\n")
    assert reading.scales == {"x": None}
    assert reading.odd[0].oddities == ("too long",)


def test_the_notebooks_changes_are_the_recorded_ones() -> None:
    text = BROKEN["whole"]
    good = read_cache(text)
    tensor = good.names[len(good.names) // 2]
    assert tensor == "b1_add"
    changed = {
        "version_7600": edit.with_header(good, tensorrt="7.6.0"),
        "version_101600": edit.with_header(good, tensorrt="10.16.0"),
        "header_minmax": edit.with_header(good, "minmax"),
        "line_deleted": edit.drop(good, [tensor]),
        "renamed": edit.rename(good, {tensor: f"{tensor}_old"}),
    }
    for name, made in changed.items():
        assert format_cache(made).encode() == BROKEN[name], name
    assert text.replace(b": ", b":") == BROKEN["no_space"]
    assert text[:-5] == BROKEN["truncated_line"]


def test_tensorrt_took_every_cache_that_we_wrote() -> None:
    """The 14 caches of recording/calibration/run.py, stage "property", made again: names and scales
    came back.
    """
    from recording.calibration import run as calib_experiments

    class Jobs:
        def run(self, jobs):
            self.jobs = jobs

    pool = Jobs()
    calib_experiments.stage_property(None, pool)  # type: ignore[arg-type]
    assert len(pool.jobs) == 14
    for job in pool.jobs:
        recorded = odd_caches()[f"random_{job['name'].removeprefix('strange_')}"]
        written = read_cache(base64.b64decode(job["given_cache"]))
        assert (recorded.used, recorded.messages) == (True, ())
        assert {entry.name: entry.scale for entry in written.scales} == pytest.approx(
            recorded.scales, rel=1e-5
        )
        reading = as_tensorrt_reads(base64.b64decode(job["given_cache"]))
        assert (dict(written), ()) == (reading.scales, reading.odd)


def test_a_live_case_is_told_like_a_recorded_one(fake) -> None:
    images = np.zeros((2, 1, 2, 2), np.float32)
    case = CacheCase("whole", "none", content=format_cache(new_cache({"image": 0.5})).encode())
    tried = caches.try_cache(case, b"onnx", images, batch=1)
    assert tried.batches_asked is not None
    assert tried.source.startswith("here, TensorRT")


def test_entry_of_zero_is_one_digit() -> None:
    content = format_cache(new_cache([entry("x", 0.0)])).encode()
    assert content.endswith(b"\nx: 0\n")
