"""trtlearn live: what was built here, listed, made and removed."""

from __future__ import annotations

import dataclasses
from types import SimpleNamespace
from typing import Any

import pytest

from trtlearn.builds import Build
from trtlearn.cli import lab
from trtlearn.errors import BuildError
from trtlearn.networks import Network, network
from trtlearn.recorded.store import own_builds


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
    return asked


def test_all_is_built_once_listed_rebuilt_and_cleared(run: Any, builder: list[str]) -> None:
    status, out, err = run("live", "rebuild", "mobile")
    assert status == 2  # one engine failed, all others are there
    assert out.startswith("10 engines to build: about ")
    assert "mobile int8-legacy: the build failed at layer 'stem'" in err
    assert "1 of 10 engines failed" in err
    assert len(builder) == 10
    status, out, err = run("live", "--all")
    assert out.startswith("19 engines to build")  # resnet's: mobile's are here
    assert len(builder) == 29
    status, out, err = run("live", "--all")
    assert status == 0
    assert "all engines that the notebooks use are here" in out
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
