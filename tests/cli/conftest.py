"""What all tests of the command line share: one command, run in this process."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from trtlearn.cli import main

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Run:
    """Run one command in this process: exit status, standard output, standard error."""

    def run(*arguments: object) -> tuple[int, str, str]:
        status = main.run([str(part) for part in arguments])
        out, err = capsys.readouterr()
        return status, out, err

    return run
