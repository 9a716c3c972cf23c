"""Where the program runs: any standard stream, locale and home, Ctrl-C at any moment, text as UTF-8."""

from __future__ import annotations

import ast
import json
import os
import pty
import pwd
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from conftest import Run

from trtlearn.calibration.cache import new_cache
from trtlearn.course import progress
from trtlearn.errors import HIDDEN, TrtlearnError, printable
from trtlearn.files import data_dir, user_dir

ROOT = Path(__file__).parent.parent.parent
CACHE = next((data_dir() / "recordings").glob("*/resnet/int8-entropy2.cache"))
TRTLEARN = f"{sys.executable} -m trtlearn"
SHOW = f"{TRTLEARN} cache show {CACHE}"
CHECK = f"{TRTLEARN} cache check {CACHE} {data_dir() / 'models' / 'resnet.onnx'}"
STALE = f"{TRTLEARN} cache check {CACHE} {data_dir() / 'models' / 'mobile.onnx'}"
ASCII = "LC_ALL=C PYTHONUTF8=0 PYTHONCOERCECLOCALE=0 PYTHONIOENCODING="


@pytest.mark.parametrize(
    ("line", "status", "says"),
    [
        (f"{SHOW} >&-", 0, ""),
        (f"{SHOW} <&- >&- 2>&-", 0, ""),
        (f"{TRTLEARN} cache show none 2>&-", 2, ""),
        (f"{TRTLEARN} cache show none 2>/dev/full", 2, ""),
        (f"{SHOW} >/dev/full", 2, "trtlearn: No space left on device\n"),
        (f"{SHOW} --json >/dev/full", 2, "trtlearn: No space left on device\n"),
        (f"{CHECK} >/dev/full", 2, "trtlearn: No space left on device\n"),
        (f"{TRTLEARN} log - <&-", 2, "standard input is a device"),
        (f"{TRTLEARN} log - </dev/zero", 2, "standard input is a device"),
        (f"{TRTLEARN} log /dev/zero", 2, "is a device"),
        (f"{TRTLEARN} cache show /dev/zero", 2, "is a device"),
        (f"{TRTLEARN} explain 'trtexec --int8 --onnx=é' | head -1", 0, ""),
        (f"({STALE}; echo $? >&2) | :; exit 1", 1, "1\n"),
        (f"{ASCII}ascii {TRTLEARN} explain 'trtexec --int8'", 0, ""),
        (f"{ASCII}latin-1 {TRTLEARN} doctor", 0, ""),
        (
            f"{ASCII} {TRTLEARN} cache show 'n\N{LATIN SMALL LETTER E WITH ACUTE}'",
            2,
            "no such file",
        ),
    ],
)
def test_standard_streams(line: str, status: int, says: str) -> None:
    ran = subprocess.run(
        ["sh", "-c", line], capture_output=True, text=True, encoding="utf-8", cwd=ROOT, timeout=120, check=False,
    )  # fmt: skip
    assert (ran.returncode, says in ran.stderr) == (status, True), ran
    assert ran.stderr.count("\n") <= 1
    assert "defect" not in ran.stderr


def test_a_closed_stream_s_number_is_not_given_to_a_file(tmp_path: Path) -> None:
    out = tmp_path / "new.cache"
    line = f"{TRTLEARN} cache edit {CACHE} -o {out} <&- >&- 2>&-"
    assert subprocess.run(["sh", "-c", line], cwd=ROOT, check=False).returncode == 0
    assert out.read_bytes() == CACHE.read_bytes()


HOME_VERBS = (
    ("progress",),
    ("progress", "reset"),
    ("live",),
    ("doctor",),
    ("cache", "show", CACHE),
)


@pytest.mark.parametrize("words", HOME_VERBS, ids=str)
@pytest.mark.parametrize("home", [None, "/dev/null", "/proc/1/none"])
def test_homes(
    run: Run, monkeypatch: pytest.MonkeyPatch, home: str | None, words: tuple[str, ...]
) -> None:
    """No HOME and no entry in passwd, as in `docker run --user`; a home that is no folder."""

    def unknown(*_: Any) -> Any:
        raise KeyError("getpwuid(): uid not found: 4242")

    for name in ("TRTLEARN_HOME", "XDG_DATA_HOME", "HOME"):
        monkeypatch.delenv(name, raising=False)
    if home is None:
        monkeypatch.setattr(pwd, "getpwuid", unknown)
        with pytest.raises(TrtlearnError, match="TRTLEARN_HOME"):
            user_dir()
    else:
        monkeypatch.setenv("HOME", home)
    status, _, err = run(*words)
    assert status in (0, 2)
    assert "defect" not in err
    assert err.count("\n") <= 1
    assert progress.note("01-scale", True).startswith("progress not saved: ")


INTERRUPTED = """
import sys
class Finder:
    def find_spec(self, name, *_):
        if name == {name!r}:
            raise KeyboardInterrupt
sys.meta_path.insert(0, Finder())
from trtlearn.__main__ import main
sys.exit(main(["cache", "check", {cache!r}, {model!r}]))
"""


@pytest.mark.parametrize("name", ["typer", "numpy", "onnx", "trtlearn.cli.main", "trtlearn.files"])
def test_ctrl_c_while_it_imports(name: str) -> None:
    model = str(data_dir() / "models" / "resnet.onnx")
    program = INTERRUPTED.format(name=name, cache=str(CACHE), model=model)
    ran = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, cwd=ROOT, check=False
    )
    said = b"trtlearn: stopped by Ctrl-C\n"
    assert (ran.returncode, ran.stdout, ran.stderr.replace(b"\r", b"")) == (130, b"", said)


FOLDERS = ("trtlearn", "recording", "tools")
BINARY = {"os.open", "zipfile.ZipFile", "tarfile.open", "gzip.open", "Image.open", "zlib.open"}


def code(path: Path) -> Iterator[ast.AST]:
    """The program in a file, or in the cells of a notebook."""
    if path.suffix == ".py":
        yield ast.parse(path.read_text(encoding="utf-8"))
        return
    for cell in json.loads(path.read_text(encoding="utf-8"))["cells"]:
        if cell["cell_type"] == "code":
            lines = "".join(cell["source"]).splitlines()
            yield ast.parse("\n".join(line for line in lines if line[:1] not in ("!", "%")))


def text_without_encoding(tree: ast.AST) -> Iterator[int]:
    """The lines that read or write text in whatever encoding the machine has."""
    for node in ast.walk(tree):
        if not isinstance(node, ast.Call):
            continue
        name = ast.unparse(node.func)
        given = {word.arg for word in node.keywords}
        values = [*node.args, *(word.value for word in node.keywords if word.arg == "mode")]
        modes = [
            a.value for a in values if isinstance(a, ast.Constant) and isinstance(a.value, str)
        ]
        if name.endswith((".read_text", ".write_text")):
            if "encoding" not in given and len(node.args) < 1 + name.endswith(".write_text"):
                yield node.lineno
        elif name in ("open", "os.fdopen") or (
            name.endswith(".open") and modes and name not in BINARY
        ):
            is_text = not any("b" in mode or set(mode) - set("rwaxt+") for mode in modes)
            if is_text and not given & {"encoding", "force_zip64"}:
                yield node.lineno


@pytest.mark.parametrize("folder", [*FOLDERS, "notebooks"])
def test_text_is_read_and_written_as_utf8_by_name(folder: str) -> None:
    if not (ROOT / folder).is_dir():
        pytest.skip("not in the wheel")
    found = []
    for path in sorted((ROOT / folder).rglob("*.py" if folder != "notebooks" else "*.ipynb")):
        if ".ipynb_checkpoints" not in path.parts:
            found += [f"{path}:{at}" for tree in code(path) for at in text_without_encoding(tree)]
    assert found == []


def test_the_check_itself() -> None:
    bad = "open(x)\np.read_text()\np.write_text(y)\nos.fdopen(3)\np.open('w')\nopen(x, 'r')"
    good = "open(x, 'rb')\np.read_text(encoding='utf-8')\np.write_text(y, 'utf-8')\nos.open(x, 0)"
    assert list(text_without_encoding(ast.parse(bad))) == [1, 2, 3, 4, 5, 6]
    assert list(text_without_encoding(ast.parse(good))) == []
    assert os.sep == "/"


def test_a_terminal_obeys_no_name(tmp_path: Path) -> None:
    """On a terminal a table is drawn by rich: its own escapes only, no markup, no emoji."""
    names = ("\x1b]0;own\x07x\x1b[31mred", ":warning:", "[link=http://x]a[/link]", "\u202ex")
    cache = tmp_path / "x.cache"
    new_cache(dict.fromkeys(names, 0.5)).save(cache)
    shown = b""
    child, terminal = pty.fork()
    if not child:
        os.environ |= {"TERM": "xterm", "COLUMNS": "120"}
        os.execv(sys.executable, [sys.executable, "-m", "trtlearn", "cache", "show", str(cache)])
    try:
        while part := os.read(terminal, 65536):
            shown += part
    except OSError:  # Linux: the other end is closed
        pass
    os.waitpid(child, 0)
    text = shown.decode()
    for name in names:
        assert f" {printable(name)} " in text
    assert not HIDDEN.search(re.sub(r"\x1b\[[0-9;]*m|\r", "", text))
    assert "\x1b[31m" not in text
