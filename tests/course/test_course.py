"""What notebooks rest on: claims that fail aloud, a setup that says live or recorded, arrays by
name.
"""

import types

import numpy as np
import pytest

from trtlearn.course import notebook
from trtlearn.errors import TrtlearnError


def test_a_claim_that_holds_is_printed_with_its_tag(capsys):
    notebook.claim(np.bool_(True), "2 is even", "documented", "arithmetic")
    assert capsys.readouterr().out == "✔ 2 is even [documented: arithmetic]\n"


@pytest.mark.parametrize("holds", [False, 0, None, np.bool_(False)])
def test_a_claim_that_does_not_hold_raises(holds):
    with pytest.raises(notebook.ClaimError, match="2 is odd"):
        notebook.claim(holds, "2 is odd")


def test_a_claim_needs_one_of_the_three_tags():
    with pytest.raises(TrtlearnError, match="documented, measured, inferred"):
        notebook.claim(True, "2 is even", "surely")


@pytest.mark.parametrize(("recorded", "state"), [(True, "recorded"), (False, "live")])
def test_setup_says_where_results_come_from(recorded, state):
    said = notebook.setup(types.SimpleNamespace(recorded=recorded, label="on a made-up GPU"))
    assert said.state == state
    assert "on a made-up GPU" in str(said)
    assert "numpy" in said._repr_html_()
    assert not recorded or said.why


def test_a_live_build_may_differ_and_the_notebook_goes_on(capsys, monkeypatch):
    with monkeypatch.context() as machine:
        machine.setattr(notebook, "why_recorded", lambda: "")  # TensorRT and a GPU are here
        notebook.claim(False, "INT8 is faster")
        printed = capsys.readouterr().out
        assert "✘ does not hold on this machine: INT8 is faster" in printed
        assert "recorded" in printed
        with pytest.raises(notebook.ClaimError):  # what a source says depends on no machine
            notebook.claim(False, "the default is 8", "documented", "v8.6.1")
    with pytest.raises(notebook.ClaimError):
        notebook.claim(False, "INT8 is faster")


def test_notebooks_are_numbered_in_order():
    assert list(notebook.NOTEBOOKS) == [f"{index:02d}" for index in range(len(notebook.NOTEBOOKS))]
    assert all(name.startswith(f"{number}_") for number, (name, _) in notebook.NOTEBOOKS.items())
