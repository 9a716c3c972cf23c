"""`make record`: every part is made by scripts that exist and know the options they are given."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from recording import __main__

FOLDER = Path(__main__.__file__).parent
MAKE = [sys.executable, "-m", "recording"]


def test_every_script_knows_its_options(tmp_path: Path) -> None:
    for part, lines in __main__.commands(
        tmp_path, tmp_path, "none", "trtexec", resume=True
    ).items():
        assert part in __main__.PARTS
        for script, *words in lines:
            text = (
                FOLDER.joinpath(*script.split(".")).with_suffix(".py").read_text(encoding="utf-8")
            )
            for word in words:
                if word.startswith("--"):
                    assert f'"{word.split("=")[0]}"' in text, f"{script} does not know {word}"


def test_without_a_gpu_it_says_what_is_missing() -> None:
    done = subprocess.run(
        MAKE,
        cwd=FOLDER.parent,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert "Try:" in done.stderr


def test_an_unknown_part_is_refused() -> None:
    command = [*MAKE, "--only", "nothing"]
    done = subprocess.run(
        command, cwd=FOLDER.parent, capture_output=True, text=True, check=False, timeout=60
    )
    assert done.returncode == 2
    assert "no part 'nothing'" in done.stderr
