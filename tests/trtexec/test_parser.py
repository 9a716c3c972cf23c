"""Our reading of a trtexec command line against NVIDIA's own parser, compiled from the source of
every tag.

tests/data/trtexec_parser.json.gz was recorded from NVIDIA's own parser: for each release tag,
random command lines and what its sampleOptions.cpp made of them (on a GPU of compute capability
9.0).
"""

from __future__ import annotations

import gzip
import json
import shlex
from pathlib import Path

from trtlearn.trtexec.command import int8_count, parse_trtexec
from trtlearn.trtexec.explanation import explain
from trtlearn.trtexec.sources import load_table

ROWS = json.loads(
    gzip.decompress((Path(__file__).parent.parent / "data" / "trtexec_parser.json.gz").read_bytes())
)


def test_recording_covers_every_tag() -> None:
    assert {row[0] for row in ROWS} == set(load_table("trtexec")["tags"])
    assert {row[2] for row in ROWS} == {"taken", "refused", "help"}
    assert len(ROWS) > 2000


def test_the_same_command_lines_are_taken_and_refused() -> None:
    wrong = []
    for tag, words, outcome, *_ in ROWS:
        parsed = parse_trtexec(f"trtexec {shlex.join(words)}", tag)
        ours = (
            "help"
            if parsed.helps
            else "refused"
            if parsed.error or parsed.names_no_model
            else "taken"
        )
        if ours != outcome:
            wrong.append((tag, words, outcome, ours, parsed.error))
    assert wrong == []


def test_the_same_int8_calibration_and_formats() -> None:
    for tag, words, outcome, int8, io, calibration in ROWS:
        if outcome == "taken" and not tag.startswith("v11"):
            answer = explain(f"trtexec {shlex.join(words)}", trt=tag)
            count = sum(
                int8_count(answer.options.get(f"--{way}IOFormats", ""))
                for way in ("input", "output")
            )
            assert (answer.cache or "", count) == (calibration, io), words
            if "--loadEngine=e" not in words and answer.mode != "rejected":
                assert answer.int8 == bool(int8), (tag, words)
