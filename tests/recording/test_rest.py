"""python -m recording.rest, over the fake TensorRT: every step saved, and made once."""

from __future__ import annotations

import dataclasses
import gzip
import json
import runpy
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from made_up import MadeUp

from recording import rest, trtexec
from recording.rest import STEPS, ClockedTimings, Place, main
from trtlearn.errors import TrtlearnError
from trtlearn.model.course_data import load_images, model_path
from trtlearn.recorded.files import load_build
from trtlearn.recorded.logs import TrtexecLog

TRTEXEC = """#!/bin/sh
for word in "$@"; do
    case "$word" in
    --exportLayerInfo=*) echo '{"Layers": [], "Bindings": []}' >"${word#*=}" ;;
    --calib=*) head -n 1 "${word#*=}" ;;
    esac
done
echo "[V] After concat removal: 12 layers"
"""


@pytest.fixture
def machine(
    fake: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> tuple[list[str], list[str]]:
    """The command's words, and the modules that it started; all in this process."""
    MadeUp(fake, monkeypatch).be("as recorded")
    started: list[str] = []

    def module(*words: str | Path, env: Any = None) -> None:
        name, *rest_of = map(str, words)
        started.append(name)
        if name in ("recording.tradeoff", "recording.layers"):
            child = ["--begun", str(tmp_path / "begun")] if name.endswith("layers") else []
            monkeypatch.setattr(sys, "argv", [name, *rest_of, *child])
            if name.endswith("tradeoff"):
                sys.argv += ["--runs=20", f"--scratch={tmp_path / 'scratch'}"]
            with pytest.raises(SystemExit) as ended:
                runpy.run_module(name, run_name="__main__")
            assert not ended.value.code
        elif name == "recording.calibration.pack":
            out = Path(rest_of[rest_of.index("--out") + 1])
            (out / "caches").mkdir(parents=True)
            (out / "caches" / "ocr-entropy2.cache").write_text("TRT", encoding="utf-8")

    def one(place: Place, name: str, arguments: Any) -> str:
        try:
            STEPS[name][0](place)
        except (TrtlearnError, OSError) as problem:
            return str(problem)
        left = rest.missing(place, name)
        return f"lacks {left}" if left else "recorded"

    program = tmp_path / "trtexec"
    program.write_text(TRTEXEC, encoding="utf-8")
    program.chmod(0o755)
    monkeypatch.setattr(rest, "run_module", module)
    monkeypatch.setattr(rest, "_one", one)
    monkeypatch.setattr(rest, "CLOCK", ["echo", "1755, 1980, 41"])
    monkeypatch.setattr(rest, "RUNS", 20)
    return [f"--out={tmp_path / 'set'}", f"--trtexec={program}"], started


def test_every_step_but_the_own_model_is_recorded_once(
    machine: tuple[list[str], list[str]], tmp_path: Path
) -> None:
    words, started = machine
    only = ["--only", ",".join(name for name in STEPS if name != "own-model")]
    assert main([*words, *only]) == 0
    out = tmp_path / "set" / "rest"
    for name in ("tensorrt", "no-shortcut", "conv-outputs", "everywhere"):
        path = out / "tradeoff" / "placements" / "mobile" / f"qdq-{name}.json.gz"
        assert load_build(path).options.ranges == "qdq"
    for name in ("cached", "cached-fp16"):
        study = load_build(out / "studies" / f"resnet-{name}.json")
        assert study.ranges is not None
        assert study.options.fp16 == name.endswith("fp16")
    clocks = ClockedTimings.from_json((out / "clocks.json").read_text(encoding="utf-8"))
    assert len(clocks.timings) == 8
    assert {one.median_mhz for one in clocks.timings} == {1755.0}
    begun = dataclasses.replace(clocks, timings=clocks.timings[:7])
    (out / "clocks.json").unlink()
    (out / "clocks.json.part").write_text(begun.to_json(1), encoding="utf-8")
    assert main([*words, "--only", "clocks"]) == 0  # it goes on where it was
    again = ClockedTimings.from_json((out / "clocks.json").read_text(encoding="utf-8"))
    assert (len(again.timings), again.timings[:7]) == (8, begun.timings)
    text = (out / "trtexec" / "mobile-int8-minmax-cache-new-header.json").read_text(
        encoding="utf-8"
    )
    log = TrtexecLog.from_json(text)
    assert log.optimizer.layers == 12
    assert (log.status, log.errors) == (0, ())
    assert "--calib=mobile.cache" in log.command
    said = json.loads((tmp_path / "set" / "rest.json").read_text(encoding="utf-8"))
    assert {one["came"] for one in said.values()} == {"recorded"}
    assert said["clocks"]["provenance"]["gpu"] == "NVIDIA as recorded"
    begun = list(started)
    assert main([*words, *only]) == 0
    assert started == begun  # nothing is made twice


def test_trtexec_that_dies_of_a_cache_is_recorded_with_its_errors(
    machine: tuple[list[str], list[str]], tmp_path: Path
) -> None:
    program = tmp_path / "trtexec"
    program.write_text(
        '#!/bin/sh\necho "[E] 1: illegal memory access" >&2\nkill -ABRT $$\n', "utf-8"
    )
    assert main([*machine[0], "--only", "trtexec"]) == 0
    path = tmp_path / "set" / "rest" / "trtexec" / "resnet-int8-minmax-cache.json"
    log = TrtexecLog.from_json(path.read_text(encoding="utf-8"))
    assert (log.status, log.errors) == (-6, ("[E] 1: illegal memory access",))
    assert "status -6" in log.summary()
    options = SimpleNamespace(trtexec=str(program), tactic_sources="none")
    with pytest.raises(TrtlearnError, match=r"status -6: .*illegal memory access"):
        trtexec.record("resnet", options, tmp_path)  # type: ignore[arg-type]


@pytest.mark.parametrize("file", ["rest.json", "rest/clocks.json.part"])
def test_a_damaged_file_is_named_in_one_line(
    machine: tuple[list[str], list[str]], tmp_path: Path, capsys: Any, file: str
) -> None:
    path = tmp_path / "set" / file
    path.parent.mkdir(parents=True)
    path.write_text('{"clocks":', encoding="utf-8")
    assert main([*machine[0], "--step", "clocks"][: None if "/" in file else -2]) == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert "is not JSON" in said
    assert path.read_text("utf-8") == '{"clocks":'


def test_a_part_that_the_set_has_is_completed_in_place(tmp_path: Path) -> None:
    (tmp_path / "studies").mkdir()
    place = Place(tmp_path, SimpleNamespace(tactic_sources="none"))  # type: ignore[arg-type]
    assert place.part("studies") == tmp_path / "studies"
    assert place.part("tradeoff") == tmp_path / "rest" / "tradeoff"


def test_the_script_of_notebook_09_runs_on_a_foreign_network(
    machine: tuple[list[str], list[str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    words, _ = machine
    network = (model_path("resnet").read_bytes(), {"image": load_images("calibration")[0][:16]}, 8)
    monkeypatch.setattr("recording.zoo.networks.build", lambda name: network)

    def run(line: list[str], **more: Any) -> subprocess.CompletedProcess[str]:
        runpy.run_path(line[1], run_name="__main__")
        return subprocess.CompletedProcess(line, 0, "±\n", "")

    monkeypatch.setattr(rest, "subprocess", SimpleNamespace(run=run))
    assert main([*words, "--only", "own-model"]) == 0
    out = tmp_path / "set" / "rest" / "own-model"
    assert b"int8-qdq" in gzip.decompress((out / "ocr.html.gz").read_bytes())
    assert (out / "output.txt").read_text(encoding="utf-8") == "±\n"


def test_a_step_that_fails_is_said_and_the_next_one_runs(
    machine: tuple[list[str], list[str]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words, _ = machine
    assert main([words[0], "--trtexec=/no/such/program", "--only", "trtexec,ocr"]) == 1
    said = capsys.readouterr().out
    assert "-- trtexec: " in said
    assert "-- ocr: recorded" in said
