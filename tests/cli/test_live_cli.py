"""trtlearn live: what was built here, listed, made and removed."""

from __future__ import annotations

import dataclasses
import sys
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from tools import notebooks
from trtlearn.builds import Build, failed_build
from trtlearn.cli import lab
from trtlearn.course.notebook import NOTEBOOKS
from trtlearn.course.own_model.records import EngineResult
from trtlearn.engine.records import BuildOptions, Provenance
from trtlearn.errors import BuildError
from trtlearn.files import notebooks_dir
from trtlearn.networks import Network, network
from trtlearn.recorded.store import own_builds

walks: list[Any] = []
OWN: list[EngineResult] = []  # what try_int8 builds of the reader's own model


@pytest.fixture
def builder(fake: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Network._make played: the recorded build as if it was measured here; what was asked for."""
    asked: list[str] = []

    def make(self: Network, wanted: Any, progress: Any, stage: Any) -> tuple[Build, bytes]:
        asked.append(f"{self.name} {wanted.variant}")
        stage("building")
        if wanted.variant == "int8-legacy":
            error = BuildError("the build failed at layer 'stem'", "another level")
            error.log = "[E] 2: Assertion engine failed"
            raise error
        recorded = network(self.name, mode="recorded").build(wanted.variant)
        return dataclasses.replace(recorded, provenance=wanted.origin), b"ftrt"

    monkeypatch.setattr(Network, "_make", make)

    def walk(*arguments: Any, **named: Any) -> Any:
        walks.append((arguments, named))
        return SimpleNamespace(live=OWN)

    walks.clear()
    monkeypatch.setattr("trtlearn.course.own_model.walk.try_int8", walk)
    return asked


def test_all_is_built_once_listed_rebuilt_and_cleared(run: Any, builder: list[str]) -> None:
    status, out, err = run("live", "rebuild", "mobile")
    assert status == 2  # one engine failed, all others are there
    assert out.startswith("10 engines to build: about ")
    assert walks == []
    assert "mobile int8-legacy: the build failed at layer 'stem'" in err
    assert "1 of 10 engines failed" in err
    assert len(builder) == 10
    status, out, err = run("live", "--all")
    assert out.startswith("19 engines to build")  # resnet's: mobile's are here
    assert len(builder) == 29
    status, out, err = run("live", "--all")
    assert status == 0
    assert "all engines that the notebooks use are here" in out
    assert "09, your own model: four engines, unless they are here … 0 s" in out
    status, out, err = run("live")
    assert status == 0
    assert "29 builds measured here" in out
    assert "NVIDIA Fake, TensorRT 8.6" in out
    assert run("live", "--json")[0] == 0
    assert network("mobile", mode="live").build("fp32").label.startswith("measured here on")
    with pytest.raises(BuildError, match=r"tried here on .*log: /.*mobile--int8-legacy.*\.log\)"):
        network("mobile", mode="live").build("int8-legacy")
    assert len(builder) == 29  # nothing was built again
    status, out, err = run("live", "clear")
    assert "removed 29 builds" in out
    assert own_builds().builds == ()


def test_all_builds_what_notebook_09_asks_for_too(
    run: Any, builder: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    error = BuildError("2: Assertion engine failed")
    broken = failed_build("mobile", "int8-qdq", Provenance(), BuildOptions(), error)
    monkeypatch.setattr(sys.modules[__name__], "OWN", [EngineResult(broken)])
    status, _, err = run("live", "--all")
    assert status == 2
    assert "09: int8-qdq: 2: Assertion engine failed" in err
    ((given, named),) = walks
    book = notebooks.read(notebooks_dir() / NOTEBOOKS["09"][0])
    cells = {cell.id: cell.source for cell in book.cells}
    asked: list[Any] = []

    def ask(*given: Any, **named: Any) -> Any:
        asked.append((given, named))
        return SimpleNamespace(verdict="")

    space = {"tl": SimpleNamespace(network=network, try_int8=ask)}
    exec(f"{cells['run-files']}\n{cells['run-walk']}", space)
    ((their_given, their_named),) = asked
    np.testing.assert_equal(given, their_given)
    assert (named.pop("live"), their_named.pop("out")) == (True, "calib-results/mobile")
    np.testing.assert_equal(named, their_named)


@pytest.mark.parametrize(("answer", "built"), [("y", 29), ("", 0), (None, 0)])
def test_lab_offers_to_build_and_says_how_long(
    builder: list[str],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    answer: str | None,
    built: int,
) -> None:
    monkeypatch.setattr("sys.stdin", SimpleNamespace(isatty=lambda: answer is not None))
    monkeypatch.setattr("builtins.input", lambda question: print(question) or answer)
    lab.offer_builds()
    said = capsys.readouterr().out
    assert "29 engines that this GPU has not built yet: about " in said
    assert "minutes" in said
    assert ("before JupyterLab opens? [y/N]" in said) == (answer is not None)
    assert len(builder) == built
    lab.offer_builds()
    assert bool(capsys.readouterr().out) == (not built)


def test_lab_offers_nothing_where_nothing_can_be_built(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("TRTLEARN_TENSORRT", "no_such_tensorrt")
    lab.offer_builds()
    assert capsys.readouterr().out == ""


def test_without_a_gpu(run: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRTLEARN_TENSORRT", "no_such_tensorrt")
    status, _, err = run("live", "--all")
    assert status == 2
    assert "no_such_tensorrt is not installed" in err
    assert err.count("\n") == 1
