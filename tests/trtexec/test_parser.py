"""Our reading of a trtexec command line against NVIDIA's own parser, compiled from the source of
every tag: ``tl.recorded.trtexec_parser()``.
"""

from __future__ import annotations

from trtlearn.files import load_table
from trtlearn.recorded.logs import trtexec_parser
from trtlearn.trtexec.command import int8_count, parse_trtexec
from trtlearn.trtexec.explanation import explain

LINES = trtexec_parser().lines


def test_recording_covers_every_tag() -> None:
    assert set(trtexec_parser().tags) == set(load_table("trtexec")["tags"])
    assert {line.outcome for line in LINES} == {"taken", "refused", "help"}
    assert len(LINES) > 3000


def test_the_same_command_lines_are_taken_and_refused() -> None:
    wrong = []
    for line in LINES:
        ours = parse_trtexec(line.command, line.tag)
        if ours.outcome != line.outcome:
            wrong.append((line, ours.outcome, ours.error))
    assert wrong == []


def test_the_same_int8_calibration_and_formats() -> None:
    for line in LINES:
        if line.outcome == "taken" and not line.tag.startswith("v11"):
            answer = explain(line.command, trt=line.tag)
            count = sum(
                int8_count(answer.options.get(f"--{way}IOFormats", ""))
                for way in ("input", "output")
            )
            assert (answer.cache or "", count) == (line.cache, line.int8_formats), line
            if "--loadEngine=e" not in line.arguments and answer.mode != "rejected":
                assert answer.int8 == line.int8, line
