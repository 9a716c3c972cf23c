"""Every command that is printed to be pasted: hostile names reach the shell as text, and nothing runs."""

from __future__ import annotations

import shlex
import subprocess
from pathlib import Path

import pytest

from trtlearn.calibration.cache import make_header
from trtlearn.files import shell_command
from trtlearn.trtexec.explanation import explain
from trtlearn.trtexec.migration import modern_command

HOSTILE = [
    "$(touch run)",
    "`touch run`",
    "a; touch run",
    "a && touch run",
    "a | tee run",
    "a > run",
    "it's $HOME",
    'two "words"',
    "new\nline; touch run",
    "* ~ #!{a,b}",
    "-rf",
    "back\\slash",
]


def words_of(line: str, shell: str, folder: Path) -> list[str]:
    """The words of ``line`` as the shell splits them: printed one by one, nothing of it run."""
    subprocess.run([shell, "-n", "-c", line], check=True, cwd=folder)
    script = f"set -- {line}\nprintf '%s\\0' \"$@\""
    answer = subprocess.run([shell, "-c", script], check=True, capture_output=True, cwd=folder)
    assert answer.stderr == b""
    assert not (folder / "run").exists(), line
    return answer.stdout.decode().split("\0")[:-1]


@pytest.mark.parametrize("shell", ["sh", "bash"])
@pytest.mark.parametrize("name", HOSTILE)
def test_a_word_is_text_to_the_shell(name: str, shell: str, tmp_path: Path) -> None:
    file = f"./{name}" if name.startswith("-") else name
    assert words_of(shell_command("printf", name, Path(name)), shell, tmp_path) == [
        "printf",
        name,
        file,
    ]


@pytest.mark.parametrize("shell", ["sh", "bash"])
@pytest.mark.parametrize("name", HOSTILE)
def test_the_cure_of_an_ignored_cache(
    name: str, shell: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    cache = f"{name}.cache"
    Path(cache).write_text("TRT-8600-MinMaxCalibration\nimage: 3f000000\n", encoding="utf-8")
    answer = explain(f"trtexec --onnx=m.onnx --int8 {shlex.quote(f'--calib={cache}')}")
    assert answer.cache_set_aside
    (advice,) = (text for text in answer.advice if "cache edit" in text)
    line = advice[1 : advice.index("` keeps the scales")]
    file = f"./{cache}" if cache.startswith("-") else cache
    expected = ["trtlearn", "cache", "edit", file, "-o", "NEW", "--header", make_header()]
    assert words_of(line, shell, tmp_path) == expected


@pytest.mark.parametrize("shell", ["sh", "bash"])
@pytest.mark.parametrize("name", HOSTILE)
def test_the_advice_to_migrate_and_the_new_command(
    name: str, shell: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    model, cache = f"{name}.onnx", f"{name}.cache"
    command = shlex.join(["trtexec", f"--onnx={model}", "--int8", f"--calib={cache}"])
    (advice,) = (text for text in explain(command, trt="11.1").advice if "migrate " in text[:20])
    line = advice[1 : advice.index("` writes the Q/DQ model")]
    model, cache, written = (
        f"./{text}" if text.startswith("-") else text for text in (model, cache, f"{name}.qdq.onnx")
    )
    assert words_of(line, shell, tmp_path) == [
        *("trtlearn", "migrate", command, model),
        *("--cache", cache, "-o", written),
    ]
    new, _ = modern_command(command, written)
    assert words_of(new, shell, tmp_path) == ["trtexec", f"--onnx={written}"]


def test_a_command_without_its_program_is_no_option_of_migrate() -> None:
    (advice,) = (
        text for text in explain("--int8 --onnx=m.onnx", trt="11.1").advice if "`trtlearn" in text
    )
    assert shlex.split(advice.split("`")[1])[2] == "trtexec --int8 --onnx=m.onnx"
